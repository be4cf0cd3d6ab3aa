/* What attention's forward and backward kernels share: which keys a row sees, scores, tiles of rows in shared memory.
 *
 * 256 threads are 16 x 16 (ty, tx). A product of tiles (A rows, B rows) is spread so that a thread has rows ty, ty + 16, .. of the
 * first and tx, tx + 16, .. of the second; what belongs to one row is in 16 neighbouring lanes. Tiles have rows of
 * DM (D rounded up, the rest zero) + 4 floats: eight neighbouring rows then start in different banks. */
#ifndef KF_OPS_CUDA_ATTENTION_CUH
#define KF_OPS_CUDA_ATTENTION_CUH

#include "common/ops/cuda/device.cuh"

namespace {

enum { ATTN_THREADS = 256 };

struct attn {
	int H, G, D, window, rows;   /* rows: T */
	float scale, cap;
	const float *slopes;
	const int32_t *begin, *end;
	bool wide;                   /* rows of D numbers are on 16-byte boundaries */
};

/* The first key that row t sees; it sees [first, t]. */
__device__ inline int first_key(const attn &a, int t)
{
	const int b = a.begin ? a.begin[t] : 0;

	return a.window > 0 && t - a.window + 1 > b ? t - a.window + 1 : b;
}

/* Rows [t0, t1) that a block of the forward works on, of head h, and their keys; row or key i is at i times its stride from what is
 * here. Of whole sequences rows and keys are the batch's, and there is no past (n is 0); of one that goes on they are counted from the
 * beginning of what stands before it, and keys below n are the past's. */
template <typename T> struct block_rows {
	const T *q, *k, *v, *past_k, *past_v;
	T *out;
	int t0, t1, n;
};

template <typename T> struct earlier {
	const kf_cuda_piece *piece;  /* a block's; NULL: whole sequences */
	const T *k, *v;
};

template <int ROWS, typename T>
__device__ inline block_rows<T> rows_of_block(const attn &a, const earlier<T> &p, T *out, const T *q, const T *k, const T *v, int h)
{
	const size_t head = (size_t)h * (size_t)a.D, group = (size_t)(h / (a.H / a.G)) * (size_t)a.D;
	block_rows<T> w = { q + head, k + group, v + group, NULL, NULL, out + head, 0, a.rows, 0 };

	if (p.piece) {
		enum { BLOCKS = KF_CUDA_MANY / ROWS };
		const kf_cuda_piece e = p.piece[blockIdx.x / BLOCKS];
		const ptrdiff_t row = (ptrdiff_t)a.H * a.D, key = (ptrdiff_t)a.G * a.D;

		w.q += e.own * row;
		w.out += e.own * row;
		w.k += e.own * key;
		w.v += e.own * key;
		w.past_k = p.k + group + e.past * key;
		w.past_v = p.v + group + e.past * key;
		w.n = e.n;
		w.t0 = e.from + (int)(blockIdx.x % BLOCKS) * ROWS;
		w.t1 = e.to;
	} else {
		w.t0 = (int)(gridDim.x - 1 - blockIdx.x) * ROWS;   /* the longest first */
	}
	if (w.t0 + ROWS < w.t1) w.t1 = w.t0 + ROWS;
	return w;
}

/* From q.k to the score of head h, `ahead` = key - row; *slope: its derivative by scale q.k. */
__device__ inline float attn_score(const attn &a, float qk, float head_slope, int ahead, float *slope)
{
	float s = a.scale * qk;

	*slope = 1;
	if (a.cap > 0) {
		const float u = tanhf(s / a.cap);

		s = a.cap * u;
		*slope = 1 - u * u;
	}
	return s + head_slope * (float)ahead;
}

/* ROWS rows from row0 of src, `stride` numbers apart; zero beyond `last` and beyond D. */
template <int ROWS, int DM, typename T>
__device__ inline void load_tile(const attn &a, float *tile, const T *src, int row0, int last, size_t stride)
{
	constexpr int N = 16 / (int)sizeof(T), PER = DM / N;

	if (a.wide) {
		for (int i = (int)threadIdx.x; i < ROWS * PER; i += ATTN_THREADS) {
			const int r = i / PER, d = i % PER * N;
			float v[N];

#pragma unroll
			for (int j = 0; j < N; j++) v[j] = 0;
			if (row0 + r < last && d < a.D) kf_load<N>(src + (size_t)(row0 + r) * stride + d, v);
			kf_store<N>(tile + r * (DM + 4) + d, v);
		}
		return;
	}
	for (int i = (int)threadIdx.x; i < ROWS * DM; i += ATTN_THREADS) {
		const int r = i / DM, d = i % DM;

		tile[r * (DM + 4) + d] = row0 + r < last && d < a.D ? kf_float(src[(size_t)(row0 + r) * stride + d]) : 0;
	}
}

/* s[i][j] = row (ty + 16 i) of x . row (tx + 16 j) of y */
template <int I, int J, int DM> __device__ inline void tile_product(float s[I][J], const float *x, const float *y, int ty, int tx)
{
#pragma unroll
	for (int i = 0; i < I; i++)
#pragma unroll
		for (int j = 0; j < J; j++) s[i][j] = 0;
#pragma unroll 4
	for (int d = 0; d < DM; d += 4) {
		float u[I][4], v[J][4];

#pragma unroll
		for (int i = 0; i < I; i++) kf_load<4>(x + (ty + 16 * i) * (DM + 4) + d, u[i]);
#pragma unroll
		for (int j = 0; j < J; j++) kf_load<4>(y + (tx + 16 * j) * (DM + 4) + d, v[j]);
#pragma unroll
		for (int i = 0; i < I; i++)
#pragma unroll
			for (int j = 0; j < J; j++)
#pragma unroll
				for (int k = 0; k < 4; k++) s[i][j] += u[i][k] * v[j][k];
	}
}

/* Columns of DM that a thread has of a row of the output: W at a time, at tx W + 16 W c. */
template <int DM> struct columns {
	enum { EACH = DM / 16, W = EACH < 4 ? EACH : 4, N = EACH / W };
};

/* o[i][..] += sum over r < ROWS of p[(ty + 16 i)][r] * y[r][..]; p has rows of LD floats (transposed: columns). */
template <int I, int ROWS, int DM, int LD, bool TRANSPOSED>
__device__ inline void tile_add(float o[I][DM / 16], const float *p, const float *y, int ty, int tx)
{
	typedef columns<DM> cols;

#pragma unroll 4
	for (int r = 0; r < ROWS; r++) {
		float u[I];

#pragma unroll
		for (int i = 0; i < I; i++) u[i] = TRANSPOSED ? p[r * LD + ty + 16 * i] : p[(ty + 16 * i) * LD + r];
#pragma unroll
		for (int c = 0; c < cols::N; c++) {
			float v[cols::W];

			kf_load<cols::W>(y + r * (DM + 4) + tx * cols::W + 16 * cols::W * c, v);
#pragma unroll
			for (int i = 0; i < I; i++)
#pragma unroll
				for (int k = 0; k < cols::W; k++) o[i][c * cols::W + k] += u[i] * v[k];
		}
	}
}

/* Row (ty + 16 i) of the output, times f. */
template <int DM, typename T>
__device__ inline void store_row(const attn &a, T *to, const float *o, float f, int tx)
{
	typedef columns<DM> cols;

#pragma unroll
	for (int c = 0; c < cols::N; c++)
#pragma unroll
		for (int k = 0; k < cols::W; k++) {
			const int d = tx * cols::W + 16 * cols::W * c + k;

			if (d < a.D) kf_put(to + d, o[c * cols::W + k] * f);
		}
}

__device__ inline float row_sum(float v)   /* over the 16 lanes of a row */
{
	for (int d = 8; d; d >>= 1) v += __shfl_xor_sync(~0u, v, d);
	return v;
}

__device__ inline float row_max(float v)
{
	for (int d = 8; d; d >>= 1) v = fmaxf(v, __shfl_xor_sync(~0u, v, d));
	return v;
}

static inline attn attn_of(kf_num_type type, const kf_attn *a, const int32_t *begin, const int32_t *end, int rows, bool aligned)
{
	return { a->H, a->G, a->D, a->window, rows, a->scale, a->cap, a->slopes, begin, end,
		aligned && (size_t)a->D * kf_num_size(type) % 16 == 0 };
}

/* Run with DM the head size rounded up to a power of two from 32 on. */
#define KF_BY_HEAD(D, DM, ...) \
	((D) <= 32 ? [&] { enum { DM = 32 }; return __VA_ARGS__; }() : (D) <= 64 ? [&] { enum { DM = 64 }; return __VA_ARGS__; }() : \
	(D) <= 128 ? [&] { enum { DM = 128 }; return __VA_ARGS__; }() : [&] { enum { DM = 256 }; return __VA_ARGS__; }())

} // namespace

/* The same on tensor cores: bf16, D a multiple of 8, rows on 16 bytes (attention_mma.cu, attention_mma_dx.cu). */
int kf_cuda_attention_mma(bf16 *out, float *lse, const bf16 *q, const bf16 *k, const bf16 *v, const kf_cuda_past *past,
	const kf_attn *at, const int32_t *begin, int rows, kf_cuda_stream s);   /* past: its many pieces; NULL: whole sequences */
int kf_cuda_attention_mma_dx(bf16 *dq, bf16 *dk, bf16 *dv, const bf16 *dout, const float *lse, const float *delta, const bf16 *q,
	const bf16 *k, const bf16 *v, const kf_attn *at, const int32_t *begin, const int32_t *end, int rows, kf_cuda_stream s);

#endif
