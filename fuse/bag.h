/* One position's mixture being put together: candidates of several models, found again by token. */
#ifndef KF_FUSE_BAG_H
#define KF_FUSE_BAG_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/mem.h"
#include "common/store/record.h"

/* A small hash table, whose slots are valid when they carry the position's stamp. */
typedef struct {
	uint32_t n, mask, stamp;
	uint32_t *slot_stamp, *slot;  /* (mask + 1) */
	int32_t *id;                  /* (n) tokens, where the caller says; distinct */
	float *q;                     /* (n) their probabilities so far */
} kf_bag;

/* For positions of at most `wide` candidates in all; in arena. */
bool kf_bag_init(kf_bag *b, uint32_t wide, kf_arena *arena);
void kf_bag_begin(kf_bag *b, uint32_t position, int32_t *id);

/* Add weight times a model's distribution at a position. renormalize: its candidates scaled to sum to 1, and
 * of the target's own the top k alone, as the papers have it; otherwise the target's own is its stored candidates
 * and the label, whose probability is known from ce, and what is left is tail. */
void kf_bag_add_own(kf_bag *b, const kf_logits_rec *t, uint32_t p, double weight, bool renormalize);
void kf_bag_add_aligned(kf_bag *b, const kf_dist_rec *r, uint32_t p, double weight, bool renormalize);

#endif
