"""make bench-fusion: what every fusion function knows of text, without training anything.

    fusion.py BUILD RUN TARGET SOURCE...

RUN is a demo's folder (make demo): its corpus and logits of train and test text are used as they are; logits of the
validation text, which weights by domain are fitted to, are extracted here. Every function fuses the training text and the test
text; the cross-entropy of the mixtures, bits per byte by domain, goes to BUILD/bench/fusion.md and .json.
"""
import json
import math
import os
import subprocess
import sys

build, demo, target, *sources = sys.argv[1:]
work = build + "/bench/fusion"
os.makedirs(work, exist_ok=True)


def run(program, *args):
    subprocess.run([build + "/bin/kf-" + program, "--quiet", *args], check=True)


def logits(split, model):
    path = "%s/logits/%s/%s" % (demo, split, model)
    if os.path.exists(path + "/manifest.json"):
        return path
    path = "%s/logits-%s-%s" % (work, split, model)
    run("extract", "--model", "data/models/%s.gguf" % model, "--corpus", demo + "/corpus/" + split, "--out", path)
    return path


def sets(split):
    """The options that name a text's sets."""
    args = ["--target", logits(split, target)]
    for s in sources:
        path = "%s/aligned-%s-%s" % (work, split, s)
        run("align", "--source", logits(split, s), "--target", args[1], "--out", path)
        args += ["--aligned", path]
    return args


def fuse(split, *how):
    report = work + "/report.json"
    subprocess.run(["rm", "-rf", work + "/out"], check=True)
    run("fuse", *SETS[split], "--out", work + "/out", "--report", report, *how)
    with open(report) as f:
        return json.load(f)


SPLITS = ["train", "valid", "test"]
SETS = {s: sets(s) for s in SPLITS}
WEIGHTS = {}
for s in ("train", "valid"):
    WEIGHTS[s] = "%s/weights-%s.json" % (work, s)
    run("fuse", *SETS[s], "--fit", WEIGHTS[s])

FUNCTIONS = [
    ("min-ce", ["--function", "min-ce"]),
    ("avg-ce", ["--function", "avg-ce"]),
    ("avg-ce, reward temperature 0.1", ["--function", "avg-ce", "--reward-temperature", "0.1"]),
    ("min-ce by token *", ["--function", "min-ce", "--level", "token"]),
    ("avg-ce by token *", ["--function", "avg-ce", "--level", "token"]),
    ("domain, fitted to the validation text", ["--function", "domain", "--weights", WEIGHTS["valid"]]),
    ("domain, fitted to the training text", ["--function", "domain", "--weights", WEIGHTS["train"], "--same-text"]),
    ("dynamic", ["--function", "dynamic"]),
    ("dynamic, starting from domain's (validation)", ["--function", "dynamic", "--weights", WEIGHTS["valid"]]),
    ("dynamic, rate 1, share 0 (Bayes)", ["--function", "dynamic", "--rate", "1", "--share", "0"]),
    ("dynamic, rate 1 (fixed share)", ["--function", "dynamic", "--rate", "1"]),
    ("dynamic, forget 0.98, share 0", ["--function", "dynamic", "--forget", "0.98", "--share", "0"]),
]


def row(stats, value):
    parts = list(stats["domains"].items()) + [("all", stats["all"])]
    return {name: value(s) / math.log(2) for name, s in parts}


result = {}
for split in ("train", "test"):
    rows = {}
    first = fuse(split, "--function", "min-ce")
    for m in first["models"]:
        rows[m] = row(first, lambda s: s["models"][m]["ce_byte"])
    rows["equal weights"] = row(first, lambda s: s["equal_ce_byte"])
    for name, how in FUNCTIONS:
        rows[name] = row(fuse(split, *how), lambda s: s["fused_ce_byte"])
    result[split] = rows

LAMBDA = [("advantage", []), ("advantage-domain", ["--weights", WEIGHTS["valid"]]), ("advantage-position", [])]
weight = {}
for name, how in LAMBDA:
    stats = fuse("train", "--function", "dynamic", "--weight", name, *how)
    weight[name] = {d: s["weight"] for d, s in list(stats["domains"].items()) + [("all", stats["all"])]}

with open(build + "/bench/fusion.json", "w") as f:
    json.dump({"bits_per_byte": result, "weight": weight}, f, indent=1)
with open(build + "/bench/fusion.md", "w") as f:
    for split, rows in result.items():
        names = list(next(iter(rows.values())))
        f.write("\n%s text, bits per byte:\n\n| | %s |\n|---|%s\n" % (split, " | ".join(names), "---|" * len(names)))
        for name, r in rows.items():
            f.write("| %s | %s |\n" % (name, " | ".join("%.4f" % r[n] for n in names)))
    f.write("\nmean weight of the fusion on the training text (dynamic):\n\n| | %s |\n|---|%s\n" % (" | ".join(names), "---|" * len(names)))
    for name, r in weight.items():
        f.write("| `--weight %s` | %s |\n" % (name, " | ".join("%.2f" % r[n] for n in names)))
print(open(build + "/bench/fusion.md").read())
