/* The reference's backward against central differences of its forward, at
 * random elements of every input. L = sum(weight * output), weights random. Forward results are
 * floats, so a difference over 2h carries rounding of about 1e-7 sqrt(outputs) / 2h beside the O(h^2) of
 * the formula: with h = 1/64 both stay under the 1e-3 (of the largest gradient, or 1) allowed here, and
 * one step of Richardson's extrapolation (h and h/2) takes most of the second away. */
#include "tests/unit/ops/util.h"

/* tests/unit/emu/test_gradients_emu.c runs all this on another backend */
#ifndef OPS
#define OPS kf_ops_ref
#endif
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
	const kf_mat w = { .rows = a->N, .cols = a->K, .num = a->w };

	assert_int_equal(OPS.linear(ref, out, a->in, &w, a->bias, a->T, false, NULL), KF_OK);
}

static void test_linear(void **state)
{
	enum { T = 7, N = 5, K = 9 };
	float *in = random_floats(&rng, T * K, 1), *w = random_floats(&rng, N * K, 1),
		*bias = random_floats(&rng, N, 1), *dy = random_floats(&rng, T * N, 1);
	float *dx = zeros(T * K), *dw = zeros(N * K), *db = zeros(N);
	linear_args a = { in, w, bias, NULL, T, N, K };
	const kf_mat m = { .rows = N, .cols = K, .num = w };

	(void)state;
	assert_int_equal(OPS.linear_dx(ref, dx, dy, &m, T, false, NULL), KF_OK);
	assert_int_equal(OPS.linear_dw(ref, dw, db, dy, in, T, N, K, NULL), KF_OK);
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
	const kf_mat w = { .rows = a->N, .cols = a->K, .num = a->w };

	assert_int_equal(OPS.embed(ref, out, &w, a->tokens, 1.5f, a->T, NULL), KF_OK);
}

static void test_embed(void **state)
{
	enum { T = 6, V = 4, C = 5 };
	const int32_t tokens[T] = { 3, 0, 3, 1, 3, 0 };
	float *w = random_floats(&rng, V * C, 1), *dy = random_floats(&rng, T * C, 1), *dw = zeros(V * C);
	linear_args a = { .w = w, .tokens = tokens, .T = T, .N = V, .K = C };

	(void)state;
	assert_int_equal(OPS.embed_dw(ref, dw, dy, tokens, 1.5f, T, V, C, NULL), KF_OK);
	check("embed dw", run_embed, &a, dy, T * C, w, dw, V * C);
	kf_free(dw);
	kf_free(dy);
	kf_free(w);
}

/* ---- norm, rotary ---------------------------------------------------------------- */

typedef struct { float *in, *w, *b; const float *freq; const int32_t *offset; int64_t rows; int C, S,
	heads, R; float scale; } norm_args;

static void run_rmsnorm(void *arg, float *out)
{
	const norm_args *a = arg;

	OPS.rmsnorm(ref, out, NULL, a->in, a->w, 1e-5f, a->rows, a->C);
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
		OPS.rmsnorm(ref, y, rs, in, w, 1e-5f, rows, C);
		OPS.rmsnorm_dx(ref, dx, dw, dy, in, w, rs, rows, C);
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

static void run_layernorm(void *arg, float *out)
{
	const norm_args *a = arg;

	OPS.layernorm(ref, out, NULL, a->in, a->w, a->b, 1e-5f, a->rows, a->C);
}

static void test_layernorm(void **state)
{
	(void)state;
	for (int C = 2; C <= 80; C += 26) {
		const int64_t rows = 5;
		const size_t c = (size_t)C, n = 5 * c;
		float *in = random_floats(&rng, n, 2), *w = random_floats(&rng, c, 1), *b = random_floats(&rng, c, 1),
			*dy = random_floats(&rng, n, 1);
		float *y = zeros(n), *stat = zeros(10), *dx = zeros(n), *dw = zeros(c), *db = zeros(c);
		norm_args a = { .in = in, .w = w, .b = b, .rows = rows, .C = C };

		for (size_t i = 0; i < n; i++) in[i] += i % 2 ? -1.5f : 1.5f;   /* rows of two equal values have no slope */
		OPS.layernorm(ref, y, stat, in, w, b, 1e-5f, rows, C);
		OPS.layernorm_dx(ref, dx, dw, db, dy, in, w, stat, rows, C);
		check("layernorm dx", run_layernorm, &a, dy, n, in, dx, n);
		check("layernorm dw", run_layernorm, &a, dy, n, w, dw, c);
		check("layernorm db", run_layernorm, &a, dy, n, b, db, c);
		kf_free(db);
		kf_free(dw);
		kf_free(dx);
		kf_free(stat);
		kf_free(y);
		kf_free(dy);
		kf_free(b);
		kf_free(w);
		kf_free(in);
	}
	/* By hand: (1, 3) has mean 2 and deviation 1. */
	{
		float y[2], stat[2];

		OPS.layernorm(ref, y, stat, (const float[]){ 1, 3 }, (const float[]){ 2, 5 }, (const float[]){ 10, 20 }, 0,
			1, 2);
		close_floats("layernorm by hand", y, (const float[]){ 8, 25 }, 2, 1e-6);
		close_floats("its mean and 1 / deviation", stat, (const float[]){ 2, 1 }, 2, 1e-6);
		OPS.layernorm(ref, y, NULL, (const float[]){ 1, 3 }, (const float[]){ 2, 5 }, NULL, 0, 1, 2);
		close_floats("layernorm without bias", y, (const float[]){ -2, 5 }, 2, 1e-6);
	}
}

static void run_rope(void *arg, float *out)
{
	const norm_args *a = arg;

	memcpy(out, a->in, (size_t)a->offset[a->S] * (size_t)a->heads * (size_t)a->C * sizeof *out);
	OPS.rope(ref, out, &(kf_rotary){ a->freq, a->R, a->scale }, a->offset, a->S, a->heads, a->C, false);
}

static void test_rope(void **state)
{
	enum { heads = 2, D = 6, T = 9 };
	const int32_t offset[] = { 0, 1, 9 };
	const float freq[D / 2] = { 1, 0.3f, 0.01f };
	float two[8] = { 1, 0, 0, 1, 1, 0, 0, 1 };   /* two rows, D = 4: pairs (0, 2) and (1, 3) */

	(void)state;
	for (int part = 0; part < 2; part++) {   /* all of a head; a part of it, scaled */
		float *in = random_floats(&rng, T * heads * D, 1), *dy = random_floats(&rng, T * heads * D, 1),
			*dx = copy_floats(dy, T * heads * D);
		norm_args a = { .in = in, .freq = freq, .offset = offset, .C = D, .S = 2, .heads = heads, .R = part ? 4 : D,
			.scale = part ? 1.3f : 1 };

		OPS.rope(ref, dx, &(kf_rotary){ freq, a.R, a.scale }, offset, 2, heads, D, true);
		check("rope dx", run_rope, &a, dy, T * heads * D, in, dx, T * heads * D);
		kf_free(dx);
		kf_free(dy);
		kf_free(in);
	}
	/* By hand: (1, 0) turns by its frequency to (cos, sin), and (0, 1) to (-sin, cos). */
	OPS.rope(ref, two, &(kf_rotary){ (const float[]){ 0.5f, 0.25f }, 4, 1 }, (const int32_t[]){ 0, 2 }, 1, 1, 4, false);
	close_floats("rope by hand", two, (const float[]){ 1, 0, 0, 1, cosf(0.5f), -sinf(0.25f), sinf(0.5f),
		cosf(0.25f) }, 8, 1e-6);
}

/* ---- attention ------------------------------------------------------------------- */

typedef struct { float *q, *k, *v; const int32_t *offset; int S; kf_attn a; } attn_args;

static void run_attention(void *arg, float *out)
{
	const attn_args *a = arg;

	assert_int_equal(OPS.attention(ref, out, NULL, a->q, a->k, a->v, a->offset, a->S, &a->a, NULL), KF_OK);
}

static void attention_case(const int32_t *offset, int S, kf_attn shape)
{
	const size_t T = (size_t)offset[S], nq = T * (size_t)(shape.H * shape.D), nk = T * (size_t)(shape.G * shape.D);
	float *q = random_floats(&rng, nq, 1), *k = random_floats(&rng, nk, 1), *v = random_floats(&rng, nk, 1),
		*dout = random_floats(&rng, nq, 1);
	float *out = zeros(nq), *lse = zeros(T * (size_t)shape.H), *dq = zeros(nq), *dk = zeros(nk), *dv = zeros(nk);
	attn_args a = { q, k, v, offset, S, shape };

	a.a.scale = 0.4f;
	assert_int_equal(OPS.attention(ref, out, lse, q, k, v, offset, S, &a.a, NULL), KF_OK);
	assert_int_equal(OPS.attention_dx(ref, dq, dk, dv, dout, out, lse, q, k, v, offset, S, &a.a, NULL), KF_OK);
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
	attention_case((const int32_t[]){ 0, 1 }, 1, (kf_attn){ .H = 1, .G = 1, .D = 4, .window = 0 });
	attention_case((const int32_t[]){ 0, 7 }, 1, (kf_attn){ .H = 2, .G = 2, .D = 6, .window = 0 });
	attention_case((const int32_t[]){ 0, 1, 9, 14 }, 3, (kf_attn){ .H = 4, .G = 2, .D = 8, .window = 0 });
	attention_case((const int32_t[]){ 0, 1, 9, 14 }, 3, (kf_attn){ .H = 3, .G = 1, .D = 8, .window = 3 });
	attention_case((const int32_t[]){ 0, 1, 9, 14 }, 3, (kf_attn){ .H = 4, .G = 2, .D = 8, .window = 3, .cap = 0.8f });
	attention_case((const int32_t[]){ 0, 1, 9, 14 }, 3, (kf_attn){ .H = 3, .G = 3, .D = 8,
		.slopes = (const float[]){ 0.5f, 0.125f, 0.25f } });
	/* By hand: equal scores share alike; a window of two sees the row and the one before. */
	{
		const float z[3] = { 0, 0, 0 }, v[3] = { 1, 2, 6 };
		float out[3], lse[3];

		const float l2 = logf(2);
		kf_attn a = { .H = 1, .G = 1, .D = 1, .scale = 1 };
		const int32_t off[] = { 0, 3 };

		assert_int_equal(OPS.attention(ref, out, lse, z, z, v, off, 1, &a, NULL), KF_OK);
		close_floats("attention by hand", out, (const float[]){ 1, 1.5f, 3 }, 3, 1e-6);
		close_floats("lse by hand", lse, (const float[]){ 0, logf(2), logf(3) }, 3, 1e-6);
		a.window = 2;
		assert_int_equal(OPS.attention(ref, out, NULL, z, z, v, off, 1, &a, NULL), KF_OK);
		close_floats("window by hand", out, (const float[]){ 1, 1.5f, 4 }, 3, 1e-6);
		/* A slope of ln 2 halves what is one further away: weights 1; 1/3, 2/3; 1/7, 2/7, 4/7. */
		a.window = 0;
		a.slopes = &l2;
		assert_int_equal(OPS.attention(ref, out, NULL, z, z, v, off, 1, &a, NULL), KF_OK);
		close_floats("ALiBi by hand", out, (const float[]){ 1, 5 / 3.f, 29 / 7.f }, 3, 1e-6);
		/* Scores of 0 and 1000 under a cap of ln 3 are 0 and ln 3: weights 1/4 and 3/4. */
		a.slopes = NULL;
		a.cap = logf(3);
		assert_int_equal(OPS.attention(ref, out, NULL, (const float[]){ 1, 1 }, (const float[]){ 0, 1000 }, v,
			(const int32_t[]){ 0, 2 }, 1, &a, NULL), KF_OK);
		close_floats("cap by hand", out, (const float[]){ 1, 1.75f }, 2, 1e-6);
	}
}

/* ---- gated activations ------------------------------------------------------------ */

typedef struct { float *gate, *up; kf_act act; size_t n; } glu_args;

static void run_glu(void *arg, float *out)
{
	const glu_args *a = arg;

	OPS.glu(ref, out, a->gate, a->up, a->act, a->n);
}

static void test_glu(void **state)
{
	const size_t n = 60;

	(void)state;
	for (kf_act act = 0; act <= KF_ACT_GELU; act++) {
		float *gate = random_floats(&rng, n, 2), *up = random_floats(&rng, n, 1),
			*dy = random_floats(&rng, n, 1), *dg = zeros(n), *du = zeros(n);
		glu_args a = { gate, up, act, n };

		OPS.glu_dx(ref, dg, du, dy, gate, up, act, n);
		check("glu dgate", run_glu, &a, dy, n, gate, dg, n);
		check("glu dup", run_glu, &a, dy, n, up, du, n);
		a.up = NULL;
		OPS.glu_dx(ref, dg, NULL, dy, gate, NULL, act, n);
		check("plain dgate", run_glu, &a, dy, n, gate, dg, n);
		kf_free(du);
		kf_free(dg);
		kf_free(dy);
		kf_free(up);
		kf_free(gate);
	}
	/* SiLU(1) = 0.7310586, GELU(1) = 0.8411920 in its tanh form, 0.8413447 in its own */
	for (kf_act act = 0; act <= KF_ACT_GELU; act++) {
		static const double want[] = { 0.7310586, 0.8411920, 0.8413447 };
		float one = 1, y;

		OPS.glu(ref, &y, &one, &one, act, 1);
		assert_true(fabs(y - want[act]) < 1e-6);
		OPS.glu(ref, &y, &one, NULL, act, 1);
		assert_true(fabs(y - want[act]) < 1e-6);
	}
}

/* ---- experts, fused projections ---------------------------------------------------- */

enum { EXPERTS = 5, CHOSEN = 3, ROUTED = 6 };

static void run_route(void *arg, float *out)
{
	int32_t index[ROUTED * CHOSEN];

	assert_int_equal(OPS.route(ref, out, index, arg, ROUTED, EXPERTS, CHOSEN, NULL), KF_OK);
}

static void test_route(void **state)
{
	const size_t n = ROUTED * EXPERTS, chosen = ROUTED * CHOSEN;
	float *z = zeros(n), *dw = random_floats(&rng, chosen, 1), w[ROUTED * CHOSEN], dz[ROUTED * EXPERTS];
	int32_t index[ROUTED * CHOSEN];
	kf_err err;

	(void)state;
	/* far enough apart that a step changes no choice */
	for (size_t i = 0; i < n; i++) z[i] = 0.4f * (float)((i * 7 + i / EXPERTS) % EXPERTS);
	assert_int_equal(OPS.route(ref, w, index, z, ROUTED, EXPERTS, CHOSEN, NULL), KF_OK);
	OPS.route_dx(ref, dz, dw, w, index, ROUTED, EXPERTS, CHOSEN);
	check("route dlogits", run_route, z, dw, chosen, z, dz, n);
	/* By hand: e^0 and e^ln 3 among the best two; equals go to the lower. */
	z[0] = z[2] = z[4] = 0;
	z[1] = -1;
	z[3] = logf(3);
	assert_int_equal(OPS.route(ref, w, index, z, 1, EXPERTS, 2, NULL), KF_OK);
	close_floats("weights by hand", w, (const float[]){ 0.75f, 0.25f }, 2, 1e-6);
	assert_true(index[0] == 3 && index[1] == 0);
	z[2] = NAN;
	assert_int_equal(OPS.route(ref, w, index, z, 1, EXPERTS, 2, &err), KF_EDATA);
	kf_free(dw);
	kf_free(z);
}

static void test_rows(void **state)
{
	const float in[6] = { 1, 2, 3, 4, 5, 6 }, weight[3] = { 2, 1, -1 };
	const int32_t index[3] = { 2, 0, 2 };
	float y[6] = { 0 }, dot[3];

	(void)state;
	OPS.gather(ref, y, in, index, weight, 3, 2);
	close_floats("gather", y, (const float[]){ 10, 12, 1, 2, -5, -6 }, 6, 0);
	memset(y, 0, sizeof y);
	OPS.scatter(ref, y, in, index, weight, 3, 2);
	close_floats("scatter", y, (const float[]){ 3, 4, 0, 0, -3, -2 }, 6, 0);
	OPS.permute(ref, dot, in, (const int32_t[]){ 2, 0, 1 }, 3, false);
	close_floats("permute", dot, (const float[]){ 3, 1, 2 }, 3, 0);
	OPS.permute(ref, dot, in, (const int32_t[]){ 2, 0, 1 }, 3, true);
	close_floats("permute back", dot, (const float[]){ 2, 3, 1 }, 3, 0);
	OPS.dots(ref, dot, in, in, index, 3, 2);
	close_floats("dots", dot, (const float[]){ 17, 11, 61 }, 3, 0);
}

static void test_split_qkv(void **state)
{
	/* H 4, G 2, D 1: two groups of two queries, a key and a value; the same numbers in turn */
	const kf_attn a = { .H = 4, .G = 2, .D = 1 };
	float grouped[8] = { 1, 2, 5, 7, 3, 4, 6, 8 }, in_turn[8] = { 1, 2, 3, 4, 5, 6, 7, 8 }, q[4], k[2], v[2], back[8];

	(void)state;
	for (int g = 0; g < 2; g++) {
		memset(q, 0, sizeof q);
		OPS.split_qkv(ref, g ? grouped : in_turn, q, k, v, 1, &a, g, false);
		close_floats("queries", q, (const float[]){ 1, 2, 3, 4 }, 4, 0);
		close_floats("keys", k, (const float[]){ 5, 6 }, 2, 0);
		close_floats("values", v, (const float[]){ 7, 8 }, 2, 0);
		OPS.split_qkv(ref, back, q, k, v, 1, &a, g, true);
		close_floats("joined", back, g ? grouped : in_turn, 8, 0);
	}
}

static int setup(void **state)
{
	(void)state;
	ref = exec_of(&OPS, 1, KF_COMPUTE_AUTO, &pool);
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
		cmocka_unit_test(test_attention), cmocka_unit_test(test_glu), cmocka_unit_test(test_layernorm),
		cmocka_unit_test(test_route), cmocka_unit_test(test_rows), cmocka_unit_test(test_split_qkv),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
