#include "common/store/rows.h"

#include "common/base/mem.h"

bool kf_rows_init(kf_rows *r)
{
	memset(r, 0, sizeof *r);
	r->a = kf_alloc(KF_ROW_A_TABLE, sizeof *r->a);
	r->b = kf_alloc(KF_ROW_A_TABLE, sizeof *r->b);
	r->c = kf_alloc(KF_ROW_C_TABLE, sizeof *r->c);
	return r->a && r->b && r->c;
}

void kf_rows_reset(kf_rows *r)
{
	memset(r->slot, 0xff, sizeof r->slot);
	memset(r->a, 0xff, KF_ROW_A_TABLE * sizeof *r->a);
	memset(r->b, 0xff, KF_ROW_A_TABLE * sizeof *r->b);
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
static void renew(uint32_t *list, uint32_t cap, const uint32_t *ids, uint32_t n, const uint32_t *slot, uint64_t open)
{
#ifdef __AVX512F__
	const __m512i none = _mm512_set1_epi32(-1);
	uint64_t room;

	for (uint32_t i = 0; i < cap; i += 16) {
		__mmask16 m = (__mmask16)(n >= i + 16 ? 0xffff : n > i ? (1u << (n - i)) - 1 : 0);

		_mm512_storeu_si512(list + i, _mm512_mask_loadu_epi32(none, m, ids + i));
	}
	for (uint32_t i = 0; i < cap && n < cap; i += 16, open >>= 16) {
		__mmask16 m = (__mmask16)open;

		/* the older ones no longer fit */
		room = (1ull << (cap - n)) - 1;
		_mm512_mask_storeu_epi32(list + n, (__mmask16)room, _mm512_mask_compress_epi32(none, m, _mm512_loadu_si512(slot + i)));
		n += (uint32_t)__builtin_popcount(m);
	}
#else
	memcpy(list, ids, n * sizeof *ids);
	for (; open && n < cap; open &= open - 1) list[n++] = slot[__builtin_ctzll(open)];
	for (; n < cap; n++) list[n] = KF_NO_TOKEN;
#endif
}

void kf_row_end(kf_rows *r, const uint32_t *ids, uint32_t k)
{
	/* so many of a long row only that some older ones stay */
	uint32_t most = k < 22 ? k : 22, beside = k < 12 ? k : 12;

	renew(r->cur_a->id, KF_ROW_A, ids, most, r->slot + KF_ROW_A_AT, r->open >> KF_ROW_A_AT & 0xffffffff);
	if (r->cur_b && k > 1)
		renew(r->cur_b->id, KF_ROW_B, ids + 1, beside - 1, r->slot + KF_ROW_B_AT, r->open >> KF_ROW_B_AT);
	r->cur_c->one = r->one;
	r->cur_c->two = r->two;
	r->cur_c->n = k < KF_ROW_C ? k : KF_ROW_C;
	memcpy(r->cur_c->id, ids, r->cur_c->n * sizeof *ids);
}
