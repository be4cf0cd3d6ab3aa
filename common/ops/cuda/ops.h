/* The ops of the CUDA backend, in the order of the op table. Contracts: common/ops/ops.h. */
#ifndef KF_OPS_CUDA_OPS_H
#define KF_OPS_CUDA_OPS_H

#include "common/ops/cuda/cuda.h"

/* memory.c */
void *kf_cuda_op_alloc(kf_exec *x, size_t n, size_t size);
void kf_cuda_op_free(kf_exec *x, void *p);
kf_status kf_cuda_op_memory(kf_exec *x, size_t *left, kf_err *err);
kf_status kf_cuda_op_put(kf_exec *x, void *dst, const void *host, size_t bytes, kf_err *err);
kf_status kf_cuda_op_get(kf_exec *x, void *host, const void *src, size_t bytes, kf_err *err);
kf_status kf_cuda_op_put_num(kf_exec *x, void *dst, kf_num_type type, const float *host, size_t n, kf_err *err);
kf_status kf_cuda_op_get_num(kf_exec *x, float *host, const void *src, kf_num_type type, size_t n, kf_err *err);
void kf_cuda_op_zero(kf_exec *x, void *p, size_t bytes);
/* Several gets, for which the host waits once where they are small. */
typedef struct { void *host; const void *src; size_t bytes; } kf_cuda_answer;
kf_status kf_cuda_take(kf_exec *x, const kf_cuda_answer *a, int n, kf_err *err);

/* linear.c */
kf_status kf_cuda_op_linear(kf_exec *x, void *y, const void *in, const kf_mat *w, const float *bias, int T, bool add,
	kf_err *err);
kf_status kf_cuda_op_linear_dx(kf_exec *x, void *dx, const void *dy, const kf_mat *w, int T, bool add, kf_err *err);
kf_status kf_cuda_op_linear_dw(kf_exec *x, void *dw, float *db, const void *dy, const void *in, int T, int N, int K,
	kf_err *err);
kf_status kf_cuda_op_embed(kf_exec *x, void *y, const kf_mat *table, const int32_t *tokens, float scale, int T, kf_err *err);
kf_status kf_cuda_op_embed_dw(kf_exec *x, void *dtable, const void *dy, const int32_t *tokens, float scale, int T, int V,
	int C, kf_err *err);

/* rows.c: norms, activations, sums, AdamW */
void kf_cuda_op_rmsnorm(kf_exec *x, void *y, float *rstd, const void *in, const float *w, float eps, int64_t rows, int C);
void kf_cuda_op_rmsnorm_dx(kf_exec *x, void *dx, float *dw, const void *dy, const void *in, const float *w,
	const float *rstd, int64_t rows, int C);
void kf_cuda_op_layernorm(kf_exec *x, void *y, float *stat, const void *in, const float *w, const float *b, float eps,
	int64_t rows, int C);
void kf_cuda_op_layernorm_dx(kf_exec *x, void *dx, float *dw, float *db, const void *dy, const void *in, const float *w,
	const float *stat, int64_t rows, int C);
void kf_cuda_op_glu(kf_exec *x, void *y, const void *gate, const void *up, kf_act act, size_t n);
void kf_cuda_op_glu_dx(kf_exec *x, void *dgate, void *dup, const void *dy, const void *gate, const void *up, kf_act act,
	size_t n);
void kf_cuda_op_add(kf_exec *x, void *y, const void *in, size_t n);
double kf_cuda_op_sumsq(kf_exec *x, const kf_nums *v, int n);
void kf_cuda_op_adamw(kf_exec *x, const kf_adamw *p, const kf_adamw_opts *o);

/* attention.c */
kf_status kf_cuda_check_heads(const kf_attn *a, kf_err *err) KF_MUST_CHECK;   /* their size */
void kf_cuda_op_rope(kf_exec *x, void *v, const kf_rotary *r, const int32_t *offset, int S, int heads, int D, bool inverse);
kf_status kf_cuda_op_attention(kf_exec *x, void *out, float *lse, const void *q, const void *k, const void *v,
	const int32_t *offset, int S, const kf_attn *a, kf_err *err);
kf_status kf_cuda_op_attention_dx(kf_exec *x, void *dq, void *dk, void *dv, const void *dout, const void *out,
	const float *lse, const void *q, const void *k, const void *v, const int32_t *offset, int S, const kf_attn *a, kf_err *err);

/* attention_after.c: sequences that go on */
void kf_cuda_op_rope_after(kf_exec *x, void *v, const kf_rotary *r, const int32_t *offset, const int32_t *first, int S, int heads,
	int D);
kf_status kf_cuda_op_attention_after(kf_exec *x, void *out, const void *q, const void *k, const void *v, const int32_t *offset, int S,
	const kf_past *past, const kf_attn *a, kf_err *err);
void kf_cuda_op_store(kf_exec *x, void *y, const void *in, const int32_t *index, int n, int C);

/* move.c: rows moved about */
void kf_cuda_op_split_qkv(kf_exec *x, void *fused, void *q, void *k, void *v, int T, const kf_attn *a, bool grouped,
	bool join);
kf_status kf_cuda_op_route(kf_exec *x, float *weight, int32_t *index, const void *logits, int T, int E, int k, kf_err *err);
void kf_cuda_op_route_dx(kf_exec *x, void *dlogits, const float *dweight, const float *weight, const int32_t *index, int T,
	int E, int k);
void kf_cuda_op_permute(kf_exec *x, float *out, const float *in, const int32_t *index, int n, bool inverse);
void kf_cuda_op_gather(kf_exec *x, void *y, const void *in, const int32_t *index, const float *weight, int n, int C);
void kf_cuda_op_scatter(kf_exec *x, void *y, const void *in, const int32_t *index, const float *weight, int n, int C);
void kf_cuda_op_dots(kf_exec *x, float *out, const void *a, const void *b, const int32_t *index, int n, int C);
void kf_cuda_op_keep_rows(kf_exec *x, void *y, int C, const int32_t *rows, int n);
/* y[index[i]] += scale * weight[i] * in[i] for n rows of C; index below range. */
kf_status kf_cuda_add_rows(kf_exec *x, void *y, const void *in, const int32_t *index, const float *weight, float scale,
	int n, int range, int C, const char *op, kf_err *err);

/* head_score.c, head_loss.c */
kf_status kf_cuda_op_logits(kf_exec *x, float *y, const void *in, const kf_mat *w, int T, kf_err *err);
kf_status kf_cuda_op_head_score(kf_exec *x, const void *hidden, const kf_mat *w, int T, const kf_score_query *q,
	kf_score *out, kf_err *err);
kf_status kf_cuda_op_head_loss(kf_exec *x, const void *hidden, const kf_mat *w, int T, const kf_loss_query *q,
	void *dhidden, void *dw, kf_loss *out, kf_err *err);

#endif
