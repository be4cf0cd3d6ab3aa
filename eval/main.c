#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/file.h"
#include "common/base/opt.h"
#include "common/base/progress.h"
#include "common/model/way.h"
#include "common/ops/backend.h"
#include "eval/eval.h"

static struct {
	kf_list models, logits, mixtures, compare, templates;
	const char *corpus, *report, *markdown;
	bool per_document;
	int compute;
	const char *int8;
	long batch_tokens;
	kf_common common;
} o = { .int8 = "all", .batch_tokens = 4096 };

static const kf_opt table[] = {
	{ "model", KF_OPT_LIST, &o.models, "[NAME=]PATH", "a model to run", 0, 0, 0 },
	{ "logits", KF_OPT_LIST, &o.logits, "[NAME=]DIR", "a model's logits over the corpus, from kf-extract",
		0, 0, 0 },
	{ "mixture", KF_OPT_LIST, &o.mixtures, "[NAME=]DIR", "an ensemble: a fused set over the corpus, from kf-fuse",
		0, 0, 0 },
	{ "corpus", KF_OPT_STRING, &o.corpus, "DIR", "the text to predict (needed with --model)", 0, 0, 0 },
	{ "chat-template", KF_OPT_LIST, &o.templates, "[MODEL=]NAME", "of conversations: the template of a model that is run, or of all, if not "
		"its own", 0, 0, 0 },
	{ "compare", KF_OPT_LIST, &o.compare, "A,B",
		"a paired comparison of two models, A minus B; none: each against the first",
		0, 0, 0 },
	{ "report", KF_OPT_STRING, &o.report, "FILE", "write everything as JSON", 0, 0, 0 },
	{ "markdown", KF_OPT_STRING, &o.markdown, "FILE", "write the tables as Markdown", 0, 0, 0 },
	{ "per-document", KF_OPT_FLAG, &o.per_document, NULL, "put every document's values in the report",
		0, 0, 0 },
	{ "compute", KF_OPT_CHOICE, &o.compute, "auto|f32|bf16|int8", "of the matrix products; auto is f32 on the CPU, bf16 on CUDA", 0, 0, 0 },
	{ "int8", KF_OPT_STRING, &o.int8, "KINDS", "with --compute int8: the matrices it is for, all or some of head,qkv,out,up,down; the others "
		"are computed in bf16", 0, 0, 0 },
	{ "batch-tokens", KF_OPT_INT, &o.batch_tokens, "N", "tokens in a batch", 1, 1e7, 0 },
	KF_OPT_BACKEND(&o.common),
	KF_OPT_COMMON(&o.common),
	{ 0 }
};

static const kf_program program = {
	"kf-eval", "bits per byte and perplexity of models, by domain",
	"(--model [NAME=]PATH --corpus DIR | --logits [NAME=]DIR | --mixture [NAME=]DIR) … [options]",
	"Models are compared on the same bytes: those that every one of them covers. Perplexity is per\n"
	"token of a model's own tokenizer, so only comparable between models that share one.",
	table, false, false
};

/* "NAME=PATH", or "PATH", whose name is its last part. name is newly allocated. */
static kf_status parse_model(const char *text, kf_eval_kind kind, kf_eval_model *out, char **name, kf_err *err)
{
	const char *eq = strchr(text, '='), *slash = strchr(text, '/'), *begin, *end;

	out->kind = kind;
	out->path = text;
	out->chat_template = NULL;
	if (eq && eq > text && (!slash || eq < slash)) {
		begin = text;
		end = eq;
		out->path = eq + 1;
		if (!*out->path) return kf_fail(err, KF_EUSAGE, "%s: a path is missing after the name", text);
	} else {
		for (end = text + strlen(text); end > text + 1 && end[-1] == '/';) end--;
		for (begin = end; begin > text && begin[-1] != '/';) begin--;
		if (end - begin > 5 && memcmp(end - 5, ".gguf", 5) == 0) end -= 5;
	}
	if (!(*name = kf_alloc((size_t)(end - begin) + 1, 1))) return kf_fail(err, KF_ENOMEM, "out of memory");
	memcpy(*name, begin, (size_t)(end - begin));
	(*name)[end - begin] = 0;
	out->name = *name;
	return KF_OK;
}

static int find_model(const kf_eval_opts *e, const char *name, size_t n)
{
	for (int m = 0; m < e->n_models; m++)
		if (strlen(e->model[m].name) == n && memcmp(e->model[m].name, name, n) == 0) return m;
	return -1;
}

static kf_status parse_compare(kf_eval_opts *e, kf_err *err)
{
	for (int i = 0; i < o.compare.n; i++) {
		const char *text = o.compare.item[i], *comma = strchr(text, ',');
		int a = comma ? find_model(e, text, (size_t)(comma - text)) : -1;
		int b = comma ? find_model(e, comma + 1, strlen(comma + 1)) : -1;

		if (!comma) return kf_fail(err, KF_EUSAGE, "--compare %s: must be two names of models, A,B", text);
		if (a < 0 || b < 0)
			return kf_fail(err, KF_EUSAGE, "--compare %s: there is no model called \"%s\"", text,
				a < 0 ? text : comma + 1);
		e->compare[e->n_compare][0] = a;
		e->compare[e->n_compare++][1] = b;
	}
	for (int m = 1; !o.compare.n && m < e->n_models; m++) {
		e->compare[e->n_compare][0] = m;
		e->compare[e->n_compare++][1] = 0;
	}
	return KF_OK;
}

static kf_status parse_templates(kf_eval_opts *e, kf_err *err)
{
	for (int i = 0; i < o.templates.n; i++) {
		const char *text = o.templates.item[i], *eq = strchr(text, '=');
		int only = eq ? find_model(e, text, (size_t)(eq - text)) : -1;

		if (eq && only < 0) return kf_fail(err, KF_EUSAGE, "--chat-template %s: there is no model of that name", text);
		for (int m = 0; m < e->n_models; m++)
			if (!eq || m == only) e->model[m].chat_template = eq ? eq + 1 : text;
	}
	return KF_OK;
}

static kf_status write_reports(const kf_eval_result *r, kf_err *err)
{
	kf_buf text = { 0 };
	kf_status rc = KF_OK;

	if (o.report) {
		json_t *json = kf_eval_json(r);
		char *dump = json ? json_dumps(json, JSON_INDENT(2) | JSON_REAL_PRECISION(10)) : NULL;

		rc = dump ? KF_OK : kf_fail(err, KF_ENOMEM, "out of memory for the report");
		if (rc == KF_OK) {
			kf_buf_put(&text, dump, strlen(dump));
			kf_buf_u8(&text, '\n');
			if ((rc = kf_buf_check(&text, err)) == KF_OK)
				rc = kf_file_write_atomic(o.report, text.data, text.len, err);
		}
		free(dump);
		json_decref(json);
	}
	if (rc == KF_OK && o.markdown) {
		kf_buf_clear(&text);
		kf_eval_markdown(r, &text);
		if ((rc = kf_buf_check(&text, err)) == KF_OK)
			rc = kf_file_write_atomic(o.markdown, text.data, text.len, err);
	}
	if (rc == KF_OK && !o.common.quiet) {
		kf_buf_clear(&text);
		kf_eval_table(r, &text);
		if ((rc = kf_buf_check(&text, err)) == KF_OK) fwrite(text.data, 1, text.len, stdout);
	}
	kf_buf_release(&text);
	return rc;
}

static kf_status run(const kf_list *operands, kf_err *err)
{
	kf_eval_opts e = { .corpus = o.corpus, .seed = (uint64_t)o.common.seed, .per_document = o.per_document,
		.threads = (int)o.common.threads, .progress = o.common.quiet ? KF_PROGRESS_NONE : o.common.progress,
		.compute = o.compute, .batch_tokens = o.batch_tokens };
	/* mixtures last: the comparison begins at one of their tokens */
	const struct { const kf_list *list; kf_eval_kind kind; } given[] = {
		{ &o.logits, KF_EVAL_LOGITS }, { &o.models, KF_EVAL_RUN }, { &o.mixtures, KF_EVAL_MIXTURE } };
	int total = o.logits.n + o.models.n + o.mixtures.n;
	char *name[KF_EVAL_MODELS + 1] = { NULL };
	kf_eval_result r = { 0 };
	kf_status rc = KF_OK;

	(void)operands;
	if ((rc = kf_backend(o.common.backend, &e.ops, &e.compute, err)) != KF_OK) return rc;
	if ((rc = kf_int8_parse(o.int8, &e.int8, err)) != KF_OK) return rc;
	if (total > KF_EVAL_MODELS) return kf_fail(err, KF_EUSAGE, "more than %d models", KF_EVAL_MODELS);
	if (total == 0) return kf_fail(err, KF_EUSAGE, "nothing to evaluate: give --model, --logits or --mixture");
	for (size_t k = 0; k < sizeof given / sizeof *given; k++) {
		for (int i = 0; i < given[k].list->n; i++) {
			kf_eval_model m;

			rc = parse_model(given[k].list->item[i], given[k].kind, &m, &name[e.n_models], err);
			if (rc == KF_OK && find_model(&e, m.name, strlen(m.name)) >= 0)
				rc = kf_fail(err, KF_EUSAGE, "two models are called \"%s\": name them, NAME=PATH", m.name);
			if (rc != KF_OK) goto out;
			e.model[e.n_models++] = m;
		}
	}
	if ((rc = parse_templates(&e, err)) != KF_OK || (rc = parse_compare(&e, err)) != KF_OK) goto out;
	if ((rc = kf_eval(&e, &r, err)) == KF_OK) rc = write_reports(&r, err);
out:
	kf_eval_release(&r);
	for (int i = 0; i <= KF_EVAL_MODELS; i++) kf_free(name[i]);
	return rc;
}

int main(int argc, char **argv)
{
	return kf_main(&program, argc, argv, run);
}
