/* Scores that are kept in a folder, so that the next evaluation runs only what it does not know: a file for each model and text, and for each model
 * and task.
 *
 * A file is JSON, {"of": …, "scores": …}. "of" is all that the scores depend on (but for rounding): fingerprints of weights, tokenizer, text and task, and how they
 * were computed and asked; the file's name is its fingerprint. What cannot be read, is of something else or does not fit is as if it were not there,
 * and is written anew. Files may be deleted at any time. Those of more than 16 MB, a text of some 200,000 documents, are not read again.
 */
#ifndef KF_EVAL_SCORES_H
#define KF_EVAL_SCORES_H

#include "common/base/hash.h"
#include "eval/subject.h"

/* What a model's scores depend on, whatever it is asked: s is open. chat: the name of the template that conversations or prompts are rendered with, NULL for
 * plain text. *of is a new reference, to which the caller adds what was asked; NULL on failure. */
kf_status kf_scores_of(const kf_eval_opts *o, const kf_subject *s, const char *chat, json_t **of, kf_err *err) KF_MUST_CHECK;
kf_status kf_scores_add_fp(json_t *of, const char *what, kf_fp fp, kf_err *err) KF_MUST_CHECK;

/* The scores of `of`; a new reference, or NULL: there are none. */
json_t *kf_scores_find(const char *dir, const json_t *of);
/* Write them; what has no memory (scores NULL) is refused. */
kf_status kf_scores_keep(const char *dir, const json_t *of, const json_t *scores, kf_err *err) KF_MUST_CHECK;

/* Numbers under a name of an object: false where there is no memory; where there are not just n finite ones. */
bool kf_scores_put(json_t *scores, const char *name, const double *v, size_t n);
bool kf_scores_take(const json_t *scores, const char *name, double *v, size_t n);

#endif
