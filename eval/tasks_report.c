/* Tasks in reports. */
#include "common/base/record.h"
#include "eval/tasks.h"

#include <math.h>
#include <string.h>

#include "common/base/table.h"
#include "eval/print.h"

static const char *name_of(const kf_tasks_result *r, int m) { return r->o->e->model[m].name; }
static bool takes_part(const kf_tasks_result *r, int m) { return r->o->e->model[m].run != NULL; }

/* ---- JSON ---- */

static json_t *interval(const char *what, const kf_eval_interval *v)
{
	json_t *o = json_object();

	json_object_set_new(o, what, kf_record_number(v->estimate));
	json_object_set_new(o, "low", kf_record_number(v->low));
	json_object_set_new(o, "high", kf_record_number(v->high));
	return o;
}

static json_t *metric_json(const kf_tasks_result *r, const kf_metric *m)
{
	json_t *o = json_object(), *models = json_object(), *list = json_array();

	for (int i = 0; i < r->o->e->n_models; i++)
		if (takes_part(r, i)) json_object_set_new(models, name_of(r, i), interval("value", &m->result[i]));
	for (int c = 0; c < r->o->e->n_compare; c++) {
		const int *pair = r->o->e->compare[c];
		json_t *one;

		if (!takes_part(r, pair[0]) || !takes_part(r, pair[1])) continue;
		one = interval("difference", &m->diff[c]);
		json_object_set_new(one, "a", json_string(name_of(r, pair[0])));
		json_object_set_new(one, "b", json_string(name_of(r, pair[1])));
		json_array_append_new(list, one);
	}
	json_object_set_new(o, "better", json_string(m->lower ? "lower" : "higher"));
	json_object_set_new(o, "models", models);
	json_object_set_new(o, "comparisons", list);
	return o;
}

/* {MODEL: template or null} */
static json_t *chat_json(const kf_tasks_result *r)
{
	json_t *o = json_object();

	for (int m = 0; m < r->o->e->n_models; m++)
		if (takes_part(r, m)) json_object_set_new(o, name_of(r, m), r->chat[m] ? json_string(r->chat[m]) : json_null());
	return o;
}

json_t *kf_tasks_json(const kf_tasks_result *r)
{
	json_t *o = json_object();

	for (int i = 0; i < r->n; i++) {
		const kf_task_result *t = &r->task[i];
		json_t *one = json_object(), *metrics = json_object(), *cut = json_object();

		for (int k = 0; k < t->n_metrics; k++) json_object_set_new(metrics, t->metric[k].name, metric_json(r, &t->metric[k]));
		json_object_set_new(one, "kind", json_string(kf_task_kind_name(t->task->kind)));
		json_object_set_new(one, "file", kf_print_string(t->task->file));
		json_object_set_new(one, "items", json_integer(t->n));
		json_object_set_new(one, "shots", json_integer(t->first));
		json_object_set_new(one, "chat_template", chat_json(r));
		if (t->task->kind == KF_TASK_CODE) {
			json_object_set_new(one, "samples", json_integer(r->o->samples));
			json_object_set_new(one, "sandbox", json_string(r->sandbox));
		}
		if (t->task->kind == KF_TASK_CODE || t->task->kind == KF_TASK_MATCH) {
			json_object_set_new(one, "temperature", json_real(r->o->temperature));
			json_object_set_new(one, "top_p", json_real(r->o->top_p));
			json_object_set_new(one, "max_tokens", json_integer(r->o->max_tokens ? r->o->max_tokens : t->task->max_tokens));
		}
		for (int m = 0; m < r->o->e->n_models; m++)
			if (t->cut[m]) json_object_set_new(cut, name_of(r, m), json_integer(t->cut[m]));
		if (json_object_size(cut)) json_object_set(one, "cut", cut);
		json_decref(cut);
		json_object_set_new(one, "metrics", metrics);
		json_object_set_new(o, t->task->name, one);
	}
	return o;
}

/* ---- for people ---- */

/* Which models were asked in chat, if any, on one line. */
static void tell_chat(const kf_tasks_result *r, const char *before, kf_buf *out)
{
	bool any = false;

	for (int m = 0; m < r->o->e->n_models; m++) {
		if (!r->chat[m]) continue;
		kf_buf_printf(out, "%s%s with %s", any ? ", " : before, name_of(r, m), r->chat[m]);
		any = true;
	}
	if (any) kf_buf_printf(out, "\n");
}

/* Whose prompts were cut, a line each. */
static void tell_cut(const kf_tasks_result *r, const char *before, kf_buf *out)
{
	for (int i = 0; i < r->n; i++)
		for (int m = 0; m < r->o->e->n_models; m++)
			if (r->task[i].cut[m])
				kf_buf_printf(out, "%s%s, %s: %d of %d prompts are longer than the context; their beginnings are left out\n", before,
					name_of(r, m), r->task[i].task->name, r->task[i].cut[m], r->task[i].n);
}

/* The scores of models [from, to), of those that take part. */
static void table_block(const kf_tasks_result *r, kf_buf *out, int width, int column, int from, int to)
{
	kf_buf_printf(out, "%-*s%-14s%6s", width, "tasks", "", "items");
	for (int m = from; m < to; m++)
		if (takes_part(r, m)) kf_buf_printf(out, " %*s", kf_text_field(name_of(r, m), column), name_of(r, m));
	kf_buf_printf(out, "\n");
	for (int i = 0; i < r->n; i++)
		for (int k = 0; k < r->task[i].n_metrics; k++) {
			const kf_metric *x = &r->task[i].metric[k];
			const char *name = k ? "" : r->task[i].task->name;

			kf_buf_printf(out, "%-*s%-14s%6d", kf_text_field(name, width), name, x->name, r->task[i].n);
			for (int m = from; m < to; m++) {
				char v[32];

				if (!takes_part(r, m)) continue;
				kf_print_value(v, x->result[m].estimate);
				kf_buf_printf(out, " %*s", column, v);
			}
			kf_buf_printf(out, "\n");
		}
}

void kf_tasks_table(const kf_tasks_result *r, kf_buf *out)
{
	const int most = kf_print_width(), n = r->o->e->n_models;
	int width = 6, column = 8;

	for (int i = 0; i < r->n; i++) kf_text_widen(&width, r->task[i].task->name);
	for (int m = 0; m < n; m++)
		if (takes_part(r, m)) kf_text_widen(&column, name_of(r, m));
	width += 2;
	column++;
	for (int from = 0, to; from < n; from = to) {
		int used = width + 20, shown = 0;

		for (to = from; to < n && (!takes_part(r, to) || !shown || used + 1 + column <= most); to++)
			if (takes_part(r, to)) used += 1 + column, shown++;
		if (from && shown) kf_buf_printf(out, "\n");
		if (shown) table_block(r, out, width, column, from, to);
	}
	for (int c = 0; c < r->o->e->n_compare; c++)
		for (int i = 0; i < r->n; i++) {
			const int *pair = r->o->e->compare[c];
			const kf_metric *x = &r->task[i].metric[r->task[i].task->kind == KF_TASK_CHOICE];
			const kf_eval_interval *d = &x->diff[c];

			char v[32];

			if (!isfinite(d->estimate)) continue;
			kf_print_signed(v, d->estimate);
			kf_buf_printf(out, "%s - %s: %s %s %s", name_of(r, pair[0]), name_of(r, pair[1]), r->task[i].task->name, x->name, v);
			kf_print_between(out, d->low, d->high, true);
			kf_buf_printf(out, "\n");
		}
	tell_chat(r, "asked in a user's message: ", out);
	tell_cut(r, "", out);
	if (*r->sandbox) kf_buf_printf(out, "programs ran in a sandbox: %s\n", r->sandbox);
}

static bool best(const kf_tasks_result *r, const kf_metric *x, int model)
{
	int n = 0;

	for (int m = 0; m < r->o->e->n_models; m++) {
		if (!takes_part(r, m)) continue;
		n++;
		if (x->lower ? x->result[m].estimate < x->result[model].estimate : x->result[m].estimate > x->result[model].estimate) return false;
	}
	return n > 1 && isfinite(x->result[model].estimate);
}

static void head(kf_buf *out, const kf_tasks_result *r)
{
	kf_buf_printf(out, "| task | | items |");
	for (int m = 0; m < r->o->e->n_models; m++) {
		if (!takes_part(r, m)) continue;
		kf_buf_printf(out, " ");
		kf_print_cell(out, name_of(r, m));
		kf_buf_printf(out, " |");
	}
	kf_buf_printf(out, "\n|---|---|---:|");
	for (int m = 0; m < r->o->e->n_models; m++)
		if (takes_part(r, m)) kf_buf_printf(out, "---:|");
	kf_buf_printf(out, "\n");
}

static void differences(kf_buf *out, const kf_tasks_result *r, int c)
{
	const int *pair = r->o->e->compare[c];

	if (!takes_part(r, pair[0]) || !takes_part(r, pair[1])) return;
	for (int i = 0; i < r->n; i++)
		for (int k = 0; k < r->task[i].n_metrics; k++) {
			const kf_eval_interval *d = &r->task[i].metric[k].diff[c];
			char v[32];

			kf_print_signed(v, d->estimate);
			kf_buf_printf(out, "| ");
			kf_print_cell(out, name_of(r, pair[0]));
			kf_buf_printf(out, " − ");
			kf_print_cell(out, name_of(r, pair[1]));
			kf_buf_printf(out, " | ");
			kf_print_cell(out, r->task[i].task->name);
			kf_buf_printf(out, " | %s | %s", r->task[i].metric[k].name, v);
			kf_print_between(out, d->low, d->high, true);
			kf_buf_printf(out, " |\n");
		}
}

void kf_tasks_markdown(const kf_tasks_result *r, kf_buf *out)
{
	kf_buf_printf(out, "Tasks, with the 95 %% interval of a bootstrap over items (%d resamples); the best of a row is bold. Bits per byte are the\n"
		"right answer's; of these and of perplexity less is better.\n\n", KF_EVAL_RESAMPLES);
	head(out, r);
	for (int i = 0; i < r->n; i++)
		for (int k = 0; k < r->task[i].n_metrics; k++) {
			const kf_metric *x = &r->task[i].metric[k];

			kf_buf_printf(out, "| ");
			kf_print_cell(out, r->task[i].task->name);
			kf_buf_printf(out, " | %s | %d |", x->name, r->task[i].n);
			for (int m = 0; m < r->o->e->n_models; m++) {
				const kf_eval_interval *v = &x->result[m];
				char text[32];

				if (!takes_part(r, m)) continue;
				kf_print_value(text, v->estimate);
				kf_buf_printf(out, best(r, x, m) ? " **%s**" : " %s", text);
				kf_print_between(out, v->low, v->high, false);
				kf_buf_printf(out, " |");
			}
			kf_buf_printf(out, "\n");
		}
	if (r->o->e->n_compare) {
		kf_buf_printf(out, "\nDifferences on the same items, with the 95 %% interval of a paired bootstrap over items.\n\n"
			"| difference | task | | |\n|---|---|---|---:|\n");
		for (int c = 0; c < r->o->e->n_compare; c++) differences(out, r, c);
	}
	tell_chat(r, "\nAsked in a user's message: ", out);
	tell_cut(r, "\n", out);
	if (*r->sandbox) kf_buf_printf(out, "\nPrograms ran in a sandbox: %s.\n", r->sandbox);
}
