# A model several times larger than the memory it may have: layer by layer it ends with the same bytes, within that memory.
. tests/lib.sh

L=$TMP/large
python3 tests/models/make_large.py "$L" --layers 48 --width 1024 --mlp 2816 --file-mb 200 >"$TMP/bytes" || { not_ok "make a large model"; exit; }
python3 - "$TMP/text.jsonl" <<'END'
import json, random, sys
random.seed(2)
words = "the mill its sons donkey cat and 1783 was cold, static int return; metres above sea".split()
with open(sys.argv[1], "w") as f:
    for i in range(8):
        f.write(json.dumps({"id": str(i), "text": " ".join(random.choice(words) for _ in range(90)) + "\n"}) + "\n")
END
"$BIN/kf-prepare" --quiet --out "$TMP/corpus" --shards 2 "$TMP/text.jsonl"
x() { echo "$BIN/kf-extract" --progress none --model "$L" --corpus "$TMP/corpus" --batch-tokens 256 "$@"; }
check "in memory" $(x --out "$TMP/memory" --stream no)

# streamed NAME MB OPTION...: with that much memory.
streamed() {
	local name=$1 mb=$2; shift 2
	check "$name" sh -c "python3 tests/limited.py --evict '$L' $mb $(x --out "$TMP/$name" "$@") >'$TMP/$name.json'"
	local s bad=
	for s in "$TMP/memory"/shard-*; do cmp -s "$s" "$TMP/$name/${s##*/}" || bad="$bad ${s##*/}"; done
	if [ -z "$bad" ]; then ok "$name: the same bytes"; else not_ok "$name: the same bytes" "$bad"; fi
	check "$name: within its memory" python3 - "$TMP/$name.json" "$(cat "$TMP/bytes")" <<'END'
import json, sys
r = json.load(open(sys.argv[1]))
weights = int(sys.argv[2]) / 1e6
print(r)
assert r["group_mb"] is None or r["group_mb"] <= r["limit_mb"] + 1, r
assert r["resident_mb"] < weights / 4 and r["limit_mb"] < weights / 5, (r, weights)
END
	if grep -q '"group_mb": null' "$TMP/$name.json"; then skip "$name: limited" "no memory control group could be made; resident memory was measured"; fi
}
streamed block 200
streamed blocks 200 --stream-tokens 512
streamed scratch 200 --scratch "$TMP"
