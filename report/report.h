/* kf-report: a run as one HTML file: what was fused from what, how well it predicts, who taught what; or several runs of an
 * experiment: what the methods reach in the mean, how far the runs are apart, and one of them as above.
 *
 * Reads files that other stages wrote, and nothing else: kf-eval's report, the manifests of sets, the folders that
 * kf-train and kf-merge wrote, kf-fuse's traces. What is not given leaves its section out; the page's end says what
 * would fill it. The same files give the same bytes. The page loads nothing from anywhere, and its content security
 * policy allows only its own script: names and texts in it are other people's.
 */
#ifndef KF_REPORT_REPORT_H
#define KF_REPORT_REPORT_H

#include "common/base/mem.h"

#define KF_REPORT_EVALS 64
#define KF_REPORT_SETS 64
#define KF_REPORT_MODELS 64

typedef struct {
	const char *title;                   /* NULL: from the models' names */
	const char *const *evals;            /* (n_evals) what kf-eval --report wrote. Several are runs of one experiment: the same domains,
	                                      * models of the same names; the first is what the rest of the page is about */
	int n_evals;
	const char *result;                  /* which model of the first the headline is about; NULL: what is compared with the others */
	const char *const *sets;             /* (n_sets) folders of sets, in the order of the page */
	int n_sets;
	const char *const *models;           /* (n_models) [NAME=]DIR: folders of trained or merged models, named as in eval */
	int n_models;
	const char *const *traces;           /* (n_traces) what kf-fuse --trace wrote */
	int n_traces;
	int passages, passage_tokens;        /* at most: documents shown, tokens of each */
} kf_report_opts;

/* html is cleared first. KF_EDATA names the file (and line) that is not what it should be, KF_ENOTFOUND one that is missing. */
kf_status kf_report(const kf_report_opts *o, kf_buf *html, kf_err *err) KF_MUST_CHECK;

#endif
