/* Matrix products and the embedding. */
#include "common/ops/ref/ref.h"

/* Rows of w as float32: w->num, or unpacked to *owned, which the caller frees. NULL: no memory. */
static const float *resident(const kf_mat *w, float **owned)
{
	*owned = NULL;
	if (w->num) return w->num;
	if (!(*owned = kf_alloc((size_t)w->rows * (size_t)w->cols, sizeof **owned))) return NULL;
	w->unpack(w->src, NULL, 0, (uint64_t)w->rows, *owned);
	return *owned;
}

static kf_status no_memory(const char *op, const kf_mat *w, kf_err *err)
{
	return kf_fail(err, KF_ENOMEM, "%s: out of memory for a weight matrix of %d x %d", op, w->rows, w->cols);
}

kf_status kf_ref_linear(kf_exec *x, float *y, const float *in, const kf_mat *w, const float *bias, int T,
	bool add, kf_err *err)
{
	const size_t N = (size_t)w->rows, K = (size_t)w->cols;
	float *owned;
	const float *m = resident(w, &owned);

	(void)x;
	if (!m) return no_memory("linear", w, err);
	for (size_t t = 0; t < (size_t)T; t++)
		for (size_t n = 0; n < N; n++) {
			double s = bias ? bias[n] : 0;

			if (add) s += y[t * N + n];
			for (size_t c = 0; c < K; c++) s += (double)in[t * K + c] * m[n * K + c];
			y[t * N + n] = (float)s;
		}
	kf_free(owned);
	return KF_OK;
}

kf_status kf_ref_logits(kf_exec *x, float *y, const float *in, const kf_mat *w, int T, kf_err *err)
{
	return kf_ref_linear(x, y, in, w, NULL, T, false, err);
}

kf_status kf_ref_linear_dx(kf_exec *x, float *dx, const float *dy, const kf_mat *w, int T, bool add,
	kf_err *err)
{
	const size_t N = (size_t)w->rows, K = (size_t)w->cols;
	float *owned;
	const float *m = resident(w, &owned);

	(void)x;
	if (!m) return no_memory("linear_dx", w, err);
	for (size_t t = 0; t < (size_t)T; t++)
		for (size_t c = 0; c < K; c++) {
			double s = add ? dx[t * K + c] : 0;

			for (size_t n = 0; n < N; n++) s += (double)dy[t * N + n] * m[n * K + c];
			dx[t * K + c] = (float)s;
		}
	kf_free(owned);
	return KF_OK;
}

kf_status kf_ref_linear_dw(kf_exec *x, float *dw, float *db, const float *dy, const float *in, int T, int N,
	int K, kf_err *err)
{
	const size_t n_ = (size_t)N, k_ = (size_t)K;

	(void)x, (void)err;
	for (size_t n = 0; n < n_; n++) {
		double b = 0;

		for (size_t c = 0; c < k_; c++) {
			double s = dw[n * k_ + c];

			for (size_t t = 0; t < (size_t)T; t++) s += (double)dy[t * n_ + n] * in[t * k_ + c];
			dw[n * k_ + c] = (float)s;
		}
		for (size_t t = 0; t < (size_t)T; t++) b += dy[t * n_ + n];
		if (db) db[n] = (float)(db[n] + b);
	}
	return KF_OK;
}

kf_status kf_ref_embed(kf_exec *x, float *y, const kf_mat *table, const int32_t *tokens, float scale, int T,
	kf_err *err)
{
	const size_t C = (size_t)table->cols;

	(void)x;
	for (int t = 0; t < T; t++) {
		float *row = y + (size_t)t * C;

		if (tokens[t] < 0 || tokens[t] >= table->rows)
			return kf_fail(err, KF_EINVAL, "embed: token %d of row %d is not in a vocabulary of %d",
				tokens[t], t, table->rows);
		if (table->num) memcpy(row, table->num + (size_t)tokens[t] * C, C * sizeof *row);
		else table->unpack(table->src, tokens + t, 0, 1, row);
		for (size_t c = 0; c < C; c++) row[c] *= scale;
	}
	return KF_OK;
}

kf_status kf_ref_embed_dw(kf_exec *x, float *dtable, const float *dy, const int32_t *tokens, float scale,
	int T, int V, int C, kf_err *err)
{
	(void)x;
	for (int t = 0; t < T; t++) {
		if (tokens[t] < 0 || tokens[t] >= V)
			return kf_fail(err, KF_EINVAL, "embed_dw: token %d of row %d is not in a vocabulary of %d",
				tokens[t], t, V);
		for (size_t c = 0, n = (size_t)C; c < n; c++)
			dtable[(size_t)tokens[t] * n + c] += scale * dy[(size_t)t * n + c];
	}
	return KF_OK;
}
