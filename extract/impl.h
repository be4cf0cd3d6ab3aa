/* What the files of kf-extract share. */
#ifndef KF_EXTRACT_IMPL_H
#define KF_EXTRACT_IMPL_H

#include "common/base/machine.h"
#include "common/base/progress.h"
#include "common/model/run.h"
#include "common/model/stream.h"
#include "extract/extract.h"
#include "extract/way.h"

enum { KF_EXTRACT_GROUP = 8 }; /* batches of documents read at once: all but the last of them are full */

typedef struct {
	const kf_extract_opts *o;
	kf_extract_stats *stats;
	kf_weights *weights;
	kf_tokenizer *tokenizer;
	kf_chat *chat;             /* NULL: the corpus has no conversations */
	kf_set *corpus;
	kf_set_writer *writer;
	kf_pool *pool;
	kf_exec *exec;
	kf_model *model;
	kf_way way;                /* how it computes */
	kf_stream *stream;         /* NULL: the weights are in memory */
	size_t block;              /* tokens a block has at most, when streaming */
	int context;               /* tokens of the longest sequence */
	int32_t *order;
	kf_runner runner;
	kf_progress progress;
	double share;              /* of the corpus that this run does, by documents */
	uint64_t bytes;            /* encoded so far */
	uint64_t encoded;          /* tokens they gave */
} kf_extractor;

/* Opens what o names and checks it; release also after a failure. */
kf_status kf_extractor_open(kf_extractor *x, const kf_extract_opts *o, kf_err *err) KF_MUST_CHECK;
/* Threads and backend. */
kf_status kf_extractor_start(kf_extractor *x, kf_err *err) KF_MUST_CHECK;
/* The model, to be streamed or not; then x->runner is complete. */
kf_status kf_extractor_load(kf_extractor *x, bool stream, kf_err *err) KF_MUST_CHECK;
void kf_extractor_release(kf_extractor *x);

/* Whether a document is of the fold that is asked. */
static inline bool kf_extract_asked(const kf_extract_opts *o, const kf_dochead *doc)
{
	return kf_fold_of(doc, o->folds) == o->fold;
}

/* block.c: all shards of this part that are not done, in blocks. */
kf_status kf_extract_shards(kf_extractor *x, kf_err *err) KF_MUST_CHECK;

/* budget.c: whether the weights fit, and how large a block may be. Bytes of this machine's memory but for those of a
 * device that has its own. */
typedef struct {
	kf_stream_sizes weights;
	kf_memory memory;
	uint64_t allowed;          /* bytes that may be used: --memory, or a part of what is available */
	uint64_t batch;            /* activations of a batch, and scratch memory beside them */
	uint64_t base;             /* tokenizer and the like: a guess */
	uint64_t answers;          /* a token that is in hand, its text included */
	uint64_t residual;         /* a token of a block: in memory, or in the scratch file */
	uint64_t in_memory, streaming; /* in all, the one way and the other */
	uint64_t fixed;            /* of streaming, what does not depend on the block */
	uint64_t scratch;          /* bytes of the scratch file; 0: none */
	uint64_t device, device_in_memory, device_streaming; /* of its memory: allowed; the one way; the other. 0: it has none of its own */
	bool fits, stream;         /* fits: in memory; stream: chosen, */
	bool told;                 /* by --stream */
	size_t block;              /* tokens a block, when streaming */
} kf_budget;

/* Memory with blocks of so many tokens. */
void kf_budget_block(kf_budget *b, size_t tokens);
/* After kf_extractor_start. */
kf_status kf_extract_budget(const kf_extractor *x, kf_budget *out, kf_err *err) KF_MUST_CHECK;

#endif
