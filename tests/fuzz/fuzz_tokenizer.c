/* Tokenizer files as people have them: tokenizer.json, tokenizer.model, and as a set carries them. The first byte
 * says which; what is understood must encode, survive being stored, and encode the same after. */
#include <string.h>

#include "common/text/tokenizer.h"
#include "tests/fuzz/fuzz.h"

static const char text[] = "  Some text, 12 of it: caf\xc3\xa9 \xf0\x9f\x99\x82 \xff\n\t<|endoftext|> x's";

static void encode(const kf_tokenizer *t, kf_arena *arena, kf_encoding *e)
{
	kf_err err;
	kf_status rc;

	err.text[0] = 0;
	fuzz_answer(rc = kf_tokenizer_encode(t, (const uint8_t *)text, sizeof text - 1, true, arena, e, &err), &err);
	if (rc != KF_OK) {
		e->n = 0;
		return;
	}
	fuzz_touch(e->ids, e->n * sizeof *e->ids);
	if (e->start[e->n] != sizeof text - 1) __builtin_trap();
}

static void use(kf_tokenizer *t)
{
	kf_tokenizer *back = NULL;
	kf_encoding a, b;
	kf_arena arena;
	kf_buf saved = { 0 };
	int32_t n;
	kf_err err;
	kf_status rc;

	kf_arena_init(&arena);
	err.text[0] = 0;
	encode(t, &arena, &a);
	kf_tokenizer_first(t, (const uint8_t *)text, 7);
	kf_tokenizer_sorted(t, &n);
	fuzz_answer(rc = kf_tokenizer_save(t, &saved, &err), &err);
	if (rc == KF_OK) {
		fuzz_answer(rc = kf_tokenizer_load(saved.data, saved.len, &back, &err), &err);
		if (rc != KF_OK) __builtin_trap();
		encode(back, &arena, &b);
		if (a.n != b.n || (a.n && memcmp(a.ids, b.ids, a.n * sizeof *a.ids))) __builtin_trap();
	}
	kf_tokenizer_free(back);
	kf_buf_release(&saved);
	kf_arena_release(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const names[] = { "tokenizer.json", "tokenizer.model" };
	kf_tokenizer *t = NULL;
	kf_status rc;
	kf_err err;

	if (!size) return 0;
	err.text[0] = 0;
	if (data[0] == '{' || data[0] == '\n') {   /* JSON; a protocol buffer's first field */
		const char *dir = fuzz_dir();

		fuzz_put(dir, names[data[0] == '\n'], data, size);
		rc = kf_tokenizer_open_dir(dir, &t, &err);
	} else {
		rc = kf_tokenizer_load(data, size, &t, &err);
	}
	fuzz_answer(rc, &err);
	if (rc == KF_OK) use(t);
	kf_tokenizer_free(t);
	return 0;
}
