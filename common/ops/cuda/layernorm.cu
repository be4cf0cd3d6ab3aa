/* LayerNorm, as norm.cu has RMSNorm: G threads a row, which is read three times, twice from the first-level cache. The variance is
 * of differences from the mean, not a difference of sums: rows far from zero lose nothing. Limited by memory. */
#include "common/ops/cuda/columns.cuh"
#include "common/ops/cuda/device.cuh"

namespace {

enum { THREADS = 256, WARP_ROW = 1024 };

/* 2 s per element. */
template <int N, int G, typename T> __global__ void __launch_bounds__(THREADS) layernorm_kernel(T *y, float *stat, const T *in,
	const float *w, const float *b, float eps, int64_t rows, int C)
{
	for (int64_t r = (int64_t)blockIdx.x * blockDim.y + threadIdx.y; r < rows; r += (int64_t)gridDim.x * blockDim.y) {
		const T *x = in + (size_t)r * (size_t)C;
		float sum = 0, mean, rs;

		for (int c = (int)threadIdx.x * N; c < C; c += G * N) {
			float v[N];

			kf_load<N>(x + c, v);
#pragma unroll
			for (int j = 0; j < N; j++) sum += v[j];
		}
		mean = kf_group_sum<G>(sum) / (float)C;
		sum = 0;
		for (int c = (int)threadIdx.x * N; c < C; c += G * N) {
			float v[N];

			kf_load<N>(x + c, v);
#pragma unroll
			for (int j = 0; j < N; j++) sum += (v[j] - mean) * (v[j] - mean);
		}
		rs = rsqrtf(kf_group_sum<G>(sum) / (float)C + eps);
		for (int c = (int)threadIdx.x * N; c < C; c += G * N) {
			float v[N], m[N], o[N];

			kf_load<N>(x + c, v);
			kf_load<N>(w + c, m);
			if (b) kf_load<N>(b + c, o);
#pragma unroll
			for (int j = 0; j < N; j++) v[j] = (v[j] - mean) * rs * m[j] + (b ? o[j] : 0);
			kf_store<N>(y + (size_t)r * (size_t)C + c, v);
		}
		if (stat && threadIdx.x == 0) {
			stat[r] = mean;
			stat[rows + r] = rs;
		}
	}
}

/* 4 s per element. With n = (x - mean) rstd and g = dy w: dx += rstd (g - mean(g) - n mean(g n)). */
template <int N, int G, typename T> __global__ void __launch_bounds__(THREADS) layernorm_dx_kernel(T *dx, const T *dy, const T *in,
	const float *w, const float *stat, int64_t rows, int C)
{
	for (int64_t r = (int64_t)blockIdx.x * blockDim.y + threadIdx.y; r < rows; r += (int64_t)gridDim.x * blockDim.y) {
		const size_t at = (size_t)r * (size_t)C;
		const float mean = stat[r], rs = stat[rows + r];
		float g = 0, gn = 0;

		for (int c = (int)threadIdx.x * N; c < C; c += G * N) {
			float v[N], d[N], m[N];

			kf_load<N>(in + at + c, v);
			kf_load<N>(dy + at + c, d);
			kf_load<N>(w + c, m);
#pragma unroll
			for (int j = 0; j < N; j++) {
				g += d[j] * m[j];
				gn += d[j] * m[j] * (v[j] - mean) * rs;
			}
		}
		g = kf_group_sum<G>(g) / (float)C;
		gn = kf_group_sum<G>(gn) / (float)C;
		for (int c = (int)threadIdx.x * N; c < C; c += G * N) {
			float v[N], d[N], m[N], o[N];

			kf_load<N>(in + at + c, v);
			kf_load<N>(dy + at + c, d);
			kf_load<N>(w + c, m);
			kf_load<N>(dx + at + c, o);
#pragma unroll
			for (int j = 0; j < N; j++) o[j] += rs * (d[j] * m[j] - g - (v[j] - mean) * rs * gn);
			kf_store<N>(dx + at + c, o);
		}
	}
}

/* dw and db: 2 s per element. */
template <typename T> struct layer_terms {
	const T *dy, *in;
	const float *stat;
	int64_t rows;
	int C;
	template <int N> __device__ void terms(int64_t r, int c, float *t) const
	{
		const float mean = stat[r], rs = stat[rows + r];
		float d[N], v[N];

		kf_load<N>(dy + (size_t)r * (size_t)C + c, d);
		kf_load<N>(in + (size_t)r * (size_t)C + c, v);
#pragma unroll
		for (int j = 0; j < N; j++) {
			t[j] += d[j] * (v[j] - mean) * rs;
			t[N + j] += d[j];
		}
	}
};

#define BY_GROUP(C, G, ...) \
	((C) <= WARP_ROW ? [&] { enum { G = 32 }; return __VA_ARGS__; }() : [&] { enum { G = THREADS }; return __VA_ARGS__; }())

template <int N, int G, typename T>
int launch(T *y, float *stat, const T *in, const float *w, const float *b, float eps, int64_t rows, int C, kf_cuda_stream s)
{
	const auto kernel = layernorm_kernel<N, G, T>;

	return KF_LAUNCH(kernel, dim3(kf_blocks((size_t)rows, THREADS / G, 1 << 20)), dim3(G, THREADS / G), 0, s, y, stat, in, w, b,
		eps, rows, C);
}

template <int N, int G, typename T>
int launch_dx(T *dx, const T *dy, const T *in, const float *w, const float *stat, int64_t rows, int C, kf_cuda_stream s)
{
	const auto kernel = layernorm_dx_kernel<N, G, T>;

	return KF_LAUNCH(kernel, dim3(kf_blocks((size_t)rows, THREADS / G, 1 << 20)), dim3(G, THREADS / G), 0, s, dx, dy, in, w, stat,
		rows, C);
}

template <typename T>
int run(T *y, float *stat, const T *in, const float *w, const float *b, float eps, int64_t rows, int C, kf_cuda_stream s)
{
	return KF_BY_WIDTH(kf_wide(y, in, w, b) && C % (16 / sizeof(T)) == 0, T, N,
		BY_GROUP(C, G, launch<N, G, T>(y, stat, in, w, b, eps, rows, C, s)));
}

template <typename T>
int run_dx(T *dx, float *dw, float *db, const T *dy, const T *in, const float *w, const float *stat, int64_t rows,
	int C, void *scratch, kf_cuda_stream s)
{
	const layer_terms<T> f = { dy, in, stat, rows, C };
	int st = 0;

	if (dx)
		st = KF_BY_WIDTH(kf_wide(dx, dy, in, w) && C % (16 / sizeof(T)) == 0, T, N,
			BY_GROUP(C, G, launch_dx<N, G, T>(dx, dy, in, w, stat, rows, C, s)));
	return st || (!dw && !db) ? st : column_sums<2>(dw, db, f, column_pairs<T>(C, dy, in), rows, C, scratch, s);
}

} // namespace

int kf_cuda_layernorm(kf_num_type type, void *y, float *stat, const void *in, const float *w, const float *b, float eps,
	int64_t rows, int C, kf_cuda_stream s)
{
	if (rows <= 0) return 0;
	return KF_BY_TYPE(type, T, run((T *)y, stat, (const T *)in, w, b, eps, rows, C, s));
}

int kf_cuda_layernorm_dx(kf_num_type type, void *dx, float *dw, float *db, const void *dy, const void *in,
	const float *w, const float *stat, int64_t rows, int C, void *scratch, kf_cuda_stream s)
{
	if (rows <= 0) return 0;
	return KF_BY_TYPE(type, T,
		run_dx((T *)dx, dw, db, (const T *)dy, (const T *)in, w, stat, rows, C, scratch, s));
}
