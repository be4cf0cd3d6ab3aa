/* Conversations: every reply comes out as it would as a text of its own, whatever stands around it in either model's template;
 * the ends of turns are each other's; nothing is said of what is context. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "synth.h"

enum { TURNS = 6, K = 3 };

static kf_arena arena;
static kf_err err;

#define OK(call) do { if ((call) != KF_OK) fail_msg("%s", err.text); } while (0)

/* A conversation of messages, as one model saw it. */
typedef struct {
	kf_logits_rec rec;
	synth_model reply[TURNS]; /* of the assistant's messages, as texts */
	uint32_t at[TURNS];       /* where the tokens of the reply begin that are no context */
	uint32_t ends[TURNS];     /* position of the end of the turn, or UINT32_MAX */
} talk;

typedef struct {
	int32_t *tokens, *ids, *xid;
	uint32_t *start, *off, *xoff, n, paths, extras;
	float *ce, *lp, *nlm, *xlp;
	uint8_t *context;
} builder;

/* A token with its row of r, or, r NULL, of context. */
static void put(builder *b, int32_t token, uint32_t span, const kf_logits_rec *r, uint32_t i)
{
	uint32_t p = b->n++, interior = span ? span - 1 : 0;

	b->tokens[p] = token;
	b->start[p + 1] = b->start[p] + span;
	b->context[p] = !r;
	b->off[p] = b->paths;
	b->xoff[p] = b->extras;
	b->ce[p] = r && i < r->n ? r->ce[i] : NAN;
	for (int j = 0; j < K; j++) {
		b->ids[p * K + (uint32_t)j] = r ? r->top_ids[i * K + (uint32_t)j] : -1;
		b->lp[p * K + (uint32_t)j] = r ? r->top_lp[i * K + (uint32_t)j] : -INFINITY;
	}
	for (uint32_t j = 0; j < interior; j++) b->nlm[b->paths++] = r ? r->path_nlm[r->path_off[i] + j] : NAN;
	for (uint32_t j = r ? r->extra_off[i] : 0; r && j < r->extra_off[i + 1]; j++) {
		b->xid[b->extras] = r->extra_ids[j];
		b->xlp[b->extras++] = r->extra_lp[j];
	}
}

/* An end of turn: row n of the reply's record tells it, and its ce. */
static void put_end(builder *b, int32_t token, const synth_model *m)
{
	put(b, token, 0, &m->rec, m->rec.n);
	b->ce[b->n - 1] = (float)-log(m->dist[(size_t)m->rec.n * (size_t)kf_tokenizer_size(m->tok) + (size_t)token]);
}

/* pre, post: tokens of the template around each message; the turn ends with `end`, or, -1, with nothing. */
static talk say(const kf_tokenizer *tok, char (*message)[40], uint32_t pre, uint32_t post, int32_t end, int32_t filler, kf_rng *rng)
{
	talk t = { .rec = { .head = { .doc = 7, .id = "", .domain = "chat" }, .k = K, .has_path = true } };
	builder b = { KF_ARENA_NEW(&arena, int32_t, 2000), KF_ARENA_NEW(&arena, int32_t, 2000 * K), KF_ARENA_NEW(&arena, int32_t, 90000),
		KF_ARENA_NEW(&arena, uint32_t, 2000), KF_ARENA_NEW(&arena, uint32_t, 2000), KF_ARENA_NEW(&arena, uint32_t, 2000), 0, 0, 0,
		KF_ARENA_NEW(&arena, float, 2000), KF_ARENA_NEW(&arena, float, 2000 * K), KF_ARENA_NEW(&arena, float, 2000),
		KF_ARENA_NEW(&arena, float, 90000), KF_ARENA_NEW(&arena, uint8_t, 2000) };
	uint32_t bytes = 0;
	bool open = false;

	b.start[0] = 0;
	for (int m = 0; m < TURNS; m++) {
		uint32_t n = (uint32_t)strlen(message[m]);
		synth_model *s = &t.reply[m];

		*s = synth_run(tok, (const uint8_t *)message[m], n, K, true, rng, &arena);
		bytes += n;
		open = false;
		t.ends[m] = UINT32_MAX;
		for (uint32_t i = 0; i < pre; i++) put(&b, filler, 0, NULL, 0);
		for (uint32_t i = 0; i < s->rec.n; i++) {
			uint32_t span = s->rec.start[i + 1] - s->rec.start[i];

			/* a lone dummy prefix is the template's */
			if (i == 0) t.at[m] = b.n + !span;
			put(&b, s->rec.tokens[i], span, m % 2 && (span || i) ? &s->rec : NULL, i);
		}
		if (m % 2 == 0) {
			if (end >= 0) put(&b, end, 0, NULL, 0);
		} else {
			if (end >= 0) {
				t.ends[m] = b.n;
				put_end(&b, end, s);
			} else if (!post && m + 1 == TURNS) {
				open = true;
				t.ends[m] = b.n;
			}
		}
		for (uint32_t i = 0; i < post; i++) put(&b, filler, 0, NULL, 0);
	}
	put(&b, -1, 0, open ? &t.reply[TURNS - 1].rec : NULL, t.reply[TURNS - 1].rec.n);
	b.off[b.n - 1] = b.paths;
	b.xoff[b.n] = b.extras;
	t.rec.head.bytes = bytes;
	t.rec.n = b.n - 1;
	t.rec.tokens = b.tokens, t.rec.start = b.start, t.rec.ce = b.ce, t.rec.top_ids = b.ids, t.rec.top_lp = b.lp;
	t.rec.path_off = b.off, t.rec.path_nlm = b.nlm, t.rec.extra_off = b.xoff, t.rec.extra_ids = b.xid, t.rec.extra_lp = b.xlp;
	t.rec.context = b.context;
	return t;
}

static double q_of(const kf_dist_rec *r, uint32_t p, int32_t id)
{
	for (uint32_t j = r->off[p]; j < r->off[p + 1]; j++)
		if (r->ids[j] == id) return exp(r->lp[j]);
	return 0;
}

static void same_position(const kf_dist_rec *a, uint32_t p, const kf_dist_rec *b, uint32_t q)
{
	assert_int_equal(a->off[p + 1] - a->off[p], b->off[q + 1] - b->off[q]);
	for (uint32_t j = 0; j < a->off[p + 1] - a->off[p]; j++) {
		assert_int_equal(a->ids[a->off[p] + j], b->ids[b->off[q] + j]);
		assert_float_equal(a->lp[a->off[p] + j], b->lp[b->off[q] + j], 1e-6);
	}
	assert_float_equal(a->ce[p], b->ce[q], 1e-5);
}

/* exact: the replies' tokenizations are those of texts, so positions compare one by one */
static void check(kf_aligner *a, const talk *s, const talk *t, bool exact, int32_t src_end, int32_t tgt_end)
{
	kf_dist_rec out;
	uint32_t p = 0, said = 0;

	OK(kf_align_doc(a, &s->rec, &t->rec, &arena, &out, NULL, &err));
	assert_ptr_equal(out.context, t->rec.context);
	for (p = 0; p <= out.n; p++) {
		double sum = 0;

		for (uint32_t j = out.off[p]; j < out.off[p + 1]; j++) sum += exp(out.lp[j]);
		assert_true(sum < 1 + 1e-5);
		if (!out.context[p]) continue;
		assert_int_equal(out.off[p], out.off[p + 1]);
		assert_true(isnan(out.tail[p]) && (p == out.n || isnan(out.ce[p])));
	}
	for (int m = 1; m < TURNS; m += 2) {
		kf_dist_rec alone;
		double mine = 0, theirs = 0;
		uint32_t skipped = s->at[m], end = t->at[m];

		OK(kf_align_doc(a, &s->reply[m].rec, &t->reply[m].rec, &arena, &alone, NULL, &err));
		while (end < out.n && !out.context[end] && end != t->ends[m]) end++;
		for (p = t->at[m]; p < end; p++) mine += (double)out.ce[p];
		for (p = skipped; p < s->rec.n && !s->rec.context[p] && p != s->ends[m]; p++, said++) theirs += (double)s->rec.ce[p];
		/* telescopes: the source's own of the reply */
		assert_float_equal(mine, theirs, 1e-4);
		for (p = 0; exact && p < alone.n; p++) same_position(&out, t->at[m] + p, &alone, p);

		if (t->ends[m] == UINT32_MAX) continue;
		p = t->ends[m];
		if (s->ends[m] == UINT32_MAX) {
			assert_int_equal(out.off[p], out.off[p + 1]);
			continue;
		}
		const synth_model *x = &s->reply[m];
		double want = x->dist[(size_t)x->rec.n * (size_t)kf_tokenizer_size(x->tok) + (size_t)src_end];

		if (p < out.n && s->ends[m] < s->rec.n) {
			said++;
			assert_float_equal(out.ce[p], -log(want), 1e-5);
			assert_float_equal(q_of(&out, p, tgt_end), want, 1e-5);
		}
	}
	/* an end of turn that the target's template has not is not counted, as no ce of it is there */
	assert_int_equal(out.source_tokens, said);
}

static void letters(kf_rng *rng, char *out, const char *base, uint32_t most)
{
	uint32_t n = 1 + (uint32_t)kf_rng_below(rng, most);

	for (uint32_t i = 0; i < n; i++) out[i] = base[kf_rng_below(rng, strlen(base))];
	out[n] = 0;
}

static void across_templates(void **state)
{
	static const char *const ms[] = { "a b", "ab c", "b c", "d d", "dd a" }, *const mt[] = { "b c", "c d", "a a", "bc d" };
	kf_tokenizer *src = synth_bpe("abcd", ms, 5, false), *tgt = synth_bpe("abcd", mt, 4, true);
	kf_aligner *a, *dtw;
	kf_rng rng;

	(void)state;
	kf_rng_seed(&rng, 5);
	OK(kf_aligner_new(src, tgt, KF_ALIGN_BYTE, KF_ALIGN_PREFIX, &a, &err));
	OK(kf_aligner_new(src, tgt, KF_ALIGN_DTW, KF_ALIGN_EXACT, &dtw, &err));
	for (int round = 0; round < 200; round++) {
		char message[TURNS][40];
		int32_t se = kf_tokenizer_eos(src), te = kf_tokenizer_eos(tgt);
		bool ends = kf_rng_below(&rng, 4), both = kf_rng_below(&rng, 4);

		for (int m = 0; m < TURNS; m++) letters(&rng, message[m], "abcd", 12);
		talk s = say(src, message, 1 + (uint32_t)kf_rng_below(&rng, 3), ends ? (uint32_t)kf_rng_below(&rng, 3) : 0, ends ? se : -1, 0, &rng);
		talk t = say(tgt, message, 1 + (uint32_t)kf_rng_below(&rng, 3), both ? 1 : 0, both ? te : -1, 1, &rng);
		check(a, &s, &t, true, se, te);
		kf_arena_reset(&arena);
		/* without exact positions: warping knows no beginning */
		if (round < 40) {
			s = say(src, message, 2, 0, se, 0, &rng);
			t = say(tgt, message, 1, 1, te, 1, &rng);
			check(dtw, &s, &t, true, se, te);
			kf_arena_reset(&arena);
		}
	}
	kf_aligner_free(dtw);
	kf_aligner_free(a);
	kf_tokenizer_free(src);
	kf_tokenizer_free(tgt);
}

/* A reply's first token may begin with the template's space, as "Assistant: " and the reply make it. */
static void spaces(void **state)
{
	static const char *const ps[] = { "\xe2\x96\x81" "ab", "\xe2\x96\x81" "a", "ab", "ba" }, *const mt[] = { "b c", "a b", "ab c" };
	kf_tokenizer *spm = synth_spm("abc", ps, 4, true), *bpe = synth_bpe("abc", mt, 3, true);
	kf_aligner *to, *from;
	kf_rng rng;

	(void)state;
	kf_rng_seed(&rng, 6);
	OK(kf_aligner_new(spm, bpe, KF_ALIGN_BYTE, KF_ALIGN_PREFIX, &to, &err));
	OK(kf_aligner_new(bpe, spm, KF_ALIGN_BYTE, KF_ALIGN_PREFIX, &from, &err));
	for (int round = 0; round < 200; round++) {
		char message[TURNS][40];
		bool joined = true;

		for (int m = 0; m < TURNS; m++) letters(&rng, message[m], "abc", 10);
		talk s = say(spm, message, 1, 1, kf_tokenizer_eos(spm), 4, &rng);
		talk t = say(bpe, message, 2, 0, kf_tokenizer_eos(bpe), 1, &rng);
		for (int m = 1; m < TURNS; m += 2) joined &= s.reply[m].rec.start[1] > 0;
		check(to, &s, &t, joined, kf_tokenizer_eos(spm), kf_tokenizer_eos(bpe));
		check(from, &t, &s, joined, kf_tokenizer_eos(bpe), kf_tokenizer_eos(spm));
		kf_arena_reset(&arena);
	}
	kf_aligner_free(to);
	kf_aligner_free(from);
	kf_tokenizer_free(spm);
	kf_tokenizer_free(bpe);
}

/* A reply's first token may have more of the template than a space: "[/INST](" may end in "](". What else the model had there begins with the
 * template, so that only the token's own probability is the reply's; and to a target with such a token nothing there is said. */
static void torn(void **state)
{
	static const char *const ms[] = { "d a" };
	kf_tokenizer *joined = synth_bpe("abcd", ms, 1, true), *plain = synth_bpe("abcd", NULL, 0, true);
	const int32_t da = 4;
	char message[TURNS][40] = { "b", "ac", "b", "ac", "b", "ac" };
	kf_rng rng;

	(void)state;
	kf_rng_seed(&rng, 8);
	for (int method = KF_ALIGN_BYTE; method <= KF_ALIGN_DTW_CHAT; method++) {
		kf_aligner *to, *from;
		kf_dist_rec out;
		talk s = say(joined, message, 1, 1, kf_tokenizer_eos(joined), 3, &rng), t = say(plain, message, 1, 1, kf_tokenizer_eos(plain), 3, &rng);
		uint32_t at = s.at[1], p = t.at[1];

		((int32_t *)(uintptr_t)s.rec.tokens)[at] = da;
		((float *)(uintptr_t)s.rec.ce)[at] = (float)-log(.05);
		for (int j = 0; j < K; j++) {
			((int32_t *)(uintptr_t)s.rec.top_ids)[at * K + (uint32_t)j] = (int32_t[]){ 3, da, 0 }[j];
			((float *)(uintptr_t)s.rec.top_lp)[at * K + (uint32_t)j] = (float)log((double[]){ .9, .05, .02 }[j]);
		}
		OK(kf_aligner_new(joined, plain, (kf_align_method)method, method == KF_ALIGN_BYTE ? KF_ALIGN_PREFIX : KF_ALIGN_EXACT, &to, &err));
		OK(kf_align_doc(to, &s.rec, &t.rec, &arena, &out, NULL, &err));
		assert_int_equal(out.off[p + 1] - out.off[p], 1);
		assert_int_equal(out.ids[out.off[p]], 0);
		assert_float_equal(out.ce[p], -log(.05), 1e-5);
		assert_float_equal(exp(out.lp[out.off[p]]), method == KF_ALIGN_BYTE ? .05 : 1, 1e-5);
		OK(kf_aligner_new(plain, joined, (kf_align_method)method, method == KF_ALIGN_BYTE ? KF_ALIGN_PREFIX : KF_ALIGN_EXACT, &from, &err));
		OK(kf_align_doc(from, &t.rec, &s.rec, &arena, &out, NULL, &err));
		assert_int_equal(out.off[at + 1] - out.off[at], method == KF_ALIGN_BYTE ? 0 : 1);
		if (method != KF_ALIGN_BYTE) assert_int_equal(out.ids[out.off[at]], da);
		kf_aligner_free(from);
		kf_aligner_free(to);
		kf_arena_reset(&arena);
	}
	kf_tokenizer_free(plain);
	kf_tokenizer_free(joined);
}

static void refuses(void **state)
{
	static const char *const ms[] = { "a b" };
	kf_tokenizer *t = synth_bpe("abc", ms, 1, true);
	char message[TURNS][40] = { "a", "ab", "b", "c", "a", "b" };
	kf_aligner *a;
	kf_dist_rec out;
	kf_rng rng;

	(void)state;
	kf_rng_seed(&rng, 7);
	OK(kf_aligner_new(t, t, KF_ALIGN_BYTE, KF_ALIGN_PREFIX, &a, &err));
	talk x = say(t, message, 1, 1, kf_tokenizer_eos(t), 0, &rng), y = x;
	y.rec.context = NULL;
	assert_int_equal(kf_align_doc(a, &x.rec, &y.rec, &arena, &out, NULL, &err), KF_EMISMATCH);
	assert_non_null(strstr(err.text, "a conversation in the source logits only"));
	kf_aligner_free(a);
	kf_tokenizer_free(t);
	kf_arena_reset(&arena);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(across_templates), cmocka_unit_test(spaces), cmocka_unit_test(torn), cmocka_unit_test(refuses) };
	int failed;

	kf_arena_init(&arena);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	kf_arena_release(&arena);
	return failed;
}
