/* Rows moved about: embedding, experts, fused projections. All limited by memory; s: bytes of a stored number. A row is
 * worked on by a group of G threads (a warp where rows are short, else a block), 16 bytes a thread and turn. */
#include <stdlib.h>

#include "common/ops/cuda/device.cuh"

namespace {

enum { THREADS = 256 };

/* s read, s written per element. */
template <int N, int G, typename T> __global__ void __launch_bounds__(THREADS) gather_kernel(T *y, const T *in,
	const int32_t *index, const float *weight, float scale, int64_t n, int C)
{
	for (int64_t i = (int64_t)blockIdx.x * blockDim.y + threadIdx.y; i < n; i += (int64_t)gridDim.x * blockDim.y) {
		const T *from = in + (size_t)index[i] * (size_t)C;
		const float w = weight ? weight[i] * scale : scale;

		for (int c = (int)threadIdx.x * N; c < C; c += G * N) {
			float v[N];

			kf_load<N>(from + c, v);
#pragma unroll
			for (int j = 0; j < N; j++) v[j] *= w;
			kf_store<N>(y + (size_t)i * (size_t)C + c, v);
		}
	}
}

/* s read, s written per element. */
template <int N, int G, typename T> __global__ void __launch_bounds__(THREADS) store_kernel(T *y, const T *in, const int32_t *index,
	int64_t n, int C)
{
	for (int64_t i = (int64_t)blockIdx.x * blockDim.y + threadIdx.y; i < n; i += (int64_t)gridDim.x * blockDim.y) {
		const T *from = in + (size_t)i * (size_t)C;
		T *to = y + (size_t)index[i] * (size_t)C;

		for (int c = (int)threadIdx.x * N; c < C; c += G * N) *(kf_pack<T, N> *)(to + c) = *(const kf_pack<T, N> *)(from + c);
	}
}

/* s read per element added, and 2 s per element of the rows that get something. One group a row of y
 * and stretch of its columns: rows are added one after the other, so the sum has one order, and no atomics. */
template <int N, int G, typename T> __global__ void __launch_bounds__(THREADS) scatter_kernel(T *y, const T *in,
	const int32_t *order, const int32_t *start, const int32_t *value, int groups, const float *weight, float scale, int C)
{
	const int c = (int)(blockIdx.y * G + threadIdx.x) * N;
	const int64_t u = (int64_t)blockIdx.x * blockDim.y + threadIdx.y;
	float sum[N];

	if (u >= groups || c >= C) return;
#pragma unroll
	for (int j = 0; j < N; j++) sum[j] = 0;
#pragma unroll 4
	for (int32_t i = start[u]; i < start[u + 1]; i++) {
		const int32_t row = order[i];
		const float w = weight ? weight[row] * scale : scale;
		float v[N];

		kf_load<N>(in + (size_t)row * (size_t)C + c, v);
#pragma unroll
		for (int j = 0; j < N; j++) sum[j] += w * v[j];
	}
	T *to = y + (size_t)value[u] * (size_t)C + c;
	float old[N];

	kf_load<N>(to, old);
#pragma unroll
	for (int j = 0; j < N; j++) old[j] += sum[j];
	kf_store<N>(to, old);
}

/* 12 bytes per number; few of them. */
__global__ void __launch_bounds__(THREADS) permute_kernel(float *out, const float *in, const int32_t *index, int n, bool inverse)
{
	const int i = (int)(blockIdx.x * THREADS + threadIdx.x);

	if (i >= n) return;
	if (inverse) out[index[i]] = in[i];
	else out[i] = in[index[i]];
}

/* 2 s per element. */
template <int N, int G, typename T> __global__ void __launch_bounds__(THREADS) dots_kernel(float *out, const T *a, const T *b,
	const int32_t *index, int64_t n, int C)
{
	for (int64_t i = (int64_t)blockIdx.x * blockDim.y + threadIdx.y; i < n; i += (int64_t)gridDim.x * blockDim.y) {
		const T *p = a + (size_t)i * (size_t)C, *q = b + (size_t)index[i] * (size_t)C;
		float sum = 0;

		for (int c = (int)threadIdx.x * N; c < C; c += G * N) {
			float u[N], v[N];

			kf_load<N>(p + c, u);
			kf_load<N>(q + c, v);
#pragma unroll
			for (int j = 0; j < N; j++) sum += u[j] * v[j];
		}
		sum = kf_group_sum<G>(sum);
		if (threadIdx.x == 0) out[i] = sum;
	}
}

/* A warp a row; the i-th choice is the best that comes after the one before in the order (larger, then lower). k passes over
 * E logits, which are in the first-level cache: E and k are small. */
template <typename T> __global__ void __launch_bounds__(THREADS) route_kernel(float *weight, int32_t *index, const T *logits, int rows,
	int E, int k, int32_t *bad)
{
	const int t = (int)(blockIdx.x * blockDim.y + threadIdx.y), lane = (int)threadIdx.x;
	float last = INFINITY, first = 0, sum = 0;
	int last_id = -1;
	bool finite = true;

	if (t >= rows) return;
	const T *z = logits + (size_t)t * (size_t)E;

	for (int e = lane; e < E; e += 32) finite = finite && fabsf(kf_float(z[e])) <= 3.402823466e38f;
	if (!__all_sync(~0u, finite)) {
		for (int i = lane; i < k; i += 32) {   /* something valid: the caller reads bad later */
			index[(size_t)t * (size_t)k + (size_t)i] = i;
			weight[(size_t)t * (size_t)k + (size_t)i] = 0;
		}
		if (lane == 0) atomicMin(bad, t);
		return;
	}
	for (int i = 0; i < k; i++) {
		float best = -INFINITY;
		int id = E;

		for (int e = lane; e < E; e += 32) {
			const float v = kf_float(z[e]);

			if ((v < last || (v == last && e > last_id)) && v > best) best = v, id = e;
		}
		for (int d = 16; d; d >>= 1) {
			const float v = __shfl_xor_sync(~0u, best, d);
			const int other = __shfl_xor_sync(~0u, id, d);

			if (v > best || (v == best && other < id)) best = v, id = other;
		}
		if (i == 0) first = best;
		if (lane == 0) index[(size_t)t * (size_t)k + (size_t)i] = id;
		sum += expf(best - first);
		last = best;
		last_id = id;
	}
	__syncwarp();
	for (int i = lane; i < k; i += 32) {
		const size_t at = (size_t)t * (size_t)k + (size_t)i;

		weight[at] = expf(kf_float(z[index[at]]) - first) / sum;
	}
}

template <typename T> __global__ void __launch_bounds__(THREADS) route_dx_kernel(T *dlogits, const float *dweight, const float *weight,
	const int32_t *index, int rows, int E, int k)
{
	const int t = (int)(blockIdx.x * blockDim.y + threadIdx.y), lane = (int)threadIdx.x;
	float mean = 0;

	if (t >= rows) return;
	const size_t at = (size_t)t * (size_t)k;
	T *dz = dlogits + (size_t)t * (size_t)E;

	for (int e = lane; e < E; e += 32) kf_put(dz + e, 0);
	for (int i = lane; i < k; i += 32) mean += weight[at + i] * dweight[at + i];
	mean = kf_warp_sum(mean);   /* also a point by which the zeros are written */
	__syncwarp();
	for (int i = lane; i < k; i += 32) kf_put(dz + index[at + i], weight[at + i] * (dweight[at + i] - mean));
}

/* 2 s per element of fused. */
template <int N, typename T> __global__ void __launch_bounds__(THREADS) split_kernel(T *fused, T *q, T *k, T *v, int64_t rows,
	int per, int kn, int groups, bool join)
{
	const int width = groups * (per + 2 * kn);   /* of a row; a group has per numbers of q, kn of k and of v */

	for (int64_t t = blockIdx.x; t < rows; t += gridDim.x)
		for (int c = (int)threadIdx.x * N; c < width; c += THREADS * N) {
			const int g = c / (per + 2 * kn), r = c % (per + 2 * kn);
			const size_t row = (size_t)t * (size_t)groups + (size_t)g;
			T *part = r < per ? q + row * (size_t)per + r : r < per + kn ? k + row * (size_t)kn + (r - per)
				: v + row * (size_t)kn + (r - per - kn);
			T *whole = fused + (size_t)t * (size_t)width + c;
			float x[N];

			kf_load<N>(join ? part : whole, x);
			kf_store<N>(join ? whole : part, x);
		}
}

/* Threads of a row of C numbers, N at a time. */
#define BY_GROUP(C, N, G, ...) \
	((C) <= 128 * (N) ? [&] { enum { G = 32 }; return __VA_ARGS__; }() : [&] { enum { G = THREADS }; return __VA_ARGS__; }())

template <int N, int G, typename T>
int launch_gather(T *y, const T *in, const int32_t *index, const float *weight, float scale, int64_t n, int C, kf_cuda_stream s)
{
	const auto kernel = gather_kernel<N, G, T>;

	return KF_LAUNCH(kernel, dim3(kf_blocks((size_t)n, THREADS / G, 1 << 20)), dim3(G, THREADS / G), 0, s, y, in, index, weight,
		scale, n, C);
}

template <int N, int G, typename T> int launch_store(T *y, const T *in, const int32_t *index, int64_t n, int C, kf_cuda_stream s)
{
	const auto kernel = store_kernel<N, G, T>;

	return KF_LAUNCH(kernel, dim3(kf_blocks((size_t)n, THREADS / G, 1 << 20)), dim3(G, THREADS / G), 0, s, y, in, index, n, C);
}

template <int N, int G, typename T>
int launch_scatter(T *y, const T *in, const int32_t *order, const int32_t *start, const int32_t *value, int groups,
	const float *weight, float scale, int C, kf_cuda_stream s)
{
	const auto kernel = scatter_kernel<N, G, T>;

	return KF_LAUNCH(kernel, dim3(((unsigned)groups + THREADS / G - 1) / (THREADS / G), ((unsigned)C + G * N - 1) / (G * N)),
		dim3(G, THREADS / G), 0, s, y, in, order, start, value, groups, weight, scale, C);
}

template <int N, int G, typename T>
int launch_dots(float *out, const T *a, const T *b, const int32_t *index, int64_t n, int C, kf_cuda_stream s)
{
	const auto kernel = dots_kernel<N, G, T>;

	return KF_LAUNCH(kernel, dim3(kf_blocks((size_t)n, THREADS / G, 1 << 20)), dim3(G, THREADS / G), 0, s, out, a, b, index, n, C);
}

template <typename T> bool wide_rows(int C) { return (size_t)C % (16 / sizeof(T)) == 0; }

template <typename T>
int run_gather(T *y, const T *in, const int32_t *index, const float *weight, float scale, int64_t n, int C, kf_cuda_stream s)
{
	return KF_BY_WIDTH(kf_wide(y, in) && wide_rows<T>(C), T, N,
		BY_GROUP(C, N, G, launch_gather<N, G, T>(y, in, index, weight, scale, n, C, s)));
}

template <typename T> int run_store(T *y, const T *in, const int32_t *index, int64_t n, int C, kf_cuda_stream s)
{
	return KF_BY_WIDTH(kf_wide(y, in) && wide_rows<T>(C), T, N, BY_GROUP(C, N, G, launch_store<N, G, T>(y, in, index, n, C, s)));
}

template <typename T>
int run_scatter(T *y, const T *in, const int32_t *order, const int32_t *start, const int32_t *value, int groups,
	const float *weight, float scale, int C, kf_cuda_stream s)
{
	return KF_BY_WIDTH(kf_wide(y, in) && wide_rows<T>(C), T, N,
		BY_GROUP(C, N, G, launch_scatter<N, G, T>(y, in, order, start, value, groups, weight, scale, C, s)));
}

template <typename T> int run_dots(float *out, const T *a, const T *b, const int32_t *index, int64_t n, int C, kf_cuda_stream s)
{
	return KF_BY_WIDTH(kf_wide(a, b) && wide_rows<T>(C), T, N,
		BY_GROUP(C, N, G, launch_dots<N, G, T>(out, a, b, index, n, C, s)));
}

template <int N, typename T>
int launch_split(T *fused, T *q, T *k, T *v, int64_t rows, int per, int kn, int groups, bool join, kf_cuda_stream s)
{
	const auto kernel = split_kernel<N, T>;

	return KF_LAUNCH(kernel, dim3(kf_blocks((size_t)rows, 1, 1 << 20)), dim3(THREADS), 0, s, fused, q, k, v, rows, per, kn, groups,
		join);
}

template <typename T>
int run_split(T *fused, T *q, T *k, T *v, int64_t rows, const kf_attn *a, bool grouped, bool join, kf_cuda_stream s)
{
	const int per = (grouped ? a->H / a->G : a->H) * a->D, kn = (grouped ? 1 : a->G) * a->D, groups = grouped ? a->G : 1;

	return KF_BY_WIDTH(kf_wide(fused, q, k, v) && wide_rows<T>(a->D), T, N,
		launch_split<N, T>(fused, q, k, v, rows, per, kn, groups, join, s));
}

template <typename T>
int run_route(float *weight, int32_t *index, const T *logits, int rows, int E, int k, int32_t *bad, kf_cuda_stream s)
{
	const auto kernel = route_kernel<T>;

	return KF_LAUNCH(kernel, dim3(((unsigned)rows + 7) / 8), dim3(32, 8), 0, s, weight, index, logits, rows, E, k, bad);
}

template <typename T>
int run_route_dx(T *dlogits, const float *dweight, const float *weight, const int32_t *index, int rows, int E, int k, kf_cuda_stream s)
{
	const auto kernel = route_dx_kernel<T>;

	return KF_LAUNCH(kernel, dim3(((unsigned)rows + 7) / 8), dim3(32, 8), 0, s, dlogits, dweight, weight, index, rows, E, k);
}

} // namespace

/* Counting sort: stable, so equal indices stay in ascending places. */
int kf_cuda_group(const int32_t *index, int n, int range, int32_t *order, int32_t *start, int32_t *value)
{
	int32_t *at = (int32_t *)calloc((size_t)range + 1, sizeof *at);
	int groups = 0;

	if (!at) return -1;
	for (int i = 0; i < n; i++) at[index[i] + 1]++;
	for (int v = 0; v < range; v++) {
		if (at[v + 1]) {
			start[groups] = at[v];
			value[groups++] = v;
		}
		at[v + 1] += at[v];
	}
	start[groups] = n;
	for (int i = 0; i < n; i++) order[at[index[i]]++] = i;
	free(at);
	return groups;
}

int kf_cuda_gather(kf_num_type type, void *y, const void *in, const int32_t *index, const float *weight, float scale, int64_t n,
	int C, kf_cuda_stream s)
{
	if (n <= 0) return 0;
	return KF_BY_TYPE(type, T, run_gather((T *)y, (const T *)in, index, weight, scale, n, C, s));
}

int kf_cuda_store(kf_num_type type, void *y, const void *in, const int32_t *index, int64_t n, int C, kf_cuda_stream s)
{
	if (n <= 0) return 0;
	return KF_BY_TYPE(type, T, run_store((T *)y, (const T *)in, index, n, C, s));
}

int kf_cuda_scatter(kf_num_type type, void *y, const void *in, const int32_t *order, const int32_t *start, const int32_t *value,
	int groups, const float *weight, float scale, int C, kf_cuda_stream s)
{
	if (groups <= 0) return 0;
	return KF_BY_TYPE(type, T, run_scatter((T *)y, (const T *)in, order, start, value, groups, weight, scale, C, s));
}

int kf_cuda_permute(float *out, const float *in, const int32_t *index, int n, bool inverse, kf_cuda_stream s)
{
	if (n <= 0) return 0;
	return KF_LAUNCH(permute_kernel, dim3(((unsigned)n + THREADS - 1) / THREADS), dim3(THREADS), 0, s, out, in, index, n, inverse);
}

int kf_cuda_dots(kf_num_type type, float *out, const void *a, const void *b, const int32_t *index, int64_t n, int C,
	kf_cuda_stream s)
{
	if (n <= 0) return 0;
	return KF_BY_TYPE(type, T, run_dots(out, (const T *)a, (const T *)b, index, n, C, s));
}

int kf_cuda_route(kf_num_type type, float *weight, int32_t *index, const void *logits, int T_, int E, int k, int32_t *bad,
	kf_cuda_stream s)
{
	if (T_ <= 0) return 0;
	return KF_BY_TYPE(type, T, run_route(weight, index, (const T *)logits, T_, E, k, bad, s));
}

int kf_cuda_route_dx(kf_num_type type, void *dlogits, const float *dweight, const float *weight, const int32_t *index, int T_,
	int E, int k, kf_cuda_stream s)
{
	if (T_ <= 0) return 0;
	return KF_BY_TYPE(type, T, run_route_dx((T *)dlogits, dweight, weight, index, T_, E, k, s));
}

int kf_cuda_split_qkv(kf_num_type type, void *fused, void *q, void *k, void *v, int64_t T_, const kf_attn *a, bool grouped,
	bool join, kf_cuda_stream s)
{
	if (T_ <= 0) return 0;
	return KF_BY_TYPE(type, T, run_split((T *)fused, (T *)q, (T *)k, (T *)v, T_, a, grouped, join, s));
}
