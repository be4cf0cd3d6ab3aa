# Every stage that writes a set: killed at random moments, on a full disk, into a read-only folder.
. tests/lib.sh
. tests/fault/promises.inc
some_text "$TMP/text.jsonl" 3 240 60 abc
C=$TMP/corpus L=tests/models
"$BIN/kf-prepare" --out "$C" --shards 8 --quiet "$TMP/text.jsonl" || { not_ok "the corpus"; exit; }
stage() { # NAME CMD...: all promises
	local name=$1; shift
	killed "$name" 20 "$TMP/$name" "$@"
	full_disk "$name" "$TMP/$name" "$@"
	read_only "$name" "$TMP/$name" "$@"
}
ROOM=36k stage prepare "$BIN/kf-prepare" --out OUT --shards 8 --quiet "$TMP/text.jsonl"
stage extract "$BIN/kf-extract" --model $L/llama-tiny --corpus "$C" --out OUT --quiet
stage extract-stream "$BIN/kf-extract" --model $L/llama-tiny --corpus "$C" --out OUT --quiet --stream yes --stream-tokens 3000 --batch-tokens 500 \
	--scratch "$TMP"
stage generate "$BIN/kf-generate" --model $L/llama-tiny --corpus "$C" --out OUT --quiet --texts 1 --tokens 3
"$BIN/kf-extract" --model $L/qwen2-tiny --corpus "$C" --out "$TMP/source" --quiet || { not_ok "the source's logits"; exit; }
stage align "$BIN/kf-align" --source "$TMP/source" --target "$TMP/extract.ref" --out OUT --quiet
stage fuse "$BIN/kf-fuse" --target "$TMP/extract.ref" --aligned "$TMP/align.ref" --out OUT --quiet
