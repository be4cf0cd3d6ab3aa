# kf-inspect: what it prints of the golden sets, documents, damage, wrong usage.
. tests/lib.sh
I=$BIN/kf-inspect G=tests/golden
for d in $G/*/; do
	d=${d%/} name=$(basename "$d")
	"$I" "$d" --json --path >"$TMP/json" 2>&1; check_same "JSON of $name" "$d.jsonl" "$TMP/json"
	"$I" "$d" >"$TMP/txt" 2>&1; check_same "summary of $name" "$d.txt" "$TMP/txt"
	check "verify $name" "$I" "$d" --verify
	check "sizes of $name" "$I" "$d" --sizes
done
check "JSON has the fields of each kind, and no others" python3 - "$I" $G <<'END'
import json, subprocess, sys
head = {"doc", "id", "piece", "domain", "bytes"}
stream = head | {"bos", "tokens", "start", "ce", "top_ids", "top_logprobs"}
for name, fields in (("corpus", head | {"text"}), ("logits", stream), ("aligned", stream | {"tail"}),
        ("corpus-chat", head | {"text", "messages"}), ("logits-chat", stream | {"context"}),
        ("targets-chat", stream | {"tail", "context"})):
    out = subprocess.run([sys.argv[1], f"{sys.argv[2]}/{name}", "--json"], capture_output=True, check=True).stdout
    docs = [json.loads(l) for l in out.decode("utf-8").splitlines()]
    assert [d["doc"] for d in docs] == [0, 1, 2, 3]
    for d in docs:
        assert set(d) - {"weight"} == fields, set(d) ^ fields
        if "messages" in d:
            assert d["messages"][0]["start"] == 0 and d["messages"][-1]["end"] == d["bytes"]
            assert all(a["end"] == b["start"] for a, b in zip(d["messages"], d["messages"][1:]))
            assert {m["role"] for m in d["messages"]} <= {"system", "user", "assistant"}
        if name.startswith("corpus"): continue
        n = len(d["tokens"])
        assert len(d["start"]) == n + 1 and len(d["ce"]) == n and len(d["top_ids"]) == n + 1 == len(d["top_logprobs"])
        assert all(len(i) == len(l) for i, l in zip(d["top_ids"], d["top_logprobs"]))
        if name == "logits" and not d["bos"]: assert d["ce"][0] is None and d["top_ids"][0] == [] == d["top_logprobs"][0]
        for p, c in enumerate(d.get("context", [])):
            assert not c or (d["top_ids"][p] == [] and (p == n or d["ce"][p] is None))
            assert c or p == n or name == "targets-chat" or d["ce"][p] is not None
        if "tail" in d: assert all((t is None) == (i == []) for t, i in zip(d["tail"], d["top_ids"]))
    if name == "corpus": assert "\ufffd\ufffd" in docs[3]["text"]
END
"$I" $G/logits --json --doc 2 >"$TMP/two"; sed -n 3p $G/logits.jsonl | python3 -c 'import json,sys
d = json.loads(sys.stdin.readline()); [d.pop(k, None) for k in ("path_nlm", "extra_ids", "extra_logprobs")]; assert d == json.load(open(sys.argv[1]))' "$TMP/two" && ok "one document as JSON" || not_ok "one document as JSON"
check "one document for people" sh -c "'$I' $G/logits --doc 1 | grep -q 'document 1'"
printf '{"id": "a\\u001b[31mred", "text": "x\\u009b\\ty \\u001b[41m"}\n' | "$BIN/kf-prepare" --quiet --out "$TMP/escapes" -
check "of what a terminal obeys nothing but lines and tabs is shown" test "$("$I" "$TMP/escapes" --doc 0)" = "$(printf 'document 0, id "a\357\277\275[31mred", piece 0, domain "", 11 bytes\nx\357\277\275\ty \357\277\275[41m')"
check "a broken pipe is no error" bash -c "set -o pipefail; for i in 1 2 3; do '$I' $G/logits --json; done | head -c 100 >/dev/null; [ \${PIPESTATUS[0]} -ne 1 ]"
bash -c "'$I' $G/logits-f32 --json; echo \$? >$TMP/status" | head -c 1 >/dev/null
check "status of a broken pipe" test "$(cat "$TMP/status")" = 0
check_fails 1 "no document 9" "a document that is not there" "$I" $G/logits --doc 9
check_fails 1 "no such folder" "a folder that is not there" "$I" "$TMP/nowhere"
check_fails 1 "no manifest.json" "a folder that is no set" "$I" "$TMP"
check_fails 2 "one folder" "no folder" "$I"
check_fails 2 "give both" "--path without --json" "$I" $G/logits --path
check_fails 2 "give one of" "--sizes and --json" "$I" $G/logits --sizes --json
check_fails 2 "give one of" "--verify and --doc" "$I" $G/logits --verify --doc 1
check_fails 2 "nonsense" "an unknown option" "$I" --nonsense $G/logits
cp -r $G/logits "$TMP/lost"; rm "$TMP/lost/shard-00000.mdb"
check_fails 1 "shard-00000.mdb is missing; kf-inspect --repair" "a shard that is gone, for whoever reads it" "$BIN/kf-export" --set "$TMP/lost" --out "$TMP/lost.jsonl"
if [ -e /dev/full ]; then check_fails 1 "No space left" "output to a full disk" sh -c "'$I' $G/logits --json >/dev/full"; fi
cp -r $G/logits "$TMP/bad"
# Without a manifest, another number of shards takes none of those that are there.
for i in 1 2 3 4 5 6; do echo "{\"text\": \"text $i\"}"; done >"$TMP/six.jsonl"
"$BIN/kf-prepare" --quiet --out "$TMP/six" --shards 2 "$TMP/six.jsonl"
sed -i 's/"docs": 6/"docs": 7/' "$TMP/six/manifest.json"
repair_beside() { (flock 9; exec "$I" "$TMP/six" --repair) 9>>"$TMP/six/lock"; }
check_fails 1 "is being written" "--repair of a set that somebody writes" repair_beside
check "which takes nothing away" test -e "$TMP/six/manifest.json"
"$I" "$TMP/six" --repair >/dev/null 2>&1
check "a damaged manifest was taken away" test ! -e "$TMP/six/manifest.json" -a -e "$TMP/six/shard-00001.mdb"
check "another number of shards" "$BIN/kf-prepare" --quiet --out "$TMP/six" --shards 3 "$TMP/six.jsonl"
check "every document once" test "$("$I" "$TMP/six" --json | grep -o 'text [0-9]' | sort | uniq -c | xargs)" = "1 text 1 1 text 2 1 text 3 1 text 4 1 text 5 1 text 6"
printf 'x' | dd of="$TMP/bad/shard-00001.mdb" bs=1 seek=9000 conv=notrunc 2>/dev/null
check_fails 1 "shard-00001.mdb: .*(checksum|damaged)" "a flipped byte is found and the shard named" "$I" "$TMP/bad" --verify
cp -r "$TMP/bad" "$TMP/bad-again"
"$I" "$TMP/bad-again" --repair >"$TMP/repaired" 2>&1
check "--repair alone says what it took, and shows no document" test "$(wc -l <"$TMP/repaired")" -le 4 -a ! -e "$TMP/bad-again/shard-00001.mdb"
truncate -s 5000 "$TMP/bad/shard-00000.mdb"
check_fails 1 "shard-00000.mdb: has 5000 bytes where the manifest says" "a shard cut short" "$I" "$TMP/bad" --json
rm "$TMP/bad/manifest.json"
check_fails 1 "not a shard set" "no manifest" "$I" "$TMP/bad"
cp $G/logits/manifest.json "$TMP/bad/manifest.part.json"
check_fails 1 "not complete; run the command" "a half-written set" "$I" "$TMP/bad"
truncate -s 300 "$TMP/bad/manifest.part.json"
check_fails 1 "manifest.part.json" "what a half-written set is to become is damaged" "$I" "$TMP/bad" --verify
check "--repair takes that away" "$I" "$TMP/bad" --repair
check "and nothing else" test ! -e "$TMP/bad/manifest.part.json" -a -e "$TMP/bad/shard-00001.mdb"
