#!/usr/bin/env python3
"""Prompt processing of llama.cpp (llama-cpp-python): the other peer of kf-extract.

    llama_extract.py MODEL.gguf LOGITS.jsonl [REPEATS [THREADS]]

Runs the tokens of a document of 512 tokens (LOGITS: lines of kf-inspect --json; documents are joined) as one batch, as
llama-bench -p 512 does, and again with the logits of all positions, which is what extraction needs; then the cross-entropy of
the first tokens of some documents of LOGITS, compared with what is in it. Prints one JSON object; the best of REPEATS (3), loading not counted.
"""
import json
import os
import resource
import sys
import time

import numpy as np
from llama_cpp import Llama

path, logits = sys.argv[1:3]
repeats = int(sys.argv[3]) if len(sys.argv) > 3 else 3
threads = int(sys.argv[4]) if len(sys.argv) > 4 else os.cpu_count()
with open(logits) as f:
    docs = [json.loads(line) for line in f]
prompt = [t for d in docs for t in d["tokens"]][:512]
result = {"tool": "llama.cpp", "work": "extract", "tokens": len(prompt)}
for every in (False, True):
    llm = Llama(model_path=path, n_ctx=1024, n_batch=512, n_ubatch=512, n_threads=threads, n_threads_batch=threads, logits_all=every,
                verbose=False)
    best = cpu = None
    for _ in range(repeats + 1):
        llm.reset()
        start, start_cpu = time.time(), time.process_time()
        llm.eval(prompt)
        took, took_cpu = time.time() - start, time.process_time() - start_cpu
        best = took if best is None else min(best, took)
        cpu = took_cpu if cpu is None else min(cpu, took_cpu)
    result["tokens_per_second" + ("" if every else "_last_logits_only")] = round(len(prompt) / best, 1)
    result["tokens_per_cpu_second" + ("" if every else "_last_logits_only")] = round(len(prompt) / cpu, 1)
total = n = 0
for d in docs[:4]:
    tokens = d["tokens"][:200]
    fed = ([llm.token_bos()] if d["bos"] else []) + tokens
    llm.reset()
    llm.eval(fed)
    first = 0 if d["bos"] else 1  # row r is about position r + first
    for p in range(first, len(tokens)):
        z = llm.scores[p - first].astype(np.float64)
        total += abs(np.log(np.exp(z - z.max()).sum()) + z.max() - z[tokens[p]] - d["ce"][p])
        n += 1
result["ce_mean_abs_diff"] = total / n
result["peak_mb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6)
print(json.dumps(result))
