/* Files of weights by domain. */
#include "fuse/weights.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/base/record.h"

#define FILE_MAX (16u << 20)

void kf_fuse_table_release(kf_fuse_table *t)
{
	for (int i = 0; i < t->n; i++) kf_free(t->item[i].domain);
	kf_free(t->item);
	memset(t, 0, sizeof *t);
}

static kf_fuse_entry *find(const kf_fuse_table *t, const char *domain)
{
	for (int i = 0; i < t->n; i++) {
		const char *d = t->item[i].domain;

		if (domain ? d && strcmp(d, domain) == 0 : !d) return &t->item[i];
	}
	return NULL;
}

static kf_fuse_entry *find_or_add(kf_fuse_table *t, const char *domain)
{
	kf_fuse_entry *e = find(t, domain);

	if (e) return e;
	if (t->n == t->cap) {
		int cap = t->cap ? 2 * t->cap : 8;
		kf_fuse_entry *item = kf_zalloc((size_t)cap, sizeof *item);

		if (!item) return NULL;
		if (t->n) memcpy(item, t->item, (size_t)t->n * sizeof *item);
		kf_free(t->item);
		t->item = item;
		t->cap = cap;
	}
	e = &t->item[t->n];
	if (domain && !(e->domain = kf_strdup(domain))) return NULL;
	t->n++;
	return e;
}

const double *kf_fuse_table_weights(const kf_fuse_table *t, const char *domain)
{
	const kf_fuse_entry *e = find(t, domain);

	if (!e || !e->has_w) e = find(t, NULL);
	return e && e->has_w ? e->w : NULL;
}

const double *kf_fuse_table_advantage(const kf_fuse_table *t, const char *domain)
{
	const kf_fuse_entry *e = find(t, domain);

	if (!e || !e->has_advantage) e = find(t, NULL);
	return e && e->has_advantage ? &e->advantage : NULL;
}

/* ---- reading ---- */

typedef struct {
	const char *path;
	const char *const *names;
	int m;
	kf_fuse_table *t;
	kf_err *err;
} reader;

static kf_status read_weights(reader *r, const char *domain, const json_t *o)
{
	const char *where = domain ? domain : "all", *key;
	kf_fuse_entry *e;
	json_t *v;
	double sum = 0;

	if (!json_is_object(o))
		return kf_fail(r->err, KF_EDATA, "%s: the weights of \"%s\" are no object {MODEL: weight}", r->path, where);
	json_object_foreach((json_t *)o, key, v) {
		double x = json_number_value(v);
		int i = 0;

		if (!json_is_number(v) || !isfinite(x) || x < 0 || x > 1)
			return kf_fail(r->err, KF_EDATA,
				"%s: \"%s\": the weight of %s is no number between 0 and 1", r->path, where, key);
		while (i < r->m && strcmp(r->names[i], key) != 0) i++;
		if (i == r->m)
			return kf_fail(r->err, KF_EMISMATCH,
				"%s: \"%s\" has a weight for %s, which is none of the models to be fused: fit weights to these",
				r->path, where, key);
	}
	if (!(e = find_or_add(r->t, domain)))
		return kf_fail(r->err, KF_ENOMEM, "no memory for the weights in %s", r->path);
	for (int i = 0; i < r->m; i++) {
		if (!(v = json_object_get(o, r->names[i])))
			return kf_fail(r->err, KF_EMISMATCH, "%s: \"%s\" has no weight for %s: fit weights to these models",
				r->path, where, r->names[i]);
		sum += e->w[i] = json_number_value(v);
	}
	if (fabs(sum - 1) > 1e-3)
		return kf_fail(r->err, KF_EDATA, "%s: the weights of \"%s\" sum to %g, not to 1", r->path, where, sum);
	for (int i = 0; i < r->m; i++) e->w[i] /= sum;
	e->has_w = true;
	return KF_OK;
}

static kf_status read_advantage(reader *r, const char *domain, const json_t *v)
{
	kf_fuse_entry *e;

	if (!json_is_number(v) || !(fabs(json_number_value(v)) <= 1e6))
		return kf_fail(r->err, KF_EDATA,
			"%s: the advantage of \"%s\" is no number", r->path, domain ? domain : "all");
	if (!(e = find_or_add(r->t, domain)))
		return kf_fail(r->err, KF_ENOMEM, "no memory for the weights in %s", r->path);
	e->advantage = json_number_value(v);
	e->has_advantage = true;
	return KF_OK;
}

/* "all" and "domains" of one part of the file */
static kf_status read_part(reader *r, const json_t *o,
	kf_status (*one)(reader *, const char *, const json_t *))
{
	const json_t *all = json_object_get(o, "all"), *domains = json_object_get(o, "domains");
	const char *name;
	json_t *v;
	kf_status rc;

	if (all && (rc = one(r, NULL, all)) != KF_OK) return rc;
	if (!domains) return KF_OK;
	if (!json_is_object(domains)) return kf_fail(r->err, KF_EDATA, "%s: \"domains\" is no object", r->path);
	json_object_foreach((json_t *)domains, name, v)
		if ((rc = one(r, name, v)) != KF_OK) return rc;
	return KF_OK;
}

static kf_status fingerprint(const json_t *root, kf_fp *fp)
{
	static const char *const PARTS[] = { "all", "domains", "advantage" };
	json_t *o = json_object();
	char *text = NULL;

	for (size_t i = 0; o && i < sizeof PARTS / sizeof *PARTS; i++) {
		json_t *part = json_object_get(root, PARTS[i]);

		if (part && json_object_set(o, PARTS[i], part) != 0) {
			json_decref(o);
			return KF_ENOMEM;
		}
	}
	if (o) text = kf_record_canonical(o);
	json_decref(o);
	if (!text) return KF_ENOMEM;
	*fp = kf_fp_of(text, strlen(text));
	free(text);
	return KF_OK;
}

kf_status kf_fuse_table_read(const char *path, const char *const *names, int m, kf_fuse_table *out,
	kf_err *err)
{
	reader r = { path, names, m, out, err };
	const json_t *part;
	const char *corpus;
	kf_buf text = { 0 };
	json_error_t je;
	json_t *root = NULL;
	kf_status rc;

	memset(out, 0, sizeof *out);
	if ((rc = kf_file_read(path, FILE_MAX, &text, err)) != KF_OK) goto out;
	if (!(root = json_loadb((const char *)text.data, text.len, JSON_REJECT_DUPLICATES, &je))) {
		rc = kf_fail(err, KF_EDATA, "%s is no file of weights: line %d: %s", path, je.line, je.text);
		goto out;
	}
	if (!json_is_object(root) || !(json_object_get(root, "all") || json_object_get(root, "domains"))) {
		rc = kf_fail(err, KF_EDATA, "%s is no file of weights: it is no object with \"all\" or \"domains\"", path);
		goto out;
	}
	if ((rc = read_part(&r, root, read_weights)) != KF_OK) goto out;
	if ((part = json_object_get(root, "advantage")) && (rc = read_part(&r, part, read_advantage)) != KF_OK)
		goto out;
	if ((corpus = json_string_value(json_object_get(json_object_get(root, "fit"), "corpus"))) &&
	    !(out->fitted = kf_fp_parse(corpus, &out->corpus))) {
		rc = kf_fail(err, KF_EDATA, "%s: the corpus under \"fit\" is no fingerprint", path);
		goto out;
	}
	if (fingerprint(root, &out->fp) != KF_OK)
		rc = kf_fail(err, KF_ENOMEM, "no memory for the weights in %s", path);
out:
	if (rc != KF_OK) kf_fuse_table_release(out);
	json_decref(root);
	kf_buf_release(&text);
	return rc;
}
