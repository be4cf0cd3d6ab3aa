"""Make conversations for the demo from what others wrote.

    dpkg-deb --fsys-tarfile PERL-DOC.deb | python3 talks.py faq FILE
    unzip -p WHEEL chitchat_dataset/dataset.json | python3 talks.py chitchat FILE

Reads standard input (data only: nothing of it is executed or unpacked to disk) and writes FILE, a line a conversation:
{"id", "domain", "split", "messages": [{"role", "content"}]}.

- faq: the questions and answers of the Perl FAQ, one each. POD's marks become plain text.
- chitchat: talks of two people about a question they were given (the system message); who begins is the user, the other the
  assistant. What one says in a row is one message.
  Talks that end early are left out, long ones are cut after a reply.
- Splits (train, valid, test) go by a hash of the question or talk, about 12 : 2 : 2; the same text is taken once. Lines are
  in random order with a fixed seed, so the first N are a fair sample.
"""
import hashlib
import json
import os
import random
import re
import sys
import tarfile

MOST, LEAST = 3000, 60     # bytes of an answer
TALK, TURNS = 2048, 6      # bytes of a talk, at most; its turns, at least


def split_of(key):
    n = int(hashlib.sha256(("kfuse " + key).encode()).hexdigest()[:8], 16) % 16
    return "valid" if n < 2 else "test" if n < 4 else "train"


# ---- POD ------------------------------------------------------------------------

ESCAPES = {"lt": "<", "gt": ">", "sol": "/", "verbar": "|"}


def plain(text):
    """Formatting codes from the inside out: C<x> becomes `x`, L<text|where> text, the others what they mark."""
    def code(m):
        letter, inside = m.group(1), m.group(3)
        if m.group(2):
            inside = inside.strip()
        if letter == "E":
            # kept apart until the end: what it stands for must not open or close a code
            return {"lt": "\1", "gt": "\2"}.get(inside, ESCAPES.get(inside, inside))
        if letter == "L":
            inside = inside.split("|")[0].strip("/").replace('"', "")
        if letter in "XZ":
            return ""
        inside = inside.replace("<", "\1").replace(">", "\2")
        return "`%s`" % inside if letter == "C" else inside

    while True:
        new = re.sub(r"([BCEFILSXZ])<<+(\s)(.*?)\s>>+", code, text, flags=re.S)
        new = re.sub(r"([BCEFILSXZ])<()([^<>]*(?:(?<=[-=])>[^<>]*)*)>", code, new)
        if new == text:
            return text.replace("\1", "<").replace("\2", ">")
        text = new


def answers(pod):
    """(question, answer) of every second-level heading."""
    question, out = None, []

    def done():
        if question:
            yield question, "\n\n".join(out).strip()

    for block in re.split(r"\n\s*\n", pod):
        block = block.strip("\n")
        if block.startswith("="):
            command, _, rest = block.partition(" ")
            rest = plain(rest.replace("\n", " ").strip())
            if command.startswith("=head"):
                yield from done()
                question, out = rest if command == "=head2" else None, []
            elif command == "=item" and rest:
                out.append(rest if rest.startswith("*") else "* " + rest)
        elif block.strip():
            verbatim = block[:1] in " \t"
            text = block if verbatim else plain(block)
            if out and out[-1] == "*":
                out[-1] = "* " + text
            else:
                out.append(text.rstrip())
    yield from done()


def faq(stream):
    with tarfile.open(fileobj=stream, mode="r|") as tar:
        for entry in tar:
            name = re.search(r"/pod/(perlfaq\d)\.pod$", entry.name)
            if not entry.isfile() or not name:
                continue
            pod = tar.extractfile(entry).read().decode("utf-8", "replace")
            for question, answer in answers(pod):
                if LEAST <= len(answer.encode()) <= MOST:
                    yield "%s: %s" % (name.group(1), question), [("user", question), ("assistant", answer)]


# ---- talks ----------------------------------------------------------------------

def chitchat(stream):
    for key, talk in sorted(json.load(stream).items()):
        turns, size = [], 0
        for messages in talk["messages"]:
            who = {m["sender"] for m in messages}
            text = "\n".join(m["text"].strip() for m in messages if m["text"].strip())
            size += len(text.encode())
            if len(who) != 1 or not text or size > TALK:
                break
            who = who.pop()
            if turns and turns[-1][0] == who:
                turns[-1][1] += "\n" + text
            else:
                turns.append([who, text])
        if len({who for who, _ in turns}) != 2:
            continue
        turns = turns[:len(turns) // 2 * 2]
        if len(turns) >= TURNS:
            first = turns[0][0]
            about = [("system", "You talk with somebody about this: " + talk["prompt"].strip())] if talk.get("prompt") else []
            yield key, about + [("user" if who == first else "assistant", text) for who, text in turns]


def main():
    domain, path = sys.argv[1:3]
    seen, splits = set(), {"train": [], "valid": [], "test": []}
    for key, turns in {"faq": faq, "chitchat": chitchat}[domain](sys.stdin.buffer):
        mark = tuple(text for _, text in turns)
        if mark in seen:
            continue
        seen.add(mark)
        splits[split_of(key)].append({"id": key, "domain": domain, "split": split_of(key),
                                      "messages": [{"role": role, "content": text} for role, text in turns]})
    partial = "%s.%d.tmp" % (path, os.getpid())
    with open(partial, "w", encoding="utf-8", newline="\n") as f:
        for split, talks in splits.items():
            if not talks:
                os.unlink(partial)
                sys.exit("talks.py: there are no conversations for %s (%s): did the layout change?" % (domain, split))
            random.Random("kfuse %s %s" % (domain, split)).shuffle(talks)
            for t in talks:
                f.write(json.dumps(t, ensure_ascii=False) + "\n")
            size = sum(len(m["content"].encode()) for t in talks for m in t["messages"] if m["role"] == "assistant")
            print("  %s: %d conversations, %.2f MB of replies" % (split, len(talks), size / 1e6), file=sys.stderr)
        f.flush()
        os.fsync(f.fileno())
    os.replace(partial, path)


if __name__ == "__main__":
    main()
