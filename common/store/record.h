/* Records: what the documents of a shard set hold, decoded, and how they are
 * written and read. The encodings are record_*.c's business and docs/format.md's.
 *
 * Letters: n tokens of a document, k candidates, positions 0..n. Position p is
 * about token p: its distribution predicts the token that starts at byte start[p]
 * from everything before that byte. Position n predicts what follows the text. Where
 * the model adds no BOS, position 0 has no distribution.
 *
 * Readers allocate everything in the caller's arena: valid until its next reset.
 */
#ifndef KF_STORE_RECORD_H
#define KF_STORE_RECORD_H

#include <string.h>

#include "common/base/hash.h"
#include "common/base/turn.h"
#include "common/store/set.h"

/* What every record begins with. Strings are NUL-terminated UTF-8. */
typedef struct {
	uint64_t doc;        /* number in input order, 0.., unique in a set */
	const char *id;      /* the user's id of the document, or "" */
	const char *domain;  /* or "" */
	uint32_t piece;      /* 0.. of a document that was cut */
	uint32_t bytes;      /* of text */
} kf_dochead;

/* Which of so many folds (--fold I/N) a document is in: whole texts are, by a hash of their id, so that no model is asked for a piece of a text
 * of which it has seen another. The same in every set, whatever else is there. A text without an id goes by the number of its first piece. */
static inline int kf_fold_of(const kf_dochead *h, int folds)
{
	const uint64_t first = h->doc - h->piece;
	const uint64_t x = h->id[0] ? kf_hash64(h->id, strlen(h->id)) : kf_hash64(&first, sizeof first);

	return (int)((unsigned __int128)x * (unsigned)folds >> 64);   /* by the high bits: kf-prepare --split goes by the low ones */
}

typedef struct {
	kf_dochead head;
	const uint8_t *text; /* (head.bytes) UTF-8 unless the input was not */
	/* A conversation: its messages, whose texts stand one after another with nothing between them; n_turns 0: text. */
	uint32_t n_turns;
	const kf_turn *turns;/* (n_turns) */
} kf_corpus_rec;

/* Conversations. The tokens of a record are then all that the model saw, its template's as well, while `start` counts
 * bytes of the messages: what belongs to the template spans no byte. context (n + 1) is 1 where a position is context
 * only: neither predicted nor fused nor trained on. 0 are the tokens of the assistant's replies, and after each the
 * token by which the model ends its turn (it spans no byte; position n, where no token does it). Position 0 is
 * context where the model adds no BOS. At context positions ce is NAN and there are no candidates. */
static inline bool kf_ends_turn(const uint8_t *context, const uint32_t *start, uint32_t n, uint32_t p)
{
	return context && !context[p] && (p == n || (start[p] == start[p + 1] && context[p + 1]));
}

/* What a model predicted along a document.
 * Precision when packed: top_lp and extra_lp within 1/32 nat, ce and path_nlm
 * within 1/512 nat; exact with --precision f32. */
typedef struct {
	kf_dochead head;
	bool bos;                 /* the model adds a BOS: position 0 has a distribution */
	uint32_t n, k;
	const int32_t *tokens;    /* (n) without BOS */
	const uint32_t *start;    /* (n + 1) byte where each token starts, and the end */
	const float *ce;          /* (n) -ln p(token), nats; NAN where there is no distribution: see kf_predicted */
	const int32_t *top_ids;   /* (n + 1, k) best first; rows without a distribution all -1 */
	const float *top_lp;      /* (n + 1, k) ln p, descending; -INFINITY in rows without a distribution */
	const uint8_t *context;   /* (n + 1) conversations: 1 where the position is context only; NULL: text */
	/* The byte path. Absent (has_path false, pointers NULL) when not extracted. */
	bool has_path;
	const uint32_t *path_off; /* (n + 1) token i's interior bytes x = start[i]+1 .. start[i+1]-1 are
	                           * path_nlm[path_off[i]] ..; path_off[n] is their number in all */
	const float *path_nlm;    /* -ln M(x), nats: M the mass at position i of all tokens whose bytes begin
	                           * with text[start[i]..x). Non-decreasing within a token, at most ce[i] */
	const uint32_t *extra_off;/* (n + 2) candidates beyond the top k of position p: [extra_off[p], extra_off[p+1]) */
	const int32_t *extra_ids;
	const float *extra_lp;    /* descending within a position */
} kf_logits_rec;

/* Whether position p has a distribution. */
static inline bool kf_predicted(const kf_logits_rec *r, uint32_t p)
{
	return (p > 0 || r->bos) && !(r->context && r->context[p]);
}

/* A sparse distribution a position, over the target's vocabulary: aligned and
 * fused sets. Probabilities of a position never sum above 1 when read back. */
typedef struct {
	kf_dochead head;
	bool bos;
	uint32_t source_tokens;   /* aligned: how many of the source's tokens the ce speaks of, so that its mean per
	                           * token of its own is known (the papers' metric); fused: 0 */
	uint32_t n;
	const int32_t *tokens;    /* (n) the target's */
	const uint32_t *start;    /* (n + 1) */
	const float *ce;          /* (n) aligned: the source's -ln P of the bytes of the token; fused: -ln of the
	                           * fused probability of the label where it has one; NAN where there is none */
	const uint32_t *off;      /* (n + 2) position p's candidates are [off[p], off[p+1]); empty: no distribution */
	const int32_t *ids;
	const float *lp;          /* ln q, descending within a position */
	const float *tail;        /* (n + 1) 1 - sum of q, >= 0; NAN where the position has no distribution */
	const float *weight;      /* (n + 1) in [0, 1], scales the fusion share; NULL: 1 everywhere */
	const uint8_t *context;   /* (n + 1) as in the target's logits; NULL: text */
} kf_dist_rec;

/* Writing: copies what it needs before returning. Documents of a shard come in
 * ascending head.doc. KF_EINVAL for records that break the rules above, and for turns or context in a set
 * that was not begun for conversations (kf_set_spec.chat). */
kf_status kf_shard_put_corpus(kf_shard_writer *sw, const kf_corpus_rec *rec, kf_err *err) KF_MUST_CHECK;
/* KF_EUNSUPPORTED: a document of n tokens with k candidates each, and (start not NULL: (n + 1), as in a record) the masses of its byte path, is
 * more than a record can hold. To be asked before they are computed. */
kf_status kf_logits_fits(const kf_dochead *head, size_t n, uint32_t k, const uint32_t *start, kf_err *err) KF_MUST_CHECK;
kf_status kf_shard_put_logits(kf_shard_writer *sw, const kf_logits_rec *rec, kf_err *err) KF_MUST_CHECK;
kf_status kf_shard_put_dist(kf_shard_writer *sw, const kf_dist_rec *rec, kf_err *err) KF_MUST_CHECK;

/* Reading, in order; KF_END after the last. Damage is KF_EDATA naming the shard
 * and block. */
kf_status kf_shard_next_corpus(kf_shard *s, kf_arena *arena, kf_corpus_rec *rec, kf_err *err) KF_MUST_CHECK;
kf_status kf_shard_next_logits(kf_shard *s, kf_arena *arena, kf_logits_rec *rec, kf_err *err) KF_MUST_CHECK;
kf_status kf_shard_next_dist(kf_shard *s, kf_arena *arena, kf_dist_rec *rec, kf_err *err) KF_MUST_CHECK;
/* Of the next logits record only the head, bos, n, tokens, start and context, in a fraction of the time; k is 0,
 * has_path false and what belongs to them NULL. May be mixed with kf_shard_next_logits on one shard, which then decodes a block twice. */
kf_status kf_shard_next_tokens(kf_shard *s, kf_arena *arena, kf_logits_rec *rec, kf_err *err) KF_MUST_CHECK;

#endif
