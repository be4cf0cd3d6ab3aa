/* The papers' alignments in our positions (align.h tells them). */
#include "align/method.h"
#include "common/store/sparse.h"
#include "align/warp.h"

#include <math.h>
#include <string.h>

kf_status align_check_target(const kf_aligner *a, const kf_logits_rec *tgt, kf_err *err)
{
	for (uint32_t p = 0; p < tgt->n; p++)
		if (tgt->tokens[p] < 0 || tgt->tokens[p] >= a->vt)
			return kf_fail(err, KF_EDATA, "document %llu of the target logits: token %d is not in the vocabulary",
				(unsigned long long)tgt->head.doc, (int)tgt->tokens[p]);
	return KF_OK;
}

kf_status align_partners(const align_lexicon *x, const align_seq *a, const align_seq *b, align_ties ties,
	kf_arena *arena, align_partner *of_a, align_partner *of_b, kf_err *err)
{
	align_pair *pairs;
	uint32_t n = 0;
	kf_status rc;

	for (uint32_t i = 0; of_a && i < a->n; i++) of_a[i] = (align_partner){ 1, 0 };
	for (uint32_t j = 0; j < b->n; j++) of_b[j] = (align_partner){ 1, 0 };
	if (a->n == 0 || b->n == 0) return KF_OK;
	if ((rc = align_warp(x, a, b, ties, arena, &pairs, &n, NULL, err)) != KF_OK) return rc;
	for (uint32_t k = 0; k < n; k++) {
		align_partner *p = of_a ? &of_a[pairs[k].a] : NULL, *q = &of_b[pairs[k].b];

		if (p && p->first > p->last) p->first = pairs[k].b;
		if (p) p->last = pairs[k].b;
		if (q->first > q->last) q->first = pairs[k].a;
		q->last = pairs[k].a;
	}
	return KF_OK;
}

uint32_t align_take(kf_aligner *a, const kf_logits_rec *src, uint32_t from, align_image_of image, bool last,
	int32_t *id, float *q)
{
	const int32_t *ids = src->top_ids + (size_t)from * src->k;
	const float *lp = src->top_lp + (size_t)from * src->k;
	uint32_t kept = 0;

	for (uint32_t j = 0; j < src->k; j++) {
		int32_t to = ids[j] >= 0 && ids[j] < a->vs && lp[j] > -INFINITY ? image(a, ids[j], last) : -1;
		uint32_t w = 0;

		while (w < kept && id[w] != to) w++;
		if (to < 0 || w < kept) continue;
		id[kept] = to;
		q[kept++] = lp[j] < 0 ? expf(lp[j]) : 1;
	}
	return kept;
}

/* ---- which position of the source a target token's next position takes ---- */

/* Through the map; at the end of a text EOS is EOS, which neither edit distance nor the like of it in the other vocabulary knows. */
static int32_t image(kf_aligner *a, int32_t id, bool last)
{
	return last && id == a->src_eos ? a->tgt_eos : align_image(a, id);
}

/* FuseChat's: a token that the target spells alike is that one, whatever the map. */
static int32_t image_chat(kf_aligner *a, int32_t id, bool last)
{
	return a->exact[id] >= 0 && !(last && id == a->src_eos) ? a->exact[id] : image(a, id, last);
}

/* Each other's only partner, and equal: as strings or through the map. */
static int32_t same(kf_aligner *a, const kf_logits_rec *src, const align_partner *of_a, int32_t token,
	align_partner p, uint32_t at)
{
	int32_t id;

	if (p.first != p.last || of_a[p.first].first != at || of_a[p.first].last != at) return -1;
	id = src->tokens[p.first];
	return a->exact[id] == token || image(a, id, false) == token ? (int32_t)p.first : -1;
}

/* Of the partners the one that is equal, else one of which the one's end is the other; the last such, for
 * after it both texts have come to the same place. */
static int32_t ending(const kf_aligner *a, const kf_logits_rec *src, int32_t token, align_partner p)
{
	uint32_t nt, ns;
	const uint32_t *t = align_word(&a->lexicon->b, token, &nt), *s;
	int32_t found = -1;

	for (uint32_t j = p.last + 1; j-- > p.first && p.first <= p.last;) {
		s = align_word(&a->lexicon->a, src->tokens[j], &ns);
		if (ns == 0 || nt == 0 || !(ns < nt ? align_ends(t, nt, s, ns) : align_ends(s, ns, t, nt))) continue;
		if (ns == nt) return (int32_t)j;
		if (found < 0) found = (int32_t)j;
	}
	return found;
}

/* ---- several of the source's tokens that are the target's: their positions mixed ---- */

kf_status kf_aligner_weigh(kf_aligner *a, const align_pairs *counts, kf_err *err)
{
	if (a->method != KF_ALIGN_DTW_CHAT)
		return kf_fail(err, KF_EUSAGE, "--one-to-many is for --method dtw-chat: nothing else takes several of the source's tokens for one");
	if (a->quirks)
		return kf_fail(err, KF_EUSAGE, "--reference-quirks is the published code of August 2024, which takes one position and mixes "
			"none; the one of February multiplies logits, which cannot be told from probabilities");
	a->counts = counts;
	return KF_OK;
}

/* One of the source's tokens, and what the position after it counts. */
typedef struct { uint32_t at; double weight; } piece;

/* The partners that, one after the other, are the token; one that does not go on where those before it ended is passed
 * over. out: room for all partners; returns how many, 0: they are something else. */
static uint32_t pieces_of(const kf_aligner *a, const kf_logits_rec *src, int32_t token, align_partner p, piece *out)
{
	uint32_t nt, ns, done = 0, n = 0;
	const uint32_t *t = align_word(&a->lexicon->b, token, &nt), *s;

	for (uint32_t j = p.first; j <= p.last; j++) {
		s = align_word(&a->lexicon->a, src->tokens[j], &ns);
		if (ns == 0 || ns > nt - done || memcmp(s, t + done, ns * sizeof *s) != 0) continue;
		done += ns;
		out[n++].at = j;
	}
	return nt > 0 && done == nt ? n : 0;
}

/* Softmax over how often each piece is aligned with the token; a position that predicts nothing takes no part. */
static void weigh(const kf_aligner *a, const kf_logits_rec *src, int32_t token, piece *p, uint32_t n)
{
	uint64_t most = 0, count;
	double sum = 0;

	for (uint32_t i = 0; i < n; i++) {
		count = align_pairs_count(a->counts, src->tokens[p[i].at], token);
		most = count > most ? count : most;
	}
	for (uint32_t i = 0; i < n; i++) {
		count = align_pairs_count(a->counts, src->tokens[p[i].at], token);
		p[i].weight = kf_predicted(src, p[i].at + 1) ? exp(-(double)(most - count)) : 0;
		sum += p[i].weight;
	}
	for (uint32_t i = 0; i < n && sum > 0; i++) p[i].weight /= sum;
}

/* The source's positions after the pieces, mixed; else as align_take. id, q: room for n * src->k. */
static uint32_t mix(kf_aligner *a, const kf_logits_rec *src, const piece *p, uint32_t n, bool last, int32_t *id, float *q)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < n; i++) {
		uint32_t before = kept, end;

		if (p[i].weight <= 0) continue;
		end = before + align_take(a, src, p[i].at + 1, image_chat, last, id + before, q + before);
		for (uint32_t j = before; j < end; j++) {
			float part = (float)p[i].weight * q[j];
			int32_t of = id[j];
			uint32_t k = 0;

			while (k < before && id[k] != of) k++;
			if (k < before) q[k] += part;
			else id[kept] = of, q[kept++] = part;
		}
	}
	return kept;
}

kf_status align_dtw(kf_aligner *a, const align_path *path, const kf_logits_rec *tgt, kf_arena *arena,
	align_out *out, kf_err *err)
{
	const kf_logits_rec *src = path->rec;
	bool chat = a->method == KF_ALIGN_DTW_CHAT;
	uint32_t n = src->n, m = tgt->n, at = 0;
	align_partner *of_a = KF_ARENA_NEW(arena, align_partner, (size_t)n + 1);
	align_partner *of_b = KF_ARENA_NEW(arena, align_partner, (size_t)m + 1);
	uint32_t widest = 1, n_parts;
	piece *parts = a->counts ? KF_ARENA_NEW(arena, piece, (size_t)n + 1) : NULL;
	float *q;
	align_seq sa = { .ids = src->tokens, .at = src->start, .n = n },
		sb = { .ids = tgt->tokens, .at = tgt->start, .n = m };
	kf_status rc;

	if (!of_a || !of_b || (a->counts && !parts)) return kf_fail(err, KF_ENOMEM, "no memory to align a document");
	if ((rc = align_check_target(a, tgt, err)) != KF_OK) return rc;
	rc = align_partners(a->lexicon, &sa, &sb, chat ? ALIGN_LEFT_FIRST : ALIGN_UP_FIRST, arena, of_a, of_b, err);
	if (rc != KF_OK) return kf_context(err, rc, "document %llu", (unsigned long long)tgt->head.doc);
	for (uint32_t j = 0; a->counts && j < m; j++)
		if (of_b[j].first <= of_b[j].last && of_b[j].last - of_b[j].first >= widest) widest = of_b[j].last - of_b[j].first + 1;
	if (!(q = KF_ARENA_NEW(arena, float, (size_t)src->k * widest + 1)))
		return kf_fail(err, KF_ENOMEM, "no memory to align a document");

	for (uint32_t p = 0; p <= m; p++) {
		bool last = p == m;
		int32_t label = last ? -1 : tgt->tokens[p], from = -1;
		int32_t *id = out->ids + at;
		uint32_t kept = 0;

		out->off[p] = at;
		out->tail[p] = NAN;
		if (!kf_predicted(tgt, p)) continue;
		if (p > 0 && n > 0)
			from = chat ? ending(a, src, tgt->tokens[p - 1], of_b[p - 1])
				: same(a, src, of_a, tgt->tokens[p - 1], of_b[p - 1], p - 1);
		if (a->counts && p > 0 && (n_parts = pieces_of(a, src, tgt->tokens[p - 1], of_b[p - 1], parts)) > 1) {
			weigh(a, src, tgt->tokens[p - 1], parts, n_parts);
			kept = mix(a, src, parts, n_parts, last, id, q);
		} else {
			if (from >= 0 || (p == 0 && !path->src_torn && !path->tgt_torn)) from++;
			if (from >= 0 && kf_predicted(src, (uint32_t)from))
				kept = align_take(a, src, (uint32_t)from, chat ? image_chat : image, last, id, q);
		}
		if (kept > 0) kept = kf_sparse_settle(kept, id, q, label, out->lp + at, &out->tail[p]);
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
}
