#include "common/model/arch.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* The config.json that transformers reads back as the same model. */

/* The shortest decimal that is this float, as a double: 1e-05, not 9.99999974737875e-06. */
static json_t *real(float f)
{
	char text[32];

	for (int digits = 6; digits <= 9; digits++) {
		snprintf(text, sizeof text, "%.*g", digits, (double)f);
		if (strtof(text, NULL) == f) break;
	}
	return json_real(strtod(text, NULL));
}

static json_t *token(int32_t id) { return id < 0 ? json_null() : json_integer(id); }

static json_t *reals(const float *f, int n)
{
	json_t *list = json_array();

	for (int i = 0; list && i < n; i++) json_array_append_new(list, real(f[i]));
	return list;
}

/* Readers multiply it with D and cut what comes of it to an integer, R: so what is written lies between R and R + 1. */
static json_t *neox_share(const kf_arch *a) { return json_real(a->R < a->D ? (a->R + 0.5) / a->D : 1); }

static json_t *rope_scaling(const kf_rope *r, int R)
{
	json_t *scale = r->scale != 0 ? real(r->scale) : json_integer(1);

	switch (r->kind) {
	case KF_ROPE_YARN:
		return json_pack("{s:s, s:o, s:o, s:o, s:o, s:b, s:I}", "rope_type", "yarn", "factor", real(r->factor),
			"attention_factor", scale, "beta_slow", real(r->low_freq), "beta_fast", real(r->high_freq),
			"truncate", r->truncate, "original_max_position_embeddings", (json_int_t)lroundf(r->original_context));
	case KF_ROPE_LONGROPE:
		return json_pack("{s:s, s:o, s:o, s:o, s:o}", "rope_type", "longrope", "factor", real(r->factor),
			"attention_factor", scale, "short_factor", reals(r->shorter, R / 2), "long_factor",
			reals(r->longer, R / 2));
	default:
		json_decref(scale);
	}
	switch (r->kind) {
	case KF_ROPE_LINEAR:
	case KF_ROPE_DYNAMIC:
		return json_pack("{s:s, s:o}", "rope_type", r->kind == KF_ROPE_LINEAR ? "linear" : "dynamic", "factor",
			real(r->factor));
	case KF_ROPE_LLAMA3:
		return json_pack("{s:s, s:o, s:o, s:o, s:I}", "rope_type", "llama3", "factor", real(r->factor),
			"low_freq_factor", real(r->low_freq), "high_freq_factor", real(r->high_freq),
			"original_max_position_embeddings", (json_int_t)lroundf(r->original_context));
	default:
		return json_null();
	}
}

static json_t *layer_types(const kf_arch *a)
{
	json_t *list = json_array();

	for (int l = 0; list && l < a->L; l++)
		if (json_array_append_new(
				list, json_string(a->windowed[l] ? "sliding_attention" : "full_attention")) < 0) {
			json_decref(list);
			return NULL;
		}
	return list;
}

/* Gemma divides by the square root of a whole number; a double that gives our scale again otherwise. */
static json_t *query_scalar(float scale)
{
	double q = 1 / ((double)scale * (double)scale);

	if ((float)(1 / sqrt(round(q))) == scale) return json_integer((json_int_t)round(q));
	return json_real(q);
}

static json_t *cap(float c) { return c > 0 ? real(c) : json_null(); }

static const struct { const char *model_type, *class; } names[KF_FAMILIES] = {
	[KF_FAMILY_LLAMA] = { "llama", "LlamaForCausalLM" },
	[KF_FAMILY_QWEN2] = { "qwen2", "Qwen2ForCausalLM" },
	[KF_FAMILY_GEMMA3] = { "gemma3_text", "Gemma3ForCausalLM" },
	[KF_FAMILY_MISTRAL] = { "mistral", "MistralForCausalLM" },
	[KF_FAMILY_QWEN3] = { "qwen3", "Qwen3ForCausalLM" },
	[KF_FAMILY_GEMMA2] = { "gemma2", "Gemma2ForCausalLM" },
	[KF_FAMILY_GPT_NEOX] = { "gpt_neox", "GPTNeoXForCausalLM" },
	[KF_FAMILY_MPT] = { "mpt", "MptForCausalLM" },
	[KF_FAMILY_INTERNLM2] = { "internlm2", "InternLM2ForCausalLM" },
	[KF_FAMILY_MIXTRAL] = { "mixtral", "MixtralForCausalLM" },
};

/* What one class has and others do not, or call otherwise. */
static json_t *own_config(const kf_arch *a)
{
	static const char *const acts[] = { [KF_ACT_SILU] = "silu", [KF_ACT_GELU_TANH] = "gelu_pytorch_tanh",
		[KF_ACT_GELU] = "gelu" };
	const char *act = acts[a->act];
	json_t *window = a->window > 0 ? json_integer(a->window) : json_null(), *own = NULL;

	switch (a->family) {
	case KF_FAMILY_LLAMA:
		own = json_pack("{s:s, s:b, s:b, s:i}", "hidden_act", act, "attention_bias", a->o_bias, "mlp_bias",
			a->mlp_bias, "pretraining_tp", 1);
		break;
	case KF_FAMILY_QWEN2:
		own = json_pack("{s:s, s:b, s:O, s:o}", "hidden_act", act, "use_sliding_window", a->window > 0,
			"sliding_window", window, "layer_types", layer_types(a));
		break;
	case KF_FAMILY_QWEN3:
		own = json_pack("{s:s, s:b, s:b, s:O, s:o}", "hidden_act", act, "attention_bias", a->o_bias,
			"use_sliding_window", a->window > 0, "sliding_window", window, "layer_types", layer_types(a));
		break;
	case KF_FAMILY_MISTRAL:
		own = json_pack("{s:s, s:O}", "hidden_act", act, "sliding_window", window);
		break;
	case KF_FAMILY_MIXTRAL:
		own = json_pack("{s:s, s:O, s:i, s:i, s:b}", "hidden_act", act, "sliding_window", window,
			"num_local_experts", a->experts, "num_experts_per_tok", a->experts_used, "output_router_logits", 0);
		break;
	case KF_FAMILY_GEMMA2:
	case KF_FAMILY_GEMMA3:
		own = json_pack("{s:s, s:b, s:i, s:o, s:o, s:o, s:o}", "hidden_activation", act,
			"attention_bias", a->o_bias, "sliding_window", a->window > 0 ? a->window : 4096, "layer_types",
			layer_types(a), "query_pre_attn_scalar", query_scalar(a->attn_scale),
			"final_logit_softcapping", cap(a->logit_cap), "attn_logit_softcapping", cap(a->attn_cap));
		if (own && a->family == KF_FAMILY_GEMMA3)
			json_object_set_new(own, "rope_local_base_freq", real(a->rope_local.base));
		break;
	case KF_FAMILY_GPT_NEOX:
		own = json_pack("{s:s, s:b, s:b, s:o, s:o, s:o}", "hidden_act", act, "attention_bias", a->o_bias,
			"use_parallel_residual", a->parallel, "layer_norm_eps", real(a->norm_eps),
			"rotary_emb_base", real(a->rope.base), "rotary_pct", neox_share(a));
		break;
	case KF_FAMILY_INTERNLM2:
		/* transformers has no class of its own for it: it takes the code from the model's home, when allowed to. That wants a scaling
		 * of exactly these two keys. */
		own = json_pack("{s:s, s:b, s:{s:s, s:s}}", "hidden_act", act, "bias", a->o_bias, "auto_map",
			"AutoConfig", "internlm/internlm2-7b--configuration_internlm2.InternLM2Config",
			"AutoModelForCausalLM", "internlm/internlm2-7b--modeling_internlm2.InternLM2ForCausalLM");
		if (own && (a->rope.kind == KF_ROPE_LINEAR || a->rope.kind == KF_ROPE_DYNAMIC))
			json_object_set_new(own, "rope_scaling", json_pack("{s:s, s:o}", "type", a->rope.kind == KF_ROPE_LINEAR ? "linear" : "dynamic",
				"factor", real(a->rope.factor)));
		break;
	case KF_FAMILY_MPT:
		own = json_pack("{s:i, s:i, s:i, s:i, s:i, s:o, s:b, s:{s:b, s:o, s:s, s:b, s:b, s:b, s:n, s:i, s:o}}",
			"d_model", a->C, "n_heads", a->H, "n_layers", a->L, "expansion_ratio", a->F / a->C, "max_seq_len",
			a->context, "layer_norm_epsilon", real(a->norm_eps), "no_bias", 1, "attn_config", "alibi", 1,
			"alibi_bias_max", json_integer(lroundf(a->alibi)), "attn_type", "multihead_attention",
			"prefix_lm", 0, "qk_ln", 0, "attn_uses_sequence_id", 0, "clip_qkv", "attn_pdrop", 0,
			"softmax_scale", a->attn_scale == (float)(1 / sqrt(a->D)) ? json_null() : real(a->attn_scale));
		break;
	case KF_FAMILIES:
		break;
	}
	json_decref(window);
	return own;
}

json_t *kf_arch_to_config(const kf_arch *a, const char *torch_dtype)
{
	bool mpt = a->family == KF_FAMILY_MPT;
	json_t *c = json_pack("{s:[s], s:s, s:s, s:b, s:o, s:o, s:i, s:b}",
		"architectures", names[a->family].class, "model_type", names[a->family].model_type,
		"torch_dtype", torch_dtype, "use_cache", 1, "bos_token_id", token(a->bos), "eos_token_id", token(a->eos),
		"vocab_size", a->V, "tie_word_embeddings", a->tied);
	json_t *shape = mpt ? json_object() : json_pack("{s:o, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:f, s:o, s:o}",
		"rms_norm_eps", real(a->norm_eps),
		"hidden_size", a->C, "intermediate_size", a->F, "num_hidden_layers", a->L, "num_attention_heads", a->H,
		"num_key_value_heads", a->G, "head_dim", a->D, "max_position_embeddings", a->context,
		"attention_dropout", 0.0, "rope_theta", real(a->rope.base), "rope_scaling", rope_scaling(&a->rope, a->R));
	json_t *own = own_config(a);

	if (shape && a->layer_norm) json_object_del(shape, "rms_norm_eps");
	if (shape && a->family == KF_FAMILY_GPT_NEOX) {
		json_object_del(shape, "rope_theta");
		json_object_del(shape, "head_dim");
		json_object_del(shape, "num_key_value_heads");
	}
	if (shape && a->rope.kind == KF_ROPE_LONGROPE && a->rope.original_context != (float)a->context)
		json_object_set_new(shape, "original_max_position_embeddings",
			json_integer(lroundf(a->rope.original_context)));
	if (!c || !shape || !own || json_object_update(c, shape) < 0 || json_object_update(c, own) < 0) {
		json_decref(c);
		c = NULL;
	}
	json_decref(shape);
	json_decref(own);
	return c;
}
