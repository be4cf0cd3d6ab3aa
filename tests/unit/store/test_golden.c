/* The committed sets of tests/golden read as what they were made from. They stay as they are while the format's version does;
 * a change that needs new ones is a new format. KFUSE_MAKE_GOLDEN=1 makes what is missing there:
 *
 *     rm -r tests/golden/KIND && KFUSE_MAKE_GOLDEN=1 build/tests/store/test_golden && tests/golden/expect.sh
 */
#include "store_test.h"

static kf_arena arena, back;
static kf_err err;

/* Sets of conversations say so in their names. */
static bool chat_of(const char *dir)
{
	return strstr(dir, "-chat") != NULL;
}

static kf_corpus_rec corpus_doc(kf_rng *r, uint64_t i, bool chat)
{
	kf_corpus_rec rec = { .head = random_head(r, i, &arena), .text = (const uint8_t *)"Größe, \xff\xfe and \"tabs\"\t.\n" };

	rec.head.bytes = (uint32_t)(10 + 5 * i);
	if (chat) random_turns(r, &rec, &arena);
	return rec;
}

static kf_logits_rec logits_doc(kf_rng *r, uint64_t i, bool chat)
{
	kf_logits_rec rec = random_logits(r, i, 9 + (uint32_t)i * 4, 3, i != 1, i < 2, 500, &arena);

	if (chat) converse_logits(r, &rec, &arena);
	return rec;
}

static kf_dist_rec dist_doc(kf_rng *r, uint64_t i, bool chat)
{
	kf_dist_rec rec = random_dist(r, i, 9 + (uint32_t)i * 4, i < 2, &arena);

	if (chat) converse_dist(r, &rec, &arena);
	return rec;
}

static void make(const char *dir, kf_set_kind kind, bool f32)
{
	kf_set_spec spec = spec_of(dir, kind, 2, f32);
	kf_set_writer *w;
	kf_set_state state;
	bool complete;

	spec.chat = chat_of(dir);
	OK(kf_set_begin(&spec, &w, &state, &err));
	for (int s = 0; s < 2; s++) {
		kf_shard_writer *sw;

		OK(kf_shard_begin(w, s, &sw, &err));
		for (uint64_t i = (uint64_t)s * 2; i < (uint64_t)s * 2 + 2; i++) {
			kf_rng r;

			kf_rng_seed(&r, 40 + i);
			if (kind == KF_SET_LOGITS) {
				kf_logits_rec rec = logits_doc(&r, i, spec.chat);

				OK(kf_shard_put_logits(sw, &rec, &err));
			} else if (kind == KF_SET_CORPUS) {
				kf_corpus_rec rec = corpus_doc(&r, i, spec.chat);

				OK(kf_shard_put_corpus(sw, &rec, &err));
			} else {
				kf_dist_rec rec = dist_doc(&r, i, spec.chat);

				OK(kf_shard_put_dist(sw, &rec, &err));
			}
		}
		OK(kf_shard_commit(sw, &err));
	}
	OK(kf_set_commit(w, NULL, &complete, &err));
	assert_true(complete);
}

static void check(const char *dir, kf_set_kind kind, bool f32)
{
	kf_set *set;

	if (getenv("KFUSE_MAKE_GOLDEN") && !kf_exists(dir)) make(dir, kind, f32);
	OK(kf_set_open(dir, kind, &set, &err));
	assert_int_equal(kf_set_docs(set), 4);
	for (int s = 0; s < 2; s++) {
		kf_shard *sh;

		OK(kf_shard_open(set, s, &sh, &err));
		for (uint64_t i = (uint64_t)s * 2; i < (uint64_t)s * 2 + 2; i++) {
			kf_rng r;

			kf_rng_seed(&r, 40 + i);
			if (kind == KF_SET_LOGITS) {
				kf_logits_rec want = logits_doc(&r, i, chat_of(dir)), got;

				OK(kf_shard_next_logits(sh, &back, &got, &err));
				same_logits(&want, &got, f32);
			} else if (kind == KF_SET_CORPUS) {
				kf_corpus_rec want = corpus_doc(&r, i, chat_of(dir)), got;

				OK(kf_shard_next_corpus(sh, &back, &got, &err));
				same_corpus(&want, &got);
			} else {
				kf_dist_rec want = dist_doc(&r, i, chat_of(dir)), got;

				OK(kf_shard_next_dist(sh, &back, &got, &err));
				same_dist(&want, &got, f32);
			}
		}
		kf_shard_close(sh);
	}
	kf_set_close(set);
	kf_arena_reset(&arena);
	kf_arena_reset(&back);
}

static void test_corpus(void **st) { (void)st; check("tests/golden/corpus", KF_SET_CORPUS, false); }
static void test_logits(void **st) { (void)st; check("tests/golden/logits", KF_SET_LOGITS, false); }
static void test_logits_f32(void **st) { (void)st; check("tests/golden/logits-f32", KF_SET_LOGITS, true); }
static void test_aligned(void **st) { (void)st; check("tests/golden/aligned", KF_SET_ALIGNED, false); }
static void test_targets_f32(void **st) { (void)st; check("tests/golden/targets-f32", KF_SET_TARGETS, true); }
static void test_corpus_chat(void **st) { (void)st; check("tests/golden/corpus-chat", KF_SET_CORPUS, false); }
static void test_logits_chat(void **st) { (void)st; check("tests/golden/logits-chat", KF_SET_LOGITS, false); }
static void test_targets_chat(void **st) { (void)st; check("tests/golden/targets-chat", KF_SET_TARGETS, false); }

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_corpus), cmocka_unit_test(test_logits), cmocka_unit_test(test_logits_f32),
		cmocka_unit_test(test_aligned), cmocka_unit_test(test_targets_f32),
		cmocka_unit_test(test_corpus_chat), cmocka_unit_test(test_logits_chat), cmocka_unit_test(test_targets_chat),
	};
	int failed;

	slack = 1e-4;
	kf_arena_init(&arena);
	kf_arena_init(&back);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	kf_arena_release(&arena);
	kf_arena_release(&back);
	return failed;
}
