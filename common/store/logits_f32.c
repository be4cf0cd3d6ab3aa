/* Logits unquantised: every array as its bytes, least significant first, split into four runs. */
#include "common/store/logits.h"
#include "common/store/quant.h"

enum { HEADS, TOKENS, STARTS, CE, IDS, LP, MASSES, EXTRAS, EXTRA_IDS, EXTRA_LP };
const char *const kf_logits_f32_planes[] = {
	"heads", "tokens", "starts", "ce", "ids", "lp", "masses", "extras", "extra ids", "extra lp", "context", NULL
};
static void put(kf_buf *b, const void *v, size_t n)
{
	kf_split_put(b, v, n);
}

kf_status kf_logits_f32_encode(kf_packer *p, kf_buf *planes, const kf_logits_block *b, kf_buf *out, kf_err *err)
{
	put(&planes[TOKENS], b->tok, b->tokens);
	put(&planes[STARTS], b->start, b->positions);
	put(&planes[CE], b->ce, b->tokens);
	put(&planes[IDS], b->ids, b->positions * b->k);
	put(&planes[LP], b->lp, b->positions * b->k);
	if (b->path) {
		put(&planes[MASSES], b->nlm, b->n_path);
		put(&planes[EXTRAS], b->n_ex, b->positions);
		put(&planes[EXTRA_IDS], b->ex_ids, b->n_extra);
		put(&planes[EXTRA_LP], b->ex_lp, b->n_extra);
	}
	return kf_planes_pack(p, planes, KF_LOGITS_F32_PLANES + (b->context != NULL), out, err);
}

kf_status kf_logits_f32_decode(kf_buf *planes, kf_arena *a, kf_logits_block *b, kf_err *err)
{
	size_t at = 0;
	kf_status rc;

	if ((rc = kf_logits_block_alloc(b, a, err)) != KF_OK) return rc;
	if (!kf_split_get(&planes[TOKENS], b->tok, b->tokens) || !kf_split_get(&planes[STARTS], b->start, b->positions))
		return kf_fail(err, KF_EDATA, "a plane is longer or shorter than its documents");
	if ((rc = kf_logits_count_path(b, &b->n_path, err)) != KF_OK) return rc;
	for (size_t i = 0; i < b->tokens; i++)
		if (b->tok[i] < 0) return kf_fail(err, KF_EDATA, "a token's id is negative");
	if (b->tokens_only) return KF_OK;
	if (!kf_split_get(&planes[CE], b->ce, b->tokens) || !kf_split_get(&planes[IDS], b->ids, b->positions * b->k) ||
	    !kf_split_get(&planes[LP], b->lp, b->positions * b->k))
		return kf_fail(err, KF_EDATA, "a plane is longer or shorter than its documents");
	for (uint32_t d = 0; d < b->docs; d++)
		for (size_t p = 0; p <= b->n[d]; p++, at++)
			for (uint32_t j = 0; j < b->k; j++)
				if ((b->ids[at * b->k + j] < 0) != kf_logits_absent(b, at, (uint32_t)p)) return kf_fail(err, KF_EDATA, "a candidate's id is negative");
	if (!b->path) return KF_OK;
	if (!kf_split_get(&planes[EXTRAS], b->n_ex, b->positions)) return kf_fail(err, KF_EDATA, "a plane is longer or shorter than its documents");
	b->n_extra = planes[EXTRA_IDS].len / 4;
	at = 0;
	for (size_t p = 0; p < b->positions; p++) {
		if (b->n_ex[p] > b->n_extra) return kf_fail(err, KF_EDATA, "it counts more extra candidates than it has");
		at += b->n_ex[p];
	}
	b->nlm = KF_ARENA_NEW(a, uint32_t, b->n_path);
	b->ex_ids = KF_ARENA_NEW(a, int32_t, b->n_extra);
	b->ex_lp = KF_ARENA_NEW(a, uint32_t, b->n_extra);
	if (!b->nlm || !b->ex_ids || !b->ex_lp) return kf_fail(err, KF_ENOMEM, "no memory for a block of %zu tokens", b->tokens);
	if (at != b->n_extra || !kf_split_get(&planes[MASSES], b->nlm, b->n_path) ||
	    !kf_split_get(&planes[EXTRA_IDS], b->ex_ids, b->n_extra) || !kf_split_get(&planes[EXTRA_LP], b->ex_lp, b->n_extra))
		return kf_fail(err, KF_EDATA, "a plane is longer or shorter than its documents");
	for (size_t i = 0; i < b->n_extra; i++)
		if (b->ex_ids[i] < 0) return kf_fail(err, KF_EDATA, "an extra candidate's id is negative");
	return KF_OK;
}
