/* What the small files of a folder say about a tokenizer, as transformers understands them. */
#include "folder.h"

static kf_tokenizer *open_it(void)
{
	kf_tokenizer *t;
	kf_err err;

	if (kf_tokenizer_open_dir(dir, &t, &err) != KF_OK)
		fail_msg("%s", err.text);
	return t;
}

static void put_model(void)
{
	kf_buf b = { 0 };
	kf_err err;

	assert_int_equal(kf_file_read(FIXTURES "sp-llama/tokenizer.model", 1 << 20, &b, &err), KF_OK);
	put_file("tokenizer.model", b.data, b.len);
	kf_buf_release(&b);
}

/* A folder of this tokenizer.json, or where that is NULL of the model, and this tokenizer_config.json. */
static void put_case(const char *json, const char *config)
{
	clear();
	if (json)
		put_text("tokenizer.json", json);
	else
		put_model();
	put_text("tokenizer_config.json", config);
}

/* The pieces of a text, with a bar between. */
static const char *pieces_of(const kf_tokenizer *t, const char *text, bool specials, char *out, size_t size)
{
	kf_arena a;
	kf_encoding e;
	kf_err err;
	size_t n = 0;

	kf_arena_init(&a);
	assert_int_equal(kf_tokenizer_encode(t, (const uint8_t *)text, strlen(text), specials, &a, &e, &err), KF_OK);
	*out = 0;
	for (uint32_t i = 0; i < e.n; i++)
		n += (size_t)snprintf(out + n, size - n, "%s%s", i ? "|" : "", kf_tokenizer_piece(t, e.ids[i]));
	kf_arena_release(&a);
	return out;
}

static const char *pieces(const kf_tokenizer *t, const char *text, char *out, size_t size) { return pieces_of(t, text, true, out, size); }

#define JSON(post) "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"<s>\":1,\"</s>\":2},\"merges\":[]},\"pre_tokenizer\":{\"type\":\"ByteLevel\"," \
	"\"add_prefix_space\":false},\"added_tokens\":[{\"id\":1,\"content\":\"<s>\",\"special\":true}," \
	"{\"id\":2,\"content\":\"</s>\",\"special\":false}],\"post_processor\":" post "}"
#define TEMPLATE "{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"<s>\"}},{\"Sequence\":{\"id\":\"A\"}}]}"

/* Llama's classes and their like go by add_bos_token, the others by the post-processor; config.json's number adds nothing. */
static void bos(void **state)
{
	(void)state;
	static const struct { const char *json, *config; bool adds; } cases[] = {
		{ JSON("null"), "{}", false },
		{ JSON("null"), "{\"tokenizer_class\":\"GPT2Tokenizer\",\"bos_token\":null}", false },
		{ JSON("null"), "{\"tokenizer_class\":\"GPT2Tokenizer\",\"bos_token\":null,\"add_bos_token\":true}", false },
		{ JSON("null"), "{\"tokenizer_class\":\"GPT2Tokenizer\",\"bos_token\":\"<s>\",\"add_bos_token\":true}", false },
		{ JSON(TEMPLATE), "{\"tokenizer_class\":\"PreTrainedTokenizerFast\",\"bos_token\":\"<s>\",\"add_bos_token\":false}", true },
		{ JSON(TEMPLATE), "{\"tokenizer_class\":\"PreTrainedTokenizerFast\",\"bos_token\":null}", true },
		{ JSON(TEMPLATE), "{\"tokenizer_class\":\"LlamaTokenizerFast\",\"bos_token\":\"<s>\",\"add_bos_token\":false}", false },
		{ JSON("null"), "{\"tokenizer_class\":\"LlamaTokenizerFast\",\"bos_token\":\"<s>\",\"add_bos_token\":true}", true },
		{ JSON("null"), "{\"tokenizer_class\":\"LlamaTokenizerFast\",\"bos_token\":\"<s>\"}", true },
		{ JSON("null"), "{\"tokenizer_class\":\"LlamaTokenizerFast\",\"bos_token\":\"<s>\",\"add_bos_token\":null}", false },
		{ JSON(TEMPLATE), "{\"tokenizer_class\":\"GPTNeoXTokenizer\",\"bos_token\":\"<s>\"}", false },
		{ JSON("null"), "{\"tokenizer_class\":\"GPTNeoXTokenizer\",\"bos_token\":\"<s>\",\"add_bos_token\":true}", true },
		{ NULL, "{\"tokenizer_class\":\"LlamaTokenizer\"}", true },
		{ NULL, "{\"tokenizer_class\":\"LlamaTokenizer\",\"add_bos_token\":false}", false },
		{ NULL, "{\"tokenizer_class\":\"LlamaTokenizer\",\"bos_token\":null}", false },
		{ NULL, "{\"tokenizer_class\":\"T5Tokenizer\"}", false },
	};

	for (size_t i = 0; i < LEN(cases); i++) {
		put_case(cases[i].json, cases[i].config);
		put_text("config.json", "{\"bos_token_id\":1}");
		kf_tokenizer *t = open_it();
		if (kf_tokenizer_bos(t) != (cases[i].adds ? 1 : -1))
			fail_msg("case %zu: the BOS that is added is %d", i, (int)kf_tokenizer_bos(t));
		kf_tokenizer_free(t);
	}
}

/* A token that is named EOS, or the like, is a control token, though its entry says that it is not special. */
static void named(void **state)
{
	(void)state;
	static const struct { const char *file, *text; bool control; } cases[] = {
		{ "tokenizer_config.json", "{\"eos_token\":\"</s>\"}", true },
		{ "tokenizer_config.json", "{\"pad_token\":{\"content\":\"</s>\"}}", true },
		{ "special_tokens_map.json", "{\"sep_token\":\"</s>\"}", true },
		{ "tokenizer_config.json", "{\"eos_token\":\"<s>\"}", false },
	};

	for (size_t i = 0; i < LEN(cases); i++) {
		uint32_t n;

		clear();
		put_text("tokenizer.json", JSON("null"));
		put_text(cases[i].file, cases[i].text);
		kf_tokenizer *t = open_it();
		(void)kf_tokenizer_bytes(t, 2, &n);
		if (kf_tokenizer_is_control(t, 2) != cases[i].control || n != (cases[i].control ? 0 : 4))
			fail_msg("case %zu: type %d, %u bytes", i, t->type[2], (unsigned)n);
		kf_tokenizer_free(t);
	}
}

#define MARK "\xe2\x96\x81"
#define BESIDE(normalizer) "{\"normalizer\":" normalizer "}"
#define PREPEND BESIDE("{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Prepend\",\"prepend\":\"" MARK "\"},{\"type\":\"Replace\"}]}")

/* Whether text after a control token has a space in front. */
static void prefix(void **state)
{
	(void)state;
	static const struct { const char *config, *json, *want; } cases[] = {
		{ "{\"legacy\":true}", NULL, MARK "a|</s>|" MARK "b" },
		{ "{}", NULL, MARK "a|</s>|" MARK "b" },
		{ "{\"legacy\":false}", NULL, MARK "a|</s>|b" },
		{ "{\"legacy\":false}", BESIDE("null"), MARK "a|</s>|b" },
		{ "{\"legacy\":false}", PREPEND, MARK "a|</s>|" MARK "b" },
	};
	char have[256];

	for (size_t i = 0; i < LEN(cases); i++) {
		clear();
		put_model();
		put_text("tokenizer_config.json", cases[i].config);
		if (cases[i].json)
			put_text("tokenizer.json", cases[i].json);
		kf_tokenizer *t = open_it();
		assert_string_equal(pieces(t, "a</s>b", have, sizeof have), cases[i].want);
		kf_tokenizer_free(t);
	}
}

/* Tokens added beside a model file are cut out of the text with what their flags say, and text begins anew after them; what
 * the model itself calls user-defined (<tag>) stays the model's. */
static void added(void **state)
{
	(void)state;
	static const char config[] = "{\"added_tokens_decoder\":{\"620\":{\"content\":\"<new>\",\"rstrip\":true},"
		"\"621\":{\"content\":\"<" MARK ">\"}}}";
	static const struct { const char *text, *want; } cases[] = {
		{ "a<new>b", MARK "a|<new>|" MARK "b" }, { "a<new>  b", MARK "a|<new>|" MARK "b" }, { "a<tag>b", MARK "a|<tag>|b" },
		{ "a<" MARK ">", MARK "a|<" MARK ">" }, { "<new>", "<new>" },
	};
	char have[256];
	uint32_t n;

	clear();
	put_model();
	put_text("tokenizer_config.json", config);
	kf_tokenizer *t = open_it();
	for (size_t i = 0; i < LEN(cases); i++)
		assert_string_equal(pieces(t, cases[i].text, have, sizeof have), cases[i].want);
	assert_memory_equal(kf_tokenizer_bytes(t, 621, &n), "<" MARK ">", 5);
	assert_int_equal(n, 5);
	assert_int_equal(kf_tokenizer_first(t, (const uint8_t *)"<new>x", 6), 620);
	assert_int_equal(kf_tokenizer_first(t, (const uint8_t *)"a<new>", 6), kf_tokenizer_first(t, (const uint8_t *)"a", 1));
	kf_tokenizer_free(t);
}

/* A Gemma's tokenizer.json by itself: it lists runs of spaces, as MARKs, among added tokens, and its merges make them. The pieces are those of Hugging
 * Face's tokenizers. */
static void gemma(void **state)
{
	(void)state;
	static const struct { const char *text, *want; } cases[] = {
		{ "he    he", "he|" MARK MARK MARK MARK "|he" }, { "he   \n\n  he", "he|" MARK MARK "|" MARK "|\n\n|" MARK MARK "|he" },
		{ "      ", MARK MARK MARK MARK "|" MARK MARK },
	};
	kf_buf b = { 0 };
	char have[256];
	kf_err err;

	clear();
	assert_int_equal(kf_file_read("tests/models/gemma3-tiny/tokenizer.json", 1 << 20, &b, &err), KF_OK);
	put_file("tokenizer.json", b.data, b.len);
	kf_buf_release(&b);
	kf_tokenizer *t = open_it();
	for (size_t i = 0; i < LEN(cases); i++)
		assert_string_equal(pieces(t, cases[i].text, have, sizeof have), cases[i].want);
	kf_tokenizer_free(t);
}

/* Hugging Face's tokenizers look for a "normalized" token where spaces are MARKs: no white space goes with it, and after a normalizer that prepends
 * it is MARK and the token. What kfuse does not do of that is refused. */
static void normalized(void **state)
{
	(void)state;
	static const char *const replace = "{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"" MARK "\"}";
	static const struct { bool prepend; const char *flag, *content, *text, *want; } cases[] = {
		{ true, "lstrip", "<tag>", "the  <tag> the", MARK "the|" MARK "|<tag>|" MARK "the" },
		{ true, "lstrip", "<tag>", "the<tag>", MARK "the|<|t|a|g|>" },
		{ true, "lstrip", "<tag>", "<tag>the", "<tag>|the" },
		{ true, "lstrip", "<tag>", "the\n\t <tag>", MARK "the|<tag>" },
		{ true, "single_word", "<tag>", "the <tag>  <tag>", MARK "the|" MARK "|<|t|a|g|>|" MARK "|<tag>" },
		{ false, "lstrip", "<tag>", "the  <tag> the", "the|" MARK "|" MARK "|<tag>|" MARK "the" },
		{ false, "lstrip", "<tag>", "the\n<tag>", "the|<tag>" },
		{ false, "rstrip", "<tag>", "<tag> \n<tag>\nthe", "<tag>|" MARK "|\n|<tag>|the" },
		{ true, "rstrip", "\xe2\x98\x83", NULL, "single character" },
		{ false, "single_word", "\xe2\x98\x83", NULL, "single character" },
		{ false, "rstrip", "\xe2\x98\x83", "the\xe2\x98\x83\nthe", "the|\xe2\x98\x83|the" },
	};
	json_t *j = json_load_file(FIXTURES "sp-prepend/tokenizer.json", 0, NULL), *prepend = json_deep_copy(json_object_get(j, "normalizer"));
	json_int_t id = (json_int_t)json_object_size(json_object_get(json_object_get(j, "model"), "vocab"));
	kf_tokenizer *t;
	char have[256];
	kf_err err;

	assert_non_null(prepend);
	for (size_t i = 0; i <= LEN(cases); i++) { /* the last once more, with a Metaspace */
		const bool again = i == LEN(cases);
		const size_t k = again ? i - 1 : i;
		json_object_set_new(j, "normalizer", cases[k].prepend ? json_incref(prepend) : json_loads(replace, 0, NULL));
		json_object_set_new(j, "pre_tokenizer", again ? json_pack("{s:s,s:s,s:b}", "type", "Metaspace", "prepend_scheme", "first", "split", 0) : json_null());
		json_object_set_new(j, "added_tokens", json_pack("[{s:I,s:s,s:b,s:b}]", "id", id, "content", cases[k].content, cases[k].flag, 1, "normalized", 1));
		char *text = json_dumps(j, JSON_COMPACT);
		assert_non_null(text);
		clear();
		put_text("tokenizer.json", text);
		put_text("tokenizer_config.json", "{}");
		free(text);
		if (again || !cases[k].text) {
			assert_int_equal(kf_tokenizer_open_dir(dir, &t, &err), KF_EUNSUPPORTED);
			assert_non_null(strstr(err.text, again ? "Metaspace" : cases[k].want));
			continue;
		}
		t = open_it();
		if (strcmp(pieces(t, cases[k].text, have, sizeof have), cases[k].want) != 0)
			fail_msg("case %zu: %s", k, have);
		/* the prefix map knows it with the space */
		if (strcmp(cases[k].content, "<tag>") == 0 && strcmp(cases[k].flag, "single_word") != 0) {
			assert_int_equal(kf_tokenizer_first(t, (const uint8_t *)" <tag>x", 7) == id, cases[k].prepend);
			assert_int_equal(kf_tokenizer_first(t, (const uint8_t *)"<tag>x", 6) == id, !cases[k].prepend);
		}
		kf_tokenizer_free(t);
	}
	json_decref(prepend);
	json_decref(j);
}

/* Padding and the like may be called as the text's own tokens are: text has these all the same. */
static void ordinary(void **state)
{
	(void)state;
	static const char *const how[] = { "\"special\":true", "\"special\":true,\"single_word\":true", "\"special\":false", "\"special\":false,\"single_word\":true" };
	char have[256], json[1024];
	uint32_t n;

	for (size_t i = 0; i < LEN(how); i++)
		for (int padding = 0; padding < 2; padding++) {
			snprintf(json, sizeof json, "%s%s%s%s%s", "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"!\":2,\"ab\":3,\"<s>\":4},\"merges\":[\"a b\"]},"
				"\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":false},\"added_tokens\":[{\"id\":2,\"content\":\"!\",", how[i],
				"},{\"id\":3,\"content\":\"ab\",", how[i], "},{\"id\":4,\"content\":\"<s>\",\"special\":true}]}");
			clear();
			put_text("tokenizer.json", json);
			put_text("tokenizer_config.json", padding ? "{\"pad_token\":\"!\",\"unk_token\":\"ab\"}" : "{}");
			kf_tokenizer *t = open_it();
			if (strcmp(pieces_of(t, "a!ab<s>b!", false, have, sizeof have), "a|!|ab|b|!") != 0)
				fail_msg("case %zu, %d: %s", i, padding, have);
			assert_memory_equal(kf_tokenizer_bytes(t, 2, &n), "!", 1);
			assert_int_equal(n, 1);
			assert_true(kf_tokenizer_is_control(t, 4));
			kf_tokenizer_free(t);
		}
	clear();
	put_model();
	put_text("tokenizer_config.json", "{\"pad_token\":\"x\",\"added_tokens_decoder\":{\"532\":{\"content\":\"x\",\"special\":true}}}");
	kf_tokenizer *t = open_it();
	assert_string_equal(pieces_of(t, "x", false, have, sizeof have), MARK "|x");
	kf_tokenizer_free(t);
}

/* tokenizer_config.json's add_prefix_space, as transformers takes it: of Llama's classes where there is a model file, and of a ByteLevel by itself. */
static void prefix_space(void **state)
{
	(void)state;
#define SPACED(space) "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"\u0120\":1},\"merges\":[]},\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":" space "}}"
#define CLASS(name, more) "{\"tokenizer_class\":\"" name "\"" more "}"
	static const struct { const char *json, *config; bool space; } cases[] = {
		{ SPACED("false"), CLASS("PreTrainedTokenizerFast", ""), false },
		{ SPACED("true"), CLASS("PreTrainedTokenizerFast", ""), true },
		{ SPACED("true"), CLASS("PreTrainedTokenizerFast", ",\"add_prefix_space\":false"), false },
		{ SPACED("false"), CLASS("GPT2Tokenizer", ",\"add_prefix_space\":true"), true },
		{ SPACED("true"), CLASS("GPT2Tokenizer", ""), false },
		{ SPACED("true"), CLASS("GPTNeoXTokenizerFast", ""), false },
		{ NULL, CLASS("LlamaTokenizer", ""), true },
		{ NULL, CLASS("LlamaTokenizer", ",\"add_prefix_space\":false"), false },
		{ NULL, CLASS("LlamaTokenizerFast", ",\"add_prefix_space\":true"), true },
		{ NULL, CLASS("T5Tokenizer", ",\"add_prefix_space\":false"), true },
	};
	char have[64];

	for (size_t i = 0; i < LEN(cases); i++) {
		put_case(cases[i].json, cases[i].config);
		kf_tokenizer *t = open_it();
		if (strcmp(pieces(t, "a", have, sizeof have), !cases[i].space ? "a" : cases[i].json ? "\xc4\xa0|a" : MARK "a") != 0 ||
			kf_tokenizer_dummy_prefix(t) != cases[i].space)
			fail_msg("case %zu: %s", i, have);
		kf_tokenizer_free(t);
	}
}

/* What a post-processor adds: one token on each side, by its id; what else there is of them is refused by name, unless transformers puts its own there. */
static void post(void **state)
{
	(void)state;
#define PARTS(single, tokens) "{\"type\":\"TemplateProcessing\",\"single\":[" single "],\"special_tokens\":{" tokens "}}"
#define TOKEN(name) "{\"SpecialToken\":{\"id\":\"" name "\",\"type_id\":0}}"
#define TEXT_A "{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}"
#define MEANS(name, ids) "\"" name "\":{\"id\":\"" name "\",\"ids\":[" ids "],\"tokens\":[]}"
#define ROBERTA "{\"type\":\"RobertaProcessing\",\"sep\":[\"</s>\",2],\"cls\":[\"<s>\",1]}"
	static const struct { const char *json, *class, *fails; int bos; } cases[] = {
		{ JSON(PARTS(TOKEN("<s>") "," TEXT_A, MEANS("<s>", "1"))), "PreTrainedTokenizerFast", NULL, 1 },
		{ JSON(PARTS(TOKEN("a") "," TEXT_A, MEANS("a", "1"))), "PreTrainedTokenizerFast", NULL, 1 },
		{ JSON(PARTS(TEXT_A "," TOKEN("</s>"), MEANS("</s>", "2"))), "PreTrainedTokenizerFast", NULL, -1 },
		{ JSON(PARTS(TOKEN("<s>") "," TOKEN("</s>") "," TEXT_A, MEANS("<s>", "1") "," MEANS("</s>", "2"))), "PreTrainedTokenizerFast", "\"</s>\" beside", 0 },
		{ JSON(PARTS(TOKEN("b") "," TEXT_A, MEANS("b", "1,2"))), "PreTrainedTokenizerFast", "\"b\" is more than one token", 0 },
		{ JSON(PARTS(TOKEN("b") "," TEXT_A, MEANS("b", "9"))), "PreTrainedTokenizerFast", "\"b\", which is no token", 0 },
		{ JSON(PARTS(TEXT_A "," TEXT_A, "")), "PreTrainedTokenizerFast", "repeats the text", 0 },
		{ JSON(ROBERTA), "PreTrainedTokenizerFast", "RobertaProcessing", 0 },
		{ JSON("{\"type\":\"Sequence\",\"processors\":[{\"type\":\"ByteLevel\"}," ROBERTA "]}"), "PreTrainedTokenizerFast", "RobertaProcessing", 0 },
		{ JSON(ROBERTA), "LlamaTokenizerFast\",\"bos_token\":\"<s>", NULL, 1 },
	};
	char config[256];
	kf_tokenizer *t;
	kf_err err;

	for (size_t i = 0; i < LEN(cases); i++) {
		clear();
		put_text("tokenizer.json", cases[i].json);
		snprintf(config, sizeof config, "{\"tokenizer_class\":\"%s\"}", cases[i].class);
		put_text("tokenizer_config.json", config);
		const kf_status rc = kf_tokenizer_open_dir(dir, &t, &err);
		if (cases[i].fails ? rc == KF_OK || !strstr(err.text, cases[i].fails) : rc != KF_OK || kf_tokenizer_bos(t) != cases[i].bos)
			fail_msg("case %zu: %s", i, rc == KF_OK ? "another BOS" : err.text);
		if (rc == KF_OK)
			kf_tokenizer_free(t);
	}
}

/* White space is a token's own once: as Hugging Face's tokenizers have it. */
static void white(void **state)
{
	(void)state;
	static const struct { const char *flags, *want; } cases[] = {
		{ "\"rstrip\":true", "a|\n|\n|\n|a" }, { "\"rstrip\":true,\"lstrip\":true", "a|\n|a" }, { "\"lstrip\":true", "a|\n|\n|\n|a" },
	};
	char have[64], json[512];

	for (size_t i = 0; i < LEN(cases); i++) {
		clear();
		snprintf(json, sizeof json, "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]},\"pre_tokenizer\":{\"type\":\"ByteLevel\","
			"\"add_prefix_space\":false},\"added_tokens\":[{\"id\":1,\"content\":\"\\n\",\"special\":false,%s}]}", cases[i].flags);
		put_text("tokenizer.json", json);
		kf_tokenizer *t = open_it();
		if (strcmp(pieces(t, "a\n\n\na", have, sizeof have), cases[i].want) != 0)
			fail_msg("case %zu: %s", i, have);
		kf_tokenizer_free(t);
	}
}

static void refused(void **state)
{
	(void)state;
	kf_tokenizer *t;
	kf_err err;

	clear();
	put_text("tokenizer.json", "{\"model\":{\"type\":\"Unigram\",\"unk_id\":0,\"vocab\":[[\"<unk>\",0.0]]}}");
	assert_int_equal(kf_tokenizer_open_dir(dir, &t, &err), KF_EUNSUPPORTED);
	assert_non_null(strstr(err.text, "Unigram"));
	clear();
	put_text("tokenizer.json", JSON("null"));
	put_text("chat_template.jinja", "{{ messages }} \xe9");
	assert_int_equal(kf_tokenizer_open_dir(dir, &t, &err), KF_EDATA);
	assert_non_null(strstr(err.text, "chat_template.jinja: it is not UTF-8"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bos), cmocka_unit_test(named), cmocka_unit_test(prefix), cmocka_unit_test(added), cmocka_unit_test(gemma),
		cmocka_unit_test(normalized), cmocka_unit_test(ordinary), cmocka_unit_test(prefix_space), cmocka_unit_test(post), cmocka_unit_test(white),
		cmocka_unit_test(refused),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
