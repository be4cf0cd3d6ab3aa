/* Damaged and hostile tokenizers: refused with a reason, or harmless; never a crash. */
#include "folder.h"

static const char *const fixtures[] = { "llama3", "gpt2-added", "falcon", "sp-llama", "sp-unigram", "sp-unk", "sp-merges", "sp-added" };

/* Whatever was made of damaged bytes must encode without harm. */
static void use(kf_tokenizer *t, kf_rng *r)
{
	kf_arena a;
	kf_encoding e;
	kf_err err;
	uint8_t text[400];

	kf_arena_init(&a);
	for (int i = 0; i < 8; i++) {
		size_t n = random_text(r, text, sizeof text);
		if (n && i % 2)
			text[kf_rng_below(r, n)] = (uint8_t)kf_rng_below(r, 256);
		kf_arena_reset(&a);
		if (kf_tokenizer_encode(t, text, n, i % 3 == 0, &a, &e, &err) == KF_OK) {
			assert_int_equal(e.start[e.n], n);
			for (uint32_t k = 0; k < e.n; k++)
				assert_true(e.ids[k] >= 0 && e.ids[k] < kf_tokenizer_size(t) && e.start[k] <= e.start[k + 1]);
		}
		if (n)
			assert_true(kf_tokenizer_first(t, text, n) < kf_tokenizer_size(t));
	}
	kf_arena_release(&a);
}

static void damage(kf_rng *r, uint8_t *p, size_t n)
{
	for (uint64_t k = kf_rng_below(r, 4) + 1; k--;) {
		size_t at = kf_rng_below(r, kf_rng_below(r, 2) ? n : n < 64 ? n : 64);
		static const uint8_t nasty[] = { 0, 1, 0x7f, 0x80, 0xff, '"', '{', '}', '9' };
		p[at] = kf_rng_below(r, 2) ? (uint8_t)kf_rng_below(r, 256) : nasty[kf_rng_below(r, LEN(nasty))];
	}
}

static void saved(void **state)
{
	(void)state;
	kf_rng r;
	kf_err err;

	kf_rng_seed(&r, 21);
	for (size_t k = 0; k < LEN(fixtures); k++) {
		kf_tokenizer *t = open_fixture(fixtures[k]), *u;
		kf_buf b = { 0 };
		assert_int_equal(kf_tokenizer_save(t, &b, &err), KF_OK);
		kf_tokenizer_free(t);
		uint8_t *p = malloc(b.len + 1);
		assert_non_null(p);
		for (size_t n = 0; n < b.len; n += 1 + n / 40) { /* cut short */
			uint8_t *q = malloc(n ? n : 1); /* exactly as long, so that a read past the end is seen */
			assert_non_null(q);
			memcpy(q, b.data, n);
			assert_int_equal(kf_tokenizer_load(q, n, &u, &err), KF_EDATA);
			assert_null(u);
			assert_true(strlen(err.text) > 10);
			free(q);
		}
		memcpy(p, b.data, b.len);
		p[b.len] = 0;
		assert_int_equal(kf_tokenizer_load(p, b.len + 1, &u, &err), KF_EDATA);
		for (int i = 0; i < 150; i++) {
			memcpy(p, b.data, b.len);
			damage(&r, p, b.len);
			if (kf_tokenizer_load(p, b.len, &u, &err) == KF_OK) {
				use(u, &r);
				kf_tokenizer_free(u);
			}
		}
		free(p);
		kf_buf_release(&b);
	}
	const uint8_t next[] = { 'K', 'F', 'T', 'O', 'K', 0, 2, 0, 0 };
	kf_tokenizer *u;
	assert_int_equal(kf_tokenizer_load(next, sizeof next, &u, &err), KF_EUNSUPPORTED);
	assert_non_null(strstr(err.text, "format 2"));
}

/* ---- folders ------------------------------------------------------------------------ */

static void files(void **state)
{
	(void)state;
	kf_rng r;
	kf_err err;

	kf_rng_seed(&r, 22);
	for (size_t k = 0; k < LEN(fixtures); k++) {
		static const char *const names[] = { "tokenizer.json", "tokenizer.model" };
		for (size_t i = 0; i < LEN(names); i++) {
			char path[KF_PATH_MAX];
			kf_buf b = { 0 };
			kf_tokenizer *t;
			snprintf(path, sizeof path, FIXTURES "%s/%s", fixtures[k], names[i]);
			if (!kf_exists(path))
				continue;
			assert_int_equal(kf_file_read(path, 1 << 24, &b, &err), KF_OK);
			clear();
			uint8_t *p = malloc(b.len);
			assert_non_null(p);
			for (int j = 0; j < 80; j++) {
				size_t n = j % 4 ? b.len : kf_rng_below(&r, b.len);
				memcpy(p, b.data, b.len);
				if (j % 4)
					damage(&r, p, n);
				put_file(names[i], p, n);
				if (kf_tokenizer_open_dir(dir, &t, &err) == KF_OK) {
					use(t, &r);
					kf_tokenizer_free(t);
				} else {
					assert_null(t);
					assert_true(err.code != KF_ENOMEM && strlen(err.text) > 10);
				}
			}
			free(p);
			kf_buf_release(&b);
		}
	}
}

#define MODEL(model) "{\"model\":{\"type\":\"BPE\"," model "},\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false}}"
#define FALLBACK(merges, more) "{\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"\xe2\x96\x81\"}," \
	"\"model\":{\"type\":\"BPE\",\"byte_fallback\":true,\"unk_token\":\"u\",\"vocab\":{\"a\":0,\"u\":1},\"merges\":" merges more "}}"
static void reasons(void **state)
{
	(void)state;
	static const struct { const char *json, *why; kf_status rc; } cases[] = {
		{ "", "JSON", KF_EDATA },
		{ "[]", "not a JSON object", KF_EDATA },
		{ "{}", "no model", KF_EDATA },
		{ "{\"model\":{\"type\":\"WordPiece\",\"vocab\":{\"a\":0}}}", "\"WordPiece\"", KF_EUNSUPPORTED },
		{ "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]}}", "byte-level", KF_EUNSUPPORTED },
		{ MODEL("\"vocab\":{\"a\":-1},\"merges\":[]"), "no believable id", KF_EDATA },
		{ MODEL("\"vocab\":{\"a\":2000000000},\"merges\":[]"), "no believable id", KF_EDATA },
		{ MODEL("\"vocab\":{\"a\":0,\"b\":0},\"merges\":[]"), "the same id", KF_EDATA },
		{ MODEL("\"vocab\":{\"a\":0,\"b\":1},\"merges\":[\"a b\"]"), "lacks", KF_EDATA },
		{ MODEL("\"vocab\":{\"a\":0,\"b\":1},\"merges\":[\"a c\"]"), "lacks", KF_EDATA },
		{ MODEL("\"vocab\":{\"a\":0,\"b\":1},\"merges\":[7]"), "no pair", KF_EDATA },
		{ MODEL("\"vocab\":{\"a\":0,\"b\":1},\"merges\":[[\"a\",\"b\",\"c\"]]"), "no pair", KF_EDATA },
		{ MODEL("\"vocab\":{\"a\":0}"), "merges", KF_EDATA },
		{ MODEL("\"vocab\":{\"a\":0},\"merges\":[],\"dropout\":0.1"), "dropout", KF_EUNSUPPORTED },
		{ MODEL("\"vocab\":{\"a\":0},\"merges\":[],\"end_of_word_suffix\":\"</w>\""), "end_of_word_suffix", KF_EUNSUPPORTED },
		{ MODEL("\"vocab\":{\"a\":0},\"merges\":[],\"unk_token\":\"u\""), "unk_token", KF_EDATA },
		{ MODEL("\"vocab\":{\"a\":0},\"merges\":[]},\"normalizer\":{\"type\":\"Lowercase\""), "\"Lowercase\"", KF_EUNSUPPORTED },
		{ MODEL("\"vocab\":{\"a\":0},\"merges\":[]},\"added_tokens\":[{\"content\":\"x\"}],\"x\":{"), "no id", KF_EDATA },
		{ MODEL("\"vocab\":{\"a\":0},\"merges\":[]},\"added_tokens\":[{\"id\":99999999,\"content\":\"x\"}],\"x\":{"), "99999999",
			KF_EDATA },
		{ FALLBACK("[]", ",\"ignore_merges\":true"), "ignore_merges", KF_EUNSUPPORTED },
		{ FALLBACK("[]", ""), "no tokens for bytes", KF_EDATA },
	};
	for (size_t i = 0; i < LEN(cases); i++) {
		kf_tokenizer *t;
		kf_err err;
		clear();
		put_text("tokenizer.json", cases[i].json);
		kf_status rc = kf_tokenizer_open_dir(dir, &t, &err);
		if (rc != cases[i].rc || !strstr(err.text, cases[i].why) || !strstr(err.text, dir))
			fail_msg("case %zu: %s: %s", i, kf_status_name(rc), rc ? err.text : "");
	}
	kf_tokenizer *t;
	kf_err err;
	clear();
	assert_int_equal(kf_tokenizer_open_dir(dir, &t, &err), KF_ENOTFOUND);
	assert_non_null(strstr(err.text, dir));
}

/* ---- SentencePiece models, piece by piece -------------------------------------------------- */

static void piece(kf_buf *b, const char *s, unsigned type)
{
	size_t n = strlen(s);
	kf_buf_u8(b, 1 << 3 | 2);
	kf_buf_u8(b, (uint8_t)(n + 4));
	kf_buf_u8(b, 1 << 3 | 2);
	kf_buf_u8(b, (uint8_t)n);
	kf_buf_put(b, s, n);
	kf_buf_u8(b, 3 << 3);
	kf_buf_u8(b, (uint8_t)type);
}

static void models(void **state)
{
	(void)state;
	static const uint8_t unigram[] = { 2 << 3 | 2, 2, 3 << 3, 1 }, words[] = { 2 << 3 | 2, 2, 3 << 3, 3 };
	static const uint8_t map[] = { 3 << 3 | 2, 10, 2 << 3 | 2, 8, 4, 0, 0, 0, 1, 2, 3, 0 };
	static const uint8_t suffix[] = { 2 << 3 | 2, 3, 0xc0, 1, 1 }; /* field 24 */
	static const struct { const char *p[3]; unsigned type[3]; const void *more; size_t n; const char *why; kf_status rc; } cases[] = {
		{ { "<unk>", "a", "b" }, { 2, 1, 1 }, unigram, 4, NULL, KF_OK },
		{ { "<unk>", "a", "a" }, { 2, 1, 1 }, unigram, 4, "same", KF_EDATA },
		{ { "a", "b", NULL }, { 1, 1, 1 }, unigram, 4, "unknown pieces", KF_EDATA },
		{ { "<unk>", "<u>", NULL }, { 2, 2, 1 }, unigram, 4, "unknown pieces", KF_EDATA },
		{ { "<unk>", "", NULL }, { 2, 1, 1 }, unigram, 4, "empty", KF_EDATA },
		{ { "<unk>", "\xff", NULL }, { 2, 1, 1 }, unigram, 4, "UTF-8", KF_EDATA },
		{ { "<unk>", "a", NULL }, { 2, 9, 1 }, unigram, 4, "damaged", KF_EDATA },
		{ { "<unk>", "<0x41>", NULL }, { 2, 6, 1 }, unigram, 4, "256", KF_EDATA },
		{ { "<unk>", "ab", NULL }, { 2, 6, 1 }, unigram, 4, "no byte", KF_EDATA },
		{ { "<unk>", "a", NULL }, { 2, 1, 1 }, words, 4, "type 3", KF_EUNSUPPORTED },
		{ { "<unk>", "a", NULL }, { 2, 1, 1 }, map, sizeof map, "character map", KF_EDATA },
		{ { "<unk>", "a", NULL }, { 2, 1, 1 }, suffix, sizeof suffix, "end of words", KF_EUNSUPPORTED },
		{ { "<unk>", "a", NULL }, { 2, 1, 1 }, "\x0a\x7f", 2, "damaged or cut short", KF_EDATA },
		{ { NULL }, { 0 }, unigram, 4, "no pieces", KF_EDATA },
	};
	for (size_t i = 0; i < LEN(cases); i++) {
		kf_buf b = { 0 };
		kf_tokenizer *t;
		kf_err err;
		for (int k = 0; k < 3 && cases[i].p[k]; k++)
			piece(&b, cases[i].p[k], cases[i].type[k]);
		kf_buf_put(&b, cases[i].more, cases[i].n);
		clear();
		put_file("tokenizer.model", b.data, b.len);
		kf_status rc = kf_tokenizer_open_dir(dir, &t, &err);
		if (rc != cases[i].rc || (cases[i].why && !strstr(err.text, cases[i].why)))
			fail_msg("case %zu: %s: %s", i, kf_status_name(rc), rc ? err.text : "");
		kf_tokenizer_free(t);
		kf_buf_release(&b);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(saved), cmocka_unit_test(files), cmocka_unit_test(reasons), cmocka_unit_test(models),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
