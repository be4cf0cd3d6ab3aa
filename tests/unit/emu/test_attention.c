/* Our own attention on the emulator, forward and backward, against the reference backend: packed sequences across tiles,
 * grouped heads, windows, slopes, caps, odd head sizes. */
#include <limits.h>

#include "tests/unit/emu/util.h"

static kf_exec *ref;

static void attention_case(kf_rng *r, kf_num_type type, const int32_t *offset, int S, kf_attn a, double size)
{
	const int T = offset[S];
	const size_t nq = (size_t)(T * a.H * a.D), nk = (size_t)(T * a.G * a.D), nl = (size_t)(T * a.H);
	float *q = numbers(r, type, nq, size), *k = numbers(r, type, nk, size), *v = numbers(r, type, nk, 1), *dout = numbers(r, type, nq, 1);
	float *wo = kf_alloc(nq, 4), *wl = kf_alloc(nl, 4), *wq = kf_alloc(nq, 4), *wk = kf_alloc(nk, 4), *wv = kf_alloc(nk, 4);
	float *first[5] = { NULL }, *out16;
	kf_attn on = a;
	/* on tensor cores probabilities and their gradients are rounded to bf16, too */
	const double tol = type == KF_NUM_BF16 && a.D % 8 == 0 ? 4e-3 : 1e-5;

	a.scale = on.scale = 1 / sqrtf((float)a.D);
	assert_int_equal(kf_ops_ref.attention(ref, wo, wl, q, k, v, offset, S, &a, NULL), KF_OK);
	out16 = copy_floats(wo, nq);   /* what the backward gets is rounded */
	for (size_t i = 0; type == KF_NUM_BF16 && i < nq; i++) out16[i] = bf16_float(float_bf16(out16[i]));
	assert_int_equal(kf_ops_ref.attention_dx(ref, wq, wk, wv, dout, out16, wl, q, k, v, offset, S, &a, NULL), KF_OK);
	for (FOR_ORDERS(o)) {
		void *dq = device_numbers(type, q, nq), *dk = device_numbers(type, k, nk), *dv = device_numbers(type, v, nk),
			*dd = device_numbers(type, dout, nq), *out = device_empty(type, nq), *gq = device_empty(type, nq),
			*gk = device_empty(type, nk), *gv = device_empty(type, nk), *saved = device_numbers(type, out16, nq),
			*scratch = emu_alloc(kf_cuda_attention_dx_scratch(T, &a));
		float *lse = device_empty(KF_NUM_F32, nl), *slopes = a.slopes ? device_bytes(a.slopes, (size_t)a.H * 4) : NULL,
			*wanted = device_bytes(wl, nl * 4);
		int32_t *begin = emu_alloc((size_t)T * 4), *end = emu_alloc((size_t)T * 4), *off = device_bytes(offset, (size_t)(S + 1) * 4);

		on.slopes = slopes;
		launched(kf_cuda_spans(begin, end, off, NULL, S, T, NULL));
		launched(kf_cuda_attention(type, out, lse, dq, dk, dv, begin, T, &on, NULL));
		launched(kf_cuda_attention_dx(type, gq, gk, gv, dd, saved, wanted, dq, dk, dv, begin, end, T, &on, scratch, NULL));
		output("attention", o, &first[0], type, out, wo, nq, tol);
		output("lse", o, &first[1], KF_NUM_F32, lse, wl, nl, 1e-5);
		output("dq", o, &first[2], type, gq, wq, nq, 2 * tol);
		output("dk", o, &first[3], type, gk, wk, nk, 2 * tol);
		output("dv", o, &first[4], type, gv, wv, nk, 2 * tol);
		emu_free(dq), emu_free(dk), emu_free(dv), emu_free(dd), emu_free(saved), emu_free(scratch), emu_free(slopes), emu_free(wanted);
		emu_free(begin), emu_free(end), emu_free(off);
	}
	kf_free(q), kf_free(k), kf_free(v), kf_free(dout), kf_free(wo), kf_free(wl), kf_free(wq), kf_free(wk), kf_free(wv), kf_free(out16);
}

static void shapes(void **state)
{
	static const float slopes[] = { 0.5f, 0.125f, 0.25f };
	static const int32_t one[] = { 0, 1 }, few[] = { 0, 1, 9, 9, 14 }, across[] = { 0, 30, 70, 71, 150 }, whole[] = { 0, 128 };
	static const struct { const int32_t *offset; int S; kf_attn a; } cases[] = {
		{ one, 1, { .H = 1, .G = 1, .D = 1 } },
		{ few, 4, { .H = 4, .G = 2, .D = 8 } },
		{ few, 4, { .H = 3, .G = 1, .D = 33, .window = 3 } },
		{ few, 4, { .H = 2, .G = 2, .D = 200, .cap = 0.8f } },
		{ few, 4, { .H = 1, .G = 1, .D = 256 } },
		{ across, 4, { .H = 2, .G = 1, .D = 256, .cap = 2, .window = 40 } },
		{ across, 4, { .H = 4, .G = 2, .D = 128 } },
		{ across, 4, { .H = 2, .G = 1, .D = 16 } },
		{ across, 4, { .H = 2, .G = 2, .D = 20, .window = 17 } },
		{ across, 4, { .H = 3, .G = 3, .D = 8, .slopes = slopes } },
		{ across, 4, { .H = 2, .G = 2, .D = 8, .window = INT_MAX } },
		{ across, 4, { .H = 2, .G = 1, .D = 80, .cap = 0.8f, .window = 64 } },
		{ whole, 1, { .H = 1, .G = 1, .D = 64 } },
	};
	kf_rng r;

	(void)state;
	kf_rng_seed(&r, 21);
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		FOR_TYPES(type) attention_case(&r, type, cases[i].offset, cases[i].S, cases[i].a, 1);
}

/* Scores in the hundreds: exponentials that overflow unless the largest is taken off. */
static void large(void **state)
{
	static const int32_t offset[] = { 0, 100 };
	kf_rng r;

	(void)state;
	kf_rng_seed(&r, 22);
	FOR_TYPES(type) attention_case(&r, type, offset, 1, (kf_attn){ .H = 1, .G = 1, .D = 32 }, 6);
}

static void refuses(void **state)
{
	const kf_attn a = { .H = 1, .G = 1, .D = KF_CUDA_MAX_HEAD + 1 };

	(void)state;
	assert_int_not_equal(kf_cuda_attention(KF_NUM_F32, NULL, NULL, NULL, NULL, NULL, NULL, 1, &a, NULL), 0);
	assert_int_not_equal(kf_cuda_attention_dx(KF_NUM_F32, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 1, &a, NULL, NULL), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(shapes), cmocka_unit_test(large), cmocka_unit_test(refuses) };

	if (kf_exec_new(&kf_ops_ref, NULL, KF_COMPUTE_F32, &ref, NULL) != KF_OK) return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
