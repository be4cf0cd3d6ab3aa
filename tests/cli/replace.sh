# --replace: what a program made of something else, or otherwise, it takes away and makes anew; what is the same stays, and what another program
# made is refused. Every program that makes a folder and knows again what made it.
. tests/lib.sh
M=tests/models
some_text "$TMP/text.jsonl" 5 12 30 ab
some_text "$TMP/other.jsonl" 6 12 30 ab
for c in text other; do "$BIN/kf-prepare" --quiet --shards 3 --out "$TMP/c-$c" "$TMP/$c.jsonl" || exit; done
for m in llama gemma3 qwen2; do "$BIN/kf-extract" --quiet --model $M/$m-tiny --corpus "$TMP/c-text" --out "$TMP/$m" || exit; done
for m in llama qwen2; do "$BIN/kf-extract" --quiet --model $M/$m-tiny --corpus "$TMP/c-other" --out "$TMP/$m-other" || exit; done
for m in qwen2 gemma3; do "$BIN/kf-align" --quiet --source "$TMP/$m" --target "$TMP/llama" --out "$TMP/a-$m" || exit; done
for m in qwen2 gemma3; do "$BIN/kf-export" --quiet --set "$TMP/$m" --out "$TMP/$m.jsonl" || exit; done
for m in llama qwen2; do for i in 0 1; do "$BIN/kf-extract" --quiet --model $M/$m-tiny --corpus "$TMP/c-text" --shard $i/2 --out "$TMP/p-$m/$i" || exit; done; done
"$BIN/kf-merge" --quiet --method linear --models $M/llama-tiny --dtype bf16 --out "$TMP/m1" || exit

# same DIR DIR: what two commands made, but for when
same() { diff -r -x times.log -x log.jsonl "$1" "$2"; }
# Whether nothing in the folder is another file than it was
seen() { find "$1" -type f ! -name times.log -printf '%i %p\n' | sort; }
# case_of PROGRAM WORD... : WORD... : WORD...: made with the first and the second words, then with the first and the third
case_of() {
	local program=$1 both=() first=() name x=$TMP/x; shift
	while [ "$1" != : ]; do both+=("$1"); shift; done; shift
	while [ "$1" != : ]; do first+=("$1"); shift; done; shift
	name="$program: ${*##*/} for ${first[*]##*/}"
	rm -rf "$x" "$TMP/fresh"
	both=("$BIN/$program" "${both[@]}" --quiet)
	"${both[@]}" --out "$x" "${first[@]}" && "${both[@]}" --out "$TMP/fresh" "$@" || { not_ok "$name: made"; return; }
	check_fails 1 "give --replace" "$name: refused" "${both[@]}" --out "$x" "$@"
	seen "$x" > "$TMP/was"
	check "$name: --replace of the same" "${both[@]}" --out "$x" "${first[@]}" --replace
	seen "$x" > "$TMP/is"
	check_same "$name: leaves every file" "$TMP/was" "$TMP/is"
	check "$name: --replace" "${both[@]}" --out "$x" "$@" --replace
	check "$name: what it is where nothing was" same "$x" "$TMP/fresh"
	check_fails 1 "give --replace" "$name: it is of the other now" "${both[@]}" --out "$x" "${first[@]}"
}
case_of kf-prepare : --shards 3 "$TMP/text.jsonl" : --shards 2 "$TMP/other.jsonl"
case_of kf-extract --corpus "$TMP/c-text" : --model $M/llama-tiny : --model $M/gemma3-tiny
case_of kf-extract --corpus "$TMP/c-text" --model $M/llama-tiny : --compute bf16 : --compute f32
case_of kf-align --target "$TMP/llama" : --source "$TMP/gemma3" : --source "$TMP/qwen2"
case_of kf-fuse --target "$TMP/llama" --aligned "$TMP/a-qwen2" : : --aligned "$TMP/a-gemma3"
case_of kf-import --corpus "$TMP/c-text" : --input "$TMP/qwen2.jsonl" --tokenizer $M/qwen2-tiny : --input "$TMP/gemma3.jsonl" --tokenizer $M/gemma3-tiny
case_of kf-train --model $M/llama-tiny --targets "$TMP/llama" --lambda 1 --batch-tokens 200 : --max-steps 2 --keep-epochs --keep-state : --max-steps 1
case_of kf-merge --models $M/llama-tiny --models "$TMP/m1" --method linear : --max-shard-bytes 60000 : --weights 1,2

# kf-join has no --threads and no options of its making
x=$TMP/joined
"$BIN/kf-join" --quiet --out "$x" "$TMP/p-qwen2" && "$BIN/kf-join" --quiet --out "$TMP/fresh-joined" "$TMP/p-llama"
check_fails 1 "give --replace" "kf-join: other parts" "$BIN/kf-join" --quiet --out "$x" "$TMP/p-llama"
check_fails 1 "no part has shard 1 of 3" "kf-join --replace: not all parts" "$BIN/kf-join" --quiet --replace --out "$x" "$TMP/p-llama/0"
check "and nothing is taken away for them" "$BIN/kf-inspect" "$x" --verify
check "kf-join --replace" "$BIN/kf-join" --quiet --replace --out "$x" "$TMP/p-llama"
check "what it is where nothing was" same "$x" "$TMP/fresh-joined"

# A map in a file is of the sets, too.
map() { "$BIN/kf-align" --quiet --method dtw --vocab-map stats --map "$TMP/map" --out "$TMP/mapped" --source "$TMP/qwen2$1" --target "$TMP/llama$1" "${@:2}"; }
map "" || exit
check_fails 1 "" "kf-align: a map of another text" map -other
check "kf-align --replace" map -other --replace
cp "$TMP/map" "$TMP/map.was"; rm -r "$TMP/map" "$TMP/mapped"
map -other; check_same "the map is made anew" "$TMP/map" "$TMP/map.was"

# ---- what is not replaced ----

align=("$BIN/kf-align" --quiet --source "$TMP/gemma3" --target "$TMP/llama" --replace)
check_fails 1 "holds a set that kf-extract made .*; remove it or choose another --out" "another program's set" "${align[@]}" --out "$TMP/qwen2"
check_fails 1 "holds a set that kf-extract made" "kf-import does not replace what kf-extract made" "$BIN/kf-import" --quiet --replace --corpus "$TMP/c-text" \
	--input "$TMP/qwen2.jsonl" --tokenizer $M/qwen2-tiny --out "$TMP/gemma3"
mkdir "$TMP/notes"; echo mine > "$TMP/notes/mine"
check_fails 1 "is not a shard set and has other things in it" "a folder with other things" "${align[@]}" --out "$TMP/notes"
cp -r "$TMP/a-qwen2" "$TMP/damaged"; sed -i s/kf-align/kf-alien/ "$TMP/damaged/manifest.json"
check_fails 1 "its seal does not hold" "a manifest that is damaged" "${align[@]}" --out "$TMP/damaged"
cp -r "$TMP/a-qwen2" "$TMP/with"; echo mine > "$TMP/with/mine"
check "of a set beside another file" "${align[@]}" --out "$TMP/with"
check "that file stays" grep -q mine "$TMP/with/mine"
merge=("$BIN/kf-merge" --quiet --method linear --replace)
check_fails 1 "is in the folder --out" "a model that is merged" "${merge[@]}" --models "$TMP/m1" --models $M/llama-tiny --out "$TMP/m1"
check_fails 1 "holds no merged model" "any model" "${merge[@]}" --models $M/llama-tiny --out "$M/gemma3-tiny"
cp -r "$TMP/m1" "$TMP/m2"; echo mine > "$TMP/m2/README.md"
check_fails 1 "m2: is in the way and has README.md in it" "a merged model with other things beside it" "${merge[@]}" --models $M/llama-tiny --out "$TMP/m2"
check "they stay, all of them" diff -r "$TMP/m1" "$TMP/m2" -x README.md
ln -s m1 "$TMP/link"
check_fails 1 "link/: is a link" "a link to a merged model" "${merge[@]}" --models $M/llama-tiny --out "$TMP/link/"
check "which stays" test -s "$TMP/m1/config.json"
# What no folder can take the place of: said before anything is computed, which would find a number that is none.
mkdir "$TMP/empty"; ln -s empty "$TMP/to-empty"; ln -s nothing "$TMP/to-nothing"
cp -r $M/llama-tiny "$TMP/nan"
printf '\377\377\377\377' | dd of="$TMP/nan/model.safetensors" bs=1 seek=$(($(stat -c %s "$TMP/nan/model.safetensors") - 4)) conv=notrunc 2>/dev/null
varm=("$BIN/kf-merge" --quiet --method varm --pivot $M/llama-tiny --models "$TMP/nan" --models $M/llama-tiny)
check_fails 1 "nan: tensor .* has a NaN" "a model that cannot be merged" "${varm[@]}" --out "$TMP/varm"
for to in to-empty to-nothing/; do
	check_fails 1 "$to: is a link; .*Give the folder" "a model in the place of a link $to" "${varm[@]}" --out "$TMP/$to"
	check "which stays, and nothing beside it" test -L "$TMP/${to%/}" -a ! -e "$TMP/${to%/}.partial"
done
check_fails 1 "no name for a folder" "the folder one is in" env -C "$TMP/empty" "$(realpath "$BIN")/kf-merge" --quiet --models "$PWD/$M/llama-tiny" --models "$PWD/$M/llama-tiny" --method linear --out .
if unshare -m mount --bind "$TMP/empty" "$TMP/empty" 2>/dev/null; then
	check_fails 1 "is a mount point" "an empty mount point" unshare -m sh -c 'mount --bind "$0" "$0" && exec "$@"' "$TMP/empty" "${varm[@]}" --out "$TMP/empty"
else skip "an empty mount point" "nothing may be mounted here"; fi
train=("$BIN/kf-train" --quiet --model $M/llama-tiny --targets "$TMP/llama" --max-steps 1 --replace)
check_fails 1 "kf-merge made, and no training run" "kf-train: what is no run" "${train[@]}" --out "$TMP/m1"

# ---- parts, and a set that somebody writes ----

part=("$BIN/kf-extract" --quiet --replace --model $M/gemma3-tiny --corpus "$TMP/c-text" --out "$TMP/parts")
check_fails 2 "give --compute" "parts choose nothing for themselves" "${part[@]}" --shard 0/2
cp -r "$TMP/qwen2" "$TMP/parts"
check "the first part takes away" "${part[@]}" --compute f32 --shard 1/2
check "the second is of the same set" "${part[@]}" --compute f32 --shard 0/2
"$BIN/kf-extract" --quiet --model $M/gemma3-tiny --corpus "$TMP/c-text" --compute f32 --out "$TMP/whole"
check "and completes it" same "$TMP/parts" "$TMP/whole"
exec 9> "$TMP/a-qwen2/lock"; flock 9
check_fails 1 "is being written by" "a set that is being written" "${align[@]}" --out "$TMP/a-qwen2"
exec 9>&-
check "nothing of it was taken" "$BIN/kf-inspect" "$TMP/a-qwen2" --verify
