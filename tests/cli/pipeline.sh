# The whole pipeline on a real model: SmolLM2-135M as the target, tiny models as the sources,
# two passages of text; every stage twice, the second time "up to date".
. tests/lib.sh

smol=$(model smollm2-135m)
if [ -z "$smol" ]; then skip "the pipeline on a real model" "no smollm2-135m.gguf: run data/fetch.sh model smollm2-135m data/models/smollm2-135m.gguf"; exit; fi
W=$TMP/w
python3 - "$TMP/text.jsonl" <<'END'
import json, sys
text = {"prose": "It was a bright cold day in April, and the clocks were striking thirteen. Nobody looked up.\n" * 2,
        "c": "static int add(int a, int b)\n{\n\treturn a + b; /* caf\u00e9 \u2603 */\n}\n" * 3}
with open(sys.argv[1], "w") as f:
    for domain, t in text.items():
        f.write(json.dumps({"id": domain + "/1", "domain": domain, "text": t}) + "\n")
END
twice() { # NAME CMD...: runs, then runs again and must say that there is nothing to do
	local name=$1; shift
	check "$name" "$@"
	"$@" >"$TMP/again" 2>&1
	check "$name: up to date the second time" grep -q "up to date" "$TMP/again"
}
twice "prepare" "$BIN/kf-prepare" --out "$W/corpus" --shards 2 "$TMP/text.jsonl"
twice "extract the target" "$BIN/kf-extract" --model "$smol" --corpus "$W/corpus" --out "$W/smol"
for s in gemma3-tiny qwen2-tiny; do
	twice "extract $s" "$BIN/kf-extract" --model tests/models/$s --corpus "$W/corpus" --out "$W/$s"
	twice "align $s" "$BIN/kf-align" --source "$W/$s" --target "$W/smol" --out "$W/aligned-$s"
done
twice "align with dtw" "$BIN/kf-align" --source "$W/gemma3-tiny" --target "$W/smol" --out "$W/dtw" --method dtw --vocab-map exact
twice "fuse" "$BIN/kf-fuse" --target "$W/smol" --aligned "$W/aligned-gemma3-tiny" --aligned "$W/aligned-qwen2-tiny" --out "$W/targets"
twice "train" "$BIN/kf-train" --model "$smol" --targets "$W/targets" --out "$W/fused" --lambda 0.5 --epochs 2 --batch-tokens 256 --lr 1e-4
# A GGUF pivot and a folder: all of one model's change is that model.
twice "merge" "$BIN/kf-merge" --pivot "$smol" --models "$W/fused" --out "$W/merged" --method task-arithmetic
check "the pivot's chat template is there" grep -q '"chat_template"' "$W/merged/tokenizer_config.json"
check "a pivot from GGUF and a folder go together" python3 - "$W/merged/model.safetensors" "$W/fused/model.safetensors" <<'END'
import array, json, struct, sys
def tensors(path):
    raw = open(path, "rb").read()
    n = struct.unpack("<Q", raw[:8])[0]
    return {k: memoryview(raw)[8 + n + t["data_offsets"][0]:8 + n + t["data_offsets"][1]]
            for k, t in json.loads(raw[8:8 + n]).items() if k != "__metadata__"}
a, b = map(tensors, sys.argv[1:])
assert a.keys() == b.keys()
for name in a:  # 1 in 997 of the values, beside rounding of the change
    x, y = array.array("f", bytes(a[name])), array.array("f", bytes(b[name]))
    assert all(abs(p - q) <= 1e-6 * (abs(q) + 1) for p, q in zip(x[::997], y[::997], strict=True)), name
END
check "the log has a line a step with its fields" python3 - "$W/fused/log.jsonl" <<'END'
import json, sys
steps = [r for r in map(json.loads, open(sys.argv[1])) if "step" in r and "loss" in r and "grad_norm" in r]
assert len(steps) == 2, steps
for r in steps:
    assert r["loss"] > 0 and r["grad_norm"] > 0 and r["lr"] >= 0 and r["tokens_per_second"] > 0, r
assert steps[1]["loss"] < steps[0]["loss"], steps
END
check "evaluate" "$BIN/kf-eval" --corpus "$W/corpus" --logits target="$W/smol" --model fused="$W/fused" --report "$TMP/report.json"
check "training on a text makes it likelier" python3 - "$TMP/report.json" <<'END'
import json, sys
bpb = json.load(open(sys.argv[1]))["bits_per_byte"]
assert set(bpb["fused"]) == {"prose", "c", "mean"}, bpb
assert 0.05 < bpb["fused"]["mean"] < bpb["target"]["mean"] < 4, bpb
END
"$BIN/kf-inspect" "$W/aligned-qwen2-tiny" --json >"$TMP/aligned.jsonl"
"$BIN/kf-inspect" "$W/qwen2-tiny" --json >"$TMP/source.jsonl"
check "aligned ce sums to the source's own, and q never above 1" python3 - "$TMP/source.jsonl" "$TMP/aligned.jsonl" <<'END'
import json, math, sys
assert open(sys.argv[1]).read().count("\n") == 2
for s, a in zip(open(sys.argv[1]), open(sys.argv[2]), strict=True):
    s, a = json.loads(s), json.loads(a)
    assert s["doc"] == a["doc"]
    own = sum(c for c in s["ce"] if c is not None)
    # Target tokens before the end of the source's first token are not covered.
    x0 = s["start"][1]
    ours = sum(c for c in a["ce"] if c is not None)
    first = next(p for p, c in enumerate(a["ce"]) if c is not None)
    # The sums speak of the same bytes where a target token starts at x0; always the case for ASCII words here or within one token's ce.
    if a["start"][first] == x0:
        assert abs(own - ours) < 0.01 * len(s["ce"]) + 1e-3, (own, ours)
    for ids, lps, tail in zip(a["top_ids"], a["top_logprobs"], a["tail"]):
        if ids: assert sum(map(math.exp, lps)) <= 1 + 1e-6 and -1e-6 <= tail <= 1
END
