#include "eval/source.h"

#include <math.h>
#include <string.h>

#include "eval/run.h"

/* A mixture as if a model had said it: where it has no ce at first, nothing is covered. */
static void as_logits(const kf_dist_rec *d, kf_logits_rec *out)
{
	*out = (kf_logits_rec){ .head = d->head, .bos = d->bos, .n = d->n, .tokens = d->tokens, .start = d->start, .ce = d->ce,
		.context = d->context };
}

static kf_set_kind kind_of(const kf_eval_model *m)
{
	return m->kind == KF_EVAL_MIXTURE ? KF_SET_TARGETS : KF_SET_LOGITS;
}

/* Call one function or the other for every document of a set. */
static kf_status each(const char *dir, kf_set_kind kind,
	kf_status (*on_corpus)(void *, const kf_dochead *, kf_err *),
	kf_status (*on_logits)(void *, const kf_logits_rec *, kf_err *), void *arg, kf_err *err)
{
	kf_set *set = NULL;
	kf_shard *shard = NULL;
	kf_arena arena;
	kf_status rc;

	kf_arena_init(&arena);
	if ((rc = kf_set_open(dir, kind, &set, err)) != KF_OK || (rc = kf_set_whole(set, err)) != KF_OK) goto out;
	for (int s = 0; s < kf_set_shards(set); s++) {
		if ((rc = kf_shard_open(set, s, &shard, err)) != KF_OK) goto out;
		for (;;) {
			kf_arena_reset(&arena);
			if (kind == KF_SET_CORPUS) {
				kf_corpus_rec rec;

				if ((rc = kf_shard_next_corpus(shard, &arena, &rec, err)) == KF_OK)
					rc = on_corpus(arg, &rec.head, err);
			} else if (kind == KF_SET_TARGETS) {
				kf_dist_rec d;
				kf_logits_rec rec;

				if ((rc = kf_shard_next_dist(shard, &arena, &d, err)) == KF_OK) {
					as_logits(&d, &rec);
					rc = on_logits(arg, &rec, err);
				}
			} else {
				kf_logits_rec rec;

				if ((rc = kf_shard_next_logits(shard, &arena, &rec, err)) == KF_OK)
					rc = on_logits(arg, &rec, err);
			}
			if (rc == KF_END) break;
			if (rc != KF_OK) goto out;
		}
		kf_shard_close(shard);
		shard = NULL;
		rc = KF_OK;
	}
out:
	kf_shard_close(shard);
	kf_set_close(set);
	kf_arena_release(&arena);
	return rc;
}

/* What chose among models by the token to be predicted has predicted nothing. */
static kf_status check_foresight(const kf_set *set, kf_err *err)
{
	const char *hindsight = json_string_value(json_object_get(json_object_get(kf_set_manifest(set), "stats"), "hindsight"));

	if (!hindsight || strcmp(hindsight, "label") != 0) return KF_OK;
	return kf_fail(err, KF_EINVAL, "%s was fused token by token by what each model said of that very token, so it predicts "
		"nothing: fuse with --level sequence, or --function domain or dynamic", kf_set_dir(set));
}

kf_status kf_eval_check_sources(const kf_eval_opts *o, kf_err *err)
{
	const char *first = o->corpus;
	kf_fp corpus = { 0, 0 }, fp;
	kf_set *set = NULL;
	kf_status rc;

	if (o->corpus) {
		if ((rc = kf_set_open(o->corpus, KF_SET_CORPUS, &set, err)) != KF_OK) return rc;
		corpus = kf_set_fp(set);
		kf_set_close(set);
	}
	for (int m = 0; m < o->n_models; m++) {
		const kf_eval_model *model = &o->model[m];

		if (model->kind == KF_EVAL_RUN) {
			if (!o->corpus)
				return kf_fail(err, KF_EUSAGE, "--model %s needs --corpus: the text to run it on", model->path);
			continue;
		}
		if ((rc = kf_set_open(model->path, kind_of(model), &set, err)) != KF_OK) return rc;
		rc = kf_set_input_fp(set, "corpus", &fp, err);
		if (rc == KF_OK && model->kind == KF_EVAL_MIXTURE) rc = check_foresight(set, err);
		kf_set_close(set);
		if (rc != KF_OK) return rc;
		if (!first) {
			first = model->path;
			corpus = fp;
		}
		if (!kf_fp_equal(fp, corpus))
			return kf_fail(err, KF_EMISMATCH, "%s is of another corpus than %s%s", model->path,
				o->corpus ? "" : "that of ", first);
	}
	return KF_OK;
}

/* ---- documents ---- */

typedef struct {
	kf_status (*on_head)(void *arg, const kf_dochead *head, kf_err *err);
	kf_status (*on_cover)(void *arg, const kf_dochead *head, const kf_eval_cover *cover, kf_err *err);
	void *arg;
} relay;

static kf_status relay_head(void *arg, const kf_logits_rec *rec, kf_err *err)
{
	relay *r = arg;

	return r->on_head(r->arg, &rec->head, err);
}

static kf_status relay_cover(void *arg, const kf_logits_rec *rec, kf_err *err)
{
	relay *r = arg;
	const kf_eval_cover c = { .first = kf_eval_first_byte(rec) };

	return r->on_cover(r->arg, &rec->head, &c, err);
}

static kf_status relay_cuts(void *arg, const kf_logits_rec *rec, kf_err *err)
{
	relay *r = arg;
	uint32_t p = 0;

	if (rec->context) return relay_cover(arg, rec, err);
	while (p < rec->n && isnan(rec->ce[p])) p++;
	const kf_eval_cover c = { .first = rec->start[p], .cuts = rec->start + p, .n_cuts = rec->n + 1 - p };

	return r->on_cover(r->arg, &rec->head, &c, err);
}

kf_status kf_eval_documents(const kf_eval_opts *o,
	kf_status (*fn)(void *arg, const kf_dochead *head, kf_err *err), void *arg, kf_err *err)
{
	relay r = { .on_head = fn, .arg = arg };

	if (o->corpus) return each(o->corpus, KF_SET_CORPUS, fn, NULL, arg, err);
	return each(o->model[0].path, kind_of(&o->model[0]), NULL, relay_head, &r, err);
}

kf_status kf_eval_covers(const kf_eval_opts *o, int m,
	kf_status (*fn)(void *arg, const kf_dochead *head, const kf_eval_cover *cover, kf_err *err), void *arg, kf_err *err)
{
	const kf_eval_model *model = &o->model[m];
	relay r = { .on_cover = fn, .arg = arg };

	if (model->kind == KF_EVAL_RUN) return kf_eval_run_covers(o, m, fn, arg, err);
	return each(model->path, kind_of(model), NULL, model->kind == KF_EVAL_MIXTURE ? relay_cuts : relay_cover, &r, err);
}

kf_status kf_eval_score(const kf_eval_opts *o, int m,
	kf_status (*fn)(void *arg, const kf_logits_rec *rec, kf_err *err), void *arg, kf_err *err)
{
	if (o->model[m].kind == KF_EVAL_RUN) return kf_eval_run_score(o, m, fn, arg, err);
	return each(o->model[m].path, kind_of(&o->model[m]), NULL, fn, arg, err);
}
