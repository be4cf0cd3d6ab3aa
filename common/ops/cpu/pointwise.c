/* Gated activations, sums, AdamW: loops that gcc vectorises, split over the threads
 * where they are long enough to repay the waking. */
#include "common/ops/cpu/cpu.h"
#include "common/ops/cpu/vmath.h"
#include "common/ops/moments8.h"
#include "common/ops/ref/ref.h"

enum { GRAIN = 1 << 14, CHUNK = 1 << 16 };   /* elements */

/* The same place may be read and written, but never one element for another: ivdep tells gcc. */
#define EACH _Pragma("GCC ivdep") for (size_t i = begin; i < end; i++)

static void split(kf_exec *x, size_t n, kf_range_task fn, void *arg)
{
	kf_pool_split(n < 2 * GRAIN ? NULL : x->pool, n, GRAIN, fn, arg);
}

static void zero_task(void *arg, size_t begin, size_t end, int worker)
{
	(void)worker;
	memset((char *)arg + begin, 0, end - begin);
}

void kf_cpu_zero(kf_exec *x, void *p, size_t bytes)
{
	kf_pool_split(bytes < (1 << 20) ? NULL : x->pool, bytes, 4096, zero_task, p);
}

typedef struct {
	float *y, *y2;
	const float *dy, *gate, *up;
	kf_act act;
} glu_job;

/* GELU's tanh form is a sigmoid: 0.5 (1 + tanh u) = 1 / (1 + e^-2u), u = sqrt(2 / pi) (g + 0.044715 g^3). */
#define GELU_A 1.59576912160573071f   /* 2 sqrt(2 / pi) */
#define GELU_B 0.044715f

/* act(g); *slope: its derivative. */
static inline float silu(float g, float *slope)
{
	const float s = kf_vsigmoid(g);

	*slope = s * (1 + g * (1 - s));
	return g * s;
}

static inline float gelu_tanh(float g, float *slope)
{
	const float s = kf_vsigmoid(GELU_A * (g + GELU_B * g * g * g));

	*slope = s + g * s * (1 - s) * (GELU_A * (1 + 3 * GELU_B * g * g));
	return g * s;
}

static inline float gelu(float g, float *slope)
{
	float density, phi = kf_vphi(g, &density);

	*slope = phi + g * density;
	return g * phi;
}

/* One loop an activation, with and without the factor. */
#define FORWARD(act) do { if (up) EACH { float d; y[i] = act(gate[i], &d) * up[i]; } \
	else EACH { float d; y[i] = act(gate[i], &d); } } while (0)
#define BACKWARD(act) do { if (up) EACH { float u = up[i], t = dy[i], d, a = act(gate[i], &d); \
		dgate[i] = t * u * d; dup[i] = t * a; } \
	else EACH { float t = dy[i], d; act(gate[i], &d); dgate[i] = t * d; } } while (0)

static void glu_task(void *arg, size_t begin, size_t end, int worker)
{
	const glu_job *j = arg;
	const float *gate = j->gate, *up = j->up;
	float *y = j->y;

	(void)worker;
	switch (j->act) {
	case KF_ACT_SILU: FORWARD(silu); break;
	case KF_ACT_GELU_TANH: FORWARD(gelu_tanh); break;
	case KF_ACT_GELU: FORWARD(gelu); break;
	}
}

void kf_cpu_glu(kf_exec *x, float *y, const float *gate, const float *up, kf_act act, size_t n)
{
	glu_job j = { .y = y, .gate = gate, .up = up, .act = act };

	split(x, n, glu_task, &j);
}

static void glu_dx_task(void *arg, size_t begin, size_t end, int worker)
{
	const glu_job *j = arg;
	const float *gate = j->gate, *up = j->up, *dy = j->dy;
	float *dgate = j->y, *dup = j->y2;

	(void)worker;
	switch (j->act) {
	case KF_ACT_SILU: BACKWARD(silu); break;
	case KF_ACT_GELU_TANH: BACKWARD(gelu_tanh); break;
	case KF_ACT_GELU: BACKWARD(gelu); break;
	}
}

void kf_cpu_glu_dx(kf_exec *x, float *dgate, float *dup, const float *dy, const float *gate, const float *up,
	kf_act act, size_t n)
{
	glu_job j = { dgate, dup, dy, gate, up, act };

	split(x, n, glu_dx_task, &j);
}

static void add_task(void *arg, size_t begin, size_t end, int worker)
{
	const glu_job *j = arg;
	float *y = j->y;
	const float *in = j->gate;

	(void)worker;
	EACH y[i] += in[i];
}

void kf_cpu_add(kf_exec *x, float *y, const float *in, size_t n)
{
	glu_job j = { .y = y, .gate = in };

	split(x, n, add_task, &j);
}

typedef struct {
	const float *v;
	double *part;   /* (chunks) */
	size_t n;
} sumsq_job;

/* A chunk has a fixed length, so the sum does not depend on the threads. */
static void sumsq_task(void *arg, size_t i, int worker)
{
	sumsq_job *j = arg;
	const size_t begin = i * CHUNK, end = begin + CHUNK < j->n ? begin + CHUNK : j->n;

	(void)worker;
	j->part[i] = kf_vsumsq(j->v + begin, end - begin);
}

double kf_cpu_sumsq(kf_exec *x, const kf_nums *v, int n)
{
	double all = 0;

	for (int k = 0; k < n; k++) {
		const size_t chunks = (v[k].n + CHUNK - 1) / CHUNK;
		sumsq_job j = { v[k].v, kf_cpu_scratch(x, KF_CPU_ACT, chunks * sizeof(double)), v[k].n };
		double s = 0;

		if (!j.part) return kf_ref_sumsq(x, v, n);
		kf_pool_run(x->pool, chunks, sumsq_task, &j);
		for (size_t i = 0; i < chunks; i++) s += j.part[i];
		all += s;
	}
	return all;
}

typedef struct {
	float *w, *m, *v;
	const float *g;
	float gscale, beta1, beta2, eps;
	float keep, rate, root; /* 1 - lr decay; lr / (1 - beta1^step); 1 / sqrt(1 - beta2^step) */
} adamw_job;

static void adamw_task(void *arg, size_t begin, size_t end, int worker)
{
	const adamw_job j = *(const adamw_job *)arg;
	float *w = j.w, *m = j.m, *v = j.v;
	const float *g = j.g;
	const float new1 = (float)(1 - (double)j.beta1), new2 = (float)(1 - (double)j.beta2);

	(void)worker;
	EACH {
		float d = g[i] * j.gscale;
		float mi = j.beta1 * m[i] + new1 * d, vi = j.beta2 * v[i] + new2 * d * d;

		m[i] = mi;
		v[i] = vi;
		w[i] = w[i] * j.keep - j.rate * mi / (sqrtf(vi) * j.root + j.eps);
	}
}

typedef struct {
	adamw_job step;
	const kf_adamw *p;
	uint64_t draw;
} adamw8_job;

/* A block: its moments unpacked, the step, and packed again. */
static void adamw8_task(void *arg, size_t block, int worker)
{
	const adamw8_job *j = arg;
	const kf_adamw *p = j->p;
	const size_t at = block * KF_MOMENT_BLOCK, n = p->n - at < KF_MOMENT_BLOCK ? p->n - at : KF_MOMENT_BLOCK;
	float m[KF_MOMENT_BLOCK], v[KF_MOMENT_BLOCK], top_m = 0, top_v = 0;
	adamw_job step = j->step;

	for (size_t i = 0; i < n; i++) {
		m[i] = kf_moment_m(p->m8[at + i], p->m_scale[block]);
		v[i] = kf_moment_v(p->v8[at + i], p->v_scale[block]);
	}
	step.w += at;
	step.g += at;
	step.m = m;
	step.v = v;
	adamw_task(&step, 0, n, worker);
	for (size_t i = 0; i < n; i++) {
		top_m = fmaxf(top_m, fabsf(m[i]));
		top_v = fmaxf(top_v, v[i]);
	}
	for (size_t i = 0; i < n; i++) {
		const uint64_t draw = j->draw + 2 * (at + i);

		p->m8[at + i] = kf_moment_m_code(m[i], top_m, kf_moment_chance(p->salt, draw));
		p->v8[at + i] = kf_moment_v_code(v[i], top_v, kf_moment_chance(p->salt, draw + 1));
	}
	p->m_scale[block] = top_m;
	p->v_scale[block] = top_v;
}

void kf_cpu_adamw(kf_exec *x, const kf_adamw *p, const kf_adamw_opts *o)
{
	adamw_job j = { p->w, p->m, p->v, p->g, o->gscale, o->beta1, o->beta2, o->eps,
		(float)(1 - (double)o->lr * o->decay), (float)(o->lr / (1 - pow(o->beta1, (double)o->step))),
		(float)(1 / sqrt(1 - pow(o->beta2, (double)o->step))) };

	if (p->m8) {
		adamw8_job j8 = { j, p, kf_moment_draw(o->step) + 2 * p->first };

		kf_pool_run(x->pool, (p->n + KF_MOMENT_BLOCK - 1) / KF_MOMENT_BLOCK, adamw8_task, &j8);
		return;
	}
	split(x, p->n, adamw_task, &j);
}
