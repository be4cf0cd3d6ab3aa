#include "common/model/arch.h"

#include <math.h>

const char *kf_family_name(kf_family f)
{
	static const char *const names[KF_FAMILIES] = { "llama", "qwen2", "gemma3", "mistral", "qwen3", "gemma2",
		"gptneox", "mpt", "internlm2", "mixtral" };

	return names[f];
}

/* ---- is it sane ---- */

static bool fits(int a, int b)
{
	int p;

	return !__builtin_mul_overflow(a, b, &p);
}

static bool positive(float f) { return f > 0 && isfinite(f); }

static bool good_rope(const kf_rope *r, int R)
{
	if (!(r->base > 1) || !isfinite(r->base)) return false;
	if (r->kind != KF_ROPE_PLAIN && !positive(r->factor)) return false;
	if (r->scale != 0 && !positive(r->scale)) return false;
	if (r->kind >= KF_ROPE_LLAMA3 && (!(r->original_context >= 1) || !isfinite(r->original_context))) return false;
	if (r->kind == KF_ROPE_LLAMA3 || r->kind == KF_ROPE_YARN)
		return positive(r->low_freq) && r->high_freq > r->low_freq && isfinite(r->high_freq);
	if (r->kind == KF_ROPE_DYNAMIC) return R > 2 && r->factor >= 1;
	for (int i = 0; r->kind == KF_ROPE_LONGROPE && i < R / 2; i++)
		if (!positive(r->shorter[i]) || !positive(r->longer[i])) return false;
	return true;
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
	if (a->R < 0 || a->R > a->D || a->R % 2)
		return kf_fail(err, KF_EDATA, a->R == a->D
			? "%s: the head size %d is odd, which rotary positions exclude"
			: "%s: rotary positions of %d floats are odd, or more than a head has", where, a->R);
	for (int k = 0; k < 2; k++)
		if ((k ? &a->rope_local : &a->rope)->kind == KF_ROPE_LONGROPE && a->R / 2 > KF_MAX_LONGROPE)
			return kf_fail(err, KF_EUNSUPPORTED, "%s: LongRoPE of more than %d frequencies is not supported", where,
				KF_MAX_LONGROPE);
	if (a->experts && (a->experts < 2 || a->experts > 4096 || a->experts_used < 1 || a->experts_used > a->experts))
		return kf_fail(err, KF_EDATA, "%s: %d of %d experts a token make no sense", where, a->experts_used, a->experts);
	/* the widest product is of queries, keys and values together */
	if (!fits(a->H + 2 * a->G, a->D))
		return kf_fail(err, KF_EDATA, "%s: %d heads of %d are too many", where, a->H, a->D);
	if (!(a->norm_eps >= 0) || !(a->norm_eps < 1))
		return kf_fail(err, KF_EDATA, "%s: the norm's epsilon %g makes no sense", where, (double)a->norm_eps);
	if (a->R && (!good_rope(&a->rope, a->R) || !good_rope(&a->rope_local, a->R)))
		return kf_fail(err, KF_EDATA, "%s: its rotary position parameters make no sense", where);
	if (!(a->attn_cap >= 0) || !(a->logit_cap >= 0) || !isfinite(a->attn_cap + a->logit_cap) || !(a->alibi >= 0) ||
		!(a->alibi < 100))
		return kf_fail(err, KF_EDATA, "%s: its soft caps or its ALiBi slopes make no sense", where);
	if (!positive(a->attn_scale))
		return kf_fail(
			err, KF_EDATA, "%s: the attention scale %g makes no sense", where, (double)a->attn_scale);
	for (int l = 0; l < a->L; l++)
		if (a->windowed[l] && a->window < 1)
			return kf_fail(err, KF_EDATA,
				"%s: layer %d has a sliding window, but the window's size is missing", where, l);
	return KF_OK;
}
