/* A block of batches through a model one layer at a time, for weights that do not fit in memory.
 *
 * Layer l takes every batch of the block, one after the other, while layer l + 1 is read from the file; then its
 * pages are let go. So each weight is read once a block, and what must be in memory is two layers (or the last layer and
 * the head, or the head and the first), the residual streams of the block, and the activations of one batch. Of routed experts
 * those are read that a batch of the block chose, when it has chosen them. Embedding rows are gathered.
 *
 * Each batch is computed exactly as kf_model_score computes it: the answers are the same to the bit.
 */
#ifndef KF_MODEL_STREAM_H
#define KF_MODEL_STREAM_H

#include "common/model/model.h"

typedef struct kf_stream kf_stream;

/* m was made with opts.stream; borrowed. scratch: a folder whose file system holds the residual streams, in a file that
 * has no name (nothing is left of it whatever happens); NULL: they are held in memory. */
kf_status kf_stream_new(kf_model *m, const char *scratch, kf_stream **out, kf_err *err) KF_MUST_CHECK;
void kf_stream_free(kf_stream *s);    /* accepts NULL */

typedef struct {
	const kf_batch *batch;            /* (n) */
	size_t n;
	bool more;                        /* another block follows: its first layer is read ahead */
	/* The head has come to batch i (0, 1, ..): what it is asked, and room for the answers; then, answered. */
	kf_status (*ask)(void *arg, size_t i, const kf_score_query **q, kf_score **out, kf_err *err);
	void (*take)(void *arg, size_t i);
	/* Batch i has come further by this share of its whole way; the shares of a batch add up to 1. May be NULL. */
	void (*step)(void *arg, size_t i, double share);
	/* Batch i failed with rc: what the caller has to say about it goes in front of the message; returns rc. */
	kf_status (*blame)(void *arg, size_t i, kf_status rc, kf_err *err);
	void *arg;
} kf_stream_block;

kf_status kf_stream_run(kf_stream *s, const kf_stream_block *b, kf_err *err) KF_MUST_CHECK;

typedef struct {
	uint64_t blocks;
	uint64_t bytes;                   /* of weights asked of the file; embedding rows not counted */
	double reading, waited;           /* seconds the reader was at it; seconds that computing waited for it */
} kf_stream_stats;

kf_stream_stats kf_stream_get_stats(const kf_stream *s);

/* For planning: the seconds that a batch takes in the first layer and in the head, their weights read beforehand. The
 * least of a few tries. */
kf_status kf_stream_probe(kf_stream *s, const kf_batch *b, const kf_score_query *q, kf_score *out, double *layer,
	double *head, kf_err *err) KF_MUST_CHECK;

/* What a token of a block takes while its block is run, in bytes: its residual stream. */
size_t kf_stream_token_bytes(const kf_arch *a, kf_num_type num);

/* Sizes for planning, in bytes as the file has them. */
typedef struct {
	uint64_t layer;                   /* the largest; of experts all */
	uint64_t layers, embed, head;     /* all layers; head: embed's where they are tied */
	uint64_t all;                     /* of the model, each tensor once */
	uint64_t experts;                 /* of layers, the part that is experts */
	uint64_t a_block;                 /* read a block, when every expert is chosen by somebody */
	uint64_t resident;                /* the most weights that are needed at a time */
	uint64_t values, resident_values; /* numbers that all are; that a layer, or the head, is at most */
	double per_token, per_answer;     /* multiply-adds by matrices: of all layers, a token; of the head, a position asked */
} kf_stream_sizes;

kf_stream_sizes kf_stream_sizes_of(const kf_weights *w);

#endif
