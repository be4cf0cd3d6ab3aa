/* The page: its frame, its sections in order, and what it lacks. */
#include "report/report.h"

#include <math.h>
#include <string.h>

#include "common/base/opt.h"
#include "report/assets.h"
#include "report/section.h"

static const section *const SECTIONS[] = { &section_runs, &section_bits, &section_tasks, &section_seen, &section_passages, &section_shares, &section_training,
	&section_coverage, &section_sizes, &section_provenance };
#define N_SECTIONS (sizeof SECTIONS / sizeof *SECTIONS)

static void put_head(const input *in, kf_buf *out)
{
	html_raw(out, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
	html_raw(out, "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; base-uri 'none'; form-action 'none'; style-src "
		"'sha256-" ASSET_CSS_SHA256 "'; script-src 'sha256-" ASSET_JS_SHA256 "'\">\n");
	html_raw(out, "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
		"<meta name=\"color-scheme\" content=\"light dark\">\n");
	html_put(out, "<meta name=\"generator\" content=\"kf-report %s\">\n", KF_VERSION);
	html_raw(out, "<title>");
	if (in->o->title) html_put(out, "%s", in->o->title);
	else if (in->target) html_put(out, "%s: kfuse report", in->target);
	else html_raw(out, "kfuse report");
	html_raw(out, "</title>\n<style>");
	kf_buf_put(out, kf_report_css, kf_report_css_size);
	html_raw(out, "</style>\n</head>\n<body>\n");
}

static void put_sections(const input *in, kf_buf *out)
{
	int missing = 0;

	html_raw(out, "<nav aria-label=\"Sections\"><ul>");
	for (size_t i = 0; i < N_SECTIONS; i++)
		if (SECTIONS[i]->there(in)) html_put(out, "<li><a href=\"#%s\">%s</a></li>", SECTIONS[i]->id, SECTIONS[i]->title);
	html_raw(out, "</ul></nav>\n");
	for (size_t i = 0; i < N_SECTIONS; i++) {
		if (!SECTIONS[i]->there(in)) {
			missing++;
			continue;
		}
		html_put(out, "<section id=\"%s\">\n<h2>%s</h2>\n", SECTIONS[i]->id, SECTIONS[i]->title);
		SECTIONS[i]->put(in, out);
		html_raw(out, "</section>\n");
	}
	if (!missing) return;
	html_raw(out, "<section id=\"missing\">\n<h2>Not on this page</h2>\n<ul>\n");
	for (size_t i = 0; i < N_SECTIONS; i++) {
		if (SECTIONS[i]->there(in)) continue;
		html_put(out, "<li><strong>%s</strong>: ", SECTIONS[i]->title);
		html_raw(out, SECTIONS[i]->fill);
		html_raw(out, "</li>\n");
	}
	html_raw(out, "</ul>\n</section>\n");
}

/* What the words mean that the stages and the usual rows of a table go by: of those that are on the page. */
static void put_words(kf_buf *out)
{
	static const struct { const char *key, *word, *meaning; } LIST[] = {
		{ "bits per byte", "bits per byte", "how many bits a model needs, in the mean, to tell the next byte of a text; it does not depend on the tokenizer" },
		{ "erplexity", "perplexity", "the same per token: 2 to the bits a token. By it only models with the same tokenizer are comparable" },
		{ "nats", "nats", "the unit of the natural logarithm, 1.44 bits" },
		{ "95 % interval", "95 % interval", "from resampling the documents, or a task’s items (bootstrap)" },
		{ ">clm<", "clm", "the target trained on the text alone (causal language modelling): what fusion has to beat" },
		{ ">kd<", "kd", "the target trained on the text and on the predictions of one source (distillation)" },
		{ "min-ce", "min-ce", "of a text, or at a position, the prediction of the one model that says it best" },
		{ "avg-ce", "avg-ce", "the models’ mean, weighted by how well they say a text" },
		{ "weights: domain", "domain", "the models’ mean with weights that were fitted to each domain" },
		{ "weights: dynamic", "dynamic", "the models’ mean with weights that follow, position by position, how well each has said the document so far" },
		{ "weights: document", "document", "the models’ mean with the weights that suit each document as a whole best" },
		{ ">byte, ", "byte", "a source’s positions are found by the bytes of the text that its tokens stand for" },
		{ ">dtw", "dtw", "they are found by the cheapest match of the two sequences of tokens (dynamic time warping)" },
		{ ", map ", "map", "how a source’s candidates become tokens of the target’s vocabulary: prefix (the first token that the target makes of its bytes), exact (the same "
			"spelling), mined (the nearest spelling), stats (counted in the text)" },
		{ "tail", "candidates, tail", "the likeliest next tokens, which are stored; the probability that is left for all others" },
		{ "credit", "credit", "a model’s weight in the mixture times the probability it gave the token, as a share of the sum" } };
	const uint8_t *body = out->data ? memmem(out->data, out->len, "<main>", 6) : NULL;
	const size_t from = body ? (size_t)(body - out->data) : 0, n = out->len - from;
	bool any = false;

	for (size_t i = 0; body && i < sizeof LIST / sizeof *LIST; i++) {
		if (!memmem(out->data + from, n, LIST[i].key, strlen(LIST[i].key))) continue;
		if (!any) html_raw(out, "<details class=\"origin\" id=\"words\"><summary>Words on this page</summary><dl>\n");
		any = true;
		html_put(out, "<dt>%s</dt><dd>%s</dd>\n", LIST[i].word, LIST[i].meaning);
	}
	if (any) html_raw(out, "</dl></details>\n");
}

kf_status kf_report(const kf_report_opts *o, kf_buf *html, kf_err *err)
{
	input in;
	kf_status rc;

	kf_buf_clear(html);
	if ((rc = input_read(o, &in, err)) == KF_OK) {
		put_head(&in, html);
		chart_patterns(html);
		html_raw(html, "<main>\n");
		put_headline(&in, html);
		put_sections(&in, html);
		put_words(html);
		html_put(html, "</main>\n<footer>Made by kf-report %s. This page loads nothing and sends nothing.</footer>\n", KF_VERSION);
		html_raw(html, "<script>");
		kf_buf_put(html, kf_report_js, kf_report_js_size);
		html_raw(html, "</script>\n</body>\n</html>\n");
		rc = kf_buf_check(html, err);
	}
	input_release(&in);
	return rc;
}

/* ---- what sections share ---- */

int columns_of(const input *in, const char *last, const char **column)
{
	int n = 0;

	for (int i = 0; i < in->n_domains && n < NAMES; i++)
		if (input_at(in->eval, "documents", in->domain[i], NULL)) column[n++] = in->domain[i];
	column[n] = last;
	return n + 1;
}

void put_first_alone(const input *in, kf_buf *out)
{
	if (in->n_runs > 1) html_put(out, "<p>Run 1 alone: <code>%s</code>.</p>\n", in->o->evals[0]);
}

/* The fingerprint of the text that a set is about. */
static const char *corpus_of(const set_input *s)
{
	const json_t *v;
	size_t i;

	json_array_foreach(json_object_get(s->manifest, "inputs"), i, v)
		if (strcmp(input_string(v, "role"), "corpus") == 0) return input_string(v, "fingerprint");
	return "";
}

bool trained_on(const input *in, const set_input *s)
{
	const char *identity = input_string(s->manifest, "identity");

	for (int i = 0; i < in->n_models && *identity; i++)
		if (strcmp(input_string(json_object_get(in->model[i].record, "inputs"), "targets"), identity) == 0) return true;
	return false;
}

bool trained_on_text(const input *in, const set_input *s)
{
	if (trained_on(in, s)) return true;
	for (int i = 0; i < in->n_sets && *corpus_of(s); i++)
		if (strcmp(corpus_of(&in->set[i]), corpus_of(s)) == 0 && trained_on(in, &in->set[i])) return true;
	return false;
}

int mark_of(const input *in, const char *name)
{
	int slot;

	if (in->result && strcmp(name, in->result) == 0) return MARK_RESULT;
	slot = input_slot(in, name);
	return slot;
}

void table_begin(kf_buf *out, const char *summary, const char *corner)
{
	html_put(out, "<details><summary>%s</summary><div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"%s\"><table><thead><tr>"
		"<th scope=\"col\">%s</th>", summary, summary, corner);
}

void table_column(kf_buf *out, const char *name)
{
	html_put(out, "<th scope=\"col\">%s</th>", name);
}

void table_body(kf_buf *out)
{
	html_raw(out, "</tr></thead><tbody>");
}

void table_row(kf_buf *out, const char *name)
{
	html_put(out, "<tr><th scope=\"row\">%s</th>", name);
}

void table_number(kf_buf *out, double v, int decimals, bool sign)
{
	html_raw(out, "<td>");
	if (decimals || sign) html_number(out, v, decimals, sign);
	else html_count(out, v);
	html_raw(out, "</td>");
}

void table_range(kf_buf *out, double low, double high, int decimals, bool sign)
{
	if (!isfinite(low) || !isfinite(high)) return;
	html_raw(out, "<small>");
	html_number(out, low, decimals, sign);
	html_raw(out, " to ");
	html_number(out, high, decimals, sign);
	html_raw(out, "</small>");
}

void table_row_end(kf_buf *out)
{
	html_raw(out, "</tr>\n");
}

void table_end(kf_buf *out)
{
	html_raw(out, "</tbody></table></div></details>\n");
}
