#include <math.h>

#include "align/align.h"
#include "align/stats.h"

kf_status align_stats_doc(kf_tally *stats, const kf_dist_rec *r, uint32_t covered, kf_err *err)
{
	kf_align_stat *d = kf_tally_row(stats, r->head.domain);

	if (!d) return kf_fail(err, KF_ENOMEM, "no memory for statistics");
	d->docs++;
	d->covered += covered;
	for (uint32_t p = 0; p < r->n; p++) {
		if (r->context && r->context[p]) continue;
		d->tokens++;
		d->bytes += r->start[p + 1] - r->start[p];
		if (!isnan(r->ce[p]) && !kf_ends_turn(r->context, r->start, r->n, p)) {   /* how a turn ends is its template's habit, and no text */
			d->ce += r->ce[p];
			d->ce_tokens++;
			d->ce_bytes += r->start[p + 1] - r->start[p];
		}
		/* a one-hot on the label stands for no distribution; a real one never reaches ln q = 0 */
		if (r->off[p] == r->off[p + 1] || r->lp[r->off[p]] == 0) continue;
		d->mass += 1 - r->tail[p];
		d->candidates += r->off[p + 1] - r->off[p];
		for (uint32_t j = r->off[p]; j < r->off[p + 1]; j++) {
			if (r->ids[j] != r->tokens[p]) continue;
			d->label -= r->lp[j];
			d->labelled++;
			break;
		}
	}
	return KF_OK;
}

static json_t *stat_json(const kf_align_stat *s)
{
	return json_pack("{s:I,s:I,s:I,s:o,s:o,s:o,s:o,s:o,s:o,s:o}", "documents", (json_int_t)s->docs,
		"bytes", (json_int_t)s->bytes, "tokens", (json_int_t)s->tokens,
		"coverage", kf_tally_mean(s->covered, s->tokens),          /* share of positions with the source's distribution */
		"ce", kf_tally_mean(s->ce, s->ce_tokens),                  /* nats per target token */
		"ce_byte", kf_tally_mean(s->ce, s->ce_bytes),              /* nats per byte */
		"mass", kf_tally_mean(s->mass, s->covered),                /* 1 - tail, where covered */
		"label_nll", kf_tally_mean(s->label, s->labelled),         /* mean -ln q(label), where covered and it has any */
		"labelled", kf_tally_mean(s->labelled, s->covered), "candidates", kf_tally_mean(s->candidates, s->covered));
}

json_t *kf_align_stats_json(const kf_tally *stats)
{
	kf_align_stat all = { .docs = 0 };
	json_t *domains = json_object(), *item;

	for (int i = 0; domains && i < stats->n; i++) {
		if ((item = stat_json(kf_tally_at(stats, i))) && json_object_set_new(domains, stats->name[i], item) == 0) continue;
		json_decref(domains);
		return NULL;
	}
	kf_tally_total(stats, &all);
	/* o takes its values whatever happens, and a NULL makes the whole NULL */
	return json_pack("{s:o,s:o}", "all", stat_json(&all), "domains", domains);
}
