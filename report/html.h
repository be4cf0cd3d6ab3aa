/* Writing HTML: whatever comes from outside passes through here and arrives as text. */
#ifndef KF_REPORT_HTML_H
#define KF_REPORT_HTML_H

#include <jansson.h>

#include "common/base/mem.h"
#include "common/base/table.h"

/* Text for an element or a quoted attribute: & < > " ' as references; bytes that are not UTF-8, control characters (but tab
 * and line feed) and characters that change the direction of what follows as U+FFFD. */
void html_text(kf_buf *out, const uint8_t *s, size_t n);

/* As printf, where %s is html_text of a string (NULL: nothing): no string gets in unescaped. Of the other conversions
 * there are d, u (with l, ll, z), f, g, c and %; no stars. Numbers that are not finite are a dash. */
KF_PRINTF(2, 3)
void html_put(kf_buf *out, const char *fmt, ...);

/* What needs no escaping: parts of the page that are written by us. */
void html_raw(kf_buf *out, const char *s);

/* JSON for a <script type="application/json">: nothing in it can end the element or begin another. */
void html_json(kf_buf *out, const json_t *value);

/* ---- numbers for people ---- */

#define HTML_COUNT_MAX 40
const char *html_count_text(char *text, double n);   /* into text (HTML_COUNT_MAX), which is returned: 1234567 -> 1,234,567 */
void html_count(kf_buf *out, double n);
void html_bytes(kf_buf *out, double n);      /* 1234567 -> 1.23 MB, which no line's end tears apart */
/* With a true minus sign, and a plus where sign is asked for; a dash where v is not finite. */
void html_number(kf_buf *out, double v, int decimals, bool sign);
/* A share of 1 in per cent, with one decimal, likewise. */
void html_percent(kf_buf *out, double share, bool sign);

/* For "%.*s": a name's beginning of at most so many bytes, and no part of a character. */
#define CUT(name, most) (int)kf_text_cut(name, most), name

#endif
