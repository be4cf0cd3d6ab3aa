/* exp and its relatives for loops that gcc vectorises: no branch, no table, no call; and the
 * reductions that it will not vectorise by itself, because that changes the order of the sum. */
#ifndef KF_OPS_CPU_VMATH_H
#define KF_OPS_CPU_VMATH_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* e^x, relative error below 2e-7 where the result is a normal number: x = n ln 2 + r with
 * |r| <= ln(2)/2, a polynomial in r, and 2^n put into the exponent. Below -87.3 the result
 * is 0 (-infinity included); above 88.37 it stays at e^88.37 rather than overflow. NaN stays NaN.
 * Coefficients: S. Moshier, Cephes, expf.c (minimax for e^r = 1 + r + r^2 P(r)). */
static inline float kf_vexp(float x)
{
	const float magic = 12582912.f; /* 1.5 * 2^23: adding it rounds to an integer, left in the low bits */
	float c = x > 88.37f ? 88.37f : x;
	float b = c < -87.3f ? -87.3f : c;
	float t = b * 1.44269504088896341f + magic, n = t - magic;
	float r = b - n * 0.693359375f;    /* ln 2 in two parts: the first times n is exact */
	float p, s;
	int32_t i;

	r = r - n * -2.12194440e-4f;
	p = 1.9875691500e-4f;
	p = p * r + 1.3981999507e-3f;
	p = p * r + 8.3334519073e-3f;
	p = p * r + 4.1665795894e-2f;
	p = p * r + 1.6666665459e-1f;
	p = p * r + 5.0000001201e-1f;
	p = p * (r * r) + r + 1.f;
	memcpy(&i, &t, sizeof i);
	i = (int32_t)(((uint32_t)i << 23) + (127u << 23));  /* the magic's own bits leave at the top */
	memcpy(&s, &i, sizeof s);
	return c < -87.3f ? 0.f : p * s;
}

/* 1 / (1 + e^-x) */
static inline float kf_vsigmoid(float x)
{
	return 1.f / (1.f + kf_vexp(-x));
}

/* Sixteen floats at a time, on any processor gcc knows. */
#pragma GCC diagnostic ignored "-Wpsabi"   /* all inline: no such vector ever crosses a call */
typedef float kf_v16 __attribute__((vector_size(64)));
typedef int32_t kf_v16i __attribute__((vector_size(64)));
typedef double kf_v8d __attribute__((vector_size(64)));
typedef float kf_v8 __attribute__((vector_size(32)));

static inline kf_v16 kf_vload(const float *p)
{
	kf_v16 v;

	memcpy(&v, p, sizeof v);
	return v;
}

static inline float kf_vfold(kf_v16 v)
{
	float s = 0;

	for (int i = 0; i < 8; i++) s += v[i] + v[i + 8];
	return s;
}

/* tanh: its series where 1 - 2 / (e^2u + 1) would cancel; relative error under 3e-7 */
static inline float kf_vtanh(float u)
{
	const float v = u * u, e = 1 - 2 / (kf_vexp(2 * u) + 1);
	const float s = u + u * v * (-1.f / 3 + v * (2.f / 15 + v * (-17.f / 315 + v * (62.f / 2835))));

	return v < 0.09f ? s : e;
}

/* The normal distribution function, from Abramowitz and Stegun 7.1.26 for its tail: absolute error under 2e-7;
 * *density: its derivative. */
static inline float kf_vphi(float u, float *density)
{
	const float x = fabsf(u) * 0.70710678f, t = 1 / (1 + 0.3275911f * x), e = kf_vexp(-x * x);
	const float tail = 0.5f * e * t *
		(0.254829592f + t * (-0.284496736f + t * (1.421413741f + t * (-1.453152027f + t * 1.061405429f))));

	*density = 0.39894228f * e;
	return u < 0 ? tail : 1 - tail;
}

/* sum of a b */
static inline float kf_vdot(const float *a, const float *b, size_t n)
{
	kf_v16 s = { 0 }, s2 = { 0 };
	float rest = 0;
	size_t i = 0;

	for (; i + 32 <= n; i += 32) {
		s += kf_vload(a + i) * kf_vload(b + i);
		s2 += kf_vload(a + i + 16) * kf_vload(b + i + 16);
	}
	for (; i < n; i++) rest += a[i] * b[i];
	return kf_vfold(s + s2) + rest;
}

/* sum of squares, in double */
static inline double kf_vsumsq(const float *a, size_t n)
{
	kf_v8d s = { 0 }, s2 = { 0 };
	double rest = 0;
	size_t i = 0;

	for (; i + 16 <= n; i += 16) {
		kf_v8 u, w;
		kf_v8d d, e;

		memcpy(&u, a + i, sizeof u);
		memcpy(&w, a + i + 8, sizeof w);
		d = __builtin_convertvector(u, kf_v8d);
		e = __builtin_convertvector(w, kf_v8d);
		s += d * d;
		s2 += e * e;
	}
	for (; i < n; i++) rest += (double)a[i] * a[i];
	s += s2;
	for (int k = 0; k < 8; k++) rest += s[k];
	return rest;
}

/* largest of n >= 1 floats; -INFINITY for n = 0 */
static inline float kf_vmax(const float *a, size_t n)
{
	kf_v16 m;
	float r = -INFINITY;
	size_t i = 0;

	if (n >= 16) {
		m = kf_vload(a);
		for (i = 16; i + 16 <= n; i += 16) {
			kf_v16 v = kf_vload(a + i);

			kf_v16i larger = v > m;

			m = (kf_v16)(((kf_v16i)v & larger) | ((kf_v16i)m & ~larger));
		}
		for (int k = 0; k < 16; k++) r = m[k] > r ? m[k] : r;
	}
	for (; i < n; i++) r = a[i] > r ? a[i] : r;
	return r;
}

/* a = e^(a - max); returns the sum */
static inline float kf_vexp_sum(float *a, size_t n, float max)
{
	kf_v16 s = { 0 };
	float rest = 0;
	size_t i = 0;

	for (size_t k = 0; k < n; k++) a[k] = kf_vexp(a[k] - max);
	for (; i + 16 <= n; i += 16) s += kf_vload(a + i);
	for (; i < n; i++) rest += a[i];
	return kf_vfold(s) + rest;
}

#endif
