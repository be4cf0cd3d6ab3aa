#!/usr/bin/env python3
"""Set every option of every family's configuration, one at a time, to something else, and compare what transformers and
kfuse make of it: the same log-probabilities, or a refusal that names the option.

    python tests/parity/audit_options.py [FAMILY...]      # needs torch and transformers (4.57); BIN: another build/bin

Keys are those of the family's configuration class, of all the other classes, and some that models with code of their own
have. Prints what is wrong (exit status 1): options that change transformers' result and not ours, or ours otherwise; refusals that do not
name the key. And, for judgement: what kfuse refuses although transformers ignores it.
"""
import inspect
import json
import os
import subprocess
import sys
import tempfile

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.join(HERE, "..", "..")
sys.path.insert(0, os.path.join(HERE, "..", "models"))
from make_models import randomise  # noqa: E402

TOKENIZER = os.path.join(HERE, "..", "models", "llama-tiny")
BIN = os.environ.get("BIN") or os.path.join(ROOT, "build", "bin")
TEXT = "The cat said 'we'll see': 2,000 metres above the sea, and the donkey understood nothing."
COMMON = dict(vocab_size=400, hidden_size=24, intermediate_size=32, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
              max_position_embeddings=128, bos_token_id=1, eos_token_id=2, pad_token_id=0)
MORE = dict(COMMON, head_dim=8)
BASE = {
    "llama": dict(MORE, rope_scaling=dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=32)), "mistral": dict(MORE, sliding_window=11),
    "mixtral": dict(MORE, num_local_experts=3), "qwen2": dict(COMMON, use_sliding_window=True, sliding_window=9, max_window_layers=1),
    "qwen3": MORE, "gemma2": dict(MORE, sliding_window=7), "gemma3_text": dict(MORE, sliding_window=7),
    "gpt_neox": {k: v for k, v in dict(COMMON, hidden_size=32, rotary_pct=0.5).items() if k != "num_key_value_heads"},
    "mpt": dict(vocab_size=400, d_model=24, n_heads=4, n_layers=2, max_seq_len=128, attn_config={}),
}
FOREIGN = dict(
    clip_qkv=6.0, alibi=True, qk_layernorm=True, use_qk_norm=True, attention_chunk_size=8, no_rope_layers=[0, 1, 0], attn_output_gate=True,
    logit_scale=0.5, logits_scaling=4.0, embedding_multiplier=2.0, residual_multiplier=0.5, attention_multiplier=0.3, num_experts=4,
    n_routed_experts=4, partial_rotary_factor=0.5, use_bidirectional_attention=True, use_mrope=True, quantization_config={"quant_method": "gptq"},
    vision_config={"x": 1}, is_decoder=True, is_encoder_decoder=True, add_cross_attention=True, pruned_heads={}, tie_word_embeddings=True,
    torch_dtype="bfloat16", dtype="bfloat16", pretraining_tp=2,
    original_max_position_embeddings=64, layer_types=["full_attention", "sliding_attention", "full_attention"], output_hidden_states=True,
    problem_type="regression", chunk_size_feed_forward=4, unsloth_version="2025.1", norm_topk_prob=True)


def other(key, value):
    """Values that differ from a default."""
    if key in ("hidden_act", "hidden_activation"):
        return ["gelu", "gelu_pytorch_tanh", "silu", "relu", "quick_gelu"]
    if key == "rope_scaling":
        return [dict(rope_type="linear", factor=2.0), dict(rope_type="dynamic", factor=2.0), dict(rope_type="yarn", factor=2.0),
                dict(rope_type="yarn", factor=4.0, attention_factor=0.7, beta_fast=20.0, beta_slow=2.0), dict(type="linear", factor=2.0),
                dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=16, mscale=0.8, mscale_all_dim=0.5, truncate=False),
                dict(rope_type="llama3", factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32),
                dict(rope_type="default"), dict(rope_type="linear", factor=2.0, strange=1)]
    if key == "layer_types":
        return [["full_attention", "sliding_attention", "full_attention"], ["full_attention"] * 3]
    if key in ("attn_logit_softcapping", "final_logit_softcapping"):
        return [3.0, None]
    if key == "sliding_window":
        return [5, None]
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value + 1, value * 2, max(1, value // 2)]
    if isinstance(value, float):
        return [value * 1.5 + 0.01, value / 4]
    if value is None:
        return [True, 3, 0.5]
    return []


ATTENTION = dict(attn_type="multiquery_attention", clip_qkv=0.5, softmax_scale=0.3, prefix_lm=True, qk_ln=True, qk_gn=True, attn_uses_sequence_id=True, alibi=False,
                 alibi_bias_max=4, attn_impl="flash", attn_pdrop=0.5, rope=True, sliding_window_size=5, kv_n_heads=2, attn_logit_softcapping=3.0)


def theirs(config, state, ids):
    eager = {} if config.model_type == "mpt" else {"attn_implementation": "eager"}
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, **eager)
    head = {"lm_head.weight", "embed_out.weight"} if config.tie_word_embeddings else set()   # as from_pretrained does
    model.load_state_dict({k: v for k, v in state.items() if k not in head}, strict=not head)
    with torch.no_grad():
        return torch.log_softmax(model.eval().float()(torch.tensor([ids])).logits[0], -1)


def run(*args):
    return subprocess.run([os.path.join(BIN, args[0]), *args[1:]], capture_output=True, text=True)


class Ours:
    def __init__(self, folder, state):
        from safetensors.torch import save_file
        self.folder, self.n = folder, 0
        for name in os.listdir(TOKENIZER):
            if name.startswith(("tokenizer", "special")):
                os.symlink(os.path.join(TOKENIZER, name), os.path.join(folder, name))
        save_file({k: v.contiguous() for k, v in state.items()}, os.path.join(folder, "model.safetensors"), {"format": "pt"})
        with open(os.path.join(folder, "text"), "w") as f:
            f.write(TEXT)
        run("kf-prepare", "--quiet", "--out", os.path.join(folder, "corpus"), os.path.join(folder, "text"))

    def __call__(self, config):
        with open(os.path.join(self.folder, "config.json"), "w") as f:
            json.dump(config, f)
        self.n += 1
        out = os.path.join(self.folder, f"out{self.n}")
        r = run("kf-extract", "--quiet", "--model", self.folder, "--corpus", os.path.join(self.folder, "corpus"), "--out", out, "--precision", "f32",
                "--top-k", "400", "--threads", "1")
        if r.returncode:
            return r.stderr.strip()
        d = json.loads(run("kf-inspect", out, "--json").stdout)
        lp = torch.full((len(d["tokens"]), 400), float("nan"))
        for p, (i, v) in enumerate(zip(d["top_ids"][1:], d["top_logprobs"][1:])):
            lp[p, i] = torch.tensor(v)
        self.ids = d["tokens"]
        return lp


def audit(family):
    bad, over = [], []
    base = dict(BASE[family], model_type=family)
    cls = type(AutoConfig.for_model(family))
    options = {k: p.default for k, p in inspect.signature(cls.__init__).parameters.items() if p.default is not inspect.Parameter.empty}
    config = cls.from_dict(base)
    model = randomise(AutoModelForCausalLM.from_config(config), 5, 0.3)
    state = {k: v.clone() for k, v in model.state_dict().items()}
    folder = tempfile.mkdtemp()
    written = {k: v for k, v in state.items() if not (k == "lm_head.weight" and config.tie_word_embeddings)}
    ours = Ours(folder, written)
    start = ours(base)
    if isinstance(start, str):
        print(f"{family}: {start}")
        return 1
    want = theirs(config, state, ours.ids)
    print(f"{family}: base differs by {(start - want).abs().max():.2g}; {len(options)} options of its class")
    trials = [(k, v) for k, default in options.items() for v in other(k, base.get(k, default))]
    foreign = dict(FOREIGN)
    for name in BASE:
        for k, p in inspect.signature(type(AutoConfig.for_model(name)).__init__).parameters.items():
            if k not in options and k not in foreign and p.default is not inspect.Parameter.empty:
                for v in other(k, p.default)[:1]:
                    foreign[k] = v
    trials += [(k, v) for k, v in foreign.items() if k not in options]
    if family == "mpt":
        trials += [("attn_config", {k: v}) for k, v in ATTENTION.items()]
        trials += [("norm_type", "rmsnorm"), ("learned_pos_emb", False), ("ffn_config", {"ffn_type": "mptglu"})]
    for key, value in trials:
        c = dict(base, **{key: value})
        name = next(iter(value)) if key == "attn_config" and isinstance(value, dict) else key
        try:
            reference = theirs(cls.from_dict(dict(c)), state, ours.ids)
        except Exception as e:
            reference = f"{type(e).__name__}"
        mine = ours(dict(c))
        where = f"{family}: {key} = {value!r}"
        if isinstance(mine, str):
            same = not isinstance(reference, str) and (reference - want).abs().max() < 1e-6
            named = name in mine or any(str(s) in mine for s in (value.values() if isinstance(value, dict) else [value])) or "its tensors are not" in mine or "the head size" in mine or "rotary" in mine
            if not named:
                bad.append(f"{where}: refused without its name: {mine}")
            elif same:
                over.append(f"{where}: refused, though transformers ignores it: {mine.split('config.json: ')[-1]}")
        elif isinstance(reference, str):
            over.append(f"{where}: taken, though transformers fails with {reference}")
        elif not (mine - reference).abs().max() <= 1e-4:
            bad.append(f"{where}: differs by {(mine - reference).abs().max():.3g}; transformers' changed by {(reference - want).abs().max():.3g}")
    for line in over:
        print("  note " + line)
    for line in bad:
        print("  BAD  " + line)
    return len(bad)


if __name__ == "__main__":
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    sys.exit(sum(audit(f) for f in (sys.argv[1:] or BASE)) > 0)
