/* Text that a model goes on with: greedily, or sampled. */
#ifndef KF_MODEL_DECODE_H
#define KF_MODEL_DECODE_H

#include "common/model/model.h"
#include "common/text/tokenizer.h"

typedef struct {
	double temperature;        /* 0: the likeliest token each time, between equals the lowest id */
	double top_p;              /* sample among the likeliest tokens whose probabilities reach this; 1: among all */
	uint64_t seed;
	int batch_tokens;          /* of prompts run at once, at most, unless one is longer */
	size_t cache_bytes;        /* for keys and values, about; at least one sequence is run */
	const int32_t *end;        /* (n_end) tokens that end a text, beside EOS */
	int n_end;
} kf_decode_opts;

typedef enum { KF_ENDED_STOP, KF_ENDED_TOKEN, KF_ENDED_LENGTH } kf_ended;

typedef struct {
	const int32_t *prompt;     /* (n) n > 0 */
	int n, most;               /* most: tokens to generate */
	const char *const *stop;   /* (n_stop) strings before which the text ends */
	int n_stop;
	int32_t end;               /* a token that ends it, beside EOS and those of the options; -1: none */
	uint64_t stream;           /* which random numbers: those of (seed, stream), whatever else is generated */
	/* answers */
	kf_buf text;               /* to be released by the caller, also after an error */
	int tokens;                /* generated, an ending one included */
	kf_ended ended;
} kf_decoding;

/* Several sequences are run at once; one that ends makes room for the next. What is generated does not depend on how many, nor
 * on threads, but for rounding. done (may be NULL) is told of tokens as they come, and of sequences as they end, and may end it all. */
kf_status kf_decode(kf_model *m, const kf_tokenizer *t, const kf_decode_opts *o, kf_decoding *g, size_t n,
	kf_status (*done)(void *arg, size_t tokens, size_t ended, kf_err *err), void *arg, kf_err *err) KF_MUST_CHECK;

/* Whether the weights should be unpacked once (kf_model_opts.resident), as steps are small: where in float32 they take no more than half of the memory that is
 * to be had. */
bool kf_decode_resident(const kf_weights *w);

/* The tokens that end what is generated, beside EOS, in the arena. Of a folder all that eos_token_id of generation_config.json names, else
 * that of config.json, as transformers has it; of a GGUF file, which keeps one only, those that have a name by which llama.cpp ends. */
kf_status kf_decode_ends(const kf_weights *w, const kf_tokenizer *t, kf_arena *arena, const int32_t **out, int *n, kf_err *err) KF_MUST_CHECK;

typedef struct { float p; int32_t id; } kf_weighed;
/* A token of logits z (V), which are overwritten, by the random number u in [0, 1), temperature > 0. scratch (V). -1: one is NAN or
 * infinity, or all are -infinity. */
int32_t kf_sample(float *z, int V, double temperature, double top_p, double u, kf_weighed *scratch);

#endif
