/* SentencePiece: our encoding against the library's, and by hand. */
#include "util.h"

enum { PAD, EOS, BOS, UNK, BYTES, LETTERS = BYTES + 256, AB = LETTERS + 5, ABC, SA, SS, SSS, TAG, N };

/* <pad> <eos> <bos> <unk>, the bytes, a b c d ▁, ab, abc, ▁a, and user-defined: two and three spaces, <t>. */
static kf_tokenizer *make(bool bytes, bool prefix)
{
	static char names[256][8];
	const char *pieces[N] = { "<pad>", "<eos>", "<bos>", "<unk>" };
	static const char *const rest[] = { "a", "b", "c", "d", "\xe2\x96\x81", "ab", "abc", "\xe2\x96\x81" "a", "  ", "   ", "<t>" };
	int32_t types[N] = { 3, 3, 3, 3 };
	float scores[N] = { 0 };
	kf_tokenizer *t;
	kf_err err;

	for (int i = 0; i < 256; i++) {
		snprintf(names[i], sizeof names[i], bytes ? "<0x%02X>" : "{%02X}", (unsigned)i);
		pieces[BYTES + i] = names[i];
		types[BYTES + i] = bytes ? KF_TT_BYTE : KF_TT_CONTROL;
	}
	for (int i = LETTERS; i < N; i++) {
		pieces[i] = rest[i - LETTERS];
		types[i] = i >= SS ? KF_TT_USER : KF_TT_NORMAL;
		scores[i] = (float)-i;
	}
	kf_vocab_spec s = { .model = "llama", .n = N, .pieces = pieces, .scores = scores, .types = types, .bos = BOS, .eos = EOS,
		.unk = UNK, .pad = PAD, .add_bos = true, .add_space_prefix = prefix };
	if (kf_tokenizer_from_spec(&s, &t, &err) != KF_OK)
		fail_msg("%s", err.text);
	return t;
}

static void by_hand(void **state)
{
	(void)state;
	kf_tokenizer *t = make(true, false);
	const int32_t a = LETTERS, b = a + 1, c = a + 2, space = a + 4;
	uint32_t n;

	expect(t, "abc", 3, false, IDS(ABC), AT(0, 3), 1);
	expect(t, "abab ac", 7, false, IDS(AB, AB, SA, c), AT(0, 2, 4, 6, 7), 4);
	expect(t, "a  b   c    d", 13, false, IDS(a, SS, b, SSS, c, SSS, space, a + 3), AT(0, 1, 3, 4, 7, 8, 11, 12, 13), 8);
	expect(t, "a<t>b", 5, false, IDS(a, TAG, b), AT(0, 1, 4, 5), 3);
	expect(t, "a\xc3\xa9", 3, false, IDS(a, BYTES + 0xc3, BYTES + 0xa9), AT(0, 1, 2, 3), 3);
	expect(t, "\xff" "a\xe2\x96", 4, false, IDS(BYTES + 0xff, a, BYTES + 0xe2, BYTES + 0x96), AT(0, 1, 2, 3, 4), 4);
	expect(t, "\xe2\x96\x81" "ab", 5, false, IDS(space, AB), AT(0, 3, 5), 2); /* ▁ in the text is as good as a space */
	expect(t, "a<eos>b", 7, true, IDS(a, EOS, b), AT(0, 1, 6, 7), 3);
	expect(t, "", 0, false, NULL, AT(0), 0);
	assert_memory_equal(kf_tokenizer_bytes(t, SSS, &n), "   ", 3);
	assert_int_equal(n, 3);
	assert_memory_equal(kf_tokenizer_bytes(t, BYTES + 10, &n), "\n", 1);
	assert_string_equal(kf_tokenizer_piece(t, SS), "\xe2\x96\x81\xe2\x96\x81");
	assert_int_equal(kf_tokenizer_bos(t), BOS);
	assert_int_equal(kf_tokenizer_eos(t), EOS);
	kf_tokenizer_bytes(t, UNK, &n);
	assert_int_equal(n, 0);
	assert_int_equal(kf_tokenizer_first(t, (const uint8_t *)" abc", 4), space);
	assert_int_equal(kf_tokenizer_first(t, (const uint8_t *)" ac", 3), SA);
	assert_int_equal(kf_tokenizer_first(t, (const uint8_t *)"   a", 4), SSS);
	assert_int_equal(kf_tokenizer_first(t, (const uint8_t *)"\xa9x", 2), BYTES + 0xa9);
	assert_int_equal(kf_tokenizer_first(t, (const uint8_t *)"ab\xe2\x96", 4), AB);
	kf_tokenizer_free(t);

	t = make(true, true); /* ' ' + text: the first token begins before the text */
	assert_true(kf_tokenizer_dummy_prefix(t));
	expect(t, "abc", 3, false, IDS(space, ABC), AT(0, 0, 3), 2);
	expect(t, "ac", 2, false, IDS(SA, c), AT(0, 1, 2), 2);
	expect(t, "ba", 2, false, IDS(space, b, a), AT(0, 0, 1, 2), 3);
	assert_int_equal(kf_tokenizer_first(t, (const uint8_t *)"abc", 3), ABC);
	kf_tokenizer_free(t);

	t = make(false, false); /* no byte pieces: unknown characters, neighbours together */
	expect(t, "a\xc3\xa9\xff" "b\xe4\xb8\xad", 8, false, IDS(a, UNK, b, UNK), AT(0, 1, 4, 5, 8), 4);
	assert_int_equal(kf_tokenizer_first(t, (const uint8_t *)"\xc3\xa9", 2), -1);
	kf_tokenizer_free(t);
}

static size_t letters(kf_rng *r, uint8_t *out, size_t max)
{
	size_t n = kf_rng_below(r, max);
	for (size_t i = 0; i < n; i++)
		out[i] = (uint8_t)"aaabbbccd   <t>\n"[kf_rng_below(r, 16)];
	return n;
}

/* The library as the reference. */
static void against_library(void **state)
{
	(void)state;
	kf_arena a;
	kf_err err;
	kf_rng r;
	uint8_t text[1000];

	kf_arena_init(&a);
	kf_rng_seed(&r, 11);
	for (int k = 0; k < 4; k++) {
		kf_tokenizer *t = k < 3 ? make(k > 0, k == 2) : open_fixture("sp-llama");
		assert_true(t->sp.own);
		assert_int_equal(kf_splib_load(t, &err), KF_OK);
		for (int i = 0; i < 4000; i++) {
			size_t n = i % 2 ? random_text(&r, text, sizeof text) : letters(&r, text, i % 10 ? 60 : 1000);
			kf_sink s = { .arena = &a };
			kf_encoding e;
			if (!n)
				continue;
			kf_arena_reset(&a);
			assert_int_equal(kf_tokenizer_encode(t, text, n, false, &a, &e, &err), KF_OK);
			assert_int_equal(kf_splib_encode(t, text, n, 0, &s, &err), KF_OK);
			if (e.n != s.n || memcmp(e.ids, s.ids, e.n * sizeof *e.ids))
				fail_msg("%d: \"%.*s\" is not encoded as the library does", k, (int)n, (const char *)text);
			for (uint32_t j = 0; j < e.n; j++)
				/* (the library maps every character of a literal ▁▁ to where it begins) */
				if (e.start[j] != s.start[j] && !memmem(text, n, "\xe2\x96\x81", 3))
					fail_msg("%d: token %u of \"%.*s\" begins at %u, by the library at %u", k, (unsigned)j, (int)n,
						(const char *)text, (unsigned)e.start[j], (unsigned)s.start[j]);
			int32_t first = kf_tokenizer_first(t, text, n);
			if (first != kf_splib_first(t, text, n))
				fail_msg("%d: \"%.*s\" begins with %d, by the library with %d", k, (int)n, (const char *)text, first,
					kf_splib_first(t, text, n));
		}
		kf_tokenizer_free(t);
	}
	kf_arena_release(&a);
}

/* A piece given in plain spaces and in ▁ at once, and other things the library would choke on. */
static void refusals(void **state)
{
	(void)state;
	const char *pieces[] = { "<unk>", "a", "\xe2\x96\x81\xe2\x96\x81", "  " };
	int32_t types[] = { KF_TT_UNKNOWN, 1, 1, KF_TT_USER };
	float scores[] = { 0, 0, 0, 0 };
	kf_vocab_spec s = { .model = "llama", .n = 4, .pieces = pieces, .scores = scores, .types = types, .bos = -1, .eos = -1, .unk = 0,
		.pad = -1 };
	kf_tokenizer *t;
	kf_err err;

	assert_int_equal(kf_tokenizer_from_spec(&s, &t, &err), KF_EDATA);
	assert_non_null(strstr(err.text, "same"));
	s.n = 3;
	assert_int_equal(kf_tokenizer_from_spec(&s, &t, &err), KF_OK);
	kf_tokenizer_free(t);
	scores[1] = 0.0f / 0.0f;
	assert_int_equal(kf_tokenizer_from_spec(&s, &t, &err), KF_EDATA);
	assert_non_null(strstr(err.text, "score"));
	scores[1] = 0;
	pieces[1] = "";
	assert_int_equal(kf_tokenizer_from_spec(&s, &t, &err), KF_EDATA);
	assert_non_null(strstr(err.text, "empty"));
	pieces[1] = "<0x41>";
	types[1] = KF_TT_BYTE;
	assert_int_equal(kf_tokenizer_from_spec(&s, &t, &err), KF_EDATA);
	assert_non_null(strstr(err.text, "256"));
	s.unk = -1;
	types[0] = 1;
	pieces[0] = "x";
	assert_int_equal(kf_tokenizer_from_spec(&s, &t, &err), KF_EDATA);
	assert_non_null(strstr(err.text, "unknown"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(by_hand), cmocka_unit_test(against_library), cmocka_unit_test(refusals),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
