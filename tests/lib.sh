# For tests/cli, tests/fault and tests/long scripts: source it first. They run from the
# repository's root with BIN (programs) set by tests/run.sh and print a line a test:
# "ok NAME", "not ok NAME" or "skip NAME - WHY".
set -u
BIN=${BIN:-build/bin}
umask 022   # what a test makes other users may read: unprivileged
case ${TMPDIR:-} in *[[:space:]]*) TMPDIR=/tmp ;; esac   # make cannot do with spaces in names
TMP=$(mktemp -d "${TMPDIR:-/tmp}/kfuse-test.XXXXXX")
trap 'rm -rf "$TMP"' EXIT
KFUSE_CACHE=${KFUSE_CACHE:-${HOME:-}/.cache/kfuse}
# What the pipeline's variables are is a test's own choice, not that of the shell it runs in. (Each that data/*.mk has a default for; the first without.)
unset TEXT ADD CHAT_WORK KF_SLURM KF_PART KF_WHOLE $(sed -nE 's/^([A-Z_]+) *\?=.*/\1/p' data/*.mk | sort -u) ${!CHAT_TEMPLATE_*}

ok() { echo "ok $1"; }
not_ok() { echo "not ok $1"; shift; [ $# -eq 0 ] || printf '%s\n' "$@" | sed 's/^/#   /'; }
skip() { echo "skip $1 - $2"; }

# check NAME CMD...: passes when CMD succeeds.
check() {
	local name=$1; shift
	if "$@" >"$TMP/.out" 2>"$TMP/.err"; then ok "$name"
	else not_ok "$name" "exit status $? of: $*" "$(tail -n 5 "$TMP/.out")" "$(tail -n 5 "$TMP/.err")"; fi
}

# check_fails STATUS REGEX NAME CMD...: passes when CMD exits with STATUS and its standard error matches REGEX (grep -E).
check_fails() {
	local want=$1 regex=$2 name=$3 got; shift 3
	"$@" >"$TMP/.out" 2>"$TMP/.err"; got=$?
	if [ "$got" -ne "$want" ]; then not_ok "$name" "exit status $got, not $want, of: $*" "$(tail -n 5 "$TMP/.err")"
	elif ! grep -Eq -- "$regex" "$TMP/.err"; then not_ok "$name" "standard error does not match: $regex" "$(tail -n 5 "$TMP/.err")"
	else ok "$name"; fi
}

# same NAME GOT WANT: passes when these are the same text.
same() { if [ "$2" = "$3" ]; then ok "$1"; else not_ok "$1" "got: $2" "want: $3"; fi; }

# check_same NAME FILE FILE: passes when the files are equal.
check_same() {
	if cmp -s "$2" "$3"; then ok "$1"; else not_ok "$1" "$(diff "$2" "$3" | head -n 10)"; fi
}

# together WORD...: all = the words, but of an option only the last value, unless it is one of $several.
together() {
	local i=$# w; all=()
	declare -A seen=()
	while [ $i -gt 0 ]; do
		w=${!i}
		if [ -n "${seen[$w]:-}" ]; then unset 'all[0]'; all=("${all[@]}")
		else
			all=("$w" "${all[@]}")
			if [[ $w = --* && " $several " != *" $w "* ]]; then seen[$w]=1; fi
		fi
		i=$((i - 1))
	done
}

# model NAME: the path of a real model, or nothing when it has not been fetched.
model() {
	local f
	for f in "data/models/$1.gguf" "$KFUSE_CACHE/models/$1.gguf"; do
		if [ -f "$f" ]; then echo "$f"; return; fi
	done
}

# unprivileged CMD...: run it as a user for whom permissions count (root may write anywhere).
unprivileged() {
	if [ "$(id -u)" -ne 0 ]; then "$@"; else setpriv --reuid=65534 --regid=65534 --clear-groups "$@"; fi
}

# some_text FILE SEED DOCUMENTS WORDS DOMAINS: JSON Lines of that many documents of so many common words; a letter of DOMAINS each in turn.
some_text() {
	python3 - "$@" <<'END'
import json, random, sys
random.seed(int(sys.argv[2]))
documents, length, domains = int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]
words = "the of and a to in is it that was for on are as with his they at be this from have or by one had not but what all".split()
with open(sys.argv[1], "w") as f:
    for i in range(documents):
        text = " ".join(random.choice(words) for _ in range(length)) + ".\n"
        f.write(json.dumps({"id": f"t{i}", "domain": domains[i % len(domains)], "text": text}) + "\n")
END
}

# kill_again NAME OUT TIMES SPREAD CMD...: CMD trains into OUT; it is killed TIMES times up to SPREAD ms after it wrote one more checkpoint, and
# about as often at any moment before. Passes when it was, and did not begin anew after the first of them. What is left is to be gone on with.
# CMD may be a function that begins with ${EXEC:-}: what is killed has to be the program, not the shell that waits for it.
kill_again() {
	local name=$1 out=$2 times=$3 spread=$4 killed=0 begun= pid had try; shift 4
	newest() { compgen -G "$out/state/step-*.ckpt" | sort | tail -n 1; }
	first() { grep -m 1 tokens_per_second "$out/log.jsonl"; }   # nobody's clock says that twice
	RANDOM=7
	for try in $(seq 40); do
		had=$(newest)
		EXEC=exec "$@" >"$TMP/.out" 2>"$TMP/.err" & pid=$!
		if [ $((try % 2)) = 1 ]; then sleep "0.0$(printf %02d $((RANDOM % 100)))"
		else
			while [ -n "$(jobs -rp)" ] && [ "$(newest)" = "$had" ]; do sleep 0.005; done
			sleep "0.$(printf %03d $((RANDOM % spread)))"
		fi
		kill -9 $pid 2>/dev/null
		wait $pid 2>/dev/null
		if [ $? != 137 ] || [ -e "$out/kfuse.json" ]; then break; fi
		[ "$(newest)" = "$had" ] || killed=$((killed + 1))
		[ $killed != 1 ] || [ "$begun" ] || begun=$(first)
		[ $killed -lt "$times" ] || break
	done
	if [ $killed -lt "$times" ]; then not_ok "$name" "killed only $killed times after a checkpoint" "$(tail -n 5 "$TMP/.err")"
	elif [ -z "$begun" ] || [ "$begun" != "$(first)" ]; then not_ok "$name" "it began anew: $begun" "$(first)"
	else ok "$name"; fi
}

# tiny_data DIR: what make takes for DATA: three tiny models, and a text of two domains, a and b.
tiny_data() {
	local m d i
	mkdir -p "$1/models" "$1/text"
	for m in qwen2-tiny llama-tiny gemma3-tiny; do cp -r tests/models/$m "$1/models/"; done
	for d in a b; do
		for i in $(seq 40); do
			printf '{"id": "%s%d", "domain": "%s", "text": "Text number %d of %s: the quick brown fox jumps over %d lazy dogs.\\n"}\n' $d $i $d $i $d $((i * 7))
		done > "$1/text/$d.jsonl"
	done
}

# alike A B SHARE WEIGHTS: the logs of two runs differ by no larger share in loss, norm and validation; their models by no larger share of
# the weights' norm.
alike() {
	python3 - "$@" <<'END'
import array, json, math, struct, sys
a, b, share, most = sys.argv[1], sys.argv[2], float(sys.argv[3]), float(sys.argv[4])
x, y = ([json.loads(l) for l in open(d + "/log.jsonl")] for d in (a, b))
worst = 0
assert len(x) == len(y) and sum("loss" in r for r in x) > 4, (len(x), len(y))
for r, s in zip(x, y):
    assert r.keys() == s.keys()
    for k in r:
        if k in ("step", "epoch", "tokens", "best") or r[k] is None: assert r[k] == s[k], (k, r, s)
        elif k != "tokens_per_second": worst = max(worst, abs(r[k] - s[k]) / max(abs(r[k]), 1e-9))
def weights(d):
    f = open(d + "/model.safetensors", "rb").read()
    n = struct.unpack("<Q", f[:8])[0]
    h = json.loads(f[8:8 + n])
    h.pop("__metadata__", None)
    assert all(t["dtype"] == "F32" for t in h.values())
    return {k: array.array("f", f[8 + n + t["data_offsets"][0]:8 + n + t["data_offsets"][1]]) for k, t in h.items()}
v, w = weights(a), weights(b)
assert v.keys() == w.keys()
diff = sum((p - q) ** 2 for k in v for p, q in zip(v[k], w[k], strict=True))
norm = sum(p * p for k in v for p in v[k])
print(f"log {worst:.2g}, weights {math.sqrt(diff / norm):.2g}")
assert worst <= share and math.sqrt(diff / norm) <= most
END
}
