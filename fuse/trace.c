/* Who taught what: some documents of a fusion, position by position. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/file.h"
#include "common/base/stop.h"
#include "common/store/json.h"
#include "common/text/tokenizer.h"
#include "fuse/bag.h"
#include "fuse/fuse.h"
#include "fuse/inputs.h"

typedef struct {
	kf_fuse_opts o;
	kf_fuse_inputs in;
	kf_fuse_table table;
	kf_tokenizer *tokenizer;
	kf_arena arena;
	FILE *out;
	kf_err *err;
} tracer;

/* A document and all that was said about it. */
typedef struct {
	kf_logits_rec t;
	kf_dist_rec aligned[KF_FUSE_MODELS], fused;
	double *share;             /* (n + 1, models) */
	kf_bag bag;                /* one model's distribution at a time */
	int32_t *ids;              /* (its fullest) */
} traced;

/* A candidate: the fused probability, and every model's; NAN where it is none of its candidates. */
typedef struct {
	int32_t id;
	double fused, q[KF_FUSE_MODELS];
} candidate;

#define MOST (KF_FUSE_TRACE_BEST + KF_FUSE_MODELS + 1)

/* ---- tokens as text ---- */

/* A token's bytes; of one that has none, its name in the vocabulary. */
static const uint8_t *spelling(const tracer *j, int32_t id, size_t *n)
{
	uint32_t bytes = 0;
	const uint8_t *b = NULL;

	*n = 0;
	if (id < 0 || id >= kf_tokenizer_size(j->tokenizer)) return (const uint8_t *)"";
	b = kf_tokenizer_bytes(j->tokenizer, id, &bytes);
	if ((*n = bytes)) return b;
	b = (const uint8_t *)kf_tokenizer_piece(j->tokenizer, id);
	*n = strlen((const char *)b);
	return b;
}

/* text and cut. Offsets are moved from the tokens' bytes to those of the string that is written. */
static kf_status put_text(tracer *j, const kf_logits_rec *t)
{
	uint32_t *cut = KF_ARENA_NEW(&j->arena, uint32_t, (size_t)t->n + 1), p = 0;
	kf_buf text = { 0 };
	size_t n, at = 0, to = 0;
	kf_status rc;

	if (!cut) return kf_fail(j->err, KF_ENOMEM, "no memory for the text of %u tokens", t->n);
	for (uint32_t i = 0; i < t->n; i++) {
		const uint8_t *b = spelling(j, t->tokens[i], &n);

		cut[i] = (uint32_t)text.len;
		kf_buf_put(&text, b, n);
		if (text.len > INT32_MAX / 4) break;
	}
	if ((rc = kf_buf_check(&text, j->err)) != KF_OK) goto out;
	if (text.len > INT32_MAX / 4) {
		rc = kf_fail(j->err, KF_EUNSUPPORTED, "document %llu is too long to trace", (unsigned long long)t->head.doc);
		goto out;
	}
	cut[t->n] = (uint32_t)text.len;
	fputs(",\"text\":", j->out);
	kf_json_string(j->out, text.data, text.len);
	while (p <= t->n) {
		size_t len = at < text.len ? kf_json_char(text.data + at, text.len - at) : 1;
		size_t end = at + (len ? len : 1);

		if (cut[p] <= at) {
			cut[p++] = (uint32_t)to;
			continue;
		}
		to += len ? len : 3;
		for (; p <= t->n && cut[p] < end; p++) cut[p] = (uint32_t)to;
		at = end;
	}
	fputs(",\"cut\":[", j->out);
	for (p = 0; p <= t->n; p++) fprintf(j->out, p ? ",%u" : "%u", cut[p]);
	putc(']', j->out);
out:
	kf_buf_release(&text);
	return rc;
}

/* ---- a position ---- */

/* A model's distribution as it was mixed, into the bag. */
static void take(const tracer *j, traced *d, int i, uint32_t p, uint32_t stamp)
{
	bool own = j->o.how.with_target;

	kf_bag_begin(&d->bag, stamp, d->ids);
	if (own && i == 0) {
		if (kf_predicted(&d->t, p)) kf_bag_add_own(&d->bag, &d->t, p, 1, j->o.how.tails == KF_FUSE_TAIL_RENORMALIZE);
	} else kf_bag_add_aligned(&d->bag, &d->aligned[i - own], p, 1, j->o.how.tails == KF_FUSE_TAIL_RENORMALIZE);
}

static int want(candidate *c, int n, int32_t id)
{
	for (int k = 0; k < n; k++)
		if (c[k].id == id) return n;
	c[n].id = id;
	c[n].fused = 0;
	for (int i = 0; i < KF_FUSE_MODELS; i++) c[n].q[i] = NAN;
	return n + 1;
}

static int by_fused(const void *a, const void *b)
{
	const candidate *x = a, *y = b;

	if (x->fused != y->fused) return x->fused < y->fused ? 1 : -1;
	return (x->id > y->id) - (x->id < y->id);
}

/* The candidates worth telling, the likeliest first. */
static int choose(const tracer *j, traced *d, uint32_t p, candidate *c)
{
	const kf_dist_rec *f = &d->fused;
	int n = 0, m = j->in.models;

	for (uint32_t k = f->off[p]; k < f->off[p + 1] && n < KF_FUSE_TRACE_BEST; k++) n = want(c, n, f->ids[k]);
	n = want(c, n, d->t.tokens[p]);
	for (int twice = 0; twice < 2; twice++) {       /* which, then what each model gives them */
		for (int i = 0; i < m; i++) {
			uint32_t best = 0;

			take(j, d, i, p, p * 2 * (uint32_t)m + (uint32_t)(twice * m + i));
			for (uint32_t k = 0; k < d->bag.n; k++) {
				if (d->bag.q[k] > d->bag.q[best]) best = k;
				for (int x = 0; twice && x < n; x++)
					if (c[x].id == d->bag.id[k]) c[x].q[i] = (double)d->bag.q[k];
			}
			if (!twice && d->bag.n) n = want(c, n, d->bag.id[best]);
		}
	}
	for (uint32_t k = f->off[p]; k < f->off[p + 1]; k++)
		for (int x = 0; x < n; x++)
			if (c[x].id == f->ids[k]) c[x].fused = exp((double)f->lp[k]);
	qsort(c, (size_t)n, sizeof *c, by_fused);
	return n;
}

static void put_number(FILE *out, double v)
{
	if (isnan(v)) fputs("null", out);
	else fprintf(out, "%.4g", v);
}

static void put_weights(const tracer *j, const traced *d)
{
	int m = j->in.models;

	fputs(",\"weights\":[", j->out);
	for (uint32_t p = 0; p < d->t.n; p++) {
		if (p) putc(',', j->out);
		if (d->fused.off[p] == d->fused.off[p + 1]) {
			fputs("null", j->out);
			continue;
		}
		for (int i = 0; i < m; i++) {
			putc(i ? ',' : '[', j->out);
			put_number(j->out, d->share[(size_t)p * (size_t)m + (size_t)i]);
		}
		putc(']', j->out);
	}
	putc(']', j->out);
}

static void put_candidates(const tracer *j, traced *d, int32_t *label)
{
	candidate c[MOST];
	size_t bytes;

	fputs(",\"candidates\":[", j->out);
	for (uint32_t p = 0; p < d->t.n; p++) {
		int n = d->fused.off[p] == d->fused.off[p + 1] ? 0 : choose(j, d, p, c);

		label[p] = -1;
		fputs(p ? ",[" : "[", j->out);
		for (int k = 0; k < n; k++) {
			const uint8_t *b = spelling(j, c[k].id, &bytes);

			if (c[k].id == d->t.tokens[p]) label[p] = k;
			fputs(k ? ",[" : "[", j->out);
			kf_json_string(j->out, b, bytes);
			putc(',', j->out);
			put_number(j->out, c[k].fused);
			for (int i = 0; i < j->in.models; i++) {
				putc(',', j->out);
				put_number(j->out, c[k].q[i]);
			}
			putc(']', j->out);
		}
		putc(']', j->out);
	}
	putc(']', j->out);
}

/* ---- a document ---- */

static void put_head(const tracer *j, const kf_dochead *h)
{
	static const char *const FUNCTION[] = { "min-ce", "avg-ce", "document", "domain", "dynamic" };

	fprintf(j->out, "{\"doc\":%llu,\"id\":", (unsigned long long)h->doc);
	kf_json_string(j->out, (const uint8_t *)h->id, strlen(h->id));
	fprintf(j->out, ",\"piece\":%u,\"domain\":", h->piece);
	kf_json_string(j->out, (const uint8_t *)h->domain, strlen(h->domain));
	fprintf(j->out, ",\"function\":\"%s\",\"models\":[", FUNCTION[j->o.how.function]);
	for (int i = 0; i < j->in.models; i++) {
		if (i) putc(',', j->out);
		kf_json_string(j->out, (const uint8_t *)j->in.names[i], strlen(j->in.names[i]));
	}
	putc(']', j->out);
}

/* The most candidates that one model has at one position. */
static uint32_t widest(const traced *d, int n_aligned)
{
	uint32_t most = 0;

	for (uint32_t p = 0; p <= d->t.n; p++) {
		uint32_t own = 1 + d->t.k + (d->t.has_path ? d->t.extra_off[p + 1] - d->t.extra_off[p] : 0);

		if (own > most) most = own;
		for (int i = 0; i < n_aligned; i++) {
			own = d->aligned[i].off[p + 1] - d->aligned[i].off[p];
			if (own > most) most = own;
		}
	}
	return most;
}

/* The document that every shard stands before. */
static kf_status trace_doc(tracer *j, kf_shard *const *shard)
{
	traced d;
	kf_fuse_tally tally;
	int32_t *label;
	uint32_t wide;
	kf_status rc;

	kf_arena_reset(&j->arena);
	if ((rc = kf_shard_next_logits(shard[0], &j->arena, &d.t, j->err)) != KF_OK) return rc;
	for (int i = 0; i < j->o.n_aligned; i++)
		if ((rc = kf_shard_next_dist(shard[1 + i], &j->arena, &d.aligned[i], j->err)) != KF_OK) return rc;
	wide = widest(&d, j->o.n_aligned);
	if (d.t.n > UINT32_MAX / 2 / KF_FUSE_MODELS - 1)
		return kf_fail(j->err, KF_EUNSUPPORTED, "document %llu is too long to trace", (unsigned long long)d.t.head.doc);
	d.share = KF_ARENA_NEW(&j->arena, double, ((size_t)d.t.n + 1) * (size_t)j->in.models);
	d.ids = KF_ARENA_NEW(&j->arena, int32_t, (size_t)wide + 1);
	label = KF_ARENA_NEW(&j->arena, int32_t, (size_t)d.t.n + 1);
	if (!d.share || !d.ids || !label || !kf_bag_init(&d.bag, wide, &j->arena))
		return kf_fail(j->err, KF_ENOMEM, "no memory to trace a document of %u tokens", d.t.n);
	if ((rc = kf_fuse_doc_shares(&j->o.how, &d.t, d.aligned, j->o.n_aligned, &j->arena, &d.fused, &tally, d.share,
	     j->err)) != KF_OK)
		return rc;

	put_head(j, &d.t.head);
	if ((rc = put_text(j, &d.t)) != KF_OK) return rc;
	if (d.t.context) {
		fputs(",\"context\":[", j->out);
		for (uint32_t p = 0; p < d.t.n; p++) fprintf(j->out, p ? ",%d" : "%d", d.t.context[p]);
		putc(']', j->out);
	}
	if (d.fused.weight) {
		fputs(",\"fusion\":[", j->out);
		for (uint32_t p = 0; p < d.t.n; p++) {
			if (p) putc(',', j->out);
			put_number(j->out, (double)d.fused.weight[p]);
		}
		putc(']', j->out);
	}
	put_weights(j, &d);
	put_candidates(j, &d, label);
	fputs(",\"label\":[", j->out);
	for (uint32_t p = 0; p < d.t.n; p++) fprintf(j->out, p ? ",%d" : "%d", label[p]);
	fputs("]}\n", j->out);
	return KF_OK;
}

/* ---- which documents ---- */

/* Trace document `doc` of shard s, or, where seen is given, the first of each domain that is not among seen. */
static kf_status trace_shard(tracer *j, int s, const uint64_t *doc, json_t *seen, size_t domains, bool *found)
{
	kf_shard *shard[KF_FUSE_MODELS] = { NULL };
	kf_logits_rec head;
	kf_status rc = KF_OK;

	for (int i = 0; i < j->in.n; i++)
		if ((rc = kf_shard_open(j->in.set[i], s, &shard[i], j->err)) != KF_OK) goto out;
	if (doc) {
		for (int i = 0; i < j->in.n && rc == KF_OK; i++) rc = kf_shard_find(shard[i], *doc, j->err);
		*found = rc == KF_OK;
		if (rc == KF_ENOTFOUND) rc = KF_OK;
		else if (rc == KF_OK) rc = trace_doc(j, shard);
		goto out;
	}
	for (uint64_t at = 0; at < kf_shard_docs(shard[0]) && (!domains || json_object_size(seen) < domains); at++) {
		kf_arena_reset(&j->arena);
		if ((rc = kf_stop_check(j->err)) != KF_OK || (rc = kf_shard_seek(shard[0], at, j->err)) != KF_OK) goto out;
		if ((rc = kf_shard_next_tokens(shard[0], &j->arena, &head, j->err)) != KF_OK) goto out;
		if (json_object_get(seen, head.head.domain)) continue;
		if (json_object_set_new(seen, head.head.domain, json_true()) != 0) {
			rc = kf_fail(j->err, KF_ENOMEM, "no memory for a domain's name (or it is no UTF-8)");
			goto out;
		}
		for (int i = 0; i < j->in.n; i++)
			if ((rc = kf_shard_seek(shard[i], at, j->err)) != KF_OK) goto out;
		if ((rc = trace_doc(j, shard)) != KF_OK) goto out;
	}
out:
	for (int i = 0; i < j->in.n; i++) kf_shard_close(shard[i]);
	return rc;
}

/* How many domains there are by the statistics, 0 where long names may have been cut and made one (tally.h). */
static size_t domains_known(const json_t *domains)
{
	const char *name;
	json_t *v;

	json_object_foreach((json_t *)(uintptr_t)domains, name, v)
		if (strlen(name) >= 60) return 0;
	return json_object_size(domains);
}

/* domains: how many there are, 0: unknown, so that all documents are looked at. */
static kf_status trace_all(tracer *j, const uint64_t *docs, int n_docs, size_t domains)
{
	int shards = kf_set_shards(j->in.set[0]);
	json_t *seen;
	kf_status rc = KF_OK;

	for (int d = 0; d < n_docs; d++) {
		bool found = false;

		for (int s = 0; s < shards && !found; s++)
			if ((rc = trace_shard(j, s, &docs[d], NULL, 0, &found)) != KF_OK) return rc;
		if (!found)
			return kf_fail(j->err, KF_ENOTFOUND, "%s has no document %llu", j->o.target, (unsigned long long)docs[d]);
	}
	if (n_docs) return KF_OK;
	if (!(seen = json_object())) return kf_fail(j->err, KF_ENOMEM, "no memory for the domains");
	for (int s = 0; s < shards && rc == KF_OK; s++) rc = trace_shard(j, s, NULL, seen, domains, NULL);
	json_decref(seen);
	return rc;
}

kf_status kf_fuse_trace(const kf_fuse_opts *o, const char *path, const uint64_t *docs, int n_docs, kf_err *err)
{
	tracer j = { .o = *o, .err = err };
	kf_outfile file = { .f = NULL };
	kf_set *out = NULL;
	const json_t *stats;
	const void *data;
	size_t n, domains;
	kf_status rc;

	kf_arena_init(&j.arena);
	if ((rc = kf_set_open(o->out, KF_SET_TARGETS, &out, err)) != KF_OK) goto out;
	stats = json_object_get(kf_set_manifest(out), "stats");
	domains = domains_known(json_object_get(stats, "domains"));
	if ((rc = kf_fuse_inputs_open(&j.in, o->target, o->aligned, o->n_aligned, o->how.with_target, err)) != KF_OK) goto out;
	if (o->weights) {
		if ((rc = kf_fuse_table_read(o->weights, j.in.names, j.in.models, &j.table, err)) != KF_OK) goto out;
		j.o.how.table = &j.table;
	}
	if ((rc = kf_set_tokenizer(j.in.set[0], &data, &n, err)) != KF_OK) goto out;
	if ((rc = kf_context(err, kf_tokenizer_load(data, n, &j.tokenizer, err), "%s: its tokenizer", o->target)) != KF_OK) goto out;
	if ((rc = kf_outfile_open(&file, path, err)) != KF_OK) goto out;
	j.out = file.f;
	if ((rc = trace_all(&j, docs, n_docs, domains)) == KF_OK) rc = kf_outfile_commit(&file, err);
	else kf_outfile_abandon(&file);
out:
	kf_tokenizer_free(j.tokenizer);
	kf_fuse_table_release(&j.table);
	kf_fuse_inputs_close(&j.in);
	kf_arena_release(&j.arena);
	kf_set_close(out);
	return rc;
}
