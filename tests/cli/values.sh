# Every option of every program refuses what is no value of it. And what each option of the programs that write no set does, compared with
# a run without it (of those that write one: tests/cli/options.sh). Every option that --help names has a line here.
. tests/lib.sh
M=tests/models C=$TMP/corpus
some_text "$TMP/text.jsonl" 5 12 30 ab
some_text "$TMP/other.jsonl" 6 12 30 ab
"$BIN/kf-prepare" --quiet --shards 2 --out "$C" "$TMP/text.jsonl" && "$BIN/kf-prepare" --quiet --shards 2 --out "$TMP/c-other" "$TMP/other.jsonl" || exit
for m in llama qwen2; do "$BIN/kf-extract" --quiet --precision f32 --model $M/$m-tiny --corpus "$C" --out "$TMP/$m" || exit; done
"$BIN/kf-align" --quiet --source "$TMP/qwen2" --target "$TMP/llama" --out "$TMP/aligned" || exit
"$BIN/kf-fuse" --quiet --target "$TMP/llama" --aligned "$TMP/aligned" --out "$TMP/targets" --trace "$TMP/trace.jsonl" || exit

# ---- no value of it ----
# What --help calls a value: text of some sort, else a number or a choice.
TEXTS='PATH|DIR|FILE|NAME|CORPUS|TEXT|KINDS|A,B|I/N|W1,W2'
declare -A beside=([kf-fuse,trace-doc]="--target T --aligned A --out O --trace F")    # what it is looked at after
for p in "$BIN"/kf-*; do
	n=${p##*/} bad=
	[ $n != kf-slurm ] || continue      # a script: tests/cli/slurm.sh
	while read -r option value; do
		wrong=('')
		[[ $value =~ ($TEXTS) ]] || wrong+=(nonsense 5x nan -1e300 1e400 99999999999999999999)
		for w in "${wrong[@]}"; do
			"$p" ${beside[$n,$option]:-} --$option "$w" > "$TMP/.out" 2> "$TMP/.err"; status=$?
			[ $status = 2 ] && grep -q -- "^$n: --$option\b" "$TMP/.err" || bad="$bad
--$option '$w': status $status: $(head -n 1 "$TMP/.err")"
		done
		"$p" --$option > "$TMP/.out" 2> "$TMP/.err"
		[ $? = 2 ] && grep -q -- "--$option" "$TMP/.err" || bad="$bad
--$option with nothing after it: $(head -n 1 "$TMP/.err")"
	done < <("$p" --help | sed -nE 's/^  --([a-z0-9-]+) ([^ ]+)( .*|$)/\1 \2/p')
	while read -r option; do
		"$p" --$option=yes > "$TMP/.out" 2> "$TMP/.err"
		[ $? = 2 ] && grep -q -- "--$option" "$TMP/.err" || bad="$bad
--$option=yes: $(head -n 1 "$TMP/.err")"
	done < <("$p" --help | sed -nE 's/^  --([a-z0-9-]+)  .*/\1/p')
	if [ -z "$bad" ]; then ok "$n: no option takes what is no value of it"; else not_ok "$n: no option takes what is no value of it" "$bad"; fi
done

# ---- what a value does ----
# of PROGRAM WORD...: of the cases that follow. Its result is what it prints and all it writes into $TMP/to.
of() {
	[ "${program:-}" = $1 ] || : > "$TMP/cases"
	program=$1; shift; words=("$@")
	result > "$TMP/base" || not_ok "$program: it runs" "$(tail -n 3 "$TMP/.err")"
}
result() {
	local status
	rm -rf "$TMP/to"; mkdir "$TMP/to"
	together "${words[@]}" "$@"
	"$BIN/$program" "${all[@]}" 2> "$TMP/.err"; status=$?
	find "$TMP/to" -type f | sort | while read -r f; do echo "== ${f##*/}"; cat "$f"; done
	return $status
}
# changes OPTION [WORD...] : WORD...: the result is another with the last words than without; same: it is the same.
compared() {
	local want=$1 option=$2 got first=(); shift 2
	while [ "$1" != : ]; do first+=("$1"); shift; done; shift
	echo "$option" >> "$TMP/cases"
	if [ ${#first[@]} -gt 0 ]; then result "${first[@]}" > "$TMP/without"; else cp "$TMP/base" "$TMP/without"; fi
	if ! result "${first[@]}" "$@" > "$TMP/with"; then not_ok "$program --$option: ${*##*/}" "$(tail -n 3 "$TMP/.err")"; return; fi
	cmp -s "$TMP/without" "$TMP/with" && got=same || got=changes
	if [ $got = $want ]; then ok "$program --$option: ${*##*/}"; else not_ok "$program --$option: ${*##*/}" "$got" "$(diff "$TMP/without" "$TMP/with" | head -n 6)"; fi
}
changes() { compared changes "$@"; }
same() { compared same "$@"; }
# says OPTION REGEX WORD...: the result has a line like this, which it has not without the words.
says() {
	local option=$1 regex=$2; shift 2
	echo "$option" >> "$TMP/cases"
	if result "$@" > "$TMP/with" && grep -Eq -- "$regex" "$TMP/with" && ! grep -Eq -- "$regex" "$TMP/base"; then ok "$program --$option: ${*##*/}"
	else not_ok "$program --$option: ${*##*/}" "$(tail -n 3 "$TMP/.err")" "$(grep -E -- "$regex" "$TMP/base")"; fi
}
# wrong OPTION STATUS REGEX WORD...
wrong() {
	echo "$1" >> "$TMP/cases"
	together "${words[@]}" "${@:4}"
	check_fails "$2" "$3" "$program --$1: ${*:4}" "$BIN/$program" "${all[@]}"
}
# With --quiet nothing is said, nor is progress; without, something is.
quiet() {
	echo quiet >> "$TMP/cases"
	result > "$TMP/with"; cat "$TMP/with" "$TMP/.err" | grep -v '^==' > "$TMP/loud"
	result --quiet > "$TMP/with"
	check "$program --quiet: says nothing" test ! -s "$TMP/.err" -a "$(head -c 3 "$TMP/with")" = "== " -a -s "$TMP/loud"
}
all_of_them() {
	"$BIN/$program" --help | grep -oE '^  --[a-z0-9-]+' | tr -d ' ' | sort -u > "$TMP/want"
	{ sed 's/^/--/' "$TMP/cases"; printf -- '--%s\n' help version "$@"; } | sort -u > "$TMP/got"
	check_same "$program: every option of --help has a line in this test, and no other" "$TMP/want" "$TMP/got"
}

cat > "$TMP/quiz.jsonl" <<'END'
{"task": "quiz", "kind": "choice"}
{"prompt": "The colour of snow is", "choices": ["white", "black", "green"], "answer": 0}
{"prompt": "Two and two are", "choices": ["four", "five"], "answer": 0}
{"prompt": "Birds", "choices": ["fly", "swim"], "answer": 0}
{"task": "sums", "kind": "match", "max_tokens": 6}
{"prompt": "1 + 1 =", "answer": "2"}
{"prompt": "1 + 2 =", "answer": "3"}
END
head -n 1 "$TMP/quiz.jsonl" | sed 's/quiz/more/' > "$TMP/more.jsonl"; sed -n 2,4p "$TMP/quiz.jsonl" >> "$TMP/more.jsonl"
several="--model --logits --mixture --tasks --chat-template --compare --overlap"
of kf-eval --model a=$M/llama-tiny --model b=$M/qwen2-tiny --corpus "$C" --tasks "$TMP/quiz.jsonl" --report "$TMP/to/r" --outputs "$TMP/to/o"
changes model : --model c=$M/gemma3-tiny
wrong model 1 'nowhere' --model nowhere
says logits '"c": \{' --logits c="$TMP/llama"
wrong logits 1 'nowhere' --logits nowhere
says mixture '"m": \{' --mixture m="$TMP/targets"
wrong mixture 1 'llama' --mixture "$TMP/llama"
changes corpus : --corpus "$TMP/c-other"
wrong corpus 1 'nowhere' --corpus nowhere
says tasks '"more": \{' --tasks "$TMP/more.jsonl"
wrong tasks 1 'nowhere' --tasks nowhere
changes chat-template : --chat-template plain
wrong chat-template 1 'no chat template "x"' --chat-template x
changes plain-tasks --chat-template plain : --plain-tasks
wrong chat-template 2 'no model of that name' --chat-template z=plain
says compare '"b": "b"' --compare a,b
wrong compare 2 'no model called "z"' --compare a,z
wrong compare 2 'A,B' --compare a
wrong report 1 'cannot create' --report "$TMP/no/r"
says markdown '\| a \|' --markdown "$TMP/to/m"
wrong markdown 1 'cannot create' --markdown "$TMP/no/m"
wrong outputs 1 'cannot create' --outputs "$TMP/no/o"
says per-document '"per_document"' --per-document
says scores '"of": \{' --scores "$TMP/to/s"
wrong scores 1 'text.jsonl' --scores "$TMP/text.jsonl"
says shots '"shots": 1' --shots 1
wrong shots 1 'none is left' --shots 2
changes limit : --limit 1
changes max-tokens : --max-tokens 2
changes temperature : --temperature 1
changes top-p --temperature 1 : --top-p 0.1
wrong top-p 2 'more than 0' --top-p 0
same cache-mb --compute bf16 : --cache-mb 1
says overlap '"overlap": \{' --overlap "$TMP/c-other"
wrong overlap 1 'nowhere' --overlap nowhere
changes ngram --overlap "$TMP/c-other" : --ngram 2
changes compute : --compute bf16
changes int8 --compute int8 --int8 head : --int8 head,up
wrong int8 2 'must be all, or some of' --int8 nonsense
same backend : --backend cpu
changes seed : --seed 5
same threads --compute bf16 : --threads 1
same progress : --progress none
wrong code-mb 2 'from 64' --code-mb 63
same batch-tokens --compute bf16 : --batch-tokens 50
quiet
# A program that takes two seconds of processor time and 200 MB, then ends well.
cat > "$TMP/code.jsonl" <<'END'
{"task_id": "c", "prompt": "s = r'''", "entry_point": "f", "test": "'''\nimport time\ndef f():\n    b = bytearray(200 << 20)\n    while time.process_time() < 2: pass\ndef check(c):\n    c()\n"}
END
of kf-eval --model a=$M/llama-tiny --tasks "$TMP/code.jsonl" --max-tokens 4 --unsafe-code --outputs "$TMP/to/o"
check "$program: the program ends well" grep -q '"verdict":"passed"' "$TMP/base"
echo unsafe-code >> "$TMP/cases"
says code-seconds '"verdict":"[a-z ]*time' --code-seconds 1
says code-mb '"verdict":"failed"' --code-mb 128
changes samples --temperature 1 : --samples 2
wrong samples 2 'needs --temperature' --samples 2
all_of_them

several=
of kf-export --set "$TMP/targets" --out "$TMP/to/o.jsonl"
changes set : --set "$TMP/llama"
wrong set 1 'is a corpus' --set "$C"
says out '== part-00001.jsonl' --out "$TMP/to/folder"
wrong out 1 'cannot create' --out "$TMP/no/o.jsonl"
changes format : --format axolotl
changes tail --format axolotl : --tail rest
changes shard --out "$TMP/to/folder" : --shard 0/2
wrong shard 2 '0 <= I < N' --out "$TMP/to/folder" --shard 2/2
same threads : --threads 1
same seed : --seed 5
same progress : --progress none
quiet
all_of_them

"$BIN/kf-eval" --quiet --logits t="$TMP/llama" --logits u="$TMP/qwen2" --report "$TMP/a.json"
"$BIN/kf-eval" --quiet --model t=$M/llama-tiny --model u=$M/qwen2-tiny --corpus "$TMP/c-other" --report "$TMP/b.json"
"$BIN/kf-train" --quiet --model $M/llama-tiny --targets "$TMP/targets" --lambda 0.5 --max-steps 2 --out "$TMP/trained"
several="--eval --set --model --trace"
of kf-report --out "$TMP/to/page.html" --eval "$TMP/a.json"
changes eval : --eval "$TMP/b.json"
wrong eval 1 'nowhere' --eval nowhere
changes result : --result t
wrong result 1 'nobody' --result nobody
changes model : --model u="$TMP/trained"
wrong model 1 'nowhere' --model nowhere
changes set : --set "$TMP/targets"
wrong set 1 'nowhere' --set nowhere
changes trace : --trace "$TMP/trace.jsonl"
wrong trace 1 'nowhere' --trace nowhere
changes title : --title "My models"
changes passages --trace "$TMP/trace.jsonl" : --passages 1
changes passage-tokens --trace "$TMP/trace.jsonl" : --passage-tokens 5
says out '== other.html' --out "$TMP/to/other.html"
wrong out 1 'cannot create' --out "$TMP/no/page.html"
quiet
all_of_them

of kf-inspect "$TMP/llama"
changes doc : --doc 1
wrong doc 1 'no document 99' --doc 99
changes json : --json
changes path --json : --path
changes sizes : --sizes
changes verify : --verify
same repair --verify : --repair
all_of_them
