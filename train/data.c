#include "train/data.h"

#include <math.h>
#include <stdlib.h>

#include "common/base/rng.h"

/* ---- micro-batches ------------------------------------------------------------------ */

static kf_status grow(void *p, size_t size, size_t have, size_t need, kf_err *err)
{
	void **old = p;
	void *fresh = kf_alloc(need, size);

	if (!fresh)
		return kf_fail(err, KF_ENOMEM, "no memory for a batch of %zu values", need);
	if (*old)
		memcpy(fresh, *old, have * size);
	kf_free(*old);
	*old = fresh;
	return KF_OK;
}

static kf_status reserve(kf_micro *m, int rows, int seqs, uint32_t cand, kf_err *err)
{
	kf_status rc;

	if (m->T + rows > m->cap_T) {
		size_t T = (size_t)m->T, n = (size_t)(m->T + rows) * 3 / 2;

		if ((rc = grow(&m->tokens, sizeof *m->tokens, T, n, err)) != KF_OK ||
		    (rc = grow(&m->labels, sizeof *m->labels, T, n, err)) != KF_OK ||
		    (rc = grow(&m->weight, sizeof *m->weight, T, n, err)) != KF_OK ||
		    (rc = grow(&m->off, sizeof *m->off, T ? T + 1 : 0, n + 1, err)) != KF_OK)
			return rc;
		m->cap_T = (int)n;
	}
	if (m->S + seqs > m->cap_S) {
		size_t n = (size_t)(m->S + seqs) * 2;

		if ((rc = grow(&m->offset, sizeof *m->offset, m->S ? (size_t)m->S + 1 : 0, n + 1, err)) != KF_OK)
			return rc;
		m->cap_S = (int)n;
	}
	if (!m->ids || cand > m->cap_cand - m->n_cand) {
		size_t n = ((size_t)m->n_cand + cand) * 3 / 2 + 16;

		if (n > UINT32_MAX)
			return kf_fail(err, KF_EINVAL, "a micro-batch of %zu candidates is too large. Use smaller --micro-tokens.", n);
		if ((rc = grow(&m->ids, sizeof *m->ids, m->n_cand, n, err)) != KF_OK ||
		    (rc = grow(&m->q, sizeof *m->q, m->n_cand, n, err)) != KF_OK)
			return rc;
		m->cap_cand = (uint32_t)n;
	}
	return KF_OK;
}

void kf_micro_release(kf_micro *m)
{
	kf_free(m->tokens);
	kf_free(m->offset);
	kf_free(m->labels);
	kf_free(m->ids);
	kf_free(m->off);
	kf_free(m->q);
	kf_free(m->weight);
	*m = (kf_micro){ 0 };
}

static kf_status bad_id(const kf_dist_rec *rec, int32_t id, int V, kf_err *err)
{
	return kf_fail(err, KF_EDATA, "document %llu of the targets has the id %d, which is not in the model's vocabulary of %d",
		(unsigned long long)rec->head.doc, id, V);
}

/* The candidates of position p, as probabilities that sum to 1 at most. */
static kf_status add_candidates(kf_micro *m, const kf_pack *pack, const kf_dist_rec *rec, uint32_t p, kf_err *err)
{
	uint32_t begin = m->n_cand;
	double sum = 0;

	for (uint32_t j = rec->off[p]; j < rec->off[p + 1]; j++) {
		float q = expf(rec->lp[j]);

		if (rec->ids[j] < 0 || rec->ids[j] >= pack->V)
			return bad_id(rec, rec->ids[j], pack->V, err);
		if (!(q > 0))
			continue;
		m->ids[m->n_cand] = rec->ids[j];
		m->q[m->n_cand++] = q;
		sum += q;
	}
	/* Quantised log-probabilities may lift the sum above 1 by a little. */
	if (sum > 1)
		for (uint32_t j = begin; j < m->n_cand; j++)
			m->q[j] = (float)(m->q[j] / sum);
	return KF_OK;
}

kf_status kf_micro_add(kf_micro *m, const kf_pack *pack, const kf_dist_rec *rec, kf_err *err)
{
	uint32_t bos = rec->bos ? 1 : 0, rows = rec->n ? rec->n + bos : 0, all = rec->n + 1;
	kf_status rc;

	if (!rows)
		return KF_OK;
	if (bos && pack->bos < 0)
		return kf_fail(err, KF_EMISMATCH, "document %llu of the targets begins with BOS, but the model's tokenizer adds none",
			(unsigned long long)rec->head.doc);
	if (rec->n > INT32_MAX / 4 - (uint32_t)m->T)
		return kf_fail(err, KF_EINVAL, "document %llu of the targets has %u tokens: too many for a batch",
			(unsigned long long)rec->head.doc, rec->n);
	if ((rc = reserve(m, (int)rows, (int)(rows / (uint32_t)pack->context) + 1,
	     pack->fusion ? rec->off[all] - rec->off[0] : 0, err)) != KF_OK)
		return rc;
	if (m->T == 0) {
		m->off[0] = 0;
		m->offset[0] = 0;
	}
	for (uint32_t r = 0; r < rows; r++) {
		uint32_t p = r + 1 - bos;
		int32_t in = bos && r == 0 ? pack->bos : rec->tokens[r - bos];
		/* context is read, but neither predicted nor trained on */
		int32_t label = p < rec->n && !(rec->context && rec->context[p]) ? rec->tokens[p] : -1;

		if (in < 0 || in >= pack->V)
			return bad_id(rec, in, pack->V, err);
		if (p < rec->n && (rec->tokens[p] < 0 || rec->tokens[p] >= pack->V))
			return bad_id(rec, rec->tokens[p], pack->V, err);
		if (r > 0 && r % (uint32_t)pack->context == 0)
			m->offset[++m->S] = m->T;
		m->tokens[m->T] = in;
		m->labels[m->T] = label;
		m->weight[m->T] = rec->weight ? rec->weight[p] : 1;
		if (pack->fusion && (rc = add_candidates(m, pack, rec, p, err)) != KF_OK)
			return rc;
		m->off[++m->T] = m->n_cand;
	}
	m->offset[++m->S] = m->T;
	return KF_OK;
}

void kf_micro_finish(kf_micro *m)
{
	m->batch = (kf_batch){ .T = m->T, .S = m->S, .tokens = m->tokens, .offset = m->offset };
	m->query = (kf_loss_query){ .labels = m->labels, .off = m->off, .ids = m->ids, .q = m->q, .weight = m->weight,
		.scale = 1 };
}

/* ---- the order of an epoch ------------------------------------------------------------ */

int64_t kf_plan_steps(const kf_docs *d, int64_t batch)
{
	int64_t steps = (int64_t)((d->total + (uint64_t)batch - 1) / (uint64_t)batch), full = 0;

	for (uint64_t i = 0; i < d->n; i++)
		full += d->rows[i] > 0;
	return steps < full ? steps : full;
}

kf_status kf_plan_epoch(kf_plan *plan, const kf_docs *d, int64_t batch, uint64_t seed, int64_t epoch, kf_err *err)
{
	uint64_t done = 0, i = 0;
	int64_t left = 0;            /* documents with rows, not yet taken: every step gets one */
	kf_rng rng;

	plan->steps = kf_plan_steps(d, batch);
	if (!plan->order)
		plan->order = kf_alloc(d->n, sizeof *plan->order);
	if (!plan->first)
		plan->first = kf_alloc((size_t)plan->steps + 1, sizeof *plan->first);
	if (!plan->order || !plan->first)
		return kf_fail(err, KF_ENOMEM, "no memory for the order of %llu documents", (unsigned long long)d->n);
	for (uint64_t j = 0; j < d->n; j++) {
		plan->order[j] = j;
		left += d->rows[j] > 0;
	}
	kf_rng_seed(&rng, seed * 1000003 + (uint64_t)epoch);
	for (uint64_t j = d->n; j > 1; j--) {
		uint64_t k = kf_rng_below(&rng, j), t = plan->order[j - 1];

		plan->order[j - 1] = plan->order[k];
		plan->order[k] = t;
	}
	/* Step s ends with the document that brings it nearest to its share of the epoch. */
	for (int64_t s = 0; s < plan->steps; s++) {
		double end = (double)d->total * (double)(s + 1) / (double)plan->steps;

		uint64_t before = done;

		plan->first[s] = i;
		while (i < d->n) {
			uint32_t rows = d->rows[plan->order[i]];

			if (rows && done > before && (left < plan->steps - s || (double)done + rows / 2.0 > end))
				break;
			done += rows;
			left -= rows > 0;
			i++;
		}
	}
	plan->first[plan->steps] = d->n;
	return KF_OK;
}

void kf_plan_release(kf_plan *plan)
{
	kf_free(plan->order);
	kf_free(plan->first);
	*plan = (kf_plan){ 0 };
}

typedef struct { uint32_t rows, at; } length;

static int longer(const void *pa, const void *pb)
{
	const length *a = pa, *b = pb;

	if (a->rows != b->rows)
		return a->rows > b->rows ? -1 : 1;
	return (a->at > b->at) - (a->at < b->at);
}

kf_status kf_plan_owners(const kf_plan *plan, const kf_docs *d, int64_t step, int n, int32_t *owner, kf_err *err)
{
	const uint64_t first = plan->first[step];
	const size_t docs = (size_t)(plan->first[step + 1] - first);
	length *by = kf_alloc(docs, sizeof *by);
	uint64_t *has = kf_zalloc((size_t)n, sizeof *has);
	kf_status rc = KF_OK;

	if (!by || !has) {
		rc = kf_fail(err, KF_ENOMEM, "no memory to divide the %zu documents of a step", docs);
		goto out;
	}
	for (size_t i = 0; i < docs; i++)
		by[i] = (length){ d->rows[plan->order[first + i]], (uint32_t)i };
	qsort(by, docs, sizeof *by, longer);
	for (size_t i = 0; i < docs; i++) {
		int least = 0;

		for (int p = 1; p < n; p++)
			if (has[p] < has[least])
				least = p;
		owner[by[i].at] = least;
		has[least] += by[i].rows;
	}
out:
	kf_free(by);
	kf_free(has);
	return rc;
}
