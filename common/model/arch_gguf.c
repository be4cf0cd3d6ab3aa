#include "common/model/gguf.h"

#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* The descriptor from GGUF metadata. Keys begin with the architecture's name;
 * every such key is either read here, known to change nothing, or refused. */

struct reader {
	const kf_gguf *g;
	const char *arch;
	kf_err *err;
	char key[192];
};

static const char *key_of(struct reader *r, const char *suffix)
{
	snprintf(r->key, sizeof r->key, "%s.%s", r->arch, suffix);
	return r->key;
}

static bool has(struct reader *r, const char *suffix)
{
	return kf_gguf_find(r->g, key_of(r, suffix)) != NULL;
}

/* absent < 0: the key must be there. */
static kf_status get_int(struct reader *r, const char *suffix, int64_t absent, int *out)
{
	int64_t v = absent;
	kf_status rc;

	if (absent < 0 || has(r, suffix)) {
		if ((rc = kf_gguf_int(r->g, key_of(r, suffix), 0, INT_MAX, &v, r->err)) != KF_OK)
			return rc == KF_ENOTFOUND
				? kf_fail(r->err, KF_EDATA, "%s: lacks the metadata entry %s", kf_gguf_path(r->g), r->key)
				: rc;
	}
	*out = (int)v;
	return KF_OK;
}

static kf_status get_real(struct reader *r, const char *suffix, double absent, float *out)
{
	double v = absent;
	kf_status rc;

	if (has(r, suffix) && (rc = kf_gguf_real(r->g, r->key, &v, r->err)) != KF_OK) return rc;
	*out = (float)v;
	return KF_OK;
}

static kf_status refuse(struct reader *r, const char *suffix, const char *why)
{
	return kf_fail(r->err, KF_EUNSUPPORTED, "%s: %s %s", kf_gguf_path(r->g), key_of(r, suffix), why);
}

/* ---- keys ---- */

static kf_status check_keys(struct reader *r)
{
	static const char *const known[] = {
		"block_count", "embedding_length", "feed_forward_length", "context_length", "vocab_size",
		"attention.head_count", "attention.head_count_kv", "attention.key_length", "attention.value_length",
		"attention.key_length_swa", "attention.value_length_swa", "attention.layer_norm_rms_epsilon",
		"attention.sliding_window", "attention.sliding_window_pattern", "attention.causal",
		"rope.freq_base", "rope.freq_base_swa", "rope.dimension_count", "rope.dimension_count_swa",
		"rope.scaling.type", "rope.scaling.factor", "rope.scaling.original_context_length", "rope.scaling.finetuned",
		"rope.scale_linear", "expert_count", "expert_used_count", "final_logit_softcapping", "attn_logit_softcapping",
		"tensor_data_layout", "attention.layer_norm_epsilon", "attention.max_alibi_bias", "attention.clamp_kqv",
		"use_parallel_residual", "attention.scale", "rope.scaling.attn_factor", "rope.scaling.yarn_ext_factor",
		"rope.scaling.yarn_attn_factor", "rope.scaling.yarn_beta_fast", "rope.scaling.yarn_beta_slow",
		"rope.scaling.yarn_log_multiplier",
	};
	size_t n = strlen(r->arch);

	for (int i = 0; i < kf_gguf_entries(r->g); i++) {
		const char *key = kf_gguf_entry_at(r->g, i)->key;
		bool found = false;

		if (strncmp(key, r->arch, n) != 0 || key[n] != '.') continue;
		for (size_t k = 0; k < sizeof known / sizeof *known && !found; k++)
			found = !strcmp(key + n + 1, known[k]);
		if (!found) return refuse(r, key + n + 1, "may change what the model computes and is not supported");
	}
	return KF_OK;
}

/* Keys that must be absent or have the one value we compute with. */
static kf_status check_values(struct reader *r, const kf_arch *a)
{
	static const char *const head_sizes[] = { "attention.value_length", "attention.key_length_swa",
		"attention.value_length_swa", "rope.dimension_count", "rope.dimension_count_swa" };
	static const char *const caps[] = { "final_logit_softcapping", "attn_logit_softcapping", "attention.clamp_kqv" };
	bool causal = true;
	float cap;
	int v;
	kf_status rc;

	for (size_t i = 0; i < sizeof head_sizes / sizeof *head_sizes; i++) {
		if (a->family == KF_FAMILY_GPT_NEOX && !strcmp(head_sizes[i], "rope.dimension_count")) continue;
		if ((rc = get_int(r, head_sizes[i], a->D, &v)) != KF_OK) return rc;
		if (v != a->D)
			return refuse(r, head_sizes[i], "differs from the size of a head, which is not supported");
	}
	for (size_t i = a->family == KF_FAMILY_GEMMA2 ? 2 : a->family == KF_FAMILY_GEMMA3; i < sizeof caps / sizeof *caps; i++) {
		if ((rc = get_real(r, caps[i], 0, &cap)) != KF_OK) return rc;
		if (cap != 0) return refuse(r, caps[i], "is not supported");
	}
	if ((rc = get_int(r, "expert_count", 0, &v)) != KF_OK) return rc;
	if (v > 0 && a->family != KF_FAMILY_MIXTRAL)
		return refuse(r, "expert_count", "means a mixture of experts, which is not supported for this architecture");
	if (has(r, "attention.causal") && (rc = kf_gguf_bool(r->g, r->key, &causal, r->err)) != KF_OK) return rc;
	if (!causal) return refuse(r, "attention.causal", "is false, which is not supported");
	return KF_OK;
}

/* ---- rotary positions ---- */

/* Llama 3.1 files carry its scaling as a tensor of one divisor a frequency. Find the parameters that give these
 * numbers (only the factor varies among published models); LongRoPE, with the same divisors at every length, is what
 * has others. */
static kf_status rope_from_divisors(struct reader *r, const kf_gguf_tensor *t, kf_arch *a)
{
	kf_rope rope = { .base = a->rope.base, .kind = KF_ROPE_LLAMA3, .factor = 1, .low_freq = 1, .high_freq = 4,
		.original_context = 8192 };
	const double pi = 3.14159265358979323846;
	float f[KF_MAX_LONGROPE];
	bool llama3 = true;
	int n = a->D / 2;

	if (t->dtype != KF_F32 || t->n_dims != 1 || t->cols != (uint64_t)n || a->R != a->D || n > KF_MAX_LONGROPE)
		return kf_fail(r->err, KF_EDATA, "%s: tensor rope_freqs.weight is no vector of %d F32", kf_gguf_path(r->g), n);
	memcpy(f, t->data, (size_t)n * sizeof *f);
	for (int i = 0; i < n; i++) {
		if (!(f[i] > 0) || !isfinite(f[i]))
			return kf_fail(r->err, KF_EDATA, "%s: tensor rope_freqs.weight has the divisor %g", kf_gguf_path(r->g), (double)f[i]);
		if (f[i] > rope.factor) rope.factor = f[i];
	}
	for (int i = 0; i < n; i++) {
		double wave = 2 * pi * pow((double)rope.base, 2.0 * i / a->D);
		double turns = (double)rope.original_context / wave, want;
		double smooth = (turns - (double)rope.low_freq) / ((double)rope.high_freq - (double)rope.low_freq);

		if (smooth >= 1) want = 1;
		else if (smooth <= 0) want = (double)rope.factor;
		else want = 1 / ((1 - smooth) / (double)rope.factor + smooth);
		llama3 = llama3 && fabs((double)f[i] - want) <= 1e-4 * want;
	}
	if (llama3 && rope.factor == 1) return KF_OK;
	if (!llama3) {
		rope = (kf_rope){ .base = a->rope.base, .kind = KF_ROPE_LONGROPE, .factor = 1, .scale = 1,
			.original_context = (float)a->context };
		memcpy(rope.shorter, f, (size_t)n * sizeof *f);
		memcpy(rope.longer, f, (size_t)n * sizeof *f);
	}
	a->rope = rope;
	return KF_OK;
}

/* Keys of YaRN, as llama.cpp's converter takes them from Hugging Face's: what is absent is the default there, and
 * yarn_attn_factor is its attention_factor. */
static kf_status get_yarn(struct reader *r, kf_arch *a)
{
	kf_rope *y = &a->rope;
	float extrapolate, multiply;
	int original;
	kf_status rc;

	if (!has(r, "rope.scaling.factor"))
		return kf_fail(r->err, KF_EDATA, "%s: has rotary scaling \"yarn\" without %s", kf_gguf_path(r->g), r->key);
	*y = (kf_rope){ .base = y->base, .kind = KF_ROPE_YARN, .truncate = true };
	if ((rc = get_real(r, "rope.scaling.factor", 1, &y->factor)) != KF_OK ||
		(rc = get_int(r, "rope.scaling.original_context_length", a->context, &original)) != KF_OK ||
		(rc = get_real(r, "rope.scaling.yarn_beta_slow", 1, &y->low_freq)) != KF_OK ||
		(rc = get_real(r, "rope.scaling.yarn_beta_fast", 32, &y->high_freq)) != KF_OK ||
		(rc = get_real(r, "rope.scaling.yarn_ext_factor", 1, &extrapolate)) != KF_OK ||
		(rc = get_real(r, "rope.scaling.attn_factor", 1, &multiply)) != KF_OK ||
		(rc = get_real(r, "rope.scaling.yarn_attn_factor", y->factor > 1 ? 0.1 * log((double)y->factor) + 1 : 1, &y->scale)) != KF_OK)
		return rc;
	if (extrapolate >= 0 && extrapolate != 1) return refuse(r, "rope.scaling.yarn_ext_factor", "other than 1 is not supported");
	y->original_context = (float)original;
	y->scale *= multiply;
	return KF_OK;
}

/* What only YaRN honours, or nothing does. */
static kf_status check_scaling(struct reader *r, const kf_arch *a)
{
	static const struct { const char *key; float harmless; } keys[] = {
		{ "rope.scaling.yarn_log_multiplier", 0 }, { "rope.scaling.attn_factor", 1 }, { "rope.scaling.yarn_attn_factor", 1 } };
	float v;
	kf_status rc;

	for (size_t i = 0; i < (a->rope.kind == KF_ROPE_YARN ? 1 : sizeof keys / sizeof *keys); i++) {
		if ((rc = get_real(r, keys[i].key, keys[i].harmless, &v)) != KF_OK) return rc;
		if (v != keys[i].harmless) return refuse(r, keys[i].key, "is not supported with this rotary scaling");
	}
	return KF_OK;
}

static kf_status get_rope(struct reader *r, kf_arch *a, kf_arena *arena)
{
	bool gemma = a->family == KF_FAMILY_GEMMA3;
	const kf_gguf_tensor *divisors = kf_gguf_tensor_find(r->g, "rope_freqs.weight");
	const char *type = "none";
	kf_status rc;

	if (!a->R) return KF_OK;
	/* llama.cpp takes 10000 for every architecture when the file is silent */
	if ((rc = get_real(r, "rope.freq_base", 10000, &a->rope.base)) != KF_OK) return rc;
	/* where it names none, llama.cpp takes linear, too */
	if (has(r, "rope.scaling.factor") || has(r, "rope.scale_linear")) type = "linear";
	if (has(r, "rope.scaling.type") && (rc = kf_gguf_string(r->g, r->key, arena, &type, r->err)) != KF_OK)
		return rc;
	if (!strcmp(type, "linear")) {
		if ((rc = get_real(r, has(r, "rope.scaling.factor") ? "rope.scaling.factor" : "rope.scale_linear", 1,
			&a->rope.factor)) != KF_OK) return rc;
		a->rope.kind = a->rope.factor == 1 ? KF_ROPE_PLAIN : KF_ROPE_LINEAR;
		if (a->rope.kind == KF_ROPE_PLAIN) a->rope.factor = 0;
	} else if (!strcmp(type, "yarn")) {
		if ((rc = get_yarn(r, a)) != KF_OK) return rc;
	} else if (strcmp(type, "none") != 0) {
		return kf_fail(r->err, KF_EUNSUPPORTED, "%s: rotary scaling \"%s\" is not supported; linear and yarn are",
			kf_gguf_path(r->g), type);
	}
	if ((rc = check_scaling(r, a)) != KF_OK) return rc;
	if (divisors) {
		if (a->rope.kind != KF_ROPE_PLAIN)
			return kf_fail(r->err, KF_EUNSUPPORTED,
				"%s: has both rope_freqs.weight and rotary scaling \"%s\"", kf_gguf_path(r->g), type);
		if ((rc = rope_from_divisors(r, divisors, a)) != KF_OK) return rc;
	}
	a->rope_local = a->rope;
	if (gemma) {
		a->rope_local = (kf_rope){ .kind = KF_ROPE_PLAIN };
		return get_real(r, "rope.freq_base_swa", 10000, &a->rope_local.base);
	}
	return KF_OK;
}

/* ---- windows ---- */

/* Every period-th layer is a full one (0: none is), or a bool a layer. */
static kf_status get_windows(struct reader *r, kf_arch *a)
{
	static const char pattern_key[] = "attention.sliding_window_pattern";
	const kf_gguf_entry *e = kf_gguf_find(r->g, key_of(r, pattern_key));
	int period = a->family == KF_FAMILY_GEMMA3 ? 6 : a->family == KF_FAMILY_GEMMA2 ? 2 : 0, windowed = 0;
	bool gemma = period > 0;
	kf_status rc;

	if ((rc = get_int(r, "attention.sliding_window", a->family == KF_FAMILY_GEMMA2 ? 4096 : 0, &a->window)) != KF_OK) return rc;
	if (!gemma && a->window >= a->context) a->window = 0;
	if (a->window == 0) return KF_OK;
	if (e && e->type == KF_GGUF_ARRAY) {
		if (e->item != KF_GGUF_BOOL || e->n != (uint64_t)a->L)
			return kf_fail(r->err, KF_EDATA, "%s: %s is not one bool for each of the %d layers",
				kf_gguf_path(r->g), e->key, a->L);
		for (int l = 0; l < a->L; l++) a->windowed[l] = e->data[l] != 0;
	} else {
		if ((rc = get_int(r, pattern_key, period, &period)) != KF_OK) return rc;
		for (int l = 0; l < a->L; l++) a->windowed[l] = period == 0 || (l + 1) % period != 0;
	}
	for (int l = 0; l < a->L; l++) windowed += a->windowed[l];
	if (windowed == 0) a->window = 0;
	if (gemma || windowed == 0 || a->family == KF_FAMILY_QWEN2 || a->family == KF_FAMILY_QWEN3) return KF_OK;
	/* A llama with a window is a Mistral, which has it in every layer. */
	if (a->family != KF_FAMILY_LLAMA && a->family != KF_FAMILY_MIXTRAL)
		return refuse(r, "attention.sliding_window", "is not supported for this architecture");
	if (windowed < a->L) return refuse(r, pattern_key, "with some layers only is not supported for this architecture");
	if (a->family == KF_FAMILY_LLAMA && (a->qkv_bias || a->o_bias || a->mlp_bias))
		return refuse(r, "attention.sliding_window", "is not supported for a llama with biases");
	if (a->family == KF_FAMILY_LLAMA) a->family = KF_FAMILY_MISTRAL;
	return KF_OK;
}

/* ---- the whole ---- */

/* InternLM2 is a llama once its projection is taken apart and its rows put in llama's order, as GGUF has it. A llama
 * with experts is a Mixtral. */
static kf_status get_family(struct reader *r, kf_family *out)
{
	static const struct { const char *name; kf_family family; } known[] = {
		{ "llama", KF_FAMILY_LLAMA }, { "internlm2", KF_FAMILY_LLAMA }, { "qwen2", KF_FAMILY_QWEN2 },
		{ "qwen3", KF_FAMILY_QWEN3 }, { "gemma2", KF_FAMILY_GEMMA2 }, { "gemma3", KF_FAMILY_GEMMA3 },
		{ "gptneox", KF_FAMILY_GPT_NEOX }, { "mpt", KF_FAMILY_MPT },
	};

	for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
		int experts = 0;
		kf_status rc = KF_OK;

		if (strcmp(r->arch, known[i].name) != 0) continue;
		*out = known[i].family;
		if (!strcmp(r->arch, "llama") && (rc = get_int(r, "expert_count", 0, &experts)) == KF_OK && experts > 0)
			*out = KF_FAMILY_MIXTRAL;
		return rc;
	}
	return kf_fail(r->err, KF_EUNSUPPORTED,
		"%s: architecture \"%s\" is not supported; llama, qwen2, qwen3, gemma2, gemma3, internlm2, gptneox and mpt are",
		kf_gguf_path(r->g), r->arch);
}

/* What a family has that its metadata does not say; what it says and others do not. */
static kf_status get_own(struct reader *r, kf_arch *a)
{
	kf_status rc;

	switch (a->family) {
	case KF_FAMILY_QWEN3: a->qk_norm = true; return KF_OK;
	case KF_FAMILY_MIXTRAL:
		a->qkv_bias = a->o_bias = a->mlp_bias = false; /* were there any, they would be told as of no use */
		if ((rc = get_int(r, "expert_count", -1, &a->experts)) != KF_OK) return rc;
		return get_int(r, "expert_used_count", -1, &a->experts_used);
	case KF_FAMILY_GEMMA2:
	case KF_FAMILY_GEMMA3:
		a->act = KF_ACT_GELU_TANH;
		a->norm_plus_one = a->post_norms = true;
		a->qk_norm = a->family == KF_FAMILY_GEMMA3;
		a->embed_scale = (float)sqrt(a->C);
		/* The 27B models, known by their layers, scale by the width's share of a head, not the head's size;
		 * GGUF has no key for it. */
		if (a->L == (a->family == KF_FAMILY_GEMMA3 ? 62 : 46)) a->attn_scale = (float)(1 / sqrt((double)a->C / a->H));
		if (a->family == KF_FAMILY_GEMMA3) return get_real(r, "final_logit_softcapping", 0, &a->logit_cap);
		if ((rc = get_real(r, "attn_logit_softcapping", 50, &a->attn_cap)) != KF_OK) return rc;
		return get_real(r, "final_logit_softcapping", 30, &a->logit_cap);
	case KF_FAMILY_GPT_NEOX:
		a->layer_norm = a->norm_bias = a->plain_mlp = a->mlp_bias = a->parallel = true;
		a->qkv = KF_QKV_GROUPED;
		a->act = KF_ACT_GELU;
		a->qkv_bias = kf_gguf_tensor_find(r->g, "blk.0.attn_qkv.bias") != NULL;
		if (a->G != a->H) return refuse(r, "attention.head_count_kv", "must be attention.head_count in this architecture");
		if ((rc = get_real(r, "attention.layer_norm_epsilon", 1e-5, &a->norm_eps)) != KF_OK ||
			(rc = get_int(r, "rope.dimension_count", a->D, &a->R)) != KF_OK)
			return rc;
		return has(r, "use_parallel_residual") ? kf_gguf_bool(r->g, r->key, &a->parallel, r->err) : KF_OK;
	case KF_FAMILY_MPT:
		a->layer_norm = a->plain_mlp = true;
		a->qkv = KF_QKV_FUSED;
		a->act = KF_ACT_GELU;
		a->R = 0;
		if ((rc = get_real(r, "attention.layer_norm_epsilon", 1e-5, &a->norm_eps)) != KF_OK ||
			(rc = get_real(r, "attention.max_alibi_bias", 8, &a->alibi)) != KF_OK)
			return rc;
		if (a->F != 4 * (int64_t)a->C) return refuse(r, "feed_forward_length", "other than four times the width is not supported");
		if (a->alibi != 8) return refuse(r, "attention.max_alibi_bias", "other than 8 is not supported");
		/* The output matrix may stand there again, though it is the embedding. */
		a->tied = !kf_gguf_tensor_find(r->g, "output.weight");
		return KF_OK;
	default: return KF_OK;
	}
}

static kf_status get_special(struct reader *r, const char *key, int32_t *out)
{
	int64_t v;
	kf_status rc;

	*out = -1;
	if (!kf_gguf_find(r->g, key)) return KF_OK;
	if ((rc = kf_gguf_int(r->g, key, INT32_MIN, UINT32_MAX, &v, r->err)) != KF_OK) return rc;
	*out = v >= 0 && v <= INT32_MAX ? (int32_t)v : -1;
	return KF_OK;
}

static kf_status read_arch(struct reader *r, kf_arch *a, kf_arena *arena)
{
	const kf_gguf_tensor *embed = kf_gguf_tensor_find(r->g, "token_embd.weight");
	float scale;
	kf_status rc;

	if ((rc = get_family(r, &a->family)) != KF_OK || (rc = check_keys(r)) != KF_OK) return rc;
	if (!embed) return kf_fail(r->err, KF_EDATA, "%s: lacks tensor token_embd.weight", kf_gguf_path(r->g));
	if (embed->rows > INT_MAX)
		return kf_fail(r->err, KF_EDATA, "%s: tensor token_embd.weight has %" PRIu64 " rows",
			kf_gguf_path(r->g), embed->rows);
	a->V = (int)embed->rows;
	if ((rc = get_int(r, "block_count", -1, &a->L)) != KF_OK ||
		(rc = get_int(r, "embedding_length", -1, &a->C)) != KF_OK ||
		(rc = get_int(r, "feed_forward_length", -1, &a->F)) != KF_OK ||
		(rc = get_int(r, "attention.head_count", -1, &a->H)) != KF_OK ||
		(rc = get_int(r, "attention.head_count_kv", a->H, &a->G)) != KF_OK ||
		(rc = get_int(r, "context_length", -1, &a->context)) != KF_OK)
		return rc;
	if (a->L < 1 || a->L > KF_MAX_LAYERS || a->H < 1) return kf_arch_check(a, kf_gguf_path(r->g), r->err);
	if (!has(r, "attention.key_length") && a->C % a->H)
		return kf_fail(r->err, KF_EDATA, "%s: the width %d is no multiple of the %d heads",
			kf_gguf_path(r->g), a->C, a->H);
	if ((rc = get_int(r, "attention.key_length", a->C / a->H, &a->D)) != KF_OK ||
		(rc = check_values(r, a)) != KF_OK ||
		(rc = get_real(r, "attention.layer_norm_rms_epsilon", 1e-6, &a->norm_eps)) != KF_OK)
		return rc;
	a->R = a->D;
	a->tied = !kf_gguf_tensor_find(r->g, "output.weight");
	a->qkv_bias = a->family == KF_FAMILY_QWEN2 || kf_gguf_tensor_find(r->g, "blk.0.attn_q.bias") != NULL;
	a->o_bias = kf_gguf_tensor_find(r->g, "blk.0.attn_output.bias") != NULL;
	a->mlp_bias = kf_gguf_tensor_find(r->g, "blk.0.ffn_gate.bias") != NULL;
	a->embed_scale = 1;
	a->attn_scale = a->D > 0 ? (float)(1 / sqrt(a->D)) : 0;
	if ((rc = get_own(r, a)) != KF_OK || (rc = get_real(r, "attention.scale", a->attn_scale, &scale)) != KF_OK) return rc;
	if (scale != 0 && scale != a->attn_scale) { /* 0 says nothing */
		if (a->family != KF_FAMILY_GEMMA2 && a->family != KF_FAMILY_GEMMA3 && a->family != KF_FAMILY_MPT)
			return refuse(r, "attention.scale", "other than 1 / sqrt(head size) is not supported for this architecture");
		a->attn_scale = scale;
	}
	if ((rc = get_rope(r, a, arena)) != KF_OK || (rc = get_windows(r, a)) != KF_OK ||
		(rc = get_special(r, "tokenizer.ggml.bos_token_id", &a->bos)) != KF_OK ||
		(rc = get_special(r, "tokenizer.ggml.eos_token_id", &a->eos)) != KF_OK)
		return rc;
	if (a->family != KF_FAMILY_QWEN2 && a->qkv_bias != a->o_bias)
		return kf_fail(r->err, KF_EUNSUPPORTED,
			"%s: attention has biases on %s only, which is not supported for this "
			"architecture",
			kf_gguf_path(r->g), a->qkv_bias ? "q, k and v" : "the output");
	return kf_arch_check(a, kf_gguf_path(r->g), r->err);
}

kf_status kf_arch_from_gguf(const kf_gguf *g, kf_arch *out, kf_err *err)
{
	struct reader r = { .g = g, .err = err };
	kf_arch a = { 0 };
	kf_arena arena;
	kf_status rc;

	kf_arena_init(&arena);
	if (!kf_gguf_find(g, "general.architecture")) {
		rc = kf_fail(
			err, KF_EDATA, "%s: does not say its architecture (no general.architecture)", kf_gguf_path(g));
		goto out;
	}
	if ((rc = kf_gguf_string(g, "general.architecture", &arena, &r.arch, err)) != KF_OK) goto out;
	if ((rc = read_arch(&r, &a, &arena)) != KF_OK) goto out;
	*out = a;
out:
	kf_arena_release(&arena);
	return rc;
}
