/* kf-fuse: the target's own and aligned distributions into training targets. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/file.h"
#include "common/base/opt.h"
#include "common/base/progress.h"
#include "common/base/record.h"
#include "fuse/fuse.h"

#define FULL .1
#define RATE .1
#define FORGET 1.
#define SHARE .01

static struct {
	const char *target, *out, *report, *weights, *fit, *trace;
	kf_list aligned, trace_docs;
	int function, level, metric, without_target, weight, tail, precision;
	double full, temperature, rate, forget, share;
	bool same_text, replace;
	uint64_t docs[KF_LIST_MAX];          /* trace_docs as numbers */
	kf_common common;
} o = { .tail = KF_FUSE_TAIL_CALIBRATED, .full = FULL, .temperature = 1, .rate = RATE, .forget = FORGET, .share = SHARE };

static const kf_opt table[] = {
	{ "target", KF_OPT_STRING, &o.target, "DIR", "logits of the target model", .flags = KF_OPT_REQUIRED },
	{ "aligned", KF_OPT_LIST, &o.aligned, "DIR", "a source aligned to the target; once for each",
		.flags = KF_OPT_REQUIRED },
	{ "out", KF_OPT_STRING, &o.out, "DIR", "where the training targets go", .flags = 0 },
	{ "fit", KF_OPT_STRING, &o.fit, "FILE",
		"instead of --out: fit weights by domain to these sets, of validation text", .flags = 0 },
	{ "function", KF_OPT_CHOICE, &o.function, "min-ce|avg-ce|document|domain|dynamic",
		"take the best model's distribution, or a mixture "
		"weighted by cross-entropy, as suits the document best, by domain (--weights), or by what each model predicted so far",
		.flags = KF_OPT_SHAPES },
	{ "level", KF_OPT_CHOICE, &o.level, "sequence|token",
		"min-ce, avg-ce: choose for a whole document or for every token", .flags = KF_OPT_SHAPES },
	{ "metric", KF_OPT_CHOICE, &o.metric, "byte|token",
		"min-ce, avg-ce: compare on the same bytes, or by each model's own tokens as the papers do",
		.flags = KF_OPT_SHAPES },
	{ "reward-temperature", KF_OPT_REAL, &o.temperature, "T",
		"avg-ce: softmax of exp(-CE)/T; the papers' is 1, towards 0 it is min-ce", .min = 0, .max = 1e6,
		.flags = KF_OPT_SHAPES | KF_OPT_POSITIVE },
	{ "weights", KF_OPT_STRING, &o.weights, "FILE",
		"what --fit wrote: the weights of domain, those that dynamic starts at (without FILE: equal), the advantages of advantage-domain", .flags = 0 },
	{ "same-text", KF_OPT_FLAG, &o.same_text, NULL, "use weights although they were fitted to this very text",
		.flags = 0 },
	{ "rate", KF_OPT_REAL, &o.rate, "R",
		"dynamic: how fast weights follow what models predict; 1 is the Bayesian mixture", .min = 0, .max = 1,
		.flags = KF_OPT_SHAPES | KF_OPT_POSITIVE },
	{ "forget", KF_OPT_REAL, &o.forget, "G", "dynamic: how much of what was seen counts a token later", .min = 0,
		.max = 1, .flags = KF_OPT_SHAPES | KF_OPT_POSITIVE },
	{ "share", KF_OPT_REAL, &o.share, "A", "dynamic: weight given back to all models at every token", .min = 0,
		.max = 1, .flags = KF_OPT_SHAPES },
	{ "with-target", KF_OPT_CHOICE, &o.without_target, "yes|no",
		"whether the target's own distribution takes part", .flags = KF_OPT_SHAPES },
	{ "tail", KF_OPT_CHOICE, &o.tail, "rest|renormalize|calibrated",
		"what is outside a model's candidates: mixed as one more outcome; none, candidates scaled to sum to 1 first as the "
		"papers do; or mixed and then scaled to how often labels were outside them in the document so far",
		.flags = KF_OPT_SHAPES | KF_OPT_OFF },
	{ "weight", KF_OPT_CHOICE, &o.weight, "none|advantage|advantage-domain|advantage-position",
		"let the fusion's share in training "
		"depend on how much better the mixture is than the target: on the document, on held-out text of the domain "
		"(--weights), or on the document so far",
		.flags = KF_OPT_SHAPES },
	{ "full-advantage", KF_OPT_REAL, &o.full, "X", "relative gain in cross-entropy at which it counts in full",
		.min = 0, .max = 1, .flags = KF_OPT_SHAPES | KF_OPT_POSITIVE },
	{ "precision", KF_OPT_CHOICE, &o.precision, "source|packed|f32",
		"of the numbers stored; source: as the aligned sets have them", .flags = KF_OPT_SHAPES },
	{ "report", KF_OPT_STRING, &o.report, "FILE", "write what every source contributed, as JSON", .flags = 0 },
	{ "trace", KF_OPT_STRING, &o.trace, "FILE",
		"write who taught what, token by token, of some documents, as JSON Lines", .flags = 0 },
	{ "trace-doc", KF_OPT_LIST, &o.trace_docs, "N", "which documents to trace; none: the first of every domain", .flags = 0 },
	KF_OPT_REPLACE(&o.replace),
	KF_OPT_COMMON(&o.common),
	KF_OPT_SHARD(&o.common),
	{ 0 }
};

static const kf_program program = {
	.name = "kf-fuse",
	.summary = "fuse aligned distributions into training targets",
	.usage = "--target DIR --aligned DIR... --out DIR|--fit FILE [options]",
	.opts = table,
	.stops = true,
};

/* ---- options that do not go together ---- */

static kf_status check_fit(kf_err *err)
{
	if (o.function || o.level || o.metric || o.weight || o.tail != KF_FUSE_TAIL_CALIBRATED || o.precision || o.weights || o.report ||
		o.trace || o.replace || o.common.shard)
		return kf_fail(err, KF_EUSAGE,
			"--fit takes --target, --aligned and --with-target; how to fuse is said when its weights are used");
	return KF_OK;
}

static kf_status check_trace(kf_err *err)
{
	if (o.trace_docs.n && !o.trace)
		return kf_fail(err, KF_EUSAGE, "--trace-doc is about --trace, which is missing");
	if (o.trace && o.common.shard)
		return kf_fail(err, KF_EUSAGE, "--trace wants the whole set: trace when every part is there, without --shard");
	for (int i = 0; i < o.trace_docs.n; i++) {
		const char *text = o.trace_docs.item[i];
		char *end;

		errno = 0;
		o.docs[i] = strtoull(text, &end, 10);
		if (*text < '0' || *text > '9' || *end || errno)
			return kf_fail(err, KF_EUSAGE, "--trace-doc %s: must be a document's number", text);
	}
	return KF_OK;
}

static kf_status check_options(kf_err *err)
{
	bool papers = o.function == KF_FUSE_MIN_CE || o.function == KF_FUSE_AVG_CE;
	bool held_out = o.weight == KF_FUSE_WEIGHT_DOMAIN;

	if (!o.out == !o.fit)
		return kf_fail(err, KF_EUSAGE, "give --out DIR to fuse, or --fit FILE to fit weights by domain%s",
			o.out ? ", not both" : "");
	if (!papers && (o.level || o.metric))
		return kf_fail(err, KF_EUSAGE,
			"--level token and --metric token are for min-ce and avg-ce: the weights of the others "
			"come from elsewhere");
	if (o.temperature != 1 && o.function != KF_FUSE_AVG_CE)
		return kf_fail(err, KF_EUSAGE,
			"--reward-temperature is for --function avg-ce: no other function takes a softmax of rewards");
	if ((o.rate != RATE || o.forget != FORGET || o.share != SHARE) && o.function != KF_FUSE_DYNAMIC)
		return kf_fail(err, KF_EUSAGE, "--rate, --forget and --share are for --function dynamic");
	if (o.full != FULL && !o.weight) return kf_fail(err, KF_EUSAGE, "--full-advantage is about --weight, which is missing");
	if (o.fit) return check_fit(err);
	if (o.function == KF_FUSE_DOMAIN && !o.weights)
		return kf_fail(err, KF_EUSAGE,
			"--function domain needs --weights FILE: make it with kf-fuse --fit FILE from sets of validation text");
	if (held_out && !o.weights)
		return kf_fail(err, KF_EUSAGE,
			"--weight advantage-domain needs --weights FILE: make it with kf-fuse --fit FILE from sets of "
			"validation text");
	if (o.weights && o.function < KF_FUSE_DOMAIN && !held_out)
		return kf_fail(err, KF_EUSAGE,
			"--weights is for --function domain or dynamic, or --weight advantage-domain");
	if (o.same_text && !o.weights)
		return kf_fail(err, KF_EUSAGE, "--same-text is about --weights, which is missing");
	return check_trace(err);
}

/* What shapes this function's content: options of other functions are no part of a set's identity. */
static json_t *record(void)
{
	json_t *r = kf_opt_record(&program);

	if (o.function != KF_FUSE_AVG_CE) json_object_del(r, "reward-temperature");
	if (o.function != KF_FUSE_DYNAMIC) {
		json_object_del(r, "rate");
		json_object_del(r, "forget");
		json_object_del(r, "share");
	}
	return r;
}

/* ---- what is written and printed ---- */

static kf_status write_json(const char *path, const json_t *json, kf_err *err)
{
	char *text = json_dumps(json, JSON_INDENT(2));
	kf_status rc;

	if (!text) return kf_fail(err, KF_ENOMEM, "no memory for %s", path);
	rc = kf_file_write_atomic(path, text, strlen(text), err);
	free(text);
	return rc;
}

static kf_status print(const json_t *stats, kf_status (*report)(const json_t *, kf_buf *, kf_err *),
	kf_err *err)
{
	kf_buf text = { 0 };
	kf_status rc = report(stats, &text, err);

	if (rc == KF_OK) fwrite(text.data, 1, text.len, stderr);
	kf_buf_release(&text);
	return rc;
}

static kf_status fit(const kf_fuse_opts *f, kf_pool *pool, kf_err *err)
{
	json_t *fitted = NULL;
	kf_status rc;

	if ((rc = kf_file_may_write(o.fit, err)) != KF_OK || (rc = kf_fuse_fit_run(f, pool, &fitted, err)) != KF_OK) return rc;
	if (!o.common.quiet) rc = print(fitted, kf_fuse_fit_report, err);
	if (rc == KF_OK) rc = write_json(o.fit, fitted, err);
	json_decref(fitted);
	return rc;
}

/* What would fail when all is fused: the files, and the documents to trace. */
static kf_status check_ends(kf_err *err)
{
	const char *const written[] = { o.report, o.trace }, *const read[] = { o.weights };
	kf_set *target = NULL;
	uint64_t n;
	kf_status rc;

	if ((rc = kf_files_apart(written, 2, read, 1, err)) != KF_OK || (o.report && (rc = kf_file_may_write(o.report, err)) != KF_OK) || (o.trace && (rc = kf_file_may_write(o.trace, err)) != KF_OK) ||
	    (rc = kf_set_open(o.target, KF_SET_LOGITS, &target, err)) != KF_OK)
		return rc;
	n = kf_set_docs(target);
	kf_set_close(target);
	for (int i = 0; i < o.trace_docs.n; i++)
		if (o.docs[i] >= n)
			return kf_fail(err, KF_ENOTFOUND, "%s has no document %" PRIu64 " for --trace-doc: it has %" PRIu64 ", from 0 on", o.target, o.docs[i], n);
	return KF_OK;
}

/* Domains that the file of weights forgets: one is easily misspelt, and what all have is taken for it. */
static void look_at_domains(const json_t *stats)
{
	json_t *file = NULL, *v;
	const json_t *domains;
	const char *name, *first = NULL;
	int n = 0;
	kf_err none;

	if (o.common.quiet || !o.weights || kf_record_read(o.weights, &file, &none) != KF_OK) return;
	domains = json_object_get(file, "domains");
	json_object_foreach(json_object_get(stats, "domains"), name, v)
		if (json_object_size(domains) && !json_object_get(domains, name) && !n++) first = name;
	if (n)
		fprintf(stderr, "kf-fuse: notice: %s has nothing for %d of the text's domains, and what it has for all was taken; the first is \"%s\"\n", o.weights, n, first);
	json_decref(file);
}

static kf_status fuse(const kf_fuse_opts *f, kf_pool *pool, kf_err *err)
{
	kf_set *set = NULL;
	kf_set_state state;
	json_t *stats = NULL, *item;
	kf_status rc;

	if ((rc = check_ends(err)) != KF_OK || (rc = kf_fuse_run(f, pool, &state, &stats, err)) != KF_OK) goto out;
	if (state == KF_SET_CURRENT) {
		if (!o.common.quiet) fprintf(stderr, "%s: up to date\n", o.out);
		if (o.report) {
			/* the report of the run that made it is in the manifest */
			if ((rc = kf_set_open(o.out, KF_SET_TARGETS, &set, err)) != KF_OK) goto out;
			if ((item = json_object_get(kf_set_manifest(set), "stats"))) stats = json_incref(item);
		}
	} else if (stats && !o.common.quiet && (rc = print(stats, kf_fuse_report, err)) != KF_OK) {
		goto out;
	}
	look_at_domains(stats);
	if (stats && o.report && (rc = write_json(o.report, stats, err)) != KF_OK) goto out;
	if (o.trace) rc = kf_fuse_trace(f, o.trace, o.docs, o.trace_docs.n, err);
out:
	kf_set_close(set);
	json_decref(stats);
	return rc;
}

static kf_status run(const kf_list *operands, kf_err *err)
{
	kf_fuse_how how = { .function = (kf_fuse_function)o.function, .level = (kf_fuse_level)o.level,
		.metric = (kf_fuse_metric)o.metric, .with_target = !o.without_target, .tails = (kf_fuse_tails)o.tail,
		.reward_temperature = o.temperature, .follow = { .rate = o.rate, .forget = o.forget, .share = o.share },
		.weight = (kf_fuse_weight)o.weight, .full = o.full };
	kf_fuse_opts f = { .target = o.target, .out = o.out, .aligned = o.aligned.item, .n_aligned = o.aligned.n,
		.how = how, .weights = o.weights, .same_text = o.same_text, .precision = o.precision,
		.replace = o.replace, .shard = o.common.shard, .program = program.name,
		.progress = o.common.quiet ? KF_PROGRESS_NONE : o.common.progress };
	kf_pool *pool = NULL;
	kf_status rc;

	(void)operands;
	if ((rc = check_options(err)) != KF_OK) return rc;
	if (!(f.record = record())) return kf_fail(err, KF_ENOMEM, "no memory for the options' record");
	if ((rc = kf_pool_new((int)o.common.threads, &pool, err)) == KF_OK)
		rc = o.fit ? fit(&f, pool, err) : fuse(&f, pool, err);
	json_decref(f.record);
	kf_pool_free(pool);
	return rc;
}

int main(int argc, char **argv)
{
	return kf_main(&program, argc, argv, run);
}
