#include "common/model/arch.h"

#include <math.h>

/* Frequencies of rotary positions, in float32 as transformers computes them: positions multiply
 * them, so a more exact value would only move us away from the model as trained. */

bool kf_rope_varies(const kf_rope *r)
{
	return r->kind == KF_ROPE_DYNAMIC || r->kind == KF_ROPE_LONGROPE;
}

/* Long waves are stretched by factor, short ones kept, those between interpolated. */
static float llama3(const kf_rope *r, float v)
{
	float wave = 2 * (float)M_PI / v, s;

	if (wave > r->original_context / r->low_freq) return v / r->factor;
	if (wave < r->original_context / r->high_freq) return v;
	s = (r->original_context / wave - r->low_freq) / (r->high_freq - r->low_freq);
	return (1 - s) * v / r->factor + s * v;
}

/* YaRN (Peng et al. 2023): the number of the frequency that turns `turns` times within the original context. */
static double correction(const kf_rope *r, int R, double turns)
{
	return R * log(r->original_context / (turns * 2 * M_PI)) / (2 * log(r->base));
}

static float yarn(const kf_rope *r, int R, int i, float power)
{
	double low = correction(r, R, r->high_freq), high = correction(r, R, r->low_freq);
	float ramp;

	if (r->truncate) {
		low = floor(low);
		high = ceil(high);
	}
	if (low < 0) low = 0;
	if (high > R - 1) high = R - 1;
	if (low == high) high += 0.001;
	ramp = ((float)i - (float)low) / (float)(high - low);
	ramp = 1 - (ramp < 0 ? 0 : ramp > 1 ? 1 : ramp);   /* 1: kept as it is */
	return 1 / (r->factor * power) * (1 - ramp) + 1 / power * ramp;
}

void kf_rope_freq(const kf_rope *r, int R, int length, float *out)
{
	float base = r->base;
	bool beyond = (float)length > r->original_context;

	if (r->kind == KF_ROPE_DYNAMIC && beyond)
		base *= powf(r->factor * (float)length / r->original_context - (r->factor - 1), (float)((double)R / (R - 2)));
	for (int i = 0; i < R / 2; i++) {
		float power = powf(base, (float)(2 * i) / (float)R);

		switch (r->kind) {
		case KF_ROPE_PLAIN:
		case KF_ROPE_DYNAMIC: out[i] = 1 / power; break;
		case KF_ROPE_LINEAR: out[i] = 1 / power / r->factor; break;
		case KF_ROPE_LLAMA3: out[i] = llama3(r, 1 / power); break;
		case KF_ROPE_YARN: out[i] = yarn(r, R, i, power); break;
		case KF_ROPE_LONGROPE: out[i] = 1 / ((beyond ? r->longer : r->shorter)[i] * power); break;
		}
	}
}

/* 2^(-alibi (i + 1) / n) for n heads, n a power of two; otherwise those of the next power, every second first. */
void kf_alibi_slopes(float alibi, int H, float *out)
{
	int n = 1;

	while (n < H) n *= 2;
	for (int h = 0; h < H; h++) {
		int i = n == H ? h : h < n / 2 ? 2 * h + 1 : 2 * (h - n / 2);

		out[h] = 1 / powf(2, (float)(i + 1) * (alibi / (float)n));
	}
}
