/* head_loss of the CUDA backend on the emulator, loss and gradients, against the definition in ref/head.c. */
#include "tests/unit/emu/util.h"
#include "tests/unit/ops/loss_problem.h"

typedef struct { kf_exec *x; int every, n, orders; } visit;

/* Of the kinds only each every-th. */
static void check(problem *p, void *arg)
{
	visit *v = arg;
	kf_exec *x = v->x;
	const size_t nh = (size_t)(p->T * p->C), nw = (size_t)p->V * (size_t)p->C;
	const double tol = x->num == KF_NUM_BF16 ? 1e-2 : 3e-5;   /* dlogits are rounded to bf16 before the products */
	float *dh = kf_zalloc(nh, 4), *dw = kf_zalloc(nw, 4), *first_h = NULL, *first_w = NULL;
	kf_mat plain = mat(p), m = plain;
	void *hidden, *w;
	kf_loss a, first = { 0 };
	kf_err err;

	if (v->n++ % v->every) {
		kf_free(dh);
		kf_free(dw);
		return;
	}
	round_numbers(x->num, p->hidden, nh);
	round_numbers(x->num, p->w, nw);
	p->query.scale = 0.25f;
	for (size_t i = 0; i < nw; i++) dw[i] = 0.5f; /* dw is added to */
	assert_int_equal(kf_ops_ref.head_loss(NULL, p->hidden, &plain, p->T, &p->query, dh, dw, &a, &err), KF_OK);
	hidden = device_numbers(x->num, p->hidden, nh);
	m.num = w = device_numbers(x->num, p->w, nw);
	for (FOR_ORDERS(o)) {
		if (o >= v->orders) {
			kf_free(first_h);
			kf_free(first_w);
			break;
		}
		void *gh = device_empty(x->num, nh), *gw = device_empty(x->num, nw);
		kf_loss b, c;

		launched(kf_cuda_fill(x->num, gw, 0.5f, nw, NULL));
		if (x->ops->head_loss(x, hidden, &m, p->T, &p->query, gh, gw, &b, &err) != KF_OK) fail_msg("%s", err.text);
		if (o) {
			assert_memory_equal(&b, &first, sizeof b);
		} else {
			first = b;
			assert_int_equal(x->ops->head_loss(x, hidden, &m, p->T, &p->query, NULL, NULL, &c, &err), KF_OK);
			assert_true(c.loss == b.loss);
			assert_int_equal(b.rows, a.rows);
			assert_int_equal(b.clm_rows, a.clm_rows);
			assert_int_equal(b.fusion_rows, a.fusion_rows);
			close_to(b.loss, a.loss, 1e-5);
			close_to(b.clm, a.clm, 1e-5);
			close_to(b.fusion, a.fusion, 1e-5);
		}
		output("dhidden", o, &first_h, x->num, gh, dh, nh, tol);
		output("dw", o, &first_w, x->num, gw, dw, nw, tol);
	}
	emu_free(hidden);
	emu_free(w);
	kf_free(dh);
	kf_free(dw);
}

static void against_ref(void **state)
{
	static const struct { int T, V, C; float sharp, cap; } shape[] = {
		{ 1, 1, 1, 1, 0 }, { 5, 3, 2, 1, 0 }, { 6, 257, 4, 1, 0 }, { 4, 300, 4, 3, 2 }
	};
	kf_rng r;

	(void)state;
	kf_rng_seed(&r, 5);
	FOR_TYPES(type) {
		visit v = { emulated(type), 1, 0, 3 };

		for (size_t i = 0; i < sizeof shape / sizeof *shape; i++) {
			problem p = make(&r, shape[i].T, shape[i].V, shape[i].C, shape[i].sharp);

			v.every = p.T * p.V > 100 ? 7 : p.V > 1 ? 5 : 1;   /* 5 and 7 go through every setting */
			p.query.cap = shape[i].cap;
			all_kinds(&p, check, &v);
			release(&p);
		}
		v.every = 1;
		problem p = make(&r, 3, 8200, 2, 1);   /* two tiles, the second of a few */
		check(&p, &v);
		p.query.tail = KF_TAIL_RENORMALIZE;
		p.query.temperature = 2;
		check(&p, &v);
		p.query.cap = 1.5f;
		check(&p, &v);
		release(&p);
		kf_exec_free(v.x);
	}
	/* two blocks of rows */
	visit v = { emulated(KF_NUM_F32), 1, 0, 1 };
	problem p = make(&r, 4100, 3, 1, 1);
	check(&p, &v);
	release(&p);
	kf_exec_free(v.x);
}

/* Gradients against differences of the kernels' own losses, at some elements of hidden and of w. (Memory of the emulated device is the host's.) */
static void check_slopes(problem *p, void *arg)
{
	kf_exec *x = arg;
	const size_t n[2] = { (size_t)(p->T * p->C), (size_t)(p->V * p->C) };
	float *dh = kf_alloc(n[0], 4), *dw = kf_zalloc(n[1], 4), *const at[2] = { p->hidden, p->w }, *const gradient[2] = { dh, dw };
	const kf_mat m = mat(p);
	const float h = 1 / 64.f;
	kf_loss l[2];
	kf_err err;

	p->query.scale = 1;
	assert_int_equal(x->ops->head_loss(x, p->hidden, &m, p->T, &p->query, dh, dw, &l[0], &err), KF_OK);
	for (int k = 0; k < 2; k++)
		for (size_t i = k; i < n[k]; i += n[k] / 3 + 1) {
			const float was = at[k][i];
			double slope[2];

			/* one step of Richardson's extrapolation */
			for (int half = 0; half < 2; half++) {
				for (int s = 0; s < 2; s++) {
					at[k][i] = was + (s ? -h : h) / (float)(1 + half);
					assert_int_equal(x->ops->head_loss(x, p->hidden, &m, p->T, &p->query, NULL, NULL, &l[s], &err), KF_OK);
				}
				slope[half] = (l[0].loss - l[1].loss) / (double)(2 * h) * (1 + half);
			}
			at[k][i] = was;
			close_to(gradient[k][i], (4 * slope[1] - slope[0]) / 3, 1e-3);
		}
	kf_free(dh);
	kf_free(dw);
}

static void finite_differences(void **state)
{
	kf_exec *x = emulated(KF_NUM_F32);
	kf_rng r;

	(void)state;
	emu_order(EMU_FORWARD, 1);
	kf_rng_seed(&r, 11);
	for (int i = 0; i < 3; i++) {
		problem p = make(&r, 5 + i, i == 1 ? 3 : 7, 2, 0.7f);   /* second: candidates that are the whole vocabulary */

		if (i == 2) p.query.cap = 0.9f;
		all_kinds(&p, check_slopes, x);
		release(&p);
	}
	kf_exec_free(x);
}

/* The candidates hold all of the student's mass but e^-60: what is left must not be 1 - P_S in float. */
static void nearly_all_mass(void **state)
{
	float w[8] = { 60, 59, 0, 0, -1, 0, 0.5f, 0 }, hidden = 1, q[] = { 0.5f, 0.3f };
	int32_t label = 0, ids[] = { 0, 1 };
	uint32_t off[] = { 0, 2 };
	problem p = { .T = 1, .V = 8, .C = 1, .hidden = &hidden, .w = w, .query = { .labels = &label, .off = off, .ids = ids, .q = q,
		.lambda = 0.5, .temperature = 1, .kind = KF_LOSS_CE, .tail = KF_TAIL_REST, .scale = 1 } };
	visit v = { emulated(KF_NUM_F32), 1, 0, 3 };

	(void)state;
	check(&p, &v);
	kf_exec_free(v.x);
}

static void refuses(void **state)
{
	float w[4] = { 0, 1, 2, 3 }, hidden[2] = { 1, NAN };
	int32_t labels[] = { 1, 2 };
	const kf_loss_query query = { .labels = labels, .lambda = 0.5, .temperature = 1, .scale = 1 };
	kf_exec *x = emulated(KF_NUM_F32);
	kf_mat m = { .rows = 4, .cols = 1, .num = device_bytes(w, sizeof w) };
	void *h = device_bytes(hidden, sizeof hidden);
	kf_loss out;
	kf_err err;

	(void)state;
	assert_int_equal(x->ops->head_loss(x, h, &m, 2, &query, NULL, NULL, &out, &err), KF_EDATA);
	assert_non_null(strstr(err.text, "row 1 "));
	labels[0] = 4;
	assert_int_equal(x->ops->head_loss(x, h, &m, 2, &query, NULL, NULL, &out, &err), KF_EINVAL);
	emu_free(h);
	emu_free((void *)(uintptr_t)m.num);
	kf_exec_free(x);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(against_ref), cmocka_unit_test(finite_differences), cmocka_unit_test(nearly_all_mass), cmocka_unit_test(refuses) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
