/* Fusion: one distribution a position out of the target's own and the aligned sources'.
 *
 * Models are compared on the same bytes: the positions where every one of them (the target's
 * own takes part unless told otherwise) has a ce.
 *
 *   CE       of a document, nats per byte over those positions, times the document's bytes per target
 *            token, so that the scale is the papers'. KF_FUSE_TOKEN: the papers' own, the mean over
 *            each model's own tokens, which says as much about tokenizers as about models.
 *            At token level: the ce of that position (all models' are about the same bytes).
 *   min-ce   the distribution of the model with the lowest CE (ties: the first)
 *   avg-ce   the mixture with weights softmax over models of exp(-CE) / reward temperature, which at 1 are
 *            exp(exp(-CE_i)) / sum over j of exp(exp(-CE_j)): FuseLLM's, gentle on purpose
 *   domain   the mixture with weights a document's domain has in a table, fitted on held-out text
 *   dynamic  the mixture with weights that follow the document: kf_fuse_dynamic, from the table's weights or
 *            equal ones
 *   document the mixture with the weights that give the document's own labels the highest likelihood, with one label more for
 *            each model, that it alone knows (as Laplace's rule has it), so that no model is left out: kf_fuse_fit
 *   level    sequence: one choice, or set of weights, a document; token: one a position. Position n
 *            (after the text) has no ce and takes the document's. Of min-ce and avg-ce only.
 *
 * Where a model has no distribution the weights are renormalised over the others (min-ce: the best of
 * the others); where none has, there is none. Where there is nothing to compare, weights are equal.
 *
 * The target's own distribution is its stored candidates and the label, whose probability is known from
 * ce; the rest is tail. Mixing adds probabilities, tails included, with the weights. Other tokens' q
 * below KF_SPARSE_MIN joins the tail. With KF_FUSE_TAIL_RENORMALIZE every model's candidates (the target's own: its top k)
 * are scaled to sum to 1 before mixing, as the papers have it, and nothing is left for the tail. With KF_FUSE_TAIL_CALIBRATED
 * the mixture's tail is scaled to what it was in the document so far (tail.h).
 *
 * The fused ce is the mixture's as known best: -ln of sum over the position's models of w_i exp(-ce_i), from
 * each model's own ce rather than from the label's share in the sparse q, which the cut candidates make too
 * small. min-ce and avg-ce choose by the label's own probability: at token level their fused ce is that of a
 * choice which sees the answer, no prediction; by document one of m models is chosen, worth at most ln m nats a document.
 * The weights of document, m - 1 numbers fitted to n labels, are worth some (m - 1) / 2 ln n nats. domain and dynamic see nothing. For scale there is the ce of the mixture with equal weights.
 */
#ifndef KF_FUSE_FUSE_H
#define KF_FUSE_FUSE_H

#include <jansson.h>
#include <stdbool.h>

#include "common/base/mem.h"
#include "common/base/pool.h"
#include "common/base/tally.h"
#include "common/store/record.h"
#include "fuse/weights.h"

/* From KF_FUSE_DOMAIN on: those that see nothing of the labels, and take weights of a table. */
typedef enum { KF_FUSE_MIN_CE, KF_FUSE_AVG_CE, KF_FUSE_DOCUMENT, KF_FUSE_DOMAIN, KF_FUSE_DYNAMIC } kf_fuse_function;
typedef enum { KF_FUSE_BY_SEQUENCE, KF_FUSE_BY_TOKEN } kf_fuse_level;
typedef enum { KF_FUSE_BYTE, KF_FUSE_TOKEN } kf_fuse_metric;
typedef enum { KF_FUSE_TAIL_REST, KF_FUSE_TAIL_RENORMALIZE, KF_FUSE_TAIL_CALIBRATED } kf_fuse_tails;
typedef enum { KF_FUSE_WEIGHT_NONE, KF_FUSE_WEIGHT_ADVANTAGE, KF_FUSE_WEIGHT_DOMAIN,
	KF_FUSE_WEIGHT_POSITION } kf_fuse_weight;

typedef struct {
	kf_fuse_function function;
	kf_fuse_level level;
	kf_fuse_metric metric;
	bool with_target;            /* the target's own distribution takes part */
	kf_fuse_tails tails;
	double reward_temperature;   /* avg-ce; 0: 1 */
	kf_fuse_follow follow;       /* dynamic */
	const kf_fuse_table *table;  /* domain: weights; dynamic: prior or NULL; weight DOMAIN: advantages. Borrowed */
	/* The record's weights: clamp(a / full, 0, 1), a = 1 - (fused ce / the target's own ce) over compared bytes,
	 * so that text about which the mixture knows no more than the target is left to CLM. Where the fused ce sees
	 * the answer (token level), the mixture with equal weights stands for it.
	 *   ADVANTAGE  over the document
	 *   DOMAIN     over held-out text of the document's domain: the table's
	 *   POSITION   over the document before the position, later labels counting more (KF_FUSE_ADVANTAGE_MEMORY),
	 *              with KF_FUSE_ADVANTAGE_NATS of no advantage before the first; so that it never depends on the
	 *              luck of its own label */
	kf_fuse_weight weight;
	double full;                 /* the advantage at which the fusion counts in full, > 0 */
} kf_fuse_how;

#define KF_FUSE_ADVANTAGE_MEMORY .99
#define KF_FUSE_ADVANTAGE_NATS 20

/* What happened to one document. Model 0 is the target when it takes part, then the sources in order. */
typedef struct {
	int models;
	double bytes, tokens;             /* compared */
	double target_ce, fused_ce;       /* nats over them; the target's whether it takes part or not */
	double equal_ce;                  /* of the mixture with equal weights */
	double ce[KF_FUSE_MODELS];        /* nats over them */
	double share[KF_FUSE_MODELS];     /* sum of weights over the positions with a label */
	double positions;                 /* of those, with a distribution */
	int best;                         /* lowest CE, -1 when there was nothing to compare */
	double weight;                    /* fusion's, mean over the document's positions; 1 where none is asked for */
} kf_fuse_tally;

/* Fuse a document. aligned (m): to target's tokens (KF_EMISMATCH otherwise). out lives in arena but for what
 * is the target's: tokens, start, head's strings. KF_EINVAL when there is no model at all. */
kf_status kf_fuse_doc(const kf_fuse_how *how, const kf_logits_rec *target, const kf_dist_rec *aligned, int m,
	kf_arena *arena, kf_dist_rec *out, kf_fuse_tally *tally, kf_err *err) KF_MUST_CHECK;

/* The same, and share (target->n + 1, models) gets every position's weights; zeros where there is no distribution. */
kf_status kf_fuse_doc_shares(const kf_fuse_how *how, const kf_logits_rec *target, const kf_dist_rec *aligned, int m,
	kf_arena *arena, kf_dist_rec *out, kf_fuse_tally *tally, double *share, kf_err *err) KF_MUST_CHECK;

/* The labels that all models have a ce of: ce (target->n, models) receives the first tally->tokens rows. */
kf_status kf_fuse_labels(bool with_target, const kf_logits_rec *target, const kf_dist_rec *aligned, int m,
	float *ce, kf_fuse_tally *tally, kf_err *err) KF_MUST_CHECK;

/* Tallies of a domain's documents: a row of a kf_tally. */
typedef struct {
	double docs, tokens, bytes;       /* bytes and tokens compared */
	double target_ce, fused_ce, equal_ce, positions, weight;
	double ce[KF_FUSE_MODELS], share[KF_FUSE_MODELS], won[KF_FUSE_MODELS]; /* won: documents with the lowest CE */
} kf_fuse_stat;

kf_status kf_fuse_stats_doc(kf_tally *stats, const char *domain, const kf_fuse_tally *t,
	kf_err *err) KF_MUST_CHECK;
/* {"models": [names], "all": {...}, "domains": {NAME: {...}}}; in each: documents, tokens, bytes, target,
 * fused and equal weights' ce_byte (nats), weight, and "models": {name: {ce_byte, share, documents_won}}.
 * NULL on no memory. names (models). */
json_t *kf_fuse_stats_json(const kf_tally *stats, const char *const *names, int models);

typedef struct {
	const char *target, *out;            /* folders of sets */
	const char *const *aligned;
	int n_aligned;
	kf_fuse_how how;
	const char *weights;                 /* a file of weights by domain, or NULL */
	bool same_text;                      /* accept weights fitted to this corpus */
	int precision;                       /* 0 as the aligned sets, 1 packed, 2 f32 */
	bool replace;                        /* targets in out that were made of something else are replaced */
	const char *shard;                   /* "I/N" or NULL */
	int progress;
	json_t *record;                      /* options that shape the content (kf_opt_record), borrowed */
	const char *program;
} kf_fuse_opts;

/* As kf_align_run: *stats may come back NULL when the set was up to date or this was a part of an array job.
 * Beside kf_fuse_stats_json it says "hindsight": label, document or none, what the weights saw of
 * the labels. */
kf_status kf_fuse_run(const kf_fuse_opts *o, kf_pool *pool, kf_set_state *state, json_t **stats,
	kf_err *err) KF_MUST_CHECK;

/* Who taught what, position by position, of some documents of a set that kf_fuse_run has made: those of these numbers, or
 * the first of every domain. Fuses them again as o says and writes path, a line of JSON a document:
 *
 *   doc, id, piece, domain; function: o->how's, by name; models: [names], the m of a tally
 *   text         what the target's tokens spell; bytes that are not UTF-8 as U+FFFD
 *   cut [n + 1]  byte of text where each token begins, and the end; a token that begins inside a character: after it
 *   context [n]  of conversations: 1 where a position is only context
 *   fusion [n]   the record's weights, if it has some
 *   weights      for each of n tokens the m weights of its position's mixture, null where there is no distribution
 *   candidates   for each of n tokens [TEXT, q, q_1 .. q_m]: the fused probability of a candidate and what each
 *                model gives it (as it was mixed, before a tail is calibrated), null where it is none of the model's. The likeliest
 *                KF_FUSE_TRACE_BEST, the best of each model, and the label
 *   label [n]    which of these is the document's own token, -1: none */
#define KF_FUSE_TRACE_BEST 5
kf_status kf_fuse_trace(const kf_fuse_opts *o, const char *path, const uint64_t *docs, int n_docs, kf_err *err) KF_MUST_CHECK;

/* Fit weights by domain, and over all, to target and aligned of o: *out is the content of a file of weights
 * (weights.h). The same whatever the threads and shards. Of o->how only with_target counts. */
kf_status kf_fuse_fit_run(const kf_fuse_opts *o, kf_pool *pool, json_t **out, kf_err *err) KF_MUST_CHECK;

/* As tables for people: what kf_fuse_run gave (or a manifest's "stats"), and what kf_fuse_fit_run gave. */
kf_status kf_fuse_report(const json_t *stats, kf_buf *to, kf_err *err) KF_MUST_CHECK;
kf_status kf_fuse_fit_report(const json_t *fitted, kf_buf *to, kf_err *err) KF_MUST_CHECK;

#endif
