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
#include "common/ops/ops.h"

/* Numbers of families and rotary kinds are part of fingerprints: new ones go to the end. */
typedef enum {
	KF_FAMILY_LLAMA, KF_FAMILY_QWEN2, KF_FAMILY_GEMMA3, KF_FAMILY_MISTRAL, KF_FAMILY_QWEN3, KF_FAMILY_GEMMA2,
	KF_FAMILY_GPT_NEOX, KF_FAMILY_MPT, KF_FAMILY_INTERNLM2, KF_FAMILY_MIXTRAL, KF_FAMILIES
} kf_family;

/* Rotary scaling, as the types of the same names in transformers; rope.c has what they compute. */
typedef enum {
	KF_ROPE_PLAIN, KF_ROPE_LINEAR, KF_ROPE_LLAMA3, KF_ROPE_DYNAMIC, KF_ROPE_YARN, KF_ROPE_LONGROPE
} kf_rope_kind;

/* How q, k and v are projected: by three matrices, by one of all queries, keys, values in this order, or by
 * one that has for each group of heads its queries, its key, its value. */
typedef enum { KF_QKV_SEPARATE, KF_QKV_FUSED, KF_QKV_GROUPED } kf_qkv;

#define KF_MAX_LAYERS 512
#define KF_MAX_LONGROPE 256

typedef struct {
	float base;
	kf_rope_kind kind;
	float factor, low_freq, high_freq, original_context; /* kind's parameters; YaRN: beta_slow, beta_fast */
	float scale;             /* of cosines and sines: "attention_factor"; 0 stands for 1 */
	bool truncate;           /* YaRN */
	float shorter[KF_MAX_LONGROPE], longer[KF_MAX_LONGROPE]; /* (R / 2) LongRoPE's divisors, up to the original context and beyond it */
} kf_rope;

typedef struct {
	kf_family family;
	int L, C, H, G, D, F, V;
	int R;                   /* floats of a head that rotary positions turn; 0: none */
	int context;             /* longest sequence it was made for, tokens */
	float norm_eps;
	bool layer_norm;         /* LayerNorm; else RMSNorm */
	bool norm_bias;          /* of LayerNorm */
	bool norm_plus_one;      /* files of Hugging Face hold the weight minus 1 (Gemma) */
	bool post_norms;         /* norms after attention and MLP too (Gemma) */
	bool qk_norm;            /* RMSNorm of each head's q and k before rotary */
	bool parallel;           /* attention and MLP both read the layer's input (GPT-NeoX) */
	bool plain_mlp;          /* act(up) instead of act(gate) * up */
	bool qkv_bias, o_bias, mlp_bias;
	bool tied;               /* output rows are the embedding's */
	kf_qkv qkv;
	kf_act act;
	float embed_scale;       /* multiplies embeddings: 1, or sqrt(C) for Gemma */
	float attn_scale;        /* multiplies q·k */
	float attn_cap, logit_cap; /* cap * tanh(x / cap) of scores, of logits; 0: none */
	float alibi;             /* ALiBi's largest exponent; 0: none */
	int experts, experts_used; /* of each MLP; 0: one MLP, no router */
	kf_rope rope, rope_local;/* of full-attention layers; of windowed ones: the same, or plain (Gemma 3) */
	int window;              /* of windowed layers: position i sees (i - window, i]; 0: none */
	uint8_t windowed[KF_MAX_LAYERS]; /* (L) */
	int32_t bos, eos;        /* as the config names them, -1: none; only for writing config.json back */
} kf_arch;

const char *kf_family_name(kf_family f);   /* as GGUF names architectures: "llama", "qwen2", "gptneox" */

/* Whether the shape makes sense: everything in range, no product overflows an int. where names the file in the message. */
kf_status kf_arch_check(const kf_arch *a, const char *where, kf_err *err) KF_MUST_CHECK;

/* From config.json (parsed). Unknown model_type or a value we would not honour: KF_EUNSUPPORTED naming it. */
kf_status kf_arch_from_config(const json_t *config, kf_arch *out, kf_err *err) KF_MUST_CHECK;
/* The config.json that transformers reads; new reference, NULL on no memory. */
json_t *kf_arch_to_config(const kf_arch *a, const char *torch_dtype);

/* Frequencies (R / 2) of a sequence of length tokens, in float32 as transformers computes them. */
void kf_rope_freq(const kf_rope *r, int R, int length, float *out);
/* Whether they depend on the length, beyond original_context. */
bool kf_rope_varies(const kf_rope *r);
/* Slopes (H) of ALiBi (Press, Smith and Lewis 2022). */
void kf_alibi_slopes(float alibi, int H, float *out);

/* What a tensor is for. Those of a layer are (KF_P_Q .. KF_P_POST2); an expert's are KF_P_E_*. */
typedef enum {
	KF_P_EMBED, KF_P_NORM, KF_P_NORM_B, KF_P_HEAD,
	KF_P_Q, KF_P_QB, KF_P_K, KF_P_KB, KF_P_V, KF_P_VB, KF_P_QKV, KF_P_QKVB, KF_P_O, KF_P_OB, KF_P_Q_NORM, KF_P_K_NORM,
	KF_P_GATE, KF_P_GATEB, KF_P_UP, KF_P_UPB, KF_P_DOWN, KF_P_DOWNB,
	KF_P_ROUTER, KF_P_E_GATE, KF_P_E_DOWN, KF_P_E_UP,
	KF_P_NORM1, KF_P_NORM1B, KF_P_NORM2, KF_P_NORM2B, KF_P_POST1, KF_P_POST2,
	KF_PARTS
} kf_part;

typedef struct { kf_part part; int layer, expert; } kf_place;

/* The tensors the architecture has, in order, by Hugging Face name. name (128); rows = 1 for vectors.
 * Returns the number in all; fills nothing for i out of range. */
int kf_arch_tensor(const kf_arch *a, int i, char *name, uint64_t *rows, uint64_t *cols);
/* What tensor i is (i in range), and its name in GGUF files; "" where there is none. */
kf_place kf_arch_place(const kf_arch *a, int i);
void kf_arch_gguf_name(const kf_arch *a, int i, char name[128]);

#endif
