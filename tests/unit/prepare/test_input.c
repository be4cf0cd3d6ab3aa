#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#include <cmocka.h>

#include "common/base/file.h"
#include "data/input.h"
#include "tests/unit/scratch.h"

static void put(const char *name, const char *text, size_t n)
{
	char path[KF_PATH_MAX];
	kf_err err;

	assert_int_equal(kf_path_join(path, scratch, name, &err), KF_OK);
	assert_int_equal(kf_file_write_atomic(path, text, n, &err), KF_OK);
}

typedef struct { char log[4096]; size_t bytes; } seen;

static kf_status note(void *arg, const kf_found *d, kf_err *err)
{
	seen *s = arg;
	size_t n = strlen(s->log);
	const char *id = strncmp(d->id, scratch, strlen(scratch)) == 0 ? d->id + strlen(scratch) : d->id;

	(void)err;
	snprintf(s->log + n, sizeof s->log - n, "%s|%s|%s|%.*s;", id, d->domain ? d->domain : "-",
		d->split ? d->split : "-", (int)d->n, (const char *)d->text);
	return KF_OK;
}

static void note_bytes(void *arg, size_t bytes) { ((seen *)arg)->bytes += bytes; }

static kf_status read_all(const char *name, kf_text_format format, seen *s, kf_err *err)
{
	char path[KF_PATH_MAX];
	const char *paths[] = { path };
	kf_inputs *in;
	kf_status rc;

	memset(s, 0, sizeof *s);
	assert_int_equal(kf_path_join(path, scratch, name, err), KF_OK);
	if ((rc = kf_inputs_open(paths, 1, format, &in, err)) != KF_OK) return rc;
	rc = kf_inputs_each(in, note, NULL, note_bytes, s, err);
	kf_inputs_close(in);
	return rc;
}

static void test_jsonl(void **state)
{
	static const char text[] = "\xef\xbb\xbf{\"text\": \"one\"}\n"
		"\n  \r\n"
		"{\"id\": 7, \"text\": \"two\", \"domain\": \"d\", \"split\": \"test\", \"other\": [1]}\r\n"
		"{\"id\": \"x\", \"domain\": null, \"text\": \"caf\\u00e9\"}";
	seen s;
	kf_err err;

	(void)state;
	put("a.jsonl", text, sizeof text - 1);
	assert_int_equal(read_all("a.jsonl", KF_FORMAT_AUTO, &s, &err), KF_OK);
	assert_string_equal(s.log, "/a.jsonl:1|-|-|one;7|d|test|two;x|-|-|caf\xc3\xa9;");
	assert_in_range(s.bytes, sizeof text - 5, sizeof text);
	/* Compressed, the same; what it holds goes by the name without the compression's. */
	for (int i = 0; i < 2; i++) {
		static const char *const name[] = { "a.jsonl.zst", "a.ndjson.zst" };
		char packed[1024], want[256];
		size_t n = ZSTD_compress(packed, sizeof packed, text, sizeof text - 1, 3);

		assert_false(ZSTD_isError(n));
		put(name[i], packed, n);
		assert_int_equal(read_all(name[i], KF_FORMAT_AUTO, &s, &err), KF_OK);
		snprintf(want, sizeof want, "/%s:1|-|-|one;7|d|test|two;x|-|-|caf\xc3\xa9;", name[i]);
		assert_string_equal(s.log, want);
		assert_int_equal(s.bytes, n);
	}
	/* The same file as text is one document. */
	assert_int_equal(read_all("a.jsonl", KF_FORMAT_TEXT, &s, &err), KF_OK);
	assert_memory_equal(s.log, "/a.jsonl|-|-|{\"text\": \"one\"}", 27);
}

static void expect_error(const char *text, size_t n, kf_status code, const char *want)
{
	seen s;
	kf_err err;

	put("bad.jsonl", text, n);
	assert_int_equal(read_all("bad.jsonl", KF_FORMAT_AUTO, &s, &err), code);
	if (!strstr(err.text, want)) fail_msg("\"%s\" lacks \"%s\"", err.text, want);
}
#define BAD(text, code, want) expect_error(text, sizeof text - 1, code, want)

/* JSON by its first record: lines, a list, or a text. */
static void test_json(void **state)
{
	static const struct { const char *name, *text, *want; kf_text_format format; } cases[] = {
		{ "a.json", "{\"text\": \"one\"}\n{\"text\": \"two\"}\n", "/a.json:1|-|-|one;/a.json:2|-|-|two;", KF_FORMAT_AUTO },
		{ "a.json", "\n [ {\"text\": \"a]\\\"},{\", \"id\": 3},\n{\"text\": \"two\", \"x\": [1, {\"y\": \"[\"}]} ]\n", "3|-|-|a]\"},{;/a.json:2|-|-|two;", KF_FORMAT_AUTO },
		{ "a.json", "[]", "/a.json|-|-|[];", KF_FORMAT_AUTO },
		{ "a.json", "{\"name\": \"x\"}", "/a.json|-|-|{\"name\": \"x\"};", KF_FORMAT_AUTO },
		{ "a.json", "[{\"question\": \"x\"}]", "/a.json|-|-|[{\"question\": \"x\"}];", KF_FORMAT_AUTO },
		{ "a.json", "[1, 2", "/a.json|-|-|[1, 2;", KF_FORMAT_AUTO },
		{ "a.json", "[{\"text\": \"one\"}]", "/a.json|-|-|[{\"text\": \"one\"}];", KF_FORMAT_TEXT },
		{ "a.txt", "[{\"text\": \"one\"}]", "/a.txt|-|-|[{\"text\": \"one\"}];", KF_FORMAT_AUTO },
		{ "a.txt", "[{\"text\": \"one\"}]", "/a.txt:1|-|-|one;", KF_FORMAT_JSONL },
		{ "a.jsonl", "[{\"text\": \"one\"}, {\"text\": \"two\"}]", "/a.jsonl:1|-|-|one;/a.jsonl:2|-|-|two;", KF_FORMAT_AUTO },
		{ "a.jsonl", "[ ]\n", "", KF_FORMAT_AUTO },
	};
	seen s;
	kf_err err;

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		put(cases[i].name, cases[i].text, strlen(cases[i].text));
		if (read_all(cases[i].name, cases[i].format, &s, &err) != KF_OK) fail_msg("case %zu: %s", i, err.text);
		if (strcmp(s.log, cases[i].want) != 0) fail_msg("case %zu: %s", i, s.log);
	}
	BAD("[{\"text\": \"a\"}, {\"text\": \"b\"}", KF_EDATA, "bad.jsonl: the list of its records does not end");
	BAD("[{\"text\": \"a\"}, {\"text\": \"b]", KF_EDATA, "bad.jsonl: the list of its records does not end");
	BAD("[{\"text\": \"a\"},]", KF_EDATA, "bad.jsonl, item 2: not valid JSON");
	BAD("[{\"text\": \"a\"} {\"text\": \"b\"}]", KF_EDATA, "bad.jsonl, item 1: not valid JSON");
	BAD("[{\"text\": \"a\"}]\n[{\"text\": \"b\"}]", KF_EDATA, "something follows the list of its records, 16 bytes");
	BAD("[{\"text\": \"a\"}, 5]", KF_EDATA, "bad.jsonl, item 2: not valid JSON");
	BAD("[{\"text\": \"a\"}, {}]", KF_EDATA, "item 2: the record has no \"text\", \"messages\" or");
}

static void test_errors(void **state)
{
	(void)state;
	BAD("{\"text\": \"a\"}\n{\"text\": \"b\"", KF_EDATA, "bad.jsonl, line 2: not valid JSON");
	BAD("{\"text\": \"a\"}\n\n[1]\n", KF_EDATA, "bad.jsonl, line 3: the record is not a JSON object");
	BAD("{\"id\": \"a\"}\n", KF_EDATA, "bad.jsonl, line 1: the record has no \"text\"");
	BAD("{\"text\": 5}\n", KF_EDATA, "line 1: \"text\" is not a string");
	BAD("{\"text\": \"a\", \"domain\": 5}\n", KF_EDATA, "line 1: \"domain\" is not a string");
	BAD("{\"text\": \"a\", \"id\": []}\n", KF_EDATA, "line 1: \"id\" is not a string");
	BAD("{\"text\": \"a\", \"id\": \"a\\u0000b\"}\n", KF_EDATA,
		"\"id\" is longer than 4096 bytes or has a NUL");
	BAD("{\"text\": \"a\", \"messages\": []}\n", KF_EDATA, "line 1: the record has both \"text\" and messages");
	BAD("{\"text\": \"\xff\"}\n", KF_EDATA, "line 1: not valid JSON");
	BAD("{\"text\": \"\\ud800\"}\n", KF_EDATA, "line 1: not valid JSON");
	BAD("{\"text\": \"a\", \"text\": \"b\"}\n", KF_EDATA, "line 1: not valid JSON: duplicate object key");
	BAD("{\"text\": \"a\"} {\"text\": \"b\"}\n", KF_EDATA, "line 1: not valid JSON");
	{
		char deep[20000];

		memset(deep, '[', sizeof deep);
		expect_error(deep, sizeof deep, KF_EDATA, "the list of its records does not end");
		memcpy(deep, "{\"text\":", 8);
		expect_error(deep, sizeof deep, KF_EDATA, "line 1: not valid JSON");
		memset(deep, '[', sizeof deep / 2);
		memset(deep + sizeof deep / 2, ']', sizeof deep / 2);
		expect_error(deep, sizeof deep, KF_EDATA, "item 1: not valid JSON");
	}
}

static void test_folders(void **state)
{
	char path[KF_PATH_MAX], loop[KF_PATH_MAX];
	const char *paths[] = { path }, *name;
	kf_inputs *in;
	seen s;
	kf_err err;

	(void)state;
	assert_int_equal(kf_path_join(path, scratch, "tree", &err), KF_OK);
	assert_int_equal(kf_path_join(loop, scratch, "tree/sub", &err), KF_OK);
	assert_int_equal(kf_mkdirs(loop, &err), KF_OK);
	put("tree/b.txt", "bee", 3);
	put("tree/a.txt", "ay", 2);
	put("tree/.hidden", "no", 2);
	put("tree/empty", "", 0);
	put("tree/binary", "x\0y", 3);
	put("tree/sub/c.jsonl", "{\"text\": \"sea\"}\n", 16);
	strcat(loop, "/loop");
	assert_int_equal(symlink(path, loop), 0);
	assert_int_equal(read_all("tree", KF_FORMAT_AUTO, &s, &err), KF_OK);
	assert_string_equal(s.log, "/tree/a.txt|-|-|ay;/tree/b.txt|-|-|bee;/tree/sub/c.jsonl:1|-|-|sea;");

	assert_int_equal(kf_inputs_open(paths, 1, KF_FORMAT_AUTO, &in, &err), KF_OK);
	assert_int_equal(kf_inputs_files(in), 3);
	assert_int_equal(kf_inputs_left_out(in), 2);
	assert_int_equal(kf_inputs_no_text(in, &name), 1);
	assert_non_null(strstr(name, "tree/binary"));
	assert_int_equal(kf_inputs_plain(in, &name), 0);
	assert_int_equal(kf_inputs_bytes(in), 21);
	kf_inputs_close(in);

	assert_int_equal(read_all("nowhere", KF_FORMAT_AUTO, &s, &err), KF_ENOTFOUND);
	assert_non_null(strstr(err.text, "nowhere: No such file"));
}

/* Numbers that are too large are in nobody's way, and nothing else changes for them. */
static void test_numbers(void **state)
{
#define LARGE "\"meta\": {\"simhash\": 18446744073709551615, \"x\": [-9223372036854775809, 1e999, -1.5E+999]}"
	static const char text[] = "{\"text\": \"1e999 18446744073709551615 \\\"-1e999\\\"\", " LARGE "}\n"
		"{\"id\": 9223372036854775807, " LARGE ", \"text\": \"two\"}\n"
		"{" LARGE ", \"id\": -9223372036854775808, \"text\": \"three\", \"y\": 1e5}\n"
		"{\"id\": \"18446744073709551616\", \"text\": \"four\", \"y\": 18446744073709551616}\n";
	seen s;
	kf_err err;

	(void)state;
	put("n.jsonl", text, sizeof text - 1);
	assert_int_equal(read_all("n.jsonl", KF_FORMAT_AUTO, &s, &err), KF_OK);
	assert_string_equal(s.log, "/n.jsonl:1|-|-|1e999 18446744073709551615 \"-1e999\";9223372036854775807|-|-|two;-9223372036854775808|-|-|three;"
		"18446744073709551616|-|-|four;");
	BAD("{\"text\": \"a\", \"id\": 9223372036854775808}\n", KF_EDATA, "line 1: \"id\" is a number that is not whole, or too large");
	BAD("{\"text\": \"a\", \"id\": 1.5}\n", KF_EDATA, "line 1: \"id\" is a number that is not whole, or too large");
	BAD("{\"text\": 18446744073709551615}\n", KF_EDATA, "line 1: \"text\" is not a string");
	BAD("{\"text\": \"a\", \"domain\": 18446744073709551615}\n", KF_EDATA, "line 1: \"domain\" is not a string");
	/* what is no JSON stays none */
	BAD("{\"text\": \"a\", \"x\": [1e999, 018446744073709551615]}\n", KF_EDATA, "line 1: not valid JSON");
	BAD("{\"text\": \"a\", \"x\": [1e999, 1e9e9]}\n", KF_EDATA, "line 1: not valid JSON");
	BAD("{\"text\": \"a\", \"x\": [1e999, 1e]}\n", KF_EDATA, "line 1: not valid JSON");
	BAD("{\"text\": \"a\", \"x\": [1e999, -]}\n", KF_EDATA, "line 1: not valid JSON");
	BAD("{\"text\": \"a\", \"x\": [1e999, 18446744073709551615-1]}\n", KF_EDATA, "line 1: not valid JSON");
	BAD("{\"text\": \"a\", \"x\": 1e999, \"y\": \"1\\", KF_EDATA, "line 1: not valid JSON");
	BAD("{\"text\": \"a\", \"x\": 1e999", KF_EDATA, "line 1: not valid JSON");
	BAD("{\"text\": \"a\", \"text\": \"b\", \"x\": 1e999}", KF_EDATA, "line 1: not valid JSON: duplicate object key");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_jsonl), cmocka_unit_test(test_json), cmocka_unit_test(test_errors), cmocka_unit_test(test_folders), cmocka_unit_test(test_numbers),
	};

	return cmocka_run_group_tests(tests, make_scratch, drop_scratch);
}
