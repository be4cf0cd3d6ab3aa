/* What the kernels share: storage types, loads of 16 bytes, sums over a warp and a block, launching.
 *
 * The tests compile these sources with the host's compiler and other cuda_*.h headers (tests/emu), which define
 * the KF_ macros of the first part their own way; so kernels use them where CUDA's own syntax would not do. */
#ifndef KF_OPS_CUDA_DEVICE_CUH
#define KF_OPS_CUDA_DEVICE_CUH

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include "common/ops/cuda/kernels.h"

#ifndef KF_LAUNCH
/* An expression: CUDA's error code of the launch. */
#define KF_LAUNCH(kernel, grid, block, shared, stream, ...) \
	((kernel)<<<(grid), (block), (shared), (stream)>>>(__VA_ARGS__), (int)cudaGetLastError())
/* Shared memory of the block: an array of known size, and what the launch asked for. */
#define KF_SHARED(type, name, dims) __shared__ type name dims
#define KF_DYNAMIC_SHARED(type, name) \
	extern __shared__ __align__(16) unsigned char kf_dynamic_shared[]; \
	type *name = (type *)kf_dynamic_shared
/* The tensor cores' c (16, 8) += a (16, 16) b (16, 8), spread over a warp: float c[4], unsigned a[4], b[2], two bf16 each. And
 * how such pieces come from shared memory: four tiles of 8 x 8 into unsigned r[4], each lane pointing at a row of 16 bytes
 * (lanes 0 to 7 of the first tile, and so on); a lane gets two neighbours of row lane / 4, or with T of column lane / 4. */
#define KF_MMA(c, a, b) \
	asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};" \
		: "+f"((c)[0]), "+f"((c)[1]), "+f"((c)[2]), "+f"((c)[3]) \
		: "r"((a)[0]), "r"((a)[1]), "r"((a)[2]), "r"((a)[3]), "r"((b)[0]), "r"((b)[1]))
#define KF_LDMATRIX_(kind, r, p) \
	asm volatile("ldmatrix.sync.aligned.m8n8.x4" kind ".shared.b16 {%0,%1,%2,%3}, [%4];" \
		: "=r"((r)[0]), "=r"((r)[1]), "=r"((r)[2]), "=r"((r)[3]) : "r"((unsigned)__cvta_generic_to_shared(p)) : "memory")
#define KF_LDMATRIX(r, p) KF_LDMATRIX_("", r, p)
#define KF_LDMATRIX_T(r, p) KF_LDMATRIX_(".trans", r, p)
#endif

typedef __nv_bfloat16 bf16;

/* Run an expression with T the storage type; and with N the numbers of a 16-byte load where `wide`, else 1. */
#define KF_BY_TYPE(type, T, ...) \
	((type) == KF_NUM_BF16 ? [&] { typedef bf16 T; return __VA_ARGS__; }() : [&] { typedef float T; return __VA_ARGS__; }())
#define KF_BY_WIDTH(wide, T, N, ...) \
	((wide) ? [&] { enum { N = 16 / sizeof(T) }; return __VA_ARGS__; }() : [&] { enum { N = 1 }; return __VA_ARGS__; }())

static __device__ inline float kf_float(float v) { return v; }
static __device__ inline float kf_float(bf16 v) { return __bfloat162float(v); }
static __device__ inline void kf_put(float *p, float v) { *p = v; }
static __device__ inline void kf_put(bf16 *p, float v) { *p = __float2bfloat16_rn(v); }

template <typename T, int N> struct alignas(sizeof(T) * N) kf_pack { T v[N]; };

/* N numbers in one access, or in as many of 16 bytes as they are; p is aligned to that. */
template <int N, typename T> __device__ inline void kf_load(const T *p, float *out)
{
	constexpr int M = N * sizeof(T) > 16 ? 16 / (int)sizeof(T) : N;

#pragma unroll
	for (int k = 0; k < N; k += M) {
		const kf_pack<T, M> a = *(const kf_pack<T, M> *)(p + k);

#pragma unroll
		for (int i = 0; i < M; i++) out[k + i] = kf_float(a.v[i]);
	}
}

template <int N, typename T> __device__ inline void kf_store(T *p, const float *in)
{
	constexpr int M = N * sizeof(T) > 16 ? 16 / (int)sizeof(T) : N;

#pragma unroll
	for (int k = 0; k < N; k += M) {
		kf_pack<T, M> a;

#pragma unroll
		for (int i = 0; i < M; i++) kf_put(&a.v[i], in[k + i]);
		*(kf_pack<T, M> *)(p + k) = a;
	}
}

/* ---- sums; everyone gets the result ---- */

static __device__ inline float kf_warp_sum(float v)
{
	for (int d = 16; d; d >>= 1) v += __shfl_xor_sync(~0u, v, d);
	return v;
}

static __device__ inline float kf_warp_max(float v)
{
	for (int d = 16; d; d >>= 1) v = fmaxf(v, __shfl_xor_sync(~0u, v, d));
	return v;
}

/* Of the G threads of a row of the block: a warp, or a block of G threads. */
template <int G> __device__ inline float kf_group_sum(float v)
{
	v = kf_warp_sum(v);
	if (G > 32) {
		KF_SHARED(float, part, [G / 32]);
		float s = 0;

		if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = v;
		__syncthreads();
		for (int i = 0; i < G / 32; i++) s += part[i];
		__syncthreads();   /* before the next call writes */
		v = s;
	}
	return v;
}

/* ---- the host's side ---- */

/* Is everything on a 16-byte boundary, so that loads of 16 bytes may be used? NULL is. */
static inline bool kf_wide(void) { return true; }
template <typename... P> static inline bool kf_wide(const void *p, P... rest)
{
	return (uintptr_t)p % 16 == 0 && kf_wide(rest...);
}

/* Blocks for n items at `per` a block; kernels stride over what is left. */
static inline unsigned kf_blocks(size_t n, size_t per, size_t most = 1 << 14)
{
	const size_t b = (n + per - 1) / per;

	return (unsigned)(b < most ? b : most);
}

/* Let a kernel have more than 48 KiB of shared memory, of which our kernels declare less than 1 KiB themselves. */
template <typename F> static inline int kf_allow_shared(F *kernel, size_t bytes)
{
	return bytes > (47 << 10) ? (int)cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)bytes) : 0;
}

#endif
