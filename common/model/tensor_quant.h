/* The block formats of GGUF: how a block of stored bytes becomes floats.
 *
 * Two versions of each: the definition, one element at a time, and the fast
 * one. They agree to the bit, and with the gguf Python package: every product
 * of a half-precision scale and a small integer is exact in float32, so neither
 * order nor fused multiply-add changes a result. The tests compare all three.
 */
#ifndef KF_MODEL_TENSOR_QUANT_H
#define KF_MODEL_TENSOR_QUANT_H

#include "common/model/tensor.h"

/* Unpack n consecutive blocks (kf_dtype_block elements each) to out. in needs no alignment. */
void kf_unpack_blocks(kf_dtype t, const uint8_t *in, uint64_t n, float *out);

/* Element i of one block: the definition. */
float kf_block_value(kf_dtype t, const uint8_t *block, int i);

#endif
