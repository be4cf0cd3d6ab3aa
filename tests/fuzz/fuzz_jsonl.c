/* What kf-prepare reads: text and JSON Lines, conversations among them, also compressed. */
#include "common/base/packing.h"
#include "data/input.h"
#include "data/talk.h"
#include "tests/fuzz/fuzz.h"

static kf_status found(void *arg, const kf_found *d, kf_err *err)
{
	kf_talk *talk = arg;

	if (!d->messages) {
		fuzz_touch(d->text, d->n);
		return KF_OK;
	}
	return kf_talk_read(talk, d->messages, d->where, true, err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *path = fuzz_file(data, size);
	kf_talk talk = { 0 };
	kf_err err;

	if (size > 2000 && kf_packing_of(data, size) == KF_PACKING_ZSTD) return 0;   /* four bytes of zstd may be 128 kB of text */
	for (kf_text_format f = KF_FORMAT_TEXT; f <= KF_FORMAT_JSONL; f++) {
		kf_inputs *in = NULL;
		kf_status rc;

		err.text[0] = 0;
		fuzz_answer(rc = kf_inputs_open(&path, 1, f, &in, &err), &err);
		if (rc == KF_OK) fuzz_answer(kf_inputs_each(in, found, NULL, NULL, &talk, &err), &err);
		kf_inputs_close(in);
	}
	kf_talk_release(&talk);
	return 0;
}
