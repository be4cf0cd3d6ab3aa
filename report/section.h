/* The sections of a page. */
#ifndef KF_REPORT_SECTION_H
#define KF_REPORT_SECTION_H

#include "common/base/table.h"
#include "report/chart.h"
#include "report/html.h"
#include "report/input.h"

typedef struct {
	const char *id, *title;
	bool (*there)(const input *in);
	void (*put)(const input *in, kf_buf *out);  /* when there; running out of memory shows in out */
	const char *fill;                           /* "what would be here: how to get it", HTML of ours */
} section;

extern const section section_runs, section_bits, section_tasks, section_seen, section_training, section_shares, section_passages, section_coverage,
	section_sizes, section_provenance;

/* The heading and what it says in a sentence and a few numbers. */
void put_headline(const input *in, kf_buf *out);

/* ---- what several of them use ---- */

/* Domains that were compared, and the column after them, into column (NAMES + 1): how many. */
int columns_of(const input *in, const char *last, const char **column);
/* What the marks of charts of models are. */
void put_model_legend(const input *in, kf_buf *out);
/* Of a task's metric: whether less is better, and what its values are shown times (those between 0 and 1 in per cent). */
bool task_lower_is_better(const json_t *metric);
double task_scale(const json_t *metric);
/* Of several runs: that what follows is about the first. */
void put_first_alone(const input *in, kf_buf *out);
/* Whether a model of the page was trained on this set; or on another of the page that is about the same text, as an ensemble's is not. */
bool trained_on(const input *in, const set_input *s);
bool trained_on_text(const input *in, const set_input *s);
/* What a set is about, by its manifest: "gemma3-270m", "gemma3-270m → smollm2-135m", "train"; the second of the kind that is about the same with
 * " (2)", and so on. */
void set_name(const input *in, const set_input *s, char *out, size_t size);
/* How an aligned set was made, "byte, map prefix"; how a fused one was, "dynamic", with the alignment where that is on the page. */
void set_way(const input *in, const set_input *s, char *out, size_t size);
/* MARK_* or the slot of a model of the evaluation. */
int mark_of(const input *in, const char *name);
/* The table behind a chart, folded away: table_begin, a table_column each, table_body, rows, table_end. A row is table_row,
 * cells (table_number, or a <td> of the caller's), table_row_end. */
void table_begin(kf_buf *out, const char *summary, const char *corner);
void table_column(kf_buf *out, const char *name);
void table_body(kf_buf *out);
void table_row(kf_buf *out, const char *name);
void table_number(kf_buf *out, double v, int decimals, bool sign);
/* An interval, small, under a number; nothing where there is none. */
void table_range(kf_buf *out, double low, double high, int decimals, bool sign);
void table_row_end(kf_buf *out);
void table_end(kf_buf *out);

#endif
