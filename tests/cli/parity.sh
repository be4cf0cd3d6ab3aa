# From text to log-probabilities as transformers has them: tests/parity/endtoend, made by tests/models/make_endtoend.py.
. tests/lib.sh

# compare NAME: tokens and BOS equal, every number within 1e-4.
compare() {
	"$BIN/kf-inspect" "$TMP/$1" --json >"$TMP/$1.jsonl" || return 1
	python3 - "tests/parity/endtoend/$1.jsonl" "$TMP/$1.jsonl" <<'END'
import json, sys
worst = 0
for n, (want, have) in enumerate(zip(map(json.loads, open(sys.argv[1])), map(json.loads, open(sys.argv[2])), strict=True)):
    where = f"document {n}, {want['text']!r}"
    assert have["tokens"] == want["tokens"], (where, have["tokens"], want["tokens"])
    assert have["bos"] == want["bos"], where
    assert len(have["ce"]) == len(want["ce"]) and len(have["top_ids"]) == len(want["top_ids"]), where
    for x, y in zip(have["ce"], want["ce"]):
        assert (x is None) == (y is None), where
        worst = max(worst, abs(x - y) if x is not None else 0)
    for p, (ids, lps) in enumerate(zip(want["top_ids"], want["top_logprobs"])):
        mine = dict(zip(have["top_ids"][p], have["top_logprobs"][p]))
        assert bool(ids) == bool(mine) and all(i in mine for i in ids), (where, p)
        worst = max([worst] + [abs(mine[i] - l) for i, l in zip(ids, lps)])
assert n == 10 and worst <= 1e-4, (n, worst)
END
}

for f in tests/parity/endtoend/*.jsonl; do
	m=$(basename "$f" .jsonl)
	dir=tests/models/$m; [ -d "$dir" ] || dir=tests/models/endtoend/$m
	"$BIN/kf-prepare" --quiet --normalize none --out "$TMP/corpus-$m" "$f" &&
	"$BIN/kf-extract" --quiet --model "$dir" --corpus "$TMP/corpus-$m" --out "$TMP/$m" --precision f32 --top-k 10 || { not_ok "$m: runs"; continue; }
	check "$m: transformers' tokens, BOS and log-probabilities" compare "$m"
done
