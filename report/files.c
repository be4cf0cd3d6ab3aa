/* Sizes and speeds of what the stages wrote, and where everything comes from. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "report/section.h"

static bool sizes_there(const input *in) { return in->n_sets > 0; }
static bool provenance_there(const input *in) { return in->n_sets > 0 || in->n_models > 0 || in->eval; }

/* As set_name, without the number. */
static void name_of(const set_input *s, char *out, size_t size)
{
	json_t *info = kf_set_info(s->set);
	const char *dir = kf_set_dir(s->set), *end = dir + strlen(dir), *begin;
	size_t i, at = 0;
	json_t *v;

	out[0] = 0;
	switch (s->kind) {
	case KF_SET_LOGITS:
		snprintf(out, size, "%s", input_string(info, "model"));
		break;
	case KF_SET_ALIGNED:
		snprintf(out, size, "%.90s → %.90s", input_string(info, "source"), input_string(info, "target"));
		break;
	case KF_SET_TARGETS:
		json_array_foreach(json_object_get(info, "models"), i, v) {
			const char *name = json_string_value(v);

			if (name && at + strlen(name) + 4 < size) at += (size_t)snprintf(out + at, size - at, "%s%s", at ? " + " : "", name);
		}
		break;
	default:
		break;
	}
	if (out[0]) return;
	while (end > dir + 1 && end[-1] == '/') end--;
	for (begin = end; begin > dir && begin[-1] != '/';) begin--;
	snprintf(out, size, "%.*s", (int)(end - begin), begin);
}

/* Append " (2)" for the second of the kind that is about the same, and so on. */
static void add_number(const input *in, const set_input *s, char *out, size_t size)
{
	char own[300], other[300];
	int twins = 1;

	name_of(s, own, sizeof own);
	for (const set_input *t = in->set; t < s; t++) {
		name_of(t, other, sizeof other);
		twins += t->kind == s->kind && strcmp(own, other) == 0;
	}
	if (twins > 1) snprintf(out + strlen(out), size - strlen(out), " (%d)", twins);
}

void set_name(const input *in, const set_input *s, char *out, size_t size)
{
	name_of(s, out, size);
	add_number(in, s, out, size);
}

/* The aligned set of the page that a fused one was first made of. */
static const set_input *aligned_of(const input *in, const set_input *s)
{
	const json_t *v;
	size_t i;

	json_array_foreach(json_object_get(s->manifest, "inputs"), i, v) {
		if (strcmp(input_string(v, "role"), "source") != 0) continue;
		for (int k = 0; k < in->n_sets; k++)
			if (in->set[k].kind == KF_SET_ALIGNED && strcmp(input_string(in->set[k].manifest, "identity"), input_string(v, "fingerprint")) == 0)
				return &in->set[k];
		break;
	}
	return NULL;
}

void set_way(const input *in, const set_input *s, char *out, size_t size)
{
	const json_t *options = json_object_get(s->manifest, "options");
	const set_input *from = s->kind == KF_SET_TARGETS ? aligned_of(in, s) : NULL;
	char way[140];

	if (s->kind != KF_SET_TARGETS) {
		snprintf(out, size, "%.60s, map %.60s", input_string(options, "method"), input_string(options, "vocab-map"));
		return;
	}
	snprintf(out, size, "%.60s", input_string(options, "function"));
	if (!from) return;
	set_way(in, from, way, sizeof way);
	snprintf(out + strlen(out), size - strlen(out), "; alignment: %.80s", way);
}

/* The sources of a fused set: "A + B", by their letters where these are told apart. */
static void fused_label(const input *in, const set_input *s, char *out, size_t size)
{
	size_t i, at = (size_t)snprintf(out, size, "fused");
	json_t *v;

	json_array_foreach(json_object_get(kf_set_info(s->set), "models"), i, v) {
		int mark = json_is_string(v) ? input_slot(in, json_string_value(v)) : MARK_OTHER;

		if (mark >= MARK_TARGET && at + 5 < size) at += (size_t)snprintf(out + at, size - at, i ? " + %c" : ": %c", chart_letter(mark));
	}
}

static double shards_disk(const set_input *s)
{
	const json_t *list = json_object_get(s->manifest, "shards"), *v;
	double sum = 0;
	size_t i;

	json_array_foreach(list, i, v) sum += fmax(0, input_real(v, "disk"));
	return sum;
}

static double bytes_a_token(const set_input *s)
{
	double tokens = (double)kf_set_tokens(s->set);

	return s->kind != KF_SET_CORPUS && tokens > 0 ? shards_disk(s) / tokens : NAN;
}

static int mark_of_set(const input *in, const set_input *s)
{
	json_t *info = kf_set_info(s->set);

	if (s->kind == KF_SET_LOGITS) return input_slot(in, input_string(info, "model"));
	if (s->kind == KF_SET_ALIGNED) return input_slot(in, input_string(info, "source"));
	return MARK_OTHER;
}

/* ---- sizes and speeds ---- */

static void put_token_sizes(const input *in, kf_buf *out)
{
	chart_plain bar[KF_REPORT_SETS];
	char label[KF_REPORT_SETS][128], text[KF_REPORT_SETS][32];
	double most = 0;
	int n = 0;

	for (int i = 0; i < in->n_sets; i++) {
		const set_input *s = &in->set[i];
		double v = bytes_a_token(s);

		if (!isfinite(v)) continue;
		if (s->kind == KF_SET_LOGITS) name_of(s, label[n], 100);
		else if (s->kind == KF_SET_ALIGNED) snprintf(label[n], sizeof label[n], "→ %.*s", CUT(input_string(kf_set_info(s->set), "source"), 100));
		else fused_label(in, s, label[n], sizeof label[n]);
		add_number(in, s, label[n], sizeof label[n]);
		snprintf(text[n], sizeof text[n], "%.1f", v);
		bar[n] = (chart_plain){ .label = label[n], .text = text[n], .value = v, .inner = NAN, .mark = mark_of_set(in, s) };
		most = fmax(most, v);
		n++;
	}
	if (!n) return;
	chart_begin(out, "Stored predictions", "logits, aligned (→), fused (letters as in the legends)");
	chart_bars(out, bar, n, most, "bytes a token on disk", "Bytes a token of every set on disk; the numbers are in the table below.");
	chart_end(out);
}

/* Mean over the steps of a log: tokens by the seconds they took. */
static double training_rate(const trained *t)
{
	double tokens = 0, seconds = 0, before = 0;

	for (size_t k = 0; k < t->n_steps; k++) {
		const log_step *s = &t->steps[k];

		if (s->rate > 0 && s->tokens > before) {
			tokens += s->tokens - before;
			seconds += (s->tokens - before) / s->rate;
		}
		if (isfinite(s->tokens)) before = s->tokens;
	}
	return seconds > 0 ? tokens / seconds : NAN;
}

static void put_rates(const input *in, kf_buf *out)
{
	chart_plain bar[KF_REPORT_MODELS + KF_REPORT_SETS];
	char label[KF_REPORT_MODELS + KF_REPORT_SETS][128], text[KF_REPORT_MODELS + KF_REPORT_SETS][HTML_COUNT_MAX];
	double most = 0;
	int n = 0;

	for (int i = 0; i < in->n_sets; i++) {
		const set_input *s = &in->set[i];
		char name[100];

		if (!(s->seconds > 0) || s->kind != KF_SET_LOGITS) continue; /* the other stages are faster by orders of magnitude */
		set_name(in, s, name, sizeof name);
		snprintf(label[n], sizeof label[n], "run %s", name);
		bar[n] = (chart_plain){ .value = s->timed_tokens / s->seconds, .inner = NAN, .mark = mark_of_set(in, s) };
		n++;
	}
	for (int i = 0; i < in->n_models; i++) {
		double rate = training_rate(&in->model[i]);

		if (!isfinite(rate)) continue;
		snprintf(label[n], sizeof label[n], "train %.*s", CUT(in->model[i].name, 100));
		bar[n] = (chart_plain){ .value = rate, .inner = NAN,
			.mark = in->result && strcmp(in->model[i].name, in->result) == 0 ? MARK_RESULT : MARK_OTHER };
		n++;
	}
	for (int i = 0; i < n; i++) {
		most = fmax(most, bar[i].value);
		bar[i].label = label[i];
		bar[i].text = text[i];
		html_count_text(text[i], bar[i].value);
	}
	if (!n) return;
	chart_begin(out, "Speed", "models run over text, and trained");
	chart_bars(out, bar, n, most, "tokens a second", "Tokens a second of running and training models; the numbers are in the table below.");
	chart_end(out);
}

static void count_cell(kf_buf *out, double v, bool known)
{
	html_raw(out, "<td>");
	if (known) html_count(out, v);
	else html_raw(out, "–");
	html_raw(out, "</td>");
}

static void size_row(const input *in, const set_input *s, kf_buf *out)
{
	char name[300];

	set_name(in, s, name, sizeof name);
	html_put(out, "<tr><th scope=\"row\">%s<small class=\"path\">%s</small></th><td class=\"left\">%s</td>", name, kf_set_dir(s->set), kf_set_kind_name(s->kind));
	count_cell(out, (double)kf_set_docs(s->set), true);
	count_cell(out, (double)kf_set_tokens(s->set), s->kind != KF_SET_CORPUS);
	html_raw(out, "<td>");
	html_bytes(out, (double)kf_set_bytes(s->set));
	html_raw(out, "</td><td>");
	html_bytes(out, (double)kf_set_disk(s->set));
	html_raw(out, "</td>");
	table_number(out, bytes_a_token(s), 1, false);
	count_cell(out, s->seconds > 0 ? s->timed_tokens / s->seconds : NAN, s->seconds > 0);
	html_raw(out, "</tr>\n");
}

static void put_sizes(const input *in, kf_buf *out)
{
	html_raw(out, "<div class=\"panels\">\n");
	put_token_sizes(in, out);
	put_rates(in, out);
	html_raw(out, "</div>\n<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Sizes and speeds\"><table><thead><tr>"
		"<th scope=\"col\">set</th><th scope=\"col\" class=\"left\">kind</th><th scope=\"col\">documents</th><th scope=\"col\">tokens</th>"
		"<th scope=\"col\">text</th><th scope=\"col\">on disk</th><th scope=\"col\">bytes a token</th><th scope=\"col\">tokens a second</th></tr></thead><tbody>\n");
	for (int i = 0; i < in->n_sets; i++) size_row(in, &in->set[i], out);
	for (int i = 0; i < in->n_models; i++) {
		const trained *t = &in->model[i];

		if (!t->n_steps) continue;
		html_put(out, "<tr><th scope=\"row\">%s<small class=\"path\">%s</small></th><td class=\"left\">training</td><td>–</td>", t->name, t->dir);
		count_cell(out, t->steps[t->n_steps - 1].tokens, true);
		html_raw(out, "<td>–</td><td>–</td><td>–</td>");
		count_cell(out, training_rate(t), isfinite(training_rate(t)));
		html_raw(out, "</tr>\n");
	}
	html_raw(out, "</tbody></table></div>\n<p class=\"fine\">On disk: manifest and tokenizer included; bytes a token: the shards alone. Speeds are those of "
		"the machine that made the sets, with whatever else it did; a dash where nothing was recorded.</p>\n");
}

const section section_sizes = { "sizes", "Sizes and speeds", sizes_there, put_sizes, "give the sets with <code>--set DIR</code>." };

/* ---- provenance ---- */

/* A fingerprint: its beginning, and all of it for who points at it; a link where the set is on this page. */
static void put_fingerprint(const input *in, const char *fp, kf_buf *out)
{
	char some[13];
	int found = -1;

	for (int i = 0; i < in->n_sets && *fp; i++)
		if (strcmp(input_string(in->set[i].manifest, "identity"), fp) == 0) found = i;
	snprintf(some, sizeof some, "%s", fp);
	if (found >= 0) html_put(out, "<a href=\"#set-%d\">", found);
	html_put(out, "<code title=\"%s\">%s</code>", fp, some);
	if (found >= 0) html_raw(out, "</a>");
}

static void put_value(const json_t *v, kf_buf *out)
{
	char *text;

	if (json_is_string(v)) {
		html_put(out, "%s", json_string_value(v));
		return;
	}
	text = json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(6));
	if (text) html_put(out, "%s", text);
	free(text);
}

static void put_options(const json_t *options, kf_buf *out)
{
	const char *name;
	json_t *v;

	if (!json_object_size(options)) return;
	html_raw(out, "<dt>options</dt><dd>");
	json_object_foreach((json_t *)(uintptr_t)options, name, v) {
		html_put(out, "<code>--%s ", name);
		put_value(v, out);
		html_raw(out, "</code> ");
	}
	html_raw(out, "</dd>");
}

static void put_set(const input *in, int i, kf_buf *out)
{
	const set_input *s = &in->set[i];
	const json_t *inputs = json_object_get(s->manifest, "inputs"), *v;
	char name[300];
	size_t k;

	set_name(in, s, name, sizeof name);
	html_put(out, "<details class=\"origin\" id=\"set-%d\"><summary><b>%s</b> %s ", i, kf_set_kind_name(s->kind), name);
	put_fingerprint(in, input_string(s->manifest, "identity"), out);
	html_raw(out, "</summary><dl>");
	html_put(out, "<dt>folder</dt><dd><code>%s</code></dd><dt>made by</dt><dd>%s %s</dd>", kf_set_dir(s->set),
		input_string(s->manifest, "program"), input_string(s->manifest, "version"));
	put_options(json_object_get(s->manifest, "options"), out);
	html_raw(out, "<dt>made from</dt><dd>");
	json_array_foreach(inputs, k, v) {
		html_put(out, "%s%s ", k ? "; " : "", input_string(v, "role"));
		if (strcmp(input_string(v, "role"), input_string(v, "name")) != 0) html_put(out, "<code>%s</code> ", input_string(v, "name"));
		put_fingerprint(in, input_string(v, "fingerprint"), out);
	}
	if (!json_array_size(inputs)) html_raw(out, "files");
	html_put(out, "</dd><dt>content</dt><dd><code>%s</code>, %s numbers</dd></dl></details>\n", input_string(s->manifest, "content"),
		input_string(s->manifest, "precision"));
}

static void put_model(const input *in, const trained *t, kf_buf *out)
{
	const char *name;
	json_t *v;

	html_put(out, "<details class=\"origin\"><summary><b>model</b> %s</summary><dl><dt>folder</dt><dd><code>%s</code></dd>", t->name, t->dir);
	html_put(out, "<dt>made by</dt><dd>%s %s</dd>", input_string(t->record, "program"), input_string(t->record, "version"));
	put_options(json_object_get(t->record, "options"), out);
	html_raw(out, "<dt>made from</dt><dd>");
	json_object_foreach(json_object_get(t->record, "inputs"), name, v) {
		const char *path = input_string(json_object_get(t->record, "paths"), name);

		html_put(out, "%s ", name);
		if (*path) html_put(out, "<code>%s</code> ", path);
		if (json_is_string(v)) put_fingerprint(in, json_string_value(v), out);
		else put_value(v, out);
		html_raw(out, "<br>");
	}
	html_raw(out, "</dd>");
	if (json_object_size(json_object_get(t->record, "result"))) {
		html_raw(out, "<dt>result</dt><dd>");
		json_object_foreach(json_object_get(t->record, "result"), name, v) {
			html_put(out, "%s ", name);
			put_value(v, out);
			html_raw(out, "<br>");
		}
		html_raw(out, "</dd>");
	}
	html_raw(out, "</dl></details>\n");
}

static void put_eval(const input *in, int run, kf_buf *out)
{
	const json_t *eval = in->run[run];
	size_t n = json_object_size(json_object_get(eval, "models"));
	const char *name;
	json_t *v;

	html_put(out, "<details class=\"origin\"><summary><b>evaluation</b> of %zu model%s", n, n == 1 ? "" : "s");
	if (in->n_runs > 1) html_put(out, ", run %d", run + 1);
	html_put(out, "</summary><dl><dt>report</dt><dd><code>%s</code></dd>", in->o->evals[run]);
	html_raw(out, "<dt>models</dt><dd>");
	json_object_foreach(json_object_get(eval, "models"), name, v) {
		html_put(out, "%s ", name);
		if (json_is_string(v)) html_put(out, "<code>%s</code>", json_string_value(v));
		html_raw(out, "<br>");
	}
	html_raw(out, "</dd>");
	if (json_object_get(eval, "resamples")) {
		html_raw(out, "<dt>intervals</dt><dd>bootstrap over texts, ");
		html_count(out, input_real(eval, "resamples"));
		html_raw(out, " resamples, seed ");
		put_value(json_object_get(eval, "seed"), out);
		html_raw(out, "</dd>");
	}
	html_raw(out, "</dl></details>\n");
}

static void put_provenance(const input *in, kf_buf *out)
{
	html_raw(out, "<p>What made what. A fingerprint is of everything that shaped a set; a linked one is of a set on this page.</p>\n");
	for (int i = 0; i < in->n_sets; i++) put_set(in, i, out);
	for (int i = 0; i < in->n_models; i++) put_model(in, &in->model[i], out);
	for (int r = 0; r < in->n_runs; r++) put_eval(in, r, out);
}

const section section_provenance = { "provenance", "Provenance", provenance_there, put_provenance,
	"give sets with <code>--set</code>, models with <code>--model</code>, or an evaluation with <code>--eval</code>." };
