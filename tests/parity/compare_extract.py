"""Compare what kf-extract stored with transformers in float32, token for token.

    python compare_extract.py --model M.gguf --logits DIR [--docs N] [--inspect build/bin/kf-inspect]

--model is a GGUF file or a Hugging Face folder; --logits the set kf-extract made from it, or a file of
`kf-inspect --json` lines. Our token ids are fed to transformers (its own tokenizers read from GGUF
are wrong for two of the demo's models), so this compares models, not tokenizers.

Prints one JSON object: the mean and largest absolute difference of ce in nats; of the stored
candidates' log-probabilities; and how many ranks of the top k hold another id than transformers' where the two ids'
log-probabilities (by transformers) differ by more than 1e-2. Exits with 1 when the mean difference of ce is
above 2e-3 or there is any such rank.
"""
import argparse
import json
import os
import subprocess
import sys

import torch


def documents(path, inspect):
    if os.path.isdir(path):
        with subprocess.Popen([inspect, path, "--json"], stdout=subprocess.PIPE, text=True) as p:
            yield from map(json.loads, p.stdout)
        if p.returncode:
            sys.exit(f"{inspect} failed on {path}")
    else:
        with open(path) as f:
            yield from map(json.loads, f)


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--model", required=True)
    a.add_argument("--logits", required=True)
    a.add_argument("--docs", type=int, default=0)
    a.add_argument("--threads", type=int, default=2)
    a.add_argument("--inspect", default="build/bin/kf-inspect")
    o = a.parse_args()
    torch.set_num_threads(o.threads)
    from transformers import AutoModelForCausalLM
    folder, file = os.path.split(os.path.abspath(o.model))
    how = {"gguf_file": file} if file.endswith(".gguf") else {}
    model = AutoModelForCausalLM.from_pretrained(folder if how else o.model, dtype=torch.float32, attn_implementation="eager", **how).eval()
    bos = model.config.bos_token_id

    n = ranks = wrong = near = 0
    total = largest = lp_largest = 0.0
    docs = 0
    for d in documents(o.logits, o.inspect):
        if o.docs and docs == o.docs:
            break
        docs += 1
        tokens = d["tokens"]
        if not tokens:
            continue
        fed = ([bos] if d["bos"] else []) + tokens
        with torch.no_grad():
            lp = torch.log_softmax(model(torch.tensor([fed])).logits[0], -1)
        first = 0 if d["bos"] else 1  # row r is about position r + first
        for p in range(first, len(tokens) + 1):
            row = lp[p - first]
            if p < len(tokens):
                diff = abs(-row[tokens[p]].item() - d["ce"][p])
                n += 1
                total += diff
                largest = max(largest, diff)
            ours, theirs = d["top_ids"][p], row.topk(len(d["top_ids"][p])).indices.tolist()
            mine = row[torch.tensor(ours)].tolist()
            lp_largest = max(lp_largest, max(abs(x - y) for x, y in zip(mine, d["top_logprobs"][p])))
            for x, y, lx in zip(ours, theirs, mine):
                ranks += 1
                if x != y:
                    if abs(lx - row[y].item()) > 1e-2:
                        wrong += 1
                    else:
                        near += 1
    result = {"model": file.removesuffix(".gguf"), "documents": docs, "tokens": n, "ce_mean_abs_diff": total / max(n, 1),
              "ce_max_abs_diff": largest, "candidate_max_abs_diff": lp_largest, "ranks": ranks, "ranks_wrong": wrong,
              "ranks_swapped_within_0.01": near}
    print(json.dumps(result))
    return result["ce_mean_abs_diff"] > 2e-3 or wrong > 0


if __name__ == "__main__":
    sys.exit(main())
