#!/usr/bin/env python3
"""Make the tiny random-weight checkpoints of tests/models and the parity fixtures of
tests/parity/forward. Needs torch, transformers, tokenizers, sentencepiece; the tests
themselves read only what this script wrote.

    python tests/models/make_models.py

Each model is a folder as transformers saves it. Its fixture NAME.bin (little-endian)
holds what transformers computes from that folder in float32, eager:

    8 bytes  "KFPAR001"
    i32      S, T, V, number of parameters
    i32[S+1] offsets of the sequences     i32[T] tokens     i32[T] labels (-1: none)
    f64      mean cross entropy over the labels
    f32[T,V] log-probabilities
    for each parameter, in name order: u8 length and name, u64 elements, f64 norm of the gradient of
             the mean cross entropy, u32 samples, f32[samples] gradient at floor(i * elements / samples)
"""
import os
import struct
import shutil

import numpy as np
import sentencepiece as spm
from sentencepiece import sentencepiece_model_pb2
import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (AutoModelForCausalLM, Gemma3ForCausalLM, Gemma3TextConfig, GemmaTokenizerFast,
                          LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM)

HERE = os.path.dirname(os.path.abspath(__file__))
PARITY = os.path.join(HERE, "..", "parity", "forward")

TEXT = """The miller had three sons, and when he died he left them his mill, his donkey and his cat. The eldest took
the mill, the second took the donkey, and nothing remained for the youngest but the cat. "What shall I do with
it?" he said; "when I have eaten it, and made a pair of gloves of its skin, I shall die of hunger." The cat, who
understood every word, didn't look at him. 'Don't worry,' she said, 'we'll see what we've got; they're not as clever as they'd like.'

def count_words(text, table=None):
    # How often does each word occur?
    table = table if table is not None else {}
    for word in text.split():
        table[word] = table.get(word, 0) + 1
    return table

static int compare(const void *a, const void *b)
{
\tconst struct item *x = a, *y = b;
\tif (x->size != y->size)
\t\treturn x->size < y->size ? -1 : 1;
\treturn strcmp(x->name, y->name);
}

Water boils at 100 degrees at sea level, at 93.4 in a village 2,000 metres above it, and at 71 on the highest
mountain, 8,848 metres. In 1783 two brothers let a balloon rise; in 1903 two others flew for 12 seconds.

Die Stra\u00dfe war na\u00df, und \u00fcber den D\u00e4chern hing der Nebel. \u201eWohin?\u201c fragte der Kutscher. \u201eNach Hause\u201c,
antwortete sie leise. Caf\u00e9, na\u00efve, fa\u00e7ade, \u0441\u043f\u0430\u0441\u0438\u0431\u043e, \u65e5\u672c\u8a9e.

Options
-------

--threads N   how many threads to use (default: all of them)
--seed N      where the random numbers start; the same seed gives the same result
--quiet       print errors only
"""

SENTENCES = [
    "The cat said 'we'll see': 2,000 metres above the sea, and the donkey understood nothing of it.",
    "def compare(a, b):\n    return a.size < b.size",
    "\u00fcber",
]

QWEN_SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
              r"\s*[\r\n]+|\s+(?!\S)|\s+")
LLAMA3_SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
                r"\s*[\r\n]+|\s+(?!\S)|\s+")


def bpe(kind, size, specials):
    tok = Tokenizer(models.BPE())
    if kind == "smollm":
        tok.pre_tokenizer = pre_tokenizers.Sequence([
            pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    else:
        split = QWEN_SPLIT if kind == "qwen2" else LLAMA3_SPLIT
        tok.pre_tokenizer = pre_tokenizers.Sequence([
            pre_tokenizers.Split(Regex(split), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    if kind == "qwen2":
        tok.normalizer = normalizers.NFC()
    tok.decoder = decoders.ByteLevel()
    # Qwen and Llama 3 name their control tokens after the vocabulary, SmolLM before it.
    first = specials if kind == "smollm" else []
    trainer = trainers.BpeTrainer(vocab_size=size - len(specials) + len(first), special_tokens=first,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    tok.train_from_iterator([TEXT], trainer)
    tok.add_special_tokens(specials)
    tok.post_processor = processors.ByteLevel(trim_offsets=False)
    if kind == "llama3":
        bos = specials[0]
        tok.post_processor = processors.Sequence([
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(single=f"{bos} $A", pair=f"{bos} $A {bos} $B",
                                          special_tokens=[(bos, tok.token_to_id(bos))])])
    return tok


def sentencepiece_model(path):
    corpus = path + ".txt"
    with open(corpus, "w", encoding="utf-8") as f:
        f.write(TEXT)
    spm.SentencePieceTrainer.train(
        input=corpus, model_prefix=path, model_type="bpe", vocab_size=448, byte_fallback=True,
        normalization_rule_name="identity", add_dummy_prefix=False, remove_extra_whitespaces=False,
        pad_id=0, eos_id=1, bos_id=2, unk_id=3, pad_piece="<pad>", eos_piece="<eos>", bos_piece="<bos>",
        control_symbols=["<start_of_turn>", "<end_of_turn>"],
        user_defined_symbols=["\n", "\n\n", "\u2581\u2581", "\u2581\u2581\u2581\u2581", "\t"],
        split_digits=True, character_coverage=0.98, num_threads=1, minloglevel=2)
    os.remove(corpus)
    # The model would name the folder it was made in.
    made = sentencepiece_model_pb2.ModelProto()
    with open(path + ".model", "rb") as f:
        made.ParseFromString(f.read())
    made.trainer_spec.ClearField("input")
    made.trainer_spec.ClearField("model_prefix")
    os.remove(path + ".model")
    with open(os.path.join(os.path.dirname(path), "tokenizer.model"), "wb") as f:
        f.write(made.SerializeToString())
    os.remove(path + ".vocab")


def randomise(model, seed, std):
    """Weights large enough that nothing is flat; norms and biases random too, so that nothing hides."""
    g = torch.Generator().manual_seed(seed)
    gemma = "gemma" in model.config.model_type
    done = set()
    with torch.no_grad():
        for name, p in sorted(model.named_parameters()):
            if p.data_ptr() in done:
                continue
            done.add(p.data_ptr())
            r = torch.randn(p.shape, generator=g)
            if "norm" in name:
                p.copy_(0.25 * r + (0 if gemma else 1))
            elif name.endswith("bias"):
                p.copy_(0.2 * r)
            else:
                p.copy_(std * r)
    return model


def build(name):
    out = os.path.join(HERE, name)
    shutil.rmtree(out, ignore_errors=True)
    os.makedirs(out)
    shard, dtype = "10GB", torch.float32
    torch.manual_seed(1)
    if name == "llama-tiny":
        tok = bpe("smollm", 400, ["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
        PreTrainedTokenizerFast(tokenizer_object=tok, bos_token="<|im_start|>", eos_token="<|im_end|>",
                                unk_token="<|endoftext|>", pad_token="<|im_end|>").save_pretrained(out)
        cfg = LlamaConfig(vocab_size=400, hidden_size=40, intermediate_size=72, num_hidden_layers=2,
                          num_attention_heads=4, num_key_value_heads=2, head_dim=16, max_position_embeddings=128,
                          rms_norm_eps=1e-5, rope_theta=100000.0, tie_word_embeddings=True,
                          bos_token_id=1, eos_token_id=2)
        model = randomise(LlamaForCausalLM(cfg), 11, 0.3)
    elif name == "llama-untied":
        tok = bpe("llama3", 430, ["<|begin_of_text|>", "<|end_of_text|>"])
        PreTrainedTokenizerFast(tokenizer_object=tok, bos_token="<|begin_of_text|>",
                                eos_token="<|end_of_text|>").save_pretrained(out)
        cfg = LlamaConfig(vocab_size=430, hidden_size=32, intermediate_size=56, num_hidden_layers=3,
                          num_attention_heads=4, num_key_value_heads=4, max_position_embeddings=256,
                          rms_norm_eps=1e-6, rope_theta=10000.0, tie_word_embeddings=False,
                          attention_bias=True, mlp_bias=True, bos_token_id=428, eos_token_id=429,
                          rope_scaling={"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
                                        "high_freq_factor": 4.0, "original_max_position_embeddings": 64})
        model, dtype = randomise(LlamaForCausalLM(cfg), 12, 0.3), torch.bfloat16
    elif name == "qwen2-tiny":
        tok = bpe("qwen2", 413, ["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
        PreTrainedTokenizerFast(tokenizer_object=tok, eos_token="<|im_end|>",
                                pad_token="<|endoftext|>").save_pretrained(out)
        # More rows than tokens, as Qwen's are.
        cfg = Qwen2Config(vocab_size=421, hidden_size=36, intermediate_size=51, num_hidden_layers=2,
                          num_attention_heads=3, num_key_value_heads=1, max_position_embeddings=128,
                          rms_norm_eps=1e-6, rope_theta=1000000.0, tie_word_embeddings=False,
                          bos_token_id=410, eos_token_id=412)
        model, shard = randomise(Qwen2ForCausalLM(cfg), 13, 0.35), "100KB"
    else:
        sentencepiece_model(os.path.join(out, "sp"))
        GemmaTokenizerFast(vocab_file=os.path.join(out, "tokenizer.model"), add_bos_token=True,
                           add_eos_token=False).save_pretrained(out)
        cfg = Gemma3TextConfig(vocab_size=448, hidden_size=32, intermediate_size=60, num_hidden_layers=4,
                               num_attention_heads=4, num_key_value_heads=1, head_dim=16,
                               query_pre_attn_scalar=20, max_position_embeddings=128, rms_norm_eps=1e-6,
                               sliding_window=8, rope_theta=1000000.0, rope_local_base_freq=10000.0,
                               rope_scaling={"rope_type": "linear", "factor": 4.0},
                               layer_types=["sliding_attention", "sliding_attention", "full_attention",
                                            "sliding_attention"],
                               attn_implementation="eager", bos_token_id=2, eos_token_id=1, pad_token_id=0)
        model, dtype = randomise(Gemma3ForCausalLM(cfg), 14, 0.3), torch.bfloat16
    model.to(dtype).save_pretrained(out, max_shard_size=shard)
    return out


def fixture(name, folder):
    from transformers import AutoTokenizer
    tok = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    write_fixture(name, model, model.config.vocab_size, [tok(s)["input_ids"] for s in SENTENCES])


def write_fixture(name, model, V, sequences):
    tokens, labels, offset, logp, losses = [], [], [0], [], []
    for ids in sequences:
        logits = model(torch.tensor([ids])).logits[0]
        lp = torch.log_softmax(logits, -1)
        y = ids[1:] + [-1]
        losses += [-lp[i, t] for i, t in enumerate(y) if t >= 0]
        tokens += ids
        labels += y
        offset.append(len(tokens))
        logp.append(lp.detach().numpy())
    loss = torch.stack(losses).mean()
    loss.backward()
    params = sorted(dict(model.named_parameters()).items())
    out = b"KFPAR001" + struct.pack("<4i", len(sequences), len(tokens), V, len(params))
    for a in (offset, tokens, labels):
        out += np.array(a, "<i4").tobytes()
    out += struct.pack("<d", loss.item()) + np.concatenate(logp).astype("<f4").tobytes()
    for n, p in params:
        # an expert that no token was sent to has no gradient
        g = (torch.zeros_like(p) if p.grad is None else p.grad).numpy().reshape(-1)
        k = min(48, g.size)
        at = np.arange(k) * g.size // k
        out += struct.pack("<B", len(n)) + n.encode() + struct.pack("<QdI", g.size, np.linalg.norm(g.astype("f8")), k)
        out += g[at].astype("<f4").tobytes()
    path = os.path.join(PARITY, name + ".bin")
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as f:
        f.write(out)
    lp = np.concatenate(logp)
    print(f"{name}: {len(tokens)} tokens, loss {loss.item():.4f}, best token {np.exp(lp.max(1)).mean():.3f} on average, "
          f"fixture {len(out)} bytes")


if __name__ == "__main__":
    os.makedirs(PARITY, exist_ok=True)
    torch.set_num_threads(1)
    for n in ("llama-tiny", "llama-untied", "qwen2-tiny", "gemma3-tiny"):
        fixture(n, build(n))
