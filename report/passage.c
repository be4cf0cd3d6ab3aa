/* Documents, each token in the colour of the model that taught it. */
#include <math.h>
#include <stdio.h>

#include "report/section.h"

#define LEVELS 5                         /* of a colour's strength */

static bool passages_there(const input *in) { return json_array_size(in->traces) > 0 && in->o->passages > 0; }

/* What the fused target owes to whom, at a position: model i's weight times the probability it gives the text's own token, as
 * a share of the sum; where no model's candidates hold that token, the weights. NULL where nothing was fused. */
typedef struct {
	const json_t *label;                 /* the token's own row of candidates, or NULL */
	double credit[NAMES];
	int top;
	double fused, own;                   /* probabilities of the token: the fused, and the target's own or NAN */
} lesson;

static bool lesson_of(const input *in, const json_t *doc, size_t p, lesson *l)
{
	const json_t *models = json_object_get(doc, "models"), *weights = json_array_get(json_object_get(doc, "weights"), p);
	json_int_t label = json_integer_value(json_array_get(json_object_get(doc, "label"), p));
	size_t m = json_array_size(models);
	double sum = 0, all = 0;

	*l = (lesson){ .top = -1, .fused = NAN, .own = NAN };
	if (!json_is_array(weights)) return false;
	if (label >= 0) l->label = json_array_get(json_array_get(json_object_get(doc, "candidates"), p), (size_t)label);
	for (size_t i = 0; i < m; i++) {
		double w = input_number(json_array_get(weights, i)), q = input_number(json_array_get(l->label, i + 2));

		w = w > 0 ? w : 0;
		all += w;
		l->credit[i] = q > 0 ? w * q : 0;
		sum += l->credit[i];
		if (input_slot(in, json_string_value(json_array_get(models, i))) == MARK_TARGET && l->label) l->own = q > 0 ? q : 0;
	}
	if (l->label) l->fused = input_number(json_array_get(l->label, 1));
	for (size_t i = 0; i < m; i++) {
		double w = input_number(json_array_get(weights, i));

		l->credit[i] = sum > 0 ? l->credit[i] / sum : all > 0 && w > 0 ? w / all : 0;
		if (l->top < 0 || l->credit[i] > l->credit[l->top]) l->top = (int)i;
	}
	return all > 0;
}

/* A model's name and its mark. */
static const char *model_name(const json_t *doc, int i)
{
	return json_string_value(json_array_get(json_object_get(doc, "models"), (size_t)i));
}

static int level(double share, size_t models)
{
	double even = models > 1 ? 1.0 / (double)models : 0, x = (share - even) / (1 - even);
	int l = 1 + (int)floor(LEVELS * x);

	return l < 1 ? 1 : l > LEVELS ? LEVELS : l;
}

/* White space is shown: what a model predicts is tokens, and a line's end is one. */
static void put_token(const char *text, size_t n, kf_buf *out)
{
	if (!n) html_raw(out, "<i>·</i>"); /* the rest of a character that another token began */
	for (size_t at = 0; at < n;) {
		size_t plain = 0;

		while (at + plain < n && text[at + plain] != '\n' && text[at + plain] != '\t') plain++;
		html_text(out, (const uint8_t *)text + at, plain);
		at += plain;
		if (at == n) break;
		html_raw(out, text[at++] == '\n' ? "<i>↵</i>\n" : "<i>→</i>\t");
	}
}

static size_t tokens_of(const input *in, const json_t *doc)
{
	size_t n = json_array_size(json_object_get(doc, "weights")), most = (size_t)in->o->passage_tokens;

	return n < most ? n : most;
}

static void put_tokens(const input *in, const json_t *doc, kf_buf *out)
{
	const json_t *cut = json_object_get(doc, "cut"), *context = json_object_get(doc, "context");
	const char *text = json_string_value(json_object_get(doc, "text"));
	size_t m = json_array_size(json_object_get(doc, "models"));

	html_raw(out, "<div class=\"tokens\" role=\"group\" aria-label=\"Passage. With a keyboard: left and right arrow move from token to token.\">");
	for (size_t p = 0; p < tokens_of(in, doc); p++) {
		size_t from = (size_t)json_integer_value(json_array_get(cut, p)), to = (size_t)json_integer_value(json_array_get(cut, p + 1));
		bool ignored = json_integer_value(json_array_get(context, p)) != 0;
		lesson l;

		if (ignored || !lesson_of(in, doc, p, &l)) {
			html_put(out, "<span class=\"t%s\">", ignored ? " context" : "");
		} else {
			html_put(out, "<span class=\"t %s i%d\" title=\"%s %.0f %%", chart_class(input_slot(in, model_name(doc, l.top))),
				level(l.credit[l.top], m), model_name(doc, l.top), 100 * l.credit[l.top]);
			if (isfinite(l.fused)) html_put(out, ", fused probability %.2f", l.fused);
			html_raw(out, "\">");
		}
		put_token(text + from, to - from, out);
		html_raw(out, "</span>");
	}
	if (tokens_of(in, doc) < json_array_size(json_object_get(doc, "weights"))) html_raw(out, "<span class=\"more\"> …</span>");
	html_raw(out, "</div>\n");
}

/* Where the sources helped most: the largest gain of the fused probability over the target's own. */
static size_t telling(const input *in, const json_t *doc)
{
	size_t best = 0;
	double most = -INFINITY;

	for (size_t p = 0; p < tokens_of(in, doc); p++) {
		lesson l;
		double gain;

		if (!lesson_of(in, doc, p, &l) || !isfinite(l.fused)) continue;
		gain = isfinite(l.own) ? l.fused - l.own : l.fused;
		if (gain <= most) continue;
		most = gain;
		best = p;
	}
	return best;
}

static void put_percent(kf_buf *out, double q)
{
	if (!isfinite(q)) html_raw(out, "<td class=\"none\">–</td>");
	else if (q > 0 && q < 0.0005) html_raw(out, "<td>&lt;0.1</td>");
	else html_put(out, "<td>%.1f</td>", 100 * q);
}

/* A candidate in a table: its white space made visible. */
static void put_candidate(const json_t *candidate, kf_buf *out)
{
	const json_t *name = json_array_get(candidate, 0);
	const char *text = json_string_value(name);
	size_t n = json_string_length(name), from = 0;

	html_raw(out, "<code>");
	for (size_t at = 0; at <= n; at++) {
		const char *mark = at == n ? "" : text[at] == ' ' ? "␣" : text[at] == '\n' ? "↵" : text[at] == '\t' ? "→" : NULL;

		if (!mark) continue;
		html_text(out, (const uint8_t *)text + from, at - from);
		html_raw(out, mark);
		from = at + 1;
	}
	html_raw(out, "</code>");
}

/* The table of one position, as the page's script makes it for the others. */
static void put_inspector(const input *in, const json_t *doc, size_t p, kf_buf *out)
{
	const json_t *rows = json_array_get(json_object_get(doc, "candidates"), p), *c;
	const json_t *weights = json_array_get(json_object_get(doc, "weights"), p);
	int m = (int)json_array_size(json_object_get(doc, "models"));
	json_int_t label = json_integer_value(json_array_get(json_object_get(doc, "label"), p));
	lesson l;
	size_t k;

	html_put(out, "<aside class=\"inspector\" aria-live=\"polite\" data-token=\"%zu\">\n", p);
	if (!lesson_of(in, doc, p, &l)) {
		html_raw(out, "</aside>\n");
		return;
	}
	html_raw(out, "<p class=\"at\">Where the sources helped most: ");
	if (l.label) put_candidate(l.label, out);
	html_raw(out, "</p>\n<table><thead><tr><th scope=\"col\">next token, %</th><th scope=\"col\">fused</th>");
	for (int i = 0; i < m; i++) {
		html_raw(out, "<th scope=\"col\">");
		chart_swatch(out, input_slot(in, model_name(doc, i)));
		html_put(out, "<span class=\"hidden\">%s</span></th>", model_name(doc, i));
	}
	html_raw(out, "</tr></thead><tbody>\n");
	json_array_foreach(rows, k, c) {
		html_put(out, (json_int_t)k == label ? "<tr class=\"label\"><th scope=\"row\">" : "<tr><th scope=\"row\">");
		put_candidate(c, out);
		if ((json_int_t)k == label) html_raw(out, " <small>the text</small>");
		html_raw(out, "</th>");
		for (int i = 0; i <= m; i++) put_percent(out, input_number(json_array_get(c, (size_t)i + 1)));
		html_raw(out, "</tr>\n");
	}
	html_raw(out, "</tbody><tfoot><tr><th scope=\"row\">weight</th><td></td>");
	for (int i = 0; i < m; i++) put_percent(out, input_number(json_array_get(weights, (size_t)i)));
	html_raw(out, "</tr>\n<tr><th scope=\"row\">credit</th><td></td>");
	for (int i = 0; i < m; i++) put_percent(out, l.credit[i]);
	html_raw(out, "</tr></tfoot></table>\n</aside>\n");
}

static json_t *slice(const json_t *list, size_t n)
{
	json_t *out = json_array();

	for (size_t i = 0; out && i < n; i++)
		if (json_array_append(out, json_array_get(list, i)) != 0) {
			json_decref(out);
			return NULL;
		}
	return out;
}

/* What the script shows of the other tokens. */
static void put_data(const input *in, const json_t *doc, kf_buf *out)
{
	size_t n = tokens_of(in, doc);
	json_t *models = json_array(), *data;

	for (int i = 0; i < (int)json_array_size(json_object_get(doc, "models")); i++) {
		int mark = input_slot(in, model_name(doc, i));
		char letter[2] = { chart_letter(mark), 0 };

		json_array_append_new(models, json_pack("[s,s,s,i]", model_name(doc, i), chart_class(mark), letter, mark > 0 ? mark % SLOTS : 0));
	}
	data = json_pack("{s:o,s:o,s:o,s:o}", "models", models, "weights", slice(json_object_get(doc, "weights"), n), "label",
		slice(json_object_get(doc, "label"), n), "candidates", slice(json_object_get(doc, "candidates"), n));
	html_raw(out, "<script type=\"application/json\">");
	html_json(out, data);
	html_raw(out, "</script>\n");
	json_decref(data);
}

/* Whether traces of several mixtures are shown, so that each says which is its. */
static bool several_mixtures(const input *in)
{
	const json_t *first = json_object_get(json_array_get(in->traces, 0), "models"), *doc;
	size_t i;

	json_array_foreach(in->traces, i, doc)
		if (!json_equal(json_object_get(doc, "models"), first)) return true;
	return false;
}

/* Whether a conversation is shown. */
static bool any_context(const input *in)
{
	const json_t *doc, *v;
	size_t i, k;

	json_array_foreach(in->traces, i, doc)
		json_array_foreach(json_object_get(doc, "context"), k, v)
			if (json_integer_value(v) != 0) return true;
	return false;
}

static void put_document(const input *in, size_t d, kf_buf *out)
{
	const json_t *doc = json_array_get(in->traces, d);
	size_t all = json_array_size(json_object_get(doc, "weights")), shown = tokens_of(in, doc);

	html_put(out, "<article class=\"passage\" id=\"passage-%zu\">\n<h3>%s <small>%s", d, kf_domain_label(input_string(doc, "domain")),
		input_string(doc, "id"));
	if (shown < all) html_put(out, ", the first %zu of %zu tokens", shown, all);
	for (size_t i = 0; several_mixtures(in) && i < json_array_size(json_object_get(doc, "models")); i++)
		html_put(out, "%s%s", i ? " + " : "; ", model_name(doc, (int)i));
	html_raw(out, "</small></h3>\n<div class=\"reader\">\n");
	put_tokens(in, doc, out);
	put_inspector(in, doc, telling(in, doc), out);
	html_raw(out, "</div>\n");
	put_data(in, doc, out);
	html_raw(out, "</article>\n");
}

static void put_passages(const input *in, kf_buf *out)
{
	size_t n = json_array_size(in->traces);

	html_raw(out, "<p>The colour of a token is the model to which the fused prediction of that token owes most: its weight in the mixture times the "
		"probability it gave the token, as a share of the sum (<em>credit</em>). The stronger the colour, the larger the share. "
		"<span class=\"script\">Point at a token, tap it, or move with the arrow keys to see what each model expected there; Escape lets go of it.</span></p>\n"
		"<p class=\"legend\">");
	for (int i = -1; i < in->n_sources; i++) {
		if (i < 0 && !in->target) continue;
		html_put(out, "<span><span class=\"t %s i4\">", chart_class(i < 0 ? MARK_TARGET : i % SLOTS));
		html_put(out, "%c</span> %s</span>", chart_letter(i < 0 ? MARK_TARGET : i % SLOTS), i < 0 ? in->target : in->source[i]);
	}
	if (any_context(in)) html_raw(out, "<span><span class=\"t context\">grey</span> what is not learnt: prompts, and what the template puts around messages</span>");
	html_raw(out, "</p>\n");
	for (size_t d = 0; d < n && d < (size_t)in->o->passages; d++) put_document(in, d, out);
}

const section section_passages = { "passages", "Who taught which token", passages_there, put_passages,
	"give what <code>kf-fuse --trace FILE</code> wrote with <code>--trace</code>." };
