/* A line of what other programs computed, in every form that kf-import reads, against one document. */
#include <stdlib.h>

#include "import/record.h"
#include "tests/fuzz/fuzz.h"
#include "tests/unit/align/synth.h"

static import_names names;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const pieces[] = { "\xe2\x96\x81""ab", "bc" };
	const kf_corpus_rec doc = { .head = { .doc = 0, .id = "a", .domain = "d", .bytes = 7 }, .text = (const uint8_t *)"ab bc c" };
	kf_err err;

	err.text[0] = 0;
	if (!names.t && import_names_init(&names, synth_spm("abc", pieces, 2, true), &err) != KF_OK) abort();
	for (kf_import_format f = 0; f <= KF_IMPORT_OPENAI; f++) {
		json_t *line = NULL;
		import_answer a;
		import_match m;
		kf_logits_rec rec;
		kf_arena arena;
		kf_status rc;

		kf_arena_init(&arena);
		fuzz_answer(rc = import_parse(data, size, "f, line 1", &line, &err), &err);
		if (rc == KF_OK) fuzz_answer(rc = import_answer_read(line, "f, line 1", f, &names, &arena, &a, &err), &err);
		if (rc == KF_OK) fuzz_answer(rc = import_match_tokens(&a, &names, &doc, &arena, &m, &err), &err);
		if (rc == KF_OK) fuzz_answer(rc = import_record(&a, &names, &doc, 10, &arena, &rec, NULL, &err), &err);
		if (rc == KF_OK) fuzz_touch(rec.tokens, rec.n * sizeof *rec.tokens);
		json_decref(line);
		kf_arena_release(&arena);
	}
	return 0;
}
