/* Rows moved about, split over the rows; what is added up, over the columns, so that nothing depends on the threads. */
#include "common/ops/cpu/cpu.h"
#include "common/ops/cpu/vmath.h"
#include "common/ops/ref/ref.h"

enum { FLOATS = 1 << 15 };  /* fewer than this in all: one thread */

typedef struct {
	float *y, *q, *k, *v;
	const float *in, *b, *weight;
	const int32_t *index;
	const kf_attn *a;
	size_t n, C;
	bool grouped, join;
} rows_job;

static kf_pool *pool_for(kf_exec *x, size_t floats)
{
	return floats < FLOATS ? NULL : x->pool;
}

static void split_task(void *arg, size_t begin, size_t end, int worker)
{
	const rows_job *j = arg;
	const size_t D = (size_t)j->a->D, q = (size_t)j->a->H * D, k = (size_t)j->a->G * D;

	(void)worker;
	kf_ref_split_qkv(NULL, j->y + begin * (q + 2 * k), j->q + begin * q, j->k + begin * k, j->v + begin * k,
		(int)(end - begin), j->a, j->grouped, j->join);
}

void kf_cpu_split_qkv(kf_exec *x, float *fused, float *q, float *k, float *v, int T, const kf_attn *a,
	bool grouped, bool join)
{
	rows_job j = { .y = fused, .q = q, .k = k, .v = v, .a = a, .grouped = grouped, .join = join };

	kf_pool_split(pool_for(x, (size_t)T * (size_t)(a->H + 2 * a->G) * (size_t)a->D), (size_t)T, 16, split_task, &j);
}

static void gather_task(void *arg, size_t begin, size_t end, int worker)
{
	const rows_job *j = arg;

	(void)worker;
	kf_ref_gather(NULL, j->y + begin * j->C, j->in, j->index + begin, j->weight ? j->weight + begin : NULL,
		(int)(end - begin), (int)j->C);
}

void kf_cpu_gather(kf_exec *x, float *y, const float *in, const int32_t *index, const float *weight, int n,
	int C)
{
	rows_job j = { .y = y, .in = in, .index = index, .weight = weight, .C = (size_t)C };

	kf_pool_split(pool_for(x, (size_t)n * j.C), (size_t)n, 16, gather_task, &j);
}

static void scatter_task(void *arg, size_t begin, size_t end, int worker)
{
	const rows_job *j = arg;

	(void)worker;
	for (size_t i = 0; i < j->n; i++) {
		float *restrict y = j->y + (size_t)j->index[i] * j->C;
		const float *restrict in = j->in + i * j->C, w = j->weight ? j->weight[i] : 1;

		for (size_t c = begin; c < end; c++) y[c] += w * in[c];
	}
}

void kf_cpu_scatter(kf_exec *x, float *y, const float *in, const int32_t *index, const float *weight, int n,
	int C)
{
	rows_job j = { .y = y, .in = in, .index = index, .weight = weight, .n = (size_t)n, .C = (size_t)C };

	kf_pool_split(pool_for(x, (size_t)n * j.C), j.C, 64, scatter_task, &j);
}

static void store_task(void *arg, size_t begin, size_t end, int worker)
{
	const rows_job *j = arg;

	(void)worker;
	kf_ref_store(NULL, j->y, j->in + begin * j->C, j->index + begin, (int)(end - begin), (int)j->C);
}

void kf_cpu_store(kf_exec *x, float *y, const float *in, const int32_t *index, int n, int C)
{
	rows_job j = { .y = y, .in = in, .index = index, .C = (size_t)C };

	kf_pool_split(pool_for(x, (size_t)n * j.C), (size_t)n, 16, store_task, &j);
}

static void dots_task(void *arg, size_t begin, size_t end, int worker)
{
	const rows_job *j = arg;

	(void)worker;
	for (size_t i = begin; i < end; i++)
		j->y[i] = kf_vdot(j->in + i * j->C, j->b + (size_t)j->index[i] * j->C, j->C);
}

void kf_cpu_dots(kf_exec *x, float *out, const float *a, const float *b, const int32_t *index, int n, int C)
{
	rows_job j = { .y = out, .in = a, .b = b, .index = index, .C = (size_t)C };

	kf_pool_split(pool_for(x, (size_t)n * j.C), (size_t)n, 16, dots_task, &j);
}
