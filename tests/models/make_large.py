#!/usr/bin/env python3
"""Make a large checkpoint of random weights, to see how a model is run that does not fit in memory.

    make_large.py OUT [--layers N] [--width N] [--mlp N] [--heads N] [--kv-heads N] [--vocab N] [--experts N [--used N]]
                      [--file-mb N] [--sparse]

A Llama (with --experts a Mixtral) in bfloat16, in several safetensors files with an index, with the tokenizer of
tests/models/llama-tiny, whose ids are fewer than the rows. Needs nothing but Python. Written as fast as the disk takes
it: random numbers are drawn once, 64 MB of them, and every tensor begins somewhere else in them. --sparse: files with
holes in place of weights, all zeros, which take no room on the disk (for trying kf-extract --plan on any size).
Prints the bytes of all weights.
"""
import argparse
import json
import os
import random
import shutil
import struct

HERE = os.path.dirname(os.path.abspath(__file__))
POOL = 64 << 20


def pool(rng):
    """bfloat16 numbers between 2^-7 and 2^-5, of either sign: as large as weights usually are."""
    data = bytearray(POOL)
    data[0::2] = rng.randbytes(POOL // 2)
    data[1::2] = rng.randbytes(POOL // 2).translate(bytes(0x3C | (b & 1) << 7 for b in range(256)))
    return bytes(data)


def shapes(a):
    D = a.width // a.heads
    yield "model.embed_tokens.weight", (a.vocab, a.width)
    for l in range(a.layers):
        p = "model.layers.%d." % l
        yield p + "input_layernorm.weight", (a.width,)
        yield p + "self_attn.q_proj.weight", (a.heads * D, a.width)
        yield p + "self_attn.k_proj.weight", (a.kv_heads * D, a.width)
        yield p + "self_attn.v_proj.weight", (a.kv_heads * D, a.width)
        yield p + "self_attn.o_proj.weight", (a.width, a.heads * D)
        yield p + "post_attention_layernorm.weight", (a.width,)
        if a.experts:
            yield p + "block_sparse_moe.gate.weight", (a.experts, a.width)
            for e in range(a.experts):
                x = p + "block_sparse_moe.experts.%d." % e
                yield x + "w1.weight", (a.mlp, a.width)
                yield x + "w2.weight", (a.width, a.mlp)
                yield x + "w3.weight", (a.mlp, a.width)
        else:
            yield p + "mlp.gate_proj.weight", (a.mlp, a.width)
            yield p + "mlp.up_proj.weight", (a.mlp, a.width)
            yield p + "mlp.down_proj.weight", (a.width, a.mlp)
    yield "model.norm.weight", (a.width,)
    yield "lm_head.weight", (a.vocab, a.width)


def size(shape):
    n = 2
    for s in shape:
        n *= s
    return n


def write_file(path, tensors, numbers, rng, sparse):
    header, at = {}, 0
    for name, shape in tensors:
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [at, at + size(shape)]}
        at += size(shape)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        if sparse:
            f.truncate(f.tell() + at)
            return
        for name, shape in tensors:
            left = size(shape)
            if len(shape) == 1:  # norms: about one
                f.write(struct.pack("<H", 0x3F80) * (left // 2))
                continue
            from_ = rng.randrange(POOL // 2) * 2
            while left:
                n = min(left, POOL - from_)
                f.write(numbers[from_:from_ + n])
                left, from_ = left - n, 0


def main():
    p = argparse.ArgumentParser()
    p.add_argument("out")
    for name, default in (("layers", 16), ("width", 2048), ("mlp", 5632), ("heads", 16), ("kv-heads", 4), ("vocab", 8192),
                          ("experts", 0), ("used", 2), ("context", 2048), ("file-mb", 1000)):
        p.add_argument("--" + name, type=int, default=default)
    p.add_argument("--sparse", action="store_true")
    a = p.parse_args()
    rng = random.Random(1)
    numbers = None if a.sparse else pool(rng)
    os.makedirs(a.out)
    files, room = [[]], a.file_mb * 1000000
    total = used = 0
    for name, shape in shapes(a):
        if used and used + size(shape) > room:
            files.append([])
            used = 0
        files[-1].append((name, shape))
        used += size(shape)
        total += size(shape)
    index = {}
    for i, tensors in enumerate(files):
        name = "model-%05d-of-%05d.safetensors" % (i + 1, len(files))
        write_file(os.path.join(a.out, name), tensors, numbers, rng, a.sparse)
        index.update((t, name) for t, _ in tensors)
    with open(os.path.join(a.out, "model.safetensors.index.json"), "w") as f:
        json.dump({"metadata": {"total_size": total}, "weight_map": index}, f)
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "hidden_size": a.width,
              "intermediate_size": a.mlp, "num_hidden_layers": a.layers, "num_attention_heads": a.heads,
              "num_key_value_heads": a.kv_heads, "vocab_size": a.vocab, "max_position_embeddings": a.context,
              "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": False, "bos_token_id": 1, "eos_token_id": 2,
              "torch_dtype": "bfloat16"}
    if a.experts:
        config.update({"architectures": ["MixtralForCausalLM"], "model_type": "mixtral", "num_local_experts": a.experts,
                       "num_experts_per_tok": a.used, "sliding_window": None})
    with open(os.path.join(a.out, "config.json"), "w") as f:
        json.dump(config, f, indent=1)
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        shutil.copy(os.path.join(HERE, "llama-tiny", name), a.out)
    print(total)


if __name__ == "__main__":
    main()
