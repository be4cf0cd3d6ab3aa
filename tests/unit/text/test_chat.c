/* Chat templates against what transformers renders and encodes, and what Jinja makes of ours (tests/parity/chat); where a message's bytes end up. */
#include "util.h"

#include "common/text/chat.h"

#define PARITY "tests/parity/chat/chat.json"
#define WRITTEN "tests/parity/chat/written.json"

static json_t *parity, *written;
static kf_arena arena;
static kf_err err;

#define OK(call) do { if ((call) != KF_OK) fail_msg("%s: %s", #call, err.text); } while (0)
#define FAILS(code, part, call) do { \
	assert_int_equal(call, code); \
	if (!strstr(err.text, part)) fail_msg("\"%s\" does not say \"%s\"", err.text, part); \
} while (0)

/* Every control token there is in some template, after a few letters. */
static kf_tokenizer *all_tokens(void)
{
	static const char *const pieces[] = { "a", "<s>", "</s>", "<|im_start|>", "<|im_end|>", "<start_of_turn>", "<end_of_turn>",
		"<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|end_of_turn|>" };
	static const int32_t types[LEN(pieces)] = { 1, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3 };
	const kf_vocab_spec spec = { .model = "gpt2", .pre = "gpt-2", .n = LEN(pieces), .pieces = pieces, .types = types, .bos = 1,
		.eos = 2, .unk = -1, .pad = -1 };
	kf_tokenizer *t;

	OK(kf_tokenizer_from_spec(&spec, &t, &err));
	return t;
}

typedef struct { kf_turn turn[16]; uint32_t n; kf_buf text; } conversation;

static conversation conversation_of(const json_t *messages)
{
	conversation c = { .n = 0 };
	const json_t *m;
	size_t i;

	json_array_foreach(messages, i, m) {
		const char *s = json_string_value(json_object_get(m, "content"));

		c.turn[c.n++] = (kf_turn){ (uint32_t)strlen(s), (uint8_t)kf_role_of(json_string_value(json_object_get(m, "role"))) };
		kf_buf_put(&c.text, s, strlen(s));
	}
	return c;
}

/* A system message alone: transformers drops it where it is folded into the user's; we refuse. */
static bool alone(const conversation *c) { return c->n == 1; }

static void recognises(void **state)
{
	json_t *t;
	size_t i;

	(void)state;
	json_array_foreach(json_object_get(parity, "templates"), i, t) {
		const char *name, *want = json_string_value(json_object_get(t, "name"));
		const json_t *jinja = json_object_get(t, "jinja");

		OK(kf_chat_recognise(json_string_value(jinja), json_string_length(jinja), &name, &err));
		assert_string_equal(name, want);
	}
	json_array_foreach(json_object_get(parity, "refused"), i, t) {
		const char *name = "";
		kf_status rc = kf_chat_recognise(json_string_value(t), json_string_length(t), &name, &err);

		if (rc != KF_EUNSUPPORTED) fail_msg("taken for %s: %s", name, json_string_value(t));
		assert_non_null(strstr(err.text, "--chat-template: smollm2, qwen2.5"));
		assert_non_null(strstr(err.text, "plain"));
	}
}

static void renders(void **state)
{
	kf_tokenizer *tok = all_tokens();
	json_t *t, *talk, *want;
	size_t i, k;

	(void)state;
	json_array_foreach(json_object_get(parity, "templates"), i, t) {
		const char *name = json_string_value(json_object_get(t, "name"));
		kf_chat *chat;

		OK(kf_chat_open(name, tok, &chat, &err));
		assert_string_equal(kf_chat_name(chat), name);
		json_array_foreach(json_object_get(parity, "conversations"), k, talk) {
			conversation c = conversation_of(talk);
			kf_buf out = { 0 };
			kf_status rc = kf_chat_render(chat, c.turn, c.n, c.text.data, &out, &err);

			want = json_array_get(json_object_get(t, "rendered"), k);
			if (alone(&c) && rc == KF_EDATA) {
				assert_non_null(strstr(err.text, "message 1: a system message"));
			} else if (json_is_null(want)) {
				if (rc != KF_EDATA) fail_msg("%s, conversation %zu: rendered as %.*s", name, k, (int)out.len, out.data);
				assert_non_null(strstr(err.text, "has no place for that"));
				assert_non_null(strstr(err.text, name));
			} else {
				if (rc != KF_OK) fail_msg("%s, conversation %zu: %s", name, k, err.text);
				kf_buf_u8(&out, 0);
				assert_string_equal((char *)out.data, json_string_value(want));
			}
			kf_buf_release(&out);
			kf_buf_release(&c.text);
		}
		kf_chat_free(chat);
	}
	kf_tokenizer_free(tok);
}

/* How replies end: not what the model's files call EOS, where a template has a token of its own. */
static const char *end_of(const char *name)
{
	static const struct { const char *name, *end; } ends[] = { { "gemma", "<end_of_turn>" }, { "gemma3", "<end_of_turn>" },
		{ "llama-2", "</s>" }, { "llama-3", "<|eot_id|>" }, { "mistral-v1", "</s>" }, { "mistral-v0.1", "</s>" }, { "mistral", "</s>" },
		{ "openchat", "<|end_of_turn|>" }, { "solar", NULL }, { "zephyr", "</s>" }, { "plain", "</s>" } };

	for (size_t i = 0; i < LEN(ends); i++)
		if (strcmp(name, ends[i].name) == 0) return ends[i].end;
	return "<|im_end|>";
}

static void ends(void **state)
{
	char names[512], *rest = names;
	kf_tokenizer *tok = all_tokens();
	int32_t id;

	(void)state;
	OK(kf_chat_other_end(tok, &id, &err));
	assert_int_equal(id, -1);
	kf_chat_names(names, sizeof names);
	for (const char *name; (name = strtok_r(rest, ", ", &rest));) {
		const char *want = end_of(name);

		OK(kf_tokenizer_set_chat_template(tok, "{{ messages | reverse }}", &err));
		OK(kf_chat_other_end(tok, &id, &err));
		assert_int_equal(id, -1);
		OK(kf_chat_adopt(name, tok, &err));
		OK(kf_chat_other_end(tok, &id, &err));
		if (!want) assert_int_equal(id, -1);
		else assert_string_equal(kf_tokenizer_piece(tok, id), want);
	}
	kf_tokenizer_free(tok);
	/* one that lacks the template's tokens */
	OK(kf_tokenizer_open_dir("tests/models/llama-untied", &tok, &err));
	OK(kf_tokenizer_set_chat_template(tok, json_string_value(json_object_get(json_object_get(written, "chatml"), "jinja")), &err));
	OK(kf_chat_other_end(tok, &id, &err));
	assert_int_equal(id, -1);
	kf_tokenizer_free(tok);
}

/* What is written into a trained model's folder: recognised for what it is, and by Jinja rendered to what is rendered here. */
static void writes(void **state)
{
	kf_tokenizer *tok = all_tokens();
	char names[512], *rest = names;
	const char *is;
	json_t *t, *talk;
	size_t k;

	(void)state;
	kf_chat_names(names, sizeof names);
	for (const char *name; (name = strtok_r(rest, ", ", &rest));) {
		const json_t *ours = json_object_get(written, name);
		const char *jinja = json_string_value(json_object_get(ours, "jinja"));
		kf_chat *chat;

		if (!jinja) fail_msg("%s has nothing of %s: run make_written.py", WRITTEN, name);
		OK(kf_tokenizer_set_chat_template(tok, "{{ messages | reverse }}", &err));
		OK(kf_chat_adopt(name, tok, &err));
		assert_string_equal(kf_tokenizer_chat_template(tok), jinja);
		OK(kf_chat_recognise(jinja, strlen(jinja), &is, &err));
		assert_string_equal(is, name);
		OK(kf_chat_choose(NULL, tok, "m", &chat, &err));
		json_array_foreach(json_object_get(parity, "conversations"), k, talk) {
			const json_t *want = json_array_get(json_object_get(ours, "rendered"), k);
			conversation c = conversation_of(talk);
			kf_buf out = { 0 };
			kf_status rc = kf_chat_render(chat, c.turn, c.n, c.text.data, &out, &err);

			kf_buf_u8(&out, 0);
			/* (a system message alone is refused here, and has nowhere to go there) */
			if (json_is_null(want)) assert_int_equal(rc, KF_EDATA);
			else if (!(alone(&c) && rc == KF_EDATA)) {
				OK(rc);
				assert_string_equal((char *)out.data, json_string_value(want));
			}
			kf_buf_release(&out);
			kf_buf_release(&c.text);
		}
		kf_chat_free(chat);
	}
	/* one that is that template already stays */
	json_array_foreach(json_object_get(parity, "templates"), k, t) {
		const char *published = json_string_value(json_object_get(t, "jinja"));

		OK(kf_tokenizer_set_chat_template(tok, published, &err));
		OK(kf_chat_adopt(json_string_value(json_object_get(t, "name")), tok, &err));
		assert_string_equal(kf_tokenizer_chat_template(tok), published);
	}
	FAILS(KF_EINVAL, "no chat template \"alpaca\"", kf_chat_adopt("alpaca", tok, &err));
	kf_tokenizer_free(tok);
	OK(kf_tokenizer_open_dir("tests/models/llama-untied", &tok, &err));
	FAILS(KF_EMISMATCH, "needs the token <|im_start|>", kf_chat_adopt("chatml", tok, &err));
	assert_null(kf_tokenizer_chat_template(tok));
	kf_tokenizer_free(tok);
}

/* For make_written.py: {name: Jinja text}. */
static int print_written(void)
{
	kf_tokenizer *tok = all_tokens();
	char names[512], *rest = names;
	json_t *all = json_object();

	kf_chat_names(names, sizeof names);
	for (const char *name; (name = strtok_r(rest, ", ", &rest));) {
		if (kf_chat_adopt(name, tok, &err) != KF_OK) return 1;
		json_object_set_new(all, name, json_string(kf_tokenizer_chat_template(tok)));
	}
	json_dumpf(all, stdout, JSON_INDENT(1));
	json_decref(all);
	kf_tokenizer_free(tok);
	return 0;
}

/* Whatever the template: starts count the messages' bytes, the tokens that are not context spell the replies, and what ends
 * a reply spans nothing. */
static void check_encoding(const kf_tokenizer *t, const conversation *c, const kf_encoding *e)
{
	kf_buf replies = { 0 }, spelled = { 0 };
	uint32_t at = 0, ends = 0;

	assert_int_equal(e->start[0], 0);
	assert_int_equal(e->start[e->n], c->text.len);
	for (uint32_t i = 0; i < c->n; at += c->turn[i++].bytes)
		if (c->turn[i].role == KF_ASSISTANT) kf_buf_put(&replies, c->text.data + at, c->turn[i].bytes);
	for (uint32_t p = 0; p < e->n; p++) {
		uint32_t n, span = e->start[p + 1] - e->start[p];
		const uint8_t *bytes = kf_tokenizer_bytes(t, e->ids[p], &n);

		assert_true(e->start[p] <= e->start[p + 1]);
		if (e->context[p]) continue;
		if (!span) {
			ends += kf_tokenizer_is_control(t, e->ids[p]);
			continue;
		}
		assert_true(e->skip[p] + span <= n);
		kf_buf_put(&spelled, bytes + e->skip[p], span);
	}
	kf_buf_put(&replies, "", 1);
	kf_buf_put(&spelled, "", 1);
	assert_string_equal((char *)spelled.data, (char *)replies.data);
	ends += !e->context[e->n];
	/* of templates without an end of turn, only the last message's end tells */
	assert_true(ends > 0 || c->turn[c->n - 1].role != KF_ASSISTANT);
	kf_buf_release(&replies);
	kf_buf_release(&spelled);
}

static void encodes(void **state)
{
	json_t *t, *talk;
	size_t i, k;

	(void)state;
	json_array_foreach(json_object_get(parity, "tokens"), i, t) {
		char dir[256];
		kf_tokenizer *tok;
		kf_chat *chat;

		snprintf(dir, sizeof dir, "tests/models/%s", json_string_value(json_object_get(t, "model")));
		OK(kf_tokenizer_open_dir(dir, &tok, &err));
		OK(kf_chat_open(json_string_value(json_object_get(t, "name")), tok, &chat, &err));
		json_array_foreach(json_object_get(parity, "conversations"), k, talk) {
			conversation c = conversation_of(talk);
			const json_t *want = json_array_get(json_object_get(t, "ids"), k);
			kf_encoding e;
			kf_status rc = kf_chat_encode(chat, c.turn, c.n, c.text.data, &arena, &e, &err);
			/* the BOS that the tokenizer adds is not told */
			bool bos = rc == KF_OK && !e.no_bos && kf_tokenizer_bos(tok) >= 0;

			if (json_is_null(want) || (alone(&c) && rc == KF_EDATA)) {
				assert_int_equal(rc, KF_EDATA);
			} else {
				if (rc != KF_OK) fail_msg("%s", err.text);
				if (bos) assert_int_equal(json_integer_value(json_array_get(want, 0)), kf_tokenizer_bos(tok));
				assert_int_equal(json_array_size(want), e.n + bos);
				for (uint32_t p = 0; p < e.n; p++) {
					int32_t id = (int32_t)json_integer_value(json_array_get(want, p + bos));

					if (e.ids[p] != id) fail_msg("%s, conversation %zu, token %u: %d, not %d", dir, k, p, e.ids[p], id);
				}
				check_encoding(tok, &c, &e);
				if (!bos) assert_int_equal(e.context[0], 1);
			}
			kf_buf_release(&c.text);
			kf_arena_reset(&arena);
		}
		kf_chat_free(chat);
		kf_tokenizer_free(tok);
	}
}

/* Worked by hand: tokens on the border of template and message, and what ends a reply. */
static void borders(void **state)
{
	/* "A: " is written " a" "b": ' ' belongs to the template, "a" to the message */
	enum { A, B, SPACE, SA, NL, BNL, S, E, N };
	static const char *const pieces[N] = { "a", "b", "\xc4\xa0", "\xc4\xa0" "a", "\xc4\x8a", "b\xc4\x8a", "<s>", "</s>" };
	static const int32_t types[N] = { 1, 1, 1, 1, 1, 1, 3, 3 };
	static const char *const merges[] = { "\xc4\xa0 a" };
	const kf_vocab_spec spec = { .model = "gpt2", .pre = "gpt-2", .n = N, .pieces = pieces, .types = types, .n_merges = 1,
		.merges = merges, .bos = S, .eos = E, .unk = -1, .pad = -1, .add_bos = true };
	const kf_turn turns[] = { { 1, KF_USER }, { 2, KF_ASSISTANT }, { 1, KF_USER }, { 1, KF_ASSISTANT } };
	kf_tokenizer *t;
	kf_chat *chat;
	kf_encoding e;

	(void)state;
	OK(kf_tokenizer_from_spec(&spec, &t, &err));
	/* llama-2: <s>[INST] a [/INST] ab </s><s>[INST] b [/INST] b </s>; letters of the template have no token */
	OK(kf_chat_open("llama-2", t, &chat, &err));
	OK(kf_chat_encode(chat, turns, 4, (const uint8_t *)"aabbb", &arena, &e, &err));
	static const int32_t ids[] = { SA, SPACE, SA, B, SPACE, E, S, SPACE, B, SPACE, SPACE, B, SPACE, E };
	static const uint32_t start[] = { 0, 1, 1, 2, 3, 3, 3, 3, 3, 4, 4, 4, 5, 5, 5 }, skip[] = { 0, 0, 1 };
	static const uint8_t context[] = { 1, 1, 0, 0, 1, 0, 1, 1, 1, 1, 1, 0, 1, 0, 1 };
	assert_int_equal(e.n, LEN(ids));
	assert_memory_equal(e.ids, ids, sizeof ids);
	assert_memory_equal(e.start, start, sizeof start);
	assert_memory_equal(e.context, context, sizeof context);
	assert_int_equal(e.skip[2], skip[2]);
	assert_false(e.no_bos);
	kf_chat_free(chat);

	/* a message that spells a control token is text: the template's own are the control tokens */
	OK(kf_chat_open("plain", t, &chat, &err));
	OK(kf_chat_encode(chat, (kf_turn[]){ { 4, KF_USER }, { 5, KF_ASSISTANT } }, 2, (const uint8_t *)"</s>a</s>", &arena, &e, &err));
	for (uint32_t p = 0, ends = 0; p <= e.n; p++) {
		if (p < e.n && e.ids[p] == E) assert_int_equal(++ends, 1);
		if (p == e.n) assert_int_equal(ends, 1);
	}
	assert_true(e.no_bos);
	kf_chat_free(chat);

	/* nothing ends a reply of solar's but the end of all */
	OK(kf_chat_open("solar", t, &chat, &err));
	OK(kf_chat_encode(chat, turns, 4, (const uint8_t *)"aabbb", &arena, &e, &err));
	assert_int_equal(e.context[e.n], 0);
	OK(kf_chat_encode(chat, turns, 3, (const uint8_t *)"aabb", &arena, &e, &err));
	assert_int_equal(e.context[e.n], 1);
	kf_chat_free(chat);
	kf_tokenizer_free(t);
	kf_arena_reset(&arena);
}

static void errors(void **state)
{
	kf_tokenizer *t;
	kf_chat *chat;

	(void)state;
	OK(kf_tokenizer_open_dir("tests/models/llama-untied", &t, &err));
	FAILS(KF_EMISMATCH, "needs the token <|im_start|>, which the tokenizer does not have", kf_chat_open("chatml", t, &chat, &err));
	FAILS(KF_EINVAL, "no chat template \"alpaca\"; there are smollm2", kf_chat_open("alpaca", t, &chat, &err));
	kf_tokenizer_free(t);
	OK(kf_tokenizer_from_spec(&(kf_vocab_spec){ .model = "gpt2", .pre = "gpt-2", .n = 1, .pieces = (const char *const[]){ "a" },
		.bos = -1, .eos = -1, .unk = -1, .pad = -1 }, &t, &err));
	FAILS(KF_EMISMATCH, "replies with EOS, but the tokenizer has none", kf_chat_open("zephyr", t, &chat, &err));
	FAILS(KF_EMISMATCH, "begins with BOS, but the tokenizer has none", kf_chat_open("internlm2", t, &chat, &err));
	kf_tokenizer_free(t);
	assert_int_equal(kf_role_of("human"), KF_USER);
	assert_int_equal(kf_role_of("gpt"), KF_ASSISTANT);
	assert_int_equal(kf_role_of("tool"), KF_ROLES);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(recognises), cmocka_unit_test(renders), cmocka_unit_test(ends), cmocka_unit_test(writes), cmocka_unit_test(encodes), cmocka_unit_test(borders),
		cmocka_unit_test(errors),
	};
	int failed;

	if (argc > 1 && strcmp(argv[1], "written") == 0) return print_written();
	parity = json_load_file(PARITY, 0, NULL);
	written = json_load_file(WRITTEN, 0, NULL);
	if (!parity || !written) {
		fprintf(stderr, "cannot read %s, %s\n", PARITY, WRITTEN);
		return 1;
	}
	kf_arena_init(&arena);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	kf_arena_release(&arena);
	json_decref(written);
	json_decref(parity);
	return failed;
}
