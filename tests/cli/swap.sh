# make as the engine: changing one source runs its own extract and align, the fuse, the
# training on it and the evaluation, and nothing else. Proved with make -n on a
# finished pipeline whose files are empty stand-ins: only names and times matter to make.
. tests/lib.sh

W=$TMP/demo R=$TMP/demo/docs8 D=$TMP/data
# The programs that `make demo` (or another: `:pairs`) would run, with the folder each writes; "make failed" when it cannot say.
programs() {
	local what=demo
	if [[ "${1:-}" == :* ]]; then what=${1#:}; shift; fi
	make -n -s "$what" FUNCTION=avg-ce LEVEL=sequence WEIGHT=none LAMBDA=0.5 LR=3e-5 EPOCHS=3 DOCS=8 WORK="$W" DATA="$D" B="${BIN%/bin}" "$@" >"$TMP/.plan" 2>"$TMP/.make" || { echo "make failed"; cat "$TMP/.make"; return; }
	sed -e ':a' -e '/\\$/N; s/\\\n//; ta' "$TMP/.plan" | grep -oE '/bin/kf-[a-z]+ .*' |
		sed -E "s,/bin/(kf-eval) .*,\1,; s,/bin/(kf-[a-z]+) .*--out $W/([^ ]*).*,\1 \2,"
}

# Stand-ins in the order of the pipeline, each newer than what it is made from, and all than the change that made them.
n=0
stand_in() { for f; do mkdir -p "$(dirname "$f")"; touch -d "@$((4000000000 + n))" "$f"; done; n=$((n + 1)); }
stand_in "$D"/models/{smollm2-135m,gemma3-270m,qwen2.5-coder-0.5b,other}.gguf "$D"/text/{prose,docs,python,c}.jsonl
for s in train valid test; do stand_in "$R/corpus/$s/manifest.json"; done
for s in train test; do for m in smollm2-135m gemma3-270m qwen2.5-coder-0.5b; do stand_in "$R/logits/$s/$m/manifest.json"; done; done
for s in train test; do for m in smollm2-135m gemma3-270m qwen2.5-coder-0.5b; do echo "$D/models/$m.gguf" > "$R/logits/$s/$m.from"; done; done
for m in gemma3-270m qwen2.5-coder-0.5b; do stand_in "$R/for-smollm2-135m/aligned/train/$m/manifest.json"; done
mix=gemma3-270m+qwen2.5-coder-0.5b
tag=0.5-lr3e-5x3
stand_in "$R/for-smollm2-135m/targets/$mix-avg-ce-sequence-none/manifest.json" "$R/for-smollm2-135m/trace/$mix-avg-ce-sequence-none.jsonl" "$R/for-smollm2-135m/train/clm-lr3e-5x3/config.json" "$R/for-smollm2-135m/train/fused-$mix-avg-ce-sequence-none-$tag/config.json"
stand_in "$R/for-smollm2-135m/merged/halfway-$mix-avg-ce-sequence-none-$tag/config.json"
stand_in "$R/for-smollm2-135m/report/$mix-avg-ce-sequence-none-$tag.json"
stand_in "$R/for-smollm2-135m/report/$mix-avg-ce-sequence-none-$tag.html"

nothing=$(programs)
if [ -z "$nothing" ]; then ok "a finished demo runs nothing"; else not_ok "a finished demo runs nothing" "$nothing"; fi

cat > "$TMP/want" <<END
kf-fuse docs8/for-smollm2-135m/targets/gemma3-270m-avg-ce-sequence-none
kf-train docs8/for-smollm2-135m/train/fused-gemma3-270m-avg-ce-sequence-none-$tag
kf-merge docs8/for-smollm2-135m/merged/halfway-gemma3-270m-avg-ce-sequence-none-$tag
kf-eval
kf-report docs8/for-smollm2-135m/report/gemma3-270m-avg-ce-sequence-none-$tag.html
END
programs SOURCES=gemma3-270m > "$TMP/got"
check_same "dropping a source runs the fuse, its training, a merge and the evaluation only" "$TMP/want" "$TMP/got"

cat > "$TMP/want" <<END
kf-extract docs8/logits/train/other
kf-align docs8/for-smollm2-135m/aligned/train/other
kf-fuse docs8/for-smollm2-135m/targets/gemma3-270m+other-avg-ce-sequence-none
kf-train docs8/for-smollm2-135m/train/fused-gemma3-270m+other-avg-ce-sequence-none-$tag
kf-extract docs8/logits/test/other
kf-merge docs8/for-smollm2-135m/merged/halfway-gemma3-270m+other-avg-ce-sequence-none-$tag
kf-eval
kf-report docs8/for-smollm2-135m/report/gemma3-270m+other-avg-ce-sequence-none-$tag.html
END
programs SOURCES="gemma3-270m other" > "$TMP/got"
sort "$TMP/want" > "$TMP/want.sorted"; sort "$TMP/got" > "$TMP/got.sorted"
check_same "replacing a source runs its extract and align, and what follows" "$TMP/want.sorted" "$TMP/got.sorted"

programs SOURCES="qwen2.5-coder-0.5b gemma3-270m" > "$TMP/got"
check "the order of the sources does not matter" test ! -s "$TMP/got"

# ---- what else is made of the same sets ----

cat > "$TMP/want" <<END
kf-extract docs8/logits/test/other
kf-extract docs8/logits/train/other
kf-align docs8/for-smollm2-135m/aligned/train/other
kf-fuse docs8/for-smollm2-135m/targets/gemma3-270m+other+qwen2.5-coder-0.5b-avg-ce-sequence-none
kf-train docs8/for-smollm2-135m/train/continual-other-on-fused-$mix-avg-ce-sequence-none-$tag
kf-eval
kf-report docs8/for-smollm2-135m/report/continual-other-on-fused-$mix-avg-ce-sequence-none-$tag.html
END
programs :continual ADD=other > "$TMP/got"
sort "$TMP/want" > "$TMP/want.sorted"; sort "$TMP/got" > "$TMP/got.sorted"
check_same "a source more for a fused model: only that source is extracted and aligned" "$TMP/want.sorted" "$TMP/got.sorted"

{ for m in gemma3-270m qwen2.5-coder-0.5b; do
	echo "kf-fuse docs8/for-smollm2-135m/targets/$m-avg-ce-sequence-none"
	echo "kf-train docs8/for-smollm2-135m/train/fused-$m-avg-ce-sequence-none-$tag"
done
for m in linear slerp task-arithmetic ties0.5 dare0.5 varm sce0.1; do echo "kf-merge docs8/for-smollm2-135m/merged/$m-$mix-avg-ce-sequence-none-$tag"; done
echo "kf-report docs8/for-smollm2-135m/report/pairs-dare0.5+linear+sce0.1+slerp+task-arithmetic+ties0.5+varm-$mix-avg-ce-sequence-none-$tag.html"
echo kf-eval; } | sort > "$TMP/want.sorted"
programs :pairs | sort > "$TMP/got.sorted"
check_same "pairs and their mergers reuse the sources' predictions" "$TMP/want.sorted" "$TMP/got.sorted"

programs :pairs SOURCES="gemma3-270m qwen2.5-coder-0.5b other" MERGES=sce | grep -E "extract|align|train" | sort > "$TMP/got.sorted"
{ echo "kf-align docs8/for-smollm2-135m/aligned/train/other"; echo "kf-extract docs8/logits/test/other"; echo "kf-extract docs8/logits/train/other"
for m in gemma3-270m other qwen2.5-coder-0.5b; do echo "kf-train docs8/for-smollm2-135m/train/fused-$m-avg-ce-sequence-none-$tag"; done; } | sort > "$TMP/want.sorted"
check_same "a pair more leaves the others' predictions alone" "$TMP/want.sorted" "$TMP/got.sorted"

programs :baselines > "$TMP/got"
cp "$TMP/got" "$TMP/all"; programs :baselines MERGES=sce > "$TMP/got"
check_same "the baselines are the same whatever pairs are merged by" "$TMP/all" "$TMP/got"
check "the baselines run no model again" test "$(grep -cE "kf-extract|make failed" "$TMP/got")" = 0 -a "$(grep -c "kf-train" "$TMP/got")" -gt 0

{ for f in 0 1; do
	echo "kf-extract docs8/logits/train/gemma3-270m-adapted-lr1e-5x2b512of2-fold$f"
	echo "kf-train docs8/adapted/lr1e-5x2b512of2-fold$f/gemma3-270m"
done
echo "kf-align docs8/for-smollm2-135m/aligned/train/gemma3-270m-adapted-lr1e-5x2b512of2"
echo "kf-fuse docs8/for-smollm2-135m/targets/gemma3-270m-avg-ce-sequence-none-adapted-lr1e-5x2b512of2"
echo "kf-train docs8/for-smollm2-135m/train/fused-gemma3-270m-avg-ce-sequence-none-adapted-lr1e-5x2b512of2-$tag"
echo "kf-merge docs8/for-smollm2-135m/merged/halfway-gemma3-270m-avg-ce-sequence-none-adapted-lr1e-5x2b512of2-$tag"
echo "kf-report docs8/for-smollm2-135m/report/gemma3-270m-avg-ce-sequence-none-adapted-lr1e-5x2b512of2-$tag.html"
echo kf-eval; } | sort > "$TMP/want.sorted"
programs SOURCES=gemma3-270m ADAPT=2 | sort > "$TMP/got.sorted"
check_same "a source trained on the text first: a model a fold, and what each says of its own" "$TMP/want.sorted" "$TMP/got.sorted"

for f in 1 11 two; do
	check_fails 2 "FOLDS=$f: must be a number from 2 to 10" "FOLDS=$f is refused before anything is made" make -n -s demo ADAPT=2 FOLDS=$f WORK="$W" DATA="$D" B="${BIN%/bin}"
done

for v in TARGET SOURCES ADD; do
	check "$v with a / in the environment is no reason not to build" env $v=/some/where make -n -s programs B="${BIN%/bin}"
	check_fails 2 "$v: ge\+mma: a model's name must not have a \+" "$v with a + is refused before anything is made" make -n -s demo $v=ge+mma WORK="$W" DATA="$D" B="${BIN%/bin}"
done

programs SKIP_BAD=0.5 DOCS=9 > "$TMP/got"
check "bad records are left out where that is asked for, and only there" test "$(grep -c 'kf-prepare .*--skip-bad 0.5 ' <(sed -e ':a' -e '/\\$/N; s/\\\n//; ta' "$TMP/.plan"))" = 3 -a \
	"$(programs DOCS=9 | grep -c prepare)" = 3 -a "$(grep -c skip-bad "$TMP/.plan")" = 0
programs BATCH=512 PATIENCE=2 | grep -E "prepare|extract|align|fuse|train|merge" | sort > "$TMP/got.sorted"
{ echo "kf-train docs8/for-smollm2-135m/train/clm-lr3e-5x3p2-b512"; echo "kf-train docs8/for-smollm2-135m/train/fused-$mix-avg-ce-sequence-none-${tag}p2-b512"
echo "kf-merge docs8/for-smollm2-135m/merged/halfway-$mix-avg-ce-sequence-none-${tag}p2-b512"; } | sort > "$TMP/want.sorted"
check_same "other batches and another patience are other models" "$TMP/want.sorted" "$TMP/got.sorted"

programs TAIL=renormalize REPLACE=1 > "$TMP/got"
sed -e ':a' -e '/\\$/N; s/\\\n//; ta' "$TMP/.plan" > "$TMP/plan"
check "what is outside the candidates is part of training on them, not of CLM, which is the same" test "$(grep -c 'train/clm-lr3e-5x3$' "$TMP/got")" = 1 -a \
	"$(grep -c 'kf-train.*--lambda 1 --epochs' "$TMP/plan")" = 1 -a "$(grep -c 'kf-train.*--lambda 0.5 --tail renormalize --epochs' "$TMP/plan")" = 1

# ---- names hold what is made ----

# A target that was a source before: nothing that was made for another is its.
programs TARGET=gemma3-270m SOURCES=qwen2.5-coder-0.5b > "$TMP/got"
check "another target has a model, a mixture and a report of its own" test "$(grep -cE 'for-gemma3-270m/(train/clm|train/fused|targets|report)' "$TMP/got")" = 4
check "and nothing of the first one's is made or taken" test -s "$TMP/got" -a -s "$TMP/.plan" -a "$(cat "$TMP/got" "$TMP/.plan" | grep -c for-smollm2)" = 0
programs EXTRACT_COMPUTE=f32 > "$TMP/got"
check "another way to compute predictions makes them anew" test "$(grep -c 'kf-extract docs8/logits/.*-f32$' "$TMP/got")" = 6
programs SEED=2 DOCS=0 VALID_DOCS=0 TEST_DOCS=0 > "$TMP/got"
check "another seed has a name where it chooses no text, too" grep -q 'train/clm-lr3e-5x3-seed2$' "$TMP/got"

# What people write in Makefiles, and have in their environment.
printf 'EPOCHS = 3   # enough\nTARGET = smollm2-135m \nWORK = %s  # here\ninclude Makefile\n' "$W" > "$TMP/mine.mk"
mine() { make -n -s -f "$TMP/mine.mk" "$@" FUNCTION=avg-ce LEVEL=sequence WEIGHT=none LAMBDA=0.5 LR=3e-5 DOCS=8 DATA="$D" B="${BIN%/bin}" 2>&1; }
mine demo > "$TMP/got"; status=$?
check "blanks after a value are none of it" test $status -eq 0 -a "$(grep -c 'kf-[a-z]* ' "$TMP/got")" = 0 -a "$(grep -c "$W/report.html" "$TMP/got")" -gt 0
WORK=$TMP/all-of-mine make -n -s clean-demo > "$TMP/got" 2>&1; status=$?
check "a WORK of the environment is left alone" test $status -eq 0 -a -s "$TMP/got" -a "$(grep -c all-of-mine "$TMP/got")" = 0
mine clean-demo > "$TMP/got"
check "clean-demo removes what was made, not the folder" test "$(grep -c "rm -rf $W/docs8 " "$TMP/got")" = 1 -a "$(grep -cE "rm -rf.* $W( |\$)" "$TMP/got")" = 0

# ---- what is older than what it is made of ----

later() { touch -d "@$((4000000000 + n))" "$@"; }
cat > "$TMP/want" <<END
kf-align docs8/for-smollm2-135m/aligned/train/gemma3-270m
kf-fuse docs8/for-smollm2-135m/targets/$mix-avg-ce-sequence-none
kf-train docs8/for-smollm2-135m/train/fused-$mix-avg-ce-sequence-none-$tag
kf-merge docs8/for-smollm2-135m/merged/halfway-$mix-avg-ce-sequence-none-$tag
kf-eval
kf-report docs8/for-smollm2-135m/report/$mix-avg-ce-sequence-none-$tag.html
END
later "$R/logits/train/gemma3-270m/manifest.json"
programs > "$TMP/got"
check_same "a source's predictions are newer: everything that is made of them" "$TMP/want" "$TMP/got"
touch -r "$R/logits/train/qwen2.5-coder-0.5b/manifest.json" "$R/logits/train/gemma3-270m/manifest.json"
rm "$R/for-smollm2-135m/trace/$mix-avg-ce-sequence-none.jsonl"
programs > "$TMP/got"
check_same "a trace that is missing: kf-fuse again, and what is made of it" <(tail -n +2 "$TMP/want") "$TMP/got"

# ---- what is new in its place, however old its content is ----

touch "$R/for-smollm2-135m/trace/$mix-avg-ce-sequence-none.jsonl"
find "$D" "$W" -type f -printf '%T@ %p\n' | sort -n | while read -r _ f; do touch "$f"; done
# As when everything has been made again. The kernel stamps changes with a clock that is some milliseconds behind the one of `date`.
later() { sleep 0.02; find "$W" -type f -exec touch -d "@$(date +%s.%N)" {} +; sleep 0.02; }
later
programs > "$TMP/got"
check "nothing runs when nothing was replaced" test ! -s "$TMP/got"
# is_asked NAME REGEX: of what would run the extractions and preparations are these
is_asked() { check "$1" test "$(programs | grep -E 'kf-(prepare|extract)' | sort | tr '\n' ' ')" = "$2"; later; }
gemma="kf-extract docs8/logits/test/gemma3-270m kf-extract docs8/logits/train/gemma3-270m "
touch -d yesterday "$D/older"; mv "$D/older" "$D/models/gemma3-270m.gguf"
is_asked "a model moved to another's place is seen though it is older" "$gemma"
mkdir "$D/models/gemma3-270m" "$D/models/another"
for m in gemma3-270m another; do touch -d yesterday "$D/models/$m/"{config.json,model.safetensors}; touch -d yesterday "$D/models/$m"; done
for s in train test; do echo "$D/models/gemma3-270m" > "$R/logits/$s/gemma3-270m.from"; done
later
check "and nothing runs when it has been" test -z "$(programs)"
mv "$D/models/gemma3-270m" "$D/models/was"; mv "$D/models/another" "$D/models/gemma3-270m"
is_asked "so is a folder" "$gemma"
rm -r "$D/models/gemma3-270m"; ln -s was "$D/models/gemma3-270m"
is_asked "a link to one" "$gemma"
cp -p "$D/models/was/config.json" "$D/models/was/new"; mv "$D/models/was/new" "$D/models/was/config.json"
is_asked "and a file in the folder that it leads to" "$gemma"
touch -d yesterday "$D/older"; mv "$D/older" "$D/text/c.jsonl"
check "a text that is older: every corpus is asked for" test "$(programs | grep -c kf-prepare)" = 3
later

# ---- the same names in other data ----

D2=$TMP/data2; mkdir -p "$D2/tasks" "$D/tasks"; cp -a "$D/models" "$D/text" "$D2"; touch -d yesterday "$D/tasks/quiz.jsonl" "$D2/tasks/quiz.jsonl"
later
other() { programs DATA="$D2" DOMAINS= TEXT="$D/text" "$@"; }
check "another DATA: every model is asked" test "$(other | grep -c kf-extract)" = 6
check "and nothing that is before them" test "$(other | grep -c kf-prepare)" = 0
for f in "$R"/logits/*/*.from; do sed -i "s,$D/,$D2/," "$f"; done
check "when they were taken, nothing runs" test -z "$(other)"
one=$R/for-smollm2-135m/report/$mix-avg-ce-sequence-none-$tag
printf '{"file": "%s"}\n' "$D2/tasks/quiz.jsonl" > "$one-quiz.json"; touch "$one-quiz.html"
later
check "nor with tasks" test -z "$(other TASKS=quiz)"
printf '{"file": "%s"}\n' "$D/tasks/quiz.jsonl" > "$one-quiz.json"; later
same "questions that are asked with a template are in another report" "$(other TASKS=quiz CHAT_TEMPLATE_smollm2-135m=chatml CHAT_TEMPLATE_other=plain | tr '\n' ' ')" \
	"kf-eval kf-report ${one#"$W/"}-quiz-smollm2-135m@chatml.html "
check "which is of no concern where none are asked" test -z "$(other CHAT_TEMPLATE_smollm2-135m=chatml)"
same "questions of another DATA are asked" "$(other TASKS=quiz | tr '\n' ' ')" "kf-eval kf-report ${one#"$W/"}-quiz.html "
printf '{"file": "%s"}\n' "$D2/tasks/quiz.jsonl" > "$one-quiz.json"; later
touch -d yesterday "$TMP/older"; mv "$TMP/older" "$D2/tasks/quiz.jsonl"
same "and those that were replaced by older ones" "$(other TASKS=quiz | tr '\n' ' ')" "kf-eval kf-report ${one#"$W/"}-quiz.html "
for f in "$R"/logits/*/*.from; do sed -i "s,$D2/,$D/," "$f"; done
later

# ---- REPLACE=1: every program is asked, and nothing is removed before it is ----

programs REPLACE=1 > "$TMP/got"
sed -e ':a' -e '/\\$/N; s/\\\n//; ta' "$TMP/.plan" > "$TMP/plan"
check "with REPLACE=1 every program is asked" test "$(grep -cE 'kf-(prepare|extract|align|fuse|train|merge)' "$TMP/got")" = 15
check "and may replace what it made" test "$(grep -cE '/bin/kf-(prepare|extract|align|fuse|train|merge) ' "$TMP/plan")" = "$(grep -cE '/bin/kf-.* --replace ' "$TMP/plan")"
check "make removes nothing" test "$(grep -c 'rm -' "$TMP/plan")" = 0
check "under kf-slurm REPLACE=1 does nothing" test -z "$(programs REPLACE=1 KF_SLURM=1)"
