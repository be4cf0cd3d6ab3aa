# kf-eval: models run and logits read give the same; error messages.
. tests/lib.sh
eval=$BIN/kf-eval

for i in 1 2 3 4 5 6; do
	printf '{"id": "p%d", "domain": "prose", "text": "%s"}\n' $i "It was the best of times, number $i, it was the worst of times; caf\\u00e9 and na\\u00efve."
	# Four spaces are one token of gemma3-tiny, and three and one of the others.
	printf '{"id": "c%d", "domain": "c", "text": "%s"}\n' $i "    return x;\\n}\\nint f$i(int x)\\n{\\n\\treturn x * $i + 1;\\n}\\n"
done >"$TMP/text.jsonl"
"$BIN/kf-prepare" --quiet --out "$TMP/corpus" "$TMP/text.jsonl"
echo '{"text": "Something else."}' | "$BIN/kf-prepare" --quiet --out "$TMP/other" -

models=tests/models
for m in llama-tiny qwen2-tiny gemma3-tiny; do
	check "eval: extract $m" "$BIN/kf-extract" --quiet --precision f32 --model $models/$m --corpus "$TMP/corpus" --out "$TMP/$m"
done
run=(--model $models/gemma3-tiny --model $models/llama-tiny --model $models/qwen2-tiny --corpus "$TMP/corpus")
check "eval: run three models" "$eval" "${run[@]}" --report "$TMP/run.json" --markdown "$TMP/run.md"
check "eval: read three sets" "$eval" --logits "$TMP/gemma3-tiny" --logits "$TMP/llama-tiny" --logits "$TMP/qwen2-tiny" \
	--report "$TMP/read.json" --markdown "$TMP/read.md"
check "eval: from one and the other" "$eval" --logits "$TMP/gemma3-tiny" --logits "$TMP/llama-tiny" \
	--model $models/qwen2-tiny --corpus "$TMP/corpus" --report "$TMP/mixed.json" --markdown "$TMP/mixed.md"
check_same "eval: run or read, the tables agree" "$TMP/run.md" "$TMP/read.md"
check_same "eval: mixed, the tables agree" "$TMP/run.md" "$TMP/mixed.md"
check "eval: one document at a time" "$eval" "${run[@]}" --batch-tokens 1 --markdown "$TMP/small.md"
check_same "eval: batches do not matter" "$TMP/run.md" "$TMP/small.md"
check "eval: again" "$eval" "${run[@]}" --report "$TMP/again.json"
check_same "eval: the same each time" "$TMP/run.json" "$TMP/again.json"
for f in - /dev/stdout; do
	"$eval" "${run[@]}" --report $f 2>"$TMP/stdout.err" | cat >"$TMP/stdout.json"
	check_same "eval: a report to $f has nothing else in it" "$TMP/run.json" "$TMP/stdout.json"
	check "eval: the table stands beside it" grep -q prose "$TMP/stdout.err"
done

if command -v python3 >/dev/null; then
	cat >"$TMP/verify.py" <<'CODE'
import json, sys
r = json.load(open(sys.argv[1]))
names = ["gemma3-tiny", "llama-tiny", "qwen2-tiny"]
assert list(r["bits_per_byte"]) == names and r["documents"] == {"prose": 6, "c": 6}, r
for v in r["bits_per_byte"].values():
    assert list(v) == ["prose", "c", "mean"]
    assert abs(v["mean"] - (v["prose"] + v["c"]) / 2) < 1e-8
    assert 0.5 < v["mean"] < 20
assert [(c["a"], c["b"]) for c in r["comparisons"]] == [("llama-tiny", "gemma3-tiny"), ("qwen2-tiny", "gemma3-tiny")]
for name, v in r["intervals"].items():
    for d, bpb in r["bits_per_byte"][name].items():
        assert v[d]["low"] < bpb < v[d]["high"], (name, d, v[d], bpb)
for c in r["comparisons"]:
    for d, v in c["bits_per_byte"].items():
        want = r["bits_per_byte"][c["a"]][d] - r["bits_per_byte"][c["b"]][d]
        assert abs(v["difference"] - want) < 1e-7 and v["low"] <= v["difference"] <= v["high"], (d, v, want)
CODE
	check "eval: the report adds up" python3 "$TMP/verify.py" "$TMP/run.json"
	for m in gemma3-tiny llama-tiny qwen2-tiny; do "$BIN/kf-inspect" "$TMP/$m" --json >"$TMP/$m.jsonl"; done
	"$eval" "${run[@]}" >"$TMP/run.txt"
	cat >"$TMP/perplexity.py" <<'CODE'
import json, math, sys
d = sys.argv[1]
r = json.load(open(d + "/run.json"))
def table(lines): # "perplexity" and a row a model, of the last table that begins so
    at = max(i for i, row in enumerate(lines) if row[:1] == ["perplexity"])
    return lines[at], {row[0]: row[1:] for row in lines[at + 1:] if row and row[0] in r["perplexity"]}
shown = [table([line.split() for line in open(d + "/run.txt")]),
         table([line.replace("---:|", "").strip("|\n").replace("|", " ").split() for line in open(d + "/run.md")])]
for name, v in r["perplexity"].items():
    assert list(v) == ["prose", "c", "mean", "all"]
    ce = {"prose": [], "c": []}
    for doc in map(json.loads, open("%s/%s.jsonl" % (d, name))): ce[doc["domain"]] += [x for x in doc["ce"] if x is not None]
    want = {k: math.exp(sum(x) / len(x)) for k, x in [*ce.items(), ("all", ce["prose"] + ce["c"])]}
    want["mean"] = (want["prose"] + want["c"]) / 2
    for k in v: assert abs(v[k] / want[k] - 1) < 1e-4, (name, k, v[k], want[k])
    for head, rows in shown:
        assert head == ["perplexity", *v] and rows[name] == ["%.4g" % x for x in v.values()], (head, rows[name], v)
CODE
	check "eval: perplexity by domain, in the report and in both tables, is what the tokens say" python3 "$TMP/perplexity.py" "$TMP"
else skip "eval: the report adds up" "no python3"; fi

# A text that was cut counts once among those that are drawn; one alone has no interval.
python3 - "$TMP" <<'CODE'
import json, sys
d = sys.argv[1]
def text(i, n): return " ".join("word%d%s" % (i * j % 97, "abc"[j % 3]) for j in range(n))
with open(d + "/one.jsonl", "w") as f: json.dump({"id": "x", "domain": "p", "text": text(1, 300)}, f)
with open(d + "/six.jsonl", "w") as f:
    for i in range(6): f.write(json.dumps({"id": "t%d" % i, "domain": "p", "text": text(i + 2, 200)}) + "\n")
CODE
for t in one six; do "$BIN/kf-prepare" --out "$TMP/c-$t" --doc-bytes 512 --quiet "$TMP/$t.jsonl"
	"$eval" --model tests/models/llama-tiny --model tests/models/qwen2-tiny --corpus "$TMP/c-$t" --per-document --report "$TMP/$t.json" >"$TMP/$t.txt"; done
check "eval: pieces of one text are drawn together" python3 - "$TMP" <<'CODE'
import json, random, sys
one, six = (json.load(open("%s/%s.json" % (sys.argv[1], t))) for t in ("one", "six"))
assert one["documents"]["p"] > 3 and one["texts"] == {"p": 1}, one["texts"]
assert one["comparisons"][0]["bits_per_byte"]["p"]["low"] is None
assert six["documents"]["p"] > 12 and six["texts"] == {"p": 6}
texts = {}
for r in six["per_document"]:
    t = texts.setdefault(r["text"], [0, 0])
    t[0] += r["bits"]["qwen2-tiny"] - r["bits"]["llama-tiny"]
    t[1] += r["bytes"]
texts, draw = list(texts.values()), random.Random(1)
def again():
    d = [draw.choice(texts) for _ in texts]
    return sum(a for a, _ in d) / sum(b for _, b in d)
drawn = sorted(again() for _ in range(4000))
c = six["comparisons"][0]["bits_per_byte"]["p"]
width = drawn[3900] - drawn[100]
assert abs(c["low"] - drawn[100]) < 0.15 * width and abs(c["high"] - drawn[3900]) < 0.15 * width, (c, drawn[100], drawn[3900])
CODE
check "eval: the table counts texts beside documents" grep -qE '^texts +6 +6$' "$TMP/six.txt"

# Names in any writing, and of any length, keep their columns. What has no name is told from what is called "text".
for d in '"domain": "Größe", ' '"domain": "中文文本领域", ' '"domain": "a very long domain", ' '"domain": "e\u0301🙂", ' '"domain": "text", ' ''; do
	printf '{%s"text": "It was the best of times, it was the worst of times."}\n' "$d"
done > "$TMP/names.jsonl"
cp -r tests/models/llama-tiny "$TMP/模型"; cp -r tests/models/qwen2-tiny "$TMP/Schöner"
check "eval: domains of many names" "$BIN/kf-prepare" --quiet --out "$TMP/c-names" "$TMP/names.jsonl"
for m in 模型 Schöner; do check "eval: extract $m" "$BIN/kf-extract" --quiet --model "$TMP/$m" --corpus "$TMP/c-names" --out "$TMP/l-$m"; done
check "eval: their tables" "$eval" --corpus "$TMP/c-names" --model "$TMP/模型" --model "$TMP/Schöner" --overlap "$TMP/c-names" --report "$TMP/names.json"
cp "$TMP/.out" "$TMP/names.eval"
narrow() { # On a terminal a table is cut into blocks that fit it.
	script -qec "stty cols 50; '$eval' --progress none --corpus $TMP/c-names --model $TMP/模型 --model $TMP/Schöner" /dev/null </dev/null >"$TMP/narrow.txt" 2>&1
	[ "$(grep -c '^bits per byte' "$TMP/narrow.txt")" -gt 2 ] && [ "$(grep -c '^模型' "$TMP/narrow.txt")" = $(($(grep -c '^bits per byte' "$TMP/narrow.txt") + $(grep -c '^perplexity' "$TMP/narrow.txt"))) ]
}
if command -v script >/dev/null; then check "eval: in blocks on a narrow terminal" narrow; fi
check "eval: kf-align's" "$BIN/kf-align" --source "$TMP/l-模型" --target "$TMP/l-Schöner" --out "$TMP/a-names"
cp "$TMP/.err" "$TMP/names.align"
check "eval: kf-fuse's" "$BIN/kf-fuse" --target "$TMP/l-Schöner" --aligned "$TMP/a-names" --out "$TMP/f-names"
cp "$TMP/.err" "$TMP/names.fuse"
check "eval: kf-fuse --fit's" "$BIN/kf-fuse" --target "$TMP/l-Schöner" --aligned "$TMP/a-names" --fit "$TMP/fit-names.json"
cp "$TMP/.err" "$TMP/names.fit"
cat > "$TMP/columns.py" <<'CODE'
import json, re, sys, unicodedata
names = ["Größe", "中文文本领域", "a very long domain", "e\u0301🙂", "text", "(no domain)"]
def width(s):
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in s)
def same(lines, what):
    assert lines and len({width(s) for s in lines}) == 1, (what, lines)
lines = open(sys.argv[1] + ".eval").read().split("\n")
for corner, rows in ("bits per byte", 5), ("perplexity", 3):
    at = next(i for i, s in enumerate(lines) if s.startswith(corner))
    same(lines[at:at + rows], corner)
    assert all(n in lines[at] for n in names), lines[at]
shared = [s for s in lines if s.endswith(" 0 of 1") or s.endswith(" 1 of 1") or "too short" in s]
assert len(shared) == 6
same([s[:re.search(r"\d of 1", s).start()] for s in shared], "overlap")
report = json.load(open(sys.argv[1] + ".json"))
assert list(report["documents"]) == [*names[:5], ""] and set(report["documents"].values()) == {1}, report["documents"]
rows = [s for s in open(sys.argv[1] + ".align").read().split("\n") if re.search(r" \d+ +\d+ +\d+\.\d ", s)]
assert len(rows) == 7 and all(any(s.startswith(n + " ") for s in rows) for n in names), rows
same(rows, "kf-align")
for what in "fuse", "fit":
    rows = [s for s in open(sys.argv[1] + "." + what).read().split("\n") if s.startswith("  ") and re.search(r"\d\.\d{4}", s)]
    assert len(rows) == 7 * 4 and all(any(s.startswith("  " + n + " ") for s in rows) for n in names), rows
    same([s[:re.search(r" \d\.\d{4}", s).start()] for s in rows], what)
CODE
check "eval: every column is as wide as its names" python3 "$TMP/columns.py" "$TMP/names"
check "eval: a page of long names" "$eval" --quiet --logits "很长的模型名字很长的模型=$TMP/l-模型" --logits "a-long-name-of-a-model=$TMP/l-Schöner" --report "$TMP/long.json"
check "eval: its page" "$BIN/kf-report" --quiet --eval "$TMP/long.json" --out "$TMP/long.html"
check "eval: labels of charts are cut where they are too wide" python3 - "$TMP/long.html" <<'CODE'
import re, sys
labels = re.findall(r'<text class="name[^"]*"[^>]*>([^<]*)', open(sys.argv[1]).read())
assert "很长的模型名字很长…" in labels and "a-long-name-of-a-m…" in labels, labels
CODE

# What is in the way is found before the work.
printf '{"task": "t", "kind": "choice"}\n{"prompt": "a", "choices": ["b", "c"], "answer": 0}\n' > "$TMP/early.jsonl"
refuse() { ! "$@"; }
early() { "$eval" --model tests/models/llama-tiny "$@" --corpus "$TMP/c-six" --tasks "$TMP/early.jsonl" --progress plain; }
check_fails 1 'cannot create' "eval: outputs in a missing folder" early --outputs "$TMP/no/x"
cp "$TMP/.err" "$TMP/early"; check "eval: found before any model runs" refuse grep -q evaluating "$TMP/early"
check_fails 1 'typo' "eval: a second model that is not there" early --model "$TMP/typo" --report "$TMP/none.json"
cp "$TMP/.err" "$TMP/early"; check "eval: found before any model runs, too" refuse grep -q evaluating "$TMP/early"
check_fails 2 'not UTF-8' "eval: a name that is not UTF-8" "$eval" --model $'mod\xe9=tests/models/llama-tiny' --corpus "$TMP/c-six"

check "eval: names and comparisons" "$eval" --logits "a=$TMP/gemma3-tiny" --logits "b=$TMP/llama-tiny" --compare b,a
check "eval: align for an ensemble" "$BIN/kf-align" --quiet --source "$TMP/qwen2-tiny" --target "$TMP/llama-tiny" --out "$TMP/aligned"
check "eval: an ensemble" "$BIN/kf-fuse" --quiet --function avg-ce --target "$TMP/llama-tiny" --aligned "$TMP/aligned" --out "$TMP/ensemble"
check "eval: ensembles beside models" "$eval" --logits "$TMP/qwen2-tiny" --logits "$TMP/llama-tiny" --mixture "$TMP/ensemble" --report "$TMP/ensemble.json"
check "eval: an ensemble says what its fusion said" python3 - "$TMP/ensemble.json" "$TMP/ensemble/manifest.json" <<'CODE'
import json, math, sys
r, m = (json.load(open(f)) for f in sys.argv[1:])
for domain, s in m["stats"]["domains"].items():
    got, want = r["bits_per_byte"]["ensemble"][domain], s["fused_ce_byte"] / math.log(2)
    assert r["bytes"][domain] == s["bytes"] and abs(got - want) < 1e-5, (domain, got, want)
    assert got < max(r["bits_per_byte"][n][domain] for n in ("qwen2-tiny", "llama-tiny"))
CODE
check "eval: fused with hindsight" "$BIN/kf-fuse" --quiet --level token --target "$TMP/llama-tiny" --aligned "$TMP/aligned" --out "$TMP/hindsight"
check_fails 1 'hindsight.*predicts nothing' "eval: hindsight is no ensemble" "$eval" --mixture "$TMP/hindsight"
check_fails 2 'nothing to evaluate' "eval: nothing given" "$eval"
check_fails 2 'needs --corpus' "eval: a model without text" "$eval" --model $models/llama-tiny
check_fails 1 'another corpus' "eval: another corpus" "$eval" --logits "$TMP/llama-tiny" --corpus "$TMP/other"
check_fails 2 'two models are called "llama-tiny"' "eval: the same name twice" "$eval" --logits "$TMP/llama-tiny" --logits "$TMP/llama-tiny"
check_fails 2 'no model called "z"' "eval: comparison of nobody" "$eval" --logits "a=$TMP/llama-tiny" --compare a,z
check_fails 2 'A,B' "eval: comparison of one" "$eval" --logits "a=$TMP/llama-tiny" --compare a
check_fails 1 'corpus' "eval: a corpus is no logits set" "$eval" --logits "$TMP/corpus"
check_fails 1 'nowhere' "eval: missing set" "$eval" --logits "$TMP/nowhere"
check "eval: extract without byte path" "$BIN/kf-extract" --quiet --byte-path no --model $models/gemma3-tiny --corpus "$TMP/corpus" --out "$TMP/plain"
check_fails 1 'without the byte path' "eval: needs the byte path" "$eval" --logits "$TMP/plain" --logits "$TMP/qwen2-tiny"
ln -s target.md "$TMP/link.md"
: >"$TMP/target.md"
check "eval: a report through a link" "$eval" --quiet --logits "$TMP/llama-tiny" --markdown "$TMP/link.md"
if [ -L "$TMP/link.md" ] && [ -s "$TMP/target.md" ]; then ok "eval: the link stays"; else not_ok "eval: the link stays"; fi
if [ -e /dev/full ]; then
	many=(); for i in $(seq 60); do many+=(--logits "model-number-$i-of-sixty=$TMP/llama-tiny"); done
	check_fails 1 "cannot write standard output" "eval: a table longer than a block, to a full disk" sh -c '"$@" >/dev/full' sh "$eval" "${many[@]}"
fi
check_fails 2 'two things would be written to' "eval: two reports in one file" "$eval" --logits "$TMP/llama-tiny" --report "$TMP/one" --markdown "$TMP/one"
printf '{"task": "q", "kind": "choice"}\n{"prompt": "a", "choices": ["b", "c"], "answer": 0}\n' >"$TMP/q.jsonl"
for o in --outputs --report; do check_fails 2 'q.jsonl is read' "eval: tasks as $o" "$eval" --model tests/models/llama-tiny --tasks "$TMP/q.jsonl" $o "$TMP/q.jsonl"; done
check_fails 1 'cannot create' "eval: report in a missing folder" "$eval" --logits "$TMP/llama-tiny" --report "$TMP/no/report.json"
