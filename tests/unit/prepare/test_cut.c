#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "common/base/rng.h"
#include "data/cut.h"

typedef struct {
	kf_buf all;            /* the pieces, one after the other */
	size_t end[256];
	int n;
} collected;

static kf_status collect(void *arg, uint32_t piece, const uint8_t *text, size_t n, kf_err *err)
{
	collected *c = arg;

	if (c->n == 256) return kf_fail(err, KF_EINVAL, "too many pieces");
	assert_int_equal(piece, c->n);
	assert_true(n > 0);
	kf_buf_put(&c->all, text, n);
	c->end[c->n++] = c->all.len;
	return KF_OK;
}

static void cut(collected *c, const void *text, size_t n, bool nfc, size_t limit)
{
	kf_buf scratch = { 0 };
	kf_err err;

	kf_buf_clear(&c->all);
	c->n = 0;
	assert_int_equal(kf_cut_document(text, n, nfc, limit, &scratch, collect, c, &err), KF_OK);
	kf_buf_release(&scratch);
}

/* Cut a string and check the pieces, given as a NULL-terminated list. */
static void pieces_are(const char *text, size_t limit, const char *const *want)
{
	collected c = { 0 };
	size_t begin = 0;
	int n = 0;

	for (int nfc = 0; nfc < 2; nfc++) {
		cut(&c, text, strlen(text), nfc, limit);
		for (n = 0, begin = 0; want[n]; begin = c.end[n++]) {
			assert_true(n < c.n);
			assert_int_equal(c.end[n] - begin, strlen(want[n]));
			assert_memory_equal(c.all.data + begin, want[n], strlen(want[n]));
		}
		assert_int_equal(n, c.n);
	}
	kf_buf_release(&c.all);
}
#define PIECES(...) (const char *const[]){ __VA_ARGS__, NULL }

static void test_line_ends(void **state)
{
	(void)state;
	pieces_are("short\n", 16, PIECES("short\n"));
	pieces_are("exactly 16 bytes", 16, PIECES("exactly 16 bytes"));
	pieces_are("one\ntwo\nthree\nfour\nfive\n", 16, PIECES("one\ntwo\nthree\n", "four\nfive\n"));
	/* The line end may be the last byte that fits. */
	pieces_are("0123456789abcde\nnext", 16, PIECES("0123456789abcde\n", "next"));
	/* A line end one byte past the limit is none. */
	pieces_are("0123456789abcdef\nnext", 16, PIECES("0123456789abcdef", "\nnext"));
	pieces_are("a\n0123456789abcdefghij\nb", 16, PIECES("a\n", "0123456789abcdef", "ghij\nb"));
}

static void test_crlf(void **state)
{
	(void)state;
	pieces_are("one\r\ntwo two\r\nthree\r\n", 16, PIECES("one\r\ntwo two\r\n", "three\r\n"));
	/* Never between CR and LF: both go to the next piece. */
	pieces_are("0123456789abcde\r\nnext", 16, PIECES("0123456789abcde", "\r\nnext"));
}

static void test_multi_byte(void **state)
{
	(void)state;
	/* 15 ASCII bytes, then a character of two bytes across the limit. */
	pieces_are("0123456789abcde\xc3\xa9xyz", 16, PIECES("0123456789abcde", "\xc3\xa9xyz"));
	/* Four bytes, three of them past the limit. */
	pieces_are("0123456789abcde\xf0\x9f\x98\x80z", 16, PIECES("0123456789abcde", "\xf0\x9f\x98\x80z"));
	/* CJK, three bytes each: five fit. */
	pieces_are("\xe6\xbc\xa2\xe6\xbc\xa2\xe6\xbc\xa2\xe6\xbc\xa2\xe6\xbc\xa2\xe6\xbc\xa2", 16,
		PIECES("\xe6\xbc\xa2\xe6\xbc\xa2\xe6\xbc\xa2\xe6\xbc\xa2\xe6\xbc\xa2", "\xe6\xbc\xa2"));
	/* A base and a mark that has no composed form stay together: q with dot below and cedilla. */
	pieces_are("0123456789abcdeq\xcc\xa3.", 16, PIECES("0123456789abcde", "q\xcc\xa3."));
}

/* One base with more marks than fit: cut between characters, since it must be cut. */
static void test_long_cluster(void **state)
{
	uint8_t text[101];
	collected c = { 0 };

	(void)state;
	text[0] = 'q';
	for (int i = 0; i < 50; i++) memcpy(text + 1 + 2 * i, "\xcc\xa3", 2);
	cut(&c, text, sizeof text, false, 16);
	for (int i = 0; i < c.n; i++) assert_true(c.end[i] == sizeof text || c.end[i] % 2 == 1);
	assert_int_equal(c.all.len, sizeof text);
	kf_buf_release(&c.all);
}

static void test_not_utf8(void **state)
{
	uint8_t text[100];
	collected c = { 0 };

	(void)state;
	memset(text, 0x80, sizeof text);
	cut(&c, text, sizeof text, false, 16);
	assert_int_equal(c.n, 7);
	assert_int_equal(c.end[0], 16);
	assert_memory_equal(c.all.data, text, sizeof text);
	kf_buf_release(&c.all);
	assert_false(kf_text_is_utf8(text, 1));
	assert_false(kf_text_is_utf8((const uint8_t *)"\xc3", 1));             /* cut short */
	assert_false(kf_text_is_utf8((const uint8_t *)"\xc0\x80", 2));         /* overlong */
	assert_false(kf_text_is_utf8((const uint8_t *)"\xed\xa0\x80", 3));     /* surrogate */
	assert_false(kf_text_is_utf8((const uint8_t *)"\xf4\x90\x80\x80", 4)); /* past the last code point */
	assert_true(kf_text_is_utf8((const uint8_t *)"a\0\xc3\xa9\xf0\x9f\x98\x80", 8));
	assert_true(kf_text_is_utf8(NULL, 0));
}

static void test_nfc(void **state)
{
	kf_buf out = { 0 };
	kf_err err;

	(void)state;
	assert_int_equal(kf_text_nfc((const uint8_t *)"e\xcc\x81", 3, &out, &err), KF_OK);
	assert_int_equal(out.len, 2);
	assert_memory_equal(out.data, "\xc3\xa9", 2);
	kf_buf_clear(&out);
	/* Ångström sign to letter; Hangul jamo to a syllable; a NUL stays. */
	assert_int_equal(kf_text_nfc((const uint8_t *)"\xe2\x84\xab\0\xe1\x84\x80\xe1\x85\xa1", 10, &out, &err),
		KF_OK);
	assert_int_equal(out.len, 6);
	assert_memory_equal(out.data, "\xc3\x85\0\xea\xb0\x80", 6);
	kf_buf_release(&out);
}

/* A document cut and normalised a stretch at a time is the whole document's NFC, whatever falls
 * on the seams. */
static void test_nfc_in_stretches(void **state)
{
	static const char *const parts[] = { "e", "\xcc\x81", "\xcc\xa3", "q", "\n", "\xe1\x84\x80",
		"\xe1\x85\xa1", "\xe1\x86\xa8", "\xc3\xa9", "\xe2\x84\xab", "\xf0\x9f\x98\x80", " word" };
	kf_buf text = { 0 }, whole = { 0 };
	collected c = { 0 };
	kf_err err;
	kf_rng r;

	(void)state;
	kf_rng_seed(&r, 7);
	for (int round = 0; round < 20; round++) {
		/* Some rounds without any ASCII, so that a stretch has to grow. */
		int only = round % 4 == 3;

		kf_buf_clear(&text);
		kf_buf_clear(&whole);
		while (text.len < 100000) {
			const char *p = only ? "\xcc\x81" : parts[kf_rng_below(&r, sizeof parts / sizeof *parts)];

			kf_buf_put(&text, p, strlen(p));
		}
		assert_int_equal(kf_text_nfc(text.data, text.len, &whole, &err), KF_OK);
		cut(&c, text.data, text.len, true, 500 + 7000 * (size_t)(round % 3));
		assert_int_equal(c.all.len, whole.len);
		assert_memory_equal(c.all.data, whole.data, whole.len);
		for (int i = 0, begin = 0; i < c.n; begin = (int)c.end[i++])
			assert_true(kf_text_is_utf8(c.all.data + begin, c.end[i] - (size_t)begin));
	}
	kf_buf_release(&text);
	kf_buf_release(&whole);
	kf_buf_release(&c.all);
}

static void test_blank(void **state)
{
	(void)state;
	assert_true(kf_text_blank(NULL, 0));
	assert_true(kf_text_blank((const uint8_t *)" \t\r\n\v\f", 6));
	/* No-break space, ideographic space, byte order mark. */
	assert_true(kf_text_blank((const uint8_t *)"\xc2\xa0\xe3\x80\x80\xef\xbb\xbf", 8));
	assert_false(kf_text_blank((const uint8_t *)"  x", 3));
	assert_false(kf_text_blank((const uint8_t *)"\0", 1));
	assert_false(kf_text_blank((const uint8_t *)"\xff", 1));
}

/* Of so many marks that they are put in order beforehand, the normal form is utf8proc's. */
static void test_nfc_of_many_marks(void **state)
{
	static const char *const marks[] = { "\xcc\x81", "\xcc\xa3", "\xcd\x84", "\xe2\x83\x90", "\xe0\xa4\xbc", "\xcd\x85", "\xcc\xa7" };
	kf_buf text = { 0 }, got = { 0 };
	utf8proc_uint8_t *want = NULL;
	utf8proc_ssize_t n;
	uint32_t x = 1;
	kf_err err;

	(void)state;
	for (int i = 0; i < 5000; i++) {
		x = x * 1664525u + 1013904223u;
		if (i % 1700 == 0) kf_buf_put(&text, i ? "be" : "a", i ? 2 : 1);
		kf_buf_put(&text, marks[(x >> 16) % 7], strlen(marks[(x >> 16) % 7]));
	}
	assert_int_equal(kf_text_nfc(text.data, text.len, &got, &err), KF_OK);
	n = utf8proc_map(text.data, (utf8proc_ssize_t)text.len, &want, UTF8PROC_STABLE | UTF8PROC_COMPOSE);
	assert_true(n > 0 && (size_t)n == got.len);
	assert_memory_equal(want, got.data, got.len);
	free(want);
	kf_buf_release(&text);
	kf_buf_release(&got);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_line_ends), cmocka_unit_test(test_crlf), cmocka_unit_test(test_multi_byte),
		cmocka_unit_test(test_long_cluster), cmocka_unit_test(test_not_utf8), cmocka_unit_test(test_nfc),
		cmocka_unit_test(test_nfc_in_stretches), cmocka_unit_test(test_nfc_of_many_marks), cmocka_unit_test(test_blank),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
