/* Which model taught what: tallies by domain. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "fuse/fuse.h"

void kf_fuse_stats_release(kf_fuse_stats *s)
{
	kf_free(s->item);
	memset(s, 0, sizeof *s);
}

static kf_status get(kf_fuse_stats *s, const char *domain, kf_fuse_stat **out, kf_err *err)
{
	kf_fuse_stat *item;
	char name[sizeof item->domain];

	snprintf(name, sizeof name, "%s", domain);
	for (int i = 0; i < s->n; i++) {
		if (strcmp(s->item[i].domain, name) == 0) {
			*out = &s->item[i];
			return KF_OK;
		}
	}
	if (s->n == s->cap) {
		int cap = s->cap ? 2 * s->cap : 8;

		if (!(item = kf_zalloc((size_t)cap, sizeof *item))) return kf_fail(err, KF_ENOMEM, "no memory for statistics");
		if (s->n) memcpy(item, s->item, (size_t)s->n * sizeof *item);
		kf_free(s->item);
		s->item = item;
		s->cap = cap;
	}
	item = &s->item[s->n++];
	memset(item, 0, sizeof *item);
	memcpy(item->domain, name, sizeof name);
	*out = item;
	return KF_OK;
}

kf_status kf_fuse_stats_doc(kf_fuse_stats *s, const char *domain, const kf_fuse_tally *t, kf_err *err)
{
	kf_fuse_stat *to;
	kf_status rc;

	if ((rc = get(s, domain, &to, err)) != KF_OK) return rc;
	to->docs++;
	to->tokens += t->tokens;
	to->bytes += t->bytes;
	to->target_ce += t->target_ce;
	to->fused_ce += t->fused_ce;
	to->positions += t->positions;
	to->weight += t->weight;
	for (int i = 0; i < t->models; i++) {
		to->ce[i] += t->ce[i];
		to->share[i] += t->share[i];
		to->won[i] += i == t->best;
	}
	return KF_OK;
}

static void add(kf_fuse_stat *to, const kf_fuse_stat *from)
{
	to->docs += from->docs;
	to->tokens += from->tokens;
	to->bytes += from->bytes;
	to->target_ce += from->target_ce;
	to->fused_ce += from->fused_ce;
	to->positions += from->positions;
	to->weight += from->weight;
	for (int i = 0; i < KF_FUSE_MODELS; i++) {
		to->ce[i] += from->ce[i];
		to->share[i] += from->share[i];
		to->won[i] += from->won[i];
	}
}

kf_status kf_fuse_stats_add(kf_fuse_stats *to, const kf_fuse_stats *from, kf_err *err)
{
	kf_status rc;

	for (int i = 0; i < from->n; i++) {
		kf_fuse_stat *item;

		if ((rc = get(to, from->item[i].domain, &item, err)) != KF_OK) return rc;
		add(item, &from->item[i]);
	}
	return KF_OK;
}

static double over(double a, double b) { return b > 0 ? a / b : 0; }

static json_t *stat_json(const kf_fuse_stat *s, const char *const *names, int n)
{
	json_t *by = json_object();

	for (int i = 0; by && i < n; i++) {
		json_t *one = json_pack("{s:f,s:f,s:I}", "ce_byte", over(s->ce[i], s->bytes), "share", over(s->share[i], s->positions),
			"documents_won", (json_int_t)s->won[i]);

		if (!one || json_object_set_new(by, names[i], one) != 0) {
			json_decref(by);
			return NULL;
		}
	}
	if (!by) return NULL;
	return json_pack("{s:I,s:I,s:I,s:f,s:f,s:f,s:o}", "documents", (json_int_t)s->docs, "tokens", (json_int_t)s->tokens,
		"bytes", (json_int_t)s->bytes, "target_ce_byte", over(s->target_ce, s->bytes),
		"fused_ce_byte", over(s->fused_ce, s->bytes), "weight", over(s->weight, s->docs), "models", by);
}

json_t *kf_fuse_stats_json(const kf_fuse_stats *s, const char *const *names, int models)
{
	kf_fuse_stat all = { .docs = 0 };
	json_t *root = json_object(), *list = json_array(), *domains = json_object(), *item = NULL;
	bool ok = root && list && domains;

	for (int i = 0; ok && i < models; i++) ok = json_array_append_new(list, json_string(names[i])) == 0;
	for (int i = 0; ok && i < s->n; i++) {
		add(&all, &s->item[i]);
		ok = (item = stat_json(&s->item[i], names, models)) && json_object_set_new(domains, s->item[i].domain, item) == 0;
	}
	/* the three set calls take their value whatever happens */
	ok = ok && (item = stat_json(&all, names, models)) && json_object_set_new(root, "all", item) == 0;
	if (json_object_set_new(root, "models", list) != 0) ok = false;
	if (json_object_set_new(root, "domains", domains) != 0) ok = false;
	if (ok) return root;
	json_decref(root);
	return NULL;
}
