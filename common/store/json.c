#include "common/store/json.h"

#include <math.h>
#include <string.h>

size_t kf_json_char(const uint8_t *s, size_t n)
{
	uint8_t a = s[0], lo = 0x80, hi = 0xbf;
	size_t len;

	if (a < 0x80) return 1;
	if (a < 0xc2 || a > 0xf4) return 0;
	len = a < 0xe0 ? 2 : a < 0xf0 ? 3 : 4;
	if (n < len) return 0;
	if (a == 0xe0) lo = 0xa0;
	else if (a == 0xed) hi = 0x9f;
	else if (a == 0xf0) lo = 0x90;
	else if (a == 0xf4) hi = 0x8f;
	if (s[1] < lo || s[1] > hi) return 0;
	for (size_t i = 2; i < len; i++)
		if ((s[i] & 0xc0) != 0x80) return 0;
	return len;
}

void kf_json_text(kf_buf *out, const char *text, size_t n)
{
	size_t len;

	for (const uint8_t *s = (const uint8_t *)text; n; s += len, n -= len) {
		if ((len = kf_json_char(s, n))) kf_buf_put(out, s, len);
		else kf_buf_put(out, "\xef\xbf\xbd", 3), len = 1;
	}
}

void kf_json_string(FILE *out, const uint8_t *s, size_t n)
{
	putc('"', out);
	while (n) {
		size_t len = kf_json_char(s, n);
		uint8_t c = *s;

		if (len == 0) fputs("\xef\xbf\xbd", out);
		else if (len > 1) fwrite(s, 1, len, out);
		else if (c == '"' || c == '\\') { putc('\\', out); putc(c, out); }
		else if (c == '\n') fputs("\\n", out);
		else if (c == '\t') fputs("\\t", out);
		else if (c == '\r') fputs("\\r", out);
		else if (c < 0x20 || c == 0x7f) fprintf(out, "\\u%04x", c);
		else putc(c, out);
		s += len ? len : 1;
		n -= len ? len : 1;
	}
	putc('"', out);
}

static void text(FILE *out, const char *s)
{
	kf_json_string(out, (const uint8_t *)s, strlen(s));
}

#define STR2(x) #x
#define STR(x) STR2(x)

/* Nine digits bring a float back exactly. JSON has no infinities: 1e999 reads as one nearly everywhere. */
static void number(FILE *out, float x, unsigned flags)
{
	if (x != x) fputs("null", out);
	else if (isinf(x)) fprintf(out, "%s%s", x < 0 ? "-" : "", flags & KF_JSON_FINITE ? STR(KF_JSON_INFINITE) : "1e999");
	else fprintf(out, "%.9g", x);
}

static void head(FILE *out, const kf_dochead *h)
{
	fprintf(out, "{\"doc\":%llu,\"id\":", (unsigned long long)h->doc);
	text(out, h->id);
	fprintf(out, ",\"piece\":%u,\"domain\":", h->piece);
	text(out, h->domain);
	fprintf(out, ",\"bytes\":%u", h->bytes);
}

static void ints(FILE *out, const int32_t *v, size_t n)
{
	putc('[', out);
	for (size_t i = 0; i < n; i++) fprintf(out, i ? ",%d" : "%d", v[i]);
	putc(']', out);
}

static void offsets(FILE *out, const char *name, const uint32_t *v, size_t n)
{
	fprintf(out, ",\"%s\":[", name);
	for (size_t i = 0; i < n; i++) fprintf(out, i ? ",%u" : "%u", v[i]);
	putc(']', out);
}

static void numbers(FILE *out, const float *v, size_t n, unsigned flags)
{
	putc('[', out);
	for (size_t i = 0; i < n; i++) {
		if (i) putc(',', out);
		number(out, v[i], flags);
	}
	putc(']', out);
}

/* How many candidates of position p are told: none where the record predicts nothing. */
static size_t told(const kf_logits_rec *r, size_t p, unsigned flags)
{
	const float *lp = r->top_lp + p * r->k;
	size_t n = kf_predicted(r, (uint32_t)p) ? r->k : 0;

	while (flags & KF_JSON_FINITE && n > 0 && isinf(lp[n - 1])) n--;
	return n;
}

static void top_ids(FILE *out, const kf_logits_rec *r, unsigned flags)
{
	fputs(",\"top_ids\":[", out);
	for (size_t p = 0; p <= r->n; p++) {
		if (p) putc(',', out);
		ints(out, r->top_ids + p * r->k, told(r, p, flags));
	}
	putc(']', out);
}

static void top_logprobs(FILE *out, const kf_logits_rec *r, unsigned flags)
{
	fputs(",\"top_logprobs\":[", out);
	for (size_t p = 0; p <= r->n; p++) {
		if (p) putc(',', out);
		numbers(out, r->top_lp + p * r->k, told(r, p, flags), flags);
	}
	putc(']', out);
}

/* Lists of a number of values a position. */
static void ragged_ints(FILE *out, const char *name, const int32_t *v, const uint32_t *off, size_t rows)
{
	fprintf(out, ",\"%s\":[", name);
	for (size_t p = 0; p < rows; p++) {
		if (p) putc(',', out);
		ints(out, v + off[p], off[p + 1] - off[p]);
	}
	putc(']', out);
}

static void ragged_numbers(FILE *out, const char *name, const float *v, const uint32_t *off, size_t rows, unsigned flags)
{
	fprintf(out, ",\"%s\":[", name);
	for (size_t p = 0; p < rows; p++) {
		if (p) putc(',', out);
		numbers(out, v + off[p], off[p + 1] - off[p], flags);
	}
	putc(']', out);
}

static void stream(FILE *out, bool bos, const int32_t *tokens, const uint32_t *start, const float *ce, const uint8_t *context,
	size_t n, unsigned flags)
{
	fprintf(out, ",\"bos\":%s,\"tokens\":", bos ? "true" : "false");
	ints(out, tokens, n);
	offsets(out, "start", start, n + 1);
	fputs(",\"ce\":", out);
	numbers(out, ce, n, flags);
	if (!context) return;
	fputs(",\"context\":[", out);
	for (size_t p = 0; p <= n; p++) fprintf(out, p ? ",%d" : "%d", context[p]);
	putc(']', out);
}

void kf_json_corpus(FILE *out, const kf_corpus_rec *r)
{
	head(out, &r->head);
	fputs(",\"text\":", out);
	kf_json_string(out, r->text, r->head.bytes);
	if (r->n_turns) {
		uint32_t at = 0;

		fputs(",\"messages\":[", out);
		for (uint32_t i = 0; i < r->n_turns; at += r->turns[i++].bytes)
			fprintf(out, "%s{\"role\":\"%s\",\"start\":%u,\"end\":%u}", i ? "," : "", kf_role_name(r->turns[i].role), at,
				at + r->turns[i].bytes);
		putc(']', out);
	}
	fputs("}\n", out);
}

void kf_json_logits(FILE *out, const kf_logits_rec *r, unsigned flags)
{
	size_t n = r->n;

	head(out, &r->head);
	stream(out, r->bos, r->tokens, r->start, r->ce, r->context, n, flags);
	top_ids(out, r, flags);
	top_logprobs(out, r, flags);
	if (flags & KF_JSON_PATH && r->has_path) {
		ragged_numbers(out, "path_nlm", r->path_nlm, r->path_off, n, flags);
		ragged_ints(out, "extra_ids", r->extra_ids, r->extra_off, n + 1);
		ragged_numbers(out, "extra_logprobs", r->extra_lp, r->extra_off, n + 1, flags);
	}
	fputs("}\n", out);
}

void kf_json_dist(FILE *out, const kf_dist_rec *r, unsigned flags)
{
	size_t n = r->n;

	head(out, &r->head);
	stream(out, r->bos, r->tokens, r->start, r->ce, r->context, n, flags);
	ragged_ints(out, "top_ids", r->ids, r->off, n + 1);
	ragged_numbers(out, "top_logprobs", r->lp, r->off, n + 1, flags);
	fputs(",\"tail\":", out);
	numbers(out, r->tail, n + 1, flags);
	if (r->weight) {
		fputs(",\"weight\":", out);
		numbers(out, r->weight, n + 1, flags);
	}
	fputs("}\n", out);
}
