/* Backward: gradients of every parameter, layer by layer from the last. What is cheap is not
 * kept but made again: normalised inputs and the MLP's product; where the memory allowed for
 * activations is used up, a whole layer is (kf_model_room). */
#include "common/model/model_impl.h"

static void *grad(const kf_slot *s)
{
	return s ? s->grad : NULL;
}

void kf_model_norm_dx(kf_model *m, kf_num *dx, const kf_slot *w, const kf_slot *b, const kf_num *dy, const kf_num *in,
	const float *stat, int T)
{
	const kf_ops *ops = m->x->ops;

	if (m->arch->layer_norm)
		ops->layernorm_dx(m->x, dx, w->grad, grad(b), dy, in, w->value, stat, T, m->arch->C);
	else
		ops->rmsnorm_dx(m->x, dx, w->grad, dy, in, w->value, stat, T, m->arch->C);
}

/* Gradient of the branch of residual() before its norm: *dbranch (T, C). Without a norm it is dx itself. */
static void post_norm_dx(kf_model *m, const kf_slot *post, const kf_num *pre, const float *rstd, int T,
	const kf_num **dbranch)
{
	int C = m->arch->C;

	*dbranch = m->dx;
	if (!post)
		return;
	m->x->ops->zero(m->x, m->dt, kf_num_bytes(m, (size_t)T * (size_t)C));
	kf_model_norm_dx(m, m->dt, post, NULL, m->dx, pre, rstd, T);
	*dbranch = m->dt;
}

static kf_status linear_dw(kf_model *m, const kf_slot *w, const kf_slot *bias, const kf_num *dy, const kf_num *in,
	int T, kf_err *err)
{
	return m->x->ops->linear_dw(m->x, w->grad, grad(bias), dy, in, T, w->mat.rows, w->mat.cols, err);
}

/* in: the layer's input, which the norm before the MLP reads where the two branches are parallel. */
static kf_status mlp_backward(kf_model *m, const kf_layer *y, const kf_acts *a, const kf_num *in, int T, kf_err *err)
{
	const kf_arch *arch = m->arch;
	const kf_ops *ops = m->x->ops;
	kf_exec *x = m->x;
	size_t n = (size_t)T * (size_t)arch->F;
	const kf_slot *norm = y->p[KF_P_NORM2], *norm_b = y->p[KF_P_NORM2B];
	const kf_num *d, *from = arch->parallel ? in : a->mid;
	kf_status rc;

	post_norm_dx(m, y->p[KF_P_POST2], a->post2_in, a->rstd_p2, T, &d);
	if (arch->experts) {
		kf_model_norm(m, m->h, NULL, from, norm, norm_b, T);
		if ((rc = kf_experts_backward(m, y, a, d, T, err)) != KF_OK)
			return rc;
		kf_model_norm_dx(m, m->dx, norm, norm_b, m->dh, from, a->rstd2, T);
		return KF_OK;
	}
	ops->glu(x, m->act, a->gate ? a->gate : a->up, a->gate ? a->up : NULL, arch->act, n);
	if ((rc = linear_dw(m, y->p[KF_P_DOWN], y->p[KF_P_DOWNB], d, m->act, T, err)) != KF_OK ||
	    (rc = ops->linear_dx(x, m->dact, d, &y->p[KF_P_DOWN]->mat, T, false, err)) != KF_OK)
		return rc;
	if (a->gate)
		ops->glu_dx(x, a->gate, a->up, m->dact, a->gate, a->up, arch->act, n);
	else
		ops->glu_dx(x, a->up, NULL, m->dact, a->up, NULL, arch->act, n);

	kf_model_norm(m, m->h, NULL, from, norm, norm_b, T);
	if ((rc = linear_dw(m, y->p[KF_P_UP], y->p[KF_P_UPB], a->up, m->h, T, err)) != KF_OK ||
	    (rc = ops->linear_dx(x, m->dh, a->up, &y->p[KF_P_UP]->mat, T, false, err)) != KF_OK)
		return rc;
	if (a->gate && ((rc = linear_dw(m, y->p[KF_P_GATE], y->p[KF_P_GATEB], a->gate, m->h, T, err)) != KF_OK ||
	    (rc = ops->linear_dx(x, m->dh, a->gate, &y->p[KF_P_GATE]->mat, T, true, err)) != KF_OK))
		return rc;
	kf_model_norm_dx(m, m->dx, norm, norm_b, m->dh, from, a->rstd2, T);
	return KF_OK;
}

/* Through the norm of each head, in place of d (T, heads, D). */
static kf_num *head_norm_dx(kf_model *m, const kf_slot *norm, kf_num *d, const kf_num *pre,
	const float *rstd, int T, int heads)
{
	int D = m->arch->D;

	m->x->ops->zero(m->x, m->dpre, kf_num_bytes(m, (size_t)T * (size_t)heads * (size_t)D));
	m->x->ops->rmsnorm_dx(m->x, m->dpre, norm->grad, d, pre, norm->value, rstd, (int64_t)T * heads, D);
	return m->dpre;
}

static kf_status project_dx(kf_model *m, const kf_slot *w, const kf_slot *bias, const kf_num *d, bool add, int T,
	kf_err *err)
{
	kf_status rc;

	if ((rc = linear_dw(m, w, bias, d, m->h, T, err)) != KF_OK)
		return rc;
	return m->x->ops->linear_dx(m->x, m->dh, d, &w->mat, T, add, err);
}

/* dout (T, C): gradient of the layer's output, where it is no longer in m->dx; NULL: it is. */
static kf_status attention_backward(kf_model *m, int layer, const kf_batch *b, const kf_acts *a, const kf_num *dout,
	const kf_num *in, kf_err *err)
{
	const kf_arch *arch = m->arch;
	const kf_layer *y = &m->layers[layer];
	const kf_ops *ops = m->x->ops;
	const kf_attn at = kf_model_attn(m, layer);
	const kf_num *d = dout;
	kf_exec *x = m->x;
	int T = b->T, H = arch->H, G = arch->G;
	kf_num *dq = m->dq, *dk = m->dk;
	kf_status rc;

	if (!d)
		post_norm_dx(m, y->p[KF_P_POST1], a->post1_in, a->rstd_p1, T, &d);
	if ((rc = linear_dw(m, y->p[KF_P_O], y->p[KF_P_OB], d, a->att, T, err)) != KF_OK ||
	    (rc = ops->linear_dx(x, m->datt, d, &y->p[KF_P_O]->mat, T, false, err)) != KF_OK ||
	    (rc = ops->attention_dx(x, m->dq, m->dk, m->dv, m->datt, a->att, a->lse, a->q, a->k, a->v, b->offset, b->S,
	     &at, err)) != KF_OK ||
	    (rc = kf_model_rope(m, layer, m->dq, b, H, true, err)) != KF_OK ||
	    (rc = kf_model_rope(m, layer, m->dk, b, G, true, err)) != KF_OK)
		return rc;

	kf_model_norm(m, m->h, NULL, in, y->p[KF_P_NORM1], y->p[KF_P_NORM1B], T);
	if (m->arch->qkv != KF_QKV_SEPARATE) {   /* these have no norms of q and k */
		ops->split_qkv(x, m->fused, dq, dk, m->dv, T, &at, m->arch->qkv == KF_QKV_GROUPED, true);
		if ((rc = project_dx(m, y->p[KF_P_QKV], y->p[KF_P_QKVB], m->fused, false, T, err)) != KF_OK)
			return rc;
	} else {
		if (arch->qk_norm)
			dq = head_norm_dx(m, y->p[KF_P_Q_NORM], m->dq, a->q_pre, a->rstd_q, T, H);
		if ((rc = project_dx(m, y->p[KF_P_Q], y->p[KF_P_QB], dq, false, T, err)) != KF_OK)
			return rc;
		if (arch->qk_norm)   /* in the same scratch, now free */
			dk = head_norm_dx(m, y->p[KF_P_K_NORM], m->dk, a->k_pre, a->rstd_k, T, G);
		if ((rc = project_dx(m, y->p[KF_P_K], y->p[KF_P_KB], dk, true, T, err)) != KF_OK ||
		    (rc = project_dx(m, y->p[KF_P_V], y->p[KF_P_VB], m->dv, true, T, err)) != KF_OK)
			return rc;
	}
	kf_model_norm_dx(m, m->dx, y->p[KF_P_NORM1], y->p[KF_P_NORM1B], m->dh, in, a->rstd1, T);
	return KF_OK;
}

kf_status kf_model_backward(kf_model *m, const kf_batch *b, kf_err *err)
{
	const kf_arch *arch = m->arch;
	const kf_ops *ops = m->x->ops;
	int T = b->T;
	size_t n = (size_t)T * (size_t)arch->C;
	kf_status rc;

	ops->zero(m->x, m->dx, kf_num_bytes(m, n));
	kf_model_norm_dx(m, m->dx, m->norm, m->norm_b, m->dh, kf_at(m->x, m->inputs, (size_t)arch->L * n), m->final_rstd, T);
	for (int l = arch->L - 1; l >= 0; l--) {
		const kf_num *in = kf_at(m->x, m->inputs, (size_t)l * n);
		kf_acts *a = l >= m->first_kept ? &m->acts[l] : &m->spare;

		if (l < m->first_kept && (rc = kf_model_layer(m, l, b, in, NULL, a, err)) != KF_OK)
			return rc;
		if (arch->parallel) {   /* the attention's gradient is this one, not what the MLP's adds */
			ops->zero(m->x, m->dt, kf_num_bytes(m, n));
			ops->add(m->x, m->dt, m->dx, n);
		}
		if ((rc = mlp_backward(m, &m->layers[l], a, in, T, err)) != KF_OK ||
		    (rc = attention_backward(m, l, b, a, arch->parallel ? m->dt : NULL, in, err)) != KF_OK)
			return rc;
	}
	return ops->embed_dw(m->x, m->embed->grad, m->dx, b->tokens, arch->embed_scale, T, arch->V, arch->C, err);
}
