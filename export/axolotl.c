#include <math.h>
#include <string.h>

#include "export/export.h"

/* A position's candidates, however the record holds them. */
typedef struct { const int32_t *id; const float *lp; uint32_t n; } row;

typedef struct {
	const kf_logits_rec *l;    /* one of the two; and what both have: */
	const kf_dist_rec *d;
	bool bos;
	uint32_t n;
	const int32_t *tokens;
	const uint8_t *context;
} source;

/* What is taught about token p: nothing at the end, and where the position is context. */
static row about(const source *s, uint32_t p)
{
	row r = { 0 };

	if (p >= s->n || (s->context && s->context[p])) return r;
	if (s->l) {
		if (!kf_predicted(s->l, p)) return r;
		r = (row){ s->l->top_ids + (size_t)p * s->l->k, s->l->top_lp + (size_t)p * s->l->k, s->l->k };
	} else {
		if (s->d->weight && s->d->weight[p] <= 0) return r;
		r = (row){ s->d->ids + s->d->off[p], s->d->lp + s->d->off[p], s->d->off[p + 1] - s->d->off[p] };
	}
	while (r.n > 0 && isinf(r.lp[r.n - 1])) r.n--;
	return r;
}

/* Always with a point or an exponent: a reader that guesses types from the first lines sees no whole numbers. */
static void real(FILE *out, double x)
{
	char text[32];

	snprintf(text, sizeof text, "%.7g", x == 0 ? 0 : x);
	fprintf(out, "%s%s", text, strpbrk(text, ".e") ? "" : ".0");
}

static double shift(row r, bool renormalize)
{
	double sum = 0;

	for (uint32_t j = 0; renormalize && j < r.n; j++) sum += exp((double)r.lp[j]);
	return sum > 0 ? log(sum) : 0;
}

static void line(FILE *out, const source *s, int32_t bos, bool renormalize)
{
	/* row j is about token first + j: with a BOS row 0, its own, is about token 0 */
	uint32_t rows = s->n + s->bos, first = !s->bos;

	if (rows == 0) return;
	fputs("{\"input_ids\":[", out);
	for (uint32_t j = 0; j < rows; j++) fprintf(out, j ? ",%d" : "%d", first + j > 0 ? s->tokens[first + j - 1] : bos);
	fputs("],\"attention_mask\":[1", out);
	for (uint32_t j = 1; j < rows; j++) fputs(",1", out);
	fputs("],\"labels\":[-100", out);
	for (uint32_t j = 1; j < rows; j++) {
		uint32_t p = first + j - 1;

		fprintf(out, ",%d", s->context && s->context[p] ? -100 : s->tokens[p]);
	}
	fputs("],\"target_token_ids\":[", out);
	for (uint32_t j = 0; j < rows; j++) {
		row r = about(s, first + j);

		fputs(j ? ",[" : "[", out);
		for (uint32_t i = 0; i < r.n; i++) fprintf(out, i ? ",%d" : "%d", r.id[i]);
		fputs(r.n ? "]" : "0]", out);
	}
	fputs("],\"target_logprobs\":[", out);
	for (uint32_t j = 0; j < rows; j++) {
		row r = about(s, first + j);
		double by = shift(r, renormalize);

		fputs(j ? ",[" : "[", out);
		for (uint32_t i = 0; i < r.n; i++) {
			if (i) putc(',', out);
			real(out, fmin((double)r.lp[i] - by, 0));
		}
		fputs(r.n ? "]" : "-1e9]", out);
	}
	fputs("],\"target_mask\":[", out);
	for (uint32_t j = 0; j < rows; j++) {
		row r = about(s, first + j);

		fputs(j ? ",[" : "[", out);
		for (uint32_t i = 0; i < r.n; i++) fputs(i ? ",1" : "1", out);
		fputs(r.n ? "]" : "0]", out);
	}
	fputs("]}\n", out);
}

void kf_axolotl_logits(FILE *out, const kf_logits_rec *r, int32_t bos, bool renormalize)
{
	source s = { .l = r, .bos = r->bos, .n = r->n, .tokens = r->tokens, .context = r->context };

	line(out, &s, bos, renormalize);
}

void kf_axolotl_dist(FILE *out, const kf_dist_rec *r, int32_t bos, bool renormalize)
{
	source s = { .d = r, .bos = r->bos, .n = r->n, .tokens = r->tokens, .context = r->context };

	line(out, &s, bos, renormalize);
}
