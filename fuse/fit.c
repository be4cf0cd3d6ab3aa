/* Mixture weights of highest likelihood: sequential quadratic programming on the simplex, with EM's step as
 * what every step must at least match (EM alone creeps where the best weight of a model is 0). */
#include "fuse/weights.h"

#include <math.h>
#include <string.h>

#include "common/base/mem.h"

#define STEPS 500
#define FLAT 1e-13     /* what arithmetic makes of f's differences */

typedef struct {
	const float *r;        /* (n, m) every label's probabilities over the largest of them */
	size_t n;
	int m;
	double *g;             /* (m) gradient of f, the mean log of the mixture */
	double *h;             /* (m, m) minus its second derivative */
} problem;

static double value(const problem *p, const double *w)
{
	double f = 0;

	for (size_t a = 0; a < p->n; a++) {
		double mix = 0;

		for (int i = 0; i < p->m; i++) mix += w[i] * (double)p->r[a * (size_t)p->m + (size_t)i];
		f += log(mix);
	}
	return f / (double)p->n;
}

static void derive(problem *p, const double *w)
{
	int m = p->m;
	double q[KF_FUSE_MODELS];

	memset(p->g, 0, (size_t)m * sizeof *p->g);
	memset(p->h, 0, (size_t)(m * m) * sizeof *p->h);
	for (size_t a = 0; a < p->n; a++) {
		const float *r = p->r + a * (size_t)m;
		double mix = 0;

		for (int i = 0; i < m; i++) mix += w[i] * (double)r[i];
		for (int i = 0; i < m; i++) p->g[i] += q[i] = (double)r[i] / mix;
		for (int i = 0; i < m; i++)
			for (int j = 0; j <= i; j++) p->h[i * m + j] += q[i] * q[j];
	}
	for (int i = 0; i < m; i++) {
		p->g[i] /= (double)p->n;
		for (int j = 0; j <= i; j++) p->h[j * m + i] = p->h[i * m + j] /= (double)p->n;
	}
}

/* u = argmax over the simplex of g.(u - w) - (u - w).h.(u - w) / 2, from u = w: weight goes from the model
 * whose gradient is least to the one whose is greatest, as much as is best, until they hardly differ. */
static void newton(const problem *p, const double *w, double *u)
{
	int m = p->m;
	double s[KF_FUSE_MODELS];   /* gradient at u */

	memcpy(u, w, (size_t)m * sizeof *u);
	memcpy(s, p->g, (size_t)m * sizeof *s);
	for (int step = 0; step < 200 * m; step++) {
		int to = 0, from = -1;
		double curve, t;

		for (int i = 0; i < m; i++) {
			if (s[i] > s[to]) to = i;
			if (u[i] > 0 && (from < 0 || s[i] < s[from])) from = i;
		}
		if (s[to] - s[from] < 1e-14) return;
		curve = p->h[to * m + to] + p->h[from * m + from] - 2 * p->h[to * m + from];
		t = curve > 0 ? (s[to] - s[from]) / curve : INFINITY;
		if (t >= u[from]) {
			t = u[from];
			u[from] = 0;
		} else {
			u[from] -= t;
		}
		u[to] += t;
		for (int i = 0; i < m; i++) s[i] -= t * (p->h[i * m + to] - p->h[i * m + from]);
	}
}

static void solve(problem *p, double *best, double *gap)
{
	double f, w[KF_FUSE_MODELS], u[KF_FUSE_MODELS], em[KF_FUSE_MODELS], v[KF_FUSE_MODELS];
	int m = p->m, stalled = 0;

	for (int i = 0; i < m; i++) w[i] = 1.0 / m;
	f = value(p, w);
	*gap = INFINITY;
	for (int step = 0; step < STEPS; step++) {
		double most = 0, sum = 0, fem, fv = -INFINITY, t = 1;

		derive(p, w);
		for (int i = 0; i < m; i++) most = fmax(most, p->g[i]);
		if (fmax(0, log(most)) < *gap) {
			*gap = fmax(0, log(most));
			memcpy(best, w, (size_t)m * sizeof *w);
			stalled = 0;
		}
		if (*gap <= KF_FUSE_FIT_GAP || stalled > 5) return;
		for (int i = 0; i < m; i++) sum += em[i] = w[i] * p->g[i];
		for (int i = 0; i < m; i++) em[i] /= sum;
		fem = value(p, em);
		newton(p, w, u);
		/* close to the end f no longer tells better from worse, but the gap does */
		while (t > 1e-4 && !(fv >= fmax(f, fem) - FLAT)) {
			for (int i = 0; i < m; i++) v[i] = (1 - t) * w[i] + t * u[i];
			fv = value(p, v);
			t /= 2;
		}
		if (!(fv >= fem - FLAT)) {
			fv = fem;
			memcpy(v, em, (size_t)m * sizeof *v);
		}
		if (!(fv > f + FLAT)) stalled++;
		memcpy(w, v, (size_t)m * sizeof *w);
		f = fv;
	}
}

kf_status kf_fuse_fit(const float *ce, size_t n, int m, double *w, double *gap, kf_err *err)
{
	problem p = { .n = n, .m = m };
	kf_status rc = KF_OK;
	float *r = NULL;

	if (n == 0 || m < 1 || m > KF_FUSE_MODELS)
		return kf_fail(err, KF_EINVAL, "weights cannot be fitted to %zu labels of %d models", n, m);
	r = n <= SIZE_MAX / (size_t)m ? kf_alloc(n * (size_t)m, sizeof *r) : NULL;
	p.g = kf_alloc((size_t)m, sizeof *p.g);
	p.h = kf_alloc((size_t)(m * m), sizeof *p.h);
	if (!r || !p.g || !p.h) {
		rc = kf_fail(err, KF_ENOMEM, "no memory to fit weights to %zu labels", n);
		goto out;
	}
	for (size_t a = 0; a < n; a++) {
		const float *c = ce + a * (size_t)m;
		float least = INFINITY;

		for (int i = 0; i < m; i++) {
			if (!isfinite(c[i])) {
				rc = kf_fail(err, KF_EINVAL, "label %zu has no finite cross-entropy by model %d", a, i);
				goto out;
			}
			least = fminf(least, c[i]);
		}
		for (int i = 0; i < m; i++) r[a * (size_t)m + (size_t)i] = expf(least - c[i]);
	}
	p.r = r;
	solve(&p, w, gap);
out:
	kf_free(r);
	kf_free(p.g);
	kf_free(p.h);
	return rc;
}
