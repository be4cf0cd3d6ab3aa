/* AdamW over a model's parameters, and the learning rate's course. */
#ifndef KF_TRAIN_OPTIM_H
#define KF_TRAIN_OPTIM_H

#include "common/model/model.h"
#include "train/train.h"

typedef struct {
	kf_exec *x;
	kf_param *params;          /* (n) borrowed from the model */
	int n;
	float **m, **v;            /* (n) moments, in the backend's memory */
} kf_optim;

kf_status kf_optim_init(kf_optim *opt, kf_model *model, kf_exec *x, kf_err *err) KF_MUST_CHECK;
void kf_optim_release(kf_optim *opt);

/* Norm of the whole gradient. */
double kf_optim_norm(const kf_optim *opt);

/* One step (from 1) with gradients times gscale. */
void kf_optim_step(kf_optim *opt, const kf_train_opts *o, double lr, double gscale, int64_t step);

/* Learning rate of step (from 1) of total: a linear warm-up over the first share, then its course. */
double kf_lr_at(const kf_train_opts *o, int64_t step, int64_t total);

/* Lambda of step (from 1) of total. */
double kf_lambda_at(const kf_train_opts *o, int64_t step, int64_t total);

#endif
