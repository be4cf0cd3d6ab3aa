/* Distributions as a block holds them, between the API (record_dist.c) and the bytes (dist_packed.c, dist_f32.c). */
#ifndef KF_STORE_DIST_H
#define KF_STORE_DIST_H

#include "common/store/store.h"

typedef struct {
	bool bos, weighted;
	uint32_t docs;
	const uint32_t *n;      /* (docs) tokens of each */
	size_t tokens, positions, cands; /* sum of n; tokens + docs; candidates in all */
	int32_t *tok;           /* (tokens) */
	uint32_t *start;        /* (positions) */
	uint32_t *ce;           /* (tokens) quant.h, KF_NLL_STEPS */
	uint32_t *count;        /* (positions) candidates of each */
	int32_t *ids;           /* (cands) */
	uint32_t *lp;           /* (cands) -ln q, KF_DIST_STEPS, or the bits of a float */
	uint32_t *weight;       /* (positions) in 1/255, or the bits of a float; NULL when not weighted */
	uint8_t *context;       /* (positions) of conversations; NULL: text */
} kf_dist_block;

#define KF_DIST_STEPS 32 /* half the step of logits: the decoder may shift a position by half a step more */

kf_status kf_dist_f32_encode(kf_packer *p, kf_buf *planes, const kf_dist_block *b, kf_buf *out, kf_err *err) KF_MUST_CHECK;
kf_status kf_dist_f32_decode(kf_buf *planes, kf_arena *arena, kf_dist_block *b, kf_err *err) KF_MUST_CHECK;
/* What the packed codec remembers along a block; *t is made when NULL and kept for the next. */
typedef struct kf_dist_tables kf_dist_tables;
void kf_dist_tables_free(kf_dist_tables *t);
kf_status kf_dist_packed_encode(kf_packer *p, kf_dist_tables **t, kf_buf *planes, const kf_dist_block *b, kf_buf *out,
	kf_err *err) KF_MUST_CHECK;
kf_status kf_dist_packed_decode(kf_dist_tables **t, kf_buf *planes, kf_arena *arena, kf_dist_block *b, kf_err *err) KF_MUST_CHECK;
kf_status kf_dist_block_alloc(kf_dist_block *b, kf_arena *arena, kf_err *err) KF_MUST_CHECK; /* all but ids and lp */

/* One more with context: the last, which record_dist.c writes and reads. */
#define KF_DIST_F32_PLANES 8
#define KF_DIST_PACKED_PLANES 35
extern const char *const kf_dist_f32_planes[], *const kf_dist_packed_planes[];

#endif
