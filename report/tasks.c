/* Scores on tasks. */
#include <math.h>
#include <stdio.h>

#include "report/section.h"

static bool tasks_there(const input *in)
{
	return json_object_size(json_object_get(in->eval, "tasks")) > 0;
}

bool task_lower_is_better(const json_t *metric)
{
	return strcmp(input_string(metric, "better"), "lower") == 0;
}

double task_scale(const json_t *metric) { return task_lower_is_better(metric) ? 1 : 100; }

/* How a task was asked: how many items, after how many solved ones, as messages or as plain text. */
static void how_asked(const json_t *facts, char *out, size_t room)
{
	const json_t *chat = json_object_get(facts, "chat_template");
	const double shots = input_real(facts, "shots"), items = input_real(facts, "items");
	char after[40] = "", count[HTML_COUNT_MAX];
	const char *model;
	bool any = false;
	json_t *v;

	json_object_foreach((json_t *)(uintptr_t)chat, model, v) any = any || json_is_string(v);
	if (shots > 0) snprintf(after, sizeof after, ", %.0f shot%s", shots, shots == 1 ? "" : "s");
	snprintf(out, room, "%s item%s%s%s", html_count_text(count, items), items == 1 ? "" : "s", after, any ? ", in chat" : "");
}

static void put_scores(const input *in, const char *task, const json_t *facts, const char *name, const json_t *metric, kf_buf *out)
{
	const json_t *models = json_object_get(metric, "models");
	chart_dot row[NAMES];
	char asked[100], note[180], what[500];
	double by = task_scale(metric);
	const char *model;
	json_t *v;
	int n = 0, best = -1;

	json_object_foreach((json_t *)(uintptr_t)models, model, v) {
		if (n == NAMES) break;
		row[n] = (chart_dot){ .label = model, .value = by * input_real(v, "value"),
			.low = by * input_real(v, "low"), .high = by * input_real(v, "high"),
			.mark = mark_of(in, model), .strong = in->result && strcmp(model, in->result) == 0 };
		if (isfinite(row[n].value) && (best < 0 || row[n].value > row[best].value)) best = n;
		n++;
	}
	if (best < 0) return;
	how_asked(facts, asked, sizeof asked);
	snprintf(note, sizeof note, "%.*s, %s", CUT(name, 60), asked);
	snprintf(what, sizeof what, "%.*s: %.*s in per cent of %d models. Highest: %.*s, %.1f.", CUT(task, 100), CUT(name, 60), n, CUT(row[best].label, 100), row[best].value);
	chart_begin(out, task, note);
	chart_dots(out, row, n, false, 1, "% (higher is better)", what);
	chart_end(out);
}

static void score_table(const input *in, kf_buf *out)
{
	const json_t *tasks = json_object_get(in->eval, "tasks"), *models = json_object_get(in->eval, "models");
	const char *task, *name, *model;
	json_t *facts, *metric, *v;

	table_begin(out, "Scores as a table", "task");
	table_column(out, "score");
	table_column(out, "items");
	json_object_foreach((json_t *)(uintptr_t)models, model, v) table_column(out, model);
	table_body(out);
	json_object_foreach((json_t *)(uintptr_t)tasks, task, facts) {
		json_object_foreach(json_object_get(facts, "metrics"), name, metric) {
			double by = task_scale(metric);

			table_row(out, task);
			html_put(out, "<td class=\"left\">%s%s</td>", name, task_lower_is_better(metric) ? " (lower is better)" : ", %");
			table_number(out, input_real(facts, "items"), 0, false);
			json_object_foreach((json_t *)(uintptr_t)models, model, v) {
				const json_t *score = input_at(metric, "models", model, NULL);

				html_raw(out, "<td>");
				html_number(out, by * input_real(score, "value"), by == 1 ? 4 : 1, false);
				table_range(out, by * input_real(score, "low"), by * input_real(score, "high"), by == 1 ? 4 : 1, false);
				html_raw(out, "</td>");
			}
			table_row_end(out);
		}
	}
	table_end(out);
}

/* ---- differences ---- */

static void difference_table(const input *in, kf_buf *out)
{
	const char *task, *name;
	json_t *facts, *metric;
	const json_t *c;
	size_t i;

	table_begin(out, "Differences on the same items", "task");
	table_column(out, "score");
	table_column(out, "models");
	table_column(out, "difference");
	table_body(out);
	json_object_foreach(json_object_get(in->eval, "tasks"), task, facts) {
		json_object_foreach(json_object_get(facts, "metrics"), name, metric) {
			double by = task_scale(metric);
			int decimals = by == 1 ? 4 : 1;

			json_array_foreach(json_object_get(metric, "comparisons"), i, c) {
				table_row(out, task);
				html_put(out, "<td class=\"left\">%s%s</td><td class=\"left\">%s less %s</td><td>", name,
					task_lower_is_better(metric) ? " (lower is better)" : ", %", input_string(c, "a"), input_string(c, "b"));
				html_number(out, by * input_real(c, "difference"), decimals, true);
				table_range(out, by * input_real(c, "low"), by * input_real(c, "high"), decimals, true);
				html_raw(out, "</td>");
				table_row_end(out);
			}
		}
	}
	table_end(out);
}

/* ---- the section ---- */

static void put_tasks(const input *in, kf_buf *out)
{
	const char *task, *name;
	json_t *facts, *metric;

	put_first_alone(in, out);
	html_raw(out, "<p>Scores on tasks, with 95 % intervals over their items. With few items they are wide; the differences below are on the same "
		"items.</p>\n<div class=\"panels\">\n");
	json_object_foreach(json_object_get(in->eval, "tasks"), task, facts)
		json_object_foreach(json_object_get(facts, "metrics"), name, metric)
			if (!task_lower_is_better(metric)) put_scores(in, task, facts, name, metric, out);
	html_raw(out, "</div>\n");
	score_table(in, out);
	difference_table(in, out);
}

const section section_tasks = { "tasks", "Tasks", tasks_there, put_tasks,
	"evaluate with <code>kf-eval --tasks FILE</code>." };
