#!/bin/bash
# Run tests and count: tests/run.sh BUILD KIND... with KIND unit, cli, fault, fuzz or long; of all but unit, tests/KIND/*.sh.
# Ends with "N passed, N failed" (", N skipped" where there were any); exit status 1 when
# one failed. TESTS=word runs only those whose path has the word; TEST_JOBS as many at once, else one a processor; a script or
# program is one, and what it says is told in the order of their names.
set -u
B=$1; shift
export BIN=$B/bin LC_ALL=C.UTF-8
jobs=${TEST_JOBS:-$(nproc)}
passed=0 failed=0 skipped=0
logs=$(mktemp -d); trap 'rm -rf "$logs"' EXIT
trap 'kill $(jobs -p) 2>/dev/null; exit 1' INT TERM

wanted=()
for kind in "$@"; do
	if [ "$kind" = unit ]; then set -- tests/unit/*/test_*.c; else set -- tests/"$kind"/*.sh; fi
	for t in "$@"; do
		[ -f "$t" ] && [[ -z "${TESTS:-}" || "$t" == *"$TESTS"* ]] && wanted+=("$t")
	done
done

# Into LOG, and then its exit status and how many seconds it took into LOG.end.
run() { # TEST LOG
	local status program
	SECONDS=0
	if [[ "$1" == *.c ]]; then
		program=$B/tests/${1#tests/unit/}
		CMOCKA_MESSAGE_OUTPUT=tap "${program%.c}" >"$2.raw" 2>&1; status=$?
		# cmocka's TAP: "ok 1 - name", "not ok 2 - name", "ok 3 # SKIP name"
		sed -E 's/^(not )?ok ([0-9]+) # SKIP ?(.*)$/skip \3 - skipped by the test/; s/^(not )?ok [0-9]+ - /\1ok /' "$2.raw" >"$2"
	else
		bash "$1" >"$2" 2>&1; status=$?
	fi
	echo "$status $SECONDS" >"$2.new"; mv "$2.new" "$2.end"
}

# A script or program that dies without a "not ok" has failed, too.
count() { # TEST LOG
	local p f s status seconds
	read -r status seconds <"$2.end"
	p=$(grep -c '^ok ' "$2"); f=$(grep -c '^not ok ' "$2"); s=$(grep -c '^skip ' "$2")
	if [ "$status" -ne 0 ] && [ "$f" -eq 0 ]; then
		echo "not ok $1: exit status $status, and it ended with"; tail -n 12 "$2" | sed 's/^/#   /'; f=1
	elif [ $((p + f + s)) -eq 0 ]; then echo "not ok $1: ran no test"; f=1; fi
	grep -E '^(not ok|skip) ' -A 12 "$2" | grep -Ev '^ok |^--$'
	printf '%-44s %4d ok %s%s  %ds\n' "$1" "$p" "$([ "$f" -gt 0 ] && echo "$f FAILED ")" "$([ "$s" -gt 0 ] && echo "$s skipped")" "$seconds"
	passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
}

told=0
tell() { while [ $told -lt ${#wanted[@]} ] && [ -e "$logs/$told.end" ]; do count "${wanted[told]}" "$logs/$told"; told=$((told + 1)); done; }

running=0
for i in "${!wanted[@]}"; do
	if [ $running -ge "$jobs" ]; then wait -n; running=$((running - 1)); tell; fi
	run "${wanted[i]}" "$logs/$i" &
	running=$((running + 1))
done
while [ $running -gt 0 ]; do wait -n; running=$((running - 1)); tell; done
if [ $told -lt ${#wanted[@]} ]; then echo "not ok ${wanted[told]}: was not run to its end"; failed=$((failed + 1)); fi
if [ $skipped -gt 0 ]; then echo "$passed passed, $failed failed, $skipped skipped"; else echo "$passed passed, $failed failed"; fi
[ $failed -eq 0 ]
