/* The CPU backend's functions and what they share: scratch memory that is kept from
 * call to call, and single-thread matrix products (oneDNN) for work that is split
 * over our own threads. Contracts of the ops: common/ops/ops.h. */
#ifndef KF_OPS_CPU_CPU_H
#define KF_OPS_CPU_CPU_H

#define KF_NUM_IS_FLOAT
#include "common/ops/ops.h"

/* Scratch shared by all threads, one block a slot; ask before the threads start. */
enum {
	KF_CPU_WEIGHT,       /* unpacked rows of a weight matrix */
	KF_CPU_WEIGHT16,     /* the same in bfloat16 */
	KF_CPU_ACT,          /* activations: converted or accumulated apart */
	KF_CPU_HEAD_A, KF_CPU_HEAD_B, KF_CPU_HEAD_C, KF_CPU_HEAD_D, /* the head's own */
	KF_CPU_SLOTS
};

/* At least `bytes` bytes, KF_ALIGN-aligned, not cleared; valid until the same slot
 * (or the same worker) asks for more; what it held is lost then. NULL: no memory. */
void *kf_cpu_scratch(kf_exec *x, int slot, size_t bytes);
void *kf_cpu_worker_scratch(kf_exec *x, int worker, size_t bytes);   /* called by that worker, or before */

/* C (M, N) = alpha op(A) op(B) + beta C, row-major, in the calling thread alone; op
 * transposes where ta, tb: op(A) is (M, K), op(B) (K, N); ld: floats from row to row.
 * 0, or oneDNN's status. */
int kf_cpu_sgemm(bool ta, bool tb, int64_t M, int64_t N, int64_t K, float alpha, const float *A, int64_t lda,
	const float *B, int64_t ldb, float beta, float *C, int64_t ldc);
/* kf_fail with the words for a oneDNN status; what: the op. KF_OK for 0. */
kf_status kf_cpu_dnnl_status(int status, const char *what, kf_err *err);

/* table.c */
kf_status kf_cpu_open(kf_exec *x, kf_err *err);
void kf_cpu_close(kf_exec *x);

/* head_score.c, head_loss.c */
kf_status kf_cpu_head_score(kf_exec *x, const float *hidden, const kf_mat *w, int T, const kf_score_query *q,
	kf_score *out, kf_err *err);
kf_status kf_cpu_head_loss(kf_exec *x, const float *hidden, const kf_mat *w, int T, const kf_loss_query *q,
	float *dhidden, float *dw, kf_loss *out, kf_err *err);

/* linear.c */
kf_status kf_cpu_linear(kf_exec *x, float *y, const float *in, const kf_mat *w, const float *bias, int T,
	bool add, kf_err *err);
kf_status kf_cpu_logits(kf_exec *x, float *y, const float *in, const kf_mat *w, int T, kf_err *err);
kf_status kf_cpu_linear_dx(kf_exec *x, float *dx, const float *dy, const kf_mat *w, int T, bool add,
	kf_err *err);
kf_status kf_cpu_linear_dw(kf_exec *x, float *dw, float *db, const float *dy, const float *in, int T, int N,
	int K, kf_err *err);

/* embed.c */
kf_status kf_cpu_embed(kf_exec *x, float *y, const kf_mat *table, const int32_t *tokens, float scale, int T,
	kf_err *err);
kf_status kf_cpu_embed_dw(kf_exec *x, float *dtable, const float *dy, const int32_t *tokens, float scale,
	int T, int V, int C, kf_err *err);

/* norm.c, layernorm.c, rope.c */
void kf_cpu_rmsnorm(kf_exec *x, float *y, float *rstd, const float *in, const float *w, float eps,
	int64_t rows, int C);
void kf_cpu_rmsnorm_dx(kf_exec *x, float *dx, float *dw, const float *dy, const float *in, const float *w,
	const float *rstd, int64_t rows, int C);
void kf_cpu_layernorm(kf_exec *x, float *y, float *stat, const float *in, const float *w, const float *b,
	float eps, int64_t rows, int C);
void kf_cpu_layernorm_dx(kf_exec *x, float *dx, float *dw, float *db, const float *dy, const float *in,
	const float *w, const float *stat, int64_t rows, int C);
void kf_cpu_rope(kf_exec *x, float *v, const kf_rotary *r, const int32_t *offset, int S, int heads, int D,
	bool inverse);
void kf_cpu_rope_after(kf_exec *x, float *v, const kf_rotary *r, const int32_t *offset, const int32_t *first, int S,
	int heads, int D);

/* attention.c */
kf_status kf_cpu_attention(kf_exec *x, float *out, float *lse, const float *q, const float *k, const float *v,
	const int32_t *offset, int S, const kf_attn *a, kf_err *err);
kf_status kf_cpu_attention_after(kf_exec *x, float *out, const float *q, const float *k, const float *v, const int32_t *offset,
	int S, const kf_past *past, const kf_attn *a, kf_err *err) KF_MUST_CHECK;
kf_status kf_cpu_attention_dx(kf_exec *x, float *dq, float *dk, float *dv, const float *dout,
	const float *out, const float *lse, const float *q, const float *k, const float *v, const int32_t *offset,
	int S, const kf_attn *a, kf_err *err);

/* rows.c: rows moved about: fused projections, experts */
void kf_cpu_split_qkv(kf_exec *x, float *fused, float *q, float *k, float *v, int T, const kf_attn *a,
	bool grouped, bool join);
void kf_cpu_gather(kf_exec *x, float *y, const float *in, const int32_t *index, const float *weight, int n,
	int C);
void kf_cpu_scatter(kf_exec *x, float *y, const float *in, const int32_t *index, const float *weight, int n,
	int C);
void kf_cpu_store(kf_exec *x, float *y, const float *in, const int32_t *index, int n, int C);
void kf_cpu_dots(kf_exec *x, float *out, const float *a, const float *b, const int32_t *index, int n, int C);

/* pointwise.c */
void kf_cpu_zero(kf_exec *x, void *p, size_t bytes);
void kf_cpu_glu(kf_exec *x, float *y, const float *gate, const float *up, kf_act act, size_t n);
void kf_cpu_glu_dx(kf_exec *x, float *dgate, float *dup, const float *dy, const float *gate, const float *up,
	kf_act act, size_t n);
void kf_cpu_add(kf_exec *x, float *y, const float *in, size_t n);
double kf_cpu_sumsq(kf_exec *x, const kf_nums *v, int n);
void kf_cpu_adamw(kf_exec *x, const kf_adamw *p, const kf_adamw_opts *o);

#endif
