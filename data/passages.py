"""Cut the text of a Debian package into passages for the demo.

    dpkg-deb --fsys-tarfile PACKAGE.deb | python3 passages.py DOMAIN FILE

Reads a tar archive from standard input (data only: nothing of it is executed or
unpacked to disk) and writes FILE, a line a passage: {"id", "domain", "split", "text"}.

- Files go to splits (train, valid, test) whole, by a hash of what they would share text with (a
  C file's base name, since architectures repeat each other's headers; of novels, one
  each is kept for validation and test), so no text is in two splits. A file equal to
  an earlier one is left out, and so is a passage of the smaller splits that
  repeats lines of the others. A page of LibreOffice's help is in the same split in every language.
- A passage is at most 2,048 bytes and ends at a line end, at an empty line where one is near.
- Passages come in rounds: one of every file, in random order with a fixed seed, before a second
  of any. So the first N of a split are a fair sample, and a longer run only adds to it.
"""
import hashlib
import html.parser
import json
import os
import random
import struct
import sys
import tarfile
import zlib

PASSAGE = 2048  # bytes
LEAST = 512     # bytes; shorter passages are left out

NOVELS = {"Northanger Abbey": "valid", "Persuasion": "test"}  # six only: the rest is for training


def digest(text):
    return hashlib.sha256(text.encode()).hexdigest()


def split_of(group):
    """About an eighth each to validation and test."""
    n = int(digest("kfuse " + group)[:8], 16) % 16
    return "valid" if n < 2 else "test" if n < 4 else "train"


def r_strings(blob):
    """The character vectors of an R lazy-load database (.rdb): blocks of a 4-byte
    length and a zlib stream, each a serialised object (XDR); others are skipped."""
    pos = 0
    while pos + 4 <= len(blob):
        size = struct.unpack_from(">I", blob, pos)[0]
        stream = zlib.decompressobj()
        data = stream.decompress(blob[pos + 4:], size)
        if len(data) != size or not stream.eof:
            raise ValueError("the R database is damaged at byte %d" % pos)
        pos = len(blob) - len(stream.unused_data)
        at = 14
        if data[:6] == b"X\n\0\0\0\3":  # format 3: the encoding's name follows
            at += 4 + struct.unpack_from(">I", data, at)[0]
        flags, count = struct.unpack_from(">II", data, at)
        at += 8
        if flags & 0xff != 16:  # not a character vector
            continue
        lines = []
        for _ in range(count):
            flags, length = struct.unpack_from(">Ii", data, at)
            at += 8
            lines.append(data[at:at + max(length, 0)])
            at += max(length, 0)
        yield b"\n".join(lines) + b"\n"


def novels(blob):
    for raw in r_strings(blob):
        text = raw.decode()
        title = text.split("\n", 1)[0].strip().title().replace("And", "and")
        yield title, text


class Page(html.parser.HTMLParser):
    """The lines of a page of LibreOffice's help: what its part "DisplayArea" shows, a line a paragraph, heading or cell."""

    BLOCKS = {"p", "div", "br", "li", "tr", "td", "th", "pre", "h1", "h2", "h3", "h4", "h5", "h6"}

    def __init__(self, text):
        super().__init__()
        self.depth, self.hidden, self.lines = 0, 0, [""]
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        if tag == "div" and (self.depth or ("id", "DisplayArea") in attrs):
            self.depth += 1
        self.hidden += tag in ("script", "style")
        if tag in self.BLOCKS:
            self.lines.append("")

    def handle_endtag(self, tag):
        if tag == "div" and self.depth:
            self.depth -= 1
        self.hidden -= tag in ("script", "style")
        if tag in self.BLOCKS:
            self.lines.append("")

    def handle_data(self, data):
        if self.depth and not self.hidden:
            self.lines[-1] += data


def help_page(text):
    """A page's paragraphs, without what is only a word or two, the footer, and what was left in English."""
    lines = [" ".join(line.split()) for line in Page(text).lines]
    return "".join(line + "\n" for line in lines if len(line) >= 20 and " the " not in line.lower() and "Foundation" not in line)


LANGUAGES = {"german": "de", "french": "fr", "spanish": "es", "italian": "it"}


def files(domain, stream):
    """(name, group that shares text, text) of what belongs to the domain, in the archive's order."""
    with tarfile.open(fileobj=stream, mode="r|") as tar:
        for entry in tar:
            if not entry.isfile():
                continue
            name = entry.name.removeprefix("./")
            base = os.path.basename(name)
            read = lambda: tar.extractfile(entry).read()
            if domain == "prose" and base == "Rdata.rdb":
                for title, text in novels(read()):
                    yield title, title, text
                continue
            if domain == "docs":
                mine = "/_sources/" in name and name.endswith(".rst.txt") and base != "changelog.rst.txt"
                name = name.split("/_sources/")[-1]
                group = name
            elif domain == "python":
                mine = name.endswith(".py") and "/locale/" not in name and "/migrations/" not in name
                name = name.split("/dist-packages/")[-1]
                group = name
            elif domain == "c":
                mine = name.endswith((".c", ".h"))
                name = name.split("/", 1)[-1]
                group = base.rsplit(".", 1)[0]
            elif domain == "essays":
                mine = "/markdown/" in name and name.endswith((".md", ".md.gz"))
                name = base.removesuffix(".gz")
                group = name
            elif domain in LANGUAGES:
                folder = "/help/%s/text/" % LANGUAGES[domain]
                mine = folder in name and name.endswith(".html") and "/sbasic/" not in name
                name = name.split(folder)[-1]
                group = name
            else:
                mine = False
            if not mine:
                continue
            raw = read()
            if entry.name.endswith(".gz"):
                raw = zlib.decompress(raw, 31)
            try:
                text = raw.decode()
            except UnicodeDecodeError:
                continue
            if domain in LANGUAGES:
                text = help_page(text)
            if "\0" not in text:
                yield name, group, text.replace("\r\n", "\n")


def passages(text):
    lines = [line + "\n" for line in text.removesuffix("\n").split("\n")]
    out, size = [], 0
    for i, line in enumerate(lines):
        n = len(line.encode())
        if size + n > PASSAGE and size >= LEAST:
            yield "".join(out)
            out, size = [], 0
        if n > PASSAGE:  # a table or a data line: not text
            yield "".join(out)
            out, size = [], 0
            continue
        out.append(line)
        size += n
        if size > PASSAGE * 3 // 4 and not line.strip() and i + 1 < len(lines):
            yield "".join(out)
            out, size = [], 0
    yield "".join(out)


def telling(text):
    """The lines by which a repeated passage is known."""
    return [line.strip() for line in text.split("\n") if len(line.strip()) >= 30]


def unseen(kept, known):
    """Passages of which less than a quarter of the telling lines is in known."""
    for i, text in kept:
        lines = telling(text)
        if sum(line in known for line in lines) * 4 < max(len(lines), 1):
            yield i, text


def rounds(entries, seed):
    """(name, number, text): one passage of every file, then a second, ..."""
    rng = random.Random(seed)
    for _, kept in entries:
        rng.shuffle(kept)
    turn = 0
    while True:
        left = [(name, *kept[turn]) for name, kept in entries if len(kept) > turn]
        if not left:
            return
        rng.shuffle(left)
        yield from left
        turn += 1


def main():
    domain, path = sys.argv[1:3]
    seen, splits = set(), {"train": [], "valid": [], "test": []}
    for name, group, text in sorted(files(domain, sys.stdin.buffer)):
        mark = digest(text.strip())
        if mark in seen:
            continue
        seen.add(mark)
        split = NOVELS.get(name, "train") if domain == "prose" else split_of(group)
        kept = [(i, p) for i, p in enumerate(passages(text)) if len(p.encode()) >= LEAST and p.strip()]
        splits[split].append((name, kept))

    known, partial = set(), "%s.%d.tmp" % (path, os.getpid())
    with open(partial, "w", encoding="utf-8", newline="\n") as f:
        for split, entries in splits.items():
            entries = [(name, list(unseen(kept, known))) for name, kept in entries] if known else entries
            entries = [(name, kept) for name, kept in entries if kept]
            if not entries:
                os.unlink(partial)
                sys.exit("passages.py: the package has no text for %s (%s): did its layout change?" % (domain, split))
            for _, kept in entries:
                for _, text in kept:
                    known.update(telling(text))
            count = size = 0
            for name, i, text in rounds(entries, "kfuse %s %s" % (domain, split)):
                line = {"id": "%s#%d" % (name, i), "domain": domain, "split": split, "text": text}
                f.write(json.dumps(line, ensure_ascii=False) + "\n")
                count += 1
                size += len(text.encode())
            print("  %s: %d passages of %d files, %.1f MB" % (split, count, len(entries), size / 1e6), file=sys.stderr)
        f.flush()
        os.fsync(f.fileno())
    os.replace(partial, path)


if __name__ == "__main__":
    main()
