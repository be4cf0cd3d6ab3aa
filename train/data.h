/* What the trainer reads: documents with their targets, in a shuffled order, packed whole into
 * micro-batches.
 *
 * A document's stream is its tokens, with BOS in front when its record says so: m tokens, hence m rows.
 * Row r reads stream token r and predicts position r + 1 - bos; the last row predicts
 * what follows the text: it has no label. Of a conversation the rows that predict context have neither label nor
 * candidates; the loss is the mean over the rows that have some.
 */
#ifndef KF_TRAIN_DATA_H
#define KF_TRAIN_DATA_H

#include "common/base/mem.h"
#include "common/model/model.h"
#include "common/store/record.h"

/* Documents by number, from a set or from memory (tests). */
typedef struct kf_docs kf_docs;
struct kf_docs {
	uint64_t n;
	uint32_t *rows;          /* (n) */
	uint64_t total;          /* sum of rows */
	kf_status (*get)(kf_docs *d, uint64_t i, kf_arena *arena, kf_dist_rec *rec, kf_err *err);
	void (*close)(kf_docs *d);
};

/* Open a set of targets or aligned documents, or of logits: then a document's own top-k are its candidates. With
 * folds > 1 the documents of one fold (kf_fold_of) are left out: they have no rows. */
kf_status kf_docs_open(const kf_set *set, int fold, int folds, kf_docs **out, kf_err *err) KF_MUST_CHECK;
void kf_docs_close(kf_docs *d);            /* accepts NULL */

/* A micro-batch: inputs of the model and of its loss. */
typedef struct {
	kf_batch batch;
	kf_loss_query query;       /* labels and candidates; lambda and the rest are the trainer's */
	int32_t *tokens, *offset, *labels, *ids;
	uint32_t *off;
	float *q, *weight;
	int T, S;
	uint32_t n_cand;
	int cap_T, cap_S;
	uint32_t cap_cand;
} kf_micro;

void kf_micro_release(kf_micro *m);
static inline void kf_micro_clear(kf_micro *m) { m->T = m->S = 0; m->n_cand = 0; }

/* What packing has to know. */
typedef struct {
	int V, context;            /* sequences longer than context are cut there */
	int32_t bos;               /* -1: none */
	bool fusion;               /* whether candidates are wanted (lambda < 1) */
} kf_pack;

/* Add a document's rows. KF_EDATA for ids outside the vocabulary. */
kf_status kf_micro_add(kf_micro *m, const kf_pack *p, const kf_dist_rec *rec, kf_err *err) KF_MUST_CHECK;
/* Set batch and query's arrays to what has been added. */
void kf_micro_finish(kf_micro *m);

/* The order of an epoch (from 1), and where its steps begin: step i takes order[first[i] .. first[i + 1]).
 * Steps are of about equal size, on the average at most batch tokens: each ends with the document that brings it nearest to its share. */
typedef struct {
	uint64_t *order;           /* (n) */
	uint64_t *first;           /* (steps + 1) */
	int64_t steps;
} kf_plan;

int64_t kf_plan_steps(const kf_docs *d, int64_t batch);     /* an epoch's */
kf_status kf_plan_epoch(kf_plan *plan, const kf_docs *d, int64_t batch, uint64_t seed, int64_t epoch, kf_err *err) KF_MUST_CHECK;
void kf_plan_release(kf_plan *plan);
/* Which of n processes takes each document of a step: owner (first[step + 1] - first[step]). The longest first, each to the process that
 * has the fewest rows so far: they end at about the same time. */
kf_status kf_plan_owners(const kf_plan *plan, const kf_docs *d, int64_t step, int n, int32_t *owner, kf_err *err) KF_MUST_CHECK;

#endif
