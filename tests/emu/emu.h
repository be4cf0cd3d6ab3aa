/* A launch emulator: CUDA kernels on the host's processor, so that code for a GPU is tested where there is none.
 *
 * The kernels' own .cu sources are compiled by the host's C++ compiler with tests/emu/include before the toolkit's
 * headers. A launch runs its blocks in turn. The threads of a block are cooperative contexts in one host thread: each runs
 * until it ends or waits (barrier, shuffle, vote); when all whom it waits for have come, it goes on.
 *
 * What is emulated: grids and blocks of up to three dimensions, static (KF_SHARED) and dynamic shared memory,
 * __syncthreads and its voting kinds, __syncwarp, the __shfl_*_sync family with masks and widths, votes, atomics, bf16 with
 * the device's rounding, the tensor cores' m16n8k16 product of bf16 and ldmatrix (KF_MMA, KF_LDMATRIX), the intrinsics that the kernels use.
 * Arithmetic is the host's: last bits differ from a device's.
 *
 * What is found, as a failed launch (cudaErrorLaunchFailure) with a message in emu_error():
 *   - a barrier that some threads of the block reach and others do not, or in another place in the source;
 *   - a warp operation that names lanes which are absent, have ended, or are at another operation;
 *   - a shuffle that reads a lane which its mask does not name; ldmatrix from rows that are not on 16 bytes;
 *   - blocks, grids and shared memory larger than devices allow (more than 48 KiB without cudaFuncSetAttribute, more than the 99 KiB of the smallest);
 *   - writes beyond the ends of a buffer of emu_alloc (under ASAN=1: reads, too, and of shared memory as well).
 * What shows as wrong results: shared memory is filled with NaNs before each block, so a read of what nobody wrote
 * gives one; and emu_order runs threads and blocks in other orders, under which a race gives other results.
 * What is found where every access is watched (race.cc; tests/unit/race): accesses to the same memory that nothing orders, of two threads,
 * lanes or blocks, one of them a write.
 * What is not found: misuse of caches and asynchronous copies, anything about time.
 *
 * One launch at a time, from one host thread. */
#ifndef KF_TESTS_EMU_H
#define KF_TESTS_EMU_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* "Device" memory, filled with NaNs; ends of every block are checked after each launch, and when it is freed. NULL: no memory. */
void *emu_alloc(size_t bytes);
void emu_free(void *p);   /* accepts NULL */

/* The order in which the threads of a block, and the blocks of a grid, take their turns from now on. Every setting
 * is a legal device; results must not depend on it. */
typedef enum { EMU_FORWARD, EMU_REVERSE, EMU_RANDOM } emu_turns;
void emu_order(emu_turns order, unsigned seed);

/* Why the last launch failed, or NULL where it did not. */
const char *emu_error(void);
/* Forget a failure (a device would have to be reset): else every later launch fails, too. */
void emu_reset(void);

/* Bad luck. emu_memory: the device has so many bytes; what would need more gets none. emu_fail_at: of launches, copies, clearings, products
 * and waits asked for from now on the n-th fails, and with it all that come after, as on a device that fell off its bus; 0: none does.
 * Programs over the emulator take both from the environment: KF_EMU_MEMORY, KF_EMU_FAIL_AT. */
enum { EMU_MEMORY_MB = 16384 };            /* unless something else is said */
void emu_memory(size_t bytes);
void emu_memory_left(size_t *left, size_t *total);
void emu_fail_at(long n);
/* For what stands in for the device beside kernels (device.c, gemm.c): 0, or CUDA's code of a failed launch where this was the n-th. */
int emu_asked(const char *what);

/* Launches so far, and their blocks. */
long emu_launches(void), emu_blocks(void);

/* What the backend's host side asked of the device beside its own kernels, so far (device.c, gemm.c): copies and clearings, products, and
 * times the host waited. */
long emu_copies(void), emu_products(void), emu_waits(void);

#ifdef __cplusplus
}
#endif
#endif
