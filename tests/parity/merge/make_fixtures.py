#!/usr/bin/env python3
"""Make the parity fixtures of kf-merge: what mergekit 0.1.5 makes of small models.

    python tests/parity/merge/make_fixtures.py          (needs mergekit 0.1.5, torch, safetensors)

The inputs are made by arithmetic that tests/unit/merge/test_parity.c repeats, exact in float32, so only results are
kept. expected.bin, little-endian: 8 bytes "KFMRG001", i32 number of runs, then of each run u8 length and name and f32 all
tensors of TENSORS in order. dare.txt: of each random method over SEEDS seeds and the tensors of two
dimensions, the slope of its merged changes on the changes it was given, and the mean over elements of its variance.
"""
import json
import os
import struct
import sys
import tempfile

import numpy as np
import torch
import yaml
from mergekit.config import MergeConfiguration
from mergekit.merge import run_merge
from mergekit.options import MergeOptions
from safetensors.torch import load_file, save_file

HERE = os.path.dirname(os.path.abspath(__file__))
SEEDS = 100
TENSORS = [("model.embed_tokens.weight", (64, 16)), ("model.layers.0.self_attn.q_proj.weight", (16, 16)),
           ("model.layers.0.self_attn.k_proj.weight", (8, 16)), ("model.layers.0.self_attn.v_proj.weight", (8, 16)),
           ("model.layers.0.self_attn.o_proj.weight", (16, 16)), ("model.layers.0.mlp.gate_proj.weight", (24, 16)),
           ("model.layers.0.mlp.up_proj.weight", (24, 16)), ("model.layers.0.mlp.down_proj.weight", (16, 24)),
           ("model.layers.0.input_layernorm.weight", (16,)), ("model.layers.0.post_attention_layernorm.weight", (16,)),
           ("model.norm.weight", (16,))]
CONFIG = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 16, "intermediate_size": 24,
          "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8, "vocab_size": 64,
          "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "tie_word_embeddings": True, "hidden_act": "silu",
          "dtype": "float32"}


def noise(stream, n):
    """splitmix64 of (stream, element): uniform in [-2^23, 2^23)."""
    with np.errstate(over="ignore"):
        z = (np.uint64(stream) << np.uint64(32)) + np.arange(n, dtype=np.uint64) + np.uint64(1)
        z = z * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(40)).astype(np.int64) - 2**23


def change(t, j, n):
    """Of model j in tensor t, in units of 2^-26: an eighth of the elements do not change; model 0 leaves the last
    tensor but one alone, all leave the last; the changes of models 4 and 5 are small."""
    if t == len(TENSORS) - 1 or (j == 0 and t == len(TENSORS) - 2):
        return np.zeros(n, dtype=np.int64)
    if j == 3:  # against model 0
        return -change(t, 0, n)
    v = noise(100 + 16 * t + j, n)
    d = v // 2
    if j >= 4:
        d = v // 8192
    return np.where(v % 8 == 0, 0, d)


def write_models(root):
    for j in range(-1, 6):
        tensors = {}
        for t, (name, shape) in enumerate(TENSORS):
            n = int(np.prod(shape))
            v = noise(t, n) + (change(t, j, n) if j >= 0 else 0)
            tensors[name] = torch.from_numpy((v * 2.0**-26).astype(np.float32).reshape(shape))
        path = "%s/%s" % (root, "pivot" if j < 0 else "m%d" % j)
        os.makedirs(path)
        save_file(tensors, path + "/model.safetensors", metadata={"format": "pt"})
        with open(path + "/config.json", "w") as f:
            json.dump(CONFIG, f)


RUNS = [  # name, method, models, weights, base, parameters
    ("linear", "linear", [0, 1, 2], [0.5, 1.0, 2.5], None, {}),
    ("linear-no", "linear", [0, 1, 2], [0.5, 1.0, -0.25], None, {"normalize": False}),
    ("slerp", "slerp", [0, 1], None, "m0", {"t": 0.3}),
    ("slerp-near", "slerp", [4, 5], None, "m4", {"t": 0.7}),
    ("task", "task_arithmetic", [0, 1, 2], [0.4, -0.3, 0.7], "pivot", {}),
    ("task-yes", "task_arithmetic", [0, 1], [0.4, 0.9], "pivot", {"normalize": True}),
    ("ties", "ties", [0, 1, 2], [1.0, 1.0, 1.0], "pivot", {"density": 0.3}),
    ("ties-no", "ties", [0, 1, 2], [0.5, 0.8, 0.3], "pivot", {"density": 0.55, "normalize": False}),
    ("ties-against", "ties", [0, 3], [1.0, 1.0], "pivot", {"density": 1.0}),
    ("sce", "sce", [0, 1, 2], None, "pivot", {"select_topk": 0.2}),
    ("sce-all", "sce", [0, 1, 2], None, "pivot", {"select_topk": 1.0}),
    ("sce-against", "sce", [0, 3], None, "pivot", {"select_topk": 0.5}),
    ("sce-small", "sce", [4, 5], None, "pivot", {"select_topk": 1.0}),
]
RANDOM = [("dare", "dare_linear"), ("dare-ties", "dare_ties")]


def merge(root, method, models, weights, base, parameters, seed=0):
    def entry(i, j):
        e = {"model": "%s/m%d" % (root, j)}
        own = {} if weights is None else {"weight": weights[i]}
        if "density" in parameters:
            own["density"] = parameters["density"]
        return dict(e, parameters=own) if own else e

    config = {"merge_method": method, "dtype": "float32", "models": [entry(i, j) for i, j in enumerate(models)],
              "parameters": {k: v for k, v in parameters.items() if k != "density"}}
    if base:
        config["base_model"] = "%s/%s" % (root, base)
    with tempfile.TemporaryDirectory() as out:
        run_merge(MergeConfiguration.model_validate(yaml.safe_load(json.dumps(config))), out,
                  MergeOptions(copy_tokenizer=False, write_model_card=False, quiet=True, random_seed=seed))
        got = load_file(out + "/model.safetensors")
    return [got[name].float().numpy().reshape(-1) for name, _ in TENSORS]


def main():
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as root:
        write_models(root)
        with open(HERE + "/expected.bin", "wb") as f:
            f.write(b"KFMRG001" + struct.pack("<i", len(RUNS)))
            for name, *args in RUNS:
                f.write(struct.pack("B", len(name)) + name.encode())
                for x in merge(root, *args):
                    f.write(x.astype("<f4").tobytes())
        with open(HERE + "/dare.txt", "w") as f:
            matrices = [t for t, (_, shape) in enumerate(TENSORS) if len(shape) == 2]
            size = [int(np.prod(shape)) for _, shape in TENSORS]
            pivot = np.concatenate([noise(t, size[t]) * 2.0**-26 for t in matrices])
            full = np.concatenate([(change(t, 0, size[t]) + 0.5 * change(t, 1, size[t])) * 2.0**-26 for t in matrices])
            for name, method in RANDOM:
                got = []
                for seed in range(SEEDS):
                    x = merge(root, method, [0, 1], [1.0, 0.5], "pivot", {"density": 0.4}, seed=seed + 1)
                    got.append(np.concatenate([x[t] for t in matrices]) - pivot)
                got = np.array(got)
                slope = float((got.mean(0) * full).sum() / (full * full).sum())
                f.write("%s %.9g %.9g\n" % (name, slope, float(got.var(0).mean())))


if __name__ == "__main__":
    sys.exit(main())
