/* Weighted sums of models or of their changes: linear, varm, task-arithmetic; ties and dare, which
 * sum a part of the changes. */
#include <math.h>
#include <string.h>

#include "common/base/hash.h"
#include "common/base/rng.h"
#include "merge/methods.h"
#include "merge/plan.h"
#include "merge/select.h"

struct sums {
	kf_merger *m;
	const kf_merge_how *how;
	float *out;
	int n;
	double total;                      /* of the weights */
	bool thin;                         /* dare, at a density below 1 */
	double scale[KF_MERGE_MODELS];     /* dare */
	kf_cut cut[KF_MERGE_MODELS];       /* ties */
	bool trim;                         /* ties, at a density below 1 */
};

static bool votes(const kf_merge_how *how)
{
	return how->method == KF_MERGE_TIES || how->method == KF_MERGE_DARE_TIES;
}

void kf_merge_agree(const kf_chunk *c, int n, const double *elect, const double *weight, bool positive)
{
	double *restrict sum = c->acc[0], *restrict num = c->acc[1], *restrict den = c->acc[2];

	for (int k = 0; k < KF_ACCS; k++) memset(c->acc[k], 0, c->n * sizeof(double));
	for (int j = 0; j < n; j++) {
		const float *restrict d = c->d[j];
		double e = elect[j];
		for (size_t i = 0; i < c->n; i++) sum[i] += e * (double)d[i];
	}
	/* from here on only its sign counts */
	if (positive) for (size_t i = 0; i < c->n; i++) sum[i] = sum[i] >= 0 ? 1 : -1;
	for (int j = 0; j < n; j++) {
		const float *restrict d = c->d[j];
		double e = elect[j], w = weight[j];
		uint64_t agreed = 0;
		for (size_t i = 0; i < c->n; i++) {
			double x = e * (double)d[i];
			bool agree = (x > 0 && sum[i] > 0) || (x < 0 && sum[i] < 0);
			num[i] += agree ? w * (double)d[i] : 0;
			den[i] += agree ? w : 0;
			agreed += agree;
		}
		c->count[j] += agreed;
	}
}

/* ---- which elements ---- */

static void magnitude(void *arg, const kf_chunk *c, int which, uint32_t *keys)
{
	(void)arg;
	for (size_t i = 0; i < c->n; i++) {
		union { float f; uint32_t u; } v = { c->d[which][i] };
		keys[i] = v.u & 0x7fffffffu;
	}
}

static void trim(const struct sums *s, const kf_chunk *c)
{
	for (int j = 0; j < s->n; j++) {
		float *restrict d = c->d[j];
		magnitude(NULL, c, j, c->keys);
		kf_cut_mask(&s->cut[j], c, c->keys, c->keys);
		for (size_t i = 0; i < c->n; i++) d[i] = c->keys[i] ? d[i] : 0;
	}
}

/* The elements that dare keeps of model j in a chunk, the same whenever asked. */
static void draw(const struct sums *s, const kf_chunk *c, int j)
{
	struct { uint64_t seed, name, model, chunk; } key = { s->how->seed,
		kf_hash64(s->m->in.name, strlen(s->m->in.name)), (uint64_t)j, c->index };
	uint64_t below = (uint64_t)ldexp(s->how->density, 53);
	kf_rng r;

	kf_rng_seed(&r, kf_hash64(&key, sizeof key));
	for (size_t i = 0; i < c->n; i++) c->keys[i] = kf_rng_next(&r) >> 11 < below;
}

static void thin(const struct sums *s, const kf_chunk *c)
{
	for (int j = 0; j < s->n; j++) {
		float *restrict d = c->d[j];
		double scale = s->scale[j];
		draw(s, c, j);
		for (size_t i = 0; i < c->n; i++) d[i] = c->keys[i] ? (float)(scale * (double)d[i]) : 0;
	}
}

/* Sums of |Δ|, of all elements and of those drawn, for mergekit's way to scale. */
static void size_drawn(void *arg, const kf_chunk *c)
{
	const struct sums *s = arg;

	for (int j = 0; j < s->n; j++) {
		const float *d = c->d[j];
		draw(s, c, j);
		for (size_t i = 0; i < c->n; i++) {
			double a = fabs((double)d[i]);
			c->part[2 * j] += a;
			c->part[2 * j + 1] += c->keys[i] ? a : 0;
		}
	}
}

static kf_status find_scales(struct sums *s, kf_merge_facts *facts, kf_err *err)
{
	kf_status rc;

	for (int j = 0; j < s->n; j++) s->scale[j] = 1 / s->how->density;
	if (!s->how->mergekit) return KF_OK;
	if ((rc = kf_merge_pass(s->m, size_drawn, s, facts, err)) != KF_OK) return rc;
	for (int j = 0; j < s->n; j++) {
		double all = kf_merge_sum(s->m, 2 * j), drawn = kf_merge_sum(s->m, 2 * j + 1);
		s->scale[j] = all < 1e-7 || drawn < 1e-7 ? 1 : all / drawn;
	}
	return KF_OK;
}

/* ---- the sum ---- */

static void sum_all(const struct sums *s, const kf_chunk *c)
{
	double *restrict acc = c->acc[0];
	float *restrict out = s->out + c->at;
	bool partial = s->trim || s->thin;

	memset(acc, 0, c->n * sizeof *acc);
	for (int j = 0; j < s->n; j++) {
		const float *restrict d = c->d[j];
		double w = s->how->weight[j];
		uint64_t kept = 0;
		for (size_t i = 0; i < c->n; i++) acc[i] += w * (double)d[i];
		if (partial) for (size_t i = 0; i < c->n; i++) kept += d[i] != 0;
		c->count[j] += partial ? kept : c->n;
	}
	if (s->how->normalize) for (size_t i = 0; i < c->n; i++) acc[i] /= s->total;
	if (c->p) for (size_t i = 0; i < c->n; i++) out[i] = (float)((double)c->p[i] + acc[i]);
	else for (size_t i = 0; i < c->n; i++) out[i] = (float)acc[i];
}

static void sum_agreeing(const struct sums *s, const kf_chunk *c)
{
	const double *restrict num = c->acc[1], *restrict den = c->acc[2];
	float *restrict out = s->out + c->at;
	bool normalize = s->how->normalize;

	kf_merge_agree(c, s->n, s->how->weight, s->how->weight, s->how->mergekit);
	/* of weights whose sum is 0 but for rounding (0.1, 0.2 and -0.3) there is no mean, as in kf_merge_plan's check */
	for (size_t i = 0; i < c->n; i++)
		out[i] = (float)((double)c->p[i] + (normalize && fabs(den[i]) >= KF_MERGE_NO_WEIGHT ? num[i] / den[i] : num[i]));
}

static void put(void *arg, const kf_chunk *c)
{
	const struct sums *s = arg;

	if (s->trim) trim(s, c);
	if (s->thin) thin(s, c);
	if (votes(s->how)) sum_agreeing(s, c);
	else sum_all(s, c);
}

kf_status kf_merge_sums(kf_merger *m, const kf_merge_how *how, float *out, kf_merge_facts *facts, kf_err *err)
{
	struct sums s = { .m = m, .how = how, .out = out, .n = m->in.n };
	bool dare = how->method == KF_MERGE_DARE || how->method == KF_MERGE_DARE_TIES;
	kf_status rc;

	for (int j = 0; j < s.n; j++) s.total += how->weight[j];
	s.trim = how->method == KF_MERGE_TIES && how->density < 1;
	s.thin = dare && how->density < 1;
	if (s.trim &&
		(rc = kf_merge_select(m, magnitude, NULL, s.n, how->density, false, s.cut, facts, err)) != KF_OK)
		return rc;
	if (s.thin && (rc = find_scales(&s, facts, err)) != KF_OK) return rc;
	if ((rc = kf_merge_pass(m, put, &s, facts, err)) != KF_OK) return rc;
	for (int j = 0; j < s.n; j++) {
		facts->weight[j] = how->normalize && !votes(how) ? how->weight[j] / s.total : how->weight[j];
		facts->kept[j] = kf_merge_count(m, j);
	}
	return KF_OK;
}
