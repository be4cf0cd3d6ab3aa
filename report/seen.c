/* What the training text was, and whether what is evaluated was in it. */
#include <math.h>
#include <stdio.h>

#include "report/section.h"

static const char *const PART[] = { "tasks", "text" };

static const json_t *overlap_of(const input *in, int r) { return json_object_get(in->run[r], "overlap"); }

static bool seen_there(const input *in)
{
	for (int r = 0; r < in->n_runs; r++)
		if (json_is_object(overlap_of(in, r))) return true;
	return false;
}

/* A count of an item of the overlap, over the runs. name: a task or a domain; NULL: all there are. */
static double sum_of(const input *in, const char *part, const char *name, const char *count)
{
	const char *key;
	double sum = 0;
	json_t *row;

	for (int r = 0; r < in->n_runs; r++)
		json_object_foreach(json_object_get(overlap_of(in, r), part), key, row)
			if (!name || strcmp(key, name) == 0) sum += fmax(0, input_real(row, count));
	return sum;
}

/* Whether an earlier run has this row, too. */
static bool told(const input *in, int run, const char *part, const char *name)
{
	for (int r = 0; r < run; r++)
		if (input_at(overlap_of(in, r), part, name, NULL)) return true;
	return false;
}

/* "prose (8 documents, 14 kB), docs (…)": of the first fused set that was trained on. */
static void put_domains(const input *in, kf_buf *out)
{
	const json_t *domains = NULL;
	bool first = true;

	for (int s = 0; s < in->n_sets && !domains; s++)
		if (in->set[s].kind == KF_SET_TARGETS && trained_on_text(in, &in->set[s])) domains = input_at(in->set[s].manifest, "stats", "domains", NULL);
	if (!json_object_size(domains)) return;
	html_raw(out, "<p>Trained on ");
	for (int i = 0; i < in->n_domains; i++) {
		const json_t *d = json_object_get(domains, in->domain[i]);

		if (!d) continue;
		html_put(out, "%s<b>%s</b> (", first ? "" : ", ", kf_domain_label(in->domain[i]));
		html_count(out, input_real(d, "documents"));
		html_raw(out, input_real(d, "documents") == 1 ? " document, " : " documents, ");
		html_bytes(out, input_real(d, "bytes"));
		html_raw(out, ")");
		first = false;
	}
	html_put(out, "%s.</p>\n", in->n_runs > 1 ? ", in run 1" : "");
}

/* Of all tasks' items, or of all documents: how many share something with the training text. */
static void put_sentence(const input *in, const char *part, const char *what, kf_buf *out)
{
	double items = sum_of(in, part, NULL, "items"), shared = sum_of(in, part, NULL, "shared"), brief = sum_of(in, part, NULL, "short");
	char count[HTML_COUNT_MAX];

	if (!(items > 0)) return;
	html_put(out, " Of %s %s ", html_count_text(count, items), what);
	if (brief >= items) {
		html_raw(out, "<b>none</b> is long enough to tell.");
		return;
	}
	if (shared > 0) html_put(out, "<b>%s %s</b>", html_count_text(count, shared), shared == 1 ? "does" : "do");
	else html_raw(out, "<b>none</b> does");
	if (brief > 0) html_put(out, "; %s %s too short to tell", html_count_text(count, brief), brief == 1 ? "is" : "are");
	html_raw(out, ".");
}

static void put_table(const input *in, int n, kf_buf *out)
{
	const char *name;
	char summary[160];
	json_t *row;

	snprintf(summary, sizeof summary, "What shares %d words in a row with the training text", n);
	table_begin(out, summary, "evaluated");
	table_column(out, "items or documents");
	table_column(out, "that share");
	table_column(out, "too short to tell");
	table_body(out);
	for (int part = 0; part < 2; part++) {
		for (int r = 0; r < in->n_runs; r++) {
			json_object_foreach(json_object_get(overlap_of(in, r), PART[part]), name, row) {
				if (told(in, r, PART[part], name)) continue;
				table_row(out, kf_domain_label(name));
				table_number(out, sum_of(in, PART[part], name, "items"), 0, false);
				table_number(out, sum_of(in, PART[part], name, "shared"), 0, false);
				table_number(out, sum_of(in, PART[part], name, "short"), 0, false);
				table_row_end(out);
			}
		}
	}
	table_end(out);
}

static void put_seen(const input *in, kf_buf *out)
{
	int n = 0, runs = 0;

	for (int r = 0; r < in->n_runs; r++) {
		if (!json_is_object(overlap_of(in, r))) continue;
		if (!runs++) n = (int)json_integer_value(json_object_get(overlap_of(in, r), "ngram"));
	}
	put_domains(in, out);
	html_put(out, "<p>What a model was trained on is no test of it: texts that share %d words in a row were looked for%s.", n,
		in->n_runs > 1 ? ", each run’s test in its own training text" : "");
	if (runs < in->n_runs) html_put(out, " Only %d of the %d runs were looked at.", runs, in->n_runs);
	put_sentence(in, "text", "held-out documents", out);
	put_sentence(in, "tasks", "items of tasks", out);
	html_raw(out, "</p>\n");
	put_table(in, n, out);
}

const section section_seen = { "seen", "Training text", seen_there, put_seen,
	"evaluate with <code>kf-eval --overlap CORPUS</code>, the text that was trained on." };
