/* kf-export: logits, aligned and fused sets as JSON Lines, for other people's programs.
 *
 * Shard i of the set becomes OUT/part-0000i.jsonl, a document a line, or all of them one after another one file.
 * docs/import.md has the two forms:
 *
 * KF_EXPORT_JSONL     the record as kf-inspect --json --path tells it; kf-import reads it back
 * KF_EXPORT_AXOLOTL   what Axolotl's kd_trainer takes as a tokenized dataset. Row j is about the token after
 *                     input_ids[j]: its row of targets is our position of that token
 *   input_ids         BOS where the model adds one, then the tokens
 *   attention_mask    1 everywhere
 *   labels            input_ids, but -100 for the first (nothing predicts it) and where the position is context
 *   target_token_ids  the candidates of the position of the next token, best first
 *   target_logprobs   theirs: renormalised over those, or as they are
 *   target_mask       1; one slot 0, -1e9, 0 where there is no distribution or nothing to train: the last row, context,
 *                     positions of weight 0
 */
#ifndef KF_EXPORT_EXPORT_H
#define KF_EXPORT_EXPORT_H

#include <stdio.h>

#include "common/base/pool.h"
#include "common/store/record.h"

typedef enum { KF_EXPORT_JSONL, KF_EXPORT_AXOLOTL } kf_export_format;

typedef struct {
	const char *set, *out;     /* out: a folder, a file whose name ends in .jsonl, or "-" */
	kf_export_format format;
	bool renormalize;          /* axolotl: log-probabilities of a position sum to 1 */
	int part, parts;           /* --shard: shards s with s % parts == part; wants a folder */
	int progress;              /* KF_PROGRESS_* */
} kf_export_opts;

typedef struct {
	uint64_t documents, tokens;
	int files;
} kf_export_stats;

/* standard: where "-" goes; a reader that closes its end early is no error. */
kf_status kf_export(const kf_export_opts *o, kf_pool *pool, FILE *standard, kf_export_stats *stats, kf_err *err) KF_MUST_CHECK;

/* One record as a line of the Axolotl form. bos: the token to put in front, -1: none. */
void kf_axolotl_logits(FILE *out, const kf_logits_rec *r, int32_t bos, bool renormalize);
void kf_axolotl_dist(FILE *out, const kf_dist_rec *r, int32_t bos, bool renormalize);

#endif
