/* head_score: hand-worked numbers, then the CPU's tiles against the definition in ref/head.c. */
#include "common/base/bf16.h"
#include "tests/unit/ops/score_problem.h"

static const kf_ops *const both[] = { &kf_ops_ref, &kf_ops_cpu };

/* One call in a fresh kf_exec. */
static kf_status score(const kf_ops *ops, kf_pool *pool, const float *hidden, const kf_mat *w, int T, const kf_score_query *q,
	kf_score *out, kf_err *err)
{
	kf_exec *x;
	kf_status rc = kf_exec_new(ops, pool, KF_COMPUTE_F32, &x, err);
	if (rc == KF_OK) rc = ops->head_score(x, hidden, w, T, q, out, err);
	kf_exec_free(x);
	return rc;
}

static void compare(const problem *p, kf_pool *pool, bool packed, bool exact)
{
	kf_mat w = { .rows = p->V, .cols = p->C, .num = packed ? NULL : p->w, .unpack = unpack, .src = p };
	kf_mat plain = { .rows = p->V, .cols = p->C, .num = p->w };
	kf_score a = answers(p), b = answers(p);
	kf_err err;
	assert_int_equal(score(&kf_ops_ref, pool, p->hidden, &plain, p->T, &p->q, &a, &err), KF_OK);
	assert_int_equal(score(&kf_ops_cpu, pool, p->hidden, &w, p->T, &p->q, &b, &err), KF_OK);
	for (int t = 0; t < p->T; t++) {
		close_to(a.ce[t], b.ce[t], 1e-5f);
		same_list(a.top_ids + t * p->k, a.top_lp + t * p->k, b.top_ids + t * p->k, b.top_lp + t * p->k, p->k, exact);
		assert_int_equal(a.extra_n[t], b.extra_n[t]);
		same_list(a.extra_ids + t * p->E, a.extra_lp + t * p->E, b.extra_ids + t * p->E, b.extra_lp + t * p->E, a.extra_n[t], exact);
		for (int r = p->off[t]; r < p->off[t + 1]; r++) close_to(a.range_nlm[r], b.range_nlm[r], 1e-5f);
	}
	drop(&a);
	drop(&b);
}

/* Probabilities .1 .2 .3 .4 */
static const float log_p[] = { 0, 0.69314718f, 1.09861229f, 1.38629436f };

static void check_hand(const kf_ops *ops)
{
	kf_err err;
	float hidden[] = { 1, 1 }, ce[2], lp[4], nlm[4], xlp[4];
	int32_t labels[] = { 1, -1 }, order[] = { 2, 0, 3, 1 }, off[] = { 0, 3, 4 }, ids[4], n[2], xids[4];
	int32_t lo[] = { 0, 1, 1, 3 }, hi[] = { 3, 2, 1, 4 };
	kf_mat w = { .rows = 4, .cols = 1, .num = log_p };
	kf_score_query q = { .k = 2, .labels = labels, .order = order,
		.range_off = off, .range_lo = lo, .range_hi = hi, .extra_min = 2, .extra_max = 2 };
	kf_score out = { ce, ids, lp, nlm, n, xids, xlp };
	assert_int_equal(score(ops, NULL, hidden, &w, 2, &q, &out, &err), KF_OK);
	close_to(ce[0], -logf(0.2f), 1e-6f);
	assert_true(isnan(ce[1]));
	assert_int_equal(ids[0], 3);
	assert_int_equal(ids[1], 2);
	close_to(lp[0], logf(0.4f), 1e-6f);
	close_to(lp[1], logf(0.3f), 1e-6f);
	close_to(nlm[0], -logf(0.8f), 1e-6f); /* ids 2, 0, 3 */
	close_to(nlm[1], -logf(0.1f), 1e-6f); /* id 0 */
	assert_true(nlm[2] == INFINITY);
	close_to(nlm[3], -logf(0.2f), 1e-6f); /* id 1 */
	/* Row 0: the empty range cannot be helped; [1, 2) has none of {3, 2}: id 0; [0, 3) has three by then. */
	assert_int_equal(n[0], 1);
	assert_int_equal(xids[0], 0);
	close_to(xlp[0], logf(0.1f), 1e-6f);
	assert_int_equal(n[1], 1);
	assert_int_equal(xids[2], 1);
}

static void hand(void **state)
{
	(void)state;
	check_hand(&kf_ops_ref);
	check_hand(&kf_ops_cpu);
}

static void against_ref(void **state)
{
	(void)state;
	static const struct { int T, V, C, k, m, E; } shape[] = {
		{ 1, 1, 1, 1, 1, 1 }, { 3, 5, 2, 5, 2, 3 }, { 17, 511, 8, 10, 3, 8 }, { 40, 512, 8, 10, 3, 8 },
		{ 40, 513, 8, 1, 4, 2 }, { 33, 1500, 16, 10, 3, 8 }, { 300, 1030, 4, 3, 2, 5 }, { 9, 4000, 8, 200, 8, 0 },
		{ 12, 600, 8, 10, 0, 4 }, { 20, 700, 8, 2, 30, 64 }
	};
	kf_pool *pool;
	kf_err err;
	kf_rng r;
	assert_int_equal(kf_pool_new(3, &pool, &err), KF_OK);
	kf_rng_seed(&r, 7);
	for (size_t i = 0; i < sizeof shape / sizeof *shape; i++)
		for (int grid = 0; grid < 2; grid++) {
			problem p = make(&r, shape[i].T, shape[i].V, shape[i].C, shape[i].k, shape[i].m, shape[i].E, grid);
			compare(&p, pool, false, grid);
			compare(&p, NULL, true, grid);
			p.q.cap = 25;
			if (!grid) compare(&p, pool, false, false);
			release(&p);
		}
	kf_pool_free(pool);
}

/* A range whose best token is 150 nats below the best of all. */
static void tiny_masses(void **state)
{
	(void)state;
	enum { V = 1200 };
	kf_rng r;
	kf_rng_seed(&r, 3);
	problem p = make(&r, 1, V, 1, 4, 2, 4, false);
	p.hidden[0] = 1;
	p.labels[0] = p.order[900];
	for (int i = 0; i < V; i++) p.w[p.order[i]] += i >= 500 && i < 1100 ? -150 : 0;
	for (int i = 800; i < 950; i++) p.w[p.order[i]] -= 100;
	p.off[1] = 2;
	p.lo[0] = 500;
	p.hi[0] = 1100;
	p.lo[1] = 800;
	p.hi[1] = 950;
	kf_mat w = { .rows = V, .cols = 1, .num = p.w };
	kf_score a = answers(&p), b = answers(&p);
	kf_err err;
	assert_int_equal(score(&kf_ops_ref, NULL, p.hidden, &w, 1, &p.q, &a, &err), KF_OK);
	assert_int_equal(score(&kf_ops_cpu, NULL, p.hidden, &w, 1, &p.q, &b, &err), KF_OK);
	assert_true(a.range_nlm[0] > 100 && a.range_nlm[1] > 200);
	close_to(a.range_nlm[0], b.range_nlm[0], 2e-5f); /* one step of float32 at 250 is 1.5e-5 */
	close_to(a.range_nlm[1], b.range_nlm[1], 2e-5f);
	close_to(a.ce[0], b.ce[0], 2e-5f);
	drop(&a);
	drop(&b);
	release(&p);
}

static void refuses(const kf_ops *ops, kf_score_query q, int T, kf_status want)
{
	kf_err err;
	float hidden[] = { 1, 1 }, ce[2], lp[8], nlm[4], xlp[4];
	int32_t ids[8], n[2], xids[4];
	kf_mat w = { .rows = 4, .cols = 1, .num = log_p };
	kf_score out = { ce, ids, lp, nlm, n, xids, xlp };
	assert_int_equal(score(ops, NULL, hidden, &w, T, &q, &out, &err), want);
	assert_int_equal(err.code, want);
}

static void bad_queries(void **state)
{
	(void)state;
	int32_t label[] = { 4, 0 }, good[] = { 0, 1 }, order[] = { 2, 0, 3, 2 }, fine[] = { 2, 0, 3, 1 }, off[] = { 0, 2, 2 };
	int32_t lo[] = { 1, 0 }, hi[] = { 3, 2 }, out_hi[] = { 5, 2 };
	for (int i = 0; i < 2; i++) {
		refuses(both[i], (kf_score_query){ .k = 5, .labels = good }, 2, KF_EINVAL);
		refuses(both[i], (kf_score_query){ .k = 0, .labels = good }, 2, KF_EINVAL);
		refuses(both[i], (kf_score_query){ .k = 1, .labels = label }, 2, KF_EINVAL);
		refuses(both[i], (kf_score_query){ .k = 1, .labels = good, .order = order }, 2, KF_EINVAL);
		refuses(both[i], (kf_score_query){ .k = 1, .labels = good, .order = fine,
			.range_off = off, .range_lo = lo, .range_hi = hi, .extra_min = 1, .extra_max = 1 }, 2, KF_EINVAL);
		refuses(both[i], (kf_score_query){ .k = 1, .labels = good, .order = fine,
			.range_off = off, .range_lo = lo, .range_hi = out_hi, .extra_min = 1, .extra_max = 1 }, 2, KF_EINVAL);
	}
}

/* In bfloat16: as the reference, to its precision; grids of small numbers are exact in it. */
static void bf16(void **state)
{
	(void)state;
	kf_exec *x;
	kf_err err;
	kf_rng r;
	kf_rng_seed(&r, 9);
	problem p = make(&r, 300, 1030, 32, 5, 2, 4, true);
	uint16_t *half = calloc((size_t)p.V * p.C, sizeof *half);
	float *other = calloc((size_t)p.V * p.C, sizeof *other);
	kf_round_bf16(p.w, half, (size_t)p.V * p.C);
	assert_int_equal(kf_exec_new(&kf_ops_cpu, NULL, KF_COMPUTE_BF16, &x, &err), KF_OK);
	/* weights as floats; rounded before (no others are looked at); the same, in the order that they have */
	for (int way = 0; way < 3; way++) {
		kf_mat plain = { .rows = p.V, .cols = p.C, .num = p.w }, w = { .rows = p.V, .cols = p.C, .num = way ? other : p.w, .half = way ? half : NULL };
		kf_score_query q = p.q;
		kf_score a = answers(&p), b = answers(&p);
		if (way == 2) q.order = q.range_off = NULL;
		assert_int_equal(score(&kf_ops_ref, NULL, p.hidden, &plain, p.T, &q, &a, &err), KF_OK);
		assert_int_equal(kf_ops_cpu.head_score(x, p.hidden, &w, p.T, &q, &b, &err), KF_OK);
		for (int t = 0; t < p.T; t++) {
			close_to(a.ce[t], b.ce[t], 2e-5f);
			same_list(a.top_ids + t * p.k, a.top_lp + t * p.k, b.top_ids + t * p.k, b.top_lp + t * p.k, p.k, true);
		}
		drop(&a);
		drop(&b);
	}
	free(half);
	free(other);
	release(&p);
	kf_exec_free(x);
}

/* In int8: logits of candidates, extra ones and labels are those of float32, so that they differ from the reference by one
 * normaliser a row, and that and the masses of ranges by little. */
static void int8(void **state)
{
	(void)state;
	kf_exec *x;
	kf_err err;
	kf_rng r;
	kf_rng_seed(&r, 10);
	for (int packed = 0; packed < 2; packed++) {
		problem p = make(&r, 200, 1030, 48, 5, 2, 4, false);
		for (int i = 0; i < p.V * p.C; i++) p.w[i] *= .3f;
		p.q.cap = packed ? 9 : 0;
		kf_mat w = { .rows = p.V, .cols = p.C, .num = packed ? NULL : p.w, .unpack = unpack, .src = &p, .int8 = true };
		kf_score a = answers(&p), b = answers(&p);
		kf_score_query all = { .k = p.V, .order = p.order, .cap = p.q.cap };
		kf_score every = { .ce = a.ce, .top_ids = calloc((size_t)p.T * p.V, 4), .top_lp = calloc((size_t)p.T * p.V, 4) };
		float *lp = calloc((size_t)p.T * p.V, 4);
		assert_int_equal(kf_exec_new(&kf_ops_cpu, NULL, KF_COMPUTE_INT8, &x, &err), KF_OK);
		assert_int_equal(score(&kf_ops_ref, NULL, p.hidden, &w, p.T, &all, &every, &err), KF_OK);
		for (int i = 0; i < p.T * p.V; i++) lp[i / p.V * p.V + every.top_ids[i]] = every.top_lp[i];
		assert_int_equal(score(&kf_ops_ref, NULL, p.hidden, &w, p.T, &p.q, &a, &err), KF_OK);
		assert_int_equal(kf_ops_cpu.head_score(x, p.hidden, &w, p.T, &p.q, &b, &err), KF_OK);
		for (int t = 0; t < p.T; t++) {
			const float *row = lp + (size_t)t * p.V;
			float off = b.top_lp[t * p.k] - row[b.top_ids[t * p.k]];
			assert_true(fabsf(off) < 1e-2f);
			close_to(b.top_lp[t * p.k], a.top_lp[t * p.k], 1e-2f);
			for (int i = 1; i < p.k; i++) {
				close_to(b.top_lp[t * p.k + i] - row[b.top_ids[t * p.k + i]], off, 2e-5f);
				assert_true(b.top_lp[t * p.k + i] <= b.top_lp[t * p.k + i - 1]);
				close_to(b.top_lp[t * p.k + i], a.top_lp[t * p.k + i], 1e-2f);
			}
			for (int i = 0; i < b.extra_n[t]; i++) close_to(b.extra_lp[t * p.E + i] - row[b.extra_ids[t * p.E + i]], off, 2e-5f);
			if (p.labels[t] >= 0) close_to(-b.ce[t] - row[p.labels[t]], off, 2e-5f);
			for (int i = p.off[t]; i < p.off[t + 1]; i++) close_to(b.range_nlm[i], a.range_nlm[i], .1f);
		}
		free(every.top_ids);
		free(every.top_lp);
		free(lp);
		drop(&a);
		drop(&b);
		release(&p);
		kf_exec_free(x);
	}
}

static void not_numbers(void **state)
{
	(void)state;
	kf_err err;
	float w_nan[] = { 0, NAN, 0, 0 }, w_inf[] = { 0, INFINITY, 0, 0 }, hidden = 1, ce, lp[2];
	int32_t ids[2];
	kf_score_query q = { .k = 2 };
	kf_score out = { .ce = &ce, .top_ids = ids, .top_lp = lp };
	kf_mat w = { .rows = 4, .cols = 1, .num = w_nan };
	assert_int_equal(score(&kf_ops_cpu, NULL, &hidden, &w, 1, &q, &out, &err), KF_EDATA);
	w.num = w_inf;
	assert_int_equal(score(&kf_ops_cpu, NULL, &hidden, &w, 1, &q, &out, &err), KF_EDATA);
	/* in 8 bits, whose best are computed again: there may be none */
	kf_rng r;
	kf_rng_seed(&r, 12);
	problem p = make(&r, 3, 70, 48, 5, 2, 4, false);
	kf_score b = answers(&p);
	kf_mat m = { .rows = p.V, .cols = p.C, .num = p.w, .int8 = true };
	kf_exec *x;
	assert_int_equal(kf_exec_new(&kf_ops_cpu, NULL, KF_COMPUTE_INT8, &x, &err), KF_OK);
	for (int i = 0; i < p.C; i++) p.hidden[p.C + i] = NAN;
	assert_int_equal(kf_ops_cpu.head_score(x, p.hidden, &m, p.T, &p.q, &b, &err), KF_EDATA);
	kf_exec_free(x);
	drop(&b);
	release(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hand), cmocka_unit_test(against_ref), cmocka_unit_test(tiny_masses),
		cmocka_unit_test(bad_queries), cmocka_unit_test(not_numbers), cmocka_unit_test(bf16), cmocka_unit_test(int8)
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
