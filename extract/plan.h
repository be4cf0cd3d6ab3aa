/* kf-extract --plan: what a run would take, told before it is started. */
#ifndef KF_EXTRACT_PLAN_H
#define KF_EXTRACT_PLAN_H

#include "extract/impl.h"

typedef struct {
	char model[256];
	int layers, batch_tokens, shards;
	/* The corpus, or the part of it: estimated from documents spread evenly over it that were encoded; all of it when
	 * it is small. */
	uint64_t documents, bytes, sampled_documents, sampled_bytes;
	bool exact;
	double tokens, fed, asked;     /* of text; fed to the model (BOS, windows that overlap); positions predicted */
	uint64_t batches;
	kf_budget budget;
	uint64_t cached;               /* bytes of the weights that are in memory already, in the kernel's cache */
	uint64_t blocks;               /* when streaming */
	double flops;                  /* of matrix products and attention, in all; two a multiply-add */
	uint64_t output;               /* bytes, from what other models took */
	/* Probes. Time of a batch of n tokens: fixed + n * token. */
	int probe_tokens;              /* 0: there was no text to try */
	double layer_fixed, layer_token, head_fixed, head_token; /* seconds */
	double flop_rate;              /* a second, in a layer */
	bool way_open;                 /* --compute auto: a faster way than float32 may be found for the run */
	uint64_t read_bytes;           /* what the read speed is of; 0: everything tried was in memory already, and it is not known */
	double read_rate;              /* bytes a second */
	/* Seconds, reading included as far as it is known. */
	double computing, fingerprint, in_memory, streaming;
} kf_extract_plan;

/* Reads a sample of the text, one layer of the weights and the head. Nothing is written. */
kf_status kf_extract_make_plan(const kf_extract_opts *o, kf_extract_plan *out, kf_err *err) KF_MUST_CHECK;

void kf_extract_plan_text(const kf_extract_plan *p, kf_buf *out);
json_t *kf_extract_plan_json(const kf_extract_plan *p);  /* new; NULL: no memory */

#endif
