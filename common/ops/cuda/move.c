/* Rows moved about: fused projections, experts, rows that are kept. */
#include "common/ops/cuda/ops.h"

#include <limits.h>

void kf_cuda_op_split_qkv(kf_exec *x, void *fused, void *q, void *k, void *v, int T, const kf_attn *a, bool grouped, bool join)
{
	kf_cuda *c = kf_cuda_of(x);

	kf_cuda_note(c, kf_cuda_split_qkv(x->num, fused, q, k, v, T, a, grouped, join, c->dev.stream), "split_qkv");
}

/* The host waits: it puts the rows in the order of their experts. */
kf_status kf_cuda_op_route(kf_exec *x, float *weight, int32_t *index, const void *logits, int T, int E, int k, kf_err *err)
{
	kf_cuda *c = kf_cuda_of(x);
	const size_t n = (size_t)T * (size_t)k;
	const int32_t none = INT32_MAX;
	int32_t *on_device = kf_cuda_scratch(c, KF_CUDA_WORK, n * sizeof *index, "the choice of experts", err), *bad, row;
	kf_status rc;

	if (!on_device || !(bad = kf_cuda_upload(c, &none, sizeof none, err))) return c->rc;
	const kf_cuda_answer answers[] = { { &row, bad, sizeof row }, { index, on_device, n * sizeof *index } };

	if ((rc = kf_cuda_check(c, kf_cuda_route(x->num, weight, on_device, logits, T, E, k, bad, c->dev.stream), "route",
	     err)) != KF_OK || (rc = kf_cuda_take(x, answers, 2, err)) != KF_OK)
		return rc;
	if (row != none)
		return kf_fail(err, KF_EDATA, "the router's logits of row %d of the batch are not finite numbers: "
			"weights or activations are damaged or overflow", row);
	return KF_OK;
}

void kf_cuda_op_route_dx(kf_exec *x, void *dlogits, const float *dweight, const float *weight, const int32_t *index, int T, int E,
	int k)
{
	kf_cuda *c = kf_cuda_of(x);
	int32_t *at = kf_cuda_upload(c, index, (size_t)T * (size_t)k * sizeof *index, kf_cuda_later(c));

	if (at) kf_cuda_note(c, kf_cuda_route_dx(x->num, dlogits, dweight, weight, at, T, E, k, c->dev.stream), "route_dx");
}

void kf_cuda_op_permute(kf_exec *x, float *out, const float *in, const int32_t *index, int n, bool inverse)
{
	kf_cuda *c = kf_cuda_of(x);
	int32_t *at = kf_cuda_upload(c, index, (size_t)n * sizeof *index, kf_cuda_later(c));

	if (at) kf_cuda_note(c, kf_cuda_permute(out, in, at, n, inverse, c->dev.stream), "permute");
}

void kf_cuda_op_gather(kf_exec *x, void *y, const void *in, const int32_t *index, const float *weight, int n, int C)
{
	kf_cuda *c = kf_cuda_of(x);
	int32_t *at = kf_cuda_upload(c, index, (size_t)n * sizeof *index, kf_cuda_later(c));

	if (at) kf_cuda_note(c, kf_cuda_gather(x->num, y, in, at, weight, 1, n, C, c->dev.stream), "gather");
}

/* y's rows are added to in a fixed order: rows that go to the same place are brought together on the host. */
kf_status kf_cuda_add_rows(kf_exec *x, void *y, const void *in, const int32_t *index, const float *weight, float scale, int n,
	int range, int C, const char *op, kf_err *err)
{
	kf_cuda *c = kf_cuda_of(x);
	const size_t N = (size_t)n, bytes = (3 * N + 1) * sizeof(int32_t);
	int32_t *host, *order;
	int groups;

	if (!n) return KF_OK;
	if (!(host = kf_alloc(3 * N + 1, sizeof *host)) || (groups = kf_cuda_group(index, n, range, host, host + N, host + 2 * N + 1)) < 0) {
		kf_free(host);
		return kf_fail(err, KF_ENOMEM, "%s: no memory for the order of %d rows", op, n);
	}
	order = kf_cuda_upload(c, host, bytes, err);
	kf_free(host);
	if (!order) return c->rc;
	return kf_cuda_check(c, kf_cuda_scatter(x->num, y, in, order, order + N, order + 2 * N + 1, groups, weight,
		scale, C, c->dev.stream), op, err);
}

void kf_cuda_op_scatter(kf_exec *x, void *y, const void *in, const int32_t *index, const float *weight, int n, int C)
{
	int range = 0;

	for (int i = 0; i < n; i++)
		if (index[i] >= range) range = index[i] + 1;
	(void)!kf_cuda_add_rows(x, y, in, index, weight, 1, n, range, C, "scatter", kf_cuda_later(kf_cuda_of(x)));
}

void kf_cuda_op_dots(kf_exec *x, float *out, const void *a, const void *b, const int32_t *index, int n, int C)
{
	kf_cuda *c = kf_cuda_of(x);
	int32_t *at = kf_cuda_upload(c, index, (size_t)n * sizeof *index, kf_cuda_later(c));

	if (at) kf_cuda_note(c, kf_cuda_dots(x->num, out, a, b, at, n, C, c->dev.stream), "dots");
}

/* Through other memory: in place, blocks would overtake one another. */
void kf_cuda_op_keep_rows(kf_exec *x, void *y, int C, const int32_t *rows, int n)
{
	kf_cuda *c = kf_cuda_of(x);
	const size_t bytes = (size_t)n * (size_t)C * kf_num_size(x->num);
	int32_t *at = kf_cuda_upload(c, rows, (size_t)n * sizeof *rows, kf_cuda_later(c));
	void *copy = kf_cuda_scratch(c, KF_CUDA_ROWS, bytes, "rows that are kept", kf_cuda_later(c));

	if (!at || !copy) return;
	kf_cuda_note(c, kf_cuda_gather(x->num, copy, y, at, NULL, 1, n, C, c->dev.stream), "keep_rows");
	kf_cuda_note(c, kf_cuda_copy(y, copy, bytes, c->dev.stream), "keep_rows");
}
