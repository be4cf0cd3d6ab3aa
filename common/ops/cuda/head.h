/* What the two heads share: blocks of rows through tiles of the vocabulary. */
#ifndef KF_OPS_CUDA_HEAD_H
#define KF_OPS_CUDA_HEAD_H

#include "common/ops/cuda/ops.h"

/* Rows a block, at most: with tiles of KF_CUDA_TILE, 134 MB of logits; and candidates of a block, 16 bytes each. */
enum { KF_CUDA_HEAD_ROWS = 4096, KF_CUDA_HEAD_KEPT = 1 << 25 };

/* Pieces of one block of memory, each on lines of its own; with base NULL they are only counted. */
typedef struct { char *base; size_t used; } kf_cuda_carver;
void *kf_cuda_carve(kf_cuda_carver *c, size_t n, size_t size);

/* Room in the ring for n elements of size, with what rounding may add. */
static inline size_t kf_cuda_padded(size_t n, size_t size) { return (n * size + 511) & ~(size_t)255; }

/* logits (R, n), float32, of R rows of hidden and n rows of w, both (.., C). */
kf_status kf_cuda_head_logits(kf_exec *x, float *logits, const void *hidden, const void *w, int R, int n, int C, kf_err *err)
	KF_MUST_CHECK;

/* The words for the row that has no finite normaliser. */
kf_status kf_cuda_head_bad(int row, kf_err *err) KF_MUST_CHECK;

#endif
