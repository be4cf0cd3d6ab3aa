/* Bytes of text: whether they are UTF-8, and white space. */
#ifndef KF_TEXT_UTF8_H
#define KF_TEXT_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* How many bytes from p are well-formed UTF-8 (shortest form, no surrogates, at most U+10FFFF). */
size_t kf_utf8_valid(const uint8_t *p, size_t n);

/* White space of ASCII, which is that of a message's ends and of words, whatever the locale. */
static inline bool kf_is_space(uint8_t c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

/* A text without the white space at its ends, as messages of conversations are: n bytes. */
static inline const char *kf_trimmed(const char *text, size_t *n)
{
	while (kf_is_space((uint8_t)*text)) text++;
	for (*n = strlen(text); *n > 0 && kf_is_space((uint8_t)text[*n - 1]);) --*n;
	return text;
}

/* Bytes of the control character at p (n): U+0000 to U+001F, U+007F to U+009F, which a terminal obeys; 0 where there is none. */
static inline size_t kf_control(const uint8_t *p, size_t n)
{
	if (n && (p[0] < 0x20 || p[0] == 0x7f)) return 1;
	return n > 1 && p[0] == 0xc2 && p[1] >= 0x80 && p[1] < 0xa0 ? 2 : 0;
}

/* Whether a string has one. */
static inline bool kf_has_control(const char *s)
{
	const uint8_t *p = (const uint8_t *)s;

	while (*p && !kf_control(p, p[1] ? 2 : 1)) p++;
	return *p;
}

#endif
