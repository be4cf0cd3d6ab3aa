/* Vocabulary maps as files: what is written comes back, what does not fit is refused with what differs, damage is seen. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/base/file.h"
#include "common/base/rng.h"
#include "common/store/vocabmap.h"

static char path[64];

static void ok(kf_status rc, const kf_err *err)
{
	if (rc != KF_OK) fail_msg("%s", err->text);
}

static kf_vocabmap_key some_key(void)
{
	return (kf_vocabmap_key){ .method = "stats", .source = { 1, 2 }, .target = { 3, 4 }, .n = 5, .m = 3, .counted = true,
		.corpus = { 5, 6 } };
}

static kf_vocabmap *some_map(void)
{
	static char *const source[5] = { "a", "\"\xe2\x96\x81", "", "bb", "\xff" }, *const target[3] = { "x", "y", "z" };
	kf_vocabmap_key key = some_key();
	kf_vocabmap *m;
	kf_err err;

	ok(kf_vocabmap_new(&key, "model A", "model B", &m, &err), &err);
	for (int i = 0; i < 5; i++) {
		m->spelled[0][i] = source[i];
		if (i == 2) continue;
		m->to[i] = i % 3;
		m->distance[i] = (uint32_t)i;
		m->equal[i] = i == 0;
		m->count[i] = (uint64_t)i << 33;
	}
	for (int i = 0; i < 3; i++) m->spelled[1][i] = target[i];
	return m;
}

static int setup(void **state)
{
	int fd;

	(void)state;
	snprintf(path, sizeof path, "/tmp/kfuse-test-map.XXXXXX");
	if ((fd = mkstemp(path)) < 0) return 1;
	close(fd);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	return unlink(path);
}

static void round_trip(void **state)
{
	kf_vocabmap *m = some_map(), *r;
	kf_err err;

	(void)state;
	ok(kf_vocabmap_write(m, path, "test", &err), &err);
	ok(kf_vocabmap_read(path, &r, &err), &err);
	assert_true(kf_fp_equal(kf_vocabmap_fp(&m->key), kf_vocabmap_fp(&r->key)));
	ok(kf_vocabmap_fits(&r->key, &m->key, path, &err), &err);
	assert_string_equal(r->source, "model A");
	assert_string_equal(r->target, "model B");
	assert_memory_equal(r->to, m->to, 5 * sizeof *m->to);
	assert_memory_equal(r->distance, m->distance, 5 * sizeof *m->distance);
	assert_memory_equal(r->equal, m->equal, 5);
	assert_memory_equal(r->count, m->count, 5 * sizeof *m->count);
	for (int i = 0; i < 5; i++) assert_string_equal(r->spelled[0][i], m->spelled[0][i]);
	for (int i = 0; i < 3; i++) assert_string_equal(r->spelled[1][i], m->spelled[1][i]);
	assert_int_equal(r->to[2], -1);
	kf_vocabmap_free(r);
	kf_vocabmap_free(m);
}

static void differs(kf_vocabmap_key there, const char *what)
{
	kf_vocabmap_key here = some_key();
	kf_err err;

	assert_int_equal(kf_vocabmap_fits(&there, &here, "FILE", &err), KF_EMISMATCH);
	assert_non_null(strstr(err.text, what));
	assert_non_null(strstr(err.text, "FILE"));
	assert_false(kf_fp_equal(kf_vocabmap_fp(&there), kf_vocabmap_fp(&here)));
}

static void refused(void **state)
{
	kf_vocabmap_key k;

	(void)state;
	k = some_key(); strcpy(k.method, "mined"); differs(k, "method mined, not stats");
	k = some_key(); k.source.lo++; differs(k, "source's tokenizer");
	k = some_key(); k.n++; differs(k, "source's tokenizer");
	k = some_key(); k.target.hi++; differs(k, "target's tokenizer");
	k = some_key(); k.m--; differs(k, "target's tokenizer");
	k = some_key(); k.corpus.lo++; differs(k, "corpus");
	k = some_key(); k.counted = false; differs(k, "corpus");
}

static void put(const void *data, size_t n)
{
	FILE *f = fopen(path, "wb");

	assert_non_null(f);
	assert_int_equal(fwrite(data, 1, n, f), n);
	fclose(f);
}

/* The file with bytes replaced and its checksum made right again must still not be read beyond its bounds. */
static void damaged(void **state)
{
	kf_vocabmap *m = some_map(), *r;
	kf_buf whole = { 0 }, part = { 0 };
	kf_rng rng;
	kf_err err;
	int good = 0;

	(void)state;
	kf_rng_seed(&rng, 3);
	ok(kf_vocabmap_write(m, path, "test", &err), &err);
	ok(kf_file_read(path, 1 << 20, &whole, &err), &err);
	for (size_t n = 0; n < whole.len; n++) {
		put(whole.data, n);
		assert_int_equal(kf_vocabmap_read(path, &r, &err), KF_EDATA);
		assert_non_null(strstr(err.text, path));
	}
	for (size_t i = 0; i < whole.len; i++) {
		kf_buf_clear(&part);
		kf_buf_put(&part, whole.data, whole.len);
		part.data[i] ^= (uint8_t)(1u << kf_rng_below(&rng, 8));
		put(part.data, part.len);
		assert_int_equal(kf_vocabmap_read(path, &r, &err), i == 6 || i == 7 ? KF_EUNSUPPORTED : KF_EDATA);
	}
	for (int i = 0; i < 3000; i++) {
		uint64_t hash;
		kf_status rc;

		kf_buf_clear(&part);
		kf_buf_put(&part, whole.data, whole.len - kf_rng_below(&rng, i % 4 ? 1 : whole.len - 16));
		for (uint64_t k = kf_rng_below(&rng, 4); k < 4; k++) part.data[16 + kf_rng_below(&rng, part.len - 16)] = (uint8_t)kf_rng_next(&rng);
		hash = kf_hash64(part.data + 16, part.len - 16);
		memcpy(part.data + 8, &hash, sizeof hash);
		put(part.data, part.len);
		rc = kf_vocabmap_read(path, &r, &err);
		assert_true(rc == KF_OK || rc == KF_EDATA);
		if (rc != KF_OK) continue;
		for (int32_t t = 0; t < r->key.n; t++) assert_true(r->to[t] >= -1 && r->to[t] < r->key.m);
		good++;
		kf_vocabmap_free(r);
	}
	assert_true(good < 3000);
	kf_buf_release(&part);
	kf_buf_release(&whole);
	kf_vocabmap_free(m);
}

static void absent(void **state)
{
	kf_vocabmap *r;
	kf_err err;

	(void)state;
	assert_int_equal(kf_vocabmap_read("/tmp/kfuse-no-such-map", &r, &err), KF_ENOTFOUND);
	assert_int_equal(kf_vocabmap_read("README.md", &r, &err), KF_EDATA);
	assert_non_null(strstr(err.text, "no vocabulary map"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(round_trip, setup, teardown),
		cmocka_unit_test(refused),
		cmocka_unit_test_setup_teardown(damaged, setup, teardown),
		cmocka_unit_test(absent),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
