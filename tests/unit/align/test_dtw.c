/* FuseLLM's way over records, by hand, and its ce. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "synth.h"

#define L(x) ((float)log(x))
#define N(x) ((float)-log(x))

/* Source vocabulary a b c ab abc bc <eos> = 0..6, target a b c bc <eos> = 0..4. */
enum { SA, SB, SC, SAB, SABC, SBC, SEOS };
enum { TA, TB, TC, TBC, TEOS };

static void near(double a, double b)
{
	if (!(fabs(a - b) < 1e-5)) fail_msg("%.7f is not %.7f", a, b);
}

static double q_of(const kf_dist_rec *r, uint32_t p, int32_t id)
{
	for (uint32_t j = r->off[p]; j < r->off[p + 1]; j++)
		if (r->ids[j] == id) return exp(r->lp[j]);
	return 0;
}

/* Text "abca": source abc|a, target a|bc|a. Costs abc-a 2, abc-bc 1, a-a 0, a-bc 2. The cheapest path is
 * (abc,a) (abc,bc) (a,a), 3 in all: abc has two partners, so only the last pair is one to one, and its tokens are
 * equal. Row "after token 2 of the target" = position 3 takes the source's position 2. Position 0 takes
 * position 0, both add a BOS. Positions 1 and 2 are one-hot on their labels bc and a. */
static void by_hand(void **state)
{
	static const char *const ms[] = { "a b", "ab c", "b c" }, *const mt[] = { "b c" };
	static const int32_t tok[] = { SABC, SA }, tt[] = { TA, TBC, TA };
	static const int32_t ids[] = { SABC, SBC, SA, SA, SB, SC, SEOS, SC, SAB };
	static const uint32_t start[] = { 0, 3, 4 }, ts[] = { 0, 1, 3, 4 };
	const float ce[] = { N(.4), N(.5) };
	const float lp[] = { L(.4), L(.2), L(.1), L(.5), L(.2), L(.1), L(.5), L(.2), L(.1) };
	const kf_dochead head = { .doc = 1, .id = "", .domain = "", .bytes = 4 };
	kf_logits_rec s = { .head = head, .bos = true, .n = 2, .k = 3, .tokens = tok, .start = start, .ce = ce, .top_ids = ids,
		.top_lp = lp };
	kf_logits_rec t = { .head = head, .bos = true, .n = 3, .tokens = tt, .start = ts };
	kf_tokenizer *st = synth_bpe("abc", ms, 3, true), *tg = synth_bpe("abc", mt, 1, true);
	kf_tally stats = KF_TALLY(kf_align_stat);
	kf_aligner *al;
	kf_arena arena;
	kf_dist_rec r;
	kf_err err = { 0 };

	(void)state;
	kf_arena_init(&arena);
	assert_int_equal(kf_aligner_new(st, tg, KF_ALIGN_DTW, KF_ALIGN_EXACT, &al, &err), KF_OK);
	if (kf_align_doc(al, &s, &t, &arena, &r, &stats, &err) != KF_OK) fail_msg("%s", err.text);
	near(q_of(&r, 0, TBC), .2);       /* abc is no token of the target's: tail */
	near(q_of(&r, 0, TA), .1);
	near(r.tail[0], .7);
	assert_int_equal(r.off[2] - r.off[1], 1);
	near(q_of(&r, 1, TBC), 1);
	near(q_of(&r, 2, TA), 1);
	near(r.tail[1] + r.tail[2], 0);
	near(q_of(&r, 3, TEOS), .5);
	near(q_of(&r, 3, TC), .2);
	near(r.tail[3], .3);
	/* no path masses: abc's ce a third a byte */
	near(r.ce[0], -log(.4) / 3);
	near(r.ce[1], -log(.4) * 2 / 3);
	near(r.ce[2], -log(.5));
	assert_int_equal(stats.n, 1);
	near(((kf_align_stat *)kf_tally_at(&stats, 0))->covered, 1);   /* one-hots do not count */
	near(((kf_align_stat *)kf_tally_at(&stats, 0))->ce, -log(.4) - log(.5));
	kf_aligner_free(al);

	/* Through the prefix map abc, too, goes to a, and comes first: a's own is not added. */
	assert_int_equal(kf_aligner_new(st, tg, KF_ALIGN_DTW, KF_ALIGN_PREFIX, &al, &err), KF_OK);
	if (kf_align_doc(al, &s, &t, &arena, &r, NULL, &err) != KF_OK) fail_msg("%s", err.text);
	near(q_of(&r, 0, TA), .4);
	near(q_of(&r, 0, TBC), .2);
	near(r.tail[0], .4);
	/* abc and a are not one to one: still one-hot */
	near(q_of(&r, 1, TBC), 1);
	kf_aligner_free(al);

	kf_tally_release(&stats);
	kf_tokenizer_free(st);
	kf_tokenizer_free(tg);
	kf_arena_release(&arena);
}

/* The space markers of the two kinds of tokenizers are the same thing: "▁ab" of one is "Ġab" of the other. */
static void markers(void **state)
{
	static const char *const pieces[] = { "\xe2\x96\x81""ab" };
	static const char *const merges[] = { "a b", "\xc4\xa0 ab" };
	static const int32_t tok[] = { 4, 4 }, ids[] = { 4, 4, 2 };
	static const uint32_t start[] = { 0, 2, 5 };
	const float ce[] = { N(.5), N(.5) }, lp[] = { L(.6), L(.5), L(.25) };
	const kf_dochead head = { .doc = 1, .id = "", .domain = "", .bytes = 5 };
	/* byte-level BPE: a b Ġ ab Ġab <eos> = 0..5; SentencePiece: <unk> <s> </s> ▁ ▁ab a b = 0..6 */
	const char *base[] = { "a", "b", "\xc4\xa0", "ab", "\xc4\xa0""ab", "<eos>" };
	static const int32_t types[] = { 1, 1, 1, 1, 1, KF_TT_CONTROL };
	const kf_vocab_spec spec = { .model = "gpt2", .pre = "gpt-2", .n = 6, .pieces = base, .types = types, .n_merges = 2,
		.merges = merges, .bos = 5, .eos = 5, .unk = -1, .pad = -1, .add_bos = true };
	/* the target's text " ab ab" would be Ġab Ġab; here "ab ab" is ab|Ġab */
	static const int32_t tt[] = { 3, 4 };
	kf_tokenizer *st = synth_spm("ab", pieces, 1, true), *tg;
	kf_aligner *al;
	kf_arena arena;
	kf_dist_rec r;
	kf_err err = { 0 };
	kf_logits_rec s = { .head = head, .bos = true, .n = 2, .k = 1, .tokens = tok, .start = start, .ce = ce, .top_ids = ids,
		.top_lp = lp };
	kf_logits_rec t = { .head = head, .bos = true, .n = 2, .tokens = tt, .start = start };

	(void)state;
	kf_arena_init(&arena);
	if (kf_tokenizer_from_spec(&spec, &tg, &err) != KF_OK) fail_msg("%s", err.text);
	assert_int_equal(kf_aligner_new(st, tg, KF_ALIGN_DTW, KF_ALIGN_EXACT, &al, &err), KF_OK);
	if (kf_align_doc(al, &s, &t, &arena, &r, NULL, &err) != KF_OK) fail_msg("%s", err.text);
	near(q_of(&r, 0, 4), .6);        /* ▁ab -> Ġab */
	near(q_of(&r, 1, 4), 1);         /* ▁ab against ab: cost 0 but not equal: one-hot */
	near(q_of(&r, 2, 5), .25);       /* ▁ab = Ġab one to one: the source's last position, where </s> is the target's <eos> */
	kf_aligner_free(al);
	kf_tokenizer_free(st);
	kf_tokenizer_free(tg);
	kf_arena_release(&arena);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(by_hand),
		cmocka_unit_test(markers),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
