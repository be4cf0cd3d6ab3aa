/* Train a model on fused targets: lambda * CLM + (1 - lambda) * fusion, AdamW.
 *
 * OUT becomes a Hugging Face folder, with log.jsonl (a record a step and a validation) and
 * kfuse.json (what made it). While it is being made, OUT/state holds checkpoints; a run
 * that is killed continues from the last one and ends with the same numbers.
 *
 * Several processes (base/ranks.h) train one model: each computes the gradients of its share of a step's documents and keeps its
 * part of the optimizer's state. What they compute is what one process does but for the order of sums. Rank 0 alone writes
 * the log and the model; every process writes its part of a checkpoint, which any number of processes continues.
 */
#ifndef KF_TRAIN_TRAIN_H
#define KF_TRAIN_TRAIN_H

#include <jansson.h>

#include "common/ops/ops.h"

typedef enum { KF_LR_COSINE, KF_LR_CONSTANT, KF_LR_LINEAR } kf_lr_kind;

typedef struct {
	const char *model, *targets, *valid, *out, *log;  /* valid, log may be NULL */
	double lambda, temperature;
	int lambda_decay;          /* 1: lambda rises to 1 along the run */
	int loss, tail;            /* kf_loss_kind, kf_tail_kind */
	double lr, warmup, decay, beta1, beta2, clip;
	int lr_kind;               /* kf_lr_kind */
	long batch_tokens;         /* a step of the optimizer */
	long micro_tokens;         /* a forward and backward */
	int moments8;              /* 1: AdamW's moments in 8 bits */
	long context;              /* longer sequences are cut; 0: the model's */
	long keep_mb;              /* activations kept for backward, MB; layers beyond are computed again; 0: no limit; -1: 512, or what
	                            * a backend with memory of its own has free */
	long epochs, max_steps;    /* max_steps 0: none */
	int fold, folds;           /* documents of this fold (kf_fold_of) are not trained on; folds 1: all are */
	long patience;             /* end after so many epochs without a better one on valid; 0: never */
	long save_every;           /* steps a checkpoint; 0: none */
	int dtype;                 /* of the written model: 0 f32, 1 bf16, 2 f16 */
	bool keep_epochs, keep_state, resume;
	bool restart, replace;     /* begin anew where a run is in out; where it is another run */
	long seed;
	int progress;              /* KF_PROGRESS_* */
	kf_ranks *ranks;           /* borrowed; NULL: one process */
	json_t *record;            /* options that shape the result (kf_opt_record); borrowed */
} kf_train_opts;

typedef struct {
	bool current;              /* it was there already */
	int64_t steps, tokens;     /* of the whole run */
	int64_t resumed;           /* step this run continued from; 0: from the start */
	int epoch;                 /* whose weights OUT holds */
	double valid;              /* bits per byte of that epoch; NAN without --valid */
	double before;             /* of the model as it came; NAN where it is not known */
	double loss;               /* of the last step */
} kf_train_result;

/* Collective: every process ends with the same status (unless ranks->lost) and result. */
kf_status kf_train(const kf_train_opts *o, kf_exec *x, kf_train_result *out, kf_err *err) KF_MUST_CHECK;

#endif
