/* bfloat16: the upper half of a float32. */
#ifndef KF_BASE_BF16_H
#define KF_BASE_BF16_H

#include <stdint.h>

static inline float kf_bf16_to_f32(uint16_t b) { union { uint32_t u; float f; } x = { (uint32_t)b << 16 }; return x.f; }
static inline uint16_t kf_f32_to_bf16(float f)       /* to nearest even; NaN stays NaN */
{
	union { float f; uint32_t u; } x = { f };
	if ((x.u & 0x7fffffffu) > 0x7f800000u) return (uint16_t)((x.u >> 16) | 64);
	return (uint16_t)((x.u + 0x7fffu + ((x.u >> 16) & 1)) >> 16);
}

#endif
