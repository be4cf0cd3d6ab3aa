/* Predicting candidates from earlier ones. What may come after a token is much what came after it the last time, so most
 * candidates of a position are told by a place in a short list instead of an id:
 *
 *   slots  0 .. 9    the best of the last position that followed the same two tokens
 *         16 .. 47   the latest of those that followed the same token, most recent position first
 *         48 .. 63   the latest of those that stood beside the same best candidate
 *
 * A place counts the slots that are filled and not yet named at this position. Encoder and decoder keep the same lists.
 *
 * A candidate that is named closes the slot that told it and those of the other lists that hold its id. A list's ids are
 * distinct where a position's candidates are, and of equal ones the first list's is open first: so only slots of later lists
 * have to be looked at, and a reader need not compare anything to know which place is next. */
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
#define KF_ROW_B 16
#define KF_ROW_A_AT 16
#define KF_ROW_B_AT 48
#define KF_ROW_A_TABLE 4096   /* and of B */
#define KF_ROW_C_TABLE 8192
#define KF_NO_TOKEN 0xffffffffu /* before the first token of a document; an empty slot */

/* Each of whole cache lines; empty slots, at the end, are KF_NO_TOKEN. */
typedef struct { uint32_t id[KF_ROW_C], one, two, n, spare[3]; } kf_row_list_c;
typedef struct { uint32_t id[KF_ROW_A]; } kf_row_list_a;
typedef struct { uint32_t id[KF_ROW_B]; } kf_row_list_b;

typedef struct {
	_Alignas(64) uint32_t slot[KF_ROW_SLOTS];
	uint64_t open;             /* slots that can be named */
	kf_row_list_a *a, *cur_a;
	kf_row_list_b *b, *cur_b;
	kf_row_list_c *c, *cur_c;
	uint32_t one, two;
	bool known;                /* the same two tokens came before */
	uint64_t twin[KF_ROW_C];   /* when known: the slots of A that hold the same id */
} kf_rows;

/* false on no memory */
bool kf_rows_init(kf_rows *r);
void kf_rows_reset(kf_rows *r); /* forget, for a new block; also before the first */
void kf_rows_release(kf_rows *r);

static inline uint32_t kf_row_hash(uint32_t id, uint32_t table)
{
	return (id * 2654435761u >> 12) & (table - 1);
}

/* Of the 16 slots from at, those that hold id, as bits from at on. */
#ifdef __AVX512F__
static inline uint64_t kf_row_line(const uint32_t *slot, unsigned at, uint32_t id)
{
	return (uint64_t)_mm512_cmpeq_epi32_mask(_mm512_set1_epi32((int)id), _mm512_load_si512(slot + at)) << at;
}
#else
static inline uint64_t kf_row_line(const uint32_t *slot, unsigned at, uint32_t id)
{
	uint32_t m = 0;

	for (unsigned i = 0; i < 16; i++) m |= (uint32_t)(slot[at + i] == id) << i;
	return (uint64_t)m << at;
}
#endif

/* Slots that hold id. */
static inline uint64_t kf_row_match(const uint32_t slot[KF_ROW_SLOTS], uint32_t id)
{
	return kf_row_line(slot, 0, id) | kf_row_line(slot, 16, id) | kf_row_line(slot, 32, id) | kf_row_line(slot, 48, id);
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

/* The next position will follow token one, which followed two: have its lists at hand. They are spread over more
 * memory than the caches near the core hold. */
static inline void kf_row_prefetch(const kf_rows *r, uint32_t one, uint32_t two)
{
	const kf_row_list_a *a = &r->a[kf_row_hash(one, KF_ROW_A_TABLE)];

	__builtin_prefetch(a, 1);
	__builtin_prefetch((const char *)a + 64, 1);
	__builtin_prefetch(&r->c[kf_row_hash(one * 31 + two, KF_ROW_C_TABLE)], 1);
}

/* A position that follows token one, which followed two. */
static inline void kf_row_begin(kf_rows *r, uint32_t one, uint32_t two)
{
	const uint64_t a_slots = ((1ull << KF_ROW_A) - 1) << KF_ROW_A_AT;

	r->cur_a = &r->a[kf_row_hash(one, KF_ROW_A_TABLE)];
	r->cur_c = &r->c[kf_row_hash(one * 31 + two, KF_ROW_C_TABLE)];
	r->cur_b = NULL;
	r->one = one;
	r->two = two;
	memcpy(r->slot, r->cur_c, 64);
	memcpy(r->slot + KF_ROW_A_AT, r->cur_a->id, sizeof r->cur_a->id);
	r->known = r->cur_c->n && r->cur_c->one == one && r->cur_c->two == two;
	r->open = a_slots & ~(kf_row_line(r->slot, 16, KF_NO_TOKEN) | kf_row_line(r->slot, 32, KF_NO_TOKEN));
	if (r->known) r->open |= (1ull << r->cur_c->n) - 1;
}

/* What is at a place? false when there are not so many. */
static inline bool kf_row_at(const kf_rows *r, unsigned place, uint32_t *id)
{
	if (place >= (unsigned)__builtin_popcountll(r->open)) return false;
	*id = r->slot[kf_nth_bit(r->open, place)];
	return true;
}

/* The position's best candidate, named before, is id: the list of what stood beside it opens. */
static inline void kf_row_best(kf_rows *r, uint32_t id)
{
	r->cur_b = &r->b[kf_row_hash(id, KF_ROW_A_TABLE)];
	memcpy(r->slot + KF_ROW_B_AT, r->cur_b->id, sizeof r->cur_b->id);
	r->open |= 0xffffull << KF_ROW_B_AT &
		~(kf_row_line(r->slot, KF_ROW_B_AT, KF_NO_TOKEN) | kf_row_line(r->slot, KF_ROW_B_AT, id));
}

/* A row's candidates: ids has k places and gets the ids; those missed come from miss(arg). false: there is no such place.
 * Inlined, so that what is open stays in registers: from one place to the next it is all that is waited for. */
static inline __attribute__((always_inline)) bool kf_row_read(kf_rows *r, const bool known, uint32_t *ids, uint32_t k,
	uint32_t (*miss)(void *), void *arg)
{
	uint64_t open = r->open, beside = 0;
	bool ok = true;

	if (known)
		for (uint32_t i = 0; i < r->cur_c->n; i++) r->twin[i] = kf_row_line(r->slot, 16, r->slot[i]) | kf_row_line(r->slot, 32, r->slot[i]);
	for (uint32_t i = 0; i < k; i++) {
		uint32_t place = ids[i], n = (uint32_t)__builtin_popcountll(open), id;

		if (place < n) {
			unsigned s = kf_nth_bit(open, place);

			id = r->slot[s];
			open &= ~(1ull << s);
			if (known && s < KF_ROW_C) open &= ~r->twin[s];
			beside &= ~kf_row_line(r->slot, KF_ROW_B_AT, id);
		} else if (place == KF_ROW_MISS) {
			id = miss(arg);
		} else if (place - n < (uint32_t)__builtin_popcountll(beside)) {
			unsigned s = kf_nth_bit(beside, place - n);

			id = r->slot[s];
			beside &= ~(1ull << s);
		} else {
			ok = false;
			id = 0;
		}
		ids[i] = id;
		if (i > 0) continue;
		r->open = 0;
		kf_row_best(r, id);
		beside = r->open;
	}
	r->open = open | beside;
	return ok;
}

/* Writing one of a row's candidates: its place, or KF_ROW_MISS. */
static inline unsigned kf_row_put(kf_rows *r, uint32_t id)
{
	uint64_t all = kf_row_match(r->slot, id), m = all & r->open, first = m & -m;
	uint64_t later = first < 1ull << KF_ROW_A_AT ? ~0ull << KF_ROW_A_AT : first < 1ull << KF_ROW_B_AT ? ~0ull << KF_ROW_B_AT : 0;
	unsigned place = m ? (unsigned)__builtin_popcountll(r->open & (first - 1)) : KF_ROW_MISS;

	r->open &= ~(first | (all & later));
	return place;
}

/* id has been named, besides the candidates. */
static inline void kf_row_named(kf_rows *r, uint32_t id)
{
	r->open &= ~kf_row_match(r->slot, id);
}

/* Where is it? Its place, or KF_ROW_MISS; and it has been named. */
static inline unsigned kf_row_take(kf_rows *r, uint32_t id)
{
	uint64_t all = kf_row_match(r->slot, id), m = all & r->open;
	unsigned place = m ? (unsigned)__builtin_popcountll(r->open & ((m & -m) - 1)) : KF_ROW_MISS;

	r->open &= ~all;
	return place;
}

/* All k candidates are named: they go in front of the lists. */
void kf_row_end(kf_rows *r, const uint32_t *ids, uint32_t k);

#endif
