/* The calibrated tail of a mixture. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "common/base/rng.h"
#include "fuse/fuse.h"
#include "fuse/tail.h"

enum { CANDIDATES = 12, POSITIONS = 4000 };

static double sum_of(const float *lp, uint32_t n)
{
	double sum = 0;

	for (uint32_t j = 0; j < n; j++) sum += exp((double)lp[j]);
	return sum;
}

static void nothing_seen_changes_nothing(void **state)
{
	kf_fuse_tail c = kf_fuse_tail_begin();
	float lp[2] = { logf(.5f), logf(.2f) }, tail = .3f;

	(void)state;
	kf_fuse_tail_scale(&c, lp, 2, &tail);
	assert_float_equal(tail, .3f, 1e-6f);
	assert_float_equal(lp[0], logf(.5f), 1e-6f);
}

/* What the labels never do is taken from the tail and given to the candidates, whose odds stay. */
static void odds_are_kept(void **state)
{
	kf_fuse_tail c = kf_fuse_tail_begin();
	float lp[2] = { logf(.5f), logf(.2f) }, tail = .3f;

	(void)state;
	for (int i = 0; i < 100; i++) kf_fuse_tail_see(&c, lp, 2, .3, 0);
	kf_fuse_tail_scale(&c, lp, 2, &tail);
	assert_true(tail < .05f && tail > 0);
	assert_float_equal(sum_of(lp, 2) + (double)tail, 1, 1e-6);
	assert_float_equal(lp[0] - lp[1], logf(2.5f), 1e-5f);
}

/* However little is outside, what is stored does not sum above 1 to who adds it up. */
static void no_sum_above_1(void **state)
{
	(void)state;
	for (uint32_t n = 1; n <= 200; n++) {
		kf_fuse_tail c = { .outside = -1, .expected = 5 };
		float lp[200], tail = .3f;

		for (uint32_t j = 0; j < n; j++) lp[j] = logf(.7f / (float)n);
		kf_fuse_tail_scale(&c, lp, n, &tail);
		assert_true(tail > 0 && sum_of(lp, n) <= 1);
	}
}

/* Labels that are always outside: the tail grows, and never takes everything. */
static void never_all(void **state)
{
	kf_fuse_tail c = kf_fuse_tail_begin();
	float lp[2] = { logf(.5f), logf(.2f) }, tail = .3f;

	(void)state;
	for (int i = 0; i < 1000; i++) kf_fuse_tail_see(&c, lp, 2, .3, 2);
	kf_fuse_tail_scale(&c, lp, 2, &tail);
	assert_true(tail > .3f && tail < 1);
	assert_float_equal(sum_of(lp, 2) + (double)tail, 1, 1e-6);
}

/* Labels drawn from a distribution of which the candidates were given a share only: scaled, they have what they should. With as
 * many candidates as are counted, and with some beyond. */
static void finds_the_share(void **state)
{
	static const double true_tail[] = { .1, .02, .3 };
	kf_rng rng;

	(void)state;
	kf_rng_seed(&rng, 7);
	for (uint32_t n = KF_FUSE_TAIL_BEST; n <= CANDIDATES; n += CANDIDATES - KF_FUSE_TAIL_BEST) {
		kf_fuse_tail c = kf_fuse_tail_begin();
		double is = 0, should = 0;

		for (int i = 0; i < POSITIONS; i++) {
			double p[CANDIDATES], norm = 0, u = kf_rng_real(&rng), outside = true_tail[i % 3], given = .8;
			float lp[CANDIDATES], tail = (float)(1 - (1 - outside) * given);
			uint32_t label = 0;

			for (uint32_t j = 0; j < n; j++) norm += p[j] = 1 / (1. + (double)j * j);
			for (uint32_t j = 0; j < n; j++) lp[j] = (float)log((p[j] *= (1 - outside) / norm) * given);
			while (label < n && u >= p[label]) u -= p[label++];
			kf_fuse_tail_see(&c, lp, n, (double)tail, label);
			if (i < POSITIONS / 2) continue;
			kf_fuse_tail_scale(&c, lp, n, &tail);
			is += (double)tail;
			should += outside;
		}
		assert_true(fabs(is / should - 1) < .1);
	}
}

/* The label is among the candidates wherever it comes from: with few of them, too, the tail is as much as labels are outside the best. */
static void label_is_always_there(void **state)
{
	enum { ALL = 60 };
	kf_rng rng;

	(void)state;
	kf_rng_seed(&rng, 9);
	for (uint32_t k = 1; k <= 10; k += 3) {
		kf_fuse_tail c = kf_fuse_tail_begin();
		double is = 0, should = 0, p[ALL], norm = 0;

		for (uint32_t j = 0; j < ALL; j++) norm += p[j] = 1 / (1. + j);
		for (int i = 0; i < POSITIONS; i++) {
			double u = kf_rng_real(&rng) * norm;
			float lp[ALL], tail = 1;
			uint32_t label = 0, n = k;

			while (label < ALL - 1 && u >= p[label]) u -= p[label++];
			for (uint32_t j = 0; j < k; j++) lp[j] = (float)log(p[j] / norm * .8);
			if (label >= k) lp[n++] = (float)log(p[label] / norm * .8);
			for (uint32_t j = 0; j < n; j++) tail -= expf(lp[j]);
			kf_fuse_tail_see(&c, lp, n, (double)tail, label < k ? label : k);
			if (i < POSITIONS / 2) continue;
			kf_fuse_tail_scale(&c, lp, n, &tail);
			is += (double)tail + (n > k ? exp((double)lp[k]) : 0);
			for (uint32_t j = k; j < ALL; j++) should += p[j] / norm;
		}
		if (!(fabs(is / should - 1) < (k == 1 ? .2 : .1))) fail_msg("k %u: %.3f of what it should be", (unsigned)k, is / should);
	}
}

/* A document whose text is one token or another at its end: all before is the same, and so is what predicts it. */
static void does_not_look_ahead(void **state)
{
	enum { N = 30, K = 3 };
	static int32_t tokens[N], ids[(N + 1) * K];
	static uint32_t start[N + 1], off[N + 2];
	static float ce[N], own_ce[N], lp[(N + 1) * K], tail[N + 1];
	kf_fuse_how how = { .function = KF_FUSE_MIN_CE, .tails = KF_FUSE_TAIL_CALIBRATED };
	kf_arena arena[2];
	kf_dist_rec out[2];
	kf_fuse_tally tally;
	kf_err err;

	(void)state;
	for (uint32_t p = 0; p <= N; p++) {
		start[p] = p;
		off[p] = p * K;
		for (int j = 0; j < K; j++) {
			ids[p * K + (uint32_t)j] = j;
			lp[p * K + (uint32_t)j] = logf(.4f / (float)(j + 1));
		}
		tail[p] = (float)(1 - sum_of(lp + p * K, K));
	}
	off[N + 1] = (N + 1) * K;
	for (int i = 0; i < N; i++) {
		own_ce[i] = ce[i] = 1;
		tokens[i] = i % 5 == 4 ? 2 : 0;
	}
	for (int v = 0; v < 2; v++) {
		kf_logits_rec t = { .head = { .id = "x", .domain = "d", .bytes = N }, .n = N, .tokens = tokens, .start = start, .ce = own_ce };
		kf_dist_rec a = { .head = t.head, .n = N, .tokens = tokens, .start = start, .ce = ce, .off = off, .ids = ids, .lp = lp, .tail = tail };

		tokens[N - 1] = v ? 99 : 0;
		kf_arena_init(&arena[v]);
		assert_int_equal(kf_fuse_doc(&how, &t, &a, 1, &arena[v], &out[v], &tally, &err), KF_OK);
	}
	for (uint32_t p = 0; p < N; p++) {
		assert_true(out[0].tail[p] == out[1].tail[p]);
		assert_memory_equal(out[0].lp + out[0].off[p], out[1].lp + out[1].off[p], K * sizeof(float));
	}
	assert_true(out[0].tail[N] < out[1].tail[N]);
	assert_true(out[0].tail[N - 1] < .9f * tail[N - 1]);   /* labels were always inside */
	for (int v = 0; v < 2; v++) kf_arena_release(&arena[v]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_seen_changes_nothing),
		cmocka_unit_test(odds_are_kept), cmocka_unit_test(no_sum_above_1),
		cmocka_unit_test(never_all),
		cmocka_unit_test(finds_the_share), cmocka_unit_test(label_is_always_there),
		cmocka_unit_test(does_not_look_ahead),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
