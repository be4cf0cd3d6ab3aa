/* Launchers of our own CUDA kernels: a C interface, so that the host side is C and the tests can run the same
 * kernels on a processor (tests/emu). What an op means is in common/ops/ops.h; here is what the host must bring.
 *
 * Every pointer is to device memory, index arrays too, unless its name begins with host. `type` is how numbers
 * are stored (void pointers, kf_num of ops.h); the rest is float32, and so is arithmetic.
 * All calls only put work on the stream. Results depend neither on the device nor on the order in which blocks
 * and threads run: sums have a fixed order, and there are no floating-point atomics.
 *
 * Scratch: a launcher that needs memory of its own has a *_scratch() that says how many bytes (16-byte aligned, not
 * cleared); it may be reused as soon as the stream has gone on.
 *
 * Return: 0, or CUDA's error code of the launch (cudaError_t). Empty work (no rows) launches nothing and gives 0.
 */
#ifndef KF_OPS_CUDA_KERNELS_H
#define KF_OPS_CUDA_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/ops/cuda/device.h"
#include "common/ops/ops.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- pointwise.cu ---- */

/* dst (n) = src, to nearest even. Types may be equal. */
int kf_cuda_convert(kf_num_type to, void *dst, kf_num_type from, const void *src, size_t n, kf_cuda_stream s);
int kf_cuda_fill(kf_num_type type, void *y, float value, size_t n, kf_cuda_stream s);
int kf_cuda_add(kf_num_type type, void *y, const void *in, size_t n, kf_cuda_stream s);
int kf_cuda_glu(kf_num_type type, void *y, const void *gate, const void *up, kf_act act, size_t n, kf_cuda_stream s);
int kf_cuda_glu_dx(kf_num_type type, void *dgate, void *dup, const void *dy, const void *gate, const void *up,
	kf_act act, size_t n, kf_cuda_stream s);
/* y (T, C) += bias (C) */
int kf_cuda_add_bias(kf_num_type type, void *y, const float *bias, int64_t T, int C, kf_cuda_stream s);

/* ---- optim.cu ---- */

/* *sum (one double) = sum of squares, or += when add. */
size_t kf_cuda_sumsq_scratch(void);
int kf_cuda_sumsq(kf_num_type type, double *sum, bool add, const void *v, size_t n, void *scratch, kf_cuda_stream s);

/* AdamW as in ops.h. gscale: one float, multiplies g beside host_opts->gscale (clipping that needs no trip to the host); NULL: 1. */
int kf_cuda_adamw(const kf_adamw *host_p, const kf_adamw_opts *host_opts, const float *gscale, kf_cuda_stream s);
/* The same with moments in 8 bits (those of host_p are not looked at): blocks of KF_CUDA_MOMENT_BLOCK elements share a scale each of m and v.
 * All zero is the state before the first step. salt: differs from tensor to tensor (rounding is by chance, from salt, step and place). */
enum { KF_CUDA_MOMENT_BLOCK = 256 };
int kf_cuda_adamw8(const kf_adamw *host_p, int8_t *m, uint8_t *v, float *m_scale, float *v_scale, uint32_t salt,
	const kf_adamw_opts *host_opts, const float *gscale, kf_cuda_stream s);

/* ---- rows.cu ---- */

/* Groups of equal indices, for what adds rows up in a fixed order: on the host, in O(n + range). order (n): places in
 * index sorted by it, equal ones ascending; start (groups + 1) into order; value (groups). start and value have room for
 * n + 1 and n. Copied to the device by the caller. Returns the number of groups, or -1 when there is no memory. */
int kf_cuda_group(const int32_t *host_index, int n, int range, int32_t *host_order, int32_t *host_start, int32_t *host_value);

/* y (n, C) = weight[i] * scale * in[index[i]]; weight (n), or NULL. Also the embedding and keep_rows, but
 * never in place (blocks would race). */
int kf_cuda_gather(kf_num_type type, void *y, const void *in, const int32_t *index, const float *weight, float scale, int64_t n,
	int C, kf_cuda_stream s);
/* y[value[u]] += sum over i in order[start[u] .. start[u + 1]) of weight[i] * scale * in[i], in that order, in float32.
 * Also the embedding's gradient: weight NULL, y its table. */
int kf_cuda_scatter(kf_num_type type, void *y, const void *in, const int32_t *order, const int32_t *start, const int32_t *value,
	int groups, const float *weight, float scale, int C, kf_cuda_stream s);
int kf_cuda_permute(float *out, const float *in, const int32_t *index, int n, bool inverse, kf_cuda_stream s);
/* y[index[i]] = row i of in (n, C). No index twice (blocks would race). */
int kf_cuda_store(kf_num_type type, void *y, const void *in, const int32_t *index, int64_t n, int C, kf_cuda_stream s);
int kf_cuda_dots(kf_num_type type, float *out, const void *a, const void *b, const int32_t *index, int64_t n, int C,
	kf_cuda_stream s);
/* index (T, k) is on the device here. *bad (one int, INT32_MAX before): the first row with a logit that is not finite. */
int kf_cuda_route(kf_num_type type, float *weight, int32_t *index, const void *logits, int T, int E, int k, int32_t *bad,
	kf_cuda_stream s);
int kf_cuda_route_dx(kf_num_type type, void *dlogits, const float *dweight, const float *weight, const int32_t *index,
	int T, int E, int k, kf_cuda_stream s);
int kf_cuda_split_qkv(kf_num_type type, void *fused, void *q, void *k, void *v, int64_t T, const kf_attn *host_attn,
	bool grouped, bool join, kf_cuda_stream s);

/* ---- norm.cu, layernorm.cu ---- */

int kf_cuda_rmsnorm(kf_num_type type, void *y, float *rstd, const void *in, const float *w, float eps, int64_t rows, int C,
	kf_cuda_stream s);
/* Backwards add to dx, dw and db; each may be NULL. */
size_t kf_cuda_norm_dx_scratch(int64_t rows, int C);   /* of both */
int kf_cuda_rmsnorm_dx(kf_num_type type, void *dx, float *dw, const void *dy, const void *in, const float *w, const float *rstd, int64_t rows, int C, void *scratch, kf_cuda_stream s);
int kf_cuda_layernorm(kf_num_type type, void *y, float *stat, const void *in, const float *w, const float *b, float eps,
	int64_t rows, int C, kf_cuda_stream s);
int kf_cuda_layernorm_dx(kf_num_type type, void *dx, float *dw, float *db, const void *dy, const void *in,
	const float *w, const float *stat, int64_t rows, int C, void *scratch, kf_cuda_stream s);
/* db (N) += column sums of dy (T, N): the bias's gradient. */
size_t kf_cuda_column_sums_scratch(int64_t T, int N);
int kf_cuda_column_sums(float *db, kf_num_type type, const void *dy, int64_t T, int N, void *scratch, kf_cuda_stream s);

/* ---- rope.cu ---- */

/* begin, end (T): where the sequence of each row begins and ends, from offset (S + 1). With first (S), the position of each
 * sequence's first row, begin is so many rows before (it may be negative): a row's position is always what it is after begin. end may be
 * NULL. */
int kf_cuda_spans(int32_t *begin, int32_t *end, const int32_t *offset, const int32_t *first, int S, int T, kf_cuda_stream s);
int kf_cuda_rope(kf_num_type type, void *v, const kf_rotary *host_rotary, const int32_t *begin, int T, int heads, int D,
	bool inverse, kf_cuda_stream s);   /* host_rotary->inv_freq is on the device */

/* ---- attention.cu, attention_dx.cu: our own, for what the vendor's lacks (ALiBi, soft caps, odd head sizes) ---- */

enum { KF_CUDA_MAX_HEAD = 256 };   /* D, at most */
/* host_attn->slopes is on the device. begin, end: kf_cuda_spans. */
int kf_cuda_attention(kf_num_type type, void *out, float *lse, const void *q, const void *k, const void *v,
	const int32_t *begin, int T, const kf_attn *host_attn, kf_cuda_stream s);
size_t kf_cuda_attention_dx_scratch(int T, const kf_attn *host_attn);
int kf_cuda_attention_dx(kf_num_type type, void *dq, void *dk, void *dv, const void *dout, const void *out, const float *lse,
	const void *q, const void *k, const void *v, const int32_t *begin, const int32_t *end, int T, const kf_attn *host_attn,
	void *scratch, kf_cuda_stream s);

/* ---- sequences that go on, forward only: attention.cu where there are many rows of one, attention_after.cu where there are few ----
 *
 * Rows and keys of a sequence are counted from the beginning of what stands before it. Its row i is row own + i of the batch (i >= n);
 * its key i is row past + i of the past's where i < n, else row own + i of the batch's. */

enum { KF_CUDA_MANY = 64, KF_CUDA_SPLIT = 256 };   /* rows, keys of a piece, at most */

/* A piece of a sequence. Many rows: all of [from, to), with whatever keys they see. Few: one row, with its keys of [from, to). */
typedef struct {
	int32_t own, n, past, from, to;
	int32_t row;                 /* few: of the sequence */
	int32_t part;                /* few: its place among the parts that are joined afterwards; -1: there is no other of the row */
} kf_cuda_piece;

/* Parts [first, first + n) are row `row` of the batch. */
typedef struct { int32_t row, first, n; } kf_cuda_joint;

typedef struct {
	const void *k, *v;           /* the past's */
	const kf_cuda_piece *few, *many;
	const kf_cuda_joint *joint;
	int n_few, n_many, n_joint, n_parts;
} kf_cuda_past;

int kf_cuda_attention_many(kf_num_type type, void *out, const void *q, const void *k, const void *v, const kf_cuda_past *host_past,
	const kf_attn *host_attn, kf_cuda_stream s);
size_t kf_cuda_attention_few_scratch(int n_parts, const kf_attn *host_attn);
int kf_cuda_attention_few(kf_num_type type, void *out, const void *q, const void *k, const void *v, const kf_cuda_past *host_past,
	const kf_attn *host_attn, void *scratch, kf_cuda_stream s);

/* ---- head_score.cu: what the head is asked, tile by tile of the vocabulary ----
 *
 * For a block of rows: begin, then for every tile of the vocabulary in turn its logits (a product, float32) and tile, then end. For more
 * than KF_CUDA_MAX_K candidates every tile again, for each as many.
 * A tile is at most KF_CUDA_TILE logits wide. Queries are checked by the caller (kf_check_score_query). */

enum { KF_CUDA_TILE = 8192, KF_CUDA_MAX_K = 4096 };

typedef struct { double sum; float max; float unused; } kf_cuda_lse;   /* e^max * sum */

typedef struct {
	int T, V, k, m, E;           /* m: extra_min where extras are asked for and E > 0, else 0; m <= KF_CUDA_MAX_K */
	int done;                    /* candidates found in passes before: a pass over the tiles finds KF_CUDA_MAX_K more, and nothing else
	                              * after the first */
	float cap;
	const int32_t *labels;       /* (T), or NULL */
	const int32_t *order, *rank; /* (V) the order, and its inverse; both NULL: by id */
	const int32_t *range_off, *range_lo, *range_hi; /* or NULL; those of row t are at range_off[t] - range_off[0] in all below */
	/* state, written by begin */
	uint64_t *top;               /* (T, k) */
	uint64_t *deep;              /* (ranges, m) */
	kf_cuda_lse *acc;            /* (T + ranges) */
	float *label;                /* (T) */
	int32_t *n_range;            /* (T) */
	/* answers, written by end */
	float *ce;                   /* (T), or NULL */
	int32_t *top_ids;            /* (T, k) */
	float *top_lp;               /* (T, k) */
	float *range_nlm;            /* (ranges) */
	int32_t *extra_n, *extra_ids;/* (T), (T, E), or NULL */
	float *extra_lp;             /* (T, E) */
	int32_t *bad;                /* one int, INT32_MAX before: the first row whose normaliser is not finite */
} kf_cuda_score;

int kf_cuda_score_begin(const kf_cuda_score *host_q, kf_cuda_stream s);
/* logits (T, ld), of order[p0 .. p0 + n) */
int kf_cuda_score_tile(const kf_cuda_score *host_q, const float *logits, int64_t ld, int p0, int n, kf_cuda_stream s);
int kf_cuda_score_end(const kf_cuda_score *host_q, kf_cuda_stream s);

/* ---- head_loss.cu: the loss over sparse targets, tile by tile ----
 *
 * For a block of rows: begin; every tile's logits, fold; settle; then, for gradients, every tile's logits again, back. */

typedef struct { double loss, clm, fusion; int64_t rows, clm_rows, fusion_rows; } kf_cuda_loss_sums;   /* as kf_loss */

typedef struct {
	int T, V;
	double lambda, temperature;
	bool kl, rest;               /* kinds of loss and of tail */
	float scale, cap;
	const int32_t *labels;       /* (T), or NULL */
	const uint32_t *off;         /* (T + 1), or NULL; row t's candidates are at off[t] - off[0] in ids, q, cand */
	const int32_t *ids;
	const float *q;
	const float *weight;         /* (T), or NULL */
	/* state */
	kf_cuda_lse *sum, *sum2;     /* (T); sum2 where the tail is renormalised at a temperature other than 1, else NULL */
	float *label;                /* (T) the label's logit */
	float *cand, *dcand;         /* (candidates) logits; their dlogits */
	float *coef;                 /* (5, T) */
	double *row;                 /* (3, T) loss, clm, fusion of each row, NAN where it has none */
	/* answers */
	kf_cuda_loss_sums *sums;     /* added to */
	int32_t *bad;                /* as above */
} kf_cuda_loss;

int kf_cuda_loss_begin(const kf_cuda_loss *host_q, kf_cuda_stream s);
int kf_cuda_loss_fold(const kf_cuda_loss *host_q, const float *logits, int64_t ld, int v0, int n, kf_cuda_stream s);
int kf_cuda_loss_settle(const kf_cuda_loss *host_q, kf_cuda_stream s);
/* dlogits (T, n) of type, times scale, from logits (T, ld); in place where type is F32 and ld = n. */
int kf_cuda_loss_back(const kf_cuda_loss *host_q, kf_num_type type, void *dlogits, const float *logits, int64_t ld, int v0,
	int n, kf_cuda_stream s);

#ifdef __cplusplus
}
#endif
#endif
