/* Finding any of a set of literal strings in text: added tokens, SentencePiece's user-defined
 * pieces. The longest at the leftmost place wins, as in Hugging Face's tokenizers and in SentencePiece. */
#include <stdlib.h>

#include "common/text/internal.h"

static int by_bytes(const void *pa, const void *pb)
{
	const kf_literal *a = pa, *b = pb;
	int c = memcmp(a->p, b->p, a->n < b->n ? a->n : b->n);
	if (c)
		return c;
	if (a->n != b->n)
		return a->n < b->n ? -1 : 1;
	return a->id < b->id ? -1 : a->id > b->id;
}

kf_status kf_literals_make(kf_literals *l, const kf_literal *items, uint32_t n, kf_err *err)
{
	memset(l, 0, sizeof *l);
	l->item = kf_alloc(n ? n : 1, sizeof *l->item);
	if (!l->item)
		return kf_fail(err, KF_ENOMEM, "no memory for the %u added tokens of a tokenizer", (unsigned)n);
	for (uint32_t i = 0; i < n; i++)
		if (items[i].n)
			l->item[l->n++] = items[i];
	qsort(l->item, l->n, sizeof *l->item, by_bytes);
	uint32_t k = 0;
	for (uint32_t i = 0; i < l->n; i++) {
		const kf_literal *a = &l->item[i];
		if (k && a->n == l->item[k - 1].n && memcmp(a->p, l->item[k - 1].p, a->n) == 0)
			continue;
		l->item[k++] = *a;
	}
	l->n = k;
	for (uint32_t i = 0; i < k; i++) {
		const kf_literal *a = &l->item[i];
		if (a->n > l->max)
			l->max = a->n;
		l->first[a->p[0] + 1]++;
		if (a->n == 1) {
			l->ones[a->p[0] >> 3] |= (uint8_t)(1 << (a->p[0] & 7));
		} else {
			unsigned w = (unsigned)a->p[0] << 8 | a->p[1];
			l->pairs[w >> 3] |= (uint8_t)(1 << (w & 7));
		}
	}
	for (int b = 0; b < 256; b++)
		l->first[b + 1] += l->first[b];
	return KF_OK;
}

void kf_literals_release(kf_literals *l)
{
	kf_free(l->item);
	memset(l, 0, sizeof *l);
}

const kf_literal *kf_literals_match(const kf_literals *l, const uint8_t *p, size_t n)
{
	if (!l->n || !n)
		return NULL;
	bool one = l->ones[p[0] >> 3] >> (p[0] & 7) & 1;
	bool more = false;
	if (n > 1) {
		unsigned w = (unsigned)p[0] << 8 | p[1];
		more = l->pairs[w >> 3] >> (w & 7) & 1;
	}
	if (!one && !more)
		return NULL;
	/* Narrow [lo, hi) to the items that begin with p[0..d); an item of exactly d bytes comes first of them. */
	uint32_t lo = l->first[p[0]], hi = l->first[p[0] + 1];
	const kf_literal *best = NULL;
	for (size_t d = 1; lo < hi; d++) {
		if (l->item[lo].n == d)
			best = &l->item[lo++];
		if (d == n)
			break;
		uint8_t c = p[d];
		uint32_t a = lo, b = hi;
		while (a < b) {
			uint32_t m = a + (b - a) / 2;
			if (l->item[m].p[d] < c)
				a = m + 1;
			else
				b = m;
		}
		lo = a;
		b = hi;
		while (a < b) {
			uint32_t m = a + (b - a) / 2;
			if (l->item[m].p[d] <= c)
				a = m + 1;
			else
				b = m;
		}
		hi = a;
	}
	return best;
}
