#include "eval/print.h"

#include <math.h>
#include <stdio.h>

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

json_t *kf_print_number(double v)
{
	return isfinite(v) ? json_real(v) : json_null();
}
