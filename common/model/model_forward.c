/* Forward: the residual stream through the layers. */
#include "common/model/model_impl.h"

static const float *vec(const kf_slot *s)
{
	return s ? s->value : NULL;
}

/* out = in + norm?(branch), where branch = x w^T + bias; pre keeps the branch before its norm.
 * With out == in the sum happens in place; with out NULL only pre and rstd are made. */
static kf_status residual(kf_model *m, float *out, const float *in, const float *x, const kf_slot *w,
	const kf_slot *bias, const kf_slot *post, float *pre, float *rstd, int T, kf_err *err)
{
	const kf_ops *ops = m->x->ops;
	size_t n = (size_t)T * (size_t)m->arch->C;
	kf_status rc;

	if (!out && !post)
		return KF_OK;
	if (!post && out == in)
		return ops->linear(m->x, out, x, &w->mat, vec(bias), T, true, err);
	if ((rc = ops->linear(m->x, post ? pre : out, x, &w->mat, vec(bias), T, false, err)) != KF_OK)
		return rc;
	if (post) {
		float *y = !out || out == in ? m->tmp : out;

		ops->rmsnorm(m->x, y, rstd, pre, post->value, m->arch->norm_eps, T, m->arch->C);
		if (out == in)
			ops->add(m->x, out, y, n);
	}
	if (out && out != in)
		ops->add(m->x, out, in, n);
	return KF_OK;
}

kf_status kf_model_layer(kf_model *m, int layer, const kf_batch *b, const float *in, float *out, kf_acts *a,
	kf_err *err)
{
	const kf_arch *arch = m->arch;
	const kf_layer *y = &m->layers[layer];
	const kf_ops *ops = m->x->ops;
	kf_exec *x = m->x;
	int T = b->T, H = arch->H, G = arch->G, D = arch->D;
	bool windowed = arch->windowed[layer];
	const float *freq = windowed ? m->inv_freq_local : m->inv_freq;
	float *q = a->q_pre ? a->q_pre : a->q, *k = a->k_pre ? a->k_pre : a->k;
	kf_status rc;

	ops->rmsnorm(x, m->h, a->rstd1, in, y->norm1->value, arch->norm_eps, T, arch->C);
	if ((rc = ops->linear(x, q, m->h, &y->q->mat, vec(y->qb), T, false, err)) != KF_OK ||
	    (rc = ops->linear(x, k, m->h, &y->k->mat, vec(y->kb), T, false, err)) != KF_OK ||
	    (rc = ops->linear(x, a->v, m->h, &y->v->mat, vec(y->vb), T, false, err)) != KF_OK)
		return rc;
	if (arch->qk_norm) {
		ops->rmsnorm(x, a->q, a->rstd_q, q, y->q_norm->value, arch->norm_eps, (int64_t)T * H, D);
		ops->rmsnorm(x, a->k, a->rstd_k, k, y->k_norm->value, arch->norm_eps, (int64_t)T * G, D);
	}
	ops->rope(x, a->q, freq, b->offset, b->S, H, D, false);
	ops->rope(x, a->k, freq, b->offset, b->S, G, D, false);
	if ((rc = ops->attention(x, a->att, a->lse, a->q, a->k, a->v, b->offset, b->S, H, G, D, arch->attn_scale,
	     windowed ? arch->window : 0, err)) != KF_OK)
		return rc;
	if ((rc = residual(m, a->mid, in, a->att, y->o, y->ob, y->post1, a->post1_in, a->rstd_p1, T, err)) != KF_OK)
		return rc;

	ops->rmsnorm(x, m->h, a->rstd2, a->mid, y->norm2->value, arch->norm_eps, T, arch->C);
	if ((rc = ops->linear(x, a->gate, m->h, &y->gate->mat, vec(y->gateb), T, false, err)) != KF_OK ||
	    (rc = ops->linear(x, a->up, m->h, &y->up->mat, vec(y->upb), T, false, err)) != KF_OK)
		return rc;
	ops->glu(x, m->act, a->gate, a->up, arch->act == KF_ACT_GELU_TANH, (size_t)T * (size_t)arch->F);
	return residual(m, out, a->mid, m->act, y->down, y->downb, y->post2, a->post2_in, a->rstd_p2, T, err);
}

kf_status kf_model_forward(kf_model *m, const kf_batch *b, bool train, float **last, kf_err *err)
{
	const kf_arch *arch = m->arch;
	size_t n = (size_t)b->T * (size_t)arch->C;
	float *in = m->inputs;
	kf_status rc;

	if ((rc = m->x->ops->embed(m->x, in, &m->embed->mat, b->tokens, arch->embed_scale, b->T, err)) != KF_OK)
		return rc;
	for (int l = 0; l < arch->L; l++) {
		float *out = train ? in + n : in;
		kf_acts *a = train && l >= m->first_kept ? &m->acts[l] : &m->spare;

		if ((rc = kf_model_layer(m, l, b, in, out, a, err)) != KF_OK)
			return rc;
		in = out;
	}
	*last = in;
	return KF_OK;
}
