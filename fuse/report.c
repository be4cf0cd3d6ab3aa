/* The report of a fusion, for people: from its statistics as JSON. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "fuse/fuse.h"

static double real(const json_t *o, const char *key) { return json_number_value(json_object_get(o, key)); }
static const char *bits(char *out, const json_t *o, const char *key) { return kf_tally_cell(out, o, key, 1 / M_LN2, 9, 4); }

static void put_domain(kf_buf *to, const char *name, const json_t *s, bool sees)
{
	char cell[2][32];
	const char *model;
	json_t *m;

	json_object_foreach(json_object_get(s, "models"), model, m) {
		kf_buf_printf(to, "  %-14.14s  %-36.36s  %s  %s  %7.0f\n", name, model, bits(cell[0], m, "ce_byte"),
			kf_tally_cell(cell[1], m, "share", 100, 7, 1), real(m, "documents_won"));
		name = "";
	}
	kf_buf_printf(to, "  %-14.14s  %-36s  %s\n", name, "equal weights", bits(cell[0], s, "equal_ce_byte"));
	kf_buf_printf(to, "  %-14s  %-36s  %s  %7s  %7.0f", "", sees ? "fused *" : "fused", bits(cell[0], s, "fused_ce_byte"), "",
		real(s, "documents"));
	if (json_is_number(json_object_get(s, "weight")) && real(s, "weight") < 1) kf_buf_printf(to, "  weight %.3f", real(s, "weight"));
	kf_buf_printf(to, "\n");
}

kf_status kf_fuse_report(const json_t *stats, kf_buf *to, kf_err *err)
{
	const char *name, *hindsight = json_string_value(json_object_get(stats, "hindsight"));
	bool sees = hindsight && strcmp(hindsight, "label") == 0;
	json_t *s;

	kf_buf_printf(to, "  %-14s  %-36s  %9s  %7s  %7s\n", "domain", "model", "bits/byte", "share %", "best in");
	json_object_foreach(json_object_get(stats, "domains"), name, s)
		put_domain(to, *name ? name : "(no domain)", s, sees);
	put_domain(to, "all", json_object_get(stats, "all"), sees);
	if (sees)
		kf_buf_printf(to,
			"  * chosen by the label's own probability: no prediction. Compare the mixture with equal weights.\n");
	return kf_buf_check(to, err);
}

kf_status kf_fuse_fit_report(const json_t *fitted, kf_buf *to, kf_err *err)
{
	const json_t *fit = json_object_get(fitted, "fit"), *w, *facts;
	const char *name, *model;
	char cell[32];
	json_t *one, *x;

	kf_buf_printf(to, "  %-14s  %-36s  %9s  %7s\n", "domain", "model", "bits/byte", "weight");
	for (int all = 0; all < 2; all++) {
		json_object_foreach(all ? (json_t *)fitted : json_object_get(fitted, "domains"), name, one) {
			const char *label = all ? "all" : *name ? name : "(no domain)";

			if (all && strcmp(name, "all") != 0) continue;
			w = one;
			facts = json_object_get(all ? fit : json_object_get(fit, "domains"), name);
			json_object_foreach((json_t *)w, model, x) {
				kf_buf_printf(to, "  %-14.14s  %-36.36s  %s  %7.4f\n", label, model,
					bits(cell, json_object_get(json_object_get(facts, "models"), model), "ce_byte"), json_number_value(x));
				label = "";
			}
			kf_buf_printf(to, "  %-14s  %-36s  %s\n", "", "equal weights", bits(cell, facts, "equal_ce_byte"));
			kf_buf_printf(to, "  %-14s  %-36s  %s           %.0f labels\n", "", "fitted", bits(cell, facts, "fused_ce_byte"),
				real(facts, "tokens"));
		}
	}
	return kf_buf_check(to, err);
}
