/* Conversations: where they are cut. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "common/base/rng.h"
#include "data/talk.h"

#define S { 3, KF_SYSTEM }
#define U { 5, KF_USER }
#define A { 7, KF_ASSISTANT }

static void by_hand(void **state)
{
	static const kf_turn t[] = { S, U, A, U, A, U, U, A, U };

	(void)state;
	assert_int_equal(kf_talk_cut(t, 9, 0, 100), 9);
	assert_int_equal(kf_talk_cut(t, 9, 0, 15), 3);   /* one exchange fits, with the system message */
	assert_int_equal(kf_talk_cut(t, 9, 0, 14), 3);   /* one is taken, whatever its size */
	assert_int_equal(kf_talk_cut(t, 9, 0, 27), 5);
	assert_int_equal(kf_talk_cut(t, 9, 0, 48), 5);   /* the user's last words are no exchange of their own */
	assert_int_equal(kf_talk_cut(t, 9, 0, 49), 9);
	assert_int_equal(kf_talk_cut(t, 9, 3, 12), 2);
	assert_int_equal(kf_talk_cut(t, 9, 5, 1), 4);
}

/* Pieces make up the whole, have a reply each, and are within the limit or a single exchange. */
static void any(void **state)
{
	kf_rng r;

	(void)state;
	kf_rng_seed(&r, 3);
	for (int round = 0; round < 2000; round++) {
		kf_turn t[20];
		uint32_t n = 1 + (uint32_t)kf_rng_below(&r, 20), first = 0;
		size_t limit = 16 + (size_t)kf_rng_below(&r, 60);

		for (uint32_t i = 0; i < n; i++) t[i] = (kf_turn){ 1 + (uint32_t)kf_rng_below(&r, 12), (uint8_t)kf_rng_below(&r, 3) };
		t[kf_rng_below(&r, n)].role = KF_ASSISTANT;
		while (first < n) {
			uint32_t k = kf_talk_cut(t, n, first, limit), exchanges = 0, replies = 0;
			size_t bytes = 0;

			assert_true(k > 0 && first + k <= n);
			for (uint32_t i = first; i < first + k; i++) {
				bytes += t[i].bytes;
				replies += t[i].role == KF_ASSISTANT;
				if (i > first && t[i].role == KF_USER && t[i - 1].role == KF_ASSISTANT)
					for (uint32_t j = i; j < first + k; j++)
						if (t[j].role == KF_ASSISTANT) {
							exchanges++;
							break;
						}
			}
			assert_true(replies > 0);
			assert_true(bytes <= limit || exchanges == 0);
			if (first + k < n) assert_true(t[first + k].role == KF_USER && t[first + k - 1].role == KF_ASSISTANT);
			first += k;
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(by_hand), cmocka_unit_test(any) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
