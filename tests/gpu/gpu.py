"""make gpu-check and make gpu-bench: what has to be seen on a device.

    gpu.py BUILD check|bench [--into FILE] [--shapes 135m,1b,7b]

check: parity of every op and architecture with the CPU backend; a short training and an extraction by the programs, on both; compute-sanitizer
where the toolkit has it. bench: extraction and training of three shapes with random weights beside Hugging Face transformers
(where torch and transformers are installed: GPU_PYTHON names the Python), and what our own kernels reach.

Writes BUILD/gpu/{check,bench}-DATE.json, and with --into a section of FILE. Without a device it says so and fails: what was not run has
not passed.
"""
import argparse
import glob
import json
import os
import shutil
import subprocess
import sys
import time

PEAK = {"H100 PCIe": 756, "H100 NVL": 835, "H100": 989, "H200": 989, "GH200": 989, "A100": 312, "B200": 2250}   # dense bf16, TFLOP/s


def fail(text):
    sys.exit("gpu: " + text)


def lines(cmd, timeout=None):
    """Run; (status, JSON objects of its standard output, what it said on the other)."""
    try:
        p = subprocess.run(cmd, capture_output=True, text=True, timeout=timeout)
    except subprocess.TimeoutExpired:
        return None, [], "took longer than %d seconds" % timeout
    out = []
    for line in p.stdout.splitlines():
        if line.startswith("{"):
            try:
                out.append(json.loads(line))
            except ValueError:
                pass
    return p.returncode, out, p.stderr


class Gpu:
    def __init__(self, build, shapes):
        self.build, self.shapes = build, shapes
        self.dir, self.work = build + "/gpu", build + "/gpu/work"
        shutil.rmtree(self.work, ignore_errors=True)
        os.makedirs(self.work)
        status, out, err = lines([self.dir + "/bench", "device"])
        if status != 0:
            fail(err.strip() or "no device")
        self.result = {"date": time.strftime("%Y-%m-%d"), **out[0]}
        self.failed = []

    # ---- check ----

    def note(self, name, ok, **what):
        self.result[name] = {"passed": bool(ok), **what}
        print("%s %s %s" % ("ok" if ok else "not ok", name, json.dumps(what)), flush=True)
        if not ok:
            self.failed.append(name)

    def parity(self):
        p = subprocess.run([self.dir + "/check"], capture_output=True, text=True)
        sys.stderr.write(p.stderr)
        try:
            report = json.loads(p.stdout)
        except ValueError:
            report = {"output": p.stdout[-2000:]}
        self.note("parity", p.returncode == 0, **report)

    def program(self, name, *args):
        p = subprocess.run([self.build + "/bin/kf-" + name, "--progress", "none", *args], capture_output=True, text=True)
        if p.returncode:
            fail("kf-%s failed: %s" % (name, p.stderr.strip()))

    def at(self, name):
        return self.work + "/" + name

    def documents(self, name):
        p = subprocess.run([self.build + "/bin/kf-inspect", self.at(name), "--json"], capture_output=True, text=True, check=True)
        return [json.loads(line) for line in p.stdout.splitlines()]

    def runs(self):
        """Extraction and training by the programs, with the demo's target where it is there."""
        model = "data/models/smollm2-135m.gguf"
        if not os.path.exists(model):
            model = "tests/models/llama-tiny"
        self.program("prepare", "--out", self.at("corpus"), "--domain", "docs", "--doc-bytes", "2048", "--shards", "1", "docs")
        extract = ["extract", "--model", model, "--corpus", self.at("corpus"), "--top-k", "10", "--precision", "f32"]
        ways = [("cpu", "f32"), ("cuda", "f32"), ("cuda", "bf16")]
        for backend, compute in ways:
            self.program(*extract, "--backend", backend, "--compute", compute, "--out", self.at("%s-%s" % (backend, compute)))
        want = [c for d in self.documents("cpu-f32") for c in d["ce"]]
        for name, allowed in (("cuda-f32", 1e-4), ("cuda-bf16", 0.05)):
            got = [c for d in self.documents(name) for c in d["ce"]]
            error = sum(abs(a - b) for a, b in zip(got, want)) / len(want)
            self.note("extract " + name, len(got) == len(want) and error < allowed, model=model, tokens=len(want), mean_difference_nats=error)
        self.texts(model, ways)
        curves = {}
        for backend, compute in ways:
            name = "train-%s-%s" % (backend, compute)
            self.program("train", "--model", model, "--targets", self.at("cpu-f32"), "--out", self.at(name), "--backend", backend,
                         "--compute", compute, "--lambda", "0.5", "--lr", "3e-5", "--batch-tokens", "2048", "--micro-tokens", "2048",
                         "--max-steps", "8", "--save-every", "0")
            with open(self.at(name) + "/log.jsonl") as f:
                curves[backend, compute] = [r["loss"] for r in map(json.loads, f) if "loss" in r]
        want = curves["cpu", "f32"]
        for compute, allowed in (("f32", 1e-3), ("bf16", 0.02)):
            got = curves["cuda", compute]
            error = max(abs(a - b) / b for a, b in zip(got, want))
            self.note("loss curve " + compute, len(got) == len(want) and error < allowed, model=model, largest_difference=error,
                      cpu=[round(v, 4) for v in want], cuda=[round(v, 4) for v in got])

    def texts(self, model, ways):
        """Answers to questions by kf-eval: whole endings, and texts that are generated."""
        words = "The capital of France is|Water boils at|1, 2, 3, 4,|def add(a, b):|Once upon a time".split("|")
        with open(self.at("tasks.jsonl"), "w") as f:
            f.write('{"task": "ends", "kind": "choice"}\n')
            for w in words:
                f.write(json.dumps({"prompt": w, "choices": ["Paris", " 100 degrees", " 5, 6"], "answer": 0}) + "\n")
            f.write('{"task": "goes on", "kind": "match", "max_tokens": 24}\n')
            for w in words:
                f.write(json.dumps({"prompt": w, "answer": "Paris"}) + "\n")
        answers = {}
        for backend, compute in ways:
            out = self.at("answers-%s-%s.jsonl" % (backend, compute))
            self.program("eval", "--model", model, "--tasks", self.at("tasks.jsonl"), "--backend", backend, "--compute", compute, "--outputs", out)
            with open(out) as f:
                answers[backend, compute] = [json.loads(line) for line in f]
        want = answers["cpu", "f32"]
        for compute, allowed in (("f32", 1e-3), ("bf16", 0.5)):
            got = answers["cuda", compute]
            error = max(abs(a - b) for x, y in zip(got, want) for a, b in zip(x.get("logprobs", []), y.get("logprobs", [])))
            generated = [(x, y) for x, y in zip(got, want) if "logprobs" not in x]
            same = sum({**x, "model": 0} == {**y, "model": 0} for x, y in generated)
            self.note("answers " + compute, len(got) == len(want) and error < allowed and (compute != "f32" or same == len(generated)), model=model,
                      largest_difference=error, texts=len(generated), same_texts=same)

    def sanitizer(self):
        tool = shutil.which("compute-sanitizer") or next(iter(glob.glob(os.environ.get("CUDA_HOME", "/usr/local/cuda") +
                                                                       "/bin/compute-sanitizer")), None)
        if not tool:
            self.result["compute-sanitizer"] = "not there"
            print("skip compute-sanitizer: the toolkit here has none; this was not checked")
            return
        for check in ("memcheck", "racecheck", "synccheck"):
            status, _, err = lines([tool, "--tool", check, "--error-exitcode", "9", self.dir + "/check", "quick"], timeout=240)
            self.note("compute-sanitizer " + check, status == 0, said=err[-300:] if status != 0 else "")

    def check(self):
        self.parity()
        self.runs()
        self.sanitizer()

    # ---- bench ----

    def share(self, tflops):
        peak = next((v for k, v in PEAK.items() if all(w in self.result["device"] for w in k.split())), None)
        return round(tflops / peak, 3) if peak else None

    def one(self, cmd, timeout=300):
        status, out, err = lines(cmd, timeout)
        if status != 0 or not out:
            return {"failed": err.strip()[-300:]}
        r = out[-1]
        if "tflops" in r:
            r["share_of_peak"] = self.share(r["tflops"])
        return r

    def peers(self, shape, work):
        python = os.environ.get("GPU_PYTHON", sys.executable)
        return self.one([python, "tests/gpu/hf.py", self.at(shape), work])

    def bench(self):
        bench = self.dir + "/bench"
        self.result["kernels"] = lines([bench, "kernels"])[1]
        for k in self.result["kernels"]:
            print(json.dumps(k), flush=True)
        for shape in self.shapes:
            subprocess.run([bench, "shape", shape, self.at(shape)], check=True)
            r = {"extract": self.one([bench, "extract", self.at(shape), "2048", "16384"]),
                 "train": self.one([bench, "train", self.at(shape), "2048", "8192", "f32"])}
            for texts in (1, 32):
                r["decode, %d texts" % texts if texts > 1 else "decode, one text"] = self.one([bench, "decode", self.at(shape), "512", str(texts)])
            r["train, 8-bit moments"] = self.one([bench, "train", self.at(shape), "2048", "8192", "8bit"])
            for work in ("extract", "train"):
                theirs = self.peers(shape, work)
                r["transformers " + work] = theirs
                if "tokens_per_second" in theirs and "tokens_per_second" in r[work]:
                    r[work]["times_transformers"] = round(r[work]["tokens_per_second"] / theirs["tokens_per_second"], 2)
            self.result[shape] = r
            print(shape, json.dumps(r), flush=True)
            shutil.rmtree(self.at(shape))
            if any("failed" in r[w] for w in ("extract", "train, 8-bit moments", "decode, one text")):
                self.failed.append(shape)
        if not self.result["kernels"]:
            self.failed.append("kernels")

    def save(self, kind, into):
        path = "%s/%s-%s.json" % (self.dir, kind, time.strftime("%Y-%m-%d-%H%M"))
        with open(path, "w") as f:
            json.dump(self.result, f, indent=1)
        print(path)
        if into:
            write_section(into, kind, self.result)


def table_check(r):
    yield "| | |"
    yield "|---|---|"
    for name, v in r.items():
        if isinstance(v, dict) and "passed" in v:
            parts = [str(v[c]["comparisons"]) + " comparisons in " + c for c in ("f32", "bf16") if isinstance(v.get(c), dict)]
            parts += ["%s %.2g" % (k.replace("_", " "), v[k]) for k in ("mean_difference_nats", "largest_difference") if k in v]
            yield "| %s | %s%s |" % (name, "passed" if v["passed"] else "**failed**", ": " + ", ".join(parts) if parts else "")
    if r.get("compute-sanitizer"):
        yield "| compute-sanitizer | %s |" % r["compute-sanitizer"]


def table_bench(r):
    yield "| shape | work | tokens/s | share of peak | memory, GB | times transformers |"
    yield "|---|---|---|---|---|---|"
    for shape in ("135m", "1b", "7b"):
        for work, v in r.get(shape, {}).items():
            if "failed" in v:
                yield "| %s | %s | failed: %s | | | |" % (shape, work, v["failed"].replace("\n", " ")[-160:])
            else:
                yield "| %s | %s | %s | %s | %s | %s |" % (shape, work, format(round(v["tokens_per_second"]), ","), v.get("share_of_peak", ""),
                                                          v.get("memory_gb", ""), v.get("times_transformers", ""))
    yield ""
    yield "| kernel | microseconds | GB/s | TFLOP/s |"
    yield "|---|---|---|---|"
    for k in r.get("kernels", []):
        yield "| %s | %s | %s | %s |" % (k["kernel"], k["microseconds"], k.get("gb_per_second", ""), k.get("tflops", ""))


def write_section(path, kind, r):
    """Replace what stands between <!-- gpu-KIND --> and <!-- end -->."""
    with open(path) as f:
        text = f.read()
    begin, end = "<!-- gpu-%s -->" % kind, "<!-- end -->"
    if begin not in text:
        fail("%s has no %s" % (path, begin))
    at = text.index(begin) + len(begin)
    head = "%s, compute capability %s, %s; attention: %s." % (r["device"], r["compute_capability"], r["date"], r["attention"])
    body = "\n".join({"check": table_check, "bench": table_bench}[kind](r))
    with open(path, "w") as f:
        f.write("%s\n%s\n\n%s\n%s" % (text[:at], head, body, text[text.index(end, at):]))


def main():
    a = argparse.ArgumentParser()
    a.add_argument("build")
    a.add_argument("kind", choices=["check", "bench"])
    a.add_argument("--into")
    a.add_argument("--shapes", default="135m,1b,7b")
    a = a.parse_args()
    gpu = Gpu(a.build, a.shapes.split(","))
    (gpu.check if a.kind == "check" else gpu.bench)()
    gpu.save(a.kind, a.into)
    if gpu.failed:
        fail("failed: " + ", ".join(gpu.failed))


if __name__ == "__main__":
    main()
