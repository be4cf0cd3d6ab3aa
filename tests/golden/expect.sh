# Writes what kf-inspect says of the golden sets: tests/golden/NAME.jsonl, and their summaries.
BIN=${BIN:-build/bin}
for d in tests/golden/*/; do
	d=${d%/}
	"$BIN/kf-inspect" "$d" --json --path >"$d.jsonl"
	"$BIN/kf-inspect" "$d" >"$d.txt"
done
