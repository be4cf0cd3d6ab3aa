/* Distributions unquantised: every array as its bytes, least significant first, split into four runs. */
#include "common/store/dist.h"

enum { HEADS, TOKENS, STARTS, CE, COUNTS, IDS, LP, WEIGHTS };
const char *const kf_dist_f32_planes[] = { "heads", "tokens", "starts", "ce", "counts", "ids", "lp", "weights", "context", NULL };

kf_status kf_dist_f32_encode(kf_packer *p, kf_buf *planes, const kf_dist_block *b, kf_buf *out, kf_err *err)
{
	kf_split_put(&planes[TOKENS], b->tok, b->tokens);
	kf_split_put(&planes[STARTS], b->start, b->positions);
	kf_split_put(&planes[CE], b->ce, b->tokens);
	kf_split_put(&planes[COUNTS], b->count, b->positions);
	kf_split_put(&planes[IDS], b->ids, b->cands);
	kf_split_put(&planes[LP], b->lp, b->cands);
	if (b->weighted) kf_split_put(&planes[WEIGHTS], b->weight, b->positions);
	return kf_planes_pack(p, planes, KF_DIST_F32_PLANES + (b->context != NULL), out, err);
}

kf_status kf_dist_f32_decode(kf_buf *planes, kf_arena *a, kf_dist_block *b, kf_err *err)
{
	uint64_t sum = 0;
	kf_status rc;

	if ((rc = kf_dist_block_alloc(b, a, err)) != KF_OK) return rc;
	if (!kf_split_get(&planes[TOKENS], b->tok, b->tokens) || !kf_split_get(&planes[STARTS], b->start, b->positions) ||
	    !kf_split_get(&planes[CE], b->ce, b->tokens) || !kf_split_get(&planes[COUNTS], b->count, b->positions) ||
	    (b->weighted && !kf_split_get(&planes[WEIGHTS], b->weight, b->positions)))
		return kf_fail(err, KF_EDATA, "a plane is longer or shorter than its documents");
	b->cands = planes[IDS].len / 4;
	for (size_t p = 0; p < b->positions; p++) sum += b->count[p];
	b->ids = KF_ARENA_NEW(a, int32_t, b->cands);
	b->lp = KF_ARENA_NEW(a, uint32_t, b->cands);
	if (!b->ids || !b->lp) return kf_fail(err, KF_ENOMEM, "no memory for %zu candidates", b->cands);
	if (sum != b->cands || !kf_split_get(&planes[IDS], b->ids, b->cands) || !kf_split_get(&planes[LP], b->lp, b->cands))
		return kf_fail(err, KF_EDATA, "a plane is longer or shorter than its documents");
	for (size_t i = 0; i < b->tokens; i++)
		if (b->tok[i] < 0) return kf_fail(err, KF_EDATA, "a token's id is negative");
	for (size_t i = 0; i < b->cands; i++)
		if (b->ids[i] < 0) return kf_fail(err, KF_EDATA, "a candidate's id is negative");
	return KF_OK;
}
