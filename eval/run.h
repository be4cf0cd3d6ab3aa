/* Models that kf-eval runs itself. */
#ifndef KF_EVAL_RUN_H
#define KF_EVAL_RUN_H

#include "eval/source.h"

/* As kf_eval_covers and kf_eval_score, of a model that is run over the corpus. */
kf_status kf_eval_run_covers(const kf_eval_opts *o, int m,
	kf_status (*fn)(void *arg, const kf_dochead *head, const kf_eval_cover *cover, kf_err *err),
	void *arg, kf_err *err) KF_MUST_CHECK;
kf_status kf_eval_run_score(const kf_eval_opts *o, int m,
	kf_status (*fn)(void *arg, const kf_logits_rec *rec, kf_err *err), void *arg, kf_err *err) KF_MUST_CHECK;

/* What its scores of the corpus depend on (scores.h), but for where the comparison begins; a new reference, NULL on failure. */
kf_status kf_eval_run_of(const kf_eval_opts *o, int m, json_t **of, kf_err *err) KF_MUST_CHECK;

#endif
