#include "common/base/rng.h"

#include <math.h>

static uint64_t rotl(uint64_t x, int k)
{
	return x << k | x >> (64 - k);
}

void kf_rng_seed(kf_rng *r, uint64_t seed)
{
	for (int i = 0; i < 4; i++) { /* splitmix64 */
		uint64_t z = seed += 0x9e3779b97f4a7c15u;

		z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
		z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
		r->s[i] = z ^ (z >> 31);
	}
}

uint64_t kf_rng_next(kf_rng *r)
{
	uint64_t *s = r->s, out = rotl(s[1] * 5, 7) * 9, t = s[1] << 17;

	s[2] ^= s[0];
	s[3] ^= s[1];
	s[1] ^= s[2];
	s[0] ^= s[3];
	s[2] ^= t;
	s[3] = rotl(s[3], 45);
	return out;
}

/* Lemire's multiply-and-reject: unbiased. */
uint64_t kf_rng_below(kf_rng *r, uint64_t n)
{
	__uint128_t m = (__uint128_t)kf_rng_next(r) * n;

	if ((uint64_t)m < n) {
		uint64_t reject = -n % n;

		while ((uint64_t)m < reject) m = (__uint128_t)kf_rng_next(r) * n;
	}
	return (uint64_t)(m >> 64);
}

double kf_rng_real(kf_rng *r)
{
	return (double)(kf_rng_next(r) >> 11) * 0x1p-53;
}

double kf_rng_normal(kf_rng *r)
{
	double u = 1 - kf_rng_real(r), v = kf_rng_real(r); /* u in (0, 1] */

	return sqrt(-2 * log(u)) * cos(6.283185307179586 * v);
}
