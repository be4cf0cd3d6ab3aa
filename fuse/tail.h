/* How much of a mixture's tail is really outside its candidates.
 *
 * A source's tail is the mass that alignment could give to no token, not the mass of tokens that are no candidates: of the many
 * tokens of a source that begin with one of the target's, only those among its top k are counted for it. A mixture's tail holds
 * besides what each model gives to candidates of the others. The label alone is known in full. So candidates have too little and the
 * tail has too much, up to twice as much as labels fall there (docs/fusion.md has figures), and a model taught so learns to be unsure.
 *
 * Calibration keeps the odds of the candidates and scales the tail by a factor f: T becomes f T, and candidates are scaled by
 * (1 - f T) / (1 - T). What can be counted is how often the label is none of the best n candidates. At a position
 * whose candidates beyond the best n hold R, that has the probability
 *
 *     r + f T (1 - r),   r = R / (1 - T)
 *
 * (n is KF_FUSE_TAIL_BEST, or all candidates but one where there are not more: the label is always among them, and of those alone it would never be out)
 * and f is the one that makes the sum of these over the positions seen so far equal to the number of such labels,
 * with positions that expected KF_FUSE_TAIL_PRIOR such labels at f = 1 before the first. It never depends on a position's own label. */
#ifndef KF_FUSE_TAIL_H
#define KF_FUSE_TAIL_H

#include <stdint.h>

#define KF_FUSE_TAIL_BEST 10
#define KF_FUSE_TAIL_PRIOR 4

typedef struct {
	double expected, outside;   /* sums of T (1 - r); of labels outside less r */
} kf_fuse_tail;

static inline kf_fuse_tail kf_fuse_tail_begin(void) { return (kf_fuse_tail){ KF_FUSE_TAIL_PRIOR, KF_FUSE_TAIL_PRIOR }; }

/* A position as kf_sparse_settle gave it, best first, with its label's place among these (n: none), before it is scaled. */
void kf_fuse_tail_see(kf_fuse_tail *c, const float *lp, uint32_t n, double tail, uint32_t label);

/* Scale a position's lp (n) and tail. */
void kf_fuse_tail_scale(const kf_fuse_tail *c, float *lp, uint32_t n, float *tail);

#endif
