#include "common/store/idtable.h"

#include <stdlib.h>

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

struct counted { uint32_t id, count, number; };

static int by_id(const void *a, const void *b)
{
	const struct counted *x = *(struct counted *const *)a, *y = *(struct counted *const *)b;

	return x->id < y->id ? -1 : x->id > y->id;
}

/* Open addressing, at most half full; count 0 is an empty place. */
struct counts { struct counted *t; uint32_t mask, n; };

static struct counted *place_of(const struct counts *c, uint32_t id)
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

kf_status kf_idtable_encode(uint32_t *misses, size_t n, kf_buf *gaps, kf_buf *classes, kf_err *err)
{
	struct counts c = { .t = NULL };
	struct counted **sorted = NULL;
	uint32_t first[CLASSES] = { 0 }, at = 0, last = 0, distinct = 0;
	kf_status rc = KF_OK;

	if (!grow(&c)) goto nomem;
	for (size_t i = 0; i < n; i++) {
		struct counted *p = place_of(&c, misses[i]);

		if (p->count++) continue;
		p->id = misses[i];
		if (++c.n > c.mask / 2 && !grow(&c)) goto nomem;
	}
	if (!(sorted = kf_alloc(c.n, sizeof *sorted))) goto nomem;
	for (uint32_t i = 0; i <= c.mask; i++)
		if (c.t[i].count) sorted[distinct++] = &c.t[i];
	qsort(sorted, distinct, sizeof *sorted, by_id);
	for (uint32_t d = 0; d < distinct; d++) {
		uint32_t id = sorted[d]->id;

		first[class_of(sorted[d]->count)]++;
		kf_buf_varint(gaps, d ? id - last - 1 : id);
		kf_buf_u8(classes, class_of(sorted[d]->count));
		last = id;
	}
	for (int k = CLASSES; k-- > 0;) {
		uint32_t m = first[k];

		first[k] = at;
		at += m;
	}
	for (uint32_t d = 0; d < distinct; d++) sorted[d]->number = first[class_of(sorted[d]->count)]++;
	for (size_t i = 0; i < n; i++) misses[i] = place_of(&c, misses[i])->number;
	goto out;
nomem:
	rc = kf_fail(err, KF_ENOMEM, "no memory for %zu candidates", n);
out:
	kf_free(sorted);
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
