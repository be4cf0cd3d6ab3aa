# make test: everything fast, offline after the first download. make test-long: what takes minutes.
# make bench: speed, memory and size, as JSON in build/bench. make bench-peers: the same
# beside the other tools, which it installs into build/bench/venv; PASSAGES=3: fewer than 8 passages a domain. make bench-fusion: fusion functions compared.
# make bench-align: alignments and vocabulary maps compared. make bench-stream: a model larger than memory.
# make bench-eval: evaluation beside extraction.
# make bench-ranks: training over two processes. make bench-scale: a million documents, 10,000 shards, everything else that grows.

INJECT := $B/tests/inject.so

# On all processors unless make was told how many jobs (-j); tests: TEST_JOBS. What is for MPI shares objects with the others, so comes after them.
jobs = $(if $(filter -j% --jobserver%,$(MAKEFLAGS)),,-j$(shell nproc))

# The end-to-end test wants a real model; without a network it is skipped, and says so.
test:
	+@$(MAKE) --no-print-directory $(jobs) programs unit fuzzers $(INJECT)
	+@$(MAKE) --no-print-directory $(jobs) mpi-programs
	-@bash data/fetch.sh model smollm2-135m $(DATA)/models/smollm2-135m.gguf
	@bash tests/run.sh $B unit cli fault fuzz

test-long: programs unit $(INJECT)
	+@$(MAKE) --no-print-directory $(jobs) mpi-programs
	@bash tests/run.sh $B long

# ---- faults on demand ----

$(INJECT): tests/fault/inject.c $B/flags
	@mkdir -p $(@D)
	@echo "  cc    $< (to be preloaded)"
	@$(CC) $(CPPFLAGS) -std=c11 -g -O1 $(WARN) -shared -fPIC $< -o $@

# ---- readers on bytes from anywhere ----

# make test runs each over its seeds and some changes of them; make fuzz lets libFuzzer at each for FUZZ_SECONDS.
FUZZ_SECONDS ?= 3600
FUZZERS := $(patsubst tests/fuzz/%.c,$B/fuzz/%,$(wildcard tests/fuzz/fuzz_*.c))
fuzzers: $(FUZZERS)
$B/fuzz/%: $B/obj/tests/fuzz/%.o $B/obj/tests/fuzz/fuzz.o $(if $(filter 1,$(FUZZ)),,$B/obj/tests/fuzz/driver.o) $B/libkfuse.a
	$(call link,$(if $(filter 1,$(FUZZ)),-fsanitize=fuzzer))

fuzz:
	@command -v clang >/dev/null || { echo "make fuzz: clang is not there; on Debian: apt-get install clang libclang-rt-14-dev" >&2; exit 1; }
	+@$(MAKE) --no-print-directory FUZZ=1 fuzzers
	@bash tests/fuzz/long.bash build-fuzz $(FUZZ_SECONDS)

BENCH_SRC := $(wildcard tests/bench/bench_*.c)
BENCH := $(BENCH_SRC:tests/bench/%.c=$B/bench/%)
$B/bench/%: $B/obj/tests/bench/%.o $B/libkfuse.a
	$(call link)

bench_models := $(DATA)/models/smollm2-135m.gguf $(DATA)/models/gemma3-270m.gguf $(DATA)/models/qwen2.5-coder-0.5b.gguf
bench: programs $(BENCH) $(bench_models) $(text)
	@python3 tests/bench/bench.py $B own $(addprefix --passages ,$(PASSAGES))

# What the stages cost as everything grows, into docs/scale.md. SCALE=linear,axes,opening,stages: which parts.
SCALE ?= linear,axes,opening,stages
bench-scale: programs $B/bench/bench_synth $(bench_models) $(text)
	@python3 tests/bench/scale.py $B --only $(SCALE) --into docs/scale.md

# Of these what is about streaming: in memory and layer by layer, in turn.
bench-stream: programs $(text)
	@python3 tests/bench/bench.py $B stream --rounds 3

# Of these what is about evaluation: beside extraction, in turn.
bench-eval: programs $(bench_models) $(text)
	@mkdir -p $B/bench
	@python3 tests/bench/bench.py $B eval --rounds 2 $(addprefix --passages ,$(PASSAGES))

# One process against two.
bench-ranks: programs mpi-programs $(DATA)/models/smollm2-135m.gguf $(text)
	@mkdir -p $B/bench
	@python3 tests/bench/ranks.py $B

# What fusion functions know of the demo's text, from its logits: no training.
bench-fusion: programs $(foreach s,train test,$(foreach m,$(TARGET) $(SOURCES),$(run)/logits/$s/$m/manifest.json)) \
  $(run)/corpus/valid/manifest.json
	@mkdir -p $B/bench
	@python3 tests/bench/fusion.py $B $(run) $(TARGET) $(SOURCES)

# Every alignment with every vocabulary map, into docs/alignment.md.
bench-align: programs $B/bench/bench_align $(foreach m,$(TARGET) $(SOURCES),$(run)/logits/train/$m/manifest.json)
	@mkdir -p $B/bench
	@python3 tests/bench/alignments.py $B $(run)/logits/train --into docs/alignment.md

bench-peers: programs $(BENCH) $(bench_models) $(text)
	@python3 tests/bench/bench.py $B peers $(addprefix --passages ,$(PASSAGES))

# ---- CUDA kernels without a device ----

# The kernels' own sources by the host's compiler, and the backend's host side, over an emulator (tests/emu/emu.h).
EMU_OBJ := $(patsubst %.cu,$B/obj/emu/%.o,$(wildcard common/ops/cuda/*.cu tests/unit/emu/*.cu)) \
  $(patsubst %.c,$B/obj/%.o,$(filter-out %/device.c %/gemm.c %/nccl.c,$(wildcard common/ops/cuda/*.c))) \
  $(patsubst %,$B/obj/%.o,$(basename $(filter-out %/nccl.c %/race.cc,$(wildcard tests/emu/*.cc tests/emu/*.c tests/gpu/parity*.c))))
$B/obj/emu/%.o: %.cu $(DEPS_STAMP) $B/flags
	@mkdir -p $(@D)
	@echo "  c++   $< (emulated)"
	@$(CXX) -Itests/emu/include $(CPPFLAGS) $(CXXFLAGS) -Wno-unknown-pragmas -MMD -MP -x c++ -c $< -o $@

$(filter $B/tests/emu/%,$(UNIT)): $B/tests/emu/%: $B/obj/tests/unit/emu/%.o $(EMU_OBJ) $B/libkfuse.a
	$(call link,-lcmocka)
.PRECIOUS: $B/obj/emu/%.o $B/obj/race/%.o

# The same with every access of the kernels watched (tests/emu/race.cc): compiled for the thread sanitizer, but linked without it.
RACE_OBJ := $(patsubst $B/obj/emu/%,$B/obj/race/%,$(EMU_OBJ)) $B/obj/tests/emu/race.o
$B/obj/race/%.o: %.cu $(DEPS_STAMP) $B/flags
	@mkdir -p $(@D)
	@echo "  c++   $< (emulated, watched)"
	@$(CXX) -Itests/emu/include -DEMU_RACES $(CPPFLAGS) $(filter-out -fsanitize=%,$(CXXFLAGS)) -fsanitize=thread -Wno-unknown-pragmas -MMD -MP -x c++ -c $< -o $@

$(filter $B/tests/race/%,$(UNIT)): $B/tests/race/%: $B/obj/tests/unit/race/%.o $(RACE_OBJ) $B/libkfuse.a
	$(call link,-lcmocka)

# Programs whose --backend cuda is the emulator, for tests/cli/emulated.sh.
EMU_PROGRAMS := $B/emu/kf-extract $B/emu/kf-train $B/emu/kf-eval
EMU_GPU := $B/emu/gpu/check $B/emu/gpu/bench   # for tests/cli/gpu.sh
unit: $(EMU_PROGRAMS) $(EMU_GPU)
$B/obj/emu/common/ops/backend.o: common/ops/backend.c $(DEPS_STAMP) $B/flags
	@mkdir -p $(@D)
	@$(CC) $(CPPFLAGS) -DKF_CUDA $(CFLAGS) -MMD -MP -c $< -o $@

$(EMU_PROGRAMS): $B/emu/kf-%: $B/obj/%/main.o $B/obj/emu/common/ops/backend.o $(EMU_OBJ) $B/libkfuse.a
	$(call link)

$(EMU_GPU): $B/emu/gpu/%: $B/obj/tests/gpu/%.o $B/obj/emu/common/ops/backend.o $(EMU_OBJ) $B/libkfuse.a
	$(call link)

# ---- several processes ----

# kf-train with MPI: on the CPU; on the emulator with what passes between processes by way of the host; and over NCCL's calls, of
# which tests/emu has its own. For tests/cli/ranks.sh, which says so where there is no MPI.
MPI_PROGRAMS := $B/mpi/kf-train $B/mpi/kf-train-emulated $B/mpi/kf-train-nccl
.PHONY: mpi-programs
mpi-programs:
	-@bash data/deps.sh $(MPI_DEPS)
	+@if command -v $(firstword $(MPICC)) >/dev/null; then $(MAKE) --no-print-directory $(MPI_PROGRAMS); fi

$B/mpi/kf-train: $B/obj/train/main.o $(MPI_OBJ) $B/libkfuse.a
	$(call link_mpi)
$B/mpi/kf-train-emulated: $B/obj/train/main.o $(MPI_OBJ) $B/obj/emu/common/ops/backend.o $(EMU_OBJ) $B/libkfuse.a
	$(call link_mpi)
$B/mpi/kf-train-nccl: $B/obj/train/main.o $(MPI_OBJ) $B/obj/emu/common/ops/backend.o $B/obj/emu/common/ops/cuda/nccl.o \
  $B/obj/emu/common/ops/cuda/table.o $B/obj/mpi/tests/emu/nccl.o $(filter-out %/cuda/table.o,$(EMU_OBJ)) $B/libkfuse.a
	$(call link_mpi)
$B/obj/emu/common/ops/cuda/nccl.o $B/obj/emu/common/ops/cuda/table.o: $B/obj/emu/%.o: %.c $(DEPS_STAMP) $B/flags
	@mkdir -p $(@D)
	@echo "  cc    $< (emulated)"
	@$(CC) -Itests/emu/include $(CPPFLAGS) -DKF_NCCL $(CFLAGS) -MMD -MP -c $< -o $@
$B/obj/mpi/tests/emu/nccl.o: CPPFLAGS += -Itests/emu/include

# ---- CUDA with a device ----

# make gpu-check: parity with the CPU backend, a loss curve, compute-sanitizer. make gpu-bench: speed, beside transformers. Both
# write JSON into build/gpu (GPU_JSON) and a section of docs/gpu.md (GPU_DOCS= for none), and fail where there is no device.
.PHONY: gpu-check gpu-bench gpu-plans
GPU_DOCS ?= docs/gpu.md
ifeq ($(CUDA),1)
# One after the other, whatever -j says: each has the device for itself.
$(if $(filter gpu-check,$(MAKECMDGOALS)),$(eval gpu-bench: | gpu-check))
gpu-check gpu-bench: programs $B/gpu/check $B/gpu/bench
	@python3 tests/gpu/gpu.py $B $(@:gpu-%=%) $(if $(GPU_DOCS),--into $(GPU_DOCS)) $(if $(SHAPES),--shapes $(SHAPES)) $(if $(GPU_JSON),--json $(GPU_JSON))
# Whether cuDNN has engines for our graphs of attention; needs no device, and no driver but the toolkit's stub of it.
ifeq ($(CUDNN),)
gpu-plans:
	@echo "gpu-plans: this build is without cuDNN: the line above says what it lacks" >&2; exit 1
else
gpu-plans: $B/gpu/plans
	@mkdir -p $B/gpu/stub && ln -sf $(cuda_lib)/stubs/libcuda.so $B/gpu/stub/libcuda.so.1
	@LD_LIBRARY_PATH=$B/gpu/stub $<
endif
$B/gpu/plans: $B/obj/tests/gpu/plans.o $B/libkfuse.a
	$(call link,-lcudart)
$B/gpu/check $B/gpu/bench: $B/gpu/%: $B/obj/tests/gpu/%.o $B/obj/tests/gpu/parity_ops.o $B/obj/tests/gpu/parity_model.o $B/libkfuse.a
	$(call link)
else
gpu-check gpu-bench gpu-plans:
	@echo "$@: this build has no CUDA, so nothing was checked: make CUDA=1 $@" >&2; exit 1
endif
