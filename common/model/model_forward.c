/* Forward: the residual stream through the layers. */
#include "common/model/model_impl.h"

void kf_model_norm(kf_model *m, kf_num *y, float *stat, const kf_num *in, const kf_slot *w, const kf_slot *b, int T)
{
	const kf_arch *a = m->arch;

	if (a->layer_norm)
		m->x->ops->layernorm(m->x, y, stat, in, w->value, kf_vec(b), a->norm_eps, T, a->C);
	else
		m->x->ops->rmsnorm(m->x, y, stat, in, w->value, a->norm_eps, T, a->C);
}

kf_attn kf_model_attn(const kf_model *m, int layer)
{
	const kf_arch *a = m->arch;

	return (kf_attn){ .H = a->H, .G = a->G, .D = a->D, .scale = a->attn_scale,
		.window = a->windowed[layer] ? a->window : 0, .cap = a->attn_cap, .slopes = m->slopes };
}

/* Of sequence s, with what stands before it. */
static int length(const kf_batch *b, int s)
{
	return b->offset[s + 1] - b->offset[s] + (b->before ? b->before->n[s] : 0);
}

static void turn(kf_model *m, kf_num *v, const kf_rotary *r, const int32_t *offset, const int32_t *first, int S, int heads,
	bool inverse)
{
	if (first)
		m->x->ops->rope_after(m->x, v, r, offset, first, S, heads, m->arch->D);
	else
		m->x->ops->rope(m->x, v, r, offset, S, heads, m->arch->D, inverse);
}

kf_status kf_model_rope(kf_model *m, int layer, kf_num *v, const kf_batch *b, int heads, bool inverse, kf_err *err)
{
	const kf_arch *a = m->arch;
	bool local = a->windowed[layer], beyond = false;
	const kf_rope *rope = local ? &a->rope_local : &a->rope;
	kf_rotary r = { local ? m->inv_freq_local : m->inv_freq, a->R, rope->scale != 0 ? rope->scale : 1 };
	kf_status rc;

	const int32_t *first = b->before ? b->before->n : NULL;

	if (!a->R)
		return KF_OK;
	for (int s = 0; s < b->S && kf_rope_varies(rope); s++)
		beyond = beyond || (float)(length(b, s)) > rope->original_context;
	if (!beyond) {
		turn(m, v, &r, b->offset, first, b->S, heads, inverse);
		return KF_OK;
	}
	r.inv_freq = m->own_freq;
	for (int s = 0; s < b->S; s++) {
		const int32_t one[2] = { 0, b->offset[s + 1] - b->offset[s] };

		kf_rope_freq(rope, a->R, length(b, s), m->own_host);
		if ((rc = m->x->ops->put(m->x, m->own_freq, m->own_host, (size_t)a->R / 2 * sizeof(float), err)) != KF_OK)
			return rc;
		turn(m, kf_at(m->x, v, (size_t)b->offset[s] * (size_t)heads * (size_t)a->D), &r, one, first ? first + s : NULL, 1, heads,
			inverse);
	}
	return KF_OK;
}

/* out = in + norm?(branch), where branch = x w^T + bias; pre keeps the branch before its norm.
 * With out == in the sum happens in place; with out NULL only pre and rstd are made. */
static kf_status residual(kf_model *m, kf_num *out, const kf_num *in, const kf_num *x, const kf_slot *w,
	const kf_slot *bias, const kf_slot *post, kf_num *pre, float *rstd, int T, kf_err *err)
{
	const kf_ops *ops = m->x->ops;
	size_t n = (size_t)T * (size_t)m->arch->C;
	kf_status rc;

	if (!out && !post)
		return KF_OK;
	if (!post && out == in)
		return ops->linear(m->x, out, x, &w->mat, kf_vec(bias), T, true, err);
	if ((rc = ops->linear(m->x, post ? pre : out, x, &w->mat, kf_vec(bias), T, false, err)) != KF_OK)
		return rc;
	if (post) {
		kf_num *y = !out || out == in ? m->tmp : out;

		kf_model_norm(m, y, rstd, pre, post, NULL, T);
		if (out == in)
			ops->add(m->x, out, y, n);
	}
	if (out && out != in)
		ops->add(m->x, out, in, n);
	return KF_OK;
}

/* q, k and v of h, before norms and rotary. */
static kf_status project(kf_model *m, const kf_layer *y, const kf_num *h, kf_num *q, kf_num *k, kf_num *v, const kf_attn *at,
	int T, kf_err *err)
{
	const kf_ops *ops = m->x->ops;
	kf_exec *x = m->x;
	kf_status rc;

	if (m->arch->qkv != KF_QKV_SEPARATE) {
		if ((rc = ops->linear(x, m->fused, h, &y->p[KF_P_QKV]->mat, kf_vec(y->p[KF_P_QKVB]), T, false, err)) != KF_OK)
			return rc;
		ops->split_qkv(x, m->fused, q, k, v, T, at, m->arch->qkv == KF_QKV_GROUPED, false);
		return KF_OK;
	}
	if ((rc = ops->linear(x, q, h, &y->p[KF_P_Q]->mat, kf_vec(y->p[KF_P_QB]), T, false, err)) != KF_OK ||
	    (rc = ops->linear(x, k, h, &y->p[KF_P_K]->mat, kf_vec(y->p[KF_P_KB]), T, false, err)) != KF_OK)
		return rc;
	return ops->linear(x, v, h, &y->p[KF_P_V]->mat, kf_vec(y->p[KF_P_VB]), T, false, err);
}

/* out = mid + MLP(h) */
static kf_status mlp(kf_model *m, const kf_layer *y, const kf_num *h, kf_acts *a, kf_num *out, int T, kf_err *err)
{
	const kf_arch *arch = m->arch;
	const kf_ops *ops = m->x->ops;
	kf_exec *x = m->x;
	size_t n = (size_t)T * (size_t)arch->F;
	kf_status rc;

	if (arch->experts) {
		if (out && out != a->mid) {
			ops->zero(x, out, kf_num_bytes(m, (size_t)T * (size_t)arch->C));
			ops->add(x, out, a->mid, (size_t)T * (size_t)arch->C);
		}
		return kf_experts_forward(m, y, h, a, out, T, err);
	}
	if ((rc = ops->linear(x, a->up, h, &y->p[KF_P_UP]->mat, kf_vec(y->p[KF_P_UPB]), T, false, err)) != KF_OK)
		return rc;
	if (!a->gate)
		ops->glu(x, m->act, a->up, NULL, arch->act, n);
	else if ((rc = ops->linear(x, a->gate, h, &y->p[KF_P_GATE]->mat, kf_vec(y->p[KF_P_GATEB]), T, false, err)) != KF_OK)
		return rc;
	else
		ops->glu(x, m->act, a->gate, a->up, arch->act, n);
	return residual(m, out, a->mid, m->act, y->p[KF_P_DOWN], y->p[KF_P_DOWNB], y->p[KF_P_POST2], a->post2_in, a->rstd_p2,
		T, err);
}

static kf_status attend(kf_model *m, int layer, const kf_batch *b, kf_acts *a, const kf_attn *at, kf_err *err)
{
	const kf_ops *ops = m->x->ops;
	kf_past past;
	kf_status rc;

	if (!b->before)
		return ops->attention(m->x, a->att, a->lse, a->q, a->k, a->v, b->offset, b->S, at, err);
	past = kf_model_past(m, layer, b, a);
	if ((rc = ops->attention_after(m->x, a->att, a->q, a->k, a->v, b->offset, b->S, &past, at, err)) == KF_OK)
		kf_model_store(m, layer, b, a);
	return rc;
}

kf_status kf_model_layer(kf_model *m, int layer, const kf_batch *b, const kf_num *in, kf_num *out, kf_acts *a,
	kf_err *err)
{
	const kf_arch *arch = m->arch;
	const kf_layer *y = &m->layers[layer];
	const kf_ops *ops = m->x->ops;
	const kf_attn at = kf_model_attn(m, layer);
	kf_exec *x = m->x;
	int T = b->T, H = arch->H, G = arch->G, D = arch->D;
	kf_num *q = a->q_pre ? a->q_pre : a->q, *k = a->k_pre ? a->k_pre : a->k;
	kf_status rc;

	kf_model_norm(m, m->h, a->rstd1, in, y->p[KF_P_NORM1], y->p[KF_P_NORM1B], T);
	if ((rc = project(m, y, m->h, q, k, a->v, &at, T, err)) != KF_OK)
		return rc;
	if (arch->qk_norm) {
		ops->rmsnorm(x, a->q, a->rstd_q, q, y->p[KF_P_Q_NORM]->value, arch->norm_eps, (int64_t)T * H, D);
		ops->rmsnorm(x, a->k, a->rstd_k, k, y->p[KF_P_K_NORM]->value, arch->norm_eps, (int64_t)T * G, D);
	}
	if ((rc = kf_model_rope(m, layer, a->q, b, H, false, err)) != KF_OK ||
	    (rc = kf_model_rope(m, layer, a->k, b, G, false, err)) != KF_OK ||
	    (rc = attend(m, layer, b, a, &at, err)) != KF_OK)
		return rc;
	if (arch->parallel)   /* of the same input, which may be overwritten next */
		kf_model_norm(m, m->h, a->rstd2, in, y->p[KF_P_NORM2], y->p[KF_P_NORM2B], T);
	if ((rc = residual(m, a->mid, in, a->att, y->p[KF_P_O], y->p[KF_P_OB], y->p[KF_P_POST1], a->post1_in, a->rstd_p1, T,
	     err)) != KF_OK)
		return rc;
	if (!arch->parallel)
		kf_model_norm(m, m->h, a->rstd2, a->mid, y->p[KF_P_NORM2], y->p[KF_P_NORM2B], T);
	return mlp(m, y, m->h, a, out, T, err);
}

kf_status kf_model_forward(kf_model *m, const kf_batch *b, bool train, kf_num **last, kf_err *err)
{
	const kf_arch *arch = m->arch;
	size_t n = (size_t)b->T * (size_t)arch->C;
	kf_num *in = m->inputs;
	kf_status rc;

	if ((rc = m->x->ops->embed(m->x, in, &m->embed->mat, b->tokens, arch->embed_scale, b->T, err)) != KF_OK)
		return rc;
	for (int l = 0; l < arch->L; l++) {
		kf_num *out = train ? kf_at(m->x, in, n) : in;
		kf_acts *a = train && l >= m->first_kept ? &m->acts[l] : &m->spare;

		if ((rc = kf_model_layer(m, l, b, in, out, a, err)) != KF_OK)
			return rc;
		in = out;
	}
	*last = in;
	return KF_OK;
}
