/* AdamW over a model's parameters, and the learning rate's course.
 *
 * Of several processes each keeps moments and float32 masters of its part of every parameter (kf_part_begin) and takes the step of that
 * part alone; exchange.h adds the gradients up before and spreads the weights afterwards (Rajbhandari et al. 2020, ZeRO, stage 1). */
#ifndef KF_TRAIN_OPTIM_H
#define KF_TRAIN_OPTIM_H

#include "common/model/model.h"
#include "train/train.h"

typedef struct {
	kf_exec *x;
	kf_param *params;          /* (n) borrowed from the model */
	int n;
	kf_adamw *state;           /* (n) this process's part, its moments in the backend's memory */
	kf_nums *grads;            /* (n) its gradients */
	bool eight;                /* in 8 bits */
	kf_ranks *ranks;           /* borrowed; NULL: this process alone */
	size_t *begin;             /* (size + 1) scratch of exchange.c, and */
	float *host;               /* (largest parameter) what passes through the host on its way; NULL where memory is the host's */
} kf_optim;

/* The model was made with the same part and parts. */
kf_status kf_optim_init(kf_optim *opt, kf_model *model, kf_exec *x, bool eight, kf_ranks *ranks, kf_err *err) KF_MUST_CHECK;
void kf_optim_release(kf_optim *opt);

/* Norm of the gradient: of this process's part of it. It may be no finite number; that a device has failed is an error. */
kf_status kf_optim_norm(const kf_optim *opt, double *out, kf_err *err) KF_MUST_CHECK;

/* One step (from 1) with gradients times gscale. */
void kf_optim_step(kf_optim *opt, const kf_train_opts *o, double lr, double gscale, int64_t step);

/* KF_ENOMEM when the backend has memory of its own and what training this model takes, activations aside, is more than is free; the
 * message says how much of what, and what would take less. */
kf_status kf_train_check_memory(const kf_weights *w, kf_exec *x, bool eight, int parts, kf_err *err) KF_MUST_CHECK;

/* Learning rate of step (from 1) of total: a linear warm-up over the first share, then its course. */
double kf_lr_at(const kf_train_opts *o, int64_t step, int64_t total);

/* Lambda of step (from 1) of total. */
double kf_lambda_at(const kf_train_opts *o, int64_t step, int64_t total);

#endif
