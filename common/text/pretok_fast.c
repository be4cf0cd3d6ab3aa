/* The patterns that nearly all byte-level BPE tokenizers have, matched by hand: GPT-2's, the two that came of
 * GPT-4's (Qwen2 and Llama 3), and single digits. The tests hold them against the expressions over all
 * code points and random text.
 *
 * Characters are in four classes: letters (\p{L}), numbers (\p{N}), white space and the rest.
 */
#include <stdlib.h>
#include <utf8proc.h>

#include "common/text/internal.h"

enum { OTHER, LETTER, NUMBER, SPACE };
enum { TOP = 0x33000 }; /* no letters, numbers or spaces from here on */

struct kf_classes {
	uint8_t ascii[128];
	uint8_t bits[TOP / 4]; /* two bits a code point */
};

static void set(kf_classes *c, uint32_t code, unsigned class)
{
	if (code >= TOP)
		return;
	if (code < 128)
		c->ascii[code] = (uint8_t)class;
	c->bits[code / 4] = (uint8_t)((c->bits[code / 4] & ~(3u << code % 4 * 2)) | class << code % 4 * 2);
}

kf_classes *kf_classes_new(void)
{
	kf_classes *c = kf_zalloc(1, sizeof *c);
	uint32_t lo, hi;

	if (!c)
		return NULL;
	for (uint32_t code = 0; code < TOP; code++) {
		switch (utf8proc_category((utf8proc_int32_t)code)) {
		case UTF8PROC_CATEGORY_LU: case UTF8PROC_CATEGORY_LL: case UTF8PROC_CATEGORY_LT:
		case UTF8PROC_CATEGORY_LM: case UTF8PROC_CATEGORY_LO:
			set(c, code, LETTER);
			break;
		case UTF8PROC_CATEGORY_ND: case UTF8PROC_CATEGORY_NL: case UTF8PROC_CATEGORY_NO:
			set(c, code, NUMBER);
			break;
		default:
			if (kf_is_white(code))
				set(c, code, SPACE);
			break;
		}
	}
	for (size_t i = 0; kf_regex_newer("L", i, &lo, &hi); i++)
		for (uint32_t code = lo; code <= hi; code++)
			set(c, code, LETTER);
	for (size_t i = 0; kf_regex_newer("N", i, &lo, &hi); i++)
		for (uint32_t code = lo; code <= hi; code++)
			set(c, code, NUMBER);
	return c;
}

/* The class of the character at p and its length. The text is well-formed. */
static inline unsigned class_at(const kf_classes *c, const uint8_t *p, unsigned *len)
{
	if (*p < 0x80) {
		*len = 1;
		return c->ascii[*p];
	}
	*len = *p < 0xe0 ? 2 : *p < 0xf0 ? 3 : 4;
	uint32_t code = kf_utf8_code(p, *len);
	return code < TOP ? c->bits[code / 4] >> code % 4 * 2 & 3 : OTHER;
}

/* The end of the run of a class that begins at p + i. */
static size_t run_end(const kf_classes *c, const uint8_t *p, size_t n, size_t i, unsigned class)
{
	unsigned l;
	while (i < n && class_at(c, p + i, &l) == class)
		i += l;
	return i;
}

/* 's 't 're 've 'm 'll 'd; any: of any case. Returns its length, 0: none. */
static size_t contraction(const uint8_t *p, size_t n, bool any)
{
	if (n < 2 || p[0] != '\'')
		return 0;
	uint8_t fold = any ? 0x20 : 0, a = p[1] | fold, b = n > 2 ? p[2] | fold : 0;
	if (a == 's' || a == 't' || a == 'm' || a == 'd')
		return 2;
	if ((a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l'))
		return 3;
	if (any && n > 2 && p[1] == 0xc5 && p[2] == 0xbf) /* the long s is an s, too */
		return 3;
	return 0;
}

/* White space from p: all of it at the end of the text, else all but the last character, but at least one.
 * This is \s+(?!\S)|\s+ */
static size_t spaces(const kf_classes *c, const uint8_t *p, size_t n)
{
	size_t i = 0, last = 0;
	unsigned l;
	while (i < n && class_at(c, p + i, &l) == SPACE) {
		last = i;
		i += l;
	}
	return i == n || last == 0 ? i : last;
}

static size_t gpt2(const kf_classes *c, const uint8_t *p, size_t n)
{
	unsigned l, class;
	size_t i = contraction(p, n, false);

	if (i)
		return i;
	if (p[0] == ' ' && n > 1 && (class = class_at(c, p + 1, &l)) != SPACE)
		return run_end(c, p, n, 1 + l, class);
	class = class_at(c, p, &l);
	return class == SPACE ? spaces(c, p, n) : run_end(c, p, n, l, class);
}

static size_t gpt4(const kf_classes *c, const uint8_t *p, size_t n, int digits)
{
	unsigned l, m;
	size_t i = contraction(p, n, true);

	if (i)
		return i;
	unsigned class = class_at(c, p, &l);
	if (class == LETTER)
		return run_end(c, p, n, l, LETTER);
	if (class == NUMBER) {
		for (i = l; --digits && i < n && class_at(c, p + i, &m) == NUMBER;)
			i += m;
		return i;
	}
	if (l < n && p[0] != '\r' && p[0] != '\n' && class_at(c, p + l, &m) == LETTER)
		return run_end(c, p, n, l + m, LETTER);
	if (class == OTHER || (p[0] == ' ' && n > 1 && class_at(c, p + 1, &m) == OTHER)) {
		i = run_end(c, p, n, class == OTHER ? l : 1 + m, OTHER);
		while (i < n && (p[i] == '\r' || p[i] == '\n'))
			i++;
		return i;
	}
	/* White space: to its last line end, if it has one. */
	size_t line = 0;
	for (i = 0; i < n && class_at(c, p + i, &m) == SPACE; i += m)
		if (p[i] == '\r' || p[i] == '\n')
			line = i + 1;
	return line ? line : spaces(c, p, n);
}

size_t kf_pretok_fast(const kf_classes *c, kf_fast how, const uint8_t *p, size_t n, size_t *skip)
{
	unsigned l;

	*skip = 0;
	switch (how) {
	case KF_FAST_GPT2:
		return gpt2(c, p, n);
	case KF_FAST_QWEN2:
		return gpt4(c, p, n, 1);
	case KF_FAST_LLAMA3:
		return gpt4(c, p, n, 3);
	default:
		break;
	}
	/* KF_FAST_DIGIT: the next number's digit */
	for (size_t i = 0; i < n; i += l) {
		bool is = class_at(c, p + i, &l) == NUMBER;
		if (l > 2 && !is) { /* Unicode 17, as Rust has it */
			uint32_t code = kf_utf8_code(p + i, l);
			is = (code >= 0x11de0 && code <= 0x11de9) || (code >= 0x16ff4 && code <= 0x16ff6);
		}
		if (is) {
			*skip = i;
			return l;
		}
	}
	return 0;
}
