/* Inside align/: FuseChat's vocabulary map, by how often tokens were aligned in text. */
#ifndef KF_ALIGN_COUNTED_H
#define KF_ALIGN_COUNTED_H

#include "align/pairs.h"
#include "align/spell.h"
#include "common/base/pool.h"
#include "common/store/record.h"
#include "common/store/vocabmap.h"

/* The lexicon that counting warps with. */
kf_status align_counted_lexicon(const kf_tokenizer *source, const kf_tokenizer *target, align_lexicon **out, kf_err *err) KF_MUST_CHECK;

/* Warp a document's source tokens onto its target tokens, cost the edit distance of what decoding one token gives, ties diagonal, the target's
 * earlier token, the source's; add 1 to the pair (source token, target token) for every position of the target and every
 * different source token it is paired with. Of a conversation the replies are counted, one by one, so that the map does not depend on
 * templates. Of the records only what kf_shard_next_tokens gives is read. */
kf_status align_count_doc(const align_lexicon *x, const kf_logits_rec *source, const kf_logits_rec *target, kf_arena *arena,
	align_pairs *pairs, kf_err *err) KF_MUST_CHECK;

/* Fill map (all of it is unset but the key) from pairs, which are sorted: for every source token, of the target tokens it was
 * paired with the one of the least distance * sigmoid(count), of several the lowest id. distance is the edit distance
 * of the spellings without space markers (with the source's written as the target's where one is nothing else), a tenth of it where
 * one is part of the other. BOS goes to BOS and EOS to EOS where both have one. The published code sends what was
 * never counted to the unknown token or EOS; here it maps nowhere. More counts make a pair worse, if little: sigmoid
 * is below 1 only up to a count of some thirty. That is the published definition. */
kf_status align_counted_choose(const align_pairs *pairs, const kf_tokenizer *source, const kf_tokenizer *target, kf_vocabmap *map,
	kf_err *err) KF_MUST_CHECK;

/* Count over the logits of two models of one corpus. *pairs: sorted; the caller releases them. */
kf_status align_count(kf_set *source, kf_set *target, const kf_tokenizer *st, const kf_tokenizer *tt, kf_pool *pool, int progress,
	align_pairs *pairs, kf_err *err) KF_MUST_CHECK;

#endif
