/* Corpus records: heads, and the text one document after another. */
#include "common/store/store.h"

enum { PLANE_HEADS, PLANE_TEXT, PLANES };
static const char *const plane_names[] = { "heads", "text", NULL };
#define LEVEL 15 /* written once, read by every model; the text is small beside what models say of it */

struct enc {
	kf_heads_enc heads;
	kf_buf planes[PLANES];
	kf_packer *packer;
};

static void enc_free(void *state)
{
	struct enc *e = state;

	kf_heads_release(&e->heads);
	for (int i = 0; i < PLANES; i++) kf_buf_release(&e->planes[i]);
	kf_packer_free(e->packer);
	kf_free(e);
}

static kf_status enc_flush(void *state, bool f32, kf_buf *out, uint32_t *docs, kf_err *err)
{
	struct enc *e = state;
	kf_status rc;

	(void)f32;
	*docs = e->heads.docs;
	kf_buf_clear(&e->planes[PLANE_HEADS]);
	kf_heads_finish(&e->heads, &e->planes[PLANE_HEADS]);
	rc = kf_planes_pack(e->packer, e->planes, PLANES, out, err);
	kf_buf_clear(&e->planes[PLANE_TEXT]);
	return rc;
}

static const kf_codec_writer codec_writer = { 'C', enc_flush, enc_free };

static kf_status check_turns(const kf_shard_writer *sw, const kf_corpus_rec *r, kf_err *err)
{
	unsigned long long doc = r->head.doc;
	uint64_t bytes = 0;

	if (r->n_turns && !sw->chat)
		return kf_fail(err, KF_EINVAL, "document %llu is a conversation, for which the set was not begun", doc);
	for (uint32_t i = 0; i < r->n_turns; i++) {
		if (r->turns[i].role >= KF_ROLES) return kf_fail(err, KF_EINVAL, "document %llu: a turn has no known role", doc);
		bytes += r->turns[i].bytes;
	}
	if (r->n_turns && bytes != r->head.bytes)
		return kf_fail(err, KF_EINVAL, "document %llu: its turns are not as long as its text", doc);
	return KF_OK;
}

/* Of the text; of a conversation, of its hash, the number of turns and each one's bytes and role. */
static kf_status content_hash(const kf_corpus_rec *r, uint64_t *out, kf_err *err)
{
	kf_buf b = { 0 };
	kf_status rc;

	*out = kf_hash64(r->text, r->head.bytes);
	if (!r->n_turns) return KF_OK;
	kf_buf_u64(&b, *out);
	kf_buf_u32(&b, r->n_turns);
	for (uint32_t i = 0; i < r->n_turns; i++) {
		kf_buf_u32(&b, r->turns[i].bytes);
		kf_buf_u8(&b, r->turns[i].role);
	}
	if ((rc = kf_buf_check(&b, err)) == KF_OK) *out = kf_hash64(b.data, b.len);
	kf_buf_release(&b);
	return rc;
}

kf_status kf_shard_put_corpus(kf_shard_writer *sw, const kf_corpus_rec *r, kf_err *err)
{
	struct enc *e;
	uint64_t hash;
	kf_status rc;

	if ((rc = kf_shard_kind(sw->kind, 1u << KF_SET_CORPUS, "corpus", err)) != KF_OK) return rc;
	if ((rc = kf_shard_put_begin(sw, &r->head, err)) != KF_OK) return rc;
	if (r->head.bytes && !r->text) return kf_fail(err, KF_EINVAL, "document %llu has no text", (unsigned long long)r->head.doc);
	if ((rc = check_turns(sw, r, err)) != KF_OK || (rc = content_hash(r, &hash, err)) != KF_OK) return rc;
	if (!sw->state) {
		if (!(e = kf_zalloc(1, sizeof *e)) || !(e->packer = kf_packer_new(LEVEL))) {
			kf_free(e);
			return kf_fail(err, KF_ENOMEM, "no memory to write a corpus");
		}
		sw->state = e;
		sw->codec = &codec_writer;
	}
	e = sw->state;
	kf_heads_put(&e->heads, &r->head, 0, r->n_turns, r->n_turns ? r->turns : NULL);
	kf_buf_put(&e->planes[PLANE_TEXT], r->text, r->head.bytes);
	return kf_shard_put_end(sw, &r->head, 0, kf_head_hash(&r->head, hash), e->planes[PLANE_TEXT].len, err);
}

/* ---- reading ---- */

struct dec {
	kf_block_state base;
	kf_unpacker *unpacker;
	kf_buf planes[PLANES];
	size_t *at; /* (docs) where each text begins */
};

static void dec_free(kf_block_state *state)
{
	struct dec *d = (struct dec *)state;

	for (int i = 0; i < PLANES; i++) kf_buf_release(&d->planes[i]);
	kf_unpacker_free(d->unpacker);
	kf_arena_release(&d->base.arena);
	kf_free(d);
}

static kf_block_state *dec_new(void)
{
	struct dec *d = kf_zalloc(1, sizeof *d);

	if (d && !(d->unpacker = kf_unpacker_new())) {
		kf_free(d);
		return NULL;
	}
	return d ? &d->base : NULL;
}

static kf_status decode(kf_block_state *state, const uint8_t *data, size_t n, uint32_t docs, bool f32, kf_err *err)
{
	struct dec *d = (struct dec *)state;
	kf_cur c = kf_cur_of(data, n);
	size_t at = 0;
	kf_status rc;

	(void)f32;
	kf_arena_reset(&d->base.arena);
	if ((rc = kf_planes_unpack(d->unpacker, &c, d->planes, PLANES, err)) != KF_OK) return rc;
	if ((rc = kf_heads_get(&d->planes[PLANE_HEADS], docs, true, &d->base.arena, &d->base.heads, err)) != KF_OK) return rc;
	d->base.docs = docs;
	if (!(d->at = KF_ARENA_NEW(&d->base.arena, size_t, docs))) return kf_fail(err, KF_ENOMEM, "no memory for %u documents", docs);
	for (uint32_t i = 0; i < docs; i++) {
		d->at[i] = at;
		at += d->base.heads[i].head.bytes;
	}
	return at == d->planes[PLANE_TEXT].len ? KF_OK : kf_fail(err, KF_EDATA, "its text is longer or shorter than its documents");
}

const kf_codec_reader kf_codec_corpus = { 'C', dec_new, dec_free, decode, plane_names, 0, false };

kf_status kf_shard_next_corpus(kf_shard *s, kf_arena *arena, kf_corpus_rec *rec, kf_err *err)
{
	struct dec *d;
	uint32_t i;
	kf_status rc;

	memset(rec, 0, sizeof *rec);
	if ((rc = kf_shard_kind(s->kind, 1u << KF_SET_CORPUS, "corpus", err)) != KF_OK) return rc;
	if ((rc = kf_shard_load(s, &i, err)) != KF_OK) return rc;
	d = (struct dec *)s->state;
	if ((rc = kf_head_copy(&rec->head, &d->base.heads[i].head, arena, err)) != KF_OK) return rc;
	rec->text = (const uint8_t *)kf_arena_strdup(arena, (const char *)d->planes[PLANE_TEXT].data + d->at[i], rec->head.bytes);
	if (!rec->text) return kf_fail(err, KF_ENOMEM, "no memory for a document of %u bytes", rec->head.bytes);
	if ((rec->n_turns = d->base.heads[i].more)) {
		kf_turn *turns = KF_ARENA_NEW(arena, kf_turn, rec->n_turns);

		if (!turns) return kf_fail(err, KF_ENOMEM, "no memory for a conversation of %u turns", rec->n_turns);
		memcpy(turns, d->base.heads[i].turns, rec->n_turns * sizeof *turns);
		rec->turns = turns;
	}
	s->next++;
	return KF_OK;
}
