/* Attention: the vendor's where it has the case, else our own kernels; and rotary positions, which go by the same sequences. */
#include "common/ops/cuda/ops.h"

kf_status kf_cuda_check_heads(const kf_attn *a, kf_err *err)
{
	if (a->D <= KF_CUDA_MAX_HEAD) return KF_OK;
	return kf_fail(err, KF_EUNSUPPORTED, "attention heads of %d numbers: on CUDA there are none above %d. Use --backend cpu.", a->D,
		KF_CUDA_MAX_HEAD);
}

static kf_status begin(kf_exec *x, const int32_t *offset, int S, const kf_attn *a, kf_cuda_packed *p, kf_err *err)
{
	kf_cuda *c = kf_cuda_of(x);
	kf_status rc = kf_cuda_see_spans(c, offset, S, err);

	if (rc != KF_OK || (rc = kf_cuda_check_heads(a, err)) != KF_OK) return rc;
	*p = (kf_cuda_packed){ .a = *a, .S = S, .T = offset[S], .longest = c->longest, .offset = offset };
	return KF_OK;
}

static bool fused(kf_exec *x, const kf_cuda_packed *p, bool backward)
{
	return x->num == KF_NUM_BF16 && kf_cuda_fused_fits(kf_cuda_of(x)->fused, p, backward);
}

kf_status kf_cuda_op_attention(kf_exec *x, void *out, float *lse, const void *q, const void *k, const void *v, const int32_t *offset,
	int S, const kf_attn *a, kf_err *err)
{
	kf_cuda *c = kf_cuda_of(x);
	kf_cuda_packed p;
	kf_status rc = begin(x, offset, S, a, &p, err);

	if (rc != KF_OK || !p.T) return rc;
	if (fused(x, &p, false) && (rc = kf_cuda_fused_forward(c->fused, &p, out, lse, q, k, v, err)) != KF_EUNSUPPORTED) return rc;
	return kf_cuda_check(c, kf_cuda_attention(x->num, out, lse, q, k, v, c->begin, p.T, a, c->dev.stream), "attention", err);
}

kf_status kf_cuda_op_attention_dx(kf_exec *x, void *dq, void *dk, void *dv, const void *dout, const void *out, const float *lse,
	const void *q, const void *k, const void *v, const int32_t *offset, int S, const kf_attn *a, kf_err *err)
{
	kf_cuda *c = kf_cuda_of(x);
	kf_cuda_packed p;
	kf_status rc = begin(x, offset, S, a, &p, err);
	void *work;

	if (rc != KF_OK || !p.T) return rc;
	if (fused(x, &p, true) &&
	    (rc = kf_cuda_fused_backward(c->fused, &p, dq, dk, dv, dout, out, lse, q, k, v, err)) != KF_EUNSUPPORTED)
		return rc;
	if (!(work = kf_cuda_scratch(c, KF_CUDA_WORK, kf_cuda_attention_dx_scratch(p.T, a), "the gradient of attention", err)))
		return c->rc;
	return kf_cuda_check(c, kf_cuda_attention_dx(x->num, dq, dk, dv, dout, out, lse, q, k, v, c->begin, c->end, p.T, a, work,
		c->dev.stream), "attention_dx", err);
}

void kf_cuda_op_rope(kf_exec *x, void *v, const kf_rotary *r, const int32_t *offset, int S, int heads, int D, bool inverse)
{
	kf_cuda *c = kf_cuda_of(x);

	if (kf_cuda_see_spans(c, offset, S, kf_cuda_later(c)) == KF_OK)
		kf_cuda_note(c, kf_cuda_rope(x->num, v, r, c->begin, offset[S], heads, D, inverse, c->dev.stream), "rope");
}
