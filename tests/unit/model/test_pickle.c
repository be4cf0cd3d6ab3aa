/* Files of torch.save: what is in them is found, nothing is executed, and damage of any kind is an error. Parity of a
 * whole model read from them is in test_model.c (families/llama-pickled, made by torch itself). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "common/base/file.h"
#include "common/base/rng.h"
#include "common/model/pickle.h"
#include "common/model/safetensors.h"
#include "common/model/zip.h"

#define FIXTURE "tests/models/families/llama-pickled/pytorch_model-00001-of-00002.bin"

/* A dictionary of one tensor: {"w": float32 (2, 3) at element 4 of storage "7", which has 10}. */
#define HEAD "\x80\x02}q\x00(X\x01\x00\x00\x00w"
#define BUILDER "ctorch._utils\n_rebuild_tensor_v2\n"
#define STORAGE(type, n) "(X\x07\x00\x00\x00storagectorch\n" type "Storage\nX\x01\x00\x00\x00" "7X\x03\x00\x00\x00" "cpuK" n "tQ"
#define SHAPE "K\x02K\x03\x86"
#define STRIDE "K\x03K\x01\x86"
#define TAIL "\x89}tRu."
#define GOOD HEAD BUILDER "(" STORAGE("Float", "\x0a") "K\x04" SHAPE STRIDE TAIL

static kf_status read_pickle(const char *bytes, size_t n, kf_pickle_tensor *first, size_t *count, kf_err *err)
{
	const kf_pickle_tensor *list;
	kf_arena arena;
	kf_status rc;

	kf_arena_init(&arena);
	rc = kf_pickle_tensors((const uint8_t *)bytes, n, "x.bin", &arena, &list, count, err);
	if (rc == KF_OK && *count) *first = list[0];
	kf_arena_release(&arena);
	return rc;
}

static void test_good(void **state)
{
	kf_pickle_tensor t = { 0 };
	kf_err err;
	size_t n;
	(void)state;

	if (read_pickle(GOOD, sizeof GOOD - 1, &t, &n, &err) != KF_OK) fail_msg("%s", err.text);
	assert_int_equal(n, 1);
	assert_true(t.name.len == 1 && t.name.s[0] == 'w' && t.storage.len == 1 && t.storage.s[0] == '7');
	assert_string_equal(t.dtype, "F32");
	assert_true(t.n_dims == 2 && t.dim[0] == 2 && t.dim[1] == 3 && t.offset == 4 && t.elements == 6);
}

static void test_refused(void **state)
{
#define CASE(text) text, sizeof text - 1
	static const struct { const char *bytes; size_t n; kf_status rc; const char *text; } cases[] = {
		{ CASE("cos\nsystem\n(X\x04\x00\x00\x00trueR."), KF_EUNSUPPORTED, "its pickle asks for os.system" },
		{ CASE("\x80\x04\x8c\x08" "builtins\x94\x8c\x04" "eval\x94\x93."), KF_EUNSUPPORTED, "asks for builtins.eval" },
		{ CASE("ctorch\nload\n."), KF_EUNSUPPORTED, "asks for torch.load" },
		{ CASE("(S'id'\nios\nsystem\n."), KF_EUNSUPPORTED, "has the instruction 0x53 at byte 1" },
		{ CASE("(ios\nsystem\n."), KF_EUNSUPPORTED, "has the instruction 0x69" },
		{ CASE("ccollections\nOrderedDict\n)\x81."), KF_EUNSUPPORTED, "has the instruction 0x81" },
		{ CASE("K\x01."), KF_EUNSUPPORTED, "holds no dictionary of tensors" },
		{ CASE("}K\x01."), KF_EUNSUPPORTED, "holds no dictionary of tensors" },
		{ CASE("}X\x01\x00\x00\x00wK\x01s."), KF_EUNSUPPORTED, "holds more than tensors" },
		{ CASE(""), KF_EUNSUPPORTED, "has the instruction 0x00" },
		{ CASE("}"), KF_EUNSUPPORTED, "has the instruction 0x00" },
		{ CASE("."), KF_EUNSUPPORTED, "holds no dictionary" },
		{ CASE("R."), KF_EDATA, "a call of what cannot be called at byte 1" },
		{ CASE(")t."), KF_EDATA, "a tuple without a mark" },
		{ CASE("\x87."), KF_EDATA, "a tuple of more than there is" },
		{ CASE("h\x05."), KF_EDATA, "a memo that was never made" },
		{ CASE("}r\xff\xff\xff\x7f."), KF_EDATA, "a memo of nothing, or out of range" },
		{ CASE("X\xff\xff\xff\xff" "w"), KF_EDATA, "a string runs past the end" },
		{ CASE("ctorch"), KF_EDATA, "a name without end" },
		{ CASE(")(((t."), KF_EUNSUPPORTED, "holds no dictionary" },
		{ CASE("K\x01Q."), KF_EDATA, "a reference that is no storage" },
		{ CASE(HEAD BUILDER "(" STORAGE("Float", "\x09") "K\x04" SHAPE STRIDE TAIL), KF_EDATA, "runs past its storage" },
		{ CASE(HEAD BUILDER "(" STORAGE("Float", "\x0a") "K\x04" SHAPE "K\x01K\x02\x86" TAIL), KF_EUNSUPPORTED,
			"is not stored row after row" },
		{ CASE(HEAD BUILDER "(" STORAGE("Float", "\x0a") "J\xff\xff\xff\xff" SHAPE STRIDE TAIL), KF_EDATA, "a tensor without" },
		{ CASE(HEAD BUILDER "(" STORAGE("Float", "\x0a") "K\x00"
			"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f" "J\x10\x00\x00\x00\x86" "K\x10K\x01\x86" TAIL), KF_EDATA,
			"whose shape makes no sense" },
		{ CASE(HEAD BUILDER "(" STORAGE("QInt8", "\x0a") "K\x04" SHAPE STRIDE TAIL), KF_EUNSUPPORTED, "asks for torch.QInt8Storage" },
	};
	kf_pickle_tensor t = { 0 };
	kf_err err;
	size_t n;
	(void)state;

	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		kf_status rc = read_pickle(cases[i].bytes, cases[i].n, &t, &n, &err);
		if (rc != cases[i].rc || !strstr(err.text, cases[i].text))
			fail_msg("case %zu: status %d, \"%s\", expected \"%s\"", i, rc, rc ? err.text : "", cases[i].text);
	}
}

/* A dictionary that holds itself, and a deep pile of tuples, cost no more than their bytes. */
static void test_knots(void **state)
{
	kf_pickle_tensor t = { 0 };
	kf_err err;
	size_t n, size = 1 << 20;
	char *pile = kf_alloc(size, 1);
	(void)state;

	assert_int_equal(read_pickle("}q\x00X\x01\x00\x00\x00wh\x00s.", 13, &t, &n, &err), KF_EUNSUPPORTED);
	memset(pile, 0x85, size);
	pile[0] = '}';
	pile[size - 1] = '.';
	assert_int_equal(read_pickle(pile, size, &t, &n, &err), KF_EUNSUPPORTED);
	memset(pile, '(', size - 1);
	assert_int_equal(read_pickle(pile, size, &t, &n, &err), KF_EUNSUPPORTED);
	kf_free(pile);
}

/* Every number of every tensor can be read, whatever else is wrong. */
static void use(const kf_safetensors *s)
{
	volatile unsigned sum = 0;

	for (int i = 0; i < kf_safetensors_count(s); i++) {
		const kf_st_tensor *t = kf_safetensors_at(s, i);
		size_t n = t->readable ? kf_dtype_row_bytes(t->t.dtype, t->t.cols) * t->t.rows : 0;

		for (size_t k = 0; k < n; k += 61) sum += t->t.data[k];
		if (n) sum += t->t.data[n - 1];
	}
}

static kf_status open_bytes(const void *data, size_t n, kf_err *err)
{
	kf_safetensors *s;
	kf_status rc = kf_safetensors_open_memory(data, n, "x.bin", &s, err);

	if (rc == KF_OK) use(s);
	kf_safetensors_close(s);
	return rc;
}

static void test_file(void **state)
{
	kf_safetensors *s;
	const kf_st_tensor *e, *h;
	kf_buf b = { 0 };
	kf_err err;
	(void)state;

	assert_int_equal(kf_safetensors_open_dir("tests/models/families/llama-pickled", &s, &err), KF_OK);
	e = kf_safetensors_find(s, "model.embed_tokens.weight");
	h = kf_safetensors_find(s, "lm_head.weight");
	assert_non_null(e);
	assert_non_null(h);
	assert_true(e->t.rows == 53 && e->t.cols == 24 && e->t.dtype == KF_F16 && e->t.data == h->t.data);
	kf_safetensors_close(s);

	assert_int_equal(kf_file_read(FIXTURE, 1 << 24, &b, &err), KF_OK);
	assert_int_equal(open_bytes(b.data, b.len, &err), KF_OK);
	assert_int_equal(open_bytes("PK", 2, &err), KF_EDATA);
	assert_int_equal(open_bytes("\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.", 15, &err), KF_EUNSUPPORTED);
	assert_non_null(strstr(err.text, "before version 1.6"));
	kf_buf_release(&b);
}

/* Whatever is cut off or changed: an error, or tensors that lie inside the file. */
static void test_hostile(void **state)
{
	kf_buf b = { 0 };
	kf_err err;
	kf_rng r;
	uint8_t *copy;
	size_t pickle, end;
	(void)state;

	assert_int_equal(kf_file_read(FIXTURE, 1 << 24, &b, &err), KF_OK);
	/* in memory of exactly its size, so that the sanitizer sees one byte too many */
	for (size_t n = 0; n < b.len; n += 1 + n / 50) {
		copy = kf_alloc(n, 1);
		memcpy(copy, b.data, n);
		assert_int_not_equal(open_bytes(copy, n, &err), KF_OK);
		kf_free(copy);
	}
	for (pickle = 0; memcmp(b.data + pickle, "data.pkl", 8) != 0; pickle++) continue;
	for (end = b.len - 22; memcmp(b.data + end, "PK\1\2", 4) != 0; end--) continue;
	while (end > 4096 && memcmp(b.data + end - 1, "PK\1\2", 4) != 0 && end > b.len - 3000) end--;
	kf_rng_seed(&r, 9);
	copy = kf_alloc(b.len, 1);
	for (int i = 0; i < 6000; i++) {
		size_t from = i % 2 ? pickle : end, span = i % 2 ? 1500 : b.len - end;

		memcpy(copy, b.data, b.len);
		for (int k = 1 + (int)kf_rng_below(&r, 3); k > 0; k--)
			copy[from + kf_rng_below(&r, span)] = (uint8_t)(kf_rng_below(&r, 4) ? kf_rng_next(&r) : 0xff);
		if (open_bytes(copy, b.len, &err) != KF_OK) assert_true(err.text[0] != 0);
	}
	kf_free(copy);
	kf_buf_release(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good), cmocka_unit_test(test_refused), cmocka_unit_test(test_knots),
		cmocka_unit_test(test_file), cmocka_unit_test(test_hostile),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
