/* What the files of common/text share; nobody else includes it. */
#ifndef KF_TEXT_INTERNAL_H
#define KF_TEXT_INTERNAL_H

#include <stdatomic.h>

#include "common/text/tokenizer.h"
#include "common/text/utf8.h"

/* ---- limits on what comes from outside ---------------------------------------- */

#define KF_VOCAB_MAX (1 << 22)          /* tokens */
#define KF_PIECE_MAX (1 << 16)          /* bytes of one piece */
#define KF_TEXT_MAX ((size_t)1 << 30)   /* bytes of one text to encode */
#define KF_STEPS_MAX 16                 /* pre-tokenizer steps */

/* ---- UTF-8 (utf8.c) ---------------------------------------------------------- */

/* Length of the well-formed character at p (Unicode's definition: shortest form,
 * no surrogates, at most U+10FFFF), 0 when there is none. n > 0. */
static inline unsigned kf_utf8_len(const uint8_t *p, size_t n)
{
	uint8_t c = p[0];
	if (c < 0x80)
		return 1;
	if (c < 0xc2)
		return 0;
	if (c < 0xe0)
		return n >= 2 && (p[1] & 0xc0) == 0x80 ? 2 : 0;
	if (c < 0xf0) {
		uint8_t lo = c == 0xe0 ? 0xa0 : 0x80, hi = c == 0xed ? 0x9f : 0xbf;
		return n >= 3 && p[1] >= lo && p[1] <= hi && (p[2] & 0xc0) == 0x80 ? 3 : 0;
	}
	if (c < 0xf5) {
		uint8_t lo = c == 0xf0 ? 0x90 : 0x80, hi = c == 0xf4 ? 0x8f : 0xbf;
		return n >= 4 && p[1] >= lo && p[1] <= hi && (p[2] & 0xc0) == 0x80 && (p[3] & 0xc0) == 0x80 ? 4 : 0;
	}
	return 0;
}
/* The code point of a well-formed character of that length. */
static inline uint32_t kf_utf8_code(const uint8_t *p, unsigned len)
{
	switch (len) {
	case 1: return p[0];
	case 2: return (uint32_t)(p[0] & 0x1f) << 6 | (p[1] & 0x3f);
	case 3: return (uint32_t)(p[0] & 0x0f) << 12 | (uint32_t)(p[1] & 0x3f) << 6 | (p[2] & 0x3f);
	default: return (uint32_t)(p[0] & 0x07) << 18 | (uint32_t)(p[1] & 0x3f) << 12
		| (uint32_t)(p[2] & 0x3f) << 6 | (p[3] & 0x3f);
	}
}
unsigned kf_utf8_put(uint8_t out[4], uint32_t code);
/* GPT-2's printable stand-ins for bytes: the code point of a byte, and back (-1: none). */
uint32_t kf_byte_char(uint8_t b);
int kf_char_byte(uint32_t code);

/* ---- a cache of encoded words (cache.c) ------------------------------------------ */

#define KF_WORD_MAX 48   /* bytes of a cached word */

/* An encoded word: ids, and the bytes each covers. */
typedef struct {
	uint64_t hash;
	uint16_t len, n;     /* bytes of the word; tokens */
	/* int32_t ids[n]; uint8_t lens[n]; uint8_t bytes[len]; */
} kf_word;
static inline const int32_t *kf_word_ids(const kf_word *w) { return (const int32_t *)(const void *)(w + 1); }
static inline const uint8_t *kf_word_lens(const kf_word *w) { return (const uint8_t *)(kf_word_ids(w) + w->n); }

typedef struct kf_wcache kf_wcache;
kf_wcache *kf_wcache_new(unsigned bits);
void kf_wcache_free(kf_wcache *c);
const kf_word *kf_wcache_get(const kf_wcache *c, uint64_t hash, const uint8_t *p, size_t n);
/* Remember; does nothing when the cache is full or there is no memory. */
void kf_wcache_put(kf_wcache *c, uint64_t hash, const uint8_t *p, size_t n,
	const int32_t *ids, const uint32_t *lens, size_t n_ids);

/* ---- where tokens go ----------------------------------------------------------------- */

/* Tokens as they are found: ids and where in the (normalised) text each begins. Grows in an
 * arena. failed is set on no memory. */
typedef struct {
	kf_arena *arena;
	int32_t *ids;
	uint32_t *start;
	uint32_t n, cap;
	bool failed;
	bool later;              /* what is encoded does not begin the text */
} kf_sink;
bool kf_sink_grow(kf_sink *s, size_t more);
static inline void kf_sink_put(kf_sink *s, int32_t id, uint32_t start)
{
	if (s->n == s->cap && !kf_sink_grow(s, 1))
		return;
	s->ids[s->n] = id;
	s->start[s->n++] = start;
}

/* ---- sets of literal strings to find in text: added tokens, user-defined pieces (added.c) --- */

/* RAW, of SentencePiece's user-defined tokens: cut out of the text before the model sees it. The others are the model's own pieces, or those that
 * a tokenizer.json looks for in normalized text. */
enum { KF_AT_LSTRIP = 1, KF_AT_RSTRIP = 2, KF_AT_SINGLE_WORD = 4, KF_AT_RAW = 8 };

typedef struct { const uint8_t *p; uint32_t n; int32_t id; uint8_t flags; } kf_literal;
typedef struct {
	kf_literal *item;       /* (n) in byte order */
	uint32_t n;
	uint32_t max;           /* longest */
	uint8_t pairs[8192];    /* bit (first byte << 8 | second): some item begins so */
	uint8_t ones[32];       /* bit (byte): this byte alone is an item */
	uint32_t first[257];    /* items from first[b] begin with byte b */
} kf_literals;
/* Strings are borrowed and must outlive the set; items are reordered. Duplicates: the first id. */
kf_status kf_literals_make(kf_literals *l, const kf_literal *items, uint32_t n, kf_err *err);
void kf_literals_release(kf_literals *l);
/* The longest item that p (n bytes) begins with, or NULL. */
const kf_literal *kf_literals_match(const kf_literals *l, const uint8_t *p, size_t n);

/* Added tokens in a text, as Hugging Face's tokenizers cut them out: with the white space that their flags ask for,
 * and those of single words only where no letter, digit or the like touches them. */
typedef struct {
	const kf_literals *set;
	const uint8_t *text;
	size_t n, at, from;     /* the search goes on at at; text before from is done with */
	bool marks;             /* a space in this text stands for ▁, which is no white space */
} kf_added;
/* The next, NULL past the last. [*begin, *end) is the text that comes before it, maybe empty, and the token begins at *end;
 * then the text from a->from on is left. */
const kf_literal *kf_added_next(kf_added *a, size_t *begin, size_t *end);
/* The one that p (*n bytes) begins with; else NULL, and *n becomes where one begins. For the prefix map: single words are passed over. */
const kf_literal *kf_added_first(const kf_literals *set, const uint8_t *p, size_t *n);

/* Characters of words (\w) and white space (\s), as Unicode has them. */
bool kf_is_word(uint32_t code);
bool kf_is_white(uint32_t code);

/* ---- normalisation (norm.c) --------------------------------------------------------- */

/* NFC of p (n bytes, well-formed or not: other bytes stay) into arena memory. *out is
 * p itself when nothing changes, and then *map is NULL; else map (n_out + 1) has
 * for each byte of out, and the end, the byte of p it came from. */
kf_status kf_nfc(const uint8_t *p, size_t n, kf_arena *arena, const uint8_t **out, size_t *n_out,
	uint32_t **map, kf_err *err);

/* ---- regular expressions (regex.c) ------------------------------------------------------ */

/* An Oniguruma pattern as PCRE2 wants it, appended to out. */
kf_status kf_regex_translate(const char *re, kf_buf *out, kf_err *err);
/* Range i of what Unicode 15 to 16 added to a general category; false past the last. */
bool kf_regex_newer(const char *category, size_t i, uint32_t *lo, uint32_t *hi);

/* ---- pre-tokenizers (pretok.c) -------------------------------------------------------- */

typedef enum { KF_SPLIT_ISOLATED, KF_SPLIT_REMOVED, KF_SPLIT_PREVIOUS, KF_SPLIT_NEXT, KF_SPLIT_CONTIGUOUS } kf_split;

/* Patterns with a matcher of their own (pretok_fast.c). */
typedef enum { KF_FAST_NONE, KF_FAST_GPT2, KF_FAST_QWEN2, KF_FAST_LLAMA3, KF_FAST_DIGIT } kf_fast;
typedef struct kf_classes kf_classes;
kf_classes *kf_classes_new(void); /* free with kf_free */
/* The next match in p (n > 0 bytes): its length, 0 for none; *skip bytes come before it. */
size_t kf_pretok_fast(const kf_classes *c, kf_fast how, const uint8_t *p, size_t n, size_t *skip);

typedef struct {
	char *pattern;          /* as the tokenizer's file has it: a regular expression */
	kf_split how;
	bool invert;
	bool chars;             /* it comes after a ByteLevel and cuts the characters that bytes stand for (kf_byte_char) */
	kf_fast fast;
	void *code;             /* pcre2_code *; NULL where there is a matcher for it */
} kf_pretok_step;

typedef struct {
	kf_pretok_step step[KF_STEPS_MAX];
	int n;
	kf_classes *classes;    /* once a step is fast */
	bool chars;             /* steps that are added now come after a ByteLevel */
	bool prefix_space;      /* a space goes before a stretch of text that does not begin with one */
	bool nfc;               /* (of the named ones) the tokenizer normalises first */
	bool ignore_merges;     /* (of the named ones) a word that is a token is that token */
	const char *hf_class;   /* (of the named ones) transformers' tokenizer_class */
} kf_pretok;

kf_status kf_pretok_named(kf_pretok *p, const char *name, kf_err *err);
kf_status kf_pretok_add(kf_pretok *p, const char *pattern, kf_split how, bool invert, kf_err *err);
/* The same, never by a matcher of ours (tests). */
kf_status kf_pretok_add_regex(kf_pretok *p, const char *pattern, kf_split how, bool invert, kf_err *err);
/* tokenizer.json's pre_tokenizer (may be null). */
kf_status kf_pretok_json(kf_pretok *p, const json_t *j, kf_err *err);
json_t *kf_pretok_to_json(const kf_pretok *p);
void kf_pretok_release(kf_pretok *p);

/* Cut p (n bytes, well-formed) into words and hand each to fn; false from fn stops. One kf_pretok_run a thread. */
typedef struct { void *match[KF_STEPS_MAX]; kf_buf chars; } kf_pretok_run;
kf_status kf_pretok_begin(const kf_pretok *p, kf_pretok_run *run, kf_err *err);
void kf_pretok_end(kf_pretok_run *run);
typedef bool (*kf_word_fn)(void *arg, const uint8_t *p, size_t n);
kf_status kf_pretok_words(const kf_pretok *p, kf_pretok_run *run, const uint8_t *text, size_t n,
	kf_word_fn fn, void *arg, kf_err *err);

/* ---- merges (merges.c) ------------------------------------------------------------------------- */

typedef struct {
	int32_t n;
	int32_t *left, *right, *made; /* (n) ids in rank order, and what each pair becomes */
	uint32_t *slot;               /* open addressing on (left, right): rank + 1, 0 empty */
	uint64_t mask;
	uint64_t seed;                /* of the hash, another in every process: nobody can write merges that all fall into one place */
} kf_merges;
static inline uint64_t kf_merge_hash(const kf_merges *m, int32_t l, int32_t r)
{
	unsigned __int128 x = (unsigned __int128)(((uint64_t)(uint32_t)l << 32 | (uint32_t)r) ^ m->seed) * 0x9e3779b97f4a7c15u;
	return (uint64_t)x ^ (uint64_t)(x >> 64);
}
/* The rank of a pair, -1 when it does not merge. */
static inline int32_t kf_merges_rank(const kf_merges *m, int32_t l, int32_t r)
{
	for (uint64_t h = kf_merge_hash(m, l, r);; h++) {
		uint32_t s = m->slot[h & m->mask];
		if (!s)
			return -1;
		if (m->left[s - 1] == l && m->right[s - 1] == r)
			return (int32_t)s - 1;
	}
}
void kf_merges_release(kf_merges *m);

/* ---- the two kinds ------------------------------------------------------------------------ */

typedef struct {
	kf_pretok pretok;
	bool nfc, ignore_merges, fuse_unk;
	int32_t unk;             /* of the model: for bytes without a token; -1 drops them, as HF does */
	int32_t byte_id[256];
	kf_literals user, all;   /* added tokens: user-defined only; with the control tokens */
} kf_bpe;

typedef struct {
	bool bpe;                /* else unigram: the library encodes */
	bool own;                /* encoded here (BPE without a character map), else by the library */
	bool ranked;             /* tokenizer.json's: by the tokenizer's merges, not by scores (which are 0) */
	bool dummy_prefix, remove_extra_spaces, byte_fallback;
	bool prefix_unless_space, prefix_first; /* none before a space; none but at the beginning of a text (tokenizer.json's Metaspace) */
	float *score;            /* (n) */
	uint32_t *slot;          /* open addressing on the piece with ▁ as a space: id + 1, 0 empty */
	uint64_t mask;
	uint32_t max_piece;      /* bytes of the longest piece, ▁ as a space */
	int32_t byte_id[256];    /* -1: none */
	uint64_t *pair;          /* bit set over hashed character pairs that some piece contains */
	uint64_t pair_mask;
	uint8_t ascii_pair[128 * 16]; /* the same, exact, for two ASCII characters: bit (a << 7 | b) */
	bool any_unused;
	kf_literals user;        /* user-defined pieces of the model, as they are looked for in text with ▁ as spaces */
	uint8_t *marked;         /* those with a space in front, of a tokenizer.json that prepends ▁ to all text, its added tokens too; else NULL */
	kf_literals added, all;  /* cut out before: user-defined only; with the control tokens */
	uint8_t *charsmap;       /* the normaliser's character map, as the library has it */
	size_t n_charsmap;
	void *lib, *lib_plain;   /* the library's processors, where needed; plain: without normaliser and dummy prefix */
} kf_sp;

struct kf_tokenizer {
	kf_tok_kind kind;
	int32_t n;
	uint8_t *type;           /* (n) KF_TT_* */
	uint8_t *flags;          /* (n) KF_AT_* of added tokens */
	char *piece_pool;
	uint32_t *piece_off;     /* (n + 1) */
	uint8_t *byte_pool;      /* in sorted order, so that searches stay near */
	uint32_t *byte_off, *byte_len; /* (n) */
	int32_t *sorted;         /* (n) */
	int32_t n_bytes;
	uint64_t *head;          /* (n_bytes) the first eight bytes of each of sorted, the first highest, zeros after the end */
	int32_t *range2;         /* (65537) first of sorted not before these two bytes */
	int32_t bos, eos, pad, unk;    /* as named; -1 none */
	/* Bit i of the i-th of these four: the files of the model's tokenizer do not name it, its other files have it by number; they say that there is none. */
	uint8_t unnamed, none;
	bool add_bos, add_eos;
	char *hf_class;          /* transformers' tokenizer_class, or NULL */
	char *chat_template;     /* or NULL */
	json_t *chat_templates;  /* where there are several, of which that is "default": a list as in tokenizer_config.json; or NULL */
	bool other_template;     /* it took the place of what the model came with */
	json_t *settings;        /* (kf_tokenizer_settings) of the folder it was read from, or NULL */
	kf_fp fp;
	kf_wcache *words, *firsts;
	kf_merges merges;        /* of byte-level BPE, and of SentencePiece where it is ranked */
	kf_bpe bpe;
	kf_sp sp;
};

/* tok_write.c: what of a folder's tokenizer_config.json (may be NULL) stands in a folder that is written, too. NULL: no memory. */
json_t *kf_tokenizer_settings(const json_t *config);

/* tok_templates.c: the chat templates of a folder, whose tokenizer_config.json this is (may be NULL). */
kf_status kf_tokenizer_read_templates(kf_tokenizer *t, const char *dir, const json_t *config, kf_err *err);

/* vocab.c */
kf_status kf_vocab_pieces(kf_tokenizer *t, int32_t n, const char *const *pieces, const int32_t *types, kf_err *err);
int kf_byte_piece(const char *s);                        /* "<0x0A>": the byte, else -1 */
kf_status kf_vocab_index(kf_tokenizer *t, kf_err *err);  /* bytes, sorted order, ranges; after the kind is known */
int32_t kf_vocab_find(const kf_tokenizer *t, const uint8_t *p, size_t n); /* the first token with these bytes */

/* merges.c, once the vocabulary is indexed: t's from ids (n) in rank order, or from "left right" as files spell them. Of
 * SentencePiece, merges that have to do with control tokens and bytes are left out: no text comes to them. */
kf_status kf_merges_make(kf_tokenizer *t, const int32_t *left, const int32_t *right, int32_t n, kf_err *err);
kf_status kf_merges_read(kf_tokenizer *t, const char *const *merges, int32_t n, kf_err *err);

/* bpe.c */
kf_status kf_bpe_init(kf_tokenizer *t, kf_err *err);     /* after merges and all else are in place */
void kf_bpe_release(kf_bpe *b);
kf_status kf_bpe_encode(const kf_tokenizer *t, const uint8_t *text, size_t n, bool specials, kf_sink *sink, kf_err *err);
int32_t kf_bpe_first(const kf_tokenizer *t, const uint8_t *p, size_t n);
kf_status kf_bpe_from_spec(kf_tokenizer *t, const kf_vocab_spec *spec, const uint8_t *flags, kf_err *err);

/* spbpe.c, spm_model.c */
kf_status kf_sp_finish(kf_tokenizer *t, kf_err *err);    /* after pieces, types, scores and settings are in place: check, index, load */
kf_status kf_sp_init(kf_tokenizer *t, kf_err *err);
void kf_sp_release(kf_sp *s);
kf_status kf_sp_encode(const kf_tokenizer *t, const uint8_t *text, size_t n, bool specials, kf_sink *sink, kf_err *err);
int32_t kf_sp_first(const kf_tokenizer *t, const uint8_t *p, size_t n);
kf_status kf_sp_from_spec(kf_tokenizer *t, const kf_vocab_spec *spec, kf_err *err);
/* flags: of added tokens (KF_AT_*), or NULL */
kf_status kf_sp_build(kf_tokenizer *t, int32_t n, const char *const *piece, const int32_t *type, const uint8_t *flags,
	const float *score, kf_err *err);
/* A model file's pieces into arena memory, its settings into t; kf_sp_build makes the rest. */
typedef struct { int32_t n; const char **piece; int32_t *type; float *score; } kf_sp_pieces;
kf_status kf_sp_read_proto(kf_tokenizer *t, const uint8_t *proto, size_t size, kf_arena *arena, kf_sp_pieces *out,
	kf_err *err);

/* splib.c: through the library. shift is added to the starts. */
kf_status kf_splib_load(kf_tokenizer *t, kf_err *err);
kf_status kf_splib_encode(const kf_tokenizer *t, const uint8_t *text, size_t n, size_t shift, kf_sink *sink, kf_err *err);
int32_t kf_splib_first(const kf_tokenizer *t, const uint8_t *p, size_t n);

/* spm_model.c: the model as the library wants it, from the tokenizer's fields. */
kf_status kf_spm_serialise(const kf_tokenizer *t, bool plain, kf_buf *out, kf_err *err);

/* spm.cc: the SentencePiece library behind C. */
void *kf_spm_load(const uint8_t *proto, size_t n, char *why, size_t n_why);  /* NULL: see why */
void kf_spm_free(void *lib);
typedef void (*kf_spm_fn)(void *arg, int32_t id, uint32_t begin, uint32_t end);
bool kf_spm_encode(void *lib, const uint8_t *text, size_t n, kf_spm_fn fn, void *arg, char *why, size_t n_why);

/* tokenizer.c */
kf_tokenizer *kf_tokenizer_blank(kf_tok_kind kind);
/* What decides an encoding, as bytes: what the fingerprint is of. */
kf_status kf_tokenizer_canon(const kf_tokenizer *t, kf_buf *out, kf_err *err);
kf_status kf_tokenizer_finish(kf_tokenizer *t, kf_err *err); /* fingerprint, caches */
/* kf_tokenizer_encode, control tokens as text, of a stretch that does not begin a text. */
kf_status kf_tokenizer_encode_later(const kf_tokenizer *t, const uint8_t *text, size_t n, kf_arena *arena, kf_encoding *out,
	kf_err *err);

#endif
