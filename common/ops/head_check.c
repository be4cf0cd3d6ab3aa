#include "common/ops/head_check.h"

static kf_status check_order(const int32_t *order, int V, kf_err *err)
{
	kf_status rc = KF_OK;
	uint8_t *seen = kf_zalloc((size_t)V, 1);
	if (!seen) return kf_fail(err, KF_ENOMEM, "no memory to check the order of %d vocabulary rows", V);
	for (int i = 0; i < V && rc == KF_OK; i++) {
		if (order[i] < 0 || order[i] >= V || seen[order[i]])
			rc = kf_fail(err, KF_EINVAL, "the order of vocabulary rows is no permutation: entry %d is %d", i, order[i]);
		else
			seen[order[i]] = 1;
	}
	kf_free(seen);
	return rc;
}

static kf_status check_labels(const int32_t *labels, int T, int V, kf_err *err)
{
	for (int t = 0; labels && t < T; t++)
		if (labels[t] < -1 || labels[t] >= V)
			return kf_fail(err, KF_EINVAL, "row %d has label %d, but the vocabulary has %d rows", t, labels[t], V);
	return KF_OK;
}

kf_status kf_check_score_query(const kf_score_query *q, const kf_mat *w, int T, kf_err *err)
{
	int V = w->rows;
	kf_status rc;
	if (q->k < 1 || q->k > V)
		return kf_fail(err, KF_EINVAL, "%d candidates were asked for, but the vocabulary has %d", q->k, V);
	if ((rc = check_labels(q->labels, T, V, err)) != KF_OK) return rc;
	if (q->order && (rc = check_order(q->order, V, err)) != KF_OK) return rc;
	if (!q->range_off) return KF_OK;
	if (!q->order) return kf_fail(err, KF_EINVAL, "ranges of the vocabulary need an order to be ranges of");
	if (q->extra_min < 0 || q->extra_max < 0)
		return kf_fail(err, KF_EINVAL, "the numbers of extra candidates, %d and %d, must not be negative", q->extra_min, q->extra_max);
	for (int t = 0; t < T; t++) {
		int lo = 0, hi = V;
		for (int r = q->range_off[t]; r < q->range_off[t + 1]; r++) {
			int l = q->range_lo[r], h = q->range_hi[r];
			if (l < 0 || h > V || l > h || (l < h && (l < lo || h > hi)))
				return kf_fail(err, KF_EINVAL, "range [%d, %d) of row %d does not lie inside [%d, %d)", l, h, t, lo, hi);
			lo = l;
			hi = h;
		}
	}
	return KF_OK;
}

kf_status kf_check_loss_query(const kf_loss_query *q, const kf_mat *w, int T, kf_err *err)
{
	int V = w->rows;
	kf_status rc;
	if (!(q->temperature > 0)) return kf_fail(err, KF_EINVAL, "the temperature is %g; it must be above 0", q->temperature);
	if (!(q->lambda >= 0 && q->lambda <= 1)) return kf_fail(err, KF_EINVAL, "lambda is %g; it must be in [0, 1]", q->lambda);
	if ((rc = check_labels(q->labels, T, V, err)) != KF_OK) return rc;
	for (int t = 0; t < T; t++) {
		if (q->weight && !(q->weight[t] >= 0 && q->weight[t] <= 1))
			return kf_fail(err, KF_EINVAL, "the weight of row %d is %g; it must be in [0, 1]", t, (double)q->weight[t]);
		for (uint32_t i = q->off ? q->off[t] : 0; q->off && i < q->off[t + 1]; i++) {
			if (q->ids[i] < 0 || q->ids[i] >= V)
				return kf_fail(err, KF_EINVAL, "row %d has candidate %d, but the vocabulary has %d rows", t, q->ids[i], V);
			if (!(q->q[i] >= 0 && q->q[i] <= 1.0001f))
				return kf_fail(err, KF_EINVAL, "candidate %d of row %d has probability %g", q->ids[i], t, (double)q->q[i]);
			for (uint32_t j = q->off[t]; j < i; j++)
				if (q->ids[j] == q->ids[i])
					return kf_fail(err, KF_EINVAL, "row %d has candidate %d twice", t, q->ids[i]);
		}
	}
	return KF_OK;
}
