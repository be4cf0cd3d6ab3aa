# MPI=1: kf-train may be started as several processes (mpirun, srun) that train one model. Wants an MPI of version 3 or newer, whose mpicc
# is on the path or in MPICC; `make deps MPI=1` installs Debian's Open MPI. Only ranks_mpi.c is compiled with it, in place of
# ranks_alone.c, so that `make test` has kf-train in both kinds (tests/tests.mk).
# NCCL=1, with CUDA=1 and MPI=1: gradients and weights go from device to device. Wants NCCL 2 (NCCL_HOME, or where CUDA's toolkit is);
# without, they go through the hosts' memory.

MPICC ?= mpicc
MPI_WRAP := OMPI_CC="$(CC)" MPICH_CC="$(CC)" I_MPI_CC="$(CC)" $(MPICC)
MPI_OBJ := $B/obj/mpi/common/base/ranks_mpi.o
MPI_DEPS := @mpicc:libopenmpi-dev @mpirun:openmpi-bin
ifeq ($(MPI),1)
DEPS_HEADERS += $(MPI_DEPS)
endif

# Its objects are made again, and what they are in is linked again, when it is another.
ifneq ($(file <$B/mpicc),$(MPI_WRAP))
$B/mpicc: FORCE
endif
$B/mpicc:
	@mkdir -p $B
	@echo '$(MPI_WRAP)' > $@

$B/obj/mpi/%.o: %.c $(DEPS_STAMP) $B/flags $B/mpicc
	@mkdir -p $(@D)
	@echo "  mpicc $<"
	@$(MPI_WRAP) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c $< -o $@

define link_mpi
	@mkdir -p $(@D)
	@echo "  link  $@"
	@$(MPI_WRAP) $(LDFLAGS) $^ $1 $(LDLIBS) -o $@
endef

ifeq ($(NCCL),1)
ifneq ($(CUDA)$(MPI),11)
$(error NCCL=1 goes with CUDA=1 and MPI=1: make CUDA=1 MPI=1 NCCL=1)
endif
NCCL_HOME ?= $(CUDA_HOME)
nccl_include := $(patsubst %/nccl.h,%,$(firstword $(wildcard $(NCCL_HOME)/include/nccl.h $(cuda_include)/nccl.h /usr/include/nccl.h)))
ifeq ($(nccl_include),)
$(error NCCL=1: there is no nccl.h. Install NCCL 2 (NVIDIA's libnccl-dev) and say where it is: make CUDA=1 MPI=1 NCCL=1 NCCL_HOME=...)
endif
nccl_lib := $(firstword $(wildcard $(NCCL_HOME)/lib/libnccl.so* $(NCCL_HOME)/lib64/libnccl.so* $(cuda_lib)/libnccl.so* \
  /usr/lib/x86_64-linux-gnu/libnccl.so*))
CPPFLAGS += -DKF_NCCL $(addprefix -isystem ,$(filter-out /usr/include,$(nccl_include)))
LDLIBS += $(nccl_lib) -Wl,-rpath,$(dir $(nccl_lib))
endif
