/* No library for attention: the backend's own kernels do it all. */
#include "common/ops/cuda/fused_attention.h"

kf_status kf_cuda_fused_new(const kf_cuda_device *d, kf_cuda_fused **out, kf_err *err)
{
	(void)d, (void)err;
	*out = NULL;
	return KF_OK;
}

void kf_cuda_fused_free(kf_cuda_fused *f)
{
	(void)f;
}

bool kf_cuda_fused_fits(kf_cuda_fused *f, const kf_cuda_packed *p, bool backward)
{
	(void)f, (void)p, (void)backward;
	return false;
}

kf_status kf_cuda_fused_forward(kf_cuda_fused *f, const kf_cuda_packed *p, void *out, float *lse, const void *q, const void *k,
	const void *v, kf_err *err)
{
	(void)f, (void)p, (void)out, (void)lse, (void)q, (void)k, (void)v;
	return kf_fail(err, KF_EUNSUPPORTED, "attention: built without cuDNN");
}

kf_status kf_cuda_fused_backward(kf_cuda_fused *f, const kf_cuda_packed *p, void *dq, void *dk, void *dv, const void *dout,
	const void *out, const float *lse, const void *q, const void *k, const void *v, kf_err *err)
{
	(void)f, (void)p, (void)dq, (void)dk, (void)dv, (void)dout, (void)out, (void)lse, (void)q, (void)k, (void)v;
	return kf_fail(err, KF_EUNSUPPORTED, "attention: built without cuDNN");
}

const char *kf_cuda_fused_name(const kf_cuda_fused *f)
{
	(void)f;
	return "none";
}
