/* RMSNorm, split over the rows. */
#include "common/ops/cpu/cpu.h"
#include "common/ops/cpu/vmath.h"

enum { FLOATS = 1 << 15 };  /* fewer than this in all: one thread */

typedef struct {
	float *y, *dw;
	float *rstd;
	const float *in, *dy, *w, *kept;
	float eps;
	size_t rows, C;
} norm_job;

static void split_rows(kf_exec *x, size_t rows, size_t C, kf_range_task fn, void *arg)
{
	kf_pool_split(rows * C < FLOATS ? NULL : x->pool, rows, 1, fn, arg);
}

static void norm_task(void *arg, size_t begin, size_t end, int worker)
{
	const norm_job *j = arg;
	const size_t C = j->C;

	(void)worker;
	for (size_t r = begin; r < end; r++) {
		const float *a = j->in + r * C, *w = j->w;
		float *y = j->y + r * C;
		const float rs = (float)(1 / sqrt(kf_vsumsq(a, C) / (double)C + j->eps));

#pragma GCC ivdep
		for (size_t c = 0; c < C; c++) y[c] = a[c] * rs * w[c];
		if (j->rstd) j->rstd[r] = rs;
	}
}

void kf_cpu_rmsnorm(kf_exec *x, float *y, float *rstd, const float *in, const float *w, float eps,
	int64_t rows, int C)
{
	norm_job j = { .y = y, .rstd = rstd, .in = in, .w = w, .eps = eps, .C = (size_t)C };

	split_rows(x, (size_t)rows, (size_t)C, norm_task, &j);
}

static void norm_dx_task(void *arg, size_t begin, size_t end, int worker)
{
	const norm_job *j = arg;
	const size_t C = j->C;

	(void)worker;
	for (size_t r = begin; r < end; r++) {
		const float *a = j->in + r * C, *d = j->dy + r * C, *w = j->w;
		float *dx = j->y + r * C;
		const float rs = j->kept[r];
		kf_v16 acc = { 0 };
		float s = 0, m;
		size_t c = 0;

		for (; c + 16 <= C; c += 16) acc += kf_vload(d + c) * kf_vload(w + c) * kf_vload(a + c);
		for (; c < C; c++) s += d[c] * w[c] * a[c];
		m = (kf_vfold(acc) + s) * rs * rs / (float)C;   /* rstd * mean(g n), n = a rstd */
#pragma GCC ivdep
		for (c = 0; c < C; c++) dx[c] += rs * (d[c] * w[c] - a[c] * m);
	}
}

/* dw over a range of columns: every thread reads all rows, so no partial sums meet and
 * the result does not depend on the threads. Floats within 64 rows, doubles above. */
static void norm_dw_task(void *arg, size_t begin, size_t end, int worker)
{
	const norm_job *j = arg;
	const size_t C = j->C;
	double sum[64];
	float part[64];

	(void)worker;
	for (size_t c0 = begin; c0 < end; c0 += 64) {
		const size_t n = end - c0 < 64 ? end - c0 : 64;

		memset(sum, 0, sizeof sum);
		for (size_t r0 = 0; r0 < j->rows; r0 += 64) {
			memset(part, 0, sizeof part);
			for (size_t r = r0; r < j->rows && r < r0 + 64; r++) {
				const float *a = j->in + r * C + c0, *d = j->dy + r * C + c0;
				const float rs = j->kept[r];

				for (size_t c = 0; c < n; c++) part[c] += d[c] * a[c] * rs;
			}
			for (size_t c = 0; c < n; c++) sum[c] += part[c];
		}
		for (size_t c = 0; c < n; c++) j->dw[c0 + c] = (float)(j->dw[c0 + c] + sum[c]);
	}
}

void kf_cpu_rmsnorm_dx(kf_exec *x, float *dx, float *dw, const float *dy, const float *in, const float *w,
	const float *rstd, int64_t rows, int C)
{
	norm_job j = { .y = dx, .dw = dw, .in = in, .dy = dy, .w = w, .kept = rstd, .rows = (size_t)rows,
		.C = (size_t)C };

	if (dw && C > 0) kf_pool_split(j.rows * j.C < FLOATS ? NULL : x->pool, j.C, 64, norm_dw_task, &j);
	if (dx) split_rows(x, j.rows, j.C, norm_dx_task, &j);
}
