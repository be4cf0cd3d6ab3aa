#!/usr/bin/env python3
"""Training speed of transformers: the peer of bench_train.

    hf_train.py MODEL [STEPS [THREADS [DTYPE]]]

MODEL is a Hugging Face folder or a GGUF file. Steps of 4 x 512 random tokens, AdamW. Prints one JSON object.
"""
import json
import os
import resource
import sys
import time

import torch
from transformers import AutoModelForCausalLM

path = sys.argv[1]
steps = int(sys.argv[2]) if len(sys.argv) > 2 else 3
threads = int(sys.argv[3]) if len(sys.argv) > 3 else os.cpu_count()
dtype = getattr(torch, sys.argv[4] if len(sys.argv) > 4 else "float32")
torch.set_num_threads(threads)
if path.endswith(".gguf"):
    model = AutoModelForCausalLM.from_pretrained(os.path.dirname(os.path.abspath(path)), gguf_file=os.path.basename(path),
                                                 dtype=dtype)
else:
    model = AutoModelForCausalLM.from_pretrained(path, dtype=dtype)
model.train()
optim = torch.optim.AdamW(model.parameters(), lr=1e-5, betas=(0.9, 0.95), weight_decay=0.1)
torch.manual_seed(1)
ids = torch.randint(0, model.config.vocab_size, (4, 512))
best = None
for s in range(steps):
    start = time.time()
    optim.zero_grad(set_to_none=True)
    model(input_ids=ids, labels=ids).loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optim.step()
    took = time.time() - start
    best = took if best is None or (s > 0 and took < best) else best
print(json.dumps({"tool": "transformers", "work": "train", "dtype": str(dtype).split(".")[-1],
                  "tokens_per_second": round(ids.numel() / best, 1),
                  "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6)}))
