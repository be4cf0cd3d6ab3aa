/* common/base/opt: one table from which parsing, checks and the record come. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "common/base/opt.h"

static struct {
	const char *out, *in;
	long k;
	double rate;
	bool flag;
	int method, later;
	const char *part;
	kf_list list;
} o;

static const kf_opt table[] = {
	{ "out", KF_OPT_STRING, &o.out, "DIR", "output", 0, 0, KF_OPT_REQUIRED },
	{ "output-style", KF_OPT_STRING, &o.in, "S", "style", 0, 0, KF_OPT_SHAPES },
	{ "top-k", KF_OPT_INT, &o.k, "K", "kept", 1, 100, KF_OPT_SHAPES },
	{ "rate", KF_OPT_REAL, &o.rate, "R", "rate", 0, 1, KF_OPT_SHAPES | KF_OPT_POSITIVE },
	{ "flag", KF_OPT_FLAG, &o.flag, NULL, "flag", 0, 0, KF_OPT_SHAPES },
	{ "method", KF_OPT_CHOICE, &o.method, "byte|dtw", "method", 0, 0, KF_OPT_SHAPES },
	{ "later", KF_OPT_CHOICE, &o.later, "as-before|anew", "younger", 0, 0, KF_OPT_SHAPES | KF_OPT_OFF },
	{ "part", KF_OPT_STRING, &o.part, "I/N", "younger", 0, 0, KF_OPT_SHAPES | KF_OPT_OFF },
	{ "aligned", KF_OPT_LIST, &o.list, "DIR", "list", 0, 0, 0 },
	{ 0 }
};
static const kf_program program = { "kf-x", "does x", "--out DIR", NULL, table, false, false };

static kf_status parse(const char *line, kf_err *err)
{
	static char copy[512];
	char *argv[32] = { (char *)"kf-x" };
	int argc = 1;

	memset(&o, 0, sizeof o);
	o.k = 10;
	strcpy(copy, line);
	for (char *w = strtok(copy, " "); w; w = strtok(NULL, " ")) argv[argc++] = w;
	return kf_opt_parse(&program, argc, argv, NULL, err);
}

static void values_arrive(void **state)
{
	kf_err err;
	json_t *record;
	char *text;

	(void)state;
	assert_int_equal(parse("--out a --top-k=7 --rate 0.5 --fl --method dtw --aligned x --aligned=y", &err), KF_OK);
	assert_string_equal(o.out, "a");
	assert_int_equal(o.k, 7);
	assert_true(o.rate == 0.5);
	assert_true(o.flag);
	assert_int_equal(o.method, 1);
	assert_int_equal(o.list.n, 2);
	assert_string_equal(o.list.item[1], "y");
	record = kf_opt_record(&program);
	text = json_dumps(record, JSON_SORT_KEYS | JSON_COMPACT);
	assert_string_equal(text, "{\"flag\":true,\"method\":\"dtw\",\"output-style\":null,\"rate\":0.5,\"top-k\":7}");
	free(text);
	json_decref(record);
	/* what is off is not recorded: the record is that of times before there was the option */
	assert_int_equal(parse("--out a --top-k=7 --rate 0.5 --fl --method dtw --later anew --part 0/2", &err), KF_OK);
	record = kf_opt_record(&program);
	text = json_dumps(record, JSON_SORT_KEYS | JSON_COMPACT);
	assert_string_equal(text, "{\"flag\":true,\"later\":\"anew\",\"method\":\"dtw\",\"output-style\":null,\"part\":\"0/2\",\"rate\":0.5,"
		"\"top-k\":7}");
	free(text);
	json_decref(record);
}

static void mistakes_are_named(void **state)
{
	static const struct { const char *line, *want; } bad[] = {
		{ "--top-k 7", "--out DIR is missing; try kf-x --help" },
		{ "--out a --top-k 0", "--top-k 0: must be from 1 to 100" },
		{ "--out a --top-k 1x", "--top-k 1x: not a whole number" },
		{ "--out a --top-k 99999999999999999999", "--top-k 99999999999999999999: not a whole number" },
		{ "--out a --rate 0", "--rate 0: must be more than 0" },
		{ "--out a --rate nan", "--rate nan: not a number" },
		{ "--out a --method x", "--method x: must be one of byte|dtw" },
		{ "--out a --method byt", "--method byt: must be one of byte|dtw" },
		{ "--out a --nope", "unknown option --nope; try kf-x --help" },
		{ "--ou a", "--ou could be several options; try kf-x --help" },
		{ "--out", "--out needs a value: DIR" },
		{ "--out a --out b", "--out is given twice" },
		{ "--out a --flag=1", "--flag takes no value" },
		{ "--out a word", "unexpected argument word; try kf-x --help" },
		{ "--out a -x", "unknown option -x; try kf-x --help" },
		{ "--out=", "--out: empty value" },
	};
	kf_err err;

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		assert_int_equal(parse(bad[i].line, &err), KF_EINVAL);
		assert_string_equal(err.text, bad[i].want);
	}
}

static void shards_parse(void **state)
{
	kf_err err;
	int i, n;

	(void)state;
	assert_int_equal(kf_parse_part("shard", NULL, &i, &n, &err), KF_OK);
	assert_true(i == 0 && n == 1);
	assert_int_equal(kf_parse_part("shard", "2/5", &i, &n, &err), KF_OK);
	assert_true(i == 2 && n == 5);
	assert_int_equal(kf_parse_part("shard", "5/5", &i, &n, &err), KF_EUSAGE);
	assert_int_equal(kf_parse_part("shard", "1/2x", &i, &n, &err), KF_EUSAGE);
	assert_int_equal(kf_parse_part("shard", "-1/2", &i, &n, &err), KF_EUSAGE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(values_arrive), cmocka_unit_test(mistakes_are_named), cmocka_unit_test(shards_parse),
	};

	return cmocka_run_group_tests_name("opt", tests, NULL, NULL);
}
