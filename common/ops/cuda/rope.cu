/* Where sequences begin and end, and rotary positions. */
#include "common/ops/cuda/device.cuh"

namespace {

enum { THREADS = 256 };

/* A binary search of offset a row; nothing beside what follows. */
__global__ void __launch_bounds__(THREADS) spans_kernel(int32_t *begin, int32_t *end, const int32_t *offset,
	const int32_t *first, int S, int rows)
{
	const int t = (int)(blockIdx.x * THREADS + threadIdx.x);
	int lo = 0, hi = S;   /* offset[lo] <= t < offset[hi] */

	if (t >= rows) return;
	while (hi - lo > 1) {
		const int mid = (lo + hi) / 2;

		if (offset[mid] <= t) lo = mid;
		else hi = mid;
	}
	begin[t] = offset[lo] - (first ? first[lo] : 0);
	if (end) end[t] = offset[lo + 1];
}

/* Limited by memory: 2 s per element that turns. A block a row: its cosines and sines once for all heads. The
 * angle is a float product, as where models are trained (ref/rope.c); sincosf is exact to the last bits at any size. */
template <int N, typename T> __global__ void __launch_bounds__(THREADS) rope_kernel(T *v, const float *inv_freq, int half,
	float scale, const int32_t *begin, int rows, int heads, int D, bool inverse)
{
	KF_DYNAMIC_SHARED(float, cosine);   /* (half), then as many sines */
	float *sine = cosine + half;

	for (int t = (int)blockIdx.x; t < rows; t += (int)gridDim.x) {
		T *row = v + (size_t)t * (size_t)heads * (size_t)D;

		for (int i = (int)threadIdx.x; i < half; i += (int)blockDim.x) {
			float s, c;

			sincosf((float)(t - begin[t]) * inv_freq[i], &s, &c);
			cosine[i] = c * scale;
			sine[i] = (inverse ? -s : s) * scale;
		}
		__syncthreads();
		for (int j = (int)threadIdx.x * N; j < heads * half; j += (int)blockDim.x * N) {
			const int i = j % half;
			T *p = row + (size_t)(j / half) * (size_t)D + i;
			float a[N], b[N];

			kf_load<N>(p, a);
			kf_load<N>(p + half, b);
#pragma unroll
			for (int k = 0; k < N; k++) {
				const float x = a[k], y = b[k], c = cosine[i + k], s = sine[i + k];

				a[k] = x * c - y * s;
				b[k] = y * c + x * s;
			}
			kf_store<N>(p, a);
			kf_store<N>(p + half, b);
		}
		__syncthreads();
	}
}

template <int N, typename T>
int launch(T *v, const kf_rotary *r, const int32_t *begin, int rows, int heads, int D, bool inverse, kf_cuda_stream s)
{
	const auto kernel = rope_kernel<N, T>;
	const int items = heads * (r->R / 2) / N, threads = items < THREADS ? (items + 31) / 32 * 32 : THREADS;

	return KF_LAUNCH(kernel, dim3(kf_blocks((size_t)rows, 1, 1 << 20)), dim3((unsigned)threads), (size_t)r->R * sizeof(float), s, v,
		r->inv_freq, r->R / 2, r->scale, begin, rows, heads, D, inverse);
}

template <typename T>
int run(T *v, const kf_rotary *r, const int32_t *begin, int rows, int heads, int D, bool inverse, kf_cuda_stream s)
{
	const int wide = 16 / (int)sizeof(T);

	return KF_BY_WIDTH(kf_wide(v) && D % wide == 0 && r->R / 2 % wide == 0, T, N,
		launch<N, T>(v, r, begin, rows, heads, D, inverse, s));
}

} // namespace

int kf_cuda_spans(int32_t *begin, int32_t *end, const int32_t *offset, const int32_t *first, int S, int T_, kf_cuda_stream s)
{
	if (T_ <= 0) return 0;
	return KF_LAUNCH(spans_kernel, dim3(((unsigned)T_ + THREADS - 1) / THREADS), dim3(THREADS), 0, s, begin, end, offset, first, S,
		T_);
}

int kf_cuda_rope(kf_num_type type, void *v, const kf_rotary *r, const int32_t *begin, int T_, int heads, int D, bool inverse,
	kf_cuda_stream s)
{
	if (T_ <= 0 || r->R <= 0) return 0;
	return KF_BY_TYPE(type, T, run((T *)v, r, begin, T_, heads, D, inverse, s));
}
