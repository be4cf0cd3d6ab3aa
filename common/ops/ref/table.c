#include "common/ops/ref/ref.h"

#include <string.h>

void *kf_ref_alloc(kf_exec *x, size_t n, size_t size)
{
	(void)x;
	return kf_alloc(n, size);
}

void kf_ref_free(kf_exec *x, void *p)
{
	(void)x;
	kf_free(p);
}

kf_status kf_ref_put(kf_exec *x, void *dst, const void *host, size_t bytes, kf_err *err)
{
	(void)x, (void)err;
	if (bytes) memcpy(dst, host, bytes);
	return KF_OK;
}

kf_status kf_ref_get(kf_exec *x, void *host, const void *src, size_t bytes, kf_err *err)
{
	(void)x, (void)err;
	if (bytes) memcpy(host, src, bytes);
	return KF_OK;
}

/* Numbers are floats here. */
kf_status kf_ref_put_num(kf_exec *x, void *dst, kf_num_type type, const float *host, size_t n, kf_err *err)
{
	(void)type;
	return kf_ref_put(x, dst, host, n * sizeof *host, err);
}

kf_status kf_ref_get_num(kf_exec *x, float *host, const void *src, kf_num_type type, size_t n, kf_err *err)
{
	(void)type;
	return kf_ref_get(x, host, src, n * sizeof *host, err);
}

void kf_ref_zero(kf_exec *x, void *p, size_t bytes)
{
	(void)x;
	if (bytes) memset(p, 0, bytes);
}

const kf_ops kf_ops_ref = {
	.name = "reference",
	.alloc = kf_ref_alloc,
	.free = kf_ref_free,
	.put = kf_ref_put,
	.get = kf_ref_get,
	.put_num = kf_ref_put_num,
	.get_num = kf_ref_get_num,
	.zero = kf_ref_zero,
	.linear = kf_ref_linear,
	.logits = kf_ref_logits,
	.linear_dx = kf_ref_linear_dx,
	.linear_dw = kf_ref_linear_dw,
	.embed = kf_ref_embed,
	.embed_dw = kf_ref_embed_dw,
	.rmsnorm = kf_ref_rmsnorm,
	.rmsnorm_dx = kf_ref_rmsnorm_dx,
	.layernorm = kf_ref_layernorm,
	.layernorm_dx = kf_ref_layernorm_dx,
	.rope = kf_ref_rope,
	.split_qkv = kf_ref_split_qkv,
	.attention = kf_ref_attention,
	.attention_dx = kf_ref_attention_dx,
	.rope_after = kf_ref_rope_after,
	.attention_after = kf_ref_attention_after,
	.store = kf_ref_store,
	.glu = kf_ref_glu,
	.glu_dx = kf_ref_glu_dx,
	.route = kf_ref_route,
	.route_dx = kf_ref_route_dx,
	.permute = kf_ref_permute,
	.gather = kf_ref_gather,
	.scatter = kf_ref_scatter,
	.dots = kf_ref_dots,
	.add = kf_ref_add,
	.keep_rows = kf_ref_keep_rows,
	.head_score = kf_ref_head_score,
	.head_loss = kf_ref_head_loss,
	.sumsq = kf_ref_sumsq,
	.adamw = kf_ref_adamw,
};
