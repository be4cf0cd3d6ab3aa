"""make experiments: the comparisons of the papers, at a size that a small machine finishes.

    experiments.py --size small|full|large --target NAME --sources NAMES --domains NAMES [--only a,b,c,d] [--seeds 1,2,3]

A  FuseLLM's table: sources, target, CLM, distillation from the best source, MinCE with each alignment, AvgCE, kfuse's defaults, and the
   ensemble. B  fusion beside merging: the target continued on three domains gives three sources of one architecture. C  FuseChat: on
   conversations, the target with each source, then merged, beside the fusion of all at once.  D  what A compares, on languages that the
target was hardly taught and the sources were.

Every method has the same search on the same validation text: its lambda, then its learning rate, on the first seed; the others are run as
found there. A seed is another choice of training, validation and test text, and another order. Test text is looked at once, at the end.

All work is done by make and the programs, which keep what is there already: run it again after an interruption, or with more seeds, and
only what is missing is made. What comes out is WORK/results.json, a table each (A.md …), and a page each (A.html …) of all seeds.
"""
import argparse
import collections
import concurrent.futures
import contextlib
import filecmp
import glob
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time
import zlib

# docs, valid, test: passages a domain, of 2 kB (some 500 tokens). b_docs: what each expert of B learns from, and what is fused;
# chat: conversations a domain. tasks, limit: what every model is asked, and how many items of each at most, 0 for all. The search: lambdas
# at the first learning rate, then the others at the best of them. D's own: little text and many epochs, in smaller batches.
SIZES = {
    # to try the machinery
    "tiny": {"docs": 2, "valid": 1, "test": 2, "epochs": 1, "seeds": [1, 2], "lambdas": ["0.9", "0.3"], "lrs": ["1e-4", "2e-4"],
             "b_docs": 2, "chat": 2, "tasks": [], "limit": 0, "d": {"docs": 2, "valid": 1, "test": 2, "epochs": 1, "lambdas": ["0.3"], "lrs": ["2e-4"]}},
    "small": {"docs": 4, "valid": 2, "test": 6, "epochs": 3, "seeds": [1], "lambdas": ["0.5"], "lrs": ["1e-4"],
              "b_docs": 6, "chat": 4, "tasks": [], "limit": 0, "d": {"docs": 24, "valid": 8, "test": 24, "epochs": 6, "lambdas": ["0.3"], "lrs": ["1e-4", "2e-4"]}},
    "full": {"docs": 32, "valid": 8, "test": 24, "epochs": 3, "seeds": [1, 2, 3], "lambdas": ["0.9", "0.7", "0.5", "0.3"], "lrs": ["1e-4", "2e-4"],
             "b_docs": 32, "chat": 32, "tasks": ["quartz", "hellaswag"], "limit": 200,
             "d": {"docs": 96, "valid": 16, "test": 48, "epochs": 8, "lambdas": ["0.9", "0.5", "0.3", "0.1"], "lrs": ["1e-4", "5e-5", "2e-4"]}},
    # a million tokens and more, for a machine with a GPU
    "large": {"docs": 1000, "valid": 24, "test": 48, "epochs": 4, "seeds": [1, 2, 3], "lambdas": ["0.9", "0.7", "0.5", "0.3"],
              "lrs": ["1e-4", "5e-5", "2e-4"], "b_docs": 1000, "chat": 0, "tasks": ["quartz", "hellaswag", "truthfulqa"], "limit": 0,
              "d": {"docs": 1000, "valid": 24, "test": 48, "epochs": 8, "lambdas": ["0.9", "0.5", "0.3", "0.1"], "lrs": ["1e-4", "5e-5", "2e-4"]}},
}
EXPERT_LR = "1e-4"   # of B's experts
SOUP = 4             # models at most in a mean of several, with repetition; and runs of a method that are tried for it


class Method:
    """A row of a table: a goal of make and its variables; lambda is searched for unless it is given."""

    def __init__(self, name, goal, lam=None, **variables):
        self.name, self.goal, self.lam, self.variables = name, goal, lam, variables


def papers(alignment, function):
    """A fusion function of FuseLLM, which counts alike everywhere; with the paper's alignment candidates are scaled to sum to 1 as well."""
    return {"FUNCTION": function, "WEIGHT": "none", **alignment}


BYTE = {"ALIGN": "byte"}
EXACT, MINED = ({"ALIGN": "dtw", "VOCAB_MAP": m, "TAIL": "renormalize"} for m in ("exact", "mined"))
TABLE_A = [
    Method("clm", "train-clm", lam="1"),
    Method("kd", "train-kd"),
    Method("min-ce dtw exact", "train-fused", **papers(EXACT, "min-ce")),
    Method("min-ce dtw mined", "train-fused", **papers(MINED, "min-ce")),
    Method("min-ce", "train-fused", **papers(BYTE, "min-ce")),
    Method("avg-ce", "train-fused", **papers(BYTE, "avg-ce")),
    Method("kfuse", "train-fused"),
    Method("kfuse generated", "train-fused", GENERATE="4"),     # with text that the best source makes of the passages
]
ASKED_FOR = ["kfuse generated"]         # only where METHODS names them: several times the text, and so the work
TABLE_B = ["clm", "min-ce", "kfuse"]
TABLE_D = ["clm", "min-ce dtw exact", "kfuse", "kfuse generated"]


def chosen_rows(names):
    """Which rows of A, B and D are trained: those named, with commas between them; clm and kfuse, which the others are held against, always."""
    all_rows = [m.name for m in TABLE_A]
    if not names:
        return [n for n in all_rows if n not in ASKED_FOR]
    named = [n.strip() for n in names.split(",")]
    for n in named:
        if n not in all_rows:
            sys.exit("experiments: METHODS: there is no row '%s' in A, B or D: name some of %s" % (n, ", ".join(all_rows)))
    return [n for n in all_rows if n in named or n in ("clm", "kfuse")]


def words(text):
    """A list as it is given, with commas or blanks; what is named twice once."""
    return list(dict.fromkeys(text.replace(",", " ").split()))


def stamp(path):
    """When a file was last another one: as data/pipeline.mk sees it, also where an older one was put in its place, or a link set anew."""
    return max(t for s in (os.stat(path), os.lstat(path)) for t in (s.st_mtime, s.st_ctime))


def stamp_of(folder, mark):
    """The same of a model or set, by the file that is there when it is whole: another folder in its place, too."""
    return max(stamp(folder + "/" + mark), stamp(folder))


class Status:
    """What is going on, by what the programs say of their progress: on the terminal's last line; elsewhere a line when there was none for QUIET seconds."""
    QUIET = 600
    PROGRESS = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d (.+)")    # where their standard error is no terminal

    def __init__(self, out=sys.stderr):
        self.out, self.terminal, self.lines, self.lock, self.last, self.mine = out, out.isatty(), {}, threading.Lock(), time.monotonic(), threading.local()

    def what(self):
        """What this thread does."""
        return getattr(self.mine, "what", None)

    @contextlib.contextmanager
    def of(self, what):
        """It does that, as part of what it does."""
        outer, self.mine.what = self.what(), self.what() or what
        try:
            yield
        finally:
            self.mine.what = outer
            with self.lock:
                if not outer and self.lines.pop(what, None):
                    self.show()

    def note(self, what, line):
        """A line that a program wrote."""
        progress = self.PROGRESS.match(line)
        if what and progress:
            with self.lock:
                self.lines[what] = progress[1]
                self.show()

    def show(self):
        now = time.monotonic()
        if self.terminal:
            each = (shutil.get_terminal_size().columns - 1) // max(1, len(self.lines))
            self.out.write("\r\033[K" + "".join(("  %s: %s" % (what, self.short(line)))[:each] for what, line in self.lines.items()))
            self.out.flush()
        elif self.lines and now - self.last > self.QUIET:
            self.last = now
            print("".join("  at work: %s: %s\n" % of for of in self.lines.items()), end="", flush=True)

    def short(self, line):
        """Where several share the line."""
        said = re.search(r"(\d+%).*?, (\S+ left)", line)
        return "%s, %s" % said.groups() if said and len(self.lines) > 1 else line

    def say(self, text):
        with self.lock:
            if self.terminal:
                self.out.write("\r\033[K")
                self.out.flush()
            print(text, flush=True)
            self.last = time.monotonic()
            if self.terminal and self.lines:
                self.show()


status = Status()


def say(text):
    status.say(text)


running, stopping = set(), threading.Event()     # programs, each a group of processes of its own; no more are to begin


def stop_running():
    """Asked to end, a training writes its checkpoint; asked twice it ends at once. SIGINT each of a group gets once: SIGTERM make would pass on."""
    for p in list(running):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(p.pid, signal.SIGINT)


def on_signal(number, frame):
    stopping.set()
    stop_running()
    raise Stopped(number)


class Stopped(BaseException):
    pass


def run(cmd, **options):
    """What it prints."""
    said, what = collections.deque(maxlen=100), status.what()
    p = subprocess.Popen(cmd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace", start_new_session=True, **options)
    running.add(p)
    if stopping.is_set():
        p.terminate()

    def listen():
        for line in p.stderr:
            said.append(line)
            status.note(what, line)

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    try:
        out = p.stdout.read()
        listener.join()
    except BaseException:
        if not stopping.is_set():
            stop_running()
        raise
    finally:
        p.wait()
        running.discard(p)
    if p.returncode != 0:
        sys.exit("experiments: failed: %s\n%s" % (" ".join(cmd), "".join(said)[-3000:]))
    return out


def validation(folder):
    """The best epoch's bits per byte on validation text, and that epoch."""
    with open(folder + "/log.jsonl") as f:
        curve = [r["valid_bits_per_byte"] for r in map(json.loads, f) if "valid_bits_per_byte" in r]
    best = min(curve[1:])
    return best, curve.index(best)


class Experiments:
    def __init__(self, args):
        self.args, self.size = args, SIZES[args.size]
        for size in (self.size, self.size["d"]):
            size.update({k: words(v) for k, v in (("lambdas", args.lambdas), ("lrs", args.lrs)) if v})
            size.update({k: v for k, v in (("docs", args.docs), ("epochs", args.epochs)) if v})
        if args.docs:
            self.size.update(b_docs=args.docs, chat=args.docs)
        if args.tasks is not None:
            self.size["tasks"] = words(args.tasks)
        if args.task_limit is not None:
            self.size["limit"] = args.task_limit
        self.bin, self.work, self.data = args.bin + "/", args.work + "/" + args.size, args.data
        self.target, self.sources, self.domains = args.target, args.sources.split(), args.domains.split()
        self.seeds = [int(s) for s in words(args.seeds)] if args.seeds else self.size["seeds"]
        self.wanted = chosen_rows(args.methods)
        self.start, self.runs, self.done, self.trained, self.lock = time.monotonic(), 0, 0, 0, threading.Lock()
        # side by side, trainings share the cores; what is done one at a time has them all
        self.train_threads = args.threads or (max(1, len(os.sched_getaffinity(0)) // args.jobs) if args.jobs > 1 else 0)
        # each make is told all it needs: nothing is handed down from the one that runs this, or from its shell
        known = {"MAKEFLAGS", "MAKEOVERRIDES", "MFLAGS", "MAKELEVEL"}
        for path in glob.glob(os.path.dirname(os.path.abspath(__file__)) + "/*.mk"):
            with open(path) as f:
                known.update(re.findall(r"^([A-Z_]+) *\?=", f.read(), re.M))
        known.update(("TEXT", "ADD"))       # which have no default
        self.environment = {k: v for k, v in os.environ.items() if k not in known and not k.startswith("CHAT_TEMPLATE_")}
        os.makedirs(self.work, exist_ok=True)

    # ---- make, and what it made ----

    def make(self, goal, **variables):
        """What make prints."""
        with status.of("%s, %s" % (os.path.basename(variables["WORK"]), "/".join(goal.split("/")[-3:-1]) or goal)):
            return run([*self.args.make.split(), "--no-print-directory", "-s", goal, *("%s=%s" % v for v in variables.items())], env=self.environment)

    def folder(self, goal, **variables):
        """The folder that a goal of data/demo.mk ends with."""
        return self.make(goal, **variables).splitlines()[-1]

    def variables(self, part, seed, **more):
        s = self.size
        return {"WORK": "%s/%s-seed%d" % (self.work, part, seed), "DATA": self.data, "SEED": seed, "DOCS": s["docs"], "VALID_DOCS": s["valid"],
                "TEST_DOCS": s["test"], "EPOCHS": s["epochs"], "COMPUTE": "bf16", "THREADS": self.args.threads, "KFUSE_BIN": self.args.bin,
                "TARGET": self.target, "SOURCES": " ".join(self.sources), "DOMAINS": " ".join(self.domains), **({"REPLACE": "1"} if self.args.replace else {}), **more}

    def model(self, name, data=None):
        """As data/pipeline.mk finds it."""
        folder = "%s/models/%s" % (data or self.data, name)
        return folder if os.path.exists(folder + "/config.json") else folder + ".gguf"

    def train(self, label, method, lam, lr, base):
        began = time.monotonic()
        folder = self.folder(method.goal, **{**base, **method.variables, "LAMBDA": lam, "LR": lr, "THREADS": self.train_threads})
        best, epoch = validation(folder)
        with self.lock:
            took, spent = time.monotonic() - began, (time.monotonic() - self.start) / 60
            self.done += 1
            self.trained += took > 2        # what was there already says nothing of the time
            say("  %-34s lambda %-4s lr %-5s valid %.4f (epoch %d)  %4.0f s; run %d of %d, %.0f min%s" % (
                label, lam, lr, best, epoch, took, self.done, self.runs, spent,
                ", about %.0f left" % (spent / self.trained * max(0, self.runs - self.done)) if self.trained else ""))
        return {"folder": folder, "lambda": lam, "lr": lr, "valid": best, "epoch": epoch}

    def train_all(self, runs, after=lambda run, result: []):
        """Runs (label, method, lambda, learning rate, base), JOBS at a time; results in their order, and behind these of the runs that
        after(run, result) adds as each ends, so that no core waits for the last of a round."""
        runs, results, at_work, ready, making, failed = list(runs), [], {}, set(), threading.Lock(), threading.Event()
        with concurrent.futures.ThreadPoolExecutor(self.args.jobs) as pool:

            def whole(run):
                """With what it learns from, which is made by one at a time: two makes that both need the same set would make it twice. Nothing is
                begun when one has failed."""
                label, method, lam, lr, base = run
                try:
                    with status.of("%s %s %s" % (label, lam, lr)):
                        with making:
                            if failed.is_set():
                                return None
                            if (method.name, base["WORK"]) not in ready:
                                self.make(method.goal.replace("train-", "ready-"), **{**base, **method.variables})
                                ready.add((method.name, base["WORK"]))
                        return self.train(*run)
                except BaseException:
                    failed.set()
                    raise

            def begin(some):
                for run in some:
                    at_work[pool.submit(whole, run)] = len(results)
                    results.append(None)

            try:
                begin(runs)
                while at_work:
                    for future in concurrent.futures.wait(at_work, return_when=concurrent.futures.FIRST_COMPLETED).done:
                        i = at_work.pop(future)
                        results[i] = future.result()
                        more = after(runs[i], results[i]) if results[i] else []
                        runs += more
                        begin(more)
            except BaseException:
                if self.args.jobs > 1:
                    say("experiments: stopping: runs that have begun are ended first, and kept")
                pool.shutdown(cancel_futures=True)
                raise
        return results

    def searched(self, part, methods, base, size=None):
        """Every method of a table on every seed: {seed: {name: run}}, and what was tried on the first, the best first. Lambda is searched for at the
        first learning rate, then the others are tried at the best lambda; the other seeds are run as found."""
        size, (seed, *others) = size or self.size, self.seeds
        rate, *rates = size["lrs"]
        lambdas = {m.name: [m.lam] if m.lam else size["lambdas"] for m in methods}
        self.runs += sum(len(lambdas[m.name]) + len(rates) + len(others) for m in methods)
        tried, found = {m.name: [] for m in methods}, {s: {} for s in self.seeds}

        def run(s, m, lam, lr):
            return "%s seed %d: %s" % (part, s, m.name), m, lam, lr, base(s)

        def after(ended, result):
            """The next of a method's runs, when all that decide about them have ended."""
            _, m, _, _, of = ended
            mine, first = tried[m.name], len(lambdas[m.name])
            if of["SEED"] != seed:
                found[of["SEED"]][m.name] = result
                return []
            mine.append(result)
            mine.sort(key=lambda t: (t["valid"], size["lrs"].index(t["lr"]), lambdas[m.name].index(t["lambda"])))
            more = [run(seed, m, mine[0]["lambda"], lr) for lr in rates] if len(mine) == first else []
            if len(mine) == first + len(rates):
                more += [run(s, m, mine[0]["lambda"], mine[0]["lr"]) for s in others]
            return more

        self.train_all([run(seed, m, lam, rate) for m in methods for lam in lambdas[m.name]], after)
        found[seed] = {name: mine[0] for name, mine in tried.items()}
        # in the methods' order, whichever ended first: evaluations go by their command
        return {s: {m.name: found[s][m.name] for m in methods} for s in self.seeds}, tried

    # ---- scores on the test text ----

    def logits(self, base, split):
        """Options of kf-eval: the sources and the target as they come, over a split of the text; of the test text they are asked the
        tasks, too."""
        at = "%s/docs%d/logits/%s/" % (base["WORK"], base["DOCS"], split)
        rows = [(m, m) for m in base["SOURCES"].split()] + [("target", self.target)]
        for _, m in rows:
            self.make(at + m + "/manifest.json", **base)
        asked = rows if split == "test" and self.size["tasks"] else []
        return [*(o for name, m in rows for o in ("--logits", "%s=%s" % (name, at + m))),
                *(o for name, m in asked for o in ("--model", "%s=%s" % (name, self.model(m, base["DATA"]))))]

    def evaluate(self, name, base, rows, compare, folders, learnt=None):
        """Scores of the rows (options of kf-eval) on the test text, as JSON; made again when a model is newer. learnt: the corpus that the test
        text is looked for in."""
        corpus = "%s/docs%d/corpus/test" % (base["WORK"], base["DOCS"])
        tasks = ["%s/tasks/%s.jsonl" % (self.data, t) for t in self.size["tasks"]]
        self.make(corpus + "/manifest.json", **base)
        for f in tasks:
            self.make(f, **{**base, "DATA": self.data})
        rows = [*rows, *(a for n, f in folders.items() for a in ("--model", "%s=%s" % (n, f)))]
        report = "%s/%s.json" % (self.work, name)
        sets = [rows[i + 1].split("=", 1)[1] for i, o in enumerate(rows) if o in ("--logits", "--mixture")]
        newest = max([stamp_of(f, "config.json") for f in folders.values()] + [stamp_of(d, "manifest.json") for d in [corpus, *sets]] + [stamp(t) for t in tasks])
        command = [self.bin + "kf-eval", "--corpus", corpus, *rows, *(a for c in compare for a in ("--compare", "%s,%s" % c)),
                   "--per-document", "--scores", self.work + "/scores", "--compute", "bf16", "--threads", str(self.args.threads), *(a for t in tasks for a in ("--tasks", t)),
                   *(["--limit", str(self.size["limit"])] if tasks else []), "--overlap", learnt or "%s/docs%d/corpus/train" % (base["WORK"], base["DOCS"])]
        if not os.path.exists(report) or os.path.getmtime(report) < newest or json.load(open(report + ".cmd")) != command:
            with status.of(name + ", test text"):
                run([*command, "--report", report + ".tmp"])
            if os.path.exists(report):      # killed between the two, it is made again
                os.remove(report)
            with open(report + ".cmd", "w") as f:
                json.dump(command, f)
            os.rename(report + ".tmp", report)
        with open(report) as f:
            return json.load(f)

    def page(self, part, title, result, base, models, fused=None):
        """All seeds on one page, whose details are of the first. base(seed): its variables; models: {seed: {row: folder}}; fused: whose targets are shown
        token by token, if not the result's."""
        base, folders, names = base(self.seeds[0]), models[self.seeds[0]], {}
        for n, f in folders.items():
            names.setdefault(f, n)      # a soup of one is that
        at = "%s/docs%d/" % (base["WORK"], base["DOCS"])
        of = "%sfor-%s/" % (at, base["TARGET"])
        sets = sorted(os.path.dirname(m) for what in (at + "corpus/*", at + "logits/train/*", of + "aligned/train/*", of + "targets/*") for m in
                      glob.glob(what + "/manifest.json"))
        with open(folders[fused or result] + "/kfuse.json") as f:
            trace = of + "trace/%s.jsonl" % os.path.basename(json.load(f)["paths"]["targets"])
        run([self.bin + "kf-report", "--quiet", "--out", "%s/%s.html" % (self.work, part), "--title", title, "--result", result,
             *(a for s in self.seeds for a in ("--eval", "%s/%s-seed%d.json" % (self.work, part, s))), "--trace", trace,
             *(a for d in sets for a in ("--set", d)), *(a for f, n in names.items() for a in ("--model", "%s=%s" % (n, f)))])

    # ---- A: FuseLLM's table. D: the same of languages that the target was hardly taught ----

    def a(self):
        self.compared("A", "Fusion, and what it is compared with", lambda seed: self.variables("A", seed), [m.name for m in TABLE_A], self.size)

    def d(self):
        size = self.size["d"]
        self.compared("D", "Languages that the sources know and the target does not", lambda seed: self.variables(
            "D", seed, DOMAINS=self.args.language_domains, DOCS=size["docs"], VALID_DOCS=size["valid"], TEST_DOCS=size["test"],
            EPOCHS=size["epochs"], PATIENCE=2, BATCH=1024), TABLE_D, size)

    def compared(self, part, title, base, rows, size):
        methods = self.rows_of(self.table_a(part, base(self.seeds[0])), rows)
        found, tried = self.searched(part, methods, base, size)
        soups = {name: self.soup(name, base(self.seeds[0]), [(m, t) for m in methods if m.name in of for t in tried[m.name][:SOUP]])
                 for name, of in (("clm soup", ["clm"]), ("kfuse soup", ["clm", "kfuse", "kfuse generated"]))}
        # what the means need beside: a second run of CLM, and of the other seeds what the first seed's soups are of
        clm, rate = methods[0], self.second_rate(tried["clm"])
        of = self.trained_too(part, base, found, tried, {
            **{(seed, m.name, t["lambda"], t["lr"]): (name + ", " + m.name, m) for seed in self.seeds[1:] for name, soup in soups.items() for m, t in soup},
            **{(seed, "clm", "1", rate): ("clm again", clm) for seed in self.seeds}})
        reports = {}
        models = {}
        for seed in self.seeds:
            known = [*self.logits(base(seed), "test"), "--mixture", "ensemble=" + self.folder("ensemble", **base(seed))]
            work, folders = base(seed)["WORK"], {n: r["folder"] for n, r in found[seed].items()}
            # weights between the fused model's and CLM's; for comparison, between those of two runs of CLM
            folders["clm + clm"] = self.mean(work, [folders["clm"], of[seed, "clm", "1", rate]["folder"]], seed)
            folders["kfuse + clm"] = self.mean(work, [folders["kfuse"], folders["clm"]], seed)
            for name, soup in soups.items():
                folders[name] = self.mean(work, sorted(of[seed, m.name, t["lambda"], t["lr"]]["folder"] for m, t in soup), seed)
            ours = [n for n in ("kfuse", "kfuse generated", "kfuse + clm", "kfuse soup") if n in folders]
            pairs = [(a, b) for a in ours for b in folders if b not in (a, "kfuse + clm", "kfuse soup")]
            # of the corpora that a method learnt from, the one that has most
            learnt = next((self.folder("stage-corpus", **{**base(seed), **m.variables}) for m in methods if "GENERATE" in m.variables), None)
            reports[seed], models[seed] = self.evaluate("%s-seed%d" % (part, seed), base(seed), known, pairs, folders, learnt), folders
        self.keep(part, reports, tried, [*self.sources, "target", *(m.name for m in methods), "clm + clm", "kfuse + clm", *soups, "ensemble"], "clm")
        self.page(part, title, "kfuse", base, models)

    def rows_of(self, methods, rows):
        """The methods that are rows of a table, and asked for."""
        return [m for m in methods if m.name in rows and m.name in self.wanted]

    def trained_too(self, part, base, found, tried, wanted):
        """All runs there are, {(seed, method's name, lambda, learning rate): run}: those of the search, and what else is wanted, {the same: (why, method)}."""
        of = {(seed, name, t["lambda"], t["lr"]): t for seed, runs in found.items() for name, t in runs.items()}
        of.update({(self.seeds[0], name, t["lambda"], t["lr"]): t for name in tried for t in tried[name]})
        wanted = {k: v for k, v in wanted.items() if k not in of}
        self.runs += len(wanted)
        of.update(zip(wanted, self.train_all([("%s seed %d: %s" % (part, seed, why), m, lam, lr, base(seed))
                                              for (seed, _, lam, lr), (why, m) in wanted.items()])))
        return of

    def second_rate(self, tried):
        """The learning rate of a second run of CLM: the next best that was tried, or half of the only one."""
        return tried[1]["lr"] if len(tried) > 1 else "%g" % (float(tried[0]["lr"]) / 2)

    def mean(self, work, models, seed):
        """The mean of the models' weights, each as often as it is named; of one, itself."""
        each = list(dict.fromkeys(models))
        if len(each) == 1:
            return each[0]
        out = "%s/mean/%08x" % (work, zlib.crc32("+".join(models).encode()))
        self.merge("linear", each, out, seed, "--weights", ",".join(str(models.count(m)) for m in each))
        return out

    def soup(self, name, base, runs):
        """Which of the runs, (method, run), to take the mean of (Wortsman et al., Model soups, ICML 2022): one after the other the one, there
        already or not, that makes the mean best on validation text, until none makes it better, or there are SOUP (Caruana et al.,
        Ensemble selection, ICML 2004)."""
        kept, best = [], None
        while len(kept) < SOUP:
            tried = [(self.validated(base, sorted(k["folder"] for _, k in [*kept, r])), i) for i, r in enumerate(runs)]
            bits, i = min(tried)
            if best is not None and bits >= best:
                break
            kept, best = [*kept, runs[i]], bits
            say("  %-34s with %s, lambda %s, lr %s: valid %.4f" % (name, runs[i][0].name, runs[i][1]["lambda"], runs[i][1]["lr"], best))
        return kept

    def validated(self, base, models):
        """Bits per byte of validation text by the mean of the models' weights, which is not kept."""
        if len(set(models)) == 1:
            models = models[:1]
        report = "%s/valid-%08x.json" % (base["WORK"], zlib.crc32("+".join(models).encode()))
        if not os.path.exists(report) or any(os.path.getmtime(report) < stamp_of(m, "config.json") for m in models):
            model = self.mean(base["WORK"], models, base["SEED"])
            with status.of("means of weights, validation text"):
                run([self.bin + "kf-eval", "--corpus", "%s/docs%d/corpus/valid" % (base["WORK"], base["DOCS"]), "--model", "mean=" + model,
                     "--compute", "bf16", "--threads", str(self.args.threads), "--report", report])
            if model not in models:
                shutil.rmtree(model + ".gone", ignore_errors=True)
                os.rename(model, model + ".gone")   # half of it must not pass for a model
                shutil.rmtree(model + ".gone")
        with open(report) as f:
            return json.load(f)["bits_per_byte"]["mean"]["mean"]

    def table_a(self, part, base):
        """With distillation from, and text by, the source that predicts the first seed's validation text best."""
        report = "%s/%s-sources.json" % (self.work, part)
        run([self.bin + "kf-eval", "--quiet", *self.logits(base, "valid"), "--report", report])
        with open(report) as f:
            bits = json.load(f)["bits_per_byte"]
        best = min(self.sources, key=lambda m: bits[m]["mean"])
        for m in TABLE_A:
            if m.goal == "train-kd":
                m.variables["KD"] = best
            if "GENERATE" in m.variables:
                m.variables["GENERATOR"] = best
        return TABLE_A

    # ---- B: fusion, ensemble, merging of models of one architecture ----

    def b(self):
        domains, experts = self.args.expert_domains.split(), {}
        merges = ["linear", "ties", "dare", *(["sce"] if len(domains) > 1 else [])]     # sce compares models with one another
        texts = self.halves(domains)
        methods = self.rows_of(TABLE_A, TABLE_B)
        each = [(seed, d) for seed in self.seeds for d in domains]
        self.runs += len(each)
        runs = self.train_all([("B seed %d: expert on %s" % (seed, d), methods[0], "1", EXPERT_LR, self.variables(
            "B", seed, WORK="%s/expert-%s" % (self.work_b(seed), d), DOCS=self.size["b_docs"], DOMAINS=d, TEXT=texts[d][0])) for seed, d in each])
        for seed in self.seeds:
            models = self.work_b(seed) + "/data/models"
            os.makedirs(models, exist_ok=True)
            self.link(self.model(self.target), "%s/%s" % (models, os.path.basename(self.model(self.target))))
            experts[seed] = {d: run["folder"] for (s, d), run in zip(each, runs) if s == seed}
            for d, folder in experts[seed].items():
                self.link(folder, "%s/expert-%s" % (models, d))

        def base(seed):
            return self.variables("B", seed, WORK=self.work_b(seed), DATA=self.work_b(seed) + "/data", DOCS=self.size["b_docs"], DOMAINS=" ".join(domains),
                                  TEXT=" ".join(texts[d][1] for d in domains), SOURCES=" ".join("expert-" + d for d in domains))

        found, tried = self.searched("B", methods, base)
        reports, models = {}, {}
        for seed in self.seeds:
            rows = [*self.logits(base(seed), "test"), "--mixture", "ensemble=" + self.folder("ensemble", **base(seed))]
            folders = self.merged(base(seed)["WORK"], list(experts[seed].values()), merges, seed)
            folders.update({n: r["folder"] for n, r in found[seed].items()})
            reports[seed] = self.evaluate("B-seed%d" % seed, base(seed), rows,
                                          [("kfuse", n) for n in (*(m.name for m in methods if m.name != "kfuse"), *merges)], folders)
            models[seed] = folders
        self.keep("B", reports, tried, ["target", *("expert-" + d for d in domains), *(m.name for m in methods), *merges, "ensemble"], "clm")
        self.page("B", "Fusion beside merging", "kfuse", base, models)

    def work_b(self, seed):
        """Experts of other epochs are other models under the same names."""
        return "%s/B-seed%d%s" % (self.work, seed, "-x%d" % self.args.epochs if self.args.epochs else "")

    def halves(self, domains):
        """Each domain's text twice: what experts learn from, and what is fused. Training passages are in one of them only."""
        out = {}
        for d in domains:
            out[d] = ["%s/text-%s/%s.jsonl" % (self.work, h, d) for h in "ab"]
            for h, path in enumerate(out[d]):
                os.makedirs(os.path.dirname(path), exist_ok=True)
                with open("%s/text/%s.jsonl" % (self.data, d)) as f, open(path + ".tmp", "w") as g:
                    for n, line in enumerate(f):
                        r = json.loads(line) if line.strip() else {}
                        if r and (r.get("split", "train") != "train" or zlib.crc32(str(r.get("id", n)).encode()) % 2 == h):
                            g.write(line)
                if os.path.exists(path) and filecmp.cmp(path, path + ".tmp", shallow=False):
                    os.remove(path + ".tmp")        # make goes by when a text was written
                else:
                    os.rename(path + ".tmp", path)
        return out

    def link(self, path, name):
        """A link that is right stays: make takes a new one for another model."""
        path = os.path.abspath(path)
        if os.path.lexists(name):
            if os.path.islink(name) and os.readlink(name) == path:
                return
            os.remove(name)
        os.symlink(path, name)

    def merge(self, method, models, out, seed, *options):
        """Unless it is there and newer than what it is made of: kf-merge, which would say so, makes it newer still, and with it all that follows."""
        made = out + "/config.json"
        if os.path.exists(made) and all(stamp_of(m, "config.json") <= os.path.getmtime(made) for m in models):
            return
        run([self.bin + "kf-merge", "--quiet", "--method", method, "--out", out, "--seed", str(seed),
             *([] if method in ("linear", "slerp") else ["--pivot", self.model(self.target)]),
             *(["--density", "0.5"] if method in ("ties", "dare") else []), *(["--replace"] if self.args.replace else []), *(a for p in models for a in ("--models", p)), *options])

    def merged(self, work, models, methods, seed):
        """The models merged in every way, {method: folder}."""
        out = {}
        for m in methods:
            out[m] = "%s/merged/%s-%08x" % (work, m, zlib.crc32("+".join(models).encode()))
            self.merge(m, models, out[m], seed)
        return out

    # ---- C: FuseChat ----

    def c(self):
        domains, n = self.args.chat_domains.split(), len(self.sources)
        merges = ["linear", *(["slerp"] if n == 2 else []), "varm", "task-arithmetic", "ties", "dare", *(["sce"] if n > 1 else [])]
        pairs = ["target+" + m for m in self.sources]
        together = "joint" if n > 1 else pairs[0]
        methods = [Method("clm", "train-clm", lam="1"), *(Method(p, "train-fused", SOURCES=m) for p, m in zip(pairs, self.sources)),
                   *([Method("joint", "train-fused")] if n > 1 else [])]

        # Gemma as it comes is no chat model and has no template of its own
        templates = {"CHAT_TEMPLATE_" + m: t for m, t in [("gemma3-270m", "gemma3"), *(t.split("=") for t in self.args.chat_template)]}

        def base(seed):
            return self.variables("C", seed, DOCS=self.size["chat"], DOMAINS=" ".join(domains), **templates)

        found, tried = self.searched("C", methods, base)
        # what merging does by itself: two runs of CLM
        rate, reports, models = self.second_rate(tried["clm"]), {}, {}
        of = self.trained_too("C", base, found, tried, {(seed, "clm", "1", rate): ("clm again", methods[0]) for seed in self.seeds})
        for seed in self.seeds:
            folders = {n: r["folder"] for n, r in found[seed].items()}
            folders["clm + clm"] = self.mean(base(seed)["WORK"], [folders["clm"], of[seed, "clm", "1", rate]["folder"]], seed)
            folders.update(self.merged(base(seed)["WORK"], [folders[p] for p in pairs], merges, seed))
            rows = ["--model", "target=" + self.model(self.target)]
            if "CHAT_TEMPLATE_" + self.target in templates:
                rows += ["--chat-template", templates["CHAT_TEMPLATE_" + self.target]]
            reports[seed] = self.evaluate("C-seed%d" % seed, base(seed), rows,
                                          [(m, n) for m in ("linear", together) for n in ("clm", "clm + clm", *pairs) if m != n] +
                                          [("linear", m) for m in [*(["joint"] if n > 1 else []), *merges[1:]]], folders)
            models[seed] = folders
        self.keep("C", reports, tried, ["target", *[m.name for m in methods], "clm + clm", *merges], "clm")
        self.page("C", "Pairs merged, and all sources at once", "linear", base, models, together)

    # ---- what came out ----

    def keep(self, part, reports, tried, rows, reference):
        results = {}
        if os.path.exists(self.work + "/results.json"):
            with open(self.work + "/results.json") as f:
                results = json.load(f)["parts"]
        results[part] = {"rows": rows, "reference": reference, "tried": tried, "settings": self.size, "date": time.strftime("%Y-%m-%d"), "target": self.target, "sources": self.sources,
                         "seeds": {str(s): {k: r[k] for k in ("bits_per_byte", "perplexity", "comparisons", "documents", "bytes", "overlap", "tasks") if k in r} for s, r in reports.items()}}
        with open("%s/results.json.tmp" % self.work, "w") as f:
            json.dump({"size": self.args.size, "date": results[part]["date"], "parts": dict(sorted(results.items()))}, f, indent=1)
        os.replace("%s/results.json.tmp" % self.work, "%s/results.json" % self.work)
        text = self.table(results[part])
        with open("%s/%s.md" % (self.work, part), "w") as f:
            f.write(text)
        say("\n" + text)

    def table(self, r):
        """Bits per byte by domain and in the mean, means and standard deviations over seeds; the difference to the reference; perplexity; tasks."""
        seeds = list(r["seeds"].values())
        columns = list(seeds[0]["bits_per_byte"][r["rows"][0]])

        def cell(values, signed=False):
            spread = " ± %.4f" % statistics.stdev(values) if len(values) > 1 else ""
            return ("%+.4f" if signed else "%.4f") % statistics.mean(values) + spread

        def grid(heads, values):
            """A row for each model that has them: values(seed, row) is a list, or nothing."""
            lines = ["| | %s |" % " | ".join(heads), "|---" * (len(heads) + 1) + "|"]
            for row in r["rows"]:
                of = [values(s, row) for s in seeds]
                if all(of):
                    lines.append("| %s | %s |" % (row, " | ".join(cell(list(v)) for v in zip(*of))))
            return lines

        lines = ["| | %s | less %s | |" % (" | ".join(columns), r["reference"]), "|---" * (len(columns) + 3) + "|"]
        for row in r["rows"]:
            bits = [s["bits_per_byte"][row] for s in seeds]
            less = [b["mean"] - s["bits_per_byte"][r["reference"]]["mean"] for b, s in zip(bits, seeds)]
            share = statistics.mean(d / s["bits_per_byte"][r["reference"]]["mean"] for d, s in zip(less, seeds))
            lines.append("| %s | %s | %s | %+.1f %% |" % (row, " | ".join(cell([b[c] for b in bits]) for c in columns), cell(less, True), 100 * share))
        if all("perplexity" in s for s in seeds):
            lines += ["", "Perplexity, per token of a model's own tokenizer:", "", *grid(columns, lambda s, row: [s["perplexity"][row][c] for c in columns])]
        scores = [(t, m) for t, v in seeds[0].get("tasks", {}).items() for m in v["metrics"]]
        if scores:
            lines += ["", "Tasks:", "", *grid(["%s, %s" % x for x in scores], lambda s, row: [
                s["tasks"][t]["metrics"][m]["models"][row]["value"] for t, m in scores if row in s["tasks"][t]["metrics"][m]["models"]])]
        lines += ["", "Chosen on the first seed's validation text (lambda, learning rate; bits per byte there, epoch): " + "; ".join(
            "%s %s, %s (%.4f, %d)" % (n, t[0]["lambda"], t[0]["lr"], t[0]["valid"], t[0]["epoch"]) for n, t in r["tried"].items()) + "."]
        return "\n".join(lines) + "\n"


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--size", choices=SIZES, default="full")
    p.add_argument("--only", default="a,b,c,d", help="which experiments")
    p.add_argument("--seeds", help="instead of the size's own")
    p.add_argument("--lambdas", help="to search among, instead of the size's own")
    p.add_argument("--lrs", help="the same: learning rates")
    p.add_argument("--methods", help="rows of A, B and D to train, with commas between them, beside clm and kfuse; all of them otherwise")
    p.add_argument("--docs", type=int, metavar="N", help="training passages a domain, of C conversations, instead of the size's own")
    p.add_argument("--epochs", type=int, metavar="N", help="the same: epochs")
    p.add_argument("--tasks", help="questions that every model is asked, instead of the size's own")
    p.add_argument("--task-limit", type=int, metavar="N", help="the first N items of each task, 0 for all, instead of the size's own")
    p.add_argument("--target", required=True)
    p.add_argument("--sources", required=True)
    p.add_argument("--domains", required=True)
    p.add_argument("--expert-domains", default="prose docs c", help="of B: an expert each")
    p.add_argument("--chat-domains", default="faq chitchat", help="of C")
    p.add_argument("--language-domains", default="german", help="of D")
    p.add_argument("--chat-template", action="append", default=[], metavar="MODEL=NAME", help="of C, where a model has none of its own")
    p.add_argument("--data", default="data")
    p.add_argument("--work", default="work/experiments")
    p.add_argument("--bin", default="build/bin")
    p.add_argument("--make", default="make")
    p.add_argument("--threads", type=int, default=0)
    p.add_argument("--jobs", type=int, default=1, metavar="N", help="trainings at a time, which share the cores; each needs memory of its own")
    p.add_argument("--replace", action="store_true", help="what was made from other texts, models or options is made anew")
    args = p.parse_args()
    for name, n in (("DOCS", args.docs), ("EPOCHS", args.epochs), ("JOBS", args.jobs)):
        if n is not None and n < 1:
            sys.exit("experiments: %s=%d: must be at least 1" % (name, n))
    parts = words(args.only)
    for part in parts:
        if part not in ("a", "b", "c", "d"):
            sys.exit("experiments: ONLY=%s: there is no experiment '%s': name some of a, b, c, d" % (args.only, part))
    if not parts:
        sys.exit("experiments: ONLY names no experiment: name some of a, b, c, d")
    for seed in words(args.seeds or ""):
        if not seed.isdecimal():
            sys.exit("experiments: SEEDS=%s: '%s' is no whole number" % (args.seeds, seed))
    # what is ignored (in the background, under nohup) stays so; but programs have to hear SIGINT, and what has a handler here they hear
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, on_signal)
        elif number == signal.SIGINT:
            signal.signal(number, lambda *_: None)
    try:
        e = Experiments(args)
        for part in parts:
            {"a": e.a, "b": e.b, "c": e.c, "d": e.d}[part]()
    except Stopped as stopped:
        number = stopped.args[0]
        say("experiments: stopped by %s; the same command goes on where it was" % signal.Signals(number).name)
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)


if __name__ == "__main__":
    main()
