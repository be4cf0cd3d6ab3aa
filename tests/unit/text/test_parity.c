/* Encoding, token for token, against Hugging Face's tokenizers and Google's sentencepiece: expected ids in
 * tests/parity/tokenizers (made by make_fixtures.py there), for small tokenizers that are committed and for the
 * demo's models where they are on this machine. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "common/base/file.h"
#include "common/model/gguf.h"
#include "common/text/internal.h"
#include "tests/unit/real_model.h"

#define FIXTURES "tests/parity/tokenizers/"

static uint64_t fnv(const int32_t *ids, uint32_t n)
{
	uint64_t h = 0xcbf29ce484222325u;
	for (uint32_t i = 0; i < n; i++)
		for (int b = 0; b < 4; b++)
			h = (h ^ ((uint32_t)ids[i] >> 8 * b & 0xff)) * 0x100000001b3u;
	return h;
}

static void check_starts(const kf_encoding *e, size_t n)
{
	assert_int_equal(e->start[e->n], n);
	if (e->n)
		assert_int_equal(e->start[0], 0);
	for (uint32_t i = 0; i < e->n; i++)
		assert_true(e->start[i] <= e->start[i + 1]);
}

static void check_ids(const char *name, size_t k, const kf_encoding *e, const json_t *ids)
{
	for (uint32_t i = 0; i < e->n || i < json_array_size(ids); i++) {
		int32_t want = i < json_array_size(ids) ? (int32_t)json_integer_value(json_array_get(ids, i)) : -1;
		int32_t have = i < e->n ? e->ids[i] : -1;
		if (want != have)
			fail_msg("%s, text %zu, token %u: %d instead of %d", name, k, i, have, want);
	}
}

/* identity: the tokenizer changes no text, so that starts are sums of the tokens' bytes. */
static void check_all(const kf_tokenizer *t, const char *name, const char *path, bool identity)
{
	kf_arena arena;
	kf_err err;
	json_error_t je;
	json_t *all = json_load_file(path, JSON_ALLOW_NUL, &je), *e;
	size_t k;

	if (!all)
		fail_msg("%s: %s", path, je.text);
	kf_arena_init(&arena);
	json_array_foreach(all, k, e) {
		const json_t *text = json_object_get(e, "text"), *special = json_object_get(e, "special");
		size_t n = json_string_length(text), repeat = (size_t)json_integer_value(json_object_get(e, "repeat"));
		const uint8_t *p = (const uint8_t *)json_string_value(text);
		kf_encoding enc;
		kf_arena_reset(&arena);
		if (repeat) {
			uint8_t *q = kf_arena_alloc(&arena, n, repeat);
			assert_non_null(q);
			for (size_t i = 0; i < repeat; i++)
				memcpy(q + i * n, p, n);
			p = q;
			n *= repeat;
		}
		if (kf_tokenizer_encode(t, p, n, false, &arena, &enc, &err) != KF_OK)
			fail_msg("%s, text %zu: %s", name, k, err.text);
		check_starts(&enc, n);
		if (repeat) {
			char hex[17];
			snprintf(hex, sizeof hex, "%016llx", (unsigned long long)fnv(enc.ids, enc.n));
			assert_int_equal(enc.n, json_integer_value(json_object_get(e, "n")));
			assert_string_equal(hex, json_string_value(json_object_get(e, "fnv")));
		} else {
			check_ids(name, k, &enc, json_object_get(e, "ids"));
		}
		for (uint32_t i = 0; identity && i < enc.n; i++) {
			uint32_t l;
			const uint8_t *b = kf_tokenizer_bytes(t, enc.ids[i], &l);
			if (memmem(p, n, "\xe2\x96\x81", 3))
				break; /* ▁ in the text counts as a space */
			assert_int_equal(enc.start[i + 1] - enc.start[i], l);
			assert_memory_equal(p + enc.start[i], b, l);
		}
		if (special) {
			if (kf_tokenizer_encode(t, p, n, true, &arena, &enc, &err) != KF_OK)
				fail_msg("%s, text %zu: %s", name, k, err.text);
			check_starts(&enc, n);
			check_ids(name, k, &enc, special);
		}
	}
	assert_true(k > 50);
	json_decref(all);
	kf_arena_release(&arena);
}

static void remove_copy(const char *dir)
{
	static const char *const files[] = { "tokenizer.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json" };
	char file[KF_PATH_MAX];

	for (int i = 0; i < 4; i++) {
		assert_int_equal(kf_path_join(file, dir, files[i], NULL), KF_OK);
		remove(file);
	}
	remove(dir);
}

/* The tokenizer itself, what is loaded from its saved form, and what is read from the folder it writes. */
static void check_copies(kf_tokenizer *t, const char *name, const char *path, bool identity)
{
	char dir[] = "/tmp/kf-text-XXXXXX";
	kf_tokenizer *u = NULL;
	kf_buf b = { 0 };
	kf_err err;

	check_all(t, name, path, identity);
	assert_int_equal(kf_tokenizer_save(t, &b, &err), KF_OK);
	if (kf_tokenizer_load(b.data, b.len, &u, &err) != KF_OK)
		fail_msg("%s, loaded: %s", name, err.text);
	check_all(u, name, path, identity);
	assert_true(kf_fp_equal(kf_tokenizer_fp(t), kf_tokenizer_fp(u)));
	kf_tokenizer_free(u);
	kf_buf_release(&b);

	assert_non_null(mkdtemp(dir));
	if (kf_tokenizer_write_hf(t, dir, &err) != KF_OK || kf_tokenizer_open_dir(dir, &u, &err) != KF_OK)
		fail_msg("%s, written: %s", name, err.text);
	check_all(u, name, path, identity);
	assert_true(kf_fp_equal(kf_tokenizer_fp(t), kf_tokenizer_fp(u)));
	assert_int_equal(kf_tokenizer_bos(t), kf_tokenizer_bos(u));
	assert_int_equal(kf_tokenizer_eos(t), kf_tokenizer_eos(u));
	kf_tokenizer_free(u);
	remove_copy(dir);
}

static void small(const char *name, bool identity)
{
	char dir[256], path[300];
	kf_tokenizer *t;
	kf_err err;

	snprintf(dir, sizeof dir, FIXTURES "%s", name);
	snprintf(path, sizeof path, "%s/expected.json", dir);
	if (kf_tokenizer_open_dir(dir, &t, &err) != KF_OK)
		fail_msg("%s", err.text);
	check_copies(t, name, path, identity);
	kf_tokenizer_free(t);
}

#define SMALL(function, name, identity) static void function(void **state) { (void)state; small(name, identity); }
SMALL(llama3, "llama3", true)
SMALL(gpt2_added, "gpt2-added", false)
SMALL(neox, "neox", false)
SMALL(prefix_space, "prefix-space", false)
SMALL(falcon, "falcon", true)
SMALL(byte_steps, "byte-steps", false)
SMALL(splits, "splits", false)
SMALL(sp_llama, "sp-llama", false)
SMALL(sp_unigram, "sp-unigram", false)
SMALL(sp_unk, "sp-unk", false)
SMALL(sp_merges, "sp-merges", false)
SMALL(sp_prepend, "sp-prepend", false)
SMALL(sp_added, "sp-added", false)

static void real(const char *name, bool identity)
{
	char path[KF_PATH_MAX], file[512];
	kf_gguf *g;
	kf_vocab_spec spec;
	kf_tokenizer *t;
	kf_arena arena;
	kf_err err;

	if (!real_model(name, path))
		skip();
	kf_arena_init(&arena);
	if (kf_gguf_open(path, &g, &err) != KF_OK || kf_gguf_vocab(g, &arena, &spec, &err) != KF_OK
		|| kf_tokenizer_from_spec(&spec, &t, &err) != KF_OK)
		fail_msg("%s", err.text);
	kf_gguf_close(g);
	kf_arena_release(&arena);
	snprintf(file, sizeof file, FIXTURES "%s.json", name);
	check_copies(t, name, file, identity);
	kf_tokenizer_free(t);
}

static void smollm2(void **state) { (void)state; real("smollm2-135m", false); }
static void qwen25(void **state) { (void)state; real("qwen2.5-coder-0.5b", false); }
static void gemma3(void **state) { (void)state; real("gemma3-270m", true); }

/* ---- copies of the tokenizers of tests/models/endtoend, whose ids tests/cli/parity.sh compares with transformers' ---- */

static void check_same(const kf_tokenizer *a, const kf_tokenizer *b, const char *name)
{
	static const char *const texts[] = { "", " ", "a", " leading space", "two  spaces\n\tand a tab", "f(x) = 12345;", "<s>[INST] Hi </s> there",
		"\xc3\xa9t\xc3\xa9 \xe6\x97\xa5\xe6\x9c\xac \xf0\x9f\x99\x82", "\xe2\x96\x81x \xff\xfe \x01", "<|im_start|>user<|im_end|>" };
	kf_arena arena;
	kf_err err;

	kf_arena_init(&arena);
	if (!kf_fp_equal(kf_tokenizer_fp(a), kf_tokenizer_fp(b))) fail_msg("%s: another fingerprint", name);
	for (size_t k = 0; k < 2 * sizeof texts / sizeof *texts; k++) {
		const char *text = texts[k / 2];
		kf_encoding x, y;

		assert_int_equal(kf_tokenizer_encode(a, (const uint8_t *)text, strlen(text), k % 2, &arena, &x, &err), KF_OK);
		assert_int_equal(kf_tokenizer_encode(b, (const uint8_t *)text, strlen(text), k % 2, &arena, &y, &err), KF_OK);
		if (x.n != y.n || (x.n && memcmp(x.ids, y.ids, x.n * sizeof *x.ids) != 0)) fail_msg("%s: other tokens of \"%s\"", name, text);
	}
	assert_int_equal(kf_tokenizer_bos(a), kf_tokenizer_bos(b));
	assert_int_equal(kf_tokenizer_eos(a), kf_tokenizer_eos(b));
	kf_arena_release(&arena);
}

static void copies(void **state)
{
	static const char *const models[] = { "internlm2", "llama2", "mixtral", "mpt", "openchat", "openllama" };

	(void)state;
	for (size_t m = 0; m < sizeof models / sizeof *models; m++) {
		char path[KF_PATH_MAX], dir[] = "/tmp/kf-text-XXXXXX";
		kf_tokenizer *t, *u;
		kf_buf b = { 0 };
		kf_err err;

		snprintf(path, sizeof path, "tests/models/endtoend/%s", models[m]);
		if (kf_tokenizer_open_dir(path, &t, &err) != KF_OK || kf_tokenizer_save(t, &b, &err) != KF_OK ||
		    kf_tokenizer_load(b.data, b.len, &u, &err) != KF_OK)
			fail_msg("%s: %s", models[m], err.text);
		check_same(t, u, models[m]);
		kf_tokenizer_free(u);
		kf_buf_release(&b);
		assert_non_null(mkdtemp(dir));
		if (kf_tokenizer_write_hf(t, dir, &err) != KF_OK || kf_tokenizer_open_dir(dir, &u, &err) != KF_OK)
			fail_msg("%s, written: %s", models[m], err.text);
		check_same(t, u, models[m]);
		kf_tokenizer_free(u);
		kf_tokenizer_free(t);
		remove_copy(dir);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(llama3), cmocka_unit_test(gpt2_added), cmocka_unit_test(neox), cmocka_unit_test(prefix_space), cmocka_unit_test(falcon),
		cmocka_unit_test(byte_steps), cmocka_unit_test(splits), cmocka_unit_test(sp_llama), cmocka_unit_test(sp_unigram), cmocka_unit_test(sp_unk),
		cmocka_unit_test(sp_merges), cmocka_unit_test(sp_prepend), cmocka_unit_test(sp_added),
		cmocka_unit_test(smollm2), cmocka_unit_test(qwen25), cmocka_unit_test(gemma3), cmocka_unit_test(copies),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
