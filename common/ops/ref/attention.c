/* Causal attention of packed sequences, forward and backward, row by row. */
#include "common/ops/ref/ref.h"

#include <math.h>

static int longest(const int32_t *offset, int S)
{
	int n = 1;

	for (int s = 0; s < S; s++)
		if (offset[s + 1] - offset[s] > n) n = offset[s + 1] - offset[s];
	return n;
}

static double dot(const float *a, const float *b, int D)
{
	double s = 0;

	for (int d = 0; d < D; d++) s += (double)a[d] * b[d];
	return s;
}

/* First key that row t sees, in a sequence that begins at `begin`. */
static int32_t first_key(int32_t t, int32_t begin, int window)
{
	return window > 0 && t - window + 1 > begin ? t - window + 1 : begin;
}

/* The score of row t and key j of head h, and its derivative by scale q.k. */
static double score(const kf_attn *a, const float *q, const float *k, int h, int32_t t, int32_t j, double *slope)
{
	double s = a->scale * dot(q, k, a->D), u;

	*slope = 1;
	if (a->cap > 0) {
		u = tanh(s / a->cap);
		s = a->cap * u;
		*slope = 1 - u * u;
	}
	return a->slopes ? s + a->slopes[h] * (double)(j - t) : s;
}

kf_status kf_ref_attention(kf_exec *x, float *out, float *lse, const float *q, const float *k, const float *v,
	const int32_t *offset, int S, const kf_attn *a, kf_err *err)
{
	const int H = a->H, G = a->G, D = a->D;
	double *p = kf_alloc((size_t)longest(offset, S), sizeof *p), slope;
	const size_t d_ = (size_t)D, qs = (size_t)H * d_, ks = (size_t)G * d_;

	(void)x;
	if (!p) return kf_fail(err, KF_ENOMEM, "attention: out of memory for the scores of a row");
	for (int s = 0; s < S; s++)
		for (int32_t t = offset[s]; t < offset[s + 1]; t++)
			for (int h = 0; h < H; h++) {
				const int32_t j0 = first_key(t, offset[s], a->window);
				const size_t head = (size_t)(h / (H / G)) * d_, row = (size_t)t * qs + (size_t)h * d_;
				double max = -INFINITY, sum = 0;

				for (int32_t j = j0; j <= t; j++) {
					p[j - j0] = score(a, q + row, k + (size_t)j * ks + head, h, t, j, &slope);
					max = fmax(max, p[j - j0]);
				}
				for (int32_t j = j0; j <= t; j++) sum += p[j - j0] = exp(p[j - j0] - max);
				for (int d = 0; d < D; d++) {
					double o = 0;

					for (int32_t j = j0; j <= t; j++) o += p[j - j0] * v[(size_t)j * ks + head + (size_t)d];
					out[row + (size_t)d] = (float)(o / sum);
				}
				if (lse) lse[(size_t)t * (size_t)H + (size_t)h] = (float)(max + log(sum));
			}
	kf_free(p);
	return KF_OK;
}

/* p = exp(s - lse); dv += p dout; ds = p (dout . v - dout . out); dq += scale ds k; dk += scale ds q. */
kf_status kf_ref_attention_dx(kf_exec *x, float *dq, float *dk, float *dv, const float *dout,
	const float *out, const float *lse, const float *q, const float *k, const float *v, const int32_t *offset,
	int S, const kf_attn *a, kf_err *err)
{
	const int H = a->H, G = a->G, D = a->D;
	const size_t d_ = (size_t)D, qs = (size_t)H * d_, ks = (size_t)G * d_;
	const size_t n = (size_t)(S ? offset[S] : 0);
	double *aq = kf_zalloc(n * qs, sizeof *aq), *ak = kf_zalloc(n * ks, sizeof *ak),
		*av = kf_zalloc(n * ks, sizeof *av);
	kf_status rc = KF_OK;

	(void)x;
	if (!aq || !ak || !av) {
		rc = kf_fail(err, KF_ENOMEM, "attention_dx: out of memory for gradients of %zu rows", n);
		goto out;
	}
	for (int s = 0; s < S; s++)
		for (int32_t t = offset[s]; t < offset[s + 1]; t++)
			for (int h = 0; h < H; h++) {
				const size_t head = (size_t)(h / (H / G)) * d_, row = (size_t)t * qs + (size_t)h * d_;
				const double delta = dot(dout + row, out + row, D);

				for (int32_t j = first_key(t, offset[s], a->window); j <= t; j++) {
					const size_t key = (size_t)j * ks + head;
					double slope, z = score(a, q + row, k + key, h, t, j, &slope);
					double p = exp(z - lse[(size_t)t * (size_t)H + (size_t)h]);
					double ds = a->scale * slope * p * (dot(dout + row, v + key, D) - delta);

					for (size_t d = 0; d < d_; d++) {
						av[key + d] += p * dout[row + d];
						aq[row + d] += ds * k[key + d];
						ak[key + d] += ds * q[row + d];
					}
				}
			}
	for (size_t i = 0; i < n * qs; i++) dq[i] = (float)aq[i];
	for (size_t i = 0; i < n * ks; i++) dk[i] = (float)ak[i];
	for (size_t i = 0; i < n * ks; i++) dv[i] = (float)av[i];
out:
	kf_free(av);
	kf_free(ak);
	kf_free(aq);
	return rc;
}
