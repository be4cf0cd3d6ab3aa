/* The tokens that end what a model generates, as its files say. */
#include "tests/unit/model/make_gguf.h"

#include <jansson.h>

#include "common/model/decode.h"
#include "eval/subject.h"
#include "tests/unit/scratch.h"

static void in_scratch(char path[64], const char *name) { snprintf(path, 64, "%s/%s", scratch, name); }

static kf_status get(void *arg, int i, float *out, kf_err *err)
{
	const kf_tensor *t = kf_weights_at(arg, i);

	(void)err;
	kf_tensor_rows(t, 0, t->rows, out);
	return KF_OK;
}

/* The folder that training would write of a model. */
static void write_folder(const char *path, const char *dir)
{
	kf_out_tensor *t;
	kf_tokenizer *tokenizer;
	kf_weights *w;
	kf_err err;

	if (kf_weights_open(path, &w, &err) != KF_OK || kf_weights_tokenizer(w, &tokenizer, &err) != KF_OK) fail_msg("%s", err.text);
	assert_non_null(t = calloc((size_t)kf_weights_count(w), sizeof *t));
	for (int i = 0; i < kf_weights_count(w); i++) {
		const kf_tensor *k = kf_weights_at(w, i);

		t[i] = (kf_out_tensor){ k->name, k->rows, k->cols, k->n_dims, get, w };
	}
	if (kf_hf_write(dir, &(kf_hf_spec){ .arch = kf_weights_arch(w), .tensors = t, .n = kf_weights_count(w), .dtype = KF_F32,
		.tokenizer = tokenizer, .like = w }, &err) != KF_OK)
		fail_msg("%s", err.text);
	free(t);
	kf_tokenizer_free(tokenizer);
	kf_weights_close(w);
}

static void check_ends(const char *path, const int32_t *want, int n_want)
{
	kf_subject s = { 0 };
	const int32_t *end;
	kf_arena arena;
	kf_err err;
	int n;

	kf_arena_init(&arena);
	if (kf_subject_open(&s, path, &err) != KF_OK || kf_decode_ends(s.weights, s.tokenizer, &arena, &end, &n, &err) != KF_OK) fail_msg("%s", err.text);
	assert_int_equal(n, n_want);
	if (n) assert_memory_equal(end, want, (size_t)n * sizeof *end);
	kf_subject_close(&s);
	kf_arena_release(&arena);
}

static void folder(void **state)
{
	static const struct { const char *generation, *config; int32_t want[3]; int n; } cases[] = {
		{ "{\"eos_token_id\": [5, 2, 7]}", "3", { 5, 2, 7 }, 3 },
		{ "{\"eos_token_id\": 4}", "[3, 9]", { 4 }, 1 },
		{ "{}", "[3, 9]", { 3, 9 }, 2 },
		{ "{\"eos_token_id\": null}", "3", { 3 }, 1 },
		{ NULL, "[3, 9]", { 3, 9 }, 2 },
		{ "{\"eos_token_id\": [\"x\", -1, 4294967296, 6]}", "3", { 6 }, 1 },
		{ NULL, "null", { 0 }, 0 },
	};
	char model[64], path[64];

	(void)state;
	in_scratch(model, "folder");
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		json_t *config = json_load_file("tests/models/llama-tiny/config.json", 0, NULL);
		char cmd[320];

		snprintf(cmd, sizeof cmd, "rm -rf %s && cp -r tests/models/llama-tiny %s && rm %s/generation_config.json", model, model, model);
		assert_int_equal(system(cmd), 0);
		in_scratch(path, "folder/config.json");
		json_object_set_new(config, "eos_token_id", json_loads(cases[i].config, JSON_DECODE_ANY, NULL));
		assert_int_equal(json_dump_file(config, path, 0), 0);
		json_decref(config);
		in_scratch(path, "folder/generation_config.json");
		if (cases[i].generation) write_bytes(path, cases[i].generation, strlen(cases[i].generation));
		check_ends(model, cases[i].want, cases[i].n);
	}
}

/* GGUF names one end; others are known by their names, if they are control tokens; and not all control tokens are ends. */
static void gguf(void **state)
{
	static const char *const special[] = { "<unk>", "<s>", "</s>", "<|endoftext|>", "<|im_end|>", "[TOOL_CALLS]", "<|end|>" };
	static const int32_t want[] = { 3, 4 }, written[] = { 2, 3, 4 }; /* EOS first */
	enum { V = 40, SPECIAL = 7 };
	char text[V][8], path[64], out[64];
	const char *list[V];
	gguf_maker m = { 0 };
	kf_buf file = { 0 };
	kf_rng r;

	(void)state;
	kf_rng_seed(&r, 3);
	put_model(&m, &r, "llama", KF_F32);
	for (int i = 0; i < V; i++) {
		snprintf(text[i], sizeof text[i], "%c%d", 'a' + i % 26, i / 26);
		list[i] = i < SPECIAL ? special[i] : text[i];
	}
	put_string(&m, "tokenizer.ggml.model", "llama");
	put_strings(&m, "tokenizer.ggml.tokens", list, V);
	put_array(&m, "tokenizer.ggml.token_type", KF_GGUF_I32, V);
	for (int i = 0; i < V; i++) kf_buf_u32(&m.kv, i == 0 ? KF_TT_UNKNOWN : i < SPECIAL - 1 ? KF_TT_CONTROL : KF_TT_NORMAL);
	put_array(&m, "tokenizer.ggml.scores", KF_GGUF_F32, V);
	for (int i = 0; i < V; i++) kf_buf_f32(&m.kv, -(float)i);
	finish_gguf(&m, &file);
	in_scratch(path, "model.gguf");
	write_bytes(path, file.data, file.len);
	kf_buf_release(&file);
	check_ends(path, want, 2);
	/* written as a folder it ends as before */
	in_scratch(out, "written");
	write_folder(path, out);
	check_ends(out, written, 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(folder), cmocka_unit_test(gguf) };

	return cmocka_run_group_tests_name("subject", tests, make_scratch, drop_scratch);
}
