#include "tests/unit/model/make_gguf.h"

#include <sys/stat.h>
#include <unistd.h>

#include "common/model/weights.h"
#include "common/text/chat.h"
#include "tests/unit/scratch.h"

static const char *in_scratch(const char *name)
{
	static char path[2][256];
	static int turn;

	turn ^= 1;
	snprintf(path[turn], sizeof path[turn], "%s/%s", scratch, name);
	return path[turn];
}

static void run(const char *format, const char *a)
{
	char cmd[512];

	snprintf(cmd, sizeof cmd, format, a);
	assert_int_equal(system(cmd), 0);
}

static kf_weights *open_good(const char *path)
{
	kf_weights *w;
	kf_err err;

	if (kf_weights_open(path, &w, &err) != KF_OK) fail_msg("%s", err.text);
	return w;
}

struct source { const kf_weights *w; int fail_at, calls; };

static kf_status get(void *arg, int i, float *out, kf_err *err)
{
	struct source *s = arg;
	const kf_tensor *t = kf_weights_at(s->w, i);

	if (s->calls++ == s->fail_at) return kf_fail(err, KF_EIO, "no more of this");
	kf_tensor_rows(t, 0, t->rows, out);
	return KF_OK;
}

static kf_status copy(struct source *s, const char *dir, kf_dtype dtype, uint64_t shard, const kf_tokenizer *tok, kf_err *err)
{
	int n = kf_weights_count(s->w);
	kf_out_tensor *t = calloc((size_t)n, sizeof *t);
	kf_status rc;

	assert_non_null(t);
	for (int i = 0; i < n; i++) {
		const kf_tensor *k = kf_weights_at(s->w, i);
		t[i] = (kf_out_tensor){ k->name, k->rows, k->cols, k->n_dims, get, s };
	}
	rc = kf_hf_write(dir, &(kf_hf_spec){ .arch = kf_weights_arch(s->w), .tensors = t, .n = n, .dtype = dtype,
		.shard_bytes = shard, .tokenizer = tok, .like = s->w }, err);
	free(t);
	return rc;
}

static void copy_good(const kf_weights *w, const char *dir, kf_dtype dtype, uint64_t shard)
{
	struct source s = { w, -1, 0 };
	kf_err err;

	if (copy(&s, dir, dtype, shard, NULL, &err) != KF_OK) fail_msg("%s", err.text);
}

/* Largest difference of any element of any tensor, as the kernels see them. */
static double difference(const kf_weights *a, const kf_weights *b)
{
	double worst = 0;

	assert_int_equal(kf_weights_count(a), kf_weights_count(b));
	for (int i = 0; i < kf_weights_count(a); i++) {
		const kf_tensor *s = kf_weights_at(a, i), *t = kf_weights_at(b, i);
		assert_string_equal(s->name, t->name);
		assert_true(s->rows == t->rows && s->cols == t->cols && s->n_dims == t->n_dims);
		size_t n = (size_t)(s->rows * s->cols);
		float *x = malloc(n * sizeof *x), *y = malloc(n * sizeof *y);
		assert_true(x && y);
		kf_tensor_rows(s, 0, s->rows, x);
		kf_tensor_rows(t, 0, t->rows, y);
		for (size_t k = 0; k < n; k++) {
			double d = (double)x[k] - (double)y[k];
			if (d < 0) d = -d;
			if (!(d <= worst)) worst = d;
		}
		free(x);
		free(y);
	}
	return worst;
}

/* The tiny checkpoints survive to the bit, in float32 and in their own type: adding Gemma's 1 and
 * taking it off again costs nothing. */
static void test_tiny(void **state)
{
	static const char *const models[] = { "llama-tiny", "llama-untied", "qwen2-tiny", "gemma3-tiny" };
	(void)state;

	for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
		char path[256];
		snprintf(path, sizeof path, "tests/models/%s", models[i]);
		kf_weights *a = open_good(path), *b;
		kf_dtype own = kf_weights_at(a, 0)->dtype;
		char name[64];

		for (int d = 0; d < 2; d++) {
			kf_dtype dtype = d ? own : KF_F32;
			snprintf(name, sizeof name, "%s-%d", models[i], d);
			copy_good(a, in_scratch(name), dtype, 0);
			b = open_good(in_scratch(name));
			assert_true(kf_weights_at(b, 0)->dtype == dtype);
			assert_true(difference(a, b) == 0);
			kf_weights_close(b);
		}
		/* written once more, in several files: the same model, so the same fingerprint */
		kf_fp x, y;
		kf_err err;
		b = open_good(in_scratch(name));
		snprintf(name, sizeof name, "%s-2", models[i]);
		copy_good(b, in_scratch(name), own, 20000);
		kf_weights *c = open_good(in_scratch(name));
		assert_int_equal(kf_weights_fp(b, &x, &err), KF_OK);
		assert_int_equal(kf_weights_fp(c, &y, &err), KF_OK);
		assert_true(kf_fp_equal(x, y));
		kf_weights_close(c);
		kf_weights_close(b);
		kf_weights_close(a);
	}
}

static json_t *read_json(const char *dir, const char *name)
{
	char path[512];
	json_error_t je;
	json_t *v;

	snprintf(path, sizeof path, "%s/%s", dir, name);
	/* "no limit" is above any integer there */
	if (!(v = json_load_file(path, strcmp(name, "tokenizer_config.json") ? 0 : JSON_DECODE_INT_AS_REAL, &je))) fail_msg("%s: %s", path, je.text);
	return v;
}

/* What a folder's configurations say and we do not know is in the copy; what we write otherwise is not there twice. */
static void test_unknown_keys(void **state)
{
	static const struct { const char *model, *more, *kept[6], *gone[4]; } cases[] = {
		{ "llama-tiny", "{\"pad_token_id\":2,\"eos_token_id\":[2,0],\"my_note\":{\"a\":[1]},\"initializer_range\":0.125,\"use_cache\":false,"
			"\"dtype\":\"float32\",\"auto_map\":{\"AutoConfig\":\"x.Y\"},\"rope_parameters\":null}",
			{ "pad_token_id", "eos_token_id", "my_note", "initializer_range", "use_cache" }, { "dtype", "auto_map", "rope_parameters" } },
		{ "families/mpt", "{\"init_device\":\"cpu\",\"verbose\":0,\"emb_pdrop\":0.25}", { "init_device", "verbose", "emb_pdrop" }, { NULL } },
		{ "families/qwen2-window", "{\"max_window_layers\":1,\"x\":1}", { "x" }, { "max_window_layers" } },
	};
	(void)state;

	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		char dir[100], out[140], from[200];
		snprintf(dir, sizeof dir, "%s", in_scratch("like"));
		snprintf(out, sizeof out, "%s-out-%zu", dir, i);
		snprintf(from, sizeof from, "tests/models/%s %s", cases[i].model, dir);
		run("rm -rf %s", dir);
		run("cp -r %s", from);
		json_t *was = read_json(dir, "config.json"), *more = json_loads(cases[i].more, 0, NULL), *now;
		assert_non_null(more);
		json_object_update(was, more);
		json_dump_file(was, in_scratch("like/config.json"), 0);
		json_dump_file(more, in_scratch("like/generation_config.json"), 0);

		kf_weights *a = open_good(dir), *b;
		copy_good(a, out, KF_F32, 0);
		now = read_json(out, "config.json");
		for (int k = 0; k < 6 && cases[i].kept[k]; k++)
			if (!json_equal(json_object_get(now, cases[i].kept[k]), json_object_get(was, cases[i].kept[k])))
				fail_msg("%s: \"%s\" is lost", cases[i].model, cases[i].kept[k]);
		for (int k = 0; k < 4 && cases[i].gone[k]; k++) assert_null(json_object_get(now, cases[i].gone[k]));
		if (i == 1) /* what is inside attn_config, too */
			assert_non_null(json_object_get(json_object_get(now, "attn_config"), "attn_impl"));
		json_decref(now);
		now = read_json(out, "generation_config.json");
		assert_true(json_equal(now, more));
		b = open_good(out);
		assert_true(difference(a, b) == 0);
		kf_weights_close(a);
		kf_weights_close(b);
		json_decref(now);
		json_decref(was);
		json_decref(more);
	}
}

/* What no folder can be renamed onto is refused before anything is asked for. */
static void test_places(void **state)
{
	static const struct { const char *name, *says; } cases[] = { { "to-empty", "is a link" }, { "to-empty/", "is a link" }, { "to-nothing", "is a link" },
		{ "to-nothing//", "is a link" }, { "empty/.", "is no name for a folder" }, { "empty/..", "is no name for a folder" } };
	kf_weights *w = open_good("tests/models/llama-tiny");
	struct source s = { w, 0, 0 };
	kf_err err;
	(void)state;

	run("mkdir %s", in_scratch("empty"));
	run("ln -s empty %s", in_scratch("to-empty"));
	run("ln -s nothing %s", in_scratch("to-nothing"));
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		for (int replace = 0; replace < 2; replace++) {
			assert_int_equal(kf_hf_may_write(in_scratch(cases[i].name), replace, &err), KF_EINVAL);
			assert_non_null(strstr(err.text, cases[i].says));
			assert_int_equal(copy(&s, in_scratch(cases[i].name), KF_F32, 0, NULL, &err), KF_EINVAL);
			assert_non_null(strstr(err.text, cases[i].says));
		}
	assert_int_equal(s.calls, 0);
	assert_int_equal(kf_hf_may_write("/", false, &err), KF_EINVAL);
	assert_int_equal(kf_hf_may_write("", false, &err), KF_EINVAL);
	assert_int_equal(kf_hf_may_write("/proc/", false, &err), KF_EINVAL);
	assert_non_null(strstr(err.text, "is a mount point, which a model cannot take the place of. Give a new folder in it, as /proc/model."));
	assert_int_equal(kf_hf_may_write(in_scratch("empty//"), false, &err), KF_OK);
	assert_int_equal(kf_hf_may_write(in_scratch("new/"), false, &err), KF_OK);
	assert_int_equal(kf_hf_may_write(in_scratch("no/such/folder/new"), false, &err), KF_OK);
	assert_int_not_equal(access(in_scratch("new"), F_OK), 0);
	kf_weights_close(w);
}

/* A chat template in the place of the model's own ends replies with another token than generation has stopped at so far: it does so, too. */
static void test_template_end(void **state)
{
	static const struct { const char *config, *generation; const char *want; } cases[] = {
		{ "410", "{\"eos_token_id\":410,\"top_k\":7}", "{\"eos_token_id\":[410,412],\"top_k\":7}" },
		{ "410", "{\"eos_token_id\":[5,410],\"_from_model_config\":true}", "{\"eos_token_id\":[5,410,412]}" },
		{ "[410,3]", "{\"top_k\":7}", "{\"top_k\":7,\"eos_token_id\":[410,3,412]}" },
		{ "null", "{\"eos_token_id\":null}", "{\"eos_token_id\":[412]}" },
		{ "410", NULL, "{\"bos_token_id\":410,\"eos_token_id\":[410,412]}" },
		{ "[410,3]", NULL, "{\"bos_token_id\":410,\"eos_token_id\":[410,3,412]}" },
		/* it does already */
		{ "410", "{\"eos_token_id\":[412,410],\"_from_model_config\":true}", "{\"eos_token_id\":[412,410],\"_from_model_config\":true}" },
		{ "412", NULL, "{\"_from_model_config\":true,\"bos_token_id\":410,\"eos_token_id\":412}" },
	};
	char dir[100], out[140];
	(void)state;

	snprintf(dir, sizeof dir, "%s", in_scratch("end"));
	snprintf(out, sizeof out, "%s-out", dir);
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		kf_tokenizer *t, *again;
		kf_err err;

		run("rm -rf %s", dir);
		run("cp -r tests/models/qwen2-tiny %s", dir);
		json_t *config = read_json(dir, "config.json"), *more = cases[i].generation ? json_loads(cases[i].generation, 0, NULL) : NULL, *now,
			*want = json_loads(cases[i].want, 0, NULL);
		json_object_set_new(config, "eos_token_id", json_loads(cases[i].config, JSON_DECODE_ANY, NULL));
		json_dump_file(config, in_scratch("end/config.json"), 0);
		if (more) json_dump_file(more, in_scratch("end/generation_config.json"), 0);
		else run("rm %s/generation_config.json", dir);

		kf_weights *w = open_good(dir);
		assert_int_equal(kf_weights_tokenizer(w, &t, &err), KF_OK);
		for (int chosen = 0; chosen < 2; chosen++) { /* without a template of ours all stays */
			struct source source = { w, -1, 0 };

			if (chosen) assert_int_equal(kf_chat_adopt("chatml", t, &err), KF_OK);
			run("rm -rf %s", out);
			if (copy(&source, out, KF_F32, 0, t, &err) != KF_OK) fail_msg("%s", err.text);
			now = read_json(out, "generation_config.json");
			if (!chosen && !more && json_is_array(json_object_get(config, "eos_token_id")))
				assert_true(json_equal(json_object_get(now, "eos_token_id"), json_object_get(config, "eos_token_id")));
			if (chosen ? !json_equal(now, want) : more && !json_equal(now, more)) fail_msg("case %zu: %s", i, json_dumps(now, 0));
			json_decref(now);
			now = read_json(out, "config.json");
			assert_true(json_equal(json_object_get(now, "eos_token_id"), json_object_get(config, "eos_token_id")));
			json_decref(now);
		}
		kf_weights *written = open_good(out);
		assert_int_equal(kf_weights_tokenizer(written, &again, &err), KF_OK);
		assert_true(kf_fp_equal(kf_tokenizer_fp(again), kf_tokenizer_fp(t)));
		kf_weights_close(written);
		kf_weights_close(w);
		kf_tokenizer_free(again);
		kf_tokenizer_free(t);
		json_decref(config);
		json_decref(more);
		json_decref(want);
	}
}

/* Every family is written under its own names: what is written is read as the same model. */
static void test_families(void **state)
{
	static const char *const models[] = { "llama-dynamic", "llama-yarn", "llama-yarn-all", "llama-longrope",
		"llama-longrope-factor", "mistral", "mistral-full", "mixtral-2-of-4", "mixtral-all", "qwen1.5", "qwen2-window",
		"qwen3", "qwen3-bias", "gemma2", "gemma2-uncapped", "gpt-neox", "gpt-neox-serial", "mpt", "mpt-6-heads",
		"internlm2", "internlm2-bias", "gemma3-capped" };
	(void)state;

	for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
		char path[256], name[64];
		kf_fp x, y;
		kf_err err;

		snprintf(path, sizeof path, "tests/models/families/%s", models[i]);
		kf_weights *a = open_good(path), *b;
		snprintf(name, sizeof name, "family-%s", models[i]);
		copy_good(a, in_scratch(name), kf_weights_at(a, 0)->dtype, 0);
		b = open_good(in_scratch(name));
		assert_true(difference(a, b) == 0);
		assert_int_equal(kf_weights_fp(a, &x, &err), KF_OK);
		assert_int_equal(kf_weights_fp(b, &y, &err), KF_OK);
		/* of a float32, Gemma's 1 added and taken off leaves another last bit, and the same sum */
		if (!kf_fp_equal(x, y) && !(kf_weights_arch(a)->norm_plus_one && kf_weights_at(a, 0)->dtype == KF_F32)) fail_msg("%s: the copy has another fingerprint", models[i]);
		kf_weights_close(b);
		kf_weights_close(a);
	}
}

/* GGUF to Hugging Face: rows of q and k in order again, norms without Gemma's 1. */
static void test_from_gguf(void **state)
{
	static const char *const archs[] = { "llama", "qwen2", "gemma3" };
	(void)state;

	for (int i = 0; i < 3; i++) {
		gguf_maker m = { 0 };
		kf_buf file = { 0 };
		kf_rng r;
		kf_rng_seed(&r, 3);
		put_model(&m, &r, archs[i], KF_Q5_1);
		finish_gguf(&m, &file);
		write_bytes(in_scratch("m.gguf"), file.data, file.len);
		kf_weights *a = open_good(in_scratch("m.gguf"));
		copy_good(a, in_scratch(archs[i]), KF_F32, 0);
		kf_weights *b = open_good(in_scratch(archs[i]));
		double d = difference(a, b);
		assert_true(i == 2 ? d < 1e-7 : d == 0); /* norms of about 0.1 lose bits beside the 1 */
		assert_int_equal(kf_weights_find(b, "model.layers.0.self_attn.q_proj.weight")->rope_heads, 0);
		copy_good(a, in_scratch("half"), KF_F16, 0);
		kf_weights *c = open_good(in_scratch("half"));
		assert_true(difference(a, c) < 0.02); /* values up to 64 */
		kf_weights_close(c);
		run("rm -r %s", in_scratch("half"));
		kf_weights_close(b);
		kf_weights_close(a);
		kf_buf_release(&file);
	}
}

/* A family in GGUF becomes the folder it was made from: the fingerprint of what that folder would be once copied. */
static void test_families_from_gguf(void **state)
{
	static const char *const models[] = { "qwen3", "gpt-neox", "mpt", "llama-yarn", "mistral", "mixtral-2-of-4",
		"mixtral-1-of-3", "qwen2-window" };
	(void)state;

	for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
		char path[256], name[64];
		kf_fp x, y;
		kf_err err;
		kf_weights *a[2], *b[2];

		for (int g = 0; g < 2; g++) {
			snprintf(path, sizeof path, "tests/models/families/%s%s", models[i], g ? ".gguf" : "");
			snprintf(name, sizeof name, "%s-%d", models[i], g);
			a[g] = open_good(path);
			copy_good(a[g], in_scratch(name), KF_F32, 0);
			b[g] = open_good(in_scratch(name));
		}
		assert_true(difference(a[0], b[1]) == 0);
		assert_int_equal(kf_weights_fp(b[0], &x, &err), KF_OK);
		assert_int_equal(kf_weights_fp(b[1], &y, &err), KF_OK);
		if (!kf_fp_equal(x, y)) fail_msg("%s: from GGUF comes another model", models[i]);
		for (int g = 0; g < 2; g++) kf_weights_close(a[g]), kf_weights_close(b[g]);
	}
}

/* Shards: an index that names every tensor, no file above the limit. */
static void test_shards(void **state)
{
	kf_weights *a = open_good("tests/models/llama-tiny");
	struct stat st;
	json_t *index;
	(void)state;

	copy_good(a, in_scratch("sharded"), KF_F32, 40000);
	index = json_load_file(in_scratch("sharded/model.safetensors.index.json"), 0, NULL);
	assert_non_null(index);
	json_t *map = json_object_get(index, "weight_map");
	assert_int_equal(json_object_size(map), kf_weights_count(a));
	assert_true(json_integer_value(json_object_get(json_object_get(index, "metadata"), "total_size")) > 40000);
	const char *first = json_string_value(json_object_get(map, "model.embed_tokens.weight"));
	assert_int_equal(strncmp(first, "model-00001-of-0000", 19), 0);
	assert_true(stat(in_scratch("sharded/model.safetensors"), &st) < 0);
	kf_weights *b = open_good(in_scratch("sharded"));
	assert_true(difference(a, b) == 0);
	kf_weights_close(b);
	kf_weights_close(a);
	json_decref(index);
}

/* A folder is there whole or not at all. */
static void test_atomic(void **state)
{
	kf_weights *a = open_good("tests/models/llama-tiny");
	struct source s = { a, 5, 0 };
	struct stat st;
	kf_err err;
	(void)state;

	assert_int_equal(copy(&s, in_scratch("broken"), KF_F32, 0, NULL, &err), KF_EIO);
	assert_string_equal(err.text, "no more of this");
	assert_true(stat(in_scratch("broken"), &st) < 0 && stat(in_scratch("broken.partial"), &st) < 0);

	/* what a killed run left is replaced */
	run("mkdir %s", in_scratch("broken.partial"));
	write_bytes(in_scratch("broken.partial/model.safetensors"), "x", 1);
	write_bytes(in_scratch("broken.partial/config.json.part"), "x", 1);
	copy_good(a, in_scratch("broken"), KF_F32, 0);
	assert_true(stat(in_scratch("broken.partial"), &st) < 0 && stat(in_scratch("broken.partial.lock"), &st) < 0);
	kf_weights_close(open_good(in_scratch("broken")));

	s = (struct source){ a, -1, 0 };
	assert_int_equal(copy(&s, in_scratch("broken"), KF_F32, 0, NULL, &err), KF_EINVAL);
	assert_non_null(strstr(err.text, "is there already"));

	/* but nothing that is not ours */
	run("mkdir %s", in_scratch("other.partial"));
	write_bytes(in_scratch("other.partial/thesis.tex"), "x", 1);
	assert_int_equal(copy(&s, in_scratch("other"), KF_F32, 0, NULL, &err), KF_EINVAL);
	assert_non_null(strstr(err.text, "thesis.tex"));
	assert_int_equal(stat(in_scratch("other.partial/thesis.tex"), &st), 0);

	write_bytes(in_scratch("file"), "x", 1);
	assert_int_not_equal(copy(&s, in_scratch("file/model"), KF_F32, 0, NULL, &err), KF_OK);
	assert_int_equal(copy(&s, in_scratch("quantised"), KF_Q4_0, 0, NULL, &err), KF_EINVAL);
	kf_weights_close(a);
}

/* Every value of tensor i is i and something of its place. */
static kf_status count_up(void *arg, int i, float *out, kf_err *err)
{
	const kf_out_tensor *t = (const kf_out_tensor *)arg + i;

	(void)err;
	for (size_t k = 0; k < (size_t)(t->rows * t->cols); k++) out[k] = (float)i + (float)(k % 8) / 8;
	return KF_OK;
}

/* Tensors are fetched while the one before is converted and written: none is overwritten before it is on its way, whether the
 * next has room beside it or has to wait. The shapes make conversion of the first take much longer than fetching the next. */
static void test_behind(void **state)
{
	enum { MANY = 64 };
	static const uint32_t width[] = { 2048, 8192 };
	kf_weights *a = open_good("tests/models/llama-tiny"), *b;
	kf_out_tensor t[MANY] = { { 0 } };
	char name[MANY][128];
	float *x = malloc((size_t)20000 * 256 * sizeof *x);
	kf_err err;
	(void)state;

	assert_non_null(x);
	for (int wide = 0; wide < 2; wide++) {
		kf_arch arch = *kf_weights_arch(a);

		arch.V = 20000, arch.C = 256, arch.F = (int32_t)width[wide], arch.H = arch.G = 4, arch.D = 64;
		int n = kf_arch_tensor(&arch, -1, name[0], &t[0].rows, &t[0].cols);
		assert_true(n <= MANY);
		for (int i = 0; i < n; i++) {
			kf_arch_tensor(&arch, i, name[i], &t[i].rows, &t[i].cols);
			t[i].name = name[i], t[i].n_dims = t[i].rows == 1 ? 1 : 2, t[i].get = count_up, t[i].arg = t;
		}
		const char *dir = in_scratch(wide ? "wide" : "narrow");
		if (kf_hf_write(dir, &(kf_hf_spec){ .arch = &arch, .tensors = t, .n = n, .dtype = KF_BF16 }, &err) != KF_OK)
			fail_msg("%s", err.text);
		b = open_good(dir);
		for (int i = 0; i < n; i++) {
			const kf_tensor *got = kf_weights_find(b, name[i]);
			kf_tensor stored = kf_weights_stored(b, got);

			assert_true(stored.rows * stored.cols <= 20000 * 256);
			kf_tensor_rows(&stored, 0, stored.rows, x);
			for (size_t k = 0; k < (size_t)(stored.rows * stored.cols); k++)
				if (x[k] != (float)i + (float)(k % 8) / 8) fail_msg("%s, value %zu: %g", name[i], k, (double)x[k]);
		}
		kf_weights_close(b);
	}
	free(x);
	kf_weights_close(a);
}

/* Wrong tensors are the caller's mistake, said before anything is written. */
static void test_arguments(void **state)
{
	kf_weights *a = open_good("tests/models/llama-tiny");
	kf_out_tensor t = { "model.embed_tokens.weight", 1, 1, 1, get, NULL };
	struct stat st;
	kf_err err;
	(void)state;

	assert_int_equal(kf_hf_write(in_scratch("few"),
		&(kf_hf_spec){ .arch = kf_weights_arch(a), .tensors = &t, .n = 1, .dtype = KF_F32 }, &err), KF_EINVAL);
	assert_non_null(strstr(err.text, "given 1 tensors for a model of"));
	assert_true(stat(in_scratch("few.partial"), &st) < 0);
	kf_weights_close(a);
}

/* With its tokenizer the folder is a whole model: open it, and the tokenizer encodes as before. */
static void test_tokenizer(void **state)
{
	static const char *const models[] = { "llama-tiny", "llama-untied", "qwen2-tiny", "gemma3-tiny", "endtoend/llama2",
		"endtoend/openllama", "endtoend/openchat", "endtoend/mixtral", "endtoend/mpt", "endtoend/internlm2" };
	static const char text[] = " Hello, world! int main(void) { return 42; } \xc3\xa4\xe4\xbd\xa0  \n\t end";
	kf_arena arena;
	(void)state;

	kf_arena_init(&arena);
	for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
		char path[256], name[64];
		kf_tokenizer *s, *t;
		kf_encoding x, y;
		kf_err err;
		snprintf(path, sizeof path, "tests/models/%s", models[i]);
		kf_weights *a = open_good(path), *b;
		struct source src = { a, -1, 0 };
		if (kf_weights_tokenizer(a, &s, &err) != KF_OK) fail_msg("%s", err.text);
		snprintf(name, sizeof name, "%s-tok", models[i]);
		if (copy(&src, in_scratch(name), KF_F32, 0, s, &err) != KF_OK) fail_msg("%s", err.text);
		b = open_good(in_scratch(name));
		if (kf_weights_tokenizer(b, &t, &err) != KF_OK) fail_msg("%s", err.text);
		assert_true(kf_fp_equal(kf_tokenizer_fp(s), kf_tokenizer_fp(t)));
		assert_int_equal(kf_tokenizer_encode(s, (const uint8_t *)text, sizeof text - 1, false, &arena, &x, &err), KF_OK);
		assert_int_equal(kf_tokenizer_encode(t, (const uint8_t *)text, sizeof text - 1, false, &arena, &y, &err), KF_OK);
		assert_int_equal(x.n, y.n);
		assert_memory_equal(x.ids, y.ids, x.n * sizeof *x.ids);
		kf_tokenizer_free(s);
		kf_tokenizer_free(t);
		kf_weights_close(a);
		kf_weights_close(b);
	}
	kf_arena_release(&arena);
}

static void change(const char *dir, const char *name, const char *with)
{
	json_t *j = read_json(dir, name), *v = json_loads(with, 0, NULL);
	char path[256];

	assert_true(j && v && json_object_update(j, v) == 0);
	snprintf(path, sizeof path, "%s/%s", dir, name);
	assert_int_equal(json_dump_file(j, path, 0), 0);
	json_decref(j);
	json_decref(v);
}

/* Special tokens that the tokenizer's files do not name are not named in what is written, even if config.json numbers them, but where they are
 * needed; what is said to be none stays so. */
static void test_special(void **state)
{
	static const struct { const char *model, *config, *template, *want; } cases[] = {
		{ "qwen2-tiny", "{}", NULL, "{\"eos_token\":\"<|im_end|>\",\"pad_token\":\"<|endoftext|>\"}" },
		{ "qwen2-tiny", "{\"bos_token\":null,\"unk_token\":null}", NULL,
			"{\"bos_token\":null,\"eos_token\":\"<|im_end|>\",\"pad_token\":\"<|endoftext|>\",\"unk_token\":null}" },
		{ "qwen2-tiny", "{\"bos_token\":null}", "internlm2",
			"{\"bos_token\":\"<|endoftext|>\",\"eos_token\":\"<|im_end|>\",\"pad_token\":\"<|endoftext|>\"}" },
		{ "qwen2-tiny", NULL, NULL, "{\"bos_token\":\"<|endoftext|>\",\"eos_token\":\"<|im_end|>\"}" }, /* nothing is named */
		{ "llama-untied", "{\"bos_token\":null}", NULL, "{\"bos_token\":\"<|begin_of_text|>\",\"eos_token\":\"<|end_of_text|>\"}" }, /* added to texts */
		{ "endtoend/openllama", "{\"bos_token\":null,\"add_bos_token\":false,\"unk_token\":null}", NULL,
			"{\"bos_token\":null,\"eos_token\":\"</s>\",\"unk_token\":null}" },
	};
	static const char *const keys[] = { "bos_token", "eos_token", "pad_token", "unk_token" };
	char dir[64], out[80];

	(void)state;
	snprintf(dir, sizeof dir, "%s", in_scratch("special"));
	snprintf(out, sizeof out, "%s-out", dir);
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		json_t *want = json_loads(cases[i].want, 0, NULL), *now, *map;
		kf_tokenizer *t, *again;
		char path[128];
		kf_err err;

		run("rm -rf %s", dir);
		run("rm -rf %s", out);
		snprintf(path, sizeof path, "cp -r tests/models/%s %%s", cases[i].model);
		run(path, dir);
		/* what is null is in no file */
		if (cases[i].config) change(dir, "tokenizer_config.json", cases[i].config);
		else run("rm %s/tokenizer_config.json", dir);
		if (!cases[i].config || strstr(cases[i].config, "null")) run("rm -f %s/special_tokens_map.json", dir);
		kf_weights *w = open_good(dir), *written;
		struct source source = { w, -1, 0 };
		assert_int_equal(kf_weights_tokenizer(w, &t, &err), KF_OK);
		if (cases[i].template && kf_chat_adopt(cases[i].template, t, &err) != KF_OK) fail_msg("%s", err.text);
		if (copy(&source, out, KF_F32, 0, t, &err) != KF_OK) fail_msg("%s", err.text);
		now = read_json(out, "tokenizer_config.json");
		map = read_json(out, "special_tokens_map.json");
		for (size_t k = 0; k < 4; k++) {
			const json_t *v = json_object_get(want, keys[k]), *is = json_object_get(now, keys[k]);

			if (v ? !json_equal(v, is) : is != NULL) fail_msg("case %zu: %s", i, keys[k]);
			assert_true(json_is_string(v) ? json_equal(v, json_object_get(map, keys[k])) : !json_object_get(map, keys[k]));
		}
		written = open_good(out);
		assert_int_equal(kf_weights_tokenizer(written, &again, &err), KF_OK);
		assert_true(kf_fp_equal(kf_tokenizer_fp(again), kf_tokenizer_fp(t)));
		kf_tokenizer_free(again);
		kf_tokenizer_free(t);
		kf_weights_close(written);
		kf_weights_close(w);
		json_decref(want);
		json_decref(now);
		json_decref(map);
	}
}

/* A GGUF file has all that there are. */
static void test_special_gguf(void **state)
{
	static const char *const pieces[] = { "a", "b", "<|endoftext|>" };
	static const int32_t types[] = { KF_TT_NORMAL, KF_TT_NORMAL, KF_TT_CONTROL };
	const kf_vocab_spec spec = { .model = "gpt2", .pre = "qwen2", .n = 3, .pieces = pieces, .types = types, .bos = -1, .eos = 2, .unk = -1, .pad = 2 };
	kf_tokenizer *t;
	kf_err err;
	json_t *now;

	(void)state;
	if (kf_tokenizer_from_spec(&spec, &t, &err) != KF_OK || kf_tokenizer_write_hf(t, in_scratch("spec"), &err) != KF_OK) fail_msg("%s", err.text);
	now = read_json(in_scratch("spec"), "tokenizer_config.json");
	assert_true(json_is_null(json_object_get(now, "bos_token")) && json_is_null(json_object_get(now, "unk_token")));
	assert_string_equal(json_string_value(json_object_get(now, "pad_token")), "<|endoftext|>");
	json_decref(now);
	kf_tokenizer_free(t);
}

/* What of a model's chat templates is in the folder written, with the named one chosen, or NULL. */
static json_t *templates_written(const char *dir, const char *chosen)
{
	char out[80];
	kf_weights *w = open_good(dir);
	struct source source = { w, -1, 0 };
	kf_tokenizer *t;
	kf_err err;
	json_t *now, *v;

	snprintf(out, sizeof out, "%s-out", dir);
	run("rm -rf %s", out);
	assert_int_equal(kf_weights_tokenizer(w, &t, &err), KF_OK);
	if (chosen && kf_chat_adopt(chosen, t, &err) != KF_OK) fail_msg("%s", err.text);
	if (copy(&source, out, KF_F32, 0, t, &err) != KF_OK) fail_msg("%s", err.text);
	now = read_json(out, "tokenizer_config.json");
	v = json_incref(json_object_get(now, "chat_template"));
	json_decref(now);
	kf_tokenizer_free(t);
	kf_weights_close(w);
	return v;
}

static void check_templates(const char *dir, const char *chosen, json_t *want)
{
	json_t *now = templates_written(dir, chosen);

	if (want ? !json_equal(now, want) : now != NULL) fail_msg("%s: %s", chosen ? chosen : "none chosen", json_dumps(now, JSON_ENCODE_ANY));
	json_decref(now);
	json_decref(want);
}

/* Of several chat templates all stay, unless another was chosen. */
static void test_templates(void **state)
{
	char dir[64];
	json_t *chatml, *v;
	kf_tokenizer *t;
	kf_err err;

	(void)state;
	snprintf(dir, sizeof dir, "%s", in_scratch("templates"));
	run("cp -r tests/models/qwen2-tiny %s", dir);
	check_templates(dir, NULL, NULL);
	assert_non_null(chatml = templates_written(dir, "chatml"));
	for (int named = 0; named < 2; named++) {
		v = json_pack("{s:[{s:s,s:s},{s:s,s:O}]}", "chat_template", "name", "tool_use", "template", "{{ tools }}", "name", named ? "default" : "other", "template", chatml);
		char *text = json_dumps(v, 0);
		change(dir, "tokenizer_config.json", text);
		free(text);
		check_templates(dir, NULL, json_incref(json_object_get(v, "chat_template")));
		check_templates(dir, "chatml", named ? json_incref(json_object_get(v, "chat_template")) : json_incref(chatml));
		json_decref(v);
	}
	v = templates_written(dir, "plain");
	assert_true(json_is_string(v) && !json_equal(v, chatml));
	json_decref(v);
	/* files are before the list */
	run("mkdir %s/additional_chat_templates", dir);
	run("printf '{{ b }}' > %s/additional_chat_templates/b.jinja", dir);
	run("printf '{{ a }}' > %s/additional_chat_templates/a.jinja", dir);
	run("touch %s/additional_chat_templates/note.txt", dir);
	check_templates(dir, NULL, json_pack("[{s:s,s:s},{s:s,s:s}]", "name", "a", "template", "{{ a }}", "name", "b", "template", "{{ b }}"));
	run("printf '{{ c }}' > %s/chat_template.jinja", dir);
	check_templates(dir, NULL, json_pack("[{s:s,s:s},{s:s,s:s},{s:s,s:s}]", "name", "default", "template", "{{ c }}", "name", "a", "template", "{{ a }}",
		"name", "b", "template", "{{ b }}"));
	run("printf '\\377' > %s/additional_chat_templates/b.jinja", dir);
	assert_int_equal(kf_tokenizer_open_dir(dir, &t, &err), KF_EDATA);
	assert_non_null(strstr(err.text, "additional_chat_templates/b.jinja: it is not UTF-8"));
	run("printf 'a\\0' > %s/additional_chat_templates/b.jinja", dir);
	assert_int_equal(kf_tokenizer_open_dir(dir, &t, &err), KF_EDATA);
	run("for i in $(seq 63); do touch %s/additional_chat_templates/c$i.jinja; done", dir);
	assert_int_equal(kf_tokenizer_open_dir(dir, &t, &err), KF_EDATA);
	assert_non_null(strstr(err.text, "65 chat templates"));
	json_decref(chatml);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tiny), cmocka_unit_test(test_unknown_keys), cmocka_unit_test(test_places), cmocka_unit_test(test_template_end), cmocka_unit_test(test_families), cmocka_unit_test(test_from_gguf),
		cmocka_unit_test(test_families_from_gguf), cmocka_unit_test(test_shards),
		cmocka_unit_test(test_atomic), cmocka_unit_test(test_behind), cmocka_unit_test(test_arguments), cmocka_unit_test(test_tokenizer),
		cmocka_unit_test(test_special), cmocka_unit_test(test_special_gguf), cmocka_unit_test(test_templates),
	};
	return cmocka_run_group_tests(tests, make_scratch, drop_scratch);
}
