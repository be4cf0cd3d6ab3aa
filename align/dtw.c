/* FuseLLM's alignment (align.h tells it, and how its rows become our positions). */
#include "align/method.h"
#include "common/store/sparse.h"
#include "align/warp.h"

#include <math.h>
#include <string.h>

/* The distinct tokens of a document as words of code points. */
typedef struct {
	align_words words;
	uint32_t *index;   /* (tokens of the document) into words */
} doc_words;

/* Open addressing from a 32-bit key to its number, in order of first appearance. */
typedef struct {
	uint32_t size, n;       /* size: power of two, over twice the keys */
	uint32_t *key, *value;  /* value UINT32_MAX: free */
} numbering;

static bool numbering_init(numbering *t, uint32_t keys, kf_arena *arena)
{
	t->n = 0;
	for (t->size = 16; t->size < 2ull * keys; t->size *= 2) {}
	t->key = KF_ARENA_NEW(arena, uint32_t, t->size);
	t->value = KF_ARENA_NEW(arena, uint32_t, t->size);
	if (!t->key || !t->value) return false;
	memset(t->value, 0xff, t->size * sizeof *t->value);
	return true;
}

static uint32_t number_of(numbering *t, uint32_t key)
{
	uint32_t h = (key * 2654435761u) & (t->size - 1);

	while (t->value[h] != UINT32_MAX && t->key[h] != key) h = (h + 1) & (t->size - 1);
	if (t->value[h] == UINT32_MAX) {
		t->key[h] = key;
		t->value[h] = t->n++;
	}
	return t->value[h];
}

/* Vocabulary spellings are UTF-8; a stray byte counts as a code point of its own. */
static uint32_t code_point(const uint8_t **p)
{
	const uint8_t *s = *p;
	uint32_t c = s[0], n = c >= 0xf0 ? 3 : c >= 0xe0 ? 2 : c >= 0xc0 ? 1 : 0;

	*p = s + 1;
	if (n == 0) return c;
	c &= 0x3fu >> n;
	for (uint32_t i = 1; i <= n; i++) {
		if ((s[i] & 0xc0) != 0x80) return s[0];
		c = c << 6 | (s[i] & 0x3f);
	}
	*p = s + n + 1;
	return c;
}

static kf_status words_of(const kf_tokenizer *t, const int32_t *tokens, uint32_t n, doc_words *out, kf_arena *arena,
	kf_err *err)
{
	numbering ids;
	uint32_t *off, *text = NULL, cap = 0, len = 0, seen = 0;
	char piece[4096];

	out->index = KF_ARENA_NEW(arena, uint32_t, n);
	off = KF_ARENA_NEW(arena, uint32_t, (size_t)n + 1);
	if (!out->index || !off || !numbering_init(&ids, n, arena)) goto nomem;
	for (uint32_t i = 0; i < n; i++) {
		const uint8_t *p = (const uint8_t *)piece;

		out->index[i] = number_of(&ids, (uint32_t)tokens[i]);
		if (out->index[i] < seen) continue;
		if (!align_respell(t, tokens[i], "", piece, sizeof piece))
			return kf_fail(err, KF_EUNSUPPORTED, "token %d is spelled with more than %zu bytes", (int)tokens[i], sizeof piece);
		if (cap - len < strlen(piece)) {
			uint32_t more = 2 * cap + (uint32_t)sizeof piece, *moved = KF_ARENA_NEW(arena, uint32_t, more);

			if (!moved) goto nomem;
			if (len) memcpy(moved, text, len * sizeof *text);
			text = moved;
			cap = more;
		}
		off[seen++] = len;
		while (*p) text[len++] = code_point(&p);
	}
	off[seen] = len;
	out->words = (align_words){ .n = seen, .off = off, .text = text };
	return KF_OK;
nomem:
	return kf_fail(err, KF_ENOMEM, "no memory for the words of a document");
}

/* Code points to small numbers, the same for both. */
static bool renumber(const align_words *a, const align_words *b, uint32_t *symbols, kf_arena *arena)
{
	const align_words *both[2] = { a, b };
	numbering t;

	if (!numbering_init(&t, a->off[a->n] + b->off[b->n], arena)) return false;
	for (int w = 0; w < 2; w++) {
		uint32_t *text = (uint32_t *)both[w]->text; /* words_of's own memory */

		for (uint32_t i = 0; i < both[w]->off[both[w]->n]; i++) text[i] = number_of(&t, text[i]);
	}
	*symbols = t.n;
	return true;
}

static int32_t image(kf_aligner *a, int32_t id, bool last)
{
	int32_t to;

	if (id < 0 || id >= a->vs) return -1;
	to = a->map == KF_ALIGN_EXACT ? a->exact[id] : align_len(a, id) ? align_first(a, id) : -1;
	return to < 0 && last && id == a->src_eos ? a->tgt_eos : to;
}

kf_status align_dtw(kf_aligner *a, const align_path *path, const kf_logits_rec *tgt, kf_arena *arena, align_out *out,
	kf_err *err)
{
	const kf_logits_rec *src = path->rec;
	uint32_t n = src->n, m = tgt->n, at = 0, symbols;
	int32_t *only_a = NULL, *only_b = NULL;
	float *q = KF_ARENA_NEW(arena, float, (size_t)src->k + 1);
	kf_status rc;

	if (!q) goto nomem;
	for (uint32_t p = 0; p < m; p++)
		if (tgt->tokens[p] < 0 || tgt->tokens[p] >= a->vt)
			return kf_fail(err, KF_EDATA, "document %llu of the target logits: token %d is not in the vocabulary",
				(unsigned long long)tgt->head.doc, (int)tgt->tokens[p]);
	if (n > 0 && m > 0) {
		doc_words wa, wb;
		uint16_t *cost;

		if ((rc = words_of(a->src, src->tokens, n, &wa, arena, err)) != KF_OK) return rc;
		if ((rc = words_of(a->tgt, tgt->tokens, m, &wb, arena, err)) != KF_OK) return rc;
		if ((uint64_t)wa.words.n * wb.words.n > ALIGN_WARP_MAX)
			return kf_fail(err, KF_EUNSUPPORTED, "document %llu has too many different tokens to warp: cut documents shorter "
				"(kf-prepare --doc-bytes), or use --method byte", (unsigned long long)tgt->head.doc);
		cost = KF_ARENA_NEW(arena, uint16_t, (size_t)wa.words.n * wb.words.n);
		only_a = KF_ARENA_NEW(arena, int32_t, n);
		only_b = KF_ARENA_NEW(arena, int32_t, m);
		if (!cost || !only_a || !only_b || !renumber(&wa.words, &wb.words, &symbols, arena)) goto nomem;
		if ((rc = align_edit_costs(&wa.words, &wb.words, symbols, cost, arena, err)) != KF_OK) return rc;
		if ((rc = align_warp(wa.index, n, wb.index, m, cost, wb.words.n, only_a, only_b, NULL, arena, err)) != KF_OK)
			return kf_context(err, rc, "document %llu", (unsigned long long)tgt->head.doc);
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
