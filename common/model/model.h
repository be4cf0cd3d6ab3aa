/* A model that runs: forward over packed batches, the fused head's answers, and
 * backward into gradients.
 */
#ifndef KF_MODEL_MODEL_H
#define KF_MODEL_MODEL_H

#include "common/model/weights.h"
#include "common/ops/ops.h"

typedef struct kf_model kf_model;

typedef struct {
	bool train;               /* parameters resident, with gradients */
	bool resident;            /* not training: unpack all weights once (fast for small batches);
	                           * otherwise each matrix is unpacked when it is used */
	bool recompute;           /* training: keep only layer inputs, run each layer's forward again in backward */
	size_t keep_bytes;        /* training: activations kept for backward, at most; as many of the last layers as fit are
	                           * kept, the others recomputed. 0: all */
} kf_model_opts;

/* A packed batch: sequences one after the other; positions restart at 0 in each. */
typedef struct {
	int T, S;
	const int32_t *tokens;    /* (T) */
	const int32_t *offset;    /* (S + 1) */
} kf_batch;

/* weights and x are borrowed and must outlive the model. */
kf_status kf_model_new(const kf_weights *weights, kf_exec *x, const kf_model_opts *opts, kf_model **out, kf_err *err) KF_MUST_CHECK;
void kf_model_free(kf_model *m);       /* accepts NULL */
const kf_arch *kf_model_arch(const kf_model *m);

/* Run the batch and ask the head. Token ids must be in [0, V) (KF_EINVAL). */
kf_status kf_model_score(kf_model *m, const kf_batch *b, const kf_score_query *q, kf_score *out, kf_err *err) KF_MUST_CHECK;

/* Run the batch and its loss; with backward, gradients are added to the parameters'. */
kf_status kf_model_loss(kf_model *m, const kf_batch *b, const kf_loss_query *q, bool backward, kf_loss *out, kf_err *err) KF_MUST_CHECK;

/* The final hidden state (T, C), after the last norm, into host memory. For tests and tools. */
kf_status kf_model_hidden(kf_model *m, const kf_batch *b, float *hidden, kf_err *err) KF_MUST_CHECK;

/* Parameters of a model made with train; in the backend's memory. */
typedef struct {
	char name[128];           /* Hugging Face's */
	uint64_t rows, cols;
	int n_dims;
	kf_num_type num;          /* of value and grad */
	void *value, *grad;       /* (rows, cols) */
	float *master;            /* (rows, cols) what value is the rounding of; NULL where value is float32 */
	bool decay;               /* weight decay applies: matrices, not norms and biases */
} kf_param;

int kf_model_params(kf_model *m, kf_param **params);   /* borrowed */
void kf_model_zero_grad(kf_model *m);

/* Write the trained model as a Hugging Face folder (weights.h kf_hf_write). */
kf_status kf_model_write(kf_model *m, const char *dir, kf_dtype dtype, const kf_tokenizer *tokenizer, kf_err *err) KF_MUST_CHECK;

#endif
