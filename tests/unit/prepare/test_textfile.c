/* Lines of a file are the same whether it is plain, gzip or zstd, in one piece or several; what is damaged says so. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include <cmocka.h>

#include "common/base/file.h"
#include "common/base/rng.h"
#include "data/textfile.h"

static char path[] = "/tmp/kfuse-textfile.XXXXXX";

static void pack_gzip(kf_buf *out, const uint8_t *p, size_t n)
{
	z_stream z = { 0 };

	assert_int_equal(deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
	assert_true(kf_buf_reserve(out, deflateBound(&z, n) + 64));
	z.next_in = (Bytef *)(uintptr_t)p;
	z.avail_in = (uInt)n;
	z.next_out = out->data + out->len;
	z.avail_out = (uInt)(out->cap - out->len);
	assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
	out->len += z.total_out;
	deflateEnd(&z);
}

/* With a checksum, so that no damage goes unseen. */
static void pack_zstd(kf_buf *out, const uint8_t *p, size_t n)
{
	ZSTD_CCtx *c = ZSTD_createCCtx();
	size_t put;

	assert_non_null(c);
	ZSTD_CCtx_setParameter(c, ZSTD_c_checksumFlag, 1);
	assert_true(kf_buf_reserve(out, ZSTD_compressBound(n)));
	put = ZSTD_compress2(c, out->data + out->len, out->cap - out->len, p, n);
	assert_false(ZSTD_isError(put));
	out->len += put;
	ZSTD_freeCCtx(c);
}

typedef void (*pack_fn)(kf_buf *out, const uint8_t *p, size_t n);
static void pack_not(kf_buf *out, const uint8_t *p, size_t n) { kf_buf_put(out, p, n); }
static const pack_fn pack[] = { pack_not, pack_gzip, pack_zstd };

static void put(const kf_buf *b)
{
	kf_err err;

	assert_int_equal(kf_file_write_atomic(path, b->data, b->len, &err), KF_OK);
}

/* Lines of the file, each followed by '\n', into out; the status they end with. */
static kf_status lines(kf_buf *out, size_t *told, kf_err *err)
{
	kf_textfile *f;
	const uint8_t *p;
	size_t n;
	kf_status rc = kf_textfile_open(path, "the file", &f, err);

	kf_buf_clear(out);
	*told = 0;
	if (rc != KF_OK) return rc;
	while ((rc = kf_textfile_line(f, 1 << 30, &p, &n, err)) == KF_OK && p) {
		kf_buf_put(out, p, n);
		kf_buf_u8(out, '\n');
		*told += kf_textfile_read(f);
	}
	*told += kf_textfile_read(f);
	kf_textfile_close(f);
	return rc;
}

/* Lines of 0 to a million bytes, so that some lie across what is unpacked at a time. */
static void make_text(kf_buf *b)
{
	static const size_t most[] = { 3, 80, 5000, 300000, 1000000 };
	kf_rng r;

	kf_rng_seed(&r, 5);
	for (int i = 0; i < 60; i++) {
		size_t n = (size_t)kf_rng_below(&r, most[i % 5]);

		for (size_t k = 0; k < n; k++) kf_buf_u8(b, (uint8_t)("abcdefgh \t\r."[kf_rng_below(&r, 12)]));
		kf_buf_u8(b, '\n');
	}
}

static void test_lines(void **state)
{
	kf_buf text = { 0 }, file = { 0 }, got = { 0 };
	kf_err err;
	size_t told;

	(void)state;
	make_text(&text);
	for (int kind = 0; kind < 3; kind++)
		for (int pieces = 1; pieces <= 3; pieces++) {
			kf_buf_clear(&file);
			if (kind == 2 && pieces == 2) kf_buf_put(&file, "\x53\x2a\x4d\x18\x04\0\0\0size", 12);   /* a frame to be skipped, as pzstd has it */
			for (int i = 0; i < pieces; i++) {
				size_t from = text.len * (size_t)i / (size_t)pieces, to = text.len * (size_t)(i + 1) / (size_t)pieces;

				pack[kind](&file, text.data + from, to - from);
				if (pieces == 3 && i == 1) pack[kind](&file, NULL, 0); /* one with nothing in it */
			}
			if (kind == 1 && pieces == 2) kf_buf_fill(&file, 0, 700);   /* as tapes have it */
			put(&file);
			assert_int_equal(lines(&got, &told, &err), KF_OK);
			assert_int_equal(got.len, text.len);
			assert_memory_equal(got.data, text.data, text.len);
			assert_int_equal(told, file.len);
		}
	kf_buf_release(&text);
	kf_buf_release(&file);
	kf_buf_release(&got);
}

static void test_ends(void **state)
{
	static const struct { const char *text, *lines; } cases[] = {
		{ "", "" }, { "\n", "\n" }, { "a", "a\n" }, { "a\n\nb", "a\n\nb\n" }, { "\xef\xbb\xbf" "a\n", "a\n" }, { "\xef\xbb\xbf", "" }, { "\xef\xbb", "\xef\xbb\n" },
	};
	kf_buf file = { 0 }, got = { 0 };
	kf_err err;
	size_t told;

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		for (int kind = 0; kind < 3; kind++) {
			kf_buf_clear(&file);
			pack[kind](&file, (const uint8_t *)cases[i].text, strlen(cases[i].text));
			put(&file);
			assert_int_equal(lines(&got, &told, &err), KF_OK);
			kf_buf_u8(&got, 0);
			assert_string_equal((const char *)got.data, cases[i].lines);
		}
	kf_buf_release(&file);
	kf_buf_release(&got);
}

/* Cut short anywhere, a bit changed anywhere, something behind the end: never fewer lines without a word. */
static void test_damage(void **state)
{
	kf_buf text = { 0 }, file = { 0 }, bad = { 0 }, got = { 0 };
	kf_err err;
	size_t told;

	(void)state;
	for (int i = 0; i < 40; i++) kf_buf_printf(&text, "line %d of a short text\n", i);
	for (int kind = 1; kind < 3; kind++) {
		kf_buf_clear(&file);
		pack[kind](&file, text.data, text.len);
		for (size_t n = 4; n < file.len; n++) {
			kf_buf_clear(&bad);
			kf_buf_put(&bad, file.data, n);
			put(&bad);
			assert_int_equal(lines(&got, &told, &err), KF_EDATA);
			assert_non_null(strstr(err.text, "the file: "));
		}
		for (size_t bit = 32; bit < file.len * 8; bit++) {
			kf_buf_clear(&bad);
			kf_buf_put(&bad, file.data, file.len);
			bad.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
			put(&bad);
			/* what a gzip header says of the time and the system is no text */
			if (lines(&got, &told, &err) == KF_OK) {
				assert_int_equal(got.len, text.len);
				assert_memory_equal(got.data, text.data, text.len);
			}
		}
		kf_buf_clear(&bad);
		kf_buf_put(&bad, file.data, file.len);
		kf_buf_put(&bad, "more", 4);
		put(&bad);
		assert_int_equal(lines(&got, &told, &err), KF_EDATA);
	}
	kf_buf_release(&text);
	kf_buf_release(&file);
	kf_buf_release(&bad);
	kf_buf_release(&got);
}

static void test_limits(void **state)
{
	kf_buf text = { 0 }, file = { 0 };
	kf_textfile *f;
	const uint8_t *p;
	size_t n;
	kf_err err;

	(void)state;
	kf_buf_printf(&text, "short\n");
	kf_buf_fill(&text, 'x', 1 << 20);
	for (int kind = 0; kind < 3; kind++) {
		kf_buf_clear(&file);
		pack[kind](&file, text.data, text.len);
		put(&file);
		assert_int_equal(kf_textfile_open(path, "the file", &f, &err), KF_OK);
		assert_int_equal(kf_textfile_peek(f, 7, &p, &n, &err), KF_OK);
		assert_memory_equal(p, "short\nx", 7);
		assert_int_equal(kf_textfile_line(f, 1000, &p, &n, &err), KF_OK);
		assert_int_equal(n, 5);
		assert_int_equal(kf_textfile_line(f, 1000, &p, &n, &err), KF_EDATA);
		assert_non_null(strstr(err.text, "line 2: the line is longer than 1000 bytes"));
		kf_textfile_close(f);
		assert_int_equal(kf_textfile_open(path, "the file", &f, &err), KF_OK);
		assert_int_equal(kf_textfile_all(f, text.len, &p, &n, &err), KF_OK);
		assert_int_equal(n, text.len);
		assert_memory_equal(p, text.data, n);
		kf_textfile_close(f);
		assert_int_equal(kf_textfile_open(path, "the file", &f, &err), KF_OK);
		assert_int_equal(kf_textfile_all(f, text.len - 1, &p, &n, &err), kind ? KF_EDATA : KF_OK);
		kf_textfile_close(f);
	}
	kf_buf_release(&text);
	kf_buf_release(&file);
}

static int begin(void **state)
{
	int fd = mkstemp(path);

	(void)state;
	return fd < 0 ? -1 : close(fd);
}

static int end(void **state)
{
	(void)state;
	return unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lines), cmocka_unit_test(test_ends), cmocka_unit_test(test_damage), cmocka_unit_test(test_limits),
	};

	return cmocka_run_group_tests_name("textfile", tests, begin, end);
}
