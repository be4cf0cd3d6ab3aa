#!/usr/bin/env python3
"""Extraction speed of transformers: the peer of kf-extract.

    hf_extract.py MODEL [REPEATS [THREADS [DTYPE [ROWS]]]]

MODEL is a Hugging Face folder or a GGUF file. Forward of ROWS (4) sequences of 512 random tokens, then what
kf-extract keeps of it without the byte path: the label's cross-entropy and the ten best
log-probabilities. Prints one JSON object; the best of REPEATS (3), loading not counted.
"""
import json
import os
import resource
import sys
import time

import torch
from transformers import AutoModelForCausalLM

path = sys.argv[1]
repeats = int(sys.argv[2]) if len(sys.argv) > 2 else 3
threads = int(sys.argv[3]) if len(sys.argv) > 3 else os.cpu_count()
dtype = getattr(torch, sys.argv[4] if len(sys.argv) > 4 else "float32")
rows = int(sys.argv[5]) if len(sys.argv) > 5 else 4
torch.set_num_threads(threads)
if path.endswith(".gguf"):
    model = AutoModelForCausalLM.from_pretrained(os.path.dirname(os.path.abspath(path)), gguf_file=os.path.basename(path),
                                                 dtype=dtype, attn_implementation="eager")
else:
    model = AutoModelForCausalLM.from_pretrained(path, dtype=dtype, attn_implementation="eager")
model.eval()
torch.manual_seed(1)
ids = torch.randint(0, model.config.vocab_size, (rows, 512))
best, cpu = None, None
with torch.no_grad():
    for _ in range(repeats):
        start, start_cpu = time.time(), time.process_time()
        logits = model(input_ids=ids).logits.float()
        lse = logits.logsumexp(-1, keepdim=True)
        top, top_ids = logits.topk(10, dim=-1)
        top = top - lse
        ce = (lse[:, :-1] - logits[:, :-1].gather(-1, ids[:, 1:, None]))
        del logits
        took, took_cpu = time.time() - start, time.process_time() - start_cpu
        best = took if best is None else min(best, took)
        cpu = took_cpu if cpu is None else min(cpu, took_cpu)
print(json.dumps({"tool": "transformers", "work": "extract", "dtype": str(dtype).split(".")[-1],
                  "tokens_per_second": round(ids.numel() / best, 1),
                  "tokens_per_cpu_second": round(ids.numel() / cpu, 1),
                  "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6)}))
