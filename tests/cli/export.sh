# kf-export: sets of tiny models as JSON Lines and in Axolotl's form; files, parts, errors.
. tests/lib.sh

E=$BIN/kf-export
cat >"$TMP/text.jsonl" <<'TEXT'
{"id": "a", "domain": "prose", "text": "It is a truth universally acknowledged, that a single man must be in want of a wife."}
{"id": "b", "domain": "code", "text": "def f(x):\n    return x + 1\n\nprint(f(3), \"ünïcödé 日本語 🙂\")\n"}
{"id": "c", "domain": "prose", "text": "x"}
{"id": "d", "domain": "prose", "text": "However little known the feelings   of such a man"}
TEXT
"$BIN/kf-prepare" --quiet --out "$TMP/corpus" --shards 2 "$TMP/text.jsonl"
for m in gemma3-tiny qwen2-tiny; do
	"$BIN/kf-extract" --quiet --model "tests/models/$m" --corpus "$TMP/corpus" --out "$TMP/$m" --top-k 6
done
echo kept >"$TMP/appended"
"$E" --quiet --set "$TMP/gemma3-tiny" --out /dev/stdout >>"$TMP/appended"
"$E" --quiet --set "$TMP/gemma3-tiny" --out "$TMP/alone.jsonl"
"$E" --set "$TMP/gemma3-tiny" --out /dev/stdout | cat >"$TMP/piped"; check_same "/dev/stdout has nothing else in it" "$TMP/alone.jsonl" "$TMP/piped"
check "/dev/stdout goes where standard output does" cmp "$TMP/appended" <(echo kept; cat "$TMP/alone.jsonl")
"$BIN/kf-align" --quiet --source "$TMP/gemma3-tiny" --target "$TMP/qwen2-tiny" --out "$TMP/aligned"
"$BIN/kf-fuse" --quiet --target "$TMP/qwen2-tiny" --aligned "$TMP/aligned" --out "$TMP/targets" --weight advantage

for s in gemma3-tiny qwen2-tiny aligned targets; do
	"$BIN/kf-inspect" "$TMP/$s" --json --path >"$TMP/inspect.jsonl"
	check "$s as JSON Lines" "$E" --set "$TMP/$s" --out "$TMP/out.jsonl"
	check_same "$s: as kf-inspect tells it" "$TMP/inspect.jsonl" "$TMP/out.jsonl"
	check "$s in Axolotl's form" "$E" --set "$TMP/$s" --out "$TMP/ax.jsonl" --format axolotl
	check "$s: each row is about the next token" python3 tests/cli/check_axolotl.py "$TMP/inspect.jsonl" "$TMP/ax.jsonl" renormalize
done
check "the rest left out" "$E" --set "$TMP/targets" --out "$TMP/ax.jsonl" --format axolotl --tail rest
check "log-probabilities as they are" python3 tests/cli/check_axolotl.py "$TMP/inspect.jsonl" "$TMP/ax.jsonl"
cat >"$TMP/chat.jsonl" <<'TEXT'
{"id": "x", "messages": [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "The miller."}, {"role": "user", "content": "And?"}, {"role": "assistant", "content": "One cat."}]}
TEXT
"$BIN/kf-prepare" --quiet --out "$TMP/corpus-chat" "$TMP/chat.jsonl"
"$BIN/kf-extract" --quiet --model tests/models/gemma3-tiny --corpus "$TMP/corpus-chat" --out "$TMP/chat" --chat-template mistral --top-k 6
check "conversations in Axolotl's form" "$E" --set "$TMP/chat" --out "$TMP/ax.jsonl" --format axolotl
"$BIN/kf-inspect" "$TMP/chat" --json >"$TMP/inspect.jsonl"
check "conversations: context is not taught" python3 tests/cli/check_axolotl.py "$TMP/inspect.jsonl" "$TMP/ax.jsonl" renormalize

"$E" --set "$TMP/targets" --out "$TMP/one.jsonl" --quiet
check "a folder" "$E" --set "$TMP/targets" --out "$TMP/dir"
cat "$TMP"/dir/part-*.jsonl >"$TMP/cat.jsonl"; check_same "a file a shard" "$TMP/one.jsonl" "$TMP/cat.jsonl"
check "two files and nothing else" test "$(ls "$TMP/dir" | tr '\n' ' ')" = "part-00000.jsonl part-00001.jsonl "
check "one part" "$E" --set "$TMP/targets" --out "$TMP/parts" --shard 1/2
check "has its file only" test "$(ls "$TMP/parts")" = part-00001.jsonl
check_same "which is the same" "$TMP/dir/part-00001.jsonl" "$TMP/parts/part-00001.jsonl"
"$E" --set "$TMP/targets" --out - --threads 1 >"$TMP/standard.jsonl"; check_same "to standard output, nothing else in it" "$TMP/one.jsonl" "$TMP/standard.jsonl"
echo stale >"$TMP/parts/part-00000.jsonl.part"
check "what a killed run left is taken over" "$E" --set "$TMP/targets" --out "$TMP/parts"
check "and gone" test "$(ls "$TMP/parts" | tr '\n' ' ')" = "part-00000.jsonl part-00001.jsonl "
bash -c "'$E' --set '$TMP/targets' --out - --format axolotl; echo \$? >'$TMP/status'" 2>"$TMP/err" | head -c 1 >/dev/null
check "a reader that has seen enough is no error" test "$(cat "$TMP/status")" = 0
bash -c "sleep 0.3; '$E' --set '$TMP/targets' --out - --format axolotl; echo \$? >'$TMP/status'" 2>"$TMP/err" | :
check "nor one that is gone before anything comes" test "$(cat "$TMP/status")" = 0

check_fails 1 "is a corpus.*kf-inspect" "a corpus" "$E" --set "$TMP/corpus" --out "$TMP/no.jsonl"
check_fails 1 "nowhere" "a set that is not there" "$E" --set "$TMP/nowhere" --out "$TMP/no.jsonl"
check_fails 2 "shard.*folder" "a part of one file" "$E" --set "$TMP/targets" --out "$TMP/no.jsonl" --shard 0/2
check_fails 2 "out" "no output" "$E" --set "$TMP/targets"
check_fails 2 "format" "an unknown form" "$E" --set "$TMP/targets" --out "$TMP/no.jsonl" --format trl
cp "$TMP/one.jsonl" "$TMP/dir/part-00007.jsonl"
check_fails 1 "part-00007.jsonl, which is of another export" "files of another export" "$E" --set "$TMP/targets" --out "$TMP/dir"
check_fails 1 "cannot create" "a folder that is not there" "$E" --set "$TMP/targets" --out "$TMP/none/no.jsonl"
cp -r "$TMP/targets" "$TMP/bad"
truncate -s 5000 "$TMP/bad/shard-00001.mdb"
check_fails 1 "shard-00001.mdb" "a damaged set" "$E" --set "$TMP/bad" --out "$TMP/no.jsonl"
if [ -e /dev/full ]; then check_fails 1 "No space left" "a full disk" "$E" --set "$TMP/targets" --out /dev/full; fi
check "nothing is left of failures" test ! -e "$TMP/no.jsonl" -a ! -e "$TMP/no.jsonl.part"
