/* The nearest words of another list: the same as comparing every pair by the recurrence, whatever the lengths. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "align/nearest.h"
#include "common/base/rng.h"

/* Words of random lengths and symbols; some copies of each other with a few edits. */
static void random_words(align_words *w, const align_words *like, int32_t n, uint32_t longest, uint32_t symbols, kf_rng *rng)
{
	uint32_t at = 0;

	w->n = n;
	w->off = kf_alloc((size_t)n + 1, sizeof *w->off);
	w->text = kf_alloc((size_t)n * (longest + 1), sizeof *w->text);
	for (int32_t i = 0; i < n; i++) {
		uint32_t len = (uint32_t)kf_rng_below(rng, longest + 1);

		w->off[i] = at;
		if (like && kf_rng_below(rng, 3) == 0) {
			int32_t from = (int32_t)kf_rng_below(rng, (uint64_t)like->n);
			uint32_t have;
			const uint32_t *t = align_word(like, from, &have);

			for (uint32_t k = 0; k < have && at - w->off[i] < longest; k++)
				if (kf_rng_below(rng, 8)) w->text[at++] = kf_rng_below(rng, 8) ? t[k] : (uint32_t)kf_rng_below(rng, symbols);
		} else {
			for (uint32_t k = 0; k < len; k++) w->text[at++] = (uint32_t)kf_rng_below(rng, symbols);
		}
	}
	w->off[n] = at;
}

static void compare(const align_words *a, const align_words *b, uint32_t symbols, kf_pool *pool)
{
	align_near *near = kf_alloc((size_t)a->n, sizeof *near);
	int32_t *which = kf_alloc((size_t)a->n, sizeof *which), *all;
	uint32_t *off = kf_alloc((size_t)a->n + 1, sizeof *off), n = 0;
	kf_err err;

	for (int32_t i = 0; i < a->n; i++) {
		near[i] = (align_near){ ALIGN_FAR, -1 };
		if (i % 3) which[n++] = i;
	}
	if (align_nearest(a, b, symbols, pool, near, NULL, NULL, &err) != KF_OK) fail_msg("%s", err.text);
	if (align_nearest_all(a, b, symbols, pool, near, which, n, off, &all, &err) != KF_OK) fail_msg("%s", err.text);
	for (int32_t i = 0, k = 0; i < a->n; i++) {
		align_near want = { ALIGN_FAR, -1 };
		uint32_t na, nb, at = (uint32_t)k < n && which[k] == i ? off[k] : 0;
		const uint32_t *x = align_word(a, i, &na);

		for (int32_t j = 0; na && j < b->n; j++) {
			const uint32_t *y = align_word(b, j, &nb);
			uint32_t d = nb ? align_edit(x, na, y, nb) : ALIGN_FAR;

			if (d < want.distance) want = (align_near){ d, j };
		}
		assert_int_equal(near[i].at, want.at);
		assert_int_equal(near[i].distance, want.distance);
		if ((uint32_t)k == n || which[k] != i) continue;
		for (int32_t j = 0; want.at >= 0 && j < b->n; j++) {
			const uint32_t *y = align_word(b, j, &nb);

			if (!nb || align_edit(x, na, y, nb) != want.distance) continue;
			assert_true(at < off[k + 1]);
			assert_int_equal(all[at++], j);
		}
		assert_int_equal(at, off[k + 1]);
		k++;
	}
	kf_free(all);
	kf_free(off);
	kf_free(which);
	kf_free(near);
}

static void against_recurrence(void **state)
{
	static const struct { int32_t a, b; uint32_t longest, symbols; } size[] = {
		{ 300, 500, 6, 3 }, { 300, 500, 10, 20 }, { 200, 400, 20, 8 }, { 200, 300, 40, 30 }, { 150, 300, 70, 4 },
		{ 100, 200, 140, 50 }, { 60, 60, 300, 6 }, { 5, 1, 8, 2 }, { 1, 5, 3, 1 }, { 400, 300, 9, 60000 },
	};
	kf_pool *pool;
	kf_rng rng;
	kf_err err;

	(void)state;
	kf_rng_seed(&rng, 5);
	assert_int_equal(kf_pool_new(3, &pool, &err), KF_OK);
	for (size_t i = 0; i < sizeof size / sizeof *size; i++) {
		align_words a, b;

		random_words(&a, NULL, size[i].a, size[i].longest, size[i].symbols, &rng);
		random_words(&b, &a, size[i].b, size[i].longest, size[i].symbols, &rng);
		compare(&a, &b, size[i].symbols, i % 2 ? pool : NULL);
		align_words_release(&a);
		align_words_release(&b);
	}
	kf_pool_free(pool);
}

/* Nothing to find, nothing to look for. */
static void empty(void **state)
{
	uint32_t off[3] = { 0, 0, 0 }, one[2] = { 0, 1 }, text[1] = { 0 };
	align_words none = { .n = 2, .off = off, .text = text }, word = { .n = 1, .off = one, .text = text },
		nobody = { .n = 0, .off = off, .text = text };

	(void)state;
	compare(&none, &word, 1, NULL);
	compare(&word, &none, 1, NULL);
	compare(&word, &nobody, 1, NULL);
	compare(&nobody, &word, 1, NULL);
}

/* What is known already is left alone. */
static void known(void **state)
{
	uint32_t off[3] = { 0, 2, 4 }, text[4] = { 0, 1, 1, 1 };
	align_words a = { .n = 2, .off = off, .text = text };
	align_near near[2] = { { 0, 1 }, { ALIGN_FAR, -1 } };
	kf_err err;

	(void)state;
	assert_int_equal(align_nearest(&a, &a, 2, NULL, near, NULL, NULL, &err), KF_OK);
	assert_int_equal(near[0].at, 1);
	assert_int_equal(near[1].at, 1);
	assert_int_equal(near[1].distance, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(against_recurrence),
		cmocka_unit_test(empty),
		cmocka_unit_test(known),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
