/* Processes that wait for each other: who gives up says so, whatever its rank. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <string.h>

#include "common/base/ranks.h"

static void test_gives_up(void **state)
{
	kf_ranks r = { .rank = 2, .size = 4 };
	double asked = -1;
	kf_err err;
	(void)state;

	assert_int_equal(kf_ranks_watch(&r, 3599, &asked, &err), KF_OK);
	assert_false(r.lost || r.speaks);
	assert_int_equal(kf_ranks_watch(&r, 3601, &asked, &err), KF_EIO);
	assert_non_null(strstr(err.text, "have not been heard of for 60 minutes"));
	assert_true(r.lost && r.speaks);
}

static void test_asked_to_end(void **state)
{
	kf_ranks r = { .rank = 1, .size = 2 };
	double asked = 20;
	kf_err err;
	(void)state;

	assert_int_equal(kf_ranks_watch(&r, 119, &asked, &err), KF_OK);
	assert_false(r.lost || r.speaks);
	assert_int_equal(kf_ranks_watch(&r, 121, &asked, &err), KF_EIO);
	assert_non_null(strstr(err.text, "asked to end, but other processes did not come"));
	assert_true(r.lost && r.speaks);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_gives_up),
		cmocka_unit_test(test_asked_to_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
