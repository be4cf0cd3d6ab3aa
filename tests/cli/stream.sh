# kf-extract layer by layer: to the byte what it gives otherwise, however blocks are cut, and what --plan says of it.
. tests/lib.sh

M=tests/models
python3 - "$TMP/text.jsonl" "$TMP/chat.jsonl" <<'END'
import json, random, sys
random.seed(5)
words = "the cat had not seen a mill in April and 1783 was cold; für café ☃ static int return".split()
def text(n):
    return " ".join(random.choice(words) for _ in range(n)) + "\n"
with open(sys.argv[1], "w") as f:
    for i in range(40):
        f.write(json.dumps({"id": str(i), "domain": "ab"[i % 2], "text": text(random.choice([1, 20, 60]))}) + "\n")
with open(sys.argv[2], "w") as f:
    for i in range(12):
        turns = [{"role": "user" if t % 2 == 0 else "assistant", "content": text(15)} for t in range(2 + 2 * (i % 2))]
        f.write(json.dumps({"id": str(i), "messages": turns}) + "\n")
END
C=$TMP/corpus
"$BIN/kf-prepare" --quiet --out "$C" --shards 5 "$TMP/text.jsonl" || { not_ok "prepare a corpus"; exit; }
"$BIN/kf-prepare" --quiet --out "$TMP/chats" --shards 2 "$TMP/chat.jsonl" || { not_ok "prepare conversations"; exit; }

# same NAME SET SET: the shards are equal to the byte.
same() {
	local s bad=
	for s in "$2"/shard-*; do cmp -s "$s" "$3/${s##*/}" || bad="$bad ${s##*/}"; done
	if [ -z "$bad" ] && [ -e "$s" ]; then ok "$1"; else not_ok "$1" "differs:$bad"; fi
}

for m in llama-untied gemma3-tiny; do
	x() { "$BIN/kf-extract" --quiet --model $M/$m --corpus "$C" --batch-tokens 64 "$@"; }
	check "$m: in memory" x --out "$TMP/$m" --stream no
	for n in 0 1 100 1000; do
		check "$m: layer by layer, blocks of $n" x --out "$TMP/$m.$n" --stream yes --stream-tokens $n
		same "$m: blocks of $n change nothing" "$TMP/$m" "$TMP/$m.$n"
	done
	mkdir "$TMP/scratch"
	check "$m: activations in a file" x --out "$TMP/$m.file" --stream yes --scratch "$TMP/scratch" --precision f32
	check "$m: of which nothing is left" rmdir "$TMP/scratch"
	x --out "$TMP/$m.exact" --stream no --precision f32
	same "$m: a file changes nothing" "$TMP/$m.exact" "$TMP/$m.file"
	x --out "$TMP/$m.windows" --stream no --context 24
	x --out "$TMP/$m.windows.s" --stream yes --context 24 --stream-tokens 150
	same "$m: windows" "$TMP/$m.windows" "$TMP/$m.windows.s"
done
x() { "$BIN/kf-extract" --model $M/llama-untied --corpus "$C" --batch-tokens 64 "$@"; }
check "parts: one streamed" x --out "$TMP/parts" --stream yes --shard 1/2
check "parts: the other not" x --out "$TMP/parts" --stream no --shard 0/2
same "parts of either kind make the whole" "$TMP/llama-untied" "$TMP/parts"
x --out "$TMP/auto" --memory 1 >"$TMP/said"
check "chosen by itself where memory is short" grep -q "layer by layer in [0-9]* block" "$TMP/said"
same "and the same" "$TMP/llama-untied" "$TMP/auto"
x --out "$TMP/auto2" >"$TMP/said"
check "not chosen where it is not" sh -c "! grep -q 'layer by layer' '$TMP/said'"
c() { "$BIN/kf-extract" --quiet --model $M/llama-untied --corpus "$TMP/chats" --chat-template llama-2 --batch-tokens 64 "$@"; }
check "conversations: in memory" c --out "$TMP/chat" --stream no
check "conversations: layer by layer" c --out "$TMP/chat.s" --stream yes --stream-tokens 200
same "conversations" "$TMP/chat" "$TMP/chat.s"

check_fails 1 "scratch .*nosuch" "a scratch folder that is not there" x --out "$TMP/no" --scratch "$TMP/nosuch"
check_fails 2 "out" "no folder to write to" "$BIN/kf-extract" --model $M/llama-untied --corpus "$C"
check_fails 2 "json" "JSON of what" x --out "$TMP/no" --json
check "nothing was left by the failures" test ! -e "$TMP/no"

# Larger than what it is given: 145 MB in 80, of which 32 are counted for the program itself.
check "a larger model" python3 $M/make_large.py "$TMP/large" --layers 12 --width 768 --mlp 2048 --heads 12 --vocab 2048
head -n 3 "$TMP/text.jsonl" >"$TMP/few.jsonl"
"$BIN/kf-prepare" --quiet --out "$TMP/few" "$TMP/few.jsonl"
big() { "$BIN/kf-extract" --model "$TMP/large" --corpus "$TMP/few" --batch-tokens 64 "$@"; }
check "the larger model in memory" big --quiet --out "$TMP/big" --stream no
big --out "$TMP/big.s" --memory 80 --stream-tokens 100 >"$TMP/said"
check "is streamed where there is less" grep -q "layer by layer in [2-9] blocks" "$TMP/said"
same "to the same end" "$TMP/big" "$TMP/big.s"
check "a sparse one" python3 $M/make_large.py "$TMP/huge" --layers 100 --width 1024 --mlp 4096 --vocab 2048 --sparse
big --out "$TMP/never" --plan --memory 80 >"$TMP/plan" 2>&1
check "the plan, in words" grep -q "^chosen  *layer by layer" "$TMP/plan"
"$BIN/kf-extract" --model "$TMP/huge" --corpus "$C" --plan --json --memory 500 >"$TMP/huge.json"
big --plan --json --memory 80 --stream-tokens 100 >"$TMP/big.json"
big --plan --json --memory 1000000 >"$TMP/fits.json"
tokens=$("$BIN/kf-inspect" "$TMP/big" --json | python3 -c 'import json, sys; print(sum(len(json.loads(l)["tokens"]) for l in sys.stdin))')
check "the plan, as JSON, of what then happened" python3 - "$TMP" "$tokens" <<'END'
import json, os, sys
t = sys.argv[1]
huge, big, fits = (json.load(open(f"{t}/{n}.json")) for n in ("huge", "big", "fits"))
files = sum(os.path.getsize(f"{t}/large/{f}") for f in os.listdir(f"{t}/large") if f.endswith(".safetensors"))
weights, run = big["weights"], big["run"]
assert 0 <= files - weights["bytes"] < 100000
assert big["corpus"]["exact"] and big["corpus"]["tokens"] == int(sys.argv[2])
assert run["chosen"] == "stream" and fits["run"]["chosen"] == "memory" and fits["memory"]["fits"]
assert run["blocks"] == -(-big["corpus"]["fed"] // 100) and run["read_bytes"] == weights["bytes"] + run["blocks"] * weights["a_block"]
assert big["memory"]["in_memory"] > 145e6 and weights["bytes"] > 140e6 and big["memory"]["streamed_weights"] < weights["bytes"] / 4
# blocks are of whole batches, a batch is at least a document: how many there are is known only to within that
said = open(f"{t}/said").read().split()
blocks, read = int(said[said.index("in") + 1]), float(said[said.index("GB") - 1])
assert blocks >= 2 and abs(read - blocks * weights["a_block"] * 1e-9) < 0.02, said
# two operations a weight and token at the least; attention and the head beside them
n = (weights["bytes"] - 2 * 2048 * 768 * 2) / 2
assert 2 * n * big["corpus"]["fed"] < run["flop"] < 2.6 * n * big["corpus"]["fed"]
assert run["seconds"]["computing"] > 0 and run["probe"]["flop_per_second"] > 0
assert huge["weights"]["bytes"] > 2.9e9 and huge["weights"]["layers"] == 100 and huge["run"]["chosen"] == "stream"
END
check "a plan writes nothing" test ! -e "$TMP/never"
