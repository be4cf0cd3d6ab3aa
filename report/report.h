/* kf-report: a run as one HTML file: what was fused from what, how well it predicts, who taught what.
 *
 * Reads files that other stages wrote, and nothing else: kf-eval's report, the manifests of sets, the folders that
 * kf-train and kf-merge wrote, kf-fuse's traces. What is not given leaves its section out; the page's end says what
 * would fill it. The same files give the same bytes. The page loads nothing from anywhere, and its content security
 * policy allows only its own script: names and texts in it are other people's.
 */
#ifndef KF_REPORT_REPORT_H
#define KF_REPORT_REPORT_H

#include "common/base/mem.h"

#define KF_REPORT_SETS 64
#define KF_REPORT_MODELS 64

typedef struct {
	const char *title;                   /* NULL: from the models' names */
	const char *eval;                    /* what kf-eval --report wrote, or NULL */
	const char *result;                  /* which of its models the headline is about; NULL: what is compared with the others */
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
