/* Every op of the CPU backend against the reference, on odd shapes, with one, two and
 * three threads. Tolerances are relative to the largest element, or 1 (util.h). */
#include "tests/unit/ops/util.h"

#include "common/ops/cpu/vmath.h"
#include "common/ops/moments8.h"

#define TOL 4e-6        /* a float rounding is 6e-8; sums of up to some thousands of terms */
#define COUNT(a) (sizeof(a) / sizeof *(a))

enum { BACKENDS = 3 };  /* one to three threads */

static struct {
	kf_exec *ref, *cpu[BACKENDS];
	kf_pool *pool[BACKENDS + 1];
	kf_rng rng;
} f;

static int setup(void **state)
{
	(void)state;
	f.ref = exec_of(&kf_ops_ref, 1, KF_COMPUTE_AUTO, &f.pool[BACKENDS]);
	for (int i = 0; i < BACKENDS; i++) f.cpu[i] = exec_of(&kf_ops_cpu, i + 1, KF_COMPUTE_F32, &f.pool[i]);
	kf_rng_seed(&f.rng, 1);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	for (int i = 0; i < BACKENDS; i++) kf_exec_free(f.cpu[i]);
	kf_exec_free(f.ref);
	for (int i = 0; i <= BACKENDS; i++) kf_pool_free(f.pool[i]);
	return 0;
}

static void test_vmath(void **state)
{
	double worst = 0;

	(void)state;
	for (double x = -87.2; x < 88.3; x += 0.00037) {
		const double want = exp((float)x);

		worst = fmax(worst, fabs(kf_vexp((float)x) - want) / want);
	}
	assert_true(worst < 2e-7);
	assert_true(kf_vexp(0) == 1);
	assert_true(kf_vexp(-INFINITY) == 0 && kf_vexp(-100) == 0);
	assert_true(isfinite(kf_vexp(1000)) && kf_vexp(1000) > 2e38f);
	assert_true(isnan(kf_vexp(NAN)));
	assert_true(kf_vsigmoid(-1000) < 1e-38f && kf_vsigmoid(1000) == 1);
	for (size_t n = 0; n < 70; n++) {
		float *a = random_floats(&f.rng, n + 1, 1), *b = random_floats(&f.rng, n + 1, 1), m = -INFINITY;
		double dot = 0, square = 0;

		for (size_t i = 0; i < n; i++) {
			dot += (double)a[i] * b[i];
			square += (double)a[i] * a[i];
			m = fmaxf(m, a[i]);
		}
		assert_true(fabs(kf_vdot(a, b, n) - dot) < 1e-5);
		assert_true(fabs(kf_vsumsq(a, n) - square) < 1e-12);
		assert_true(kf_vmax(a, n) == m);
		kf_free(b);
		kf_free(a);
	}
}

/* on: backends to compare; tolerance of the products, bias sums apart */
static void linear_case(kf_exec **on, int backends, double tolerance, int T, int N, int K)
{
	const size_t t = (size_t)T, n = (size_t)N, k = (size_t)K;
	float *w = random_floats(&f.rng, n * k, 1), *bias = random_floats(&f.rng, n, 1);
	float *in = random_floats(&f.rng, t * k, 1), *dy = random_floats(&f.rng, t * n, 1);
	float *y0 = random_floats(&f.rng, t * n, 1), *dx0 = random_floats(&f.rng, t * k, 1);
	float *dw0 = random_floats(&f.rng, n * k, 1), *db0 = random_floats(&f.rng, n, 1);
	kf_mat plain = { .rows = N, .cols = K, .num = w }, packed = packed_of(&plain);

	for (int add = 0; add < 2; add++)
		for (int b = 0; b < 2; b++) {
			float *want = copy_floats(y0, t * n), *dx = copy_floats(dx0, t * k),
				*dw = copy_floats(dw0, n * k), *db = copy_floats(db0, n);

			assert_int_equal(kf_ops_ref.linear(f.ref, want, in, &packed, b ? bias : NULL, T, add, NULL),
				KF_OK);
			assert_int_equal(kf_ops_ref.linear_dx(f.ref, dx, dy, &packed, T, add, NULL), KF_OK);
			assert_int_equal(kf_ops_ref.linear_dw(f.ref, dw, b ? db : NULL, dy, in, T, N, K, NULL), KF_OK);
			for (int i = 0; i < backends; i++)
				for (int p = 0; p < 2; p++) {
					float *y = copy_floats(y0, t * n), *gx = copy_floats(dx0, t * k),
						*gw = copy_floats(dw0, n * k), *gb = copy_floats(db0, n);

					assert_int_equal(kf_ops_cpu.linear(on[i], y, in, p ? &packed : &plain, b ? bias : NULL, T,
						add, NULL), KF_OK);
					close_floats("linear", y, want, t * n, tolerance);
					assert_int_equal(kf_ops_cpu.linear_dx(on[i], gx, dy, p ? &packed : &plain, T, add, NULL),
						KF_OK);
					close_floats("linear_dx", gx, dx, t * k, tolerance);
					assert_int_equal(kf_ops_cpu.linear_dw(on[i], gw, b ? gb : NULL, dy, in, T, N, K, NULL),
						KF_OK);
					close_floats("linear_dw", gw, dw, n * k, tolerance);
					close_floats("linear_dw: db", gb, db, n, TOL);
					kf_free(gb);
					kf_free(gw);
					kf_free(gx);
					kf_free(y);
				}
			kf_free(db);
			kf_free(dw);
			kf_free(dx);
			kf_free(want);
		}
	kf_free(db0);
	kf_free(dw0);
	kf_free(dx0);
	kf_free(y0);
	kf_free(dy);
	kf_free(in);
	kf_free(bias);
	kf_free(w);
}

static void test_linear(void **state)
{
	static const int shapes[][3] = { { 1, 1, 1 }, { 1, 320, 96 }, { 7, 5, 3 }, { 7, 300, 40 }, { 16, 97, 65 },
		{ 129, 80, 64 }, { 129, 33, 130 } };

	(void)state;
	for (size_t i = 0; i < COUNT(shapes); i++)
		linear_case(f.cpu, BACKENDS, TOL, shapes[i][0], shapes[i][1], shapes[i][2]);
	linear_case(f.cpu, BACKENDS, TOL, 3, 2, 60000);    /* panels of few rows */
	linear_case(f.cpu, BACKENDS, TOL, 5, 2000, 2048);  /* two panels */
}

/* Operands are rounded to 8 bits, sums are not: errors of 2^-9 a factor, that average out. */
static void test_bf16(void **state)
{
	static const int shapes[][3] = { { 1, 320, 96 }, { 7, 5, 3 }, { 16, 97, 65 }, { 129, 80, 64 },
		{ 129, 33, 130 }, { 5, 2000, 1200 } };
	kf_exec *x[2];

	(void)state;
	for (int i = 0; i < 2; i++) assert_int_equal(kf_exec_new(&kf_ops_cpu, f.pool[i], KF_COMPUTE_BF16, &x[i], NULL), KF_OK);
	for (size_t i = 0; i < COUNT(shapes); i++)
		linear_case(x, 2, 6e-3, shapes[i][0], shapes[i][1], shapes[i][2]);
	for (int i = 0; i < 2; i++) kf_exec_free(x[i]);
}

static void test_embed(void **state)
{
	enum { T = 129, V = 50, C = 80 };
	float *table = random_floats(&f.rng, V * C, 1), *dy = random_floats(&f.rng, T * C, 1),
		*d0 = random_floats(&f.rng, V * C, 1);
	float *want = random_floats(&f.rng, T * C, 1), *dwant = copy_floats(d0, V * C);
	kf_mat plain = { .rows = V, .cols = C, .num = table }, packed = packed_of(&plain);
	int32_t tokens[T], bad[2] = { 0, V };
	kf_err err;

	(void)state;
	for (int t = 0; t < T; t++) tokens[t] = (int32_t)kf_rng_below(&f.rng, V);
	assert_int_equal(kf_ops_ref.embed(f.ref, want, &packed, tokens, 2.5f, T, NULL), KF_OK);
	assert_int_equal(kf_ops_ref.embed_dw(f.ref, dwant, dy, tokens, 2.5f, T, V, C, NULL), KF_OK);
	for (int i = 0; i < BACKENDS; i++)
		for (int p = 0; p < 2; p++) {
			float *y = random_floats(&f.rng, T * C, 1), *d = copy_floats(d0, V * C);

			assert_int_equal(kf_ops_cpu.embed(f.cpu[i], y, p ? &packed : &plain, tokens, 2.5f, T, NULL),
				KF_OK);
			close_floats("embed", y, want, T * C, 0);
			assert_int_equal(kf_ops_cpu.embed_dw(f.cpu[i], d, dy, tokens, 2.5f, T, V, C, NULL), KF_OK);
			close_floats("embed_dw", d, dwant, V * C, 1e-7);
			assert_int_equal(kf_ops_cpu.embed(f.cpu[i], y, &plain, bad, 1, 2, &err), KF_EINVAL);
			assert_non_null(strstr(err.text, "token 50 of row 1"));
			assert_int_equal(kf_ops_cpu.embed_dw(f.cpu[i], d, dy, bad, 1, 2, V, C, &err), KF_EINVAL);
			kf_free(d);
			kf_free(y);
		}
	assert_int_equal(kf_ops_ref.embed(f.ref, want, &plain, bad, 1, 2, &err), KF_EINVAL);
	kf_free(dwant);
	kf_free(want);
	kf_free(d0);
	kf_free(dy);
	kf_free(table);
}

static void norm_case(int64_t rows, int C)
{
	const size_t n = (size_t)rows * (size_t)C;
	float *in = random_floats(&f.rng, n, 3), *w = random_floats(&f.rng, (size_t)C, 1),
		*dy = random_floats(&f.rng, n, 1);
	float *want = random_floats(&f.rng, n, 1), *rs = random_floats(&f.rng, (size_t)rows, 1);
	float *dx0 = random_floats(&f.rng, n, 1), *dw0 = random_floats(&f.rng, (size_t)C, 1);
	float *dx = copy_floats(dx0, n), *dw = copy_floats(dw0, (size_t)C);

	kf_ops_ref.rmsnorm(f.ref, want, rs, in, w, 1e-6f, rows, C);
	kf_ops_ref.rmsnorm_dx(f.ref, dx, dw, dy, in, w, rs, rows, C);
	for (int i = 0; i < BACKENDS; i++) {
		float *y = copy_floats(in, n), *r = random_floats(&f.rng, (size_t)rows, 1), *gx = copy_floats(dx0, n),
			*gw = copy_floats(dw0, (size_t)C);

		kf_ops_cpu.rmsnorm(f.cpu[i], y, r, i ? in : y, w, 1e-6f, rows, C); /* in place, too */
		close_floats("rmsnorm", y, want, n, TOL);
		close_floats("rmsnorm: rstd", r, rs, (size_t)rows, TOL);
		kf_ops_cpu.rmsnorm(f.cpu[i], y, NULL, in, w, 1e-6f, rows, C);
		close_floats("rmsnorm without rstd", y, want, n, TOL);
		kf_ops_cpu.rmsnorm_dx(f.cpu[i], gx, gw, dy, in, w, rs, rows, C);
		close_floats("rmsnorm_dx", gx, dx, n, TOL);
		close_floats("rmsnorm_dx: dw", gw, dw, (size_t)C, TOL);
		kf_free(gw);
		kf_free(gx);
		kf_free(r);
		kf_free(y);
	}
	kf_free(dw);
	kf_free(dx);
	kf_free(dw0);
	kf_free(dx0);
	kf_free(rs);
	kf_free(want);
	kf_free(dy);
	kf_free(w);
	kf_free(in);
}

static void test_rmsnorm(void **state)
{
	(void)state;
	norm_case(1, 1);
	norm_case(7, 80);
	norm_case(129, 576);
	norm_case(1000, 256);
	norm_case(5, 16411);
}

static void layernorm_case(int64_t rows, int C, bool bias)
{
	const size_t c = (size_t)C, n = (size_t)rows * c;
	float *in = random_floats(&f.rng, n, 3), *w = random_floats(&f.rng, c, 1), *b = random_floats(&f.rng, c, 1),
		*dy = random_floats(&f.rng, n, 1);
	float *want = random_floats(&f.rng, n, 1), *stat = random_floats(&f.rng, 2 * (size_t)rows, 1);
	float *dx0 = random_floats(&f.rng, n, 1), *dw0 = random_floats(&f.rng, c, 1), *db0 = random_floats(&f.rng, c, 1);
	float *dx = copy_floats(dx0, n), *dw = copy_floats(dw0, c), *db = copy_floats(db0, c);

	for (size_t i = 0; i < n; i++) in[i] += 2;   /* a mean that is not small */
	kf_ops_ref.layernorm(f.ref, want, stat, in, w, bias ? b : NULL, 1e-5f, rows, C);
	kf_ops_ref.layernorm_dx(f.ref, dx, dw, bias ? db : NULL, dy, in, w, stat, rows, C);
	for (int i = 0; i < BACKENDS; i++) {
		float *y = copy_floats(in, n), *s = random_floats(&f.rng, 2 * (size_t)rows, 1);
		float *gx = copy_floats(dx0, n), *gw = copy_floats(dw0, c), *gb = copy_floats(db0, c);

		kf_ops_cpu.layernorm(f.cpu[i], y, s, y, w, bias ? b : NULL, 1e-5f, rows, C);
		close_floats("layernorm", y, want, n, TOL);
		close_floats("layernorm: mean, rstd", s, stat, 2 * (size_t)rows, TOL);
		kf_ops_cpu.layernorm_dx(f.cpu[i], gx, gw, bias ? gb : NULL, dy, in, w, stat, rows, C);
		close_floats("layernorm_dx", gx, dx, n, TOL);
		close_floats("layernorm_dx: dw", gw, dw, c, TOL);
		close_floats("layernorm_dx: db", gb, db, c, TOL);
		kf_free(gb);
		kf_free(gw);
		kf_free(gx);
		kf_free(s);
		kf_free(y);
	}
	kf_free(db);
	kf_free(dw);
	kf_free(dx);
	kf_free(db0);
	kf_free(dw0);
	kf_free(dx0);
	kf_free(stat);
	kf_free(want);
	kf_free(dy);
	kf_free(b);
	kf_free(w);
	kf_free(in);
}

static void test_layernorm(void **state)
{
	(void)state;
	layernorm_case(1, 1, true);
	layernorm_case(7, 33, false);
	layernorm_case(300, 257, true);
	layernorm_case(5, 5001, false);
}

static void test_rows(void **state)
{
	const kf_attn a = { .H = 6, .G = 2, .D = 20 };
	const size_t T = 700, nq = T * 120, nk = T * 40, nf = nq + 2 * nk;
	float *fused = random_floats(&f.rng, nf, 1), *weight = random_floats(&f.rng, T, 1), *part[2][3], *y[2], *dot[2];
	int32_t *index = kf_alloc(T, sizeof *index);

	(void)state;
	for (size_t i = 0; i < T; i++) index[i] = (int32_t)kf_rng_below(&f.rng, T);
	for (int i = 0; i < 2; i++) {
		for (int k = 0; k < 3; k++) part[i][k] = kf_zalloc(k ? nk : nq, sizeof(float));
		y[i] = kf_zalloc(nf, sizeof(float));
		dot[i] = kf_zalloc(T, sizeof(float));
	}
	for (int g = 0; g < 2; g++)
		for (int b = 0; b < BACKENDS; b++) {
			kf_ops_ref.split_qkv(f.ref, fused, part[0][0], part[0][1], part[0][2], (int)T, &a, g, false);
			kf_ops_cpu.split_qkv(f.cpu[b], fused, part[1][0], part[1][1], part[1][2], (int)T, &a, g, false);
			for (int k = 0; k < 3; k++) assert_memory_equal(part[0][k], part[1][k], (k ? nk : nq) * sizeof(float));
			kf_ops_cpu.split_qkv(f.cpu[b], y[1], part[1][0], part[1][1], part[1][2], (int)T, &a, g, true);
			assert_memory_equal(y[1], fused, nf * sizeof(float));
			kf_ops_ref.gather(f.ref, y[0], fused, index, g ? weight : NULL, (int)T, 120);
			kf_ops_cpu.gather(f.cpu[b], y[1], fused, index, g ? weight : NULL, (int)T, 120);
			assert_memory_equal(y[1], y[0], nq * sizeof(float));
			kf_ops_ref.scatter(f.ref, y[0], fused, index, g ? weight : NULL, (int)T, 120);
			kf_ops_cpu.scatter(f.cpu[b], y[1], fused, index, g ? weight : NULL, (int)T, 120);
			close_floats("scatter", y[1], y[0], nq, TOL);
			kf_ops_ref.dots(f.ref, dot[0], fused, fused + 1, index, (int)T, 120);
			kf_ops_cpu.dots(f.cpu[b], dot[1], fused, fused + 1, index, (int)T, 120);
			close_floats("dots", dot[1], dot[0], T, TOL);
		}
	for (int i = 0; i < 2; i++) {
		for (int k = 0; k < 3; k++) kf_free(part[i][k]);
		kf_free(y[i]);
		kf_free(dot[i]);
	}
	kf_free(index);
	kf_free(weight);
	kf_free(fused);
}

static const int32_t packs[][6] = { { 0, 1 }, { 0, 7 }, { 0, 129 }, { 0, 1, 1, 8, 137, 138 },
	{ 0, 64, 600, 601 } };
static const int pack_n[] = { 1, 1, 1, 5, 3 };   /* sequences; the fourth has an empty one */

static void test_rope(void **state)
{
	(void)state;
	for (size_t c = 0; c < COUNT(packs); c++)
		for (int D = 64; D <= 256; D += D == 64 ? 16 : 176)
			for (int heads = 1; heads <= 3; heads += 2)
				for (int b = 0; b < 2; b++) {
					const size_t n = (size_t)packs[c][pack_n[c]] * (size_t)heads * (size_t)D;
					const double base = b ? 10000 : 1000000;
					float *v0 = random_floats(&f.rng, n, 1), *want = copy_floats(v0, n), freq[128];

					for (int i = 0; i < D / 2; i++) freq[i] = (float)pow(base, -2.0 * i / D);
					const kf_rotary r = { freq, heads == 3 ? D / 4 * 2 : D, 1 };
					for (int inverse = 0; inverse < 2; inverse++) {
						memcpy(want, v0, n * sizeof *want);
						kf_ops_ref.rope(f.ref, want, &r, packs[c], pack_n[c], heads, D, inverse);
						for (int i = 0; i < BACKENDS; i++) {
							float *v = copy_floats(v0, n);

							kf_ops_cpu.rope(f.cpu[i], v, &r, packs[c], pack_n[c], heads, D, inverse);
							close_floats("rope", v, want, n, 1e-6);
							kf_ops_cpu.rope(f.cpu[i], v, &r, packs[c], pack_n[c], heads, D, !inverse);
							close_floats("rope and back", v, v0, n, 1e-6);
							kf_free(v);
						}
					}
					kf_free(want);
					kf_free(v0);
				}
}

static void attention_case(const int32_t *offset, int S, int H, int G, int D, int window, float cap, const float *slopes)
{
	const size_t T = (size_t)offset[S], nq = T * (size_t)H * (size_t)D, nk = T * (size_t)G * (size_t)D,
		nl = T * (size_t)H;
	const kf_attn a = { .H = H, .G = G, .D = D, .scale = (float)(1.5 / sqrt(D)), .window = window,
		.cap = cap, .slopes = slopes };
	float *q = random_floats(&f.rng, nq, 1.5), *k = random_floats(&f.rng, nk, 1.5),
		*v = random_floats(&f.rng, nk, 1), *dout = random_floats(&f.rng, nq, 1);
	float *out = random_floats(&f.rng, nq, 1), *lse = random_floats(&f.rng, nl, 1);
	float *dq = random_floats(&f.rng, nq, 1), *dk = random_floats(&f.rng, nk, 1),
		*dv = random_floats(&f.rng, nk, 1);

	assert_int_equal(kf_ops_ref.attention(f.ref, out, lse, q, k, v, offset, S, &a, NULL),
		KF_OK);
	assert_int_equal(kf_ops_ref.attention_dx(f.ref, dq, dk, dv, dout, out, lse, q, k, v, offset, S, &a, NULL), KF_OK);
	for (int i = 0; i < BACKENDS; i++) {
		float *o = random_floats(&f.rng, nq, 1), *l = random_floats(&f.rng, nl, 1);
		float *gq = random_floats(&f.rng, nq, 1), *gk = random_floats(&f.rng, nk, 1),
			*gv = random_floats(&f.rng, nk, 1);

		memset(o, 0xff, nq * sizeof *o);   /* NaN: what is written must not depend on what was there */
		memset(gq, 0xff, nq * sizeof *gq);
		memset(gk, 0xff, nk * sizeof *gk);
		assert_int_equal(kf_ops_cpu.attention(f.cpu[i], o, l, q, k, v, offset, S, &a, NULL), KF_OK);
		close_floats("attention", o, out, nq, TOL);
		close_floats("attention: lse", l, lse, nl, TOL);
		memset(o, 0xff, nq * sizeof *o);
		assert_int_equal(kf_ops_cpu.attention(f.cpu[i], o, NULL, q, k, v, offset, S, &a, NULL), KF_OK);
		close_floats("attention without lse", o, out, nq, TOL);
		assert_int_equal(kf_ops_cpu.attention_dx(f.cpu[i], gq, gk, gv, dout, out, lse, q, k, v, offset, S, &a, NULL), KF_OK);
		close_floats("attention_dx: dq", gq, dq, nq, 2 * TOL);
		close_floats("attention_dx: dk", gk, dk, nk, 4 * TOL);
		close_floats("attention_dx: dv", gv, dv, nk, 2 * TOL);
		kf_free(gv);
		kf_free(gk);
		kf_free(gq);
		kf_free(l);
		kf_free(o);
	}
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

/* Sequences whose first parts stand before them, in rows of another place and in another order: what whole sequences give. */
static void attention_after_case(const int32_t *whole, int S, int H, int G, int D, int window, float cap, const float *slopes)
{
	const size_t T = (size_t)whole[S], qs = (size_t)H * (size_t)D, ks = (size_t)G * (size_t)D;
	const kf_attn a = { .H = H, .G = G, .D = D, .scale = (float)(1.5 / sqrt(D)), .window = window, .cap = cap, .slopes = slopes };
	const kf_rotary r = { (const float[]){ 1, 0.25f }, 4, 1 };
	float *q = random_floats(&f.rng, T * qs, 1.5), *k = random_floats(&f.rng, T * ks, 1.5), *v = random_floats(&f.rng, T * ks, 1);
	float *turned = copy_floats(q, T * qs), *all = random_floats(&f.rng, T * qs, 1);
	float *pk = kf_alloc(T * ks, sizeof *pk), *pv = kf_alloc(T * ks, sizeof *pv);
	float *oq = kf_alloc(T * qs, sizeof *oq), *ok = kf_alloc(T * ks, sizeof *ok), *ov = kf_alloc(T * ks, sizeof *ov);
	float *want = kf_alloc(T * qs, sizeof *want), *wt = kf_alloc(T * qs, sizeof *wt);
	int32_t *offset = kf_alloc((size_t)S + 1, sizeof *offset), *row = kf_alloc((size_t)S, sizeof *row), *n = kf_alloc((size_t)S, sizeof *n);
	int32_t *index = kf_alloc(T, sizeof *index), at = 0;
	const kf_past past = { pk, pv, row, n };

	kf_ops_ref.rope(f.ref, turned, &r, whole, S, H, D, false);
	assert_int_equal(kf_ops_ref.attention(f.ref, all, NULL, q, k, v, whole, S, &a, NULL), KF_OK);
	offset[0] = 0;
	for (int s = S - 1; s >= 0; s--) {   /* the last sequence's past first */
		const int32_t len = whole[s + 1] - whole[s];

		n[s] = len ? (int32_t)kf_rng_below(&f.rng, (uint64_t)len) : 0;
		row[s] = at;
		for (int32_t i = 0; i < n[s]; i++) index[i] = at + i;
		kf_ops_ref.store(f.ref, pk, k + (size_t)whole[s] * ks, index, n[s], (int)ks);
		kf_ops_cpu.store(f.cpu[0], pv, v + (size_t)whole[s] * ks, index, n[s], (int)ks);
		at += n[s];
	}
	for (int s = 0; s < S; s++) {
		const size_t from = (size_t)(whole[s] + n[s]), to = (size_t)offset[s], own = (size_t)whole[s + 1] - from;

		offset[s + 1] = offset[s] + (int32_t)own;
		memcpy(oq + to * qs, q + from * qs, own * qs * sizeof *oq);
		memcpy(ok + to * ks, k + from * ks, own * ks * sizeof *ok);
		memcpy(ov + to * ks, v + from * ks, own * ks * sizeof *ov);
		memcpy(want + to * qs, all + from * qs, own * qs * sizeof *want);
		memcpy(wt + to * qs, turned + from * qs, own * qs * sizeof *wt);
	}
	const size_t m = (size_t)offset[S] * qs;

	for (int i = -1; i < BACKENDS; i++) {
		const kf_ops *ops = i < 0 ? &kf_ops_ref : &kf_ops_cpu;
		kf_exec *x = i < 0 ? f.ref : f.cpu[i];
		float *o = kf_alloc(T * qs, sizeof *o), *t = copy_floats(oq, m);

		memset(o, 0xff, T * qs * sizeof *o);
		assert_int_equal(ops->attention_after(x, o, oq, ok, ov, offset, S, &past, &a, NULL), KF_OK);
		close_floats("attention_after", o, want, m, TOL);
		ops->rope_after(x, t, &r, offset, n, S, H, D);
		close_floats("rope_after", t, wt, m, 1e-6);
		kf_free(t);
		kf_free(o);
	}
	void *const own[] = { q, k, v, turned, all, pk, pv, oq, ok, ov, want, wt, offset, row, n, index };

	for (size_t i = 0; i < COUNT(own); i++) kf_free(own[i]);
}

static void test_attention_after(void **state)
{
	(void)state;
	for (int round = 0; round < 2; round++) {
		for (size_t c = 0; c < COUNT(packs); c++) {
			attention_after_case(packs[c], pack_n[c], 3, 1, 64, 0, 0, NULL);
			attention_after_case(packs[c], pack_n[c], 4, 2, 80, round ? 5 * round : 1, 0, NULL);
		}
		/* blocks of keys on both sides, and windows that begin before, on and after the border */
		attention_after_case((const int32_t[]){ 0, 1300, 2000 }, 2, 2, 1, 64, 0, 0, NULL);
		attention_after_case((const int32_t[]){ 0, 3, 1203 }, 2, 1, 1, 80, 512, 0, NULL);
	}
	attention_after_case(packs[3], pack_n[3], 4, 2, 64, 5, 0.7f, NULL);
	attention_after_case(packs[3], pack_n[3], 4, 1, 64, 0, 0, (const float[]){ 0.5f, 0.25f, 1, 0.125f });
}

static void test_attention(void **state)
{
	static const int heads[][2] = { { 1, 1 }, { 3, 1 }, { 4, 2 } }, sizes[] = { 64, 80, 256 },
		windows[] = { 0, 1, 5, 100 };

	(void)state;
	for (size_t c = 0; c < COUNT(packs); c++)
		for (size_t h = 0; h < COUNT(heads); h++) {
			const size_t d = (c + h) % COUNT(sizes), w = (c + 2 * h) % COUNT(windows);

			attention_case(packs[c], pack_n[c], heads[h][0], heads[h][1], sizes[d], windows[w], 0, NULL);
			attention_case(packs[c], pack_n[c], heads[h][0], heads[h][1], 64, 0, 0, NULL);
		}
	/* Longer than a block of keys, with and without a window that ends inside one. */
	attention_case((const int32_t[]){ 0, 1300 }, 1, 2, 1, 64, 0, 0, NULL);
	attention_case((const int32_t[]){ 0, 3, 1203 }, 2, 1, 1, 80, 512, 0, NULL);
	attention_case((const int32_t[]){ 0, 5 }, 1, 2, 2, 4, 2, 0, NULL);
	/* Capped scores, scores with a slope. */
	attention_case(packs[3], pack_n[3], 4, 2, 64, 5, 0.7f, NULL);
	attention_case((const int32_t[]){ 0, 3, 703 }, 2, 2, 1, 64, 0, 2, NULL);
	attention_case(packs[3], pack_n[3], 3, 3, 64, 0, 0, (const float[]){ 0.5f, 0.01f, 0.125f });
	attention_case((const int32_t[]){ 0, 3, 703 }, 2, 2, 1, 64, 0, 0, (const float[]){ 0.001f, 0.3f });
}

static void test_glu(void **state)
{
	static const size_t sizes[] = { 1, 7, 129, 100003 };

	(void)state;
	for (size_t c = 0; c < COUNT(sizes); c++)
		for (kf_act act = 0; act <= KF_ACT_GELU; act++) {
			const size_t n = sizes[c];
			float *gate = random_floats(&f.rng, n, 4), *up = random_floats(&f.rng, n, 1),
				*dy = random_floats(&f.rng, n, 1);
			float *want = copy_floats(up, n), *dg = copy_floats(up, n), *du = copy_floats(up, n), *plain = copy_floats(up, n);

			gate[0] = n % 2 ? -150 : 150;   /* both ends of exp */
			kf_ops_ref.glu(f.ref, want, gate, up, act, n);
			kf_ops_ref.glu_dx(f.ref, dg, du, dy, gate, up, act, n);
			for (int i = 0; i < BACKENDS; i++) {
				float *y = copy_floats(gate, n), *g = copy_floats(gate, n), *u = copy_floats(up, n),
					*d = copy_floats(dy, n);

				kf_ops_cpu.glu(f.cpu[i], y, y, up, act, n);
				close_floats("glu", y, want, n, 2e-6);
				kf_ops_cpu.glu_dx(f.cpu[i], g, u, dy, g, u, act, n);
				close_floats("glu_dx: dgate", g, dg, n, 2e-6);
				close_floats("glu_dx: dup", u, du, n, 2e-6);
				kf_ops_cpu.glu_dx(f.cpu[i], y, d, dy, gate, up, act, n);
				close_floats("glu_dx: dgate, apart", y, dg, n, 2e-6);
				kf_ops_ref.glu(f.ref, plain, gate, NULL, act, n);
				kf_ops_cpu.glu(f.cpu[i], y, gate, NULL, act, n);
				close_floats("glu without a factor", y, plain, n, 2e-6);
				kf_ops_ref.glu_dx(f.ref, plain, NULL, dy, gate, NULL, act, n);
				memcpy(y, gate, n * sizeof *y);
				kf_ops_cpu.glu_dx(f.cpu[i], y, NULL, dy, y, NULL, act, n);
				close_floats("glu_dx without a factor", y, plain, n, 2e-6);
				kf_free(d);
				kf_free(u);
				kf_free(g);
				kf_free(y);
			}
			kf_free(plain);
			kf_free(du);
			kf_free(dg);
			kf_free(want);
			kf_free(dy);
			kf_free(up);
			kf_free(gate);
		}
}

static void test_sums(void **state)
{
	static const size_t sizes[] = { 0, 1, 7, 129, 65536, 300001 };

	(void)state;
	for (size_t c = 0; c < COUNT(sizes); c++) {
		const size_t n = sizes[c];
		float *a = random_floats(&f.rng, n, 1), *b = random_floats(&f.rng, n, 1), *want = copy_floats(a, n);
		const kf_nums two[] = { { a, KF_NUM_F32, n }, { b, KF_NUM_F32, n / 3 } };
		const double sum = kf_ops_ref.sumsq(f.ref, two, 1), more = kf_ops_ref.sumsq(f.ref, two, 2);
		double first = 0;

		kf_ops_ref.add(f.ref, want, b, n);
		for (int i = 0; i < BACKENDS; i++) {
			float *y = copy_floats(a, n);
			double s = kf_ops_cpu.sumsq(f.cpu[i], two, 1);

			kf_ops_cpu.add(f.cpu[i], y, b, n);
			close_floats("add", y, want, n, 0);
			if (!i) first = s;
			assert_true(s == first);   /* the same to the bit at any number of threads */
			assert_true(fabs(s - sum) <= 1e-12 * sum);
			assert_true(kf_ops_cpu.sumsq(f.cpu[i], two, 2) == s + kf_ops_cpu.sumsq(f.cpu[i], two + 1, 1));
			assert_true(fabs(s + kf_ops_cpu.sumsq(f.cpu[i], two + 1, 1) - more) <= 1e-12 * more);
			kf_free(y);
		}
		kf_free(want);
		kf_free(b);
		kf_free(a);
	}
}

/* Moments in 8 bits: the backends agree to the chance of a rounding, the same at any number of threads, and what is
 * unpacked is near what float moments would be, without a bias. */
static void test_adamw8(void **state)
{
	enum { N = 70001, BLOCKS = (N + KF_MOMENT_BLOCK - 1) / KF_MOMENT_BLOCK, STEPS = 20 };
	float *w0 = random_floats(&f.rng, N, 1), *g = random_floats(&f.rng, N, 1), *want = copy_floats(w0, N);
	float *m = kf_zalloc(N, sizeof *m), *v = kf_zalloc(N, sizeof *v);
	int8_t *m8[BACKENDS + 1];
	uint8_t *v8[BACKENDS + 1];
	float *w[BACKENDS + 1], *sm[BACKENDS + 1], *sv[BACKENDS + 1];
	double bias = 0, size = 0, off = 0;
	int differ = 0;

	(void)state;
	for (int i = 0; i <= BACKENDS; i++) {
		w[i] = copy_floats(w0, N);
		m8[i] = kf_zalloc(N, 1);
		v8[i] = kf_zalloc(N, 1);
		sm[i] = kf_zalloc(BLOCKS, sizeof *sm[i]);
		sv[i] = kf_zalloc(BLOCKS, sizeof *sv[i]);
	}
	for (int s = 1; s <= STEPS; s++) {
		const kf_adamw_opts o = { 0.5f, 1e-3f, 0.9f, 0.95f, 1e-8f, 0.1f, s };

		kf_ops_ref.adamw(f.ref, &(kf_adamw){ .w = want, .g = g, .m = m, .v = v, .n = N }, &o);
		for (int i = 0; i <= BACKENDS; i++) {
			kf_exec *x = i < BACKENDS ? f.cpu[i] : f.ref;

			x->ops->adamw(x, &(kf_adamw){ .w = w[i], .g = g, .m8 = m8[i], .v8 = v8[i], .m_scale = sm[i], .v_scale = sv[i], .n = N,
				.salt = 7 }, &o);
		}
	}
	for (int i = 1; i < BACKENDS; i++) {
		assert_memory_equal(w[i], w[0], N * sizeof *w0);
		assert_memory_equal(m8[i], m8[0], N);
		assert_memory_equal(v8[i], v8[0], N);
	}
	for (size_t i = 0; i < N; i++) {
		const double got = (double)kf_moment_m(m8[0][i], sm[0][i / KF_MOMENT_BLOCK]);

		differ += m8[0][i] != m8[BACKENDS][i] || v8[0][i] != v8[BACKENDS][i];
		bias += got - (double)m[i];
		size += fabs((double)m[i]);
		off += fabs((double)w[0][i] - (double)want[i]);
	}
	assert_true(differ < N / 50);
	assert_true(fabs(bias) < 1e-3 * size);
	assert_true(off / N < 0.02 * STEPS * 1e-3);   /* a weight moves by about 1e-3 a step */
	for (int i = 0; i <= BACKENDS; i++) {
		kf_free(w[i]);
		kf_free(m8[i]);
		kf_free(v8[i]);
		kf_free(sm[i]);
		kf_free(sv[i]);
	}
	kf_free(v);
	kf_free(m);
	kf_free(want);
	kf_free(g);
	kf_free(w0);
}

/* A parameter in parts ends with the same bits, also where rounding is by chance. */
static void test_adamw_parts(void **state)
{
	enum { N = 3001, BLOCKS = (N + KF_MOMENT_BLOCK - 1) / KF_MOMENT_BLOCK, CUT = 5 * KF_MOMENT_BLOCK };
	float *w0 = random_floats(&f.rng, N, 1), *g = random_floats(&f.rng, N, 1);

	(void)state;
	for (int i = 0; i <= BACKENDS; i++) {
		kf_exec *x = i < BACKENDS ? f.cpu[i] : f.ref;
		float *w[2], *sm[2], *sv[2];
		int8_t *m8[2];
		uint8_t *v8[2];

		for (int k = 0; k < 2; k++) {
			w[k] = copy_floats(w0, N);
			m8[k] = kf_zalloc(N, 1);
			v8[k] = kf_zalloc(N, 1);
			sm[k] = kf_zalloc(BLOCKS, sizeof *sm[k]);
			sv[k] = kf_zalloc(BLOCKS, sizeof *sv[k]);
		}
		for (int s = 1; s <= 3; s++) {
			const kf_adamw_opts o = { 0.5f, 1e-3f, 0.9f, 0.95f, 1e-8f, 0.1f, s };

			x->ops->adamw(x, &(kf_adamw){ .w = w[0], .g = g, .m8 = m8[0], .v8 = v8[0], .m_scale = sm[0], .v_scale = sv[0], .n = N,
				.salt = 7 }, &o);
			x->ops->adamw(x, &(kf_adamw){ .w = w[1], .g = g, .m8 = m8[1], .v8 = v8[1], .m_scale = sm[1], .v_scale = sv[1], .n = CUT,
				.salt = 7 }, &o);
			x->ops->adamw(x, &(kf_adamw){ .w = w[1] + CUT, .g = g + CUT, .m8 = m8[1] + CUT, .v8 = v8[1] + CUT,
				.m_scale = sm[1] + CUT / KF_MOMENT_BLOCK, .v_scale = sv[1] + CUT / KF_MOMENT_BLOCK, .n = N - CUT, .first = CUT,
				.salt = 7 }, &o);
		}
		assert_memory_equal(w[0], w[1], N * sizeof *w0);
		assert_memory_equal(m8[0], m8[1], N);
		assert_memory_equal(v8[0], v8[1], N);
		assert_memory_equal(sm[0], sm[1], BLOCKS * sizeof **sm);
		assert_memory_equal(sv[0], sv[1], BLOCKS * sizeof **sv);
		for (int k = 0; k < 2; k++) {
			kf_free(w[k]);
			kf_free(m8[k]);
			kf_free(v8[k]);
			kf_free(sm[k]);
			kf_free(sv[k]);
		}
	}
	kf_free(g);
	kf_free(w0);
}

static void test_adamw(void **state)
{
	const size_t n = 70001;
	float *w0 = random_floats(&f.rng, n, 1), *g = random_floats(&f.rng, n, 1), *want = copy_floats(w0, n);
	float *m = kf_zalloc(n, sizeof *m), *v = kf_zalloc(n, sizeof *v);

	(void)state;
	for (int s = 1; s <= 3; s++)
		kf_ops_ref.adamw(f.ref, &(kf_adamw){ .w = want, .g = g, .m = m, .v = v, .n = n },
			&(kf_adamw_opts){ 0.5f, 1e-3f, 0.9f, 0.95f, 1e-8f, 0.1f, s });
	for (int i = 0; i < BACKENDS; i++) {
		float *w = copy_floats(w0, n), *mi = kf_zalloc(n, sizeof *m), *vi = kf_zalloc(n, sizeof *v);

		for (int s = 1; s <= 3; s++)
			kf_ops_cpu.adamw(f.cpu[i], &(kf_adamw){ .w = w, .g = g, .m = mi, .v = vi, .n = n },
				&(kf_adamw_opts){ 0.5f, 1e-3f, 0.9f, 0.95f, 1e-8f, 0.1f, s });
		close_floats("adamw: w", w, want, n, 1e-6);
		close_floats("adamw: m", mi, m, n, 1e-6);
		close_floats("adamw: v", vi, v, n, 1e-7);
		kf_free(vi);
		kf_free(mi);
		kf_free(w);
	}
	/* By hand: the first step moves by lr * (sign of the gradient) once the weight has decayed. */
	w0[0] = 2;
	g[0] = 3;
	m[0] = v[0] = 0;
	kf_ops_ref.adamw(f.ref, &(kf_adamw){ .w = w0, .g = g, .m = m, .v = v, .n = 1 },
		&(kf_adamw_opts){ 1, 0.01f, 0.9f, 0.999f, 1e-8f, 0.5f, 1 });
	assert_true(fabs(w0[0] - (2 - 2 * 0.01 * 0.5 - 0.01)) < 1e-6);
	kf_free(v);
	kf_free(m);
	kf_free(want);
	kf_free(g);
	kf_free(w0);
}

static void test_memory(void **state)
{
	(void)state;
	for (int i = 0; i < BACKENDS; i++) {
		const size_t n = 3 << 20;
		char *p = kf_ops_cpu.alloc(f.cpu[i], n, 1), a[3] = { 1, 2, 3 }, b[3];

		assert_non_null(p);
		assert_int_equal((uintptr_t)p % KF_ALIGN, 0);
		memset(p, 7, n);
		kf_ops_cpu.zero(f.cpu[i], p + 1, n - 2);
		for (size_t k = 0; k < n; k++) assert_int_equal(p[k], k == 0 || k == n - 1 ? 7 : 0);
		assert_int_equal(kf_ops_cpu.put(f.cpu[i], p, a, sizeof a, NULL), KF_OK);
		assert_int_equal(kf_ops_cpu.get(f.cpu[i], b, p, sizeof b, NULL), KF_OK);
		assert_memory_equal(a, b, sizeof a);
		kf_ops_cpu.free(f.cpu[i], p);
	}
}

/* The same call twice gives the same bits, and so do other numbers of threads where sums are
 * not cut differently: what a resumed training run relies on. */
static void test_repeatable(void **state)
{
	enum { T = 300, H = 4, G = 2, D = 64 };
	const int32_t offset[] = { 0, 100, 300 };
	const size_t nq = T * H * D, nk = T * G * D;
	float *q = random_floats(&f.rng, nq, 1), *k = random_floats(&f.rng, nk, 1),
		*v = random_floats(&f.rng, nk, 1), *d = random_floats(&f.rng, nq, 1);
	float *out[BACKENDS], *dk[BACKENDS], *dw[BACKENDS];
	const kf_attn a = { .H = H, .G = G, .D = D, .scale = 0.1f };

	(void)state;
	for (int i = 0; i < BACKENDS; i++) {
		float *lse = random_floats(&f.rng, T * H, 1), *dq = copy_floats(q, nq), *dv = copy_floats(k, nk),
			*in = copy_floats(q, nq), *rs = copy_floats(lse, T);

		out[i] = copy_floats(q, nq);
		dk[i] = copy_floats(k, nk);
		dw[i] = kf_zalloc(H * D, sizeof *dw[i]);
		assert_int_equal(kf_ops_cpu.attention(f.cpu[i], out[i], lse, q, k, v, offset, 2, &a, NULL), KF_OK);
		assert_int_equal(kf_ops_cpu.attention_dx(f.cpu[i], dq, dk[i], dv, d, out[i], lse, q, k, v, offset, 2,
			&a, NULL), KF_OK);
		kf_ops_cpu.rmsnorm(f.cpu[i], dq, rs, in, q, 1e-5f, T, H * D);
		kf_ops_cpu.rmsnorm_dx(f.cpu[i], dq, dw[i], d, in, q, rs, T, H * D);
		assert_memory_equal(out[i], out[0], nq * sizeof(float));
		assert_memory_equal(dk[i], dk[0], nk * sizeof(float));
		assert_memory_equal(dw[i], dw[0], H * D * sizeof(float));
		kf_free(rs);
		kf_free(in);
		kf_free(dv);
		kf_free(dq);
		kf_free(lse);
	}
	for (int i = 0; i < BACKENDS; i++) {
		kf_free(dw[i]);
		kf_free(dk[i]);
		kf_free(out[i]);
	}
	kf_free(d);
	kf_free(v);
	kf_free(k);
	kf_free(q);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_vmath), cmocka_unit_test(test_linear), cmocka_unit_test(test_bf16),
			cmocka_unit_test(test_embed),
		cmocka_unit_test(test_rmsnorm), cmocka_unit_test(test_layernorm), cmocka_unit_test(test_rows), cmocka_unit_test(test_rope), cmocka_unit_test(test_attention), cmocka_unit_test(test_attention_after),
		cmocka_unit_test(test_glu), cmocka_unit_test(test_sums), cmocka_unit_test(test_adamw),
		cmocka_unit_test(test_adamw8), cmocka_unit_test(test_adamw_parts),
		cmocka_unit_test(test_memory), cmocka_unit_test(test_repeatable),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
