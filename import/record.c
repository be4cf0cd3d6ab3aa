#include "import/record.h"

#include <math.h>
#include <stdlib.h>

/* Packed sets are within 1/32 nat, servers round: what is further off is no rounding. */
#define SUM_MOST 1.05
#define SLACK 0.25f

typedef struct { float lp; int32_t id; uint32_t place; } cand;

static int best_first(const void *x, const void *y)
{
	const cand *a = x, *b = y;

	if (a->lp != b->lp) return a->lp < b->lp ? 1 : -1;
	return a->place < b->place ? -1 : a->place > b->place;
}

static int by_id(const void *x, const void *y)
{
	const cand *a = x, *b = y;

	return a->id != b->id ? a->id < b->id ? -1 : 1 : best_first(x, y);
}

static int same_id(const void *x, const void *y)
{
	const cand *a = x, *b = y;

	return a->id < b->id ? -1 : a->id > b->id;
}

typedef struct {
	const import_answer *a;
	const import_match *m;
	const import_names *names;
	uint32_t k;
	cand *room;
	int32_t *ids;
	float *lp, *ce;
	import_count *count;
} filler;

static kf_status bad(const filler *f, uint32_t p, const char *what, double x, kf_err *err)
{
	return kf_fail(err, KF_EDATA, "%s: token %u: %s (%.4g)", f->a->where, f->m->base + p, what, x);
}

/* The candidates of position p, sorted, each once: how many. */
static kf_status gather(const filler *f, uint32_t p, uint32_t *n, kf_err *err)
{
	const import_answer *a = f->a;
	uint32_t row = f->m->base + p, kept = 0, nameless = 0;
	bool sorted = true;
	double sum = 0;

	*n = 0;
	if (row >= a->rows) return KF_OK;
	for (uint32_t j = a->off[row]; j < a->off[row + 1]; j++) {
		float lp = a->cand_lp[j];

		if (!(lp <= 0.01f)) return bad(f, p, "a candidate's log-probability is above 0: is it a logit?", lp, err);
		nameless += a->cand[j] < 0;
		f->count->beyond += a->cand[j] >= kf_tokenizer_size(f->names->t);
		if (a->cand[j] < 0 || isinf(lp)) continue;
		f->room[kept] = (cand){ lp < 0 ? lp : 0, a->cand[j], j };
		sum += exp((double)f->room[kept++].lp);
	}
	f->count->candidates += a->off[row + 1] - a->off[row];
	f->count->nameless += nameless;
	qsort(f->room, kept, sizeof *f->room, by_id);
	for (uint32_t j = 0; j < kept; j++) {
		if (*n && f->room[*n - 1].id == f->room[j].id) { /* two names of one token: the likelier is kept */
			if (!a->named) return bad(f, p, "a candidate comes twice: id", f->room[j].id, err);
			sum -= exp((double)f->room[j].lp);
			continue;
		}
		f->room[(*n)++] = f->room[j];
	}
	if (sum > SUM_MOST) return bad(f, p, "the candidates' probabilities sum above 1", sum, err);
	for (uint32_t j = 1; j < *n; j++) sorted &= best_first(&f->room[j - 1], &f->room[j]) < 0;
	if (!sorted) qsort(f->room, *n, sizeof *f->room, best_first);
	return KF_OK;
}

/* Whether the text's own token is a candidate of no probability, as vLLM has it: gather leaves such out. */
static bool impossible(const filler *f, uint32_t p)
{
	const import_answer *a = f->a;
	const uint32_t row = f->m->base + p;

	for (uint32_t j = row < a->rows ? a->off[row] : 0; row < a->rows && j < a->off[row + 1]; j++)
		if (isinf(a->cand_lp[j]) && a->cand[j] == f->m->ids[p]) return true;
	return false;
}

/* The token's own number: given, or that of the candidate it is. Both must be the same, and what is likelier than the last
 * candidate must be one: this finds lists that are one position off. */
static kf_status own(const filler *f, uint32_t p, uint32_t n, float *out, kf_err *err)
{
	float lp = f->a->lp[f->m->base + p], among = NAN;

	for (uint32_t j = 0; j < n; j++)
		if (f->room[j].id == f->m->ids[p]) among = f->room[j].lp;
	if (isnan(lp)) lp = impossible(f, p) ? -INFINITY : among;
	if (isnan(lp))
		return kf_fail(err, KF_EDATA, "%s: token %u (id %d) has no log-probability", f->a->where, f->m->base + p, (int)f->m->ids[p]);
	if (!(lp <= 0.01f)) return bad(f, p, "its log-probability is above 0: is it a logit?", lp, err);
	if (fabsf(lp - among) > SLACK)
		return kf_fail(err, KF_EDATA, "%s: token %u (id %d) has log-probability %.3f, but %.3f among the candidates of its position: are "
			"the lists one position off?", f->a->where, f->m->base + p, (int)f->m->ids[p], lp, among);
	if (isnan(among) && n > 0 && lp > f->room[n - 1].lp + SLACK && !f->count->nameless)
		return kf_fail(err, KF_EDATA, "%s: token %u (id %d) has log-probability %.3f, but is not among the candidates of its position, the "
			"last of which has %.3f: are the lists one position off?", f->a->where, f->m->base + p, (int)f->m->ids[p], lp, f->room[n - 1].lp);
	*out = isinf(lp) ? 9999 : lp < 0 ? -lp : 0;
	return KF_OK;
}

static kf_status fill(const filler *f, kf_logits_rec *r, kf_err *err)
{
	kf_status rc;

	for (uint32_t p = 0; p <= r->n; p++) {
		int32_t *ids = f->ids + (size_t)p * f->k;
		float *lp = f->lp + (size_t)p * f->k;
		uint32_t n = 0;

		if (kf_predicted(r, p)) {
			if ((rc = gather(f, p, &n, err)) != KF_OK) return rc;
			if (p < r->n && (rc = own(f, p, n, &f->ce[p], err)) != KF_OK) return rc;
			if (n > f->k) n = f->k;
			f->count->positions++;
			f->count->full += n == f->k;
		} else if (p < r->n) {
			f->ce[p] = NAN;
		}
		for (uint32_t j = 0; j < f->k; j++) {
			ids[j] = j < n ? f->room[j].id : kf_predicted(r, p) ? 0 : -1;
			lp[j] = j < n ? f->room[j].lp : -INFINITY;
		}
	}
	return KF_OK;
}

/* Candidates beyond the best k: others than these, and with them no more than there is. */
static kf_status check_extras(const filler *f, const kf_logits_rec *r, kf_arena *arena, kf_err *err)
{
	uint32_t widest = 0;
	cand *extra;

	for (uint32_t p = 0; p <= r->n; p++)
		if (r->extra_off[p + 1] - r->extra_off[p] > widest) widest = r->extra_off[p + 1] - r->extra_off[p];
	if (!(extra = KF_ARENA_NEW(arena, cand, (size_t)widest + 1))) return import_nomem(f->a, err);
	for (uint32_t p = 0; p <= r->n; p++) {
		const int32_t *top = r->top_ids + (size_t)p * r->k;
		const float *lp = r->top_lp + (size_t)p * r->k;
		const uint32_t at = r->extra_off[p], n = r->extra_off[p + 1] - at;
		double sum = 0;

		for (uint32_t e = 0; e < n; e++) {
			extra[e] = (cand){ r->extra_lp[at + e], r->extra_ids[at + e], e };
			sum += exp((double)extra[e].lp);
		}
		qsort(extra, n, sizeof *extra, by_id);
		for (uint32_t e = 1; e < n; e++)
			if (extra[e].id == extra[e - 1].id) return bad(f, p, "an extra candidate comes twice: id", extra[e].id, err);
		for (uint32_t j = 0; j < r->k; j++) {
			const cand best = { .id = top[j] };

			sum += exp((double)lp[j]);
			if (n && lp[j] > -INFINITY && bsearch(&best, extra, n, sizeof best, same_id))
				return bad(f, p, "an extra candidate is among the best: id", top[j], err);
		}
		if (sum > SUM_MOST) return bad(f, p, "the candidates' and extra candidates' probabilities sum above 1", sum, err);
	}
	return KF_OK;
}

/* Whether the model predicts the first token: as it says, or where it has numbers for it. */
static bool has_bos(const import_answer *a, const import_match *m)
{
	uint32_t row = m->base;

	if (a->bos >= 0) return a->bos;
	if (m->base) return true;
	return m->n > 0 ? !isnan(a->lp[row]) || (row < a->rows && a->off[row] < a->off[row + 1]) : row < a->rows && a->off[row] < a->off[row + 1];
}

kf_status import_record(const import_answer *a, const import_names *names, const kf_corpus_rec *doc, uint32_t k, kf_arena *arena,
	kf_logits_rec *out, import_count *count, kf_err *err)
{
	import_match m = { .base = 0 };
	import_count mine = { .documents = 0 };
	filler f = { .a = a, .m = &m, .names = names, .k = k, .count = &mine };
	uint32_t widest = 0;
	kf_status rc;

	if ((rc = import_match_tokens(a, names, doc, arena, &m, err)) != KF_OK) return rc;
	if (((uint64_t)m.n + 1) * k > (1u << 26))
		return kf_fail(err, KF_EUNSUPPORTED, "%s: %u tokens with %u candidates each are too many for one document", a->where, m.n, k);
	for (uint32_t p = 0; p < a->rows; p++)
		if (a->off[p + 1] - a->off[p] > widest) widest = a->off[p + 1] - a->off[p];
	f.room = KF_ARENA_NEW(arena, cand, (size_t)widest + 1);
	f.ids = KF_ARENA_NEW(arena, int32_t, ((size_t)m.n + 1) * k);
	f.lp = KF_ARENA_NEW(arena, float, ((size_t)m.n + 1) * k);
	f.ce = KF_ARENA_NEW(arena, float, (size_t)m.n + 1);
	if (!f.room || !f.ids || !f.lp || !f.ce) return import_nomem(a, err);
	*out = (kf_logits_rec){ .head = doc->head, .bos = has_bos(a, &m), .n = m.n, .k = k, .tokens = m.ids, .start = m.start, .ce = f.ce,
		.top_ids = f.ids, .top_lp = f.lp, .context = a->context };
	if ((rc = fill(&f, out, err)) != KF_OK) return rc;
	if (a->path) {
		if (m.base) return kf_fail(err, KF_EDATA, "%s: with \"path_nlm\" wants \"bos\": true, and tokens without it", a->where);
		for (uint32_t i = 0; i < m.n; i++) {
			uint32_t span = m.start[i + 1] - m.start[i];

			if (a->path_off[i + 1] - a->path_off[i] != (span ? span - 1 : 0))
				return kf_fail(err, KF_EDATA, "%s: token %u has %u bytes, but %u masses in \"path_nlm\"", a->where, i, span,
					a->path_off[i + 1] - a->path_off[i]);
		}
		out->has_path = true;
		out->path_off = a->path_off;
		out->path_nlm = a->path_nlm;
		out->extra_off = a->extra_off;
		out->extra_ids = a->extra_ids;
		out->extra_lp = a->extra_lp;
		if (out->extra_off && (rc = check_extras(&f, out, arena, err)) != KF_OK) return rc;
	}
	mine.documents = 1;
	mine.tokens = m.n;
	if (count) {
		double *to = (double *)count, *from = (double *)&mine;

		for (size_t i = 0; i < sizeof mine / sizeof *to; i++) to[i] += from[i];
	}
	return KF_OK;
}
