/* Backward: gradients of every parameter, layer by layer from the last. What is cheap is not
 * kept but made again: normalised inputs and the MLP's product; where the memory allowed for
 * activations is used up, a whole layer is (kf_model_room). */
#include "common/model/model_impl.h"

static float *grad(const kf_slot *s)
{
	return s ? s->grad : NULL;
}

/* Gradient of the branch of residual() before its norm: *dbranch (T, C). Without a norm it is dx itself. */
static void post_norm_dx(kf_model *m, const kf_slot *post, const float *pre, const float *rstd, int T,
	const float **dbranch)
{
	int C = m->arch->C;

	*dbranch = m->dx;
	if (!post)
		return;
	m->x->ops->zero(m->x, m->dt, (size_t)T * (size_t)C * sizeof *m->dt);
	m->x->ops->rmsnorm_dx(m->x, m->dt, post->grad, m->dx, pre, post->value, rstd, T, C);
	*dbranch = m->dt;
}

static kf_status linear_dw(kf_model *m, const kf_slot *w, const kf_slot *bias, const float *dy, const float *in,
	int T, kf_err *err)
{
	return m->x->ops->linear_dw(m->x, w->grad, grad(bias), dy, in, T, w->mat.rows, w->mat.cols, err);
}

static kf_status mlp_backward(kf_model *m, const kf_layer *y, const kf_acts *a, int T, kf_err *err)
{
	const kf_arch *arch = m->arch;
	const kf_ops *ops = m->x->ops;
	kf_exec *x = m->x;
	size_t n = (size_t)T * (size_t)arch->F;
	int act = arch->act == KF_ACT_GELU_TANH;
	const float *d;
	kf_status rc;

	post_norm_dx(m, y->post2, a->post2_in, a->rstd_p2, T, &d);
	ops->glu(x, m->act, a->gate, a->up, act, n);
	if ((rc = linear_dw(m, y->down, y->downb, d, m->act, T, err)) != KF_OK ||
	    (rc = ops->linear_dx(x, m->dact, d, &y->down->mat, T, false, err)) != KF_OK)
		return rc;
	ops->glu_dx(x, a->gate, a->up, m->dact, a->gate, a->up, act, n);

	ops->rmsnorm(x, m->h, NULL, a->mid, y->norm2->value, arch->norm_eps, T, arch->C);
	if ((rc = linear_dw(m, y->gate, y->gateb, a->gate, m->h, T, err)) != KF_OK ||
	    (rc = linear_dw(m, y->up, y->upb, a->up, m->h, T, err)) != KF_OK ||
	    (rc = ops->linear_dx(x, m->dh, a->gate, &y->gate->mat, T, false, err)) != KF_OK ||
	    (rc = ops->linear_dx(x, m->dh, a->up, &y->up->mat, T, true, err)) != KF_OK)
		return rc;
	ops->rmsnorm_dx(x, m->dx, y->norm2->grad, m->dh, a->mid, y->norm2->value, a->rstd2, T, arch->C);
	return KF_OK;
}

/* Through the norm of each head, in place of d (T, heads, D). */
static float *head_norm_dx(kf_model *m, const kf_slot *norm, float *d, const float *pre,
	const float *rstd, int T, int heads)
{
	int D = m->arch->D;

	m->x->ops->zero(m->x, m->dpre, (size_t)T * (size_t)heads * (size_t)D * sizeof *m->dpre);
	m->x->ops->rmsnorm_dx(m->x, m->dpre, norm->grad, d, pre, norm->value, rstd, (int64_t)T * heads, D);
	return m->dpre;
}

static kf_status project_dx(kf_model *m, const kf_slot *w, const kf_slot *bias, const float *d, bool add, int T,
	kf_err *err)
{
	kf_status rc;

	if ((rc = linear_dw(m, w, bias, d, m->h, T, err)) != KF_OK)
		return rc;
	return m->x->ops->linear_dx(m->x, m->dh, d, &w->mat, T, add, err);
}

static kf_status attention_backward(kf_model *m, int layer, const kf_batch *b, const kf_acts *a,
	const float *in, kf_err *err)
{
	const kf_arch *arch = m->arch;
	const kf_layer *y = &m->layers[layer];
	const kf_ops *ops = m->x->ops;
	kf_exec *x = m->x;
	int T = b->T, H = arch->H, G = arch->G, D = arch->D;
	bool windowed = arch->windowed[layer];
	const float *freq = windowed ? m->inv_freq_local : m->inv_freq, *d;
	float *dq = m->dq, *dk = m->dk;
	kf_status rc;

	post_norm_dx(m, y->post1, a->post1_in, a->rstd_p1, T, &d);
	if ((rc = linear_dw(m, y->o, y->ob, d, a->att, T, err)) != KF_OK ||
	    (rc = ops->linear_dx(x, m->datt, d, &y->o->mat, T, false, err)) != KF_OK ||
	    (rc = ops->attention_dx(x, m->dq, m->dk, m->dv, m->datt, a->att, a->lse, a->q, a->k, a->v, b->offset, b->S,
	     H, G, D, arch->attn_scale, windowed ? arch->window : 0, err)) != KF_OK)
		return rc;
	ops->rope(x, m->dq, freq, b->offset, b->S, H, D, true);
	ops->rope(x, m->dk, freq, b->offset, b->S, G, D, true);

	ops->rmsnorm(x, m->h, NULL, in, y->norm1->value, arch->norm_eps, T, arch->C);
	if (arch->qk_norm)
		dq = head_norm_dx(m, y->q_norm, m->dq, a->q_pre, a->rstd_q, T, H);
	if ((rc = project_dx(m, y->q, y->qb, dq, false, T, err)) != KF_OK)
		return rc;
	if (arch->qk_norm)   /* in the same scratch, now free */
		dk = head_norm_dx(m, y->k_norm, m->dk, a->k_pre, a->rstd_k, T, G);
	if ((rc = project_dx(m, y->k, y->kb, dk, true, T, err)) != KF_OK ||
	    (rc = project_dx(m, y->v, y->vb, m->dv, true, T, err)) != KF_OK)
		return rc;
	ops->rmsnorm_dx(x, m->dx, y->norm1->grad, m->dh, in, y->norm1->value, a->rstd1, T, arch->C);
	return KF_OK;
}

kf_status kf_model_backward(kf_model *m, const kf_batch *b, kf_err *err)
{
	const kf_arch *arch = m->arch;
	const kf_ops *ops = m->x->ops;
	int T = b->T;
	size_t n = (size_t)T * (size_t)arch->C;
	kf_status rc;

	ops->zero(m->x, m->dx, n * sizeof *m->dx);
	ops->rmsnorm_dx(m->x, m->dx, m->norm->grad, m->dh, m->inputs + (size_t)arch->L * n, m->norm->value, m->final_rstd,
		T, arch->C);
	for (int l = arch->L - 1; l >= 0; l--) {
		const float *in = m->inputs + (size_t)l * n;
		kf_acts *a = l >= m->first_kept ? &m->acts[l] : &m->spare;

		if (l < m->first_kept && (rc = kf_model_layer(m, l, b, in, NULL, a, err)) != KF_OK)
			return rc;
		if ((rc = mlp_backward(m, &m->layers[l], a, T, err)) != KF_OK ||
		    (rc = attention_backward(m, l, b, a, in, err)) != KF_OK)
			return rc;
	}
	return ops->embed_dw(m->x, m->embed->grad, m->dx, b->tokens, arch->embed_scale, T, arch->V, arch->C, err);
}
