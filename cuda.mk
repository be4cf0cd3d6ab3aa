# CUDA=1: the CUDA backend. Wants CUDA's toolkit, 12 or 13 (CUDA_HOME, or nvcc on the path), which has cuBLASLt. Where
# cuDNN 9 and its frontend's headers are (CUDNN_HOME, CUDNN_FRONTEND; `make CUDA=1 cuda-deps` fetches the headers), attention is
# cuDNN's; else it is our own kernels'. CUDA_ARCHS chooses devices: "80 90a".

CUDA_HOME ?= $(patsubst %/bin/nvcc,%,$(firstword $(realpath $(shell command -v nvcc 2>/dev/null)) $(wildcard /usr/local/cuda/bin/nvcc)))
NVCC := $(CUDA_HOME)/bin/nvcc
ifeq ($(wildcard $(NVCC)),)
$(error CUDA=1: there is no nvcc. Install the CUDA Toolkit 12 or 13 and say where it is: make CUDA=1 CUDA_HOME=/usr/local/cuda)
endif
cuda_version := $(shell $(NVCC) --version | sed -n 's/.*release \([0-9]*\.[0-9]*\).*/\1/p')
ifeq ($(filter 12.% 13.%,$(cuda_version)),)
$(error CUDA=1: $(NVCC) is of CUDA $(cuda_version); 12 or 13 is needed: make CUDA=1 CUDA_HOME=...)
endif
cuda_include := $(firstword $(wildcard $(addsuffix /include,$(CUDA_HOME) $(CUDA_HOME)/targets/x86_64-linux)))
cuda_lib := $(firstword $(wildcard $(CUDA_HOME)/lib64 $(CUDA_HOME)/targets/x86_64-linux/lib $(CUDA_HOME)/lib))
ifeq ($(wildcard $(cuda_include)/cublasLt.h),)
$(error CUDA=1: $(cuda_include) has no cublasLt.h. Install the toolkit's cuBLAS (Debian: libcublas-dev-$(subst .,-,$(cuda_version))))
endif

CUDNN_HOME ?= $(CUDA_HOME)
cudnn_include := $(patsubst %/cudnn.h,%,$(firstword $(wildcard $(CUDNN_HOME)/include/cudnn.h $(cuda_include)/cudnn.h \
  /usr/include/cudnn.h /usr/include/x86_64-linux-gnu/cudnn.h)))
CUDNN_FRONTEND ?= $(firstword $(patsubst %/cudnn_frontend.h,%,$(wildcard build/cudnn-frontend/include/cudnn_frontend.h \
  $(cudnn_include)/cudnn_frontend.h /usr/local/include/cudnn_frontend.h /usr/include/cudnn_frontend.h)))
cudnn_major := $(if $(cudnn_include),$(shell sed -n 's/.*define CUDNN_MAJOR  *//p' $(cudnn_include)/cudnn_version.h 2>/dev/null))
CUDNN := $(if $(and $(filter-out 1 2 3 4 5 6 7 8,$(cudnn_major)),$(CUDNN_FRONTEND)),1)

# sm_80 serves all of 8.x; PTX serves what is newer than the toolkit knows of.
cuda_known := $(patsubst compute_%,%,$(shell $(NVCC) --list-gpu-arch))
CUDA_ARCHS ?= 80 90a $(filter 100 120,$(cuda_known))
cuda_gencode := $(foreach a,$(CUDA_ARCHS),-gencode arch=compute_$a,code=sm_$a) \
  -gencode arch=compute_80,code=compute_80

ifneq ($(filter-out clean help cuda-deps,$(or $(MAKECMDGOALS),all)),)
$(info cuda: toolkit $(cuda_version) in $(CUDA_HOME), for devices of $(CUDA_ARCHS) and newer)
$(info cuda: attention $(if $(CUDNN),by cuDNN $(cudnn_major) from $(cudnn_include),by our own kernels: $(if \
  $(cudnn_include),no headers of cuDNN's frontend (make CUDA=1 cuda-deps; CUDNN_FRONTEND),no cuDNN 9 (CUDNN_HOME))))
endif

CPPFLAGS += -DKF_CUDA $(addprefix -isystem ,$(filter-out /usr/include,$(cuda_include))) $(if $(CUDNN),$(addprefix -isystem ,$(filter-out /usr/include,$(cudnn_include))) -isystem $(CUDNN_FRONTEND))
NVCCFLAGS := -std=c++17 -O3 -g -I. $(cuda_gencode) --threads 0 -Xcompiler -Wall,-Wextra,-pthread -Wno-deprecated-gpu-targets
LDLIBS += -L$(cuda_lib) -Wl,-rpath,$(cuda_lib) -lcublasLt -lcudart_static -ldl -lrt
ifneq ($(CUDNN),)
cudnn_lib := $(patsubst %/libcudnn.so,%,$(firstword $(wildcard $(CUDNN_HOME)/lib64/libcudnn.so $(CUDNN_HOME)/lib/libcudnn.so \
  $(cuda_lib)/libcudnn.so /usr/lib/x86_64-linux-gnu/libcudnn.so)))
LDLIBS += -L$(cudnn_lib) -Wl,-rpath,$(cudnn_lib) -lcudnn -lnvrtc
endif

# Headers of cuDNN's frontend, which are not in its Debian packages.
.PHONY: cuda-deps
cuda-deps:
	@mkdir -p build/cudnn-frontend
	python3 -m pip download -q --no-deps --only-binary=:all: -d build/cudnn-frontend nvidia-cudnn-frontend==1.32.0
	cd build/cudnn-frontend && python3 -m zipfile -e *.whl . && rm -f *.whl

LIB_SRC += $(filter-out %/$(if $(CUDNN),fused_attention_none.c,fused_attention.cc) $(if $(filter 1,$(NCCL)),,%/nccl.c),$(wildcard common/ops/cuda/*.c \
  common/ops/cuda/*.cc))
CU_OBJ := $(patsubst %,$B/obj/%.o,$(wildcard common/ops/cuda/*.cu))

$B/obj/%.cu.o: %.cu $(DEPS_STAMP) $B/flags
	@mkdir -p $(@D)
	@echo "  nvcc  $<"
	@$(NVCC) $(NVCCFLAGS) -MMD -MP -MF $(@:.o=.d) -c $< -o $@
