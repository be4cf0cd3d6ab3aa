/* What tables and progress lines for people share: how many columns of a terminal text takes, and what to call a domain without a name. */
#ifndef KF_TABLE_H
#define KF_TABLE_H

#include <stddef.h>

/* Columns of s (UTF-8): 2 for wide characters (Chinese, most emoji), 0 for combining marks and what is not seen, 1 for others and for each
 * byte that is no UTF-8. No locale is asked. Each character counts for itself, as terminals count that draw no clusters: of several emoji
 * that are joined to one, each does. */
int kf_text_width(const char *s);

/* What to give to printf's "%*s" or "%-*s", which count bytes, for s to fill so many columns. */
int kf_text_field(const char *s, int columns);

/* Bytes of the longest beginning of s that takes at most so many columns: whole characters, with their marks. */
size_t kf_text_fit(const char *s, int columns);

/* Bytes of the longest beginning of s (UTF-8) that has at most so many and no part of a character. */
size_t kf_text_cut(const char *s, size_t most);

/* Columns of the terminal that a descriptor is; 0 where it is none, or they are not known. */
int kf_terminal_columns(int fd);

/* The larger of *columns and the width of s. */
void kf_text_widen(int *columns, const char *s);

/* A domain's name in tables; "" is that of documents that were given none. */
const char *kf_domain_label(const char *domain);

#endif
