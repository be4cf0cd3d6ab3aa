#include "fuse/weights.h"

#include <math.h>

void kf_fuse_weights(const double *x, int m, double t, double *w)
{
	double sum = 0, most = 0;
	bool told = true;

	for (int i = 0; i < m; i++) {
		told &= !isnan(x[i]);
		if (exp(-x[i]) > most) most = exp(-x[i]);
	}
	/* the most is taken off: a low temperature makes large exponents */
	for (int i = 0; i < m; i++) sum += w[i] = told ? exp((exp(-x[i]) - most) / t) : 1;
	for (int i = 0; i < m; i++) w[i] /= sum;
}

double kf_fuse_mixture_ce(const double *ce, const double *w, int m)
{
	double least = INFINITY, mix = 0, known = 0;

	for (int i = 0; i < m; i++)
		if ((!w || w[i] > 0) && ce[i] < least) least = ce[i];
	if (isinf(least)) return NAN;
	for (int i = 0; i < m; i++) {
		double v = w ? w[i] : 1;

		if (v <= 0 || isnan(ce[i])) continue;
		mix += v * exp(least - ce[i]);     /* least taken off: improbable labels of every model do not vanish */
		known += v;
	}
	return least - log(mix / known);
}

void kf_fuse_dynamic_begin(kf_fuse_dynamic *d, int m, const double *prior, kf_fuse_follow how)
{
	d->m = m;
	d->how = how;
	for (int i = 0; i < m; i++) {
		d->w[i] = d->prior[i] = prior ? prior[i] : 1.0 / m;
		d->log[i] = log(d->prior[i]);
	}
}

void kf_fuse_dynamic_see(kf_fuse_dynamic *d, const double *ce)
{
	double most = -INFINITY, sum = 0;

	for (int i = 0; i < d->m; i++)
		if (!isfinite(ce[i])) return;
	for (int i = 0; i < d->m; i++) {
		double prior = log(d->prior[i]);

		if (d->prior[i] <= 0) continue;
		d->log[i] = prior + d->how.forget * (d->log[i] - prior) - d->how.rate * ce[i];
		most = fmax(most, d->log[i]);
	}
	for (int i = 0; i < d->m; i++) sum += d->prior[i] > 0 ? exp(d->log[i] - most) : 0;
	for (int i = 0; i < d->m; i++) {
		if (d->prior[i] <= 0) continue;
		d->log[i] -= most + log(sum);
		d->w[i] = exp(d->log[i]);
		if (d->how.share <= 0) continue;
		d->w[i] = (1 - d->how.share) * d->w[i] + d->how.share * d->prior[i];
		d->log[i] = log(d->w[i]);
	}
}
