/* Alignment: what a source model predicted, told in the target's vocabulary.
 *
 * A text is bytes; tokenizers only cut it differently. The record made here has the
 * target's tokens and, at each of its positions, the source's distribution over the
 * target's tokens and the source's ce of the label.
 *
 * Coordinates. Where a tokenizer has a dummy prefix its stream is ' ' + text, so all
 * offsets here are of that stream when either of the two has one ("stream bytes"; the
 * text begins at stream byte D, D = 0 or 1). A source without a dummy prefix is then
 * read as if its first token began with that space, of which it is certain.
 *
 * The byte path (KF_ALIGN_BYTE)
 *   Let u be the start of the source's last token that begins at or before byte x, and
 *   M(x) its mass there of all tokens whose bytes begin with text[u..x), 1 where u = x.
 *   P(x) = (product of p of its tokens before u) * M(x). For the target token [s, e):
 *
 *   ce = -ln P(e)/P(s). It telescopes: over the covered bytes it sums to the source's own
 *        log-likelihood of them, wherever either tokenizer cuts.
 *   q    every stored candidate of the source's position whose bytes begin with text[u..s)
 *        gives p/M(s) to the first token of the target's own encoding of its remaining bytes
 *        (the prefix map). With [u, v) the source's token there and t its id, the label also gets
 *          e < v: max(0, P(e)/P(s) - stored mass that begins with text[u..e))
 *          e = v: t's mass, when t is not among the stored
 *          e > v: P(e)/P(s), which is taken out of t's own contribution (down to 0)
 *        All these are parts of one mass, so they sum to at most 1; stored values are
 *        quantised, so where the sum exceeds 1 all of it is scaled down to 1. t's own
 *        probability is taken from ce, which is stored finer than the candidates.
 *   tail 1 - sum of q: what was not stored, candidates equal to text[u..s) (they count in M(s)),
 *        tokens the target cannot spell, control tokens. Candidates that the map sends to
 *        the same token are added up. Other tokens' q below KF_SPARSE_MIN (common/store/sparse.h) go to the tail as well.
 *   At the position after the text q has no label, and the source's EOS maps to the target's.
 *
 * Coverage
 *   A source without BOS predicts nothing before start[1], its second token: a target
 *   token that begins before that byte has ce NAN and no distribution. The covered
 *   region runs from the first target token that begins at or after it to the end.
 *   A target without BOS has no position 0 to train, so it gets no distribution there, but it keeps ce:
 *   the source's view of those bytes is part of its likelihood.
 *   Tokens of no bytes (a lone dummy prefix) have ce 0; when the source has such a
 *   first token and the target has not, the target's first token carries its ce too. The space of a dummy
 *   prefix inside a longer source token has no mass of its own: it counts as certain, and the label gets
 *   no addition for it.
 *
 * Logits without path masses (imported ones, --byte-path no)
 *   For M(x) stands the sum of the stored candidates that begin with text[u..x), and of t: a lower bound. ce telescopes
 *   and q sums to at most 1 all the same. Inside a source token ce is too high before and too low after where the
 *   bound lacks much, and q knows stored candidates only. The aligned set's info says "path": "bound" ("stored" otherwise).
 *
 * FuseLLM's way (KF_ALIGN_DTW; arXiv 2401.10491, section 3.2)
 *   Dynamic time warping over the two token strings (as the vocabulary files spell them,
 *   without the space marker), cost = edit distance in code points, ties diagonal, up
 *   (an earlier source token), left. Where token p-1 of the target and token j-1 of the source are
 *   each other's only partners and equal (by string after swapping the space markers, or through the map),
 *   position p takes the source's position j: each candidate through the map (exact: the
 *   target's token of that string; prefix: as above), of several that map to one token the first
 *   is kept, the rest is tail. Position 0 takes position 0 where both add a BOS. Everywhere else, and where no
 *   candidate has an image, it is one-hot on the label (position n: none).
 *   ce is the byte path's; without path masses (--byte-path no) a source token's ce is
 *   spread evenly over its bytes, which telescopes as well.
 *
 * FuseChat's way (KF_ALIGN_DTW_CHAT; arXiv 2408.07990, and the code of its two releases)
 *   Warping over the tokens' text, without spaces, cost = edit distance, a tenth of it where one
 *   contains the other (the first release's; the second keeps it for the vocabulary map), ties
 *   diagonal, left, up. Position p takes the source's position j where token j-1 of the source is a partner of
 *   token p-1 of the target and either is equal to the other or its end: one to one, several target tokens to
 *   one of the source (the last one gets it), several of the source to one of the target. Of several partners the
 *   equal one, else the last such. Candidates that the target spells alike are those tokens, the others go through
 *   the map. The rest as above.
 *   kf_aligner_weigh (--one-to-many weighted) is what the first release did where several of the source's tokens, one after
 *   the other, are the target's: position p takes the positions after all of them, mixed.
 *   Weights: softmax over how often each was aligned with the target's token in the text. The release multiplies logits
 *   by them; a logit's zero is arbitrary and our numbers are probabilities, so here the distributions are mixed.
 *
 * --reference-quirks (kf_aligner_quirks) gives for either what the published code gives, position for position: align/quirks.c.
 *
 * Vocabulary maps: what a candidate of the source, a whole token, is in the target's vocabulary
 *   prefix  the first token of its bytes' own encoding
 *   exact   the token of the same string, the space markers counting as equal
 *   mined   FuseLLM's: the token of the least edit distance, of equally near ones the first, or the one that occurs with
 *           the same tokens (align/mined.h)
 *   stats   FuseChat's: of the target tokens it was aligned with in the text, the one of the least edit distance times
 *           sigmoid(count) (align/counted.h); what is spelled alike in both vocabularies is itself
 * Any of them goes with any method. With byte, a map other than prefix decides where both tokens begin at the same byte; inside a
 * source token what is left of a candidate is no token, and only the prefix map says what it is. q stays a partition: a
 * candidate's mass goes to one token. mined and stats are files (common/store/vocabmap.h).
 *
 * Conversations
 *   Source and target may have different chat templates. Each reply is aligned as a text of its own (replies.c): ce
 *   telescopes over its bytes, its first position has a distribution, a template's space that stands in its first token is
 *   as a dummy prefix. A source's first token with more of the template in it speaks of the label only, and a target's has no distribution (one-hot
 *   along warped tokens). The position that ends the target's turn takes the one that ends the source's: the
 *   source's end of turn becomes the target's, with the source's ce of it; other candidates as at position n. What is
 *   context has neither ce nor a distribution.
 */
#ifndef KF_ALIGN_ALIGN_H
#define KF_ALIGN_ALIGN_H

#include <jansson.h>
#include <stdbool.h>

#include "common/base/mem.h"
#include "common/base/pool.h"
#include "common/base/tally.h"
#include "common/store/record.h"
#include "common/store/vocabmap.h"
#include "common/text/tokenizer.h"

typedef enum { KF_ALIGN_BYTE, KF_ALIGN_DTW, KF_ALIGN_DTW_CHAT } kf_align_method;   /* --method byte|dtw|dtw-chat */
typedef enum { KF_ALIGN_PREFIX, KF_ALIGN_EXACT, KF_ALIGN_MINED, KF_ALIGN_STATS } kf_align_map; /* --vocab-map prefix|exact|mined|stats */

/* A pair of tokenizers and a method. Immutable but for the prefix map, which fills
 * as it is asked; may be used by many threads at once. The tokenizers are borrowed. */
typedef struct kf_aligner kf_aligner;

/* With mined and stats, kf_aligner_use_map comes before the first document. */
kf_status kf_aligner_new(const kf_tokenizer *source, const kf_tokenizer *target, kf_align_method method,
	kf_align_map map, kf_aligner **out, kf_err *err) KF_MUST_CHECK;
/* From now on as the published code has it (--reference-quirks); before the first document. KF_EUSAGE: byte has none. */
kf_status kf_aligner_quirks(kf_aligner *a, kf_err *err) KF_MUST_CHECK;
void kf_aligner_free(kf_aligner *a);  /* accepts NULL */
/* From now on mix by these counts (--one-to-many weighted, dtw-chat only); before the first document. pairs are sorted
 * (align/pairs.h) and borrowed. KF_EUSAGE: another method, or with quirks: the published code that has quirks mixes nothing. */
struct align_pairs;
kf_status kf_aligner_weigh(kf_aligner *a, const struct align_pairs *counts, kf_err *err) KF_MUST_CHECK;
/* Copies what it needs of the map. KF_EMISMATCH: of other vocabularies. */
kf_status kf_aligner_use_map(kf_aligner *a, const kf_vocabmap *map, kf_err *err) KF_MUST_CHECK;

/* What alignment kept, of one domain: a row of a kf_tally. */
typedef struct {
	double docs, bytes;        /* bytes of text */
	double tokens;             /* the target's: positions with a label */
	double covered;            /* of those with the source's distribution (a one-hot is none) */
	double ce, ce_tokens, ce_bytes; /* sum of ce (nats), over so many tokens, of so many bytes */
	double mass;               /* sum of 1 - tail over covered */
	double label, labelled;    /* sum of -ln q(label) where it is not 0, over so many positions */
	double candidates;         /* stored, over covered */
} kf_align_stat;

/* {"all": {...}, "domains": {NAME: {...}}}: tokens, coverage, ce, mass, ... as means. NULL on no memory. */
json_t *kf_align_stats_json(const kf_tally *stats);

/* Align one document. src and tgt are of the same text (KF_EMISMATCH when doc, piece or bytes
 * differ); of tgt only head, bos, tokens and start are read. out and all it points to
 * live in arena, but for tokens, start and head's strings, which are tgt's. stats (rows kf_align_stat) may be NULL.
 * KF_EDATA: a source record whose numbers are not numbers, or ids outside the vocabulary. */
kf_status kf_align_doc(kf_aligner *a, const kf_logits_rec *src, const kf_logits_rec *tgt, kf_arena *arena,
	kf_dist_rec *out, kf_tally *stats, kf_err *err) KF_MUST_CHECK;

typedef struct {
	const char *const *source;           /* (folds) folders of sets: one, or the folds of one model (kf-extract --fold), in any order */
	int folds;
	const char *target, *out;            /* folders of sets */
	kf_align_method method;
	kf_align_map map;
	const char *map_file;                /* of mined and stats: read when it is there, else written; NULL: made for this run */
	bool cooccurrence;                   /* mined: choose among equally near tokens by what they occur with */
	bool any_corpus;                     /* a map_file that another text was counted for will do */
	bool quirks;                         /* kf_aligner_quirks */
	bool weighted;                       /* kf_aligner_weigh, by counts of the whole of both sets */
	int precision;                       /* 0 as the source set, 1 packed, 2 f32 */
	bool replace;                        /* what is in out and in map_file, made of something else, is replaced */
	const char *shard;                   /* "I/N" or NULL */
	int progress;                        /* KF_PROGRESS_* */
	json_t *record;                      /* options that shape the content (kf_opt_record), borrowed */
	const char *program;
} kf_align_opts;

/* Align a set with a set. *state and *stats (may come back NULL when the set was up to date or
 * this was one part of an array job; the caller decrefs it) tell what happened. */
kf_status kf_align_run(const kf_align_opts *o, kf_pool *pool, kf_set_state *state, json_t **stats,
	kf_err *err) KF_MUST_CHECK;

#endif
