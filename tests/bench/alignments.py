"""make bench-align: every alignment with every vocabulary map, on three ordered pairs of the demo's models.

    alignments.py BUILD LOGITS [--models A,B,C] [--into docs/alignment.md]

LOGITS is a folder with the models' logits of one text (a demo's logits/train). Pairs: B to A, C to A, A to C. Writes
BUILD/bench/alignments.md and .json; --into puts the tables between the two marks of that file as well.

Speed is tokens of the target a second of CPU time, one thread, on decoded records (bench_align). Making a map is timed by itself: CPU
time of a run that makes it, less that of one that reads it.
"""
import argparse
import json
import os
import shutil
import subprocess
import sys
import time

import marks

MARKS = ("<!-- tables of make bench-align -->", "<!-- end of tables -->")
METHODS = {"byte": ["byte"], "dtw": ["dtw"], "dtw-chat": ["dtw-chat"], "dtw-chat, weighted": ["dtw-chat", "--one-to-many", "weighted"]}
MAPS = [("prefix", []), ("exact", []), ("mined", []), ("mined, co-occurrence", ["--map-ties", "co-occurrence"]), ("stats", [])]


def cpu(cmd):
    """Run; user and system seconds."""
    p = subprocess.Popen(cmd, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    err = p.stderr.read().decode(errors="replace")
    _, status, usage = os.wait4(p.pid, 0)
    if os.waitstatus_to_exitcode(status) != 0:
        sys.exit("alignments: failed: %s\n%s" % (" ".join(cmd), err[-2000:]))
    return usage.ru_utime + usage.ru_stime


class Table:
    def __init__(self, args):
        self.kf_align, self.bench = args.build + "/bin/kf-align", args.build + "/bench/bench_align"
        self.logits, self.work = args.logits, args.build + "/bench/alignments"
        shutil.rmtree(self.work, ignore_errors=True)
        os.makedirs(self.work)

    def align(self, source, target, out, *options):
        return cpu([self.kf_align, "--quiet", "--threads", "1", "--source", self.logits + "/" + source, "--target",
                    self.logits + "/" + target, "--out", out, *options])

    def manifest(self, out):
        with open(out + "/manifest.json") as f:
            return json.load(f)

    def row(self, source, target, method, name, options):
        out = self.work + "/out"
        shutil.rmtree(out, ignore_errors=True)
        self.align(source, target, out, "--method", *METHODS[method], *options)
        s = self.manifest(out)["stats"]["all"]
        file = [options[options.index("--map") + 1]] if "--map" in options else []
        speed = subprocess.run([self.bench, self.logits + "/" + source, self.logits + "/" + target, method.replace(", ", "-"), options[1], *file],
                               stdout=subprocess.PIPE, check=True).stdout
        return {"method": method, "map": name, "coverage": s["coverage"], "labelled": s["coverage"] * s["labelled"],
                "label_nll": s["label_nll"], "mass": s["mass"], "ce": s["ce"],
                "tokens_per_cpu_second": json.loads(speed)["tokens_per_cpu_second"]}

    def pair(self, source, target):
        rows, maps = [], {}
        own = self.work + "/own"
        shutil.rmtree(own, ignore_errors=True)
        self.align(target, target, own)
        for name, options in MAPS:
            kind = name.split(",")[0]
            options = ["--vocab-map", kind, *options]
            if kind in ("mined", "stats"):
                options += ["--map", "%s/%s-%s-%s.map" % (self.work, source, target, name.replace(", ", "-"))]
                scratch = self.work + "/scratch"
                first = self.align(source, target, scratch, *options)
                shutil.rmtree(scratch)
                maps[name] = round(first - self.align(source, target, scratch, *options), 2)
                shutil.rmtree(scratch)
            rows += [self.row(source, target, method, name, options) for method in METHODS]
        tokens = self.manifest(own)["tokens"]
        rows.sort(key=lambda r: list(METHODS).index(r["method"]))
        return {"source": source, "target": target, "tokens": tokens, "target_ce": self.manifest(own)["stats"]["all"]["ce"],
                "map_cpu_seconds": maps, "rows": rows}


def markdown(pairs):
    out = []
    for p in pairs:
        out += ["%s to %s, %d tokens; the source says %.3f nats a target token of the text, the target itself %.3f" % (
            p["source"], p["target"], p["tokens"], p["rows"][0]["ce"], p["target_ce"]), "",
            "| method | map | coverage | with the label | −ln q(label) | mass kept | tokens/s |", "|---|---|---|---|---|---|---|"]
        for r in p["rows"]:
            out.append("| %s | %s | %.1f %% | %.1f %% | %.3f | %.1f %% | %s |" % (
                r["method"], r["map"], 100 * r["coverage"], 100 * r["labelled"], r["label_nll"], 100 * r["mass"],
                format(float("%.2g" % r["tokens_per_cpu_second"]), ",.0f")))
        out += ["", "Making the maps, CPU seconds: " + ", ".join("%s %.1f" % (k, v) for k, v in p["map_cpu_seconds"].items()) + ".", ""]
    return "\n".join(out)


def main():
    a = argparse.ArgumentParser()
    a.add_argument("build")
    a.add_argument("logits")
    a.add_argument("--models", default="smollm2-135m,qwen2.5-coder-0.5b,gemma3-270m", help="A,B,C")
    a.add_argument("--into", help="a file with the two marks")
    args = a.parse_args()
    first, second, third = args.models.split(",")
    table = Table(args)
    pairs = [table.pair(s, t) for s, t in ((second, first), (third, first), (first, third))]
    text = markdown(pairs)
    with open(args.build + "/bench/alignments.json", "w") as f:
        json.dump({"date": time.strftime("%Y-%m-%d"), "pairs": pairs}, f, indent=1)
    with open(args.build + "/bench/alignments.md", "w") as f:
        f.write(text)
    if args.into:
        marks.put(args.into, MARKS, text)
    print(text)


if __name__ == "__main__":
    main()
