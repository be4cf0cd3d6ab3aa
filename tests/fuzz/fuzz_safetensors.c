/* safetensors files: the header, and every tensor's bytes. */
#include "common/model/safetensors.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	kf_safetensors *s = NULL;
	float row[64];
	kf_err err;
	kf_status rc;

	err.text[0] = 0;
	fuzz_answer(rc = kf_safetensors_open_memory(data, size, "fuzz.safetensors", &s, &err), &err);
	for (int i = 0; rc == KF_OK && i < kf_safetensors_count(s); i++) {
		const kf_st_tensor *t = kf_safetensors_at(s, i);

		fuzz_answer(kf_safetensors_check(s, t, &err), &err);
		if (!t->readable) continue;
		fuzz_touch(t->t.data, t->t.rows * kf_dtype_row_bytes(t->t.dtype, t->t.cols));
		if (t->t.rows && t->t.cols <= 64) kf_tensor_rows(&t->t, t->t.rows - 1, 1, row);
	}
	kf_safetensors_close(s);
	return 0;
}
