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
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

kf_status kf_idtable_encode(uint32_t *misses, size_t n, kf_buf *gaps, kf_buf *classes, kf_err *err)
{
	uint32_t *sorted = kf_alloc(n, sizeof *sorted), first[CLASSES] = { 0 }, at = 0, last = 0;
	struct counted *t = NULL;
	size_t distinct = 0;
	kf_status rc = KF_OK;

	if (!sorted) return kf_fail(err, KF_ENOMEM, "no memory for %zu candidates", n);
	if (n) memcpy(sorted, misses, n * sizeof *sorted);
	qsort(sorted, n, sizeof *sorted, by_id);
	for (size_t i = 0; i < n; i++) distinct += i == 0 || sorted[i] != sorted[i - 1];
	if (!(t = kf_alloc(distinct, sizeof *t))) {
		rc = kf_fail(err, KF_ENOMEM, "no memory for %zu candidates", n);
		goto out;
	}
	for (size_t i = 0, d = 0; i < n; d++) {
		size_t j = i;

		while (j < n && sorted[j] == sorted[i]) j++;
		t[d].id = sorted[i];
		t[d].count = (uint32_t)(j - i);
		first[class_of(t[d].count)]++;
		kf_buf_varint(gaps, d ? t[d].id - last - 1 : t[d].id);
		kf_buf_u8(classes, class_of(t[d].count));
		last = t[d].id;
		i = j;
	}
	for (int c = CLASSES; c-- > 0;) {
		uint32_t m = first[c];

		first[c] = at;
		at += m;
	}
	for (size_t d = 0; d < distinct; d++) t[d].number = first[class_of(t[d].count)]++;
	for (size_t i = 0; i < n; i++) {
		struct counted *c = bsearch(&misses[i], t, distinct, sizeof *t, by_id); /* id comes first in it */

		misses[i] = c->number;
	}
out:
	kf_free(t);
	kf_free(sorted);
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
