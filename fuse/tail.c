#include "fuse/tail.h"

#include <math.h>

void kf_fuse_tail_see(kf_fuse_tail *c, const float *lp, uint32_t n, double tail, uint32_t label)
{
	const uint32_t best = n > KF_FUSE_TAIL_BEST ? KF_FUSE_TAIL_BEST : n - 1;
	double beyond = 0, r;

	if (n == 0 || !(tail < 1)) return;
	for (uint32_t j = best; j < n; j++) beyond += exp((double)lp[j]);
	r = fmin(1, beyond / (1 - tail));
	c->expected += tail * (1 - r);
	c->outside += (label >= best || label == n) - r;
}

void kf_fuse_tail_scale(const kf_fuse_tail *c, float *lp, uint32_t n, float *tail)
{
	double f = fmax(0, c->outside / c->expected), t = (double)*tail, scaled;
	float d;

	if (n == 0 || !(t > 0 && t < 1)) return;
	scaled = fmin(f * t, (1 + t) / 2);    /* never all of it, and never none: what floats round up must not sum above 1 */
	scaled = fmax(scaled, 5e-7);
	d = (float)log((1 - scaled) / (1 - t));
	for (uint32_t j = 0; j < n; j++) lp[j] = fminf(0, lp[j] + d);
	*tail = (float)scaled;
}
