#include "train/exchange.h"

/* opt->begin: where the parts of parameter i begin, times unit. */
static void parts_of(kf_optim *opt, int i, size_t unit)
{
	const size_t n = (size_t)(opt->params[i].rows * opt->params[i].cols);
	const int size = kf_ranks_size(opt->ranks);

	for (int p = 0; p <= size; p++)
		opt->begin[p] = kf_part_begin(n, p, size) * unit;
}

kf_status kf_exchange_begin(kf_optim *opt, kf_err *err)
{
	return opt->ranks && opt->x->ops->join ? opt->x->ops->join(opt->x, opt->ranks, err) : KF_OK;
}

static kf_status sum_grad(kf_optim *opt, int i, kf_err *err)
{
	const kf_param *p = &opt->params[i];
	const kf_adamw *own = &opt->state[i];
	kf_exec *x = opt->x;
	kf_status rc;

	parts_of(opt, i, 1);
	if (x->ops->sum_parts)
		return x->ops->sum_parts(x, p->grad, p->num, opt->begin, err);
	if (!x->ops->memory)
		return kf_ranks_sum_parts(opt->ranks, p->grad, opt->begin, err);
	if ((rc = x->ops->get_num(x, opt->host, p->grad, p->num, (size_t)(p->rows * p->cols), err)) != KF_OK ||
	    (rc = kf_ranks_sum_parts(opt->ranks, opt->host, opt->begin, err)) != KF_OK)
		return rc;
	return x->ops->put_num(x, (char *)p->grad + own->first * kf_num_size(p->num), p->num, opt->host + own->first, own->n, err);
}

static kf_status send_weight(kf_optim *opt, int i, kf_err *err)
{
	const kf_param *p = &opt->params[i];
	const kf_adamw *own = &opt->state[i];
	const size_t size = kf_num_size(p->num);
	char *host = (char *)opt->host;
	kf_exec *x = opt->x;
	kf_status rc;

	if (x->ops->send_parts) {
		parts_of(opt, i, 1);
		return x->ops->send_parts(x, p->value, p->num, opt->begin, err);
	}
	parts_of(opt, i, size);
	if (!x->ops->memory)
		return kf_ranks_gather_parts(opt->ranks, p->value, opt->begin, -1, err);
	if ((rc = x->ops->get(x, host + own->first * size, own->w, own->n * size, err)) != KF_OK ||
	    (rc = kf_ranks_gather_parts(opt->ranks, host, opt->begin, -1, err)) != KF_OK)
		return rc;
	return x->ops->put(x, p->value, host, (size_t)(p->rows * p->cols) * size, err);
}

/* What fails in this process alone, its device, the others cannot know of: they are in the middle of it. They will see it die. */
static kf_status ended(kf_optim *opt, kf_status rc)
{
	if (rc != KF_OK && !opt->ranks->lost)
		opt->ranks->lost = opt->ranks->speaks = true;
	return rc;
}

kf_status kf_exchange_failed(kf_optim *opt, kf_status rc)
{
	return rc == KF_EIO && opt->ranks && opt->x->ops->sum_parts ? ended(opt, rc) : rc;
}

kf_status kf_exchange_grads(kf_optim *opt, kf_err *err)
{
	kf_status rc = KF_OK;

	for (int i = 0; opt->ranks && i < opt->n && rc == KF_OK; i++)
		rc = ended(opt, sum_grad(opt, i, err));
	return rc;
}

kf_status kf_exchange_weights(kf_optim *opt, kf_err *err)
{
	kf_status rc = KF_OK;

	for (int i = 0; opt->ranks && i < opt->n && rc == KF_OK; i++)
		rc = ended(opt, send_weight(opt, i, err));
	return rc;
}

kf_status kf_exchange_settle(kf_optim *opt, kf_err *err)
{
	char first;

	if (!opt->ranks) return KF_OK;
	return kf_ranks_agree(opt->ranks, kf_exchange_failed(opt, opt->x->ops->get(opt->x, &first, opt->params[0].value, 1, err)), err);
}

/* ---- masters ---- */

bool kf_exchange_masters(const kf_optim *opt)
{
	return opt->ranks && opt->x->num != KF_NUM_F32;
}

/* out (n): of rank 0 the whole master; of the others NULL: theirs goes by way of opt->host. */
static kf_status gather_master(kf_optim *opt, int i, float *out, kf_err *err)
{
	const kf_adamw *own = &opt->state[i];
	float *host = out ? out : opt->host;
	kf_status rc = opt->x->ops->get(opt->x, host + own->first, own->master, own->n * sizeof *host, err);

	parts_of(opt, i, sizeof *host);
	return rc == KF_OK ? kf_ranks_gather_parts(opt->ranks, (char *)host, opt->begin, 0, err) : rc;
}

kf_status kf_exchange_master(void *arg, int i, float *out, kf_err *err)
{
	kf_optim *opt = arg;
	const kf_param *p = &opt->params[i];
	int64_t word = i;
	kf_status rc;

	if (!p->master)
		return opt->x->ops->get_num(opt->x, out, p->value, p->num, (size_t)(p->rows * p->cols), err);
	if ((rc = kf_ranks_broadcast(opt->ranks, 0, &word, sizeof word, err)) == KF_OK)
		rc = gather_master(opt, i, out, err);
	return ended(opt, rc);
}

kf_status kf_exchange_masters_end(kf_optim *opt, kf_err *err)
{
	int64_t word = -1;

	return opt->ranks->lost ? KF_OK : kf_ranks_broadcast(opt->ranks, 0, &word, sizeof word, err);
}

kf_status kf_exchange_masters_serve(kf_optim *opt, kf_err *err)
{
	for (;;) {
		int64_t word = -1;
		kf_status rc = kf_ranks_broadcast(opt->ranks, 0, &word, sizeof word, err);

		if (rc != KF_OK || word < 0 || word >= opt->n)
			return rc;
		if ((rc = ended(opt, gather_master(opt, (int)word, NULL, err))) != KF_OK)
			return rc;
	}
}
