# kf-fuse over two aligned sets.
. tests/lib.sh

cat >"$TMP/text.jsonl" <<'E2'
{"id": "a", "domain": "prose", "text": "It is a truth universally acknowledged, that a single man in possession of a good fortune, must be in want of a wife."}
{"id": "b", "domain": "code", "text": "def f(x):\n    return x + 1\n\n\nfor i in range(10):\n    print(f(i))\n"}
{"id": "c", "domain": "prose", "text": "However little known the feelings of such a man may be"}
E2
check "a corpus" "$BIN/kf-prepare" --quiet --out "$TMP/corpus" --shards 2 "$TMP/text.jsonl"
for m in llama-tiny qwen2-tiny gemma3-tiny; do
	check "logits of $m" "$BIN/kf-extract" --quiet --model "tests/models/$m" --corpus "$TMP/corpus" --out "$TMP/$m"
done
for m in qwen2-tiny gemma3-tiny; do
	check "$m aligned" "$BIN/kf-align" --quiet --source "$TMP/$m" --target "$TMP/llama-tiny" --out "$TMP/a-$m"
done

fuse() { "$BIN/kf-fuse" --target "$TMP/llama-tiny" --aligned "$TMP/a-qwen2-tiny" --aligned "$TMP/a-gemma3-tiny" "$@"; }
says() {
	local regex=$1; shift
	"$@" 2>"$TMP/.says" && grep -Eq -- "$regex" "$TMP/.says"
}
same_dir() {
	local f
	for f in "$1"/*; do
		case $f in */manifest.json) continue ;; esac
		cmp -s "$f" "$2/${f##*/}" || return 1
	done
}
for function in min-ce avg-ce; do
	for level in sequence token; do
		for metric in byte token; do
			check "$function by $level, per $metric" fuse --quiet --out "$TMP/$function-$level-$metric" --function $function --level $level --metric $metric
		done
	done
done
check "nothing to do" says "up to date" fuse --out "$TMP/min-ce-sequence-byte"
check "what each contributed" says "share" fuse --out "$TMP/again"
check "the same shards as before" same_dir "$TMP/again" "$TMP/min-ce-sequence-byte"
check "one thread" fuse --quiet --out "$TMP/one" --threads 1
check "gives the same" same_dir "$TMP/one" "$TMP/again"
check "a report as JSON" fuse --quiet --out "$TMP/reported" --report "$TMP/report.json"
check "names the domains" grep -q '"prose"' "$TMP/report.json"
check "and the documents won" grep -q '"documents_won"' "$TMP/report.json"
check "a report of a set that was there" fuse --quiet --out "$TMP/reported" --report "$TMP/report2.json"
check_same "is the same" "$TMP/report.json" "$TMP/report2.json"
check "sources alone" fuse --quiet --out "$TMP/alone" --with-target no
check "weights by advantage" fuse --quiet --out "$TMP/weighted" --weight advantage --function avg-ce
check "part 0" fuse --quiet --out "$TMP/parts" --shard 0/2
check "part 1" fuse --quiet --out "$TMP/parts" --shard 1/2
check "parts give the same" same_dir "$TMP/parts" "$TMP/again"

check_fails 1 "min-ce|function" "another function into the same folder" fuse --out "$TMP/again" --function avg-ce
check_fails 2 "function" "an unknown function" fuse --out "$TMP/x" --function mean
check_fails 2 "aligned" "no source" "$BIN/kf-fuse" --target "$TMP/llama-tiny" --out "$TMP/x"
check_fails 2 "full-advantage" "a full advantage of 0" fuse --out "$TMP/x" --full-advantage 0
check_fails 1 "aligned to another" "sources aligned to another target" "$BIN/kf-fuse" --target "$TMP/qwen2-tiny" --aligned "$TMP/a-gemma3-tiny" --out "$TMP/x"
check_fails 1 "same set" "a source given twice" "$BIN/kf-fuse" --target "$TMP/llama-tiny" --aligned "$TMP/a-gemma3-tiny" --aligned "$TMP/a-gemma3-tiny" --out "$TMP/x"
check_fails 1 "logits" "logits where an aligned set belongs" "$BIN/kf-fuse" --target "$TMP/llama-tiny" --aligned "$TMP/gemma3-tiny" --out "$TMP/x"
check "other logits of the same target" "$BIN/kf-extract" --quiet --model tests/models/llama-tiny --corpus "$TMP/corpus" --out "$TMP/k5" --top-k 5
check_fails 1 "aligned to other logits" "are not what it was aligned to" "$BIN/kf-fuse" --target "$TMP/k5" --aligned "$TMP/a-gemma3-tiny" --out "$TMP/x"
check "no set is left of a failure" test ! -e "$TMP/x/manifest.json"
