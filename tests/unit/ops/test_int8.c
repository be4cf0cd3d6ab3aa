/* Products in int8: the processor's way against the definition, bit by bit; what the blocks lose; the op built on them. */
#include "tests/unit/ops/util.h"

#include "common/ops/cpu/cpu.h"
#include "common/ops/cpu/int8.h"
#include "common/ops/cpu/state.h"

static kf_rng rng;

typedef struct {
	kf_int8_rows a;
	void *memory, *w;
	float *x, *weights;
	int64_t M, N, K;
} product;

/* Activations and weights with an outlier here and there. */
static product make(int64_t M, int64_t N, int64_t K)
{
	product p = { .M = M, .N = N, .K = K };
	const size_t group = kf_int8_group_bytes(K);

	p.x = random_floats(&rng, (size_t)(M * K), 1);
	p.weights = random_floats(&rng, (size_t)(N * K), 0.1);
	for (int64_t i = 0; i < M * K; i += 1 + (int64_t)kf_rng_below(&rng, 200)) p.x[i] *= 30;
	p.memory = kf_alloc(kf_int8_rows_bytes(M, K), 1);
	p.w = kf_alloc((size_t)((N + KF_INT8_COLS - 1) / KF_INT8_COLS), group);
	assert_non_null(p.memory);
	assert_non_null(p.w);
	p.a = kf_int8_rows_at(p.memory, M, K);
	kf_int8_quantise(&p.a, p.x, K, K, 0, M);
	for (int64_t n = 0; n < N; n += KF_INT8_COLS)
		kf_int8_pack((char *)p.w + (size_t)(n / KF_INT8_COLS) * group, p.weights + n * K,
			N - n < KF_INT8_COLS ? (int)(N - n) : KF_INT8_COLS, K);
	return p;
}

static void release(product *p)
{
	kf_free(p->x);
	kf_free(p->weights);
	kf_free(p->memory);
	kf_free(p->w);
}

static const int64_t shapes[][3] = { { 1, 1, 1 }, { 3, 33, 31 }, { 6, 32, 32 }, { 11, 47, 61 }, { 250, 16, 96 }, { 17, 65, 605 } };

static void same_bits(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
		product p = make(shapes[i][0], shapes[i][1], shapes[i][2]);
		const size_t n = (size_t)(p.M * p.N), blocks = (size_t)(p.M * p.a.blocks);
		void *memory = kf_alloc(kf_int8_rows_bytes(p.M, p.K), 1);
		kf_int8_rows plain = kf_int8_rows_at(memory, p.M, p.K);
		float *c = random_floats(&rng, n, 1), *d = copy_floats(c, n);

		kf_int8_quantise_plain(&plain, p.x, p.K, p.K, 0, p.M);
		assert_memory_equal(plain.q, p.a.q, blocks * KF_INT8_BLOCK);
		assert_memory_equal(plain.scale, p.a.scale, blocks * sizeof(float));
		assert_memory_equal(plain.start, p.a.start, blocks * sizeof(int32_t));
		for (int add = 1; add >= 0; add--) {
			kf_int8_gemm(&p.a, 0, p.M, p.w, p.N, add, c, p.N);
			kf_int8_gemm_plain(&p.a, 0, p.M, p.w, p.N, add, d, p.N);
			assert_memory_equal(c, d, n * sizeof *c);
		}
		if (p.M > 7) {   /* some of the rows alone: the same numbers */
			kf_int8_gemm(&p.a, 5, 2, p.w, p.N, false, d, p.N);
			assert_memory_equal(c + 5 * p.N, d, (size_t)(2 * p.N) * sizeof *c);
		}
		kf_free(memory);
		kf_free(c);
		kf_free(d);
		release(&p);
	}
}

/* Of a block of 32 the rounding is 1/254 of its largest at most, in each factor. */
static void rounding(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
		product p = make(shapes[i][0], shapes[i][1], shapes[i][2]);
		float *c = kf_alloc((size_t)(p.M * p.N), sizeof *c);

		kf_int8_gemm(&p.a, 0, p.M, p.w, p.N, false, c, p.N);
		for (int64_t m = 0; m < p.M; m++)
			for (int64_t n = 0; n < p.N; n++) {
				double want = 0, allowed = 1e-6;

				for (int64_t b = 0; b < p.K; b += 32) {
					double top_x = 0, top_w = 0, sum_x = 0, sum_w = 0;

					for (int64_t k = b; k < p.K && k < b + 32; k++) {
						const double u = p.x[m * p.K + k], v = p.weights[n * p.K + k];

						want += u * v;
						top_x = fmax(top_x, fabs(u));
						top_w = fmax(top_w, fabs(v));
						sum_x += fabs(u);
						sum_w += fabs(v);
					}
					allowed += 1.01 * (top_x / 254 * sum_w + top_w / 224 * sum_x + 32 * top_x / 254 * top_w / 224);
				}
				if (!(fabs(c[m * p.N + n] - want) <= allowed))
					fail_msg("(%d, %d) is %g, should be %g within %g", (int)m, (int)n, (double)c[m * p.N + n], want, allowed);
			}
		kf_free(c);
		release(&p);
	}
}

/* A scale times integers, as GGUF's Q8_0 (up to 127), Q5_0 (-16 .. 15) and Q4_0 (-8 .. 7) are, is kept as it is. */
static void grids(void **state)
{
	static const int most[] = { 127, 16, 8 };

	(void)state;
	for (int g = 0; g < 3; g++) {
		enum { K = 64 };
		float w[K], x[K * K] = { 0 }, c[K];
		char *packed = kf_alloc(kf_int8_group_bytes(K), 1), *memory = kf_alloc(kf_int8_rows_bytes(K, K), 1);
		kf_int8_rows a = kf_int8_rows_at(memory, K, K);

		for (int k = 0; k < K; k++) {
			const int q = k % 32 ? (int)kf_rng_below(&rng, 2 * (uint32_t)most[g]) - most[g] : -most[g];

			w[k] = (k < 32 ? 0.0371f : 1.25f) * (float)q;
			x[k * K + k] = 1;
		}
		kf_int8_pack(packed, w, 1, K);
		kf_int8_quantise(&a, x, K, K, 0, K);
		kf_int8_gemm(&a, 0, K, packed, 1, false, c, 1);
		for (int k = 0; k < K; k++) assert_true(fabsf(c[k] - w[k]) <= 1e-6f * fabsf(w[k]));
		kf_free(packed);
		kf_free(memory);
	}
}

static void not_finite(void **state)
{
	static const float bad[] = { NAN, INFINITY, -INFINITY };

	(void)state;
	for (int i = 0; i < 3; i++)
		for (int in = 0; in < 2; in++) {
			enum { K = 40 };
			float x[K], w[K], c = 0;
			char *packed = kf_alloc(kf_int8_group_bytes(K), 1), *memory = kf_alloc(kf_int8_rows_bytes(1, K), 1);
			kf_int8_rows a = kf_int8_rows_at(memory, 1, K);

			for (int k = 0; k < K; k++) x[k] = w[k] = 1;
			(in ? x : w)[7 + 30 * (i % 2)] = bad[i];
			kf_int8_pack(packed, w, 1, K);
			kf_int8_quantise(&a, x, K, K, 0, 1);
			kf_int8_gemm(&a, 0, 1, packed, 1, false, &c, 1);
			assert_false(isfinite(c));
			kf_free(packed);
			kf_free(memory);
		}
}

typedef struct { const float *w; int cols; } source;

static void unpack(const void *src, const int32_t *index, uint64_t row, uint64_t n, float *out)
{
	const source *s = src;

	for (uint64_t i = 0; i < n; i++)
		memcpy(out + i * (size_t)s->cols, s->w + (index ? (uint64_t)index[i] : row + i) * (size_t)s->cols, (size_t)s->cols * sizeof *out);
}

/* linear in int8: near float32's, the same for all threads, batches and ways to hold the weights; of a matrix that
 * is not said to be in int8, that of bfloat16. */
static void linear(void **state)
{
	static const int sizes[][3] = { { 1, 70, 96 }, { 5, 200, 65 }, { 130, 90, 64 }, { 60, 40, 12000 }, { 3, 1100, 8000 } };

	(void)state;
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		const int T = sizes[i][0], N = sizes[i][1], K = sizes[i][2];
		float *x = random_floats(&rng, (size_t)T * (size_t)K, 1), *w = random_floats(&rng, (size_t)N * (size_t)K, 1),
			*bias = random_floats(&rng, (size_t)N, 1), *y0 = random_floats(&rng, (size_t)T * (size_t)N, 1);
		const source src = { w, K };
		kf_mat mats[2] = { { .rows = N, .cols = K, .num = w, .int8 = true },
			{ .rows = N, .cols = K, .unpack = unpack, .src = &src, .int8 = true } };
		float *first = NULL;

		for (int threads = 1; threads <= 3; threads++)
			for (int m = 0; m < 2; m++) {
				kf_pool *pool;
				kf_exec *e8 = exec_of(&kf_ops_cpu, threads, KF_COMPUTE_INT8, &pool);
				float *y = copy_floats(y0, (size_t)T * (size_t)N), *last = y + (size_t)(T - 1) * (size_t)N;

				assert_int_equal(kf_ops_cpu.linear(e8, y, x, &mats[m], bias, T, true, NULL), KF_OK);
				if (!first) {
					kf_exec *e32;
					float *want = copy_floats(y0, (size_t)T * (size_t)N);

					assert_int_equal(kf_exec_new(&kf_ops_cpu, pool, KF_COMPUTE_F32, &e32, NULL), KF_OK);
					assert_int_equal(kf_ops_cpu.linear(e32, want, x, &mats[m], bias, T, true, NULL), KF_OK);
					close_floats("linear in int8", y, want, (size_t)T * (size_t)N, 1e-2);
					kf_exec_free(e32);
					kf_free(want);
					first = copy_floats(y, (size_t)T * (size_t)N);
				}
				assert_memory_equal(y, first, (size_t)T * (size_t)N * sizeof *y);
				memcpy(last, y0 + (size_t)(T - 1) * (size_t)N, (size_t)N * sizeof *y);
				assert_int_equal(kf_ops_cpu.linear(e8, last, x + (size_t)(T - 1) * (size_t)K, &mats[m], bias, 1, true, NULL), KF_OK);
				assert_memory_equal(y, first, (size_t)T * (size_t)N * sizeof *y);
				kf_free(y);
				kf_exec_free(e8);
				kf_pool_free(pool);
			}
		kf_free(first);
		kf_free(x);
		kf_free(w);
		kf_free(bias);
		kf_free(y0);
	}
}

/* A processor without bfloat16 instructions multiplies the same numbers. */
static void bf16_anywhere(void **state)
{
	enum { M = 20, N = 30, K = 50 };
	kf_pool *pool;
	kf_exec *x = exec_of(&kf_ops_cpu, 1, KF_COMPUTE_F32, &pool);
	float *a = random_floats(&rng, M * K, 1), *b = random_floats(&rng, N * K, 1), *c0 = random_floats(&rng, M * N, 1);

	(void)state;
	for (int form = 0; form < 8; form++) {
		const bool ta = form & 1, tb = form & 2, add = form & 4;
		float *c[2];

		for (int native = 0; native < 2; native++) {
			kf_cpu_bf16 *s;
			const uint16_t *a16, *b16;

			assert_int_equal(kf_cpu_bf16_new(1, native, &s, NULL), KF_OK);
			a16 = kf_cpu_to_bf16(x, KF_CPU_ACT, a, ta ? K : M, ta ? M : K, ta ? M : K);
			b16 = kf_cpu_to_bf16(x, KF_CPU_WEIGHT16, b, tb ? N : K, tb ? K : N, tb ? K : N);
			c[native] = copy_floats(c0, M * N);
			assert_int_equal(kf_cpu_bf16_gemm(s, 0, ta, tb, M, N, K, a16, ta ? M : K, b16, tb ? K : N, add, c[native], N), 0);
			kf_cpu_bf16_free(s);
		}
		close_floats("bfloat16 as floats", c[0], c[1], M * N, 2e-6);
		kf_free(c[0]);
		kf_free(c[1]);
	}
	kf_free(a);
	kf_free(b);
	kf_free(c0);
	kf_exec_free(x);
	kf_pool_free(pool);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(same_bits), cmocka_unit_test(rounding), cmocka_unit_test(grids),
		cmocka_unit_test(not_finite), cmocka_unit_test(linear), cmocka_unit_test(bf16_anywhere) };

	kf_rng_seed(&rng, 42);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
