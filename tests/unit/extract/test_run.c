/* common/model/run.h, kf-extract's heart: windows, positions, path ranges; with a model made up for the purpose. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "common/model/run.h"

enum { UNK, BOS, EOS, A, B, C_, AB, ABC, SPACE_AB, BYTES, V = BYTES + 256, K = 2, E = 3 };

static kf_tokenizer *tokenizer(bool bos, bool dummy)
{
	static char spelled[256][8];
	static const char *pieces[V] = { "<unk>", "<s>", "</s>", "a", "b", "c", "ab", "abc", "\xe2\x96\x81" "ab" };
	float scores[V];
	int32_t types[V];
	for (int i = 0; i < V; i++) {
		scores[i] = -(float)i;
		types[i] = i == UNK ? KF_TT_UNKNOWN : i <= EOS ? KF_TT_CONTROL : i >= BYTES ? KF_TT_BYTE : KF_TT_NORMAL;
		if (i >= BYTES) {
			snprintf(spelled[i - BYTES], 8, "<0x%02X>", i - BYTES);
			pieces[i] = spelled[i - BYTES];
		}
	}
	kf_vocab_spec spec = { .model = "llama", .n = V, .pieces = pieces, .scores = scores, .types = types, .bos = BOS, .eos = EOS,
		.unk = UNK, .pad = -1, .add_bos = bos, .add_space_prefix = dummy };
	kf_tokenizer *t;
	kf_err err;
	if (kf_tokenizer_from_spec(&spec, &t, &err) != KF_OK) fail_msg("%s", err.text);
	return t;
}

/* Every token equally likely, but for the candidates, which tell what the row had seen: the first is the token
 * just fed, the second's log-probability is minus the number of tokens before the prediction, BOS included. */
typedef struct { size_t rows, most, batches, done, asked; } seen;

static kf_status made_up(void *arg, const kf_batch *b, const kf_score_query *q, kf_score *out, kf_err *err)
{
	seen *s = arg;
	(void)err;
	s->rows += (size_t)b->T;
	s->batches++;
	if ((size_t)b->T > s->most) s->most = (size_t)b->T;
	for (int i = 0, t = 0; i < b->S; i++)
		for (int row = b->offset[i]; row < b->offset[i + 1]; row++) {
			if (q->rows && (t == q->n_rows || q->rows[t] != row)) continue;
			out->ce[t] = q->labels[t] < 0 ? NAN : logf(V);
			out->top_ids[t * K] = b->tokens[row];
			out->top_ids[t * K + 1] = q->labels[t];
			out->top_lp[t * K] = 0;
			out->top_lp[t * K + 1] = -(float)(row - b->offset[i] + 1);
			s->asked++;
			if (!q->range_off) {
				t++;
				continue;
			}
			for (int r = q->range_off[t]; r < q->range_off[t + 1]; r++)
				out->range_nlm[r] = -logf((float)(q->range_hi[r] - q->range_lo[r]) / V);
			out->extra_n[t] = q->range_off[t + 1] > q->range_off[t];
			out->extra_ids[t * E] = q->labels[t];
			out->extra_lp[t * E] = -1;
			t++;
		}
	return KF_OK;
}

static void count(void *arg, size_t tokens) { ((seen *)arg)->done += tokens; }

typedef struct {
	kf_tokenizer *t;
	int32_t *order;
	kf_arena arena;
	seen seen;
	kf_runner run;
} fixture;

static void setup(fixture *f, bool bos, bool dummy, int context, int batch_tokens)
{
	kf_err err;
	*f = (fixture){ .t = tokenizer(bos, dummy) };
	kf_arena_init(&f->arena);
	assert_int_equal(kf_run_order(f->t, V, &f->order, &err), KF_OK);
	f->run = (kf_runner){ .tokenizer = f->t, .order = f->order, .k = K, .byte_path = true, .path_min = 1, .path_extra = E,
		.context = context, .batch_tokens = batch_tokens, .score = made_up, .done = count, .arg = &f->seen };
}

static void teardown(fixture *f)
{
	kf_free(f->order);
	kf_arena_release(&f->arena);
	kf_tokenizer_free(f->t);
}

/* Most tokens before position p that any window shows, by trying all of them. */
static int best_context(int n, int context, bool bos, int p)
{
	int most = context - bos, stride = most / 2 ? most / 2 : 1, best = -1;
	for (int from = 0; from == 0 || from < n; from += stride) {
		int end = from + most < n ? from + most : n;
		if (p < from || p > end || (!bos && p == from)) continue;
		if (p - from + bos > best) best = p - from + bos;
	}
	return best;
}

static void windows(void **state)
{
	(void)state;
	static const struct { int n, context, batch; } shape[] = {
		{ 0, 8, 100 }, { 1, 8, 100 }, { 6, 8, 100 }, { 7, 8, 100 }, { 8, 8, 100 }, { 9, 8, 100 }, { 23, 8, 5 }, { 23, 8, 17 },
		{ 40, 9, 1000 }, { 12, 2, 10 }, { 12, 3, 10 }
	};
	for (int bos = 0; bos < 2; bos++)
		for (size_t i = 0; i < sizeof shape / sizeof *shape; i++) {
			int n = shape[i].n;
			fixture f;
			kf_err err;
			setup(&f, bos, false, shape[i].context, shape[i].batch);
			uint8_t text[64];
			int32_t ids[64];
			uint32_t start[65];
			for (int p = 0; p <= n; p++) {
				text[p] = (uint8_t)"abc"[p * p % 3];
				ids[p] = A + p * p % 3;
				start[p] = (uint32_t)p;
			}
			kf_corpus_rec docs[3];
			kf_encoding enc[3];
			kf_logits_rec out[3];
			for (int d = 0; d < 3; d++) {
				docs[d] = (kf_corpus_rec){ .head = { (uint64_t)d, "", "", 0, (uint32_t)n }, .text = text };
				enc[d] = (kf_encoding){ .n = (uint32_t)n, .ids = ids, .start = start };
			}
			assert_int_equal(kf_run_group(&f.run, docs, enc, 3, &f.arena, out, &err), KF_OK);
			for (int d = 0; d < 3; d++) {
				assert_int_equal(out[d].bos, bos);
				assert_int_equal(out[d].n, n);
				for (int p = 0; p <= n; p++) {
					if (p == 0 && !bos) {
						assert_int_equal(out[d].top_ids[0], -1);
						assert_true(out[d].top_lp[0] == -INFINITY);
						if (n) assert_true(isnan(out[d].ce[0]));
						continue;
					}
					assert_int_equal(out[d].top_ids[p * K], p ? ids[p - 1] : BOS);
					assert_int_equal(out[d].top_ids[p * K + 1], p < n ? ids[p] : -1);
					assert_int_equal(-out[d].top_lp[p * K + 1], best_context(n, shape[i].context, bos, p));
					if (p < n) assert_float_equal(out[d].ce[p], logf(V), 1e-6);
				}
				assert_int_equal(out[d].extra_off[n + 1], 0);
			}
			int fits = shape[i].context > shape[i].batch ? shape[i].context : shape[i].batch;
			assert_true((int)f.seen.most <= fits);
			assert_int_equal(f.seen.done, 3 * (n ? n - !bos : 0));
			assert_int_equal(f.seen.asked, 3 * (n + bos)); /* no row twice */
			teardown(&f);
		}
}

static void one(fixture *f, const char *text, const int32_t *ids, const uint32_t *start, uint32_t n, kf_logits_rec *out)
{
	kf_corpus_rec doc = { .head = { 0, "", "", 0, (uint32_t)strlen(text) }, .text = (const uint8_t *)text };
	kf_encoding enc = { .n = n, .ids = (int32_t *)(uintptr_t)ids, .start = (uint32_t *)(uintptr_t)start };
	kf_err err;
	if (kf_run_group(&f->run, &doc, &enc, 1, &f->arena, out, &err) != KF_OK) fail_msg("%s", err.text);
}

static void path(void **state)
{
	(void)state;
	fixture f;
	kf_logits_rec r;
	setup(&f, true, false, 100, 100);
	/* "abc" + "ab" + "b"; with "a": a, ab, abc and the byte; with "ab": ab, abc. */
	one(&f, "abcabb", (int32_t[]){ ABC, AB, B }, (uint32_t[]){ 0, 3, 5, 6 }, 3, &r);
	assert_true(r.has_path);
	const uint32_t off[] = { 0, 2, 3, 3 }, extra[] = { 0, 1, 2, 2, 2 };
	assert_memory_equal(r.path_off, off, sizeof off);
	assert_memory_equal(r.extra_off, extra, sizeof extra);
	assert_float_equal(r.path_nlm[0], -logf(4.f / V), 1e-6);
	assert_float_equal(r.path_nlm[1], -logf(2.f / V), 1e-6);
	assert_float_equal(r.path_nlm[2], -logf(4.f / V), 1e-6);
	assert_int_equal(r.extra_ids[0], ABC);
	assert_int_equal(r.extra_ids[1], AB);

	/* A token that stands for other bytes than it covers: the masses inside are its own. */
	one(&f, "xyzab", (int32_t[]){ ABC, AB }, (uint32_t[]){ 0, 3, 5 }, 2, &r);
	assert_float_equal(r.path_nlm[0], logf(V), 1e-6);
	assert_float_equal(r.path_nlm[1], logf(V), 1e-6);
	assert_float_equal(r.path_nlm[2], -logf(4.f / V), 1e-6);

	f.run.byte_path = false;
	one(&f, "abcabb", (int32_t[]){ ABC, AB, B }, (uint32_t[]){ 0, 3, 5, 6 }, 3, &r);
	assert_false(r.has_path);
	teardown(&f);

	/* Nothing is known inside the first token of a model without BOS. */
	setup(&f, false, false, 100, 100);
	one(&f, "abcab", (int32_t[]){ ABC, AB }, (uint32_t[]){ 0, 3, 5 }, 2, &r);
	assert_true(isnan(r.path_nlm[0]) && isnan(r.path_nlm[1]));
	assert_float_equal(r.path_nlm[2], -logf(4.f / V), 1e-6);
	teardown(&f);

	/* With a dummy prefix, token 0 is " ab": inside it stands " a", which only " ab" begins with. */
	setup(&f, true, true, 100, 100);
	one(&f, "ab", (int32_t[]){ SPACE_AB }, (uint32_t[]){ 0, 2 }, 1, &r);
	assert_int_equal(r.path_off[1], 1);
	assert_float_equal(r.path_nlm[0], logf(V), 1e-6);
	assert_int_equal(r.extra_off[1], 1);
	teardown(&f);
}

/* "ab" asked, " ab" and "c" answered: [ab] [ ] | [ ab] [c] [</s>] | [ ], where ' ' before "ab" is the template's. Only what is
 * no context is asked. */
static void conversation(void **state)
{
	static const int32_t ids[] = { AB, SPACE_AB, C_, EOS, BYTES + ' ' };
	static const uint32_t start[] = { 0, 2, 4, 5, 5, 5 }, skip[] = { 0, 1, 0, 0, 0 };
	static const uint8_t context[] = { 1, 0, 0, 0, 1, 1 };
	kf_corpus_rec doc = { .head = { 0, "", "", 0, 5 }, .text = (const uint8_t *)"ababc" };
	kf_err err;

	(void)state;
	for (int no_bos = 0; no_bos < 2; no_bos++) {
		kf_encoding enc = { .n = 5, .ids = (int32_t *)(uintptr_t)ids, .start = (uint32_t *)(uintptr_t)start, .context = context,
			.skip = skip, .no_bos = no_bos };
		kf_logits_rec r;
		fixture f;

		setup(&f, true, false, 100, 100);
		if (kf_run_group(&f.run, &doc, &enc, 1, &f.arena, &r, &err) != KF_OK) fail_msg("%s", err.text);
		assert_ptr_equal(r.context, context);
		assert_int_equal(r.bos, !no_bos);
		assert_int_equal(f.seen.asked, 3);
		for (uint32_t p = 0; p <= 5; p++) {
			assert_int_equal(kf_predicted(&r, p), p >= 1 && p <= 3);
			if (!kf_predicted(&r, p)) {
				assert_int_equal(r.top_ids[p * K], -1);
				assert_true(p == 5 || isnan(r.ce[p]));
				assert_int_equal(r.extra_off[p], r.extra_off[p + 1]);
				continue;
			}
			assert_int_equal(r.top_ids[p * K], ids[p - 1]);
			assert_int_equal(r.top_ids[p * K + 1], ids[p]);
			assert_int_equal(-r.top_lp[p * K + 1], p + !no_bos);
			assert_float_equal(r.ce[p], logf(V), 1e-6);
		}
		/* inside " ab", past the template's space, stands " a", which only " ab" begins with; in the user's "ab" nothing is known */
		assert_int_equal(r.path_off[5], 2);
		assert_true(isnan(r.path_nlm[0]));
		assert_float_equal(r.path_nlm[1], logf(V), 1e-6);
		assert_int_equal(r.extra_off[2] - r.extra_off[1], 1);
		teardown(&f);
	}
}

/* A long conversation in windows: those that would answer nothing are not run. */
static void conversation_windows(void **state)
{
	int32_t ids[60];
	uint32_t start[61];
	uint8_t text[60], context[61];
	kf_logits_rec r;
	kf_err err;
	fixture f;

	(void)state;
	setup(&f, true, false, 9, 9);
	for (uint32_t p = 0; p <= 60; p++) {
		start[p] = p;
		context[p] = !(p >= 50 && p < 53);
		if (p == 60) break;
		ids[p] = A;
		text[p] = 'a';
	}
	kf_corpus_rec doc = { .head = { 0, "", "", 0, 60 }, .text = text };
	kf_encoding enc = { .n = 60, .ids = ids, .start = start, .context = context };
	if (kf_run_group(&f.run, &doc, &enc, 1, &f.arena, &r, &err) != KF_OK) fail_msg("%s", err.text);
	assert_int_equal(f.seen.asked, 3);
	assert_true(f.seen.rows <= 18);
	for (uint32_t p = 50; p < 53; p++) assert_int_equal(-r.top_lp[p * K + 1], best_context(60, 9, true, (int)p));
	assert_int_equal(r.extra_off[61], 0);
	teardown(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(windows), cmocka_unit_test(path), cmocka_unit_test(conversation),
		cmocka_unit_test(conversation_windows) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
