"""Expected token ids, from Hugging Face `tokenizers` and Google's `sentencepiece`.

    python make_fixtures.py MODELS

writes beside itself one folder for each small tokenizer (trained here on a fixed text) with its
expected.json, and, where MODELS holds the three GGUF files of the demo, expected ids of those: NAME.json.
The references are built from the vocabulary alone, without any code of this project.

Needs: tokenizers, sentencepiece (with protobuf), transformers 4, gguf. The C tests read only what this wrote.
"""
import json
import os
import random
import shutil
import sys

import sentencepiece
from sentencepiece import sentencepiece_model_pb2 as pb
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

HERE = os.path.dirname(os.path.abspath(__file__))
QWEN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
        r"|\s*[\r\n]+|\s+(?!\S)|\s+")
LLAMA3 = QWEN.replace(r"|\p{N}|", r"|\p{N}{1,3}|")

PROSE = """It was late in the year when the letters began to arrive, each of them written in the same small hand.
Nobody in the house could say who had sent the first; the second came on a Tuesday, with 3 stamps and no address.
def total(values, start=0):
    # add them up
    for v in values:
        start += v * 2
    return start

int main(void) { printf("%d\\n", 12 + 345); return 0; }
Die Straße führt über den Fluß; größere Übungen folgen später. "Don't," she said, "they'll come: we've seen it."
{"name": "kfuse", "list": [1, 2, 3, 4567], "empty": {}, "text": "a  b   c"}
.. note:: This is *reStructuredText*, with ``code`` and a `link <https://example.org/a?b=c&d=e>`_.
Привет, мир! Ελληνικά. 日本語のテキストと漢字。 中文字符。 한국어 문장. हिन्दी ไทย العربية 👍🏽 👨‍👩‍👧
"""

TEXTS = [
    PROSE, "", " ", "a", "Hello world", "Hello  world", "  two spaces", "trailing  ", "\n", "\n\n\n", "\t\ttabs\t", "\r\n\r\nx\r",
    "don't DON'T they'LL I'Ve x's X'S 'ſ", "1234567890 3.14 1,000 ½ ² ٣٤ ⅷ １２", "a\u0000b\u0000\u0000", "\u0001\u0002\u001f\u007f\u0080\u009f",
    "e\u0301 a\u0323\u0308 a\u0308\u0323 \u1e9b\u0323 \u212b \uac00 \u1112\u1161\u11ab \u0f73\u0f71 \u0344",
    "👨‍👩‍👧‍👦🏳️‍🌈👍🏽🇩🇪🇫🇷", "日本語、漢字かな交じり文。中文字符测试", "\ufeffBOM \u200b\u200d\u2060\u180e\u0085\u00a0\u3000\u2028 x",
    "ﬁ ﬀ Å Ǆ ß ẞ İ ı", "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 \U0010ffff \ue000 \ufffd", "▁▁ marks▁of▁spaces", "Ġ Ċ âĢ Â", "_-_--__ +=*/\\|~^ ((([[[{{{",
    "<|endoftext|>text<|im_start|>user\nhi<|im_end|>", "<s>a</s><unk><pad><bos>x<eos><start_of_turn>", "<tool_call>{}</tool_call>",
    "[MASK] x [MASK]x a[MASK] <tag>  <tag>", "<0x0A><0xFF>", "\u1c89\ua7cb\U00010d40\U0001d2c0 \U00031350\U00011f50x",
    "mixed кириллица ελληνικά עברית العربية हिन्दी ไทย 한국어", "x" * 70 + " " * 70 + "yz" * 40, "\u0301\u0302leading marks",
    "if (a<b) {\n\tc = a->d[0];\n\n\n    }\n", "https://example.org/?q=a%20b&c=d#e", "snake_case camelCase SCREAMING_CASE kebab-case",
]
# Added tokens of every kind, and what stands around them: gpt2-added, sp-merges, sp-added.
ADDED = [
    "a<tag>b", "<tag>", " <tag> ", "a  <tag>  b", "x\u3000\u0085\t<tag>y", "\u200b <tag>", "a</tool_call>b", "a </tool_call>  b",
    "</tool_call>\u2028\u00a0 y", "</tool_call>", "</tool_call>   </tool_call>     x", "</tool_call>\u180e x", "   </tool_call>   <tag>   ",
    "\u00e9[MASK] [MASK]\u00e9 [MASK]", "\u0663[MASK] [MASK]\u24b6 [MASK]\u0301 [MASK]\u200dx", "\u00bd[MASK]\u00bd \u3002[MASK]\u3002",
    "\u65e5[MASK] \u2160[MASK] \u203f[MASK] \U0001f171[MASK] \U0001f44d[MASK]", "[MASK][MASK]_[MASK]-[MASK]", "x[MASK]<tag>[MASK]</tool_call> [MASK]",
    "a[plain]b [plain] [plain][plain]", "<s>  </s>  a</s>b", "[MASK", "</tool_call", "<tag><tag>  </tool_call></tool_call>",
]
LONG = [(" ", 20000), ("a", 20000), ("\n", 20000), ("ab", 10000), ("1", 5000), ("x ", 5000), (" \n", 5000), ("é", 3000), ("!?", 4000)]


def noise():
    r = random.Random(7)
    out = []
    for k in range(60):
        if k % 3 == 0:
            s = "".join(chr(r.choice([r.randint(0, 0x2ff), r.randint(0x300, 0x36f), r.randint(0x370, 0x2fff),
                                      r.randint(0x3000, 0xd7ff), r.randint(0xe000, 0x10ffff)])) for _ in range(r.randint(1, 40)))
        elif k % 3 == 1:
            s = "".join(r.choice(" \n\r\tabcAB12'st.,-_\u00a0\u3000éé") for _ in range(r.randint(1, 60)))
        else:
            s = "".join(r.choice(["the", " ", "  ", "'s", "\n", "don", "12", "!", "é", "e\u0301", "中", "👍", "\u0308", " a", "\t", "_",
                                  "#", "<", ">", "\u1161", "\u11a8", "각"]) for _ in range(r.randint(1, 40)))
        out.append(s)
    return out


def fnv(ids):
    h = 0xcbf29ce484222325
    for i in ids:
        for b in i.to_bytes(4, "little"):
            h = (h ^ b) * 0x100000001b3 & 0xffffffffffffffff
    return "%016x" % h


def expect(path, plain, special, more=()):
    """plain, special: text -> ids, with control tokens' spellings as text, and as tokens (None: not compared)."""
    out = []
    for s in TEXTS + noise() + list(more):
        e = {"text": s, "ids": plain(s)}
        if special and special(s) != e["ids"]:
            e["special"] = special(s)
        out.append(e)
    for s, n in LONG:
        ids = plain(s * n)
        out.append({"text": s, "repeat": n, "n": len(ids), "fnv": fnv(ids)})
    with open(path, "w") as f:
        f.write("[\n" + ",\n".join(json.dumps(e, ensure_ascii=True, separators=(",", ":")) for e in out) + "\n]\n")


def of_hf(t):
    def run(split):
        def f(s):
            t.encode_special_tokens = split
            return t.encode(s, add_special_tokens=False).ids
        return f
    return run(True), run(False)


# ---- small tokenizers ------------------------------------------------------------------------

def folder(name):
    d = os.path.join(HERE, name)
    shutil.rmtree(d, ignore_errors=True)
    os.makedirs(d)
    return d


def bpe(name, pre, size=500, special=(), normal=(), norm=None, post=None, config=None, alphabet=True, more=(), **model):
    t = Tokenizer(models.BPE(**model))
    t.pre_tokenizer = pre
    t.decoder = decoders.ByteLevel()
    if norm:
        t.normalizer = norm
    tr = trainers.BpeTrainer(vocab_size=size, special_tokens=[AddedToken(s, special=True, normalized=False) for s in special],
                             initial_alphabet=pre_tokenizers.ByteLevel.alphabet() if alphabet else [], show_progress=False)
    t.train_from_iterator([PROSE] * 3, tr)
    if normal:
        t.add_tokens(list(normal))
    if post:
        t.post_processor = post(t)
    d = folder(name)
    t.save(os.path.join(d, "tokenizer.json"), pretty=False)
    with open(os.path.join(d, "tokenizer_config.json"), "w") as f:
        json.dump(config or {"tokenizer_class": "PreTrainedTokenizerFast"}, f, indent=1)
    expect(os.path.join(d, "expected.json"), *of_hf(t), more)


KINDS = [AddedToken("<tag>", lstrip=True, normalized=False), AddedToken("[MASK]", single_word=True, normalized=False),
         AddedToken("</tool_call>", rstrip=True, normalized=False), AddedToken("[plain]", normalized=False)]


# The same, looked for in text that the normalizer has made: with a Prepend only after a space or at the beginning, which they take along.
NORMALIZED = [AddedToken("<tag>", lstrip=True), AddedToken("[MASK]", single_word=True), AddedToken("</tool_call>", rstrip=True),
              AddedToken("[plain]"), AddedToken("<a b>"), AddedToken("\u2581\u2581")]
SPACES = {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}
PREPEND = {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "\u2581"}, SPACES]}


def sp_merges(name, normalizer, added, more):
    """byte_fallback and merges in an order that no scores have, with gaps: some pieces no merge makes."""
    t = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    t.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    words = PROSE + "".join(random.Random(1).choice("aab bc") for _ in range(2000))
    t.train_from_iterator([words] * 3, trainers.BpeTrainer(vocab_size=700, show_progress=False,
                          special_tokens=["<unk>", "<s>", "</s>"] + ["<0x%02X>" % i for i in range(256)]))
    j = json.loads(t.to_str())
    j["added_tokens"] = j["added_tokens"][:3]
    j["pre_tokenizer"] = None
    j["normalizer"] = normalizer
    j["decoder"] = {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "},
                                                     {"type": "ByteFallback"}, {"type": "Fuse"}]}
    v, merges, r = j["model"]["vocab"], [tuple(m) for m in j["model"]["merges"]], random.Random(2)
    merges += [(p[:k], p[k:]) for p in v for k in range(1, len(p)) if p[:k] in v and p[k:] in v and p[0] != "<" and r.random() < 0.3]
    merges = [m for m in dict.fromkeys(merges) if r.random() < 0.9]
    for i in range(len(merges)):    # near their place, so that long pieces are still made
        k = min(len(merges) - 1, i + r.randint(0, 80))
        merges[i], merges[k] = merges[k], merges[i]
    j["model"]["merges"] = [list(m) for m in merges]
    t = Tokenizer.from_str(json.dumps(j))
    t.add_tokens(added)
    d = folder(name)
    t.save(os.path.join(d, "tokenizer.json"), pretty=False)
    with open(os.path.join(d, "tokenizer_config.json"), "w") as f:
        json.dump({"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>"}, f, indent=1)
    expect(os.path.join(d, "expected.json"), *of_hf(t), more)


def sp_added():
    """sp-llama's kind of tokenizer.model, and added tokens beside it."""
    from transformers import LlamaTokenizerFast
    d = folder("sp-added")
    text = os.path.join(d, "text")
    with open(text, "w") as f:
        f.write(PROSE * 4)
    model = os.path.join(d, "tokenizer.model")
    sentencepiece.SentencePieceTrainer.train(input=text, model_prefix=model[:-6], model_type="bpe", byte_fallback=True, vocab_size=620,
                                             normalization_rule_name="identity", remove_extra_whitespaces=False, character_coverage=1.0,
                                             num_threads=1, minloglevel=2)
    os.remove(text)
    os.remove(model[:-6] + ".vocab")
    nameless(model)
    t = LlamaTokenizerFast(vocab_file=model, legacy=True, add_prefix_space=True)
    t.add_tokens(KINDS)
    def entry(a):
        return {k: getattr(a, k) for k in ("content", "lstrip", "rstrip", "normalized", "single_word", "special")}
    with open(os.path.join(d, "tokenizer_config.json"), "w") as f:
        json.dump({"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "legacy": True,
                   "add_bos_token": True, "add_eos_token": False,
                   "added_tokens_decoder": {str(i): entry(a) for i, a in sorted(t.added_tokens_decoder.items())}}, f, indent=1)
    expect(os.path.join(d, "expected.json"), *of_hf(t.backend_tokenizer), ADDED)


def nameless(path):
    """The model would name the folder it was made in."""
    made = pb.ModelProto()
    with open(path, "rb") as f:
        made.ParseFromString(f.read())
    made.trainer_spec.ClearField("input")
    made.trainer_spec.ClearField("model_prefix")
    with open(path, "wb") as f:
        f.write(made.SerializeToString())


def small():
    P = pre_tokenizers
    sp_merges("sp-merges", SPACES, KINDS, ADDED)
    sp_merges("sp-prepend", PREPEND, NORMALIZED, ADDED + [
        "a  <tag>b <tag> c\n <tag>", "x [MASK]\t[MASK] [MASK]x  [MASK].", "a </tool_call>\n\n </tool_call> b", "<a b> x <a b><a b> <a\u2581b>", "   <tag>", "a   b    c"])
    sp_added()
    bpe("llama3", P.Sequence([P.Split(Regex(LLAMA3), "isolated"), P.ByteLevel(add_prefix_space=False, use_regex=False)]),
        special=["<s>", "</s>"], ignore_merges=True,
        post=lambda t: processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", t.token_to_id("<s>"))]),
        config={"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>"})
    # Bytes that are missing from the vocabulary, added tokens of every kind.
    bpe("gpt2-added", P.ByteLevel(add_prefix_space=False), special=["<|endoftext|>"], alphabet=False,
        normal=[AddedToken("<tag>", lstrip=True), AddedToken("[MASK]", single_word=True), AddedToken("</tool_call>", rstrip=True),
                AddedToken("   ", normalized=False)], more=ADDED,
        config={"tokenizer_class": "GPT2Tokenizer", "bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>", "add_bos_token": False})
    # GPT-NeoX's, Pythia's and MPT's: NFC, and runs of spaces as tokens of their own, longest first.
    bpe("neox", P.ByteLevel(add_prefix_space=False), norm=normalizers.NFC(), special=["<|endoftext|>", "<|padding|>"],
        normal=[AddedToken(" " * n, normalized=True) for n in range(24, 1, -1)],
        post=lambda t: processors.ByteLevel(add_prefix_space=False, trim_offsets=True),
        config={"tokenizer_class": "GPTNeoXTokenizer", "bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>",
                "unk_token": "<|endoftext|>", "add_prefix_space": False})
    bpe("prefix-space", P.ByteLevel(add_prefix_space=True), norm=normalizers.NFC(), special=["</s>"])
    bpe("falcon", P.Sequence([P.Punctuation("contiguous"), P.ByteLevel(add_prefix_space=False), P.Digits(False),
                              P.Split(Regex("[0-9][0-9][0-9]"), "isolated")]), special=["<|endoftext|>"])
    # Steps after a ByteLevel see its characters: a space is a letter there, and a digit that is not ASCII is none.
    bpe("byte-steps", P.Sequence([P.ByteLevel(add_prefix_space=True, use_regex=False), P.Split(Regex("\u0120?\\p{L}+"), "isolated"), P.Digits(True)]),
        special=["</s>"])
    bpe("splits", P.Sequence([P.WhitespaceSplit(), P.Split("-", "merged_with_previous"), P.Split(Regex(r"\p{Lu}"), "merged_with_next"),
                              P.Split(Regex(r"\w+"), "removed", invert=True), P.ByteLevel(add_prefix_space=False, use_regex=False)]),
        unk_token="<unk>", fuse_unk=True, special=["<unk>"], alphabet=False)

    text = os.path.join(HERE, "text.tmp")
    with open(text, "w") as f:
        f.write(PROSE * 4)
    plain = os.path.join(HERE, "plain.tmp")
    with open(plain, "w") as f:
        f.write("\n".join(PROSE.split("\n")[:9]) * 4)
    for name, opts in {
        "sp-llama": dict(model_type="bpe", byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False,
                         vocab_size=620, user_defined_symbols=["<tag>", "\u2581\u2581\u2581"], control_symbols=["<start_of_turn>"]),
        "sp-unigram": dict(model_type="unigram", vocab_size=200, normalization_rule_name="nfkc"),
        "sp-unk": dict(model_type="bpe", vocab_size=120, normalization_rule_name="identity", add_dummy_prefix=False,
                       remove_extra_whitespaces=False),
    }.items():
        d = folder(name)
        sentencepiece.SentencePieceTrainer.train(input=plain if "unk" in name else text, model_prefix=os.path.join(d, "tokenizer"), character_coverage=1.0,
                                                 num_threads=1, minloglevel=2, **opts)
        os.remove(os.path.join(d, "tokenizer.vocab"))
        nameless(os.path.join(d, "tokenizer.model"))
        p = sentencepiece.SentencePieceProcessor(model_file=os.path.join(d, "tokenizer.model"))
        expect(os.path.join(d, "expected.json"), lambda s: p.encode(s), None)
    os.remove(text)
    os.remove(plain)


# ---- the demo's models ---------------------------------------------------------------------------

def real(path, out):
    import gguf
    f = gguf.GGUFReader(path).fields

    def get(key, default=None):
        return f["tokenizer.ggml." + key].contents() if "tokenizer.ggml." + key in f else default

    def strings(key):
        x = f["tokenizer.ggml." + key]
        return [bytes(x.parts[i]).decode() for i in x.data]

    def numbers(key):
        x = f["tokenizer.ggml." + key]
        return [x.parts[i][0].item() for i in x.data]

    pieces, types = strings("tokens"), numbers("token_type")
    if get("model") == "llama":
        m = pb.ModelProto()
        for p, s, k in zip(pieces, numbers("scores"), types):
            m.pieces.add(piece=p.replace(" ", "\u2581") if k == 4 else p, score=s, type=k)
        m.pieces[get("unknown_token_id")].type = 2
        m.trainer_spec.model_type = 2
        m.trainer_spec.byte_fallback = True
        m.trainer_spec.unk_piece = pieces[get("unknown_token_id")]
        n = m.normalizer_spec
        n.name, n.add_dummy_prefix, n.remove_extra_whitespaces, n.escape_whitespaces = "identity", get("add_space_prefix", True), False, True
        p = sentencepiece.SentencePieceProcessor(model_proto=m.SerializeToString())
        expect(out, lambda s: p.encode(s), None)
        return
    P = pre_tokenizers
    merges = [tuple(s.split(" ")) for s in strings("merges")]
    vocab = {p: i for i, p in enumerate(pieces) if types[i] in (1, 3, 4)}
    t = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    if get("pre") == "smollm":
        t.pre_tokenizer = P.Sequence([P.Digits(True), P.ByteLevel(add_prefix_space=False)])
    else:
        t.normalizer = normalizers.NFC()
        t.pre_tokenizer = P.Sequence([P.Split(Regex(QWEN), "isolated"), P.ByteLevel(add_prefix_space=False, use_regex=False)])
    for i, k in enumerate(types):
        if k == 3:
            t.add_special_tokens([AddedToken(pieces[i], normalized=False, special=True)])
        elif k == 4:
            t.add_tokens([AddedToken(pieces[i], normalized=False)])
    expect(out, *of_hf(t))


if __name__ == "__main__":
    small()
    for name in ("smollm2-135m", "qwen2.5-coder-0.5b", "gemma3-270m"):
        path = os.path.join(sys.argv[1] if len(sys.argv) > 1 else "", name + ".gguf")
        if os.path.exists(path):
            real(path, os.path.join(HERE, name + ".json"))
