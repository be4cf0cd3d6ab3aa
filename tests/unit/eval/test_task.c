/* Task files of every form, good and bad; normalising; programs; pass@k. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include "eval/tasks.h"

static char dir[64];

static int set_up(void **state)
{
	(void)state;
	snprintf(dir, sizeof dir, "/tmp/kfuse-test.XXXXXX");
	return mkdtemp(dir) ? 0 : -1;
}

static const char *write_text(const char *name, const char *text)
{
	static char path[128];
	FILE *f;

	snprintf(path, sizeof path, "%s/%s", dir, name);
	if (!(f = fopen(path, "w")) || fputs(text, f) < 0 || fclose(f) != 0) fail_msg("cannot write %s", path);
	return path;
}

static kf_status read_text(const char *name, const char *text, kf_tasks *t, kf_err *err)
{
	const char *path = write_text(name, text);
	kf_status rc;

	kf_tasks_init(t);
	rc = kf_tasks_read(path, t, err);
	unlink(path);
	return rc;
}

#define READ(file, words) do { if (read_text(file, words, &t, &err) != KF_OK) fail_msg("%s", err.text); } while (0)

static void own_form(void **state)
{
	kf_tasks t;
	kf_err err;

	(void)state;
	READ("a.jsonl", "{\"task\": \"one\", \"kind\": \"choice\", \"prefix\": \"P\\n\", \"delimiter\": \"\", \"separator\": \"\\n--\\n\", \"licence\": \"MIT\"}\n"
		"{\"id\": \"x\", \"prompt\": \"Q1\", \"choices\": [\"a\", \"b\"], \"answer\": 1}\n"
		"\n"
		"{\"prompt\": \"Q2\", \"choices\": [\"c\", \"d\", \"e\"], \"answer\": \"e\", \"more\": 1}\n"
		"{\"task\": \"two\", \"kind\": \"match\", \"stop\": [\"\\n\", \";\"], \"max_tokens\": 5, \"normalize\": \"number\"}\n"
		"{\"prompt\": \"1+1=\", \"answer\": 2}\n"
		"{\"prompt\": \"2+2=\", \"answer\": [\"4\", \"four\"], \"solution\": \"it is 4\"}\n"
		"{\"task\": \"three\", \"kind\": \"last-word\"}\n"
		"{\"text\": \"the cat sat on the mat.\\n\"}\n"
		"{\"prompt\": \"so far\", \"word\": \"away\"}\n"
		"{\"task\": \"four\", \"kind\": \"code\", \"stop\": \"\\ndef\"}\n"
		"{\"prompt\": \"def f():\\n\", \"entry_point\": \"f\", \"test\": \"def check(f): pass\", \"task_id\": \"t/1\"}");
	assert_int_equal(t.n, 4);
	const kf_eval_task *one = &t.task[0], *two = &t.task[1], *three = &t.task[2], *four = &t.task[3];

	assert_string_equal(one->name, "one");
	assert_int_equal(one->kind, KF_TASK_CHOICE);
	assert_int_equal(one->n, 2);
	assert_string_equal(one->item[0].id, "x");
	assert_int_equal(one->item[0].best, 1);
	assert_int_equal(one->item[1].best, 2);
	assert_int_equal(one->item[1].line, 4);
	assert_true(one->item[1].score[2] == 1 && one->item[1].score[0] == 0);
	assert_int_equal(two->kind, KF_TASK_MATCH);
	assert_int_equal(two->n_stop, 2);
	assert_int_equal(two->max_tokens, 5);
	assert_int_equal(two->normalize, KF_NORMALIZE_NUMBER);
	assert_string_equal(two->item[0].option[0], "2");
	assert_int_equal(two->item[1].n_options, 2);
	assert_string_equal(three->item[0].prompt, "the cat sat on the");
	assert_string_equal(three->item[0].option[0], "mat.");
	assert_string_equal(three->item[1].option[0], "away");
	assert_int_equal(four->n_stop, 1);
	assert_string_equal(four->item[0].entry, "f");

	kf_buf prompt = { 0 };
	kf_task_prompt(one, 1, 1, &prompt);
	assert_int_equal(prompt.len, strlen("P\nQ1b\n--\nQ2"));
	assert_memory_equal(prompt.data, "P\nQ1b\n--\nQ2", prompt.len);
	kf_buf_clear(&prompt);
	kf_task_prompt(two, 0, 2, &prompt);
	assert_int_equal(prompt.len, strlen("1+1= 2\n\n2+2= it is 4\n\n1+1="));
	assert_memory_equal(prompt.data, "1+1= 2\n\n2+2= it is 4\n\n1+1=", prompt.len);
	kf_buf_release(&prompt);
	kf_tasks_release(&t);
}

static void humaneval_form(void **state)
{
	static const char text[] = "{\"task_id\": \"HumanEval/0\", \"prompt\": \"def f(x):\\n\", \"entry_point\": \"f\", \"canonical_solution\": "
		"\"    return x\\n\", \"test\": \"def check(c):\\n    assert c(1) == 1\\n\"}\n";
	kf_tasks t;
	kf_err err;
	char path[128];
	gzFile gz;

	(void)state;
	READ("HumanEval.jsonl", text);
	assert_int_equal(t.n, 1);
	assert_string_equal(t.task[0].name, "HumanEval");
	assert_int_equal(t.task[0].kind, KF_TASK_CODE);
	assert_int_equal(t.task[0].max_tokens, 512);
	assert_true(t.task[0].n_stop >= 4);
	kf_buf program = { 0 };
	const char *want = "def f(x):\n    return x\ndef check(c):\n    assert c(1) == 1\n\ncheck(f)\n";
	kf_task_program(&t.task[0].item[0], "    return x", 12, false, &program);
	kf_buf_u8(&program, 0);
	assert_string_equal((char *)program.data, want);
	/* a reply with the whole function in a fence, or the rest of it without one */
	const char *reply = "Sure:\n```python\ndef f(x):\n    return x\n```\nThat is it.";
	kf_buf_clear(&program);
	kf_task_program(&t.task[0].item[0], reply, strlen(reply), true, &program);
	kf_buf_u8(&program, 0);
	assert_string_equal((char *)program.data, "def f(x):\n\ndef f(x):\n    return x\n\ndef check(c):\n    assert c(1) == 1\n\ncheck(f)\n");
	kf_buf_clear(&program);
	kf_task_program(&t.task[0].item[0], "    return x", 12, true, &program);
	kf_buf_u8(&program, 0);
	assert_string_equal((char *)program.data, want);
	kf_buf_release(&program);
	kf_tasks_release(&t);

	/* gzipped, and gzipped but cut short */
	snprintf(path, sizeof path, "%s/HumanEval.jsonl.gz", dir);
	gz = gzopen(path, "wb");
	assert_int_equal(gzwrite(gz, text, (unsigned)strlen(text)), strlen(text));
	assert_int_equal(gzclose(gz), Z_OK);
	kf_tasks_init(&t);
	assert_int_equal(kf_tasks_read(path, &t, &err), KF_OK);
	assert_string_equal(t.task[0].name, "HumanEval");
	kf_tasks_release(&t);
	assert_int_equal(truncate(path, 60), 0);
	kf_tasks_init(&t);
	assert_int_equal(kf_tasks_read(path, &t, &err), KF_EDATA);
	kf_tasks_release(&t);
	unlink(path);
}

static void bigbench_form(void **state)
{
	kf_tasks t;
	kf_err err;

	(void)state;
	READ("task.json", "{\n \"name\": \"bb\", \"task_prefix\": \"T:\", \"examples\": [\n"
		"{\"input\": \"one?\", \"target_scores\": {\"yes\": 0.2, \"no\": 0.7, \"well\": 0}},\n"
		"{\"input\": \"two?\", \"target\": \"yes\", \"target_scores\": {\"yes\": 1, \"no\": 0}}]}");
	assert_int_equal(t.n, 1);
	assert_string_equal(t.task[0].name, "bb");
	assert_int_equal(t.task[0].kind, KF_TASK_CHOICE);
	assert_string_equal(t.task[0].item[0].prompt, "\nQ: one?\n  choice: yes\n  choice: no\n  choice: well\nA: ");
	assert_int_equal(t.task[0].item[0].best, 1);
	assert_true(t.task[0].item[0].score[0] == 0.2);
	assert_string_equal(t.task[0].delimiter, "");
	assert_string_equal(t.task[0].prefix, "T:");
	kf_tasks_release(&t);
	READ("count.json", "{\"example_input_prefix\": \"List: \", \"example_output_prefix\": \"\\nSorted: \", \"stop_string\": \";\", "
		"\"examples\": [{\"input\": \"b a\", \"target\": [\"a b\", \"a, b\"]}]}");
	assert_string_equal(t.task[0].name, "count");
	assert_int_equal(t.task[0].kind, KF_TASK_MATCH);
	assert_string_equal(t.task[0].item[0].prompt, "List: b a\nSorted: ");
	assert_string_equal(t.task[0].stop[0], ";");
	assert_int_equal(t.task[0].item[0].n_options, 2);
	kf_tasks_release(&t);
	READ("plain.json", "{\"append_choices_to_input\": false, \"examples\": [{\"input\": \"q\", \"target_scores\": {\"a\": 1, \"b\": 0}}]}");
	assert_string_equal(t.task[0].item[0].prompt, "\nQ: q\nA: ");
	kf_tasks_release(&t);
}

/* What is wrong is named with the file, the line, and what is wrong about it. */
static void bad_files(void **state)
{
#define HEAD "{\"task\": \"t\", \"kind\": \"choice\"}\n"
#define GOOD "{\"prompt\": \"q\", \"choices\": [\"a\", \"b\"], \"answer\": 0}\n"
	static const struct { const char *text, *where, *what; } bad[] = {
		{ HEAD GOOD "{\"prompt\": \"q\", ", "line 3", "not JSON" },
		{ HEAD GOOD "[1]\n", "line 3", "object" },
		{ HEAD "{\"prompt\": \"q\", \"choices\": [\"a\", \"b\"], \"answer\": \"c\"}", "line 2", "\"c\" is not among the choices" },
		{ HEAD "{\"prompt\": \"q\", \"choices\": [\"a\", \"b\"], \"answer\": 2}", "line 2", "from 0 to 1" },
		{ HEAD "{\"prompt\": \"q\", \"choices\": [\"a\", \"b\"], \"answer\": -1}", "line 2", "from 0 to 1" },
		{ HEAD "{\"prompt\": \"q\", \"choices\": [\"a\", \"b\"], \"answer\": 0.5}", "line 2", "from 0 to 1" },
		{ HEAD "{\"prompt\": \"q\", \"choices\": [\"a\", \"b\"]}", "line 2", "\"answer\" is missing" },
		{ HEAD "{\"prompt\": \"q\", \"choices\": [\"a\"], \"answer\": 0}", "line 2", "two choices" },
		{ HEAD "{\"prompt\": \"q\", \"choices\": \"ab\", \"answer\": 0}", "line 2", "\"choices\"" },
		{ HEAD "{\"prompt\": \"q\", \"choices\": [\"a\", 1.5], \"answer\": 0}", "line 2", "choice 1 is not a string" },
		{ HEAD "{\"prompt\": \"q\", \"choices\": [\"a\", \"\"], \"answer\": 0}", "line 2", "choice 1 is empty" },
		{ HEAD "{\"choices\": [\"a\", \"b\"], \"answer\": 0}", "line 2", "\"prompt\" is missing" },
		{ HEAD "{\"prompt\": 3, \"choices\": [\"a\", \"b\"], \"answer\": 0}", "line 2", "\"prompt\" is not a string" },
		{ HEAD "{\"prompt\": \"q\", \"prompt\": \"r\", \"choices\": [\"a\", \"b\"], \"answer\": 0}", "line 2", "not JSON" },
		{ HEAD GOOD HEAD GOOD, "line 3", "called \"t\" already" },
		{ HEAD, "line 1", "no items" },
		{ HEAD GOOD "{\"task\": \"u\", \"kind\": \"choice\"}\n", "line 3", "\"u\" has no items" },
		/* a first line that is cut short is that line's mistake, whatever the file would be as one text */
		{ "{\"task\": \"t\", \"kind\": \"choice\"\n" GOOD, "line 1", "not JSON" },
		{ "\n{\"task\": \"t\", \"kind\": \"choice\",}\n\n" GOOD, "line 2", "not JSON" },
		{ "{\"task\": \"\", \"kind\": \"choice\"}\n", "line 1", "\"task\" is empty" },
		{ "{\"task\": \"t\", \"kind\": \"choice\", \"normalize\": \"number\"}\n", "line 1", "\"normalize\" is for kind \"match\"" },
		{ "{\"task\": \"t\", \"kind\": \"last-word\", \"stop\": \"x\"}\n", "line 1", "\"stop\" is for kinds" },
		{ "{\"task\": \"t\", \"kind\": \"choice\", \"max_tokens\": 3}\n", "line 1", "\"max_tokens\" is for kinds" },
		{ HEAD "{\"prompt\": \"q\", \"choices\": [\"a\", \"b\", \"a\"], \"answer\": 2}", "line 2", "choices 0 and 2 are equal" },
		{ HEAD "{\"prompt\": \"q\", \"choices\": [\"a\", \" \\n\"], \"answer\": 0}", "line 2", "choice 1 is empty" },
		{ "{\"task\": \"t\", \"kind\": \"match\", \"normalize\": \"text\"}\n{\"prompt\": \"q\", \"answer\": \"<\"}", "line 2", "nothing is left of the answer \"<\"" },
		{ "{\"name\": \"b\", \"examples\": [{\"input\": \"x\", \"target\": [\"y\", \" \"]}]}", "example 1", "nothing is left of the answer \" \"" },
		{ "{\"task\": \"t\", \"kind\": \"match\"}\n{\"prompt\": \"q\", \"answer\": [\"a\", \"  \"]}", "line 2", "an empty reply would be right" },
		{ "{\"prompt\": \"a\", \"entry_point\": \"f\"}\n", "line 1", "\"test\" is missing" },
		{ "{\"prompt\": \"a\", \"test\": \"def check(f): pass\"}\n", "line 1", "\"entry_point\" is missing" },
		{ "{\"prompt\": \"a\", \"entry_point\": \"f\", \"test\": \"x = 1\"}\n", "line 1", "no function check" },
		{ "{\"prompt\": \"a\", \"entry_point\": \"class\", \"test\": \"def check(f): pass\"}\n", "line 1", "name of a function: \"class\"" },
		{ HEAD "{\"prompt\": \"q\", \"choices\": [1, 2, 3], \"answer\": 2}", "line 2", "choice 0 is not a string" },
		{ "{\"task\": \"t\", \"kind\": \"match\", \"normalize\": \"number\"}\n{\"prompt\": \"q\", \"answer\": [\"three\", \"\"]}", "line 2",
			"there is no number in the answer \"three\"" },
		{ "{\"task\": \"t\", \"kind\": \"match\"}\n{\"prompt\": \"q\", \"answer\": true}", "line 2", "is not a string, a number or" },
		{ "{\"task\": \"t\", \"kind\": \"quiz\"}\n", "line 1", "\"kind\" must be one of \"choice\"" },
		{ "{\"task\": \"t\", \"kind\": \"match\", \"stops\": []}\n", "line 1", "no option \"stops\"" },
		{ "{\"task\": \"t\", \"kind\": \"match\", \"stop\": [\"\"]}\n", "line 1", "stop string is empty" },
		{ "{\"task\": \"t\", \"kind\": \"match\", \"max_tokens\": 0}\n", "line 1", "max_tokens" },
		{ "{\"task\": \"t\", \"kind\": \"match\", \"normalize\": \"words\"}\n", "line 1", "normalize" },
		{ "{\"task\": \"t\", \"kind\": \"match\"}\n{\"prompt\": \"q\"}", "line 2", "\"answer\" is missing" },
		{ "{\"task\": \"t\", \"kind\": \"match\"}\n{\"prompt\": \"q\", \"answer\": []}", "line 2", "empty list" },
		{ "{\"task\": \"t\", \"kind\": \"last-word\"}\n{\"text\": \"word\"}", "line 2", "no word before" },
		{ "{\"task\": \"t\", \"kind\": \"last-word\"}\n{\"prompt\": \"a\", \"word\": \"\"}", "line 2", "word is empty" },
		{ "{\"task\": \"t\", \"kind\": \"code\"}\n{\"prompt\": \"a\", \"entry_point\": \"f\"}", "line 2", "\"test\" is missing" },
		{ "{\"task\": \"t\", \"kind\": \"code\"}\n{\"prompt\": \"a\", \"entry_point\": \"f();g\", \"test\": \"\"}", "line 2", "name of a function" },
		{ "{\"text\": \"just some text\"}\n", "line 1", "no file of tasks" },
		{ "", "", "holds no task" },
		{ "{\"examples\": [{\"input\": \"q\", \"target_scores\": {\"a\": 1, \"b\": 0}}, {\"input\": \"q\", \"target_scores\": {\"a\": 0, \"b\": 0}}]}",
			"example 2", "not among the choices" },
		{ "{\"examples\": [{\"input\": \"q\", \"target\": \"c\", \"target_scores\": {\"a\": 1, \"b\": 0}}]}", "example 1", "\"c\" is not among the choices" },
		{ "{\"examples\": [{\"input\": \"q\", \"target_scores\": {\"a\": 1, \"b\": \"x\"}}]}", "example 1", "not a number" },
		{ "{\"examples\": [{\"input\": \"q\", \"target\": \"c\"}, {\"input\": \"q\", \"target_scores\": {\"a\": 1, \"b\": 0}}]}", "example 2", "target_scores" },
		{ "{\"examples\": []}", "", "no items" },
		{ "{\"examples\": [{\"input\": \"q\", \"target\": [\"a\", \"c\"], \"target_scores\": {\"a\": 1, \"b\": 0}}]}", "example 1", "\"c\" is not among the choices" },
		{ "{\"examples\": [{\"input\": \"q\", \"target\": \"b\", \"target_scores\": {\"a\": 1, \"b\": 0}}]}", "example 1", "\"b\" has no score above 0" },
		{ "{\"examples\": [{\"input\": \"q\", \"target\": 7, \"target_scores\": {\"a\": 1, \"b\": 0}}]}", "example 1", "\"target\" is not a string" },
		{ "{\"examples\": [{\"input\": \"q\", \"target_scores\": {\"x\": 1, \"y\": 0, \"x\": 0}}]}", "line 1", "duplicate" },
		{ "{\"examples\": [{\"input\": \"q\", \"target\": \"a\"}], \"stop_string\": 3}", "bad.jsonl: \"stop_string\" is not a string", "" },
		{ "{\"examples\": [{\"input\": \"q\", \"target\": \"a\"}], \"task_prefix\": 3}", "bad.jsonl: \"task_prefix\" is not a string", "" },
		{ "{\n\"examples\": [\n{\"input\": \"q\" \"target\": \"c\"}]}", "line 3", "not JSON" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		kf_tasks t;
		kf_err err = { 0 };
		kf_status rc = read_text("bad.jsonl", bad[i].text, &t, &err);

		if (rc == KF_OK) fail_msg("accepted: %s", bad[i].text);
		if (!strstr(err.text, "bad.jsonl") || !strstr(err.text, bad[i].where) || !strstr(err.text, bad[i].what))
			fail_msg("%s\nsays: %s\nnot: %s: %s", bad[i].text, err.text, bad[i].where, bad[i].what);
		kf_tasks_release(&t);
	}
	kf_tasks t;
	kf_err err;

	kf_tasks_init(&t);
	assert_int_equal(kf_tasks_read("/nowhere/at/all", &t, &err), KF_ENOTFOUND);
	assert_int_equal(kf_tasks_read("/tmp", &t, &err), KF_EINVAL);
	kf_tasks_release(&t);
}

static void normalizing(void **state)
{
	static const struct { kf_normalize how; const char *in, *out; } cases[] = {
		{ KF_NORMALIZE_SPACE, " \n a  B. \t", "a  B." },
		{ KF_NORMALIZE_TEXT, "  The  Cat,\nsat. ", "the cat sat" },
		{ KF_NORMALIZE_TEXT, "it's", "its" },
		{ KF_NORMALIZE_TEXT, "\xc3\x89t\xc3\xa9!", "\xc3\xa9t\xc3\xa9" },
		{ KF_NORMALIZE_NUMBER, "so 2 + 3 = 5.", "5" },
		{ KF_NORMALIZE_NUMBER, "#### 1,234,567 dollars, or 9", "1234567" },
		{ KF_NORMALIZE_NUMBER, "#### 3\n#### 4 (not 5)", "4" },
		{ KF_NORMALIZE_NUMBER, "####", NULL },
		{ KF_NORMALIZE_NUMBER, "12 ####", "12" },
		{ KF_NORMALIZE_NUMBER, "it costs $-7.50", "-7.5" },
		{ KF_NORMALIZE_NUMBER, "-$3.00", "-3" },
		{ KF_NORMALIZE_NUMBER, "3-5", "5" },
		{ KF_NORMALIZE_NUMBER, "007", "7" },
		{ KF_NORMALIZE_NUMBER, "0", "0" },
		{ KF_NORMALIZE_NUMBER, "0.0", "0" },
		{ KF_NORMALIZE_NUMBER, "1,000.50", "1000.5" },
		{ KF_NORMALIZE_NUMBER, "it is .5", "0.5" },
		{ KF_NORMALIZE_NUMBER, "#### -.75", "-0.75" },
		{ KF_NORMALIZE_NUMBER, "-0", "0" },
		{ KF_NORMALIZE_NUMBER, "-0.00", "0" },
		{ KF_NORMALIZE_NUMBER, "-0.10", "-0.1" },
		{ KF_NORMALIZE_NUMBER, "one of 3,4", "4" },
		{ KF_NORMALIZE_NUMBER, "12,345,67", "67" },
		{ KF_NORMALIZE_NUMBER, "1.2.", "1.2" },
		{ KF_NORMALIZE_NUMBER, "none", NULL },
		{ KF_NORMALIZE_NUMBER, "", NULL },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		kf_buf b = { 0 };
		bool any = kf_task_normalize(cases[i].how, cases[i].in, strlen(cases[i].in), &b);

		kf_buf_u8(&b, 0);
		if (any != (cases[i].out != NULL) || (any && strcmp((char *)b.data, cases[i].out) != 0))
			fail_msg("\"%s\" became \"%s\", not \"%s\"", cases[i].in, any ? (char *)b.data : "nothing", cases[i].out ? cases[i].out : "nothing");
		kf_buf_release(&b);
	}
	kf_eval_task t = { .normalize = KF_NORMALIZE_NUMBER };
	kf_task_item item = { .option = (const char *[]){ "x", "18.0" }, .n_options = 2 };
	bool same;

	assert_int_equal(kf_task_matches(&t, &item, "it is 18", 8, &same, NULL), KF_OK);
	assert_true(same);
	assert_int_equal(kf_task_matches(&t, &item, "nothing", 7, &same, NULL), KF_OK);
	assert_false(same);
}

/* Numbers that are answers stand as people write them: an exponent would be the last number of its text. */
static void reals(void **state)
{
	static const struct { const char *in, *out; } cases[] = {
		{ "0.00005", "0.00005" }, { "5e-05", "0.00005" }, { "-1.25e-7", "-0.000000125" }, { "1e15", "1000000000000000" },
		{ "-1.5e16", "-15000000000000000" }, { "1e23", "100000000000000000000000" }, { "5.0", "5" }, { "0.0", "0" }, { "0.50", "0.5" },
		{ "12.75", "12.75" }, { "100.0", "100" }, { "0.1", "0.1" }, { "0.30000000000000004", "0.30000000000000004" }, { "1234567.5e3", "1234567500" },
	};
	static const double hard[] = { 5e-324, 2.2250738585072014e-308, -2.2250738585072009e-308, 1.7976931348623157e308, -9.5367431640625e-7, 9007199254740993e3 };
	char text[512];
	kf_tasks t;
	kf_err err;

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		bool same;

		snprintf(text, sizeof text, "{\"task\": \"t\", \"kind\": \"match\", \"normalize\": \"number\"}\n{\"prompt\": \"q\", \"answer\": %s}\n", cases[i].in);
		READ("real.jsonl", text);
		assert_string_equal(t.task[0].item[0].option[0], cases[i].out);
		assert_int_equal(kf_task_matches(&t.task[0], &t.task[0].item[0], cases[i].out, strlen(cases[i].out), &same, NULL), KF_OK);
		assert_true(same);
		kf_tasks_release(&t);
	}
	for (size_t i = 0; i < sizeof hard / sizeof *hard; i++) {
		snprintf(text, sizeof text, "{\"task\": \"t\", \"kind\": \"match\"}\n{\"prompt\": \"q\", \"answer\": %.17g}\n", hard[i]);
		READ("real.jsonl", text);
		assert_true(strtod(t.task[0].item[0].option[0], NULL) == hard[i]);
		assert_null(strchr(t.task[0].item[0].option[0], 'e'));
		kf_tasks_release(&t);
	}
}

/* By counting all subsets. */
static void pass_at_k(void **state)
{
	(void)state;
	for (int n = 1; n <= 8; n++)
		for (int c = 0; c <= n; c++)
			for (int k = 1; k <= n; k++) {
				int hit = 0, all = 0;

				for (int s = 0; s < 1 << n; s++) {
					if (__builtin_popcount((unsigned)s) != k) continue;
					all++;
					hit += (s & ((1 << c) - 1)) != 0;
				}
				assert_true(fabs(kf_pass_at(n, c, k) - (double)hit / all) < 1e-12);
			}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(own_form), cmocka_unit_test(humaneval_form), cmocka_unit_test(bigbench_form), cmocka_unit_test(bad_files),
		cmocka_unit_test(normalizing), cmocka_unit_test(reals), cmocka_unit_test(pass_at_k),
	};
	return cmocka_run_group_tests_name("task", tests, set_up, NULL);
}
