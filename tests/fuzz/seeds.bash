# seeds.bash TARGET FOLDER: copies what a target begins with into FOLDER: files of the tests that are small enough.
set -eu
target=$1 out=$2
mkdir -p "$out"
take() { # FILE...: named after their paths
	local f
	for f in "$@"; do
		[ -f "$f" ] && [ "$(stat -c %s "$f")" -le "${MOST:-65536}" ] || continue
		cp "$f" "$out/$(echo "$f" | tr '/' '-')"
	done
}
case $target in
fuzz_gguf) take tests/models/families/*.gguf ;;
fuzz_safetensors) MOST=40000 take tests/models/families/*/*.safetensors ;;
fuzz_pickle) take tests/models/families/llama-pickled/*.bin ;;
fuzz_config) take tests/models/*/config.json tests/models/families/*/config.json tests/models/endtoend/*/config.json ;;
fuzz_tokenizer) take tests/models/*/tokenizer.json tests/models/*/tokenizer.model tests/parity/tokenizers/*/tokenizer.json tests/parity/tokenizers/*/tokenizer.model ;;
fuzz_shard) take tests/golden/*/shard-*.mdb ;;
fuzz_manifest) take tests/golden/*/manifest.json tests/golden/*.map ;;
fuzz_jsonl) take tests/parity/maps/text.jsonl tests/golden/corpus-chat.jsonl
	printf '%s\n' '{"id": "a", "domain": "d", "messages": [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Hello \u00e9."}]}' \
		'{"conversations": [{"from": "human", "value": "x"}, {"from": "gpt", "value": "y"}]}' > "$out/talk.jsonl"
	gzip -nc "$out/talk.jsonl" > "$out/talk.gz"
	echo '[{"text": "a]\"},{"}, {"text": "b", "id": 3, "x": [1, {"y": "["}]} ]' > "$out/list.jsonl"
	printf '(\265/\375\004Xy\000\000{"text": "one"}\201`\016J' > "$out/text.zst" ;;
fuzz_tasks)
	printf '%s\n' '{"task": "t", "kind": "choice", "prefix": "p", "delimiter": "", "licence": "x"}' '{"id": "a", "prompt": "q", "choices": ["a", "b"], "answer": "b"}' \
		'{"task": "m", "kind": "match", "normalize": "number", "stop": ["\n"], "max_tokens": 9}' '{"prompt": "1+1", "answer": [2, "-2.50"], "solution": "#### 2"}' \
		'{"task": "w", "kind": "last-word"}' '{"text": "one two"}' '{"prompt": "one", "word": "two"}' > "$out/own.jsonl"
	echo '{"task_id": "H/0", "prompt": "def f():\n", "entry_point": "f", "test": "def check(f): pass", "canonical_solution": "    pass"}' > "$out/humaneval.jsonl"
	gzip -nc "$out/humaneval.jsonl" > "$out/humaneval.gz"
	echo '{"name": "b", "task_prefix": "p", "choice_prefix": "c", "stop_string": ";", "examples": [{"input": "q", "target_scores": {"a": 1, "b": 0.5}, "target": "a"}]}' > "$out/scores.json"
	echo '{"append_choices_to_input": false, "examples": [{"input": "q", "target": ["a", "b"]}, {"input": "r", "target": "```"}]}' > "$out/target.json" ;;
fuzz_import) take tests/parity/import/*.jsonl
	echo '{"id": "a", "tokens": [" ab", " ", "bc", " c"], "logprobs": [null, -1, -2.5, -0.5], "top": [null, {"c": -1.5, " ": -1}, null, null]}' > "$out/short.json" ;;
esac
[ -d "tests/fuzz/corpus/$target" ] && cp tests/fuzz/corpus/"$target"/* "$out/" || true
[ -n "$(ls "$out")" ] || { echo "$target has no seeds" >&2; exit 1; }
