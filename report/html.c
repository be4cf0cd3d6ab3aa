#include "report/html.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/store/json.h"

#define REPLACEMENT "\xef\xbf\xbd"

void html_raw(kf_buf *out, const char *s)
{
	kf_buf_put(out, s, strlen(s));
}

/* Whether a character of three bytes turns the direction of writing: U+200E, U+200F, U+202A..E, U+2066..9. */
static bool turns(const uint8_t *s)
{
	return s[0] == 0xe2 && ((s[1] == 0x80 && (s[2] == 0x8e || s[2] == 0x8f || (s[2] >= 0xaa && s[2] <= 0xae))) ||
		(s[1] == 0x81 && s[2] >= 0xa6 && s[2] <= 0xa9));
}

/* Whether one of two bytes is a control character, U+0080 to U+009F, or turns it: U+061C. */
static bool controls(const uint8_t *s)
{
	return (s[0] == 0xc2 && s[1] < 0xa0) || (s[0] == 0xd8 && s[1] == 0x9c);
}

void html_text(kf_buf *out, const uint8_t *s, size_t n)
{
	while (n) {
		size_t len = kf_json_char(s, n);
		uint8_t c = *s;

		if (len == 0 || (len == 3 && turns(s)) || (len == 2 && controls(s))) html_raw(out, REPLACEMENT);
		else if (len > 1) kf_buf_put(out, s, len);
		else if (c == '&') html_raw(out, "&amp;");
		else if (c == '<') html_raw(out, "&lt;");
		else if (c == '>') html_raw(out, "&gt;");
		else if (c == '"') html_raw(out, "&quot;");
		else if (c == '\'') html_raw(out, "&#39;");
		else if ((c < 0x20 && c != '\t' && c != '\n') || c == 0x7f) html_raw(out, REPLACEMENT);
		else kf_buf_u8(out, c);
		s += len ? len : 1;
		n -= len ? len : 1;
	}
}

static void put_real(kf_buf *out, const char *spec, double v)
{
	char text[400];

	if (!isfinite(v)) {
		html_raw(out, "–");
		return;
	}
	snprintf(text, sizeof text, spec, v);
	html_raw(out, text);
}

void html_put(kf_buf *out, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	for (const char *p = fmt; *p; p++) {
		size_t plain = strcspn(p, "%"), n = 0;
		char spec[16], text[64];
		bool big;
		const char *s;

		kf_buf_put(out, p, plain);
		p += plain;
		if (!*p) break;
		do spec[n++] = *p++;
		while (n + 2 < sizeof spec && *p && strchr("0123456789.+- #lz", *p));
		spec[n++] = *p;
		spec[n] = 0;
		big = strchr(spec, 'l') || strchr(spec, 'z');
		switch (*p) {
		case '%':
			kf_buf_u8(out, '%');
			break;
		case 's':
			if ((s = va_arg(ap, const char *))) html_text(out, (const uint8_t *)s, strlen(s));
			break;
		case 'c':
			text[0] = (char)va_arg(ap, int);
			html_text(out, (const uint8_t *)text, 1);
			break;
		case 'f':
		case 'g':
			put_real(out, spec, va_arg(ap, double));
			break;
		case 'd':
		case 'u': /* every wide integer here is 64 bits: long, long long, size_t */
			if (big) snprintf(text, sizeof text, spec, va_arg(ap, long));
			else snprintf(text, sizeof text, spec, va_arg(ap, int));
			html_raw(out, text);
			break;
		default:
			out->failed = true; /* a mistake of ours */
			va_end(ap);
			return;
		}
	}
	va_end(ap);
}

void html_json(kf_buf *out, const json_t *value)
{
	char *text = json_dumps(value, JSON_COMPACT | JSON_REAL_PRECISION(4) | JSON_ENCODE_ANY);

	if (!text) {
		out->failed = true;
		return;
	}
	for (const char *p = text; *p; p++) {
		size_t plain = strcspn(p, "<>&");
		char escape[8];

		kf_buf_put(out, p, plain);
		p += plain;
		if (!*p) break;
		snprintf(escape, sizeof escape, "\\u%04x", *p);
		html_raw(out, escape);
	}
	free(text);
}

const char *html_count_text(char *text, double v)
{
	char digits[32];
	size_t at = 0;
	int n;

	if (!isfinite(v) || fabs(v) > 1e15) {
		snprintf(text, HTML_COUNT_MAX, isfinite(v) ? "%.3g" : "–", v);
		return text;
	}
	n = snprintf(digits, sizeof digits, "%.0f", fabs(v));
	if (v <= -0.5) at = (size_t)snprintf(text, HTML_COUNT_MAX, "−");
	for (int i = 0; i < n; i++) {
		if (i && (n - i) % 3 == 0) text[at++] = ',';
		text[at++] = digits[i];
	}
	text[at] = 0;
	return text;
}

void html_count(kf_buf *out, double v)
{
	char text[HTML_COUNT_MAX];

	html_raw(out, html_count_text(text, v));
}

void html_bytes(kf_buf *out, double n)
{
	static const char *const UNIT[] = { "B", "kB", "MB", "GB", "TB", "PB" };
	int u = 0;

	while (fabs(n) >= 1000 && u < 5) {
		n /= 1000;
		u++;
	}
	if (u == 0) html_put(out, "%.0f\u00a0B", n);
	else html_put(out, n >= 100 ? "%.0f\u00a0%s" : n >= 10 ? "%.1f\u00a0%s" : "%.2f\u00a0%s", n, UNIT[u]);
}

void html_number(kf_buf *out, double v, int decimals, bool sign)
{
	char text[400];

	if (!isfinite(v)) {
		html_raw(out, "–");
		return;
	}
	snprintf(text, sizeof text, "%.*f", decimals, fabs(v));
	if (v < 0 && strspn(text, "0.") < strlen(text)) html_raw(out, "−");
	else if (sign) html_raw(out, v > 0 && strspn(text, "0.") < strlen(text) ? "+" : "±");
	html_raw(out, text);
}

void html_percent(kf_buf *out, double share, bool sign)
{
	html_number(out, 100 * share, 1, sign);
	if (isfinite(share)) html_raw(out, "\u00a0%");
}
