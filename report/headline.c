/* What the page is about, and its result in a sentence. */
#include <math.h>

#include "report/section.h"
#include "report/spread.h"

#define LISTED 6                         /* values of runs in a sentence, at most */

/* a, b and c: no line begins with a comma */
static void put_list(kf_buf *out, const char *const *item, int n)
{
	for (int i = 0; i < n; i++)
		html_put(out, i < n - 2 ? "<b>%s,</b> " : i == n - 2 ? "<b>%s</b> and " : "<b>%s</b>", item[i]);
}

static void put_title(const input *in, kf_buf *out)
{
	html_raw(out, "<p class=\"kicker\">kfuse report</p>\n<h1>");
	if (in->o->title) {
		html_put(out, "%s", in->o->title);
	} else if (in->target && in->n_sources) {
		html_put(out, "What <b>%s</b> learned from ", in->target);
		put_list(out, in->source, in->n_sources);
	} else if (in->n_runs > 1) {
		html_put(out, "An experiment of %d runs", in->n_runs);
	} else {
		html_raw(out, "A run of kfuse");
	}
	html_raw(out, "</h1>\n");
	if (!in->o->title || !in->target || !in->n_sources) return;
	html_put(out, "<p>The target is <b>%s</b>, the sources are ", in->target);
	put_list(out, in->source, in->n_sources);
	html_raw(out, ".</p>\n");
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

			if (d && isfinite(input_real(d, "low")) && (int)verdict_of(d) == v)
				name[n++] = kf_domain_label(in->domain[i]);
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
	if (base > 0 && isfinite(d)) {
		html_raw(out, " (");
		html_percent(out, d / base, true);
		html_raw(out, ")");
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
	if (only && in->n_models && !trained_on(in, only)) return;
	all = only ? input_at(only->manifest, "stats", "all", "models", NULL) : NULL;
	if (!json_object_size(all)) return;
	list = json_object_get(kf_set_info(only->set), "models");
	html_put(out, "<p>The teachers’ weights over the training text%s: ", in->n_runs > 1 ? " of run 1" : "");
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

static void put_left_out(int domains, kf_buf *out)
{
	if (domains > NAMES) html_put(out, " This page shows the first %d domains; the means are of all.", NAMES);
}

/* Domains that the mean is of: those with a document that was compared. */
static int compared_domains(const input *in)
{
	const char *name;
	json_t *v;
	int n = 0;

	json_object_foreach(json_object_get(in->eval, "documents"), name, v) n += input_number(v) > 0;
	return n;
}

/* ---- of several runs ---- */

static void put_runs_lead(const input *in, kf_buf *out)
{
	spread s = spread_bits(in, in->result, "mean");
	int domains = compared_domains(in);

	html_put(out, "<p class=\"lead\"><b class=\"sr\">%s</b> predicts the test text at <b>%.4f bits per byte</b> in ", in->result, s.mean);
	if (s.n == in->n_runs) html_put(out, "the mean over %d runs", s.n);
	else html_put(out, s.n == 1 ? "the %d of %d runs that has it" : "the mean over the %d of %d runs that have it", s.n, in->n_runs);
	html_raw(out, " (");
	if (isfinite(s.sd)) html_put(out, "standard deviation %.4f; ", s.sd);
	html_put(out, "mean of %d domain%s; lower is better).", domains, domains == 1 ? "" : "s");
	if (in->candidates > 1)
		html_put(out, " It is the best in the mean of %d compared models, chosen on these very texts.", in->candidates);
	put_left_out((int)json_object_size(json_object_get(in->eval, "documents")), out);
	html_raw(out, "</p>\n");
}

/* "below 0 in 2 of 3 runs, in 1 with the whole of its own 95 % interval" */
static void put_signs(const spread *s, kf_buf *out)
{
	bool worse = s->above > s->below;

	html_put(out, "%s 0 in %d of %d runs", worse ? "above" : "below", worse ? s->above : s->below, s->n);
	if (s->intervals)
		html_put(out, ", in %d with the whole of its own 95 %% interval", worse ? s->clear_above : s->clear_below);
}

static void put_values(const input *in, const spread *s, kf_buf *out)
{
	bool first = true;

	if (s->n > LISTED) {
		html_raw(out, "from ");
		html_number(out, s->least, 4, true);
		html_raw(out, " to ");
		html_number(out, s->most, 4, true);
		return;
	}
	html_raw(out, "runs: ");
	for (int r = 0; r < in->n_runs; r++) {
		if (!isfinite(s->value[r])) continue;
		if (!first) html_raw(out, ", ");
		html_number(out, s->value[r], 4, true);
		first = false;
	}
}

/* "below 0 in every run: prose and c; above 0 in every run: docs" */
static void put_runs_domains(const input *in, const char *a, const char *b, kf_buf *out)
{
	static const char *const WORDS[] = { "below 0 in every run: ", "above 0 in every run: ", "neither in every run: " };
	const char *name[NAMES];
	bool first = true;

	for (int v = BETTER; v <= UNCLEAR; v++) {
		int n = 0;

		for (int i = 0; i < in->n_domains; i++) {
			spread s = spread_difference(in, a, b, in->domain[i]);
			verdict is = s.n < in->n_runs ? UNCLEAR : s.below == s.n ? BETTER : s.above == s.n ? WORSE : UNCLEAR;

			if (s.n && (int)is == v) name[n++] = kf_domain_label(in->domain[i]);
		}
		if (!n) continue;
		if (!first) html_raw(out, "; ");
		html_raw(out, WORDS[v]);
		put_list(out, name, n);
		first = false;
	}
}

/* Green or red only where every run says so by its own interval. */
static void put_runs_card(const input *in, const char *a, const char *b, kf_buf *out)
{
	static const char *const CLASS[] = { "better", "worse", "unclear" };
	spread s = spread_difference(in, a, b, "mean");
	double share = spread_share(in, &s, b);
	verdict v = s.n == in->n_runs && s.clear_below == s.n ? BETTER : s.n == in->n_runs && s.clear_above == s.n ? WORSE : UNCLEAR;

	html_put(out, "<li class=\"card %s\"><span class=\"big\">", CLASS[v]);
	html_number(out, s.mean, 4, true);
	html_put(out, "</span><span class=\"what\">bits per byte against <b>%s</b>", b);
	if (isfinite(share)) {
		html_raw(out, " (");
		html_percent(out, share, true);
		html_raw(out, ")");
	}
	html_put(out, ", mean over %d run%s</span><span class=\"fine\">", s.n, s.n == 1 ? "" : "s");
	put_signs(&s, out);
	html_raw(out, "</span><span class=\"fine\">");
	if (isfinite(s.sd)) html_put(out, "standard deviation %.4f; ", s.sd);
	put_values(in, &s, out);
	html_raw(out, "</span><span class=\"fine\">");
	put_runs_domains(in, a, b, out);
	html_raw(out, "</span></li>\n");
}

/* Those of comparisons that every run has. Returns how many. */
static int put_runs_cards(const input *in, kf_buf *out)
{
	size_t n = json_array_size(json_object_get(in->eval, "comparisons"));
	const char *a, *b;
	int cards = 0;

	for (size_t i = 0; i < n; i++) {
		if (!runs_all_compare(in, i, &a, &b) || strcmp(a, in->result) != 0) continue;
		if (!cards++) html_raw(out, "<ul class=\"cards\">\n");
		put_runs_card(in, a, b, out);
	}
	if (cards) html_raw(out, "</ul>\n");
	return cards;
}

static void put_runs_headline(const input *in, kf_buf *out)
{
	int cards;

	if (spread_bits(in, in->result, "mean").n) put_runs_lead(in, out);
	cards = put_runs_cards(in, out);
	put_teachers(in, out);
	if (cards)
		html_raw(out, "<p class=\"fine\">A run’s own interval is over its test texts (bootstrap); the standard deviation is over the runs. A card is "
			"green or red where the whole interval of every run is on one side of 0, below or above.</p>\n");
}

/* ---- of one ---- */

static void put_lead(const input *in, kf_buf *out)
{
	double mean = input_number(input_at(in->eval, "bits_per_byte", in->result, "mean", NULL)), docs = 0, bytes = 0;
	const char *name;
	json_t *v;
	const int domains = compared_domains(in);

	json_object_foreach(json_object_get(in->eval, "documents"), name, v) docs += fmax(0, input_number(v));
	json_object_foreach(json_object_get(in->eval, "bytes"), name, v) bytes += fmax(0, input_number(v));
	html_put(out, "<p class=\"lead\"><b class=\"sr\">%s</b> predicts the test text at <b>%.4f bits per byte</b>", in->result, mean);
	html_put(out, " (mean of %d domain%s, ", domains, domains == 1 ? "" : "s");
	html_count(out, docs);
	html_raw(out, docs == 1 ? " document, " : " documents, ");
	html_bytes(out, bytes);
	html_raw(out, "; lower is better).");
	if (in->candidates > 1)
		html_put(out, " It is the best in the mean of %d compared models, chosen on this very text.", in->candidates);
	put_left_out((int)json_object_size(json_object_get(in->eval, "documents")), out);
	html_raw(out, "</p>\n");
}

static void put_run_headline(const input *in, kf_buf *out)
{
	const json_t *list = input_at(in->eval, "comparisons", NULL), *c;
	size_t i;
	int cards = 0;

	if (in->result && in->eval) {
		if (isfinite(input_number(input_at(in->eval, "bits_per_byte", in->result, "mean", NULL)))) put_lead(in, out);
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
}

void put_headline(const input *in, kf_buf *out)
{
	html_raw(out, "<header>\n");
	put_title(in, out);
	if (in->result && in->n_runs > 1) put_runs_headline(in, out);
	else put_run_headline(in, out);
	html_raw(out, "</header>\n");
}
