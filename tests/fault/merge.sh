# kf-merge: killed at 20 random moments, what is there is whole or nothing, and the same command ends with the same bytes.
. tests/lib.sh
M=tests/models/llama-tiny
merge=("$BIN/kf-merge" --pivot $M --models $M --models $M --method linear --threads 1 --quiet)
begin=$(date +%s%N)
check "undisturbed" "${merge[@]}" --out "$TMP/whole"
us=$((($(date +%s%N) - begin) / 1000))
RANDOM=5 finished=0
for ((i = 0; i < 20; i++)); do
	wait=$((RANDOM * us / 32768))
	"${merge[@]}" --out "$TMP/model" >"$TMP/.out" 2>"$TMP/.err" &
	pid=$!
	sleep "$(printf '0.%06d' $wait)"
	kill -KILL $pid 2>/dev/null
	wait $pid 2>/dev/null
	if [ -e "$TMP/model" ]; then
		finished=$((finished + 1))
		check "what looks complete is, after kill $((i + 1))" diff -r "$TMP/whole" "$TMP/model"
		rm -r "$TMP/model" # and again, so that kills meet every part of a run
	fi
done
check "after 20 kills, $finished runs that had ended" "${merge[@]}" --out "$TMP/model"
check "the same folder" diff -r "$TMP/whole" "$TMP/model"
check "nothing left over" test -z "$(ls -d "$TMP"/model.* 2>/dev/null)"
check "some were killed" test $finished -lt 20

# Two at once: one of them says so, or both end; what is there is whole.
for i in 1 2 3 4 5; do
	"${merge[@]}" --out "$TMP/two" >/dev/null 2>"$TMP/err1" & a=$!
	"${merge[@]}" --out "$TMP/two" >/dev/null 2>"$TMP/err2"; second=$?
	wait $a; first=$?
	if [ $first -eq 0 ] || [ $second -eq 0 ]; then check "two at once, $i: whole" diff -r "$TMP/whole" "$TMP/two"
	else not_ok "two at once, $i" "$(cat "$TMP/err1" "$TMP/err2")"; fi
	cat "$TMP/err1" "$TMP/err2" >>"$TMP/errs"
	rm -r "$TMP/two"
done
check "no other complaint" test -z "$(grep -Ev 'is being written by|is there already' "$TMP/errs")"
