/* Rotary positions (Su et al. 2021). */
#include "common/ops/ref/ref.h"

#include <math.h>

/* The angle is a float product, as where models are trained: at large positions
 * its rounding is part of what they learned. */
static void turn(float *v, const kf_rotary *r, const int32_t *offset, const int32_t *first, int S, int heads, int D,
	bool inverse)
{
	const int half = r->R / 2;

	for (int s = 0; s < S; s++)
		for (int32_t t = offset[s]; t < offset[s + 1]; t++)
			for (int h = 0; h < heads; h++) {
				float *p = v + ((size_t)t * (size_t)heads + (size_t)h) * (size_t)D;

				for (int i = 0; i < half; i++) {
					float angle = (float)((first ? first[s] : 0) + t - offset[s]) * r->inv_freq[i];
					float c = (float)cos(angle) * r->scale, n = (float)(inverse ? -sin(angle) : sin(angle)) * r->scale;
					float a = p[i], b = p[i + half];

					p[i] = a * c - b * n;
					p[i + half] = b * c + a * n;
				}
			}
}

void kf_ref_rope(kf_exec *x, float *v, const kf_rotary *r, const int32_t *offset, int S, int heads, int D,
	bool inverse)
{
	(void)x;
	turn(v, r, offset, NULL, S, heads, D, inverse);
}

void kf_ref_rope_after(kf_exec *x, float *v, const kf_rotary *r, const int32_t *offset, const int32_t *first, int S,
	int heads, int D)
{
	(void)x;
	turn(v, r, offset, first, S, heads, D, false);
}
