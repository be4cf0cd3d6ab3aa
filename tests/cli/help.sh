# What programs say of themselves: --help, manual pages and completion, and `make install`, which puts them in place.
. tests/lib.sh

long=; for p in "$BIN"/kf-*; do
	n=${p##*/}
	"$p" --help > "$TMP/$n.help" || long="$long $n fails"
	# two columns at most past 100: an option and its choices are never broken
	awk -v n="$n" 'length($0) > 110 { print n ": " $0 }' "$TMP/$n.help" >> "$TMP/long"
	head -n 1 "$TMP/$n.help" | grep -qE "^$n: [a-z].*[^.]$" || long="$long $n"
done
check "every --help begins with the program and what it does" test -z "$long"
check "and keeps within the width" test ! -s "$TMP/long"

D=$TMP/root
(umask 077; check "make install" make -s install DESTDIR="$D" PREFIX=/opt/k B="${BIN%/bin}")
check "what it installed is for everybody, by whatever umask" test -z "$(find "$D/opt/k" -type f ! -perm -044)"
missing=; for p in "$BIN"/kf-*; do
	n=${p##*/}
	[ -x "$D/opt/k/bin/$n" ] && grep -q "^\.SH OPTIONS" "$D/opt/k/share/man/man1/$n.1" && [ -s "$D/opt/k/share/bash-completion/completions/$n" ] || missing="$missing $n"
done
check "every program with its manual page and completion" test -z "$missing"
# every option of the help has its paragraph in the manual page
for p in "$BIN"/kf-*; do
	n=${p##*/}
	grep -oE '^  --[a-z0-9-]+' "$TMP/$n.help" | sed 's/^  --//' | sort > "$TMP/a"
	sed -nE 's/^\\fB\\-\\-([^ ]*)\\fR.*/\1/p' "$D/opt/k/share/man/man1/$n.1" | tr -d '\\' | sort > "$TMP/b"
	cmp -s "$TMP/a" "$TMP/b" || echo "$n" >> "$TMP/differ"
done
check "manual pages have every option" test ! -s "$TMP/differ"
if command -v groff >/dev/null; then
	for f in "$D"/opt/k/share/man/man1/*.1; do groff -ww -man -Tutf8 -Kutf8 "$f" > /dev/null 2>> "$TMP/groff"; done
	check "groff has no warning of them" test ! -s "$TMP/groff"
else skip "groff has no warning of the manual pages" "no groff"; fi

cat > "$TMP/refers.py" <<'END'
# What is installed and refers to a document by its path, or one of them to another, has it there.
import os, re, sys
root, prefix = sys.argv[1:]
share = root + prefix + "/share/"
def there(path, who):
    assert os.path.isfile(os.path.normpath(path)), (who, path)
n = links = 0
for name in os.listdir(share + "man/man1"):
    text = open(share + "man/man1/" + name).read().replace("\\-", "-")
    for found in re.findall(r"[^\s:;,()']*docs/[a-z]+\.md", text):
        there(root + found, name)
        n += 1
for found in re.findall(r"[^\s:;,()']*docs/[a-z]+\.md", open(share + "kfuse/kfuse.mk").read()):
    there(root + found, "kfuse.mk")
    n += 1
doc = share + "doc/kfuse/"
for folder, _, files in os.walk(doc):
    for f in files:
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", open(os.path.join(folder, f)).read()):
            there(os.path.join(folder, link), f)
            links += 1
assert n >= 6 and links > 50, (n, links)
END
check "the documents, and every reference to one of them" python3 "$TMP/refers.py" "$D" /opt/k

complete_words() { # PROGRAM WORD...: what bash would offer for the last word
	(
		. "$D/opt/k/share/bash-completion/completions/$1"
		compopt() { :; }
		COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
		"_${1//-/_}"
		printf '%s\n' "${COMPREPLY[@]}"
	)
}
check "completion of an option" test "$(complete_words kf-align --vocab)" = --vocab-map
check "completion of a choice" test "$(complete_words kf-align --method dtw | tr '\n' ' ')" = "dtw dtw-chat "
touch "$TMP/some-corpus"
check "completion of a path" test "$(complete_words kf-extract --corpus "$TMP/some")" = "$TMP/some-corpus"
# With bash's own compopt: a name with blanks is one, and is offered as a file's.
touch "$TMP/my corpus"
for n in kf-extract:--corpus kf-slurm:--logs; do
	check "${n%:*}: completion of a path with blanks" test "$(complete_words ${n%:*} ${n#*:} "$TMP/my")" = "$TMP/my corpus"
	check "is one word" test "$(complete_words ${n%:*} ${n#*:} "$TMP/my" | wc -l)" = 1 -a "$(grep -c 'COMPREPLY=(.*compgen -f' "$D/opt/k/share/bash-completion/completions/${n%:*}")" = 0
done
# PREFIX from here, or from home: whole paths in what is installed.
here=$(realpath --relative-to=. "$TMP")
check "make install PREFIX=../here" make -s install PREFIX="$here/there/" B="${BIN%/bin}"
HOME=$TMP check "make install PREFIX=~/home" make -s install PREFIX='~/home' B="${BIN%/bin}"
check "kfuse.mk has the whole path of the programs" test "$(sed -n 's/^KFUSE_BIN ?= //p' "$TMP/there/share/kfuse/kfuse.mk" "$TMP/home/share/kfuse/kfuse.mk" | tr '\n' ' ')" = \
	"$TMP/there/bin $TMP/home/bin "
check_fails 2 "PREFIX=$TMP/one two: must be one word" "make install PREFIX=… with a blank" make -s install PREFIX="$TMP/one two" B="${BIN%/bin}"
check "makes nothing" test ! -e "$TMP/one"
# ---- README's commands for one's own models and text, on tiny models, somewhere else ----
R=$TMP/elsewhere; mkdir -p "$R/path/to" "$R/my-text"
cp -r tests/models/qwen2-tiny "$R/path/to/student"; cp -r tests/models/llama-tiny "$R/path/to/teacher"
for i in $(seq 60); do printf 'Text number %d: the quick brown fox jumps over %d lazy dogs.\n' $i $((i * 7)) > "$R/my-text/$i.txt"; done
some_text "$R/more.jsonl" 1 30 20 ab
sed -n '/^## Your own models and text/,/^(the programs/s/^    //p' "$D/opt/k/share/doc/kfuse/README.md" > "$R/commands"
check "README's commands, with the programs that were installed" test "$(wc -l < "$R/commands")" -ge 7
elsewhere() ( cd "$R" && PATH=$D/opt/k/bin:$PATH bash -e commands > out )
check "fuse models elsewhere" elsewhere
check "and end with a table of both models" grep -c "^\(student\|fused\) " "$R/out"

# ---- kfuse.mk: a Makefile of one's own, as docs/make.md has it, on tiny models ----
U=$TMP/mine; mkdir -p "$U/models" "$U/notes"
cp -r tests/models/qwen2-tiny "$U/models/student"; cp -r tests/models/llama-tiny "$U/models/teacher"
for i in $(seq 60); do printf 'Note number %d: the quick brown fox jumps over %d lazy dogs.\n' $i $((i * 7)) > "$U/notes/$i.txt"; done
sed -n '/^    TARGET/,/^    include/s/^    //p' docs/make.md | sed "s,/usr/local,$D/opt/k," > "$U/Makefile"
check "the example's Makefile has ten lines at most" test "$(wc -l < "$U/Makefile")" -le 10
mine() { make -s -C "$U" KFUSE_BIN="$D/opt/k/bin" THREADS=1 LR=1e-3 "$@"; }
check "it fuses" mine
check "the model and the report are there" ls "$U"/work/docs0/for-*/train/fused-*/model.safetensors "$U/work/report.html"
ran() { mine --trace > "$TMP/traced" 2>/dev/null && grep -q "^Saved as" "$TMP/traced" && ! grep -E 'bin/kf-[a-z]+ --' "$TMP/traced"; }
check "a second time there is nothing to do" ran
# What was made of something else is seen, refused with what differs, and made anew where that is asked for.
check_fails 2 "option --seed: 1 there, 9 here" "another choice of text" mine SEED=9
check "and back: there is nothing to do" ran
echo "One note more." >> "$U/notes/7.txt"
check_fails 2 "input text differs" "a note that was changed" mine
check "is learnt with REPLACE=1" mine REPLACE=1
cp tests/models/llama-untied/* "$U/models/teacher/"
check_fails 2 "input model differs" "a model replaced under its name" mine
check "is learnt from with REPLACE=1" mine REPLACE=1
check "and then there is nothing to do" ran
# What is finished and of the same content is not made again, however new its inputs look.
W=$U/work/docs0; finished() { find "$W"/logits "$W"/for-student/{aligned,targets,train} -type f -name '*.[ms]*' ! -name manifest.json -printf '%i %p\n' | sort; }
finished > "$TMP/was"
touch "$U/models/teacher/config.json" "$U/notes/7.txt"
check "touched inputs, with REPLACE=1" mine REPLACE=1
finished > "$TMP/is"
check_same "every set and model stays" "$TMP/was" "$TMP/is"
check "of which there are some" test "$(wc -l < "$TMP/was")" -ge 10
mv "$U/models/teacher" "$U/models/was"; cp -a tests/models/gemma3-tiny "$U/models/teacher"; touch -d yesterday "$U"/models/teacher/* "$U/models/teacher"
check_fails 2 "input model differs.*give --replace" "an older model in its place" mine
check "is learnt from with REPLACE=1, too" mine REPLACE=1
check "and then there is nothing to do, again" ran
# What would fail in hours fails at once.
for o in FUNCTION=mince ALIGN=dwt COMPUTE=fp16 TAIL=none "MERGES=linear foo"; do check_fails 2 "${o%%=*}=.*: must be (one|some) of" "$o" mine -n "$o"; done
check_fails 2 "LEVEL=token is for" "a level that the function has not" mine -n LEVEL=token
check_fails 2 "does not go with VOCAB_MAP=stats" "adapted sources, and a map that counts" mine -n ADAPT=1 ALIGN=dtw-chat VOCAB_MAP=stats
for m in a/b a:b a,b; do check_fails 2 "SOURCES: $m: a model's name must not have a" "a source called $m" mine -n SOURCES=$m; done
check_fails 2 "GENERATOR: a,b: a model's name must not have a ," "a generator called so" mine -n GENERATE=1 GENERATOR=a,b
for m in target fused linear; do check_fails 2 "$m: a model's name must not be that of a row" "a source called $m" mine -n SOURCES=$m; done
check "a density of dare-ties" test "$(mine -n pairs SOURCES="teacher student2" MERGES=dare-ties DENSITY=0.3 2>/dev/null | grep -c -- "--method dare-ties --density 0.3")" = 1
mkdir "$TMP/few"; printf 'one\n' > "$TMP/few/1.txt"
check_fails 2 "none of 1 documents is in the split" "too little text" mine WORK=few TEXT="$TMP/few"
check "is said before any model runs" test ! -e "$U/few/docs0/logits"
sed '1i all: fuse\n\t@echo mine, too\n' "$U/Makefile" > "$U/other.mk"
check "a Makefile's own first target is what make makes" test "$(mine -n -f other.mk 2>/dev/null | tail -n 1)" = "echo mine, too"
check_fails 2 "no tasks/quiz.jsonl: put the questions there" "a task that is not there" mine tasks TASKS=quiz DATA=.
check_fails 2 "cannot do with spaces" "a folder with a space" mine WORK="a b"
check_fails 2 "SOURCES is not set" "without sources it says so" mine SOURCES=

check "make uninstall" make -s uninstall DESTDIR="$D" PREFIX=/opt/k B="${BIN%/bin}"
check "takes everything away" test -z "$(find "$D" -type f -o -name '*kfuse*')"
