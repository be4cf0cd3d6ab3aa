/* Matrix products with weights, and the embedding. */
#include "common/ops/cuda/ops.h"

kf_status kf_cuda_op_linear(kf_exec *x, void *y, const void *in, const kf_mat *w, const float *bias, int T, bool add, kf_err *err)
{
	kf_cuda *c = kf_cuda_of(x);
	const kf_cuda_product p = { .tb = true, .add = add, .M = T, .N = w->rows, .K = w->cols, .lda = w->cols, .ldb = w->cols,
		.ldc = w->rows, .in = x->num, .out = x->num };
	kf_status rc = kf_cuda_gemm_run(c->gemm, &p, y, in, w->num, err);

	if (rc != KF_OK) return rc;
	return kf_cuda_check(c, bias ? kf_cuda_add_bias(x->num, y, bias, T, w->rows, c->dev.stream) : 0, "linear", err);
}

kf_status kf_cuda_op_linear_dx(kf_exec *x, void *dx, const void *dy, const kf_mat *w, int T, bool add, kf_err *err)
{
	const kf_cuda_product p = { .add = add, .M = T, .N = w->cols, .K = w->rows, .lda = w->rows, .ldb = w->cols, .ldc = w->cols,
		.in = x->num, .out = x->num };

	return kf_cuda_gemm_run(kf_cuda_of(x)->gemm, &p, dx, dy, w->num, err);
}

kf_status kf_cuda_op_linear_dw(kf_exec *x, void *dw, float *db, const void *dy, const void *in, int T, int N, int K, kf_err *err)
{
	kf_cuda *c = kf_cuda_of(x);
	const kf_cuda_product p = { .ta = true, .add = true, .M = N, .N = K, .K = T, .lda = N, .ldb = K, .ldc = K, .in = x->num,
		.out = x->num };
	kf_status rc;
	void *work;

	if (!T) return KF_OK;
	if ((rc = kf_cuda_gemm_run(c->gemm, &p, dw, dy, in, err)) != KF_OK || !db) return rc;
	if (!(work = kf_cuda_scratch(c, KF_CUDA_WORK, kf_cuda_column_sums_scratch(T, N), "the gradient of a bias", err))) return c->rc;
	return kf_cuda_check(c, kf_cuda_column_sums(db, x->num, dy, T, N, work, c->dev.stream), "linear_dw", err);
}

static kf_status check(const char *op, const int32_t *tokens, int T, int V, kf_err *err)
{
	for (int t = 0; t < T; t++)
		if (tokens[t] < 0 || tokens[t] >= V)
			return kf_fail(err, KF_EINVAL, "%s: token %d of row %d is not in a vocabulary of %d", op, tokens[t], t, V);
	return KF_OK;
}

kf_status kf_cuda_op_embed(kf_exec *x, void *y, const kf_mat *table, const int32_t *tokens, float scale, int T, kf_err *err)
{
	kf_cuda *c = kf_cuda_of(x);
	kf_status rc = check("embed", tokens, T, table->rows, err);
	int32_t *index;

	if (rc != KF_OK) return rc;
	if (!(index = kf_cuda_upload(c, tokens, (size_t)T * sizeof *tokens, err))) return c->rc;
	return kf_cuda_check(c, kf_cuda_gather(x->num, y, table->num, index, NULL, scale, T, table->cols, c->dev.stream),
		"embed", err);
}

kf_status kf_cuda_op_embed_dw(kf_exec *x, void *dtable, const void *dy, const int32_t *tokens, float scale, int T, int V, int C,
	kf_err *err)
{
	kf_status rc = check("embed_dw", tokens, T, V, err);

	return rc == KF_OK ? kf_cuda_add_rows(x, dtable, dy, tokens, NULL, scale, T, V, C, "embed_dw", err) : rc;
}
