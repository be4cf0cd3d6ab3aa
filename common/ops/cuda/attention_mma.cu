/* Attention's forward on tensor cores (Dao 2023), with what the vendor's lacks: slopes, caps. Probabilities are rounded to bf16
 * before they weigh values, as there; sums are float32. A block has 64 rows of a head, a warp 16; scores and sums stay in
 * registers. Limited by the tensor cores, 4 D flops a (row, key) pair, and by the exponentials beside them. */
#include "common/ops/cuda/attention_mma.cuh"

namespace {

enum { THREADS = 128 };

template <int DM> struct shape {
	enum { BM = 64, BN = DM <= 128 ? 64 : 32, SHARED = (BM + 2 * BN) * (DM + 8) * 2 };
};

template <int DM> __global__ void __launch_bounds__(THREADS) attention_kernel(bf16 *out, float *lse, const bf16 *q, const bf16 *k,
	const bf16 *v, earlier<bf16> before, attn a)
{
	enum { BM = shape<DM>::BM, BN = shape<DM>::BN };
	KF_DYNAMIC_SHARED(bf16, qs);                  /* (BM, DM + 8) */
	bf16 *ks = qs + BM * (DM + 8), *vs = ks + BN * (DM + 8);
	const int lane = (int)threadIdx.x % 32, g = lane / 4, i = lane % 4, row = (int)threadIdx.x / 32 * 16, h = (int)blockIdx.y;
	const block_rows<bf16> w = rows_of_block<BM>(a, before, out, q, k, v, h);
	const int t0 = w.t0, t1 = w.t1;
	const size_t qstride = (size_t)a.H * (size_t)a.D, kstride = (size_t)a.G * (size_t)a.D;
	const float head_slope = a.slopes ? a.slopes[h] : 0;
	const int t[2] = { t0 + row + g, t0 + row + g + 8 };
	int first[2];
	float o[DM / 8][4], m[2] = { -INFINITY, -INFINITY }, sum[2] = { 0, 0 };

#pragma unroll
	for (int n = 0; n < DM / 8; n++)
#pragma unroll
		for (int e = 0; e < 4; e++) o[n][e] = 0;
	for (int e = 0; e < 2; e++) first[e] = t[e] < t1 ? first_key(a, t[e]) : 0x7fffffff;
	load_rows<BM, DM, THREADS>(a, qs, w.q, t0, t1, qstride);
	for (int j0 = first_key(a, t0), j1; j0 < t1; j0 = j1) {
		const bool past = j0 < w.n;   /* tiles are of what stands before the sequence, or of the sequence */
		const int end = past ? w.n : t1;
		float s[BN / 8][4];

		j1 = past && j0 + BN > end ? end : j0 + BN;
		__syncthreads();   /* the tiles before are read */
		load_rows<BN, DM, THREADS>(a, ks, past ? w.past_k : w.k, j0, end, kstride);
		load_rows<BN, DM, THREADS>(a, vs, past ? w.past_v : w.v, j0, end, kstride);
		__syncthreads();
		if (j0 > t0 + row + 15) continue;   /* later than all rows of the warp */
		dot_rows<BN, DM>(s, qs, row, ks, lane);
#pragma unroll
		for (int e = 0; e < 2; e++) {
			const int last = t[e] < end ? t[e] : end - 1;
			float top = -INFINITY, fix, unused;

#pragma unroll
			for (int n = 0; n < BN / 8; n++)
#pragma unroll
				for (int c = 2 * e; c < 2 * e + 2; c++) {
					const int key = j0 + n * 8 + 2 * i + (c & 1);

					s[n][c] = key >= first[e] && key <= last ? attn_score(a, s[n][c], head_slope, key - t[e], &unused) : -INFINITY;
					top = fmaxf(top, s[n][c]);
				}
			top = fmaxf(quad_max(top), m[e]);
			fix = top > -INFINITY ? __expf(m[e] - top) : 1;
			sum[e] *= fix;
#pragma unroll
			for (int n = 0; n < BN / 8; n++)
#pragma unroll
				for (int c = 2 * e; c < 2 * e + 2; c++) {
					s[n][c] = s[n][c] == -INFINITY ? 0 : __expf(s[n][c] - top);
					sum[e] += s[n][c];
				}
			m[e] = top;
#pragma unroll
			for (int n = 0; n < DM / 8; n++) {
				o[n][2 * e] *= fix;
				o[n][2 * e + 1] *= fix;
			}
		}
		add_rows<BN, DM, DM>(o, s, vs, 0, lane);
	}
#pragma unroll
	for (int e = 0; e < 2; e++) {
		const float all = quad_sum(sum[e]);

		if (t[e] >= t1) continue;
		store_pairs<DM>(a, w.out + (size_t)t[e] * qstride, o, e, 1 / all, 0, i);
		if (lse && i == 0) lse[(size_t)t[e] * (size_t)a.H + (size_t)h] = m[e] + logf(all);
	}
}

template <int DM>
int launch(bf16 *out, float *lse, const bf16 *q, const bf16 *k, const bf16 *v, const earlier<bf16> &before, int pieces, const attn &a,
	kf_cuda_stream s)
{
	const auto kernel = attention_kernel<DM>;
	const int st = kf_allow_shared(kernel, shape<DM>::SHARED);
	const unsigned blocks = pieces ? (unsigned)pieces * (KF_CUDA_MANY / shape<DM>::BM)
		: ((unsigned)a.rows + shape<DM>::BM - 1) / shape<DM>::BM;

	return st ? st : KF_LAUNCH(kernel, dim3(blocks, (unsigned)a.H), dim3(THREADS), shape<DM>::SHARED, s, out, lse, q, k, v, before, a);
}

} // namespace

int kf_cuda_attention_mma(bf16 *out, float *lse, const bf16 *q, const bf16 *k, const bf16 *v, const kf_cuda_past *p,
	const kf_attn *at, const int32_t *begin, int rows, kf_cuda_stream s)
{
	const attn a = attn_of(KF_NUM_BF16, at, begin, NULL, rows, true);
	const earlier<bf16> before = { p ? p->many : NULL, p ? (const bf16 *)p->k : NULL, p ? (const bf16 *)p->v : NULL };

	return KF_BY_MMA_HEAD(at->D, DM, launch<DM>(out, lse, q, k, v, before, p ? p->n_many : 0, a, s));
}
