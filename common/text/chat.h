/* Chat templates: conversations as a model sees them.
 *
 * A template is one of a set of named ones; it is data. Which one a model uses is recognised from the text of the
 * model's own template (Jinja), by what only that family's has; the text is never run. A conversation is rendered to
 * text with the template's control tokens marked, then encoded as a whole: what stands between two control tokens is one
 * text, template and messages together, so that tokens come out as the model would see them. A control token's
 * spelling inside a message stays plain text.
 *
 * Offsets count bytes of the messages alone, one after another (common/base/turn.h). Tokens of the template
 * span no byte; a token on the border spans its part of the message.
 */
#ifndef KF_TEXT_CHAT_H
#define KF_TEXT_CHAT_H

#include "common/base/turn.h"
#include "common/text/tokenizer.h"

/* The name of the template whose text (n bytes, as in tokenizer_config.json or GGUF) this is: what a family's models publish, or
 * kf_chat_adopt wrote. KF_EUNSUPPORTED, with the
 * names there are, when it is none that is known. */
kf_status kf_chat_recognise(const char *text, size_t n, const char **name, kf_err *err) KF_MUST_CHECK;
/* "chatml, gemma, ...": for messages. */
void kf_chat_names(char *out, size_t size);
/* KF_EINVAL, with the names there are, when none is called that. */
kf_status kf_chat_check(const char *name, kf_err *err) KF_MUST_CHECK;

/* A template and a tokenizer together; immutable, the tokenizer is borrowed. KF_EINVAL for an unknown name,
 * KF_EMISMATCH when the tokenizer lacks a token that the template needs. */
typedef struct kf_chat kf_chat;
kf_status kf_chat_open(const char *name, const kf_tokenizer *t, kf_chat **out, kf_err *err) KF_MUST_CHECK;
/* The template of this name, or, NULL, the one of the model whose tokenizer it is. model is for messages. */
kf_status kf_chat_choose(const char *name, const kf_tokenizer *t, const char *model, kf_chat **out, kf_err *err) KF_MUST_CHECK;
void kf_chat_free(kf_chat *c);               /* accepts NULL */
/* Make the named template the tokenizer's own, which kf_tokenizer_write_hf writes: as Jinja text from which transformers renders what
 * kf_chat_render does (and takes the white space at a message's ends away); left as it is where it is that template already. To be called
 * before others use the tokenizer. Errors as of kf_chat_open. */
kf_status kf_chat_adopt(const char *name, kf_tokenizer *t, kf_err *err) KF_MUST_CHECK;
/* The token that ends a reply by the tokenizer's template, where that took the place of the one the model came with (kf_chat_adopt,
 * kf_tokenizer_set_chat_template): one that the model's own files need not call EOS. *id -1: it did not, or is none that is known, or has no
 * such token. */
kf_status kf_chat_other_end(const kf_tokenizer *t, int32_t *id, kf_err *err) KF_MUST_CHECK;
const char *kf_chat_name(const kf_chat *c);

/* Encode a conversation whose messages' texts are text[0 ..], one after another. out->ids are all tokens of the rendering
 * but a BOS that the tokenizer adds itself; out->context, out->skip and out->no_bos tell the rest.
 * KF_EDATA: the template has no place for such an order of roles. */
kf_status kf_chat_encode(const kf_chat *c, const kf_turn *turns, uint32_t n_turns, const uint8_t *text, kf_arena *arena,
	kf_encoding *out, kf_err *err) KF_MUST_CHECK;

/* The same of a conversation that the assistant is to reply to: the first *n of out->ids are what comes before the reply. Spaces that the template
 * has there are not among them: the one before a reply belongs to its first token. *end is the token that ends replies, else -1. */
kf_status kf_chat_prompt(const kf_chat *c, const kf_turn *turns, uint32_t n_turns, const uint8_t *text, kf_arena *arena, kf_encoding *out,
	int *n, int32_t *end, kf_err *err) KF_MUST_CHECK;

/* The rendering as text, control tokens spelled out (tests, people), appended to out. */
kf_status kf_chat_render(const kf_chat *c, const kf_turn *turns, uint32_t n_turns, const uint8_t *text, kf_buf *out,
	kf_err *err) KF_MUST_CHECK;

#endif
