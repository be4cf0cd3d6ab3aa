#include "train/optim.h"

#include <math.h>

static size_t numel(const kf_param *p)
{
	return (size_t)(p->rows * p->cols);
}

static size_t blocks(size_t n)
{
	return (n + KF_MOMENT_BLOCK - 1) / KF_MOMENT_BLOCK;
}

static void *cleared(kf_exec *x, size_t n, size_t size)
{
	void *p = x->ops->alloc(x, n, size);

	if (p)
		x->ops->zero(x, p, n * size);
	return p;
}

kf_status kf_optim_init(kf_optim *opt, kf_model *model, kf_exec *x, bool eight, kf_ranks *ranks, kf_err *err)
{
	const int rank = kf_ranks_rank(ranks), size = kf_ranks_size(ranks);
	size_t largest = 0;

	*opt = (kf_optim){ .x = x, .eight = eight, .ranks = ranks };
	opt->n = kf_model_params(model, &opt->params);
	if (!(opt->state = kf_zalloc((size_t)opt->n, sizeof *opt->state)) || !(opt->grads = kf_alloc((size_t)opt->n, sizeof *opt->grads)) ||
	    !(opt->begin = kf_alloc((size_t)size + 1, sizeof *opt->begin)))
		goto fail;
	for (int i = 0; i < opt->n; i++) {
		const kf_param *p = &opt->params[i];
		const size_t first = kf_part_begin(numel(p), rank, size), at = first * kf_num_size(p->num);
		kf_adamw *s = &opt->state[i];

		*s = (kf_adamw){ .type = p->num, .w = (char *)p->value + at, .g = (const char *)p->grad + at, .master = p->master,
			.n = kf_part_begin(numel(p), rank + 1, size) - first, .first = first, .salt = (uint32_t)i };
		opt->grads[i] = (kf_nums){ s->g, s->type, s->n };
		if (numel(p) > largest)
			largest = numel(p);
		if (s->n == 0)
			continue;
		if (eight && (!(s->m8 = cleared(x, s->n, 1)) || !(s->v8 = cleared(x, s->n, 1)) ||
		    !(s->m_scale = cleared(x, blocks(s->n), sizeof(float))) || !(s->v_scale = cleared(x, blocks(s->n), sizeof(float)))))
			goto fail;
		if (!eight && (!(s->m = cleared(x, s->n, sizeof(float))) || !(s->v = cleared(x, s->n, sizeof(float)))))
			goto fail;
	}
	if (ranks && x->ops->memory && !(opt->host = kf_alloc(largest, sizeof *opt->host)))
		goto fail;
	return KF_OK;
fail:
	kf_optim_release(opt);
	return kf_fail(err, KF_ENOMEM, "no memory for the optimizer's moments of the model's parameters. --moments 8bit takes a quarter.");
}

void kf_optim_release(kf_optim *opt)
{
	for (int i = 0; opt->state && i < opt->n; i++) {
		const kf_adamw *s = &opt->state[i];
		void *const own[] = { s->m, s->v, s->m8, s->v8, s->m_scale, s->v_scale };

		for (size_t k = 0; k < sizeof own / sizeof *own; k++)
			if (own[k])
				opt->x->ops->free(opt->x, own[k]);
	}
	kf_free(opt->state);
	kf_free(opt->grads);
	kf_free(opt->begin);
	kf_free(opt->host);
	*opt = (kf_optim){ 0 };
}

kf_status kf_train_check_memory(const kf_weights *w, kf_exec *x, bool eight, int parts, kf_err *err)
{
	double n = 0, size = (double)kf_num_size(x->num), weights, master, moments, all;
	size_t left;
	kf_status rc;

	if (!x->ops->memory)
		return KF_OK;
	if ((rc = x->ops->memory(x, &left, err)) != KF_OK)
		return rc;
	for (int i = 0; i < kf_weights_count(w); i++)
		n += (double)kf_weights_at(w, i)->rows * (double)kf_weights_at(w, i)->cols;
	weights = n * size * 1e-9;
	master = x->num == KF_NUM_F32 ? 0 : n * 4e-9 / parts;
	moments = n * (eight ? 2 + 8.0 / KF_MOMENT_BLOCK : 8) * 1e-9 / parts;
	all = 2 * weights + master + moments;
	if (all * 1e9 <= (double)left)
		return KF_OK;
	return kf_fail(err, KF_ENOMEM, "training %.3g billion parameters takes %.3g GB of the %s backend's memory before activations (weights %.3g, "
		"gradients %.3g, float32 masters %.3g, moments %.3g), and %.3g GB are free.%s%s", n * 1e-9, all, x->ops->name, weights, weights,
		master, moments, (double)left * 1e-9, eight ? "" : " --moments 8bit takes a quarter for the moments.",
		x->num == KF_NUM_F32 ? " --compute bf16 takes less for weights and gradients." : "");
}

kf_status kf_optim_norm(const kf_optim *opt, double *out, kf_err *err)
{
	char none;

	*out = sqrt(opt->x->ops->sumsq(opt->x, opt->grads, opt->n));
	/* a sum cannot say why it has no value: whoever reads next is told */
	return isfinite(*out) ? KF_OK : opt->x->ops->get(opt->x, &none, opt->params[0].value, 0, err);
}

void kf_optim_step(kf_optim *opt, const kf_train_opts *o, double lr, double gscale, int64_t step)
{
	for (int i = 0; i < opt->n; i++) {
		const kf_param *p = &opt->params[i];

		if (opt->state[i].n == 0)
			continue;
		opt->x->ops->adamw(opt->x, &opt->state[i],
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
