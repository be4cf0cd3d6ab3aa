#include "common/ops/ops.h"

#include "common/base/mem.h"

const char *kf_compute_name(kf_compute c)
{
	static const char *const name[KF_COMPUTES] = { "auto", "f32", "bf16", "int8" };

	return name[c];
}

kf_status kf_exec_new(const kf_ops *ops, kf_pool *pool, kf_compute compute, kf_exec **out, kf_err *err)
{
	return kf_exec_new_on(ops, pool, compute, 0, out, err);
}

kf_status kf_exec_new_on(const kf_ops *ops, kf_pool *pool, kf_compute compute, int device, kf_exec **out, kf_err *err)
{
	kf_exec *x;
	kf_status rc;

	*out = NULL;
	if (!(x = kf_zalloc(1, sizeof *x)))
		return kf_fail(err, KF_ENOMEM, "out of memory for the %s backend", ops->name);
	x->ops = ops;
	x->pool = pool;
	x->device = device;
	x->compute = compute == KF_COMPUTE_AUTO ? KF_COMPUTE_F32
		: compute; /* accuracy first: bf16 only when asked */
	if (ops->open && (rc = ops->open(x, err)) != KF_OK) {
		kf_free(x);
		return rc;
	}
	*out = x;
	return KF_OK;
}

void kf_exec_free(kf_exec *x)
{
	if (!x) return;
	if (x->ops->close) x->ops->close(x);
	kf_free(x);
}
