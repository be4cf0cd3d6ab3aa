/* Whether text is UTF-8. */
#ifndef KF_TEXT_UTF8_H
#define KF_TEXT_UTF8_H

#include <stddef.h>
#include <stdint.h>

/* How many bytes from p are well-formed UTF-8 (shortest form, no surrogates, at most U+10FFFF). */
size_t kf_utf8_valid(const uint8_t *p, size_t n);

#endif
