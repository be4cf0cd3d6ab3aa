# Array jobs: every stage in parts, on one file system and on several, joined: the set that one run writes, byte for byte. And
# what kf-join refuses.
. tests/lib.sh
some_text "$TMP/text.jsonl" 9 60 40 abc
L=tests/models W=$TMP
# Manifests, tokenizers and shards are the same; only how long it took may differ.
same_set() { # NAME DIR DIR
	if diff -r -x times.log "$2" "$3" >"$TMP/.diff" 2>&1; then ok "$1"; else not_ok "$1" "$(head -n 5 "$TMP/.diff")"; fi
}
# in_parts NAME N CMD...: CMD, with OUT for its output, whole (NAME), in N parts in turn into one folder (NAME.one), and each into a folder of
# its own (NAME.parts/I).
in_parts() {
	local name=$1 n=$2 i out words w; shift 2
	for out in "$name" "$name.one" "$name.parts"; do
		for ((i = 0; i < n; i++)); do
			words=()
			for w in "$@"; do
				case $w in OUT) if [ "$out" = "$name.parts" ]; then words+=("$W/$out/$i"); else words+=("$W/$out"); fi ;; *) words+=("$w") ;; esac
			done
			if [ "$out" = "$name" ]; then [ $i -gt 0 ] || "${words[@]}" --quiet; else "${words[@]}" --quiet --shard $i/$n; fi >"$TMP/.out" 2>"$TMP/.err" ||
				{ not_ok "$name: it runs" "$(tail -n 3 "$TMP/.err")"; return; }
		done
	done
	same_set "$name: parts into one folder are the set of one run" "$W/$name" "$W/$name.one"
}
joined() { # NAME [CMD...]: join its parts; CMD, which writes NAME.joined, adds the statistics
	local name=$1; shift
	check "$name: joined" "$BIN/kf-join" --out "$W/$name.joined" "$W/$name.parts"
	[ $# -eq 0 ] || check "$name: the stage adds what it says of the whole" "$@" --out "$W/$name.joined"
	same_set "$name: the joined set is the set of one run" "$W/$name" "$W/$name.joined"
}
prepare=("$BIN/kf-prepare" --shards 7 "$TMP/text.jsonl")
in_parts corpus 3 "${prepare[@]}" --out OUT
joined corpus "${prepare[@]}"
C=$W/corpus
in_parts source 3 "$BIN/kf-extract" --model $L/qwen2-tiny --corpus "$C" --out OUT
joined source
in_parts target 4 "$BIN/kf-extract" --model $L/llama-tiny --corpus "$C" --out OUT
joined target
align=("$BIN/kf-align" --source "$W/source" --target "$W/target")
in_parts aligned 3 "${align[@]}" --out OUT
joined aligned "${align[@]}"
fuse=("$BIN/kf-fuse" --target "$W/target" --aligned "$W/aligned")
in_parts targets 2 "${fuse[@]}" --out OUT
joined targets "${fuse[@]}"
"$BIN/kf-inspect" "$W/source" --json --path > "$TMP/records.jsonl"
import=("$BIN/kf-import" --corpus "$C" --input "$TMP/records.jsonl" --tokenizer $L/qwen2-tiny --top-k 10)
in_parts imported 2 "${import[@]}" --out OUT
joined imported
check "the last part counts what all did" python3 -c '
import json, sys
m = json.load(open(sys.argv[1]))
assert m["stats"]["all"]["documents"] == 60 and "joined" not in m, m' "$W/aligned.one/manifest.json"

# Parts that run at once: whichever ends last completes the set.
for round in 1 2 3; do
	rm -rf "$W/at-once"
	for i in 0 1 2 3; do "${align[@]}" --out "$W/at-once" --shard $i/4 --quiet & done; wait
	same_set "parts at once, $round" "$W/aligned" "$W/at-once"
done
# A run that goes on takes the counts that are kept with the shards.
cp -r "$W/aligned" "$W/again"; mv "$W/again/manifest.json" "$W/again/manifest.part.json"; rm "$W/again/shard-00003.mdb"
check "continued" "${align[@]}" --out "$W/again"
same_set "the statistics of a continued run" "$W/aligned" "$W/again"

# Very many domains: their sums are too large to keep, so the last part reads the others' documents again. And a very long name.
python3 -c '
import json
for i in range(4000): print(json.dumps({"domain": "d%d" % i if i else "größer als " * 9, "text": "number %d" % i}))' > "$TMP/domains.jsonl"
"$BIN/kf-prepare" --shards 2 --out "$W/many" --quiet "$TMP/domains.jsonl"
for m in qwen2 llama; do check "4,000 domains: logits of $m" "$BIN/kf-extract" --model $L/$m-tiny --corpus "$W/many" --out "$W/many.$m" --quiet; done
check "4,000 domains" "$BIN/kf-align" --source "$W/many.qwen2" --target "$W/many.llama" --out "$W/many.aligned"
in_parts many.targets 2 "$BIN/kf-fuse" --target "$W/many.llama" --aligned "$W/many.aligned" --out OUT
check "sums of shards are kept where they are not too many" test "$(cat "$W"/targets/shard-*.mdb | grep -ao '"sums"' | wc -l) $(cat "$W"/many.targets/shard-*.mdb | grep -ac '"sums"')" = "7 0"

# A part that goes by the way of computing that another measured says what was measured, too.
for i in $(seq 12); do sed "s/\"id\": \"/&$i-/" "$TMP/text.jsonl"; done > "$TMP/long.jsonl"
"$BIN/kf-prepare" --shards 2 --out "$W/long" --quiet "$TMP/long.jsonl"
for i in 0 1; do "$BIN/kf-extract" --model $L/llama-tiny --corpus "$W/long" --out "$W/way" --shard $i/2 --quiet; cat "$W/way"/manifest*.json > "$TMP/way.$i"; done
facts() { grep -E '"(compute|int8|kl)"' "$1" | tr -d ,; }
check "a measured way of computing stays known: $(facts "$TMP/way.0" | tr -d '\n')" test "$(facts "$TMP/way.0")" = "$(facts "$TMP/way.1")"

# ---- what is done by kf-join, how ----
parts=("$W/source.parts/0" "$W/source.parts/1" "$W/source.parts/2")
check "again: up to date" sh -c "'$BIN/kf-join' --out '$W/source.joined' '$W/source.parts' | grep -q 'up to date'"
check "links where it can" test "$(stat -c %i "$W/source.joined/shard-00001.mdb")" = "$(stat -c %i "$W/source.parts/1/shard-00001.mdb")"
check "copies when told" "$BIN/kf-join" --copy --out "$W/copied" "${parts[2]}" "${parts[0]}" "${parts[1]}"
same_set "in any order" "$W/source" "$W/copied"
check "of its own" test "$(stat -c %h "$W/copied/shard-00001.mdb")" = 1
cp -r "$W/source.parts/0" "$W/home"
check "into one of the parts" "$BIN/kf-join" --out "$W/home" "$W/home" "${parts[1]}" "${parts[2]}"
same_set "the same" "$W/source" "$W/home"
check "how long the parts took stays known" test "$(wc -l < "$W/source.joined/times.log")" = 3
cat "$W"/source.parts/[012]/times.log >"$TMP/times"
check_same "that of the part it is joined into, too" "$TMP/times" "$W/home/times.log"
mv "$W/home/manifest.json" "$W/home/manifest.part.json"; rm "$W/home/shard-00001.mdb"   # as a run that was killed leaves it
check "into it, going on" "$BIN/kf-join" --out "$W/home" "${parts[1]}" "${parts[2]}"
check_same "times are there once" "$TMP/times" "$W/home/times.log"
mkdir "$W/elsewhere"
if mount -t tmpfs -o size=64m tmpfs "$W/elsewhere" 2>/dev/null; then
	check "to another file system" "$BIN/kf-join" --out "$W/elsewhere/set" "$W/source.parts"
	same_set "the same there" "$W/source" "$W/elsewhere/set"
	umount "$W/elsewhere"
else skip "to another file system" "nothing can be mounted here"; fi

# ---- what it refuses, leaving nothing behind ----
refused() { # REGEX NAME PART...
	local regex=$1 name=$2; shift 2
	check_fails 1 "$regex" "$name" "$BIN/kf-join" --out "$W/refused" "$@"
	if [ -e "$W/refused" ]; then not_ok "$name: nothing is left"; rm -rf "$W/refused"; fi
}
refused "no part has shard 1, 4 of 7: kf-extract --shard" "a part that is missing" "${parts[0]}" "${parts[2]}"
cp -r "${parts[1]}" "$W/twice"
refused "shard 1 is in two parts" "a shard twice" "${parts[@]}" "$W/twice"
refused "one folder: a part is given once" "a part twice" "${parts[@]}" "${parts[1]}"
"$BIN/kf-extract" --model $L/qwen2-tiny --corpus "$C" --out "$W/k5" --shard 1/3 --top-k 5 --quiet
refused "different sets: option --top-k: 10 there, 5 here" "other options" "${parts[0]}" "$W/k5" "${parts[2]}"
"$BIN/kf-extract" --model $L/gemma3-tiny --corpus "$C" --out "$W/gemma" --shard 1/3 --quiet
refused "input model differs: .*qwen2-tiny there, .*gemma3-tiny here" "another model" "${parts[0]}" "$W/gemma" "${parts[2]}"
head -n 59 "$TMP/text.jsonl" > "$TMP/other.jsonl"
"$BIN/kf-prepare" --shards 7 --out "$W/other" --quiet "$TMP/other.jsonl"
"$BIN/kf-extract" --model $L/qwen2-tiny --corpus "$W/other" --out "$W/other.part" --shard 1/3 --quiet
refused "input corpus differs" "another corpus" "${parts[0]}" "$W/other.part" "${parts[2]}"
"$BIN/kf-prepare" --shards 4 --out "$W/corpus4" --quiet "$TMP/text.jsonl"
"$BIN/kf-extract" --model $L/qwen2-tiny --corpus "$W/corpus4" --out "$W/four" --shard 1/3 --quiet
refused "number of shards: 7 there, 4 here" "other shards" "${parts[0]}" "$W/four" "${parts[2]}"
refused 'different sets: kind: "logits" there, "corpus" here$' "a set of another kind" "${parts[0]}" "$W/corpus.parts/1"
refused "no such folder" "no folder" "${parts[0]}" "$W/nowhere"
refused "no part of a set" "a folder of something else" "${parts[0]}" tests/models
check_fails 2 "no parts" "no parts at all" "$BIN/kf-join" --out "$W/refused"
mkdir "$W/theirs"; echo text > "$W/theirs/thesis.tex"
check_fails 1 "thesis.tex" "a folder with other things in it" "$BIN/kf-join" --out "$W/theirs" "$W/source.parts"
"$BIN/kf-extract" --model $L/qwen2-tiny --corpus "$W/corpus4" --out "$W/whole4" --quiet
cp -r "$W/whole4" "$W/keep4"
check_fails 1 "no part has shard 1, 4 of 7" "--replace, the same in another number of shards, one part missing" "$BIN/kf-join" --replace --out "$W/whole4" "${parts[0]}" "${parts[2]}"
same_set "what was there stays" "$W/keep4" "$W/whole4"
check "with all parts it goes" "$BIN/kf-join" --replace --out "$W/whole4" "$W/source.parts"
same_set "for what they are" "$W/source" "$W/whole4"
check_fails 1 "made from something else .*top-k" "a folder with another set in it" "$BIN/kf-join" --out "$W/k5" "$W/source.parts"

# A part whose shards are links to files elsewhere: the set has the files.
cp -r "$W/source.parts" "$W/linked"; mkdir "$W/files"
for f in "$W"/linked/1/shard-*.mdb; do mv "$f" "$W/files/"; ln -s "../../files/${f##*/}" "$f"; done
check "shards that are links" "$BIN/kf-join" --out "$W/of-links" "$W/linked"
check "the set has none" test -z "$(find "$W/of-links" -type l)"
same_set "and is the same" "$W/source" "$W/of-links"

# Damage is found before the set is whole, and the shard named; put right, the join goes on.
# A byte of its first block.
flip() { printf '\377' | dd of="$1" bs=1 seek=$(($(grep -abo KFBL "$1" | head -n 1 | cut -d: -f1) + 300)) conv=notrunc status=none; }
cp -r "$W/source.parts" "$W/bad"
flip "$W/bad/1/shard-00004.mdb"
check_fails 1 "bad/1/shard-00004.mdb.*damaged" "a damaged shard" "$BIN/kf-join" --out "$W/mended" "$W/bad"
check_fails 1 "not complete" "no set comes of it" "$BIN/kf-inspect" "$W/mended"
cp "$W/source.parts/1/shard-00004.mdb" "$W/bad/1/"
check "put right, it goes on" "$BIN/kf-join" --out "$W/mended" "$W/bad"
same_set "the same" "$W/source" "$W/mended"
cp -r "$W/source.parts" "$W/torn"
truncate -s 5000 "$W/torn/0/tokenizer.zst"
check_fails 1 "torn/0/tokenizer.zst: damaged" "a damaged tokenizer" "$BIN/kf-join" --out "$W/mended2" "$W/torn"
sed -i 's/"bos"/"bod"/' "$W/bad/0/manifest.part.json"
check_fails 1 "seal does not hold" "a damaged manifest" "$BIN/kf-join" --out "$W/mended2" "$W/bad"
