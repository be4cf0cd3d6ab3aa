/* head_score of the CUDA backend on the emulator: its tiles of 8,192 and its kernels against the definition in ref/head.c. */
#include "tests/unit/emu/util.h"
#include "tests/unit/ops/score_problem.h"

typedef struct {
	kf_exec *x;
	void *hidden, *w;
	kf_mat mat;
} on_device;

static on_device put(kf_exec *x, const problem *p)
{
	on_device d = { x, device_numbers(x->num, p->hidden, (size_t)(p->T * p->C)), device_numbers(x->num, p->w, (size_t)p->V * (size_t)p->C),
		{ .rows = p->V, .cols = p->C } };

	d.mat.num = d.w;
	return d;
}

static void take_away(on_device *d)
{
	emu_free(d->hidden);
	emu_free(d->w);
}

static void same_floats(const float *a, const float *b, int n, bool exact)
{
	for (int i = 0; i < n; i++) {
		if (exact) assert_memory_equal(a + i, b + i, sizeof *a);
		else close_to(a[i], b[i], 1e-5f);
	}
}

/* exact: logits are exact in float32, so ids agree where logits are equal; again: b is another run of the same kernels. */
static void agree(const problem *p, const kf_score *a, const kf_score *b, bool exact, bool again)
{
	same_floats(a->ce, b->ce, p->T, again);
	for (int t = 0; t < p->T; t++) {
		same_list(a->top_ids + t * p->k, a->top_lp + t * p->k, b->top_ids + t * p->k, b->top_lp + t * p->k, p->k, exact || again);
		if (!p->q.range_off) continue;
		same_floats(a->range_nlm + p->off[t], b->range_nlm + p->off[t], p->off[t + 1] - p->off[t], again);
		assert_int_equal(a->extra_n[t], b->extra_n[t]);
		same_list(a->extra_ids + t * p->E, a->extra_lp + t * p->E, b->extra_ids + t * p->E, b->extra_lp + t * p->E, a->extra_n[t], exact || again);
	}
}

static void compare(kf_exec *x, problem *p, bool exact)
{
	kf_mat plain = { .rows = p->V, .cols = p->C, .num = p->w };
	kf_score want = answers(p), first = answers(p);
	on_device d;
	kf_err err;

	round_numbers(x->num, p->w, (size_t)p->V * (size_t)p->C);
	round_numbers(x->num, p->hidden, (size_t)(p->T * p->C));
	assert_int_equal(kf_ops_ref.head_score(NULL, p->hidden, &plain, p->T, &p->q, &want, &err), KF_OK);
	d = put(x, p);
	for (FOR_ORDERS(o)) {
		kf_score got = answers(p);

		if (x->ops->head_score(x, d.hidden, &d.mat, p->T, &p->q, o ? &got : &first, &err) != KF_OK) fail_msg("%s", err.text);
		if (o) agree(p, &first, &got, exact, true);
		else agree(p, &want, &first, exact, false);
		drop(&got);
	}
	take_away(&d);
	drop(&want);
	drop(&first);
}

static void against_ref(void **state)
{
	static const struct { int T, V, C, k, m, E; } shape[] = {
		{ 1, 1, 1, 1, 1, 1 }, { 3, 5, 2, 5, 2, 3 }, { 5, 511, 8, 10, 3, 8 }, { 4, 1500, 16, 10, 3, 8 }, { 12, 300, 4, 3, 2, 5 },
		{ 3, 4000, 8, 200, 8, 0 }, { 4, 600, 8, 10, 0, 4 }, { 4, 700, 8, 2, 30, 64 }, { 2, 8192, 4, 10, 3, 8 }, { 2, 8193, 4, 128, 3, 8 },
		{ 2, 17000, 2, 10, 4, 8 }, { 2, 2500, 4, 1024, 2, 4 },
		{ 1, 8300, 2, 4096, 2, 4 }, { 2, 9000, 2, 4097, 3, 8 }, { 1, 8200, 1, 8200, 2, 4 }
	};
	kf_rng r;

	(void)state;
	kf_rng_seed(&r, 7);
	FOR_TYPES(type) {
		kf_exec *x = emulated(type);

		for (size_t i = 0; i < sizeof shape / sizeof *shape; i++)
			for (int grid = 0; grid < 2; grid++) {
				problem p = make(&r, shape[i].T, shape[i].V, shape[i].C, shape[i].k, shape[i].m, shape[i].E, grid);

				compare(x, &p, grid);
				p.q.cap = 25;
				if (!grid && p.T < 10) compare(x, &p, false);
				release(&p);
			}
		kf_exec_free(x);
	}
}

/* Less is asked: no ranges, no order, no labels, no extras. */
static void less(void **state)
{
	kf_exec *x = emulated(KF_NUM_F32);
	kf_rng r;

	(void)state;
	kf_rng_seed(&r, 8);
	for (int i = 0; i < 4; i++) {
		problem p = make(&r, 9, 700, 4, 6, 2, 3, true);

		if (i == 0) p.q.labels = NULL;
		if (i == 1) p.q.range_off = NULL;
		if (i == 2) p.q.range_off = NULL, p.q.order = NULL;
		if (i == 3) p.q.extra_max = p.E = 0;
		compare(x, &p, true);
		release(&p);
	}
	kf_exec_free(x);
}

/* A range whose best token is 150 nats below the best of all, in the second tile. */
static void tiny_masses(void **state)
{
	enum { V = 9300 };
	kf_exec *x = emulated(KF_NUM_F32);
	kf_rng r;

	(void)state;
	kf_rng_seed(&r, 3);
	problem p = make(&r, 1, V, 1, 4, 2, 4, false);
	kf_score a = answers(&p), b = answers(&p);
	kf_mat plain = { .rows = V, .cols = 1, .num = p.w };
	on_device d;
	kf_err err;

	p.hidden[0] = 1;
	p.labels[0] = p.order[9000];
	for (int i = 0; i < V; i++) p.w[p.order[i]] += i >= 8100 && i < 9100 ? -150 : 0;
	for (int i = 8500; i < 9050; i++) p.w[p.order[i]] -= 100;
	p.off[1] = 2;
	p.lo[0] = 8100, p.hi[0] = 9100, p.lo[1] = 8500, p.hi[1] = 9050;
	assert_int_equal(kf_ops_ref.head_score(NULL, p.hidden, &plain, 1, &p.q, &a, &err), KF_OK);
	d = put(x, &p);
	assert_int_equal(x->ops->head_score(x, d.hidden, &d.mat, 1, &p.q, &b, &err), KF_OK);
	assert_true(a.range_nlm[0] > 100 && a.range_nlm[1] > 200);
	close_to(a.range_nlm[0], b.range_nlm[0], 2e-5f);   /* one step of float32 at 250 is 1.5e-5 */
	close_to(a.range_nlm[1], b.range_nlm[1], 2e-5f);
	close_to(a.ce[0], b.ce[0], 2e-5f);
	take_away(&d);
	drop(&a);
	drop(&b);
	release(&p);
	kf_exec_free(x);
}

static void refuses(void **state)
{
	kf_exec *x = emulated(KF_NUM_F32);
	kf_rng r;
	kf_err err;

	(void)state;
	kf_rng_seed(&r, 4);
	problem p = make(&r, 3, 2000, 2, 5, 2, 4, false);
	kf_score a = answers(&p);
	on_device d = put(x, &p);

	p.q.extra_min = KF_CUDA_MAX_K + 1;
	assert_int_equal(x->ops->head_score(x, d.hidden, &d.mat, 3, &p.q, &a, &err), KF_EUNSUPPORTED);
	p.q.extra_min = 2;
	p.q.k = 0;
	assert_int_equal(x->ops->head_score(x, d.hidden, &d.mat, 3, &p.q, &a, &err), KF_EINVAL);
	p.q.k = 5;
	for (int i = 0; i < 3; i++) {   /* in the last row; in a row's logits alone; too large */
		static const float bad[] = { NAN, INFINITY, 1e38f };

		((float *)d.hidden)[5] = bad[i];
		if (i == 2) for (int v = 0; v < 2 * 2000; v++) ((float *)d.w)[v] *= 1e3f;
		assert_int_equal(x->ops->head_score(x, d.hidden, &d.mat, 3, &p.q, &a, &err), KF_EDATA);
		assert_non_null(strstr(err.text, "row 2 "));
	}
	take_away(&d);
	drop(&a);
	release(&p);
	kf_exec_free(x);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(against_ref), cmocka_unit_test(less), cmocka_unit_test(tiny_masses), cmocka_unit_test(refuses)
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
