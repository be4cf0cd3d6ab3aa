/* kf-align: a source's logits told in the target's vocabulary. */
#include <stdio.h>
#include <string.h>

#include "align/align.h"
#include "common/base/opt.h"
#include "common/base/progress.h"
#include "common/base/table.h"

static struct {
	const char *target, *out, *map_file;
	kf_list source;
	int method, map, map_ties, map_corpus, many, precision;
	bool quirks, replace;
	kf_common common;
} o;

static const kf_opt table[] = {
	{ "source", KF_OPT_LIST, &o.source, "DIR", "logits of the source model; or of every fold of the text (kf-extract --fold), repeated", .flags = KF_OPT_REQUIRED },
	{ "target", KF_OPT_STRING, &o.target, "DIR", "logits of the target model, for its tokens and tokenizer", .flags = KF_OPT_REQUIRED },
	{ "out", KF_OPT_STRING, &o.out, "DIR", "where the aligned set goes", .flags = KF_OPT_REQUIRED },
	{ "method", KF_OPT_CHOICE, &o.method, "byte|dtw|dtw-chat", "along the bytes, FuseLLM's warping of "
		"token strings, or FuseChat's", .flags = KF_OPT_SHAPES },
	{ "vocab-map", KF_OPT_CHOICE, &o.map, "prefix|exact|mined|stats", "what a candidate becomes: the first token of its bytes, the token of "
		"the same string, of the least edit distance, the one it is aligned with in the text", .flags = KF_OPT_SHAPES },
	{ "map", KF_OPT_STRING, &o.map_file, "FILE", "the map of mined or stats: read from FILE when it is there, else (with --replace also where it is of other sets) written to it", .flags = 0 },
	{ "map-ties", KF_OPT_CHOICE, &o.map_ties, "first|co-occurrence", "mined: of equally near tokens the first, or the one that occurs "
		"with the same tokens", .flags = 0 },
	{ "map-corpus", KF_OPT_CHOICE, &o.map_corpus, "same|any", "which text a FILE that counts some may be of", .flags = 0 },
	{ "one-to-many", KF_OPT_CHOICE, &o.many, "last|weighted", "dtw-chat: where several of the source's tokens are one of the target's, "
		"what the source says after the last, or after each, mixed by how often they are aligned", .flags = KF_OPT_SHAPES },
	{ "reference-quirks", KF_OPT_FLAG, &o.quirks, NULL, "dtw, dtw-chat: what the papers' published code gives",
		.flags = KF_OPT_SHAPES },
	{ "precision", KF_OPT_CHOICE, &o.precision, "source|packed|f32", "of the numbers stored; source: as the source's set has them",
		.flags = KF_OPT_SHAPES },
	KF_OPT_REPLACE(&o.replace),
	KF_OPT_COMMON(&o.common),
	KF_OPT_SHARD(&o.common),
	{ 0 }
};

static const kf_program program = {
	.name = "kf-align",
	.summary = "tell what a source model predicted in the target's vocabulary",
	.usage = "--source DIR --target DIR --out DIR [options]",
	.notes = "Both sets must be of one corpus. --method byte covers every position that the source covers; its ce sums to\n"
		"the source's own log-likelihood of the text. --method dtw --vocab-map exact is FuseLLM's way, for comparison.",
	.opts = table,
	.stops = true,
};

static void print_row(const char *name, int width, const json_t *s)
{
	char cell[6][32];

	fprintf(stderr, "%-*s %8.0f %9.0f %s %s %s %s %s %s\n", kf_text_field(name, width), name, json_number_value(json_object_get(s, "tokens")),
		json_number_value(json_object_get(s, "bytes")), kf_tally_cell(cell[0], s, "coverage", 100, 8, 1),
		kf_tally_cell(cell[1], s, "ce", 1, 7, 4), kf_tally_cell(cell[2], s, "ce_byte", 1, 7, 4),
		kf_tally_cell(cell[3], s, "mass", 100, 5, 1), kf_tally_cell(cell[4], s, "label_nll", 1, 9, 3),
		kf_tally_cell(cell[5], s, "labelled", 100, 8, 1));
}

/* Nats a token and a byte, shares in per cent, under the names that they have in the manifest. */
static void print_stats(const json_t *stats)
{
	const char *name;
	json_t *item;
	int width = 11;

	json_object_foreach(json_object_get(stats, "domains"), name, item) kf_text_widen(&width, kf_domain_label(name));
	fprintf(stderr, "%-*s %8s %9s %8s %7s %7s %5s %9s %8s\n", width, "", "tokens", "bytes", "coverage", "ce", "ce_byte", "mass", "label_nll", "labelled");
	json_object_foreach(json_object_get(stats, "domains"), name, item) print_row(kf_domain_label(name), width, item);
	print_row("all", width, json_object_get(stats, "all"));
}

static kf_status run(const kf_list *operands, kf_err *err)
{
	kf_align_opts a = { .source = o.source.item, .folds = o.source.n, .target = o.target, .out = o.out, .method = (kf_align_method)o.method,
		.map = (kf_align_map)o.map, .quirks = o.quirks, .weighted = o.many == 1, .map_file = o.map_file, .cooccurrence = o.map_ties == 1, .any_corpus = o.map_corpus == 1,
		.precision = o.precision, .replace = o.replace, .shard = o.common.shard, .program = program.name,
		.progress = o.common.quiet ? KF_PROGRESS_NONE : o.common.progress };
	kf_pool *pool = NULL;
	kf_set_state state;
	json_t *stats = NULL;
	kf_status rc;

	(void)operands;
	if (!(a.record = kf_opt_record(&program))) return kf_fail(err, KF_ENOMEM, "no memory for the options' record");
	if ((rc = kf_pool_new((int)o.common.threads, &pool, err)) != KF_OK) goto out;
	if ((rc = kf_align_run(&a, pool, &state, &stats, err)) != KF_OK) goto out;
	if (o.common.quiet) goto out;
	if (state == KF_SET_CURRENT) fprintf(stderr, "%s: up to date\n", o.out);
	if (stats && strcmp(json_string_value(json_object_get(stats, "path")), "bound") == 0)
		fprintf(stderr, "kf-align: warning: %s has no masses inside tokens: their lower bounds, from the candidates stored, are "
			"used instead\n", o.source.item[0]);
	if (stats) print_stats(stats);
out:
	json_decref(stats);
	json_decref(a.record);
	kf_pool_free(pool);
	return rc;
}

int main(int argc, char **argv)
{
	return kf_main(&program, argc, argv, run);
}
