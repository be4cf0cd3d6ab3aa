# Every reader over its seeds and changes of them, a few thousand inputs each: none may crash it. Under ASAN=1 none may read what is
# not there. make fuzz looks for longer.
. tests/lib.sh
export KFUSE_MODELS="$PWD/tests/models"
total=0
for f in "${BIN%/bin}"/fuzz/fuzz_*; do
	[ -x "$f" ] || continue
	name=${f##*/}
	bash tests/fuzz/seeds.bash "$name" "$TMP/$name" || { not_ok "$name"; continue; }
	files=$(ls "$TMP/$name" | wc -l)
	(cd "$TMP" && timeout 300 "$OLDPWD/$f" -n $(((${INPUTS:-3000} + files - 1) / files)) "$TMP/$name") >"$TMP/.out" 2>"$TMP/.err"; status=$?
	n=$(grep -oE '^[0-9]+ inputs' "$TMP/.out" | cut -d' ' -f1)
	if [ $status -eq 0 ]; then ok "$name: ${n} inputs, none crashed it"; total=$((total + n))
	else
		cp "$TMP/crash-$name" "/tmp/crash-$name" 2>/dev/null
		not_ok "$name" "exit status $status; the input is /tmp/crash-$name" "$(tail -n 20 "$TMP/.err")"
	fi
done
echo "# $total bad inputs tried"
