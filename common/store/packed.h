/* What the packed codecs share (docs/format.md: L and D): tokens told by lists of earlier ones, lengths told by the
 * token, log-probabilities by their distance to the one before, each in a plane of its own; and the reading of
 * these planes. */
#ifndef KF_STORE_PACKED_H
#define KF_STORE_PACKED_H

#include "common/store/idtable.h"
#include "common/store/quant.h"
#include "common/store/rows.h"
#include "common/store/symbols.h"

/* symbols of log-probabilities: the distance, or */
#define KF_LP_OVER 254 /* a varint more in the plane of escapes */
#define KF_LP_INF 255
/* of labels, lengths and counts */
#define KF_OTHER 255

/* ---- what is remembered along a block ---- */

#define KF_LENGTH_TABLE 16384

typedef struct { uint32_t id, length; } kf_token_length; /* id + 1; 0: none yet */

typedef struct {
	kf_rows rows;
	kf_token_length *length; /* (KF_LENGTH_TABLE) */
} kf_token_memory;

/* Empty, for a new block; made when length is NULL (zero-initialise). false on no memory. */
bool kf_token_memory_reset(kf_token_memory *m);
void kf_token_memory_release(kf_token_memory *m);

/* The symbol of a token's length: 0 as it was last time, length + 1, or KF_OTHER and a varint. */
static inline uint8_t kf_length_symbol(kf_token_memory *m, uint32_t id, uint32_t length)
{
	kf_token_length *l = &m->length[kf_row_hash(id, KF_LENGTH_TABLE)];

	if (l->id == id + 1 && l->length == length) return 0;
	l->id = id + 1;
	l->length = length;
	return length < KF_OTHER - 1 ? (uint8_t)(length + 1) : KF_OTHER;
}

/* ---- reading ---- */

/* Every plane is read from the front; past its end, bad is set and zeros come. */
typedef struct {
	const uint8_t *at[KF_MAX_PLANES], *end[KF_MAX_PLANES];
	kf_cur over;               /* varints of what does not fit elsewhere */
	kf_bit_reader miss_bits;
	uint32_t *table, n_table;  /* ids that are in no list */
	kf_token_memory *memory;
	bool bad;
} kf_plane_reader;

/* Planes are borrowed; over and miss_bits: numbers of theirs. The table is made in the arena. */
kf_status kf_plane_reader_init(kf_plane_reader *r, const kf_buf *planes, int n, int gaps, int classes, int over,
	int miss_bits, kf_token_memory *memory, kf_arena *a, kf_err *err) KF_MUST_CHECK;

static inline uint8_t kf_plane_next(kf_plane_reader *r, int plane)
{
	if (r->at[plane] < r->end[plane]) return *r->at[plane]++;
	r->bad = true;
	return 0;
}

static inline uint32_t kf_plane_over(kf_plane_reader *r, uint32_t most)
{
	uint64_t v = kf_cur_varint(&r->over);

	if (v > most) r->bad = true;
	return v > most ? 0 : (uint32_t)v;
}

/* A value of a list in order, after one that is `before`; unsorted: it may be less, too. */
static inline uint32_t kf_plane_lp(kf_plane_reader *r, int plane, uint32_t before, bool unsorted)
{
	uint8_t s = kf_plane_next(r, plane);
	uint32_t v;

	if (__builtin_expect(s < KF_LP_OVER, 1)) return before + s;
	v = s == KF_LP_INF ? KF_Q_INF : kf_plane_over(r, KF_Q_MAX);
	if (v < before && !unsorted) r->bad = true;
	return v;
}

/* An id that no list had. */
static inline uint32_t kf_plane_miss(kf_plane_reader *r, int plane)
{
	uint32_t v = kf_sym_get(&r->miss_bits, kf_plane_next(r, plane));

	if (v < r->n_table) return r->table[v];
	r->bad = true;
	return 0;
}

/* The id at a place of the lists, or else missed. */
static inline uint32_t kf_plane_place(kf_plane_reader *r, unsigned place, int miss)
{
	uint32_t id;

	if (place == KF_ROW_MISS) return kf_plane_miss(r, miss);
	if (kf_row_at(&r->memory->rows, place, &id)) return id;
	r->bad = true;
	return 0;
}

static inline uint32_t kf_plane_length(kf_plane_reader *r, int plane, uint32_t id)
{
	kf_token_length *l = &r->memory->length[kf_row_hash(id, KF_LENGTH_TABLE)];
	uint8_t s = kf_plane_next(r, plane);

	if (s == 0) {
		if (l->id != id + 1) r->bad = true;
		return l->length;
	}
	l->id = id + 1;
	return l->length = s == KF_OTHER ? kf_plane_over(r, UINT32_MAX) : s - 1u;
}

#endif
