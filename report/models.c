/* How well the models predict: bits per byte by domain, differences, perplexity. */
#include <math.h>
#include <stdio.h>

#include "report/section.h"

static bool bits_there(const input *in)
{
	return json_object_size(json_object_get(in->eval, "bits_per_byte")) > 0;
}

/* ---- every model ---- */

static int dots_of(const input *in, const char *column, chart_dot *row)
{
	const json_t *bpb = json_object_get(in->eval, "bits_per_byte");
	const char *name;
	json_t *v;
	int n = 0;

	json_object_foreach((json_t *)(uintptr_t)bpb, name, v) {
		const json_t *interval = input_at(in->eval, "intervals", name, column, NULL);

		if (n == NAMES) break;
		row[n++] = (chart_dot){ .label = name, .value = input_real(v, column),
			.low = input_real(interval, "low"), .high = input_real(interval, "high"),
			.mark = mark_of(in, name), .strong = in->result && strcmp(name, in->result) == 0 };
	}
	return n;
}

static void put_dots(const input *in, const char *column, const char *heading, kf_buf *out)
{
	chart_dot row[NAMES];
	char what[512], note[64] = "", count[HTML_COUNT_MAX];
	int n = dots_of(in, column, row), best = -1;
	double docs = input_number(input_at(in->eval, "documents", column, NULL));

	for (int i = 0; i < n; i++)
		if (isfinite(row[i].value) && (best < 0 || row[i].value < row[best].value)) best = i;
	if (best < 0) return; /* nothing was compared there */
	if (docs > 0) snprintf(note, sizeof note, "%s document%s", html_count_text(count, docs), docs == 1 ? "" : "s");
	snprintf(what, sizeof what, "Bits per byte of %d models, %.200s. Lowest: %.200s, %.4f.", n, heading, row[best].label, row[best].value);
	chart_begin(out, heading, *note ? note : NULL);
	chart_dots(out, row, n, false, 4, "bits per byte (lower is better)", what);
	chart_end(out);
}

/* all: a column more, of all tokens at once. */
static void value_table(const input *in, const char *key, bool all, const char *summary, int decimals, kf_buf *out)
{
	const char *column[NAMES + 1], *name;
	int n = columns_of(in, "mean", column);
	bool bits = strcmp(key, "bits_per_byte") == 0;
	json_t *v;

	table_begin(out, summary, "model");
	for (int i = 0; i < n; i++) table_column(out, kf_domain_label(column[i]));
	if (all) table_column(out, "all tokens");
	table_body(out);
	json_object_foreach(json_object_get(in->eval, key), name, v) {
		table_row(out, name);
		for (int i = 0; i < n; i++) {
			html_raw(out, "<td>");
			html_number(out, input_real(v, column[i]), decimals, false);
			if (bits) {
				const json_t *interval = input_at(in->eval, "intervals", name, column[i], NULL);

				table_range(out, input_real(interval, "low"), input_real(interval, "high"), decimals, false);
			}
			html_raw(out, "</td>");
		}
		if (all) table_number(out, input_real(v, "all"), decimals, false);
		table_row_end(out);
	}
	table_end(out);
}

/* ---- paired differences ---- */

static void put_difference(const input *in, const json_t *c, kf_buf *out)
{
	const char *column[NAMES + 1], *a = input_string(c, "a"), *b = input_string(c, "b");
	chart_dot row[NAMES + 1];
	char heading[300], what[700];
	int n = columns_of(in, "mean", column), at;

	for (int i = 0; i < n; i++) {
		const json_t *d = input_at(c, "bits_per_byte", column[i], NULL);
		bool mean = i == n - 1;

		row[i] = (chart_dot){ .label = mean ? "mean" : kf_domain_label(column[i]), .value = input_real(d, "difference"),
			.low = input_real(d, "low"), .high = input_real(d, "high"),
			.mark = mark_of(in, a), .strong = mean };
	}
	snprintf(heading, sizeof heading, "%.*s less %.*s", CUT(a, 120), CUT(b, 120));
	at = snprintf(what, sizeof what, "Difference in bits per byte, %.280s, by domain with 95 %% intervals.", heading);
	if (isfinite(row[n - 1].value)) at += snprintf(what + at, sizeof what - (size_t)at, " Mean: %+.4f", row[n - 1].value);
	if (isfinite(row[n - 1].low) && isfinite(row[n - 1].high))
		snprintf(what + at, sizeof what - (size_t)at, " (%+.4f to %+.4f)", row[n - 1].low, row[n - 1].high);
	chart_begin(out, heading, NULL);
	chart_dots(out, row, n, true, 4, "bits per byte (below 0: the first is better)", what);
	chart_end(out);
}

static void difference_table(const input *in, kf_buf *out)
{
	const char *column[NAMES + 1];
	const json_t *c;
	int n = columns_of(in, "mean", column);
	size_t i;

	table_begin(out, "The differences as a table", "difference");
	for (int k = 0; k < n; k++) table_column(out, kf_domain_label(column[k]));
	table_body(out);
	json_array_foreach(json_object_get(in->eval, "comparisons"), i, c) {
		char name[300];

		snprintf(name, sizeof name, "%.*s less %.*s", CUT(input_string(c, "a"), 120), CUT(input_string(c, "b"), 120));
		table_row(out, name);
		for (int k = 0; k < n; k++) {
			const json_t *d = input_at(c, "bits_per_byte", column[k], NULL);

			html_raw(out, "<td>");
			html_number(out, input_real(d, "difference"), 4, true);
			table_range(out, input_real(d, "low"), input_real(d, "high"), 4, true);
			html_raw(out, "</td>");
		}
		table_row_end(out);
	}
	table_end(out);
}

/* ---- the section ---- */

void put_model_legend(const input *in, kf_buf *out)
{
	html_raw(out, "<p class=\"legend\">");
	if (in->n_sources) html_raw(out, "<span>● a source, as it comes</span>");
	if (in->target) html_raw(out, "<span>■ the target, as it comes</span>");
	if (in->n_sources || in->target) html_raw(out, "<span>◆ trained, merged, or a mixture</span>");
	if (in->result) html_put(out, "<span class=\"sr\">◆ <b>%s</b></span>", in->result);
	html_raw(out, "</p>\n");
}

static void put_bits(const input *in, kf_buf *out)
{
	const char *column[NAMES + 1];
	const json_t *list = json_object_get(in->eval, "comparisons"), *c;
	int n = columns_of(in, "mean", column);
	size_t i;

	put_first_alone(in, out);
	html_raw(out, "<p>How many bits each model needs for a byte of held-out text, all models on the same bytes. Whiskers: 95 % intervals over "
		"documents. They are wide where documents differ");
	html_raw(out, json_array_size(list) ? "; whether one model beats another is told by the differences below, in which what the documents have in common cancels.</p>\n" :
		".</p>\n");
	put_model_legend(in, out);
	html_raw(out, "<div class=\"panels\">\n");
	put_dots(in, "mean", "mean of the domains", out);
	for (int k = 0; k + 1 < n; k++) put_dots(in, column[k], kf_domain_label(column[k]), out);
	html_raw(out, "</div>\n");
	value_table(in, "bits_per_byte", false, "Bits per byte as a table", 4, out);
	if (json_object_size(json_object_get(in->eval, "perplexity")))
		value_table(in, "perplexity", true, "Perplexity per token of each model’s own tokenizer (comparable only between models that share one)", 2, out);
	if (!json_array_size(list)) return;
	html_raw(out, "<h3>Differences on the same documents</h3>\n<div class=\"panels\">\n");
	json_array_foreach(list, i, c) put_difference(in, c, out);
	html_raw(out, "</div>\n");
	difference_table(in, out);
}

const section section_bits = { "bits", "Bits per byte", bits_there, put_bits,
	"give the evaluation with <code>--eval</code>: what <code>kf-eval --report FILE</code> wrote." };
