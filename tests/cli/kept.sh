# kf-eval --scores: what a model scored is kept, and taken only for the same model, text, task and way of asking; what is damaged, or not whole, is made again.
. tests/lib.sh
eval=$BIN/kf-eval models=tests/models S=$TMP/scores

some_text "$TMP/text.jsonl" 1 6 30 ab
"$BIN/kf-prepare" --quiet --out "$TMP/corpus" "$TMP/text.jsonl"
some_text "$TMP/other.jsonl" 2 6 30 ab
"$BIN/kf-prepare" --quiet --out "$TMP/other" "$TMP/other.jsonl"
cat >"$TMP/quiz.jsonl" <<'LINES'
{"task": "quiz", "kind": "choice"}
{"prompt": "The colour of snow is", "choices": ["white", "black", "a deep and lasting green"], "answer": 0}
{"prompt": "Two and two are", "choices": ["four", "five"], "answer": "four"}
{"prompt": "Birds", "choices": ["fly", "swim", "read"], "answer": 0}
{"task": "sums", "kind": "match", "normalize": "number", "max_tokens": 8, "stop": ["\n"]}
{"prompt": "1 + 1 =", "answer": 2}
{"prompt": "2 + 2 =", "answer": ["4", "four"]}
{"task": "words", "kind": "last-word"}
{"text": "It was the best of times, it was the worst of times"}
{"prompt": "It was the age of", "word": "wisdom"}
LINES
text=(--corpus "$TMP/corpus") tasks=(--tasks "$TMP/quiz.jsonl")
two=(--model $models/llama-tiny --model $models/qwen2-tiny) three=("${two[@]}" --model $models/gemma3-tiny)

# taken OPTIONS...: how many of how many scores are taken from $S; the report goes to $TMP/got.json.
taken() {
	"$eval" "$@" --scores "$S" --report "$TMP/got.json" >"$TMP/.out" 2>"$TMP/.err" || { tail -n 3 "$TMP/.err"; return; }
	if grep -q "in $S already" "$TMP/.err"; then sed -nE 's/.*notice: ([0-9]+ of [0-9]+) scores.*/\1/p' "$TMP/.err"; else echo none; fi
}
# kept NAME WANT OPTIONS...: passes when WANT scores are taken, and the report is that of a run without.
kept() {
	local name=$1 want=$2; shift 2
	same "kept: $name" "$(taken "$@")" "$want"
	"$eval" --quiet "$@" --report "$TMP/want.json" >"$TMP/.out" 2>"$TMP/.err"
	check_same "kept: $name: the report is as without" "$TMP/want.json" "$TMP/got.json"
}

kept "nothing is at first" none "${two[@]}" "${text[@]}" "${tasks[@]}" --per-document
same "kept: a file each" "$(ls "$S" | wc -l)" 8
kept "all the next time" "8 of 8" "${two[@]}" "${text[@]}" "${tasks[@]}" --per-document
kept "another seed of the bootstrap" "8 of 8" "${two[@]}" "${text[@]}" "${tasks[@]}" --seed 9
kept "another order, other comparisons" "8 of 8" --model $models/qwen2-tiny --model $models/llama-tiny "${text[@]}" "${tasks[@]}" --compare llama-tiny,qwen2-tiny
kept "tasks alone" "6 of 6" "${two[@]}" "${tasks[@]}"
cp -r $models/llama-tiny "$TMP/moved"
kept "a model of another name and place" "4 of 4" --model m="$TMP/moved" "${text[@]}" "${tasks[@]}"
cp "$TMP/quiz.jsonl" "$TMP/again.jsonl"; sed -i 's/"task": "quiz"/"task": "renamed"/' "$TMP/again.jsonl"
kept "a task of another name and file" "6 of 6" "${two[@]}" --tasks "$TMP/again.jsonl"
kept "a third model is run" "8 of 12" "${three[@]}" "${text[@]}" "${tasks[@]}"

# ---- what is another score ----
# A model without BOS says nothing of a text's first token: beside it all begin later.
kept "other text" none --model $models/gemma3-tiny --corpus "$TMP/other"
kept "beside a model without BOS" none --model $models/gemma3-tiny --model $models/qwen2-tiny --corpus "$TMP/other"
kept "and both once more" "2 of 2" --model $models/gemma3-tiny --model $models/qwen2-tiny --corpus "$TMP/other"
python3 - "$TMP/moved" <<'CODE'
import os, sys
for f in os.listdir(sys.argv[1]):
    if f.endswith(".safetensors"):
        with open(os.path.join(sys.argv[1], f), "r+b") as g:
            g.seek(-64, 2)
            b = g.read(1)
            g.seek(-64, 2)
            g.write(bytes([b[0] ^ 1]))
CODE
kept "other weights" none --model m="$TMP/moved" "${text[@]}" "${tasks[@]}"
kept "computed otherwise" none "${two[@]}" "${text[@]}" "${tasks[@]}" --compute bf16
kept "fewer items" "4 of 6" "${two[@]}" "${tasks[@]}" --limit 2
kept "in a user's message" none "${two[@]}" "${tasks[@]}" --chat-template plain
kept "shown solved" none "${two[@]}" "${tasks[@]}" --shots 1
kept "fewer tokens" "4 of 6" "${two[@]}" "${tasks[@]}" --max-tokens 3
kept "drawn" "4 of 6" "${two[@]}" "${tasks[@]}" --temperature 1
kept "drawn again" "6 of 6" "${two[@]}" "${tasks[@]}" --temperature 1
kept "drawn with another seed" "4 of 6" "${two[@]}" "${tasks[@]}" --temperature 1 --seed 2
sed 's/"black"/"grey"/' "$TMP/quiz.jsonl" >"$TMP/grey.jsonl"
kept "another choice" "4 of 6" "${two[@]}" --tasks "$TMP/grey.jsonl"
printf '%s\n' '{"task_id": "c/0", "prompt": "def f():\n", "entry_point": "f", "test": "def check(f):\n    pass\n"}' >"$TMP/code.jsonl"
code=(--model $models/llama-tiny --tasks "$TMP/code.jsonl" --max-tokens 4)
if "$eval" --quiet "${code[@]}" 2>"$TMP/code.err"; then
	kept "programs" none "${code[@]}" --code-seconds 20
	kept "the same programs" "1 of 1" "${code[@]}" --code-seconds 20
	kept "programs with more time" none "${code[@]}" --code-seconds 30
	kept "more programs an item" none "${code[@]}" --code-seconds 20 --temperature 1 --samples 2
else skip "kept: programs" "$(tail -n 1 "$TMP/code.err")"; fi
check "kept: where answers are wanted, too" "$eval" --quiet "${two[@]}" "${tasks[@]}" --scores "$S" --outputs "$TMP/out.jsonl"
same "kept: all are asked" "$(wc -l <"$TMP/out.jsonl")" 14

# ---- files that are damaged, and runs that are killed ----
S=$TMP/damaged
all=("${two[@]}" "${text[@]}" "${tasks[@]}")
taken "${all[@]}" >/dev/null
python3 - "$S" <<'CODE'
import json, os, sys
names = sorted(os.listdir(sys.argv[1]))
def change(i, how):
    path = os.path.join(sys.argv[1], names[i])
    with open(path) as f:
        text = f.read()
    with open(path, "w") as f:
        f.write(how(text))
def edit(value):
    def how(text):
        o = json.loads(text)
        for k, v in o["scores"].items():
            if isinstance(v, list):
                o["scores"][k] = value(v)
        return json.dumps(o)
    return how
change(0, lambda t: t[:len(t) // 2])
change(1, lambda t: "")
change(2, lambda t: t.replace('"weights": "', '"weights": "0'))
change(3, edit(lambda v: v[1:]))
change(4, edit(lambda v: [None] * len(v)))
change(5, edit(lambda v: "none"))
change(6, lambda t: json.dumps({**json.loads(t), "scores": 7}))
CODE
kept "what is damaged is made again" "1 of 8" "${all[@]}"
kept "and kept" "8 of 8" "${all[@]}"
S=$TMP/killed
"$eval" --quiet "${three[@]}" "${text[@]}" "${tasks[@]}" --scores "$S" --report "$TMP/killed.json" >"$TMP/.out" 2>"$TMP/.err" & pid=$!
while kill -0 $pid 2>/dev/null && [ "$(compgen -G "$S/*.json" | wc -l)" -lt 2 ]; do sleep 0.002; done
kill -9 $pid 2>/dev/null; wait $pid 2>/dev/null
n=$(compgen -G "$S/*.json" | wc -l)
kept "a killed run is gone on with" "$n of 12" "${three[@]}" "${text[@]}" "${tasks[@]}"
check "kept: what it was writing is gone" test -z "$(find "$S" -name '*.part')"

# ---- what is refused ----
check_fails 2 'scores needs --model' "kept: sets alone" "$eval" --logits "$TMP/none" --scores "$S"
touch "$TMP/file"
check_fails 1 "$TMP/file" "kept: no folder" "$eval" "${all[@]}" --scores "$TMP/file"
mkdir -m 555 "$TMP/locked"; chmod 755 "$TMP"
check_fails 1 "$TMP/locked" "kept: a folder that cannot be written to" unprivileged "$eval" "${all[@]}" --scores "$TMP/locked"
