/* From values of items to figures with intervals. */
#include "eval/tasks_impl.h"

#include <math.h>
#include <string.h>

#include "common/text/utf8.h"

double kf_pass_at(int n, int c, int k)
{
	double miss = 1;

	if (n - c < k) return 1;
	for (int i = n - c + 1; i <= n; i++) miss *= 1 - (double)k / i;
	return 1 - miss;
}

/* ---- which figures a task has ---- */

static kf_status add_metric(const kf_tasks_opts *o, kf_task_result *r, const char *name, bool lower, bool exponential, bool weighted,
	kf_err *err)
{
	kf_metric *m = &r->metric[r->n_metrics++];
	bool ok = true;

	*m = (kf_metric){ .name = name, .lower = lower, .exponential = exponential };
	if (weighted) ok = (m->weight = kf_zalloc((size_t)r->n, sizeof(double))) != NULL;
	for (int i = 0; ok && i < o->e->n_models; i++)
		if (o->e->model[i].run) ok = (m->value[i] = kf_zalloc((size_t)r->n, sizeof(double))) != NULL;
	return ok ? KF_OK : kf_fail(err, KF_ENOMEM, "out of memory for the values of %d items", r->n);
}

/* Bytes of an option that a model is asked for: messages have no white space at their ends. */
static size_t asked(const char *option, bool chat)
{
	size_t n;

	if (!chat) return strlen(option);
	(void)kf_trimmed(option, &n);
	return n;
}

/* In messages options must differ without it, too. */
static kf_status check_trimmed(const kf_eval_task *t, const kf_task_item *item, kf_err *err)
{
	size_t n, m;
	const char *best = kf_trimmed(item->option[item->best], &n);

	for (int k = 0; k < item->n_options; k++) {
		const char *other = kf_trimmed(item->option[k], &m);

		if (k != item->best && m == n && memcmp(best, other, n) == 0)
			return kf_fail(err, KF_EDATA, "%s, %s %d: choices %d and %d, one of which is the answer, differ in white space at their ends only, and a message has none: "
				"--plain-tasks asks in plain text", t->file, t->unit, item->line, item->best < k ? item->best : k, item->best < k ? k : item->best);
	}
	return KF_OK;
}

kf_status kf_task_metrics(const kf_tasks_opts *o, kf_task_result *r, kf_err *err)
{
	const kf_task_item *item = r->task->item + r->first;
	bool chat = false;
	kf_status rc;

	for (int m = 0; m < o->e->n_models; m++) chat = chat || (o->e->model[m].run && o->e->model[m].chat_template && !o->plain);

	switch (r->task->kind) {
	case KF_TASK_CHOICE:
		if ((rc = add_metric(o, r, "acc", false, false, false, err)) != KF_OK ||
		    (rc = add_metric(o, r, "acc_norm", false, false, false, err)) != KF_OK)
			return rc;
		if ((rc = add_metric(o, r, "bits_per_byte", true, false, true, err)) != KF_OK) return rc;
		for (int i = 0; i < r->n; i++) {
			r->metric[2].weight[i] = (double)asked(item[i].option[item[i].best], chat);
			if (chat && (rc = check_trimmed(r->task, &item[i], err)) != KF_OK) return rc;
		}
		return KF_OK;
	case KF_TASK_WORD:
		if ((rc = add_metric(o, r, "acc", false, false, false, err)) != KF_OK) return rc;
		return add_metric(o, r, "perplexity", true, true, false, err);
	case KF_TASK_CODE:
		if ((rc = add_metric(o, r, "pass@1", false, false, false, err)) != KF_OK) return rc;
		if (o->samples >= 10 && (rc = add_metric(o, r, "pass@10", false, false, false, err)) != KF_OK) return rc;
		if (o->samples >= 100 && (rc = add_metric(o, r, "pass@100", false, false, false, err)) != KF_OK) return rc;
		return KF_OK;
	default:
		return add_metric(o, r, "exact_match", false, false, false, err);
	}
}

/* ---- values ---- */

void kf_task_count_choice(kf_task_result *r, int model, int i, const kf_ending *e, bool chat)
{
	const kf_task_item *x = &r->task->item[r->first + i];
	int plain = 0, normed = 0;

	/* between equals the first */
	for (int k = 1; k < x->n_options; k++) {
		if (e[k].nats < e[plain].nats) plain = k;
		if (e[k].nats / (double)asked(x->option[k], chat) < e[normed].nats / (double)asked(x->option[normed], chat)) normed = k;
	}
	r->metric[0].value[model][i] = x->score[plain];
	r->metric[1].value[model][i] = x->score[normed];
	r->metric[2].value[model][i] = e[x->best].nats / log(2);
}

void kf_task_count_word(kf_task_result *r, int model, int i, const kf_ending *e)
{
	r->metric[0].value[model][i] = e->first_choice;
	r->metric[1].value[model][i] = e->nats;
}

void kf_task_count_code(kf_task_result *r, int model, int i, int samples, int passed)
{
	static const int at[] = { 1, 10, 100 };

	for (int k = 0; k < r->n_metrics; k++) r->metric[k].value[model][i] = kf_pass_at(samples, passed, at[k]);
}

/* ---- figures ---- */

static double shown(const kf_metric *m, double v) { return m->exponential ? exp(v) : v; }

static kf_eval_interval interval(double estimate, double *resampled, int n)
{
	kf_eval_interval v = { estimate, NAN, NAN };

	if (n > 1) {
		v.low = kf_eval_quantile(resampled, KF_EVAL_RESAMPLES, 0.025);
		v.high = kf_eval_quantile(resampled, KF_EVAL_RESAMPLES, 0.975);
	}
	return v;
}

/* The same items are drawn for every model and figure: they go by the task's name. */
static double figure(const kf_task_result *r, const kf_metric *m, int model, uint64_t seed, const double *zero, const double *one,
	double *resampled)
{
	double v = kf_eval_difference(m->value[model], zero, m->weight ? m->weight : one, (size_t)r->n, seed, r->task->name, resampled,
		KF_EVAL_RESAMPLES);

	for (int k = 0; k < KF_EVAL_RESAMPLES; k++) resampled[k] = shown(m, resampled[k]);
	return shown(m, v);
}

kf_status kf_task_figures(const kf_eval_opts *e, kf_task_result *r, kf_err *err)
{
	const int R = KF_EVAL_RESAMPLES;
	double *zero = kf_zalloc((size_t)r->n, sizeof *zero), *one = kf_alloc((size_t)r->n, sizeof *one);
	double *draw = kf_alloc((size_t)R * (size_t)e->n_models, sizeof *draw), *work = kf_alloc((size_t)R, sizeof *work);
	kf_status rc = KF_OK;

	if (!zero || !one || !draw || !work) {
		rc = kf_fail(err, KF_ENOMEM, "out of memory for the intervals of %d items", r->n);
		goto out;
	}
	for (int i = 0; i < r->n; i++) one[i] = 1;
	for (int k = 0; k < r->n_metrics; k++) {
		kf_metric *m = &r->metric[k];

		for (int i = 0; i < e->n_models; i++) {
			m->result[i] = (kf_eval_interval){ NAN, NAN, NAN };
			if (!m->value[i]) continue;
			double v = figure(r, m, i, e->seed, zero, one, draw + (size_t)i * (size_t)R);

			memcpy(work, draw + (size_t)i * (size_t)R, (size_t)R * sizeof *work);
			m->result[i] = interval(v, work, r->n);
		}
		for (int c = 0; c < e->n_compare; c++) {
			const int a = e->compare[c][0], b = e->compare[c][1];

			m->diff[c] = (kf_eval_interval){ NAN, NAN, NAN };
			if (!m->value[a] || !m->value[b]) continue;
			for (int s = 0; s < R; s++) work[s] = draw[(size_t)a * (size_t)R + (size_t)s] - draw[(size_t)b * (size_t)R + (size_t)s];
			m->diff[c] = interval(m->result[a].estimate - m->result[b].estimate, work, r->n);
		}
	}
out:
	kf_free(zero);
	kf_free(one);
	kf_free(draw);
	kf_free(work);
	return rc;
}
