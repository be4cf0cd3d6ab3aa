/* --reference-quirks, row for row, against what the papers' published code returned
 * (tests/parity/reference/alignment.json says how it came about), for small tokenizers that are committed and
 * for the demo's where they are on this machine; and which rows --one-to-many weighted mixes, and how, against FuseChat's
 * first release (weighted.json). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "align/vocab.h"
#include "common/base/file.h"
#include "common/model/gguf.h"
#include "tests/unit/real_model.h"

enum { TOKENIZERS = 16 };

static struct { const char *name; kf_tokenizer *t; } opened[TOKENIZERS];

/* A folder of the repository, or a demo model's name; NULL: not on this machine. */
static kf_tokenizer *tokenizer(const char *name)
{
	char path[KF_PATH_MAX];
	kf_gguf *g;
	kf_vocab_spec spec;
	kf_arena arena;
	kf_err err;
	int i = 0;

	while (opened[i].name && strcmp(opened[i].name, name) != 0) i++;
	assert_true(i < TOKENIZERS);
	if (opened[i].name) return opened[i].t;
	opened[i].name = name;
	if (strchr(name, '/')) {
		if (kf_tokenizer_open_dir(name, &opened[i].t, &err) != KF_OK) fail_msg("%s", err.text);
		return opened[i].t;
	}
	if (!real_model(name, path)) return NULL;
	kf_arena_init(&arena);
	if (kf_gguf_open(path, &g, &err) != KF_OK || kf_gguf_vocab(g, &arena, &spec, &err) != KF_OK ||
	    kf_tokenizer_from_spec(&spec, &opened[i].t, &err) != KF_OK) fail_msg("%s", err.text);
	kf_gguf_close(g);
	kf_arena_release(&arena);
	return opened[i].t;
}

/* Before what has their names goes. */
static void close_tokenizers(void)
{
	for (int i = 0; i < TOKENIZERS; i++) kf_tokenizer_free(opened[i].t);
	memset(opened, 0, sizeof opened);
}

static const char *string(const json_t *o, const char *key)
{
	return json_string_value(json_object_get(o, key));
}

static double number(const json_t *rows, size_t i, size_t j)
{
	return json_number_value(json_array_get(json_array_get(rows, i), j));
}

/* The map that the fixture was made with, in the prefix map's place. */
static void make_up_map(kf_aligner *a, const kf_tokenizer *t, bool holes)
{
	for (int32_t id = 0; id < a->vs; id++) {
		int32_t to = (int32_t)(((int64_t)id * 7919 + 13) % a->vt);

		atomic_store(&a->first[id], holes && id % 5 == 0 ? -1 : kf_tokenizer_is_control(t, to) ? a->unknown : to);
	}
}

/* Rows of one side as a record: what stands around the text's own tokens is left out. */
static void record(const kf_tokenizer *t, const json_t *c, const char *rows, bool dtw, bool bos,
	kf_arena *arena, kf_logits_rec *r)
{
	const char *text = string(c, "text");
	const json_t *ids = json_object_get(c, rows);
	kf_encoding enc;
	kf_err err;

	if (kf_tokenizer_encode(t, (const uint8_t *)text, strlen(text), false, arena, &enc, &err) != KF_OK)
		fail_msg("%s", err.text);
	*r = (kf_logits_rec){ .head = { .doc = 1, .id = "", .domain = "", .bytes = (uint32_t)strlen(text) },
		.bos = bos, .n = enc.n, .tokens = enc.ids, .start = enc.start };
	assert_int_equal(json_array_size(ids), enc.n + r->bos + (dtw && kf_tokenizer_eos(t) >= 0));
	for (uint32_t i = 0; i < enc.n; i++)
		assert_int_equal(json_integer_value(json_array_get(ids, i + r->bos)), enc.ids[i]);
}

static void candidates(const json_t *c, kf_logits_rec *r, kf_arena *arena)
{
	const json_t *ids = json_object_get(c, "ids"), *logits = json_object_get(c, "logits");
	uint32_t k = (uint32_t)json_array_size(json_array_get(ids, 0));
	int32_t *top = KF_ARENA_NEW(arena, int32_t, (r->n + 1) * k);
	float *lp = KF_ARENA_NEW(arena, float, (r->n + 1) * k), *ce = KF_ARENA_NEW(arena, float, r->n + 1);

	/* without a BOS the first row is position 1's */
	for (uint32_t p = 0; p <= r->n; p++) {
		ce[p] = p == 0 && !r->bos ? NAN : 1;
		for (uint32_t j = 0; j < k; j++) {
			bool none = p == 0 && !r->bos;

			top[p * k + j] = none ? -1 : (int32_t)number(ids, p - !r->bos, j);
			lp[p * k + j] = none ? -INFINITY : (float)number(logits, p - !r->bos, j);
		}
	}
	r->k = k;
	r->top_ids = top;
	r->top_lp = lp;
	r->ce = ce;
}

/* Row row of what the code returned, its logits as the softmax that its collator makes of them. */
static void check_row(const json_t *c, const char *name, uint32_t row, const kf_dist_rec *r, uint32_t p)
{
	const json_t *ids = json_array_get(json_object_get(c, "out_ids"), row),
		*logits = json_array_get(json_object_get(c, "out_logits"), row);
	size_t n = json_array_size(ids);
	double sum = 0;

	if (r->off[p + 1] - r->off[p] != n)
		fail_msg("%s, row %u: %u candidates instead of %zu", name, row, r->off[p + 1] - r->off[p], n);
	for (size_t j = 0; j < n; j++) sum += exp(json_number_value(json_array_get(logits, j)));
	for (size_t j = 0; j < n; j++) {
		double q = exp(json_number_value(json_array_get(logits, j))) / sum, have = -1;

		for (uint32_t i = r->off[p]; i < r->off[p + 1]; i++)
			if (r->ids[i] == json_integer_value(json_array_get(ids, j))) have = exp(r->lp[i]);
		if (!(fabs(q - have) < 2e-6)) fail_msg("%s, row %u, token %d: %.7f instead of %.7f", name, row,
			(int)json_integer_value(json_array_get(ids, j)), have, q);
	}
	if (n > 0) assert_true(r->tail[p] < 2e-6f);
}

static bool one_case(const json_t *c)
{
	kf_tokenizer *s = tokenizer(string(c, "source")), *t = tokenizer(string(c, "target"));
	bool chat = strcmp(string(c, "method"), "dtw-chat") == 0, hard = strcmp(string(c, "type"), "hard") == 0;
	char name[512];
	kf_logits_rec src, tgt;
	kf_dist_rec out;
	kf_aligner *a;
	kf_arena arena;
	kf_err err = { 0 };

	if (!s || !t) return false;
	snprintf(name, sizeof name, "%s, %s onto %s", string(c, "name"), string(c, "source"), string(c, "target"));
	kf_arena_init(&arena);
	record(s, c, "source_rows", !chat, json_is_true(json_array_get(json_object_get(c, "bos"), 0)), &arena, &src);
	record(t, c, "target_rows", !chat, json_is_true(json_array_get(json_object_get(c, "bos"), 1)), &arena, &tgt);
	candidates(c, &src, &arena);
	if (kf_aligner_new(s, t, chat ? KF_ALIGN_DTW_CHAT : KF_ALIGN_DTW, hard ? KF_ALIGN_EXACT : KF_ALIGN_PREFIX,
		&a, &err) != KF_OK ||
	    kf_aligner_quirks(a, &err) != KF_OK) fail_msg("%s", err.text);
	if (!hard) make_up_map(a, t, chat);
	if (kf_align_doc(a, &src, &tgt, &arena, &out, NULL, &err) != KF_OK) fail_msg("%s", err.text);
	if (!tgt.bos) assert_int_equal(out.off[1], 0);
	for (uint32_t row = 0; row < tgt.n + tgt.bos; row++) {
		uint32_t p = row + 1 - tgt.bos;

		/* a conversation's last row is masked from the loss and left out */
		if (chat && p == tgt.n) assert_int_equal(out.off[p + 1], out.off[p]);
		else check_row(c, name, row, &out, p);
	}
	kf_aligner_free(a);
	kf_arena_release(&arena);
	return true;
}

static void published_code(void **state)
{
	json_error_t je;
	json_t *all = json_load_file("tests/parity/reference/alignment.json", 0, &je), *c;
	int done = 0;
	size_t i;

	(void)state;
	if (!all) fail_msg("alignment.json: %s", je.text);
	json_array_foreach(json_object_get(all, "cases"), i, c) done += one_case(c);
	print_message("%d of %zu cases\n", done, json_array_size(json_object_get(all, "cases")));
	assert_true(done > 0);
	close_tokenizers();
	json_decref(all);
}

/* Candidates of .3 and .2 everywhere. The fixture's were all of logit 1, so what came out are the rows' weights: of its
 * ids each is an image of one row's first or second candidate. */
static int weighted_case(const json_t *c)
{
	kf_tokenizer *s = tokenizer(string(c, "source")), *t = tokenizer(string(c, "target"));
	const json_t *row, *given = json_object_get(c, "ids");
	align_pairs counts = { 0 };
	kf_logits_rec src, tgt;
	kf_dist_rec out;
	kf_aligner *a;
	kf_arena arena;
	kf_err err = { 0 };
	size_t i;

	kf_arena_init(&arena);
	record(s, c, "source_rows", false, json_is_true(json_array_get(json_object_get(c, "bos"), 0)), &arena, &src);
	record(t, c, "target_rows", false, json_is_true(json_array_get(json_object_get(c, "bos"), 1)), &arena, &tgt);
	candidates(c, &src, &arena);
	float *lp = KF_ARENA_NEW(&arena, float, (src.n + 1) * src.k);
	for (i = 0; i < (src.n + 1) * src.k; i++) lp[i] = (float)log(i % 2 ? .2 : .3);
	src.top_lp = lp;
	json_array_foreach(json_object_get(c, "counts"), i, row)
		assert_true(align_pairs_add(&counts, (int32_t)json_integer_value(json_array_get(row, 1)),
			(int32_t)json_integer_value(json_array_get(row, 0)), (uint64_t)json_integer_value(json_array_get(row, 2))));
	assert_true(align_pairs_sort(&counts));
	if (kf_aligner_new(s, t, KF_ALIGN_DTW_CHAT, KF_ALIGN_EXACT, &a, &err) != KF_OK || kf_aligner_weigh(a, &counts, &err) != KF_OK ||
	    kf_align_doc(a, &src, &tgt, &arena, &out, NULL, &err) != KF_OK) fail_msg("%s", err.text);
	json_array_foreach(json_object_get(c, "mixed"), i, row) {
		const json_t *ids = json_object_get(row, "ids"), *weights = json_object_get(row, "weights");
		uint32_t r = (uint32_t)json_integer_value(json_object_get(row, "row")), p = r + 1 - tgt.bos;

		if (out.off[p + 1] - out.off[p] != json_array_size(ids))
			fail_msg("%s, row %u: %u candidates instead of %zu", string(c, "text"), r, out.off[p + 1] - out.off[p], json_array_size(ids));
		for (size_t j = 0; j < json_array_size(ids); j++) {
			int32_t id = (int32_t)json_integer_value(json_array_get(ids, j));
			double w = json_number_value(json_array_get(weights, j)), q = 0, p1 = -1;

			for (size_t from = 0; from < json_array_size(given); from++)
				for (size_t k = 0; k < 2; k++)
					if (a->exact[(int32_t)number(given, from, k)] == id) p1 = k ? .2 : .3;
			for (uint32_t k = out.off[p]; k < out.off[p + 1]; k++)
				if (out.ids[k] == id) q = exp(out.lp[k]);
			if (!(fabs(q - w * p1) < 1e-6)) fail_msg("%s, row %u, token %d: %.7f instead of %.7f", string(c, "text"), r, id, q, w * p1);
		}
		assert_true(fabs(out.tail[p] - .5) < 1e-5);
	}
	kf_aligner_free(a);
	align_pairs_release(&counts);
	kf_arena_release(&arena);
	return (int)i;
}

static void weighted_rows(void **state)
{
	json_error_t je;
	json_t *all = json_load_file("tests/parity/reference/weighted.json", 0, &je), *c;
	int rows = 0;
	size_t i;

	(void)state;
	if (!all) fail_msg("weighted.json: %s", je.text);
	json_array_foreach(json_object_get(all, "cases"), i, c) rows += weighted_case(c);
	print_message("%d rows\n", rows);
	assert_true(rows > 20);
	close_tokenizers();
	json_decref(all);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(published_code),
		cmocka_unit_test(weighted_rows),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
