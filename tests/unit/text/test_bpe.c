/* Byte-level BPE and pre-tokenizers: worked by hand, and against slower ways to say the same. */
#include "util.h"

#include "common/base/pool.h"

enum { A, B, C, SPACE, AB, ABC, SA, CTL, USR, N };
static const char *const pieces[] = { "a", "b", "c", "\xc4\xa0", "ab", "abc", "\xc4\xa0" "a", "<c>", "[u]" };
static const int32_t types[] = { 1, 1, 1, 1, 1, 1, 1, KF_TT_CONTROL, KF_TT_USER };
static const char *const merges[] = { "a b", "ab c", "\xc4\xa0 a" };
static const kf_vocab_spec tiny = { .model = "gpt2", .pre = "gpt-2", .n = N, .pieces = pieces, .types = types, .n_merges = 3,
	.merges = merges, .bos = CTL, .eos = CTL, .unk = -1, .pad = -1 };

static kf_tokenizer *make(const kf_vocab_spec *s)
{
	kf_tokenizer *t;
	kf_err err;
	if (kf_tokenizer_from_spec(s, &t, &err) != KF_OK)
		fail_msg("%s", err.text);
	return t;
}

static void by_hand(void **state)
{
	(void)state;
	kf_tokenizer *t = make(&tiny);
	uint32_t n;

	expect(t, "abc", 3, false, IDS(ABC), AT(0, 3), 1);
	expect(t, "abc ab", 6, false, IDS(ABC, SPACE, AB), AT(0, 3, 4, 6), 3); /* "a b" has the lower rank than "Ġ a" */
	expect(t, " a", 2, false, IDS(SA), AT(0, 2), 1);
	expect(t, "", 0, false, NULL, AT(0), 0);
	/* bytes without a token belong to their neighbour; neighbours merge over them */
	expect(t, "abx", 3, false, IDS(AB), AT(0, 3), 1);
	expect(t, "xab", 3, false, IDS(AB), AT(0, 3), 1);
	expect(t, "axb", 3, false, IDS(AB), AT(0, 3), 1);
	expect(t, "xyz", 3, false, NULL, AT(3), 0);
	/* what is no UTF-8 is a word of its own */
	expect(t, "a\xff" "b", 3, false, IDS(A, B), AT(0, 2, 3), 2);
	/* added tokens */
	expect(t, "ab[u]c", 6, false, IDS(AB, USR, C), AT(0, 2, 5, 6), 3);
	expect(t, "a<c>b", 5, true, IDS(A, CTL, B), AT(0, 1, 4, 5), 3);
	expect(t, "a<c>b", 5, false, IDS(A, C, B), AT(0, 2, 4, 5), 3);
	assert_memory_equal(kf_tokenizer_bytes(t, SA, &n), " a", 2);
	assert_int_equal(n, 2);
	kf_tokenizer_bytes(t, CTL, &n);
	assert_int_equal(n, 0);
	assert_true(kf_tokenizer_is_control(t, CTL));
	assert_memory_equal(kf_tokenizer_bytes(t, USR, &n), "[u]", 3);
	assert_string_equal(kf_tokenizer_piece(t, SA), "\xc4\xa0" "a");
	assert_int_equal(kf_tokenizer_bos(t), -1); /* named, but not added */
	assert_int_equal(kf_tokenizer_eos(t), CTL);
	/* the prefix map */
	assert_int_equal(kf_tokenizer_first(t, (const uint8_t *)"abc a", 5), ABC);
	assert_int_equal(kf_tokenizer_first(t, (const uint8_t *)" ab", 3), SPACE);
	assert_int_equal(kf_tokenizer_first(t, (const uint8_t *)"b c", 3), B);
	assert_int_equal(kf_tokenizer_first(t, (const uint8_t *)"[u]", 3), USR);
	assert_int_equal(kf_tokenizer_first(t, (const uint8_t *)"x", 1), -1);
	assert_int_equal(kf_tokenizer_first(t, (const uint8_t *)"ab\xe2", 3), AB);
	kf_tokenizer_free(t);
}

static void errors(void **state)
{
	(void)state;
	kf_tokenizer *t;
	kf_err err;
	kf_vocab_spec s = tiny;

	s.pre = "no-such";
	assert_int_equal(kf_tokenizer_from_spec(&s, &t, &err), KF_EUNSUPPORTED);
	assert_non_null(strstr(err.text, "\"no-such\""));
	s = tiny;
	s.model = "bert";
	assert_int_equal(kf_tokenizer_from_spec(&s, &t, &err), KF_EUNSUPPORTED);
	assert_non_null(strstr(err.text, "\"bert\""));
	s = tiny;
	s.eos = N;
	assert_int_equal(kf_tokenizer_from_spec(&s, &t, &err), KF_EDATA);
	s = tiny;
	s.merges = (const char *const[]){ "a b", "ab c", "b a" };
	assert_int_equal(kf_tokenizer_from_spec(&s, &t, &err), KF_EDATA);
	assert_non_null(strstr(err.text, "lacks"));
	s.merges = (const char *const[]){ "a b", "ab", "b a" };
	assert_int_equal(kf_tokenizer_from_spec(&s, &t, &err), KF_EDATA);
	assert_null(t);
}

/* sorted and range against the definition. */
static void sorted(void **state)
{
	(void)state;
	static const char *const names[] = { "llama3", "gpt2-added", "sp-llama", "sp-unigram" };
	for (size_t k = 0; k < LEN(names); k++) {
		kf_tokenizer *t = open_fixture(names[k]);
		int32_t with, n = kf_tokenizer_size(t), lo, hi;
		const int32_t *s = kf_tokenizer_sorted(t, &with);
		uint8_t q[8];
		kf_rng r;
		for (int32_t i = 0; i < n; i++) {
			uint32_t a, b = 0;
			const uint8_t *p = kf_tokenizer_bytes(t, s[i], &a), *prev = i ? kf_tokenizer_bytes(t, s[i - 1], &b) : NULL;
			assert_int_equal(a > 0, i < with);
			if (i && a && b) {
				int c = memcmp(prev, p, a < b ? a : b);
				assert_true(c < 0 || (c == 0 && (b < a || (b == a && s[i - 1] < s[i]))));
			} else if (i && !b) {
				assert_true(s[i - 1] < s[i]);
			}
		}
		kf_rng_seed(&r, k);
		for (int i = 0; i < 3000; i++) {
			uint32_t l;
			const uint8_t *p = kf_tokenizer_bytes(t, (int32_t)kf_rng_below(&r, (uint64_t)n), &l);
			size_t m = 1 + kf_rng_below(&r, 8);
			memset(q, (int)kf_rng_below(&r, 2) * 0xff, sizeof q);
			memcpy(q, p, l < 8 ? l : 8);
			if (kf_rng_below(&r, 3) == 0)
				q[m - 1] = (uint8_t)kf_rng_below(&r, 256);
			kf_tokenizer_range(t, q, m, &lo, &hi);
			for (int32_t j = 0; j < with; j++) {
				const uint8_t *b = kf_tokenizer_bytes(t, s[j], &l);
				assert_int_equal(l >= m && memcmp(b, q, m) == 0, j >= lo && j < hi);
			}
		}
		kf_tokenizer_free(t);
	}
}

/* Long tokens, zero bytes: where the eight leading bytes do not decide. */
static void long_ranges(void **state)
{
	(void)state;
	static const char *const p[] = { "\xc4\x80", "\xc4\x80\xc4\x80", "a", "a\xc4\x80", "a\xc4\x80\xc4\x80", "aaaaaaaa", "aaaaaaaab",
		"aaaaaaaabc", "aaaaaaaac", "aaaaaaaa\xc4\x80", "\xc3\xbf\xc3\xbf\xc3\xbf\xc3\xbf\xc3\xbf\xc3\xbf\xc3\xbf\xc3\xbf\xc3\xbf" };
	kf_vocab_spec s = { .model = "gpt2", .pre = "gpt-2", .n = LEN(p), .pieces = p, .bos = -1, .eos = -1, .unk = -1, .pad = -1 };
	kf_tokenizer *t = make(&s);
	static const struct { const char *q; size_t n; int32_t count; } cases[] = { { "\0", 1, 2 }, { "\0\0", 2, 1 }, { "a", 1, 8 },
		{ "a\0", 2, 2 }, { "a\0\0", 3, 1 }, { "a\0\0\0", 4, 0 }, { "aa", 2, 5 }, { "aaaaaaaa", 8, 5 }, { "aaaaaaaab", 9, 2 },
		{ "aaaaaaaa\0", 9, 1 }, { "aaaaaaaabc", 10, 1 }, { "aaaaaaaabcd", 11, 0 }, { "\xff\xff\xff\xff\xff\xff\xff\xff", 8, 1 },
		{ "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 10, 0 } };
	for (size_t i = 0; i < LEN(cases); i++) {
		int32_t lo, hi;
		kf_tokenizer_range(t, (const uint8_t *)cases[i].q, cases[i].n, &lo, &hi);
		assert_int_equal(hi - lo, cases[i].count);
	}
	kf_tokenizer_free(t);
}

/* ---- pre-tokenizers ----------------------------------------------------------------- */

typedef struct { const uint8_t *base; size_t n; uint32_t at[4096]; } cuts;

static bool note(void *arg, const uint8_t *p, size_t n)
{
	cuts *c = arg;
	assert_true(c->n < LEN(c->at));
	c->at[c->n++] = (uint32_t)(p - c->base) << 12 | (uint32_t)n;
	return true;
}

static void cut(const kf_pretok *p, const uint8_t *text, size_t n, cuts *c)
{
	kf_pretok_run run;
	kf_err err;
	c->base = text;
	c->n = 0;
	assert_int_equal(kf_pretok_begin(p, &run, &err), KF_OK);
	assert_int_equal(kf_pretok_words(p, &run, text, n, note, c, &err), KF_OK);
	kf_pretok_end(&run);
}

/* The words of a text, with a bar between. */
static const char *words(const kf_pretok *p, const char *text, char *out, size_t size)
{
	size_t n = 0;
	cuts c;

	*out = 0;
	cut(p, (const uint8_t *)text, strlen(text), &c);
	for (size_t i = 0; i < c.n; i++)
		n += (size_t)snprintf(out + n, size - n, "%s%.*s", i ? "|" : "", (int)(c.at[i] & 4095), text + (c.at[i] >> 12));
	return out;
}

/* Our matchers against the expressions they stand for: every code point in several places, and random text. */
static void fast(void **state)
{
	(void)state;
	static const char *const names[] = { "gpt-2", "qwen2", "llama-bpe", "smollm" };
	static cuts x, y;
	kf_err err;
	kf_rng r;

	kf_rng_seed(&r, 3);
	for (size_t k = 0; k < LEN(names); k++) {
		kf_pretok p = { 0 }, q = { 0 };
		uint8_t text[512];
		assert_int_equal(kf_pretok_named(&p, names[k], &err), KF_OK);
		for (int i = 0; i < p.n; i++) {
			assert_true(p.step[i].fast != KF_FAST_NONE);
			assert_int_equal(kf_pretok_add_regex(&q, p.step[i].pattern, p.step[i].how, false, &err), KF_OK);
		}
		for (uint32_t c = 0; c < 0x110000; c++) {
			if ((c >= 0xd800 && c < 0xe000) || (c >= 0x34000 && c % 97))
				continue;
			static const char *const around[] = { "a", "b ", "", "1", ".", "  ", "x\n ", "'", "\n" };
			size_t n = 0;
			for (size_t i = 0; i < LEN(around); i++) {
				memcpy(text + n, around[i], strlen(around[i]));
				n += strlen(around[i]);
				n += kf_utf8_put(text + n, c);
			}
			cut(&p, text, n, &x);
			cut(&q, text, n, &y);
			if (x.n != y.n || memcmp(x.at, y.at, x.n * sizeof x.at[0]))
				fail_msg("%s cuts U+%04X otherwise than its expression", names[k], (unsigned)c);
		}
		for (int i = 0; i < 20000; i++) {
			size_t n = random_text(&r, text, sizeof text);
			cut(&p, text, n, &x);
			cut(&q, text, n, &y);
			if (x.n != y.n || memcmp(x.at, y.at, x.n * sizeof x.at[0]))
				fail_msg("%s cuts \"%.*s\" otherwise than its expression", names[k], (int)n, (const char *)text);
		}
		kf_pretok_release(&p);
		kf_pretok_release(&q);
	}
}

/* Matches of no text cut, too, as in Hugging Face's tokenizers: what these make of it, by behaviour and whether it is inverted. */
static void empty_matches(void **state)
{
	(void)state;
	static const struct { const char *re, *text, *want[5][2]; } cases[] = {
		{ "(?=(\\d{3})+(?!\\d))", "1234567 the 12", { { "1|234|567 the 12", "1|234|567 the 12" }, { "1|234|567 the 12", "" },
			{ "1|234|567 the 12", "1|234|567 the 12" }, { "1|234|567 the 12", "1|234|567 the 12" }, { "1|234|567 the 12", "1|234|567 the 12" } } },
		{ "x|(?=t)", "xtxt the", { { "x|t|x|t |the", "x|t|x|t |the" }, { "t|t |the", "x|x" }, { "x|tx|t |the", "xt|xt |the" },
			{ "xt|xt |the", "x|tx|t |the" }, { "x|t|x|t |the", "x|t|x|t |the" } } },
		{ "t*|x", "attx", { { "a|tt|x", "a|tt|x" }, { "a|x", "tt" }, { "att|x", "a|ttx" }, { "a|ttx", "att|x" }, { "a|tt|x", "a|tt|x" } } },
	};
	kf_err err;

	for (size_t k = 0; k < LEN(cases); k++)
		for (int how = 0; how < 5; how++)
			for (int invert = 0; invert < 2; invert++) {
				kf_pretok p = { 0 };
				char have[64];

				assert_int_equal(kf_pretok_add(&p, cases[k].re, (kf_split)how, invert, &err), KF_OK);
				if (strcmp(words(&p, cases[k].text, have, sizeof have), cases[k].want[how][invert]) != 0)
					fail_msg("%s, behavior %d, invert %d: \"%s\"", cases[k].re, how, invert, have);
				kf_pretok_release(&p);
			}
}

#define BYTES(regex) "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true,\"use_regex\":" regex "}"
#define STEPS(list) "{\"type\":\"Sequence\",\"pretokenizers\":[" list "]}"
#define SPLIT(re) "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"" re "\"},\"behavior\":\"Isolated\",\"invert\":false}"

/* What comes after a ByteLevel cuts the characters that stand for bytes, as in Hugging Face's tokenizers: a space (Ġ there) is a letter, an Arabic digit
 * none, and ü ends with one. The same from what is written. */
static void after_bytes(void **state)
{
	(void)state;
	static const struct { const char *json, *want; } cases[] = {
		{ STEPS("{\"type\":\"Punctuation\",\"behavior\":\"Contiguous\"}," BYTES("true") ",{\"type\":\"Digits\",\"individual_digits\":false},"
			SPLIT("[0-9][0-9][0-9]")), " \xd9\xa3| \xc2|\xbd| f\xc3|\xbc|r| |123|45" },
		{ STEPS(BYTES("false") "," SPLIT("\\\\p{L}+")), " \xd9|\xa3| \xc2|\xbd| f\xc3|\xbc|r |12345" },
		{ STEPS(BYTES("false") "," SPLIT(" ")), " \xd9\xa3 \xc2\xbd f\xc3\xbcr 12345" },
		{ STEPS(SPLIT(" ") "," BYTES("false")), " |\xd9\xa3| |\xc2\xbd| |f\xc3\xbcr| |12345" },
	};
	char have[128];
	kf_err err;

	for (size_t i = 0; i < LEN(cases); i++) {
		json_t *j = json_loads(cases[i].json, 0, NULL);

		assert_non_null(j);
		for (int again = 0; again < 2; again++) {
			kf_pretok p = { 0 };

			if (kf_pretok_json(&p, j, &err) != KF_OK)
				fail_msg("case %zu: %s", i, err.text);
			assert_string_equal(words(&p, " \xd9\xa3 \xc2\xbd f\xc3\xbcr 12345", have, sizeof have), cases[i].want);
			json_decref(j);
			j = kf_pretok_to_json(&p);
			kf_pretok_release(&p);
		}
		char *text = json_dumps(j, JSON_COMPACT);
		assert_string_equal(text, cases[i].json);
		free(text);
		json_decref(j);
	}
}

static void pretok_errors(void **state)
{
	(void)state;
	static const struct { const char *json, *why; kf_status rc; } cases[] = {
		{ "{\"type\":\"BertPreTokenizer\"}", "\"BertPreTokenizer\"", KF_EUNSUPPORTED },
		{ "{\"pattern\":1}", "no type", KF_EDATA },
		{ "{\"type\":\"Split\",\"behavior\":\"Isolated\"}", "neither", KF_EDATA },
		{ "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(\"},\"behavior\":\"Isolated\"}", "does not compile", KF_EDATA },
		{ "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"a\"},\"behavior\":\"Sideways\"}", "\"Sideways\"", KF_EUNSUPPORTED },
		{ "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"[a&&[b]]\"},\"behavior\":\"Isolated\"}", "class", KF_EUNSUPPORTED },
		{ "{\"type\":\"Sequence\"}", "no list", KF_EDATA },
		{ STEPS(BYTES("true") "," BYTES("false")), "second ByteLevel", KF_EUNSUPPORTED },
	};
	for (size_t i = 0; i < LEN(cases); i++) {
		kf_pretok p = { 0 };
		kf_err err;
		json_t *j = json_loads(cases[i].json, 0, NULL);
		assert_non_null(j);
		assert_int_equal(kf_pretok_json(&p, j, &err), cases[i].rc);
		assert_non_null(strstr(err.text, cases[i].why));
		kf_pretok_release(&p);
		json_decref(j);
	}
}

/* A pattern that would run for ever is refused with its name, not run for ever. */
static void runaway(void **state)
{
	(void)state;
	kf_pretok p = { 0 };
	kf_pretok_run run;
	kf_err err;
	uint8_t text[4000];
	cuts c;

	memset(text, 'a', sizeof text);
	assert_int_equal(kf_pretok_add(&p, "(a|aa)+[bc]", KF_SPLIT_ISOLATED, false, &err), KF_OK);
	assert_int_equal(kf_pretok_begin(&p, &run, &err), KF_OK);
	c.base = text;
	c.n = 0;
	assert_int_equal(kf_pretok_words(&p, &run, text, sizeof text, note, &c, &err), KF_EDATA);
	assert_non_null(strstr(err.text, "(a|aa)+[bc]"));
	kf_pretok_end(&run);
	kf_pretok_release(&p);
}

/* ---- properties ------------------------------------------------------------------------- */

/* The first token of bytes is that of their encoding; a long word is merged as a short one; NFC maps back. */
static void first(void **state)
{
	(void)state;
	kf_tokenizer *t = open_fixture("llama3");
	kf_arena a;
	kf_rng r;
	kf_err err;
	uint8_t text[256];

	kf_arena_init(&a);
	kf_rng_seed(&r, 5);
	for (int i = 0; i < 5000; i++) {
		kf_encoding e;
		size_t n = random_text(&r, text, sizeof text);
		if (!n)
			continue;
		kf_arena_reset(&a);
		assert_int_equal(kf_tokenizer_encode(t, text, n, false, &a, &e, &err), KF_OK);
		assert_true(e.n > 0);
		assert_int_equal(kf_tokenizer_first(t, text, n), e.ids[0]);
		assert_int_equal(kf_tokenizer_first(t, text, n), e.ids[0]); /* and again from the cache */
	}
	kf_arena_release(&a);
	kf_tokenizer_free(t);
}

/* Words beyond 64 symbols go through a queue: cut random ones at 64 by hand-made merging. */
static void long_words(void **state)
{
	(void)state;
	kf_tokenizer *t = make(&tiny);
	kf_arena a;
	kf_encoding e;
	kf_err err;
	kf_rng r;
	uint8_t text[700];

	kf_arena_init(&a);
	kf_rng_seed(&r, 6);
	for (int k = 0; k < 300; k++) {
		size_t n = 65 + kf_rng_below(&r, 600);
		for (size_t i = 0; i < n; i++)
			text[i] = (uint8_t)('a' + kf_rng_below(&r, 3));
		kf_arena_reset(&a);
		assert_int_equal(kf_tokenizer_encode(t, text, n, false, &a, &e, &err), KF_OK);
		uint32_t j = 0;
		for (size_t i = 0; i < n; j++) { /* "ab" always merges, then "abc" */
			size_t l = text[i] != 'a' || i + 1 == n || text[i + 1] != 'b' ? 1 : i + 2 < n && text[i + 2] == 'c' ? 3 : 2;
			assert_true(j < e.n);
			assert_int_equal(e.ids[j], l == 3 ? ABC : l == 2 ? AB : text[i] - 'a');
			assert_int_equal(e.start[j], i);
			i += l;
		}
		assert_int_equal(j, e.n);
	}
	kf_arena_release(&a);
	kf_tokenizer_free(t);
}

static void nfc(void **state)
{
	(void)state;
	kf_arena a;
	const uint8_t *out;
	size_t n;
	uint32_t *map;
	kf_err err;
	const char *text = "ae\xcc\x81z\xff\xe1\x84\x92\xe1\x85\xa1\xe1\x86\xab!"; /* e + acute; a byte that is none; three jamo */

	kf_arena_init(&a);
	assert_int_equal(kf_nfc((const uint8_t *)text, strlen(text), &a, &out, &n, &map, &err), KF_OK);
	assert_int_equal(n, 9);
	assert_memory_equal(out, "a\xc3\xa9z\xff\xed\x95\x9c!", 9);
	assert_memory_equal(map, AT(0, 1, 2, 4, 5, 6, 7, 8, 15, 16), 10 * sizeof *map);
	text = "\xc3\xa9 \xed\x95\x9c";
	assert_int_equal(kf_nfc((const uint8_t *)text, strlen(text), &a, &out, &n, &map, &err), KF_OK);
	assert_ptr_equal(out, text);
	assert_null(map);
	kf_arena_release(&a);
}

/* Several threads, one tokenizer: the same ids as one alone. */
enum { TEXTS = 400 };
typedef struct { const kf_tokenizer *t; uint64_t hash[TEXTS]; } shared;

static void encode_one(void *arg, size_t i, int worker)
{
	shared *s = arg;
	kf_arena a;
	kf_encoding e;
	kf_err err;
	kf_rng r;
	uint8_t text[256];

	(void)worker;
	kf_arena_init(&a);
	kf_rng_seed(&r, i / 2);
	size_t n = random_text(&r, text, sizeof text);
	if (kf_tokenizer_encode(s->t, text, n, false, &a, &e, &err) == KF_OK)
		s->hash[i] = kf_hash64(e.ids, e.n * sizeof *e.ids) + (n ? (uint64_t)kf_tokenizer_first(s->t, text, n) : 0);
	kf_arena_release(&a);
}

static void threads(void **state)
{
	(void)state;
	static shared one, many;
	kf_pool *pool;
	kf_err err;

	assert_int_equal(kf_pool_new(4, &pool, &err), KF_OK);
	for (int k = 0; k < 2; k++) {
		kf_tokenizer *t = open_fixture(k ? "sp-llama" : "llama3"), *u = open_fixture(k ? "sp-llama" : "llama3");
		one.t = t;
		many.t = u;
		kf_pool_run(NULL, TEXTS, encode_one, &one);
		kf_pool_run(pool, TEXTS, encode_one, &many);
		assert_memory_equal(one.hash, many.hash, sizeof one.hash);
		kf_tokenizer_free(t);
		kf_tokenizer_free(u);
	}
	kf_pool_free(pool);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(by_hand), cmocka_unit_test(errors), cmocka_unit_test(sorted), cmocka_unit_test(long_ranges),
		cmocka_unit_test(fast), cmocka_unit_test(empty_matches), cmocka_unit_test(after_bytes), cmocka_unit_test(pretok_errors), cmocka_unit_test(runaway), cmocka_unit_test(first),
		cmocka_unit_test(long_words), cmocka_unit_test(nfc), cmocka_unit_test(threads),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
