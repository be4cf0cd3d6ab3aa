/* FuseLLM's way over records, by hand, and its ce. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "align/pairs.h"
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
 * (abc,a) (abc,bc) (a,a), 3 in all: abc has two partners, so only the last pair is one to one, and its tokens
 * are equal. Row "after token 2 of the target" = position 3 takes the source's position 2. Position 0 takes
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
	kf_logits_rec s = { .head = head, .bos = true, .n = 2, .k = 3, .tokens = tok, .start = start, .ce = ce,
		.top_ids = ids, .top_lp = lp };
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
	const kf_vocab_spec spec = { .model = "gpt2", .pre = "gpt-2", .n = 6, .pieces = base, .types = types,
		.n_merges = 2, .merges = merges, .bos = 5, .eos = 5, .unk = -1, .pad = -1, .add_bos = true };
	/* the target's text " ab ab" would be Ġab Ġab; here "ab ab" is ab|Ġab */
	static const int32_t tt[] = { 3, 4 };
	kf_tokenizer *st = synth_spm("ab", pieces, 1, true), *tg;
	kf_aligner *al;
	kf_arena arena;
	kf_dist_rec r;
	kf_err err = { 0 };
	kf_logits_rec s = { .head = head, .bos = true, .n = 2, .k = 1, .tokens = tok, .start = start, .ce = ce,
		.top_ids = ids, .top_lp = lp };
	kf_logits_rec t = { .head = head, .bos = true, .n = 2, .tokens = tt, .start = start };

	(void)state;
	kf_arena_init(&arena);
	if (kf_tokenizer_from_spec(&spec, &tg, &err) != KF_OK) fail_msg("%s", err.text);
	assert_int_equal(kf_aligner_new(st, tg, KF_ALIGN_DTW, KF_ALIGN_EXACT, &al, &err), KF_OK);
	if (kf_align_doc(al, &s, &t, &arena, &r, NULL, &err) != KF_OK) fail_msg("%s", err.text);
	near(q_of(&r, 0, 4), .6);        /* ▁ab -> Ġab */
	near(q_of(&r, 1, 4), 1);         /* ▁ab against ab: cost 0 but not equal: one-hot */
	/* ▁ab = Ġab one to one: the source's last position, where </s> is the target's <eos> */
	near(q_of(&r, 2, 5), .25);
	kf_aligner_free(al);
	kf_tokenizer_free(st);
	kf_tokenizer_free(tg);
	kf_arena_release(&arena);
}

static void go(kf_align_method method, kf_align_map map, bool quirks, const kf_tokenizer *s,
	const kf_tokenizer *t, const kf_logits_rec *src, const kf_logits_rec *tgt, kf_arena *arena, kf_dist_rec *out)
{
	kf_aligner *a;
	kf_err err = { 0 };

	if (kf_aligner_new(s, t, method, map, &a, &err) != KF_OK ||
		(quirks && kf_aligner_quirks(a, &err) != KF_OK) ||
	    kf_align_doc(a, src, tgt, arena, out, NULL, &err) != KF_OK) fail_msg("%s", err.text);
	kf_aligner_free(a);
}

/* The target has the source's EOS for another purpose, and an EOS of its own: that is what ends a text. */
static void ends(void **state)
{
	static const char *const ours[] = { "a", "<eos>" }, *const theirs[] = { "a", "<eos>", "<end>" };
	static const int32_t types[] = { 1, KF_TT_CONTROL, KF_TT_CONTROL }, tok[] = { 0 }, ids[] = { 0, 1 };
	static const uint32_t start[] = { 0, 1 };
	const kf_vocab_spec from = { .model = "gpt2", .pre = "gpt-2", .n = 2, .pieces = ours, .types = types, .bos = -1, .eos = 1, .unk = -1, .pad = -1 };
	const kf_vocab_spec to = { .model = "gpt2", .pre = "gpt-2", .n = 3, .pieces = theirs, .types = types, .bos = -1, .eos = 2, .unk = -1, .pad = -1 };
	const float ce[] = { N(.5) }, lp[] = { L(.5), L(.25) };
	const kf_dochead head = { .doc = 1, .id = "", .domain = "", .bytes = 1 };
	const kf_logits_rec s = { .head = head, .bos = true, .n = 1, .k = 1, .tokens = tok, .start = start, .ce = ce, .top_ids = ids, .top_lp = lp };
	kf_tokenizer *st, *tt;
	kf_arena arena;
	kf_dist_rec r;
	kf_err err = { 0 };

	(void)state;
	kf_arena_init(&arena);
	if (kf_tokenizer_from_spec(&from, &st, &err) != KF_OK || kf_tokenizer_from_spec(&to, &tt, &err) != KF_OK) fail_msg("%s", err.text);
	for (int method = KF_ALIGN_BYTE; method <= KF_ALIGN_DTW_CHAT; method++) {
		go((kf_align_method)method, KF_ALIGN_EXACT, false, st, tt, &s, &s, &arena, &r);
		near(q_of(&r, 1, 2), .25);
		near(q_of(&r, 1, 1), 0);
	}
	kf_tokenizer_free(st);
	kf_tokenizer_free(tt);
	kf_arena_release(&arena);
}

/* The text of by_hand. Costs in tenths: abc-a 2, abc-bc 1 (contained), a-a 0, a-bc 20; the same path. After a
 * (position 1) abc does not end with it: one-hot. After bc abc does, so position 2 takes the source's 1: many
 * to one. Position 3 takes 2. Then the other way round: abc|a of a target that has abc, from a|bc|a: abc is
 * paired with a and bc, of which bc ends it: one to many. */
static void chat_by_hand(void **state)
{
	static const char *const ms[] = { "a b", "ab c", "b c" }, *const mt[] = { "b c" };
	static const int32_t tok[] = { SABC, SA }, tt[] = { TA, TBC, TA };
	static const int32_t ids[] = { SABC, SBC, SA, SA, SB, SC, SEOS, SC, SAB };
	static const uint32_t start[] = { 0, 3, 4 }, ts[] = { 0, 1, 3, 4 };
	static const int32_t four[] = { 0, 1, 0, 2, 1, 0, TBC, TC, TA, TEOS, TB, TA };
	const float ce[] = { N(.4), N(.5), N(.5) };
	const float lp[] = { L(.4), L(.2), L(.1), L(.5), L(.2), L(.1), L(.5), L(.2), L(.1), L(.6), L(.2), L(.1) };
	const kf_dochead head = { .doc = 1, .id = "", .domain = "", .bytes = 4 };
	kf_logits_rec s = { .head = head, .bos = true, .n = 2, .k = 3, .tokens = tok, .start = start, .ce = ce,
		.top_ids = ids, .top_lp = lp };
	kf_logits_rec t = { .head = head, .bos = true, .n = 3, .k = 3, .tokens = tt, .start = ts, .ce = ce,
		.top_ids = four, .top_lp = lp };
	kf_tokenizer *st = synth_bpe("abc", ms, 3, true), *tg = synth_bpe("abc", mt, 1, true);
	kf_arena arena;
	kf_dist_rec r;

	(void)state;
	kf_arena_init(&arena);
	go(KF_ALIGN_DTW_CHAT, KF_ALIGN_EXACT, false, st, tg, &s, &t, &arena, &r);
	near(q_of(&r, 0, TBC), .2);
	near(q_of(&r, 0, TA), .1);
	near(r.tail[0], .7);
	assert_int_equal(r.off[2] - r.off[1], 1);
	near(q_of(&r, 1, TBC), 1);
	near(q_of(&r, 2, TA), .5);
	near(q_of(&r, 2, TB), .2);
	near(r.tail[2], .2);
	near(q_of(&r, 3, TEOS), .5);
	near(q_of(&r, 3, TC), .2);
	near(r.tail[3], .3);
	/* ab is no token of the target: the map's business; what is spelled alike is not */
	go(KF_ALIGN_DTW_CHAT, KF_ALIGN_PREFIX, false, st, tg, &s, &t, &arena, &r);
	near(q_of(&r, 3, TA), .1);

	go(KF_ALIGN_DTW_CHAT, KF_ALIGN_EXACT, false, tg, st, &t, &s, &arena, &r);
	near(q_of(&r, 1, SBC), .5);
	near(q_of(&r, 1, SC), .2);
	near(q_of(&r, 2, SEOS), .6);
	kf_tokenizer_free(st);
	kf_tokenizer_free(tg);
	kf_arena_release(&arena);
}

static void weighted(kf_aligner **a, const kf_tokenizer *s, const kf_tokenizer *t, const align_pairs *counts)
{
	kf_err err = { 0 };

	if (kf_aligner_new(s, t, KF_ALIGN_DTW_CHAT, KF_ALIGN_EXACT, a, &err) != KF_OK ||
	    kf_aligner_weigh(*a, counts, &err) != KF_OK) fail_msg("%s", err.text);
}

/* a|bc|a onto abc|a, both partners of abc. bc ends it, so alone it would be taken; together they are it, so both positions
 * after them are mixed. bc was aligned with abc once more than a: weights 1/(1+e) and e/(1+e). After a (equal) nothing is. */
static void chat_weighted(void **state)
{
	static const char *const ms[] = { "a b", "ab c", "b c" }, *const mt[] = { "b c" };
	static const int32_t target[] = { SABC, SA }, tok[] = { TA, TBC, TA };
	static const int32_t ids[] = { TA, TB, TA, TC, TB, TA, TBC, TC, TA, TEOS, TB, TA };
	static const uint32_t ts[] = { 0, 3, 4 }, start[] = { 0, 1, 3, 4 };
	const float ce[] = { N(.5), N(.5), N(.5) }, lp[] = { L(.4), L(.2), L(.1), L(.5), L(.2), L(.1), L(.5), L(.2), L(.1), L(.6), L(.2), L(.1) };
	const kf_dochead head = { .doc = 1, .id = "", .domain = "", .bytes = 4 };
	kf_logits_rec s = { .head = head, .bos = true, .n = 3, .k = 3, .tokens = tok, .start = start, .ce = ce,
		.top_ids = ids, .top_lp = lp };
	kf_logits_rec t = { .head = head, .bos = true, .n = 2, .tokens = target, .start = ts };
	kf_tokenizer *st = synth_bpe("abc", mt, 1, true), *tg = synth_bpe("abc", ms, 3, true);
	const double w = 1 / (1 + exp(1)), v = 1 - w;
	align_pairs counts = { 0 }, none = { 0 };
	kf_aligner *al;
	kf_arena arena;
	kf_dist_rec r;
	kf_err err = { 0 };

	(void)state;
	kf_arena_init(&arena);
	assert_true(align_pairs_add(&counts, TA, SABC, 4) && align_pairs_add(&counts, TBC, SABC, 5) && align_pairs_sort(&counts));
	assert_true(align_pairs_sort(&none));
	weighted(&al, st, tg, &counts);
	if (kf_align_doc(al, &s, &t, &arena, &r, NULL, &err) != KF_OK) fail_msg("%s", err.text);
	near(q_of(&r, 1, SC), w * .5 + v * .2);
	near(q_of(&r, 1, SB), w * .2);
	near(q_of(&r, 1, SA), .1);
	near(q_of(&r, 1, SBC), v * .5);
	near(r.tail[1], .2);
	near(q_of(&r, 2, SEOS), .6);
	near(q_of(&r, 2, SB), .2);
	kf_aligner_free(al);
	/* never counted: all alike */
	weighted(&al, st, tg, &none);
	if (kf_align_doc(al, &s, &t, &arena, &r, NULL, &err) != KF_OK) fail_msg("%s", err.text);
	near(q_of(&r, 1, SBC), .25);
	near(q_of(&r, 1, SC), .35);
	kf_aligner_free(al);

	static const struct { kf_align_method method; bool quirks; const char *says; } refused[] = {
		{ KF_ALIGN_BYTE, false, "dtw-chat" }, { KF_ALIGN_DTW, false, "dtw-chat" }, { KF_ALIGN_DTW_CHAT, true, "reference-quirks" } };
	for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
		assert_int_equal(kf_aligner_new(st, tg, refused[i].method, KF_ALIGN_PREFIX, &al, &err), KF_OK);
		if (refused[i].quirks) assert_int_equal(kf_aligner_quirks(al, &err), KF_OK);
		assert_int_equal(kf_aligner_weigh(al, &none, &err), KF_EUSAGE);
		assert_non_null(strstr(err.text, refused[i].says));
		kf_aligner_free(al);
	}
	align_pairs_release(&counts);
	align_pairs_release(&none);
	kf_tokenizer_free(st);
	kf_tokenizer_free(tg);
	kf_arena_release(&arena);
}

/* ab|a|ba onto a|bab|a. Costs in tenths: ab-a 1, ab-bab 1, ab-a 1; a-a 0, a-bab 2, a-a 0; ba-a 1, ba-bab 1, ba-a 1. Two ways cost
 * 3: (ab,a) (a,a) (ba,bab) (ba,a) and (ab,a) (ab,bab) (a,a) (ba,a). The way back goes to the target's earlier token first, which
 * is the former: after the first a the source's a, after bab nothing (ba is not its end), after the last a the source's ba. */
static void chat_ties(void **state)
{
	static const char *const ms[] = { "a b", "b a" }, *const mt[] = { "a b", "b ab" };
	/* a b ab ba <eos>, a b ab bab <eos> */
	static const int32_t tok[] = { 2, 0, 3 }, tt[] = { 0, 3, 0 };
	static const int32_t ids[] = { 0, 1, 2, 0, 1, 2, 0, 1 };
	static const uint32_t start[] = { 0, 2, 3, 5 }, ts[] = { 0, 1, 4, 5 };
	const float ce[] = { N(.5), N(.5), N(.5) }, lp[] = { L(.9), L(.01), L(.5), L(.1), L(.4), L(.2), L(.3), L(.25) };
	const kf_dochead head = { .doc = 1, .id = "", .domain = "", .bytes = 5 };
	kf_logits_rec s = { .head = head, .bos = true, .n = 3, .k = 2, .tokens = tok, .start = start, .ce = ce,
		.top_ids = ids, .top_lp = lp };
	kf_logits_rec t = { .head = head, .bos = true, .n = 3, .tokens = tt, .start = ts };
	kf_tokenizer *st = synth_bpe("ab", ms, 2, true), *tg = synth_bpe("ab", mt, 2, true);
	kf_arena arena;
	kf_dist_rec r;

	(void)state;
	kf_arena_init(&arena);
	go(KF_ALIGN_DTW_CHAT, KF_ALIGN_EXACT, false, st, tg, &s, &t, &arena, &r);
	near(q_of(&r, 1, 1), .4);
	near(q_of(&r, 1, 2), .2);
	near(q_of(&r, 2, 0), 1);
	near(q_of(&r, 3, 0), .3);
	near(q_of(&r, 3, 1), .25);
	kf_tokenizer_free(st);
	kf_tokenizer_free(tg);
	kf_arena_release(&arena);
}

/* A tokenizer with itself: every position takes its own, EOS and all, under any rule. */
static void identity(void **state)
{
	static const char *const m[] = { "a b", "ab c", "b c" },
		*const pieces[] = { "\xe2\x96\x81""ab", "ab", "bc" };
	kf_arena arena;
	kf_rng rng;

	(void)state;
	kf_arena_init(&arena);
	kf_rng_seed(&rng, 5);
	for (int round = 0; round < 40; round++) {
		bool spm = round & 1, bos = round & 2;
		kf_tokenizer *t = spm ? synth_spm("abc", pieces, 3, round & 4) : synth_bpe("abc", m, 3, bos);
		uint32_t bytes = (uint32_t)kf_rng_below(&rng, 40);
		uint8_t text[64];

		for (uint32_t i = 0; i < bytes; i++)
			text[i] = (uint8_t)(spm && kf_rng_below(&rng, 8) == 0 ? 'x' : 'a' + kf_rng_below(&rng, 3));
		synth_model src = synth_run(t, text, bytes, 4, bos, &rng, &arena);
		for (int method = KF_ALIGN_DTW; method <= KF_ALIGN_DTW_CHAT; method++) {
			kf_dist_rec r;

			go((kf_align_method)method, KF_ALIGN_EXACT, false, t, t, &src.rec, &src.rec, &arena, &r);
			for (uint32_t p = 0; p <= r.n; p++) {
				if (p == 0 && !bos) assert_int_equal(r.off[1], 0);
				for (uint32_t j = 0; j < 4 && (p > 0 || bos); j++)
					near(q_of(&r, p, src.rec.top_ids[p * 4 + j]), exp(src.rec.top_lp[p * 4 + j]));
			}
		}
		kf_tokenizer_free(t);
		kf_arena_reset(&arena);
	}
	kf_arena_release(&arena);
}

/* Texts of any length from none on, with and without BOS, characters one side has no token for, tokens of no
 * bytes: every position that is trained has something, and nothing sums above 1. */
static void anything(void **state)
{
	static const char *const m[] = { "a b", "ab c", "b c" },
		*const pieces[] = { "\xe2\x96\x81""ab", "ab", "bc" };
	kf_arena arena;
	kf_rng rng;
	int mixed = 0;

	(void)state;
	kf_arena_init(&arena);
	kf_rng_seed(&rng, 6);
	for (int round = 0; round < 300; round++) {
		bool sb = kf_rng_below(&rng, 2), tb = kf_rng_below(&rng, 2);
		kf_tokenizer *s = synth_bpe("abcx", m, (int)kf_rng_below(&rng, 4), sb),
			*t = synth_spm("abc", pieces, 3, round & 1), *swap;
		uint32_t bytes = (uint32_t)round < 60 ? (uint32_t)round / 20 : (uint32_t)kf_rng_below(&rng, 50);
		uint8_t text[64];

		if (round & 4) swap = s, s = t, t = swap;
		for (uint32_t i = 0; i < bytes; i++)
			text[i] = (uint8_t)(kf_rng_below(&rng, 8) == 0 ? 'x' : 'a' + kf_rng_below(&rng, 3));
		synth_model src = synth_run(s, text, bytes, 3, sb, &rng, &arena),
			tgt = synth_run(t, text, bytes, 3, tb, &rng, &arena);
		for (int k = 0; k < 8; k++) {
			kf_dist_rec r;

			go(k & 1 ? KF_ALIGN_DTW : KF_ALIGN_DTW_CHAT, k & 2 ? KF_ALIGN_EXACT : KF_ALIGN_PREFIX, k & 4, s, t,
				&src.rec, &tgt.rec, &arena, &r);
			for (uint32_t p = 0; p <= r.n; p++) {
				double q = 0;

				for (uint32_t j = r.off[p]; j < r.off[p + 1]; j++) q += exp(r.lp[j]);
				assert_true(q <= 1 + 1e-6);
				if (!(k & 4) && p < r.n && (p > 0 || tb)) assert_true(r.off[p + 1] > r.off[p]);
				if (p == 0 && !tb) assert_int_equal(r.off[1], 0);
			}
		}
		kf_aligner *a;
		kf_dist_rec r;
		kf_err err = { 0 };
		align_pairs counts = { 0 };

		for (uint32_t i = 0; i < src.rec.n && tgt.rec.n > 0; i++)
			assert_true(align_pairs_add(&counts, src.rec.tokens[i], tgt.rec.tokens[i % tgt.rec.n], 1 + kf_rng_below(&rng, 3)));
		assert_true(align_pairs_sort(&counts));
		weighted(&a, s, t, &counts);
		if (kf_align_doc(a, &src.rec, &tgt.rec, &arena, &r, NULL, &err) != KF_OK) fail_msg("%s", err.text);
		for (uint32_t p = 0; p <= r.n; p++) {
			double q = 0;

			for (uint32_t j = r.off[p]; j < r.off[p + 1]; j++) {
				q += exp(r.lp[j]);
				for (uint32_t k = r.off[p]; k < j; k++) assert_int_not_equal(r.ids[k], r.ids[j]);
			}
			assert_true(q <= 1 + 1e-6);
			if (p < r.n && (p > 0 || tb)) assert_true(r.off[p + 1] > r.off[p]);
			mixed += r.off[p + 1] - r.off[p] > 3;
		}
		kf_aligner_free(a);
		align_pairs_release(&counts);
		kf_tokenizer_free(s);
		kf_tokenizer_free(t);
		kf_arena_reset(&arena);
	}
	assert_true(mixed > 3);   /* positions with more candidates than any of the source's: those that were mixed */
	kf_arena_release(&arena);
}

/* Ids that no vocabulary has are refused by name, whatever the method. */
static void hostile_ids(void **state)
{
	static const char *const m[] = { "a b" };
	static const uint32_t start[] = { 0, 1, 2 };
	static const int32_t good[] = { 0, 1 };
	int32_t bad[] = { 0, 1 }, top[] = { 0, -1, 1000000 };
	const float ce[] = { 1, 1 }, lp[] = { L(.5), L(.5), L(.5) };
	const kf_dochead head = { .doc = 3, .id = "", .domain = "", .bytes = 2 };
	kf_tokenizer *t = synth_bpe("ab", m, 1, true);
	kf_logits_rec src = { .head = head, .bos = true, .n = 2, .k = 1, .tokens = good, .start = start, .ce = ce,
		.top_ids = top, .top_lp = lp };
	kf_logits_rec tgt = { .head = head, .bos = true, .n = 2, .tokens = bad, .start = start };
	kf_arena arena;

	(void)state;
	kf_arena_init(&arena);
	for (int k = 0; k < 12; k++) {
		kf_aligner *a;
		kf_dist_rec r;
		kf_err err = { 0 };
		kf_status rc;

		bad[1] = k % 3 == 0 ? 1 : k % 3 == 1 ? -7 : 1 << 30;
		assert_int_equal(kf_aligner_new(t, t, k & 1 ? KF_ALIGN_DTW : KF_ALIGN_DTW_CHAT, KF_ALIGN_EXACT, &a, &err), KF_OK);
		if (k >= 6) assert_int_equal(kf_aligner_quirks(a, &err), KF_OK);
		rc = kf_align_doc(a, &src, &tgt, &arena, &r, NULL, &err);
		assert_int_equal(rc, k % 3 == 0 ? KF_OK : KF_EDATA);
		if (rc != KF_OK) assert_non_null(strstr(err.text, "document 3 of the target logits"));
		kf_aligner_free(a);
	}
	kf_tokenizer_free(t);
	kf_arena_release(&arena);
}

/* Some 20,000 tokens onto as many: a table would be 400 MB. */
static void long_document(void **state)
{
	enum { BYTES = 30000 };
	static const char *const ms[] = { "a b", "e f", "e c" }, *const mt[] = { "a b", "e f", "d e" };
	kf_tokenizer *s = synth_bpe("abcdef", ms, 3, true), *t = synth_bpe("abcdef", mt, 3, true);
	kf_arena arena;
	kf_logits_rec src = { .bos = true, .k = 1 }, tgt = { .bos = true };
	kf_encoding enc;
	kf_dist_rec r;
	kf_rng rng;
	kf_err err;
	size_t before;

	(void)state;
	kf_arena_init(&arena);
	kf_rng_seed(&rng, 7);
	uint8_t *text = KF_ARENA_NEW(&arena, uint8_t, BYTES);
	for (uint32_t i = 0; i < BYTES; i++)
		text[i] = (uint8_t)(kf_rng_below(&rng, 100) ? "abef"[kf_rng_below(&rng, 4)] : "cd"[i % 2]);
	src.head = tgt.head = (kf_dochead){ .id = "", .domain = "", .bytes = BYTES };
	assert_int_equal(kf_tokenizer_encode(t, text, BYTES, false, &arena, &enc, &err), KF_OK);
	tgt.n = enc.n, tgt.tokens = enc.ids, tgt.start = enc.start;
	assert_int_equal(kf_tokenizer_encode(s, text, BYTES, false, &arena, &enc, &err), KF_OK);
	src.n = enc.n, src.tokens = enc.ids, src.start = enc.start;
	int32_t *ids = KF_ARENA_NEW(&arena, int32_t, src.n + 1);
	float *lp = KF_ARENA_NEW(&arena, float, src.n + 1), *ce = KF_ARENA_NEW(&arena, float, src.n + 1);
	for (uint32_t i = 0; i <= src.n; i++) {
		ids[i] = i < src.n ? src.tokens[i] : kf_tokenizer_eos(s);
		ce[i] = 1;
		lp[i] = L(.5);
	}
	src.top_ids = ids;
	src.top_lp = lp;
	src.ce = ce;
	before = arena.used;
	go(KF_ALIGN_DTW, KF_ALIGN_EXACT, false, s, t, &src, &tgt, &arena, &r);
	assert_true(arena.used - before < 32u << 20);
	assert_int_equal(r.n, tgt.n);
	kf_tokenizer_free(s);
	kf_tokenizer_free(t);
	kf_arena_release(&arena);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(by_hand),
		cmocka_unit_test(markers),
		cmocka_unit_test(ends),
		cmocka_unit_test(chat_by_hand),
		cmocka_unit_test(chat_weighted),
		cmocka_unit_test(chat_ties),
		cmocka_unit_test(identity),
		cmocka_unit_test(anything),
		cmocka_unit_test(hostile_ids),
		cmocka_unit_test(long_document),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
