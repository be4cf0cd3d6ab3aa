/* Documents in, predictions out: groups of documents, cut into batches; blocks of batches; shards.
 *
 * A group is the same whatever the way: documents of one shard, about eight batches of them, cut into batches by the
 * group alone. So the batches, and to the bit their answers, depend neither on the way they are run nor on the size of
 * blocks. With the weights in memory a block is a group; streamed it is as many batches as --stream-tokens allows, of
 * several groups or shards, or a part of one group. Shards are written one after the other as their last group is done.
 *
 * With the weights in memory a thread reads and encodes the next group, and another compresses and writes the last one, while this one
 * is computed (two groups more in memory); streamed, where memory is what is short and reading text takes next to no time, all is done in turn. */
#include <string.h>

#include "common/base/behind.h"
#include "extract/impl.h"

typedef struct group group;
struct group {
	kf_group docs;
	kf_arena arena;
	kf_run *run;
	int shard;
	bool last;                 /* of its shard */
	size_t assigned, taken;    /* batches that are in blocks, or were; that have their answers */
	uint64_t bytes, tokens;    /* of its text */
	group *next;
};

typedef struct { group *g; size_t i; } place;

typedef struct {
	kf_extractor *x;
	/* reading: the reader's while it is at work */
	kf_behind *reader;         /* NULL: done in turn, as is the writer's */
	bool begun;
	int shard;                 /* being read, or the next to be */
	kf_shard *in;
	group *read;               /* the group that was read last; NULL: there are no more */
	group *first, *end;        /* in order; all batches of those before `end` are not yet written */
	bool exhausted;
	/* the block */
	kf_batch *batch;           /* (n) */
	place *at;                 /* (n) */
	size_t n, cap;
	kf_arena feeds, scratch;
	kf_question q;             /* of the batch whose turn it is; in scratch */
	/* writing: the writer's while it is at work */
	kf_behind *writer;
	group *written;            /* what it is to write, or has */
	kf_shard_writer *out;      /* the shard */
} work;

/* What is behind has to be done: the time it took is added to *seconds. */
static kf_status wait_for(kf_behind *b, double *seconds, kf_err *err)
{
	const double from = kf_now();
	kf_status rc = kf_behind_wait(b, err);
	*seconds += kf_now() - from;
	return rc;
}

/* ---- reading ---- */

static void done(kf_extractor *x, double tokens)
{
	/* How many tokens the text has is known only once it is encoded: guessed from what was so far. */
	if (x->bytes) x->progress.total = (double)x->encoded / (double)x->bytes * (double)kf_set_bytes(x->corpus) * x->share;
	kf_progress_add(&x->progress, tokens);
}

/* A document's tokens; none where it is of another fold. */
static kf_status encode(const kf_extractor *x, const kf_corpus_rec *rec, kf_arena *arena, kf_encoding *out, kf_err *err)
{
	uint8_t *context;
	if (kf_extract_asked(x->o, &rec->head)) return kf_run_encode(x->tokenizer, x->chat, rec, arena, out, err);
	*out = (kf_encoding){ .ids = KF_ARENA_NEW(arena, int32_t, 1), .start = KF_ARENA_NEW(arena, uint32_t, 1) };
	context = KF_ARENA_NEW(arena, uint8_t, 1);
	if (!out->ids || !out->start || !context) return kf_fail(err, KF_ENOMEM, "no memory for a document");
	out->start[0] = 0;
	context[0] = 1;
	out->context = rec->n_turns ? context : NULL;
	return KF_OK;
}

/* Read and encode documents until there are enough for a group; KF_END when the shard has no more. */
static kf_status read_docs(kf_extractor *x, kf_shard *in, group *g, kf_err *err)
{
	size_t tokens = 0, most = (size_t)KF_EXTRACT_GROUP * (size_t)x->o->batch_tokens;
	kf_group *d = &g->docs;
	for (d->n = 0; tokens < most; d->n++) {
		kf_status rc = kf_group_reserve(d, err);
		if (rc != KF_OK) return rc;
		if ((rc = kf_shard_next_corpus(in, &g->arena, &d->docs[d->n], err)) != KF_OK) return rc;
		if ((rc = encode(x, &d->docs[d->n], &g->arena, &d->enc[d->n], err)) != KF_OK) return rc;
		rc = kf_logits_fits(&d->docs[d->n].head, d->enc[d->n].n, (uint32_t)x->o->top_k, x->o->byte_path ? d->enc[d->n].start : NULL, err);
		if (rc != KF_OK) return rc;
		tokens += d->enc[d->n].n + 1;
		if (d->enc[d->n].n) g->bytes += d->docs[d->n].head.bytes;
		g->tokens += d->enc[d->n].n;
	}
	return KF_OK;
}

static void group_free(group *g)
{
	if (!g) return;
	kf_group_release(&g->docs);
	kf_arena_release(&g->arena);
	kf_free(g);
}

/* The next group of the shards to do, in w->read. */
static kf_status read_next(void *arg, kf_err *err)
{
	work *w = arg;
	kf_extractor *x = w->x;
	kf_status rc;
	group *g;
	w->read = NULL;
	for (; !w->in && w->shard < kf_set_shards(x->corpus); w->shard += x->o->parts) {
		if (kf_set_shard_done(x->writer, w->shard)) continue;
		if ((rc = kf_shard_open(x->corpus, w->shard, &w->in, err)) != KF_OK) return rc;
		break;
	}
	if (!w->in) return KF_OK;
	if (!(g = kf_zalloc(1, sizeof *g))) return kf_fail(err, KF_ENOMEM, "no memory for a group of documents");
	kf_arena_init(&g->arena);
	g->shard = w->shard;
	rc = read_docs(x, w->in, g, err);
	if (rc == KF_END) {
		g->last = true;
		kf_shard_close(w->in);
		w->in = NULL;
		w->shard += x->o->parts;
		rc = KF_OK;
	}
	if (rc == KF_OK) rc = kf_run_plan(&x->runner, g->docs.docs, g->docs.enc, g->docs.n, &g->arena, &g->run, err);
	if (rc != KF_OK) {
		group_free(g);
		return rc;
	}
	w->read = g;
	return KF_OK;
}

/* One more group, appended; none when there are no more. The next is begun. */
static kf_status read_group(work *w, kf_err *err)
{
	kf_status rc = KF_OK;
	group *g;
	if (!w->reader) rc = read_next(w, err);
	else if (w->begun || (rc = kf_behind_do(w->reader, read_next, w, err)) == KF_OK)
		rc = wait_for(w->reader, &w->x->stats->waited_text, err);
	if (rc != KF_OK) return rc;
	w->begun = false;
	if (!(g = w->read)) {
		w->exhausted = true;
		return KF_OK;
	}
	w->read = NULL;
	w->x->bytes += g->bytes;
	w->x->encoded += g->tokens;
	if (w->end) w->end->next = g;
	else w->first = g;
	w->end = g;
	if (!w->reader) return KF_OK;
	w->begun = true;
	return kf_behind_do(w->reader, read_next, w, err);
}

/* ---- writing ---- */

/* w->written into its shard, and away with it. */
static kf_status write_group(void *arg, kf_err *err)
{
	work *w = arg;
	kf_extractor *x = w->x;
	group *g = w->written;
	kf_group *d = &g->docs;
	kf_status rc = KF_OK;
	w->written = NULL;
	if (!w->out) rc = kf_shard_begin(x->writer, g->shard, &w->out, err);
	if (rc == KF_OK) kf_run_records(g->run, d->out);
	for (size_t i = 0; i < d->n && rc == KF_OK; i++) {
		if ((rc = kf_shard_put_logits(w->out, &d->out[i], err)) == KF_OK) x->stats->tokens += d->out[i].n;
	}
	if (rc == KF_OK) x->stats->documents += d->n;
	if (rc == KF_OK && g->last) {
		rc = kf_shard_commit(w->out, err);
		w->out = NULL;
	}
	group_free(g);
	return rc;
}

/* Groups that have all their answers, from the first on, into their shards. */
static kf_status flush(work *w, kf_err *err)
{
	kf_status rc;
	while (w->first && w->first->taken == kf_run_batches(w->first->run)) {
		group *g = w->first;
		if (w->writer && (rc = wait_for(w->writer, &w->x->stats->waited_writer, err)) != KF_OK) return rc;
		w->first = g->next;
		if (w->end == g) w->end = NULL;
		if (g->last) kf_progress_shards(&w->x->progress, w->x->progress.shards_done + 1, 0);
		w->written = g;
		rc = w->writer ? kf_behind_do(w->writer, write_group, w, err) : write_group(w, err);
		if (rc != KF_OK) return rc;
	}
	return KF_OK;
}

/* ---- blocks ---- */

static kf_status reserve(work *w, kf_err *err)
{
	size_t cap = w->cap ? 2 * w->cap : 64;
	if (w->n < w->cap) return KF_OK;
	kf_batch *batch = kf_alloc(cap, sizeof *batch);
	place *at = kf_alloc(cap, sizeof *at);
	if (!batch || !at) {
		kf_free(batch);
		kf_free(at);
		return kf_fail(err, KF_ENOMEM, "no memory for a block of %zu batches", cap);
	}
	if (w->n) {
		memcpy(batch, w->batch, w->n * sizeof *batch);
		memcpy(at, w->at, w->n * sizeof *at);
	}
	kf_free(w->batch);
	kf_free(w->at);
	w->batch = batch;
	w->at = at;
	w->cap = cap;
	return KF_OK;
}

/* The batches of a block; *more: others follow. */
static kf_status gather(work *w, bool *more, kf_err *err)
{
	const kf_extractor *x = w->x;
	size_t tokens = 0, fed;
	group *g = w->first;
	kf_status rc;
	w->n = 0;
	*more = false;
	kf_arena_reset(&w->feeds);
	for (;;) {
		while (g && g->assigned == kf_run_batches(g->run)) g = g->next;
		if (!g) {
			/* with the weights in memory nothing is gained by waiting for another group */
			if (w->exhausted || (w->n && !x->stream)) return KF_OK;
			group *before = w->end;
			if ((rc = read_group(w, err)) != KF_OK) return rc;
			g = before ? before->next : w->first;
			if (!x->stream && g && !kf_run_batches(g->run)) return KF_OK;
			continue;
		}
		kf_run_tokens(g->run, g->assigned, &fed);
		if (x->stream && w->n && tokens + fed > x->block) {
			*more = true;
			return KF_OK;
		}
		if ((rc = reserve(w, err)) != KF_OK) return rc;
		if ((rc = kf_run_feed(g->run, g->assigned, &w->feeds, &w->batch[w->n], err)) != KF_OK) return rc;
		w->at[w->n++] = (place){ g, g->assigned++ };
		tokens += fed;
	}
}

static kf_status ask(void *arg, size_t i, const kf_score_query **q, kf_score **out, kf_err *err)
{
	work *w = arg;
	kf_arena_reset(&w->scratch);
	*q = &w->q.q;
	*out = &w->q.out;
	return kf_run_ask(w->at[i].g->run, w->at[i].i, &w->scratch, &w->q, err);
}

static void take(void *arg, size_t i)
{
	work *w = arg;
	kf_run_take(w->at[i].g->run, w->at[i].i, &w->q);
	w->at[i].g->taken++;
}

static void step(void *arg, size_t i, double share)
{
	work *w = arg;
	size_t fed;
	done(w->x, share * (double)kf_run_tokens(w->at[i].g->run, w->at[i].i, &fed));
}

static kf_status blame(void *arg, size_t i, kf_status rc, kf_err *err)
{
	const work *w = arg;
	return kf_run_blame(w->at[i].g->run, w->at[i].i, rc, err);
}

static kf_status run_block(work *w, bool more, kf_err *err)
{
	kf_extractor *x = w->x;
	kf_status rc = KF_OK;
	if (x->stream) {
		const kf_stream_block b = { .batch = w->batch, .n = w->n, .more = more, .ask = ask, .take = take, .step = step,
			.blame = blame, .arg = w };
		return w->n ? kf_stream_run(x->stream, &b, err) : KF_OK;
	}
	for (size_t i = 0; i < w->n && rc == KF_OK; i++) {
		const kf_score_query *q;
		kf_score *out;
		if ((rc = ask(w, i, &q, &out, err)) != KF_OK) break;
		if ((rc = blame(w, i, kf_model_score(x->model, &w->batch[i], q, out, err), err)) != KF_OK) break;
		take(w, i);
		step(w, i, 1);
	}
	return rc;
}

kf_status kf_extract_shards(kf_extractor *x, kf_err *err)
{
	work w = { .x = x, .shard = x->o->part };
	kf_status rc = KF_OK;
	bool more;
	kf_arena_init(&w.feeds);
	kf_arena_init(&w.scratch);
	if (!x->stream && ((rc = kf_behind_new(&w.reader, err)) != KF_OK || (rc = kf_behind_new(&w.writer, err)) != KF_OK)) goto out;
	while (rc == KF_OK && !(w.exhausted && !w.first)) {
		if ((rc = gather(&w, &more, err)) == KF_OK && (rc = run_block(&w, more, err)) == KF_OK) rc = flush(&w, err);
	}
	if (rc == KF_OK && w.writer) rc = wait_for(w.writer, &x->stats->waited_writer, err);
out:
	kf_behind_free(w.reader);
	kf_behind_free(w.writer);
	kf_shard_abandon(w.out);
	kf_shard_close(w.in);
	group_free(w.read);
	group_free(w.written);
	while (w.first) {
		group *g = w.first;
		w.first = g->next;
		group_free(g);
	}
	kf_free(w.batch);
	kf_free(w.at);
	kf_arena_release(&w.feeds);
	kf_arena_release(&w.scratch);
	return rc;
}
