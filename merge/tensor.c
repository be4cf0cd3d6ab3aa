/* One tensor by any method. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "merge/methods.h"

/* In eight sums, so that the compiler need not wait for one. */
double kf_merge_dot(const float *a, const float *b, size_t n)
{
	double s[8] = { 0 };
	size_t i = 0;

	for (; i + 8 <= n; i += 8)
		for (int k = 0; k < 8; k++) s[k] += (double)a[i + (size_t)k] * (double)b[i + (size_t)k];
	for (int k = 0; i < n; i++, k++) s[k] += (double)a[i] * (double)b[i];
	return ((s[0] + s[1]) + (s[2] + s[3])) + ((s[4] + s[5]) + (s[6] + s[7]));
}

static void add_squares(void *arg, const kf_chunk *c)
{
	int n = *(const int *)arg;

	for (int j = 0; j < n; j++) c->part[j] = kf_merge_dot(c->d[j], c->d[j], c->n);
}

kf_status kf_merge_squares(
	kf_merger *m, const kf_merge_input *in, double *squares, kf_merge_facts *facts, kf_err *err)
{
	int n = in->n;
	kf_status rc;

	kf_merge_begin(m, in);
	if ((rc = kf_merge_pass(m, add_squares, &n, facts, err)) != KF_OK) return rc;
	for (int j = 0; j < n; j++) squares[j] = kf_merge_sum(m, j);
	return KF_OK;
}

kf_status kf_merge_tensor(kf_merger *m, const kf_merge_how *how, const kf_merge_input *in, float *out,
	kf_merge_facts *facts, kf_err *err)
{
	memset(facts, 0, sizeof *facts);
	kf_merge_begin(m, in);
	switch (how->method) {
	case KF_MERGE_SCE: return kf_merge_sce(m, how, out, facts, err);
	case KF_MERGE_SLERP: return kf_merge_slerp(m, how, out, facts, err);
	default: return kf_merge_sums(m, how, out, facts, err);
	}
}

void kf_merge_group(const char *name, kf_merge_grain grain, char out[128])
{
	size_t n = strlen(name);
	int layer, end = 0;
	bool inside = (sscanf(name, "model.layers.%d%n", &layer, &end) == 1 ||
		sscanf(name, "gpt_neox.layers.%d%n", &layer, &end) == 1 ||
		sscanf(name, "transformer.blocks.%d%n", &layer, &end) == 1) && end && name[end] == '.';

	if (grain == KF_GRAIN_MODEL) n = 0;
	if (grain == KF_GRAIN_LAYER || grain == KF_GRAIN_MODULE) {
		if (inside) {
			n = (size_t)end;
			if (grain == KF_GRAIN_MODULE) n += 1 + strcspn(name + end + 1, ".");
		} else {
			const char *dot = strrchr(name, '.'); /* outside the layers a module is what has the weight */
			if (dot) n = (size_t)(dot - name);
		}
	}
	snprintf(out, 128, "%.*s", (int)n, name);
}
