# What kf-train minimises and how it goes about it, computed anew from what kf-inspect says of logits: the losses, whatever --loss, --tail and
# --temperature; the courses of lambda and of the learning rate; clipping; seeds; the type of what is written.
. tests/lib.sh

for i in $(seq 8); do
	echo "The miller's cat number $i said: in the year $((1700 + i * 7)) we'll see what the donkey has understood of it."
	echo
done >"$TMP/text.txt"
check "prepare" "$BIN/kf-prepare" --out "$TMP/corpus" --doc-bytes 120 "$TMP/text.txt"

# train TARGETS OUT OPTION...: all documents are a step
train() {
	local targets=$1 out=$2; shift 2
	"$BIN/kf-train" --model "${MODEL:-tests/models/llama-tiny}" --targets "$targets" --out "$out" --batch-tokens ${BATCH:-100000} --lr ${LR:-1e-3} \
		--clip ${CLIP:-0} --threads 1 --compute f32 --progress none "$@"
}
# logits MODEL OUT K: unquantised
logits() {
	"$BIN/kf-extract" --model "$1" --corpus "$TMP/corpus" --out "$2" --top-k "$3" --precision f32 --compute f32 --threads 1 --quiet &&
		"$BIN/kf-inspect" "$2" --json >"$2.jsonl"
}
cat >"$TMP/kf_numbers.py" <<'END'
import array, json, math, struct, sys
def log(run): return [json.loads(l) for l in open(run + "/log.jsonl")]
def docs(logits): return [d for d in map(json.loads, open(logits + ".jsonl")) if "doc" in d]
def header(f):
    n = struct.unpack("<Q", f[:8])[0]
    h = json.loads(f[8:8 + n])
    h.pop("__metadata__", None)
    return h, 8 + n
def weights(run):
    f = open(run + "/model.safetensors", "rb").read()
    h, at = header(f)
    assert all(t["dtype"] == "F32" for t in h.values())
    return {k: array.array("f", f[at + t["data_offsets"][0]:at + t["data_offsets"][1]]) for k, t in h.items()}
def moved(a, b): return max(abs(x - y) for k in a for x, y in zip(a[k], b[k], strict=True))
def near(a, b, share): assert abs(a - b) <= share * abs(b), (a, b)
END
export PYTHONPATH=$TMP

# expect RUN SOURCE TARGET LOSS TAIL TEMPERATURE LAMBDA: the first step's losses, of candidates q that SOURCE has and what TARGET, asked for its whole
# vocabulary, gives these: position by position.
expect() {
	python3 - "$@" <<'END'
from kf_numbers import *
run, source, target, loss, tail = sys.argv[1:6]
tau, share = map(float, sys.argv[6:])
clm, fusion, total, rows = [], [], 0, 0
for s, t in zip(docs(source), docs(target), strict=True):
    assert s["tokens"] == t["tokens"]
    for i in range(len(s["top_ids"])):
        if not s["top_ids"][i]: continue
        q = [math.exp(v) for v in s["top_logprobs"][i]]
        lp = dict(zip(t["top_ids"][i], t["top_logprobs"][i]))
        near(sum(map(math.exp, lp.values())), 1, 1e-4)
        if tail == "rest":
            p = [math.exp(lp[k]) for k in s["top_ids"][i]]
            q, p = ([v ** (1 / tau) for v in o + [1 - sum(o)]] for o in (q, p))
            p = [v / sum(p) for v in p]
        else:
            q = [v ** (1 / tau) for v in q]
            z = sum(math.exp(v / tau) for v in lp.values())
            p = [math.exp(lp[k] / tau) / z for k in s["top_ids"][i]]
        q = [v / sum(q) for v in q]
        f = tau ** 2 * sum(-a * (math.log(b) - (math.log(a) if loss == "kl" else 0)) for a, b in zip(q, p, strict=True))
        ce = t["ce"][i] if i < len(t["ce"]) else None
        fusion.append(f)
        if ce is not None: clm.append(ce)
        total += (1 - share) * f + (share * ce if ce is not None else 0)
r = log(run)[0]
mean = lambda v: sum(v) / len(v)
print(len(fusion), "positions:", r["clm"], mean(clm), r["fusion"], mean(fusion), r["loss"], total / len(fusion))
assert r["step"] == 1 and len(fusion) > 150 and len(clm) < len(fusion) and r["lambda"] == share
near(r["clm"], mean(clm), 1e-4)
if loss == "kl" and source == target.replace(".all", ""): assert abs(r["fusion"]) < 1e-4 and abs(mean(fusion)) < 1e-4
else: near(r["fusion"], mean(fusion), 1e-4)
near(r["loss"], total / len(fusion), 1e-4)
END
}

# ---- what is minimised: a model's own logits, then another's ----
own=$TMP/own gemma=$TMP/gemma other=$TMP/other
check "logits" logits tests/models/llama-tiny "$own" 8
check "logits of all tokens" logits tests/models/llama-tiny "$own.all" 400
check "its own logits" train "$own" "$TMP/r.own" --lambda 0.3 --max-steps 1
check "its own logits: the entropy" expect "$TMP/r.own" "$own" "$own.all" ce rest 1 0.3
check "its own logits, kl" train "$own" "$TMP/r.kl" --lambda 0.3 --max-steps 1 --loss kl
check "its own logits, kl: nothing" expect "$TMP/r.kl" "$own" "$own.all" kl rest 1 0.3
check "with BOS: logits" logits tests/models/gemma3-tiny "$gemma" 8
check "with BOS: logits of all tokens" logits tests/models/gemma3-tiny "$gemma.all" 448
MODEL=tests/models/gemma3-tiny check "with BOS" train "$gemma" "$TMP/r.gemma" --lambda 0.3 --max-steps 1
check "with BOS: the entropy" expect "$TMP/r.gemma" "$gemma" "$gemma.all" ce rest 1 0.3

LR=1e-2 check "another model" train "$own" "$TMP/teacher" --lambda 1 --epochs 20
check "another model's logits" logits "$TMP/teacher" "$other" 8
for loss in ce kl; do for tail in rest renormalize; do for t in 1 2; do
	name="another's logits, $loss, $tail, temperature $t"
	check "$name" train "$other" "$TMP/r.$loss.$tail.$t" --lambda 0.6 --max-steps 1 --loss $loss --tail $tail --temperature $t
	check "$name: the loss" expect "$TMP/r.$loss.$tail.$t" "$other" "$own.all" $loss $tail $t 0.6
done; done; done

# ---- courses: with both betas 0 a step moves the weights by the learning rate, the way their gradient points ----
course() { # OUT OPTION...: a step an epoch
	local out=$1; shift
	train "$other" "$out" --lambda 0.5 --epochs 4 --keep-epochs --warmup ${WARMUP:-0} --beta1 0 --beta2 0 --weight-decay 0 "$@"
}
# moves RUN RATE...: the log has these rates, and step by step the weight that moved most has moved by them.
moves() {
	python3 - "$@" <<'END'
from kf_numbers import *
run, rates = sys.argv[1], list(map(float, sys.argv[2:]))
w = [weights(d) for d in ["tests/models/llama-tiny"] + [f"{run}/epoch-{i + 1}" for i in range(len(rates))]]
by = [moved(a, b) for a, b in zip(w, w[1:])]
print(by, rates)
for r, m, x in zip(log(run), by, rates, strict=True):
    near(r["lr"], x, 1e-6)
    near(m, x, 1e-2)
END
}
check "constant" course "$TMP/constant" --lr-schedule constant
check "constant: the steps' lengths" moves "$TMP/constant" 1e-3 1e-3 1e-3 1e-3
check "linear" course "$TMP/linear" --lr-schedule linear
check "linear: the steps' lengths" moves "$TMP/linear" 1e-3 7.5e-4 5e-4 2.5e-4
check "cosine" course "$TMP/cosine" --lr-schedule cosine
check "cosine: the steps' lengths" moves "$TMP/cosine" 1e-3 8.535534e-4 5e-4 1.464466e-4
LR=4e-3 WARMUP=0.5 check "warm-up" course "$TMP/warmup" --lr-schedule constant
check "warm-up: the steps' lengths" moves "$TMP/warmup" 2e-3 4e-3 4e-3 4e-3

# lambdas RUN LAMBDA...: the log has these, and its loss is made of clm and fusion with them.
lambdas() {
	python3 - "$own" "$@" <<'END'
from kf_numbers import *
run, want = sys.argv[2], list(map(float, sys.argv[3:]))
fusion = sum(bool(ids) for d in docs(sys.argv[1]) for ids in d["top_ids"])
clm = sum(ce is not None for d in docs(sys.argv[1]) for ce in d["ce"])
for r, share in zip(log(run), want, strict=True):
    near(r["lambda"], share, 1e-9)
    near(r["loss"] * fusion, share * clm * r["clm"] + (1 - share) * fusion * r["fusion"], 1e-6)
END
}
check "lambda stays" lambdas "$TMP/constant" 0.5 0.5 0.5 0.5
check "lambda rises" train "$other" "$TMP/decay" --lambda 0.2 --lambda-schedule decay --epochs 4
check "lambda rises: the log" lambdas "$TMP/decay" 0.2 0.4 0.6 0.8

# ---- clipping: the first moment after one step is a tenth of the gradient that was taken ----
clipped() { # SHARE: of the gradient's norm that --clip allows
	local norm clip
	norm=$(grep -m 1 -o '"grad_norm":[0-9.e+-]*' "$TMP/constant/log.jsonl" | cut -d: -f2)
	clip=$(python3 -c "print($norm * $1)")
	CLIP=$clip train "$other" "$TMP/clip$1" --lambda 0.5 --epochs 2 --beta1 0.9 --save-every 1 --keep-state &&
		python3 - "$TMP/clip$1" "$norm" "$1" <<'END'
from kf_numbers import *
run, norm, share = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])
f = open(run + "/state/step-000000001.ckpt", "rb").read()
at = 12 + struct.unpack("<I", f[8:12])[0]
# of each parameter value, first and second moment
sizes = {k: (t["data_offsets"][1] - t["data_offsets"][0]) // 4 for k, t in header(open(run + "/model.safetensors", "rb").read())[0].items()}
assert len(f) == at + 12 * sum(sizes.values()) + 16
squares, value = 0, {}
for k, n in sizes.items():
    value[k] = array.array("f", f[at:at + 4 * n])
    squares += sum(m * m for m in array.array("f", f[at + 4 * n:at + 8 * n]))
    at += 12 * n
assert moved(value, weights(run)) < 2e-3   # they are the parameters, in this order
near(log(run)[0]["grad_norm"], norm, 1e-5)
near(math.sqrt(squares), 0.1 * norm * (min(share, 1) if share else 1), 1e-3)
END
}
check "a gradient that is too long" clipped 0.5
check "a gradient that is not too long" clipped 2
check "a gradient of any length" clipped 0

# ---- seeds: of the order of the documents ----
seeded() { BATCH=60 train "$other" "$TMP/seed.$1" --seed "$2" --quiet; }
check "seed 7" seeded a 7
check "seed 7 again" seeded b 7
check "seed 8" seeded c 8
check_same "one seed, one model" "$TMP/seed.a/model.safetensors" "$TMP/seed.b/model.safetensors"
differ() { cmp -s "$TMP/seed.a/model.safetensors" "$TMP/seed.c/model.safetensors"; test $? = 1; }
check "another seed, another model" differ

# ---- the type that is written: in the file, and where transformers looks for it ----
typed() { # DTYPE BITS NAME SHARE
	train "$other" "$TMP/type.$1" --max-steps 1 --dtype "$1" && python3 - "$TMP/type.$1" "$TMP/type.f32" "$2" "$3" "$4" <<'END'
from kf_numbers import *
run, f32, file, name, share = *sys.argv[1:5], float(sys.argv[5])
f = open(run + "/model.safetensors", "rb").read()
h, at = header(f)
assert {t["dtype"] for t in h.values()} == {file}, h
c = json.load(open(run + "/config.json"))
assert name in (c.get("dtype"), c.get("torch_dtype")) and {c.get("dtype", name), c.get("torch_dtype", name)} == {name}, c
# and the numbers are those
for k, w in weights(f32).items():
    raw = f[at + h[k]["data_offsets"][0]:at + h[k]["data_offsets"][1]]
    if file == "F32": v = array.array("f", raw)
    elif file == "F16": v = struct.unpack(f"<{len(raw) // 2}e", raw)
    else: v = array.array("f", b"".join(b"\0\0" + raw[i:i + 2] for i in range(0, len(raw), 2)))
    assert all(abs(a - b) <= share * abs(b) + 1e-7 for a, b in zip(v, w, strict=True)), k
END
}
check "f32" typed f32 F32 float32 0
check "bf16" typed bf16 BF16 bfloat16 0.004
check "f16" typed f16 F16 float16 0.0005
