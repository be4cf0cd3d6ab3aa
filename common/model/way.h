/* Ways of computing a model's matrix products on the CPU, and the choice among them: as fast as can be while
 * predictions stay close to those of float32. */
#ifndef KF_MODEL_WAY_H
#define KF_MODEL_WAY_H

#include "common/model/divergence.h"

/* Auto takes no way whose mean KL to float32, over the sample, is above this (nats a token). */
#define KF_WAY_KL 1e-3

typedef struct {
	kf_compute compute;
	unsigned int8;           /* KF_INT8_*: of int8, which matrices; the others are in bfloat16 */
} kf_way;

/* "all", or names with commas: head, qkv (attention's queries, keys, values), out (its output), up (the MLP's gate and up),
 * down. Parse: KF_EUSAGE for others. Text: into out, shortest form. */
#define KF_INT8_TEXT 32
kf_status kf_int8_parse(const char *text, unsigned *kinds, kf_err *err) KF_MUST_CHECK;
void kf_int8_text(unsigned kinds, char out[KF_INT8_TEXT]);

/* Measure on a sample of text. Tried in turn, where the processor is faster that way than in float32 (which is timed): int8 of
 * everything; of the head and attention's output; of the head; bfloat16. The first that is close enough is
 * taken; where none is, float32. *found (all zero for float32) is how far it is. k: candidates that will be kept a position. */
kf_status kf_way_choose(const kf_weights *weights, kf_pool *pool, const kf_batch *sample, int k, kf_way *out,
	kf_divergence *found, kf_err *err) KF_MUST_CHECK;

#endif
