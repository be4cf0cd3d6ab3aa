/* What two neighbours could merge to, the one to be merged first on top: a binary heap in memory of the caller's, which has room. */
#ifndef KF_TEXT_HEAP_H
#define KF_TEXT_HEAP_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
	uint64_t key;  /* rank, then the place of the left one, so that the leftmost of equals comes first */
	uint32_t size; /* bytes of both, where that tells that one of them has merged meanwhile */
} kf_candidate;

typedef struct { kf_candidate *v; size_t n; } kf_heap;

static inline void kf_heap_push(kf_heap *h, kf_candidate x)
{
	size_t i = h->n++;

	for (; i && h->v[(i - 1) / 2].key > x.key; i = (i - 1) / 2) h->v[i] = h->v[(i - 1) / 2];
	h->v[i] = x;
}

/* Of a heap that is not empty. */
static inline kf_candidate kf_heap_pop(kf_heap *h)
{
	kf_candidate top = h->v[0], x = h->v[--h->n];
	size_t i = 0, c;

	for (; (c = 2 * i + 1) < h->n; i = c) {
		if (c + 1 < h->n && h->v[c + 1].key < h->v[c].key) c++;
		if (h->v[c].key >= x.key) break;
		h->v[i] = h->v[c];
	}
	h->v[i] = x;
	return top;
}

#endif
