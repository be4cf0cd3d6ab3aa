#include "tests/unit/model/make_gguf.h"

#include <math.h>
#include <unistd.h>

#include "common/model/weights.h"
#include "tests/unit/real_model.h"
#include "tests/unit/scratch.h"

static const char *in_scratch(const char *name)
{
	static char path[KF_PATH_MAX];

	snprintf(path, sizeof path, "%s/%s", scratch, name);
	return path;
}

static const char *write_gguf(gguf_maker *m)
{
	kf_buf file = { 0 };
	const char *path = in_scratch("model.gguf");

	finish_gguf(m, &file);
	write_bytes(path, file.data, file.len);
	kf_buf_release(&file);
	return path;
}

static kf_weights *open_good(const char *path)
{
	kf_weights *w;
	kf_err err;

	if (kf_weights_open(path, &w, &err) != KF_OK) fail_msg("%s", err.text);
	return w;
}

static void expect(const char *path, kf_status want, const char *text)
{
	kf_weights *w;
	kf_err err;
	kf_status rc = kf_weights_open(path, &w, &err);

	if (rc != want || !strstr(err.text, text))
		fail_msg("status %d, \"%s\", expected \"%s\"", rc, rc ? err.text : "", text);
	assert_null(w);
}

/* Every tensor of the architecture is there, in order, of its shape, found by name. */
static void check_tables(const kf_weights *w)
{
	const kf_arch *a = kf_weights_arch(w);
	char name[128];
	uint64_t rows, cols;

	assert_int_equal(kf_weights_count(w), kf_arch_tensor(a, -1, name, &rows, &cols));
	for (int i = 0; i < kf_weights_count(w); i++) {
		const kf_tensor *t = kf_weights_at(w, i);
		kf_arch_tensor(a, i, name, &rows, &cols);
		assert_string_equal(t->name, name);
		assert_true(t->rows == rows && t->cols == cols && t->n_dims == (rows == 1 ? 1 : 2));
		assert_ptr_equal(kf_weights_find(w, name), t);
	}
	assert_null(kf_weights_find(w, "model.layers.0"));
	assert_null(kf_weights_at(w, kf_weights_count(w)));
}

static void test_gguf(void **state)
{
	static const char *const archs[] = { "llama", "qwen2", "gemma3" };
	(void)state;

	for (int i = 0; i < 3; i++) {
		gguf_maker m = { 0 };
		kf_rng r;
		kf_rng_seed(&r, 3);
		put_model(&m, &r, archs[i], KF_Q8_0);
		put_vocab(&m, i == 2 ? "llama" : "gpt2", 40);
		kf_weights *w = open_good(write_gguf(&m));
		check_tables(w);
		const kf_tensor *q = kf_weights_find(w, "model.layers.1.self_attn.q_proj.weight");
		const kf_tensor *k = kf_weights_find(w, "model.layers.1.self_attn.k_proj.weight");
		const kf_tensor *v = kf_weights_find(w, "model.layers.1.self_attn.v_proj.weight");
		assert_int_equal(q->rope_heads, i == 0 ? 4 : 0);
		assert_int_equal(k->rope_heads, i == 0 ? 2 : 0);
		assert_int_equal(v->rope_heads, 0);
		assert_true(kf_weights_find(w, "model.norm.weight")->add == 0);
		assert_true(q->dtype == KF_Q8_0);
		kf_weights_close(w);
	}
}

/* Gemma's four norms of a layer, by what GGUF calls them. */
static void test_norm_names(void **state)
{
	static const char *const pairs[][2] = {
		{ "blk.1.attn_norm.weight", "model.layers.1.input_layernorm.weight" },
		{ "blk.1.post_attention_norm.weight", "model.layers.1.post_attention_layernorm.weight" },
		{ "blk.1.ffn_norm.weight", "model.layers.1.pre_feedforward_layernorm.weight" },
		{ "blk.1.post_ffw_norm.weight", "model.layers.1.post_feedforward_layernorm.weight" },
		{ "blk.1.attn_q_norm.weight", "model.layers.1.self_attn.q_norm.weight" },
		{ "blk.1.attn_k_norm.weight", "model.layers.1.self_attn.k_norm.weight" },
		{ "output_norm.weight", "model.norm.weight" }, { "token_embd.weight", "model.embed_tokens.weight" },
	};
	for (int family = 0; family < 2; family++) {
		gguf_maker m = { 0 };
		kf_rng r;
		kf_gguf *g;
		kf_err err;
		const char *path;
		kf_rng_seed(&r, 3);
		put_model(&m, &r, family ? "gemma3" : "llama", KF_F32);
		path = write_gguf(&m);
		kf_weights *w = open_good(path);
		assert_int_equal(kf_gguf_open(path, &g, &err), KF_OK);
		for (size_t i = 0; i < (family ? sizeof pairs / sizeof *pairs : 1); i++) {
			const kf_gguf_tensor *a = kf_gguf_tensor_find(g, pairs[i][0]);
			const kf_tensor *b = kf_weights_find(w, pairs[i][1]);
			assert_true(a && b && a->size == b->cols * b->rows * 4);
			assert_memory_equal(a->data, b->data, a->size);
		}
		if (!family) { /* llama's ffn_norm is Hugging Face's post_attention_layernorm */
			const kf_tensor *b = kf_weights_find(w, "model.layers.1.post_attention_layernorm.weight");
			assert_memory_equal(kf_gguf_tensor_find(g, "blk.1.ffn_norm.weight")->data, b->data, 128);
		}
		kf_gguf_close(g);
		kf_weights_close(w);
	}
	(void)state;
}

static void test_missing(void **state)
{
	gguf_maker m = { 0 };
	kf_rng r;
	(void)state;

	expect("/nonexistent/model", KF_ENOTFOUND, "/nonexistent/model: no such model");
	expect(scratch, KF_ENOTFOUND, "has no config.json");
	write_bytes(in_scratch("x.safetensors"), "", 0);
	expect(in_scratch("x.safetensors"), KF_EINVAL, "a safetensors file alone is no model");
	write_bytes(in_scratch("empty"), "", 0);
	expect(in_scratch("empty"), KF_EDATA, "is no GGUF file");

	kf_rng_seed(&r, 3);
	put_model(&m, &r, "llama", KF_F32);
	put_tensor(&m, &r, "blk.0.attn_q_norm.weight", KF_F32, 0, 8);
	expect(write_gguf(&m), KF_EUNSUPPORTED,
		"those of a llama model as configured: it has no use for tensor blk.0.attn_q_norm.weight");
	put_model(&m, &r, "llama", KF_F32);
	put_vocab(&m, "gpt2", 41);
	expect(write_gguf(&m), KF_EMISMATCH, "its tokenizer has 41 tokens, but its embedding has only 40 rows");
	put_model(&m, &r, "llama", KF_F32);
	put_tensor(&m, &r, "output.weight", KF_F32, 39, 32);
	put_tensor(&m, &r, "blk.0.attn_output.bias", KF_F32, 0, 32);
	put_tensor(&m, &r, "blk.0.attn_q.bias", KF_F32, 0, 31);
	expect(write_gguf(&m), KF_EDATA, "it lacks tensors blk.0.attn_k.bias, blk.0.attn_v.bias, blk.1.attn_q.bias, "
		"blk.1.attn_k.bias, blk.1.attn_v.bias, blk.1.attn_output.bias; it cannot use tensors blk.0.attn_q.bias (1 x 31, "
		"not 1 x 32), output.weight (39 x 32, not 40 x 32); either");
	put_model(&m, &r, "llama", KF_F32);
	put_tensor(&m, &r, "output.weight", KF_F32, 39, 32);
	expect(write_gguf(&m), KF_EDATA,
		"it cannot use tensor output.weight (39 x 32, not 40 x 32)");
	put_string(&m, "general.architecture", "qwen2");
	put_tensor(&m, &r, "token_embd.weight", KF_F32, 40, 32);
	expect(write_gguf(&m), KF_EDATA, "lacks the metadata entry qwen2.block_count");
	/* a stack of experts is told of once; what a dense model has instead is of no use */
	put_model(&m, &r, "llama", KF_F32);
	put_u32(&m, "llama.expert_count", 3);
	put_u32(&m, "llama.expert_used_count", 2);
	for (int l = 0; l < 2; l++) {
		put_tensor(&m, &r, l ? "blk.1.ffn_gate_inp.weight" : "blk.0.ffn_gate_inp.weight", KF_F32, 3, 32);
		put_stack(&m, &r, l ? "blk.1.ffn_gate_exps.weight" : "blk.0.ffn_gate_exps.weight", KF_F32, 3, 64, 32);
		put_stack(&m, &r, l ? "blk.1.ffn_down_exps.weight" : "blk.0.ffn_down_exps.weight", KF_F32, l ? 2 : 3, 32, 64);
		if (l) put_stack(&m, &r, "blk.1.ffn_up_exps.weight", KF_F32, 3, 64, 32);
	}
	expect(write_gguf(&m), KF_EDATA, "it lacks tensor blk.0.ffn_up_exps.weight; it cannot use tensor blk.1.ffn_down_exps.weight "
		"(2 x 32 x 64, not 3 x 32 x 64); it has no use for tensors blk.0.ffn_gate.weight");
}

/* A mixture of three experts as of before 2024, a tensor for each expert's matrix, without `skip`; its layer 1 stacked where asked. */
static const char *write_apart(const char *skip, bool stacked)
{
	static const char *const parts[] = { "gate", "down", "up" };
	gguf_maker m = { 0 };
	char name[64];
	kf_rng r;

	kf_rng_seed(&r, 3);
	put_model(&m, &r, "llama", KF_F32);
	kf_buf_clear(&m.info); /* the metadata stays */
	kf_buf_clear(&m.data);
	m.n_tensors = 0;
	put_u32(&m, "llama.expert_count", 3);
	put_u32(&m, "llama.expert_used_count", 2);
	put_tensor(&m, &r, "token_embd.weight", KF_F32, 40, 32);
	put_tensor(&m, &r, "output_norm.weight", KF_F32, 0, 32);
	for (int l = 0; l < 2; l++) {
		static const struct { const char *name; int rows; } plain[] = { { "attn_q", 32 }, { "attn_k", 16 }, { "attn_v", 16 },
			{ "attn_output", 32 }, { "attn_norm", 0 }, { "ffn_norm", 0 }, { "ffn_gate_inp", 3 } };
		for (size_t i = 0; i < sizeof plain / sizeof *plain; i++) {
			snprintf(name, sizeof name, "blk.%d.%s.weight", l, plain[i].name);
			put_tensor(&m, &r, name, KF_F32, (uint64_t)plain[i].rows, 32);
		}
		for (int i = 0; i < 9; i++) {
			const bool down = i / 3 == 1;
			const uint64_t rows = down ? 32 : 64, cols = down ? 64 : 32;
			if (l && stacked) {
				snprintf(name, sizeof name, "blk.1.ffn_%s_exps.weight", parts[i / 3]);
				if (i % 3 == 0) put_stack(&m, &r, name, KF_F32, 3, rows, cols);
				continue;
			}
			snprintf(name, sizeof name, "blk.%d.ffn_%s.%d.weight", l, parts[i / 3], i % 3);
			if (skip && strstr(skip, name)) continue;
			put_tensor(&m, &r, name, KF_F32, rows, cols);
		}
	}
	return write_gguf(&m);
}

/* Each tensor of an expert that a file of before 2024 lacks is told of. */
static void test_experts_apart(void **state)
{
	kf_weights *w;
	(void)state;

	for (int stacked = 0; stacked < 2; stacked++) {
		w = open_good(write_apart(NULL, stacked));
		check_tables(w);
		kf_weights_close(w);
	}
	expect(write_apart("blk.0.ffn_gate.1.weight", false), KF_EDATA, "it lacks tensor blk.0.ffn_gate.1.weight; either");
	expect(write_apart("blk.0.ffn_gate.1.weight", true), KF_EDATA, "it lacks tensor blk.0.ffn_gate.1.weight; either");
	expect(write_apart("blk.1.ffn_up.0.weight", false), KF_EDATA, "it lacks tensor blk.1.ffn_up.0.weight; either");
	expect(write_apart("blk.1.ffn_down.0.weight blk.1.ffn_down.1.weight blk.1.ffn_down.2.weight", false), KF_EDATA,
		"it lacks tensors blk.1.ffn_down.0.weight, blk.1.ffn_down.1.weight, blk.1.ffn_down.2.weight; either");
}

/* ---- folders ---- */

#define CONFIG                                                                                               \
	"{\"model_type\":\"gemma3_text\",\"hidden_size\":4,\"intermediate_size\":4,\"num_hidden_layers\":1,"     \
	"\"num_attention_heads\":1,\"num_key_value_heads\":1,\"head_dim\":4,\"vocab_size\":3,\"sliding_"         \
	"window\":8%s}"

/* A folder with every tensor of the configuration, of zeros, but `skip`; and the extra one. */
static const char *make_folder(const char *more_config, const char *skip, const char *extra)
{
	static char dir[64];
	char config[1024], name[128], path[128];
	json_t *c, *h = json_object();
	kf_arch a;
	kf_err err;
	kf_buf file = { 0 };
	uint64_t rows, cols, at = 0;

	snprintf(dir, sizeof dir, "%s/folder", scratch);
	assert_int_equal(kf_mkdirs(dir, &err), KF_OK);
	snprintf(config, sizeof config, CONFIG, more_config);
	snprintf(path, sizeof path, "%s/config.json", dir);
	write_bytes(path, config, strlen(config));
	c = json_loads(config, 0, NULL);
	if (kf_arch_from_config(c, &a, &err) != KF_OK) fail_msg("%s", err.text);
	json_decref(c);
	int n = kf_arch_tensor(&a, -1, name, &rows, &cols);
	for (int i = 0; i <= n; i++) {
		if (i == n && !extra) break;
		kf_arch_tensor(&a, i == n ? 0 : i, name, &rows, &cols);
		if (i == n) snprintf(name, sizeof name, "%s", extra);
		if (skip && !strcmp(name, skip)) continue;
		json_t *shape = rows == 1 ? json_pack("[I]", (json_int_t)cols)
								  : json_pack("[I, I]", (json_int_t)rows, (json_int_t)cols);
		json_object_set_new(h, name, json_pack("{s:s, s:o, s:[I, I]}", "dtype", "BF16", "shape", shape,
			"data_offsets", (json_int_t)at, (json_int_t)(at + 2 * rows * cols)));
		at += 2 * rows * cols;
	}
	char *text = json_dumps(h, JSON_COMPACT);
	json_decref(h);
	kf_buf_u64(&file, strlen(text));
	kf_buf_put(&file, text, strlen(text));
	kf_buf_fill(&file, 0, (size_t)at);
	free(text);
	snprintf(path, sizeof path, "%s/model.safetensors", dir);
	write_bytes(path, file.data, file.len);
	kf_buf_release(&file);
	return dir;
}

static void test_folder(void **state)
{
	float out[4];
	(void)state;

	kf_weights *w = open_good(make_folder("", NULL, NULL));
	check_tables(w);
	for (int i = 0; i < kf_weights_count(w); i++) {
		const kf_tensor *t = kf_weights_at(w, i);
		kf_tensor_rows(t, 0, 1, out);
		/* zeros in the file: a Gemma norm of Hugging Face is 1 + that */
		assert_true(out[0] == (strstr(t->name, "norm") ? 1.0f : 0.0f));
	}
	kf_weights_close(w);
	kf_weights_close(open_good(make_folder("", NULL, "lm_head.weight")));                /* tied: the embedding again */
	kf_weights_close(open_good(make_folder("", NULL, "v_head.weight")));
	kf_weights_close(open_good(make_folder(",\"tie_word_embeddings\":false", NULL, NULL)));
	expect(make_folder(",\"tie_word_embeddings\":false", "lm_head.weight", NULL), KF_EDATA,
		"lacks tensor lm_head.weight");
	expect(make_folder("", "model.layers.0.mlp.up_proj.weight", NULL), KF_EDATA,
		"it lacks tensor model.layers.0.mlp.up_proj.weight");
	expect(make_folder("", NULL, "model.layers.0.self_attn.q_proj.bias"), KF_EUNSUPPORTED,
		"it has no use for tensor model.layers.0.self_attn.q_proj.bias");
	expect(make_folder("", NULL, "model.layers.1.mlp.up_proj.weight"), KF_EUNSUPPORTED,
		"model.layers.1.mlp.up_proj.weight");

	/* all that is wrong is said at once */
	make_folder("", "model.layers.0.mlp.up_proj.weight", "model.layers.0.mlp.up_proj.bias");
	expect(in_scratch("folder"), KF_EDATA,
		"it lacks tensor model.layers.0.mlp.up_proj.weight; it has no use for tensor "
		"model.layers.0.mlp.up_proj.bias; either");
	make_folder("", NULL, NULL);
	write_bytes(in_scratch("folder/config.json"), "{", 1);
	expect(in_scratch("folder"), KF_EDATA, "folder/config.json is no good JSON");
	make_folder("", NULL, NULL);
	assert_int_equal(unlink(in_scratch("folder/model.safetensors")), 0);
	write_bytes(in_scratch("folder/pytorch_model.bin"), "", 0);
	expect(in_scratch("folder"), KF_EDATA, "pytorch_model.bin: its zip archive has no end");
	assert_int_equal(unlink(in_scratch("folder/pytorch_model.bin")), 0);
	expect(
		in_scratch("folder"), KF_ENOTFOUND, "has neither model.safetensors nor pytorch_model.bin");
}

/* A tied model's head may stand in its file again; one that differs does not pass for the embedding. */
static void test_tied_head(void **state)
{
	static const char *const reshaped[] = { "\"F16\"", "[4,3]" }, *const was[] = { "\"BF16\"", "[3,4]" };
	static const char file[] = "folder/model.safetensors", want[] = "its lm_head.weight differs from model.embed_tokens.weight";
	kf_buf b = { 0 };
	kf_err err;
	(void)state;

	for (size_t i = 0; i < 24; i += 23) { /* the first byte and the last */
		make_folder("", NULL, "lm_head.weight");
		assert_int_equal(kf_file_read(in_scratch(file), 1 << 20, &b, &err), KF_OK);
		b.data[b.len - 24 + i] = 1;
		write_bytes(in_scratch(file), b.data, b.len);
		expect(in_scratch("folder"), KF_EUNSUPPORTED, want);
	}
	for (int i = 0; i < 2; i++) { /* of another type, of another shape */
		make_folder("", NULL, "lm_head.weight");
		assert_int_equal(kf_file_read(in_scratch(file), 1 << 20, &b, &err), KF_OK);
		char *entry = memmem(b.data, b.len, "\"lm_head.weight\"", 16), *at;
		assert_non_null(entry);
		at = strstr(entry, was[i]);
		assert_non_null(at);
		memset(at, ' ', strlen(was[i]));
		memcpy(at, reshaped[i], strlen(reshaped[i]));
		write_bytes(in_scratch(file), b.data, b.len);
		expect(in_scratch("folder"), KF_EUNSUPPORTED, want);
	}
	kf_buf_release(&b);
}

static kf_fp fp_of(const char *path)
{
	kf_weights *w = open_good(path);
	kf_fp fp;
	kf_err err;

	assert_int_equal(kf_weights_fp(w, &fp, &err), KF_OK);
	kf_weights_close(w);
	return fp;
}

/* The fingerprint follows the configuration and every byte of the tensors, and nothing else. */
static void test_fp(void **state)
{
	kf_fp a = fp_of(make_folder("", NULL, NULL)), b;
	const char *path = in_scratch("folder/model.safetensors");
	kf_buf file = { 0 };
	kf_err err;
	(void)state;

	b = fp_of(make_folder(",\"bos_token_id\":0", NULL, "v_head.weight"));
	assert_true(kf_fp_equal(a, b));
	b = fp_of(make_folder(",\"rope_theta\":5000", NULL, NULL));
	assert_false(kf_fp_equal(a, b));
	make_folder("", NULL, NULL);
	path = in_scratch("folder/model.safetensors");
	assert_int_equal(kf_file_read(path, 1 << 20, &file, &err), KF_OK);
	file.data[file.len - 1] ^= 1;
	write_bytes(path, file.data, file.len);
	b = fp_of(in_scratch("folder"));
	assert_false(kf_fp_equal(a, b));
	kf_buf_release(&file);
}

/* Damaged headers of whole models: refused or opened, and what opens can be read throughout. */
static void test_damage(void **state)
{
	kf_buf file = { 0 };
	kf_err err;
	kf_rng r;
	int opened = 0;
	(void)state;

	kf_rng_seed(&r, 23);
	make_folder("", NULL, NULL);
	for (int which = 0; which < 2; which++) {
		const char *name = which ? "folder/config.json" : "folder/model.safetensors";
		assert_int_equal(kf_file_read(in_scratch(name), 1 << 20, &file, &err), KF_OK);
		for (int i = 0; i < 700; i++) {
			kf_weights *w;
			float out[64];
			size_t at = kf_rng_below(&r, file.len);
			uint8_t old = file.data[at];
			file.data[at] =
				kf_rng_below(&r, 2) ? (uint8_t)('0' + kf_rng_below(&r, 10)) : (uint8_t)kf_rng_next(&r);
			write_bytes(in_scratch(name), file.data, file.len);
			if (kf_weights_open(in_scratch("folder"), &w, &err) == KF_OK) {
				opened++;
				for (int k = 0; k < kf_weights_count(w); k++) {
					const kf_tensor *t = kf_weights_at(w, k);
					assert_true(t->cols <= 64);
					for (uint64_t row = 0; row < t->rows; row++) kf_tensor_rows(t, row, 1, out);
				}
				kf_weights_close(w);
			}
			file.data[at] = old;
		}
		write_bytes(in_scratch(name), file.data, file.len);
	}
	assert_true(opened > 20);
	kf_buf_release(&file);
}

/* ---- models ---- */

static void test_tiny(void **state)
{
	static const struct { const char *path; kf_family family; } models[] = {
		{ "tests/models/llama-tiny", KF_FAMILY_LLAMA }, { "tests/models/llama-untied", KF_FAMILY_LLAMA },
		{ "tests/models/qwen2-tiny", KF_FAMILY_QWEN2 }, { "tests/models/gemma3-tiny", KF_FAMILY_GEMMA3 },
	};
	(void)state;

	for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
		kf_weights *w = open_good(models[i].path);
		assert_int_equal(kf_weights_arch(w)->family, models[i].family);
		check_tables(w);
		kf_weights_close(w);
	}
}

/* Elements of the demo's models, computed with the gguf package and numpy: element (rows * 2 / 3,
 * cols / 3) of each, q and k of llama back in Hugging Face's order. */
static void test_real(void **state)
{
	static const struct { const char *model, *name; float value; } spots[] = {
		{ "smollm2-135m", "model.embed_tokens.weight", -0x1.368cp-3f },
		{ "smollm2-135m", "model.layers.29.mlp.down_proj.weight", 0x1.5cp-3f },
		{ "smollm2-135m", "model.layers.3.self_attn.k_proj.weight", -0x1.76p-3f },
		{ "smollm2-135m", "model.layers.3.self_attn.q_proj.weight", 0x1.75ap-5f },
		{ "smollm2-135m", "model.norm.weight", 0x1.b8p+0f },
		{ "gemma3-270m", "model.embed_tokens.weight", 0x1.4944p-6f },
		{ "gemma3-270m", "model.layers.0.mlp.down_proj.weight", -0x1.c12cp-10f },
		{ "gemma3-270m", "model.layers.1.pre_feedforward_layernorm.weight", 0x1.0cp+5f },
		{ "gemma3-270m", "model.layers.1.post_attention_layernorm.weight", 0x1.4ep-1f },
		{ "gemma3-270m", "model.layers.1.post_feedforward_layernorm.weight", 0x1.a8p-2f },
		{ "gemma3-270m", "model.layers.2.self_attn.o_proj.weight", 0x1.3d354p-4f },
		{ "gemma3-270m", "model.layers.4.self_attn.q_proj.weight", -0x1.9ep-5f },
		{ "qwen2.5-coder-0.5b", "lm_head.weight", -0x1.3128p-7f },
		{ "qwen2.5-coder-0.5b", "model.embed_tokens.weight", -0x1.038p-7f },
		{ "qwen2.5-coder-0.5b", "model.layers.0.mlp.down_proj.weight", 0x1.275fp-7f },
		{ "qwen2.5-coder-0.5b", "model.layers.5.self_attn.k_proj.bias", -0x1.84p+0f },
		{ "qwen2.5-coder-0.5b", "model.layers.5.self_attn.q_proj.weight", -0x1.b4ep-8f },
	};
	const char *last = "";
	char path[KF_PATH_MAX];
	kf_weights *w = NULL;
	int missing = 0;
	(void)state;

	for (size_t i = 0; i < sizeof spots / sizeof *spots; i++) {
		if (strcmp(last, spots[i].model) != 0) {
			kf_weights_close(w);
			w = NULL;
			last = spots[i].model;
			if (real_model(last, path)) {
				w = open_good(path);
				check_tables(w);
			} else {
				print_message("no %s\n", last);
				missing++;
			}
		}
		if (!w) continue;
		const kf_tensor *t = kf_weights_find(w, spots[i].name);
		assert_non_null(t);
		float *row = malloc(sizeof *row * t->cols);
		int32_t index = (int32_t)(t->rows * 2 / 3);
		assert_non_null(row);
		kf_tensor_gather(t, &index, 1, row);
		if (row[t->cols / 3] != spots[i].value)
			fail_msg("%s %s: %a, not %a", last, spots[i].name, row[t->cols / 3], spots[i].value);
		free(row);
	}
	kf_weights_close(w);
	if (missing == 3) skip();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_gguf), cmocka_unit_test(test_norm_names), cmocka_unit_test(test_missing),
		cmocka_unit_test(test_experts_apart), cmocka_unit_test(test_folder), cmocka_unit_test(test_tied_head),
		cmocka_unit_test(test_fp), cmocka_unit_test(test_damage), cmocka_unit_test(test_tiny), cmocka_unit_test(test_real),
	};
	return cmocka_run_group_tests(tests, make_scratch, drop_scratch);
}
