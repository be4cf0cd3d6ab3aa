/* The normal form NFC by utf8proc, in time that grows with the text: utf8proc orders a run of combining marks by exchanging neighbours, so
 * that a text of nothing else takes the square of its length. Long runs are put in order beforehand, which is canonically equivalent
 * (Unicode 15, 3.11, D108: equal classes keep their order) and has the same normal form. */
#ifndef KF_TEXT_MARKS_H
#define KF_TEXT_MARKS_H

#include <stddef.h>
#include <stdint.h>

/* The normal form NFC of p (n bytes), which is to be released with free(): its length, or utf8proc's error. */
ptrdiff_t kf_nfc_map(const uint8_t *p, size_t n, uint8_t **out);

#endif
