/* LayerNorm, split over the rows; its parameters' gradients over the columns. */
#include "common/ops/cpu/cpu.h"
#include "common/ops/cpu/vmath.h"

enum { FLOATS = 1 << 15 };  /* fewer than this in all: one thread */

typedef struct {
	float *y, *dw, *db, *stat;
	const float *in, *dy, *w, *b, *kept;
	float eps;
	size_t rows, C;
} norm_job;

static void norm_task(void *arg, size_t begin, size_t end, int worker)
{
	const norm_job *j = arg;
	const size_t C = j->C;

	(void)worker;
	for (size_t r = begin; r < end; r++) {
		const float *a = j->in + r * C, *w = j->w, *b = j->b;
		float *y = j->y + r * C, mean, rs;
		double sum = 0, sq = 0;

		for (size_t c0 = 0; c0 < C; c0 += 256) {   /* floats within 256, doubles above */
			float part = 0;

			for (size_t c = c0; c < C && c < c0 + 256; c++) part += a[c];
			sum += part;
		}
		mean = (float)(sum / (double)C);
		for (size_t c0 = 0; c0 < C; c0 += 256) {
			float part = 0;

			for (size_t c = c0; c < C && c < c0 + 256; c++) part += (a[c] - mean) * (a[c] - mean);
			sq += part;
		}
		rs = (float)(1 / sqrt(sq / (double)C + j->eps));
		if (j->stat) {
			j->stat[r] = mean;
			j->stat[j->rows + r] = rs;
		}
		if (b) {
#pragma GCC ivdep
			for (size_t c = 0; c < C; c++) y[c] = (a[c] - mean) * rs * w[c] + b[c];
		} else {
#pragma GCC ivdep
			for (size_t c = 0; c < C; c++) y[c] = (a[c] - mean) * rs * w[c];
		}
	}
}

void kf_cpu_layernorm(kf_exec *x, float *y, float *stat, const float *in, const float *w, const float *b,
	float eps, int64_t rows, int C)
{
	norm_job j = { .y = y, .stat = stat, .in = in, .w = w, .b = b, .eps = eps, .rows = (size_t)rows, .C = (size_t)C };

	kf_pool_split(j.rows * j.C < FLOATS ? NULL : x->pool, j.rows, 1, norm_task, &j);
}

static void norm_dx_task(void *arg, size_t begin, size_t end, int worker)
{
	const norm_job *j = arg;
	const size_t C = j->C;

	(void)worker;
	for (size_t r = begin; r < end; r++) {
		const float *a = j->in + r * C, *d = j->dy + r * C, *w = j->w;
		float *dx = j->y + r * C;
		const float mean = j->kept[r], rs = j->kept[j->rows + r];
		double sg = 0, sgn = 0;
		float g, gn;

		for (size_t c0 = 0; c0 < C; c0 += 256) {
			float p = 0, q = 0;

			for (size_t c = c0; c < C && c < c0 + 256; c++) {
				p += d[c] * w[c];
				q += d[c] * w[c] * (a[c] - mean);
			}
			sg += p;
			sgn += q;
		}
		g = (float)(sg / (double)C);
		gn = (float)(sgn / (double)C * rs * rs);
#pragma GCC ivdep
		for (size_t c = 0; c < C; c++) dx[c] += rs * (d[c] * w[c] - g - (a[c] - mean) * gn);
	}
}

/* As in norm.c: every thread reads all rows of its columns, so that the sums do not depend on the threads. */
static void norm_dw_task(void *arg, size_t begin, size_t end, int worker)
{
	const norm_job *j = arg;
	const size_t C = j->C;
	double dw[64], db[64];

	(void)worker;
	for (size_t c0 = begin; c0 < end; c0 += 64) {
		const size_t n = end - c0 < 64 ? end - c0 : 64;

		memset(dw, 0, sizeof dw);
		memset(db, 0, sizeof db);
		for (size_t r = 0; r < j->rows; r++) {
			const float *a = j->in + r * C + c0, *d = j->dy + r * C + c0;
			const float mean = j->kept[r], rs = j->kept[j->rows + r];

			for (size_t c = 0; c < n; c++) {
				dw[c] += d[c] * (a[c] - mean) * rs;
				db[c] += d[c];
			}
		}
		for (size_t c = 0; c < n; c++) {
			if (j->dw) j->dw[c0 + c] = (float)(j->dw[c0 + c] + dw[c]);
			if (j->db) j->db[c0 + c] = (float)(j->db[c0 + c] + db[c]);
		}
	}
}

void kf_cpu_layernorm_dx(kf_exec *x, float *dx, float *dw, float *db, const float *dy, const float *in,
	const float *w, const float *stat, int64_t rows, int C)
{
	norm_job j = { .y = dx, .dw = dw, .db = db, .in = in, .dy = dy, .w = w, .kept = stat, .rows = (size_t)rows,
		.C = (size_t)C };
	kf_pool *pool = j.rows * j.C < FLOATS ? NULL : x->pool;

	if ((dw || db) && C > 0) kf_pool_split(pool, j.C, 64, norm_dw_task, &j);
	if (dx) kf_pool_split(pool, j.rows, 1, norm_dx_task, &j);
}
