#include "common/model/way.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "common/base/rng.h"

static const struct { const char *name; unsigned kind; } kinds_of[] = {
	{ "head", KF_INT8_HEAD }, { "qkv", KF_INT8_QKV }, { "out", KF_INT8_OUT }, { "up", KF_INT8_UP }, { "down", KF_INT8_DOWN } };

enum { KINDS = sizeof kinds_of / sizeof *kinds_of };

kf_status kf_int8_parse(const char *text, unsigned *kinds, kf_err *err)
{
	*kinds = 0;
	for (const char *p = text; !strcmp(text, "all") ? !(*kinds = KF_INT8_ALL) : p != NULL;) {
		const char *comma = strchr(p, ',');
		const size_t n = comma ? (size_t)(comma - p) : strlen(p);
		int i = 0;

		while (i < KINDS && (strlen(kinds_of[i].name) != n || memcmp(kinds_of[i].name, p, n))) i++;
		if (i == KINDS)
			return kf_fail(err, KF_EUSAGE, "--int8 %s: must be all, or some of head, qkv, out, up and down, with commas between them",
				text);
		*kinds |= kinds_of[i].kind;
		p = comma ? comma + 1 : NULL;
	}
	return KF_OK;
}

void kf_int8_text(unsigned kinds, char out[KF_INT8_TEXT])
{
	size_t n = 0;

	out[0] = 0;
	if (kinds == KF_INT8_ALL) {
		snprintf(out, KF_INT8_TEXT, "all");
		return;
	}
	for (int i = 0; i < KINDS; i++)
		if (kinds & kinds_of[i].kind)
			n += (size_t)snprintf(out + n, KF_INT8_TEXT - n, "%s%s", n ? "," : "", kinds_of[i].name);
}

/* ---- speed ---- */

enum { ROWS = 256, SIZE = 1024, ROUNDS = 8, TIMED = 3 };

/* Of all threads: other programs do not count. */
static double cpu_time(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Seconds of processor time that a product of ROWS by SIZE by SIZE takes in each way, the best of some. In turn, so that what else the
 * machine does (whose caches and frequencies are shared) meets all of them. */
static kf_status time_products(kf_pool *pool, const kf_compute way[TIMED], float *y, const float *in, const float *w, double best[TIMED],
	kf_err *err)
{
	const kf_mat mat = { .rows = SIZE, .cols = SIZE, .num = w, .int8 = true };
	kf_exec *x[TIMED] = { NULL };
	kf_status rc = KF_OK;

	for (int k = 0; k < TIMED && rc == KF_OK; k++) {
		best[k] = 1e9;
		rc = kf_exec_new(&kf_ops_cpu, pool, way[k], &x[k], err);
	}
	for (int i = 0; i <= ROUNDS; i++)
		for (int k = 0; k < TIMED && rc == KF_OK; k++) {
			const double from = cpu_time();
			double took;

			rc = x[k]->ops->linear(x[k], y, in, &mat, NULL, ROWS, false, err);
			took = cpu_time() - from;
			if (i && took < best[k]) best[k] = took;   /* the first finds memory */
		}
	for (int k = 0; k < TIMED; k++) kf_exec_free(x[k]);
	return rc;
}

static kf_status time_ways(kf_pool *pool, bool *bf16, bool *int8, kf_err *err)
{
	static const kf_compute ways[TIMED] = { KF_COMPUTE_F32, KF_COMPUTE_BF16, KF_COMPUTE_INT8 };
	const size_t n = (size_t)SIZE * SIZE;
	float *w = kf_alloc(2 * n + n / 4, sizeof *w), *in = w + n, *y = in + n / 4;
	double t[TIMED];
	kf_status rc;
	kf_rng r;

	if (!w) return kf_fail(err, KF_ENOMEM, "no memory to time matrix products");
	kf_rng_seed(&r, 1);
	for (size_t k = 0; k < n + n / 4; k++) w[k] = (float)kf_rng_normal(&r);
	rc = time_products(pool, ways, y, in, w, t, err);
	*bf16 = rc == KF_OK && t[1] * 1.1 < t[0];
	*int8 = rc == KF_OK && t[2] * 1.1 < t[0] && t[2] * 1.05 < (*bf16 ? t[1] : t[0]);
	kf_free(w);
	return rc;
}

/* ---- the choice ---- */

typedef struct { kf_exec *x; kf_model *m; } running;

static kf_status start(running *r, const kf_weights *weights, kf_pool *pool, kf_way way, kf_err *err)
{
	kf_status rc = kf_exec_new(&kf_ops_cpu, pool, way.compute, &r->x, err);

	return rc != KF_OK ? rc : kf_model_new(weights, r->x, &(kf_model_opts){ .int8 = way.int8 }, &r->m, err);
}

static void stop(running *r)
{
	kf_model_free(r->m);
	kf_exec_free(r->x);
	*r = (running){ 0 };
}

kf_status kf_way_choose(const kf_weights *weights, kf_pool *pool, const kf_batch *sample, int k, kf_way *out,
	kf_divergence *found, kf_err *err)
{
	static const kf_way ways[] = { { KF_COMPUTE_INT8, KF_INT8_ALL },
		{ KF_COMPUTE_INT8, KF_INT8_HEAD | KF_INT8_OUT }, { KF_COMPUTE_INT8, KF_INT8_HEAD }, { KF_COMPUTE_BF16, 0 } };
	running exact = { 0 }, other = { 0 };
	bool bf16 = false, int8 = false;
	float *hidden = NULL;
	kf_status rc;

	*out = (kf_way){ KF_COMPUTE_F32, 0 };
	*found = (kf_divergence){ 0 };
	if ((rc = time_ways(pool, &bf16, &int8, err)) != KF_OK || (!bf16 && !int8) ||
		(rc = start(&exact, weights, pool, *out, err)) != KF_OK)
		goto out;
	if (!(hidden = kf_alloc((size_t)sample->T * (size_t)kf_weights_arch(weights)->C, sizeof *hidden))) {
		rc = kf_fail(err, KF_ENOMEM, "no memory to compare ways of computing");
		goto out;
	}
	if ((rc = kf_model_hidden(exact.m, sample, hidden, err)) != KF_OK) goto out;
	for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
		const bool wants8 = ways[i].compute == KF_COMPUTE_INT8, wants16 = ways[i].int8 != KF_INT8_ALL;
		kf_divergence d;

		if ((wants8 && !int8) || (wants16 && !bf16)) continue;
		if ((rc = start(&other, weights, pool, ways[i], err)) != KF_OK ||
			(rc = kf_model_divergence(exact.m, hidden, other.m, sample, k, &d, err)) != KF_OK)
			goto out;
		stop(&other);
		if (!(d.mean <= KF_WAY_KL)) continue;
		*out = ways[i];
		*found = d;
		break;
	}
out:
	kf_free(hidden);
	stop(&other);
	stop(&exact);
	return rc;
}
