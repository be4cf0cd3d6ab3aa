/* RMSNorm (Zhang and Sennrich 2019) and LayerNorm (Ba, Kiros and Hinton 2016). */
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

void kf_ref_layernorm(kf_exec *x, float *y, float *stat, const float *in, const float *w, const float *b,
	float eps, int64_t rows, int C)
{
	(void)x;
	for (int64_t r = 0; r < rows; r++) {
		const float *a = in + r * C;
		double mean = 0, s = 0, rs;

		for (int c = 0; c < C; c++) mean += a[c];
		mean /= C;
		for (int c = 0; c < C; c++) s += (a[c] - mean) * (a[c] - mean);
		rs = 1 / sqrt(s / C + eps);
		for (int c = 0; c < C; c++) y[r * C + c] = (float)((a[c] - mean) * rs * w[c] + (b ? b[c] : 0));
		if (stat) {
			stat[r] = (float)mean;
			stat[rows + r] = (float)rs;
		}
	}
}

/* With n = (x - mean) rstd and g = dy * w:  dx = rstd * (g - mean(g) - n * mean(g n)). */
void kf_ref_layernorm_dx(kf_exec *x, float *dx, float *dw, float *db, const float *dy, const float *in,
	const float *w, const float *stat, int64_t rows, int C)
{
	(void)x;
	for (int64_t r = 0; dx && r < rows; r++) {
		const float *a = in + r * C, *d = dy + r * C;
		double g = 0, gn = 0, mean = stat[r], rs = stat[rows + r];

		for (int c = 0; c < C; c++) {
			g += (double)d[c] * w[c];
			gn += (double)d[c] * w[c] * (a[c] - mean) * rs;
		}
		for (int c = 0; c < C; c++)
			dx[r * C + c] += (float)(rs * ((double)d[c] * w[c] - g / C - (a[c] - mean) * rs * gn / C));
	}
	for (int c = 0; c < C; c++) {
		double s = 0, t = 0;

		for (int64_t r = 0; r < rows; r++) {
			s += (double)dy[r * C + c] * (in[r * C + c] - (double)stat[r]) * stat[rows + r];
			t += dy[r * C + c];
		}
		if (dw) dw[c] = (float)(dw[c] + s);
		if (db) db[c] = (float)(db[c] + t);
	}
}
