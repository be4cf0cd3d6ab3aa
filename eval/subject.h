/* A model under evaluation: opened, and made to run. */
#ifndef KF_EVAL_SUBJECT_H
#define KF_EVAL_SUBJECT_H

#include "common/model/model.h"
#include "common/text/chat.h"
#include "eval/eval.h"

/* Zero-initialise; close in any case. */
typedef struct {
	const char *path;          /* borrowed */
	kf_weights *weights;
	kf_tokenizer *tokenizer;
	kf_chat *chat;             /* NULL: no conversations */
	kf_pool *pool;
	kf_exec *exec;
	kf_model *model;           /* NULL until started */
	int context;               /* tokens a sequence, BOS included */
} kf_subject;

kf_status kf_subject_open(kf_subject *s, const char *path, kf_err *err) KF_MUST_CHECK;
/* The name of a template as kf_chat_choose wants it: "own" and NULL are the model's own. */
const char *kf_subject_template(const char *name);
/* Conversations: by this template. */
kf_status kf_subject_chat(kf_subject *s, const char *name, kf_err *err) KF_MUST_CHECK;
/* On o's backend, with its threads, in its way. resident: unpack all weights once, for many small batches. */
kf_status kf_subject_start(kf_subject *s, const kf_eval_opts *o, bool resident, kf_err *err) KF_MUST_CHECK;
void kf_subject_close(kf_subject *s);

/* ---- what tasks ask, as tokens ---- */

/* A prompt as the model gets it, all tokens of it (n in *n), to be gone on from: BOS, where the tokenizer adds it, first, the
 * end of what does not fit `most` tokens kept, and *cut set. A model without BOS gets its EOS for an empty prompt. chat: as a user's
 * message, up to where the reply begins; *end is the token that ends replies, else -1. */
kf_status kf_subject_prompt(const kf_subject *s, bool chat, const char *prompt, int most, kf_arena *arena, int32_t **out, int *n,
	int32_t *end, bool *cut, kf_err *err) KF_MUST_CHECK;

/* A prompt and what follows it, together; *from is the first token that is the continuation's. As others do it, white
 * space at the prompt's end is the continuation's, and the border is where the tokens of the prompt alone end. *cut: of the
 * prompt only the end fitted the context. */
kf_status kf_subject_pair(const kf_subject *s, bool chat, const char *prompt, const char *delimiter, const char *text,
	kf_arena *arena, int32_t **out, int *n, int *from, bool *cut, kf_err *err) KF_MUST_CHECK;

#endif
