/* Vector loops of the fused head: maximum, sums of exp, exp in place. With
 * AVX-512 by hand (gcc will not reorder a float reduction by itself), plain C otherwise.
 */
#ifndef KF_OPS_CPU_HEAD_VEC_H
#define KF_OPS_CPU_HEAD_VEC_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>

#include "common/ops/cpu/vmath.h"

#ifdef __AVX512F__
#include <immintrin.h>

/* exp: x = n ln 2 + r, |r| <= ln 2 / 2, polynomial of degree 6 in r (relative error under 2e-7), scaled
 * by 2^n. Underflows to 0 (below -103), overflows to infinity; -infinity gives 0. */
static inline __m512 head_exp16(__m512 x)
{
	x = _mm512_min_ps(_mm512_set1_ps(120.f), _mm512_max_ps(_mm512_set1_ps(-120.f), x)); /* this order keeps NaN */
	__m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
	__m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), x); /* ln 2 in two parts, the first exact times n */
	r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4f), r);
	__m512 p = _mm512_set1_ps(1.f / 720);
	p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.f / 120));
	p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.f / 24));
	p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.f / 6));
	p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.5f));
	p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.f));
	p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.f));
	return _mm512_scalef_ps(p, n);
}

static inline __mmask16 head_tail(int n) { return n >= 16 ? 0xffff : (__mmask16)((1u << n) - 1); }

static inline float head_max(const float *z, int n)
{
	__m512 m = _mm512_set1_ps(-INFINITY), m2 = m;
	int i = 0;
	for (; i + 32 <= n; i += 32) {
		m = _mm512_max_ps(m, _mm512_loadu_ps(z + i));
		m2 = _mm512_max_ps(m2, _mm512_loadu_ps(z + i + 16));
	}
	for (; i < n; i += 16) m = _mm512_max_ps(m, _mm512_mask_loadu_ps(m, head_tail(n - i), z + i));
	return _mm512_reduce_max_ps(_mm512_max_ps(m, m2));
}

/* sum of exp(scale * (z - m)) */
static inline double head_exp_sum(const float *z, int n, float m, float scale)
{
	__m512 a = _mm512_setzero_ps(), b = a, vm = _mm512_set1_ps(m), vs = _mm512_set1_ps(scale);
	int i = 0;
	for (; i + 32 <= n; i += 32) {
		a = _mm512_add_ps(a, head_exp16(_mm512_mul_ps(vs, _mm512_sub_ps(_mm512_loadu_ps(z + i), vm))));
		b = _mm512_add_ps(b, head_exp16(_mm512_mul_ps(vs, _mm512_sub_ps(_mm512_loadu_ps(z + i + 16), vm))));
	}
	for (; i < n; i += 16) {
		__mmask16 k = head_tail(n - i);
		a = _mm512_mask_add_ps(a, k, a, head_exp16(_mm512_mul_ps(vs, _mm512_sub_ps(_mm512_maskz_loadu_ps(k, z + i), vm))));
	}
	return (double)_mm512_reduce_add_ps(_mm512_add_ps(a, b));
}

/* z = c1 exp(z - m1) + c2 exp(scale z - m2); the second term only when c2 is not 0 */
static inline void head_exp_mul(float *z, int n, float c1, float m1, float c2, float scale, float m2)
{
	__m512 vc = _mm512_set1_ps(c1), vm = _mm512_set1_ps(m1);
	for (int i = 0; i < n; i += 16) {
		__mmask16 k = head_tail(n - i);
		__m512 v = _mm512_maskz_loadu_ps(k, z + i);
		__m512 y = _mm512_mul_ps(vc, head_exp16(_mm512_sub_ps(v, vm)));
		if (c2 != 0)
			y = _mm512_fmadd_ps(_mm512_set1_ps(c2), head_exp16(_mm512_fmsub_ps(_mm512_set1_ps(scale), v, _mm512_set1_ps(m2))), y);
		_mm512_mask_storeu_ps(z + i, k, y);
	}
}

#else

static inline float head_max(const float *z, int n)
{
	float lane[8], m = -INFINITY;
	int i = 0;
	for (int j = 0; j < 8; j++) lane[j] = -INFINITY;
	for (; i + 8 <= n; i += 8)
		for (int j = 0; j < 8; j++) lane[j] = z[i + j] > lane[j] ? z[i + j] : lane[j];
	for (; i < n; i++) m = z[i] > m ? z[i] : m;
	for (int j = 0; j < 8; j++) m = lane[j] > m ? lane[j] : m;
	return m;
}

static inline double head_exp_sum(const float *z, int n, float m, float scale)
{
	float lane[8] = { 0 };
	double s = 0;
	int i = 0;
	for (; i + 8 <= n; i += 8)
		for (int j = 0; j < 8; j++) lane[j] += kf_vexp(scale * (z[i + j] - m));
	for (; i < n; i++) s += kf_vexp(scale * (z[i] - m));
	for (int j = 0; j < 8; j++) s += lane[j];
	return s;
}

static inline void head_exp_mul(float *z, int n, float c1, float m1, float c2, float scale, float m2)
{
	for (int i = 0; i < n; i++) {
		float y = c1 * kf_vexp(z[i] - m1);
		if (c2 != 0) y += c2 * kf_vexp(scale * z[i] - m2);
		z[i] = y;
	}
}

#endif

/* z = cap tanh(z / cap) */
static inline void head_cap(float *z, size_t n, float cap)
{
	const float per = 1 / cap;
	for (size_t i = 0; i < n; i++) z[i] = cap * kf_vtanh(z[i] * per);
}

/* A sum of exponentials that never overflows: e^max * sum. */
typedef struct { float max; double sum; } head_lse;

static inline void head_lse_add(head_lse *a, float max, double sum)
{
	if (isnan(max)) {   /* which has to be seen in the result, whatever is added before or after */
		a->max = INFINITY;
		a->sum = NAN;
	} else if (max > a->max) {
		a->sum = a->max == -INFINITY ? sum : sum + a->sum * exp((double)a->max - max);
		a->max = max;
	} else if (max > -INFINITY) {
		a->sum += max == a->max ? sum : sum * exp((double)max - a->max);
	}
}

static inline double head_lse_log(const head_lse *a) { return isnan(a->sum) || a->sum > 0 ? a->max + log(a->sum) : -INFINITY; }

#endif
