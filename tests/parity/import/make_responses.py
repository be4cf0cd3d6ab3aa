#!/usr/bin/env python3
"""Make the responses of this folder: what a server would say of the documents of text.jsonl, computed by transformers in
float32 from the tiny checkpoints of tests/models. Needs torch and transformers; the tests read only what this wrote.

    python tests/parity/import/make_responses.py

vllm-batch.jsonl   gemma3-tiny: the output of vLLM's batch runner: prompt_logprobs of completions, one token generated
vllm-bare.jsonl    qwen2-tiny: prompt_logprobs and prompt_token_ids as vLLM's RequestOutput has them
openai.jsonl       llama-untied: completions with echo, logprobs and max_tokens 0; nothing says which document but the text
"""
import json
import os

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

HERE = os.path.dirname(os.path.abspath(__file__))
MODELS = os.path.join(HERE, "..", "..", "models")
K = 5
TEXTS = [
    ("a", "prose", "The miller had three sons, and when he died he left them his mill."),
    ("b", "code", "for i in range(10):\n    print(i, \"ünïcödé 日本 🙂\")\n"),
    ("c", "prose", "x"),
]


def run(name):
    """For each text: ids as the server would make them, and log-probabilities (positions, V): row p is about token p + 1."""
    path = os.path.join(MODELS, name)
    tokenizer = AutoTokenizer.from_pretrained(path)
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, attn_implementation="eager").eval()
    out = []
    for _, _, text in TEXTS:
        ids = tokenizer(text)["input_ids"]
        with torch.no_grad():
            out.append((ids, torch.log_softmax(model(torch.tensor([ids])).logits[0].double(), -1)))
    return tokenizer, out


def vllm_entry(tokenizer, lp, token):
    """The prompt's token first, whatever its rank; then the best."""
    top = torch.topk(lp, K)
    ids = [token] + [i for i in top.indices.tolist() if i != token]
    return {str(i): {"logprob": round(lp[i].item(), 6), "rank": int((lp > lp[i]).sum()) + 1, "decoded_token": tokenizer.decode([i])}
            for i in ids}


def vllm_prompt(tokenizer, ids, lps):
    return [None] + [vllm_entry(tokenizer, lps[p], ids[p + 1]) for p in range(len(ids) - 1)]


def write(name, records):
    with open(os.path.join(HERE, name), "w") as f:
        for r in records:
            f.write(json.dumps(r, ensure_ascii=False) + "\n")


def batch():
    tokenizer, runs = run("gemma3-tiny")
    for i in (2, 0, 1):                                    # a server answers in its own order
        (ids, lps), (name, _, _) = runs[i], TEXTS[i]
        top = torch.topk(lps[-1], K)
        token = f"token_id:{top.indices[0].item()}"        # return_tokens_as_token_ids
        yield {"id": f"vllm-{i}", "custom_id": name, "error": None, "response": {"status_code": 200, "request_id": f"r{i}", "body": {
            "id": f"cmpl-{i}", "object": "text_completion", "created": 1, "model": "gemma3-tiny", "choices": [{
                "index": 0, "text": "?", "finish_reason": "length", "stop_reason": None,
                "logprobs": {"text_offset": [0], "tokens": [token], "token_logprobs": [round(top.values[0].item(), 6)], "top_logprobs": [
                    {f"token_id:{t}": round(v, 6) for t, v in zip(top.indices.tolist(), top.values.tolist())}]},
                "prompt_logprobs": vllm_prompt(tokenizer, ids, lps)}], "usage": {"prompt_tokens": len(ids), "completion_tokens": 1}}}}


def bare():
    tokenizer, runs = run("qwen2-tiny")
    for i, (ids, lps) in enumerate(runs):
        yield {"doc": i, "prompt_token_ids": ids, "prompt_logprobs": vllm_prompt(tokenizer, ids, lps)}


def openai():
    tokenizer, runs = run("llama-untied")
    for (ids, lps), (_, _, text) in zip(runs, TEXTS):
        tokens = [tokenizer.decode([i]) for i in ids]
        numbers, tops = [None], [None]
        for p, token in enumerate(ids[1:]):
            top = {tokenizer.decode([i]): round(lps[p][i].item(), 6) for i in torch.topk(lps[p], K).indices.tolist()}
            top.setdefault(tokenizer.decode([token]), round(lps[p][token].item(), 6))
            numbers.append(round(lps[p][token].item(), 6))
            tops.append(top)
        offsets = [0]
        for t in tokens[:-1]:
            offsets.append(offsets[-1] + len(t))
        yield {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "llama-untied", "choices": [{
            "index": 0, "text": text, "finish_reason": "length",
            "logprobs": {"tokens": tokens, "token_logprobs": numbers, "top_logprobs": tops, "text_offset": offsets}}]}


if __name__ == "__main__":
    torch.set_num_threads(1)
    with open(os.path.join(HERE, "text.jsonl"), "w") as f:
        for name, domain, text in TEXTS:
            f.write(json.dumps({"id": name, "domain": domain, "text": text}, ensure_ascii=False) + "\n")
    write("vllm-batch.jsonl", batch())
    write("vllm-bare.jsonl", bare())
    write("openai.jsonl", openai())
