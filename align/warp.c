#include "align/warp.h"

#include <string.h>

/* ---- edit distance ---- */

/* The recurrence as everybody writes it; row has room for nb + 1. */
static uint32_t edit_plain(const uint32_t *a, uint32_t na, const uint32_t *b, uint32_t nb, uint32_t *row)
{
	for (uint32_t j = 0; j <= nb; j++) row[j] = j;
	for (uint32_t i = 1; i <= na; i++) {
		uint32_t diag = row[0];

		row[0] = i;
		for (uint32_t j = 1; j <= nb; j++) {
			uint32_t up = row[j], best = diag + (a[i - 1] != b[j - 1]);

			if (up + 1 < best) best = up + 1;
			if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
			row[j] = best;
			diag = up;
		}
	}
	return row[nb];
}

/* na in 1..64; peq[c]: which places of a hold symbol c. */
static inline uint32_t edit_myers(const uint64_t *peq, uint32_t na, const uint32_t *b, uint32_t nb)
{
	uint64_t pv = ~0ull, mv = 0, top = 1ull << (na - 1);
	uint32_t score = na;

	for (uint32_t j = 0; j < nb; j++) {
		uint64_t eq = peq[b[j]], xv = eq | mv, xh = (((eq & pv) + pv) ^ pv) | eq;
		uint64_t ph = mv | ~(xh | pv), mh = pv & xh;

		score += (ph & top) != 0;
		score -= (mh & top) != 0;
		ph = (ph << 1) | 1;
		mh <<= 1;
		pv = mh | ~(xv | ph);
		mv = ph & xv;
	}
	return score;
}

kf_status align_edit_costs(const align_words *a, const align_words *b, uint32_t symbols, uint16_t *cost,
	kf_arena *arena, kf_err *err)
{
	uint64_t *peq = KF_ARENA_NEW(arena, uint64_t, (size_t)symbols + 1);
	uint32_t longest = 0, *row;

	for (uint32_t j = 0; j < b->n; j++) {
		uint32_t len = b->off[j + 1] - b->off[j];

		if (len > longest) longest = len;
	}
	row = KF_ARENA_NEW(arena, uint32_t, (size_t)longest + 1);
	if (!peq || !row) return kf_fail(err, KF_ENOMEM, "no memory for edit distances");
	memset(peq, 0, ((size_t)symbols + 1) * sizeof *peq);

	for (uint32_t i = 0; i < a->n; i++) {
		const uint32_t *w = a->text + a->off[i];
		uint32_t len = a->off[i + 1] - a->off[i];
		uint16_t *out = cost + (size_t)i * b->n;

		if (len <= 64)
			for (uint32_t c = 0; c < len; c++) peq[w[c]] |= 1ull << c;
		for (uint32_t j = 0; j < b->n; j++) {
			const uint32_t *x = b->text + b->off[j];
			uint32_t nx = b->off[j + 1] - b->off[j], d;

			d = len == 0 ? nx : len <= 64 ? edit_myers(peq, len, x, nx) : edit_plain(w, len, x, nx, row);
			out[j] = d < UINT16_MAX ? (uint16_t)d : UINT16_MAX;
		}
		if (len <= 64)
			for (uint32_t c = 0; c < len; c++) peq[w[c]] = 0;
	}
	return KF_OK;
}

/* ---- warping ---- */

enum { DIAG, UP, LEFT };

kf_status align_warp(const uint32_t *a, uint32_t n, const uint32_t *b, uint32_t m, const uint16_t *cost, uint32_t cols,
	int32_t *only_a, int32_t *only_b, uint64_t *total, kf_arena *arena, kf_err *err)
{
	uint8_t *dir;       /* (n, m) where the cheapest way to a cell comes from */
	uint32_t *row, i, j;
	uint64_t end;

	if ((uint64_t)n * m > ALIGN_WARP_MAX)
		return kf_fail(err, KF_EUNSUPPORTED, "warping %u onto %u tokens takes too much memory: cut documents shorter "
			"(kf-prepare --doc-bytes), or use --method byte", n, m);
	dir = kf_arena_alloc(arena, (size_t)n * m, 1);
	row = KF_ARENA_NEW(arena, uint32_t, m);
	if (!dir || !row) return kf_fail(err, KF_ENOMEM, "no memory to warp %u onto %u tokens", n, m);

	for (i = 0; i < n; i++) {
		const uint16_t *c = cost + (size_t)a[i] * cols;
		uint8_t *d = dir + (size_t)i * m;

		if (i == 0) {
			row[0] = c[b[0]];
			for (j = 1; j < m; j++) {
				row[j] = row[j - 1] + c[b[j]];
				d[j] = LEFT;
			}
			continue;
		}
		uint32_t diag = row[0], left = row[0] + c[b[0]];

		row[0] = left;
		d[0] = UP;
		for (j = 1; j < m; j++) {
			uint32_t up = row[j], best = up < diag ? up : diag;
			uint8_t from = up < diag;   /* DIAG 0, UP 1 */

			from = left < best ? LEFT : from;
			best = left < best ? left : best;
			left = best + c[b[j]];
			row[j] = left;
			d[j] = from;
			diag = up;
		}
	}
	end = row[m - 1];
	if (total) *total = end;

	for (i = 0; i < n; i++) only_a[i] = -2;
	for (j = 0; j < m; j++) only_b[j] = -2;
	i = n - 1;
	j = m - 1;
	for (;;) {
		only_a[i] = only_a[i] == -2 ? (int32_t)j : -1;
		only_b[j] = only_b[j] == -2 ? (int32_t)i : -1;
		if (i == 0 && j == 0) break;
		switch (i == 0 ? LEFT : j == 0 ? UP : dir[(size_t)i * m + j]) {
		case DIAG: i--; j--; break;
		case UP: i--; break;
		default: j--; break;
		}
	}
	return KF_OK;
}
