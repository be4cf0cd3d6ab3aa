/* kf-align from set to set: what comes out is what kf_align_doc gives, whatever the threads, parts and interruptions. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <unistd.h>

#include "common/base/progress.h"
#include "synth.h"

enum { SHARDS = 3, DOCS = 40 };

typedef struct {
	char dir[64];
	kf_tokenizer *src, *tgt;
	kf_arena arena;
	kf_pool *pool;
	uint8_t text[DOCS][80];
	synth_model s[DOCS], t[DOCS];
} fixture;

static void ok(kf_status rc, const kf_err *err)
{
	if (rc != KF_OK) fail_msg("%s", err->text);
}

static const char *path(const fixture *f, const char *name)
{
	static char out[8][128];
	static int turn;

	turn = (turn + 1) % 8;
	snprintf(out[turn], sizeof out[turn], "%s/%s", f->dir, name);
	return out[turn];
}

/* Documents 0 .. DOCS-1 over the shards, in order; of several folds those of the others without a token, as kf-extract --fold leaves them. shifted:
 * dealt in another way. */
static void write_fold(fixture *f, const char *name, const kf_tokenizer *tok, const synth_model *m, uint64_t corpus, bool with_path, bool f32,
	int fold, int folds, bool shifted)
{
	kf_set_input in[3] = { { .role = "corpus", .name = "c", .fp = { 1, corpus } }, { .role = "model", .name = name, .fp = kf_tokenizer_fp(tok) },
		{ .role = "tokenizer", .name = name, .fp = kf_tokenizer_fp(tok) } };
	kf_set_spec spec = { .dir = path(f, name), .kind = KF_SET_LOGITS, .program = "test", .inputs = in, .n_inputs = 3,
		.n_shards = SHARDS, .f32 = f32 };
	kf_set_writer *w;
	kf_set_state state;
	kf_buf saved = { 0 };
	kf_err err;
	bool complete;

	ok(kf_tokenizer_save(tok, &saved, &err), &err);
	spec.tokenizer = saved.data;
	spec.tokenizer_size = saved.len;
	spec.info = json_pack("{s:s}", "model", name);
	if (folds > 1) json_object_set_new(spec.info, "fold", json_sprintf("%d/%d", fold, folds));
	ok(kf_set_begin(&spec, &w, &state, &err), &err);
	for (int i = 0; i < SHARDS; i++) {
		kf_shard_writer *sw;

		ok(kf_shard_begin(w, i, &sw, &err), &err);
		for (int d = i * DOCS / SHARDS; d < (i + 1) * DOCS / SHARDS; d++) {
			kf_logits_rec r = m[d].rec;

			if (!with_path) {
				r.has_path = false;
				r.path_off = r.extra_off = NULL;
			}
			if ((kf_fold_of(&r.head, folds) + shifted) % folds != fold) r.n = 0;
			ok(kf_shard_put_logits(sw, &r, &err), &err);
		}
		ok(kf_shard_commit(sw, &err), &err);
	}
	ok(kf_set_commit(w, NULL, &complete, &err), &err);
	assert_true(complete);
	json_decref(spec.info);
	kf_buf_release(&saved);
}

static void write_set(fixture *f, const char *name, const kf_tokenizer *tok, const synth_model *m, uint64_t corpus, bool with_path, bool f32)
{
	write_fold(f, name, tok, m, corpus, with_path, f32, 0, 1, false);
}

static int setup(void **state)
{
	static const char *const ms[] = { "a b", "ab c", "b c", "d d", "dd a" }, *const mt[] = { "b c", "c d", "a a", "bc d" };
	fixture *f = calloc(1, sizeof *f);
	kf_rng rng;
	kf_err err;

	snprintf(f->dir, sizeof f->dir, "/tmp/kfuse-test-align.XXXXXX");
	if (!mkdtemp(f->dir)) return 1;
	f->src = synth_bpe("abcd", ms, 5, true);
	f->tgt = synth_bpe("abcd", mt, 4, false);
	kf_arena_init(&f->arena);
	kf_rng_seed(&rng, 11);
	for (int d = 0; d < DOCS; d++) {
		static const char *const domains[] = { "prose", "code" };
		uint32_t bytes = 1 + (uint32_t)kf_rng_below(&rng, 79);
		kf_dochead head = { .doc = (uint64_t)d, .id = "", .domain = domains[d & 1], .bytes = bytes };

		for (uint32_t i = 0; i < bytes; i++) f->text[d][i] = (uint8_t)('a' + kf_rng_below(&rng, 4));
		f->s[d] = synth_run(f->src, f->text[d], bytes, 4, true, &rng, &f->arena);
		f->t[d] = synth_run(f->tgt, f->text[d], bytes, 4, false, &rng, &f->arena);
		f->s[d].rec.head = f->t[d].rec.head = head;
	}
	if (kf_pool_new(3, &f->pool, &err) != KF_OK) return 1;
	write_set(f, "src", f->src, f->s, 7, true, true);
	write_set(f, "tgt", f->tgt, f->t, 7, true, true);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	fixture *f = *state;
	char command[128];

	snprintf(command, sizeof command, "rm -rf %s", f->dir);
	if (system(command) != 0) return 1;
	kf_pool_free(f->pool);
	kf_tokenizer_free(f->src);
	kf_tokenizer_free(f->tgt);
	kf_arena_release(&f->arena);
	free(f);
	return 0;
}

static kf_status run(fixture *f, const char *src, const char *tgt, const char *out, kf_align_method method, const char *shard,
	kf_pool *pool, int precision, kf_set_state *state, json_t **stats, kf_err *err)
{
	const char *source[8];
	int n = 0;
	char names[128];

	/* several, with spaces between */
	snprintf(names, sizeof names, "%s", src);
	for (char *w = strtok(names, " "); w; w = strtok(NULL, " ")) source[n++] = path(f, w);

	kf_align_opts o = { .source = source, .folds = n, .target = path(f, tgt), .out = path(f, out), .method = method,
		.map = method == KF_ALIGN_DTW ? KF_ALIGN_EXACT : KF_ALIGN_PREFIX, .precision = precision, .shard = shard,
		.progress = KF_PROGRESS_NONE, .program = "test" };

	return kf_align_run(&o, pool, state, stats, err);
}

/* Every document of the set is the one kf_align_doc makes; tolerance 0 for f32. */
static void check_set(fixture *f, const char *name, double tolerance)
{
	kf_aligner *al;
	kf_arena arena;
	kf_set *set;
	kf_err err;
	int d = 0;

	ok(kf_aligner_new(f->src, f->tgt, KF_ALIGN_BYTE, KF_ALIGN_PREFIX, &al, &err), &err);
	ok(kf_set_open(path(f, name), KF_SET_ALIGNED, &set, &err), &err);
	kf_arena_init(&arena);
	for (int i = 0; i < SHARDS; i++) {
		kf_shard *s;
		kf_dist_rec got, want;
		kf_status rc;

		ok(kf_shard_open(set, i, &s, &err), &err);
		while ((rc = kf_shard_next_dist(s, &arena, &got, &err)) == KF_OK) {
			double sum = 0, own = 0;

			ok(kf_align_doc(al, &f->s[d].rec, &f->t[d].rec, &arena, &want, NULL, &err), &err);
			assert_int_equal(got.head.doc, d);
			assert_string_equal(got.head.domain, want.head.domain);
			assert_int_equal(got.n, want.n);
			assert_int_equal(got.source_tokens, want.source_tokens);
			assert_int_equal(got.source_tokens, f->s[d].rec.n);
			assert_false(got.bos);
			assert_memory_equal(got.off, want.off, (got.n + 2) * sizeof *got.off);
			assert_memory_equal(got.tokens, want.tokens, got.n * sizeof *got.tokens);
			if (tolerance == 0) assert_memory_equal(got.ids, want.ids, got.off[got.n + 1] * sizeof *got.ids);
			for (uint32_t p = 0; p < got.n; p++) {
				assert_true(fabs((double)got.ce[p] - (double)want.ce[p]) <= (tolerance > 0 ? 1.0 / 512 : 0));
				sum += got.ce[p];
			}
			for (uint32_t p = 0; p < f->s[d].rec.n; p++) own += f->s[d].rec.ce[p];
			assert_true(fabs(sum - own) < 1e-4 + got.n * tolerance / 8);
			for (uint32_t p = 0; p <= got.n; p++) {
				double q = 0;

				for (uint32_t j = got.off[p]; j < got.off[p + 1]; j++) q += exp((double)got.lp[j]);
				assert_true(q <= 1);
			}
			if (tolerance == 0)
				for (uint32_t j = 0; j < got.off[got.n + 1]; j++) assert_true(got.lp[j] == want.lp[j]);
			d++;
			kf_arena_reset(&arena);
		}
		assert_int_equal(rc, KF_END);
		kf_shard_close(s);
	}
	assert_int_equal(d, DOCS);
	kf_set_close(set);
	kf_arena_release(&arena);
	kf_aligner_free(al);
}

static void whole(void **state)
{
	fixture *f = *state;
	kf_set_state st;
	json_t *stats, *other;
	kf_err err;
	kf_set *a, *b;

	ok(run(f, "src", "tgt", "out1", KF_ALIGN_BYTE, NULL, NULL, 0, &st, &stats, &err), &err);
	assert_int_equal(st, KF_SET_NEW);
	check_set(f, "out1", 0);
	/* three threads: the same set, the same statistics */
	ok(run(f, "src", "tgt", "out3", KF_ALIGN_BYTE, NULL, f->pool, 0, &st, &other, &err), &err);
	check_set(f, "out3", 0);
	assert_true(json_equal(stats, other));
	assert_true(json_number_value(json_object_get(json_object_get(stats, "all"), "documents")) == DOCS);
	assert_true(json_object_size(json_object_get(stats, "domains")) == 2);
	json_decref(other);
	/* the identity is of what made it */
	ok(kf_set_open(path(f, "out1"), KF_SET_ALIGNED, &a, &err), &err);
	ok(kf_set_open(path(f, "out3"), KF_SET_ALIGNED, &b, &err), &err);
	assert_true(kf_fp_equal(kf_set_fp(a), kf_set_fp(b)));
	assert_true(json_equal(json_object_get(kf_set_manifest(a), "stats"), stats));
	kf_set_close(a);
	kf_set_close(b);
	/* again: nothing to do */
	ok(run(f, "src", "tgt", "out1", KF_ALIGN_BYTE, NULL, f->pool, 0, &st, &other, &err), &err);
	assert_int_equal(st, KF_SET_CURRENT);
	assert_null(other);
	/* another target or precision: refused */
	assert_int_equal(run(f, "src", "src", "out1", KF_ALIGN_BYTE, NULL, NULL, 0, &st, &other, &err), KF_EMISMATCH);
	json_decref(stats);
}

static void parts(void **state)
{
	fixture *f = *state;
	kf_set_state st;
	json_t *stats, *last;
	kf_err err;
	kf_set *set;

	ok(run(f, "src", "tgt", "parts", KF_ALIGN_BYTE, "1/3", NULL, 0, &st, &stats, &err), &err);
	assert_null(stats);
	assert_int_equal(kf_set_open(path(f, "parts"), KF_SET_ALIGNED, &set, &err), KF_ENOTFOUND);
	ok(run(f, "src", "tgt", "parts", KF_ALIGN_BYTE, "0/3", NULL, 0, &st, &stats, &err), &err);
	assert_null(stats);
	/* the last part completes it, and counts what the others did */
	ok(run(f, "src", "tgt", "parts", KF_ALIGN_BYTE, "2/3", NULL, 0, &st, &last, &err), &err);
	check_set(f, "parts", 0);
	ok(run(f, "src", "tgt", "at-once", KF_ALIGN_BYTE, NULL, NULL, 0, &st, &stats, &err), &err);
	assert_non_null(last);
	assert_true(json_equal(stats, last));
	json_decref(stats);
	json_decref(last);
}

static void packed(void **state)
{
	fixture *f = *state;
	kf_set_state st;
	json_t *stats;
	kf_err err;

	ok(run(f, "src", "tgt", "packed", KF_ALIGN_BYTE, NULL, NULL, 1, &st, &stats, &err), &err);
	json_decref(stats);
	check_set(f, "packed", 1.0 / 32);
}

/* What the folds of a source say, put together, is what a set of the whole text says. */
static void folds(void **state)
{
	static const struct { const char *src, *want; } bad[] = {
		{ "f0 f2", "is fold 0/3 of the text: give the sets of all 3 folds" }, { "f0", "give the sets of all 3 folds" },
		{ "f0 f0 f1", "are both fold 0/3" }, { "src src", "is of the whole text" }, { "f0 f1 other", "have different tokenizers" },
		{ "f0 f1 text", "different corpora" }, { "g0 g1 g2", "its folds were dealt in another way" },
	};
	fixture *f = *state;
	kf_set_state st;
	json_t *stats, *other;
	kf_err err;

	for (int i = 0; i < 3; i++) {
		char name[16];

		snprintf(name, sizeof name, "f%d", i);
		write_fold(f, name, f->src, f->s, 7, true, true, i, 3, false);
		name[0] = 'g';
		write_fold(f, name, f->src, f->s, 7, true, true, i, 3, true);
	}
	ok(run(f, "f0 f1 f2", "tgt", "folds", KF_ALIGN_BYTE, NULL, NULL, 0, &st, &stats, &err), &err);
	check_set(f, "folds", 0);
	ok(run(f, "src", "tgt", "of-the-whole", KF_ALIGN_BYTE, NULL, NULL, 0, &st, &other, &err), &err);
	assert_true(json_equal(stats, other));
	json_decref(stats);
	json_decref(other);
	/* the order in which they are given is nothing to the set */
	ok(run(f, "f2 f0 f1", "tgt", "folds", KF_ALIGN_BYTE, NULL, NULL, 0, &st, &stats, &err), &err);
	assert_int_equal(st, KF_SET_CURRENT);
	write_fold(f, "other", f->tgt, f->t, 7, true, true, 2, 3, false);
	write_fold(f, "text", f->src, f->s, 8, true, true, 2, 3, false);
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		assert_int_not_equal(run(f, bad[i].src, "tgt", "refused", KF_ALIGN_BYTE, NULL, NULL, 0, &st, &stats, &err), KF_OK);
		if (!strstr(err.text, bad[i].want)) fail_msg("%s: %s", bad[i].src, err.text);
	}
}

static void refusals(void **state)
{
	fixture *f = *state;
	kf_set_state st;
	json_t *stats;
	kf_err err;

	write_set(f, "no-path", f->src, f->s, 7, false, true);
	ok(run(f, "no-path", "tgt", "x1", KF_ALIGN_BYTE, NULL, NULL, 0, &st, &stats, &err), &err);
	json_decref(stats);
	ok(run(f, "no-path", "tgt", "x2", KF_ALIGN_DTW, NULL, NULL, 0, &st, &stats, &err), &err);
	json_decref(stats);

	write_set(f, "other", f->src, f->s, 8, true, true);
	assert_int_equal(run(f, "other", "tgt", "x3", KF_ALIGN_BYTE, NULL, NULL, 0, &st, &stats, &err), KF_EMISMATCH);
	assert_non_null(strstr(err.text, "different corpora"));
	assert_int_equal(run(f, "nowhere", "tgt", "x4", KF_ALIGN_BYTE, NULL, NULL, 0, &st, &stats, &err), KF_ENOTFOUND);
	assert_int_equal(run(f, "x2", "tgt", "x5", KF_ALIGN_BYTE, NULL, NULL, 0, &st, &stats, &err), KF_EMISMATCH);
	assert_int_equal(run(f, "src", "tgt", "x6", KF_ALIGN_BYTE, "3/3", NULL, 0, &st, &stats, &err), KF_EUSAGE);

	/* same corpus fingerprint, but a document has another length: found when it is read, and no set is left */
	f->s[5].rec.head.piece = 1;
	write_set(f, "piece", f->src, f->s, 7, true, true);
	f->s[5].rec.head.piece = 0;
	kf_set *set;
	assert_int_equal(run(f, "piece", "tgt", "x7", KF_ALIGN_BYTE, NULL, f->pool, 0, &st, &stats, &err), KF_EMISMATCH);
	assert_non_null(strstr(err.text, "ocument 5"));
	assert_int_equal(kf_set_open(path(f, "x7"), KF_SET_ALIGNED, &set, &err), KF_ENOTFOUND);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(whole, setup, teardown),
		cmocka_unit_test_setup_teardown(parts, setup, teardown),
		cmocka_unit_test_setup_teardown(packed, setup, teardown),
		cmocka_unit_test_setup_teardown(folds, setup, teardown),
		cmocka_unit_test_setup_teardown(refusals, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
