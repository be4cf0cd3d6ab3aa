#!/usr/bin/env python3
"""Reads kfuse's shard sets, tokenizers and vocabulary maps as docs/format.md describes them, and nothing else: no code of kfuse.

    python3 kfset.py SET|MAP            prints it as JSON Lines: an object for each document, or for each token of the map's source
    python3 kfset.py --tokenizer SET    prints the set's tokenizer

    import kfset
    s = kfset.Set("work/targets")       # s.manifest, s.tokenizer
    for doc in s.documents(): ...       # dicts; absent numbers are None, infinite ones math.inf; text, ids and domains are bytes

It wants Python's standard library, and libzstd.so.1 and libxxhash.so.0, as kfuse does. Every checksum, hash, seal, fingerprint and sum is
compared. What is damaged or unknown raises Damaged, with the file and what is wrong: of a damaged file or block before any of its documents.
It is made to be read and copied, not for speed: it reads some ten thousand tokens a second.
"""
import ctypes, json, math, os, struct, sys
from array import array
from contextlib import contextmanager
from itertools import accumulate

INFINITE, ABSENT, NONE = 0x7fffffff, 0x7ffffffe, 0xffffffff
PRECISIONS = "packed", "f32"
CODECS = {"corpus": "CC", "logits": "Ll", "aligned": "Dd", "targets": "Dd"}   # by precision
ROLES = "system", "user", "assistant"


class Damaged(Exception):
    pass

def need(true, why):
    if not true: raise Damaged(why)

@contextmanager
def fields(what):
    """Around what takes JSON's fields for what they should be."""
    try: yield
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as e:
        raise Damaged(f"{what}: a field is missing or not what it should be: {e!r}")


# ---- hashes, zstd, canonical JSON ----

class Hash128(ctypes.Structure):
    _fields_ = [("low", ctypes.c_uint64), ("high", ctypes.c_uint64)]

_xxh, _zstd = ctypes.CDLL("libxxhash.so.0"), ctypes.CDLL("libzstd.so.1")
for f, result in (_xxh.XXH3_64bits, ctypes.c_uint64), (_xxh.XXH3_128bits, Hash128), (_zstd.ZSTD_findFrameCompressedSize, ctypes.c_size_t):
    f.argtypes, f.restype = [ctypes.c_char_p, ctypes.c_size_t], result
_zstd.ZSTD_decompress.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t]
_zstd.ZSTD_decompress.restype = ctypes.c_size_t


def hash64(b):
    return _xxh.XXH3_64bits(b, len(b))

def fingerprint(b):
    h = _xxh.XXH3_128bits(b, len(b))
    return f"{h.high:016x}{h.low:016x}"

def unzstd(b, size, what):
    """The one frame that b is; size is how much there has to be in it. (zstd packs at most about 1 : 30000.)"""
    need(0 <= size <= 65536 * len(b), f"{what}: {size} bytes cannot be in it")
    need(_zstd.ZSTD_findFrameCompressedSize(b, len(b)) == len(b), f"{what}: not one zstd frame")
    out = ctypes.create_string_buffer(max(size, 1))
    need(_zstd.ZSTD_decompress(out, size, b, len(b)) == size, f"{what}: its zstd frame is damaged")
    return out.raw[:size]


def canonical(x):
    if x is None or isinstance(x, bool): return {None: "null", True: "true", False: "false"}[x]
    if isinstance(x, int): return str(x)
    if isinstance(x, float):
        if math.isinf(x): return "-1e999" if x < 0 else "1e999"    # of documents only
        mantissa, e, exponent = ("%.17g" % x).partition("e")
        return f"{mantissa}e{int(exponent)}" if e else mantissa if "." in mantissa else mantissa + ".0"
    if isinstance(x, (bytes, str)): return '"' + "".join(map(_character, text(x) if isinstance(x, bytes) else x)) + '"'
    if isinstance(x, dict): return "{" + ",".join(f"{canonical(k)}:{canonical(x[k])}" for k in sorted(x)) + "}"
    return "[" + ",".join(map(canonical, x)) + "]"

def _character(c):
    if c in '"\\\b\f\n\r\t': return {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}[c]
    if " " <= c <= "\x7f": return c
    b = c.encode("utf-16-be", "surrogatepass").hex().upper()
    return "".join("\\u" + b[i:i + 4] for i in range(0, len(b), 4))

def text(b):
    """A byte that is not UTF-8 is U+FFFD."""
    return "".join("\ufffd" if "\udc80" <= c <= "\udcff" else c for c in b.decode("utf-8", "surrogateescape"))

def sealed(data, what, optional=False):
    """A JSON object, its seal compared. optional: there need be none."""
    with fields(what):
        o = json.loads(data.decode("utf-8"))
        rest = {k: v for k, v in o.items() if k != "seal"}
        need(optional or "seal" in o, f"{what}: has no seal: damaged, or from before there were any")
        need("seal" not in o or o["seal"] == fingerprint(canonical(rest).encode()), f"{what}: its seal does not hold: damaged")
    return o

def read(path):
    with open(path, "rb") as f: return f.read()


# ---- bytes, one after another ----

class Bytes:
    def __init__(self, b, what): self.b, self.at, self.what = b, 0, what

    def take(self, n):
        need(0 <= n <= len(self.b) - self.at, f"{self.what}: ends too early")
        self.at += n
        return self.b[self.at - n:self.at]

    def u8(self): return self.take(1)[0]
    def u32(self): return int.from_bytes(self.take(4), "little")
    def u64(self): return int.from_bytes(self.take(8), "little")

    def varint(self):
        v = shift = 0
        while True:
            b = self.u8()
            v |= (b & 127) << shift
            if b < 128: break
            shift += 7
        need(v < 1 << 64, f"{self.what}: a number beyond 64 bits")
        return v

    def id(self):
        i = self.u32()
        return None if i == NONE else i

    def text(self): return self.take(self.varint())

    def ended_by_nul(self):
        end = self.b.find(b"\0", self.at)
        need(end >= 0, f"{self.what}: ends too early")
        return self.take(end + 1 - self.at)[:-1]

    def bits(self, n):
        """The next n bits of a bit string; such a plane is read in no other way."""
        need(self.at + n <= 8 * len(self.b), f"{self.what}: ends too early")
        first, last = self.at // 8, (self.at + n + 7) // 8
        v = int.from_bytes(self.b[first:last], "little") >> self.at % 8
        self.at += n
        return v & (1 << n) - 1

def symbol(s, bits):
    if s < 16: return s
    e = (s - 16) // 8 + 4
    need(e < 29, f"{bits.what}: no such symbol")
    return 1 << e | (s - 16 & 7) << e - 3 | bits.bits(e - 3)

def h(x, size): return (2654435761 * x & NONE) >> 12 & size - 1


# ---- LMDB ----

def lmdb(data, what):
    """Key and value of what is in the main database, in order."""
    def page(number, size=16):
        need(number * psize + size <= len(data), f"{what}: a page beyond the file")
        return data[number * psize:number * psize + size]
    def walk(number, depth):
        need(number not in seen, f"{what}: page {number} is in two places")
        seen.add(number)
        p = page(number, psize)
        flags, lower = struct.unpack_from("<HH", p, 10)
        need(flags & 3 in (1, 2) and flags & 1 == (depth > 1) and 16 <= lower <= psize, f"{what}: page {number} is damaged")
        for at in struct.unpack_from("<%dH" % ((lower - 16) // 2), p, 16):
            need(at + 8 <= psize, f"{what}: page {number} is damaged")
            low, high, nflags, ksize = struct.unpack_from("<4H", p, at)
            key, at = p[at + 8:at + 8 + ksize], at + 8 + ksize
            if depth > 1:
                yield from walk(low | high << 16 | nflags << 32, depth - 1)
                continue
            size = low | high << 16
            if nflags & 1: yield key, page(*struct.unpack_from("<Q", p, at), 16 + size)[16:]
            else: yield key, p[at:at + size]
    try:
        psize, seen, metas = struct.unpack_from("<I", data, 40)[0], set(), []
        need(psize in [512 << i for i in range(8)], f"{what}: not an LMDB file")
        for m in 0, psize:
            magic, version = struct.unpack_from("<II", data, m + 16)
            need(magic == 0xbeefc0de and version == 1, f"{what}: not an LMDB file of data version 1")
            metas.append((struct.unpack_from("<Q", data, m + 144)[0], struct.unpack_from("<HH5Q", data, m + 92)))
        flags, depth, _, _, _, entries, root = max(metas)[1]
        need(flags == 0 and depth < 32, f"{what}: a database with flags")
        n = 0
        for item in walk(root, depth) if depth else ():
            n += 1
            yield item
        need(n == entries, f"{what}: has {n} entries, not {entries}")
    except struct.error:
        raise Damaged(f"{what}: an LMDB page ends too early")


# ---- blocks ----

PLANES = {"C": 2, "L": 63, "D": 35, "l": 10, "d": 8}

def block(b, what, codecs):
    """The documents of a block, as raw arrays: whole steps of packed numbers, the bits of floats."""
    r = Bytes(b, what)
    need(r.take(3) == b"KFB", f"{what}: not a block")
    codec, count, checksum = chr(r.u8()), r.u32(), r.u64()
    need(checksum == hash64(b[r.at:]), f"{what}: its hash does not hold: damaged")
    need(codec in codecs, f"{what}: codec {codec!r}, which a set of this kind and precision has not")
    flags = r.u8() if codec != "C" else 0
    need(flags < 8, f"{what}: flags {flags}, which this reader does not know")
    k = r.u32() if codec in "Ll" else 0
    heads = [(r.varint(), *divmod(r.varint(), 4)) for _ in range(PLANES[codec] + (flags >> 2))]
    need(sum(size for size, _, _ in heads) <= 1 << 30, f"{what}: more than a block may have")
    planes = []
    for i, (size, packed, method) in enumerate(heads):
        name = f"{what}, plane {i}"
        p = r.take(packed)
        need(method == 1 or method == 0 and packed == size, f"{name}: method {method} of packing, or a wrong size")
        planes.append(Bytes(unzstd(p, size, name) if method else p, name))
    need(r.at == len(b), f"{what}: goes on after its planes")
    docs = read_heads(planes[0], codec, count)
    for d in docs: d.update(codec=codec, bos=bool(flags & 1), weighted=codec in "Dd" and bool(flags & 2), path=codec in "Ll" and bool(flags & 2))
    n = sum(d["n"] for d in docs)
    need(n <= 1 << 24 and (n + len(docs)) * k <= 1 << 26, f"{what}: more than a block may have")
    for d in docs: d["context"] = read_context(planes[-1], d["n"] + 1) if flags & 4 else None
    if codec == "C":
        for d in docs: d["text"] = planes[1].take(d["bytes"])
    elif codec in "ld": unquantised(docs, planes, k)
    elif codec == "L": Packed(docs, planes, k).logits()
    else: Packed(docs, planes, k).distributions()
    for p in planes: need(p.at == len(p.b) or (p.at + 7) // 8 == len(p.b), f"{p.what}: goes on after the last document")
    return docs


def read_heads(r, codec, count):
    domains = [r.ended_by_nul() for _ in range(min(r.varint(), len(r.b)))]
    docs, number, name, piece = [], -1, b"", 0
    for _ in range(count):
        number += 1 + r.varint()
        size, n, more, (domain, how) = r.varint(), r.varint(), r.varint(), divmod(r.varint(), 3)
        need(domain < len(domains) and number < 1 << 56 and size < 1 << 32 and n <= 1 << 24, f"{r.what}: a number beyond what can be")
        need(how or docs, f"{r.what}: the first document's id is that of the one before")
        if how: name, piece = r.text(), r.varint() if how == 2 else 0
        else: piece += 1
        d = {"doc": number, "id": name, "piece": piece, "domain": domains[domain], "bytes": size, "n": n, "more": more, "messages": None}
        if codec == "C" and more:
            d["messages"] = [divmod(r.varint(), 3) for _ in range(more)]
            need(sum(m[0] for m in d["messages"]) == size, f"{r.what}: messages of document {number} are not its text")
        docs.append(d)
    return docs


def read_context(r, n):
    out, value = bytearray(), 1
    while len(out) < n:
        run = r.varint()
        need(run <= n - len(out), f"{r.what}: a run beyond the document")
        out += bytes([value]) * run
        value = 1 - value
    return bytes(out)


def unquantised(docs, planes, k):
    rest = iter(planes[1:])
    def arrays(name, counts):
        p, total = next(rest), sum(counts)
        need(len(p.b) == 4 * total, f"{p.what}: {len(p.b)} bytes for {total} numbers")
        p.at = len(p.b)
        mixed = bytearray(4 * total)
        for i in range(4): mixed[i::4] = p.b[i * total:(i + 1) * total]
        whole, at = array("I", bytes(mixed)), 0
        for d, c in zip(docs, counts):
            d[name] = whole[at:at + c]
            at += c
    n, n1 = [d["n"] for d in docs], [d["n"] + 1 for d in docs]
    arrays("tokens", n); arrays("starts", n1); arrays("ce", n)
    if docs[0]["codec"] == "d": arrays("counts", n1)
    else:
        for d in docs: d["counts"] = [k] * (d["n"] + 1)
    counts = [sum(d["counts"]) for d in docs]
    arrays("ids", counts); arrays("lp", counts)
    if docs[0]["weighted"]: arrays("weights", n1)
    if docs[0]["path"]:
        arrays("masses", [sum(interior(d)) for d in docs]); arrays("xcounts", n1)
        extra = [sum(d["xcounts"]) for d in docs]
        arrays("xids", extra); arrays("xlp", extra)


def interior(d):
    return [max(0, b - a - 1) for a, b in zip(d["starts"], d["starts"][1:])]


class Packed:
    """Codecs L and D. The phases go through all documents; what one of them reads is in a document's arrays for the next."""

    def __init__(self, docs, planes, k):
        self.docs, self.k, self.planes, self.next = docs, k, planes, 0
        self.C, self.A, self.B, self.X, self.lengths = {}, {}, {}, {}, {}

    def group(self, n):
        self.next += n
        return self.planes[self.next - n:self.next]

    def table(self, gaps, classes):
        ids, last = [], -1
        while gaps.at < len(gaps.b):
            last += 1 + gaps.varint()
            need(last < NONE, f"{gaps.what}: an id beyond 32 bits")
            ids.append(last)
        order = classes.take(len(ids))
        self.ids = [i for _, i in sorted(zip(order, ids), key=lambda x: -x[0])]

    def missed_id(self):
        i = symbol(self.missed.u8(), self.missed_bits)
        need(i < len(self.ids), f"{self.missed.what}: no such id in the table")
        return self.ids[i]

    # Lists of candidates

    def begin(self, one, two):
        """What a position's slots hold at first. True: known."""
        self.pair, self.pair_at, self.one_at = (one, two), h(31 * one + two & NONE, 8192), h(one, 4096)
        pair, ids = self.C.get(self.pair_at, (None, ()))
        known = pair == self.pair
        self.slots = [None] * 64
        if known: self.slots[:len(ids)] = ids
        a = self.A.get(self.one_at, ())
        self.slots[16:16 + len(a)] = a
        return known

    def place(self, s, plane):
        """The id in the open slot before which s are open, and where that is; of 255 a missed one."""
        if s == 255: return self.missed_id(), 64
        for at, i in enumerate(self.slots):
            if i is not None:
                if s == 0: return i, at
                s -= 1
        raise Damaged(f"{plane.what}: no such place")

    def close(self, i, start=0):
        for at in range(start, 64):
            if self.slots[at] == i: self.slots[at] = None

    def candidates(self, m, plane_of):
        ids, s = [], None
        for rank in range(m):
            plane = plane_of(rank, s)
            s = plane.u8()
            i, at = self.place(s, plane)
            if at < 64: self.slots[at] = None
            self.close(i, 16 if at < 16 else 48 if at < 48 else 64)
            if rank == 0:
                for j, b in enumerate(self.B.get(h(i, 4096), ())):
                    if b != i: self.slots[48 + j] = b
            ids.append(i)
        still = [i for i in self.slots[16:48] if i is not None]
        self.C[self.pair_at] = self.pair, ids[:10]
        self.A[self.one_at] = (ids[:22] + still)[:32]
        if m > 1: self.B[h(ids[0], 4096)] = (ids[1:12] + [i for i in self.slots[48:] if i is not None])[:16]
        return ids

    def length(self, token):
        s, at = self.lengths_plane.u8(), h(token, 16384)
        if s == 0:
            t, n = self.lengths.get(at, (None, 0))
            need(t == token, f"{self.lengths_plane.what}: no length of token {token} before")
            return n
        n = s - 1 if s < 255 else self.escapes.varint()
        self.lengths[at] = token, n
        return n

    # What both codecs have

    def logprobs(self, m, plane_of):
        lp, before = [], 0
        for rank in range(m):
            s = plane_of(rank, lp).u8()
            if s == 255: return lp + [INFINITE] * (m - rank)
            before = self.number(self.escapes.varint() if s == 254 else before + s)
            lp.append(before)
        return lp

    def number(self, v):
        need(0 <= v <= 1 << 28, f"{self.escapes.what}: a number beyond 2^28")
        return v

    def tokens(self, plane_of, label_of, most, extra=None):
        """Phase 2. label_of(lp 0) is a label's plane."""
        for d in self.docs:
            d["tokens"], d["starts"], d["ids"], d["label"] = [], [self.escapes.varint()], [], []
            if extra: d["xcounts"], d["xids"], d["xlabel"] = [], [], []
            one = two = NONE
            at = 0
            for p, m in enumerate(d["counts"]):
                absent = m == 0 or d["lp"][at] is None
                self.slots = [None] * 64
                ids, rank, token = [NONE] * m, 255, NONE
                if not absent:
                    known = self.begin(one, two)
                    ids = self.candidates(m, plane_of(known, sum(i is not None for i in self.slots)))
                d["ids"] += ids
                if p < d["n"]:
                    if not absent:
                        plane = label_of(d["lp"][at])
                        rank = plane.u8()
                        need(rank == 255 or rank <= most and rank < m, f"{plane.what}: no such rank")
                    if rank < 255: token = ids[rank]
                    else:
                        token = self.place(self.other_labels.u8(), self.other_labels)[0]
                        self.close(token)
                    d["tokens"].append(token)
                    d["starts"].append(d["starts"][-1] + self.length(token))
                d["label"].append(rank)
                if extra: extra(d, p, absent, rank, token)
                one, two = token, one
                at += m
            need(d["starts"][-1] < 1 << 31, f"{self.escapes.what}: document {d['doc']} is longer than can be")

    # Codec L

    def logits(self):
        heads, gaps, classes = self.group(3)
        (lp0,), lp1, lp2, places = self.group(1), self.group(8), self.group(7), self.group(20)
        (self.missed, self.missed_bits), labels, (self.other_labels, self.lengths_plane) = self.group(2), self.group(4), self.group(2)
        ce, (other_ce, other_bits, self.escapes) = self.group(2), self.group(3)
        path, (path_bits,), xcounts = self.group(3), self.group(1), self.group(3)
        (xlabels, xplaces), xlp = self.group(2), self.group(2)
        self.table(gaps, classes)
        k = self.k
        have = sum(not is_absent(d, p) for d in self.docs for p in range(d["n"] + 1))
        need(k * have == sum(len(p.b) for p in places), f"{lp0.what}: other planes have more or fewer candidates")

        def lp_plane(rank, lp):
            if rank == 0: return lp0
            if rank == 1: return lp1[sum(lp[0] > x for x in (0, 1, 2, 4, 8, 17, 35))]
            return lp2[sum(rank > x for x in (2, 3, 4, 5, 7, 9))]
        for d in self.docs:
            d["counts"], d["lp"] = [k] * (d["n"] + 1), []
            for p in range(d["n"] + 1):
                d["lp"] += [None] * k if is_absent(d, p) else self.logprobs(k, lp_plane)

        def place_plane(known, opened):
            group = (0 if opened < 20 else 1) if known else 2 + (opened >= 4) + (opened >= 20)
            return lambda rank, s: places[4 * group + (0 if rank == 0 else 1 if s == 255 else 2 if s < 2 else 3)]

        def extra(d, p, absent, rank, token):
            if absent or not d["path"]:
                d["xcounts"].append(0); d["xlabel"].append(None)
                return
            has = p < d["n"]
            within = has and d["starts"][p + 1] - d["starts"][p] > 1
            m = xcounts[0 if not within else 1 if rank < 255 else 2].u8()
            if m == 255: m = self.escapes.varint()
            need(m <= 1 + len(xplaces.b), f"{xplaces.what}: ends too early")
            ids, where = [], 0
            if m and has and rank == 255:
                where = xlabels.u8()
                need(where <= min(m, 250), f"{xlabels.what}: no such place")
            X = list(self.X.get(h(token, 4096), ()))
            open_ids = list(X)
            for j in range(m):
                if j == where - 1:
                    ids.append(token)
                    continue
                s = xplaces.u8()
                if s < 16:
                    need(s < len(open_ids), f"{xplaces.what}: no such place")
                    i = open_ids.pop(s)
                else: i = self.place(s if s == 255 else s - 16, xplaces)[0]
                self.close(i)
                ids.append(i)
            if m: self.X[h(token, 4096)] = (ids + [i for i in X if i not in ids])[:16]
            d["xcounts"].append(m); d["xids"] += ids
            d["xlabel"].append(where - 1 if where else None)
        self.tokens(place_plane, lambda lp: labels[sum(lp > x for x in (2, 11, 29))], 249, extra)

        for d in self.docs:
            d["xlp"], at = [], 0
            for p, m in enumerate(d["xcounts"]):
                before = d["lp"][p * k + k - 1]
                for j in range(m):
                    s = xlp[j > 0].u8()
                    if before == INFINITE: before = 0
                    before = INFINITE if s == 255 else self.number(self.escapes.varint() if s == 254 else before + s)
                    d["xlp"].append(before)

        for d in self.docs:
            d["ce"], x = [], 0
            for p in range(d["n"]):
                if is_absent(d, p):
                    d["ce"].append(ABSENT)
                    continue
                rank, last = d["label"][p], d["lp"][p * k + k - 1]
                lp = d["lp"][p * k + rank] if rank < 255 else INFINITE if d["xlabel"][p] is None else d["xlp"][x + d["xlabel"][p]]
                x += d["xcounts"][p]
                s = 255 if lp == INFINITE else ce[lp > 0].u8()
                if s < 255: v = self.number(s - 8 + 16 * lp)
                else:
                    s = other_ce.u8()
                    v = INFINITE if s == 253 else ABSENT if s == 254 else self.number(self.escapes.varint()) if s == 252 else \
                        self.number(symbol(s, other_bits) - 8 + 16 * (0 if last == INFINITE else last))
                d["ce"].append(v)

        need(sum(sum(interior(d)) for d in self.docs) <= 1 << 26, f"{self.lengths_plane.what}: more than a block may have")
        for d in self.docs:
            d["masses"] = []
            for p, m in enumerate(interior(d)):
                if not d["path"]: break
                if is_absent(d, p):
                    d["masses"] += [ABSENT] * m
                    continue
                above, kind, masses = d["ce"][p], 0, []
                for _ in range(m):
                    if above:
                        s = path[kind].u8()
                        kind = 2 if s else 1
                        if s == 255: above = self.number(self.escapes.varint())
                        elif s: above = self.number(above - symbol(s, path_bits))
                    masses.append(above)
                d["masses"] += masses[::-1]
            d["lp"] = [INFINITE if v is None else v for v in d["lp"]]

    # Codec D

    def distributions(self):
        heads, gaps, classes, counts = self.group(4)
        (lp0,), lp1, lp2, places = self.group(1), self.group(4), self.group(5), self.group(10)
        (self.missed, self.missed_bits), labels, (self.other_labels, self.lengths_plane) = self.group(2), self.group(2), self.group(2)
        ce, other_ce, other_bits, self.escapes, weights = self.group(5)
        self.table(gaps, classes)

        def lp_plane(rank, lp):
            if rank == 0: return lp0
            if rank == 1: return lp1[sum(lp[0] > x for x in (3, 11, 35))]
            return lp2[sum(rank > x for x in (2, 3, 5, 8))]
        left = sum(len(p.b) for p in places)
        for d in self.docs:
            d["counts"], d["lp"] = [], []
            for p in range(d["n"] + 1):
                m = counts.u8()
                if m == 255: m = self.escapes.varint()
                left -= m
                need(left >= 0, f"{counts.what}: other planes have fewer candidates")
                d["counts"].append(m)
                d["lp"] += self.logprobs(m, lp_plane)

        def place_plane(known, opened):
            return lambda rank, s: places[5 * known + sum(rank > x for x in (0, 1, 3, 6))]
        self.tokens(place_plane, lambda lp: labels[lp > 15], 254)

        for d in self.docs:
            d["ce"], at = [], 0
            for p in range(d["n"]):
                rank = d["label"][p]
                lp = d["lp"][at + rank] if rank < 255 else INFINITE
                at += d["counts"][p]
                s = 255 if lp == INFINITE else ce.u8()
                if s < 255: v = self.number(s - 32 + 8 * lp)
                else:
                    s = other_ce.u8()
                    v = INFINITE if s == 253 else ABSENT if s == 254 else self.number(symbol(s, other_bits))
                d["ce"].append(v)
        for d in self.docs:
            if d["weighted"]: d["weights"] = list(weights.take(d["n"] + 1))


def is_absent(d, p):
    return p == 0 and not d["bos"] or d["context"] is not None and d["context"][p] == 1


# ---- documents ----

def content(d):
    """The hash of a document that its set's content is the sum of."""
    if d["codec"] == "C":
        rest = d["text"]
        if d["messages"]:
            rest = struct.pack("<QI", hash64(rest), len(d["messages"])) + b"".join(struct.pack("<IB", *m) for m in d["messages"])
    else:
        names = ["tokens", "starts", "ce", "counts", "ids", "lp", "weights"] if d["codec"] in "Dd" else \
            ["tokens", "starts", "ce", "ids", "lp", "masses", "xids", "xcounts", "xlp"]
        without = () if d["weighted"] or d["path"] else ("weights", "masses", "xids", "xcounts", "xlp")
        hashes = [0 if n in without else hash64(array("I", d[n]).tobytes()) for n in names]
        if d["codec"] in "Dd": hashes.append(d["more"])
        if d["context"] is not None: hashes.append(hash64(d["context"]))
        rest = struct.pack("<%dQ" % len(hashes), *hashes)
    return hash64(struct.pack("<6Q", d["doc"], d["piece"], d["bytes"], hash64(d["id"]), hash64(d["domain"]), hash64(rest)))


def f32(x): return struct.unpack("<f", struct.pack("<f", x))[0]


def told(d):
    """A document as plain values: None is absent, math.inf infinite."""
    out = {name: d[name] for name in ("doc", "id", "piece", "domain", "bytes")}
    if d["codec"] == "C":
        out["text"], at = d["text"], 0
        if d["messages"]:
            out["messages"] = []
            for size, role in d["messages"]:
                out["messages"].append({"role": ROLES[role], "start": at, "end": at + size})
                at += size
        return out
    packed = d["codec"] in "LD"

    def numbers(v, step):
        if packed: return [math.inf if x == INFINITE else None if x == ABSENT else x / step for x in v]
        return [None if math.isnan(x) else x for x in struct.unpack("<%df" % len(v), array("I", v).tobytes())]
    def each(v, counts):
        ends = list(accumulate(counts))
        return [list(v[e - c:e]) for c, e in zip(counts, ends)]
    out.update(bos=d["bos"], tokens=list(d["tokens"]), start=list(d["starts"]), ce=numbers(d["ce"], 256))
    if d["context"] is not None: out["context"] = list(d["context"])
    logits = d["codec"] in "Ll"
    ids, lp = each(d["ids"], d["counts"]), each(numbers(d["lp"], 16 if logits else 32), d["counts"])
    if logits:
        ids = [[] if is_absent(d, p) else i for p, i in enumerate(ids)]
        lp = [[] if is_absent(d, p) else i for p, i in enumerate(lp)]
    else:
        out["tail"] = []
        for p, v in enumerate(lp):
            need(all(x is not None and x > -0.01 for x in v), f"document {d['doc']}: a probability above 1 or none")
            S = 0.0
            for x in v: S = f32(S + f32(math.exp(-x))) if packed else S + math.exp(-x)
            if packed and S > f32(1 - 2e-6):
                less = max(0, math.ceil(f32(f32(math.log(S)) * 2**18 + 1)) / 2**18)
                lp[p] = [x + less for x in v]
            out["tail"].append(1 - min(S, 1) if v else None)
        if d["weighted"]: out["weight"] = numbers(d["weights"], 255)
    out["top_ids"], out["top_logprobs"] = ids, [[-x for x in v] for v in lp]
    if d["path"]:
        out["path_nlm"] = each(numbers(d["masses"], 256), interior(d))
        out["extra_ids"] = each(d["xids"], d["xcounts"])
        out["extra_logprobs"] = [[-x for x in v] for v in each(numbers(d["xlp"], 16), d["xcounts"])]
    return out


# ---- sets ----

class Set:
    """A folder with a manifest. Opening it compares what the manifest says with itself, and reads the tokenizer."""

    def __init__(self, folder):
        self.folder, path = folder, os.path.join(folder, "manifest.json")
        need(os.path.exists(path), f"{path}: is not there: no shard set, or one that is not complete")
        self.manifest, self.tokenizer = sealed(read(path), path), None
        with fields(path): self.open(self.manifest, path)

    def open(self, m, path):
        need(m["kfuse"] == "shard set", f"{path}: not of a shard set")
        need(m["format"] in (1, 2), f"{path}: format {m['format']}; this reader knows 1 and 2")
        need(m["kind"] in CODECS, f"{path}: kind {m['kind']!r}, which this reader does not know")
        need(m["precision"] in PRECISIONS, f"{path}: precision {m['precision']!r}, which this reader does not know")
        self.codec = CODECS[m["kind"]][PRECISIONS.index(m["precision"])]
        of = {n: m[n] for n in ("format", "kind", "precision", "options")}
        of["inputs"] = [[i["role"], i["fingerprint"]] for i in m["inputs"]]
        if "tokenizer" in m: of["tokenizer"] = m["tokenizer"]["fingerprint"]
        need(m["identity"] == fingerprint(canonical(of).encode()), f"{path}: its identity is of something else")
        need(m["n_shards"] == len(m["shards"]), f"{path}: {len(m['shards'])} shards, not {m['n_shards']}")
        for n in "docs", "tokens", "bytes": need(m[n] == sum(s[n] for s in m["shards"]), f"{path}: {n} are not the shards' sum")
        need(m["content"] == f"{sum(int(s['content'], 16) for s in m['shards']) % 2**64:016x}", f"{path}: content is not the shards' sum")
        if "tokenizer" not in m: return
        path = os.path.join(self.folder, "tokenizer.zst")
        data = unzstd(read(path), m["tokenizer"]["bytes"], path)
        need(fingerprint(data) == m["tokenizer"]["fingerprint"], f"{path}: its fingerprint is not the manifest's: damaged")
        self.tokenizer = tokenizer(data, path)
        for i in m["inputs"]:
            need(i["role"] != "tokenizer" or i["fingerprint"] == self.tokenizer["fingerprint"], f"{path}: is not the tokenizer of the inputs")

    def documents(self):
        """Of all shards, one after another."""
        for i in range(self.manifest["n_shards"]): yield from self.shard(i)

    def shard(self, number):
        """Of one shard. Its facts are compared after the last."""
        said, path = self.manifest["shards"][number], os.path.join(self.folder, f"shard-{number:05}.mdb")
        data = read(path)
        need(len(data) == said.get("disk"), f"{path}: has {len(data)} bytes where the manifest says {said.get('disk')}")
        need(fingerprint(data) == said.get("checksum"), f"{path}: its checksum is not the manifest's: damaged")
        last, facts, sums = -1, {}, {"docs": 0, "tokens": 0, "bytes": 0, "content": 0}
        for key, value in lmdb(data, path):
            if key == b"facts":
                facts = sealed(value, f"{path}: facts", optional=True)
                continue
            first = int.from_bytes(key, "big")
            what = f"{path}: block of document {first}"
            docs = block(value, what, self.codec)
            need(len(key) == 8 and docs and docs[0]["doc"] == first > last, f"{what}: its documents are not those of its key")
            for d in docs:
                for n, v in ("docs", 1), ("tokens", d["n"]), ("bytes", d["bytes"]), ("content", content(d)): sums[n] += v
                yield told(d)
            last = docs[-1]["doc"]
        sums["content"] = f"{sums['content'] % 2**64:016x}"
        need(facts.get("identity") == self.manifest["identity"], f"{path}: has no facts, or is of another set")
        need(facts.get("of") in (None, self.manifest["n_shards"]) and facts.get("shard") in (None, number), f"{path}: is another shard")
        for n, v in sums.items():
            need(v == facts.get(n) == said[n], f"{path}: {n} are {v}; its facts say {facts.get(n)}, the manifest {said[n]}")


# ---- tokenizers ----

def tokenizer(data, what):
    r = Bytes(data, what)
    need(r.take(8) == b"KFTOK\0\1\0", f"{what}: not a tokenizer of version 1")
    t = {"kind": r.u32(), "flags": r.u32()}
    need(t["kind"] < 2, f"{what}: a tokenizer of kind {t['kind']}, which this reader does not know")
    for n in "bos", "eos", "unknown", "padding": t[n] = r.id()
    t["class"], V, t["tokens"], used = r.text(), r.varint(), [], 0
    begin = end = r.at
    for i in range(V):
        t["tokens"].append({"type": r.u8(), "flags": r.u8(), "piece": r.text()})
        if t["kind"] == 1 or t["tokens"][-1]["type"] != 5: used, end = i + 1, r.at
    t["fingerprint"] = fingerprint(data[:32] + b"\0" + varint(used) + data[begin:end] + data[r.at:])
    merges = lambda: [(r.varint(), r.varint()) for _ in range(r.varint())]
    if t["kind"] == 0:
        t["model_unknown"] = r.id()
        t["merges"] = merges()
        t["steps"] = [{"becomes": r.u8(), "rest": r.u8(), "regex": r.text()} for _ in range(r.varint())]
    else:
        t["scores"] = [struct.unpack("<f", r.take(4))[0] for _ in range(V)]
        t["map"] = r.text()
        if t["flags"] & 1024: t["merges"] = merges()
    need(r.at == len(data), f"{what}: goes on after its end")
    return t


def varint(v):
    out = b""
    while v > 127: out, v = out + bytes([v & 127 | 128]), v >> 7
    return out + bytes([v])


# ---- vocabulary maps ----

def vocabulary_map(path):
    """The head, and an object for each of the source's tokens."""
    r = Bytes(read(path), path)
    need(r.take(8) == b"KFMAP\0\1\0", f"{path}: not a vocabulary map of version 1")
    need(r.u64() == hash64(r.b[16:]), f"{path}: its hash does not hold: damaged")
    with fields(path):
        head, size = json.loads(r.take(r.u32())), r.u64()
        (source, V), (target, W) = [(head[n]["fingerprint"], head[n]["tokens"]) for n in ("source", "target")]
        identity = fingerprint(f"map 1 {head['method']} {source} {V} {target} {W} {head.get('corpus', '')}".encode())
        need(head["kfuse"] == "vocabulary map" and head["identity"] == identity, f"{path}: its identity is of something else")
        r = Bytes(unzstd(r.b[r.at:], size, path), path)
        to, distance, equal = [r.id() for _ in range(V)], [r.id() for _ in range(V)], r.take(V)
        counts = [r.u64() for _ in range(V)]
        mine, theirs = [[r.ended_by_nul() for _ in range(n)] for n in (V, W)]
    need(r.at == size and all(i is None or i < W for i in to), f"{path}: its body is damaged")
    return head, [{"id": i, "token": mine[i], "to": to[i], "target": None if to[i] is None else theirs[to[i]], "distance": distance[i],
                   "equal": equal[i] == 1, "count": counts[i]} for i in range(V)]


def main():
    args = sys.argv[1:]
    try:
        if len(args) == 2 and args[0] == "--tokenizer": lines = [Set(args[1]).tokenizer]
        elif len(args) != 1 or args[0].startswith("-"): sys.exit("usage: kfset.py SET|MAP, or kfset.py --tokenizer SET")
        elif os.path.isdir(args[0]): lines = Set(args[0]).documents()
        else: lines = vocabulary_map(args[0])[1]
        for d in lines: print(canonical(d))
    except (Damaged, OSError) as e:
        sys.exit(f"kfset.py: {e}")


if __name__ == "__main__":
    main()
