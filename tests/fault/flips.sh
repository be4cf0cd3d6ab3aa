# A bit that changes in any file of a set (times.log is none): found, the file named, the shard made again, and no other. Not one of a
# manifest's numbers that leaves it the number it was, as of 17 digits the last may.
# FLIPS: how many bits (make test-long: more).
. tests/lib.sh
. tests/fault/promises.inc
FLIPS=${FLIPS:-32}
some_text "$TMP/text.jsonl" 5 160 60 ab
C=$TMP/corpus M=tests/models
make_corpus=("$BIN/kf-prepare" --out OUT --shards 4 --quiet "$TMP/text.jsonl")
make_logits=("$BIN/kf-extract" --model $M/llama-tiny --corpus "$C" --out OUT --quiet)
make_aligned=("$BIN/kf-align" --source "$TMP/source" --target "$TMP/logits" --out OUT --quiet)
make_targets=("$BIN/kf-fuse" --target "$TMP/logits" --aligned "$TMP/aligned" --out OUT --quiet)
with_out "$C" "${make_corpus[@]}" && with_out "$TMP/logits" "${make_logits[@]}" &&
	"$BIN/kf-extract" --model $M/qwen2-tiny --corpus "$C" --out "$TMP/source" --quiet &&
	with_out "$TMP/aligned" "${make_aligned[@]}" && with_out "$TMP/targets" "${make_targets[@]}" || { not_ok "the sets"; exit; }

# flip DIR FILE N: the N-th bit of a fixed random order. Prints nothing.
flip() {
	python3 - "$1" "$2" "$3" <<'END'
import os, random, sys
path = os.path.join(sys.argv[1], sys.argv[2])
data = bytearray(open(path, "rb").read())
bit = random.Random(f"{sys.argv[2]}{sys.argv[3]}").randrange(len(data) * 8)
data[bit >> 3] ^= 1 << (bit & 7)
open(path, "wb").write(data)
END
}
same_values() { # FILE FILE: as JSON
	python3 -c 'import json, sys; a, b = (json.load(open(f)) for f in sys.argv[1:]); sys.exit(a != b)' "$@" 2>/dev/null
}
flips() { # NAME SET CMD...
	local name=$1 set=$2 i file files n found=0 named=0 again=0; shift 2
	files=($(ls -I times.log "$set")); n=$((FLIPS / 4))
	for ((i = 0; i < n; i++)); do
		file=${files[$((i % ${#files[@]}))]}
		rm -rf "$TMP/hurt"; cp -r "$set" "$TMP/hurt"
		flip "$TMP/hurt" "$file" $i
		if [ $file = manifest.json ] && same_values "$set/$file" "$TMP/hurt/$file"; then
			found=$((found + 1)) named=$((named + 1)) again=$((again + 1)); continue
		fi
		if ! "$BIN/kf-inspect" "$TMP/hurt" --verify >"$TMP/.out" 2>"$TMP/.err"; then found=$((found + 1)); fi
		if grep -q "$file" "$TMP/.out" "$TMP/.err"; then named=$((named + 1)); else echo "# $file, $i: not named"; fi
		"$BIN/kf-inspect" "$TMP/hurt" --repair >"$TMP/.out" 2>"$TMP/.err" && with_out "$TMP/hurt" "$@" >"$TMP/.out" 2>"$TMP/.err" &&
			[ "$(content "$TMP/hurt")" = "$(content "$set")" ] && "$BIN/kf-inspect" "$TMP/hurt" --verify >/dev/null 2>&1 && again=$((again + 1)) ||
			echo "# $file, $i: $(cat "$TMP/.out" "$TMP/.err" | tail -n 2)"
	done
	check "$name: $n bits changed, all found" test $found -eq $n
	check "$name: the file named each time" test $named -eq $n
	check "$name: repaired each time, with the same content" test $again -eq $n
}
flips corpus "$C" "${make_corpus[@]}"
flips logits "$TMP/logits" "${make_logits[@]}"
flips aligned "$TMP/aligned" "${make_aligned[@]}"
flips targets "$TMP/targets" "${make_targets[@]}"

# Only the damaged shard is made again: the others keep their time.
rm -rf "$TMP/hurt"; cp -r "$TMP/logits" "$TMP/hurt"; touch -d @1000000000 "$TMP/hurt"/shard-*; flip "$TMP/hurt" shard-00002.mdb 1
"$BIN/kf-inspect" "$TMP/hurt" --repair >/dev/null && with_out "$TMP/hurt" "${make_logits[@]}"
check "only the damaged shard is made again" test "$(find "$TMP/hurt" -name 'shard-*' -newermt @1000000001 -printf '%f')" = shard-00002.mdb

# A half-written set whose finished shard is damaged: found before it is kept.
rm -rf "$TMP/hurt"; cp -r "$TMP/logits" "$TMP/hurt"; mv "$TMP/hurt/manifest.json" "$TMP/hurt/manifest.part.json"
rm "$TMP/hurt/shard-00003.mdb"; flip "$TMP/hurt" shard-00001.mdb 7
with_out "$TMP/hurt" "${make_logits[@]}"
check "a damaged shard of a half-written set is made again" test "$(content "$TMP/hurt")" = "$(content "$TMP/logits")"
