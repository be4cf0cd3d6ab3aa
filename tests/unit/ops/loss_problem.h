/* Random targets and every kind of loss: for the tests of every backend. */
#ifndef KF_TESTS_OPS_LOSS_PROBLEM_H
#define KF_TESTS_OPS_LOSS_PROBLEM_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "common/base/rng.h"
#include "common/ops/ops.h"

enum { MOST = 6 }; /* candidates a row */

typedef struct {
	int T, V, C;
	float *hidden, *w, *q, *weight;
	int32_t *labels, *ids;
	uint32_t *off;
	kf_loss_query query;
} problem;

static inline problem make(kf_rng *r, int T, int V, int C, float sharp)
{
	problem p = { .T = T, .V = V, .C = C };
	p.hidden = calloc(T * C, 4);
	p.w = calloc((size_t)V * C, 4);
	p.q = calloc(T * MOST, 4);
	p.weight = calloc(T, 4);
	p.labels = calloc(T, 4);
	p.ids = calloc(T * MOST, 4);
	p.off = calloc(T + 1, 4);
	for (int i = 0; i < T * C; i++) p.hidden[i] = sharp * (float)kf_rng_normal(r);
	for (int i = 0; i < V * C; i++) p.w[i] = (float)kf_rng_normal(r);
	uint32_t n = 0;
	for (int t = 0; t < T; t++) {
		p.labels[t] = kf_rng_below(r, 4) ? (int)kf_rng_below(r, V) : -1;
		p.weight[t] = (float)kf_rng_real(r);
		int k = (int)kf_rng_below(r, (V < MOST ? V : MOST) + 1);
		float sum = 0, mass = (float)kf_rng_real(r);
		if (kf_rng_below(r, 3) == 0) mass = 1;
		for (int i = 0; i < k; i++) {
			bool fresh;
			do {
				p.ids[n + i] = i == 0 && p.labels[t] >= 0 && kf_rng_below(r, 2) ? p.labels[t] : (int)kf_rng_below(r, V);
				fresh = true;
				for (int j = 0; j < i; j++) if (p.ids[n + j] == p.ids[n + i]) fresh = false;
			} while (!fresh);
			sum += p.q[n + i] = kf_rng_below(r, 8) ? (float)kf_rng_real(r) : 0;
		}
		for (int i = 0; i < k && sum > 0; i++) p.q[n + i] *= mass / sum * 0.999999f;
		n += k;
		p.off[t + 1] = n;
	}
	p.query = (kf_loss_query){ .labels = p.labels, .off = p.off, .ids = p.ids, .q = p.q, .weight = p.weight, .lambda = 0.3, .temperature = 1, .kind = KF_LOSS_CE, .tail = KF_TAIL_REST, .scale = 1 };
	return p;
}

static inline void release(problem *p)
{
	free(p->hidden);
	free(p->w);
	free(p->q);
	free(p->weight);
	free(p->labels);
	free(p->ids);
	free(p->off);
}

static inline kf_mat mat(const problem *p) { return (kf_mat){ .rows = p->V, .cols = p->C, .num = p->w }; }

static inline void close_to(double a, double b, double tol)
{
	if (a == b || fabs(a - b) <= tol * (1 + fabs(b))) return;
	fail_msg("%.9g is not %.9g", a, b);
}

typedef void visitor(problem *p, void *arg);

/* Every loss, tail, temperature, lambda, with and without weights and targets. */
static inline void all_kinds(problem *p, visitor *visit, void *arg)
{
	static const double lambda[] = { 0, 0.3, 1 }, tau[] = { 1, 2, 0.7 };
	for (int i = 0; i < 2 * 2 * 3 * 3 * 2 * 2; i++) {
		kf_loss_query *q = &p->query;
		q->kind = i & 1 ? KF_LOSS_KL : KF_LOSS_CE;
		q->tail = i & 2 ? KF_TAIL_RENORMALIZE : KF_TAIL_REST;
		q->weight = i & 4 ? p->weight : NULL;
		q->off = i & 8 ? p->off : NULL;
		q->lambda = lambda[i / 16 % 3];
		q->temperature = tau[i / 48];
		visit(p, arg);
	}
}

#endif
