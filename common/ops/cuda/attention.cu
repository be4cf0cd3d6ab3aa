/* Causal attention of packed sequences, forward: online softmax over tiles of keys (Milakov and Gimelshein 2018; Dao et al. 2022).
 *
 * A block has BM rows of one head; rows of several whole sequences may share it: each sees what is its own. Limited by float32
 * arithmetic, 4 D flops a (row, key) pair, of which every pair in a tile with a visible one is computed. In bf16, where rows are on 16
 * bytes, attention_mma.cu does it on tensor cores. */
#include "common/ops/cuda/attention.cuh"

namespace {

/* Rows and keys of a tile: 64, or 32 where heads are large. */
template <int DM> struct forward_shape {
	enum { B = DM <= 128 ? 64 : 32, LD = B + 4, I = B / 16, SHARED = (2 * B * (DM + 4) + B * LD) * 4 };
};

template <int DM, typename T>
__global__ void __launch_bounds__(ATTN_THREADS) attention_kernel(T *out, float *lse, const T *q, const T *k, const T *v,
	earlier<T> before, attn a)
{
	typedef forward_shape<DM> sh;
	enum { B = sh::B, LD = sh::LD, I = sh::I };
	KF_DYNAMIC_SHARED(float, qs);                    /* (B, DM + 4) */
	float *ks = qs + B * (DM + 4);                   /* (B, DM + 4) keys, then values */
	float *ps = ks + B * (DM + 4);                   /* (B, LD) */
	const int ty = (int)threadIdx.x / 16, tx = (int)threadIdx.x % 16, h = (int)blockIdx.y;
	const block_rows<T> w = rows_of_block<B>(a, before, out, q, k, v, h);
	const int t0 = w.t0, t1 = w.t1;
	const size_t qstride = (size_t)a.H * (size_t)a.D, kstride = (size_t)a.G * (size_t)a.D;
	const float head_slope = a.slopes ? a.slopes[h] : 0;
	float o[I][DM / 16], m[I], sum[I];
	int first[I];

	if (t0 >= t1) return;
	load_tile<B, DM>(a, qs, w.q, t0, t1, qstride);
#pragma unroll
	for (int i = 0; i < I; i++) {
		const int t = t0 + ty + 16 * i;

		first[i] = t < t1 ? first_key(a, t) : 0x7fffffff;
		m[i] = -INFINITY;
		sum[i] = 0;
#pragma unroll
		for (int c = 0; c < DM / 16; c++) o[i][c] = 0;
	}
	for (int j0 = first_key(a, t0), j1; j0 < t1; j0 = j1) {
		const bool past = j0 < w.n;   /* a tile is of what stands before the sequence, or of the sequence */
		const int end = past ? w.n : t1;
		float s[I][I];

		j1 = past && j0 + B > end ? end : j0 + B;
		__syncthreads();   /* the values of the tile before are read */
		load_tile<B, DM>(a, ks, past ? w.past_k : w.k, j0, end, kstride);
		__syncthreads();
		tile_product<I, I, DM>(s, qs, ks, ty, tx);
#pragma unroll
		for (int i = 0; i < I; i++) {
			const int t = t0 + ty + 16 * i, last = t < end ? t : end - 1;
			float top = -INFINITY, add = 0, fix, unused;

#pragma unroll
			for (int j = 0; j < I; j++) {
				const int key = j0 + tx + 16 * j;

				s[i][j] = key >= first[i] && key <= last ? attn_score(a, s[i][j], head_slope, key - t, &unused) : -INFINITY;
				top = fmaxf(top, s[i][j]);
			}
			top = fmaxf(row_max(top), m[i]);
			fix = top > -INFINITY ? __expf(m[i] - top) : 1;
#pragma unroll
			for (int j = 0; j < I; j++) {
				const float p = s[i][j] == -INFINITY ? 0 : __expf(s[i][j] - top);

				add += p;
				ps[(ty + 16 * i) * LD + tx + 16 * j] = p;
			}
			sum[i] = sum[i] * fix + row_sum(add);
			m[i] = top;
#pragma unroll
			for (int c = 0; c < DM / 16; c++) o[i][c] *= fix;
		}
		__syncthreads();   /* the keys are read */
		load_tile<B, DM>(a, ks, past ? w.past_v : w.v, j0, end, kstride);
		__syncthreads();
		tile_add<I, B, DM, LD, false>(o, ps, ks, ty, tx);
	}
#pragma unroll
	for (int i = 0; i < I; i++) {
		const int t = t0 + ty + 16 * i;

		if (t >= t1) continue;
		store_row<DM>(a, w.out + (size_t)t * qstride, o[i], 1 / sum[i], tx);
		if (lse && tx == 0) lse[(size_t)t * (size_t)a.H + (size_t)h] = m[i] + logf(sum[i]);
	}
}

/* pieces: of before; else rows of a */
template <int DM, typename T>
int launch(T *out, float *lse, const T *q, const T *k, const T *v, const earlier<T> &before, int pieces, const attn &a, kf_cuda_stream s)
{
	typedef forward_shape<DM> sh;
	const auto kernel = attention_kernel<DM, T>;
	const int st = kf_allow_shared(kernel, sh::SHARED);
	const unsigned blocks = pieces ? (unsigned)pieces * (KF_CUDA_MANY / sh::B) : ((unsigned)a.rows + sh::B - 1) / sh::B;

	return st ? st : KF_LAUNCH(kernel, dim3(blocks, (unsigned)a.H), dim3(ATTN_THREADS), sh::SHARED, s, out, lse, q, k, v, before, a);
}

template <typename T>
int run(T *out, float *lse, const T *q, const T *k, const T *v, const earlier<T> &before, int pieces, const attn &a, kf_cuda_stream s)
{
	return KF_BY_HEAD(a.D, DM, launch<DM, T>(out, lse, q, k, v, before, pieces, a, s));
}

} // namespace

int kf_cuda_attention(kf_num_type type, void *out, float *lse, const void *q, const void *k, const void *v, const int32_t *begin,
	int T_, const kf_attn *at, kf_cuda_stream s)
{
	const attn a = attn_of(type, at, begin, NULL, T_, kf_wide(q, k, v));

	if (T_ <= 0) return 0;
	if (at->D > KF_CUDA_MAX_HEAD) return (int)cudaErrorInvalidValue;
	if (type == KF_NUM_BF16 && a.wide && kf_wide(out))
		return kf_cuda_attention_mma((bf16 *)out, lse, (const bf16 *)q, (const bf16 *)k, (const bf16 *)v, NULL, at, begin, T_, s);
	return KF_BY_TYPE(type, T, run((T *)out, lse, (const T *)q, (const T *)k, (const T *)v, earlier<T>{ NULL, NULL, NULL }, 0, a, s));
}

int kf_cuda_attention_many(kf_num_type type, void *out, const void *q, const void *k, const void *v, const kf_cuda_past *p,
	const kf_attn *at, kf_cuda_stream s)
{
	const attn a = attn_of(type, at, NULL, NULL, 0, kf_wide(q, k, v, p->k, p->v));

	if (p->n_many <= 0) return 0;
	if (at->D > KF_CUDA_MAX_HEAD) return (int)cudaErrorInvalidValue;
	if (type == KF_NUM_BF16 && a.wide && kf_wide(out))
		return kf_cuda_attention_mma((bf16 *)out, NULL, (const bf16 *)q, (const bf16 *)k, (const bf16 *)v, p, at, NULL, 0, s);
	return KF_BY_TYPE(type, T, run((T *)out, (float *)NULL, (const T *)q, (const T *)k, (const T *)v,
		earlier<T>{ p->many, (const T *)p->k, (const T *)p->v }, p->n_many, a, s));
}
