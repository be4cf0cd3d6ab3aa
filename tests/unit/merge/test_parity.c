/* mergekit 0.1.5's results, from tests/parity/merge/make_fixtures.py. */
#include "tests/unit/merge/mergers.h"

#include <math.h>

#include "common/base/file.h"

#define TENSORS 11
#define LARGEST 1024

static const struct {
	const char *name;
	uint64_t rows, cols;
} TENSOR[TENSORS] = {
	{ "model.embed_tokens.weight", 64, 16 },
	{ "q", 16, 16 },
	{ "k", 8, 16 },
	{ "v", 8, 16 },
	{ "o", 16, 16 },
	{ "gate", 24, 16 },
	{ "up", 24, 16 },
	{ "down", 16, 24 },
	{ "norm 1", 1, 16 },
	{ "norm 2", 1, 16 },
	{ "norm", 1, 16 },
};

/* ---- the inputs, as the script makes them ---- */

static int64_t noise(uint64_t stream, uint64_t i)
{
	uint64_t z = ((stream << 32) + i + 1) * 0x9e3779b97f4a7c15u;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return (int64_t)((z ^ (z >> 31)) >> 40) - (1 << 23);
}

static int64_t change(int t, int j, uint64_t i)
{
	int64_t v;

	if (t == TENSORS - 1 || (j == 0 && t == TENSORS - 2)) return 0;
	if (j == 3) return -change(t, 0, i);
	v = noise((uint64_t)(100 + 16 * t + j), i);
	return (v & 7) == 0 ? 0 : v >> (j >= 4 ? 13 : 1);
}

static void fill(int t, int j, float *out) /* j = -1: the pivot */
{
	for (uint64_t i = 0; i < TENSOR[t].rows * TENSOR[t].cols; i++)
		out[i] = (float)ldexp((double)(noise((uint64_t)t, i) + (j < 0 ? 0 : change(t, j, i))), -26);
}

static uint64_t merge(const kf_merge_how *how, const int *models, int n, int t, float *out)
{
	static float pivot[LARGEST], value[3][LARGEST];
	const float *model[3] = { value[0], value[1], value[2] };
	bool wants_pivot = how->method != KF_MERGE_LINEAR && how->method != KF_MERGE_SLERP;
	kf_merge_facts facts;
	kf_err err;

	fill(t, -1, pivot);
	for (int j = 0; j < n; j++) fill(t, models[j], value[j]);
	if (merge_values(how, TENSOR[t].name, 1, wants_pivot ? pivot : NULL, model, n, TENSOR[t].rows,
			TENSOR[t].cols, out, &facts, &err) != KF_OK)
		fail_msg("%s", err.text);
	return TENSOR[t].rows * TENSOR[t].cols;
}

/* ---- the same ---- */

static const struct { const char *name; kf_merge_how how; int models[3], n; } RUN[] = {
	{ "linear", { .method = KF_MERGE_LINEAR, .weight = { 0.5, 1, 2.5 }, .normalize = true }, { 0, 1, 2 }, 3 },
	{ "linear-no", { .method = KF_MERGE_LINEAR, .weight = { 0.5, 1, -0.25 } }, { 0, 1, 2 }, 3 },
	{ "slerp", { .method = KF_MERGE_SLERP, .t = 0.3 }, { 0, 1 }, 2 },
	{ "slerp-near", { .method = KF_MERGE_SLERP, .t = 0.7 }, { 4, 5 }, 2 },
	{ "task", { .method = KF_MERGE_TASK, .weight = { 0.4, -0.3, 0.7 } }, { 0, 1, 2 }, 3 },
	{ "task-yes", { .method = KF_MERGE_TASK, .weight = { 0.4, 0.9 }, .normalize = true }, { 0, 1 }, 2 },
	{ "ties", { .method = KF_MERGE_TIES, .weight = { 1, 1, 1 }, .density = 0.3, .normalize = true },
		{ 0, 1, 2 }, 3 },
	{ "ties-no", { .method = KF_MERGE_TIES, .weight = { 0.5, 0.8, 0.3 }, .density = 0.55 }, { 0, 1, 2 }, 3 },
	{ "ties-against",
		{ .method = KF_MERGE_TIES, .weight = { 1, 1 }, .density = 1, .normalize = true, .mergekit = true },
		{ 0, 3 }, 2 },
	{ "sce", { .method = KF_MERGE_SCE, .select = 0.2 }, { 0, 1, 2 }, 3 },
	{ "sce-all", { .method = KF_MERGE_SCE, .select = 1 }, { 0, 1, 2 }, 3 },
	{ "sce-against", { .method = KF_MERGE_SCE, .select = 0.5, .mergekit = true }, { 0, 3 }, 2 },
	{ "sce-small", { .method = KF_MERGE_SCE, .select = 1, .mergekit = true }, { 4, 5 }, 2 },
};
#define RUNS (int)(sizeof RUN / sizeof *RUN)

static kf_buf file;

static int load(void **state)
{
	kf_err err;

	(void)state;
	return kf_file_read("tests/parity/merge/expected.bin", 1u << 20, &file, &err) == KF_OK ? 0 : -1;
}

static int unload(void **state)
{
	(void)state;
	kf_buf_release(&file);
	return 0;
}

/* Largest difference of a run from the fixture over all tensors. */
static double worst(int r, const kf_merge_how *how)
{
	kf_cur c = kf_cur_of(file.data, file.len);
	double worst = 0;

	assert_memory_equal(kf_cur_bytes(&c, 8), "KFMRG001", 8);
	assert_int_equal(kf_cur_u32(&c), RUNS);
	for (int k = 0; k <= r; k++) {
		size_t n = kf_cur_u8(&c);
		const char *name = (const char *)kf_cur_bytes(&c, n);
		if (k == r && (n != strlen(RUN[r].name) || memcmp(name, RUN[r].name, n) != 0))
			fail_msg("run %d of the fixture is %.*s, not %s", r, (int)n, name, RUN[r].name);
		for (int t = 0; t < TENSORS; t++) {
			float out[LARGEST];
			uint64_t values = TENSOR[t].rows * TENSOR[t].cols;
			if (k == r) merge(how, RUN[r].models, RUN[r].n, t, out);
			for (uint64_t i = 0; i < values; i++) {
				float want = kf_cur_f32(&c);
				if (k == r) worst = fmax(worst, fabs((double)out[i] - (double)want));
			}
		}
	}
	assert_false(c.bad);
	return worst;
}

/* Values are below 0.5, so a step of float32 is at most 3e-8. */
static void test_runs(void **state)
{
	(void)state;
	for (int r = 0; r < RUNS; r++) {
		double d = worst(r, &RUN[r].how);
		if (!(d < 1e-7)) fail_msg("%s: differs from mergekit by %g", RUN[r].name, d);
	}
}

/* Where --compat mergekit stands for a difference, there is one. */
static void test_compat_differs(void **state)
{
	(void)state;
	for (int r = 0; r < RUNS; r++) {
		kf_merge_how how = RUN[r].how;
		if (!how.mergekit) continue;
		how.mergekit = false;
		double d = worst(r, &how);
		if (!(d > 1e-6)) fail_msg("%s is the same without --compat mergekit: %g", RUN[r].name, d);
	}
}

/* dare and dare-ties over many seeds: the same mean and variance. */
static void test_random(void **state)
{
	static const struct { const char *name; kf_merge_method method; } method[] = { { "dare", KF_MERGE_DARE },
		{ "dare-ties", KF_MERGE_DARE_TIES } };
	enum { SEEDS = 100 };
	static const int models[] = { 0, 1 };
	kf_buf text = { 0 };
	const char *p;
	kf_err err;
	(void)state;

	assert_int_equal(kf_file_read("tests/parity/merge/dare.txt", 1000, &text, &err), KF_OK);
	p = (const char *)text.data;
	for (int m = 0; m < 2; m++) {
		double sum_xy = 0, sum_xx = 0, variance = 0, slope, want_slope, want_variance;
		size_t elements = 0;
		char name[16];
		int used;

		for (int t = 0; t < TENSORS && TENSOR[t].rows > 1; t++) {
			static double mean[LARGEST], square[LARGEST];
			float out[LARGEST], pivot[LARGEST];
			uint64_t n = 0;
			memset(mean, 0, sizeof mean);
			memset(square, 0, sizeof square);
			fill(t, -1, pivot);
			for (uint64_t seed = 1; seed <= SEEDS; seed++) {
				kf_merge_how how = { .method = method[m].method, .weight = { 1, 0.5 }, .density = 0.4,
					.mergekit = true, .seed = seed };
				n = merge(&how, models, 2, t, out);
				for (uint64_t i = 0; i < n; i++) {
					double d = (double)out[i] - (double)pivot[i];
					mean[i] += d / SEEDS;
					square[i] += d * d / SEEDS;
				}
			}
			for (uint64_t i = 0; i < n; i++) {
				double full = ldexp((double)change(t, 0, i) + 0.5 * (double)change(t, 1, i), -26);
				sum_xy += mean[i] * full;
				sum_xx += full * full;
				variance += square[i] - mean[i] * mean[i];
			}
			elements += n;
		}
		slope = sum_xy / sum_xx;
		variance /= (double)elements;
		assert_int_equal(sscanf(p, "%15s %lf %lf%n", name, &want_slope, &want_variance, &used), 3);
		assert_string_equal(name, method[m].name);
		p += used;
		/* standard errors over 100 seeds and 3,000 elements are about 0.2 and 0.3 % */
		if (fabs(slope / want_slope - 1) > 0.015 || fabs(variance / want_variance - 1) > 0.02)
			fail_msg("%s: slope %g, variance %g; mergekit %g, %g", name, slope, variance, want_slope,
				want_variance);
	}
	kf_buf_release(&text);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_runs), cmocka_unit_test(test_compat_differs),
		cmocka_unit_test(test_random) };
	return cmocka_run_group_tests(tests, load, unload);
}
