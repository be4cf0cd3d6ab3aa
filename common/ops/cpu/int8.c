#include "common/ops/cpu/int8.h"

#include <math.h>
#include <string.h>

#include "common/base/mem.h"

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VNNI__)
#include <immintrin.h>
#define VNNI 1
#endif

enum { BLOCK = KF_INT8_BLOCK, COLS = KF_INT8_COLS, BLOCK_BYTES = COLS * (int)sizeof(float) + COLS * BLOCK };

static size_t up(size_t n) { return (n + 63) & ~(size_t)63; }

size_t kf_int8_rows_bytes(int64_t rows, int64_t K)
{
	const size_t n = (size_t)rows * (size_t)kf_int8_blocks(K);

	return up(n * BLOCK) + 2 * up(n * 4);
}

kf_int8_rows kf_int8_rows_at(void *memory, int64_t rows, int64_t K)
{
	const size_t n = (size_t)rows * (size_t)kf_int8_blocks(K);
	char *p = memory;

	return (kf_int8_rows){ kf_int8_blocks(K), (int8_t *)p, (float *)(p + up(n * BLOCK)),
		(int32_t *)(p + up(n * BLOCK) + up(n * 4)) };
}

/* ---- the definition ---- */

/* The largest magnitude, by its bits, so that a NaN is larger than all numbers. */
static float largest(const float *x, int n)
{
	uint32_t most = 0, u;
	float f;

	for (int i = 0; i < n; i++) {
		memcpy(&u, x + i, sizeof u);
		u &= 0x7fffffff;
		most = u > most ? u : most;
	}
	memcpy(&f, &most, sizeof f);
	return f;
}

static int8_t nearest(float v)
{
	return v > -128 && v < 128 ? (int8_t)rintf(v) : 0;   /* out of range: only of a block that is not finite */
}

static void quantise_block(const float *x, int n, int8_t q[BLOCK], float *scale, int32_t *start)
{
	const float m = largest(x, n), per = m >= 1e-30f ? 127.f / m : 0;   /* smaller ones count as zero */
	int32_t sum = 0;

	for (int i = 0; i < n; i++) sum += q[i] = nearest(x[i] * per);
	memset(q + n, 0, (size_t)(BLOCK - n));
	*scale = m / 127.f;
	*start = -128 * sum;
}

void kf_int8_quantise_plain(const kf_int8_rows *out, const float *x, int64_t ld, int64_t K, int64_t begin, int64_t end)
{
	for (int64_t r = begin; r < end; r++)
		for (int64_t b = 0; b < out->blocks; b++) {
			const int64_t at = r * out->blocks + b, left = K - b * BLOCK;

			quantise_block(x + r * ld + b * BLOCK, left < BLOCK ? (int)left : BLOCK, out->q + at * BLOCK, out->scale + at,
				out->start + at);
		}
}

void kf_int8_gemm_plain(const kf_int8_rows *a, int64_t m0, int64_t M, const void *w, int64_t N, bool add, float *c,
	int64_t ldc)
{
	for (int64_t m = 0; m < M; m++)
		for (int64_t n = 0; n < N; n++) {
			const uint8_t *g = (const uint8_t *)w + (size_t)(n / COLS) * (size_t)a->blocks * BLOCK_BYTES;
			float sum = 0;

			for (int64_t b = 0; b < a->blocks; b++, g += BLOCK_BYTES) {
				const int64_t at = (m0 + m) * a->blocks + b;
				const uint8_t *q = g + COLS * sizeof(float) + n % COLS * 4;
				int32_t dot = a->start[at];
				float scale;

				memcpy(&scale, g + (size_t)(n % COLS) * sizeof scale, sizeof scale);
				for (int k = 0; k < BLOCK; k++) dot += a->q[at * BLOCK + k] * q[k / 4 * (4 * COLS) + k % 4];
				sum = fmaf((float)dot, scale * a->scale[at], sum);
			}
			c[m * ldc + n] = add ? c[m * ldc + n] + sum : sum;
		}
}

/* ---- weights ---- */

#ifdef VNNI

/* q = w / scale to nearest; the largest that is lost. */
static inline float put_on_grid(const float w[BLOCK], float scale, int8_t q[BLOCK])
{
	const __m512 per = _mm512_set1_ps(1 / scale), s = _mm512_set1_ps(scale);
	__m512 lost = _mm512_setzero_ps();

	for (int i = 0; i < BLOCK; i += 16) {
		const __m512 v = _mm512_loadu_ps(w + i);
		const __m512i n = _mm512_cvtps_epi32(_mm512_mul_ps(v, per));

		lost = _mm512_max_ps(lost, _mm512_abs_ps(_mm512_fnmadd_ps(_mm512_cvtepi32_ps(n), s, v)));
		_mm_storeu_si128((__m128i *)(q + i), _mm512_cvtepi32_epi8(n));
	}
	return _mm512_reduce_max_ps(lost);
}

#else

static inline float put_on_grid(const float w[BLOCK], float scale, int8_t q[BLOCK])
{
	const float per = 1 / scale;
	float lost = 0;

	for (int i = 0; i < BLOCK; i++) {
		const float v = rintf(w[i] * per), e = fabsf(fmaf(-v, scale, w[i]));

		q[i] = (int8_t)v;
		lost = e > lost ? e : lost;
	}
	return lost;
}

#endif

static inline float pack_block(const float w[BLOCK], int8_t q[BLOCK])
{
	const float m = largest(w, BLOCK), coarse = m / 112, scale = m / 127;
	float lost;
	int8_t other[BLOCK];

	if (!(m >= 1e-30f && m <= 3e38f)) {   /* nothing in it, or not finite, which the scale says */
		memset(q, 0, BLOCK);
		return m < 1 ? 0 : NAN;
	}
	lost = put_on_grid(w, scale, q);
	if (lost < 0.01f * scale || !(put_on_grid(w, coarse, other) < lost)) return scale;
	memcpy(q, other, BLOCK);
	return coarse;
}

void kf_int8_pack(void *out, const float *w, int n, int64_t K)
{
	const int64_t blocks = kf_int8_blocks(K);

	for (int r = 0; r < COLS; r++) {
		uint8_t *g = out;

		for (int64_t b = 0; b < blocks; b++, g += BLOCK_BYTES) {
			const int64_t left = K - b * BLOCK;
			const float *in = w + r * K + b * BLOCK;
			uint8_t *to = g + COLS * sizeof(float) + r * 4;
			float part[BLOCK] = { 0 }, scale = 0;
			int8_t q[BLOCK] = { 0 };

			if (r < n && left >= BLOCK) {
				scale = pack_block(in, q);
			} else if (r < n) {
				memcpy(part, in, (size_t)left * sizeof *in);
				scale = pack_block(part, q);
			}
			memcpy(g + (size_t)r * sizeof scale, &scale, sizeof scale);
			for (int k = 0; k < BLOCK; k += 4) {
				uint32_t four;

				memcpy(&four, q + k, sizeof four);
				four ^= 0x80808080u;   /* + 128 each */
				memcpy(to + k * COLS, &four, sizeof four);
			}
		}
	}
}

#ifdef VNNI

void kf_int8_quantise(const kf_int8_rows *out, const float *x, int64_t ld, int64_t K, int64_t begin, int64_t end)
{
	const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
	const int64_t whole = K / BLOCK;

	for (int64_t r = begin; r < end; r++) {
		const float *in = x + r * ld;

		for (int64_t b = 0; b < whole; b++) {
			const int64_t at = r * out->blocks + b;
			const __m512 lo = _mm512_loadu_ps(in + b * BLOCK), hi = _mm512_loadu_ps(in + b * BLOCK + 16);
			const int most = _mm512_reduce_max_epi32(_mm512_max_epi32(_mm512_and_epi32(_mm512_castps_si512(lo), magnitude),
				_mm512_and_epi32(_mm512_castps_si512(hi), magnitude)));
			__m512i a, c;
			float m, per;

			memcpy(&m, &most, sizeof m);
			per = m >= 1e-30f ? 127.f / m : 0;
			a = _mm512_cvtps_epi32(_mm512_mul_ps(lo, _mm512_set1_ps(per)));
			c = _mm512_cvtps_epi32(_mm512_mul_ps(hi, _mm512_set1_ps(per)));
			if (!(m <= 3e38f)) a = c = _mm512_setzero_si512();
			_mm_storeu_si128((__m128i *)(out->q + at * BLOCK), _mm512_cvtepi32_epi8(a));
			_mm_storeu_si128((__m128i *)(out->q + at * BLOCK + 16), _mm512_cvtepi32_epi8(c));
			out->scale[at] = m / 127.f;
			out->start[at] = -128 * _mm512_reduce_add_epi32(_mm512_add_epi32(a, c));
		}
		for (int64_t b = whole; b < out->blocks; b++) {
			const int64_t at = r * out->blocks + b;

			quantise_block(in + b * BLOCK, (int)(K - b * BLOCK), out->q + at * BLOCK, out->scale + at, out->start + at);
		}
	}
}

/* R rows by 32 columns. Of the 32 registers 2 R hold floats, 2 R integers of the block at work. */
static inline __attribute__((always_inline)) void tile(int R, const kf_int8_rows *a, int64_t row, const uint8_t *g, float *c,
	int64_t ldc, __mmask16 left, __mmask16 right, bool add)
{
	const int64_t blocks = a->blocks;
	const int8_t *q = a->q + row * blocks * BLOCK;
	const float *scale = a->scale + row * blocks;
	const int32_t *start = a->start + row * blocks;
	__m512 sum[6][2];

	for (int r = 0; r < R; r++) sum[r][0] = sum[r][1] = _mm512_setzero_ps();
	for (int64_t b = 0; b < blocks; b++, g += BLOCK_BYTES) {
		const uint8_t *w = g + COLS * sizeof(float);
		const __m512 s0 = _mm512_loadu_ps(g), s1 = _mm512_loadu_ps(g + 64);
		__m512i dot[6][2];

		for (int r = 0; r < R; r++) dot[r][0] = dot[r][1] = _mm512_set1_epi32(start[r * blocks + b]);
		for (int k = 0; k < BLOCK; k += 4) {
			const __m512i w0 = _mm512_loadu_si512(w + k * COLS), w1 = _mm512_loadu_si512(w + k * COLS + 64);

			for (int r = 0; r < R; r++) {
				int32_t four;
				__m512i v;

				memcpy(&four, q + (r * blocks + b) * BLOCK + k, sizeof four);
				v = _mm512_set1_epi32(four);
				dot[r][0] = _mm512_dpbusd_epi32(dot[r][0], w0, v);
				dot[r][1] = _mm512_dpbusd_epi32(dot[r][1], w1, v);
			}
		}
		for (int r = 0; r < R; r++) {
			const __m512 s = _mm512_set1_ps(scale[r * blocks + b]);

			sum[r][0] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot[r][0]), _mm512_mul_ps(s0, s), sum[r][0]);
			sum[r][1] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot[r][1]), _mm512_mul_ps(s1, s), sum[r][1]);
		}
	}
	for (int r = 0; r < R; r++, c += ldc) {
		if (add) {
			sum[r][0] = _mm512_add_ps(_mm512_maskz_loadu_ps(left, c), sum[r][0]);
			sum[r][1] = _mm512_add_ps(_mm512_maskz_loadu_ps(right, c + 16), sum[r][1]);
		}
		_mm512_mask_storeu_ps(c, left, sum[r][0]);
		_mm512_mask_storeu_ps(c + 16, right, sum[r][1]);
	}
}

void kf_int8_gemm(const kf_int8_rows *a, int64_t m0, int64_t M, const void *w, int64_t N, bool add, float *c, int64_t ldc)
{
	enum { ROWS = 240 };   /* rows whose int8 stay in the second-level cache while the groups pass */
	const size_t group = (size_t)a->blocks * BLOCK_BYTES;

	for (int64_t from = 0; from < M; from += ROWS) {
		const int64_t to = from + ROWS < M ? from + ROWS : M;
		const uint8_t *g = w;

		for (int64_t n = 0; n < N; n += COLS, g += group) {
			const int cols = N - n < COLS ? (int)(N - n) : COLS;
			const __mmask16 left = (__mmask16)(cols >= 16 ? 0xffff : (1u << cols) - 1);
			const __mmask16 right = (__mmask16)(cols >= 32 ? 0xffff : cols > 16 ? (1u << (cols - 16)) - 1 : 0);
			int64_t m = from;

			for (; m + 6 <= to; m += 6) tile(6, a, m0 + m, g, c + m * ldc + n, ldc, left, right, add);
			switch (to - m) {
			case 5: tile(5, a, m0 + m, g, c + m * ldc + n, ldc, left, right, add); break;
			case 4: tile(4, a, m0 + m, g, c + m * ldc + n, ldc, left, right, add); break;
			case 3: tile(3, a, m0 + m, g, c + m * ldc + n, ldc, left, right, add); break;
			case 2: tile(2, a, m0 + m, g, c + m * ldc + n, ldc, left, right, add); break;
			case 1: tile(1, a, m0 + m, g, c + m * ldc + n, ldc, left, right, add); break;
			default: break;
			}
		}
	}
}

#else

void kf_int8_quantise(const kf_int8_rows *out, const float *x, int64_t ld, int64_t K, int64_t begin, int64_t end)
{
	kf_int8_quantise_plain(out, x, ld, K, begin, end);
}

void kf_int8_gemm(const kf_int8_rows *a, int64_t m0, int64_t M, const void *w, int64_t N, bool add, float *c, int64_t ldc)
{
	kf_int8_gemm_plain(a, m0, M, w, N, add, c, ldc);
}

#endif
