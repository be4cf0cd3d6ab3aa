/* Kernels for the emulator's own tests (wrong.cu). Each returns what its launch did. */
#ifndef KF_TESTS_EMU_WRONG_H
#define KF_TESTS_EMU_WRONG_H

#ifdef __cplusplus
extern "C" {
#endif

int wrong_places(int *out);                               /* (288) of a grid of (3, 2, 2) blocks of (4, 3, 2) */
int wrong_block_sums(float *out, const float *in);        /* (256) in blocks of 128 */
int wrong_scan(int *out, int width);                      /* (32) */
int wrong_halves(unsigned *out);                          /* (128) */
int wrong_product(float *c, const void *a, const void *b);/* (16, 8) += (16, 16) (16, 8), bf16 */

typedef enum { WRONG_BARRIER_LEFT_OUT, WRONG_BARRIERS_DIFFER, WRONG_BARRIER_SHUFFLE, WRONG_LANES_ABSENT, WRONG_LANES_ELSEWHERE,
	WRONG_NOT_IN_MASK, WRONG_OTHER_MASK, WRONG_BEYOND, WRONG_MUCH_SHARED, WRONG_THREADS, WRONG_GRID, WRONG_UNWRITTEN,
	WRONG_THREAD_RACE, WRONG_BLOCK_RACE, WRONG_ARRIVAL, WRONG_WARP_RACE } wrong_kind;
int wrong_launch(wrong_kind kind, void *out, int n);      /* n: see wrong.cu */

#ifdef __cplusplus
}
#endif
#endif
