/* Attention's backward: probabilities again from q, k and lse, twice, so that nothing needs atomics and every sum has one order: a
 * kernel for dk and dv, whose blocks have keys and go through rows (and the heads that share the keys), and one for dq, whose
 * blocks have rows and go through keys. With delta = dout . out:  p = exp(s - lse), ds = p (dout . v - delta) scale,
 * dv = p dout, dk = ds q, dq = ds k. Limited by float32 arithmetic: 14 D flops a (row, key) pair. */
#include "common/ops/cuda/attention.cuh"

namespace {

/* Rows and keys of a tile: 32, or 16 where heads are large; four tiles, and two of scores. */
template <int DM> struct backward_shape {
	enum { B = DM <= 128 ? 32 : 16, LD = B + 1, I = B / 16, SHARED = (4 * B * (DM + 4) + 2 * B * LD) * 4 };
};

/* delta (T, H); a warp each. 2 s bytes per number. */
template <typename T>
__global__ void __launch_bounds__(ATTN_THREADS) delta_kernel(float *delta, const T *dout, const T *out, int64_t n, int D)
{
	for (int64_t i = (int64_t)blockIdx.x * blockDim.y + threadIdx.y; i < n; i += (int64_t)gridDim.x * blockDim.y) {
		float s = 0;

		for (int d = (int)threadIdx.x; d < D; d += 32)
			s += kf_float(dout[(size_t)i * (size_t)D + d]) * kf_float(out[(size_t)i * (size_t)D + d]);
		s = kf_warp_sum(s);
		if (threadIdx.x == 0) delta[i] = s;
	}
}

/* p and ds (rows, keys) of the tile at (t0, j0), into shared memory; zero where a row does not see a key. */
template <int DM>
__device__ inline void tile_gradients(const attn &a, float *ps, float *ds, const float *qs, const float *ks, const float *os,
	const float *vs, const float *lse, const float *delta, int h, int t0, int j0, int last, int ty, int tx)
{
	typedef backward_shape<DM> sh;
	enum { I = sh::I };
	const float head_slope = a.slopes ? a.slopes[h] : 0;
	float s[I][I], dp[I][I];

	tile_product<I, I, DM>(s, qs, ks, ty, tx);
	tile_product<I, I, DM>(dp, os, vs, ty, tx);
#pragma unroll
	for (int i = 0; i < I; i++) {
		const int t = t0 + ty + 16 * i;
		const size_t at = (size_t)t * (size_t)a.H + (size_t)h;
		const float l = t < a.rows ? lse[at] : 0, off = t < a.rows ? delta[at] : 0;
		const int first = t < a.rows ? first_key(a, t) : 0x7fffffff;

#pragma unroll
		for (int j = 0; j < I; j++) {
			const int key = j0 + tx + 16 * j;
			float slope, p = 0, g = 0;

			if (key >= first && key <= t && key < last) {
				p = __expf(attn_score(a, s[i][j], head_slope, key - t, &slope) - l);
				g = p * (dp[i][j] - off) * slope * a.scale;
			}
			ps[(ty + 16 * i) * sh::LD + tx + 16 * j] = p;
			ds[(ty + 16 * i) * sh::LD + tx + 16 * j] = g;
		}
	}
}

template <int DM, typename T> __global__ void __launch_bounds__(ATTN_THREADS) dkv_kernel(T *dk, T *dv, const T *dout, const float *lse,
	const float *delta, const T *q, const T *k, const T *v, attn a)
{
	typedef backward_shape<DM> sh;
	enum { B = sh::B, LD = sh::LD, I = sh::I };
	KF_DYNAMIC_SHARED(float, ks);
	float *vs = ks + B * (DM + 4), *qs = vs + B * (DM + 4), *os = qs + B * (DM + 4), *ps = os + B * (DM + 4), *ds = ps + B * LD;
	const int ty = (int)threadIdx.x / 16, tx = (int)threadIdx.x % 16, g = (int)blockIdx.y;
	const int j0 = (int)blockIdx.x * B, j1 = j0 + B < a.rows ? j0 + B : a.rows, group = a.H / a.G;
	const size_t qstride = (size_t)a.H * (size_t)a.D, kstride = (size_t)a.G * (size_t)a.D;
	int t_end = a.end[j1 - 1];   /* no later row sees any of these keys */
	float ak[I][DM / 16], av[I][DM / 16];

	if (a.window > 0 && t_end - a.window > j1 - 1) t_end = j1 - 1 + a.window;
#pragma unroll
	for (int i = 0; i < I; i++)
#pragma unroll
		for (int c = 0; c < DM / 16; c++) ak[i][c] = av[i][c] = 0;
	load_tile<B, DM>(a, ks, k + (size_t)g * (size_t)a.D, j0, j1, kstride);
	load_tile<B, DM>(a, vs, v + (size_t)g * (size_t)a.D, j0, j1, kstride);
	for (int h = g * group; h < (g + 1) * group; h++)
		for (int t0 = j0; t0 < t_end; t0 += B) {
			__syncthreads();   /* what the tile before left is read */
			load_tile<B, DM>(a, qs, q + (size_t)h * (size_t)a.D, t0, t_end, qstride);
			load_tile<B, DM>(a, os, dout + (size_t)h * (size_t)a.D, t0, t_end, qstride);
			__syncthreads();
			tile_gradients<DM>(a, ps, ds, qs, ks, os, vs, lse, delta, h, t0, j0, j1, ty, tx);
			__syncthreads();
			tile_add<I, B, DM, LD, true>(av, ps, os, ty, tx);
			tile_add<I, B, DM, LD, true>(ak, ds, qs, ty, tx);
		}
#pragma unroll
	for (int i = 0; i < I; i++) {
		const int key = j0 + ty + 16 * i;

		if (key >= j1) continue;
		store_row<DM>(a, dk + (size_t)key * kstride + (size_t)g * (size_t)a.D, ak[i], 1, tx);
		store_row<DM>(a, dv + (size_t)key * kstride + (size_t)g * (size_t)a.D, av[i], 1, tx);
	}
}

template <int DM, typename T> __global__ void __launch_bounds__(ATTN_THREADS) dq_kernel(T *dq, const T *dout, const float *lse,
	const float *delta, const T *q, const T *k, const T *v, attn a)
{
	typedef backward_shape<DM> sh;
	enum { B = sh::B, LD = sh::LD, I = sh::I };
	KF_DYNAMIC_SHARED(float, ks);
	float *vs = ks + B * (DM + 4), *qs = vs + B * (DM + 4), *os = qs + B * (DM + 4), *ps = os + B * (DM + 4), *ds = ps + B * LD;
	const int ty = (int)threadIdx.x / 16, tx = (int)threadIdx.x % 16, h = (int)blockIdx.y, g = h / (a.H / a.G);
	const int t0 = (int)(gridDim.x - 1 - blockIdx.x) * B, t1 = t0 + B < a.rows ? t0 + B : a.rows;
	const size_t qstride = (size_t)a.H * (size_t)a.D, kstride = (size_t)a.G * (size_t)a.D;
	float aq[I][DM / 16];

#pragma unroll
	for (int i = 0; i < I; i++)
#pragma unroll
		for (int c = 0; c < DM / 16; c++) aq[i][c] = 0;
	load_tile<B, DM>(a, qs, q + (size_t)h * (size_t)a.D, t0, t1, qstride);
	load_tile<B, DM>(a, os, dout + (size_t)h * (size_t)a.D, t0, t1, qstride);
	for (int j0 = first_key(a, t0); j0 < t1; j0 += B) {
		__syncthreads();
		load_tile<B, DM>(a, ks, k + (size_t)g * (size_t)a.D, j0, t1, kstride);
		load_tile<B, DM>(a, vs, v + (size_t)g * (size_t)a.D, j0, t1, kstride);
		__syncthreads();
		tile_gradients<DM>(a, ps, ds, qs, ks, os, vs, lse, delta, h, t0, j0, t1, ty, tx);
		__syncthreads();
		tile_add<I, B, DM, LD, false>(aq, ds, ks, ty, tx);
	}
#pragma unroll
	for (int i = 0; i < I; i++) {
		const int t = t0 + ty + 16 * i;

		if (t < t1) store_row<DM>(a, dq + (size_t)t * qstride + (size_t)h * (size_t)a.D, aq[i], 1, tx);
	}
}

template <typename T> int launch_delta(float *delta, const T *dout, const T *out, const attn &a, kf_cuda_stream s)
{
	const auto kernel = delta_kernel<T>;
	const int64_t n = (int64_t)a.rows * a.H;

	return KF_LAUNCH(kernel, dim3(kf_blocks((size_t)n, 8)), dim3(32, 8), 0, s, delta, dout, out, n, a.D);
}

template <int DM, typename T>
int launch(T *dq, T *dk, T *dv, const T *dout, const float *lse, const float *delta, const T *q, const T *k, const T *v,
	const attn &a, kf_cuda_stream s)
{
	typedef backward_shape<DM> sh;
	const auto keys = dkv_kernel<DM, T>;
	const auto rows = dq_kernel<DM, T>;
	const unsigned tiles = ((unsigned)a.rows + sh::B - 1) / sh::B;
	int st = kf_allow_shared(keys, sh::SHARED);

	if (!st) st = kf_allow_shared(rows, sh::SHARED);
	if (!st)
		st = KF_LAUNCH(keys, dim3(tiles, (unsigned)a.G), dim3(ATTN_THREADS), sh::SHARED, s, dk, dv, dout, lse, delta, q, k, v, a);
	return st ? st : KF_LAUNCH(rows, dim3(tiles, (unsigned)a.H), dim3(ATTN_THREADS), sh::SHARED, s, dq, dout, lse, delta, q, k, v, a);
}

template <typename T>
int run(T *dq, T *dk, T *dv, const T *dout, const T *out, const float *lse, float *delta, const T *q, const T *k, const T *v,
	const attn &a, const kf_attn *at, kf_cuda_stream s)
{
	const int st = launch_delta(delta, dout, out, a, s);

	if (st) return st;
	if (sizeof(T) == 2 && a.wide && kf_wide(dq, dk, dv))
		return kf_cuda_attention_mma_dx((bf16 *)dq, (bf16 *)dk, (bf16 *)dv, (const bf16 *)dout, lse, delta, (const bf16 *)q,
			(const bf16 *)k, (const bf16 *)v, at, a.begin, a.end, a.rows, s);
	return KF_BY_HEAD(a.D, DM, launch<DM, T>(dq, dk, dv, dout, lse, delta, q, k, v, a, s));
}

} // namespace

size_t kf_cuda_attention_dx_scratch(int T_, const kf_attn *at) { return (size_t)T_ * (size_t)at->H * sizeof(float); }

int kf_cuda_attention_dx(kf_num_type type, void *dq, void *dk, void *dv, const void *dout, const void *out, const float *lse,
	const void *q, const void *k, const void *v, const int32_t *begin, const int32_t *end, int T_, const kf_attn *at, void *scratch,
	kf_cuda_stream s)
{
	const attn a = attn_of(type, at, begin, end, T_, kf_wide(q, k, v, dout));

	if (T_ <= 0) return 0;
	if (at->D > KF_CUDA_MAX_HEAD) return (int)cudaErrorInvalidValue;
	return KF_BY_TYPE(type, T, run((T *)dq, (T *)dk, (T *)dv, (const T *)dout, (const T *)out, lse, (float *)scratch, (const T *)q,
		(const T *)k, (const T *)v, a, at, s));
}
