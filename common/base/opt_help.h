/* What an option table says of itself: --help for people, a manual page, completion for a shell. */
#ifndef KF_BASE_OPT_HELP_H
#define KF_BASE_OPT_HELP_H

#include <stdio.h>

#include "common/base/opt.h"

/* Answer --help, -h, --version, --man-page (man(7)'s language) or --completion (bash's); false: word is none of them. */
bool kf_opt_asks(const kf_program *p, const char *word, FILE *out);

/* Word index of "a|b|c". */
void kf_opt_choice(const char *choices, int index, char *out, size_t size);

#endif
