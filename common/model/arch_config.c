#include "common/model/arch.h"

#include <limits.h>
#include <math.h>
#include <string.h>

/* config.json, as transformers reads it: absent keys have the defaults of its
 * configuration classes (4.57), and every key that would change what the model
 * computes is either honoured here or refused by name. */

static const char where[] = "config.json";

static const json_t *get(const json_t *c, const char *key)
{
	const json_t *v = json_object_get(c, key);

	return v && !json_is_null(v) ? v : NULL;
}

/* ---- typed reads ---- */

/* absent < 0: the key must be there. */
static kf_status get_int(const json_t *c, const char *key, int absent, int *out, kf_err *err)
{
	const json_t *v = get(c, key);
	json_int_t i;

	if (!v) {
		if (absent < 0) return kf_fail(err, KF_EDATA, "%s lacks \"%s\"", where, key);
		*out = absent;
		return KF_OK;
	}
	if (!json_is_integer(v)) return kf_fail(err, KF_EDATA, "%s: \"%s\" is no whole number", where, key);
	i = json_integer_value(v);
	if (i < 0 || i > INT_MAX)
		return kf_fail(err, KF_EDATA, "%s: \"%s\" is %lld, which is out of range", where, key, (long long)i);
	*out = (int)i;
	return KF_OK;
}

static kf_status get_real(const json_t *c, const char *key, double absent, double *out, kf_err *err)
{
	const json_t *v = get(c, key);

	*out = absent;
	if (!v) return isnan(absent) ? kf_fail(err, KF_EDATA, "%s lacks \"%s\"", where, key) : KF_OK;
	if (!json_is_number(v)) return kf_fail(err, KF_EDATA, "%s: \"%s\" is no number", where, key);
	*out = json_number_value(v);
	return KF_OK;
}

static kf_status get_bool(const json_t *c, const char *key, bool absent, bool *out, kf_err *err)
{
	const json_t *v = get(c, key);

	*out = absent;
	if (!v) return KF_OK;
	if (!json_is_boolean(v))
		return kf_fail(err, KF_EDATA, "%s: \"%s\" is neither true nor false", where, key);
	*out = json_is_true(v);
	return KF_OK;
}

/* One id, or the first of several. Absent: the class's default; null: none. */
static kf_status get_token(const json_t *c, const char *key, int32_t absent, int32_t *out, kf_err *err)
{
	const json_t *v = json_object_get(c, key);
	json_int_t i;

	*out = v ? -1 : absent;
	if (json_is_array(v)) v = json_array_get(v, 0);
	if (!v || json_is_null(v)) return KF_OK;
	if (!json_is_integer(v)) return kf_fail(err, KF_EDATA, "%s: \"%s\" is no token id", where, key);
	i = json_integer_value(v);
	if (i > INT32_MAX)
		return kf_fail(err, KF_EDATA, "%s: \"%s\" is %lld, which is no token id", where, key, (long long)i);
	*out = i < 0 ? -1 : (int32_t)i;
	return KF_OK;
}

static kf_status get_act(const json_t *c, const char *key, kf_act absent, kf_act *out, kf_err *err)
{
	const json_t *v = get(c, key);
	const char *s = json_string_value(v);

	*out = absent;
	if (!v) return KF_OK;
	if (!s) return kf_fail(err, KF_EDATA, "%s: \"%s\" is no string", where, key);
	if (!strcmp(s, "silu") || !strcmp(s, "swish")) *out = KF_ACT_SILU;
	else if (!strcmp(s, "gelu_pytorch_tanh") || !strcmp(s, "gelu_new")) *out = KF_ACT_GELU_TANH;
	else
		return kf_fail(err, KF_EUNSUPPORTED,
			"%s: \"%s\": \"%s\" is not supported; silu and gelu_pytorch_tanh are", where, key, s);
	return KF_OK;
}

/* ---- what we would not honour ---- */

/* A key that must be absent, null, false, or this number. */
static kf_status refuse(const json_t *c, const char *key, double harmless, kf_err *err)
{
	const json_t *v = get(c, key);

	if (!v || json_is_false(v) || (json_is_number(v) && json_number_value(v) == harmless)) return KF_OK;
	return kf_fail(
		err, KF_EUNSUPPORTED, "%s: \"%s\" changes what the model computes and is not supported", where, key);
}

static kf_status refuse_all(const json_t *c, kf_err *err)
{
	static const struct { const char *key; double harmless; } keys[] = {
		{ "quantization_config", NAN }, { "compression_config", NAN }, { "attn_logit_softcapping", NAN },
		{ "final_logit_softcapping", NAN }, { "partial_rotary_factor", 1 }, { "use_bidirectional_attention", NAN },
		{ "use_mrope", NAN }, { "vision_config", NAN }, { "num_experts", 0 }, { "num_local_experts", 0 },
		{ "logit_scale", 1 }, { "logits_scaling", 1 }, { "embedding_multiplier", 1 }, { "residual_multiplier", 1 },
		{ "attention_multiplier", NAN }, { "clip_qkv", NAN }, { "alibi", NAN },
	};
	kf_status rc = KF_OK;

	for (size_t i = 0; i < sizeof keys / sizeof *keys && rc == KF_OK; i++)
		rc = refuse(c, keys[i].key, keys[i].harmless, err);
	return rc;
}

/* ---- rotary positions ---- */

/* The scaling object: "rope_scaling", or (its newer form, with rope_theta in it) "rope_parameters". */
static kf_status get_scaling(const json_t *s, const char *key, kf_rope *r, kf_err *err)
{
	const json_t *type = get(s, "rope_type");
	const char *name;
	double factor = 1, low = 1, high = 4, original = 8192;
	kf_status rc;

	if (!json_is_object(s)) return kf_fail(err, KF_EDATA, "%s: \"%s\" is no object", where, key);
	if (!type) type = get(s, "type");
	if (!(name = json_string_value(type)))
		return kf_fail(err, KF_EDATA, "%s: \"%s\" does not say its \"rope_type\"", where, key);
	if ((rc = refuse(s, "partial_rotary_factor", 1, err)) != KF_OK) return rc;
	if (!strcmp(name, "default")) {
		r->kind = KF_ROPE_PLAIN;
		return KF_OK;
	}
	if (!strcmp(name, "linear")) r->kind = KF_ROPE_LINEAR;
	else if (!strcmp(name, "llama3")) r->kind = KF_ROPE_LLAMA3;
	else
		return kf_fail(err, KF_EUNSUPPORTED,
			"%s: \"%s\" of type \"%s\" is not supported; default, linear and llama3 are", where, key, name);
	if ((rc = get_real(s, "factor", NAN, &factor, err)) != KF_OK) return rc;
	if (r->kind == KF_ROPE_LLAMA3 && ((rc = get_real(s, "low_freq_factor", NAN, &low, err)) != KF_OK ||
		(rc = get_real(s, "high_freq_factor", NAN, &high, err)) != KF_OK ||
		(rc = get_real(s, "original_max_position_embeddings", NAN, &original, err)) != KF_OK))
		return rc;
	r->factor = (float)factor;
	if (r->kind == KF_ROPE_LLAMA3) {
		r->low_freq = (float)low;
		r->high_freq = (float)high;
		r->original_context = (float)original;
	}
	return KF_OK;
}

static kf_status get_theta(const json_t *c, const char *key, double absent, float *out, kf_err *err)
{
	double v;
	kf_status rc = get_real(c, key, absent, &v, err);

	*out = (float)v;
	return rc;
}

static kf_status get_rope(const json_t *c, kf_arch *a, kf_err *err)
{
	bool gemma = a->family == KF_FAMILY_GEMMA3;
	double theta = gemma ? 1e6 : 1e4;
	const json_t *p = get(c, "rope_parameters"), *s = get(c, "rope_scaling"), *full = p, *local = p;
	kf_status rc;

	if (p && s)
		return kf_fail(
			err, KF_EUNSUPPORTED, "%s: has both \"rope_scaling\" and \"rope_parameters\"; keep one", where);
	if (p && gemma) {
		full = get(p, "full_attention");
		local = get(p, "sliding_attention");
		if (!full || !local)
			return kf_fail(err, KF_EUNSUPPORTED,
				"%s: \"rope_parameters\" of this family needs \"full_attention\" and "
				"\"sliding_attention\"",
				where);
	}
	if (p) {
		if ((rc = get_scaling(full, "rope_parameters", &a->rope, err)) != KF_OK ||
			(rc = get_theta(full, "rope_theta", NAN, &a->rope.base, err)) != KF_OK) return rc;
	} else {
		if ((rc = get_theta(c, "rope_theta", theta, &a->rope.base, err)) != KF_OK ||
			(s && (rc = get_scaling(s, "rope_scaling", &a->rope, err)) != KF_OK)) return rc;
	}
	a->rope_local = a->rope;
	if (!gemma) return KF_OK;
	/* Gemma's windowed layers have a base of their own and no scaling. */
	a->rope_local = (kf_rope){ .kind = KF_ROPE_PLAIN };
	if (!p) return get_theta(c, "rope_local_base_freq", 1e4, &a->rope_local.base, err);
	if ((rc = get_scaling(local, "rope_parameters", &a->rope_local, err)) != KF_OK) return rc;
	return get_theta(local, "rope_theta", NAN, &a->rope_local.base, err);
}

/* ---- windows ---- */

/* layer_types when it is there, else what the family's class would make. */
static kf_status get_windows(const json_t *c, kf_arch *a, kf_err *err)
{
	const json_t *types = get(c, "layer_types");
	bool gemma = a->family == KF_FAMILY_GEMMA3, use = gemma, any = false;
	int pattern = 6, from = 28;
	kf_status rc;

	if (a->family == KF_FAMILY_LLAMA) return KF_OK; /* its class knows no window, whatever the file says */
	if (!gemma && (rc = get_bool(c, "use_sliding_window", false, &use, err)) != KF_OK) return rc;
	if (use && (rc = get_int(c, "sliding_window", 4096, &a->window, err)) != KF_OK) return rc;
	if ((rc = get_int(c, "sliding_window_pattern", 6, &pattern, err)) != KF_OK ||
		(rc = get_int(c, "max_window_layers", 28, &from, err)) != KF_OK) return rc;
	if (gemma && pattern < 1) return kf_fail(err, KF_EDATA, "%s: \"sliding_window_pattern\" is 0", where);
	if (types && (!json_is_array(types) || json_array_size(types) != (size_t)a->L))
		return kf_fail(
			err, KF_EDATA, "%s: \"layer_types\" is not one entry for each of the %d layers", where, a->L);
	for (int l = 0; l < a->L; l++) {
		if (types) {
			const char *t = json_string_value(json_array_get(types, (size_t)l));
			if (!t || (strcmp(t, "sliding_attention") != 0 && strcmp(t, "full_attention") != 0))
				return kf_fail(err, KF_EUNSUPPORTED,
					"%s: \"layer_types\" has \"%s\" for layer %d, which is not supported", where,
					t ? t : "(no string)", l);
			a->windowed[l] = t[0] == 's';
		} else {
			a->windowed[l] = gemma ? (l + 1) % pattern != 0 : use && l >= from;
		}
		any = any || a->windowed[l];
	}
	if (any && !use)
		return kf_fail(err, KF_EUNSUPPORTED,
			"%s: \"layer_types\" has sliding windows where \"use_sliding_window\" is false", where);
	if (!any) a->window = 0;
	return KF_OK;
}

/* ---- the whole ---- */

static kf_status get_family(const json_t *c, kf_family *out, kf_err *err)
{
	const char *type = json_string_value(get(c, "model_type"));

	if (!type) return kf_fail(err, KF_EDATA, "%s lacks \"model_type\"", where);
	if (!strcmp(type, "llama")) *out = KF_FAMILY_LLAMA;
	else if (!strcmp(type, "qwen2")) *out = KF_FAMILY_QWEN2;
	else if (!strcmp(type, "gemma3_text")) *out = KF_FAMILY_GEMMA3;
	else
		return kf_fail(err, KF_EUNSUPPORTED,
			"%s: model_type \"%s\" is not supported; llama, qwen2 and gemma3_text are", where, type);
	return KF_OK;
}

static kf_status get_shape(const json_t *c, kf_arch *a, kf_err *err)
{
	bool gemma = a->family == KF_FAMILY_GEMMA3, qwen = a->family == KF_FAMILY_QWEN2;
	int context = gemma ? 131072 : qwen ? 32768 : 2048;
	kf_status rc;

	if ((rc = get_int(c, "hidden_size", gemma ? 2304 : -1, &a->C, err)) != KF_OK ||
		(rc = get_int(c, "intermediate_size", gemma ? 9216 : -1, &a->F, err)) != KF_OK ||
		(rc = get_int(c, "num_hidden_layers", gemma ? 26 : -1, &a->L, err)) != KF_OK ||
		(rc = get_int(c, "num_attention_heads", gemma ? 8 : -1, &a->H, err)) != KF_OK ||
		(rc = get_int(c, "vocab_size", gemma ? 262208 : -1, &a->V, err)) != KF_OK ||
		(rc = get_int(c, "max_position_embeddings", context, &a->context, err)) != KF_OK)
		return rc;
	/* Null means one for each head; absent has meant other things in other classes. */
	if (json_is_null(json_object_get(c, "num_key_value_heads")) && !gemma) a->G = a->H;
	else if ((rc = get_int(c, "num_key_value_heads", gemma ? 4 : qwen ? 32 : a->H, &a->G, err)) != KF_OK)
		return rc;
	if (a->L < 1 || a->L > KF_MAX_LAYERS)
		return kf_fail(
			err, KF_EDATA, "%s: \"num_hidden_layers\" is %d, not 1 to %d", where, a->L, KF_MAX_LAYERS);
	if (a->H < 1) return kf_fail(err, KF_EDATA, "%s: \"num_attention_heads\" is 0", where);
	if (!gemma && !get(c, "head_dim") && a->C % a->H)
		return kf_fail(err, KF_EDATA, "%s: \"hidden_size\" %d is no multiple of \"num_attention_heads\" %d",
			where, a->C, a->H);
	return get_int(c, "head_dim", gemma ? 256 : a->C / a->H, &a->D, err);
}

/* Gemma 3's outer configuration wraps the text model's; with a vision model it is another thing. */
static kf_status unwrap(const json_t **c, kf_err *err)
{
	const char *type = json_string_value(get(*c, "model_type"));
	const json_t *text = get(*c, "text_config");
	kf_status rc;

	if (!type || strcmp(type, "gemma3") != 0) return KF_OK;
	if ((rc = refuse_all(*c, err)) != KF_OK) return rc;
	if (!json_is_object(text))
		return kf_fail(err, KF_EDATA, "%s: model_type \"gemma3\" without \"text_config\"", where);
	*c = text;
	return KF_OK;
}

kf_status kf_arch_from_config(const json_t *config, kf_arch *out, kf_err *err)
{
	static const struct { int32_t bos, eos; } special[] = {
		[KF_FAMILY_LLAMA] = { 1, 2 }, [KF_FAMILY_QWEN2] = { -1, -1 }, [KF_FAMILY_GEMMA3] = { 2, 1 }
	};
	const json_t *c = config;
	kf_arch a = { .embed_scale = 1 };
	bool gemma, bias;
	double eps, scalar;
	kf_status rc;

	if (!json_is_object(c)) return kf_fail(err, KF_EDATA, "%s holds no JSON object", where);
	if ((rc = unwrap(&c, err)) != KF_OK) return rc;
	if ((rc = get_family(c, &a.family, err)) != KF_OK) return rc;
	if ((rc = refuse_all(c, err)) != KF_OK) return rc;
	if ((rc = get_shape(c, &a, err)) != KF_OK) return rc;
	gemma = a.family == KF_FAMILY_GEMMA3;
	if ((rc = get_real(c, "rms_norm_eps", 1e-6, &eps, err)) != KF_OK ||
		(rc = get_bool(c, "tie_word_embeddings", gemma, &a.tied, err)) != KF_OK ||
		(rc = get_act(c, gemma ? "hidden_activation" : "hidden_act", gemma ? KF_ACT_GELU_TANH : KF_ACT_SILU,
			 &a.act, err)) != KF_OK ||
		(rc = get_bool(c, "attention_bias", false, &bias, err)) != KF_OK ||
		(rc = get_bool(c, "mlp_bias", false, &a.mlp_bias, err)) != KF_OK ||
		(rc = get_token(c, "bos_token_id", special[a.family].bos, &a.bos, err)) != KF_OK ||
		(rc = get_token(c, "eos_token_id", special[a.family].eos, &a.eos, err)) != KF_OK ||
		(rc = get_rope(c, &a, err)) != KF_OK || (rc = get_windows(c, &a, err)) != KF_OK)
		return rc;
	a.norm_eps = (float)eps;
	a.attn_scale = a.D > 0 ? (float)(1 / sqrt(a.D)) : 0;
	/* Qwen2's class has biases on q, k and v and nowhere else, whatever the file says. */
	a.qkv_bias = a.family == KF_FAMILY_QWEN2 || bias;
	a.o_bias = a.family != KF_FAMILY_QWEN2 && bias;
	a.mlp_bias = a.family == KF_FAMILY_LLAMA && a.mlp_bias;
	if (gemma) {
		if ((rc = get_real(c, "query_pre_attn_scalar", 256, &scalar, err)) != KF_OK) return rc;
		a.attn_scale = scalar > 0 ? (float)(1 / sqrt(scalar)) : 0;
		a.norm_plus_one = a.post_norms = a.qk_norm = true;
		a.embed_scale = (float)sqrt(a.C);
	}
	if ((rc = kf_arch_check(&a, where, err)) != KF_OK) return rc;
	*out = a;
	return KF_OK;
}
