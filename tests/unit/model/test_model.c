/* Whole models: forward and gradients against transformers' (tests/parity/forward, made by
 * tests/models/make_models.py), gradients against finite differences, backends against each other. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/file.h"
#include "common/base/rng.h"
#include "common/model/model.h"

static const char *const MODELS[] = { "llama-tiny", "llama-untied", "qwen2-tiny", "gemma3-tiny",
	"families/llama-solar", "families/llama-linear", "families/llama-dynamic", "families/llama-yarn",
	"families/llama-yarn-all", "families/llama-longrope", "families/llama-longrope-factor", "families/mistral",
	"families/mistral-full", "families/mixtral-2-of-4", "families/mixtral-1-of-3", "families/mixtral-all",
	"families/qwen1.5", "families/qwen2-window", "families/qwen3", "families/qwen3-bias", "families/gemma2",
	"families/gemma2-uncapped", "families/gpt-neox", "families/gpt-neox-serial", "families/mpt",
	"families/mpt-6-heads", "families/internlm2", "families/internlm2-bias", "families/llama-pickled",
	"families/gemma3-capped" };
#define N_MODELS ((int)(sizeof MODELS / sizeof *MODELS))

#define OK(call) do { kf_err e_; if ((call) != KF_OK) fail_msg("%s", e_.text); } while (0)

typedef struct {
	char name[64];
	uint64_t numel;
	double norm;
	uint32_t k;
	float sample[48];
} ref_grad;

typedef struct {
	int S, T, V, n;
	int32_t *offset, *tokens, *labels;
	double loss;
	float *logp;            /* (T, V) */
	ref_grad *grad;         /* (n) */
} fixture;

typedef struct {
	kf_pool *pool;
	kf_exec *x;
	kf_weights *w;
	kf_model *m;
} rig;

static void load(const char *name, fixture *f)
{
	char path[256];
	kf_buf b = { 0 };
	kf_cur c;

	snprintf(path, sizeof path, "tests/parity/forward/%s.bin", name);
	OK(kf_file_read(path, 1 << 24, &b, &e_));
	c = kf_cur_of(b.data, b.len);
	assert_memory_equal(kf_cur_bytes(&c, 8), "KFPAR001", 8);
	f->S = (int)kf_cur_u32(&c);
	f->T = (int)kf_cur_u32(&c);
	f->V = (int)kf_cur_u32(&c);
	f->n = (int)kf_cur_u32(&c);
	f->offset = kf_alloc((size_t)f->S + 1, 4);
	f->tokens = kf_alloc((size_t)f->T, 4);
	f->labels = kf_alloc((size_t)f->T, 4);
	f->logp = kf_alloc((size_t)f->T * (size_t)f->V, 4);
	f->grad = kf_zalloc((size_t)f->n, sizeof *f->grad);
	memcpy(f->offset, kf_cur_bytes(&c, ((size_t)f->S + 1) * 4), ((size_t)f->S + 1) * 4);
	memcpy(f->tokens, kf_cur_bytes(&c, (size_t)f->T * 4), (size_t)f->T * 4);
	memcpy(f->labels, kf_cur_bytes(&c, (size_t)f->T * 4), (size_t)f->T * 4);
	memcpy(&f->loss, kf_cur_bytes(&c, 8), 8);
	memcpy(f->logp, kf_cur_bytes(&c, (size_t)f->T * (size_t)f->V * 4), (size_t)f->T * (size_t)f->V * 4);
	for (int i = 0; i < f->n; i++) {
		ref_grad *g = &f->grad[i];
		uint8_t len = kf_cur_u8(&c);

		memcpy(g->name, kf_cur_bytes(&c, len), len);
		g->numel = kf_cur_u64(&c);
		memcpy(&g->norm, kf_cur_bytes(&c, 8), 8);
		g->k = kf_cur_u32(&c);
		memcpy(g->sample, kf_cur_bytes(&c, g->k * 4), g->k * 4);
	}
	assert_false(c.bad);
	assert_int_equal(kf_cur_left(&c), 0);
	kf_buf_release(&b);
}

static void unload(fixture *f)
{
	kf_free(f->offset);
	kf_free(f->tokens);
	kf_free(f->labels);
	kf_free(f->logp);
	kf_free(f->grad);
}

static void rig_open(rig *r, const char *name, const kf_ops *ops, kf_model_opts opts)
{
	char path[256];

	snprintf(path, sizeof path, "tests/models/%s", name);
	OK(kf_pool_new(2, &r->pool, &e_));
	OK(kf_exec_new(ops, r->pool, KF_COMPUTE_F32, &r->x, &e_));
	OK(kf_weights_open(path, &r->w, &e_));
	OK(kf_model_new(r->w, r->x, &opts, &r->m, &e_));
}

static void rig_close(rig *r)
{
	kf_model_free(r->m);
	kf_weights_close(r->w);
	kf_exec_free(r->x);
	kf_pool_free(r->pool);
}

static kf_batch batch_of(const fixture *f)
{
	return (kf_batch){ .T = f->T, .S = f->S, .tokens = f->tokens, .offset = f->offset };
}

/* Log-probabilities from the hidden state, in double: the head's tiles have their own tests. */
static void logprobs(rig *r, const fixture *f, float *out)
{
	const kf_arch *a = kf_model_arch(r->m);
	const kf_tensor *t = kf_weights_at(r->w, a->tied ? 0 : kf_weights_count(r->w) - 1);
	size_t C = (size_t)a->C, V = (size_t)f->V;
	float *w = kf_alloc(V * C, 4), *h = kf_alloc((size_t)f->T * C, 4);
	double *z = kf_alloc(V, sizeof *z);
	kf_batch b = batch_of(f);

	assert_int_equal(a->V, f->V);
	kf_tensor_rows(t, 0, V, w);
	OK(kf_model_hidden(r->m, &b, h, &e_));
	for (int i = 0; i < f->T; i++) {
		double max = -INFINITY, sum = 0;

		for (size_t v = 0; v < V; v++) {
			z[v] = 0;
			for (size_t c = 0; c < C; c++)
				z[v] += (double)w[v * C + c] * h[(size_t)i * C + c];
			if (a->logit_cap > 0)
				z[v] = a->logit_cap * tanh(z[v] / a->logit_cap);
			max = fmax(max, z[v]);
		}
		for (size_t v = 0; v < V; v++)
			sum += exp(z[v] - max);
		for (size_t v = 0; v < V; v++)
			out[(size_t)i * V + v] = (float)(z[v] - max - log(sum));
	}
	kf_free(w);
	kf_free(h);
	kf_free(z);
}

static double max_diff(const float *a, const float *b, size_t n)
{
	double d = 0;

	for (size_t i = 0; i < n; i++)
		d = fmax(d, isnan(a[i]) || isnan(b[i]) ? INFINITY : fabs((double)a[i] - b[i]));
	return d;
}

static void check_forward(const char *name, const kf_ops *ops, kf_model_opts opts)
{
	fixture f;
	rig r;
	float *lp;
	double d;

	load(name, &f);
	rig_open(&r, name, ops, opts);
	lp = kf_alloc((size_t)f.T * (size_t)f.V, 4);
	logprobs(&r, &f, lp);
	d = max_diff(lp, f.logp, (size_t)f.T * (size_t)f.V);
	printf("%-30s %s: log-probabilities differ by at most %.2g\n", name, ops->name, d);
	assert_true(d <= 1e-4);
	kf_free(lp);
	rig_close(&r);
	unload(&f);
}

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

static kf_loss_query clm_query(const fixture *f, uint32_t *off, int rows)
{
	memset(off, 0, ((size_t)f->T + 1) * sizeof *off);
	return (kf_loss_query){ .labels = f->labels, .off = off, .lambda = 1, .temperature = 1, .scale = 1.0f / (float)rows };
}

static int count_labels(const fixture *f)
{
	int n = 0;

	for (int i = 0; i < f->T; i++)
		n += f->labels[i] >= 0;
	return n;
}

static const kf_param *param(rig *r, const char *name)
{
	kf_param *p;
	int n = kf_model_params(r->m, &p);

	for (int i = 0; i < n; i++)
		if (strcmp(p[i].name, name) == 0)
			return &p[i];
	fail_msg("no parameter %s", name);
	return NULL;
}

static void check_gradients(const char *name, const kf_ops *ops)
{
	fixture f;
	rig r;
	uint32_t *off;
	kf_loss_query q;
	kf_loss loss;
	kf_batch b;
	double worst = 0;

	load(name, &f);
	b = batch_of(&f);
	rig_open(&r, name, ops, (kf_model_opts){ .train = true });
	off = kf_alloc((size_t)f.T + 1, sizeof *off);
	q = clm_query(&f, off, count_labels(&f));
	OK(kf_model_loss(r.m, &b, &q, true, &loss, &e_));
	assert_int_equal(loss.clm_rows, count_labels(&f));
	assert_true(fabs(loss.clm / (double)loss.clm_rows - f.loss) < 1e-5 * f.loss);
	for (int i = 0; i < f.n; i++) {
		const ref_grad *g = &f.grad[i];
		const kf_param *p = param(&r, g->name);
		const float *grad = p->grad;
		double norm = 0, d = 0, s = 0, floor_ = g->norm * g->norm * (double)g->k / (double)g->numel;

		assert_int_equal(p->rows * p->cols, g->numel);
		for (uint64_t j = 0; j < g->numel; j++)
			norm += (double)grad[j] * grad[j];
		for (uint32_t j = 0; j < g->k; j++) {
			double e = (double)grad[j * g->numel / g->k] - g->sample[j];
			d += e * e;
			s += (double)g->sample[j] * g->sample[j];
		}
		if (g->norm < 1e-6) {   /* nothing but rounding: of one expert, chosen alone, the weight is always 1 */
			assert_true(norm < 1e-12);
			continue;
		}
		norm = fabs(sqrt(norm) - g->norm) / g->norm;
		d = sqrt(d / fmax(s, floor_));
		worst = fmax(worst, fmax(norm, d));
		if (!(norm <= 1e-3 && d <= 1e-3))
			fail_msg("%s %s: gradient of %s: norm off by %.2g, samples by %.2g", name, ops->name, g->name, norm, d);
	}
	printf("%-30s %s: gradients off by at most %.2g (relative)\n", name, ops->name, worst);
	kf_free(off);
	rig_close(&r);
	unload(&f);
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
