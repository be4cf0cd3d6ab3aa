/* The emulator itself: what it emulates is right, and wrong kernels are found out. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/rng.h"
#include "tests/emu/emu.h"
#include "tests/unit/emu/wrong.h"

static const emu_turns orders[] = { EMU_FORWARD, EMU_REVERSE, EMU_RANDOM };
enum { ORDERS = sizeof orders / sizeof *orders };

static void places(void **state)
{
	int *out = emu_alloc(288 * sizeof *out);

	(void)state;
	for (int o = 0; o < ORDERS; o++) {
		emu_order(orders[o], 5);
		memset(out, 0, 288 * sizeof *out);
		assert_int_equal(wrong_places(out), 0);
		for (int i = 0; i < 288; i++) assert_int_equal(out[i], i / 24 * 1000 + i % 24);
	}
	assert_true(emu_launches() == 3 && emu_blocks() == 36);
	emu_free(out);
}

static void sums(void **state)
{
	float *in = emu_alloc(256 * sizeof *in), *out = emu_alloc(256 * sizeof *out);

	(void)state;
	for (int o = 0; o < ORDERS; o++) {
		emu_order(orders[o], 6);
		for (int i = 0; i < 256; i++) in[i] = (float)(i < 128 ? i : 1);
		assert_int_equal(wrong_block_sums(out, in), 0);
		for (int i = 0; i < 256; i++) assert_true(out[i] == (i < 128 ? 127 * 64 : 128));
	}
	emu_free(in);
	emu_free(out);
}

static void warps(void **state)
{
	int *out = emu_alloc(32 * sizeof *out);
	unsigned *votes = emu_alloc(128 * sizeof *votes);

	(void)state;
	for (int o = 0; o < ORDERS; o++) {
		emu_order(orders[o], 7);
		for (int width = 1; width <= 32; width *= 2) {
			assert_int_equal(wrong_scan(out, width), 0);
			for (int i = 0, s = 0; i < 32; i++) {
				s = i % width ? s + i : i;
				assert_int_equal(out[i], s);
			}
		}
		assert_int_equal(wrong_halves(votes), 0);
		for (unsigned i = 0; i < 32; i++) {
			assert_int_equal(votes[i], i < 16 ? (i ^ 1) : 16 + (i + 3) % 16);
			assert_int_equal(votes[32 + i], 0x49249249);
			assert_int_equal(votes[64 + i], 2);
			assert_int_equal(votes[96 + i], 16);
		}
	}
	emu_free(out);
	emu_free(votes);
}

static void product(void **state)
{
	uint16_t *a = emu_alloc(256 * sizeof *a), *b = emu_alloc(128 * sizeof *b);
	float *c = emu_alloc(128 * sizeof *c), va[256], vb[128];
	kf_rng r;

	(void)state;
	kf_rng_seed(&r, 4);
	for (int i = 0; i < 256; i++) {   /* small whole numbers, exact in bf16: the upper half of a float */
		uint32_t u;

		va[i] = (float)((int)kf_rng_below(&r, 17) - 8);
		memcpy(&u, va + i, sizeof u);
		a[i] = (uint16_t)(u >> 16);
		if (i >= 128) continue;
		vb[i] = (float)((int)kf_rng_below(&r, 17) - 8);
		memcpy(&u, vb + i, sizeof u);
		b[i] = (uint16_t)(u >> 16);
		c[i] = (float)i;
	}
	assert_int_equal(wrong_product(c, a, b), 0);
	for (int m = 0; m < 16; m++)
		for (int n = 0; n < 8; n++) {
			float s = (float)(m * 8 + n);

			for (int k = 0; k < 16; k++) s += va[m * 16 + k] * vb[k * 8 + n];
			assert_true(c[m * 8 + n] == s);
		}
	emu_free(a);
	emu_free(b);
	emu_free(c);
}

static void refused(wrong_kind kind, void *out, int n, const char *says)
{
	for (int o = 0; o < ORDERS; o++) {
		emu_order(orders[o], 8);
		assert_int_not_equal(wrong_launch(kind, out, n), 0);
		assert_non_null(emu_error());
		if (!strstr(emu_error(), says)) fail_msg("\"%s\" does not say \"%s\"", emu_error(), says);
		assert_int_not_equal(wrong_launch(WRONG_BLOCK_RACE, out, 0), 0);   /* a device that failed stays so */
		emu_reset();
		assert_null(emu_error());
	}
}

static void misuse(void **state)
{
	float *out = emu_alloc(64 * sizeof *out);

	(void)state;
	refused(WRONG_BARRIER_LEFT_OUT, out, 0, "has ended");
	refused(WRONG_BARRIERS_DIFFER, out, 0, "barriers differ");
	refused(WRONG_BARRIER_SHUFFLE, out, 0, "wrong.cu:");
	refused(WRONG_LANES_ABSENT, out, 0, "do not exist");
	refused(WRONG_LANES_ELSEWHERE, out, 0, "has ended");
	refused(WRONG_NOT_IN_MASK, out, 0, "does not name");
	refused(WRONG_OTHER_MASK, out, 0, "__shfl_xor_sync");
	refused(WRONG_MUCH_SHARED, out, 50000, "shared memory");
	refused(WRONG_THREADS, out, 1025, "threads");
	refused(WRONG_THREADS, out, 0, "threads");
	refused(WRONG_GRID, out, 65536, "grid");
	emu_free(out);
}

static void beyond_the_end(void **state)
{
	float *out;

	(void)state;
#ifdef __SANITIZE_ADDRESS__
	skip();   /* the sanitizer ends the process at the write itself */
#endif
	emu_order(EMU_FORWARD, 1);
	out = emu_alloc(33 * sizeof *out);
	assert_int_equal(wrong_launch(WRONG_BEYOND, out, 32), 0);
	assert_int_not_equal(wrong_launch(WRONG_BEYOND, out, 33), 0);
	assert_non_null(strstr(emu_error(), "beyond a buffer of 132 bytes"));
	emu_free(out);
	emu_reset();
}

/* What shows in results: as NaNs, or as a difference between two orders. */
static void results(void **state)
{
	static const wrong_kind kinds[] = { WRONG_THREAD_RACE, WRONG_BLOCK_RACE, WRONG_ARRIVAL };
	float *out = emu_alloc(64 * sizeof *out), first[64];

	(void)state;
	emu_order(EMU_FORWARD, 1);
	assert_int_equal(wrong_launch(WRONG_UNWRITTEN, out, 0), 0);
	for (int i = 0; i < 64; i++) assert_true(i < 63 ? out[i] == 1 : isnan(out[i]));
	for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
		int differ[ORDERS] = { 0 };

		for (int o = 0; o < ORDERS; o++) {
			memset(out, 0, 64 * sizeof *out);
			emu_order(orders[o], 9);
			assert_int_equal(wrong_launch(kinds[k], out, 0), 0);
			if (!o) memcpy(first, out, sizeof first);
			differ[o] = memcmp(first, out, sizeof first) != 0;
		}
		assert_true(differ[1] && differ[2]);
	}
	emu_free(out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(places), cmocka_unit_test(sums), cmocka_unit_test(warps), cmocka_unit_test(product),
		cmocka_unit_test(misuse), cmocka_unit_test(beyond_the_end), cmocka_unit_test(results)
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
