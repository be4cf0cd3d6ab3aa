/* kf-extract: what a model predicts along every document of a corpus.
 *
 * Shard i of the corpus becomes shard i of the output. Documents are encoded, packed into batches of
 * about batch_tokens (sequences one after the other, none padded), run, and the head's answers are
 * put to the positions they are about (common/model/run.h). The logits matrix never exists.
 *
 * Of a fold (--fold I/N: what a model that kf-train --fold I/N trained has not seen) the other documents are there without a token;
 * kf-align puts the folds together.
 *
 * Weights that do not fit in memory are streamed: a block of many batches goes through one layer at a time
 * (common/model/stream.h). The answers are the same.
 */
#ifndef KF_EXTRACT_EXTRACT_H
#define KF_EXTRACT_EXTRACT_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/ops/ops.h"
#include "common/store/set.h"

enum { KF_STREAM_AUTO, KF_STREAM_YES, KF_STREAM_NO }; /* auto: when the weights do not fit */

typedef struct {
	const char *model, *corpus, *out;
	const char *name;          /* of the model, for people; NULL: its folder or file */
	const char *chat_template; /* by name; NULL: the model's own. Of conversations; text is as without */
	long top_k;
	long batch_tokens;         /* tokens run at once: memory against the cost of unpacking weights */
	long context;              /* longest sequence; 0: the model's */
	long path_min, path_extra; /* m and E of the byte path's extra candidates (ops.h, kf_score_query) */
	bool byte_path, f32;
	bool replace;              /* a set in out that was made of something else is replaced; with parts > 1 compute is not AUTO */
	int stream;                /* KF_STREAM_* */
	long stream_tokens;        /* tokens a block has at most, BOS included; 0: as memory allows */
	const char *scratch;       /* folder for the activations of a block; NULL: in memory */
	long memory;               /* megabytes (10^6) to plan for; 0: what is available */
	const kf_ops *ops;         /* the backend; NULL: the CPU's */
	kf_compute compute;        /* AUTO on the CPU: way.h */
	unsigned int8;             /* with INT8: which matrices, KF_INT8_* (model.h) */
	int threads;
	int part, parts;           /* shards s with s % parts == part */
	const char *fold_text;     /* "I/N" or NULL, and as numbers: */
	int fold, folds;           /* only documents of this fold (kf_fold_of) are run (of the others a BOS where the model adds one); folds 1: all */
	int progress;              /* KF_PROGRESS_* */
	json_t *record;            /* the options that shape the content (kf_opt_record); borrowed */
} kf_extract_opts;

typedef struct {
	kf_set_state state;
	bool no_conversations;     /* in the corpus: a chat template is for nothing */
	bool complete;             /* false after one part of an array job */
	uint64_t documents, tokens;/* of this run */
	double seconds;            /* of this run's shards */
	double waited_text, waited_writer; /* of these, what computing waited for text to be read and encoded, and for records to be compressed
	                            * and written; 0 when streamed, where all is done in turn */
	bool streamed;             /* then: */
	uint64_t blocks, bytes_read;   /* bytes of weights, from disk or the kernel's cache */
	double waited;             /* seconds that computing waited for weights */
} kf_extract_stats;

kf_status kf_extract(const kf_extract_opts *o, kf_extract_stats *stats, kf_err *err) KF_MUST_CHECK;

#endif
