/* Edit distance and warping against the plain recurrences, and by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>

#include "synth.h"
#include "align/cost.h"
#include "align/warp.h"

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

static bool plain_contains(const uint32_t *b, uint32_t nb, const uint32_t *a, uint32_t na)
{
	for (uint32_t i = 0; i + na <= nb; i++) {
		uint32_t k = 0;

		while (k < na && a[k] == b[i + k]) k++;
		if (k == na) return true;
	}
	return false;
}

/* Two vocabularies of made-up words; every tenth word may be long, some are empty. */
enum { WORDS = 60, ROOM = 250 * WORDS };

typedef struct {
	uint32_t text[2][ROOM], off[2][WORDS + 1];
	align_lexicon in;
} lexicon;

static void lexicon_init(lexicon *x, kf_rng *rng, uint32_t letters, uint32_t longest, bool discount)
{
	for (int s = 0; s < 2; s++) {
		uint32_t at = 0;

		for (int w = 0; w < WORDS; w++) {
			uint32_t len = (uint32_t)kf_rng_below(rng,
				w % 10 == 0 ? longest : w % 10 == 1 ? 1 : longest < 12 ? longest : 12);

			if (longest > 65 && w == 2) len = 64;
			if (longest > 65 && w == 3) len = 65;
			x->off[s][w] = at;
			for (uint32_t i = 0; i < len; i++) x->text[s][at++] = (uint32_t)kf_rng_below(rng, letters);
		}
		x->off[s][WORDS] = at;
	}
	x->in = (align_lexicon){ .a = { WORDS, x->off[0], x->text[0] }, .b = { WORDS, x->off[1], x->text[1] },
		.discount = discount };
}

static uint32_t plain_cost(const lexicon *x, int32_t i, int32_t j)
{
	const uint32_t *a = x->text[0] + x->off[0][i], *b = x->text[1] + x->off[1][j];
	uint32_t na = x->off[0][i + 1] - x->off[0][i], nb = x->off[1][j + 1] - x->off[1][j],
		d = plain_edit(a, na, b, nb);

	if (!x->in.discount) return d;
	return plain_contains(b, nb, a, na) || plain_contains(a, na, b, nb) ? d : 10 * d;
}

/* Lengths up to 200: past the one machine word, and empty words. Twice: the second answer is the remembered
 * one. */
static void edit_distance(void **state)
{
	static lexicon x;
	int32_t ids[WORDS];
	uint32_t cost[WORDS];
	uint8_t least[WORDS];
	kf_arena arena;
	kf_rng rng;

	(void)state;
	kf_arena_init(&arena);
	kf_rng_seed(&rng, 1);
	for (int i = 0; i < WORDS; i++) ids[i] = WORDS - 1 - i;
	for (int round = 0; round < 16; round++) {
		align_costs *c;

		lexicon_init(&x, &rng, 2 + (uint32_t)(round % 4) * 8, round < 8 ? 200 : 8, round % 2);
		assert_non_null(c = align_costs_init(&x.in, ids, WORDS, ids, WORDS, &arena));
		align_costs_least(c, least);
		for (int i = 0; i < WORDS; i++) {
			uint32_t lowest = UINT32_MAX;

			for (int twice = 0; twice < 3; twice++) {
				uint32_t lo = twice == 0 ? 20 : 0, hi = twice == 0 ? 40 : WORDS - 1;

				align_costs_row(c, (uint32_t)i, lo, hi, cost);
				for (uint32_t j = lo; j <= hi; j++) assert_int_equal(cost[j], plain_cost(&x, ids[i], ids[j]));
			}
			for (int j = 0; j < WORDS; j++) lowest = cost[j] < lowest ? cost[j] : lowest;
			assert_int_equal(least[i], lowest > 0);
		}
		kf_arena_reset(&arena);
	}
	kf_arena_release(&arena);
}

/* The recurrence with the ties written out, on a whole table. */
static uint64_t plain_warp(const lexicon *x, const int32_t *a, uint32_t n, const int32_t *b, uint32_t m,
	align_ties ties, align_pair *pairs, uint32_t *n_pairs)
{
	double *d = malloc((size_t)n * m * sizeof *d), total;
	static uint32_t cost[WORDS][WORDS];
	uint32_t i, j, k = 0;

	for (int s = 0; s < WORDS; s++)
		for (int t = 0; t < WORDS; t++) cost[s][t] = plain_cost(x, s, t);
	for (i = 0; i < n; i++) {
		for (j = 0; j < m; j++) {
			double best = i == 0 && j == 0 ? 0 : 1e30;

			if (i && j && d[(size_t)(i - 1) * m + j - 1] < best) best = d[(size_t)(i - 1) * m + j - 1];
			if (i && d[(size_t)(i - 1) * m + j] < best) best = d[(size_t)(i - 1) * m + j];
			if (j && d[(size_t)i * m + j - 1] < best) best = d[(size_t)i * m + j - 1];
			d[(size_t)i * m + j] = best + cost[a[i]][b[j]];
		}
	}
	for (i = n - 1, j = m - 1;;) {
		double diag = i && j ? d[(size_t)(i - 1) * m + j - 1] : 1e30, up = i ? d[(size_t)(i - 1) * m + j] : 1e30;
		double left = j ? d[(size_t)i * m + j - 1] : 1e30;

		pairs[k++] = (align_pair){ i, j };
		if (i == 0 && j == 0) break;
		if (diag <= up && diag <= left) i--, j--;
		else if (ties == ALIGN_UP_FIRST ? up <= left : up < left) i--;
		else j--;
	}
	*n_pairs = k;
	total = d[(size_t)n * m - 1];
	free(d);
	return (uint64_t)total;
}

static void same_as_plain(lexicon *x, const int32_t *a, uint32_t n, const int32_t *b, uint32_t m,
	const uint32_t *at, const uint32_t *bt, uint32_t band, uint32_t block, int *tried)
{
	align_pair *want = malloc(((size_t)n + m) * sizeof *want), *got;
	uint32_t n_want, n_got;
	kf_arena arena;
	kf_err err = { 0 };

	kf_arena_init(&arena);
	for (int ties = 0; ties < 2; ties++) {
		uint64_t total, best = plain_warp(x, a, n, b, m, (align_ties)ties, want, &n_want);
		align_seq sa = { .ids = a, .at = at, .n = n }, sb = { .ids = b, .at = bt, .n = m };

		if (align_warp_sized(&x->in, &sa, &sb, (align_ties)ties, band, block, &arena, &got, &n_got, &total, tried,
			&err) != KF_OK)
			fail_msg("%s", err.text);
		assert_true(total == best);
		assert_int_equal(n_got, n_want);
		for (uint32_t k = 0; k < n_got; k++) {
			assert_int_equal(got[k].a, want[n_want - 1 - k].a);
			assert_int_equal(got[k].b, want[n_want - 1 - k].b);
		}
	}
	free(want);
	kf_arena_release(&arena);
}

/* Anything with anything: mostly the band does not do and everything is computed. */
static void against_plain(void **state)
{
	enum { MAX = 60 };
	static lexicon x;
	kf_rng rng;

	(void)state;
	kf_rng_seed(&rng, 2);
	for (int round = 0; round < 400; round++) {
		uint32_t n = 1 + (uint32_t)kf_rng_below(&rng, MAX), m = 1 + (uint32_t)kf_rng_below(&rng, MAX),
			few = 2 + (uint32_t)round % 58;
		int32_t a[MAX], b[MAX];

		lexicon_init(&x, &rng, 1 + (uint32_t)(round % 3), 2 + (uint32_t)round % 7, round % 2);
		for (uint32_t i = 0; i < n; i++) a[i] = (int32_t)kf_rng_below(&rng, few);
		for (uint32_t j = 0; j < m; j++) b[j] = (int32_t)kf_rng_below(&rng, few);
		same_as_plain(&x, a, n, b, m, NULL, NULL, 1 + (uint32_t)round % 3, 1 + (uint32_t)round % 200, NULL);
	}
}

/* Two cuts of one text, as in earnest: words of the second vocabulary are those of the first, and some of the
 * first's are two of the second's, some pairs of it are one. Bands of all widths, blocks of a row and of
 * many. */
static void cuts_of_one_text(void **state)
{
	enum { MAX = 700 };
	static lexicon x;
	static const uint32_t widths[] = { 1, 2, 5, 16, 64, 500 };
	kf_rng rng;
	int narrow = 0, runs = 0;

	(void)state;
	kf_rng_seed(&rng, 3);
	for (int round = 0; round < 60; round++) {
		uint32_t n = 200 + (uint32_t)kf_rng_below(&rng, MAX / 2 - 200), m = 0, at[MAX + 1] = { 0 },
			bt[2 * MAX + 1] = { 0 }, pos = 0;
		int32_t a[MAX], b[2 * MAX];
		int tried = 0;

		lexicon_init(&x, &rng, 26, 6 + (uint32_t)round % 5, round % 2);
		/* the second vocabulary: the first's words, the last 20 cut in two */
		memcpy(x.text[1], x.text[0], sizeof x.text[0]);
		memcpy(x.off[1], x.off[0], sizeof x.off[0]);
		for (int w = 40; w < 60; w += 2)
			x.off[1][w + 1] = x.off[1][w] + (x.off[1][w + 2] - x.off[1][w]) / 2;
		for (uint32_t i = 0; i < n; i++) {
			a[i] = (int32_t)kf_rng_below(&rng, 60);
			at[i] = pos;
			b[m] = a[i];
			bt[m++] = pos++;
			if (a[i] >= 40 && a[i] % 2 == 0) {
				b[m] = a[i] + 1;
				bt[m++] = pos++;
				/* the first text may have the other half too, or not */
				if (i + 1 < n && kf_rng_below(&rng, 2)) {
					a[++i] = b[m - 1];
					at[i] = pos - 1;
				}
			}
		}
		at[n] = bt[m] = pos;
		same_as_plain(&x, a, n, b, m, round % 3 ? at : NULL, bt, widths[round % 6], round % 4 ? 1u << 20 : 3000,
			&tried);
		/* the bound is worth something: a band of 129 columns at most does where there are 300 and more */
		if (widths[round % 6] == 64) runs++, narrow += tried == 1;
	}
	assert_true(2 * narrow > runs);
}

/* a = the cat s, b = the ca ts: costs the/the 0, the/ca 3, the/ts 2, cat/the 3, cat/ca 1, cat/ts 2, s/the 3,
 * s/ca 2, s/ts 1. Best: the-the, cat-ca, s-ts, 2 in all. */
static void by_hand(void **state)
{
	static const char *const words[2][6] = { { "the", "cat", "s", "x", "zx", "xy" },
		{ "the", "ca", "ts", "x", "xy", "zx" } };
	static const int32_t seq[] = { 0, 1, 2 }, same[] = { 3, 3, 3 };
	static lexicon x;
	align_pair *p;
	uint32_t n;
	uint64_t total;
	kf_arena arena;
	kf_rng rng;
	kf_err err = { 0 };

	(void)state;
	kf_rng_seed(&rng, 4);
	lexicon_init(&x, &rng, 2, 2, false);
	for (int s = 0; s < 2; s++) {
		uint32_t at = 0;

		for (int w = 0; w < 6; w++) {
			x.off[s][w] = at;
			for (const char *c = words[s][w]; *c; c++) x.text[s][at++] = (uint32_t)*c;
		}
		x.off[s][6] = at;
	}
	kf_arena_init(&arena);
	align_seq a = { .ids = seq, .n = 3 }, b = { .ids = seq, .n = 3 };
	assert_int_equal(align_warp(&x.in, &a, &b, ALIGN_UP_FIRST, &arena, &p, &n, &total, &err), KF_OK);
	assert_int_equal(total, 2);
	assert_int_equal(n, 3);
	for (uint32_t k = 0; k < n; k++) assert_true(p[k].a == k && p[k].b == k);
	/* One token against three. */
	a.n = 1;
	assert_int_equal(align_warp(&x.in, &a, &b, ALIGN_UP_FIRST, &arena, &p, &n, &total, &err), KF_OK);
	assert_int_equal(total, 5);
	assert_int_equal(n, 3);
	for (uint32_t k = 0; k < n; k++) assert_true(p[k].a == 0 && p[k].b == k);
	/* All costs 0, 2 by 3: going back from (1,2) the diagonal wins: (0,1), then left (0,0). */
	a = (align_seq){ .ids = same, .n = 2 };
	b = (align_seq){ .ids = same, .n = 3 };
	for (int ties = 0; ties < 2; ties++) {
		assert_int_equal(align_warp(&x.in, &a, &b, (align_ties)ties, &arena, &p, &n, NULL, &err), KF_OK);
		assert_int_equal(n, 3);
		assert_true(p[1].a == 0 && p[1].b == 1 && p[2].a == 1 && p[2].b == 2);
	}
	/* x cat against ca x: x-ca 2, x-x 0, cat-ca 1, cat-x 3: from the end the diagonal 2 and up 2 are equal. */
	static const int32_t xc[] = { 3, 1 }, cx[] = { 1, 3 };
	a = (align_seq){ .ids = xc, .n = 2 };
	b = (align_seq){ .ids = cx, .n = 2 };
	assert_int_equal(align_warp(&x.in, &a, &b, ALIGN_UP_FIRST, &arena, &p, &n, &total, &err), KF_OK);
	assert_int_equal(total, 5);
	assert_int_equal(n, 2);
	/* x zx xy against x xy zx: least costs to (1,1) are 2, to (1,2) and (2,1) both 1: the rules part at (2,2). */
	static const int32_t abc[] = { 3, 4, 5 };
	a = b = (align_seq){ .ids = abc, .n = 3 };
	for (int ties = 0; ties < 2; ties++) {
		bool up = ties == ALIGN_UP_FIRST;

		assert_int_equal(align_warp(&x.in, &a, &b, (align_ties)ties, &arena, &p, &n, &total, &err), KF_OK);
		assert_int_equal(total, 3);
		assert_int_equal(n, 4);
		assert_true(p[1].a == (up ? 0 : 1) && p[1].b == (up ? 1 : 0));
		assert_true(p[2].a == (up ? 1 : 2) && p[2].b == (up ? 2 : 1));
	}
	assert_int_equal(align_warp(&x.in, &(align_seq){ .n = 1u << 29 }, &b, ALIGN_UP_FIRST, &arena, &p, &n, NULL,
		&err), KF_EUNSUPPORTED);
	kf_arena_release(&arena);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(edit_distance),
		cmocka_unit_test(by_hand),
		cmocka_unit_test(against_plain),
		cmocka_unit_test(cuts_of_one_text),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
