#include "tests/unit/model/make_gguf.h"

#include <math.h>

#define LLAMA                                                                                                \
	"\"model_type\":\"llama\",\"hidden_size\":32,\"intermediate_size\":64,\"num_hidden_layers\":2,"          \
	"\"num_attention_heads\":4,\"vocab_size\":40"
#define QWEN "\"model_type\":\"qwen2\",\"hidden_size\":32,\"intermediate_size\":64,\"num_hidden_layers\":4," \
	"\"num_attention_heads\":4,\"num_key_value_heads\":2,\"vocab_size\":40"
#define GEMMA                                                                                                \
	"\"model_type\":\"gemma3_text\",\"hidden_size\":32,\"intermediate_size\":64,\"num_hidden_layers\":7,"    \
	"\"num_attention_heads\":4,\"num_key_value_heads\":2,\"head_dim\":16,\"vocab_size\":40"

#define HEADS(type) "\"model_type\":\"" type "\",\"hidden_size\":32,\"intermediate_size\":64,\"num_hidden_layers\":4," \
	"\"num_attention_heads\":8,\"vocab_size\":40"
#define YARN "\"rope_scaling\":{\"rope_type\":\"yarn\",\"factor\":4,\"original_max_position_embeddings\":512}"
#define LONGROPE "\"rope_scaling\":{\"rope_type\":\"longrope\",\"short_factor\":[1,2,3,4],\"long_factor\":[5,6,7,8]}"

static kf_status parse(const char *text, kf_arch *a, kf_err *err)
{
	json_error_t je;
	json_t *c = json_loads(text, 0, &je);
	kf_status rc;

	if (!c) fail_msg("%s: %s", text, je.text);
	rc = kf_arch_from_config(c, a, err);
	json_decref(c);
	return rc;
}

static kf_arch good(const char *text)
{
	kf_arch a;
	kf_err err;

	if (parse(text, &a, &err) != KF_OK) fail_msg("%s: %s", text, err.text);
	return a;
}

static void test_defaults(void **state)
{
	kf_arch a = good("{" LLAMA "}");
	(void)state;

	assert_int_equal(a.family, KF_FAMILY_LLAMA);
	assert_true(a.L == 2 && a.C == 32 && a.H == 4 && a.G == 4 && a.D == 8 && a.F == 64 && a.V == 40 &&
		a.context == 2048);
	assert_true(!a.tied && !a.qkv_bias && !a.o_bias && !a.mlp_bias && !a.norm_plus_one && !a.qk_norm &&
		!a.post_norms);
	assert_true(
		a.norm_eps == 1e-6f && a.rope.base == 10000 && a.rope.kind == KF_ROPE_PLAIN && a.act == KF_ACT_SILU);
	assert_true(a.embed_scale == 1 && a.attn_scale == (float)(1 / sqrt(8)) && a.window == 0);
	assert_true(a.bos == 1 && a.eos == 2);

	a = good("{" QWEN "}");
	assert_true(
		a.G == 2 && a.qkv_bias && !a.o_bias && !a.tied && a.window == 0 && a.context == 32768 && a.bos == -1);

	a = good("{" GEMMA ",\"sliding_window\":16}");
	assert_true(
		a.tied && a.norm_plus_one && a.qk_norm && a.post_norms && a.act == KF_ACT_GELU_TANH && a.D == 16);
	assert_true(
		a.rope.base == 1000000 && a.rope_local.base == 10000 && a.attn_scale == 1 / 16.0f && a.window == 16);
	assert_true(a.embed_scale == (float)sqrt(32.0));
	for (int l = 0; l < 7; l++) assert_int_equal(a.windowed[l], l != 5);
}

static void test_families(void **state)
{
	kf_arch a = good("{" HEADS("mistral") "}");
	(void)state;

	assert_true(a.family == KF_FAMILY_MISTRAL && a.G == 8 && a.D == 4 && a.window == 4096 && a.windowed[3] && !a.qkv_bias);
	a = good("{" HEADS("mistral") ",\"sliding_window\":null,\"num_key_value_heads\":2}");
	assert_true(a.window == 0 && !a.windowed[0] && a.G == 2);
	a = good("{" HEADS("mixtral") "}");
	assert_true(a.experts == 8 && a.experts_used == 2 && a.window == 0 && a.rope.base == 1000000 && a.norm_eps == 1e-5f);
	a = good("{" HEADS("qwen3") ",\"num_key_value_heads\":2}");
	assert_true(a.D == 128 && a.qk_norm && !a.qkv_bias && a.G == 2);
	a = good("{" HEADS("gemma2") ",\"num_key_value_heads\":2}");
	assert_true(a.attn_cap == 50 && a.logit_cap == 30 && a.post_norms && !a.qk_norm && a.norm_plus_one && a.tied &&
		a.windowed[0] && !a.windowed[1] && a.rope_local.base == 10000);
	a = good("{" HEADS("gemma2") ",\"attn_logit_softcapping\":null,\"final_logit_softcapping\":null}");
	assert_true(a.attn_cap == 0 && a.logit_cap == 0);
	a = good("{" HEADS("internlm2") ",\"num_key_value_heads\":2}");
	assert_true(a.qkv == KF_QKV_GROUPED && a.qkv_bias && a.o_bias && a.G == 2);
	a = good("{" HEADS("gpt_neox") ",\"hidden_act\":\"gelu\",\"rotary_pct\":0.5}");
	assert_true(a.layer_norm && a.norm_bias && a.parallel && a.plain_mlp && a.R == 2 && a.D == 4 && a.act == KF_ACT_GELU &&
		a.qkv == KF_QKV_GROUPED && a.mlp_bias && a.qkv_bias && a.o_bias);
	a = good("{\"model_type\":\"mpt\",\"d_model\":24,\"n_heads\":6,\"n_layers\":2,\"vocab_size\":40}");
	assert_true(a.layer_norm && !a.norm_bias && a.tied && a.alibi == 8 && a.R == 0 && a.F == 96 && a.qkv == KF_QKV_FUSED);
	a = good("{" LLAMA "," YARN "}");
	assert_true(a.rope.kind == KF_ROPE_YARN && fabs(a.rope.scale - 1.1386294) < 1e-6 && a.rope.original_context == 512 &&
		a.rope.low_freq == 1 && a.rope.high_freq == 32 && a.rope.truncate);
	a = good("{" LLAMA "," LONGROPE ",\"original_max_position_embeddings\":512}");
	assert_true(a.rope.kind == KF_ROPE_LONGROPE && a.rope.factor == 4 && a.rope.original_context == 512 &&
		a.rope.shorter[3] == 4 && a.rope.longer[0] == 5 && fabs(a.rope.scale - sqrt(1 + log(4) / log(512))) < 1e-6);
}

/* Frequencies by hand: base 16, four floats: 1 and 1/4. */
static void test_rope_freq(void **state)
{
	kf_rope r = { .base = 16, .factor = 2, .original_context = 100 };
	float f[2];
	(void)state;

	kf_rope_freq(&r, 4, 7, f);
	assert_true(f[0] == 1 && f[1] == 0.25f);
	r.kind = KF_ROPE_LINEAR;
	kf_rope_freq(&r, 4, 7, f);
	assert_true(f[0] == 0.5f && f[1] == 0.125f);
	r.kind = KF_ROPE_DYNAMIC;    /* at 150 of 100 the base becomes 16 (2 * 1.5 - 1)^2 = 64 */
	kf_rope_freq(&r, 4, 100, f);
	assert_true(f[1] == 0.25f);
	kf_rope_freq(&r, 4, 150, f);
	assert_true(f[0] == 1 && fabsf(f[1] - 0.125f) < 1e-7f);
	r.kind = KF_ROPE_LONGROPE;
	r.shorter[0] = r.shorter[1] = 1;
	r.longer[0] = 2;
	r.longer[1] = 4;
	kf_rope_freq(&r, 4, 100, f);
	assert_true(f[0] == 1 && f[1] == 0.25f);
	kf_rope_freq(&r, 4, 101, f);
	assert_true(f[0] == 0.5f && f[1] == 0.0625f);

	float slope[6];
	kf_alibi_slopes(8, 4, slope);
	assert_true(slope[0] == 0.25f && slope[1] == 0.0625f && slope[3] == 1 / 256.0f);
	kf_alibi_slopes(8, 6, slope); /* of 8: the second, fourth, sixth and eighth, then the first and third */
	assert_true(slope[0] == 0.25f && slope[3] == 1 / 256.0f && slope[4] == 0.5f && slope[5] == 0.125f);
}

static void test_options(void **state)
{
	kf_arch a;
	(void)state;

	a = good(
		"{" LLAMA ",\"num_key_value_heads\":null,\"attention_bias\":true,\"mlp_bias\":true,\"head_dim\":10,"
		"\"tie_word_embeddings\":true,\"eos_token_id\":[5,6],\"bos_token_id\":null,\"rope_scaling\":{"
		"\"type\":\"linear\",\"factor\":4}}");
	assert_true(
		a.G == 4 && a.qkv_bias && a.o_bias && a.mlp_bias && a.D == 10 && a.tied && a.eos == 5 && a.bos == -1);
	assert_true(a.rope.kind == KF_ROPE_LINEAR && a.rope.factor == 4 && a.rope_local.factor == 4);
	a = good("{" LLAMA ",\"rope_theta\":500000,\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8,\"low_"
					   "freq_factor\":1,"
			 "\"high_freq_factor\":4,\"original_max_position_embeddings\":8192}}");
	assert_true(a.rope.kind == KF_ROPE_LLAMA3 && a.rope.low_freq == 1 && a.rope.high_freq == 4 &&
		a.rope.original_context == 8192);
	a = good("{" LLAMA ",\"rope_parameters\":{\"rope_theta\":123.0,\"rope_type\":\"default\"}}");
	assert_true(a.rope.base == 123 && a.rope.kind == KF_ROPE_PLAIN);
	a = good("{" QWEN ",\"use_sliding_window\":true,\"sliding_window\":9,\"max_window_layers\":3}");
	assert_true(a.window == 9 && !a.windowed[2] && a.windowed[3]);
	a = good("{" QWEN ",\"use_sliding_window\":true,\"sliding_window\":9,\"max_window_layers\":28}");
	assert_true(a.window == 0);
	a = good("{" QWEN ",\"use_sliding_window\":true,\"sliding_window\":null,\"max_window_layers\":1}");
	assert_true(a.window == 0 && !a.windowed[3]);
	a = good("{" QWEN ",\"use_sliding_window\":true,\"max_window_layers\":1}");
	assert_true(a.window == 4096 && a.windowed[3]);
	a = good("{" GEMMA ",\"sliding_window_pattern\":2,\"rope_scaling\":{\"rope_type\":\"linear\",\"factor\":"
					   "8},\"query_pre_attn_scalar\":168}");
	assert_true(a.windowed[0] && !a.windowed[1] && a.rope.factor == 8 && a.rope_local.kind == KF_ROPE_PLAIN &&
		a.window == 4096);
	assert_true(a.attn_scale == (float)(1 / sqrt(168)));
	a = good(
		"{" GEMMA
		",\"rope_parameters\":{\"full_attention\":{\"rope_type\":\"linear\",\"factor\":8,\"rope_theta\":7e5},"
		"\"sliding_attention\":{\"rope_type\":\"default\",\"rope_theta\":5000}}}");
	assert_true(a.rope.base == 700000 && a.rope.factor == 8 && a.rope_local.base == 5000 &&
		a.rope_local.kind == KF_ROPE_PLAIN);
	a = good("{\"model_type\":\"gemma3\",\"text_config\":{" GEMMA "}}");
	assert_int_equal(a.family, KF_FAMILY_GEMMA3);
}

/* The configurations of the papers' models and of today's, as published, are those of models with as many parameters. */
static void test_published(void **state)
{
	json_error_t je;
	json_t *all = json_load_file("tests/models/published.json", 0, &je), *m;
	size_t k;
	(void)state;

	if (!all) fail_msg("%s", je.text);
	json_array_foreach(all, k, m) {
		const char *model = json_string_value(json_object_get(m, "name"));
		long long want = json_integer_value(json_object_get(m, "parameters")), have = 0;
		char name[128];
		uint64_t rows, cols;
		kf_arch a;
		kf_err err;

		if (kf_arch_from_config(json_object_get(m, "config"), &a, &err) != KF_OK) fail_msg("%s: %s", model, err.text);
		for (int i = 0, n = kf_arch_tensor(&a, -1, name, &rows, &cols); i < n; i++) {
			kf_arch_tensor(&a, i, name, &rows, &cols);
			have += (long long)(rows * cols);
		}
		if (have != want) fail_msg("%s: %lld parameters, not %lld", model, have, want);
	}
	assert_int_equal(k, 16);
	json_decref(all);
}

static void test_refused(void **state)
{
	static const struct { const char *config; kf_status rc; const char *text; } cases[] = {
		{ "[]", KF_EDATA, "config.json holds no JSON object" },
		{ "{}", KF_EDATA, "config.json lacks \"model_type\"" },
		{ "{\"model_type\":\"mamba\"}", KF_EUNSUPPORTED, "model_type \"mamba\" is not supported" },
		{ "{\"model_type\":\"llama\"}", KF_EDATA, "lacks \"hidden_size\"" },
		{ "{" HEADS("mixtral") ",\"num_local_experts\":1}", KF_EDATA, "\"num_local_experts\" is 1" },
		{ "{" HEADS("mixtral") ",\"num_experts_per_tok\":9}", KF_EDATA, "9 of 8 experts a token make no sense" },
		{ "{" HEADS("mistral") ",\"num_local_experts\":8}", KF_EUNSUPPORTED, "\"num_local_experts\" changes what" },
		{ "{" HEADS("gpt_neox") ",\"rotary_pct\":1.5}", KF_EDATA, "\"rotary_pct\" is 1.5" },
		{ "{" HEADS("gpt_neox") ",\"hidden_act\":\"quick_gelu\"}", KF_EUNSUPPORTED, "\"quick_gelu\" is not supported" },
		{ "{" HEADS("gpt_neox") ",\"rotary_pct\":0.8}", KF_EDATA, "\"rotary_pct\" 0.8 of a head of 4 turns 3 floats" },
		{ "{\"model_type\":\"mpt\",\"d_model\":24,\"n_heads\":6,\"hidden_size\":32}", KF_EDATA, "\"hidden_size\" is 32, but by its name for mpt" },
		{ "{\"model_type\":\"mpt\",\"no_bias\":false}", KF_EUNSUPPORTED, "\"no_bias\" other than true" },
		{ "{\"model_type\":\"mpt\",\"expansion_ratio\":3}", KF_EUNSUPPORTED, "\"expansion_ratio\" other than 4" },
		{ "{\"model_type\":\"mpt\",\"attn_config\":{\"alibi\":false}}", KF_EUNSUPPORTED, "\"alibi\" other than true" },
		{ "{\"model_type\":\"mpt\",\"attn_config\":{\"clip_qkv\":6}}", KF_EUNSUPPORTED, "\"clip_qkv\" changes what" },
		{ "{\"model_type\":\"mpt\",\"attn_config\":{\"qk_ln\":true}}", KF_EUNSUPPORTED, "\"qk_ln\" changes what" },
		{ "{\"model_type\":\"mpt\",\"d_model\":25}", KF_EDATA, "\"d_model\" 25 is no multiple" },
		{ "{" LLAMA ",\"rope_scaling\":{\"rope_type\":\"longrope\",\"factor\":2,\"short_factor\":[1],\"long_factor\":[1]}}",
			KF_EDATA, "\"short_factor\" is not one number for each of the 4 frequencies" },
		{ "{" LLAMA ",\"rope_scaling\":{\"rope_type\":\"dynamic\",\"factor\":0.5}}", KF_EDATA, "rotary position parameters" },
		{ "{" LLAMA ",\"rope_scaling\":{\"rope_type\":\"yarn\"}}", KF_EDATA, "lacks \"factor\"" },
		{ "{" LLAMA ",\"quantization_config\":{\"bits\":4}}", KF_EUNSUPPORTED, "\"quantization_config\" changes what" },
		{ "{" GEMMA ",\"attn_logit_softcapping\":50.0}", KF_EUNSUPPORTED, "\"attn_logit_softcapping\" changes what" },
		{ "{" GEMMA ",\"use_bidirectional_attention\":true}", KF_EUNSUPPORTED, "\"use_bidirectional_attention\" changes" },
		{ "{" LLAMA ",\"rope_interleaved\":true}", KF_EUNSUPPORTED, "\"rope_interleaved\" changes what" },
		{ "{" LLAMA ",\"pruned_heads\":{\"0\":[1]}}", KF_EUNSUPPORTED, "\"pruned_heads\" changes what" },
		{ "{" LLAMA ",\"is_encoder_decoder\":true}", KF_EUNSUPPORTED, "\"is_encoder_decoder\" changes what" },
		{ "{\"model_type\":\"mpt\",\"ffn_config\":{\"ffn_type\":\"mptglu\"}}", KF_EUNSUPPORTED, "\"ffn_type\": \"mptglu\" is not supported" },
		{ "{\"model_type\":\"mpt\",\"attn_config\":{\"attn_logit_softcapping\":30}}", KF_EUNSUPPORTED, "\"attn_logit_softcapping\" changes" },
		{ "{" LLAMA ",\"partial_rotary_factor\":0.5}", KF_EUNSUPPORTED, "\"partial_rotary_factor\" changes what" },
		{ "{" LLAMA ",\"hidden_act\":\"relu\"}", KF_EUNSUPPORTED, "\"hidden_act\": \"relu\" is not supported" },
		{ "{" LLAMA ",\"rope_scaling\":{\"rope_type\":\"mrope\",\"factor\":2}}", KF_EUNSUPPORTED, "of type \"mrope\" is not supported" },
		{ "{" LLAMA ",\"rope_scaling\":{\"factor\":2}}", KF_EDATA, "does not say its \"rope_type\"" },
		{ "{" LLAMA ",\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":2}}", KF_EDATA, "lacks \"low_freq_factor\"" },
		{ "{" LLAMA ",\"num_key_value_heads\":3}", KF_EDATA, "4 attention heads cannot share 3" },
		{ "{" LLAMA ",\"head_dim\":7}", KF_EDATA, "the head size 7 is odd" },
		{ "{" LLAMA ",\"hidden_size\":-3}", KF_EDATA, "\"hidden_size\" is -3, which is out of range" },
		{ "{" LLAMA ",\"vocab_size\":\"many\"}", KF_EDATA, "\"vocab_size\" is no whole number" },
		{ "{" LLAMA ",\"num_hidden_layers\":100000}", KF_EDATA, "\"num_hidden_layers\" is 100000, not 1 to 512" },
		{ "{" LLAMA ",\"num_attention_heads\":0}", KF_EDATA, "\"num_attention_heads\" is 0" },
		{ "{" LLAMA ",\"rope_theta\":0}", KF_EDATA, "rotary position parameters make no sense" },
		{ "{" QWEN ",\"layer_types\":[\"full_attention\"]}", KF_EDATA, "is not one entry for each of the 4 layers" },
		{ "{" QWEN ",\"layer_types\":[\"full_attention\",\"full_attention\",\"full_attention\",\"linear\"]}", KF_EUNSUPPORTED,
			"\"layer_types\" has \"linear\" for layer 3" },
		{ "{" GEMMA ",\"rope_parameters\":{\"full_attention\":{\"rope_type\":\"default\",\"rope_theta\":1e6},"
			"\"sliding_attention\":{\"rope_type\":\"linear\",\"factor\":2,\"rope_theta\":1e4}}}", KF_EUNSUPPORTED,
			"\"sliding_attention\" of \"rope_parameters\" with a \"rope_type\" other than" },
		{ "{" GEMMA ",\"query_pre_attn_scalar\":0}", KF_EDATA, "the attention scale 0 makes no sense" },
		{ "{" QWEN ",\"use_sliding_window\":true,\"sliding_window\":null,\"layer_types\":[\"full_attention\",\"full_attention\","
			"\"full_attention\",\"sliding_attention\"]}", KF_EUNSUPPORTED, "some layers have sliding windows where \"sliding_window\" is null" },
		{ "{" GEMMA ",\"sliding_window\":null}", KF_EUNSUPPORTED, "some layers have sliding windows where \"sliding_window\" is null" },
		{ "{" GEMMA ",\"sliding_window\":0}", KF_EDATA, "layer 0 has a sliding window, but" },
		{ "{\"model_type\":\"gemma3\",\"vision_config\":{\"x\":1},\"text_config\":{" GEMMA "}}", KF_EUNSUPPORTED, "\"vision_config\"" },
	};
	kf_arch a;
	kf_err err;
	(void)state;

	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		/* The last of two equal keys counts in json_loads without flags. */
		kf_status rc = parse(cases[i].config, &a, &err);
		if (rc != cases[i].rc || !strstr(err.text, cases[i].text))
			fail_msg("%s: status %d, \"%s\"", cases[i].config, rc, rc ? err.text : "");
	}
}

static void same(const kf_arch *a, const kf_arch *b)
{
	assert_true(a->family == b->family && a->L == b->L && a->C == b->C && a->H == b->H && a->G == b->G &&
		a->D == b->D && a->F == b->F && a->V == b->V && a->context == b->context);
	assert_true(a->norm_eps == b->norm_eps && a->norm_plus_one == b->norm_plus_one &&
		a->post_norms == b->post_norms && a->qk_norm == b->qk_norm && a->qkv_bias == b->qkv_bias &&
		a->o_bias == b->o_bias && a->mlp_bias == b->mlp_bias && a->tied == b->tied && a->act == b->act);
	assert_true(a->R == b->R && a->layer_norm == b->layer_norm && a->norm_bias == b->norm_bias &&
		a->parallel == b->parallel && a->plain_mlp == b->plain_mlp && a->qkv == b->qkv && a->attn_cap == b->attn_cap &&
		a->logit_cap == b->logit_cap && a->alibi == b->alibi && a->experts == b->experts &&
		a->experts_used == b->experts_used);
	assert_true(a->embed_scale == b->embed_scale && a->attn_scale == b->attn_scale && a->window == b->window);
	assert_memory_equal(&a->rope, &b->rope, sizeof a->rope);
	assert_memory_equal(&a->rope_local, &b->rope_local, sizeof a->rope);
	assert_memory_equal(a->windowed, b->windowed, sizeof a->windowed);
	assert_true(a->bos == b->bos && a->eos == b->eos);
}

/* What kf_arch_to_config writes reads back as the same descriptor, through text with 9 digits. */
static void test_round_trip(void **state)
{
	static const char *const configs[] = {
		"{" LLAMA "}",
		"{" LLAMA ",\"attention_bias\":true,\"mlp_bias\":true,\"rms_norm_eps\":1.2345678e-5,\"head_dim\":6,\"bos_token_id\":null}",
		"{" LLAMA ",\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8,\"low_freq_factor\":1,\"high_freq_factor\":4,"
		"\"original_max_position_embeddings\":8192},\"tie_word_embeddings\":true}",
		"{" LLAMA "," YARN "}", "{" LLAMA "," LONGROPE ",\"original_max_position_embeddings\":512}",
		"{" LLAMA ",\"rope_scaling\":{\"rope_type\":\"dynamic\",\"factor\":2}}",
		"{" HEADS("mistral") "}", "{" HEADS("mistral") ",\"sliding_window\":null}", "{" HEADS("mixtral") ",\"sliding_window\":9}",
		"{" HEADS("qwen3") ",\"num_key_value_heads\":2,\"attention_bias\":true}", "{" HEADS("gemma2") "}",
		"{" HEADS("gemma2") ",\"attn_logit_softcapping\":null,\"final_logit_softcapping\":2.5}",
		"{" HEADS("internlm2") ",\"bias\":false,\"num_key_value_heads\":2}",
		"{" HEADS("internlm2") ",\"rope_scaling\":{\"type\":\"dynamic\",\"factor\":3}}",
		"{\"model_type\":\"gpt_neox\",\"hidden_size\":96,\"intermediate_size\":64,\"num_hidden_layers\":2,\"num_attention_heads\":2,"
		"\"vocab_size\":40,\"max_position_embeddings\":64,\"rotary_pct\":0.3333333333333333}",
		"{" HEADS("gpt_neox") ",\"rotary_pct\":0.5,\"use_parallel_residual\":false,\"rotary_emb_base\":500}",
		"{\"model_type\":\"mpt\",\"d_model\":24,\"n_heads\":6,\"n_layers\":2,\"vocab_size\":40,\"attn_config\":{\"softmax_scale\":0.5}}",
		"{" QWEN ",\"use_sliding_window\":true,\"sliding_window\":9,\"max_window_layers\":1,\"rope_theta\":1e6}",
		"{" QWEN ",\"tie_word_embeddings\":true}",
		"{" GEMMA ",\"rope_scaling\":{\"rope_type\":\"linear\",\"factor\":8},\"query_pre_attn_scalar\":168}",
		"{" GEMMA ",\"tie_word_embeddings\":false,\"query_pre_attn_scalar\":100.5,\"attention_bias\":true,\"sliding_window\":33}",
		"{" GEMMA ",\"layer_types\":[\"full_attention\",\"full_attention\",\"full_attention\",\"full_attention\","
		"\"full_attention\",\"full_attention\",\"full_attention\"]}",
	};
	(void)state;

	for (size_t i = 0; i < sizeof configs / sizeof *configs; i++) {
		kf_arch a = good(configs[i]), b;
		json_t *c = kf_arch_to_config(&a, "float32");
		assert_non_null(c);
		char *text = json_dumps(c, JSON_REAL_PRECISION(9));
		b = good(text);
		same(&a, &b);
		free(text);
		json_decref(c);
	}
}

/* InternLM2's own code wants a scaling of exactly these keys. */
static void test_internlm2_scaling(void **state)
{
	kf_arch a = good("{" HEADS("internlm2") ",\"rope_scaling\":{\"type\":\"dynamic\",\"factor\":3}}");
	json_t *c = kf_arch_to_config(&a, "bfloat16");
	const json_t *s = json_object_get(c, "rope_scaling");

	(void)state;
	assert_int_equal(json_object_size(s), 2);
	assert_string_equal(json_string_value(json_object_get(s, "type")), "dynamic");
	assert_true(json_real_value(json_object_get(s, "factor")) == 3);
	json_decref(c);
}

/* In transformers 5's form the context before stretching stands inside, and a factor counts. */
static void test_longrope_inside(void **state)
{
	kf_arch a = good("{" LLAMA "," LONGROPE ",\"original_max_position_embeddings\":512}");
	json_t *c = kf_arch_to_config(&a, "float32"), *s = json_object_get(c, "rope_scaling");
	char *text;
	kf_arch b;

	(void)state;
	json_object_set_new(s, "rope_theta", json_real(a.rope.base));
	json_object_set_new(s, "original_max_position_embeddings", json_integer(512));
	json_object_del(s, "attention_factor");
	json_object_set(c, "rope_parameters", s);
	json_object_del(c, "rope_scaling");
	json_object_del(c, "original_max_position_embeddings");
	text = json_dumps(c, JSON_REAL_PRECISION(9));
	b = good(text);
	same(&a, &b);
	free(text);
	json_decref(c);
}

static void test_tensors(void **state)
{
	kf_arch a = good("{" QWEN "}");
	char name[128];
	uint64_t rows, cols;
	(void)state;

	assert_int_equal(kf_arch_tensor(&a, -1, name, &rows, &cols), 1 + 4 * 12 + 2);
	kf_arch_tensor(&a, 0, name, &rows, &cols);
	assert_string_equal(name, "model.embed_tokens.weight");
	assert_true(rows == 40 && cols == 32);
	kf_arch_tensor(&a, 2, name, &rows, &cols);
	assert_string_equal(name, "model.layers.0.self_attn.q_proj.bias");
	assert_true(rows == 1 && cols == 32);
	kf_arch_tensor(&a, 12 + 3, name, &rows, &cols);
	assert_string_equal(name, "model.layers.1.self_attn.k_proj.weight");
	assert_true(rows == 16 && cols == 32);
	kf_arch_tensor(&a, 48, name, &rows, &cols);
	assert_string_equal(name, "model.layers.3.post_attention_layernorm.weight");
	kf_arch_tensor(&a, 49, name, &rows, &cols);
	assert_string_equal(name, "model.norm.weight");
	kf_arch_tensor(&a, 50, name, &rows, &cols);
	assert_string_equal(name, "lm_head.weight");
	a = good("{" GEMMA "}");
	assert_int_equal(kf_arch_tensor(&a, 1000, name, &rows, &cols), 1 + 7 * 13 + 1);
	kf_arch_tensor(&a, 13, name, &rows, &cols);
	assert_string_equal(name, "model.layers.0.post_feedforward_layernorm.weight");
}

/* ---- GGUF ---- */

static kf_status from_gguf(gguf_maker *m, kf_arch *a, kf_err *err)
{
	kf_buf file = { 0 };
	kf_gguf *g;
	kf_status rc;

	finish_gguf(m, &file);
	rc = kf_gguf_open_memory(file.data, file.len, "g.gguf", &g, err);
	if (rc == KF_OK) rc = kf_arch_from_gguf(g, a, err);
	kf_gguf_close(g);
	kf_buf_release(&file);
	return rc;
}

static void test_gguf(void **state)
{
	static const char *const archs[] = { "llama", "qwen2", "gemma3" };
	kf_err err;
	kf_rng r;
	(void)state;

	kf_rng_seed(&r, 1);
	for (int i = 0; i < 3; i++) {
		gguf_maker m = { 0 };
		kf_arch a;
		put_model(&m, &r, archs[i], KF_F32);
		if (from_gguf(&m, &a, &err) != KF_OK) fail_msg("%s", err.text);
		assert_int_equal(a.family, i);
		assert_string_equal(kf_family_name(a.family), archs[i]);
		assert_true(a.L == 2 && a.C == 32 && a.H == 4 && a.G == 2 && a.D == 8 && a.F == 64 && a.V == 40 &&
			a.context == 128);
		assert_true(
			a.tied == (i != 1) && a.qkv_bias == (i == 1) && a.norm_eps == 1e-5f && a.rope.base == 50000);
		assert_true(a.window == (i == 2 ? 16 : 0) && a.windowed[0] == (i == 2) &&
			a.rope_local.base == (i == 2 ? 10000 : 50000));
		assert_true(a.attn_scale == (float)(1 / sqrt(8)) && a.embed_scale == (i == 2 ? (float)sqrt(32) : 1));
	}
}

/* Llama 3.1's divisors are recognised; others are LongRoPE's at every length; what is no divisor is refused. */
static void test_gguf_rope_freqs(void **state)
{
	/* base 50000, D 8: wave lengths 6.28, 94, 1405, 21010; 2048 and 8192 are the bounds */
	static const float divisors[3][4] = { { 1, 1, 1, 8 }, { 1, 3, 1, 7 }, { 1, 1, 0, 8 } };
	kf_err err;
	kf_rng r;
	kf_arch a, back;
	(void)state;

	for (int i = 0; i < 3; i++) {
		gguf_maker m = { 0 };
		kf_rng_seed(&r, 1);
		put_model(&m, &r, "llama", KF_F32);
		put_tensor(&m, &r, "rope_freqs.weight", KF_F32, 0, 4);
		memcpy(m.data.data + m.data.len - 16, divisors[i], 16);
		kf_status rc = from_gguf(&m, &a, &err);
		if (i == 2) {
			assert_int_equal(rc, KF_EDATA);
			assert_non_null(strstr(err.text, "rope_freqs.weight has the divisor 0"));
			continue;
		}
		if (rc != KF_OK) fail_msg("%s", err.text);
		if (i == 0) {
			assert_true(a.rope.kind == KF_ROPE_LLAMA3 && a.rope.factor == 8 && a.rope.original_context == 8192);
			continue;
		}
		for (int length = 1; length < 1000; length *= 10) {
			float freq[4], plain[4];
			kf_rope none = { .base = 50000 };
			kf_rope_freq(&a.rope, 8, length, freq);
			kf_rope_freq(&none, 8, length, plain);
			for (int k = 0; k < 4; k++) assert_true(fabsf(freq[k] * divisors[1][k] - plain[k]) <= 1e-6f * plain[k]);
		}
		json_t *c = kf_arch_to_config(&a, "float32"); /* and transformers is told */
		assert_int_equal(kf_arch_from_config(c, &back, &err), KF_OK);
		assert_memory_equal(&a.rope, &back.rope, sizeof a.rope);
		json_decref(c);
	}
}

static kf_arch good_gguf(gguf_maker *m)
{
	kf_arch a;
	kf_err err;

	if (from_gguf(m, &a, &err) != KF_OK) fail_msg("%s", err.text);
	return a;
}

/* What llama.cpp's converter writes of YaRN, and what it takes for granted. */
static void test_gguf_yarn(void **state)
{
	gguf_maker m = { 0 };
	kf_rng r;
	kf_arch a;
	(void)state;

	kf_rng_seed(&r, 1);
	put_model(&m, &r, "qwen2", KF_F32);
	put_string(&m, "qwen2.rope.scaling.type", "yarn");
	put_f32(&m, "qwen2.rope.scaling.factor", 4);
	put_u32(&m, "qwen2.rope.scaling.original_context_length", 32);
	a = good_gguf(&m);
	assert_true(a.rope.kind == KF_ROPE_YARN && a.rope.factor == 4 && a.rope.original_context == 32 && a.rope.truncate &&
		a.rope.low_freq == 1 && a.rope.high_freq == 32 && fabs(a.rope.scale - 1.1386294) < 1e-6 && a.rope.base == 50000);
	put_model(&m, &r, "llama", KF_F32);
	put_string(&m, "llama.rope.scaling.type", "yarn");
	put_f32(&m, "llama.rope.scaling.factor", 2);
	put_f32(&m, "llama.rope.scaling.yarn_beta_fast", 20);
	put_f32(&m, "llama.rope.scaling.yarn_beta_slow", 0.5f);
	put_f32(&m, "llama.rope.scaling.yarn_attn_factor", 0.75f);
	put_f32(&m, "llama.rope.scaling.attn_factor", 2);
	put_f32(&m, "llama.rope.scaling.yarn_ext_factor", 1);
	put_f32(&m, "llama.rope.scaling.yarn_log_multiplier", 0);
	a = good_gguf(&m);
	assert_true(a.rope.original_context == 128 && a.rope.low_freq == 0.5f && a.rope.high_freq == 20 && a.rope.scale == 1.5f);
}

/* A llama with a window is a Mistral, one with experts a Mixtral; windows of Qwen and Gemma may be in some layers only. */
static void test_gguf_windows(void **state)
{
	gguf_maker m = { 0 };
	kf_rng r;
	kf_arch a;
	(void)state;

	kf_rng_seed(&r, 1);
	put_model(&m, &r, "llama", KF_F32);
	put_u32(&m, "llama.attention.sliding_window", 64);
	a = good_gguf(&m);
	assert_true(a.family == KF_FAMILY_MISTRAL && a.window == 64 && a.windowed[0] && a.windowed[1]);
	put_model(&m, &r, "llama", KF_F32);
	put_u32(&m, "llama.attention.sliding_window", 128); /* no shorter than the context */
	a = good_gguf(&m);
	assert_true(a.family == KF_FAMILY_LLAMA && a.window == 0 && !a.windowed[0]);
	put_model(&m, &r, "llama", KF_F32);
	put_u32(&m, "llama.expert_count", 4);
	put_u32(&m, "llama.expert_used_count", 2);
	put_u32(&m, "llama.attention.sliding_window", 64);
	a = good_gguf(&m);
	assert_true(a.family == KF_FAMILY_MIXTRAL && a.experts == 4 && a.experts_used == 2 && a.window == 64 && a.windowed[1]);
	put_model(&m, &r, "qwen2", KF_F32);
	put_u32(&m, "qwen2.attention.sliding_window", 64);
	put_array(&m, "qwen2.attention.sliding_window_pattern", KF_GGUF_BOOL, 2);
	kf_buf_put(&m.kv, "\0\1", 2);
	a = good_gguf(&m);
	assert_true(a.family == KF_FAMILY_QWEN2 && a.window == 64 && !a.windowed[0] && a.windowed[1]);
	put_model(&m, &r, "qwen2", KF_F32);
	put_u32(&m, "qwen2.attention.sliding_window", 64);
	put_u32(&m, "qwen2.attention.sliding_window_pattern", 2);
	a = good_gguf(&m);
	assert_true(a.windowed[0] && !a.windowed[1]);
}

enum { G_ARCH, G_UNKNOWN_KEY, G_EXPERTS, G_CAP, G_ROPE_DIM, G_LONGROPE, G_YARN, G_EXT, G_LOG_MUL, G_ATTN, G_WINDOW, G_SCALE, G_USED, G_NO_BLOCKS, G_CAUSAL, N_G };

static void test_gguf_refused(void **state)
{
	static const struct { kf_status rc; const char *text; } want[N_G] = {
		[G_ARCH] = { KF_EUNSUPPORTED, "g.gguf: architecture \"mamba\" is not supported" },
		[G_UNKNOWN_KEY] = { KF_EUNSUPPORTED, "g.gguf: llama.logit_scale may change what the model computes" },
		[G_EXPERTS] = { KF_EDATA, "g.gguf: lacks the metadata entry llama.expert_used_count" },
		[G_USED] = { KF_EDATA, "5 of 4 experts a token make no sense" },
		[G_CAP] = { KF_EUNSUPPORTED, "llama.final_logit_softcapping is not supported" },
		[G_ROPE_DIM] = { KF_EUNSUPPORTED, "llama.rope.dimension_count differs from the size of a head" },
		[G_LONGROPE] = { KF_EUNSUPPORTED, "rotary scaling \"longrope\" is not supported; linear and yarn are" },
		[G_YARN] = { KF_EDATA, "rotary scaling \"yarn\" without llama.rope.scaling.factor" },
		[G_EXT] = { KF_EUNSUPPORTED, "llama.rope.scaling.yarn_ext_factor other than 1 is not supported" },
		[G_LOG_MUL] = { KF_EUNSUPPORTED, "llama.rope.scaling.yarn_log_multiplier is not supported" },
		[G_ATTN] = { KF_EUNSUPPORTED, "llama.rope.scaling.attn_factor is not supported" },
		[G_WINDOW] = { KF_EUNSUPPORTED, "llama.attention.sliding_window_pattern with some layers only" },
		[G_SCALE] = { KF_EUNSUPPORTED, "llama.attention.scale other than 1 / sqrt(head size)" },
		[G_NO_BLOCKS] = { KF_EDATA, "g.gguf: lacks tensor token_embd.weight" },
		[G_CAUSAL] = { KF_EUNSUPPORTED, "llama.attention.causal is false" },
	};
	kf_arch a;
	kf_err err;
	kf_rng r;
	(void)state;

	for (int i = 0; i < N_G; i++) {
		gguf_maker m = { 0 };
		kf_rng_seed(&r, 1);
		if (i == G_NO_BLOCKS || i == G_ARCH)
			put_string(&m, "general.architecture", i == G_ARCH ? "mamba" : "llama");
		else put_model(&m, &r, "llama", KF_F32);
		if (i == G_UNKNOWN_KEY) put_f32(&m, "llama.logit_scale", 2);
		if (i == G_EXPERTS) put_u32(&m, "llama.expert_count", 8);
		if (i == G_CAP) put_f32(&m, "llama.final_logit_softcapping", 30);
		if (i == G_ROPE_DIM) put_u32(&m, "llama.rope.dimension_count", 4);
		if (i == G_LONGROPE) put_string(&m, "llama.rope.scaling.type", "longrope");
		if (i == G_YARN || i == G_EXT || i == G_LOG_MUL) put_string(&m, "llama.rope.scaling.type", "yarn");
		if (i == G_EXT || i == G_LOG_MUL) put_f32(&m, "llama.rope.scaling.factor", 4);
		if (i == G_EXT) put_f32(&m, "llama.rope.scaling.yarn_ext_factor", 0.5f);
		if (i == G_LOG_MUL) put_f32(&m, "llama.rope.scaling.yarn_log_multiplier", 0.1f);
		if (i == G_ATTN) put_f32(&m, "llama.rope.scaling.attn_factor", 1.2f);
		if (i == G_WINDOW) put_u32(&m, "llama.attention.sliding_window", 64), put_u32(&m, "llama.attention.sliding_window_pattern", 2);
		if (i == G_SCALE) put_f32(&m, "llama.attention.scale", 0.5f);
		if (i == G_USED) put_u32(&m, "llama.expert_count", 4), put_u32(&m, "llama.expert_used_count", 5);
		if (i == G_CAUSAL) put_bool(&m, "llama.attention.causal", false);
		kf_status rc = from_gguf(&m, &a, &err);
		if (rc != want[i].rc || !strstr(err.text, want[i].text))
			fail_msg("case %d: %d, \"%s\"", i, rc, rc ? err.text : "");
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_defaults), cmocka_unit_test(test_families), cmocka_unit_test(test_rope_freq),
		cmocka_unit_test(test_options), cmocka_unit_test(test_published), cmocka_unit_test(test_refused),
		cmocka_unit_test(test_round_trip), cmocka_unit_test(test_internlm2_scaling), cmocka_unit_test(test_longrope_inside), cmocka_unit_test(test_tensors), cmocka_unit_test(test_gguf),
		cmocka_unit_test(test_gguf_rope_freqs), cmocka_unit_test(test_gguf_yarn), cmocka_unit_test(test_gguf_windows),
		cmocka_unit_test(test_gguf_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
