/* Embedding rows: gathered over the tokens; gradients split over the columns, so that
 * tokens that occur twice need no locks and are added in their order. */
#include "common/ops/cpu/cpu.h"

typedef struct {
	float *y;
	const float *dy;
	const kf_mat *table;
	const int32_t *tokens;
	float scale;
	int T, C;
} embed_job;

static kf_status check(const char *op, const int32_t *tokens, int T, int V, kf_err *err)
{
	for (int t = 0; t < T; t++)
		if (tokens[t] < 0 || tokens[t] >= V)
			return kf_fail(err, KF_EINVAL, "%s: token %d of row %d is not in a vocabulary of %d", op,
				tokens[t], t, V);
	return KF_OK;
}

static void embed_task(void *arg, size_t begin, size_t end, int worker)
{
	embed_job *j = arg;
	const size_t C = (size_t)j->C;
	float *y = j->y + begin * C;

	(void)worker;
	if (j->table->num)
		for (size_t t = begin; t < end; t++)
			memcpy(j->y + t * C, j->table->num + (size_t)j->tokens[t] * C, C * sizeof *y);
	else
		j->table->unpack(j->table->src, j->tokens + begin, 0, end - begin, y);
	if (j->scale != 1)
		for (size_t i = 0; i < (end - begin) * C; i++) y[i] *= j->scale;
}

kf_status kf_cpu_embed(kf_exec *x, float *y, const kf_mat *table, const int32_t *tokens, float scale, int T,
	kf_err *err)
{
	embed_job j = { .y = y, .table = table, .tokens = tokens, .scale = scale, .C = table->cols };
	kf_status rc = check("embed", tokens, T, table->rows, err);

	if (rc == KF_OK && T > 0) kf_pool_split(x->pool, (size_t)T, 16, embed_task, &j);
	return rc;
}

static void embed_dw_task(void *arg, size_t begin, size_t end, int worker)
{
	embed_job *j = arg;
	const size_t C = (size_t)j->C;

	(void)worker;
	for (size_t t = 0; t < (size_t)j->T; t++) {
		float *restrict d = j->y + (size_t)j->tokens[t] * C;
		const float *restrict g = j->dy + t * C;

		for (size_t c = begin; c < end; c++) d[c] += j->scale * g[c];
	}
}

kf_status kf_cpu_embed_dw(kf_exec *x, float *dtable, const float *dy, const int32_t *tokens, float scale,
	int T, int V, int C, kf_err *err)
{
	embed_job j = { .y = dtable, .dy = dy, .tokens = tokens, .scale = scale, .T = T, .C = C };
	kf_status rc = check("embed_dw", tokens, T, V, err);

	if (rc == KF_OK && C > 0) kf_pool_split(x->pool, (size_t)C, 16, embed_dw_task, &j);
	return rc;
}
