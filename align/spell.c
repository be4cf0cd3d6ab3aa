#include "align/spell.h"

#include <string.h>

#include "align/vocab.h"

/* ---- strings ---- */

/* Growing code points of one vocabulary. */
typedef struct {
	uint32_t *text;
	size_t len, cap;
} points;

static bool push(points *p, uint32_t c)
{
	if (p->len == p->cap) {
		size_t cap = p->cap ? 2 * p->cap : 1 << 16;
		uint32_t *more = kf_alloc(cap, sizeof *more);

		if (!more) return false;
		if (p->len) memcpy(more, p->text, p->len * sizeof *more);
		kf_free(p->text);
		p->text = more;
		p->cap = cap;
	}
	p->text[p->len++] = c;
	return true;
}

/* The character that s (n > 0 bytes) begins with; *used: its bytes. Where there is none, *used is how many
 * bytes were right until it failed, 1 at least: what decoders that put U+FFFD there replace by one. */
static bool utf8(const uint8_t *s, uint32_t n, uint32_t *c, uint32_t *used)
{
	uint32_t need = s[0] >= 0xf0 ? 3 : s[0] >= 0xe0 ? 2 : s[0] >= 0xc2 ? 1 : 0;
	uint8_t lo = s[0] == 0xe0 ? 0xa0 : s[0] == 0xf0 ? 0x90 : 0x80,
		hi = s[0] == 0xed ? 0x9f : s[0] == 0xf4 ? 0x8f : 0xbf;

	*used = 1;
	*c = s[0];
	if (s[0] < 0x80) return true;
	if (need == 0 || s[0] > 0xf4) return false;
	*c &= 0x3fu >> need;
	for (; *used <= need; (*used)++) {
		if (*used >= n || s[*used] < lo || s[*used] > hi) return false;
		*c = *c << 6 | (s[*used] & 0x3f);
		lo = 0x80;
		hi = 0xbf;
	}
	return true;
}

/* One code point a byte that is no UTF-8, or U+FFFD for each wrong stretch. */
static bool push_text(points *p, const uint8_t *s, uint32_t n, bool replace)
{
	for (uint32_t i = 0, used; i < n; i += used) {
		uint32_t c;

		if (!utf8(s + i, n - i, &c, &used)) {
			c = replace ? 0xfffd : ALIGN_BYTE + s[i];
			used = replace ? used : 1;
		}
		if (!push(p, c)) return false;
	}
	return true;
}

/* Whether a token that is no byte piece has these bytes (n > 0). */
static bool spelled(const kf_tokenizer *t, const uint8_t *s, uint32_t n)
{
	int32_t lo, hi, all;
	const int32_t *order = kf_tokenizer_sorted(t, &all);
	uint32_t len;

	for (kf_tokenizer_range(t, s, n, &lo, &hi); lo < hi; lo++) {
		const char *piece = kf_tokenizer_piece(t, order[lo]);

		(void)kf_tokenizer_bytes(t, order[lo], &len);
		if (len != n) return false;
		if (piece && strncmp(piece, "<0x", 3) != 0) return true;
	}
	return false;
}

/* s (n): the token's bytes. With a dummy prefix, transformers takes the space marker off and lets
 * sentencepiece decode what is left: a piece, of which it takes another one off, or no piece, which stays as
 * it is, markers and all. */
static bool push_decoded(points *p, const kf_tokenizer *t, int32_t id, const uint8_t *s, uint32_t n)
{
	const char *piece = kf_tokenizer_piece(t, id), *marker = align_marker(t);
	uint32_t used;

	if (!kf_tokenizer_dummy_prefix(t) || strncmp(piece, marker, strlen(marker)) != 0)
		return push_text(p, s, n, true);
	s++, n--;
	piece += strlen(marker);
	if (n == 0) return true;
	if (spelled(t, s, n)) return push_text(p, s + (s[0] == ' '), n - (s[0] == ' '), true);
	for (bool only = strspn(piece, marker) == strlen(piece); *piece; piece += used) {
		uint32_t c;

		if (!utf8((const uint8_t *)piece, (uint32_t)strlen(piece), &c, &used)) c = 0xfffd;
		/* the code takes markers off when it compares, unless nothing else is there */
		if ((c != ALIGN_MARK || only) && !push(p, c)) return false;
	}
	return true;
}

static bool push_word(points *p, const kf_tokenizer *t, int32_t id, align_spelling how, const char *marker,
	bool *too_long)
{
	char piece[ALIGN_WORD_MAX];
	uint32_t n = 0;
	bool name_only = how == ALIGN_SPELL_VOCAB || kf_tokenizer_is_control(t, id);
	const uint8_t *s = name_only ? NULL : kf_tokenizer_bytes(t, id, &n);
	size_t from = p->len, to;

	if (!s || n == 0) {
		bool control = how != ALIGN_SPELL_VOCAB;
		const char *name = kf_tokenizer_piece(t, id);

		if (control) return !name || push_text(p, (const uint8_t *)name, (uint32_t)strlen(name), false);
		*too_long = !align_respell(t, id, marker, piece, sizeof piece);
		return *too_long || push_text(p, (const uint8_t *)piece, (uint32_t)strlen(piece), false);
	}
	if (how == ALIGN_SPELL_DECODED) return push_decoded(p, t, id, s, n);
	if (!push_text(p, s, n, false)) return false;
	to = from;
	for (size_t i = from; i < p->len; i++)
		if (p->text[i] != ' ') p->text[to++] = p->text[i];
	if (to > from) p->len = to;
	return true;
}

static kf_status words_new(const kf_tokenizer *t, align_spelling how, const char *marker, align_words *out,
	kf_err *err)
{
	points p = { 0 };

	*out = (align_words){ .n = kf_tokenizer_size(t) };
	if (!(out->off = kf_alloc((size_t)out->n + 1, sizeof *out->off))) goto nomem;
	for (int32_t id = 0; id < out->n; id++) {
		bool too_long = false;

		out->off[id] = (uint32_t)p.len;
		if (!push_word(&p, t, id, how, marker, &too_long)) goto nomem;
		if (too_long || p.len - out->off[id] > ALIGN_WORD_MAX || p.len > UINT32_MAX / 8) {
			kf_free(p.text);
			align_words_release(out);
			return kf_fail(err, KF_EUNSUPPORTED,
				"token %d is spelled with more than %d characters (or the whole vocabulary with too "
				"many): it cannot be compared; use --method byte --vocab-map prefix", (int)id, ALIGN_WORD_MAX);
		}
	}
	out->off[out->n] = (uint32_t)p.len;
	out->text = p.text;
	return KF_OK;
nomem:
	kf_free(p.text);
	align_words_release(out);
	return kf_fail(err, KF_ENOMEM, "no memory for the strings of a vocabulary of %d tokens",
		(int)kf_tokenizer_size(t));
}

kf_status align_words_new(const kf_tokenizer *t, align_spelling how, align_words *out, kf_err *err)
{
	return words_new(t, how, "", out, err);
}

kf_status align_words_marked(const kf_tokenizer *t, const char *marker, align_words *out, kf_err *err)
{
	return words_new(t, ALIGN_SPELL_VOCAB, marker, out, err);
}

void align_words_release(align_words *w)
{
	kf_free(w->text);
	kf_free(w->off);
	*w = (align_words){ 0 };
}

bool align_ends(const uint32_t *b, uint32_t nb, const uint32_t *a, uint32_t na)
{
	return na <= nb && (na == 0 || memcmp(b + (nb - na), a, na * sizeof *a) == 0);
}

bool align_contains(const uint32_t *b, uint32_t nb, const uint32_t *a, uint32_t na)
{
	for (uint32_t i = na; i <= nb; i++)
		if (align_ends(b, i, a, na)) return true;
	return false;
}

uint32_t align_edit(const uint32_t *a, uint32_t na, const uint32_t *b, uint32_t nb)
{
	uint32_t row[ALIGN_WORD_MAX + 1];

	for (uint32_t j = 0; j <= nb; j++) row[j] = j;
	for (uint32_t i = 1; i <= na; i++) {
		uint32_t diag = row[0];

		row[0] = i;
		for (uint32_t j = 1; j <= nb; j++) {
			uint32_t up = row[j], best = diag + (a[i - 1] != b[j - 1]);

			if (up + 1 < best) best = up + 1;
			if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
			row[j] = best;
			diag = up;
		}
	}
	return row[nb];
}

kf_status align_lexicon_new(const kf_tokenizer *a, const kf_tokenizer *b, align_spelling how, bool discount,
	align_lexicon **out, kf_err *err)
{
	align_lexicon *x = kf_zalloc(1, sizeof *x);
	kf_status rc;

	*out = NULL;
	if (!x) return kf_fail(err, KF_ENOMEM, "no memory for the strings of two vocabularies");
	x->discount = discount;
	if ((rc = align_words_new(a, how, &x->a, err)) != KF_OK ||
		(rc = align_words_new(b, how, &x->b, err)) != KF_OK) {
		align_lexicon_free(x);
		return rc;
	}
	*out = x;
	return KF_OK;
}

void align_lexicon_free(align_lexicon *x)
{
	if (!x) return;
	align_words_release(&x->a);
	align_words_release(&x->b);
	kf_free(x);
}
