/* Validation text, encoded once and kept: how many bits a byte of it cost the model. */
#ifndef KF_TRAIN_VALID_H
#define KF_TRAIN_VALID_H

#include "train/data.h"

typedef struct {
	kf_micro *micro;           /* (n) batches */
	int n;
	uint64_t bytes;            /* of text that is predicted: without BOS, all but the first token's; of conversations, the
	                            * assistant's messages */
	kf_fp fp;                  /* of the set */
} kf_valid;

/* Read a corpus, or a set of the model's own tokens (logits, aligned, targets). chat_template: the name of the one to render a
 * corpus's conversations with; NULL: the model's own. KF_EMISMATCH: the set was rendered with another. */
kf_status kf_valid_open(const char *dir, const kf_tokenizer *tokenizer, const char *chat_template, const kf_pack *pack,
	kf_valid *out, kf_err *err) KF_MUST_CHECK;
void kf_valid_release(kf_valid *v);

/* Each of several processes takes its share of the batches; all get the same. ranks may be NULL. KF_ESTOPPED: asked to end. */
kf_status kf_valid_run(const kf_valid *v, kf_model *model, kf_ranks *ranks, double *bits_per_byte, kf_err *err) KF_MUST_CHECK;

/* KF_EMISMATCH unless the set carries the tokenizer of the model. */
kf_status kf_check_tokenizer(const kf_set *set, const kf_tokenizer *tokenizer, const char *model, kf_err *err) KF_MUST_CHECK;

#endif
