# kf-extract on tiny models: what it stores, that batches, threads, parts and windows do not change it, and its errors.
. tests/lib.sh

M=tests/models
C=$TMP/corpus
python3 - "$TMP/text.jsonl" <<'END'
import json, sys
docs = ["It was a bright cold day in April, and the clocks were striking thirteen.\n" * 3,
        "static int add(int a, int b)\n{\n\treturn a + b; /* caf\u00e9 \u2603 \u65e5\u672c\u8a9e */\n}\n", "x", "<s>[INST] </s> \t  \n\n"]
with open(sys.argv[1], "w") as f:
    for i, t in enumerate(docs):
        f.write(json.dumps({"id": str(i), "domain": "d", "text": t}) + "\n")
END
"$BIN/kf-prepare" --quiet --out "$C" --shards 3 "$TMP/text.jsonl" || { not_ok "prepare a corpus"; exit; }
show() { "$BIN/kf-inspect" "$1" --json; }

# close NAME TOLERANCE SET SET: the same documents and tokens, numbers within the tolerance.
close() {
	show "$3" >"$TMP/a.jsonl"; show "$4" >"$TMP/b.jsonl"
	check "$1" python3 - "$2" "$TMP/a.jsonl" "$TMP/b.jsonl" <<'END'
import json, sys
tol = float(sys.argv[1])
def same(x, y, where):
    if isinstance(x, dict):
        assert x.keys() == y.keys(), where
        for k in x: same(x[k], y[k], where + "." + k)
    elif isinstance(x, list):
        assert len(x) == len(y), where
        for i, (u, v) in enumerate(zip(x, y)): same(u, v, f"{where}[{i}]")
    elif isinstance(x, float) or isinstance(y, float):
        assert abs(x - y) <= tol, (where, x, y)
    else:
        assert x == y, (where, x, y)
n = 0
for a, b in zip(open(sys.argv[2]), open(sys.argv[3]), strict=True):
    same(json.loads(a), json.loads(b), f"document {n}")
    n += 1
assert n == 4, n
END
}

for m in llama-tiny llama-untied qwen2-tiny gemma3-tiny; do
	x() { "$BIN/kf-extract" --quiet --model $M/$m --corpus "$C" "$@"; }
	check "$m: runs" x --out "$TMP/$m" --precision f32
	show "$TMP/$m" >"$TMP/show.jsonl"
	check "$m: every position has its distribution, positions without BOS excepted" python3 - "$TMP/show.jsonl" <<'END'
import json, math, sys
for line in open(sys.argv[1]):
    d = json.loads(line)
    n = len(d["tokens"])
    assert len(d["start"]) == n + 1 and d["start"][0] == 0 and d["start"][n] == d["bytes"]
    assert len(d["ce"]) == n and len(d["top_ids"]) == len(d["top_logprobs"]) == n + 1
    for p in range(n + 1):
        if p == 0 and not d["bos"]:
            assert d["ce"][0] is None and d["top_ids"][0] == []
            continue
        ids, lp = d["top_ids"][p], d["top_logprobs"][p]
        assert len(set(ids)) == 10 and lp == sorted(lp, reverse=True) and sum(map(math.exp, lp)) < 1.0001
        if p < n:
            assert d["ce"][p] > 0
            if d["tokens"][p] in ids: assert abs(lp[ids.index(d["tokens"][p])] + d["ce"][p]) < 1e-4
            else: assert -d["ce"][p] <= lp[-1] + 1e-4
END
	x --out "$TMP/$m-small" --precision f32 --batch-tokens 7 --threads 1
	close "$m: batches and threads change nothing" 2e-4 "$TMP/$m" "$TMP/$m-small"
	x --out "$TMP/$m-packed"
	close "$m: packed within 1/32 nat" 0.0313 "$TMP/$m" "$TMP/$m-packed"
done

# ---- other ways to compute ----
option() { python3 -c 'import json, sys; print(json.load(open(sys.argv[1] + "/manifest.json"))["options"].get(sys.argv[2]))' "$1" "$2"; }
has() { check "$1" test "$(option "$2" "$3")" = "$4"; }
for way in bf16 int8; do
	for m in llama-tiny gemma3-tiny; do
		x() { "$BIN/kf-extract" --quiet --model $M/$m --corpus "$C" --precision f32 --top-k 1 --byte-path no --compute $way "$@"; }
		check "$m: $way" x --out "$TMP/$m-$way"
		"$BIN/kf-extract" --quiet --model $M/$m --corpus "$C" --out "$TMP/$m-1" --precision f32 --top-k 1 --byte-path no
		show "$TMP/$m-1" >"$TMP/a.jsonl"; show "$TMP/$m-$way" >"$TMP/b.jsonl"
		check "$m: $way is near f32, and is not f32" python3 - "$TMP/a.jsonl" "$TMP/b.jsonl" $way <<'END'
import json, sys
off = [abs(x - y) for a, b in zip(*map(open, sys.argv[1:3]), strict=True) for x, y in zip(json.loads(a)["ce"], json.loads(b)["ce"]) if x]
most = 0.05 if sys.argv[3] == "bf16" else 0.2   # of random weights, which answer to the least rounding
assert 1e-6 < sum(off) / len(off) < most and max(off) < 10 * most, (sum(off) / len(off), max(off))
END
		x --out "$TMP/$m-$way-small" --batch-tokens 7 --threads 1
		show "$TMP/$m-$way-small" >"$TMP/a.jsonl"
		check "$m: $way: batches and threads change next to nothing" python3 - "$TMP/a.jsonl" "$TMP/b.jsonl" <<'END'
import json, sys
off = [abs(x - y) for a, b in zip(*map(open, sys.argv[1:]), strict=True) for x, y in zip(json.loads(a)["ce"], json.loads(b)["ce"]) if x]
assert max(off) < 5e-3, max(off)
END
	done
done
x() { "$BIN/kf-extract" --model $M/llama-tiny --corpus "$C" --precision f32 --top-k 1 --byte-path no "$@"; }
has "int8 is recorded" "$TMP/llama-tiny-int8" compute int8
has "and of which matrices" "$TMP/llama-tiny-int8" int8 all
x --out "$TMP/llama-tiny-int8" >"$TMP/again"
check "auto goes on with the way a set was made" grep -q "up to date" "$TMP/again"
check_fails 1 "option --compute: .int8. there, .f32. here" "another way into the same set" x --out "$TMP/llama-tiny-int8" --compute f32
check_fails 1 "option --int8: .all. there, .head. here" "other matrices into the same set" x --out "$TMP/llama-tiny-int8" --compute int8 --int8 head
check_fails 2 "must be all, or some of" "matrices that there are not" x --out "$TMP/no" --compute int8 --int8 head,feet
x --out "$TMP/small-auto" >/dev/null
has "a small corpus is run in f32" "$TMP/small-auto" compute f32
python3 - "$TMP/large.jsonl" <<'END'
import json, sys
with open(sys.argv[1], "w") as f:
    for i in range(40): f.write(json.dumps({"text": " ".join("%x" % (j * j * (i + 7)) for j in range(450))}) + "\n")
END
"$BIN/kf-prepare" --quiet --out "$TMP/large" --shards 2 "$TMP/large.jsonl"
x() { "$BIN/kf-extract" --model $M/llama-tiny --corpus "$TMP/large" --top-k 1 --byte-path no "$@"; }
check "auto on more text: one part" x --out "$TMP/auto" --shard 1/2
check "auto: the other part" x --out "$TMP/auto" --shard 0/2
check "auto: what was chosen is recorded, and is close" python3 - "$TMP/auto/manifest.json" <<'END'
import json, sys
m = json.load(open(sys.argv[1]))
way, kl = m["options"]["compute"], m["info"].get("kl")
assert way in ("f32", "bf16", "int8") and (way == "int8") == ("int8" in m["options"]), m["options"]
assert kl is None or 0 <= kl <= 1e-3, kl
END
x --out "$TMP/auto" --compute "$(option "$TMP/auto" compute)" --int8 "$(option "$TMP/auto" int8 | sed s/None/all/)" >"$TMP/again"
check "auto: the same as when it is named" grep -q "up to date" "$TMP/again"
check "kf-eval in int8" "$BIN/kf-eval" --model $M/llama-tiny --corpus "$C" --compute int8 --int8 head,out

x() { "$BIN/kf-extract" --model $M/qwen2-tiny --corpus "$C" "$@"; }
check "two parts" x --out "$TMP/parts" --precision f32 --shard 0/2
check_fails 1 "not complete" "one part is no set" "$BIN/kf-inspect" "$TMP/parts"
check "the other part" x --out "$TMP/parts" --precision f32 --shard 1/2
close "two parts are the whole" 0 "$TMP/parts" "$TMP/qwen2-tiny"
x --out "$TMP/parts" --precision f32 >"$TMP/again"
check "up to date the second time" grep -q "up to date" "$TMP/again"
check_fails 1 "top-k" "another top-k into the same set" x --out "$TMP/parts" --precision f32 --top-k 5
check_fails 1 "top-k 60000 is more than" "more candidates than tokens" x --out "$TMP/no" --top-k 60000
cp -r tests/models/gemma3-tiny "$TMP/beyond"
echo '{"<image_soft_token>": 448}' > "$TMP/beyond/added_tokens.json"
check "an added token beyond the embedding is none" "$BIN/kf-extract" --quiet --model "$TMP/beyond" --corpus "$TMP/corpus" --out "$TMP/beyond-logits"
check_fails 1 "context" "a context longer than the model's" x --out "$TMP/no" --context 1000000
check_fails 1 "nosuch" "a corpus that is not there" "$BIN/kf-extract" --model $M/qwen2-tiny --corpus "$TMP/nosuch" --out "$TMP/no"
check_fails 1 "nosuch" "a model that is not there" "$BIN/kf-extract" --model "$TMP/nosuch" --corpus "$C" --out "$TMP/no"
check_fails 1 "logits" "logits are no corpus" "$BIN/kf-extract" --model $M/qwen2-tiny --corpus "$TMP/parts" --out "$TMP/no"
check_fails 1 "cuda" "no GPU in this build" x --out "$TMP/no" --backend cuda
check_fails 2 "model" "the model is required" "$BIN/kf-extract" --corpus "$C" --out "$TMP/no"
check_fails 2 "top-k" "a negative top-k" x --out "$TMP/no" --top-k -1
check "nothing was left by the failures" test ! -e "$TMP/no"
check "without the byte path" x --out "$TMP/nopath" --byte-path no --precision f32

x --quiet --out "$TMP/windows" --precision f32 --context 16
show "$TMP/windows" >"$TMP/w.jsonl"; show "$TMP/qwen2-tiny" >"$TMP/f.jsonl"
cp -r tests/models/gemma3-tiny "$TMP/capped"
"$BIN/kf-extract" --quiet --model "$TMP/capped" --corpus "$TMP/corpus" --out "$TMP/of-capped"
sed -i 's/"final_logit_softcapping": null/"final_logit_softcapping": 2.0/' "$TMP/capped/config.json"
check_fails 1 "input model differs" "a model whose logits are capped is another one" "$BIN/kf-extract" --model "$TMP/capped" --corpus "$TMP/corpus" --out "$TMP/of-capped"

check "windows: as without them where both see everything, else at least 7 tokens of context" python3 - "$TMP/f.jsonl" "$TMP/w.jsonl" <<'END'
import json, sys
for a, b in zip(open(sys.argv[1]), open(sys.argv[2]), strict=True):
    a, b = json.loads(a), json.loads(b)
    assert a["tokens"] == b["tokens"]
    for p, (x, y) in enumerate(zip(a["ce"], b["ce"])):
        if p == 0: assert x is None and y is None
        elif p <= 16: assert abs(x - y) < 1e-4, (p, x, y)
        else: assert y is not None and y > 0
END
