# long.bash BUILD SECONDS: libFuzzer on every target, so long each; corpora grow in BUILD/corpus. Prints a table at the end: executions,
# edges covered, and what was found (BUILD/found has the inputs).
set -u
B=$1 seconds=$2 status=0
mkdir -p "$B/found"
for f in "$B"/fuzz/fuzz_*; do
	name=${f##*/} C=$B/corpus/$name
	bash tests/fuzz/seeds.bash "$name" "$C"
	echo "$name: $seconds s"
	"$f" -max_total_time="$seconds" -max_len=131072 -rss_limit_mb=4096 -timeout=30 -print_final_stats=1 -artifact_prefix="$B/found/$name-" "$C" >"$B/found/$name.log" 2>&1 || status=1
	printf '%-20s %10s executions  %7s edges  %s inputs kept  %s\n' "$name" "$(sed -n 's/^stat::number_of_executed_units: *//p' "$B/found/$name.log")" \
		"$(grep -oE 'cov: [0-9]+' "$B/found/$name.log" | tail -n 1 | cut -d' ' -f2)" "$(ls "$C" | wc -l)" \
		"$(ls "$B/found" | grep -c "^$name-" | sed 's/^0$/nothing found/; s/^[1-9].*/& FOUND/')"
done | tee "$B/found/table"
exit $status
