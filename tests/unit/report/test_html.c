/* Text into HTML: nothing gets in as markup, numbers as people read them. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "report/html.h"

static kf_buf out;

static void is(const char *want)
{
	kf_buf_u8(&out, 0);
	assert_false(out.failed);
	assert_string_equal((char *)out.data, want);
	kf_buf_clear(&out);
}

static void text(const char *s, size_t n, const char *want)
{
	html_text(&out, (const uint8_t *)s, n);
	is(want);
}

static void test_text(void **st)
{
	(void)st;
	text("plain", 5, "plain");
	text("<b a=\"1\" c='2'>&amp;", 20, "&lt;b a=&quot;1&quot; c=&#39;2&#39;&gt;&amp;amp;");
	text("caf\xc3\xa9 \xe2\x98\x83 \xf0\x9f\x98\x80", 14, "caf\xc3\xa9 \xe2\x98\x83 \xf0\x9f\x98\x80");
	text("a\tb\nc", 5, "a\tb\nc");
	text("\0\x01\x7f\r", 4, "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd");
	/* what is no UTF-8: a stray byte, a character cut short, an overlong one, a surrogate */
	text("\xff", 1, "\xef\xbf\xbd");
	text("\xe2\x98", 2, "\xef\xbf\xbd\xef\xbf\xbd");
	text("\xc0\xbc", 2, "\xef\xbf\xbd\xef\xbf\xbd");
	text("\xed\xa0\x80", 3, "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd");
	/* right-to-left override, isolates and marks: the page would read other than it is */
	text("a\xe2\x80\xae" "b\xe2\x81\xa6" "c\xe2\x80\x8f", 12, "a\xef\xbf\xbd" "b\xef\xbf\xbd" "c\xef\xbf\xbd");
	text("\xe2\x80\x93", 3, "\xe2\x80\x93");
}

static void test_put(void **st)
{
	const char *volatile nothing = NULL;

	(void)st;
	html_put(&out, "<a href=\"#%s\">%s%s</a> %d %u %zu %lld 100 %% %c", "x\"y", "<i>", nothing, -3, 4u, (size_t)5, 6000000000ll, '<');
	is("<a href=\"#x&quot;y\">&lt;i&gt;</a> -3 4 5 6000000000 100 % &lt;");
	html_put(&out, "%.2f %g %.1f %.3f", 1.005e3, 0.25, NAN, -INFINITY);
	is("1005.00 0.25 – –");
}

static void test_numbers(void **st)
{
	static const struct { double v; int decimals; bool sign; const char *want; } N[] = {
		{ 1.25, 2, false, "1.25" }, { -1.25, 2, false, "−1.25" }, { 0.5, 1, true, "+0.5" }, { -0.00001, 2, false, "0.00" },
		{ -0.00001, 2, true, "±0.00" }, { 0, 1, true, "±0.0" }, { NAN, 2, true, "–" }, { INFINITY, 2, false, "–" } };
	static const struct { double v; const char *want; } C[] = { { 0, "0" }, { 999, "999" }, { 1000, "1,000" }, { 1234567, "1,234,567" },
		{ -1234, "−1,234" }, { NAN, "–" } };
	static const struct { double v; const char *want; } B[] = { { 12, "12\u00a0B" }, { 1234, "1.23\u00a0kB" }, { 12345, "12.3\u00a0kB" }, { 123456, "123\u00a0kB" },
		{ 2.5e9, "2.50\u00a0GB" } };

	(void)st;
	for (size_t i = 0; i < sizeof N / sizeof *N; i++) {
		html_number(&out, N[i].v, N[i].decimals, N[i].sign);
		is(N[i].want);
	}
	html_percent(&out, 0.125, false);
	html_raw(&out, ", ");
	html_percent(&out, -0.5, true);
	html_raw(&out, ", ");
	html_percent(&out, NAN, true);
	is("12.5\u00a0%, −50.0\u00a0%, –");
	for (size_t i = 0; i < sizeof C / sizeof *C; i++) {
		html_count(&out, C[i].v);
		is(C[i].want);
	}
	for (size_t i = 0; i < sizeof B / sizeof *B; i++) {
		html_bytes(&out, B[i].v);
		is(B[i].want);
	}
}

static void test_json(void **st)
{
	json_t *v = json_pack("{s:s, s:f}", "</script><!--", "a & b > c \"d\"", "x", 0.12345);

	(void)st;
	html_json(&out, v);
	is("{\"\\u003c/script\\u003e\\u003c!--\":\"a \\u0026 b \\u003e c \\\"d\\\"\",\"x\":0.1235}");
	json_decref(v);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_text), cmocka_unit_test(test_put), cmocka_unit_test(test_numbers),
		cmocka_unit_test(test_json) };
	int failed = cmocka_run_group_tests(tests, NULL, NULL);

	kf_buf_release(&out);
	return failed;
}
