#include "eval/print.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/base/file.h"
#include "common/base/table.h"
#include "common/store/json.h"

static void print_number(char out[32], double v, const char *fixed, const char *large)
{
	if (isfinite(v)) snprintf(out, 32, fabs(v) < 1e5 ? fixed : large, v);
	else snprintf(out, 32, "-");
}

void kf_print_value(char out[32], double v) { print_number(out, v, "%.4f", "%.4g"); }
void kf_print_signed(char out[32], double v) { print_number(out, v, "%+.4f", "%+.4g"); }

void kf_print_between(kf_buf *out, double low, double high, bool with_sign)
{
	char a[32], b[32];

	if (!isfinite(low)) return;
	if (with_sign) {
		kf_print_signed(a, low);
		kf_print_signed(b, high);
	} else {
		kf_print_value(a, low);
		kf_print_value(b, high);
	}
	kf_buf_printf(out, " (%s to %s)", a, b);
}

void kf_print_cell(kf_buf *out, const char *text)
{
	for (; *text; text++) {
		if (*text == '|') kf_buf_u8(out, '\\');
		kf_buf_u8(out, (uint8_t)*text);
	}
}

bool kf_print_utf8(const char *text)
{
	size_t left = strlen(text), n;

	for (; left; text += n, left -= n)
		if (!(n = kf_json_char((const uint8_t *)text, left))) return false;
	return true;
}

int kf_print_width(void)
{
	const int has = kf_terminal_columns(STDOUT_FILENO);

	return has ? has : INT_MAX;
}

json_t *kf_print_string(const char *text)
{
	kf_buf b = { 0 };
	json_t *v;

	kf_json_text(&b, text, strnlen(text, KF_PATH_MAX));
	v = kf_buf_check(&b, NULL) == KF_OK ? json_stringn(b.len ? (const char *)b.data : "", b.len) : NULL;
	kf_buf_release(&b);
	return v;
}
