/* One document: what its models are worth, position by position, and their mixture. */
#include "fuse/fuse.h"
#include "common/store/sparse.h"
#include "fuse/bag.h"
#include "fuse/tail.h"

#include <math.h>
#include <string.h>

/* ---- weights ---- */

static int lowest(const double *x, int n)
{
	int best = -1;

	for (int i = 0; i < n; i++)
		if (!isnan(x[i]) && (best < 0 || x[i] < x[best])) best = i;
	return best;
}

/* The weights of m models at one place, of those with can: by x, or, where x does not tell, equal. */
static void choose(const kf_fuse_how *how, const double *x, const bool *can, int m, double *w)
{
	double y[KF_FUSE_MODELS], v[KF_FUSE_MODELS];
	int at[KF_FUSE_MODELS], n = 0, best;

	for (int i = 0; i < m; i++) {
		w[i] = 0;
		if (!can[i]) continue;
		at[n] = i;
		y[n++] = x[i];
	}
	if (n == 0) return;
	if (how->function == KF_FUSE_MIN_CE) {
		best = lowest(y, n);
		w[at[best < 0 ? 0 : best]] = 1;
		return;
	}
	kf_fuse_weights(y, n, how->reward_temperature > 0 ? how->reward_temperature : 1, v);
	for (int i = 0; i < n; i++) w[at[i]] = v[i];
}

/* Given weights, of those with can: all 0 where theirs are. */
static void restrict_to(const double *given, const bool *can, int m, double *w)
{
	double sum = 0;

	for (int i = 0; i < m; i++) sum += w[i] = can[i] ? given[i] : 0;
	for (int i = 0; i < m; i++) w[i] = sum > 0 ? w[i] / sum : 0;
}

/* ---- a document ---- */

typedef struct {
	int n;                              /* models */
	const kf_logits_rec *own;           /* model 0, or NULL */
	const kf_dist_rec *aligned;         /* the others */
} models;

static inline const kf_dist_rec *source(const models *m, int i) { return m->aligned + i - (m->own != NULL); }
static inline const float *ce_of(const models *m, int i)
{
	return m->own && i == 0 ? m->own->ce : source(m, i)->ce;
}

static inline bool has_dist(const models *m, int i, uint32_t p)
{
	const kf_dist_rec *r;

	/* an imported one may have nothing at the end of the text: a first candidate of no probability */
	if (m->own && i == 0) return kf_predicted(m->own, p) && isfinite(m->own->top_lp[(size_t)p * m->own->k]);
	r = source(m, i);
	return r->off[p] < r->off[p + 1];
}

static kf_status check(const kf_logits_rec *t, const kf_dist_rec *r, kf_err *err)
{
	if (r->head.doc != t->head.doc || r->head.piece != t->head.piece || r->head.bytes != t->head.bytes ||
		r->n != t->n || memcmp(r->start, t->start, ((size_t)t->n + 1) * sizeof *t->start) != 0 ||
		(t->n > 0 && memcmp(r->tokens, t->tokens, (size_t)t->n * sizeof *t->tokens) != 0))
		return kf_fail(err, KF_EMISMATCH,
			"document %llu (piece %u) of the aligned set has other tokens than the target's document "
			"%llu (piece %u): it was aligned to another target",
			(unsigned long long)r->head.doc, r->head.piece, (unsigned long long)t->head.doc, t->head.piece);
	return KF_OK;
}

/* Every model's ce at p, NAN where it has none; whether all have one, the target in any case. The end of a turn is none of
 * the bytes that models are compared on: how one ends it is its template's habit. */
static bool compared(const models *m, const kf_logits_rec *t, uint32_t p, double *here)
{
	bool all = p < t->n && isfinite(t->ce[p]) && !kf_ends_turn(t->context, t->start, t->n, p);

	for (int i = 0; i < m->n; i++) {
		here[i] = p < t->n ? (double)ce_of(m, i)[p] : NAN;
		all &= isfinite(here[i]) != 0;
	}
	return all;
}

/* CE of every model over the document, on the papers' scale; NAN where there is nothing to compare. */
static kf_status compare(const kf_fuse_how *how, const models *m, const kf_logits_rec *t, double *x,
	kf_fuse_tally *tally, kf_err *err)
{
	double here[KF_FUSE_MODELS], bytes = 0, tokens = 0;

	for (uint32_t p = 0; p < t->n; p++) {
		if (!t->context || !t->context[p]) {
			bytes += t->start[p + 1] - t->start[p];
			tokens++;
		}
		if (!compared(m, t, p, here)) continue;
		tally->tokens++;
		tally->bytes += t->start[p + 1] - t->start[p];
		tally->target_ce += (double)t->ce[p];
		tally->equal_ce += kf_fuse_mixture_ce(here, NULL, m->n);
		for (int i = 0; i < m->n; i++) tally->ce[i] += here[i];
	}
	for (int i = 0; i < m->n; i++) {
		x[i] = tally->bytes > 0 ? tally->ce[i] / tally->bytes * bytes / tokens : NAN;
		if (how->metric == KF_FUSE_TOKEN) {
			bool own = m->own && i == 0;
			double n = own ? 0 : source(m, i)->source_tokens, sum = 0;
			uint32_t positions = 0;

			for (uint32_t p = 0; p < t->n; p++) {
				if (!isfinite(ce_of(m, i)[p])) continue;
				sum += (double)ce_of(m, i)[p];
				positions++;
			}
			if (own) n = positions;
			else if (n == 0 && positions > 0)   /* a source that predicts nothing of a document has none either */
				return kf_fail(err, KF_EMISMATCH,
					"document %llu of an aligned set does not say how many tokens its source has, which "
					"--metric token needs: run kf-align again",
					(unsigned long long)t->head.doc);
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
			if (m->own && i == 0)
				all += 1 + m->own->k + (m->own->has_path ? m->own->extra_off[p + 1] - m->own->extra_off[p] : 0);
			else all += source(m, i)->off[p + 1] - source(m, i)->off[p];
		}
		if (all > most) most = all;
	}
	return most < 1u << 28 ? (uint32_t)most : 1u << 28;
}

/* What the weights of a position come from. */
typedef struct {
	double x[KF_FUSE_MODELS];      /* CE of the document: min-ce, avg-ce */
	const double *given;           /* domain */
	kf_fuse_dynamic dynamic;
	double fitted[KF_FUSE_MODELS]; /* document */
} basis;

/* Every model's ce of the labels that all have one of: a row of m each. Returns how many numbers. */
static size_t put_labels(const models *m, const kf_logits_rec *t, float *ce)
{
	double here[KF_FUSE_MODELS];
	size_t at = 0;

	for (uint32_t p = 0; p < t->n; p++) {
		if (!compared(m, t, p, here)) continue;
		for (int i = 0; i < m->n; i++) ce[at++] = (float)here[i];
	}
	return at;
}

/* The weights of highest likelihood, with a label more for each model that it alone knows. labels: how many are compared. */
static kf_status fit_document(const models *m, const kf_logits_rec *t, size_t labels, double *w, kf_err *err)
{
	const size_t n = (size_t)m->n;
	float *ce = kf_alloc((labels + n) * n, sizeof *ce);
	double gap;
	kf_status rc;

	if (!ce) return kf_fail(err, KF_ENOMEM, "no memory to fit weights to a document of %u tokens", t->n);
	for (size_t at = put_labels(m, t, ce), i = 0; i < n * n; i++) ce[at + i] = i % n == i / n ? 0 : KF_FUSE_NOTHING;
	rc = kf_fuse_fit(ce, labels + n, m->n, w, &gap, err);
	kf_free(ce);
	return rc;
}

static kf_status basis_begin(basis *b, const kf_fuse_how *how, const kf_logits_rec *t, const models *m, size_t labels, kf_err *err)
{
	if (how->function == KF_FUSE_DOMAIN && !how->table)
		return kf_fail(err, KF_EINVAL, "mixing by domain needs weights by domain");
	b->given = how->table ? kf_fuse_table_weights(how->table, t->head.domain) : NULL;
	if (how->table && !b->given && how->function >= KF_FUSE_DOMAIN)
		return kf_fail(err, KF_EMISMATCH,
			"there are no weights for domain \"%s\" of document %llu, nor for \"all\"", t->head.domain,
			(unsigned long long)t->head.doc);
	if (how->function == KF_FUSE_DYNAMIC) kf_fuse_dynamic_begin(&b->dynamic, m->n, b->given, how->follow);
	return how->function == KF_FUSE_DOCUMENT ? fit_document(m, t, labels, b->fitted, err) : KF_OK;
}

static void weigh(const basis *b, const kf_fuse_how *how, const models *m, uint32_t p, const double *here,
	double *w)
{
	bool can[KF_FUSE_MODELS], told = false;

	for (int i = 0; i < m->n; i++) {
		can[i] = has_dist(m, i, p);
		told |= can[i] && !isnan(here[i]);
	}
	switch (how->function) {
	case KF_FUSE_DOMAIN:
		restrict_to(b->given, can, m->n, w);
		break;
	case KF_FUSE_DYNAMIC:
		restrict_to(b->dynamic.w, can, m->n, w);
		break;
	case KF_FUSE_DOCUMENT:
		restrict_to(b->fitted, can, m->n, w);
		break;
	default:     /* at token level by this position's ce, where there is one */
		choose(how, how->level == KF_FUSE_BY_TOKEN && told ? here : b->x, can, m->n, w);
	}
}

/* ---- the fused record's weights ---- */

static double advantage(double target, double fused) { return target > 0 ? 1 - fused / target : 0; }
static double share_of(const kf_fuse_how *how, double a) { return fmin(1, fmax(0, a / how->full)); }

/* by what the document's earlier positions tell; the first ones are left to CLM */
static void by_position(const kf_fuse_how *how, const kf_logits_rec *t, const double *mixture, float *weight)
{
	double target = KF_FUSE_ADVANTAGE_NATS, fused = target;

	for (uint32_t p = 0; p <= t->n; p++) {
		weight[p] = (float)share_of(how, advantage(target, fused));
		if (p == t->n || isnan(mixture[p])) continue;
		target = KF_FUSE_ADVANTAGE_MEMORY * target + (double)t->ce[p];
		fused = KF_FUSE_ADVANTAGE_MEMORY * fused + mixture[p];
	}
}

static kf_status put_weights(const kf_fuse_how *how, const kf_logits_rec *t, const double *mixture,
	float *weight, kf_fuse_tally *tally, kf_err *err)
{
	const double *known;
	double fused = 0, a, sum = 0, n = 0;

	for (uint32_t p = 0; p < t->n; p++) fused += isnan(mixture[p]) ? 0 : mixture[p];
	a = advantage(tally->target_ce, fused);
	if (how->weight == KF_FUSE_WEIGHT_DOMAIN) {
		if (!how->table || !(known = kf_fuse_table_advantage(how->table, t->head.domain)))
			return kf_fail(err, KF_EMISMATCH,
				"there is no advantage of domain \"%s\" of document %llu, nor of \"all\", in the weights",
				t->head.domain, (unsigned long long)t->head.doc);
		a = *known;
	}
	for (uint32_t p = 0; p <= t->n; p++) weight[p] = (float)share_of(how, a);
	if (how->weight == KF_FUSE_WEIGHT_POSITION) by_position(how, t, mixture, weight);
	for (uint32_t p = 0; p <= t->n; p++) {
		if (t->context && t->context[p]) continue;
		sum += (double)weight[p];
		n++;
	}
	tally->weight = n > 0 ? sum / n : 1;
	return KF_OK;
}

/* ---- a document's fusion ---- */

static void calibrate(kf_fuse_tail *outside, const kf_logits_rec *t, uint32_t p, const int32_t *ids, float *lp, uint32_t n, float *tail)
{
	kf_fuse_tail before = *outside;
	uint32_t label = 0;

	if (p < t->n && !(t->context && t->context[p])) {
		while (label < n && ids[label] != t->tokens[p]) label++;
		kf_fuse_tail_see(outside, lp, n, (double)*tail, label);
	}
	kf_fuse_tail_scale(&before, lp, n, tail);
}

static kf_status models_of(models *m, bool with_target, const kf_logits_rec *target, const kf_dist_rec *aligned,
	int n_aligned, kf_err *err)
{
	kf_status rc;

	*m = (models){ .n = n_aligned + with_target, .own = with_target ? target : NULL, .aligned = aligned };
	if (m->n < 1 || m->n > KF_FUSE_MODELS)
		return kf_fail(err, KF_EINVAL, "between 1 and %d models can be fused, not %d", KF_FUSE_MODELS, m->n);
	for (int i = 0; i < n_aligned; i++)
		if ((rc = check(target, &aligned[i], err)) != KF_OK) return rc;
	return KF_OK;
}

kf_status kf_fuse_doc(const kf_fuse_how *how, const kf_logits_rec *target, const kf_dist_rec *aligned,
	int n_aligned, kf_arena *arena, kf_dist_rec *out, kf_fuse_tally *tally, kf_err *err)
{
	return kf_fuse_doc_shares(how, target, aligned, n_aligned, arena, out, tally, NULL, err);
}

kf_status kf_fuse_doc_shares(const kf_fuse_how *how, const kf_logits_rec *target, const kf_dist_rec *aligned,
	int n_aligned, kf_arena *arena, kf_dist_rec *out, kf_fuse_tally *tally, double *share, kf_err *err)
{
	models m;
	basis base = { .given = NULL };
	kf_fuse_tail outside = kf_fuse_tail_begin();
	uint32_t n = target->n, wide, at = 0, kept, *off;
	double here[KF_FUSE_MODELS], w[KF_FUSE_MODELS], *mixture;
	/* weights at token level look at the label: what they make of it is no measure of what is known before it */
	bool sees = how->level == KF_FUSE_BY_TOKEN && how->function < KF_FUSE_DOMAIN;
	int32_t *ids;
	float *lp, *tail, *ce, *weight = NULL;
	kf_bag b;
	kf_status rc;

	memset(tally, 0, sizeof *tally);
	if ((rc = models_of(&m, how->with_target, target, aligned, n_aligned, err)) != KF_OK) return rc;
	tally->models = m.n;
	tally->weight = 1;
	if ((rc = compare(how, &m, target, base.x, tally, err)) != KF_OK) return rc;
	if ((rc = basis_begin(&base, how, target, &m, (size_t)tally->tokens, err)) != KF_OK) return rc;

	wide = widest(&m, n);
	if (((uint64_t)n + 1) * (wide + 1) > UINT32_MAX / 4)
		return kf_fail(err, KF_EUNSUPPORTED,
			"document %llu has too many tokens times candidates to fuse: cut documents shorter "
			"(kf-prepare --doc-bytes)", (unsigned long long)target->head.doc);
	off = KF_ARENA_NEW(arena, uint32_t, (size_t)n + 2);
	ids = KF_ARENA_NEW(arena, int32_t, ((size_t)n + 1) * (wide + 1));
	lp = KF_ARENA_NEW(arena, float, ((size_t)n + 1) * (wide + 1));
	tail = KF_ARENA_NEW(arena, float, (size_t)n + 1);
	ce = KF_ARENA_NEW(arena, float, (size_t)n + 1);
	mixture = KF_ARENA_NEW(arena, double, (size_t)n + 1);
	if (how->weight != KF_FUSE_WEIGHT_NONE) weight = KF_ARENA_NEW(arena, float, (size_t)n + 1);
	if (!kf_bag_init(&b, wide, arena) || !off || !ids || !lp || !tail || !ce || !mixture ||
	    (how->weight != KF_FUSE_WEIGHT_NONE && !weight))
		return kf_fail(err, KF_ENOMEM, "no memory to fuse a document of %u tokens", n);

	for (uint32_t p = 0; p <= n; p++) {
		bool last = p == n, all = compared(&m, target, p, here);

		off[p] = at;
		weigh(&base, how, &m, p, here, w);
		if (share) memcpy(share + (size_t)p * (size_t)m.n, w, (size_t)m.n * sizeof *w);
		kf_bag_begin(&b, p, ids + at);
		for (int i = 0; i < m.n; i++) {
			if (w[i] <= 0) continue;
			if (m.own && i == 0) kf_bag_add_own(&b, target, p, w[i], how->tails == KF_FUSE_TAIL_RENORMALIZE);
			else kf_bag_add_aligned(&b, source(&m, i), p, w[i], how->tails == KF_FUSE_TAIL_RENORMALIZE);
			if (!last) tally->share[i] += w[i];
		}
		kept = kf_sparse_settle(b.n, b.id, b.q, last ? -1 : target->tokens[p], lp + at, &tail[p]);
		if (how->tails == KF_FUSE_TAIL_CALIBRATED) calibrate(&outside, target, p, ids + at, lp + at, kept, &tail[p]);
		at += kept;
		if (last) continue;
		tally->positions += at > off[p];
		ce[p] = at > off[p] ? (float)kf_fuse_mixture_ce(here, w, m.n) : NAN;
		if (isfinite(ce[p]) && ce[p] < 0) ce[p] = 0;
		mixture[p] = NAN;
		if (!all) continue;
		/* what the mixture knows of the compared bytes */
		mixture[p] = isnan(ce[p]) ? (double)target->ce[p] : (double)ce[p];
		tally->fused_ce += mixture[p];
		if (sees) mixture[p] = kf_fuse_mixture_ce(here, NULL, m.n);
		if (how->function == KF_FUSE_DYNAMIC) kf_fuse_dynamic_see(&base.dynamic, here);
	}
	off[n + 1] = at;
	if (weight && (rc = put_weights(how, target, mixture, weight, tally, err)) != KF_OK) return rc;
	*out = (kf_dist_rec){ .head = target->head, .bos = target->bos, .n = n, .tokens = target->tokens,
		.start = target->start, .ce = ce, .off = off, .ids = ids, .lp = lp, .tail = tail, .weight = weight,
		.context = target->context };
	return KF_OK;
}

kf_status kf_fuse_labels(bool with_target, const kf_logits_rec *target, const kf_dist_rec *aligned,
	int n_aligned, float *ce, kf_fuse_tally *tally, kf_err *err)
{
	const kf_fuse_how how = { .with_target = with_target };
	double x[KF_FUSE_MODELS];
	models m;
	kf_status rc;

	memset(tally, 0, sizeof *tally);
	if ((rc = models_of(&m, with_target, target, aligned, n_aligned, err)) != KF_OK) return rc;
	tally->models = m.n;
	if ((rc = compare(&how, &m, target, x, tally, err)) != KF_OK) return rc;
	put_labels(&m, target, ce);
	return KF_OK;
}
