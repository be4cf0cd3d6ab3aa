#include "common/store/sparse.h"

#include <math.h>

/* Probabilities are float: the sum of what they become in a reader's double stays below 1. */
#define FULL (1.0 - 5e-7)

uint32_t kf_sparse_settle(uint32_t n, int32_t *id, float *q, int32_t label, float *lp, float *tail)
{
	double sum = 0;
	float scale;
	uint32_t kept = 0;

	for (uint32_t j = 0; j < n; j++) sum += q[j];
	scale = sum > FULL ? (float)(FULL / sum) : 1;
	sum = 0;
	for (uint32_t j = 0; j < n; j++) {
		float x = q[j] * scale;
		int32_t t = id[j];
		uint32_t w;

		if (x < KF_SPARSE_MIN && (t != label || x <= 0)) continue;
		for (w = kept; w > 0 && (q[w - 1] < x || (q[w - 1] == x && id[w - 1] > t)); w--) {
			q[w] = q[w - 1];
			id[w] = id[w - 1];
		}
		q[w] = x;
		id[w] = t;
		kept++;
		sum += x;
	}
	for (uint32_t j = 0; j < kept; j++) lp[j] = logf(q[j]);
	*tail = kept == 0 ? NAN : sum < 1 ? (float)(1 - sum) : 0;
	return kept;
}
