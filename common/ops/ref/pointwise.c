/* Gated activations, sums, AdamW. */
#include "common/ops/moments8.h"
#include "common/ops/ref/ref.h"

#include <math.h>
#include <string.h>

/* act(g) and its derivative. GELU: g times the normal distribution's Phi(g) = 0.5 (1 + erf(g / sqrt(2)));
 * tanh form: 0.5 g (1 + tanh(sqrt(2 / pi) (g + 0.044715 g^3))). */
static double activate(kf_act act, double g, double *slope)
{
	if (act == KF_ACT_GELU) {
		double phi = 0.5 * erfc(-g * M_SQRT1_2);

		*slope = phi + g * exp(-g * g / 2) * 0.39894228040143267794; /* 1 / sqrt(2 pi) */
		return g * phi;
	} else if (act == KF_ACT_SILU) {
		double s = 1 / (1 + exp(-g));

		*slope = s * (1 + g * (1 - s));
		return g * s;
	} else {
		const double a = 0.79788456080286535588, b = 0.044715; /* a: sqrt(2 / pi) */
		double th = tanh(a * (g + b * g * g * g));

		*slope = 0.5 * (1 + th) + 0.5 * g * (1 - th * th) * a * (1 + 3 * b * g * g);
		return 0.5 * g * (1 + th);
	}
}

void kf_ref_glu(kf_exec *x, float *y, const float *gate, const float *up, kf_act act, size_t n)
{
	(void)x;
	for (size_t i = 0; i < n; i++) {
		double slope;

		y[i] = (float)(activate(act, gate[i], &slope) * (up ? up[i] : 1));
	}
}

void kf_ref_glu_dx(kf_exec *x, float *dgate, float *dup, const float *dy, const float *gate, const float *up,
	kf_act act, size_t n)
{
	(void)x;
	for (size_t i = 0; i < n; i++) {
		double slope, a = activate(act, gate[i], &slope), d = dy[i], u = up ? up[i] : 1;

		dgate[i] = (float)(d * u * slope);
		if (dup) dup[i] = (float)(d * a);
	}
}

void kf_ref_add(kf_exec *x, float *y, const float *in, size_t n)
{
	(void)x;
	for (size_t i = 0; i < n; i++) y[i] += in[i];
}

void kf_ref_keep_rows(kf_exec *x, float *y, int C, const int32_t *rows, int n)
{
	(void)x;
	for (int i = 0; i < n; i++)
		if (rows[i] != i) memcpy(y + (size_t)i * (size_t)C, y + (size_t)rows[i] * (size_t)C, (size_t)C * sizeof *y);
}

double kf_ref_sumsq(kf_exec *x, const kf_nums *v, int n)
{
	double all = 0;

	(void)x;
	for (int k = 0; k < n; k++) {
		const float *f = v[k].v;
		double s = 0;

		for (size_t i = 0; i < v[k].n; i++) s += (double)f[i] * f[i];
		all += s;
	}
	return all;
}

/* One step of w by d, in double; m and v are moved on. */
static double adamw(const kf_adamw_opts *o, double w, double d, float *m, float *v)
{
	const double c1 = 1 - pow(o->beta1, (double)o->step), c2 = 1 - pow(o->beta2, (double)o->step);
	const double mi = o->beta1 * (double)*m + (1 - (double)o->beta1) * d,
		vi = o->beta2 * (double)*v + (1 - (double)o->beta2) * d * d;

	*m = (float)mi;
	*v = (float)vi;
	return w * (1 - (double)o->lr * o->decay) - o->lr * (mi / c1) / (sqrt(vi / c2) + o->eps);
}

/* A block of n numbers from at on with its moments in 8 bits. */
static void adamw8(const kf_adamw *p, const kf_adamw_opts *o, size_t at, size_t n)
{
	float m[KF_MOMENT_BLOCK], v[KF_MOMENT_BLOCK], *w = p->w, top_m = 0, top_v = 0;
	const float *g = p->g;
	float *sm = p->m_scale + at / KF_MOMENT_BLOCK, *sv = p->v_scale + at / KF_MOMENT_BLOCK;

	for (size_t i = 0; i < n; i++) {
		m[i] = kf_moment_m(p->m8[at + i], *sm);
		v[i] = kf_moment_v(p->v8[at + i], *sv);
		w[at + i] = (float)adamw(o, w[at + i], (double)g[at + i] * o->gscale, m + i, v + i);
		top_m = fmaxf(top_m, fabsf(m[i]));
		top_v = fmaxf(top_v, v[i]);
	}
	for (size_t i = 0; i < n; i++) {
		const uint64_t draw = kf_moment_draw(o->step) + 2 * (p->first + at + i);

		p->m8[at + i] = kf_moment_m_code(m[i], top_m, kf_moment_chance(p->salt, draw));
		p->v8[at + i] = kf_moment_v_code(v[i], top_v, kf_moment_chance(p->salt, draw + 1));
	}
	*sm = top_m;
	*sv = top_v;
}

void kf_ref_adamw(kf_exec *x, const kf_adamw *p, const kf_adamw_opts *o)
{
	float *w = p->w;
	const float *g = p->g;

	(void)x;
	for (size_t i = 0; p->m8 && i < p->n; i += KF_MOMENT_BLOCK)
		adamw8(p, o, i, p->n - i < KF_MOMENT_BLOCK ? p->n - i : KF_MOMENT_BLOCK);
	for (size_t i = 0; !p->m8 && i < p->n; i++) w[i] = (float)adamw(o, w[i], (double)g[i] * o->gscale, p->m + i, p->v + i);
}
