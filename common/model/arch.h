/* An architecture is data: one descriptor, filled from config.json or GGUF
 * metadata, which one forward and one backward read.
 *
 * Letters: L layers, C width, H query heads, G key-value heads, D head size,
 * F width of the MLP, V rows of the embedding.
 */
#ifndef KF_MODEL_ARCH_H
#define KF_MODEL_ARCH_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/base/status.h"

typedef enum { KF_FAMILY_LLAMA, KF_FAMILY_QWEN2, KF_FAMILY_GEMMA3 } kf_family;
typedef enum { KF_ACT_SILU, KF_ACT_GELU_TANH } kf_act;
/* Rotary scaling. LINEAR divides positions by factor; LLAMA3 as in Llama 3.1's config. */
typedef enum { KF_ROPE_PLAIN, KF_ROPE_LINEAR, KF_ROPE_LLAMA3 } kf_rope_kind;

#define KF_MAX_LAYERS 512

typedef struct {
	float base;
	kf_rope_kind kind;
	float factor, low_freq, high_freq, original_context; /* kind's parameters */
} kf_rope;

typedef struct {
	kf_family family;
	int L, C, H, G, D, F, V;
	int context;             /* longest sequence it was made for, tokens */
	float norm_eps;          /* RMSNorm */
	bool norm_plus_one;      /* files of Hugging Face hold the weight minus 1 (Gemma) */
	bool post_norms;         /* norms after attention and MLP too (Gemma) */
	bool qk_norm;            /* RMSNorm of each head's q and k before rotary */
	bool qkv_bias, o_bias, mlp_bias;
	bool tied;               /* output rows are the embedding's */
	kf_act act;
	float embed_scale;       /* multiplies embeddings: 1, or sqrt(C) for Gemma */
	float attn_scale;        /* multiplies q·k */
	kf_rope rope, rope_local;/* of full-attention layers; of windowed ones */
	int window;              /* of windowed layers: position i sees (i - window, i]; 0: none */
	uint8_t windowed[KF_MAX_LAYERS]; /* (L) */
	int32_t bos, eos;        /* as the config names them, -1: none; only for writing config.json back */
} kf_arch;

const char *kf_family_name(kf_family f);   /* "llama", "qwen2", "gemma3" */

/* Whether the shape makes sense: everything in range, no product overflows an int. where names the file in the message. */
kf_status kf_arch_check(const kf_arch *a, const char *where, kf_err *err) KF_MUST_CHECK;

/* From config.json (parsed). Unknown model_type or a value we would not honour: KF_EUNSUPPORTED naming it. */
kf_status kf_arch_from_config(const json_t *config, kf_arch *out, kf_err *err) KF_MUST_CHECK;
/* The config.json that transformers reads; new reference, NULL on no memory. */
json_t *kf_arch_to_config(const kf_arch *a, const char *torch_dtype);

/* The tensors the architecture has, in order, by Hugging Face name. name (128); rows = 1 for vectors.
 * Returns the number in all; fills nothing for i out of range. */
int kf_arch_tensor(const kf_arch *a, int i, char *name, uint64_t *rows, uint64_t *cols);

#endif
