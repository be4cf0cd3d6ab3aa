/* Runs of combining marks, put in order beforehand: utf8proc orders a run by exchanging neighbours, so that a text of nothing else takes
 * the square of its length. What comes out is canonically equivalent (Unicode 15, 3.11, D108: equal classes keep their order) and
 * has the same normal form. */
#ifndef KF_TEXT_MARKS_H
#define KF_TEXT_MARKS_H

#include <stdbool.h>

#include "common/base/mem.h"

/* False where no run of p (n bytes) is so long that it would matter: out is as it was. Else all of it, appended to out (check that). */
bool kf_marks_in_order(const uint8_t *p, size_t n, kf_buf *out);

#endif
