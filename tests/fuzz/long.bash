# long.bash BUILD SECONDS: libFuzzer on every target until each had so many seconds of processor time, as many targets at once as there are
# processors (FUZZ_JOBS: another number). Corpora grow in BUILD/corpus and the time each target had is kept beside what was found
# (BUILD/found), so that a run that was interrupted, or one for longer, goes on from there. Prints a table at the end: processor time,
# executions, edges covered, inputs kept, and what was found. (The limit of an input is by the clock: long, for machines that do other things.)
set -u
B=$1 seconds=$2 slice=300
mkdir -p "$B/found"
number() { cat "$1" 2>/dev/null || echo 0; }
worked() { # sets spent: whole seconds of processor time of the commands that this shell has waited for
	times >"$at.times"
	spent=$(tail -n 1 "$at.times" | sed 's/[ms]/ /g' | awk '{ printf "%d\n", $1 * 60 + $2 + $3 * 60 + $4 + 0.5 }')
	rm -f "$at.times"
}
fuzz() { # target: to its time, or to what it finds
	name=${1##*/} C=$B/corpus/$name at=$B/found/$name
	bash tests/fuzz/seeds.bash "$name" "$C"
	while had=$(number "$at.seconds"); [ "$had" -lt "$seconds" ]; do
		left=$((seconds - had))
		worked; before=$spent
		echo "$name: $had of $seconds s"
		"$1" -max_total_time=$((left < slice ? left : slice)) -max_len=131072 -rss_limit_mb=4096 -timeout=300 -report_slow_units=300 -print_final_stats=1 \
			-artifact_prefix="$at-" "$C" >"$at.log" 2>&1 || found=1
		worked; echo $((had + spent - before)) >"$at.seconds"
		echo $(($(number "$at.runs") + $(sed -n 's/^stat::number_of_executed_units: *//p' "$at.log" | grep . || echo 0))) >"$at.runs"
		[ -z "${found:-}" ] || break # what was found comes first: mend it, then go on
	done
}
for f in "$B"/fuzz/fuzz_*; do
	while [ "$(jobs -rp | wc -l)" -ge "${FUZZ_JOBS:-$(nproc)}" ]; do wait -n; done
	fuzz "$f" &
done
wait
for f in "$B"/fuzz/fuzz_*; do
	name=${f##*/} at=$B/found/$name
	bad=$(find "$B/found" -name "$name-*" | wc -l)
	printf '%-18s %6d s  %10d executions  %6s edges  %5d inputs kept  %s\n' "$name" "$(number "$at.seconds")" "$(number "$at.runs")" \
		"$(grep -oE 'cov: [0-9]+' "$at.log" | tail -n 1 | cut -d' ' -f2)" "$(find "$B/corpus/$name" -type f | wc -l)" \
		"$([ "$bad" -eq 0 ] && echo 'nothing found' || echo "$bad FOUND: $B/found/$name-*")"
done | tee "$B/found/table"
! grep -q FOUND "$B/found/table"
