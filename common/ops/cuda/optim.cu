/* Sums of squares and AdamW (Loshchilov and Hutter 2019). Limited by memory; s: bytes of a stored number. */
#include "common/ops/cuda/device.cuh"

namespace {

enum { THREADS = 256, SUM_BLOCKS = 1024, Q = KF_CUDA_MOMENT_BLOCK };

/* s per element. A thread adds its numbers by eights in float32, the eights in double. Which thread adds what depends on n
 * alone, so the sum is the same everywhere. */
template <int N, typename T> __global__ void __launch_bounds__(THREADS) squares_kernel(double *part, const T *v, size_t n)
{
	KF_SHARED(double, sums, [THREADS]);
	const size_t first = (size_t)blockIdx.x * THREADS + threadIdx.x, stride = (size_t)gridDim.x * THREADS;
	double s = 0;

	for (size_t i = first; i < n / 8; i += stride) {
		float few = 0;

#pragma unroll
		for (int k = 0; k < 8; k += N) {
			float x[N];

			kf_load<N>(v + i * 8 + k, x);
#pragma unroll
			for (int j = 0; j < N; j++) few += x[j] * x[j];
		}
		s += few;
	}
	for (size_t i = n / 8 * 8 + first; i < n; i += stride) s += (double)kf_float(v[i]) * kf_float(v[i]);
	sums[threadIdx.x] = s;
	__syncthreads();
	for (int d = THREADS / 2; d; d >>= 1) {
		if ((int)threadIdx.x < d) sums[threadIdx.x] += sums[threadIdx.x + d];
		__syncthreads();
	}
	if (threadIdx.x == 0) part[blockIdx.x] = sums[0];
}

__global__ void __launch_bounds__(THREADS) total_kernel(double *sum, bool add, const double *part, int n)
{
	KF_SHARED(double, sums, [THREADS]);
	double s = 0;

	for (int i = (int)threadIdx.x; i < n; i += THREADS) s += part[i];
	sums[threadIdx.x] = s;
	__syncthreads();
	for (int d = THREADS / 2; d; d >>= 1) {
		if ((int)threadIdx.x < d) sums[threadIdx.x] += sums[threadIdx.x + d];
		__syncthreads();
	}
	if (threadIdx.x == 0) *sum = add ? *sum + sums[0] : sums[0];
}

/* The step's numbers that are the same for every weight. */
struct step {
	float gscale, lr, beta1, beta2, eps, keep;   /* keep: 1 - lr decay */
	float c1, c2;                                /* 1 / (1 - beta^step) */
	const float *gscale_dev;
};

__device__ inline float update(const step &o, float w, float g, float *m, float *v)
{
	*m = o.beta1 * *m + (1 - o.beta1) * g;
	*v = o.beta2 * *v + (1 - o.beta2) * g * g;
	return w * o.keep - o.lr * (*m * o.c1) / (sqrtf(*v * o.c2) + o.eps);
}

/* 24 (master, m, v read and written) + 2 s (g read, w written) per element. */
template <int N, typename T> __global__ void __launch_bounds__(THREADS) adamw_kernel(T *w, float *master, const T *grad,
	float *m, float *v, size_t n, step o)
{
	const size_t first = (size_t)blockIdx.x * THREADS + threadIdx.x, stride = (size_t)gridDim.x * THREADS;
	const float gscale = o.gscale_dev ? o.gscale * *o.gscale_dev : o.gscale;

	for (size_t i = first; i < (n + N - 1) / N; i += stride) {
		const size_t at = i * N;
		float x[N], g[N], a[N], b[N];

		if (at + N <= n) {
			kf_load<N>(master + at, x);
			kf_load<N>(grad + at, g);
			kf_load<N>(m + at, a);
			kf_load<N>(v + at, b);
#pragma unroll
			for (int j = 0; j < N; j++) x[j] = update(o, x[j], g[j] * gscale, a + j, b + j);
			kf_store<N>(master + at, x);
			kf_store<N>(m + at, a);
			kf_store<N>(v + at, b);
			if (w) kf_store<N>(w + at, x);
		} else {
			for (size_t j = at; j < n; j++) {
				const float y = update(o, master[j], kf_float(grad[j]) * gscale, m + j, v + j);

				master[j] = y;
				if (w) kf_put(w + j, y);
			}
		}
	}
}

/* ---- moments in 8 bits ----
 *
 * Blocks of Q = 256 share a scale, their largest value (Dettmers et al. 2022: block-wise; the codes are our own). m is
 * scale sign (c / 127)^2, v is scale (c / 255)^4: fine near the scale's end by no more than 1.6 %, and down to 6e-5 and 2e-10 of
 * it. Rounding goes up or down by chance, in proportion to the distance, so that small changes (1 - beta2 of v) are
 * right on average rather than lost; the chance is a hash of place and step, so a run can be repeated. v is never
 * rounded to 0 unless it is 0: a step divides by it. */

__device__ inline float chance(uint32_t salt, uint64_t place)
{
	uint64_t h = place + (uint64_t)salt * 0x9e3779b97f4a7c15u;   /* splitmix64's finaliser */

	h = (h ^ h >> 30) * 0xbf58476d1ce4e5b9u;
	h = (h ^ h >> 27) * 0x94d049bb133111ebu;
	return (float)((h ^ h >> 31) >> 40) * (1.f / (1 << 24));
}

/* The code c in [0, most] for x in [0, 1], where the value of a code is (c / most)^power. */
template <int POWER> __device__ inline int encode(float x, int most, float u)
{
	const float step = 1 / (float)most;
	float r = sqrtf(x), lo, hi;
	int c;

	if (POWER == 4) r = sqrtf(r);
	c = (int)(r * (float)most);
	if (c >= most) return most;
	lo = (float)c * step;
	hi = (float)(c + 1) * step;
	lo *= lo;
	hi *= hi;
	if (POWER == 4) lo *= lo, hi *= hi;
	return u * (hi - lo) < x - lo ? c + 1 : c;
}

/* 8 (master) + 4 (moments) + 2 s per element, and 16 bytes a block. A warp a block of Q, 8 numbers a lane. */
template <typename T> __global__ void __launch_bounds__(THREADS) adamw8_kernel(T *w, float *master, const T *grad,
	int8_t *m, uint8_t *v, float *m_scale, float *v_scale, size_t n, uint32_t salt, uint64_t draw, step o)
{
	const size_t first = (size_t)blockIdx.x * blockDim.y + threadIdx.y, stride = (size_t)gridDim.x * blockDim.y;
	const float gscale = o.gscale_dev ? o.gscale * *o.gscale_dev : o.gscale;

	for (size_t block = first; block < (n + Q - 1) / Q; block += stride) {
		const size_t at = block * Q;
		const float sm = m_scale[block], sv = v_scale[block];
		float a[Q / 32], b[Q / 32], big_a = 0, big_b = 0;

#pragma unroll
		for (int j = 0; j < Q / 32; j++) {
			const size_t i = at + (size_t)j * 32 + threadIdx.x;
			float y, cm, cv;

			a[j] = b[j] = 0;
			if (i >= n) continue;
			cm = (float)m[i] * (1.f / 127);
			cv = (float)v[i] * (1.f / 255);
			a[j] = sm * cm * fabsf(cm);
			b[j] = sv * (cv * cv) * (cv * cv);
			y = update(o, master[i], kf_float(grad[i]) * gscale, a + j, b + j);
			master[i] = y;
			if (w) kf_put(w + i, y);
			big_a = fmaxf(big_a, fabsf(a[j]));
			big_b = fmaxf(big_b, b[j]);
		}
		big_a = kf_warp_max(big_a);
		big_b = kf_warp_max(big_b);
#pragma unroll
		for (int j = 0; j < Q / 32; j++) {
			const size_t i = at + (size_t)j * 32 + threadIdx.x;
			int ca, cb;

			if (i >= n) continue;
			ca = big_a > 0 ? encode<2>(fabsf(a[j]) / big_a, 127, chance(salt, draw + 2 * i)) : 0;
			cb = big_b > 0 ? encode<4>(b[j] / big_b, 255, chance(salt, draw + 2 * i + 1)) : 0;
			m[i] = (int8_t)(a[j] < 0 ? -ca : ca);
			v[i] = (uint8_t)(cb || b[j] <= 0 ? cb : 1);
		}
		__syncwarp();   /* all have read the scales: shuffles order no memory */
		if (threadIdx.x == 0) {
			m_scale[block] = big_a;
			v_scale[block] = big_b;
		}
		__syncwarp();
	}
}

step step_of(const kf_adamw_opts *o, const float *gscale)
{
	return { o->gscale, o->lr, o->beta1, o->beta2, o->eps, (float)(1 - (double)o->lr * o->decay),
		(float)(1 / (1 - pow(o->beta1, (double)o->step))), (float)(1 / (1 - pow(o->beta2, (double)o->step))), gscale };
}

template <int N, typename T> int launch_squares(double *part, unsigned blocks, const T *v, size_t n, kf_cuda_stream s)
{
	const auto kernel = squares_kernel<N, T>;

	return KF_LAUNCH(kernel, dim3(blocks), dim3(THREADS), 0, s, part, v, n);
}

template <typename T> int run_squares(double *part, unsigned blocks, const T *v, size_t n, kf_cuda_stream s)
{
	return KF_BY_WIDTH(kf_wide(v), T, N, launch_squares<N, T>(part, blocks, v, n, s));
}

template <int N, typename T>
int launch_adamw(T *w, float *master, const T *g, float *m, float *v, size_t n, const step &o, kf_cuda_stream s)
{
	const auto kernel = adamw_kernel<N, T>;

	return KF_LAUNCH(kernel, dim3(kf_blocks(n, (size_t)THREADS * N)), dim3(THREADS), 0, s, w, master, g, m, v, n, o);
}

template <typename T>
int run_adamw(T *w, float *master, const T *g, float *m, float *v, size_t n, const step &o, kf_cuda_stream s)
{
	if (kf_wide(w, master, g, m, v)) return launch_adamw<4, T>(w, master, g, m, v, n, o, s);
	return launch_adamw<1, T>(w, master, g, m, v, n, o, s);
}

template <typename T>
int run_adamw8(T *w, float *master, const T *g, int8_t *m, uint8_t *v, float *m_scale, float *v_scale, size_t n, uint32_t salt,
	uint64_t draw, const step &o, kf_cuda_stream s)
{
	const auto kernel = adamw8_kernel<T>;

	return KF_LAUNCH(kernel, dim3(kf_blocks(n, 8 * Q)), dim3(32, 8), 0, s, w, master, g, m, v, m_scale, v_scale, n, salt, draw, o);
}

} // namespace

size_t kf_cuda_sumsq_scratch(void) { return SUM_BLOCKS * sizeof(double); }

int kf_cuda_sumsq(kf_num_type type, double *sum, bool add, const void *v, size_t n, void *scratch, kf_cuda_stream s)
{
	const unsigned blocks = n ? kf_blocks(n, 8 * THREADS, SUM_BLOCKS) : 1;
	const int st = KF_BY_TYPE(type, T, run_squares((double *)scratch, blocks, (const T *)v, n, s));

	return st ? st : KF_LAUNCH(total_kernel, dim3(1), dim3(THREADS), 0, s, sum, add, (const double *)scratch, (int)blocks);
}

int kf_cuda_adamw(const kf_adamw *p, const kf_adamw_opts *opts, const float *gscale, kf_cuda_stream s)
{
	const step o = step_of(opts, gscale);

	if (!p->n) return 0;
	if (!p->master) return run_adamw((float *)NULL, (float *)p->w, (const float *)p->g, p->m, p->v, p->n, o, s);
	return KF_BY_TYPE(p->type, T, run_adamw((T *)p->w, p->master, (const T *)p->g, p->m, p->v, p->n, o, s));
}

int kf_cuda_adamw8(const kf_adamw *p, int8_t *m, uint8_t *v, float *m_scale, float *v_scale, uint32_t salt,
	const kf_adamw_opts *opts, const float *gscale, kf_cuda_stream s)
{
	const step o = step_of(opts, gscale);
	const uint64_t draw = (uint64_t)opts->step * 0xd1342543de82ef95u + 2 * p->first;   /* far apart from step to step */

	if (!p->n) return 0;
	if (!p->master)
		return run_adamw8((float *)NULL, (float *)p->w, (const float *)p->g, m, v, m_scale, v_scale, p->n, salt, draw, o, s);
	return KF_BY_TYPE(p->type, T,
		run_adamw8((T *)p->w, p->master, (const T *)p->g, m, v, m_scale, v_scale, p->n, salt, draw, o, s));
}
