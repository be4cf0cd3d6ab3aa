/* What the sources gave: their weights in the fused targets, and how much of them alignment carried over. */
#include <math.h>
#include <stdio.h>

#include "report/section.h"

static bool any(const input *in, kf_set_kind kind)
{
	for (int i = 0; i < in->n_sets; i++)
		if (in->set[i].kind == kind && json_is_object(input_at(in->set[i].manifest, "stats", "all", NULL))) return true;
	return false;
}

/* ---- contributions ---- */

static bool shares_there(const input *in) { return any(in, KF_SET_TARGETS); }

/* The models of a fused set: their names and marks. */
static int models_of(const input *in, const set_input *s, const char **name, int *mark)
{
	const json_t *list = json_object_get(kf_set_info(s->set), "models"), *v;
	int n = 0;
	size_t i;

	json_array_foreach(list, i, v) {
		if (!json_is_string(v) || n == NAMES) continue;
		name[n] = json_string_value(v);
		mark[n] = input_slot(in, name[n]);
		n++;
	}
	return n;
}

/* Domains of a set's statistics, in the page's order, and "all". */
static int rows_of(const input *in, const set_input *s, const json_t **row, const char **label)
{
	int n = 0;

	for (int i = 0; i < in->n_domains && n < NAMES; i++) {
		if (!(row[n] = input_at(s->manifest, "stats", "domains", in->domain[i], NULL))) continue;
		label[n++] = kf_domain_label(in->domain[i]);
	}
	row[n] = input_at(s->manifest, "stats", "all", NULL);
	label[n] = "all text";
	return n + 1;
}

static void put_mixture(const input *in, const set_input *s, kf_buf *out)
{
	const char *name[NAMES], *label[NAMES + 1];
	const json_t *row[NAMES + 1];
	double share[NAMES + 1][NAMES];
	chart_bar bar[NAMES + 1];
	char heading[300], note[300], what[300], way[160];
	int mark[NAMES], n = models_of(in, s, name, mark), rows = rows_of(in, s, row, label);

	if (!n) return;
	for (int r = 0; r < rows; r++) {
		bar[r] = (chart_bar){ .label = label[r], .part = share[r], .strong = r == rows - 1 };
		for (int k = 0; k < n; k++) {
			share[r][k] = input_number(input_at(row[r], "models", name[k], "share", NULL));
			if (share[r][k] > 0) bar[r].total += share[r][k];
		}
	}
	set_name(in, s, heading, sizeof heading);
	set_way(in, s, way, sizeof way);
	snprintf(note, sizeof note, "weights: %s%s", way, in->n_models && !trained_on_text(in, s) ? "; text that no model here was trained on" :
		in->n_models && !trained_on(in, s) ? "; no model here was trained on these" : "");
	snprintf(what, sizeof what, "Share of each of %d models in the fused targets, by domain; the numbers are in the table below.", n);
	chart_begin(out, heading, note);
	chart_stack(out, bar, rows, mark, name, n, "% of the weight", what);
	chart_end(out);
}

static void mixture_table(const input *in, const set_input *s, kf_buf *out)
{
	const char *name[NAMES], *label[NAMES + 1];
	const json_t *row[NAMES + 1];
	int mark[NAMES], n = models_of(in, s, name, mark), rows = rows_of(in, s, row, label);
	char mixture[300], way[160], summary[600];
	bool sees = strcmp(input_string(json_object_get(s->manifest, "stats"), "hindsight"), "label") == 0;

	if (!n) return;
	set_name(in, s, mixture, sizeof mixture);
	set_way(in, s, way, sizeof way);
	snprintf(summary, sizeof summary, "%s (%s) as a table: weights, and the bits that each model needs for the text", mixture, way);
	table_begin(out, summary, "domain");
	for (int k = 0; k < n; k++) table_column(out, name[k]);
	table_column(out, sees ? "fused (chosen by the label itself: no prediction)" : "fused");
	table_column(out, "equal weights");
	table_column(out, "weight of the fusion");
	table_body(out);
	for (int r = 0; r < rows; r++) {
		table_row(out, label[r]);
		for (int k = 0; k < n; k++) {
			const json_t *m = input_at(row[r], "models", name[k], NULL);

			html_raw(out, "<td>");
			html_percent(out, input_real(m, "share"), false);
			html_raw(out, "<small>");
			html_number(out, input_real(m, "ce_byte") / log(2), 4, false);
			html_raw(out, " bits/byte</small></td>");
		}
		table_number(out, input_real(row[r], "fused_ce_byte") / log(2), 4, false);
		table_number(out, input_real(row[r], "equal_ce_byte") / log(2), 4, false);
		table_number(out, input_real(row[r], "weight"), 2, false);
		table_row_end(out);
	}
	table_end(out);
}

static void put_legend(const input *in, kf_buf *out)
{
	html_raw(out, "<p class=\"legend\">");
	for (int i = -1; i < in->n_sources; i++) {
		if (i < 0 && !in->target) continue;
		html_raw(out, "<span>");
		chart_swatch(out, i < 0 ? MARK_TARGET : i % SLOTS);
		html_put(out, i < 0 ? " %s, the target’s own</span>" : " %s</span>", i < 0 ? in->target : in->source[i]);
	}
	html_raw(out, "</p>\n");
}

static void put_shares(const input *in, kf_buf *out)
{
	html_raw(out, "<p>The fused distribution of a position is a mixture of what the models predicted there. This is the weight that each of them "
		"had over the training text, or over another where that is said.</p>\n");
	put_legend(in, out);
	html_raw(out, "<div class=\"panels\">\n");
	for (int i = 0; i < in->n_sets; i++)
		if (in->set[i].kind == KF_SET_TARGETS) put_mixture(in, &in->set[i], out);
	html_raw(out, "</div>\n");
	for (int i = 0; i < in->n_sets; i++)
		if (in->set[i].kind == KF_SET_TARGETS) mixture_table(in, &in->set[i], out);
}

const section section_shares = { "sources", "Who contributed", shares_there, put_shares,
	"give the fused sets with <code>--set</code>: <code>kf-fuse</code> keeps in their manifests what every model contributed." };

/* ---- coverage ---- */

static bool coverage_there(const input *in) { return any(in, KF_SET_ALIGNED); }

static void put_coverage_of(const input *in, const set_input *s, kf_buf *out)
{
	const char *label[NAMES + 1], *source = input_string(kf_set_info(s->set), "source");
	const json_t *row[NAMES + 1];
	chart_plain bar[NAMES + 1];
	char text[NAMES + 1][32], way[160], what[300];
	int rows = rows_of(in, s, row, label);

	for (int r = 0; r < rows; r++) {
		double covered = 100 * input_real(row[r], "coverage");

		snprintf(text[r], sizeof text[r], isfinite(covered) ? "%.1f %%" : "–", covered);
		bar[r] = (chart_plain){ .label = label[r], .text = text[r], .value = covered,
			.inner = covered * input_real(row[r], "mass"), .mark = input_slot(in, source) };
	}
	set_way(in, s, way, sizeof way);
	snprintf(what, sizeof what, "Positions with the distribution of %.*s, by domain; of all text %s.", CUT(source, 100), text[rows - 1]);
	chart_begin(out, source, way);
	chart_bars(out, bar, rows, 100, "% of the target’s positions", what);
	chart_end(out);
}

static void coverage_table(const input *in, const set_input *s, kf_buf *out)
{
	const char *label[NAMES + 1];
	const json_t *row[NAMES + 1];
	char way[160], summary[400];
	int rows = rows_of(in, s, row, label);

	set_way(in, s, way, sizeof way);
	snprintf(summary, sizeof summary, "%.200s (%s) as a table", input_string(kf_set_info(s->set), "source"), way);
	table_begin(out, summary, "domain");
	table_column(out, "positions");
	table_column(out, "covered");
	table_column(out, "probability carried over, where covered");
	table_column(out, "candidates");
	table_column(out, "−ln q of the label, nats");
	table_column(out, "the source itself, bits per byte");
	table_body(out);
	for (int r = 0; r < rows; r++) {
		table_row(out, label[r]);
		html_raw(out, "<td>");
		html_count(out, input_real(row[r], "tokens"));
		html_raw(out, "</td><td>");
		html_percent(out, input_real(row[r], "coverage"), false);
		html_raw(out, "</td><td>");
		html_percent(out, input_real(row[r], "mass"), false);
		html_raw(out, "</td>");
		table_number(out, input_real(row[r], "candidates"), 1, false);
		table_number(out, input_real(row[r], "label_nll"), 3, false);
		table_number(out, input_real(row[r], "ce_byte") / log(2), 4, false);
		table_row_end(out);
	}
	table_end(out);
}

static void put_coverage(const input *in, kf_buf *out)
{
	html_raw(out, "<p>A source’s predictions are carried into the target’s vocabulary. Bars: the positions of the target that have the source’s own "
		"distribution; the stronger part of a bar is the probability that its candidates hold there, the rest of it stays unnamed (the tail).</p>\n"
		"<div class=\"panels\">\n");
	for (int i = 0; i < in->n_sets; i++)
		if (in->set[i].kind == KF_SET_ALIGNED) put_coverage_of(in, &in->set[i], out);
	html_raw(out, "</div>\n");
	for (int i = 0; i < in->n_sets; i++)
		if (in->set[i].kind == KF_SET_ALIGNED) coverage_table(in, &in->set[i], out);
}

const section section_coverage = { "alignment", "Alignment", coverage_there, put_coverage,
	"give the aligned sets with <code>--set</code>: <code>kf-align</code> keeps in their manifests what it covered." };
