/* What the tests of the ops share: random arrays, packed sequences, comparison. */
#ifndef KF_TESTS_OPS_UTIL_H
#define KF_TESTS_OPS_UTIL_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/rng.h"
#include "common/ops/ops.h"

static inline float *random_floats(kf_rng *r, size_t n, double deviation)
{
	float *p = kf_alloc(n, sizeof *p);

	assert_non_null(p);
	for (size_t i = 0; i < n; i++) p[i] = (float)(deviation * kf_rng_normal(r));
	return p;
}

static inline float *copy_floats(const float *a, size_t n)
{
	float *p = kf_alloc(n, sizeof *p);

	assert_non_null(p);
	if (n) memcpy(p, a, n * sizeof *p);
	return p;
}

/* Every |got - want| <= tolerance * max(1, largest |want|): errors of a sum are to be
 * measured by the size of what was added, not by what happened to be left of it. */
static inline void close_floats(const char *what, const float *got, const float *want, size_t n,
	double tolerance)
{
	double scale = 1, worst = 0;
	size_t at = 0;

	for (size_t i = 0; i < n; i++) scale = fmax(scale, fabs((double)want[i]));
	for (size_t i = 0; i < n; i++) {
		double d = fabs((double)got[i] - want[i]);

		if (!(d <= worst)) worst = d, at = i; /* NaN, too */
		if (isnan(d)) break;
	}
	if (!(worst <= tolerance * scale)) {
		print_error("%s: element %zu of %zu is %.9g, should be %.9g: error %.3g, allowed %.3g\n",
			what, at, n, (double)got[at], (double)want[at], worst / scale, tolerance);
		fail();
	}
}

static inline kf_exec *exec_of(const kf_ops *ops, int threads, kf_compute compute, kf_pool **pool)
{
	kf_exec *x;

	assert_int_equal(kf_pool_new(threads, pool, NULL), KF_OK);
	assert_int_equal(kf_exec_new(ops, *pool, compute, &x, NULL), KF_OK);
	return x;
}

/* A weight matrix that is unpacked row by row from a resident one, as a quantised one is. */
static inline void unpack_plain(const void *src, const int32_t *index, uint64_t row, uint64_t n, float *out)
{
	const kf_mat *m = src;
	const size_t C = (size_t)m->cols;

	for (uint64_t i = 0; i < n; i++) {
		const uint64_t r = index ? (uint64_t)index[i] : row + i;

		assert_true(r < (uint64_t)m->rows);
		memcpy(out + i * C, (const float *)m->num + r * C, C * sizeof *out);
	}
}

static inline kf_mat packed_of(const kf_mat *m)
{
	return (kf_mat){ .rows = m->rows, .cols = m->cols, .unpack = unpack_plain, .src = m };
}

#endif
