/* Spherical interpolation of two tensors taken as vectors. */
#include <math.h>

#include "merge/methods.h"

struct slerp { float *out; double a, b; };

enum { AA, BB, AB };

static void products(void *arg, const kf_chunk *c)
{
	const float *a = c->d[0], *b = c->d[1];
	(void)arg;

	c->part[AA] = kf_merge_dot(a, a, c->n);
	c->part[BB] = kf_merge_dot(b, b, c->n);
	c->part[AB] = kf_merge_dot(a, b, c->n);
}

static void put(void *arg, const kf_chunk *c)
{
	const struct slerp *s = arg;
	const float *restrict a = c->d[0], *restrict b = c->d[1];
	float *restrict out = s->out + c->at;

	for (size_t i = 0; i < c->n; i++) out[i] = (float)(s->a * (double)a[i] + s->b * (double)b[i]);
	c->count[0] += c->n;
	c->count[1] += c->n;
}

kf_status kf_merge_slerp(
	kf_merger *m, const kf_merge_how *how, float *out, kf_merge_facts *facts, kf_err *err)
{
	struct slerp s = { .out = out, .a = 1 - how->t, .b = how->t };
	double a, b, cosine;
	kf_status rc;

	if ((rc = kf_merge_pass(m, products, NULL, facts, err)) != KF_OK) return rc;
	a = sqrt(kf_merge_sum(m, AA));
	b = sqrt(kf_merge_sum(m, BB));
	/* A vector of no length has no direction: its cosine is 0. */
	cosine = kf_merge_sum(m, AB) / ((a > 1e-8 ? a : 1) * (b > 1e-8 ? b : 1));
	cosine = fmax(-1, fmin(1, cosine));
	/* Nearly in one line the arc is the chord, and its formula 0 / 0: the usual limit. */
	if (fabs(cosine) <= 0.9995) {
		double angle = acos(cosine);
		s.a = sin((1 - how->t) * angle) / sin(angle);
		s.b = sin(how->t * angle) / sin(angle);
	}
	if ((rc = kf_merge_pass(m, put, &s, facts, err)) != KF_OK) return rc;
	facts->weight[0] = s.a;
	facts->weight[1] = s.b;
	facts->kept[0] = kf_merge_count(m, 0);
	facts->kept[1] = kf_merge_count(m, 1);
	return KF_OK;
}
