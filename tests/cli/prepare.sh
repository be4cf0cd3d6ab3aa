# kf-prepare: what it makes of files, folders and standard input; its error messages.
. tests/lib.sh
prepare=$BIN/kf-prepare
docs() { "$BIN/kf-inspect" --json "$1"; }

printf 'first line\nsecond line\n' >"$TMP/a.txt"
printf '{"id": "x", "text": "one two three", "domain": "d1"}\n{"text": "four"}\n' >"$TMP/b.jsonl"
check "prepare: text and JSONL" "$prepare" --out "$TMP/c" --domain other "$TMP/a.txt" "$TMP/b.jsonl"
docs "$TMP/c" >"$TMP/c.json"
field() { grep -o "\"$1\": *\"\?[^,\"}]*" "$2" | sed 's/^[^:]*: *"\?//' | tr '\n' ' '; }
same "prepare: numbers" "$(field doc "$TMP/c.json")" "0 1 2 "
same "prepare: ids" "$(field id "$TMP/c.json")" "$TMP/a.txt x $TMP/b.jsonl:2 "
same "prepare: domains" "$(field domain "$TMP/c.json")" "other d1 other "
same "prepare: bytes" "$(field bytes "$TMP/c.json")" "23 13 4 "
"$prepare" --out "$TMP/c" --domain other "$TMP/a.txt" "$TMP/b.jsonl" >"$TMP/said"
same "prepare: up to date" "$(cat "$TMP/said")" "$TMP/c: up to date"
check_fails 1 'doc-bytes' "prepare: refuses other options" "$prepare" --out "$TMP/c" --domain other --doc-bytes 100 "$TMP/a.txt" "$TMP/b.jsonl"
echo more >>"$TMP/a.txt"
check_fails 1 'input text differs' "prepare: refuses changed input" "$prepare" --out "$TMP/c" --domain other "$TMP/a.txt" "$TMP/b.jsonl"

# Of what is not in its split, and of files' names where records have ids, a corpus knows nothing.
for i in 1 2 3 4 5 6; do echo "{\"id\": $i, \"text\": \"text $i\", \"split\": \"$([ $i = 3 ] && echo test || echo train)\"}"; done >"$TMP/parts.jsonl"
train() { "$prepare" --out "$TMP/train" --split train "$@"; }
check "prepare: one split" train "$TMP/parts.jsonl"
sed -i 's/text 3/another/' "$TMP/parts.jsonl"; mv "$TMP/parts.jsonl" "$TMP/renamed.jsonl"
same "prepare: a document of another split changes nothing" "$(train "$TMP/renamed.jsonl")" "$TMP/train: up to date"
sed -i 's/text 5/another/' "$TMP/renamed.jsonl"
check_fails 1 'input text differs' "prepare: one of its own does" train "$TMP/renamed.jsonl"
check "prepare: and is taken with --replace" train --replace "$TMP/renamed.jsonl"
sed -i '1{h;d};2{G}' "$TMP/renamed.jsonl"
check_fails 1 'input text differs' "prepare: the order, too" train "$TMP/renamed.jsonl"

mkdir "$TMP/tree"; echo 'x = 1' >"$TMP/tree/a.py"; printf '\n' >"$TMP/tree/__init__.py"; : >"$TMP/tree/empty.py"
"$prepare" --out "$TMP/of-tree" "$TMP/tree" 2>"$TMP/tree.err" >"$TMP/tree.out"
check "prepare: blank files of a folder are left out, and counted" grep -q "2 files are empty, blank or" "$TMP/tree.err"
head -c 100 /bin/sh >"$TMP/tree/program"; echo '{"name": "x"}' >"$TMP/tree/package.json"
echo '[{"text": "one"}, {"text": "two"}]' >"$TMP/tree/list.json"
"$prepare" --out "$TMP/of-tree2" "$TMP/tree" 2>"$TMP/tree.err" >"$TMP/tree.out"
check "prepare: what is not text is named" grep -q "1 files are not text.* the first is $TMP/tree/program" "$TMP/tree.err"
check "prepare: JSON without records is named" grep -q "called .json.*: 1\. The first is $TMP/tree/package.json" "$TMP/tree.err"
check "prepare: a list of records is records" grep -q ": 4 documents.* from 4 in 3 files" "$TMP/tree.out"
printf '[{"text": "a list"}]' | "$prepare" --out "$TMP/of-list" - >"$TMP/said"
check "prepare: also from standard input" grep -q "6 bytes in all" "$TMP/said"
printf '{"text": "a table", "messages": null, "id": null}\n{"text": null, "messages": [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "I."}]}\n' >"$TMP/null.jsonl"
check "prepare: what is null is not there" "$prepare" --out "$TMP/null" "$TMP/null.jsonl"
check_fails 2 'domain.*UTF-8' "prepare: a domain that is not UTF-8" "$prepare" --out "$TMP/bad" --domain $'\xff' "$TMP/b.jsonl"
mkfifo "$TMP/words"
(echo text; exec sleep 100) >"$TMP/words" & sleeper=$!
{ "$prepare" --out "$TMP/stopped" - <"$TMP/words" >"$TMP/.out" 2>"$TMP/stopped.err" & echo $! >"$TMP/pid"; wait $!; echo $? >"$TMP/status"; } &
for i in $(seq 100); do [ -s "$TMP/pid" ] && ls -l "/proc/$(cat "$TMP/pid")/fd" 2>/dev/null | grep -q "kf-prepare\..*deleted" && break; sleep 0.1; done
kill "$(cat "$TMP/pid")"
for i in $(seq 100); do [ -s "$TMP/status" ] && break; sleep 0.1; done
check "prepare: asked to end while it waits for standard input, it ends" grep -q "stopped by SIGTERM" "$TMP/stopped.err"
check "prepare: by the signal" test "$(cat "$TMP/status")" = 143
check "prepare: and there is no corpus" test ! -e "$TMP/stopped"
kill $sleeper

# The same documents whatever the number of shards.
seq 1 3000 >"$TMP/long.txt"
for n in 1 3 7; do
	check "prepare: $n shards" "$prepare" --out "$TMP/s$n" --doc-bytes 512 --shards $n "$TMP/long.txt"
	docs "$TMP/s$n" >"$TMP/s$n.json"
done
check_same "prepare: 1 and 3 shards hold the same" "$TMP/s1.json" "$TMP/s3.json"
check_same "prepare: 1 and 7 shards hold the same" "$TMP/s1.json" "$TMP/s7.json"

# Standard input, NFC.
printf '{"text": "cafe\\u0301"}' | check "prepare: standard input" "$prepare" --out "$TMP/in" -
docs "$TMP/in" >"$TMP/in.json"
same "prepare: NFC by default" "$(field bytes "$TMP/in.json")" "5 "
same "prepare: id of standard input" "$(field id "$TMP/in.json")" "standard input:1 "
printf 'cafe\xcc\x81' | check "prepare: not normalised" "$prepare" --out "$TMP/in2" --normalize none -
docs "$TMP/in2" >"$TMP/in2.json"
same "prepare: none keeps the bytes" "$(field bytes "$TMP/in2.json")" "6 "

# Splits and choices.
for i in $(seq 1 200); do echo "{\"id\": \"doc$i\", \"text\": \"text of $i\", \"domain\": \"d$((i % 2))\"}"; done >"$TMP/many.jsonl"
for s in train valid test; do
	check "prepare: split $s" "$prepare" --out "$TMP/split-$s" --split $s "$TMP/many.jsonl"
	docs "$TMP/split-$s" >>"$TMP/split.json"
done
field id "$TMP/split.json" | tr ' ' '\n' | sort >"$TMP/ids"
same "prepare: splits are everything, once" "$(grep -c . "$TMP/ids") $(grep . "$TMP/ids" | uniq | wc -l)" "200 200"
for n in 5 10; do
	check "prepare: $n of each domain" "$prepare" --out "$TMP/few$n" --docs-per-domain $n --seed 3 "$TMP/many.jsonl"
	docs "$TMP/few$n" >"$TMP/few$n.json"
	field id "$TMP/few$n.json" | tr ' ' '\n' | grep . | sort >"$TMP/few$n.ids"
done
same "prepare: so many of each domain" "$(field domain "$TMP/few10.json" | tr ' ' '\n' | grep . | sort | uniq -c | xargs)" "10 d0 10 d1"
same "prepare: more documents only add to fewer" "$(comm -12 "$TMP/few5.ids" "$TMP/few10.ids" | wc -l)" 10
"$prepare" --out "$TMP/few-first" --docs-per-domain 5 --quiet "$TMP/many.jsonl"; docs "$TMP/few-first" >"$TMP/few-first.json"
same "prepare: without a seed the first of each" "$(field id "$TMP/few-first.json")" "$(seq -f 'doc%.0f' 1 10 | tr '\n' ' ')"
"$prepare" --out "$TMP/few-other" --docs-per-domain 5 --seed 4 --quiet "$TMP/many.jsonl"; docs "$TMP/few-other" >"$TMP/few-other.json"
check "prepare: another seed, other documents" test "$(field id "$TMP/few-other.json" | tr ' ' '\n' | grep . | sort | comm -12 - "$TMP/few5.ids" | wc -l)" -lt 6
# What a record says of its part counts, of text and of conversations; else all pieces of a document are in one part, whatever their number.
python3 - "$TMP/said.jsonl" <<'END'
import json, sys
with open(sys.argv[1], "w") as f:
    for i in range(30):
        talk = [{"role": r, "content": "message %d" % i} for r in ("user", "assistant")]
        of = {"text": "text %d" % i} if i % 2 else {"messages": talk}
        f.write(json.dumps({"id": "s%d" % i, "split": ("train", "valid", "test")[i % 3], **of}) + "\n")
    for i in range(40): f.write(json.dumps({"id": "l%d" % i, "text": "a line of %d\n" % i * 30}) + "\n")
END
for s in all train valid test; do "$prepare" --out "$TMP/said-$s" --split $s --doc-bytes 64 --quiet "$TMP/said.jsonl"; docs "$TMP/said-$s" >"$TMP/said-$s.json"; done
check "prepare: parts are what records say, else whole documents" python3 - "$TMP"/said-{all,train,valid,test}.json <<'END'
import json, sys
pieces = lambda f: [(d["id"], d["piece"]) for d in map(json.loads, open(f))]
whole, *parts = map(pieces, sys.argv[1:])
for n, p in enumerate(parts):
    assert {i for i, _ in p if i[0] == "s"} == {"s%d" % i for i in range(n, 30, 3)}, p
    for i in {i for i, _ in p}: assert [x for x in p if x[0] == i] == [x for x in whole if x[0] == i], i
assert sorted(x for p in parts for x in p) == sorted(whole) and max(n for _, n in whole) > 5 and whole[-1][0] == "l39"
assert all(any(i[0] == "l" for i, _ in p) for p in parts)
END
check_fails 1 '"split" is "dev", not train, valid or test' "prepare: a part that is none" "$prepare" --out "$TMP/bad" --split train - <<<'{"text": "a", "split": "dev"}'

# Conversations.
cat >"$TMP/chat.jsonl" <<'END'
{"id": "a", "messages": [{"role": "system", "content": " Be brief.\n"}, {"role": "user", "content": "Who?"}, {"role": "assistant", "content": "The cat.\u00a0"}, {"role": "user", "content": "And caf\u0065\u0301?"}, {"role": "assistant", "content": "No."}, {"role": "user", "content": "Oh."}]}
{"text": "and a text"}
{"conversations": [{"from": "human", "value": "x"}, {"from": "gpt", "value": "y"}]}
END
check "prepare: conversations" "$prepare" --out "$TMP/chat" "$TMP/chat.jsonl"
docs "$TMP/chat" >"$TMP/chat.json"
printf '\xef\xbb\xbf{"text": "one"}\n{"text": "two"}\n' | "$prepare" --out "$TMP/bom" --quiet -
check "prepare: JSON Lines with a byte order mark on standard input" test "$("$BIN/kf-inspect" "$TMP/bom" --json | wc -l)" = 2
check_fails 1 'called "all"' "prepare: a domain that tables call something else" "$prepare" --out "$TMP/all" --domain all README.md
for d in '\u001b[31m' 'a\nb' '\u007f' '\u009b1m'; do
	printf '{"text": "one", "domain": "%s"}\n' "$d" >"$TMP/control.jsonl"
	check_fails 1 'control.jsonl, line 1: the name of a domain has a control character' "prepare: $d as a domain" "$prepare" --out "$TMP/control" "$TMP/control.jsonl"
done
check_fails 1 'control character' "prepare: one with a tab by its option" "$prepare" --out "$TMP/control" --domain $'a\tb' README.md
# Compressed files: the same documents. What gzip and zstd may look like: tests/unit/prepare/test_textfile.c.
mkdir "$TMP/packed"; gzip -c <"$TMP/many.jsonl" >"$TMP/packed/many.jsonl.gz"
"$prepare" --out "$TMP/of-many" --quiet "$TMP/many.jsonl"; docs "$TMP/of-many" >"$TMP/of-many.json"
check "prepare: a compressed file" "$prepare" --out "$TMP/of-gz" "$TMP/packed/many.jsonl.gz"
check "prepare: a compressed file in a folder" "$prepare" --out "$TMP/of-folder" "$TMP/packed"
check "prepare: compressed standard input" "$prepare" --out "$TMP/of-stdin" - <"$TMP/packed/many.jsonl.gz"
for s in gz folder stdin; do docs "$TMP/of-$s" >"$TMP/of-$s.json"; check_same "prepare: compressed ($s), the same documents" "$TMP/of-many.json" "$TMP/of-$s.json"; done
gzip -c README.md >"$TMP/readme.gz"
check "prepare: a compressed text" "$prepare" --out "$TMP/of-readme" --doc-bytes 1000000 "$TMP/readme.gz"
docs "$TMP/of-readme" >"$TMP/of-readme.json"
same "prepare: a compressed text is one document" "$(field id "$TMP/of-readme.json")$(field bytes "$TMP/of-readme.json")" "$TMP/readme.gz $(wc -c <README.md) "
head -c 1000 "$TMP/packed/many.jsonl.gz" >"$TMP/cut.jsonl.gz"
check_fails 1 'cut.jsonl.gz: the compressed data.*in the middle' "prepare: a compressed file that is cut short" "$prepare" --out "$TMP/of-cut" "$TMP/cut.jsonl.gz"
tar -cf - -C "$TMP" many.jsonl | gzip >"$TMP/many.tar.gz"
check_fails 1 'many.tar.gz is no text: there is a NUL byte' "prepare: an archive is no text" "$prepare" --out "$TMP/of-tar" "$TMP/many.tar.gz"
check_fails 1 'standard input is no text' "prepare: standard input that is no text" "$prepare" --out "$TMP/of-nul" - <"$TMP/of-many/shard-00000.mdb"
mkdir "$TMP/notes"; echo "a note" > "$TMP/notes/a.txt"; head -c 9000 /dev/zero | tr '\0' '\n' > "$TMP/notes/b.txt"
check "prepare: a folder with a large blank file" "$prepare" --out "$TMP/notes/corpus" --quiet "$TMP/notes"
check "prepare: a set among the texts is no text" "$prepare" --out "$TMP/notes/corpus2" --quiet "$TMP/notes"
check_fails 1 "$TMP/notes/corpus is a shard set, not text; leave it out" "prepare: a set that is named is refused" "$prepare" --out "$TMP/bad" "$TMP/notes/a.txt" "$TMP/notes/corpus"
check "prepare: the note alone" test "$("$BIN/kf-inspect" "$TMP/notes/corpus2" --json | wc -l)" = 1
check "prepare: again, up to date" "$prepare" --out "$TMP/notes/corpus" "$TMP/notes"

check "prepare: messages, their texts trimmed and in NFC" python3 - "$TMP/chat.json" <<'END'
import json, sys
a, text, b = [json.loads(l) for l in open(sys.argv[1], encoding="utf-8")]
spans = lambda d: [(m["role"], d["text"].encode()[m["start"]:m["end"]].decode()) for m in d["messages"]]
assert spans(a) == [("system", "Be brief."), ("user", "Who?"), ("assistant", "The cat."), ("user", "And caf\u00e9?"), ("assistant", "No."), ("user", "Oh.")]
assert "messages" not in text and text["text"] == "and a text"
assert spans(b) == [("user", "x"), ("assistant", "y")]
END
grep -q '"format": 2' "$TMP/chat/manifest.json" && ok "prepare: conversations are format 2" || not_ok "prepare: conversations are format 2"
grep -q '"format": 1' "$TMP/c/manifest.json" && ok "prepare: text is format 1" || not_ok "prepare: text is format 1"
python3 - "$TMP/some.jsonl" <<'END'
import json, sys
talk = [{"role": r, "content": "a message"} for r in ("user", "assistant")]
with open(sys.argv[1], "w") as f:
    for i in range(24): f.write(json.dumps({"domain": "ab"[i % 2], "split": "train", **({"messages": talk} if i in (17, 19) else {"text": "text %d" % i})}) + "\n")
END
for few in "8" "9" "24" "2 --seed 1" "2 --seed 2" "2 --seed 3" "2 --seed 4" "2 --seed 5" "2 --seed 6"; do
	"$prepare" --quiet --out "$TMP/some" --split train --docs-per-domain $few --shards 2 --shard 0/2 "$TMP/some.jsonl" 2>/dev/null &&
		"$prepare" --quiet --out "$TMP/some" --split train --docs-per-domain $few --shards 2 "$TMP/some.jsonl" &&
		echo "$(grep -o '"format": .' "$TMP/some/manifest.json" | tr -dc 12) $(docs "$TMP/some" | grep -c '"messages"')"
	rm -rf "$TMP/some"
done >"$TMP/some.out"
same "prepare: format 2 where one of the chosen is a conversation" "$(tr '\n' ' ' <"$TMP/some.out")" '1 0 2 1 2 2 1 0 1 0 1 0 1 0 2 1 2 1 '
check "prepare: a conversation is cut" "$prepare" --out "$TMP/chat-cut" --doc-bytes 16 "$TMP/chat.jsonl"
docs "$TMP/chat-cut" >"$TMP/chat-cut.json"
same "prepare: only between exchanges" "$(field bytes "$TMP/chat-cut.json")" "21 16 10 2 "

# Errors.
bad() { printf "$1" >"$TMP/bad.jsonl"; check_fails 1 "$2" "prepare: $3" "$prepare" --out "$TMP/bad" "$TMP/bad.jsonl"; }
bad '{"text": "a"}\n{"text": "b"\n' 'bad\.jsonl, line 2: not valid JSON' "JSON cut short"
bad '{"text": "a"}\n{"id": "b"}\n' 'bad\.jsonl, line 2: the record has no "text"' "no text"
bad '{"text": "a"}\n{"messages": []}\n' 'bad\.jsonl, line 2: the conversation is empty' "an empty conversation"
bad '{"messages": [{"role": "tool", "content": "a"}]}\n' 'bad\.jsonl, line 1: message 1 has the role "tool", which is not' "an unknown role"
bad '{"messages": [{"role": "user", "content": "a"}]}\n' 'line 1: the conversation has no message of the assistant' "no reply"
bad '{"messages": [{"role": "user", "content": ["a"]}]}\n' 'line 1: the "content" of message 1 is not a string' "content that is no string"
bad '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": " "}]}\n' 'line 1: message 2 has no text' "a message without text"
bad '{"messages": {"role": "user"}}\n' 'line 1: "messages" is not a list' "messages that are no list"
bad '{"text": ""}\n' 'empty corpus: the input holds no document, only records without text' "empty text"
bad '' 'empty corpus' "empty file"
check "prepare: nothing is left after an error" test ! -e "$TMP/bad"
: >"$TMP/empty.txt"
check_fails 1 'empty\.txt: the document has no text' "prepare: empty text file" "$prepare" --out "$TMP/bad" "$TMP/empty.txt"
check_fails 1 'nowhere' "prepare: missing file" "$prepare" --out "$TMP/bad" "$TMP/nowhere"
printf 'a\xff' >"$TMP/latin.txt"
"$prepare" --out "$TMP/latin" "$TMP/latin.txt" >/dev/null 2>"$TMP/said"
same "prepare: bytes that are no UTF-8 are kept, with a notice" "$? $(grep -c 'not UTF-8' "$TMP/said")" "0 1"
check_fails 1 'not valid UTF-8' "prepare: or refused" "$prepare" --out "$TMP/bad" --invalid refuse "$TMP/latin.txt"
mkdir "$TMP/folder"
check_fails 1 'empty corpus' "prepare: empty folder" "$prepare" --out "$TMP/bad" "$TMP/folder"
check_fails 2 'must be from 16' "prepare: documents too small" "$prepare" --out "$TMP/bad" --doc-bytes 3 "$TMP/a.txt"
check_fails 2 '--out' "prepare: no --out" "$prepare" "$TMP/a.txt"
check_fails 2 'no input' "prepare: no input" "$prepare" --out "$TMP/bad"
# A file by several names.
mkdir "$TMP/notes2"; for f in x y z; do echo "text $f" >"$TMP/notes2/$f.txt"; done
"$prepare" --out "$TMP/again" "$TMP/notes2" "$TMP/a.txt" "$TMP/notes2/./z.txt" "$TMP/notes2/y.txt" "$TMP/notes2/z.txt" >"$TMP/.out" 2>"$TMP/said"
same "prepare: a file that is there twice, with a notice" "$? $(docs "$TMP/again" | wc -l) $(cat "$TMP/said")" \
	"0 7 kf-prepare: notice: files given more than once: 2; what they hold is in the corpus as often. The first is $TMP/notes2/y.txt"
# Records without text, as tables have them.
{
	printf '{"text": ""}\n{"text": " \\n\\u3000"}\n{"text": "one", "domain": "d"}\n{"text": null}\n{"messages": null, "domain": "d"}\n'
	printf '{"text": "two", "domain": "d"}\n{"text": "", "domain": "mean"}\n{"text": "three", "split": "test"}\n{"text": "", "split": "test"}\n'
} >"$TMP/wiki.jsonl"
"$prepare" --out "$TMP/wiki" "$TMP/wiki.jsonl" >"$TMP/.out" 2>"$TMP/said"
same "prepare: records without text are left out, with a notice" "$? $(cat "$TMP/said")" "0 kf-prepare: notice: 6 of 9 records have no text and were left out"
docs "$TMP/wiki" >"$TMP/wiki.json"
same "prepare: ids count them" "$(field id "$TMP/wiki.json")" "$TMP/wiki.jsonl:3 $TMP/wiki.jsonl:6 $TMP/wiki.jsonl:8 "
"$prepare" --out "$TMP/wiki-test" --split test "$TMP/wiki.jsonl" >"$TMP/.out" 2>"$TMP/said"
check "prepare: those of the split" grep -q "notice: . of 9 records have no text" "$TMP/said"
# Bad records among good ones.
python3 - "$TMP/web.jsonl" "$TMP/clean.jsonl" <<'END'
import json, sys
bad = ['{"text": "a', '[1]', '{"id": "b"}', '{"text": 5}', '{"text": "a", "id": {}}', '{"text": "a", "domain": 5}', '{"text": "a", "domain": "all"}',
       '{"messages": [{"role": "user", "content": "a"}]}', '{"text": "a", "messages": []}', 'x', '{"text": "\\ud800"}', '{"text": "a", "id": []}']
web, clean = open(sys.argv[1], "w"), open(sys.argv[2], "w")
for i in range(976):
    if i % 40 == 7: web.write(bad[i // 40 % len(bad)] + "\n")
    for f in web, clean: f.write(json.dumps({"id": "t%d" % i, "domain": "ab"[i % 2], "text": "Text number %d.\n" % i * (i % 7 + 1)}) + "\n")
web.write('{"text": "cut sho')
END
web() { local out=$1; shift; "$prepare" --out "$out" --doc-bytes 64 --shards 4 "$@"; }
check "prepare: the good ones alone" web "$TMP/clean" "$TMP/clean.jsonl"
check_fails 1 'web\.jsonl, line 8: not valid JSON' "prepare: a bad record ends the run" web "$TMP/web" "$TMP/web.jsonl"
check_fails 1 '26 of 1002 records are bad, more than the 2.5 % of --skip-bad: .* The first: .*web\.jsonl, line 8: not valid JSON' \
	"prepare: more bad ones than were allowed" web "$TMP/web" --skip-bad 2.5 "$TMP/web.jsonl"
check "prepare: neither leaves anything" test ! -e "$TMP/web"
check "prepare: bad records are left out" web "$TMP/web" --skip-bad 2.6 "$TMP/web.jsonl"
cp "$TMP/.err" "$TMP/web.err"; cp "$TMP/.out" "$TMP/web.out"
check "prepare: the first are named" test "$(grep -c '^  .*web.jsonl, line [0-9]*: ' "$TMP/web.err")" = 20 -a "$(grep -c '26 of 1002 records are bad' "$TMP/web.err")" = 1
check "prepare: the others counted" grep -qx "  and 6 more" "$TMP/web.err"
check "prepare: and at the end" grep -q "; 26 bad records left out$" "$TMP/web.out"
content() { python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["content"])' "$1/manifest.json"; }
same "prepare: what is kept is the good ones" "$(content "$TMP/web")" "$(content "$TMP/clean")"
check "prepare: the manifest has the count" grep -q '"skipped": 26' "$TMP/web/manifest.json"
check "prepare: and none where there was none" test "$(grep -c skipped "$TMP/clean/manifest.json")" = 0
check "prepare: a bad conversation makes no corpus of conversations" grep -q '"format": 1' "$TMP/web/manifest.json"
for i in 1 0; do check "prepare: part $i of it" web "$TMP/web-parts" --skip-bad 2.6 --shard $i/2 "$TMP/web.jsonl"; done
web "$TMP/web-on" --skip-bad 2.6 --shard 1/2 "$TMP/web.jsonl" >"$TMP/.out" 2>&1
check "prepare: the rest of a part" web "$TMP/web-on" --skip-bad 2.6 "$TMP/web.jsonl"
for d in web-parts web-on; do check "prepare: $d are the same bytes" diff -r -x times.log "$TMP/web" "$TMP/$d"; done
check "prepare: again, up to date" web "$TMP/web" --skip-bad 50 "$TMP/web.jsonl"
check "prepare: bad records on standard input" web "$TMP/web-in" --skip-bad 3 --format jsonl - <"$TMP/web.jsonl"
same "prepare: are left out, too" "$(content "$TMP/web-in")" "$(content "$TMP/clean")"
printf ' \n' >"$TMP/blank.txt"
check "prepare: so is a file of text" web "$TMP/web-text" --skip-bad 50 --invalid refuse "$TMP/a.txt" "$TMP/blank.txt" "$TMP/b.jsonl" "$TMP/latin.txt"
same "prepare: without text or not UTF-8" "$(docs "$TMP/web-text" | grep -c .) $(grep -o '"skipped": [0-9]*' "$TMP/web-text/manifest.json")" '3 "skipped": 2'
check_fails 1 'empty corpus' "prepare: nothing but bad records" web "$TMP/bad" --skip-bad 100 "$TMP/blank.txt"
check_fails 2 'skip-bad' "prepare: no share" web "$TMP/bad" --skip-bad 101 "$TMP/a.txt"

mkdir "$TMP/ro"; chmod 555 "$TMP/ro"; chmod 755 "$TMP"
if unprivileged "$prepare" --help >"$TMP/.out" 2>&1; then
	check_fails 1 '/ro/c: Permission denied' "prepare: read-only folder" unprivileged "$prepare" --out "$TMP/ro/c" "$TMP/a.txt"
	cp -r "$TMP/web" "$TMP/done"; chmod 555 "$TMP/done"
	check "prepare: read-only set: up to date" unprivileged "$prepare" --out "$TMP/done" --doc-bytes 64 --shards 4 --skip-bad 50 "$TMP/web.jsonl"
	chmod 755 "$TMP/done"
else skip "prepare: read-only folder" "the programs are where only root may run them"; fi
check_fails 1 'No space left|cannot' "prepare: no folder can be made" "$prepare" --out /proc/kfuse "$TMP/a.txt"
