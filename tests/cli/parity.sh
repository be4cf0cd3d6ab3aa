# From text to log-probabilities as transformers has them: tests/parity/endtoend, made by tests/models/make_endtoend.py. Scores on tasks as
# lm-eval has them: tests/parity/tasks, made by tests/parity/compare_tasks.py.
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

# scores MODEL: of multiple choice and last words every log-likelihood within 1e-3 nats, and the figures; generated texts, too.
scores() {
	local at=tests/parity/tasks
	"$BIN/kf-eval" --quiet --model "m=tests/models/$1" --tasks $at/quiz.jsonl --tasks $at/words.jsonl --tasks $at/texts.jsonl \
		--report "$TMP/$1.scores" --outputs "$TMP/$1.answers" || return 1
	python3 - "$at/$1.json" "$TMP/$1.scores" "$TMP/$1.answers" <<'END'
import json, re, sys
same = lambda s: re.sub("\ufffd+", "\ufffd", s).strip() # bytes that are no UTF-8 become one mark or several
want, have = (json.load(open(f, encoding="utf-8"))["tasks"] for f in sys.argv[1:3])
answers = [json.loads(line) for line in open(sys.argv[3], encoding="utf-8")]
assert list(want) == list(have) == ["quiz", "words", "texts"]
for task, w in want.items():
    mine = [a for a in answers if a["task"] == task]
    assert len(mine) == len(w["items"]) > 3
    for i, (a, v) in enumerate(zip(mine, w["items"])):
        if isinstance(v, str): assert same(a["text"]) == same(v), (task, i, a["text"], v)
        else: assert len(v) == len(a["logprobs"]) and all(abs(x - y) < 1e-3 for x, y in zip(a["logprobs"], v)), (task, i, a["logprobs"], v)
for task, figures in (("quiz", ("acc", "acc_norm")), ("words", ("acc", "perplexity"))):
    for name in figures:
        got, v = have[task]["metrics"][name]["models"]["m"]["value"], want[task]["scores"][name]
        assert abs(got - v) < 1e-3 * max(1, v), (task, name, got, v)
END
}
for f in tests/parity/tasks/*.json; do
	m=$(basename "$f" .json)
	check "$m: lm-eval's log-likelihoods, figures and texts" scores "$m"
done
