"""Compare kf-eval's scores with lm-eval's on the same checkpoint and the same items, item by item.

    python3 tests/parity/compare_tasks.py MODEL TASKS.jsonl... [--limit N] [--bin build/bin] [--json OUT] [--fixture OUT]

MODEL is a Hugging Face folder. TASKS are files in kf-eval's own form of the kinds choice, match and last-word; lm-eval gets them as
tasks of its own, defined by YAML over local JSON files, in float32 on the CPU. Needs lm_eval (PyPI), torch and
transformers; nothing is fetched. Prints, for each task, the figures of both, the largest difference of a log-likelihood,
and on how many items their verdicts or texts differ; exit status 1 where a figure differs by more than
the items do whose two best choices lie within 1e-3 nats of each other. --fixture keeps what lm-eval said of every item: with the tiny
models and tests/parity/tasks that is tests/parity/tasks/MODEL.json, which tests/cli/parity.sh compares with, without lm-eval.
"""
import argparse
import json
import os
import re
import subprocess
import sys
import tempfile

os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TRANSFORMERS_OFFLINE="1", TOKENIZERS_PARALLELISM="false")


def read(path):
    rows = [json.loads(x) for x in open(path, encoding="utf-8") if x.strip()]
    return rows[0], rows[1:]


def yaml_of(head, data):
    common = {"task": "kf_" + head["task"], "dataset_path": "json", "dataset_kwargs": {"data_files": {"test": data}}, "test_split": "test",
              "target_delimiter": head.get("delimiter", " ")}
    if head["kind"] == "choice":
        return {**common, "output_type": "multiple_choice", "doc_to_text": "{{prompt}}", "doc_to_choice": "{{choices}}", "doc_to_target": "{{answer}}",
                "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}]}
    if head["kind"] == "last-word":
        return {**common, "output_type": "loglikelihood", "doc_to_text": "{{prompt}}",
                "doc_to_target": "{{delimiter + word}}", "metric_list": [{"metric": "perplexity"}, {"metric": "acc"}]}
    return {**common, "output_type": "generate_until", "doc_to_text": "{{prompt}}", "doc_to_target": "{{answer}}", "metric_list": [{"metric": "exact_match"}],
            "generation_kwargs": {"until": head["stop"], "max_gen_toks": head["max_tokens"], "do_sample": False, "temperature": 0.0}}


def plain(head, row):
    """An item with what lm-eval's templates name."""
    if head["kind"] == "choice":
        right = row["answer"]
        return {"prompt": row["prompt"], "choices": row["choices"], "answer": right if isinstance(right, int) else row["choices"].index(right)}
    if head["kind"] == "last-word":
        if "text" in row:
            prompt, word = row["text"].strip().rsplit(None, 1)
        else:
            prompt, word = row["prompt"], row["word"]
        return {"prompt": prompt, "word": word, "delimiter": head.get("delimiter", " ")}    # which lm-eval does not put here itself
    return {"prompt": row["prompt"], "answer": str(row["answer"][0] if isinstance(row["answer"], list) else row["answer"])}


def same_text(s):
    """What is no UTF-8 becomes one mark or several, and SentencePiece's first space comes or does not: not what is compared."""
    return re.sub("\ufffd+", "\ufffd", s).strip()


def main():
    p = argparse.ArgumentParser()
    p.add_argument("model")
    p.add_argument("tasks", nargs="+")
    p.add_argument("--limit", type=int, default=0)
    p.add_argument("--bin", default="build/bin")
    p.add_argument("--json")
    p.add_argument("--fixture")
    a = p.parse_args()

    import lm_eval
    from lm_eval.tasks import TaskManager

    with tempfile.TemporaryDirectory() as tmp:
        heads, ours_in = [], []
        for path in a.tasks:
            head, rows = read(path)
            if head["kind"] == "match":
                head.setdefault("stop", ["\n\n"])
                head.setdefault("max_tokens", 256)
            rows = rows[:a.limit] if a.limit else rows
            mine = os.path.join(tmp, head["task"] + ".jsonl")
            with open(mine, "w", encoding="utf-8") as f:
                f.writelines(json.dumps(r, ensure_ascii=False) + "\n" for r in [head] + rows)
            data = os.path.join(tmp, head["task"] + ".data.json")
            with open(data, "w", encoding="utf-8") as f:
                f.writelines(json.dumps(plain(head, r)) + "\n" for r in rows)
            with open(os.path.join(tmp, head["task"] + ".yaml"), "w", encoding="utf-8") as f:
                json.dump(yaml_of(head, data), f)      # JSON is YAML
            heads.append(head)
            ours_in.append(mine)

        report, outputs = os.path.join(tmp, "report.json"), os.path.join(tmp, "outputs.jsonl")
        subprocess.run([os.path.join(a.bin, "kf-eval"), "--quiet", "--model", "m=" + a.model, "--report", report, "--outputs", outputs]
                       + [x for f in ours_in for x in ("--tasks", f)], check=True)
        ours = json.load(open(report))["tasks"]
        answers = {}
        for line in open(outputs, encoding="utf-8"):
            x = json.loads(line)
            answers.setdefault(x["task"], []).append(x)

        theirs = lm_eval.simple_evaluate(model="hf", model_args={"pretrained": a.model, "dtype": "float32"}, device="cpu", batch_size=8,
                                         tasks=["kf_" + h["task"] for h in heads], task_manager=TaskManager(include_path=tmp, include_defaults=False),
                                         log_samples=True, bootstrap_iters=0)
        bad, summary, kept = 0, {}, {}
        for h in heads:
            name = h["task"]
            got, want = answers[name], sorted(theirs["samples"]["kf_" + name], key=lambda s: s["doc_id"])
            scores = {k.split(",")[0]: v for k, v in theirs["results"]["kf_" + name].items() if isinstance(v, float)}
            kept[name] = {"scores": scores, "items": [w["resps"][0][0] if h["kind"] == "match" else [float(r[0][0]) for r in w["resps"]] for w in want]}
            row = {"items": len(got), "ours": {k: v["models"]["m"]["value"] for k, v in ours[name]["metrics"].items()}, "lm_eval": scores}
            if h["kind"] == "match":
                row["texts that differ"] = sum(same_text(g["text"]) != same_text(w["resps"][0][0]) for g, w in zip(got, want))
                bad += row["texts that differ"] > len(got) // 10
            else:
                worst = close = other = 0
                for g, w in zip(got, want):
                    lls = [r[0][0] for r in w["resps"]]
                    worst = max([worst] + [abs(x - float(y)) for x, y in zip(g["logprobs"], lls)])
                    best = sorted(map(float, lls))
                    close += len(best) > 1 and best[-1] - best[-2] < 1e-3
                    other += g["logprobs"].index(max(g["logprobs"])) != lls.index(max(lls))
                row["largest difference of a log-likelihood"] = worst
                row["items with another best choice"] = other
                for k in ("acc", "acc_norm"):
                    if k in scores and abs(scores[k] - row["ours"][k]) > close / len(got) + 1e-9:
                        bad += 1
            summary[name] = row
            print(name, json.dumps(row, indent=1), flush=True)
        if a.json:
            json.dump({"lm_eval": lm_eval.__version__, "tasks": summary}, open(a.json, "w"), indent=1)
        if a.fixture:
            with open(a.fixture, "w", encoding="utf-8") as f:
                json.dump({"lm_eval": lm_eval.__version__, "tasks": kept}, f, indent=1)
                f.write("\n")
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()
