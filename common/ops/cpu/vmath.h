/* exp and its relatives for loops that gcc vectorises: no branch, no table, no call. */
#ifndef KF_OPS_CPU_VMATH_H
#define KF_OPS_CPU_VMATH_H

#include <math.h>
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

#endif
