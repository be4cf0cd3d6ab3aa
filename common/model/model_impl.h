/* What model.c, model_forward.c and model_backward.c share. Letters as in arch.h and ops.h. */
#ifndef KF_MODEL_MODEL_IMPL_H
#define KF_MODEL_MODEL_IMPL_H

#include "common/model/model.h"

/* One tensor of the model: where it is in the file, and in memory when it is there. */
typedef struct {
	const kf_tensor *file;
	kf_mat mat;              /* of a matrix: mat.f32 = value, or unpacked on use */
	float *value, *grad;     /* NULL: not resident; not trained */
} kf_slot;

/* Slots of a layer; NULL where the architecture has none. */
typedef struct {
	kf_slot *norm1, *norm2;              /* before attention, before the MLP */
	kf_slot *post1, *post2;              /* after them (Gemma) */
	kf_slot *q, *k, *v, *o, *qb, *kb, *vb, *ob;
	kf_slot *q_norm, *k_norm;
	kf_slot *gate, *up, *down, *gateb, *upb, *downb;
} kf_layer;

/* What a layer's forward leaves for its backward. Scoring reuses one of these for
 * all layers, with mid = the layer's input and output, updated in place. */
typedef struct {
	float *rstd1, *rstd2;                /* (T) */
	float *q, *k, *v;                    /* (T, H, D), (T, G, D) twice; after rotary */
	float *q_pre, *k_pre;                /* before the norms of q and k; NULL where it has none */
	float *rstd_q, *rstd_k;              /* (T, H), (T, G) */
	float *att, *lse;                    /* (T, H, D), (T, H) */
	float *mid;                          /* (T, C) after attention's residual */
	float *gate, *up;                    /* (T, F) */
	float *post1_in, *post2_in;          /* (T, C) before the norms after attention and MLP */
	float *rstd_p1, *rstd_p2;            /* (T) */
} kf_acts;

struct kf_model {
	const kf_weights *weights;
	const kf_arch *arch;
	kf_exec *x;
	kf_model_opts opts;

	int n;
	kf_slot *slots;                      /* (n) in the order of the architecture */
	kf_param *params;                    /* (n) when training */
	kf_layer *layers;                    /* (L) */
	kf_slot *embed, *norm, *head;        /* head = embed when tied */
	float *inv_freq, *inv_freq_local;    /* (D / 2) of full layers, of windowed ones */

	/* Memory for a batch: made for the largest so far. */
	int cap;                             /* tokens it is for */
	float *slab, *work;
	size_t slab_floats, work_floats;     /* allocated */
	float *h, *act, *tmp;                /* (T, C), (T, F), (T, C) scratch */
	float *dx, *dh, *dt;                 /* (T, C) */
	float *dact, *dq, *dk, *dv, *dpre, *datt;
	float *final_rstd;                   /* (T) */
	float *inputs;                       /* (L + 1, T, C) inputs of each layer, and the last output */
	kf_acts *acts;                       /* (L) of kept layers; the others share spare */
	kf_acts spare;
	int first_kept;                      /* layers [first_kept, L) keep their activations */
};

/* Point the buffers at memory for b->T tokens, growing it as needed. */
kf_status kf_model_room(kf_model *m, const kf_batch *b, bool train, kf_err *err) KF_MUST_CHECK;

/* The residual stream through one layer: in -> out, which may be the same (then a->mid is, too), or
 * NULL: only what the backward needs is made. */
kf_status kf_model_layer(kf_model *m, int layer, const kf_batch *b, const float *in, float *out, kf_acts *a,
	kf_err *err) KF_MUST_CHECK;

/* Embedding and all layers; *last is the residual stream after them. Scoring when !train. */
kf_status kf_model_forward(kf_model *m, const kf_batch *b, bool train, float **last, kf_err *err) KF_MUST_CHECK;

/* From dhidden in m->dh (gradient of the final norm's output) to every parameter. */
kf_status kf_model_backward(kf_model *m, const kf_batch *b, kf_err *err) KF_MUST_CHECK;

#endif
