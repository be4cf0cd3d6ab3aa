#include "report/chart.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "common/base/table.h"
#include "report/html.h"
#include "report/input.h"

#define W CHART_WIDTH

/* ---- what all charts share ---- */

const char *chart_class(int mark)
{
	static const char *const SOURCE[SLOTS] = { "s0", "s1", "s2", "s3", "s4", "s5", "s6" };

	return mark >= 0 ? SOURCE[mark % SLOTS] : mark == MARK_TARGET ? "st" : mark == MARK_RESULT ? "sr" : "so";
}

char chart_letter(int mark)
{
	return mark >= 0 ? (char)('A' + mark % SLOTS) : 'T';
}

void chart_begin(kf_buf *out, const char *heading, const char *note)
{
	html_raw(out, "<figure class=\"panel\"><figcaption>");
	html_put(out, "<strong>%s</strong>", heading);
	if (note) html_put(out, " <span>%s</span>", note);
	html_raw(out, "</figcaption>\n");
}

void chart_end(kf_buf *out)
{
	html_raw(out, "</figure>\n");
}

/* The title is the chart's text alternative. No ids are needed: the first title child names an element. */
static void begin(kf_buf *out, int height, const char *what)
{
	html_put(out, "<svg class=\"chart\" viewBox=\"0 0 %d %d\" role=\"img\"><title>%s</title>\n", W, height, what);
}

static void end(kf_buf *out)
{
	html_raw(out, "</svg>\n");
}

/* What does not fit into so many columns ends in an ellipsis, and is told in full where the mouse points at it. */
static void label(kf_buf *out, double x, double y, const char *text, int columns, const char *class)
{
	const bool whole = kf_text_width(text) <= columns;

	html_put(out, "<text class=\"%s\" x=\"%.1f\" y=\"%.1f\">", class, x, y);
	html_text(out, (const uint8_t *)text, whole ? strlen(text) : kf_text_fit(text, columns - 1));
	if (!whole) {
		html_raw(out, "…");
		html_put(out, "<title>%s</title>", text);
	}
	html_raw(out, "</text>");
}

static void number(kf_buf *out, double x, double y, double v, int decimals, bool sign, const char *class)
{
	html_put(out, "<text class=\"%s\" x=\"%.1f\" y=\"%.1f\">", class, x, y);
	html_number(out, v, decimals, sign);
	html_raw(out, "</text>");
}

/* " (95 % interval LOW to HIGH)", where there is one. */
static void interval_text(kf_buf *out, double low, double high, int decimals, bool sign)
{
	if (!isfinite(low) || !isfinite(high)) return;
	html_raw(out, " (95 % interval ");
	html_number(out, low, decimals, sign);
	html_raw(out, " to ");
	html_number(out, high, decimals, sign);
	html_raw(out, ")");
}

/* Behind the row to look at. */
static void band(kf_buf *out, double y, double height)
{
	html_put(out, "<rect class=\"band\" x=\"0\" y=\"%.1f\" width=\"%d\" height=\"%.1f\" rx=\"4\"/>", y, W, height);
}

/* range[0] and range[1] are the least and the greatest so far. */
static void widen(double range[2], double v)
{
	if (!isfinite(v)) return;
	range[0] = fmin(range[0], v);
	range[1] = fmax(range[1], v);
}

/* A linear scale with ticks at round numbers. */
typedef struct {
	double low, high, from, to;          /* values; where they are drawn */
	double step, first;
	int ticks, decimals;
} scale;

static scale scale_of(double low, double high, double from, double to, int most)
{
	scale s = { .from = from, .to = to };
	double pad, raw, power;

	if (!(low <= high) || fabs(low) > 1e100 || fabs(high) > 1e100) low = high = 0; /* nothing that could be drawn */
	pad = high > low ? (high - low) * 0.05 : fabs(low) > 0 ? fabs(low) * 0.1 : 1;
	s.low = low - pad;
	s.high = high + pad;
	raw = (s.high - s.low) / most;
	power = pow(10, floor(log10(raw)));
	s.step = power * (raw / power <= 1 ? 1 : raw / power <= 2 ? 2 : raw / power <= 5 ? 5 : 10);
	s.first = ceil(s.low / s.step - 1e-9) * s.step;
	s.ticks = (int)floor((s.high - s.first) / s.step + 1e-9) + 1;
	s.decimals = s.step >= 1 ? 0 : (int)ceil(-log10(s.step) - 1e-9);
	if (s.decimals > 9) s.decimals = 9;
	return s;
}

static double at(const scale *s, double v)
{
	double t = (v - s->low) / (s->high - s->low);

	return s->from + (s->to - s->from) * fmin(1, fmax(0, t));
}

static void tick_text(kf_buf *out, const scale *s, int i, bool sign)
{
	double v = s->first + i * s->step;

	if (fabs(v) < s->step * 1e-6) v = 0;
	if (v != 0 && (fabs(v) < 1e-3 || fabs(v) >= 1e6)) html_put(out, "%.3g", v);
	else if (v == 0) html_raw(out, "0");
	else if (fabs(v) >= 1e3 && !s->decimals) html_count(out, v);
	else html_number(out, v, s->decimals, sign);
}

static void x_axis(kf_buf *out, const scale *s, double top, double bottom, bool sign, const char *unit)
{
	for (int i = 0; i < s->ticks; i++) {
		double x = at(s, s->first + i * s->step);

		html_put(out, "<path class=\"grid\" d=\"M%.1f %.1fV%.1f\"/><text class=\"tick mid\" x=\"%.1f\" y=\"%.1f\">", x, top, bottom,
			x, bottom + 13);
		tick_text(out, s, i, sign);
		html_raw(out, "</text>");
	}
	html_put(out, "<text class=\"unit mid\" x=\"%.1f\" y=\"%.1f\">%s</text>\n", (s->from + s->to) / 2, bottom + 28, unit);
}

static void shape(kf_buf *out, int mark, double x, double y, double r)
{
	if (mark >= 0) html_put(out, "<circle class=\"dot\" cx=\"%.1f\" cy=\"%.1f\" r=\"%.1f\"/>", x, y, r);
	else if (mark == MARK_TARGET)
		html_put(out, "<rect class=\"dot\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\"/>", x - r * 0.88, y - r * 0.88, r * 1.76,
			r * 1.76);
	else
		html_put(out, "<path class=\"dot\" d=\"M%.1f %.1fl%.1f %.1fl%.1f %.1fl%.1f %.1fz\"/>", x, y - r * 1.25, r * 1.25, r * 1.25,
			-r * 1.25, r * 1.25, -r * 1.25, -r * 1.25);
}

/* ---- dots ---- */

void chart_dots(kf_buf *out, const chart_dot *row, int n, bool zero, int decimals, const char *unit, const char *what)
{
	const double left = 122, right = 278, top = 4, step = 23;
	double range[2] = { zero ? 0 : INFINITY, zero ? 0 : -INFINITY }, bottom = top + n * step + 2;
	scale s;

	for (int i = 0; i < n; i++) {
		widen(range, row[i].value);
		widen(range, row[i].low);
		widen(range, row[i].high);
	}
	s = scale_of(range[0], range[1], left, right, 4);
	begin(out, (int)bottom + 36, what);
	for (int i = 0; i < n; i++) /* behind everything */
		if (row[i].strong) band(out, top + i * step, step);
	x_axis(out, &s, top, bottom, zero, unit);
	if (zero) html_put(out, "<path class=\"zero\" d=\"M%.1f %.1fV%.1f\"/>\n", at(&s, 0), top, bottom);
	for (int i = 0; i < n; i++) {
		const chart_dot *d = &row[i];
		double y = top + (i + 0.5) * step;

		label(out, 4, y + 4, d->label, 19, d->strong ? "name strong" : "name");
		number(out, W - 4, y + 4, d->value, decimals, zero, d->strong ? "value strong" : "value");
		if (!isfinite(d->value)) continue;
		html_put(out, "<g class=\"%s\"><title>%s: ", chart_class(d->mark), d->label);
		html_number(out, d->value, decimals, zero);
		interval_text(out, d->low, d->high, decimals, zero);
		html_raw(out, "</title>");
		if (isfinite(d->low) && isfinite(d->high))
			html_put(out, "<path class=\"whisker\" d=\"M%.1f %.1fH%.1fM%.1f %.1fv6M%.1f %.1fv6\"/>", at(&s, d->low), y, at(&s, d->high),
				at(&s, d->low), y - 3, at(&s, d->high), y - 3);
		shape(out, d->mark, at(&s, d->value), y, d->strong ? 5 : 4);
		html_raw(out, "</g>\n");
	}
	end(out);
}

/* ---- means over runs ---- */

/* A run of a row: an open dot, so that it is told from the mean, with its own interval where there is one. */
static void one_run(kf_buf *out, const chart_spread *s, int r, const scale *x, double y, int decimals, bool sign)
{
	bool whiskers = s->low && isfinite(s->low[r]) && isfinite(s->high[r]);

	html_put(out, "<g><title>%s, run %d: ", s->label, r + 1);
	html_number(out, s->value[r], decimals, sign);
	if (whiskers) interval_text(out, s->low[r], s->high[r], decimals, sign);
	html_raw(out, "</title>");
	if (whiskers) html_put(out, "<path class=\"own\" d=\"M%.1f %.1fH%.1f\"/>", at(x, s->low[r]), y, at(x, s->high[r]));
	html_put(out, "<circle class=\"run\" cx=\"%.1f\" cy=\"%.1f\" r=\"2.8\"/></g>", at(x, s->value[r]), y);
}

static void spread_row(kf_buf *out, const chart_spread *s, int runs, const scale *x, double y, double step, int decimals, bool sign)
{
	double range[2] = { INFINITY, -INFINITY };

	label(out, 4, y + 14, s->label, 19, s->strong ? "name strong" : "name");
	if (s->below) label(out, 4, y + 27, s->below, 24, "sub");
	number(out, W - 4, y + 14, s->mean, decimals, sign, s->strong ? "value strong" : "value");
	if (isfinite(s->sd)) {
		html_put(out, "<text class=\"sub end\" x=\"%d\" y=\"%.1f\">sd ", W - 4, y + 27);
		html_number(out, s->sd, decimals, false);
		html_raw(out, "</text>");
	}
	if (!isfinite(s->mean)) return;
	html_put(out, "<g class=\"%s\">", chart_class(s->mark));
	for (int r = 0; r < runs; r++) widen(range, s->value[r]);
	if (!s->low && range[1] > range[0])
		html_put(out, "<path class=\"own\" d=\"M%.1f %.1fH%.1f\"/>", at(x, range[0]), y + 24, at(x, range[1]));
	for (int r = 0, line = 0; r < runs; r++)
		if (isfinite(s->value[r])) one_run(out, s, r, x, y + 24 + (s->low ? step * line++ : 0), decimals, sign);
	html_put(out, "<g><title>%s, mean: ", s->label);
	html_number(out, s->mean, decimals, sign);
	html_raw(out, "</title>");
	shape(out, s->mark, at(x, s->mean), y + 10, s->strong ? 5 : 4);
	html_raw(out, "</g></g>\n");
}

void chart_spreads(kf_buf *out, const chart_spread *row, int n, int runs, bool zero, int decimals, const char *unit, const char *what)
{
	const double left = 122, right = 278, top = 4, step = 9;
	double range[2] = { zero ? 0 : INFINITY, zero ? 0 : -INFINITY }, height = 34, bottom;
	scale s;

	for (int i = 0; i < n; i++) {
		if (row[i].low) height = 34 + step * (runs - 1);
		for (int r = 0; r < runs; r++) {
			widen(range, row[i].value[r]);
			if (!row[i].low) continue;
			widen(range, row[i].low[r]);
			widen(range, row[i].high[r]);
		}
	}
	bottom = top + n * height + 2;
	s = scale_of(range[0], range[1], left, right, 4);
	begin(out, (int)bottom + 36, what);
	for (int i = 0; i < n; i++)
		if (row[i].strong) band(out, top + i * height, height);
	x_axis(out, &s, top, bottom, zero, unit);
	if (zero) html_put(out, "<path class=\"zero\" d=\"M%.1f %.1fV%.1f\"/>\n", at(&s, 0), top, bottom);
	for (int i = 0; i < n; i++) spread_row(out, &row[i], runs, &s, top + i * height, step, decimals, zero);
	end(out);
}

/* ---- lines ---- */

static const char *line_class(int style)
{
	static const char *const CLASS[CHART_LINES] = { "l0", "l1", "l2", "l3", "l4", "l5", "l6", "l7" };

	return CLASS[style % CHART_LINES];
}

void chart_line_swatch(kf_buf *out, int style)
{
	html_put(out, "<svg class=\"swatch\" viewBox=\"0 0 28 12\" aria-hidden=\"true\"><path class=\"line %s\" d=\"M1 6H27\"/></svg>",
		line_class(style));
}

static void extent(const chart_line *line, int n, double x[2], double y[2])
{
	x[0] = y[0] = INFINITY;
	x[1] = y[1] = -INFINITY;
	for (int i = 0; i < n; i++) {
		for (size_t k = 0; k < line[i].n; k++) {
			if (!isfinite(line[i].x[k]) || !isfinite(line[i].y[k])) continue;
			x[0] = fmin(x[0], line[i].x[k]);
			x[1] = fmax(x[1], line[i].x[k]);
			y[0] = fmin(y[0], line[i].y[k]);
			y[1] = fmax(y[1], line[i].y[k]);
		}
	}
}

static void one_line(kf_buf *out, const chart_line *l, const scale *sx, const scale *sy)
{
	bool pen = false, few = l->n <= 24;

	html_put(out, "<g class=\"%s\"><title>%s</title><path class=\"line %s\" d=\"", line_class(l->style), l->name, line_class(l->style));
	for (size_t k = 0; k < l->n; k++) {
		bool there = isfinite(l->x[k]) && isfinite(l->y[k]);

		if (there) html_put(out, pen ? "L%.1f %.1f" : "M%.1f %.1f", at(sx, l->x[k]), at(sy, l->y[k]));
		pen = there;
	}
	html_raw(out, "\"/>");
	for (size_t k = 0; few && k < l->n; k++)
		if (isfinite(l->x[k]) && isfinite(l->y[k]))
			shape(out, l->style == 0 ? MARK_RESULT : l->style % 2 ? 0 : MARK_TARGET, at(sx, l->x[k]), at(sy, l->y[k]), 2.6);
	if (l->best >= 0 && isfinite(l->y[l->best]))
		html_put(out, "<circle class=\"ring\" cx=\"%.1f\" cy=\"%.1f\" r=\"7\"/>", at(sx, l->x[l->best]), at(sy, l->y[l->best]));
	html_raw(out, "</g>\n");
}

void chart_lines(kf_buf *out, const chart_line *line, int n, const char *x_unit, const char *y_unit, const char *what)
{
	const double left = 52, right = W - 12, top = 22, bottom = 186;
	double x[2], y[2];
	scale sx, sy;

	extent(line, n, x, y);
	sx = scale_of(x[0], x[1], left, right, 5);
	sy = scale_of(y[0], y[1], bottom, top, 5);
	begin(out, (int)bottom + 36, what);
	html_put(out, "<text class=\"unit\" x=\"4\" y=\"12\">%s</text>", y_unit);
	for (int i = 0; i < sy.ticks; i++) {
		double at_y = at(&sy, sy.first + i * sy.step);

		html_put(out, "<path class=\"grid\" d=\"M%.1f %.1fH%.1f\"/><text class=\"tick end\" x=\"%.1f\" y=\"%.1f\">", left, at_y, right, left - 6,
			at_y + 3.5);
		tick_text(out, &sy, i, false);
		html_raw(out, "</text>");
	}
	x_axis(out, &sx, bottom, bottom + 3, false, x_unit);
	for (int i = n - 1; i >= 0; i--) one_line(out, &line[i], &sx, &sy); /* the first on top */
	end(out);
}

/* ---- bars ---- */

void chart_patterns(kf_buf *out)
{
	/* by slot; the target's own has none */
	static const char *const PATTERN[SLOTS] = {
		"", "<path d=\"M-1 7L7 -1M-1 1L1 -1M5 7L7 5\"/>", "<circle cx=\"3\" cy=\"3\" r=\"1.1\"/>", "<path d=\"M0 3H6M3 0V6\"/>",
		"<path d=\"M-1 -1L7 7M5 -1L7 1M-1 5L1 7\"/>", "<path d=\"M0 2H6\"/>", "<path d=\"M3 0V6\"/>" };

	html_raw(out, "<svg class=\"defs\" width=\"0\" height=\"0\" aria-hidden=\"true\"><defs>");
	for (int i = 1; i < SLOTS; i++) {
		html_put(out, "<pattern id=\"pattern%d\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\">", i);
		html_raw(out, PATTERN[i]);
		html_raw(out, "</pattern>");
	}
	html_raw(out, "</defs></svg>\n");
}

static void filled(kf_buf *out, double x, double y, double w, double h, int mark)
{
	html_put(out, "<rect class=\"fill %s\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\"/>", chart_class(mark), x, y, w, h);
	if (mark % SLOTS > 0)
		html_put(out, "<rect fill=\"url(#pattern%d)\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\"/>", mark % SLOTS, x, y, w, h);
}

void chart_swatch(kf_buf *out, int mark)
{
	html_raw(out, "<svg class=\"swatch\" viewBox=\"0 0 28 16\" aria-hidden=\"true\">");
	filled(out, 0, 0, 28, 16, mark);
	html_put(out, "<text class=\"chip %s\" x=\"14\" y=\"12\">%c</text></svg>", chart_class(mark), chart_letter(mark));
}

void chart_stack(kf_buf *out, const chart_bar *row, int n, const int *mark, const char *const *name, int n_parts,
	const char *unit, const char *what)
{
	const double left = 84, right = W - 6, top = 2, step = 28, thick = 18;
	scale s = { .low = 0, .high = 100, .from = left, .to = right, .step = 25, .first = 0, .ticks = 5 };

	begin(out, (int)(top + n * step) + 38, what);
	x_axis(out, &s, top, top + n * step + 2, false, unit);
	for (int i = 0; i < n; i++) {
		double x = left, y = top + i * step + (step - thick) / 2;

		label(out, 4, y + 13, row[i].label, 13, row[i].strong ? "name strong" : "name");
		for (int k = 0; k < n_parts; k++) {
			double share = row[i].total > 0 && row[i].part[k] > 0 ? row[i].part[k] / row[i].total : 0, w = share * (right - left);

			if (!(w > 0.05)) continue;
			html_put(out, "<g><title>%s, %s: %.1f %%</title>", row[i].label, name[k], 100 * share);
			filled(out, x, y, w, thick, mark[k]);
			if (w >= 34)
				html_put(out, "<text class=\"chip %s\" x=\"%.1f\" y=\"%.1f\">%c %.0f</text>", chart_class(mark[k]), x + w / 2, y + 13,
					chart_letter(mark[k]), 100 * share);
			html_raw(out, "</g>");
			x += w;
		}
		kf_buf_u8(out, '\n');
	}
	end(out);
}

void chart_bars(kf_buf *out, const chart_plain *row, int n, double most, const char *unit, const char *what)
{
	const double left = 134, right = W - 54, top = 2, step = 24, thick = 14;
	scale s = scale_of(0, most, left, right, 4);

	s.low = s.first = 0;
	s.high = most > 0 ? most : 1;
	s.ticks = (int)floor(s.high / s.step + 1e-9) + 1;
	begin(out, (int)(top + n * step) + 38, what);
	x_axis(out, &s, top, top + n * step + 2, false, unit);
	for (int i = 0; i < n; i++) {
		double y = top + i * step + (step - thick) / 2, w = at(&s, row[i].value) - left;

		label(out, 4, y + 11, row[i].label, 20, "name");
		if (!isfinite(row[i].value)) continue;
		html_put(out, "<g class=\"%s\"><title>%s: %s</title>", chart_class(row[i].mark), row[i].label, row[i].text);
		html_put(out, "<rect class=\"%s\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\"/>", isfinite(row[i].inner) ? "pale" : "fill", left, y,
			w, thick);
		if (isfinite(row[i].inner))
			html_put(out, "<rect class=\"fill\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\"/>", left, y, at(&s, row[i].inner) - left, thick);
		html_put(out, "</g><text class=\"value\" x=\"%d\" y=\"%.1f\">%s</text>\n", W - 4, y + 11, row[i].text);
	}
	end(out);
}
