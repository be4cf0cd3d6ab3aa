"""make gpu-check and make gpu-bench: what has to be seen on a device.

    gpu.py BUILD check|bench [--into FILE] [--shapes 135m,1b,7b] [--json FOLDER] [--quick]

check: parity of every op and architecture with the CPU backend; a short training, an extraction and answers by the programs, on both;
compute-sanitizer where the toolkit has it. bench: extraction and training of three shapes with random weights beside Hugging Face
transformers (where torch and transformers are installed: GPU_PYTHON names the Python), extraction from text to a set by the program, and
what our own kernels reach.

Writes FOLDER/{check,bench}-DATE.json (FOLDER: BUILD/gpu) after every part, so that what is cut off leaves what it had; what fails is noted, and
the others go on. With --into it becomes a section of FILE. Without a device it says so and fails: what was not run has not passed.
--quick is for this script's own test, which has no device: next to no work.
"""
import argparse
import glob
import json
import os
import re
import shutil
import subprocess
import sys
import time

PEAK = {"H100 PCIe": 756, "H100 NVL": 835, "H100": 989, "H200": 989, "GH200": 989, "A100": 312, "B200": 2250}   # dense bf16, TFLOP/s
TINY = "tests/models/llama-tiny"


def fail(text):
    sys.exit("gpu: " + text)


def lines(cmd, timeout=300):
    """Run; (status, JSON objects of its standard output, what it said on the other)."""
    try:
        p = subprocess.run(cmd, capture_output=True, text=True, timeout=timeout)
    except subprocess.TimeoutExpired:
        return None, [], "took longer than %d seconds" % timeout
    except OSError as e:
        return None, [], str(e)
    out = []
    for line in p.stdout.splitlines():
        if line.startswith("{"):
            try:
                out.append(json.loads(line))
            except ValueError:
                pass
    return p.returncode, out, p.stderr


class Gpu:
    def __init__(self, build, kind, folder, shapes, quick):
        self.build, self.shapes, self.quick = build, shapes, quick
        self.dir, self.work = build + "/gpu", build + "/gpu/work-" + kind
        shutil.rmtree(self.work, ignore_errors=True)
        os.makedirs(self.work)
        os.makedirs(folder, exist_ok=True)
        self.path = "%s/%s-%s.json" % (folder, kind, time.strftime("%Y-%m-%d-%H%M"))
        status, out, err = lines([self.dir + "/bench", "device"])
        if status != 0 or not out:
            fail(err.strip() or "no device")
        self.result = {"date": time.strftime("%Y-%m-%d"), **out[0]}
        self.failed = []

    def save(self):
        with open(self.path + ".part", "w") as f:
            json.dump(self.result, f, indent=1)
        os.replace(self.path + ".part", self.path)

    def note(self, name, ok, **what):
        self.result[name] = {"passed": bool(ok), **what}
        print("%s %s %s" % ("ok" if ok else "not ok", name, json.dumps(what)), flush=True)
        if not ok:
            self.failed.append(name)
        self.save()

    def part(self, name, run, *args):
        """What goes wrong in a part is its failure, not the end."""
        start = time.monotonic()
        try:
            run(*args)
        except Exception as e:
            self.note(name, False, said="%s: %s" % (type(e).__name__, str(e)[-400:]))
        print("# %s took %.0f s" % (name, time.monotonic() - start), flush=True)

    def program(self, name, *args, timeout=300):
        """Run a program of ours; what it said."""
        p = subprocess.run([self.build + "/bin/kf-" + name, "--progress", "none", *args], capture_output=True, text=True, timeout=timeout)
        if p.returncode:
            raise RuntimeError("kf-%s failed: %s" % (name, p.stderr.strip()))
        return p.stdout

    def at(self, name):
        return self.work + "/" + name

    def make_corpus(self):
        """The documentation, cut into documents; quick: the beginning of it."""
        if not os.path.exists(self.at("corpus")):
            if self.quick:
                with open("docs/gpu.md") as f, open(self.at("text.txt"), "w") as to:
                    to.write(f.read(1500))
            self.program("prepare", "--out", self.at("corpus"), "--domain", "docs", "--doc-bytes", "200" if self.quick else "2048", "--shards", "4",
                         self.at("text.txt") if self.quick else "docs")
        return self.at("corpus")

    def make_shape(self, shape, tokenizer=False):
        """A model of random weights; with a tokenizer of few tokens where texts are to be read (rows beyond it have none)."""
        if not os.path.exists(self.at(shape)):
            subprocess.run([self.dir + "/bench", "shape", shape, self.at(shape)], check=True, timeout=300)
        for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json") if tokenizer else ():
            shutil.copy(TINY + "/" + name, self.at(shape))
        return self.at(shape)

    # ---- check ----

    def parity(self):
        p = subprocess.run([self.dir + "/check"] + ["quick"] * self.quick, capture_output=True, text=True, timeout=400)
        sys.stderr.write(p.stderr)
        try:
            report = json.loads(p.stdout)
        except ValueError:
            report = {"output": p.stdout[-2000:], "said": p.stderr[-400:]}
        self.note("parity", p.returncode == 0 and "bf16" in report, **report)

    def documents(self, name):
        p = subprocess.run([self.build + "/bin/kf-inspect", self.at(name), "--json"], capture_output=True, text=True, check=True)
        return [d for d in map(json.loads, p.stdout.splitlines()) if "ce" in d]

    def model(self):
        """The demo's target; where it is not there, its shape with random weights."""
        demo = "data/models/smollm2-135m.gguf"
        return TINY if self.quick else demo if os.path.exists(demo) else self.make_shape("135m", True)

    WAYS = [("cpu", "f32"), ("cuda", "f32"), ("cuda", "bf16")]

    def extraction(self, model):
        for backend, compute in self.WAYS:
            self.program("extract", "--model", model, "--corpus", self.make_corpus(), "--top-k", "10", "--precision", "f32", "--backend", backend,
                         "--compute", compute, "--out", self.at("%s-%s" % (backend, compute)))
        want = [c for d in self.documents("cpu-f32") for c in d["ce"]]
        for name, allowed in (("cuda-f32", 1e-4), ("cuda-bf16", 0.05)):
            got = [c for d in self.documents(name) for c in d["ce"]]
            pairs = [(a, b) for a, b in zip(got, want) if a is not None and b is not None]
            error = sum(abs(a - b) for a, b in pairs) / max(len(pairs), 1)
            self.note("extract " + name, len(got) == len(want) and pairs and error < allowed, model=model, tokens=len(want),
                      mean_difference_nats=error)

    def loss_curve(self, model):
        curves = {}
        for backend, compute in self.WAYS:
            name = "train-%s-%s" % (backend, compute)
            self.program("train", "--model", model, "--targets", self.at("cpu-f32"), "--out", self.at(name), "--backend", backend,
                         "--compute", compute, "--lambda", "0.5", "--lr", "3e-5", "--batch-tokens", "2048", "--micro-tokens", "2048",
                         "--max-steps", "3" if self.quick else "8", "--save-every", "0")
            with open(self.at(name) + "/log.jsonl") as f:
                curves[backend, compute] = [r["loss"] for r in map(json.loads, f) if "loss" in r]
        want = curves["cpu", "f32"]
        for compute, allowed in (("f32", 1e-3), ("bf16", 0.02)):
            got = curves["cuda", compute]
            error = max(abs(a - b) / b for a, b in zip(got, want))
            self.note("loss curve " + compute, len(got) == len(want) and error < allowed, model=model, largest_difference=error,
                      cpu=[round(v, 4) for v in want], cuda=[round(v, 4) for v in got])

    def answers(self, model):
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
        for backend, compute in self.WAYS:
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
        if not tool or self.quick:
            self.result["compute-sanitizer"] = "not there"
            print("skip compute-sanitizer: the toolkit here has none; this was not checked")
            return
        for check in ("memcheck", "racecheck", "synccheck"):
            status, _, err = lines([tool, "--tool", check, "--error-exitcode", "9", self.dir + "/check", "quick"], timeout=240)
            self.note("compute-sanitizer " + check, status == 0, said=err[-300:] if status != 0 else "")

    def check(self):
        self.part("parity", self.parity)
        model = TINY
        try:
            model = self.model()
        except Exception as e:
            self.note("model", False, said=str(e)[-400:])
        self.part("extraction", self.extraction, model)
        self.part("answers", self.answers, model)
        self.part("loss curve", self.loss_curve, model)
        self.part("compute-sanitizer", self.sanitizer)

    # ---- bench ----

    def share(self, tflops):
        peak = next((v for k, v in PEAK.items() if all(w in self.result["device"] for w in k.split())), None)
        return round(tflops / peak, 3) if peak else None

    def one(self, cmd, timeout=300):
        status, out, err = lines(cmd, timeout)
        if status != 0 or not out:
            return {"failed": err.strip()[-300:] or "status %s" % status}
        r = out[-1]
        if "tflops" in r:
            r["share_of_peak"] = self.share(r["tflops"])
        return r

    def peers(self, shape, work):
        python = os.environ.get("GPU_PYTHON", sys.executable)
        return self.one([python, "tests/gpu/hf.py", self.at(shape), work])

    def whole(self, shape):
        """kf-extract from text to a set: whether the device is the limit, or what reads and writes."""
        try:
            said = self.program("extract", "--model", self.make_shape(shape, True), "--corpus", self.make_corpus(), "--top-k", "10", "--backend", "cuda",
                                "--batch-tokens", "200" if self.quick else "16384", "--out", self.at(shape + "-set"))
        except Exception as e:
            return {"failed": str(e)[-300:]}
        m = re.search(r"(\d+) tokens of .*, (\d+) tokens a second; computing waited ([\d.]+) s for text and ([\d.]+) s for the writer", said)
        if not m:
            return {"failed": "kf-extract said: " + said[-200:]}
        tokens, rate, text, writer = (float(v) for v in m.groups())
        seconds = tokens / max(rate, 1)
        return {"work": "extract, text to set", "tokens": int(tokens), "tokens_per_second": rate, "waited_for_text": round(text / seconds, 3),
                "waited_for_writer": round(writer / seconds, 3), "limit": "device" if text + writer < 0.1 * seconds else "host"}

    def kernels(self):
        status, self.result["kernels"], err = lines([self.dir + "/bench", "kernels"] + ["quick"] * self.quick)
        for k in self.result["kernels"]:
            print(json.dumps(k), flush=True)
        if status != 0:
            self.result["kernels failed"] = err.strip()[-300:]
            self.failed.append("kernels")
        self.save()

    def shape(self, shape):
        bench, path = self.dir + "/bench", self.make_shape(shape)
        length, batch, micro, before, steps = ("16", "64", "32", "8", "3") if self.quick else ("2048", "16384", "8192", "512", "120")
        r = self.result[shape] = {}

        def add(work, got):
            r[work] = got
            print(shape, work, json.dumps(got), flush=True)
            self.save()
        add("extract", self.one([bench, "extract", path, length, batch]))
        add("extract, text to set", self.whole(shape))
        add("train", self.one([bench, "train", path, length, micro, "f32"]))
        add("train, 8-bit moments", self.one([bench, "train", path, length, micro, "8bit"]))
        for texts in (1, 32):
            add("decode, %d texts" % texts if texts > 1 else "decode, one text", self.one([bench, "decode", path, before, str(texts), steps]))
        for work in ("extract", "train"):
            theirs = {"failed": "not asked"} if self.quick else self.peers(shape, work)
            if "tokens_per_second" in theirs and "tokens_per_second" in r[work]:
                r[work]["times_transformers"] = round(r[work]["tokens_per_second"] / theirs["tokens_per_second"], 2)
            add("transformers " + work, theirs)
        shutil.rmtree(path)
        if any("failed" in r[w] for w in ("extract", "extract, text to set", "train, 8-bit moments", "decode, one text")):
            self.failed.append(shape)

    def bench(self):
        self.part("kernels", self.kernels)
        for shape in self.shapes:
            self.part(shape, self.shape, shape)


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
    yield "| shape | work | tokens/s | share of peak | memory, GB | times transformers | waited for text, for the writer |"
    yield "|---|---|---|---|---|---|---|"
    for shape, works in r.items():
        for work, v in works.items() if isinstance(works, dict) and "passed" not in works else ():
            if "failed" in v:
                yield "| %s | %s | failed: %s | | | | |" % (shape, work, v["failed"].replace("\n", " ").replace("|", "/")[-160:])
            else:
                said = {"attention": v.get("attention"), "its backward": v.get("attention_backward")}
                others = ["%s by %s" % (part, by) for part, by in said.items() if by not in (None, r["attention"])]
                work += " (%s)" % ", ".join(others) if others else ""
                waited = "%.1f %%, %.1f %%" % (100 * v["waited_for_text"], 100 * v["waited_for_writer"]) if "waited_for_text" in v else ""
                yield "| %s | %s | %s | %s | %s | %s | %s |" % (shape, work, format(round(v["tokens_per_second"]), ","), v.get("share_of_peak") or "",
                                                               v.get("memory_gb", ""), v.get("times_transformers", ""), waited)
    yield ""
    yield "| kernel | microseconds | GB/s | TFLOP/s |"
    yield "|---|---|---|---|"
    for k in r.get("kernels", []):
        name = k["kernel"] + (" (%s)" % k["by"] if "by" in k else "")
        yield "| %s | %s | %s | %s |" % (name, k["microseconds"], k.get("gb_per_second", ""), k.get("tflops", ""))


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
    a.add_argument("--json")
    a.add_argument("--quick", action="store_true")
    a.add_argument("--shapes", default="135m,1b,7b")
    a = a.parse_args()
    gpu = Gpu(a.build, a.kind, a.json or a.build + "/gpu", a.shapes.split(","), a.quick)
    (gpu.check if a.kind == "check" else gpu.bench)()
    gpu.save()
    print(gpu.path)
    if a.into:
        write_section(a.into, a.kind, gpu.result)
    if gpu.failed:
        fail("failed: " + ", ".join(gpu.failed))


if __name__ == "__main__":
    main()
