#include "fuse/bag.h"

#include <math.h>
#include <string.h>

bool kf_bag_init(kf_bag *b, uint32_t wide, kf_arena *arena)
{
	memset(b, 0, sizeof *b);
	for (b->mask = 15; b->mask < 2 * wide; b->mask = 2 * b->mask + 1) {}
	b->slot = KF_ARENA_NEW(arena, uint32_t, (size_t)b->mask + 1);
	b->slot_stamp = KF_ARENA_NEW(arena, uint32_t, (size_t)b->mask + 1);
	b->q = KF_ARENA_NEW(arena, float, (size_t)wide + 1);
	if (!b->slot || !b->slot_stamp || !b->q) return false;
	memset(b->slot_stamp, 0, ((size_t)b->mask + 1) * sizeof *b->slot_stamp);
	return true;
}

void kf_bag_begin(kf_bag *b, uint32_t position, int32_t *id)
{
	b->id = id;
	b->n = 0;
	b->stamp = position + 1;
}

static void add(kf_bag *b, int32_t id, float q)
{
	uint32_t h = ((uint32_t)id * 2654435761u >> 7) & b->mask;

	while (b->slot_stamp[h] == b->stamp && b->id[b->slot[h]] != id) h = (h + 1) & b->mask;
	if (b->slot_stamp[h] == b->stamp) {
		b->q[b->slot[h]] += q;
		return;
	}
	b->slot_stamp[h] = b->stamp;
	b->slot[h] = b->n;
	b->id[b->n] = id;
	b->q[b->n++] = q;
}

static void add_top(kf_bag *b, const int32_t *id, const float *lp, uint32_t k, float weight)
{
	float sum = 0;

	for (uint32_t j = 0; j < k; j++) sum += id[j] >= 0 ? expf(lp[j]) : 0;
	if (!(sum > 0)) return;    /* imported: nothing is known of this position */
	for (uint32_t j = 0; j < k; j++)
		if (id[j] >= 0) add(b, id[j], expf(lp[j]) / sum * weight);
}

void kf_bag_add_own(kf_bag *b, const kf_logits_rec *t, uint32_t p, double weight, bool renormalize)
{
	int32_t label = p < t->n && isfinite(t->ce[p]) ? t->tokens[p] : -1;
	uint32_t extra = t->has_path ? t->extra_off[p] : 0, extra_end = t->has_path ? t->extra_off[p + 1] : 0;
	const int32_t *id = t->top_ids + (size_t)p * t->k;
	const float *lp = t->top_lp + (size_t)p * t->k;
	double sum = label >= 0 ? exp(-t->ce[p]) : 0;
	float scale;

	if (renormalize) {
		add_top(b, id, lp, t->k, (float)weight);
		return;
	}
	/* stored values are quantised: they may sum above 1. The label's is known best from ce. */
	for (uint32_t j = 0; j < t->k; j++) sum += id[j] >= 0 && id[j] != label ? expf(lp[j]) : 0;
	for (uint32_t j = extra; j < extra_end; j++) sum += t->extra_ids[j] != label ? expf(t->extra_lp[j]) : 0;
	scale = (float)weight * (float)(sum > 1 ? 1 / sum : 1);
	if (label >= 0) add(b, label, expf(-t->ce[p]) * scale);
	for (uint32_t j = 0; j < t->k; j++)
		if (id[j] >= 0 && id[j] != label) add(b, id[j], expf(lp[j]) * scale);
	for (uint32_t j = extra; j < extra_end; j++)
		if (t->extra_ids[j] != label) add(b, t->extra_ids[j], expf(t->extra_lp[j]) * scale);
}

void kf_bag_add_aligned(kf_bag *b, const kf_dist_rec *r, uint32_t p, double weight, bool renormalize)
{
	uint32_t from = r->off[p], n = r->off[p + 1] - from;

	if (renormalize) {
		add_top(b, r->ids + from, r->lp + from, n, (float)weight);
		return;
	}
	for (uint32_t j = from; j < from + n; j++) add(b, r->ids[j], expf(r->lp[j]) * (float)weight);
}
