# What data/demo.mk promises, run for real on tiny models and a few lines of text: every command ends with its
# table, and a second time there is nothing to do.
. tests/lib.sh

D=$TMP/data W=$TMP/work
tiny_data "$D"
run() { make -s "$@" DATA="$D" WORK="$W" B="${BIN%/bin}" TARGET=qwen2-tiny DOMAINS="a b" DOCS=4 VALID_DOCS=2 TEST_DOCS=3 EPOCHS=1 LR=1e-3 THREADS=1; }
rows() { # REPORT MODEL...: the report has these rows, every value a number
	python3 - "$W/$1.json" "${@:2}" <<'END'
import json, math, sys
bpb = json.load(open(sys.argv[1]))["bits_per_byte"]
assert list(bpb) == sys.argv[2:], list(bpb)
assert all(math.isfinite(v) and 0 < v < 20 for row in bpb.values() for v in row.values()), bpb
END
}

both=(SOURCES="gemma3-tiny llama-tiny")
check "make demo" run demo SOURCES=llama-tiny
check "make demo with two sources" run demo "${both[@]}"
check "its report" rows report gemma3-tiny llama-tiny target clm fused fused+clm
check "make pairs" run pairs "${both[@]}"
check "its report" rows pairs gemma3-tiny llama-tiny target clm target+gemma3-tiny target+llama-tiny linear slerp task-arithmetic ties dare varm sce
check "make baselines" run baselines "${both[@]}"
check "its report" rows baselines gemma3-tiny llama-tiny target clm kd merged fused ensemble
check "make continual" run continual SOURCES=llama-tiny ADD=gemma3-tiny
check "its report" rows continual gemma3-tiny llama-tiny target fused continual
for what in report pairs baselines continual; do
	check "make $what leaves a page" grep -q "</html>" "$W/$what.html"
done
check "with the curves of every trained model, and what each source gave" python3 - "$W/pairs.html" <<'END'
import sys
page = open(sys.argv[1]).read()
for section in "bits", "seen", "passages", "sources", "training", "alignment", "sizes", "provenance": assert f'<section id="{section}"' in page, section
training = page[page.index('id="training"'):page.index('id="alignment"')]
for name in "clm", "target+gemma3-tiny", "target+llama-tiny": assert name in training, name
END
check "weights fitted to validation text" run demo "${both[@]}" FUNCTION=domain
check "the papers' alignment, with a map of its own" run demo "${both[@]}" FUNCTION=min-ce ALIGN=dtw VOCAB_MAP=mined
check "FuseChat's, mixing" run demo "${both[@]}" ALIGN=dtw-chat VOCAB_MAP=stats ONE_TO_MANY=weighted
check "in a folder of its own" test -s "$W/docs4/for-qwen2-tiny/aligned/train/llama-tiny-dtw-chat-stats-weighted/manifest.json"
check "sources that are first trained on the text" run demo "${both[@]}" ADAPT=1 FOLDS=3
check "a model a fold" test -s "$W/docs4/adapted/lr1e-5x1b512of3-fold2/llama-tiny/config.json" -a -s "$W/docs4/for-qwen2-tiny/aligned/train/llama-tiny-adapted-lr1e-5x1b512of3/manifest.json"
check "their report" rows report gemma3-tiny llama-tiny target clm fused fused+clm
check "the map is kept" test -s "$W/maps/llama-tiny-qwen2-tiny-mined.map"
for what in demo pairs baselines; do
	run $what "${both[@]}" --trace 2>/dev/null | grep -oE 'bin/kf-[a-z]+ --.*' > "$TMP/ran"
	check "make $what a second time runs no program" test ! -s "$TMP/ran"
done

# Tasks in the reports, and nothing else made again for them.
mkdir -p "$D/tasks"
printf '%s\n' '{"task": "quiz", "kind": "choice"}' '{"prompt": "The fox is", "choices": ["quick", "lazy"], "answer": 0}' \
	'{"prompt": "The dogs are", "choices": ["quick", "lazy"], "answer": 1}' > "$D/tasks/quiz.jsonl"
run pairs "${both[@]}" TASKS=quiz --trace 2>/dev/null | grep -oE 'bin/kf-[a-z]+ --' | sort | uniq -c > "$TMP/ran"
check "make pairs with tasks runs the evaluation and its page" test "$(awk '{ print $1, $2 }' "$TMP/ran" | tr '\n' ' ')" = "1 bin/kf-eval 1 bin/kf-report "
check "every model is asked, and what was seen in training counted" python3 - "$W/pairs.json" <<'END'
import json, sys
r = json.load(open(sys.argv[1]))
assert list(r["tasks"]["quiz"]["metrics"]["acc"]["models"]) == list(r["bits_per_byte"]), r["tasks"]
assert r["overlap"]["tasks"]["quiz"]["items"] == 2 and set(r["overlap"]["text"]) == {"a", "b"}
END
check "make tasks" run tasks "${both[@]}" TASKS=quiz TASK_LIMIT=1
check "as many items as asked for" grep -q '"items": 1' "$W/tasks.json"
check "its report" python3 -c 'import json,sys; assert list(json.load(open(sys.argv[1]))["tasks"]["quiz"]["metrics"]["acc"]["models"]) == ["qwen2-tiny", "gemma3-tiny", "llama-tiny"]' "$W/tasks.json"

# On conversations: tiny models have no templates of their own.
for i in $(seq 40); do
	printf '{"id": "t%d", "domain": "talks", "messages": [{"role": "user", "content": "Question %d?"}, {"role": "assistant", "content": "The answer is %d, of course."}]}\n' $i $i $((i * 3))
done > "$D/text/talks.jsonl"
check "make fusechat-demo" run fusechat-demo "${both[@]}" CHAT_DOMAINS=talks CHAT_WORK="$W/chat" CHAT_TEMPLATE_qwen2-tiny=chatml \
	CHAT_TEMPLATE_llama-tiny=smollm2 CHAT_TEMPLATE_gemma3-tiny=gemma3
check "its report" rows chat/pairs gemma3-tiny llama-tiny target clm target+gemma3-tiny target+llama-tiny linear slerp task-arithmetic ties dare varm sce
check "of conversations" grep -q '"format": *2' "$W/chat/docs4/corpus/test/manifest.json"
check_fails 2 "which model to add" "continual wants a model" run continual SOURCES=llama-tiny

# The comparisons of the papers, in miniature.
experiments() { make -s experiments SIZE=tiny DATA="$D" EXPERIMENTS="$W/experiments" B="${BIN%/bin}" TARGET=qwen2-tiny "${both[@]}" DOMAINS="a b" \
	EXPERT_DOMAINS="a b" LANGUAGE_DOMAINS="a b" CHAT_DOMAINS=talks CHAT_TEMPLATE_qwen2-tiny=chatml CHAT_TEMPLATE_llama-tiny=smollm2 CHAT_TEMPLATE_gemma3-tiny=gemma3 THREADS=1 TASKS=quiz "$@"; }
check "make experiments" experiments
check "every method on every seed, in four tables" python3 - "$W/experiments/tiny/results.json" <<'END'
import json, math, sys
parts = json.load(open(sys.argv[1]))["parts"]
assert list(parts) == ["A", "B", "C", "D"]
for name, p in parts.items():
    assert list(p["seeds"]) == ["1", "2"], p["seeds"].keys()
    for s in p["seeds"].values():
        assert set(p["rows"]) == set(s["bits_per_byte"]), (name, p["rows"], list(s["bits_per_byte"]))
        assert all(math.isfinite(v) for row in s["bits_per_byte"].values() for v in row.values())
        # all are asked but the ensemble, which is no model; perplexity and overlap are kept
        asked = s["tasks"]["quiz"]["metrics"]["acc"]["models"]
        assert set(asked) == set(p["rows"]) - {"ensemble"} and s["overlap"]["tasks"]["quiz"]["items"] == 2, (name, list(asked))
        assert set(s["overlap"]["text"]) == set(s["documents"]) and all(math.isfinite(s["perplexity"][m]["mean"]) for m in p["rows"])
assert {t["lambda"] for t in parts["A"]["tried"]["kfuse"]} == {"0.9", "0.3"} and len(parts["A"]["tried"]["kfuse"]) == 3
assert parts["D"]["rows"] == ["gemma3-tiny", "llama-tiny", "target", "clm", "min-ce dtw exact", "kfuse", "clm + clm", "kfuse + clm", "clm soup", "kfuse soup", "ensemble"], parts["D"]["rows"]
END
check "bits per byte, perplexity, scores: a row a model in the table" test "$(grep -c '^| kfuse |' "$W/experiments/tiny/A.md")$(grep -c '^| joint |' "$W/experiments/tiny/C.md")" = 33
for part in A B C D; do
	check "and a page over the seeds: $part" grep -q '<section id="runs">' "$W/experiments/tiny/$part.html"
	check "with training curves" grep -q '<section id="training">' "$W/experiments/tiny/$part.html"
	check "and who taught which token" grep -q '<section id="passages">' "$W/experiments/tiny/$part.html"
done
touch "$TMP/before"
experiments ONLY=b > "$TMP/again" 2>&1
check "a second time nothing is merged or evaluated" test "$(find "$W/experiments" -newer "$TMP/before" \( -name config.json -o -name 'B-seed*.json' \) | wc -l)" = 0
check "a second time nothing is trained" test "$(grep -c "valid" "$TMP/again")" -gt 0 -a "$(find "$W/experiments" -name log.jsonl -newer "$W/experiments/tiny/D-seed2.json" | wc -l)" = 0
