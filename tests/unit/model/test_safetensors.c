#include "tests/unit/model/make_gguf.h" /* write_bytes */

#include <sys/stat.h>
#include <unistd.h>

#include "common/model/safetensors.h"

static void make(kf_buf *out, const char *header, size_t data)
{
	kf_buf_clear(out);
	kf_buf_u64(out, strlen(header));
	kf_buf_put(out, header, strlen(header));
	for (size_t i = 0; i < data; i++) kf_buf_u8(out, (uint8_t)i);
}

static kf_status open_copy(const void *data, size_t n, uint8_t **block, kf_safetensors **s, kf_err *err)
{
	*block = malloc(n ? n : 1);
	assert_non_null(*block);
	if (n) memcpy(*block, data, n);
	return kf_safetensors_open_memory(*block, n, "m.safetensors", s, err);
}

static const char good[] = "{\"__metadata__\":{\"format\":\"pt\"},"
	"\"b\":{\"dtype\":\"BF16\",\"shape\":[3],\"data_offsets\":[24,30]},"
	"\"a\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]},"
	"\"i\":{\"dtype\":\"I64\",\"shape\":[1],\"data_offsets\":[30,38]},"
	"\"deep\":{\"dtype\":\"F16\",\"shape\":[1,1,1],\"data_offsets\":[38,40]}}";

static void test_read(void **state)
{
	kf_buf f = { 0 };
	kf_safetensors *s;
	kf_err err;
	(void)state;

	make(&f, good, 40);
	assert_int_equal(kf_safetensors_open_memory(f.data, f.len, "m", &s, &err), KF_OK);
	assert_int_equal(kf_safetensors_count(s), 4);
	assert_string_equal(kf_safetensors_at(s, 0)->t.name, "a");
	const kf_st_tensor *a = kf_safetensors_find(s, "a"), *b = kf_safetensors_find(s, "b");
	assert_true(a->readable && a->t.dtype == KF_F32 && a->t.rows == 2 && a->t.cols == 3 && a->t.n_dims == 2);
	assert_true(b->readable && b->t.dtype == KF_BF16 && b->t.rows == 1 && b->t.cols == 3 && b->t.n_dims == 1);
	assert_int_equal(b->t.data[0], 24);
	assert_int_equal(kf_safetensors_check(s, a, &err), KF_OK);
	assert_int_equal(kf_safetensors_check(s, kf_safetensors_find(s, "i"), &err), KF_EUNSUPPORTED);
	assert_string_equal(err.text, "m: tensor i has dtype I64 or no elements; kfuse reads F32, F16 and BF16");
	assert_int_equal(kf_safetensors_check(s, kf_safetensors_find(s, "deep"), &err), KF_EUNSUPPORTED);
	assert_string_equal(err.text, "m: tensor deep has 3 dimensions, not 1 or 2");
	assert_null(kf_safetensors_find(s, "c"));
	kf_safetensors_close(s);
	kf_buf_release(&f);
}

static void test_bad(void **state)
{
	static const struct { const char *header, *text; } cases[] = {
		{ "{", "m.safetensors: its header is no good JSON" },
		{ "[]", "its header is no JSON object" },
		{ "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},\"a\":{}}", "duplicate object key" },
		{ "{\"a\":{}}", "entry for tensor a lacks a dtype, shape or data_offsets" },
		{ "{\"a\":7}", "entry for tensor a lacks" },
		{ "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]}}", "entry for tensor a lacks" },
		{ "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[-4,0]}}", "entry for tensor a lacks" },
		{ "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]}}",
			"tensor a has 4 bytes of data, not what its shape and dtype F32 need" },
		{ "{\"a\":{\"dtype\":\"F32\",\"shape\":[100],\"data_offsets\":[0,400]}}",
			"tensor a lies at bytes 0 to 400 of the data, which has 40" },
		{ "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[8,4]}}", "tensor a lies at bytes 8 to 4" },
		{ "{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967297],\"data_offsets\":[0,4]}}",
			"tensor a has a shape that makes no sense" },
		{ "{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387904],\"data_offsets\":[0,0]}}", "tensor a has 0 bytes" },
		{ "{\"a\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,4]}}", "tensor a has a shape that makes no sense" },
		{ "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
			"\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[4,12]}}", "the data of tensors a and b overlap" },
	};
	kf_buf f = { 0 };
	kf_safetensors *s;
	kf_err err;
	uint8_t *block;
	(void)state;

	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		make(&f, cases[i].header, 40);
		kf_status rc = open_copy(f.data, f.len, &block, &s, &err);
		if (rc != KF_EDATA || !strstr(err.text, cases[i].text))
			fail_msg("%s: status %d, \"%s\"", cases[i].header, rc, rc ? err.text : "");
		free(block);
	}
	kf_buf_clear(&f);
	kf_buf_u64(&f, UINT64_MAX);
	kf_buf_fill(&f, ' ', 100);
	assert_int_equal(kf_safetensors_open_memory(f.data, f.len, "m", &s, &err), KF_EDATA);
	assert_non_null(strstr(err.text, "is no safetensors file, or not all of it"));
	kf_buf_release(&f);
}

static void test_damage(void **state)
{
	kf_buf f = { 0 };
	kf_rng r;
	int opened = 0;
	(void)state;

	make(&f, good, 40);
	for (size_t n = 0; n < f.len; n++) {
		kf_safetensors *s;
		kf_err err;
		uint8_t *block;
		if (open_copy(f.data, n, &block, &s, &err) == KF_OK)
			fail_msg("opened after %zu of %zu bytes", n, f.len);
		free(block);
	}
	kf_rng_seed(&r, 17);
	for (int i = 0; i < 6000; i++) {
		kf_safetensors *s;
		kf_err err;
		uint8_t *block, old;
		size_t at = kf_rng_below(&r, f.len);
		old = f.data[at];
		f.data[at] = kf_rng_below(&r, 2) ? (uint8_t)('0' + kf_rng_below(&r, 10)) : (uint8_t)kf_rng_next(&r);
		if (open_copy(f.data, f.len, &block, &s, &err) == KF_OK) {
			unsigned sum = 0;
			opened++;
			for (int k = 0; k < kf_safetensors_count(s); k++) {
				const kf_st_tensor *t = kf_safetensors_at(s, k);
				if (kf_safetensors_check(s, t, &err) != KF_OK) continue;
				for (size_t b = 0; b < kf_dtype_row_bytes(t->t.dtype, t->t.cols) * t->t.rows; b++)
					sum += t->t.data[b];
			}
			assert_true(sum < 1000000);
			kf_safetensors_close(s);
		}
		free(block);
		f.data[at] = old;
	}
	assert_true(opened > 100);
	kf_buf_release(&f);
}

/* ---- several files ---- */

static void put_file(const char *dir, const char *name, const void *data, size_t n)
{
	char path[KF_PATH_MAX];
	snprintf(path, sizeof path, "%s/%s", dir, name);
	write_bytes(path, data, n);
}

static void put_index(const char *dir, const char *text)
{
	put_file(dir, "model.safetensors.index.json", text, strlen(text));
}

static void test_index(void **state)
{
	static const struct { const char *index, *text; } bad[] = {
		{ "{\"weight_map\":{\"a\":\"../one.safetensors\"}}", "tensor a is not in a file of this folder" },
		{ "{\"weight_map\":{\"a\":\"\"}}", "tensor a is not in a file of this folder" },
		{ "{\"weight_map\":{\"a\":7}}", "tensor a is not in a file of this folder" },
		{ "{\"weight_map\":{}}", "lacks the object \"weight_map\"" },
		{ "{", "is no good JSON" },
		{ "{\"weight_map\":{\"a\":\"two.safetensors\",\"b\":\"one.safetensors\"}}", "it names what is not there: tensors a in two.safetensors, b in one.safetensors" },
		{ "{\"weight_map\":{\"a\":\"three.safetensors\",\"b\":\"one.safetensors\",\"c\":\"four.safetensors\"}}",
			"it names what is not there: files four.safetensors, three.safetensors" },
		{ "{\"weight_map\":{\"a\":\"one.safetensors\",\"b\":\"one2.safetensors\"}}", "tensor a is both in" },
	};
	char dir[] = "/tmp/kf-test-XXXXXX", cmd[64];
	kf_buf f = { 0 };
	kf_safetensors *s;
	kf_err err;
	(void)state;

	assert_non_null(mkdtemp(dir));
	assert_int_equal(kf_safetensors_open_dir(dir, &s, &err), KF_ENOTFOUND);
	make(&f, "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4);
	put_file(dir, "one.safetensors", f.data, f.len);
	put_file(dir, "one2.safetensors", f.data, f.len);
	make(&f, "{\"b\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[0,4]}}", 4);
	put_file(dir, "two.safetensors", f.data, f.len);
	put_index(dir, "{\"metadata\":{},\"weight_map\":{\"a\":\"one.safetensors\",\"b\":\"two.safetensors\"}}");
	assert_int_equal(kf_safetensors_open_dir(dir, &s, &err), KF_OK);
	assert_int_equal(kf_safetensors_count(s), 2);
	assert_non_null(strstr(kf_safetensors_path(s, kf_safetensors_find(s, "b")->file), "two.safetensors"));
	kf_safetensors_close(s);
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		put_index(dir, bad[i].index);
		kf_status rc = kf_safetensors_open_dir(dir, &s, &err);
		if (rc == KF_OK || !strstr(err.text, bad[i].text))
			fail_msg("%s: status %d, \"%s\"", bad[i].index, rc, rc ? err.text : "");
	}
	snprintf(cmd, sizeof cmd, "rm -r %s", dir);
	assert_int_equal(system(cmd), 0);
	kf_buf_release(&f);
}

/* Where a folder has several, the single file counts, then the index; safetensors before PyTorch's. */
static void test_which(void **state)
{
	static const char *const names[] = { "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin",
		"pytorch_model.bin.index.json" };
	char dir[] = "/tmp/kf-test-XXXXXX", path[KF_PATH_MAX];
	kf_safetensors *s;
	kf_err err;
	(void)state;

	assert_non_null(mkdtemp(dir));
	for (int i = 0; i < 4; i++) put_file(dir, names[i], "", 0); /* no good, and the error says which it was */
	for (int i = 0; i < 4; i++) {
		snprintf(path, sizeof path, "%s/%s", dir, names[i]);
		assert_int_equal(kf_safetensors_open_dir(dir, &s, &err), KF_EDATA);
		assert_true(!strncmp(err.text, path, strlen(path)) && err.text[strlen(path)] != '.');
		assert_int_equal(unlink(path), 0);
	}
	assert_int_equal(kf_safetensors_open_dir(dir, &s, &err), KF_ENOTFOUND);
	assert_int_equal(rmdir(dir), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_read),
		cmocka_unit_test(test_bad),
		cmocka_unit_test(test_damage),
		cmocka_unit_test(test_index),
		cmocka_unit_test(test_which),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
