/* What weights.c and weights_tokenizer.c share. */
#ifndef KF_MODEL_WEIGHTS_IMPL_H
#define KF_MODEL_WEIGHTS_IMPL_H

#include "common/model/gguf.h"
#include "common/model/safetensors.h"
#include "common/model/weights.h"

struct kf_weights {
	char *path;
	kf_gguf *gguf;           /* one of these two */
	kf_safetensors *st;
	bool experts_apart;      /* a GGUF file with tensors of single experts */
	kf_arch arch;
	json_t *config, *generation; /* of a folder; or NULL */
	kf_tensor *tensor;       /* (n) in the architecture's order */
	struct named *by_name;   /* (n) */
	int n;
	kf_arena arena;
};

#endif
