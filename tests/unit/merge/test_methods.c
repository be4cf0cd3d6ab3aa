/* Every method on a few numbers worked by hand, and on many against a plain reference. */
#include "tests/unit/merge/mergers.h"

#include <math.h>

#include "common/base/rng.h"

static kf_merge_facts facts;

static void expect(
	const kf_merge_how *how, const float *pivot, const float *a, const float *b, int n, const float *want)
{
	const float *model[2] = { a, b };
	float out[8];
	kf_err err;

	if (merge_values(how, "t", 1, pivot, model, b ? 2 : 1, 1, (uint64_t)n, out, &facts, &err) != KF_OK)
		fail_msg("%s", err.text);
	for (int i = 0; i < n; i++)
		if (!(fabsf(out[i] - want[i]) < 1e-6f))
			fail_msg("element %d is %g, not %g", i, (double)out[i], (double)want[i]);
}
#define V(...) (const float[]){ __VA_ARGS__ }

static void test_linear(void **state)
{
	kf_merge_how how = { .method = KF_MERGE_LINEAR, .weight = { 1, 3 }, .normalize = true };
	(void)state;

	expect(&how, NULL, V(1, 2), V(3, 5), 2, V(2.5f, 4.25f));
	assert_true(facts.weight[0] == 0.25 && facts.weight[1] == 0.75);
	how.normalize = false;
	expect(&how, NULL, V(1, 2), V(3, 5), 2, V(10, 17));
}

static void test_slerp(void **state)
{
	kf_merge_how how = { .method = KF_MERGE_SLERP, .t = 0.5 };
	(void)state;

	expect(&how, NULL, V(2, 0), V(0, 2), 2, V(1.41421356f, 1.41421356f)); /* on the circle, not the chord */
	how.t = 1.0 / 3;
	expect(&how, NULL, V(1, 0), V(0, 1), 2, V(0.8660254f, 0.5f));
	how.t = 0.25;
	expect(&how, NULL, V(1, 2), V(2, 4), 2, V(1.25f, 2.5f)); /* in one line: the chord */
	expect(&how, NULL, V(0, 0), V(0, 0), 2, V(0, 0));
	how.t = 0;
	expect(&how, NULL, V(1, 5), V(-3, 4), 2, V(1, 5));
}

static void test_task_arithmetic(void **state)
{
	kf_merge_how how = { .method = KF_MERGE_TASK, .weight = { 1, 0.5 } };
	(void)state;

	expect(&how, V(1, 1), V(2, 1), V(1, 3), 2, V(2, 2));
	how.normalize = true;
	expect(&how, V(1, 1), V(2, 1), V(1, 4), 2, V(1 + 1 / 1.5f, 2));
}

static void test_ties(void **state)
{
	kf_merge_how how = { .method = KF_MERGE_TIES, .weight = { 1, 1 }, .density = 0.5, .normalize = true };
	(void)state;

	/* kept (4 -3 0 0) and (0 5 -6 0); the sum's signs are + + - 0 */
	expect(&how, V(0, 0, 0, 0), V(4, -3, 1, 0.5f), V(2, 5, -6, 0.1f), 4, V(4, 5, -6, 0));
	assert_true(facts.kept[0] == 1 && facts.kept[1] == 2);
	/* (4 -3 2 0) and (2 5 0 0) of five; where both agree, their mean */
	how.density = 0.75;
	expect(&how, V(1, 1, 1, 1), V(5, -2, 3, 1), V(3, 6, 1, 1), 4, V(4, 6, 3, 1));
	how.normalize = false;
	expect(&how, V(1, 1, 1, 1), V(5, -2, 3, 1), V(3, 6, 1, 1), 4, V(7, 6, 3, 1));
	/* weights decide the sign, and the mean */
	how = (kf_merge_how){ .method = KF_MERGE_TIES, .weight = { 3, 1 }, .density = 1, .normalize = true };
	expect(&how, V(0, 0), V(-1, 1), V(2, 5), 2, V(-1, 2));
	/* equal in size: the first are kept; at least one is */
	how = (kf_merge_how){ .method = KF_MERGE_TIES, .weight = { 1 }, .density = 0.5, .normalize = true };
	expect(&how, V(0, 0, 0, 0), V(1, -1, 1, 1), NULL, 4, V(1, -1, 0, 0));
	how.density = 0.01;
	expect(&how, V(0, 0, 0, 0), V(1, -1, 2, 1), NULL, 4, V(0, 0, 2, 0));
	/* a sum of 0 has no sign; in mergekit it is positive */
	how = (kf_merge_how){ .method = KF_MERGE_TIES, .weight = { 1, 1 }, .density = 1, .normalize = true };
	expect(&how, V(1), V(2), V(0), 1, V(1));
	how.mergekit = true;
	expect(&how, V(1), V(2), V(0), 1, V(2));
}

/* Weights that agree and whose sum is 0 but for rounding divide nothing. */
static void test_weights_of_nothing(void **state)
{
	kf_merge_how how = { .method = KF_MERGE_TIES, .weight = { 0.1, 0.2, -0.3 }, .density = 1, .normalize = true };
	float out[1];
	kf_err err;
	(void)state;

	assert_true(0.1 + 0.2 - 0.3 != 0);
	assert_int_equal(merge_values(&how, "t", 1, V(1), (const float *[]){ V(2), V(2), V(0.5f) }, 3, 1, 1, out, &facts, &err), KF_OK);
	assert_float_equal(out[0], 1.45, 1e-6);
}

static void test_sce(void **state)
{
	kf_merge_how how = { .method = KF_MERGE_SCE, .select = 0.7 };
	(void)state;

	/* variances 4 1 0 1; of three that are not 0 two are kept, of the two equal ones the first */
	expect(&how, V(0, 0, 0, 0), V(4, 0, 2, 1), V(0, 2, 2, -1), 4, V(4, 2, 0, 0));
	assert_true(fabs(facts.weight[0] - 0.8) < 1e-12 && fabs(facts.weight[1] - 0.2) < 1e-12);
	assert_true(facts.kept[0] == 1 && facts.kept[1] == 1);
	/* weights 20 and 5 of 25: 0.8 · 4 + 0.2 · 1 where signs agree; -2 and 2 leave nothing, nor do zeros */
	how.select = 1;
	expect(&how, V(1, 1, 1), V(5, -1, 1), V(2, 3, 1), 3, V(4.4f, 1, 1));
	expect(&how, V(0, 0), V(4, -2), V(1, 2), 2, V(4 * 0.8f + 0.2f, 0));
	expect(&how, V(0, 0), V(4, -2), V(1, 1), 2, V((20 * 4 + 2 * 1) / 22.f, -2));
	/* nothing has changed */
	expect(&how, V(3, 4), V(3, 4), V(3, 4), 2, V(3, 4));
	assert_true(facts.weight[0] == 0.5 && facts.kept[0] == 0);
	/* small changes: weights by their squares, equal ones in mergekit */
	expect(&how, V(0), V(2e-4f), V(1e-4f), 1, V((8e-12f + 1e-12f) / 5e-8f));
	how.mergekit = true;
	expect(&how, V(0), V(2e-4f), V(1e-4f), 1, V(1.5e-4f));
}

static void test_varm(void **state)
{
	static const struct { const char *name, *module, *layer; } T[] = {
		{ "model.layers.3.self_attn.q_proj.weight", "model.layers.3.self_attn", "model.layers.3" },
		{ "model.layers.12.mlp.up_proj.bias", "model.layers.12.mlp", "model.layers.12" },
		{ "model.layers.12.input_layernorm.weight", "model.layers.12.input_layernorm", "model.layers.12" },
		{ "model.embed_tokens.weight", "model.embed_tokens", "model.embed_tokens" },
		{ "lm_head.weight", "lm_head", "lm_head" },
	};
	kf_merge_how how = { .method = KF_MERGE_VARM, .weight = { 0.8, 0.2 } };
	const float pivot[] = { 1, 1, 1 }, a[] = { 2, 3, 1 }, b[] = { 1, 1, -3 };
	kf_tensor p = tensor_of(pivot, 1, 3), models[2] = { tensor_of(a, 1, 3), tensor_of(b, 1, 3) };
	kf_merge_input in = { "t", &p, models, 2 };
	kf_merger *m;
	double squares[2];
	char group[128];
	kf_err err;
	(void)state;

	for (size_t i = 0; i < sizeof T / sizeof *T; i++) {
		kf_merge_group(T[i].name, KF_GRAIN_TENSOR, group);
		assert_string_equal(group, T[i].name);
		kf_merge_group(T[i].name, KF_GRAIN_MODULE, group);
		assert_string_equal(group, T[i].module);
		kf_merge_group(T[i].name, KF_GRAIN_LAYER, group);
		assert_string_equal(group, T[i].layer);
		kf_merge_group(T[i].name, KF_GRAIN_MODEL, group);
		assert_string_equal(group, "");
	}
	assert_int_equal(kf_merger_new(NULL, 2, 1, 3, &m, &err), KF_OK);
	assert_int_equal(kf_merge_squares(m, &in, squares, &facts, &err), KF_OK);
	assert_true(squares[0] == 5 && squares[1] == 16);
	kf_merger_free(m);
	expect(&how, V(1, 1, 1), V(2, 3, 1), V(1, 1, -3), 3, V(1.8f, 2.6f, 0.2f));
}

/* ---- many numbers ---- */

#define ROWS 700
#define COLS 33
#define N (ROWS * COLS)
static float big[4][N];       /* the pivot and three models; coarse, so that equal changes abound */

static void fill_big(void)
{
	kf_rng r;

	kf_rng_seed(&r, 9);
	for (int j = 0; j < 4; j++)
		for (int i = 0; i < N; i++)
			big[j][i] = j ? big[0][i] + (float)((int)kf_rng_below(&r, 41) - 20) / 64
						  : (float)kf_rng_below(&r, 128) / 64;
}

static kf_status merge_big(const kf_merge_how *how, const char *name, int threads, float *out)
{
	const float *model[3] = { big[1], big[2], big[3] };
	bool two = how->method == KF_MERGE_SLERP, none = two || how->method == KF_MERGE_LINEAR;
	kf_err err;

	return merge_values(
		how, name, threads, none ? NULL : big[0], model, two ? 2 : 3, ROWS, COLS, out, &facts, &err);
}

static const double *key_of;

static int by_key(const void *a, const void *b)
{
	int i = *(const int *)a, j = *(const int *)b;

	if (key_of[i] != key_of[j]) return key_of[i] < key_of[j] ? 1 : -1;
	return i < j ? -1 : 1;
}

/* keep[i] = 1 for the k largest keys, the first of equal ones. */
static void largest(const double *key, int k, bool *keep)
{
	static int order[N];

	for (int i = 0; i < N; i++) order[i] = i;
	key_of = key;
	qsort(order, N, sizeof *order, by_key);
	memset(keep, 0, N * sizeof *keep);
	for (int i = 0; i < k; i++) keep[order[i]] = true;
}

/* TIES and SCE as their definitions read, by sorting. */
static void test_against_sorting(void **state)
{
	static double delta[3][N], key[N];
	static bool keep[N];
	static float out[N];
	(void)state;

	fill_big();
	for (int sce = 0; sce < 2; sce++) {
		kf_merge_how how = { .method = sce ? KF_MERGE_SCE : KF_MERGE_TIES, .weight = { 1, 0.5, 2 },
			.density = 0.37, .select = 0.23, .normalize = true };
		double square[3] = { 0 };
		for (int j = 0; j < 3; j++)
			for (int i = 0; i < N; i++) delta[j][i] = (double)big[j + 1][i] - (double)big[0][i];
		if (sce) {
			int nonzero = 0;
			for (int i = 0; i < N; i++) {
				double mean = (delta[0][i] + delta[1][i] + delta[2][i]) / 3;
				key[i] = 0;
				for (int j = 0; j < 3; j++) key[i] += (delta[j][i] - mean) * (delta[j][i] - mean) / 3;
				key[i] = (double)(float)key[i];
				nonzero += key[i] > 0;
			}
			largest(key, (int)(0.23 * nonzero), keep);
		}
		for (int j = 0; j < 3; j++) {
			for (int i = 0; !sce && i < N; i++) key[i] = fabs(delta[j][i]);
			if (!sce) largest(key, (int)(0.37 * N), keep);
			for (int i = 0; i < N; i++) {
				if (!keep[i]) delta[j][i] = 0;
				square[j] += delta[j][i] * delta[j][i];
			}
		}
		assert_int_equal(merge_big(&how, "t", 3, out), KF_OK);
		for (int i = 0; i < N; i++) {
			double sum = 0, num = 0, den = 0;
			for (int j = 0; j < 3; j++) sum += delta[j][i] * (sce ? 1 : how.weight[j]);
			for (int j = 0; j < 3; j++) {
				double w = sce ? square[j] : how.weight[j];
				if (delta[j][i] * sum > 0) {
					num += w * delta[j][i];
					den += w;
				}
			}
			double want = (double)big[0][i] + (den > 0 ? num / den : 0);
			if (!(fabs((double)out[i] - want) < 1e-6))
				fail_msg("%s: element %d is %g, not %g", sce ? "sce" : "ties", i, (double)out[i], want);
		}
	}
}

/* Whatever the number of threads, to the bit. */
static void test_threads(void **state)
{
	static float one[N], many[N];
	(void)state;

	fill_big();
	for (int m = 0; m <= KF_MERGE_DARE_TIES; m++)
		for (int compat = 0; compat < 2; compat++) {
			kf_merge_how how = { .method = (kf_merge_method)m, .weight = { 1, 0.5, 2 }, .density = 0.3,
				.select = 0.3, .t = 0.4, .normalize = true, .mergekit = compat, .seed = 5 };
			assert_int_equal(merge_big(&how, "t", 1, one), KF_OK);
			for (int threads = 2; threads <= 5; threads += 3) {
				memset(many, 0, sizeof many);
				assert_int_equal(merge_big(&how, "t", threads, many), KF_OK);
				assert_memory_equal(one, many, sizeof one);
			}
		}
}

static void test_dare(void **state)
{
	static float out[N], again[N];
	kf_merge_how how = { .method = KF_MERGE_DARE, .weight = { 1, 0, 0 }, .density = 0.25, .seed = 1 };
	int kept = 0, changed = 0;
	(void)state;

	fill_big();
	assert_int_equal(merge_big(&how, "t", 2, out), KF_OK);
	for (int i = 0; i < N; i++) {
		float d = big[1][i] - big[0][i];
		if (d == 0) continue;
		changed++;
		if (out[i] == big[0][i]) continue;
		kept++;
		assert_true(out[i] == big[0][i] + 4 * d); /* exact: a power of two, small numbers */
	}
	assert_true(fabs(kept - 0.25 * changed) < 5 * sqrt(0.25 * 0.75 * changed));
	assert_int_equal(facts.kept[0], kept);
	assert_int_equal(merge_big(&how, "u", 2, again), KF_OK);
	assert_memory_not_equal(out, again, sizeof out);
	how.seed = 2;
	assert_int_equal(merge_big(&how, "t", 2, again), KF_OK);
	assert_memory_not_equal(out, again, sizeof out);
	/* nothing is left out at density 1 */
	how = (kf_merge_how){ .method = KF_MERGE_DARE, .weight = { 1, 0, 0 }, .density = 1 };
	assert_int_equal(merge_big(&how, "t", 2, out), KF_OK);
	assert_memory_equal(out, big[1], sizeof out);
}

/* Never averaged in. */
static void test_not_finite(void **state)
{
	static float out[N];
	(void)state;

	for (int m = 0; m <= KF_MERGE_DARE_TIES; m++)
		for (int j = 1; j < 3; j++) {
			kf_merge_how how = { .method = (kf_merge_method)m, .weight = { 1, 0.5, 2 }, .density = 0.3,
				.select = 0.3, .t = 0.4 };
			fill_big();
			big[j][20 * COLS + 7] = j == 1 ? NAN : -INFINITY;
			big[3][0] = m == KF_MERGE_SLERP ? big[3][0] : NAN; /* a later model's comes later */
			assert_int_equal(merge_big(&how, "t", 2, out), KF_EDATA);
			assert_int_equal(facts.bad, j - 1);
			assert_int_equal(facts.bad_at, 20 * COLS + 7);
		}
	fill_big();
	big[0][N - 1] = INFINITY;
	assert_int_equal(merge_big(&(kf_merge_how){ .method = KF_MERGE_TASK }, "t", 2, out), KF_EDATA);
	assert_int_equal(facts.bad, -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_linear), cmocka_unit_test(test_slerp),
		cmocka_unit_test(test_task_arithmetic), cmocka_unit_test(test_ties), cmocka_unit_test(test_weights_of_nothing), cmocka_unit_test(test_sce),
		cmocka_unit_test(test_varm), cmocka_unit_test(test_against_sorting), cmocka_unit_test(test_threads),
		cmocka_unit_test(test_dare), cmocka_unit_test(test_not_finite) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
