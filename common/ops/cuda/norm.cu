/* RMSNorm, and column sums for biases. A row is worked on by G threads (a warp up to 1,024 numbers, else a block): it is
 * read twice, the second time from the first-level cache. Limited by memory; s: bytes of a stored number. */
#include "common/ops/cuda/columns.cuh"
#include "common/ops/cuda/device.cuh"

namespace {

enum { THREADS = 256, WARP_ROW = 1024 };

/* 2 s per element. */
template <int N, int G, typename T> __global__ void __launch_bounds__(THREADS) rmsnorm_kernel(T *y, float *rstd, const T *in,
	const float *w, float eps, int64_t rows, int C)
{
	for (int64_t r = (int64_t)blockIdx.x * blockDim.y + threadIdx.y; r < rows; r += (int64_t)gridDim.x * blockDim.y) {
		const T *x = in + (size_t)r * (size_t)C;
		float sum = 0, rs;

		for (int c = (int)threadIdx.x * N; c < C; c += G * N) {
			float v[N];

			kf_load<N>(x + c, v);
#pragma unroll
			for (int j = 0; j < N; j++) sum += v[j] * v[j];
		}
		rs = rsqrtf(kf_group_sum<G>(sum) / (float)C + eps);
		for (int c = (int)threadIdx.x * N; c < C; c += G * N) {
			float v[N], m[N];

			kf_load<N>(x + c, v);
			kf_load<N>(w + c, m);
#pragma unroll
			for (int j = 0; j < N; j++) v[j] *= rs * m[j];
			kf_store<N>(y + (size_t)r * (size_t)C + c, v);
		}
		if (rstd && threadIdx.x == 0) rstd[r] = rs;
	}
}

/* 4 s per element: dy, in, dx read, dx written. With n = x rstd and g = dy w: dx += rstd (g - n mean(g n)). */
template <int N, int G, typename T> __global__ void __launch_bounds__(THREADS) rmsnorm_dx_kernel(T *dx, const T *dy, const T *in,
	const float *w, const float *rstd, int64_t rows, int C)
{
	for (int64_t r = (int64_t)blockIdx.x * blockDim.y + threadIdx.y; r < rows; r += (int64_t)gridDim.x * blockDim.y) {
		const size_t at = (size_t)r * (size_t)C;
		const float rs = rstd[r];
		float sum = 0;

		for (int c = (int)threadIdx.x * N; c < C; c += G * N) {
			float v[N], d[N], m[N];

			kf_load<N>(in + at + c, v);
			kf_load<N>(dy + at + c, d);
			kf_load<N>(w + c, m);
#pragma unroll
			for (int j = 0; j < N; j++) sum += d[j] * m[j] * v[j];
		}
		sum = kf_group_sum<G>(sum) * rs * rs / (float)C;
		for (int c = (int)threadIdx.x * N; c < C; c += G * N) {
			float v[N], d[N], m[N], o[N];

			kf_load<N>(in + at + c, v);
			kf_load<N>(dy + at + c, d);
			kf_load<N>(w + c, m);
			kf_load<N>(dx + at + c, o);
#pragma unroll
			for (int j = 0; j < N; j++) o[j] += rs * (d[j] * m[j] - v[j] * sum);
			kf_store<N>(dx + at + c, o);
		}
	}
}

/* dw: 2 s per element. */
template <typename T> struct rms_terms {
	const T *dy, *in;
	const float *rstd;
	int C;
	template <int N> __device__ void terms(int64_t r, int c, float *t) const
	{
		const float rs = rstd[r];
		float d[N], v[N];

		kf_load<N>(dy + (size_t)r * (size_t)C + c, d);
		kf_load<N>(in + (size_t)r * (size_t)C + c, v);
#pragma unroll
		for (int j = 0; j < N; j++) t[j] += d[j] * v[j] * rs;
	}
};

/* s per element. */
template <typename T> struct plain_terms {
	const T *dy;
	int C;
	template <int N> __device__ void terms(int64_t r, int c, float *t) const
	{
		float d[N];

		kf_load<N>(dy + (size_t)r * (size_t)C + c, d);
#pragma unroll
		for (int j = 0; j < N; j++) t[j] += d[j];
	}
};

#define BY_GROUP(C, G, ...) \
	((C) <= WARP_ROW ? [&] { enum { G = 32 }; return __VA_ARGS__; }() : [&] { enum { G = THREADS }; return __VA_ARGS__; }())

template <int N, int G, typename T>
int launch(T *y, float *rstd, const T *in, const float *w, float eps, int64_t rows, int C, kf_cuda_stream s)
{
	const auto kernel = rmsnorm_kernel<N, G, T>;

	return KF_LAUNCH(kernel, dim3(kf_blocks((size_t)rows, THREADS / G, 1 << 20)), dim3(G, THREADS / G), 0, s, y, rstd, in, w, eps,
		rows, C);
}

template <int N, int G, typename T>
int launch_dx(T *dx, const T *dy, const T *in, const float *w, const float *rstd, int64_t rows, int C, kf_cuda_stream s)
{
	const auto kernel = rmsnorm_dx_kernel<N, G, T>;

	return KF_LAUNCH(kernel, dim3(kf_blocks((size_t)rows, THREADS / G, 1 << 20)), dim3(G, THREADS / G), 0, s, dx, dy, in, w, rstd,
		rows, C);
}

template <typename T> int run(T *y, float *rstd, const T *in, const float *w, float eps, int64_t rows, int C, kf_cuda_stream s)
{
	return KF_BY_WIDTH(kf_wide(y, in, w) && C % (16 / sizeof(T)) == 0, T, N,
		BY_GROUP(C, G, launch<N, G, T>(y, rstd, in, w, eps, rows, C, s)));
}

template <typename T>
int run_dx(T *dx, float *dw, const T *dy, const T *in, const float *w, const float *rstd, int64_t rows, int C,
	void *scratch, kf_cuda_stream s)
{
	const rms_terms<T> f = { dy, in, rstd, C };
	int st = 0;

	if (dx)
		st = KF_BY_WIDTH(kf_wide(dx, dy, in, w) && C % (16 / sizeof(T)) == 0, T, N,
			BY_GROUP(C, G, launch_dx<N, G, T>(dx, dy, in, w, rstd, rows, C, s)));
	return st || !dw ? st : column_sums<1>(dw, NULL, f, column_pairs<T>(C, dy, in), rows, C, scratch, s);
}

template <typename T>
int run_columns(float *db, const T *dy, int64_t rows, int N, void *scratch, kf_cuda_stream s)
{
	const plain_terms<T> f = { dy, N };

	return column_sums<1>(db, NULL, f, column_pairs<T>(N, dy, dy), rows, N, scratch, s);
}

} // namespace

int kf_cuda_rmsnorm(kf_num_type type, void *y, float *rstd, const void *in, const float *w, float eps, int64_t rows, int C,
	kf_cuda_stream s)
{
	if (rows <= 0) return 0;
	return KF_BY_TYPE(type, T, run((T *)y, rstd, (const T *)in, w, eps, rows, C, s));
}

size_t kf_cuda_norm_dx_scratch(int64_t rows, int C) { return column_scratch(rows, C, 2); }
size_t kf_cuda_column_sums_scratch(int64_t T_, int N) { return column_scratch(T_, N, 1); }

int kf_cuda_rmsnorm_dx(kf_num_type type, void *dx, float *dw, const void *dy, const void *in,
	const float *w, const float *rstd, int64_t rows, int C, void *scratch, kf_cuda_stream s)
{
	if (rows <= 0) return 0;
	return KF_BY_TYPE(type, T,
		run_dx((T *)dx, dw, (const T *)dy, (const T *)in, w, rstd, rows, C, scratch, s));
}

int kf_cuda_column_sums(float *db, kf_num_type type, const void *dy, int64_t T_, int N, void *scratch,
	kf_cuda_stream s)
{
	if (T_ <= 0) return 0;
	return KF_BY_TYPE(type, T, run_columns(db, (const T *)dy, T_, N, scratch, s));
}
