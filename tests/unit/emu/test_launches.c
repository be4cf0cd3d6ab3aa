/* How much the host asks of the device: what docs/gpu.md counts. A step that is asked in more pieces waits for the host where the
 * model is small. */
#include "tests/unit/emu/util.h"

#include <unistd.h>

#include "tests/unit/model/tiny.h"
#include "train/optim.h"

typedef struct { long kernels, products, copies, waits; } work;

static work so_far(void) { return (work){ emu_launches(), emu_products(), emu_copies(), emu_waits() }; }
static work less(work a, work b)
{
	return (work){ a.kernels - b.kernels, a.products - b.products, a.copies - b.copies, a.waits - b.waits };
}

static void is(const char *what, work got, work want)
{
	printf("%-44s %3ld kernels, %3ld products, %3ld copies, %3ld waits\n", what, got.kernels, got.products, got.copies, got.waits);
	if (memcmp(&got, &want, sizeof got) != 0)
		fail_msg("%s: not %ld, %ld, %ld, %ld", what, want.kernels, want.products, want.copies, want.waits);
}

/* A Llama of so many layers, with random weights, as a folder. */
static void write_model(const char *dir, int layers)
{
	static const struct { const char *name; int rows, cols; } PARTS[] = { { "input_layernorm", 1, 8 }, { "self_attn.q_proj", 8, 8 },
		{ "self_attn.k_proj", 4, 8 }, { "self_attn.v_proj", 4, 8 }, { "self_attn.o_proj", 8, 8 }, { "post_attention_layernorm", 1, 8 },
		{ "mlp.gate_proj", 16, 8 }, { "mlp.up_proj", 16, 8 }, { "mlp.down_proj", 8, 16 } };
	enum { N = sizeof PARTS / sizeof *PARTS, V = 60 };
	char path[64], head[8192];
	uint64_t at = 0, len = 1;
	kf_rng rng;
	FILE *f;

	snprintf(path, sizeof path, "%s/config.json", dir);
	assert_non_null(f = fopen(path, "w"));
	fprintf(f, "{\"architectures\": [\"LlamaForCausalLM\"], \"model_type\": \"llama\", \"hidden_act\": \"silu\", \"hidden_size\": 8, "
		"\"intermediate_size\": 16, \"num_hidden_layers\": %d, \"num_attention_heads\": 2, \"num_key_value_heads\": 1, \"vocab_size\": %d, "
		"\"max_position_embeddings\": 64, \"rms_norm_eps\": 1e-5, \"rope_theta\": 10000.0, \"tie_word_embeddings\": true}\n", layers, V);
	assert_int_equal(fclose(f), 0);
	strcpy(head, "{");
	for (int i = -2; i < layers * N; i++) {
		const int rows = i == -2 ? V : i == -1 ? 1 : PARTS[i % N].rows, cols = i < 0 ? 8 : PARTS[i % N].cols;

		len += (uint64_t)(i == -2 ? sprintf(head + len, "\"model.embed_tokens.weight\"") : i == -1 ? sprintf(head + len, ",\"model.norm.weight\"") :
			sprintf(head + len, ",\"model.layers.%d.%s.weight\"", i / N, PARTS[i % N].name));
		len += (uint64_t)sprintf(head + len, ":{\"dtype\":\"F32\",\"shape\":[");
		if (rows > 1) len += (uint64_t)sprintf(head + len, "%d,", rows);
		len += (uint64_t)sprintf(head + len, "%d],\"data_offsets\":[%d,%d]}", cols, (int)at, (int)at + 4 * rows * cols);
		at += (uint64_t)(4 * rows * cols);
	}
	len += (uint64_t)sprintf(head + len, "}");
	while (len % 8) head[len++] = ' ';
	snprintf(path, sizeof path, "%s/model.safetensors", dir);
	assert_non_null(f = fopen(path, "w"));
	fwrite(&len, 8, 1, f);
	fwrite(head, 1, len, f);
	kf_rng_seed(&rng, 1);
	for (uint64_t i = 0; i < at / 4; i++) {
		float v = (float)kf_rng_normal(&rng);

		fwrite(&v, 4, 1, f);
	}
	assert_int_equal(fclose(f), 0);
}

static void open_layers(tiny_rig *r, int layers, bool train, bool recompute)
{
	const kf_model_opts opts = { .train = train, .recompute = recompute };
	char dir[] = "/tmp/kf-launches-XXXXXX", path[64];
	kf_err err;

	assert_non_null(mkdtemp(dir));
	write_model(dir, layers);
	if (kf_pool_new(1, &r->pool, &err) != KF_OK || kf_exec_new(&kf_cuda_ops, r->pool, KF_COMPUTE_BF16, &r->x, &err) != KF_OK ||
	    kf_weights_open(dir, &r->w, &err) != KF_OK || kf_model_new(r->w, r->x, &opts, &r->m, &err) != KF_OK)
		fail_msg("%s: %s", dir, err.text);
	snprintf(path, sizeof path, "%s/config.json", dir);
	unlink(path);
	snprintf(path, sizeof path, "%s/model.safetensors", dir);
	unlink(path);
	rmdir(dir);
}

/* A token of each of two texts. */
static void decode(void **state)
{
	work step[2];

	(void)state;
	for (int i = 0; i < 2; i++) {
		const int32_t tokens[] = { 5, 6 }, offset[] = { 0, 1, 2 }, row[] = { 0, 20 }, rows[] = { 0, 1 };
		int32_t n[] = { 0, 0 }, top[2];
		float ce[2], lp[2];
		kf_before before = { NULL, row, n };
		const kf_batch b = { .T = 2, .S = 2, .tokens = tokens, .offset = offset, .before = &before };
		const kf_score_query q = { .k = 1, .rows = rows, .n_rows = 2 };
		kf_score out = { .ce = ce, .top_ids = top, .top_lp = lp };
		tiny_rig r;

		open_layers(&r, i + 1, false, false);
		assert_int_equal(kf_kv_new(r.m, 40, &before.kv, NULL), KF_OK);
		for (int k = 0; k < 3; k++) {
			const work from = so_far();

			assert_int_equal(kf_model_score(r.m, &b, &q, &out, NULL), KF_OK);
			step[i] = less(so_far(), from);
			n[0]++, n[1]++;
		}
		kf_kv_free(before.kv);
		tiny_close(&r);
	}
	const work layer = less(step[1], step[0]);

	is("a token, a layer", layer, (work){ 8, 7, 0, 0 });
	is("a token, beside layers", less(step[0], layer), (work){ 7, 1, 13, 1 });
}

static void train(void **state)
{
	(void)state;
	for (int again = 0; again < 2; again++) {
		work micro[2], step[2];
		int params[2];

		for (int i = 0; i < 2; i++) {
			enum { T = 12 };
			const kf_train_opts o = { .beta1 = 0.9, .beta2 = 0.95 };
			int32_t tokens[T], labels[T], offset[] = { 0, 5, T }, ids[T];
			uint32_t off[T + 1];
			float p[T];
			const kf_batch b = { .T = T, .S = 2, .tokens = tokens, .offset = offset };
			const kf_loss_query q = { .labels = labels, .off = off, .ids = ids, .q = p, .lambda = 0.5, .temperature = 1, .scale = 1 };
			kf_optim opt;
			kf_loss loss;
			double norm;
			tiny_rig r;
			work from;

			for (int t = 0; t < T; t++) tokens[t] = labels[t] = ids[t] = t + 3, off[t] = (uint32_t)t, p[t] = 0.5f;
			off[T] = T;
			open_layers(&r, i + 1, true, again);
			assert_int_equal(kf_optim_init(&opt, r.m, r.x, false, NULL, NULL), KF_OK);
			params[i] = opt.n;
			kf_model_zero_grad(r.m);
			for (int k = 0; k < 2; k++) {
				from = so_far();
				assert_int_equal(kf_model_loss(r.m, &b, &q, true, &loss, NULL), KF_OK);
				micro[i] = less(so_far(), from);
			}
			from = so_far();
			assert_int_equal(kf_optim_norm(&opt, &norm, NULL), KF_OK);
			assert_true(norm > 0);
			kf_optim_step(&opt, &o, 1e-3, 1, 1);
			kf_model_zero_grad(r.m);
			step[i] = less(so_far(), from);
			kf_optim_release(&opt);
			tiny_close(&r);
		}
		const work layer = less(micro[1], micro[0]);

		if (again) is("a micro-batch, a layer that is run again", layer, (work){ 30, 27, 0, 0 });
		else is("a micro-batch, a layer", layer, (work){ 23, 21, 0, 0 });
		is("a micro-batch, beside layers", less(micro[0], layer), (work){ 12, 4, 12, 2 });
		for (int i = 0; i < 2; i++) is("the optimizer", step[i], (work){ 3 * params[i], 0, params[i] + 1, 1 });
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(decode), cmocka_unit_test(train) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
