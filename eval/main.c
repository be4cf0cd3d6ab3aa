#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/file.h"
#include "common/base/opt.h"
#include "common/base/progress.h"
#include "common/model/way.h"
#include "common/ops/backend.h"
#include "common/text/utf8.h"
#include "eval/overlap.h"
#include "eval/print.h"
#include "eval/tasks.h"

enum { SECONDS = 10, MEGABYTES = 1024, NGRAM = 13 };   /* of a program; and words in a row, where nothing else is asked for */

static struct {
	kf_list models, logits, mixtures, compare, templates, tasks, overlap;
	const char *corpus, *report, *markdown, *outputs, *scores;
	bool per_document, plain_tasks, unsafe_code;
	int compute;
	const char *int8;
	long batch_tokens, shots, limit, samples, max_tokens, cache_mb, code_seconds, code_mb, ngram;
	double temperature, top_p;
	kf_common common;
} o = { .int8 = "all", .batch_tokens = 4096, .samples = 1, .cache_mb = 1024, .code_seconds = SECONDS, .code_mb = MEGABYTES, .ngram = NGRAM, .top_p = 1 };

static const kf_opt table[] = {
	{ "model", KF_OPT_LIST, &o.models, "[NAME=]PATH", "a model to run; beside --logits of the same name it is run on tasks only",
		0, 0, 0 },
	{ "logits", KF_OPT_LIST, &o.logits, "[NAME=]DIR", "a model's logits over the corpus, from kf-extract",
		0, 0, 0 },
	{ "mixture", KF_OPT_LIST, &o.mixtures, "[NAME=]DIR", "an ensemble: a fused set over the corpus, from kf-fuse",
		0, 0, 0 },
	{ "corpus", KF_OPT_STRING, &o.corpus, "DIR", "the text to predict (needed with --model, but for --tasks alone)", 0, 0, 0 },
	{ "tasks", KF_OPT_LIST, &o.tasks, "FILE", "questions with answers: docs/eval.md's form, HumanEval's or BIG-bench's", 0, 0, 0 },
	{ "chat-template", KF_OPT_LIST, &o.templates, "[MODEL=]NAME", "of conversations: the template of a model that is run, or of all, if not "
		"its own. On tasks: ask in a user's message, with this template (own: the model's); all models, or none", 0, 0, 0 },
	{ "plain-tasks", KF_OPT_FLAG, &o.plain_tasks, NULL, "ask tasks in plain text: --chat-template is for the conversations of --corpus alone", 0, 0, 0 },
	{ "compare", KF_OPT_LIST, &o.compare, "A,B",
		"a paired comparison of two models, A minus B; none: each against the first, logits before models and these before mixtures",
		0, 0, 0 },
	{ "report", KF_OPT_STRING, &o.report, "FILE", "write everything as JSON", 0, 0, 0 },
	{ "markdown", KF_OPT_STRING, &o.markdown, "FILE", "write the tables as Markdown", 0, 0, 0 },
	{ "per-document", KF_OPT_FLAG, &o.per_document, NULL, "put every document's values in the report",
		0, 0, 0 },
	{ "outputs", KF_OPT_STRING, &o.outputs, "FILE", "write what every model answered to every item, as JSON Lines", 0, 0, 0 },
	{ "scores", KF_OPT_STRING, &o.scores, "DIR", "keep here what every model that is run scored, and do not run it again for what is there", 0, 0, 0 },
	{ "shots", KF_OPT_INT, &o.shots, "N", "show the first N items of each task solved, before the others", 0, 1000, 0 },
	{ "limit", KF_OPT_INT, &o.limit, "N", "ask the first N items of each task only, after those of --shots; 0: all", 0, 1e9, 0 },
	{ "max-tokens", KF_OPT_INT, &o.max_tokens, "N", "generate at most N tokens an answer; 0: as the task says", 0, 1e6, 0 },
	{ "temperature", KF_OPT_REAL, &o.temperature, "X", "of generation; 0 takes the likeliest token", 0, 100, 0 },
	{ "top-p", KF_OPT_REAL, &o.top_p, "P", "sample among the likeliest tokens that make up P", 0, 1, KF_OPT_POSITIVE },
	{ "samples", KF_OPT_INT, &o.samples, "N", "programs for each item of code (pass@k)", 1, 1000, 0 },
	{ "code-seconds", KF_OPT_INT, &o.code_seconds, "N", "processor time a generated program may take, and four times that by the clock", 1, 3600, 0 },
	{ "code-mb", KF_OPT_INT, &o.code_mb, "MB", "memory it may take", 64, 65536, 0 },
	{ "unsafe-code", KF_OPT_FLAG, &o.unsafe_code, NULL, "run generated programs even where this system cannot keep them in", 0, 0, 0 },
	{ "cache-mb", KF_OPT_INT, &o.cache_mb, "MB", "of keys and values while generating", 1, 1e7, 0 },
	{ "overlap", KF_OPT_LIST, &o.overlap, "CORPUS", "training text: count the items and documents that share words with it", 0, 0, 0 },
	{ "ngram", KF_OPT_INT, &o.ngram, "N", "words in a row that count as shared", 1, 1000, 0 },
	{ "compute", KF_OPT_CHOICE, &o.compute, "auto|f32|bf16|int8", "of the matrix products; auto is f32 on the CPU, bf16 on CUDA; int8 is the CPU's", 0, 0, 0 },
	{ "int8", KF_OPT_STRING, &o.int8, "KINDS", "with --compute int8: the matrices it is for, all or some of head,qkv,out,up,down; the others "
		"are computed in bf16", 0, 0, 0 },
	{ "batch-tokens", KF_OPT_INT, &o.batch_tokens, "N", "tokens in a batch", 1, 1e7, 0 },
	KF_OPT_BACKEND(&o.common),
	KF_OPT_COMMON(&o.common),
	{ 0 }
};

static const kf_program program = {
	"kf-eval", "bits per byte and perplexity of models by domain, and their scores on tasks",
	"(--model [NAME=]PATH (--corpus DIR | --tasks FILE …) | --logits [NAME=]DIR | --mixture [NAME=]DIR) … [options]",
	"Models are compared on the same bytes: those that every one of them covers. Perplexity is per\n"
	"token of a model's own tokenizer, so only comparable between models that share one.\n"
	"Programs that models write for tasks run in a sandbox; docs/eval.md says of what kind.",
	table, false, false
};

/* "NAME=PATH", or "PATH", whose name is its last part. name is newly allocated. */
static kf_status parse_model(const char *text, kf_eval_kind kind, kf_eval_model *out, char **name, kf_err *err)
{
	const char *eq = strchr(text, '='), *slash = strchr(text, '/'), *called = text;
	char last[KF_NAME_MAX];
	size_t n;

	*out = (kf_eval_model){ .kind = kind, .path = text };
	if (eq && eq > text && (!slash || eq < slash)) {
		n = (size_t)(eq - text);
		out->path = eq + 1;
		if (!*out->path) return kf_fail(err, KF_EUSAGE, "%s: a path is missing after the name", text);
	} else {
		kf_path_name(text, last);
		called = last;
		n = strlen(last);
	}
	if (!(*name = kf_alloc(n + 1, 1))) return kf_fail(err, KF_ENOMEM, "out of memory");
	memcpy(*name, called, n);
	(*name)[n] = 0;
	out->name = *name;
	if (kf_has_control(*name)) return kf_fail(err, KF_EUSAGE, "%s: the model's name has a control character in it; give it another, NAME=PATH", text);
	/* names and paths stand in JSON */
	if (kf_print_utf8(*name)) return KF_OK;
	return kf_fail(err, KF_EUSAGE, "%s: the model's name is not UTF-8; give it another, NAME=PATH", text);
}

static int find_model(const kf_eval_opts *e, const char *name, size_t n)
{
	for (int m = 0; m < e->n_models; m++)
		if (strlen(e->model[m].name) == n && memcmp(e->model[m].name, name, n) == 0) return m;
	return -1;
}

static void add_pair(kf_eval_opts *e, int a, int b)
{
	e->compare[e->n_compare][0] = a;
	e->compare[e->n_compare++][1] = b;
}

static kf_status parse_compare(kf_eval_opts *e, kf_err *err)
{
	int asked = 0;

	for (int i = 0; i < o.compare.n; i++) {
		const char *text = o.compare.item[i], *comma = strchr(text, ',');
		int a = comma ? find_model(e, text, (size_t)(comma - text)) : -1;
		int b = comma ? find_model(e, comma + 1, strlen(comma + 1)) : -1;

		if (!comma) return kf_fail(err, KF_EUSAGE, "--compare %s: must be two names of models, A,B", text);
		if (a < 0 || b < 0)
			return kf_fail(err, KF_EUSAGE, "--compare %s: there is no model called \"%.*s\"", text,
				a < 0 ? (int)(comma - text) : (int)strlen(comma + 1), a < 0 ? text : comma + 1);
		add_pair(e, a, b);
	}
	if (o.compare.n) return KF_OK;
	for (int m = 1; m < e->n_models; m++) add_pair(e, m, 0);
	/* where the first answers no tasks, the others are to be compared on these all the same */
	while (o.tasks.n && asked < e->n_models && !e->model[asked].run) asked++;
	for (int m = asked + 1; asked > 0 && m < e->n_models; m++)
		if (e->model[m].run) add_pair(e, m, asked);
	return KF_OK;
}

/* Answers to a message and to plain text are not compared: all models are asked their tasks in the one way. */
static kf_status check_asked(const kf_eval_opts *e, kf_err *err)
{
	const char *in_chat = NULL, *plain = NULL;

	for (int m = 0; m < e->n_models; m++) {
		if (!e->model[m].run) continue;
		if (e->model[m].chat_template) in_chat = e->model[m].name;
		else if (!plain) plain = e->model[m].name;
	}
	if (!in_chat || !plain) return KF_OK;
	return kf_fail(err, KF_EUSAGE, "--chat-template: \"%s\" would be asked its tasks in a user's message, \"%s\" in plain text, and these do not compare: give "
		"--chat-template %s=own (its own, or a name), too, or --plain-tasks, which asks all in plain text", in_chat, plain, plain);
}

static kf_status parse_templates(kf_eval_opts *e, kf_err *err)
{
	/* those for all first: what is said of one model is said of it wherever it stands */
	for (int i = 0; i < o.templates.n; i++)
		for (int m = 0; m < e->n_models && !strchr(o.templates.item[i], '='); m++) e->model[m].chat_template = o.templates.item[i];
	for (int i = 0; i < o.templates.n; i++) {
		const char *text = o.templates.item[i], *eq = strchr(text, '=');
		const int m = eq ? find_model(e, text, (size_t)(eq - text)) : -1;

		if (eq && m < 0) return kf_fail(err, KF_EUSAGE, "--chat-template %s: there is no model of that name", text);
		if (eq) e->model[m].chat_template = eq + 1;
	}
	return o.tasks.n && !o.plain_tasks ? check_asked(e, err) : KF_OK;
}

/* What came of a run; NULL: not asked for. */
typedef struct {
	const kf_eval_opts *e;
	const kf_eval_result *text;
	const kf_tasks_result *tasks;
	const kf_overlap *overlap;
} results;

static kf_status write_json(const results *r, const char *path, kf_err *err)
{
	json_t *json = r->text ? kf_eval_json(r->text) : kf_eval_json_head(r->e);
	kf_buf text = { 0 };
	char *dump;
	kf_status rc;

	if (json && r->tasks) json_object_set_new(json, "tasks", kf_tasks_json(r->tasks));
	if (json && r->overlap) json_object_set_new(json, "overlap", kf_overlap_json(r->overlap));
	dump = json ? json_dumps(json, JSON_INDENT(2) | JSON_REAL_PRECISION(10)) : NULL;
	rc = dump ? KF_OK : kf_fail(err, KF_ENOMEM, "out of memory for the report");
	if (rc == KF_OK) {
		kf_buf_put(&text, dump, strlen(dump));
		kf_buf_u8(&text, '\n');
		if ((rc = kf_buf_check(&text, err)) == KF_OK) rc = kf_file_write_atomic(path, text.data, text.len, err);
	}
	free(dump);
	json_decref(json);
	kf_buf_release(&text);
	return rc;
}

/* One of the forms for people: those of text, tasks and overlap, with a blank line between. */
static void write_parts(const results *r, kf_buf *out, void (*text)(const kf_eval_result *, kf_buf *),
	void (*tasks)(const kf_tasks_result *, kf_buf *), void (*overlap)(const kf_overlap *, kf_buf *))
{
	if (r->text) text(r->text, out);
	if (r->text && r->tasks) kf_buf_u8(out, '\n');
	if (r->tasks) tasks(r->tasks, out);
	if (r->overlap && (r->text || r->tasks)) kf_buf_u8(out, '\n');
	if (r->overlap) overlap(r->overlap, out);
}

/* On standard output, or, where this is one of the files asked for, on standard error. */
static kf_status print_table(const results *r, kf_err *err)
{
	const char *const files[] = { o.report, o.markdown, o.outputs };
	kf_buf text = { 0 };
	FILE *to = stdout;
	kf_status rc;

	for (size_t i = 0; i < sizeof files / sizeof *files; i++)
		if (files[i] && kf_file_is_stdout(files[i])) to = stderr;
	write_parts(r, &text, kf_eval_table, kf_tasks_table, kf_overlap_table);
	if ((rc = kf_buf_check(&text, err)) == KF_OK) fwrite(text.data, 1, text.len, to);
	kf_buf_release(&text);
	return rc;
}

/* The table first, which needs nothing but a terminal. */
static kf_status write_reports(const results *r, kf_err *err)
{
	kf_buf text = { 0 };
	kf_status rc = o.common.quiet ? KF_OK : print_table(r, err);

	if (rc == KF_OK && o.report) rc = write_json(r, o.report, err);
	if (rc == KF_OK && o.markdown) {
		write_parts(r, &text, kf_eval_markdown, kf_tasks_markdown, kf_overlap_markdown);
		if ((rc = kf_buf_check(&text, err)) == KF_OK)
			rc = kf_file_write_atomic(o.markdown, text.data, text.len, err);
	}
	kf_buf_release(&text);
	return rc;
}

/* The models that are given, logits first, mixtures last: the comparison begins at one of their tokens. */
static kf_status collect_models(kf_eval_opts *e, char **name, kf_err *err)
{
	const struct { const kf_list *list; kf_eval_kind kind; } given[] = {
		{ &o.logits, KF_EVAL_LOGITS }, { &o.models, KF_EVAL_RUN }, { &o.mixtures, KF_EVAL_MIXTURE } };
	int n = 0;
	kf_status rc;

	if (o.logits.n + o.models.n + o.mixtures.n > KF_EVAL_MODELS) return kf_fail(err, KF_EUSAGE, "more than %d models", KF_EVAL_MODELS);
	for (size_t k = 0; k < sizeof given / sizeof *given; k++)
		for (int i = 0; i < given[k].list->n; i++) {
			kf_eval_model m;
			int same;

			if ((rc = parse_model(given[k].list->item[i], given[k].kind, &m, &name[n++], err)) != KF_OK) return rc;
			if (m.kind == KF_EVAL_RUN) m.run = m.path;
			same = find_model(e, m.name, strlen(m.name));
			/* its text is read from logits, its tasks are run */
			if (same >= 0 && o.tasks.n && m.run && !e->model[same].run && e->model[same].kind == KF_EVAL_LOGITS) {
				e->model[same].run = m.run;
				continue;
			}
			if (same >= 0) return kf_fail(err, KF_EUSAGE, "two models are called \"%s\": name them, NAME=PATH", m.name);
			e->model[e->n_models++] = m;
		}
	return KF_OK;
}

/* An option that would do nothing is a mistake that nothing else would show: --limit of a text, say, all of which is run. */
static kf_status check_idle(kf_err *err)
{
	const struct { const char *name; bool given; } of_tasks[] = { { "shots", o.shots }, { "limit", o.limit }, { "max-tokens", o.max_tokens },
		{ "temperature", o.temperature > 0 }, { "top-p", o.top_p < 1 }, { "samples", o.samples > 1 }, { "code-seconds", o.code_seconds != SECONDS },
		{ "code-mb", o.code_mb != MEGABYTES }, { "unsafe-code", o.unsafe_code }, { "plain-tasks", o.plain_tasks } };

	for (size_t i = 0; i < sizeof of_tasks / sizeof *of_tasks; i++)
		if (of_tasks[i].given && !o.tasks.n)
			return kf_fail(err, KF_EUSAGE, "--%s needs --tasks: it is for how they are asked", of_tasks[i].name);
	if (o.ngram != NGRAM && !o.overlap.n) return kf_fail(err, KF_EUSAGE, "--ngram needs --overlap: it is for what counts as shared");
	if (strcmp(o.int8, "all") != 0 && o.compute != KF_COMPUTE_INT8) return kf_fail(err, KF_EUSAGE, "--int8 needs --compute int8");
	if (o.per_document && (!o.report || (!o.corpus && !o.logits.n && !o.mixtures.n)))
		return kf_fail(err, KF_EUSAGE, "--per-document needs --report, and a text: it is for the report's per_document");
	if (o.top_p < 1 && o.temperature == 0) return kf_fail(err, KF_EUSAGE, "--top-p needs --temperature: without it the likeliest token is taken");
	if (o.samples > 1 && o.temperature == 0) return kf_fail(err, KF_EUSAGE, "--samples %ld needs --temperature: without it all are the same", o.samples);
	return KF_OK;
}

static kf_status check_usage(const kf_eval_opts *e, kf_err *err)
{
	bool runs = false;

	for (int m = 0; m < e->n_models; m++) runs = runs || e->model[m].run;
	if (o.overlap.n && !o.tasks.n && !o.corpus) return kf_fail(err, KF_EUSAGE, "--overlap needs --tasks or --corpus: what to look for in the training text");
	if (o.scores && !runs) return kf_fail(err, KF_EUSAGE, "--scores needs --model: what is read from sets is not kept once more");
	if (!e->n_models && !o.overlap.n) return kf_fail(err, KF_EUSAGE, "nothing to evaluate: give --model, --logits or --mixture");
	if (o.tasks.n && e->n_models && !runs) return kf_fail(err, KF_EUSAGE, "--tasks needs --model: logits of a text answer no questions");
	if (o.outputs && (!o.tasks.n || !runs)) return kf_fail(err, KF_EUSAGE, "--outputs needs --tasks and --model: it is for what models answer");
	return check_idle(err);
}

/* A folder that files can be put in, before anything takes long. */
static kf_status ready_scores(const char *dir, kf_err *err)
{
	char path[KF_PATH_MAX];
	kf_status rc;

	if ((rc = kf_mkdirs(dir, err)) != KF_OK || (rc = kf_path_join(path, dir, "scores.json", err)) != KF_OK) return rc;
	return kf_file_may_write(path, err);
}

static void say_scores(const results *r)
{
	const int asked = (r->text ? r->text->asked : 0) + (r->tasks ? r->tasks->asked : 0), taken = (r->text ? r->text->taken : 0) + (r->tasks ? r->tasks->taken : 0);

	if (taken) fprintf(stderr, "kf-eval: notice: %d of %d scores (of a model on the text, or on a task) were in %s already\n", taken, asked, o.scores);
}

static kf_status run(const kf_list *operands, kf_err *err)
{
	kf_eval_opts e = { .corpus = o.corpus, .seed = (uint64_t)o.common.seed, .per_document = o.per_document,
		.threads = (int)o.common.threads, .progress = o.common.quiet ? KF_PROGRESS_NONE : o.common.progress,
		.compute = o.compute, .batch_tokens = o.batch_tokens, .scores = o.scores };
	kf_tasks tasks;
	const kf_tasks_opts t = { .e = &e, .tasks = &tasks, .shots = (int)o.shots, .limit = (int)o.limit, .samples = (int)o.samples, .max_tokens = (int)o.max_tokens,
		.temperature = o.temperature, .top_p = o.top_p, .plain = o.plain_tasks, .cache_bytes = (size_t)o.cache_mb << 20, .outputs = o.outputs,
		.sandbox = { .seconds = (double)o.code_seconds, .memory = o.code_mb << 20, .file_bytes = 16L << 20, .guards = KF_GUARD_ALL,
			.unsafe = o.unsafe_code } };
	char *name[3 * KF_LIST_MAX] = { NULL };
	kf_eval_result r = { 0 };
	kf_tasks_result tr = { 0 };
	kf_tasks_job *job = NULL;
	kf_overlap overlap = { 0 };
	results all = { .e = &e };
	const char *const written[] = { o.report, o.markdown, o.outputs };
	kf_status rc = KF_OK;

	(void)operands;
	kf_tasks_init(&tasks);
	if ((rc = kf_backend(o.common.backend, &e.ops, &e.compute, err)) != KF_OK) return rc;
	if ((rc = kf_int8_parse(o.int8, &e.int8, err)) != KF_OK) return rc;
	if ((rc = collect_models(&e, name, err)) != KF_OK || (rc = check_usage(&e, err)) != KF_OK ||
	    (rc = kf_files_apart(written, 3, o.tasks.item, o.tasks.n, err)) != KF_OK || (rc = parse_templates(&e, err)) != KF_OK || (rc = parse_compare(&e, err)) != KF_OK)
		goto out;
	for (int i = 0; i < o.tasks.n; i++)
		if ((rc = kf_tasks_read(o.tasks.item[i], &tasks, err)) != KF_OK) goto out;
	if ((o.report && (rc = kf_file_may_write(o.report, err)) != KF_OK) || (o.markdown && (rc = kf_file_may_write(o.markdown, err)) != KF_OK) ||
	    (o.scores && (rc = ready_scores(o.scores, err)) != KF_OK) || (e.n_models && o.tasks.n && (rc = kf_tasks_ready(&t, &tr, &job, err)) != KF_OK))
		goto out;
	if (o.overlap.n) {
		if ((rc = kf_overlap_find(o.overlap.item, o.overlap.n, &tasks, o.corpus, (int)o.ngram, &overlap, err)) != KF_OK) goto out;
		all.overlap = &overlap;
	}
	if (e.n_models && (o.corpus || o.logits.n || o.mixtures.n || !o.tasks.n)) {
		if ((rc = kf_eval(&e, &r, err)) != KF_OK) goto out;
		all.text = &r;
	}
	if (job) {
		if ((rc = kf_tasks_run(job, err)) != KF_OK) {
			kf_err ignored;

			/* What came of the text is not lost, at least. No file: make and kf-report would take it for a whole one. */
			if (all.text && print_table(&all, &ignored) == KF_OK)
				rc = kf_context(err, rc, "the tasks did not end, and of the text there is the table only");
			goto out;
		}
		all.tasks = &tr;
	}
	if ((rc = write_reports(&all, err)) == KF_OK && o.scores && !o.common.quiet) say_scores(&all);
out:
	kf_overlap_release(&overlap);
	kf_tasks_end(job);
	kf_tasks_result_release(&tr);
	kf_eval_release(&r);
	kf_tasks_release(&tasks);
	for (size_t i = 0; i < sizeof name / sizeof *name; i++) kf_free(name[i]);
	return rc;
}

int main(int argc, char **argv)
{
	return kf_main(&program, argc, argv, run);
}
