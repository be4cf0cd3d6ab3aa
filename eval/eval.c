#include "eval/eval.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/progress.h"
#include "eval/run.h"
#include "eval/scores.h"

/* What a walk over a model's documents is for. */
typedef struct {
	kf_eval_result *r;
	int m;
	size_t at;                 /* document in hand */
	bool moved;                /* where the comparison of some document begins */
	double *nats, *tokens;     /* (n_domains) of the model's own tokens; NULL while coverage is found */
	kf_progress *progress;
} walk;

static const char *model_path(const walk *w) { return w->r->o->model[w->m].path; }

/* ---- documents ---- */

static kf_status find_domain(kf_eval_result *r, const char *name, int *out, kf_err *err)
{
	char **grown;

	/* The newest first: documents of a domain mostly follow one another. */
	for (int i = r->n_domains - 1; i >= 0; i--)
		if (strcmp(r->domain[i], name) == 0) {
			*out = i;
			return KF_OK;
		}
	if (strcmp(name, "mean") == 0 || strcmp(name, "all") == 0)
		return kf_fail(err, KF_EINVAL,
			"a domain is called \"%s\", which the report calls the %s domains; rename it", name, name[0] == 'm' ? "mean over" : "sum of all");
	if (!(grown = realloc(r->domain, ((size_t)r->n_domains + 1) * sizeof *grown)))
		return kf_fail(err, KF_ENOMEM, "out of memory");
	r->domain = grown;
	if (!(r->domain[r->n_domains] = kf_strdup(name))) return kf_fail(err, KF_ENOMEM, "out of memory");
	*out = r->n_domains++;
	return KF_OK;
}

static kf_status add_doc(void *arg, const kf_dochead *head, kf_err *err)
{
	kf_eval_result *r = arg;
	const kf_fp id = kf_fp_of(head->id, strlen(head->id));
	kf_eval_doc *d = NULL;
	kf_status rc;
	int domain = 0;

	if (r->n_docs == r->cap_docs) {
		size_t cap = r->cap_docs ? r->cap_docs * 2 : 1024;

		if (!(d = realloc(r->doc, cap * sizeof *d)))
			return kf_fail(err, KF_ENOMEM, "out of memory for %zu documents", cap);
		r->doc = d;
		r->cap_docs = cap;
	}
	if ((rc = find_domain(r, head->domain, &domain, err)) != KF_OK) return rc;
	d = &r->doc[r->n_docs++];
	if (r->n_docs == 1 || head->piece <= r->last_piece || d[-1].domain != domain || !kf_fp_equal(id, r->last_id)) r->n_texts++;
	r->last_id = id;
	r->last_piece = head->piece;
	d->text = r->n_texts - 1;
	d->doc = head->doc;
	d->domain = domain;
	d->bytes = head->bytes;
	d->x0 = d->compared = 0;
	return KF_OK;
}

static kf_status same_doc(walk *w, const kf_dochead *head, kf_eval_doc **out, kf_err *err)
{
	kf_eval_doc *d = w->at < w->r->n_docs ? &w->r->doc[w->at] : NULL;

	if (!d || d->doc != head->doc || d->bytes != head->bytes)
		return kf_fail(err, KF_EMISMATCH,
			"%s: document %llu of %u bytes is not what the others have in its place",
			model_path(w), (unsigned long long)head->doc, head->bytes);
	w->at++;
	*out = d;
	return KF_OK;
}

static kf_status all_there(const walk *w, kf_err *err)
{
	if (w->at == w->r->n_docs) return KF_OK;
	return kf_fail(err, KF_EMISMATCH, "%s has %zu documents, the others have %zu", model_path(w), w->at,
		w->r->n_docs);
}

static kf_status cover_doc(void *arg, const kf_dochead *head, const kf_eval_cover *cover, kf_err *err)
{
	walk *w = arg;
	kf_eval_doc *d = NULL;
	kf_status rc = same_doc(w, head, &d, err);
	uint32_t x0;

	if (rc != KF_OK) return rc;
	x0 = d->x0;
	if (cover->first > d->x0) x0 = cover->first;
	for (size_t i = 0; i < cover->n_cuts; i++) {
		if (cover->cuts[i] < x0) continue;
		x0 = cover->cuts[i];
		break;
	}
	w->moved = w->moved || x0 != d->x0;
	d->x0 = x0;
	return KF_OK;
}

/* Bytes of a document that are compared: those that the models before had. */
static kf_status set_compared(const walk *w, kf_eval_doc *d, uint32_t compared, kf_err *err)
{
	if (w->m > 0 && compared != d->compared)
		return kf_fail(err, KF_EMISMATCH, "%s: of document %llu it predicts %u bytes, other models %u: their chat templates differ in "
			"what they leave to the assistant", model_path(w), (unsigned long long)d->doc, compared, d->compared);
	d->compared = compared;
	return KF_OK;
}

static kf_status score_doc(void *arg, const kf_logits_rec *rec, kf_err *err)
{
	walk *w = arg;
	kf_eval_doc *d = NULL;
	double nats = 0;
	kf_status rc;

	if ((rc = same_doc(w, &rec->head, &d, err)) != KF_OK || (rc = set_compared(w, d, kf_eval_compared(rec, d->x0), err)) != KF_OK) return rc;
	if (d->x0 < d->bytes && (rc = kf_eval_span(rec, d->x0, &nats, err)) != KF_OK)
		return kf_context(err, rc, "%s", model_path(w));
	w->r->bits[w->m][w->at - 1] = nats / log(2);
	for (uint32_t i = 0; i < rec->n; i++) {
		if (!kf_eval_counts(rec, i)) continue;
		w->nats[d->domain] += (double)rec->ce[i];
		w->tokens[d->domain]++;
	}
	kf_progress_add(w->progress, 1);
	return KF_OK;
}

static double *new_doubles(size_t n)
{
	return kf_zalloc(n, sizeof(double));
}

/* ---- scores that are kept ---- */

/* What they depend on: the model, the text, and where the comparison begins. */
static kf_status scores_of(const walk *w, json_t **of, kf_err *err)
{
	const kf_eval_result *r = w->r;
	uint32_t *x0 = kf_alloc(r->n_docs, sizeof *x0);
	kf_status rc;

	*of = NULL;
	if (!x0) return kf_fail(err, KF_ENOMEM, "out of memory for %zu documents", r->n_docs);
	for (size_t i = 0; i < r->n_docs; i++) x0[i] = r->doc[i].x0;
	if ((rc = kf_eval_run_of(r->o, w->m, of, err)) == KF_OK)
		rc = kf_scores_add_fp(*of, "from", kf_fp_of(x0, r->n_docs * sizeof *x0), err);
	kf_free(x0);
	return rc;
}

static bool whole(double v) { return v >= 0 && v <= UINT32_MAX && v == floor(v); }

/* *taken: false, and nothing that counts, where they are not there. */
static kf_status take_scores(walk *w, const json_t *of, bool *taken, kf_err *err)
{
	kf_eval_result *r = w->r;
	const size_t domains = (size_t)r->n_domains;
	json_t *scores = kf_scores_find(r->o->scores, of);
	double *compared = new_doubles(r->n_docs);
	kf_status rc = KF_OK;
	bool ok = scores && compared && kf_scores_take(scores, "compared", compared, r->n_docs) && kf_scores_take(scores, "bits", r->bits[w->m], r->n_docs) &&
		kf_scores_take(scores, "nats", w->nats, domains) && kf_scores_take(scores, "tokens", w->tokens, domains);

	for (size_t i = 0; i < r->n_docs && ok; i++) ok = whole(compared[i]);
	for (size_t i = 0; i < r->n_docs && ok && rc == KF_OK; i++) rc = set_compared(w, &r->doc[i], (uint32_t)compared[i], err);
	if ((*taken = ok)) {
		kf_progress_skip(w->progress, (double)r->n_docs);
	} else {
		memset(w->nats, 0, domains * sizeof *w->nats);
		memset(w->tokens, 0, domains * sizeof *w->tokens);
	}
	json_decref(scores);
	kf_free(compared);
	return rc;
}

static kf_status keep_scores(const walk *w, const json_t *of, kf_err *err)
{
	const kf_eval_result *r = w->r;
	const size_t domains = (size_t)r->n_domains;
	double *compared = new_doubles(r->n_docs);
	json_t *scores = json_object();
	kf_status rc;

	for (size_t i = 0; i < r->n_docs && compared; i++) compared[i] = r->doc[i].compared;
	rc = compared && kf_scores_put(scores, "compared", compared, r->n_docs) && kf_scores_put(scores, "bits", r->bits[w->m], r->n_docs) &&
		kf_scores_put(scores, "nats", w->nats, domains) && kf_scores_put(scores, "tokens", w->tokens, domains) ?
		kf_scores_keep(r->o->scores, of, scores, err) : kf_fail(err, KF_ENOMEM, "out of memory for the scores of %zu documents", r->n_docs);
	json_decref(scores);
	kf_free(compared);
	return rc;
}

/* ---- sums ---- */

static kf_status allocate(kf_eval_result *r, kf_err *err)
{
	size_t d = (size_t)r->n_domains + 1;
	bool ok = (r->docs = new_doubles(d)) && (r->bytes = new_doubles(d)) && (r->texts = new_doubles(d));

	for (int m = 0; ok && m < r->o->n_models; m++)
		ok = (r->bits[m] = new_doubles(r->n_docs)) && (r->bpb[m] = new_doubles(d)) &&
			(r->ppl[m] = new_doubles(d + 1)) && (r->interval[m] = kf_zalloc(d, sizeof **r->interval));
	for (int c = 0; ok && c < r->o->n_compare; c++)
		ok = (r->diff[c] = kf_zalloc(d, sizeof **r->diff)) != NULL;
	return ok ? KF_OK : kf_fail(err, KF_ENOMEM, "out of memory for the values of %zu documents", r->n_docs);
}

static kf_status sum_up(kf_eval_result *r, kf_err *err)
{
	size_t last = SIZE_MAX;
	int with_bytes = 0;

	for (size_t i = 0; i < r->n_docs; i++) {
		const kf_eval_doc *d = &r->doc[i];

		if (!d->compared) continue; /* nothing that every model speaks of */
		r->docs[d->domain]++;
		r->texts[d->domain] += d->text != last;
		last = d->text;
		r->bytes[d->domain] += d->compared;
		for (int m = 0; m < r->o->n_models; m++) r->bpb[m][d->domain] += r->bits[m][i];
	}
	for (int i = 0; i < r->n_domains; i++) {
		r->docs[r->n_domains] += r->docs[i];
		r->texts[r->n_domains] += r->texts[i];
		r->bytes[r->n_domains] += r->bytes[i];
		with_bytes += r->bytes[i] > 0;
	}
	if (!with_bytes)
		return kf_fail(err, KF_EDATA, "no document has bytes that every model covers: the texts are a "
			"token long at most");
	for (int m = 0; m < r->o->n_models; m++) {
		for (int i = 0; i < r->n_domains; i++) {
			r->bpb[m][i] = r->bytes[i] > 0 ? r->bpb[m][i] / r->bytes[i] : NAN;
			if (r->bytes[i] > 0) r->bpb[m][r->n_domains] += r->bpb[m][i] / with_bytes;
		}
	}
	return KF_OK;
}

static kf_eval_interval interval(double estimate, double *resampled, bool known)
{
	kf_eval_interval v = { estimate, NAN, NAN };

	if (known) {
		v.low = kf_eval_quantile(resampled, KF_EVAL_RESAMPLES, 0.025);
		v.high = kf_eval_quantile(resampled, KF_EVAL_RESAMPLES, 0.975);
	}
	return v;
}

/* Model a's bits per byte, minus b's unless that is -1: out (n_domains + 1) by domain, and of the means over domains
 * (each domain resampled on its own). */
static kf_status resample(const kf_eval_result *r, int model_a, int model_b, kf_eval_interval *out, kf_err *err)
{
	const int n = KF_EVAL_RESAMPLES;
	double *a = new_doubles(r->n_docs), *b = new_doubles(r->n_docs), *bytes = new_doubles(r->n_docs);
	double *resampled = new_doubles((size_t)n), *mean = new_doubles((size_t)n), estimate = 0;
	int with_bytes = 0;
	bool known = true;
	kf_status rc = KF_OK;

	if (!a || !b || !bytes || !resampled || !mean) {
		rc = kf_fail(err, KF_ENOMEM, "out of memory for a bootstrap");
		goto out;
	}
	for (int i = 0; i < r->n_domains; i++) {
		size_t texts = 0, last = SIZE_MAX;
		double d;

		for (size_t j = 0; j < r->n_docs; j++) {
			const kf_eval_doc *doc = &r->doc[j];

			if (doc->domain != i || !doc->compared) continue;
			if (doc->text != last) {
				a[texts] = b[texts] = bytes[texts] = 0;
				last = doc->text;
				texts++;
			}
			a[texts - 1] += r->bits[model_a][j];
			b[texts - 1] += model_b < 0 ? 0 : r->bits[model_b][j];
			bytes[texts - 1] += doc->compared;
		}
		if (!texts) {
			out[i] = interval(NAN, NULL, false);
			continue;
		}
		d = kf_eval_difference(a, b, bytes, texts, r->o->seed, r->domain[i], resampled, n);
		for (int s = 0; s < n; s++) mean[s] += resampled[s];
		out[i] = interval(d, resampled, texts > 1);
		known = known && texts > 1;
		estimate += d;
		with_bytes++;
	}
	for (int s = 0; s < n; s++) mean[s] /= with_bytes;
	out[r->n_domains] = interval(estimate / with_bytes, mean, known);
out:
	kf_free(a);
	kf_free(b);
	kf_free(bytes);
	kf_free(resampled);
	kf_free(mean);
	return rc;
}

/* ---- the whole ---- */

/* Where the comparison of each document begins: where every model says something, and between two of every mixture's tokens. What
 * suits one mixture may not suit the one before it, so all are asked again until nothing moves: it only ever moves on, and
 * the end of a document suits all. */
static kf_status find_beginnings(kf_eval_result *r, kf_err *err)
{
	bool again = true;
	kf_status rc;

	for (int round = 0; again; round++) {
		int mixtures = 0;

		again = false;
		for (int m = 0; m < r->o->n_models; m++) {
			walk w = { .r = r, .m = m };

			if (round > 0 && r->o->model[m].kind != KF_EVAL_MIXTURE) continue;
			mixtures += r->o->model[m].kind == KF_EVAL_MIXTURE;
			if ((rc = kf_eval_covers(r->o, m, cover_doc, &w, err)) != KF_OK || (rc = all_there(&w, err)) != KF_OK) return rc;
			again = again || w.moved;
		}
		again = again && mixtures > 1;
	}
	return KF_OK;
}

static kf_status score_documents(walk *w, kf_err *err)
{
	kf_status rc = kf_eval_score(w->r->o, w->m, score_doc, w, err);

	return rc == KF_OK ? all_there(w, err) : rc;
}

/* By a model that is run, unless its scores are kept. */
static kf_status score_or_take(walk *w, kf_err *err)
{
	bool taken = false;
	json_t *of;
	kf_status rc;

	if (!w->r->o->scores || w->r->o->model[w->m].kind != KF_EVAL_RUN) return score_documents(w, err);
	if ((rc = scores_of(w, &of, err)) == KF_OK) rc = take_scores(w, of, &taken, err);
	if (rc == KF_OK && !taken && (rc = score_documents(w, err)) == KF_OK) rc = keep_scores(w, of, err);
	w->r->asked++;
	w->r->taken += taken;
	json_decref(of);
	return rc;
}

static kf_status score_model(kf_eval_result *r, int m, kf_progress *progress, kf_err *err)
{
	double nats = 0, tokens = 0, sum = 0;
	int with_tokens = 0;
	walk w = { .r = r, .m = m, .progress = progress };
	kf_status rc = KF_OK;

	if (!(w.nats = new_doubles((size_t)r->n_domains)) || !(w.tokens = new_doubles((size_t)r->n_domains))) {
		rc = kf_fail(err, KF_ENOMEM, "out of memory");
		goto out;
	}
	kf_progress_note(progress, "%s", r->o->model[m].name);
	if ((rc = score_or_take(&w, err)) != KF_OK) goto out;
	for (int i = 0; i < r->n_domains; i++) {
		r->ppl[m][i] = w.tokens[i] > 0 ? exp(w.nats[i] / w.tokens[i]) : NAN;
		if (!(w.tokens[i] > 0)) continue;
		nats += w.nats[i];
		tokens += w.tokens[i];
		sum += r->ppl[m][i];
		with_tokens++;
	}
	r->ppl[m][r->n_domains] = with_tokens ? sum / with_tokens : NAN;
	r->ppl[m][r->n_domains + 1] = tokens > 0 ? exp(nats / tokens) : NAN;
out:
	kf_free(w.nats);
	kf_free(w.tokens);
	return rc;
}

kf_status kf_eval(const kf_eval_opts *o, kf_eval_result *r, kf_err *err)
{
	kf_progress progress;
	kf_status rc;

	memset(r, 0, sizeof *r);
	r->o = o;
	if ((rc = kf_eval_check_sources(o, err)) != KF_OK) return rc;
	if ((rc = kf_eval_documents(o, add_doc, r, err)) != KF_OK) return rc;
	if (!r->n_docs)
		return kf_fail(err, KF_EDATA, "%s holds no documents", o->corpus ? o->corpus : o->model[0].path);
	if ((rc = find_beginnings(r, err)) != KF_OK) return rc;
	if ((rc = allocate(r, err)) != KF_OK) return rc;
	kf_progress_start(&progress, "evaluating", "documents", (double)r->n_docs * o->n_models, o->progress);
	for (int m = 0; m < o->n_models; m++)
		if ((rc = score_model(r, m, &progress, err)) != KF_OK) return rc;
	kf_progress_end(&progress);
	if ((rc = sum_up(r, err)) != KF_OK) return rc;
	for (int m = 0; m < o->n_models; m++)
		if ((rc = resample(r, m, -1, r->interval[m], err)) != KF_OK) return rc;
	for (int c = 0; c < o->n_compare; c++)
		if ((rc = resample(r, o->compare[c][0], o->compare[c][1], r->diff[c], err)) != KF_OK) return rc;
	return KF_OK;
}

void kf_eval_release(kf_eval_result *r)
{
	for (int i = 0; i < r->n_domains; i++) kf_free(r->domain[i]);
	free(r->domain);
	free(r->doc);
	kf_free(r->docs);
	kf_free(r->texts);
	kf_free(r->bytes);
	for (int m = 0; m < KF_EVAL_MODELS; m++) {
		kf_free(r->bits[m]);
		kf_free(r->bpb[m]);
		kf_free(r->interval[m]);
		kf_free(r->ppl[m]);
		kf_free(r->diff[m]);
	}
	memset(r, 0, sizeof *r);
}
