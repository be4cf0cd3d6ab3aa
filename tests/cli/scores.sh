# kf-eval's figures of tasks beside the same numbers from kf-extract's probabilities of the same text, or by the definition: choices, solved
# examples, prompts longer than the context, conversations; pass@k, exact match and paired differences from what was answered.
. tests/lib.sh
cat > "$TMP/scores.py" <<'END'
import json, math, os, random, subprocess, sys
bin, tmp = sys.argv[1:3]
M = "tests/models"
rng = random.Random(3)

def run(program, *args):
    r = subprocess.run([f"{bin}/kf-{program}", *args, "--quiet"], capture_output=True, text=True)
    assert r.returncode == 0, r.stderr
    return r.stdout

def lines(path): return [json.loads(x) for x in open(path, encoding="utf-8")]

def config(model): return json.load(open(f"{M}/{model}/config.json"))

def write(name, head, items):
    with open(f"{tmp}/{name}", "w") as f:
        for x in ([head] if head else []) + items: f.write(json.dumps(x) + "\n")
    return f"{tmp}/{name}"

def evaluated(task, models, *more):
    """What kf-eval answers, {model: outputs}, and the task's figures."""
    run("eval", *(a for m in models for a in ("--model", f"{m}={M}/{m}")), "--tasks", task, "--outputs", f"{tmp}/o", "--report", f"{tmp}/r", *more)
    out = lines(f"{tmp}/o")
    tasks = json.load(open(f"{tmp}/r"))["tasks"]
    assert len(tasks) == 1
    return {m: [x for x in out if x["model"] == m] for m in models}, *tasks.values()

def extracted(model, records, *more):
    """What kf-extract says of every record (a text, or messages), all candidates kept."""
    for i, r in enumerate(records): r["id"] = f"r{i}"
    name = f"{tmp}/x{len(os.listdir(tmp))}"
    write("x.jsonl", None, records)
    run("prepare", "--out", name, "--shards", "1", "--normalize", "none", "--doc-bytes", "65536", f"{tmp}/x.jsonl")
    run("extract", "--model", f"{M}/{model}", "--corpus", name, "--out", name + ".l", "--precision", "f32", "--compute", "f32", "--top-k",
        str(config(model)["vocab_size"]), *more)
    got = [json.loads(x) for x in subprocess.run([f"{bin}/kf-inspect", name + ".l", "--json"], capture_output=True, text=True, check=True).stdout.splitlines()]
    assert [x["id"] for x in got] == [r["id"] for r in records]
    return got

def near(a, b, what): assert abs(a - b) < 1e-3, (what, a, b)

def choices(model, prompts, options):
    """Log-probabilities of options after their prompts."""
    heads = extracted(model, [{"text": p} for p in prompts])
    wholes = iter(extracted(model, [{"text": f"{p} {o}"} for p, os in zip(prompts, options) for o in os]))
    return [[-sum(next(wholes)["ce"][len(h["tokens"]):]) for _ in os] for h, os in zip(heads, options)]

QUIZ = [{"prompt": "The colour of snow is", "choices": ["white", "black", "a deep green"], "answer": 0}, {"prompt": "Two and two are", "choices": ["four", "five"], "answer": 0},
        {"prompt": "Birds", "choices": ["fly", "swim", "fly away to the south"], "answer": 2}, {"prompt": "It was the age of", "choices": ["wisdom", "iron"], "answer": 1}]
MODELS = ["llama-tiny", "qwen2-tiny", "gemma3-tiny"]

def plain():
    out, _ = evaluated(write("q.jsonl", {"task": "q", "kind": "choice"}, QUIZ), MODELS)
    for m in MODELS:
        for x, want in zip(out[m], choices(m, [q["prompt"] for q in QUIZ], [q["choices"] for q in QUIZ])):
            for a, b in zip(x["logprobs"], want): near(a, b, m)

def shots():
    task = write("q.jsonl", {"task": "q", "kind": "choice", "prefix": "Answer.\n", "separator": "\n--\n"}, QUIZ)
    out, _ = evaluated(task, MODELS, "--shots", "2")
    head = "Answer.\n" + "".join(f"{q['prompt']} {q['choices'][q['answer']]}\n--\n" for q in QUIZ[:2])
    for m in MODELS:
        assert len(out[m]) == 2
        for x, want in zip(out[m], choices(m, [head + q["prompt"] for q in QUIZ[2:]], [q["choices"] for q in QUIZ[2:]])):
            for a, b in zip(x["logprobs"], want): near(a, b, m)

def letters(n): return " ".join(rng.choice("abcdefghiklmnoprstuvwxyz") for _ in range(n))

def tail(model, text, keep):
    """The end of a text that is its last tokens, `keep` of them."""
    whole, = extracted(model, [{"text": text}])
    at = whole["start"][len(whole["tokens"]) - keep]
    cut = text.encode()[at:].decode()
    alone, = extracted(model, [{"text": cut}])
    assert alone["tokens"] == whole["tokens"][-keep:], "the cut is not between words"
    return cut

def long_choices():
    items = [{"prompt": letters(200), "choices": ["b c", "x y z"], "answer": 0}]
    items.append({"prompt": letters(20), "choices": ["b c", "x y z"], "answer": 0})
    out, figures = evaluated(write("q.jsonl", {"task": "q", "kind": "choice"}, items), MODELS[1:])
    for m in MODELS[1:]:
        context = config(m)["max_position_embeddings"]
        for x, q in zip(out[m][:1], items):
            for got, o in zip(x["logprobs"], q["choices"]):
                head, = extracted(m, [{"text": q["prompt"]}])
                whole, = extracted(m, [{"text": f"{q['prompt']} {o}"}])
                n = len(whole["tokens"]) - len(head["tokens"])
                # the context is full of BOS, where there is one, and all but the last token, which is only predicted
                last, bos = whole["tokens"][-1], whole["bos"]
                at = whole["start"][len(whole["tokens"]) - 1]
                text = f"{q['prompt']} {o}".encode()[:at].decode()
                cut = tail(m, text, context - bos)
                seen, = extracted(m, [{"text": cut}])
                final = dict(zip(seen["top_ids"][-1], seen["top_logprobs"][-1]))[last]
                near(got, final - sum(seen["ce"][len(seen["ce"]) - (n - 1):]), (m, o))
    assert figures["items"] == 2 and figures["cut"] == {m: 1 for m in MODELS[1:]}, figures

def long_prompts():
    prompts = [letters(200) for _ in range(4)]
    ask = lambda texts: write("q.jsonl", {"task": "q", "kind": "match", "max_tokens": 24, "stop": []}, [{"prompt": p, "answer": "x"} for p in texts])
    for m in MODELS[1:]:
        keep = config(m)["max_position_embeddings"] - 24
        whole, figures = evaluated(ask(prompts), [m], "--temperature", "1", "--markdown", f"{tmp}/md")
        assert figures["cut"] == {m: 4} and f"{m}, q: 4 of 4 prompts are longer than the context" in open(f"{tmp}/md").read(), figures
        bos = extracted(m, [{"text": "a"}])[0]["bos"]
        for lost, same in ((0, True), (1, False)):
            cut, figures = evaluated(ask([tail(m, p, keep - bos - lost) for p in prompts]), [m], "--temperature", "1")
            assert ([x["text"] for x in whole[m]] == [x["text"] for x in cut[m]]) == same and "cut" not in figures, (m, lost)
        few, figures = evaluated(ask(["a b"]), [m], "--max-tokens", "100")
        assert few[m][0]["tokens"] <= config(m)["max_position_embeddings"] // 2 and "cut" not in figures

def chat(template):
    out, _ = evaluated(write("q.jsonl", {"task": "q", "kind": "choice"}, QUIZ), MODELS, "--chat-template", template)
    records = [{"messages": [{"role": "user", "content": q["prompt"]}, {"role": "assistant", "content": o}]} for q in QUIZ for o in q["choices"]]
    for m in MODELS:
        said = iter(extracted(m, records, "--chat-template", template))
        for x in out[m]:
            for got in x["logprobs"]:
                d = next(said)
                # of the reply; what ends it has no bytes
                near(got, -sum(c for i, c in enumerate(d["ce"]) if not d["context"][i] and d["start"][i + 1] > d["start"][i]), (m, template))

def normalized():
    items = [{"prompt": letters(8), "answer": "x"} for _ in range(4)]
    first, _ = evaluated(write("q.jsonl", {"task": "q", "kind": "match", "max_tokens": 6, "stop": []}, items), MODELS[:1])
    texts = [x["text"] for x in first[MODELS[0]]]
    def judged(how, change):
        task = write("q.jsonl", {"task": "q", "kind": "match", "max_tokens": 6, "stop": [], "normalize": how}, [{**q, "answer": change(t)} for q, t in zip(items, texts)])
        out, figures = evaluated(task, MODELS[:1])
        right = [x["verdict"] == "right" for x in out[MODELS[0]]]
        near(figures["metrics"]["exact_match"]["models"][MODELS[0]]["value"], sum(right) / 4, how)
        return right
    assert all(judged("space", lambda t: f" {t}\n")) and not any(judged("space", lambda t: t + "."))
    assert any(c.isascii() and c.isalpha() for t in texts for c in t), texts
    assert all(judged("text", lambda t: f"{t.upper()} .!")) and not all(judged("text", lambda t: t + "q"))

def pass_at():
    test = "'''\ndef f():\n    return len(s) % 2\ndef check(c):\n    assert c() == 1\n"
    task = write("q.jsonl", None, [{"task_id": f"c/{i}", "prompt": "s = r'''" + "x" * i, "entry_point": "f", "test": test} for i in range(4)])
    m, n = MODELS[0], 12
    out, figures = evaluated(task, [m], "--samples", str(n), "--temperature", "1.5", "--max-tokens", "6", "--unsafe-code")
    passed = [sum(x["verdict"] == "passed" for x in out[m][i * n:i * n + n]) for i in range(4)]
    assert any(0 < c < n for c in passed), passed
    for k in (1, 10):
        want = sum(1 - math.comb(n - c, k) / math.comb(n, k) for c in passed) / 4
        near(figures["metrics"][f"pass@{k}"]["models"][m]["value"], want, (k, passed))
    assert list(figures["metrics"]) == ["pass@1", "pass@10"]

def paired():
    items = [{"prompt": letters(6), "choices": [letters(1 + i % 3), letters(4)], "answer": i % 2} for i in range(24)]
    a, b = MODELS[:2]
    out, figures = evaluated(write("q.jsonl", {"task": "q", "kind": "choice"}, items), [a, b], "--compare", f"{a},{b}")
    size = [len(q["choices"][q["answer"]]) for q in items]
    bits = {m: [-x["logprobs"][q["answer"]] / math.log(2) for x, q in zip(out[m], items)] for m in (a, b)}
    hits = {m: [float((x["logprobs"][1] > x["logprobs"][0]) == q["answer"]) for x, q in zip(out[m], items)] for m in (a, b)}
    for name, of, weight in (("bits_per_byte", bits, size), ("acc", hits, [1] * 24)):
        def figure(draw): return sum(of[a][i] - of[b][i] for i in draw) / sum(weight[i] for i in draw)
        drawn = sorted(figure(rng.choices(range(24), k=24)) for _ in range(4000))
        c, = figures["metrics"][name]["comparisons"]
        near(c["difference"], figure(range(24)), name)
        low, high = drawn[100], drawn[3900]
        assert abs(c["low"] - low) < 0.15 * (high - low) and abs(c["high"] - high) < 0.15 * (high - low), (name, c, low, high)

args = [(f, ()) for f in (plain, shots, long_choices, long_prompts, normalized, pass_at, paired)] + [(chat, (t,)) for t in ("plain", "mistral")]
failed = False
for f, a in args:
    name = " ".join(["scores:", f.__name__.replace("_", " "), *a])
    try:
        f(*a)
        print("ok", name)
    except AssertionError as e:
        failed = True
        print("not ok", name, "\n#  ", str(e)[:300])
END
mkdir "$TMP/w"
python3 "$TMP/scores.py" "$BIN" "$TMP/w"
