/* Inside align/: vocabulary maps by edit distance. */
#ifndef KF_ALIGN_MINED_H
#define KF_ALIGN_MINED_H

#include "align/nearest.h"
#include "common/store/set.h"
#include "common/text/tokenizer.h"

/* FuseLLM's map: every source token to the target token whose spelling is nearest, of several the one of the lowest id,
 * in code points, with the source's space marker written as the target's. Control tokens and bytes take part by their names, as in the published code. Tokens without a
 * spelling map nowhere, and none maps to them. */
typedef struct {
	align_words a, b;    /* spellings of the source, of the target, as symbols */
	uint32_t symbols;
	align_near *near;    /* (a.n) */
} align_mined;

/* progress: KF_PROGRESS_*. Release whatever comes back, also after a failure. */
kf_status align_mined_init(align_mined *m, const kf_tokenizer *source, const kf_tokenizer *target, kf_pool *pool, int progress,
	kf_err *err) KF_MUST_CHECK;
void align_mined_release(align_mined *m);

/* FuseLLM's choice among equally near tokens by what they occur with ("co_occurrence" in the published code). Counted in the text
 * of two logits sets of one corpus (of conversations in the replies), for either vocabulary: how often token y stands within 5 tokens of token x (pairs that are
 * exactly 5 apart once, nearer ones twice). A source token x that is not spelled alike in the target and the target tokens
 * nearest to it are compared as vectors over the images C of the map as it was: component c counts the target's c near
 * the candidate, and near x the last source token that maps to c. The candidate of the largest cosine wins, of
 * several the lowest id; tokens that the text does not have keep what they had. */
kf_status align_cooccur(align_mined *m, kf_set *source, kf_set *target, kf_pool *pool, int progress, kf_err *err) KF_MUST_CHECK;

#endif
