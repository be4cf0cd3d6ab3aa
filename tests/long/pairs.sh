# All six ordered pairs of the three real models, on the demo's text and on hostile text: the
# aligned ce of a text sums to the source's own log-likelihood of the same bytes, and no distribution
# sums above 1. Once with numbers as they are (f32), once as they are stored (packed).
. tests/lib.sh

models=(smollm2-135m gemma3-270m qwen2.5-coder-0.5b)
for m in "${models[@]}"; do
	if [ -z "$(model $m)" ]; then skip "six pairs of real models" "no $m.gguf: run data/fetch.sh model $m data/models/$m.gguf"; exit; fi
done
python3 - "$TMP/hostile.jsonl" <<'END'
import json, sys
texts = {
 "emoji": "family \U0001F468\u200d\U0001F469\u200d\U0001F467\u200d\U0001F466, flag \U0001F1E9\U0001F1EA, skin \U0001F44D\U0001F3FD and \u2603\ufe0f.\n",
 "cjk": "\u6f22\u5b57\u3068\u304b\u306a\u4ea4\u3058\u308a\u6587\u3001\u4e2d\u6587\u5b57\u7b26\uff0c\ud55c\uad6d\uc5b4 \ubb38\uc7a5\u3002\n",
 "marks": "e\u0301 a\u0308\u0323 Z\u0351\u036b\u0343a\u0327l\u0334g\u0321o\u0335 \u1e9b\u0323 \u212b\n",
 "control": "a\u0001b\u0002\u007f\u0085\u00a0\u200b\ufeffc\u0000d\r\n\te\u000b\u000cf\u001b[31m\n",
 "spaces": "x" + " " * 300 + "y" + "\n" * 80 + "\t" * 50 + "z" + "a" * 400 + "\n",
 "specials": "<|im_start|>user\n<bos><eos></s><|endoftext|> [INST] <unused12> <0x0A>\n",
 "digits": "3.14159265358979 1234567890123 \u0661\u0662\u0663 \u00bd \u2167 x\u00b2\n",
 "mixed": "\u041f\u0440\u0438\u0432\u0435\u0442 \u0645\u0631\u062d\u0628\u0627 \u05e9\u05dc\u05d5\u05dd \u0928\u092e\u0938\u094d\u0924\u0947 na\u00efve fa\u00e7ade \u00df\u017f\n",
 "one": "a", "accent": "\u00e9",
}
with open(sys.argv[1], "w") as f:
    for name, t in texts.items():
        f.write(json.dumps({"id": name, "domain": "hostile", "text": t}) + "\n")
END
printf 'caf\xe9 \xff\xfe broken \xe2\x82 tail \xf0\x9f\x98\n' > "$TMP/invalid.txt"
inputs=("$TMP/hostile.jsonl" "$TMP/invalid.txt")
for d in prose docs python c; do
	if [ -f data/text/$d.jsonl ]; then head -n 2 data/text/$d.jsonl > "$TMP/$d.jsonl"; inputs+=("$TMP/$d.jsonl"); fi
done
check "prepare hostile text" "$BIN/kf-prepare" --out "$TMP/corpus" --domain hostile --normalize none --shards 1 "${inputs[@]}"
for precision in f32 packed; do
	for m in "${models[@]}"; do
		check "extract $m, $precision" "$BIN/kf-extract" --model "$(model $m)" --corpus "$TMP/corpus" --out "$TMP/$precision/$m" --precision $precision
		"$BIN/kf-inspect" "$TMP/$precision/$m" --json > "$TMP/$precision.$m.jsonl"
	done
	for s in "${models[@]}"; do for t in "${models[@]}"; do
		[ $s = $t ] && continue
		check "align $s to $t, $precision" "$BIN/kf-align" --source "$TMP/$precision/$s" --target "$TMP/$precision/$t" --out "$TMP/$precision/$s.$t"
		"$BIN/kf-inspect" "$TMP/$precision/$s.$t" --json > "$TMP/aligned.jsonl"
		check "$s to $t, $precision: ce telescopes, q sums to at most 1" python3 - "$TMP/$precision.$s.jsonl" "$TMP/aligned.jsonl" $precision <<'END'
import json, math, sys
packed = sys.argv[3] == "packed"
docs = worst = most = 0
for s, a in zip(open(sys.argv[1]), open(sys.argv[2]), strict=True):
    s, a = json.loads(s), json.loads(a)
    assert s["doc"] == a["doc"] and s["bytes"] == a["bytes"]
    for p, (ids, lps, tail) in enumerate(zip(a["top_ids"], a["top_logprobs"], a["tail"])):
        if ids:
            q = math.fsum(map(math.exp, lps))
            assert q <= 1 + 1e-9, (a["id"], p, q)
            assert abs(q + tail - 1) < 1e-4, (a["id"], p, q, tail)
            most = max(most, q)
    # From the first byte where both have a token's start and the aligned ce is known.
    own = {b: i for i, b in reversed(list(enumerate(s["start"][:-1]))) if s["ce"][i] is not None}
    begin = next((p for p, b in enumerate(a["start"][:-1]) if b in own and all(c is not None for c in a["ce"][p:])), None)
    if begin is None:
        continue
    theirs, ours = s["ce"][own[a["start"][begin]]:], a["ce"][begin:]
    x, y = math.fsum(theirs), math.fsum(ours)
    limit = (len(theirs) + len(ours)) / 512 if packed else 1e-6 * abs(x) + 2e-6 * (len(theirs) + len(ours)) + 1e-4
    assert abs(x - y) <= limit, (a["id"], x, y, limit)
    worst = max(worst, abs(x - y) / max(1, len(ours)))
    docs += 1
assert docs >= 10, docs
print("%d documents, largest difference %.2e nats a token, largest sum of q %.9f" % (docs, worst, most))
END
		sed 's/^/#   /' "$TMP/.out"
	done; done
done
