/* What tests/emu/race.cc finds, and what it lets pass. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

#include "tests/emu/emu.h"
#include "tests/unit/emu/wrong.h"

static void found(wrong_kind kind, void *out, int n, const char *says)
{
	for (int o = 0; o < 3; o++) {
		emu_order((emu_turns)o, 8);
		assert_int_not_equal(wrong_launch(kind, out, n), 0);
		if (!emu_error() || strncmp(emu_error(), "race: ", 6) != 0 || !strstr(emu_error(), says)) fail_msg("%s", emu_error());
		emu_reset();
	}
}

static void races(void **state)
{
	float *out = emu_alloc(64 * sizeof *out);

	(void)state;
	found(WRONG_THREAD_RACE, out, 0, "shared memory");
	found(WRONG_WARP_RACE, out, 0, "shared memory");
	found(WRONG_BLOCK_RACE, out, 0, "global memory");
	emu_free(out);
}

static void none(void **state)
{
	float *out = emu_alloc(256 * sizeof *out), *in = emu_alloc(256 * sizeof *in);
	int *places = emu_alloc(288 * sizeof *places);

	(void)state;
	memset(in, 0, 256 * sizeof *in);
	memset(out, 0, 256 * sizeof *out);
	for (int o = 0; o < 3; o++) {
		emu_order((emu_turns)o, 9);
		assert_int_equal(wrong_launch(WRONG_WARP_RACE, out, 1), 0);
		assert_int_equal(wrong_launch(WRONG_ARRIVAL, out, 0), 0);   /* atomics: the order decides the result, but nothing is torn */
		assert_int_equal(wrong_places(places), 0);
		assert_int_equal(wrong_block_sums(out, in), 0);
		assert_int_equal(wrong_halves((unsigned *)(void *)places), 0);
	}
	emu_free(out);
	emu_free(in);
	emu_free(places);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(races), cmocka_unit_test(none) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
