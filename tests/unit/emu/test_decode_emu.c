/* Texts and likelihoods by the CUDA backend on the launch emulator: token by token those of the CPU. */
#include "common/ops/ops.h"

extern const kf_ops kf_cuda_ops;
#define OPS kf_cuda_ops
#define CACHES 1 << 16
#define SIZES 30
#include "tests/unit/model/test_decode.c"
