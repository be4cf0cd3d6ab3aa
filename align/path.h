/* Inside align/: the source's probability along its own tokens, at any byte. */
#ifndef KF_ALIGN_PATH_H
#define KF_ALIGN_PATH_H

#include "align/vocab.h"

/* Offsets are stream bytes (align.h). Both start arrays have one more entry than tokens: the end. */
typedef struct {
	const kf_logits_rec *rec;
	uint32_t d;               /* D: where the text begins in the stream */
	uint32_t n, tn;           /* tokens of the source, of the target */
	const uint32_t *s, *t;    /* (n + 1), (tn + 1) where they begin */
	const double *base;       /* (n + 1) -ln of the product of p of the tokens before; what has no ce counts 0 */
	bool bos;                 /* of the source: whether its first token is covered */
	bool src_space;           /* the source's first token begins with a space that is not the text's */
	bool src_torn, tgt_torn;  /* a reply's first token has more of its template than that: what else might stand there begins with the template, too */
	const float *nlm;         /* masses inside tokens: the record's, or what align_bound makes of its candidates */
	const uint32_t *nlm_off;  /* (n + 1) as path_off */
	bool spread;              /* there are none: spread a token's ce over its bytes */
} align_path;

/* Check two records against each other. */
kf_status align_path_check(const kf_aligner *a, const kf_logits_rec *src, const kf_logits_rec *tgt, kf_err *err) KF_MUST_CHECK;
/* Lay out the path of records that go together, in arena. src_space, tgt_space: the first token begins with a space in
 * front of the text, as with a dummy prefix. */
kf_status align_path_init(align_path *p, const kf_aligner *a, const kf_logits_rec *src, const kf_logits_rec *tgt,
	bool src_space, bool tgt_space, kf_arena *arena, kf_err *err) KF_MUST_CHECK;

/* For logits without path masses: a lower bound of each, from the candidates. */
kf_status align_bound(align_path *p, const kf_aligner *a, const kf_logits_rec *tgt, kf_arena *arena, kf_err *err) KF_MUST_CHECK;

/* The text as the target's tokens spell it, for source tokens that do not spell their own span (a normaliser was at
 * work, or an unknown token). Stream bytes; what the target does not spell either stays 0. NULL on no memory. */
uint8_t *align_target_text(const kf_aligner *a, const align_path *path, const kf_logits_rec *tgt, kf_arena *arena);

/* The last token that begins at or before x, from token i on (n: x is the end). */
static inline uint32_t align_path_find(const align_path *p, uint32_t i, uint32_t x)
{
	while (i < p->n && p->s[i + 1] <= x) i++;
	return i;
}

/* -ln P(x), i being the token that align_path_find gives for x. */
static inline double align_path_nlp(const align_path *p, uint32_t i, uint32_t x)
{
	uint32_t in, len;
	double part, all;

	if (i >= p->n || x <= p->s[i]) return p->base[i];
	all = p->base[i + 1] - p->base[i];
	if (x == p->d) return p->base[i];   /* the space of a dummy prefix: no mass of its own */
	if (p->spread) {
		len = p->s[i + 1] - p->s[i];
		part = all * (double)(x - p->s[i]) / (double)len;
	} else {
		in = x - p->d - p->rec->start[i] - 1;
		part = (double)p->nlm[p->nlm_off[i] + in];
	}
	/* quantised: never beyond the token's own ce, so that P does not grow */
	return p->base[i] + (part < all ? part > 0 ? part : 0 : all);
}

#endif
