/* Inside align/: edit distance and dynamic time warping, FuseLLM's (arXiv 2401.10491). */
#ifndef KF_ALIGN_WARP_H
#define KF_ALIGN_WARP_H

#include "common/base/mem.h"
#include "common/base/status.h"

/* Words as sequences of symbols 0 .. symbols-1 (code points, renumbered). Word w is
 * text[off[w]] .. text[off[w + 1] - 1]. */
typedef struct {
	uint32_t n;
	const uint32_t *off;   /* (n + 1) */
	const uint32_t *text;
} align_words;

/* cost (A, B): the edit distance (insert, delete, replace: 1) of every word of a from every word of b, at most 65535.
 * Myers, "A fast bit-vector algorithm for approximate string matching", 1999, one machine word;
 * longer words by the plain recurrence. */
kf_status align_edit_costs(const align_words *a, const align_words *b, uint32_t symbols, uint16_t *cost,
	kf_arena *arena, kf_err *err) KF_MUST_CHECK;

/* Warp sequence a (n indices into the rows of cost) onto b (m indices into its cols columns), n, m > 0. Every a[i] is
 * paired with at least one b[j] and the other way round, in order, with the least sum of costs; going back from
 * the end, ties go to the diagonal, then to i - 1, then to j - 1.
 * only_a (n), only_b (m): the one partner of each, -1 where it has several. *total: the sum; may be NULL.
 * KF_EUNSUPPORTED when n * m is over ALIGN_WARP_MAX. */
#define ALIGN_WARP_MAX (1ull << 29)
kf_status align_warp(const uint32_t *a, uint32_t n, const uint32_t *b, uint32_t m, const uint16_t *cost, uint32_t cols,
	int32_t *only_a, int32_t *only_b, uint64_t *total, kf_arena *arena, kf_err *err) KF_MUST_CHECK;

#endif
