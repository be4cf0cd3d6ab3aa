/* Inside align/: a pair of vocabularies, and the map from the bytes of the source's
 * tokens to the target's tokens. */
#ifndef KF_ALIGN_VOCAB_H
#define KF_ALIGN_VOCAB_H

#include <stdatomic.h>

#include "align/align.h"
#include "align/pairs.h"
#include "align/spell.h"

#define ALIGN_UNSET (-2)  /* in the lazy maps: not asked yet */

struct kf_aligner {
	const kf_tokenizer *src, *tgt;
	kf_align_method method;
	kf_align_map map;
	int32_t vs, vt;            /* sizes of the vocabularies */
	int32_t src_eos, tgt_eos;  /* -1: none */
	bool src_dummy, tgt_dummy;
	uint8_t *bytes;            /* of all source tokens, one after the other */
	uint32_t *off;             /* (vs + 1); control tokens and EOS have none */
	/* The prefix map, filled as it is asked: every value is a pure function of its index, so
	 * threads that race write the same and relaxed order will do. */
	_Atomic int32_t *first;    /* (vs) of a whole token; -1: none */
	_Atomic int32_t *inner;    /* (off[vs]) of a token's bytes from this byte on to its end */
	align_lexicon *lexicon;    /* methods that warp: the strings of the two vocabularies */
	int32_t *exact;            /* (vs) the target's token of the same string, -1: none; NULL for byte with the prefix map */
	int32_t *image;            /* (vs) what the map makes of a whole token, -1: nothing; NULL for the prefix map */
	bool ready;                /* image is filled */
	bool quirks;               /* kf_aligner_quirks */
	const align_pairs *counts; /* kf_aligner_weigh; NULL: nothing is mixed */
	int32_t unknown;           /* with quirks: the target's unknown token as the published code has it; -1: none */
};

static inline uint32_t align_len(const kf_aligner *a, int32_t id) { return a->off[id + 1] - a->off[id]; }

int32_t align_first_slow(kf_aligner *a, int32_t id);
int32_t align_inner_slow(kf_aligner *a, int32_t id, uint32_t skip);

/* The target's first token of source token id's bytes; id in [0, vs). */
static inline int32_t align_first(kf_aligner *a, int32_t id)
{
	int32_t t = atomic_load_explicit(&a->first[id], memory_order_relaxed);

	return t == ALIGN_UNSET ? align_first_slow(a, id) : t;
}

/* What the map makes of a whole token of the source; -1: nothing. */
static inline int32_t align_image(kf_aligner *a, int32_t id)
{
	return a->image ? a->image[id] : align_len(a, id) ? align_first(a, id) : -1;
}

/* The first token of the target's own encoding of id's bytes without the first skip, 0 < skip < length. */
static inline int32_t align_inner(kf_aligner *a, int32_t id, uint32_t skip)
{
	int32_t t = atomic_load_explicit(&a->inner[a->off[id] + skip], memory_order_relaxed);

	return t == ALIGN_UNSET ? align_inner_slow(a, id, skip) : t;
}

/* The same with a space in front (a dummy prefix of the target). Not remembered: once a document. */
int32_t align_spaced(const kf_aligner *a, int32_t id);

/* to (V of the source): the target's token of the same string but for the space marker, the first of several; -1: none. */
kf_status align_exact(const kf_tokenizer *source, const kf_tokenizer *target, int32_t *to, kf_err *err) KF_MUST_CHECK;

/* A token as dtw sees it, with the space marker replaced: "▁" and "Ġ" are markers of SentencePiece and
 * byte-level BPE. to: "" or the other's marker. Writes at most size bytes and a NUL; false: does not fit. */
bool align_respell(const kf_tokenizer *t, int32_t id, const char *to, char *out, size_t size);
const char *align_marker(const kf_tokenizer *t);

#endif
