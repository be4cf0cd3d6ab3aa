#!/usr/bin/env python3
"""Make tests/parity/train/NAME.txt: losses and gradient norms of the first steps of AdamW in torch, on the
sentences of tests/parity/forward/NAME.bin. A line a step: loss, norm of the gradient before clipping.

    python tests/models/make_train_fixture.py
"""
import os
import struct

import numpy as np
import torch
from transformers import AutoModelForCausalLM

HERE = os.path.dirname(os.path.abspath(__file__))
STEPS, LR, CLIP = 8, 3e-3, 1.0

for name in ("llama-tiny", "llama-untied", "qwen2-tiny", "gemma3-tiny"):
    raw = open(os.path.join(HERE, "..", "parity", "forward", name + ".bin"), "rb").read()
    S, T, V, n = struct.unpack_from("<4i", raw, 8)
    ints = np.frombuffer(raw, "<i4", S + 1 + 2 * T, 24)
    offset, tokens = ints[:S + 1], ints[S + 1:S + 1 + T]
    model = AutoModelForCausalLM.from_pretrained(os.path.join(HERE, name), dtype=torch.float32,
                                                 attn_implementation="eager")
    decay = [p for p in model.parameters() if p.dim() > 1]
    rest = [p for p in model.parameters() if p.dim() <= 1]
    optim = torch.optim.AdamW([{"params": decay, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}],
                              lr=LR, betas=(0.9, 0.95), eps=1e-8)
    lines = []
    for step in range(STEPS):
        optim.zero_grad()
        losses = []
        for s in range(S):
            ids = torch.tensor(tokens[offset[s]:offset[s + 1]].astype("i8"))
            lp = torch.log_softmax(model(ids[None]).logits[0], -1)
            losses.append(-lp[torch.arange(len(ids) - 1), ids[1:]])
        loss = torch.cat(losses).mean()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optim.step()
        lines.append(f"{loss.item():.7g} {norm.item():.7g}\n")
    out = os.path.join(HERE, "..", "parity", "train", name + ".txt")
    os.makedirs(os.path.dirname(out), exist_ok=True)
    open(out, "w").writelines(lines)
    print(name, lines[0].strip(), "...", lines[-1].strip())
