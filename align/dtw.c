/* FuseLLM's alignment (align.h tells it, and how its rows become our positions). */
#include "align/method.h"
#include "common/store/sparse.h"
#include "align/warp.h"

#include <math.h>
#include <string.h>

/* The one partner of each token, -1 where it has several. */
static void only_partners(const align_pair *pairs, uint32_t n_pairs, uint32_t n, int32_t *only_a, uint32_t m, int32_t *only_b)
{
	for (uint32_t i = 0; i < n; i++) only_a[i] = -2;
	for (uint32_t j = 0; j < m; j++) only_b[j] = -2;
	for (uint32_t k = 0; k < n_pairs; k++) {
		int32_t *x = &only_a[pairs[k].a], *y = &only_b[pairs[k].b];

		*x = *x == -2 ? (int32_t)pairs[k].b : -1;
		*y = *y == -2 ? (int32_t)pairs[k].a : -1;
	}
}

static int32_t image(kf_aligner *a, int32_t id, bool last)
{
	if (id < 0 || id >= a->vs) return -1;
	/* what edit distance finds for the end of a text is not what is meant by it */
	if (last && id == a->src_eos) return a->image && a->exact[id] >= 0 ? a->exact[id] : a->tgt_eos;
	return align_image(a, id);
}

kf_status align_dtw(kf_aligner *a, const align_path *path, const kf_logits_rec *tgt, kf_arena *arena, align_out *out,
	kf_err *err)
{
	const kf_logits_rec *src = path->rec;
	uint32_t n = src->n, m = tgt->n, at = 0;
	int32_t *only_a = KF_ARENA_NEW(arena, int32_t, (size_t)n + 1), *only_b = KF_ARENA_NEW(arena, int32_t, (size_t)m + 1);
	float *q = KF_ARENA_NEW(arena, float, (size_t)src->k + 1);
	kf_status rc;

	if (!only_a || !only_b || !q) goto nomem;
	for (uint32_t p = 0; p < m; p++)
		if (tgt->tokens[p] < 0 || tgt->tokens[p] >= a->vt)
			return kf_fail(err, KF_EDATA, "document %llu of the target logits: token %d is not in the vocabulary",
				(unsigned long long)tgt->head.doc, (int)tgt->tokens[p]);
	if (n > 0 && m > 0) {
		align_seq sa = { .ids = src->tokens, .at = src->start, .n = n }, sb = { .ids = tgt->tokens, .at = tgt->start, .n = m };
		align_pair *pairs;
		uint32_t n_pairs;

		if ((rc = align_warp(a->lexicon, &sa, &sb, ALIGN_UP_FIRST, arena, &pairs, &n_pairs, NULL, err)) != KF_OK)
			return kf_context(err, rc, "document %llu", (unsigned long long)tgt->head.doc);
		only_partners(pairs, n_pairs, n, only_a, m, only_b);
	}

	for (uint32_t p = 0; p <= m; p++) {
		bool last = p == m;
		int32_t label = last ? -1 : tgt->tokens[p], from = -1;
		int32_t *id = out->ids + at;
		uint32_t kept = 0;

		out->off[p] = at;
		out->tail[p] = NAN;
		if (p == 0) {
			if (!tgt->bos) continue;
			if (src->bos) from = 0;
		} else if (n > 0 && only_b[p - 1] >= 0 && only_a[only_b[p - 1]] >= 0) {
			int32_t j = only_b[p - 1], st = src->tokens[j], tt = tgt->tokens[p - 1];

			if (a->exact[st] == tt || image(a, st, false) == tt) from = j + 1;
		}
		if (from >= 0) {
			const int32_t *ids = src->top_ids + (size_t)from * src->k;
			const float *lp = src->top_lp + (size_t)from * src->k;

			for (uint32_t j = 0; j < src->k; j++) {
				int32_t to = image(a, ids[j], last);
				uint32_t w = 0;

				while (w < kept && id[w] != to) w++;
				if (to < 0 || w < kept) continue;
				id[kept] = to;
				q[kept++] = expf(lp[j]);
			}
			kept = kf_sparse_settle(kept, id, q, label, out->lp + at, &out->tail[p]);
		}
		if (kept > 0) {
			out->covered += !last;
		} else if (!last) {
			id[0] = label;
			out->lp[at] = 0;
			out->tail[p] = 0;
			kept = 1;
		}
		at += kept;
	}
	out->off[m + 1] = at;
	return KF_OK;
nomem:
	return kf_fail(err, KF_ENOMEM, "no memory to align a document");
}
