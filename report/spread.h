/* The same figure in several evaluations: its mean over the runs, and how far the runs are apart. */
#ifndef KF_REPORT_SPREAD_H
#define KF_REPORT_SPREAD_H

#include "report/input.h"

typedef struct {
	double value[KF_REPORT_EVALS];       /* (in->n_runs) NAN in a run that has none */
	double low[KF_REPORT_EVALS], high[KF_REPORT_EVALS]; /* a run's own 95 % interval, over its documents or items; NAN: none */
	int n;                               /* runs that have a value */
	double mean, sd;                     /* over these; sd with n - 1, NAN with fewer than two */
	double least, most;
	int below, above;                    /* values below and above 0 */
	int clear_below, clear_above;        /* intervals that are so as a whole */
	int intervals;                       /* runs that have one */
} spread;

/* Bits per byte of a model; column: a domain, or "mean". */
spread spread_bits(const input *in, const char *model, const char *column);
/* Perplexity, the same way; it has no intervals. */
spread spread_perplexity(const input *in, const char *model, const char *column);
/* The paired difference, a less b; it is in the evaluations that compare the two in this order. */
spread spread_difference(const input *in, const char *a, const char *b, const char *column);
/* What a difference is of the second model's bits per byte in the same run, in the mean over the runs. */
double spread_share(const input *in, const spread *difference, const char *b);
/* A model's score on a task. */
spread spread_score(const input *in, const char *task, const char *metric, const char *model);

/* What run r says of a less b, in this order; NULL: nothing. */
const json_t *run_comparison(const input *in, int r, const char *a, const char *b);
/* In how many runs the two are compared. */
int runs_comparing(const input *in, const char *a, const char *b);
/* Comparison i of the first evaluation, where all others have it, too, and it has no earlier one of the same models. */
bool runs_all_compare(const input *in, size_t i, const char **a, const char **b);

/* The models of all runs by what they have there ("models", "bits_per_byte"), those of the first run first: how many. */
int runs_models(const input *in, const char *key, const char *name[NAMES]);
/* Whether evaluations are runs of one experiment: the same domains, models of the same names (NAMES at most), and none twice. */
kf_status runs_check(const input *in, kf_err *err) KF_MUST_CHECK;

#endif
