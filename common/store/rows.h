/* Predicting candidates from earlier ones. What may come after a token is much what came after it the last time, so most
 * candidates of a position are told by a place in a short list instead of an id:
 *
 *   slots  0 .. 9    the best of the last position that followed the same two tokens
 *         10 .. 41   the latest of those that followed the same token, most recent position first
 *         42 .. 61   the latest of those that stood beside the same best candidate
 *
 * A place counts the slots that are filled and not yet named at this position. Encoder and decoder keep the same lists. */
#ifndef KF_STORE_ROWS_H
#define KF_STORE_ROWS_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#ifdef __AVX512F__
#include <immintrin.h>
#endif

#define KF_ROW_SLOTS 64
#define KF_ROW_MISS 255u      /* the place of what is in no slot */
#define KF_ROW_C 10
#define KF_ROW_A 32
#define KF_ROW_B 20
#define KF_ROW_A_TABLE 4096
#define KF_ROW_C_TABLE 8192
#define KF_NO_TOKEN 0xffffffffu /* before the first token of a document */

typedef struct { uint32_t n, id[KF_ROW_A]; uint32_t pad[15]; } kf_row_list_a; /* 192 bytes: three cache lines */
typedef struct { uint32_t n, id[KF_ROW_B]; } kf_row_list_b;
typedef struct { uint32_t one, two, n, id[KF_ROW_C]; } kf_row_list_c;

typedef struct {
	uint32_t slot[KF_ROW_SLOTS];
	uint64_t open;             /* slots that can be named */
	kf_row_list_a *a, *cur_a;
	kf_row_list_b *b, *cur_b;
	kf_row_list_c *c, *cur_c;
	uint32_t one, two;
	bool known;                /* the same two tokens came before */
} kf_rows;

/* false on no memory */
bool kf_rows_init(kf_rows *r);
void kf_rows_reset(kf_rows *r); /* forget, for a new block */
void kf_rows_release(kf_rows *r);

static inline uint32_t kf_row_hash(uint32_t id, uint32_t table)
{
	return (id * 2654435761u >> 12) & (table - 1);
}

/* Slots that hold id. */
static inline uint64_t kf_row_match(const uint32_t slot[KF_ROW_SLOTS], uint32_t id)
{
#ifdef __AVX512F__
	__m512i v = _mm512_set1_epi32((int)id);
	uint64_t m = _mm512_cmpeq_epi32_mask(v, _mm512_loadu_si512(slot));

	m |= (uint64_t)_mm512_cmpeq_epi32_mask(v, _mm512_loadu_si512(slot + 16)) << 16;
	m |= (uint64_t)_mm512_cmpeq_epi32_mask(v, _mm512_loadu_si512(slot + 32)) << 32;
	return m | (uint64_t)_mm512_cmpeq_epi32_mask(v, _mm512_loadu_si512(slot + 48)) << 48;
#else
	uint64_t m = 0;

	for (int i = 0; i < KF_ROW_SLOTS; i++) m |= (uint64_t)(slot[i] == id) << i;
	return m;
#endif
}

/* The n-th (0-based) set bit of mask, which has more than n. */
static inline unsigned kf_nth_bit(uint64_t mask, unsigned n)
{
#ifdef __BMI2__
	return (unsigned)__builtin_ctzll(__builtin_ia32_pdep_di(1ull << n, mask));
#else
	while (n--) mask &= mask - 1;
	return (unsigned)__builtin_ctzll(mask);
#endif
}

/* A position that follows token one, which followed two. */
static inline void kf_row_begin(kf_rows *r, uint32_t one, uint32_t two)
{
	r->cur_a = &r->a[kf_row_hash(one, KF_ROW_A_TABLE)];
	r->cur_c = &r->c[kf_row_hash(one * 31 + two, KF_ROW_C_TABLE)];
	r->cur_b = NULL;
	r->one = one;
	r->two = two;
	r->known = r->cur_c->n && r->cur_c->one == one && r->cur_c->two == two;
	r->open = 0;
	if (r->known) {
		memcpy(r->slot, r->cur_c->id, sizeof r->cur_c->id);
		r->open = (1ull << r->cur_c->n) - 1;
	}
	memcpy(r->slot + KF_ROW_C, r->cur_a->id, sizeof r->cur_a->id);
	r->open |= ((1ull << r->cur_a->n) - 1) << KF_ROW_C;
}

/* Where is id? Its place, or KF_ROW_MISS. */
static inline unsigned kf_row_place(const kf_rows *r, uint32_t id)
{
	uint64_t m = kf_row_match(r->slot, id) & r->open;

	return m ? (unsigned)__builtin_popcountll(r->open & ((m & -m) - 1)) : KF_ROW_MISS;
}

/* What is at a place? false when there are not so many. */
static inline bool kf_row_at(const kf_rows *r, unsigned place, uint32_t *id)
{
	if (place >= (unsigned)__builtin_popcountll(r->open)) return false;
	*id = r->slot[kf_nth_bit(r->open, place)];
	return true;
}

/* The position's candidate number rank is id. */
static inline void kf_row_named(kf_rows *r, uint32_t id, uint32_t rank)
{
	if (rank == 0) {
		r->cur_b = &r->b[kf_row_hash(id, KF_ROW_A_TABLE)];
		memcpy(r->slot + KF_ROW_C + KF_ROW_A, r->cur_b->id, sizeof r->cur_b->id);
		r->open |= ((1ull << r->cur_b->n) - 1) << (KF_ROW_C + KF_ROW_A);
	}
	r->open &= ~kf_row_match(r->slot, id);
}

/* All k candidates are named: they go in front of the lists. */
void kf_row_end(kf_rows *r, const uint32_t *ids, uint32_t k);

#endif
