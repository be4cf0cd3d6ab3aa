/* Tensors in memory, merged, for tests. */
#ifndef KF_TESTS_MERGERS_H
#define KF_TESTS_MERGERS_H

#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "merge/merge.h"

static inline kf_tensor tensor_of(const float *values, uint64_t rows, uint64_t cols)
{
	return (kf_tensor){ .name = "t", .dtype = KF_F32, .rows = rows, .cols = cols, .n_dims = rows == 1 ? 1 : 2,
		.data = (const uint8_t *)values };
}

/* Merge n models of (rows, cols) float32 values; pivot may be NULL. */
static inline kf_status merge_values(const kf_merge_how *how, const char *name, int threads,
	const float *pivot, const float *const *model, int n, uint64_t rows, uint64_t cols, float *out,
	kf_merge_facts *facts, kf_err *err)
{
	kf_tensor p, m[KF_MERGE_MODELS];
	kf_merge_input in = { .name = name, .model = m, .n = n };
	kf_merger *merger;
	kf_pool *pool;
	kf_status rc;

	if (pivot) {
		p = tensor_of(pivot, rows, cols);
		in.pivot = &p;
	}
	for (int j = 0; j < n; j++) m[j] = tensor_of(model[j], rows, cols);
	assert_int_equal(kf_pool_new(threads, &pool, err), KF_OK);
	assert_int_equal(kf_merger_new(pool, n, rows, cols, &merger, err), KF_OK);
	rc = kf_merge_tensor(merger, how, &in, out, facts, err);
	kf_merger_free(merger);
	kf_pool_free(pool);
	return rc;
}

#endif
