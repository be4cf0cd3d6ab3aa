/* Finding any of a set of literal strings in text: added tokens, SentencePiece's user-defined
 * pieces. The longest at the leftmost place wins, as in Hugging Face's tokenizers and in SentencePiece. */
#include <stdlib.h>
#include <utf8proc.h>

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

/* ---- added tokens and what stands around them ------------------------------------------------ */

bool kf_is_white(uint32_t c)
{
	return (c >= 9 && c <= 13) || c == ' ' || c == 0x85 || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a)
		|| c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

static bool white_but_space(uint32_t c) { return c != ' ' && kf_is_white(c); }

static bool newer(const char *category, uint32_t c)
{
	uint32_t lo, hi;

	for (size_t i = 0; kf_regex_newer(category, i, &lo, &hi); i++)
		if (c >= lo && c <= hi)
			return true;
	return false;
}

/* Alphabetic, marks, decimal digits, connectors and joiners (UTS 18, annex C). */
bool kf_is_word(uint32_t c)
{
	switch (utf8proc_category((utf8proc_int32_t)c)) {
	case UTF8PROC_CATEGORY_LU: case UTF8PROC_CATEGORY_LL: case UTF8PROC_CATEGORY_LT: case UTF8PROC_CATEGORY_LM:
	case UTF8PROC_CATEGORY_LO: case UTF8PROC_CATEGORY_MN: case UTF8PROC_CATEGORY_MC: case UTF8PROC_CATEGORY_ME:
	case UTF8PROC_CATEGORY_ND: case UTF8PROC_CATEGORY_NL: case UTF8PROC_CATEGORY_PC:
		return true;
	case UTF8PROC_CATEGORY_CN:
		return newer("L", c) || newer("M", c) || newer("Nd", c);
	default: /* joiners, and letters in circles and squares, which are symbols */
		return c == 0x200c || c == 0x200d || (c >= 0x24b6 && c <= 0x24e9) || (c >= 0x1f130 && c <= 0x1f149)
			|| (c >= 0x1f150 && c <= 0x1f169) || (c >= 0x1f170 && c <= 0x1f189);
	}
}

/* Bytes of the character at p, or of the one that ends there (n bytes from p back to the text's beginning); 0 unless is() holds of it. */
static size_t after(const uint8_t *p, size_t n, bool (*is)(uint32_t))
{
	unsigned l = n ? kf_utf8_len(p, n) : 0;
	return l && is(kf_utf8_code(p, l)) ? l : 0;
}

static size_t before(const uint8_t *p, size_t n, bool (*is)(uint32_t))
{
	size_t l = 1;
	while (l < n && l < 4 && (p[-(ptrdiff_t)l] & 0xc0) == 0x80)
		l++;
	return n && kf_utf8_len(p - l, l) == l && is(kf_utf8_code(p - l, (unsigned)l)) ? l : 0;
}

const kf_literal *kf_added_next(kf_added *a, size_t *begin, size_t *end)
{
	bool (*const white)(uint32_t) = a->marks ? white_but_space : kf_is_white;

	while (a->set->n && a->at < a->n) {
		const kf_literal *t = kf_literals_match(a->set, a->text + a->at, a->n - a->at);
		if (!t) {
			a->at++;
			continue;
		}
		size_t lo = a->at, hi = lo + t->n, l;
		a->at = hi;
		if (t->flags & KF_AT_SINGLE_WORD
			&& (before(a->text + lo, lo, kf_is_word) || after(a->text + hi, a->n - hi, kf_is_word)))
			continue;
		if (t->flags & KF_AT_LSTRIP && lo < a->from)
			lo = a->from;                /* what the token before took is gone */
		else if (t->flags & KF_AT_LSTRIP)
			while (lo > a->from && (l = before(a->text + lo, lo - a->from, white)))
				lo -= l;
		if (t->flags & KF_AT_RSTRIP && hi < a->from)
			hi = a->from;                /* white up to there: it was looked at */
		if (t->flags & KF_AT_RSTRIP)
			while ((l = after(a->text + hi, a->n - hi, white)))
				hi += l;
		if (hi <= lo)
			continue;                    /* all of it */
		*begin = a->from < lo ? a->from : lo;
		*end = lo;
		a->from = hi;
		return t;
	}
	return NULL;
}

const kf_literal *kf_added_first(const kf_literals *set, const uint8_t *p, size_t *n)
{
	for (size_t i = 0; set->n && i < *n; i++) {
		const kf_literal *t = kf_literals_match(set, p + i, *n - i);
		if (!t || t->flags & KF_AT_SINGLE_WORD)
			continue;
		if (i == 0)
			return t;
		*n = i;
	}
	return NULL;
}
