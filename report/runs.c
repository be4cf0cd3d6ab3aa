/* Several runs of one experiment: what the models reach in the mean over them, and how far the runs are apart. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "report/section.h"
#include "report/spread.h"

static bool runs_there(const input *in) { return in->n_runs > 1; }

static bool is_result(const input *in, const char *name)
{
	return in->result && strcmp(in->result, name) == 0;
}

/* A cell: the mean, and small the standard deviation and what else there is to say. */
static void put_cell(const input *in, const spread *s, int decimals, bool difference, double by, kf_buf *out)
{
	html_raw(out, "<td>");
	html_number(out, by * s->mean, decimals, difference);
	if (isfinite(s->sd)) {
		html_raw(out, "<small>sd ");
		html_number(out, by * s->sd, decimals, false);
		html_raw(out, "</small>");
	}
	if (difference && s->n) html_put(out, "<small>below 0 in %d of %d</small>", s->below, s->n);
	else if (s->n && s->n < in->n_runs) html_put(out, "<small>%d of %d runs</small>", s->n, in->n_runs);
	html_raw(out, "</td>");
}

/* The columns of every run, each with its own interval. */
static void run_columns(const input *in, kf_buf *out)
{
	char name[32];

	for (int r = 0; r < in->n_runs; r++) {
		snprintf(name, sizeof name, "run %d", r + 1);
		table_column(out, name);
	}
}

static void run_cells(const input *in, const spread *s, int decimals, bool sign, kf_buf *out)
{
	for (int r = 0; r < in->n_runs; r++) {
		html_raw(out, "<td>");
		html_number(out, s->value[r], decimals, sign);
		table_range(out, s->low[r], s->high[r], decimals, sign);
		html_raw(out, "</td>");
	}
}

/* ---- models ---- */

static void put_models(const input *in, kf_buf *out)
{
	const char *name[NAMES];
	int n = runs_models(in, "bits_per_byte", name), best = -1;
	spread *of = kf_alloc((size_t)n, sizeof *of);
	chart_spread row[NAMES];
	char few[NAMES][40], note[60], what[700];

	if (!of) {
		out->failed = true;
		return;
	}
	for (int i = 0; i < n; i++) {
		of[i] = spread_bits(in, name[i], "mean");
		snprintf(few[i], sizeof few[i], "%d of %d runs", of[i].n, in->n_runs);
		row[i] = (chart_spread){ .label = name[i], .below = of[i].n < in->n_runs ? few[i] : NULL, .mean = of[i].mean, .sd = of[i].sd,
			.value = of[i].value, .mark = mark_of(in, name[i]), .strong = is_result(in, name[i]) };
		if (of[i].n == in->n_runs && (best < 0 || of[i].mean < of[best].mean)) best = i;
	}
	snprintf(note, sizeof note, "mean of the domains, %d runs", in->n_runs);
	snprintf(what, sizeof what, "Bits per byte of %d models in the mean over %d runs, and of every run.", n, in->n_runs);
	if (best >= 0) {
		size_t at = strlen(what);

		snprintf(what + at, sizeof what - at, " Lowest of those in all runs: %.200s, %.4f.", name[best], of[best].mean);
	}
	chart_begin(out, "Every model", note);
	chart_spreads(out, row, n, in->n_runs, false, 4, "bits per byte (lower is better)", what);
	chart_end(out);
	kf_free(of);
}

static void by_domain(const input *in, const char *summary, spread (*figure)(const input *, const char *, const char *), int decimals, kf_buf *out)
{
	const char *name[NAMES], *column[NAMES + 1];
	int n = runs_models(in, "bits_per_byte", name), columns = columns_of(in, "mean", column);

	table_begin(out, summary, "model");
	for (int k = 0; k < columns; k++) table_column(out, kf_domain_label(column[k]));
	table_body(out);
	for (int i = 0; i < n; i++) {
		table_row(out, name[i]);
		for (int k = 0; k < columns; k++) {
			spread s = figure(in, name[i], column[k]);

			put_cell(in, &s, decimals, false, 1, out);
		}
		table_row_end(out);
	}
	table_end(out);
}

static void model_tables(const input *in, kf_buf *out)
{
	const char *name[NAMES];
	int n = runs_models(in, "bits_per_byte", name);

	by_domain(in, "Bits per byte over runs, by domain", spread_bits, 4, out);
	if (json_object_size(json_object_get(in->eval, "perplexity")))
		by_domain(in, "Perplexity over runs, by domain (per token of a model’s own tokenizer)", spread_perplexity, 2, out);
	table_begin(out, "Bits per byte of every run, mean of the domains", "model");
	run_columns(in, out);
	table_body(out);
	for (int i = 0; i < n; i++) {
		spread s = spread_bits(in, name[i], "mean");

		table_row(out, name[i]);
		run_cells(in, &s, 4, false, out);
		table_row_end(out);
	}
	table_end(out);
}

/* ---- differences ---- */

/* All pairs with the same first model in one chart. */
static void put_against(const input *in, const char *first, kf_buf *out)
{
	size_t most = json_array_size(json_object_get(in->eval, "comparisons"));
	spread *of = kf_alloc(most, sizeof *of);
	chart_spread *row = kf_alloc(most, sizeof *row);
	char (*below)[48] = kf_alloc(most, sizeof *below);
	char heading[200], what[400];
	const char *a, *b;
	int n = 0;

	if (!of || !row || !below) {
		out->failed = true;
		goto out;
	}
	for (size_t i = 0; i < most; i++) {
		if (!runs_all_compare(in, i, &a, &b) || strcmp(a, first) != 0) continue;
		of[n] = spread_difference(in, a, b, "mean");
		snprintf(below[n], sizeof below[n], "below 0 in %d of %d", of[n].below, of[n].n);
		row[n] = (chart_spread){ .label = b, .below = of[n].n ? below[n] : NULL, .mean = of[n].mean, .sd = of[n].sd,
			.value = of[n].value, .low = of[n].low, .high = of[n].high, .mark = mark_of(in, a) };
		n++;
	}
	snprintf(heading, sizeof heading, "%.*s less …", CUT(first, 120));
	snprintf(what, sizeof what, "Differences in bits per byte of %.*s to %d other model%s: in the mean over %d runs, and every run with its own "
		"95 %% interval.", CUT(first, 120), n, n == 1 ? "" : "s", in->n_runs);
	chart_begin(out, heading, "mean of the domains; under it the runs, run 1 first, with their own intervals");
	chart_spreads(out, row, n, in->n_runs, true, 4, "bits per byte (below 0: the first is better)", what);
	chart_end(out);
out:
	kf_free(below);
	kf_free(row);
	kf_free(of);
}

/* One chart for every model that is compared with others. */
static void put_differences(const input *in, kf_buf *out)
{
	size_t n = json_array_size(json_object_get(in->eval, "comparisons"));
	const char *a, *b, *before, *other;

	for (size_t i = 0; i < n; i++) {
		bool done = false;

		if (!runs_all_compare(in, i, &a, &b)) continue;
		for (size_t k = 0; k < i && !done; k++) done = runs_all_compare(in, k, &before, &other) && strcmp(before, a) == 0;
		if (!done) put_against(in, a, out);
	}
}

static void pair_row(const char *a, const char *b, kf_buf *out)
{
	char name[300];

	snprintf(name, sizeof name, "%.*s less %.*s", CUT(a, 120), CUT(b, 120));
	table_row(out, name);
}

static void difference_tables(const input *in, kf_buf *out)
{
	const char *column[NAMES + 1], *a, *b;
	size_t n = json_array_size(json_object_get(in->eval, "comparisons"));
	int columns = columns_of(in, "mean", column);

	table_begin(out, "The differences over runs, by domain", "difference");
	for (int k = 0; k < columns; k++) table_column(out, kf_domain_label(column[k]));
	table_body(out);
	for (size_t i = 0; i < n; i++) {
		if (!runs_all_compare(in, i, &a, &b)) continue;
		pair_row(a, b, out);
		for (int k = 0; k < columns; k++) {
			spread s = spread_difference(in, a, b, column[k]);

			put_cell(in, &s, 4, true, 1, out);
		}
		table_row_end(out);
	}
	table_end(out);
	table_begin(out, "The differences of every run, mean of the domains", "difference");
	run_columns(in, out);
	table_body(out);
	for (size_t i = 0; i < n; i++) {
		spread s;

		if (!runs_all_compare(in, i, &a, &b)) continue;
		s = spread_difference(in, a, b, "mean");
		pair_row(a, b, out);
		run_cells(in, &s, 4, true, out);
		table_row_end(out);
	}
	table_end(out);
}

/* Pairs that some evaluations compare and others do not: each once, at the first run that has it. */
static void put_left_out(const input *in, kf_buf *out)
{
	const json_t *c;
	bool any = false;
	size_t i;

	for (int r = 0; r < in->n_runs; r++) {
		json_array_foreach(json_object_get(in->run[r], "comparisons"), i, c) {
			const char *a = input_string(c, "a"), *b = input_string(c, "b");
			int first = 0;

			while (!run_comparison(in, first, a, b)) first++;
			if (runs_comparing(in, a, b) == in->n_runs || first < r || run_comparison(in, r, a, b) != c) continue;
			html_put(out, any ? "; %s less %s (%d)" : "<p class=\"fine\">Not compared in every run, and so not shown: %s less %s (%d)", a, b,
				runs_comparing(in, a, b));
			any = true;
		}
	}
	if (any) html_put(out, " of %d runs.</p>\n", in->n_runs);
}

/* ---- tasks ---- */

/* Whether a run before r has a task's metric: it was told then. */
static bool told_before(const input *in, int r, const char *task, const char *metric)
{
	while (--r >= 0)
		if (input_at(in->run[r], "tasks", task, "metrics", metric, NULL)) return true;
	return false;
}

static void task_rows(const input *in, int r, const char *const *model, int n, kf_buf *out)
{
	const char *task, *name;
	json_t *facts, *metric;

	json_object_foreach(json_object_get(in->run[r], "tasks"), task, facts) {
		json_object_foreach(json_object_get(facts, "metrics"), name, metric) {
			bool lower = task_lower_is_better(metric);

			if (told_before(in, r, task, name)) continue;
			table_row(out, task);
			html_put(out, "<td class=\"left\">%s%s</td>", name, lower ? " (lower is better)" : ", %");
			for (int i = 0; i < n; i++) {
				spread s = spread_score(in, task, name, model[i]);

				put_cell(in, &s, lower ? 4 : 1, false, task_scale(metric), out);
			}
			table_row_end(out);
		}
	}
}

static void task_table(const input *in, kf_buf *out)
{
	const char *model[NAMES];
	int n = runs_models(in, "models", model);

	table_begin(out, "Scores on tasks over runs", "task");
	table_column(out, "score");
	for (int i = 0; i < n; i++) table_column(out, model[i]);
	table_body(out);
	for (int r = 0; r < in->n_runs; r++) task_rows(in, r, model, n, out);
	table_end(out);
}

/* ---- the runs ---- */

static double sum_of(const json_t *counts)
{
	const char *name;
	double sum = 0;
	json_t *v;

	json_object_foreach((json_t *)(uintptr_t)counts, name, v) sum += fmax(0, input_number(v));
	return sum;
}

static void run_table(const input *in, kf_buf *out)
{
	char summary[64];

	snprintf(summary, sizeof summary, "The %d runs", in->n_runs);
	table_begin(out, summary, "run");
	table_column(out, "evaluation");
	table_column(out, "documents");
	table_column(out, "text");
	table_column(out, "models");
	table_body(out);
	for (int r = 0; r < in->n_runs; r++) {
		char name[32];

		snprintf(name, sizeof name, "run %d", r + 1);
		table_row(out, name);
		html_put(out, "<td class=\"left\"><code>%s</code></td>", in->o->evals[r]);
		html_raw(out, "<td>");
		html_count(out, sum_of(json_object_get(in->run[r], "documents")));
		html_raw(out, "</td><td>");
		html_bytes(out, sum_of(json_object_get(in->run[r], "bytes")));
		html_put(out, "</td><td>%zu</td>", json_object_size(json_object_get(in->run[r], "models")));
		table_row_end(out);
	}
	table_end(out);
}

/* ---- the section ---- */

static void put_runs(const input *in, kf_buf *out)
{
	const char *a, *b, *name[NAMES];
	size_t n = json_array_size(json_object_get(in->eval, "comparisons")), pairs = 0;
	int models = runs_models(in, "bits_per_byte", name);
	bool few = false;

	for (int i = 0; i < models; i++) few |= spread_bits(in, name[i], "mean").n < in->n_runs;
	for (size_t i = 0; i < n; i++) pairs += runs_all_compare(in, i, &a, &b);
	html_put(out, "<p>%d evaluations of models of the same names: runs of one experiment, told apart by what was changed between them (seeds, text "
		"to train on, text to test on). A filled mark is the mean over the runs, an open dot a run. The standard deviation (sd) is over the runs, with "
		"n − 1; of two or three runs it is a rough figure, so every run is shown, and no significance is worked out. The rest of this "
		"page is about run 1.</p>\n", in->n_runs);
	if (models) {
		html_raw(out, "<p>A model’s own figure moves with the test text, where that differs from run to run. In the difference of two models in one "
			"run, what the text does to both cancels.");
		if (few) html_raw(out, " A model that some runs lack is averaged over those that have it; where test texts differ, that is not the same text.");
		html_raw(out, "</p>\n");
		put_model_legend(in, out);
		html_raw(out, "<div class=\"panels\">\n");
		put_models(in, out);
		put_differences(in, out);
		html_raw(out, "</div>\n");
		if (!pairs)
			html_raw(out, "<p class=\"fine\">No two models are compared in every run: <code>kf-eval --compare A,B</code> in each would show their "
				"differences here.</p>\n");
		model_tables(in, out);
	}
	if (pairs) difference_tables(in, out);
	put_left_out(in, out);
	for (int r = 0; r < in->n_runs; r++) {
		if (!json_object_size(json_object_get(in->run[r], "tasks"))) continue;
		task_table(in, out);
		break;
	}
	run_table(in, out);
}

const section section_runs = { "runs", "Over runs", runs_there, put_runs,
	"give <code>--eval</code> for each of several runs of an experiment: models of the same names under other seeds." };
