#include "extract/way.h"

#include <string.h>

#include "common/model/run.h"
#include "common/store/record.h"

/* The sample: so many passages, of at most so many tokens each. */
enum { PASSAGES = 4, EACH = 128 };

/* What made the set that is there; what was measured then goes into info. */
static kf_status adopt(const kf_extract_opts *o, json_t *info, bool *found, kf_way *way, kf_err *err)
{
	json_t *options, *there, *kl;
	const char *compute, *int8;
	kf_status rc = kf_set_recorded(o->out, &options, &there, err);

	*found = false;
	if (rc != KF_OK || !options) goto out;
	compute = json_string_value(json_object_get(options, "compute"));
	int8 = json_string_value(json_object_get(options, "int8"));
	for (size_t i = 0; compute && i < KF_COMPUTES; i++)
		if (!strcmp(compute, kf_compute_name((kf_compute)i))) {
			*found = true;
			way->compute = (kf_compute)i;
		}
	/* what else is wrong with it is kf_set_begin's to say */
	if (*found && way->compute == KF_COMPUTE_INT8 && (!int8 || kf_int8_parse(int8, &way->int8, NULL) != KF_OK)) *found = false;
	if (*found && (kl = json_object_get(there, "kl")) && json_object_set(info, "kl", kl) != 0)
		rc = kf_fail(err, KF_ENOMEM, "no memory to describe the set");
out:
	json_decref(options);
	json_decref(there);
	return rc;
}

/* Passages spread evenly over the first shard; *tokens and *offset stay the caller's to free. */
static kf_status sample(kf_set *corpus, const kf_tokenizer *tokenizer, const kf_chat *chat, int context, kf_batch *b,
	int32_t *tokens, int32_t *offset, kf_err *err)
{
	const uint64_t docs = kf_set_shard_docs(corpus, 0), n = docs < PASSAGES ? docs : PASSAGES;
	kf_shard *in = NULL;
	kf_arena arena;
	kf_status rc;

	*b = (kf_batch){ .tokens = tokens, .offset = offset };
	offset[0] = 0;
	kf_arena_init(&arena);
	rc = kf_shard_open(corpus, 0, &in, err);
	for (uint64_t i = 0; rc == KF_OK && i < n; i++) {
		const int begin = b->T, most = begin + (EACH < context ? EACH : context);
		kf_corpus_rec rec;
		kf_encoding enc;

		if ((rc = kf_shard_seek(in, i * docs / n, err)) != KF_OK || (rc = kf_shard_next_corpus(in, &arena, &rec, err)) != KF_OK ||
			(rc = kf_run_encode(tokenizer, chat, &rec, &arena, &enc, err)) != KF_OK)
			break;
		if (!enc.no_bos && kf_tokenizer_bos(tokenizer) >= 0) tokens[b->T++] = kf_tokenizer_bos(tokenizer);
		for (uint32_t k = 0; k < enc.n && b->T < most; k++) tokens[b->T++] = enc.ids[k];
		if (b->T > begin) offset[++b->S] = b->T;
	}
	kf_shard_close(in);
	kf_arena_release(&arena);
	return rc;
}

static kf_status choose(const kf_extract_opts *o, kf_set *corpus, const kf_weights *weights, const kf_tokenizer *tokenizer,
	const kf_chat *chat, json_t *info, kf_way *way, kf_err *err)
{
	const int context = o->context ? (int)o->context : kf_weights_arch(weights)->context;
	int32_t tokens[PASSAGES * EACH], offset[PASSAGES + 1];
	kf_divergence found;
	kf_pool *pool = NULL;
	kf_batch b;
	kf_status rc;

	*way = (kf_way){ KF_COMPUTE_F32, 0 };
	if (kf_set_bytes(corpus) < KF_WAY_BYTES) return KF_OK;
	if ((rc = sample(corpus, tokenizer, chat, context, &b, tokens, offset, err)) != KF_OK || !b.T) return rc;
	if ((rc = kf_pool_new(o->threads, &pool, err)) == KF_OK)
		rc = kf_context(err, kf_way_choose(weights, pool, &b, (int)o->top_k, way, &found, err), "choosing how to compute");
	kf_pool_free(pool);
	if (rc == KF_OK && found.rows && json_object_set_new(info, "kl", json_real(found.mean)) != 0)
		rc = kf_fail(err, KF_ENOMEM, "no memory to describe the set");
	return rc;
}

kf_status kf_extract_way(const kf_extract_opts *o, bool as_there, kf_set *corpus, const kf_weights *weights, const kf_tokenizer *tokenizer,
	const kf_chat *chat, json_t *record, json_t *info, kf_way *out, kf_err *err)
{
	char text[KF_INT8_TEXT];
	bool found = false;
	kf_status rc;

	*out = (kf_way){ o->compute, o->compute == KF_COMPUTE_INT8 ? o->int8 : 0 };
	if (o->compute == KF_COMPUTE_AUTO && as_there && (rc = adopt(o, info, &found, out, err)) != KF_OK) return rc;
	if (o->compute == KF_COMPUTE_AUTO && !found &&
		(rc = choose(o, corpus, weights, tokenizer, chat, info, out, err)) != KF_OK)
		return rc;
	kf_int8_text(out->int8, text);
	if (json_object_set_new(record, "compute", json_string(kf_compute_name(out->compute))) != 0 ||
		(out->compute == KF_COMPUTE_INT8 && json_object_set_new(record, "int8", json_string(text)) != 0))
		return kf_fail(err, KF_ENOMEM, "no memory to describe the set");
	return KF_OK;
}
