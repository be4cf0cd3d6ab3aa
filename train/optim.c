#include "train/optim.h"

#include <math.h>

static size_t numel(const kf_param *p)
{
	return (size_t)(p->rows * p->cols);
}

kf_status kf_optim_init(kf_optim *opt, kf_model *model, kf_exec *x, kf_err *err)
{
	*opt = (kf_optim){ .x = x };
	opt->n = kf_model_params(model, &opt->params);
	opt->m = kf_zalloc((size_t)opt->n, sizeof *opt->m);
	opt->v = kf_zalloc((size_t)opt->n, sizeof *opt->v);
	if (!opt->m || !opt->v)
		goto fail;
	for (int i = 0; i < opt->n; i++) {
		size_t n = numel(&opt->params[i]);

		opt->m[i] = x->ops->alloc(x, n, sizeof(float));
		opt->v[i] = x->ops->alloc(x, n, sizeof(float));
		if (!opt->m[i] || !opt->v[i])
			goto fail;
		x->ops->zero(x, opt->m[i], n * sizeof(float));
		x->ops->zero(x, opt->v[i], n * sizeof(float));
	}
	return KF_OK;
fail:
	kf_optim_release(opt);
	return kf_fail(err, KF_ENOMEM, "no memory for the optimizer's moments of the model's parameters");
}

void kf_optim_release(kf_optim *opt)
{
	for (int i = 0; i < opt->n; i++) {
		if (opt->m && opt->m[i])
			opt->x->ops->free(opt->x, opt->m[i]);
		if (opt->v && opt->v[i])
			opt->x->ops->free(opt->x, opt->v[i]);
	}
	kf_free(opt->m);
	kf_free(opt->v);
	*opt = (kf_optim){ 0 };
}

double kf_optim_norm(const kf_optim *opt)
{
	double sum = 0;

	for (int i = 0; i < opt->n; i++)
		sum += opt->x->ops->sumsq(opt->x, opt->params[i].grad, opt->params[i].num, numel(&opt->params[i]));
	return sqrt(sum);
}

void kf_optim_step(kf_optim *opt, const kf_train_opts *o, double lr, double gscale, int64_t step)
{
	for (int i = 0; i < opt->n; i++) {
		const kf_param *p = &opt->params[i];

		opt->x->ops->adamw(opt->x,
			&(kf_adamw){ .type = p->num, .w = p->value, .g = p->grad, .master = p->master, .m = opt->m[i], .v = opt->v[i],
				.n = numel(p) },
			&(kf_adamw_opts){ .gscale = (float)gscale, .lr = (float)lr, .beta1 = (float)o->beta1, .beta2 = (float)o->beta2,
				.eps = 1e-8f, .decay = p->decay ? (float)o->decay : 0.0f, .step = step });
	}
}

double kf_lr_at(const kf_train_opts *o, int64_t step, int64_t total)
{
	int64_t warm = (int64_t)ceil(o->warmup * (double)total);
	double at;

	if (step <= warm)
		return o->lr * (double)step / (double)warm;
	at = total > warm ? (double)(step - 1 - warm) / (double)(total - warm) : 0;
	switch (o->lr_kind) {
	case KF_LR_COSINE: return o->lr * 0.5 * (1 + cos(M_PI * at));
	case KF_LR_LINEAR: return o->lr * (1 - at);
	default: return o->lr;
	}
}

double kf_lambda_at(const kf_train_opts *o, int64_t step, int64_t total)
{
	return o->lambda_decay ? o->lambda + (1 - o->lambda) * (double)(step - 1) / (double)total : o->lambda;
}
