#!/usr/bin/env python3
"""Make a tiny random-weight checkpoint of every family and option in tests/models/families, and what transformers
computes from each (float32, eager) in tests/parity/forward/families. Formats and needs as make_models.py's.

    python tests/models/make_families.py [NAME...]

Shapes are odd on purpose: heads whose size is not width / heads, one key-value head, windows and original contexts
shorter than the sequences, tied and untied, biases on and off. The tokens are random.

transformers has no InternLM2 of its own; the class below is written from the description of the model (its
technical report, and the names and shapes of the published checkpoints): Llama with one projection for q, k and v,
whose rows are, for each key-value head, that group's queries, then its key, then its value.
"""
import json
import math
import os
import random
import shutil
import sys
from collections import OrderedDict
from types import SimpleNamespace

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import (AutoModelForCausalLM, Gemma2Config, Gemma3TextConfig, GPTNeoXConfig, LlamaConfig, MistralConfig,
                          MixtralConfig, MptConfig, Qwen2Config, Qwen3Config)

from make_models import randomise, write_fixture

HERE = os.path.dirname(os.path.abspath(__file__))
V = 53
SMALL = dict(vocab_size=V, hidden_size=20, intermediate_size=28, num_hidden_layers=2, num_attention_heads=4,
             num_key_value_heads=2, max_position_embeddings=64, bos_token_id=1, eos_token_id=2)


def small(**more):
    return {**SMALL, **more}


def llama(rope, **more):
    return LlamaConfig(**small(head_dim=12, rope_scaling=rope, **more))


def mpt(heads, **attn):
    return MptConfig(vocab_size=V, d_model=24, n_heads=heads, n_layers=2, max_seq_len=64, attn_config=attn)


def neox(**more):
    return GPTNeoXConfig(**{**dict(vocab_size=V, hidden_size=32, intermediate_size=44, num_hidden_layers=2,
                                   num_attention_heads=2, max_position_embeddings=64, rotary_pct=0.25, eos_token_id=0), **more})


LONG = dict(rope_type="longrope", short_factor=[1.0, 1.1, 1.2, 1.4, 1.5, 1.7], long_factor=[1.0, 1.3, 2.0, 3.0, 4.0, 4.5])
CONFIGS = {
    "llama-solar": lambda: LlamaConfig(**small(hidden_size=24, rms_norm_eps=1e-5)),
    "llama-linear": lambda: llama(dict(rope_type="linear", factor=2.5), num_key_value_heads=4, tie_word_embeddings=True),
    "llama-dynamic": lambda: llama(dict(rope_type="dynamic", factor=2.0), max_position_embeddings=16, num_key_value_heads=1),
    "llama-yarn": lambda: llama(dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=16)),
    "llama-yarn-all": lambda: llama(dict(rope_type="yarn", factor=8.0, original_max_position_embeddings=16, beta_fast=20.0,
                                         beta_slow=0.5, mscale=0.7, mscale_all_dim=0.4, truncate=False)),
    "llama-longrope": lambda: llama(LONG, original_max_position_embeddings=16),
    "llama-longrope-factor": lambda: llama(dict(LONG, factor=3.0, attention_factor=1.25), max_position_embeddings=16),
    "mistral": lambda: MistralConfig(**small(head_dim=6, sliding_window=7, num_key_value_heads=1)),
    "mistral-full": lambda: MistralConfig(**small(sliding_window=None, tie_word_embeddings=True, hidden_size=24)),
    "mixtral-2-of-4": lambda: MixtralConfig(**small(num_local_experts=4, num_experts_per_tok=2, head_dim=6, hidden_size=16,
                                                    intermediate_size=12)),
    "mixtral-1-of-3": lambda: MixtralConfig(**small(num_local_experts=3, num_experts_per_tok=1, sliding_window=5,
                                                    num_key_value_heads=1, hidden_size=16, intermediate_size=14)),
    "mixtral-all": lambda: MixtralConfig(**small(num_local_experts=3, num_experts_per_tok=3, tie_word_embeddings=True,
                                                 hidden_size=16, intermediate_size=12)),
    "qwen1.5": lambda: Qwen2Config(**small(hidden_size=24, num_key_value_heads=4, tie_word_embeddings=True)),
    "qwen2-window": lambda: Qwen2Config(**small(hidden_size=24, use_sliding_window=True, sliding_window=6, max_window_layers=1)),
    "qwen3": lambda: Qwen3Config(**small(head_dim=14, num_key_value_heads=1, tie_word_embeddings=True)),
    "qwen3-bias": lambda: Qwen3Config(**small(head_dim=8, attention_bias=True, use_sliding_window=True, sliding_window=5,
                                              max_window_layers=1)),
    "gemma2": lambda: Gemma2Config(**small(num_hidden_layers=3, head_dim=14, query_pre_attn_scalar=14, sliding_window=6,
                                           attn_logit_softcapping=1.5, final_logit_softcapping=4.0)),
    "gemma2-uncapped": lambda: Gemma2Config(**small(head_dim=8, num_key_value_heads=1, sliding_window=6, attention_bias=True, query_pre_attn_scalar=30,
                                                    attn_logit_softcapping=None, final_logit_softcapping=None,
                                                    tie_word_embeddings=False)),
    "gpt-neox": lambda: neox(),
    "gpt-neox-serial": lambda: neox(use_parallel_residual=False, tie_word_embeddings=True, attention_bias=False,
                                    hidden_act="gelu_new", rotary_pct=1.0, rotary_emb_base=500,
                                    rope_scaling=dict(rope_type="linear", factor=2.0)),
    "mpt": lambda: mpt(4),
    "mpt-6-heads": lambda: mpt(6, softmax_scale=0.4),
}
LATER = {   # at the end, so that the others keep their seeds
    "gemma3-capped": lambda: Gemma3TextConfig(**small(head_dim=10, sliding_window=5, attention_bias=True, tie_word_embeddings=False, query_pre_attn_scalar=12,
                                                      final_logit_softcapping=3.0, layer_types=["sliding_attention", "full_attention"])),
}
PICKLED = {"llama-pickled": lambda: LlamaConfig(**small(hidden_size=24, tie_word_embeddings=True))}
HALF = {"gemma3-capped", "llama-solar", "mixtral-2-of-4", "qwen3", "gemma2", "gpt-neox", "mpt", "internlm2"}   # stored as bfloat16


class Norm(torch.nn.Module):
    def __init__(self, size):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(size))

    def forward(self, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * self.weight


class Attention(torch.nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c, size = c, c.hidden_size // c.num_attention_heads
        self.wqkv = torch.nn.Linear(c.hidden_size, (c.num_attention_heads + 2 * c.num_key_value_heads) * size, bias=c.bias)
        self.wo = torch.nn.Linear(c.num_attention_heads * size, c.hidden_size, bias=c.bias)

    def forward(self, x):
        c, T = self.c, x.shape[1]
        D, G, per = c.hidden_size // c.num_attention_heads, c.num_key_value_heads, c.num_attention_heads // c.num_key_value_heads
        parts = self.wqkv(x).view(1, T, G, per + 2, D)
        q = parts[:, :, :, :per].reshape(1, T, G * per, D)
        k = parts[:, :, :, per].repeat_interleave(per, 2)
        v = parts[:, :, :, per + 1].repeat_interleave(per, 2)
        base = c.rope_theta
        if c.rope_scaling and T > c.max_position_embeddings:   # dynamic
            f = c.rope_scaling["factor"]
            base = base * (f * T / c.max_position_embeddings - (f - 1)) ** (D / (D - 2))
        angle = torch.outer(torch.arange(T).float(), 1 / base ** (torch.arange(0, D, 2).float() / D))
        cos, sin = [torch.cat((f(angle), f(angle)), -1)[None, :, None] for f in (torch.cos, torch.sin)]

        def turn(u):
            return u * cos + torch.cat((-u[..., D // 2:], u[..., :D // 2]), -1) * sin
        s = torch.einsum("bthd,bjhd->bhtj", turn(q), turn(k)) / math.sqrt(D)
        s = s.masked_fill(torch.ones(T, T).triu(1).bool(), float("-inf")).softmax(-1)
        return self.wo(torch.einsum("bhtj,bjhd->bthd", s, v).reshape(1, T, -1))


class Mlp(torch.nn.Module):
    def __init__(self, c):
        super().__init__()
        self.w1 = torch.nn.Linear(c.hidden_size, c.intermediate_size, bias=False)
        self.w3 = torch.nn.Linear(c.hidden_size, c.intermediate_size, bias=False)
        self.w2 = torch.nn.Linear(c.intermediate_size, c.hidden_size, bias=False)

    def forward(self, x):
        return self.w2(torch.nn.functional.silu(self.w1(x)) * self.w3(x))


class Layer(torch.nn.Module):
    def __init__(self, c):
        super().__init__()
        self.attention, self.feed_forward = Attention(c), Mlp(c)
        self.attention_norm, self.ffn_norm = Norm(c.hidden_size), Norm(c.hidden_size)

    def forward(self, x):
        x = x + self.attention(self.attention_norm(x))
        return x + self.feed_forward(self.ffn_norm(x))


class InternLM2(torch.nn.Module):
    def __init__(self, c):
        super().__init__()
        self.config = c
        self.model = torch.nn.Module()
        self.model.tok_embeddings = torch.nn.Embedding(c.vocab_size, c.hidden_size)
        self.model.layers = torch.nn.ModuleList(Layer(c) for _ in range(c.num_hidden_layers))
        self.model.norm = Norm(c.hidden_size)
        self.output = torch.nn.Linear(c.hidden_size, c.vocab_size, bias=False)

    def forward(self, ids):
        x = self.model.tok_embeddings(ids)
        for layer in self.model.layers:
            x = layer(x)
        return SimpleNamespace(logits=self.output(self.model.norm(x)))


INTERN = {
    "internlm2": dict(hidden_size=32, bias=False, rope_theta=1e6, rope_scaling=None),
    "internlm2-bias": dict(hidden_size=24, num_key_value_heads=4, bias=True, rope_theta=1e4, max_position_embeddings=16,
                           rope_scaling={"type": "dynamic", "factor": 2.0}),
}


def internlm2(name, out, seed):
    c = dict(small(**INTERN[name]), model_type="internlm2", hidden_act="silu", rms_norm_eps=1e-6, tie_word_embeddings=False)
    model = randomise(InternLM2(SimpleNamespace(**c)), seed, 0.35)
    dtype = torch.bfloat16 if name in HALF else torch.float32
    save_file({k: v.to(dtype).contiguous() for k, v in model.state_dict().items()}, os.path.join(out, "model.safetensors"),
              {"format": "pt"})
    with open(os.path.join(out, "config.json"), "w") as f:
        json.dump(c, f, indent=2)
        f.write("\n")
    return model.to(dtype).float().eval()


def pickled(model, out):
    """As OpenLLaMA was published: two files that torch.save wrote, and an index; tied matrices share their numbers."""
    halves = {k: v.half() for k, v in model.state_dict().items()}
    tied = model.config.tie_word_embeddings
    tensors = {k: halves["model.embed_tokens.weight" if tied and k == "lm_head.weight" else k] for k in halves}
    first = {k for k in tensors if k.startswith(("model.layers.0.", "model.embed", "lm_head"))}
    where = {k: f"pytorch_model-0000{1 if k in first else 2}-of-00002.bin" for k in tensors}
    for file in sorted(set(where.values())):
        torch.save(OrderedDict((k, v) for k, v in tensors.items() if where[k] == file), os.path.join(out, file))
    with open(os.path.join(out, "pytorch_model.bin.index.json"), "w") as f:
        json.dump({"metadata": {}, "weight_map": where}, f, indent=2)
        f.write("\n")
    model.config.save_pretrained(out)
    model.load_state_dict(halves)
    return model.eval()


def build(name, seed):
    out = os.path.join(HERE, "families", name)
    shutil.rmtree(out, ignore_errors=True)
    os.makedirs(out)
    if name in INTERN:
        return internlm2(name, out, seed)
    config = {**CONFIGS, **PICKLED, **LATER}[name]()
    model = randomise(AutoModelForCausalLM.from_config(config, attn_implementation="eager"), seed, 0.35)
    if name == "llama-pickled":
        return pickled(model, out)
    model.to(torch.bfloat16 if name in HALF else torch.float32).save_pretrained(out)
    generation = os.path.join(out, "generation_config.json")
    if os.path.exists(generation):
        os.remove(generation)
    return AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32, attn_implementation="eager").eval()


# ---- GGUF, as llama.cpp's converter writes these models (its tensor names, orders of rows, and metadata) ----

def gguf_llama_rows(w, heads):
    """Rows of q and k that rotate together become neighbours."""
    return w.reshape(heads, 2, w.shape[0] // heads // 2, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape)


def gguf(name, model, arch):
    import gguf as lib
    c = model.config
    w = lib.GGUFWriter(os.path.join(HERE, "families", name + ".gguf"), arch)
    mpt = arch == "mpt"
    C, H, L = (c.d_model, c.n_heads, c.n_layers) if mpt else (c.hidden_size, c.num_attention_heads, c.num_hidden_layers)
    G = getattr(c, "num_key_value_heads", H)
    w.add_context_length(c.max_seq_len if mpt else c.max_position_embeddings)
    w.add_embedding_length(C)
    w.add_block_count(L)
    w.add_feed_forward_length(4 * C if mpt else c.intermediate_size)
    w.add_head_count(H)
    if mpt:
        w.add_layer_norm_eps(c.layer_norm_epsilon)
        w.add_max_alibi_bias(8.0)
    elif arch == "gptneox":
        w.add_layer_norm_eps(c.layer_norm_eps)
        w.add_rope_dimension_count(int(C // H * c.rotary_pct))
        w.add_parallel_residual(c.use_parallel_residual)
    else:
        w.add_head_count_kv(G)
        w.add_layer_norm_rms_eps(getattr(c, "rms_norm_eps", 1e-6))
        w.add_rope_freq_base(c.rope_theta)
        if getattr(c, "head_dim", None):
            w.add_key_length(c.head_dim)
            w.add_value_length(c.head_dim)
        if (rope := getattr(c, "rope_scaling", None)) and rope.get("rope_type") == "yarn":
            w.add_rope_scaling_type(lib.RopeScalingType.YARN)
            w.add_rope_scaling_factor(rope["factor"])
            w.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
        if getattr(c, "num_local_experts", 0):
            w.add_expert_count(c.num_local_experts)
            w.add_expert_used_count(c.num_experts_per_tok)
    if arch == "gemma2":
        w.add_attn_logit_softcapping(c.attn_logit_softcapping)
        w.add_final_logit_softcapping(c.final_logit_softcapping)
    # The converter drops Mistral's, Mixtral's and Qwen's windows; a file may say them.
    if getattr(c, "sliding_window", None):
        w.add_sliding_window(c.sliding_window)
        if arch == "qwen2":
            w.add_sliding_window_pattern([t == "sliding_attention" for t in c.layer_types])
    names = {
        "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
        "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "pre_feedforward_layernorm": "ffn_norm",
        "post_attention_layernorm": "post_attention_norm" if arch == "gemma2" else "ffn_norm",
        "post_feedforward_layernorm": "post_ffw_norm", "attention.query_key_value": "attn_qkv", "attention.dense": "attn_output",
        "mlp.dense_h_to_4h": "ffn_up", "mlp.dense_4h_to_h": "ffn_down", "norm_1": "attn_norm", "norm_2": "ffn_norm",
        "attn.Wqkv": "attn_qkv", "attn.out_proj": "attn_output", "ffn.up_proj": "ffn_up", "ffn.down_proj": "ffn_down",
        "attention.wo": "attn_output", "feed_forward.w1": "ffn_gate", "feed_forward.w3": "ffn_up", "feed_forward.w2": "ffn_down",
        "attention_norm": "attn_norm", "ffn_norm": "ffn_norm", "block_sparse_moe.gate": "ffn_gate_inp",
        "embed_tokens": "token_embd", "embed_in": "token_embd", "wte": "token_embd", "tok_embeddings": "token_embd",
        "norm": "output_norm", "final_layer_norm": "output_norm", "norm_f": "output_norm", "lm_head": "output",
        "embed_out": "output", "output": "output",
    }
    experts = {}

    def put(tensor, v):
        half = name in HALF and v.ndim > 1
        v = np.ascontiguousarray(v)
        w.add_tensor(tensor, lib.quants.quantize(v, lib.GGMLQuantizationType.BF16) if half else v,
                     raw_dtype=lib.GGMLQuantizationType.BF16 if half else None)

    for key, value in model.state_dict().items():
        stem, kind = key.rsplit(".", 1)
        parts = stem.split(".")
        layer = next((p for p in parts if p.isdigit()), None)
        stem = ".".join(parts[parts.index(layer) + 1:]) if layer else parts[-1]
        v, at = value.float().numpy(), f"blk.{layer}." if layer else ""
        if stem == "lm_head" and getattr(c, "tie_word_embeddings", True):
            continue
        if stem == "attention.wqkv":
            q, k, v = (x.reshape(-1, *v.shape[1:]) for x in np.split(
                v.reshape(G, H // G + 2, -1, *v.shape[1:]), [H // G, H // G + 1], axis=1))
            put(at + f"attn_q.{kind}", gguf_llama_rows(q, H))
            put(at + f"attn_k.{kind}", gguf_llama_rows(k, G))
            put(at + f"attn_v.{kind}", v)
            continue
        if stem.startswith("block_sparse_moe.experts."):
            number, which = stem.split(".")[2:]
            which = {"w1": "ffn_gate", "w2": "ffn_down", "w3": "ffn_up"}[which]
            if name in APART:
                put(at + f"{which}.{number}.weight", v)
            else:
                experts.setdefault(at + which + "_exps.weight", []).append(v)
            continue
        if arch == "llama" and stem in ("self_attn.q_proj", "self_attn.k_proj"):
            v = gguf_llama_rows(v, H if "q_proj" in stem else G)
        if stem == "attention.query_key_value":
            v = np.ascontiguousarray(v.reshape(H, 3, -1, *v.shape[1:]).swapaxes(0, 1).reshape(v.shape))
        if arch == "gemma2" and "norm" in stem:
            v = v + 1
        put(at + names[stem] + "." + kind, v)
    for tensor, list_of in experts.items():
        put(tensor, np.stack(list_of))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


GGUF = {"qwen3": "qwen3", "gemma2": "gemma2", "gpt-neox": "gptneox", "mpt": "mpt", "internlm2": "internlm2",
        "llama-yarn": "llama", "mistral": "llama", "mixtral-2-of-4": "llama", "mixtral-1-of-3": "llama", "qwen2-window": "qwen2"}
APART = {"mixtral-1-of-3"}   # a tensor an expert, as before 2024

if __name__ == "__main__":
    torch.set_num_threads(1)
    for i, n in enumerate([*CONFIGS, *INTERN, *PICKLED, *LATER]):
        r = random.Random(i)
        # Ascending: transformers' dynamic frequencies remember a longer sequence. Token 0 pads: it would get no gradient.
        texts = [[r.randrange(1, V) for _ in range(k)] for k in (1, 9, 19, 24)]
        if len(sys.argv) < 2 or n in sys.argv[1:]:
            model = build(n, 100 + i)
            write_fixture("families/" + n, model, V, texts)
            if n in GGUF:
                gguf(n, model, GGUF[n])
