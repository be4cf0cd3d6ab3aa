/* Whole training runs on the CUDA backend in bfloat16, on the launch emulator: float32 masters, exact continuation. */
#include "common/ops/ops.h"

extern const kf_ops kf_cuda_ops;
#define OPS kf_cuda_ops
#define COMPUTE KF_COMPUTE_BF16
#define ROUNDING 1e-2
#include "tests/unit/train/test_train.c"
