/* Records come back as they were written, within the precision promised. */
#include "store_test.h"

#define V 49152

static kf_arena arena, back;
static kf_err err;

static kf_shard_writer *begin(const char *dir, kf_set_kind kind, bool f32, kf_set_writer **w)
{
	kf_set_spec spec = spec_of(dir, kind, 1, f32);
	kf_set_state state;
	kf_shard_writer *sw;

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

static void logits_round_trip(uint32_t k, bool f32, uint64_t seed, int docs, uint32_t max_n)
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
	sw = begin(dir, KF_SET_LOGITS, f32, &w);
	for (int i = 0; i < docs; i++) {
		uint32_t n = (uint32_t)(max_n * pow(kf_rng_real(&r), 3));

		if (i == 1) n = 0;
		if (i == 2) n = 1;
		recs[i] = random_logits(&r, (uint64_t)i * 2 + 5, n, k, kf_rng_below(&r, 4), kf_rng_below(&r, 4), V, &arena);
		OK(kf_shard_put_logits(sw, &recs[i], &err));
		tokens += n;
	}
	s = finish(dir, w, sw, &set);
	assert_int_equal(kf_set_docs(set), docs);
	assert_int_equal(kf_set_tokens(set), tokens);
	for (int i = 0; i < docs; i++) {
		OK(kf_shard_next_logits(s, &back, &got, &err));
		same_logits(&recs[i], &got, f32);
		kf_arena_reset(&back);
	}
	assert_int_equal(kf_shard_next_logits(s, &back, &got, &err), KF_END);
	/* anywhere, in any order */
	for (int t = 0; t < 2 * docs; t++) {
		int i = (int)kf_rng_below(&r, (uint64_t)docs);

		if (t % 2) OK(kf_shard_find(s, (uint64_t)i * 2 + 5, &err));
		else OK(kf_shard_seek(s, (uint64_t)i, &err));
		OK(kf_shard_next_logits(s, &back, &got, &err));
		same_logits(&recs[i], &got, f32);
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
	logits_round_trip(10, false, 1, 60, 600);
	logits_round_trip(1, false, 2, 20, 300);
	logits_round_trip(3, false, 3, 20, 300);
	logits_round_trip(50, false, 4, 10, 300);
}

static void test_logits_f32(void **state)
{
	(void)state;
	logits_round_trip(10, true, 5, 30, 300);
	logits_round_trip(1, true, 6, 10, 100);
}

static void test_logits_many_blocks(void **state)
{
	(void)state;
	logits_round_trip(10, false, 7, 12, 30000); /* several blocks, and documents larger than one */
}

static void test_corpus(void **state)
{
	char dir[KF_PATH_MAX];
	kf_rng r;
	kf_set_writer *w;
	kf_shard_writer *sw;
	kf_corpus_rec recs[50], got;
	kf_set *set;
	kf_shard *s;

	(void)state;
	scratch(dir);
	kf_rng_seed(&r, 11);
	sw = begin(dir, KF_SET_CORPUS, false, &w);
	for (int i = 0; i < 50; i++) {
		uint32_t n = (uint32_t)kf_rng_below(&r, i == 7 ? 3000000 : 5000);
		uint8_t *text = kf_arena_alloc(&arena, n, 1);

		for (uint32_t j = 0; j < n; j++) text[j] = (uint8_t)kf_rng_below(&r, 256);
		recs[i].head = random_head(&r, (uint64_t)i, &arena);
		recs[i].head.bytes = n;
		recs[i].text = text;
		OK(kf_shard_put_corpus(sw, &recs[i], &err));
	}
	s = finish(dir, w, sw, &set);
	for (int i = 0; i < 50; i++) {
		OK(kf_shard_next_corpus(s, &back, &got, &err));
		same_head(&recs[i].head, &got.head);
		SAME(recs[i].text, got.text, recs[i].head.bytes);
		assert_int_equal(got.text[got.head.bytes], 0);
	}
	kf_arena_reset(&back);
	kf_shard_close(s);
	kf_set_close(set);
	remove_dir(dir);
}

static void dist_round_trip(bool f32, uint64_t seed, int docs, uint32_t max_n)
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
	sw = begin(dir, KF_SET_TARGETS, f32, &w);
	for (int i = 0; i < docs; i++) {
		uint32_t n = i == 1 ? 0 : i == 2 ? 1 : (uint32_t)kf_rng_below(&r, max_n);

		recs[i] = random_dist(&r, (uint64_t)i, n, kf_rng_below(&r, 2), &arena);
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
	dist_round_trip(false, 21, 40, 500);
	dist_round_trip(true, 22, 20, 300);
	dist_round_trip(false, 23, 8, 40000);
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
	sw = begin(dir, KF_SET_LOGITS, false, &w);
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
	kf_shard_abandon(sw);
	kf_set_abandon(w);
	kf_arena_reset(&arena);
	remove_dir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_logits), cmocka_unit_test(test_logits_f32), cmocka_unit_test(test_logits_many_blocks),
		cmocka_unit_test(test_corpus), cmocka_unit_test(test_dist), cmocka_unit_test(test_bad_records),
	};
	int failed;

	kf_arena_init(&arena);
	kf_arena_init(&back);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	kf_arena_release(&arena);
	kf_arena_release(&back);
	return failed;
}
