/* How fast the ops of the CPU backend are on the models' real shapes. JSON lines: op, shape,
 * seconds (the median of the rounds), gflops or gbs, and share: of what oneDNN's sgemm reaches
 * on 2048^3 here, in the same run, with as many threads.
 *
 *     bench_ops [--threads N] [--rounds N] [--tokens T] [--compute f32|bf16] [--only WORD] [--clock wall|cpu]
 *
 * --clock cpu counts the processor time of all threads divided by their number: what the wall
 * clock would say on an idle machine, for machines that are not.
 */
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/base/progress.h"
#include "common/base/rng.h"
#include "common/ops/ops.h"

typedef struct {
	const char *name;
	int C, H, G, D, F, window;
} model;

static const model models[] = {
	{ "smollm2-135m", 576, 9, 3, 64, 1536, 0 },
	{ "gemma3-270m", 640, 4, 1, 256, 2048, 512 },
	{ "qwen2.5-0.5b", 896, 14, 2, 64, 4864, 0 },
};

typedef struct {
	kf_exec *x;
	int rounds;
	const char *only;
	bool cpu;      /* processor time */
	double peak;   /* flop/s of 2048^3 */
	float *p[8];
} bench;

static float *floats(size_t n)
{
	float *p = kf_alloc(n, sizeof *p);
	kf_rng r;

	if (!p) {
		fprintf(stderr, "bench_ops: out of memory\n");
		exit(1);
	}
	kf_rng_seed(&r, n);
	for (size_t i = 0; i < n; i++) p[i] = (float)(kf_rng_real(&r) - 0.5);
	return p;
}

static int ascending(const void *a, const void *b)
{
	const double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double now(const bench *b)
{
	struct timespec t;

	if (!b->cpu) return kf_now();
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return ((double)t.tv_sec + 1e-9 * (double)t.tv_nsec) / kf_pool_size(b->x->pool);
}

/* One kind of call, timed `rounds` times after one that warms up. */
typedef kf_status (*call)(bench *b, const void *arg);

static double timed(bench *b, call fn, const void *arg)
{
	double *t = malloc((size_t)b->rounds * sizeof *t), median;

	if (!t) exit(1);
	for (int i = -1; i < b->rounds; i++) {
		const double start = now(b);

		if (fn(b, arg) != KF_OK) {
			fprintf(stderr, "bench_ops: an op failed\n");
			exit(1);
		}
		if (i >= 0) t[i] = now(b) - start;
	}
	qsort(t, (size_t)b->rounds, sizeof *t, ascending);
	median = t[b->rounds / 2];
	free(t);
	return median;
}

static void report(bench *b, const char *op, const char *shape, double flop, double bytes, call fn,
	const void *arg)
{
	double s;

	if (b->only && !strstr(op, b->only)) return;
	s = timed(b, fn, arg);
	printf("{\"op\": \"%s\", \"shape\": \"%s\", \"seconds\": %.6f, ", op, shape, s);
	if (flop > 0) printf("\"gflops\": %.1f, \"share\": %.3f}\n", flop / s / 1e9, flop / s / b->peak);
	else printf("\"gbs\": %.1f}\n", bytes / s / 1e9);
	fflush(stdout);
}

typedef struct {
	const model *m;
	int T, N, K, S, tokens;
	const int32_t *offset;
	kf_mat w;
} shape;

static kf_status linear(bench *b, const void *arg)
{
	const shape *s = arg;

	return b->x->ops->linear(b->x, b->p[0], b->p[1], &s->w, NULL, s->T, false, NULL);
}

static kf_status linear_dx(bench *b, const void *arg)
{
	const shape *s = arg;

	return b->x->ops->linear_dx(b->x, b->p[1], b->p[0], &s->w, s->T, false, NULL);
}

static kf_status linear_dw(bench *b, const void *arg)
{
	const shape *s = arg;

	return b->x->ops->linear_dw(b->x, b->p[2], NULL, b->p[0], b->p[1], s->T, s->N, s->K, NULL);
}

static kf_status attention(bench *b, const void *arg)
{
	const shape *s = arg;
	const model *m = s->m;

	return b->x->ops->attention(b->x, b->p[0], b->p[1], b->p[2], b->p[3], b->p[4], s->offset, s->S,
		&(kf_attn){ .H = m->H, .G = m->G, .D = m->D, .scale = (float)(1 / sqrt(m->D)), .window = m->window }, NULL);
}

static kf_status attention_dx(bench *b, const void *arg)
{
	const shape *s = arg;
	const model *m = s->m;

	return b->x->ops->attention_dx(b->x, b->p[5], b->p[6], b->p[7], b->p[0], b->p[0], b->p[1], b->p[2],
		b->p[3], b->p[4],
		s->offset, s->S,
		&(kf_attn){ .H = m->H, .G = m->G, .D = m->D, .scale = (float)(1 / sqrt(m->D)), .window = m->window }, NULL);
}

static kf_status rope(bench *b, const void *arg)
{
	const shape *s = arg;

	b->x->ops->rope(b->x, b->p[2], &(kf_rotary){ b->p[1], s->m->D, 1 }, s->offset, s->S, s->m->H, s->m->D, false);
	return KF_OK;
}

static kf_status rmsnorm(bench *b, const void *arg)
{
	const shape *s = arg;

	b->x->ops->rmsnorm(b->x, b->p[0], b->p[5], b->p[1], b->p[2], 1e-5f, s->T, s->m->C);
	return KF_OK;
}

static kf_status rmsnorm_dx(bench *b, const void *arg)
{
	const shape *s = arg;

	b->x->ops->rmsnorm_dx(b->x, b->p[0], b->p[6], b->p[3], b->p[1], b->p[2], b->p[5], s->T, s->m->C);
	return KF_OK;
}

static kf_status glu(bench *b, const void *arg)
{
	const shape *s = arg;

	b->x->ops->glu(b->x, b->p[0], b->p[1], b->p[2], s->m->window > 0, (size_t)s->T * (size_t)s->m->F);
	return KF_OK;
}

static kf_status glu_dx(bench *b, const void *arg)
{
	const shape *s = arg;

	b->x->ops->glu_dx(b->x, b->p[3], b->p[4], b->p[0], b->p[1], b->p[2], s->m->window > 0,
		(size_t)s->T * (size_t)s->m->F);
	return KF_OK;
}

static kf_status adamw(bench *b, const void *arg)
{
	b->x->ops->adamw(b->x, &(kf_adamw){ .w = b->p[0], .g = b->p[1], .m = b->p[2], .v = b->p[3], .n = *(const size_t *)arg },
		&(kf_adamw_opts){ 1, 1e-4f, 0.9f, 0.95f, 1e-8f, 0.1f, 5 });
	return KF_OK;
}

static kf_status sumsq(bench *b, const void *arg)
{
	return b->x->ops->sumsq(b->x, &(kf_nums){ b->p[0], KF_NUM_F32, *(const size_t *)arg }, 1) < 0 ? KF_EINVAL : KF_OK;
}

static void take(bench *b, int i, size_t n)
{
	kf_free(b->p[i]);
	b->p[i] = floats(n);
}

/* (T, K) by (N, K)^T, forward and both backwards. */
static void bench_linear(bench *b, const char *name, int T, int N, int K)
{
	float *w = floats((size_t)N * (size_t)K);
	shape s = { .T = T, .N = N, .K = K, .w = { .rows = N, .cols = K, .num = w } };
	const double flop = 2.0 * T * N * K;
	char text[96];

	snprintf(text, sizeof text, "%s T=%d N=%d K=%d", name, T, N, K);
	take(b, 0, (size_t)T * (size_t)N);
	take(b, 1, (size_t)T * (size_t)K);
	take(b, 2, (size_t)N * (size_t)K);
	report(b, "linear", text, flop, 0, linear, &s);
	report(b, "linear_dx", text, flop, 0, linear_dx, &s);
	report(b, "linear_dw", text, flop, 0, linear_dw, &s);
	kf_free(w);
}

/* T tokens in sequences of `length`; the work counted is that of the pairs seen, once. */
static void bench_attention(bench *b, const model *m, int T, int length)
{
	int32_t offset[4096] = { 0 };
	shape s = { .m = m, .T = T, .offset = offset };
	const size_t q = (size_t)T * (size_t)m->H * (size_t)m->D, k = (size_t)T * (size_t)m->G * (size_t)m->D;
	double pairs = 0, work;
	char text[96];

	while (s.S < 4095 && offset[s.S] + length <= T) s.S++, offset[s.S] = offset[s.S - 1] + length;
	for (int t = 0; t < length; t++) pairs += m->window && t + 1 > m->window ? m->window : t + 1;
	work = 4.0 * pairs * s.S * m->H * m->D;
	snprintf(text, sizeof text, "%s %d x %d H=%d G=%d D=%d window=%d", m->name, s.S, length, m->H, m->G, m->D,
		m->window);
	take(b, 0, q);
	take(b, 1, (size_t)T * (size_t)m->H > 256 ? (size_t)T * (size_t)m->H : 256);
	take(b, 2, q);
	take(b, 3, k);
	take(b, 4, k);
	take(b, 5, q);
	take(b, 6, k);
	take(b, 7, k);
	report(b, "attention", text, work, 0, attention, &s);
	report(b, "attention_dx", text, 2.5 * work, 0, attention_dx, &s);
	report(b, "rope", text, 0, 8.0 * (double)q, rope, &s);
}

int main(int argc, char **argv)
{
	static const struct option options[] = { { "threads", 1, 0, 't' }, { "rounds", 1, 0, 'r' },
		{ "tokens", 1, 0, 'n' },
		{ "compute", 1, 0, 'c' }, { "only", 1, 0, 'o' }, { "clock", 1, 0, 'k' }, { 0, 0, 0, 0 } };
	bench b = { .rounds = 5 };
	int threads = 0, T = 2048, c;
	kf_compute compute = KF_COMPUTE_F32;
	kf_exec *f32, *x;
	kf_pool *pool;
	kf_err err;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1)
		switch (c) {
		case 't': threads = atoi(optarg); break;
		case 'r': b.rounds = atoi(optarg); break;
		case 'n': T = atoi(optarg); break;
		case 'c': compute = strcmp(optarg, "bf16") ? KF_COMPUTE_F32 : KF_COMPUTE_BF16; break;
		case 'k': b.cpu = !strcmp(optarg, "cpu"); break;
		case 'o': b.only = optarg; break;
		default: return 2;
		}
	if (b.rounds < 1 || T < 1) return 2;
	if (kf_pool_new(threads, &pool, &err) != KF_OK
			|| kf_exec_new(&kf_ops_cpu, pool, KF_COMPUTE_F32, &f32, &err) != KF_OK
			|| kf_exec_new(&kf_ops_cpu, pool, compute, &x, &err) != KF_OK) {
		fprintf(stderr, "bench_ops: %s\n", err.text);
		return 1;
	}
	{
		float *w = floats((size_t)2048 * 2048);
		shape s = { .T = 2048, .N = 2048, .K = 2048, .w = { .rows = 2048, .cols = 2048, .num = w } };

		b.x = f32;
		take(&b, 0, (size_t)2048 * 2048);
		take(&b, 1, (size_t)2048 * 2048);
		b.peak = 2.0 * 2048 * 2048 * 2048 / timed(&b, linear, &s);
		b.x = x;
		printf("{\"op\": \"sgemm\", \"shape\": \"2048^3\", \"threads\": %d, \"gflops\": %.1f}\n",
			kf_pool_size(pool), b.peak / 1e9);
		kf_free(w);
	}
	for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
		const model *m = &models[i];
		shape s = { .m = m, .T = T };
		const double C = (double)T * m->C * 4, F = (double)T * m->F * 4;

		if (!b.only || strstr("linear", b.only) || strstr(b.only, "linear")) {
			bench_linear(&b, m->name, T, m->H * m->D, m->C);
			bench_linear(&b, m->name, T, m->F, m->C);
			bench_linear(&b, m->name, T, m->C, m->F);
			bench_linear(&b, m->name, 16, m->F, m->C);
		}
		for (int length = 512; length <= T; length *= 2) bench_attention(&b, m, T, length);
		for (int k = 0; k < 7; k++) take(&b, k, (size_t)T * (size_t)m->F);
		report(&b, "rmsnorm", m->name, 0, 2 * C, rmsnorm, &s);
		report(&b, "rmsnorm_dx", m->name, 0, 6 * C, rmsnorm_dx, &s);
		report(&b, "glu", m->name, 0, 3 * F, glu, &s);
		report(&b, "glu_dx", m->name, 0, 5 * F, glu_dx, &s);
	}
	{
		const size_t n = (size_t)16 << 20;

		for (int k = 0; k < 4; k++) take(&b, k, n);
		report(&b, "adamw", "16 Mi parameters", 0, 28.0 * (double)n, adamw, &n);
		report(&b, "sumsq", "16 Mi parameters", 0, 4.0 * (double)n, sumsq, &n);
	}
	for (int k = 0; k < 8; k++) kf_free(b.p[k]);
	kf_exec_free(x);
	kf_exec_free(f32);
	kf_pool_free(pool);
	return 0;
}
