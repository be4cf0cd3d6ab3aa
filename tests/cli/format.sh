# docs/format.md: sets of every kind, read by tests/format/kfset.py, which was written from that page alone.
. tests/lib.sh
M=tests/models
compare() { python3 tests/format/compare.py "$BIN" "$@" 2>"$TMP/.err" || not_ok "compare.py $1" "$(tail -n 5 "$TMP/.err")"; }
run() { "$BIN/$1" --quiet "${@:2}"; }
extract() { run kf-extract --threads 1 --model $M/$1 --corpus "$TMP/$2" --out "$TMP/$3" "${@:4}"; }   # MODEL CORPUS NAME OPTION...

cat >"$TMP/text.jsonl" <<'TEXT'
{"id": "a", "domain": "prose", "text": "It is a truth universally acknowledged, that a single man in possession of a good fortune, must be in want of a wife. However little known the feelings or views of such a man may be on his first entering a neighbourhood, this truth is so well fixed in the minds of the surrounding families."}
{"id": "é日本🙂", "domain": "código", "text": "def f(x):\n    return x + 1\n\nprint(f(3), \"ünïcödé 日本語 🙂\")\n"}
{"id": "c", "text": "x"}
{"id": "d", "domain": "", "text": "However little known the feelings   of such a man"}
{"domain": "prose", "text": "no id \u0001\u007f"}
TEXT
printf 'not \xff\xfe UTF-8 \xc3\n' >"$TMP/bytes.txt"
cat >"$TMP/chat.jsonl" <<'TEXT'
{"id": "x", "domain": "faq", "messages": [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "The miller."}, {"role": "user", "content": "And?"}, {"role": "assistant", "content": "One cat, ünïcödé."}]}
{"id": "y", "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "日本?"}, {"role": "assistant", "content": "o"}]}
TEXT
run kf-prepare --out "$TMP/corpus" --shards 2 --doc-bytes 60 "$TMP/text.jsonl" "$TMP/bytes.txt"
run kf-prepare --out "$TMP/mixed" --shards 3 "$TMP/chat.jsonl" "$TMP/text.jsonl"
extract gemma3-tiny corpus logits-bos --top-k 6
extract qwen2-tiny corpus logits --top-k 6
extract qwen2-tiny corpus logits-f32 --top-k 6 --precision f32
extract qwen2-tiny corpus logits-f32-no-path --top-k 2 --precision f32 --byte-path no
extract gemma3-tiny corpus logits-top-1 --top-k 1 --byte-path no
extract llama-tiny corpus logits-top-300 --top-k 300
extract llama-tiny corpus logits-many-extra --top-k 2 --path-min 64 --path-extra 64
extract qwen2-tiny corpus logits-streamed --stream yes --stream-tokens 64 --context 16
extract gemma3-tiny corpus logits-fold --fold 1/2
cp -r $M/gemma3-tiny "$TMP/merges"; rm "$TMP/merges/tokenizer.model"     # then its tokenizer has merges
run kf-extract --threads 1 --model "$TMP/merges" --corpus "$TMP/corpus" --out "$TMP/logits-merges" --top-k 2
for i in 0 1; do extract gemma3-tiny corpus part-$i --top-k 3 --shard $i/2; done
run kf-join --out "$TMP/logits-joined" "$TMP/part-0" "$TMP/part-1"
for m in gemma3 qwen2; do extract $m-tiny mixed logits-mixed-$m --chat-template plain --top-k 5; done
extract qwen2-tiny mixed logits-mixed-f32 --chat-template plain --precision f32
align() { run kf-align --source "$TMP/$1" --target "$TMP/$2" --out "$TMP/$3" "${@:4}"; }
align logits-bos logits aligned
align logits-top-300 logits aligned-many
align logits logits-bos aligned-dtw-f32 --method dtw --vocab-map mined --map "$TMP/map-mined" --precision f32
align logits logits-bos aligned-chat --method dtw-chat --vocab-map stats --map "$TMP/map-stats" --one-to-many weighted
align logits-mixed-gemma3 logits-mixed-qwen2 aligned-mixed
fuse() { run kf-fuse --target "$TMP/$1" --aligned "$TMP/$2" --out "$TMP/$3" "${@:4}"; }
fuse logits aligned targets
fuse logits aligned-many targets-many --function avg-ce --level token --with-target no
fuse logits aligned targets-weights --weight advantage-position --function dynamic
fuse logits aligned targets-weights-f32 --weight advantage --precision f32
fuse logits-mixed-qwen2 aligned-mixed targets-mixed --weight advantage
run kf-export --set "$TMP/logits-f32" --out "$TMP/exported.jsonl"
run kf-import --corpus "$TMP/corpus" --input "$TMP/exported.jsonl" --tokenizer $M/qwen2-tiny --out "$TMP/logits-imported" --top-k 4

compare sets tests/golden/*/ "$TMP"/corpus "$TMP"/mixed "$TMP"/logits* "$TMP"/aligned* "$TMP"/targets*
compare exported "$TMP/logits-f32" "$TMP/exported.jsonl"
compare map "$TMP/map-mined" "$TMP/map-stats"
compare text "$TMP/corpus" "$TMP/text.jsonl"
compare near "$TMP/logits" "$TMP/logits-f32"
compare spelled "$TMP/logits" "$TMP/corpus" $M/qwen2-tiny
mkdir "$TMP/damage" "$TMP/versions"
compare damage "$TMP/logits-mixed-qwen2" "$TMP/map-stats" "$TMP/damage"
compare versions "$TMP/logits" "$TMP/versions"
check "a set as JSON Lines" python3 tests/format/kfset.py "$TMP/targets"
python3 tests/format/kfset.py "$TMP/targets" >"$TMP/out.jsonl"
compare exported "$TMP/targets" "$TMP/out.jsonl"
check "a tokenizer" python3 tests/format/kfset.py --tokenizer "$TMP/targets"
check "a map" python3 tests/format/kfset.py "$TMP/map-mined"
check_fails 1 "part-0/manifest.json: is not there.*not complete" "a part of a set is none" python3 tests/format/kfset.py "$TMP/part-0"
check_fails 1 "usage" "wrong usage" python3 tests/format/kfset.py
