/* Merging: several models of one architecture, shape and tokenizer become one, tensor by tensor.
 *
 * docs/merge.md defines every method. In short, with pivot P, models j = 0 … n-1, Δ_j = model j - P and
 * weights w_j:
 *
 *     linear           Σ w_j model_j (/ Σ w)
 *     slerp            the arc from the first model to the second
 *     task-arithmetic  P + Σ w_j Δ_j (/ Σ w)
 *     ties             the same of the largest elements of each Δ, where signs agree with their sum's
 *     dare             task-arithmetic of elements chosen at random and scaled up; dare-ties: ties of them
 *     varm             P + Σ w_j Δ_j, w from the size of each Δ
 *     sce              the elements that vary most, w from the size of what is left of each Δ, a vote on signs
 *
 * Everything is computed in chunks of a fixed size, and sums over chunks are taken in their order: what is
 * written does not depend on the number of threads.
 */
#ifndef KF_MERGE_H
#define KF_MERGE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/opt.h"
#include "common/base/pool.h"
#include "common/model/tensor.h"

#define KF_MERGE_MODELS KF_LIST_MAX

/* Numbered as the choices of the options are. */
typedef enum {
	KF_MERGE_SCE, KF_MERGE_VARM, KF_MERGE_LINEAR, KF_MERGE_SLERP, KF_MERGE_TASK, KF_MERGE_TIES, KF_MERGE_DARE,
	KF_MERGE_DARE_TIES
} kf_merge_method;
#define KF_MERGE_METHODS "sce|varm|linear|slerp|task-arithmetic|ties|dare|dare-ties"

typedef enum { KF_GRAIN_TENSOR, KF_GRAIN_MODULE, KF_GRAIN_LAYER, KF_GRAIN_MODEL } kf_merge_grain;
#define KF_MERGE_GRAINS "tensor|module|layer|model"

/* ---- one tensor ---- */

typedef struct {
	kf_merge_method method;
	double weight[KF_MERGE_MODELS]; /* (n) w_j; not of slerp and sce */
	double density;                 /* ties, dare: share of each Δ's elements that is kept, in (0, 1] */
	double select;                  /* sce: τ in (0, 1] */
	double t;                       /* slerp, in [0, 1] */
	bool normalize;                 /* divide by the sum of the weights (that took part in an element) */
	bool mergekit;                  /* do as mergekit 0.1.5 where it differs from the definition */
	uint64_t seed;                  /* dare */
} kf_merge_how;

/* The same tensor of every model, as a Hugging Face folder stores it (kf_weights_stored). */
typedef struct {
	const char *name;               /* of the tensor; dare's random elements depend on it */
	const kf_tensor *pivot;         /* NULL for linear and slerp */
	const kf_tensor *model;         /* (n) of the pivot's shape */
	int n;
} kf_merge_input;

typedef struct {
	double weight[KF_MERGE_MODELS]; /* (n) that each model had */
	uint64_t kept[KF_MERGE_MODELS]; /* (n) elements in which each took part */
	int bad;                        /* after KF_EDATA: which input had a NaN or infinity, -1 the pivot */
	uint64_t bad_at;                /* and which element of it */
} kf_merge_facts;

/* Memory and threads to merge tensors with: scratch of a few chunks a thread, whatever the tensors' sizes. */
typedef struct kf_merger kf_merger;
/* For n models and tensors of at most `rows` rows and `cols` columns. */
kf_status kf_merger_new(
	kf_pool *pool, int n, uint64_t rows, uint64_t cols, kf_merger **out, kf_err *err) KF_MUST_CHECK;
void kf_merger_free(kf_merger *m); /* accepts NULL */

/* out (rows, cols). KF_EDATA for an input's value that is not finite: facts say whose, the error text speaks
 * of the tensor. The result may leave float32's range. */
kf_status kf_merge_tensor(kf_merger *m, const kf_merge_how *how, const kf_merge_input *in, float *out,
	kf_merge_facts *facts, kf_err *err) KF_MUST_CHECK;

/* squares (n) = Σ Δ_j² over the tensor, for varm. */
kf_status kf_merge_squares(kf_merger *m, const kf_merge_input *in, double *squares, kf_merge_facts *facts,
	kf_err *err) KF_MUST_CHECK;

/* The group a tensor belongs to at a granularity: "model.layers.3.self_attn" for
 * model.layers.3.self_attn.q_proj.weight by module. out (128). */
void kf_merge_group(const char *name, kf_merge_grain grain, char out[128]);

/* ---- whole models ---- */

typedef struct {
	const char *pivot;              /* may be NULL for linear and slerp */
	kf_list models;
	const char *out;
	kf_merge_method method;
	const char *weights;            /* "W1,W2,…"; NULL: all 1 */
	double density, select, t;      /* NAN: not given */
	int normalize;                  /* 0: as the method does, 1: yes, 2: no */
	kf_merge_grain grain;
	bool mergekit;
	int dtype;                      /* 0: auto, 1: f32, 2: f16, 3: bf16 */
	long shard_bytes;               /* 0: 5 GB */
	bool replace;                   /* another merge in out is replaced, once this one is whole */
	long seed;
	int progress;                   /* KF_PROGRESS_* */
} kf_merge_opts;

typedef struct {
	bool current;                   /* the output was there: nothing was done, the rest is not set */
	int n;                          /* models */
	double weight[KF_MERGE_MODELS]; /* mean over all values */
	double kept[KF_MERGE_MODELS];   /* share of all values in which a model took part */
	uint64_t values, bytes;         /* of the model; of its tensors as written */
	kf_dtype dtype;
	double seconds;
} kf_merge_result;

/* Merge into the new folder o->out (or, with o->replace, one that has another merge and nothing else), which transformers loads as it is: configuration and tokenizer of the
 * pivot, else of the first model, but the chat template of the models where all of them have the same; merge.json with the weights by
 * tensor; kfuse.json with what made it.
 * Memory: one tensor in float32 and an eighth of it, and of each model the pages of one tensor's file. KF_EUSAGE: options that do
 * not belong together; KF_EMISMATCH: models that do not, named with the tensor, or an output made from
 * something else; KF_EINVAL: a model that lies in o->out, or other things there; KF_EDATA: NaN or infinity, named with model and tensor. Nothing that looks complete is left
 * behind on failure. */
kf_status kf_merge(const kf_merge_opts *o, kf_pool *pool, kf_merge_result *out, kf_err *err) KF_MUST_CHECK;

#endif
