"""python3 tests/fuzz/blocks.py BIN OUT: the inputs that fuzz_block begins with, into the folder OUT, of sets that the programs in BIN make of short
texts and conversations with tiny models. Those in tests/fuzz/corpus/fuzz_block were made by it: again where a codec changes."""
import json, os, subprocess, sys, tempfile

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../format"))
sys.dont_write_bytecode = True
import kfset

bin, out = sys.argv[1:]
CODECS = "CLlDd"
TEXT = ["The cat sat on the mat; 12 of them did. ", "fn main() { let x = \"caf\u00e9\"; }\n", "  Two  spaces, a tab\tand \u4e2d\u6587. "]


def run(program, *args):
    subprocess.run([f"{bin}/{program}", "--quiet", *map(str, args)], check=True, stdout=subprocess.DEVNULL)

def varint(n):
    b = bytearray()
    while n > 127:
        b.append(n & 127 | 128)
        n >>= 7
    return bytes(b + bytes([n]))

def block(folder):
    """The set's first block as fuzz_block has it."""
    path = f"{folder}/shard-00000.mdb"
    value = next(v for k, v in kfset.lmdb(kfset.read(path), path) if len(k) == 8)
    codec, docs, body = chr(value[3]), int.from_bytes(value[4:8], "little"), kfset.Bytes(value[16:], path)
    prefix = body.take({"C": 0, "L": 5, "l": 5}.get(codec, 1))
    chat = prefix[0] >> 2 if prefix else 0
    heads = [(body.varint(), *divmod(body.varint(), 4)) for _ in range(kfset.PLANES[codec] + chat)]
    planes = [kfset.unzstd(p, size, path) if method else p for size, packed, method in heads for p in [body.take(packed)]]
    return bytes([CODECS.index(codec)]) + (docs - 1).to_bytes(2, "little") + prefix + b"".join(varint(len(p)) + p for p in planes)


os.makedirs(out, exist_ok=True)
with tempfile.TemporaryDirectory() as tmp:
    def write(name, how, *folders):
        with open(f"{out}/{name}", "wb") as f: f.write(bytes([how]) + b"".join(block(f"{tmp}/{x}") for x in folders))
    with open(f"{tmp}/text.jsonl", "w") as f:
        for i, t in enumerate(TEXT): f.write(json.dumps({"id": f"t{i}", "domain": "ab"[i % 2], "text": t}) + "\n")
    with open(f"{tmp}/chat.jsonl", "w") as f:
        for i, t in enumerate(TEXT): f.write(json.dumps({"id": f"c{i}", "messages": [{"role": "user", "content": t[:9]}, {"role": "assistant", "content": t}]}) + "\n")
    for kind in "text", "chat":
        chat = ["--chat-template", "chatml"] if kind == "chat" else []
        run("kf-prepare", "--shards", 1, "--out", f"{tmp}/{kind}", f"{tmp}/{kind}.jsonl")
        for precision, k in ("packed", 5), ("f32", 3):
            at = f"{kind}-{precision}"
            for model in "llama", "qwen2":
                run("kf-extract", "--model", f"tests/models/{model}-tiny", "--corpus", f"{tmp}/{kind}", "--out", f"{tmp}/{at}-{model}", "--top-k", k,
                    "--precision", precision, "--compute", "f32", *chat)
            run("kf-align", "--source", f"{tmp}/{at}-llama", "--target", f"{tmp}/{at}-qwen2", "--out", f"{tmp}/{at}-aligned")
            run("kf-fuse", "--target", f"{tmp}/{at}-qwen2", "--aligned", f"{tmp}/{at}-aligned", "--out", f"{tmp}/{at}-targets", "--weight", "advantage-position")
            for how in 64, 1 + 64 + 128, 3 + 6, 3 + 12 + 64: write(f"align-{at}-{how}", how, f"{at}-llama", f"{at}-qwen2")
            write(f"fuse-{at}", 2 + 64, f"{at}-qwen2", f"{at}-aligned", f"{at}-targets")
        run("kf-extract", "--model", "tests/models/llama-tiny", "--corpus", f"{tmp}/{kind}", "--out", f"{tmp}/{kind}-bound", "--byte-path", "no", "--compute", "f32", *chat)
        write(f"bound-{kind}", 64, f"{kind}-bound", f"{kind}-packed-qwen2")
        write(f"corpus-{kind}", 0, kind)
