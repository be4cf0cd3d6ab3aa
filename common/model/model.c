/* A model's memory: parameters, buffers of a batch, and the calls of model.h. */
#include "common/model/model_impl.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static void unpack(const void *src, const int32_t *index, uint64_t row, uint64_t n, float *out)
{
	const kf_tensor *t = src;

	if (index)
		kf_tensor_gather(t, index, n, out);
	else
		kf_tensor_rows(t, row, n, out);
}

static kf_status make_slot(kf_model *m, kf_slot *s, kf_err *err)
{
	const kf_tensor *t = s->file;
	uint64_t n = t->rows * t->cols;
	kf_exec *x = m->x;
	float *host;
	kf_status rc = KF_OK;

	s->mat = (kf_mat){ .rows = (int)t->rows, .cols = (int)t->cols, .unpack = unpack, .src = t };
	/* Vectors are small and used raw: always resident. */
	if (t->n_dims > 1 && !m->opts.train && !m->opts.resident)
		return KF_OK;
	host = kf_alloc(n, sizeof *host);
	s->value = x->ops->alloc(x, n, sizeof *s->value);
	if (!host || !s->value) {
		rc = kf_fail(err, KF_ENOMEM, "no memory for %s (%.1f MB)", t->name, (double)n * 4e-6);
		goto out;
	}
	kf_tensor_unpack(t, x->pool, host);
	if ((rc = x->ops->put(x, s->value, host, n * sizeof *host, err)) != KF_OK)
		goto out;
	s->mat.f32 = s->value;
	if (m->opts.train) {
		s->grad = x->ops->alloc(x, n, sizeof *s->grad);
		if (!s->grad) {
			rc = kf_fail(err, KF_ENOMEM, "no memory for the gradient of %s (%.1f MB)", t->name, (double)n * 4e-6);
			goto out;
		}
		x->ops->zero(x, s->grad, n * sizeof *s->grad);
	}
out:
	kf_free(host);
	return rc;
}

static kf_slot *find(kf_model *m, const char *name)
{
	for (int i = 0; i < m->n; i++)
		if (strcmp(m->slots[i].file->name, name) == 0)
			return &m->slots[i];
	return NULL;
}

/* The slot of a layer's tensor. need: its absence is an error of the descriptor. */
static kf_status layer_slot(kf_model *m, int layer, const char *part, bool need, kf_slot **out, kf_err *err)
{
	char name[128];

	snprintf(name, sizeof name, "model.layers.%d.%s", layer, part);
	*out = need ? find(m, name) : NULL;
	if (need && !*out)
		return kf_fail(err, KF_EDATA, "%s: there is no tensor %s", kf_weights_path(m->weights), name);
	return KF_OK;
}

static kf_status bind_layers(kf_model *m, kf_err *err)
{
	const kf_arch *a = m->arch;
	kf_status rc = KF_OK;

	for (int l = 0; l < a->L && rc == KF_OK; l++) {
		kf_layer *y = &m->layers[l];
		const struct { const char *part; bool need; kf_slot **slot; } want[] = {
			{ "input_layernorm.weight", true, &y->norm1 },
			{ "post_attention_layernorm.weight", true, a->post_norms ? &y->post1 : &y->norm2 },
			{ "pre_feedforward_layernorm.weight", a->post_norms, a->post_norms ? &y->norm2 : &y->post2 },
			{ "post_feedforward_layernorm.weight", a->post_norms, &y->post2 },
			{ "self_attn.q_proj.weight", true, &y->q },
			{ "self_attn.k_proj.weight", true, &y->k },
			{ "self_attn.v_proj.weight", true, &y->v },
			{ "self_attn.o_proj.weight", true, &y->o },
			{ "self_attn.q_proj.bias", a->qkv_bias, &y->qb },
			{ "self_attn.k_proj.bias", a->qkv_bias, &y->kb },
			{ "self_attn.v_proj.bias", a->qkv_bias, &y->vb },
			{ "self_attn.o_proj.bias", a->o_bias, &y->ob },
			{ "self_attn.q_norm.weight", a->qk_norm, &y->q_norm },
			{ "self_attn.k_norm.weight", a->qk_norm, &y->k_norm },
			{ "mlp.gate_proj.weight", true, &y->gate },
			{ "mlp.up_proj.weight", true, &y->up },
			{ "mlp.down_proj.weight", true, &y->down },
			{ "mlp.gate_proj.bias", a->mlp_bias, &y->gateb },
			{ "mlp.up_proj.bias", a->mlp_bias, &y->upb },
			{ "mlp.down_proj.bias", a->mlp_bias, &y->downb },
		};

		for (size_t i = 0; i < sizeof want / sizeof want[0] && rc == KF_OK; i++)
			rc = layer_slot(m, l, want[i].part, want[i].need, want[i].slot, err);
	}
	if (rc != KF_OK)
		return rc;
	m->embed = find(m, "model.embed_tokens.weight");
	m->norm = find(m, "model.norm.weight");
	m->head = a->tied ? m->embed : find(m, "lm_head.weight");
	if (!m->embed || !m->norm || !m->head)
		return kf_fail(err, KF_EDATA, "%s: the embedding, the last norm or the output matrix is missing",
			kf_weights_path(m->weights));
	return KF_OK;
}

/* Frequencies of the rotary embedding, in float32 as Hugging Face computes them: positions
 * multiply them, so a more exact value would only move us away from the model as trained. */
static kf_status make_freq(kf_model *m, const kf_rope *r, float **out, kf_err *err)
{
	int D = m->arch->D;
	float *f = kf_alloc((size_t)D / 2, sizeof *f);
	kf_status rc;

	*out = m->x->ops->alloc(m->x, (size_t)D / 2, sizeof **out);
	if (!f || !*out) {
		kf_free(f);
		return kf_fail(err, KF_ENOMEM, "no memory for the rotary frequencies");
	}
	for (int i = 0; i < D / 2; i++) {
		float v = 1.0f / powf(r->base, (float)(2 * i) / (float)D);

		if (r->kind == KF_ROPE_LINEAR) {
			v /= r->factor;
		} else if (r->kind == KF_ROPE_LLAMA3) {
			/* Long waves are stretched by factor, short ones kept, those between interpolated. */
			float wave = 2 * (float)M_PI / v;

			if (wave > r->original_context / r->low_freq) {
				v /= r->factor;
			} else if (wave >= r->original_context / r->high_freq) {
				float s = (r->original_context / wave - r->low_freq) / (r->high_freq - r->low_freq);
				v = (1 - s) * v / r->factor + s * v;
			}
		}
		f[i] = v;
	}
	rc = m->x->ops->put(m->x, *out, f, (size_t)(D / 2) * sizeof *f, err);
	kf_free(f);
	return rc;
}

static void make_params(kf_model *m)
{
	for (int i = 0; i < m->n; i++) {
		const kf_slot *s = &m->slots[i];
		kf_param *p = &m->params[i];

		snprintf(p->name, sizeof p->name, "%s", s->file->name);
		p->rows = s->file->rows;
		p->cols = s->file->cols;
		p->n_dims = s->file->n_dims;
		p->value = s->value;
		p->grad = s->grad;
		p->decay = s->file->n_dims > 1;
	}
}

kf_status kf_model_new(const kf_weights *weights, kf_exec *x, const kf_model_opts *opts, kf_model **out, kf_err *err)
{
	kf_model *m = kf_zalloc(1, sizeof *m);
	kf_status rc;

	*out = NULL;
	if (!m)
		return kf_fail(err, KF_ENOMEM, "no memory for a model");
	m->weights = weights;
	m->arch = kf_weights_arch(weights);
	m->x = x;
	m->opts = *opts;
	m->n = kf_weights_count(weights);
	m->slots = kf_zalloc((size_t)m->n, sizeof *m->slots);
	m->params = kf_zalloc((size_t)m->n, sizeof *m->params);
	m->layers = kf_zalloc((size_t)m->arch->L, sizeof *m->layers);
	m->acts = kf_zalloc((size_t)m->arch->L, sizeof *m->acts);
	if (!m->slots || !m->params || !m->layers || !m->acts) {
		rc = kf_fail(err, KF_ENOMEM, "no memory for a model of %d tensors", m->n);
		goto fail;
	}
	for (int i = 0; i < m->n; i++)
		m->slots[i].file = kf_weights_at(weights, i);
	if ((rc = bind_layers(m, err)) != KF_OK)
		goto fail;
	for (int i = 0; i < m->n; i++)
		if ((rc = make_slot(m, &m->slots[i], err)) != KF_OK)
			goto fail;
	if ((rc = make_freq(m, &m->arch->rope, &m->inv_freq, err)) != KF_OK ||
	    (rc = make_freq(m, &m->arch->rope_local, &m->inv_freq_local, err)) != KF_OK)
		goto fail;
	if (opts->train)
		make_params(m);
	*out = m;
	return KF_OK;
fail:
	kf_model_free(m);
	return rc;
}

void kf_model_free(kf_model *m)
{
	if (!m)
		return;
	if (m->slots)
		for (int i = 0; i < m->n; i++) {
			if (m->slots[i].value)
				m->x->ops->free(m->x, m->slots[i].value);
			if (m->slots[i].grad)
				m->x->ops->free(m->x, m->slots[i].grad);
		}
	if (m->inv_freq)
		m->x->ops->free(m->x, m->inv_freq);
	if (m->inv_freq_local)
		m->x->ops->free(m->x, m->inv_freq_local);
	if (m->slab)
		m->x->ops->free(m->x, m->slab);
	if (m->work)
		m->x->ops->free(m->x, m->work);
	kf_free(m->slots);
	kf_free(m->params);
	kf_free(m->layers);
	kf_free(m->acts);
	kf_free(m);
}

const kf_arch *kf_model_arch(const kf_model *m)
{
	return m->arch;
}

int kf_model_params(kf_model *m, kf_param **params)
{
	*params = m->params;
	return m->opts.train ? m->n : 0;
}

void kf_model_zero_grad(kf_model *m)
{
	for (int i = 0; i < m->n; i++) {
		kf_slot *s = &m->slots[i];
		if (s->grad)
			m->x->ops->zero(m->x, s->grad, s->file->rows * s->file->cols * sizeof *s->grad);
	}
}

/* ---- memory of a batch -------------------------------------------------------- */

/* Hand out pieces of a slab, each on its own cache line; with base NULL only count. */
typedef struct { float *base; size_t used; } carver;

static float *carve(carver *c, size_t n)
{
	float *p = c->base ? c->base + c->used : NULL;

	c->used += (n + 15) & ~(size_t)15;
	return p;
}

static void carve_acts(carver *c, const kf_arch *a, size_t T, kf_acts *s)
{
	size_t qn = T * (size_t)a->H * (size_t)a->D, kn = T * (size_t)a->G * (size_t)a->D;

	*s = (kf_acts){ 0 };
	s->rstd1 = carve(c, T);
	s->rstd2 = carve(c, T);
	s->q = carve(c, qn);
	s->k = carve(c, kn);
	s->v = carve(c, kn);
	if (a->qk_norm) {
		s->q_pre = carve(c, qn);
		s->k_pre = carve(c, kn);
		s->rstd_q = carve(c, T * (size_t)a->H);
		s->rstd_k = carve(c, T * (size_t)a->G);
	}
	s->att = carve(c, qn);
	s->lse = carve(c, T * (size_t)a->H);
	s->mid = carve(c, T * (size_t)a->C);
	s->gate = carve(c, T * (size_t)a->F);
	s->up = carve(c, T * (size_t)a->F);
	if (a->post_norms) {
		s->post1_in = carve(c, T * (size_t)a->C);
		s->post2_in = carve(c, T * (size_t)a->C);
		s->rstd_p1 = carve(c, T);
		s->rstd_p2 = carve(c, T);
	}
}

/* Activations: of the kept layers, and of the one at work among the others. */
static void carve_slab(kf_model *m, carver *c, size_t T, bool train)
{
	const kf_arch *a = m->arch;
	size_t C = (size_t)a->C;

	if (!train) {
		m->inputs = carve(c, T * C);
		carve_acts(c, a, T, &m->spare);
		m->spare.mid = m->inputs;
		return;
	}
	m->inputs = carve(c, ((size_t)a->L + 1) * T * C);
	for (int l = m->first_kept; l < a->L; l++)
		carve_acts(c, a, T, &m->acts[l]);
	if (m->first_kept > 0)
		carve_acts(c, a, T, &m->spare);
}

static void carve_work(kf_model *m, carver *c, size_t T, bool train)
{
	const kf_arch *a = m->arch;
	size_t C = (size_t)a->C, F = (size_t)a->F, qn = (size_t)a->H * (size_t)a->D, kn = (size_t)a->G * (size_t)a->D;

	m->h = carve(c, T * C);
	m->tmp = carve(c, T * C);
	m->act = carve(c, T * F);
	m->final_rstd = carve(c, T);
	if (!train)
		return;
	m->dx = carve(c, T * C);
	m->dh = carve(c, T * C);
	m->dt = carve(c, T * C);
	m->dact = carve(c, T * F);
	m->dq = carve(c, T * qn);
	m->dk = carve(c, T * kn);
	m->dv = carve(c, T * kn);
	m->datt = carve(c, T * qn);
	m->dpre = a->qk_norm ? carve(c, T * (qn > kn ? qn : kn)) : NULL;
}

static kf_status grow(kf_exec *x, float **p, size_t *have, size_t need, kf_err *err)
{
	if (need <= *have)
		return KF_OK;
	if (*p)
		x->ops->free(x, *p);
	*have = 0;
	*p = x->ops->alloc(x, need, sizeof **p);
	if (!*p)
		return kf_fail(err, KF_ENOMEM, "no memory for the activations of a batch (%.1f MB). Use smaller batches.",
			(double)need * 4e-6);
	*have = need;
	return KF_OK;
}

kf_status kf_model_room(kf_model *m, const kf_batch *b, bool train, kf_err *err)
{
	carver count = { NULL, 0 }, c;
	size_t T = (size_t)b->T;
	kf_acts one;
	kf_status rc;

	if (train) {
		int kept = m->arch->L;

		carve_acts(&count, m->arch, T, &one);
		if (m->opts.recompute)
			kept = 0;
		else if (m->opts.keep_bytes && m->opts.keep_bytes / (count.used * sizeof(float)) < (size_t)kept)
			kept = (int)(m->opts.keep_bytes / (count.used * sizeof(float)));
		m->first_kept = m->arch->L - kept;
	}
	count.used = 0;
	carve_slab(m, &count, T, train);
	if ((rc = grow(m->x, &m->slab, &m->slab_floats, count.used, err)) != KF_OK)
		return rc;
	c = (carver){ m->slab, 0 };
	carve_slab(m, &c, T, train);
	count.used = 0;
	carve_work(m, &count, T, train);
	if ((rc = grow(m->x, &m->work, &m->work_floats, count.used, err)) != KF_OK)
		return rc;
	c = (carver){ m->work, 0 };
	carve_work(m, &c, T, train);
	return KF_OK;
}

/* ---- the calls ------------------------------------------------------------------ */

static kf_status check_batch(const kf_model *m, const kf_batch *b, kf_err *err)
{
	if (b->T <= 0 || b->S <= 0 || b->offset[0] != 0 || b->offset[b->S] != b->T)
		return kf_fail(err, KF_EINVAL, "a batch of %d tokens in %d sequences is not well formed", b->T, b->S);
	for (int s = 0; s < b->S; s++)
		if (b->offset[s] > b->offset[s + 1])
			return kf_fail(err, KF_EINVAL, "sequence %d of a batch ends before it begins", s);
	for (int t = 0; t < b->T; t++)
		if (b->tokens[t] < 0 || b->tokens[t] >= m->arch->V)
			return kf_fail(err, KF_EINVAL, "token id %d is not in the model's vocabulary of %d", b->tokens[t], m->arch->V);
	return KF_OK;
}

/* To the final norm's output in m->h. */
static kf_status hidden(kf_model *m, const kf_batch *b, bool train, kf_err *err)
{
	float *last;
	kf_status rc;

	if ((rc = check_batch(m, b, err)) != KF_OK || (rc = kf_model_room(m, b, train, err)) != KF_OK ||
	    (rc = kf_model_forward(m, b, train, &last, err)) != KF_OK)
		return rc;
	m->x->ops->rmsnorm(m->x, m->h, m->final_rstd, last, m->norm->value, m->arch->norm_eps, b->T, m->arch->C);
	return KF_OK;
}

kf_status kf_model_hidden(kf_model *m, const kf_batch *b, float *out, kf_err *err)
{
	kf_status rc = hidden(m, b, false, err);

	if (rc != KF_OK)
		return rc;
	return m->x->ops->get(m->x, out, m->h, (size_t)b->T * (size_t)m->arch->C * sizeof *out, err);
}

kf_status kf_model_score(kf_model *m, const kf_batch *b, const kf_score_query *q, kf_score *out, kf_err *err)
{
	kf_status rc = hidden(m, b, false, err);

	if (rc != KF_OK)
		return rc;
	if (!q->rows)
		return m->x->ops->head_score(m->x, m->h, &m->head->mat, b->T, q, out, err);
	for (int i = 0; i < q->n_rows; i++)
		if (q->rows[i] < (i ? q->rows[i - 1] + 1 : 0) || q->rows[i] >= b->T)
			return kf_fail(err, KF_EINVAL, "the rows that are asked do not ascend within the batch");
	m->x->ops->keep_rows(m->x, m->h, m->arch->C, q->rows, q->n_rows);
	return q->n_rows ? m->x->ops->head_score(m->x, m->h, &m->head->mat, q->n_rows, q, out, err) : KF_OK;
}

kf_status kf_model_loss(kf_model *m, const kf_batch *b, const kf_loss_query *q, bool backward, kf_loss *out,
	kf_err *err)
{
	kf_status rc;

	if (backward && !m->opts.train)
		return kf_fail(err, KF_EINVAL, "a model that was not made for training has no gradients");
	if ((rc = hidden(m, b, backward, err)) != KF_OK)
		return rc;
	if ((rc = m->x->ops->head_loss(m->x, m->h, &m->head->mat, b->T, q, backward ? m->dh : NULL,
	     backward ? m->head->grad : NULL, out, err)) != KF_OK)
		return rc;
	return backward ? kf_model_backward(m, b, err) : KF_OK;
}

static kf_status get_tensor(void *arg, int index, float *out, kf_err *err)
{
	kf_model *m = arg;
	const kf_slot *s = &m->slots[index];

	if (s->value)
		return m->x->ops->get(m->x, out, s->value, s->file->rows * s->file->cols * sizeof *out, err);
	kf_tensor_rows(s->file, 0, s->file->rows, out);
	return KF_OK;
}

kf_status kf_model_write(kf_model *m, const char *dir, kf_dtype dtype, const kf_tokenizer *tokenizer, kf_err *err)
{
	kf_out_tensor *t = kf_zalloc((size_t)m->n, sizeof *t);
	kf_status rc;

	if (!t)
		return kf_fail(err, KF_ENOMEM, "no memory to write %s", dir);
	for (int i = 0; i < m->n; i++) {
		const kf_tensor *f = m->slots[i].file;
		t[i] = (kf_out_tensor){ .name = f->name, .rows = f->rows, .cols = f->cols, .n_dims = f->n_dims,
			.get = get_tensor, .arg = m };
	}
	rc = kf_hf_write(dir, &(kf_hf_spec){ .arch = m->arch, .tensors = t, .n = m->n, .dtype = dtype,
		.tokenizer = tokenizer }, err);
	kf_free(t);
	return rc;
}
