# kf-train: killed at 20 random moments, the same command ends with the same model, bit for bit.
. tests/lib.sh
some_text "$TMP/text.jsonl" 5 120 20 ab
M=tests/models/llama-tiny
"$BIN/kf-prepare" --out "$TMP/corpus" --quiet "$TMP/text.jsonl" &&
	"$BIN/kf-extract" --model $M --corpus "$TMP/corpus" --out "$TMP/logits" --quiet || { not_ok "the logits to train on"; exit; }
out=$TMP/model
train=("$BIN/kf-train" --model $M --targets "$TMP/logits" --valid "$TMP/corpus" --lambda 0.5 --epochs 3 --batch-tokens 256
	--lr 1e-3 --save-every 5 --threads 1 --quiet)
begin=$(date +%s%N)
check "undisturbed" "${train[@]}" --out "$TMP/whole"
ms=$((($(date +%s%N) - begin) / 1000000))
RANDOM=11 resumed=0 finished=0
for ((i = 0; i < 20; i++)); do
	wait=$((RANDOM * (ms + 20) / 32768))
	[ -d "$out/state" ] && resumed=$((resumed + 1))
	"${train[@]}" --out "$out" >"$TMP/.out" 2>"$TMP/.err" &
	pid=$!
	sleep "$(printf '%d.%03d' $((wait / 1000)) $((wait % 1000)))"
	kill -KILL $pid 2>/dev/null || finished=$((finished + 1))
	wait $pid 2>/dev/null
	if [ -e "$out/config.json" ]; then
		check "what looks complete is, after kill $((i + 1))" cmp "$TMP/whole/model.safetensors" "$out/model.safetensors"
		rm -rf "$out" # and again, so that kills meet every part of a run
	fi
done
check "after 20 kills, $resumed runs that continued, $finished that ended" "${train[@]}" --out "$out"
check_same "the same model" "$TMP/whole/model.safetensors" "$out/model.safetensors"
check_same "the same config" "$TMP/whole/config.json" "$out/config.json"
check "nothing left over" test ! -e "$out/state"
check "some runs continued" test $resumed -gt 3
