/* GGUF files: the container, the descriptor, the vocabulary, and the tokenizer made of it. */
#include "common/model/gguf.h"
#include "tests/fuzz/fuzz.h"

static void try_tokenizer(const kf_vocab_spec *spec, kf_arena *arena)
{
	static const char text[] = "Some text, 12 of it: caf\xc3\xa9 \xff\n\t  x";
	kf_tokenizer *t = NULL;
	kf_encoding e;
	kf_err err;

	err.text[0] = 0;
	fuzz_answer(kf_tokenizer_from_spec(spec, &t, &err), &err);
	if (t && kf_tokenizer_encode(t, (const uint8_t *)text, sizeof text - 1, true, arena, &e, &err) == KF_OK)
		fuzz_touch(e.ids, e.n * sizeof *e.ids);
	kf_tokenizer_free(t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	kf_gguf *g = NULL;
	kf_vocab_spec spec;
	kf_arena arena;
	kf_arch arch;
	kf_err err;
	kf_status rc;

	err.text[0] = 0;
	kf_arena_init(&arena);
	fuzz_answer(rc = kf_gguf_open_memory(data, size, "fuzz.gguf", &g, &err), &err);
	if (rc == KF_OK) {
		for (int i = 0; i < kf_gguf_entries(g); i++) fuzz_touch(kf_gguf_entry_at(g, i)->data, kf_gguf_entry_at(g, i)->size);
		for (int i = 0; i < kf_gguf_tensors(g); i++) fuzz_touch(kf_gguf_tensor_at(g, i)->data, kf_gguf_tensor_at(g, i)->size);
		fuzz_answer(kf_arch_from_gguf(g, &arch, &err), &err);
		fuzz_answer(rc = kf_gguf_vocab(g, &arena, &spec, &err), &err);
		if (rc == KF_OK) try_tokenizer(&spec, &arena);
	}
	kf_gguf_close(g);
	kf_arena_release(&arena);
	return 0;
}
