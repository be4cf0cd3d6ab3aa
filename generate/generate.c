#include "generate/generate.h"

#include <stdio.h>
#include <string.h>

#include "common/base/progress.h"
#include "common/base/rng.h"
#include "common/base/stop.h"
#include "common/model/decode.h"
#include "common/model/run.h"
#include "common/text/utf8.h"

enum { GROUP = 1024, BATCH_TOKENS = 2048, WORD = 64 }; /* texts at a time; tokens of prompts run at once; bytes of a word, at most */

/* A text in the making. */
typedef struct {
	size_t doc;                /* of the group */
	const uint8_t *begin;      /* (n) what it begins with: of a conversation, the messages before the reply */
	size_t n;
	uint32_t turns;            /* of a conversation: messages before the reply */
	uint32_t number;           /* 1.. of the document's */
} going;

typedef struct {
	const kf_generate_opts *o;
	kf_generate_stats *stats;
	kf_weights *weights;
	kf_tokenizer *tokenizer;
	kf_chat *chat;             /* NULL: the corpus has no conversations */
	kf_set *corpus;
	kf_set_writer *writer;
	kf_pool *pool;
	kf_exec *exec;
	kf_model *model;
	kf_decode_opts decode;
	kf_progress progress;
	int context;
	/* A group: documents, and texts that go on with them, in the arena. */
	kf_arena arena, ends;
	kf_corpus_rec *doc;        /* (GROUP) */
	going *text;               /* (GROUP + texts a document) */
	kf_decoding *decoding;     /* the same */
	size_t n_docs, n_texts;
} generator;

static kf_status no_memory(kf_err *err) { return kf_fail(err, KF_ENOMEM, "no memory to generate text"); }

/* ---- where to begin ---- */

static bool within(const uint8_t *text, size_t n, size_t at) { return at < n && (text[at] & 0xc0) == 0x80; }

void kf_generate_place(const uint8_t *text, size_t n, size_t most, double u, size_t *from, size_t *to)
{
	size_t at = (size_t)(u * (double)(n - n / 5)), a, b;

	for (a = at; a > 0 && at - a < WORD && !kf_is_space(text[a - 1]);) a--;
	if (a > 0 && !kf_is_space(text[a - 1])) a = at;   /* no word: where it fell */
	while (a > 0 && within(text, n, a)) a--;
	b = n - a > most ? a + most : n;
	for (at = b; b < n && b - at < WORD && !kf_is_space(text[b]);) b++;
	if (b < n && !kf_is_space(text[b])) b = at;
	while (within(text, n, b)) b++;
	while (b > a + 1 && kf_is_space(text[b - 1])) b--; /* tokens have the blank before a word */
	*from = a;
	*to = b;
}

/* ---- prompts ---- */

/* Among what is written: 0 is document doc itself, k its k-th text. */
static uint64_t number_of(const generator *x, uint64_t doc, uint32_t k) { return doc * (uint64_t)(x->o->texts + 1) + k; }

static bool was_generated(const kf_dochead *h)
{
	const size_t n = strlen(h->domain), m = strlen(KF_GENERATED);

	return n >= m && strcmp(h->domain + n - m, KF_GENERATED) == 0;
}

/* One of the assistant's replies, by u; *n_turns are before it. false: there is none. */
static bool choose_reply(const kf_corpus_rec *doc, double u, uint32_t *n_turns)
{
	uint32_t replies = 0, nth;

	for (uint32_t i = 1; i < doc->n_turns; i++) replies += doc->turns[i].role == KF_ASSISTANT;
	if (!replies) return false;
	nth = (uint32_t)(u * replies);
	for (*n_turns = 1;; ++*n_turns)
		if (doc->turns[*n_turns].role == KF_ASSISTANT && nth-- == 0) return true;
}

/* Tokens of a prompt: a BOS, where there is one, and the first n of the encoding; and how many there is room for behind them. */
static kf_status feed(generator *x, const kf_encoding *enc, int n, kf_decoding *g, kf_err *err)
{
	const int32_t bos = enc->no_bos ? -1 : kf_tokenizer_bos(x->tokenizer);
	const int lead = bos >= 0;
	int32_t *ids = KF_ARENA_NEW(&x->arena, int32_t, (size_t)n + 1);

	if (!ids) return no_memory(err);
	ids[0] = bos;
	if (n) memcpy(ids + lead, enc->ids, (size_t)n * sizeof *ids);
	g->prompt = ids;
	g->n = n + lead;
	g->most = (int)x->o->tokens;
	if (g->most > x->context - g->n) g->most = x->context - g->n;
	return KF_OK;
}

/* The k-th text of a document, or nothing: where its prompt leaves no room, or there is no reply to make another of. */
static kf_status prompt(generator *x, size_t d, uint32_t k, kf_err *err)
{
	const kf_corpus_rec *doc = &x->doc[d];
	going *t = &x->text[x->n_texts];
	kf_decoding *g = &x->decoding[x->n_texts];
	kf_encoding enc;
	kf_rng rng;
	kf_status rc;
	int n;

	*g = (kf_decoding){ .end = -1, .stream = number_of(x, doc->head.doc, k) };
	*t = (going){ .doc = d, .number = k };
	kf_rng_seed(&rng, x->o->seed * 0x9e3779b97f4a7c15u ^ (g->stream + 1) * 0xbf58476d1ce4e5b9u);
	if (doc->n_turns) {
		if (!choose_reply(doc, kf_rng_real(&rng), &t->turns)) return KF_OK;
		t->begin = doc->text;
		for (uint32_t i = 0; i < t->turns; i++) t->n += doc->turns[i].bytes;
		rc = kf_chat_prompt(x->chat, doc->turns, t->turns, doc->text, &x->arena, &enc, &n, &g->end, err);
	} else {
		size_t from, to;

		kf_generate_place(doc->text, doc->head.bytes, (size_t)x->o->prompt_bytes, kf_rng_real(&rng), &from, &to);
		t->begin = doc->text + from;
		t->n = to - from;
		rc = kf_tokenizer_encode(x->tokenizer, t->begin, t->n, false, &x->arena, &enc, err);
		n = (int)enc.n;
	}
	if (rc != KF_OK || (rc = feed(x, &enc, n, g, err)) != KF_OK) return rc;
	if (g->n > 0 && g->most > 0) x->n_texts++;
	else x->stats->no_room++;
	return KF_OK;
}

/* Documents of a shard until there are texts enough for a group; KF_END when there are no more. */
static kf_status read_group(generator *x, kf_shard *in, kf_err *err)
{
	kf_status rc = KF_OK;

	kf_arena_reset(&x->arena);
	for (x->n_docs = x->n_texts = 0; x->n_docs < GROUP && x->n_texts < GROUP; x->n_docs++) {
		kf_corpus_rec *doc = &x->doc[x->n_docs];

		if ((rc = kf_shard_next_corpus(in, &x->arena, doc, err)) != KF_OK) return rc;
		if (was_generated(&doc->head) || !doc->head.bytes) continue;
		x->stats->documents++;
		for (uint32_t k = 1; k <= (uint32_t)x->o->texts && rc == KF_OK; k++) rc = prompt(x, x->n_docs, k, err);
		if (rc != KF_OK) return kf_fail(err, rc, "document %s: %s", doc->head.id, err->text);
	}
	return rc;
}

/* ---- writing ---- */

static kf_status put_text(generator *x, kf_shard_writer *out, const going *t, const kf_decoding *g, kf_err *err)
{
	const kf_corpus_rec *doc = &x->doc[t->doc];
	const size_t room = strlen(doc->head.id) + 32, named = strlen(doc->head.domain) + sizeof KF_GENERATED;
	size_t n = kf_utf8_valid(g->text.data, g->text.len), lead = 0;   /* it may end within a character */
	char *id = kf_arena_alloc(&x->arena, room, 1), *domain = kf_arena_alloc(&x->arena, named, 1);
	uint8_t *text = kf_arena_alloc(&x->arena, t->n + n + 1, 1);
	kf_turn *turns = t->turns ? KF_ARENA_NEW(&x->arena, kf_turn, t->turns + 1) : NULL;

	if (!id || !domain || !text || (t->turns && !turns)) return no_memory(err);
	if (t->turns) while (lead < n && kf_is_space(g->text.data[lead])) lead++;
	while (n > lead && kf_is_space(g->text.data[n - 1])) n--;
	if (n == lead) {
		x->stats->empty++;
		return KF_OK;
	}
	if (doc->head.piece) snprintf(id, room, "%s#%u.%u", doc->head.id, doc->head.piece, t->number);
	else snprintf(id, room, "%s#%u", doc->head.id, t->number);
	snprintf(domain, named, "%s%s", doc->head.domain, KF_GENERATED);
	memcpy(text, t->begin, t->n);
	memcpy(text + t->n, g->text.data + lead, n - lead);
	n += t->n - lead;
	if (t->turns) {
		memcpy(turns, doc->turns, t->turns * sizeof *turns);
		turns[t->turns] = (kf_turn){ (uint32_t)(n - t->n), KF_ASSISTANT };
	}
	const kf_corpus_rec rec = { .head = { g->stream, id, domain, 0, (uint32_t)n }, .text = text,
		.n_turns = t->turns ? t->turns + 1 : 0, .turns = turns };

	x->stats->texts++;
	x->stats->bytes += n;
	return kf_shard_put_corpus(out, &rec, err);
}

static kf_status write_group(generator *x, kf_shard_writer *out, kf_err *err)
{
	kf_status rc = KF_OK;
	size_t at = 0;

	for (size_t d = 0; d < x->n_docs && rc == KF_OK; d++) {
		kf_corpus_rec doc = x->doc[d];

		doc.head.doc = number_of(x, doc.head.doc, 0);
		if (x->o->keep || was_generated(&doc.head)) rc = kf_shard_put_corpus(out, &doc, err);
		for (; at < x->n_texts && x->text[at].doc == d && rc == KF_OK; at++) {
			x->stats->tokens += (uint64_t)x->decoding[at].tokens;
			rc = put_text(x, out, &x->text[at], &x->decoding[at], err);
		}
	}
	return rc;
}

/* ---- the whole ---- */

static kf_status step(void *arg, size_t tokens, size_t ended, kf_err *err)
{
	generator *x = arg;

	(void)ended;
	kf_progress_add(&x->progress, (double)tokens);
	return kf_stop_check(err);
}

static kf_status one_shard(generator *x, int shard, kf_err *err)
{
	kf_shard *in = NULL;
	kf_shard_writer *out = NULL;
	bool last = false;
	kf_status rc;

	if ((rc = kf_shard_open(x->corpus, shard, &in, err)) == KF_OK) rc = kf_shard_begin(x->writer, shard, &out, err);
	while (rc == KF_OK && !last) {
		if ((rc = read_group(x, in, err)) == KF_END) last = true, rc = KF_OK;
		if (rc == KF_OK) rc = kf_decode(x->model, x->tokenizer, &x->decode, x->decoding, x->n_texts, step, x, err);
		if (rc == KF_OK) rc = write_group(x, out, err);
		for (size_t i = 0; i < x->n_texts; i++) kf_buf_release(&x->decoding[i].text);
	}
	kf_shard_close(in);
	if (rc == KF_OK) return kf_shard_commit(out, err);
	kf_shard_abandon(out);
	return rc;
}

static kf_status load(generator *x, kf_err *err)
{
	const kf_generate_opts *o = x->o;
	const size_t most = GROUP + (size_t)o->texts;
	const kf_model_opts opts = { .resident = kf_decode_resident(x->weights) };
	const kf_compute compute = o->compute != KF_COMPUTE_AUTO ? o->compute : kf_cpu_bf16_native() ? KF_COMPUTE_BF16 : KF_COMPUTE_F32;
	kf_status rc;

	kf_arena_init(&x->arena);
	kf_arena_init(&x->ends);
	x->doc = kf_alloc(GROUP, sizeof *x->doc);
	x->text = kf_alloc(most, sizeof *x->text);
	x->decoding = kf_zalloc(most, sizeof *x->decoding);
	if (!x->doc || !x->text || !x->decoding) return no_memory(err);
	if ((rc = kf_pool_new(o->threads, &x->pool, err)) != KF_OK) return rc;
	if ((rc = kf_exec_new(o->ops ? o->ops : &kf_ops_cpu, x->pool, compute, &x->exec, err)) != KF_OK) return rc;
	if ((rc = kf_model_new(x->weights, x->exec, &opts, &x->model, err)) != KF_OK) return rc;
	x->decode = (kf_decode_opts){ .temperature = o->temperature, .top_p = o->top_p, .seed = o->seed, .batch_tokens = BATCH_TOKENS,
		.cache_bytes = o->cache_bytes };
	return kf_decode_ends(x->weights, x->tokenizer, &x->ends, &x->decode.end, &x->decode.n_end, err);
}

static kf_status run(generator *x, kf_err *err)
{
	const kf_generate_opts *o = x->o;
	const int n = kf_set_shards(x->corpus);
	uint64_t docs = 0;
	int shards = 0, done = 0;
	double from;
	kf_status rc = KF_OK;

	for (int s = o->part; s < n; s += o->parts) {
		if (kf_set_shard_done(x->writer, s)) continue;
		docs += kf_set_shard_docs(x->corpus, s);
		shards++;
	}
	if (!docs) return KF_OK;
	if ((rc = load(x, err)) != KF_OK) return rc;
	from = kf_now();
	kf_progress_start(&x->progress, "generate", "tokens", (double)docs * (double)(o->texts * o->tokens), o->progress);
	kf_progress_shards(&x->progress, 0, shards);
	for (int s = o->part; s < n && rc == KF_OK; s += o->parts) {
		if (kf_set_shard_done(x->writer, s)) continue;
		if ((rc = one_shard(x, s, err)) == KF_OK) kf_progress_shards(&x->progress, ++done, 0);
	}
	if (rc == KF_OK) x->progress.total = x->progress.done;
	kf_progress_end(&x->progress);
	x->stats->seconds = kf_now() - from;
	return rc;
}

static kf_status begin(generator *x, kf_err *err)
{
	const kf_generate_opts *o = x->o;
	kf_set_input inputs[] = { { "corpus", o->corpus, kf_set_fp(x->corpus) }, { "model", o->model, { 0, 0 } },
		{ "tokenizer", o->model, kf_tokenizer_fp(x->tokenizer) } };
	json_t *record = o->record ? json_copy(o->record) : json_object();
	kf_set_spec spec = { .dir = o->out, .kind = KF_SET_CORPUS, .program = "kf-generate", .options = record, .inputs = inputs, .n_inputs = 3,
		.n_shards = kf_set_shards(x->corpus), .part = o->part, .parts = o->parts, .chat = kf_set_chat(x->corpus), .replace = o->replace };
	kf_status rc;

	if (!record || json_object_set_new(record, "seed", json_integer((json_int_t)o->seed)) != 0 ||
	    (x->chat && json_object_set_new(record, "chat-template", json_string(kf_chat_name(x->chat))) != 0))
		rc = no_memory(err);
	else if ((rc = kf_weights_fp(x->weights, &inputs[1].fp, err)) == KF_OK)
		rc = kf_set_begin(&spec, &x->writer, &x->stats->state, err);
	json_decref(record);
	return rc;
}

static kf_status open_inputs(generator *x, kf_err *err)
{
	const kf_generate_opts *o = x->o;
	kf_status rc;

	if ((rc = kf_set_open(o->corpus, KF_SET_CORPUS, &x->corpus, err)) != KF_OK) return rc;
	if ((rc = kf_weights_open(o->model, &x->weights, err)) != KF_OK) return rc;
	if ((rc = kf_weights_tokenizer(x->weights, &x->tokenizer, err)) != KF_OK) return rc;
	if ((rc = kf_run_chat(x->corpus, o->chat_template, x->tokenizer, o->model, &x->chat, err)) != KF_OK) return rc;
	x->context = kf_weights_arch(x->weights)->context;
	x->stats->no_conversations = !x->chat;
	return KF_OK;
}

static void release(generator *x)
{
	kf_set_abandon(x->writer);
	kf_model_free(x->model);
	kf_exec_free(x->exec);
	kf_pool_free(x->pool);
	kf_chat_free(x->chat);
	kf_tokenizer_free(x->tokenizer);
	kf_weights_close(x->weights);
	kf_set_close(x->corpus);
	kf_free(x->doc);
	kf_free(x->text);
	kf_free(x->decoding);
	kf_arena_release(&x->arena);
	kf_arena_release(&x->ends);
}

kf_status kf_generate(const kf_generate_opts *o, kf_generate_stats *stats, kf_err *err)
{
	generator x = { .o = o, .stats = stats };
	kf_status rc;

	*stats = (kf_generate_stats){ 0 };
	if ((rc = open_inputs(&x, err)) == KF_OK && (rc = begin(&x, err)) == KF_OK) {
		if (stats->state == KF_SET_CURRENT) {
			stats->complete = true;
		} else if ((rc = run(&x, err)) == KF_OK) {
			rc = kf_set_commit(x.writer, NULL, &stats->complete, err);
			x.writer = NULL;
		}
	}
	release(&x);
	return rc;
}
