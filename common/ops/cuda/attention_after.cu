/* Attention of few rows over many keys: a text that is generated, token by token.
 *
 * Limited by memory: every key and value that a row sees is read once for all query heads of its group, s bytes a number
 * (of groups of more than four heads once for every four, from the second time on mostly out of the second-level cache);
 * arithmetic, an FMA a number and head, is beside it. Designed for 80 % of the memory's bandwidth where there are blocks for all
 * multiprocessors, that is sequences x groups x keys / KF_CUDA_SPLIT of some hundreds; with fewer, what counts is latency.
 * Not measured on a device so far.
 *
 * A block has a row, up to four heads of a group and KF_CUDA_SPLIT keys (Dao et al. 2023, "Flash-Decoding"); where a row sees
 * more, another kernel puts the parts together. The cut depends on the row's position alone: a text is the same whatever else is
 * in the batch. LANES lanes have a key, 16 bytes each (32 where heads are of 256 floats), so that a warp loads KEYS keys at once,
 * and AHEAD times as many are under way. Each such group of lanes has its own running softmax; they are put together at the end,
 * in a fixed order. */
#include "common/ops/cuda/attention.cuh"

namespace {

enum { THREADS = 128, WARPS = THREADS / 32, AHEAD = 4 };

template <int DM, typename T> struct few_shape {
	enum { WIDE = 16 / sizeof(T), E = DM / 32 > WIDE ? DM / 32 : WIDE, LANES = DM / E, KEYS = 32 / LANES, STEP = WARPS * KEYS };
};

/* E numbers of a row from column d; zero where there is none. */
template <int E, typename T> __device__ inline void read(const attn &a, float *out, const T *row, int d, bool there)
{
	if (there && a.wide && d < a.D) {
		kf_load<E>(row + d, out);
		return;
	}
#pragma unroll
	for (int e = 0; e < E; e++) out[e] = there && d + e < a.D ? kf_float(row[d + e]) : 0;
}

/* The share of a softmax whose largest score is m in one whose is top. */
__device__ inline float share_of(float m, float top) { return top > -INFINITY ? __expf(m - top) : 0; }

/* part (n_parts, H, D) weighted sums of values; stat (n_parts, H, 2) the largest score, the sum of exponentials. */
template <int DM, int M, typename T>
__global__ void __launch_bounds__(THREADS) few_kernel(T *out, float *part, float *stat, const T *q, const T *k, const T *v,
	earlier<T> before, attn a)
{
	typedef few_shape<DM, T> sh;
	enum { E = sh::E, LANES = sh::LANES, STEP = sh::STEP };
	KF_SHARED(float, so, [WARPS][M][DM]);
	KF_SHARED(float, sm, [WARPS][M]);
	KF_SHARED(float, ss, [WARPS][M]);
	const kf_cuda_piece w = before.piece[blockIdx.x];
	const int group = a.H / a.G, chunks = (group + M - 1) / M, g = (int)blockIdx.y / chunks, m0 = (int)blockIdx.y % chunks * M;
	const int heads = group - m0 < M ? group - m0 : M, h0 = g * group + m0;
	const int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32, d = lane % LANES * E, mine = warp * sh::KEYS + lane / LANES;
	const ptrdiff_t key = (ptrdiff_t)a.G * a.D, at = (ptrdiff_t)g * a.D;
	const T *own_k = k + w.own * key + at, *own_v = v + w.own * key + at;
	const T *past_k = before.k + w.past * key + at, *past_v = before.v + w.past * key + at;
	const size_t head0 = (size_t)(w.own + w.row) * (size_t)a.H + (size_t)h0;
	const int seen = first_key(a, w.row), from = seen > w.from ? seen : w.from;
	float x[M][E], o[M][E], m[M], sum[M], slope[M];

#pragma unroll
	for (int i = 0; i < M; i++) {
		read<E>(a, x[i], q + (head0 + (size_t)i) * (size_t)a.D, d, i < heads);
		slope[i] = a.slopes && i < heads ? a.slopes[h0 + i] : 0;
		m[i] = -INFINITY;
		sum[i] = 0;
#pragma unroll
		for (int e = 0; e < E; e++) o[i][e] = 0;
	}
	for (int j0 = from; j0 < w.to; j0 += STEP * AHEAD) {
		float kk[AHEAD][E], vv[AHEAD][E];

#pragma unroll
		for (int u = 0; u < AHEAD; u++) {
			const int j = j0 + u * STEP + mine;

			read<E>(a, kk[u], (j < w.n ? past_k : own_k) + j * key, d, j < w.to);
			read<E>(a, vv[u], (j < w.n ? past_v : own_v) + j * key, d, j < w.to);
		}
#pragma unroll
		for (int i = 0; i < M; i++) {
			float s[AHEAD], top = m[i], fix, unused;

#pragma unroll
			for (int u = 0; u < AHEAD; u++) {
				const int j = j0 + u * STEP + mine;

				s[u] = 0;
#pragma unroll
				for (int e = 0; e < E; e++) s[u] += x[i][e] * kk[u][e];
#pragma unroll
				for (int b = LANES / 2; b; b >>= 1) s[u] += __shfl_xor_sync(~0u, s[u], b);
				s[u] = j < w.to ? attn_score(a, s[u], slope[i], j - w.row, &unused) : -INFINITY;
				top = fmaxf(top, s[u]);
			}
			fix = top > -INFINITY ? __expf(m[i] - top) : 1;
			sum[i] *= fix;
			m[i] = top;
#pragma unroll
			for (int e = 0; e < E; e++) o[i][e] *= fix;
#pragma unroll
			for (int u = 0; u < AHEAD; u++) {
				const float p = s[u] == -INFINITY ? 0 : __expf(s[u] - top);

				sum[i] += p;
#pragma unroll
				for (int e = 0; e < E; e++) o[i][e] += p * vv[u][e];
			}
		}
	}
#pragma unroll
	for (int i = 0; i < M; i++) {
#pragma unroll
		for (int b = LANES; b < 32; b <<= 1) {   /* lanes 0 .. LANES - 1 end with the warp's */
			const float other = __shfl_xor_sync(~0u, m[i], b), top = fmaxf(m[i], other), f = share_of(m[i], top),
				g = share_of(other, top);

			sum[i] = sum[i] * f + __shfl_xor_sync(~0u, sum[i], b) * g;
#pragma unroll
			for (int e = 0; e < E; e++) o[i][e] = o[i][e] * f + __shfl_xor_sync(~0u, o[i][e], b) * g;
			m[i] = top;
		}
		if (lane < LANES) kf_store<E>(&so[warp][i][d], o[i]);
		if (lane == 0) {
			sm[warp][i] = m[i];
			ss[warp][i] = sum[i];
		}
	}
	__syncthreads();
	for (int c = (int)threadIdx.x; c < heads * a.D; c += THREADS) {
		const int i = c / a.D, column = c % a.D;
		float top = -INFINITY, all = 0, value = 0;

		for (int r = 0; r < WARPS; r++) top = fmaxf(top, sm[r][i]);
		for (int r = 0; r < WARPS; r++) {
			const float f = share_of(sm[r][i], top);

			all += ss[r][i] * f;
			value += so[r][i][column] * f;
		}
		if (w.part < 0) {
			kf_put(out + (head0 + (size_t)i) * (size_t)a.D + column, value / all);
			continue;
		}
		const size_t head = (size_t)w.part * (size_t)a.H + (size_t)(h0 + i);

		part[head * (size_t)a.D + column] = value;
		if (column == 0) {
			stat[2 * head] = top;
			stat[2 * head + 1] = all;
		}
	}
}

/* 4 bytes a part and number, of which there are few. */
template <typename T>
__global__ void __launch_bounds__(THREADS) join_kernel(T *out, const float *part, const float *stat, const kf_cuda_joint *joint, attn a)
{
	const kf_cuda_joint w = joint[blockIdx.x];
	const int h = (int)blockIdx.y;

	for (int d = (int)threadIdx.x; d < a.D; d += THREADS) {
		float top = -INFINITY, all = 0, value = 0;

		for (int r = 0; r < w.n; r++) top = fmaxf(top, stat[2 * ((size_t)(w.first + r) * (size_t)a.H + (size_t)h)]);
		for (int r = 0; r < w.n; r++) {
			const size_t head = (size_t)(w.first + r) * (size_t)a.H + (size_t)h;
			const float f = share_of(stat[2 * head], top);

			all += stat[2 * head + 1] * f;
			value += part[head * (size_t)a.D + d] * f;
		}
		kf_put(out + ((size_t)w.row * (size_t)a.H + (size_t)h) * (size_t)a.D + d, value / all);
	}
}

template <int DM, int M, typename T>
int launch(T *out, float *part, float *stat, const T *q, const T *k, const T *v, const kf_cuda_past *p, attn a, kf_cuda_stream s)
{
	const auto kernel = few_kernel<DM, M, T>;
	const unsigned chunks = ((unsigned)(a.H / a.G) + M - 1) / M;

	a.wide = a.wide && a.D % few_shape<DM, T>::E == 0;
	return KF_LAUNCH(kernel, dim3((unsigned)p->n_few, (unsigned)a.G * chunks), dim3(THREADS), 0, s, out, part, stat, q, k, v,
		earlier<T>{ p->few, (const T *)p->k, (const T *)p->v }, a);
}

template <int DM, typename T>
int by_heads(T *out, float *part, float *stat, const T *q, const T *k, const T *v, const kf_cuda_past *p, const attn &a, kf_cuda_stream s)
{
	const int group = a.H / a.G;

	if (group == 1) return launch<DM, 1, T>(out, part, stat, q, k, v, p, a, s);
	if (group == 2) return launch<DM, 2, T>(out, part, stat, q, k, v, p, a, s);
	return launch<DM, 4, T>(out, part, stat, q, k, v, p, a, s);
}

template <typename T>
int run(T *out, float *part, float *stat, const T *q, const T *k, const T *v, const kf_cuda_past *p, const attn &a, kf_cuda_stream s)
{
	const auto join = join_kernel<T>;
	const int st = KF_BY_HEAD(a.D, DM, by_heads<DM, T>(out, part, stat, q, k, v, p, a, s));

	if (st || p->n_joint <= 0) return st;
	return KF_LAUNCH(join, dim3((unsigned)p->n_joint, (unsigned)a.H), dim3(THREADS), 0, s, out, part, stat, p->joint, a);
}

} // namespace

size_t kf_cuda_attention_few_scratch(int n_parts, const kf_attn *at)
{
	return (size_t)n_parts * (size_t)at->H * (size_t)(at->D + 2) * sizeof(float);
}

int kf_cuda_attention_few(kf_num_type type, void *out, const void *q, const void *k, const void *v, const kf_cuda_past *p,
	const kf_attn *at, void *scratch, kf_cuda_stream s)
{
	const attn a = attn_of(type, at, NULL, NULL, 0, kf_wide(q, k, v, p->k, p->v));
	float *part = (float *)scratch, *stat = part + (size_t)p->n_parts * (size_t)at->H * (size_t)at->D;

	if (p->n_few <= 0) return 0;
	if (at->D > KF_CUDA_MAX_HEAD) return (int)cudaErrorInvalidValue;
	return KF_BY_TYPE(type, T, run((T *)out, part, stat, (const T *)q, (const T *)k, (const T *)v, p, a, s));
}
