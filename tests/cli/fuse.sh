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
		case $f in */manifest.json | */times.log) continue ;; esac
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
printf '{"id":"a","text":"The quick brown fox jumps."}\n{"id":"b","text":"x"}\n' >"$TMP/short.jsonl"
"$BIN/kf-prepare" --quiet --out "$TMP/short" "$TMP/short.jsonl"
"$BIN/kf-extract" --quiet --model tests/models/qwen2-tiny --corpus "$TMP/short" --out "$TMP/short-source"
"$BIN/kf-extract" --quiet --model tests/models/endtoend/llama2 --corpus "$TMP/short" --out "$TMP/short-target"
"$BIN/kf-align" --quiet --source "$TMP/short-source" --target "$TMP/short-target" --out "$TMP/short-aligned"
check "a document of which the source predicts nothing, counted by tokens" "$BIN/kf-fuse" --quiet --target "$TMP/short-target" --aligned "$TMP/short-aligned" --out "$TMP/short-fused" --metric token
check "weights by advantage" fuse --quiet --out "$TMP/weighted" --weight advantage --function avg-ce
check "part 0" fuse --quiet --out "$TMP/parts" --shard 0/2
check "part 1" fuse --quiet --out "$TMP/parts" --shard 1/2
check "parts give the same" same_dir "$TMP/parts" "$TMP/again"


# --- one source, and the target with one source ---
one() { "$BIN/kf-fuse" --quiet --target "$TMP/llama-tiny" --aligned "$TMP/a-gemma3-tiny" "$@"; }
# a position's candidates a line, ties in any order
candidates() {
	"$BIN/kf-inspect" --json "$1" | grep -o '"top_ids": *\[[^a-z]*' | sed 's/\],/\n/g' |
		while IFS= read -r line; do grep -o '[0-9]*' <<<"$line" | sort -n | tr '\n' ' '; echo; done
}
check "distillation from one source" one --out "$TMP/kd" --with-target no --report "$TMP/kd.json"
candidates "$TMP/a-gemma3-tiny" >"$TMP/kd.want"
candidates "$TMP/kd" >"$TMP/kd.got"
check "has positions" test "$(grep -c 1 "$TMP/kd.want")" -gt 50
check_same "teaches the source's own candidates" "$TMP/kd.want" "$TMP/kd.got"
check "with its own weight" grep -q '"share": 1.0' "$TMP/kd.json"
check "the pivot with one source" one --out "$TMP/pair" --function avg-ce --report "$TMP/pair.json"
check "has two models" test "$(grep -c '"share"' "$TMP/pair.json")" = 6
check "mixed by reward temperature" one --out "$TMP/pair-t" --function avg-ce --reward-temperature 0.1
differ() { ! same_dir "$@"; }
check "another mixture" differ "$TMP/pair" "$TMP/pair-t"
check "with renormalised candidates" one --out "$TMP/pair-r" --function avg-ce --tail renormalize --precision f32
tails() { "$BIN/kf-inspect" --json "$1" | grep -o '"tail": *\[[^]]*\]' | sed 's,.*\[,,; s,\],,' | tr , '\n'; }
check "nothing is left for the tail" test "$(tails "$TMP/pair-r" | awk '$1 + 0 > 1e-3' | wc -l)" = 0
check "otherwise something is" test "$(tails "$TMP/pair" | awk '$1 + 0 > 1e-3' | wc -l)" -gt 10

# --- weights by domain, and weights that follow the document ---
sed 's/truth/thing/; s/known/heard/; s/range/items/' "$TMP/text.jsonl" >"$TMP/valid.jsonl"
check "another corpus" "$BIN/kf-prepare" --quiet --out "$TMP/vcorpus" --shards 1 "$TMP/valid.jsonl"
for m in llama-tiny qwen2-tiny gemma3-tiny; do
	check "its logits of $m" "$BIN/kf-extract" --quiet --model "tests/models/$m" --corpus "$TMP/vcorpus" --out "$TMP/v-$m"
done
for m in qwen2-tiny gemma3-tiny; do
	check "$m aligned to it" "$BIN/kf-align" --quiet --source "$TMP/v-$m" --target "$TMP/v-llama-tiny" --out "$TMP/va-$m"
done
fit() { "$BIN/kf-fuse" --target "$TMP/v-llama-tiny" --aligned "$TMP/va-qwen2-tiny" --aligned "$TMP/va-gemma3-tiny" "$@"; }
check "weights fitted" says "fitted" fit --fit "$TMP/w.json"
check "by domain" grep -q '"prose"' "$TMP/w.json"
check "and with what they gain" grep -q '"advantage"' "$TMP/w.json"
check "fitted with one thread" fit --quiet --threads 1 --fit "$TMP/w1.json"
check_same "they are the same" "$TMP/w.json" "$TMP/w1.json"
fuse --quiet --fit "$TMP/w-same.json"
check "of a corpus in one shard" "$BIN/kf-prepare" --quiet --out "$TMP/corpus3" --shards 3 "$TMP/valid.jsonl"
for m in llama-tiny gemma3-tiny; do
	"$BIN/kf-extract" --quiet --model "tests/models/$m" --corpus "$TMP/corpus3" --out "$TMP/v3-$m" --threads 1
done
"$BIN/kf-align" --quiet --source "$TMP/v3-gemma3-tiny" --target "$TMP/v3-llama-tiny" --out "$TMP/va3"
weights() { sed -n '/"all"/,/"advantage"/p' "$1"; }
check "and of one in three" "$BIN/kf-fuse" --quiet --target "$TMP/v3-llama-tiny" --aligned "$TMP/va3" --fit "$TMP/w3.json"
check "sets of one shard" "$BIN/kf-fuse" --quiet --target "$TMP/v-llama-tiny" --aligned "$TMP/va-gemma3-tiny" --fit "$TMP/w2.json"
check_same "give the same weights" <(weights "$TMP/w2.json") <(weights "$TMP/w3.json")
check "fusion by domain" fuse --quiet --out "$TMP/domain" --function domain --weights "$TMP/w.json" --report "$TMP/domain.json"
check "is a prediction" grep -q '"hindsight": "none"' "$TMP/domain.json"
check "by domain with one thread" fuse --quiet --out "$TMP/domain1" --threads 1 --function domain --weights "$TMP/w.json"
check "is the same" same_dir "$TMP/domain" "$TMP/domain1"
cp "$TMP/w.json" "$TMP/w-moved.json"
check "the same weights in another file" says "up to date" fuse --out "$TMP/domain" --function domain --weights "$TMP/w-moved.json"
sed 's/"advantage"/"comment": "mine", "advantage"/' "$TMP/w.json" >"$TMP/w-comment.json"
check "with a comment" says "up to date" fuse --out "$TMP/domain" --function domain --weights "$TMP/w-comment.json"
equal='"llama-tiny": 0.5, "qwen2-tiny": 0.25, "gemma3-tiny": 0.25'
echo "{\"all\": {$equal}}" >"$TMP/hand.json"
check_fails 1 "weights" "other weights into the same folder" fuse --out "$TMP/domain" --function domain --weights "$TMP/hand.json"
check "weights written by hand" fuse --quiet --out "$TMP/by-hand" --function domain --weights "$TMP/hand.json" --report "$TMP/hand-report.json"
check "count as written" grep -q '"share": 0.5[,0]' "$TMP/hand-report.json"
sed 's/"code"/"cod"/' "$TMP/w.json" >"$TMP/misspelt.json"
check "weights of a domain that is misspelt" says 'notice: .*misspelt.json has nothing for 1 of the text.s domains, and what it has for all was taken; the first is "code"' fuse --out "$TMP/misspelt" --function domain --weights "$TMP/misspelt.json"
check "weight by the domain's advantage" fuse --quiet --out "$TMP/wd" --weight advantage-domain --weights "$TMP/w.json"
check "weight by the document so far" fuse --quiet --out "$TMP/wp" --weight advantage-position --function dynamic
check "dynamic" fuse --quiet --out "$TMP/dynamic" --function dynamic --report "$TMP/dynamic.json"
check "with one thread" fuse --quiet --out "$TMP/dynamic1" --threads 1 --function dynamic
check "is the same" same_dir "$TMP/dynamic" "$TMP/dynamic1"
check "as suits each document" fuse --quiet --out "$TMP/document" --function document --report "$TMP/document.json" --trace "$TMP/document.trace"
check "is no prediction, quite" grep -q '"hindsight": "document"' "$TMP/document.json"
check "says so in the trace" grep -q '"function":"document"' "$TMP/document.trace"
check "as suits each with one thread" fuse --quiet --out "$TMP/document1" --threads 1 --function document
check "is the same" same_dir "$TMP/document" "$TMP/document1"
check_fails 2 "weights is for" "weights with document" fuse --out "$TMP/x" --function document --weights "$TMP/w.json"
check_fails 2 "level token" "document by token" fuse --out "$TMP/x" --function document --level token
check "dynamic from fitted weights" fuse --quiet --out "$TMP/dynamic-w" --function dynamic --weights "$TMP/w.json" --rate 0.5 --forget 0.9 --share 0
check "token level marks what sees the label" says "no prediction" fuse --out "$TMP/sees" --level token

check_fails 1 "very text" "weights fitted to the text to be fused" fuse --out "$TMP/x" --function domain --weights "$TMP/w-same.json"
check "if one insists" fuse --quiet --out "$TMP/insists" --function domain --weights "$TMP/w-same.json" --same-text
check_fails 1 "none of the models" "weights of more models" one --out "$TMP/x" --function domain --weights "$TMP/w.json"
check_fails 1 "no weight for" "weights of fewer models" fuse --out "$TMP/x" --function domain --weights "$TMP/w2.json"
check_fails 1 "no file of weights" "a report is no file of weights" fuse --out "$TMP/x" --function domain --weights tests/lib.sh
check_fails 1 "nowhere.json" "a file that is not there" fuse --out "$TMP/x" --function domain --weights "$TMP/nowhere.json"
echo "{\"domains\": {\"prose\": {$equal}}}" >"$TMP/prose.json"
check_fails 1 "no weights for domain \"code\"" "a domain without weights" fuse --out "$TMP/x" --function domain --weights "$TMP/prose.json"
check_fails 1 "no advantage of domain" "an advantage that nobody measured" fuse --out "$TMP/x2" --weight advantage-domain --weights "$TMP/hand.json"
check_fails 2 "needs --weights" "domain without weights" fuse --out "$TMP/x" --function domain
check_fails 2 "needs --weights" "advantage-domain without weights" fuse --out "$TMP/x" --weight advantage-domain
check_fails 2 "weights is for" "weights with min-ce" fuse --out "$TMP/x" --weights "$TMP/w.json"
check_fails 2 "level token" "domain by token" fuse --out "$TMP/x" --function domain --weights "$TMP/w.json" --level token
check_fails 2 "reward-temperature" "reward temperature with min-ce" fuse --out "$TMP/x" --reward-temperature 2
check_fails 2 "reward-temperature" "a reward temperature of 0" fuse --out "$TMP/x" --function avg-ce --reward-temperature 0
check_fails 2 "function dynamic" "share with avg-ce" fuse --out "$TMP/x" --function avg-ce --share 0.5
check_fails 2 "not both" "--fit and --out" fuse --out "$TMP/x" --fit "$TMP/y"
check_fails 2 "give --out DIR" "neither" fuse
check_fails 2 "when its weights are used" "--fit with a function" fuse --fit "$TMP/y" --function avg-ce
check_fails 2 "same-text" "--same-text alone" fuse --out "$TMP/x" --same-text
check_fails 1 "min-ce|function" "another function into the same folder" fuse --out "$TMP/again" --function avg-ce
check_fails 2 "function" "an unknown function" fuse --out "$TMP/x" --function mean
check_fails 2 "aligned" "no source" "$BIN/kf-fuse" --target "$TMP/llama-tiny" --out "$TMP/x"
check_fails 2 "full-advantage" "a full advantage of 0" fuse --out "$TMP/x" --full-advantage 0 --weight advantage
cp "$TMP/w.json" "$TMP/w-over.json"
check_fails 2 "w-over.json is read" "a report in place of the weights" fuse --out "$TMP/x" --function domain --weights "$TMP/w-over.json" --report "$TMP/w-over.json"
check_fails 2 "about --weight, which is missing" "a full advantage of no weight" fuse --out "$TMP/x" --full-advantage 0.2
check_fails 1 "cannot create $TMP/no/w.json" "weights to nowhere, before anything is read" "$BIN/kf-fuse" --quiet --target "$TMP/nothing" --aligned "$TMP/nothing" --fit "$TMP/no/w.json"
check_fails 1 "aligned to another" "sources aligned to another target" "$BIN/kf-fuse" --target "$TMP/qwen2-tiny" --aligned "$TMP/a-gemma3-tiny" --out "$TMP/x"
check_fails 1 "same set" "a source given twice" "$BIN/kf-fuse" --target "$TMP/llama-tiny" --aligned "$TMP/a-gemma3-tiny" --aligned "$TMP/a-gemma3-tiny" --out "$TMP/x"
check_fails 1 "logits" "logits where an aligned set belongs" "$BIN/kf-fuse" --target "$TMP/llama-tiny" --aligned "$TMP/gemma3-tiny" --out "$TMP/x"
check "other logits of the same target" "$BIN/kf-extract" --quiet --model tests/models/llama-tiny --corpus "$TMP/corpus" --out "$TMP/k5" --top-k 5
check_fails 1 "aligned to other logits" "are not what it was aligned to" "$BIN/kf-fuse" --target "$TMP/k5" --aligned "$TMP/a-gemma3-tiny" --out "$TMP/x"
check "no set is left of a failure" test ! -e "$TMP/x/manifest.json"

# --- options do what docs/fusion.md says, computed here from the models' own numbers ---
equal='{"llama-tiny": 0.33333333333, "qwen2-tiny": 0.33333333333, "gemma3-tiny": 0.33333333333}'
advantage='"advantage": {"all": 0.03, "domains": {"prose": 0.08, "code": -0.2}}}'
printf '{"all": %s, %s' "$equal" "$advantage" >"$TMP/equal.json"
printf '{"all": {"llama-tiny": 0.8, "qwen2-tiny": 0.1, "gemma3-tiny": 0.1}, "domains": {"code": {"llama-tiny": 0.1, "qwen2-tiny": 0.1, "gemma3-tiny": 0.8}}, %s' \
	"$advantage" >"$TMP/start.json"
while read -r out options; do check "out of $options" fuse ${options//\$TMP/$TMP} --precision f32 --quiet --out "$TMP/o-$out"; "$BIN/kf-inspect" --json "$TMP/o-$out" >"$TMP/o-$out.jsonl"; done <<'E2'
default --function dynamic
rate --function dynamic --rate 0.5
forget --function dynamic --forget 0.5
share --function dynamic --share 0.3
document --function document
all-three --function dynamic --rate 0.5 --forget 0.9 --share 0
byte --metric byte
token --metric token
advantage --function dynamic --weight advantage
full-advantage --function dynamic --weight advantage --full-advantage 0.4
position --function dynamic --weight advantage-position
full-position --function dynamic --weight advantage-position --full-advantage 0.4
start --function dynamic --weights $TMP/start.json
start-domain --function dynamic --weight advantage-domain --weights $TMP/start.json
equal-domain --function dynamic --weight advantage-domain --weights $TMP/equal.json
E2
for m in llama-tiny qwen2-tiny gemma3-tiny a-qwen2-tiny a-gemma3-tiny; do "$BIN/kf-inspect" --json "$TMP/$m" >"$TMP/$m.jsonl"; done
check "rate, forget, share, metric, weight and full advantage are what is computed" python3 - "$TMP" <<'E2'
import json, math, sys
def load(name): return [json.loads(line) for line in open(f"{sys.argv[1]}/{name}.jsonl")]
target, *sources = models = [load(m) for m in ("llama-tiny", "a-qwen2-tiny", "a-gemma3-tiny")]
alone = [load(m) for m in ("llama-tiny", "qwen2-tiny", "gemma3-tiny")]
docs, mixed = range(3), {}
ce = [[(p, c) for p, c in enumerate(zip(*(m[d]["ce"] for m in models))) if None not in c] for d in docs]
def mixture(d, rate=.1, forget=1, share=.01, prior=(1 / 3,) * 3):
    w, out = prior, {}
    for p, c in ce[d]:
        out[p] = -math.log(sum(a * math.exp(-x) for a, x in zip(w, c)))
        w = [b * (a / b) ** forget * math.exp(-rate * x) for a, b, x in zip(w, prior, c)]
        w = [(1 - share) * a / sum(w) + share * b for a, b in zip(w, prior)]
    return out
for name, how in {"default": {}, "rate": {"rate": .5}, "forget": {"forget": .5}, "share": {"share": .3}, "all-three": {"rate": .5, "forget": .9, "share": 0}}.items():
    mixed[name] = [mixture(d, **how) for d in docs]
    for d, got in enumerate(load("o-" + name)):
        assert sum(x is not None for x in got["ce"]) == len(mixed[name][d]) > 30, name
        for p, want in mixed[name][d].items(): assert abs(got["ce"][p] - want) < 1e-4, (name, d, p, got["ce"][p], want)
for name in mixed: assert sum(max(abs(a[p] - b[p]) for p in a) > .1 for a, b in zip(mixed[name], mixed["default"])) == 3 * (name != "default"), name
# by EM, with a label more for each model
for d, got in enumerate(load("o-document")):
    w, rows = [1 / 3] * 3, [[math.exp(-x) for x in c] for _, c in ce[d]]
    for _ in range(3000):
        s = [1] * 3
        for r in rows:
            q = sum(a * b for a, b in zip(w, r))
            for i in range(3): s[i] += w[i] * r[i] / q
        w = [x / sum(s) for x in s]
    for (p, c), r in zip(ce[d], rows): assert abs(got["ce"][p] + math.log(sum(a * b for a, b in zip(w, r)))) < 1e-4, ("document", d, p, w)
    assert sum(got["ce"][p] for p, _ in ce[d]) < min(sum(mixed["default"][d].values()), *(sum(c[m] for _, c in ce[d]) for m in range(3))), d
# one of the models, for a document: the least by the same bytes, or by each one's own tokens
won = {}
for name in "byte", "token":
    for d, got in enumerate(load("o-" + name)):
        own = [[x for x in m[d]["ce"] if x is not None] for m in alone]
        by = [sum(c[m] for _, c in ce[d]) for m in range(3)] if name == "byte" else [sum(x) / len(x) for x in own]
        won[name, d] = best = by.index(min(by))
        for p, c in ce[d]: assert abs(got["ce"][p] - c[best]) < 1e-4, (name, d, p, by, got["ce"][p], c)
assert any(won["byte", d] != won["token", d] for d in docs), won
# how much it counts
for name, full in ("advantage", .1), ("full-advantage", .4), ("position", .1), ("full-position", .4):
    seen = set()
    for d, got in enumerate(load("o-" + name)):
        m, t = (0, 0) if "advantage" in name else (20, 20)
        if not m: m, t = sum(mixed["default"][d].values()), sum(c[0] for _, c in ce[d])
        for p, c in ce[d]:
            want = min(1, max(0, (1 - m / t) / full))
            assert abs(got["weight"][p] - want) < 1e-4, (name, d, p, got["weight"][p], want)
            seen.add(round(want, 3))
            if "position" in name: m, t = .99 * m + mixed["default"][d][p], .99 * t + c[0]
    assert len(seen) > 2 - ("advantage" in name), (name, seen)
# the file that --weight advantage-domain reads is where dynamic's weights start, and the mixture is what it is without --weight
start = {"prose": (.8, .1, .1), "code": (.1, .1, .8)}
for name in "start", "start-domain", "equal-domain":
    for d, got in enumerate(load("o-" + name)):
        want = mixed["default"][d] if name == "equal-domain" else mixture(d, prior=start[got["domain"]])
        for p, x in want.items(): assert abs(got["ce"][p] - x) < 1e-4, (name, d, p, got["ce"][p], x)
        if name == "start": assert "weight" not in got or set(got["weight"]) == {1}
        else: assert all(abs(w - (.8 if got["domain"] == "prose" else 0)) < 1e-4 for w in got["weight"]), (name, d, got["weight"])
E2

# --- who taught what, token by token ---
check "a trace" fuse --quiet --out "$TMP/dynamic-f32" --function dynamic --precision f32 --trace "$TMP/trace.jsonl" --report "$TMP/traced.json"
check "of the first document of each domain" test "$(grep -o '"domain":"[a-z]*"' "$TMP/trace.jsonl" | tr '\n' ' ')" = '"domain":"prose" "domain":"code" '
check "a trace of a set that was there" fuse --quiet --out "$TMP/dynamic-f32" --function dynamic --precision f32 --trace "$TMP/trace2.jsonl"
check_same "is the same" "$TMP/trace.jsonl" "$TMP/trace2.jsonl"
fuse --out "$TMP/dynamic-f32" --function dynamic --precision f32 --trace - >"$TMP/trace3.jsonl" 2>"$TMP/.err"
check_same "and on standard output, with nothing else there" "$TMP/trace.jsonl" "$TMP/trace3.jsonl"
fuse --out "$TMP/dynamic-f32" --function dynamic --precision f32 --report - >"$TMP/traced3.json" 2>"$TMP/.err"
check_same "as the report is" "$TMP/traced.json" "$TMP/traced3.json"
check "of every document" fuse --quiet --out "$TMP/dynamic-f32" --function dynamic --precision f32 --trace "$TMP/all.jsonl" --trace-doc 2 --trace-doc 0 --trace-doc 1
"$BIN/kf-inspect" --json "$TMP/dynamic-f32" >"$TMP/dynamic-f32.jsonl"
check "says what was fused, by whom, and of what text" python3 - "$TMP/all.jsonl" "$TMP/dynamic-f32.jsonl" "$TMP/traced.json" "$TMP/text.jsonl" <<'E2'
import json, math, sys
traces, records = ({r["doc"]: r for r in map(json.loads, open(f))} for f in sys.argv[1:3])
stats = json.load(open(sys.argv[3]))
texts = [json.loads(line)["text"] for line in open(sys.argv[4])]
assert [json.loads(line)["doc"] for line in open(sys.argv[1])] == [2, 0, 1]
models = ["llama-tiny", "qwen2-tiny", "gemma3-tiny"]
share, positions = [0] * 3, 0
for doc, t in traces.items():
    r, n = records[doc], len(records[doc]["tokens"])
    assert t["models"] == models and t["function"] == "dynamic" and t["text"] == texts[doc], t["text"]
    assert len(t["cut"]) == n + 1 and t["cut"] == r["start"]      # this text is all ASCII
    assert len(t["weights"]) == len(t["candidates"]) == len(t["label"]) == n
    for p in range(n):
        q = dict(zip(r["top_ids"][p], map(math.exp, r["top_logprobs"][p])))
        w, c, label = t["weights"][p], t["candidates"][p], t["label"][p]
        assert (w is None) == (not q) == (not c), p
        if not q: continue
        assert abs(sum(w) - 1) < 1e-3
        share = [a + b for a, b in zip(share, w)]
        positions += 1
        assert [x[1] for x in c] == sorted((x[1] for x in c), reverse=True)
        assert all(abs(a[1] - b) < 1e-3 * b + 1e-9 for a, b in zip(c, sorted(q.values(), reverse=True)[:5]))
        mixed = [sum(a * (b or 0) for a, b in zip(w, of)) for _, _, *of in c]   # what each model gives, scaled with the tail
        for (text, fused, *of), m in zip(c, mixed):
            assert abs(fused - m * c[0][1] / mixed[0]) < 2e-3 * fused + 2e-6, (p, text, fused, of)
        if label >= 0:
            assert abs(c[label][1] - q[r["tokens"][p]]) < 1e-3 * c[label][1]
            assert c[label][0] == t["text"][t["cut"][p]:t["cut"][p + 1]], (p, c[label])
for name, s in zip(models, share):
    assert abs(s / positions - stats["all"]["models"][name]["share"]) < 1e-3, (name, s / positions)
E2
# Two models of one name: weights, which go by names, could be given to the wrong one.
mkdir -p "$TMP/x" "$TMP/y"; cp -r tests/models/qwen2-tiny "$TMP/x/teacher"; cp -r tests/models/gemma3-tiny "$TMP/y/teacher"
for d in x y; do "$BIN/kf-extract" --quiet --model "$TMP/$d/teacher" --corpus "$TMP/corpus" --out "$TMP/$d/logits"
	"$BIN/kf-align" --quiet --source "$TMP/$d/logits" --target "$TMP/llama-tiny" --out "$TMP/$d/aligned"; done
alike() { "$BIN/kf-fuse" --target "$TMP/llama-tiny" --aligned "$TMP/x/aligned" --aligned "$TMP/y/aligned" "$@"; }
check "two models of one name" alike --quiet --out "$TMP/alike"
check_fails 1 "two models of one name" "no weights are fitted to them" alike --fit "$TMP/alike.json"
"$BIN/kf-extract" --quiet --model "$TMP/y/teacher" --name teacher-y --corpus "$TMP/corpus" --out "$TMP/y/named"
"$BIN/kf-align" --quiet --source "$TMP/y/named" --target "$TMP/llama-tiny" --out "$TMP/y/aligned-named"
check "one of them named by kf-extract --name" "$BIN/kf-fuse" --quiet --target "$TMP/llama-tiny" --aligned "$TMP/x/aligned" --aligned "$TMP/y/aligned-named" \
	--fit "$TMP/alike.json"
check "goes by that name" grep -q '"teacher-y"' "$TMP/alike.json"
check "and is the same otherwise" cmp <("$BIN/kf-inspect" "$TMP/y/logits" | grep -E "^(identity|content)") <("$BIN/kf-inspect" "$TMP/y/named" | grep -E "^(identity|content)")
check_fails 1 "no UTF-8" "a name that is no text" "$BIN/kf-extract" --model "$TMP/y/teacher" --name $'a\xff' --corpus "$TMP/corpus" --out "$TMP/y/no-name"
check_fails 1 "no document 99" "a document that is not there" fuse --quiet --out "$TMP/dynamic-f32" --function dynamic --precision f32 --trace "$TMP/no.jsonl" --trace-doc 99
check "leaves no file" test ! -e "$TMP/no.jsonl"
check_fails 1 "no document 3 for --trace-doc: it has 3, from 0 on" "is known before anything is fused" fuse --quiet --out "$TMP/early" --trace "$TMP/no.jsonl" --trace-doc 3
check_fails 1 "cannot create $TMP/nowhere/r.json" "so is a report that cannot be written" fuse --quiet --out "$TMP/early" --report "$TMP/nowhere/r.json"
check "which leave no set" test ! -e "$TMP/early"
check_fails 2 "document's number" "no number" fuse --out "$TMP/dynamic-f32" --trace "$TMP/no.jsonl" --trace-doc x
check_fails 2 "missing" "documents, but no file" fuse --out "$TMP/dynamic-f32" --trace-doc 1
check_fails 2 "whole set" "a trace of a part" fuse --out "$TMP/dynamic-f32" --trace "$TMP/no.jsonl" --shard 0/2

# A domain of which nothing is compared has no numbers: a dash in tables, null in JSON.
printf '{"id":"a","domain":"prose","text":"The quick brown fox jumps."}\n{"id":"b","domain":"one-letter","text":"x"}\n' >"$TMP/none.jsonl"
"$BIN/kf-prepare" --quiet --out "$TMP/none" "$TMP/none.jsonl"
for m in llama-tiny qwen2-tiny; do "$BIN/kf-extract" --quiet --model tests/models/$m --corpus "$TMP/none" --out "$TMP/none-$m"; done
check "a domain without a ce: aligned, with dashes" says '^one-letter +[0-9]+ +1 +[0-9.]+ +- +- +- +- +-$' \
	"$BIN/kf-align" --source "$TMP/none-qwen2-tiny" --target "$TMP/none-llama-tiny" --out "$TMP/none-aligned"
check "fused, with dashes" says '^  one-letter +llama-tiny +- +- +0$' "$BIN/kf-fuse" --target "$TMP/none-llama-tiny" --aligned "$TMP/none-aligned" --out "$TMP/none-fused"
check "and null in the manifests' statistics" python3 - "$TMP" <<'E2'
import json, sys
stats = lambda name: json.load(open(f"{sys.argv[1]}/{name}/manifest.json"))["stats"]
a, f = stats("none-aligned"), stats("none-fused")
one, whole = a["domains"]["one-letter"], a["all"]
assert [one[k] for k in ("ce", "ce_byte", "mass", "label_nll", "labelled", "candidates")] == [None] * 6 and one["coverage"] == 0, one
assert all(isinstance(whole[k], float) for k in ("coverage", "ce", "ce_byte", "mass", "label_nll", "labelled", "candidates"))
one, whole = f["domains"]["one-letter"], f["all"]
assert one["target_ce_byte"] is one["fused_ce_byte"] is one["equal_ce_byte"] is None and one["tokens"] == 0 and one["weight"] == 1, one
assert all(m["ce_byte"] is m["share"] is None and m["documents_won"] == 0 for m in one["models"].values()), one
assert whole["fused_ce_byte"] > 0 and sum(m["share"] for m in whole["models"].values()) > 0.999
E2
