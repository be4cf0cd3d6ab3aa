#include "extract/extract.h"

#include <stdio.h>
#include <string.h>

#include "common/base/file.h"
#include "extract/impl.h"

static kf_status try_to_begin(kf_extractor *x, bool replace, kf_set_state *state, kf_err *err)
{
	const kf_extract_opts *o = x->o;
	const kf_arch *arch = kf_weights_arch(x->weights);
	char name[KF_NAME_MAX];
	kf_buf tokenizer = { 0 };
	kf_set_input inputs[3] = { { "corpus", o->corpus, kf_set_fp(x->corpus) }, { "model", o->model, { 0, 0 } },
		{ "tokenizer", o->model, kf_tokenizer_fp(x->tokenizer) } };
	kf_status rc;
	if (o->name) snprintf(name, sizeof name, "%s", o->name);
	else kf_path_name(o->model, name);
	json_t *info = json_pack("{s:i, s:s, s:s, s:i, s:i, s:b, s:b}", "k", (int)o->top_k, "model", name,
		"family", kf_family_name(arch->family), "vocabulary", arch->V, "context", x->context,
		"bos", kf_tokenizer_bos(x->tokenizer) >= 0, "byte_path", o->byte_path);
	/* The template shapes the content of conversations, and of nothing else. */
	json_t *record = o->record ? json_copy(o->record) : json_object();
	if (!info || !record || (o->fold_text && (json_object_set_new(info, "fold", json_string(o->fold_text)) != 0 ||
	    json_object_set_new(record, "fold", json_sprintf("%s by id", o->fold_text)) != 0)) ||
	    (x->chat && (json_object_set_new(info, "chat_template", json_string(kf_chat_name(x->chat))) != 0 ||
	    json_object_set_new(record, "chat-template", json_string(kf_chat_name(x->chat))) != 0))) {
		rc = kf_fail(err, KF_ENOMEM, "no memory to describe the set, or the model's name is no UTF-8: give it another with --name");
		goto out;
	}
	if ((rc = kf_extract_way(o, !replace, x->corpus, x->weights, x->tokenizer, x->chat, record, info, &x->way, err)) != KF_OK) goto out;
	if ((rc = kf_weights_fp(x->weights, &inputs[1].fp, err)) != KF_OK) goto out;
	if ((rc = kf_tokenizer_save(x->tokenizer, &tokenizer, err)) != KF_OK) goto out;
	kf_set_spec spec = {
		.dir = o->out, .kind = KF_SET_LOGITS, .program = "kf-extract", .options = record, .info = info,
		.inputs = inputs, .n_inputs = 3, .n_shards = kf_set_shards(x->corpus),
		.tokenizer = tokenizer.data, .tokenizer_size = tokenizer.len, .f32 = o->f32, .part = o->part, .parts = o->parts,
		.chat = x->chat != NULL, .replace = replace
	};
	rc = kf_set_begin(&spec, &x->writer, state, err);
out:
	kf_buf_release(&tokenizer);
	json_decref(record);
	json_decref(info);
	return rc;
}

/* Of parts that begin at once on one output, each may measure another way of computing to be the fastest: the one that comes second
 * does as the set that is there by then says. What replaces a set is measured for itself. */
static kf_status begin(kf_extractor *x, kf_set_state *state, kf_err *err)
{
	kf_status rc = try_to_begin(x, false, state, err);
	if (rc == KF_EMISMATCH && x->o->replace) return try_to_begin(x, true, state, err);
	return rc == KF_EMISMATCH && x->o->compute == KF_COMPUTE_AUTO ? try_to_begin(x, false, state, err) : rc;
}

static kf_status run(kf_extractor *x, kf_err *err)
{
	const kf_extract_opts *o = x->o;
	kf_extract_stats *stats = x->stats;
	kf_budget budget;
	uint64_t docs = 0;
	int shards = 0;
	kf_status rc;
	for (int s = o->part; s < kf_set_shards(x->corpus); s += o->parts) {
		if (kf_set_shard_done(x->writer, s)) continue;
		docs += kf_set_shard_docs(x->corpus, s);
		shards++;
	}
	x->share = kf_set_docs(x->corpus) ? (double)docs / (double)kf_set_docs(x->corpus) : 0;
	if (!docs) return KF_OK;
	if ((rc = kf_extractor_start(x, err)) != KF_OK || (rc = kf_extract_budget(x, &budget, err)) != KF_OK ||
	    (rc = kf_extractor_load(x, budget.stream, err)) != KF_OK)
		return rc;
	x->block = budget.block;
	double from = kf_now();
	x->share /= o->folds;
	kf_progress_start(&x->progress, "extract", "tokens", (double)kf_set_bytes(x->corpus) * x->share / 4, o->progress);
	kf_progress_shards(&x->progress, 0, shards);
	rc = kf_extract_shards(x, err);
	if (rc == KF_OK) x->progress.total = x->progress.done;
	kf_progress_end(&x->progress);
	stats->seconds = kf_now() - from;
	if ((stats->streamed = x->stream != NULL)) {
		const kf_stream_stats s = kf_stream_get_stats(x->stream);
		stats->blocks = s.blocks;
		stats->bytes_read = s.bytes;
		stats->waited = s.waited;
	}
	return rc;
}

/* ---- opening and closing ---- */

kf_status kf_extractor_open(kf_extractor *x, const kf_extract_opts *o, kf_err *err)
{
	kf_status rc;
	*x = (kf_extractor){ .o = o, .way = { o->compute, o->compute == KF_COMPUTE_INT8 ? o->int8 : 0 } };
	if ((rc = kf_set_open(o->corpus, KF_SET_CORPUS, &x->corpus, err)) != KF_OK) return rc;
	if ((rc = kf_weights_open(o->model, &x->weights, err)) != KF_OK) return rc;
	if ((rc = kf_weights_tokenizer(x->weights, &x->tokenizer, err)) != KF_OK) return rc;
	if ((rc = kf_run_chat(x->corpus, o->chat_template, x->tokenizer, o->model, &x->chat, err)) != KF_OK) return rc;
	const kf_arch *arch = kf_weights_arch(x->weights);
	if (o->top_k > arch->V)
		return kf_fail(err, KF_EINVAL, "--top-k %ld is more than the %d tokens of the vocabulary of %s", o->top_k, arch->V, o->model);
	if (o->context > arch->context)
		return kf_fail(err, KF_EINVAL, "--context %ld is more than the %d tokens that %s was made for", o->context, arch->context, o->model);
	if (o->scratch && !kf_is_dir(o->scratch))
		return kf_fail(err, KF_ENOTFOUND, "--scratch %s is not a folder", o->scratch);
	x->context = o->context ? (int)o->context : arch->context;
	return KF_OK;
}

kf_status kf_extractor_start(kf_extractor *x, kf_err *err)
{
	const kf_extract_opts *o = x->o;
	kf_status rc = kf_pool_new(o->threads, &x->pool, err);
	return rc != KF_OK ? rc : kf_exec_new(o->ops ? o->ops : &kf_ops_cpu, x->pool, x->way.compute, &x->exec, err);
}

kf_status kf_extractor_load(kf_extractor *x, bool stream, kf_err *err)
{
	const kf_extract_opts *o = x->o;
	const kf_model_opts opts = { .int8 = x->way.int8, .stream = stream };
	kf_status rc;
	if ((rc = kf_run_order(x->tokenizer, kf_weights_arch(x->weights)->V, &x->order, err)) != KF_OK) return rc;
	if ((rc = kf_model_new(x->weights, x->exec, &opts, &x->model, err)) != KF_OK) return rc;
	if (stream && (rc = kf_stream_new(x->model, o->scratch, &x->stream, err)) != KF_OK) return rc;
	x->runner = (kf_runner){
		.tokenizer = x->tokenizer, .order = x->order, .k = (int)o->top_k, .byte_path = o->byte_path,
		.path_min = (int)o->path_min, .path_extra = (int)o->path_extra, .context = x->context,
		.batch_tokens = (int)o->batch_tokens
	};
	return KF_OK;
}

void kf_extractor_release(kf_extractor *x)
{
	kf_set_abandon(x->writer);
	kf_stream_free(x->stream);
	kf_model_free(x->model);
	kf_exec_free(x->exec);
	kf_pool_free(x->pool);
	kf_free(x->order);
	kf_chat_free(x->chat);
	kf_tokenizer_free(x->tokenizer);
	kf_weights_close(x->weights);
	kf_set_close(x->corpus);
}

kf_status kf_extract(const kf_extract_opts *o, kf_extract_stats *stats, kf_err *err)
{
	kf_extractor x;
	kf_status rc;
	*stats = (kf_extract_stats){ 0 };
	if ((rc = kf_extractor_open(&x, o, err)) != KF_OK) goto out;
	x.stats = stats;
	stats->no_conversations = !x.chat;
	if ((rc = begin(&x, &stats->state, err)) != KF_OK) goto out;
	if (stats->state == KF_SET_CURRENT) {
		stats->complete = true;
		goto out;
	}
	if ((rc = run(&x, err)) != KF_OK) goto out;
	rc = kf_set_commit(x.writer, NULL, &stats->complete, err);
	x.writer = NULL;
out:
	kf_extractor_release(&x);
	return rc;
}
