/* Attention's backward on tensor cores, as attention_dx.cu has it in float32: blocks of keys for dk and dv, blocks of rows
 * for dq, every sum in one order. Probabilities and their gradients are rounded to bf16 before they are multiplied on, sums are float32.
 *
 * dk and dv: a warp has 16 keys and makes the transposed scores of 32 rows at a time, so that it is rows that are
 * summed over in the products that follow. Large heads: two warps share 16 keys, each with half the columns of dk and dv
 * (they are in registers), and both make the scores. Limited by the tensor cores: 14 D flops a (row, key) pair (18 for large heads). */
#include "common/ops/cuda/attention_mma.cuh"

namespace {

enum { THREADS = 128, BQ = 32 };

template <int DM> struct keys_shape {
	enum { HALVES = DM <= 128 ? 1 : 2, BK = 64 / HALVES, W = DM / HALVES, SHARED = (2 * BK + 2 * BQ) * (DM + 8) * 2 + 3 * BQ * 4 };
};

template <int DM> __global__ void __launch_bounds__(THREADS) dkv_kernel(bf16 *dk, bf16 *dv, const bf16 *dout, const float *lse,
	const float *delta, const bf16 *q, const bf16 *k, const bf16 *v, attn a)
{
	typedef keys_shape<DM> sh;
	enum { BK = sh::BK, W = sh::W };
	KF_DYNAMIC_SHARED(bf16, ks);                  /* (BK, DM + 8) keys, values; (BQ, DM + 8) rows of q, of dout */
	bf16 *vs = ks + BK * (DM + 8), *qs = vs + BK * (DM + 8), *os = qs + BQ * (DM + 8);
	float *ls = (float *)(os + BQ * (DM + 8)), *dl = ls + BQ;   /* (BQ) lse, delta of the rows; and the first key they see */
	int *first = (int *)(dl + BQ);
	const int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32, g = lane / 4, i = lane % 4, kv = (int)blockIdx.y;
	const int row = warp / sh::HALVES * 16, d0 = warp % sh::HALVES * W;
	const int j0 = (int)blockIdx.x * BK, j1 = j0 + BK < a.rows ? j0 + BK : a.rows, group = a.H / a.G;
	const size_t qstride = (size_t)a.H * (size_t)a.D, kstride = (size_t)a.G * (size_t)a.D;
	int t_end = a.end[j1 - 1];   /* no later row sees any of these keys */
	float ak[W / 8][4], av[W / 8][4];

	if (a.window > 0 && t_end - a.window > j1 - 1) t_end = j1 - 1 + a.window;
#pragma unroll
	for (int n = 0; n < W / 8; n++)
#pragma unroll
		for (int e = 0; e < 4; e++) ak[n][e] = av[n][e] = 0;
	load_rows<BK, DM, THREADS>(a, ks, k + (size_t)kv * (size_t)a.D, j0, j1, kstride);
	load_rows<BK, DM, THREADS>(a, vs, v + (size_t)kv * (size_t)a.D, j0, j1, kstride);
	for (int h = kv * group; h < (kv + 1) * group; h++) {
		const float head_slope = a.slopes ? a.slopes[h] : 0;

		for (int t0 = j0; t0 < t_end; t0 += BQ) {
			float s[BQ / 8][4], ds[BQ / 8][4];

			__syncthreads();   /* the tiles before are read */
			load_rows<BQ, DM, THREADS>(a, qs, q + (size_t)h * (size_t)a.D, t0, t_end, qstride);
			load_rows<BQ, DM, THREADS>(a, os, dout + (size_t)h * (size_t)a.D, t0, t_end, qstride);
			if ((int)threadIdx.x < BQ) {
				const int t = t0 + (int)threadIdx.x;
				const size_t at = (size_t)t * (size_t)a.H + (size_t)h;

				ls[threadIdx.x] = t < t_end ? lse[at] : 0;
				dl[threadIdx.x] = t < t_end ? delta[at] : 0;
				first[threadIdx.x] = t < t_end ? first_key(a, t) : 0x7fffffff;
			}
			__syncthreads();
			dot_rows<BQ, DM>(s, ks, row, qs, lane);
			dot_rows<BQ, DM>(ds, vs, row, os, lane);
#pragma unroll
			for (int n = 0; n < BQ / 8; n++)
#pragma unroll
				for (int e = 0; e < 4; e++) {
					const int key = j0 + row + g + 8 * (e >> 1), c = n * 8 + 2 * i + (e & 1);
					float slope, p = 0, d = 0;

					if (key >= first[c] && key <= t0 + c) {
						p = __expf(attn_score(a, s[n][e], head_slope, key - (t0 + c), &slope) - ls[c]);
						d = p * (ds[n][e] - dl[c]) * slope * a.scale;
					}
					s[n][e] = p;
					ds[n][e] = d;
				}
			add_rows<BQ, W, DM>(av, s, os, d0, lane);
			add_rows<BQ, W, DM>(ak, ds, qs, d0, lane);
		}
	}
#pragma unroll
	for (int e = 0; e < 2; e++) {
		const int key = j0 + row + g + 8 * e;
		const size_t at = (size_t)key * kstride + (size_t)kv * (size_t)a.D;

		if (key >= j1) continue;
		store_pairs<W>(a, dk + at, ak, e, 1, d0, i);
		store_pairs<W>(a, dv + at, av, e, 1, d0, i);
	}
}

template <int DM> struct rows_shape {
	enum { THREADS = DM <= 128 ? 128 : 64, BM = THREADS / 2, BN = 32, SHARED = (2 * BM + 2 * BN) * (DM + 8) * 2 };
};

template <int DM> __global__ void __launch_bounds__(rows_shape<DM>::THREADS) dq_kernel(bf16 *dq, const bf16 *dout, const float *lse,
	const float *delta, const bf16 *q, const bf16 *k, const bf16 *v, attn a)
{
	typedef rows_shape<DM> sh;
	enum { BM = sh::BM, BN = sh::BN, N = sh::THREADS };
	KF_DYNAMIC_SHARED(bf16, qs);                  /* (BM, DM + 8) rows of q, of dout; (BN, DM + 8) keys, values */
	bf16 *os = qs + BM * (DM + 8), *ks = os + BM * (DM + 8), *vs = ks + BN * (DM + 8);
	const int lane = (int)threadIdx.x % 32, g = lane / 4, i = lane % 4, row = (int)threadIdx.x / 32 * 16;
	const int h = (int)blockIdx.y, kv = h / (a.H / a.G);
	const int t0 = (int)(gridDim.x - 1 - blockIdx.x) * BM, t1 = t0 + BM < a.rows ? t0 + BM : a.rows;
	const size_t qstride = (size_t)a.H * (size_t)a.D, kstride = (size_t)a.G * (size_t)a.D;
	const float head_slope = a.slopes ? a.slopes[h] : 0;
	float aq[DM / 8][4], l[2], off[2];
	int t[2], first[2];

#pragma unroll
	for (int n = 0; n < DM / 8; n++)
#pragma unroll
		for (int e = 0; e < 4; e++) aq[n][e] = 0;
#pragma unroll
	for (int e = 0; e < 2; e++) {
		t[e] = t0 + row + g + 8 * e;
		const size_t at = (size_t)t[e] * (size_t)a.H + (size_t)h;

		l[e] = t[e] < t1 ? lse[at] : 0;
		off[e] = t[e] < t1 ? delta[at] : 0;
		first[e] = t[e] < t1 ? first_key(a, t[e]) : 0x7fffffff;
	}
	load_rows<BM, DM, N>(a, qs, q + (size_t)h * (size_t)a.D, t0, t1, qstride);
	load_rows<BM, DM, N>(a, os, dout + (size_t)h * (size_t)a.D, t0, t1, qstride);
	for (int j0 = first_key(a, t0); j0 < t1; j0 += BN) {
		float s[BN / 8][4], ds[BN / 8][4];

		__syncthreads();   /* the tiles before are read */
		load_rows<BN, DM, N>(a, ks, k + (size_t)kv * (size_t)a.D, j0, t1, kstride);
		load_rows<BN, DM, N>(a, vs, v + (size_t)kv * (size_t)a.D, j0, t1, kstride);
		__syncthreads();
		if (j0 > t0 + row + 15) continue;   /* later than all rows of the warp */
		dot_rows<BN, DM>(s, qs, row, ks, lane);
		dot_rows<BN, DM>(ds, os, row, vs, lane);
#pragma unroll
		for (int n = 0; n < BN / 8; n++)
#pragma unroll
			for (int c = 0; c < 4; c++) {
				const int e = c >> 1, key = j0 + n * 8 + 2 * i + (c & 1);
				float slope, d = 0;

				if (key >= first[e] && key <= t[e]) {
					const float p = __expf(attn_score(a, s[n][c], head_slope, key - t[e], &slope) - l[e]);

					d = p * (ds[n][c] - off[e]) * slope * a.scale;
				}
				ds[n][c] = d;
			}
		add_rows<BN, DM, DM>(aq, ds, ks, 0, lane);
	}
#pragma unroll
	for (int e = 0; e < 2; e++)
		if (t[e] < t1) store_pairs<DM>(a, dq + (size_t)t[e] * qstride + (size_t)h * (size_t)a.D, aq, e, 1, 0, i);
}

template <int DM>
int launch(bf16 *dq, bf16 *dk, bf16 *dv, const bf16 *dout, const float *lse, const float *delta, const bf16 *q, const bf16 *k,
	const bf16 *v, const attn &a, kf_cuda_stream s)
{
	typedef keys_shape<DM> ks;
	typedef rows_shape<DM> rs;
	const auto keys = dkv_kernel<DM>;
	const auto rows = dq_kernel<DM>;
	int st = kf_allow_shared(keys, ks::SHARED);

	if (!st) st = kf_allow_shared(rows, rs::SHARED);
	if (!st)
		st = KF_LAUNCH(keys, dim3(((unsigned)a.rows + ks::BK - 1) / ks::BK, (unsigned)a.G), dim3(THREADS), ks::SHARED, s, dk, dv, dout,
			lse, delta, q, k, v, a);
	return st ? st : KF_LAUNCH(rows, dim3(((unsigned)a.rows + rs::BM - 1) / rs::BM, (unsigned)a.H), dim3(rs::THREADS), rs::SHARED, s, dq,
		dout, lse, delta, q, k, v, a);
}

} // namespace

int kf_cuda_attention_mma_dx(bf16 *dq, bf16 *dk, bf16 *dv, const bf16 *dout, const float *lse, const float *delta, const bf16 *q,
	const bf16 *k, const bf16 *v, const kf_attn *at, const int32_t *begin, const int32_t *end, int rows, kf_cuda_stream s)
{
	const attn a = attn_of(KF_NUM_BF16, at, begin, end, rows, true);

	return KF_BY_MMA_HEAD(at->D, DM, launch<DM>(dq, dk, dv, dout, lse, delta, q, k, v, a, s));
}
