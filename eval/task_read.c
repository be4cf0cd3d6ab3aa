/* Files of tasks: which form they have, and our own. */
#include "eval/task_impl.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "common/base/file.h"
#include "common/text/utf8.h"
#include "eval/print.h"

#define FILE_MAX ((size_t)1 << 30)

static const char *const kind_name[] = { "choice", "match", "code", "last-word" };

const char *kf_task_kind_name(kf_task_kind k) { return kind_name[k]; }

kf_status kf_task_bad(kf_task_place p, kf_err *err, const char *fmt, ...)
{
	char text[700];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	if (!p.at) return kf_fail(err, KF_EDATA, "%s: %s", p.file, text);
	return kf_fail(err, KF_EDATA, "%s, %s %d: %s", p.file, p.unit, p.at, text);
}

/* ---- what is kept ---- */

void kf_tasks_init(kf_tasks *t)
{
	memset(t, 0, sizeof *t);
	kf_arena_init(&t->arena);
}

void kf_tasks_release(kf_tasks *t)
{
	for (int i = 0; i < t->n; i++) free(t->task[i].item);
	free(t->task);
	kf_arena_release(&t->arena);
	memset(t, 0, sizeof *t);
}

static kf_status no_memory(kf_err *err) { return kf_fail(err, KF_ENOMEM, "out of memory for tasks"); }

char *kf_tasks_copy(kf_tasks *t, const char *text, kf_err *err)
{
	char *copy = kf_arena_strdup(&t->arena, text, strlen(text));

	if (!copy) no_memory(err);
	return copy;
}

/* HumanEval's: the next function, class, comment or statement ends one. */
static const char *code_stops[] = { "\nclass", "\ndef", "\n#", "\nif", "\nprint" };
static const char *match_stops[] = { "\n\n" };

kf_status kf_tasks_add(kf_tasks *t, const char *name, kf_task_place p, kf_task_kind kind, kf_eval_task **out, kf_err *err)
{
	kf_eval_task *task;

	if (!kf_print_utf8(name)) return kf_fail(err, KF_EINVAL, "%s: the task's name, which is the file's, is not UTF-8; rename it", p.file);
	if (kf_has_control(name)) return kf_task_bad(p, err, "the task's name has a control character in it; tables of results want one that is a word or some");
	for (int i = 0; i < t->n; i++)
		if (strcmp(t->task[i].name, name) == 0)
			return kf_task_bad(p, err, "there is a task called \"%s\" already (%s)", name, t->task[i].file);
	if (t->n == t->cap) {
		int cap = t->cap ? 2 * t->cap : 8;

		if (!(task = realloc(t->task, (size_t)cap * sizeof *task))) return no_memory(err);
		t->task = task;
		t->cap = cap;
	}
	task = &t->task[t->n];
	*task = (kf_eval_task){ .kind = kind, .unit = p.unit, .line = p.at, .prefix = "", .separator = "\n\n", .delimiter = kind == KF_TASK_CODE ? "" : " ",
		.max_tokens = kind == KF_TASK_CODE ? 512 : 256 };
	if (kind == KF_TASK_CODE) {
		task->stop = code_stops;
		task->n_stop = sizeof code_stops / sizeof *code_stops;
	} else if (kind == KF_TASK_MATCH) {
		task->stop = match_stops;
		task->n_stop = 1;
	}
	if (!(task->name = kf_tasks_copy(t, name, err)) || !(task->file = kf_tasks_copy(t, p.file, err))) return KF_ENOMEM;
	t->n++;
	*out = task;
	return KF_OK;
}

kf_status kf_task_add_item(kf_tasks *t, kf_eval_task *task, const kf_task_item *item, kf_err *err)
{
	(void)t;
	if (task->n == task->cap) {
		int cap = task->cap ? 2 * task->cap : 64;
		kf_task_item *more = cap < task->cap ? NULL : realloc(task->item, (size_t)cap * sizeof *more);

		if (!more) return no_memory(err);
		task->item = more;
		task->cap = cap;
	}
	task->item[task->n++] = *item;
	return KF_OK;
}

/* ---- values ---- */

kf_status kf_task_string(kf_tasks *t, const json_t *o, const char *key, bool must, kf_task_place p, const char **out, kf_err *err)
{
	const json_t *v = json_object_get(o, key);

	if (!v && !must) {
		*out = NULL;
		return KF_OK;
	}
	if (!v) return kf_task_bad(p, err, "\"%s\" is missing", key);
	if (!json_is_string(v)) return kf_task_bad(p, err, "\"%s\" is not a string", key);
	return (*out = kf_tasks_copy(t, json_string_value(v), err)) ? KF_OK : KF_ENOMEM;
}

enum { NUMBER = 352 };         /* bytes of the longest number: the smallest ones have 323 zeros before their digits */

/* A finite number with the fewest digits that read back the same, and without an exponent, which would be taken for a number by itself. */
static void plain_real(double x, char out[NUMBER])
{
	char text[32], digit[32];
	int n = 0, precision = 0, before;

	do snprintf(text, sizeof text, "%.*e", precision, x);
	while (strtod(text, NULL) != x && precision++ < 16);
	before = atoi(strchr(text, 'e') + 1) + 1;      /* digits before the point */
	for (const char *c = text; *c != 'e'; c++)
		if (*c >= '0' && *c <= '9') digit[n++] = *c;
	if (*text == '-') *out++ = '-';
	if (before <= 0) {
		*out++ = '0';
		*out++ = '.';
	}
	for (int i = before; i < 0; i++) *out++ = '0';
	for (int i = 0; i < n || i < before; i++) {
		if (i > 0 && i == before) *out++ = '.';
		*out++ = i < n ? digit[i] : '0';
	}
	*out = 0;
}

/* The text of a string or a number; NULL of anything else. */
static const char *text_of(const json_t *v, char number[NUMBER])
{
	if (json_is_string(v)) return json_string_value(v);
	if (json_is_integer(v)) snprintf(number, NUMBER, "%lld", (long long)json_integer_value(v));
	else if (json_is_real(v)) plain_real(json_real_value(v), number);
	else return NULL;
	return number;
}

kf_status kf_task_strings(kf_tasks *t, const json_t *value, const char *key, kf_task_place p, const char ***out, int *n, kf_err *err)
{
	size_t count = json_is_array(value) ? json_array_size(value) : 1;

	if (!value) return kf_task_bad(p, err, "\"%s\" is missing", key);
	if (count > 100000) return kf_task_bad(p, err, "\"%s\" has %zu entries", key, count);
	if (!(*out = KF_ARENA_NEW(&t->arena, const char *, count))) return no_memory(err);
	for (size_t i = 0; i < count; i++) {
		char number[NUMBER];
		const char *text = text_of(json_is_array(value) ? json_array_get(value, i) : value, number);

		if (!text) return kf_task_bad(p, err, "\"%s\" is not a string, a number or a list of them", key);
		if (!((*out)[i] = kf_tasks_copy(t, text, err))) return KF_ENOMEM;
	}
	*n = (int)count;
	return KF_OK;
}

/* ---- our own form: the line that begins a task ---- */

static kf_status choose(const json_t *o, const char *key, const char *const *name, int n, kf_task_place p, int *out, kf_err *err)
{
	const char *text = json_string_value(json_object_get(o, key));
	char all[128] = "";

	for (int i = 0; text && i < n; i++)
		if (strcmp(text, name[i]) == 0) {
			*out = i;
			return KF_OK;
		}
	for (int i = 0; i < n; i++) snprintf(all + strlen(all), sizeof all - strlen(all), "%s\"%s\"", i ? ", " : "", name[i]);
	return kf_task_bad(p, err, "\"%s\" must be one of %s", key, all);
}

static kf_status read_header(kf_tasks *t, const json_t *o, kf_task_place p, kf_eval_task **out, kf_err *err)
{
	static const char *const known[] = { "task", "kind", "prefix", "delimiter", "separator", "stop", "max_tokens", "normalize",
		"licence", "source", "comment" };
	static const char *const how[] = { "space", "text", "number" }, *const generates[] = { "stop", "max_tokens" };
	const char *name, *key, *text;
	const json_t *v;
	kf_eval_task *task;
	kf_status rc;
	int kind = 0;

	if ((rc = kf_task_string(t, o, "task", true, p, &name, err)) != KF_OK ||
	    (rc = choose(o, "kind", kind_name, KF_TASK_KINDS, p, &kind, err)) != KF_OK)
		return rc;
	/* A word that is not understood would change what is measured without a sign. */
	for (void *i = json_object_iter((json_t *)o); i; i = json_object_iter_next((json_t *)o, i)) {
		size_t k = 0;

		key = json_object_iter_key(i);
		while (k < sizeof known / sizeof *known && strcmp(known[k], key) != 0) k++;
		if (k == sizeof known / sizeof *known) return kf_task_bad(p, err, "a task has no option \"%s\"", key);
	}
	if (!*name) return kf_task_bad(p, err, "\"task\" is empty: it is the task's name");
	if (kind != KF_TASK_MATCH && json_object_get(o, "normalize")) return kf_task_bad(p, err, "\"normalize\" is for kind \"match\" only");
	for (size_t i = 0; i < 2 && kind != KF_TASK_MATCH && kind != KF_TASK_CODE; i++)
		if (json_object_get(o, generates[i]))
			return kf_task_bad(p, err, "\"%s\" is for kinds \"match\" and \"code\", where text is generated", generates[i]);
	if ((rc = kf_tasks_add(t, name, p, (kf_task_kind)kind, &task, err)) != KF_OK) return rc;
	if ((rc = kf_task_string(t, o, "prefix", false, p, &text, err)) != KF_OK) return rc;
	if (text) task->prefix = text;
	if ((rc = kf_task_string(t, o, "delimiter", false, p, &text, err)) != KF_OK) return rc;
	if (text) task->delimiter = text;
	if ((rc = kf_task_string(t, o, "separator", false, p, &text, err)) != KF_OK) return rc;
	if (text) task->separator = text;
	if ((v = json_object_get(o, "stop"))) {
		if ((rc = kf_task_strings(t, v, "stop", p, &task->stop, &task->n_stop, err)) != KF_OK) return rc;
		for (int i = 0; i < task->n_stop; i++)
			if (!*task->stop[i]) return kf_task_bad(p, err, "a stop string is empty");
	}
	if ((v = json_object_get(o, "max_tokens"))) {
		if (!json_is_integer(v) || json_integer_value(v) < 1 || json_integer_value(v) > 1000000)
			return kf_task_bad(p, err, "\"max_tokens\" must be a number from 1 to 1000000");
		task->max_tokens = (int)json_integer_value(v);
	}
	if (json_object_get(o, "normalize")) {
		int n = 0;

		if ((rc = choose(o, "normalize", how, 3, p, &n, err)) != KF_OK) return rc;
		task->normalize = (kf_normalize)n;
	}
	*out = task;
	return KF_OK;
}

/* ---- our own form: items ---- */

static bool blank(const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!kf_is_space(p[i])) return false;
	return true;
}

bool kf_task_blank(const char *text) { return blank(text, strlen(text)); }

static kf_status read_choice(kf_tasks *t, const json_t *o, kf_task_place p, kf_task_item *item, kf_err *err)
{
	const json_t *answer = json_object_get(o, "answer"), *choices = json_object_get(o, "choices");
	kf_status rc;

	if (!json_is_array(choices)) return kf_task_bad(p, err, "\"choices\" must be a list of strings");
	/* Strings only: between numbers an answer could be one of them or its place. */
	for (size_t i = 0; i < json_array_size(choices); i++)
		if (!json_is_string(json_array_get(choices, i))) return kf_task_bad(p, err, "choice %zu is not a string", i);
	if ((rc = kf_task_strings(t, choices, "choices", p, &item->option, &item->n_options, err)) != KF_OK) return rc;
	if (item->n_options < 2) return kf_task_bad(p, err, "there are fewer than two choices");
	for (int i = 0; i < item->n_options; i++)
		if (kf_task_blank(item->option[i])) return kf_task_bad(p, err, "choice %d is empty", i);
	item->best = -1;
	if (json_is_integer(answer) && json_integer_value(answer) >= 0 && json_integer_value(answer) < item->n_options)
		item->best = (int)json_integer_value(answer);
	for (int i = 0; json_is_string(answer) && i < item->n_options && item->best < 0; i++)
		if (strcmp(json_string_value(answer), item->option[i]) == 0) item->best = i;
	if (!answer) return kf_task_bad(p, err, "\"answer\" is missing");
	if (item->best < 0 && json_is_string(answer))
		return kf_task_bad(p, err, "the answer \"%.80s\" is not among the choices", json_string_value(answer));
	if (item->best < 0)
		return kf_task_bad(p, err, "\"answer\" must be one of the choices, or its number from 0 to %d", item->n_options - 1);
	for (int i = 0; i < item->n_options; i++)
		if (i != item->best && strcmp(item->option[i], item->option[item->best]) == 0)
			return kf_task_bad(p, err, "choices %d and %d are equal, and one of them is the answer", i < item->best ? i : item->best,
				i < item->best ? item->best : i);
	if (!(item->score = KF_ARENA_NEW(&t->arena, double, (size_t)item->n_options))) return no_memory(err);
	for (int i = 0; i < item->n_options; i++) item->score[i] = i == item->best;
	return KF_OK;
}

/* A text without its last word; the word goes to item->option. */
static kf_status read_word(kf_tasks *t, const json_t *o, kf_task_place p, kf_task_item *item, kf_err *err)
{
	const char *word, *text;
	char *copy;
	size_t end, begin;
	kf_status rc;

	if (!(item->option = KF_ARENA_NEW(&t->arena, const char *, 1))) return no_memory(err);
	item->n_options = 1;
	if (!json_object_get(o, "text")) {
		if ((rc = kf_task_string(t, o, "prompt", true, p, &item->prompt, err)) != KF_OK ||
		    (rc = kf_task_string(t, o, "word", true, p, &word, err)) != KF_OK)
			return rc;
		if (kf_task_blank(word)) return kf_task_bad(p, err, "the word is empty");
		item->option[0] = word;
		return KF_OK;
	}
	if ((rc = kf_task_string(t, o, "text", true, p, &text, err)) != KF_OK) return rc;
	for (end = strlen(text); end > 0 && kf_is_space(text[end - 1]);) end--;
	for (begin = end; begin > 0 && !kf_is_space(text[begin - 1]);) begin--;
	item->option[0] = kf_arena_strdup(&t->arena, text + begin, end - begin);
	while (begin > 0 && kf_is_space(text[begin - 1])) begin--;
	if (!begin) return kf_task_bad(p, err, "\"text\" has no word before its last");
	copy = kf_arena_strdup(&t->arena, text, begin);
	if (!copy || !item->option[0]) return no_memory(err);
	item->prompt = copy;
	return KF_OK;
}

kf_status kf_task_check_answers(kf_normalize normalize, const kf_task_item *item, kf_task_place p, kf_err *err)
{
	bool any = false;
	kf_status rc = KF_OK;

	for (int i = 0; i < item->n_options && rc == KF_OK; i++) {
		kf_buf plain = { 0 };
		const bool number = kf_task_normalize(normalize, item->option[i], strlen(item->option[i]), &plain);

		any = any || number;
		rc = kf_buf_check(&plain, err);
		if (rc == KF_OK && number && !plain.len)
			rc = kf_task_bad(p, err, "nothing is left of the answer \"%.80s\" under \"normalize\": \"%s\", so an empty reply would be right", item->option[i],
				normalize == KF_NORMALIZE_TEXT ? "text" : "space");
		kf_buf_release(&plain);
	}
	if (rc == KF_OK && !any)
		rc = kf_task_bad(p, err, "there is no number in the answer \"%.80s\", so nothing could match it under \"normalize\": \"number\"",
			item->option[0]);
	return rc;
}

static kf_status read_match(kf_tasks *t, const kf_eval_task *task, const json_t *o, kf_task_place p, kf_task_item *item, kf_err *err)
{
	kf_status rc = kf_task_strings(t, json_object_get(o, "answer"), "answer", p, &item->option, &item->n_options, err);

	if (rc != KF_OK) return rc;
	if (!item->n_options) return kf_task_bad(p, err, "\"answer\" is an empty list");
	return kf_task_check_answers(task->normalize, item, p, err);
}

static kf_status read_item(kf_tasks *t, kf_eval_task *task, const json_t *o, kf_task_place p, kf_err *err)
{
	kf_task_item item = { .line = p.at };
	const json_t *id = json_object_get(o, "id");
	char number[NUMBER];
	const char *text;
	kf_status rc;

	if (task->kind == KF_TASK_CODE) return kf_task_read_humaneval(t, task, o, p, err);
	if (!(text = id ? text_of(id, number) : "")) return kf_task_bad(p, err, "\"id\" is not a string or a number");
	if (!(item.id = kf_tasks_copy(t, text, err))) return KF_ENOMEM;
	if ((rc = kf_task_string(t, o, "solution", false, p, &item.solution, err)) != KF_OK ||
	    (task->kind != KF_TASK_WORD && (rc = kf_task_string(t, o, "prompt", true, p, &item.prompt, err)) != KF_OK))
		return rc;
	if (task->kind == KF_TASK_CHOICE) rc = read_choice(t, o, p, &item, err);
	else if (task->kind == KF_TASK_WORD) rc = read_word(t, o, p, &item, err);
	else rc = read_match(t, task, o, p, &item, err);
	return rc == KF_OK ? kf_task_add_item(t, task, &item, err) : rc;
}

/* ---- files ---- */

/* The whole file, unpacked where it is gzipped. */
static kf_status read_file(const char *path, kf_buf *out, kf_err *err)
{
	gzFile f;
	int n = 0, code;

	if (kf_is_dir(path)) return kf_fail(err, KF_EINVAL, "%s is a folder, not a file of tasks", path);
	if (!(f = gzopen(path, "rb"))) return kf_fail_errno(err, "cannot open %s", path);
	do {
		if (out->len > FILE_MAX) {
			gzclose(f);
			return kf_fail(err, KF_EDATA, "%s holds more than %zu MB", path, FILE_MAX >> 20);
		}
		if (!kf_buf_reserve(out, 1 << 16)) break;
		if ((n = gzread(f, out->data + out->len, (1 << 16) - 1)) > 0) out->len += (size_t)n;
	} while (n > 0);
	if (!out->failed && n < 0) {
		const char *why = gzerror(f, &code);

		kf_fail(err, code == Z_ERRNO ? KF_EIO : KF_EDATA, "cannot read %s: %s", path, code == Z_ERRNO ? "input/output error" : why);
		gzclose(f);
		return code == Z_ERRNO ? KF_EIO : KF_EDATA;
	}
	/* a gzipped file that is cut short ends without an error, but does not close well */
	if ((code = gzclose(f)) != Z_OK && !out->failed)
		return kf_fail(err, KF_EDATA, "%s is damaged: its gzip stream ends too early", path);
	/* a byte order mark, as Windows' editors put it */
	if (out->len >= 3 && memcmp(out->data, "\xef\xbb\xbf", 3) == 0) memmove(out->data, out->data + 3, out->len -= 3);
	if (kf_buf_reserve(out, 1)) out->data[out->len] = 0;
	return kf_buf_check(out, err);
}

/* "dir/HumanEval.jsonl.gz" is called "HumanEval". */
static void name_of(const char *path, char name[256])
{
	static const char *const ends[] = { ".gz", ".jsonl", ".ndjson", ".json" };
	const char *slash = strrchr(path, '/');

	snprintf(name, 256, "%s", slash ? slash + 1 : path);
	for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
		size_t n = strlen(name), m = strlen(ends[i]);

		if (n > m && strcmp(name + n - m, ends[i]) == 0) name[n - m] = 0;
	}
}

/* Whether a line means to be HumanEval's: what it lacks of that is named then. */
static bool is_humaneval(const json_t *o)
{
	return json_object_get(o, "prompt") && (json_object_get(o, "test") || json_object_get(o, "entry_point"));
}

static kf_status no_tasks(kf_task_place p, kf_err *err)
{
	return kf_task_bad(p, err, "this is no file of tasks: it should begin with {\"task\": NAME, \"kind\": \"choice\", ...} in one line and have an item "
		"a line, or be of HumanEval's form (prompt, entry_point, test) or BIG-bench's (one object with \"examples\")");
}

/* One line. *task: the one that items go to, by its number, as tasks move; -1: none yet. */
static kf_status read_line(kf_tasks *t, const json_t *o, const char *name, kf_task_place p, int *task, kf_err *err)
{
	kf_eval_task *made = NULL;
	kf_status rc;

	if (json_object_get(o, "task") && json_object_get(o, "kind")) {
		rc = read_header(t, o, p, &made, err);
		*task = t->n - 1;
		return rc;
	}
	if (*task < 0 && is_humaneval(o)) {
		if ((rc = kf_tasks_add(t, name, p, KF_TASK_CODE, &made, err)) != KF_OK) return rc;
		*task = t->n - 1;
	}
	return *task < 0 ? no_tasks(p, err) : read_item(t, &t->task[*task], o, p, err);
}

/* The next line from *p on that is not blank, at (n bytes), and its number: *line is how many were before *p. False: there is none. */
static bool next_line(const char **p, const char *end, const char **at, size_t *n, int *line)
{
	while (*p < end) {
		const char *stop = memchr(*p, '\n', (size_t)(end - *p));

		*at = *p;
		*n = (size_t)((stop ? stop : end) - *p);
		*p += *n + 1;
		++*line;
		if (!blank(*at, *n)) return true;
	}
	return false;
}

/* Whether the next line is an object by itself, as in JSON Lines. */
static bool line_follows(const char *p, const char *end)
{
	const char *at;
	int line = 0;
	size_t n;
	json_t *o;
	bool is;

	if (!next_line(&p, end, &at, &n, &line)) return false;
	o = json_loadb(at, n, 0, NULL);
	is = json_is_object(o);
	json_decref(o);
	return is;
}

/* whole: why the file is not one JSON text, for one whose first line is not one either, nor the next; NULL where it is one, of no form that is known. */
static kf_status read_lines(kf_tasks *t, const char *path, const char *name, const kf_buf *text, const json_error_t *whole, kf_err *err)
{
	const char *p = (const char *)text->data, *end = p + text->len, *begin;
	int task = -1, task_lines = 0, line = 0;
	size_t n;

	while (next_line(&p, end, &begin, &n, &line)) {
		kf_task_place at = { path, "line", line };
		json_error_t why;
		json_t *o;
		kf_status rc;

		if (!(o = json_loadb(begin, n, JSON_REJECT_DUPLICATES, &why))) {
			if (!task_lines && !whole) return no_tasks(at, err);
			if (task_lines || line_follows(p, end)) return kf_task_bad(at, err, "not JSON: %s", why.text);
			at.at = whole->line;
			return kf_task_bad(at, err, "not JSON: %s", whole->text);
		}
		task_lines++;
		rc = json_is_object(o) ? read_line(t, o, name, at, &task, err) : kf_task_bad(at, err, "not a JSON object");
		json_decref(o);
		if (rc != KF_OK) return rc;
	}
	return KF_OK;
}

kf_status kf_tasks_read(const char *path, kf_tasks *t, kf_err *err)
{
	int first = t->n;
	kf_buf text = { 0 };
	char name[256];
	json_error_t whole;
	json_t *root = NULL;
	kf_status rc;

	name_of(path, name);
	if ((rc = read_file(path, &text, err)) != KF_OK) goto out;
	root = json_loadb((const char *)text.data, text.len, JSON_REJECT_DUPLICATES, &whole);
	if (root && json_object_get(root, "examples")) rc = kf_task_read_bigbench(t, root, path, name, err);
	else rc = read_lines(t, path, name, &text, root ? NULL : &whole, err);
	if (rc != KF_OK) goto out;
	if (t->n == first) rc = kf_fail(err, KF_EDATA, "%s holds no task", path);
	for (int i = first; i < t->n && rc == KF_OK; i++)
		if (!t->task[i].n) rc = kf_task_bad((kf_task_place){ path, "line", t->task[i].line }, err, "the task \"%s\" has no items", t->task[i].name);
out:
	json_decref(root);
	kf_buf_release(&text);
	return rc;
}
