/* Matrix products: rows of the batch are split over our threads, each of which calls
 * oneDNN's sgemm on its part. (That reached 97 % of two cores' f32 peak on the models'
 * shapes, as much as weights packed beforehand did, and needs no second copy of them.) When bfloat16
 * is asked for, both operands are converted first and cut in the same way (bf16.c). */
#include "common/ops/cpu/cpu.h"
#include "common/ops/cpu/state.h"

#include <stdatomic.h>

enum {
	PANEL_BYTES = 8 << 20,  /* of unpacked rows at a time: bounds scratch, fits the last-level cache */
	GRAIN = 48,             /* columns the sgemm kernel takes at once with AVX-512 */
	ROWS = 16               /* fewer rows a thread than this: split the columns instead */
};

typedef struct {
	const kf_mat *w;
	float *out;
	uint64_t row;
} unpack_job;

static void unpack_task(void *arg, size_t begin, size_t end, int worker)
{
	unpack_job *j = arg;

	(void)worker;
	j->w->unpack(j->w->src, NULL, j->row + begin, end - begin, j->out + begin * (size_t)j->w->cols);
}

/* Rows of w for one panel: those in memory, or unpacked to scratch by all threads. */
static const float *panel(kf_exec *x, const kf_mat *w, int row, int n)
{
	unpack_job j = { w, NULL, (uint64_t)row };

	if (w->num) return w->num + (size_t)row * (size_t)w->cols;
	if (!(j.out = kf_cpu_scratch(x, KF_CPU_WEIGHT, (size_t)n * (size_t)w->cols * sizeof(float)))) return NULL;
	kf_pool_split(x->pool, (size_t)n, 1, unpack_task, &j);
	return j.out;
}

static int panel_rows(const kf_mat *w)
{
	size_t n = (size_t)PANEL_BYTES / sizeof(float) / (size_t)w->cols / GRAIN * GRAIN;

	if (n < GRAIN) n = GRAIN;
	return w->num || n > (size_t)w->rows ? w->rows : (int)n;
}

/* C (M, N) = op(A) op(B) + beta C, cut along M or N. */
typedef struct {
	bool ta, tb, by_rows;
	int64_t M, N, K, lda, ldb, ldc;
	const float *A, *B, *bias;   /* bias (N) is added where beta counts C, put first where not */
	float *C, beta;
	kf_cpu_bf16 *bf16;           /* not NULL: A16 and B16 stand for A and B; B16 may be there already */
	const uint16_t *A16, *B16;
	atomic_int status;
} gemm_job;

static void gemm_task(void *arg, size_t begin, size_t end, int worker)
{
	gemm_job *j = arg;
	const int64_t b = (int64_t)begin, n = (int64_t)(end - begin);
	const int64_t m0 = j->by_rows ? b : 0, M = j->by_rows ? n : j->M;
	const int64_t n0 = j->by_rows ? 0 : b, N = j->by_rows ? j->N : n;
	const int64_t a = j->ta ? m0 : m0 * j->lda, at = j->tb ? n0 * j->ldb : n0;
	float *C = j->C + m0 * j->ldc + n0, beta = j->beta;
	int st;

	if (j->bias) {
		const float *bias = j->bias + n0;

		for (int64_t i = 0; i < M; i++) {
			float *row = C + i * j->ldc;

			if (beta != 0) for (int64_t c = 0; c < N; c++) row[c] += bias[c];
			else memcpy(row, bias, (size_t)N * sizeof *row);
		}
		beta = 1;
	}
	if (j->bf16)
		st = kf_cpu_bf16_gemm(j->bf16, worker, j->ta, j->tb, M, N, j->K, j->A16 + a, j->lda, j->B16 + at,
			j->ldb,
			beta != 0, C, j->ldc);
	else
		st = kf_cpu_sgemm(j->ta, j->tb, M, N, j->K, 1, j->A + a, j->lda, j->B + at, j->ldb, beta, C, j->ldc);
	if (st) atomic_store(&j->status, st);
}

static kf_status gemm(kf_exec *x, gemm_job *j, const char *what, kf_err *err)
{
	const int threads = kf_pool_size(x->pool);

	if (j->M <= 0 || j->N <= 0) return KF_OK;
	if ((j->bf16 = kf_cpu_bf16_of(x))) {
		const int64_t arows = j->ta ? j->K : j->M, acols = j->ta ? j->M : j->K;
		const int64_t brows = j->tb ? j->N : j->K, bcols = j->tb ? j->K : j->N;

		j->A16 = kf_cpu_to_bf16(x, KF_CPU_ACT, j->A, arows, acols, j->lda);
		if (!j->B16) j->B16 = kf_cpu_to_bf16(x, KF_CPU_WEIGHT16, j->B, brows, bcols, j->ldb);
		if (!j->A16 || !j->B16)
			return kf_fail(err, KF_ENOMEM, "%s: out of memory to convert to bfloat16", what);
		j->lda = acols;
		j->ldb = bcols;
	}
	j->by_rows = j->M >= (int64_t)ROWS * threads || j->N < (int64_t)GRAIN * threads;
	kf_pool_split(x->pool, (size_t)(j->by_rows ? j->M : j->N), j->by_rows ? 8 : GRAIN, gemm_task, j);
	return kf_cpu_dnnl_status(atomic_load(&j->status), what, err);
}

static kf_status no_memory(const char *what, const kf_mat *w, kf_err *err)
{
	return kf_fail(err, KF_ENOMEM, "%s: out of memory to unpack rows of a weight matrix of %d x %d", what,
		w->rows, w->cols);
}

kf_status kf_cpu_linear(kf_exec *x, float *y, const float *in, const kf_mat *w, const float *bias, int T,
	bool add, kf_err *err)
{
	const uint16_t *half = kf_cpu_bf16_of(x) ? w->half : NULL;
	const int step = half ? w->rows : panel_rows(w);
	kf_status rc;

	if (kf_cpu_int8_of(x, w)) return kf_cpu_linear_int8(x, y, in, w, bias, T, add, err);
	for (int n = 0; n < w->rows; n += step) {
		const int rows = n + step < w->rows ? step : w->rows - n;
		gemm_job j = { .tb = true, .M = T, .N = rows, .K = w->cols, .A = in, .lda = w->cols,
			.B = half ? NULL : panel(x, w, n, rows), .B16 = half,
			.ldb = w->cols, .C = y + n, .ldc = w->rows, .bias = bias ? bias + n : NULL, .beta = add ? 1 : 0 };

		if (!j.B && !half) return no_memory("linear", w, err);
		if ((rc = gemm(x, &j, "linear", err)) != KF_OK) return rc;
	}
	return KF_OK;
}

kf_status kf_cpu_logits(kf_exec *x, float *y, const float *in, const kf_mat *w, int T, kf_err *err)
{
	return kf_cpu_linear(x, y, in, w, NULL, T, false, err);
}

kf_status kf_cpu_linear_dx(kf_exec *x, float *dx, const float *dy, const kf_mat *w, int T, bool add,
	kf_err *err)
{
	const int step = panel_rows(w);
	kf_status rc;

	for (int n = 0; n < w->rows; n += step) {
		const int rows = n + step < w->rows ? step : w->rows - n;
		gemm_job j = { .M = T, .N = w->cols, .K = rows, .A = dy + n, .lda = w->rows,
			.B = panel(x, w, n, rows),
			.ldb = w->cols, .C = dx, .ldc = w->cols, .beta = add || n ? 1 : 0 };

		if (!j.B) return no_memory("linear_dx", w, err);
		if ((rc = gemm(x, &j, "linear_dx", err)) != KF_OK) return rc;
	}
	return KF_OK;
}

typedef struct {
	float *db;
	const float *dy;
	int T, N;
} bias_job;

/* Sums over the rows in one order, whatever the threads: floats within 64 rows, doubles above. */
static void bias_task(void *arg, size_t begin, size_t end, int worker)
{
	bias_job *j = arg;
	double sum[64];
	float part[64];

	(void)worker;
	for (size_t n = begin; n < end; n += 64) {
		const size_t m = end - n < 64 ? end - n : 64;

		memset(sum, 0, sizeof sum);
		for (int t0 = 0; t0 < j->T; t0 += 64) {
			memset(part, 0, sizeof part);
			for (int t = t0; t < j->T && t < t0 + 64; t++)
				for (size_t c = 0; c < m; c++) part[c] += j->dy[(size_t)t * (size_t)j->N + n + c];
			for (size_t c = 0; c < m; c++) sum[c] += part[c];
		}
		for (size_t c = 0; c < m; c++) j->db[n + c] = (float)(j->db[n + c] + sum[c]);
	}
}

kf_status kf_cpu_linear_dw(kf_exec *x, float *dw, float *db, const float *dy, const float *in, int T, int N,
	int K, kf_err *err)
{
	gemm_job j = { .ta = true, .M = N, .N = K, .K = T, .A = dy, .lda = N, .B = in, .ldb = K, .C = dw,
		.ldc = K, .beta = 1 };
	bias_job b = { db, dy, T, N };

	if (T <= 0) return KF_OK;
	if (db) kf_pool_split(x->pool, (size_t)N, 64, bias_task, &b);
	return gemm(x, &j, "linear_dw", err);
}
