# kf-train on tiny models: what it writes, that it resumes exactly, what it refuses.
. tests/lib.sh

text=$TMP/text.txt
for i in $(seq 24); do
	echo "The miller's cat number $i said: in the year $((1700 + i * 7)) we'll see what the donkey has understood of it, and why."
	echo "def count_$i(words): return {w: $i for w in words.split()}"
	echo
done >"$text"
check "prepare" "$BIN/kf-prepare" --out "$TMP/corpus" --doc-bytes 300 --shards 2 "$text"
check "extract" "$BIN/kf-extract" --model tests/models/llama-tiny --corpus "$TMP/corpus" --out "$TMP/logits" --top-k 8
check "extract with another tokenizer" \
	"$BIN/kf-extract" --model tests/models/qwen2-tiny --corpus "$TMP/corpus" --out "$TMP/qwen" --top-k 8

# EXEC=exec train ... &: in place of the subshell, so that killing that is killing it.
train() {
	local out=$1; shift
	${EXEC:-} "$BIN/kf-train" --model tests/models/llama-tiny --targets "$TMP/logits" --out "$out" --lr ${LR:-3e-3} \
		--batch-tokens ${BATCH:-400} --micro-tokens ${MICRO:-200} --epochs ${EPOCHS:-2} --threads 2 --progress none "$@"
}
# The numbers of a log that do not depend on the clock.
numbers() { sed 's/,"tokens_per_second":[^}]*//' "$1"; }
losses() { grep -o '"loss":[0-9.e+-]*' "$1/log.jsonl" | cut -d: -f2; }

check "train" train "$TMP/a" --lambda 0.5 --valid "$TMP/corpus" --save-every 1
cp "$TMP/.err" "$TMP/a.err"
check "says that it validates with what it trains on" grep -q "notice: $TMP/corpus is the text that is trained on" "$TMP/a.err"
for f in config.json model.safetensors tokenizer.json tokenizer_config.json kfuse.json log.jsonl; do
	check "train writes $f" test -s "$TMP/a/$f"
done
check "no state is left" test ! -e "$TMP/a/state"
falls() { losses "$1" | awk 'NR == 1 { first = $1 } { last = $1 } END { exit !(NR > 4 && last < first) }'; }
check "loss falls" falls "$TMP/a"
improves() { grep -o '"valid_bits_per_byte":[0-9.]*' "$1" | cut -d: -f2 | awk 'NR == 1 { a = $1 } { b = $1 } END { exit !(NR == 3 && b < a) }'; }
check "validation improves" improves "$TMP/a/log.jsonl"

# What is learnt of one text is of no use for another: the run ends when its patience does, with the best epoch's model.
seq 1000 37 3000 | tr '\n' ';' >"$TMP/numbers.txt"
check "prepare another text" "$BIN/kf-prepare" --out "$TMP/numbers" "$TMP/numbers.txt"
worse() { LR=0.03 EPOCHS=12 train "$TMP/worse" --lambda 1 --lr-schedule constant --valid "$TMP/numbers" --patience 2 --save-every 1 --keep-state --keep-epochs; }
check "patience" worse
epochs_of() { grep -c valid_bits "$1/log.jsonl"; }
patient() {
	local best
	best=$(grep '"best":true' "$TMP/worse/log.jsonl" | tail -n 1 | grep -o '"epoch":[0-9]*' | cut -d: -f2)
	test "$(epochs_of "$TMP/worse")" = $((1 + best + 2)) -a "$best" -lt 10 && grep -q "\"epoch\": *$best," "$TMP/worse/kfuse.json"
}
check "ends two epochs after the best" patient
# As it was before it said that it had ended; and of its last epoch, which is not the best, there is a model that another attempt at it left.
unpublished() {
	local best=$(grep -o '"epoch": *[0-9]*' "$TMP/worse/kfuse.json" | grep -o '[0-9]*$')
	rm "$TMP/worse"/*.json "$TMP/worse"/*.safetensors "$TMP/worse/state/kfuse.json"
	cp -r "$TMP/worse/epoch-$best" "$TMP/worse/state/best-$best"; cp -r "$TMP/worse/epoch-$((best + 2))" "$TMP/worse/state/best-$((best + 2))"
	worse && cmp "$TMP/worse/epoch-$best/model.safetensors" "$TMP/worse/model.safetensors" && test "$(cd "$TMP/worse/state" && ls -d best*)" = ""
}
check "its model is that of the epoch that the checkpoint names" unpublished
# What somebody else put beside the model of an epoch is not ours to remove.
echo '{}' >"$TMP/worse/epoch-1/eval.json"
for o in --replace --restart; do
	check_fails 1 "epoch-1: is in the way and has eval.json in it" "$o where an epoch's folder has another file" \
		train "$TMP/worse" --lambda 0.5 --lr-schedule constant $o
	check "$o: all is there still" test -s "$TMP/worse/epoch-1/eval.json" -a -s "$TMP/worse/model.safetensors" -a -s "$TMP/worse/log.jsonl"
done
check_fails 2 'there is none: give --valid' "patience without validation" train "$TMP/none" --patience 2
check_fails 2 "has to be a file" "a log on standard output" train "$TMP/none" --log -

# Every text is left out of one fold; all of this corpus are pieces of one.
tokens() { EPOCHS=1 train "$@" | grep -oE '[0-9]+ tokens' | cut -d' ' -f1; }
of_one_text() {
	local all f left=0
	all=$(tokens "$TMP/all")
	for f in 0 1 2; do
		if train "$TMP/fold$f" --fold $f/3 >"$TMP/.fold" 2>&1; then test "$(EPOCHS=1 tokens "$TMP/fold-$f" --fold $f/3)" = "$all" || return
		else left=$((left + 1)) && grep -q "outside fold $f/3: whole texts are left out" "$TMP/.fold" || return; fi
	done
	test "$all" -gt 0 -a $left = 1
}
check "folds: a text is left out whole, and of one fold" of_one_text
check_fails 2 'fold 0/1 leaves out every document' "one fold is all" train "$TMP/none" --fold 0/1

# A run that cannot begin takes nothing away.
for f in 0 1 2; do [ -e "$TMP/fold$f/config.json" ] || fold=$f/3; done
as_it_was() { # ERROR OPTION...
	local was; was=$(cd "$TMP/a" && find . | sort | xargs cksum 2>/dev/null)
	! train "$TMP/a" "${@:2}" 2>"$TMP/as" && grep -q "$1" "$TMP/as" && test "$was" = "$(cd "$TMP/a" && find . | sort | xargs cksum 2>/dev/null)" && test ! -e "$TMP/a/state"
}
check "--replace with a fold that leaves out every text: what is there stays" as_it_was 'no tokens to train on outside' --fold $fold --replace
check "--restart with it, too" as_it_was 'no tokens to train on outside' --fold $fold --restart
check "--replace with a log that cannot be opened" as_it_was 'cannot open the log' --lambda 0.25 --replace --log "$TMP/no/log"

touch -d '2001-01-01' "$TMP/a/config.json" "$TMP/stamp"
again() { train "$TMP/a" --lambda 0.5 --valid "$TMP/corpus" | grep -q "up to date" && test "$TMP/a/config.json" -nt "$TMP/stamp"; }
check "again: up to date, with a new time stamp" again
no_epochs() { train "$TMP/a" --lambda 0.5 --valid "$TMP/corpus" --keep-epochs 2>&1 | grep -q "kept no epoch's model"; }
check "asked for the epochs of a run that has ended: says that there are none" no_epochs
for f in model.safetensors tokenizer.json tokenizer_config.json; do
	mv "$TMP/a/$f" "$TMP/kept"
	check_fails 1 "$TMP/a has lost weights .*--restart" "again, without $f" train "$TMP/a" --lambda 0.5 --valid "$TMP/corpus"
	mv "$TMP/kept" "$TMP/a/$f"
done
cp "$TMP/a/model.safetensors" "$TMP/kept"; truncate -s 1000 "$TMP/a/model.safetensors"
check_fails 1 "$TMP/a has lost weights .*--restart" "again, with half of the weights" train "$TMP/a" --lambda 0.5 --valid "$TMP/corpus"
check "which --restart makes again" train "$TMP/a" --lambda 0.5 --valid "$TMP/corpus" --save-every 1 --restart
check_same "the same" "$TMP/kept" "$TMP/a/model.safetensors"
check_fails 1 'another training run \(--lambda was 0.5 and is 0.9' "other options are refused" \
	train "$TMP/a" --lambda 0.9 --valid "$TMP/corpus"
check_fails 1 'no valid' "no validation is another run" train "$TMP/a" --lambda 0.5
check "--restart replaces it" train "$TMP/a" --lambda 0.9 --restart --max-steps 1
cp -r "$TMP/a" "$TMP/other-model"
touch "$TMP/other-model/tokenizer.model"
check "--restart with another model" "$BIN/kf-train" --model tests/models/qwen2-tiny --targets "$TMP/qwen" --out "$TMP/other-model" --restart --max-steps 1 --progress none
check "leaves no tokenizer of the model before" test ! -e "$TMP/other-model/tokenizer.model"

made_worse() { "$BIN/kf-train" --model "$TMP/a" --targets "$TMP/logits" --out "$TMP/made-worse" --lr 0.9 --batch-tokens 400 --epochs 1 --threads 2 --progress none \
	--clip 0 --warmup 0 --lr-schedule constant --valid "$TMP/corpus" 2>&1 | grep -q "training has made it worse"; }
check "a model that training has made worse is said to be" made_worse

# What is not a run of this program's, or is what it is asked to learn from, stays.
cp -r tests/models/llama-tiny "$TMP/inside"
printf '{"program": "kf-train", "options": {}, "inputs": {}}' > "$TMP/inside/kfuse.json"
check_fails 1 'is in the folder --out' "the model that is to be trained is not replaced" "$BIN/kf-train" --model "$TMP/inside" --targets "$TMP/logits" --out "$TMP/inside" --restart
check_same "it is whole" "$TMP/inside/model.safetensors" tests/models/llama-tiny/model.safetensors
mkdir "$TMP/merged"; cp tests/models/llama-tiny/* "$TMP/merged"
printf '{"program": "kf-merge", "options": {}, "inputs": {}}' > "$TMP/merged/kfuse.json"
check_fails 1 'kf-merge made, and no training run' "what another program made is not replaced" train "$TMP/merged" --restart
check_same "it is whole, too" "$TMP/merged/model.safetensors" tests/models/llama-tiny/model.safetensors
mkdir -p "$TMP/theirs/state"; echo thesis > "$TMP/theirs/thesis.txt"; echo mine > "$TMP/theirs/state/mine"
check_fails 1 'is not empty and holds no training run' "a folder that has a folder called state" train "$TMP/theirs" --restart
# A checkpoint of another run, whose record is gone: refused, and replaced with --restart.
train "$TMP/orphan" --clip 0.5 --max-steps 4 --save-every 2 --keep-state >/dev/null 2>&1
rm -f "$TMP/orphan"/*.json "$TMP/orphan"/*.safetensors "$TMP/orphan/state/kfuse.json"
sed -i 's/"clip": *0.5/"clip": 0.25/' "$TMP/orphan/state/identity.json"
check_fails 1 'the checkpoint of another run \(--clip was 0.5' "a checkpoint of another run is not gone on from" train "$TMP/orphan" --clip 0.25 --max-steps 4 --save-every 2
check "--restart begins anew" train "$TMP/orphan" --clip 0.25 --max-steps 4 --save-every 2 --restart
# A run that came to nothing claims no folder.
check_fails 1 'nothing to resume' "--resume where nothing is" train "$TMP/fresh" --resume
check "makes no folder" test ! -e "$TMP/fresh"
check_fails 1 'cannot open the log' "a run that ends before its first step" train "$TMP/fresh" --log "$TMP/no/log"
check "leaves the folder to others" train "$TMP/fresh" --clip 0.25 --max-steps 1
check "a log that cannot be synced" train "$TMP/nolog" --max-steps 2 --save-every 1 --log /dev/null

# The trained model is a model.
check "what was written is read" "$BIN/kf-train" --model "$TMP/a" --targets "$TMP/logits" --out "$TMP/again" --lambda 1 \
	--batch-tokens 400 --max-steps 2 --progress none

# CLM: candidates play no part, and steps are the same.
check "lambda 1" train "$TMP/clm" --lambda 1
steps() { test "$(losses "$TMP/clm" | wc -l)" -gt 4; }
check "lambda 1 takes steps" steps
no_fusion() { ! grep -q '"fusion":[0-9]' "$TMP/clm/log.jsonl"; }
check "lambda 1 has no fusion" no_fusion

# Killed at random moments, the same command ends with the same bytes.
long=(--lambda 0.5 --valid "$TMP/corpus" --save-every 2 --keep-epochs)
export EPOCHS=8
train "$TMP/whole" "${long[@]}" >/dev/null
has_epochs() { train "$TMP/whole" "${long[@]}" >"$TMP/said" 2>&1 && grep -q 'up to date' "$TMP/said" && ! grep -q 'kept no' "$TMP/said"; }
check "a run that kept its epochs: nothing to say of that" has_epochs
mv "$TMP/whole/epoch-2" "$TMP/epoch-2"
lacks_one() { train "$TMP/whole" "${long[@]}" 2>&1 | grep -q "the models of 1 of the run's epochs were not kept"; }
check "a run that kept some of them: says how many it did not" lacks_one
mv "$TMP/epoch-2" "$TMP/whole/epoch-2"
kill_again "killed again and again" "$TMP/killed" 3 20 train "$TMP/killed" "${long[@]}"
first() { grep -m 1 tokens_per_second "$TMP/killed/log.jsonl"; }
begun=$(first)
check "killed, then run to the end" train "$TMP/killed" "${long[@]}"
unset EPOCHS
check "killed: what was done is not done again" test "$begun" = "$(first)"
check_same "killed: the same model" "$TMP/whole/model.safetensors" "$TMP/killed/model.safetensors"
check_same "killed: the same first epoch" "$TMP/whole/epoch-1/model.safetensors" "$TMP/killed/epoch-1/model.safetensors"
numbers "$TMP/whole/log.jsonl" >"$TMP/whole.log"
numbers "$TMP/killed/log.jsonl" >"$TMP/killed.log"
check_same "killed: the same log" "$TMP/whole.log" "$TMP/killed.log"
check "killed: nothing left over" test ! -e "$TMP/killed/state"

# bfloat16 products learn the same, nearly.
check "bf16" train "$TMP/bf16" --lambda 0.5 --compute bf16
check "f32 for comparison" train "$TMP/f32" --lambda 0.5 --compute f32
check "bf16: losses within 1 %" python3 - "$TMP/bf16/log.jsonl" "$TMP/f32/log.jsonl" <<'END'
import json, sys
a, b = ([r["loss"] for r in map(json.loads, open(f)) if "loss" in r] for f in sys.argv[1:])
assert len(a) == len(b) > 1 and a != b, (a, b)
assert all(abs(x - y) < 0.01 * y for x, y in zip(a, b)), (a, b)
END

# Stopped while it validates: it keeps what it has trained, and goes on with that validation. (Whoever looks at the log may be late: again.)
some_text "$TMP/much.jsonl" 1 60 200 a
check "prepare much text" "$BIN/kf-prepare" --out "$TMP/much" --quiet "$TMP/much.jsonl"
check "validated with much text" train "$TMP/v.whole" --valid "$TMP/much"
steps=$(grep '"epoch":1,"tokens"' "$TMP/v.whole/log.jsonl" | tail -n 1 | grep -o '"step":[0-9]*' | cut -d: -f2)
for try in 1 2 3 4 5; do
	rm -rf "$TMP/v"
	EXEC=exec train "$TMP/v" --valid "$TMP/much" >/dev/null 2>"$TMP/v.err" & pid=$!
	while [ -n "$(jobs -rp)" ] && ! grep -qs "\"step\":$steps,\"epoch\":1,\"tokens\"" "$TMP/v/log.jsonl"; do sleep 0.005; done
	kill $pid 2>/dev/null; wait $pid; status=$?
	grep -q '"epoch":1,"step"' "$TMP/v/log.jsonl" || break
done
check "stopped while it validates: ends by the signal" test $status = 143
check "stopped while it validates: says so" grep -q 'stopped by SIGTERM' "$TMP/v.err"
stands() { ! grep '"epoch":1,"step"' "$TMP/v/log.jsonl" && test -s "$(printf %s/step-%09d.ckpt "$TMP/v/state" "$steps")"; }
check "stopped while it validates: with a checkpoint of the epoch, whose validation is not done" stands
check "stopped while it validates: goes on" train "$TMP/v" --valid "$TMP/much" --resume
check_same "stopped while it validates: the same model" "$TMP/v.whole/model.safetensors" "$TMP/v/model.safetensors"
numbers "$TMP/v.whole/log.jsonl" >"$TMP/v.whole.log"
numbers "$TMP/v/log.jsonl" >"$TMP/v.log"
check_same "stopped while it validates: the same log" "$TMP/v.whole.log" "$TMP/v.log"
check "which has the validation" test "$(grep -c valid_bits "$TMP/v.log")" = 3

# Two at once do not write into each other's files.
EPOCHS=1000 EXEC=exec train "$TMP/twice" --lambda 0.5 >/dev/null 2>&1 &
pid=$!
for i in $(seq 100); do test -e "$TMP/twice/log.jsonl" && break; sleep 0.05; done
check_fails 1 'is being written by process [0-9]+ on' "two at once" train "$TMP/twice" --lambda 0.5
kill -9 $pid 2>/dev/null; wait $pid 2>/dev/null

# Memory for activations and their recomputation change nothing. A layer takes 1,528 bytes a token of a micro-batch: of the two layers 1 MB keeps
# one where these are 327 to 654, none where they are more.
kept() { # TOKENS LEAST MOST
	local out=$TMP/kept.$1
	export MICRO=$1 BATCH=$1
	train "$out" --lambda 0.5 --keep-mb 0 && train "$out.1" --lambda 0.5 --keep-mb 1 &&
		cmp "$out/model.safetensors" "$out.1/model.safetensors" && python3 - "$out.1" $2 $3 <<'END'
import json, sys
at = [0] + [r["tokens"] for r in map(json.loads, open(sys.argv[1] + "/log.jsonl"))]
print(at)
assert any(int(sys.argv[2]) < b - a < int(sys.argv[3]) for a, b in zip(at, at[1:]))
END
}
check "recompute one layer: the same model" kept 550 327 654
check "recompute both layers: the same model" kept 3000 654 10000
unset MICRO BATCH

check_fails 1 'another tokenizer than that of tests/models/llama-tiny' "targets of another tokenizer" \
	"$BIN/kf-train" --model tests/models/llama-tiny --targets "$TMP/qwen" --out "$TMP/x"
check_fails 1 'is a corpus' "a corpus is no target" \
	"$BIN/kf-train" --model tests/models/llama-tiny --targets "$TMP/corpus" --out "$TMP/x"
check_fails 1 'cannot write the log /dev/full' "full disk" train "$TMP/full" --log /dev/full
# A checkpoint that is listed and cannot be opened, as on another machine for a moment: the one before it serves. What was done before is not
# done again: its lines of the log have the times they had.
train "$TMP/unseen" --lambda 0.5 --save-every 1 --keep-state >/dev/null
rm -f "$TMP/unseen/kfuse.json" "$TMP/unseen/config.json" "$TMP/unseen/state/kfuse.json"
last=$(ls "$TMP/unseen/state"/step-*.ckpt | tail -n 1); cp "$TMP/unseen/log.jsonl" "$TMP/unseen.log"
mv "$last" "$TMP/away.ckpt"; ln -s nowhere "$last"
check "a checkpoint that cannot be opened" train "$TMP/unseen" --lambda 0.5 --save-every 1
check "is passed over for the one before" cmp -n 200 "$TMP/unseen.log" "$TMP/unseen/log.jsonl"

# Another log than that of the checkpoint is not cut where that one was: it is gone on with on a line of its own. OUT may move.
train "$TMP/log" --lambda 0.5 --save-every 1 --keep-state >/dev/null
rm -f "$TMP/log/kfuse.json" "$TMP/log/config.json" "$TMP/log/state/kfuse.json"
cp -r "$TMP/log" "$TMP/log.other"; mv "$TMP/log" "$TMP/log.moved"; cp "$TMP/log.moved/log.jsonl" "$TMP/log.was"
{ seq 1000; printf 'half a li'; } >"$TMP/other.jsonl"
cp "$TMP/other.jsonl" "$TMP/other.was"
check "gone on with another log" train "$TMP/log.other" --lambda 0.5 --log "$TMP/other.jsonl"
follows() { cmp -n "$(stat -c %s "$TMP/other.was")" "$TMP/other.was" "$TMP/other.jsonl" && tail -n +1001 "$TMP/other.jsonl" | head -n 1 | grep -qx 'half a li' && grep -q '"step":[0-9]' "$TMP/other.jsonl"; }
check "which has all its lines, and the records after them" follows
check_same "and the first one is as it was" "$TMP/log.other/log.jsonl" "$TMP/log.was"
check "gone on in another place" train "$TMP/log.moved" --lambda 0.5
numbers "$TMP/log.was" >"$TMP/log.a"; numbers "$TMP/log.moved/log.jsonl" >"$TMP/log.b"
check_same "with the same log" "$TMP/log.a" "$TMP/log.b"

# The model that a checkpoint names stays until others name another; one that none names is nobody's. A folder in the place of OUT's weights
# has a run end before these are taken away.
best=(--lambda 0.5 --valid "$TMP/corpus")
EPOCHS=3 check "three epochs, each better" train "$TMP/best.whole" "${best[@]}"
per_epoch=$(($(losses "$TMP/best.whole" | wc -l) / 3))
begun() { # OUT: a run that has ended before its first step, in whose way is a folder
	train "$1" "${best[@]}" --log "$TMP/no/log" >/dev/null 2>&1
	mkdir "$1/model.safetensors"
}
export EPOCHS=3
begun "$TMP/best"
check_fails 1 'cannot move .*best-3/model.safetensors' "the best model cannot be moved" train "$TMP/best" "${best[@]}" --save-every $((per_epoch + 1))
of_epochs() { test "$(cd "$1/state" && echo best-*)" = "$2"; }
check "those that the last two checkpoints name are there, too" of_epochs "$TMP/best" "best-1 best-2 best-3"
rmdir "$TMP/best/model.safetensors"; cp -r "$TMP/best" "$TMP/best.trained"; cp -r "$TMP/best" "$TMP/best.stale"; cp -r "$TMP/best" "$TMP/best.lost"
# Killed between the record and config.json, which make goes by, and after that: what looks whole has its record, and the next run ends it.
for at in moved ended; do
	cp -r "$TMP/best" "$TMP/best.$at"
	(cd "$TMP/best.$at" && cp state/kfuse.json . && mv state/best-3/[!c]* . && { [ $at = moved ] || mv state/best-3/config.json .; })
	check "$at, and killed: it is ended by the next run" train "$TMP/best.$at" "${best[@]}"
	check "with the same model" cmp "$TMP/best.$at/model.safetensors" "$TMP/best.whole/model.safetensors"
	check "and nothing is left of the training" test -e "$TMP/best.$at/config.json" -a ! -e "$TMP/best.$at/state"
done
check "it is moved by the next run" train "$TMP/best" "${best[@]}"
check_same "it is that of the last epoch" "$TMP/best/model.safetensors" "$TMP/best.whole/model.safetensors"
begun "$TMP/best.each"
check_fails 1 'cannot move' "with a checkpoint a step" train "$TMP/best.each" "${best[@]}" --save-every 1
check "no other is there" of_epochs "$TMP/best.each" "best-2 best-3"
rm -r "$TMP/best.trained/state/best-3"
check_fails 1 'best-3 is not there, the model that training ended with. --restart' "a run that has lost its model is not finished" train "$TMP/best.trained" "${best[@]}"
check "and does not look so" test ! -e "$TMP/best.trained/kfuse.json"
# Killed before a checkpoint named the third epoch: what is there of it is not taken for what the run that goes on makes of it.
rm "$TMP/best.stale/state/kfuse.json"; cp tests/models/llama-tiny/model.safetensors "$TMP/best.stale/state/best-3/"
check "gone on with before the third epoch ends" train "$TMP/best.stale" "${best[@]}"
check_same "the third epoch's own model" "$TMP/best.stale/model.safetensors" "$TMP/best.whole/model.safetensors"
rm -r "$TMP/best.lost/state/kfuse.json" "$TMP/best.lost/state/best-2"
check_fails 1 'best-2 is not there, the model of the best epoch up to the checkpoint of step [0-9]+. --restart' "the best model so far is lost" \
	train "$TMP/best.lost" "${best[@]}"
check "--restart makes it again" train "$TMP/best.lost" "${best[@]}" --restart
unset EPOCHS
# A limit on file sizes stands for a disk that fills up while a checkpoint or the model is written.
limited() (
	trap '' XFSZ
	ulimit -f 150
	train "$TMP/limited" --lambda 0.5 --valid "$TMP/corpus" "$@"
)
train "$TMP/unlimited" --lambda 0.5 --valid "$TMP/corpus" >/dev/null
check_fails 1 'cannot write .*step.tmp: File too large' "no room for a checkpoint" limited --save-every 1
check_fails 1 '.*limited.*: File too large' "no room for the model" limited
check "no model looks complete" test ! -e "$TMP/limited/config.json"
check "with room again it ends" train "$TMP/limited" --lambda 0.5 --valid "$TMP/corpus"
check_same "with room again: the same model" "$TMP/limited/model.safetensors" "$TMP/unlimited/model.safetensors"
mkdir "$TMP/mine"; echo precious >"$TMP/mine/thesis.txt"
check_fails 1 'is not empty' "a folder with other things" train "$TMP/mine"
check_fails 1 'nothing to resume' "--resume without a run" train "$TMP/none" --resume
check_fails 1 'more than the 128 tokens' "--context beyond the model's" train "$TMP/x" --context 1000
check_fails 2 'lambda' "lambda out of range" train "$TMP/x" --lambda 2
check_fails 2 'targets' "without targets" "$BIN/kf-train" --model tests/models/llama-tiny --out "$TMP/x"
check_fails 1 'no-such-model' "no such model" "$BIN/kf-train" --model "$TMP/no-such-model" --targets "$TMP/logits" --out "$TMP/x"
cp -r tests/models/llama-tiny "$TMP/"$'m\xe9'
check "a path that is no UTF-8" "$BIN/kf-train" --model "$TMP/"$'m\xe9' --targets "$TMP/logits" --out "$TMP/latin" --max-steps 1 --progress none
check "its record has question marks" grep -q '"model": ".*/m?"' "$TMP/latin/kfuse.json"
