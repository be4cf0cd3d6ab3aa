"""For tests/cli/format.sh: what kfset.py reads of sets, beside what the programs say of them and what can be computed without either. A line a
test: "ok NAME", or "not ok NAME" and what differs.

    compare.py BIN sets SET...       every field of every document, as kf-inspect tells it
    compare.py BIN exported SET FILE    and as kf-export wrote it
    compare.py BIN map MAP...        every field of a vocabulary map
    compare.py BIN text CORPUS FILE.jsonl   the corpus is the file's text, cut
    compare.py BIN near PACKED F32   two sets of one model: packed numbers are within half a step
    compare.py BIN spelled LOGITS CORPUS FOLDER   the tokenizer is the folder's tokenizer.json, and its tokens spell the text
    compare.py BIN damage SET MAP DIR   changed bytes; DIR is free to be written to
    compare.py BIN versions SET DIR  what is newer
"""
import json, os, random, shutil, subprocess, sys
import kfset

INSPECT = os.path.join(sys.argv[1], "kf-inspect")


def report(name, differences):
    if not differences: return print(f"ok {name}")
    print(f"not ok {name}", *[f"#   {d}" for d in differences[:10]], sep="\n")

def differences(a, b, where=""):
    """Of what was read and what a program printed, whose numbers are floats of 9 digits."""
    if isinstance(a, (int, float)) and isinstance(b, (int, float)) and not isinstance(a, bool):
        return [] if a == b or not isinstance(a, int) and kfset.f32(a) == kfset.f32(b) else [f"{where}: {a!r}, {b!r}"]
    if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
        return [d for k in a for d in differences(a[k], b[k], f"{where}.{k}")]
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        return [d for i, (x, y) in enumerate(zip(a, b)) for d in differences(x, y, f"{where}[{i}]")]
    return [] if type(a) is type(b) and a == b else [f"{where}: {str(a)[:60]}, {str(b)[:60]}"]

def documents(folder):
    """As kfset.py prints them."""
    return [json.loads(kfset.canonical(d)) for d in kfset.Set(folder).documents()]

def lines(data): return [json.loads(l) for l in data.decode("utf-8").splitlines()]

def told(*args): return lines(subprocess.run([INSPECT, *args], capture_output=True, check=True).stdout)


def sets(*folders):
    for folder in folders:
        try: found = differences(documents(folder), told(folder, "--json", "--path"))
        except kfset.Damaged as e: found = [str(e)]
        report(f"{os.path.basename(folder.rstrip('/'))}: as kf-inspect tells it", found)

def exported(folder, file):
    report(f"{os.path.basename(folder)}: as kf-export wrote it", differences(documents(folder), lines(kfset.read(file))))

def map(*files):
    for file in files:
        head, tokens = kfset.vocabulary_map(file)
        if "corpus" not in head:
            for t in tokens: del t["count"]
        report(f"{os.path.basename(file)}: as kf-inspect tells it", differences(lines("\n".join(kfset.canonical(t) for t in tokens).encode()), told(file, "--json")))

def text(corpus, file):
    whole = {}
    for d in documents(corpus):
        assert d["piece"] == 0 or d["id"] in whole
        whole[d["id"]] = whole.get(d["id"], "") + d["text"]
    want = {r["id"]: r["text"] for r in lines(kfset.read(file)) if "id" in r}
    report("the corpus is its file's text", [f"{i}: {whole.get(i)!r}" for i, t in want.items() if whole.get(i) != t])

def near(packed, unquantised):
    def worst(a, b):
        if isinstance(a, list): return max((worst(x, y) for x, y in zip(a, b)), default=0)
        return 0 if a == b else abs(a - b)
    steps, found = {"ce": 256, "path_nlm": 256, "top_logprobs": 16, "extra_logprobs": 16}, []
    for a, b in zip(documents(packed), documents(unquantised)):
        found += [f"document {a['doc']}: {n}" for n in a if n not in steps and a[n] != b[n]]
        found += [f"document {a['doc']}: {n}" for n in steps if worst(a[n], b[n]) > 0.5 / steps[n] + 1e-6]
    report("packed numbers are within half a step of those unquantised", found)

def spelled(logits, corpus, folder):
    with open(os.path.join(folder, "tokenizer.json"), encoding="utf-8") as f: model = json.load(f)["model"]
    t = kfset.Set(logits).tokenizer
    pieces = [p["piece"].decode("utf-8") for p in t["tokens"]]
    merges = [m.split(" ") if isinstance(m, str) else m for m in model["merges"]]
    found = [f"token {p}" for p, i in model["vocab"].items() if pieces[i] != p]
    found += [f"merge {i}" for i, (a, b) in enumerate(t["merges"]) if [pieces[a], pieces[b]] != merges[i]]
    if len(merges) != len(t["merges"]): found.append("the number of merges")
    report("the tokenizer is the model's", found)
    printable = [b for b in range(256) if 33 <= b <= 126 or 161 <= b <= 172 or b >= 174]
    byte = {chr(b): b for b in printable}
    byte.update({chr(256 + i): b for i, b in enumerate(b for b in range(256) if b not in printable)})
    texts, found = {d["doc"]: d["text"] for d in kfset.Set(corpus).documents()}, []
    for d in kfset.Set(logits).documents():
        for token, start, end in zip(d["tokens"], d["start"], d["start"][1:]):
            if bytes(byte[c] for c in pieces[token]) != texts[d["doc"]][start:end]: found.append(f"document {d['doc']}, byte {start}")
        if d["start"][-1] != d["bytes"]: found.append(f"document {d['doc']} ends early")
    report("its tokens spell the text", found)


def seal(m):
    m = {k: v for k, v in m.items() if k != "seal"}
    return {**m, "seal": kfset.fingerprint(kfset.canonical(m).encode())}

def refused(folder):
    """Why kfset.py reads nothing, or None."""
    try: list(kfset.Set(folder).documents())
    except kfset.Damaged as e: return str(e)

def change(path, at, new):
    data = bytearray(kfset.read(path))
    data[at:at + len(new)] = new
    with open(path, "wb") as f: f.write(data)

def reseal(folder, number=None, **fields):
    """Write fields into a manifest, and what it says of the file of shard number."""
    path = os.path.join(folder, "manifest.json")
    m = json.loads(kfset.read(path))
    m.update(fields)
    if number is not None: m["shards"][number]["checksum"] = kfset.fingerprint(kfset.read(os.path.join(folder, f"shard-{number:05}.mdb")))
    with open(path, "w") as f: json.dump(seal(m), f)

def damage(folder, vocabulary, out):
    random.seed(5)
    for name in "manifest.json", "shard-00001.mdb", "tokenizer.zst":
        copy, found = os.path.join(out, "damaged"), []
        shutil.copytree(folder, copy)
        data = kfset.read(os.path.join(folder, name))
        for at in random.sample(range(len(data)), 25):
            if name == "manifest.json" and data[at] in b" \n": continue    # nothing of its content
            change(os.path.join(copy, name), at, [data[at] ^ 1 << random.randrange(8)])
            why = refused(copy)
            if not why or name not in why: found.append(f"byte {at}: {why}")
            change(os.path.join(copy, name), at, data[at:at + 1])
        report(f"a changed bit of {name} is found and the file named", found)
        with open(os.path.join(copy, name), "wb") as f: f.write(data[:len(data) // 2])
        report(f"half of {name} is refused, and named", [] if name in (refused(copy) or "") else [refused(copy)])
        shutil.rmtree(copy)

    # the file's checksum made anew: what is found then is in the file itself
    shard, found = os.path.join(folder, "shard-00001.mdb"), []
    copy = shutil.copytree(folder, os.path.join(out, "within"))
    data = kfset.read(shard)
    blocks = [v for k, v in kfset.lmdb(data, shard) if k != b"facts"]
    for at in random.sample(range(8, len(blocks[0])), 25):
        target = os.path.join(copy, "shard-00001.mdb")
        change(target, data.find(blocks[0]) + at, [blocks[0][at] ^ 4])
        reseal(copy, 1)
        if "block of document" not in (refused(copy) or ""): found.append(f"byte {at}: {refused(copy)}")
        with open(target, "wb") as f: f.write(data)
    report("so is one of a block, by the block's hash, whatever the manifest says", found)
    copy = shutil.copytree(folder, os.path.join(out, "swapped"))
    shutil.copy(os.path.join(folder, "shard-00000.mdb"), os.path.join(copy, "shard-00001.mdb"))
    m = json.loads(kfset.read(os.path.join(copy, "manifest.json")))
    m["shards"][1]["disk"] = m["shards"][0]["disk"]
    reseal(copy, 1, **m)
    report("a shard of another place, by its facts", [] if "is another shard" in (refused(copy) or "") else [refused(copy)])

    data, found = kfset.read(vocabulary), []
    copy = os.path.join(out, "map")
    for at in random.sample(range(len(data)), 25):
        shutil.copy(vocabulary, copy)
        change(copy, at, [data[at] ^ 1 << random.randrange(8)])
        try: kfset.vocabulary_map(copy); found.append(f"byte {at}")
        except kfset.Damaged: pass
    report("a changed bit of a map is found", found)


def versions(folder, out):
    def both(name, why, programs, **fields):
        """Refused by this reader and by kf-inspect, which takes nothing of it away; or, where why is None, read by both."""
        copy = shutil.copytree(folder, os.path.join(out, name.replace(" ", "-")))
        reseal(copy, **fields)
        files, said, found = sorted(os.listdir(copy)), refused(copy), []
        if (why or "") not in (said or "") or (said is None) != (why is None): found.append(f"kfset.py: {said}")
        for option in "--json", "--verify", "--repair":
            r = subprocess.run([INSPECT, copy, option], capture_output=True, text=True)
            if r.returncode != (why is not None) or programs not in r.stderr: found.append(f"kf-inspect {option}: {r.returncode} {r.stderr}")
        if sorted(os.listdir(copy)) != files: found.append("kf-inspect --repair took something away")
        report(name, found)
    m = json.loads(kfset.read(os.path.join(folder, "manifest.json")))

    def named(**fields):
        of = {n: {**m, **fields}[n] for n in ("format", "kind", "precision", "options")}
        of.update(inputs=[[i["role"], i["fingerprint"]] for i in m["inputs"]], tokenizer=m["tokenizer"]["fingerprint"])
        return {**fields, "identity": kfset.fingerprint(kfset.canonical(of).encode())}
    both("a newer format is refused", "format 3", "newer version of kfuse (format 3", **named(format=3))
    both("a kind that nobody knows", "kind 'futures'", 'kind "futures"', **named(kind="futures"))
    both("a precision that nobody knows", "precision 'f16'", 'precision "f16"', **named(precision="f16"))
    strange = {"real": [0.1, 1e-5, 1e22, -0.0, 2.0], "text": "é\x1f\x7f🙂\"\\/", "none": None, "big": 2**62}
    both("fields that nobody knows are sealed, too, and do no harm", None, "", future=strange,
         tokenizer={**m["tokenizer"], "future": 1}, inputs=[{**i, "future": strange} for i in m["inputs"]])

    copy = shutil.copytree(folder, os.path.join(out, "codec"))
    shard = os.path.join(copy, "shard-00000.mdb")
    change(shard, kfset.read(shard).find(b"KFB") + 3, b"X")
    reseal(copy, 0)
    r = subprocess.run([INSPECT, copy, "--json"], capture_output=True, text=True)
    said = refused(copy) or ""
    report("a codec that nobody knows", [] if "codec 'X'" in said and r.returncode == 1 and "newer codec" in r.stderr else [said, r.stderr])


if __name__ == "__main__":
    globals()[sys.argv[2]](*sys.argv[3:])
