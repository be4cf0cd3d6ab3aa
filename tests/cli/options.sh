# What shapes an output is part of what it is: a program that is given one option of another value says so and writes nothing; what does not
# shape it leaves it "up to date". Every option that --help names has a line here.
. tests/lib.sh
M=tests/models C=$TMP/corpus
some_text "$TMP/text.jsonl" 5 12 30 ab
some_text "$TMP/other.jsonl" 6 12 30 ab
printf '{"id": "c%d", "messages": [{"role": "user", "content": "Question %d?"}, {"role": "assistant", "content": "The answer."}]}\n' 1 1 2 2 > "$TMP/chat.jsonl"
for c in text other chat; do "$BIN/kf-prepare" --quiet --shards 2 --out "$TMP/c-$c" "$TMP/$c.jsonl" || exit; done
for m in llama gemma3; do "$BIN/kf-extract" --quiet --model $M/$m-tiny --corpus "$TMP/c-text" --out "$TMP/$m" || exit; done
"$BIN/kf-extract" --quiet --model $M/qwen2-tiny --corpus "$TMP/c-text" --out "$TMP/qwen2" || exit
"$BIN/kf-extract" --quiet --model $M/llama-tiny --corpus "$TMP/c-text" --out "$TMP/llama-5" --top-k 5 || exit
for m in qwen2 gemma3; do "$BIN/kf-align" --quiet --source "$TMP/$m" --target "$TMP/llama" --out "$TMP/a-$m" || exit; done
"$BIN/kf-fuse" --quiet --target "$TMP/llama" --aligned "$TMP/a-qwen2" --out "$TMP/targets" || exit
echo '{"all": {"llama-tiny": 0.5, "qwen2-tiny": 0.5}}' > "$TMP/equal.json"
echo '{"all": {"llama-tiny": 0.75, "qwen2-tiny": 0.25}}' > "$TMP/other.json"
# another model of the same shapes: rounded to bf16
"$BIN/kf-merge" --quiet --method linear --models $M/llama-tiny --dtype bf16 --out "$TMP/rounded" || exit
"$BIN/kf-merge" --quiet --method linear --models "$TMP/rounded" --dtype f32 --out "$TMP/m1" || exit

several="--models --aligned --trace-doc"
# PROGRAM WORD... for all of its cases
of() { program=$1; shift; words=("$@"); rm -rf "$TMP/out"; mkdir "$TMP/out"; : > "$TMP/cases"; }
# case_of OPTION SAYS [WORD...] : [WORD...]: the first words make it, if they have not yet; then it is run again with the others, too. SAYS: "refused": it
# names the option and what it was and is; "free": up to date; else a regular expression of what it says of another input.
case_of() {
	local option=$1 says=$2 name out status made=(); shift 2
	while [ "$1" != : ]; do made+=("$1"); shift; done; shift
	echo "$option" >> "$TMP/cases"
	name="$program --$option$([ $# -gt 0 ] && echo ": ${*##*/}")"
	out="$TMP/out/$(echo "${made[*]:-}" | md5sum | cut -c 1-12)"
	together "${words[@]}" "${made[@]}"
	if [ ! -d "$out" ] && ! "$BIN/$program" "${all[@]}" --quiet --out "$out" > "$TMP/.out" 2> "$TMP/.err"; then
		not_ok "$name: made" "$(tail -n 3 "$TMP/.err")"; return
	fi
	together "${words[@]}" "${made[@]}" "$@"
	"$BIN/$program" "${all[@]}" --out "$out" > "$TMP/.out" 2>&1; status=$?
	case $says in
	refused) [ $status -eq 1 ] && grep -Eq -- "--$option(: .* there, .* here| was .* and is )" "$TMP/.out" ;;
	free) [ $status -eq 0 ] && { grep -q "up to date" "$TMP/.out" || [ "$option" = quiet ]; } ;;
	*) [ $status -eq 1 ] && grep -Eq -- "$says" "$TMP/.out" ;;
	esac && ok "$name" || not_ok "$name" "exit status $status, not $says" "$(tail -n 3 "$TMP/.out")"
}
# Options that have no two values to compare, or another test; then: every option of --help has a line.
no_case() { printf '%s\n' "$@" help version >> "$TMP/cases"; }
all_of_them() {
	"$BIN/$program" --help | grep -oE '^  --[a-z0-9-]+' | tr -d ' -' | sort -u > "$TMP/want"
	tr -d - < "$TMP/cases" | sort -u > "$TMP/got"
	check_same "$program: every option of --help has a line in this test, and no other" "$TMP/want" "$TMP/got"
}
common() {
	case_of threads free : --threads 2
	case_of quiet free : --quiet
	case_of progress free : --progress none
	case_of replace free : --replace
}

of kf-fuse --target "$TMP/llama" --aligned "$TMP/a-qwen2"
D="--function dynamic"
case_of function refused : --function avg-ce
case_of level refused : --level token
case_of metric refused : --metric token
case_of reward-temperature refused --function avg-ce : --reward-temperature 0.5
case_of rate refused $D : --rate 0.5
case_of forget refused $D : --forget 0.5
case_of share refused $D : --share 0.5
case_of weights 'input weights differs' --function domain --weights "$TMP/equal.json" : --weights "$TMP/other.json"
case_of same-text free --function domain --weights "$TMP/equal.json" : --same-text
case_of with-target refused : --with-target no
case_of tail refused : --tail rest
case_of weight refused : --weight advantage
case_of full-advantage refused --weight advantage : --full-advantage 0.5
case_of precision refused : --precision f32
case_of target 'aligned to other logits' : --target "$TMP/llama-5"
case_of aligned 'input source differs' : --aligned "$TMP/a-gemma3"
case_of report free : --report "$TMP/report.json"
case_of trace free : --trace "$TMP/trace.jsonl"
case_of trace-doc free : --trace "$TMP/trace.jsonl" --trace-doc 1
case_of seed free : --seed 5
common
case_of shard free : --shard 0/2
no_case out fit
all_of_them

of kf-align --source "$TMP/qwen2" --target "$TMP/llama"
case_of method refused : --method dtw
case_of vocab-map refused : --vocab-map exact
case_of map-ties 'map of method mined, not mined co-occurrence' --method dtw --vocab-map mined --map "$TMP/map" : --map-ties co-occurrence
case_of map-ties 'input map differs' --method dtw --vocab-map mined --map "$TMP/map" : --map "$TMP/map-ties" --map-ties co-occurrence
case_of map free --method dtw --vocab-map mined : --map "$TMP/map2"
case_of map-corpus free : --map-corpus any
case_of one-to-many refused --method dtw-chat --vocab-map exact : --one-to-many weighted
case_of reference-quirks refused --method dtw --vocab-map exact : --reference-quirks
case_of precision refused : --precision f32
case_of source 'input source differs' : --source "$TMP/gemma3"
case_of target 'input target differs' : --target "$TMP/llama-5"
case_of seed free : --seed 5
common
case_of shard free : --shard 0/2
no_case out
all_of_them

of kf-extract --model $M/qwen2-tiny --corpus "$TMP/c-text"
case_of top-k refused : --top-k 11
case_of byte-path refused : --byte-path no
case_of path-min refused : --path-min 4
case_of path-extra refused : --path-extra 5
case_of context refused : --context 64
case_of fold refused --fold 0/2 : --fold 1/2
case_of precision refused : --precision f32
case_of compute refused --compute f32 : --compute bf16
case_of int8 refused --compute int8 --int8 head : --compute int8 --int8 qkv
case_of chat-template refused --corpus "$TMP/c-chat" --chat-template chatml : --chat-template smollm2
case_of model 'input model differs' : --model $M/llama-tiny
case_of corpus 'input corpus differs' : --corpus "$TMP/c-other"
case_of name free : --name another
case_of batch-tokens free : --batch-tokens 64
case_of stream free : --stream yes
case_of stream-tokens free : --stream yes --stream-tokens 100
case_of scratch free : --stream yes --scratch "$TMP"
case_of memory free : --memory 1000
case_of backend free : --backend cpu
case_of seed free : --seed 5
common
case_of shard free : --shard 0/2
no_case out plan json
all_of_them

of kf-generate --model $M/llama-tiny --corpus "$TMP/c-text" --texts 1 --tokens 3
case_of texts refused : --texts 2
case_of tokens refused : --tokens 4
case_of prompt-bytes refused : --prompt-bytes 30
case_of temperature refused : --temperature 1
case_of top-p refused : --top-p 0.5
case_of keep refused : --keep no
case_of seed refused : --seed 5
case_of chat-template refused --corpus "$TMP/c-chat" --chat-template chatml : --chat-template smollm2
case_of model 'input model differs' : --model $M/qwen2-tiny
case_of corpus 'input corpus differs' : --corpus "$TMP/c-other"
case_of compute free : --compute f32
case_of cache-mb free : --cache-mb 8
case_of backend free : --backend cpu
common
case_of shard free : --shard 0/2
no_case out
all_of_them

of kf-train --model $M/llama-tiny --targets "$TMP/targets" --max-steps 2 --batch-tokens 200
case_of lambda refused : --lambda 0.5
case_of lambda-schedule refused : --lambda-schedule decay
case_of loss refused : --loss kl
case_of tail refused : --tail renormalize
case_of temperature refused : --temperature 2
case_of lr refused : --lr 1e-4
case_of lr-schedule refused : --lr-schedule linear
case_of warmup refused : --warmup 0.5
case_of weight-decay refused : --weight-decay 0
case_of beta1 refused : --beta1 0.8
case_of beta2 refused : --beta2 0.9
case_of clip refused : --clip 0
case_of batch-tokens refused : --batch-tokens 300
case_of micro-tokens refused : --micro-tokens 100
case_of moments refused : --moments 8bit
case_of compute refused --compute f32 : --compute bf16
case_of context refused : --context 64
case_of epochs refused : --epochs 2
case_of patience refused --valid "$TMP/c-other" : --patience 2
case_of max-steps refused : --max-steps 1
case_of dtype refused : --dtype bf16
case_of fold refused --fold 0/2 : --fold 1/2
case_of seed refused : --seed 5
case_of valid 'another valid' --valid "$TMP/c-other" : --valid "$TMP/c-text"
case_of valid 'another valid' : --valid "$TMP/c-text"
case_of model 'another model' : --model "$TMP/m1"
case_of targets 'another targets' : --targets "$TMP/a-qwen2"
case_of keep-mb free : --keep-mb 1
case_of save-every free : --save-every 1
case_of backend free : --backend cpu
case_of log free : --log "$TMP/log.jsonl"
common
no_case out keep-epochs keep-state resume restart
all_of_them

of kf-merge --pivot $M/llama-tiny --models $M/llama-tiny --models "$TMP/m1"
case_of method refused : --method varm
case_of weights refused --method linear : --weights 1,2
case_of density refused --method ties : --density 0.5
case_of density refused --method dare : --density 0.5
case_of select refused : --select 0.2
case_of t refused --method slerp : --t 0.25
case_of normalize refused --method linear : --normalize no
case_of granularity refused --method varm : --granularity layer
case_of compat refused : --compat mergekit
case_of dtype refused : --dtype bf16
case_of max-shard-bytes refused : --max-shard-bytes 60000
case_of seed refused --method dare : --seed 5
case_of seed free --method ties : --seed 5
case_of pivot 'another pivot' : --pivot "$TMP/m1"
case_of models 'another model 3' : --models "$TMP/m1"
common
no_case out
all_of_them

of kf-prepare "$TMP/text.jsonl" --shards 4
case_of domain refused : --domain d
case_of skip-bad free : --skip-bad 5
case_of doc-bytes refused : --doc-bytes 100
case_of normalize refused : --normalize none
case_of invalid refused : --invalid refuse
case_of format refused : --format jsonl
case_of split refused : --split train
case_of docs-per-domain refused : --docs-per-domain 2
case_of seed refused --docs-per-domain 2 : --seed 5
case_of seed free : --seed 5
case_of shards 'number of shards' : --shards 2
case_of shard free --shards 2 : --shard 0/2
common
no_case out
all_of_them

"$BIN/kf-export" --quiet --set "$TMP/qwen2" --out "$TMP/records.jsonl" && tac "$TMP/records.jsonl" > "$TMP/records2.jsonl"
of kf-import --corpus "$TMP/c-text" --input "$TMP/records.jsonl" --tokenizer $M/qwen2-tiny
case_of top-k refused : --top-k 5
case_of format refused : --format jsonl
case_of precision refused : --precision f32
case_of corpus 'another tokenizer, or another text' : --corpus "$TMP/c-other"
case_of input 'input records differs' : --input "$TMP/records2.jsonl"
case_of tokenizer 'another tokenizer, or another text' : --tokenizer $M/llama-tiny
case_of name free : --name teacher
case_of seed free : --seed 5
common
case_of shard free : --shard 0/2
no_case out
all_of_them

for i in 0 1; do "$BIN/kf-prepare" --quiet --shards 2 --shard $i/2 --out "$TMP/part$i" "$TMP/text.jsonl"; done
of kf-join "$TMP/part0" "$TMP/part1"
case_of copy free : --copy
case_of quiet free : --quiet
case_of progress free : --progress none
case_of replace free : --replace
no_case out
all_of_them
