#include "extract/extract.h"

#include <string.h>

#include "common/base/progress.h"
#include "common/model/run.h"
#include "extract/way.h"

enum { GROUP = 8 }; /* batches of documents held at once: all but the last of them are full */

typedef struct {
	const kf_extract_opts *o;
	kf_extract_stats *stats;
	kf_weights *weights;
	kf_tokenizer *tokenizer;
	kf_chat *chat;             /* NULL: the corpus has no conversations */
	kf_set *corpus;
	kf_set_writer *writer;
	kf_pool *pool;
	kf_exec *exec;
	kf_model *model;
	kf_way way;                /* how it computes */
	int32_t *order;
	kf_progress progress;
	double share;              /* of the corpus that this run does, by documents */
	uint64_t bytes;            /* encoded so far */
	uint64_t encoded;          /* tokens they gave */
} extract;

static kf_status score(void *arg, const kf_batch *b, const kf_score_query *q, kf_score *out, kf_err *err)
{
	extract *x = arg;
	return kf_model_score(x->model, b, q, out, err);
}

static void done(void *arg, size_t tokens)
{
	extract *x = arg;
	/* How many tokens the text has is known only once it is encoded: guessed from what was so far. */
	if (x->bytes) x->progress.total = (double)x->encoded / (double)x->bytes * (double)kf_set_bytes(x->corpus) * x->share;
	kf_progress_add(&x->progress, (double)tokens);
}

/* ---- one shard ---- */

/* Read and encode documents until there are enough for a group; KF_END when the shard has no more. */
static kf_status read_group(extract *x, kf_shard *in, kf_arena *arena, kf_group *g, kf_err *err)
{
	size_t tokens = 0, most = (size_t)GROUP * (size_t)x->o->batch_tokens;
	for (g->n = 0; tokens < most; g->n++) {
		kf_status rc = kf_group_reserve(g, err);
		if (rc != KF_OK) return rc;
		kf_corpus_rec *rec = &g->docs[g->n];
		kf_encoding *enc = &g->enc[g->n];
		rc = kf_shard_next_corpus(in, arena, rec, err);
		if (rc != KF_OK) return rc;
		if ((rc = kf_run_encode(x->tokenizer, x->chat, rec, arena, enc, err)) != KF_OK) return rc;
		tokens += enc->n + 1;
		x->bytes += rec->head.bytes;
		x->encoded += enc->n;
	}
	return KF_OK;
}

static kf_status do_shard(extract *x, const kf_runner *e, int s, kf_err *err)
{
	kf_shard *in = NULL;
	kf_shard_writer *out = NULL;
	kf_arena arena;
	kf_group g = { 0 };
	kf_status rc;
	bool more = true;
	kf_arena_init(&arena);
	if ((rc = kf_shard_open(x->corpus, s, &in, err)) != KF_OK) goto out;
	if ((rc = kf_shard_begin(x->writer, s, &out, err)) != KF_OK) goto out;
	while (more) {
		kf_arena_reset(&arena);
		rc = read_group(x, in, &arena, &g, err);
		if (rc == KF_END) more = false;
		else if (rc != KF_OK) goto out;
		if ((rc = kf_run_group(e, g.docs, g.enc, g.n, &arena, g.out, err)) != KF_OK) goto out;
		for (size_t i = 0; i < g.n; i++) {
			if ((rc = kf_shard_put_logits(out, &g.out[i], err)) != KF_OK) goto out;
			x->stats->tokens += g.out[i].n;
		}
		x->stats->documents += g.n;
	}
	rc = kf_shard_commit(out, err);
	out = NULL;
out:
	kf_shard_abandon(out);
	kf_shard_close(in);
	kf_group_release(&g);
	kf_arena_release(&arena);
	return rc;
}

/* ---- the whole ---- */

/* "smollm2-135m" of "models/smollm2-135m.gguf" or "models/smollm2-135m/". */
static void model_name(const char *path, char out[256])
{
	size_t n = strlen(path);
	while (n > 1 && path[n - 1] == '/') n--;
	size_t from = n;
	while (from > 0 && path[from - 1] != '/') from--;
	if (n - from > 5 && strncmp(path + n - 5, ".gguf", 5) == 0) n -= 5;
	if (n - from > 255) n = from + 255;
	memcpy(out, path + from, n - from);
	out[n - from] = 0;
}

static kf_status begin(extract *x, int context, kf_set_state *state, kf_err *err)
{
	const kf_extract_opts *o = x->o;
	const kf_arch *arch = kf_weights_arch(x->weights);
	char name[256];
	kf_buf tokenizer = { 0 };
	kf_set_input inputs[3] = { { "corpus", o->corpus, kf_set_fp(x->corpus) }, { "model", o->model, { 0, 0 } },
		{ "tokenizer", o->model, kf_tokenizer_fp(x->tokenizer) } };
	kf_status rc;
	model_name(o->model, name);
	json_t *info = json_pack("{s:i, s:s, s:s, s:i, s:i, s:b, s:b}", "k", (int)o->top_k, "model", name,
		"family", kf_family_name(arch->family), "vocabulary", arch->V, "context", context,
		"bos", kf_tokenizer_bos(x->tokenizer) >= 0, "byte_path", o->byte_path);
	/* The template shapes the content of conversations, and of nothing else. */
	json_t *record = o->record ? json_copy(o->record) : json_object();
	if (!info || !record ||
	    (x->chat && (json_object_set_new(info, "chat_template", json_string(kf_chat_name(x->chat))) != 0 ||
	    json_object_set_new(record, "chat-template", json_string(kf_chat_name(x->chat))) != 0))) {
		rc = kf_fail(err, KF_ENOMEM, "no memory to describe the set");
		goto out;
	}
	if ((rc = kf_extract_way(o, x->corpus, x->weights, x->tokenizer, x->chat, record, info, &x->way, err)) != KF_OK) goto out;
	if ((rc = kf_weights_fp(x->weights, &inputs[1].fp, err)) != KF_OK) goto out;
	if ((rc = kf_tokenizer_save(x->tokenizer, &tokenizer, err)) != KF_OK) goto out;
	kf_set_spec spec = {
		.dir = o->out, .kind = KF_SET_LOGITS, .program = "kf-extract", .options = record, .info = info,
		.inputs = inputs, .n_inputs = 3, .n_shards = kf_set_shards(x->corpus),
		.tokenizer = tokenizer.data, .tokenizer_size = tokenizer.len, .f32 = o->f32,
		.chat = x->chat != NULL
	};
	rc = kf_set_begin(&spec, &x->writer, state, err);
out:
	kf_buf_release(&tokenizer);
	json_decref(record);
	json_decref(info);
	return rc;
}

static kf_status run_shards(extract *x, int context, kf_err *err)
{
	const kf_extract_opts *o = x->o;
	const kf_model_opts opts = { .int8 = x->way.int8 };
	uint64_t docs = 0;
	int shards = kf_set_shards(x->corpus);
	kf_status rc;
	for (int s = o->part; s < shards; s += o->parts)
		if (!kf_set_shard_done(x->writer, s)) docs += kf_set_shard_docs(x->corpus, s);
	x->share = kf_set_docs(x->corpus) ? (double)docs / (double)kf_set_docs(x->corpus) : 0;
	if (!docs) return KF_OK;
	if ((rc = kf_run_order(x->tokenizer, kf_weights_arch(x->weights)->V, &x->order, err)) != KF_OK) return rc;
	if ((rc = kf_pool_new(o->threads, &x->pool, err)) != KF_OK) return rc;
	if ((rc = kf_exec_new(o->ops ? o->ops : &kf_ops_cpu, x->pool, x->way.compute, &x->exec, err)) != KF_OK) return rc;
	if ((rc = kf_model_new(x->weights, x->exec, &opts, &x->model, err)) != KF_OK) return rc;
	const kf_runner e = {
		.tokenizer = x->tokenizer, .order = x->order, .k = (int)o->top_k, .byte_path = o->byte_path,
		.path_min = (int)o->path_min, .path_extra = (int)o->path_extra, .context = context,
		.batch_tokens = (int)o->batch_tokens, .score = score, .done = done, .arg = x
	};
	double from = kf_now();
	kf_progress_start(&x->progress, "extract", "tokens", (double)kf_set_bytes(x->corpus) * x->share / 4, o->progress);
	for (int s = o->part; s < shards && rc == KF_OK; s += o->parts)
		if (!kf_set_shard_done(x->writer, s)) rc = do_shard(x, &e, s, err);
	if (rc == KF_OK) x->progress.total = x->progress.done;
	kf_progress_end(&x->progress);
	x->stats->seconds = kf_now() - from;
	return rc;
}

kf_status kf_extract(const kf_extract_opts *o, kf_extract_stats *stats, kf_err *err)
{
	extract x = { .o = o, .stats = stats };
	kf_status rc;
	*stats = (kf_extract_stats){ 0 };
	if ((rc = kf_set_open(o->corpus, KF_SET_CORPUS, &x.corpus, err)) != KF_OK) goto out;
	if ((rc = kf_weights_open(o->model, &x.weights, err)) != KF_OK) goto out;
	if ((rc = kf_weights_tokenizer(x.weights, &x.tokenizer, err)) != KF_OK) goto out;
	if ((rc = kf_run_chat(x.corpus, o->chat_template, x.tokenizer, o->model, &x.chat, err)) != KF_OK) goto out;
	if (o->chat_template && !x.chat) {
		rc = kf_fail(err, KF_EINVAL, "--chat-template %s: %s has no conversations", o->chat_template, o->corpus);
		goto out;
	}
	const kf_arch *arch = kf_weights_arch(x.weights);
	if (o->top_k > arch->V) {
		rc = kf_fail(err, KF_EINVAL, "--top-k %ld is more than the %d tokens of the vocabulary of %s", o->top_k, arch->V, o->model);
		goto out;
	}
	if (o->context > arch->context) {
		rc = kf_fail(err, KF_EINVAL, "--context %ld is more than the %d tokens that %s was made for", o->context, arch->context, o->model);
		goto out;
	}
	int context = o->context ? (int)o->context : arch->context;
	if ((rc = begin(&x, context, &stats->state, err)) != KF_OK) goto out;
	if (stats->state == KF_SET_CURRENT) {
		stats->complete = true;
		goto out;
	}
	if ((rc = run_shards(&x, context, err)) != KF_OK) goto out;
	rc = kf_set_commit(x.writer, NULL, &stats->complete, err);
	x.writer = NULL;
out:
	kf_set_abandon(x.writer);
	kf_model_free(x.model);
	kf_exec_free(x.exec);
	kf_pool_free(x.pool);
	kf_free(x.order);
	kf_chat_free(x.chat);
	kf_tokenizer_free(x.tokenizer);
	kf_weights_close(x.weights);
	kf_set_close(x.corpus);
	return rc;
}
