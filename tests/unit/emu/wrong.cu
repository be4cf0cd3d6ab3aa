/* Kernels for the emulator's own tests: right ones that use what it emulates, and wrong ones that it must find out. */
#include "common/ops/cuda/device.cuh"
#include "tests/unit/emu/wrong.h"

namespace {

/* ---- right ---- */

__global__ void places(int *out)
{
	const unsigned block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
	const unsigned thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);

	atomicAdd(out + block * blockDim.x * blockDim.y * blockDim.z + thread, (int)(block * 1000 + thread));
}

__global__ void block_sums(float *out, const float *in)
{
	out[blockIdx.x * 128 + threadIdx.x] = kf_group_sum<128>(in[blockIdx.x * 128 + threadIdx.x]);
}

/* Inclusive sums within groups of `width` lanes. */
__global__ void scan(int *out, int width)
{
	const int lane = (int)threadIdx.x & (width - 1);
	int v = (int)threadIdx.x;

	for (int d = 1; d < width; d <<= 1) {
		const int o = __shfl_up_sync(~0u, v, d, width);

		if (lane >= d) v += o;
	}
	out[threadIdx.x] = v;
}

/* Halves of a warp work apart, then vote together. */
__global__ void halves(unsigned *out)
{
	const int low = threadIdx.x < 16;
	unsigned v = threadIdx.x;

	if (low) v = __shfl_xor_sync(0x0000ffffu, v, 1);
	else for (int i = 0; i < 3; i++) v = __shfl_sync(0xffff0000u, v, (int)(threadIdx.x + 1) % 16, 16);
	out[threadIdx.x] = v;
	out[32 + threadIdx.x] = __ballot_sync(~0u, threadIdx.x % 3 == 0);
	out[64 + threadIdx.x] = (unsigned)__any_sync(~0u, threadIdx.x == 40) + 2 * (unsigned)__all_sync(~0u, threadIdx.x < 40);
	out[96 + threadIdx.x] = (unsigned)__syncthreads_count(threadIdx.x & 1);
}

__global__ void product(float *c, const bf16 *a, const bf16 *b)   /* a (16, 16), b (16, 8), c (16, 8) */
{
	const int g = (int)threadIdx.x / 4, i = (int)threadIdx.x % 4;
	unsigned ra[4], rb[2];
	float rc[4];

	for (int r = 0; r < 4; r++) memcpy(ra + r, a + (g + 8 * (r & 1)) * 16 + 2 * i + 8 * (r >> 1), 4);
	for (int r = 0; r < 2; r++) {
		bf16 pair[2] = { b[(2 * i + 8 * r) * 8 + g], b[(2 * i + 8 * r + 1) * 8 + g] };

		memcpy(rb + r, pair, 4);
	}
	for (int r = 0; r < 4; r++) rc[r] = c[(g + 8 * (r >> 1)) * 8 + 2 * i + (r & 1)];
	KF_MMA(rc, ra, rb);
	for (int r = 0; r < 4; r++) c[(g + 8 * (r >> 1)) * 8 + 2 * i + (r & 1)] = rc[r];
}

/* ---- wrong ---- */

__global__ void barrier_left_out(void)
{
	if (threadIdx.x < 10) return;
	__syncthreads();
}

__global__ void barriers_differ(void)
{
	if (threadIdx.x < 10) __syncthreads();
	else
		__syncthreads();
}

__global__ void barrier_against_shuffle(int *out)
{
	if (threadIdx.x < 32) out[threadIdx.x] = __shfl_xor_sync(~0u, 1, 1);
	if (threadIdx.x == 0) out[0] = __shfl_xor_sync(~0u, 1, 1);
	else
		__syncthreads();
}

__global__ void lanes_absent(float *out) { out[threadIdx.x] = kf_warp_sum(1); }

__global__ void lanes_elsewhere(int *out)
{
	if (threadIdx.x % 2) out[threadIdx.x] = __shfl_xor_sync(~0u, 1, 1);
}

__global__ void not_in_mask(int *out)
{
	if (threadIdx.x < 16) out[threadIdx.x] = __shfl_xor_sync(0xffffu, 1, 16);
}

__global__ void other_mask(int *out)
{
	out[threadIdx.x] = __shfl_xor_sync(threadIdx.x < 16 ? 0xffffu : ~0u, 1, 1);
}

__global__ void beyond(float *out, int n) { if (threadIdx.x <= (unsigned)n) out[threadIdx.x] = 1; }

__global__ void much_shared(float *out)
{
	KF_DYNAMIC_SHARED(float, s);
	s[0] = 1;
	out[0] = s[0];
}

__global__ void unwritten(float *out)
{
	KF_SHARED(float, s, [64]);
	if (threadIdx.x < 63) s[threadIdx.x] = 1;
	__syncthreads();
	out[threadIdx.x] = s[threadIdx.x];
}

/* The barrier between writing and reading is missing. */
__global__ void thread_race(float *out)
{
	KF_SHARED(float, s, [64]);
	s[threadIdx.x] = (float)threadIdx.x;
	out[threadIdx.x] = s[63 - threadIdx.x];
}

/* Lanes read what others of their warp wrote; n: a __syncwarp is between, else a shuffle, which orders no memory. */
__global__ void warp_race(float *out, int n)
{
	KF_SHARED(float, s, [32]);
	float v = (float)threadIdx.x;

	s[threadIdx.x] = v;
	if (n) __syncwarp();
	else v = __shfl_xor_sync(~0u, v, 1);
	out[threadIdx.x] = v + s[31 - threadIdx.x];
}

/* Blocks write the same place. */
__global__ void block_race(float *out) { out[0] = (float)blockIdx.x; }

/* A sum by the order of arrival. */
__global__ void arrival(float *out) { atomicAdd(out, 1.f / (float)(1 + threadIdx.x + 64 * blockIdx.x)); }

} // namespace

int wrong_places(int *out) { return KF_LAUNCH(places, dim3(3, 2, 2), dim3(4, 3, 2), 0, NULL, out); }
int wrong_block_sums(float *out, const float *in) { return KF_LAUNCH(block_sums, dim3(2), dim3(128), 0, NULL, out, in); }
int wrong_scan(int *out, int width) { return KF_LAUNCH(scan, dim3(1), dim3(32), 0, NULL, out, width); }
int wrong_halves(unsigned *out) { return KF_LAUNCH(halves, dim3(1), dim3(32), 0, NULL, out); }
int wrong_product(float *c, const void *a, const void *b)
{
	return KF_LAUNCH(product, dim3(1), dim3(32), 0, NULL, c, (const bf16 *)a, (const bf16 *)b);
}

int wrong_launch(wrong_kind kind, void *out, int n)
{
	switch (kind) {
	case WRONG_BARRIER_LEFT_OUT: return emu_launch_kernel(barrier_left_out, dim3(1), dim3(64), 0, NULL);
	case WRONG_BARRIERS_DIFFER: return emu_launch_kernel(barriers_differ, dim3(1), dim3(64), 0, NULL);
	case WRONG_BARRIER_SHUFFLE: return KF_LAUNCH(barrier_against_shuffle, dim3(1), dim3(64), 0, NULL, (int *)out);
	case WRONG_LANES_ABSENT: return KF_LAUNCH(lanes_absent, dim3(1), dim3(20), 0, NULL, (float *)out);
	case WRONG_LANES_ELSEWHERE: return KF_LAUNCH(lanes_elsewhere, dim3(1), dim3(32), 0, NULL, (int *)out);
	case WRONG_NOT_IN_MASK: return KF_LAUNCH(not_in_mask, dim3(1), dim3(32), 0, NULL, (int *)out);
	case WRONG_OTHER_MASK: return KF_LAUNCH(other_mask, dim3(1), dim3(32), 0, NULL, (int *)out);
	case WRONG_BEYOND: return KF_LAUNCH(beyond, dim3(1), dim3(64), 0, NULL, (float *)out, n);
	case WRONG_MUCH_SHARED: return KF_LAUNCH(much_shared, dim3(1), dim3(1), (size_t)n, NULL, (float *)out);
	case WRONG_THREADS: return KF_LAUNCH(block_race, dim3(1), dim3((unsigned)n), 0, NULL, (float *)out);
	case WRONG_GRID: return KF_LAUNCH(block_race, dim3(1, (unsigned)n), dim3(1), 0, NULL, (float *)out);
	case WRONG_UNWRITTEN: return KF_LAUNCH(unwritten, dim3(1), dim3(64), 0, NULL, (float *)out);
	case WRONG_THREAD_RACE: return KF_LAUNCH(thread_race, dim3(1), dim3(64), 0, NULL, (float *)out);
	case WRONG_BLOCK_RACE: return KF_LAUNCH(block_race, dim3(50), dim3(1), 0, NULL, (float *)out);
	case WRONG_WARP_RACE: return KF_LAUNCH(warp_race, dim3(1), dim3(32), 0, NULL, (float *)out, n);
	case WRONG_ARRIVAL: return KF_LAUNCH(arrival, dim3(10), dim3(64), 0, NULL, (float *)out);
	}
	return -1;
}
