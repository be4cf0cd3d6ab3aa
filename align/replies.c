/* Conversations: each reply is aligned as a text of its own, which its template's tokens merely stand around.
 *
 * A reply is the tokens in a row that are no context, and the same bytes in source and target. Its records are views of
 * the whole ones: token i of the reply is token first + i, its first position has a distribution (the template was read
 * before it), and bytes count from its first. A token on the border of template and reply begins with a space that is
 * not the reply's just as one with a dummy prefix does. One with more of the template (Mistral's "](" where a reply begins with a bracket) speaks
 * of the label only; where the target has such a token, its position has no distribution. The position that ends the turn is aligned by itself. */
#include "align/method.h"

#include <math.h>
#include <string.h>

typedef align_reply reply;

/* The next reply from position *p on; false when there is none. */
static bool next_reply(const kf_logits_rec *r, uint32_t *p, reply *out)
{
	uint32_t i = *p;

	while (i < r->n && (r->context[i] || kf_ends_turn(r->context, r->start, r->n, i))) i++;
	if (i >= r->n) return false;
	out->first = i;
	while (i < r->n && !r->context[i] && !kf_ends_turn(r->context, r->start, r->n, i)) i++;
	out->end = i;
	out->from = r->start[out->first];
	out->to = r->start[i];
	*p = i;
	/* between the reply and what ends it may stand tokens of the template */
	while (i <= r->n && r->start[i] == out->to && r->context[i]) i++;
	out->last = i <= r->n && r->start[i] == out->to && kf_ends_turn(r->context, r->start, r->n, i) ? i : r->n + 1;
	return true;
}

bool align_next_text(const kf_logits_rec *r, uint32_t *p, align_reply *out)
{
	if (r->context) return next_reply(r, p, out);
	if (*p >= r->n) return false;
	*out = (reply){ .first = 0, .end = r->n, .from = r->start[0], .to = r->start[r->n], .last = r->n };
	*p = r->n;
	return true;
}

/* The record of a reply: views of r's arrays but for the starts. */
static bool view(const kf_logits_rec *r, const reply *x, kf_arena *arena, kf_logits_rec *out)
{
	uint32_t n = x->end - x->first, *start = KF_ARENA_NEW(arena, uint32_t, (size_t)n + 1);

	if (!start) return false;
	for (uint32_t i = 0; i <= n; i++) start[i] = r->start[x->first + i] - x->from;
	*out = *r;
	out->head.bytes = x->to - x->from;
	out->bos = true;
	out->n = n;
	out->tokens = r->tokens + x->first;
	out->start = start;
	out->context = NULL;
	if (r->ce) out->ce = r->ce + x->first;
	if (r->top_ids) out->top_ids = r->top_ids + (size_t)x->first * r->k;
	if (r->top_lp) out->top_lp = r->top_lp + (size_t)x->first * r->k;
	if (r->has_path) {
		out->path_off = r->path_off + x->first;
		out->extra_off = r->extra_off + x->first;
	}
	return true;
}

/* What of the template is in a reply's first token: a space in front, or more. */
static void look_in_front(const kf_tokenizer *t, const kf_logits_rec *r, bool *space, bool *torn)
{
	uint32_t n = 0, span = r->start[r->n > 0] - r->start[0];
	const uint8_t *bytes = r->n && r->tokens[0] >= 0 && r->tokens[0] < kf_tokenizer_size(t)
		? kf_tokenizer_bytes(t, r->tokens[0], &n) : NULL;

	*space = n == span + 1 && bytes[0] == ' ';
	*torn = n > span && !*space;
}

/* One reply, to the target's positions from y->first on; *at counts candidates. */
static kf_status one_reply(kf_aligner *a, const kf_logits_rec *src, const reply *x, const kf_logits_rec *tgt, const reply *y,
	kf_arena *arena, align_out *out, uint32_t *at, kf_err *err)
{
	kf_logits_rec s, t;
	align_path path;
	bool src_space, src_torn, tgt_space, tgt_torn;
	align_out part = { .ids = out->ids + *at, .lp = out->lp + *at, .tail = out->tail + y->first, .ce = out->ce + y->first };
	kf_status rc;

	part.off = KF_ARENA_NEW(arena, uint32_t, (size_t)(y->end - y->first) + 2);
	if (!part.off || !view(src, x, arena, &s) || !view(tgt, y, arena, &t))
		return kf_fail(err, KF_ENOMEM, "no memory to align a reply");
	look_in_front(a->src, &s, &src_space, &src_torn);
	look_in_front(a->tgt, &t, &tgt_space, &tgt_torn);
	if ((rc = align_path_init(&path, a, &s, &t, src_space, tgt_space, arena, err)) != KF_OK) return rc;
	path.src_torn = src_torn;
	path.tgt_torn = tgt_torn;
	if ((rc = align_along(a, &path, &t, arena, &part, err)) != KF_OK) return rc;
	/* what follows the reply's text is the end of the turn's business */
	out->tail[y->end] = NAN;
	for (uint32_t p = 0; p < t.n; p++) out->off[y->first + p] = *at + part.off[p];
	*at += part.off[t.n];
	out->covered += part.covered;
	out->said += part.said;
	return KF_OK;
}

static kf_status end_of_turn(kf_aligner *a, const kf_logits_rec *src, uint32_t i, const kf_logits_rec *tgt, uint32_t p,
	kf_arena *arena, align_out *out, uint32_t *at, kf_err *err)
{
	uint32_t n = 0;
	kf_status rc = align_turn_end(a, src, i, p < tgt->n ? tgt->tokens[p] : a->tgt_eos, arena, out->ids + *at, out->lp + *at,
		&out->tail[p], &n, err);

	if (rc != KF_OK) return rc;
	*at += n;
	if (p < tgt->n) {
		if (i < src->n) {
			out->ce[p] = src->ce[i];
			out->said++;
		}
		out->covered += n > 0;
	}
	return KF_OK;
}

kf_status align_replies(kf_aligner *a, const kf_logits_rec *src, const kf_logits_rec *tgt, kf_arena *arena, align_out *out,
	kf_err *err)
{
	uint32_t at = 0, p = 0, from = 0, i = 0;
	reply x = { .first = 0 }, y;
	bool more = next_reply(src, &i, &x);
	kf_status rc;

	for (uint32_t j = 0; j <= tgt->n; j++) out->tail[j] = out->ce[j] = NAN;
	while (next_reply(tgt, &from, &y)) {
		for (; p <= y.first; p++) out->off[p] = at;
		while (more && x.to < y.to) more = next_reply(src, &i, &x);
		/* replies of other bytes: one of the models does not predict all of it */
		if (more && x.from == y.from && x.to == y.to && (rc = one_reply(a, src, &x, tgt, &y, arena, out, &at, err)) != KF_OK)
			return rc;
		if (!(more && x.from == y.from && x.to == y.to)) {
			for (; p < y.end; p++) out->off[p] = at;
		}
		for (p = y.end; p <= y.last && p <= tgt->n; p++) out->off[p] = at;
		if (y.last <= tgt->n && more && x.to == y.to && x.last <= src->n &&
		    (rc = end_of_turn(a, src, x.last, tgt, y.last, arena, out, &at, err)) != KF_OK)
			return rc;
		from = y.end;
	}
	for (; p <= tgt->n + 1; p++) out->off[p] = at;
	return KF_OK;
}
