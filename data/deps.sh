#!/bin/bash
# Install what kfuse is built with: deps.sh HEADER:PACKAGE... @COMMAND:PACKAGE... Debian packages, through
# apt-get, and only those that are missing. Without root, prints the command instead.
set -eu

missing=()
need() { missing+=("$1"); }
has_header() { printf '#include <%s>\n' "$1" | ${CXX:-c++} -DPCRE2_CODE_UNIT_WIDTH=8 -x c++ -E - >/dev/null 2>&1; }

command -v cc >/dev/null || need gcc
command -v c++ >/dev/null || need g++
command -v python3 >/dev/null || need python3
for pair in "$@"; do
	if [ "${pair:0:1}" = @ ]; then
		word=${pair%%:*}
		command -v "${word:1}" >/dev/null || need "${pair#*:}"
		continue
	fi
	# Without a compiler nothing can be looked for: then all are wanted.
	if ! command -v c++ >/dev/null || ! has_header "${pair%%:*}"; then need "${pair#*:}"; fi
done
command -v python3 >/dev/null && python3 -m pip --version >/dev/null 2>&1 || need python3-pip
command -v xz >/dev/null || need xz-utils
if [ "${SLURM:-}" = 1 ]; then
	PATH=$PATH:/usr/sbin command -v slurmctld >/dev/null || need slurm-wlm
	PATH=$PATH:/usr/sbin command -v munged >/dev/null || need munge
fi
if [ ${#missing[@]} -eq 0 ]; then echo "deps: everything is installed"; exit 0; fi

install="apt-get install -y --no-install-recommends ${missing[*]}"
if ! command -v apt-get >/dev/null; then
	echo "deps: missing: ${missing[*]} (names of Debian packages); install them with your system's tool" >&2; exit 1
fi
if [ "$(id -u)" -ne 0 ]; then
	echo "deps: missing packages; run this and then make again:" >&2
	echo "    sudo apt-get update && sudo $install" >&2; exit 1
fi
echo "deps: installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq || echo "deps: apt-get update failed; trying with the package lists there are" >&2
if ! $install >/tmp/kfuse-deps.log 2>&1; then
	tail -n 5 /tmp/kfuse-deps.log >&2
	echo "deps: '$install' failed; the whole of what it said is in /tmp/kfuse-deps.log" >&2; exit 1
fi
echo "deps: installed"
