# A real Slurm on this machine (munged, slurmctld and a slurmd for each of two nodes by hand, as whoever runs the test) runs kfuse.mk's
# pipeline on tiny models, submitted by kf-slurm. Tasks are killed, queued again, asked to end as at a time limit, and cancelled for good, and a
# node is lost: the sets and the models end as those of an undisturbed make, byte for byte. Then training runs on both nodes, over MPI: as one
# process does but for the order of sums. Nothing of Slurm is left running.
. tests/lib.sh
PATH=$PATH:/usr/sbin:/sbin
for p in munged slurmctld slurmd sbatch squeue scontrol scancel; do
	command -v $p >/dev/null || { skip "a Slurm runs the pipeline" "no $p: make deps SLURM=1, or Debian's slurm-wlm and munge"; exit; }
done
S=$TMP/slurm host=$(hostname -s) me=$(id -un)
mkdir -p "$S/state" "$S/munge" "$S/tmp-one" "$S/tmp-two"; chmod 755 "$TMP" "$S" "$S/munge"
dd if=/dev/urandom of="$S/munge.key" bs=128 count=1 status=none; chmod 400 "$S/munge.key"
port=$((20000 + $$ % 20000))
cat > "$S/slurm.conf" <<END
ClusterName=kfuse
SlurmctldHost=$host(127.0.0.1)
SlurmUser=$me
SlurmdUser=$me
SlurmctldPort=$port
AuthType=auth/munge
AuthInfo=socket=$S/munge/socket
CredType=cred/munge
StateSaveLocation=$S/state
SlurmdSpoolDir=$S/spool-%n
TmpFS=$S/tmp-%n
SlurmctldPidFile=$S/slurmctld.pid
SlurmdPidFile=$S/slurmd-%n.pid
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
SlurmdTimeout=10
MinJobAge=3600
NodeName=one NodeHostname=$host NodeAddr=127.0.0.1 Port=$((port + 1)) CPUs=2 State=UNKNOWN
NodeName=two NodeHostname=$host NodeAddr=127.0.0.1 Port=$((port + 2)) CPUs=2 State=UNKNOWN
PartitionName=test Nodes=one,two Default=YES MaxTime=INFINITE State=UP
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
declare -A slurmd=()
node_up() { slurmd -D -N "$1" >>"$S/slurmd-$1.log" 2>&1 & slurmd[$1]=$!; daemons+=($!); }
node_is() { sinfo -h -n "$1" -o %t 2>/dev/null | grep -qE "$2"; }
node_up one; node_up two
for _ in $(seq 100); do node_is one idle && node_is two idle && break; sleep 0.3; done
if ! { node_is one idle && node_is two idle; }; then
	not_ok "Slurm comes up" "$(for l in "$S"/*.out "$S"/*.log; do tail -n 3 "$l"; done)"; exit
fi
ok "Slurm comes up: $(sinfo --version), a controller and two nodes"

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
# A node is gone: its slurmd, what slurmd started for its jobs, and all that these run, at once. It comes back with an empty disk.
node_lost() { # NODE
	local p all=() stepd=()
	for p in $(grep -lzxF "SLURMD_NODENAME=$1" $(grep -lzxF "SLURM_CONF=$SLURM_CONF" /proc/[0-9]*/environ 2>/dev/null) 2>/dev/null | grep -oE '[0-9]+'); do
		all+=("$p")
		p=$(awk '{ print $4 }' "/proc/$p/stat" 2>/dev/null)
		[ "$(cat "/proc/${p:-0}/comm" 2>/dev/null)" = slurmstepd ] && stepd+=("$p")
	done
	p=${slurmd[$1]}
	kill -KILL "$p" ${stepd[@]+"${stepd[@]}"} ${all[@]+"${all[@]}"} 2>/dev/null
	wait "$p" 2>/dev/null
	rm -rf "$S/tmp-$1" "$S/spool-$1"; mkdir "$S/tmp-$1"
}
drain() { for _ in $(seq 1200); do finished && return 0; hurry; sleep 0.5; done; return 1; }

# One thing after another, while there is something to do it to.
killed=0 requeued=0 asked=0 cancelled=0 lost=0 turn=0
for _ in $(seq 3000); do
	finished && break
	hurry
	case $((turn++ % 5)) in
	0) # a program is killed, as when memory is short: its job queues again by itself
		for stage in fuse align extract; do
			if [ $killed -lt 6 ] && p=$(program_of $stage); then kill -KILL "$p" 2>/dev/null && killed=$((killed + 1)); break; fi
		done ;;
	1) # queued again from outside, as when a job is pre-empted or its node is lost
		[ $requeued -lt 4 ] && id=$(running "logits.train|aligned") && [ -n "$id" ] && scontrol requeue "$id" 2>/dev/null && requeued=$((requeued + 1)) ;;
	2) # told that its time has nearly run out
		[ $asked -lt 4 ] && id=$(running "train") && [ -n "$id" ] && scancel --batch --signal=USR1 "$id" 2>/dev/null && asked=$((asked + 1)) ;;
	3) # cancelled for good, with all that waits for it: the same command again submits what is missing
		[ $cancelled -eq 0 ] && [ $lost -ne 1 ] && [ $((killed + requeued + asked)) -ge 4 ] && id=$(running .) && [ -n "$id" ] || continue
		scancel "${id%_*}"
		for _ in $(seq 100); do jobs | grep -q "^${id%_*}\(_\| \)" || break; sleep 0.2; done
		sleep 1
		if submit && [ "$(grep -c ': job [0-9]*\(,\|$\)' "$TMP/submit")" -ge 1 ]; then cancelled=1; fi ;;
	4) # a node is lost with what it runs, and comes back once Slurm has seen it
		if [ $lost -eq 0 ]; then
			[ $((killed + requeued + asked)) -ge 2 ] && squeue -h -w two -t RUNNING -o %j | grep -qE 'logits|aligned|targets' || continue
			node_lost two; lost=1
		elif [ $lost -eq 1 ] && node_is two 'down|future'; then node_up two; lost=2; fi ;;
	esac
	sleep 0.2
done
check "tasks died while they ran: $killed killed, $requeued queued again, $asked asked to end before their time was out" \
	test $killed -ge 1 -a $requeued -ge 1 -a $asked -ge 1
check "a job was cancelled with what waited for it, and kf-slurm submitted these again" test $cancelled -eq 1
check "a node was lost with what it ran, and came back" test $lost -eq 2
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

# ---- one training on both nodes, over MPI ----

two_nodes() {
	local work=work/docs0/for-student-f32/train/clm-lr1e-4x3-b4096 again=(train-clm EPOCHS=3 BATCH=4096)
	check "make, one process" make -s -C "$TMP/plain" "${again[@]}"
	mkdir "$TMP/bin"; ln -s "$I"/k/bin/kf-* "$TMP/bin"; ln -sf "$(realpath "$BIN/../mpi/kf-train")" "$TMP/bin"
	# Both nodes are this machine: what passes between them does so by TCP all the same.
	export OMPI_MCA_btl=self,tcp OMPI_MCA_btl_tcp_if_include=lo OMPI_MCA_hwloc_base_binding_policy=none OMPI_MCA_mpi_yield_when_idle=1
	(cd "$TMP/jobs" && "$TMP/bin/kf-slurm" --for all="--mem=0" --for train="--nodes=2 --ntasks-per-node=1 --cpus-per-task=1" "${again[@]}" KFUSE_BIN="$TMP/bin" \
		TRAIN_RUN="srun --mpi=pmix") >"$TMP/submit" 2>&1
	for _ in $(seq 3000); do [ -n "$(ls "$TMP/jobs/$work"/state/step-* 2>/dev/null)" ] && break; sleep 0.1; done
	node_lost two
	for _ in $(seq 300); do node_is two 'down|future' && break; sleep 0.2; done
	node_up two
	check "both nodes: the queue empties" drain
	check "both nodes: one was lost, and the other said so" grep -q "process 1 of 2 .* died" "$TMP/jobs/slurm-logs/${work//\//.}.log"
	check "both nodes: the training queued again and went on from its checkpoint" grep -q "gone on from step" "$TMP/jobs/slurm-logs/${work//\//.}.log"
	check "both nodes: the same model but for the order of sums" alike "$TMP/plain/$work" "$TMP/jobs/$work" 1e-4 1e-5
}
if [ -x "$BIN/../mpi/kf-train" ] && srun --mpi=list 2>&1 | grep -q pmix; then two_nodes
else skip "one training on both nodes" "no MPI, or a Slurm without pmix: make deps MPI=1 SLURM=1"; fi

down
sleep 0.5
left=$(ours)
check "nothing of Slurm is left running" test -z "$left"
