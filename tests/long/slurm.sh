# A real Slurm on this machine (munged, slurmctld and slurmd by hand, as whoever runs the test) runs kfuse.mk's pipeline on tiny models,
# submitted by kf-slurm. Tasks are killed, queued again, asked to end as at a time limit, and cancelled for good: the sets and
# the models end as those of an undisturbed make, byte for byte. Nothing of Slurm is left running.
. tests/lib.sh
PATH=$PATH:/usr/sbin:/sbin
for p in munged slurmctld slurmd sbatch squeue scontrol scancel; do
	command -v $p >/dev/null || { skip "a Slurm runs the pipeline" "no $p: make deps SLURM=1, or Debian's slurm-wlm and munge"; exit; }
done
S=$TMP/slurm host=$(hostname -s) me=$(id -un)
mkdir -p "$S/state" "$S/spool" "$S/munge"; chmod 755 "$TMP" "$S" "$S/munge"
dd if=/dev/urandom of="$S/munge.key" bs=128 count=1 status=none; chmod 400 "$S/munge.key"
port=$((20000 + $$ % 20000))
cat > "$S/slurm.conf" <<END
ClusterName=kfuse
SlurmctldHost=$host(127.0.0.1)
SlurmUser=$me
SlurmdUser=$me
SlurmctldPort=$port
SlurmdPort=$((port + 1))
AuthType=auth/munge
AuthInfo=socket=$S/munge/socket
CredType=cred/munge
StateSaveLocation=$S/state
SlurmdSpoolDir=$S/spool
SlurmctldPidFile=$S/slurmctld.pid
SlurmdPidFile=$S/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=5
MinJobAge=3600
NodeName=$host NodeAddr=127.0.0.1 CPUs=3 State=UNKNOWN
PartitionName=test Nodes=$host Default=YES MaxTime=INFINITE State=UP
END
export SLURM_CONF=$S/slurm.conf
# Processes of this test, by what they were started with: those of Slurm, and of its jobs.
ours() {
	local p all
	all=$(grep -lzxF "SLURM_CONF=$SLURM_CONF" /proc/[0-9]*/environ 2>/dev/null | grep -oE '[0-9]+')
	for p in $all; do [ -d "/proc/$p" ] && [ "$p" != $$ ] && [ "$p" != "$BASHPID" ] && tr '\0' ' ' < "/proc/$p/cmdline"; done
}
daemons=()
down() {
	[ ${#daemons[@]} -gt 0 ] || return
	scancel -u "$me" 2>/dev/null
	for _ in $(seq 50); do [ -n "$(squeue -h 2>/dev/null)" ] || break; sleep 0.2; done
	for ((i = ${#daemons[@]} - 1; i >= 0; i--)); do kill "${daemons[i]}" 2>/dev/null; wait "${daemons[i]}" 2>/dev/null; done
	daemons=()
}
trap 'down; rm -rf "$TMP"' EXIT
munged --force --foreground --key-file="$S/munge.key" --socket="$S/munge/socket" --pid-file="$S/munge/pid" --log-file="$S/munge/log" \
	--seed-file="$S/munge/seed" >"$S/munged.out" 2>&1 & daemons+=($!)
for _ in $(seq 50); do [ -S "$S/munge/socket" ] && break; sleep 0.1; done
slurmctld -D -i >"$S/slurmctld.log" 2>&1 & daemons+=($!)
slurmd -D -N "$host" >"$S/slurmd.log" 2>&1 & daemons+=($!)
for _ in $(seq 100); do sinfo -h -o %t 2>/dev/null | grep -q idle && break; sleep 0.3; done
if ! sinfo -h -o %t 2>/dev/null | grep -q idle; then
	not_ok "Slurm comes up" "$(tail -n 3 "$S/munged.out" "$S/slurmctld.log" "$S/slurmd.log")"; exit
fi
ok "Slurm comes up: $(sinfo --version), a controller and a node"

# ---- what to run: as installed, a Makefile of a few lines, the same in two folders ----
I=$TMP/root
make -s install DESTDIR="$I" PREFIX=/k B="${BIN%/bin}" >/dev/null || { not_ok "make install"; exit; }
python3 - "$TMP/notes.jsonl" <<'END'
import json, random, sys
random.seed(4)
words = "the of and a to in is it that was for on are as with his they at be this from have or by one had not but what all were when we there can".split()
with open(sys.argv[1], "w") as f:
    for i in range(800):
        text = " ".join(random.choice(words) for _ in range(350)) + ".\n"
        f.write(json.dumps({"id": f"t{i}", "domain": "ab"[i % 2], "text": text}) + "\n")
END
for f in plain jobs; do
	mkdir -p "$TMP/$f/models"; cp "$TMP/notes.jsonl" "$TMP/$f/"
	cp -r tests/models/qwen2-tiny "$TMP/$f/models/student"
	cp -r tests/models/llama-tiny "$TMP/$f/models/one"; cp -r tests/models/gemma3-tiny "$TMP/$f/models/two"
	printf '%s\n' "TARGET = student" "SOURCES = one two" "TEXT = notes.jsonl" "EPOCHS = 1" "EXTRACT_COMPUTE = f32" "THREADS = 1" "SHARDS = 8" "PARTS = 4" "BATCH = 16384" \
		"VALID_DOCS = 4" "TEST_DOCS = 4" "KFUSE_BIN = $I/k/bin" "include $I/k/share/kfuse/kfuse.mk" > "$TMP/$f/Makefile"
done
check "make, undisturbed" make -s -C "$TMP/plain"
submit() { (cd "$TMP/jobs" && "$I/k/bin/kf-slurm" --for all="--mem=0" fuse) >"$TMP/submit" 2>&1; }
if submit; then ok "kf-slurm submits it: $(grep -c ': job' "$TMP/submit") targets"
else not_ok "kf-slurm submits it" "$(tail -n 5 "$TMP/submit")"; exit; fi
submit
check "again: nothing new while the jobs are there" test "$(grep -c 'is at it' "$TMP/submit")" -gt 8 -a "$(grep -c 'after .* parts' "$TMP/submit")" -eq 0
jobs() { squeue -h -r -o '%i %T %j %r'; }
finished() { [ -z "$(jobs)" ]; }
# A running task whose job's name has the word.
running() { jobs | awk -v w="$1" '$2 == "RUNNING" && $3 ~ w && $3 !~ /finish/ { print $1; exit }'; }
# Slurm lets what is queued again rest for two minutes. Three seconds do here: started in the second in which it was ended, a job
# fails as the node takes its new credential for the one revoked, and its program of before may still be putting away its shard.
declare -A rests=()
hurry() {
	local id
	for id in $(jobs | awk '$4 == "BeginTime" { print $1 }'); do
		: "${rests[$id]:=$SECONDS}"
		if [ $((SECONDS - rests[$id])) -gt 3 ] && scontrol update jobid="$id" starttime=now 2>/dev/null; then unset "rests[$id]"; fi
	done
}
program_of() { # STAGE: a process of it that works on a part
	local f
	for f in $(grep -lzE "/kf-$1\$" /proc/[0-9]*/cmdline 2>/dev/null); do
		tr '\0' ' ' 2>/dev/null < "$f" | grep -q "^[^ ]*$I/k/bin/kf-$1 .*--shard" && { f=${f#/proc/}; echo "${f%/cmdline}"; return; }
	done
	return 1
}
drain() { for _ in $(seq 1200); do finished && return 0; hurry; sleep 0.5; done; return 1; }

# One thing after another, while there is something to do it to.
killed=0 requeued=0 asked=0 cancelled=0 turn=0
for _ in $(seq 3000); do
	finished && break
	hurry
	case $((turn++ % 4)) in
	0) # a program is killed, as when memory is short: its job queues again by itself
		for stage in fuse align extract; do
			if [ $killed -lt 6 ] && p=$(program_of $stage); then kill -KILL "$p" 2>/dev/null && killed=$((killed + 1)); break; fi
		done ;;
	1) # queued again from outside, as when a job is pre-empted or its node is lost
		[ $requeued -lt 4 ] && id=$(running "logits.train|aligned") && [ -n "$id" ] && scontrol requeue "$id" 2>/dev/null && requeued=$((requeued + 1)) ;;
	2) # told that its time has nearly run out
		[ $asked -lt 4 ] && id=$(running "train") && [ -n "$id" ] && scancel --batch --signal=USR1 "$id" 2>/dev/null && asked=$((asked + 1)) ;;
	3) # cancelled for good, with all that waits for it: the same command again submits what is missing
		[ $cancelled -eq 0 ] && [ $((killed + requeued + asked)) -ge 4 ] && id=$(running .) && [ -n "$id" ] || continue
		scancel "${id%_*}"
		for _ in $(seq 100); do jobs | grep -q "^${id%_*}\(_\| \)" || break; sleep 0.2; done
		sleep 1
		if submit && [ "$(grep -c ': job [0-9]*\(,\|$\)' "$TMP/submit")" -ge 1 ]; then cancelled=1; fi ;;
	esac
	sleep 0.2
done
check "tasks died while they ran: $killed killed, $requeued queued again, $asked asked to end before their time was out" \
	test $killed -ge 1 -a $requeued -ge 1 -a $asked -ge 1
check "a job was cancelled with what waited for it, and kf-slurm submitted these again" test $cancelled -eq 1
check "the queue empties" drain
(cd "$TMP/jobs" && "$I/k/bin/kf-slurm" --status) >"$TMP/status" 2>&1
if [ "$(grep -c '^    done' "$TMP/status")" -ge 8 ] && ! grep -qE '^    (stuck|running|pending|ended without)' "$TMP/status"; then ok "--status says that all is done"
else not_ok "--status says that all is done" "$(grep -E -B 1 -A 1 '^    (stuck|running|pending|ended without)' "$TMP/status")"; fi
submit
check "once more: nothing is left to submit but the table" test "$(grep -c ': job' "$TMP/submit")" -le 1
drain
grep -hE '^kf-[a-z]+: ' "$TMP"/jobs/slurm-logs/*.log | grep -vE '^kf-slurm: |stopped by SIG' > "$TMP/errors"
check "no program failed by itself" test ! -s "$TMP/errors"
restarts=$(cat "$TMP"/jobs/slurm-logs/*.log | grep -c 'queued again for the')
check "tasks ran again: $restarts" test "$restarts" -ge 3

# ---- the same, byte for byte ----
(cd "$TMP/plain/work" && find . -name manifest.json | sort) > "$TMP/sets.a"
(cd "$TMP/jobs/work" && find . -name manifest.json | sort) > "$TMP/sets.b"
check_same "the same sets" "$TMP/sets.a" "$TMP/sets.b"
n=0
while read -r m; do
	d=${m%/manifest.json}
	diff -r -x times.log "$TMP/plain/work/$d" "$TMP/jobs/work/$d" >>"$TMP/differ" 2>&1 && n=$((n + 1))
done < "$TMP/sets.a"
if [ "$n" -eq "$(wc -l < "$TMP/sets.a")" ] && [ ! -s "$TMP/differ" ]; then ok "$n sets, byte for byte"
else not_ok "$n sets, byte for byte" "$(head -n 12 "$TMP/differ")"; fi
n=0
while read -r m; do cmp -s "$TMP/plain/work/$m" "$TMP/jobs/work/$m" && n=$((n + 1)); done < <(cd "$TMP/plain/work" && find . -path '*/train/*' -name model.safetensors)
check "the $n trained models, byte for byte" test "$n" -eq 2
check_same "the table" "$TMP"/plain/work/docs*/for-*/report/*.txt "$TMP"/jobs/work/docs*/for-*/report/*.txt

down
sleep 0.5
left=$(ours)
check "nothing of Slurm is left running" test -z "$left"
