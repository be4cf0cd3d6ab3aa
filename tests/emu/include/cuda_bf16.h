/* Stands in for the toolkit's header: bf16 on the host, rounded as the device does. */
#ifndef KF_EMU_CUDA_BF16_H
#define KF_EMU_CUDA_BF16_H

#include <cstdint>
#include <cstring>

struct alignas(2) __nv_bfloat16 { uint16_t bits; };

static inline float __bfloat162float(__nv_bfloat16 v)
{
	uint32_t u = (uint32_t)v.bits << 16;
	float f;

	memcpy(&f, &u, sizeof f);
	return f;
}

/* To nearest, ties to even; every NaN becomes 0x7fff. */
static inline __nv_bfloat16 __float2bfloat16_rn(float f)
{
	uint32_t u;

	memcpy(&u, &f, sizeof u);
	if ((u & 0x7fffffff) > 0x7f800000) return { 0x7fff };
	return { (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16) };
}

#endif
