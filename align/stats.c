#include <math.h>
#include <string.h>

#include "align/align.h"
#include "align/stats.h"

void kf_align_stats_release(kf_align_stats *s)
{
	kf_free(s->item);
	memset(s, 0, sizeof *s);
}

kf_status align_stats_get(kf_align_stats *s, const char *domain, kf_align_stat **out, kf_err *err)
{
	kf_align_stat *item;
	char name[sizeof item->domain];

	/* domains whose names are longer than the field are told together by its length */
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

static void add(kf_align_stat *to, const kf_align_stat *from)
{
	to->docs += from->docs;
	to->bytes += from->bytes;
	to->tokens += from->tokens;
	to->covered += from->covered;
	to->ce += from->ce;
	to->ce_tokens += from->ce_tokens;
	to->ce_bytes += from->ce_bytes;
	to->mass += from->mass;
	to->label += from->label;
	to->labelled += from->labelled;
	to->candidates += from->candidates;
}

kf_status kf_align_stats_add(kf_align_stats *to, const kf_align_stats *from, kf_err *err)
{
	kf_status rc;

	for (int i = 0; i < from->n; i++) {
		kf_align_stat *item;

		if ((rc = align_stats_get(to, from->item[i].domain, &item, err)) != KF_OK) return rc;
		add(item, &from->item[i]);
	}
	return KF_OK;
}

kf_status align_stats_doc(kf_align_stats *stats, const kf_dist_rec *r, uint32_t covered, kf_err *err)
{
	kf_align_stat *s, d = { .docs = 1, .bytes = r->head.bytes, .tokens = r->n, .covered = covered };
	kf_status rc;

	if ((rc = align_stats_get(stats, r->head.domain, &s, err)) != KF_OK) return rc;
	for (uint32_t p = 0; p < r->n; p++) {
		if (!isnan(r->ce[p])) {
			d.ce += r->ce[p];
			d.ce_tokens++;
			d.ce_bytes += r->start[p + 1] - r->start[p];
		}
		/* a one-hot on the label stands for no distribution; a real one never reaches ln q = 0 */
		if (r->off[p] == r->off[p + 1] || r->lp[r->off[p]] == 0) continue;
		d.mass += 1 - r->tail[p];
		d.candidates += r->off[p + 1] - r->off[p];
		for (uint32_t j = r->off[p]; j < r->off[p + 1]; j++) {
			if (r->ids[j] != r->tokens[p]) continue;
			d.label -= r->lp[j];
			d.labelled++;
			break;
		}
	}
	add(s, &d);
	return KF_OK;
}

static double over(double a, double b) { return b > 0 ? a / b : 0; }

static json_t *stat_json(const kf_align_stat *s)
{
	/* json_pack gives NULL for a number that is none: over() makes sure of that */
	return json_pack("{s:I,s:I,s:I,s:f,s:f,s:f,s:f,s:f,s:f,s:f}", "documents", (json_int_t)s->docs,
		"bytes", (json_int_t)s->bytes, "tokens", (json_int_t)s->tokens,
		"coverage", over(s->covered, s->tokens),                   /* share of positions with the source's distribution */
		"ce", over(s->ce, s->ce_tokens),                           /* nats per target token */
		"ce_byte", over(s->ce, s->ce_bytes),                       /* nats per byte */
		"mass", over(s->mass, s->covered),                         /* 1 - tail, where covered */
		"label_nll", over(s->label, s->labelled),                  /* mean -ln q(label), where covered and it has any */
		"labelled", over(s->labelled, s->covered), "candidates", over(s->candidates, s->covered));
}

json_t *kf_align_stats_json(const kf_align_stats *s)
{
	kf_align_stat all = { .docs = 0 };
	json_t *domains = json_object(), *root = NULL, *item;

	if (!domains) return NULL;
	for (int i = 0; i < s->n; i++) {
		add(&all, &s->item[i]);
		if (!(item = stat_json(&s->item[i]))) goto fail;
		if (json_object_set_new(domains, s->item[i].domain, item) != 0) goto fail;
	}
	if (!(item = stat_json(&all))) goto fail;
	if (!(root = json_pack("{s:o,s:o}", "all", item, "domains", domains))) return NULL;
	return root;
fail:
	json_decref(domains);
	return NULL;
}
