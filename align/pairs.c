#include "align/pairs.h"

#include <stdlib.h>
#include <string.h>

static size_t place(const align_pairs *p, uint64_t key)
{
	size_t i = (size_t)((key * 0x9e3779b97f4a7c15ull) >> 20) & (p->size - 1);

	while (p->count[i] && p->key[i] != key) i = (i + 1) & (p->size - 1);
	return i;
}

static bool grow(align_pairs *p)
{
	align_pairs more = { .n = p->n, .size = p->size ? 2 * p->size : 1024 };

	more.key = kf_alloc(more.size, sizeof *more.key);
	more.count = kf_zalloc(more.size, sizeof *more.count);
	if (!more.key || !more.count) {
		align_pairs_release(&more);
		return false;
	}
	for (size_t i = 0; i < p->size; i++) {
		size_t at;

		if (!p->count[i]) continue;
		at = place(&more, p->key[i]);
		more.key[at] = p->key[i];
		more.count[at] = p->count[i];
	}
	kf_free(p->key);
	kf_free(p->count);
	*p = more;
	return true;
}

bool align_pairs_add(align_pairs *p, int32_t a, int32_t b, uint64_t count)
{
	uint64_t key = (uint64_t)(uint32_t)a << 32 | (uint32_t)b;
	size_t at;

	if (2 * p->n >= p->size && !grow(p)) return false;
	at = place(p, key);
	if (!p->count[at]) {
		p->key[at] = key;
		p->n++;
	}
	p->count[at] += count;
	return true;
}

typedef struct { uint64_t key, count; } entry;

static int ascending(const void *x, const void *y)
{
	const entry *a = x, *b = y;

	return (a->key > b->key) - (a->key < b->key);
}

bool align_pairs_sort(align_pairs *p)
{
	entry *e = kf_alloc(p->n, sizeof *e);
	size_t n = 0;

	if (!e) return false;
	for (size_t i = 0; i < p->size; i++)
		if (p->count[i]) e[n++] = (entry){ p->key[i], p->count[i] };
	qsort(e, n, sizeof *e, ascending);
	for (size_t i = 0; i < n; i++) {
		p->key[i] = e[i].key;
		p->count[i] = e[i].count;
	}
	kf_free(e);
	return true;
}

uint64_t align_pairs_count(const align_pairs *p, int32_t a, int32_t b)
{
	uint64_t key = (uint64_t)(uint32_t)a << 32 | (uint32_t)b;
	size_t lo = 0, hi = p->n;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (p->key[mid] < key) lo = mid + 1;
		else hi = mid;
	}
	return lo < p->n && p->key[lo] == key ? p->count[lo] : 0;
}

void align_pairs_release(align_pairs *p)
{
	kf_free(p->key);
	kf_free(p->count);
	memset(p, 0, sizeof *p);
}
