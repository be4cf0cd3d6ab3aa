/* Tiny models of every family, and what transformers makes of them (tests/parity/forward, made by
 * tests/models/make_models.py): log-probabilities, loss and gradients, held against any backend.
 */
#ifndef KF_TESTS_MODEL_FORWARD_H
#define KF_TESTS_MODEL_FORWARD_H

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

static inline void load(const char *name, fixture *f)
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

static inline void unload(fixture *f)
{
	kf_free(f->offset);
	kf_free(f->tokens);
	kf_free(f->labels);
	kf_free(f->logp);
	kf_free(f->grad);
}

static inline void rig_open_as(rig *r, const char *name, const kf_ops *ops, kf_compute compute, kf_model_opts opts)
{
	char path[256];

	snprintf(path, sizeof path, "tests/models/%s", name);
	OK(kf_pool_new(2, &r->pool, &e_));
	OK(kf_exec_new(ops, r->pool, compute, &r->x, &e_));
	OK(kf_weights_open(path, &r->w, &e_));
	OK(kf_model_new(r->w, r->x, &opts, &r->m, &e_));
}

static inline void rig_open(rig *r, const char *name, const kf_ops *ops, kf_model_opts opts)
{
	rig_open_as(r, name, ops, KF_COMPUTE_F32, opts);
}

static inline void rig_close(rig *r)
{
	kf_model_free(r->m);
	kf_weights_close(r->w);
	kf_exec_free(r->x);
	kf_pool_free(r->pool);
}

static inline kf_batch batch_of(const fixture *f)
{
	return (kf_batch){ .T = f->T, .S = f->S, .tokens = f->tokens, .offset = f->offset };
}

/* Log-probabilities from the hidden state, in double: the head's tiles have their own tests. */
static inline void logprobs(rig *r, const fixture *f, float *out)
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

static inline double max_diff(const float *a, const float *b, size_t n)
{
	double d = 0;

	for (size_t i = 0; i < n; i++)
		d = fmax(d, isnan(a[i]) || isnan(b[i]) ? INFINITY : fabs((double)a[i] - b[i]));
	return d;
}

static inline void check_forward(const char *name, const kf_ops *ops, kf_model_opts opts)
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

static inline kf_loss_query clm_query(const fixture *f, uint32_t *off, int rows)
{
	memset(off, 0, ((size_t)f->T + 1) * sizeof *off);
	return (kf_loss_query){ .labels = f->labels, .off = off, .lambda = 1, .temperature = 1, .scale = 1.0f / (float)rows };
}

static inline int count_labels(const fixture *f)
{
	int n = 0;

	for (int i = 0; i < f->T; i++)
		n += f->labels[i] >= 0;
	return n;
}

static inline const kf_param *param(rig *r, const char *name)
{
	kf_param *p;
	int n = kf_model_params(r->m, &p);

	for (int i = 0; i < n; i++)
		if (strcmp(p[i].name, name) == 0)
			return &p[i];
	fail_msg("no parameter %s", name);
	return NULL;
}

static inline void check_gradients(const char *name, const kf_ops *ops)
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

#endif
