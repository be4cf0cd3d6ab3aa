/* What the tensor cores' attention kernels share: tiles of bf16 rows in shared memory and the pieces of a warp's products.
 *
 * With g = lane / 4 and i = lane % 4 a lane has of a product (16, 8) rows g (c[0], c[1]) and g + 8 (c[2], c[3]), columns 2 i and
 * 2 i + 1; two neighbouring products, rounded, are the left side of the next product over their 16 columns (Dao 2023).
 * Tiles have rows of DM + 8 numbers: eight rows' 16 bytes then lie in different banks. */
#ifndef KF_OPS_CUDA_ATTENTION_MMA_CUH
#define KF_OPS_CUDA_ATTENTION_MMA_CUH

#include "common/ops/cuda/attention.cuh"

namespace {

/* ROWS rows from row0, `stride` numbers apart; zero beyond `last` and beyond D. D is a multiple of 8. */
template <int ROWS, int DM, int THREADS>
__device__ inline void load_rows(const attn &a, bf16 *tile, const bf16 *src, int row0, int last, size_t stride)
{
	for (int i = (int)threadIdx.x; i < ROWS * (DM / 8); i += THREADS) {
		const int r = i / (DM / 8), d = i % (DM / 8) * 8;
		uint4 v = { 0, 0, 0, 0 };

		if (row0 + r < last && d < a.D) v = *(const uint4 *)(src + (size_t)(row0 + r) * stride + d);
		*(uint4 *)(tile + r * (DM + 8) + d) = v;
	}
}

/* The left side of a product: 16 rows from `row`, 16 columns from d. */
template <int DM> __device__ inline void left(unsigned r[4], const bf16 *tile, int row, int d, int lane)
{
	KF_LDMATRIX(r, tile + (row + (lane & 15)) * (DM + 8) + d + (lane >> 4) * 8);
}

/* The right sides of two products whose columns are rows n .. n + 16 of the tile, over its columns d .. d + 16. */
template <int DM> __device__ inline void right_rows(unsigned r[4], const bf16 *tile, int n, int d, int lane)
{
	KF_LDMATRIX(r, tile + (n + (lane & 7) + (lane >> 4) * 8) * (DM + 8) + d + (lane >> 3 & 1) * 8);
}

/* The right sides of two products whose columns are columns d .. d + 16 of the tile, over its rows j .. j + 16. */
template <int DM> __device__ inline void right_columns(unsigned r[4], const bf16 *tile, int j, int d, int lane)
{
	KF_LDMATRIX_T(r, tile + (j + (lane & 7) + (lane >> 3 & 1) * 8) * (DM + 8) + d + (lane >> 4) * 8);
}

__device__ inline unsigned two(float lo, float hi)
{
	kf_pack<bf16, 2> p;
	unsigned u;

	kf_put(&p.v[0], lo);
	kf_put(&p.v[1], hi);
	memcpy(&u, &p, sizeof u);
	return u;
}

/* Products n and n + 1 as the left side of the next. */
__device__ inline void as_left(unsigned r[4], const float c[][4], int n)
{
	r[0] = two(c[n][0], c[n][1]);
	r[1] = two(c[n][2], c[n][3]);
	r[2] = two(c[n + 1][0], c[n + 1][1]);
	r[3] = two(c[n + 1][2], c[n + 1][3]);
}

/* x (16, N) = rows `row` of a . rows of b, both tiles of DM columns */
template <int N, int DM>
__device__ inline void dot_rows(float x[N / 8][4], const bf16 *a, int row, const bf16 *b, int lane)
{
#pragma unroll
	for (int n = 0; n < N / 8; n++)
#pragma unroll
		for (int e = 0; e < 4; e++) x[n][e] = 0;
#pragma unroll
	for (int d = 0; d < DM; d += 16) {
		unsigned l[4];

		left<DM>(l, a, row, d, lane);
#pragma unroll
		for (int n = 0; n < N; n += 16) {
			unsigned r[4];

			right_rows<DM>(r, b, n, d, lane);
			KF_MMA(x[n / 8], l, r);
			KF_MMA(x[n / 8 + 1], l, r + 2);
		}
	}
}

/* o (16, W) += p (16, N) columns [d0, d0 + W) of the tile's N rows */
template <int N, int W, int DM>
__device__ inline void add_rows(float o[W / 8][4], const float p[N / 8][4], const bf16 *tile, int d0, int lane)
{
#pragma unroll
	for (int j = 0; j < N; j += 16) {
		unsigned l[4];

		as_left(l, p, j / 8);
#pragma unroll
		for (int d = 0; d < W; d += 16) {
			unsigned r[4];

			right_columns<DM>(r, tile, j, d0 + d, lane);
			KF_MMA(o[d / 8], l, r);
			KF_MMA(o[d / 8 + 1], l, r + 2);
		}
	}
}

/* Row `half` (0: g, 1: g + 8) of o, times f, to columns [d0, d0 + W) of a row; D is even. */
template <int W> __device__ inline void store_pairs(const attn &a, bf16 *to, const float o[W / 8][4], int half, float f, int d0, int i)
{
#pragma unroll
	for (int n = 0; n < W / 8; n++) {
		const int d = d0 + n * 8 + 2 * i;

		if (d < a.D) *(unsigned *)(to + d) = two(o[n][2 * half] * f, o[n][2 * half + 1] * f);
	}
}

/* Over the four lanes of a row. */
__device__ inline float quad_sum(float v)
{
	v += __shfl_xor_sync(~0u, v, 1);
	return v + __shfl_xor_sync(~0u, v, 2);
}

__device__ inline float quad_max(float v)
{
	v = fmaxf(v, __shfl_xor_sync(~0u, v, 1));
	return fmaxf(v, __shfl_xor_sync(~0u, v, 2));
}

#define KF_BY_MMA_HEAD(D, DM, ...) \
	((D) <= 64 ? [&] { enum { DM = 64 }; return __VA_ARGS__; }() : (D) <= 128 ? [&] { enum { DM = 128 }; return __VA_ARGS__; }() : \
	[&] { enum { DM = 256 }; return __VA_ARGS__; }())

} // namespace

#endif
