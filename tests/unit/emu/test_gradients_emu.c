/* The CUDA kernels' backward against central differences of their own forward, on the launch emulator. */
#include "common/ops/ops.h"

extern const kf_ops kf_cuda_ops;
#define OPS kf_cuda_ops
#include "tests/unit/ops/test_gradients.c"
