/* How a mixture's weights are found. Letters: m models, n labels; ce in nats, of one label by one model:
 * every model's about the same bytes, NAN where it has none. */
#ifndef KF_FUSE_WEIGHTS_H
#define KF_FUSE_WEIGHTS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "common/base/hash.h"
#include "common/base/status.h"

#define KF_FUSE_MODELS 64   /* at most, the target included */

/* ---- by each model's CE: FuseLLM's ---- */

/* w_i = exp(r_i / t) / sum over j, r_i = exp(-x_i) the reward of a model: the published code, where t is 1.
 * t > 0, the reward temperature: towards 0 the best model alone, towards infinity equal weights. x NAN anywhere:
 * equal. */
void kf_fuse_weights(const double *x, int m, double t, double *w);

/* -ln of sum over i of w_i exp(-ce_i), models of weight 0 and those without ce left out and the others'
 * weights scaled to sum to 1; NAN where nothing is left. w NULL: equal weights. */
double kf_fuse_mixture_ce(const double *ce, const double *w, int m);

/* ---- by what each model predicted so far ---- */

/* Weights that follow the document: w starts as the prior; after every label that all models have a ce of,
 *
 *   w_i  <-  prior_i (w_i / prior_i)^forget exp(-rate ce_i),  scaled to sum to 1
 *   w_i  <-  (1 - share) w_i + share prior_i
 *
 * so the weights of a label never depend on it. These are exponential weights: with forget 1 and share 0
 * w_i ~ prior_i exp(-rate code length so far), at rate 1 the Bayesian mixture. Its code length exceeds that
 * of model i, whatever the text, by at most -ln(prior_i) / rate: the mixture's probability is at least (sum
 * of w_i p_i^rate)^(1 / rate), which telescopes. share > 0: fixed share (Herbster and Warmuth 1998), which
 * follows the best model of each stretch: with k changes in n labels at most 1 / rate times -ln prior of the
 * first, -ln(share prior) of each after a change and -ln(1 - share) of each other label. forget < 1: code
 * lengths are discounted, w_i ~ prior_i exp(-rate sum of forget^age ce_i) (share 0): the forgetting of
 * dynamic model averaging (Raftery, Karny and Ettler 2010), which has no such bound.
 *
 * A rate of 1 soon leaves one model alone, since its bound is against single models; a mixture of models that
 * know different things is worth more than each of them, and a lower rate stays nearer to it. */
typedef struct {
	double rate, forget, share;          /* in (0, 1], (0, 1], [0, 1] */
} kf_fuse_follow;

typedef struct {
	int m;
	kf_fuse_follow how;
	double prior[KF_FUSE_MODELS], w[KF_FUSE_MODELS];
	double log[KF_FUSE_MODELS];          /* ln w: a model far behind may come back */
} kf_fuse_dynamic;

/* prior NULL: equal. ce (m): nothing is done unless all are finite. */
void kf_fuse_dynamic_begin(kf_fuse_dynamic *d, int m, const double *prior, kf_fuse_follow how);
void kf_fuse_dynamic_see(kf_fuse_dynamic *d, const double *ce);

/* ---- fitted ---- */

/* The weights that give the labels the highest likelihood: argmax over w >= 0, sum 1, of sum over labels of
 * ln sum over i of w_i exp(-ce_i), which is concave.
 *
 * ce (n, m)   finite; n > 0
 * w (m)       result
 * gap         what it can be short of the highest, nats a label, proved: with g_i = mean over labels of
 *             p_i / mixture, Jensen's inequality gives f(best) - f(w) <= ln max over i of g_i. At most
 *             KF_FUSE_FIT_GAP unless arithmetic allows no more progress.
 * Newton steps on the simplex, each at least as good as the step of EM (w_i g_i). The same result for the
 * same rows in the same order. KF_EINVAL: n or m is 0 or a ce is not finite. */
#define KF_FUSE_FIT_GAP 1e-9
#define KF_FUSE_NOTHING 1000.f   /* a ce, nats, of what a model gives no probability */
kf_status kf_fuse_fit(const float *ce, size_t n, int m, double *w, double *gap, kf_err *err) KF_MUST_CHECK;

/* ---- as a file ---- */

/* Weights by domain as a user writes them or kf-fuse --fit does:
 *
 *   {"all": {MODEL: weight}, "domains": {NAME: {MODEL: weight}},
 *    "advantage": {"all": a, "domains": {NAME: a}},
 *    "fit": {"corpus": fingerprint, ...}}
 *
 * advantage: 1 - (the mixture's ce / the target's). fit: what it was fitted on. Every part may be absent; "all" is for domains without their own. Other keys are for readers. */
typedef struct {
	char *domain;                        /* NULL: all */
	bool has_w, has_advantage;
	double w[KF_FUSE_MODELS], advantage;
} kf_fuse_entry;

typedef struct {
	kf_fuse_entry *item;
	int n, cap;
	kf_fp fp;                            /* of all that shapes a mixture: weights and advantages, by name */
	bool fitted;
	kf_fp corpus;                        /* where fitted */
} kf_fuse_table;

/* Read for the models of these names (m). KF_EDATA: no such file's content; KF_EMISMATCH: weights of other
 * models, named. */
kf_status kf_fuse_table_read(const char *path, const char *const *names, int m, kf_fuse_table *out,
	kf_err *err) KF_MUST_CHECK;
void kf_fuse_table_release(kf_fuse_table *t);
/* A domain's weights (m), or its advantage; all's where it has none of its own; NULL where there are
 * neither. */
const double *kf_fuse_table_weights(const kf_fuse_table *t, const char *domain);
const double *kf_fuse_table_advantage(const kf_fuse_table *t, const char *domain);

#endif
