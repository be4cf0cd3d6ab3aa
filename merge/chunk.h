/* A tensor of all models, passed over in chunks of fixed size by all threads. */
#ifndef KF_MERGE_CHUNK_H
#define KF_MERGE_CHUNK_H

#include "common/base/mem.h"
#include "merge/merge.h"

#define KF_ACCS 3

/* A chunk as a pass gets it. Scratch is the worker's own and holds anything. */
typedef struct {
	size_t index;             /* of the chunk */
	uint64_t at;              /* its first element in the tensor */
	size_t n;                 /* elements */
	const float *p;           /* (n) pivot; NULL where there is none */
	float *const *d;          /* [models] (n): Δ, or the model's own value without a pivot; may be changed */
	double *acc[KF_ACCS];     /* (n) scratch */
	uint32_t *keys;           /* (n) scratch */
	double *part;             /* (KF_MERGE_PARTS) this chunk's sums, zeroed; kf_merge_sum adds those of all */
	uint64_t *count;          /* [models] the worker's counters since kf_merge_begin; kf_merge_count adds them */
	int worker;
} kf_chunk;

#define KF_MERGE_PARTS(n) (2 * (n) + 3) /* sums a chunk */

struct kf_merger {
	kf_pool *pool;
	int n;                            /* models it has room for */
	size_t cap;                       /* elements of the largest chunk */
	size_t max_chunks;
	struct lane {                     /* a worker's */
		float *values;                /* (n + 1, cap) */
		float *row[KF_MERGE_MODELS];
		double *acc;                  /* (KF_ACCS, cap) */
		uint32_t *keys;               /* (cap) */
		uint64_t *count;              /* (n) */
		uint32_t *bins;               /* (n, KF_BINS), select.c's */
		bool bad;                     /* met a value that is not finite */
	} *lane;
	double *part;                     /* (max_chunks, KF_MERGE_PARTS) */
	uint64_t *ties;                   /* (n, max_chunks), select.c's */
	/* of the tensor at hand: */
	kf_merge_input in;
	uint64_t rows, cols;
	uint64_t chunk_rows;
	size_t chunks;
	bool checked;                     /* a pass has seen all inputs finite */
};

#define KF_BINS 65536

typedef void (*kf_chunk_fn)(void *arg, const kf_chunk *c);

/* Begin with a tensor. */
void kf_merge_begin(kf_merger *m, const kf_merge_input *in);
/* Call fn for every chunk. The first pass over a tensor checks that its values are finite. */
kf_status kf_merge_pass(
	kf_merger *m, kf_chunk_fn fn, void *arg, kf_merge_facts *facts, kf_err *err) KF_MUST_CHECK;
/* What the chunks of the last pass put into part[which], in their order. */
double kf_merge_sum(const kf_merger *m, int which);
/* All workers' count[model]. */
uint64_t kf_merge_count(const kf_merger *m, int model);

#endif
