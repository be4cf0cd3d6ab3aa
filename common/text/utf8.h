/* Bytes of text: whether they are UTF-8, and white space. */
#ifndef KF_TEXT_UTF8_H
#define KF_TEXT_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* How many bytes from p are well-formed UTF-8 (shortest form, no surrogates, at most U+10FFFF). */
size_t kf_utf8_valid(const uint8_t *p, size_t n);

/* White space of ASCII, which is that of a message's ends and of words, whatever the locale. */
static inline bool kf_is_space(uint8_t c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

#endif
