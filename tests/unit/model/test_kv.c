/* Sequences that go on give what the CPU's whole sequences give: every family, from a cache and from rows of the batch. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>

#include "common/base/rng.h"
#include "tests/unit/model/tiny.h"

#ifndef OPS                    /* the backends: tests/unit/emu has the same tests of another */
#define OPS &kf_ops_cpu, &kf_ops_ref
#endif

enum { S = 3, LONG = 40, CACHE = 256 };

/* Three sequences of different lengths, and the final hidden states of each run whole up to any length it may have. */
typedef struct {
	tiny_rig r, cpu;
	const kf_arch *a;
	int32_t tokens[S][LONG];
	int n[S];
	const char *path;
} set;

static void open_set(set *t, const char *path, const kf_ops *ops)
{
	kf_rng rng;

	tiny_open(&t->r, path, ops, 2);
	tiny_open(&t->cpu, path, &kf_ops_cpu, 2);
	t->path = path;
	t->a = kf_model_arch(t->r.m);
	kf_rng_seed(&rng, 7);
	for (int s = 0; s < S; s++) {
		t->n[s] = s == 0 ? LONG : s == 1 ? 1 : 23;
		for (int i = 0; i < LONG; i++) t->tokens[s][i] = (int32_t)kf_rng_below(&rng, (uint64_t)t->a->V);
	}
}

/* Hidden states of the last rows of tokens (n), run whole. */
static void whole(set *t, const int32_t *tokens, int n, float *out)
{
	const int32_t offset[] = { 0, n };
	const kf_batch b = { .T = n, .S = 1, .tokens = tokens, .offset = offset };
	kf_err err;

	if (kf_model_hidden(t->cpu.m, &b, out, &err) != KF_OK) fail_msg("%s: %s", t->path, err.text);
}

static void close_set(set *t)
{
	tiny_close(&t->cpu);
	tiny_close(&t->r);
}

static void close_to(const set *t, const char *what, int s, int at, const float *got, const float *want)
{
	double scale = 1;

	for (int c = 0; c < t->a->C; c++) scale = fmax(scale, fabs((double)want[c]));
	for (int c = 0; c < t->a->C; c++)
		if (!(fabs((double)got[c] - want[c]) <= 2e-4 * scale))
			fail_msg("%s: %s: sequence %d, token %d: %g, not %g", t->path, what, s, at, (double)got[c], (double)want[c]);
}

/* From a cache: a first part of each sequence at once, then token by token, as long as each has any. */
static void by_steps(set *t)
{
	const size_t C = (size_t)t->a->C;
	float *got = kf_alloc((size_t)S * LONG * C, sizeof *got), *want = kf_alloc(LONG * C, sizeof *want);
	int32_t row[S] = { 150, 0, 60 };
	int done[S] = { 0, 0, 0 };
	kf_kv *kv;
	kf_err err;

	assert_int_equal(kf_kv_new(t->r.m, CACHE, &kv, NULL), KF_OK);
	for (int step = 0; ; step++) {
		int32_t tokens[S * LONG], offset[S + 1] = { 0 }, rows[S], before[S];
		int seq[S], n = 0;

		for (int s = 0; s < S; s++) {
			int to = step == 0 ? t->n[s] / 2 : done[s] + 1, from = done[s];

			if (to > t->n[s] || to == from) continue;
			if (!kf_model_keeps(t->r.m, from, to)) from = 0;
			seq[n] = s;
			rows[n] = row[s];
			before[n] = from;
			for (int i = from; i < to; i++) tokens[offset[n] + i - from] = t->tokens[s][i];
			offset[n + 1] = offset[n] + to - from;
			done[s] = to;
			n++;
		}
		if (!n) break;
		const kf_before w = { kv, rows, before };
		const kf_batch b = { .T = offset[n], .S = n, .tokens = tokens, .offset = offset, .before = &w };

		if (kf_model_hidden(t->r.m, &b, got, &err) != KF_OK) fail_msg("%s: %s", t->path, err.text);
		for (int i = 0; i < n; i++) {
			int s = seq[i];

			whole(t, t->tokens[s], done[s], want);
			close_to(t, "from a cache", s, done[s] - 1, got + (size_t)(offset[i + 1] - 1) * C, want + (size_t)(done[s] - 1) * C);
		}
	}
	assert_int_equal(done[0] + done[1] + done[2], t->n[0] + t->n[1] + t->n[2]);
	kf_kv_free(kv);
	kf_free(want);
	kf_free(got);
}

/* A text of 9 tokens, and three sequences that begin with it and go on differently. */
static void shared(set *t)
{
	enum { HEAD = 9 };
	const size_t C = (size_t)t->a->C;
	const int32_t offset[] = { 0, 5, 5 + HEAD, 5 + HEAD + 4, 5 + HEAD + 5, 5 + HEAD + 12 }, row[] = { 0, 0, 5, 5, 5 },
		before[] = { 0, 0, HEAD, HEAD, HEAD };
	const kf_before w = { NULL, row, before };
	int32_t tokens[LONG], alone[LONG];
	const kf_batch b = { .T = offset[5], .S = 5, .tokens = tokens, .offset = offset, .before = &w };
	float *got = kf_alloc(LONG * C, sizeof *got), *want = kf_alloc(LONG * C, sizeof *want);

	if (kf_model_keeps(t->r.m, HEAD, HEAD + 7)) {
		for (int i = 0; i < offset[5]; i++) tokens[i] = t->tokens[0][i];
		assert_int_equal(kf_model_hidden(t->r.m, &b, got, NULL), KF_OK);
		for (int s = 2; s < 5; s++) {
			int n = offset[s + 1] - offset[s];

			memcpy(alone, tokens + 5, HEAD * sizeof *alone);
			memcpy(alone + HEAD, tokens + offset[s], (size_t)n * sizeof *alone);
			whole(t, alone, HEAD + n, want);
			for (int i = 0; i < n; i++)
				close_to(t, "shared beginning", s, i, got + (size_t)(offset[s] + i) * C, want + (size_t)(HEAD + i) * C);
		}
	}
	kf_free(want);
	kf_free(got);
}

static void logits(set *t)
{
	const int32_t offset[] = { 0, 6 }, rows[] = { 2, 5 };
	const kf_batch b = { .T = 6, .S = 1, .tokens = t->tokens[0], .offset = offset };
	size_t V = (size_t)t->a->V;
	float *z = kf_alloc(2 * V, sizeof *z), ce[2], lp[2];
	int32_t top[2], labels[2] = { t->tokens[0][3], 1 };
	const kf_score_query q = { .k = 1, .labels = labels, .rows = rows, .n_rows = 2 };
	kf_score s = { .ce = ce, .top_ids = top, .top_lp = lp };

	assert_int_equal(kf_model_logits(t->r.m, &b, rows, 2, z, NULL), KF_OK);
	assert_int_equal(kf_model_score(t->r.m, &b, &q, &s, NULL), KF_OK);
	for (int i = 0; i < 2; i++) {
		double sum = 0;

		for (size_t v = 0; v < V; v++) sum += exp((double)z[(size_t)i * V + v]);
		assert_true(fabs(log(sum) - z[(size_t)i * V + (size_t)labels[i]] - ce[i]) < 1e-4);
		assert_true(fabs(z[(size_t)i * V + (size_t)top[i]] - log(sum) - lp[i]) < 1e-4);
	}
	kf_free(z);
}

static void test_every_family(void **state)
{
	static const kf_ops *const backends[] = { OPS };
	char path[TINY_MAX][256];
	int n = tiny_models(path);

	(void)state;
	assert_true(n >= 30);
	for (int i = 0; i < n; i++)
		for (size_t k = 0; k < sizeof backends / sizeof *backends; k++) {
			set t;

			open_set(&t, path[i], backends[k]);
			by_steps(&t);
			shared(&t);
			logits(&t);
			close_set(&t);
		}
}

static void test_refuses(void **state)
{
	const int32_t tokens[] = { 1, 2, 3 }, offset[] = { 0, 3 };
	int32_t row[] = { 0 }, n[] = { 0 };
	kf_before w = { NULL, row, n };
	const kf_batch b = { .T = 3, .S = 1, .tokens = tokens, .offset = offset, .before = &w };
	float *h;
	set t;
	kf_err err;

	(void)state;
	open_set(&t, "tests/models/llama-tiny", &kf_ops_cpu);
	h = kf_alloc(3 * (size_t)t.a->C, sizeof *h);
	assert_int_equal(kf_kv_new(t.r.m, 8, &w.kv, NULL), KF_OK);
	assert_int_equal(kf_model_hidden(t.r.m, &b, h, &err), KF_OK);
	static const int wrong[][2] = { { 0, 6 }, { 6, 0 }, { -1, 1 }, { 1, -1 }, { 9, 0 }, { 2147483647, 2147483647 } };
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
		row[0] = wrong[i][0];
		n[0] = wrong[i][1];
		assert_int_equal(kf_model_hidden(t.r.m, &b, h, &err), KF_EINVAL);
	}
	row[0] = 1;
	n[0] = 4;
	assert_int_equal(kf_model_hidden(t.r.m, &b, h, &err), KF_OK);
	kf_kv_free(w.kv);
	w.kv = NULL;
	assert_int_equal(kf_model_hidden(t.r.m, &b, h, &err), KF_EINVAL);
	kf_free(h);
	close_set(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_every_family), cmocka_unit_test(test_refuses) };

	return cmocka_run_group_tests_name("kv", tests, NULL, NULL);
}
