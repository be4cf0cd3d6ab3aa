"""make bench-scale: what the stages cost as texts, corpora, k, vocabularies, sources and threads grow; and what that says of large runs.

    scale.py BUILD [--documents 10000,100000,1000000] [--only linear,axes,opening,stages] [--into docs/scale.md]

Alignment and fusion are measured on made-up predictions (tests/bench/bench_synth.c) of three real tokenizers, so that a million documents
take minutes; extraction, training and the rest on the demo's models and text. All by processor time: on a busy machine the clock says
little. Writes BUILD/bench/scale.json, where a part that is not run this time keeps its last figures, and the tables of
docs/scale.md. A million documents take 6 GB of disk for a while; what is made is deleted.
"""
import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import bench  # noqa: E402
import marks  # noqa: E402

SMOL, GEMMA, QWEN = ["data/models/%s.gguf" % m for m in bench.MODELS]
MARKS = "<!-- scale -->", "<!-- end -->"
BYTES = 100           # of a made-up document
PER_SHARD = 5000      # documents
GB = 1e9


class Scale:
    def __init__(self, build):
        self.bin, self.synth = build + "/bin/kf-", build + "/bench/bench_synth"
        self.work = build + "/bench/scale-%d" % os.getpid()   # two runs need not disturb each other
        shutil.rmtree(self.work, ignore_errors=True)
        os.makedirs(self.work)

    def at(self, name):
        return self.work + "/" + name

    def drop(self, *names):
        for n in names or os.listdir(self.work):
            shutil.rmtree(self.at(n), ignore_errors=True)

    def make(self, documents, size, k, shards, target, *sources):
        self.drop()
        subprocess.run([self.synth, self.work, str(documents), str(size), str(k), str(shards), "0", target, *sources], check=True)

    def manifest(self, name):
        with open(self.at(name) + "/manifest.json") as f:
            return json.load(f)

    def disk(self, name):
        """Shards and manifest; the tokenizer, once a set whatever its size, is not counted."""
        return sum(e.stat().st_size for e in os.scandir(self.at(name)) if not e.name.startswith("tokenizer"))

    def run(self, rounds, out, program, *args):
        """The median processor time and clock time of some rounds, and the most memory of any."""
        walls, mbs, cpus = [], [], []
        for _ in range(rounds):
            self.drop(out)
            wall, mb, cpu = bench.measure([self.bin + program, *args, "--out", self.at(out), "--quiet"])
            walls.append(wall), mbs.append(mb), cpus.append(cpu)
        return {"cpu_seconds": round(statistics.median(cpus), 3), "seconds": round(statistics.median(walls), 3), "peak_mb": round(max(mbs), 3)}

    def align(self, rounds, source="source0", out="aligned0", threads=1):
        return self.run(rounds, out, "align", "--source", self.at(source), "--target", self.at("target"), "--threads", str(threads))

    def fuse(self, rounds, sources=1, threads=1):
        return self.run(rounds, "targets", "fuse", "--target", self.at("target"), "--threads", str(threads),
                        *[a for s in range(sources) for a in ("--aligned", self.at("aligned%d" % s))])

    # ---- documents: is it linear, and memory flat? ----

    def linear(self, sizes):
        rows = []
        for n in sizes:
            rounds = max(3, min(7, 200000 // n))
            self.make(n, BYTES, 10, max(1, n // PER_SHARD), SMOL, QWEN)
            tokens = self.manifest("target")["tokens"]
            row = {"documents": n, "tokens": tokens, "rounds": rounds, "align": self.align(rounds), "fuse": self.fuse(rounds),
                   "bytes_per_token": {s: round(self.disk(s) / (self.manifest(s)["tokens"]), 2) for s in ("target", "source0", "aligned0", "targets")}}
            rows.append(row)
            print(json.dumps(row), flush=True)
        self.make(1, BYTES, 10, 1, SMOL, QWEN)   # what starting takes: tokenizers, manifests
        start = {"align": self.align(7), "fuse": self.fuse(7)}
        return {"rows": rows, "start": start}

    # ---- what else it costs with ----

    def point(self, tokens_wanted, size, k, target, sources, threads=1, rounds=3):
        documents = max(16, tokens_wanted * 5 // size)
        self.make(documents, size, k, 2, target, *sources)
        tokens = self.manifest("target")["tokens"]
        aligned = [self.align(rounds if s == 0 else 1, "source%d" % s, "aligned%d" % s, threads) for s in range(len(sources))]
        fused = self.fuse(rounds, len(sources), threads)
        per = 1e6 / tokens
        return {"documents": documents, "tokens": tokens, "align_cpu_per_million": round(aligned[0]["cpu_seconds"] * per, 3),
                "fuse_cpu_per_million": round(fused["cpu_seconds"] * per, 3), "align_mb": aligned[0]["peak_mb"], "fuse_mb": fused["peak_mb"],
                "align_seconds": aligned[0]["seconds"], "fuse_seconds": fused["seconds"],
                "bytes_per_token": {s: round(self.disk(s) / self.manifest(s)["tokens"], 2) for s in ("target", "source0", "aligned0", "targets")}}

    def axes(self):
        n = 150000
        names = {SMOL: "49,152", QWEN: "151,936", GEMMA: "262,144"}
        axes = {"length": [], "k": [], "vocabulary": [], "sources": [], "threads": []}
        for size in (100, 400, 1600, 6400, 25600, 102400):
            axes["length"].append({"at": "%d bytes" % size, **self.point(n, size, 10, SMOL, [QWEN])})
        for k in (5, 10, 20, 50):
            axes["k"].append({"at": str(k), **self.point(n, 400, k, SMOL, [QWEN])})
        for target, source in ((SMOL, SMOL), (SMOL, QWEN), (SMOL, GEMMA), (QWEN, SMOL), (GEMMA, SMOL)):
            axes["vocabulary"].append({"at": "%s from %s" % (names[target], names[source]), **self.point(n, 400, 10, target, [source])})
        for sources in (1, 2, 4, 8):
            axes["sources"].append({"at": str(sources), **self.point(n, 400, 10, SMOL, [QWEN, GEMMA] * (sources // 2) or [QWEN])})
        for threads in (1, 2):
            axes["threads"].append({"at": str(threads), **self.point(n, 400, 10, SMOL, [QWEN], threads)})
        for axis, points in axes.items():
            for p in points:
                print(axis, json.dumps(p), flush=True)
        return axes

    # ---- a set of very many shards ----

    def opened(self, cmd, handles=None):
        """Run with so many file handles at most; what it took, and how many it had open at once when looked at."""
        most, done = [0], threading.Event()
        start = time.monotonic()
        limit = ["bash", "-c", 'ulimit -n "$0" && exec "$@"', str(handles)] if handles else []
        p = subprocess.Popen(limit + cmd, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

        def look():
            while not done.is_set():
                try:
                    most[0] = max(most[0], len(os.listdir("/proc/%d/fd" % p.pid)))
                except OSError:
                    pass
                time.sleep(0.005)
        t = threading.Thread(target=look)
        t.start()
        err = p.stderr.read().decode(errors="replace")
        _, status, usage = os.wait4(p.pid, 0)
        done.set()
        t.join()
        if status:
            sys.exit("bench: failed: %s\n%s" % (" ".join(cmd), err[-2000:]))
        return {"seconds": round(time.monotonic() - start, 2), "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 2),
                "peak_mb": round(usage.ru_maxrss / 1024, 1), "handles": most[0]}

    def opening(self):
        result = {"shards": 10000}
        self.make(10000, BYTES, 10, 10000, SMOL, QWEN)
        result["manifest_mb"] = round(os.path.getsize(self.at("target/manifest.json")) / 1e6, 2)
        align = [self.bin + "align", "--source", self.at("source0"), "--target", self.at("target"), "--out", self.at("aligned0"), "--quiet"]
        fuse = [self.bin + "fuse", "--target", self.at("target"), "--aligned", self.at("aligned0"), "--out", self.at("targets"), "--quiet"]
        result["inspect"] = self.opened([self.bin + "inspect", self.at("target")], 32)
        result["inspect --doc 9999"] = self.opened([self.bin + "inspect", self.at("target"), "--doc", "9999"], 32)
        result["align"] = self.opened(align, 32)
        result["align, up to date"] = self.opened(align, 32)
        result["fuse"] = self.opened(fuse, 32)
        os.rename(self.at("targets/manifest.json"), self.at("targets/manifest.part.json"))
        result["fuse, all shards there, no manifest"] = self.opened(fuse, 32)
        os.rename(self.at("targets/manifest.json"), self.at("targets/manifest.part.json"))
        result["fuse --shard 7/1000, the same"] = self.opened([*fuse, "--shard", "7/1000"], 32)
        for k, v in result.items():
            print(k, json.dumps(v), flush=True)
        return result

    # ---- every stage, on the demo's models and text ----

    def stages(self):
        self.drop()
        texts = ["data/text/%s.jsonl" % d for d in bench.DOMAINS]
        result = {}
        whole = self.run(3, "whole", "prepare", *texts)
        text = self.manifest("whole")["bytes"]
        result["prepare"] = {**whole, "bytes_of_text": text, "bytes": self.disk("whole")}
        subprocess.run([self.bin + "prepare", "--out", self.at("corpus"), "--docs-per-domain", "2", "--doc-bytes", "2048", "--shards", "1", "--seed",
                        "1", "--quiet", *texts], check=True)
        for m, path in zip(bench.MODELS, (SMOL, GEMMA, QWEN)):
            r = self.run(1, m, "extract", "--model", path, "--corpus", self.at("corpus"), "--compute", "f32", "--threads", "2")
            result["extract " + m] = {**r, "tokens": self.manifest(m)["tokens"], "bytes": self.disk(m)}
        smol = bench.MODELS[0]
        for m in bench.MODELS[1:]:
            r = self.run(3, "a-" + m, "align", "--source", self.at(m), "--target", self.at(smol), "--threads", "1")
            result["align " + m] = {**r, "tokens": self.manifest("a-" + m)["tokens"], "bytes": self.disk("a-" + m)}
        r = self.run(3, "t", "fuse", "--target", self.at(smol), *[a for m in bench.MODELS[1:] for a in ("--aligned", self.at("a-" + m))], "--threads", "1")
        result["fuse"] = {**r, "tokens": self.manifest("t")["tokens"], "bytes": self.disk("t")}
        r = self.run(1, "model", "train", "--model", SMOL, "--targets", self.at("t"), "--batch-tokens", "2048", "--max-steps", "3", "--threads", "2")
        with open(self.at("model/log.jsonl")) as f:
            steps = [s for s in map(json.loads, f) if "tokens_per_second" in s]
        result["train " + smol] = {**r, "tokens": 2048 * len(steps), "tokens_per_second": sorted(s["tokens_per_second"] for s in steps)[len(steps) // 2]}
        wall, mb, cpu = bench.measure([self.bin + "eval", *[a for m in bench.MODELS for a in ("--logits", "%s=%s" % (m, self.at(m)))],
                                       "--quiet", "--report", self.at("report.json")])
        result["eval from logits, 3 models"] = {"cpu_seconds": round(cpu, 3), "seconds": round(wall, 3), "peak_mb": round(mb),
                                                "tokens": sum(self.manifest(m)["tokens"] for m in bench.MODELS)}
        for k, v in result.items():
            print(k, json.dumps(v), flush=True)
        return result


# ---- tables ----

def table(head, rows):
    return ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)] + ["| " + " | ".join(str(c) for c in r) + " |" for r in rows] + [""]


def number(x, digits=3):
    return format(float("%.*g" % (digits, x)), ",.10g")


def show_linear(r):
    rows, start = r["rows"], r["start"]
    out = ["### Documents", "",
           "Made-up documents of %d bytes, k = 10, SmolLM2's vocabulary from Qwen's, %s documents a shard, one thread; the median processor time of as "
           "many rounds as are named. *Beyond the row before* is what those documents cost that the row has more than the one before it: without what "
           "starting takes (tokenizers, manifests; a set of one document: align %.2f s, fuse %.2f s)." % (
               BYTES, number(PER_SHARD), start["align"]["cpu_seconds"], start["fuse"]["cpu_seconds"]), ""]
    lines = []
    for stage in ("align", "fuse"):
        first = None
        for i, row in enumerate(rows):
            beyond = ("", "", "")
            if i:
                cpu = row[stage]["cpu_seconds"] - rows[i - 1][stage]["cpu_seconds"]
                cost = cpu / (row["documents"] - rows[i - 1]["documents"]) * 1e6
                first = first or cost
                beyond = (number(cost), "%+.1f %%" % (100 * (cost / first - 1)), number((row["tokens"] - rows[i - 1]["tokens"]) / cpu))
            lines.append((stage, number(row["documents"], 7), number(row["tokens"]), row["rounds"], number(row[stage]["cpu_seconds"]), *beyond,
                          "%.0f" % row[stage]["peak_mb"]))
    out += table(("", "documents", "tokens", "rounds", "CPU seconds", "beyond the row before, a million documents", "linear would be 0", "tokens a CPU second",
                  "peak memory, MB"), lines)
    big = rows[-1]["bytes_per_token"]
    out += ["On disk %.1f (target) and %.1f (source) bytes a token of logits, %.1f aligned, %.1f fused; predictions of models pack differently "
            "(README)." % (big["target"], big["source0"], big["aligned0"], big["targets"]), ""]
    return out


def show_axes(axes):
    out = []
    titles = {"length": "Length of a document", "k": "k", "vocabulary": "Vocabularies: the target's, from the source's",
              "sources": "Sources", "threads": "Threads"}
    for axis, points in axes.items():
        seconds = axis == "threads"
        out += ["### " + titles[axis], ""]
        out += table((axis, "align, CPU s a million tokens", "fuse", "align, MB", "fuse, MB", *(("align, s", "fuse, s") if seconds else ()),
                      "logits, bytes a token", "aligned", "fused"),
                     [(p["at"], p["align_cpu_per_million"], p["fuse_cpu_per_million"], "%.0f" % p["align_mb"], "%.0f" % p["fuse_mb"],
                       *((p["align_seconds"], p["fuse_seconds"]) if seconds else ()),
                       p["bytes_per_token"]["source0"], p["bytes_per_token"]["aligned0"], p["bytes_per_token"]["targets"]) for p in points])
    return out


def show_opening(r):
    return ["### A set of %s shards" % number(r["shards"], 6), "",
            "A document of %d bytes each; the manifest has %.1f MB. Every program may have 32 files open." % (BYTES, r["manifest_mb"]), "",
            *table(("", "seconds", "CPU seconds", "peak memory, MB", "files open at most (seen)"),
                   [(k, v["seconds"], v["cpu_seconds"], v["peak_mb"], v["handles"]) for k, v in r.items() if isinstance(v, dict)])]


def show_stages(r):
    lines = []
    for name, v in r.items():
        if "tokens" not in v:
            lines.append((name, "%.2f a million bytes of text" % (v["cpu_seconds"] / v["bytes_of_text"] * 1e6), "%.0f" % v["peak_mb"],
                          "%.2f a byte of text" % (v["bytes"] / v["bytes_of_text"])))
        else:
            cpu = 2e6 / v["tokens_per_second"] if "tokens_per_second" in v else v["cpu_seconds"] / v["tokens"] * 1e6
            lines.append((name, number(cpu), "%.0f" % v["peak_mb"], "%.1f" % (v["bytes"] / v["tokens"]) if "bytes" in v else ""))
    return ["### Every stage", "",
            "On the demo's text and models, float32, starting and loading included (these sets are small, some 4,000 tokens: of align, fuse and eval "
            "it is most of what is seen here; above are their costs beyond it); train by its log's rate on two cores.", "",
            *table(("", "CPU seconds a million tokens", "peak memory, MB", "bytes a token"), lines)]


# ---- projections ----

PEAK = 989e12         # H100, H200: bfloat16, dense, FLOP/s, by its maker
EXTRACT, TRAIN = 0.55, 0.5


def hours(s):
    return "%.0f min" % (s / 60) if s < 5400 else "%.1f h" % (s / 3600) if s < 172800 else "%.1f days" % (s / 86400)


def show_projection(result):
    linear = result["linear"]
    last, start = linear["rows"][-1], linear["start"]
    align = (last["align"]["cpu_seconds"] - start["align"]["cpu_seconds"]) / last["tokens"]
    fuse1 = (last["fuse"]["cpu_seconds"] - start["fuse"]["cpu_seconds"]) / last["tokens"]
    by = {p["at"]: p["fuse_cpu_per_million"] * 1e-6 for p in result["axes"]["sources"]} if "axes" in result else {}
    runs = [
        ("FuseLLM", 1.8e9, 1, 6.7e9, 6.7e9,
         [("Llama-2-7B, the target", 6.7e9, 6.7e9), ("OpenLLaMA-7B", 6.7e9, 6.7e9), ("MPT-7B", 6.6e9, 6.6e9)],
         "1.8 billion tokens of MiniPile, one epoch; three 7B models, one of them the target"),
        ("FuseChat", 114e6, 3, 7.2e9, 7.2e9,
         [("OpenChat-3.5-7B, the pivot", 7.2e9, 7.2e9), ("Starling-LM-7B", 7.2e9, 7.2e9), ("NH2-SOLAR-10.7B", 10.7e9, 10.7e9),
          ("InternLM2-Chat-20B", 19.9e9, 19.9e9), ("Mixtral-8x7B", 46.7e9, 12.9e9), ("Qwen1.5-Chat-72B", 72.3e9, 72.3e9)],
         "95,000 conversations, taken as 1,200 tokens each; five targets (the pivot with each other model), three epochs, then a merger")]
    logits, aligned, fused = 24.0, 20.0, 19.0
    out = ["### What large runs would take", "",
           "**Aims, not measurements: no GPU was at hand.** Assumed: %.0f TFLOP/s a GPU (H100 or H200, bfloat16, by its maker); extraction at %.0f %% of that and "
           "training at %.0f %% (docs/gpu.md's aims); 2 FLOP a parameter in use and token to extract, 6 to train, 5 %% more for attention; "
           "parts of an array share nothing, so 8 and 64 GPUs extract 8 and 64 times as fast; training loses 5 %% on 8 GPUs and half on 64 to the exchange of "
           "gradients. Bytes a token: %.0f of logits, %.0f aligned, %.0f fused (README's table, rounded up). Alignment and fusion by the "
           "processor time measured above, on 16 such cores." % (PEAK / 1e12, 100 * EXTRACT, 100 * TRAIN, logits, aligned, fused), ""]
    for name, tokens, epochs, target, _, teachers, what in runs:
        n = len(teachers)
        pairs = name == "FuseChat"
        lines = []
        for g in (1, 8, 64):
            extraction = sum(2 * used * tokens * 1.05 for _, _, used in teachers) / (PEAK * EXTRACT) / g
            runs_of = n - 1 if pairs else 1
            training = runs_of * 6 * target * tokens * epochs * 1.05 / (PEAK * TRAIN) / (g * {1: 1, 8: 0.95, 64: 0.5}[g])
            cpu = (n - 1) * align * tokens / 16 + (runs_of * fuse1 if pairs else by.get(str(n - 1), fuse1 * (n - 1))) * tokens / 16
            lines.append((g, hours(extraction), hours(cpu), hours(training), hours(extraction + cpu + training)))
        disk = tokens * (n * logits + (n - 1) * aligned + (n - 1 if pairs else 1) * fused)
        out += ["**%s**: %s." % (name, what), "",
                *table(("GPUs", "extraction", "align and fuse, 16 cores", "training", "in all"), lines),
                "%.0f GB of sets: logits %.0f, aligned %.0f, targets %.0f. The largest model's weights are %.0f GB in bfloat16%s." % (
                    disk / GB, tokens * n * logits / GB, tokens * (n - 1) * aligned / GB, tokens * (n - 1 if pairs else 1) * fused / GB,
                    2 * max(p for _, p, _ in teachers) / GB,
                    ": more than one GPU has, so it is streamed layer by layer (docs/extract.md), which is as fast where blocks are large" if pairs else ""), ""]
    return out


def main():
    a = argparse.ArgumentParser()
    a.add_argument("build")
    a.add_argument("--documents", default="10000,100000,1000000")
    a.add_argument("--only", default="linear,axes,opening,stages")
    a.add_argument("--into", help="a file with the two marks")
    args = a.parse_args()
    path = args.build + "/bench/scale.json"
    result = {}
    if os.path.exists(path):
        with open(path) as f:
            result = json.load(f)
    if args.only:
        s = Scale(args.build)
        for part in args.only.split(","):
            sizes = [int(n) for n in args.documents.split(",")]
            result[part] = s.linear(sizes) if part == "linear" else getattr(s, part)()
            with open(path) if os.path.exists(path) else open(os.devnull) as f:
                result = {**json.loads(f.read() or "{}"), part: result[part], "machine": bench.machine(), "date": time.strftime("%Y-%m-%d")}
            with open(path, "w") as f:
                json.dump(result, f, indent=1)
        shutil.rmtree(s.work)
    m = result["machine"]
    text = ["Measured %s on %s, %d cores." % (result["date"], m["cpu"], m["cores"]), ""]
    for part, show in (("linear", show_linear), ("axes", show_axes), ("opening", show_opening), ("stages", show_stages)):
        text += show(result[part]) if part in result else []
    if "linear" in result:
        text += show_projection(result)
    text = re.sub(r"\n{3,}", "\n\n", "\n".join(text)).strip() + "\n"
    if args.into:
        marks.put(args.into, MARKS, text)
    print(text)


if __name__ == "__main__":
    main()
