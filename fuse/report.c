/* The report of a fusion, for people: from its statistics as JSON. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "common/base/table.h"
#include "fuse/fuse.h"

static double real(const json_t *o, const char *key) { return json_number_value(json_object_get(o, key)); }
static const char *bits(char *out, const json_t *o, const char *key) { return kf_tally_cell(out, o, key, 1 / M_LN2, 9, 4); }

/* Columns of a terminal that names of domains and of models take. */
typedef struct { int domain, model; } widths;

static widths widths_of(const json_t *domains)
{
	widths w = { 14, 36 };
	const char *name, *model;
	json_t *one, *x;

	json_object_foreach((json_t *)domains, name, one) {
		kf_text_widen(&w.domain, kf_domain_label(name));
		json_object_foreach(json_object_get(one, "models"), model, x) kf_text_widen(&w.model, model);
	}
	return w;
}

/* The first two columns of a row. */
static void put_names(kf_buf *to, widths w, const char *domain, const char *model)
{
	kf_buf_printf(to, "  %-*s  %-*s", kf_text_field(domain, w.domain), domain, kf_text_field(model, w.model), model);
}

static void put_domain(kf_buf *to, widths w, const char *name, const json_t *s, bool sees)
{
	char cell[2][32];
	const char *model;
	json_t *m;

	json_object_foreach(json_object_get(s, "models"), model, m) {
		put_names(to, w, name, model);
		kf_buf_printf(to, "  %s  %s  %7.0f\n", bits(cell[0], m, "ce_byte"), kf_tally_cell(cell[1], m, "share", 100, 7, 1), real(m, "documents_won"));
		name = "";
	}
	put_names(to, w, name, "equal weights");
	kf_buf_printf(to, "  %s\n", bits(cell[0], s, "equal_ce_byte"));
	put_names(to, w, "", sees ? "fused *" : "fused");
	kf_buf_printf(to, "  %s  %7s  %7.0f", bits(cell[0], s, "fused_ce_byte"), "", real(s, "documents"));
	if (json_is_number(json_object_get(s, "weight")) && real(s, "weight") < 1) kf_buf_printf(to, "  weight %.3f", real(s, "weight"));
	kf_buf_printf(to, "\n");
}

kf_status kf_fuse_report(const json_t *stats, kf_buf *to, kf_err *err)
{
	const char *name, *hindsight = json_string_value(json_object_get(stats, "hindsight"));
	bool sees = hindsight && strcmp(hindsight, "label") == 0;
	const widths w = widths_of(json_object_get(stats, "domains"));
	json_t *s;

	put_names(to, w, "domain", "model");
	kf_buf_printf(to, "  %9s  %7s  %7s\n", "bits/byte", "share %", "best in");
	json_object_foreach(json_object_get(stats, "domains"), name, s)
		put_domain(to, w, kf_domain_label(name), s, sees);
	put_domain(to, w, "all", json_object_get(stats, "all"), sees);
	if (sees)
		kf_buf_printf(to,
			"  * chosen by the label's own probability: no prediction. Compare the mixture with equal weights.\n");
	return kf_buf_check(to, err);
}

kf_status kf_fuse_fit_report(const json_t *fitted, kf_buf *to, kf_err *err)
{
	const json_t *fit = json_object_get(fitted, "fit"), *facts;
	const widths w = widths_of(json_object_get(fit, "domains"));
	const char *name, *model;
	char cell[32];
	json_t *one, *x;

	put_names(to, w, "domain", "model");
	kf_buf_printf(to, "  %9s  %7s\n", "bits/byte", "weight");
	for (int all = 0; all < 2; all++) {
		json_object_foreach(all ? (json_t *)fitted : json_object_get(fitted, "domains"), name, one) {
			const char *label = all ? "all" : kf_domain_label(name);

			if (all && strcmp(name, "all") != 0) continue;
			facts = json_object_get(all ? fit : json_object_get(fit, "domains"), name);
			json_object_foreach(one, model, x) {
				put_names(to, w, label, model);
				kf_buf_printf(to, "  %s  %7.4f\n", bits(cell, json_object_get(json_object_get(facts, "models"), model), "ce_byte"), json_number_value(x));
				label = "";
			}
			put_names(to, w, "", "equal weights");
			kf_buf_printf(to, "  %s\n", bits(cell, facts, "equal_ce_byte"));
			put_names(to, w, "", "fitted");
			kf_buf_printf(to, "  %s           %.0f labels\n", bits(cell, facts, "fused_ce_byte"), real(facts, "tokens"));
		}
	}
	return kf_buf_check(to, err);
}
