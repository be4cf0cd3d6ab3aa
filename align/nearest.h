/* Inside align/: for every word of one list the nearest words of another, by edit distance. */
#ifndef KF_ALIGN_NEAREST_H
#define KF_ALIGN_NEAREST_H

#include "align/spell.h"
#include "common/base/pool.h"

typedef struct {
	uint32_t distance; /* insertions, deletions and replacements of a symbol, 1 each */
	int32_t at;        /* of the words at that distance the first; -1: there is none */
} align_near;

#define ALIGN_FAR UINT32_MAX

/* Words are of symbols 0 .. symbols-1 here, numbered alike in both lists.
 * near (a->n): where distance is 0 on entry the word is known and left alone; elsewhere it must be { ALIGN_FAR, -1 }.
 * Words of no symbols are nobody's nearest and have none. The result is that of comparing every pair, whatever the pool.
 * done (may be NULL) is told how many more words are finished, from any thread but one at a time.
 *
 * How: Myers' recurrence ("A fast bit-vector algorithm for approximate string matching", 1999) with the words of b as
 * patterns, as many side by side in a vector register as their length lets in. They are taken by length, the nearest first, so
 * that most pairs are never compared: neither where the lengths differ by more than the best distance, nor where a whole
 * register of words lacks too many of the word's symbols. */
kf_status align_nearest(const align_words *a, const align_words *b, uint32_t symbols, kf_pool *pool, align_near *near,
	void (*done)(void *arg, size_t words), void *arg, kf_err *err) KF_MUST_CHECK;

/* All the words of b at the distance that near has. For a's word which[i] they are (*all)[off[i]] .. (*all)[off[i + 1] - 1],
 * ascending. which (n), each once; off (n + 1); *all is for the caller to kf_free. */
kf_status align_nearest_all(const align_words *a, const align_words *b, uint32_t symbols, kf_pool *pool,
	const align_near *near, const int32_t *which, uint32_t n, uint32_t *off, int32_t **all, kf_err *err) KF_MUST_CHECK;

#endif
