#include "fuse/fuse.h"
#include "common/store/sparse.h"

#include <math.h>
#include <string.h>

/* A position put together: candidates found again by a small hash table, whose slots are valid
 * when they carry the position's stamp. */
typedef struct {
	uint32_t n, mask, stamp;
	uint32_t *slot_stamp, *slot;  /* (mask + 1) */
	int32_t *id;
	float *q;
} bag;

static void bag_add(bag *b, int32_t id, float q)
{
	uint32_t h = ((uint32_t)id * 2654435761u >> 7) & b->mask;

	while (b->slot_stamp[h] == b->stamp && b->id[b->slot[h]] != id) h = (h + 1) & b->mask;
	if (b->slot_stamp[h] == b->stamp) {
		b->q[b->slot[h]] += q;
		return;
	}
	b->slot_stamp[h] = b->stamp;
	b->slot[h] = b->n;
	b->id[b->n] = id;
	b->q[b->n++] = q;
}

/* ---- the target's own distribution: stored candidates and the label ---- */

static void add_own(bag *b, const kf_logits_rec *t, uint32_t p, float weight)
{
	int32_t label = p < t->n && isfinite(t->ce[p]) ? t->tokens[p] : -1;
	uint32_t extra = t->has_path ? t->extra_off[p] : 0, extra_end = t->has_path ? t->extra_off[p + 1] : 0;
	const int32_t *id = t->top_ids + (size_t)p * t->k;
	const float *lp = t->top_lp + (size_t)p * t->k;
	double sum = label >= 0 ? exp(-t->ce[p]) : 0;
	float scale;

	/* stored values are quantised: they may sum above 1. The label's is known best from ce. */
	for (uint32_t j = 0; j < t->k; j++) sum += id[j] >= 0 && id[j] != label ? expf(lp[j]) : 0;
	for (uint32_t j = extra; j < extra_end; j++) sum += t->extra_ids[j] != label ? expf(t->extra_lp[j]) : 0;
	scale = weight * (float)(sum > 1 ? 1 / sum : 1);
	if (label >= 0) bag_add(b, label, expf(-t->ce[p]) * scale);
	for (uint32_t j = 0; j < t->k; j++)
		if (id[j] >= 0 && id[j] != label) bag_add(b, id[j], expf(lp[j]) * scale);
	for (uint32_t j = extra; j < extra_end; j++)
		if (t->extra_ids[j] != label) bag_add(b, t->extra_ids[j], expf(t->extra_lp[j]) * scale);
}

static void add_aligned(bag *b, const kf_dist_rec *r, uint32_t p, float weight)
{
	for (uint32_t j = r->off[p]; j < r->off[p + 1]; j++) bag_add(b, r->ids[j], expf(r->lp[j]) * weight);
}

/* ---- weights ---- */

void kf_fuse_weights(const double *x, int n, double *w)
{
	double sum = 0;

	for (int i = 0; i < n; i++) sum += w[i] = exp(exp(-x[i]));   /* at most e */
	for (int i = 0; i < n; i++) w[i] = sum > 0 ? w[i] / sum : 1.0 / n;
}

static int lowest(const double *x, int n)
{
	int best = -1;

	for (int i = 0; i < n; i++)
		if (!isnan(x[i]) && (best < 0 || x[i] < x[best])) best = i;
	return best;
}

/* The weights of n models at one place, of those with can: by x, or, where x does not tell, equal. */
static void choose(kf_fuse_function function, const double *x, const bool *can, int n, double *w)
{
	double y[KF_FUSE_MODELS], v[KF_FUSE_MODELS];
	int at[KF_FUSE_MODELS], m = 0, best;

	for (int i = 0; i < n; i++) {
		w[i] = 0;
		if (!can[i]) continue;
		at[m] = i;
		y[m++] = x[i];
	}
	if (m == 0) return;
	if (function == KF_FUSE_MIN_CE) {
		best = lowest(y, m);
		w[at[best < 0 ? 0 : best]] = 1;
		return;
	}
	kf_fuse_weights(y, m, v);
	for (int i = 0; i < m; i++) w[at[i]] = v[i];
}

/* ---- a document ---- */

typedef struct {
	int n;                              /* models */
	const kf_logits_rec *own;           /* model 0, or NULL */
	const kf_dist_rec *aligned;         /* the others */
} models;

static inline const kf_dist_rec *source(const models *m, int i) { return m->aligned + i - (m->own != NULL); }
static inline const float *ce_of(const models *m, int i) { return m->own && i == 0 ? m->own->ce : source(m, i)->ce; }

static inline bool has_dist(const models *m, int i, uint32_t p)
{
	const kf_dist_rec *r;

	if (m->own && i == 0) return p > 0 || m->own->bos;
	r = source(m, i);
	return r->off[p] < r->off[p + 1];
}

static kf_status check(const kf_logits_rec *t, const kf_dist_rec *r, kf_err *err)
{
	if (r->head.doc != t->head.doc || r->head.piece != t->head.piece || r->head.bytes != t->head.bytes || r->n != t->n ||
	    memcmp(r->start, t->start, ((size_t)t->n + 1) * sizeof *t->start) != 0 ||
	    (t->n > 0 && memcmp(r->tokens, t->tokens, (size_t)t->n * sizeof *t->tokens) != 0))
		return kf_fail(err, KF_EMISMATCH, "document %llu (piece %u) of the aligned set has other tokens than the target's document "
			"%llu (piece %u): it was aligned to another target", (unsigned long long)r->head.doc, r->head.piece,
			(unsigned long long)t->head.doc, t->head.piece);
	return KF_OK;
}

/* CE of every model over the document, on the papers' scale; NAN where there is nothing to compare. */
static kf_status compare(const kf_fuse_how *how, const models *m, const kf_logits_rec *t, double *x, kf_fuse_tally *tally,
	kf_err *err)
{
	for (uint32_t p = 0; p < t->n; p++) {
		bool all = isfinite(t->ce[p]);

		for (int i = 0; i < m->n; i++) all &= isfinite(ce_of(m, i)[p]) != 0;
		if (!all) continue;
		tally->tokens++;
		tally->bytes += t->start[p + 1] - t->start[p];
		tally->target_ce += (double)t->ce[p];
		for (int i = 0; i < m->n; i++) tally->ce[i] += (double)ce_of(m, i)[p];
	}
	for (int i = 0; i < m->n; i++) {
		x[i] = tally->bytes > 0 ? tally->ce[i] / tally->bytes * t->head.bytes / t->n : NAN;
		if (how->metric == KF_FUSE_TOKEN) {
			bool own = m->own && i == 0;
			double n = own ? t->n - !t->bos : source(m, i)->source_tokens, sum = 0;

			if (!own && n == 0 && t->n > 1)
				return kf_fail(err, KF_EMISMATCH, "document %llu of an aligned set does not say how many tokens its source has, which "
					"--metric token needs: run kf-align again", (unsigned long long)t->head.doc);
			for (uint32_t p = 0; p < t->n; p++) sum += isfinite(ce_of(m, i)[p]) ? (double)ce_of(m, i)[p] : 0;
			x[i] = n > 0 ? sum / n : NAN;
		}
	}
	tally->best = lowest(x, m->n);
	return KF_OK;
}

/* Room for the candidates of the fullest position. */
static uint32_t widest(const models *m, uint32_t n)
{
	uint64_t most = 0;

	for (uint32_t p = 0; p <= n; p++) {
		uint64_t all = 0;

		for (int i = 0; i < m->n; i++) {
			if (m->own && i == 0) all += 1 + m->own->k + (m->own->has_path ? m->own->extra_off[p + 1] - m->own->extra_off[p] : 0);
			else all += source(m, i)->off[p + 1] - source(m, i)->off[p];
		}
		if (all > most) most = all;
	}
	return most < 1u << 28 ? (uint32_t)most : 1u << 28;
}

kf_status kf_fuse_doc(const kf_fuse_how *how, const kf_logits_rec *target, const kf_dist_rec *aligned, int n_aligned,
	kf_arena *arena, kf_dist_rec *out, kf_fuse_tally *tally, kf_err *err)
{
	models m = { .n = n_aligned + how->with_target, .own = how->with_target ? target : NULL, .aligned = aligned };
	uint32_t n = target->n, wide, at = 0, *off;
	double x[KF_FUSE_MODELS], here[KF_FUSE_MODELS], w[KF_FUSE_MODELS];
	bool can[KF_FUSE_MODELS];
	int32_t *ids;
	float *lp, *tail, *ce, *weight = NULL;
	bag b = { 0 };
	kf_status rc;

	if (m.n < 1 || m.n > KF_FUSE_MODELS)
		return kf_fail(err, KF_EINVAL, "between 1 and %d models can be fused, not %d", KF_FUSE_MODELS, m.n);
	memset(tally, 0, sizeof *tally);
	tally->models = m.n;
	tally->weight = 1;
	for (int i = 0; i < n_aligned; i++)
		if ((rc = check(target, &aligned[i], err)) != KF_OK) return rc;
	if ((rc = compare(how, &m, target, x, tally, err)) != KF_OK) return rc;

	wide = widest(&m, n);
	if (((uint64_t)n + 1) * (wide + 1) > UINT32_MAX / 4)
		return kf_fail(err, KF_EUNSUPPORTED, "document %llu has too many tokens times candidates to fuse: cut documents shorter "
			"(kf-prepare --doc-bytes)", (unsigned long long)target->head.doc);
	for (b.mask = 15; b.mask < 2 * wide; b.mask = 2 * b.mask + 1) {}
	b.slot = KF_ARENA_NEW(arena, uint32_t, (size_t)b.mask + 1);
	b.slot_stamp = KF_ARENA_NEW(arena, uint32_t, (size_t)b.mask + 1);
	b.q = KF_ARENA_NEW(arena, float, (size_t)wide + 1);
	off = KF_ARENA_NEW(arena, uint32_t, (size_t)n + 2);
	ids = KF_ARENA_NEW(arena, int32_t, ((size_t)n + 1) * (wide + 1));
	lp = KF_ARENA_NEW(arena, float, ((size_t)n + 1) * (wide + 1));
	tail = KF_ARENA_NEW(arena, float, (size_t)n + 1);
	ce = KF_ARENA_NEW(arena, float, (size_t)n + 1);
	if (!b.slot || !b.slot_stamp || !b.q || !off || !ids || !lp || !tail || !ce)
		return kf_fail(err, KF_ENOMEM, "no memory to fuse a document of %u tokens", n);
	memset(b.slot_stamp, 0, ((size_t)b.mask + 1) * sizeof *b.slot_stamp);

	for (uint32_t p = 0; p <= n; p++) {
		bool last = p == n, told = false;
		double mix = 0, known = 0;

		off[p] = at;
		for (int i = 0; i < m.n; i++) {
			can[i] = has_dist(&m, i, p);
			here[i] = last ? NAN : (double)ce_of(&m, i)[p];
			told |= can[i] && !isnan(here[i]);
		}
		/* at token level by this position's ce, where there is one */
		choose(how->function, how->level == KF_FUSE_BY_TOKEN && told ? here : x, can, m.n, w);

		b.id = ids + at;
		b.n = 0;
		b.stamp = p + 1;
		for (int i = 0; i < m.n; i++) {
			if (w[i] <= 0) continue;
			if (m.own && i == 0) add_own(&b, target, p, (float)w[i]);
			else add_aligned(&b, source(&m, i), p, (float)w[i]);
			if (!last) tally->share[i] += w[i];
			if (!isnan(here[i])) {
				mix += w[i] * exp(-here[i]);
				known += w[i];
			}
		}
		at += kf_sparse_settle(b.n, b.id, b.q, last ? -1 : target->tokens[p], lp + at, &tail[p]);
		if (last) continue;
		tally->positions += at > off[p];
		ce[p] = at > off[p] && mix > 0 ? (float)-log(mix / known) : NAN;
		if (isfinite(ce[p]) && ce[p] < 0) ce[p] = 0;
	}
	off[n + 1] = at;

	/* what the mixture knows of the compared bytes */
	for (uint32_t p = 0; p < n; p++) {
		bool all = isfinite(target->ce[p]);

		for (int i = 0; i < m.n; i++) all &= isfinite(ce_of(&m, i)[p]) != 0;
		if (all) tally->fused_ce += isnan(ce[p]) ? (double)target->ce[p] : (double)ce[p];
	}
	if (how->weight == KF_FUSE_WEIGHT_ADVANTAGE) {
		double a = tally->target_ce > 0 ? 1 - tally->fused_ce / tally->target_ce : 0;

		tally->weight = fmin(1, fmax(0, a / how->full));
		if (!(weight = KF_ARENA_NEW(arena, float, (size_t)n + 1))) return kf_fail(err, KF_ENOMEM, "no memory to fuse a document");
		for (uint32_t p = 0; p <= n; p++) weight[p] = (float)tally->weight;
	}
	*out = (kf_dist_rec){ .head = target->head, .bos = target->bos, .n = n, .tokens = target->tokens, .start = target->start,
		.ce = ce, .off = off, .ids = ids, .lp = lp, .tail = tail, .weight = weight };
	return KF_OK;
}
