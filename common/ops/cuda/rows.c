/* Norms, activations, sums, AdamW. */
#include "common/ops/cuda/ops.h"

#include <math.h>

void kf_cuda_op_rmsnorm(kf_exec *x, void *y, float *rstd, const void *in, const float *w, float eps, int64_t rows, int C)
{
	kf_cuda *c = kf_cuda_of(x);

	kf_cuda_note(c, kf_cuda_rmsnorm(x->num, y, rstd, in, w, eps, rows, C, c->dev.stream), "rmsnorm");
}

void kf_cuda_op_rmsnorm_dx(kf_exec *x, void *dx, float *dw, const void *dy, const void *in, const float *w, const float *rstd,
	int64_t rows, int C)
{
	kf_cuda *c = kf_cuda_of(x);
	void *work = kf_cuda_scratch(c, KF_CUDA_WORK, kf_cuda_norm_dx_scratch(rows, C), "the gradient of a norm", kf_cuda_later(c));

	if (work) kf_cuda_note(c, kf_cuda_rmsnorm_dx(x->num, dx, dw, dy, in, w, rstd, rows, C, work, c->dev.stream), "rmsnorm_dx");
}

void kf_cuda_op_layernorm(kf_exec *x, void *y, float *stat, const void *in, const float *w, const float *b, float eps, int64_t rows,
	int C)
{
	kf_cuda *c = kf_cuda_of(x);

	kf_cuda_note(c, kf_cuda_layernorm(x->num, y, stat, in, w, b, eps, rows, C, c->dev.stream), "layernorm");
}

void kf_cuda_op_layernorm_dx(kf_exec *x, void *dx, float *dw, float *db, const void *dy, const void *in, const float *w,
	const float *stat, int64_t rows, int C)
{
	kf_cuda *c = kf_cuda_of(x);
	void *work = kf_cuda_scratch(c, KF_CUDA_WORK, kf_cuda_norm_dx_scratch(rows, C), "the gradient of a norm", kf_cuda_later(c));

	if (work) kf_cuda_note(c, kf_cuda_layernorm_dx(x->num, dx, dw, db, dy, in, w, stat, rows, C, work,
		c->dev.stream), "layernorm_dx");
}

void kf_cuda_op_glu(kf_exec *x, void *y, const void *gate, const void *up, kf_act act, size_t n)
{
	kf_cuda *c = kf_cuda_of(x);

	kf_cuda_note(c, kf_cuda_glu(x->num, y, gate, up, act, n, c->dev.stream), "glu");
}

void kf_cuda_op_glu_dx(kf_exec *x, void *dgate, void *dup, const void *dy, const void *gate, const void *up, kf_act act,
	size_t n)
{
	kf_cuda *c = kf_cuda_of(x);

	kf_cuda_note(c, kf_cuda_glu_dx(x->num, dgate, dup, dy, gate, up, act, n, c->dev.stream), "glu_dx");
}

void kf_cuda_op_add(kf_exec *x, void *y, const void *in, size_t n)
{
	kf_cuda *c = kf_cuda_of(x);

	kf_cuda_note(c, kf_cuda_add(x->num, y, in, n, c->dev.stream), "add");
}

/* What fails is noted (the next get says it), and the sum is not a number. The host waits once for all. */
double kf_cuda_op_sumsq(kf_exec *x, const kf_nums *v, int n)
{
	kf_cuda *c = kf_cuda_of(x);
	const size_t scratch = (kf_cuda_sumsq_scratch() + 15) & ~(size_t)15;
	char *work = kf_cuda_scratch(c, KF_CUDA_WORK, scratch + sizeof(double), "a sum", kf_cuda_later(c));
	double sum;
	bool begun = false;

	for (int i = 0; i < n && work; i++) {
		if (!v[i].n) continue;
		kf_cuda_note(c, kf_cuda_sumsq(v[i].type, (double *)(void *)(work + scratch), begun, v[i].v, v[i].n, work, c->dev.stream), "sumsq");
		begun = true;
	}
	if (work && !begun) return 0;
	return work && kf_cuda_op_get(x, &sum, work + scratch, sizeof sum, kf_cuda_later(c)) == KF_OK ? sum : NAN;
}

void kf_cuda_op_adamw(kf_exec *x, const kf_adamw *p, const kf_adamw_opts *o)
{
	kf_cuda *c = kf_cuda_of(x);

	kf_cuda_note(c, p->m8 ? kf_cuda_adamw8(p, p->m8, p->v8, p->m_scale, p->v_scale, p->salt, o, NULL, c->dev.stream)
		: kf_cuda_adamw(p, o, NULL, c->dev.stream), "adamw");
}
