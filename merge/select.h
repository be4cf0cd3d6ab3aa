/* The largest of a tensor's elements, by several keys at once, without sorting or keeping them. */
#ifndef KF_MERGE_SELECT_H
#define KF_MERGE_SELECT_H

#include "merge/chunk.h"

/* Which elements a key keeps: those of at least `from`, and of those equal to `tie` the first `ties`. */
typedef struct {
	uint32_t from, tie;
	uint64_t ties;            /* 0: `from` says it all */
	const uint64_t *before;   /* (chunks) elements equal to tie in earlier chunks */
	uint64_t kept;
} kf_cut;

/* Fill keys (c->n) of the which-th key: non-negative floats as their bits, which order as they do. */
typedef void (*kf_key_fn)(void *arg, const kf_chunk *c, int which, uint32_t *keys);

/* Find the ⌊share · N⌋ largest by each of n_keys keys (at most as many as models), ties to the first
 * elements. N is all elements, and then at least one is kept; or with nonzero only those whose key is not 0.
 */
kf_status kf_merge_select(kf_merger *m, kf_key_fn key, void *arg, int n_keys, double share, bool nonzero,
	kf_cut *cuts, kf_merge_facts *facts, kf_err *err) KF_MUST_CHECK;

/* keep (n) = 1 where an element of the chunk is kept by its key, else 0. keep may be keys. */
void kf_cut_mask(const kf_cut *cut, const kf_chunk *c, const uint32_t *keys, uint32_t *keep);

#endif
