#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "common/base/file.h"
#include "common/base/rng.h"
#include "common/model/tensor_quant.h"

static const kf_dtype all[] = { KF_F32, KF_F16, KF_BF16, KF_Q4_0, KF_Q4_1, KF_Q5_0, KF_Q5_1, KF_Q8_0,
	KF_Q2_K, KF_Q3_K, KF_Q4_K, KF_Q5_K, KF_Q6_K };
#define N_ALL ((int)(sizeof all / sizeof *all))

static uint32_t bits(float f)
{
	uint32_t u;
	memcpy(&u, &f, 4);
	return u;
}

/* Every type unpacks to the bits that the gguf package gives (tests/parity/make_quant_fixtures.py). */
static void test_fixtures(void **state)
{
	kf_buf buf = { 0 };
	kf_err err;
	int seen = 0;
	(void)state;

	assert_int_equal(kf_file_read("tests/unit/model/quant_fixtures.bin", 1 << 20, &buf, &err), KF_OK);
	kf_cur c = kf_cur_of(buf.data, buf.len);
	while (kf_cur_left(&c)) {
		kf_dtype t = (kf_dtype)kf_cur_u32(&c);
		uint32_t n = kf_cur_u32(&c), bytes = kf_cur_u32(&c);
		const uint8_t *raw = kf_cur_bytes(&c, bytes), *want = kf_cur_bytes(&c, 4 * (size_t)n);
		assert_false(c.bad);
		assert_true(kf_dtype_known((int)t));
		assert_int_equal(kf_dtype_row_bytes(t, n), bytes);
		uint32_t block = (uint32_t)kf_dtype_block(t);
		float *fast = malloc(n * sizeof *fast);
		assert_non_null(fast);
		kf_unpack_blocks(t, raw, n / block, fast);
		for (uint32_t i = 0; i < n; i++) {
			float w, v = kf_block_value(t, raw + i / block * (bytes / (n / block)), (int)(i % block));
			memcpy(&w, want + 4 * i, 4);
			if (bits(v) != bits(w) || bits(fast[i]) != bits(w))
				fail_msg(
					"%s element %u: definition %a, fast %a, gguf %a", kf_dtype_name(t), i, v, fast[i], w);
		}
		free(fast);
		seen++;
	}
	assert_int_equal(seen, N_ALL);
	kf_buf_release(&buf);
}

/* The fast versions agree with the definition on any bits at all, and write nothing past the end. */
static void test_fast(void **state)
{
	kf_rng r;
	(void)state;

	kf_rng_seed(&r, 7);
	for (int a = 0; a < N_ALL; a++) {
		int block = kf_dtype_block(all[a]), n = block == 1 ? 333 : block == 32 ? 37 : 11;
		size_t one = kf_dtype_row_bytes(all[a], (uint64_t)block), size = one * (size_t)n;
		uint8_t *in = malloc(size + 1);        /* + 1: unaligned */
		float *out = malloc(sizeof *out * (size_t)(n * block + 1));
		assert_true(in && out);
		for (size_t i = 0; i <= size; i++) in[i] = (uint8_t)kf_rng_next(&r);
		out[n * block] = 12345;
		kf_unpack_blocks(all[a], in + 1, (uint64_t)n, out);
		assert_true(out[n * block] == 12345);
		for (int i = 0; i < n * block; i++) {
			float v = kf_block_value(all[a], in + 1 + (size_t)(i / block) * one, i % block);
			/* a random half may be infinite or not a number: then any not-a-number will do */
			if (bits(v) != bits(out[i]) && !(v != v && out[i] != out[i]))
				fail_msg("%s element %d: %a, not %a", kf_dtype_name(all[a]), i, out[i], v);
		}
		free(in);
		free(out);
	}
}

/* Halves against the compiler's own, all of them, and back. */
static void test_half(void **state)
{
	kf_rng r;
	(void)state;

	for (uint32_t h = 0; h < 65536; h++) {
		uint16_t h16 = (uint16_t)h;
		_Float16 f;
		memcpy(&f, &h16, 2);
		float got = kf_f16_to_f32(h16);
		if (got != got) {
			assert_true((h & 0x7c00) == 0x7c00 && (h & 1023));
			continue;
		}
		assert_int_equal(bits(got), bits((float)f));
		assert_int_equal(kf_f32_to_f16(got), h16);
	}
	kf_rng_seed(&r, 3);
	for (int i = 0; i < 1000000; i++) {
		union { uint32_t u; float f; } x = { (uint32_t)kf_rng_next(&r) };
		if (i % 2) x.u = (x.u & 0x8fffffffu) | 0x30000000u; /* where halves have digits */
		if (i % 8 == 1) x.u = (x.u & 0xffffe000u) | 0x1000u;  /* ties */
		_Float16 f = (_Float16)x.f;
		uint16_t want, got = kf_f32_to_f16(x.f);
		memcpy(&want, &f, 2);
		if (x.f != x.f) assert_true((got & 0x7c00) == 0x7c00 && (got & 1023));
		else if (got != want) fail_msg("%a becomes half %04x, not %04x", x.f, got, want);
	}
	assert_int_equal(kf_f32_to_bf16(1.00390625f), 0x3f80);   /* tie to even, down */
	assert_int_equal(kf_f32_to_bf16(1.01171875f), 0x3f82);   /* tie to even, up */
}

static void test_names(void **state)
{
	(void)state;
	assert_string_equal(kf_dtype_name(KF_Q4_1), "Q4_1");
	assert_string_equal(kf_dtype_name((kf_dtype)23), "IQ4_XS");
	assert_string_equal(kf_dtype_name((kf_dtype)77), "unknown type");
	assert_string_equal(kf_dtype_name((kf_dtype)4), "unknown type");
	assert_false(kf_dtype_known(23));
	assert_false(kf_dtype_known(-1));
	assert_false(kf_dtype_known(5));
	assert_int_equal(kf_dtype_row_bytes(KF_Q6_K, 512), 420);
	assert_int_equal(kf_dtype_row_bytes(KF_Q6_K, 500), 0);
	assert_int_equal(kf_dtype_row_bytes(KF_F32, UINT64_MAX), 0);
}

/* GGUF's order of a llama q: per head of D = 4 rows, 0 2 | 1 3 in Hugging Face's numbering. */
static void test_rope_rows(void **state)
{
	/* two heads; the file's rows hold the number of their Hugging Face row */
	static const float file[8][2] = { {0, 0}, {2, 20}, {1, 10}, {3, 30}, {4, 40}, {6, 60}, {5, 50}, {7, 70} };
	kf_tensor t = { .name = "q", .dtype = KF_F32, .rows = 8, .cols = 2, .n_dims = 2,
		.data = (const uint8_t *)file, .rope_heads = 2 };
	float out[16];
	int32_t index[] = { 6, 0, 3 };
	(void)state;

	kf_tensor_rows(&t, 0, 8, out);
	for (int i = 0; i < 8; i++) assert_true(out[2 * i] == (float)i && out[2 * i + 1] == 10.0f * (float)i);
	kf_tensor_rows(&t, 3, 2, out);
	assert_true(out[0] == 3 && out[2] == 4);
	kf_tensor_gather(&t, index, 3, out);
	assert_true(out[0] == 6 && out[2] == 0 && out[4] == 3);

	static const float bias[8] = { 0, 2, 1, 3, 4, 6, 5, 7 };
	kf_tensor b = { .name = "b", .dtype = KF_F32, .rows = 1, .cols = 8, .n_dims = 1,
		.data = (const uint8_t *)bias, .rope_heads = 2 };
	kf_tensor_rows(&b, 0, 1, out);
	for (int i = 0; i < 8; i++) assert_true(out[i] == (float)i);
}

static void test_add(void **state)
{
	static const float norm[3] = { 0.5f, -1, 0 };
	kf_tensor t = { .name = "norm", .dtype = KF_F32, .rows = 1, .cols = 3, .n_dims = 1,
		.data = (const uint8_t *)norm, .add = 1 };
	float out[3];
	int32_t zero = 0;
	(void)state;

	kf_tensor_rows(&t, 0, 1, out);
	assert_true(out[0] == 1.5f && out[1] == 0 && out[2] == 1);
	kf_tensor_gather(&t, &zero, 1, out);
	assert_true(out[0] == 1.5f && out[1] == 0 && out[2] == 1);
}

/* Rows, gather and the threaded whole agree. */
static void test_unpack(void **state)
{
	enum { ROWS = 700, COLS = 256 };
	kf_rng r;
	kf_err err;
	kf_pool *pool;
	(void)state;

	assert_int_equal(kf_pool_new(3, &pool, &err), KF_OK);
	kf_rng_seed(&r, 11);
	size_t row = kf_dtype_row_bytes(KF_Q5_0, COLS);
	uint8_t *in = malloc(row * ROWS);
	float *a = malloc(sizeof *a * ROWS * COLS), *b = malloc(sizeof *b * ROWS * COLS);
	assert_true(in && a && b);
	for (size_t i = 0; i < row * ROWS; i++) in[i] = (uint8_t)(kf_rng_next(&r) & 0x3f); /* finite scales */
	kf_tensor t = {
		.name = "k", .dtype = KF_Q5_0, .rows = ROWS, .cols = COLS, .n_dims = 2, .data = in, .rope_heads = 7
	};
	kf_tensor_rows(&t, 0, ROWS, a);
	kf_tensor_unpack(&t, pool, b);
	assert_memory_equal(a, b, sizeof *a * ROWS * COLS);
	for (int i = 0; i < 50; i++) {
		int32_t k = (int32_t)kf_rng_below(&r, ROWS);
		kf_tensor_gather(&t, &k, 1, b);
		assert_memory_equal(a + (size_t)k * COLS, b, sizeof *a * COLS);
	}
	free(in);
	free(a);
	free(b);
	kf_pool_free(pool);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fixtures), cmocka_unit_test(test_fast), cmocka_unit_test(test_half),
		cmocka_unit_test(test_names), cmocka_unit_test(test_rope_rows), cmocka_unit_test(test_add),
		cmocka_unit_test(test_unpack),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
