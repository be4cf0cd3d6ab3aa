# kf-generate: texts that models go on with, from real passages; parts, resumption, conversations; its errors.
. tests/lib.sh

M=tests/models
some_text "$TMP/text.jsonl" 3 12 60 ab
"$BIN/kf-prepare" --quiet --out "$TMP/corpus" --shards 3 "$TMP/text.jsonl" || { not_ok "prepare a corpus"; exit; }
several=""
g() {
	together --model $M/llama-tiny --corpus "$TMP/corpus" --texts 3 --tokens 12 --prompt-bytes 20 --top-p 1 --temperature 1 "$@"
	"$BIN/kf-generate" --quiet "${all[@]}"
}
show() { "$BIN/kf-inspect" "$1" --json; }

for m in llama-tiny qwen2-tiny gemma3-tiny; do
	check "$m: runs" g --model $M/$m --out "$TMP/$m"
	show "$TMP/corpus" >"$TMP/in.jsonl"; show "$TMP/$m" >"$TMP/out.jsonl"
	check "$m: documents stay, and texts begin with words of them" python3 - "$TMP/in.jsonl" "$TMP/out.jsonl" <<'END'
import json, sys
docs = {d["id"]: d for d in map(json.loads, open(sys.argv[1]))}
out = [json.loads(x) for x in open(sys.argv[2])]
kept = [d for d in out if "(generated)" not in d["domain"]]
assert [(d["id"], d["text"], d["domain"]) for d in kept] == [(d["id"], d["text"], d["domain"]) for d in docs.values()]
assert [d["doc"] for d in out] == sorted({d["doc"] for d in out})
made = [d for d in out if d not in kept]
assert len(made) >= 12 and len({d["id"] for d in made}) == len(made), len(made)
last = None
for d in out:
    if d in kept: last = d["id"]; continue
    of, k = d["id"].rsplit("#", 1)
    assert of == last and k in "123" and d["domain"] == docs[of]["domain"] + " (generated)", d
    text = docs[of]["text"]
    # words from the begin of one to the end of another, 20 bytes or more; then something else
    n = max(n for n in range(len(d["text"]) + 1) if d["text"][:n] in text)
    starts = [i for i in range(len(text)) if text.startswith(d["text"][:20], i)]
    assert n >= 20 and any(i == 0 or text[i - 1].isspace() for i in starts) and len(d["text"]) > 20, (d, n)
assert len({d["text"] for d in made}) > len(made) / 2
END
done

g --out "$TMP/again"; show "$TMP/llama-tiny" >"$TMP/a"; show "$TMP/again" >"$TMP/b"
check_same "the same seed makes the same" "$TMP/a" "$TMP/b"
same "a second time there is nothing to do" "$("$BIN/kf-generate" --model $M/llama-tiny --corpus "$TMP/corpus" --texts 3 --tokens 12 --prompt-bytes 20 --top-p 1 --temperature 1 \
	--out "$TMP/again")" "$TMP/again: up to date"
g --out "$TMP/seed" --seed 5; show "$TMP/seed" >"$TMP/b"
check "another seed others" test "$(cmp -s "$TMP/a" "$TMP/b" && echo the same)" = ""
for i in 2 0 1; do g --out "$TMP/parts" --shard $i/3 --threads 1 || not_ok "part $i"; done
show "$TMP/parts" >"$TMP/b"; check_same "parts of an array job make the same" "$TMP/a" "$TMP/b"
g --out "$TMP/small" --cache-mb 1; show "$TMP/small" >"$TMP/b"
check_same "as does a small cache" "$TMP/a" "$TMP/b"
cp -r "$TMP/llama-tiny" "$TMP/half"; rm "$TMP/half/manifest.json" "$TMP/half"/*1*.mdb 2>/dev/null
check "what is missing is made" g --out "$TMP/half"; show "$TMP/half" >"$TMP/b"; check_same "and the whole is the same" "$TMP/a" "$TMP/b"
check_fails 1 "option --temperature: 1.0 there, 0.5 here" "other options are another set" g --out "$TMP/half" --temperature 0.5
check "which --replace makes" g --out "$TMP/half" --temperature 0.5 --replace

# Greedily: what kf-eval's tasks are answered with. (The words a text begins with end where a document's word does.)
check "greedily" g --out "$TMP/greedy" --temperature 0 --texts 2 --keep no --tokens 6 --compute f32
show "$TMP/greedy" >"$TMP/out.jsonl"
check "no document is kept" test "$(grep -c "(generated)" "$TMP/out.jsonl")" = "$(wc -l <"$TMP/out.jsonl")"
python3 - "$TMP/in.jsonl" "$TMP/out.jsonl" "$TMP/task.jsonl" <<'END'
import json, re, sys
docs = {d["id"]: d["text"] for d in map(json.loads, open(sys.argv[1]))}
with open(sys.argv[3], "w") as f:
    f.write(json.dumps({"task": "t", "kind": "match", "stop": [], "max_tokens": 6}) + "\n")
    for d in map(json.loads, open(sys.argv[2])):
        of, text = docs[d["id"].rsplit("#", 1)[0]], d["text"]
        at = of.find(text[:20])
        end = min((m.start() for m in re.finditer(r"\s|$", of) if m.start() >= at + 20), default=len(of))
        f.write(json.dumps({"id": d["id"], "prompt": of[at:end], "answer": text[end - at:]}) + "\n")
END
check "kf-eval generates the same" "$BIN/kf-eval" --quiet --model m=$M/llama-tiny --tasks "$TMP/task.jsonl" --outputs "$TMP/answers.jsonl"
check "token by token" python3 - "$TMP/task.jsonl" "$TMP/answers.jsonl" <<'END'
import json, sys
want = {r["id"]: r["answer"] for r in map(json.loads, open(sys.argv[1])) if "id" in r}
got = {r["id"]: r for r in map(json.loads, open(sys.argv[2]))}
assert len(want) > 5 and want.keys() == got.keys()
for k in want:
    assert got[k]["text"].startswith(want[k]), (got[k], want[k])     # of which kf-generate leaves out white space at the end, and half characters
END

# A long document's pieces, and what leaves no room.
some_text "$TMP/long.jsonl" 4 1 300 a
"$BIN/kf-prepare" --quiet --out "$TMP/pieces" --doc-bytes 400 --shards 1 "$TMP/long.jsonl"
check "pieces of a document" g --corpus "$TMP/pieces" --out "$TMP/of-pieces" --texts 2
show "$TMP/of-pieces" >"$TMP/b"
check "each text has a name of its own" python3 - "$TMP/b" <<'END'
import json, sys
ids = [d["id"] for d in map(json.loads, open(sys.argv[1])) if "#" in d["id"]]
assert len(set(ids)) == len(ids) > 2 and any(i.endswith("#1") for i in ids) and any(i.endswith("#2.1") for i in ids), ids
END
same "no room" "$("$BIN/kf-generate" --model $M/llama-tiny --corpus "$TMP/pieces" --out "$TMP/full" --prompt-bytes 100000 --texts 1 --progress none 2>&1 | grep -c "not made: what they go on from fills the model's context")" 1

# Several models, one after the other: what was generated is passed on.
check "a second model adds to it" g --model $M/qwen2-tiny --corpus "$TMP/llama-tiny" --out "$TMP/both"
show "$TMP/both" >"$TMP/b"
check "and does not go on with what the first made" python3 - "$TMP/a" "$TMP/b" <<'END'
import json, sys
one, two = ([json.loads(x) for x in open(p)] for p in sys.argv[1:])
texts = {d["text"] for d in two}
assert all(d["text"] in texts for d in one) and len(two) > len(one) + 12
assert max(d["id"].count("#") for d in two) == 1 and len({d["doc"] for d in two}) == len(two)
END
check "it is a corpus as any other" "$BIN/kf-extract" --quiet --model $M/llama-tiny --corpus "$TMP/both" --out "$TMP/logits" --compute f32
check "sound" "$BIN/kf-inspect" "$TMP/both" --verify

# Conversations: one reply anew.
python3 - "$TMP/talk.jsonl" <<'END'
import json, sys
with open(sys.argv[1], "w") as f:
    for i in range(6):
        m = [{"role": r, "content": f"{r} says {w} {i}"} for r, w in (("system", "be kind"), ("user", "good day"), ("assistant", "yes"), ("user", "and"), ("assistant", "no"), ("user", "bye"))]
        f.write(json.dumps({"id": f"c{i}", "domain": "talk", "messages": m}) + "\n")
    f.write(json.dumps({"id": "alone", "domain": "talk", "messages": [{"role": "user", "content": "nobody answers"}, {"role": "assistant", "content": "x"}]}) + "\n")
END
"$BIN/kf-prepare" --quiet --out "$TMP/talks" --shards 2 "$TMP/talk.jsonl"
check "conversations" g --corpus "$TMP/talks" --out "$TMP/replies" --chat-template smollm2 --texts 4
show "$TMP/replies" >"$TMP/b"; show "$TMP/talks" >"$TMP/a"
check "end with a new reply" python3 - "$TMP/a" "$TMP/b" <<'END'
import json, sys
docs = {d["id"]: d for d in map(json.loads, open(sys.argv[1]))}
made = [d for d in map(json.loads, open(sys.argv[2])) if "#" in d["id"]]
ends = set()
assert len(made) > 10, len(made)
for d in made:
    said = lambda r: [(m["role"], r["text"].encode()[m["start"]:m["end"]].decode()) for m in r["messages"]]
    of, m = said(docs[d["id"].rsplit("#", 1)[0]]), said(d)
    n = len(m) - 1
    assert m[:n] == of[:n] and m[n][0] == of[n][0] == "assistant" and m[n][1].strip(" \t\n\v\f\r") == m[n][1] != "", (m, of)
    ends.add(n)
assert {2, 4} <= ends, ends
END
check_fails 1 "has no chat template" "no template" g --corpus "$TMP/talks" --out "$TMP/none"
check_fails 1 "no chat template \"nosuch\"" "an unknown one" g --corpus "$TMP/talks" --out "$TMP/none" --chat-template nosuch
check_fails 2 "top-p" "nothing to sample from" g --out "$TMP/none" --top-p 0
check_fails 1 "one of kind corpus is needed" "a corpus that is none" g --corpus "$TMP/logits" --out "$TMP/none"
