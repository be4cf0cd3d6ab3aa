/* Where kf-eval's values come from: sets of logits, or models that are run. */
#ifndef KF_EVAL_SOURCE_H
#define KF_EVAL_SOURCE_H

#include "eval/eval.h"

/* That everything is there and of the same corpus; KF_EMISMATCH tells which is not. */
kf_status kf_eval_check_sources(const kf_eval_opts *o, kf_err *err) KF_MUST_CHECK;

/* Every document, in order. */
kf_status kf_eval_documents(const kf_eval_opts *o,
	kf_status (*fn)(void *arg, const kf_dochead *head, kf_err *err), void *arg, kf_err *err) KF_MUST_CHECK;

/* What a model covers of a document: from byte first on; from any byte, or, where cuts is not NULL, from one of
 * cuts (n_cuts, ascending, the last is the document's end). */
typedef struct {
	uint32_t first;
	const uint32_t *cuts;
	size_t n_cuts;
} kf_eval_cover;

/* Of every document, what model m covers. Runs no model. */
kf_status kf_eval_covers(const kf_eval_opts *o, int m,
	kf_status (*fn)(void *arg, const kf_dochead *head, const kf_eval_cover *cover, kf_err *err),
	void *arg, kf_err *err) KF_MUST_CHECK;

/* Of every document, what model m says about it: ce and the byte path at least. */
kf_status kf_eval_score(const kf_eval_opts *o, int m,
	kf_status (*fn)(void *arg, const kf_logits_rec *rec, kf_err *err), void *arg, kf_err *err) KF_MUST_CHECK;

#endif
