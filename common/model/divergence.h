/* How far what a model says when its products are computed in another way is from what it says in float32. */
#ifndef KF_MODEL_DIVERGENCE_H
#define KF_MODEL_DIVERGENCE_H

#include "common/model/model.h"

typedef struct {
	int rows;
	double mean, worst;      /* of KL(exact || other) over the rows, nats, of the whole vocabulary */
	double ce;               /* mean of other's cross-entropy less exact's, over rows that a token of the batch follows */
} kf_divergence;

/* Both are the same weights on the CPU backend, exact in float32. hidden: what kf_model_hidden gives of exact, if it is known; NULL:
 * it is computed. What other says is what kf_model_score would store: in
 * int8 the logits of the k best candidates and of the token that follows are those it computes again in float32. */
kf_status kf_model_divergence(kf_model *exact, const float *hidden, kf_model *other, const kf_batch *b, int k, kf_divergence *out,
	kf_err *err) KF_MUST_CHECK;

#endif
