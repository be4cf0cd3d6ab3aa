# kf-train as several processes: they compute what one does, keep and write its state in parts, end together, and any number of
# processes continues what others began. On the CPU, and on the emulator with what passes between devices.
. tests/lib.sh

MPI=$BIN/../mpi
if ! [ -x "$MPI/kf-train" ] || ! command -v mpirun >/dev/null; then
	skip "kf-train over MPI" "there is no MPI here: make deps MPI=1 installs it, make test then builds with it"; exit
fi
# As root, on fewer cores than processes, in a container: Open MPI has to be told (from 5 on, PRRTE); others do not read these.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1 \
	OMPI_MCA_hwloc_base_binding_policy=none OMPI_MCA_mpi_yield_when_idle=1 OMPI_MCA_btl_vader_single_copy_mechanism=none OMPI_MCA_btl=self,vader \
	PRTE_MCA_rmaps_default_mapping_policy=:oversubscribe PRTE_MCA_hwloc_default_binding_policy=none
case $BIN in *asan*) export ASAN_OPTIONS=detect_leaks=0;; esac   # what MPI itself keeps

text() { # LINES
	for i in $(seq $1); do
		echo "The miller's cat number $i said: in the year $((1700 + i * 7)) we'll see what the donkey has understood of it, and why."
		for _ in $(seq $((i % 4))); do echo "def count_$i(words): return {w: $i for w in words.split()}"; done
		echo
	done
}
text 20 >"$TMP/text.txt"
text 200 >"$TMP/more.txt"
check "prepare" "$BIN/kf-prepare" --out "$TMP/corpus" --doc-bytes 300 --shards 2 "$TMP/text.txt"
check "prepare more" "$BIN/kf-prepare" --out "$TMP/corpus.more" --doc-bytes 300 --shards 2 "$TMP/more.txt"
check "extract" "$BIN/kf-extract" --model tests/models/llama-tiny --corpus "$TMP/corpus" --out "$TMP/logits" --top-k 8
check "extract more" "$BIN/kf-extract" --model tests/models/llama-tiny --corpus "$TMP/corpus.more" --out "$TMP/logits.more" --top-k 8

# train N OUT OPTION...: in place of a subshell, so that killing that is killing it. N 0: the program as it is, without MPI.
train() (
	n=$1 out=$2; shift 2
	set -- --model tests/models/llama-tiny --targets "$TMP/logits${MORE:-}" --out "$out" --lr 1e-3 --batch-tokens ${BATCH:-400} \
		--micro-tokens 100 --epochs ${EPOCHS:-2} --threads 1 --progress none "$@"
	if [ $n = 0 ]; then exec "$BIN/kf-train" "$@"; fi
	exec mpirun -n "$n" "${KF:-$MPI/kf-train}" "$@"
)

# ---- as one process ----

full=(--lambda 0.5 --valid "$TMP/corpus" --clip 0.5)
check "one process" train 0 "$TMP/one" "${full[@]}"
clipped() { python3 -c 'import json, sys; n = [json.loads(l).get("grad_norm", 0) for l in open(sys.argv[1])]; assert max(n) > 0.5, n' "$1/log.jsonl"; }
check "one process: gradients were clipped" clipped "$TMP/one"
check "MPI, one process" train 1 "$TMP/mpi1" "${full[@]}"
check_same "MPI, one process: the same model, bit for bit" "$TMP/one/model.safetensors" "$TMP/mpi1/model.safetensors"
for n in 2 4; do
	check "$n processes" train $n "$TMP/p$n" "${full[@]}"
	check "$n processes: losses, norms, validation and weights of one" alike "$TMP/one" "$TMP/p$n" 1e-5 1e-6
done
check "2 processes again" train 2 "$TMP/p2again" "${full[@]}"
check_same "2 processes again: the same model, bit for bit" "$TMP/p2/model.safetensors" "$TMP/p2again/model.safetensors"

BATCH=1 EPOCHS=1 check "a document a step, one process" train 0 "$TMP/few" --lambda 0.3 --tail renormalize
BATCH=1 EPOCHS=1 check "a document a step, 4 processes" train 4 "$TMP/few4" --lambda 0.3 --tail renormalize
check "a document a step: fewer documents than processes change nothing" alike "$TMP/few" "$TMP/few4" 1e-5 1e-6
check "8-bit moments, one process" train 0 "$TMP/eight" --lambda 0.5 --moments 8bit
check "8-bit moments, 3 processes" train 3 "$TMP/eight3" --lambda 0.5 --moments 8bit
check "8-bit moments: the same rounding" alike "$TMP/eight" "$TMP/eight3" 1e-4 1e-4

# ---- by make, as on a cluster: programs of an MPI build, and what starts them ----

tiny_data "$TMP/data"
mkdir "$TMP/bin"; ln -s "$(realpath "$BIN")"/kf-* "$TMP/bin"; ln -sf "$(realpath "$MPI")/kf-train" "$TMP/bin"
made() { # WORK VARIABLE...: the folder of the model
	make -s train-fused WORK="$TMP/$1" "${@:2}" KFUSE_BIN="$TMP/bin" DATA="$TMP/data" TARGET=qwen2-tiny SOURCES=llama-tiny DOMAINS="a b" DOCS=8 VALID_DOCS=2 \
		EPOCHS=2 LR=1e-3 BATCH=100 THREADS=1 >"$TMP/made" && ln -sfn "$(tail -n 1 "$TMP/made")" "$TMP/$1.model"
}
check "make: one process" made alone
check "make TRAIN_RUN=mpirun: 3 processes" made three TRAIN_RUN="mpirun -n 3"
check "make TRAIN_RUN=mpirun: the same model" alike "$TMP/alone.model" "$TMP/three.model" 1e-5 1e-6

# ---- what is said, by whom ----

once() { train 4 "$TMP/said" --lambda 1 --max-steps 2 >"$TMP/said.out" 2>&1 && test "$(wc -l <"$TMP/said.out")" = 1 && grep -q "2 steps" "$TMP/said.out"; }
check "one of the processes prints" once
again() { train 2 "$TMP/said" --lambda 1 --max-steps 2 | grep -c "up to date" | grep -qx 1; }
check "again, with others: up to date" again
said=("$MPI/kf-train" --model tests/models/llama-tiny --targets "$TMP/logits" --out "$TMP/said" --progress none)
cp -r "$TMP/said" "$TMP/said.was"
check_fails 1 'cannot open the log' "2 processes that cannot begin" mpirun -n 2 "${said[@]}" --restart --log "$TMP/no/log"
check "take nothing away" diff -r "$TMP/said" "$TMP/said.was"
check "2 processes that can: --restart" mpirun -n 2 "${said[@]}" --restart --max-steps 1
replaced() { test "$(grep -c tokens_per_second "$TMP/said/log.jsonl")" = 1 -a ! -e "$TMP/said/state"; }
check "take what was there away" replaced
check_fails 1 'started as one of 2 processes, but this program was built without MPI' "without MPI it does not do the work twice" \
	mpirun -n 2 "$BIN/kf-train" --model tests/models/llama-tiny --targets "$TMP/logits" --out "$TMP/x"
# (One command for all: Open MPI 5.0.7, of Debian 13, dies of "mpirun -n 1 A : -n 1 B".)
other=("$MPI/kf-train" --model tests/models/llama-tiny --targets "$TMP/logits" --out "$TMP/x")
check_fails 1 'process 1 of 2: finds another model, targets' "processes that were given different options" \
	mpirun -n 2 bash -c 'exec "$@" --lr $((1 + OMPI_COMM_WORLD_RANK))e-3' - "${other[@]}"
check_fails 1 'no-such' "no such targets" mpirun -n 2 "$MPI/kf-train" --model tests/models/llama-tiny --targets "$TMP/no-such" --out "$TMP/x"
said_once() { test "$(grep -c 'kf-train:' "$TMP/.err")" = 1; }
said_once && ok "an error is said once" || not_ok "an error is said once" "$(cat "$TMP/.err")"

# A token that few documents have makes the loss no number, in the process that has one.
mkdir "$TMP/nan"; cp tests/models/llama-tiny/* "$TMP/nan"
broken() {
	"$BIN/kf-inspect" "$TMP/logits" --json | python3 -c '
import json, struct, sys
docs = [r["tokens"] for r in map(json.loads, sys.stdin) if "tokens" in r and "doc" in r]
seen = {}
for i, d in enumerate(docs):
    for t in set(d): seen.setdefault(t, []).append(i)
token = min(seen, key=lambda t: (len(seen[t]), t))
path = sys.argv[1] + "/model.safetensors"
f = bytearray(open(path, "rb").read())
n = struct.unpack("<Q", f[:8])[0]
t = json.loads(f[8:8 + n])["model.embed_tokens.weight"]
size = {"F32": 4, "BF16": 2, "F16": 2}[t["dtype"]]
at = 8 + n + t["data_offsets"][0] + token * t["shape"][1] * size
f[at:at + size] = {"F32": b"\xff\xff\x7f\x7f", "BF16": b"\x7f\x7f", "F16": b"\xff\x7b"}[t["dtype"]]
open(path, "wb").write(f)' "$TMP/nan"
}
check "a model that breaks on a few documents" broken
check_fails 1 '^kf-train: (process 1 of 2: )?step [0-9]+, document.*finite' "a loss that is no number: step and documents are named" \
	mpirun -n 2 "$MPI/kf-train" --model "$TMP/nan" --targets "$TMP/logits" --out "$TMP/x" --lambda 1 --batch-tokens 400 --quiet

# ---- stopped, killed, continued by others ----

# upto N OUT RECORDS SIGNAL WHOM: begin, and when the log has so many records send the signal to all, or to process number WHOM. Who they
# are is found out while they load, and the log is watched without starting anything: the steps are short. (Open MPI's
# mpirun, asked to end, passes it on, but no longer what the processes then say.)
upto() {
	local n=$1 out=$2 records=$3 signal=$4 whom=$5 pid p rank pids=() lines=()
	train "$n" "$out" "${full[@]}" --save-every 1 >"$TMP/upto.out" 2>"$TMP/upto.err" &
	pid=$!
	until [ "${#pids[@]}" -ge $((n ? n : 1)) ] || ! kill -0 $pid 2>/dev/null; do
		pids=()
		for p in $(pgrep -f -- "/kf-train .*--out $out "); do
			[ "$(readlink "/proc/$p/exe")" != "$(readlink -f "$(command -v mpirun)")" ] || continue
			rank=$(tr '\0' '\n' <"/proc/$p/environ" 2>/dev/null | sed -n 's/^OMPI_COMM_WORLD_RANK=//p')
			pids[${rank:-0}]=$p
		done
	done
	while [ "${#lines[@]}" -lt "$records" ] && kill -0 $pid 2>/dev/null; do
		[ ! -e "$out/log.jsonl" ] || mapfile -t lines <"$out/log.jsonl"
		read -r -t 0.005 <> <(:)
	done
	if [ "$whom" = all ]; then kill -"$signal" "${pids[@]}" 2>/dev/null; else kill -"$signal" "${pids[$whom]}" 2>/dev/null; fi
	wait $pid 2>/dev/null
	status=$?
}
export MORE=.more BATCH=2000 EPOCHS=5   # long enough to be hit
check "more text, one process" train 0 "$TMP/long" "${full[@]}"
upto 4 "$TMP/elastic" 3 KILL all
check "4 processes killed: parts are there" compgen -G "$TMP/elastic/state/step-*.ckpt.3-of-4"
upto 3 "$TMP/elastic" 8 TERM 1
if grep -q "^kf-train: process 1 of 3: stopped by SIGTERM" "$TMP/upto.err" && [ "$(grep -c '^kf-train:' "$TMP/upto.err")" = 1 ] && [ $status -ne 0 ]; then
	ok "3 processes go on, and stop together when one is asked to"
else not_ok "3 processes go on, and stop together when one is asked to" "status $status" "$(tail -n 5 "$TMP/upto.err")"; fi
BATCH=1 EPOCHS=1 upto 4 "$TMP/idle" 3 TERM 3
steps=$(grep -c tokens_per_second "$TMP/idle/log.jsonl")
if grep -q "^kf-train: process 3 of 4: stopped by SIGTERM" "$TMP/upto.err" && [ "$steps" -lt 100 ]; then ok "a process without documents is heard, too"
else not_ok "a process without documents is heard, too" "$steps steps" "$(tail -n 5 "$TMP/upto.err")"; fi
check "3 processes: parts are there" compgen -G "$TMP/elastic/state/step-*.ckpt.2-of-3"
# mpirun may have ended the other before it has said so; from Open MPI 5 on it mostly has.
for victim in 1 0; do
	said=
	for again in 0 1 2; do
		upto 2 "$TMP/elastic" $((20 - 5 * victim + again)) KILL $victim
		[ $status -ne 0 ] || break
		grep -Eq "^kf-train: step [0-9]+: process $victim of 2 \(pid [0-9]+ on .*\) died. The checkpoint of step [0-9]+ in .* stands|^prterun noticed" "$TMP/upto.err" && said=yes && break
	done
	if [ "$said" ]; then ok "2 processes go on; process $victim killed: the other says so and ends"
	else not_ok "2 processes go on; process $victim killed: the other says so and ends" "status $status" "$(tail -n 8 "$TMP/upto.err")"; fi
done
upto 0 "$TMP/elastic" 28 KILL all
check "one process went on" compgen -G "$TMP/elastic/state/step-*.ckpt"
cp -r "$TMP/elastic" "$TMP/damaged"
check "4 processes end it" train 4 "$TMP/elastic" "${full[@]}" --save-every 1
check "begun by 4, continued by 3, 2, 1 and 4: as one process" alike "$TMP/long" "$TMP/elastic" 1e-5 1e-6
check "nothing is left over" test ! -e "$TMP/elastic/state"

# A part that is damaged: the checkpoint before it.
upto 2 "$TMP/damaged" 36 KILL all
newest=$(compgen -G "$TMP/damaged/state/step-*.ckpt" | sort | tail -n 1)
if [ -e "$newest.1-of-2" ]; then
	printf 'X' | dd of="$newest.1-of-2" bs=1 seek=3000 conv=notrunc 2>/dev/null
	check "a damaged part: 3 processes go on from the checkpoint before" train 3 "$TMP/damaged" "${full[@]}" --save-every 1
	check "a damaged part: as one process" alike "$TMP/long" "$TMP/damaged" 1e-5 1e-5
else not_ok "a damaged part" "no checkpoint of two processes: $(ls "$TMP/damaged/state")"; fi
unset MORE BATCH EPOCHS

# ---- on devices ----

export EPOCHS=1   # the emulator takes its time
device() { # KIND N OUT OPTION...
	KF=$MPI/kf-train-$1 train "${@:2}" --lambda 0.5 --backend cuda
}
check "emulated, f32: 1 process" device emulated 1 "$TMP/f32" --compute f32
check "emulated, bf16: 1 process" device emulated 1 "$TMP/bf16" --moments 8bit
for kind in emulated nccl; do
	check "$kind, f32: 2 processes" device $kind 2 "$TMP/$kind.f32" --compute f32
	check "$kind, f32: as one" alike "$TMP/f32" "$TMP/$kind.f32" 1e-5 1e-5
	check "$kind, bf16: 3 processes, masters in parts" device $kind 3 "$TMP/$kind.bf16" --moments 8bit --save-every 2
	check "$kind, bf16: near one" alike "$TMP/bf16" "$TMP/$kind.bf16" 5e-2 1e-3
done
# A device that fails in one process while it takes the optimizer's step is only heard of later: no model may be made of what the others
# have got from it. The first moment at which a failure ends no run is one at which it does no harm.
echo "The miller's cat said: in the year 1707 we'll see what the donkey has understood of it, and why." >"$TMP/short.txt"
check "prepare little" "$BIN/kf-prepare" --quiet --out "$TMP/short" --doc-bytes 40 "$TMP/short.txt"
check "extract little" "$BIN/kf-extract" --quiet --model tests/models/llama-tiny --corpus "$TMP/short" --out "$TMP/short.logits" --top-k 4
fails_at() { # N OUT: process 1 at the N-th thing that it asks of its device, 0: never
	local n=$1
	rm -rf "$2"
	set -- "$MPI/kf-train-nccl" --model tests/models/llama-tiny --targets "$TMP/short.logits" --out "$2" --lr 1e-2 --lambda 1 --threads 1 --quiet --backend cuda \
		--compute f32 --max-steps 1
	mpirun -n 2 bash -c '[ "$OMPI_COMM_WORLD_RANK" = 0 ] || export KF_EMU_FAIL_AT=$0; exec "$@"' "$n" "$@"
}
harmless() {
	local low=1 high=1024 n
	fails_at 0 "$TMP/whole" && fails_at $high "$TMP/late" && ! fails_at $low "$TMP/early" || return
	: >"$TMP/failures"
	while [ $((high - low)) -gt 1 ]; do
		n=$(((low + high) / 2))
		if fails_at $n "$TMP/late" >/dev/null 2>>"$TMP/failures"; then high=$n; else low=$n; fi
	done
	fails_at $high "$TMP/late" && cmp "$TMP/whole/model.safetensors" "$TMP/late/model.safetensors"
}
check "nccl: a model is made of whole steps, whatever fails in another process" harmless
once() { grep -q "step 1: " "$TMP/failures" && ! grep -E "step [02-9]|step 1: .*step 1" "$TMP/failures"; }
check "nccl: the step that failed is named, and once" once
