/* Other people's forms of tasks: BIG-bench's JSON and HumanEval's lines. */
#include "eval/task_impl.h"

#include <math.h>
#include <string.h>

/* ---- HumanEval ---- */

static bool is_name(const char *s)
{
	if (!*s || (*s >= '0' && *s <= '9')) return false;
	for (; *s; s++)
		if (!(*s == '_' || (*s >= '0' && *s <= '9') || (*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z'))) return false;
	return true;
}

static bool is_keyword(const char *s)
{
	static const char *const word[] = { "False", "None", "True", "and", "as", "assert", "async", "await", "break", "class", "continue", "def", "del", "elif", "else",
		"except", "finally", "for", "from", "global", "if", "import", "in", "is", "lambda", "nonlocal", "not", "or", "pass", "raise", "return", "try",
		"while", "with", "yield" };

	for (size_t i = 0; i < sizeof word / sizeof *word; i++)
		if (strcmp(word[i], s) == 0) return true;
	return false;
}

kf_status kf_task_read_humaneval(kf_tasks *t, kf_eval_task *task, const json_t *o, kf_task_place p, kf_err *err)
{
	kf_task_item item = { .line = p.at };
	kf_status rc;

	if ((rc = kf_task_string(t, o, "prompt", true, p, &item.prompt, err)) != KF_OK ||
	    (rc = kf_task_string(t, o, "entry_point", true, p, &item.entry, err)) != KF_OK ||
	    (rc = kf_task_string(t, o, "test", true, p, &item.test, err)) != KF_OK ||
	    (rc = kf_task_string(t, o, "canonical_solution", false, p, &item.solution, err)) != KF_OK ||
	    (rc = kf_task_string(t, o, "task_id", false, p, &item.id, err)) != KF_OK)
		return rc;
	if (!is_name(item.entry) || is_keyword(item.entry)) return kf_task_bad(p, err, "\"entry_point\" is not the name of a function: \"%.80s\"", item.entry);
	if (!strstr(item.test, "check")) return kf_task_bad(p, err, "\"test\" has no function check(candidate), which is what is called: no program could pass");
	if (!item.id) item.id = "";
	return kf_task_add_item(t, task, &item, err);
}

/* ---- BIG-bench: the fields of its JSON tasks, with the defaults that its documentation gives ---- */

typedef struct { const char *task, *input, *output, *choice; bool append; } affixes;

static kf_status get_affix(kf_tasks *t, const json_t *root, const char *key, const char *otherwise, kf_task_place p, const char **out,
	kf_err *err)
{
	kf_status rc = kf_task_string(t, root, key, false, p, out, err);

	if (!*out) *out = otherwise;
	return rc;
}

static kf_status read_scores(kf_tasks *t, const json_t *scores, kf_task_place p, kf_task_item *item, kf_err *err)
{
	size_t n = json_object_size(scores), k = 0;

	if (!json_is_object(scores) || n < 2) return kf_task_bad(p, err, "\"target_scores\" must be an object of two choices or more");
	item->option = KF_ARENA_NEW(&t->arena, const char *, n);
	item->score = KF_ARENA_NEW(&t->arena, double, n);
	if (!item->option || !item->score) return kf_fail(err, KF_ENOMEM, "out of memory for tasks");
	for (void *i = json_object_iter((json_t *)scores); i; i = json_object_iter_next((json_t *)scores, i), k++) {
		const json_t *v = json_object_iter_value(i);
		const char *name = json_object_iter_key(i);

		if (kf_task_blank(name)) return kf_task_bad(p, err, "a choice is empty");
		if (!json_is_number(v) || !isfinite(json_number_value(v)))
			return kf_task_bad(p, err, "the score of \"%.80s\" is not a number", name);
		if (!(item->option[k] = kf_tasks_copy(t, name, err))) return KF_ENOMEM;
		item->score[k] = json_number_value(v);
		if (item->score[k] > item->score[item->best]) item->best = (int)k;
	}
	item->n_options = (int)n;
	if (item->score[item->best] <= 0) return kf_task_bad(p, err, "no choice has a score above 0: the answer is not among the choices");
	return KF_OK;
}

/* A target beside scores names right choices; they have to be among them, and worth something. */
static kf_status check_target(const json_t *target, const kf_task_item *item, kf_task_place p, kf_err *err)
{
	const size_t n = json_is_array(target) ? json_array_size(target) : target ? 1 : 0;

	for (size_t k = 0; k < n; k++) {
		const char *text = json_string_value(json_is_array(target) ? json_array_get(target, k) : target);
		int i = 0;

		if (!text) return kf_task_bad(p, err, "\"target\" is not a string or a list of them");
		while (i < item->n_options && strcmp(text, item->option[i]) != 0) i++;
		if (i == item->n_options) return kf_task_bad(p, err, "the target \"%.80s\" is not among the choices", text);
		if (item->score[i] <= 0) return kf_task_bad(p, err, "the target \"%.80s\" has no score above 0 in \"target_scores\"", text);
	}
	return KF_OK;
}

static kf_status read_example(kf_tasks *t, kf_eval_task *task, const affixes *a, const json_t *o, kf_task_place p, kf_err *err)
{
	const json_t *scores = json_object_get(o, "target_scores"), *target = json_object_get(o, "target");
	kf_task_item item = { .line = p.at, .id = "" };
	kf_buf prompt = { 0 };
	const char *input;
	kf_status rc;

	if (!json_is_object(o)) return kf_task_bad(p, err, "not a JSON object");
	if ((rc = kf_task_string(t, o, "input", true, p, &input, err)) != KF_OK) return rc;
	if (task->kind == KF_TASK_CHOICE) {
		if (!scores) return kf_task_bad(p, err, "\"target_scores\" is missing, which other examples have");
		if ((rc = read_scores(t, scores, p, &item, err)) != KF_OK || (rc = check_target(target, &item, p, err)) != KF_OK) return rc;
	} else {
		if (scores) return kf_task_bad(p, err, "\"target_scores\" is there, which other examples do not have");
		if ((rc = kf_task_strings(t, target, "target", p, &item.option, &item.n_options, err)) != KF_OK) return rc;
		if (!item.n_options) return kf_task_bad(p, err, "\"target\" is an empty list");
		if ((rc = kf_task_check_answers(task->normalize, &item, p, err)) != KF_OK) return rc;
	}
	kf_buf_put(&prompt, a->input, strlen(a->input));
	kf_buf_put(&prompt, input, strlen(input));
	for (int i = 0; a->append && item.score && i < item.n_options; i++) {
		kf_buf_put(&prompt, a->choice, strlen(a->choice));
		kf_buf_put(&prompt, item.option[i], strlen(item.option[i]));
	}
	kf_buf_put(&prompt, a->output, strlen(a->output));
	kf_buf_u8(&prompt, 0);
	if ((rc = kf_buf_check(&prompt, err)) == KF_OK && !(item.prompt = kf_tasks_copy(t, (const char *)prompt.data, err))) rc = KF_ENOMEM;
	kf_buf_release(&prompt);
	return rc == KF_OK ? kf_task_add_item(t, task, &item, err) : rc;
}

kf_status kf_task_read_bigbench(kf_tasks *t, const json_t *root, const char *file, const char *name, kf_err *err)
{
	static const char *line_end[] = { "\n" };
	const json_t *examples = json_object_get(root, "examples"), *append = json_object_get(root, "append_choices_to_input");
	kf_task_place p = { file, "example", 0 };
	const char *own, *stop;
	kf_eval_task *task;
	affixes a;
	kf_status rc;

	if (!json_is_array(examples)) return kf_fail(err, KF_EDATA, "%s: \"examples\" is not a list", file);
	if (append && !json_is_boolean(append)) return kf_fail(err, KF_EDATA, "%s: \"append_choices_to_input\" is neither true nor false", file);
	a.append = !append || json_is_true(append);
	if ((rc = kf_task_string(t, root, "name", false, p, &own, err)) != KF_OK || (rc = kf_task_string(t, root, "stop_string", false, p, &stop, err)) != KF_OK ||
	    (rc = kf_tasks_add(t, own && *own ? own : name, p,
		json_object_get(json_array_get(examples, 0), "target_scores") ? KF_TASK_CHOICE : KF_TASK_MATCH, &task, err)) != KF_OK)
		return rc;
	task->delimiter = "";
	if ((rc = get_affix(t, root, "task_prefix", "", p, &a.task, err)) != KF_OK ||
	    (rc = get_affix(t, root, "example_input_prefix", "\nQ: ", p, &a.input, err)) != KF_OK ||
	    (rc = get_affix(t, root, "example_output_prefix", "\nA: ", p, &a.output, err)) != KF_OK ||
	    (rc = get_affix(t, root, "choice_prefix", "\n  choice: ", p, &a.choice, err)) != KF_OK ||
	    (rc = get_affix(t, root, "few_shot_example_separator", "\n", p, &task->separator, err)) != KF_OK)
		return rc;
	task->prefix = a.task;
	task->stop = line_end;
	task->n_stop = 1;
	if (stop && *stop) {
		if (!(task->stop = KF_ARENA_NEW(&t->arena, const char *, 1))) return kf_fail(err, KF_ENOMEM, "out of memory for tasks");
		task->stop[0] = stop;
	}
	for (size_t i = 0; i < json_array_size(examples); i++) {
		p.at = (int)i + 1;
		if ((rc = read_example(t, task, &a, json_array_get(examples, i), p, err)) != KF_OK) return rc;
	}
	return KF_OK;
}
