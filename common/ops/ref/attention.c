/* Causal attention of packed sequences, forward and backward, row by row. */
#include "common/ops/ref/ref.h"

#include <math.h>

static int longest(const int32_t *offset, int S, const kf_past *past)
{
	int n = 1;

	for (int s = 0; s < S; s++) {
		int keys = offset[s + 1] - offset[s] + (past ? past->n[s] : 0);

		if (keys > n) n = keys;
	}
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

/* Keys are counted from the beginning of what stands before a sequence, or, without that, of the sequence. */
static kf_status attend(float *out, float *lse, const float *q, const float *k, const float *v, const int32_t *offset,
	int S, const kf_past *past, const kf_attn *a, kf_err *err)
{
	const int H = a->H, G = a->G, D = a->D;
	double *p = kf_alloc((size_t)longest(offset, S, past), sizeof *p), slope;
	const size_t d_ = (size_t)D, qs = (size_t)H * d_, ks = (size_t)G * d_;

	if (!p) return kf_fail(err, KF_ENOMEM, "attention: out of memory for the scores of a row");
	for (int s = 0; s < S; s++)
		for (int32_t i = 0; i < offset[s + 1] - offset[s]; i++)
			for (int h = 0; h < H; h++) {
				const int32_t before = past ? past->n[s] : 0, t = before + i, j0 = first_key(t, 0, a->window);
				const size_t head = (size_t)(h / (H / G)) * d_, own = (size_t)offset[s] + (size_t)i;
				const size_t row = own * qs + (size_t)h * d_;
				double max = -INFINITY, sum = 0;

				for (int32_t j = j0; j <= t; j++) {
					const float *key = j < before ? past->k + (size_t)(past->row[s] + j) * ks :
						k + (size_t)(offset[s] + j - before) * ks;

					p[j - j0] = score(a, q + row, key + head, h, t, j, &slope);
					max = fmax(max, p[j - j0]);
				}
				for (int32_t j = j0; j <= t; j++) sum += p[j - j0] = exp(p[j - j0] - max);
				for (int d = 0; d < D; d++) {
					double o = 0;

					for (int32_t j = j0; j <= t; j++) {
						const float *value = j < before ? past->v + (size_t)(past->row[s] + j) * ks :
							v + (size_t)(offset[s] + j - before) * ks;

						o += p[j - j0] * value[head + (size_t)d];
					}
					out[row + (size_t)d] = (float)(o / sum);
				}
				if (lse) lse[own * (size_t)H + (size_t)h] = (float)(max + log(sum));
			}
	kf_free(p);
	return KF_OK;
}

kf_status kf_ref_attention(kf_exec *x, float *out, float *lse, const float *q, const float *k, const float *v,
	const int32_t *offset, int S, const kf_attn *a, kf_err *err)
{
	(void)x;
	return attend(out, lse, q, k, v, offset, S, NULL, a, err);
}

kf_status kf_ref_attention_after(kf_exec *x, float *out, const float *q, const float *k, const float *v, const int32_t *offset,
	int S, const kf_past *past, const kf_attn *a, kf_err *err)
{
	(void)x;
	return attend(out, NULL, q, k, v, offset, S, past, a, err);
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
