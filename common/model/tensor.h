/* Tensors in files: types, views, unpacking to float. */
#ifndef KF_MODEL_TENSOR_H
#define KF_MODEL_TENSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/bf16.h"
#include "common/base/pool.h"
#include "common/base/status.h"

/* Values as GGUF numbers its types. */
typedef enum {
	KF_F32 = 0, KF_F16 = 1, KF_Q4_0 = 2, KF_Q4_1 = 3, KF_Q5_0 = 6, KF_Q5_1 = 7, KF_Q8_0 = 8,
	KF_Q2_K = 10, KF_Q3_K = 11, KF_Q4_K = 12, KF_Q5_K = 13, KF_Q6_K = 14, KF_BF16 = 30
} kf_dtype;

const char *kf_dtype_name(kf_dtype t);               /* "Q4_1"; "unknown type" */
bool kf_dtype_known(int t);
int kf_dtype_block(kf_dtype t);                      /* elements a block: 1, 32 or 256 */
/* Bytes of a row of cols elements; 0 when cols is no whole number of blocks. */
size_t kf_dtype_row_bytes(kf_dtype t, uint64_t cols);

/* A matrix (rows, cols), or a vector (rows = 1), somewhere in a memory-mapped file. */
typedef struct {
	const char *name;      /* Hugging Face's name: "model.layers.0.self_attn.q_proj.weight" */
	kf_dtype dtype;
	uint64_t rows, cols;
	int n_dims;
	const uint8_t *data;   /* borrowed from the map */
	/* How what is in the file differs from what Hugging Face's float32 model computes with: */
	int rope_heads;        /* > 0: rows are interleaved per head (GGUF llama q, k): undo on reading */
	int qkv_heads;         /* > 0: all queries, keys, values in turn (GGUF); read as each head's three together */
	float add;             /* added to every element on reading (-1 turns GGUF Gemma norms into HF's; see weights.h) */
} kf_tensor;

/* Unpack rows [row, row + n) to out (n, cols), or the rows given by index. All
 * transforms applied. Rows and indices must be in range (assert). */
void kf_tensor_rows(const kf_tensor *t, uint64_t row, uint64_t n, float *out);
void kf_tensor_gather(const kf_tensor *t, const int32_t *index, uint64_t n, float *out);
/* The whole tensor, over all threads. */
void kf_tensor_unpack(const kf_tensor *t, kf_pool *pool, float *out);

float kf_f16_to_f32(uint16_t h);
uint16_t kf_f32_to_f16(float f);                     /* to nearest even */
#endif
