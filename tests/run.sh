#!/bin/bash
# Run tests and count: tests/run.sh BUILD KIND... with KIND unit, cli, fault, fuzz or long; of all but unit, tests/KIND/*.sh.
# Ends with "N passed, N failed" (", N skipped" where there were any); exit status 1 when
# one failed. TESTS=word runs only those whose path has the word.
set -u
B=$1; shift
export BIN=$B/bin LC_ALL=C.UTF-8
passed=0 failed=0 skipped=0
log=$(mktemp); trap 'rm -f "$log"' EXIT

# A script or program that dies without a "not ok" has failed, too.
count() { # FILE STATUS
	local p f s
	p=$(grep -c '^ok ' "$log"); f=$(grep -c '^not ok ' "$log"); s=$(grep -c '^skip ' "$log")
	if [ "$2" -ne 0 ] && [ "$f" -eq 0 ]; then echo "not ok $1: exit status $2"; f=1
	elif [ $((p + f + s)) -eq 0 ]; then echo "not ok $1: ran no test"; f=1; fi
	grep -E '^(not ok|skip) ' -A 12 "$log" | grep -Ev '^ok |^--$'
	printf '%-44s %4d ok %s%s  %ds\n' "$1" "$p" "$([ "$f" -gt 0 ] && echo "$f FAILED ")" "$([ "$s" -gt 0 ] && echo "$s skipped")" "$SECONDS"
	passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
}

wanted() { [[ -z "${TESTS:-}" || "$1" == *"$TESTS"* ]]; }

for kind in "$@"; do
	if [ "$kind" = unit ]; then
		for src in tests/unit/*/test_*.c; do
			wanted "$src" || continue
			t=$B/tests/${src#tests/unit/}; t=${t%.c}
			SECONDS=0
			CMOCKA_MESSAGE_OUTPUT=tap "$t" >"$log.raw" 2>&1; status=$?
			# cmocka's TAP: "ok 1 - name", "not ok 2 - name", "ok 3 # SKIP name"
			sed -E 's/^(not )?ok ([0-9]+) # SKIP ?(.*)$/skip \3 - skipped by the test/; s/^(not )?ok [0-9]+ - /\1ok /' "$log.raw" >"$log"
			count "$src" $status; rm -f "$log.raw"
		done
	else
		for t in tests/"$kind"/*.sh; do
			[ -f "$t" ] && wanted "$t" || continue
			SECONDS=0
			bash "$t" >"$log" 2>&1; count "$t" $?
		done
	fi
done
if [ $skipped -gt 0 ]; then echo "$passed passed, $failed failed, $skipped skipped"; else echo "$passed passed, $failed failed"; fi
[ $failed -eq 0 ]
