/* What the page is about, and its result in a sentence. */
#include <math.h>

#include "report/section.h"

/* a, b and c */
static void put_list(kf_buf *out, const char *const *item, int n)
{
	for (int i = 0; i < n; i++) {
		if (i) html_raw(out, i == n - 1 ? " and " : ", ");
		html_put(out, "<b>%s</b>", item[i]);
	}
}

static void put_title(const input *in, kf_buf *out)
{
	html_raw(out, "<p class=\"kicker\">kfuse report</p>\n<h1>");
	if (in->o->title) {
		html_put(out, "%s", in->o->title);
	} else if (in->target && in->n_sources) {
		html_put(out, "What <b>%s</b> learned from ", in->target);
		put_list(out, in->source, in->n_sources);
	} else {
		html_raw(out, "A run of kfuse");
	}
	html_raw(out, "</h1>\n");
}

typedef enum { BETTER, WORSE, UNCLEAR } verdict;

static verdict verdict_of(const json_t *interval)
{
	double low = input_real(interval, "low"), high = input_real(interval, "high");

	return high < 0 ? BETTER : low > 0 ? WORSE : UNCLEAR;
}

/* "Better in prose and c, no clear difference in docs." */
static void put_domains(const input *in, const json_t *by_domain, kf_buf *out)
{
	static const char *const WORDS[] = { "better in ", "worse in ", "no clear difference in " };
	const char *name[NAMES];
	bool first = true;

	for (int v = BETTER; v <= UNCLEAR; v++) {
		int n = 0;

		for (int i = 0; i < in->n_domains; i++) {
			const json_t *d = json_object_get(by_domain, in->domain[i]);

			if (d && isfinite(input_real(d, "difference")) && (int)verdict_of(d) == v)
				name[n++] = domain_name(in->domain[i]);
		}
		if (!n) continue;
		if (!first) html_raw(out, "; ");
		html_raw(out, WORDS[v]);
		put_list(out, name, n);
		first = false;
	}
}

static void put_card(const input *in, const json_t *c, kf_buf *out)
{
	static const char *const CLASS[] = { "better", "worse", "unclear" };
	static const char *const WORD[] = { "better", "worse", "no clear difference" };
	const json_t *mean = input_at(c, "bits_per_byte", "mean", NULL);
	const char *other = input_string(c, "b");
	double d = input_real(mean, "difference"), low = input_real(mean, "low");
	double base = input_number(input_at(in->eval, "bits_per_byte", other, "mean", NULL));
	verdict v = verdict_of(mean);

	html_put(out, "<li class=\"card %s\"><span class=\"big\">", CLASS[v]);
	html_number(out, d, 4, true);
	html_put(out, "</span><span class=\"what\">bits per byte against <b>%s</b>", other);
	if (base > 0) {
		html_raw(out, " (");
		html_number(out, 100 * d / base, 1, true);
		html_raw(out, " %)");
	}
	html_raw(out, "</span><span class=\"fine\">");
	if (isfinite(low)) {
		html_put(out, "%s; 95 %% interval ", WORD[v]);
		html_number(out, low, 4, true);
		html_raw(out, " to ");
		html_number(out, input_real(mean, "high"), 4, true);
	} else {
		html_raw(out, "too few documents for an interval");
	}
	html_raw(out, "</span><span class=\"fine\">");
	put_domains(in, json_object_get(c, "bits_per_byte"), out);
	html_raw(out, "</span></li>\n");
}

static void put_lead(const input *in, kf_buf *out)
{
	double mean = input_number(input_at(in->eval, "bits_per_byte", in->result, "mean", NULL)), docs = 0, bytes = 0;
	const char *name;
	json_t *v;
	int domains = 0;

	json_object_foreach(json_object_get(in->eval, "documents"), name, v) {
		docs += fmax(0, input_number(v));
		domains++;
	}
	json_object_foreach(json_object_get(in->eval, "bytes"), name, v) bytes += fmax(0, input_number(v));
	html_put(out, "<p class=\"lead\"><b class=\"sr\">%s</b> predicts the test text at <b>%.4f bits per byte</b>", in->result, mean);
	html_put(out, " (mean of %d domain%s, %.0f documents, ", domains, domains == 1 ? "" : "s", docs);
	html_bytes(out, bytes);
	html_raw(out, "; lower is better).");
	if (in->candidates > 1)
		html_put(out, " It is the best in the mean of %d compared models, chosen on this very text.", in->candidates);
	html_raw(out, "</p>\n");
}

/* Who taught: of the only mixture there is. */
static void put_teachers(const input *in, kf_buf *out)
{
	const set_input *only = NULL;
	const json_t *all, *list, *name;
	bool first = true;
	size_t i;

	for (int s = 0; s < in->n_sets; s++) {
		if (in->set[s].kind != KF_SET_TARGETS) continue;
		if (only) return;
		only = &in->set[s];
	}
	all = only ? input_at(only->manifest, "stats", "all", "models", NULL) : NULL;
	if (!json_object_size(all)) return;
	list = json_object_get(kf_set_info(only->set), "models");
	html_raw(out, "<p>The teachers’ weights over the training text: ");
	json_array_foreach(list, i, name) {
		double share = input_number(input_at(all, json_string_value(name) ? json_string_value(name) : "", "share", NULL));

		if (!isfinite(share)) continue;
		if (!first) html_raw(out, ", ");
		first = false;
		html_put(out, "<b>%s</b>%s %.0f\u00a0%%", json_string_value(name),
			input_slot(in, json_string_value(name)) == MARK_TARGET ? " itself" : "", 100 * share);
	}
	html_raw(out, ".</p>\n");
}

void put_headline(const input *in, kf_buf *out)
{
	const json_t *list = input_at(in->eval, "comparisons", NULL), *c;
	size_t i;
	int cards = 0;

	html_raw(out, "<header>\n");
	put_title(in, out);
	if (in->result && in->eval) {
		put_lead(in, out);
		json_array_foreach(list, i, c) cards += strcmp(input_string(c, "a"), in->result) == 0;
	}
	if (cards) {
		html_raw(out, "<ul class=\"cards\">\n");
		json_array_foreach(list, i, c)
			if (strcmp(input_string(c, "a"), in->result) == 0) put_card(in, c, out);
		html_raw(out, "</ul>\n");
		put_teachers(in, out);
		html_raw(out, "<p class=\"fine\">Intervals are over the test documents (bootstrap), not over training runs with other seeds.</p>\n");
	} else {
		put_teachers(in, out);
	}
	html_raw(out, "</header>\n");
}
