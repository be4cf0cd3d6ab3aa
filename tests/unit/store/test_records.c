/* Records come back as they were written, within the precision promised. */
#include "store_test.h"

#define V 49152

static kf_arena arena, back;
static kf_err err;

static kf_shard_writer *begin(const char *dir, kf_set_kind kind, bool f32, bool chat, kf_set_writer **w)
{
	kf_set_spec spec = spec_of(dir, kind, 1, f32);
	kf_set_state state;
	kf_shard_writer *sw;

	spec.chat = chat;
	OK(kf_set_begin(&spec, w, &state, &err));
	assert_int_equal(state, KF_SET_NEW);
	OK(kf_shard_begin(*w, 0, &sw, &err));
	return sw;
}

static kf_shard *finish(const char *dir, kf_set_writer *w, kf_shard_writer *sw, kf_set **set)
{
	bool complete;
	kf_shard *s;

	OK(kf_shard_commit(sw, &err));
	OK(kf_set_commit(w, NULL, &complete, &err));
	assert_true(complete);
	OK(kf_set_open(dir, KF_SET_KINDS, set, &err));
	OK(kf_shard_open(*set, 0, &s, &err));
	return s;
}

static void same_tokens(const kf_logits_rec *a, const kf_logits_rec *b)
{
	same_head(&a->head, &b->head);
	assert_int_equal(a->bos, b->bos);
	assert_int_equal(a->n, b->n);
	SAME(a->tokens, b->tokens, a->n);
	SAME(a->start, b->start, a->n + 1);
	assert_int_equal(a->context != NULL, b->context != NULL);
	if (a->context) SAME(a->context, b->context, a->n + 1);
	assert_int_equal(b->k, 0);
	assert_false(b->has_path);
	assert_null(b->top_ids);
	assert_null(b->ce);
}

/* With chat, three documents of four are conversations. */
static void logits_round_trip(uint32_t k, bool f32, bool chat, uint64_t seed, int docs, uint32_t max_n)
{
	char dir[KF_PATH_MAX];
	kf_rng r;
	kf_set_writer *w;
	kf_shard_writer *sw;
	kf_logits_rec *recs = calloc((size_t)docs, sizeof *recs), got;
	kf_set *set;
	kf_shard *s;
	uint64_t tokens = 0;

	scratch(dir);
	kf_rng_seed(&r, seed);
	sw = begin(dir, KF_SET_LOGITS, f32, chat, &w);
	for (int i = 0; i < docs; i++) {
		uint32_t n = (uint32_t)(max_n * pow(kf_rng_real(&r), 3));

		if (i == 1) n = 0;
		if (i == 2) n = 1;
		recs[i] = random_logits(&r, (uint64_t)i * 2 + 5, n, k, kf_rng_below(&r, 4), kf_rng_below(&r, 4), V, &arena);
		if (chat && i % 4) converse_logits(&r, &recs[i], &arena);
		OK(kf_shard_put_logits(sw, &recs[i], &err));
		tokens += n;
	}
	s = finish(dir, w, sw, &set);
	assert_int_equal(kf_set_docs(set), docs);
	assert_int_equal(kf_set_chat(set), chat);
	assert_int_equal(json_integer_value(json_object_get(kf_set_manifest(set), "format")), chat ? 2 : 1);
	assert_int_equal(kf_set_tokens(set), tokens);
	for (int i = 0; i < docs; i++) {
		OK(kf_shard_next_logits(s, &back, &got, &err));
		same_logits(&recs[i], &got, f32);
		kf_arena_reset(&back);
	}
	assert_int_equal(kf_shard_next_logits(s, &back, &got, &err), KF_END);
	OK(kf_shard_seek(s, 0, &err));
	for (int i = 0; i < docs; i++) {
		OK(kf_shard_next_tokens(s, &back, &got, &err));
		same_tokens(&recs[i], &got);
		kf_arena_reset(&back);
	}
	assert_int_equal(kf_shard_next_tokens(s, &back, &got, &err), KF_END);
	/* anywhere, in any order, one way and the other */
	for (int t = 0; t < 2 * docs; t++) {
		int i = (int)kf_rng_below(&r, (uint64_t)docs);

		if (t % 2) OK(kf_shard_find(s, (uint64_t)i * 2 + 5, &err));
		else OK(kf_shard_seek(s, (uint64_t)i, &err));
		if (kf_rng_below(&r, 3) == 0) {
			OK(kf_shard_next_tokens(s, &back, &got, &err));
			same_tokens(&recs[i], &got);
		} else {
			OK(kf_shard_next_logits(s, &back, &got, &err));
			same_logits(&recs[i], &got, f32);
		}
		kf_arena_reset(&back);
	}
	FAILS(KF_ENOTFOUND, "no document 6", kf_shard_find(s, 6, &err));
	FAILS(KF_ENOTFOUND, "no document 2", kf_shard_find(s, 2, &err));
	kf_shard_close(s);
	kf_set_close(set);
	kf_arena_reset(&arena);
	free(recs);
	remove_dir(dir);
}

static void test_logits(void **state)
{
	(void)state;
	logits_round_trip(10, false, false, 1, 60, 600);
	logits_round_trip(1, false, false, 2, 20, 300);
	logits_round_trip(3, false, false, 3, 20, 300);
	logits_round_trip(50, false, false, 4, 10, 300);
	logits_round_trip(10, false, true, 8, 60, 600);
	logits_round_trip(3, false, true, 9, 20, 300);
}

static void test_logits_f32(void **state)
{
	(void)state;
	logits_round_trip(10, true, false, 5, 30, 300);
	logits_round_trip(1, true, false, 6, 10, 100);
	logits_round_trip(10, true, true, 10, 30, 300);
}

static void test_logits_many_blocks(void **state)
{
	(void)state;
	logits_round_trip(10, false, false, 7, 12, 30000); /* several blocks, and documents larger than one */
}

static void corpus_round_trip(bool chat)
{
	char dir[KF_PATH_MAX];
	kf_rng r;
	kf_set_writer *w;
	kf_shard_writer *sw;
	kf_corpus_rec recs[50], got;
	kf_set *set;
	kf_shard *s;

	scratch(dir);
	kf_rng_seed(&r, 11);
	sw = begin(dir, KF_SET_CORPUS, false, chat, &w);
	for (int i = 0; i < 50; i++) {
		uint32_t n = (uint32_t)kf_rng_below(&r, i == 7 ? 3000000 : 5000);
		uint8_t *text = kf_arena_alloc(&arena, n, 1);

		for (uint32_t j = 0; j < n; j++) text[j] = (uint8_t)kf_rng_below(&r, 256);
		recs[i].head = random_head(&r, (uint64_t)i, &arena);
		recs[i].head.bytes = n;
		recs[i].text = text;
		recs[i].n_turns = 0;
		if (chat && i % 3) random_turns(&r, &recs[i], &arena);
		OK(kf_shard_put_corpus(sw, &recs[i], &err));
	}
	s = finish(dir, w, sw, &set);
	for (int i = 0; i < 50; i++) {
		OK(kf_shard_next_corpus(s, &back, &got, &err));
		same_corpus(&recs[i], &got);
		assert_int_equal(got.text[got.head.bytes], 0);
	}
	kf_arena_reset(&back);
	kf_shard_close(s);
	kf_set_close(set);
	remove_dir(dir);
}

static void test_corpus(void **state)
{
	(void)state;
	corpus_round_trip(false);
	corpus_round_trip(true);
}

static void dist_round_trip(bool f32, bool chat, uint64_t seed, int docs, uint32_t max_n)
{
	char dir[KF_PATH_MAX];
	kf_rng r;
	kf_set_writer *w;
	kf_shard_writer *sw;
	kf_dist_rec *recs = calloc((size_t)docs, sizeof *recs), got;
	kf_set *set;
	kf_shard *s;

	scratch(dir);
	kf_rng_seed(&r, seed);
	sw = begin(dir, KF_SET_TARGETS, f32, chat, &w);
	for (int i = 0; i < docs; i++) {
		uint32_t n = i == 1 ? 0 : i == 2 ? 1 : (uint32_t)kf_rng_below(&r, max_n);

		recs[i] = random_dist(&r, (uint64_t)i, n, kf_rng_below(&r, 2), &arena);
		if (chat && i % 4) converse_dist(&r, &recs[i], &arena);
		OK(kf_shard_put_dist(sw, &recs[i], &err));
	}
	s = finish(dir, w, sw, &set);
	for (int i = 0; i < docs; i++) {
		OK(kf_shard_next_dist(s, &back, &got, &err));
		same_dist(&recs[i], &got, f32);
		kf_arena_reset(&back);
	}
	assert_int_equal(kf_shard_next_dist(s, &back, &got, &err), KF_END);
	OK(kf_shard_find(s, 5, &err));
	OK(kf_shard_next_dist(s, &back, &got, &err));
	same_dist(&recs[5], &got, f32);
	kf_arena_reset(&back);
	kf_shard_close(s);
	kf_set_close(set);
	kf_arena_reset(&arena);
	free(recs);
	remove_dir(dir);
}

static void test_dist(void **state)
{
	(void)state;
	dist_round_trip(false, false, 21, 40, 500);
	dist_round_trip(true, false, 22, 20, 300);
	dist_round_trip(false, false, 23, 8, 40000);
	dist_round_trip(false, true, 24, 40, 500);
	dist_round_trip(true, true, 25, 20, 300);
}

static void test_bad_records(void **state)
{
	char dir[KF_PATH_MAX];
	kf_rng r;
	kf_set_writer *w;
	kf_shard_writer *sw;
	kf_logits_rec rec;
	float *lp;
	uint32_t *off;

	(void)state;
	scratch(dir);
	kf_rng_seed(&r, 31);
	sw = begin(dir, KF_SET_LOGITS, false, false, &w);
	rec = random_logits(&r, 9, 20, 4, true, true, V, &arena);
	OK(kf_shard_put_logits(sw, &rec, &err));
	FAILS(KF_EINVAL, "ascending", kf_shard_put_logits(sw, &rec, &err));
	rec.head.doc = 10;
	lp = (float *)(uintptr_t)rec.top_lp;
	lp[5] = lp[4] + 1;
	FAILS(KF_EINVAL, "not descending", kf_shard_put_logits(sw, &rec, &err));
	lp[5] = NAN;
	FAILS(KF_EINVAL, "not descending", kf_shard_put_logits(sw, &rec, &err));
	rec = random_logits(&r, 10, 20, 4, true, true, V, &arena);
	off = (uint32_t *)(uintptr_t)rec.path_off;
	for (int i = 1; i <= 20; i++) off[i]++;
	FAILS(KF_EINVAL, "interior bytes", kf_shard_put_logits(sw, &rec, &err));
	FAILS(KF_EINVAL, "kind logits", kf_shard_put_corpus(sw, &(kf_corpus_rec){ .head = rec.head }, &err));
	rec = random_logits(&r, 11, 20, 4, true, false, V, &arena);
	converse_logits(&r, &rec, &arena);
	FAILS(KF_EINVAL, "not begun", kf_shard_put_logits(sw, &rec, &err));
	kf_shard_abandon(sw);
	kf_set_abandon(w);
	kf_arena_reset(&arena);
	remove_dir(dir);
}

static void test_bad_conversations(void **state)
{
	kf_turn turns[2] = { { 3, KF_USER }, { 4, KF_ASSISTANT } };
	kf_corpus_rec rec = { .head = { 0, "a", "", 0, 7 }, .text = (const uint8_t *)"HowFine", .n_turns = 2, .turns = turns };
	char dir[KF_PATH_MAX];
	kf_logits_rec l;
	kf_dist_rec d;
	kf_rng r;
	kf_set_writer *w;
	kf_shard_writer *sw;

	(void)state;
	kf_rng_seed(&r, 32);
	scratch(dir);
	sw = begin(dir, KF_SET_CORPUS, false, true, &w);
	turns[1].bytes = 5;
	FAILS(KF_EINVAL, "not as long as its text", kf_shard_put_corpus(sw, &rec, &err));
	turns[1] = (kf_turn){ 4, KF_ROLES };
	FAILS(KF_EINVAL, "no known role", kf_shard_put_corpus(sw, &rec, &err));
	kf_shard_abandon(sw);
	kf_set_abandon(w);
	remove_dir(dir);

	scratch(dir);
	sw = begin(dir, KF_SET_LOGITS, false, true, &w);
	l = random_logits(&r, 3, 20, 4, false, true, V, &arena);
	converse_logits(&r, &l, &arena);
	((uint8_t *)(uintptr_t)l.context)[0] = 0;
	FAILS(KF_EINVAL, "position 0 is no context", kf_shard_put_logits(sw, &l, &err));
	((uint8_t *)(uintptr_t)l.context)[0] = 2;
	FAILS(KF_EINVAL, "neither 0 nor 1", kf_shard_put_logits(sw, &l, &err));
	kf_shard_abandon(sw);
	kf_set_abandon(w);
	remove_dir(dir);

	scratch(dir);
	sw = begin(dir, KF_SET_ALIGNED, false, true, &w);
	d = random_dist(&r, 3, 20, false, &arena);
	converse_dist(&r, &d, &arena);
	for (uint32_t p = 0; p <= 20; p++) ((uint8_t *)(uintptr_t)d.context)[p] |= d.off[p] < d.off[p + 1];
	FAILS(KF_EINVAL, "has candidates", kf_shard_put_dist(sw, &d, &err));
	kf_shard_abandon(sw);
	kf_set_abandon(w);
	remove_dir(dir);
	kf_arena_reset(&arena);
}

/* Context is a matter of the content, so the same conversation has the same hash, and another context another. */
static void test_context_hash(void **state)
{
	char hash[3][32];

	(void)state;
	for (int i = 0; i < 3; i++) {
		char dir[KF_PATH_MAX];
		kf_set_writer *w;
		kf_shard_writer *sw;
		kf_logits_rec l;
		kf_set *set;
		kf_rng r;

		scratch(dir);
		kf_rng_seed(&r, 33);
		sw = begin(dir, KF_SET_LOGITS, false, true, &w);
		l = random_logits(&r, 3, 20, 4, true, false, V, &arena);
		l.context = memset(kf_arena_alloc(&arena, 21, 1), 0, 21);
		if (i == 2) l.context = NULL;
		OK(kf_shard_put_logits(sw, &l, &err));
		kf_shard_close(finish(dir, w, sw, &set));
		snprintf(hash[i], sizeof hash[i], "%s", json_string_value(json_object_get(kf_set_manifest(set), "content")));
		kf_set_close(set);
		remove_dir(dir);
	}
	assert_string_equal(hash[0], hash[1]);
	assert_string_not_equal(hash[0], hash[2]);
	kf_arena_reset(&arena);
}

/* Pieces of a text are in one fold; texts are spread over all of them, also those that kf-prepare --split took for one part. */
static void test_folds(void **state)
{
	int count[3] = { 0 }, train[2] = { 0 }, nameless[3] = { 0 };
	char id[32];

	(void)state;
	for (uint64_t d = 0; d < 3000; d++) {
		kf_dochead h = { .doc = d, .id = id, .domain = "" };
		int fold;

		snprintf(id, sizeof id, "text %llu", (unsigned long long)d);
		fold = kf_fold_of(&h, 3);
		count[fold]++;
		if (kf_hash64(id, strlen(id)) % 2 == 0) train[kf_fold_of(&h, 2)]++;
		/* another place, another piece, another domain: the same text */
		h = (kf_dochead){ .doc = 7 * d + 5, .id = id, .domain = "d", .piece = (uint32_t)d % 4 };
		assert_int_equal(kf_fold_of(&h, 3), fold);
		assert_int_equal(kf_fold_of(&h, 1), 0);
		h.id = "";
		h.doc = 10 * d;
		h.piece = 0;
		fold = kf_fold_of(&h, 3);
		nameless[fold]++;
		h.doc += h.piece = 9;
		assert_int_equal(kf_fold_of(&h, 3), fold);
	}
	for (int f = 0; f < 3; f++) {
		assert_in_range(count[f], 900, 1100);
		assert_in_range(nameless[f], 900, 1100);
	}
	assert_in_range(train[0], 650, 850);
	assert_in_range(train[1], 650, 850);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_logits), cmocka_unit_test(test_logits_f32), cmocka_unit_test(test_logits_many_blocks),
		cmocka_unit_test(test_corpus), cmocka_unit_test(test_dist), cmocka_unit_test(test_bad_records),
		cmocka_unit_test(test_bad_conversations), cmocka_unit_test(test_context_hash), cmocka_unit_test(test_folds),
	};
	int failed;

	kf_arena_init(&arena);
	kf_arena_init(&back);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	kf_arena_release(&arena);
	kf_arena_release(&back);
	return failed;
}
