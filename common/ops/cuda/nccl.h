/* Between the devices of several processes, by NCCL (make NCCL=1): the table's join, sum_parts and send_parts. */
#ifndef KF_OPS_CUDA_NCCL_H
#define KF_OPS_CUDA_NCCL_H

#include "common/ops/cuda/cuda.h"

kf_status kf_cuda_op_join(kf_exec *x, kf_ranks *r, kf_err *err) KF_MUST_CHECK;
kf_status kf_cuda_op_sum_parts(kf_exec *x, void *v, kf_num_type type, const size_t *begin, kf_err *err) KF_MUST_CHECK;
kf_status kf_cuda_op_send_parts(kf_exec *x, void *v, kf_num_type type, const size_t *begin, kf_err *err) KF_MUST_CHECK;
void kf_cuda_leave(kf_cuda *c);

#endif
