/* Speed of the fused head at the shapes of the demo's models: one JSON object a line.
 *
 *     bench_head [ROWS [THREADS]]
 *
 * "gemm" is a plain product of the same size, the least that any head must do (score: one; loss
 * with both gradients: three). */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "common/base/progress.h"
#include "common/base/rng.h"
#include "common/ops/cpu/cpu.h"

typedef struct { int T, V, C; const float *h, *w; float *z; } product;

static void gemm(void *arg, size_t begin, size_t end, int worker)
{
	product *p = arg;
	(void)worker;
	for (size_t v = begin; v < end; v += 2048) {
		int n = end - v < 2048 ? (int)(end - v) : 2048;
		if (kf_cpu_sgemm(false, true, p->T, n, p->C, 1, p->h, p->C, p->w + v * p->C, p->C, 0, p->z + (size_t)worker * p->T * 2048, n)) exit(1);
	}
}

/* Processor time of all threads: steadier than the clock on a machine that is shared. */
static double cpu_time(void)
{
	struct timespec t;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void bench(kf_pool *pool, kf_exec *x, const char *name, int T, int V, int C)
{
	enum { K = 10 };
	kf_rng r;
	kf_err err;
	kf_rng_seed(&r, 1);
	float *h = kf_alloc((size_t)T * C, 4), *w = kf_alloc((size_t)V * C, 4), *dh = kf_alloc((size_t)T * C, 4), *dw = kf_zalloc((size_t)V * C, 4);
	float *q = kf_alloc((size_t)T * K, 4), *ce = kf_alloc(T, 4), *lp = kf_alloc((size_t)T * K, 4), *nlm = kf_alloc((size_t)T * 3, 4);
	float *xlp = kf_alloc((size_t)T * 6, 4), *z = kf_alloc((size_t)kf_pool_size(pool) * T * 2048, 4);
	int32_t *labels = kf_alloc(T, 4), *ids = kf_alloc((size_t)T * K, 4), *order = kf_alloc(V, 4), *top = kf_alloc((size_t)T * K, 4);
	int32_t *lo = kf_alloc((size_t)T * 3, 4), *hi = kf_alloc((size_t)T * 3, 4), *roff = kf_alloc(T + 1, 4), *xn = kf_alloc(T, 4), *xids = kf_alloc((size_t)T * 6, 4);
	uint32_t *off = kf_alloc(T + 1, 4);
	for (size_t i = 0; i < (size_t)T * C; i++) h[i] = (float)kf_rng_normal(&r);
	for (size_t i = 0; i < (size_t)V * C; i++) w[i] = .1f * (float)kf_rng_normal(&r);
	for (int i = 0; i < V; i++) order[i] = i;
	for (int i = V - 1; i > 0; i--) {
		int j = (int)kf_rng_below(&r, i + 1), o = order[i];
		order[i] = order[j];
		order[j] = o;
	}
	off[0] = 0;
	roff[0] = 0;
	for (int t = 0; t < T; t++) {
		labels[t] = (int)kf_rng_below(&r, V);
		for (int i = 0; i < K; i++) {
			ids[t * K + i] = (int)((labels[t] + i * 1009) % V);
			q[t * K + i] = .09f;
		}
		off[t + 1] = (t + 1) * K;
		int a = (int)kf_rng_below(&r, V / 2);
		for (int i = 0; i < 3; i++) {
			lo[t * 3 + i] = a + 10 * i;
			hi[t * 3 + i] = a + (V / 2 >> 3 * i);
		}
		roff[t + 1] = 3 * (t + 1);
	}
	kf_mat m = { .rows = V, .cols = C, .num = w };
	kf_score_query plain = { .k = K, .labels = labels, .order = order };
	kf_score_query path = { .k = K, .labels = labels, .order = order, .range_off = roff, .range_lo = lo, .range_hi = hi,
		.extra_min = 4, .extra_max = 6 };
	kf_score out = { ce, top, lp, nlm, xn, xids, xlp };
	kf_loss_query lq = { .labels = labels, .off = off, .ids = ids, .q = q, .lambda = .9, .temperature = 1, .kind = KF_LOSS_CE,
		.tail = KF_TAIL_REST, .scale = 1 };
	kf_loss loss;
	product p = { T, V, C, h, w, z };
	static const char *const op[] = { "gemm", "score", "score with path", "loss", "loss and gradients" };
	double best[5], best_cpu[5], flop = 2. * T * V * C;
	for (int i = 0; i < 5; i++) {
		best[i] = best_cpu[i] = 1e9;
		for (int rep = 0; rep < 3; rep++) {
			double t0 = kf_now(), c0 = cpu_time();
			kf_status rc = KF_OK;
			if (i == 0) kf_pool_split(pool, V, 2048, gemm, &p);
			if (i == 1) rc = x->ops->head_score(x, h, &m, T, &plain, &out, &err);
			if (i == 2) rc = x->ops->head_score(x, h, &m, T, &path, &out, &err);
			if (i == 3) rc = x->ops->head_loss(x, h, &m, T, &lq, NULL, NULL, &loss, &err);
			if (i == 4) rc = x->ops->head_loss(x, h, &m, T, &lq, dh, dw, &loss, &err);
			if (rc != KF_OK) { fprintf(stderr, "bench_head: %s\n", err.text); exit(1); }
			double t = kf_now() - t0, c = cpu_time() - c0;
			if (t < best[i]) best[i] = t;
			if (c < best_cpu[i]) best_cpu[i] = c;
		}
		printf("{\"bench\": \"head\", \"model\": \"%s\", \"op\": \"%s\", \"rows\": %d, \"vocabulary\": %d, \"width\": %d, \"threads\": %d, "
			"\"seconds\": %.4f, \"cpu_seconds\": %.4f, \"gflops\": %.1f, \"products\": %.2f}\n", name, op[i], T, V, C, kf_pool_size(pool), best[i], best_cpu[i],
			flop / best[i] * (i == 4 ? 3 : 1) * 1e-9, best_cpu[i] / best_cpu[0]);
		fflush(stdout);
	}
	void *all[] = { h, w, dh, dw, q, ce, lp, nlm, xlp, z, labels, ids, order, top, lo, hi, roff, xn, xids, off };
	for (size_t i = 0; i < sizeof all / sizeof *all; i++) kf_free(all[i]);
}

int main(int argc, char **argv)
{
	int T = argc > 1 ? atoi(argv[1]) : 512, threads = argc > 2 ? atoi(argv[2]) : 0;
	kf_pool *pool;
	kf_exec *x;
	kf_err err;
	if (kf_pool_new(threads, &pool, &err) != KF_OK || kf_exec_new(&kf_ops_cpu, pool, KF_COMPUTE_F32, &x, &err) != KF_OK) {
		fprintf(stderr, "bench_head: %s\n", err.text);
		return 1;
	}
	bench(pool, x, "smollm2-135m", T, 49152, 576);
	bench(pool, x, "gemma3-270m", T, 262144, 640);
	bench(pool, x, "qwen2.5-coder-0.5b", T, 151936, 896);
	kf_exec_free(x);
	kf_pool_free(pool);
	return 0;
}
