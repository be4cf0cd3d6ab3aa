#include "common/model/tensor_quant.h"

#include <assert.h>
#include <string.h>

/* The definition of each block format, kept for the tests: what the bytes mean,
 * one element at a time. Layouts as in ggml's documentation of its types; a
 * "half" is an IEEE binary16 number, little-endian. */

static float half_at(const uint8_t *p)
{
	return kf_f16_to_f32((uint16_t)(p[0] | p[1] << 8));
}

static uint32_t u32_at(const uint8_t *p)
{
	return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* Elements i and i + 16 of a block of 32 share byte i: low and high nibble. */
static int nibble32(const uint8_t *qs, int i)
{
	return i < 16 ? qs[i] & 15 : qs[i - 16] >> 4;
}

static int fifth_bit(const uint8_t *qh, int i)
{
	return (int)(u32_at(qh) >> i & 1) << 4;
}

/* Q4_K and Q5_K: scale and minimum of group g of 8, 6 bits each in 12 bytes. */
static void scale_min(const uint8_t *s, int g, int *sc, int *mn)
{
	if (g < 4) {
		*sc = s[g] & 63;
		*mn = s[g + 4] & 63;
	} else {
		*sc = (s[g + 4] & 15) | (s[g - 4] >> 6) << 4;
		*mn = (s[g + 4] >> 4) | (s[g] >> 6) << 4;
	}
}

/* half d, half dmin, 12 bytes of scales, [32 bytes of fifth bits,] 128 bytes of nibbles;
 * 8 groups of 32, two of which share 32 bytes of nibbles */
static float value_q45_k(const uint8_t *b, int i, bool five)
{
	const uint8_t *qs = b + 16 + (five ? 32 : 0);
	int g = i / 32, sc, mn, q = qs[g / 2 * 32 + i % 32] >> (g % 2 * 4) & 15;
	if (five) q |= (b[16 + i % 32] >> g & 1) << 4;
	scale_min(b + 4, g, &sc, &mn);
	return half_at(b) * (float)sc * (float)q - half_at(b + 2) * (float)mn;
}

/* 16 bytes of scale (low nibble) and minimum (high) a group of 16, 64 bytes of
 * 2-bit numbers, half d, half dmin; byte j of a run of 32 serves 4 groups 32 apart */
static float value_q2_k(const uint8_t *b, int i)
{
	int s = b[i / 16], q = b[16 + i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3;
	return half_at(b + 80) * (float)(s & 15) * (float)q - half_at(b + 82) * (float)(s >> 4);
}

/* 32 bytes of third bits (clear means minus 4), 64 bytes of 2-bit numbers,
 * 12 bytes of 6-bit scales minus 32, half d */
static float value_q3_k(const uint8_t *b, int i)
{
	const uint8_t *hmask = b, *qs = b + 32, *s = b + 96;
	int g = i / 16;
	int q = (qs[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3) - (hmask[i % 32] >> (i / 32) & 1 ? 0 : 4);
	int lo = g < 8 ? s[g] & 15 : s[g - 8] >> 4;
	int hi = s[8 + g % 4] >> (g / 4 * 2) & 3;
	return half_at(b + 108) * (float)((lo | hi << 4) - 32) * (float)q;
}

/* 128 bytes of low nibbles, 64 of upper bit pairs, 16 signed scales, half d */
static float value_q6_k(const uint8_t *b, int i)
{
	int half = i / 128, r = i % 128;
	int lo = b[half * 64 + r % 64] >> (r / 64 * 4) & 15;
	int hi = b[128 + half * 32 + r % 32] >> (r / 32 * 2) & 3;
	return half_at(b + 208) * (float)(int8_t)b[192 + i / 16] * (float)((lo | hi << 4) - 32);
}

float kf_block_value(kf_dtype t, const uint8_t *b, int i)
{
	float f;

	switch (t) {
	case KF_F32: memcpy(&f, b, 4); return f;
	case KF_F16: return half_at(b);
	case KF_BF16: return kf_bf16_to_f32((uint16_t)(b[0] | b[1] << 8));
	case KF_Q4_0: return half_at(b) * (float)(nibble32(b + 2, i) - 8);
	case KF_Q4_1: return half_at(b) * (float)nibble32(b + 4, i) + half_at(b + 2);
	case KF_Q5_0: return half_at(b) * (float)((nibble32(b + 6, i) | fifth_bit(b + 2, i)) - 16);
	case KF_Q5_1: return half_at(b) * (float)(nibble32(b + 8, i) | fifth_bit(b + 4, i)) + half_at(b + 2);
	case KF_Q8_0: return half_at(b) * (float)(int8_t)b[2 + i];
	case KF_Q2_K: return value_q2_k(b, i);
	case KF_Q3_K: return value_q3_k(b, i);
	case KF_Q4_K: return value_q45_k(b, i, false);
	case KF_Q5_K: return value_q45_k(b, i, true);
	case KF_Q6_K: return value_q6_k(b, i);
	}
	assert(!"unknown type");
	return 0;
}
