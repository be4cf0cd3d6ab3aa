/* bfloat16: the upper half of a float32. */
#ifndef KF_BASE_BF16_H
#define KF_BASE_BF16_H

#include <stddef.h>
#include <stdint.h>

static inline float kf_bf16_to_f32(uint16_t b) { union { uint32_t u; float f; } x = { (uint32_t)b << 16 }; return x.f; }
static inline uint16_t kf_f32_to_bf16(float f)       /* to nearest even; NaN stays NaN */
{
	union { float f; uint32_t u; } x = { f };
	return (uint16_t)((x.u & 0x7fffffffu) > 0x7f800000u ? x.u >> 16 | 64 : (x.u + 0x7fffu + (x.u >> 16 & 1)) >> 16);
}

/* n of them; no branch, so that gcc vectorises it. */
static inline void kf_round_bf16(const float *restrict from, uint16_t *restrict to, size_t n)
{
	for (size_t i = 0; i < n; i++) to[i] = kf_f32_to_bf16(from[i]);
}

#endif
