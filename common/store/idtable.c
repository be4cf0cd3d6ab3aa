#include "common/store/idtable.h"

/* Ids ascending: varint difference to the one before, less one. For each, a class of how often it comes: 1, 2, 3, 4, then
 * two classes an octave. Numbers run through the classes from the most frequent, ids ascending in each: so the order
 * of the counts costs a byte of low entropy an id, and no list of ranks. */
#define CLASSES 64

static uint8_t class_of(uint32_t count)
{
	unsigned e;

	if (count <= 4) return (uint8_t)(count - 1);
	count--; /* 5, 6 | 7, 8 | 9 .. 12 | 13 .. 16 | ... */
	e = 31 - (unsigned)__builtin_clz(count);
	return (uint8_t)(4 + (e - 2) * 2 + (count >> (e - 1) & 1));
}

/* Open addressing, at most half full; count 0 is an empty place. In the end count is the id's number and 1. */
struct counted { uint32_t id, count; };
struct counts { struct counted *t; uint32_t mask, n; };

static inline struct counted *place_of(const struct counts *c, uint32_t id)
{
	uint32_t i = (id * 2654435761u >> 7) & c->mask;

	while (c->t[i].count && c->t[i].id != id) i = (i + 1) & c->mask;
	return &c->t[i];
}

static bool grow(struct counts *c)
{
	struct counts bigger = { .mask = c->t ? c->mask * 2 + 1 : 4095, .n = c->n };

	if (!(bigger.t = kf_zalloc((size_t)bigger.mask + 1, sizeof *bigger.t))) return false;
	for (uint32_t i = 0; c->t && i <= c->mask; i++)
		if (c->t[i].count) *place_of(&bigger, c->t[i].id) = c->t[i];
	kf_free(c->t);
	*c = bigger;
	return true;
}

#define DIGIT 11

/* The table's places, by their ids: least significant digits first. Uses the second half of the array of 2n. */
static uint64_t *sorted(uint64_t *places, const struct counts *c)
{
	uint64_t *from = places, *to = places + c->n;
	uint32_t most = 0, n = 0;

	for (uint32_t i = 0; i <= c->mask; i++) {
		if (!c->t[i].count) continue;
		from[n++] = (uint64_t)c->t[i].id << 32 | i;
		if (c->t[i].id > most) most = c->t[i].id;
	}
	for (unsigned shift = 0; shift < 32 && most >> shift; shift += DIGIT) {
		uint32_t at[(1 << DIGIT) + 1] = { 0 };
		uint64_t *other = from;

		for (uint32_t i = 0; i < n; i++) at[(from[i] >> 32 >> shift & ((1 << DIGIT) - 1)) + 1]++;
		for (uint32_t d = 1; d < 1 << DIGIT; d++) at[d] += at[d - 1];
		for (uint32_t i = 0; i < n; i++) to[at[from[i] >> 32 >> shift & ((1 << DIGIT) - 1)]++] = from[i];
		from = to;
		to = other;
	}
	return from;
}

kf_status kf_idtable_encode(uint32_t *misses, size_t n, kf_buf *gaps, kf_buf *classes, kf_err *err)
{
	struct counts c = { .t = NULL };
	uint64_t *places = NULL, *order;
	uint32_t first[CLASSES] = { 0 }, at = 0, last = 0;
	kf_status rc = KF_OK;

	if (!grow(&c)) goto nomem;
	for (size_t i = 0; i < n; i++) {
		struct counted *p = place_of(&c, misses[i]);

		if (p->count++) continue;
		p->id = misses[i];
		if (++c.n > c.mask / 2 && !grow(&c)) goto nomem;
	}
	if (!(places = kf_alloc((size_t)c.n * 2, sizeof *places)) || !kf_buf_reserve(classes, c.n)) goto nomem;
	order = sorted(places, &c);
	for (uint32_t d = 0; d < c.n; d++) {
		const struct counted *p = &c.t[(uint32_t)order[d]];

		first[class_of(p->count)]++;
		kf_buf_varint(gaps, d ? p->id - last - 1 : p->id);
		kf_buf_u8(classes, class_of(p->count));
		last = p->id;
	}
	for (int k = CLASSES; k-- > 0;) {
		uint32_t m = first[k];

		first[k] = at;
		at += m;
	}
	for (uint32_t d = 0; d < c.n; d++) {
		struct counted *p = &c.t[(uint32_t)order[d]];

		p->count = ++first[class_of(p->count)];
	}
	for (size_t i = 0; i < n; i++) misses[i] = place_of(&c, misses[i])->count - 1;
	goto out;
nomem:
	rc = kf_fail(err, KF_ENOMEM, "no memory for %zu candidates", n);
out:
	kf_free(places);
	kf_free(c.t);
	return rc;
}

kf_status kf_idtable_decode(const kf_buf *gaps, const kf_buf *classes, kf_arena *arena, uint32_t **out, uint32_t *n, kf_err *err)
{
	kf_cur c = kf_cur_of(gaps->data, gaps->len);
	uint32_t first[CLASSES] = { 0 }, at = 0, *ids;
	uint64_t id = 0;

	if (classes->len > gaps->len) goto bad; /* a gap takes a byte */
	*n = (uint32_t)classes->len;
	if (!(*out = ids = KF_ARENA_NEW(arena, uint32_t, *n))) return kf_fail(err, KF_ENOMEM, "no memory for %u ids", *n);
	for (uint32_t i = 0; i < *n; i++) {
		if (classes->data[i] >= CLASSES) goto bad;
		first[classes->data[i]]++;
	}
	for (int k = CLASSES; k-- > 0;) {
		uint32_t m = first[k];

		first[k] = at;
		at += m;
	}
	for (uint32_t i = 0; i < *n; i++) {
		uint64_t gap = kf_cur_varint(&c);

		if (gap > INT32_MAX || (id += gap) > INT32_MAX) goto bad;
		ids[first[classes->data[i]]++] = (uint32_t)id++;
	}
	if (c.bad || kf_cur_left(&c)) goto bad;
	return KF_OK;
bad:
	return kf_fail(err, KF_EDATA, "its table of ids is damaged");
}
