# kf-eval on tasks: every kind and form, reports, sampling, the sandbox, overlap with training text, and what is refused.
. tests/lib.sh
eval=$BIN/kf-eval models=tests/models

cat >"$TMP/quiz.jsonl" <<'LINES'
{"task": "quiz", "kind": "choice", "licence": "none"}
{"id": "a", "prompt": "The colour of snow is", "choices": ["white", "black", "a deep and lasting green"], "answer": 0}
{"id": "b", "prompt": "Two and two are", "choices": ["four", "five"], "answer": "four"}
{"id": "c", "prompt": "Birds", "choices": ["fly", "swim", "read", "fly away to the south"], "answer": 3}
{"id": "d", "prompt": "", "choices": ["Once", "Never"], "answer": 0}
{"task": "sums", "kind": "match", "normalize": "number", "max_tokens": 8, "stop": ["\n"]}
{"prompt": "1 + 1 =", "answer": 2}
{"prompt": "2 + 2 =", "answer": ["4", "four"]}
{"task": "words", "kind": "last-word"}
{"text": "It was the best of times, it was the worst of times"}
{"prompt": "It was the age of", "word": "wisdom"}
LINES
cat >"$TMP/big.json" <<'LINES'
{"name": "big", "append_choices_to_input": false,
 "examples": [{"input": "Is it?", "target_scores": {"yes": 1, "no": 0}}, {"input": "Was it?", "target_scores": {"yes": 0, "no": 1}}]}
LINES
# Whatever is generated is the inside of a string, so the first passes; the second never does; the third asks for what is not allowed.
cat >"$TMP/code.jsonl" <<'LINES'
{"task_id": "c/0", "prompt": "s = r'''", "entry_point": "f", "test": "'''\ndef f():\n    return 1\ndef check(c):\n    assert c() == 1\n"}
{"task_id": "c/1", "prompt": "s = r'''", "entry_point": "f", "test": "'''\ndef f():\n    return 2\ndef check(c):\n    assert c() == 1\n"}
{"task_id": "c/2", "prompt": "s = r'''", "entry_point": "f", "test": "'''\nimport os\ndef f():\n    return os.fork()\ndef check(c):\n    c()\n"}
LINES
gzip -k "$TMP/code.jsonl"
three=(--model $models/llama-tiny --model $models/qwen2-tiny --model $models/gemma3-tiny)
files=(--tasks "$TMP/quiz.jsonl" --tasks "$TMP/big.json")
code=(--tasks "$TMP/code.jsonl.gz" --max-tokens 6 --code-seconds 20)

check "tasks: three models, four tasks" "$eval" "${three[@]}" "${files[@]}" --report "$TMP/a.json" --markdown "$TMP/a.md" --outputs "$TMP/a.jsonl"
"$eval" "${three[@]}" "${files[@]}" --outputs - >"$TMP/stdout.jsonl" 2>"$TMP/.err"
check_same "tasks: answers to standard output, with nothing else in it" "$TMP/a.jsonl" "$TMP/stdout.jsonl"
check "tasks: the report" python3 - "$TMP/a.json" "$TMP/a.jsonl" <<'CODE'
import json, math, sys
r = json.load(open(sys.argv[1]))
lines = [json.loads(x) for x in open(sys.argv[2])]
names = ["llama-tiny", "qwen2-tiny", "gemma3-tiny"]
t = r["tasks"]
assert list(r["models"]) == names and list(t) == ["quiz", "sums", "words", "big"], list(t)
assert [t[k]["items"] for k in t] == [4, 2, 2, 2] and [t[k]["kind"] for k in t] == ["choice", "match", "last-word", "choice"]
assert list(t["quiz"]["metrics"]) == ["acc", "acc_norm", "bits_per_byte"] and list(t["words"]["metrics"]) == ["acc", "perplexity"]
quiz = {"a": (["white", "black", "a deep and lasting green"], 0), "b": (["four", "five"], 0),
        "c": (["fly", "swim", "read", "fly away to the south"], 3), "d": (["Once", "Never"], 0)}
for m in names:
    mine = [x for x in lines if x["model"] == m and x["task"] == "quiz"]
    assert [x["id"] for x in mine] == list("abcd")
    acc = norm = bits = size = 0
    for x in mine:
        choices, right = quiz[x["id"]]
        lp = x["logprobs"]
        acc += lp.index(max(lp)) == right
        by = [a / len(c) for a, c in zip(lp, choices)]
        norm += by.index(max(by)) == right
        bits -= lp[right] / math.log(2)
        size += len(choices[right])
    q = t["quiz"]["metrics"]
    for name, want in (("acc", acc / 4), ("acc_norm", norm / 4), ("bits_per_byte", bits / size)):
        v = q[name]["models"][m]
        assert abs(v["value"] - want) < 1e-6 and v["low"] <= v["value"] <= v["high"], (m, name, v, want)
    words = [x for x in lines if x["model"] == m and x["task"] == "words"]
    nats = -sum(x["logprobs"][0] for x in words) / 2
    assert abs(t["words"]["metrics"]["perplexity"]["models"][m]["value"] / math.exp(nats) - 1) < 1e-6
    assert t["words"]["metrics"]["acc"]["models"][m]["value"] == sum(x["first_choice"] for x in words) / 2
    assert all(x["tokens"] <= 8 for x in lines if x["task"] == "sums")
for k in t.values():
    for m in k["metrics"].values():
        assert [(c["a"], c["b"]) for c in m["comparisons"]] == [("qwen2-tiny", "llama-tiny"), ("gemma3-tiny", "llama-tiny")]
        for c in m["comparisons"]:
            assert abs(c["difference"] - (m["models"][c["a"]]["value"] - m["models"][c["b"]]["value"])) < 1e-6 * max(1, m["models"][c["a"]]["value"])
            assert c["low"] <= c["difference"] <= c["high"]
CODE
check "tasks: other threads and batches" "$eval" "${three[@]}" "${files[@]}" --threads 1 --batch-tokens 7 --cache-mb 1 --markdown "$TMP/b.md"
check_same "tasks: which do not matter" "$TMP/a.md" "$TMP/b.md"
check "tasks: solved examples first" "$eval" --model $models/llama-tiny "${files[@]}" --shots 1 --report "$TMP/shots.json"
check "tasks: which are not counted" python3 -c 'import json,sys; t=json.load(open(sys.argv[1]))["tasks"]; assert [(v["items"], v["shots"]) for v in t.values()] == [(3, 1), (1, 1), (1, 1), (1, 1)]' "$TMP/shots.json"
check "tasks: the first of them" "$eval" --model $models/llama-tiny "${files[@]}" --shots 1 --limit 2 --report "$TMP/limit.json" --outputs "$TMP/limit.out"
check "tasks: and no others" python3 -c 'import json,sys; t=json.load(open(sys.argv[1]))["tasks"]; assert [v["items"] for v in t.values()] == [2, 1, 1, 1] == [sum(json.loads(x)["task"] == n for x in open(sys.argv[2])) for n in t]' "$TMP/limit.json" "$TMP/limit.out"
check "tasks: as a chat" "$eval" --model $models/llama-tiny "${files[@]}" --chat-template plain --outputs "$TMP/chat.jsonl"
# All models are asked in one way, which the reports say; what is named for a corpus's conversations alone is not of tasks.
check_fails 2 '"qwen2-tiny" would be asked its tasks in a user.s message, "llama-tiny" in plain text.*--chat-template llama-tiny=own .*--plain-tasks' "tasks: some models in chat" \
	"$eval" "${three[@]}" "${files[@]}" --chat-template qwen2-tiny=chatml
check "tasks: each with its template" "$eval" "${three[@]}" "${files[@]}" --chat-template plain --chat-template qwen2-tiny=chatml --report "$TMP/each.json" --markdown "$TMP/each.md"
same "tasks: the table says how they are asked" "$(grep asked "$TMP/.out")" "asked in a user's message: llama-tiny with plain, qwen2-tiny with chatml, gemma3-tiny with plain"
same "tasks: so does Markdown" "$(grep Asked "$TMP/each.md")" "Asked in a user's message: llama-tiny with plain, qwen2-tiny with chatml, gemma3-tiny with plain"
templates() { python3 -c 'import json,sys; print(*(t["chat_template"] for t in json.load(open(sys.argv[1]))["tasks"].values()), sep="\n")' "$1" | sort -u; }
same "tasks: and the report" "$(templates "$TMP/each.json")" "{'llama-tiny': 'plain', 'qwen2-tiny': 'chatml', 'gemma3-tiny': 'plain'}"
check "tasks: in plain text all the same" "$eval" "${three[@]}" "${files[@]}" --chat-template qwen2-tiny=chatml --plain-tasks --report "$TMP/plain.json" --markdown "$TMP/plain.md"
check_same "tasks: which is as without a template" "$TMP/a.md" "$TMP/plain.md"
same "tasks: and said so" "$(templates "$TMP/plain.json")" "{'llama-tiny': None, 'qwen2-tiny': None, 'gemma3-tiny': None}"
check_fails 2 'plain-tasks needs --tasks' "tasks: plain without any" "$eval" --model $models/llama-tiny --corpus "$TMP/none" --plain-tasks
# Every token that the model's files name ends what is generated, not the first of them alone: here all of them are named.
cp -r $models/llama-tiny "$TMP/ends"
python3 -c 'import json,sys; d = sys.argv[1]; v = json.load(open(d + "/config.json"))["vocab_size"]; json.dump({"eos_token_id": [2, *range(v)]}, open(d + "/generation_config.json", "w"))' "$TMP/ends"
check "tasks: a model of many end tokens" "$eval" --quiet --model "$TMP/ends" --tasks "$TMP/quiz.jsonl" --outputs "$TMP/ends.jsonl"
same "tasks: ends at any of them" "$(python3 -c 'import json,sys; print([(x["ended"], x["tokens"], x["text"]) for x in map(json.loads, open(sys.argv[1])) if x["task"] == "sums"])' "$TMP/ends.jsonl")" \
	"[('token', 1, ''), ('token', 1, '')]"

# ---- code ----
if "$eval" --quiet --model $models/llama-tiny "${code[@]}" --outputs "$TMP/code.out" --report "$TMP/code.json" 2>"$TMP/code.err"; then
	ok "tasks: programs are run"
	check "tasks: those that pass, fail, and are stopped" python3 - "$TMP/code.out" "$TMP/code.json" <<'CODE'
import json, sys
assert [json.loads(x)["verdict"] for x in open(sys.argv[1])] == ["passed", "failed", "forbidden"]
t = json.load(open(sys.argv[2]))["tasks"]["code"]
assert "seccomp" in t["sandbox"] and abs(t["metrics"]["pass@1"]["models"]["llama-tiny"]["value"] - 1 / 3) < 1e-9, t
CODE
	sample=("${code[@]}" --model $models/llama-tiny --temperature 1.5 --samples 10)
	check "tasks: samples" "$eval" --quiet "${sample[@]}" --outputs "$TMP/s1" --report "$TMP/s.json"
	check "tasks: samples again, on one thread" "$eval" --quiet "${sample[@]}" --threads 1 --outputs "$TMP/s2"
	check "tasks: samples of another seed" "$eval" --quiet "${sample[@]}" --seed 5 --outputs "$TMP/s3"
	check_same "tasks: a seed's samples are the same" "$TMP/s1" "$TMP/s2"
	if cmp -s "$TMP/s1" "$TMP/s3"; then not_ok "tasks: another seed's are not"; else ok "tasks: another seed's are not"; fi
	check "tasks: pass@10" python3 -c 'import json,sys; m=json.load(open(sys.argv[1]))["tasks"]["code"]["metrics"]; assert list(m) == ["pass@1", "pass@10"] and m["pass@10"]["models"]["llama-tiny"]["value"] >= m["pass@1"]["models"]["llama-tiny"]["value"]' "$TMP/s.json"
elif grep -q 'neither namespaces' "$TMP/code.err"; then skip "tasks: programs are run" "no sandbox on this system"
else not_ok "tasks: programs are run" "$(cat "$TMP/code.err")"; fi

# Where users may make no namespaces, as in many containers: landlock instead, or code is refused. With too little of either, too.
nested() { unshare -Ur bash -c 'echo 0 >/proc/sys/user/max_user_namespaces && exec "$@"' nested "$@"; }
if ! nested true 2>"$TMP/nested.err"; then skip "tasks: programs where there are no namespaces" "$(tail -n 1 "$TMP/nested.err")"
elif nested "$eval" --quiet --model $models/llama-tiny "${code[@]}" --outputs "$TMP/nested.out" --report "$TMP/nested.json" 2>"$TMP/nested.err"; then
	ok "tasks: programs where there are no namespaces"
	check "tasks: the report says what kept them in" python3 - "$TMP/nested.out" "$TMP/nested.json" <<'CODE'
import json, sys
assert [json.loads(x)["verdict"] for x in open(sys.argv[1])] == ["passed", "failed", "forbidden"]
t = json.load(open(sys.argv[2]))["tasks"]["code"]["sandbox"]
assert t.startswith("landlock, seccomp") and "namespaces" not in t, t
CODE
elif grep -q 'neither namespaces (.*unshare.*) nor landlock (.*--unsafe-code' "$TMP/nested.err"; then ok "tasks: without landlock code is refused"
else not_ok "tasks: programs where there are no namespaces" "$(cat "$TMP/nested.err")"; fi

# A message has no white space at its ends: a choice counts without it.
spaced() { # CHOICE
	printf '{"task": "t", "kind": "choice"}\n{"prompt": "The capital of France is", "choices": ["%s", "Rome"], "answer": 0}\n' "$1" >"$TMP/spaced.jsonl"
	"$eval" --quiet --model $models/gemma3-tiny --chat-template gemma3 --tasks "$TMP/spaced.jsonl" --report "$TMP/spaced.json" && python3 -c 'import json,sys
print({k: v["models"] for k, v in json.load(open(sys.argv[1]))["tasks"]["t"]["metrics"].items()})' "$TMP/spaced.json"
}
same "tasks: in a message a choice counts without the white space at its ends" "$(spaced "Paris    ")" "$(spaced Paris)"
check_fails 1 "spaced.jsonl, line 2: choices 0 and 1, one of which is the answer, differ in white space" "tasks: and differs by more than that" spaced ' Rome'

# ---- beside text, and overlap ----
for i in 1 2 3 4; do printf '{"domain": "prose", "text": "It was the best of times, number %d, it was the worst of times; four score and seven years ago it went on."}\n' $i; done >"$TMP/text.jsonl"
"$BIN/kf-prepare" --quiet --out "$TMP/corpus" "$TMP/text.jsonl"
check "tasks: beside text, in one report" "$eval" --model $models/llama-tiny --corpus "$TMP/corpus" "${files[@]}" --report "$TMP/both.json"
check "tasks: extract" "$BIN/kf-extract" --quiet --precision f32 --model $models/llama-tiny --corpus "$TMP/corpus" --out "$TMP/logits"
check "tasks: text from logits, tasks from the model of that name" "$eval" --logits "m=$TMP/logits" --model m=$models/llama-tiny "${files[@]}" --report "$TMP/pair.json"
check "tasks: the same either way" python3 - "$TMP/both.json" "$TMP/pair.json" <<'CODE'
import json, sys
a, b = (json.load(open(f)) for f in sys.argv[1:])
assert abs(a["bits_per_byte"]["llama-tiny"]["prose"] - b["bits_per_byte"]["m"]["prose"]) < 1e-4
for t in a["tasks"]:
    for k, v in a["tasks"][t]["metrics"].items():
        assert v["models"]["llama-tiny"] == b["tasks"][t]["metrics"][k]["models"]["m"]
CODE
printf '%s\n' '{"text": "Somebody wrote: it was the age OF wisdom it was the age of foolishness it was the epoch of belief; and so on."}' |
	"$BIN/kf-prepare" --quiet --out "$TMP/train" -
check_fails 1 "$TMP/logits has logits of another model than $models/qwen2-tiny, and both are called \"m\"" "tasks: logits of another model under its name" \
	"$eval" --logits "m=$TMP/logits" --model m=$models/qwen2-tiny "${files[@]}"
cat >"$TMP/seen.jsonl" <<'LINES'
{"task": "seen", "kind": "last-word"}
{"text": "It was the age of wisdom, it was the age of foolishness, it was the epoch of belief."}
{"text": "It was the age of wisdom, it was not the age of foolishness, it was the epoch of belief and of doubt."}
{"text": "It was short."}
LINES
check "tasks: overlap needs no model" "$eval" --tasks "$TMP/seen.jsonl" --corpus "$TMP/corpus" --overlap "$TMP/train" --report "$TMP/o.json"
same "tasks: items seen in training" "$(python3 -c 'import json,sys; o=json.load(open(sys.argv[1]))["overlap"]; print(o["ngram"], o["tasks"], o["text"])' "$TMP/o.json")" \
	"13 {'seen': {'items': 3, 'shared': 1, 'short': 1, 'lines': [2]}} {'prose': {'items': 4, 'shared': 0, 'short': 0, 'documents': []}}"
check "tasks: overlap with shorter pieces" "$eval" --quiet --tasks "$TMP/seen.jsonl" --corpus "$TMP/corpus" --overlap "$TMP/train" --ngram 5 --report "$TMP/o.json"
same "tasks: finds more" "$(python3 -c 'import json,sys; print(json.load(open(sys.argv[1]))["overlap"]["tasks"]["seen"]["shared"])' "$TMP/o.json")" 2
# A run of words is found wherever a document was cut, and in any script and typography; messages end words.
python3 - "$TMP" <<'END'
import json, sys
words = [f"word{i}" for i in range(1000)]
put = lambda name, *rows: open(f"{sys.argv[1]}/{name}.jsonl", "w").write("".join(json.dumps(r) + "\n" for r in rows))
german = "über den fluss geht der alte mann mit seinem hund jeden tag früh"
put("long", {"id": "a", "text": " ".join(words)}, {"id": "b", "text": german},
    {"id": "c", "messages": [{"role": r, "content": " ".join(words[i:i + 7])[::-1]} for i, r in ((0, "user"), (7, "assistant"))]})
backwards = [w[::-1] for w in words[:14]]
put("runs", {"task": "cut", "kind": "match"}, *({"prompt": " ".join(words[i:i + 12]), "answer": words[i + 12]} for i in range(0, 980, 7)),
    {"task": "typed", "kind": "match"}, *({"prompt": p, "answer": "früh"} for p in (
        "Über den Fluss – geht der alte Mann mit seinem Hund jeden Tag", "„ÜBER den Fluss“ geht der\u00a0alte Mann mit seinem Hund—jeden «Tag»")),
    {"task": "talk", "kind": "match"}, {"prompt": " ".join(backwards[6::-1] + backwards[:8:-1]), "answer": " ".join(backwards[8:6:-1])})
END
check "tasks: a corpus of small pieces" "$BIN/kf-prepare" --quiet --doc-bytes 256 --out "$TMP/pieces" "$TMP/long.jsonl"
check "tasks: overlap of runs of words" "$eval" --quiet --tasks "$TMP/runs.jsonl" --overlap "$TMP/pieces" --report "$TMP/o.json"
same "tasks: every one is found" "$(python3 -c 'import json,sys; o=json.load(open(sys.argv[1]))["overlap"]; print([(t["items"], t["shared"]) for t in o["tasks"].values()], o["training_words"])' "$TMP/o.json")" \
	"[(140, 140), (2, 2), (1, 1)] 1027"

# ---- what is refused ----
run=("$eval" --model $models/llama-tiny)
printf '{"task": "t", "kind": "choice"}\n{"prompt": "q", "choices": ["a", "b"], "answer": "c"}\n' >"$TMP/bad.jsonl"
check_fails 1 'bad.jsonl, line 2: the answer "c" is not among the choices' "tasks: an answer that is no choice" "${run[@]}" --tasks "$TMP/bad.jsonl"
printf '{"task": "t", "kind": "choice"}\n{"prompt": "q", "choices": ["a", "b"], "answer": "\\u001b[2Jc"}\n' >"$TMP/bad.jsonl"
check_fails 1 'the answer "\?\[2Jc" is not among' "tasks: no word of a file steers the terminal" "${run[@]}" --tasks "$TMP/bad.jsonl"
printf '{"task": "a\\u001b[2J", "kind": "choice"}\n{"prompt": "p", "choices": ["a", "b"], "answer": 0}\n' >"$TMP/bad.jsonl"
check_fails 1 "bad.jsonl, line 1: the task's name has a control character" "tasks: nor its name" "${run[@]}" --tasks "$TMP/bad.jsonl"
printf '{"task": "t", "kind": "choice"}\n{"prompt": "q", \n' >"$TMP/bad.jsonl"
check_fails 1 'bad.jsonl, line 2: not JSON' "tasks: a malformed line" "${run[@]}" --tasks "$TMP/bad.jsonl"
printf '{\n  "a": 1\n}\n' >"$TMP/bad.jsonl"
check_fails 1 'bad.jsonl, line 1: this is no file of tasks' "tasks: JSON that is something else" "${run[@]}" --tasks "$TMP/bad.jsonl"
printf '[\n  {"prompt": "a", "answer": "b"}\n]\n' >"$TMP/bad.jsonl"
check_fails 1 'bad.jsonl, line 1: this is no file of tasks.* an item a line' "tasks: a list of items" "${run[@]}" --tasks "$TMP/bad.jsonl"
check_fails 1 'no-such-file' "tasks: a file that is not there" "${run[@]}" --tasks "$TMP/no-such-file"
check_fails 1 'called "quiz" already' "tasks: the same task twice" "${run[@]}" "${files[@]}" --tasks "$TMP/quiz.jsonl"
printf '\357\273\277{"task": "t", "kind": "choice"}\r\n{"id": 7, "prompt": "q", "choices": ["a", "b"], "answer": "b"}\r\n' >"$TMP/mark.jsonl"
check "tasks: a byte order mark" "${run[@]}" --tasks "$TMP/mark.jsonl"
printf '{"prompt": "def f():", "entry_point": "f", "test": "def check(f): pass"}\n%.0s' 1 2 >"$TMP/unsolved.jsonl"
check_fails 1 'unsolved.jsonl, line 1: the item has no canonical_solution, so --shots 1 cannot' "tasks: shown unsolved" "${run[@]}" --tasks "$TMP/unsolved.jsonl" --shots 1
check "tasks: a set of logits first" "$eval" --logits "x=$TMP/logits" --model b=$models/llama-tiny --model c=$models/qwen2-tiny --corpus "$TMP/corpus" \
	--tasks "$TMP/mark.jsonl" --report "$TMP/first.json"
same "tasks: the others are compared with the first that is asked" "$(python3 -c 'import json, sys
o = json.load(open(sys.argv[1]))
print([(c["a"], c["b"]) for c in o["comparisons"]], [(c["a"], c["b"]) for c in o["tasks"]["t"]["metrics"]["acc"]["comparisons"]], o["compute"])' "$TMP/first.json")" \
	"[('b', 'x'), ('c', 'x'), ('c', 'b')] [('c', 'b')] f32"
idle() { check_fails 2 "$1" "tasks: ${*:2} without what it is for" "${run[@]}" --corpus "$TMP/corpus" "${@:2}"; }
for o in "--limit 1" "--shots 1" "--max-tokens 5" "--temperature 1" "--samples 2" "--code-seconds 3" "--code-mb 64" --unsafe-code; do idle "${o%% *} needs --tasks" $o; done
idle 'ngram needs --overlap' --ngram 5; idle 'int8 needs --compute int8' --int8 head; idle 'per-document needs --report' --per-document
check_fails 2 'top-p needs --temperature' "tasks: top-p without temperature" "${run[@]}" "${files[@]}" --top-p .5
check_fails 2 'there is no model called "b"' "tasks: one that is not compared" "${run[@]}" "${files[@]}" --compare b,llama-tiny
check_fails 1 'none is left' "tasks: more shown than there are" "${run[@]}" "${files[@]}" --shots 2
check_fails 2 'needs --temperature' "tasks: samples without temperature" "${run[@]}" "${files[@]}" --samples 5
check_fails 2 'outputs needs --tasks and --model' "tasks: outputs without tasks" "${run[@]}" --corpus "$TMP/corpus" --outputs "$TMP/none.out"
check_fails 2 'outputs needs --tasks and --model' "tasks: outputs of nobody" "$eval" --tasks "$TMP/seen.jsonl" --overlap "$TMP/train" --outputs "$TMP/none.out"
check_fails 2 'needs --model' "tasks: no model" "$eval" --logits "$TMP/logits" "${files[@]}"
check_fails 2 'nothing to evaluate' "tasks: nothing given" "$eval" "${files[@]}"
check_fails 2 'needs --tasks or --corpus' "tasks: overlap of nothing" "$eval" --overlap "$TMP/train"
check_fails 1 'no chat template "x"' "tasks: an unknown template" "${run[@]}" "${files[@]}" --chat-template x
check_fails 1 'no chat template' "tasks: a model without a template of its own" "${run[@]}" "${files[@]}" --chat-template own
check_fails 1 'cannot create' "tasks: outputs in a missing folder" "${run[@]}" "${files[@]}" --outputs "$TMP/no/outputs"

# What fails after the text was predicted leaves the text's table, and no half report.
printf '{"task": "long", "kind": "last-word"}\n{"prompt": "a", "word": "%s"}\n' "$(printf 'x7%.0s' {1..5000})" >"$TMP/long.jsonl"
check_fails 1 'the tasks did not end, and of the text there is the table only: .*does not fit the context' "tasks: that fail after the text" \
	"${run[@]}" --quiet --corpus "$TMP/corpus" --tasks "$TMP/long.jsonl" --report "$TMP/half.json" --markdown "$TMP/half.md"
cp "$TMP/.out" "$TMP/half.out"
check "tasks: the text's table is printed even so" grep -q prose "$TMP/half.out"
check "tasks: no half report" test ! -e "$TMP/half.json" -a ! -e "$TMP/half.md"
