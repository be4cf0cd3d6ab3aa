/* Names of tokens, and given tokens against a text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "import/record.h"
#include "tests/unit/align/synth.h"

static import_name name(const char *s) { return (import_name){ s, strlen(s) }; }

typedef struct {
	kf_tokenizer *t;
	import_names names;
	kf_arena arena;
	kf_err err;
} fixture;

static void begin(fixture *f, kf_tokenizer *t)
{
	f->t = t;
	kf_arena_init(&f->arena);
	assert_int_equal(import_names_init(&f->names, t, &f->err), KF_OK);
}

static void end(fixture *f)
{
	import_names_release(&f->names);
	kf_arena_release(&f->arena);
	kf_tokenizer_free(f->t);
}

static void names(void **state)
{
	static const char *const pieces[] = { "\xe2\x96\x81""ab", "bc" };
	fixture f;

	(void)state;
	begin(&f, synth_spm("abc", pieces, 2, true));
	assert_int_equal(import_names_find(&f.names, name(" ab")), 4);
	assert_int_equal(import_names_find(&f.names, name("\xe2\x96\x81""ab")), 4);
	assert_int_equal(import_names_find(&f.names, name("bc")), 5);
	assert_int_equal(import_names_find(&f.names, name("</s>")), 2);
	assert_int_equal(import_names_find(&f.names, name("token_id:5")), 5);
	assert_int_equal(import_names_find(&f.names, name("token_id:99999999999")), -1);
	assert_int_equal(import_names_find(&f.names, name("token_id:")), -1);
	assert_int_equal(import_names_find(&f.names, name("bytes:\\x62\\x63")), 5);
	assert_int_equal(import_names_find(&f.names, name("bytes:\\x6")), -1);
	assert_int_equal(import_names_find(&f.names, name("zz")), -1);
	assert_int_equal(import_names_find(&f.names, name("")), -1);
	assert_true(import_name_fits(&f.names, name("bc"), 5) && !import_name_fits(&f.names, name("bc"), 4));
	assert_true(import_name_fits(&f.names, name("\xef\xbf\xbd"), 5));
	end(&f);
}

/* Match n ids (BOS first where it is) with a text: KF_OK and starts, or the error. */
static kf_status match(fixture *f, const char *text, const int32_t *ids, uint32_t n, bool server, import_match *m)
{
	kf_corpus_rec doc = { .head = { .doc = 3, .id = "", .domain = "", .bytes = (uint32_t)strlen(text) }, .text = (const uint8_t *)text };
	import_answer a = { .where = "f, line 1", .server = server, .bos = -1 };

	f->err.text[0] = 0;
	if (import_answer_alloc(&a, n, n, 0, &f->arena, &f->err) != KF_OK) return KF_ENOMEM;
	for (uint32_t i = 0; i < n; i++) a.id[i] = ids[i];
	return import_match_tokens(&a, &f->names, &doc, &f->arena, m, &f->err);
}

static void tokens(void **state)
{
	static const char *const merges[] = { "a b", "b c", "ab c" };
	enum { A, B, C, AB, BC, ABC, EOS };
	import_match m;
	fixture f;

	(void)state;
	begin(&f, synth_bpe("abc", merges, 3, true));
	/* as the tokenizer has it; another cut of the same bytes; a BOS in front */
	assert_int_equal(match(&f, "abcc", (int32_t[]){ ABC, C }, 2, false, &m), KF_OK);
	assert_true(m.n == 2 && m.base == 0 && m.start[1] == 3 && m.start[2] == 4);
	assert_int_equal(match(&f, "abcc", (int32_t[]){ A, BC, C }, 3, false, &m), KF_OK);
	assert_true(m.n == 3 && m.start[1] == 1 && m.start[2] == 3 && m.ids[1] == BC);
	assert_int_equal(match(&f, "abcc", (int32_t[]){ EOS, A, BC, C }, 4, false, &m), KF_OK);
	assert_true(m.n == 3 && m.base == 1 && m.ids[0] == A);
	/* what a server says after the text; nobody else may */
	assert_int_equal(match(&f, "ab", (int32_t[]){ A, B, C, C }, 4, true, &m), KF_OK);
	assert_int_equal(m.n, 2);
	assert_int_equal(match(&f, "ab", (int32_t[]){ A, B, C }, 3, false, &m), KF_EDATA);
	assert_non_null(strstr(f.err.text, "token 2 of 3 stands after the end of document 3, byte 2"));
	/* errors name token and byte, where it got furthest */
	assert_int_equal(match(&f, "abcc", (int32_t[]){ AB, C, B }, 3, false, &m), KF_EDATA);
	assert_non_null(strstr(f.err.text, "f, line 1: token 2, id 1 (\"b\"), is not what document 3 has at byte 3, \"c\""));
	assert_int_equal(match(&f, "abcc", (int32_t[]){ ABC }, 1, false, &m), KF_EDATA);
	assert_non_null(strstr(f.err.text, "its 1 tokens end at byte 3 of document 3, which goes on \"c\""));
	assert_int_equal(match(&f, "abcc", (int32_t[]){ ABC, 99 }, 2, false, &m), KF_EDATA);
	assert_non_null(strstr(f.err.text, "not in the vocabulary"));
	/* nothing of nothing */
	assert_int_equal(match(&f, "", NULL, 0, false, &m), KF_OK);
	assert_int_equal(m.n, 0);
	assert_int_equal(match(&f, "a", NULL, 0, false, &m), KF_EDATA);
	/* a control token that the text spells */
	assert_int_equal(match(&f, "a<eos>b", (int32_t[]){ A, EOS, B }, 3, false, &m), KF_OK);
	assert_true(m.n == 3 && m.start[1] == 1 && m.start[2] == 6);
	end(&f);
}

/* A dummy prefix is part of the first token, where the program put one there. */
static void dummy_prefix(void **state)
{
	static const char *const pieces[] = { "\xe2\x96\x81""ab", "bc" };
	import_match m;
	fixture f;

	(void)state;
	begin(&f, synth_spm("abc", pieces, 2, true)); /* 3 is the space, 4 " ab", 5 "bc", then a b c */
	assert_int_equal(match(&f, "abc", (int32_t[]){ 4, 8 }, 2, false, &m), KF_OK);
	assert_true(m.start[1] == 2 && m.start[2] == 3);
	assert_int_equal(match(&f, "abc", (int32_t[]){ 3, 6, 5 }, 3, false, &m), KF_OK);
	assert_true(m.start[1] == 0 && m.start[2] == 1);
	assert_int_equal(match(&f, "abc", (int32_t[]){ 6, 5 }, 2, false, &m), KF_OK);
	assert_true(m.n == 2 && m.start[1] == 1);
	end(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(names), cmocka_unit_test(tokens), cmocka_unit_test(dummy_prefix) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
