/* AdamW's moments in 8 bits: blocks of KF_MOMENT_BLOCK share a scale, their largest value (block-wise: Dettmers et al. 2022; the
 * codes are our own). m is scale sign (c / 127)^2, v is scale (c / 255)^4: fine near the scale's end by no more than 1.6 %, and
 * down to 6e-5 and 2e-10 of it. Rounding goes up or down by chance, in proportion to the distance, so that small changes
 * are right on average rather than lost; the chance is a hash of salt, step and place, so a run can be repeated. v is
 * never rounded to 0 unless it is 0: a step divides by it. (common/ops/cuda/optim.cu does the same on a device.)
 */
#ifndef KF_OPS_MOMENTS8_H
#define KF_OPS_MOMENTS8_H

#include <math.h>
#include <stdint.h>

static inline float kf_moment_m(int8_t c, float scale)
{
	const float x = (float)c * (1.f / 127);

	return scale * x * fabsf(x);
}

static inline float kf_moment_v(uint8_t c, float scale)
{
	const float x = (float)c * (1.f / 255);

	return scale * (x * x) * (x * x);
}

/* In [0, 1). draw: of the step, plus twice the place, plus 1 for v. */
static inline float kf_moment_chance(uint32_t salt, uint64_t draw)
{
	uint64_t h = draw + (uint64_t)salt * 0x9e3779b97f4a7c15u;   /* splitmix64's finaliser */

	h = (h ^ h >> 30) * 0xbf58476d1ce4e5b9u;
	h = (h ^ h >> 27) * 0x94d049bb133111ebu;
	return (float)((h ^ h >> 31) >> 40) * (1.f / (1 << 24));
}

/* Far apart from step to step. */
static inline uint64_t kf_moment_draw(int64_t step)
{
	return (uint64_t)step * 0xd1342543de82ef95u;
}

static inline float kf_moment_power(float x, int power)
{
	return power == 2 ? x * x : (x * x) * (x * x);
}

/* The code for x in [0, 1], where a code c in [0, most] stands for (c / most)^power, power 2 or 4. */
static inline int kf_moment_code(float x, int power, int most, float u)
{
	const float r = power == 2 ? sqrtf(x) : sqrtf(sqrtf(x));
	const int c = (int)(r * (float)most);
	float lo, hi;

	if (c >= most) return most;
	lo = kf_moment_power((float)c / (float)most, power);
	hi = kf_moment_power((float)(c + 1) / (float)most, power);
	return u * (hi - lo) < x - lo ? c + 1 : c;
}

static inline int8_t kf_moment_m_code(float m, float scale, float u)
{
	const int c = scale > 0 ? kf_moment_code(fabsf(m) / scale, 2, 127, u) : 0;

	return (int8_t)(m < 0 ? -c : c);
}

static inline uint8_t kf_moment_v_code(float v, float scale, float u)
{
	const int c = scale > 0 ? kf_moment_code(v / scale, 4, 255, u) : 0;

	return (uint8_t)(c || v <= 0 ? c : 1);
}

#endif
