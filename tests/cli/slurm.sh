# kf-slurm without a Slurm: what it would submit, in which order, and that these recipes, run one after another as its jobs
# run them, make what make makes. (With a Slurm: tests/long/slurm.sh.)
. tests/lib.sh
D=$TMP/data W=$TMP/work
mkdir -p "$D/models" "$D/text"
for m in qwen2-tiny llama-tiny gemma3-tiny; do cp -r tests/models/$m "$D/models/"; done
for i in $(seq 40); do
	printf '{"id": "t%d", "domain": "a", "text": "Text number %d: the quick brown fox jumps over %d lazy dogs.\\n"}\n' $i $i $((i * 7))
done > "$D/text/a.jsonl"
what=(DATA="$D" B="${BIN%/bin}" TARGET=qwen2-tiny SOURCES="llama-tiny gemma3-tiny" DOMAINS=a DOCS=6 VALID_DOCS=2 TEST_DOCS=3 EPOCHS=1 LR=1e-3 SHARDS=3
	PARTS=2 THREADS=1)
print() { "$BIN/kf-slurm" --logs "$TMP/logs" --print "$@" "${what[@]}" WORK="$W"; }
check "kf-slurm --print" sh -c 'cd . && "$@" > "$0"' "$TMP/plan" "$BIN/kf-slurm" --logs "$TMP/logs" --print demo "${what[@]}" WORK="$W" \
	--for all="--account=us --qos=low" --for extract=--gres=gpu:1 --for finish=--time=5
check "it leaves nothing" test ! -e "$TMP/logs" -a ! -e "$W"
cat > "$TMP/run.py" <<'END'
import os, re, shlex, subprocess, sys
plan, folder, run = sys.argv[1], sys.argv[2], sys.argv[3:]
jobs, job, here = [], None, False
for line in open(plan):
    here = line.startswith("# here") or here and line.startswith("    ") # not a job: building what is old
    if here: continue
    m = re.match(r"# job (\d+): (.*)", line)
    if m:
        job = {"id": m[1], "name": m[2], "recipe": ""}
        jobs.append(job)
    elif line.startswith("sbatch "):
        words = shlex.split(line)[1:]
        job["words"] = words
        for w in words:
            k, _, v = w.partition("=")
            job[k.lstrip("-")] = v
    else:
        assert line.startswith("    "), line
        job["recipe"] += line[4:]
name = {j["id"]: j["name"] for j in jobs}
assert len(name) == len(jobs), "numbers"
by = {}
for j in jobs:
    short = j["name"].split("docs6.")[-1].removeprefix("for-qwen2-tiny.")
    by[short] = j
    j["after"] = [name[i] for i in j.get("dependency", "").removeprefix("afterok:").split(":") if i]
    assert "requeue" in j and j["account"] == "us" and j["qos"] == "low", j
    assert ("gres" in j) == ("kf-extract" in j["recipe"] and not short.endswith(".finish")), j
    assert (j.get("time") == "5") == short.endswith(".finish"), j
    assert subprocess.run(["bash", "-n"], input=j["recipe"], text=True).returncode == 0, j
def after(short):
    return sorted(a.split("docs6.")[-1].removeprefix("for-qwen2-tiny.") for a in by[short]["after"])
for s in "train", "valid", "test":
    assert after("corpus." + s) == [] and "array" not in by["corpus." + s]
arrays = [s for s in by if s + ".finish" in by]
models = ["gemma3-tiny", "llama-tiny", "qwen2-tiny"]
fused = next(s for s in by if s.startswith("targets.gemma3-tiny+llama-tiny"))
fused = fused.removesuffix(".finish")
assert sorted(arrays) == sorted(["logits.%s.%s" % (s, m) for s in ("train", "test") for m in models] + ["aligned.train." + m for m in models[:2]] + [fused]), arrays
for s in arrays:
    assert by[s]["array"] == "0-1" and by[s]["output"].endswith(".%a.log") and after(s + ".finish") == [s], by[s]
assert after("logits.train.llama-tiny") == ["corpus.train"]
assert after("aligned.train.llama-tiny") == ["logits.train.llama-tiny.finish", "logits.train.qwen2-tiny.finish"]
assert after(fused) == ["aligned.train.gemma3-tiny.finish", "aligned.train.llama-tiny.finish", "logits.train.qwen2-tiny.finish"]
train = next(s for s in by if s.startswith("train.fused"))
assert after(train) == ["corpus.valid", fused + ".finish"], after(train)
assert jobs[-1]["name"] == "demo", jobs[-1]
if run:
    n = 0
    for j in jobs:
        path = os.path.join(folder, j["id"])
        with open(path, "w") as f:
            f.write(j["recipe"])
        parts = [str(i) for i in range(2)] if "array" in j else [None]
        for part in reversed(parts):
            env = {k: v for k, v in os.environ.items() if not k.startswith("SLURM_")}
            if part is not None:
                env.update(SLURM_ARRAY_TASK_ID=part, SLURM_ARRAY_JOB_ID=j["id"])
            out = subprocess.run([*run, "--job", path, "3", os.getcwd()], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            assert out.returncode == 0, (j["name"], part, out.stdout)
            n += 1
    print("%d jobs, %d tasks" % (len(jobs), n))
END
mkdir "$TMP/recipes"
check "arrays with their parts, each after what it needs; options by stage" python3 "$TMP/run.py" "$TMP/plan" "$TMP/recipes"
check "run as jobs they end well" python3 "$TMP/run.py" "$TMP/plan" "$TMP/recipes" "$BIN/kf-slurm"
mv "$W" "$TMP/jobs"
check "the same by make" make -s demo "${what[@]}" WORK="$W"
diff -r -x times.log -x log.jsonl -x report -x "report.*" "$W" "$TMP/jobs" > "$TMP/differ"
check "sets and models are the same, byte for byte" test ! -s "$TMP/differ" -a -s "$(ls "$TMP"/jobs/docs6/for-*/trace/* | head -n 1)"
check "without THREADS" "$BIN/kf-slurm" --logs "$TMP/logs" --print demo "${what[@]::${#what[@]}-1}" WORK="$TMP/fresh"
grep -oE 'kf-(extract|train) .*' "$TMP/.out" > "$TMP/plan"
check "threads are what the job gets" test "$(grep -c -- '--threads ${SLURM_CPUS_PER_TASK:-0}' "$TMP/plan")" = "$(grep -c . "$TMP/plan")" -a -s "$TMP/plan"
check "make slurm-demo THREADS=3" make -s slurm-demo "${what[@]}" WORK="$TMP/fresh" THREADS=3 SLURM_OPTIONS="--logs $TMP/logs --print"
check "threads are those" test "$(grep -cE 'kf-(extract|train) .*--threads 3( |$)' "$TMP/.out")" -gt 3 -a "$(grep -c SLURM_CPUS "$TMP/.out")" = 0
# Text that a source makes is made by jobs of their own, also where the corpus is there already.
generated() {
	print stage-targets GENERATE=2 --for generate=--gres=gpu:2 && cp "$TMP/.out" "$TMP/generated" &&
		[ "$(grep -c '^sbatch.*--gres=gpu:2' "$TMP/generated")" -ge 1 ] && ! sed -n '/^# here/,/^[^ ]/p' "$TMP/generated" | grep -q kf-generate
}
check "kf-slurm, with text that a source makes" generated
check "kf-slurm of a finished demo" print demo; cp "$TMP/.out" "$TMP/plan"
check "what is there is not submitted: a finished demo is the printing of its table" test "$(grep -c '^sbatch' "$TMP/plan")" -le 1
check "which is not done" test "$(grep -c '^# here, before any job: demo$' "$TMP/plan")" = 1 -a "$(grep -c '^kf-slurm: .*demo\|bits per byte' "$TMP/plan")" = 0
mkdir -p "$TMP/missing/models"; ln -s "$D/text" "$TMP/missing/text"
printf 'TARGET = no-such\nSOURCES = none-either\nDOMAINS = a\nKFUSE_BIN = %s\ninclude %s\n' "$(cd "$BIN" && pwd)" "$PWD/data/kfuse.mk" > "$TMP/missing/Makefile"
missing() { local bin; bin=$(cd "$BIN" && pwd); (cd "$TMP/missing" && "$bin/kf-slurm" --print fuse); }
check_fails 1 "there is no model" "a plan that lacks a model is none" missing
check "kf-slurm of pairs" print pairs; cp "$TMP/.out" "$TMP/plan"
check "pairs reuse what the demo made" test "$(grep '^# job' "$TMP/plan" | grep -cE 'logits|aligned')" = 0 -a "$(grep -c '^# job.*train' "$TMP/plan")" -gt 0
touch "$W/docs6/logits/train/llama-tiny/manifest.json"
check "kf-slurm of a demo of which something is older than what it is made of" print demo; cp "$TMP/.out" "$TMP/plan"
sed -nE 's,^# job .*docs6\.for-qwen2-tiny\.(aligned|targets|train|merged|report).*,\1,p; s/^# job [0-9]*: (demo)$/\1/p' "$TMP/plan" | uniq > "$TMP/got"
check_same "everything that is made of that is submitted, one after the other" <(printf '%s\n' aligned targets train merged report demo) "$TMP/got"

# A Slurm that only keeps what it is asked: every sbatch gets the next number and stays in the queue.
Q=$TMP/queue; mkdir "$TMP/slurm" "$Q"
cat > "$TMP/slurm/sbatch" <<END
#!/bin/bash
if [[ -e $Q/full && \$* = *.finish* ]]; then echo "sbatch: error: QOSMaxSubmitJobPerUserLimit" >&2; exit 1; fi
n=\$((\$(cat $Q/n 2>/dev/null) + 1)); echo \$n | tee $Q/n
echo "\$n PENDING None" >> $Q/queue; echo "\$n \$*" >> $Q/submitted
END
printf '#!/bin/bash\ncat %s/queue 2>/dev/null; true\n' "$Q" > "$TMP/slurm/squeue"
printf '#!/bin/bash\necho "$@" >> %s/cancelled\n' "$Q" > "$TMP/slurm/scancel"
chmod +x "$TMP"/slurm/*
submit() { PATH=$TMP/slurm:$PATH "$BIN/kf-slurm" --logs "$TMP/logs" "$@"; }
state() { submit --status 2>/dev/null | grep -A 1 "^$1" | sed -n 2p; }
asked_for() { cut -d ' ' -f 1 "$Q/submitted" 2>/dev/null | tr '\n' ' '; }
one=docs6/logits/train/llama-tiny/manifest.json
touch "$Q/full"
check_fails 1 "QOSMaxSubmitJobPerUserLimit" "the job after an array is refused" submit "$TMP/limit/$one" "${what[@]}" WORK="$TMP/limit"
cp "$TMP/.err" "$TMP/said"
check "it says so" grep -q "array 2 is submitted, the job after it is not" "$TMP/said"
same "--status knows that the array waits" "$(state "$TMP/limit/$one")" "    pending 1"
check "--cancel would take it" submit --cancel
same "it and its corpus" "$(cat "$Q/cancelled")" "1 2"
rm "$Q/full"
check "the same command again" submit "$TMP/limit/$one" "${what[@]}" WORK="$TMP/limit"
same "submits the job after the array, and nothing else" "$(asked_for)" "1 2 3 "
check "to begin after it" grep -qE '^3 .*--job-name=kf-[^ ]*\.finish .*--dependency=afterok:2( |$)' "$Q/submitted"
check "once more" submit "$TMP/limit/$one" "${what[@]}" WORK="$TMP/limit"
same "submits nothing" "$(asked_for)" "1 2 3 "
mkdir "$TMP/logs/$(tr / . <<<"$TMP/limit/docs6/corpus/valid").recipe"
check_fails 1 "cannot write its recipe" "a recipe that cannot be written" submit "$TMP/limit/docs6/corpus/valid/manifest.json" "${what[@]}" WORK="$TMP/limit"
same "is not submitted" "$(asked_for)" "1 2 3 "

# Targets whose names are too long for files: told apart all the same.
long=$TMP/$(printf 'long%.0s' $(seq 40))/$(printf 'name%.0s' $(seq 40)); rm -r "$TMP/logs"
for m in llama-tiny qwen2-tiny; do check "a target of a long name: $m" submit "$long/docs6/logits/train/$m/manifest.json" "${what[@]}" WORK="$long"; done
check "every job has a recipe and a log of its own" python3 - "$Q/submitted" <<'END'
import re, sys
lines = [l for l in open(sys.argv[1]) if "longlong" in l]
recipes, logs = ([re.search(how, l)[1] for l in lines] for how in (r" --job (\S+)", r"--output=(\S+)"))
assert len(set(recipes)) == len(set(logs)) == len(lines) == 5, lines
assert all(len(p.split("/")[-1]) < 250 for p in logs), logs
assert sum("train/llama-tiny" in open(r).read() for r in recipes) == 2, recipes
END

# What was there before a job is none of its work.
rm -r "$TMP/logs" "$Q/queue"; touch "$W/docs6/corpus/train/manifest.json"
check "a set that is older than its corpus" submit "$W/$one" "${what[@]}" WORK="$W"
rm "$Q/queue"
same "that the job did not make is not done" "$(state "$W/$one")" "    ended without making it"
touch "$W/$one"
same "and is when it did" "$(state "$W/$one")" "    done"

# A job's program that is killed, or that ends when time runs out, queues its job again; one that fails does not.
mkdir "$TMP/bin"; printf '#!/bin/bash\necho "$@" >> %s\nkill -KILL $PPID\n' "$TMP/scontrol" > "$TMP/bin/scontrol"; chmod +x "$TMP/bin/scontrol"
job() { PATH=$TMP/bin:$PATH SLURM_JOB_ID=77 "$@" "$BIN/kf-slurm" --job "$TMP/recipe" 3 "$TMP" >"$TMP/said" 2>&1; }
echo 'kill -KILL $$' > "$TMP/recipe"
job env SLURM_ARRAY_JOB_ID=70 SLURM_ARRAY_TASK_ID=4; check "killed: queued again" grep -qx "requeue 70_4" "$TMP/scontrol"
killed() { rm -f "$TMP/scontrol"; job env SLURM_RESTART_COUNT="$1"; status=$?; [ -e "$TMP/scontrol" ]; }
refuse() { ! "$@"; }
for turn in 0 1 2; do check "killed, and nothing had come of it, $((turn + 1)): queued again" killed $turn; done
touch "$TMP/shard-00000.mdb"
check "once more, but a shard has come of it: queued again" killed 3
for turn in 4 5 6; do killed $turn; done
check "three times at most without" refuse killed 7
check "that ends as killed" test $status -eq 137
check "and says why that may be" grep -q "4 times in a row without.*want of memory" "$TMP/said"
# Time that runs out: again as long as something comes of it.
job_out_of_time() { # TURN: of a program that takes longer than it has
	rm -f "$TMP/scontrol"
	SLURM_RESTART_COUNT=$1 PATH=$TMP/bin:$PATH SLURM_JOB_ID=77 exec "$BIN/kf-slurm" --job "$TMP/recipe" 2 "$TMP" "$TMP/grows" >"$TMP/said" 2>&1
}
echo 'touch begun; for i in $(seq 300); do sleep 0.1; done' > "$TMP/recipe"
mkdir "$TMP/grows"
turn() { # TURN: queued again, or not
	rm -f "$TMP/begun"
	job_out_of_time "$1" & pid=$!
	for _ in $(seq 100); do [ -e "$TMP/begun" ] && break; sleep 0.05; done
	kill -USR1 $pid; wait $pid
	[ -e "$TMP/scontrol" ]
}
check "out of time: queued again" turn 0
touch "$TMP/grows/shard-00000.mdb"
check "and again, as something came of it" turn 1
check "and once more, without" turn 2
check "and once more, twice without" turn 3
check "three times without: not queued again" refuse turn 4
check "and says what to do" grep -q "without a shard or checkpoint more" "$TMP/said"
# As its recipe begins, when nothing runs yet that could be asked to end.
printf '#!/bin/bash\nkill -USR1 $PPID; sleep 0.2; exec /bin/bash "$@"\n' > "$TMP/bin/bash"; chmod +x "$TMP/bin/bash"
echo 'for i in $(seq 300); do sleep 0.1; done; touch all' > "$TMP/recipe"
check "out of time at once: queued again" killed 0
check "and ended before its end" test ! -e "$TMP/all"
rm "$TMP/bin/bash"
# What another process has locked: the one of before, where its node was lost.
echo 'exit $KF_BUSY_STATUS' > "$TMP/recipe"
locked() { killed "$1"; }
check "locked: not queued again" refuse locked 0
check "that ends as it is" test $status -eq 75
echo 'kill -KILL $$' > "$TMP/recipe"; killed 0; echo 'exit $KF_BUSY_STATUS' > "$TMP/recipe"
for turn in 1 2; do check "locked when it was queued again, $turn: once more" locked $turn; done
check "and not for ever" refuse locked 3
check "and says what may be" grep -q "4 times in a row.*lines above say which" "$TMP/said"
echo 'exit 1' > "$TMP/recipe"; job env; status=$?
check "failed: not queued again" test $status -eq 1 -a ! -e "$TMP/scontrol"
printf 'trap "echo put away >> %s; exit 143" TERM; echo begun >> %s; for i in $(seq 300); do sleep 0.1; done\n' "$TMP/put" "$TMP/put" > "$TMP/program"
echo "bash $TMP/program" > "$TMP/recipe"
for sig in USR1 TERM; do
	rm -f "$TMP/put" "$TMP/scontrol"
	job exec & pid=$!
	for _ in $(seq 100); do [ -s "$TMP/put" ] && break; sleep 0.1; done
	kill -$sig $pid; wait $pid
	check "SIG$sig: the program is asked to end" grep -qx "put away" "$TMP/put"
	if [ $sig = USR1 ]; then check "queued again" grep -qx "requeue 77" "$TMP/scontrol"; else check "cancelled: not queued again" test ! -e "$TMP/scontrol"; fi
done

check_fails 2 "which target" "no target" "$BIN/kf-slurm"
check_fails 2 "no such stage" "a stage that is none" "$BIN/kf-slurm" demo --for brew=--now
check_fails 2 "unknown option" "an option that is none" "$BIN/kf-slurm" demo --fast
check_fails 2 "--print takes no value" "an option without a value that has one" "$BIN/kf-slurm" --print=yes demo
command -v sbatch >/dev/null || check_fails 1 "sbatch is not there" "no Slurm" "$BIN/kf-slurm" --logs "$TMP/logs" demo
