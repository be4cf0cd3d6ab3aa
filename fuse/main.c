/* kf-fuse: the target's own and aligned distributions into training targets. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/file.h"
#include "common/base/opt.h"
#include "common/base/progress.h"
#include "fuse/fuse.h"

static struct {
	const char *target, *out, *report;
	kf_list aligned;
	int function, level, metric, without_target, weight, precision;
	double full;
	kf_common common;
} o = { .full = 0.1 };

static const kf_opt table[] = {
	{ "target", KF_OPT_STRING, &o.target, "DIR", "logits of the target model", .flags = KF_OPT_REQUIRED },
	{ "aligned", KF_OPT_LIST, &o.aligned, "DIR", "a source aligned to the target; once for each", .flags = KF_OPT_REQUIRED },
	{ "out", KF_OPT_STRING, &o.out, "DIR", "where the training targets go", .flags = KF_OPT_REQUIRED },
	{ "function", KF_OPT_CHOICE, &o.function, "min-ce|avg-ce", "take the best model's distribution, or a weighted mixture",
		.flags = KF_OPT_SHAPES },
	{ "level", KF_OPT_CHOICE, &o.level, "sequence|token", "choose for a whole document or for every token", .flags = KF_OPT_SHAPES },
	{ "metric", KF_OPT_CHOICE, &o.metric, "byte|token", "compare on the same bytes, or by each model's own tokens as the papers do",
		.flags = KF_OPT_SHAPES },
	{ "with-target", KF_OPT_CHOICE, &o.without_target, "yes|no", "whether the target's own distribution takes part",
		.flags = KF_OPT_SHAPES },
	{ "weight", KF_OPT_CHOICE, &o.weight, "none|advantage", "let a document's fusion share depend on how much better the mixture is "
		"than the target", .flags = KF_OPT_SHAPES },
	{ "full-advantage", KF_OPT_REAL, &o.full, "X", "relative gain in cross-entropy at which it counts in full", .min = 0, .max = 1,
		.flags = KF_OPT_SHAPES | KF_OPT_POSITIVE },
	{ "precision", KF_OPT_CHOICE, &o.precision, "source|packed|f32", "of the numbers stored; source: as the aligned sets have them",
		.flags = KF_OPT_SHAPES },
	{ "report", KF_OPT_STRING, &o.report, "FILE", "write what every source contributed, as JSON", .flags = 0 },
	KF_OPT_COMMON(&o.common),
	KF_OPT_SHARD(&o.common),
	{ 0 }
};

static const kf_program program = {
	.name = "kf-fuse",
	.summary = "Fuse aligned distributions into training targets.",
	.usage = "--target DIR --aligned DIR... --out DIR [options]",
	.opts = table,
};

static double real(const json_t *o_, const char *key) { return json_number_value(json_object_get(o_, key)); }

static void print_domain(const char *name, const json_t *s)
{
	const char *model;
	json_t *m;

	fprintf(stderr, "  %-14s %9.0f tokens  ce/byte: target %.4f, fused %.4f nats\n", name, real(s, "tokens"),
		real(s, "target_ce_byte"), real(s, "fused_ce_byte"));
	json_object_foreach(json_object_get(s, "models"), model, m)
		fprintf(stderr, "      %-40s share %5.1f %%  ce/byte %.4f  best in %.0f of %.0f documents\n", model, 100 * real(m, "share"),
			real(m, "ce_byte"), real(m, "documents_won"), real(s, "documents"));
}

static kf_status write_report(const json_t *stats, kf_err *err)
{
	char *text = json_dumps(stats, JSON_INDENT(2));
	kf_status rc;

	if (!text) return kf_fail(err, KF_ENOMEM, "no memory for the report");
	rc = kf_file_write_atomic(o.report, text, strlen(text), err);
	free(text);
	return rc;
}

static kf_status run(const kf_list *operands, kf_err *err)
{
	kf_fuse_opts f = { .target = o.target, .out = o.out, .aligned = o.aligned.item, .n_aligned = o.aligned.n,
		.how = { .function = (kf_fuse_function)o.function, .level = (kf_fuse_level)o.level, .metric = (kf_fuse_metric)o.metric,
			.with_target = !o.without_target, .weight = (kf_fuse_weight)o.weight, .full = o.full },
		.precision = o.precision, .shard = o.common.shard, .program = program.name,
		.progress = o.common.quiet ? KF_PROGRESS_NONE : o.common.progress };
	kf_pool *pool = NULL;
	kf_set *set = NULL;
	kf_set_state state;
	json_t *stats = NULL, *item;
	const char *name;
	kf_status rc;

	(void)operands;
	if (!(f.record = kf_opt_record(&program))) return kf_fail(err, KF_ENOMEM, "no memory for the options' record");
	if ((rc = kf_pool_new((int)o.common.threads, &pool, err)) != KF_OK) goto out;
	if ((rc = kf_fuse_run(&f, pool, &state, &stats, err)) != KF_OK) goto out;
	if (state == KF_SET_CURRENT) {
		if (!o.common.quiet) fprintf(stderr, "%s: up to date\n", o.out);
		if (o.report) {
			/* the report of the run that made it is in the manifest */
			if ((rc = kf_set_open(o.out, KF_SET_TARGETS, &set, err)) != KF_OK) goto out;
			if ((item = json_object_get(kf_set_manifest(set), "stats"))) stats = json_incref(item);
		}
	}
	if (stats && !o.common.quiet && state != KF_SET_CURRENT) {
		json_object_foreach(json_object_get(stats, "domains"), name, item) print_domain(*name ? name : "(no domain)", item);
		print_domain("all", json_object_get(stats, "all"));
	}
	if (stats && o.report) rc = write_report(stats, err);
out:
	kf_set_close(set);
	json_decref(stats);
	json_decref(f.record);
	kf_pool_free(pool);
	return rc;
}

int main(int argc, char **argv)
{
	return kf_main(&program, argc, argv, run);
}
