/* What the methods share. */
#ifndef KF_MERGE_METHODS_H
#define KF_MERGE_METHODS_H

#include "merge/chunk.h"

/* Σ a b in float64, the same whatever the machine's vectors. */
double kf_merge_dot(const float *a, const float *b, size_t n);

/* The sum of what agrees, over the models of a chunk: x_j = elect_j · d_j, the element's sign is that of Σ
 * x_j, and
 *
 *     num = Σ weight_j · d_j,  den = Σ weight_j   over the j whose x_j has that sign
 *
 * A sign of 0 agrees with nothing. positive: a sum of 0 counts as positive, as mergekit has it. num and den
 * are c->acc[1] and [2]; c->count counts. */
void kf_merge_agree(const kf_chunk *c, int n, const double *elect, const double *weight, bool positive);

kf_status kf_merge_sce(
	kf_merger *m, const kf_merge_how *how, float *out, kf_merge_facts *facts, kf_err *err) KF_MUST_CHECK;
kf_status kf_merge_slerp(
	kf_merger *m, const kf_merge_how *how, float *out, kf_merge_facts *facts, kf_err *err) KF_MUST_CHECK;
/* linear, varm, task-arithmetic, ties, dare, dare-ties */
kf_status kf_merge_sums(
	kf_merger *m, const kf_merge_how *how, float *out, kf_merge_facts *facts, kf_err *err) KF_MUST_CHECK;

#endif
