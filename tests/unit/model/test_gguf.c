#include "tests/unit/model/make_gguf.h"

#include <unistd.h>

/* Open from a block of exactly n bytes, so that a sanitizer sees a read past it. */
static kf_status open_copy(const void *data, size_t n, uint8_t **block, kf_gguf **g, kf_err *err)
{
	*block = malloc(n ? n : 1);
	assert_non_null(*block);
	if (n) memcpy(*block, data, n);
	return kf_gguf_open_memory(*block, n, "test.gguf", g, err);
}

/* Everything a reader may ask of an open file; errors are fine, crashes are not. */
static void exercise(const kf_gguf *g)
{
	kf_err err;
	kf_arena arena;
	kf_arch arch;
	kf_vocab_spec spec;
	const char *s;
	const char *const *list;
	uint64_t n, sum = 0;
	int64_t i64;
	double d;
	bool b;

	kf_arena_init(&arena);
	for (int i = 0; i < kf_gguf_entries(g); i++) {
		const char *key = kf_gguf_entry_at(g, i)->key;
		sum += kf_gguf_int(g, key, INT64_MIN, INT64_MAX, &i64, &err);
		sum += kf_gguf_real(g, key, &d, &err);
		sum += kf_gguf_bool(g, key, &b, &err);
		sum += kf_gguf_string(g, key, &arena, &s, &err);
		sum += kf_gguf_strings(g, key, &arena, &list, &n, &err);
	}
	for (int i = 0; i < kf_gguf_tensors(g); i++) {
		const kf_gguf_tensor *t = kf_gguf_tensor_at(g, i);
		for (size_t k = 0; k < t->size; k++) sum += t->data[k];
		assert_ptr_equal(kf_gguf_tensor_find(g, t->name), t);
	}
	sum += kf_arch_from_gguf(g, &arch, &err);
	sum += kf_gguf_vocab(g, &arena, &spec, &err);
	assert_true(sum != 1);
	kf_arena_release(&arena);
}

static void make_small(kf_buf *out, const char *arch, const char *vocab, kf_dtype t)
{
	gguf_maker m = { 0 };
	kf_rng r;

	kf_rng_seed(&r, 5);
	put_model(&m, &r, arch, t);
	put_vocab(&m, vocab, 40);
	finish_gguf(&m, out);
}

/* ---- good files ---- */

static void test_read(void **state)
{
	gguf_maker m = { .version = 2 };
	kf_buf file = { 0 };
	kf_gguf *g;
	kf_err err;
	kf_rng r;
	kf_arena arena;
	const char *s;
	const char *const *list;
	static const char *const words[] = { "one", "", "three" };
	uint64_t n;
	int64_t v;
	double d;
	bool b;
	(void)state;

	kf_rng_seed(&r, 1);
	put_u32(&m, "a.u32", 7);
	put_key(&m, "a.i8", KF_GGUF_I8);
	kf_buf_u8(&m.kv, 0xff);
	put_key(&m, "a.u64", KF_GGUF_U64);
	kf_buf_u64(&m.kv, UINT64_MAX);
	put_f32(&m, "a.f32", 0.5f);
	put_bool(&m, "a.bool", true);
	put_string(&m, "a.string", "hello");
	put_strings(&m, "a.strings", words, 3);
	put_tensor(&m, &r, "matrix", KF_Q4_K, 3, 256);
	put_tensor(&m, &r, "vector", KF_F32, 0, 5);
	finish_gguf(&m, &file);

	assert_int_equal(kf_gguf_open_memory(file.data, file.len, "x.gguf", &g, &err), KF_OK);
	assert_int_equal(kf_gguf_entries(g), 7);
	assert_int_equal(kf_gguf_int(g, "a.u32", 0, 10, &v, &err), KF_OK);
	assert_int_equal(v, 7);
	assert_int_equal(kf_gguf_int(g, "a.i8", -1, 10, &v, &err), KF_OK);
	assert_int_equal(v, -1);
	assert_int_equal(kf_gguf_int(g, "a.u64", INT64_MIN, INT64_MAX, &v, &err), KF_EDATA);
	assert_int_equal(kf_gguf_int(g, "a.u32", 8, 10, &v, &err), KF_EDATA);
	assert_string_equal(err.text, "x.gguf: a.u32 is 7, which is not between 8 and 10");
	assert_int_equal(kf_gguf_int(g, "a.f32", 0, 10, &v, &err), KF_EDATA);
	assert_string_equal(err.text, "x.gguf: a.f32 is of type f32, where an integer was expected");
	assert_int_equal(kf_gguf_int(g, "a.none", 0, 10, &v, &err), KF_ENOTFOUND);
	assert_int_equal(kf_gguf_real(g, "a.f32", &d, &err), KF_OK);
	assert_true(d == 0.5);
	assert_int_equal(kf_gguf_bool(g, "a.bool", &b, &err), KF_OK);
	assert_true(b);
	kf_arena_init(&arena);
	assert_int_equal(kf_gguf_string(g, "a.string", &arena, &s, &err), KF_OK);
	assert_string_equal(s, "hello");
	assert_int_equal(kf_gguf_strings(g, "a.strings", &arena, &list, &n, &err), KF_OK);
	assert_int_equal(n, 3);
	for (int i = 0; i < 3; i++) assert_string_equal(list[i], words[i]);
	kf_arena_release(&arena);

	assert_int_equal(kf_gguf_tensors(g), 2);
	const kf_gguf_tensor *t = kf_gguf_tensor_find(g, "matrix");
	assert_non_null(t);
	assert_int_equal(t->rows, 3);
	assert_int_equal(t->cols, 256);
	assert_int_equal(t->n_dims, 2);
	assert_int_equal(t->size, 3 * 144);
	t = kf_gguf_tensor_find(g, "vector");
	assert_int_equal(t->rows, 1);
	assert_int_equal(t->n_dims, 1);
	assert_null(kf_gguf_tensor_find(g, "vecto"));
	kf_gguf_close(g);
	kf_buf_release(&file);
}

static void test_vocab(void **state)
{
	kf_buf file = { 0 };
	kf_gguf *g;
	kf_err err;
	kf_arena arena;
	kf_vocab_spec v;
	(void)state;

	kf_arena_init(&arena);
	make_small(&file, "qwen2", "gpt2", KF_F32);
	assert_int_equal(kf_gguf_open_memory(file.data, file.len, "q", &g, &err), KF_OK);
	assert_int_equal(kf_gguf_vocab(g, &arena, &v, &err), KF_OK);
	assert_string_equal(v.model, "gpt2");
	assert_string_equal(v.pre, "default");
	assert_int_equal(v.n, 40);
	assert_string_equal(v.pieces[27], "b1");
	assert_int_equal(v.types[2], KF_TT_CONTROL);
	assert_int_equal(v.types[3], KF_TT_NORMAL);
	assert_int_equal(v.n_merges, 2);
	assert_string_equal(v.merges[1], "b c");
	assert_null(v.scores);
	assert_int_equal(v.bos, -1);
	assert_false(v.add_bos || v.add_space_prefix);
	kf_gguf_close(g);

	make_small(&file, "llama", "llama", KF_F32);
	assert_int_equal(kf_gguf_open_memory(file.data, file.len, "l", &g, &err), KF_OK);
	assert_int_equal(kf_gguf_vocab(g, &arena, &v, &err), KF_OK);
	assert_true(v.scores[39] == -39);
	assert_int_equal(v.bos, 1);
	assert_int_equal(v.eos, 2);
	assert_int_equal(v.unk, 0);
	assert_true(v.add_bos && v.add_space_prefix && !v.add_eos && !v.remove_extra_whitespaces);
	kf_gguf_close(g);
	kf_buf_release(&file);
	kf_arena_release(&arena);
}

/* ---- bad files, each with its message ---- */

enum {
	BAD_MAGIC,
	BAD_VERSION1,
	BAD_ENDIAN,
	BAD_TENSOR_COUNT,
	BAD_ENTRY_COUNT,
	BAD_TYPE,
	BAD_ARRAY,
	BAD_NESTED,
	BAD_TWICE,
	BAD_TENSOR_TWICE,
	BAD_TENSOR_TYPE,
	BAD_BLOCK,
	BAD_DIMS,
	BAD_OVERFLOW,
	BAD_RANGE,
	BAD_OVERLAP,
	BAD_OFFSET,
	BAD_ALIGN,
	BAD_SPLIT,
	BAD_ZERO,
	BAD_NAME,
	BAD_4D,
	N_BAD
};

static const struct { kf_status rc; const char *text;
} expected[N_BAD] = {
	[BAD_MAGIC] = { KF_EDATA, "b.gguf is no GGUF file: it does not begin with \"GGUF\"" },
	[BAD_VERSION1] = { KF_EUNSUPPORTED, "b.gguf has GGUF version 1; kfuse reads versions 2 and 3" },
	[BAD_ENDIAN] = { KF_EUNSUPPORTED, "b.gguf is a big-endian GGUF file, which kfuse does not read" },
	[BAD_TENSOR_COUNT] = { KF_EDATA, "says it has 1152921504606846976 tensors, more than its" },
	[BAD_ENTRY_COUNT] = { KF_EDATA, "says it has 1152921504606846976 metadata entries, more than its" },
	[BAD_TYPE] = { KF_EDATA, "x has type 99, which GGUF does not have" },
	[BAD_ARRAY] = { KF_EDATA, "the value of x runs past the end of the file" },
	[BAD_NESTED] = { KF_EUNSUPPORTED, "x is an array of arrays, which is not supported" },
	[BAD_TWICE] = { KF_EDATA, "has metadata entry x twice" },
	[BAD_TENSOR_TWICE] = { KF_EDATA, "has tensor t twice" },
	[BAD_TENSOR_TYPE] = { KF_EUNSUPPORTED, "tensor t has type 23 (IQ4_XS), which kfuse does not read" },
	[BAD_BLOCK] = { KF_EDATA, "tensor t has rows of 100 elements, no whole number of Q8_0 blocks of 32" },
	[BAD_DIMS] = { KF_EDATA, "tensor t has 77 dimensions, not 1 to 4" },
	[BAD_OVERFLOW] = { KF_EDATA,
		"tensor t says it has 1 x 4611686018427387904 x 8 elements, more than any file holds" },
	[BAD_RANGE] = { KF_EDATA, "the data of tensor t (400 bytes at offset 0) runs past the end of the file" },
	[BAD_OVERLAP] = { KF_EDATA, "the data of tensors t and u overlap" },
	[BAD_OFFSET] = { KF_EDATA, "tensor t begins at offset 8, no multiple of the alignment 32" },
	[BAD_ALIGN] = { KF_EDATA, "general.alignment is 48, which is no power of two" },
	[BAD_SPLIT] = { KF_EINVAL, "b.gguf: is the first of 3 files of a model, but its name does not end in -00001-of-00003.gguf" },
	[BAD_ZERO] = { KF_EDATA, "tensor t has a dimension of 0" },
	[BAD_NAME] = { KF_EDATA, "the name of metadata entry 0 has a control character in it" },
	[BAD_4D] = { KF_EUNSUPPORTED, "tensor t has more than three dimensions" },
};

static void put_info(
	gguf_maker *m, const char *name, uint32_t n_dims, uint64_t a, uint64_t b, uint32_t type, uint64_t offset)
{
	put_name(&m->info, name);
	kf_buf_u32(&m->info, n_dims);
	kf_buf_u64(&m->info, a);
	if (n_dims > 1) kf_buf_u64(&m->info, b);
	for (uint32_t d = 2; d < n_dims && d < 4; d++) kf_buf_u64(&m->info, 2);
	kf_buf_u32(&m->info, type);
	kf_buf_u64(&m->info, offset);
	m->n_tensors++;
}

static void test_bad(void **state)
{
	(void)state;
	for (int bad = 0; bad < N_BAD; bad++) {
		gguf_maker m = { 0 };
		kf_buf file = { 0 };
		kf_gguf *g;
		kf_err err;
		uint8_t *block;

		if (bad == BAD_VERSION1) m.version = 1;
		if (bad == BAD_ENDIAN) m.version = 0x03000000;
		if (bad == BAD_TYPE) put_key(&m, "x", (kf_gguf_type)99);
		if (bad == BAD_ARRAY) put_array(&m, "x", KF_GGUF_F32, UINT64_C(1) << 62);
		if (bad == BAD_NESTED) put_array(&m, "x", KF_GGUF_ARRAY, 1);
		if (bad == BAD_ALIGN) put_u32(&m, "general.alignment", 48);
		if (bad == BAD_SPLIT) put_u32(&m, "split.count", 3), put_u32(&m, "split.no", 0);
		if (bad == BAD_NAME) put_u32(&m, "a\nb", 3);
		for (int i = 0; i < 2 && bad == BAD_TWICE; i++) put_u32(&m, "x", 1);
		for (int i = 0; i < 2 && bad == BAD_TENSOR_TWICE; i++)
			put_info(&m, "t", 1, 8, 0, KF_F32, 32 * (uint64_t)i);
		if (bad == BAD_TENSOR_TYPE) put_info(&m, "t", 1, 256, 0, 23, 0);
		if (bad == BAD_BLOCK) put_info(&m, "t", 1, 100, 0, KF_Q8_0, 0);
		if (bad == BAD_DIMS) put_info(&m, "t", 77, 8, 8, KF_F32, 0);
		if (bad == BAD_OVERFLOW) put_info(&m, "t", 2, 8, UINT64_C(1) << 62, KF_F32, 0);
		if (bad == BAD_RANGE) put_info(&m, "t", 1, 100, 0, KF_F32, 0);
		if (bad == BAD_OVERLAP)
			put_info(&m, "t", 1, 16, 0, KF_F32, 0), put_info(&m, "u", 1, 16, 0, KF_F32, 32);
		if (bad == BAD_OFFSET) put_info(&m, "t", 1, 8, 0, KF_F32, 8);
		if (bad == BAD_ZERO) put_info(&m, "t", 2, 8, 0, KF_F32, 0);
		if (bad == BAD_4D) put_info(&m, "t", 4, 2, 2, KF_F32, 0);
		kf_buf_fill(&m.data, 0, 128);
		if (bad == BAD_TENSOR_COUNT) m.n_tensors = UINT64_C(1) << 60;
		if (bad == BAD_ENTRY_COUNT) m.n_kv = UINT64_C(1) << 60;
		finish_gguf(&m, &file);
		if (bad == BAD_MAGIC) file.data[0] = 'X';

		kf_status rc = kf_gguf_open_memory(file.data, file.len, "b.gguf", &g, &err);
		if (rc != expected[bad].rc || !strstr(err.text, expected[bad].text))
			fail_msg("case %d: status %d, \"%s\", expected \"%s\"", bad, rc, rc ? err.text : "",
				expected[bad].text);
		assert_null(g);
		rc = open_copy(file.data, file.len, &block, &g, &err);
		assert_int_equal(rc, expected[bad].rc);
		free(block);
		kf_buf_release(&file);
	}
}

/* ---- damage ---- */

/* A file cut anywhere is refused, and never read past its end. */
static void test_truncated(void **state)
{
	kf_buf file = { 0 };
	(void)state;

	make_small(&file, "gemma3", "llama", KF_Q8_0);
	for (size_t n = 0; n < file.len; n += n < 4000 ? 1 : 97) {
		kf_gguf *g;
		kf_err err;
		uint8_t *block;
		if (open_copy(file.data, n, &block, &g, &err) == KF_OK)
			fail_msg("opened after %zu of %zu bytes", n, file.len);
		assert_true(strlen(err.text) > 10);
		free(block);
	}
	kf_buf_release(&file);
}

/* Bytes changed at random: opened or refused. */
static void test_flipped(void **state)
{
	static const char *const archs[] = { "llama", "qwen2", "gemma3" };
	kf_buf file = { 0 };
	kf_rng r;
	int opened = 0, refused = 0;
	(void)state;

	kf_rng_seed(&r, 99);
	for (int a = 0; a < 3; a++) {
		make_small(&file, archs[a], a == 1 ? "gpt2" : "llama", KF_Q4_0);
		size_t header = 4600 < file.len ? 4600 : file.len;
		for (int i = 0; i < 2000; i++) {
			kf_gguf *g;
			kf_err err;
			uint8_t *block;
			kf_buf copy = { 0 };
			kf_buf_put(&copy, file.data, file.len);
			for (uint64_t k = kf_rng_below(&r, 3) + 1; k; k--)
				copy.data[kf_rng_below(&r, header)] = kf_rng_below(&r, 3) ? (uint8_t)kf_rng_next(&r) : 0xff;
			if (open_copy(copy.data, copy.len, &block, &g, &err) == KF_OK) {
				opened++;
				exercise(g);
				kf_gguf_close(g);
			} else {
				refused++;
			}
			free(block);
			kf_buf_release(&copy);
		}
	}
	assert_true(opened > 100 && refused > 100);
	kf_buf_release(&file);
}

/* ---- several files ---- */

enum { PARTS_GOOD, PARTS_NO_TENSORS, PARTS_SECOND, PARTS_MISSING, PARTS_COUNT, PARTS_ORDER, PARTS_TWICE, N_PARTS_CASES };

static void test_parts(void **state)
{
	static const struct { kf_status rc; const char *text; } want[N_PARTS_CASES] = {
		[PARTS_SECOND] = { KF_EINVAL, "00002-of-00003.gguf: is file 2 of 3 of a model; name the first" },
		[PARTS_MISSING] = { KF_ENOTFOUND, "its model lacks files " },
		[PARTS_COUNT] = { KF_EDATA, "its model has 7 tensors, but its 3 files have 3" },
		[PARTS_ORDER] = { KF_EDATA, "00003-of-00003.gguf: says it is file 2 of 3 of a model, but its name says 3 of 3" },
		[PARTS_TWICE] = { KF_EDATA, "has tensor t1 twice" },
	};
	char dir[] = "/tmp/kf-test-XXXXXX", path[3][64], cmd[64];
	(void)state;

	assert_non_null(mkdtemp(dir));
	for (int i = 0; i < 3; i++) snprintf(path[i], sizeof path[i], "%s/m-%05d-of-00003.gguf", dir, i + 1);
	for (int how = 0; how < N_PARTS_CASES; how++) {
		kf_buf file[3] = { { 0 } };
		kf_gguf *g;
		kf_err err;
		kf_rng r;

		kf_rng_seed(&r, 7);
		for (int i = 0; i < 3; i++) {
			gguf_maker m = { 0 };
			char name[16];
			put_u32(&m, "split.no", (uint32_t)(how == PARTS_ORDER && i == 2 ? 1 : i));
			put_u32(&m, "split.count", 3);
			if (i == 0) put_u32(&m, "split.tensors.count", how == PARTS_COUNT ? 7 : how == PARTS_NO_TENSORS ? 2 : 3);
			snprintf(name, sizeof name, "t%d", how == PARTS_TWICE && i == 2 ? 1 : i);
			if (i || how != PARTS_NO_TENSORS) put_tensor(&m, &r, name, KF_F32, 2, 8);
			finish_gguf(&m, &file[i]);
			unlink(path[i]);
			if (how == PARTS_MISSING && i) continue;
			assert_int_equal(kf_file_write_atomic(path[i], file[i].data, file[i].len, &err), KF_OK);
		}
		kf_status rc = kf_gguf_open(path[how == PARTS_SECOND], &g, &err);
		if (rc != want[how].rc || (rc && !strstr(err.text, want[how].text))) fail_msg("case %d: %d, \"%s\"", how, rc, rc ? err.text : "");
		for (int i = 0; rc == KF_OK && i < 3; i++) {
			char name[16];
			snprintf(name, sizeof name, "t%d", i);
			const kf_gguf_tensor *t = kf_gguf_tensor_find(g, name);
			if (!t && i == 0 && how == PARTS_NO_TENSORS) continue;
			assert_non_null(t);
			assert_memory_equal(t->data, file[i].data + file[i].len - 64, 64);
		}
		kf_gguf_close(g);
		for (int i = 0; i < 3; i++) kf_buf_release(&file[i]);
	}
	snprintf(cmd, sizeof cmd, "rm -r %s", dir);
	assert_int_equal(system(cmd), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_read), cmocka_unit_test(test_vocab), cmocka_unit_test(test_bad),
		cmocka_unit_test(test_truncated), cmocka_unit_test(test_flipped), cmocka_unit_test(test_parts),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
