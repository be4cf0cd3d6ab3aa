/* Whole models: forward and gradients against transformers' (tests/parity/forward, made by
 * tests/models/make_models.py), gradients against finite differences, backends against each other. */
#include "tests/unit/model/forward.h"

static void test_forward(void **state)
{
	(void)state;
	for (int i = 0; i < N_MODELS; i++) {
		check_forward(MODELS[i], &kf_ops_ref, (kf_model_opts){ .resident = true });
		check_forward(MODELS[i], &kf_ops_cpu, (kf_model_opts){ .resident = true });
		check_forward(MODELS[i], &kf_ops_cpu, (kf_model_opts){ .train = true });
	}
}

/* The same models in GGUF, where rows have other orders, InternLM2, Mistral and Mixtral are llamas, and experts are
 * stacked (mixtral-1-of-3: not). */
static void test_gguf(void **state)
{
	static const char *const files[] = { "qwen3", "gemma2", "gpt-neox", "mpt", "internlm2", "llama-yarn", "mistral",
		"mixtral-2-of-4", "mixtral-1-of-3", "qwen2-window" };

	(void)state;
	for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
		char folder[64], file[64];
		fixture f;
		rig r;
		float *lp;
		double d;

		snprintf(folder, sizeof folder, "families/%s", files[i]);
		snprintf(file, sizeof file, "families/%s.gguf", files[i]);
		load(folder, &f);
		rig_open(&r, file, &kf_ops_cpu, (kf_model_opts){ .resident = true });
		lp = kf_alloc((size_t)f.T * (size_t)f.V, 4);
		logprobs(&r, &f, lp);
		d = max_diff(lp, f.logp, (size_t)f.T * (size_t)f.V);
		printf("%-30s cpu: log-probabilities differ by at most %.2g\n", file, d);
		assert_true(d <= 1e-4);
		kf_free(lp);
		rig_close(&r);
		unload(&f);
	}
}

/* Weights unpacked on use give the same as weights unpacked once, bit for bit. */
static void test_unpack_on_use(void **state)
{
	(void)state;
	for (int i = 0; i < N_MODELS; i++) {
		fixture f;
		rig a, b;
		size_t n;
		float *ha, *hb;
		kf_batch batch;

		load(MODELS[i], &f);
		batch = batch_of(&f);
		rig_open(&a, MODELS[i], &kf_ops_cpu, (kf_model_opts){ .resident = true });
		rig_open(&b, MODELS[i], &kf_ops_cpu, (kf_model_opts){ .resident = false });
		n = (size_t)f.T * (size_t)kf_model_arch(a.m)->C;
		ha = kf_alloc(n, 4);
		hb = kf_alloc(n, 4);
		OK(kf_model_hidden(a.m, &batch, ha, &e_));
		OK(kf_model_hidden(b.m, &batch, hb, &e_));
		assert_true(max_diff(ha, hb, n) <= 1e-6);
		kf_free(ha);
		kf_free(hb);
		rig_close(&a);
		rig_close(&b);
		unload(&f);
	}
}

/* A packed batch is its sequences run alone; buffers grow and shrink without a trace. */
static void test_packed(void **state)
{
	(void)state;
	for (int i = 0; i < N_MODELS; i++) {
		fixture f;
		rig r;
		size_t C;
		float *all, *one;
		kf_batch batch;

		load(MODELS[i], &f);
		batch = batch_of(&f);
		rig_open(&r, MODELS[i], &kf_ops_cpu, (kf_model_opts){ .resident = true });
		C = (size_t)kf_model_arch(r.m)->C;
		all = kf_alloc((size_t)f.T * C, 4);
		one = kf_alloc((size_t)f.T * C, 4);
		for (int s = f.S - 1; s >= 0; s--) {
			int32_t off[2] = { 0, f.offset[s + 1] - f.offset[s] };
			kf_batch b = { .T = off[1], .S = 1, .tokens = f.tokens + f.offset[s], .offset = off };

			OK(kf_model_hidden(r.m, &b, one + (size_t)f.offset[s] * C, &e_));
		}
		OK(kf_model_hidden(r.m, &batch, all, &e_));
		assert_true(max_diff(all, one, (size_t)f.T * C) <= 2e-4);
		kf_free(all);
		kf_free(one);
		rig_close(&r);
		unload(&f);
	}
}

static void test_refuses(void **state)
{
	int32_t tokens[2] = { 1, 400 }, off[2] = { 0, 2 }, bad[2] = { 0, 3 };
	kf_batch b = { .T = 2, .S = 1, .tokens = tokens, .offset = off };
	float h[2 * 40];
	kf_err err;
	rig r;

	(void)state;
	rig_open(&r, "llama-tiny", &kf_ops_cpu, (kf_model_opts){ .resident = true });
	assert_int_equal(kf_model_hidden(r.m, &b, h, &err), KF_EINVAL);
	assert_non_null(strstr(err.text, "400"));
	tokens[1] = -1;
	assert_int_equal(kf_model_hidden(r.m, &b, h, &err), KF_EINVAL);
	tokens[1] = 2;
	b.offset = bad;
	assert_int_equal(kf_model_hidden(r.m, &b, h, &err), KF_EINVAL);
	rig_close(&r);
}

static void test_gradients(void **state)
{
	(void)state;
	for (int i = 0; i < N_MODELS; i++) {
		check_gradients(MODELS[i], &kf_ops_ref);
		check_gradients(MODELS[i], &kf_ops_cpu);
	}
}

/* A fused loss with random candidates. */
typedef struct { uint32_t *off; int32_t *ids; float *q, *weight; } cands;

static kf_loss_query fused_query(const fixture *f, cands *c, kf_loss_kind kind, kf_tail_kind tail, double temperature)
{
	size_t T = (size_t)f->T;
	kf_rng rng;

	kf_rng_seed(&rng, 5);
	c->off = kf_alloc(T + 1, sizeof *c->off);
	c->ids = kf_alloc(T * 4, sizeof *c->ids);
	c->q = kf_alloc(T * 4, sizeof *c->q);
	c->weight = kf_alloc(T, sizeof *c->weight);
	c->off[0] = 0;
	for (size_t t = 0; t < T; t++) {
		uint32_t n = (uint32_t)(t % 5), at = c->off[t];
		float left = 0.95f;

		for (uint32_t j = 0; j < n; j++) {
			c->ids[at + j] = (int32_t)((t * 7 + j * 31) % (size_t)f->V);
			c->q[at + j] = left * (0.3f + 0.4f * (float)kf_rng_real(&rng));
			left -= c->q[at + j];
		}
		c->off[t + 1] = at + n;
		c->weight[t] = t % 3 ? 1 : 0.5f;
	}
	return (kf_loss_query){ .labels = f->labels, .off = c->off, .ids = c->ids, .q = c->q, .weight = c->weight,
		.lambda = 0.3, .temperature = temperature, .kind = kind, .tail = tail, .scale = 1 };
}

static void cands_free(cands *c)
{
	kf_free(c->off);
	kf_free(c->ids);
	kf_free(c->q);
	kf_free(c->weight);
}

/* Add s * direction to every parameter; directions are as large as the parameters are. */
static void step_along(rig *r, uint64_t seed, double s, float *const *base)
{
	kf_param *p;
	int n = kf_model_params(r->m, &p);
	kf_rng rng;

	kf_rng_seed(&rng, seed);
	for (int i = 0; i < n; i++)
		for (uint64_t j = 0; j < p[i].rows * p[i].cols; j++)
			((float *)p[i].value)[j] = base[i][j] + (float)(s * 0.2 * kf_rng_normal(&rng));
}

static void test_finite_differences(void **state)
{
	static const struct { kf_loss_kind kind; kf_tail_kind tail; double temperature; } LOSS[] = {
		{ KF_LOSS_CE, KF_TAIL_REST, 1 }, { KF_LOSS_KL, KF_TAIL_RENORMALIZE, 1 }, { KF_LOSS_CE, KF_TAIL_REST, 1.7 },
		{ KF_LOSS_CE, KF_TAIL_RENORMALIZE, 1 },
	};

	(void)state;
	for (int i = 0; i < N_MODELS; i++) {
		fixture f;
		rig r;
		cands c;
		kf_loss_query q;
		kf_loss loss, plus, minus;
		kf_batch b;
		kf_param *p;
		float *base[256];
		int n;

		if (strstr(MODELS[i], "-of-"))   /* a step changes the choice of an expert: the loss jumps */
			continue;
		load(MODELS[i], &f);
		b = batch_of(&f);
		rig_open(&r, MODELS[i], &kf_ops_ref, (kf_model_opts){ .train = true, .recompute = i % 2 });
		q = fused_query(&f, &c, LOSS[i % 4].kind, LOSS[i % 4].tail, LOSS[i % 4].temperature);
		OK(kf_model_loss(r.m, &b, &q, true, &loss, &e_));
		n = kf_model_params(r.m, &p);
		assert_true(n <= 256);
		for (int j = 0; j < n; j++) {
			base[j] = kf_alloc(p[j].rows * p[j].cols, 4);
			memcpy(base[j], p[j].value, p[j].rows * p[j].cols * 4);
		}
		for (uint64_t seed = 1; seed <= 3; seed++) {
			double dot = 0, slope, slopes[2], h = 2e-3;
			kf_rng rng;

			kf_rng_seed(&rng, seed);
			for (int j = 0; j < n; j++)
				for (uint64_t e = 0; e < p[j].rows * p[j].cols; e++)
					dot += 0.2 * kf_rng_normal(&rng) * ((float *)p[j].grad)[e];
			/* one step of Richardson's extrapolation takes the cubic term away */
			for (int half = 0; half < 2; half++) {
				double step = half ? h / 2 : h;

				step_along(&r, seed, step, base);
				OK(kf_model_loss(r.m, &b, &q, false, &plus, &e_));
				step_along(&r, seed, -step, base);
				OK(kf_model_loss(r.m, &b, &q, false, &minus, &e_));
				slopes[half] = (plus.loss - minus.loss) / (2 * step);
			}
			step_along(&r, seed, 0, base);
			slope = (4 * slopes[1] - slopes[0]) / 3;
			printf("%-30s slope %.4f, gradient says %.4f\n", MODELS[i], slope, dot);
			assert_true(fabs(slope - dot) <= 1e-2 * fmax(fabs(dot), 10));
		}
		for (int j = 0; j < n; j++)
			kf_free(base[j]);
		cands_free(&c);
		rig_close(&r);
		unload(&f);
	}
}

/* Recomputing layers, all of them or those that do not fit, changes nothing; gradients add up over calls. */
static void test_recompute(void **state)
{
	(void)state;
	for (int i = 0; i < N_MODELS; i++) {
		const kf_model_opts opts[3] = { { .train = true }, { .train = true, .recompute = true },
			{ .train = true, .keep_bytes = 200000 } };
		fixture f;
		rig r[3];
		kf_batch b;
		kf_param *p[3];
		int n = 0;

		load(MODELS[i], &f);
		b = batch_of(&f);
		for (int j = 0; j < 3; j++) {
			cands c;
			kf_loss_query q = fused_query(&f, &c, KF_LOSS_CE, KF_TAIL_REST, 1);
			kf_loss loss;

			rig_open(&r[j], MODELS[i], &kf_ops_cpu, opts[j]);
			OK(kf_model_loss(r[j].m, &b, &q, true, &loss, &e_));
			if (j == 1) {                    /* again, from zero: the same */
				kf_model_zero_grad(r[j].m);
				OK(kf_model_loss(r[j].m, &b, &q, true, &loss, &e_));
			}
			n = kf_model_params(r[j].m, &p[j]);
			cands_free(&c);
		}
		for (int j = 1; j < 3; j++)
			for (int k = 0; k < n; k++)
				assert_memory_equal(p[0][k].grad, p[j][k].grad, p[0][k].rows * p[0][k].cols * 4);
		for (int j = 0; j < 3; j++)
			rig_close(&r[j]);
		unload(&f);
	}
}

/* The score's cross entropy and candidates are those of the log-probabilities. */
static void test_score(void **state)
{
	(void)state;
	for (int i = 0; i < N_MODELS; i++) {
		fixture f;
		rig r;
		kf_batch b;
		kf_score s = { 0 };
		kf_score_query q;
		int32_t *order;

		load(MODELS[i], &f);
		b = batch_of(&f);
		rig_open(&r, MODELS[i], &kf_ops_cpu, (kf_model_opts){ 0 });
		order = kf_alloc((size_t)f.V, sizeof *order);
		for (int v = 0; v < f.V; v++)
			order[v] = v;
		s.ce = kf_alloc((size_t)f.T, 4);
		s.top_ids = kf_alloc((size_t)f.T * 5, 4);
		s.top_lp = kf_alloc((size_t)f.T * 5, 4);
		s.extra_n = kf_zalloc((size_t)f.T, 4);
		q = (kf_score_query){ .k = 5, .labels = f.labels, .order = order };
		OK(kf_model_score(r.m, &b, &q, &s, &e_));
		for (int t = 0; t < f.T; t++) {
			const float *lp = f.logp + (size_t)t * (size_t)f.V;

			if (f.labels[t] >= 0)
				assert_true(fabs(s.ce[t] + lp[f.labels[t]]) <= 1e-4);
			else
				assert_true(isnan(s.ce[t]));
			for (int k = 0; k < 5; k++) {
				assert_true(fabs(s.top_lp[t * 5 + k] - lp[s.top_ids[t * 5 + k]]) <= 1e-4);
				if (k > 0)
					assert_true(s.top_lp[t * 5 + k] <= s.top_lp[t * 5 + k - 1]);
			}
			for (int v = 0; v < f.V; v++)
				assert_true(lp[v] <= s.top_lp[t * 5] + 1e-4f);
		}
		kf_free(order);
		kf_free(s.ce);
		kf_free(s.top_ids);
		kf_free(s.top_lp);
		kf_free(s.extra_n);
		rig_close(&r);
		unload(&f);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_forward),
		cmocka_unit_test(test_gguf),
		cmocka_unit_test(test_unpack_on_use),
		cmocka_unit_test(test_packed),
		cmocka_unit_test(test_refuses),
		cmocka_unit_test(test_score),
		cmocka_unit_test(test_gradients),
		cmocka_unit_test(test_recompute),
		cmocka_unit_test(test_finite_differences),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
