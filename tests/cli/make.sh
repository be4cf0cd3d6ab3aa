# What data/demo.mk promises, run for real on tiny models and a few lines of text: every command ends with its
# table, and a second time there is nothing to do.
. tests/lib.sh

D=$TMP/data W=$TMP/work
tiny_data "$D"
cp -a "$D" "$TMP/copy"; cp -a "$D" "$TMP/others"; cp tests/models/llama-untied/* "$TMP/others/models/llama-tiny/"
run() { make -s "$@" DATA="$D" WORK="$W" B="${BIN%/bin}" TARGET=qwen2-tiny DOMAINS="a b" DOCS=4 VALID_DOCS=2 TEST_DOCS=3 EPOCHS=2 LR=1e-3 THREADS=1 \
	SEED=2 LAMBDA=0.7 BATCH=1024 PATIENCE=3 COMPUTE=f32 DENSITY=0.4 SELECT=0.2 DOC_BYTES=1024 SHARDS=3; }
rows() { # REPORT MODEL...: the report has these rows, every value a number
	python3 - "$W/$1.json" "${@:2}" <<'END'
import json, math, sys
bpb = json.load(open(sys.argv[1]))["bits_per_byte"]
assert list(bpb) == sys.argv[2:], list(bpb)
assert all(math.isfinite(v) and 0 < v < 20 for row in bpb.values() for v in row.values()), bpb
END
}

both=(SOURCES="gemma3-tiny llama-tiny")
# A stage at a time: each ends with its folders, and the next goes on from there.
stage() { # NAME FOLDER...: makes it, with these as its last words, sets all of them
	local name=$1 want
	shift; want=$(printf "$W/docs4/%s\n" "$@")
	run "$name" SOURCES=llama-tiny >"$TMP/stage" && [ "$(tail -n $# "$TMP/stage")" = "$want" ] && for f in "$@"; do test -s "$W/docs4/$f/manifest.json" || return 1; done
}
todo() { run -n demo SOURCES=llama-tiny | grep -o 'kf-[a-z]* --[mcsto]' | sort -u | tr '\n' ' '; }
check "make stage-corpus" stage stage-corpus corpus/{train,valid,test}
check "make extract" stage extract logits/{train,test}/{qwen2-tiny,llama-tiny}
same "what is left to do" "$(todo)" "kf-align --s kf-eval --c kf-fuse --t kf-merge --m kf-report --o kf-train --m "
check "make stage-aligned" stage stage-aligned for-qwen2-tiny/aligned/train/llama-tiny
check "make stage-targets" stage stage-targets for-qwen2-tiny/targets/llama-tiny-dynamic-sequence-none
same "what is left to do" "$(todo)" "kf-eval --c kf-merge --m kf-report --o kf-train --m "
check "make fuse, which is all of it" run fuse SOURCES=llama-tiny
check "leaves make demo nothing" test -z "$(todo)"
check "make demo" run demo SOURCES=llama-tiny
check "make demo with two sources" run demo "${both[@]}"
check "its report" rows report gemma3-tiny llama-tiny target clm fused fused+clm
check "make pairs" run pairs "${both[@]}"
check "its report" rows pairs gemma3-tiny llama-tiny target clm target+gemma3-tiny target+llama-tiny linear slerp task-arithmetic ties dare varm sce
check "make pairs with one source" run pairs SOURCES=llama-tiny
check "its report has the mergers that one will do for" rows pairs llama-tiny target clm target+llama-tiny linear task-arithmetic ties dare varm
check "make pairs with two, again" run pairs "${both[@]}"
check "make baselines" run baselines "${both[@]}"
check "its report" rows baselines gemma3-tiny llama-tiny target clm kd merged fused ensemble
check "make continual" run continual SOURCES=llama-tiny ADD=gemma3-tiny
check "its report" rows continual gemma3-tiny llama-tiny target fused continual
for what in report pairs baselines continual; do
	check "make $what leaves a page" grep -q "</html>" "$W/$what.html"
done
check "with the curves of every trained model, and what each source gave" python3 - "$W/pairs.html" <<'END'
import sys
page = open(sys.argv[1]).read()
for section in "bits", "seen", "passages", "sources", "training", "alignment", "sizes", "provenance": assert f'<section id="{section}"' in page, section
training = page[page.index('id="training"'):page.index('id="alignment"')]
for name in "clm", "target+gemma3-tiny", "target+llama-tiny": assert name in training, name
END
check "weights fitted to validation text" run demo "${both[@]}" FUNCTION=domain
check "the papers' alignment, with a map of its own" run demo "${both[@]}" FUNCTION=min-ce LEVEL=token WEIGHT=advantage TAIL=renormalize ALIGN=dtw VOCAB_MAP=mined
check "text that a source makes of the training passages" run demo "${both[@]}" GENERATE=2 GENERATE_TOKENS=20
G=train-llama-tinyx2t20
check "of which everything is told, and on which only the fused model is trained" python3 - "$W/docs4" $G <<'END'
import glob, json, sys
of = lambda f: json.load(open(f))
at, g = sys.argv[1:]
trained = {f.split("/")[-2]: of(f)["paths"]["targets"] for f in glob.glob(at + "/for-qwen2-tiny/train/*/kfuse.json")}
fused = [t for n, t in trained.items() if n.startswith("fused") and "x2t20" in n]
assert len(fused) == 1 and fused[0].endswith(g.removeprefix("train")), trained
assert all("x2t20" not in t for n, t in trained.items() if n.startswith("clm")), trained
corpus = [i["fingerprint"] for i in of(at + "/logits/" + g + "/llama-tiny/manifest.json")["inputs"] if i["role"] == "corpus"]
assert corpus == [of(at + "/corpus/" + g + "/manifest.json")["identity"]], corpus
END
check_fails 2 "ADAPT=1 does not go with GENERATE=2" "which adapted sources do not go with" make -n demo GENERATE=2 ADAPT=1
check "FuseChat's, mixing" run demo "${both[@]}" ALIGN=dtw-chat VOCAB_MAP=stats ONE_TO_MANY=weighted
check "in a folder of its own" test -s "$W/docs4/for-qwen2-tiny/aligned/train/llama-tiny-dtw-chat-stats-weighted/manifest.json"
check "sources that are first trained on the text" run demo "${both[@]}" ADAPT=3 ADAPT_LR=3e-5 ADAPT_BATCH=600 FOLDS=3
check "a model a fold" test -s "$W/docs4/adapted/lr3e-5x3b600of3-seed2-f32-fold2/llama-tiny/config.json" -a -s "$W/docs4/for-qwen2-tiny/aligned/train/llama-tiny-adapted-lr3e-5x3b600of3-seed2-f32/manifest.json"
check "their report" rows report gemma3-tiny llama-tiny target clm fused fused+clm
check "the map is kept" test -s "$W/maps/llama-tiny-qwen2-tiny-mined.map"

# On the page the target is told from what is made of it, also where predictions are in folders that are not called like their models.
on_page() { python3 - "$W/report.html" <<'END'
import re, sys
page = open(sys.argv[1]).read()
bits = page[page.index('<section id="bits"'):page.index("Bits per byte as a table")]
print(*sorted({f"{name}: {mark}" for mark, name in re.findall(r'<g class="(s.)"><title>([^:]*):', bits)}), sep=", ")
END
}
check "make demo with predictions in float32" run demo SOURCES=llama-tiny EXTRACT_COMPUTE=f32
same "the page tells a source, the target, what is trained and the result" "$(on_page)" "clm: so, fused+clm: so, fused: sr, llama-tiny: s0, target: st"

# What was asked of make is what programs were asked.
check "predictions computed in another way" run "$W/docs4/logits/test/llama-tiny-bf16/manifest.json" "${both[@]}" EXTRACT_COMPUTE=bf16
check "make's variables reach the programs" python3 - "$W/docs4" <<'END'
import glob, json, sys
def options(path, **want):
    found = glob.glob(sys.argv[1] + "/" + path)
    assert len(found) == 1, (path, found)
    m = json.load(open(found[0]))
    same(path, {k: m["options"].get(k.replace("_", "-")) for k in want}, want)
    return m
def same(what, got, want):
    if got != want: wrong.append(f"{what}: {got}, not {want}")
wrong = []
for split, n in ("train", 4), ("valid", 2), ("test", 3):
    m = options(f"corpus/{split}/manifest.json", split=split, docs_per_domain=n, doc_bytes=1024, seed=2)
    same("shards", len(m["shards"]), 3)
options("logits/test/llama-tiny-bf16/manifest.json", compute="bf16")
of, mix, last, trained = "for-qwen2-tiny/", "gemma3-tiny+llama-tiny-dynamic-sequence-none", "-0.7-lr1e-3x2p3-b1024-seed2-f32", {
    "lr": 1e-3, "epochs": 2, "batch_tokens": 1024, "seed": 2, "patience": 3, "compute": "f32", "tail": "rest"}
options(of + "aligned/train/llama-tiny/manifest.json", method="byte", vocab_map="prefix", one_to_many="last")
options(of + "aligned/train/llama-tiny-dtw-mined/manifest.json", method="dtw", vocab_map="mined", one_to_many="last")
options(of + "aligned/train/llama-tiny-dtw-chat-stats-weighted/manifest.json", method="dtw-chat", vocab_map="stats", one_to_many="weighted")
options(of + f"targets/{mix}/manifest.json", function="dynamic", level="sequence", weight="none", tail="calibrated", with_target="yes")
papers = mix.replace("dynamic-sequence-none", "min-ce-token-advantage-dtw-mined-renormalize")
options(of + f"targets/{papers}/manifest.json", function="min-ce", level="token", weight="advantage", tail="renormalize")
options(of + f"targets/{mix.replace('dynamic', 'domain')}/manifest.json", function="domain")
options(of + "targets/kd-llama-tiny/manifest.json", with_target="no", tail="calibrated")
options(of + "targets/ensemble-gemma3-tiny+llama-tiny-dynamic/manifest.json", function="dynamic")
options(of + f"train/fused-{mix}{last}/kfuse.json", **{**trained, "lambda": 0.7})
options(of + f"train/fused-{papers}{last}/kfuse.json", **{**trained, "lambda": 0.7, "tail": "renormalize"})
options(of + f"train/kd-llama-tiny{last}/kfuse.json", **{**trained, "lambda": 0.7})
m = options(of + f"train/continual-gemma3-tiny-on-fused-llama-tiny-dynamic-sequence-none{last}/kfuse.json", **{**trained, "lambda": 0.7})
same("continual", ["/train/fused-llama-tiny-" in m["paths"]["model"], m["paths"]["targets"].endswith(mix)], [True, True])
m = options(of + f"train/clm{last[4:]}/kfuse.json", **{**trained, "lambda": 1})
same("clm", [p.split("/docs4/")[1] for p in (m["paths"]["targets"], m["paths"]["valid"])], ["logits/train/qwen2-tiny", "corpus/valid"])
for fold in range(3):
    m = options(f"adapted/lr3e-5x3b600of3-seed2-f32-fold{fold}/llama-tiny/kfuse.json",
                **{"lambda": 1, "lr": 3e-5, "epochs": 3, "batch_tokens": 600, "seed": 2, "fold": f"{fold}/3 by id", "compute": "f32", "dtype": "bf16"})
    options(f"logits/train/llama-tiny-adapted-lr3e-5x3b600of3-seed2-f32-fold{fold}/manifest.json", fold=f"{fold}/3 by id")
for name, want in {"linear": {}, "slerp": {}, "task-arithmetic": {}, "varm": {}, "ties0.4": {"density": 0.4}, "dare0.4": {"density": 0.4, "seed": 2}, "sce0.2": {"select": 0.2}}.items():
    for file in "kfuse.json", "merge.json":
        m = options(of + f"merged/{name}-{mix}{last}/{file}", method=name.rstrip("0.24"), **want)
    same(name, [p["path"].split("/train/")[1] for p in m["models"]], [f"fused-{s}-dynamic-sequence-none{last}" for s in ("gemma3-tiny", "llama-tiny")])
m = options(of + f"merged/halfway-{mix}{last}/merge.json", method="linear", weights=[1, 1])
same("halfway", [p["path"].split("/train/")[1] for p in m["models"]], ["clm" + last[4:], f"fused-{mix}{last}"])
assert not wrong, "\n".join(wrong)
END
for what in demo pairs baselines; do
	run $what "${both[@]}" --trace > "$TMP/traced" 2>/dev/null; status=$?
	check "make $what a second time runs no program" test $status -eq 0 -a -z "$(grep -oE 'bin/kf-[a-z]+ --.*' "$TMP/traced")" -a -n "$(grep "^Saved as" "$TMP/traced")"
done

# Tasks in the reports, and nothing else made again for them.
mkdir -p "$D/tasks"
printf '%s\n' '{"task": "quiz", "kind": "choice"}' '{"prompt": "The fox is", "choices": ["quick", "lazy"], "answer": 0}' \
	'{"prompt": "The dogs are", "choices": ["quick", "lazy"], "answer": 1}' > "$D/tasks/quiz.jsonl"
run pairs "${both[@]}" TASKS=quiz --trace > "$TMP/traced" 2>/dev/null; status=$?
grep -oE 'bin/kf-[a-z]+ --' "$TMP/traced" | sort | uniq -c > "$TMP/ran"
check "make pairs with tasks runs the evaluation and its page" test $status -eq 0 -a "$(awk '{ print $1, $2 }' "$TMP/ran" | tr '\n' ' ')" = "1 bin/kf-eval 1 bin/kf-report "
check "and nothing a second time" test -z "$(run pairs "${both[@]}" TASKS=quiz --trace 2>/dev/null | grep -oE 'bin/kf-[a-z]+ --.*')"
check "every model is asked, and what was seen in training counted" python3 - "$W/pairs.json" <<'END'
import json, sys
r = json.load(open(sys.argv[1]))
assert list(r["tasks"]["quiz"]["metrics"]["acc"]["models"]) == list(r["bits_per_byte"]), r["tasks"]
assert r["overlap"]["tasks"]["quiz"]["items"] == 2 and set(r["overlap"]["text"]) == {"a", "b"}
END
check "make tasks" run tasks "${both[@]}" TASKS=quiz TASK_LIMIT=1
check "as many items as asked for" grep -q '"items": 1' "$W/tasks.json"
check "its report" python3 -c 'import json,sys; assert list(json.load(open(sys.argv[1]))["tasks"]["quiz"]["metrics"]["acc"]["models"]) == ["qwen2-tiny", "gemma3-tiny", "llama-tiny"]' "$W/tasks.json"

# On conversations: tiny models have no templates of their own.
for i in $(seq 40); do
	printf '{"id": "t%d", "domain": "talks", "messages": [{"role": "user", "content": "Question %d?"}, {"role": "assistant", "content": "The answer is %d, of course."}]}\n' $i $i $((i * 3))
done > "$D/text/talks.jsonl"
check "make fusechat-demo" run fusechat-demo "${both[@]}" CHAT_DOMAINS=talks CHAT_WORK="$W/chat" CHAT_TEMPLATE_qwen2-tiny=chatml \
	CHAT_TEMPLATE_llama-tiny=smollm2 CHAT_TEMPLATE_gemma3-tiny=gemma3
check "its report" rows chat/pairs gemma3-tiny llama-tiny target clm target+gemma3-tiny target+llama-tiny linear slerp task-arithmetic ties dare varm sce
given() { make -s -n fusechat-demo DATA="$D" TARGET=qwen2-tiny "${both[@]}" "$@" | grep -oE '(WORK|DOMAINS)=("[^"]*"|[^ ]*)' | tr '\n' ' '; }
same "it takes the command line's WORK and DOMAINS" "$(given WORK=there DOMAINS=talks)" 'WORK=there DOMAINS="talks" '
same "and has its own otherwise" "$(WORK=elsewhere given)" 'WORK=work/fusechat DOMAINS="faq chitchat" '
check "of conversations" grep -q '"format": *2' "$W/chat/docs4/corpus/test/manifest.json"
# Every model that is run is asked with its own template: the target and what comes of it, each source, of which one has the one it came with.
asked() { run "$@" "${both[@]}" TASKS=quiz 2>&1 | sed -e ':a' -e '/\\$/N; s/\\\n//; ta' | grep -oE 'bin/kf-eval .*' | grep -oE -- '--chat-template [^ ]*' | sort | tr '\n' ' '; }
t="--chat-template" named=(CHAT_TEMPLATE_qwen2-tiny=chatml CHAT_TEMPLATE_llama-tiny=plain)
same "the reports ask each model with its own template" "$(asked demo -n "${named[@]}")" "$t clm=chatml $t fused+clm=chatml $t fused=chatml $t gemma3-tiny=own $t llama-tiny=plain $t target=chatml "
same "so does make tasks" "$(asked tasks -n "${named[@]}")" "$t gemma3-tiny=own $t llama-tiny=plain $t qwen2-tiny=chatml "
same "and all in plain text where none is named" "$(asked demo -n)$(asked tasks -n)" ""
check "which kf-eval takes" run demo "${both[@]}" TASKS=quiz "${named[@]}" CHAT_TEMPLATE_gemma3-tiny=gemma3
# Conversations in one split only: the others are text.
for i in $(seq 20); do printf '{"id": "m%d", "domain": "c", "split": "train", "messages": [{"role": "user", "content": "Question %d?"}, {"role": "assistant", "content": "Of course."}]}\n' $i $i
done > "$D/text/c.jsonl"
mixed() { make -s demo SOURCES=llama-tiny DATA="$D" WORK="$W/mixed" B="${BIN%/bin}" TARGET=qwen2-tiny DOMAINS="a c" DOCS=4 VALID_DOCS=2 TEST_DOCS=3 EPOCHS=1 THREADS=1 CHAT_TEMPLATE_qwen2-tiny=chatml CHAT_TEMPLATE_llama-tiny=plain "$@"; }
check "conversations that are in the training text only" mixed
check "which are there" grep -q '"format": *2' "$W/mixed/docs4/corpus/train/manifest.json"
check "a second time nothing runs" test -z "$(mixed --trace 2>/dev/null | grep -oE 'bin/kf-[a-z]+ --.*')"
check_fails 2 'option --chat-template: "chatml" there, "plain" here' "another template" mixed CHAT_TEMPLATE_qwen2-tiny=plain
check_fails 2 "has no chat template" "none, where the model has none" mixed CHAT_TEMPLATE_llama-tiny=
check "the one of before: nothing runs" test -z "$(mixed --trace 2>/dev/null | grep -oE 'bin/kf-[a-z]+ --.*')"
# The same names in another DATA, with the text where it was: models that are others are refused, and the same ones taken.
elsewhere() { D=$1 run demo "${both[@]}" TEXT="$D/text/a.jsonl $D/text/b.jsonl" "${@:2}"; }
check_fails 2 "input model differs" "another DATA with another model" elsewhere "$TMP/others"
check "and back" elsewhere "$D"
check "another DATA with the same models" elsewhere "$TMP/copy"
check "a second time nothing runs" test -z "$(elsewhere "$TMP/copy" --trace 2>/dev/null | grep -oE 'bin/kf-[a-z]+ --.*')"
o=${BIN%/bin}/obj/mpi/common/base/ranks_mpi.o
remade() { make -n "$o" B="${BIN%/bin}" "$@" | grep -c "^echo.*mpicc.*ranks_mpi.c"; }
if [ -e "$o" ]; then
	same "what is compiled for MPI is there" "$(remade)" 0
	same "and is made again by another compiler" "$(remade MPICC=another-mpicc)" 1
else skip "another MPICC" "nothing is compiled for MPI: make deps MPI=1"; fi
check_fails 2 "which model to add" "continual wants a model" run continual SOURCES=llama-tiny

# The comparisons of the papers, in miniature.
check_fails 2 "LAMBDA=0.3 does nothing here" "make experiments with a variable of the demo" make -n experiments LAMBDA=0.3
same "seeds as words" "$(make -n experiments SEEDS="1 2" SOURCES="a b" B="${BIN%/bin}" 2>/dev/null | grep -c -- '--seeds "1 2"')" 1
same "no questions" "$(make -n experiments TASKS= SOURCES="a b" B="${BIN%/bin}" 2>/dev/null | grep -c -- '--tasks ""')" 1
experiments() { make -s experiments SIZE=tiny DATA="$D" EXPERIMENTS="$W/experiments" B="${BIN%/bin}" TARGET=qwen2-tiny "${both[@]}" DOMAINS="a b" \
	EXPERT_DOMAINS="a b" LANGUAGE_DOMAINS="a b" CHAT_DOMAINS=talks CHAT_TEMPLATE_qwen2-tiny=chatml CHAT_TEMPLATE_llama-tiny=smollm2 CHAT_TEMPLATE_gemma3-tiny=gemma3 THREADS=1 TASKS=quiz "$@"; }
check_fails 2 "ONLY=a,x: there is no experiment 'x': name some of a, b, c, d" "make experiments of one there is not" experiments ONLY=a,x
check_fails 2 "ONLY names no experiment" "make experiments of none" experiments ONLY=,
check_fails 2 "SEEDS=x: 'x' is no whole number" "make experiments with a seed that is none" experiments SEEDS=x
check_fails 2 "SOURCES is empty" "make demo without sources" run demo SOURCES=
check_fails 2 "JOBS=0: must be at least 1" "make experiments with no training at a time" experiments JOBS=0
check "make experiments, two trainings at a time" experiments JOBS=2
check "every method on every seed, in four tables" python3 - "$W/experiments/tiny/results.json" <<'END'
import json, math, sys
parts = json.load(open(sys.argv[1]))["parts"]
assert list(parts) == ["A", "B", "C", "D"]
for name, p in parts.items():
    assert list(p["seeds"]) == ["1", "2"], p["seeds"].keys()
    assert (p["target"], p["sources"]) == ("qwen2-tiny", ["gemma3-tiny", "llama-tiny"]) and p["date"], p
    for s in p["seeds"].values():
        assert set(p["rows"]) == set(s["bits_per_byte"]), (name, p["rows"], list(s["bits_per_byte"]))
        assert all(math.isfinite(v) for row in s["bits_per_byte"].values() for v in row.values())
        # all are asked but the ensemble, which is no model; perplexity and overlap are kept
        asked = s["tasks"]["quiz"]["metrics"]["acc"]["models"]
        assert set(asked) == set(p["rows"]) - {"ensemble"} and s["overlap"]["tasks"]["quiz"]["items"] == 2, (name, list(asked))
        assert set(s["overlap"]["text"]) == set(s["documents"]) and all(math.isfinite(s["perplexity"][m]["mean"]) for m in p["rows"])
assert {t["lambda"] for t in parts["A"]["tried"]["kfuse"]} == {"0.9", "0.3"} and len(parts["A"]["tried"]["kfuse"]) == 3
assert parts["D"]["rows"] == ["gemma3-tiny", "llama-tiny", "target", "clm", "min-ce dtw exact", "kfuse", "clm + clm", "kfuse + clm", "clm soup", "kfuse soup", "ensemble"], parts["D"]["rows"]
END
check "the best on the first seed's validation text is what the others are" python3 - "$W/experiments/tiny" "$TMP" <<'END'
import importlib.util, json, os, sys
at = sys.argv[1]
for name, p in json.load(open(at + "/results.json"))["parts"].items():
    commands = {s: json.load(open(f"{at}/{name}-seed{s}.json.cmd")) for s in (1, 2)}
    folders = {s: dict(c[i + 1].split("=", 1) for i, w in enumerate(c) if w == "--model") for s, c in commands.items()}
    for m, tried in p["tried"].items():
        assert tried[0]["valid"] == min(t["valid"] for t in tried), (name, m, tried)
        assert tried[0]["folder"] == folders[1][m], (name, m, tried[0], folders[1][m])
        for s in 1, 2:
            made = json.load(open(folders[s][m] + "/kfuse.json"))
            assert f"/{name}-seed{s}/" in folders[s][m] and made["options"]["seed"] == s
            assert [made["options"][k] for k in ("lambda", "lr")] == [float(tried[0][k]) for k in ("lambda", "lr")], (name, m, s, made["options"], tried[0])
        for t in tried:
            made = json.load(open(t["folder"] + "/kfuse.json"))
            assert abs(made["result"]["valid_bits_per_byte"] - t["valid"]) < 1e-9 and made["options"]["lambda"] == float(t["lambda"]), (name, m, t, made)
        # other learning rates are tried at the best lambda of the first
        first = [t for t in tried if t["lr"] == "1e-4"]
        if first:
            best = min(first, key=lambda t: t["valid"])
            assert all(t["lambda"] == best["lambda"] for t in tried if t not in first), (name, m, tried)
tried = json.load(open(at + "/results.json"))["parts"]["A"]["tried"]
assert any(len({t["valid"] for t in x}) == 3 for x in tried.values()), tried    # so that there is a choice
bits = json.load(open(at + "/A-sources.json"))["bits_per_byte"]     # distilled: the better of the sources
assert "/kd-%s-" % min(("gemma3-tiny", "llama-tiny"), key=lambda m: bits[m]["mean"]) in tried["kd"][0]["folder"], (bits, tried["kd"])
spec = importlib.util.spec_from_file_location("experiments", "data/experiments.py")
sys.dont_write_bytecode = True
e = importlib.util.module_from_spec(spec); spec.loader.exec_module(e)
with open(sys.argv[2] + "/log.jsonl", "w") as f:
    for v in 2.4, 2.7, 2.5, 2.6: f.write(json.dumps({"valid_bits_per_byte": v}) + '\n{"step": 1}\n')
assert e.validation(sys.argv[2]) == (2.5, 2), e.validation(sys.argv[2])    # of the epochs; before the first is none
END
check "bits per byte, perplexity, scores: a row a model in the table" test "$(grep -c '^| kfuse |' "$W/experiments/tiny/A.md")$(grep -c '^| joint |' "$W/experiments/tiny/C.md")" = 33
for part in A B C D; do
	check "and a page over the seeds: $part" grep -q '<section id="runs">' "$W/experiments/tiny/$part.html"
	check "with training curves" grep -q '<section id="training">' "$W/experiments/tiny/$part.html"
	check "and who taught which token" grep -q '<section id="passages">' "$W/experiments/tiny/$part.html"
done
check "another size, and fewer rows" experiments ONLY=a,b SEEDS=1 METHODS="min-ce dtw exact" DOCS=1 EPOCHS=2 TASKS= EXPERIMENTS="$W/own"
check "and with other epochs" experiments ONLY=b SEEDS=1 METHODS=kfuse DOCS=1 EPOCHS=1 TASKS= EXPERIMENTS="$W/own"
check "which the tables have" python3 - "$W/own/tiny" <<'END'
import json, sys
parts = json.load(open(sys.argv[1] + "/results.json"))["parts"]
assert list(parts["A"]["tried"]) == ["clm", "min-ce dtw exact", "kfuse"] and list(parts["B"]["tried"]) == ["clm", "kfuse"], parts
made = json.load(open(parts["A"]["tried"]["kfuse"][0]["folder"] + "/kfuse.json"))
assert "/docs1/" in made["paths"]["targets"] and made["options"]["epochs"] == 2, made
END
check "with text that is generated" experiments ONLY=d SEEDS=1 METHODS="kfuse generated" TASKS= EXPERIMENTS="$W/more"
check "by the better source, which the overlap is counted with" python3 - "$W/more/tiny" <<'END'
import json, sys
at = sys.argv[1]
row = json.load(open(at + "/results.json"))["parts"]["D"]["tried"]["kfuse generated"][0]
bits = json.load(open(at + "/D-sources.json"))["bits_per_byte"]
best = min(("gemma3-tiny", "llama-tiny"), key=lambda m: bits[m]["mean"])
assert f"-{best}x4-" in row["folder"], (row, bits)
command = json.load(open(at + "/D-seed1.json.cmd"))
assert command[command.index("--overlap") + 1].endswith(f"/corpus/train-{best}x4") and "kfuse generated,clm" in command, command
END
# Asked to end, it ends what it has begun: a training keeps its checkpoint, and nothing runs on.
stopped() {
	local at=$W/stopped python i
	experiments ONLY=a SEEDS=1 METHODS=kfuse EPOCHS=100000 LAMBDAS=0.5 LRS=1e-4 TASKS= JOBS=2 EXPERIMENTS="$at" >"$TMP/stopped.out" 2>&1 & local pid=$!
	for i in $(seq 3000); do [ "$(cat $(find "$at" -name log.jsonl 2>/dev/null) /dev/null | wc -l)" -gt 20 ] && break; sleep 0.1; done
	python=$(pgrep -f "experiments.py .*--work $at ") && kill -TERM $python
	wait $pid
	cat "$TMP/stopped.out"; find "$at" -name '*.ckpt'
	! pgrep -f "kf-train .*$at/" && grep -q "stopped by SIGTERM; the same command goes on" "$TMP/stopped.out" && [ -n "$(find "$at" -name 'step-*.ckpt')" ]
}
check "make experiments, asked to end" stopped
touch "$TMP/before"
check "make experiments a second time" experiments ONLY=b; cp "$TMP/.out" "$TMP/again"
check "a second time nothing is merged or evaluated" test "$(find "$W/experiments" -newer "$TMP/before" \( -name config.json -o -name 'B-seed*.json' \) | wc -l)" = 0
check "a second time nothing is trained" test "$(grep -c "valid" "$TMP/again")" -gt 0 -a "$(find "$W/experiments" -name log.jsonl -newer "$W/experiments/tiny/D-seed2.json" | wc -l)" = 0
