/* The CUDA backend's cache, on the launch emulator. */
#include "common/ops/ops.h"

extern const kf_ops kf_cuda_ops;
#define OPS &kf_cuda_ops
#include "tests/unit/model/test_kv.c"
