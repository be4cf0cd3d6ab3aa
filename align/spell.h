/* Inside align/: the strings by which dynamic time warping compares tokens, and their edit distance. */
#ifndef KF_ALIGN_SPELL_H
#define KF_ALIGN_SPELL_H


#include "common/base/mem.h"
#include "common/base/status.h"
#include "common/text/tokenizer.h"

#define ALIGN_MARK 0x2581    /* SentencePiece's space marker, in a decoded string that is nothing else */
#define ALIGN_WORD_MAX 4096  /* code points of a token's string */
#define ALIGN_BYTE 0x110000u /* a byte that is no UTF-8 counts as a code point of its own: this plus the byte */
#define ALIGN_CODES (ALIGN_BYTE + 256)

typedef enum {
	ALIGN_SPELL_VOCAB,   /* as the vocabulary file spells a token, without the space markers: FuseLLM's */
	ALIGN_SPELL_TEXT,    /* its bytes, without spaces unless it is nothing else: dtw-chat's */
	/* What transformers' decode() of the one id gives: FuseChat's code. Bytes that are no UTF-8 become U+FFFD; of a
	 * tokenizer with a dummy prefix leading spaces are gone, or markers left. */
	ALIGN_SPELL_DECODED
} align_spelling;

/* The strings of a whole vocabulary, in code points. Control tokens are their names. String w is text[off[w]]
 * .. text[off[w + 1] - 1]. */
typedef struct {
	int32_t n;
	uint32_t *off;   /* (n + 1) */
	uint32_t *text;
} align_words;

kf_status align_words_new(const kf_tokenizer *t, align_spelling how, align_words *out,
	kf_err *err) KF_MUST_CHECK;
/* As the vocabulary file spells them, with the space markers written as `marker`. */
kf_status align_words_marked(const kf_tokenizer *t, const char *marker, align_words *out,
	kf_err *err) KF_MUST_CHECK;
void align_words_release(align_words *w);

static inline const uint32_t *align_word(const align_words *w, int32_t id, uint32_t *n)
{
	*n = w->off[id + 1] - w->off[id];
	return w->text + w->off[id];
}

/* Edit distance in code points (insert, delete, replace: 1 each), by the plain recurrence; na, nb up to
 * ALIGN_WORD_MAX. */
uint32_t align_edit(const uint32_t *a, uint32_t na, const uint32_t *b, uint32_t nb);

/* Whether a stands somewhere in b, or at its end. */
bool align_contains(const uint32_t *b, uint32_t nb, const uint32_t *a, uint32_t na);
bool align_ends(const uint32_t *b, uint32_t nb, const uint32_t *a, uint32_t na);

/* The strings of two vocabularies, and what pairing two tokens of them costs. */
typedef struct {
	align_words a, b;
	bool discount;       /* FuseChat's: a tenth where one string contains the other; in tenths of an edit then */
} align_lexicon;

/* KF_EUNSUPPORTED: a string longer than ALIGN_WORD_MAX. */
kf_status align_lexicon_new(const kf_tokenizer *a, const kf_tokenizer *b, align_spelling how, bool discount,
	align_lexicon **out, kf_err *err) KF_MUST_CHECK;
void align_lexicon_free(align_lexicon *x);   /* accepts NULL */

/* The cost of two strings d edits apart; a longest one fits 16 bits. */
static inline uint32_t align_discounted(uint32_t d, const uint32_t *a, uint32_t na, const uint32_t *b,
	uint32_t nb)
{
	/* where one contains the other, the edits are what it has more */
	if (d != (na > nb ? na - nb : nb - na)) return 10 * d;
	return (na < nb ? align_contains(b, nb, a, na) : align_contains(a, na, b, nb)) ? d : 10 * d;
}

#endif
