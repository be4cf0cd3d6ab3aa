/* How likely the ends of sequences are. */
#ifndef KF_EVAL_LIKELIHOOD_H
#define KF_EVAL_LIKELIHOOD_H

#include "common/model/model.h"

/* Tokens [from, n) are asked about, each given all before it; 0 < from < n. */
typedef struct {
	const int32_t *token;
	int n, from;
	int group;                 /* those of one group follow one another, and mostly begin alike: the choices of an item */
	double nats;               /* answer: -ln P of the end */
	bool first_choice;         /* answer: whether each of its tokens was the model's likeliest */
} kf_ending;

/* What the members of a group have in common is run once. done (may be NULL) is told how many tokens were run. */
kf_status kf_endings_score(kf_model *m, int batch_tokens, kf_ending *e, size_t n, void (*done)(void *arg, size_t tokens), void *arg,
	kf_err *err) KF_MUST_CHECK;

#endif
