/* Stands in for the toolkit's header: what kernels say, in terms of the emulator (tests/emu/emu.h). */
#ifndef KF_EMU_CUDA_RUNTIME_H
#define KF_EMU_CUDA_RUNTIME_H

#include <cmath>
#include <cstdint>
#include <cstring>
#include <tuple>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(n) alignas(n)
#define __shared__ static   /* neither filled nor checked: KF_SHARED is */

struct dim3 {
	unsigned x, y, z;
	dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
struct alignas(8) float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
typedef struct CUstream_st *cudaStream_t;
typedef int cudaError_t;
enum { cudaSuccess = 0, cudaErrorInvalidValue = 1, cudaErrorLaunchFailure = 719 };
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize };

/* ---- the emulator's side: emu.cc ---- */

enum emu_op { EMU_SYNCTHREADS, EMU_SYNCTHREADS_OR, EMU_SYNCTHREADS_COUNT, EMU_SYNCWARP, EMU_SHFL, EMU_SHFL_UP, EMU_SHFL_DOWN,
	EMU_SHFL_XOR, EMU_BALLOT, EMU_MMA, EMU_LDMATRIX };

/* One thread's place, seen by the kernel through threadIdx and the like. */
struct emu_place { dim3 thread, block, block_dim, grid_dim; };
extern "C" const emu_place *emu_here;

/* Wait for the others; value goes in and the result comes out (of EMU_MMA and EMU_LDMATRIX: by its pointer). where: __FILE__ and line. */
extern "C" uint64_t emu_wait(emu_op op, unsigned mask, uint64_t value, int arg, int width, const char *file, int line);
/* For race.cc: whose turn it is and what it has waited for; whether memory is the block's; that a launch has failed, and why. */
struct emu_moment { uint32_t launch, block, thread, barrier, warp; const char *stack, *stack_end; };
extern "C" emu_moment emu_now;
extern "C" bool emu_is_shared(const void *p);
extern "C" void emu_blame(const char *why);
#ifdef EMU_RACES
extern "C" void emu_atomic(void *p, size_t n);
extern "C" void emu_tile_read(const void *p, size_t n);
#define EMU_UNSEEN __attribute__((no_sanitize("thread"), noinline))
#else
#define EMU_UNSEEN
static inline void emu_atomic(void *, size_t) {}
static inline void emu_tile_read(const void *, size_t) {}
#endif
extern "C" void *emu_dynamic_shared(void);
extern "C" void *emu_static_shared(const void *which, size_t bytes);
extern "C" int emu_launch(dim3 grid, dim3 block, size_t shared, const void *kernel, void (*run)(void *), void *arg);
extern "C" cudaError_t emu_func_attribute(const void *kernel, cudaFuncAttribute a, int value);

template <typename... P, typename... A>
int emu_launch_kernel(void (*kernel)(P...), dim3 grid, dim3 block, size_t shared, cudaStream_t, A... args)
{
	struct call { void (*kernel)(P...); std::tuple<P...> args; } c = { kernel, std::tuple<P...>(args...) };

	return emu_launch(grid, block, shared, (const void *)kernel,
		[](void *p) { call *c = (call *)p; std::apply(c->kernel, c->args); }, &c);
}

template <typename F> cudaError_t cudaFuncSetAttribute(F *f, cudaFuncAttribute a, int v) { return emu_func_attribute((const void *)f, a, v); }

/* ---- what the sources use instead of <<<>>> and bare shared memory ---- */

#define KF_LAUNCH(kernel, grid, block, shared, stream, ...) \
	emu_launch_kernel(kernel, grid, block, shared, stream, __VA_ARGS__)
#define KF_SHARED(type, name, dims) \
	static char emu_id_##name; \
	typedef type emu_type_##name dims; \
	emu_type_##name &name = *(emu_type_##name *)emu_static_shared(&emu_id_##name, sizeof(emu_type_##name))
#define KF_DYNAMIC_SHARED(type, name) type *name = (type *)emu_dynamic_shared()
/* c (16, 8) += a (16, 16) b (16, 8), spread over the lanes of a warp as mma.sync.m16n8k16 of bf16 wants it. */
struct emu_mma { float *c; const uint32_t *a, *b; };
#define KF_MMA(c, a, b) do { emu_mma emu_m = { c, a, b }; emu_wait(EMU_MMA, ~0u, (uint64_t)(uintptr_t)&emu_m, 0, 32, __FILE__, __LINE__); } while (0)

/* Four tiles of 8 x 8 from rows of 16 bytes that the lanes point at, as ldmatrix.x4 has it; T: transposed. */
struct emu_ldmatrix { uint32_t *r; const void *p; };
#define EMU_LOAD(r, p, t) do { emu_ldmatrix emu_m = { r, p }; emu_tile_read(p, 16); \
	emu_wait(EMU_LDMATRIX, ~0u, (uint64_t)(uintptr_t)&emu_m, t, 32, __FILE__, __LINE__); } while (0)
#define KF_LDMATRIX(r, p) EMU_LOAD(r, p, 0)
#define KF_LDMATRIX_T(r, p) EMU_LOAD(r, p, 1)

#define threadIdx (emu_here->thread)
#define blockIdx (emu_here->block)
#define blockDim (emu_here->block_dim)
#define gridDim (emu_here->grid_dim)
enum { warpSize = 32 };

/* ---- synchronisation ---- */

#define __syncthreads() ((void)emu_wait(EMU_SYNCTHREADS, 0, 0, 0, 0, __FILE__, __LINE__))
#define __syncthreads_or(p) ((int)emu_wait(EMU_SYNCTHREADS_OR, 0, (p) != 0, 0, 0, __FILE__, __LINE__))
#define __syncthreads_count(p) ((int)emu_wait(EMU_SYNCTHREADS_COUNT, 0, (p) != 0, 0, 0, __FILE__, __LINE__))
#define EMU_FULL_IF_NONE(...) EMU_FIRST(__VA_ARGS__ __VA_OPT__(,) ~0u)
#define EMU_FIRST(a, ...) a
#define __syncwarp(...) ((void)emu_wait(EMU_SYNCWARP, EMU_FULL_IF_NONE(__VA_ARGS__), 0, 0, 0, __FILE__, __LINE__))
#define __ballot_sync(mask, p) ((unsigned)emu_wait(EMU_BALLOT, mask, (p) != 0, 0, 0, __FILE__, __LINE__))
#define __any_sync(mask, p) (__ballot_sync(mask, p) != 0)
#define __all_sync(mask, p) (__ballot_sync(mask, !(p)) == 0)

template <typename T>
static inline T emu_shuffle(emu_op op, unsigned mask, T v, int arg, int width, const char *file, int line)
{
	uint64_t u = 0;
	static_assert(sizeof(T) <= sizeof u);

	memcpy(&u, &v, sizeof v);
	u = emu_wait(op, mask, u, arg, width, file, line);
	memcpy(&v, &u, sizeof v);
	return v;
}
#define EMU_SHUFFLE(op, mask, v, ...) \
	emu_shuffle(op, mask, v, EMU_FIRST(__VA_ARGS__, 0), EMU_SECOND(__VA_ARGS__, 32, 0), __FILE__, __LINE__)
#define EMU_SECOND(a, b, ...) b
#define __shfl_sync(mask, v, ...) EMU_SHUFFLE(EMU_SHFL, mask, v, __VA_ARGS__)
#define __shfl_up_sync(mask, v, ...) EMU_SHUFFLE(EMU_SHFL_UP, mask, v, __VA_ARGS__)
#define __shfl_down_sync(mask, v, ...) EMU_SHUFFLE(EMU_SHFL_DOWN, mask, v, __VA_ARGS__)
#define __shfl_xor_sync(mask, v, ...) EMU_SHUFFLE(EMU_SHFL_XOR, mask, v, __VA_ARGS__)

/* ---- atomics: threads never interleave between waits ---- */

template <typename T, typename F> EMU_UNSEEN static inline T emu_swap(T *p, F f) { T old = *p; emu_atomic(p, sizeof *p); *p = (T)f(old); return old; }
template <typename T> static inline T atomicAdd(T *p, T v) { return emu_swap(p, [v](T o) { return o + v; }); }
template <typename T> static inline T atomicMax(T *p, T v) { return emu_swap(p, [v](T o) { return v > o ? v : o; }); }
template <typename T> static inline T atomicMin(T *p, T v) { return emu_swap(p, [v](T o) { return v < o ? v : o; }); }
template <typename T> static inline T atomicExch(T *p, T v) { return emu_swap(p, [v](T) { return v; }); }
template <typename T> static inline T atomicCAS(T *p, T want, T v) { return emu_swap(p, [want, v](T o) { return o == want ? v : o; }); }
template <typename T> static inline T atomicOr(T *p, T v) { return emu_swap(p, [v](T o) { return o | v; }); }

/* ---- arithmetic ---- */

template <typename T> static inline T __ldg(const T *p) { return *p; }
#define __expf(v) expf(v)   /* the C library has functions of these names */
#define __logf(v) logf(v)
static inline float rsqrtf(float v) { return 1 / sqrtf(v); }
static inline float __fdividef(float a, float b) { return a / b; }
static inline unsigned __float_as_uint(float f) { unsigned u; memcpy(&u, &f, sizeof u); return u; }
static inline float __uint_as_float(unsigned u) { float f; memcpy(&f, &u, sizeof f); return f; }
static inline int __popc(unsigned v) { return __builtin_popcount(v); }
static inline int __ffs(int v) { return __builtin_ffs(v); }
static inline int __clz(int v) { return v ? __builtin_clz((unsigned)v) : 32; }
template <typename A, typename B> static inline auto min(A a, B b) -> decltype(a + b) { return a < b ? a : b; }
template <typename A, typename B> static inline auto max(A a, B b) -> decltype(a + b) { return a > b ? a : b; }

#endif
