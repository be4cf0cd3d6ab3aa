/* What a page is made from, read and checked once. */
#ifndef KF_REPORT_INPUT_H
#define KF_REPORT_INPUT_H

#include <jansson.h>

#include "common/store/set.h"
#include "report/report.h"

#define NAMES 64                         /* sources told apart; colours repeat after SLOTS of them */
#define SLOTS 7

/* A line of kf-train's log; NAN where it says nothing. */
typedef struct {
	double step, epoch, tokens, loss, clm, fusion, lambda, lr, rate;  /* rate: tokens a second */
} log_step;

typedef struct {
	double epoch, step, bits;            /* bits per byte of the validation text */
	bool best;
} log_epoch;

typedef struct {
	char *name;
	const char *dir;
	json_t *record;                      /* kfuse.json, or NULL */
	log_step *steps;
	size_t n_steps, cap_steps;
	log_epoch *epochs;
	size_t n_epochs, cap_epochs;
	bool elsewhere;                      /* its folder has not the log of the whole training: none is read then */
} trained;

typedef struct {
	kf_set *set;
	kf_set_kind kind;
	const json_t *manifest;              /* borrowed from set */
	double seconds, timed_tokens;        /* what times.log beside the manifest adds up to; 0: nothing is known */
} set_input;

typedef struct {
	const kf_report_opts *o;
	json_t *run[KF_REPORT_EVALS];        /* (n_runs) the evaluations */
	int n_runs;
	const json_t *eval;                  /* the first of them, or NULL */
	set_input set[KF_REPORT_SETS];
	int n_sets;
	trained model[KF_REPORT_MODELS];
	int n_models;
	json_t *traces;                      /* an array of documents */
	const char *domain[NAMES];           /* in the order of the evaluation, then of the sets */
	int n_domains;
	/* Who takes part, by the names that sets use. */
	const char *source[NAMES], *target;  /* target: NULL where no set names one */
	int n_sources;
	/* Of the first evaluation: which model is the result (NULL: none), and how many it was chosen from. */
	const char *result;
	int candidates;
} input;

kf_status input_read(const kf_report_opts *o, input *in, kf_err *err) KF_MUST_CHECK; /* release in any case */
void input_release(input *in);

/* The colour and pattern of a model by its name in sets or in the evaluation: 0 .. SLOTS-1 a source's, -1 the target's own,
 * -2 neither. */
int input_slot(const input *in, const char *name);
/* The name that sets know a model of the evaluation by, where it is a source or the target: its own, the last part of its path,
 * or that of the logits that were evaluated. */
const char *input_set_name(const input *in, const char *name);

/* Numbers of JSON: NAN where there is none. input_at walks objects by names, ended by NULL. */
double input_number(const json_t *v);
double input_real(const json_t *o, const char *key);         /* of an object's member */
const json_t *input_at(const json_t *v, ...) __attribute__((sentinel));
const char *input_string(const json_t *o, const char *key);  /* "" where there is none */

#endif
