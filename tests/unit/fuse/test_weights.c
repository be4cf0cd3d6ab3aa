/* Weights: by hand, by what they promise, and fitted ones against a grid and against the weights that made the labels. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/file.h"
#include "common/base/rng.h"
#include "fuse/weights.h"

static void close_to(double a, double b, double eps)
{
	if (!(fabs(a - b) <= eps)) fail_msg("%.9g is not %.9g", a, b);
}

/* ---- by CE ---- */

/* Rewards .5 and .25: at 1 exp(.5) : exp(.25); at .25 exp(2) : exp(1). */
static void reward_temperature(void **state)
{
	const double x[] = { log(2), log(4) }, nan[] = { 1, NAN };
	double w[3];

	(void)state;
	kf_fuse_weights(x, 2, 1, w);
	close_to(w[0], exp(.5) / (exp(.5) + exp(.25)), 1e-12);
	kf_fuse_weights(x, 2, .25, w);
	close_to(w[0], exp(2) / (exp(2) + exp(1)), 1e-12);
	close_to(w[0] + w[1], 1, 1e-12);
	kf_fuse_weights(x, 2, 1e-6, w);       /* the best alone: min-ce */
	close_to(w[0], 1, 0);
	kf_fuse_weights(x, 2, 1e6, w);        /* all alike */
	close_to(w[0], .5, 1e-6);
	kf_fuse_weights(nan, 2, 1, w);
	close_to(w[0], .5, 0);
}

static void mixture(void **state)
{
	const double ce[] = { -log(.5), NAN, -log(.1) }, w[] = { .25, .5, .25 }, none[] = { 0, 1, 0 }, far[] = { 2000, 2001, 2002 };

	(void)state;
	close_to(kf_fuse_mixture_ce(ce, w, 3), -log(.5 * .5 + .5 * .1), 1e-12);
	close_to(kf_fuse_mixture_ce(ce, NULL, 3), -log(.3), 1e-12);
	assert_true(isnan(kf_fuse_mixture_ce(ce, none, 3)));
	close_to(kf_fuse_mixture_ce(far, NULL, 3), 2000 - log((1 + exp(-1) + exp(-2)) / 3), 1e-9);   /* exp(-2000) is 0 */
}

/* ---- dynamic ---- */

/* Two models, prior .5, forget .5, share .2. Probabilities .8 and .2: .8 : .2, then .8 * .8 + .1 = .74. Then .5 and .25: (.74 / .5)^.5 * .5 : (.26 /
 * .5)^.5 * .25. */
static void dynamic_by_hand(void **state)
{
	const double first[] = { -log(.8), -log(.2) }, second[] = { -log(.5), -log(.25) }, lacking[] = { 1, NAN };
	double a, b;
	kf_fuse_dynamic d;

	(void)state;
	kf_fuse_dynamic_begin(&d, 2, NULL, (kf_fuse_follow){ 1, .5, .2 });
	close_to(d.w[0], .5, 0);
	kf_fuse_dynamic_see(&d, first);
	close_to(d.w[0], .74, 1e-12);
	kf_fuse_dynamic_see(&d, lacking);
	close_to(d.w[0], .74, 1e-12);
	kf_fuse_dynamic_see(&d, second);
	a = sqrt(.74 / .5) * .5;
	b = sqrt(.26 / .5) * .25;
	close_to(d.w[0], .8 * a / (a + b) + .1, 1e-12);
	close_to(d.w[0] + d.w[1], 1, 1e-12);
}

/* Without share, forgetting is what the header says: w_i ~ prior_i exp(-rate sum of forget^age ce_i). */
static void dynamic_forgets(void **state)
{
	const double prior[] = { .5, .3, .2 };
	double len[3] = { 0 }, sum;
	kf_fuse_dynamic d;
	kf_rng rng;

	(void)state;
	kf_rng_seed(&rng, 5);
	kf_fuse_dynamic_begin(&d, 3, prior, (kf_fuse_follow){ .7, .9, 0 });
	for (int t = 0; t < 300; t++) {
		double ce[3];

		for (int i = 0; i < 3; i++) {
			ce[i] = 4 * kf_rng_real(&rng);
			len[i] = .9 * len[i] + ce[i];
		}
		kf_fuse_dynamic_see(&d, ce);
		sum = 0;
		for (int i = 0; i < 3; i++) sum += prior[i] * exp(-.7 * len[i]);
		for (int i = 0; i < 3; i++) close_to(d.w[i], prior[i] * exp(-.7 * len[i]) / sum, 1e-9);
	}
}

/* Code lengths stay within what is promised of the best model, and with share of the best model of each stretch, on text
 * made to be bad for it: the best model changes at random moments. */
static void dynamic_regret(void **state)
{
	enum { M = 4, N = 2000 };
	kf_rng rng;

	(void)state;
	kf_rng_seed(&rng, 11);
	for (int round = 0; round < 20; round++) {
		double prior[M] = { .1, .2, .3, .4 }, share = .01, rate = round % 2 ? 1 : .2, bayes = 0, fixed = 0, len[M] = { 0 }, route = 0, bound;
		kf_fuse_dynamic a, b;
		int best = 0, changes = 0;

		kf_fuse_dynamic_begin(&a, M, prior, (kf_fuse_follow){ rate, 1, 0 });
		kf_fuse_dynamic_begin(&b, M, prior, (kf_fuse_follow){ rate, 1, share });
		bound = -log(prior[best]);
		for (int t = 0; t < N; t++) {
			double ce[M];

			if (t && kf_rng_below(&rng, 150) == 0) {
				best = (int)kf_rng_below(&rng, M);      /* perhaps the same: a change all the same */
				changes++;
				bound -= log(share * prior[best]);
			}
			for (int i = 0; i < M; i++) ce[i] = (i == best ? .5 : 5) * kf_rng_real(&rng);
			bayes += kf_fuse_mixture_ce(ce, a.w, M);
			fixed += kf_fuse_mixture_ce(ce, b.w, M);
			for (int i = 0; i < M; i++) len[i] += ce[i];
			route += ce[best];
			kf_fuse_dynamic_see(&a, ce);
			kf_fuse_dynamic_see(&b, ce);
		}
		bound -= (N - 1 - changes) * log(1 - share);
		for (int i = 0; i < M; i++) assert_true(bayes <= len[i] - log(prior[i]) / rate + 1e-6);
		assert_true(fixed <= route + bound / rate + 1e-6);
		assert_true(changes < 2 || fixed < bayes);
	}
}

/* A model far behind comes back when the others fail, also where its weight is below what a double holds. */
static void dynamic_comes_back(void **state)
{
	const double one[] = { 0, 10 }, other[] = { 10, 0 };
	kf_fuse_dynamic d;

	(void)state;
	kf_fuse_dynamic_begin(&d, 2, NULL, (kf_fuse_follow){ 1, 1, 0 });
	for (int t = 0; t < 1000; t++) kf_fuse_dynamic_see(&d, one);
	close_to(d.w[1], 0, 0);
	for (int t = 0; t < 1000; t++) kf_fuse_dynamic_see(&d, other);
	close_to(d.w[1], .5, 1e-6);
}

/* ---- fitted ---- */

static double likelihood(const float *ce, size_t n, int m, const double *w)
{
	double f = 0, c[KF_FUSE_MODELS];

	for (size_t a = 0; a < n; a++) {
		for (int i = 0; i < m; i++) c[i] = (double)ce[a * (size_t)m + (size_t)i];
		f -= kf_fuse_mixture_ce(c, w, m);
	}
	return f / (double)n;
}

/* As good as the best of all weights in steps of 1/100, to within what is promised, and no worse than any of them. */
static void fit_against_grid(void **state)
{
	enum { N = 400 };
	static float ce[3 * N];
	kf_rng rng;

	(void)state;
	kf_rng_seed(&rng, 1);
	for (int round = 0; round < 8; round++) {
		double best = -INFINITY, at[3] = { 0 }, w[3], gap, f, v[3];
		kf_err err;

		for (int a = 0; a < N; a++)
			for (int i = 0; i < 3; i++) ce[3 * a + i] = (float)(kf_rng_real(&rng) * (round % 2 ? 6 : 2) + .4 * i * (round > 3));
		assert_int_equal(kf_fuse_fit(ce, N, 3, w, &gap, &err), KF_OK);
		assert_true(gap <= KF_FUSE_FIT_GAP);
		f = likelihood(ce, N, 3, w);
		for (int i = 0; i <= 100; i++) {
			for (int j = 0; i + j <= 100; j++) {
				v[0] = i / 100.;
				v[1] = j / 100.;
				v[2] = (100 - i - j) / 100.;
				if (likelihood(ce, N, 3, v) > best) {
					best = likelihood(ce, N, 3, v);
					memcpy(at, v, sizeof at);
				}
			}
		}
		assert_true(f >= best - 1e-6);
		for (int i = 0; i < 3; i++) close_to(w[i], at[i], .02);
	}
}

/* As EM finds, slowly. */
static void fit_against_em(void **state)
{
	enum { N = 500, M = 6 };
	static float ce[M * N];
	double w[M], em[M], g[M], gap;
	kf_rng rng;
	kf_err err;

	(void)state;
	kf_rng_seed(&rng, 9);
	for (int a = 0; a < N * M; a++) ce[a] = (float)(8 * kf_rng_real(&rng) * kf_rng_real(&rng));
	for (int a = 0; a < N; a++) ce[a * M + 3] += 1;           /* one that is worse than the others */
	assert_int_equal(kf_fuse_fit(ce, N, M, w, &gap, &err), KF_OK);
	for (int i = 0; i < M; i++) em[i] = 1. / M;
	for (int step = 0; step < 20000; step++) {
		memset(g, 0, sizeof g);
		for (int a = 0; a < N; a++) {
			double mix = 0;

			for (int i = 0; i < M; i++) mix += em[i] * exp(-ce[a * M + i]);
			for (int i = 0; i < M; i++) g[i] += exp(-ce[a * M + i]) / mix / N;
		}
		for (int i = 0; i < M; i++) em[i] *= g[i];
	}
	close_to(likelihood(ce, N, M, w), likelihood(ce, N, M, em), 1e-8);
	for (int i = 0; i < M; i++) close_to(w[i], em[i], 1e-3);
}

/* Labels drawn from a mixture of known weights: they come back, a model that took no part at 0. */
static void fit_recovers(void **state)
{
	enum { N = 200000, M = 4, V = 8 };
	static const double truth[M] = { .15, 0, .6, .25 };
	static float ce[M * N];
	double p[M][V], w[M], gap;
	kf_rng rng;
	kf_err err;

	(void)state;
	kf_rng_seed(&rng, 21);
	for (int i = 0; i < M; i++) {
		double sum = 0;

		for (int v = 0; v < V; v++) sum += p[i][v] = pow(kf_rng_real(&rng), 4) + 1e-3;
		for (int v = 0; v < V; v++) p[i][v] /= sum;
	}
	for (int a = 0; a < N; a++) {
		double u = kf_rng_real(&rng), x = kf_rng_real(&rng);
		int i = 0, v = 0;

		while (i < M - 1 && u >= truth[i]) u -= truth[i++];
		while (v < V - 1 && x >= p[i][v]) x -= p[i][v++];
		for (i = 0; i < M; i++) ce[a * M + i] = (float)-log(p[i][v]);
	}
	assert_int_equal(kf_fuse_fit(ce, N, M, w, &gap, &err), KF_OK);
	assert_true(gap <= KF_FUSE_FIT_GAP);
	for (int i = 0; i < M; i++) close_to(w[i], truth[i], .01);
}

/* One model; two alike; one better at everything; probabilities no float holds; what cannot be fitted. */
static void fit_corners(void **state)
{
	const float one[] = { 3, 1, 2 }, alike[] = { 1, 1, 2, 2 }, better[] = { 1, 2, 3, 4, 0, 5 }, far[] = { 500, 700, 900, 400 }, bad[] = { 1, NAN };
	double w[2], gap;
	kf_err err;

	(void)state;
	assert_int_equal(kf_fuse_fit(one, 3, 1, w, &gap, &err), KF_OK);
	close_to(w[0], 1, 0);
	assert_int_equal(kf_fuse_fit(alike, 2, 2, w, &gap, &err), KF_OK);
	close_to(w[0] + w[1], 1, 1e-12);
	assert_int_equal(kf_fuse_fit(better, 3, 2, w, &gap, &err), KF_OK);
	close_to(w[0], 1, 1e-9);
	assert_int_equal(kf_fuse_fit(far, 2, 2, w, &gap, &err), KF_OK);
	close_to(w[0], .5, 1e-6);
	assert_int_equal(kf_fuse_fit(bad, 1, 2, w, &gap, &err), KF_EINVAL);
	assert_int_equal(kf_fuse_fit(one, 0, 1, w, &gap, &err), KF_EINVAL);
}

/* ---- files ---- */

static kf_status read_table(const char *text, kf_fuse_table *t, kf_err *err)
{
	static const char *const names[] = { "a", "b" };
	char path[] = "/tmp/kfuse-weights-XXXXXX";
	int fd = mkstemp(path);
	kf_status rc;

	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(kf_file_write_atomic(path, text, strlen(text), err), KF_OK);
	rc = kf_fuse_table_read(path, names, 2, t, err);
	unlink(path);
	return rc;
}

static void table(void **state)
{
	kf_fuse_table t, u;
	kf_err err;
	const double *w;

	(void)state;
	assert_int_equal(read_table("{\"all\": {\"b\": 0.75, \"a\": 0.25}, \"domains\": {\"c\": {\"a\": 1, \"b\": 0}},"
		" \"advantage\": {\"domains\": {\"c\": 0.5}}, \"fit\": {\"corpus\": \"000102030405060708090a0b0c0d0e0f\"}}", &t, &err), KF_OK);
	w = kf_fuse_table_weights(&t, "c");
	close_to(w[0], 1, 0);
	w = kf_fuse_table_weights(&t, "prose");
	close_to(w[0], .25, 1e-12);
	close_to(w[1], .75, 1e-12);
	close_to(*kf_fuse_table_advantage(&t, "c"), .5, 0);
	assert_null(kf_fuse_table_advantage(&t, "prose"));
	assert_true(t.fitted);
	/* what it was fitted on is no part of what it does */
	assert_int_equal(read_table("{\"domains\": {\"c\": {\"b\": 0, \"a\": 1}}, \"advantage\": {\"domains\": {\"c\": 0.5}},"
		" \"all\": {\"b\": 0.75, \"a\": 0.25}}", &u, &err), KF_OK);
	assert_true(kf_fp_equal(t.fp, u.fp));
	assert_false(u.fitted);
	kf_fuse_table_release(&u);
	assert_int_equal(read_table("{\"domains\": {\"c\": {\"b\": 0.5, \"a\": 0.5}}}", &u, &err), KF_OK);
	assert_false(kf_fp_equal(t.fp, u.fp));
	assert_null(kf_fuse_table_weights(&u, "prose"));
	kf_fuse_table_release(&u);
	kf_fuse_table_release(&t);
}

static void table_refuses(void **state)
{
	static const struct { const char *text, *says; kf_status rc; } bad[] = {
		{ "", "no file of weights", KF_EDATA },
		{ "[1]", "no object", KF_EDATA },
		{ "{\"models\": 3}", "no object with", KF_EDATA },
		{ "{\"all\": 3}", "no object {MODEL", KF_EDATA },
		{ "{\"all\": {\"a\": 0.5, \"b\": 0.4}}", "sum to 0.9", KF_EDATA },
		{ "{\"all\": {\"a\": -1, \"b\": 2}}", "no number between 0 and 1", KF_EDATA },
		{ "{\"all\": {\"a\": \"x\", \"b\": 1}}", "no number between 0 and 1", KF_EDATA },
		{ "{\"all\": {\"a\": 1}}", "no weight for b", KF_EMISMATCH },
		{ "{\"all\": {\"a\": 0.5, \"b\": 0.25, \"z\": 0.25}}", "weight for z, which is none", KF_EMISMATCH },
		{ "{\"domains\": []}", "\"domains\" is no object", KF_EDATA },
		{ "{\"all\": {\"a\": 1, \"b\": 0}, \"advantage\": {\"all\": {}}}", "advantage of \"all\" is no number", KF_EDATA },
		{ "{\"all\": {\"a\": 1, \"b\": 0}, \"fit\": {\"corpus\": \"xyz\"}}", "no fingerprint", KF_EDATA },
		{ "{\"all\": {\"a\": 1, \"a\": 0}}", "duplicate", KF_EDATA },
	};
	kf_fuse_table t;
	kf_err err;

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		assert_int_equal(read_table(bad[i].text, &t, &err), bad[i].rc);
		if (!strstr(err.text, bad[i].says)) fail_msg("\"%s\" does not say \"%s\"", err.text, bad[i].says);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reward_temperature),
		cmocka_unit_test(mixture),
		cmocka_unit_test(dynamic_by_hand),
		cmocka_unit_test(dynamic_forgets),
		cmocka_unit_test(dynamic_regret),
		cmocka_unit_test(dynamic_comes_back),
		cmocka_unit_test(fit_against_grid),
		cmocka_unit_test(fit_against_em),
		cmocka_unit_test(fit_recovers),
		cmocka_unit_test(fit_corners),
		cmocka_unit_test(table),
		cmocka_unit_test(table_refuses),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
