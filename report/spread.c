#include "report/spread.h"

#include <math.h>

#define PAIRS 1024                       /* comparisons of an evaluation at most */

/* ---- figures ---- */

static spread spread_new(void)
{
	spread s = { .n = 0 };

	for (int r = 0; r < KF_REPORT_EVALS; r++) s.value[r] = s.low[r] = s.high[r] = NAN;
	return s;
}

static void spread_finish(spread *s, int n_runs)
{
	double sum = 0, squares = 0;

	s->mean = s->sd = s->least = s->most = NAN;
	for (int r = 0; r < n_runs; r++) {
		double v = s->value[r];

		if (!isfinite(v)) continue;
		sum += v;
		s->n++;
		s->least = fmin(s->least, v);
		s->most = fmax(s->most, v);
		s->below += v < 0;
		s->above += v > 0;
		if (!isfinite(s->low[r]) || !isfinite(s->high[r])) continue;
		s->intervals++;
		s->clear_below += s->high[r] < 0;
		s->clear_above += s->low[r] > 0;
	}
	if (!s->n) return;
	s->mean = sum / s->n;
	for (int r = 0; r < n_runs; r++)
		if (isfinite(s->value[r])) squares += (s->value[r] - s->mean) * (s->value[r] - s->mean);
	if (s->n > 1) s->sd = sqrt(squares / (s->n - 1));
}

static void take_interval(spread *s, int r, const json_t *interval)
{
	s->low[r] = input_real(interval, "low");
	s->high[r] = input_real(interval, "high");
}

spread spread_bits(const input *in, const char *model, const char *column)
{
	spread s = spread_new();

	for (int r = 0; r < in->n_runs; r++) {
		s.value[r] = input_number(input_at(in->run[r], "bits_per_byte", model, column, NULL));
		take_interval(&s, r, input_at(in->run[r], "intervals", model, column, NULL));
	}
	spread_finish(&s, in->n_runs);
	return s;
}

spread spread_perplexity(const input *in, const char *model, const char *column)
{
	spread s = spread_new();

	for (int r = 0; r < in->n_runs; r++) s.value[r] = input_number(input_at(in->run[r], "perplexity", model, column, NULL));
	spread_finish(&s, in->n_runs);
	return s;
}

const json_t *run_comparison(const input *in, int r, const char *a, const char *b)
{
	const json_t *c;
	size_t i;

	json_array_foreach(json_object_get(in->run[r], "comparisons"), i, c)
		if (strcmp(input_string(c, "a"), a) == 0 && strcmp(input_string(c, "b"), b) == 0) return c;
	return NULL;
}

spread spread_difference(const input *in, const char *a, const char *b, const char *column)
{
	spread s = spread_new();

	for (int r = 0; r < in->n_runs; r++) {
		const json_t *d = input_at(run_comparison(in, r, a, b), "bits_per_byte", column, NULL);

		s.value[r] = input_real(d, "difference");
		take_interval(&s, r, d);
	}
	spread_finish(&s, in->n_runs);
	return s;
}

double spread_share(const input *in, const spread *difference, const char *b)
{
	double sum = 0;
	int n = 0;

	for (int r = 0; r < in->n_runs; r++) {
		double base = input_number(input_at(in->run[r], "bits_per_byte", b, "mean", NULL));

		if (!isfinite(difference->value[r]) || !(base > 0)) continue;
		sum += difference->value[r] / base;
		n++;
	}
	return n && n == difference->n ? sum / n : NAN;
}

spread spread_score(const input *in, const char *task, const char *metric, const char *model)
{
	spread s = spread_new();

	for (int r = 0; r < in->n_runs; r++) {
		const json_t *score = input_at(in->run[r], "tasks", task, "metrics", metric, "models", model, NULL);

		s.value[r] = input_real(score, "value");
		take_interval(&s, r, score);
	}
	spread_finish(&s, in->n_runs);
	return s;
}

/* ---- pairs ---- */

int runs_comparing(const input *in, const char *a, const char *b)
{
	int n = 0;

	for (int r = 0; r < in->n_runs; r++) n += run_comparison(in, r, a, b) != NULL;
	return n;
}

bool runs_all_compare(const input *in, size_t i, const char **a, const char **b)
{
	const json_t *c = json_array_get(json_object_get(in->eval, "comparisons"), i);

	*a = input_string(c, "a");
	*b = input_string(c, "b");
	return run_comparison(in, 0, *a, *b) == c && runs_comparing(in, *a, *b) == in->n_runs;
}

/* ---- whether they belong together ---- */

/* The next name that is in no run before; NAMES + 1 where there is no room for it. */
static int add_model(const char *name[NAMES], int n, const char *one)
{
	for (int i = 0; i < n; i++)
		if (strcmp(name[i], one) == 0) return n;
	if (n < NAMES) name[n] = one;
	return n + 1;
}

static int all_models(const input *in, const char *key, const char *name[NAMES])
{
	const char *one;
	json_t *v;
	int n = 0;

	for (int r = 0; r < in->n_runs; r++)
		json_object_foreach(json_object_get(in->run[r], key), one, v)
			if (n <= NAMES) n = add_model(name, n, one);
	return n;
}

int runs_models(const input *in, const char *key, const char *name[NAMES])
{
	int n = all_models(in, key, name);

	return n < NAMES ? n : NAMES;
}

/* Whether a domain of run a is missing in run b. */
static kf_status check_domains(const input *in, int a, int b, kf_err *err)
{
	const char *name;
	json_t *v;

	json_object_foreach(json_object_get(in->run[a], "documents"), name, v)
		if (!input_at(in->run[b], "documents", name, NULL))
			return kf_fail(err, KF_EINVAL, "%s has no domain \"%s\", which %s has: runs of one experiment are evaluated on the same domains",
				in->o->evals[b], name, in->o->evals[a]);
	return KF_OK;
}

static bool share_a_model(const input *in, int a, int b)
{
	const char *name;
	json_t *v;

	json_object_foreach(json_object_get(in->run[a], "models"), name, v)
		if (input_at(in->run[b], "models", name, NULL)) return true;
	return false;
}

/* The same figures of every model are the same evaluation, also where a copy has another name or intervals of another seed. */
static bool same_figures(const json_t *a, const json_t *b)
{
	return json_equal(a, b) || (json_object_size(json_object_get(a, "bits_per_byte")) &&
		json_equal(json_object_get(a, "bits_per_byte"), json_object_get(b, "bits_per_byte")));
}

kf_status runs_check(const input *in, kf_err *err)
{
	const char *name[NAMES];
	kf_status rc;

	for (int b = 1; b < in->n_runs; b++) {
		for (int a = 0; a < b; a++) {
			if (strcmp(in->o->evals[a], in->o->evals[b]) == 0)
				return kf_fail(err, KF_EINVAL, "--eval %s is given twice: a run counts once", in->o->evals[b]);
			if (same_figures(in->run[a], in->run[b]))
				return kf_fail(err, KF_EINVAL, "%s has the same figures as %s: a run counts once", in->o->evals[b], in->o->evals[a]);
		}
		if ((rc = check_domains(in, 0, b, err)) != KF_OK || (rc = check_domains(in, b, 0, err)) != KF_OK) return rc;
		if (!share_a_model(in, 0, b))
			return kf_fail(err, KF_EINVAL, "%s has no model of the same name as one of %s: they are no runs of one experiment",
				in->o->evals[b], in->o->evals[0]);
	}
	if (in->n_runs < 2) return KF_OK;
	if (all_models(in, "models", name) > NAMES || all_models(in, "bits_per_byte", name) > NAMES)
		return kf_fail(err, KF_EINVAL, "the evaluations have more than %d models of different names", NAMES);
	for (int r = 0; r < in->n_runs; r++)
		if (json_array_size(json_object_get(in->run[r], "comparisons")) > PAIRS)
			return kf_fail(err, KF_EDATA, "%s has more than %d comparisons", in->o->evals[r], PAIRS);
	return KF_OK;
}
