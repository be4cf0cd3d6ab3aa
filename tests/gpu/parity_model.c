#include "tests/gpu/parity.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "common/model/model.h"

const char *const kf_parity_models[] = { "llama-tiny", "llama-untied", "qwen2-tiny", "gemma3-tiny", "families/llama-solar",
	"families/llama-linear", "families/llama-dynamic", "families/llama-yarn", "families/llama-yarn-all", "families/llama-longrope",
	"families/llama-longrope-factor", "families/llama-pickled", "families/mistral", "families/mistral-full", "families/mixtral-2-of-4",
	"families/mixtral-1-of-3", "families/mixtral-all", "families/qwen1.5", "families/qwen2-window", "families/qwen3", "families/qwen3-bias",
	"families/gemma2", "families/gemma2-uncapped", "families/gemma3-capped", "families/gpt-neox", "families/gpt-neox-serial", "families/mpt",
	"families/mpt-6-heads", "families/internlm2", "families/internlm2-bias" };
const int kf_parity_n_models = sizeof kf_parity_models / sizeof *kf_parity_models;

enum { CAND = 4 };

/* Random sequences and their targets. */
typedef struct {
	kf_batch b;
	kf_loss_query q;
	int32_t *tokens, *labels, *ids, offset[5];
	uint32_t *off;
	float *p;
} text;

static void make_text(kf_parity *p, int V, int context, text *t)
{
	const int lengths[4] = { 1, 13, 5, p->rows / 3 };
	int T = 0;

	for (int s = 0; s < 4; s++) {
		t->offset[s] = T;
		T += lengths[s] < context ? lengths[s] : context;
	}
	t->offset[4] = T;
	t->tokens = kf_alloc((size_t)T, 4);
	t->labels = kf_alloc((size_t)T, 4);
	t->ids = kf_alloc((size_t)T * CAND, 4);
	t->off = kf_alloc((size_t)T + 1, 4);
	t->p = kf_alloc((size_t)T * CAND, 4);
	for (int i = 0; i < T; i++) {
		t->tokens[i] = (int32_t)kf_rng_below(&p->rng, (uint64_t)V);
		t->labels[i] = (int32_t)kf_rng_below(&p->rng, (uint64_t)V);
		t->off[i] = (uint32_t)(i * CAND);
		for (int j = 0; j < CAND; j++) {
			t->ids[i * CAND + j] = (t->labels[i] + j * (V / CAND)) % V;
			t->p[i * CAND + j] = 0.2f;
		}
	}
	t->off[T] = (uint32_t)(T * CAND);
	t->b = (kf_batch){ .T = T, .S = 4, .tokens = t->tokens, .offset = t->offset };
	t->q = (kf_loss_query){ .labels = t->labels, .off = t->off, .ids = t->ids, .q = t->p, .lambda = 0.5, .temperature = 1,
		.scale = 1.f / (float)T };
}

static void free_text(text *t)
{
	kf_free(t->tokens);
	kf_free(t->labels);
	kf_free(t->ids);
	kf_free(t->off);
	kf_free(t->p);
}

/* The norm of the difference over that of the whole gradient of the kind: parameters with next to none have no say. */
static void gradients(kf_parity *p, const char *name, kf_model *m[2], double wild)
{
	kf_param *a, *b;
	int n = kf_model_params(m[0], &a);
	double worst = 0, total = 0, off = 0;
	const char *which = "";
	kf_exec *dev = p->x[1];
	kf_err err;
	char full[200];

	(void)kf_model_params(m[1], &b);
	for (int i = 0; i < n; i++) {
		size_t k = (size_t)(a[i].rows * a[i].cols);
		const float *want = a[i].grad;
		float *got = kf_alloc(k, sizeof *got);
		double d = 0, s = 0;

		if (dev->ops->get_num(dev, got, b[i].grad, b[i].num, k, &err) != KF_OK) {
			kf_parity_note(p, name, NAN, 0, err.text);
			kf_free(got);
			return;
		}
		for (size_t j = 0; j < k; j++) {
			d += ((double)got[j] - want[j]) * ((double)got[j] - want[j]);
			s += (double)want[j] * want[j];
		}
		total += s;
		off += d;
		if (s > 0 && sqrt(d / s) > worst) {
			worst = sqrt(d / s);
			which = a[i].name;
		}
		kf_free(got);
	}
	snprintf(full, sizeof full, "%s: all gradients", name);
	kf_parity_note(p, full, sqrt(off / total), kf_parity_allowed(p, 1e-4, 0.5 * wild), NULL);
	snprintf(full, sizeof full, "%s: worst gradient, of %s", name, which);
	kf_parity_note(p, full, worst, kf_parity_allowed(p, 2e-3, 0.9 * wild), NULL);
}

/* The size of the difference over that of what is wanted. */
static double root_mean_square(const float *got, const float *want, size_t n)
{
	double d = 0, s = 0;

	for (size_t i = 0; i < n; i++) {
		d += ((double)got[i] - want[i]) * ((double)got[i] - want[i]);
		s += (double)want[i] * want[i];
	}
	return sqrt(d / s);
}

/* The CPU's weights become the other side's, which may be roundings: what is compared is arithmetic. */
static kf_status share_weights(kf_parity *p, kf_model *m[2], kf_err *err)
{
	kf_param *a, *b;
	int n = kf_model_params(m[0], &a);
	kf_status rc = KF_OK;

	(void)kf_model_params(m[1], &b);
	for (int i = 0; i < n && rc == KF_OK; i++)
		rc = p->x[1]->ops->get_num(p->x[1], a[i].value, b[i].value, b[i].num, (size_t)(b[i].rows * b[i].cols), err);
	return rc;
}

/* The head's answers: cross-entropies of the text's own labels. */
static kf_status scores(kf_model *m, const text *t, const int32_t *order, float *ce, kf_err *err)
{
	const size_t T = (size_t)t->b.T;
	int32_t *ids = kf_alloc(T * 3, 4);
	float *lp = kf_alloc(T * 3, 4);
	const kf_score_query q = { .k = 3, .labels = t->labels, .order = order };
	kf_score s = { .ce = ce, .top_ids = ids, .top_lp = lp };
	kf_status rc = kf_model_score(m, &t->b, &q, &s, err);

	kf_free(ids);
	kf_free(lp);
	return rc;
}

/* Hidden states (T, C) of the text in two steps: the first part of each sequence, then the rest from the cache. */
static kf_status in_steps(kf_model *m, const text *t, float *hidden, kf_err *err)
{
	const size_t C = (size_t)kf_model_arch(m)->C, T = (size_t)t->b.T;
	int32_t *tokens = kf_alloc(T, 4), row[4], n[4] = { 0 }, offset[5] = { 0 };
	float *part = kf_alloc(T * C, 4);
	kf_before before = { NULL, row, n };
	kf_status rc = kf_kv_new(m, t->b.T, &before.kv, err);

	for (int step = 0; step < 2 && rc == KF_OK; step++) {
		kf_batch b = { .S = 4, .tokens = tokens, .offset = offset, .before = &before };

		for (int s = 0; s < 4; s++) {
			const int begin = t->offset[s], length = t->offset[s + 1] - begin, half = length / 2;
			const int to = step ? length : half;

			row[s] = begin;
			/* the whole again where the length decides about the frequencies, and passes what they are for */
			n[s] = step && kf_model_keeps(m, half, length) ? half : 0;
			memcpy(tokens + offset[s], t->tokens + begin + n[s], (size_t)(to - n[s]) * sizeof *tokens);
			offset[s + 1] = offset[s] + to - n[s];
		}
		b.T = offset[4];
		rc = kf_model_hidden(m, &b, part, err);
		for (int s = 0; s < 4 && rc == KF_OK; s++)
			memcpy(hidden + (size_t)(t->offset[s] + n[s]) * C, part + (size_t)offset[s] * C, (size_t)(offset[s + 1] - offset[s]) * C * sizeof *part);
	}
	kf_kv_free(before.kv);
	kf_free(part);
	kf_free(tokens);
	return rc;
}

void kf_parity_model(kf_parity *p, const char *dir, const char *name)
{
	kf_weights *w = NULL;
	kf_model *m[2] = { NULL, NULL };
	text t = { 0 };
	float *hidden[2] = { NULL, NULL }, *ce[2] = { NULL, NULL }, *stepped = NULL;
	int32_t *order = NULL;
	kf_loss loss[2];
	kf_status rc;
	kf_err err;
	char label[200];
	double wild;
	size_t n;

	if ((rc = kf_weights_open(dir, &w, &err)) != KF_OK) goto out;
	make_text(p, kf_weights_arch(w)->V, kf_weights_arch(w)->context, &t);
	n = (size_t)t.b.T * (size_t)kf_weights_arch(w)->C;
	/* bfloat16 on these models' random weights: on the emulator, over 10 seeds of 40 rows and 5 of 300, the worst gradient was off by
	 * 0.38. So in bfloat16 these bounds only find what is broken; in float32, which tells the kernels apart, a twelfth of what is allowed
	 * was reached. Rounding can make a router choose another expert, which changes a token altogether. */
	wild = kf_weights_arch(w)->experts ? 5 : 1;
	order = kf_alloc((size_t)kf_weights_arch(w)->V, 4);
	for (int v = 0; v < kf_weights_arch(w)->V; v++) order[v] = v;
	for (int d = 0; d < 2; d++) {
		const kf_model_opts opts = { .train = true, .recompute = d == 1 };

		hidden[d] = kf_alloc(n, 4);
		ce[d] = kf_alloc((size_t)t.b.T, 4);
		if ((rc = kf_model_new(w, p->x[d], &opts, &m[d], &err)) != KF_OK) goto out;
	}
	stepped = kf_alloc(n, 4);
	if ((rc = share_weights(p, m, &err)) != KF_OK) goto out;
	for (int d = 0; d < 2; d++) {
		if ((rc = kf_model_hidden(m[d], &t.b, hidden[d], &err)) != KF_OK ||
		    (rc = scores(m[d], &t, order, ce[d], &err)) != KF_OK ||
		    (rc = kf_model_loss(m[d], &t.b, &t.q, true, &loss[d], &err)) != KF_OK)
			goto out;
	}
	if ((rc = in_steps(m[1], &t, stepped, &err)) != KF_OK) goto out;
	snprintf(label, sizeof label, "%s: hidden states", name);
	kf_parity_note(p, label, root_mean_square(hidden[1], hidden[0], n), kf_parity_allowed(p, 1e-4, 0.06 * wild), NULL);
	snprintf(label, sizeof label, "%s: hidden states from a cache", name);
	kf_parity_note(p, label, root_mean_square(stepped, hidden[0], n), kf_parity_allowed(p, 1e-4, 0.06 * wild), NULL);
	snprintf(label, sizeof label, "%s: cross-entropies", name);
	kf_parity_note(p, label, root_mean_square(ce[1], ce[0], (size_t)t.b.T), kf_parity_allowed(p, 1e-4, 0.06 * wild), NULL);
	snprintf(label, sizeof label, "%s: loss", name);
	kf_parity_note(p, label, fabs(loss[1].loss - loss[0].loss) / loss[0].loss, kf_parity_allowed(p, 1e-5, 0.01), NULL);
	gradients(p, name, m, wild);
out:
	if (rc != KF_OK) kf_parity_note(p, name, NAN, 0, err.text);
	for (int d = 0; d < 2; d++) {
		kf_model_free(m[d]);
		kf_free(hidden[d]);
		kf_free(ce[d]);
	}
	kf_free(stepped);
	kf_free(order);
	free_text(&t);
	kf_weights_close(w);
}
