#include "common/model/tensor_quant.h"

#include <assert.h>
#include <string.h>

#ifdef __x86_64__
#include <immintrin.h>
#endif

/* Fast unpacking. Each format first turns its bits into whole numbers of one
 * byte, loops that compilers make vectors of by themselves, then groups of 16
 * or 32 of them are scaled to float, which is where the time goes: for that there is
 * AVX-512, 16 elements in four instructions, and plain C for everything else. */

static inline float half_at(const uint8_t *p)
{
	uint16_t h;
	memcpy(&h, p, 2);
#ifdef __F16C__
	return _cvtsh_ss(h);
#else
	return kf_f16_to_f32(h);
#endif
}

/* out[i] = d q[i], i < 16 */
static inline void scale16(const int8_t *restrict q, float d, float *restrict out)
{
#ifdef __AVX512F__
	__m512 f = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)q)));
	_mm512_storeu_ps(out, _mm512_mul_ps(_mm512_set1_ps(d), f));
#else
	for (int i = 0; i < 16; i++) out[i] = d * (float)q[i];
#endif
}

/* out[i] = d q[i] + m, i < 16 */
static inline void scale16m(const int8_t *restrict q, float d, float m, float *restrict out)
{
#ifdef __AVX512F__
	__m512 f = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)q)));
	_mm512_storeu_ps(out, _mm512_fmadd_ps(_mm512_set1_ps(d), f, _mm512_set1_ps(m)));
#else
	for (int i = 0; i < 16; i++) out[i] = d * (float)q[i] + m;
#endif
}

static inline void scale32(const int8_t *restrict q, float d, float *restrict out)
{
	scale16(q, d, out);
	scale16(q + 16, d, out + 16);
}

static inline void scale32m(const int8_t *restrict q, float d, float m, float *restrict out)
{
	scale16m(q, d, m, out);
	scale16m(q + 16, d, m, out + 16);
}

/* 16 bytes -> 32 nibbles: the low ones, then the high ones */
static inline void nibbles32(const uint8_t *restrict qs, int8_t *restrict q)
{
#ifdef __SSE2__
	/* gcc 12 makes sixteen scalar steps of each of the loops below */
	__m128i v = _mm_loadu_si128((const __m128i *)qs), mask = _mm_set1_epi8(15);
	_mm_storeu_si128((__m128i *)q, _mm_and_si128(v, mask));
	_mm_storeu_si128((__m128i *)(q + 16), _mm_and_si128(_mm_srli_epi16(v, 4), mask));
#else
	for (int i = 0; i < 16; i++) q[i] = (int8_t)(qs[i] & 15);
	for (int i = 0; i < 16; i++) q[i + 16] = (int8_t)(qs[i] >> 4);
#endif
}

/* bit i of 4 bytes -> 16 or 0, added to q[i] */
static inline void fifth_bits(const uint8_t *restrict p, int8_t *restrict q)
{
	uint32_t qh;
	memcpy(&qh, p, 4);
#if defined(__AVX512BW__) && defined(__AVX512VL__)
	__m256i v = _mm256_loadu_si256((const __m256i *)q);
	_mm256_storeu_si256((__m256i *)q, _mm256_or_si256(v, _mm256_maskz_set1_epi8(qh, 16)));
#else
	for (int i = 0; i < 32; i++) q[i] = (int8_t)(q[i] | (int8_t)((qh >> i & 1) << 4));
#endif
}

static void unpack_f16(const uint8_t *in, uint64_t n, float *out)
{
	uint64_t i = 0;
#ifdef __AVX512F__
	for (; i + 16 <= n; i += 16)
		_mm512_storeu_ps(out + i, _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(in + 2 * i))));
#endif
	for (; i < n; i++) out[i] = half_at(in + 2 * i);
}

static void unpack_bf16(const uint8_t *restrict in, uint64_t n, float *restrict out)
{
	for (uint64_t i = 0; i < n; i++) {
		uint16_t b;
		memcpy(&b, in + 2 * i, 2);
		out[i] = kf_bf16_to_f32(b);
	}
}

static void unpack_q4_0(const uint8_t *in, uint64_t n, float *out)
{
	for (; n; n--, in += 18, out += 32) {
		int8_t q[32];
		nibbles32(in + 2, q);
		for (int i = 0; i < 32; i++) q[i] = (int8_t)(q[i] - 8);
		scale32(q, half_at(in), out);
	}
}

static void unpack_q4_1(const uint8_t *in, uint64_t n, float *out)
{
	for (; n; n--, in += 20, out += 32) {
		int8_t q[32];
		nibbles32(in + 4, q);
		scale32m(q, half_at(in), half_at(in + 2), out);
	}
}

static void unpack_q5_0(const uint8_t *in, uint64_t n, float *out)
{
	for (; n; n--, in += 22, out += 32) {
		int8_t q[32];
		nibbles32(in + 6, q);
		fifth_bits(in + 2, q);
		for (int i = 0; i < 32; i++) q[i] = (int8_t)(q[i] - 16);
		scale32(q, half_at(in), out);
	}
}

static void unpack_q5_1(const uint8_t *in, uint64_t n, float *out)
{
	for (; n; n--, in += 24, out += 32) {
		int8_t q[32];
		nibbles32(in + 8, q);
		fifth_bits(in + 4, q);
		scale32m(q, half_at(in), half_at(in + 2), out);
	}
}

static void unpack_q8_0(const uint8_t *in, uint64_t n, float *out)
{
	for (; n; n--, in += 34, out += 32) scale32((const int8_t *)in + 2, half_at(in), out);
}

/* 32 bytes -> 4 times 32 two-bit numbers */
static inline void pairs128(const uint8_t *restrict qs, uint8_t *restrict q)
{
	for (int i = 0; i < 32; i++) q[i] = qs[i] & 3;
	for (int i = 0; i < 32; i++) q[i + 32] = qs[i] >> 2 & 3;
	for (int i = 0; i < 32; i++) q[i + 64] = qs[i] >> 4 & 3;
	for (int i = 0; i < 32; i++) q[i + 96] = qs[i] >> 6;
}

static void unpack_q2_k(const uint8_t *in, uint64_t n, float *out)
{
	for (; n; n--, in += 84, out += 256) {
		uint8_t q[256];
		float d = half_at(in + 80), dmin = half_at(in + 82);
		pairs128(in + 16, q);
		pairs128(in + 48, q + 128);
		for (int g = 0; g < 16; g++)
			scale16m((const int8_t *)q + 16 * g, d * (float)(in[g] & 15), -(dmin * (float)(in[g] >> 4)),
				out + 16 * g);
	}
}

static void unpack_q3_k(const uint8_t *in, uint64_t n, float *out)
{
	for (; n; n--, in += 110, out += 256) {
		uint8_t q[256];
		const uint8_t *s = in + 96;
		float d = half_at(in + 108);
		pairs128(in + 32, q);
		pairs128(in + 64, q + 128);
		for (int g = 0; g < 8; g++)
			for (int i = 0; i < 32; i++)
				q[32 * g + i] = (uint8_t)(q[32 * g + i] + (uint8_t)((in[i] >> g & 1) << 2) - 4);
		for (int g = 0; g < 16; g++) {
			int lo = g < 8 ? s[g] & 15 : s[g - 8] >> 4, hi = s[8 + g % 4] >> (g / 4 * 2) & 3;
			scale16((const int8_t *)q + 16 * g, d * (float)((lo | hi << 4) - 32), out + 16 * g);
		}
	}
}

/* The 8 scales and 8 minima, 6 bits each, of Q4_K and Q5_K */
static inline void scales_mins(const uint8_t *s, uint8_t sc[8], uint8_t mn[8])
{
	for (int g = 0; g < 4; g++) {
		sc[g] = s[g] & 63;
		mn[g] = s[g + 4] & 63;
		sc[g + 4] = (uint8_t)((s[g + 8] & 15) | (s[g] >> 6) << 4);
		mn[g + 4] = (uint8_t)((s[g + 8] >> 4) | (s[g + 4] >> 6) << 4);
	}
}

/* 32 bytes -> 64 nibbles */
static inline void nibbles64(const uint8_t *restrict qs, uint8_t *restrict q)
{
	for (int i = 0; i < 32; i++) q[i] = qs[i] & 15;
	for (int i = 0; i < 32; i++) q[i + 32] = qs[i] >> 4;
}

static void unpack_q4_k(const uint8_t *in, uint64_t n, float *out)
{
	for (; n; n--, in += 144, out += 256) {
		uint8_t q[64], sc[8], mn[8];
		float d = half_at(in), dmin = half_at(in + 2);
		scales_mins(in + 4, sc, mn);
		for (int g = 0; g < 8; g += 2) {
			nibbles64(in + 16 + 16 * g, q);
			scale32m((const int8_t *)q, d * (float)sc[g], -(dmin * (float)mn[g]), out + 32 * g);
			scale32m(
				(const int8_t *)q + 32, d * (float)sc[g + 1], -(dmin * (float)mn[g + 1]), out + 32 * g + 32);
		}
	}
}

static void unpack_q5_k(const uint8_t *in, uint64_t n, float *out)
{
	for (; n; n--, in += 176, out += 256) {
		uint8_t q[64], sc[8], mn[8];
		const uint8_t *qh = in + 16;
		float d = half_at(in), dmin = half_at(in + 2);
		scales_mins(in + 4, sc, mn);
		for (int g = 0; g < 8; g += 2) {
			nibbles64(in + 48 + 16 * g, q);
			for (int i = 0; i < 32; i++) q[i] = (uint8_t)(q[i] | (qh[i] >> g & 1) << 4);
			for (int i = 0; i < 32; i++) q[i + 32] = (uint8_t)(q[i + 32] | (qh[i] >> (g + 1) & 1) << 4);
			scale32m((const int8_t *)q, d * (float)sc[g], -(dmin * (float)mn[g]), out + 32 * g);
			scale32m(
				(const int8_t *)q + 32, d * (float)sc[g + 1], -(dmin * (float)mn[g + 1]), out + 32 * g + 32);
		}
	}
}

static void unpack_q6_k(const uint8_t *in, uint64_t n, float *out)
{
	for (; n; n--, in += 210, out += 256) {
		const int8_t *sc = (const int8_t *)in + 192;
		float d = half_at(in + 208);
		for (int half = 0; half < 2; half++) {
			const uint8_t *ql = in + 64 * half, *qh = in + 128 + 32 * half;
			uint8_t q[128];
			for (int i = 0; i < 32; i++) q[i] = (uint8_t)(((ql[i] & 15) | (qh[i] & 3) << 4) - 32);
			for (int i = 0; i < 32; i++)
				q[i + 32] = (uint8_t)(((ql[i + 32] & 15) | (qh[i] >> 2 & 3) << 4) - 32);
			for (int i = 0; i < 32; i++) q[i + 64] = (uint8_t)((ql[i] >> 4 | (qh[i] >> 4 & 3) << 4) - 32);
			for (int i = 0; i < 32; i++) q[i + 96] = (uint8_t)((ql[i + 32] >> 4 | (qh[i] >> 6) << 4) - 32);
			for (int g = 0; g < 8; g++)
				scale16((const int8_t *)q + 16 * g, d * (float)sc[8 * half + g], out + 128 * half + 16 * g);
		}
	}
}

void kf_unpack_blocks(kf_dtype t, const uint8_t *in, uint64_t n, float *out)
{
	switch (t) {
	case KF_F32: memcpy(out, in, n * 4); return;
	case KF_F16: unpack_f16(in, n, out); return;
	case KF_BF16: unpack_bf16(in, n, out); return;
	case KF_Q4_0: unpack_q4_0(in, n, out); return;
	case KF_Q4_1: unpack_q4_1(in, n, out); return;
	case KF_Q5_0: unpack_q5_0(in, n, out); return;
	case KF_Q5_1: unpack_q5_1(in, n, out); return;
	case KF_Q8_0: unpack_q8_0(in, n, out); return;
	case KF_Q2_K: unpack_q2_k(in, n, out); return;
	case KF_Q3_K: unpack_q3_k(in, n, out); return;
	case KF_Q4_K: unpack_q4_k(in, n, out); return;
	case KF_Q5_K: unpack_q5_k(in, n, out); return;
	case KF_Q6_K: unpack_q6_k(in, n, out); return;
	}
	assert(!"unknown type");
}
