"""Hugging Face transformers on the same shape: hf.py DIR extract|train. bfloat16, sdpa, random weights; a JSON object on a line.

As bench.c has it: sequences of 2,048; extraction of 16,384 tokens a batch to top 10 with the normaliser and the labels'
cross-entropy; training with 8,192 tokens a micro-batch, 4 of them a step of fused AdamW on bfloat16 weights (no float32 masters).
"""
import json
import sys
import time

import torch
from transformers import AutoConfig, AutoModelForCausalLM

LENGTH, K = 2048, 10


def build(path):
    config = AutoConfig.from_pretrained(path)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda"):
        model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")
    torch.set_default_dtype(torch.float32)
    return config, model


def clock(run, warm, runs):
    for _ in range(warm):
        run()
    torch.cuda.synchronize()
    start = time.monotonic()
    for _ in range(runs):
        run()
    torch.cuda.synchronize()
    return (time.monotonic() - start) / runs


def extract(config, model):
    model.eval()
    ids = torch.randint(config.vocab_size, (8, LENGTH), device="cuda")
    labels = torch.randint(config.vocab_size, (8, LENGTH), device="cuda")

    @torch.no_grad()
    def run():
        for s in range(0, 8, 4):   # all 8 sequences' logits in float32 at once would not fit beside a large model
            z = model(ids[s:s + 4]).logits.float()
            lse = z.logsumexp(-1)
            top = z.topk(K, -1)
            ce = lse - z.gather(-1, labels[s:s + 4, :, None])[..., 0]
            (top.values - lse[..., None]).cpu(), top.indices.cpu(), ce.cpu()
    return ids.numel() / clock(run, 2, 4)


def train(config, model):
    model.train()
    model.gradient_checkpointing_enable()
    optim = torch.optim.AdamW(model.parameters(), lr=1e-5, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    ids = torch.randint(config.vocab_size, (4, LENGTH), device="cuda")

    def run():
        for _ in range(4):
            (model(ids, labels=ids).loss / 4).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optim.step()
        optim.zero_grad()
    return 4 * ids.numel() / clock(run, 1, 2)


def main():
    path, work = sys.argv[1:3]
    config, model = build(path)
    speed = {"extract": extract, "train": train}[work](config, model)
    print(json.dumps({"work": work, "tool": "transformers", "tokens_per_second": round(speed),
                      "memory_gb": round(torch.cuda.max_memory_reserved() / 1e9, 2), "torch": torch.__version__}))


if __name__ == "__main__":
    main()
