#include "common/model/arch.h"

#include <limits.h>
#include <math.h>
#include <string.h>

/* config.json, as transformers reads it: absent keys have the defaults of its
 * configuration classes (4.57), and every key that would change what the model
 * computes is either honoured here or refused by name. */

static const char where[] = "config.json";

/* -1: must be there. G 0: one for each head; D 0: the width divided by the heads. */
static const struct family {
	const char *model_type;
	int C, F, L, H, G, D, V, context;
	double theta, eps;
	int32_t bos, eos;
	kf_act act;
	bool gemma;
} defaults[KF_FAMILIES] = {
	[KF_FAMILY_LLAMA] = { "llama", -1, -1, -1, -1, 0, 0, -1, 2048, 1e4, 1e-6, 1, 2, KF_ACT_SILU, false },
	[KF_FAMILY_QWEN2] = { "qwen2", -1, -1, -1, -1, 32, 0, -1, 32768, 1e4, 1e-6, -1, -1, KF_ACT_SILU, false },
	[KF_FAMILY_GEMMA3] = { "gemma3_text", 2304, 9216, 26, 8, 4, 256, 262208, 131072, 1e6, 1e-6, 2, 1, KF_ACT_GELU_TANH, true },
	[KF_FAMILY_MISTRAL] = { "mistral", -1, -1, -1, -1, 8, 0, -1, 131072, 1e4, 1e-6, 1, 2, KF_ACT_SILU, false },
	[KF_FAMILY_QWEN3] = { "qwen3", -1, -1, -1, -1, 32, 128, -1, 32768, 1e4, 1e-6, -1, -1, KF_ACT_SILU, false },
	[KF_FAMILY_GEMMA2] = { "gemma2", 2304, 9216, 26, 8, 4, 256, 256000, 8192, 1e4, 1e-6, 2, 1, KF_ACT_GELU_TANH, true },
	[KF_FAMILY_GPT_NEOX] = { "gpt_neox", -1, -1, -1, -1, 0, 0, -1, 2048, 1e4, 1e-5, 0, 2, KF_ACT_GELU, false },
	[KF_FAMILY_MPT] = { "mpt", -1, -1, -1, -1, 0, 0, -1, 2048, 1e4, 1e-5, -1, -1, KF_ACT_GELU, false },
	[KF_FAMILY_INTERNLM2] = { "internlm2", -1, -1, -1, -1, 0, 0, -1, 2048, 1e4, 1e-6, 1, 2, KF_ACT_SILU, false },
	[KF_FAMILY_MIXTRAL] = { "mixtral", -1, -1, -1, -1, 8, 0, -1, 131072, 1e6, 1e-5, 1, 2, KF_ACT_SILU, false },
};

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
	else if (!strcmp(s, "gelu_pytorch_tanh") || !strcmp(s, "gelu_new") || !strcmp(s, "gelu_fast"))
		*out = KF_ACT_GELU_TANH;
	else if (!strcmp(s, "gelu")) *out = KF_ACT_GELU;
	else
		return kf_fail(err, KF_EUNSUPPORTED,
			"%s: \"%s\": \"%s\" is not supported; silu, gelu and gelu_pytorch_tanh are", where, key, s);
	return KF_OK;
}

/* ---- what we would not honour ---- */

/* A key that must be absent, null, false, empty, or this number. */
static kf_status refuse(const json_t *c, const char *key, double harmless, kf_err *err)
{
	const json_t *v = get(c, key);

	if (!v || json_is_false(v) || (json_is_number(v) && json_number_value(v) == harmless) ||
		(json_is_object(v) && !json_object_size(v)) || (json_is_array(v) && !json_array_size(v)))
		return KF_OK;
	return kf_fail(
		err, KF_EUNSUPPORTED, "%s: \"%s\" changes what the model computes and is not supported", where, key);
}

/* family: bit of each family in which the key is honoured, or known to say nothing. */
static kf_status refuse_all(const json_t *c, unsigned families, kf_err *err)
{
	static const struct { const char *key; double harmless; unsigned known; } keys[] = {
		{ "quantization_config", NAN, 0 }, { "compression_config", NAN, 0 },
		{ "attn_logit_softcapping", NAN, 1u << KF_FAMILY_GEMMA2 }, { "final_logit_softcapping", NAN, 1u << KF_FAMILY_GEMMA2 | 1u << KF_FAMILY_GEMMA3 },
		{ "partial_rotary_factor", 1, 1u << KF_FAMILY_GPT_NEOX } /* rotary_pct counts */, { "rotary_pct", 1, 1u << KF_FAMILY_GPT_NEOX },
		{ "use_bidirectional_attention", NAN, 0 }, { "use_mrope", NAN, 0 }, { "vision_config", NAN, 0 },
		{ "num_experts", 0, 0 }, { "num_local_experts", 0, 1u << KF_FAMILY_MIXTRAL }, { "n_routed_experts", 0, 0 },
		{ "logit_scale", 1, 0 }, { "logits_scaling", 1, 0 }, { "embedding_multiplier", 1, 0 },
		{ "residual_multiplier", 1, 0 }, { "attention_multiplier", NAN, 0 }, { "clip_qkv", NAN, 0 }, { "alibi", NAN, 0 },
		{ "qk_layernorm", NAN, 0 }, { "use_qk_norm", NAN, 0 }, { "attention_chunk_size", NAN, 0 },
		{ "no_rope_layers", NAN, 0 }, { "attn_output_gate", NAN, 0 }, { "rope_interleaved", NAN, 0 }, { "pruned_heads", NAN, 0 },
		{ "is_encoder_decoder", NAN, 0 }, { "add_cross_attention", NAN, 0 },
	};
	kf_status rc = KF_OK;

	for (size_t i = 0; i < sizeof keys / sizeof *keys && rc == KF_OK; i++)
		if (!(keys[i].known & families)) rc = refuse(c, keys[i].key, keys[i].harmless, err);
	return rc;
}

/* ---- rotary positions ---- */

/* LongRoPE's divisors, one a frequency. */
static kf_status get_divisors(const json_t *s, const char *key, int n, float *out, kf_err *err)
{
	const json_t *list = get(s, key);

	if (!json_is_array(list) || json_array_size(list) != (size_t)n || n > KF_MAX_LONGROPE)
		return kf_fail(err, n > KF_MAX_LONGROPE ? KF_EUNSUPPORTED : KF_EDATA,
			"%s: \"%s\" is not one number for each of the %d frequencies, at most %d", where, key, n, KF_MAX_LONGROPE);
	for (int i = 0; i < n; i++) {
		const json_t *v = json_array_get(list, (size_t)i);
		if (!json_is_number(v)) return kf_fail(err, KF_EDATA, "%s: \"%s\" holds what is no number", where, key);
		out[i] = (float)json_number_value(v);
	}
	return KF_OK;
}

static double yarn_scale(double factor, double m) { return factor <= 1 ? 1 : 0.1 * m * log(factor) + 1; }

static kf_status get_yarn(const json_t *s, const kf_arch *a, kf_rope *r, kf_err *err)
{
	double slow, fast, original, m, all, scale;
	kf_status rc;

	if ((rc = get_real(s, "beta_slow", 1, &slow, err)) != KF_OK || (rc = get_real(s, "beta_fast", 32, &fast, err)) != KF_OK ||
		(rc = get_real(s, "original_max_position_embeddings", a->context, &original, err)) != KF_OK ||
		(rc = get_real(s, "mscale", 0, &m, err)) != KF_OK || (rc = get_real(s, "mscale_all_dim", 0, &all, err)) != KF_OK ||
		(rc = get_bool(s, "truncate", true, &r->truncate, err)) != KF_OK)
		return rc;
	scale = m != 0 && all != 0 ? yarn_scale(r->factor, m) / yarn_scale(r->factor, all) : yarn_scale(r->factor, 1);
	if ((rc = get_real(s, "attention_factor", scale, &scale, err)) != KF_OK) return rc;
	r->low_freq = (float)(slow != 0 ? slow : 1);
	r->high_freq = (float)(fast != 0 ? fast : 32);
	r->original_context = (float)(original != 0 ? original : a->context);
	r->scale = (float)scale;
	return KF_OK;
}

/* The context before stretching stands outside of the scaling object, and with it the factor follows; in the newer form, inside, and
 * a factor that is there makes the scale. */
static kf_status get_longrope(const json_t *c, const json_t *s, bool newer, const kf_arch *a, kf_rope *r, kf_err *err)
{
	const bool inside = newer && get(s, "original_max_position_embeddings");
	double factor, stretch, scale;
	int original = 0;
	kf_status rc;

	if ((rc = get_int(inside ? s : c, "original_max_position_embeddings", 0, &original, err)) != KF_OK) return rc;
	factor = original ? (double)a->context / original : NAN;
	stretch = factor;
	if ((!original || inside) && (rc = get_real(s, "factor", factor, &stretch, err)) != KF_OK) return rc;
	if (!original) {
		original = a->context;
		factor = stretch;
	}
	scale = stretch <= 1 ? 1 : sqrt(1 + log(stretch) / log(original));
	if ((rc = get_real(s, "attention_factor", scale, &scale, err)) != KF_OK ||
		(rc = get_divisors(s, "short_factor", a->R / 2, r->shorter, err)) != KF_OK ||
		(rc = get_divisors(s, "long_factor", a->R / 2, r->longer, err)) != KF_OK)
		return rc;
	r->factor = (float)factor;
	r->original_context = (float)original;
	r->scale = (float)scale;
	return KF_OK;
}

/* The scaling object: "rope_scaling", or (its newer form, with rope_theta in it) "rope_parameters". */
static kf_status get_scaling(const json_t *c, const json_t *s, const char *key, const kf_arch *a, kf_rope *r, kf_err *err)
{
	static const char *const types[] = { [KF_ROPE_PLAIN] = "default", [KF_ROPE_LINEAR] = "linear",
		[KF_ROPE_LLAMA3] = "llama3", [KF_ROPE_DYNAMIC] = "dynamic", [KF_ROPE_YARN] = "yarn", [KF_ROPE_LONGROPE] = "longrope" };
	const json_t *type = get(s, "rope_type");
	const char *name;
	double factor = 1, low = 1, high = 4, original = 8192;
	size_t kind = 0;
	kf_status rc;

	if (!json_is_object(s)) return kf_fail(err, KF_EDATA, "%s: \"%s\" is no object", where, key);
	if (!type) type = get(s, "type");
	if (!(name = json_string_value(type)))
		return kf_fail(err, KF_EDATA, "%s: \"%s\" does not say its \"rope_type\"", where, key);
	if ((rc = refuse(s, "partial_rotary_factor", 1, err)) != KF_OK) return rc;
	while (kind < sizeof types / sizeof *types && strcmp(name, types[kind]) != 0) kind++;
	if (kind == sizeof types / sizeof *types)
		return kf_fail(err, KF_EUNSUPPORTED,
			"%s: \"%s\" of type \"%s\" is not supported; default, linear, dynamic, llama3, yarn and longrope are",
			where, key, name);
	r->kind = (kf_rope_kind)kind;
	if (r->kind == KF_ROPE_PLAIN) return KF_OK;
	if (r->kind == KF_ROPE_LONGROPE) return get_longrope(c, s, strcmp(key, "rope_parameters") == 0, a, r, err);
	if ((rc = get_real(s, "factor", NAN, &factor, err)) != KF_OK) return rc;
	r->factor = (float)factor;
	if (r->kind == KF_ROPE_YARN) return get_yarn(s, a, r, err);
	if (r->kind == KF_ROPE_DYNAMIC) r->original_context = (float)a->context;
	if (r->kind == KF_ROPE_LLAMA3) {
		if ((rc = get_real(s, "low_freq_factor", NAN, &low, err)) != KF_OK ||
			(rc = get_real(s, "high_freq_factor", NAN, &high, err)) != KF_OK ||
			(rc = get_real(s, "original_max_position_embeddings", NAN, &original, err)) != KF_OK)
			return rc;
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
	bool gemma3 = a->family == KF_FAMILY_GEMMA3;
	const char *base = a->family == KF_FAMILY_GPT_NEOX ? "rotary_emb_base" : "rope_theta";
	const json_t *p = get(c, "rope_parameters"), *s = get(c, "rope_scaling"), *full = p, *local = p;
	kf_status rc;

	if (!a->R) return KF_OK;
	if (p && s)
		return kf_fail(
			err, KF_EUNSUPPORTED, "%s: has both \"rope_scaling\" and \"rope_parameters\"; keep one", where);
	if (p && gemma3) {
		full = get(p, "full_attention");
		local = get(p, "sliding_attention");
		if (!full || !local)
			return kf_fail(err, KF_EUNSUPPORTED,
				"%s: \"rope_parameters\" of this family needs \"full_attention\" and "
				"\"sliding_attention\"",
				where);
	}
	if (p) {
		if ((rc = get_scaling(c, full, "rope_parameters", a, &a->rope, err)) != KF_OK ||
			(rc = get_theta(full, "rope_theta", NAN, &a->rope.base, err)) != KF_OK) return rc;
	} else {
		if ((rc = get_theta(c, base, defaults[a->family].theta, &a->rope.base, err)) != KF_OK ||
			(s && (rc = get_scaling(c, s, "rope_scaling", a, &a->rope, err)) != KF_OK)) return rc;
	}
	a->rope_local = a->rope;
	if (!gemma3) return KF_OK;
	/* Gemma 3's windowed layers have a base of their own and no scaling; the newer form could give them one. */
	a->rope_local = (kf_rope){ .kind = KF_ROPE_PLAIN };
	if (!p) return get_theta(c, "rope_local_base_freq", 1e4, &a->rope_local.base, err);
	if ((rc = get_scaling(c, local, "rope_parameters", a, &a->rope_local, err)) != KF_OK) return rc;
	/* kf_arch_to_config could not say it: transformers 4 reads no key for it */
	if (a->rope_local.kind != KF_ROPE_PLAIN)
		return kf_fail(err, KF_EUNSUPPORTED,
			"%s: \"sliding_attention\" of \"rope_parameters\" with a \"rope_type\" other than \"default\" is not supported", where);
	return get_theta(local, "rope_theta", NAN, &a->rope_local.base, err);
}

/* ---- windows ---- */

/* All layers have the window, when there is one (Mistral, Mixtral). */
static kf_status get_one_window(const json_t *c, kf_arch *a, kf_err *err)
{
	int absent = a->family == KF_FAMILY_MISTRAL ? 4096 : 0;
	kf_status rc;

	if (!json_is_null(json_object_get(c, "sliding_window")) &&
		(rc = get_int(c, "sliding_window", absent, &a->window, err)) != KF_OK)
		return rc;
	memset(a->windowed, a->window > 0, (size_t)a->L);
	return KF_OK;
}

/* layer_types when it is there, else what the family's class would make. */
static kf_status get_windows(const json_t *c, kf_arch *a, kf_err *err)
{
	const json_t *types = get(c, "layer_types");
	const bool null = json_is_null(json_object_get(c, "sliding_window")); /* none; absent is another thing */
	bool gemma = defaults[a->family].gemma, use = gemma, any = false;
	int pattern = a->family == KF_FAMILY_GEMMA2 ? 2 : 6, from = 28;
	kf_status rc;

	if (a->family == KF_FAMILY_MISTRAL || a->family == KF_FAMILY_MIXTRAL) return get_one_window(c, a, err);
	/* The other classes know no window, whatever the file says. */
	if (!gemma && a->family != KF_FAMILY_QWEN2 && a->family != KF_FAMILY_QWEN3) return KF_OK;
	if (!gemma && (rc = get_bool(c, "use_sliding_window", false, &use, err)) != KF_OK) return rc;
	if (use && (rc = get_int(c, "sliding_window", 4096, &a->window, err)) != KF_OK) return rc;
	if ((a->family == KF_FAMILY_GEMMA3 && (rc = get_int(c, "sliding_window_pattern", 6, &pattern, err)) != KF_OK) ||
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
			a->windowed[l] = gemma ? (l + 1) % pattern != 0 : use && !null && l >= from;
		}
		any = any || a->windowed[l];
	}
	if (any && !use)
		return kf_fail(err, KF_EUNSUPPORTED,
			"%s: \"layer_types\" has sliding windows where \"use_sliding_window\" is false", where);
	if (any && null)
		return kf_fail(err, KF_EUNSUPPORTED, "%s: some layers have sliding windows where \"sliding_window\" is null", where);
	if (!any) a->window = 0;
	return KF_OK;
}

/* ---- the whole ---- */

static kf_status get_family(const json_t *c, kf_family *out, kf_err *err)
{
	const char *type = json_string_value(get(c, "model_type"));

	if (!type) return kf_fail(err, KF_EDATA, "%s lacks \"model_type\"", where);
	for (int f = 0; f < KF_FAMILIES; f++) {
		if (strcmp(type, defaults[f].model_type) != 0) continue;
		*out = (kf_family)f;
		return KF_OK;
	}
	return kf_fail(err, KF_EUNSUPPORTED,
		"%s: model_type \"%s\" is not supported; llama, mistral, mixtral, qwen2, qwen3, gemma2, gemma3_text, "
		"internlm2, gpt_neox and mpt are", where, type);
}

static kf_status get_shape(const json_t *c, kf_arch *a, kf_err *err)
{
	const struct family *d = &defaults[a->family];
	bool divided;  /* heads are equal parts of the width, whatever the file says of head_dim */
	kf_status rc;

	if ((rc = get_int(c, "hidden_size", d->C, &a->C, err)) != KF_OK ||
		(rc = get_int(c, "intermediate_size", d->F, &a->F, err)) != KF_OK ||
		(rc = get_int(c, "num_hidden_layers", d->L, &a->L, err)) != KF_OK ||
		(rc = get_int(c, "num_attention_heads", d->H, &a->H, err)) != KF_OK ||
		(rc = get_int(c, "vocab_size", d->V, &a->V, err)) != KF_OK ||
		(rc = get_int(c, "max_position_embeddings", d->context, &a->context, err)) != KF_OK)
		return rc;
	/* Null means one for each head; absent has meant other things in other classes. */
	if (a->family == KF_FAMILY_GPT_NEOX || (json_is_null(json_object_get(c, "num_key_value_heads")) && !d->gemma)) a->G = a->H;
	else if ((rc = get_int(c, "num_key_value_heads", d->G ? d->G : a->H, &a->G, err)) != KF_OK)
		return rc;
	if (a->L < 1 || a->L > KF_MAX_LAYERS)
		return kf_fail(
			err, KF_EDATA, "%s: \"num_hidden_layers\" is %d, not 1 to %d", where, a->L, KF_MAX_LAYERS);
	if (a->H < 1) return kf_fail(err, KF_EDATA, "%s: \"num_attention_heads\" is 0", where);
	a->D = d->D ? d->D : a->C / a->H;
	divided = a->family == KF_FAMILY_GPT_NEOX || a->family == KF_FAMILY_INTERNLM2;
	if (divided) {
		if ((rc = refuse(c, "head_dim", a->C / a->H, err)) != KF_OK) return rc;
	} else if ((rc = get_int(c, "head_dim", a->D, &a->D, err)) != KF_OK) {
		return rc;
	}
	if ((divided || (!d->D && !get(c, "head_dim"))) && a->C % a->H)
		return kf_fail(err, KF_EDATA, "%s: \"hidden_size\" %d is no multiple of \"num_attention_heads\" %d",
			where, a->C, a->H);
	a->R = a->D;
	return KF_OK;
}

/* MPT has names of its own for everything. Its class in transformers has ALiBi up to 2^-8, no biases and an MLP of
 * four times the width, whatever the file says; where the file says otherwise, the file was not made for it. */
static kf_status get_mpt(const json_t *c, kf_arch *a, kf_err *err)
{
	static const struct { const char *key; double harmless; } off[] = {
		{ "clip_qkv", NAN }, { "qk_ln", NAN }, { "qk_gn", NAN }, { "prefix_lm", NAN }, { "attn_uses_sequence_id", NAN },
		{ "rope", NAN }, { "sliding_window_size", -1 }, { "attn_logit_softcapping", NAN },
	};
	const json_t *attn = get(c, "attn_config"), *type = get(attn, "attn_type");
	const char *norm = json_string_value(get(c, "norm_type")), *ffn = json_string_value(get(get(c, "ffn_config"), "ffn_type"));
	bool alibi, no_bias;
	int ratio = 4, most = 8;
	double eps, scale;
	kf_status rc;

	if (attn && !json_is_object(attn)) return kf_fail(err, KF_EDATA, "%s: \"attn_config\" is no object", where);
	for (size_t i = 0; i < sizeof off / sizeof *off; i++)
		if ((rc = kf_context(err, refuse(attn, off[i].key, off[i].harmless, err), "attn_config")) != KF_OK) return rc;
	if (type && strcmp(json_string_value(type) ? json_string_value(type) : "", "multihead_attention") != 0)
		return kf_fail(err, KF_EUNSUPPORTED, "%s: \"attn_type\" other than \"multihead_attention\" is not supported", where);
	if (norm && !strstr(norm, "layernorm"))
		return kf_fail(err, KF_EUNSUPPORTED, "%s: \"norm_type\": \"%s\" is not supported; layernorm is", where, norm);
	if (ffn && strcmp(ffn, "mptmlp") != 0)
		return kf_fail(err, KF_EUNSUPPORTED, "%s: \"ffn_type\": \"%s\" is not supported; mptmlp is", where, ffn);
	if ((rc = get_int(c, "d_model", 2048, &a->C, err)) != KF_OK || (rc = get_int(c, "n_heads", 16, &a->H, err)) != KF_OK ||
		(rc = get_int(c, "n_layers", 24, &a->L, err)) != KF_OK || (rc = get_int(c, "vocab_size", 50368, &a->V, err)) != KF_OK ||
		(rc = get_int(c, "max_seq_len", 2048, &a->context, err)) != KF_OK ||
		(rc = get_int(c, "expansion_ratio", 4, &ratio, err)) != KF_OK ||
		(rc = get_int(attn, "alibi_bias_max", 8, &most, err)) != KF_OK ||
		(rc = get_bool(attn, "alibi", true, &alibi, err)) != KF_OK ||
		(rc = get_bool(c, "no_bias", true, &no_bias, err)) != KF_OK ||
		(rc = get_real(c, "layer_norm_epsilon", 1e-5, &eps, err)) != KF_OK ||
		(rc = get_bool(c, "tie_word_embeddings", true, &a->tied, err)) != KF_OK ||
		(rc = get_token(c, "bos_token_id", -1, &a->bos, err)) != KF_OK ||
		(rc = get_token(c, "eos_token_id", -1, &a->eos, err)) != KF_OK)
		return rc;
	/* other names, which transformers takes too */
	const struct { const char *key; int value; } alias[] = {
		{ "hidden_size", a->C }, { "num_hidden_layers", a->L }, { "num_attention_heads", a->H } };
	for (size_t i = 0; i < sizeof alias / sizeof *alias; i++) {
		int v;
		if ((rc = get_int(c, alias[i].key, alias[i].value, &v, err)) != KF_OK) return rc;
		if (v != alias[i].value)
			return kf_fail(err, KF_EDATA, "%s: \"%s\" is %d, but by its name for mpt it is %d", where, alias[i].key, v, alias[i].value);
	}
	if (!alibi || !no_bias)
		return kf_fail(err, KF_EUNSUPPORTED, "%s: \"%s\" other than true is not supported for mpt", where,
			alibi ? "no_bias" : "alibi");
	if (ratio != 4 || most != 8)
		return kf_fail(err, KF_EUNSUPPORTED, "%s: \"%s\" other than %d is not supported for mpt", where,
			ratio != 4 ? "expansion_ratio" : "alibi_bias_max", ratio != 4 ? 4 : 8);
	if (a->H < 1 || a->C % a->H)
		return kf_fail(err, KF_EDATA, "%s: \"d_model\" %d is no multiple of \"n_heads\" %d", where, a->C, a->H);
	if (a->L < 1 || a->L > KF_MAX_LAYERS)
		return kf_fail(err, KF_EDATA, "%s: \"n_layers\" is %d, not 1 to %d", where, a->L, KF_MAX_LAYERS);
	if (a->C > 1 << 20)
		return kf_fail(err, KF_EDATA, "%s: \"d_model\" %d makes no sense", where, a->C);
	a->G = a->H;
	a->D = a->C / a->H;
	a->F = 4 * a->C;
	a->alibi = (float)most;
	a->norm_eps = (float)eps;
	a->layer_norm = a->plain_mlp = true;
	a->qkv = KF_QKV_FUSED;
	a->act = KF_ACT_GELU;
	if ((rc = get_real(attn, "softmax_scale", 1 / sqrt(a->D), &scale, err)) != KF_OK) return rc;
	a->attn_scale = (float)scale;
	return KF_OK;
}

static kf_status get_neox(const json_t *c, kf_arch *a, kf_err *err)
{
	double eps, share;
	kf_status rc;

	if ((rc = get_real(c, "layer_norm_eps", 1e-5, &eps, err)) != KF_OK ||
		(rc = get_real(c, "rotary_pct", 0.25, &share, err)) != KF_OK ||
		(rc = get_bool(c, "use_parallel_residual", true, &a->parallel, err)) != KF_OK)
		return rc;
	if (!(share > 0) || share > 1) return kf_fail(err, KF_EDATA, "%s: \"rotary_pct\" is %g, not in (0, 1]", where, share);
	a->norm_eps = (float)eps;
	a->R = (int)(a->D * share);
	if (!a->R || a->R % 2)
		return kf_fail(err, KF_EDATA, "%s: \"rotary_pct\" %g of a head of %d turns %d floats, not a pair or several", where, share, a->D, a->R);
	a->layer_norm = a->norm_bias = a->plain_mlp = a->mlp_bias = true;
	a->qkv = KF_QKV_GROUPED;
	return KF_OK;
}

/* null: none. */
static kf_status get_cap(const json_t *c, const char *key, double absent, float *out, kf_err *err)
{
	double cap;
	kf_status rc = get_real(c, key, json_is_null(json_object_get(c, key)) ? 0 : absent, &cap, err);

	*out = (float)cap;
	return rc;
}

static kf_status get_gemma(const json_t *c, kf_arch *a, kf_err *err)
{
	bool second = a->family == KF_FAMILY_GEMMA2;
	double scalar;
	kf_status rc;

	if ((rc = get_real(c, "query_pre_attn_scalar", 256, &scalar, err)) != KF_OK) return rc;
	a->attn_scale = scalar > 0 ? (float)(1 / sqrt(scalar)) : 0;
	a->norm_plus_one = a->post_norms = true;
	a->qk_norm = !second;
	a->embed_scale = (float)sqrt(a->C);
	if ((rc = get_cap(c, "attn_logit_softcapping", second ? 50 : 0, &a->attn_cap, err)) != KF_OK) return rc;
	return get_cap(c, "final_logit_softcapping", second ? 30 : 0, &a->logit_cap, err);
}

/* What is left to one family or another. */
static kf_status get_own(const json_t *c, kf_arch *a, kf_err *err)
{
	const char *key = a->family == KF_FAMILY_INTERNLM2 ? "bias" : "attention_bias";
	bool bias, everywhere = a->family == KF_FAMILY_INTERNLM2 || a->family == KF_FAMILY_GPT_NEOX;
	kf_status rc;

	if ((rc = get_bool(c, key, everywhere, &bias, err)) != KF_OK) return rc;
	switch (a->family) {
	case KF_FAMILY_QWEN2: a->qkv_bias = true; break; /* and nowhere else, whatever the file says */
	case KF_FAMILY_MISTRAL:
	case KF_FAMILY_MIXTRAL: break;                   /* none */
	default: a->qkv_bias = a->o_bias = bias;
	}
	switch (a->family) {
	case KF_FAMILY_LLAMA: return get_bool(c, "mlp_bias", false, &a->mlp_bias, err);
	case KF_FAMILY_QWEN3: a->qk_norm = true; return KF_OK;
	case KF_FAMILY_GEMMA2:
	case KF_FAMILY_GEMMA3: return get_gemma(c, a, err);
	case KF_FAMILY_GPT_NEOX: return get_neox(c, a, err);
	case KF_FAMILY_INTERNLM2: a->qkv = KF_QKV_GROUPED; return KF_OK;
	case KF_FAMILY_MIXTRAL:
		if ((rc = get_int(c, "num_local_experts", 8, &a->experts, err)) != KF_OK) return rc;
		if (a->experts < 2) return kf_fail(err, KF_EDATA, "%s: \"num_local_experts\" is %d", where, a->experts);
		return get_int(c, "num_experts_per_tok", 2, &a->experts_used, err);
	default: return KF_OK;
	}
}

/* Gemma 3's outer configuration wraps the text model's; with a vision model it is another thing. */
static kf_status unwrap(const json_t **c, kf_err *err)
{
	const char *type = json_string_value(get(*c, "model_type"));
	const json_t *text = get(*c, "text_config");
	kf_status rc;

	if (!type || strcmp(type, "gemma3") != 0) return KF_OK;
	if ((rc = refuse_all(*c, 0, err)) != KF_OK) return rc;
	if (!json_is_object(text))
		return kf_fail(err, KF_EDATA, "%s: model_type \"gemma3\" without \"text_config\"", where);
	*c = text;
	return KF_OK;
}

static kf_status get_all(const json_t *c, kf_arch *a, kf_err *err)
{
	const struct family *d = &defaults[a->family];
	double eps;
	kf_status rc;

	if (a->family == KF_FAMILY_MPT) return get_mpt(c, a, err);
	if ((rc = get_shape(c, a, err)) != KF_OK || (rc = get_real(c, "rms_norm_eps", d->eps, &eps, err)) != KF_OK ||
		(rc = get_bool(c, "tie_word_embeddings", d->gemma, &a->tied, err)) != KF_OK ||
		(rc = get_act(c, d->gemma ? "hidden_activation" : "hidden_act", d->act, &a->act, err)) != KF_OK ||
		(rc = get_token(c, "bos_token_id", d->bos, &a->bos, err)) != KF_OK ||
		(rc = get_token(c, "eos_token_id", d->eos, &a->eos, err)) != KF_OK)
		return rc;
	a->norm_eps = (float)eps;
	a->attn_scale = a->D > 0 ? (float)(1 / sqrt(a->D)) : 0;
	if ((rc = get_own(c, a, err)) != KF_OK || (rc = get_rope(c, a, err)) != KF_OK) return rc;
	return get_windows(c, a, err);
}

kf_status kf_arch_from_config(const json_t *config, kf_arch *out, kf_err *err)
{
	const json_t *c = config;
	kf_arch a = { .embed_scale = 1 };
	kf_status rc;

	if (!json_is_object(c)) return kf_fail(err, KF_EDATA, "%s holds no JSON object", where);
	if ((rc = unwrap(&c, err)) != KF_OK || (rc = get_family(c, &a.family, err)) != KF_OK ||
		(rc = refuse_all(c, 1u << a.family, err)) != KF_OK || (rc = get_all(c, &a, err)) != KF_OK ||
		(rc = kf_arch_check(&a, where, err)) != KF_OK)
		return rc;
	*out = a;
	return KF_OK;
}
