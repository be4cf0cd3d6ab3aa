/* Numbers as they are stored: integers in fixed steps (packed), or a float's bits (f32). */
#ifndef KF_STORE_QUANT_H
#define KF_STORE_QUANT_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#define KF_Q_INF 0x7fffffffu  /* infinitely improbable */
#define KF_Q_NAN 0x7ffffffeu  /* no distribution */
#define KF_Q_MAX 0x10000000u  /* finite values are at most this; larger count as infinite */
#define KF_LP_STEPS 16        /* a nat, of a candidate's log-probability: nearest, so within 1/32 nat */
#define KF_NLL_STEPS 256      /* a nat, of ce and path masses: within 1/512 nat */

static inline uint32_t kf_bits_of(float x)
{
	uint32_t v;

	memcpy(&v, &x, sizeof v);
	return x != x ? 0x7fc00000u : v; /* one NaN, so that equal content has equal bytes */
}

static inline float kf_of_bits(uint32_t v)
{
	float x;

	memcpy(&x, &v, sizeof x);
	return x;
}

/* x >= 0 up to rounding errors (a probability of 1 + 1e-7), infinite or NaN */
static inline uint32_t kf_quant(float x, int steps)
{
	float y = x * (float)steps;

	if (y != y) return KF_Q_NAN;
	if (y > (float)KF_Q_MAX) return KF_Q_INF;
	return y > 0 ? (uint32_t)lrintf(y) : 0;
}

static inline float kf_dequant(uint32_t q, int steps)
{
	return q == KF_Q_INF ? INFINITY : q == KF_Q_NAN ? NAN : (float)q / (float)steps;
}

#endif
