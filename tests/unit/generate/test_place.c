/* Where a generated text begins in its document. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "common/text/utf8.h"
#include "generate/generate.h"

static const char *place(const char *text, size_t most, double u)
{
	static char out[4096];
	size_t n = strlen(text), from, to;

	kf_generate_place((const uint8_t *)text, n, most, u, &from, &to);
	assert_true(from < to && to <= n && to - from < sizeof out);
	memcpy(out, text + from, to - from);
	out[to - from] = 0;
	return out;
}

static void words(void **state)
{
	(void)state;
	assert_string_equal(place("one two three four", 5, 0), "one two");
	assert_string_equal(place("one two three four", 7, 0), "one two");     /* not the blank behind it */
	assert_string_equal(place("one two three four", 8, 0), "one two three");
	assert_string_equal(place("one two three four", 1, 0.4), "two");       /* byte 6, within "two" */
	assert_string_equal(place("one two three four", 100, 0.4), "two three four");
	assert_string_equal(place("one two three four", 100, 0.9), "three four");     /* byte 13, behind "three" */
	assert_string_equal(place("x", 100, 0.999), "x");
	assert_string_equal(place(" ", 100, 0.999), " ");
}

/* Any place of any text: between characters, and of words where there are some near. */
static void characters(void **state)
{
	static const char *const texts[] = { "日本語の文章には空白がありません。それでも文字の途中で切ってはいけません。次の文も同じです。日本語の文章には空白がありません。",
		"größer als früher, weil’s heißt", "\xff\xfe\x80\x80\x80", "\x80\x80", " \n\t  \n" };

	(void)state;
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
		for (size_t most = 1; most < 80; most += 3)
			for (double u = 0; u < 1; u += 0.01) {
				const char *p = place(texts[i], most, u);
				size_t n = strlen(p);

				assert_true(n <= most + 64 + 3 + 64);
				if (i < 2) assert_int_equal(kf_utf8_valid((const uint8_t *)p, n), n);
			}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(words), cmocka_unit_test(characters) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
