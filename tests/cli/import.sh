# kf-import: what kf-export wrote, responses of servers, records with less in them, and everything that can be wrong with them.
. tests/lib.sh

I=$BIN/kf-import P=tests/parity/import M=tests/models
"$BIN/kf-prepare" --quiet --out "$TMP/corpus" --shards 2 $P/text.jsonl
content() { grep -o '"content": *"[0-9a-f]*"' "$1/manifest.json" | tail -n 1; }
same_content() { [ "$(content "$1")" = "$(content "$2")" ]; }
extract() { "$BIN/kf-extract" --quiet --corpus "$TMP/corpus" "$@"; }
import() { "$I" --corpus "$TMP/corpus" "$@"; }
says() { # REGEX CMD...: succeeds, and standard error matches
	local regex=$1; shift
	"$@" >"$TMP/.said" 2>&1 && grep -Eq -- "$regex" "$TMP/.said"
}

# ---- round trips ----
for m in gemma3-tiny qwen2-tiny llama-tiny; do
	for precision in packed f32; do
		[ $m$precision = llama-tinyf32 ] && continue
		s=$TMP/$m-$precision
		extract --model $M/$m --out "$s" --precision $precision --top-k 6
		"$BIN/kf-export" --quiet --set "$s" --out "$s.jsonl"
		check "$m, $precision: imported again" import --quiet --input "$s.jsonl" --tokenizer $M/$m --out "$s-again" --precision $precision --top-k 6
		check "$m, $precision: the same content" same_content "$s" "$s-again"
	done
done
extract --model $M/qwen2-tiny --out "$TMP/nopath" --byte-path no
"$BIN/kf-export" --quiet --set "$TMP/nopath" --out "$TMP/nopath-dir"
tac "$TMP"/nopath-dir/part-*.jsonl >"$TMP/backwards.jsonl"
check "no masses inside tokens, documents in another order" says "no masses inside tokens" import --input "$TMP/backwards.jsonl" --tokenizer $M/qwen2-tiny/tokenizer.json --out "$TMP/nopath-again"
check "the same content" same_content "$TMP/nopath" "$TMP/nopath-again"
check "a folder of files, one part" import --quiet --input "$TMP/nopath-dir" --tokenizer $M/qwen2-tiny --out "$TMP/parts" --shard 1/2
check_fails 1 "not complete" "a part is no set" "$BIN/kf-inspect" "$TMP/parts"
check "the other part" import --quiet --input "$TMP/nopath-dir" --tokenizer $M/qwen2-tiny --out "$TMP/parts" --shard 0/2 --threads 1
check "parts are the whole" same_content "$TMP/nopath" "$TMP/parts"
check "again: nothing to do" says "up to date" import --input "$TMP/nopath-dir" --tokenizer $M/qwen2-tiny --out "$TMP/parts"
rm "$TMP/parts/shard-00001.mdb"
check "a shard that went away is made again" import --quiet --input "$TMP/nopath-dir" --tokenizer $M/qwen2-tiny --out "$TMP/parts"
check "as it was" same_content "$TMP/nopath" "$TMP/parts"
"$BIN/kf-prepare" --quiet --out "$TMP/corpus3" --shards 3 $P/text.jsonl
cp -r "$TMP/parts" "$TMP/three"
check "the same text in another number of shards" "$I" --quiet --corpus "$TMP/corpus3" --input "$TMP/nopath-dir" --tokenizer $M/qwen2-tiny --out "$TMP/three" --replace
for s in nopath three; do "$BIN/kf-inspect" "$TMP/$s" --json >"$TMP/$s.json"; done
check "the same content" cmp "$TMP/nopath.json" "$TMP/three.json"
check_fails 1 "top-k" "another top-k into the same set" import --input "$TMP/nopath-dir" --tokenizer $M/qwen2-tiny --out "$TMP/parts" --top-k 4
cat >"$TMP/chat.jsonl" <<'TEXT'
{"id": "x", "messages": [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "The miller."}, {"role": "user", "content": "And?"}, {"role": "assistant", "content": "One cat."}]}
TEXT
"$BIN/kf-prepare" --quiet --out "$TMP/corpus-chat" "$TMP/chat.jsonl"
"$BIN/kf-extract" --quiet --model $M/gemma3-tiny --corpus "$TMP/corpus-chat" --out "$TMP/chat" --chat-template mistral
"$BIN/kf-export" --quiet --set "$TMP/chat" --out "$TMP/chat.jsonl"
check "a conversation" "$I" --quiet --corpus "$TMP/corpus-chat" --input "$TMP/chat.jsonl" --tokenizer $M/gemma3-tiny --out "$TMP/chat-again"
check "the same content" same_content "$TMP/chat" "$TMP/chat-again"

# ---- servers: within float32 of what kf-extract computes ----
import --input $P/vllm-batch.jsonl --tokenizer $M/gemma3-tiny --out "$TMP/vllm-batch" --precision f32 --top-k 6 --name teacher >"$TMP/out" 2>&1
check "vLLM's batch output" test -e "$TMP/vllm-batch/manifest.json"
check "the model's name" grep -q '"model": *"teacher"' "$TMP/vllm-batch/manifest.json"
check "vLLM's own form" says "2 of|positions" import --input $P/vllm-bare.jsonl --tokenizer $M/qwen2-tiny --out "$TMP/vllm-bare" --precision f32 --top-k 6 --format vllm
check "completions with echo" says "name no token" import --input $P/openai.jsonl --tokenizer $M/llama-untied --out "$TMP/openai" --precision f32 --top-k 6
check "which record has the first of them, and what to do" grep -qE 'The first: .*openai\.jsonl, line [0-9]+, token [0-9]+: ".+"\. If they are many, look whether --tokenizer' "$TMP/.said"
python3 - $P/openai.jsonl "$TMP/lost.jsonl" <<'END'
import json, sys
lines = [json.loads(l) for l in open(sys.argv[1])]
for l in lines:
    for row in l["choices"][0]["logprobs"]["top_logprobs"]:
        for name in [n for n in row or {} if "\ufffd" in n]: del row[name]
for i, at in (1, 7), (0, 5): lines[i]["choices"][0]["logprobs"]["top_logprobs"][at]['a "name" of none'] = -20.0
lines.reverse()
with open(sys.argv[2], "w") as f:
    for l in lines: f.write(json.dumps(l) + "\n")
END
check "the first is that of the first document, on any thread" says 'lost.jsonl, line 3, token 5: "a \.name\. of none"' import --input "$TMP/lost.jsonl" --tokenizer $M/llama-untied --out "$TMP/lost" --top-k 6 --threads 4
# A vocabulary that has the token U+FFFD: a half character is not that token.
mkdir "$TMP/fffd"
python3 - $M/llama-untied/tokenizer.json "$TMP/fffd/tokenizer.json" <<'END'
import json, sys
t = json.load(open(sys.argv[1]))
v, merges = t["model"]["vocab"], t["model"]["merges"]
for name in [n for n, i in v.items() if i > 425]: del v[name]
v.update({"\u00ef\u00bf": 426, "\u00ef\u00bf\u00bd": 427})      # bytes ef bf, ef bf bd
merges[-2:] = ["\u00ef", "\u00bf"], ["\u00ef\u00bf", "\u00bd"]
json.dump(t, open(sys.argv[2], "w"))
END
check "completions for a vocabulary with U+FFFD" says "name no token" import --input $P/openai.jsonl --tokenizer "$TMP/fffd" --out "$TMP/fffd-set" --precision f32 --top-k 6
check "have the same candidates" same_content "$TMP/openai" "$TMP/fffd-set"
printf '{"id": "r", "text": "a\\ufffdb"}\n' >"$TMP/replaced.jsonl"
"$BIN/kf-prepare" --quiet --out "$TMP/corpus-replaced" "$TMP/replaced.jsonl"
printf '%s\n' '{"doc": 0, "tokens": ["a", "\ufffd", "b"], "logprobs": [-1, -8, -3], "top": [{"a": -1}, {"\ufffd": -1, "b": -2, "bytes:\\xef\\xbf\\xbd": -8}, {"b": -3}]}' >"$TMP/replaced.jsonl"
replaced() { "$I" --quiet --corpus "$TMP/corpus-replaced" --input "$TMP/replaced.jsonl" --tokenizer "$TMP/fffd" --out "$TMP/replaced" --top-k 3 && "$BIN/kf-inspect" "$TMP/replaced" --json | grep -o '"top_ids":\[[^]]*\],\[[^]]*\]'; }
same "nor where the text has it: its bytes say that it is" "$(replaced)" '"top_ids":[[64,0,0],[65,427,0]'
# Of one that was generated: it stands in the echo.
python3 - $P/openai.jsonl "$TMP/echo.jsonl" <<'END'
import json, sys
with open(sys.argv[2], "w") as f:
    for i, l in enumerate(map(json.loads, open(sys.argv[1]))):
        c = l["choices"][0]
        c["text"] += [" next", "", "x"][i % 3]
        for k, v in ("tokens", [" next", "", "x"][i % 3]), ("token_logprobs", -1.5), ("top_logprobs", {" next": -1.5}): c["logprobs"][k].append(v)
        c["logprobs"].pop("text_offset", None)
        f.write(json.dumps(l) + "\n")
END
check "completions with echo and a token generated" import --quiet --input "$TMP/echo.jsonl" --tokenizer $M/llama-untied --out "$TMP/echo" --precision f32 --top-k 6
check "say the same of the text" python3 - "$BIN/kf-inspect" "$TMP/echo" "$TMP/openai" <<'END'
import json, subprocess, sys
a, b = ([json.loads(l) for l in subprocess.run([sys.argv[1], d, "--json"], capture_output=True).stdout.splitlines()] for d in sys.argv[2:])
assert a and [(x["tokens"], x["ce"], x["top_ids"][:-1]) for x in a] == [(x["tokens"], x["ce"], x["top_ids"][:-1]) for x in b]
END
extract --model $M/llama-untied --out "$TMP/llama-untied-f32" --precision f32 --top-k 6
check "the same numbers as kf-extract" python3 - "$BIN/kf-inspect" "$TMP" <<'END'
import json, subprocess, sys
def show(d):
    out = subprocess.run([sys.argv[1], sys.argv[2] + "/" + d, "--json"], capture_output=True, check=True).stdout
    return [json.loads(l) for l in out.splitlines()]
for got, want in (("vllm-batch", "gemma3-tiny-f32"), ("vllm-bare", "qwen2-tiny-f32"), ("openai", "llama-untied-f32")):
    some = 0
    for a, b in zip(show(got), show(want), strict=True):
        for k in ("doc", "id", "piece", "domain", "bytes", "bos", "tokens", "start"):
            assert a[k] == b[k], (got, k, a[k], b[k])
        for x, y in zip(a["ce"], b["ce"], strict=True):
            assert (x is None) == (y is None) and (x is None or abs(x - y) < 1e-4), (got, x, y)
        n = len(a["tokens"])
        for p in range(n + 1):
            mine = [(i, l) for i, l in zip(a["top_ids"][p], a["top_logprobs"][p]) if l > -1e300]
            assert mine or not b["top_ids"][p] or (p == n and got != "vllm-batch"), (got, p)
            theirs = dict(zip(b["top_ids"][p], b["top_logprobs"][p]))
            for i, l in mine[:5]:
                # the sixth may be the token itself, and names of half characters say nothing
                if i in theirs: assert abs(theirs[i] - l) < 1e-4, (got, p, i)
                else: assert got == "openai" or p < n and i == a["tokens"][p], (got, p, i)
                some += i in theirs
    assert some > 100
END
check "what the server generated next is told of the end" python3 -c '
import json, subprocess, sys
d = json.loads(subprocess.run([sys.argv[1], sys.argv[2], "--json"], capture_output=True).stdout.splitlines()[2])
assert len([x for x in d["top_logprobs"][-1] if x > -1e300]) == 5' "$BIN/kf-inspect" "$TMP/vllm-batch"
# As many tokens generated as there may be, and the prompt echoed before them.
python3 - $P/vllm-batch.jsonl "$TMP/vllm-more.jsonl" "$TMP/vllm-echo.jsonl" <<'END'
import json, sys
more, echo = (open(f, "w") for f in sys.argv[2:])
for l in map(json.loads, open(sys.argv[1])):
    choice = l["response"]["body"]["choices"][0]
    top = choice["logprobs"]["top_logprobs"]
    top += [{"token_id:7": -0.5}] * 99
    more.write(json.dumps(l) + "\n")
    top[:0] = [row and {"token_id:" + i: v["logprob"] for i, v in row.items()} for row in choice["prompt_logprobs"]]
    echo.write(json.dumps(l) + "\n")
END
for s in vllm-more vllm-echo; do
	check "$s: more generated" import --quiet --input "$TMP/$s.jsonl" --tokenizer $M/gemma3-tiny --out "$TMP/$s" --precision f32 --top-k 6
	check "$s: the first of it tells of the end" same_content "$TMP/vllm-batch" "$TMP/$s"
done
check "which kf-align can use" says "warning: .*has no masses inside tokens" "$BIN/kf-align" --source "$TMP/vllm-batch" --target "$TMP/qwen2-tiny-f32" --out "$TMP/aligned"
check "and kf-fuse" "$BIN/kf-fuse" --quiet --target "$TMP/qwen2-tiny-f32" --aligned "$TMP/aligned" --out "$TMP/targets" --tail renormalize
check "as a target, too" "$BIN/kf-align" --quiet --source "$TMP/gemma3-tiny-f32" --target "$TMP/vllm-bare" --out "$TMP/onto"
check "fused with itself" "$BIN/kf-fuse" --quiet --target "$TMP/vllm-bare" --aligned "$TMP/onto" --out "$TMP/kd" --tail renormalize

printf '{"id": "n", "text": "a\\u0000b"}\n' >"$TMP/nul-text.jsonl"
"$BIN/kf-prepare" --quiet --out "$TMP/corpus-nul" "$TMP/nul-text.jsonl"
printf '%s\n' '{"doc": 0, "text": "a\u0000b", "tokens": ["a", "\u0000", "b"], "logprobs": [-1, -2, -3], "top": [{"a": -1, "\\u0000": -3}, {"\u0000": -2}, {"b": -3}]}' >"$TMP/nul.jsonl"
check "NUL in a text, in tokens and in candidates' names" "$I" --quiet --corpus "$TMP/corpus-nul" --input "$TMP/nul.jsonl" --tokenizer $M/gemma3-tiny --out "$TMP/nul" --top-k 2

printf '{"id": 17, "text": "ab"}\n' >"$TMP/number.jsonl"
"$BIN/kf-prepare" --quiet --out "$TMP/corpus-number" "$TMP/number.jsonl"
record() { printf '{%s, "tokens": ["a", "b"], "logprobs": [-1, -2], "top": [{"a": -1}, {"b": -2}]}\n' "$1" >"$TMP/record.jsonl"; }
by_number() { record "$1"; "$I" --quiet --corpus "$TMP/corpus-number" --input "$TMP/record.jsonl" --tokenizer $M/gemma3-tiny --out "$TMP/number$2" --top-k 1; }
check "an id that is a number" by_number '"id": 17' 1
check "as a string" by_number '"id": "17"' 2
check_fails 1 'has another id than "18"' "another number beside the document's" by_number '"doc": 0, "id": 18' 3

# Files' names are ids, of any bytes; JSON has U+FFFD for those that are no character.
mkdir "$TMP/named"
for f in caf$'\xe9' caf$'\xc3\xa9' plain; do echo "text of $f" >"$TMP/named/$f.txt"; done
"$BIN/kf-prepare" --quiet --out "$TMP/corpus-named" "$TMP/named"
"$BIN/kf-extract" --quiet --model $M/qwen2-tiny --corpus "$TMP/corpus-named" --out "$TMP/named-logits"
"$BIN/kf-export" --quiet --set "$TMP/named-logits" --out "$TMP/named.jsonl"
sed 's/"doc":[0-9]*,//' "$TMP/named.jsonl" >"$TMP/named-ids.jsonl"
for f in named named-ids; do
	check "ids that are not UTF-8, $f" "$I" --quiet --corpus "$TMP/corpus-named" --input "$TMP/$f.jsonl" --tokenizer $M/qwen2-tiny --out "$TMP/$f-again"
	check "$f: the same content" same_content "$TMP/named-logits" "$TMP/$f-again"
done
sed 's/caf[^.]*\.txt/caf\xef\xbf\xbd\xef\xbf\xbd.txt/' "$TMP/named.jsonl" >"$TMP/named-other.jsonl"
check_fails 1 'has another id than ".*/caf' "another name beside the document's" "$I" --quiet --corpus "$TMP/corpus-named" --input "$TMP/named-other.jsonl" --tokenizer $M/qwen2-tiny --out "$TMP/named-other"

# ---- what is wrong with a record ----
python3 tests/cli/bad_records.py "$TMP" $P >"$TMP/cases"
while IFS=$'\t' read -r name model regex; do
	check_fails 1 "$regex" "bad record: $name" import --input "$TMP/case-$name.jsonl" --tokenizer "$M/$model" --out "$TMP/no" --top-k 6
done <"$TMP/cases"
check "a server's text offsets that fit" import --quiet --input "$TMP/offsets.jsonl" --tokenizer $M/llama-untied --out "$TMP/offsets" --top-k 6
check "ids, log-probabilities and an object a position are enough" import --quiet --input "$TMP/short.jsonl" --tokenizer $M/qwen2-tiny --out "$TMP/short" --top-k 6
check "and give the same" python3 - "$BIN/kf-inspect" "$TMP/short" "$TMP/qwen2-tiny-packed" <<'END'
import subprocess, sys
a, b = (subprocess.run([sys.argv[1], d, "--json"], capture_output=True).stdout for d in sys.argv[2:])
assert a and a == b
END
piped() { import --input <(cat "$TMP/short.jsonl") --tokenizer $M/qwen2-tiny --out "$TMP/no"; }
check_fails 1 "/dev/fd/[0-9]* is a pipe or a device, .* write what it gives to a file" "records from a pipe" piped
check_fails 1 "not read from standard input" "records from standard input" import --input - --tokenizer $M/qwen2-tiny --out "$TMP/no"
gzip -k "$TMP/short.jsonl"
check_fails 1 "short.jsonl.gz is packed .*unpack it" "records that are packed" import --input "$TMP/short.jsonl.gz" --tokenizer $M/qwen2-tiny --out "$TMP/no"
printf '\x50\x2a\x4d\x18\x04\0\0\0size' >"$TMP/short.jsonl.zst"
check_fails 1 "short.jsonl.zst is packed .*unpack it" "packed by pzstd" import --input "$TMP/short.jsonl.zst" --tokenizer $M/qwen2-tiny --out "$TMP/no"
check_fails 1 "vllm|prompt_logprobs" "the wrong --format" import --input "$TMP/short.jsonl" --tokenizer $M/qwen2-tiny --out "$TMP/no" --format vllm
# Where SentencePiece has other bytes for a character than the text.
printf '{"messages": [{"role": "user", "content": "Show bars"}, {"role": "assistant", "content": "Load: \xe2\x96\x81\xe2\x96\x82 ok"}]}\n' > "$TMP/bar.jsonl"
"$BIN/kf-prepare" --quiet --out "$TMP/bar" "$TMP/bar.jsonl"
"$BIN/kf-extract" --quiet --model $M/endtoend/llama2 --corpus "$TMP/bar" --out "$TMP/bar-logits" --chat-template llama-2
"$BIN/kf-export" --quiet --set "$TMP/bar-logits" --out "$TMP/bar-out.jsonl"
check "a conversation whose tokens spell other bytes" "$I" --quiet --corpus "$TMP/bar" --input "$TMP/bar-out.jsonl" --tokenizer $M/endtoend/llama2 --out "$TMP/bar-again"
check_fails 1 "another tokenizer" "another model's tokenizer" import --input "$TMP/short.jsonl" --tokenizer $M/llama-tiny --out "$TMP/no"
sed 's/"context":\[[0-9,]*\],//' "$TMP/chat.jsonl" >"$TMP/chat-bare.jsonl"
check_fails 1 "conversation, for which" "a conversation without its context" "$I" --corpus "$TMP/corpus-chat" --input "$TMP/chat-bare.jsonl" --tokenizer $M/gemma3-tiny --out "$TMP/no"
sed '1s/"tokens":\[[0-9]*,/"tokens":["<bos>",/; t; s/"tokens": *\[[0-9]*,/"tokens": ["<bos>",/' "$TMP/chat.jsonl" >"$TMP/chat-names.jsonl"
check_fails 1 'chat-names.jsonl, line 1: token 0, "<bos>", is no id: of a conversation' "a conversation with strings for tokens" "$I" --corpus "$TMP/corpus-chat" --input "$TMP/chat-names.jsonl" --tokenizer $M/gemma3-tiny --out "$TMP/no"
check_fails 1 "neither a Hugging Face folder" "a tokenizer that is none" import --input "$TMP/short.jsonl" --tokenizer README.md --out "$TMP/no"
check_fails 1 "no such tokenizer" "a tokenizer that is not there" import --input "$TMP/short.jsonl" --tokenizer "$TMP/nowhere" --out "$TMP/no"
check_fails 1 "nowhere" "input that is not there" import --input "$TMP/nowhere" --tokenizer $M/qwen2-tiny --out "$TMP/no"
check_fails 1 "no file \*.jsonl" "a folder without records" import --input "$TMP/corpus" --tokenizer $M/qwen2-tiny --out "$TMP/no"
check_fails 2 "input" "no input" import --tokenizer $M/qwen2-tiny --out "$TMP/no"
check "nothing is left of failures" test ! -e "$TMP/no"

# Ids that are not unique tell no document.
printf '{"id": "a", "text": "one"}\n{"id": "a", "text": "two"}\n' | "$BIN/kf-prepare" --quiet --out "$TMP/twins" -
echo '{"id": "a", "piece": 0, "tokens": [1], "logprobs": [-1]}' >"$TMP/twins.jsonl"
twins() { "$BIN/kf-import" --corpus "$TMP/twins" --input "$TMP/twins.jsonl" --tokenizer tests/models/llama-tiny --out "$TMP/of-twins" --top-k 2; }
check_fails 1 'several documents with id "a" and piece 0: say which with "doc"' "two documents of one id and piece" twins
