/* A model's parameters and the calls of model.h; the memory of a batch is in model_room.c. */
#include "common/model/model_impl.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "common/base/bf16.h"

static void unpack(const void *src, const int32_t *index, uint64_t row, uint64_t n, float *out)
{
	const kf_tensor *t = src;

	if (index)
		kf_tensor_gather(t, index, n, out);
	else
		kf_tensor_rows(t, row, n, out);
}

/* The kind of matrix: KF_INT8_*. */
static unsigned kind_of(kf_part part)
{
	switch (part) {
	case KF_P_HEAD: return KF_INT8_HEAD;
	case KF_P_Q: case KF_P_K: case KF_P_V: case KF_P_QKV: return KF_INT8_QKV;
	case KF_P_O: return KF_INT8_OUT;
	case KF_P_GATE: case KF_P_UP: case KF_P_E_GATE: case KF_P_E_UP: return KF_INT8_UP;
	case KF_P_DOWN: case KF_P_E_DOWN: return KF_INT8_DOWN;
	default: return 0;
	}
}

kf_status kf_model_no_memory(kf_exec *x, const char *what, double bytes, const char *hint, kf_err *err)
{
	size_t left;

	if (x->ops->memory && x->ops->memory(x, &left, NULL) == KF_OK)
		return kf_fail(err, KF_ENOMEM, "no memory for %s: %.1f MB of the %s backend's are needed, %.1f MB are free. %s", what, bytes * 1e-6,
			x->ops->name, (double)left * 1e-6, hint);
	return kf_fail(err, KF_ENOMEM, "no memory for %s (%.1f MB). %s", what, bytes * 1e-6, hint);
}

/* What takes less than a parameter that had no room. */
#define LESS "Smaller batches leave more (--batch-tokens; kf-train: --micro-tokens); --backend cpu needs none."

kf_status kf_slot_load(kf_model *m, kf_slot *s, kf_err *err)
{
	const kf_tensor *t = s->file;
	const uint64_t n = t->rows * t->cols;
	const size_t size = kf_num_size(s->num);
	kf_exec *x = m->x;
	char what[200];
	float *host;
	kf_status rc = KF_OK;

	host = kf_alloc(n, sizeof *host);
	s->value = x->ops->alloc(x, n, size);
	if (!host) {
		rc = kf_fail(err, KF_ENOMEM, "no memory to unpack %s (%.1f MB)", t->name, (double)n * 4e-6);
		goto out;
	}
	if (!s->value) {
		rc = kf_model_no_memory(x, t->name, (double)(n * size), LESS, err);
		goto out;
	}
	kf_tensor_unpack(t, x->pool, host);
	if ((rc = x->ops->put_num(x, s->value, s->num, host, n, err)) != KF_OK)
		goto out;
	s->mat.num = s->value;
	if (m->opts.train) {
		s->grad = x->ops->alloc(x, n, size);
		if (!s->grad) {
			snprintf(what, sizeof what, "the gradient of %s", t->name);
			rc = kf_model_no_memory(x, what, (double)(n * size), LESS, err);
			goto out;
		}
		x->ops->zero(x, s->grad, n * size);
	}
	if (m->opts.train && s->num != KF_NUM_F32) {
		const int parts = m->opts.parts ? m->opts.parts : 1;
		const size_t from = kf_part_begin(n, m->opts.part, parts), own = kf_part_begin(n, m->opts.part + 1, parts) - from;

		/* an empty part has one, too: that there is a master tells how the value is kept */
		s->master = x->ops->alloc(x, own ? own : 1, sizeof *s->master);
		if (!s->master) {
			snprintf(what, sizeof what, "the float32 master of %s", t->name);
			rc = kf_model_no_memory(x, what, (double)own * 4, LESS, err);
			goto out;
		}
		rc = x->ops->put_num(x, s->master, KF_NUM_F32, host + from, own, err);
	}
out:
	kf_free(host);
	return rc;
}

/* A matrix rounded for the CPU's products in bfloat16. */
static kf_status load_half(kf_model *m, kf_slot *s, kf_err *err)
{
	const kf_tensor *t = s->file;
	const size_t n = t->rows * t->cols;
	float *host = kf_alloc(n, sizeof *host);

	s->half = kf_alloc(n, sizeof *s->half);
	if (!host || !s->half) {
		kf_free(host);
		return kf_fail(err, KF_ENOMEM, "no memory to unpack %s (%.1f MB)", t->name, (double)n * 6e-6);
	}
	kf_tensor_unpack(t, m->x->pool, host);
	kf_round_bf16(host, s->half, n);
	s->mat.half = s->half;
	kf_free(host);
	return KF_OK;
}

void kf_slot_unload(kf_model *m, kf_slot *s)
{
	void *const own[] = { s->value, s->grad, s->master };

	for (size_t i = 0; i < sizeof own / sizeof *own; i++)
		if (own[i])
			m->x->ops->free(m->x, own[i]);
	kf_free(s->half);
	s->value = s->grad = NULL;
	s->half = NULL;
	s->master = NULL;
	s->mat.num = NULL;
	s->mat.half = NULL;
}

static kf_status make_slot(kf_model *m, kf_slot *s, kf_err *err)
{
	const kf_tensor *t = s->file;
	const kf_model_opts *o = &m->opts;

	s->mat = (kf_mat){ .rows = (int)t->rows, .cols = (int)t->cols, .unpack = unpack, .src = t };
	s->num = t->n_dims > 1 ? m->x->num : KF_NUM_F32;
	/* Vectors are small and used raw: always resident. */
	if (t->n_dims > 1 && (o->stream || (!o->train && !o->resident && !m->x->ops->resident)))
		return KF_OK;
	if (t->n_dims > 1 && !o->train && !m->x->ops->resident && m->x->compute == KF_COMPUTE_BF16)
		return load_half(m, s, err);
	return kf_slot_load(m, s, err);
}

static void bind(kf_model *m)
{
	const kf_arch *a = m->arch;

	for (int i = 0; i < m->n; i++) {
		kf_place at = kf_arch_place(a, i);
		kf_slot *s = &m->slots[i];

		if (at.expert >= 0)
			m->layers[at.layer].expert[at.expert * KF_EXPERT_PARTS + (int)(at.part - KF_P_E_GATE)] = s;
		else if (at.layer >= 0)
			m->layers[at.layer].p[at.part] = s;
		else if (at.part == KF_P_EMBED)
			m->embed = s;
		else if (at.part == KF_P_NORM)
			m->norm = s;
		else if (at.part == KF_P_NORM_B)
			m->norm_b = s;
		else
			m->head = s;
	}
	if (a->tied)
		m->head = m->embed;
}

/* Weights that have to be resident, before the first is loaded. (Training asks for more: kf_train_check_memory.) */
static kf_status check_memory(const kf_model *m, kf_err *err)
{
	kf_exec *x = m->x;
	double bytes = 0;
	size_t left;
	kf_status rc;

	if (!x->ops->memory || m->opts.stream || m->opts.train)
		return KF_OK;
	if ((rc = x->ops->memory(x, &left, err)) != KF_OK)
		return rc;
	for (int i = 0; i < m->n; i++) {
		const kf_tensor *t = m->slots[i].file;

		bytes += (double)t->rows * (double)t->cols * (t->n_dims > 1 ? (double)kf_num_size(x->num) : 4);
	}
	if (bytes <= (double)left)
		return KF_OK;
	return kf_fail(err, KF_ENOMEM, "the model's weights take %.3g GB of the %s backend's memory, and %.3g GB are free.%s kf-extract "
		"--stream yes reads them layer by layer; --backend cpu needs none of it.", bytes * 1e-9, x->ops->name, (double)left * 1e-9,
		x->num == KF_NUM_F32 ? " --compute bf16 takes half." : "");
}

/* Host numbers into the backend's memory. */
static kf_status put_floats(kf_model *m, const float *host, size_t n, float **out, kf_err *err)
{
	*out = m->x->ops->alloc(m->x, n, sizeof **out);
	if (!*out)
		return kf_fail(err, KF_ENOMEM, "no memory for the tables of positions");
	return m->x->ops->put(m->x, *out, host, n * sizeof *host, err);
}

/* Frequencies of rotary positions, or ALiBi's slopes. */
static kf_status make_positions(kf_model *m, kf_err *err)
{
	const kf_arch *a = m->arch;
	size_t half = (size_t)a->R / 2;
	float *f = m->own_host = kf_alloc(half + (size_t)a->H, sizeof *f);
	kf_status rc = KF_OK;

	if (!f)
		return kf_fail(err, KF_ENOMEM, "no memory for the tables of positions");
	if (a->alibi > 0) {
		kf_alibi_slopes(a->alibi, a->H, f);
		return put_floats(m, f, (size_t)a->H, &m->slopes, err);
	}
	if (!half)
		return KF_OK;
	kf_rope_freq(&a->rope, a->R, 0, f);
	if ((rc = put_floats(m, f, half, &m->inv_freq, err)) != KF_OK ||
	    (rc = put_floats(m, f, half, &m->own_freq, err)) != KF_OK)
		return rc;
	kf_rope_freq(&a->rope_local, a->R, 0, f);
	return put_floats(m, f, half, &m->inv_freq_local, err);
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
		p->num = s->num;
		p->value = s->value;
		p->grad = s->grad;
		p->master = s->master;
		p->decay = s->file->n_dims > 1;
	}
}

kf_status kf_model_new(const kf_weights *weights, kf_exec *x, const kf_model_opts *opts, kf_model **out, kf_err *err)
{
	kf_model *m = kf_zalloc(1, sizeof *m);
	size_t experts;
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
	experts = (size_t)m->arch->experts * KF_EXPERT_PARTS;
	m->experts = kf_zalloc((size_t)m->arch->L * experts, sizeof *m->experts);
	if (!m->slots || !m->params || !m->layers || !m->acts || !m->experts) {
		rc = kf_fail(err, KF_ENOMEM, "no memory for a model of %d tensors", m->n);
		goto fail;
	}
	for (int i = 0; i < m->n; i++)
		m->slots[i].file = kf_weights_at(weights, i);
	for (int l = 0; l < m->arch->L; l++)
		m->layers[l].expert = m->experts + (size_t)l * experts;
	bind(m);
	if ((rc = check_memory(m, err)) != KF_OK)
		goto fail;
	for (int i = 0; i < m->n; i++) {
		if ((rc = make_slot(m, &m->slots[i], err)) != KF_OK)
			goto fail;
		m->slots[i].mat.int8 = (opts->int8 & kind_of(kf_arch_place(m->arch, i).part)) != 0;
	}
	m->head->mat.int8 = (opts->int8 & KF_INT8_HEAD) != 0;   /* also where it is the embedding */
	if ((rc = make_positions(m, err)) != KF_OK)
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
		for (int i = 0; i < m->n; i++)
			kf_slot_unload(m, &m->slots[i]);
	void *const own[] = { m->inv_freq, m->inv_freq_local, m->own_freq, m->slopes, m->slab, m->work, m->logits };
	for (size_t i = 0; i < sizeof own / sizeof own[0]; i++)
		if (own[i])
			m->x->ops->free(m->x, own[i]);
	kf_free(m->own_host);
	kf_free(m->ints);
	kf_free(m->experts);
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
			m->x->ops->zero(m->x, s->grad, s->file->rows * s->file->cols * kf_num_size(s->num));
	}
}

/* ---- the calls ------------------------------------------------------------------ */

kf_status kf_model_check(const kf_model *m, const kf_batch *b, kf_err *err)
{
	if (b->T <= 0 || b->S <= 0 || b->offset[0] != 0 || b->offset[b->S] != b->T)
		return kf_fail(err, KF_EINVAL, "a batch of %d tokens in %d sequences is not well formed", b->T, b->S);
	for (int s = 0; s < b->S; s++)
		if (b->offset[s] > b->offset[s + 1])
			return kf_fail(err, KF_EINVAL, "sequence %d of a batch ends before it begins", s);
	for (int t = 0; t < b->T; t++)
		if (b->tokens[t] < 0 || b->tokens[t] >= m->arch->V)
			return kf_fail(err, KF_EINVAL, "token id %d is not in the model's vocabulary of %d", b->tokens[t], m->arch->V);
	return b->before ? kf_model_check_before(m, b, err) : KF_OK;
}

/* To the residual stream after all layers. */
static kf_status run_layers(kf_model *m, const kf_batch *b, bool train, kf_num **last, kf_err *err)
{
	kf_status rc;

	if (m->opts.stream)
		return kf_fail(err, KF_EINVAL, "a model that was made to be streamed is not run batch by batch");
	if ((rc = kf_model_check(m, b, err)) != KF_OK || (rc = kf_model_room(m, b, train, err)) != KF_OK)
		return rc;
	return kf_model_forward(m, b, train, last, err);
}

/* To the final norm's output in m->h. */
static kf_status hidden(kf_model *m, const kf_batch *b, bool train, kf_err *err)
{
	kf_num *last;
	kf_status rc = run_layers(m, b, train, &last, err);

	if (rc == KF_OK)
		kf_model_norm(m, m->h, m->final_rstd, last, m->norm, m->norm_b, b->T);
	return rc;
}

kf_status kf_model_hidden(kf_model *m, const kf_batch *b, float *out, kf_err *err)
{
	kf_status rc = hidden(m, b, false, err);

	if (rc != KF_OK)
		return rc;
	return m->x->ops->get_num(m->x, out, m->h, m->x->num, (size_t)b->T * (size_t)m->arch->C, err);
}

/* Of the hidden states only the rows that are asked. */
static kf_status keep_asked(kf_model *m, const kf_batch *b, const int32_t *rows, int n, kf_err *err)
{
	for (int i = 0; i < n; i++)
		if (rows[i] < (i ? rows[i - 1] + 1 : 0) || rows[i] >= b->T)
			return kf_fail(err, KF_EINVAL, "the rows that are asked do not ascend within the batch");
	m->x->ops->keep_rows(m->x, m->h, m->arch->C, rows, n);
	return KF_OK;
}

kf_status kf_model_answer(kf_model *m, const kf_batch *b, const kf_num *last, const kf_score_query *q, kf_score *out,
	kf_err *err)
{
	kf_score_query own = *q;
	kf_status rc;

	own.cap = m->arch->logit_cap;
	kf_model_norm(m, m->h, m->final_rstd, last, m->norm, m->norm_b, b->T);
	if (!q->rows)
		return m->x->ops->head_score(m->x, m->h, &m->head->mat, b->T, &own, out, err);
	if ((rc = keep_asked(m, b, q->rows, q->n_rows, err)) != KF_OK)
		return rc;
	return q->n_rows ? m->x->ops->head_score(m->x, m->h, &m->head->mat, q->n_rows, &own, out, err) : KF_OK;
}

kf_status kf_model_score(kf_model *m, const kf_batch *b, const kf_score_query *q, kf_score *out, kf_err *err)
{
	kf_num *last;
	kf_status rc = run_layers(m, b, false, &last, err);

	return rc == KF_OK ? kf_model_answer(m, b, last, q, out, err) : rc;
}

kf_status kf_model_logits(kf_model *m, const kf_batch *b, const int32_t *rows, int n_rows, float *out, kf_err *err)
{
	size_t n = (size_t)n_rows * (size_t)m->arch->V;
	const float cap = m->arch->logit_cap;
	kf_status rc;

	if ((rc = hidden(m, b, false, err)) != KF_OK || (rc = keep_asked(m, b, rows, n_rows, err)) != KF_OK || !n_rows ||
	    (rc = kf_model_grow(m->x, &m->logits, &m->n_logits, n * sizeof *out, err)) != KF_OK ||
	    (rc = m->x->ops->logits(m->x, m->logits, m->h, &m->head->mat, n_rows, err)) != KF_OK ||
	    (rc = m->x->ops->get(m->x, out, m->logits, n * sizeof *out, err)) != KF_OK)
		return rc;
	for (size_t i = 0; cap > 0 && i < n; i++) out[i] = cap * tanhf(out[i] / cap);
	return KF_OK;
}

kf_status kf_model_loss(kf_model *m, const kf_batch *b, const kf_loss_query *q, bool backward, kf_loss *out,
	kf_err *err)
{
	kf_loss_query own = *q;
	kf_status rc;

	own.cap = m->arch->logit_cap;
	if (backward && b->before)
		return kf_fail(err, KF_EINVAL, "sequences that go on have no backward");
	if (backward && !m->opts.train)
		return kf_fail(err, KF_EINVAL, "a model that was not made for training has no gradients");
	if ((rc = hidden(m, b, backward, err)) != KF_OK)
		return rc;
	if ((rc = m->x->ops->head_loss(m->x, m->h, &m->head->mat, b->T, &own, backward ? m->dh : NULL,
	     backward ? m->head->grad : NULL, out, err)) != KF_OK)
		return rc;
	return backward ? kf_model_backward(m, b, err) : KF_OK;
}

static kf_status get_tensor(void *arg, int index, float *out, kf_err *err)
{
	kf_model *m = arg;
	const kf_slot *s = &m->slots[index];

	if (s->value)
		return m->x->ops->get_num(m->x, out, s->master ? s->master : s->value, s->master ? KF_NUM_F32 : s->num,
			s->file->rows * s->file->cols, err);
	kf_tensor_rows(s->file, 0, s->file->rows, out);
	return KF_OK;
}

kf_status kf_model_write(kf_model *m, const char *dir, kf_dtype dtype, const kf_tokenizer *tokenizer, kf_param_get get, void *arg,
	kf_err *err)
{
	kf_out_tensor *t = kf_zalloc((size_t)m->n, sizeof *t);
	kf_status rc;

	if (!t)
		return kf_fail(err, KF_ENOMEM, "no memory to write %s", dir);
	for (int i = 0; i < m->n; i++) {
		const kf_tensor *f = m->slots[i].file;
		t[i] = (kf_out_tensor){ .name = f->name, .rows = f->rows, .cols = f->cols, .n_dims = f->n_dims,
			.get = get ? get : get_tensor, .arg = get ? arg : m };
	}
	rc = kf_hf_write(dir, &(kf_hf_spec){ .arch = m->arch, .tensors = t, .n = m->n, .dtype = dtype,
		.tokenizer = tokenizer, .like = m->weights }, err);
	kf_free(t);
	return rc;
}
