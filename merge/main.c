/* kf-merge: several models of one kind into one. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "common/base/progress.h"
#include "common/base/table.h"
#include "merge/merge.h"

static kf_merge_opts o = { .density = NAN, .select = NAN, .t = NAN };
static int method, grain, compat;
static kf_common common;

static const kf_opt TABLE[] = {
	{ "pivot", KF_OPT_STRING, &o.pivot, "PATH",
		"model from which changes are counted; its configuration and tokenizer are the result's", 0, 0, 0 },
	{ "models", KF_OPT_LIST, &o.models, "PATH", "model to merge: a Hugging Face folder or a GGUF file",
		.flags = KF_OPT_REQUIRED },
	{ "out", KF_OPT_STRING, &o.out, "DIR", "folder to make, in Hugging Face's format",
		.flags = KF_OPT_REQUIRED },
	{ "method", KF_OPT_CHOICE, &method, KF_MERGE_METHODS, "how", 0, 0, KF_OPT_SHAPES },
	{ "weights", KF_OPT_STRING, &o.weights, "W1,W2,…",
		"a weight a model, 1 each unless given: linear, task-arithmetic, ties, dare",
		.flags = KF_OPT_SHAPES },
	{ "density", KF_OPT_REAL, &o.density, "D", "ties, dare: share of each model's changes to keep [0.6]", 0,
		1, KF_OPT_SHAPES | KF_OPT_POSITIVE },
	{ "select", KF_OPT_REAL, &o.select, "TAU",
		"sce: share of the changed elements to keep, by variance [0.1]", 0, 1,
		KF_OPT_SHAPES | KF_OPT_POSITIVE },
	{ "t", KF_OPT_REAL, &o.t, "T", "slerp: 0 is the first model, 1 the second [0.5]", 0, 1, KF_OPT_SHAPES },
	{ "normalize", KF_OPT_CHOICE, &o.normalize, "auto|yes|no",
		"divide by the sum of the weights; auto: linear and ties do", 0, 0, KF_OPT_SHAPES },
	{ "granularity", KF_OPT_CHOICE, &grain, KF_MERGE_GRAINS, "varm: what has a weight of its own", 0, 0,
		KF_OPT_SHAPES },
	{ "compat", KF_OPT_CHOICE, &compat, "none|mergekit",
		"do as mergekit does where it differs: sce, ties, dare", 0, 0, KF_OPT_SHAPES },
	{ "dtype", KF_OPT_CHOICE, &o.dtype, "auto|f32|f16|bf16",
		"numbers that are written; auto: f16 or bf16 where all models are that, else f32", 0, 0, KF_OPT_SHAPES },
	{ "max-shard-bytes", KF_OPT_INT, &o.shard_bytes, "N",
		"size of a file above which there are several, 0 for 5 GB", 0, 1e15, KF_OPT_SHAPES },
	KF_OPT_REPLACE(&o.replace),
	KF_OPT_COMMON(&common),
	{ 0 }
};

static const kf_program PROGRAM = {
	.name = "kf-merge",
	.summary = "merge models of one architecture and tokenizer",
	.usage = "[--pivot PATH] --models PATH --models PATH... --out DIR [options]",
	.notes = "linear and slerp mix the models themselves; the other methods add their changes to the pivot.\n"
		"docs/merge.md defines them. The result does not depend on --threads.",
	.opts = TABLE,
	.stops = true,
};

static void report(const kf_merge_result *r)
{
	char count[32];
	int width = 48;

	for (int j = 0; j < r->n; j++) kf_text_widen(&width, o.models.item[j]);
	kf_format_count(count, sizeof count, (double)r->values);
	for (int j = 0; j < r->n; j++)
		printf("  %-*s mean weight %.4f, takes part in %5.1f %% of values\n", kf_text_field(o.models.item[j], width), o.models.item[j],
			r->weight[j], 100 * r->kept[j]);
	printf("%s: %s values as %s, %" PRIu64 " bytes, %.1f s\n", o.out, count, kf_dtype_name(r->dtype),
		r->bytes, r->seconds);
}

static kf_status run(const kf_list *operands, kf_err *err)
{
	kf_merge_result r;
	kf_pool *pool = NULL;
	kf_status rc;

	(void)operands;
	o.method = (kf_merge_method)method;
	o.grain = (kf_merge_grain)grain;
	o.mergekit = compat == 1;
	o.seed = common.seed;
	o.progress = common.quiet ? KF_PROGRESS_NONE : common.progress;
	if ((rc = kf_pool_new((int)common.threads, &pool, err)) == KF_OK) rc = kf_merge(&o, pool, &r, err);
	if (rc == KF_OK && !common.quiet) {
		if (r.current) printf("%s is up to date.\n", o.out);
		else report(&r);
	}
	kf_pool_free(pool);
	return rc;
}

int main(int argc, char **argv)
{
	return kf_main(&PROGRAM, argc, argv, run);
}
