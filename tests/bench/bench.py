"""make bench and make bench-peers: speed, memory and size of the stages on the demo's models.

    bench.py BUILD own|peers|merge|stream|eval [--passages N] [--rounds N]

Runs the programs as a user would, on passages of the demo's text, and writes JSON into BUILD/bench/:
extract.json, error.json, store.json, align.json, map.json, train.json, ops.json, eval.json, stream.json (own), peers.json and merge.json (the same
beside Hugging Face transformers, llama.cpp and, for merging, mergekit, in turn, on this machine). Ours include loading the model.
Figures of one noisy machine: compare ratios of one run, not bare times. Where other programs run, tokens a second of
processor time are steadier than those of the clock.
"""
import argparse
import glob
import json
import os
import resource
import shutil
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import limited  # noqa: E402

MODELS = ["smollm2-135m", "gemma3-270m", "qwen2.5-coder-0.5b"]
LLAMA_CPP = "0.3.36"  # of llama-cpp-python, which ships the source of llama.cpp
DOMAINS = ["prose", "docs", "python", "c"]


def measure(cmd, quiet=True):
    """Run; seconds of wall time and peak memory in MB (resident; pages of mapped files count), and of processor time."""
    start = time.monotonic()
    p = subprocess.Popen(cmd, stdout=subprocess.DEVNULL if quiet else None, stderr=subprocess.PIPE)
    err = p.stderr.read().decode(errors="replace")
    _, status, usage = os.wait4(p.pid, 0)
    p.returncode = os.waitstatus_to_exitcode(status)
    if p.returncode != 0:
        sys.exit("bench: failed: %s\n%s" % (" ".join(cmd), err[-2000:]))
    return time.monotonic() - start, usage.ru_maxrss / 1024, usage.ru_utime + usage.ru_stime


def speed(tokens, seconds, mb, cpu):
    return {"tokens": tokens, "seconds": round(seconds, 2), "tokens_per_second": round(tokens / seconds, 1),
            "tokens_per_cpu_second": round(tokens / cpu, 1), "peak_mb": round(mb)}


class Bench:
    def __init__(self, build, passages):
        self.build, self.bin = build, build + "/bin/"
        self.out = build + "/bench"
        self.work = build + "/bench/work"
        shutil.rmtree(self.work, ignore_errors=True)
        os.makedirs(self.work)
        self.run("prepare", "--out", self.at("corpus"), "--split", "train", "--docs-per-domain", str(passages),
                 "--doc-bytes", "2048", "--shards", "1", *["data/text/%s.jsonl" % d for d in DOMAINS])

    def at(self, name):
        return self.work + "/" + name

    def run(self, program, *args):
        return measure([self.bin + "kf-" + program, "--progress", "none", *args])[:2]

    def manifest(self, name):
        with open(self.at(name) + "/manifest.json") as f:
            return json.load(f)

    def disk(self, name):
        """Bytes of a set's shards and manifest. The tokenizer, once a set whatever its size, is not counted."""
        return sum(e.stat().st_size for e in os.scandir(self.at(name)) if not e.name.startswith("tokenizer"))

    def tokens(self, name):
        return sum(s["tokens"] for s in self.manifest(name)["shards"])

    def save(self, name, result):
        result = {"machine": machine(), "date": time.strftime("%Y-%m-%d"), **result}
        with open("%s/%s.json" % (self.out, name), "w") as f:
            json.dump(result, f, indent=1)
        print("%s.json: %s" % (name, json.dumps({k: v for k, v in result.items() if k not in ("machine", "date")})))

    def extract(self, model, name, *options):
        seconds, mb, cpu = measure([self.bin + "kf-extract", "--progress", "none", "--model", "data/models/%s.gguf" % model, "--corpus",
                                    self.at("corpus"), "--out", self.at(name), *options])
        return speed(self.tokens(name), seconds, mb, cpu)

    def error(self, model):
        """Mean KL to float32 of every way to compute; the last line is what kf-extract chooses."""
        return self.lines("bench_error", "data/models/%s.gguf" % model, self.at("corpus"))

    def way(self, model):
        """Options of the way that kf-extract chooses on more text than this."""
        way = self.lines("bench_error", "data/models/%s.gguf" % model, self.at("corpus"), "512", "way")[-1]
        return ["--compute", way["compute"]] + (["--int8", way["int8"]] if way["int8"] else [])

    def own(self):
        extract, store = {}, {}
        for m in MODELS:
            extract[m] = self.extract(m, m, "--compute", "f32")
            # for its size only, so the faster way to compute
            self.extract(m, m + ".nopath", "--compute", "bf16" if has_bf16() else "f32", "--byte-path", "no")
            store[m] = {"bytes_per_token": round(self.disk(m) / self.tokens(m), 2),
                        "bytes_per_token_without_byte_path": round(self.disk(m + ".nopath") / self.tokens(m + ".nopath"), 2),
                        "tokens": self.tokens(m)}
        self.save("extract", extract)
        self.save("error", {m: self.error(m) for m in MODELS})
        target = MODELS[0]
        align = {}
        for m in MODELS[1:]:
            seconds, mb = self.run("align", "--threads", "1", "--source", self.at(m), "--target", self.at(target), "--out", self.at("aligned-" + m))
            tokens = self.tokens("aligned-" + m)
            align[m] = {"whole_run_seconds_one_core": round(seconds, 2), "peak_mb": round(mb), "tokens": tokens}
            align[m]["parts"] = self.lines("bench_align", self.at(m), self.at(target))
            store["aligned " + m] = {"bytes_per_token": round(self.disk("aligned-" + m) / tokens, 2)}
        self.run("fuse", "--target", self.at(target), *[a for m in MODELS[1:] for a in ("--aligned", self.at("aligned-" + m))], "--out", self.at("targets"))
        store["targets"] = {"bytes_per_token": round(self.disk("targets") / self.tokens("targets"), 2)}
        self.save("store", store)
        self.save("align", align)
        # Qwen to SmolLM2 is the pair that the reference's time is known of
        self.save("map", {"%s to %s" % (a, b): self.lines("bench_map", *["data/models/%s.gguf" % m for m in (a, b)])
                          for a, b in ((MODELS[2], MODELS[0]), (MODELS[1], MODELS[0]), (MODELS[0], MODELS[2]))})
        seconds, mb = self.run("train", "--model", "data/models/%s.gguf" % target, "--targets", self.at("targets"), "--out", self.at("fused"),
                               "--epochs", "1", "--batch-tokens", "2048", "--max-steps", "4")
        with open(self.at("fused") + "/log.jsonl") as f:
            steps = [r for r in map(json.loads, f) if "tokens_per_second" in r]
        rates = sorted(r["tokens_per_second"] for r in steps)
        self.save("train", {"steps": len(steps), "tokens_per_second_median": rates[len(rates) // 2], "fastest": rates[-1],
                            "slowest": rates[0], "whole_run_seconds": round(seconds, 1), "peak_mb": round(mb)})
        self.save("ops", {"ops": self.lines("bench_ops", "--tokens", "2048")})
        self.evaluate(2)
        self.stream(2)

    def evaluate(self, rounds):
        """kf-eval beside kf-extract, in turn: on the same text, and asked which of four pieces of eight tokens comes next in each document
        of it (the tokens are a prompt's and its four endings')."""
        result = {}
        for m in MODELS:
            self.extract(m, m + ".asked", "--compute", "f32", "--precision", "f32", "--byte-path", "no")
            docs, texts = self.show(m + ".asked"), [d["text"].encode() for d in self.show("corpus")]
            docs = [(d["start"], t) for d, t in zip(docs, texts) if len(d["tokens"]) > 64]
            ends = [t[s[-10]:s[-2]].decode(errors="replace") for s, t in docs]
            with open(self.at("questions.jsonl"), "w") as f:
                f.write(json.dumps({"task": "next", "kind": "choice", "delimiter": ""}) + "\n")
                for i, (s, t) in enumerate(docs):
                    f.write(json.dumps({"prompt": t[:s[-10]].decode(errors="replace"), "choices": [ends[(i + k) % len(ends)] for k in range(4)],
                                        "answer": 0}) + "\n")
            asked = sum(len(s) - 11 + 4 * 8 for s, _ in docs)
            runs = {"extract": [], "text": [], "questions": []}
            for r in range(rounds):
                runs["extract"].append(self.extract(m, "%s.beside.%d" % (m, r), "--compute", "f32"))
                for way, tokens, options in (("text", runs["extract"][0]["tokens"], ["--corpus", self.at("corpus")]),
                                             ("questions", asked, ["--tasks", self.at("questions.jsonl")])):
                    seconds, mb, cpu = measure([self.bin + "kf-eval", "--quiet", "--compute", "f32", "--model", "data/models/%s.gguf" % m, *options])
                    runs[way].append(speed(tokens, seconds, mb, cpu))
            best = {way: max(x["tokens_per_cpu_second"] for x in v) for way, v in runs.items()}
            result[m] = {**{way: summary(v) for way, v in runs.items()},
                         **{"%s_over_extract" % way: round(best[way] / best["extract"], 2) for way in ("text", "questions")}}
            print(m, json.dumps(result[m]), flush=True)
        self.save("eval", result)

    def stream(self, rounds):
        """A model of 1.1 GB in 200 MB, layer by layer, beside the same with all the memory there is, in turn."""
        model = self.at("large")
        size = int(subprocess.run([sys.executable, "tests/models/make_large.py", model, "--layers", "48", "--width", "1024", "--mlp", "2816"],
                                  stdout=subprocess.PIPE, check=True).stdout)
        self.run("prepare", "--out", self.at("few"), "--split", "train", "--docs-per-domain", "1", "--doc-bytes", "1024", "--shards", "1",
                 *["data/text/%s.jsonl" % d for d in DOMAINS])
        command = [self.bin + "kf-extract", "--progress", "none", "--model", model, "--corpus", self.at("few"), "--batch-tokens", "512"]
        runs = {"in_memory": [], "streamed": []}
        for r in range(rounds):
            for way, mb, options in (("in_memory", 0, ["--stream", "no"]), ("streamed", 200, ["--stream", "auto"])):
                out = self.at("%s.%d" % (way, r))
                runs[way].append(limited.run(mb, [*command, "--out", out, *options], model if mb else None))
                if runs[way][-1]["status"] != 0:
                    sys.exit("bench: %s failed" % way)
                tokens = self.tokens("%s.%d" % (way, r))
                runs[way][-1]["tokens_per_second"] = round(tokens / runs[way][-1]["seconds"], 1)
        same = all(subprocess.run(["cmp", "-s", self.at("in_memory.0") + "/" + e.name, self.at("streamed.0") + "/" + e.name]).returncode == 0
                   for e in os.scandir(self.at("in_memory.0")) if e.name.startswith("shard-"))
        best = {way: max(r["tokens_per_second"] for r in v) for way, v in runs.items()}
        self.save("stream", {"weights_mb": round(size / 1e6), "tokens": tokens, "same_bytes": same,
                             "ratio": round(best["streamed"] / best["in_memory"], 3),
                             "cpu_ratio": round(min(r["cpu_seconds"] for r in runs["in_memory"]) / min(r["cpu_seconds"] for r in runs["streamed"]), 3),
                             **runs})
        shutil.rmtree(model)

    def lines(self, program, *args):
        """The JSON lines of a benchmark program."""
        text = subprocess.run([self.build + "/bench/" + program, *args], stdout=subprocess.PIPE, check=True).stdout.decode()
        return [json.loads(line) for line in text.splitlines() if line.startswith("{")]

    def python(self, script, *args, check=True, venv=None):
        p = subprocess.run([(venv or self.out + "/venv") + "/bin/python", script, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if check and p.returncode != 0:
            sys.exit("bench: %s failed:\n%s" % (script, p.stderr.decode()[-2000:]))
        return json.loads(p.stdout.decode().splitlines()[-1])

    def peers(self, rounds):
        """Beside transformers in float32 and llama.cpp, ours and theirs in turn. transformers and llama.cpp without loading."""
        install(self.out + "/venv")
        result = {}
        for m in MODELS:
            path = "data/models/%s.gguf" % m
            way = self.way(m)
            self.extract(m, m + ".exact", "--compute", "f32", "--precision", "f32", "--byte-path", "no")
            self.show(m + ".exact")
            runs = {"transformers": [], "llama.cpp": [], "kfuse f32": [], "kfuse bf16": [], "kfuse auto": [], "kfuse int8": []}
            for r in range(rounds):
                runs["transformers"].append(self.python("tests/bench/hf_extract.py", path))
                runs["llama.cpp"].append(self.python("tests/bench/llama_extract.py", path, self.at(m + ".exact.jsonl")))
                for name, options in (("f32", ["--compute", "f32"]), ("bf16", ["--compute", "bf16"]), ("auto", way), ("int8", ["--compute", "int8"])):
                    runs["kfuse " + name].append(self.extract(m, "%s.%s.%d" % (m, name, r), *options))
            result["extract " + m] = {"way": way[1:], **{k: summary(v) for k, v in runs.items()}}
            result["error " + m] = {name: self.ce_off(m + ".exact", m, options) for name, options in (
                ("bf16", ["--compute", "bf16"]), ("auto", way), ("int8", ["--compute", "int8"]))}
            result["agreement " + m] = self.python("tests/parity/compare_extract.py", "--model", path, "--logits", self.at(m + ".exact"),
                                                   "--inspect", self.bin + "kf-inspect", "--docs", "8", check=False)
            print(m, json.dumps({k: v for k, v in result.items() if k.endswith(m)}), flush=True)
        path = "data/models/%s.gguf" % MODELS[0]
        ours, theirs, bf16 = [], [], []
        for r in range(rounds):
            theirs.append(self.python("tests/bench/hf_train.py", path, "3"))
            ours.append(self.lines("bench_train", path, "3")[-1])
            if has_bf16():
                bf16.append(self.lines("bench_train", path, "3", "512", "0", "512", "bf16")[-1])
        result["train " + MODELS[0]] = compare(ours, theirs, bf16)
        self.save("peers", result)
        self.merge(rounds)

    def show(self, name):
        """A set as JSON lines, beside it."""
        with open(self.at(name) + ".jsonl", "wb") as f:
            subprocess.run([self.bin + "kf-inspect", self.at(name), "--json"], stdout=f, check=True)
        with open(self.at(name) + ".jsonl") as f:
            return [json.loads(line) for line in f]

    def ce_off(self, exact, model, options):
        """Mean absolute difference of a token's cross-entropy from float32's, nats."""
        name = model + ".off"
        shutil.rmtree(self.at(name), ignore_errors=True)
        self.extract(model, name, *options, "--precision", "f32", "--byte-path", "no")
        off = [abs(x - y) for a, b in zip(self.show(exact), self.show(name)) for x, y in zip(a["ce"], b["ce"]) if x is not None]
        return {"ce_mean_abs_diff": round(sum(off) / len(off), 5)}

    def merge(self, rounds):
        """kf-merge beside mergekit: a pivot and two models trained from it, 135M values in float32 each."""
        venv, base = self.out + "/mergekit", self.out + "/venv"
        if not os.path.exists(venv + "/ready"):  # it wants another transformers than the rest; torch is shared
            install(base)
            print("installing mergekit into %s" % venv, flush=True)
            subprocess.run([sys.executable, "-m", "venv", venv], check=True)
            for site in glob.glob(venv + "/lib/*/site-packages"):
                with open(site + "/base.pth", "w") as f:
                    f.write("\n".join(os.path.abspath(p) for p in glob.glob(base + "/lib/*/site-packages")) + "\n")
            subprocess.run([venv + "/bin/pip", "install", "-q", "mergekit==0.1.5"], check=True)
            open(venv + "/ready", "w").close()
        gguf = "data/models/%s.gguf" % MODELS[0]
        self.run("extract", "--model", gguf, "--corpus", self.at("corpus"), "--out", self.at("clm"), "--top-k", "1",
                 "--byte-path", "no")
        self.run("merge", "--method", "linear", "--models", gguf, "--out", self.at("pivot"))
        paths = [self.at("pivot")]
        for i in (1, 2):
            paths.append(self.at("trained-%d" % i))
            self.run("train", "--model", gguf, "--targets", self.at("clm"), "--out", paths[-1], "--lambda", "1", "--lr", "1e-4",
                     "--batch-tokens", "512", "--max-steps", "4", "--seed", str(i))
        result = {}
        for method in ("linear", "ties", "sce"):
            ours, theirs = [], []
            for r in range(rounds):
                shutil.rmtree(self.at("theirs"), ignore_errors=True)
                theirs.append(self.python("tests/bench/mergekit_merge.py", method, self.at("theirs"), *paths, venv=venv))
                cpu = children_cpu()
                seconds, mb = self.run("merge", "--method", method, "--compat", "mergekit", "--out", self.at("out"), *(
                    [] if method == "linear" else ["--pivot", paths[0]]), "--models", paths[1], "--models", paths[2])
                ours.append({"seconds": seconds, "cpu_seconds": children_cpu() - cpu, "peak_mb": mb})
                agreement = self.python("tests/parity/compare_merge.py", self.at("theirs"), self.at("out"), venv=venv)
                shutil.rmtree(self.at("out"))
            result[method] = {"%s_%s" % (who, what): [round(x[what], 1) for x in runs]
                              for who, runs in (("kfuse", ours), ("mergekit", theirs)) for what in runs[0]}
            result[method]["agreement"] = agreement
            result[method]["ratio"] = round(min(x["seconds"] for x in theirs) / min(x["seconds"] for x in ours), 2)
            print(method, json.dumps(result[method]), flush=True)
        self.save("merge", result)


def install(venv):
    """The environment of the peers, once, and again when what belongs into it has changed."""
    wanted = ["torch", "transformers==4.57.*", "accelerate", "gguf", "llama-cpp-python==%s" % LLAMA_CPP]
    ready = venv + "/ready"
    if os.path.exists(ready) and open(ready).read().split() == wanted:
        return
    print("installing torch, transformers and llama.cpp into %s" % venv, flush=True)
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    # llama.cpp is built from source with this machine's instructions: ten minutes on two cores
    subprocess.run([venv + "/bin/pip", "install", "-q", *wanted], check=True)
    with open(ready, "w") as f:
        f.write("\n".join(wanted) + "\n")


def children_cpu():
    u = resource.getrusage(resource.RUSAGE_CHILDREN)
    return u.ru_utime + u.ru_stime


def summary(runs):
    """All figures of some runs that are rates, and the rest's last."""
    return {k: [r[k] for r in runs] if k.startswith("tokens_per") else runs[-1][k] for k in runs[-1] if k not in ("tool", "work")}


def compare(ours, theirs, bf16):
    def rates(runs):
        return [round(r["tokens_per_second"], 1) for r in runs]

    def middle(runs):
        return sorted(rates(runs))[len(runs) // 2]

    return {"kfuse_tokens_per_second": rates(ours), "kfuse_bf16_tokens_per_second": rates(bf16),
            "transformers_tokens_per_second": rates(theirs), "ratio": round(middle(ours) / middle(theirs), 2),
            "kfuse_peak_mb": max(r["peak_mb"] for r in ours), "transformers_peak_mb": max(r["peak_mb"] for r in theirs)}


def machine():
    with open("/proc/cpuinfo") as f:
        name = next((l.split(":")[1].strip() for l in f if l.startswith("model name")), "unknown")
    return {"cpu": name, "cores": len(os.sched_getaffinity(0)), "bf16": has_bf16()}


def has_bf16():
    with open("/proc/cpuinfo") as f:
        return "avx512_bf16" in f.read()


if __name__ == "__main__":
    p = argparse.ArgumentParser()
    p.add_argument("build")
    p.add_argument("what", choices=["own", "peers", "merge", "stream", "eval"])
    p.add_argument("--passages", type=int, default=8, help="a domain")
    p.add_argument("--rounds", type=int, default=2, help="of ours and theirs in turn")
    a = p.parse_args()
    bench = Bench(a.build, a.passages)
    if a.what == "own":
        bench.own()
    elif a.what == "stream":
        bench.stream(a.rounds)
    elif a.what == "eval":
        bench.evaluate(a.rounds)
    elif a.what == "merge":
        bench.merge(a.rounds)
    else:
        bench.peers(a.rounds)
