/* A sparse distribution being made: what aligned and fused records hold of a position. */
#ifndef KF_STORE_SPARSE_H
#define KF_STORE_SPARSE_H

#include <stdint.h>

#define KF_SPARSE_MIN 1e-6f  /* q of a token other than the label below this joins the tail */

/* Make a position's record of n (id, q), ids distinct: scaled so that they do not sum above 1, small ones but
 * the label's (-1: none) left out, best first, ties by id. Reorders id and q, fills lp (n) = ln q and tail (NAN when
 * nothing stays), returns how many stay. */
uint32_t kf_sparse_settle(uint32_t n, int32_t *id, float *q, int32_t label, float *lp, float *tail);

#endif
