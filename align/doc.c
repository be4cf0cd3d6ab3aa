#include "align/method.h"
#include "align/stats.h"

#include <assert.h>
#include <math.h>

kf_status align_along(kf_aligner *a, const align_path *path, const kf_logits_rec *tgt, kf_arena *arena, align_out *out,
	kf_err *err)
{
	align_ce(path, out);
	for (uint32_t i = 0; i < path->n; i++) out->said += kf_predicted(path->rec, i);
	if (a->method == KF_ALIGN_BYTE) return align_byte(a, path, tgt, arena, out, err);
	return a->quirks ? align_quirks(a, path, tgt, arena, out, err) : align_dtw(a, path, tgt, arena, out, err);
}

/* Whether the first token has something that the text has not. Some tokenizers with a dummy prefix put none in front of a text that begins
 * with a space. */
static bool in_front(const kf_tokenizer *t, const kf_logits_rec *r)
{
	uint32_t n = 0;

	if (r->n == 0 || r->tokens[0] < 0 || r->tokens[0] >= kf_tokenizer_size(t)) return true;
	kf_tokenizer_bytes(t, r->tokens[0], &n);
	return n != r->start[1] - r->start[0];
}

kf_status kf_align_doc(kf_aligner *a, const kf_logits_rec *src, const kf_logits_rec *tgt, kf_arena *arena,
	kf_dist_rec *out, kf_tally *stats, kf_err *err)
{
	align_path path;
	align_out o = { 0 };
	uint64_t room;
	kf_status rc;

	assert(a->ready);
	if ((rc = align_path_check(a, src, tgt, err)) != KF_OK) return rc;
	/* mixing puts the candidates of a source's position where each of its partners in warping is, and a path has no more
	 * steps than there are tokens */
	room = ((uint64_t)tgt->n + 1 + (a->counts ? src->n : 0)) * ((uint64_t)align_widest(src) + 1);
	if (room > UINT32_MAX)
		return kf_fail(err, KF_EUNSUPPORTED, "document %llu has too many tokens times candidates (%llu) to align: cut documents "
			"shorter (kf-prepare --doc-bytes)", (unsigned long long)src->head.doc, (unsigned long long)room);
	o.off = KF_ARENA_NEW(arena, uint32_t, (size_t)tgt->n + 2);
	o.ce = KF_ARENA_NEW(arena, float, (size_t)tgt->n + 1);
	o.tail = KF_ARENA_NEW(arena, float, (size_t)tgt->n + 1);
	o.ids = KF_ARENA_NEW(arena, int32_t, room);
	o.lp = KF_ARENA_NEW(arena, float, room);
	if (!o.off || !o.ce || !o.tail || !o.ids || !o.lp)
		return kf_fail(err, KF_ENOMEM, "no memory to align a document of %u tokens", tgt->n);

	if (src->context) rc = align_replies(a, src, tgt, arena, &o, err);
	else if ((rc = align_path_init(&path, a, src, tgt, a->src_dummy && in_front(a->src, src), a->tgt_dummy && in_front(a->tgt, tgt), arena,
		err)) == KF_OK)
		rc = align_along(a, &path, tgt, arena, &o, err);
	if (rc != KF_OK) return rc;
	*out = (kf_dist_rec){ .head = tgt->head, .bos = tgt->bos, .n = tgt->n, .tokens = tgt->tokens, .start = tgt->start,
		.ce = o.ce, .off = o.off, .ids = o.ids, .lp = o.lp, .tail = o.tail,
		.source_tokens = o.said, .context = tgt->context };
	return stats ? align_stats_doc(stats, out, o.covered, err) : KF_OK;
}
