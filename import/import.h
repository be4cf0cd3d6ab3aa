/* kf-import: token log-probabilities that another program computed, as a logits set of a corpus.
 *
 * Input is JSON Lines, one line a document, in any order, of every document of the corpus. docs/import.md has the forms:
 *   jsonl     what kf-export writes, and the same with less in it
 *   vllm      a response of an OpenAI-compatible server with prompt_logprobs
 *   openai    a completion with echo and logprobs
 * All of it is read and checked before anything is written: the tokens must be those of the document's text, byte for
 * byte, offsets and lists must fit, numbers must be log-probabilities. What a form cannot give is absent:
 * masses inside tokens and extra candidates (but in what kf-export wrote), what follows the text. Where a position has fewer
 * than top_k candidates, the others have probability 0 and id 0.
 */
#ifndef KF_IMPORT_IMPORT_H
#define KF_IMPORT_IMPORT_H

#include <jansson.h>

#include "common/base/pool.h"
#include "common/store/set.h"

typedef enum { KF_IMPORT_AUTO, KF_IMPORT_JSONL, KF_IMPORT_VLLM, KF_IMPORT_OPENAI } kf_import_format;

typedef struct {
	const char *corpus, *out;
	const char *const *inputs;   /* (n_inputs) files, or folders of *.jsonl */
	int n_inputs;
	const char *tokenizer;       /* a Hugging Face folder, a file of it (tokenizer.json), or a GGUF file */
	const char *name;            /* of the model, for people; NULL: the tokenizer's folder or file */
	kf_import_format format;
	long top_k;
	bool f32;
	bool replace;                /* a set in out that was made of something else is replaced */
	int part, parts;             /* shards s with s % parts == part are written; everything is checked */
	int progress;                /* KF_PROGRESS_* */
	json_t *record;              /* the options that shape the content (kf_opt_record); borrowed */
} kf_import_opts;

typedef struct {
	kf_set_state state;
	bool complete;               /* false after one part of an array job */
	bool path;                   /* the set has masses inside tokens */
	/* Of all documents, also those of other parts; 0 when the set was up to date. */
	uint64_t documents, tokens;
	uint64_t positions, full;    /* with a distribution; of those with top_k candidates */
	uint64_t candidates;         /* given */
	uint64_t nameless;           /* of those: named no token of the vocabulary, and were left out */
	char first_nameless[sizeof ((kf_err *)0)->text]; /* FILE, line N, token I: "NAME" */
	uint64_t beyond;             /* of those: ids above the tokenizer's, as rows that only pad an embedding have */
} kf_import_stats;

kf_status kf_import(const kf_import_opts *o, kf_pool *pool, kf_import_stats *stats, kf_err *err) KF_MUST_CHECK;

#endif
