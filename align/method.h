/* Inside align/: the methods. Each fills out's off, ids, lp, tail, which kf_align_doc
 * has allocated with room for every position's candidates and the label. */
#ifndef KF_ALIGN_METHOD_H
#define KF_ALIGN_METHOD_H

#include "align/path.h"
#include "align/warp.h"

typedef struct {
	uint32_t *off;   /* (tn + 2) */
	int32_t *ids;
	float *lp;
	float *tail;     /* (tn + 1) */
	float *ce;       /* (tn) */
	uint32_t covered;/* positions with a label that have the source's distribution */
	uint32_t said;   /* tokens of the source that ce speaks of */
} align_out;

/* The most candidates any position of r has. */
uint32_t align_widest(const kf_logits_rec *r);

/* Fills out->ce, for any method. */
void align_ce(const align_path *p, align_out *out);
kf_status align_byte(kf_aligner *a, const align_path *p, const kf_logits_rec *tgt, kf_arena *arena, align_out *out,
	kf_err *err) KF_MUST_CHECK;
kf_status align_dtw(kf_aligner *a, const align_path *p, const kf_logits_rec *tgt, kf_arena *arena, align_out *out,
	kf_err *err) KF_MUST_CHECK;
/* --reference-quirks: dtw and dtw-chat as the papers' published code has them (quirks.c). */
kf_status align_quirks(kf_aligner *a, const align_path *p, const kf_logits_rec *tgt, kf_arena *arena, align_out *out,
	kf_err *err) KF_MUST_CHECK;

/* ---- what warping methods share ---- */

/* Every token of tgt is in the vocabulary. */
kf_status align_check_target(const kf_aligner *a, const kf_logits_rec *tgt, kf_err *err) KF_MUST_CHECK;

/* The tokens that one token is paired with; first > last: none, as the other sequence is empty. */
typedef struct { uint32_t first, last; } align_partner;

/* of_a (a->n; may be NULL), of_b (b->n). */
kf_status align_partners(const align_lexicon *x, const align_seq *a, const align_seq *b, align_ties ties, kf_arena *arena,
	align_partner *of_a, align_partner *of_b, kf_err *err) KF_MUST_CHECK;

/* What source token id, in [0, vs), is in the target's vocabulary, -1: nothing. last: at the position after the text. */
typedef int32_t (*align_image_of)(kf_aligner *a, int32_t id, bool last);

/* The candidates of the source's position from, best first, as the target's tokens with their probabilities; of several
 * that become one token the first. id, q: room for src->k; returns how many. */
uint32_t align_take(kf_aligner *a, const kf_logits_rec *src, uint32_t from, align_image_of image, bool last, int32_t *id, float *q);

/* A text, by the aligner's method: ce and all. */
kf_status align_along(kf_aligner *a, const align_path *path, const kf_logits_rec *tgt, kf_arena *arena, align_out *out,
	kf_err *err) KF_MUST_CHECK;
/* What the source says at the end of a reply (its position i), for the target, whose own end of turn is label: the
 * source's end of turn maps to that, its other control tokens to nothing. id, lp: room for all its candidates and one more. */
kf_status align_turn_end(kf_aligner *a, const kf_logits_rec *src, uint32_t i, int32_t label, kf_arena *arena, int32_t *id,
	float *lp, float *tail, uint32_t *n, kf_err *err) KF_MUST_CHECK;
/* Tokens [first, end) of bytes [from, to); last: the position that ends the turn, n + 1 where there is none. */
typedef struct { uint32_t first, end, from, to, last; } align_reply;
/* The next text that is no context from token *p on, which goes on behind it: a reply, or all of a record that is no
 * conversation. false: there is none. */
bool align_next_text(const kf_logits_rec *r, uint32_t *p, align_reply *out);

/* A conversation, reply by reply. */
kf_status align_replies(kf_aligner *a, const kf_logits_rec *src, const kf_logits_rec *tgt, kf_arena *arena, align_out *out,
	kf_err *err) KF_MUST_CHECK;

#endif
