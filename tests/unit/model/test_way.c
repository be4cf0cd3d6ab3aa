/* Ways to compute: their names, how far they are from float32, and the choice. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "common/model/way.h"
#include "tests/unit/model/tiny.h"

static void names(void **state)
{
	static const char *const good[] = { "all", "head", "head,out", "qkv,up,down" };
	static const char *const bad[] = { "", "head,", ",head", "heads", "head out", "all,head" };
	char text[KF_INT8_TEXT];
	unsigned kinds;
	kf_err err;

	(void)state;
	for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
		assert_int_equal(kf_int8_parse(good[i], &kinds, &err), KF_OK);
		kf_int8_text(kinds, text);
		assert_string_equal(text, good[i]);
	}
	assert_int_equal(kf_int8_parse("out,head", &kinds, &err), KF_OK);
	assert_int_equal(kinds, KF_INT8_HEAD | KF_INT8_OUT);
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		assert_int_equal(kf_int8_parse(bad[i], &kinds, &err), KF_EUSAGE);
		assert_non_null(strstr(err.text, "--int8"));
	}
	kf_int8_text(KF_INT8_ALL & ~(unsigned)KF_INT8_HEAD, text);
	assert_string_equal(text, "qkv,out,up,down");
}

static const int32_t tokens[] = { 5, 9, 13, 7, 20, 2, 11, 18, 3, 17, 12, 8, 10, 16 };
static const int32_t offset[] = { 0, 9, 14 };
static const kf_batch batch = { .T = 14, .S = 2, .tokens = tokens, .offset = offset };

/* Log-probabilities of the whole vocabulary, by token. */
static void all_of(kf_model *m, float *lp)
{
	const int V = kf_model_arch(m)->V, T = batch.T;
	int32_t *ids = kf_alloc((size_t)T * (size_t)V, sizeof *ids);
	float *sorted = kf_alloc((size_t)T * (size_t)V, sizeof *sorted), ce[14];
	kf_score_query q = { .k = V };
	kf_score out = { .ce = ce, .top_ids = ids, .top_lp = sorted };
	kf_err err;

	assert_int_equal(kf_model_score(m, &batch, &q, &out, &err), KF_OK);
	for (int t = 0; t < T; t++)
		for (int i = 0; i < V; i++) lp[(size_t)t * (size_t)V + (size_t)ids[t * V + i]] = sorted[t * V + i];
	kf_free(ids);
	kf_free(sorted);
}

static double by_hand(kf_model *a, kf_model *b)
{
	const size_t n = (size_t)kf_model_arch(a)->V * (size_t)batch.T;
	float *p = kf_alloc(n, sizeof *p), *q = kf_alloc(n, sizeof *q);
	double kl = 0;

	all_of(a, p);
	all_of(b, q);
	for (size_t i = 0; i < n; i++) kl += exp(p[i]) * ((double)p[i] - q[i]);
	kf_free(p);
	kf_free(q);
	return kl / batch.T;
}

static const char *const models[] = { "tests/models/llama-tiny", "tests/models/gemma3-tiny", "tests/models/families/gemma2.gguf" };

static void divergence(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
		tiny_rig r;
		kf_divergence d;
		kf_exec *x;
		kf_model *m;
		kf_err err;
		double want;

		tiny_open(&r, models[i], &kf_ops_cpu, 1);
		assert_int_equal(kf_model_divergence(r.m, NULL, r.m, &batch, 3, &d, &err), KF_OK);
		assert_int_equal(d.rows, 14);
		assert_true(fabs(d.mean) < 1e-7 && d.worst < 1e-6 && fabs(d.ce) < 1e-7);
		for (int int8 = 0; int8 < 2; int8++) {
			const kf_model_opts opts = { .int8 = int8 ? KF_INT8_ALL : 0 };

			assert_int_equal(kf_exec_new(&kf_ops_cpu, r.pool, int8 ? KF_COMPUTE_INT8 : KF_COMPUTE_BF16, &x, &err), KF_OK);
			assert_int_equal(kf_model_new(r.w, x, &opts, &m, &err), KF_OK);
			assert_int_equal(kf_model_divergence(r.m, NULL, m, &batch, 3, &d, &err), KF_OK);
			want = by_hand(r.m, m);
			assert_true(d.mean > 1e-9);
			/* of int8 scored with the whole vocabulary as candidates all logits are computed again: only the head's error is missing */
			if (int8) assert_true(want > 0 && d.mean < 100 * want && d.mean < 0.05);
			else assert_true(fabs(d.mean - want) < 1e-6 + 0.01 * want);
			kf_model_free(m);
			kf_exec_free(x);
		}
		tiny_close(&r);
	}
}

/* Whatever this processor is fast at, what is chosen is close. */
static void choice(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
		tiny_rig r;
		kf_divergence d;
		kf_err err;
		kf_way way;

		tiny_open(&r, models[i], &kf_ops_cpu, 1);
		assert_int_equal(kf_way_choose(r.w, r.pool, &batch, 3, &way, &d, &err), KF_OK);
		assert_true(way.compute != KF_COMPUTE_AUTO);
		assert_true(d.mean <= KF_WAY_KL);
		assert_true((way.compute == KF_COMPUTE_F32) == (d.rows == 0));
		assert_true((way.compute == KF_COMPUTE_INT8) == (way.int8 != 0));
		tiny_close(&r);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(names), cmocka_unit_test(divergence), cmocka_unit_test(choice) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
