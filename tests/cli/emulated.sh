# --backend cuda of kf-extract, kf-train and kf-eval, on the emulator (tests/emu): whole programs over our own kernels and the
# backend's host side, where there is no device.
. tests/lib.sh

EMU=$BIN/../emu
for i in $(seq 6); do
	echo "The miller's cat number $i said: in the year $((1700 + i * 7)) we'll see what the donkey has understood of it."
	echo "def count_$i(words): return {w: $i for w in words.split()}"
	echo
done >"$TMP/text.txt"
check "prepare" "$BIN/kf-prepare" --out "$TMP/corpus" --doc-bytes 300 "$TMP/text.txt"

extract() { # OUT MODEL OPTION...: unquantised, so that differences are the backend's
	local out=$1 model=$2; shift 2
	"${KF:-$EMU}/kf-extract" --model "tests/models/$model" --corpus "$TMP/corpus" --out "$out" --top-k 8 --precision f32 --threads 1 "$@"
}
# compare CPU CUDA WORST MEAN: cross-entropies and log-probabilities differ by no more nats.
compare() {
	"$BIN/kf-inspect" "$1" --json >"$TMP/a.jsonl" && "$BIN/kf-inspect" "$2" --json >"$TMP/b.jsonl" &&
		python3 - "$TMP/a.jsonl" "$TMP/b.jsonl" "$3" "$4" <<'END'
import json, sys
worst, total, n = 0, 0, 0
for a, b in zip(*(map(json.loads, open(f)) for f in sys.argv[1:3]), strict=True):
    if "doc" not in a: continue
    assert (a["doc"], a["tokens"]) == (b["doc"], b["tokens"])
    for x, y in zip(a["ce"], b["ce"], strict=True):
        if x is None: continue
        n += 1
        total += abs(x - y)
        worst = max(worst, abs(x - y))
    for i, j, p, q in zip(a["top_ids"], b["top_ids"], a["top_logprobs"], b["top_logprobs"], strict=True):
        d = dict(zip(i, p))
        worst = max([worst] + [abs(d[t] - v) for t, v in zip(j, q) if t in d] + [abs(v - w) for v, w in zip(p, q)])
print(f"{n} positions, {worst:.2g} nats at most, {total / n:.2g} in the mean")
assert n > 100 and worst <= float(sys.argv[3]) and total / n <= float(sys.argv[4])
END
}
for n in llama-tiny qwen2-tiny gemma3-tiny; do
	KF=$BIN check "$n: cpu" extract "$TMP/$n.cpu" $n --backend cpu --compute f32
	check "$n: cuda, f32" extract "$TMP/$n.f32" $n --backend cuda --compute f32
	check "$n: cuda, f32: as the CPU" compare "$TMP/$n.cpu" "$TMP/$n.f32" 1e-4 1e-5
done
check "cuda, bf16" extract "$TMP/bf16" llama-tiny --backend cuda
check "cuda, bf16: near the CPU" compare "$TMP/llama-tiny.cpu" "$TMP/bf16" 1 0.05
KF=$BIN check_fails 1 'built without CUDA' "without CUDA it says so" extract "$TMP/none" llama-tiny --backend cuda

check "targets" "$BIN/kf-extract" --model tests/models/llama-tiny --corpus "$TMP/corpus" --out "$TMP/logits" --top-k 8
train() { # OUT OPTION...; EXEC=exec train ... &: in place of the subshell
	local out=$1; shift
	${EXEC:-} "${KF:-$EMU}/kf-train" --model tests/models/llama-tiny --targets "${TARGETS:-$TMP/logits}" --out "$out" --lr 3e-3 \
		--batch-tokens ${BATCH:-200} --micro-tokens ${MICRO:-100} --epochs 2 --lambda 0.5 --threads 1 --progress none "$@"
}
# losses A B SHARE: the two runs' losses, step by step, differ by no larger share, and fall.
losses() {
	python3 - "$1/log.jsonl" "$2/log.jsonl" "$3" <<'END'
import json, sys
a, b = ([r["loss"] for r in map(json.loads, open(f)) if "loss" in r] for f in sys.argv[1:3])
worst = max(abs(x / y - 1) for x, y in zip(a, b, strict=True))
print(len(a), "steps", worst)
assert len(a) > 4 and a[-1] < a[0] and worst <= float(sys.argv[3]), (a, b)
END
}
KF=$BIN check "train: cpu" train "$TMP/t.cpu" --backend cpu --compute f32
check "train: cuda, f32" train "$TMP/t.f32" --backend cuda --compute f32
check "train: cuda, f32: the CPU's losses" losses "$TMP/t.cpu" "$TMP/t.f32" 1e-4
check "train: cuda, bf16" train "$TMP/t.bf16" --backend cuda --save-every 1
check "train: cuda, bf16: near the CPU's losses" losses "$TMP/t.cpu" "$TMP/t.bf16" 1e-2
# A layer takes about 800 bytes a token: of the two layers 1 MB keeps none of so many tokens.
for i in $(seq 3); do sed "s/cat/& of $i/" "$TMP/text.txt"; done >"$TMP/long.txt"
check "train: prepare a longer text" "$BIN/kf-prepare" --out "$TMP/long" --doc-bytes 300 "$TMP/long.txt"
check "train: its targets" "$BIN/kf-extract" --model tests/models/llama-tiny --corpus "$TMP/long" --out "$TMP/long.logits" --top-k 8
at_once() { TARGETS=$TMP/long.logits BATCH=100000 MICRO=100000 train "$@" --backend cuda --max-steps 1; }
check "train: cuda, layers kept" at_once "$TMP/t.kept" --keep-mb 0
check "train: cuda, layers run again" at_once "$TMP/t.again" --keep-mb 1
check "train: cuda, layers run again: enough of them" test "$(grep -o '"tokens":[0-9]*' "$TMP/t.again/log.jsonl" | cut -d: -f2)" -gt 1400
check_same "train: cuda, layers run again: the same model" "$TMP/t.kept/model.safetensors" "$TMP/t.again/model.safetensors"

# Killed at random moments, the same command ends with the same bytes: master weights and moments come back from the device.
kill_again "train: cuda, killed again and again" "$TMP/t.killed" 2 200 train "$TMP/t.killed" --backend cuda --save-every 1
check "train: cuda, killed, then run to the end" train "$TMP/t.killed" --backend cuda --save-every 1
check_same "train: cuda, killed: the same model" "$TMP/t.bf16/model.safetensors" "$TMP/t.killed/model.safetensors"

# Questions, for what follows.
cat >"$TMP/tasks.jsonl" <<'LINES'
{"task": "quiz", "kind": "choice"}
{"prompt": "The colour of snow is", "choices": ["white", "black", "a deep and lasting green"], "answer": 0}
{"prompt": "Birds", "choices": ["fly", "swim", "read", "fly away to the south"], "answer": 3}
{"task": "sums", "kind": "match", "normalize": "number", "max_tokens": 12, "stop": ["\n"]}
{"prompt": "1 + 1 =", "answer": 2}
{"prompt": "Two and two and two and two and two and two are", "answer": ["ten", "12"]}
{"prompt": "2 + 2 =", "answer": ["4", "four"]}
LINES

# ---- a device that fails, and one with too little memory ----

# The n-th thing that is asked of the device fails, and all that come after: the run stops and says at which step; a checkpoint that it
# names is whole, for the next run goes on from it. In the end the model is that of a run in which nothing failed.
luck=() at=0
for n in 60 600 450 30 900 1100; do
	KF_EMU_FAIL_AT=$n train "$TMP/t.luck" --backend cuda --save-every 1 >"$TMP/.out" 2>"$TMP/.err" && break
	status=$? had=$at
	at=$(compgen -G "$TMP/t.luck/state/step-*.ckpt" | sort | sed -n '$s/.*step-0*\([0-9]*\).ckpt/\1/p')
	grep -q 'emulated device failed' "$TMP/.err" && [ $status = 1 ] && [ "${at:=0}" -ge "$had" ] && [ ! -e "$TMP/t.luck/config.json" ] ||
		luck+=("failure $n: status $status, checkpoint $at: $(cat "$TMP/.err")")
	sed -nE 's/.*checkpoint of step ([0-9]+) in .* stands.*/\1/p' "$TMP/.err" >>"$TMP/stands"
done
if [ ${#luck[@]} = 0 ] && [ "$at" -ge 2 ] && [ "$(wc -l <"$TMP/stands")" -ge 2 ]; then ok "train: a device that fails, again and again"
else not_ok "train: a device that fails, again and again" "${luck[@]}" "checkpoint $at"; fi
check_fails 1 '^kf-train: step [0-9]+, documents? [0-9, and more]+: .*the emulated device failed.*checkpoint of step [0-9]+ in .* stands' \
	"train: step, documents and checkpoint are named" env KF_EMU_FAIL_AT=700 "$EMU/kf-train" --model tests/models/llama-tiny \
	--targets "$TMP/logits" --out "$TMP/t.named" --lr 3e-3 --batch-tokens 200 --micro-tokens 100 --threads 1 --progress none --backend cuda --save-every 1
check "train: then it does not" train "$TMP/t.luck" --backend cuda --save-every 1
check_same "train: as if nothing had failed" "$TMP/t.bf16/model.safetensors" "$TMP/t.luck/model.safetensors"

shards() { compgen -G "$1/shard-*.mdb" | wc -l; }
"$BIN/kf-prepare" --quiet --out "$TMP/parts" --doc-bytes 300 --shards 4 "$TMP/text.txt"
halves() { # OUT
	"$EMU/kf-extract" --model tests/models/llama-tiny --corpus "$TMP/parts" --out "$1" --top-k 8 --threads 1 --backend cuda --batch-tokens 100 --quiet
}
check "extract: in four shards" halves "$TMP/whole"
n=100
until KF_EMU_FAIL_AT=$n halves "$TMP/luck" 2>"$TMP/said" || [ "$(shards "$TMP/luck")" -gt 0 ] || [ $n -gt 5000 ]; do n=$((n + 100)); done
check "extract: a device that fails leaves finished shards, and says so" grep -q 'documents [0-9]* to [0-9]*: .*emulated device failed' "$TMP/said"
check "extract: some, not all ($(shards "$TMP/luck"))" test "$(shards "$TMP/luck")" -gt 0 -a "$(shards "$TMP/luck")" -lt 4 -a ! -e "$TMP/luck/manifest.json"
check "extract: the rest" halves "$TMP/luck"
for s in "$TMP"/whole/shard-*.mdb; do check_same "extract: as if nothing had failed: ${s##*/}" "$s" "$TMP/luck/${s##*/}"; done

# little BYTES CMD...: on a device with so much memory.
little() { env KF_EMU_MEMORY="$1" "${@:2}"; }
x=("$EMU/kf-extract" --model tests/models/llama-tiny --corpus "$TMP/corpus" --out "$TMP/little" --threads 1 --backend cuda --quiet)
t=("$EMU/kf-train" --model tests/models/llama-tiny --targets "$TMP/logits" --out "$TMP/little.t" --threads 1 --progress none --backend cuda)
e=("$EMU/kf-eval" --model tests/models/llama-tiny --threads 1 --progress none --backend cuda)
tail -n +4 "$TMP/tasks.jsonl" >"$TMP/sums.jsonl"
RING=67108864   # bytes that the backend takes for itself
check_fails 1 'host sends: 67.1 MB are needed, 1.0 MB of 1.0 are free.*--batch-tokens' "extract: next to no memory" little 1000000 "${x[@]}"
check_fails 1 'weights take [0-9.e-]+ GB of the cuda backend.s memory, and [0-9.e-]+ GB are free.*--stream yes' "extract: no room for the weights" \
	little $((RING + 50000)) "${x[@]}" --stream no
check_fails 1 'activations of a batch: [0-9.]+ MB of the cuda backend.s are needed, [0-9.]+ MB are free.*--batch-tokens' \
	"extract: no room for a batch, streamed or not" little $((RING + 50000)) "${x[@]}" --batch-tokens 4096
check "extract: weights that have no room are streamed" little $((RING + 1100000)) "${x[@]}" --batch-tokens 100
check_fails 1 'training .* takes [0-9.e-]+ GB .*weights .*gradients .*masters .*moments .*[0-9.e-]+ GB are free.*--moments 8bit' \
	"train: no room for weights and moments" little $((RING + 300000)) "${t[@]}"
check_fails 1 'activations of a batch: [0-9.]+ MB of the cuda backend.s are needed, [0-9.]+ MB are free.*--micro-tokens' "train: no room for a batch" \
	little $((RING + 1000000)) "${t[@]}"
check_fails 1 'keys and values of [0-9]+ tokens: [0-9.]+ MB .*needed, [0-9.]+ MB are free.*--cache-mb.*--max-tokens' "eval: no room for the cache" \
	little $((RING + 100000)) "${e[@]}" --tasks "$TMP/sums.jsonl"
check_fails 1 'weights take .*are free.*--backend cpu' "eval: no room for the weights" little $((RING + 50000)) "${e[@]}" --corpus "$TMP/corpus"

# ---- evaluation: whole texts, endings that begin alike, and texts that are generated ----
evaluate() { # OUT OPTION...
	local out=$1; shift
	"${KF:-$EMU}/kf-eval" --model tests/models/llama-tiny --model tests/models/gemma3-tiny --tasks "$TMP/tasks.jsonl" --outputs "$out" \
		--threads 1 --progress none "$@"
}
# outputs A B NATS: the same texts, and log-probabilities that differ by no more.
outputs() {
	python3 - "$1" "$2" "$3" <<'END'
import json, sys
worst, texts = 0, 0
for a, b in zip(*(map(json.loads, open(f)) for f in sys.argv[1:3]), strict=True):
    for x, y in zip(a.pop("logprobs", []), b.pop("logprobs", []), strict=True): worst = max(worst, abs(x - y))
    if "tokens" in a: texts += a["tokens"]
    assert a == b, (a, b)
print(f"{texts} tokens generated, log-probabilities differ by {worst:.2g} nats")
assert texts > 20 and worst <= float(sys.argv[3])
END
}
KF=$BIN check "eval: cpu" evaluate "$TMP/e.cpu" --backend cpu --compute f32
check "eval: cuda, f32" evaluate "$TMP/e.f32" --backend cuda --compute f32
check "eval: cuda, f32: the CPU's texts" outputs "$TMP/e.cpu" "$TMP/e.f32" 1e-3
check "eval: cuda, one text at once, small batches" evaluate "$TMP/e.small" --backend cuda --compute f32 --cache-mb 1 --batch-tokens 8
check "eval: cuda, one text at once, small batches: the same texts" outputs "$TMP/e.f32" "$TMP/e.small" 1e-3
check "eval: cuda, bf16, sampled" evaluate "$TMP/e.bf16" --backend cuda --temperature 1 --seed 3

bits() { # OUT BACKEND PROGRAM: bits a byte of a corpus
	"$3" --model tests/models/llama-tiny --corpus "$TMP/corpus" --backend "$2" --compute f32 --threads 1 --progress none --report "$1"
}
check "eval: a corpus, cpu" bits "$TMP/bits.cpu" cpu "$BIN/kf-eval"
check "eval: a corpus, cuda" bits "$TMP/bits.cuda" cuda "$EMU/kf-eval"
check "eval: a corpus: the CPU's bits" python3 -c 'import json, sys
a, b = (json.load(open(f))["bits_per_byte"]["llama-tiny"]["mean"] for f in sys.argv[1:])
assert abs(a - b) < 1e-5, (a, b)' "$TMP/bits.cpu" "$TMP/bits.cuda"
