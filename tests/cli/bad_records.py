"""Records with one thing wrong each, for tests/cli/import.sh.

    python3 tests/cli/bad_records.py FOLDER RESPONSES

Reads FOLDER/qwen2-tiny-packed.jsonl, which kf-export wrote, and RESPONSES (tests/parity/import); writes FOLDER/case-NAME.jsonl,
and to standard output NAME, the tokenizer's model and what the error must match. FOLDER/short.jsonl has as little as may be, FOLDER/offsets.jsonl what servers say of places.
"""
import copy
import json
import sys

tmp, fixtures = sys.argv[1:]
good = [json.loads(l) for l in open(f"{tmp}/qwen2-tiny-packed.jsonl")]
servers = {n: [json.loads(l) for l in open(f"{fixtures}/{n}.jsonl")] for n in ("vllm-batch", "vllm-bare", "openai")}


def case(name, model, regex, records):
    with open(f"{tmp}/case-{name}.jsonl", "w") as f:
        for r in records:
            f.write(r if isinstance(r, str) else json.dumps(r) + "\n")
    print(name, model, regex, sep="\t")


def broken(name, regex, change, which=1, records=good, model="qwen2-tiny"):
    r = copy.deepcopy(records)
    change(r[which])
    case(name, model, regex, r)


def put(*path_value):
    *path, last, value = path_value

    def f(r):
        for k in path:
            r = r[k]
        r[last] = value
    return f


def both(*changes):
    def f(r):
        for change in changes:
            change(r)
    return f


def without(*names):
    return lambda r: [r.pop(k) for k in names]


def shorter(*names):
    return lambda r: [r[k].pop() for k in names]


def shifted(r):
    for k in ("top_ids", "top_logprobs"):
        r[k].insert(0, [])
        r[k].pop()


def extra(change):
    """Changes the first position that has an extra candidate: ids and log-probabilities of the best, and of the extra ones."""
    def f(r):
        p = next(p for p, e in enumerate(r["extra_ids"]) if e)
        change(r["top_ids"][p], r["top_logprobs"][p], r["extra_ids"][p], r["extra_logprobs"][p])
    return f


def again(ids, lps, extra_ids, extra_lps):
    extra_ids[0] = ids[0]


def twice(ids, lps, extra_ids, extra_lps):
    extra_ids.append(extra_ids[0])
    extra_lps.append(extra_lps[-1])


def too_likely(ids, lps, extra_ids, extra_lps):
    extra_lps[0] = 0


broken("extra-again", "line 2: token [0-9]+: an extra candidate is among the best", extra(again))
broken("extra-twice", "line 2: token [0-9]+: an extra candidate comes twice", extra(twice))
broken("extra-sum", "line 2: token [0-9]+: the candidates' and extra candidates' probabilities sum above 1", extra(too_likely))
case("text", "qwen2-tiny", "line 2: not valid JSON", [good[0], "{\"doc\": 1,\n", good[2]])
case("list", "qwen2-tiny", "line 1: the record is not a JSON object", ["[]\n"])
case("twice", "qwen2-tiny", "line 4: document 1 has a record already, in .*line 2", good + [good[1]])
case("missing", "qwen2-tiny", "1 of the 3 documents .* have no record, the first of them document 1", [good[0], good[2]])
broken("nodoc", "line 2: the corpus has no document 7", put("doc", 7))
broken("otherid", "line 2: document 1 of the corpus has another id than \"q\"", put("id", "q"))
broken("noref", "line 2: the record does not say which document", without("doc", "id"))
broken("idonly", "line 2: the corpus has no document \"q\"", both(without("doc"), put("id", "q")))
broken("nopiece", "line 2: the corpus has no piece 3", both(without("doc"), put("piece", 3)))
broken("token", "line 2: token 3, id 0 .* is not what document 1 has at byte", put("tokens", 3, 0))
broken("beyond", "line 2: token 3, id 99999 ..not in the vocabulary", put("tokens", 3, 99999))
broken("negative", "line 2: item 3 of \"tokens\" is not a token's id", put("tokens", 3, -4))
broken("name", "line 2: token 0, \"zzz\", is no token of the tokenizer, .*document 1 has \"for i", put("tokens", 0, "zzz"))
broken("othertext", "line 2: its \"text\" is not that of document 1", put("text", "another"))
broken("short", "line 2: \"top_ids\" has [0-9]+ items for [0-9]+ tokens", both(without("start"), shorter("tokens", "ce")))
broken("ends", "line 2: its [0-9]+ tokens end at byte [0-9]+ of document 1, which goes on",
       both(without("start"), shorter("tokens", "ce", "top_ids", "top_logprobs", "path_nlm", "extra_ids", "extra_logprobs")))
broken("start", "line 2: token 2 begins at byte 1 of document 1 by its \"start\", at byte [0-9]+ by its text", put("start", 2, 1))
broken("startlen", "line 2: \"start\" has 2 items", put("start", [0, 1]))
broken("ce", "line 2: \"ce\" has 1 items", put("ce", [1]))
broken("cetype", "line 2: item 4 of \"ce\" is not a number", put("ce", 4, "x"))
broken("cenull", "line 2: token 4 \\(id [0-9]+\\) has no log-probability",
       both(put("ce", 4, None), put("top_ids", 4, []), put("top_logprobs", 4, [])))
broken("logit", "line 2: token 4: its log-probability is above 0: is it a logit", put("ce", 4, -3))
broken("candlogit", "line 2: token 4: a candidate's log-probability is above 0", put("top_logprobs", 4, 0, 2))
broken("sum", "line 2: token 4: the candidates' probabilities sum above 1", put("top_logprobs", 4, [-0.1] * 6))
broken("lists", "line 2: item 4 of \"top_ids\" and of \"top_logprobs\" are not lists of one length", put("top_logprobs", 4, [-1]))
broken("double", "line 2: token 4: a candidate comes twice", put("top_ids", 4, [7] * 6))
broken("shift", "line 2: token [0-9]+ .*one position off", both(shifted, lambda r: put("ce", [x and 3.0 for x in r["ce"]])(r)))
broken("path", "line 2: token [0-9]+ has [0-9]+ bytes, but 0 masses in \"path_nlm\"",
       lambda r: put("path_nlm", [[] for _ in r["tokens"]])(r))
broken("nopath", "line 2: the record has no \"path_nlm\"", without("path_nlm"))
broken("noextra", "line 2: it has \"path_nlm\" but no \"extra_ids\"", without("extra_ids"))
broken("context", "line 2: it has \"context\", but document 1 is no conversation",
       lambda r: put("context", [0] * (len(r["tokens"]) + 1))(r))
broken("bos", "line 2: \"bos\" is neither", put("bos", 3))
broken("nothing", "line 2: the record has neither \"tokens\"", without("tokens"))
broken("deep", "line 2: item 4 of \"top_logprobs\" is not a number", put("top_logprobs", 4, 0, {}))


def batch(name, regex, change, which=0):
    broken(name, regex, change, which, servers["vllm-batch"], "gemma3-tiny")


choice = ("response", "body", "choices", 0)
batch("status", "line 1: the server answered with status 500", put("response", "status_code", 500))
batch("error", "line 1: the server answered with an error: too long", put("error", {"message": "too long"}))
batch("custom", "line 1: the corpus has no document \"nobody\"", put("custom_id", "nobody"))
batch("choices", "line 1: the response has 2 choices", lambda r: r["response"]["body"]["choices"].append({}))
batch("key", "line 1: item 1 of \"prompt_logprobs\" has a key \"a\" that is no token's id",
      put(*choice, "prompt_logprobs", 1, {"a": {"logprob": -1}}))
batch("value", "line 1: item 1 of \"prompt_logprobs\" has no \"logprob\" for 5", put(*choice, "prompt_logprobs", 1, {"5": {}}))
batch("item", "line 1: item 1 of \"prompt_logprobs\" is neither an object nor null", put(*choice, "prompt_logprobs", 1, 7))
batch("other", "line 2: token 5 has no log-probability of the token that the tokenizer finds at byte [0-9]+ of document 0",
      put(*choice, "prompt_logprobs", 5, {"3": {"logprob": -1}}), 1)
batch("fewer", "line 2: its [0-9]+ tokens end at byte|line 2: token [0-9]+ has no log-probability of",
      lambda r: r["response"]["body"]["choices"][0]["prompt_logprobs"].pop(), 1)
broken("ids", "line 2: \"prompt_logprobs\" has [0-9]+ items, \"prompt_token_ids\" 1", put("prompt_token_ids", [1]), 1, servers["vllm-bare"])


def openai(name, regex, *change):
    broken(name, regex, put("choices", 0, *change), 1, servers["openai"], "llama-untied")


openai("echo", "line 2: the corpus has no document with this text", "text", "What?")
openai("noname", "line 2: token 3, \"no such token\", is no token of the tokenizer, .*document [0-9]+ has \".*\" there: is --tokenizer that of the model",
       "logprobs", "tokens", 3, "no such token")
openai("counts", "line 2: [0-9]+ \"tokens\", 1 \"token_logprobs\"", "logprobs", "token_logprobs", [1])
openai("chatlogprobs", "line 2: its \"logprobs\" have no \"tokens\"", "logprobs", {"content": []})



def offsets(r):
    """As servers count: characters of the tokens' texts before each."""
    o, at = r["choices"][0]["logprobs"], 0
    o["text_offset"] = []
    for t in o["tokens"]:
        o["text_offset"].append(at)
        at += len(t)


def moved(r):
    offsets(r)
    at = r["choices"][0]["logprobs"]["text_offset"]
    at[5:] = [x + 1 for x in at[5:]]


ascii_line = next(i for i, r in enumerate(servers["openai"]) if r["choices"][0]["text"].isascii())
broken("offset", f"line {ascii_line + 1}: by its \"text_offset\" token 4 has [0-9]+ characters, by the text of document [0-9]+ [0-9]+", moved,
       ascii_line, servers["openai"], "llama-untied")
broken("offsets", f"line {ascii_line + 1}: \"text_offset\" has 1 items for",
       put("choices", 0, "logprobs", "text_offset", [0]), ascii_line, servers["openai"], "llama-untied")
broken("offsetback", f"line {ascii_line + 1}: item 1 of \"text_offset\", 0, is below",
       lambda r: put("choices", 0, "logprobs", "text_offset", [9] + [0] * (len(r["choices"][0]["logprobs"]["tokens"]) - 1))(r), ascii_line,
       servers["openai"], "llama-untied")
with open(f"{tmp}/offsets.jsonl", "w") as f:
    for r in copy.deepcopy(servers["openai"]):
        offsets(r)
        f.write(json.dumps(r) + "\n")

with open(f"{tmp}/short.jsonl", "w") as f:
    for r in good:
        top = [{str(i): l for i, l in zip(*row)} or None for row in zip(r["top_ids"], r["top_logprobs"])]
        f.write(json.dumps({"id": r["id"], "tokens": r["tokens"], "logprobs": [x if x is None else -x for x in r["ce"]], "top": top}) + "\n\n")
