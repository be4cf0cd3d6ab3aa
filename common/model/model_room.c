/* The memory of a batch: activations, of as many layers as are kept, and working space, each one allocation that grows. */
#include "common/model/model_impl.h"

/* Hand out pieces of a slab, each on lines of its own; with base NULL only count. */
typedef struct { char *base; size_t num_size, used; } carver;

static void *carve(carver *c, size_t n, size_t size)
{
	void *p = c->base ? c->base + c->used : NULL;

	c->used += (n * size + 255) & ~(size_t)255;
	return p;
}

static float *floats(carver *c, size_t n)
{
	return carve(c, n, sizeof(float));
}

static kf_num *nums(carver *c, size_t n)
{
	return carve(c, n, c->num_size);
}

/* Rows of the MLP: one a token, or one for each expert it goes to. */
static size_t mlp_rows(const kf_arch *a, size_t T)
{
	return a->experts ? T * (size_t)a->experts_used : T;
}

static size_t stat_size(const kf_arch *a, size_t T)
{
	return a->layer_norm ? 2 * T : T;
}

static void carve_acts(carver *c, const kf_arch *a, size_t T, kf_acts *s)
{
	size_t qn = T * (size_t)a->H * (size_t)a->D, kn = T * (size_t)a->G * (size_t)a->D, rows = mlp_rows(a, T);
	int32_t *index = s->index;

	*s = (kf_acts){ .index = index };
	s->rstd1 = floats(c, stat_size(a, T));
	s->rstd2 = floats(c, stat_size(a, T));
	s->q = nums(c, qn);
	s->k = nums(c, kn);
	s->v = nums(c, kn);
	if (a->qk_norm) {
		s->q_pre = nums(c, qn);
		s->k_pre = nums(c, kn);
		s->rstd_q = floats(c, T * (size_t)a->H);
		s->rstd_k = floats(c, T * (size_t)a->G);
	}
	s->att = nums(c, qn);
	s->lse = floats(c, T * (size_t)a->H);
	s->mid = nums(c, T * (size_t)a->C);
	s->gate = a->plain_mlp ? NULL : nums(c, rows * (size_t)a->F);
	s->up = nums(c, rows * (size_t)a->F);
	if (a->experts) {
		s->route = floats(c, rows);
		s->expert_out = nums(c, rows * (size_t)a->C);
	}
	if (a->post_norms) {
		s->post1_in = nums(c, T * (size_t)a->C);
		s->post2_in = nums(c, T * (size_t)a->C);
		s->rstd_p1 = floats(c, T);
		s->rstd_p2 = floats(c, T);
	}
}

/* Index arrays of the experts: what was chosen in each kept layer and in the one at work, and the order of one. */
static kf_status carve_ints(kf_model *m, size_t T, bool train, kf_err *err)
{
	const kf_arch *a = m->arch;
	size_t rows = mlp_rows(a, T), kept = train ? (size_t)(a->L - m->first_kept) : 0,
		need = rows * (kept + 3) + (size_t)a->experts + 1;
	int32_t *p;

	if (!a->experts)
		return KF_OK;
	if (need > m->n_ints) {
		kf_free(m->ints);
		m->n_ints = 0;
		if (!(m->ints = kf_alloc(need, sizeof *m->ints)))
			return kf_fail(err, KF_ENOMEM, "no memory for the experts of a batch of %zu tokens", T);
		m->n_ints = need;
	}
	p = m->ints;
	m->spare.index = p;
	m->row_token = p + rows;
	m->row_slot = p + 2 * rows;
	m->start = p + 3 * rows;
	p += 3 * rows + (size_t)a->experts + 1;
	for (int l = m->first_kept; train && l < a->L; l++, p += rows)
		m->acts[l].index = p;
	return KF_OK;
}

/* Activations: of the kept layers, and of the one at work among the others. */
static void carve_slab(kf_model *m, carver *c, size_t T, bool train)
{
	const kf_arch *a = m->arch;
	size_t C = (size_t)a->C;

	if (!train) {
		m->inputs = nums(c, T * C);
		carve_acts(c, a, T, &m->spare);
		m->spare.mid = m->inputs;
		return;
	}
	m->inputs = nums(c, ((size_t)a->L + 1) * T * C);
	for (int l = m->first_kept; l < a->L; l++)
		carve_acts(c, a, T, &m->acts[l]);
	if (m->first_kept > 0)
		carve_acts(c, a, T, &m->spare);
}

static void carve_work(kf_model *m, carver *c, size_t T, bool train)
{
	const kf_arch *a = m->arch;
	size_t C = (size_t)a->C, F = (size_t)a->F, qn = (size_t)a->H * (size_t)a->D, kn = (size_t)a->G * (size_t)a->D,
		rows = mlp_rows(a, T);

	m->h = nums(c, T * C);
	m->tmp = nums(c, T * C);
	m->act = nums(c, rows * F);
	m->final_rstd = floats(c, stat_size(a, T));
	m->fused = a->qkv == KF_QKV_SEPARATE ? NULL : nums(c, T * (qn + 2 * kn));
	if (a->experts) {
		m->router = nums(c, T * (size_t)a->experts);
		m->sorted = floats(c, rows);
		m->ex = nums(c, rows * C);
	}
	if (!train)
		return;
	if (a->experts) {
		m->dex = nums(c, rows * C);
		m->dsorted = floats(c, rows);
		m->droute = floats(c, rows);
	}
	m->dx = nums(c, T * C);
	m->dh = nums(c, T * C);
	m->dt = nums(c, T * C);
	m->dact = nums(c, rows * F);
	m->dq = nums(c, T * qn);
	m->dk = nums(c, T * kn);
	m->dv = nums(c, T * kn);
	m->datt = nums(c, T * qn);
	m->dpre = a->qk_norm ? nums(c, T * (qn > kn ? qn : kn)) : NULL;
}

size_t kf_model_batch_bytes(const kf_arch *a, kf_num_type num, size_t T)
{
	kf_model m = { .arch = a };
	carver c = { NULL, kf_num_size(num), 0 };

	carve_slab(&m, &c, T, false);
	carve_work(&m, &c, T, false);
	return c.used + (a->experts ? 3 * mlp_rows(a, T) * sizeof(int32_t) : 0);
}

kf_status kf_model_grow(kf_exec *x, void **p, size_t *have, size_t need, kf_err *err)
{
	if (need <= *have)
		return KF_OK;
	if (*p)
		x->ops->free(x, *p);
	*have = 0;
	*p = x->ops->alloc(x, need, 1);
	if (!*p)
		return kf_model_no_memory(x, "the activations of a batch", (double)need,
			"Use smaller batches (--batch-tokens; kf-train: --micro-tokens, --keep-mb).", err);
	*have = need;
	return KF_OK;
}

kf_status kf_model_keep_free(kf_model *m, kf_err *err)
{
	size_t left;

	if (!m->x->ops->memory)
		return KF_OK;
	m->keep_free = true;
	m->most_tokens = 0;
	return m->x->ops->memory(m->x, &left, err);
}

/* Left for libraries' workspaces, the head's tiles and what the device needs for itself. */
#define SPARE ((size_t)2 << 30)

/* How many layers' activations fit into what is free, of per bytes each, beside what every batch of T tokens takes. */
static kf_status layers_that_fit(kf_model *m, size_t T, size_t per, int *kept, kf_err *err)
{
	carver c = { NULL, kf_num_size(m->x->num), 0 };
	size_t left;
	kf_status rc = m->x->ops->memory(m->x, &left, err);

	if (rc != KF_OK)
		return rc;
	left += m->slab_bytes + m->work_bytes;   /* these make room for the new ones */
	m->first_kept = m->arch->L;
	carve_slab(m, &c, T, true);
	carve_work(m, &c, T, true);
	left = left > c.used + SPARE ? left - c.used - SPARE : 0;
	*kept = left / per < (size_t)m->arch->L ? (int)(left / per) : m->arch->L;
	return KF_OK;
}

kf_status kf_model_room(kf_model *m, const kf_batch *b, bool train, kf_err *err)
{
	const carver fresh = { NULL, kf_num_size(m->x->num), 0 };
	carver c = fresh;
	size_t T = (size_t)b->T;
	kf_acts one = { 0 };
	kf_status rc;

	if (train) {
		int kept = m->arch->L;

		carve_acts(&c, m->arch, T, &one);
		if (m->opts.recompute)
			kept = 0;
		else if (m->keep_free && T <= m->most_tokens)
			kept = m->arch->L - m->first_kept;
		else if (m->keep_free && (rc = layers_that_fit(m, T, c.used, &kept, err)) != KF_OK)
			return rc;
		else if (!m->keep_free && m->opts.keep_bytes && m->opts.keep_bytes / c.used < (size_t)kept)
			kept = (int)(m->opts.keep_bytes / c.used);
		m->first_kept = m->arch->L - kept;
		if (T > m->most_tokens)
			m->most_tokens = T;
	}
	c = fresh;
	carve_slab(m, &c, T, train);
	if ((rc = kf_model_grow(m->x, &m->slab, &m->slab_bytes, c.used, err)) != KF_OK)
		return rc;
	c = (carver){ m->slab, fresh.num_size, 0 };
	carve_slab(m, &c, T, train);
	c = fresh;
	carve_work(m, &c, T, train);
	if ((rc = kf_model_grow(m->x, &m->work, &m->work_bytes, c.used, err)) != KF_OK)
		return rc;
	c = (carver){ m->work, fresh.num_size, 0 };
	carve_work(m, &c, T, train);
	return carve_ints(m, T, train, err);
}
