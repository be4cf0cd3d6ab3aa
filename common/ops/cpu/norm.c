/* RMSNorm and rotary positions, split over the rows. */
#include "common/ops/cpu/cpu.h"
#include "common/ops/cpu/state.h"
#include "common/ops/cpu/vmath.h"
#include "common/ops/ref/ref.h"

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

/* ---- rotary positions ---------------------------------------------------------- */

typedef struct {
	float *v, *table;       /* table: (positions, D): D/2 cosines, D/2 sines */
	const float *inv_freq;
	const int32_t *offset;
	int S, heads, D;
	float sign;
} rope_job;

static void table_task(void *arg, size_t begin, size_t end, int worker)
{
	const rope_job *j = arg;
	const int half = j->D / 2;

	(void)worker;
	for (size_t p = begin; p < end; p++)
		for (int i = 0; i < half; i++) {
			const float angle = (float)p * j->inv_freq[i]; /* a float product: see ref/norm.c */
			float *row = j->table + p * (size_t)j->D;

			row[i] = (float)cos(angle);
			row[i + half] = (float)sin(angle);
		}
}

/* Cosines and sines of n positions, kept from call to call: a model has one or two sets of
 * frequencies and asks for them twice a layer. NULL: no memory. */
static const float *rope_table(kf_exec *x, const float *inv_freq, int D, size_t n)
{
	kf_cpu_rope_table *t = NULL, *set = kf_cpu_rope_tables(x);
	const size_t half = (size_t)D / 2;
	rope_job j = { .inv_freq = inv_freq, .D = D };

	for (int i = 0; i < KF_CPU_ROPES && !t; i++)
		if (set[i].D == D && memcmp(set[i].inv_freq, inv_freq, half * sizeof *inv_freq) == 0) t = &set[i];
	if (t && t->n >= n) return t->table;
	if (!t) {
		t = &set[0];
		for (int i = 1; i < KF_CPU_ROPES && t->D; i++)
			if (set[i].n < t->n) t = &set[i];   /* a free one, or the shortest makes room */
	}
	n = (n + 255) / 256 * 256;
	kf_free(t->table);
	kf_free(t->inv_freq);
	*t = (kf_cpu_rope_table){ 0 };
	t->inv_freq = kf_alloc(half, sizeof *inv_freq);
	j.table = kf_alloc(n * (size_t)D, sizeof *j.table);
	if (!t->inv_freq || !j.table) {
		kf_free(j.table);
		kf_free(t->inv_freq);
		t->inv_freq = NULL;
		return NULL;
	}
	memcpy(t->inv_freq, inv_freq, half * sizeof *inv_freq);
	t->table = j.table;
	t->D = D;
	t->n = n;
	kf_pool_split(x->pool, n, 16, table_task, &j);
	return t->table;
}

static void rope_task(void *arg, size_t begin, size_t end, int worker)
{
	const rope_job *j = arg;
	const int half = j->D / 2;
	int s = 0;

	(void)worker;
	for (size_t t = begin; t < end; t++) {
		const float *restrict cs, *restrict sn;

		while ((size_t)j->offset[s + 1] <= t) s++;
		cs = j->table + (t - (size_t)j->offset[s]) * (size_t)j->D;
		sn = cs + half;
		for (int h = 0; h < j->heads; h++) {
			float *restrict a = j->v + (t * (size_t)j->heads + (size_t)h) * (size_t)j->D,
				*restrict b = a + half;

			for (int i = 0; i < half; i++) {
				const float u = a[i], w = b[i], n = j->sign * sn[i];

				a[i] = u * cs[i] - w * n;
				b[i] = w * cs[i] + u * n;
			}
		}
	}
}

void kf_cpu_rope(kf_exec *x, float *v, const float *inv_freq, const int32_t *offset, int S, int heads, int D,
	bool inverse)
{
	rope_job j = { .v = v, .offset = offset, .S = S, .heads = heads, .D = D, .sign = inverse ? -1.f : 1.f };
	int32_t longest = 0;

	for (int s = 0; s < S; s++)
		if (offset[s + 1] - offset[s] > longest) longest = offset[s + 1] - offset[s];
	if (!longest) return;
	if (!(j.table = (float *)rope_table(x, inv_freq, D, (size_t)longest))) {
		kf_ref_rope(x, v, inv_freq, offset, S, heads, D, inverse);
		return;
	}
	split_rows(x, (size_t)offset[S], (size_t)heads * (size_t)D, rope_task, &j);
}
