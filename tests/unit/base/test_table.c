/* How wide text is, and what of it fits: names of documents, domains and models in any writing. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "common/base/progress.h"
#include "common/base/table.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

static const struct { const char *text; int width; } TEXT[] = {
	{ "", 0 }, { "llama", 5 }, { "Größe", 5 }, { "Gro\xcc\x88\xc3\x9f" "e", 5 },  /* o and a combining diaeresis */
	{ "中文", 4 }, { "한국어", 6 }, { "ｆｕｌｌ", 8 }, { "ﾊﾝｶｸ", 4 },
	{ "русский", 7 }, { "עברית", 5 }, { "ไทย", 3 }, { "é🙂", 3 }, { "e\xcc\x81\xcc\xa3", 1 },
	{ "a\xe2\x80\x8b" "b", 2 },                    /* a space of no width */
	{ "\xff\xfe", 2 }, { "a\xc3", 2 }, { "\xe4\xb8", 2 },  /* no UTF-8; the beginning of a character */
};

static void test_widths(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof TEXT / sizeof *TEXT; i++)
		if (kf_text_width(TEXT[i].text) != TEXT[i].width)
			fail_msg("\"%s\" takes %d columns, not %d", TEXT[i].text, TEXT[i].width, kf_text_width(TEXT[i].text));
}

static void test_fields_are_filled(void **state)
{
	char out[128];

	(void)state;
	for (size_t i = 0; i < sizeof TEXT / sizeof *TEXT; i++)
		for (int columns = 0; columns < 12; columns++) {
			const int want = columns > TEXT[i].width ? columns : TEXT[i].width;

			snprintf(out, sizeof out, "%-*s", kf_text_field(TEXT[i].text, columns), TEXT[i].text);
			assert_int_equal(kf_text_width(out), want);
			assert_int_equal(strncmp(out, TEXT[i].text, strlen(TEXT[i].text)), 0);
			snprintf(out, sizeof out, "%*s", kf_text_field(TEXT[i].text, columns), TEXT[i].text);
			assert_int_equal(kf_text_width(out), want);
		}
}

static void test_what_fits(void **state)
{
	(void)state;
	assert_int_equal(kf_text_fit("中文", 4), 6);
	assert_int_equal(kf_text_fit("中文", 3), 3);
	assert_int_equal(kf_text_fit("中文", 1), 0);
	assert_int_equal(kf_text_fit("e\xcc\x81\xcc\xa3z", 1), 5);   /* with its marks */
	assert_int_equal(kf_text_fit("Größe", 3), 4);
	assert_int_equal(kf_text_fit("abc", 0), 0);
	assert_int_equal(kf_text_fit("\xff\xff", 1), 1);
	assert_int_equal(kf_text_fit("", 9), 0);
}

static void test_columns_grow(void **state)
{
	int columns = 3;

	(void)state;
	kf_text_widen(&columns, "ab");
	assert_int_equal(columns, 3);
	kf_text_widen(&columns, "中文");
	assert_int_equal(columns, 4);
}

static void test_no_name(void **state)
{
	(void)state;
	assert_string_equal(kf_domain_label("prose"), "prose");
	assert_string_equal(kf_domain_label(""), "(no domain)");
}

/* What a terminal of so many columns gets of a progress line. */
static void progress_line(int columns, const char *note, char *out, size_t size)
{
	const struct winsize w = { .ws_row = 24, .ws_col = (unsigned short)columns };
	const int terminal = posix_openpt(O_RDWR | O_NOCTTY), standard = dup(2);
	int end;
	ssize_t n, got;
	kf_progress p;

	assert_true(terminal >= 0 && standard >= 0 && grantpt(terminal) == 0 && unlockpt(terminal) == 0);
	assert_true((end = open(ptsname(terminal), O_RDWR | O_NOCTTY)) >= 0);
	assert_int_equal(ioctl(end, TIOCSWINSZ, &w), 0);
	dup2(end, 2);
	kf_progress_start(&p, "evaluate", "tokens", 1000, KF_PROGRESS_AUTO);
	kf_progress_note(&p, "%s", note);
	p.start -= 100;
	p.last = p.mark = p.start;
	kf_progress_add(&p, 500);
	dup2(standard, 2);
	close(standard);
	close(end);   /* with which what is under way comes to its end */
	for (n = 0; (got = read(terminal, out + n, size - 1 - (size_t)n)) > 0;) n += got;
	close(terminal);
	assert_true(n > 4 && memcmp(out, "\r\033[K", 4) == 0);
	memmove(out, out + 4, (size_t)n - 4);
	out[n - 4] = 0;
}

static void test_progress_fits_the_terminal(void **state)
{
	char line[1024];

	(void)state;
	progress_line(100, "中文模型", line, sizeof line);
	assert_true(kf_text_width(line) < 100 && strstr(line, "中文模型") && strstr(line, "[#"));
	/* the bar gives way first, then the end: a column is left when a wide character does not fit */
	progress_line(76, "中文模型中文模型", line, sizeof line);
	assert_true(kf_text_width(line) < 76 && strstr(line, "中文模型中文模型"));
	for (int columns = 50; columns < 60; columns++) {
		progress_line(columns, "中文模型中文模型", line, sizeof line);
		assert_in_range(kf_text_width(line), columns - 2, columns - 1);
		assert_null(strstr(line, "[#"));
	}
}

static void test_notes_of_names(void **state)
{
	kf_progress p;

	(void)state;
	kf_progress_start(&p, "evaluate", "tokens", 1000, KF_PROGRESS_NONE);
	kf_progress_note(&p, "%s", "a\x1b[2Jb\n\x7f");
	assert_string_equal(p.note, "a?[2Jb??");
	/* 62 bytes and the first of two; whole characters up to the last byte */
	kf_progress_note(&p, "%s%s", "a", "中文模型中文模型中文模型中文模型中文模型模");
	assert_int_equal(strlen(p.note), 61);
	assert_string_equal(p.note + 58, "型");
	kf_progress_note(&p, "%s", "中文模型中文模型中文模型中文模型中文模型模型");
	assert_int_equal(strlen(p.note), 63);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_widths), cmocka_unit_test(test_fields_are_filled), cmocka_unit_test(test_what_fits),
		cmocka_unit_test(test_columns_grow), cmocka_unit_test(test_no_name),
		cmocka_unit_test(test_progress_fits_the_terminal),
		cmocka_unit_test(test_notes_of_names),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
