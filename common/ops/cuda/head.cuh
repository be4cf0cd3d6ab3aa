/* What the head's kernels share: sums of exponentials that never overflow. */
#ifndef KF_OPS_CUDA_HEAD_CUH
#define KF_OPS_CUDA_HEAD_CUH

#include "common/ops/cuda/device.cuh"

namespace {

enum { HEAD_THREADS = 256 };

__device__ inline float cap_logit(float z, float cap) { return cap > 0 ? cap * tanhf(z / cap) : z; }

/* e^max * sum, in a thread; the sum is of at most a tile. */
struct part { float max, sum; };

__device__ inline part join(part a, part b)
{
	const float m = fmaxf(a.max, b.max);

	if (m == -INFINITY) return { m, a.sum + b.sum };   /* NaN stays in sum */
	return { m, a.sum * __expf(a.max - m) + b.sum * __expf(b.max - m) };
}

/* Of scale * z[begin .. end), by the whole block; everyone gets it. Two passes over shared memory: exponentials once. */
__device__ inline part block_exp_sum(const float *z, int begin, int end, float scale)
{
	KF_SHARED(part, parts, [HEAD_THREADS / 32]);
	part p = { -INFINITY, 0 };

	for (int i = begin + (int)threadIdx.x; i < end; i += HEAD_THREADS) p.max = fmaxf(p.max, scale * z[i]);
	for (int i = begin + (int)threadIdx.x; i < end; i += HEAD_THREADS) {
		const float v = scale * z[i];

		if (v != -INFINITY) p.sum += __expf(v - (p.max == -INFINITY ? 0 : p.max));   /* NaN is added, and seen */
	}
	for (int d = 16; d; d >>= 1) {
		const part o = { __shfl_xor_sync(~0u, p.max, d), __shfl_xor_sync(~0u, p.sum, d) };

		p = join(p, o);
	}
	if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = p;
	__syncthreads();
	p = parts[0];
	for (int i = 1; i < HEAD_THREADS / 32; i++) p = join(p, parts[i]);
	__syncthreads();   /* before the next call writes */
	return p;
}

/* One thread. Sums over tiles are kept in double, so that their rounding does not add up. */
__device__ inline void lse_add(kf_cuda_lse *a, double max, double sum)
{
	if (max > (double)a->max) {
		a->sum = a->max == -INFINITY ? sum + a->sum : sum + a->sum * exp((double)a->max - max);
		a->max = (float)max;
	} else {
		a->sum += max == (double)a->max || max == -INFINITY ? sum : sum * exp(max - (double)a->max);
	}
}

__device__ inline double lse_log(const kf_cuda_lse &a)
{
	return a.sum > 0 ? (double)a.max + log(a.sum) : a.sum == 0 ? -INFINITY : a.sum;   /* NaN stays */
}

/* A row's tile of logits, capped, into shared memory; barrier included. 4 bytes read per logit. */
__device__ inline void stage_tile(float *z, const float *from, int n, float cap, bool wide)
{
	if (wide) {
		for (int i = (int)threadIdx.x * 4; i < n; i += HEAD_THREADS * 4) {
			float v[4];

			kf_load<4>(from + i, v);
#pragma unroll
			for (int j = 0; j < 4; j++) v[j] = cap_logit(v[j], cap);
			kf_store<4>(z + i, v);
		}
	} else {
		for (int i = (int)threadIdx.x; i < n; i += HEAD_THREADS) z[i] = cap_logit(from[i], cap);
	}
	__syncthreads();
}

/* Are the rows of a tile loads of 16 bytes? */
static inline bool wide_tile(const float *logits, int64_t ld, int n) { return kf_wide(logits) && ld % 4 == 0 && n % 4 == 0; }

__device__ inline double warp_sum(double v)
{
	for (int d = 16; d; d >>= 1) v += __shfl_xor_sync(~0u, v, d);
	return v;
}

__device__ inline double warp_max(double v)
{
	for (int d = 16; d; d >>= 1) v = fmax(v, __shfl_xor_sync(~0u, v, d));
	return v;
}

} // namespace

#endif
