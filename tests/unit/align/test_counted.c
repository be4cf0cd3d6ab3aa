/* FuseChat's map: what is counted, and what is chosen. (tests/cli/maps.sh compares it with the published code.) */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "align/counted.h"
#include "synth.h"

typedef struct {
	kf_tokenizer *s, *t;
	align_lexicon *x;
	kf_arena arena;
	align_pairs pairs;
} fixture;

static int32_t id_of(const kf_tokenizer *t, const char *piece)
{
	for (int32_t id = 0; id < kf_tokenizer_size(t); id++)
		if (strcmp(kf_tokenizer_piece(t, id), piece) == 0) return id;
	fail_msg("no token %s", piece);
	return -1;
}

static int setup(void **state)
{
	static const char *const ms[] = { "a b", "b a" }, *const mt[] = { "b c", "c c", "cc cc", "a a", "a b", "b ab" };
	fixture *f = calloc(1, sizeof *f);
	kf_err err;

	f->s = synth_bpe("abc", ms, 2, true);
	f->t = synth_bpe("abc", mt, 6, true);
	kf_arena_init(&f->arena);
	*state = f;
	return align_counted_lexicon(f->s, f->t, &f->x, &err) != KF_OK;
}

static int teardown(void **state)
{
	fixture *f = *state;

	align_pairs_release(&f->pairs);
	align_lexicon_free(f->x);
	kf_tokenizer_free(f->s);
	kf_tokenizer_free(f->t);
	kf_arena_release(&f->arena);
	free(f);
	return 0;
}

/* A record of these pieces, "" being a control token of a template; context flags those and nothing else. */
static kf_logits_rec record(fixture *f, const kf_tokenizer *t, const char *const *piece, uint32_t n, bool chat)
{
	int32_t *tokens = KF_ARENA_NEW(&f->arena, int32_t, n + 1);
	uint32_t *start = KF_ARENA_NEW(&f->arena, uint32_t, n + 1);
	uint8_t *context = KF_ARENA_NEW(&f->arena, uint8_t, n + 1);

	start[0] = 0;
	for (uint32_t i = 0; i < n; i++) {
		tokens[i] = *piece[i] ? id_of(t, piece[i]) : kf_tokenizer_bos(t);
		start[i + 1] = start[i] + (uint32_t)strlen(piece[i]);
		context[i] = !*piece[i];
	}
	context[n] = 1;
	return (kf_logits_rec){ .head = { .id = "", .domain = "", .bytes = start[n] }, .n = n, .tokens = tokens, .start = start,
		.context = chat ? context : NULL };
}
#define RECORD(f, t, chat, ...) \
	record(f, t, (const char *const[]){ __VA_ARGS__ }, sizeof((const char *const[]){ __VA_ARGS__ }) / sizeof(char *), chat)

static void count(fixture *f, kf_logits_rec s, kf_logits_rec t)
{
	kf_err err;

	if (align_count_doc(f->x, &s, &t, &f->arena, &f->pairs, &err) != KF_OK) fail_msg("%s", err.text);
}

static void expect(const fixture *f, const char *s, const char *t, uint64_t times)
{
	uint64_t got = 0;

	for (size_t i = 0; i < f->pairs.n; i++)
		if (align_pairs_a(&f->pairs, i) == id_of(f->s, s) && align_pairs_b(&f->pairs, i) == id_of(f->t, t)) got = f->pairs.count[i];
	assert_int_equal(got, times);
}

/* Costs ab-a 1, ab-bab 1, ab-a 1; a-a 0, a-bab 2, a-a 0; ba-a 1, ba-bab 1, ba-a 1: ab-a, a-a, ba-bab, ba-a and ab-a, ab-bab,
 * a-a, ba-a both cost 3. From the end the way back goes to the target's earlier token first. */
static void ties(void **state)
{
	fixture *f = *state;

	count(f, RECORD(f, f->s, false, "ab", "a", "ba"), RECORD(f, f->t, false, "a", "bab", "a"));
	assert_true(align_pairs_sort(&f->pairs));
	assert_int_equal(f->pairs.n, 4);
	expect(f, "ab", "a", 1);
	expect(f, "a", "a", 1);
	expect(f, "ba", "bab", 1);
	expect(f, "ba", "a", 1);
	expect(f, "ab", "bab", 0);
}

static void by_hand(void **state)
{
	fixture *f = *state;
	kf_vocabmap_key key = { .method = "stats", .n = kf_tokenizer_size(f->s), .m = kf_tokenizer_size(f->t), .counted = true };
	kf_vocabmap *map;
	kf_err err;
	int32_t c, ab;

	/* ab-a, c-bc */
	count(f, RECORD(f, f->s, false, "ab", "c"), RECORD(f, f->t, false, "a", "bc"));
	/* four of one kind with one token: one pair */
	count(f, RECORD(f, f->s, false, "c", "c", "c", "c"), RECORD(f, f->t, false, "cccc"));
	/* the same pair twice in one text */
	count(f, RECORD(f, f->s, false, "c", "c"), RECORD(f, f->t, false, "c", "c"));
	assert_true(align_pairs_sort(&f->pairs));
	assert_int_equal(f->pairs.n, 4);
	expect(f, "ab", "a", 1);
	expect(f, "c", "bc", 1);
	expect(f, "c", "cccc", 1);
	expect(f, "c", "c", 2);

	assert_int_equal(kf_vocabmap_new(&key, "", "", &map, &err), KF_OK);
	assert_int_equal(align_counted_choose(&f->pairs, f->s, f->t, map, &err), KF_OK);
	c = id_of(f->s, "c");
	ab = id_of(f->s, "ab");
	assert_int_equal(map->to[c], id_of(f->t, "c"));
	assert_int_equal(map->count[c], 2);
	assert_int_equal(map->distance[c], 0);
	assert_int_equal(map->equal[c], 1);
	assert_int_equal(map->to[ab], id_of(f->t, "a"));
	assert_int_equal(map->distance[ab], 1);
	assert_int_equal(map->equal[ab], 0);
	assert_int_equal(map->to[id_of(f->s, "b")], -1);
	assert_int_equal(map->to[kf_tokenizer_eos(f->s)], kf_tokenizer_eos(f->t));
	assert_int_equal(map->to[kf_tokenizer_bos(f->s)], kf_tokenizer_bos(f->t));
	kf_vocabmap_free(map);
}

/* A tenth where one is part of the other beats a smaller distance; of equal ones more counts are worse, and the lower id wins. */
static void weights(void **state)
{
	fixture *f = *state;
	kf_vocabmap_key key = { .method = "stats", .n = kf_tokenizer_size(f->s), .m = kf_tokenizer_size(f->t), .counted = true };
	int32_t a = id_of(f->s, "a"), c = id_of(f->s, "c"), b = id_of(f->s, "b");
	kf_vocabmap *map;
	kf_err err;

	align_pairs_add(&f->pairs, c, id_of(f->t, "a"), 1);      /* 1 */
	align_pairs_add(&f->pairs, c, id_of(f->t, "cccc"), 50);  /* 3 / 10 */
	align_pairs_add(&f->pairs, a, id_of(f->t, "b"), 3);
	align_pairs_add(&f->pairs, a, id_of(f->t, "c"), 2);
	align_pairs_add(&f->pairs, b, id_of(f->t, "a"), 7);
	align_pairs_add(&f->pairs, b, id_of(f->t, "c"), 7);
	assert_true(align_pairs_sort(&f->pairs));
	assert_int_equal(kf_vocabmap_new(&key, "", "", &map, &err), KF_OK);
	assert_int_equal(align_counted_choose(&f->pairs, f->s, f->t, map, &err), KF_OK);
	assert_int_equal(map->to[c], id_of(f->t, "cccc"));
	assert_int_equal(map->distance[c], 3);
	assert_int_equal(map->count[c], 50);
	assert_int_equal(map->to[a], id_of(f->t, "c"));
	assert_int_equal(map->to[b], id_of(f->t, "a") < id_of(f->t, "c") ? id_of(f->t, "a") : id_of(f->t, "c"));
	kf_vocabmap_free(map);
}

/* Replies one by one, whatever stands between them. */
static void conversations(void **state)
{
	fixture *f = *state;

	count(f, RECORD(f, f->s, true, "", "ab", "c", "", "", "c", "c", ""), RECORD(f, f->t, true, "a", "bc", "", "c", "c"));
	assert_true(align_pairs_sort(&f->pairs));
	assert_int_equal(f->pairs.n, 3);
	expect(f, "ab", "a", 1);
	expect(f, "c", "bc", 1);
	expect(f, "c", "c", 2);
}

static void refused(void **state)
{
	fixture *f = *state;
	kf_logits_rec s = RECORD(f, f->s, false, "ab", "c"), t = RECORD(f, f->t, false, "a", "bc");
	int32_t bad[2] = { 0, kf_tokenizer_size(f->s) };
	kf_err err;

	s.tokens = bad;
	assert_int_equal(align_count_doc(f->x, &s, &t, &f->arena, &f->pairs, &err), KF_EDATA);
	bad[1] = -1;
	assert_int_equal(align_count_doc(f->x, &s, &t, &f->arena, &f->pairs, &err), KF_EDATA);
	assert_non_null(strstr(err.text, "source"));
	s.n = 0;
	assert_int_equal(align_count_doc(f->x, &s, &t, &f->arena, &f->pairs, &err), KF_OK);
	assert_int_equal(f->pairs.n, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(by_hand, setup, teardown),
		cmocka_unit_test_setup_teardown(ties, setup, teardown),
		cmocka_unit_test_setup_teardown(weights, setup, teardown),
		cmocka_unit_test_setup_teardown(conversations, setup, teardown),
		cmocka_unit_test_setup_teardown(refused, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
