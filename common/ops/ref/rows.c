/* Rows moved about: fused projections taken apart, tokens sent to their experts and back. */
#include "common/ops/ref/ref.h"

#include <math.h>
#include <string.h>

static void move(float *fused, float *part, size_t n, bool join)
{
	if (join) memcpy(fused, part, n * sizeof *part);
	else memcpy(part, fused, n * sizeof *part);
}

void kf_ref_split_qkv(kf_exec *x, float *fused, float *q, float *k, float *v, int T, const kf_attn *a,
	bool grouped, bool join)
{
	const size_t D = (size_t)a->D, G = (size_t)a->G, per = grouped ? (size_t)(a->H / a->G) * D : (size_t)a->H * D;
	const size_t kn = grouped ? D : G * D, groups = grouped ? G : 1;

	(void)x;
	for (size_t i = 0; i < (size_t)T * groups; i++) {
		move(fused, q + i * per, per, join);
		move(fused + per, k + i * kn, kn, join);
		move(fused + per + kn, v + i * kn, kn, join);
		fused += per + 2 * kn;
	}
}

kf_status kf_ref_route(kf_exec *x, float *weight, int32_t *index, const float *logits, int T, int E, int k,
	kf_err *err)
{
	(void)x;
	for (int t = 0; t < T; t++) {
		const float *z = logits + (size_t)t * (size_t)E;
		int32_t *at = index + (size_t)t * (size_t)k;
		float *w = weight + (size_t)t * (size_t)k;
		double sum = 0;

		for (int e = 0; e < E; e++)
			if (!isfinite(z[e]))
				return kf_fail(err, KF_EDATA, "the router's logits of row %d of the batch are not finite numbers: "
					"the model's weights are damaged, or training diverged", t);
		for (int i = 0; i < k; i++) {
			int best = -1;

			for (int e = 0; e < E; e++) {
				bool taken = false;

				for (int j = 0; j < i; j++) taken = taken || at[j] == e;
				if (!taken && (best < 0 || z[e] > z[best])) best = e;
			}
			at[i] = best;
		}
		for (int i = 0; i < k; i++) sum += exp((double)z[at[i]] - z[at[0]]);
		for (int i = 0; i < k; i++) w[i] = (float)(exp((double)z[at[i]] - z[at[0]]) / sum);
	}
	return KF_OK;
}

/* Of a softmax: dz_i = w_i (dw_i - sum over j of w_j dw_j). Which experts are chosen has no gradient. */
void kf_ref_route_dx(kf_exec *x, float *dlogits, const float *dweight, const float *weight,
	const int32_t *index, int T, int E, int k)
{
	(void)x;
	memset(dlogits, 0, (size_t)T * (size_t)E * sizeof *dlogits);
	for (size_t t = 0; t < (size_t)T; t++) {
		const float *w = weight + t * (size_t)k, *d = dweight + t * (size_t)k;
		double mean = 0;

		for (int i = 0; i < k; i++) mean += (double)w[i] * d[i];
		for (int i = 0; i < k; i++)
			dlogits[t * (size_t)E + (size_t)index[t * (size_t)k + (size_t)i]] = (float)(w[i] * (d[i] - mean));
	}
}

void kf_ref_permute(kf_exec *x, float *out, const float *in, const int32_t *index, int n, bool inverse)
{
	(void)x;
	for (int i = 0; i < n; i++) {
		if (inverse) out[index[i]] = in[i];
		else out[i] = in[index[i]];
	}
}

void kf_ref_gather(kf_exec *x, float *y, const float *in, const int32_t *index, const float *weight, int n,
	int C)
{
	(void)x;
	for (size_t i = 0; i < (size_t)n; i++)
		for (size_t c = 0; c < (size_t)C; c++)
			y[i * (size_t)C + c] = (weight ? weight[i] : 1) * in[(size_t)index[i] * (size_t)C + c];
}

void kf_ref_scatter(kf_exec *x, float *y, const float *in, const int32_t *index, const float *weight, int n,
	int C)
{
	(void)x;
	for (size_t i = 0; i < (size_t)n; i++)
		for (size_t c = 0; c < (size_t)C; c++)
			y[(size_t)index[i] * (size_t)C + c] += (weight ? weight[i] : 1) * in[i * (size_t)C + c];
}

void kf_ref_store(kf_exec *x, float *y, const float *in, const int32_t *index, int n, int C)
{
	(void)x;
	for (size_t i = 0; i < (size_t)n; i++)
		memcpy(y + (size_t)index[i] * (size_t)C, in + i * (size_t)C, (size_t)C * sizeof *y);
}

void kf_ref_dots(kf_exec *x, float *out, const float *a, const float *b, const int32_t *index, int n, int C)
{
	(void)x;
	for (size_t i = 0; i < (size_t)n; i++) {
		double s = 0;

		for (size_t c = 0; c < (size_t)C; c++)
			s += (double)a[i * (size_t)C + c] * b[(size_t)index[i] * (size_t)C + c];
		out[i] = (float)s;
	}
}
