/* Sequences that go on, on the emulator: rotary positions, attention to a past and a cache's rows, by the backend's own ops, against the
 * reference backend. Few rows and many, keys in one piece and in several, grouped heads, windows, slopes, caps, odd head sizes. */
#include "tests/unit/emu/util.h"

enum { PAST = 1500, MOST = 8 };   /* rows of the past; sequences */

static kf_exec *ref, *dev[2];

typedef struct {
	const char *name;
	int32_t S, rows[MOST], n[MOST];
	kf_attn a;
	bool own;                /* the first sequence is what stands before the others */
} after_case;

static const float slopes[] = { 0.5f, 0.125f, 0.25f, 0.0625f };
static const after_case CASES[] = {
	{ "one", 1, { 1 }, { 0 }, { .H = 1, .G = 1, .D = 1 }, false },
	{ "edges of pieces", 6, { 1, 1, 1, 1, 1, 1 }, { 0, 254, 255, 256, 511, 512 }, { .H = 2, .G = 2, .D = 16 }, false },
	{ "six heads a key", 3, { 1, 2, 1 }, { 5, 0, 700 }, { .H = 6, .G = 1, .D = 64 }, false },
	{ "two heads a key, 80 numbers", 5, { 1, 0, 8, 3, 1 }, { 3, 9, 0, 300, 1 }, { .H = 4, .G = 2, .D = 80 }, false },
	{ "odd heads in a window", 3, { 1, 5, 1 }, { 600, 290, 2 }, { .H = 3, .G = 1, .D = 33, .window = 100 }, false },
	{ "a window of one", 2, { 2, 1 }, { 256, 600 }, { .H = 2, .G = 2, .D = 8, .window = 1 }, false },
	{ "caps", 2, { 1, 3 }, { 270, 10 }, { .H = 2, .G = 1, .D = 128, .cap = 0.8f }, false },
	{ "slopes", 2, { 1, 4 }, { 300, 20 }, { .H = 4, .G = 2, .D = 24, .slopes = slopes }, false },
	{ "196 numbers", 2, { 1, 1 }, { 30, 261 }, { .H = 1, .G = 1, .D = 196 }, false },
	{ "256 numbers", 2, { 1, 1 }, { 30, 261 }, { .H = 2, .G = 1, .D = 256, .cap = 2, .window = 260 }, false },
	{ "many rows", 2, { 70, 130 }, { 37, 0 }, { .H = 2, .G = 1, .D = 64 }, false },
	{ "many rows, many keys", 1, { 9 }, { 300 }, { .H = 1, .G = 1, .D = 128 }, false },
	{ "many rows in a window", 3, { 65, 64, 20 }, { 100, 64, 200 }, { .H = 2, .G = 1, .D = 40, .window = 90 }, false },
	{ "many rows with slopes", 1, { 40 }, { 70 }, { .H = 3, .G = 3, .D = 20, .slopes = slopes }, false },
	{ "many rows with caps, 256 numbers", 1, { 40 }, { 50 }, { .H = 1, .G = 1, .D = 256, .cap = 0.8f }, false },
	{ "few and many", 4, { 1, 30, 8, 9 }, { 280, 11, 5, 64 }, { .H = 4, .G = 2, .D = 32 }, false },
	{ "a shared beginning", 4, { 90, 1, 20, 3 }, { 0, 90, 90, 40 }, { .H = 2, .G = 1, .D = 64 }, true },
};

/* Attention of sequence s alone, and where its rows are in the batch: what it is in company, bit by bit. */
static void alone(const after_case *c, kf_num_type type, const void *out, const void *q, const void *k, const void *v, const int32_t *offset,
	const kf_past *past, const kf_attn *a)
{
	const size_t size = kf_num_size(type), row = (size_t)(a->H * a->D) * size, key = (size_t)(a->G * a->D) * size;

	for (int s = 0; s < c->S && !c->own; s++) {
		const int32_t one[] = { 0, c->rows[s] };
		const kf_past own = { past->k, past->v, past->row + s, past->n + s };
		const size_t at = (size_t)offset[s];
		void *o = device_empty(type, (size_t)(c->rows[s] * a->H * a->D));

		assert_int_equal(kf_cuda_ops.attention_after(dev[type], o, (const char *)q + at * row, (const char *)k + at * key,
			(const char *)v + at * key, one, 1, &own, a, NULL), KF_OK);
		if (c->rows[s]) assert_memory_equal(o, (const char *)out + at * row, (size_t)c->rows[s] * row);
		emu_free(o);
	}
}

static void attention_case(kf_rng *r, kf_num_type type, const after_case *c)
{
	int32_t offset[MOST + 1] = { 0 }, row[MOST] = { 0 };
	kf_attn a = c->a, on;
	float *first = NULL;
	bool many = false;

	for (int s = 0; s < c->S; s++) {
		offset[s + 1] = offset[s] + c->rows[s];
		many = many || c->rows[s] > 8;
		if (!c->own) row[s] = (int32_t)kf_rng_below(r, (uint64_t)(PAST - c->n[s]) + 1);
	}
	const size_t T = (size_t)offset[c->S], nq = T * (size_t)(a.H * a.D), key = (size_t)(a.G * a.D), nk = T * key, np = PAST * key;
	float *q = numbers(r, type, nq, 2), *k = numbers(r, type, nk, 1), *v = numbers(r, type, nk, 1), *pk = numbers(r, type, np, 1),
		*pv = numbers(r, type, np, 1), *want = kf_alloc(nq, 4);
	const kf_past past = { c->own ? k : pk, c->own ? v : pv, row, c->n };

	a.scale = 1 / sqrtf((float)a.D);
	on = a;
	assert_int_equal(kf_ops_ref.attention_after(ref, want, q, k, v, offset, c->S, &past, &a, NULL), KF_OK);
	for (FOR_ORDERS(o)) {
		void *dq = device_numbers(type, q, nq), *dk = device_numbers(type, k, nk), *dv = device_numbers(type, v, nk),
			*dpk = device_numbers(type, pk, np), *dpv = device_numbers(type, pv, np), *out = device_empty(type, nq);
		const kf_past there = { c->own ? dk : dpk, c->own ? dv : dpv, row, c->n };
		float *ds = a.slopes ? device_bytes(a.slopes, (size_t)a.H * 4) : NULL;
		kf_err err;

		on.slopes = ds;
		if (kf_cuda_ops.attention_after(dev[type], out, dq, dk, dv, offset, c->S, &there, &on, &err) != KF_OK)
			fail_msg("%s: %s", c->name, err.text);
		if (o == 0) alone(c, type, out, dq, dk, dv, offset, &there, &on);
		/* on tensor cores probabilities are rounded to bf16, too */
		output(c->name, o, &first, type, out, want, nq, type == KF_NUM_BF16 && many && a.D % 8 == 0 ? 4e-3 : 1e-5);
		emu_free(dq), emu_free(dk), emu_free(dv), emu_free(dpk), emu_free(dpv), emu_free(ds);
	}
	kf_free(q), kf_free(k), kf_free(v), kf_free(pk), kf_free(pv), kf_free(want);
}

static void attention(void **state)
{
	kf_rng r;

	(void)state;
	kf_rng_seed(&r, 31);
	for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++)
		FOR_TYPES(type) attention_case(&r, type, &CASES[i]);
}

/* Scores in the hundreds, and of keys in other pieces: parts that weigh nothing, and parts that weigh all. */
static void large(void **state)
{
	enum { N = 800, D = 32 };
	const int32_t offset[] = { 0, 1 }, row[] = { 0 }, n[] = { N };
	const kf_attn a = { .H = 1, .G = 1, .D = D, .scale = 1 };
	kf_rng r;

	(void)state;
	kf_rng_seed(&r, 32);
	FOR_TYPES(type) for (int best = 0; best < N; best += 270) {
		float *q = numbers(&r, type, D, 4), *k = numbers(&r, type, (N + 1) * D, 4), *v = numbers(&r, type, (N + 1) * D, 1), want[D],
			*first = NULL;

		memcpy(k + (size_t)best * D, q, D * sizeof *q);
		const kf_past past = { k, v, row, n };

		assert_int_equal(kf_ops_ref.attention_after(ref, want, q, k + (size_t)N * D, v + (size_t)N * D, offset, 1, &past, &a, NULL), KF_OK);
		for (FOR_ORDERS(o)) {
			void *dq = device_numbers(type, q, D), *dk = device_numbers(type, k, (N + 1) * D), *dv = device_numbers(type, v, (N + 1) * D),
				*out = device_empty(type, D);
			const kf_past there = { dk, dv, row, n };

			assert_int_equal(kf_cuda_ops.attention_after(dev[type], out, dq, (char *)dk + (size_t)N * D * kf_num_size(type),
				(char *)dv + (size_t)N * D * kf_num_size(type), offset, 1, &there, &a, NULL), KF_OK);
			output("large scores", o, &first, type, out, want, D, 1e-5);
			emu_free(dq), emu_free(dk), emu_free(dv);
		}
		kf_free(q), kf_free(k), kf_free(v);
	}
}

/* What is seen of a batch must not outlive it: the same offsets with another past, another place of it, another index. */
static void changes(void **state)
{
	enum { D = 8, S = 2 };
	static const int32_t offset[] = { 0, 1, 3 }, n[][S] = { { 3, 4 }, { 4, 3 }, { 4, 3 }, { 4, 3 } }, row[][S] = { { 0, 9 }, { 0, 9 }, { 9, 0 },
		{ 9, 1 } }, index[][3] = { { 0, 1, 2 }, { 2, 0, 1 }, { 5, 4, 3 }, { 5, 4, 2 } };
	const kf_attn a = { .H = 1, .G = 1, .D = D, .scale = 1 };
	const kf_rotary rot = { (const float[]){ 1, 0.3f }, 4, 1 };
	kf_rng r;

	(void)state;
	kf_rng_seed(&r, 33);
	float *q = numbers(&r, KF_NUM_F32, 3 * D, 1), *k = numbers(&r, KF_NUM_F32, 3 * D, 1), *pk = numbers(&r, KF_NUM_F32, 20 * D, 1);
	float *dq = device_bytes(q, 3 * D * 4), *dk = device_bytes(k, 3 * D * 4), *dp = device_bytes(pk, 20 * D * 4), *out = emu_alloc(3 * D * 4),
		*freq = device_bytes(rot.inv_freq, 8);
	const kf_rotary there = { freq, 4, 1 };

	for (int i = 0; i < 4; i++) {
		const kf_past past = { pk, pk, row[i], n[i] }, on = { dp, dp, row[i], n[i] };
		float want[3 * D];

		assert_int_equal(kf_ops_ref.attention_after(ref, want, q, k, k, offset, S, &past, &a, NULL), KF_OK);
		assert_int_equal(kf_cuda_ops.attention_after(dev[0], out, dq, dk, dk, offset, S, &on, &a, NULL), KF_OK);
		close_numbers("attention again", KF_NUM_F32, out, want, 3 * D, 1e-6);
		kf_ops_ref.rope_after(ref, q, &rot, offset, n[i], S, 1, D);
		kf_cuda_ops.rope_after(dev[0], dq, &there, offset, n[i], S, 1, D);
		close_numbers("rope again", KF_NUM_F32, dq, q, 3 * D, 2e-6);
		kf_ops_ref.store(ref, pk, k, index[i], 3, D);
		kf_cuda_ops.store(dev[0], dp, dk, index[i], 3, D);
		assert_memory_equal(dp, pk, 20 * D * 4);
	}
	kf_free(q), kf_free(k), kf_free(pk);
	emu_free(dq), emu_free(dk), emu_free(dp), emu_free(out), emu_free(freq);
}

static void rope(void **state)
{
	static const struct { int heads, D, R; } shape[] = { { 1, 2, 2 }, { 3, 10, 6 }, { 2, 64, 64 } };
	static const int32_t offset[] = { 0, 3, 4, 4, 20 }, first[] = { 0, 700, 5, 31 };
	enum { S = 4, T = 20 };
	kf_rng r;

	(void)state;
	kf_rng_seed(&r, 34);
	for (size_t k = 0; k < sizeof shape / sizeof *shape; k++)
		FOR_TYPES(type) {
			const int heads = shape[k].heads, D = shape[k].D, R = shape[k].R;
			const size_t n = (size_t)(T * heads * D);
			float *v = numbers(&r, type, n, 1), *want = copy_floats(v, n), freq[32], *kept = NULL;
			kf_rotary rot = { freq, R, 1.5f };

			for (int i = 0; i < R / 2; i++) freq[i] = powf(10, -(float)i / 3);
			kf_ops_ref.rope_after(ref, want, &rot, offset, first, S, heads, D);
			for (FOR_ORDERS(o)) {
				void *dv = device_numbers(type, v, n);

				rot.inv_freq = device_bytes(freq, sizeof freq);
				kf_cuda_ops.rope_after(dev[type], dv, &rot, offset, first, S, heads, D);
				output("rope_after", o, &kept, type, dv, want, n, 2e-6);
				emu_free((void *)rot.inv_freq);
			}
			kf_free(v), kf_free(want);
		}
}

static void store(void **state)
{
	static const int shape[][3] = { { 1, 1, 1 }, { 5, 30, 19 }, { 20, 33, 64 }, { 3, 7, 1100 } };
	kf_rng r;

	(void)state;
	kf_rng_seed(&r, 35);
	for (size_t k = 0; k < sizeof shape / sizeof *shape; k++)
		FOR_TYPES(type) {
			const int n = shape[k][0], rows = shape[k][1], C = shape[k][2];
			const size_t nc = (size_t)(n * C), all = (size_t)(rows * C);
			float *in = numbers(&r, type, nc, 1), *y = numbers(&r, type, all, 1), *want = copy_floats(y, all), *kept = NULL;
			int32_t index[20];

			for (int i = 0; i < n; i++) index[i] = (i * 5 + 2) % rows;   /* rows is no multiple of 5, or n is small */
			kf_ops_ref.store(ref, want, in, index, n, C);
			for (FOR_ORDERS(o)) {
				void *dy = device_numbers(type, y, all), *din = device_numbers(type, in, nc);

				kf_cuda_ops.store(dev[type], dy, din, index, n, C);
				output("store", o, &kept, type, dy, want, all, 0);
				emu_free(din);
			}
			kf_free(in), kf_free(y), kf_free(want);
		}
}

static void refuses(void **state)
{
	const int32_t offset[] = { 0, 1 }, zero[] = { 0 };
	const kf_past past = { NULL, NULL, zero, zero };
	const kf_attn a = { .H = 1, .G = 1, .D = KF_CUDA_MAX_HEAD + 1 };
	kf_err err;

	(void)state;
	assert_int_equal(kf_cuda_ops.attention_after(dev[0], NULL, NULL, NULL, NULL, offset, 1, &past, &a, &err), KF_EUNSUPPORTED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(attention), cmocka_unit_test(large), cmocka_unit_test(changes), cmocka_unit_test(rope), cmocka_unit_test(store),
		cmocka_unit_test(refuses)
	};
	int failed;

	if (kf_exec_new(&kf_ops_ref, NULL, KF_COMPUTE_F32, &ref, NULL) != KF_OK) return 1;
	FOR_TYPES(type) dev[type] = emulated(type);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	FOR_TYPES(type) kf_exec_free(dev[type]);
	kf_exec_free(ref);
	return failed;
}
