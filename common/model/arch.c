#include "common/model/arch.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *kf_family_name(kf_family f)
{
	static const char *const names[] = { "llama", "qwen2", "gemma3" };

	return names[f];
}

/* ---- is it sane ---- */

static bool fits(int a, int b)
{
	int p;

	return !__builtin_mul_overflow(a, b, &p);
}

static bool good_rope(const kf_rope *r)
{
	if (!(r->base > 1) || !isfinite(r->base)) return false;
	if (r->kind != KF_ROPE_PLAIN && (!(r->factor > 0) || !isfinite(r->factor))) return false;
	return r->kind != KF_ROPE_LLAMA3 ||
		(r->low_freq > 0 && r->high_freq > r->low_freq && isfinite(r->high_freq) &&
			r->original_context >= 1 && isfinite(r->original_context));
}

kf_status kf_arch_check(const kf_arch *a, const char *where, kf_err *err)
{
	const struct { const char *name; int value, min, max; } range[] = {
		{ "layers", a->L, 1, KF_MAX_LAYERS },
		{ "width", a->C, 2, 1 << 20 },
		{ "attention heads", a->H, 1, 1 << 16 },
		{ "key-value heads", a->G, 1, 1 << 16 },
		{ "head size", a->D, 2, 1 << 14 },
		{ "MLP width", a->F, 2, 1 << 24 },
		{ "vocabulary", a->V, 2, 1 << 28 },
		{ "context", a->context, 1, 1 << 30 },
	};

	for (size_t i = 0; i < sizeof range / sizeof *range; i++)
		if (range[i].value < range[i].min || range[i].value > range[i].max)
			return kf_fail(err, KF_EDATA, "%s: a model with %s %d makes no sense (%d to %d)", where,
				range[i].name, range[i].value, range[i].min, range[i].max);
	if (a->H % a->G)
		return kf_fail(err, KF_EDATA, "%s: %d attention heads cannot share %d key-value heads evenly", where,
			a->H, a->G);
	if (a->D % 2)
		return kf_fail(
			err, KF_EDATA, "%s: the head size %d is odd, which rotary positions exclude", where, a->D);
	if (!fits(a->H, a->D))
		return kf_fail(err, KF_EDATA, "%s: %d heads of %d are too many", where, a->H, a->D);
	if (!(a->norm_eps >= 0) || !(a->norm_eps < 1))
		return kf_fail(err, KF_EDATA, "%s: the norm's epsilon %g makes no sense", where, (double)a->norm_eps);
	if (!good_rope(&a->rope) || !good_rope(&a->rope_local))
		return kf_fail(err, KF_EDATA, "%s: its rotary position parameters make no sense", where);
	if (!(a->attn_scale > 0) || !isfinite(a->attn_scale))
		return kf_fail(
			err, KF_EDATA, "%s: the attention scale %g makes no sense", where, (double)a->attn_scale);
	for (int l = 0; l < a->L; l++)
		if (a->windowed[l] && a->window < 1)
			return kf_fail(err, KF_EDATA,
				"%s: layer %d has a sliding window, but the window's size is missing", where, l);
	return KF_OK;
}

/* ---- tensors ---- */

enum { ROW_C, ROW_HD, ROW_GD, ROW_F, ROW_V, ROW_D, ROW_1 };

static int extent(const kf_arch *a, int what)
{
	switch (what) {
	case ROW_C: return a->C;
	case ROW_HD: return a->H * a->D;
	case ROW_GD: return a->G * a->D;
	case ROW_F: return a->F;
	case ROW_V: return a->V;
	case ROW_D: return a->D;
	}
	return 1;
}

static bool always(const kf_arch *a) { (void)a; return true; }
static bool qkv_bias(const kf_arch *a) { return a->qkv_bias; }
static bool o_bias(const kf_arch *a) { return a->o_bias; }
static bool mlp_bias(const kf_arch *a) { return a->mlp_bias; }
static bool qk_norm(const kf_arch *a) { return a->qk_norm; }
static bool post_norms(const kf_arch *a) { return a->post_norms; }

/* One layer, in Hugging Face's order. */
static const struct {
	const char *name;
	int rows, cols;
	bool (*has)(const kf_arch *);
} layer[] = {
	{ "self_attn.q_proj.weight", ROW_HD, ROW_C, always },
	{ "self_attn.q_proj.bias", ROW_1, ROW_HD, qkv_bias },
	{ "self_attn.k_proj.weight", ROW_GD, ROW_C, always },
	{ "self_attn.k_proj.bias", ROW_1, ROW_GD, qkv_bias },
	{ "self_attn.v_proj.weight", ROW_GD, ROW_C, always },
	{ "self_attn.v_proj.bias", ROW_1, ROW_GD, qkv_bias },
	{ "self_attn.o_proj.weight", ROW_C, ROW_HD, always },
	{ "self_attn.o_proj.bias", ROW_1, ROW_C, o_bias },
	{ "self_attn.q_norm.weight", ROW_1, ROW_D, qk_norm },
	{ "self_attn.k_norm.weight", ROW_1, ROW_D, qk_norm },
	{ "mlp.gate_proj.weight", ROW_F, ROW_C, always },
	{ "mlp.gate_proj.bias", ROW_1, ROW_F, mlp_bias },
	{ "mlp.up_proj.weight", ROW_F, ROW_C, always },
	{ "mlp.up_proj.bias", ROW_1, ROW_F, mlp_bias },
	{ "mlp.down_proj.weight", ROW_C, ROW_F, always },
	{ "mlp.down_proj.bias", ROW_1, ROW_C, mlp_bias },
	{ "input_layernorm.weight", ROW_1, ROW_C, always },
	{ "post_attention_layernorm.weight", ROW_1, ROW_C, always },
	{ "pre_feedforward_layernorm.weight", ROW_1, ROW_C, post_norms },
	{ "post_feedforward_layernorm.weight", ROW_1, ROW_C, post_norms },
};
#define N_LAYER ((int)(sizeof layer / sizeof *layer))

int kf_arch_tensor(const kf_arch *a, int i, char *name, uint64_t *rows, uint64_t *cols)
{
	int per_layer = 0, n, k;

	for (k = 0; k < N_LAYER; k++) per_layer += layer[k].has(a);
	n = 1 + a->L * per_layer + 1 + !a->tied;
	if (i < 0 || i >= n) return n;
	if (i == 0) {
		strcpy(name, "model.embed_tokens.weight");
		*rows = (uint64_t)a->V;
		*cols = (uint64_t)a->C;
	} else if (i <= a->L * per_layer) {
		int l = (i - 1) / per_layer, at = (i - 1) % per_layer;
		for (k = 0; at || !layer[k].has(a); k++) at -= layer[k].has(a);
		snprintf(name, 128, "model.layers.%d.%s", l, layer[k].name);
		*rows = (uint64_t)extent(a, layer[k].rows);
		*cols = (uint64_t)extent(a, layer[k].cols);
	} else if (i == 1 + a->L * per_layer) {
		strcpy(name, "model.norm.weight");
		*rows = 1;
		*cols = (uint64_t)a->C;
	} else {
		strcpy(name, "lm_head.weight");
		*rows = (uint64_t)a->V;
		*cols = (uint64_t)a->C;
	}
	return n;
}

/* ---- config.json ---- */

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

static json_t *rope_scaling(const kf_rope *r)
{
	switch (r->kind) {
	case KF_ROPE_LINEAR:
		return json_pack("{s:s, s:o}", "rope_type", "linear", "factor", real(r->factor));
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

json_t *kf_arch_to_config(const kf_arch *a, const char *torch_dtype)
{
	static const struct { const char *model_type, *class; } names[] = {
		[KF_FAMILY_LLAMA] = { "llama", "LlamaForCausalLM" },
		[KF_FAMILY_QWEN2] = { "qwen2", "Qwen2ForCausalLM" },
		[KF_FAMILY_GEMMA3] = { "gemma3_text", "Gemma3ForCausalLM" },
	};
	const char *act = a->act == KF_ACT_SILU ? "silu" : "gelu_pytorch_tanh";
	json_t *c = json_pack("{s:[s], s:s, s:s, s:b, s:o, s:o, s:o}",
		"architectures", names[a->family].class, "model_type", names[a->family].model_type,
		"torch_dtype", torch_dtype, "use_cache", 1,
		"bos_token_id", token(a->bos), "eos_token_id", token(a->eos), "rms_norm_eps", real(a->norm_eps));
	json_t *shape = json_pack("{s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:b, s:f, s:o, s:o}",
		"hidden_size", a->C, "intermediate_size", a->F, "num_hidden_layers", a->L, "num_attention_heads", a->H,
		"num_key_value_heads", a->G, "head_dim", a->D, "vocab_size", a->V, "max_position_embeddings", a->context,
		"tie_word_embeddings", a->tied, "attention_dropout", 0.0,
		"rope_theta", real(a->rope.base), "rope_scaling", rope_scaling(&a->rope));
	json_t *own = NULL;

	switch (a->family) {
	case KF_FAMILY_LLAMA:
		own = json_pack("{s:s, s:b, s:b, s:i}", "hidden_act", act, "attention_bias", a->o_bias, "mlp_bias",
			a->mlp_bias, "pretraining_tp", 1);
		break;
	case KF_FAMILY_QWEN2:
		own = json_pack("{s:s, s:b, s:o, s:o}", "hidden_act", act, "use_sliding_window", a->window > 0,
			"sliding_window", a->window > 0 ? json_integer(a->window) : json_null(), "layer_types", layer_types(a));
		break;
	case KF_FAMILY_GEMMA3:
		own = json_pack("{s:s, s:b, s:i, s:o, s:o, s:o, s:n, s:n}", "hidden_activation", act,
			"attention_bias", a->o_bias, "sliding_window", a->window > 0 ? a->window : 4096, "layer_types",
			layer_types(a), "query_pre_attn_scalar", query_scalar(a->attn_scale), "rope_local_base_freq",
			real(a->rope_local.base), "final_logit_softcapping", "attn_logit_softcapping");
		break;
	}
	if (!c || !shape || !own || json_object_update(c, shape) < 0 || json_object_update(c, own) < 0) {
		json_decref(c);
		c = NULL;
	}
	json_decref(shape);
	json_decref(own);
	return c;
}
