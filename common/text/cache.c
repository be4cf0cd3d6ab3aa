/* A cache of encoded words that many threads share: slots are filled once with an immutable entry
 * and never emptied, so a reader needs one acquire load and nobody ever waits. What
 * a word encodes to is a function of its bytes alone, so results do not depend on what is cached. */
#include <stdlib.h>

#include "common/text/internal.h"

enum { PROBES = 4 };

struct kf_wcache {
	uint64_t mask;
	_Atomic(kf_word *) slot[];
};

kf_wcache *kf_wcache_new(unsigned bits)
{
	size_t n = (size_t)1 << bits;
	kf_wcache *c = calloc(1, sizeof *c + n * sizeof c->slot[0]);
	if (c)
		c->mask = n - 1;
	return c;
}

void kf_wcache_free(kf_wcache *c)
{
	if (!c)
		return;
	for (size_t i = 0; i <= c->mask; i++)
		free(atomic_load_explicit(&c->slot[i], memory_order_relaxed));
	free(c);
}

static const uint8_t *word_bytes(const kf_word *w)
{
	return kf_word_lens(w) + w->n;
}

const kf_word *kf_wcache_get(const kf_wcache *c, uint64_t hash, const uint8_t *p, size_t n)
{
	for (unsigned i = 0; i < PROBES; i++) {
		const kf_word *w = atomic_load_explicit(&c->slot[(hash + i) & c->mask], memory_order_acquire);
		if (!w)
			return NULL;
		if (w->hash == hash && w->len == n && memcmp(word_bytes(w), p, n) == 0)
			return w;
	}
	return NULL;
}

void kf_wcache_put(kf_wcache *c, uint64_t hash, const uint8_t *p, size_t n,
	const int32_t *ids, const uint32_t *lens, size_t n_ids)
{
	if (n > KF_WORD_MAX || n_ids > n)
		return;
	for (size_t i = 0; i < n_ids; i++)
		if (lens[i] > UINT8_MAX)
			return;
	unsigned i = 0;
	while (i < PROBES && atomic_load_explicit(&c->slot[(hash + i) & c->mask], memory_order_relaxed))
		i++;
	if (i == PROBES)
		return;
	kf_word *w = malloc(sizeof *w + n_ids * 5 + n);
	if (!w)
		return;
	w->hash = hash;
	w->len = (uint16_t)n;
	w->n = (uint16_t)n_ids;
	memcpy(w + 1, ids, n_ids * sizeof *ids);
	uint8_t *l = (uint8_t *)(w + 1) + n_ids * sizeof *ids;
	for (size_t k = 0; k < n_ids; k++)
		l[k] = (uint8_t)lens[k];
	memcpy(l + n_ids, p, n);
	for (; i < PROBES; i++) {
		kf_word *none = NULL;
		if (atomic_compare_exchange_strong_explicit(&c->slot[(hash + i) & c->mask], &none, w,
				memory_order_release, memory_order_relaxed))
			return;
	}
	free(w);
}
