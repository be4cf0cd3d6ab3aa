#include <math.h>
#include <stdio.h>
#include <string.h>

#include "common/base/table.h"
#include "common/base/record.h"
#include "eval/eval.h"
#include "eval/print.h"

/* ---- JSON ---- */

/* What stands after the domains, at n_domains and n_domains + 1. */
static const char *const after[] = { "mean", "all" };

static const char *column_name(const kf_eval_result *r, int i)
{
	return i < r->n_domains ? r->domain[i] : after[i - r->n_domains];
}

/* {DOMAIN: value, ..., "mean": value}, of columns values. */
static json_t *by_domain(const kf_eval_result *r, const double *v, int columns)
{
	json_t *o = json_object();

	for (int i = 0; i < columns; i++) json_object_set_new(o, column_name(r, i), kf_record_number(v[i]));
	return o;
}

static json_t *counts(const kf_eval_result *r, const double *v)
{
	json_t *o = json_object();

	for (int i = 0; i < r->n_domains; i++)
		json_object_set_new(o, r->domain[i], json_integer((json_int_t)v[i]));
	return o;
}

static json_t *of_models(const kf_eval_result *r, double *const *v, int columns)
{
	json_t *o = json_object();

	for (int m = 0; m < r->o->n_models; m++)
		json_object_set_new(o, r->o->model[m].name, by_domain(r, v[m], columns));
	return o;
}

/* {DOMAIN: {"difference": , "low": , "high": }, ..., "mean": ...}; of bits per byte, which stand elsewhere, without the estimate. */
static json_t *intervals(const kf_eval_result *r, const kf_eval_interval *v, bool difference)
{
	json_t *domains = json_object();

	for (int i = 0; i <= r->n_domains; i++) {
		json_t *one = json_object();

		if (difference) json_object_set_new(one, "difference", kf_record_number(v[i].estimate));
		json_object_set_new(one, "low", kf_record_number(v[i].low));
		json_object_set_new(one, "high", kf_record_number(v[i].high));
		json_object_set_new(domains, i < r->n_domains ? r->domain[i] : "mean", one);
	}
	return domains;
}

static json_t *comparison(const kf_eval_result *r, int c)
{
	json_t *o = json_object();

	json_object_set_new(o, "a", json_string(r->o->model[r->o->compare[c][0]].name));
	json_object_set_new(o, "b", json_string(r->o->model[r->o->compare[c][1]].name));
	json_object_set_new(o, "bits_per_byte", intervals(r, r->diff[c], true));
	return o;
}

static json_t *per_document(const kf_eval_result *r)
{
	json_t *list = json_array();

	for (size_t i = 0; i < r->n_docs; i++) {
		const kf_eval_doc *d = &r->doc[i];
		json_t *one = json_object(), *bits = json_object();

		for (int m = 0; m < r->o->n_models; m++)
			json_object_set_new(bits, r->o->model[m].name, kf_record_number(r->bits[m][i]));
		json_object_set_new(one, "doc", json_integer((json_int_t)d->doc));
		json_object_set_new(one, "text", json_integer((json_int_t)d->text));
		json_object_set_new(one, "domain", json_string(r->domain[d->domain]));
		json_object_set_new(one, "bytes", json_integer(d->compared));
		json_object_set_new(one, "bits", bits);
		json_array_append_new(list, one);
	}
	return list;
}

/* auto is float32, as kf_exec_new has it on the CPU, and kf_backend has named another on others */
kf_compute kf_eval_compute(const kf_eval_opts *o) { return o->compute == KF_COMPUTE_AUTO ? KF_COMPUTE_F32 : (kf_compute)o->compute; }

json_t *kf_eval_json_head(const kf_eval_opts *o)
{
	json_t *j = json_object(), *models = json_object();

	bool runs = false;

	for (int m = 0; m < o->n_models; m++) {
		json_object_set_new(models, o->model[m].name, kf_print_string(o->model[m].path));
		runs = runs || o->model[m].run;
	}
	json_object_set_new(j, "models", models);
	if (runs) json_object_set_new(j, "compute", json_string(kf_compute_name(kf_eval_compute(o))));
	json_object_set_new(j, "resamples", json_integer(KF_EVAL_RESAMPLES));
	json_object_set_new(j, "seed", json_integer((json_int_t)o->seed));
	return j;
}

json_t *kf_eval_json(const kf_eval_result *r)
{
	json_t *o = kf_eval_json_head(r->o), *list = json_array(), *of = json_object();

	if (!o || !list || !of) return NULL;
	for (int m = 0; m < r->o->n_models; m++) json_object_set_new(of, r->o->model[m].name, intervals(r, r->interval[m], false));
	for (int c = 0; c < r->o->n_compare; c++) json_array_append_new(list, comparison(r, c));
	json_object_set_new(o, "bits_per_byte", of_models(r, r->bpb, r->n_domains + 1));
	json_object_set_new(o, "intervals", of);
	json_object_set_new(o, "perplexity", of_models(r, r->ppl, r->n_domains + 2));
	json_object_set_new(o, "documents", counts(r, r->docs));
	json_object_set_new(o, "texts", counts(r, r->texts));
	json_object_set_new(o, "bytes", counts(r, r->bytes));
	json_object_set_new(o, "comparisons", list);
	if (r->o->per_document) json_object_set_new(o, "per_document", per_document(r));
	return o;
}

/* ---- for people ---- */

/* Four digits: other batches move the fifth. */
static void print_perplexity(char out[32], double v)
{
	if (isfinite(v)) snprintf(out, 32, "%.4g", v);
	else snprintf(out, 32, "-");
}

static const char *label(const kf_eval_result *r, int i)
{
	return kf_domain_label(column_name(r, i));
}

/* Columns of a terminal that column i takes. */
static int width_of(const kf_eval_result *r, int i)
{
	int width = 10;

	kf_text_widen(&width, label(r, i));
	return width;
}

/* Whether some documents are pieces of one text. */
static bool in_pieces(const kf_eval_result *r) { return r->texts[r->n_domains] < r->docs[r->n_domains]; }

/* Columns [from, to) of a table. */
typedef struct { int width, from, to; } block;

static void table_counts(const kf_eval_result *r, kf_buf *out, block b, const char *what, const double *v)
{
	kf_buf_printf(out, "%-*s", b.width, what);
	for (int i = b.from; i < b.to; i++) kf_buf_printf(out, " %*.0f", width_of(r, i), v[i]);
	kf_buf_printf(out, "\n");
}

static void table_block(const kf_eval_result *r, kf_buf *out, block b, const char *corner, double *const *v, void (*print)(char *, double))
{
	char cell[32];

	kf_buf_printf(out, "%-*s", b.width, corner);
	for (int i = b.from; i < b.to; i++) kf_buf_printf(out, " %*s", kf_text_field(label(r, i), width_of(r, i)), label(r, i));
	kf_buf_printf(out, "\n");
	for (int m = 0; m < r->o->n_models; m++) {
		kf_buf_printf(out, "%-*s", kf_text_field(r->o->model[m].name, b.width), r->o->model[m].name);
		for (int i = b.from; i < b.to; i++) {
			print(cell, v[m][i]);
			kf_buf_printf(out, " %*s", width_of(r, i), cell);
		}
		kf_buf_printf(out, "\n");
	}
}

/* A table, on a terminal in blocks of as many columns as it has room for. */
static void table(const kf_eval_result *r, kf_buf *out, const char *corner, double *const *v, int columns, void (*print)(char *, double), bool count)
{
	const int most = kf_print_width();
	block b = { .width = 12 };

	for (int m = 0; m < r->o->n_models; m++) kf_text_widen(&b.width, r->o->model[m].name);
	b.width += 2;
	for (; b.from < columns; b.from = b.to) {
		int used = b.width;

		for (b.to = b.from; b.to < columns && (b.to == b.from || used + 1 + width_of(r, b.to) <= most); b.to++) used += 1 + width_of(r, b.to);
		if (b.from) kf_buf_printf(out, "\n");
		table_block(r, out, b, corner, v, print);
		if (count && in_pieces(r)) table_counts(r, out, b, "texts", r->texts);
		if (count) table_counts(r, out, b, "documents", r->docs);
		if (count) table_counts(r, out, b, "bytes", r->bytes);
	}
}

void kf_eval_table(const kf_eval_result *r, kf_buf *out)
{
	table(r, out, "bits per byte", r->bpb, r->n_domains + 1, kf_print_value, true);
	for (int c = 0; c < r->o->n_compare; c++) {
		const kf_eval_interval *d = &r->diff[c][r->n_domains];

		kf_buf_printf(out, "%s - %s: %+.4f bits per byte in the mean", r->o->model[r->o->compare[c][0]].name,
			r->o->model[r->o->compare[c][1]].name, d->estimate);
		if (isfinite(d->low)) kf_buf_printf(out, " (95 %% interval %+.4f to %+.4f)", d->low, d->high);
		kf_buf_printf(out, "\n");
	}
	kf_buf_printf(out, "\n");
	table(r, out, "perplexity", r->ppl, r->n_domains + 2, print_perplexity, false);
}

static void header(const kf_eval_result *r, kf_buf *out, const char *corner, int columns)
{
	kf_buf_printf(out, "| %s |", corner);
	for (int i = 0; i < columns; i++) {
		kf_buf_printf(out, " ");
		kf_print_cell(out, label(r, i));
		kf_buf_printf(out, " |");
	}
	kf_buf_printf(out, "\n|---|");
	for (int i = 0; i < columns; i++) kf_buf_printf(out, "---:|");
	kf_buf_printf(out, "\n");
}

static bool best(const kf_eval_result *r, int model, int column)
{
	for (int m = 0; m < r->o->n_models; m++)
		if (r->bpb[m][column] < r->bpb[model][column]) return false;
	return r->o->n_models > 1 && isfinite(r->bpb[model][column]);
}

/* bold: the best bits per byte of a column. */
static void rows(const kf_eval_result *r, kf_buf *out, double *const *v, int columns, void (*print)(char *, double), bool bold)
{
	char cell[32];

	for (int m = 0; m < r->o->n_models; m++) {
		kf_buf_printf(out, "| ");
		kf_print_cell(out, r->o->model[m].name);
		kf_buf_printf(out, " |");
		for (int i = 0; i < columns; i++) {
			print(cell, v[m][i]);
			kf_buf_printf(out, bold && best(r, m, i) ? " **%s** |" : " %s |", cell);
		}
		kf_buf_printf(out, "\n");
	}
}

static void row_counts(const kf_eval_result *r, kf_buf *out, const char *what, const double *v)
{
	kf_buf_printf(out, "| *%s* |", what);
	for (int i = 0; i <= r->n_domains; i++) kf_buf_printf(out, " %.0f |", v[i]);
	kf_buf_printf(out, "\n");
}

void kf_eval_markdown(const kf_eval_result *r, kf_buf *out)
{
	int last = r->n_domains;

	kf_buf_printf(out, "Bits per byte: lower is better, the best of a column is bold. The mean is\n"
		"over the domains, unweighted.\n\n");
	header(r, out, "bits per byte", last + 1);
	rows(r, out, r->bpb, last + 1, kf_print_value, true);
	if (in_pieces(r)) row_counts(r, out, "texts", r->texts);
	row_counts(r, out, "documents", r->docs);
	row_counts(r, out, "bytes", r->bytes);
	if (r->o->n_compare) {
		kf_buf_printf(out, "\nDifferences in bits per byte on the same documents (negative: the first is better), with the\n"
			"95 %% interval of a paired bootstrap over %s (%d resamples).\n\n", in_pieces(r) ? "texts, with all their documents" : "documents",
			KF_EVAL_RESAMPLES);
		header(r, out, "difference", last + 1);
	}
	for (int c = 0; c < r->o->n_compare; c++) {
		kf_buf_printf(out, "| ");
		kf_print_cell(out, r->o->model[r->o->compare[c][0]].name);
		kf_buf_printf(out, " − ");
		kf_print_cell(out, r->o->model[r->o->compare[c][1]].name);
		kf_buf_printf(out, " |");
		for (int i = 0; i <= last; i++) {
			const kf_eval_interval *d = &r->diff[c][i];

			if (!isfinite(d->estimate)) kf_buf_printf(out, " - |");
			else if (!isfinite(d->low)) kf_buf_printf(out, " %+.4f |", d->estimate);
			else kf_buf_printf(out, " %+.4f (%+.4f to %+.4f) |", d->estimate, d->low, d->high);
		}
		kf_buf_printf(out, "\n");
	}
	kf_buf_printf(out, "\nPerplexity per token of each model's own tokenizer: only comparable between models that share one. The mean is over\n"
		"the domains, unweighted; all: of all tokens at once.\n\n");
	header(r, out, "perplexity", last + 2);
	rows(r, out, r->ppl, last + 2, print_perplexity, false);
}
