/* The reference's backward against central differences of its forward, at
 * random elements of every input. L = sum(weight * output), weights random. Forward results are
 * floats, so a difference over 2h carries rounding of about 1e-7 sqrt(outputs) / 2h beside the O(h^2) of
 * the formula: with h = 1/64 both stay under the 1e-3 (of the largest gradient, or 1) allowed here, and
 * one step of Richardson's extrapolation (h and h/2) takes most of the second away. */
#include "tests/unit/ops/util.h"

#define TOL 1e-3
#define H_STEP 0.015625

enum { SAMPLES = 24 };

static kf_exec *ref;
static kf_pool *pool;
static kf_rng rng;

/* A forward pass: fills out from what the closure points to. */
typedef void (*forward)(void *arg, float *out);

static double loss(forward fn, void *arg, float *out, const float *weight, size_t n)
{
	double s = 0;

	fn(arg, out);
	for (size_t i = 0; i < n; i++) s += (double)weight[i] * out[i];
	return s;
}

static double slope(forward fn, void *arg, float *out, const float *weight, size_t n, float *at, double h)
{
	const float was = *at;
	double up, down, up_at, down_at;

	*at = (float)(was + h);
	up_at = *at;
	up = loss(fn, arg, out, weight, n);
	*at = (float)(was - h);
	down_at = *at;
	down = loss(fn, arg, out, weight, n);
	*at = was;
	return (up - down) / (up_at - down_at);
}

/* gradient (count) of in (count), against differences of L over out (n) */
static void check(const char *what, forward fn, void *arg, const float *weight, size_t n, float *in,
	const float *gradient, size_t count)
{
	float *out = kf_alloc(n, sizeof *out);
	double largest = 1;

	assert_non_null(out);
	for (size_t i = 0; i < count; i++) largest = fmax(largest, fabs((double)gradient[i]));
	for (int s = 0; s < SAMPLES; s++) {
		const size_t i = s < (int)count ? (size_t)kf_rng_below(&rng, count) : (size_t)s % count;
		const double wide = slope(fn, arg, out, weight, n, in + i, H_STEP),
			narrow = slope(fn, arg, out, weight, n, in + i, H_STEP / 2);
		const double want = (4 * narrow - wide) / 3;

		if (!(fabs(gradient[i] - want) <= TOL * largest)) {
			print_error("%s: element %zu of %zu: gradient %.7g, differences %.7g\n", what, i, count,
				(double)gradient[i], want);
			fail();
		}
	}
	kf_free(out);
}

static float *zeros(size_t n)
{
	float *p = kf_zalloc(n, sizeof *p);

	assert_non_null(p);
	return p;
}

/* ---- linear, embedding ----------------------------------------------------------- */

typedef struct { float *in, *w, *bias; const int32_t *tokens; int T, N, K; } linear_args;

static void run_linear(void *arg, float *out)
{
	const linear_args *a = arg;
	const kf_mat w = { .rows = a->N, .cols = a->K, .f32 = a->w };

	assert_int_equal(kf_ops_ref.linear(ref, out, a->in, &w, a->bias, a->T, false, NULL), KF_OK);
}

static void test_linear(void **state)
{
	enum { T = 7, N = 5, K = 9 };
	float *in = random_floats(&rng, T * K, 1), *w = random_floats(&rng, N * K, 1),
		*bias = random_floats(&rng, N, 1), *dy = random_floats(&rng, T * N, 1);
	float *dx = zeros(T * K), *dw = zeros(N * K), *db = zeros(N);
	linear_args a = { in, w, bias, NULL, T, N, K };
	const kf_mat m = { .rows = N, .cols = K, .f32 = w };

	(void)state;
	assert_int_equal(kf_ops_ref.linear_dx(ref, dx, dy, &m, T, false, NULL), KF_OK);
	assert_int_equal(kf_ops_ref.linear_dw(ref, dw, db, dy, in, T, N, K, NULL), KF_OK);
	check("linear dx", run_linear, &a, dy, T * N, in, dx, T * K);
	check("linear dw", run_linear, &a, dy, T * N, w, dw, N * K);
	check("linear db", run_linear, &a, dy, T * N, bias, db, N);
	kf_free(db);
	kf_free(dw);
	kf_free(dx);
	kf_free(dy);
	kf_free(bias);
	kf_free(w);
	kf_free(in);
}

static void run_embed(void *arg, float *out)
{
	const linear_args *a = arg;
	const kf_mat w = { .rows = a->N, .cols = a->K, .f32 = a->w };

	assert_int_equal(kf_ops_ref.embed(ref, out, &w, a->tokens, 1.5f, a->T, NULL), KF_OK);
}

static void test_embed(void **state)
{
	enum { T = 6, V = 4, C = 5 };
	const int32_t tokens[T] = { 3, 0, 3, 1, 3, 0 };
	float *w = random_floats(&rng, V * C, 1), *dy = random_floats(&rng, T * C, 1), *dw = zeros(V * C);
	linear_args a = { .w = w, .tokens = tokens, .T = T, .N = V, .K = C };

	(void)state;
	assert_int_equal(kf_ops_ref.embed_dw(ref, dw, dy, tokens, 1.5f, T, V, C, NULL), KF_OK);
	check("embed dw", run_embed, &a, dy, T * C, w, dw, V * C);
	kf_free(dw);
	kf_free(dy);
	kf_free(w);
}

/* ---- norm, rotary ---------------------------------------------------------------- */

typedef struct { float *in, *w; const float *freq; const int32_t *offset; int64_t rows; int C, S,
	heads; } norm_args;

static void run_rmsnorm(void *arg, float *out)
{
	const norm_args *a = arg;

	kf_ops_ref.rmsnorm(ref, out, NULL, a->in, a->w, 1e-5f, a->rows, a->C);
}

static void test_rmsnorm(void **state)
{
	(void)state;
	for (int C = 1; C <= 80; C += 79) {
		const int64_t rows = 5;
		const size_t c = (size_t)C, n = 5 * c;
		float *in = random_floats(&rng, n, 2), *w = random_floats(&rng, c, 1),
			*dy = random_floats(&rng, n, 1);
		float *y = zeros(n), *rs = zeros(5), *dx = zeros(n), *dw = zeros(c);
		norm_args a = { .in = in, .w = w, .rows = rows, .C = C };

		for (size_t i = 0; i < n; i++) in[i] += in[i] < 0 ? -0.5f : 0.5f;   /* C = 1 is a step at 0 */
		kf_ops_ref.rmsnorm(ref, y, rs, in, w, 1e-5f, rows, C);
		kf_ops_ref.rmsnorm_dx(ref, dx, dw, dy, in, w, rs, rows, C);
		check("rmsnorm dx", run_rmsnorm, &a, dy, n, in, dx, n);
		check("rmsnorm dw", run_rmsnorm, &a, dy, n, w, dw, c);
		kf_free(dw);
		kf_free(dx);
		kf_free(rs);
		kf_free(y);
		kf_free(dy);
		kf_free(w);
		kf_free(in);
	}
}

static void run_rope(void *arg, float *out)
{
	const norm_args *a = arg;

	memcpy(out, a->in, (size_t)a->offset[a->S] * (size_t)a->heads * (size_t)a->C * sizeof *out);
	kf_ops_ref.rope(ref, out, a->freq, a->offset, a->S, a->heads, a->C, false);
}

static void test_rope(void **state)
{
	enum { heads = 2, D = 6, T = 9 };
	const int32_t offset[] = { 0, 1, 9 };
	const float freq[D / 2] = { 1, 0.3f, 0.01f };
	float *in = random_floats(&rng, T * heads * D, 1), *dy = random_floats(&rng, T * heads * D, 1),
		*dx = copy_floats(dy, T * heads * D);
	norm_args a = { .in = in, .freq = freq, .offset = offset, .C = D, .S = 2, .heads = heads };
	float two[8] = { 1, 0, 0, 1, 1, 0, 0, 1 };   /* two rows, D = 4: pairs (0, 2) and (1, 3) */

	(void)state;
	kf_ops_ref.rope(ref, dx, freq, offset, 2, heads, D, true);
	check("rope dx", run_rope, &a, dy, T * heads * D, in, dx, T * heads * D);
	/* By hand: (1, 0) turns by its frequency to (cos, sin), and (0, 1) to (-sin, cos). */
	kf_ops_ref.rope(ref, two, (const float[]){ 0.5f, 0.25f }, (const int32_t[]){ 0, 2 }, 1, 1, 4, false);
	close_floats("rope by hand", two, (const float[]){ 1, 0, 0, 1, cosf(0.5f), -sinf(0.25f), sinf(0.5f),
		cosf(0.25f) }, 8, 1e-6);
	kf_free(dx);
	kf_free(dy);
	kf_free(in);
}

/* ---- attention ------------------------------------------------------------------- */

typedef struct { float *q, *k, *v; const int32_t *offset; int S, H, G, D, window; float scale; } attn_args;

static void run_attention(void *arg, float *out)
{
	const attn_args *a = arg;

	assert_int_equal(kf_ops_ref.attention(ref, out, NULL, a->q, a->k, a->v, a->offset, a->S, a->H, a->G, a->D,
		a->scale, a->window, NULL), KF_OK);
}

static void attention_case(const int32_t *offset, int S, int H, int G, int D, int window)
{
	const size_t T = (size_t)offset[S], nq = T * (size_t)(H * D), nk = T * (size_t)(G * D);
	float *q = random_floats(&rng, nq, 1), *k = random_floats(&rng, nk, 1), *v = random_floats(&rng, nk, 1),
		*dout = random_floats(&rng, nq, 1);
	float *out = zeros(nq), *lse = zeros(T * (size_t)H), *dq = zeros(nq), *dk = zeros(nk), *dv = zeros(nk);
	attn_args a = { q, k, v, offset, S, H, G, D, window, 0.4f };

	assert_int_equal(kf_ops_ref.attention(ref, out, lse, q, k, v, offset, S, H, G, D, a.scale, window, NULL),
		KF_OK);
	assert_int_equal(kf_ops_ref.attention_dx(ref, dq, dk, dv, dout, out, lse, q, k, v, offset, S, H, G, D,
		a.scale, window, NULL), KF_OK);
	check("attention dq", run_attention, &a, dout, nq, q, dq, nq);
	check("attention dk", run_attention, &a, dout, nq, k, dk, nk);
	check("attention dv", run_attention, &a, dout, nq, v, dv, nk);
	kf_free(dv);
	kf_free(dk);
	kf_free(dq);
	kf_free(lse);
	kf_free(out);
	kf_free(dout);
	kf_free(v);
	kf_free(k);
	kf_free(q);
}

static void test_attention(void **state)
{
	(void)state;
	attention_case((const int32_t[]){ 0, 1 }, 1, 1, 1, 4, 0);
	attention_case((const int32_t[]){ 0, 7 }, 1, 2, 2, 6, 0);
	attention_case((const int32_t[]){ 0, 1, 9, 14 }, 3, 4, 2, 8, 0);
	attention_case((const int32_t[]){ 0, 1, 9, 14 }, 3, 3, 1, 8, 3);
	/* By hand: equal scores share alike; a window of two sees the row and the one before. */
	{
		const float z[3] = { 0, 0, 0 }, v[3] = { 1, 2, 6 };
		float out[3], lse[3];

		assert_int_equal(kf_ops_ref.attention(ref, out, lse, z, z, v, (const int32_t[]){ 0, 3 }, 1, 1, 1, 1,
			1, 0, NULL), KF_OK);
		close_floats("attention by hand", out, (const float[]){ 1, 1.5f, 3 }, 3, 1e-6);
		close_floats("lse by hand", lse, (const float[]){ 0, logf(2), logf(3) }, 3, 1e-6);
		assert_int_equal(kf_ops_ref.attention(ref, out, NULL, z, z, v, (const int32_t[]){ 0, 3 }, 1, 1, 1, 1,
			1, 2, NULL), KF_OK);
		close_floats("window by hand", out, (const float[]){ 1, 1.5f, 4 }, 3, 1e-6);
	}
}

/* ---- gated activations ------------------------------------------------------------ */

typedef struct { float *gate, *up; int act; size_t n; } glu_args;

static void run_glu(void *arg, float *out)
{
	const glu_args *a = arg;

	kf_ops_ref.glu(ref, out, a->gate, a->up, a->act, a->n);
}

static void test_glu(void **state)
{
	const size_t n = 60;

	(void)state;
	for (int act = 0; act < 2; act++) {
		float *gate = random_floats(&rng, n, 2), *up = random_floats(&rng, n, 1),
			*dy = random_floats(&rng, n, 1), *dg = zeros(n), *du = zeros(n);
		glu_args a = { gate, up, act, n };

		kf_ops_ref.glu_dx(ref, dg, du, dy, gate, up, act, n);
		check("glu dgate", run_glu, &a, dy, n, gate, dg, n);
		check("glu dup", run_glu, &a, dy, n, up, du, n);
		kf_free(du);
		kf_free(dg);
		kf_free(dy);
		kf_free(up);
		kf_free(gate);
	}
	/* SiLU(1) = 0.7310586, GELU(1) = 0.8411920 (tanh form) */
	for (int act = 0; act < 2; act++) {
		float one = 1, y;

		kf_ops_ref.glu(ref, &y, &one, &one, act, 1);
		assert_true(fabs(y - (act ? 0.8411920 : 0.7310586)) < 1e-6);
	}
}

static int setup(void **state)
{
	(void)state;
	ref = exec_of(&kf_ops_ref, 1, KF_COMPUTE_AUTO, &pool);
	kf_rng_seed(&rng, 2);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	kf_exec_free(ref);
	kf_pool_free(pool);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_linear), cmocka_unit_test(test_embed), cmocka_unit_test(test_rmsnorm),
			cmocka_unit_test(test_rope),
		cmocka_unit_test(test_attention), cmocka_unit_test(test_glu),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
