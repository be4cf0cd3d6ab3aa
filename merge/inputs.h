/* The models of a merge: open, and of one kind. */
#ifndef KF_MERGE_INPUTS_H
#define KF_MERGE_INPUTS_H

#include "common/model/weights.h"
#include "merge/merge.h"

typedef struct {
	kf_weights *pivot;                    /* NULL: none given */
	kf_weights *model[KF_MERGE_MODELS];   /* (n) */
	int n;
	kf_weights *first;                    /* pivot or first model: its configuration and tokenizer are taken */
	kf_tokenizer *tokenizer;              /* first's, with the chat template of the models where these have the same */
	bool models_template;                 /* which is not the pivot's */
} kf_merge_inputs;

/* Open all and compare each with the first: architecture, tensors and their shapes, tokenizer. KF_EMISMATCH
 * names both models and what differs. */
kf_status kf_merge_open(
	kf_merge_inputs *in, const char *pivot, const kf_list *models, kf_err *err) KF_MUST_CHECK;
void kf_merge_close(kf_merge_inputs *in);

/* {"pivot": fingerprint, "model 1": …, "tokenizer": …, "chat template": …}: a new reference; the last where it is not the pivot's. */
kf_status kf_merge_fingerprints(const kf_merge_inputs *in, kf_pool *pool, json_t **out, kf_err *err) KF_MUST_CHECK;

/* The type that all models' matrices share if it is F16 or BF16, else F32. */
kf_dtype kf_merge_common_dtype(const kf_merge_inputs *in);

#endif
