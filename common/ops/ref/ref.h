/* The reference backend's functions, one file an op family. They say what each op
 * means: plain loops in one thread, sums in double. Contracts: common/ops/ops.h. */
#ifndef KF_OPS_REF_REF_H
#define KF_OPS_REF_REF_H

#define KF_NUM_IS_FLOAT
#include "common/ops/ops.h"

/* head.c */
kf_status kf_ref_head_score(kf_exec *x, const float *hidden, const kf_mat *w, int T, const kf_score_query *q,
	kf_score *out, kf_err *err);
kf_status kf_ref_head_loss(kf_exec *x, const float *hidden, const kf_mat *w, int T, const kf_loss_query *q,
	float *dhidden, float *dw, kf_loss *out, kf_err *err);

/* table.c: host memory, shared with the CPU backend */
void *kf_ref_alloc(kf_exec *x, size_t n, size_t size);
void kf_ref_free(kf_exec *x, void *p);
kf_status kf_ref_put(kf_exec *x, void *dst, const void *host, size_t bytes, kf_err *err);
kf_status kf_ref_get(kf_exec *x, void *host, const void *src, size_t bytes, kf_err *err);
kf_status kf_ref_put_num(kf_exec *x, void *dst, kf_num_type type, const float *host, size_t n, kf_err *err);
kf_status kf_ref_get_num(kf_exec *x, float *host, const void *src, kf_num_type type, size_t n, kf_err *err);
void kf_ref_zero(kf_exec *x, void *p, size_t bytes);

/* linear.c */
kf_status kf_ref_linear(kf_exec *x, float *y, const float *in, const kf_mat *w, const float *bias, int T,
	bool add, kf_err *err);
kf_status kf_ref_logits(kf_exec *x, float *y, const float *in, const kf_mat *w, int T, kf_err *err);
kf_status kf_ref_linear_dx(kf_exec *x, float *dx, const float *dy, const kf_mat *w, int T, bool add,
	kf_err *err);
kf_status kf_ref_linear_dw(kf_exec *x, float *dw, float *db, const float *dy, const float *in, int T, int N,
	int K, kf_err *err);
kf_status kf_ref_embed(kf_exec *x, float *y, const kf_mat *table, const int32_t *tokens, float scale, int T,
	kf_err *err);
kf_status kf_ref_embed_dw(kf_exec *x, float *dtable, const float *dy, const int32_t *tokens, float scale,
	int T, int V, int C, kf_err *err);

/* norm.c, layernorm.c, rope.c */
void kf_ref_rmsnorm(kf_exec *x, float *y, float *rstd, const float *in, const float *w, float eps,
	int64_t rows, int C);
void kf_ref_rmsnorm_dx(kf_exec *x, float *dx, float *dw, const float *dy, const float *in, const float *w,
	const float *rstd, int64_t rows, int C);
void kf_ref_layernorm(kf_exec *x, float *y, float *stat, const float *in, const float *w, const float *b,
	float eps, int64_t rows, int C);
void kf_ref_layernorm_dx(kf_exec *x, float *dx, float *dw, float *db, const float *dy, const float *in,
	const float *w, const float *stat, int64_t rows, int C);
void kf_ref_rope(kf_exec *x, float *v, const kf_rotary *r, const int32_t *offset, int S, int heads, int D,
	bool inverse);
void kf_ref_rope_after(kf_exec *x, float *v, const kf_rotary *r, const int32_t *offset, const int32_t *first, int S,
	int heads, int D);

/* attention.c */
kf_status kf_ref_attention(kf_exec *x, float *out, float *lse, const float *q, const float *k, const float *v,
	const int32_t *offset, int S, const kf_attn *a, kf_err *err);
kf_status kf_ref_attention_after(kf_exec *x, float *out, const float *q, const float *k, const float *v, const int32_t *offset,
	int S, const kf_past *past, const kf_attn *a, kf_err *err) KF_MUST_CHECK;
kf_status kf_ref_attention_dx(kf_exec *x, float *dq, float *dk, float *dv, const float *dout,
	const float *out, const float *lse, const float *q, const float *k, const float *v, const int32_t *offset,
	int S, const kf_attn *a, kf_err *err);

/* rows.c: rows moved about: fused projections, experts */
void kf_ref_split_qkv(kf_exec *x, float *fused, float *q, float *k, float *v, int T, const kf_attn *a,
	bool grouped, bool join);
kf_status kf_ref_route(kf_exec *x, float *weight, int32_t *index, const float *logits, int T, int E, int k,
	kf_err *err);
void kf_ref_route_dx(kf_exec *x, float *dlogits, const float *dweight, const float *weight,
	const int32_t *index, int T, int E, int k);
void kf_ref_permute(kf_exec *x, float *out, const float *in, const int32_t *index, int n, bool inverse);
void kf_ref_gather(kf_exec *x, float *y, const float *in, const int32_t *index, const float *weight, int n,
	int C);
void kf_ref_scatter(kf_exec *x, float *y, const float *in, const int32_t *index, const float *weight, int n,
	int C);
void kf_ref_store(kf_exec *x, float *y, const float *in, const int32_t *index, int n, int C);
void kf_ref_dots(kf_exec *x, float *out, const float *a, const float *b, const int32_t *index, int n, int C);

/* pointwise.c */
void kf_ref_glu(kf_exec *x, float *y, const float *gate, const float *up, kf_act act, size_t n);
void kf_ref_glu_dx(kf_exec *x, float *dgate, float *dup, const float *dy, const float *gate, const float *up,
	kf_act act, size_t n);
void kf_ref_add(kf_exec *x, float *y, const float *in, size_t n);
void kf_ref_keep_rows(kf_exec *x, float *y, int C, const int32_t *rows, int n);
double kf_ref_sumsq(kf_exec *x, const kf_nums *v, int n);
void kf_ref_adamw(kf_exec *x, const kf_adamw *p, const kf_adamw_opts *o);

#endif
