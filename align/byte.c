/* The byte path's distributions (align.h has the mathematics).
 *
 * Almost every position is one of two cheap cases, both tokens beginning at the same byte with the
 * target's ending no later, or a position inside a source token; the work is one pass over its dozen
 * candidates: probabilities once a source position, one table look-up each, equal ids added up by a short
 * search, insertion sort of what is nearly sorted already. */
#include "align/method.h"
#include "common/store/sparse.h"

#include <math.h>
#include <string.h>

/* A source position's candidates. */
typedef struct {
	uint32_t n;
	int32_t *id;
	float *p;
	int t;          /* which is the source's own token, -1: not among them */
	float pt;       /* its probability, from ce; 0 at the end */
} cands;

/* A position of the target being put together. */
typedef struct {
	uint32_t n;
	int32_t *id;
	float *q;
} bag;

static inline void bag_add(bag *b, int32_t id, float q)
{
	for (uint32_t i = 0; i < b->n; i++) {
		if (b->id[i] == id) {
			b->q[i] += q;
			return;
		}
	}
	b->id[b->n] = id;
	b->q[b->n++] = q;
}

uint32_t align_widest(const kf_logits_rec *r)
{
	uint32_t most = 0;

	if (!r->has_path) return r->k;
	for (uint32_t p = 0; p <= r->n; p++) {
		uint32_t extra = r->extra_off[p + 1] - r->extra_off[p];

		if (extra > most) most = extra;
	}
	return r->k + most;
}

static void load(const kf_aligner *a, const kf_logits_rec *r, uint32_t i, cands *c)
{
	const int32_t *id = r->top_ids + (size_t)i * r->k;
	const float *lp = r->top_lp + (size_t)i * r->k;
	uint32_t n = 0;

	for (uint32_t j = 0; j < r->k; j++) {
		c->id[n] = id[j];
		c->p[n] = expf(lp[j]);
		n += id[j] >= 0 && id[j] < a->vs && c->p[n] > 0;
	}
	if (r->has_path) {
		for (uint32_t j = r->extra_off[i]; j < r->extra_off[i + 1]; j++) {
			c->id[n] = r->extra_ids[j];
			c->p[n] = expf(r->extra_lp[j]);
			n += c->id[n] >= 0 && c->id[n] < a->vs && c->p[n] > 0;
		}
	}
	c->n = n;
	c->t = -1;
	c->pt = 0;
	if (i >= r->n) return;
	c->pt = expf(-r->ce[i]);
	for (uint32_t j = 0; j < n; j++) {
		if (c->id[j] != r->tokens[i]) continue;
		c->t = (int)j;
		c->p[j] = c->pt;
		break;
	}
}

static inline bool begins(const kf_aligner *a, int32_t id, const uint8_t *prefix, uint32_t n)
{
	return align_len(a, id) >= n && memcmp(a->bytes + a->off[id], prefix, n) == 0;
}

uint8_t *align_target_text(const kf_aligner *a, const align_path *path, const kf_logits_rec *tgt, kf_arena *arena)
{
	uint32_t end = path->d + tgt->head.bytes;
	uint8_t *text = kf_arena_alloc(arena, (size_t)end + 1, 1);

	if (!text) return NULL;
	memset(text, 0, (size_t)end + 1);
	if (path->d) text[0] = ' ';
	for (uint32_t i = 0; i < tgt->n; i++) {
		uint32_t n = 0;
		const uint8_t *b = tgt->tokens[i] >= 0 && tgt->tokens[i] < a->vt
			? kf_tokenizer_bytes(a->tgt, tgt->tokens[i], &n) : NULL;

		if (b && n == path->t[i + 1] - path->t[i]) memcpy(text + path->t[i], b, n);
	}
	return text;
}

void align_ce(const align_path *path, align_out *out)
{
	uint32_t i = 0;
	double here, next;

	if (path->tn == 0) return;
	i = align_path_find(path, 0, path->t[0]);
	/* what a lone dummy prefix of the source cost is the first token's */
	here = path->bos ? 0 : align_path_nlp(path, i, path->t[0]);
	for (uint32_t p = 0; p < path->tn; p++) {
		uint32_t was = i;

		i = align_path_find(path, i, path->t[p + 1]);
		next = align_path_nlp(path, i, path->t[p + 1]);
		if (next < here) next = here; /* quantised masses of one token may cross: P never grows */
		out->ce[p] = (was == 0 && !path->bos) || path->n == 0 ? NAN : (float)(next - here);
		here = next;
	}
}

kf_status align_byte(kf_aligner *a, const align_path *path, const kf_logits_rec *tgt, kf_arena *arena, align_out *out,
	kf_err *err)
{
	const kf_logits_rec *src = path->rec;
	uint32_t widest = align_widest(src), at = 0, i = 0, loaded = UINT32_MAX;
	cands c = { .id = KF_ARENA_NEW(arena, int32_t, (size_t)widest + 1), .p = KF_ARENA_NEW(arena, float, (size_t)widest + 1) };
	float *q = KF_ARENA_NEW(arena, float, (size_t)widest + 2);
	uint8_t *text = NULL;

	if (!c.id || !c.p || !q) return kf_fail(err, KF_ENOMEM, "no memory to align a document");
	for (uint32_t p = 0; p <= path->tn; p++) {
		bool last = p == path->tn, opaque = false;
		uint32_t s = path->t[p], e = last ? s : path->t[p + 1], u, v;
		int32_t label = last ? -1 : tgt->tokens[p];
		int virt;              /* 1: the source's token is read with a space in front that it has not */
		int32_t skip, upto;    /* candidates' own bytes before s (-1: and a space in front), before e */
		const uint8_t *pat = NULL;
		double inv;
		bag b = { .id = out->ids + at, .q = q };

		out->off[p] = at;
		out->tail[p] = NAN;
		i = align_path_find(path, i, s);
		if ((i == 0 && !path->bos) || (path->n == 0 && tgt->head.bytes > 0) || (p == 0 && (!tgt->bos || path->tgt_torn))) continue;
		if (i != loaded) {
			load(a, src, i, &c);
			loaded = i;
			if (i == 0 && path->src_torn) c.n = 0, c.t = -1;   /* only its own probability is the text's */
		}
		u = path->s[i];
		v = i < path->n ? path->s[i + 1] : u;
		virt = i == 0 && path->n > 0 && path->d && !path->src_space;
		skip = (int32_t)(s - u) - virt;
		upto = (int32_t)(e - u) - virt;
		inv = s == u ? 1 : exp(align_path_nlp(path, i, s) - path->base[i]);

		if (i < path->n) {
			opaque = align_len(a, src->tokens[i]) != v - u - (uint32_t)virt;
			pat = a->bytes + a->off[src->tokens[i]];
			if (opaque && (skip > 0 || e < v)) {
				if (!text && !(text = align_target_text(a, path, tgt, arena)))
					return kf_fail(err, KF_ENOMEM, "no memory to align a document");
				pat = text + u + virt;
			}
		}

		/* the label's own share, and what is left to t's candidate */
		double add = 0, t_left = (double)c.pt * inv;
		if (!last && e > s && i < path->n) {
			uint32_t ie = align_path_find(path, i, e);
			double r = exp(align_path_nlp(path, i, s) - align_path_nlp(path, ie, e));

			if (r > 1) r = 1;
			if (e < v) {
				double stored = 0;

				for (uint32_t j = 0; j < c.n; j++)
					if (!(opaque && (int)j == c.t) && begins(a, c.id[j], pat, (uint32_t)upto)) stored += c.p[j];
				/* the space of a dummy prefix has no mass of its own to share out */
				add = path->d && e <= path->d ? 0 : r - stored * inv;
				/* of a bound nothing is left but t, when it was not counted */
				if (!src->has_path && add > 0) add = c.t < 0 || opaque ? t_left : 0;
			} else if (e == v) {
				if (c.t < 0 || opaque) add = t_left;
			} else {
				add = r;
				t_left = t_left > r ? t_left - r : 0;
			}
			if (add < 0) add = 0;
		}

		/* a token that does not spell its own bytes speaks of the label only */
		if (opaque) t_left = 0;

		for (uint32_t j = 0; j < c.n; j++) {
			int32_t id = c.id[j], to;
			double m = (int)j == c.t ? t_left : c.p[j] * inv;

			if (skip > 0) {
				if (align_len(a, id) <= (uint32_t)skip || !begins(a, id, pat, (uint32_t)skip)) continue;
				to = align_inner(a, id, (uint32_t)skip);
			} else if (align_len(a, id) == 0) {
				if (!last || id != a->src_eos) continue;
				to = a->tgt_eos;
			} else {
				to = skip == 0 ? align_image(a, id) : align_spaced(a, id);
			}
			if (to >= 0 && m > 0) bag_add(&b, to, m < 1 ? (float)m : 1);
		}
		if (add > 0) bag_add(&b, label, (float)add);

		at += b.n = kf_sparse_settle(b.n, b.id, b.q, label, out->lp + at, &out->tail[p]);
		out->covered += !last && b.n > 0;
	}
	out->off[path->tn + 1] = at;
	return KF_OK;
}

kf_status align_turn_end(kf_aligner *a, const kf_logits_rec *src, uint32_t i, int32_t label, kf_arena *arena, int32_t *id,
	float *lp, float *tail, uint32_t *n, kf_err *err)
{
	uint32_t widest = align_widest(src);
	cands c = { .id = KF_ARENA_NEW(arena, int32_t, (size_t)widest + 1), .p = KF_ARENA_NEW(arena, float, (size_t)widest + 1) };
	bag b = { .id = id, .q = KF_ARENA_NEW(arena, float, (size_t)widest + 2) };
	int32_t end = i < src->n ? src->tokens[i] : a->src_eos;

	if (!c.id || !c.p || !b.q) return kf_fail(err, KF_ENOMEM, "no memory to align a document");
	load(a, src, i, &c);
	for (uint32_t j = 0; j < c.n; j++) {
		int32_t to = c.id[j] == end ? label : align_len(a, c.id[j]) == 0 ? -1 : align_image(a, c.id[j]);

		if (to >= 0) bag_add(&b, to, c.p[j]);
	}
	if (i < src->n && c.t < 0 && c.pt > 0) bag_add(&b, label, c.pt);
	*n = kf_sparse_settle(b.n, b.id, b.q, label, lp, tail);
	return KF_OK;
}
