/* Training curves. */
#include <math.h>
#include <stdio.h>

#include "report/section.h"

#define POINTS 160                       /* of a line at most: more are averaged */

/* Whether a model has something to draw. */
static bool drawn(const input *in)
{
	for (int i = 0; i < in->n_models; i++)
		if (in->model[i].n_steps || in->model[i].n_epochs) return true;
	return false;
}

static bool validated(const input *in)
{
	for (int i = 0; i < in->n_models; i++)
		if (in->model[i].n_epochs) return true;
	return false;
}

static bool training_there(const input *in)
{
	for (int i = 0; i < in->n_models; i++)
		if (in->model[i].elsewhere) return true;
	return drawn(in);
}

static bool is_result(const input *in, int m)
{
	return in->result && strcmp(in->model[m].name, in->result) == 0;
}

/* The result is drawn as itself, the others in the order given. */
static int style_of(const input *in, int m)
{
	int style = 1;

	if (is_result(in, m)) return 0;
	for (int i = 0; i < m; i++) style += !is_result(in, i) && (in->model[i].n_steps || in->model[i].n_epochs);
	return 1 + (style - 1) % (CHART_LINES - 1);
}

typedef struct {
	double *x[KF_REPORT_MODELS], *y[KF_REPORT_MODELS];
	chart_line line[KF_REPORT_MODELS];
	int n;
} lines;

static void lines_release(lines *l)
{
	for (int i = 0; i < l->n; i++) {
		kf_free(l->x[i]);
		kf_free(l->y[i]);
	}
}

static chart_line *add_line(const input *in, lines *l, int m, size_t n, kf_buf *out)
{
	int i = l->n++;

	l->x[i] = kf_alloc(n, sizeof(double));
	l->y[i] = kf_alloc(n, sizeof(double));
	if (!l->x[i] || !l->y[i]) {
		out->failed = true;
		return NULL;
	}
	l->line[i] = (chart_line){ .name = in->model[m].name, .style = style_of(in, m), .x = l->x[i], .y = l->y[i], .best = -1 };
	return &l->line[i];
}

/* Validation by epoch, one line a model. */
static void put_validation(const input *in, kf_buf *out)
{
	lines l = { .n = 0 };
	char what[600] = "Bits per byte of the validation text after each epoch.";

	for (int m = 0; m < in->n_models; m++) {
		const trained *t = &in->model[m];
		chart_line *line;

		if (!t->n_epochs) continue;
		if (!(line = add_line(in, &l, m, t->n_epochs, out))) goto out;
		for (size_t k = 0; k < t->n_epochs; k++) {
			l.x[l.n - 1][k] = t->epochs[k].epoch;
			l.y[l.n - 1][k] = t->epochs[k].bits;
			if (t->epochs[k].best && isfinite(t->epochs[k].epoch)) line->best = (int)k;
		}
		line->n = t->n_epochs;
		if (line->best >= 0) {
			size_t at = strlen(what);

			snprintf(what + at, sizeof what - at, " %.*s: best %.4f after epoch %.0f.", CUT(t->name, 60), t->epochs[line->best].bits,
				t->epochs[line->best].epoch);
		}
	}
	if (!l.n) goto out;
	chart_begin(out, "Validation text", "the ring is the epoch that was kept");
	chart_lines(out, l.line, l.n, "epoch", "bits per byte", what);
	chart_end(out);
out:
	lines_release(&l);
}

/* A value of every step, averaged to POINTS. */
static void put_steps(const input *in, double (*value)(const log_step *), const char *heading, const char *note, const char *unit, kf_buf *out)
{
	lines l = { .n = 0 };
	char what[300];

	for (int m = 0; m < in->n_models; m++) {
		const trained *t = &in->model[m];
		size_t points = t->n_steps < POINTS ? t->n_steps : POINTS, some = 0;
		chart_line *line;

		if (!points) continue;
		if (!(line = add_line(in, &l, m, points, out))) goto out;
		for (size_t p = 0; p < points; p++) {
			size_t from = p * t->n_steps / points, to = (p + 1) * t->n_steps / points;
			double sum = 0, n = 0;

			for (size_t k = from; k < to; k++) {
				double v = value(&t->steps[k]);

				if (!isfinite(v)) continue;
				sum += v;
				n++;
			}
			l.x[l.n - 1][p] = t->steps[to - 1].tokens / 1000;
			l.y[l.n - 1][p] = n > 0 ? sum / n : NAN;
			some += n > 0;
		}
		line->n = points;
		if (some) continue;
		l.n--; /* nothing to draw */
		kf_free(l.x[l.n]);
		kf_free(l.y[l.n]);
	}
	if (!l.n) goto out;
	snprintf(what, sizeof what, "%s of %d model%s against thousands of tokens trained on.", heading, l.n, l.n == 1 ? "" : "s");
	chart_begin(out, heading, note);
	chart_lines(out, l.line, l.n, "tokens trained on, thousands", unit, what);
	chart_end(out);
out:
	lines_release(&l);
}

static double clm_of(const log_step *s) { return s->clm; }
static double fusion_of(const log_step *s) { return s->lambda < 1 ? s->fusion : NAN; }
static double lr_of(const log_step *s) { return 1e6 * s->lr; }

static void put_table(const input *in, kf_buf *out)
{
	table_begin(out, "Training in numbers", "model");
	table_column(out, "steps");
	table_column(out, "tokens");
	table_column(out, "epoch kept");
	table_column(out, "validation, bits per byte");
	table_column(out, "before training");
	table_body(out);
	for (int m = 0; m < in->n_models; m++) {
		const trained *t = &in->model[m];
		double best = NAN, kept = NAN, before = NAN;

		if (!t->n_steps) continue;
		for (size_t k = 0; k < t->n_epochs; k++) {
			if (t->epochs[k].epoch == 0) before = t->epochs[k].bits;
			if (!t->epochs[k].best) continue;
			best = t->epochs[k].bits;
			kept = t->epochs[k].epoch;
		}
		table_row(out, t->name);
		table_number(out, (double)t->n_steps, 0, false);
		html_raw(out, "<td>");
		html_count(out, t->steps[t->n_steps - 1].tokens);
		html_raw(out, "</td>");
		table_number(out, kept, 0, false);
		table_number(out, best, 4, false);
		table_number(out, before, 4, false);
		table_row_end(out);
	}
	table_end(out);
}

/* Models whose training is not drawn, though they were trained. */
static void put_elsewhere(const input *in, kf_buf *out)
{
	int n = 0;

	for (int m = 0; m < in->n_models; m++) {
		if (!in->model[m].elsewhere) continue;
		html_put(out, n++ ? ", <b>%s</b>" : "<p class=\"fine\">Not here, as <code>log.jsonl</code> in their folders is not the log of all their training: <b>%s</b>",
			in->model[m].name);
	}
	if (n) html_raw(out, ".</p>\n");
}

static void put_training(const input *in, kf_buf *out)
{
	if (!drawn(in)) {
		put_elsewhere(in, out);
		return;
	}
	html_raw(out, "<p>");
	if (validated(in)) html_raw(out, "A model that was validated keeps the epoch that predicts the validation text best. ");
	html_raw(out, "Losses of different mixtures are not comparable, the cross-entropy of the text is.</p>\n<p class=\"legend\">");
	for (int m = 0; m < in->n_models; m++) {
		if (!in->model[m].n_steps && !in->model[m].n_epochs) continue;
		html_raw(out, "<span>");
		chart_line_swatch(out, style_of(in, m));
		html_put(out, " %s</span>", in->model[m].name);
	}
	html_raw(out, "</p>\n<div class=\"panels two\">\n");
	put_validation(in, out);
	put_steps(in, clm_of, "Training text", "cross-entropy of the text", "nats a token", out);
	put_steps(in, fusion_of, "Fusion", "loss against the fused distribution", "nats a token", out);
	put_steps(in, lr_of, "Learning rate", NULL, "millionths", out);
	html_raw(out, "</div>\n");
	put_table(in, out);
	put_elsewhere(in, out);
}

const section section_training = { "training", "Training", training_there, put_training,
	"give the trained models with <code>--model NAME=DIR</code>: their folders hold <code>log.jsonl</code>, which <code>kf-train</code> writes." };
