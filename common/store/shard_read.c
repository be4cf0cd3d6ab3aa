/* Reading shards. The file is mapped and walked by mdb_walk.c, which trusts nothing in it. */
#include <stdio.h>

#include "common/store/mdb_walk.h"
#include "common/store/store.h"

static kf_status add_item(void *arg, const kf_mdb_item *it, kf_err *err)
{
	struct kf_shard *s = arg;
	struct kf_block_ref *b;
	kf_block_head head;
	uint64_t doc = 0;

	if (it->key_size == strlen(FACTS_KEY) && memcmp(it->key, FACTS_KEY, it->key_size) == 0) {
		s->has_facts = true;
		return kf_facts_decode(it->value, it->value_size, &s->facts, &s->sums, err);
	}
	if (it->key_size != 8 || it->key[0] || it->value_size < KF_BLOCK_HEAD)
		return kf_fail(err, KF_EDATA, "has an entry that is no block");
	for (int i = 0; i < 8; i++) doc = doc << 8 | it->key[i];
	memcpy(&head, it->value, sizeof head);
	if (head.docs == 0 || (head.magic & 0xffffff) != KF_BLOCK_MAGIC(0))
		return kf_fail(err, KF_EDATA, "has an entry that is no block, for document %llu", (unsigned long long)doc);
	if (s->n_blocks == s->cap_blocks) {
		size_t cap = s->cap_blocks ? s->cap_blocks * 2 : 64;
		struct kf_block_ref *more = kf_alloc(cap, sizeof *more);

		if (!more) return kf_fail(err, KF_ENOMEM, "no memory for %zu blocks", cap);
		if (s->n_blocks) memcpy(more, s->blocks, s->n_blocks * sizeof *more);
		kf_free(s->blocks);
		s->blocks = more;
		s->cap_blocks = cap;
	}
	b = &s->blocks[s->n_blocks++];
	b->doc = doc;
	b->first = s->docs;
	b->data = it->value;
	b->size = it->value_size;
	b->docs = head.docs;
	s->docs += head.docs;
	return KF_OK;
}

kf_status kf_shard_open_file(const char *path, kf_shard **out, kf_err *err)
{
	struct kf_shard *s = kf_zalloc(1, sizeof *s);
	kf_status rc;

	*out = NULL;
	if (!s) return kf_fail(err, KF_ENOMEM, "no memory to open %s", path);
	snprintf(s->path, sizeof s->path, "%s", path);
	if ((rc = kf_map_open(&s->map, path, err)) != KF_OK) goto fail;
	if ((rc = kf_mdb_walk(s->map.data, s->map.size, add_item, s, err)) != KF_OK) {
		if (rc != KF_ENOMEM) kf_context(err, rc, "%s", path);
		goto fail;
	}
	if (!s->has_facts || s->facts.docs != s->docs) {
		rc = kf_fail(err, KF_EDATA, "%s: has %llu documents and says %llu", path, (unsigned long long)s->docs,
			(unsigned long long)s->facts.docs);
		goto fail;
	}
	s->facts.disk = s->map.size;
	*out = s;
	return KF_OK;
fail:
	kf_shard_close(s);
	return rc;
}

void kf_shard_close(kf_shard *s)
{
	if (!s) return;
	if (s->state) s->codec->free_state(s->state);
	kf_free(s->blocks);
	json_decref(s->sums);
	kf_map_close(&s->map);
	kf_free(s);
}

uint64_t kf_shard_docs(const kf_shard *s)
{
	return s->docs;
}

kf_status kf_shard_seek(kf_shard *s, uint64_t n, kf_err *err)
{
	if (n > s->docs)
		return kf_fail(err, KF_EINVAL, "%s has %llu documents, there is none at %llu", s->path,
			(unsigned long long)s->docs, (unsigned long long)n);
	s->next = n;
	return KF_OK;
}

/* Is the block what its header says, of this shard's codec (when that is known)? */
static kf_status check_block(const kf_shard *s, const struct kf_block_ref *b, kf_err *err)
{
	kf_block_head head;

	memcpy(&head, b->data, sizeof head);
	if (s->codec && head.magic != KF_BLOCK_MAGIC(s->codec->letter))
		return kf_fail(err, KF_EDATA, "it is of another kind or of a newer codec" REPAIR);
	if (head.checksum != kf_hash64(b->data + KF_BLOCK_HEAD, b->size - KF_BLOCK_HEAD))
		return kf_fail(err, KF_EDATA, "its checksum does not match" REPAIR);
	return KF_OK;
}

/* Say which block it was. */
static kf_status block_context(const kf_shard *s, const struct kf_block_ref *b, kf_status rc, kf_err *err)
{
	return rc == KF_ENOMEM ? rc : kf_context(err, rc, "%s: the block of document %llu is damaged", s->path,
		(unsigned long long)b->doc);
}

kf_status kf_shard_facts_of(const char *path, bool sound, kf_shard_facts *f, kf_err *err)
{
	kf_shard *s;
	kf_status rc = kf_shard_open_file(path, &s, err);

	for (size_t at = 0; rc == KF_OK && sound && at < s->n_blocks; at++)
		rc = block_context(s, &s->blocks[at], check_block(s, &s->blocks[at], err), err);
	if (rc == KF_OK) *f = s->facts;
	kf_shard_close(s);
	return rc;
}

/* Do a block's heads go with its key and with the next block's? */
static kf_status check_heads(const kf_shard *s, size_t at, const kf_head_n *heads, kf_err *err)
{
	const struct kf_block_ref *b = &s->blocks[at];
	uint64_t end = at + 1 < s->n_blocks ? s->blocks[at + 1].doc : KF_MAX_DOC;

	if (heads[0].head.doc == b->doc && heads[b->docs - 1].head.doc < end) return KF_OK;
	return kf_fail(err, KF_EDATA, "its documents are others than its key says");
}

/* Decode block number at, unless it is there already. */
static kf_status load_block(kf_shard *s, size_t at, kf_err *err)
{
	const struct kf_block_ref *b = &s->blocks[at];
	kf_status rc;

	if (s->loaded == at + 1 && (s->tokens_only || !s->state->tokens_only)) return KF_OK;
	s->loaded = 0;
	if (!s->state && !(s->state = s->codec->new_state())) return kf_fail(err, KF_ENOMEM, "no memory to read %s", s->path);
	s->state->tokens_only = s->tokens_only;
	if ((rc = check_block(s, b, err)) == KF_OK)
		rc = s->codec->decode(s->state, b->data + KF_BLOCK_HEAD, b->size - KF_BLOCK_HEAD, b->docs, s->f32, err);
	if (rc == KF_OK) rc = check_heads(s, at, s->state->heads, err);
	if (rc != KF_OK) return block_context(s, b, rc, err);
	s->loaded = at + 1;
	return KF_OK;
}

kf_status kf_shard_load(kf_shard *s, uint32_t *i, kf_err *err)
{
	size_t lo = 0, hi = s->n_blocks;
	kf_status rc;

	if (s->next >= s->docs) return KF_END;
	if (s->loaded && s->next >= s->blocks[s->loaded - 1].first &&
	    s->next - s->blocks[s->loaded - 1].first < s->blocks[s->loaded - 1].docs) {
		*i = (uint32_t)(s->next - s->blocks[s->loaded - 1].first);
		return load_block(s, s->loaded - 1, err);
	}
	while (hi - lo > 1) { /* the last block whose first document is at most next */
		size_t mid = lo + (hi - lo) / 2;

		if (s->blocks[mid].first <= s->next) lo = mid;
		else hi = mid;
	}
	if ((rc = load_block(s, lo, err)) != KF_OK) return rc;
	*i = (uint32_t)(s->next - s->blocks[lo].first);
	return KF_OK;
}

kf_status kf_shard_find(kf_shard *s, uint64_t doc, kf_err *err)
{
	size_t lo = 0, hi = s->n_blocks;
	kf_status rc;

	while (hi - lo > 1) {
		size_t mid = lo + (hi - lo) / 2;

		if (s->blocks[mid].doc <= doc) lo = mid;
		else hi = mid;
	}
	if (hi > lo && s->blocks[lo].doc <= doc) {
		if ((rc = load_block(s, lo, err)) != KF_OK) return rc;
		for (uint32_t i = 0; i < s->state->docs; i++) {
			if (s->state->heads[i].head.doc != doc) continue;
			s->next = s->blocks[lo].first + i;
			return KF_OK;
		}
	}
	return kf_fail(err, KF_ENOTFOUND, "%s has no document %llu", s->path, (unsigned long long)doc);
}

/* The planes of a block, which is longer than its head and prefix. */
static int planes_of(const kf_codec_reader *c, const struct kf_block_ref *b)
{
	int n = 0;

	while (c->planes[n]) n++;
	return n - (c->flags && !(b->data[KF_BLOCK_HEAD] & KF_BLOCK_CONTEXT));
}

kf_status kf_shard_heads(kf_shard *s, kf_status (*fn)(void *arg, const kf_head_n *head, kf_err *err), void *arg, kf_err *err)
{
	kf_unpacker *u = kf_unpacker_new();
	kf_buf plane = { 0 };
	kf_arena arena;
	kf_head_n *heads;
	kf_status rc = u ? KF_OK : kf_fail(err, KF_ENOMEM, "no memory to read %s", s->path);

	kf_arena_init(&arena);
	for (size_t at = 0; at < s->n_blocks && rc == KF_OK; at++) {
		const struct kf_block_ref *b = &s->blocks[at];
		size_t skip = KF_BLOCK_HEAD + s->codec->prefix;
		kf_cur c = kf_cur_of(b->data + (b->size < skip ? b->size : skip), b->size < skip ? 0 : b->size - skip);

		kf_arena_reset(&arena);
		if ((rc = check_block(s, b, err)) == KF_OK && b->size < skip) rc = kf_fail(err, KF_EDATA, "it is too short");
		if (rc == KF_OK && (rc = kf_planes_first(u, &c, &plane, planes_of(s->codec, b), err)) == KF_OK &&
		    (rc = kf_heads_get(&plane, b->docs, s->kind == KF_SET_CORPUS, &arena, &heads, err)) == KF_OK)
			rc = check_heads(s, at, heads, err);
		if (rc != KF_OK) {
			rc = block_context(s, b, rc, err);
			break;
		}
		for (uint32_t i = 0; i < b->docs && rc == KF_OK; i++) rc = fn(arg, &heads[i], err);
	}
	kf_buf_release(&plane);
	kf_arena_release(&arena);
	kf_unpacker_free(u);
	return rc;
}

kf_status kf_shard_plane_sizes(const kf_shard *s, uint64_t size[KF_MAX_PLANES], uint64_t *other, kf_err *err)
{
	uint64_t planes = 0;

	for (int i = 0; i < KF_MAX_PLANES; i++) planes -= size[i];
	for (size_t b = 0; b < s->n_blocks; b++) {
		size_t skip = KF_BLOCK_HEAD + s->codec->prefix;
		kf_cur c;
		kf_status rc;

		if (s->blocks[b].size < skip) return kf_fail(err, KF_EDATA, "%s: a block is too short", s->path);
		c = kf_cur_of(s->blocks[b].data + skip, s->blocks[b].size - skip);
		if ((rc = kf_planes_sizes(&c, size, planes_of(s->codec, &s->blocks[b]), err)) != KF_OK)
			return kf_context(err, rc, "%s", s->path);
	}
	for (int i = 0; i < KF_MAX_PLANES; i++) planes += size[i];
	*other += s->map.size - planes;
	return KF_OK;
}

const kf_codec_reader *kf_codec_of(kf_set_kind kind, bool f32)
{
	switch (kind) {
	case KF_SET_CORPUS: return &kf_codec_corpus;
	case KF_SET_LOGITS: return f32 ? &kf_codec_logits_f32 : &kf_codec_logits;
	default: return f32 ? &kf_codec_dist_f32 : &kf_codec_dist;
	}
}

kf_status kf_shard_kind(kf_set_kind have, unsigned mask, const char *what, kf_err *err)
{
	if (mask >> have & 1) return KF_OK;
	return kf_fail(err, KF_EINVAL, "%s records do not go with a set of kind %s", what, kf_set_kind_name(have));
}
