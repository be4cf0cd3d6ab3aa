/* head_loss: hand-worked numbers, finite differences of the reference, then the CPU against the reference. */
#include "tests/unit/ops/loss_problem.h"

static const kf_ops *const both[] = { &kf_ops_ref, &kf_ops_cpu };

/* One call in a fresh kf_exec. */
static kf_status run(const kf_ops *ops, kf_pool *pool, const float *hidden, const kf_mat *w, int T, const kf_loss_query *q,
	float *dhidden, float *dw, kf_loss *out, kf_err *err)
{
	kf_exec *x;
	kf_status rc = kf_exec_new(ops, pool, KF_COMPUTE_F32, &x, err);
	if (rc == KF_OK) rc = ops->head_loss(x, hidden, w, T, q, dhidden, dw, out, err);
	kf_exec_free(x);
	return rc;
}

/* ---- by hand ---- */

/* Student .1 .2 .3 .4 */
static const float log_p[] = { 0, 0.69314718f, 1.09861229f, 1.38629436f };

static void hand(void **state)
{
	(void)state;
	for (int f = 0; f < 2; f++) {
			kf_err err;
		kf_mat w = { .rows = 4, .cols = 1, .num = log_p };
		float hidden[] = { 1, 1, 1, 1 }, q[] = { 0.5f, 0.25f, 0.5f }, dh[4], dw[4] = { 0 };
		int32_t labels[] = { 1, 2, -1, -1 }, ids[] = { 3, 0, 2 };
		uint32_t off[] = { 0, 2, 2, 3, 3 };
		kf_loss_query query = { .labels = labels, .off = off, .ids = ids, .q = q, .lambda = 0.5, .temperature = 1, .kind = KF_LOSS_CE, .tail = KF_TAIL_REST, .scale = 1 };
		kf_loss out;
		/* Row 0: label 1; q .5 on 3, .25 on 0, rest .25 against the student's .5. Row 1: its label alone.
		 * Row 2: no label; q .5 on 2, rest .5 against .7. Row 3: nothing. */
		double f0 = -(0.5 * log(0.4) + 0.25 * log(0.1) + 0.25 * log(0.5)), f2 = -(0.5 * log(0.3) + 0.5 * log(0.7));
		assert_int_equal(run(both[f], NULL, hidden, &w, 4, &query, dh, dw, &out, &err), KF_OK);
		close_to(out.clm, -log(0.2) - log(0.3), 1e-6);
		close_to(out.fusion, f0 + f2, 1e-6);
		close_to(out.loss, 0.5 * -log(0.2) + 0.5 * f0 - log(0.3) + 0.5 * f2, 1e-6);
		assert_int_equal(out.rows, 3);
		assert_int_equal(out.clm_rows, 2);
		assert_int_equal(out.fusion_rows, 2);
		/* dlogits: row 0: .5 (p - e1) + .5 (p - q on {3, 0}; p (1 - .25/.5) off) */
		double d0[4] = { 0.5 * 0.1 + 0.5 * (0.1 - 0.25), 0.5 * (0.2 - 1) + 0.5 * 0.1, 0.5 * 0.3 + 0.5 * 0.15, 0.5 * 0.4 + 0.5 * (0.4 - 0.5) };
		double d1[4] = { 0.1, 0.2, 0.3 - 1, 0.4 };
		double off2 = 0.5 * (1 - 0.5 / 0.7), d2[4] = { off2 * 0.1, off2 * 0.2, 0.5 * (0.3 - 0.5), off2 * 0.4 };
		double h[4] = { 0 };
		for (int v = 0; v < 4; v++) {
			close_to(dw[v], d0[v] + d1[v] + d2[v], 1e-6);
			h[0] += d0[v] * log_p[v];
			h[1] += d1[v] * log_p[v];
			h[2] += d2[v] * log_p[v];
		}
		for (int t = 0; t < 4; t++) close_to(dh[t], h[t], 1e-6);

		query.tail = KF_TAIL_RENORMALIZE;
		query.kind = KF_LOSS_KL;
		assert_int_equal(run(both[f], NULL, hidden, &w, 4, &query, NULL, NULL, &out, &err), KF_OK);
		close_to(out.fusion, 2. / 3 * log(2. / 3 / 0.4) + 1. / 3 * log(1. / 3 / 0.1) + log(1 / 0.3), 1e-6);
	}
}

/* ---- properties ---- */

/* Targets that are the student's own: KL 0 and no gradient, at any temperature, when the rest is an outcome. */
static void own_distribution(void **state)
{
	(void)state;
	for (int f = 0; f < 2; f++)
		for (int hot = 0; hot < 2; hot++) {
					kf_err err;
			kf_mat w = { .rows = 4, .cols = 1, .num = log_p };
			float hidden = 1, q[] = { 0.4f, 0.1f }, dh, dw[4] = { 0 };
			int32_t label = -1, ids[] = { 3, 0 };
			uint32_t off[] = { 0, 2 };
			kf_loss_query query = { .labels = &label, .off = off, .ids = ids, .q = q, .lambda = 0, .temperature = hot ? 3 : 1, .kind = KF_LOSS_KL, .tail = KF_TAIL_REST, .scale = 1 };
			kf_loss out;
			assert_int_equal(run(both[f], NULL, &hidden, &w, 1, &query, &dh, dw, &out, &err), KF_OK);
			close_to(out.fusion, 0, 1e-6);
			close_to(dh, 0, 1e-6);
			for (int v = 0; v < 4; v++) close_to(dw[v], 0, 1e-6);
		}
}

static double loss_at(const problem *p)
{
	kf_mat w = mat(p);
	kf_loss out;
	kf_err err;
	assert_int_equal(run(&kf_ops_ref, NULL, p->hidden, &w, p->T, &p->query, NULL, NULL, &out, &err), KF_OK);
	return out.loss;
}

static double slope(const problem *p, float *at)
{
	float old = *at, up = old + 2e-3f, down = old - 2e-3f;
	*at = up;
	double a = loss_at(p);
	*at = down;
	double b = loss_at(p);
	*at = old;
	return (a - b) / ((double)up - down);
}

static void check_slopes(problem *p, void *arg)
{
	kf_mat w = mat(p);
	kf_loss out;
	kf_err err;
	float *dh = calloc(p->T * p->C, 4), *dw = calloc(p->V * p->C, 4);
	(void)arg;
	assert_int_equal(run(&kf_ops_ref, NULL, p->hidden, &w, p->T, &p->query, dh, dw, &out, &err), KF_OK);
	for (int i = 0; i < p->T * p->C; i++) close_to(dh[i], slope(p, p->hidden + i), 2e-4);
	for (int i = 0; i < p->V * p->C; i += 3) close_to(dw[i], slope(p, p->w + i), 2e-4);
	free(dh);
	free(dw);
}

static void finite_differences(void **state)
{
	(void)state;
	kf_rng r;
	kf_rng_seed(&r, 11);
	problem p = make(&r, 6, 7, 2, 0.7f);
	all_kinds(&p, check_slopes, NULL);
	release(&p);
	p = make(&r, 4, 3, 2, 0.7f); /* candidates that are the whole vocabulary */
	all_kinds(&p, check_slopes, NULL);
	release(&p);
	p = make(&r, 6, 7, 2, 0.7f);
	p.query.cap = 0.9f;          /* capped logits */
	all_kinds(&p, check_slopes, NULL);
	release(&p);
}

/* ---- the CPU ---- */

static void unpack(const void *src, const int32_t *index, uint64_t row, uint64_t n, float *out)
{
	const problem *p = src;
	assert_null(index);
	memcpy(out, p->w + row * p->C, n * p->C * sizeof(float));
}

static void check_cpu(problem *p, void *arg)
{
	kf_mat w = mat(p), packed = { .rows = p->V, .cols = p->C, .unpack = unpack, .src = p };
	size_t nh = (size_t)p->T * p->C, nw = (size_t)p->V * p->C;
	float *dh = calloc(nh, 4), *dw = calloc(nw, 4), *dh2 = malloc(nh * 4), *dw2 = calloc(nw, 4);
	kf_loss a, b, c;
	kf_err err;
	p->query.scale = 0.25f;
	for (size_t i = 0; i < nw; i++) dw[i] = dw2[i] = 0.5f; /* dw is added to */
	assert_int_equal(run(&kf_ops_ref, NULL, p->hidden, &w, p->T, &p->query, dh, dw, &a, &err), KF_OK);
	assert_int_equal(run(&kf_ops_cpu, arg, p->hidden, &w, p->T, &p->query, dh2, dw2, &b, &err), KF_OK);
	assert_int_equal(run(&kf_ops_cpu, arg, p->hidden, &packed, p->T, &p->query, NULL, NULL, &c, &err), KF_OK);
	assert_int_equal(a.rows, b.rows);
	assert_int_equal(a.clm_rows, b.clm_rows);
	assert_int_equal(a.fusion_rows, b.fusion_rows);
	close_to(b.loss, a.loss, 1e-5);
	close_to(b.clm, a.clm, 1e-5);
	close_to(b.fusion, a.fusion, 1e-5);
	close_to(c.loss, a.loss, 1e-5);
	for (size_t i = 0; i < nh; i++) close_to(dh2[i], dh[i], 2e-5);
	for (size_t i = 0; i < nw; i++) close_to(dw2[i], dw[i], 2e-5);
	if (p->query.temperature == 1) { /* one gradient alone, from packed weights */
		memset(dh2, 0x7f, nh * 4);
		assert_int_equal(run(&kf_ops_cpu, arg, p->hidden, &packed, p->T, &p->query, dh2, NULL, &c, &err), KF_OK);
		for (size_t i = 0; i < nh; i++) close_to(dh2[i], dh[i], 2e-5);
		for (size_t i = 0; i < nw; i++) dw2[i] = 0.5f;
		assert_int_equal(run(&kf_ops_cpu, arg, p->hidden, &w, p->T, &p->query, NULL, dw2, &c, &err), KF_OK);
		for (size_t i = 0; i < nw; i++) close_to(dw2[i], dw[i], 2e-5);
	}
	free(dh);
	free(dw);
	free(dh2);
	free(dw2);
}

static void against_ref(void **state)
{
	(void)state;
	static const struct { int T, V, C; float sharp; } shape[] = {
		{ 1, 1, 1, 1 }, { 5, 3, 2, 1 }, { 20, 511, 4, 1 }, { 20, 512, 4, 1 }, { 20, 1025, 4, 3 }
	};
	kf_pool *pool;
	kf_err err;
	kf_rng r;
	assert_int_equal(kf_pool_new(3, &pool, &err), KF_OK);
	kf_rng_seed(&r, 5);
	for (size_t i = 0; i < sizeof shape / sizeof *shape; i++) {
		problem p = make(&r, shape[i].T, shape[i].V, shape[i].C, shape[i].sharp);
		all_kinds(&p, check_cpu, pool);
		release(&p);
	}
	problem p = make(&r, 20, 1025, 4, 3);
	p.query.cap = 2;
	all_kinds(&p, check_cpu, pool);
	release(&p);
	p = make(&r, 1100, 30, 3, 1); /* several blocks of rows */
	all_kinds(&p, check_cpu, NULL);
	release(&p);
	p = make(&r, 3, 180001, 2, 1);        /* a vocabulary whose logits are not kept */
	check_cpu(&p, pool);
	p.query.tail = KF_TAIL_RENORMALIZE;
	p.query.temperature = 2;
	check_cpu(&p, pool);
	p.query.cap = 1.5f;
	check_cpu(&p, pool);
	p.query.tail = KF_TAIL_REST;
	check_cpu(&p, pool);
	release(&p);
	p = make(&r, 20, 300, 4, 3);
	for (int renormalize = 0; renormalize < 2; renormalize++) { /* so cold that powers of probabilities are nothing, to who computes them */
		p.query.tail = renormalize ? KF_TAIL_RENORMALIZE : KF_TAIL_REST;
		p.query.temperature = 0.002;
		check_cpu(&p, pool);
	}
	release(&p);
	kf_pool_free(pool);
}

/* The candidates hold all of the student's mass but e^-60: what is left must not be 1 - P_S in float. */
static void nearly_all_mass(void **state)
{
	(void)state;
	float w[8] = { 60, 59, 0, 0, -1, 0, 0.5f, 0 }, hidden = 1, q[] = { 0.5f, 0.3f };
	int32_t label = 0, ids[] = { 0, 1 };
	uint32_t off[] = { 0, 2 };
	kf_mat m = { .rows = 8, .cols = 1, .num = w };
	kf_loss_query query = { .labels = &label, .off = off, .ids = ids, .q = q, .lambda = 0.5, .temperature = 1, .kind = KF_LOSS_CE, .tail = KF_TAIL_REST, .scale = 1 };
	kf_loss a, b;
	kf_err err;
	float dw[8] = { 0 }, dw2[8] = { 0 };
	assert_int_equal(run(&kf_ops_ref, NULL, &hidden, &m, 1, &query, NULL, dw, &a, &err), KF_OK);
	assert_int_equal(run(&kf_ops_cpu, NULL, &hidden, &m, 1, &query, NULL, dw2, &b, &err), KF_OK);
	assert_true(b.fusion > 10);
	close_to(b.fusion, a.fusion, 1e-6);
	for (int i = 0; i < 8; i++) close_to(dw2[i], dw[i], 1e-6);
	close_to(dw2[2] + dw2[3] + dw2[4] + dw2[5] + dw2[6] + dw2[7], -0.1, 1e-6);
}

/* In bfloat16: the loss within its precision, and gradients that point the same way. */
static void bf16(void **state)
{
	(void)state;
	kf_rng r;
	kf_err err;
	kf_exec *x;
	kf_rng_seed(&r, 8);
	problem p = make(&r, 50, 1200, 32, 0.3f);
	kf_mat w = mat(&p);
	size_t nh = (size_t)p.T * p.C, nw = (size_t)p.V * p.C;
	float *dh = calloc(nh, 4), *dw = calloc(nw, 4), *dh2 = calloc(nh, 4), *dw2 = calloc(nw, 4);
	kf_loss a, b;
	assert_int_equal(kf_exec_new(&kf_ops_cpu, NULL, KF_COMPUTE_BF16, &x, &err), KF_OK);
	assert_int_equal(run(&kf_ops_ref, NULL, p.hidden, &w, p.T, &p.query, dh, dw, &a, &err), KF_OK);
	assert_int_equal(kf_ops_cpu.head_loss(x, p.hidden, &w, p.T, &p.query, dh2, dw2, &b, &err), KF_OK);
	close_to(b.loss, a.loss, 1e-3);
	double d = 0, n = 0;
	for (size_t i = 0; i < nh; i++) {
		d += ((double)dh[i] - dh2[i]) * ((double)dh[i] - dh2[i]);
		n += (double)dh[i] * dh[i];
	}
	assert_true(d < 1e-4 * n);
	d = n = 0;
	for (size_t i = 0; i < nw; i++) {
		d += ((double)dw[i] - dw2[i]) * ((double)dw[i] - dw2[i]);
		n += (double)dw[i] * dw[i];
	}
	assert_true(d < 1e-4 * n);
	kf_exec_free(x);
	free(dh);
	free(dw);
	free(dh2);
	free(dw2);
	release(&p);
}

static void bad_queries(void **state)
{
	(void)state;
	kf_err err;
	kf_mat w = { .rows = 4, .cols = 1, .num = log_p };
	float hidden = 1, q[] = { 0.5f, 0.4f }, bad_q[] = { 0.5f, -1 }, nan_q[] = { NAN, 0 }, weight = 2, dh;
	int32_t label = 0, bad_label = 4, ids[] = { 1, 2 }, bad_ids[] = { 1, 4 }, twice[] = { 2, 2 };
	uint32_t off[] = { 0, 2 };
	kf_loss out;
	const kf_loss_query good = { .labels = &label, .off = off, .ids = ids, .q = q, .lambda = 0.5, .temperature = 1, .kind = KF_LOSS_CE, .tail = KF_TAIL_REST, .scale = 1 };
	for (int i = 0; i < 9; i++) {
		kf_loss_query bad = good;
		if (i == 1) bad.labels = &bad_label;
		if (i == 2) bad.ids = bad_ids;
		if (i == 3) bad.ids = twice;
		if (i == 4) bad.q = bad_q;
		if (i == 5) bad.q = nan_q;
		if (i == 6) bad.weight = &weight;
		if (i == 7) bad.temperature = 0;
		if (i == 8) bad.lambda = 1.5;
		for (int f = 0; f < 2; f++)
			assert_int_equal(run(both[f], NULL, &hidden, &w, 1, &bad, &dh, NULL, &out, &err), i ? KF_EINVAL : KF_OK);
	}
	hidden = NAN;
	assert_int_equal(run(&kf_ops_cpu, NULL, &hidden, &w, 1, &good, &dh, NULL, &out, &err), KF_EDATA);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hand), cmocka_unit_test(own_distribution), cmocka_unit_test(finite_differences),
		cmocka_unit_test(against_ref), cmocka_unit_test(nearly_all_mass), cmocka_unit_test(bf16), cmocka_unit_test(bad_queries)
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
