/* What every backend's head checks before it believes a query: ids and ranges
 * index arrays, so a wrong one must be an error and never a read out of bounds.
 */
#ifndef KF_OPS_HEAD_CHECK_H
#define KF_OPS_HEAD_CHECK_H

#include "common/ops/ops.h"

/* KF_EINVAL naming the row: k outside [1, V], labels outside [-1, V), ranges outside [0, V) or not nested,
 * an order that is no permutation; KF_ENOMEM. */
kf_status kf_check_score_query(const kf_score_query *q, const kf_mat *w, int T, kf_err *err) KF_MUST_CHECK;

/* KF_EINVAL naming the row: labels or ids outside the vocabulary, an id twice in a row, q or weight outside
 * [0, 1], temperature not above 0, lambda outside [0, 1]. */
kf_status kf_check_loss_query(const kf_loss_query *q, const kf_mat *w, int T, kf_err *err) KF_MUST_CHECK;

#endif
