/* A shard's file: the pages of LMDB and every record of every kind. The blocks' checksums are put right first: else only
 * they would be tried. */
#include <string.h>

#include "common/store/mdb_walk.h"
#include "common/store/store.h"
#include "tests/fuzz/fuzz.h"

enum { MOST = 1 << 20 };
static uint8_t copy[MOST];

static kf_status put_right(void *arg, const kf_mdb_item *it, kf_err *err)
{
	uint8_t *value = copy + (it->value - (const uint8_t *)copy);
	kf_block_head head;

	(void)arg, (void)err;
	if (it->key_size != 8 || it->value_size < KF_BLOCK_HEAD) return KF_OK;
	memcpy(&head, value, sizeof head);
	head.checksum = kf_hash64(value + KF_BLOCK_HEAD, it->value_size - KF_BLOCK_HEAD);
	memcpy(value, &head, sizeof head);
	return KF_OK;
}

static void read_all(kf_shard *s, kf_set_kind kind, bool f32)
{
	kf_arena arena;
	kf_corpus_rec c;
	kf_logits_rec l;
	kf_dist_rec d;
	kf_status rc = KF_OK;
	kf_err err;

	kf_arena_init(&arena);
	err.text[0] = 0;
	s->kind = kind;
	s->f32 = f32;
	s->codec = kf_codec_of(kind, f32);
	while (rc == KF_OK) {
		kf_arena_reset(&arena);
		if (kind == KF_SET_CORPUS) {
			if ((rc = kf_shard_next_corpus(s, &arena, &c, &err)) == KF_OK) fuzz_touch(c.text, c.head.bytes);
		} else if (kind == KF_SET_LOGITS) {
			if ((rc = kf_shard_next_logits(s, &arena, &l, &err)) == KF_OK) fuzz_touch(l.tokens, l.n * sizeof *l.tokens);
		} else if ((rc = kf_shard_next_dist(s, &arena, &d, &err)) == KF_OK) {
			fuzz_touch(d.tokens, d.n * sizeof *d.tokens);
		}
	}
	fuzz_answer(rc, &err);
	kf_arena_release(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct { kf_set_kind kind; bool f32; } kinds[] = { { KF_SET_CORPUS, false }, { KF_SET_LOGITS, false },
		{ KF_SET_LOGITS, true }, { KF_SET_TARGETS, false }, { KF_SET_TARGETS, true } };
	const char *path;
	kf_err err;

	if (size > MOST) return 0;
	memcpy(copy, data, size);
	err.text[0] = 0;
	fuzz_answer(kf_mdb_walk(copy, size, put_right, NULL, &err), &err);
	path = fuzz_file(copy, size);
	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
		kf_shard *s = NULL;
		kf_status rc = kf_shard_open_file(path, &s, &err);

		fuzz_answer(rc, &err);
		if (rc == KF_OK) read_all(s, kinds[i].kind, kinds[i].f32);
		kf_shard_close(s);
		if (rc != KF_OK) break;
	}
	return 0;
}
