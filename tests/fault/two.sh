# Two runs on one output: who may and who must not, what is said, and that no lock outlives its process. The first run is held at a
# system call (tests/fault/inject.c); tests/fault/every.sh holds all stages at many.
. tests/lib.sh
. tests/fault/promises.inc
export ASAN_OPTIONS=verify_asan_link_order=0:detect_leaks=0 # what is preloaded comes before a sanitizer
M=tests/models inject=$(realpath "${BIN%/bin}/tests/inject.so")
python3 - "$TMP/text.jsonl" <<'END'
import json, sys
with open(sys.argv[1], "w") as f:
    for i in range(12):
        f.write(json.dumps({"id": f"t{i}", "domain": "ab"[i % 2], "text": f"It is a truth universally acknowledged, that {i} is not {i + 1}.\n"}) + "\n")
END
"$BIN/kf-prepare" --out "$TMP/corpus" --shards 4 --quiet "$TMP/text.jsonl" &&
	"$BIN/kf-extract" --model $M/llama-tiny --corpus "$TMP/corpus" --out "$TMP/target" --quiet &&
	"$BIN/kf-extract" --model $M/qwen2-tiny --corpus "$TMP/corpus" --out "$TMP/source" --quiet || { not_ok "the sets"; exit; }

# held N CMD...: CMD, stopped at its N-th call that writes; pid
held() {
	local n=$1; shift
	FAULT=call:stop:$n LD_PRELOAD=$inject "$@" >"$TMP/held.out" 2>&1 &
	pid=$!
	for _ in $(seq 500); do
		case $(cut -d ' ' -f 3 /proc/$pid/stat 2>/dev/null) in T) return ;; "") break ;; esac
		sleep 0.01
	done
	not_ok "held at call $n: $*" "$(tail -n 3 "$TMP/held.out")"
}
let_go() { # NAME: it ends well
	kill -CONT $pid; wait $pid
	if [ $? -eq 0 ]; then ok "$1"; else not_ok "$1" "$(tail -n 3 "$TMP/held.out")"; fi
}
gone() { kill -KILL $pid; wait $pid 2>/dev/null; }
same() { [ "$(content "$1")" = "$(content "$2")" ] && "$BIN/kf-inspect" --verify "$1" >/dev/null; }

# nth CALL K CMD...: the number of the K-th call of that name
nth() { local name=$1 k=$2; shift 2; FAULT=call:kill:0 FAULT_LOG=$TMP/log LD_PRELOAD=$inject "$@" && awk '$2 == "'$name'" { print $1 }' "$TMP/log" | sed -n ${k}p; }

# ---- sets ----
at=$(nth pwrite 3 "$BIN/kf-extract" --model $M/llama-tiny --corpus "$TMP/corpus" --out "$TMP/count" --quiet --threads 1)
extract=("$BIN/kf-extract" --model $M/llama-tiny --corpus "$TMP/corpus" --out "$TMP/set" --quiet --threads 1)
held $at "${extract[@]}"
check_fails 1 "$TMP/set is being written by process $pid on .*; wait" "a set, whole: refused, and by whom" "${extract[@]}"
check_fails 75 "$TMP/set is being written by process $pid" "with the status that kf-slurm asks for" env KF_BUSY_STATUS=75 "${extract[@]}"
check_fails 1 "is being written by process $pid" "a set, whole: a part is refused" "${extract[@]}" --shard 0/2
check_fails 1 "made from something else" "a set of something else" "${extract[@]}" --top-k 3
gone
check "a set: killed, and at once another" "${extract[@]}"
check "a set: whole, and no lock left" same "$TMP/set" "$TMP/target"
check "nothing left over" test -z "$(ls "$TMP/set" | grep -Ev '^(manifest\.json|tokenizer\.zst|shard-[0-9]{5}\.mdb|times\.log)$')"
rm -r "$TMP/set"

held $at "${extract[@]}" --shard 0/2
check "parts: the other part works meanwhile" "${extract[@]}" --shard 1/2
check_fails 1 "part 0/2 of $TMP/set is being written by process $pid on" "parts: the same part is refused" "${extract[@]}" --shard 0/2
check_fails 1 "$TMP/set is being written by other processes, each a part of it" "parts: the whole is refused" "${extract[@]}"
let_go "parts: the first ends well"
check "parts: whole" same "$TMP/set" "$TMP/target"
check "nothing left over" test -z "$(ls "$TMP/set" | grep -Ev '^(manifest\.json|tokenizer\.zst|shard-[0-9]{5}\.mdb|times\.log)$')"
rm -r "$TMP/set"
held $at "${extract[@]}" --shard 0/2
gone
check "parts: one is killed, the whole goes on" "${extract[@]}"
check "nothing left over" test -z "$(ls "$TMP/set" | grep -Ev '^(manifest\.json|tokenizer\.zst|shard-[0-9]{5}\.mdb|times\.log)$')"

# whoever begins or completes a set has manifest.lock for as long
begin=("$BIN/kf-prepare" --out "$TMP/begun" --shards 2 --quiet "$TMP/text.jsonl")
mkdir "$TMP/begun"; exec 9>"$TMP/begun/manifest.lock"; flock 9
"${begin[@]}" --shard 0/2 9>&- & first=$!
"${begin[@]}" --shard 1/2 2>"$TMP/second.err" 9>&- & second=$!
for p in $first $second; do until ls -l /proc/$p/fd 2>/dev/null | grep -q manifest.lock || ! kill -0 $p 2>/dev/null; do sleep 0.01; done; done
check "a set is begun by one at a time: others wait" kill -0 $first $second
check "a set is begun by one at a time: and do nothing" test "$(ls "$TMP/begun")" = manifest.lock
kill $second; wait $second
check "a set is begun by one at a time: one that waits is asked to end" test $? -eq 143
check "a set is begun by one at a time: and says so" grep -q "stopped by SIGTERM" "$TMP/second.err"
exec 9>&-
check "a set is begun by one at a time: then it goes on" wait $first
check "a set is begun by one at a time: the rest" "${begin[@]}"
check "nothing left over" test -z "$(ls "$TMP/begun" | grep -Ev '^(manifest\.json|shard-[0-9]{5}\.mdb|times\.log)$')"

# ---- a training run ----
train=("$BIN/kf-train" --model $M/llama-tiny --targets "$TMP/target" --out "$TMP/model" --lambda 0.5 --batch-tokens 128 --save-every 1 --quiet --threads 1)
held 20 "${train[@]}"
check_fails 1 "$TMP/model is being written by process $pid on" "training: refused, and by whom" "${train[@]}"
check_fails 1 "$TMP/model is being written by process $pid on" "training: --restart is refused" "${train[@]}" --restart
gone
check "training: killed, and at once another" "${train[@]}"
check "training: no state left" test ! -e "$TMP/model/state"
check "training: --restart of one that ended" "${train[@]}" --restart

# ---- a merged model ----
merge=("$BIN/kf-merge" --models $M/llama-tiny --models $M/llama-tiny --method linear --out "$TMP/merged" --quiet --threads 1)
held 6 "${merge[@]}"
check_fails 1 "$TMP/merged is being written by process $pid on .*; wait" "a merge: refused, and by whom" "${merge[@]}"
let_go "a merge: the first ends well"
check "a merge: then there is nothing to do" "${merge[@]}"
check "a merge: nothing left over" test -z "$(ls -d "$TMP"/merged.* 2>/dev/null)"

# ---- a vocabulary map: whoever needs the same one waits for it ----
align=("$BIN/kf-align" --source "$TMP/source" --target "$TMP/target" --vocab-map mined --map "$TMP/map" --quiet --threads 1 --out)
at=$(nth rename 3 "${align[@]}" "$TMP/a0")
cp "$TMP/map" "$TMP/map.ref"; rm "$TMP/map"
held $at "${align[@]}" "$TMP/a1"
"${align[@]}" "$TMP/a2" & second=$!
sleep 0.3
check "a map: the second waits" kill -0 $second
"${align[@]}" "$TMP/a3" 2>"$TMP/third.err" & third=$!
until ls -l /proc/$third/fd 2>/dev/null | grep -q map.lock || ! kill -0 $third 2>/dev/null; do sleep 0.01; done
kill $third; wait $third 2>/dev/null
check "a map: a third that waits is asked to end: ends by the signal" test $? -eq 143
check "a map: a third that waits is asked to end: says so" grep -q "stopped by SIGTERM" "$TMP/third.err"
check "a map: and leaves the first its lock" test -e "$TMP/map.lock"
let_go "a map: the first ends well"
check "a map: the second, too" wait $second
check_same "a map: the same" "$TMP/map" "$TMP/map.ref"
check "a map: alignments are the same" same "$TMP/a1" "$TMP/a2"
check "a map: no lock left" test ! -e "$TMP/map.lock" -a ! -e "$TMP/map.part"

# ---- a file that is written bit by bit ----
export=("$BIN/kf-export" --set "$TMP/target" --out "$TMP/out.jsonl" --quiet)
held 3 "${export[@]}"
check_fails 1 "out.jsonl.part is being written by another program; wait" "a file: refused" "${export[@]}"
gone
check "a file: killed, and at once another" "${export[@]}"
check "a file: nothing left over" test ! -e "$TMP/out.jsonl.part"
