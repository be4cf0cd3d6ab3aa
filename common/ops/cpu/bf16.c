/* Products in bfloat16 with float32 sums, by oneDNN's matmul on operands converted once a
 * call. Plain layouts are as fast here as blocked ones (2 cores, one thread each: 160-200 GFLOP/s a core on
 * the models' shapes against 100 of sgemm; its own blocked weights gave 190), so there is no packing. */
#include "common/base/bf16.h"
#include "common/ops/cpu/cpu.h"
#include "common/ops/cpu/state.h"

#include <dnnl.h>
#include <dnnl_version.h>
#include <omp.h>

/* ---- oneDNN 2 has descriptors by value, and a matmul described in two steps; 3 has handles, and one step ---- */

static int describe(dnnl_memory_desc_t *md, dnnl_data_type_t type, int64_t rows, int64_t cols, int64_t down,
	int64_t right)
{
	const dnnl_dims_t dims = { rows, cols }, strides = { down, right };

#if DNNL_VERSION_MAJOR >= 3
	return dnnl_memory_desc_create_with_strides(md, 2, dims, type, strides);
#else
	return dnnl_memory_desc_init_by_strides(md, 2, dims, type, strides);
#endif
}

static void forget(dnnl_memory_desc_t *md)
{
#if DNNL_VERSION_MAJOR >= 3
	if (*md) dnnl_memory_desc_destroy(*md);
#else
	(void)md;
#endif
}

static int place(dnnl_memory_t *m, const dnnl_memory_desc_t *md, dnnl_engine_t engine, const void *data)
{
	void *p = (void *)(uintptr_t)data;

#if DNNL_VERSION_MAJOR >= 3
	return dnnl_memory_create(m, *md, engine, p);
#else
	return dnnl_memory_create(m, md, engine, p);
#endif
}

static int append_sum(dnnl_post_ops_t ops)
{
#if DNNL_VERSION_MAJOR >= 3
	return dnnl_post_ops_append_sum(ops, 1, 0, dnnl_data_type_undef);
#else
	return dnnl_post_ops_append_sum(ops, 1);
#endif
}

static int matmul(dnnl_primitive_desc_t *pd, const dnnl_memory_desc_t *a, const dnnl_memory_desc_t *b,
	const dnnl_memory_desc_t *c, dnnl_primitive_attr_t attr, dnnl_engine_t engine)
{
#if DNNL_VERSION_MAJOR >= 3
	return dnnl_matmul_primitive_desc_create(pd, engine, *a, *b, NULL, *c, attr);
#else
	dnnl_matmul_desc_t desc;
	int st = dnnl_matmul_desc_init(&desc, a, b, NULL, c);

	if (!st) st = dnnl_primitive_desc_create(pd, &desc, attr, engine, NULL);
	return st;
#endif
}

/* oneDNN 3.7 (Debian 13) writes a single column of a wider matrix to the first places of that matrix's memory. */
enum { ONE_COLUMN_WRONG = DNNL_VERSION_MAJOR >= 3 };

/* ---- the backend ---- */

struct kf_cpu_bf16 {
	dnnl_engine_t engine;
	int streams;
	dnnl_stream_t *stream;   /* (streams) one a thread */
	bool native;
	struct wide { float *p; size_t n; } (*wide)[2]; /* (streams) not native: the operands as floats */
};

bool kf_cpu_bf16_native(void)
{
	const int need = dnnl_cpu_isa_avx512_core_bf16;

	return ((int)dnnl_get_effective_cpu_isa() & need) == need;
}

kf_status kf_cpu_bf16_new(int threads, bool native, kf_cpu_bf16 **out, kf_err *err)
{
	kf_cpu_bf16 *b = kf_zalloc(1, sizeof *b);
	int st;

	*out = NULL;
	if (!b || !(b->stream = kf_zalloc((size_t)threads, sizeof *b->stream)) ||
		!(b->wide = kf_zalloc((size_t)threads, sizeof *b->wide))) {
		kf_cpu_bf16_free(b);
		return kf_fail(err, KF_ENOMEM, "out of memory for the CPU backend");
	}
	b->native = native && kf_cpu_bf16_native();
	st = dnnl_engine_create(&b->engine, dnnl_cpu, 0);
	for (; !st && b->streams < threads; b->streams++)
		st = dnnl_stream_create(&b->stream[b->streams], b->engine, dnnl_stream_default_flags);
	if (st) {
		kf_cpu_bf16_free(b);
		return kf_cpu_dnnl_status(st, "bf16 backend", err);
	}
	*out = b;
	return KF_OK;
}

void kf_cpu_bf16_free(kf_cpu_bf16 *b)
{
	if (!b) return;
	for (int i = 0; i < b->streams; i++) {
		if (b->stream[i]) dnnl_stream_destroy(b->stream[i]);
		kf_free(b->wide[i][0].p);
		kf_free(b->wide[i][1].p);
	}
	if (b->engine) dnnl_engine_destroy(b->engine);
	kf_free(b->wide);
	kf_free(b->stream);
	kf_free(b);
}

typedef struct {
	const float *src;
	uint16_t *dst;
	size_t cols, ld;
} convert_job;

static void convert_task(void *arg, size_t begin, size_t end, int worker)
{
	const convert_job *j = arg;

	(void)worker;
	for (size_t r = begin; r < end; r++) kf_round_bf16(j->src + r * j->ld, j->dst + r * j->cols, j->cols);
}

uint16_t *kf_cpu_to_bf16(kf_exec *x, int slot, const float *src, int64_t rows, int64_t cols, int64_t ld)
{
	convert_job j = { src, kf_cpu_scratch(x, slot, (size_t)rows * (size_t)cols * sizeof(uint16_t)),
		(size_t)cols, (size_t)ld };

	if (j.dst) kf_pool_split(rows * cols < (1 << 15) ? NULL : x->pool, (size_t)rows, 1, convert_task, &j);
	return j.dst;
}

static const float *widen(struct wide *w, const uint16_t *src, int64_t rows, int64_t cols, int64_t ld)
{
	const size_t n = (size_t)rows * (size_t)cols;

	if (n > w->n) {
		kf_free(w->p);
		w->p = kf_alloc(n, sizeof *w->p);
		w->n = w->p ? n : 0;
	}
	for (int64_t r = 0; w->p && r < rows; r++)
		for (int64_t c = 0; c < cols; c++) {
			const uint32_t u = (uint32_t)src[r * ld + c] << 16;

			memcpy(w->p + r * cols + c, &u, sizeof u);
		}
	return w->p;
}

static int as_floats(kf_cpu_bf16 *s, int worker, bool ta, bool tb, int64_t M, int64_t N, int64_t K, const uint16_t *A,
	int64_t lda, const uint16_t *B, int64_t ldb, bool add, float *C, int64_t ldc)
{
	struct wide *w = s->wide[worker];
	const float *a = widen(&w[0], A, ta ? K : M, ta ? M : K, lda), *b = widen(&w[1], B, tb ? N : K, tb ? K : N, ldb);

	if (!a || !b) return dnnl_out_of_memory;
	return kf_cpu_sgemm(ta, tb, M, N, K, 1, a, ta ? M : K, b, tb ? K : N, add, C, ldc);
}

int kf_cpu_bf16_gemm(kf_cpu_bf16 *s, int worker, bool ta, bool tb, int64_t M, int64_t N, int64_t K,
	const uint16_t *A, int64_t lda, const uint16_t *B, int64_t ldb, bool add, float *C, int64_t ldc)
{
	const int before = omp_get_max_threads();
	dnnl_memory_desc_t a = { 0 }, b = { 0 }, c = { 0 };
	dnnl_primitive_attr_t attr = NULL;
	dnnl_post_ops_t ops = NULL;
	dnnl_primitive_desc_t pd = NULL;
	dnnl_primitive_t p = NULL;
	dnnl_memory_t ma = NULL, mb = NULL, mc = NULL;
	int st;

	if (!s->native || (ONE_COLUMN_WRONG && N == 1 && ldc > 1))
		return as_floats(s, worker, ta, tb, M, N, K, A, lda, B, ldb, add, C, ldc);
	omp_set_num_threads(1);
	if ((st = describe(&a, dnnl_bf16, M, K, ta ? 1 : lda, ta ? lda : 1))) goto out;
	if ((st = describe(&b, dnnl_bf16, K, N, tb ? 1 : ldb, tb ? ldb : 1))) goto out;
	if ((st = describe(&c, dnnl_f32, M, N, ldc, 1))) goto out;
	if ((st = dnnl_primitive_attr_create(&attr))) goto out;
	if (add) {
		if ((st = dnnl_post_ops_create(&ops)) || (st = append_sum(ops))) goto out;
		if ((st = dnnl_primitive_attr_set_post_ops(attr, ops))) goto out;
	}
	if ((st = matmul(&pd, &a, &b, &c, attr, s->engine))) goto out;
	/* Some microseconds: oneDNN keeps what it compiled. */
	if ((st = dnnl_primitive_create(&p, pd))) goto out;
	if ((st = place(&ma, &a, s->engine, A))) goto out;
	if ((st = place(&mb, &b, s->engine, B))) goto out;
	if ((st = place(&mc, &c, s->engine, C))) goto out;
	{
		const dnnl_exec_arg_t args[] = { { DNNL_ARG_SRC, ma }, { DNNL_ARG_WEIGHTS, mb },
			{ DNNL_ARG_DST, mc } };

		if ((st = dnnl_primitive_execute(p, s->stream[worker], 3, args))) goto out;
	}
	st = dnnl_stream_wait(s->stream[worker]);
out:
	if (mc) dnnl_memory_destroy(mc);
	if (mb) dnnl_memory_destroy(mb);
	if (ma) dnnl_memory_destroy(ma);
	if (p) dnnl_primitive_destroy(p);
	if (pd) dnnl_primitive_desc_destroy(pd);
	forget(&a);
	forget(&b);
	forget(&c);
	if (ops) dnnl_post_ops_destroy(ops);
	if (attr) dnnl_primitive_attr_destroy(attr);
	if (before != 1) omp_set_num_threads(before);
	return st;
}
