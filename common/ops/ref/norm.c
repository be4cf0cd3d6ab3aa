/* RMSNorm (Zhang and Sennrich 2019) and rotary positions (Su et al. 2021). */
#include "common/ops/ref/ref.h"

#include <math.h>

void kf_ref_rmsnorm(kf_exec *x, float *y, float *rstd, const float *in, const float *w, float eps,
	int64_t rows, int C)
{
	(void)x;
	for (int64_t r = 0; r < rows; r++) {
		const float *a = in + r * C;
		double s = 0, rs;

		for (int c = 0; c < C; c++) s += (double)a[c] * a[c];
		rs = 1 / sqrt(s / C + eps);
		for (int c = 0; c < C; c++) y[r * C + c] = (float)(a[c] * rs * w[c]);
		if (rstd) rstd[r] = (float)rs;
	}
}

/* With n = x * rstd and g = dy * w:  dx = rstd * (g - n * mean(g n)),  dw = sum over rows of dy n. */
void kf_ref_rmsnorm_dx(kf_exec *x, float *dx, float *dw, const float *dy, const float *in, const float *w,
	const float *rstd, int64_t rows, int C)
{
	(void)x;
	for (int64_t r = 0; dx && r < rows; r++) {
		const float *a = in + r * C, *d = dy + r * C;
		double s = 0, rs = rstd[r];

		for (int c = 0; c < C; c++) s += (double)d[c] * w[c] * a[c] * rs;
		s /= C;
		for (int c = 0; c < C; c++) dx[r * C + c] += (float)(rs * ((double)d[c] * w[c] - a[c] * rs * s));
	}
	for (int c = 0; dw && c < C; c++) {
		double s = 0;

		for (int64_t r = 0; r < rows; r++) s += (double)dy[r * C + c] * in[r * C + c] * rstd[r];
		dw[c] = (float)(dw[c] + s);
	}
}

/* The angle is a float product, as where models are trained: at large positions
 * its rounding is part of what they learned. */
void kf_ref_rope(kf_exec *x, float *v, const float *inv_freq, const int32_t *offset, int S, int heads, int D,
	bool inverse)
{
	const int half = D / 2;

	(void)x;
	for (int s = 0; s < S; s++)
		for (int32_t t = offset[s]; t < offset[s + 1]; t++)
			for (int h = 0; h < heads; h++) {
				float *p = v + ((size_t)t * (size_t)heads + (size_t)h) * (size_t)D;

				for (int i = 0; i < half; i++) {
					float angle = (float)(t - offset[s]) * inv_freq[i];
					float c = (float)cos(angle), n = (float)(inverse ? -sin(angle) : sin(angle));
					float a = p[i], b = p[i + half];

					p[i] = a * c - b * n;
					p[i + half] = b * c + a * n;
				}
			}
}
