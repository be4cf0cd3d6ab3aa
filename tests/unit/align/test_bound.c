/* Logits without path masses: lower bounds of them, from the candidates. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "tests/unit/align/synth.h"

static void near(double a, double b)
{
	if (!(fabs(a - b) < 1e-5)) fail_msg("%.9g is not %.9g", a, b);
}

static double q_of(const kf_dist_rec *r, uint32_t p, int32_t id)
{
	for (uint32_t j = r->off[p]; j < r->off[p + 1]; j++)
		if (r->ids[j] == id) return exp((double)r->lp[j]);
	return 0;
}

/* Text abc, source one token abc of .1, not stored; stored are ab .4 and c .3. So M(1), M(2) are at least .5: abc and ab.
 * Target a|bc.
 * p = 0  ce = -ln .5; ab goes to a, and abc's .1; c to c: .5, .3
 * p = 1  ce = -ln .1/.5; ab leaves b .4/.5, abc is the label's: .1/.5 */
static void by_hand(void **state)
{
	static const char *const s_merges[] = { "a b", "ab c" }, *const t_merges[] = { "b c" };
	enum { A, B, C, AB, ABC, BC = 3 };
	static const int32_t tok[] = { ABC }, ids[] = { AB, C, 5, C }, t_tok[] = { A, BC };
	static const uint32_t start[] = { 0, 3 }, t_start[] = { 0, 1, 3 };
	const float ce[] = { -logf(.1f) }, lp[] = { logf(.4f), logf(.3f), logf(.6f), -INFINITY };
	const kf_dochead head = { .doc = 1, .id = "", .domain = "", .bytes = 3 };
	kf_logits_rec s = { .head = head, .bos = true, .n = 1, .k = 2, .tokens = tok, .start = start, .ce = ce, .top_ids = ids, .top_lp = lp };
	kf_logits_rec t = { .head = head, .bos = true, .n = 2, .tokens = t_tok, .start = t_start };
	kf_tokenizer *st = synth_bpe("abc", s_merges, 2, true), *tt = synth_bpe("abc", t_merges, 1, true);
	kf_aligner *al;
	kf_arena arena;
	kf_dist_rec r;
	kf_err err = { 0 };

	(void)state;
	kf_arena_init(&arena);
	assert_int_equal(kf_aligner_new(st, tt, KF_ALIGN_BYTE, KF_ALIGN_PREFIX, &al, &err), KF_OK);
	if (kf_align_doc(al, &s, &t, &arena, &r, NULL, &err) != KF_OK) fail_msg("%s", err.text);
	near(r.ce[0], -log(.5));
	near(r.ce[1], -log(.2));
	near(q_of(&r, 0, A), .5);
	near(q_of(&r, 0, C), .3);
	near(r.tail[0], .2);
	near(q_of(&r, 1, B), .8);
	near(q_of(&r, 1, BC), .2);
	near(r.tail[1], 0);
	near(q_of(&r, 2, kf_tokenizer_eos(tt)), .6);
	kf_aligner_free(al);
	kf_tokenizer_free(st);
	kf_tokenizer_free(tt);
	kf_arena_release(&arena);
}

/* Whatever is stored: ce sums to the source's own, q to no more than 1, and P(x) is never above the true one at the
 * same byte. With everything stored, the bound is the mass itself. */
static void random_models(void **state)
{
	static const char *const pieces[] = { "\xe2\x96\x81""a", "\xe2\x96\x81""ab", "ab", "bc", "abc", "ca", "cab" };
	static const char *const merges[] = { "a b", "b c", "ab c", "c a", "ca b", "a a" };
	static const char *const other[] = { "b a", "c c", "ba c" };
	kf_rng rng;
	kf_arena arena;
	kf_err err = { 0 };
	int lower = 0;

	(void)state;
	kf_rng_seed(&rng, 11);
	kf_arena_init(&arena);
	kf_tokenizer *tok[4] = { synth_spm("abc", pieces, 7, true), synth_spm("abc", pieces, 7, false), synth_bpe("abc", merges, 6, true),
		synth_bpe("abc", other, 3, true) };
	for (int round = 0; round < 800; round++) {
		int a = round % 4, b = round / 4 % 4;
		bool all = kf_rng_below(&rng, 3) == 0, bos = kf_rng_below(&rng, 4) > 0;
		uint32_t bytes = 1 + (uint32_t)kf_rng_below(&rng, 24), k = all ? (uint32_t)kf_tokenizer_size(tok[a]) :
			1 + (uint32_t)kf_rng_below(&rng, 4);
		uint8_t text[24];
		double sum = 0, full = 0;
		kf_aligner *al;
		kf_dist_rec got, want;

		for (uint32_t i = 0; i < bytes; i++) text[i] = (uint8_t)('a' + kf_rng_below(&rng, 3));
		synth_model s = synth_run(tok[a], text, bytes, k, bos, &rng, &arena), t = synth_run(tok[b], text, bytes, 1, true, &rng, &arena);
		kf_logits_rec bare = s.rec;
		bare.has_path = false;
		assert_int_equal(kf_aligner_new(tok[a], tok[b], KF_ALIGN_BYTE, KF_ALIGN_PREFIX, &al, &err), KF_OK);
		if (kf_align_doc(al, &s.rec, &t.rec, &arena, &want, NULL, &err) != KF_OK) fail_msg("%s", err.text);
		if (kf_align_doc(al, &bare, &t.rec, &arena, &got, NULL, &err) != KF_OK) fail_msg("%s", err.text);
		for (uint32_t p = 0; p <= t.rec.n; p++) {
			double q = 0;

			for (uint32_t j = got.off[p]; j < got.off[p + 1]; j++) {
				q += exp((double)got.lp[j]);
				if (all) near(exp(got.lp[j]), q_of(&want, p, got.ids[j]));
			}
			assert_true(q <= 1);
			assert_int_equal(isnan(want.tail[p]) && got.off[p] < got.off[p + 1], false);
			if (q > 0) near(q + got.tail[p], 1);
			if (p == t.rec.n) break;
			assert_int_equal(isnan(got.ce[p]), isnan(want.ce[p]));
			if (isnan(got.ce[p])) continue;
			assert_true(got.ce[p] >= 0);
			if (all) near(got.ce[p], want.ce[p]);
			sum += got.ce[p];
			full += want.ce[p];
			/* from a border of both on (with BOS that is the beginning), a lower P is a higher sum */
			if (bos && sum < full - 1e-5) fail_msg("a bound above the mass");
			lower += sum > full + 1e-3;
		}
		if (bos) near(sum, full);
		kf_aligner_free(al);
		kf_arena_reset(&arena);
	}
	assert_true(lower > 100);
	for (int i = 0; i < 4; i++) kf_tokenizer_free(tok[i]);
	kf_arena_release(&arena);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(by_hand), cmocka_unit_test(random_models) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
