#include "train/valid.h"

#include <math.h>

#include "common/base/stop.h"
#include "common/model/run.h"

#define BATCH 2048   /* tokens */

kf_status kf_check_tokenizer(const kf_set *set, const kf_tokenizer *tokenizer, const char *model, kf_err *err)
{
	kf_tokenizer *own = NULL;
	const void *data;
	kf_status rc;
	size_t n;

	if ((rc = kf_set_tokenizer(set, &data, &n, err)) != KF_OK)
		return rc;
	if ((rc = kf_tokenizer_load(data, n, &own, err)) != KF_OK)
		return kf_context(err, rc, "%s", kf_set_dir(set));
	if (!kf_fp_equal(kf_tokenizer_fp(own), kf_tokenizer_fp(tokenizer)))
		rc = kf_fail(err, KF_EMISMATCH, "%s was made with another tokenizer than that of %s: its tokens would mean other text. "
			"Targets are made for one model; use that one, or align and fuse for this one.", kf_set_dir(set), model);
	kf_tokenizer_free(own);
	return rc;
}

/* The ends of turns are none of the bytes that are counted: made context. */
static kf_status replies_only(kf_dist_rec *rec, uint64_t *bytes, kf_arena *arena, kf_err *err)
{
	uint8_t *context = kf_arena_alloc(arena, (size_t)rec->n + 1, 1);

	if (!context)
		return kf_fail(err, KF_ENOMEM, "no memory for the validation text");
	*bytes = 0;
	for (uint32_t p = 0; p <= rec->n; p++) {
		context[p] = rec->context[p] || kf_ends_turn(rec->context, rec->start, rec->n, p);
		/* without BOS nothing predicts the first token */
		*bytes += context[p] || (p == 0 && !rec->bos) ? 0 : rec->start[p + 1] - rec->start[p];
	}
	rec->context = context;
	return KF_OK;
}

static kf_status add(kf_valid *v, const kf_pack *pack, const kf_dist_rec *given, kf_arena *arena, kf_err *err)
{
	kf_micro *m = v->n ? &v->micro[v->n - 1] : NULL;
	kf_dist_rec copy = *given, *rec = &copy;
	uint64_t bytes = rec->head.bytes;
	kf_status rc;

	if (rec->n + rec->bos < 2)
		return KF_OK;
	if (rec->context && (rc = replies_only(rec, &bytes, arena, err)) != KF_OK)
		return rc;
	if (!rec->context && !rec->bos)
		bytes -= rec->start[1];
	if (!m || m->T + (int64_t)rec->n > BATCH) {
		/* Doubles at powers of two. */
		if ((v->n & (v->n - 1)) == 0) {
			kf_micro *more = kf_zalloc(v->n ? (size_t)v->n * 2 : 1, sizeof *more);

			if (!more)
				return kf_fail(err, KF_ENOMEM, "no memory for the validation text");
			if (v->n)
				memcpy(more, v->micro, (size_t)v->n * sizeof *more);
			kf_free(v->micro);
			v->micro = more;
		}
		m = &v->micro[v->n++];
	}
	v->bytes += bytes;
	return kf_micro_add(m, pack, rec, err);
}

static kf_status read_corpus(kf_valid *v, const kf_set *set, const kf_tokenizer *tokenizer, const char *chat_template,
	const kf_pack *pack, kf_err *err)
{
	kf_chat *chat = NULL;
	kf_arena arena;
	kf_status rc = KF_OK;

	if (kf_set_chat(set) && !chat_template && !kf_tokenizer_chat_template(tokenizer))
		return kf_fail(err, KF_EUNSUPPORTED, "%s has conversations, and neither the model nor what it is trained on has a chat template. Give --valid the "
			"logits that kf-extract --chat-template makes of it.", kf_set_dir(set));
	if ((rc = kf_run_chat(set, chat_template, tokenizer, "the model", &chat, err)) != KF_OK) return rc;
	kf_arena_init(&arena);
	for (int s = 0; s < kf_set_shards(set) && rc == KF_OK; s++) {
		kf_shard *shard;
		kf_corpus_rec c;

		if ((rc = kf_shard_open(set, s, &shard, err)) != KF_OK)
			break;
		while (kf_arena_reset(&arena), (rc = kf_shard_next_corpus(shard, &arena, &c, err)) == KF_OK) {
			kf_encoding e;

			if ((rc = kf_run_encode(tokenizer, chat, &c, &arena, &e, err)) != KF_OK)
				break;
			rc = add(v, pack, &(kf_dist_rec){ .head = c.head, .bos = pack->bos >= 0 && !e.no_bos, .n = e.n, .tokens = e.ids,
				.start = e.start, .context = e.context }, &arena, err);
			if (rc != KF_OK)
				break;
		}
		kf_shard_close(shard);
		if (rc == KF_END)
			rc = KF_OK;
	}
	kf_arena_release(&arena);
	kf_chat_free(chat);
	return rc;
}

/* Conversations in another form are another text: a loss of theirs does not say how well the model learns this one. */
static kf_status check_template(const kf_set *set, const char *chat_template, kf_err *err)
{
	const char *own = json_string_value(json_object_get(kf_set_info(set), "chat_template"));

	if (!own || !chat_template || strcmp(own, chat_template) == 0)
		return KF_OK;
	return kf_fail(err, KF_EMISMATCH, "%s renders conversations with the template %s, what is trained on with %s: they must have the same. Give --valid the "
		"corpus itself, or logits that kf-extract --chat-template %s makes of it.", kf_set_dir(set), own, chat_template, chat_template);
}

static kf_status read_docs(kf_valid *v, const kf_set *set, const kf_pack *pack, kf_err *err)
{
	kf_docs *docs;
	kf_arena arena;
	kf_status rc = kf_docs_open(set, 0, 1, &docs, err);

	if (rc != KF_OK)
		return rc;
	kf_arena_init(&arena);
	for (uint64_t i = 0; i < docs->n && rc == KF_OK; i++) {
		kf_dist_rec rec;

		kf_arena_reset(&arena);
		if ((rc = docs->get(docs, i, &arena, &rec, err)) == KF_OK)
			rc = add(v, pack, &rec, &arena, err);
	}
	kf_arena_release(&arena);
	kf_docs_close(docs);
	return rc;
}

kf_status kf_valid_open(const char *dir, const kf_tokenizer *tokenizer, const char *chat_template, const kf_pack *pack,
	kf_valid *out, kf_err *err)
{
	kf_pack plain = *pack;
	kf_set *set;
	kf_status rc;

	*out = (kf_valid){ 0 };
	plain.fusion = false;
	if ((rc = kf_set_open(dir, KF_SET_KINDS, &set, err)) != KF_OK)
		return rc;
	out->fp = kf_set_fp(set);
	if (kf_set_get_kind(set) == KF_SET_CORPUS)
		rc = read_corpus(out, set, tokenizer, chat_template, &plain, err);
	else if ((rc = kf_check_tokenizer(set, tokenizer, "the model", err)) == KF_OK && (rc = check_template(set, chat_template, err)) == KF_OK)
		rc = read_docs(out, set, &plain, err);
	if (rc == KF_OK && out->bytes == 0)
		rc = kf_fail(err, KF_EDATA, "%s has no text to validate with", dir);
	for (int i = 0; i < out->n && rc == KF_OK; i++)
		kf_micro_finish(&out->micro[i]);
	kf_set_close(set);
	if (rc != KF_OK)
		kf_valid_release(out);
	return rc;
}

void kf_valid_release(kf_valid *v)
{
	for (int i = 0; i < v->n; i++)
		kf_micro_release(&v->micro[i]);
	kf_free(v->micro);
	*v = (kf_valid){ 0 };
}

kf_status kf_valid_run(const kf_valid *v, kf_model *model, kf_ranks *ranks, double *bits_per_byte, kf_err *err)
{
	double nats = 0;
	kf_status rc = kf_stop_check(err);   /* of one that has no part in it, too */

	for (int i = kf_ranks_rank(ranks); i < v->n && rc == KF_OK; i += kf_ranks_size(ranks)) {
		kf_loss_query q = v->micro[i].query;
		kf_loss loss = { 0 };

		q.lambda = q.temperature = 1;
		if ((rc = kf_stop_check(err)) != KF_OK)
			break;
		rc = kf_model_loss(model, &v->micro[i].batch, &q, false, &loss, err);
		nats += loss.clm;
	}
	if ((rc = kf_ranks_agree(ranks, rc, err)) != KF_OK || (rc = kf_ranks_sum(ranks, &nats, 1, err)) != KF_OK)
		return rc;
	*bits_per_byte = nats / M_LN2 / (double)v->bytes;
	return KF_OK;
}
