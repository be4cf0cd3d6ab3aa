#!/usr/bin/env python3
"""Tiny models with tokenizers of the published models' kinds, and what transformers makes of a few texts with each, from
text to log-probabilities: tests/models/endtoend/NAME and tests/parity/endtoend/NAME.jsonl. tests/cli/parity.sh runs
kf-extract on the same texts. Needs what make_models.py needs; that script's four models are used too.

    python tests/models/make_endtoend.py

Lines of NAME.jsonl: {"text", "bos": whether the tokenizer adds one, "tokens": without it, "ce": of each token, null for the first
where there is no BOS, "top_ids", "top_logprobs": the best 5 of each position, and of what follows the text}.
"""
import json
import os
import shutil

import sentencepiece
import torch
from safetensors.torch import save_file
from sentencepiece import sentencepiece_model_pb2
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (AutoModelForCausalLM, AutoTokenizer, GPTNeoXTokenizerFast, LlamaConfig, LlamaTokenizer,
                          LlamaTokenizerFast, MistralConfig, MixtralConfig, MptConfig)

from make_families import INTERN, InternLM2, SimpleNamespace, pickled, small
from make_models import HERE, TEXT, randomise

OUT = os.path.join(HERE, "endtoend")
EXPECTED = os.path.join(HERE, "..", "parity", "endtoend")
TEXTS = [
    "The cat said 'we'll see': 2,000 metres above the sea.", " leading space", "two  spaces and   three, a\ttab", "\n\nnew lines\r\nfirst\n",
    "def f(a, b):\n    return a + b  # no\n", "\u65e5\u672c\u8a9e \U0001f469\u200d\U0001f680 \u00fcber na\u00efve \ufb01n\u3000x", "\u2581 mark", "x",
    "trailing spaces   ", "3.14159 1,000,000 \u00bd", "\u00a0\u0085 odd spaces \u2028",
]


def sp_model(folder, **more):
    """A SentencePiece BPE model as Llama's: dummy prefix, bytes for what it does not know."""
    corpus = os.path.join(folder, "text")
    with open(corpus, "w", encoding="utf-8") as f:
        f.write(TEXT)
    sentencepiece.SentencePieceTrainer.train(**{**dict(
        input=corpus, model_prefix=corpus, model_type="bpe", vocab_size=420, byte_fallback=True, character_coverage=0.98,
        normalization_rule_name="identity", remove_extra_whitespaces=False, add_dummy_prefix=True, unk_id=0, bos_id=1, eos_id=2,
        split_digits=True, allow_whitespace_only_pieces=True, num_threads=1, minloglevel=2), **more})
    made = sentencepiece_model_pb2.ModelProto()
    with open(corpus + ".model", "rb") as f:
        made.ParseFromString(f.read())
    # The model would name the folder it was made in.
    made.trainer_spec.ClearField("input")
    made.trainer_spec.ClearField("model_prefix")
    made.normalizer_spec.ClearField("normalization_rule_tsv")
    for name in ("text", "text.model", "text.vocab"):
        os.remove(os.path.join(folder, name))
    path = os.path.join(folder, "tokenizer.model")
    with open(path, "wb") as f:
        f.write(made.SerializeToString())
    return path


def put_json(folder, name, value):
    with open(os.path.join(folder, name), "w") as f:
        json.dump(value, f, indent=1)
        f.write("\n")


def save(model, folder, seed):
    """In bfloat16; what comes back has the same numbers in float32."""
    randomise(model, seed, 0.35).to(torch.bfloat16).save_pretrained(folder)
    if os.path.exists(os.path.join(folder, "generation_config.json")):
        os.remove(os.path.join(folder, "generation_config.json"))
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()


SIZES = dict(hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
             max_position_embeddings=256)


def llama2(folder):
    """tokenizer.model alone, as Meta's conversion leaves it."""
    sp_model(folder)
    put_json(folder, "tokenizer_config.json", {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True, "add_eos_token": False,
             "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "legacy": False})
    model = save(AutoModelForCausalLM.from_config(LlamaConfig(**SIZES, vocab_size=420), attn_implementation="eager"), folder, 21)
    return AutoTokenizer.from_pretrained(folder, use_fast=False), model


def openllama(folder):
    """pytorch_model*.bin, and a tokenizer.model that squeezes spaces and maps characters."""
    rules = os.path.join(folder, "rules.tsv")
    with open(rules, "w") as f:
        f.write("FB01\t66 69\n3000\t20\nBD\t31 2F 32\n")
    sp_model(folder, normalization_rule_name="", normalization_rule_tsv=rules, remove_extra_whitespaces=True,
             allow_whitespace_only_pieces=False)
    os.remove(rules)
    put_json(folder, "tokenizer_config.json", {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True, "add_eos_token": False,
             "bos_token": {"__type": "AddedToken", "content": "<s>", "lstrip": False, "normalized": True, "rstrip": False, "single_word": False},
             "eos_token": {"__type": "AddedToken", "content": "</s>", "lstrip": False, "normalized": True, "rstrip": False, "single_word": False},
             "model_max_length": 2048, "sp_model_kwargs": {}})
    made = AutoModelForCausalLM.from_config(LlamaConfig(**{**SIZES, "num_key_value_heads": 2}, vocab_size=420), attn_implementation="eager")
    return AutoTokenizer.from_pretrained(folder, use_fast=False), pickled(randomise(made, 22, 0.35), folder)


def openchat(folder):
    """Mistral's tokenizer.model and tokenizer.json, and two tokens more."""
    tok = LlamaTokenizerFast(vocab_file=sp_model(folder), legacy=True, add_bos_token=True, add_prefix_space=True)
    tok.add_tokens([AddedToken("<|end_of_turn|>", normalized=False), AddedToken("<|pad_0|>", normalized=False)], special_tokens=True)
    tok.save_pretrained(folder)
    put_json(folder, "added_tokens.json", {"<|end_of_turn|>": 420, "<|pad_0|>": 421})
    model = save(AutoModelForCausalLM.from_config(MistralConfig(**SIZES, vocab_size=422, sliding_window=9), attn_implementation="eager"),
                 folder, 23)
    return tok, model


def mixtral(folder):
    """tokenizer.json alone, with a Metaspace in place of the normalizers, and ChatML's tokens."""
    tok = LlamaTokenizerFast(vocab_file=sp_model(folder), legacy=False, add_bos_token=True, add_prefix_space=True)
    tok.add_tokens([AddedToken("<|im_end|>", normalized=False), AddedToken("<|im_start|>", normalized=False)], special_tokens=True)
    tok.save_pretrained(folder)
    os.remove(os.path.join(folder, "tokenizer.model"))
    with open(os.path.join(folder, "tokenizer_config.json")) as f:
        config = json.load(f)
    del config["add_prefix_space"]   # transformers would want tokenizer.model again
    put_json(folder, "tokenizer_config.json", config)
    model = save(AutoModelForCausalLM.from_config(MixtralConfig(**{**SIZES, "intermediate_size": 12}, vocab_size=424, num_local_experts=3),
                 attn_implementation="eager"), folder, 24)
    return tok, model


def mpt(folder):
    """GPT-NeoX's tokenizer: it names a BOS and adds none; NFC; runs of spaces are tokens."""
    t = Tokenizer(models.BPE())
    t.normalizer = normalizers.NFC()
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    t.decoder = decoders.ByteLevel()
    t.train_from_iterator([TEXT], trainers.BpeTrainer(vocab_size=400, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
                          special_tokens=["<|endoftext|>", "<|padding|>"]))
    t.add_tokens([AddedToken(" " * n, normalized=True) for n in range(24, 1, -1)])
    t.post_processor = processors.ByteLevel(add_prefix_space=False, trim_offsets=True)
    GPTNeoXTokenizerFast(tokenizer_object=t, bos_token="<|endoftext|>", eos_token="<|endoftext|>", unk_token="<|endoftext|>",
                         add_prefix_space=False).save_pretrained(folder)
    model = save(AutoModelForCausalLM.from_config(MptConfig(vocab_size=432, d_model=24, n_heads=3, n_layers=2, max_seq_len=256)), folder, 25)
    return AutoTokenizer.from_pretrained(folder), model


def internlm2(folder):
    """tokenizer.model with a class of its own; the model is make_families.py's."""
    sp_model(folder, user_defined_symbols=["<|im_start|>", "<|im_end|>"])
    put_json(folder, "tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["tokenization_internlm2.InternLM2Tokenizer", None]},
             "tokenizer_class": "InternLM2Tokenizer", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "</s>",
             "clean_up_tokenization_spaces": False})
    c = dict(small(**INTERN["internlm2"]), **SIZES, vocab_size=420, model_type="internlm2", hidden_act="silu", rms_norm_eps=1e-6, tie_word_embeddings=False)
    c.update(SIZES)
    put_json(folder, "config.json", c)
    model = randomise(InternLM2(SimpleNamespace(**c)), 26, 0.35).to(torch.bfloat16)
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, os.path.join(folder, "model.safetensors"), {"format": "pt"})
    return LlamaTokenizer(os.path.join(folder, "tokenizer.model"), legacy=False), model.float().eval()


def expect(name, tok, model):
    with open(os.path.join(EXPECTED, name + ".jsonl"), "w") as f:
        for text in TEXTS:
            ids = tok(text)["input_ids"]
            plain = tok(text, add_special_tokens=False)["input_ids"]
            bos = len(ids) > len(plain)
            assert ids[bos:] == plain and (not bos or ids[0] == tok.bos_token_id), (name, text)
            with torch.no_grad():
                lp = torch.log_softmax(model(torch.tensor([ids])).logits[0].float(), -1)
            ce = ([] if bos else [None]) + [round(-lp[i][t].item(), 5) for i, t in enumerate(ids[1:])]
            top = lp.topk(5)
            none = [] if bos else [[]]
            f.write(json.dumps({"text": text, "bos": bos, "tokens": plain, "ce": ce, "top_ids": none + top.indices.tolist(),
                    "top_logprobs": none + [[round(v, 5) for v in row] for row in top.values.tolist()]}, separators=(",", ":")) + "\n")
    print(f"{name}: adds {'a' if bos else 'no'} BOS; the texts are {sum(len(tok(t)['input_ids']) for t in TEXTS)} tokens")


if __name__ == "__main__":
    torch.set_num_threads(1)
    os.makedirs(EXPECTED, exist_ok=True)
    for make in (llama2, openllama, openchat, mixtral, mpt, internlm2):
        folder = os.path.join(OUT, make.__name__)
        shutil.rmtree(folder, ignore_errors=True)
        os.makedirs(folder)
        torch.manual_seed(1)
        expect(make.__name__, *make(folder))
    for name in ("llama-tiny", "llama-untied", "qwen2-tiny", "gemma3-tiny"):
        folder = os.path.join(HERE, name)
        expect(name, AutoTokenizer.from_pretrained(folder),
               AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval())
