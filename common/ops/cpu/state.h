/* What the CPU backend keeps between calls beside scratch memory. */
#ifndef KF_OPS_CPU_STATE_H
#define KF_OPS_CPU_STATE_H

#include <stdatomic.h>

#include "common/ops/cpu/cpu.h"
#include "common/ops/cpu/int8.h"

enum { KF_CPU_ROPES = 4 };

/* Cosines and sines of rotary positions, for one set of frequencies (rope.c). */
typedef struct {
	float *inv_freq;   /* (R/2) */
	float *table;      /* (n, R): R/2 cosines, R/2 sines, times scale */
	int R;             /* 0: unused */
	float scale;
	size_t n;          /* positions */
} kf_cpu_rope_table;

kf_cpu_rope_table *kf_cpu_rope_tables(kf_exec *x);   /* (KF_CPU_ROPES) */

/* Products in bfloat16 (bf16.c): oneDNN's engine, and a stream a thread. */
typedef struct kf_cpu_bf16 kf_cpu_bf16;

/* native: with the processor's bfloat16 instructions, where it has them (AVX512_BF16, AMX). Otherwise the same numbers are
 * multiplied as floats: every product is the same, sums may be in another order. */
kf_status kf_cpu_bf16_new(int threads, bool native, kf_cpu_bf16 **out, kf_err *err) KF_MUST_CHECK;
void kf_cpu_bf16_free(kf_cpu_bf16 *b);   /* accepts NULL */
kf_cpu_bf16 *kf_cpu_bf16_of(kf_exec *x); /* NULL: this backend computes in float32 */

/* (rows, cols) floats, ld from row to row, as dense bfloat16 in a scratch slot. NULL: no memory. */
uint16_t *kf_cpu_to_bf16(kf_exec *x, int slot, const float *src, int64_t rows, int64_t cols, int64_t ld);

/* As kf_cpu_sgemm, on bfloat16; add: C is added to. */
int kf_cpu_bf16_gemm(kf_cpu_bf16 *s, int worker, bool ta, bool tb, int64_t M, int64_t N, int64_t K,
	const uint16_t *A, int64_t lda,
	const uint16_t *B, int64_t ldb, bool add, float *C, int64_t ldc);

/* Products in int8 (linear_int8.c): whether this one is; rows quantised into a scratch slot (false: no memory); rows
 * of a matrix, [row, row + n) or those that index names, packed (int8.h) by a worker, *failed set where it has no memory. */
static inline bool kf_cpu_int8_of(const kf_exec *x, const kf_mat *w) { return x->compute == KF_COMPUTE_INT8 && w->int8; }
bool kf_cpu_int8_quantise(kf_exec *x, int slot, const float *in, int64_t rows, int64_t K, kf_int8_rows *out);
void kf_cpu_int8_pack(kf_exec *x, int worker, const kf_mat *w, const int32_t *index, uint64_t row, uint64_t n, char *out,
	atomic_int *failed);
kf_status kf_cpu_linear_int8(kf_exec *x, float *y, const float *in, const kf_mat *w, const float *bias, int T, bool add,
	kf_err *err) KF_MUST_CHECK;

#endif
