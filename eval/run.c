#include "eval/run.h"

#include <string.h>

#include "common/model/run.h"
#include "eval/scores.h"

enum { GROUP = 8 }; /* batches of documents held at once: all but the last of them are full */

typedef struct {
	kf_set *corpus;
	kf_subject s;
	int32_t *order;
} runner;

static void runner_close(runner *x)
{
	kf_free(x->order);
	kf_subject_close(&x->s);
	kf_set_close(x->corpus);
}

static kf_status runner_open(runner *x, const kf_eval_opts *o, int m, kf_err *err)
{
	kf_status rc;

	if ((rc = kf_set_open(o->corpus, KF_SET_CORPUS, &x->corpus, err)) != KF_OK) return rc;
	if ((rc = kf_subject_open(&x->s, o->model[m].path, err)) != KF_OK) return rc;
	return kf_run_chat(x->corpus, kf_subject_template(o->model[m].chat_template), x->s.tokenizer, o->model[m].path, &x->s.chat, err);
}

static kf_status score(void *arg, const kf_batch *b, const kf_score_query *q, kf_score *out, kf_err *err)
{
	runner *x = arg;

	return kf_model_score(x->s.model, b, q, out, err);
}

static kf_status start_model(runner *x, const kf_eval_opts *o, kf_err *err)
{
	kf_status rc = kf_run_order(x->s.tokenizer, kf_weights_arch(x->s.weights)->V, &x->order, err);

	return rc == KF_OK ? kf_subject_start(&x->s, o, false, err) : rc;
}

/* ---- groups of documents ---- */

static kf_status next_document(runner *x, kf_shard *in, kf_arena *arena, kf_corpus_rec *rec,
	kf_encoding *enc, kf_err *err)
{
	kf_status rc = kf_shard_next_corpus(in, arena, rec, err);

	if (rc != KF_OK) return rc;
	return kf_run_encode(x->s.tokenizer, x->s.chat, rec, arena, enc, err);
}

/* Documents until there are enough tokens for a group; KF_END with the last ones of the shard. */
static kf_status read_group(runner *x, kf_shard *in, kf_arena *arena, kf_group *g, size_t most, kf_err *err)
{
	size_t tokens = 0;
	kf_status rc;

	for (g->n = 0; tokens < most; g->n++) {
		if ((rc = kf_group_reserve(g, err)) != KF_OK) return rc;
		if ((rc = next_document(x, in, arena, &g->docs[g->n], &g->enc[g->n], err)) != KF_OK) return rc;
		tokens += g->enc[g->n].n + 1;
	}
	return KF_OK;
}

/* ---- the two walks ---- */

kf_status kf_eval_run_covers(const kf_eval_opts *o, int m,
	kf_status (*fn)(void *arg, const kf_dochead *head, const kf_eval_cover *cover, kf_err *err), void *arg, kf_err *err)
{
	runner x = { 0 };
	kf_shard *in = NULL;
	kf_arena arena;
	kf_status rc;

	kf_arena_init(&arena);
	if ((rc = runner_open(&x, o, m, err)) != KF_OK) goto out;
	for (int s = 0; s < kf_set_shards(x.corpus); s++) {
		kf_corpus_rec rec;
		kf_encoding enc;

		if ((rc = kf_shard_open(x.corpus, s, &in, err)) != KF_OK) goto out;
		while ((rc = next_document(&x, in, &arena, &rec, &enc, err)) == KF_OK) {
			const kf_logits_rec r = { .head = rec.head, .bos = kf_tokenizer_bos(x.s.tokenizer) >= 0, .n = enc.n, .start = enc.start,
				.context = enc.context };
			const kf_eval_cover c = { .first = kf_eval_first_byte(&r) };

			if ((rc = fn(arg, &rec.head, &c, err)) != KF_OK) goto out;
			kf_arena_reset(&arena);
		}
		if (rc != KF_END) goto out;
		kf_shard_close(in);
		in = NULL;
		rc = KF_OK;
	}
out:
	kf_shard_close(in);
	runner_close(&x);
	kf_arena_release(&arena);
	return rc;
}

kf_status kf_eval_run_of(const kf_eval_opts *o, int m, json_t **of, kf_err *err)
{
	runner x = { 0 };
	kf_status rc = runner_open(&x, o, m, err);

	*of = NULL;
	if (rc == KF_OK) rc = kf_scores_of(o, &x.s, x.s.chat ? kf_chat_name(x.s.chat) : NULL, of, err);
	if (rc == KF_OK) rc = kf_scores_add_fp(*of, "corpus", kf_set_fp(x.corpus), err);
	runner_close(&x);
	return rc;
}

kf_status kf_eval_run_score(const kf_eval_opts *o, int m,
	kf_status (*fn)(void *arg, const kf_logits_rec *rec, kf_err *err), void *arg, kf_err *err)
{
	runner x = { 0 };
	kf_shard *in = NULL;
	kf_arena arena;
	kf_group g = { 0 };
	kf_status rc;

	kf_arena_init(&arena);
	if ((rc = runner_open(&x, o, m, err)) != KF_OK || (rc = start_model(&x, o, err)) != KF_OK) goto out;
	/* The best candidate is asked for because there must be one; no extra ones. */
	const kf_runner run = { .tokenizer = x.s.tokenizer, .order = x.order, .k = 1, .byte_path = true,
		.context = x.s.context, .batch_tokens = (int)o->batch_tokens, .score = score, .arg = &x };

	for (int s = 0; s < kf_set_shards(x.corpus); s++) {
		bool more = true;

		if ((rc = kf_shard_open(x.corpus, s, &in, err)) != KF_OK) goto out;
		while (more) {
			kf_arena_reset(&arena);
			rc = read_group(&x, in, &arena, &g, GROUP * (size_t)o->batch_tokens, err);
			if (rc == KF_END) more = false;
			else if (rc != KF_OK) goto out;
			rc = g.n ? kf_run_group(&run, g.docs, g.enc, g.n, &arena, g.out, err) : KF_OK;
			if (kf_context(err, rc, "%s", o->model[m].path) != KF_OK) goto out;
			for (size_t i = 0; i < g.n; i++)
				if ((rc = fn(arg, &g.out[i], err)) != KF_OK) goto out;
		}
		kf_shard_close(in);
		in = NULL;
	}
out:
	kf_shard_close(in);
	kf_group_release(&g);
	runner_close(&x);
	kf_arena_release(&arena);
	return rc;
}
