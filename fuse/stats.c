/* Which model taught what: tallies by domain. */
#include <math.h>

#include "fuse/fuse.h"

kf_status kf_fuse_stats_doc(kf_tally *stats, const char *domain, const kf_fuse_tally *t, kf_err *err)
{
	kf_fuse_stat *to = kf_tally_row(stats, domain);

	if (!to) return kf_fail(err, KF_ENOMEM, "no memory for statistics");
	to->docs++;
	to->tokens += t->tokens;
	to->bytes += t->bytes;
	to->target_ce += t->target_ce;
	to->fused_ce += t->fused_ce;
	to->equal_ce += t->equal_ce;
	to->positions += t->positions;
	to->weight += t->weight;
	for (int i = 0; i < t->models; i++) {
		to->ce[i] += t->ce[i];
		to->share[i] += t->share[i];
		to->won[i] += i == t->best;
	}
	return KF_OK;
}

static json_t *stat_json(const kf_fuse_stat *s, const char *const *names, int n)
{
	json_t *by = json_object();

	for (int i = 0; by && i < n; i++) {
		json_t *one = json_pack("{s:o,s:o,s:I}", "ce_byte", kf_tally_mean(s->ce[i], s->bytes), "share",
			kf_tally_mean(s->share[i], s->positions), "documents_won", (json_int_t)s->won[i]);

		if (!one || json_object_set_new(by, names[i], one) != 0) {
			json_decref(by);
			return NULL;
		}
	}
	if (!by) return NULL;
	return json_pack("{s:I,s:I,s:I,s:o,s:o,s:o,s:o,s:o}", "documents", (json_int_t)s->docs, "tokens",
		(json_int_t)s->tokens, "bytes", (json_int_t)s->bytes, "target_ce_byte", kf_tally_mean(s->target_ce, s->bytes),
		"fused_ce_byte", kf_tally_mean(s->fused_ce, s->bytes), "equal_ce_byte", kf_tally_mean(s->equal_ce, s->bytes), "weight",
		kf_tally_mean(s->weight, s->docs), "models", by);
}

json_t *kf_fuse_stats_json(const kf_tally *stats, const char *const *names, int models)
{
	kf_fuse_stat all = { .docs = 0 };
	json_t *root = json_object(), *list = json_array(), *domains = json_object(), *item = NULL;
	bool ok = root && list && domains;

	for (int i = 0; ok && i < models; i++) ok = json_array_append_new(list, json_string(names[i])) == 0;
	for (int i = 0; ok && i < stats->n; i++) {
		ok = (item = stat_json(kf_tally_at(stats, i), names, models)) &&
			json_object_set_new(domains, stats->name[i], item) == 0;
	}
	kf_tally_total(stats, &all);
	/* the three set calls take their value whatever happens */
	ok = ok && (item = stat_json(&all, names, models)) && json_object_set_new(root, "all", item) == 0;
	if (json_object_set_new(root, "models", list) != 0) ok = false;
	if (json_object_set_new(root, "domains", domains) != 0) ok = false;
	if (ok) return root;
	json_decref(root);
	return NULL;
}
