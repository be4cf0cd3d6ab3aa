# kf-report on the tiny models' pipeline, with names that would like to be markup: what the page holds, what it must not, and,
# where there is a Chromium, that a browser shows it: no errors, nothing wider than a phone, the script's table of a token.
. tests/lib.sh

R=$BIN/kf-report
evil='<u onclick>"'"'"'&amp;<!--'      # a model's: no = and no /
title='</title><img src=x onerror=console.error(1)>"'"'"'&amp;'
cat >"$TMP/make.py" <<'END'
import json, sys
evil = "</script><script>console.error('pwned')</script><!--"
docs = [("prose", "a", "It is a truth universally acknowledged, that a single man in possession of a good fortune, must be in want of a wife."),
        (evil, evil + "\u202e", "<b>bold</b> & \"quoted\" </script><script>console.error('pwned')</script>\n\tcaf\u00e9 \u2603 \U0001f600\n"),
        ("prose", "c", "However little known the feelings or views of such a man may be on his first entering a neighbourhood"),
        (evil, "d", "x < y && y > z ? '<!--' : \"]]>\";\n" * 3)]
for domain, id, text in docs: print(json.dumps({"id": id, "domain": domain, "text": text}))
END
python3 "$TMP/make.py" >"$TMP/text.jsonl"
mkdir -p "$TMP/m"; cp -r tests/models/qwen2-tiny "$TMP/m/$evil"
stages() {
	"$BIN/kf-prepare" --quiet --out "$TMP/corpus" "$TMP/text.jsonl" &&
	"$BIN/kf-extract" --quiet --model tests/models/llama-tiny --corpus "$TMP/corpus" --out "$TMP/target" &&
	"$BIN/kf-extract" --quiet --model tests/models/gemma3-tiny --corpus "$TMP/corpus" --out "$TMP/gemma" &&
	"$BIN/kf-extract" --quiet --model "$TMP/m/$evil" --corpus "$TMP/corpus" --out "$TMP/qwen" &&
	"$BIN/kf-align" --quiet --source "$TMP/gemma" --target "$TMP/target" --out "$TMP/a-gemma" &&
	"$BIN/kf-align" --quiet --source "$TMP/qwen" --target "$TMP/target" --out "$TMP/a-qwen" &&
	"$BIN/kf-fuse" --quiet --target "$TMP/target" --aligned "$TMP/a-gemma" --aligned "$TMP/a-qwen" --out "$TMP/targets" --function dynamic \
		--weight advantage --trace "$TMP/trace.jsonl" &&
	"$BIN/kf-train" --quiet --model tests/models/llama-tiny --targets "$TMP/targets" --valid "$TMP/corpus" --out "$TMP/fused" --lambda 0.5 \
		--epochs 3 --batch-tokens 64 --lr 1e-3 &&
	"$BIN/kf-train" --quiet --model tests/models/llama-tiny --targets "$TMP/target" --valid "$TMP/corpus" --out "$TMP/clm" --lambda 1 \
		--epochs 3 --batch-tokens 64 --lr 1e-3 &&
	"$BIN/kf-eval" --quiet --corpus "$TMP/corpus" --logits "gemma3-tiny=$TMP/gemma" --logits "$evil=$TMP/qwen" --logits "target=$TMP/target" \
		--model "clm=$TMP/clm" --model "fused=$TMP/fused" --compare fused,target --compare fused,clm --report "$TMP/eval.json"
}
check "the stages" stages
cat >"$TMP/quiz.jsonl" <<'END'
{"task": "<i>quiz</i>", "kind": "choice", "licence": "none"}
{"prompt": "It is a truth universally acknowledged, that a single man in possession of a good fortune, must be in want of a", "choices": ["wife", "dog"], "answer": 0}
{"prompt": "Two and two are", "choices": ["four", "five"], "answer": "four"}
{"prompt": "Birds", "choices": ["fly", "swim"], "answer": 0}
END
check "scores on tasks" "$BIN/kf-eval" --quiet --corpus "$TMP/corpus" --logits "gemma3-tiny=$TMP/gemma" --logits "$evil=$TMP/qwen" \
	--logits "target=$TMP/target" --model "target=tests/models/llama-tiny" --model "clm=$TMP/clm" --model "fused=$TMP/fused" --compare fused,target \
	--compare fused,clm --tasks "$TMP/quiz.jsonl" --overlap "$TMP/corpus" --report "$TMP/eval-tasks.json"
sets=(); for s in corpus target gemma qwen a-gemma a-qwen targets; do sets+=(--set "$TMP/$s"); done
page() { "$R" --quiet --model "clm=$TMP/clm" --model "fused=$TMP/fused" "${sets[@]}" --trace "$TMP/trace.jsonl" "$@"; }
check "a page" page --eval "$TMP/eval-tasks.json" --out "$TMP/page.html"
check "a page again" page --eval "$TMP/eval-tasks.json" --out "$TMP/again.html"
check_same "is the same to the byte" "$TMP/page.html" "$TMP/again.html"
page --eval "$TMP/eval-tasks.json" --out - | cat >"$TMP/stdout.html"
check_same "and on standard output" "$TMP/page.html" "$TMP/stdout.html"
check "with a title of one's own" page --eval "$TMP/eval-tasks.json" --title "$title" --out "$TMP/titled.html"

cat >"$TMP/check.py" <<'END'
import base64, hashlib, html.parser, json, re, sys
VOID = {"meta", "br", "img", "link", "input", "hr"}
class Page(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.ids, self.tags, self.raw, self.text = [], [], [], {}, []
    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        names = [a for a, _ in attrs]
        assert len(names) == len(set(names)), (tag, names)
        for a, v in attrs:
            assert not a.startswith("on") and a not in ("src", "style"), (tag, a)
            if a == "href": assert v.startswith("#"), v
            if a == "id": self.ids.append(v)
        if tag not in VOID: self.open.append(tag)
    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID: self.open.pop()
    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, (tag, self.open[-3:], self.getpos())
        self.open.pop()
    def handle_data(self, data):
        if self.open and self.open[-1] in ("script", "style"): self.raw.setdefault(self.open[-1], []).append(data)
        else: self.text.append(data)
source = open(sys.argv[1], encoding="utf-8", newline="").read()
assert len(source.encode()) < 2_000_000, len(source)
p = Page(); p.feed(source); p.close()
assert not p.open and len(p.ids) == len(set(p.ids)), (p.open, p.ids)
assert all(i in p.ids for t, a in p.tags if t == "a" for i in [a["href"][1:]]), "a link leads nowhere"
known = {"html", "head", "meta", "title", "style", "body", "script", "main", "header", "footer", "nav", "section", "article", "aside", "figure",
         "figcaption", "div", "p", "span", "h1", "h2", "h3", "ul", "li", "a", "b", "strong", "em", "i", "small", "code", "br", "details", "summary",
         "table", "thead", "tbody", "tfoot", "tr", "th", "td", "dl", "dt", "dd", "svg", "defs", "pattern", "g", "path", "rect", "circle", "text"}
assert {t for t, _ in p.tags} <= known, {t for t, _ in p.tags} - known
# a text that looks like a tag is none: its < is a reference, and nothing in it is one of the page's scripts
data, script = p.raw["script"][:-1], p.raw["script"][-1]
assert len([1 for t, a in p.tags if t == "script" and a.get("type") != "application/json"]) == 1
assert all(json.loads(d)["models"] for d in data) and not any(c in d for d in data for c in "<>&")
sha = lambda s: "'sha256-" + base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() + "'"
policy = next(a["content"] for t, a in p.tags if t == "meta" and a.get("http-equiv"))
assert sha(script) in policy and sha(p.raw["style"][0]) in policy and "unsafe" not in policy and "default-src 'none'" in policy, policy
assert not re.search(r"https?://|url\((?!#)|@import", "".join(p.raw["style"]) + script), "loads something"
assert "\u202e" not in source and "\x00" not in source
text = "".join(p.text)
sections = [a["id"] for t, a in p.tags if t == "section"]
for want in sys.argv[2].split(): assert want in sections, (want, sections)
for want in sys.argv[3:]: assert want in text, want
svgs = [a for t, a in p.tags if t == "svg" and a.get("class") == "chart"]
assert all(a.get("role") == "img" for a in svgs) and source.count('role="img"><title>') == len(svgs)
assert not re.search(r"\b(nan|inf)\b", re.sub(r"<[^>]*>", " ", source.split("<script")[0]), re.I), "a number that is none"
assert not re.search(r'="[^"]*\b(nan|inf)\b', source), "a coordinate that is none"
END
ALL="bits tasks seen passages sources training alignment sizes provenance"
check "it is well-formed, whole, escaped, and loads nothing" python3 "$TMP/check.py" "$TMP/page.html" "$ALL" \
	"What llama-tiny learned from gemma3-tiny and $evil" "<i>quiz</i>" "</script><script>console.error('pwned')</script>" "fused less clm" "shares 13 words in a row"
check "a hostile title is a title" python3 "$TMP/check.py" "$TMP/titled.html" "$ALL" "$title"

# --- what is missing leaves its section out, and is said ---
check "an evaluation alone" "$R" --quiet --eval "$TMP/eval.json" --out "$TMP/eval.html"
check "has what it has, and says what it lacks" python3 "$TMP/check.py" "$TMP/eval.html" "bits provenance missing" "kf-eval --tasks" "kf-fuse --trace"
check "its page has no other section" test "$(grep -c '<section id=' "$TMP/eval.html")" = 3
printf '{"domain": "prose", "text": "Something to compare."}\n{"domain": "speck", "text": "x"}\n' | "$BIN/kf-prepare" --quiet --out "$TMP/specks" -
"$BIN/kf-extract" --quiet --model tests/models/qwen2-tiny --corpus "$TMP/specks" --out "$TMP/l-specks"
check "an evaluation with a domain of which nothing could be compared" "$BIN/kf-eval" --quiet --corpus "$TMP/specks" --logits "target=$TMP/l-specks" --report "$TMP/specks.json"
check "its page" "$R" --quiet --eval "$TMP/specks.json" --result target --out "$TMP/specks.html"
check "does not count it" grep -q "mean of 1 domain, 1 document, " "$TMP/specks.html"
# Runs of which some lack what others have.
python3 - "$TMP" <<'END'
import copy, json, sys
tmp = sys.argv[1]
first = json.load(open(tmp + "/eval-tasks.json"))
second = copy.deepcopy(first)
task = second["tasks"]["later"] = second["tasks"].pop("<i>quiz</i>")
for c in first["comparisons"]:      # of one domain only the first run has something to compare, all of it below 0
    for d in c["bits_per_byte"].values(): d.update(difference=-1, low=-2, high=-0.5)
for c in second["comparisons"]:
    for name, d in c["bits_per_byte"].items(): d.update(**(dict(difference=None, low=None, high=None) if name == "prose" else dict(difference=-1, low=-2, high=-0.5)))
for row in second["bits_per_byte"].values():
    for k in row: row[k] += 0.125
json.dump(first, open(tmp + "/some-1.json", "w")); json.dump(second, open(tmp + "/some-2.json", "w"))
END
check "a page of runs that differ" "$R" --quiet --eval "$TMP/some-1.json" --eval "$TMP/some-2.json" --result fused --out "$TMP/some.html"
check "a task of the second alone is there" grep -q '<th scope="row">later</th>' "$TMP/some.html"
one_of_two() { python3 - "$TMP/some.html" <<'END'
import re, sys
text = re.sub(r"<[^>]*>", "", open(sys.argv[1], encoding="utf-8").read())
assert re.search(r"neither in every run: prose", text) and not re.search(r"below 0 in every run: [^;]*prose", text), re.findall(r"below 0 in every run[^.]{0,60}", text)
END
}
check "a domain of one run is not of every run" one_of_two

printf '{"domain": "prose", "text": "Nothing of all this is in there."}\n' | "$BIN/kf-prepare" --quiet --out "$TMP/elsewhere" -
check "an evaluation of text alone, with overlap" "$BIN/kf-eval" --quiet --corpus "$TMP/corpus" --logits "target=$TMP/target" --overlap "$TMP/elsewhere" --report "$TMP/apart.json"
check "its page" "$R" --quiet --eval "$TMP/apart.json" --out "$TMP/apart.html"
check "says that nothing of it was trained on" python3 "$TMP/check.py" "$TMP/apart.html" "bits seen provenance missing" "Of 4 held-out documents none does"
ensemble() {
	for m in llama gemma3; do "$BIN/kf-extract" --quiet --model tests/models/$m-tiny --corpus "$TMP/elsewhere" --out "$TMP/e-$m" || return 1; done
	"$BIN/kf-align" --quiet --source "$TMP/e-gemma3" --target "$TMP/e-llama" --out "$TMP/e-aligned" &&
	"$BIN/kf-fuse" --quiet --target "$TMP/e-llama" --aligned "$TMP/e-aligned" --out "$TMP/ensemble" &&
	"$R" --quiet --eval "$TMP/eval-tasks.json" --model "fused=$TMP/fused" --set "$TMP/ensemble" --set "$TMP/targets" --out "$TMP/ensemble.html"
}
check "a page with an ensemble over other text" ensemble
check "does not take that for the training text" python3 -c 'import html, re, sys
seen = open(sys.argv[1]).read().split("<section id=\"seen\">")[1]
page = open(sys.argv[1]).read()
assert page.count("text that no model here was trained on") == 1 and "weights: dynamic; alignment" not in page
assert "Trained on prose (2 documents," in html.unescape(re.sub("<[^>]*>", "", seen)), seen[:300]' "$TMP/ensemble.html"
fused_twice() {
	"$BIN/kf-align" --quiet --source "$TMP/gemma" --target "$TMP/target" --method dtw --vocab-map exact --out "$TMP/a-dtw" &&
	"$BIN/kf-fuse" --quiet --target "$TMP/target" --aligned "$TMP/a-dtw" --aligned "$TMP/a-qwen" --function min-ce --out "$TMP/min-ce" &&
	page --eval "$TMP/eval-tasks.json" --set "$TMP/a-dtw" --set "$TMP/min-ce" --out "$TMP/twice.html"
}
check "a page with another mixture of the training text" fused_twice
check "tells which is which, and that no model had it" python3 - "$TMP/twice.html" <<'END'
import html, re, sys
page = open(sys.argv[1]).read()
assert "weights: dynamic; alignment: byte, map prefix</span>" in page and "weights: min-ce; alignment: dtw, map exact; no model here was trained on these</span>" in page
assert "text that no model here" not in page and "gemma3-tiny (dtw, map exact) as a table" in page
names = re.findall(r'<tr><th scope="row">([^<]*)<small class="path">[^<]*</small></th><td class="left">(\w+)', page)
assert len(set(names)) == len(names) and any(n.endswith(" (2)") for n, _ in names), names
END
check "sets alone" "$R" --quiet "${sets[@]}" --out "$TMP/sets.html"
printf '{"shards":1,"do{"shards":1}\nseconds\n[1]\n' >>"$TMP/corpus/times.log"
check "notes on times that are none do not matter" "$R" --quiet "${sets[@]}" --out "$TMP/notes.html"
check_same "and say nothing" "$TMP/sets.html" "$TMP/notes.html"
check "have theirs" python3 "$TMP/check.py" "$TMP/sets.html" "sources alignment sizes provenance missing" "kf-eval --report"
check "a trace alone" "$R" --quiet --trace "$TMP/trace.jsonl" --passages 1 --passage-tokens 5 --out "$TMP/trace.html"
check "has a passage" python3 "$TMP/check.py" "$TMP/trace.html" "passages missing" "the first 5 of"
check "one document of two" test "$(grep -c '<article' "$TMP/trace.html")" = 1
python3 - "$TMP/eval.json" "$TMP/null.json" <<'END'
import json, sys
def hole(v, key): return {k: hole(x, k) for k, x in v.items()} if isinstance(v, dict) else [hole(x, key) for x in v] if isinstance(v, list) else \
    None if key in ("low", "high", "mean") else v
json.dump(hole(json.load(open(sys.argv[1])), ""), open(sys.argv[2], "w"))
END
check "numbers that are not there" "$R" --quiet --eval "$TMP/null.json" --out "$TMP/null.html"
check "are dashes" python3 "$TMP/check.py" "$TMP/null.html" "bits" "–"

# --- what the numbers are ---
check "shares, losses and bits are the files' own" python3 - "$TMP" <<'END'
import json, re, sys, html
d = sys.argv[1]
page = open(d + "/page.html").read()
cells = lambda s: [html.unescape(re.sub("<[^>]*>", " ", c)) for c in re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", s, re.S)]
r, stats = json.load(open(d + "/eval.json")), json.load(open(d + "/targets/manifest.json"))["stats"]
table = page[page.index("Bits per byte as a table"):]
for name, row in r["bits_per_byte"].items():
    assert any(f"{row['mean']:.4f}" in c for c in cells(table[:table.index("</table>")])), name
# what was trained on, and what of the evaluation was in it
seen, o = page[page.index('<section id="seen">'):], json.load(open(d + "/eval-tasks.json"))["overlap"]
seen = seen[:seen.index("</section>")]
text = " ".join(html.unescape(re.sub("<[^>]*>", "", seen)).split())
for domain, v in stats["domains"].items():
    assert " ".join(f"{domain} ({v['documents']} documents, ".split()) in text, (domain, text)
for part, what in (("text", "held-out documents"), ("tasks", "items of tasks")):
    n, shared, short = (sum(row[k] for row in o[part].values()) for k in ("items", "shared", "short"))
    if short == n: assert f"Of {n} {what} none is long enough to tell." in text
    else: assert n > 0 and f"Of {n} {what} {shared} do" + ("es" if shared == 1 else "") in text and (not short or f"{short} {'is' if short == 1 else 'are'} too short" in text), (part, text)
    for name, row in o[part].items():
        want = [name, *(str(row[k]) for k in ("items", "shared", "short"))]
        assert want in [cells(r) for r in seen.split("<tr>")], (want, seen)
table = page[page.index("Perplexity per token"):]
got = cells(table[:table.index("</table>")])
assert got[len(got) // (len(r["perplexity"]) + 1) - 2:][:2] == ["mean", "all tokens"], got
for row in r["perplexity"].values():
    for v in row.values(): assert f"{v:.2f}" in got, (v, got)
table = page[page.index(" as a table: weights"):]
got = " ".join(cells(table[:table.index("</table>")]))
for domain in list(stats["domains"].values()) + [stats["all"]]:
    for m in domain["models"].values(): assert f"{100 * m['share']:.1f}\u00a0%" in got, m
best = [e for e in map(json.loads, open(d + "/fused/log.jsonl")) if e.get("best")][-1]
table = page[page.index("Training in numbers"):]
assert f"{best['valid_bits_per_byte']:.4f}" in table[:table.index("</table>")]
first = page[page.index('<section id="bits"'):page.index("Bits per byte as a table")]
for name, mark in (("gemma3-tiny", "s0"), ("target", "st"), ("clm", "so"), ("fused", "sr")):
    assert f'<g class="{mark}"><title>{name}:' in first, name    # told apart as a source, the target, another, the result
trace = [json.loads(line) for line in open(d + "/trace.jsonl")]
assert len(re.findall(r'<span class="t[ "]', page.split('id="passage-0"')[1].split("</article>")[0])) == len(trace[0]["weights"])
END

# --- several runs of one experiment ---
again() { # the two models that are trained, otherwise
	"$BIN/kf-train" --quiet --model tests/models/llama-tiny --targets "$TMP/targets" --out "$TMP/fused-2" --lambda 0.3 --epochs 2 --batch-tokens 64 \
		--lr 2e-3 --seed 2 &&
	"$BIN/kf-train" --quiet --model tests/models/llama-tiny --targets "$TMP/target" --out "$TMP/clm-2" --lambda 1 --epochs 2 --batch-tokens 64 \
		--lr 2e-3 --seed 2 &&
	"$BIN/kf-eval" --quiet --corpus "$TMP/corpus" --logits "gemma3-tiny=$TMP/gemma" --logits "$evil=$TMP/qwen" --logits "target=$TMP/target" \
		--model "target=tests/models/llama-tiny" --model "clm=$TMP/clm-2" --model "fused=$TMP/fused-2" --compare fused,clm --compare fused,target \
		--compare "$evil,target" --tasks "$TMP/quiz.jsonl" --report "$TMP/eval-2.json"
}
check "a second run" again
cat >"$TMP/third.py" <<'END'
# A third run by hand: the second with everything elsewhere, without one model, and without one comparison.
import json, sys
d, evil = sys.argv[1:]
r = json.load(open(d + "/eval-2.json"))
for table in ("models", "bits_per_byte", "intervals", "perplexity"): del r[table][evil]
for row in r["bits_per_byte"].values():
    for k in row: row[k] += 0.125
r["comparisons"] = [c for c in r["comparisons"] if c["b"] == "clm"]
for k, v in r["comparisons"][0]["bits_per_byte"].items(): v.update(difference=0.5, low=0.25, high=0.75)
json.dump(r, open(d + "/eval-3.json", "w"))
r["documents"]["poetry"] = r["documents"].pop("prose")
json.dump(r, open(d + "/eval-poetry.json", "w"))
r["documents"]["prose"] = r["documents"].pop("poetry")
for table in ("models", "bits_per_byte"): r[table] = {"other " + k: v for k, v in r[table].items()}
json.dump(r, open(d + "/eval-others.json", "w"))
r = json.load(open(d + "/eval-2.json"))
r["seed"] += 1
json.dump(r, open(d + "/eval-copy.json", "w"), indent=1)
for row in r["bits_per_byte"].values():
    for k in row: row[k] -= 0.125
for c in r["comparisons"]:
    for v in c["bits_per_byte"].values(): v.update(difference=-0.5, low=-0.75, high=0.25)
json.dump(r, open(d + "/eval-wide.json", "w"))
END
check "a third" python3 "$TMP/third.py" "$TMP" "$evil"
runs=(--eval "$TMP/eval-tasks.json" --eval "$TMP/eval-2.json" --eval "$TMP/eval-3.json")
check "a page of three runs" page "${runs[@]}" --result fused --out "$TMP/runs.html"
check "a page of them again" page "${runs[@]}" --result fused --out "$TMP/again.html"
check_same "is the same to the byte" "$TMP/runs.html" "$TMP/again.html"
check "it is well-formed, whole, escaped, and loads nothing" python3 "$TMP/check.py" "$TMP/runs.html" "runs $ALL" "in the mean over 3 runs" "2 of 3 runs" "Only 1 of the 3 runs were looked at" \
	"Not compared in every run, and so not shown: fused less target (2); $evil less target (1) of 3 runs" "Run 1 alone" "$TMP/eval-3.json" "of run 1:"
check "two runs, the evaluations alone" "$R" --quiet --eval "$TMP/eval.json" --eval "$TMP/eval-2.json" --result fused --title "$title" --out "$TMP/two.html"
check "two of which one has wide intervals" "$R" --quiet --eval "$TMP/eval.json" --eval "$TMP/eval-wide.json" --out "$TMP/wide.html"
check "have their page" python3 "$TMP/check.py" "$TMP/two.html" "runs bits provenance missing" "fused predicts the test text at" "in the mean over 2 runs" \
	"$title" "below 0 in" "kf-fuse --trace"
check "a run without a section of its own says what it lacks" python3 "$TMP/check.py" "$TMP/page.html" "$ALL missing" "Over runs: give --eval for each"
check "the numbers are the runs' own: means, deviations, intervals, signs" python3 - "$TMP" "$evil" <<'END'
import html, json, re, statistics as st, sys
d, evil = sys.argv[1:]
runs = [json.load(open(d + f)) for f in ("/eval-tasks.json", "/eval-2.json", "/eval-3.json")]
page = open(d + "/runs.html").read()
header, section = page[page.index("<header>"):page.index("</header>")], page[page.index('<section id="runs"'):page.index('<section id="bits"')]
plain = lambda s: html.unescape(re.sub("<[^>]*>", " ", s))
number = lambda v: f"{v:.4f}".replace("-", "\u2212")
signed = lambda v: "\u00b10.0000" if abs(v) < 0.00005 else number(v) if v < 0 else "+" + number(v)
def table(summary):
    t = section[section.index("<summary>" + summary):]
    rows = re.findall(r"<tr>(.*?)</tr>", t[:t.index("</table>")], re.S)
    return {c[0].strip(): c[1:] for c in ([plain(c) for c in re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", r, re.S)] for r in rows)}
domains, models = table("Bits per byte over runs, by domain"), list(runs[0]["bits_per_byte"])
assert list(domains) == ["model", *models]
for k, column in enumerate([*runs[0]["documents"], "mean"]):
    for m in models:
        v, cell = [r["bits_per_byte"][m][column] for r in runs if m in r["bits_per_byte"]], domains[m][k]
        assert number(st.mean(v)) in cell and "sd " + number(st.stdev(v)) in cell and ("2 of 3 runs" in cell) == (m == evil), (m, cell)
perplexity = table("Perplexity over runs")
assert list(perplexity) == ["model", *models]
for m in models:
    v = [r["perplexity"][m]["mean"] for r in runs if m in r["perplexity"]]
    assert perplexity[m][-1].split()[0] == f"{st.mean(v):.2f}" and "sd " + f"{st.stdev(v):.2f}" in perplexity[m][-1], (m, v, perplexity[m])
every = table("Bits per byte of every run")
for m in models:
    assert [c.split()[0] for c in every[m]] == [number(r["bits_per_byte"][m]["mean"]) if m in r["bits_per_byte"] else "\u2013" for r in runs], every[m]
# the one pair that all compare
pair = [next(c for c in r["comparisons"] if (c["a"], c["b"]) == ("fused", "clm"))["bits_per_byte"] for r in runs]
v = [p["mean"]["difference"] for p in pair]
assert v[2] == 0.5
assert list(table("The differences over runs")) == list(table("The differences of every run")) == ["difference", "fused less clm"]
cell = table("The differences over runs")["fused less clm"][-1]
below = sum(x < 0 for x in v)
assert signed(st.mean(v)) in cell and "sd " + number(st.stdev(v)) in cell and f"below 0 in {below} of 3" in cell, cell
for p, cell in zip(pair, table("The differences of every run")["fused less clm"]):
    assert [signed(p["mean"][k]) for k in ("difference", "low", "high")] == cell.replace(" to ", " ").split(), cell
score = [r["tasks"]["<i>quiz</i>"]["metrics"]["acc"]["models"]["fused"]["value"] for r in runs]
assert f"{100 * st.mean(score):.1f}" in section[section.index("Scores on tasks over runs"):]
# the charts: a dot a run; the headline: the result over the runs
charts = [c[:c.index("</svg>")] for c in section.split('<svg class="chart"')[1:]]
dots = {m: g.count('<circle class="run"') for m, g in zip(models, charts[0].split('<text class="name')[1:])}
assert len(charts) == 2 and dots == {m: 3 - (m == evil) for m in models}, dots
assert charts[1].count('<circle class="run"') == 3 and charts[1].count('<path class="own"') == 3
header = " ".join(plain(header).split())
v = [r["bits_per_byte"]["fused"]["mean"] for r in runs]
assert f"fused predicts the test text at {st.mean(v):.4f} bits per byte in the mean over 3 runs (standard deviation {st.stdev(v):.4f};" in header, header
assert header.count("bits per byte against") == 1 and "against clm" in header and "+0.5000" in header, header
# the cards: green or red only where all of every run's interval is on that side
seen = {}
for name, files in (("runs", ("eval-tasks", "eval-2", "eval-3")), ("two", ("eval", "eval-2")), ("wide", ("eval", "eval-wide"))):
    page, runs = open(d + "/%s.html" % name).read(), [json.load(open(d + "/%s.json" % f)) for f in files]
    for kind, card in re.findall(r'<li class="card (\w+)">(.*?)</li>', page, re.S):
        card = " ".join(plain(card).split())
        other = re.search(r"against (\w+)", card)[1]
        pair = [next(c for c in r["comparisons"] if (c["a"], c["b"]) == ("fused", other))["bits_per_byte"]["mean"] for r in runs]
        below, clear = sum(p["difference"] < 0 for p in pair), [sum(p["high"] < 0 for p in pair), sum(p["low"] > 0 for p in pair)]
        above = sum(p["difference"] > 0 for p in pair)
        want = ("above", above, clear[1]) if above > below else ("below", below, clear[0])
        assert "%s 0 in %d of %d runs, in %d with the whole" % (*want[:2], len(runs), want[2]) in card, card
        assert kind == ("better" if clear[0] == len(runs) else "worse" if clear[1] == len(runs) else "unclear"), card
        share = st.mean(p["difference"] / r["bits_per_byte"][other]["mean"] for p, r in zip(pair, runs))
        assert ("(%+.1f %%)" % (100 * share)).replace("-", "\u2212") in card, (card, share)
        seen[kind] = seen.get(kind, 0) + 1
assert sum(seen.values()) == 5 and len(seen) > 1, seen
END
check "a model of some runs as the result" page "${runs[@]}" --result "$evil" --out "$TMP/some.html"
check "the headline says in how many it is" python3 "$TMP/check.py" "$TMP/some.html" "runs $ALL" "in the mean over the 2 of 3 runs that have it"
check "runs whose numbers are not there" "$R" --quiet --eval "$TMP/null.json" --eval "$TMP/eval-2.json" --out "$TMP/null-runs.html"
check "show those that are" python3 "$TMP/check.py" "$TMP/null-runs.html" "runs bits" "1 of 2 runs"
with() { "$R" --quiet --eval "$TMP/eval-2.json" "$@" --out "$TMP/no.html"; }
check_fails 1 "eval-2.json is given twice" "one evaluation twice" with --eval "$TMP/eval-tasks.json" --eval "$TMP/eval-2.json"
check_fails 1 "eval-copy.json has the same figures as .*eval-2.json" "a copy with intervals of another seed" with --eval "$TMP/eval-copy.json"
check_fails 1 'eval-poetry.json has no domain "prose", which .*eval-2.json has' "other domains" with --eval "$TMP/eval-poetry.json"
check_fails 1 "eval-others.json has no model of the same name" "other models" with --eval "$TMP/eval-others.json"

# --- bad input ---
echo '{"models": {' >"$TMP/bad.json"; echo '{"loss": 1}' >"$TMP/list.json"; echo '[]' >"$TMP/array.json"
check_fails 1 "bad.json is no JSON: line [0-9]" "half a report" "$R" --eval "$TMP/bad.json" --out "$TMP/no.html"
check_fails 1 "list.json is no report of kf-eval" "another JSON" "$R" --eval "$TMP/list.json" --out "$TMP/no.html"
check_fails 1 "list.json is no report of kf-eval" "another JSON after an evaluation" "$R" --eval "$TMP/eval.json" --eval "$TMP/list.json" --out "$TMP/no.html"
check_fails 1 "array.json" "a list" "$R" --eval "$TMP/array.json" --out "$TMP/no.html"
check_fails 1 "nowhere.json" "a report that is not there" "$R" --eval "$TMP/nowhere.json" --out "$TMP/no.html"
check_fails 1 "corpus has no kfuse.json" "a set where a model belongs" "$R" --model "$TMP/corpus" --out "$TMP/no.html"
check_fails 1 "fused" "a model where a set belongs" "$R" --set "$TMP/fused" --out "$TMP/no.html"
cp -r "$TMP/fused" "$TMP/torn"; echo '{"step": 1, "loss": }' >>"$TMP/torn/log.jsonl"
check_fails 1 "log.jsonl, line [0-9]+ is no JSON" "a damaged log" "$R" --model "$TMP/torn" --out "$TMP/no.html"
cp "$TMP/fused/log.jsonl" "$TMP/torn/log.jsonl"; printf '{"step": 99, "lo' >>"$TMP/torn/log.jsonl"
check "a log whose last line a killed run left" "$R" --quiet --model "fused=$TMP/torn" --out "$TMP/torn.html"
for log in "" "$(head -n 3 "$TMP/fused/log.jsonl")" "$(tail -n 3 "$TMP/fused/log.jsonl")"; do
	rm "$TMP/torn/log.jsonl"; [ -z "$log" ] || echo "$log" >"$TMP/torn/log.jsonl"
	check "a model whose log is elsewhere${log:+ in the end}" "$R" --quiet --model "torn=$TMP/torn" --model "clm=$TMP/clm" --out "$TMP/torn.html"
	check "is named, and has no curve" sh -c 'grep -q "not the log of all their training: <b>torn</b>\." "$1" && ! grep -q "<small class=\"path\">[^<]*torn</small></th><td class=\"left\">training" "$1"' sh "$TMP/torn.html"
done
check "nor alone on a page" "$R" --quiet --model "torn=$TMP/torn" --out "$TMP/torn.html"
check "is a model without a log passed over" grep -q "not the log of all their training: <b>torn</b>\." "$TMP/torn.html"
sed 's/"weights":\[null,\[[^]]*\]/"weights":[null,[1]/' "$TMP/trace.jsonl" >"$TMP/short.jsonl"
check_fails 1 "short.jsonl, line 1 is no document" "weights of other models" "$R" --trace "$TMP/short.jsonl" --out "$TMP/no.html"
sed 's/"cut":\[0,[0-9]*/"cut":[0,99999/' "$TMP/trace.jsonl" >"$TMP/far.jsonl"
check_fails 1 "far.jsonl, line 1 is no document" "tokens past the text" "$R" --trace "$TMP/far.jsonl" --out "$TMP/no.html"
check_fails 1 "no such model" "a result that was not evaluated" "$R" --eval "$TMP/eval.json" --result nobody --out "$TMP/no.html"
check "scores of tasks alone" "$BIN/kf-eval" --quiet --model "clm=$TMP/clm" --tasks "$TMP/quiz.jsonl" --report "$TMP/tasks-only.json"
check "have a page" "$R" --quiet --eval "$TMP/tasks-only.json" --result clm --out "$TMP/tasks-only.html"
check "which says that they were asked plainly" sh -c 'grep -q "acc, [0-9]* items<" "$1" && ! grep -q "in chat" "$1"' sh "$TMP/tasks-only.html"
check "scores after an example, in chat" "$BIN/kf-eval" --quiet --model "clm=$TMP/clm" --chat-template solar --shots 1 --tasks "$TMP/quiz.jsonl" --report "$TMP/tasks-chat.json"
check "have a page, too" "$R" --quiet --eval "$TMP/tasks-chat.json" --out "$TMP/tasks-chat.html"
check "which says so" grep -q "acc, [0-9]* items, 1 shot, in chat<" "$TMP/tasks-chat.html"
check "which claims nothing of bits per byte" sh -c '! grep -q "bits per byte" "$1"' sh "$TMP/tasks-only.html"
cp "$TMP/eval.json" "$TMP/over.json"; cp "$TMP/trace.jsonl" "$TMP/over.jsonl"
check_fails 2 "over.json is read, and would be written over" "a page in place of its evaluation" "$R" --eval "$TMP/over.json" --out "$TMP/over.json"
ln -sf over.jsonl "$TMP/link.html"
check_fails 2 "link.html is read" "and of its trace, by another name" "$R" --eval "$TMP/eval.json" --trace "$TMP/over.jsonl" --out "$TMP/link.html"
check_same "which stay" "$TMP/eval.json" "$TMP/over.json"
check_fails 2 "nothing to report" "nothing" "$R" --out "$TMP/no.html"
check_fails 2 "result" "a result of no evaluation" "$R" --set "$TMP/corpus" --result x --out "$TMP/no.html"
check "no page is left of a failure" test ! -e "$TMP/no.html"

# --- in a browser ---
browser=$(command -v chromium || command -v chromium-browser || command -v google-chrome)
if [ -z "$browser" ]; then skip "the page in a browser" "no chromium (Debian: apt-get install chromium)"; exit; fi
# show FILE WIDTH HASH OPTION...: the page as the browser has it, to standard output; what it complains about in $TMP/complaints
show() {
	env -u XDG_CONFIG_HOME -u XDG_CACHE_HOME HOME="$TMP/profile" timeout 120 "$browser" --headless=new --no-sandbox --disable-gpu --no-first-run --hide-scrollbars --user-data-dir="$TMP/profile" --enable-logging=stderr \
		--virtual-time-budget=4000 --window-size="$2",800 "${@:4}" --dump-dom "file://$1$3" 2>"$TMP/browser.err"
	grep "CONSOLE" "$TMP/browser.err" >"$TMP/complaints"
	! [ -s "$TMP/complaints" ]
}
if ! show "$TMP/eval.html" 800 "" >"$TMP/dom.html" && [ ! -s "$TMP/dom.html" ]; then
	skip "the page in a browser" "$browser shows no page here: $(tail -n 1 "$TMP/browser.err")"; exit
fi
check "a browser has no complaint" show "$TMP/page.html" 1280 ""
check "nor about a hostile title" show "$TMP/titled.html" 1280 ""
check "nor about several runs" show "$TMP/runs.html" 1280 ""
show "$TMP/page.html" 1280 "#passage-1-3" >"$TMP/dom.html"
check "a link to a token shows its candidates" python3 - "$TMP/dom.html" "$TMP/trace.jsonl" <<'END'
import html, json, re, sys
dom, trace = open(sys.argv[1]).read(), [json.loads(line) for line in open(sys.argv[2])]
assert '<html lang="en" class="live">' in dom
view = re.findall(r'<aside class="inspector".*?</aside>', dom, re.S)[1]
assert 'data-token="3"' in view, view[:200]
rows = re.findall(r"<tr[^>]*><th scope=\"row\"><code>(.*?)</code>.*?</tr>", view, re.S)
want = [c[0].replace(" ", "␣").replace("\n", "↵").replace("\t", "→") for c in trace[1]["candidates"][3]]
assert [html.unescape(r) for r in rows] == want, (rows, want)
assert view.count('class="label"') == (trace[1]["label"][3] >= 0)
END
python3 - "$TMP" <<'END'
import json, sys
with open(sys.argv[1] + "/trace.jsonl") as f, open(sys.argv[1] + "/turned.jsonl", "w") as g:
    for n, line in enumerate(f):
        t = json.loads(line)
        if n == 1: t["candidates"][3][0][0] = "\u202ea\u009b\u061cb\t"
        g.write(json.dumps(t) + "\n")
END
check "a page with a candidate that turns the direction" "$R" --quiet --trace "$TMP/turned.jsonl" --out "$TMP/turned.html"
show "$TMP/turned.html" 1280 "#passage-1-3" >"$TMP/dom.html"
check "which shows as what it is not" grep -q "<code>�a��b→</code>" "$TMP/dom.html"
# Widths and keys are looked at by a script of the test's, which the page's policy would stop. A window may not be as narrow as a
# phone: the page is made so instead.
for look in "page 390 light" "page 1280 dark" "runs 390 dark"; do
	read -r file width scheme <<<"$look"
	python3 - "$TMP/$file.html" "$TMP/probe.html" $width <<'END'
import re, sys
page, width = open(sys.argv[1]).read(), sys.argv[3]
page, n = re.subn(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
assert n == 1
probe = """<script>
document.querySelectorAll("details").forEach(function (d) { d.open = true; });
document.documentElement.style.width = "WIDTHpx";
var wide = [];
document.querySelectorAll("body *").forEach(function (e) {
  if (e.closest(".scroll, nav, .inspector, .hidden, defs")) return; // these scroll by themselves, or are not seen
  var r = e.getBoundingClientRect();
  if (r.width && (r.right > WIDTH + 0.5 || r.left < -0.5)) wide.push(e.tagName + "." + e.getAttribute("class") + " " + r.left + " " + r.right);
});
var box = document.querySelector(".tokens"), view = document.querySelector(".inspector"), was = Number(view.dataset.token);
var tokens = box.querySelectorAll(".t"), seen = [];
function over(p) { tokens[p].dispatchEvent(new PointerEvent("pointerover", { bubbles: true, pointerType: "mouse" })); seen.push(view.dataset.token); }
over(3);
function key(k) { box.dispatchEvent(new KeyboardEvent("keydown", { key: k, bubbles: true, cancelable: true })); seen.push(view.dataset.token); }
key("Home"); key("ArrowRight"); key("ArrowRight"); key("ArrowLeft"); key("End");
var steps = seen.length, hidden = 0;    // behind the table of the token, where that is at the page's foot
document.documentElement.style.scrollBehavior = "auto";
key("Home");
for (var p = 0; p < tokens.length; p++, key("ArrowRight")) {
  var r = tokens[p].getClientRects()[0], e = document.elementFromPoint(r.left + r.width / 2, r.top + r.height / 2);
  hidden += !e || !!e.closest(".inspector");
}
seen.length = steps;
tokens[5].click(); seen.push(view.dataset.token);
over(3); // which is held
function luminance(colour) {
  return colour.match(/[\d.]+/g).slice(0, 3).map(function (c) { c /= 255; return c <= 0.03928 ? c / 12.92 : Math.pow((c + 0.055) / 1.055, 2.4); })
    .reduce(function (sum, c, i) { return sum + c * [0.2126, 0.7152, 0.0722][i]; }, 0);
}
var paper = luminance(getComputedStyle(document.body).backgroundColor), contrast = ["h1", ".lead", "section > p", "summary", ".card .fine", ".inspector td"].map(function (s) {
  var e = document.querySelector(s), ink = e && luminance(getComputedStyle(e).color);
  return e ? (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05) : 99;
});
function shade(name) {
  var e = document.body.appendChild(document.createElement("i"));
  e.style.color = "var(--" + name + ")";
  return luminance(getComputedStyle(e).color);
}
["s0", "s1", "s2", "s3", "s4", "s5", "s6", "st"].forEach(function (name) { // the letters on them
  var c = shade(name), on = shade("on");
  contrast.push((Math.max(c, on) + 0.05) / (Math.min(c, on) + 0.05));
});
document.body.dataset.probe = JSON.stringify({ seen: seen, last: tokens.length - 1, on: box.querySelectorAll(".on").length, wide: wide.slice(0, 9),
  focus: box.tabIndex, hidden: hidden, paper: paper, contrast: contrast, titles: box.querySelectorAll("[title]").length });
</script></body>"""
open(sys.argv[2], "w").write(page.replace("</body>", probe.replace("WIDTH", width)))
END
	show "$TMP/probe.html" $width "" --blink-settings=preferredColorScheme=$([ $scheme = dark ]; echo $?) >"$TMP/dom.html"
	check "$file, $width pixels wide, $scheme: nothing sticks out, text stands out; pointer, keys and taps go from token to token" python3 - "$TMP/dom.html" $scheme <<'END'
import html, json, re, sys
probe = json.loads(html.unescape(re.search(r'data-probe="([^"]*)"', open(sys.argv[1]).read()).group(1)))
assert not probe["wide"], probe["wide"]
assert (probe["paper"] < 0.1) == (sys.argv[2] == "dark") and min(probe["contrast"]) >= 4.5, probe
assert probe["seen"] == ["3", "0", "1", "2", "1", str(probe["last"]), "5", "5"] and probe["on"] == 1 and probe["focus"] == 0 and probe["titles"] == probe["hidden"] == 0, probe
END
done
