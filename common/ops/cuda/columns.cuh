/* Sums down the columns of (rows, C), in two stages with a fixed order: what a bias's gradient and the norms' are.
 *
 * Stage 1: a block of 32 x 8 threads takes 32 N columns and a chunk of rows; each thread adds every eighth row, then the
 * eight are added. Stage 2 adds the chunks and adds the sum to the gradient. Limited by memory: stage 1 reads what the
 * terms are made of once; stage 2 moves rows / chunk as much. */
#ifndef KF_OPS_CUDA_COLUMNS_CUH
#define KF_OPS_CUDA_COLUMNS_CUH

#include "common/ops/cuda/device.cuh"

namespace {

enum { COLUMN_ROWS = 64, COLUMN_CHUNKS = 512 };   /* rows of a chunk at least; chunks at most */

static inline int64_t column_chunk(int64_t rows)
{
	const int64_t least = (rows + COLUMN_CHUNKS - 1) / COLUMN_CHUNKS;

	return least > COLUMN_ROWS ? least : (int64_t)COLUMN_ROWS;
}

/* f.terms<N>(row, c, t): adds K terms of columns c .. c + N, t (K, N). part (K, chunks, C). */
template <int N, int K, typename F>
__global__ void __launch_bounds__(256) column_parts(F f, float *part, int64_t rows, int C, int64_t chunk)
{
	KF_SHARED(float, sums, [8][K * N][33]);
	const int c = (int)(blockIdx.x * 32 + threadIdx.x) * N;
	const int64_t begin = blockIdx.y * chunk, end = begin + chunk < rows ? begin + chunk : rows;
	float t[K * N];

#pragma unroll
	for (int i = 0; i < K * N; i++) t[i] = 0;
	if (c < C)
#pragma unroll 4
		for (int64_t r = begin + threadIdx.y; r < end; r += 8) f.template terms<N>(r, c, t);
#pragma unroll
	for (int i = 0; i < K * N; i++) sums[threadIdx.y][i][threadIdx.x] = t[i];
	__syncthreads();
	for (int i = (int)threadIdx.y; i < K * N; i += 8) {
		const int column = c + i % N;
		float s = 0;

		for (int y = 0; y < 8; y++) s += sums[y][i][threadIdx.x];
		if (column < C) part[((size_t)(i / N) * gridDim.y + blockIdx.y) * (size_t)C + (size_t)column] = s;
	}
}

__global__ void __launch_bounds__(256) column_totals(float *first, float *second, const float *part, int chunks, int C)
{
	KF_SHARED(float, sums, [8][33]);
	const int c = (int)(blockIdx.x * 32 + threadIdx.x);
	float *out = blockIdx.y ? second : first;
	float s = 0;

	part += (size_t)blockIdx.y * (size_t)chunks * (size_t)C;
	for (int i = (int)threadIdx.y; c < C && i < chunks; i += 8) s += part[(size_t)i * (size_t)C + (size_t)c];
	sums[threadIdx.y][threadIdx.x] = s;
	__syncthreads();
	if (threadIdx.y == 0 && c < C && out) {
		s = 0;
		for (int y = 0; y < 8; y++) s += sums[y][threadIdx.x];
		out[c] += s;
	}
}

static inline size_t column_scratch(int64_t rows, int C, int K)
{
	const int64_t chunk = column_chunk(rows);

	return (size_t)K * (size_t)((rows + chunk - 1) / chunk) * (size_t)C * sizeof(float);
}

/* first, second (C) += the K = 1 or 2 sums of f; pairs: loads of two numbers are aligned. */
template <int K, typename F>
int column_sums(float *first, float *second, F f, bool pairs, int64_t rows, int C, void *scratch, kf_cuda_stream s)
{
	const int64_t chunk = column_chunk(rows);
	const int chunks = (int)((rows + chunk - 1) / chunk), N = pairs ? 2 : 1;
	const dim3 grid(((unsigned)C + 32 * (unsigned)N - 1) / (32 * (unsigned)N), (unsigned)chunks), block(32, 8);
	const auto one = column_parts<1, K, F>, two = column_parts<2, K, F>;
	int st = KF_LAUNCH((N == 2 ? two : one), grid, block, 0, s, f, (float *)scratch, rows, C, chunk);

	if (st) return st;
	return KF_LAUNCH(column_totals, dim3(((unsigned)C + 31) / 32, K), dim3(32, 8), 0, s, first, second, (const float *)scratch, chunks, C);
}

template <typename T> static inline bool column_pairs(int C, const void *a, const void *b)
{
	return C % 2 == 0 && (uintptr_t)a % (2 * sizeof(T)) == 0 && (uintptr_t)b % (2 * sizeof(T)) == 0;
}

} // namespace

#endif
