/* The vendor's fused attention. fused_attention.cc has cuDNN behind it, where it was there to build with; else
 * fused_attention_none.c (also in the tests' emulated build) says that nothing is fit, and the backend runs its own kernels.
 */
#ifndef KF_OPS_CUDA_FUSED_ATTENTION_H
#define KF_OPS_CUDA_FUSED_ATTENTION_H

#include "common/ops/cuda/device.h"
#include "common/ops/ops.h"

typedef struct kf_cuda_fused kf_cuda_fused;

/* *out is NULL where there is no library: that is no error. */
kf_status kf_cuda_fused_new(const kf_cuda_device *d, kf_cuda_fused **out, kf_err *err) KF_MUST_CHECK;
void kf_cuda_fused_free(kf_cuda_fused *f);      /* accepts NULL */

/* Packed sequences: row t belongs to sequence s with offset[s] <= t < offset[s + 1]. */
typedef struct {
	kf_attn a;               /* slopes are NULL and cap is 0: see kf_cuda_fused_fits */
	int S, T, longest;       /* sequences, rows, rows of the longest */
	const int32_t *offset;   /* (S + 1) on the host */
} kf_cuda_packed;

/* Whether the library has this case (bfloat16, head size up to 256 and a multiple of 8, no slopes, no cap), and took it so far: a plan
 * that could not be made is not tried again. f may be NULL. */
bool kf_cuda_fused_fits(kf_cuda_fused *f, const kf_cuda_packed *p, bool backward);

/* As ops.h has attention and attention_dx, on device memory; lse (T, H), NULL in a forward that needs no backward.
 * KF_EUNSUPPORTED: the library has no plan for it after all, and nothing was run. */
kf_status kf_cuda_fused_forward(kf_cuda_fused *f, const kf_cuda_packed *p, void *out, float *lse, const void *q, const void *k,
	const void *v, kf_err *err) KF_MUST_CHECK;
kf_status kf_cuda_fused_backward(kf_cuda_fused *f, const kf_cuda_packed *p, void *dq, void *dk, void *dv, const void *dout,
	const void *out, const float *lse, const void *q, const void *k, const void *v, kf_err *err) KF_MUST_CHECK;

/* "cuDNN 9.19.0", or "none". */
const char *kf_cuda_fused_name(const kf_cuda_fused *f);

#endif
