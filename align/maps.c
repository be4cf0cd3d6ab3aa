#include "align/maps.h"

#include <string.h>

#include "align/counted.h"
#include "align/mined.h"
#include "align/vocab.h"
#include "common/base/file.h"

const char *align_map_method(const align_map_from *from)
{
	return from->map == KF_ALIGN_STATS ? "stats" : from->cooccurrence ? "mined co-occurrence" : "mined";
}

kf_status align_map_key(const align_map_from *from, kf_vocabmap_key *key, kf_err *err)
{
	const char *method = align_map_method(from);

	memset(key, 0, sizeof *key);
	memcpy(key->method, method, strlen(method) + 1);
	key->source = kf_tokenizer_fp(from->st);
	key->target = kf_tokenizer_fp(from->tt);
	key->n = kf_tokenizer_size(from->st);
	key->m = kf_tokenizer_size(from->tt);
	key->counted = from->map == KF_ALIGN_STATS || from->cooccurrence;
	return key->counted ? kf_set_input_fp(from->target, "corpus", &key->corpus, err) : KF_OK;
}

kf_status align_map_find(const char *path, const kf_vocabmap_key *key, bool any_corpus, kf_vocabmap **out, kf_err *err)
{
	kf_vocabmap_key want = *key;
	kf_status rc;

	*out = NULL;
	if (!path || !kf_exists(path)) return KF_OK;
	if ((rc = kf_vocabmap_read(path, out, err)) != KF_OK) return rc;
	if (any_corpus && want.counted && (*out)->key.counted) want.corpus = (*out)->key.corpus;
	if ((rc = kf_vocabmap_fits(&(*out)->key, &want, path, err)) != KF_OK) {
		kf_vocabmap_free(*out);
		*out = NULL;
	}
	return rc;
}

static bool spellings(kf_vocabmap *m, int side, const kf_tokenizer *t)
{
	for (int32_t id = 0; id < (side ? m->key.m : m->key.n); id++) {
		const char *s = kf_tokenizer_piece(t, id);

		if (s && !(m->spelled[side][id] = kf_arena_strdup(&m->arena, s, strlen(s)))) return false;
	}
	return true;
}

static kf_status mine(const align_map_from *from, kf_pool *pool, kf_vocabmap *map, kf_err *err)
{
	align_mined m;
	kf_status rc = align_mined_init(&m, from->st, from->tt, pool, from->progress, err);

	if (rc == KF_OK && from->cooccurrence) rc = align_cooccur(&m, from->source, from->target, pool, from->progress, err);
	for (int32_t id = 0; rc == KF_OK && id < map->key.n; id++) {
		map->to[id] = m.near[id].at;
		map->distance[id] = m.near[id].distance;
		map->equal[id] = m.near[id].distance == 0;
	}
	align_mined_release(&m);
	return rc;
}

static kf_status count(const align_map_from *from, kf_pool *pool, kf_vocabmap *map, kf_err *err)
{
	align_pairs own = { 0 };
	kf_status rc = KF_OK;

	if (!from->counted)
		rc = align_count(from->source, from->target, from->st, from->tt, pool, from->progress, &own, err);
	if (rc == KF_OK) rc = align_counted_choose(from->counted ? from->counted : &own, from->st, from->tt, map, err);
	align_pairs_release(&own);
	return rc;
}

kf_status align_map_make(const align_map_from *from, kf_pool *pool, kf_vocabmap **out, kf_err *err)
{
	kf_vocabmap_key key;
	kf_status rc;

	*out = NULL;
	if ((rc = align_map_key(from, &key, err)) != KF_OK) return rc;
	if ((rc = kf_vocabmap_new(&key, from->source_name, from->target_name, out, err)) != KF_OK) return rc;
	if (!spellings(*out, 0, from->st) || !spellings(*out, 1, from->tt))
		rc = kf_fail(err, KF_ENOMEM, "no memory for a vocabulary map of %d tokens", (int)key.n);
	else
		rc = from->map == KF_ALIGN_MINED ? mine(from, pool, *out, err) : count(from, pool, *out, err);
	if (rc != KF_OK) {
		kf_vocabmap_free(*out);
		*out = NULL;
	}
	return rc;
}
