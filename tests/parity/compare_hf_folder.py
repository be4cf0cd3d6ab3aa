#!/usr/bin/env python3
"""Compare a Hugging Face folder that kfuse wrote with the GGUF file it was made from, both read
by transformers (4.57): every weight, and the float32 logits of a few tokens.

    compare_hf_folder.py model.gguf folder

Prints the largest differences; exits 1 when a weight differs by more than 1e-6 or a logit by more than 1e-3.
"""
import os
import sys
import torch
from transformers import AutoModelForCausalLM

gguf, folder = sys.argv[1:]
torch.set_num_threads(2)
ids = torch.tensor([[2, 100, 2000, 17, 345, 9, 9, 1234, 40000, 31, 5, 77, 8]])
with torch.no_grad():
    ours = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    a = ours(ids).logits
    weights = {k: v.clone() for k, v in ours.state_dict().items()}
    del ours
    theirs = AutoModelForCausalLM.from_pretrained(os.path.dirname(gguf), gguf_file=os.path.basename(gguf), dtype=torch.float32)
    b = theirs(ids).logits
    other = theirs.state_dict()
bad = sorted(weights.keys() ^ other.keys())
worst = max((float((weights[k] - other[k]).abs().max()), k) for k in weights.keys() & other.keys())
print("tensors", len(weights), "only on one side", bad)
print("largest difference of weights %.3g (%s)" % worst)
print("largest difference of logits %.3g of %.3g; log-softmax %.3g" % ((a - b).abs().max(), b.abs().max(),
      (a.log_softmax(-1) - b.log_softmax(-1)).abs().max()))
sys.exit(bool(bad) or worst[0] > 1e-6 or float((a - b).abs().max()) > 1e-3)
