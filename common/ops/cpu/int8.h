/* Products in int8. Both operands are cut into blocks of 32 along K, each with a scale of its own:
 *
 *     c (m, n) = sum over blocks b of  (sum over k in b of a'(m, k) w'(n, k))  sa(m, b) sw(n, b)
 *
 * The inner sums are of integers, so exact; the outer one is in float32, with one rounding a step (fma), in the order of b.
 * So a result depends on its own row and column only, not on threads, batch or processor: every way of computing it
 * gives the same bits.
 *
 * Why blocks: with one scale a row and one a column, as oneDNN 2.6 has them, the channels in which models are large
 * drown the others (docs/speed.md has the figures). A block of 32 is also what GGUF's types have, so that
 * Q8_0, Q5_0 and Q4_0 become int8 without any loss.
 */
#ifndef KF_OPS_CPU_INT8_H
#define KF_OPS_CPU_INT8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { KF_INT8_BLOCK = 32, KF_INT8_COLS = 32 };

static inline int64_t kf_int8_blocks(int64_t K) { return (K + KF_INT8_BLOCK - 1) / KF_INT8_BLOCK; }

/* Activations (rows, K), quantised. */
typedef struct {
	int64_t blocks;          /* a row */
	int8_t *q;               /* (rows, blocks, 32), zeros beyond K */
	float *scale;            /* (rows, blocks) */
	int32_t *start;          /* (rows, blocks) -128 times the block's sum: what the offset of the weights adds, taken away */
} kf_int8_rows;

/* Lay them out in memory of so many bytes, KF_ALIGN-aligned. */
size_t kf_int8_rows_bytes(int64_t rows, int64_t K);
kf_int8_rows kf_int8_rows_at(void *memory, int64_t rows, int64_t K);
/* Rows [begin, end) of x (.., K), ld floats from row to row: each block to +-127 of its largest, to nearest. A block that is not
 * finite gets a scale that is not. */
void kf_int8_quantise(const kf_int8_rows *out, const float *x, int64_t ld, int64_t K, int64_t begin, int64_t end);

/* Weights, packed: groups of 32 rows of w (the columns of the product), group after group. Of a group, block after block:
 * 32 scales (float), then 32 * 32 bytes q + 128, four of a row side by side, the rows beside one another. */
static inline size_t kf_int8_group_bytes(int64_t K)
{
	return (size_t)kf_int8_blocks(K) * KF_INT8_COLS * (sizeof(float) + KF_INT8_BLOCK);
}

/* Pack n <= 32 rows of w (n, K) as one group. A block is put on the grid of 127 steps, or on that of 112 where it
 * fits better: numbers that are a scale times integers up to 8 or 16 are on the latter. */
void kf_int8_pack(void *out, const float *w, int n, int64_t K);

/* Rows [m0, m0 + M) of a times the first N columns of w, into c (M, N), ldc from row to row; add: c is added to. One thread. */
void kf_int8_gemm(const kf_int8_rows *a, int64_t m0, int64_t M, const void *w, int64_t N, bool add, float *c, int64_t ldc);

/* The same three in plain C whatever the processor: the definition, for the tests. */
void kf_int8_quantise_plain(const kf_int8_rows *out, const float *x, int64_t ld, int64_t K, int64_t begin, int64_t end);
void kf_int8_gemm_plain(const kf_int8_rows *a, int64_t m0, int64_t M, const void *w, int64_t N, bool add, float *c,
	int64_t ldc);

#endif
