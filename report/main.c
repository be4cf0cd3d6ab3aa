/* kf-report: a run as one HTML file. */
#include <stdio.h>

#include "common/base/file.h"
#include "common/base/opt.h"
#include "report/report.h"

static struct {
	const char *out, *result, *title;
	kf_list evals, sets, models, traces;
	long passages, passage_tokens;
	kf_common common;
} o = { .passages = 4, .passage_tokens = 220 };

static const kf_opt table[] = {
	{ "out", KF_OPT_STRING, &o.out, "FILE", "the page to write; - for standard output", .flags = KF_OPT_REQUIRED },
	{ "eval", KF_OPT_LIST, &o.evals, "FILE", "what kf-eval --report wrote: how well every model predicts; several are runs of one "
		"experiment, whose models have the same names: the first is the one that the rest of the page is about", .flags = 0 },
	{ "result", KF_OPT_STRING, &o.result, "NAME", "the model of the (first) evaluation that the headline is about; none: what --compare "
		"compared with the others, the best in the mean where that is several", .flags = 0 },
	{ "model", KF_OPT_LIST, &o.models, "[NAME=]DIR", "a folder that kf-train or kf-merge wrote, by its name in the evaluation: training curves",
		.flags = 0 },
	{ "set", KF_OPT_LIST, &o.sets, "DIR", "a set: of fused ones the contributions, of aligned ones the coverage, of all size and provenance",
		.flags = 0 },
	{ "trace", KF_OPT_LIST, &o.traces, "FILE", "what kf-fuse --trace wrote: documents, token by token", .flags = 0 },
	{ "title", KF_OPT_STRING, &o.title, "TEXT", "the heading, instead of one from the models' names", .flags = 0 },
	{ "passages", KF_OPT_INT, &o.passages, "N", "documents to show", .min = 0, .max = 1000 },
	{ "passage-tokens", KF_OPT_INT, &o.passage_tokens, "N", "tokens to show of each", .min = 1, .max = 100000 },
	{ "quiet", KF_OPT_FLAG, &o.common.quiet, NULL, "print errors only", .flags = 0 },
	{ 0 }
};

static const kf_program program = {
	.name = "kf-report",
	.summary = "a run as one HTML file, which loads nothing",
	.usage = "--out FILE [--eval FILE]… [--model [NAME=]DIR]… [--set DIR]… [--trace FILE]…",
	.notes = "What is not given leaves its section out, and the end of the page says what would fill it.",
	.opts = table,
};

static kf_status run(const kf_list *operands, kf_err *err)
{
	const kf_report_opts r = { .title = o.title, .evals = o.evals.item, .n_evals = o.evals.n, .result = o.result, .sets = o.sets.item, .n_sets = o.sets.n,
		.models = o.models.item, .n_models = o.models.n, .traces = o.traces.item, .n_traces = o.traces.n,
		.passages = (int)o.passages, .passage_tokens = (int)o.passage_tokens };
	kf_buf html = { 0 };
	kf_status rc;

	(void)operands;
	if (!o.evals.n && !o.sets.n && !o.models.n && !o.traces.n)
		return kf_fail(err, KF_EUSAGE, "nothing to report: give --eval, --model, --set or --trace");
	if (o.result && !o.evals.n) return kf_fail(err, KF_EUSAGE, "--result is a model of --eval, which is missing");
	if ((rc = kf_files_apart(&o.out, 1, o.evals.item, o.evals.n, err)) != KF_OK || (rc = kf_files_apart(&o.out, 1, o.traces.item, o.traces.n, err)) != KF_OK ||
	    (rc = kf_file_may_write(o.out, err)) != KF_OK)
		return rc;
	if ((rc = kf_report(&r, &html, err)) == KF_OK) rc = kf_file_write_atomic(o.out, html.data, html.len, err);
	if (rc == KF_OK && !o.common.quiet) fprintf(stderr, "%s: %.0f kB\n", o.out, (double)html.len / 1000);
	kf_buf_release(&html);
	return rc;
}

int main(int argc, char **argv)
{
	return kf_main(&program, argc, argv, run);
}
