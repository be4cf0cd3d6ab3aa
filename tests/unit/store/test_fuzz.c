/* Codecs on bytes that lie with a good checksum: planes are unpacked, changed, packed again and
 * decoded. Anything may come out but a crash, a hang, or an index out of place. */
#include "store_test.h"

#include "common/store/store.h"

static kf_arena arena;
static kf_err err;

static kf_shard *make(char dir[KF_PATH_MAX], kf_set_kind kind, bool f32, bool chat, kf_set **set)
{
	kf_set_spec spec;
	kf_set_writer *w;
	kf_set_state state;
	kf_shard_writer *sw;
	kf_shard *s;
	kf_rng r;

	scratch(dir);
	spec = spec_of(dir, kind, 1, f32);
	spec.chat = chat;
	kf_rng_seed(&r, 5);
	OK(kf_set_begin(&spec, &w, &state, &err));
	OK(kf_shard_begin(w, 0, &sw, &err));
	for (uint64_t i = 0; i < 6; i++) {
		if (kind == KF_SET_LOGITS) {
			kf_logits_rec rec = random_logits(&r, i, 30, 5, false, true, 3000, &arena);

			if (chat) converse_logits(&r, &rec, &arena);
			OK(kf_shard_put_logits(sw, &rec, &err));
		} else if (kind == KF_SET_CORPUS) {
			kf_corpus_rec rec = { .head = random_head(&r, i, &arena), .text = (const uint8_t *)"Some text, and some more." };

			rec.head.bytes = 10 + (uint32_t)i;
			if (chat) random_turns(&r, &rec, &arena);
			OK(kf_shard_put_corpus(sw, &rec, &err));
		} else {
			kf_dist_rec rec = random_dist(&r, i, 30, true, &arena);

			rec.bos = true; /* all in one block */
			if (chat) converse_dist(&r, &rec, &arena);
			OK(kf_shard_put_dist(sw, &rec, &err));
		}
	}
	OK(kf_shard_commit(sw, &err));
	OK(kf_set_commit(w, NULL, NULL, &err));
	OK(kf_set_open(dir, kind, set, &err));
	OK(kf_shard_open(*set, 0, &s, &err));
	assert_int_equal(s->n_blocks, 1);
	return s;
}

/* Sums everything, so that a sanitizer sees every element. */
static double touch(const void *p, size_t n)
{
	const uint8_t *b = p;
	double sum = 0;

	for (size_t i = 0; i < n; i++) sum += b[i];
	return sum;
}

static void read_all(kf_shard *s)
{
	kf_corpus_rec c;
	kf_logits_rec l;
	kf_dist_rec d;
	kf_status rc = KF_OK;
	volatile double sum = 0;

	s->loaded = 0;
	s->next = 0;
	while (rc == KF_OK) {
		if (s->kind == KF_SET_CORPUS) {
			uint64_t bytes = 0;

			if ((rc = kf_shard_next_corpus(s, &arena, &c, &err)) != KF_OK) break;
			sum += touch(c.text, c.head.bytes + 1);
			for (uint32_t i = 0; i < c.n_turns; i++) bytes += c.turns[i].bytes;
			assert_true(!c.n_turns || bytes == c.head.bytes);
		} else if (s->kind == KF_SET_LOGITS) {
			if ((rc = kf_shard_next_logits(s, &arena, &l, &err)) != KF_OK) break;
			sum += touch(l.tokens, l.n * 4) + touch(l.start, l.n * 4 + 4) + touch(l.ce, l.n * 4);
			sum += touch(l.top_ids, (l.n + 1) * 4 * l.k) + touch(l.top_lp, (l.n + 1) * 4 * l.k);
			if (l.has_path) {
				sum += touch(l.path_nlm, l.path_off[l.n] * 4) + touch(l.extra_ids, l.extra_off[l.n + 1] * 4);
				sum += touch(l.extra_lp, l.extra_off[l.n + 1] * 4);
			}
			if (l.context) sum += touch(l.context, (size_t)l.n + 1);
			for (uint32_t i = 0; i < l.n; i++) assert_true(l.tokens[i] >= 0 && l.start[i] <= l.start[i + 1]);
		} else {
			if ((rc = kf_shard_next_dist(s, &arena, &d, &err)) != KF_OK) break;
			sum += touch(d.tokens, d.n * 4) + touch(d.start, d.n * 4 + 4) + touch(d.ce, d.n * 4) + touch(d.tail, d.n * 4 + 4);
			sum += touch(d.ids, d.off[d.n + 1] * 4) + touch(d.lp, d.off[d.n + 1] * 4);
			if (d.context) sum += touch(d.context, (size_t)d.n + 1);
			for (uint32_t i = 0; i < d.off[d.n + 1]; i++) assert_true(d.ids[i] >= 0);
		}
	}
	if (rc != KF_END && rc != KF_EDATA) fail_msg("%s: %s", kf_status_name(rc), err.text);
	kf_arena_reset(&arena);
	s->loaded = 0;
	s->next = 0;
	while (s->kind == KF_SET_LOGITS && (rc = kf_shard_next_tokens(s, &arena, &l, &err)) == KF_OK) {
		sum += touch(l.tokens, l.n * 4) + touch(l.start, l.n * 4 + 4);
		for (uint32_t i = 0; i < l.n; i++) assert_true(l.tokens[i] >= 0 && l.start[i] <= l.start[i + 1]);
	}
	if (rc != KF_END && rc != KF_EDATA) fail_msg("%s: %s", kf_status_name(rc), err.text);
	kf_arena_reset(&arena);
}

static void fuzz(kf_set_kind kind, bool f32, bool chat, int rounds)
{
	char dir[KF_PATH_MAX];
	kf_set *set;
	kf_shard *s = make(dir, kind, f32, chat, &set);
	struct kf_block_ref good = s->blocks[0];
	kf_unpacker *u = kf_unpacker_new();
	kf_packer *pk = kf_packer_new(1);
	size_t skip = KF_BLOCK_HEAD + s->codec->prefix;
	kf_buf planes[KF_MAX_PLANES] = { { 0 } }, block = { 0 };
	int n = 0;
	kf_rng r;

	while (s->codec->planes[n]) n++;
	n -= s->codec->flags && !chat;
	kf_rng_seed(&r, 99 + (uint64_t)kind);
	read_all(s);
	for (int t = 0; t < rounds; t++) {
		kf_cur c = kf_cur_of(good.data + skip, good.size - skip);
		int changes = 1 + (int)kf_rng_below(&r, 3);
		uint64_t sum;

		OK(kf_planes_unpack(u, &c, planes, n, &err));
		while (changes--) {
			kf_buf *b = &planes[kf_rng_below(&r, (uint64_t)n)];
			size_t at = b->len ? (size_t)kf_rng_below(&r, b->len) : 0;

			switch (kf_rng_below(&r, 4)) {
			case 0: if (b->len) b->len = at; break;
			case 1: kf_buf_fill(b, (uint8_t)kf_rng_below(&r, 256), 1 + (size_t)kf_rng_below(&r, 5)); break;
			case 2: if (b->len) b->data[at] = 0xff; break;
			default: if (b->len) b->data[at] = (uint8_t)kf_rng_below(&r, 256); break;
			}
		}
		kf_buf_clear(&block);
		kf_buf_put(&block, good.data, skip);
		if (s->codec->prefix && kf_rng_below(&r, 20) == 0)
			block.data[KF_BLOCK_HEAD + kf_rng_below(&r, s->codec->prefix)] = (uint8_t)kf_rng_below(&r, 256);
		OK(kf_planes_pack(pk, planes, n, &block, &err));
		if (kf_rng_below(&r, 20) == 0) block.data[skip + kf_rng_below(&r, 30)] ^= (uint8_t)(1 << kf_rng_below(&r, 8));
		sum = kf_hash64(block.data + KF_BLOCK_HEAD, block.len - KF_BLOCK_HEAD);
		memcpy(block.data + 8, &sum, 8);
		s->blocks[0].data = block.data;
		s->blocks[0].size = block.len;
		read_all(s);
	}
	s->blocks[0] = good;
	for (int i = 0; i < KF_MAX_PLANES; i++) kf_buf_release(&planes[i]);
	kf_buf_release(&block);
	kf_packer_free(pk);
	kf_unpacker_free(u);
	kf_shard_close(s);
	kf_set_close(set);
	remove_dir(dir);
}

static void test_logits(void **state) { (void)state; fuzz(KF_SET_LOGITS, false, false, 3000); }
static void test_logits_f32(void **state) { (void)state; fuzz(KF_SET_LOGITS, true, false, 800); }
static void test_dist(void **state) { (void)state; fuzz(KF_SET_TARGETS, false, false, 3000); }
static void test_dist_f32(void **state) { (void)state; fuzz(KF_SET_TARGETS, true, false, 800); }
static void test_corpus(void **state) { (void)state; fuzz(KF_SET_CORPUS, false, false, 1000); }
static void test_chat(void **state)
{
	(void)state;
	fuzz(KF_SET_CORPUS, false, true, 1000);
	fuzz(KF_SET_LOGITS, false, true, 2000);
	fuzz(KF_SET_LOGITS, true, true, 400);
	fuzz(KF_SET_ALIGNED, false, true, 2000);
	fuzz(KF_SET_ALIGNED, true, true, 400);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_logits), cmocka_unit_test(test_logits_f32), cmocka_unit_test(test_dist),
		cmocka_unit_test(test_dist_f32), cmocka_unit_test(test_corpus), cmocka_unit_test(test_chat),
	};
	int failed;

	kf_arena_init(&arena);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	kf_arena_release(&arena);
	return failed;
}
