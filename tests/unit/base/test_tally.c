/* Sums by domain. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "common/base/tally.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

typedef struct { double docs, ce; } row;

static void test_rows_add(void **state)
{
	kf_tally a = KF_TALLY(row), b = KF_TALLY(row);
	row all = { 0 }, *r;
	kf_err err;
	char name[100];

	(void)state;
	for (int i = 0; i < 20; i++) {
		snprintf(name, sizeof name, "domain %d", i);
		assert_non_null(r = kf_tally_row(i % 2 ? &a : &b, name));
		assert_true(r->docs == 0 && r->ce == 0);
		*r = (row){ 1, i };
	}
	assert_non_null(r = kf_tally_row(&b, "domain 1"));
	*r = (row){ 10, 100 };
	assert_int_equal(kf_tally_add(&a, &b, &err), KF_OK);
	assert_int_equal(a.n, 20);
	r = kf_tally_row(&a, "domain 1");
	assert_true(r->docs == 11 && r->ce == 101);
	kf_tally_total(&a, &all);
	assert_true(all.docs == 30 && all.ce == 190 + 100);
	kf_tally_release(&a);
	kf_tally_release(&b);
	assert_int_equal(a.width, 2);
}

static void test_long_names_share_a_row(void **state)
{
	kf_tally t = KF_TALLY(row);
	char name[200];
	row *r;

	(void)state;
	memset(name, 'x', sizeof name);
	name[100] = 0;
	assert_non_null(r = kf_tally_row(&t, name));
	r->docs = 1;
	name[99] = 0;
	assert_non_null(r = kf_tally_row(&t, name));
	assert_true(r->docs == 1);
	assert_int_equal(strlen(t.name[0]), 63);
	kf_tally_release(&t);
}

/* What nothing was counted of is no number. */
static void test_means(void **state)
{
	json_t *o = json_pack("{s:o, s:o, s:o}", "two", kf_tally_mean(5, 2.5), "none", kf_tally_mean(0, 0), "bad", kf_tally_mean(NAN, 1));
	char cell[32];

	(void)state;
	assert_true(json_real_value(json_object_get(o, "two")) == 2);
	assert_true(json_is_null(json_object_get(o, "none")) && json_is_null(json_object_get(o, "bad")));
	assert_string_equal(kf_tally_cell(cell, o, "two", 100, 8, 1), "   200.0");
	assert_string_equal(kf_tally_cell(cell, o, "none", 100, 8, 1), "       -");
	assert_string_equal(kf_tally_cell(cell, o, "absent", 100, 3, 1), "  -");
	json_decref(o);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_rows_add), cmocka_unit_test(test_long_names_share_a_row),
		cmocka_unit_test(test_means) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
