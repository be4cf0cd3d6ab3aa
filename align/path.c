#include "align/path.h"

#include <math.h>

static kf_status bad(const kf_logits_rec *r, const char *whose, const char *what, kf_err *err)
{
	return kf_fail(err, KF_EDATA, "document %llu of the %s logits: %s", (unsigned long long)r->head.doc, whose, what);
}

static kf_status check_starts(const kf_logits_rec *r, const char *whose, kf_err *err)
{
	/* of a text without tokens (another fold's, or nothing that its tokenizer keeps) there is nothing to be said of */
	bool ok = r->n == 0 || (r->start[0] == 0 && r->start[r->n] == r->head.bytes);

	for (uint32_t i = 0; i < r->n; i++) ok &= r->start[i] <= r->start[i + 1];
	if (!ok) return bad(r, whose, "token starts do not run from 0 to the length of the text", err);
	return KF_OK;
}

static kf_status check_source(const kf_aligner *a, const kf_logits_rec *r, kf_err *err)
{
	bool ok = true;

	for (uint32_t i = 0; i < r->n; i++) {
		ok &= (isfinite(r->ce[i]) && r->ce[i] >= 0) || !kf_predicted(r, i);
		ok &= r->tokens[i] >= 0 && r->tokens[i] < a->vs;
	}
	if (!ok) return bad(r, "source", "a cross-entropy is not a number of nats, or a token is not in the vocabulary", err);
	if (!r->has_path) return KF_OK;
	if (r->path_off[0] != 0) return bad(r, "source", "path masses do not begin at 0", err);
	for (uint32_t i = 0; i < r->n; i++) {
		uint32_t len = r->start[i + 1] - r->start[i];

		if (r->path_off[i + 1] - r->path_off[i] != (len ? len - 1 : 0))
			return bad(r, "source", "path masses do not match the tokens' bytes", err);
	}
	for (uint32_t i = 0; i < r->n; i++)
		/* there are none inside a token that is not predicted, whatever stands there */
		for (uint32_t x = r->path_off[i]; x < r->path_off[i + 1] && kf_predicted(r, i); x++)
			if (isnan(r->path_nlm[x])) return bad(r, "source", "a path mass is not a number", err);
	ok = r->extra_off[0] == 0;
	for (uint32_t i = 0; i <= r->n; i++) ok &= r->extra_off[i] <= r->extra_off[i + 1];
	return ok ? KF_OK : bad(r, "source", "extra candidates are out of order", err);
}

kf_status align_path_check(const kf_aligner *a, const kf_logits_rec *src, const kf_logits_rec *tgt, kf_err *err)
{
	kf_status rc;

	if (src->head.doc != tgt->head.doc || src->head.piece != tgt->head.piece || src->head.bytes != tgt->head.bytes)
		return kf_fail(err, KF_EMISMATCH, "the source's document %llu (piece %u, %u bytes) is not the target's document %llu "
			"(piece %u, %u bytes): both must come from one corpus", (unsigned long long)src->head.doc, src->head.piece,
			src->head.bytes, (unsigned long long)tgt->head.doc, tgt->head.piece, tgt->head.bytes);
	if (!src->context != !tgt->context)
		return kf_fail(err, KF_EMISMATCH, "document %llu is a conversation in the %s logits only: both must come from one corpus",
			(unsigned long long)src->head.doc, src->context ? "source" : "target");
	if ((rc = check_starts(src, "source", err)) != KF_OK || (rc = check_starts(tgt, "target", err)) != KF_OK) return rc;
	return check_source(a, src, err);
}

kf_status align_path_init(align_path *p, const kf_aligner *a, const kf_logits_rec *src, const kf_logits_rec *tgt,
	bool src_space, bool tgt_space, kf_arena *arena, kf_err *err)
{
	uint32_t *s, *t;
	double *base;

	s = KF_ARENA_NEW(arena, uint32_t, (size_t)src->n + 1);
	t = KF_ARENA_NEW(arena, uint32_t, (size_t)tgt->n + 1);
	base = KF_ARENA_NEW(arena, double, (size_t)src->n + 1);
	if (!s || !t || !base) return kf_fail(err, KF_ENOMEM, "no memory to align a document of %u tokens", src->n);
	*p = (align_path){ .rec = src, .n = src->n, .tn = tgt->n, .s = s, .t = t, .base = base, .bos = src->bos,
		.nlm = src->path_nlm, .nlm_off = src->path_off, .spread = !src->has_path && a->method != KF_ALIGN_BYTE,
		.d = src_space || tgt_space, .src_space = src_space };
	for (uint32_t i = 0; i <= src->n; i++) s[i] = src->start[i] + p->d;
	for (uint32_t i = 0; i <= tgt->n; i++) t[i] = tgt->start[i] + p->d;
	/* A first token begins with its dummy prefix; a source without one is read as if it had it. The end stays the end. */
	if (src->n) s[0] = 0;
	if (tgt->n && tgt_space) t[0] = 0;
	base[0] = 0;
	for (uint32_t i = 0; i < src->n; i++) base[i + 1] = base[i] + (i == 0 && !src->bos ? 0 : (double)src->ce[i]);
	return src->has_path || p->spread ? KF_OK : align_bound(p, a, tgt, arena, err);
}
