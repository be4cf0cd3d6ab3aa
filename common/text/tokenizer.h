/* Tokenizers: SentencePiece (through its library) and byte-level BPE.
 *
 * A tokenizer is immutable once made and may be used by many threads at once.
 * Ids are int32_t, -1 means none. Every token's bytes are known: what the token
 * stands for in text, with no marker left ("▁the" is " the", "<0x0A>" is "\n").
 * Control tokens (BOS, EOS, <|im_start|>, ...) have no bytes.
 */
#ifndef KF_TEXT_TOKENIZER_H
#define KF_TEXT_TOKENIZER_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/hash.h"
#include "common/base/mem.h"
#include "common/base/status.h"

typedef struct kf_tokenizer kf_tokenizer;
typedef enum { KF_TOK_BPE, KF_TOK_SENTENCEPIECE } kf_tok_kind;

/* Token types, numbered as GGUF does. */
enum { KF_TT_NORMAL = 1, KF_TT_UNKNOWN, KF_TT_CONTROL, KF_TT_USER, KF_TT_UNUSED, KF_TT_BYTE };

/* A vocabulary as a GGUF file holds it, or as anybody else has it in memory. */
typedef struct {
	const char *model;         /* "gpt2" (byte-level BPE) or "llama" (SentencePiece) */
	const char *pre;           /* "smollm", "qwen2", "llama-bpe", ...: names the pre-tokenizer; BPE only */
	int32_t n;
	const char *const *pieces; /* (n) NUL-terminated, as GGUF writes them */
	const float *scores;       /* (n) or NULL */
	const int32_t *types;      /* (n) KF_TT_*, or NULL */
	int32_t n_merges;
	const char *const *merges; /* (n_merges) "left right"; BPE only */
	int32_t bos, eos, unk, pad;/* -1: none */
	bool add_bos, add_eos, add_space_prefix, remove_extra_whitespaces;
	const char *chat_template; /* Jinja, or NULL */
} kf_vocab_spec;

kf_status kf_tokenizer_from_spec(const kf_vocab_spec *spec, kf_tokenizer **out, kf_err *err) KF_MUST_CHECK;
/* From a Hugging Face folder: tokenizer.model or tokenizer.json, with tokenizer_config.json,
 * special_tokens_map.json, added_tokens.json, generation/config.json (eos), chat_template.jinja, additional_chat_templates as there are; docs/extract.md
 * says what counts. */
kf_status kf_tokenizer_open_dir(const char *dir, kf_tokenizer **out, kf_err *err) KF_MUST_CHECK;
/* From the bytes that kf_tokenizer_save wrote (hostile bytes are refused). */
kf_status kf_tokenizer_load(const void *data, size_t n, kf_tokenizer **out, kf_err *err) KF_MUST_CHECK;
void kf_tokenizer_free(kf_tokenizer *t);                        /* accepts NULL */

kf_status kf_tokenizer_save(const kf_tokenizer *t, kf_buf *out, kf_err *err) KF_MUST_CHECK;
/* Write tokenizer.json or tokenizer.model, tokenizer_config.json and special_tokens_map.json
 * into dir, so that transformers loads a tokenizer that encodes the same. Exceptions, of which
 * transformers' fast classes are the cause: SentencePiece unigram models, and those with a character map, need
 * use_fast=False; beside a dummy prefix, text after a user-defined piece gets a space there. */
kf_status kf_tokenizer_write_hf(const kf_tokenizer *t, const char *dir, kf_err *err) KF_MUST_CHECK;

kf_tok_kind kf_tokenizer_kind(const kf_tokenizer *t);
kf_fp kf_tokenizer_fp(const kf_tokenizer *t);                   /* of what it does and calls BOS, EOS, unknown and padding */
/* Of how it encodes text alone: equal for a base model and a chat model that end with another EOS. */
kf_status kf_tokenizer_text_fp(const kf_tokenizer *t, kf_fp *out, kf_err *err) KF_MUST_CHECK;
int32_t kf_tokenizer_size(const kf_tokenizer *t);               /* V: ids are 0 .. V-1 */
int32_t kf_tokenizer_bos(const kf_tokenizer *t);                /* the token it ADDS, -1 when it adds none */
int32_t kf_tokenizer_eos(const kf_tokenizer *t);                /* -1 when it has none */
/* The bytes of a token; *n = 0 for a control token or an id without bytes. Borrowed. */
const uint8_t *kf_tokenizer_bytes(const kf_tokenizer *t, int32_t id, uint32_t *n);
bool kf_tokenizer_is_control(const kf_tokenizer *t, int32_t id);
/* The control tokens whose names say, as llama.cpp takes them, that a text ends there, in id order: for models whose file names one end
 * only. Returns how many. */
enum { KF_NAMED_ENDS = 9 };
int kf_tokenizer_named_ends(const kf_tokenizer *t, int32_t out[KF_NAMED_ENDS]);
/* As the vocabulary file spells it ("▁the", "Ġthe"); borrowed, NUL-terminated. For dtw, exact and people. */
const char *kf_tokenizer_piece(const kf_tokenizer *t, int32_t id);
/* The model's own chat template (Jinja), of several by name the default one, or NULL: as it was found, no part of the fingerprint and of what
 * is saved. */
const char *kf_tokenizer_chat_template(const kf_tokenizer *t);
/* Another in its place, and in that of all of several, copied; before others use the tokenizer. */
kf_status kf_tokenizer_set_chat_template(kf_tokenizer *t, const char *text, kf_err *err) KF_MUST_CHECK;
/* Another tokenizer's own, of several all, in their place; whether two have the same. */
kf_status kf_tokenizer_take_chat_templates(kf_tokenizer *t, const kf_tokenizer *from, kf_err *err) KF_MUST_CHECK;
bool kf_tokenizer_same_chat_templates(const kf_tokenizer *a, const kf_tokenizer *b);
/* Whether encoding puts a space in front of a text ("dummy prefix"); of some tokenizers, unless it begins with one. */
bool kf_tokenizer_dummy_prefix(const kf_tokenizer *t);

typedef struct {
	uint32_t n;
	int32_t *ids;      /* (n) without BOS and EOS */
	uint32_t *start;   /* (n + 1) byte of the text where each token starts, and the end.
	                    * With a dummy prefix, token 0 begins at byte -1, given as 0 */
	/* Conversations (chat.h) only. */
	const uint8_t *context; /* (n + 1) as in store/record.h; NULL: text */
	const uint32_t *skip;   /* (n) bytes of the template that a token begins with, before those of the message */
	bool no_bos;            /* the stream does not begin with the BOS that the tokenizer would add */
} kf_encoding;

/* Encode text (n bytes, any bytes at all) into arena memory. Control tokens'
 * spellings in the text are ordinary text unless specials is true, in which case they become the
 * control token as Hugging Face does by default. Invalid UTF-8: byte-level BPE
 * encodes the bytes as they are; SentencePiece uses byte pieces for them where the vocabulary has
 * those, else its unknown token, whose start still covers the bytes. start is
 * always non-decreasing, start[0] = 0 and start[n] = the text's length. A tokenizer that
 * normalises (NFC) maps starts back to the text given. */
kf_status kf_tokenizer_encode(const kf_tokenizer *t, const uint8_t *text, size_t n, bool specials,
	kf_arena *arena, kf_encoding *out, kf_err *err) KF_MUST_CHECK;

/* The prefix map: the first token of the encoding of these bytes on their own: no dummy prefix,
 * no normaliser, no BOS; incomplete UTF-8 by raw merges or byte pieces. -1 when
 * the vocabulary cannot spell them. n > 0. Thread-safe; about a microsecond. */
int32_t kf_tokenizer_first(const kf_tokenizer *t, const uint8_t *bytes, size_t n);

/* Vocabulary ids in the order of their bytes (memcmp, shorter first, ties by id), tokens without
 * bytes last in id order; made on first use, borrowed. *n_bytes gets how many have bytes. */
const int32_t *kf_tokenizer_sorted(const kf_tokenizer *t, int32_t *n_bytes);
/* The range [*lo, *hi) of kf_tokenizer_sorted whose bytes begin with these (n > 0). */
void kf_tokenizer_range(const kf_tokenizer *t, const uint8_t *bytes, size_t n, int32_t *lo, int32_t *hi);

#endif
