/* head_score on the device: a pass over each tile of logits that leaves, of every row, the best k, sums of exponentials by
 * depth of the nested ranges, the label's logit and the best at each depth (cpu/head_score.c has the method).
 *
 * Limited by memory: a tile's logits are read once (4 bytes each, written once by the product before), staged in shared memory and
 * passed over there: twice for the sums, once for the candidates where nothing enters, which is the rule after
 * the first tiles. A candidate is a 64-bit key, larger when better: the logit's bits made ascending, then the id's
 * complement. Those that beat the worst kept go to a buffer, in any order, and are sorted in: the outcome has one order. */
#include "common/ops/cuda/head.cuh"

namespace {

__device__ inline uint64_t key_of(float v, int32_t id)
{
	const uint32_t u = __float_as_uint(v + 0.f);   /* -0 is 0 */

	return (uint64_t)(u & 0x80000000 ? ~u : u | 0x80000000) << 32 | ~(uint32_t)id;
}

__device__ inline float key_value(uint64_t key)   /* of an empty place, 0, -infinity */
{
	const uint32_t u = (uint32_t)(key >> 32);

	return key ? __uint_as_float(u & 0x80000000 ? u & 0x7fffffff : ~u) : -INFINITY;
}

__device__ inline int32_t key_id(uint64_t key) { return (int32_t)~(uint32_t)key; }

/* Descending, n a power of two, by the whole block (bitonic: Batcher 1968); a barrier before and after. */
__device__ inline void sort_keys(uint64_t *list, int n)
{
	__syncthreads();
	for (int size = 2; size <= n; size <<= 1)
		for (int step = size >> 1; step; step >>= 1) {
			for (int i = (int)threadIdx.x; i < n / 2; i += HEAD_THREADS) {
				const int a = 2 * i - (i & (step - 1)), b = a + step;
				const uint64_t x = list[a], y = list[b];

				if ((x < y) == ((a & size) == 0)) {
					list[a] = y;
					list[b] = x;
				}
			}
			__syncthreads();
		}
}

struct tile {
	const float *z;          /* shared */
	const int32_t *order;    /* ids of its places, or NULL: p0 + place */
	int p0;
};

__device__ inline uint64_t key_at(const tile &t, int i) { return key_of(t.z[i], t.order ? t.order[i] : t.p0 + i); }

/* Put what is in places [begin, end) of the tile, and below `below`, into kept (K, in global memory, sorted). list: shared, room for P > K
 * keys. */
__device__ inline void collect(uint64_t *kept, int K, uint64_t below, const tile &t, int begin, int end, uint64_t *list, int P)
{
	KF_SHARED(int, filled, [1]);
	uint64_t limit = kept[K - 1];
	float least = key_value(limit);
	int any = 0, step;

	for (int i = begin + (int)threadIdx.x; i < end; i += HEAD_THREADS)
		if (t.z[i] >= least) {
			const uint64_t key = key_at(t, i);

			any += key > limit && key < below;
		}
	/* at most what fits is looked at between two sorts: all of it where so few enter */
	any = (int)kf_group_sum<HEAD_THREADS>((float)any);
	if (!any) return;
	step = any <= P - K ? end - begin : P - K;
	for (int i = (int)threadIdx.x; i < K; i += HEAD_THREADS) list[i] = kept[i];
	for (int from = begin; from < end; from += step) {
		const int to = from + step < end ? from + step : end;
		int n = 2;

		if (threadIdx.x == 0) filled[0] = K;
		__syncthreads();
		for (int i = from + (int)threadIdx.x; i < to; i += HEAD_THREADS)
			if (t.z[i] >= least) {
				const uint64_t key = key_at(t, i);

				if (key > limit && key < below) list[atomicAdd(&filled[0], 1)] = key;
			}
		__syncthreads();
		const int have = filled[0];

		if (have > K) {
			while (n < have) n <<= 1;
			for (int i = have + (int)threadIdx.x; i < n; i += HEAD_THREADS) list[i] = 0;
			sort_keys(list, n);
			limit = list[K - 1];
			least = key_value(limit);
		}
		__syncthreads();   /* everyone has read filled and limit */
	}
	for (int i = (int)threadIdx.x; i < K; i += HEAD_THREADS) kept[i] = list[i];
	__syncthreads();
}

/* Where row t's ranges are in the state and in lo, hi. */
__device__ inline int row_ranges(const kf_cuda_score &q, int t) { return q.range_off ? q.range_off[t] - q.range_off[0] : 0; }

/* The i-th of the 2 R ends of R nested ranges, in order of position. */
__device__ inline int range_end(const kf_cuda_score &q, int r0, int R, int i)
{
	return i < R ? q.range_lo[r0 + i] : q.range_hi[r0 + 2 * R - 1 - i];
}

__global__ void __launch_bounds__(HEAD_THREADS) begin_kernel(kf_cuda_score q)
{
	const int t = (int)blockIdx.x, r0 = row_ranges(q, t), all = q.range_off ? q.range_off[t + 1] - q.range_off[t] : 0;
	const kf_cuda_lse none = { 0, -INFINITY, 0 };

	for (int i = (int)threadIdx.x; i < q.k; i += HEAD_THREADS) q.top[(size_t)t * (size_t)q.k + (size_t)i] = 0;
	for (int i = (int)threadIdx.x; i <= all; i += HEAD_THREADS) q.acc[(size_t)(r0 + t + i)] = none;
	for (size_t i = threadIdx.x; i < (size_t)all * (size_t)q.m; i += HEAD_THREADS) q.deep[(size_t)r0 * (size_t)q.m + i] = 0;
	if (threadIdx.x == 0) {
		int r = 0;

		while (r < all && q.range_lo[r0 + r] < q.range_hi[r0 + r]) r++;   /* an empty range and those in it come last */
		q.n_range[t] = r;
		q.label[t] = 0;
	}
}

__global__ void __launch_bounds__(HEAD_THREADS) tile_kernel(kf_cuda_score q, const float *logits, int64_t ld, int p0, int n, int P, bool wide)
{
	KF_DYNAMIC_SHARED(uint64_t, list);            /* (P) */
	float *z = (float *)(list + P);               /* (n) */
	const int t = (int)blockIdx.x, r0 = row_ranges(q, t), R = q.n_range[t], end = p0 + n;
	const tile at = { z, q.order ? q.order + p0 : NULL, p0 };
	uint64_t *top = q.top + (size_t)t * (size_t)q.k + (size_t)q.done;
	int next = 0, p = p0;                         /* ends passed; where we are */

	stage_tile(z, logits + (size_t)t * (size_t)ld, n, q.cap, wide);
	collect(top, q.k - q.done < KF_CUDA_MAX_K ? q.k - q.done : KF_CUDA_MAX_K, q.done ? top[-1] : ~(uint64_t)0, at, 0, n, list, P);
	if (q.done) return;
	if (threadIdx.x == 0 && q.labels && q.labels[t] >= 0) {
		const int place = (q.rank ? q.rank[q.labels[t]] : q.labels[t]) - p0;

		if (place >= 0 && place < n) q.label[t] = z[place];
	}
	for (int i = 0; i < 2 * R; i += HEAD_THREADS) {
		const int mine = i + (int)threadIdx.x;

		next += __syncthreads_count(mine < 2 * R && range_end(q, r0, R, mine) <= p0);
	}
	while (p < end) {
		int stop = end, d;

		while (next < 2 * R && range_end(q, r0, R, next) <= p) next++;
		if (next < 2 * R && range_end(q, r0, R, next) < end) stop = range_end(q, r0, R, next);
		d = next <= R ? next : 2 * R - next;      /* in the first d ranges and no other */
		const part sum = block_exp_sum(z, p - p0, stop - p0, 1);

		if (threadIdx.x == 0) lse_add(&q.acc[r0 + t + d], sum.max, sum.sum);
		if (d > 0 && q.m > 0)
			collect(q.deep + (size_t)(r0 + d - 1) * (size_t)q.m, q.m, ~(uint64_t)0, at, p - p0, stop - p0, list, P);
		p = stop;
	}
}

/* ---- from states to answers: a warp a row ---- */

/* Stored candidates of the row in range r: of the top k (extras chosen so far lie in narrower ranges, so all n of them, too). */
__device__ inline int stored_in(const kf_cuda_score &q, const uint64_t *top, int r, int lane)
{
	int count = 0;

	for (int i = lane; i < q.k; i += 32) {
		const int place = q.rank[key_id(top[i])];

		count += place >= q.range_lo[r] && place < q.range_hi[r];
	}
	for (int d = 16; d; d >>= 1) count += __shfl_xor_sync(~0u, count, d);
	return count;
}

/* The best of lists r .. R that is neither in the top k nor among the n extras; 0: none. */
__device__ inline uint64_t best_left(const kf_cuda_score &q, uint64_t worst, int r, int R, const int32_t *extras, int n, int lane)
{
	uint64_t best = 0;

	for (size_t i = (size_t)r * (size_t)q.m + (size_t)lane; i < (size_t)R * (size_t)q.m; i += 32) {
		const uint64_t key = q.deep[i];
		bool taken = key >= worst || key <= best;

		for (int j = 0; j < n && !taken; j++) taken = extras[j] == key_id(key);
		if (!taken) best = key;
	}
	for (int d = 16; d; d >>= 1) {
		const uint64_t other = __shfl_xor_sync(~0u, best, d);

		if (other > best) best = other;
	}
	return best;
}

__device__ inline int choose_extras(const kf_cuda_score &q, int t, int r0, int R, const uint64_t *top, int lane)
{
	int32_t *ids = q.extra_ids + (size_t)t * (size_t)q.E;
	float *lp = q.extra_lp + (size_t)t * (size_t)q.E;   /* logits until the end */
	int n = 0;

	for (int r = R - 1; r >= 0 && n < q.E; r--)
		for (int stored = stored_in(q, top, r0 + r, lane) + n; stored < q.m && n < q.E; stored++) {
			const uint64_t key = best_left(q, top[q.k - 1], r0 + r, r0 + R, ids, n, lane);

			if (!key) break;
			__syncwarp();   /* all have read ids: shuffles order no memory */
			if (lane == 0) {
				int at = n;

				for (; at > 0 && key > key_of(lp[at - 1], ids[at - 1]); at--) {
					lp[at] = lp[at - 1];
					ids[at] = ids[at - 1];
				}
				lp[at] = key_value(key);
				ids[at] = key_id(key);
			}
			n++;
			__syncwarp();
		}
	return n;
}

__global__ void __launch_bounds__(HEAD_THREADS) end_kernel(kf_cuda_score q)
{
	const int t = (int)(blockIdx.x * blockDim.y + threadIdx.y), lane = (int)threadIdx.x;

	if (t >= q.T) return;
	const int r0 = row_ranges(q, t), R = q.n_range[t], all = q.range_off ? q.range_off[t + 1] - q.range_off[t] : 0;
	const uint64_t *top = q.top + (size_t)t * (size_t)q.k;
	const kf_cuda_lse *acc = q.acc + r0 + t;
	double lse = 0;

	if (lane == 0) {
		kf_cuda_lse sum = { 0, -INFINITY, 0 };

		for (int d = R; d >= 0; d--) lse_add(&sum, acc[d].max, acc[d].sum);
		lse = lse_log(sum);
		if (!(fabs(lse) < INFINITY)) atomicMin(q.bad, t);
	}
	lse = __shfl_sync(~0u, lse, 0);
	if (!(fabs(lse) < INFINITY)) {   /* of no use: the caller reads bad, and gives an error */
		if (lane == 0 && q.extra_n) q.extra_n[t] = 0;
		return;
	}
	if (lane == 0) {
		kf_cuda_lse sum = { 0, -INFINITY, 0 };

		for (int d = R; d >= 1; d--) {
			lse_add(&sum, acc[d].max, acc[d].sum);
			q.range_nlm[r0 + d - 1] = (float)(lse - lse_log(sum));
		}
		if (q.ce) q.ce[t] = q.labels && q.labels[t] >= 0 ? (float)(lse - (double)q.label[t]) : NAN;
	}
	for (int r = R + lane; r < all; r += 32) q.range_nlm[r0 + r] = INFINITY;
	for (int i = lane; i < q.k; i += 32) {
		q.top_ids[(size_t)t * (size_t)q.k + (size_t)i] = key_id(top[i]);
		q.top_lp[(size_t)t * (size_t)q.k + (size_t)i] = (float)((double)key_value(top[i]) - lse);
	}
	if (q.extra_n) {
		const int n = q.m > 0 && q.range_off ? choose_extras(q, t, r0, R, top, lane) : 0;

		__syncwarp();
		for (int i = lane; i < n; i += 32) {
			float *lp = q.extra_lp + (size_t)t * (size_t)q.E + i;

			*lp = (float)((double)*lp - lse);
		}
		if (lane == 0) q.extra_n[t] = n;
	}
}

} // namespace

int kf_cuda_score_begin(const kf_cuda_score *q, kf_cuda_stream s)
{
	return q->T > 0 ? KF_LAUNCH(begin_kernel, dim3((unsigned)q->T), dim3(HEAD_THREADS), 0, s, *q) : 0;
}

int kf_cuda_score_tile(const kf_cuda_score *q, const float *logits, int64_t ld, int p0, int n, kf_cuda_stream s)
{
	const int k = q->k - q->done < KF_CUDA_MAX_K ? q->k - q->done : KF_CUDA_MAX_K, most = k > q->m ? k : q->m;
	int P = 512, st;
	size_t shared;

	while (P < 2 * most) P *= 2;
	shared = (size_t)P * sizeof(uint64_t) + (size_t)n * sizeof(float);
	if (q->T <= 0 || n <= 0) return 0;
	if (n > KF_CUDA_TILE || most > KF_CUDA_MAX_K) return (int)cudaErrorInvalidValue;
	if ((st = kf_allow_shared(tile_kernel, shared)) != 0) return st;
	return KF_LAUNCH(tile_kernel, dim3((unsigned)q->T), dim3(HEAD_THREADS), shared, s, *q, logits, ld, p0, n, P, wide_tile(logits, ld, n));
}

int kf_cuda_score_end(const kf_cuda_score *q, kf_cuda_stream s)
{
	return q->T > 0 ? KF_LAUNCH(end_kernel, dim3(((unsigned)q->T + 7) / 8), dim3(32, 8), 0, s, *q) : 0;
}
