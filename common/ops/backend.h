/* Which backend computes, as --backend says. */
#ifndef KF_OPS_BACKEND_H
#define KF_OPS_BACKEND_H

#include "common/ops/ops.h"

/* The CUDA backend's table; NULL when it was not built in (make CUDA=1). */
const kf_ops *kf_ops_cuda(void);

/* choice: kf_common.backend, 0 auto, 1 cpu, 2 cuda. auto is cuda where it is built in and a device is there. KF_EUNSUPPORTED:
 * cuda was asked for and is not built in, or int8 on it; that there is no device is kf_exec_new's to say.
 * *compute (kf_compute): on cuda auto becomes bf16. Call this before options are recorded, so that what was done is: a
 * set begun in float32 must not be continued in bfloat16. */
kf_status kf_backend(int choice, const kf_ops **out, int *compute, kf_err *err) KF_MUST_CHECK;

#endif
