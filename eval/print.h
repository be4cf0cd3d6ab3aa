/* What reports are made of. */
#ifndef KF_EVAL_PRINT_H
#define KF_EVAL_PRINT_H

#include <jansson.h>
#include <stdbool.h>

#include "common/base/mem.h"

void kf_print_value(char out[32], double v);     /* four decimals, of large numbers four digits; "-" where it is not finite */
void kf_print_signed(char out[32], double v);    /* the same with its sign */
/* An interval after a value, if there is one: " (low to high)". */
void kf_print_between(kf_buf *out, double low, double high, bool with_sign);
void kf_print_cell(kf_buf *out, const char *text); /* in a table's cell of Markdown, where a bar would end it */
int kf_print_width(void);                        /* columns of the terminal that standard output is; INT_MAX where it is none */
/* Of a path (its first KF_PATH_MAX bytes): jansson takes no string that is not UTF-8. What is not becomes U+FFFD. */
json_t *kf_print_string(const char *text);
bool kf_print_utf8(const char *text);            /* whether all of it is */

#endif
