/* Edit distance and warping against the plain recurrences, and by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>

#include "align/warp.h"
#include "common/base/rng.h"

static uint32_t plain_edit(const uint32_t *a, uint32_t na, const uint32_t *b, uint32_t nb)
{
	static uint32_t d[256][256];

	for (uint32_t i = 0; i <= na; i++) {
		for (uint32_t j = 0; j <= nb; j++) {
			if (i == 0 || j == 0) {
				d[i][j] = i + j;
				continue;
			}
			d[i][j] = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
			if (d[i - 1][j] + 1 < d[i][j]) d[i][j] = d[i - 1][j] + 1;
			if (d[i][j - 1] + 1 < d[i][j]) d[i][j] = d[i][j - 1] + 1;
		}
	}
	return d[na][nb];
}

/* Lengths up to 200: past the one machine word, and empty words. */
static void edit_distance(void **state)
{
	enum { WORDS = 60, ROOM = 200 * WORDS };
	static uint32_t text[2][ROOM], off[2][WORDS + 1];
	static uint16_t cost[WORDS * WORDS];
	kf_arena arena;
	kf_rng rng;
	kf_err err;

	(void)state;
	kf_arena_init(&arena);
	kf_rng_seed(&rng, 1);
	for (int round = 0; round < 4; round++) {
		for (int s = 0; s < 2; s++) {
			uint32_t at = 0;

			for (int w = 0; w < WORDS; w++) {
				uint32_t len = (uint32_t)kf_rng_below(&rng, w % 10 == 0 ? 200 : w % 10 == 1 ? 1 : 12);

				if (w == 2) len = 64;
				if (w == 3) len = 65;
				off[s][w] = at;
				for (uint32_t i = 0; i < len; i++) text[s][at++] = (uint32_t)kf_rng_below(&rng, 2 + (uint32_t)round * 8);
			}
			off[s][WORDS] = at;
		}
		align_words a = { WORDS, off[0], text[0] }, b = { WORDS, off[1], text[1] };
		assert_int_equal(align_edit_costs(&a, &b, 32, cost, &arena, &err), KF_OK);
		for (int i = 0; i < WORDS; i++)
			for (int j = 0; j < WORDS; j++)
				assert_int_equal(cost[i * WORDS + j], plain_edit(text[0] + off[0][i], off[0][i + 1] - off[0][i],
					text[1] + off[1][j], off[1][j + 1] - off[1][j]));
	}
	kf_arena_release(&arena);
}

/* a = the cat s, b = the ca ts: costs the/the 0, the/ca 3, the/ts 2, cat/the 3, cat/ca 1, cat/ts 2, s/the 3, s/ca 2, s/ts 1.
 * Best: the-the, cat-ca, s-ts, 2 in all. */
static void by_hand(void **state)
{
	static const uint16_t cost[] = { 0, 3, 2, 3, 1, 2, 3, 2, 1 };
	static const uint32_t seq[] = { 0, 1, 2 };
	int32_t a[3], b[3];
	uint64_t total;
	kf_arena arena;
	kf_err err;

	(void)state;
	kf_arena_init(&arena);
	assert_int_equal(align_warp(seq, 3, seq, 3, cost, 3, a, b, &total, &arena, &err), KF_OK);
	assert_int_equal(total, 2);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(a[i], i);
		assert_int_equal(b[i], i);
	}
	/* One token against three: it is each one's only partner, and has none that is its only. */
	assert_int_equal(align_warp(seq, 1, seq, 3, cost, 3, a, b, &total, &arena, &err), KF_OK);
	assert_int_equal(a[0], -1);
	assert_true(b[0] == 0 && b[1] == 0 && b[2] == 0);
	/* All costs 0, 2 by 3: going back from (1,2) the diagonal wins: (0,1), then left (0,0). */
	static const uint16_t zero[9];
	assert_int_equal(align_warp(seq, 2, seq, 3, zero, 3, a, b, &total, &arena, &err), KF_OK);
	assert_int_equal(a[1], 2);
	assert_int_equal(b[2], 1);
	assert_int_equal(a[0], -1);
	/* 3 by 2: diagonal, then up. */
	assert_int_equal(align_warp(seq, 3, seq, 2, zero, 3, a, b, &total, &arena, &err), KF_OK);
	assert_int_equal(b[1], 2);
	assert_int_equal(b[0], -1);
	assert_true(a[0] == 0 && a[1] == 0);
	kf_arena_release(&arena);
}

/* The recurrence with the ties written out, on a whole matrix. */
static void against_plain(void **state)
{
	enum { MAX = 40 };
	kf_arena arena;
	kf_rng rng;
	kf_err err;

	(void)state;
	kf_arena_init(&arena);
	kf_rng_seed(&rng, 2);
	for (int round = 0; round < 300; round++) {
		uint32_t n = 1 + (uint32_t)kf_rng_below(&rng, MAX), m = 1 + (uint32_t)kf_rng_below(&rng, MAX), cols = 12;
		uint16_t cost[12 * 12];
		uint32_t a[MAX], b[MAX], pa[MAX] = { 0 }, pb[MAX] = { 0 };
		int32_t only_a[MAX], only_b[MAX], la[MAX], lb[MAX];
		double d[MAX][MAX];
		uint64_t total;
		uint32_t i, j;

		for (i = 0; i < 144; i++) cost[i] = (uint16_t)kf_rng_below(&rng, 1 + (uint64_t)(round % 5));
		for (i = 0; i < n; i++) a[i] = (uint32_t)kf_rng_below(&rng, 12);
		for (j = 0; j < m; j++) b[j] = (uint32_t)kf_rng_below(&rng, 12);
		for (i = 0; i < n; i++) {
			for (j = 0; j < m; j++) {
				double best = i == 0 && j == 0 ? 0 : 1e30;

				if (i && j && d[i - 1][j - 1] < best) best = d[i - 1][j - 1];
				if (i && d[i - 1][j] < best) best = d[i - 1][j];
				if (j && d[i][j - 1] < best) best = d[i][j - 1];
				d[i][j] = best + cost[a[i] * cols + b[j]];
			}
		}
		for (i = n - 1, j = m - 1;;) {
			double diag = i && j ? d[i - 1][j - 1] : 1e30, up = i ? d[i - 1][j] : 1e30, left = j ? d[i][j - 1] : 1e30;

			pa[i]++;
			pb[j]++;
			la[i] = (int32_t)j;
			lb[j] = (int32_t)i;
			if (i == 0 && j == 0) break;
			if (diag <= up && diag <= left) i--, j--;
			else if (up <= left) i--;
			else j--;
		}
		assert_int_equal(align_warp(a, n, b, m, cost, cols, only_a, only_b, &total, &arena, &err), KF_OK);
		assert_true((double)total == d[n - 1][m - 1]);
		for (i = 0; i < n; i++) assert_int_equal(only_a[i], pa[i] == 1 ? la[i] : -1);
		for (j = 0; j < m; j++) assert_int_equal(only_b[j], pb[j] == 1 ? lb[j] : -1);
		kf_arena_reset(&arena);
	}
	assert_int_equal(align_warp(NULL, 1u << 20, NULL, 1u << 20, NULL, 1, NULL, NULL, NULL, &arena, &err), KF_EUNSUPPORTED);
	kf_arena_release(&arena);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(edit_distance),
		cmocka_unit_test(by_hand),
		cmocka_unit_test(against_plain),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
