/* A model that runs: forward over packed batches, the fused head's answers, and
 * backward into gradients.
 */
#ifndef KF_MODEL_MODEL_H
#define KF_MODEL_MODEL_H

#include "common/model/weights.h"
#include "common/ops/ops.h"

typedef struct kf_model kf_model;

/* Kinds of matrices, for kf_model_opts.int8. */
enum { KF_INT8_HEAD = 1, KF_INT8_QKV = 2, KF_INT8_OUT = 4, KF_INT8_UP = 8, KF_INT8_DOWN = 16, KF_INT8_ALL = 31 };

typedef struct {
	unsigned int8;            /* which kinds of matrices are multiplied in int8 where the exec computes so */
	bool train;               /* parameters resident, with gradients */
	bool resident;            /* not training: unpack all weights once (fast for small batches);
	                           * otherwise each matrix is unpacked when it is used */
	bool stream;              /* not training: it will be run layer by layer (stream.h), and where matrices must be in
	                           * the backend's memory only those of the layer at work are; kf_model_score is not for it then */
	bool recompute;           /* training: keep only layer inputs, run each layer's forward again in backward */
	int part, parts;          /* training: of float32 masters only this part is kept (kf_part_begin); parts 0: all */
	size_t keep_bytes;        /* training: activations kept for backward, at most; as many of the last layers as fit are
	                           * kept, the others recomputed. 0: all */
} kf_model_opts;

/* Keys and values of tokens that were run, in rows, of every layer: what a sequence goes on from. */
typedef struct kf_kv kf_kv;

/* What stands before the sequences of a batch: sequence s goes on after rows [row[s], row[s] + n[s]), n[s] = 0: it begins.
 * With kv these are rows of it, and the sequence's own tokens are put in the rows that follow them; rows that no sequence
 * of the batch puts may stand before several. Without, they are rows of this batch, of a sequence that begins in it: a text
 * that several sequences begin with is run once. */
typedef struct {
	kf_kv *kv;
	const int32_t *row, *n;   /* (S) */
} kf_before;

/* A packed batch: sequences one after the other; positions restart at 0 in each, or go on. */
typedef struct {
	int T, S;
	const int32_t *tokens;    /* (T) */
	const int32_t *offset;    /* (S + 1) */
	const kf_before *before;  /* NULL: all begin. Forward only */
} kf_batch;

/* weights and x are borrowed and must outlive the model. */
kf_status kf_model_new(const kf_weights *weights, kf_exec *x, const kf_model_opts *opts, kf_model **out, kf_err *err) KF_MUST_CHECK;
void kf_model_free(kf_model *m);       /* accepts NULL */
const kf_arch *kf_model_arch(const kf_model *m);

/* Run the batch and ask the head. Token ids must be in [0, V) (KF_EINVAL). */
kf_status kf_model_score(kf_model *m, const kf_batch *b, const kf_score_query *q, kf_score *out, kf_err *err) KF_MUST_CHECK;

/* Logits (n_rows, V), capped where the architecture has it, of those rows of the batch, which ascend; in host memory. For
 * sampling: of few rows. */
kf_status kf_model_logits(kf_model *m, const kf_batch *b, const int32_t *rows, int n_rows, float *out, kf_err *err) KF_MUST_CHECK;

/* Room for the keys and values of that many tokens. The model is borrowed. */
kf_status kf_kv_new(kf_model *m, int rows, kf_kv **out, kf_err *err) KF_MUST_CHECK;
void kf_kv_free(kf_kv *kv);            /* accepts NULL */
size_t kf_kv_bytes(const kf_model *m); /* of one token */
/* Whether what was kept of a sequence of `from` tokens serves when it has `to`: not where the rotary frequencies depend on
 * the length and it passes the original context, and not on a backend that cannot go on. Then the sequence is run again from
 * its beginning. */
bool kf_model_keeps(const kf_model *m, int from, int to);

/* Run the batch and its loss; with backward, gradients are added to the parameters'. */
kf_status kf_model_loss(kf_model *m, const kf_batch *b, const kf_loss_query *q, bool backward, kf_loss *out, kf_err *err) KF_MUST_CHECK;

/* Memory that a batch of T tokens takes, in bytes of the backend's, when it is scored. */
size_t kf_model_batch_bytes(const kf_arch *a, kf_num_type num, size_t T);

/* The final hidden state (T, C), after the last norm, into host memory. For tests and tools. */
kf_status kf_model_hidden(kf_model *m, const kf_batch *b, float *hidden, kf_err *err) KF_MUST_CHECK;

/* Where, of a parameter of n numbers, part i of `parts` begins; part i ends where i + 1 begins. Whole blocks of
 * KF_MOMENT_BLOCK, so that moments in 8 bits do not depend on how many parts there are. */
static inline size_t kf_part_begin(size_t n, int i, int parts)
{
	const size_t blocks = (n + KF_MOMENT_BLOCK - 1) / KF_MOMENT_BLOCK, at = blocks * (size_t)i / (size_t)parts * KF_MOMENT_BLOCK;

	return at < n ? at : n;
}

/* Parameters of a model made with train; in the backend's memory. */
typedef struct {
	char name[128];           /* Hugging Face's */
	uint64_t rows, cols;
	int n_dims;
	kf_num_type num;          /* of value and grad */
	void *value, *grad;       /* (rows, cols) */
	float *master;            /* what value is the rounding of: (rows, cols), or the part that is kept; NULL where value is float32 */
	bool decay;               /* weight decay applies: matrices, not norms and biases */
} kf_param;

/* From now on activations may take what is free of the backend's memory, where that is its own: call it once all
 * else that lasts is allocated. Elsewhere nothing changes. */
kf_status kf_model_keep_free(kf_model *m, kf_err *err) KF_MUST_CHECK;

int kf_model_params(kf_model *m, kf_param **params);   /* borrowed */
void kf_model_zero_grad(kf_model *m);

/* Gives parameter i whole, in host memory (rows, cols). */
typedef kf_status (*kf_param_get)(void *arg, int i, float *out, kf_err *err);

/* Write the trained model as a Hugging Face folder (weights.h kf_hf_write). get: who knows parameters of which only a part of
 * the master is here; NULL: all are. */
kf_status kf_model_write(kf_model *m, const char *dir, kf_dtype dtype, const kf_tokenizer *tokenizer, kf_param_get get, void *arg,
	kf_err *err) KF_MUST_CHECK;

#endif
