# data/experiments.py by itself: how it searches, and which runs a soup is made of, with programs and trainings that are stood in for.
. tests/lib.sh
cat > "$TMP/experiments.py" <<'END'
import importlib.util, io, json, os, shutil, sys, threading, time, types
sys.dont_write_bytecode = True
spec = importlib.util.spec_from_file_location("experiments", "data/experiments.py")
experiments = importlib.util.module_from_spec(spec)
spec.loader.exec_module(experiments)
experiments.say = lambda text: None
Method = experiments.Method
tmp = sys.argv[1]

class Stub(experiments.Experiments):
    """Nothing is trained: valid(method, lambda, lr) says what would come of it, mixed(folders) what of a mean."""
    def __init__(self, valid=None, mixed=None, lambdas=("0.9", "0.5", "0.3"), lrs=("1e-4", "5e-5"), seeds=(1, 2)):
        self.size = {"lambdas": list(lambdas), "lrs": list(lrs), "d": {}}
        self.args, self.wanted = types.SimpleNamespace(threads=1, jobs=1, replace=False), experiments.chosen_rows(None)
        self.work, self.bin, self.sources, self.seeds, self.runs, self.done, self.start = tmp, tmp + "/bin/", ["s"], list(seeds), 0, 0, 0
        self.valid, self.mixed, self.trained, self.means, self.evaluated, self.asked = valid, mixed, [], [], {}, []

    def make(self, goal, **variables): return ""

    def train(self, label, method, lam, lr, base):
        folder = f"{base['WORK']}/{method.name}-{lam}-{lr}"
        self.trained.append((method.name, lam, lr, base["SEED"]))
        return {"folder": folder, "lambda": lam, "lr": lr, "valid": self.valid(method.name, lam, lr), "epoch": 1}

class Soup(Stub):
    def validated(self, base, models):
        assert models == sorted(models)
        self.asked.append(models)
        return self.mixed([os.path.basename(m) for m in models])

class Whole(Soup):
    def table_a(self, part, base): return [Method("clm", "train-clm", lam="1"), Method("kd", "train-kd"), Method("kfuse", "train-fused")]
    def logits(self, base, split): return []
    def folder(self, goal, **variables): return "ensemble"
    def mean(self, work, models, seed): return "mean of " + " + ".join(map(os.path.basename, models)) if models[0] != models[-1] else models[0]
    def evaluate(self, name, base, rows, compare, folders, learnt=None): self.evaluated[name] = folders
    def page(self, *a): pass
    def keep(self, part, reports, tried, rows, reference): self.rows = rows

def base(seed=1): return {"WORK": "w%d" % seed, "SEED": seed, "DOCS": 2}
def runs(*names): return [(Method(n.split("-")[0], "train-x"), {"folder": "w1/" + n, "lambda": "1", "lr": "1e-4"}) for n in names]
def chosen(s, *names): return [os.path.basename(t["folder"]) for _, t in s.soup("soup", base(), runs(*names))]

def searched(s, method):
    """What was tried of it on one seed."""
    s.seeds = [1]
    return s.searched("x", [method], base)[1][method.name]

def the_search_takes_lambda_first_and_then_the_learning_rate_at_the_best():
    # the best pair of all, 0.9 at 5e-5, is not looked for
    table = {("0.9", "1e-4"): 1.3, ("0.5", "1e-4"): 1.1, ("0.3", "1e-4"): 1.2, ("0.5", "5e-5"): 1.0, ("0.9", "5e-5"): 0.1}
    s = Stub(lambda m, lam, lr: table[lam, lr])
    tried = searched(s, Method("kfuse", "train-fused"))
    assert s.trained == [("kfuse", l, r, 1) for l, r in (("0.9", "1e-4"), ("0.5", "1e-4"), ("0.3", "1e-4"), ("0.5", "5e-5"))], s.trained
    assert [(t["lambda"], t["lr"]) for t in tried] == [("0.5", "5e-5"), ("0.5", "1e-4"), ("0.3", "1e-4"), ("0.9", "1e-4")]

def of_equal_lambdas_the_first_is_gone_on_with():
    s = Stub(lambda m, lam, lr: 1.0)
    assert [t["lambda"] for t in searched(s, Method("kfuse", "t"))] == ["0.9", "0.5", "0.3", "0.9"]

def a_method_with_its_lambda_has_learning_rates_to_search_only():
    s = Stub(lambda m, lam, lr: float(lr))
    tried = searched(s, Method("clm", "t", lam="1"))
    assert [(t["lambda"], t["lr"]) for t in tried] == [("1", "5e-5"), ("1", "1e-4")]

def other_seeds_are_run_as_found_on_the_first():
    s = Stub(lambda m, lam, lr: float(lam) + 1000 * float(lr), seeds=(3, 1, 2))
    found, tried = s.searched("A", [Method("clm", "t", lam="1"), Method("kfuse", "t")], base)
    assert {k: (v["kfuse"]["lambda"], v["kfuse"]["lr"]) for k, v in found.items()} == {k: ("0.3", "5e-5") for k in (3, 1, 2)}
    assert sorted(t for t in s.trained if t[3] != 3) == [("clm", "1", "5e-5", 1), ("clm", "1", "5e-5", 2), ("kfuse", "0.3", "5e-5", 1), ("kfuse", "0.3", "5e-5", 2)]
    assert [list(v) for v in found.values()] == [["clm", "kfuse"]] * 3
    assert s.runs == len(s.trained), (s.runs, s.trained)

class Side(Stub):
    """Trainings that end only when two are going on; the makes and trainings in the order they began."""
    def __init__(self, fails=None):
        super().__init__()
        self.args.jobs, self.begun, self.fails, self.two, self.lock = 2, [], fails, threading.Barrier(2), threading.Lock()
    def make(self, goal, **variables): self.begun.append((goal, variables["SEED"], variables.get("KD")))
    def train(self, label, method, lam, lr, base):
        with self.lock: self.begun.append(lam)
        self.two.wait(60)
        if lam == self.fails: sys.exit("out of luck")
        if self.fails: time.sleep(0.2)      # for the failure to be seen
        return lam

def trainings_go_side_by_side_when_what_they_learn_from_is_there():
    s, m, kd = Side(), Method("kfuse", "train-fused"), Method("kd", "train-kd", KD="s")
    assert s.train_all([("", m, "1", "1e-4", base(1)), ("", m, "2", "1e-4", base(1)), ("", kd, "3", "1e-4", base(2)), ("", m, "4", "1e-4", base(2))]) == ["1", "2", "3", "4"]
    made = {run: s.begun.index(ready) for run, ready in (("1", ("ready-fused", 1, None)), ("2", ("ready-fused", 1, None)), ("3", ("ready-kd", 2, "s")), ("4", ("ready-fused", 2, None)))}
    assert len(s.begun) == 7 and all(at < s.begun.index(run) for run, at in made.items()), s.begun

def no_core_waits_for_the_last_of_a_round():
    s, slow = Stub(lambda m, lam, lr: float(lam)), threading.Event()
    s.args.jobs = 2
    def train(label, method, lam, lr, base):
        if (method.name, lam) == ("kd", "0.3"): slow.wait(60)                    # the last lambda of one method ends when all of the other is done
        r = Stub.train(s, label, method, lam, lr, base)
        if sum(t[0] == "kfuse" for t in s.trained) == 5: slow.set()
        return r
    s.train = train
    found, tried = s.searched("A", [Method("kd", "t"), Method("kfuse", "t")], base)
    assert slow.is_set() and len(s.trained) == s.runs == 10 and found[2]["kd"]["lambda"] == "0.3", s.trained

def after_one_that_failed_none_is_begun():
    s, m = Side(fails="1"), Method("kfuse", "train-fused")
    try:
        s.train_all([("", m, str(i), "1e-4", base()) for i in range(1, 31)])
        raise AssertionError("it goes on")
    except SystemExit as e:
        assert e.code == "out of luck" and len(s.begun) < 30, s.begun

def a_soup_takes_the_best_one_by_one_until_none_makes_it_better():
    # a is the best alone, c the best beside it, then nothing
    bits = {"a": 1.0, "b": 1.1, "c": 1.5, "a+b": 0.98, "a+c": 0.9, "a+a": 1.0, "a+a+c": 0.91, "a+b+c": 0.92, "a+c+c": 0.95}
    assert chosen(Soup(mixed=lambda m: bits["+".join(m)]), "a", "b", "c") == ["a", "c"]

def a_soup_may_take_one_again_and_ends_at_four():
    s = Soup(mixed=lambda m: 1 / len(m) + (0 if m[0] == "b" else 1))
    assert chosen(s, "a", "b") == ["b", "b", "b", "b"] and max(map(len, s.asked)) == 4 == experiments.SOUP

def what_is_as_good_does_not_enter_a_soup():
    assert chosen(Soup(mixed=lambda m: 1.0), "a", "b", "c") == ["a"]

def of_equals_a_soup_takes_the_first():
    bits = {"b": 1.0, "a": 1.0, "b+b": 0.9, "a+b": 0.9, "a+b+b": 1.0, "b+b+b": 1.0, "a+a+b": 1.0, "a+a": 0.9}
    assert chosen(Soup(mixed=lambda m: bits["+".join(m)]), "b", "a") == ["b", "b"]

def a_soup_of_one_candidate_is_that():
    s = Soup(mixed=lambda m: 1.0)
    assert chosen(s, "a") == ["a"] and len(s.asked) == 2

def runs_of_clm_are_among_those_of_kfuses_soup():
    # fused runs and CLM's are good together: two and two
    def mixed(m):
        clm = sum(x.startswith("clm") for x in m)
        return 1 + abs(clm - len(m) / 2) / 10 + 1 / len(m) - (0.01 if any("5e-5" in x for x in m) else 0) + (0.5 if len(m) == 1 and clm else 0)
    s = Whole(lambda m, lam, lr: {"clm": 1.2, "kd": 1.3, "kfuse": 1.1}[m] + (float(lr) if m == "clm" else float(lam) / 100), mixed)
    s.compared("A", "title", base, ["clm", "kd", "kfuse"], s.size)
    candidates = {x for ms in s.asked for x in map(os.path.basename, ms)}
    assert candidates == {"clm-1-1e-4", "clm-1-5e-5", *(f"kfuse-{l}-1e-4" for l in ("0.9", "0.5", "0.3")), "kfuse-0.3-5e-5"}, candidates
    soup = s.evaluated["A-seed1"]["kfuse soup"]
    assert soup.count("clm") == 2 == soup.count("kfuse"), soup
    assert "kfuse" not in s.evaluated["A-seed1"]["clm soup"]
    # seed 2 has the same runs, trained there
    assert s.evaluated["A-seed2"]["kfuse soup"] == soup
    again = {t[:3] for t in s.trained if t[3] == 2}
    assert {tuple(x.split("-", 2)) for x in soup.removeprefix("mean of ").split(" + ")} <= again, (soup, again)
    assert s.runs == len(s.trained), (s.runs, len(s.trained))
    assert s.rows[-3:] == ["clm soup", "kfuse soup", "ensemble"]

def rows_that_are_not_asked_for_are_not_trained():
    assert experiments.chosen_rows(None) == [m.name for m in experiments.TABLE_A][:-1] == experiments.chosen_rows("")
    assert experiments.chosen_rows("kfuse generated") == ["clm", "kfuse", "kfuse generated"]
    assert experiments.chosen_rows("min-ce dtw exact , kd") == ["clm", "kd", "min-ce dtw exact", "kfuse"]
    s = Whole(lambda m, lam, lr: 1.0, lambda m: 1.0, seeds=(1,))
    s.wanted = experiments.chosen_rows("kfuse")
    s.compared("A", "title", base, ["clm", "kd", "kfuse"], s.size)
    assert {t[0] for t in s.trained} == {"clm", "kfuse"} and s.rows == ["s", "target", "clm", "kfuse", "clm + clm", "kfuse + clm", "clm soup", "kfuse soup", "ensemble"], s.rows
    assert s.runs == len(s.trained), (s.runs, s.trained)
    try:
        experiments.chosen_rows("kd,min ce")
        raise AssertionError("taken")
    except SystemExit as e:
        assert "no row 'min ce'" in e.code and "min-ce dtw mined" in e.code, e.code

def a_size_of_ones_own_holds_in_every_part():
    a = types.SimpleNamespace(size="small", docs=7, epochs=2, lambdas=None, lrs=None, methods=None, tasks=None, task_limit=None, threads=0, jobs=64, bin="b", work=tmp + "/own",
                              data="d", target="t", sources="s", domains="x", seeds=None)
    e = experiments.Experiments(a)
    size = e.size
    assert e.train_threads == 1     # of more trainings than cores each has one
    assert (size["docs"], size["b_docs"], size["chat"], size["epochs"], size["d"]["docs"], size["d"]["epochs"]) == (7, 7, 7, 2, 7, 2), size
    assert size["valid"] == 2 and size["d"]["valid"] == 8

def more_runs_than_four_of_a_method_are_not_tried():
    s = Whole(lambda m, lam, lr: float(lam), lambda m: 1.0, lambdas=[f"0.{i}" for i in range(1, 8)], seeds=(1,))
    s.compared("A", "title", base, ["clm", "kd", "kfuse"], s.size)
    assert {x for ms in s.asked for x in map(os.path.basename, ms) if x.startswith("kfuse")} == {f"kfuse-0.{i}-{r}" for i, r in ((1, "1e-4"), (1, "5e-5"), (2, "1e-4"), (3, "1e-4"))}

# ---- what is made on the disk, by programs that are stood in for ----

PROGRAM = """#!%s
import json, os, sys
a = sys.argv[1:]
given = lambda name: [a[i + 1] for i, w in enumerate(a) if w == name]
at = os.path.dirname(os.path.abspath(__file__))
name = os.path.basename(__file__)
with open(at + "/calls", "a") as f: f.write(json.dumps([name, *a]) + "\\n")
if os.path.exists(at + "/broken-" + name): sys.exit("kf: out of luck")
if name == "kf-merge":
    os.makedirs(given("--out")[0])
    json.dump(dict(zip(given("--models"), given("--weights")[0].split(","))), open(given("--out")[0] + "/config.json", "w"))
else:
    model = given("--model")[0].removeprefix("mean=")
    assert os.path.exists(model + "/config.json")
    json.dump({"bits_per_byte": {"mean": {"mean": float(len(json.load(open(model + "/config.json"))))}}}, open(given("--report")[0], "w"))
""" % sys.executable

def on_disk(name):
    """Two trained models in a folder of its own, and the programs."""
    s = Stub()
    s.work = f"{tmp}/{name}"
    s.bin = s.work + "/bin/"
    os.makedirs(s.bin)
    for p in ("kf-eval", "kf-merge"):
        with open(s.bin + p, "w") as f: f.write(PROGRAM)
        os.chmod(s.bin + p, 0o755)
    models = [f"{s.work}/{m}" for m in "ab"]
    for i, m in enumerate(models):
        os.makedirs(m)
        with open(m + "/config.json", "w") as f: json.dump({str(k): 1 for k in range(7 + i)}, f)
    return s, {"WORK": s.work, "SEED": 1, "DOCS": 2}, models

def calls(s): return [json.loads(x) for x in open(s.bin + "calls")] if os.path.exists(s.bin + "calls") else []

def a_mean_counts_each_model_as_often_as_it_is_named():
    s, b, (x, y) = on_disk("mean")
    out = s.mean(s.work, [x, x, x, y], 1)
    assert json.load(open(out + "/config.json")) == {x: "3", y: "1"}, json.load(open(out + "/config.json"))
    assert s.mean(s.work, [x, x], 1) == x and s.mean(s.work, [x, x, x, y], 1) == out and len(calls(s)) == 1
    assert s.mean(s.work, [x, y, y], 1) != out

def what_is_merged_is_made_anew_where_that_is_asked_for():
    s, b, (x, y) = on_disk("anew")
    s.target, s.data = "t", s.work
    for replace in (False, True):
        s.args.replace = replace
        s.merge("linear", [x, y], s.work + "/out-%d" % replace, 1, "--weights", "1,1")
    assert ["--replace" in c for c in calls(s)] == [False, True], calls(s)

def a_mean_that_was_tried_is_not_kept_but_its_score_is():
    s, b, (x, y) = on_disk("tried")
    assert s.validated(b, [x, y]) == 2.0 == s.validated(b, [x, y])
    assert [c[0] for c in calls(s)] == ["kf-merge", "kf-eval"] and os.listdir(s.work + "/mean") == []
    os.utime(y + "/config.json", (2e9, 2e9))      # learnt anew
    assert s.validated(b, [x, y]) == 2.0 and [c[0] for c in calls(s)][2:] == ["kf-merge", "kf-eval"]

def another_folder_in_a_models_place_is_looked_at_anew():
    s, b, (x, y) = on_disk("swapped")
    assert s.validated(b, [x, y]) == 2.0 and s.validated(b, [x]) == 7.0
    shutil.copytree(y, y + ".old", copy_function=shutil.copy2)
    os.utime(y + ".old", (1e9, 1e9))
    time.sleep(0.02)
    os.rename(x, x + ".gone"); os.rename(y + ".old", x)
    assert s.validated(b, [x]) == 8.0 and len(calls(s)) == 4, calls(s)

def one_model_alone_is_looked_at_and_stays():
    s, b, (x, y) = on_disk("alone")
    assert s.validated(b, [x, x, x]) == 7.0 == s.validated(b, [x]) and [c[0] for c in calls(s)] == ["kf-eval"]
    assert os.path.exists(x + "/config.json")

def an_evaluation_that_fails_ends_it_and_is_made_the_next_time():
    s, b, (x, y) = on_disk("fails")
    both = [(Method("m", "t"), {"folder": f, "lambda": "1", "lr": "1"}) for f in (x, y)]
    for program in ("kf-eval", "kf-merge"):
        open(s.bin + "broken-" + program, "w").close()
        try:
            s.soup("soup", b, both)
            assert False, "it goes on"
        except SystemExit as e:
            assert f"experiments: failed: {s.bin}{program}" in str(e) and "out of luck" in str(e), e
        os.remove(s.bin + "broken-" + program)
    kept = s.soup("soup", b, both)
    assert [os.path.basename(t["folder"]) for _, t in kept] == ["a", "b"], kept    # 7 alone, 2 together

def part_c(sources):
    s = Whole(lambda m, lam, lr: 1.0)
    s.sources, s.target = sources, "t"
    s.size.update(docs=1, valid=1, test=1, epochs=1, chat=1)
    s.args.chat_domains, s.args.chat_template, s.args.bin, s.args.replace = "talks", [], s.bin, False
    s.data, s.domains, ways = tmp, [], []
    s.model = lambda name: name
    s.merged = lambda work, models, methods, seed: ways.append(methods) or {m: m for m in methods}
    s.c()
    return ways[0], s.rows

def one_source_is_merged_in_the_ways_that_one_model_can_be():
    ways, rows = part_c(["a"])
    assert "sce" not in ways and "slerp" not in ways and "ties" in ways and "sce" not in rows and "joint" not in rows, (ways, rows)
    ways, rows = part_c(["a", "b"])
    assert "sce" in ways and "slerp" in ways and rows[-1] == "sce", (ways, rows)

def lists_are_words_or_have_commas():
    assert experiments.words("1,2 3") == ["1", "2", "3"] == experiments.words(" 1 2,3 1")

def a_text_put_in_place_of_another_is_halved_again_though_it_is_older():
    s = Stub()
    s.data, s.work = tmp + "/halves", tmp + "/halves/work"
    os.makedirs(s.data + "/text")
    path = s.data + "/text/d.jsonl"
    def write(records):
        with open(path + ".new", "w") as f: f.write("\n".join(map(json.dumps, records)) + "\n\n")
        os.utime(path + ".new", (1e9, 1e9))
        os.rename(path + ".new", path)
    read = lambda p: [json.loads(x) for x in open(p)]
    write([{"text": "one %d" % i} for i in range(20)] + [{"id": 7, "text": "held", "split": "test"}])     # no id, a number, a blank line
    a, b = s.halves(["d"])["d"]
    assert len(read(a)) + len(read(b)) == 22 and min(len(read(a)), len(read(b))) > 1
    os.utime(a, (1.5e9, 1.5e9))
    s.halves(["d"])
    assert os.path.getmtime(a) == 1.5e9, "what is the same stays"
    write([{"text": "two %d" % i} for i in range(20)])
    s.halves(["d"])
    assert {r["text"][:3] for p in (a, b) for r in read(p)} == {"two"}

def a_file_is_as_new_as_its_place():
    path = tmp + "/stamped"
    open(path, "w").close()
    os.utime(path, (1e9, 1e9))
    assert experiments.stamp(path) > 1.6e9

def validation_takes_the_best_epoch_but_never_the_untrained_model():
    os.makedirs(tmp + "/v")
    with open(tmp + "/v/log.jsonl", "w") as f:
        for r in ({"valid_bits_per_byte": 0.5}, {"loss": 1}, {"valid_bits_per_byte": 1.2}, {"valid_bits_per_byte": 1.0}, {"valid_bits_per_byte": 1.1}): f.write(json.dumps(r) + "\n")
    assert experiments.validation(tmp + "/v") == (1.0, 2)

def progress_of_what_is_going_on_is_the_terminals_last_line():
    class Terminal(io.StringIO):
        def isatty(self): return True
    old, experiments.status = experiments.status, experiments.Status(Terminal())
    try:
        s = experiments.status
        script = 'echo "2026-01-02 03:04:05 training:  45% 81k/180k tokens, 250/s, 6m10s left, loss 2" >&2; echo "a word" >&2; echo done'
        with s.of("clm 1 1e-4"), s.of("its sets"):
            assert experiments.run(["sh", "-c", script]) == "done\n"
            assert s.out.getvalue().endswith("\033[K  clm 1 1e-4: training:  45% 81k/180k tokens, 250/s, 6m10s left, loss 2"[:82]), s.out.getvalue()
            s.lines["another"] = "kf-eval: nothing known"
            s.show()
            assert s.out.getvalue().split("\033[K")[-1] == "  clm 1 1e-4: 45%, 6m10s left  another: kf-eval: nothing known", s.out.getvalue()
            del s.lines["another"]
        assert s.out.getvalue().endswith("\r\033[K") and not s.lines and s.what() is None
        try: experiments.run(["sh", "-c", script + "; exit 3"])
        except SystemExit as e: assert "a word" in e.code and not s.lines, e.code
        else: raise AssertionError("it passed")
    finally:
        experiments.status = old

failed = False
for name, f in list(globals().items()):
    if not isinstance(f, types.FunctionType) or "_" not in name or name in ("on_disk", "part_c"): continue
    try:
        f()
        print("ok experiments:", name.replace("_", " "))
    except (Exception, SystemExit) as e:
        print("not ok experiments:", name.replace("_", " "), "\n#  ", type(e).__name__, str(e)[:400])
END
python3 "$TMP/experiments.py" "$TMP"
