/* Random questions to a head, and answers compared: for the tests of every backend. */
#ifndef KF_TESTS_OPS_SCORE_PROBLEM_H
#define KF_TESTS_OPS_SCORE_PROBLEM_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

#include "common/base/rng.h"
#include "common/ops/ops.h"

typedef struct {
	int T, V, C, k, E;
	float *hidden, *w;
	int32_t *order, *labels, *off, *lo, *hi;
	kf_score_query q;
} problem;

static inline void unpack(const void *src, const int32_t *index, uint64_t row, uint64_t n, float *out)
{
	const problem *p = src;
	for (uint64_t i = 0; i < n; i++)
		for (int c = 0; c < p->C; c++) out[i * p->C + c] = p->w[(index ? (uint64_t)index[i] : row + i) * p->C + c];
}

/* Values on a grid make logits exact in float32, with many ties; without, ordinary Gaussian ones. */
static inline problem make(kf_rng *r, int T, int V, int C, int k, int m, int E, bool grid)
{
	problem p = { .T = T, .V = V, .C = C, .k = k, .E = E };
	p.hidden = calloc(T * C, sizeof(float));
	p.w = calloc((size_t)V * C, sizeof(float));
	p.order = calloc(V, sizeof(int32_t));
	p.labels = calloc(T, sizeof(int32_t));
	p.off = calloc(T + 1, sizeof(int32_t));
	p.lo = calloc(T * 6 + 1, sizeof(int32_t));
	p.hi = calloc(T * 6 + 1, sizeof(int32_t));
	for (int i = 0; i < T * C; i++) p.hidden[i] = grid ? ((int)kf_rng_below(r, 9) - 4) / 4.f : (float)kf_rng_normal(r);
	for (int i = 0; i < V * C; i++) p.w[i] = grid ? ((int)kf_rng_below(r, 17) - 8) / 8.f : (float)kf_rng_normal(r);
	for (int i = 0; i < V; i++) p.order[i] = i;
	for (int i = V - 1; i > 0; i--) {
		int j = (int)kf_rng_below(r, i + 1), o = p.order[i];
		p.order[i] = p.order[j];
		p.order[j] = o;
	}
	int n = 0;
	for (int t = 0; t < T; t++) {
		p.labels[t] = (int)kf_rng_below(r, V + 1) - 1;
		int lo = 0, hi = V;
		for (int i = (int)kf_rng_below(r, 7); i > 0; i--) {
			int a = lo + (int)kf_rng_below(r, hi - lo + 1), b = lo + (int)kf_rng_below(r, hi - lo + 1);
			if (kf_rng_below(r, 4) == 0) { a = lo; b = hi; }
			lo = a < b ? a : b;
			hi = a < b ? b : a;
			p.lo[n] = lo;
			p.hi[n++] = hi;
		}
		p.off[t + 1] = n;
	}
	p.q = (kf_score_query){ .k = k, .labels = p.labels, .order = p.order,
		.range_off = p.off, .range_lo = p.lo, .range_hi = p.hi, .extra_min = m, .extra_max = E };
	return p;
}

static inline void release(problem *p)
{
	free(p->hidden);
	free(p->w);
	free(p->order);
	free(p->labels);
	free(p->off);
	free(p->lo);
	free(p->hi);
}

static inline kf_score answers(const problem *p)
{
	int n = p->off[p->T];
	return (kf_score){ calloc(p->T, 4), calloc(p->T * p->k, 4), calloc(p->T * p->k, 4), calloc(n + 1, 4),
		calloc(p->T, 4), calloc(p->T * p->E + 1, 4), calloc(p->T * p->E + 1, 4) };
}

static inline void drop(kf_score *a)
{
	free(a->ce);
	free(a->top_ids);
	free(a->top_lp);
	free(a->range_nlm);
	free(a->extra_n);
	free(a->extra_ids);
	free(a->extra_lp);
}

static inline void close_to(float a, float b, float tol)
{
	if (isnan(a) && isnan(b)) return;
	if (a == b) return;
	if (!(fabsf(a - b) <= tol)) fail_msg("%.9g is not %.9g", a, b);
}

/* Candidates in the same order, or in another where they are equal but for rounding. */
static inline void same_list(const int32_t *a, const float *la, const int32_t *b, const float *lb, int n, bool exact)
{
	for (int i = 0; i < n; i++) {
		close_to(la[i], lb[i], 1e-5f);
		if (exact) assert_int_equal(a[i], b[i]);
	}
}

#endif
