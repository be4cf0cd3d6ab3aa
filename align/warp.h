/* Inside align/: dynamic time warping of two token sequences of one text. */
#ifndef KF_ALIGN_WARP_H
#define KF_ALIGN_WARP_H

#include "align/spell.h"

/* n tokens, of the first or the second vocabulary of an align_lexicon. at (n + 1): where each begins in the
 * text and the end of the last, in a unit that both sequences share; it only tells where to look first. NULL:
 * by the lengths of the strings. */
typedef struct {
	const int32_t *ids;
	const uint32_t *at;
	uint32_t n;
} align_seq;

typedef struct { uint32_t a, b; } align_pair;

typedef enum {
	/* going back from the end, ties go to the diagonal, ... */
	ALIGN_UP_FIRST,    /* ... then to a's earlier token, then to b's: FuseLLM */
	ALIGN_LEFT_FIRST   /* ... then to b's earlier token, then to a's: FuseChat */
} align_ties;

/* Warp a onto b, both not empty, ids within their vocabularies: every token of either is paired with one or
 * more of the other, in order, with the least sum of costs. *pairs (*n_pairs, in arena): from (0, 0) to (a->n
 * - 1, b->n - 1), each next one a step on in a, in b or in both. *total: the sum; may be NULL.
 *
 * The result is that of the whole table of a->n by b->n cells, path and ties included, but most of it is
 * never computed: only a band along the text is. What lies outside counts, at its border, with a lower bound:
 * what it cost to get out, and for every row passed at least 1 (in the lexicon's unit) where a's string does
 * not occur in b at all. As long as the path found from the end never steps where the bound stands, no other
 * can be cheaper or win a tie: every value on it is its own exact cost and no bound beside it is less. Else
 * the band is widened, in the end to everything. Memory: the directions of a block of rows; for long
 * sequences the rows between blocks are kept and blocks computed again on the way back: about 4 * sqrt(n) *
 * width bytes. KF_EUNSUPPORTED: the band would need more than ALIGN_WARP_CELLS cells, or the costs 31 bits.
 * */
#define ALIGN_WARP_CELLS (1ull << 34)
kf_status align_warp(const align_lexicon *x, const align_seq *a, const align_seq *b, align_ties ties,
	kf_arena *arena, align_pair **pairs, uint32_t *n_pairs, uint64_t *total, kf_err *err) KF_MUST_CHECK;

/* The same with the sizes that decide how, and not what: tokens the first band reaches to either side, bytes
 * of directions kept at once. 0: the usual ones. *tried: how many bands it took; may be NULL. */
kf_status align_warp_sized(const align_lexicon *x, const align_seq *a, const align_seq *b, align_ties ties,
	uint32_t first_band, uint32_t block_bytes, kf_arena *arena, align_pair **pairs, uint32_t *n_pairs,
	uint64_t *total, int *tried, kf_err *err) KF_MUST_CHECK;

#endif
