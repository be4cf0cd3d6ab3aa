#include "common/store/rows.h"

#include "common/base/mem.h"

bool kf_rows_init(kf_rows *r)
{
	memset(r, 0, sizeof *r);
	r->a = kf_zalloc(KF_ROW_A_TABLE, sizeof *r->a);
	r->b = kf_zalloc(KF_ROW_A_TABLE, sizeof *r->b);
	r->c = kf_zalloc(KF_ROW_C_TABLE, sizeof *r->c);
	return r->a && r->b && r->c;
}

void kf_rows_reset(kf_rows *r)
{
	for (int i = 0; i < KF_ROW_A_TABLE; i++) r->a[i].n = r->b[i].n = 0;
	for (int i = 0; i < KF_ROW_C_TABLE; i++) r->c[i].n = 0;
}

void kf_rows_release(kf_rows *r)
{
	kf_free(r->a);
	kf_free(r->b);
	kf_free(r->c);
	memset(r, 0, sizeof *r);
}

/* list = ids, then those of its old slots that are still open, in order, as many as fit. */
static uint32_t renew(uint32_t *list, uint32_t cap, const uint32_t *ids, uint32_t k, const uint32_t *slot, uint64_t open)
{
	uint32_t n = k < cap ? k : cap;

	memcpy(list, ids, n * sizeof *ids);
	for (; open && n < cap; open &= open - 1) list[n++] = slot[__builtin_ctzll(open)];
	return n;
}

void kf_row_end(kf_rows *r, const uint32_t *ids, uint32_t k)
{
	const uint64_t a_mask = ((1ull << KF_ROW_A) - 1) << KF_ROW_C;
	/* so many of a long row only that some older ones stay */
	uint32_t most = k < 22 ? k : 22;

	r->cur_a->n = renew(r->cur_a->id, KF_ROW_A, ids, most, r->slot + KF_ROW_C, (r->open & a_mask) >> KF_ROW_C);
	if (r->cur_b && k > 1)
		r->cur_b->n = renew(r->cur_b->id, KF_ROW_B, ids + 1, most - 1, r->slot + KF_ROW_C + KF_ROW_A,
			r->open >> (KF_ROW_C + KF_ROW_A));
	r->cur_c->one = r->one;
	r->cur_c->two = r->two;
	r->cur_c->n = k < KF_ROW_C ? k : KF_ROW_C;
	memcpy(r->cur_c->id, ids, r->cur_c->n * sizeof *ids);
}
