/* Weights by domain, fitted to the labels of sets: kf-fuse --fit. */
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/opt.h"
#include "common/store/pass.h"
#include "fuse/fuse.h"
#include "fuse/inputs.h"

/* What a document gives. */
typedef struct {
	uint64_t doc;
	char *domain;
	float *ce;                 /* (tally.tokens, models) */
	double tokens, bytes, target_ce, equal_ce, model_ce[KF_FUSE_MODELS];
} sample;

typedef struct {
	const kf_fuse_opts *o;
	pthread_mutex_t lock;
	sample *item;
	size_t n, cap;
} samples;

static kf_status keep(samples *s, const sample *one, kf_err *err)
{
	bool ok = true;

	pthread_mutex_lock(&s->lock);
	if (s->n == s->cap) {
		size_t cap = s->cap ? 2 * s->cap : 256;
		sample *item = kf_alloc(cap, sizeof *item);

		if ((ok = item != NULL)) {
			if (s->n) memcpy(item, s->item, s->n * sizeof *item);
			kf_free(s->item);
			s->item = item;
			s->cap = cap;
		}
	}
	if (ok) s->item[s->n++] = *one;
	pthread_mutex_unlock(&s->lock);
	return ok ? KF_OK : kf_fail(err, KF_ENOMEM, "no memory for the labels to fit weights to");
}

static kf_status one_document(void *arg, kf_shard *const *in, kf_shard_writer *out, kf_tally *unused,
	kf_arena *arena, uint64_t *tokens, kf_err *err)
{
	samples *s = arg;
	const kf_fuse_opts *o = s->o;
	size_t m = (size_t)(o->n_aligned + o->how.with_target);
	kf_logits_rec t;
	kf_dist_rec a[KF_FUSE_MODELS];
	kf_fuse_tally tally;
	sample one = { .domain = NULL };
	float *ce;
	kf_status rc;

	(void)out;
	(void)unused;
	if ((rc = kf_shard_next_logits(in[0], arena, &t, err)) != KF_OK) return rc;
	for (int i = 0; i < o->n_aligned; i++)
		if ((rc = kf_shard_next_dist(in[1 + i], arena, &a[i], err)) != KF_OK) return rc;
	if (!(ce = KF_ARENA_NEW(arena, float, (size_t)t.n * m + 1)))
		return kf_fail(err, KF_ENOMEM, "no memory for a document's labels");
	if ((rc = kf_fuse_labels(o->how.with_target, &t, a, o->n_aligned, ce, &tally, err)) != KF_OK) return rc;
	*tokens = t.n;
	if (tally.tokens < 1) return KF_OK;
	one = (sample){ .doc = t.head.doc, .tokens = tally.tokens, .bytes = tally.bytes,
		.target_ce = tally.target_ce, .equal_ce = tally.equal_ce };
	memcpy(one.model_ce, tally.ce, sizeof one.model_ce);
	one.domain = kf_strdup(t.head.domain);
	if ((one.ce = kf_alloc((size_t)tally.tokens * m, sizeof *ce)))
		memcpy(one.ce, ce, (size_t)tally.tokens * m * sizeof *ce);
	rc = one.domain && one.ce ? keep(s, &one, err) :
		kf_fail(err, KF_ENOMEM, "no memory for the labels to fit weights to");
	if (rc != KF_OK) {
		kf_free(one.domain);
		kf_free(one.ce);
	}
	return rc;
}

/* By domain, then in the order of the input, whatever thread or shard they came from: sums are the same. */
static int by_domain(const void *a, const void *b)
{
	const sample *x = a, *y = b;
	int d = strcmp(x->domain, y->domain);

	return d ? d : (x->doc > y->doc) - (x->doc < y->doc);
}

typedef struct {
	json_t *weights, *advantage, *facts;    /* objects: all, domains, fit */
} parts;

/* Fit to documents [from, to) of the sorted list: its weights, advantage and facts. */
static kf_status fit_part(const samples *s, size_t from, size_t to, const kf_fuse_inputs *in, json_t **weights,
	json_t **advantage, json_t **facts, kf_err *err)
{
	size_t m = (size_t)in->models, n = 0, at = 0;
	double w[KF_FUSE_MODELS], c[KF_FUSE_MODELS], model_ce[KF_FUSE_MODELS] = { 0 };
	double bytes = 0, target = 0, equal = 0, fused = 0, gap;
	json_t *models = json_object();
	float *ce;
	kf_status rc;

	*weights = json_object();
	*advantage = *facts = NULL;
	for (size_t i = from; i < to; i++) n += (size_t)s->item[i].tokens;
	if (!(ce = kf_alloc(n * m, sizeof *ce))) {
		rc = kf_fail(err, KF_ENOMEM, "no memory to fit weights to %zu labels", n);
		goto out;
	}
	for (size_t i = from; i < to; i++) {
		const sample *one = &s->item[i];

		memcpy(ce + at * m, one->ce, (size_t)one->tokens * m * sizeof *ce);
		at += (size_t)one->tokens;
		bytes += one->bytes;
		target += one->target_ce;
		equal += one->equal_ce;
		for (size_t j = 0; j < m; j++) model_ce[j] += one->model_ce[j];
	}
	if ((rc = kf_fuse_fit(ce, n, (int)m, w, &gap, err)) != KF_OK) goto out;
	for (size_t a = 0; a < n; a++) {
		for (size_t j = 0; j < m; j++) c[j] = (double)ce[a * m + j];
		fused += kf_fuse_mixture_ce(c, w, (int)m);
	}
	rc = kf_fail(err, KF_ENOMEM, "no memory for fitted weights (or a model's name is no UTF-8)");
	for (size_t j = 0; j < m; j++)
		if (json_object_set_new(*weights, in->names[j], json_real(w[j])) != 0 ||
		    json_object_set_new(models, in->names[j], json_pack("{s:f}", "ce_byte", model_ce[j] / bytes)) != 0)
			goto out;
	*advantage = json_real(target > 0 ? 1 - fused / target : 0);
	*facts = json_pack("{s:I,s:I,s:I,s:f,s:f,s:f,s:f,s:O}", "documents", (json_int_t)(to - from), "tokens",
		(json_int_t)n, "bytes", (json_int_t)bytes, "target_ce_byte", target / bytes, "fused_ce_byte", fused / bytes,
		"equal_ce_byte", equal / bytes, "gap_nats", gap, "models", models);
	if (*advantage && *facts) rc = KF_OK;
out:
	kf_free(ce);
	json_decref(models);
	return rc;
}

/* Put a part's three things where the file has them; takes them whatever happens. */
static bool put(const parts *to, const char *key, json_t *weights, json_t *advantage, json_t *facts)
{
	bool ok = json_object_set_new(to->weights, key, weights) == 0;

	ok &= json_object_set_new(to->advantage, key, advantage) == 0;
	return (json_object_set_new(to->facts, key, facts) == 0) & ok;
}

static kf_status fit_all(samples *s, const kf_fuse_inputs *in, kf_fp corpus, const char *program, json_t **out,
	kf_err *err)
{
	parts all = { json_object(), json_object(), json_object() };
	parts domains = { json_object(), json_object(), json_object() };
	json_t *w, *a, *f, *models = json_array();
	char hex[KF_FP_HEX];
	kf_status rc = KF_OK;
	bool ok;

	*out = all.weights;
	qsort(s->item, s->n, sizeof *s->item, by_domain);
	for (size_t i = 0, j; rc == KF_OK && i < s->n; i = j) {
		for (j = i + 1; j < s->n && strcmp(s->item[j].domain, s->item[i].domain) == 0;) j++;
		rc = fit_part(s, i, j, in, &w, &a, &f, err);
		if (!put(&domains, s->item[i].domain, w, a, f) && rc == KF_OK)
			rc = kf_fail(err, KF_ENOMEM, "no memory for fitted weights");
	}
	if (rc == KF_OK) {
		rc = fit_part(s, 0, s->n, in, &w, &a, &f, err);
		if (!put(&all, "all", w, a, f) && rc == KF_OK) rc = kf_fail(err, KF_ENOMEM, "no memory for fitted weights");
	}
	kf_fp_hex(corpus, hex);
	ok = put(&all, "domains", domains.weights, domains.advantage, domains.facts);
	for (int i = 0; i < in->models; i++) ok &= json_array_append_new(models, json_string(in->names[i])) == 0;
	ok &= json_object_set_new(all.facts, "corpus", json_string(hex)) == 0;
	ok &= json_object_set_new(all.facts, "program", json_string(program)) == 0;
	ok &= json_object_set_new(all.facts, "version", json_string(KF_VERSION)) == 0;
	ok &= json_object_set_new(all.facts, "models", models) == 0;
	ok &= json_object_set_new(all.weights, "advantage", all.advantage) == 0;
	ok &= json_object_set_new(all.weights, "fit", all.facts) == 0;
	if (rc == KF_OK && !ok) rc = kf_fail(err, KF_ENOMEM, "no memory for fitted weights");
	return rc;
}

kf_status kf_fuse_fit_run(const kf_fuse_opts *o, kf_pool *pool, json_t **out, kf_err *err)
{
	samples s = { .o = o, .lock = PTHREAD_MUTEX_INITIALIZER };
	kf_fuse_inputs in;
	kf_pass pass = { .in = in.set, .parts = 1, .label = "fit", .progress = o->progress, .doc = one_document,
		.arg = &s };
	kf_tally none = { .width = 1 };
	kf_fp corpus;
	bool whole;
	kf_status rc;

	*out = NULL;
	if ((rc = kf_fuse_inputs_open(&in, o->target, o->aligned, o->n_aligned, o->how.with_target, err)) != KF_OK)
		goto out;
	if ((rc = kf_fuse_inputs_by_name(&in, err)) != KF_OK || (rc = kf_set_input_fp(in.set[0], "corpus", &corpus, err)) != KF_OK) goto out;
	pass.n_in = in.n;
	if ((rc = kf_pass_run(&pass, pool, &none, &whole, err)) != KF_OK) goto out;
	if (s.n == 0) {
		rc = kf_fail(err, KF_EDATA,
			"%s has no label that every model has a cross-entropy of: there is nothing to fit weights to",
			o->target);
		goto out;
	}
	rc = fit_all(&s, &in, corpus, o->program, out, err);
out:
	if (rc != KF_OK) {
		json_decref(*out);
		*out = NULL;
	}
	for (size_t i = 0; i < s.n; i++) {
		kf_free(s.item[i].domain);
		kf_free(s.item[i].ce);
	}
	kf_free(s.item);
	kf_tally_release(&none);
	kf_fuse_inputs_close(&in);
	return rc;
}
