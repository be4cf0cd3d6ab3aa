/* Matrix products on the device. gemm.c has cuBLASLt behind it, with plans kept by shape; the tests' emulated build
 * (tests/emu) a plain loop.
 */
#ifndef KF_OPS_CUDA_GEMM_H
#define KF_OPS_CUDA_GEMM_H

#include <stdbool.h>
#include <stdint.h>

#include "common/ops/cuda/device.h"
#include "common/ops/ops.h"

typedef struct kf_cuda_gemm kf_cuda_gemm;

/* Kept plans and a workspace for products on the device's stream. */
kf_status kf_cuda_gemm_new(const kf_cuda_device *d, kf_cuda_gemm **out, kf_err *err) KF_MUST_CHECK;
void kf_cuda_gemm_free(kf_cuda_gemm *g);        /* accepts NULL */

/* C (M, N) = op(A) op(B), or += when add. Everything row-major; ld: elements from one row to the next, as stored.
 * Sums are in float32 (products of float32 numbers are too: no TF32), and rounded once, to C's type. */
typedef struct {
	bool ta, tb;             /* A is stored (K, M), B is stored (N, K) */
	bool add;
	int64_t M, N, K;
	int64_t lda, ldb, ldc;
	kf_num_type in, out;     /* of A and B; of C: the same, or float32 */
} kf_cuda_product;

/* Only puts the work on the stream; none where M or N is 0. K > 0. */
kf_status kf_cuda_gemm_run(kf_cuda_gemm *g, const kf_cuda_product *p, void *C, const void *A, const void *B,
	kf_err *err) KF_MUST_CHECK;

#endif
