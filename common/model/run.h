/* A group of documents through a model: windows, batches, and answers put to positions.
 *
 * Position p is about token p. Fed BOS t0 t1 .., row r of a sequence predicts position r; where the model
 * has no BOS it is fed t0 t1 .., row r predicts position r + 1, and position 0 has no distribution.
 *
 * A document of more tokens than the context holds is run in windows that begin half a context apart
 * (each with its own BOS); a position is taken from the first window that reaches it, which is the
 * one that gives it the most left context.
 *
 * Of a conversation (an encoding with context) only the positions that are no context are asked of the head; the others
 * have no distribution. Where its template has no BOS none is fed (kf_encoding.no_bos).
 *
 * The byte path: for the interior bytes of token p, the masses of all tokens that begin with the
 * bytes of p up to there. Where the bytes a token stands for are not those of the text it covers (a tokenizer
 * that normalises, an unknown token; a template's bytes at its ends are known of), there is no telling what else could stand there: the mass
 * is the token's own, so that sums along the text stay right.
 */
#ifndef KF_MODEL_RUN_H
#define KF_MODEL_RUN_H

#include "common/model/model.h"
#include "common/store/record.h"
#include "common/text/chat.h"
#include "common/text/tokenizer.h"

/* Everything is borrowed. */
typedef struct {
	const kf_tokenizer *tokenizer;
	const int32_t *order;      /* (V) the head's rows in byte order */
	int k;
	bool byte_path;
	int path_min, path_extra;
	int context;               /* tokens a sequence, BOS included; at least 2 */
	int batch_tokens;          /* a batch has at most so many, unless one sequence has more */
	/* kf_model_score, or a test's own; done is told after each batch how many tokens got their ce. */
	kf_status (*score)(void *arg, const kf_batch *b, const kf_score_query *q, kf_score *out, kf_err *err);
	void (*done)(void *arg, size_t tokens);
	void *arg;
} kf_runner;

/* The chat template for a corpus: kf_chat_choose where it holds conversations, else *out is NULL, and a name must be one of a template all the same. What fails names the first
 * conversation, which is what wants a template. */
kf_status kf_run_chat(const kf_set *corpus, const char *name, const kf_tokenizer *t, const char *model, kf_chat **out,
	kf_err *err) KF_MUST_CHECK;
/* Encode a document: its text, or, a conversation, what chat makes of it (may be NULL where there are none). */
kf_status kf_run_encode(const kf_tokenizer *t, const kf_chat *chat, const kf_corpus_rec *rec, kf_arena *arena, kf_encoding *out,
	kf_err *err) KF_MUST_CHECK;

/* Predict along n documents with their encodings. out (n) records point into the arena, the documents and the encodings. */
kf_status kf_run_group(const kf_runner *e, const kf_corpus_rec *docs, const kf_encoding *enc, size_t n,
	kf_arena *arena, kf_logits_rec *out, kf_err *err) KF_MUST_CHECK;

/* The same step by step, for who runs the batches of several groups in another order (e->score and e->done are not
 * called). How a group is cut into batches depends on nothing but the group. Everything borrowed until the records are done with. */
typedef struct kf_run kf_run;

kf_status kf_run_plan(const kf_runner *e, const kf_corpus_rec *docs, const kf_encoding *enc, size_t n,
	kf_arena *arena, kf_run **out, kf_err *err) KF_MUST_CHECK;
size_t kf_run_batches(const kf_run *r);
/* Tokens that get their ce in batch i; *fed: those it is fed, BOS and what windows see again included. */
size_t kf_run_tokens(const kf_run *r, size_t i, size_t *fed);
/* What batch i is fed, in arena. */
kf_status kf_run_feed(const kf_run *r, size_t i, kf_arena *arena, kf_batch *out, kf_err *err) KF_MUST_CHECK;

/* What the head is asked about a batch, and room for its answers; in an arena. */
typedef struct {
	kf_score_query q;
	kf_score out;
	int32_t *labels, *range_off, *range_lo, *range_hi, *rows; /* q's */
} kf_question;

kf_status kf_run_ask(const kf_run *r, size_t i, kf_arena *arena, kf_question *out, kf_err *err) KF_MUST_CHECK;
/* The answers put to their positions: batch 0 first, each once. */
void kf_run_take(kf_run *r, size_t i, const kf_question *q);
/* When all batches were taken. out (documents). */
void kf_run_records(kf_run *r, kf_logits_rec *out);
/* A failure of batch i: its documents are named in front of the message. */
kf_status kf_run_blame(const kf_run *r, size_t i, kf_status rc, kf_err *err) KF_MUST_CHECK;

/* How much there is to do, for planning. pairs: (position, position it sees), and of layers
 * whose positions see `limit` positions at most. */
typedef struct {
	uint64_t tokens, fed, asked; /* of text; fed to the model; positions asked of the head */
	double pairs, pairs_windowed;
} kf_run_work;

void kf_run_count(const kf_run *r, int limit, kf_run_work *add_to);

/* A group being gathered: n documents with their encodings, and room for what is predicted. Zero-initialise; release. */
typedef struct {
	kf_corpus_rec *docs;
	kf_encoding *enc;
	kf_logits_rec *out;
	size_t n, cap;
} kf_group;

/* Room for one document more; what was gathered is kept. */
kf_status kf_group_reserve(kf_group *g, kf_err *err) KF_MUST_CHECK;
void kf_group_release(kf_group *g);

/* Rows of the output matrix (V) in the order of their tokens' bytes, rows without a token last; freed with kf_free. */
kf_status kf_run_order(const kf_tokenizer *t, int V, int32_t **out, kf_err *err) KF_MUST_CHECK;

#endif
