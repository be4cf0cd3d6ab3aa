/* SCE (FuseChat, arXiv 2408.07990): select the elements that vary most, calculate a weight a model, erase
 * what goes against the majority. */
#include <string.h>

#include "merge/methods.h"
#include "merge/select.h"

struct sce {
	kf_merger *m;
	float *out;
	int n;
	bool all, mergekit;
	kf_cut cut;
	double one[KF_MERGE_MODELS], weight[KF_MERGE_MODELS];
};

/* Population variance over the models of `n` elements from i on, n at most LANES. */
#define LANES 16

static inline void variance_of(const kf_chunk *c, int models, size_t i, size_t n, uint32_t *keys)
{
	double mean[LANES] = { 0 }, sum[LANES] = { 0 };

	for (int j = 0; j < models; j++)
		for (size_t k = 0; k < n; k++) mean[k] += (double)c->d[j][i + k];
	for (size_t k = 0; k < n; k++) mean[k] /= models; /* exact where all are equal */
	for (int j = 0; j < models; j++)
		for (size_t k = 0; k < n; k++) {
			double d = (double)c->d[j][i + k] - mean[k];
			sum[k] += d * d;
		}
	for (size_t k = 0; k < n; k++) {
		union { float f; uint32_t u; } v = { (float)(sum[k] / models) };
		keys[i + k] = v.u & 0x7fffffffu; /* whatever happens beyond float32's range */
	}
}

/* Variances in float32, as they are compared. In registers, a few elements at a time. */
static void variance(void *arg, const kf_chunk *c, int which, uint32_t *keys)
{
	const struct sce *s = arg;
	size_t i = 0;
	(void)which;

	for (; i + LANES <= c->n; i += LANES) variance_of(c, s->n, i, LANES, keys);
	variance_of(c, s->n, i, c->n - i, keys);
}

static void select_elements(const struct sce *s, const kf_chunk *c)
{
	if (s->all) return;
	variance((void *)(uintptr_t)s, c, 0, c->keys);
	kf_cut_mask(&s->cut, c, c->keys, c->keys);
	for (int j = 0; j < s->n; j++) {
		float *restrict d = c->d[j];
		for (size_t i = 0; i < c->n; i++) d[i] = c->keys[i] ? d[i] : 0;
	}
}

static void squares(void *arg, const kf_chunk *c)
{
	const struct sce *s = arg;

	select_elements(s, c);
	for (int j = 0; j < s->n; j++) c->part[j] = kf_merge_dot(c->d[j], c->d[j], c->n);
}

static void put(void *arg, const kf_chunk *c)
{
	const struct sce *s = arg;
	const double *restrict num = c->acc[1], *restrict den = c->acc[2];
	float *restrict out = s->out + c->at;

	select_elements(s, c);
	kf_merge_agree(c, s->n, s->one, s->weight, s->mergekit);
	for (size_t i = 0; i < c->n; i++) {
		double by = s->mergekit && den[i] < 1e-6 ? 1e-6 : den[i];
		out[i] = (float)((double)c->p[i] + (by > 0 ? num[i] / by : 0));
	}
}

kf_status kf_merge_sce(kf_merger *m, const kf_merge_how *how, float *out, kf_merge_facts *facts, kf_err *err)
{
	struct sce s = { .m = m, .out = out, .n = m->in.n, .all = how->select >= 1, .mergekit = how->mergekit };
	double total = 0, values = (double)(m->rows * m->cols);
	bool equal;
	kf_status rc;

	if (!s.all && (rc = kf_merge_select(m, variance, &s, 1, how->select, true, &s.cut, facts, err)) != KF_OK)
		return rc;
	if ((rc = kf_merge_pass(m, squares, &s, facts, err)) != KF_OK) return rc;
	for (int j = 0; j < s.n; j++) total += s.weight[j] = kf_merge_sum(m, j) / values;
	equal = total == 0 || (how->mergekit && total < 1e-6);
	for (int j = 0; j < s.n; j++) {
		s.one[j] = 1;
		facts->weight[j] = s.weight[j] = equal ? 1.0 / s.n : s.weight[j] / total;
	}
	if ((rc = kf_merge_pass(m, put, &s, facts, err)) != KF_OK) return rc;
	for (int j = 0; j < s.n; j++) facts->kept[j] = kf_merge_count(m, j);
	return KF_OK;
}
