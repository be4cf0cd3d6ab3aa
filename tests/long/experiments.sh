# make experiments, killed again and again, on tiny models: it goes on where it was, and ends with what one run without a pause ends with.
. tests/lib.sh

D=$TMP/data
mkdir -p "$D/models" "$D/text"
for m in qwen2-tiny llama-tiny gemma3-tiny; do cp -r tests/models/$m "$D/models/"; done
for d in a b; do
	for i in $(seq 40); do
		printf '{"id": "%s%d", "domain": "%s", "text": "Text number %d of %s: the quick brown fox jumps over %d lazy dogs.\\n"}\n' $d $i $d $i $d $((i * 7))
	done > "$D/text/$d.jsonl"
done
experiments() { make -s experiments SIZE=tiny ONLY=b SEEDS=1 DATA="$D" EXPERIMENTS="$1" B="${BIN%/bin}" TARGET=qwen2-tiny SOURCES="gemma3-tiny llama-tiny" \
	DOMAINS="a b" EXPERT_DOMAINS="a b" THREADS=1; }
check "a run without a pause" experiments "$TMP/once"
export -f experiments; export D BIN
for seconds in 1 2 3 4 6; do
	setsid bash -c 'experiments "$1"' killed "$TMP/often" >/dev/null 2>&1 &
	pid=$!
	sleep $seconds
	kill -KILL -- -$pid 2>/dev/null; wait $pid 2>/dev/null
	[ -e "$TMP/often/tiny/results.json" ] && break
done
check "the last of the killed ones is not there yet" test ! -e "$TMP/often/tiny/results.json"
check "a run that goes on" experiments "$TMP/often"
check "ends with the same numbers" python3 - "$TMP" <<'END'
import json, sys
a, b = (open("%s/%s/tiny/results.json" % (sys.argv[1], w)).read().replace("/%s/" % w, "/x/") for w in ("once", "often"))
a, b = json.loads(a), json.loads(b)
assert a["parts"] == b["parts"] and list(a["parts"]) == ["B"], (a, b)
END
check "and the same table" cmp "$TMP/once/tiny/B.md" "$TMP/often/tiny/B.md"
