/* pytorch_model.bin: the archive and the pickle in it; and a pickle by itself. */
#include <string.h>

#include "common/model/pickle.h"
#include "common/model/zip.h"
#include "tests/fuzz/fuzz.h"

static void pickle(const uint8_t *data, size_t size, kf_arena *arena)
{
	const kf_pickle_tensor *t;
	size_t n;
	kf_err err;
	kf_status rc;

	err.text[0] = 0;
	fuzz_answer(rc = kf_pickle_tensors(data, size, "data.pkl", arena, &t, &n, &err), &err);
	for (size_t i = 0; rc == KF_OK && i < n; i++) {
		fuzz_touch(t[i].name.s, t[i].name.len);
		fuzz_touch(t[i].storage.s, t[i].storage.len);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const kf_zip_member *m;
	kf_arena arena;
	size_t n;
	kf_err err;
	kf_status rc;

	err.text[0] = 0;
	kf_arena_init(&arena);
	fuzz_answer(rc = kf_zip_members(data, size, "fuzz.bin", &arena, &m, &n, &err), &err);
	for (size_t i = 0; rc == KF_OK && i < n; i++) {
		fuzz_touch(m[i].data, m[i].size);
		if (strlen(m[i].name) >= 4 && strcmp(m[i].name + strlen(m[i].name) - 4, ".pkl") == 0)
			pickle(m[i].data, m[i].size, &arena);
	}
	pickle(data, size, &arena);
	kf_arena_release(&arena);
	return 0;
}
