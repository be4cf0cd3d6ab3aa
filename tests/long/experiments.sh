# make experiments, killed again and again, on tiny models: it goes on where it was, and ends with what one run without a pause ends with.
. tests/lib.sh

D=$TMP/data
tiny_data "$D"
experiments() { make -s experiments SIZE=tiny ONLY=b SEEDS=1 DATA="$D" EXPERIMENTS="$1" B="${BIN%/bin}" TARGET=qwen2-tiny SOURCES="gemma3-tiny llama-tiny" \
	DOMAINS="a b" EXPERT_DOMAINS="a b" THREADS=1; }
check "a run without a pause" experiments "$TMP/once"
all=$(find "$TMP/once" -name manifest.json -o -name config.json | wc -l)
export -f experiments; export D BIN
made() { find "$TMP/often" -name manifest.json -o -name config.json 2>/dev/null | wc -l; }
for part in 1 2 3 4 5; do      # of six: killed when so much of what one run makes is there
	setsid bash -c 'experiments "$1"' killed "$TMP/often" >/dev/null 2>&1 &
	pid=$!
	until [ "$(made)" -ge $((all * part / 6)) ] || ! kill -0 $pid 2>/dev/null; do sleep 0.02; done
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
