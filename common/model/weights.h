/* A model's files: a Hugging Face folder or a GGUF file, memory-mapped, every
 * offset and count checked before use; its descriptor, its tensors, its tokenizer. */
#ifndef KF_MODEL_WEIGHTS_H
#define KF_MODEL_WEIGHTS_H

#include <jansson.h>

#include "common/base/hash.h"
#include "common/model/arch.h"
#include "common/model/tensor.h"
#include "common/text/tokenizer.h"

typedef struct kf_weights kf_weights;

/* Open a folder with config.json and *.safetensors or pytorch_model*.bin (with or without an index), or a GGUF
 * file. Unknown architecture, tensor type, or an option that would change the
 * result: KF_EUNSUPPORTED naming it. Damage: KF_EDATA naming file and tensor. Missing
 * tensors of the architecture, wrong shapes, a vocabulary that disagrees with the
 * weights, and a head that is not the embedding that it is tied to are found here, not later. */
kf_status kf_weights_open(const char *path, kf_weights **out, kf_err *err) KF_MUST_CHECK;
void kf_weights_close(kf_weights *w);                        /* accepts NULL */

const char *kf_weights_path(const kf_weights *w);
const kf_arch *kf_weights_arch(const kf_weights *w);
/* config.json as it was read, and generation_config.json; borrowed, NULL where there is none (GGUF). */
const json_t *kf_weights_config(const kf_weights *w);
const json_t *kf_weights_generation(const kf_weights *w);
/* What ends a text that a folder's model goes on with, as transformers has it: eos_token_id of generation_config.json, else of config.json, else of
 * its text_config: an id or a list of some, not looked at; borrowed. NULL: none of them names one. */
const json_t *kf_weights_ends(const kf_weights *w);
/* Fingerprint of everything that decides what the model computes (config and tensors; not the tokenizer). */
kf_status kf_weights_fp(kf_weights *w, kf_fp *out, kf_err *err) KF_MUST_CHECK;

/* Tensors by Hugging Face name, whatever the file calls them; NULL when absent. Norm weights come as the
 * kernels use them: Gemma's with the 1 added. */
const kf_tensor *kf_weights_find(const kf_weights *w, const char *name);
int kf_weights_count(const kf_weights *w);
const kf_tensor *kf_weights_at(const kf_weights *w, int i);  /* in the order of the architecture */

/* The tokenizer of the same path; a new one, freed by the caller. KF_EMISMATCH when it has more
 * ids than the weights have rows. */
kf_status kf_weights_tokenizer(const kf_weights *w, kf_tokenizer **out, kf_err *err) KF_MUST_CHECK;

/* A tensor as a Hugging Face folder stores it: rows in its order and Gemma's norms without the 1. */
kf_tensor kf_weights_stored(const kf_weights *w, const kf_tensor *t);
/* The tensor's bytes need not stay in memory; they are read from the file again when asked for. */
void kf_weights_drop(const kf_tensor *t);

/* ---- writing a Hugging Face folder ---- */

/* A tensor to write: f32 values by Hugging Face name. get fills out (rows, cols) when its turn comes. */
typedef struct {
	const char *name;
	uint64_t rows, cols;
	int n_dims;
	kf_status (*get)(void *arg, int index, float *out, kf_err *err);
	void *arg;
} kf_out_tensor;

typedef struct {
	const kf_arch *arch;
	const kf_out_tensor *tensors;   /* (n) the architecture's, each once */
	int n;
	kf_dtype dtype;                 /* KF_F32, KF_F16 or KF_BF16 */
	bool stored;                    /* get gives what the folder stores; else values by the kernels' convention
	                                 * (Gemma's norms with the 1 added: the writer takes it off) */
	uint64_t shard_bytes;           /* a larger model becomes several files and an index; 0: 5 GB */
	const kf_tokenizer *tokenizer;  /* NULL: none written */
	bool replace;                   /* a model in dir that this or kf-merge wrote, and nothing else there, gives way to the new one when that is whole */
	const kf_weights *like;         /* the model it was made from: what its configurations say beyond arch is kept; NULL: none */
	kf_status (*more)(void *arg, const char *dir, kf_err *err); /* further files of the program's own, kfuse.json or
	                                 * merge.json, into dir when the tensors are written; NULL: none */
	void *arg;                      /* of more */
} kf_hf_spec;

/* Write config.json, model.safetensors (or several with an index), generation_config.json and the tokenizer's files
 * into dir, which must not exist or be empty (but for what replace allows): built under a temporary name
 * and renamed, so that a folder is there whole or not at all. Another program at work on the same folder: KF_EBUSY.
 * transformers loads the folder as it is. */
kf_status kf_hf_write(const char *dir, const kf_hf_spec *spec, kf_err *err) KF_MUST_CHECK;
/* Whether what kf_hf_write wrote into dir is there still: weights, and a tokenizer. */
kf_status kf_hf_check(const char *dir, bool tokenizer, kf_err *err) KF_MUST_CHECK;
/* KF_EINVAL where dir has anything but files of a model that kf_hf_write wrote. */
kf_status kf_hf_check_ours(const char *dir, kf_err *err) KF_MUST_CHECK;
/* Whether dir is where kf_hf_write may put a model: to be asked before long work. KF_EINVAL for what is not empty and not to be replaced, and for
 * what no folder can be renamed onto: a link, a mount point, "." and "..". Makes nothing. */
kf_status kf_hf_may_write(const char *dir, bool replace, kf_err *err) KF_MUST_CHECK;

#endif
