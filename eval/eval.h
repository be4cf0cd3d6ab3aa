/* kf-eval: how well models predict text: bits per byte and perplexity, by domain.
 *
 * Models are compared on the same bytes, those that every one of them covers: of each
 * document, from x0 to its end, where x0 is the largest, over the models, of the end of
 * the first token where a model has no BOS (and so says nothing about that token), and 0 where it
 * has one. What a model says about these bytes is -ln P(end)/P(x0) along its byte path
 * (record.h): where x0 falls inside one of its tokens, P(x0) has the mass M(x0) of all tokens that agree so far.
 * Of a conversation the assistant's messages are compared, each given all that stands before it; the ends of its turns,
 * which are no bytes, count neither here nor in perplexity.
 */
#ifndef KF_EVAL_EVAL_H
#define KF_EVAL_EVAL_H

#include <jansson.h>

#include "common/base/mem.h"
#include "common/ops/ops.h"
#include "common/store/record.h"

#define KF_EVAL_MODELS 64
#define KF_EVAL_PAIRS (2 * KF_EVAL_MODELS)
#define KF_EVAL_RESAMPLES 2000

/* ---- the mathematics ---- */

/* First byte a model says something about. */
uint32_t kf_eval_first_byte(const kf_logits_rec *rec);

/* Bytes of a record that are compared when the comparison begins at x0. */
uint32_t kf_eval_compared(const kf_logits_rec *rec, uint32_t x0);

/* Whether perplexity counts token i: it was predicted, and is text. */
bool kf_eval_counts(const kf_logits_rec *rec, uint32_t i);

/* -ln P(end)/P(x0) in nats, x0 >= kf_eval_first_byte. KF_EDATA when x0 falls inside a token of a record without
 * byte path, or when values are not finite. */
kf_status kf_eval_span(const kf_logits_rec *rec, uint32_t x0, double *nats, kf_err *err) KF_MUST_CHECK;

/* Difference of bits per byte, a minus b, over texts: (sum bits_a - sum bits_b) / sum bytes, and
 * a paired bootstrap over texts: resampled[r] is the same of the r-th of n resamples.
 * Which texts are drawn depends on seed and key alone, not on the values. */
double kf_eval_difference(const double *bits_a, const double *bits_b, const double *bytes, size_t texts,
	uint64_t seed, const char *key, double *resampled, int n);

/* The q-quantile of v (n), which gets sorted; between two values by linear interpolation. */
double kf_eval_quantile(double *v, int n, double q);

/* ---- the whole ---- */

/* Where a model's predictions come from. */
typedef enum {
	KF_EVAL_RUN,               /* a model, run over the corpus */
	KF_EVAL_LOGITS,            /* a set of its logits over the corpus */
	KF_EVAL_MIXTURE            /* a fused set over the corpus: the ensemble whose distributions were mixed. It says something
	                            * about whole tokens of its target only, so the comparison begins at one of them */
} kf_eval_kind;

typedef struct {
	const char *name;
	const char *path;
	kf_eval_kind kind;
	const char *run;           /* the model to run on tasks: path, or, beside logits, of the same name; NULL: none */
	const char *chat_template; /* of a model that is run on conversations, by name; NULL: its own. On tasks, where prompts
	                            * become a user's messages with it: "own" is its own, NULL plain text */
} kf_eval_model;

typedef struct {
	kf_eval_model model[KF_EVAL_MODELS];
	int n_models;
	const char *corpus;        /* needed for models that are run; NULL otherwise */
	int compare[KF_EVAL_PAIRS][2]; /* pairs of models */
	int n_compare;
	uint64_t seed;
	bool per_document;         /* keep every document's value in the report */
	int threads, progress;
	const kf_ops *ops;         /* the backend of models that are run; NULL: the CPU's */
	int compute;               /* kf_compute; auto is float32 here: what is compared may differ by less than other ways are off */
	unsigned int8;             /* with int8: which matrices (model.h) */
	long batch_tokens;
	const char *scores;        /* a folder, that is there, of what models that are run scored before (scores.h), or NULL */
} kf_eval_opts;

/* How models that are run are computed: not auto. */
kf_compute kf_eval_compute(const kf_eval_opts *o);

typedef struct {
	double estimate, low, high; /* low, high: 95 % interval; NAN with fewer than two texts */
} kf_eval_interval;

typedef struct {
	uint64_t doc;
	size_t text;               /* what it is a piece of: documents with the same id and domain that follow one another, piece by piece */
	int domain;
	uint32_t bytes, x0;
	uint32_t compared;         /* bytes that are: from x0 on; of a conversation, the assistant's messages */
} kf_eval_doc;

typedef struct {
	const kf_eval_opts *o;     /* borrowed */
	int n_domains;
	char **domain;             /* (n_domains) in the order of the corpus */
	kf_eval_doc *doc;          /* (n_docs) */
	size_t n_docs, cap_docs, n_texts;
	kf_fp last_id;             /* of the document read last, and its piece */
	uint32_t last_piece;
	double *bits[KF_EVAL_MODELS];     /* (n_docs) of the common bytes */
	/* Sums by domain (n_domains): */
	double *docs, *bytes;             /* documents with common bytes, and these bytes */
	double *texts;                    /* and what these are pieces of */
	double *bpb[KF_EVAL_MODELS];      /* bits per byte; [n_domains] is the unweighted mean */
	kf_eval_interval *interval[KF_EVAL_MODELS]; /* of bpb, over texts: wide where these differ much. What two
	                                   * models have in common cancels in diff only */
	double *ppl[KF_EVAL_MODELS];      /* exp(mean nats a token of its own); [n_domains]: the unweighted mean of these, as the
	                                   * papers' tables have it; [n_domains + 1]: of all tokens at once */
	kf_eval_interval *diff[KF_EVAL_PAIRS]; /* of each comparison; [n_domains]: of the means */
	int asked, taken;                 /* models whose scores might be kept, and were */
} kf_eval_result;

/* Result is to be released in any case. */
kf_status kf_eval(const kf_eval_opts *o, kf_eval_result *r, kf_err *err) KF_MUST_CHECK;
void kf_eval_release(kf_eval_result *r);

/* ---- reports ---- */

json_t *kf_eval_json_head(const kf_eval_opts *o);               /* of a report without text: models, seed; new */
json_t *kf_eval_json(const kf_eval_result *r);                  /* new; NULL on no memory */
void kf_eval_table(const kf_eval_result *r, kf_buf *out);       /* for a terminal */
void kf_eval_markdown(const kf_eval_result *r, kf_buf *out);

#endif
