/* manifest.json, and a vocabulary map's file. */
#include "common/store/manifest.h"
#include "common/store/vocabmap.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *path = fuzz_file(data, size);
	kf_vocabmap *map = NULL;
	kf_shard_facts f;
	json_t *m = NULL;
	kf_err err;
	kf_status rc;

	err.text[0] = 0;
	fuzz_answer(rc = kf_manifest_load(path, &m, &err), &err);
	for (int i = 0; rc == KF_OK && i < kf_manifest_shards(m) && i < 100; i++) fuzz_answer(kf_manifest_facts(m, i, &f, &err), &err);
	if (rc == KF_OK) fuzz_answer(kf_manifest_same(m, m, "fuzz", &err), &err);
	json_decref(m);
	fuzz_answer(rc = kf_vocabmap_read(path, &map, &err), &err);
	if (rc == KF_OK) {
		fuzz_touch(map->to, (size_t)map->key.n * sizeof *map->to);
		fuzz_touch(map->count, (size_t)map->key.n * sizeof *map->count);
	}
	kf_vocabmap_free(map);
	return 0;
}
