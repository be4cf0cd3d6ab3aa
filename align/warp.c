#include "align/warp.h"
#include "align/cost.h"

#include <math.h>
#include <string.h>

enum { DIAG, UP, LEFT };

#define NEVER (UINT32_MAX / 2)       /* a cost that nothing reaches, with room to add to */
/* Tokens to either side; with less the bound rarely does. */
#define FIRST_BAND(n) ((n) < 6144 ? (n) / 6 + 16 : 1024)
#define MOST_TOKENS (1u << 28)
#define BLOCK_BYTES (8u << 20)       /* of directions, while the rows between blocks are few */

typedef struct {
	align_costs *costs;
	uint32_t n, m;
	align_ties ties;
	uint8_t *least;          /* (n) what a cell of this row costs at least, wherever it is */
	/* the band */
	uint32_t *lo, *hi;       /* (n) first and last column of each row; neither ever falls */
	uint32_t width, block;   /* columns of the widest row, rows of a block */
	uint32_t block_bytes;
	/* values */
	uint32_t *row[2];        /* (1 + m) and one before: of even rows, of odd ones (one_row) */
	uint32_t *left, *right;  /* (n) no cell of the row beside the band costs less */
	uint32_t *cost;          /* (m) of the row in hand */
	uint8_t *dir;            /* (block, width) */
	uint32_t *kept;          /* (blocks, width) the row before each block */
} warp;

/* ---- the band ---- */

static uint32_t *lengths(const align_words *w, const align_seq *s, kf_arena *arena)
{
	uint32_t *at = KF_ARENA_NEW(arena, uint32_t, (size_t)s->n + 1), len;

	if (!at) return NULL;
	at[0] = 0;
	for (uint32_t i = 0; i < s->n; i++) {
		(void)align_word(w, s->ids[i], &len);
		at[i + 1] = at[i] + len;
	}
	return at;
}

/* around: for every token of a the b tokens that begin where it begins, and before it ends. */
static void set_band(warp *w, const uint32_t *around, uint32_t wide)
{
	w->width = 0;
	for (uint32_t i = 0; i < w->n; i++) {
		uint32_t from = around[2 * i], to = around[2 * i + 1];

		w->lo[i] = i == 0 || from < wide ? 0 : from - wide;
		w->hi[i] = i == w->n - 1 || w->m - 1 - to < wide ? w->m - 1 : to + wide;
	}
	for (uint32_t i = w->n; i-- > 0;) {
		/* where many tokens begin at one byte, rows might not touch */
		if (i + 1 < w->n && w->hi[i] < w->lo[i + 1]) w->hi[i] = w->lo[i + 1];
		if (w->hi[i] - w->lo[i] + 1 > w->width) w->width = w->hi[i] - w->lo[i] + 1;
	}
}

static void find_around(const uint32_t *at, uint32_t n, const uint32_t *bt, uint32_t m, uint32_t *around)
{
	uint64_t all_a = at[n] ? at[n] : 1, all_b = bt[m] ? bt[m] : 1;
	uint32_t j = 0;

	for (uint32_t i = 0; i < n; i++) {
		while (j + 1 < m && bt[j + 1] * all_a <= at[i] * all_b) j++;
		around[2 * i] = j;
		while (j + 1 < m && bt[j + 1] * all_a < at[i + 1] * all_b) j++;
		around[2 * i + 1] = j;
	}
}

/* ---- the recurrence ---- */

static inline uint32_t less(uint32_t a, uint32_t b) { return a < b ? a : b; }

/* now[j], before[j]: the least cost up to column j of row i and of the row before; index -1 is allowed.
 * Beside the band they hold the bounds: now[lo - 1], before[was_lo - 1], before[was_hi + 1 ...]. Three
 * passes, of which only the second cannot do several columns at once. */
static void pass(uint32_t *restrict now, const uint32_t *restrict before, const uint32_t *restrict cost,
	uint32_t lo, uint32_t hi)
{
	uint32_t left = now[(int64_t)lo - 1];

	for (int64_t j = lo; j <= hi; j++) now[j] = less(before[j - 1], before[j]);
	for (int64_t j = lo; j <= hi; j++) now[j] = left = less(now[j], left) + cost[j];
}

static void directions(uint8_t *restrict dir, const uint32_t *restrict now, const uint32_t *restrict before,
	uint32_t lo, uint32_t hi, align_ties ties)
{
	uint8_t second = ties == ALIGN_UP_FIRST ? UP : LEFT, third = ties == ALIGN_UP_FIRST ? LEFT : UP;
	const uint32_t *b = before + lo, *a = now + lo;
	uint32_t n = hi - lo + 1;

	/* the third is taken where it is less than the second: compare the other way round for the other rule */
	if (ties == ALIGN_UP_FIRST)
		for (int64_t j = 0; j < n; j++)
			dir[j] = b[j - 1] <= b[j] && b[j - 1] <= a[j - 1] ? DIAG : b[j] <= a[j - 1] ? second : third;
	else
		for (int64_t j = 0; j < n; j++)
			dir[j] = b[j - 1] <= b[j] && b[j - 1] <= a[j - 1] ? DIAG : a[j - 1] <= b[j] ? second : third;
}

static void one_row(warp *w, uint32_t i, uint8_t *dir)
{
	uint32_t lo = w->lo[i], hi = w->hi[i], was_lo, was_hi, left = NEVER, right = NEVER;
	uint32_t *now = w->row[i & 1], *before = w->row[!(i & 1)];

	align_costs_row(w->costs, i, lo, hi, w->cost);
	if (i == 0) {
		for (uint32_t j = 0; j <= hi; j++) now[j] = w->cost[j] + (j ? now[j - 1] : 0);
		if (dir) memset(dir, LEFT, (size_t)hi + 1);
		now[-1] = NEVER;
		w->left[0] = NEVER;
		w->right[0] = hi + 1 < w->m ? now[hi] + w->least[0] : NEVER;
		return;
	}
	was_lo = w->lo[i - 1];
	was_hi = w->hi[i - 1];
	if (lo > 0) {
		left = w->left[i - 1];
		for (uint32_t j = was_lo; j < lo; j++) left = less(left, before[j]);
		left += w->least[i];
	}
	before[(int64_t)was_lo - 1] = w->left[i - 1];
	for (uint32_t j = was_hi + 1; j <= hi; j++) before[j] = w->right[i - 1];
	now[(int64_t)lo - 1] = left;
	pass(now, before, w->cost, lo, hi);
	if (dir) directions(dir, now, before, lo, hi, w->ties);
	if (hi + 1 < w->m) {
		right = less(w->right[i - 1], now[hi]);
		if (was_hi == hi) right = less(right, before[hi]);
		right += w->least[i];
	}
	w->left[i] = left;
	w->right[i] = right;
}

static void rows(warp *w, uint32_t from, uint32_t to, bool keep)
{
	for (uint32_t i = from; i < to; i++) one_row(w, i, keep ? w->dir + (size_t)(i - from) * w->width : NULL);
}

static void keep_row(warp *w, uint32_t block)
{
	uint32_t i = block * w->block - 1;

	memcpy(w->kept + (size_t)block * w->width, w->row[i & 1] + w->lo[i],
		(w->hi[i] - w->lo[i] + 1) * sizeof *w->kept);
}

static void restore_row(warp *w, uint32_t block)
{
	uint32_t i = block * w->block - 1;

	if (block > 0)
		memcpy(w->row[i & 1] + w->lo[i], w->kept + (size_t)block * w->width,
			(w->hi[i] - w->lo[i] + 1) * sizeof *w->kept);
}

/* The cheapest path in the band, last pair first; false: it touched the border, so that it may not be the
 * best. */
static bool walk(warp *w, align_pair *pairs, uint32_t *n_pairs, uint64_t *total)
{
	uint32_t blocks = (w->n + w->block - 1) / w->block, at = blocks - 1, i = w->n - 1, j = w->m - 1, n = 0;

	for (uint32_t k = 0; k < blocks; k++) {
		if (k > 0) keep_row(w, k);
		rows(w, k * w->block, k + 1 < blocks ? (k + 1) * w->block : w->n, k + 1 == blocks);
	}
	*total = w->row[i & 1][j];
	for (;;) {
		uint8_t d;

		if (j < w->lo[i] || j > w->hi[i]) return false;
		pairs[n++] = (align_pair){ i, j };
		if (i == 0 && j == 0) break;
		if (i / w->block != at) {
			at = i / w->block;
			restore_row(w, at);
			rows(w, at * w->block, (at + 1) * w->block, true);
		}
		d = w->dir[(size_t)(i - at * w->block) * w->width + (j - w->lo[i])];
		i -= i > 0 && d != LEFT;
		j -= j > 0 && d != UP;
	}
	*n_pairs = n;
	return true;
}

static kf_status too_long(const warp *w, kf_err *err)
{
	return kf_fail(err, KF_EUNSUPPORTED,
		"warping %u onto %u tokens takes too long: cut documents shorter (kf-prepare "
		"--doc-bytes), or use --method byte", w->n, w->m);
}

static kf_status one_band(warp *w, align_pair *pairs, uint32_t *n_pairs, uint64_t *total, bool *sure,
	kf_err *err)
{
	uint64_t cells = 0;
	uint32_t even = (uint32_t)sqrt(4.0 * w->n) + 1, fit = w->block_bytes / w->width, blocks;
	kf_status rc = KF_OK;

	for (uint32_t i = 0; i < w->n; i++) cells += w->hi[i] - w->lo[i] + 1;
	if (cells > ALIGN_WARP_CELLS) return too_long(w, err);
	w->block = fit > even ? fit : even;
	if (w->block > w->n) w->block = w->n;
	blocks = (w->n + w->block - 1) / w->block;
	w->dir = kf_alloc((size_t)w->block * w->width, 1);
	w->kept = kf_alloc((size_t)blocks * w->width, sizeof *w->kept);
	if (!w->dir || !w->kept) rc = kf_fail(err, KF_ENOMEM, "no memory to warp %u onto %u tokens", w->n, w->m);
	else *sure = walk(w, pairs, n_pairs, total);
	kf_free(w->dir);
	kf_free(w->kept);
	return rc;
}

kf_status align_warp_sized(const align_lexicon *x, const align_seq *a, const align_seq *b, align_ties ties,
	uint32_t first_band, uint32_t block_bytes, kf_arena *arena, align_pair **pairs, uint32_t *n_pairs,
	uint64_t *total, int *tried, kf_err *err)
{
	warp w = { .n = a->n, .m = b->n, .ties = ties,
		.block_bytes = block_bytes ? block_bytes : BLOCK_BYTES };
	uint32_t *around = KF_ARENA_NEW(arena, uint32_t, 2 * (size_t)a->n);
	const uint32_t *at = a->at, *bt = b->at;
	align_pair *out = KF_ARENA_NEW(arena, align_pair, (size_t)a->n + b->n);
	uint64_t sum = 0;
	bool sure = false;
	int bands = 0;
	kf_status rc;

	if (a->n > MOST_TOKENS || b->n > MOST_TOKENS) return too_long(&w, err);
	if (!at || !bt) {
		at = lengths(&x->a, a, arena);
		bt = lengths(&x->b, b, arena);
	}
	w.least = kf_arena_alloc(arena, a->n, 1);
	w.lo = KF_ARENA_NEW(arena, uint32_t, a->n);
	w.hi = KF_ARENA_NEW(arena, uint32_t, a->n);
	w.row[0] = KF_ARENA_NEW(arena, uint32_t, (size_t)b->n + 1);
	w.row[1] = KF_ARENA_NEW(arena, uint32_t, (size_t)b->n + 1);
	w.left = KF_ARENA_NEW(arena, uint32_t, a->n);
	w.right = KF_ARENA_NEW(arena, uint32_t, a->n);
	w.cost = KF_ARENA_NEW(arena, uint32_t, b->n);
	w.costs = align_costs_init(x, a->ids, a->n, b->ids, b->n, arena);
	if (!around || !out || !at || !bt || !w.least || !w.lo || !w.hi || !w.row[0] || !w.row[1] || !w.left ||
		!w.right || !w.cost ||
	    !w.costs)
		return kf_fail(err, KF_ENOMEM, "no memory to warp %u onto %u tokens", a->n, b->n);

	w.row[0]++;
	w.row[1]++;
	/* no path has more cells */
	if ((uint64_t)align_costs_most(w.costs) * ((uint64_t)a->n + b->n) >= NEVER) return too_long(&w, err);
	align_costs_least(w.costs, w.least);
	find_around(at, a->n, bt, b->n, around);
	for (uint32_t wide = first_band ? first_band : FIRST_BAND(a->n); !sure; bands++) {
		set_band(&w, around, wide);
		if ((rc = one_band(&w, out, n_pairs, &sum, &sure, err)) != KF_OK) return rc;
		if (wide < MOST_TOKENS) wide *= 4;
	}
	for (uint32_t i = 0, k = *n_pairs - 1; i < k; i++, k--) {
		align_pair swap = out[i];

		out[i] = out[k];
		out[k] = swap;
	}
	*pairs = out;
	if (total) *total = sum;
	if (tried) *tried = bands;
	return KF_OK;
}

kf_status align_warp(const align_lexicon *x, const align_seq *a, const align_seq *b, align_ties ties,
	kf_arena *arena, align_pair **pairs, uint32_t *n_pairs, uint64_t *total, kf_err *err)
{
	return align_warp_sized(x, a, b, ties, 0, 0, arena, pairs, n_pairs, total, NULL, err);
}
