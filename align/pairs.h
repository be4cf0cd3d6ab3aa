/* Inside align/: how often pairs of tokens were seen. */
#ifndef KF_ALIGN_PAIRS_H
#define KF_ALIGN_PAIRS_H

#include "common/base/mem.h"

/* Zero-initialise; release when done. */
typedef struct align_pairs {
	size_t n, size;       /* pairs; places in the table, a power of two */
	uint64_t *key;        /* a << 32 | b; after align_pairs_sort the first n, ascending */
	uint64_t *count;      /* 0: a free place */
} align_pairs;

bool align_pairs_add(align_pairs *p, int32_t a, int32_t b, uint64_t count); /* a, b >= 0, count > 0; false: no memory */
/* By a, then by b; the pairs are then read from key and count, and none may be added. */
bool align_pairs_sort(align_pairs *p);
/* Of sorted pairs; 0: never seen. */
uint64_t align_pairs_count(const align_pairs *p, int32_t a, int32_t b);
void align_pairs_release(align_pairs *p);

static inline int32_t align_pairs_a(const align_pairs *p, size_t i) { return (int32_t)(p->key[i] >> 32); }
static inline int32_t align_pairs_b(const align_pairs *p, size_t i) { return (int32_t)(uint32_t)p->key[i]; }

#endif
