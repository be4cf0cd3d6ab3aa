/* What the model*.c files share. Letters as in arch.h and ops.h. */
#ifndef KF_MODEL_MODEL_IMPL_H
#define KF_MODEL_MODEL_IMPL_H

#include "common/model/model.h"
#include "common/model/readahead.h"

/* One tensor of the model: where it is in the file, and in memory when it is there. */
typedef struct {
	const kf_tensor *file;
	kf_mat mat;              /* of a matrix: mat.num = value, or unpacked on use */
	kf_num_type num;         /* of value and grad: the exec's, float32 for vectors */
	void *value, *grad;      /* NULL: not resident; not trained */
	uint16_t *half;          /* mat.half, in memory of the host; NULL: none */
	float *master;           /* value in float32 while training; NULL where value is */
	bool wanted;             /* streaming: asked of the reader, and not dropped yet */
} kf_slot;

/* Slots of a layer, by part; NULL where the architecture has none. */
typedef struct {
	kf_slot *p[KF_PARTS];
	kf_slot **expert;                    /* (experts, 3): gate, down, up */
} kf_layer;

enum { KF_EXPERT_GATE, KF_EXPERT_DOWN, KF_EXPERT_UP, KF_EXPERT_PARTS };

/* What a layer's forward leaves for its backward. Scoring reuses one of these for
 * all layers, with mid = the layer's input and output, updated in place. */
typedef struct {
	float *rstd1, *rstd2;                /* (T); of LayerNorm means and rstd, (2, T) */
	kf_num *q, *k, *v;                   /* (T, H, D), (T, G, D) twice; after rotary */
	kf_num *q_pre, *k_pre;               /* before the norms of q and k; NULL where it has none */
	float *rstd_q, *rstd_k;              /* (T, H), (T, G) */
	kf_num *att;                         /* (T, H, D) */
	float *lse;                          /* (T, H) */
	kf_num *mid;                         /* (T, C) after attention's residual */
	kf_num *gate, *up;                   /* (T, F); of experts (T k, F), token by token within each; gate NULL: plain MLP */
	float *route;                        /* (T, k) weights of the experts */
	kf_num *expert_out;                  /* (T k, C) what they gave */
	int32_t *index;                      /* (T, k) which, in host memory */
	kf_num *post1_in, *post2_in;         /* (T, C) before the norms after attention and MLP */
	float *rstd_p1, *rstd_p2;            /* (T) */
} kf_acts;

/* KF_ENOMEM: what for, how much, how much is free where the backend has memory of its own, and the hint: what takes less. */
kf_status kf_model_no_memory(kf_exec *x, const char *what, double bytes, const char *hint, kf_err *err) KF_MUST_CHECK;

struct kf_kv {
	kf_model *m;
	int rows;
	kf_num *data;                        /* (L, 2, rows, G D): keys, then values, of each layer */
	int32_t *index;                      /* (T) rows in which the batch at work is put */
	size_t n_index;
};

struct kf_model {
	const kf_weights *weights;
	const kf_arch *arch;
	kf_exec *x;
	kf_model_opts opts;
	kf_reader *reader;                   /* streaming: stream.c's, while it runs a block; else NULL */

	int n;
	kf_slot *slots;                      /* (n) in the order of the architecture */
	kf_param *params;                    /* (n) when training */
	kf_layer *layers;                    /* (L) */
	kf_slot **experts;                   /* (L, experts, 3), which the layers point into */
	kf_slot *embed, *norm, *norm_b, *head; /* head = embed when tied */
	float *inv_freq, *inv_freq_local;    /* (R / 2) of full layers, of windowed ones */
	float *own_freq, *own_host;          /* (R / 2) of one sequence, where they depend on its length */
	float *slopes;                       /* (H) ALiBi's; NULL: none */

	/* Memory for a batch: made for the largest so far. */
	void *slab, *work;
	size_t slab_bytes, work_bytes;       /* allocated */
	kf_num *h, *act, *tmp;               /* (T, C), (T k, F), (T, C) scratch */
	kf_num *fused;                       /* (T, (H + 2 G) D) q, k and v together */
	kf_num *dx, *dh, *dt;                /* (T, C) */
	kf_num *dact, *dq, *dk, *dv, *dpre, *datt;
	kf_num *router, *ex, *dex;           /* of experts: (T, E), (T k, C) twice */
	float *sorted, *dsorted, *droute;    /* (T k): weights, and their gradients, in the experts' order; these in the tokens' */
	int32_t *ints;                       /* host memory of the index arrays: */
	size_t n_ints;
	int32_t *row_token, *row_slot, *start; /* (T k) in the experts' order: token; place in (T, k). (E + 1) where an expert's begin */
	float *final_rstd;                   /* (T) or (2, T) */
	kf_num *inputs;                      /* (L + 1, T, C) inputs of each layer, and the last output */
	void *logits;                        /* (rows, V) of kf_model_logits: floats of the backend */
	size_t n_logits;
	kf_acts *acts;                       /* (L) of kept layers; the others share spare */
	kf_acts spare;
	int first_kept;                      /* layers [first_kept, L) keep their activations */
	bool keep_free;                      /* as many as what is free holds, found anew when a batch is larger than all before: */
	size_t most_tokens;
};

/* What stands before a layer's sequences; a: the layer's own. And the layer's own put into the cache, if there is one. */
kf_past kf_model_past(const kf_model *m, int layer, const kf_batch *b, const kf_acts *a);
void kf_model_store(const kf_model *m, int layer, const kf_batch *b, const kf_acts *a);
/* Whether b->before is well formed, and the cache's index of the batch. */
kf_status kf_model_check_before(const kf_model *m, const kf_batch *b, kf_err *err) KF_MUST_CHECK;

/* Point the buffers at memory for b->T tokens, growing it as needed. */
kf_status kf_model_room(kf_model *m, const kf_batch *b, bool train, kf_err *err) KF_MUST_CHECK;
/* Backend memory of at least need bytes: *p holds *have; what was in it is not kept when it grows. */
kf_status kf_model_grow(kf_exec *x, void **p, size_t *have, size_t need, kf_err *err) KF_MUST_CHECK;

/* The residual stream through one layer: in -> out, which may be the same (then a->mid is, too), or
 * NULL: only what the backward needs is made. */
kf_status kf_model_layer(kf_model *m, int layer, const kf_batch *b, const kf_num *in, kf_num *out, kf_acts *a,
	kf_err *err) KF_MUST_CHECK;

/* Embedding and all layers; *last is the residual stream after them. Scoring when !train. */
kf_status kf_model_forward(kf_model *m, const kf_batch *b, bool train, kf_num **last, kf_err *err) KF_MUST_CHECK;

/* From dhidden in m->dh (gradient of the final norm's output) to every parameter. */
kf_status kf_model_backward(kf_model *m, const kf_batch *b, kf_err *err) KF_MUST_CHECK;

/* A batch that is well formed, of tokens that there are. */
kf_status kf_model_check(const kf_model *m, const kf_batch *b, kf_err *err) KF_MUST_CHECK;
/* The head asked about b, of which last (T, C) is the residual stream after all layers. */
kf_status kf_model_answer(kf_model *m, const kf_batch *b, const kf_num *last, const kf_score_query *q, kf_score *out,
	kf_err *err) KF_MUST_CHECK;

/* A tensor into the backend's memory, and out of it. */
kf_status kf_slot_load(kf_model *m, kf_slot *s, kf_err *err) KF_MUST_CHECK;
void kf_slot_unload(kf_model *m, kf_slot *s);
/* Streaming: the chosen experts (m->start says which have rows) are read, and loaded where they must be. */
kf_status kf_stream_experts(kf_model *m, const kf_layer *y, kf_err *err) KF_MUST_CHECK;

/* Bytes of n of the exec's numbers. */
static inline size_t kf_num_bytes(const kf_model *m, size_t n) { return n * kf_num_size(m->x->num); }

/* Shared by the two directions. */
static inline const float *kf_vec(const kf_slot *s) { return s ? s->value : NULL; }
kf_attn kf_model_attn(const kf_model *m, int layer);
void kf_model_norm(kf_model *m, kf_num *y, float *stat, const kf_num *in, const kf_slot *w, const kf_slot *b, int T);
void kf_model_norm_dx(kf_model *m, kf_num *dx, const kf_slot *w, const kf_slot *b, const kf_num *dy, const kf_num *in,
	const float *stat, int T);
kf_status kf_model_rope(kf_model *m, int layer, kf_num *v, const kf_batch *b, int heads, bool inverse, kf_err *err)
	KF_MUST_CHECK;

/* The experts' part of an MLP (Shazeer et al. 2017; as Mixtral has it): every token goes to the k experts its router
 * likes best, and gets the sum of what they give, weighted. h (T, C): normalised input.
 * Forward adds to out (T, C), or with out NULL only makes what the backward needs. */
kf_status kf_experts_forward(kf_model *m, const kf_layer *y, const kf_num *h, kf_acts *a, kf_num *out, int T,
	kf_err *err) KF_MUST_CHECK;
/* d (T, C): gradient of the sum. h as in the forward, in m->h; writes m->dh (T, C). */
kf_status kf_experts_backward(kf_model *m, const kf_layer *y, const kf_acts *a, const kf_num *d, int T, kf_err *err)
	KF_MUST_CHECK;

#endif
