/* A matrix product in int8 (int8.h): the batch's rows are quantised, the weights packed a panel at a time, both by all
 * threads, then the rows, or where there are few the columns, are split over the threads. */
#include "common/ops/cpu/cpu.h"
#include "common/ops/cpu/state.h"

enum {
	PANEL_BYTES = 8 << 20,  /* of packed weights at a time */
	COLS = KF_INT8_COLS,
	ROWS = 24               /* fewer rows a thread than this: split the columns instead */
};

typedef struct {
	kf_exec *x;
	const kf_mat *w;
	kf_int8_rows a;
	const float *in, *bias;
	float *y;
	char *packed;
	int T, n0, n;           /* the panel: rows [n0, n0 + n) of w */
	bool add, by_rows;
	atomic_int failed;
} int8_job;

void kf_cpu_int8_pack(kf_exec *x, int worker, const kf_mat *w, const int32_t *index, uint64_t row, uint64_t n, char *out,
	atomic_int *failed)
{
	const size_t cols = (size_t)w->cols, group = kf_int8_group_bytes(w->cols);
	float *floats = !w->num || index ? kf_cpu_worker_scratch(x, worker, COLS * cols * sizeof *floats) : NULL;

	if ((!w->num || index) && !floats) {
		atomic_store(failed, 1);
		return;
	}
	for (uint64_t at = 0; at < n; at += COLS, out += group) {
		const uint64_t m = n - at < COLS ? n - at : COLS;

		if (!w->num)
			w->unpack(w->src, index ? index + at : NULL, index ? 0 : row + at, m, floats);
		for (uint64_t i = 0; w->num && index && i < m; i++)
			memcpy(floats + i * cols, w->num + (size_t)index[at + i] * cols, cols * sizeof *floats);
		kf_int8_pack(out, floats ? floats : w->num + (row + at) * cols, (int)m, w->cols);
	}
}

static void pack_task(void *arg, size_t begin, size_t end, int worker)
{
	int8_job *j = arg;

	kf_cpu_int8_pack(j->x, worker, j->w, NULL, (uint64_t)j->n0 + begin, end - begin,
		j->packed + begin / COLS * kf_int8_group_bytes(j->w->cols), &j->failed);
}

static void quantise_task(void *arg, size_t begin, size_t end, int worker)
{
	const int8_job *j = arg;

	(void)worker;
	kf_int8_quantise(&j->a, j->in, j->w->cols, j->w->cols, (int64_t)begin, (int64_t)end);
}

bool kf_cpu_int8_quantise(kf_exec *x, int slot, const float *in, int64_t rows, int64_t K, kf_int8_rows *out)
{
	const kf_mat w = { .cols = (int)K };
	int8_job j = { .w = &w, .in = in };
	void *memory = kf_cpu_scratch(x, slot, kf_int8_rows_bytes(rows, K));

	if (!memory) return false;
	*out = j.a = kf_int8_rows_at(memory, rows, K);
	kf_pool_split(x->pool, (size_t)rows, 8, quantise_task, &j);
	return true;
}

static void product_task(void *arg, size_t begin, size_t end, int worker)
{
	int8_job *j = arg;
	const int64_t N = j->w->rows, m0 = j->by_rows ? (int64_t)begin : 0, M = j->by_rows ? (int64_t)(end - begin) : j->T;
	const int64_t n0 = j->by_rows ? 0 : (int64_t)begin, n = j->by_rows ? j->n : (int64_t)(end - begin);
	float *y = j->y + m0 * N + j->n0 + n0;

	(void)worker;
	kf_int8_gemm(&j->a, m0, M, j->packed + (size_t)(n0 / COLS) * kf_int8_group_bytes(j->w->cols), n, j->add, y, N);
	if (!j->bias) return;
	for (int64_t m = 0; m < M; m++)
		for (int64_t i = 0; i < n; i++) y[m * N + i] += j->bias[j->n0 + n0 + i];
}

kf_status kf_cpu_linear_int8(kf_exec *x, float *y, const float *in, const kf_mat *w, const float *bias, int T, bool add,
	kf_err *err)
{
	const int threads = kf_pool_size(x->pool);
	const size_t group = kf_int8_group_bytes(w->cols), fit = PANEL_BYTES / group, all = ((size_t)w->rows + COLS - 1) / COLS;
	const size_t groups = fit < 1 ? 1 : fit < all ? fit : all;
	int8_job j = { .x = x, .w = w, .in = in, .bias = bias, .y = y, .T = T, .add = add,
		.by_rows = T >= ROWS * threads };

	if (T <= 0) return KF_OK;
	j.packed = kf_cpu_scratch(x, KF_CPU_WEIGHT, groups * group);
	if (!j.packed || !kf_cpu_int8_quantise(x, KF_CPU_ACT, in, T, w->cols, &j.a))
		return kf_fail(err, KF_ENOMEM, "linear: out of memory for a product in int8 of %d rows", T);
	for (j.n0 = 0; j.n0 < w->rows; j.n0 += j.n) {
		j.n = w->rows - j.n0 < (int)groups * COLS ? w->rows - j.n0 : (int)groups * COLS;
		kf_pool_split(x->pool, (size_t)j.n, COLS, pack_task, &j);
		if (atomic_load(&j.failed))
			return kf_fail(err, KF_ENOMEM, "linear: out of memory to unpack rows of a weight matrix of %d x %d", w->rows, w->cols);
		kf_pool_split(x->pool, (size_t)(j.by_rows ? T : j.n), j.by_rows ? 6 : COLS, product_task, &j);
	}
	return KF_OK;
}
