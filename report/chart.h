/* Charts as inline SVG. A panel is 340 units wide, drawn at about that many pixels, so that its text is legible on a phone;
 * where there is room, panels stand side by side. Colours come from classes that the page's style defines for light and
 * dark; shapes, dashes and patterns tell the same as colours do.
 */
#ifndef KF_REPORT_CHART_H
#define KF_REPORT_CHART_H

#include "common/base/mem.h"

#define CHART_WIDTH 340

/* What a mark stands for: a source's slot (0 ..), or one of these. */
enum { MARK_TARGET = -1, MARK_OTHER = -2, MARK_RESULT = -3 };

const char *chart_class(int mark);       /* "s0" .. , "st", "so", "sr" */

/* A panel of a section: a figure with a heading. */
void chart_begin(kf_buf *out, const char *heading, const char *note);
void chart_end(kf_buf *out);

/* ---- dots with whiskers, one row each ---- */

typedef struct {
	const char *label;
	double value, low, high;             /* NAN: none */
	int mark;
	bool strong;                         /* the one to look at */
} chart_dot;

/* zero: a difference, with a line at 0. unit: under the axis. what: the chart in words, for who cannot see it. */
void chart_dots(kf_buf *out, const chart_dot *row, int n, bool zero, int decimals, const char *unit, const char *what);

/* ---- the mean over several runs, and every run below it, one row each ---- */

typedef struct {
	const char *label, *below;           /* below: small, under the label; NULL: nothing */
	double mean, sd;                     /* sd NAN: none */
	const double *value;                 /* (runs) of each; NAN: none */
	const double *low, *high;            /* (runs) each run's interval; NULL: none are drawn, and runs share a line */
	int mark;
	bool strong;
} chart_spread;

void chart_spreads(kf_buf *out, const chart_spread *row, int n, int runs, bool zero, int decimals, const char *unit, const char *what);

/* ---- lines ---- */

typedef struct {
	const char *name;
	int style;                           /* 0 the result, 1 .. others */
	const double *x, *y;                 /* (n) ascending x; y NAN: a gap */
	size_t n;
	int best;                            /* index of a point to ring, -1: none */
} chart_line;

#define CHART_LINES 8                    /* styles told apart */

void chart_lines(kf_buf *out, const chart_line *line, int n, const char *x_unit, const char *y_unit, const char *what);
/* A swatch of a style, for legends. */
void chart_line_swatch(kf_buf *out, int style);

/* ---- bars ---- */

typedef struct {
	const char *label;
	const double *part;                  /* (n_parts) */
	double total;                        /* where the scale ends for it: parts are shares of it */
	bool strong;
} chart_bar;

/* Stacked: part k has mark[k]; segments wide enough say their percentage. */
void chart_stack(kf_buf *out, const chart_bar *row, int n, const int *mark, const char *const *name, int n_parts,
	const char *unit, const char *what);

/* Plain bars from 0 to most; inner (or NAN) is a part of value that is drawn darker. text is written at the end. */
typedef struct {
	const char *label, *text;
	double value, inner;
	int mark;
} chart_plain;

void chart_bars(kf_buf *out, const chart_plain *row, int n, double most, const char *unit, const char *what);

/* The patterns that charts refer to: once a page, before the first chart. */
void chart_patterns(kf_buf *out);
/* A swatch of a mark's colour and pattern with its letter, for legends and tables. */
void chart_swatch(kf_buf *out, int mark);
char chart_letter(int mark);             /* A, B, ..; T: the target */

#endif
