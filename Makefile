# kfuse. `make` builds the programs into build/bin; `make test`, `make demo` and
# `make help` do what they say. No configure step: what is missing is named, and
# `make deps` installs it.
#
#   DEV=1    strict warnings as errors      ASAN=1   address and undefined-behaviour sanitizers
#   CUDA=1   reserved                       ARCH=…   processor to compile for (native)

.DEFAULT_GOAL := all
SHELL := /bin/bash
CC ?= cc
CXX ?= c++
ARCH ?= native

flavour := $(if $(filter 1,$(DEV)),-dev)$(if $(filter 1,$(ASAN)),-asan)$(if $(filter 1,$(CUDA)),-cuda)
B := build$(flavour)

CPPFLAGS += -I. -D_GNU_SOURCE
OPT := -O3 -march=$(ARCH) -fno-math-errno -fno-trapping-math -ffp-contract=fast
WARN := -Wall -Wextra
ifeq ($(DEV),1)
WARN += -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wvla -Wformat=2 -Wno-format-nonliteral
endif
ifeq ($(ASAN),1)
OPT := -O1 -march=$(ARCH) -fno-math-errno -fno-trapping-math
SAN := -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
endif
CFLAGS += -std=c11 -g $(OPT) $(WARN) $(SAN) -pthread
CXXFLAGS += -std=c++17 -g $(OPT) -Wall -Wextra $(SAN) -pthread
LDFLAGS += $(SAN) -pthread
LDLIBS += -llmdb -lzstd -lsentencepiece -ldnnl -lgomp -lpcre2-8 -lutf8proc -ljansson -lxxhash -lstdc++ -lm

# ---- dependencies -----------------------------------------------------------

include deps.mk

# ---- sources ----------------------------------------------------------------

# A stage's library may stand before its program does.
FOLDERS := extract align fuse train merge eval data inspect
STAGES := $(patsubst %/main.c,%,$(wildcard */main.c))
PROGRAMS := $(patsubst %/kf-data,%/kf-prepare,$(STAGES:%=$B/bin/kf-%))

LIB_SRC := $(wildcard common/*/*.c common/*/*/*.c common/*/*.cc) $(filter-out %/main.c,$(wildcard $(FOLDERS:%=%/*.c)))
LIB_OBJ := $(patsubst %,$B/obj/%.o,$(basename $(LIB_SRC)))
UNIT_SRC := $(wildcard tests/unit/*/test_*.c)
UNIT := $(UNIT_SRC:tests/unit/%.c=$B/tests/%)

.PHONY: all programs unit clean help deps test test-long bench bench-peers demo
all: programs
programs: $(PROGRAMS)
unit: $(UNIT)

$B/libkfuse.a: $(LIB_OBJ)
	@rm -f $@
	@$(AR) rcs $@ $^

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

$B/tests/%: $B/obj/tests/unit/%.o $B/libkfuse.a
	$(call link,-lcmocka)

# Objects are made again when the flags change.
FLAGS := $(CC) $(CPPFLAGS) $(CFLAGS) $(CXXFLAGS) $(LDFLAGS) $(LDLIBS)
$B/flags: FORCE
	@mkdir -p $B
	@echo '$(FLAGS)' | cmp -s - $@ || echo '$(FLAGS)' > $@
FORCE:

.PRECIOUS: $B/obj/%.o
-include $(shell find $B/obj -name '*.d' 2>/dev/null)

clean:
	rm -rf $B

# ---- tests, benchmarks, data, demo ----------------------------------------------

include $(wildcard data/demo.mk tests/tests.mk)
