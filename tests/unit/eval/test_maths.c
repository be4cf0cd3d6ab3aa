#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "common/base/rng.h"
#include "eval/eval.h"

static double span(const kf_logits_rec *rec, uint32_t x0)
{
	double nats = NAN;
	kf_err err;

	assert_int_equal(kf_eval_span(rec, x0, &nats, &err), KF_OK);
	return nats;
}

/* Ten bytes of text. A has no BOS and the tokens [0,4) [4,7) [7,10); B has a BOS and the tokens
 * [0,2) [2,6) [6,10). A says nothing of its first token, so both are compared on bytes 4 to 9; byte 4 is inside B's
 * second token, of which the first two bytes had the mass exp(-0.25). */
static const uint32_t a_start[] = { 0, 4, 7, 10 }, b_start[] = { 0, 2, 6, 10 };
static const float a_ce[] = { NAN, 2, 3 }, b_ce[] = { 0.5f, 1.5f, 2.5f };
static const uint32_t a_off[] = { 0, 3, 5, 7 }, b_off[] = { 0, 1, 4, 7 };
static const float a_nlm[] = { NAN, NAN, NAN, 0.5f, 1, 0.25f, 2 };
static const float b_nlm[] = { 0.125f, 0.0625f, 0.25f, 1, 0.5f, 1, 2 };
static const kf_logits_rec a = { .head = { 0, "", "", 0, 10 }, .n = 3, .start = a_start, .ce = a_ce,
	.has_path = true, .path_off = a_off, .path_nlm = a_nlm };
static const kf_logits_rec b = { .head = { 0, "", "", 0, 10 }, .bos = true, .n = 3, .start = b_start,
	.ce = b_ce, .has_path = true, .path_off = b_off, .path_nlm = b_nlm };

static void test_same_bytes(void **state)
{
	(void)state;
	assert_int_equal(kf_eval_first_byte(&a), 4);
	assert_int_equal(kf_eval_first_byte(&b), 0);
	assert_true(fabs(span(&a, 4) - 5) < 1e-9);
	assert_true(fabs(span(&b, 4) - (2.5 + 1.5 - 0.25)) < 1e-9);
	/* Every first byte in turn. */
	assert_true(fabs(span(&b, 0) - 4.5) < 1e-9);
	assert_true(fabs(span(&b, 1) - (4.5 - 0.125)) < 1e-9);
	assert_true(fabs(span(&b, 2) - 4) < 1e-9);
	assert_true(fabs(span(&b, 3) - (4 - 0.0625)) < 1e-9);
	assert_true(fabs(span(&b, 5) - (4 - 1)) < 1e-9);
	assert_true(fabs(span(&b, 6) - 2.5) < 1e-9);
	assert_true(fabs(span(&b, 9) - (2.5 - 2)) < 1e-9);
	assert_true(fabs(span(&b, 10)) < 1e-9);
	assert_true(fabs(span(&a, 10)) < 1e-9);
}

/* Of a conversation the replies' text counts: not what the user says, not the template's tokens, not the ends of turns. */
static void test_replies(void **state)
{
	/* <user> "abc" </user> <assistant> "de" "f" </s> <user> "g" </user> <assistant> "hi" and the end */
	static const uint32_t start[] = { 0, 0, 3, 3, 3, 5, 6, 6, 6, 7, 7, 7, 9 };
	static const uint8_t context[] = { 1, 1, 1, 1, 0, 0, 0, 1, 1, 1, 1, 0, 0 };
	static const float ce[] = { NAN, NAN, NAN, NAN, 1, 2, 50, NAN, NAN, NAN, NAN, 4 };
	const kf_logits_rec r = { .head = { 0, "", "", 0, 9 }, .n = 12, .start = start, .ce = ce, .context = context };
	int counted = 0;

	(void)state;
	assert_int_equal(kf_eval_first_byte(&r), 0);
	assert_int_equal(kf_eval_compared(&r, 0), 5);
	assert_true(fabs(span(&r, 0) - 7) < 1e-9);
	for (uint32_t i = 0; i < r.n; i++) counted += kf_eval_counts(&r, i);
	assert_int_equal(counted, 3);
	assert_int_equal(kf_eval_compared(&a, 4), 6);
	assert_int_equal(kf_eval_compared(&a, 12), 0);
	assert_false(kf_eval_counts(&a, 0));
	assert_true(kf_eval_counts(&a, 1));
}

static void test_edges(void **state)
{
	static const uint32_t one[] = { 0, 10 }, dummy[] = { 0, 0, 10 }, none[] = { 0 };
	static const float one_ce[] = { NAN }, dummy_ce[] = { 1, 2 }, bad_ce[] = { 0.5f, INFINITY, 2.5f };
	kf_logits_rec r = { .head = { 0, "", "", 0, 10 }, .n = 1, .start = one, .ce = one_ce };
	double nats;
	kf_err err;

	(void)state;
	/* No BOS and one token: nothing is known of the document. */
	assert_int_equal(kf_eval_first_byte(&r), 10);
	assert_true(fabs(span(&r, 10)) < 1e-9);
	/* A dummy prefix that is a token of its own spans no byte, and counts where there is a BOS. */
	r = (kf_logits_rec){ .head = { 0, "", "", 0, 10 }, .bos = true, .n = 2, .start = dummy, .ce = dummy_ce };
	assert_int_equal(kf_eval_first_byte(&r), 0);
	assert_true(fabs(span(&r, 0) - 3) < 1e-9);
	r.bos = false;
	assert_int_equal(kf_eval_first_byte(&r), 0);
	assert_true(fabs(span(&r, 0) - 2) < 1e-9);
	/* No tokens at all. */
	r = (kf_logits_rec){ .n = 0, .start = none };
	assert_int_equal(kf_eval_first_byte(&r), 0);
	assert_true(fabs(span(&r, 0)) < 1e-9);
	/* Inside a token of a record without byte path. */
	r = b;
	r.has_path = false;
	assert_int_equal(kf_eval_span(&r, 4, &nats, &err), KF_EDATA);
	assert_non_null(strstr(err.text, "byte 4 is inside a token"));
	assert_int_equal(kf_eval_span(&r, 6, &nats, &err), KF_OK);
	/* Not a number. */
	r.ce = bad_ce;
	assert_int_equal(kf_eval_span(&r, 0, &nats, &err), KF_EDATA);
}

static void test_quantile(void **state)
{
	double v[] = { 4, 1, 3, 2, 5 };

	(void)state;
	assert_true(fabs(kf_eval_quantile(v, 5, 0.5) - 3) < 1e-12);
	assert_true(fabs(kf_eval_quantile(v, 5, 0) - 1) < 1e-12);
	assert_true(fabs(kf_eval_quantile(v, 5, 1) - 5) < 1e-12);
	assert_true(fabs(kf_eval_quantile(v, 5, 0.1) - 1.4) < 1e-12);
	assert_true(fabs(kf_eval_quantile(v, 1, 0.3) - 1) < 1e-12);
}

static void test_bootstrap(void **state)
{
	enum { DOCS = 200, N = 2000 };
	double bits_a[DOCS], bits_b[DOCS], bytes[DOCS], first[N], second[N], mean = 0, d, sd = 0;
	kf_rng r;

	(void)state;
	/* By hand: two documents. */
	d = kf_eval_difference((double[]){ 10, 30 }, (double[]){ 12, 20 }, (double[]){ 10, 30 }, 2, 1, "x",
		first, N);
	assert_true(fabs(d - 8.0 / 40) < 1e-12);
	for (int i = 0; i < N; i++)
		assert_true(fabs(first[i] + 0.2) < 1e-12 || fabs(first[i] - 0.2) < 1e-12 ||
			fabs(first[i] - 1.0 / 3) < 1e-12);

	kf_rng_seed(&r, 3);
	for (int i = 0; i < DOCS; i++) {
		bytes[i] = 100;
		bits_b[i] = 100 + 20 * kf_rng_normal(&r);
		bits_a[i] = bits_b[i] + 1 + 10 * kf_rng_normal(&r); /* 0.01 a byte, sd 0.1 a document */
	}
	d = kf_eval_difference(bits_a, bits_b, bytes, DOCS, 1, "x", first, N);
	kf_eval_difference(bits_a, bits_b, bytes, DOCS, 1, "x", second, N);
	assert_memory_equal(first, second, sizeof first);
	kf_eval_difference(bits_a, bits_b, bytes, DOCS, 2, "x", second, N);
	assert_memory_not_equal(first, second, sizeof first);
	for (int i = 0; i < N; i++) mean += first[i] / N;
	for (int i = 0; i < N; i++) sd += (first[i] - mean) * (first[i] - mean) / N;
	/* The resamples scatter about the estimate as the error of a mean does: 0.1 / sqrt(200) = 0.0071. */
	assert_true(fabs(mean - d) < 0.001);
	assert_true(sqrt(sd) > 0.005 && sqrt(sd) < 0.009);
	/* Turned round, the same resamples: the difference changes its sign. */
	kf_eval_difference(bits_b, bits_a, bytes, DOCS, 1, "x", second, N);
	for (int i = 0; i < N; i++) assert_true(fabs(first[i] + second[i]) < 1e-12);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_same_bytes), cmocka_unit_test(test_replies),
		cmocka_unit_test(test_edges),
		cmocka_unit_test(test_quantile), cmocka_unit_test(test_bootstrap),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
