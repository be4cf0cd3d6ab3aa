/* Micro-batches of an epoch in order, those of this process's documents, read, decompressed and packed by a thread of its own while the one before is
 * computed. A micro-batch never spans two steps, and what is in it does not depend on the thread. */
#ifndef KF_TRAIN_LOADER_H
#define KF_TRAIN_LOADER_H

#include "common/base/behind.h"
#include "train/data.h"

typedef struct {
	kf_micro micro;            /* finished; may be empty (T = 0): the one load of a process that has no document of a step is */
	bool last;                 /* of its step */
	uint64_t *docs;            /* (n_docs) numbers of its documents */
	size_t n_docs, cap;
} kf_load;

typedef struct {
	kf_docs *docs;
	const kf_pack *pack;
	const kf_plan *plan;
	int rank, size;            /* of this process, and how many there are: each takes its own of a step's documents */
	int32_t *owner;            /* of the documents of the step that the next load is of; NULL where size is 1 */
	size_t owner_cap;
	int64_t most;              /* tokens of a micro-batch, unless one document has more */
	int64_t step;              /* that the next load is of; these are the thread's while it is at work */
	uint64_t at;
	kf_arena arena;
	kf_load load[2];
	int next;                  /* which of them is being filled, or will be */
	kf_behind *behind;
} kf_loader;

/* docs and pack are borrowed; nobody else may use docs until the loader is released. */
kf_status kf_loader_init(kf_loader *l, kf_docs *docs, const kf_pack *pack, int64_t most, int rank, int size, kf_err *err)
	KF_MUST_CHECK;
void kf_loader_release(kf_loader *l);      /* of one that is all zero, too */

/* Begin with step (from 0) of the plan, which must stay as it is until the last of its steps is taken. */
kf_status kf_loader_begin(kf_loader *l, const kf_plan *plan, int64_t step, kf_err *err) KF_MUST_CHECK;

/* The next micro-batch, valid until the next call. There must be one: count `last`. */
kf_status kf_loader_next(kf_loader *l, kf_load **out, kf_err *err) KF_MUST_CHECK;

#endif
