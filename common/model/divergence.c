#include "common/model/divergence.h"

#include <math.h>
#include <string.h>

#include "common/model/model_impl.h"

enum { TILE = 1024 };

/* Rows [from, from + rows) of a matrix, as one. */
typedef struct { const kf_mat *of; uint64_t from; } slice;

static void unpack_slice(const void *src, const int32_t *index, uint64_t row, uint64_t n, float *out)
{
	const slice *s = src;

	(void)index;   /* a product takes all rows in turn */
	s->of->unpack(s->of->src, NULL, s->from + row, n, out);
}

static kf_status product(const kf_model *m, kf_exec *x, bool int8, float *z, const float *h, int T, int from, int n, kf_err *err)
{
	const kf_mat *head = &m->head->mat;
	const slice s = { head, (uint64_t)from };
	const kf_mat w = { .rows = n, .cols = head->cols, .unpack = unpack_slice, .src = &s, .int8 = int8,
		.num = head->num ? kf_at(x, head->num, (size_t)from * (size_t)head->cols) : NULL };

	return x->ops->linear(x, z, h, &w, NULL, T, false, err);
}

/* Running sums over the vocabulary of one row. */
typedef struct {
	double max_p, max_q, sum_p, sum_q;
	double cross;            /* sum of e^(p - max_p) (p - q) */
	double label_p, label_q;
} sums;

static void take(sums *s, double p, double q)
{
	if (p > s->max_p) {
		const double fix = exp(s->max_p - p);

		s->sum_p *= fix;
		s->cross *= fix;
		s->max_p = p;
	}
	if (q > s->max_q) {
		s->sum_q *= exp(s->max_q - q);
		s->max_q = q;
	}
	s->sum_p += exp(p - s->max_p);
	s->sum_q += exp(q - s->max_q);
	s->cross += exp(p - s->max_p) * (p - q);
}

static float capped(float z, float cap) { return cap > 0 ? cap * tanhf(z / cap) : z; }

static bool kept(const int32_t *ids, int k, int32_t label, int32_t id)
{
	bool found = id == label;

	for (int i = 0; i < k && !found; i++) found = ids[i] == id;
	return found;
}

typedef struct {
	float *hp, *hq, *zp, *zq, *zx;   /* hidden states (T, C); logits of a tile (T, TILE): exact's, other's, other's in float32 */
	float *ce, *lp;
	int32_t *labels, *top;
	sums *row;
} work;

static void release(work *w)
{
	void *const all[] = { w->hp, w->hq, w->zp, w->zq, w->zx, w->ce, w->lp, w->labels, w->top, w->row };

	for (size_t i = 0; i < sizeof all / sizeof *all; i++) kf_free(all[i]);
}

static bool reserve(work *w, size_t T, size_t C, size_t k)
{
	w->hp = kf_alloc(T * C, sizeof(float));
	w->hq = kf_alloc(T * C, sizeof(float));
	w->zp = kf_alloc(T * TILE, sizeof(float));
	w->zq = kf_alloc(T * TILE, sizeof(float));
	w->zx = kf_alloc(T * TILE, sizeof(float));
	w->ce = kf_alloc(T, sizeof(float));
	w->lp = kf_alloc(T * k, sizeof(float));
	w->labels = kf_alloc(T, sizeof(int32_t));
	w->top = kf_alloc(T * k, sizeof(int32_t));
	w->row = kf_alloc(T, sizeof *w->row);
	return w->hp && w->hq && w->zp && w->zq && w->zx && w->ce && w->lp && w->labels && w->top && w->row;
}

kf_status kf_model_divergence(kf_model *exact, const float *hidden, kf_model *other, const kf_batch *b, int k, kf_divergence *out,
	kf_err *err)
{
	const kf_arch *a = exact->arch;
	const int T = b->T;
	work w = { 0 };
	kf_score_query q = { .k = k };
	kf_score answers = { 0 };
	int labels = 0;
	kf_status rc;

	*out = (kf_divergence){ .rows = T };
	if (!reserve(&w, (size_t)T, (size_t)a->C, (size_t)k)) {
		rc = kf_fail(err, KF_ENOMEM, "no memory to compare %d rows", T);
		goto out;
	}
	for (int s = 0; s < b->S; s++)
		for (int t = b->offset[s]; t < b->offset[s + 1]; t++) w.labels[t] = t + 1 < b->offset[s + 1] ? b->tokens[t + 1] : -1;
	for (int t = 0; t < T; t++) w.row[t] = (sums){ .max_p = -INFINITY, .max_q = -INFINITY };
	q.labels = w.labels;
	q.cap = a->logit_cap;
	answers.ce = w.ce;
	answers.top_ids = w.top;
	answers.top_lp = w.lp;
	if (hidden) memcpy(w.hp, hidden, (size_t)T * (size_t)a->C * sizeof *hidden);
	if ((!hidden && (rc = kf_model_hidden(exact, b, w.hp, err)) != KF_OK) || (rc = kf_model_hidden(other, b, w.hq, err)) != KF_OK ||
		(rc = other->x->ops->head_score(other->x, w.hq, &other->head->mat, T, &q, &answers, err)) != KF_OK)
		goto out;
	for (int from = 0; from < a->V; from += TILE) {
		const int n = a->V - from < TILE ? a->V - from : TILE;
		const bool int8 = other->x->compute == KF_COMPUTE_INT8 && other->head->mat.int8;

		if ((rc = product(exact, exact->x, false, w.zp, w.hp, T, from, n, err)) != KF_OK ||
			(rc = product(other, other->x, int8, w.zq, w.hq, T, from, n, err)) != KF_OK ||
			(int8 && (rc = product(exact, exact->x, false, w.zx, w.hq, T, from, n, err)) != KF_OK))
			goto out;
		for (int t = 0; t < T; t++)
			for (int i = 0; i < n; i++) {
				const size_t at = (size_t)t * (size_t)n + (size_t)i;
				const bool again = int8 && kept(w.top + (size_t)t * (size_t)k, k, w.labels[t], from + i);
				const double zp = capped(w.zp[at], a->logit_cap), zq = capped(again ? w.zx[at] : w.zq[at], a->logit_cap);

				take(&w.row[t], zp, zq);
				if (from + i == w.labels[t]) {
					w.row[t].label_p = zp;
					w.row[t].label_q = zq;
				}
			}
	}
	for (int t = 0; t < T; t++) {
		const sums *s = &w.row[t];
		const double lse_p = s->max_p + log(s->sum_p), lse_q = s->max_q + log(s->sum_q);
		const double kl = s->cross / s->sum_p - lse_p + lse_q;

		out->mean += kl / T;
		if (!(kl <= out->worst)) out->worst = kl;
		if (w.labels[t] < 0) continue;
		out->ce += lse_q - s->label_q - lse_p + s->label_p;
		labels++;
	}
	if (labels) out->ce /= labels;
	if (!isfinite(out->mean)) rc = kf_fail(err, KF_EDATA, "the logits are not finite numbers");
out:
	release(&w);
	return rc;
}
