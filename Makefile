# kfuse. `make` builds the programs into build/bin; `make test`, `make demo` and
# `make help` do what they say. No configure step: what is missing is named, and
# `make deps` installs it.
#
#   DEV=1    strict warnings as errors      ASAN=1   address and undefined-behaviour sanitizers
#   CUDA=1   with the CUDA backend (cuda.mk) ARCH=…   processor to compile for (native)
#   MPI=1    kf-train over several processes (mpi.mk); with CUDA=1 also NCCL=1, between their devices

.DEFAULT_GOAL := all
SHELL := /bin/bash
CC ?= cc
CXX ?= c++
ARCH ?= native

flavour := $(if $(filter 1,$(DEV)),-dev)$(if $(filter 1,$(ASAN)),-asan)$(if $(filter 1,$(FUZZ)),-fuzz)$(if $(filter 1,$(CUDA)),-cuda)$(if $(filter 1,$(MPI)),-mpi)$(if $(filter 1,$(NCCL)),-nccl)
B := build$(flavour)

CPPFLAGS += -I. -D_GNU_SOURCE
OPT := -O3 -march=$(ARCH) -fno-math-errno -fno-trapping-math -ffp-contract=fast
WARN := -Wall -Wextra -Wpointer-arith
ifeq ($(DEV),1)
WARN += -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wformat=2 -Wno-format-nonliteral
endif
ifeq ($(ASAN),1)
OPT := -O1 -march=$(ARCH) -fno-math-errno -fno-trapping-math
SAN := -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
endif
# make fuzz: clang's libFuzzer with both sanitizers.
ifeq ($(FUZZ),1)
CC := clang
CXX := clang++
WARN := -Wall -Wextra -Wno-unknown-pragmas
OPT := -O1 -march=$(ARCH) -fno-math-errno -fno-trapping-math
SAN := -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize=vptr,function -fno-sanitize-recover=undefined -fno-omit-frame-pointer
endif
CFLAGS += -std=c11 -g $(OPT) $(WARN) $(SAN) -pthread
CXXFLAGS += -std=c++17 -g $(OPT) -Wall -Wextra $(SAN) -pthread
LDFLAGS += $(SAN) -pthread
LDLIBS += -llmdb -lzstd -lsentencepiece -ldnnl -lgomp -lpcre2-8 -lutf8proc -ljansson -lxxhash -lz -lstdc++ -lm

# ---- dependencies -----------------------------------------------------------

include deps.mk

# ---- sources ----------------------------------------------------------------

# A stage's library may stand before its program does.
FOLDERS := generate extract align fuse train merge eval import export data inspect join report
STAGES := $(patsubst %/main.c,%,$(wildcard */main.c))
PROGRAMS := $(patsubst %/kf-data,%/kf-prepare,$(STAGES:%=$B/bin/kf-%)) $B/bin/kf-slurm

LIB_SRC := $(filter-out common/ops/cuda/% common/base/ranks_mpi.c,$(wildcard common/*/*.c common/*/*/*.c common/*/*.cc)) \
  $(filter-out %/main.c,$(wildcard $(FOLDERS:%=%/*.c)))
ifeq ($(CUDA),1)
include cuda.mk
endif
include mpi.mk
LIB_OBJ := $(patsubst %,$B/obj/%.o,$(basename $(LIB_SRC))) $(CU_OBJ)
UNIT_SRC := $(wildcard tests/unit/*/test_*.c)
UNIT := $(UNIT_SRC:tests/unit/%.c=$B/tests/%)

.PHONY: all programs unit fuzzers fuzz clean help install uninstall deps test test-long bench bench-peers bench-align bench-fusion bench-stream bench-eval bench-ranks bench-scale
all: programs
programs: $(PROGRAMS)
unit: $(UNIT)

$B/libkfuse.a: $(LIB_OBJ)
	@rm -f $@.tmp
	@$(AR) rcs $@.tmp $^
	@mv $@.tmp $@

$B/obj/%.o: %.c $(DEPS_STAMP) $B/flags
	@mkdir -p $(@D)
	@echo "  cc    $<"
	@$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c $< -o $@

$B/obj/%.o: %.cc $(DEPS_STAMP) $B/flags
	@mkdir -p $(@D)
	@echo "  c++   $<"
	@$(CXX) $(CPPFLAGS) $(CXXFLAGS) -MMD -MP -c $< -o $@

define link
	@mkdir -p $(@D)
	@echo "  link  $@"
	@$(CC) $(LDFLAGS) $^ $1 $(LDLIBS) -o $@
endef

$B/bin/kf-%: $B/obj/%/main.o $B/libkfuse.a
	$(call link)

$B/bin/kf-prepare: $B/obj/data/main.o $B/libkfuse.a
	$(call link)

ifeq ($(MPI),1)
$B/bin/kf-train: $B/obj/train/main.o $(MPI_OBJ) $B/libkfuse.a
	$(call link_mpi)
endif

$B/tests/%: $B/obj/tests/unit/%.o $B/libkfuse.a
	$(call link,-lcmocka)

# A script; what it prints of itself is what the programs do.
$B/bin/kf-slurm: slurm/kf-slurm common/base/opt.h
	@mkdir -p $(@D)
	@sed "s/@VERSION@/$$(sed -nE 's/^#define KF_VERSION "(.*)"$$/\1/p' common/base/opt.h)/" $< > $@ && chmod +x $@

# kf-report carries its page's style and script, and their hashes for the page's content security policy.
PAGE := report/page.css report/page.js
$B/gen/report/assets_sha256.h: $(PAGE)
	@mkdir -p $(@D)
	@for f in $(PAGE); do e=$${f##*.}; printf '#define ASSET_%s_SHA256 "%s"\n' "$${e^^}" \
		"$$(sha256sum $$f | cut -c1-64 | tr a-f A-F | basenc --base16 -d | base64)"; done > $@
$B/obj/report/report.o $B/obj/report/assets.o: CPPFLAGS += -I$B/gen
$B/obj/report/report.o $B/obj/report/assets.o: $B/gen/report/assets_sha256.h
$B/obj/report/assets.o: $(PAGE)

# Objects are made again when the flags change.
FLAGS := $(CC) $(CPPFLAGS) $(CFLAGS) $(CXXFLAGS) $(NVCCFLAGS) $(LDFLAGS) $(LDLIBS)
ifneq ($(file <$B/flags),$(FLAGS))
$B/flags: FORCE
endif
$B/flags:
	@mkdir -p $B
	@echo '$(FLAGS)' > $@

.PRECIOUS: $B/obj/%.o
-include $(shell find $B/obj -name '*.d' 2>/dev/null)

clean:
	rm -rf $B

define HELP
make                  the programs, into $B/bin        make DEV=1, ASAN=1   strict; with sanitizers
make demo             fuse three real models: fetch, prepare, extract, align, fuse, train, evaluate
make stage-corpus, stage-logits, stage-aligned, stage-targets, train-fused    a stage of it, with those before
make baselines        what fusion is compared with: CLM, distillation, ensemble, merging
make pairs            FuseChat: the target with each source, the results merged in every way
make fusechat-demo    the same on conversations
make continual ADD=M  a source more for the fused model
make experiments      the papers' comparisons with a search for every method; SIZE=small for a first look
make tasks            the models on questions with answers; TASKS=… puts tasks into the other reports
make test             the tests        make test-long       what takes minutes
make fuzz             libFuzzer on every reader, FUZZ_SECONDS (3600) of processor time each; goes on where it was
make bench            speed, memory, sizes        make bench-peers    the same beside other tools
make bench-scale      what everything costs as it grows
make slurm-TARGET     TARGET as jobs of Slurm (docs/cluster.md)
make MPI=1            kf-train over several processes: mpirun -n 4 build-mpi/bin/kf-train … (docs/training.md)
make CUDA=1           with CUDA        make CUDA=1 gpu-check gpu-bench    on a machine with a device (docs/gpu.md)
make deps             install what is missing        make install, uninstall    in PREFIX (/usr/local)
make clean            remove $B        make clean-demo      remove what is in $(WORK)

Variables of the demo and the others: TARGET SOURCES DOMAINS DOCS FUNCTION LEVEL WEIGHT LAMBDA LR EPOCHS …: data/pipeline.mk
endef
help:
	@$(info $(HELP)):

# Programs, their manual pages and bash's completion, which the programs print of themselves, kfuse.mk, and the documents, which refer to one another
# as here; what refers to docs/NAME.md elsewhere gets the whole path. DESTDIR stages it.
PREFIX ?= /usr/local
MANDIR ?= $(PREFIX)/share/man/man1
COMPLETIONS ?= $(PREFIX)/share/bash-completion/completions
SHARE ?= $(PREFIX)/share/kfuse
DOCDIR ?= $(PREFIX)/share/doc/kfuse
DOCUMENTS := README.md CHANGELOG.md $(wildcard docs/*.md) tests/format/kfset.py
# As whole paths, since kfuse.mk is read from any folder.
ifneq ($(filter install uninstall,$(MAKECMDGOALS)),)
$(foreach v,PREFIX MANDIR COMPLETIONS SHARE DOCDIR DESTDIR,$(if $(word 2,$($v)),$(error $v=$($v): must be one word; make cannot do with spaces in names)))
$(foreach v,PREFIX MANDIR COMPLETIONS SHARE DOCDIR,$(eval override $v := $$(abspath $$(patsubst ~/%,$$(HOME)/%,$$($v)))))
endif
whole_paths = sed 's,docs/\([a-z]*\.md\),$1/docs/\1,g'
install: programs
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(MANDIR) $(DESTDIR)$(COMPLETIONS) $(DESTDIR)$(SHARE)
	install $(PROGRAMS) $(DESTDIR)$(PREFIX)/bin
	@umask 022; set -o pipefail; for p in $(PROGRAMS); do n=$${p##*/}; \
	  $$p --man-page | $(call whole_paths,$(subst -,\\-,$(DOCDIR))) > $(DESTDIR)$(MANDIR)/$$n.1 && \
	  $$p --completion > $(DESTDIR)$(COMPLETIONS)/$$n || exit 1; done
	umask 022; sed 's,@BIN@,$(PREFIX)/bin,' data/kfuse.mk | $(call whole_paths,$(DOCDIR)) > $(DESTDIR)$(SHARE)/kfuse.mk
	install -m 644 data/pipeline.mk data/demo.mk $(DESTDIR)$(SHARE)
	for f in $(DOCUMENTS); do install -D -m 644 $$f $(DESTDIR)$(DOCDIR)/$$f || exit 1; done
	@echo "installed $(words $(PROGRAMS)) programs into $(DESTDIR)$(PREFIX)/bin, with manual pages, completion and documents ($(DESTDIR)$(DOCDIR))"
uninstall:
	rm -f $(foreach p,$(notdir $(PROGRAMS)),$(DESTDIR)$(PREFIX)/bin/$p $(DESTDIR)$(MANDIR)/$p.1 $(DESTDIR)$(COMPLETIONS)/$p) \
	  $(DESTDIR)$(SHARE)/kfuse.mk $(DESTDIR)$(SHARE)/pipeline.mk $(DESTDIR)$(SHARE)/demo.mk $(DOCUMENTS:%=$(DESTDIR)$(DOCDIR)/%)
	@rmdir $(addprefix $(DESTDIR)$(DOCDIR),/docs /tests/format /tests) $(DESTDIR)$(DOCDIR) $(DESTDIR)$(SHARE) 2>/dev/null || true

# A target of the pipeline as jobs of Slurm; SLURM_OPTIONS go to kf-slurm.
slurm-%: programs
	+@$B/bin/kf-slurm $(SLURM_OPTIONS) $* $(if $(filter THREADS,$(given)),THREADS=$(THREADS))

# ---- tests, benchmarks, data, demo ----------------------------------------------

include data/pipeline.mk data/fetch.mk data/demo.mk data/experiments.mk tests/tests.mk
