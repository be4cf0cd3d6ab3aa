/* The op table: what a model's forward and backward are made of. One table a
 * backend; nobody above it names a device.
 *
 *     kf_ops_ref     plain loops, one thread: the definition, kept for the tests
 *     kf_ops_cpu     oneDNN, threads, vector loops
 *     kf_ops_cuda()  cuBLASLt, cuDNN, kernels of our own (backend.h)
 *
 * Shapes: T tokens (rows of the packed batch), C width, H query heads, G
 * key-value heads (G divides H), D head size, F MLP width, V vocabulary rows,
 * S sequences with offset (S + 1) into the T rows. Everything is row-major, contiguous, in
 * memory of the backend (alloc), except index arrays, queries, their answers and kf_mat, which
 * are in host memory. Backward ops ADD to the gradients they are named after (dx, dw,
 * ...) unless said otherwise, so the caller clears what must start at zero.
 *
 * kf_num is a number as the exec stores it (kf_exec.num): activations, weight matrices, and the gradients
 * of both. float32 on ref and cpu; float32 or bfloat16 on cuda. Vectors (norms' weights, biases) and their
 * gradients, statistics kept for the backward, routing weights, optimizer moments and master weights
 * are float32 everywhere: they are small, or they are sums.
 */
#ifndef KF_OPS_OPS_H
#define KF_OPS_OPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/mem.h"
#include "common/base/pool.h"
#include "common/base/ranks.h"
#include "common/base/status.h"

typedef struct kf_ops kf_ops;

/* A backend that stores float32 only says so before it includes this, and writes its ops in floats.
 * (The table then passes a void * where such an op takes a float *: the same where all pointers to objects are alike,
 * as they are on every machine with POSIX.) Elsewhere kf_num has no size: step through it with kf_at. */
#ifdef KF_NUM_IS_FLOAT
typedef float kf_num;
#else
typedef void kf_num;
#endif

typedef enum { KF_NUM_F32, KF_NUM_BF16 } kf_num_type;

/* Of matrix products. bf16: both operands rounded to bfloat16, float32 sums. int8: the matrices that say so (kf_mat.int8)
 * in blocks of eight-bit integers, the others as bf16. Both give the same on every processor (bf16 but for the order of sums). */
typedef enum { KF_COMPUTE_AUTO, KF_COMPUTE_F32, KF_COMPUTE_BF16, KF_COMPUTE_INT8, KF_COMPUTES } kf_compute;
const char *kf_compute_name(kf_compute c);   /* "auto", "f32", "bf16", "int8" */

/* What every op gets: backend, threads, and the backend's own scratch memory. */
typedef struct kf_exec {
	const kf_ops *ops;
	kf_pool *pool;
	kf_compute compute;      /* of matrix products; not AUTO */
	kf_num_type num;         /* how kf_num is stored; float32 unless open says otherwise */
	int device;              /* which of the backend's devices, from 0; more than there are: counted round */
	void *state;             /* the backend's */
} kf_exec;

/* Bytes of a number. */
static inline size_t kf_num_size(kf_num_type t)
{
	return t == KF_NUM_BF16 ? 2 : 4;
}

/* Number n from p on. */
static inline void *kf_at(const kf_exec *x, const void *p, size_t n)
{
	return (char *)p + n * kf_num_size(x->num);
}

kf_status kf_exec_new(const kf_ops *ops, kf_pool *pool, kf_compute compute, kf_exec **out, kf_err *err) KF_MUST_CHECK;
kf_status kf_exec_new_on(const kf_ops *ops, kf_pool *pool, kf_compute compute, int device, kf_exec **out, kf_err *err) KF_MUST_CHECK;
void kf_exec_free(kf_exec *x);   /* accepts NULL */

/* A weight matrix (rows, cols): resident in the backend's memory, or unpacked from the
 * model's file each time it is used (weights held once; the cost is shared by all rows of a batch). */
typedef struct {
	int rows, cols;
	const kf_num *num;       /* (rows, cols), or NULL: then unpack (not where kf_ops.resident) */
	/* Unpack rows [row, row + n), or those that index names, into out (n, cols). Called from many threads. */
	void (*unpack)(const void *src, const int32_t *index, uint64_t row, uint64_t n, float *out);
	const void *src;
	const uint16_t *half;    /* (rows, cols) the same rounded to bfloat16, which the CPU's products in that take; NULL: they round it on each use */
	bool int8;               /* forward products with it may be in int8 where the exec computes so */
} kf_mat;

/* What the head is asked about each row when a model is run over known text. */
typedef struct {
	int k;                       /* candidates to keep, <= V */
	const int32_t *labels;       /* (T) token that followed, -1: none */
	const int32_t *order;        /* (V) rows in the order to visit (kf_tokenizer_sorted, then rows without a token) */
	/* The byte path. Row t has ranges [range_off[t], range_off[t+1]); range r is rows
	 * [lo[r], hi[r]) of order, each inside the one before it (longer prefixes of the label's bytes). NULL: none. */
	const int32_t *range_off;    /* (T + 1) */
	const int32_t *range_lo, *range_hi;
	/* Extra candidates beyond the top k. The ranges of a row are taken from the last (the longest prefix)
	 * to the first; to one with fewer than m stored candidates in it (of the top k, or extra already) the best of
	 * the range that are not stored are added until it has m or has no more, or the row has E extras.
	 * Better means a larger logit; between equals, the lower id. */
	int extra_min;               /* m */
	int extra_max;               /* E */
	float cap;                   /* logits are cap * tanh(z / cap); 0: z itself */
	/* Which of the batch's rows are asked, ascending: T above is then n_rows, and labels, ranges and answers are of these.
	 * kf_model_score sees to that (head_score gets their hidden states only). NULL: all. */
	const int32_t *rows;         /* (n_rows) */
	int n_rows;
} kf_score_query;

/* Answers; all in host memory, allocated by the caller. */
typedef struct {
	float *ce;                   /* (T) -ln p(label); NAN where none */
	int32_t *top_ids;            /* (T, k) best first; ties: lower id first */
	float *top_lp;               /* (T, k) ln p */
	float *range_nlm;            /* (ranges) -ln of the mass of the range; INFINITY when empty */
	int32_t *extra_n;            /* (T) extra candidates of each row */
	int32_t *extra_ids;          /* (T, E) best first: beyond the top k, the best that make ranges reach m */
	float *extra_lp;             /* (T, E) */
} kf_score;

/* Sparse training targets a row, and the loss: lambda_t CLM + (1 - lambda_t) F, lambda_t = 1 - w_t (1 - lambda).
 *
 * CLM is -ln p(label), at temperature 1. F is -sum q' ln p' over outcomes (CE), or that less the entropy of q'
 * (KL: the same gradient), times temperature^2 so that its gradient keeps its size (Hinton, Vinyals and Dean 2015,
 * section 2). With tau the temperature:
 *   REST         outcomes are the candidates S and one more, "another token", with q's 1 - sum q and p's mass
 *                off S. Both sides are raised to 1/tau and normalised over these outcomes. (Not softmax(z / tau): that heats
 *                every token of the rest by itself, which a teacher known only by S cannot answer; this way a
 *                student that equals its teacher has no gradient, at any tau.) Where S is the whole vocabulary there is no rest.
 *   RENORMALIZE  q' is q^(1/tau) normalised over S, p' = softmax(z / tau) over the vocabulary. A row whose q are all 0
 *                counts as having none.
 * A row without candidates counts as its label: lambda_t = 1. A row without a label has (1 - lambda_t) F alone;
 * without either, nothing. At tau = 1 nothing is raised or multiplied. */
typedef enum { KF_LOSS_CE, KF_LOSS_KL } kf_loss_kind;
typedef enum { KF_TAIL_REST, KF_TAIL_RENORMALIZE } kf_tail_kind;
typedef struct {
	const int32_t *labels;       /* (T) -1: no CLM term */
	const uint32_t *off;         /* (T + 1) candidates of row t; empty: the row counts as its label */
	const int32_t *ids;          /* distinct in a row */
	const float *q;              /* probabilities, sum <= 1 a row */
	const float *weight;         /* (T) w in [0, 1]: the row's lambda is 1 - w (1 - lambda); NULL: 1 */
	double lambda, temperature;
	kf_loss_kind kind;
	kf_tail_kind tail;           /* REST: the mass outside the candidates is one more outcome */
	float scale;                 /* the gradient is of scale * sum over rows of the loss */
	float cap;                   /* logits are cap * tanh(z / cap); 0: z itself */
} kf_loss_query;

typedef struct {
	double loss, clm, fusion;    /* sums over rows, nats, unscaled; fusion over rows with candidates */
	int64_t rows, clm_rows, fusion_rows; /* rows with a loss; with a label; with candidates */
} kf_loss;

/* Rotary positions: the first R of a head's D numbers turn, in halves (i with i + R/2: Hugging Face's convention). */
typedef struct {
	const float *inv_freq;       /* (R / 2) */
	int R;                       /* even, <= D */
	float scale;                 /* of what turned (cosines and sines are multiplied by it): 1 but for YaRN and LongRoPE */
} kf_rotary;

/* What causal attention computes of q (T, H, D), k, v (T, G, D). Scores are s = scale q.k, then cap * tanh(s / cap)
 * where cap > 0, then + slopes[h] * (key's position - row's) where there are slopes (ALiBi; not with a cap). */
typedef struct {
	int H, G, D;
	float scale;
	int window;                  /* position i sees (i - window, i]; 0: all before it */
	float cap;                   /* 0: none */
	const float *slopes;         /* (H), or NULL */
} kf_attn;

/* What stands before the sequences of a batch that go on: sequence s attends to rows [row[s], row[s] + n[s]) of k and v
 * (.., G, D) before its own, and the position of its first row is n[s]. Rows of one sequence may stand before several. */
typedef struct {
	const kf_num *k, *v;         /* a cache's, or this batch's own */
	const int32_t *row, *n;      /* (S) */
} kf_past;

typedef enum { KF_ACT_SILU, KF_ACT_GELU_TANH, KF_ACT_GELU } kf_act; /* GELU: with the error function */

/* An array of the backend's memory. */
typedef struct {
	const void *v;
	kf_num_type type;
	size_t n;
} kf_nums;

/* A parameter of n numbers, or a part of one, and what AdamW keeps of it; all in the backend's memory. */
typedef struct {
	kf_num_type type;            /* of w and g */
	void *w;
	const void *g;
	float *master;               /* (n) what is updated, w being its rounding as put_num does it; NULL where w is float32 */
	float *m, *v;                /* (n) moments; NULL where they are in 8 bits */
	size_t n;
	uint64_t first;              /* place in the parameter of the first of the n: a multiple of KF_MOMENT_BLOCK */
	/* Moments in 8 bits, by blocks of KF_MOMENT_BLOCK with a scale each (moments8.h); m8 NULL: not. All zero before the
	 * first step. salt differs from parameter to parameter: rounding is by chance. */
	int8_t *m8;
	uint8_t *v8;
	float *m_scale, *v_scale;    /* (n / KF_MOMENT_BLOCK, rounded up) */
	uint32_t salt;
} kf_adamw;

enum { KF_MOMENT_BLOCK = 256 };

/* g is multiplied by gscale first; step counts from 1. */
typedef struct {
	float gscale, lr, beta1, beta2, eps, decay;
	int64_t step;
} kf_adamw_opts;

struct kf_ops {
	const char *name;
	bool resident;           /* weight matrices must be in the backend's memory: unpack is never called */

	kf_status (*open)(kf_exec *x, kf_err *err);      /* makes x->state; may be NULL */
	void (*close)(kf_exec *x);
	void *(*alloc)(kf_exec *x, size_t n, size_t size);
	void (*free)(kf_exec *x, void *p);
	/* Bytes of the backend's memory that are free; NULL where that is the host's. */
	kf_status (*memory)(kf_exec *x, size_t *left, kf_err *err);
	kf_status (*put)(kf_exec *x, void *dst, const void *host, size_t bytes, kf_err *err);
	kf_status (*get)(kf_exec *x, void *host, const void *src, size_t bytes, kf_err *err);
	/* n numbers of type from and to floats of the host; to bfloat16 by rounding to the nearest, ties to even */
	kf_status (*put_num)(kf_exec *x, void *dst, kf_num_type type, const float *host, size_t n, kf_err *err);
	kf_status (*get_num)(kf_exec *x, float *host, const void *src, kf_num_type type, size_t n, kf_err *err);
	void (*zero)(kf_exec *x, void *p, size_t bytes);

	/* y (T, N) = x (T, K) w (N, K)^T + bias (N, or NULL) (+ y when add) */
	kf_status (*linear)(kf_exec *x, kf_num *y, const kf_num *in, const kf_mat *w, const float *bias, int T, bool add, kf_err *err);
	/* float32 whatever other numbers are: y (T, N) = x (T, K) w (N, K)^T, of the head */
	kf_status (*logits)(kf_exec *x, float *y, const kf_num *in, const kf_mat *w, int T, kf_err *err);
	/* dx (T, K) = dy (T, N) w (+ dx when add) */
	kf_status (*linear_dx)(kf_exec *x, kf_num *dx, const kf_num *dy, const kf_mat *w, int T, bool add, kf_err *err);
	/* dw (N, K) += dy^T x;  db (N, or NULL) += column sums of dy */
	kf_status (*linear_dw)(kf_exec *x, kf_num *dw, float *db, const kf_num *dy, const kf_num *in, int T, int N, int K, kf_err *err);

	/* y (T, C) = scale * table[tokens];  dtable[tokens] += scale * dy */
	kf_status (*embed)(kf_exec *x, kf_num *y, const kf_mat *table, const int32_t *tokens, float scale, int T, kf_err *err);
	kf_status (*embed_dw)(kf_exec *x, kf_num *dtable, const kf_num *dy, const int32_t *tokens, float scale, int T, int V, int C, kf_err *err);

	/* RMSNorm over rows of C: y = x * rstd * w, rstd = 1/sqrt(mean x^2 + eps). rstd (rows) is kept for backward, or NULL. */
	void (*rmsnorm)(kf_exec *x, kf_num *y, float *rstd, const kf_num *in, const float *w, float eps, int64_t rows, int C);
	void (*rmsnorm_dx)(kf_exec *x, kf_num *dx, float *dw, const kf_num *dy, const kf_num *in, const float *w, const float *rstd, int64_t rows, int C);

	/* LayerNorm over rows of C: y = (x - mean) rstd w + b; w, b (C), b may be NULL. stat (2, rows): means, then
	 * rstd, kept for backward; may be NULL. Backward adds to dx, dw, db (db may be NULL, all may). */
	void (*layernorm)(kf_exec *x, kf_num *y, float *stat, const kf_num *in, const float *w, const float *b, float eps,
		int64_t rows, int C);
	void (*layernorm_dx)(kf_exec *x, kf_num *dx, float *dw, float *db, const kf_num *dy, const kf_num *in, const float *w,
		const float *stat, int64_t rows, int C);

	/* Rotary, in place on v (T, heads, D). position of row t is t - its sequence's offset. inverse: the backward. */
	void (*rope)(kf_exec *x, kf_num *v, const kf_rotary *r, const int32_t *offset, int S, int heads, int D, bool inverse);

	/* Between a fused projection, in (T, (H + 2 G) D), and q (T, H, D), k, v (T, G, D). grouped: for each of the G
	 * groups its H / G queries, its key, its value; else all queries, all keys, all values. join: the other way. */
	void (*split_qkv)(kf_exec *x, kf_num *fused, kf_num *q, kf_num *k, kf_num *v, int T, const kf_attn *a, bool grouped,
		bool join);

	/* Causal attention of packed sequences: out (T, H, D). lse (T, H): log-sum-exp of the scores, kept for backward,
	 * or NULL. */
	kf_status (*attention)(kf_exec *x, kf_num *out, float *lse, const kf_num *q, const kf_num *k, const kf_num *v,
		const int32_t *offset, int S, const kf_attn *a, kf_err *err);
	/* dq, dk, dv are written, not added to. */
	kf_status (*attention_dx)(kf_exec *x, kf_num *dq, kf_num *dk, kf_num *dv, const kf_num *dout, const kf_num *out, const float *lse,
		const kf_num *q, const kf_num *k, const kf_num *v, const int32_t *offset, int S, const kf_attn *a, kf_err *err);

	/* The same two for sequences that go on, forward only, and what keeps their rows: y[index[i]] = row i of in (n, C). A
	 * backend without them leaves all three NULL: then models only run whole sequences. */
	void (*rope_after)(kf_exec *x, kf_num *v, const kf_rotary *r, const int32_t *offset, const int32_t *first, int S, int heads,
		int D);              /* position of row t of sequence s: first[s] + t - offset[s] */
	kf_status (*attention_after)(kf_exec *x, kf_num *out, const kf_num *q, const kf_num *k, const kf_num *v, const int32_t *offset,
		int S, const kf_past *past, const kf_attn *a, kf_err *err);
	void (*store)(kf_exec *x, kf_num *y, const kf_num *in, const int32_t *index, int n, int C);

	/* y = act(gate) * up, elementwise over n; up NULL: act(gate) alone.
	 * Backward writes dgate and dup (may be in place of gate and up; dup NULL where up is). */
	void (*glu)(kf_exec *x, kf_num *y, const kf_num *gate, const kf_num *up, kf_act act, size_t n);
	void (*glu_dx)(kf_exec *x, kf_num *dgate, kf_num *dup, const kf_num *dy, const kf_num *gate, const kf_num *up, kf_act act, size_t n);

	/* Routing among E experts: index (T, k), in host memory, the k largest logits (T, E) of each row, best first,
	 * between equals the lower; weight (T, k) the softmax over those k. Logits that are not finite: KF_EDATA.
	 * Backward: dlogits (T, E) is written. */
	kf_status (*route)(kf_exec *x, float *weight, int32_t *index, const kf_num *logits, int T, int E, int k, kf_err *err);
	void (*route_dx)(kf_exec *x, kf_num *dlogits, const float *dweight, const float *weight, const int32_t *index,
		int T, int E, int k);
	/* out (n) = in (n) put in the order of index, a permutation in host memory: out[i] = in[index[i]]; inverse: out[index[i]] = in[i]. */
	void (*permute)(kf_exec *x, float *out, const float *in, const int32_t *index, int n, bool inverse);
	/* y (n, C) = weight[i] * in[index[i]];  y[index[i]] += weight[i] * in (n, C);  weight (n), NULL: 1.
	 * out (n): the dot product of row i of a (n, C) and row index[i] of b. */
	void (*gather)(kf_exec *x, kf_num *y, const kf_num *in, const int32_t *index, const float *weight, int n, int C);
	void (*scatter)(kf_exec *x, kf_num *y, const kf_num *in, const int32_t *index, const float *weight, int n, int C);
	void (*dots)(kf_exec *x, float *out, const kf_num *a, const kf_num *b, const int32_t *index, int n, int C);

	void (*add)(kf_exec *x, kf_num *y, const kf_num *in, size_t n);             /* y += in */
	void (*keep_rows)(kf_exec *x, kf_num *y, int C, const int32_t *rows, int n); /* row i of y (.., C) becomes rows[i]; rows (n) ascend */

	/* The fused head: hidden (T, C) through w (V, C) in tiles of the vocabulary; no (T, V) matrix ever exists, and
	 * memory does not grow as one. Queries that break their rules: KF_EINVAL. Logits that are not finite: KF_EDATA. */
	kf_status (*head_score)(kf_exec *x, const kf_num *hidden, const kf_mat *w, int T, const kf_score_query *q, kf_score *out, kf_err *err);
	/* dhidden (T, C) is written, dw (V, C) added to; both NULL: the loss alone. */
	kf_status (*head_loss)(kf_exec *x, const kf_num *hidden, const kf_mat *w, int T, const kf_loss_query *q,
		kf_num *dhidden, kf_num *dw, kf_loss *out, kf_err *err);

	/* Sum of the squares of all numbers of n arrays. */
	double (*sumsq)(kf_exec *x, const kf_nums *v, int n);
	/* AdamW (Loshchilov and Hutter 2019). */
	void (*adamw)(kf_exec *x, const kf_adamw *p, const kf_adamw_opts *o);

	/* Between the memories of several processes (base/ranks.h), without the host's; all NULL: the backend cannot. join once,
	 * before the others; all three are collective. begin (size + 1): where in v the part of each process begins, in numbers.
	 * sum_parts: this process's part becomes the sum over the processes, the others are as they were; send_parts: each process's
	 * part reaches all. They may still be under way on return: what the backend is asked next comes after them. */
	kf_status (*join)(kf_exec *x, kf_ranks *r, kf_err *err);
	kf_status (*sum_parts)(kf_exec *x, void *v, kf_num_type type, const size_t *begin, kf_err *err);
	kf_status (*send_parts)(kf_exec *x, void *v, kf_num_type type, const size_t *begin, kf_err *err);
};

extern const kf_ops kf_ops_ref;
extern const kf_ops kf_ops_cpu;
bool kf_cpu_bf16_native(void);   /* whether this processor multiplies bfloat16 itself (AVX512_BF16, AMX) */

#endif
