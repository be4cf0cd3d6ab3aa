# Runs that are asked to end: what is said, what is left, and that the same command goes on. tests/fault/faults.py asks every stage at its calls
# that write; here it is asked while it only reads, before it begins, and while it computes.
. tests/lib.sh
. tests/fault/promises.inc
M=tests/models C=$TMP/corpus
some_text "$TMP/text.jsonl" 5 1920 60 ab     # so much that a run takes a moment
"$BIN/kf-prepare" --out "$C" --shards 12 --quiet "$TMP/text.jsonl" || { not_ok "the corpus"; exit; }
extract=("$BIN/kf-extract" --model $M/llama-tiny --corpus "$C" --compute f32)

# ---- while it computes ----
stopped() { # NAME SIGNAL OUT CMD...: ends by the signal, says so, leaves nothing half-written under a final name; then goes on
	local name=$1 sig=$2 out=$3 pid status; shift 3
	rm -rf "$out"
	place "$out" "$@"
	"${words[@]}" >"$TMP/run.out" 2>"$TMP/run.err" & pid=$!
	for _ in $(seq 200); do ls "$out" 2>/dev/null | grep -q "$STARTED" && break; sleep 0.02; done
	# held, so that it is known whether it had finished when it was asked: one that had not and finishes all the same has not listened
	kill -STOP $pid 2>/dev/null
	if grep -q '^[0-9]* (.*) Z' "/proc/$pid/stat" || [ -e "$out/$WHOLE" ]; then kill -CONT $pid; wait $pid; skip "$name: stopped by SIG$sig" "it had finished"; return; fi
	kill -"$sig" $pid; kill -CONT $pid
	wait $pid; status=$?
	check "$name: ends by SIG$sig" test $status -eq $((128 + $(kill -l "$sig")))
	check "$name: says so" grep -q "stopped by SIG$sig" "$TMP/run.err"
	check "$name: leaves nothing half-made" test -z "$(ls "$out" | grep -E '\.part$|\.tmp')"
	check "$name: goes on" "${words[@]}"
}
STARTED=manifest WHOLE=manifest.json stopped extract TERM "$TMP/logits" "${extract[@]}" --out OUT --threads 1 --batch-tokens 256
"${extract[@]}" --out "$TMP/undisturbed" --quiet
check "extract: the same content as undisturbed" test "$(content "$TMP/logits")" = "$(content "$TMP/undisturbed")"
L=$TMP/undisturbed
train=("$BIN/kf-train" --model $M/llama-tiny --targets "$L" --lambda 1 --epochs 2 --batch-tokens 512 --threads 1)
STARTED=state WHOLE=config.json stopped train TERM "$TMP/trained" "${train[@]}" --out OUT
"${train[@]}" --out "$TMP/trained.ref" --quiet
check_same "train: the same model as undisturbed" "$TMP/trained/model.safetensors" "$TMP/trained.ref/model.safetensors"

# ---- before it begins: it ends at the first look, and nothing has been made ----
cat > "$TMP/asked.py" <<'END'
import os, signal, sys
sig = getattr(signal, sys.argv[1])
signal.signal(sig, signal.SIG_DFL)
signal.pthread_sigmask(signal.SIG_BLOCK, {sig})     # so that it waits for the program
os.kill(os.getpid(), sig)
os.execv(sys.argv[2], sys.argv[2:])
END
at_start() { # NAME SIGNAL MADE CMD...: CMD would make MADE
	local name="$1, asked before it begins" sig=$2 made=$3 status; shift 3
	{ python3 "$TMP/asked.py" "SIG$sig" "$@" >"$TMP/run.out" 2>"$TMP/run.err"; status=$?; } 2>/dev/null
	check "$name: ends by SIG$sig" test $status -eq $((128 + $(kill -l "$sig")))
	check "$name: says so" grep -q "^kf-[a-z]*: .*stopped by SIG$sig" "$TMP/run.err"
	check "$name: nothing is there" test -z "$(compgen -G "$made")"
}
"$BIN/kf-extract" --model $M/qwen2-tiny --corpus "$C" --out "$TMP/source" --quiet
for i in 0 1; do "${extract[@]}" --out "$TMP/part$i" --shard $i/2 --quiet; done
"$BIN/kf-export" --set "$TMP/source" --out "$TMP/source.jsonl" --quiet
align=("$BIN/kf-align" --source "$TMP/source" --target "$L" --quiet)
fuse=("$BIN/kf-fuse" --target "$L" --aligned "$TMP/aligned" --quiet)
at_start prepare TERM "$TMP/p/manifest.json" "$BIN/kf-prepare" --out "$TMP/p" "$TMP/text.jsonl"
at_start extract INT "$TMP/e/manifest.json" "${extract[@]}" --out "$TMP/e"
for map in "stats" "mined --map-ties co-occurrence"; do
	at_start "a map, ${map%% *}" HUP "$TMP/map" "${align[@]}" --method dtw --vocab-map $map --map "$TMP/map" --out "$TMP/a"; rm -rf "$TMP/a"
done
at_start align TERM "$TMP/aligned/manifest.json" "${align[@]}" --out "$TMP/aligned"
check "align: the same command" "${align[@]}" --out "$TMP/aligned"
at_start fuse INT "$TMP/f/manifest.json" "${fuse[@]}" --out "$TMP/f"
at_start "fitted weights" HUP "$TMP/fit" "${fuse[@]}" --fit "$TMP/fit"
at_start import TERM "$TMP/i" "$BIN/kf-import" --corpus "$C" --input "$TMP/source.jsonl" --tokenizer $M/qwen2-tiny --out "$TMP/i"
at_start join INT "$TMP/j/manifest.json" "$BIN/kf-join" --copy --out "$TMP/j" "$TMP/part0" "$TMP/part1"
at_start train HUP "$TMP/t/config.json" "${train[@]}" --out "$TMP/t"
merge=("$BIN/kf-merge" --pivot $M/llama-tiny --models $M/llama-tiny --models "$TMP/trained" --out "$TMP/m")
at_start "merge, linear" TERM "$TMP/m" "${merge[@]}" --method linear
at_start "merge, varm" TERM "$TMP/m*" "${merge[@]}" --method varm
