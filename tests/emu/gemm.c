/* Matrix products of the emulated build: a plain loop. */
#include "common/ops/cuda/gemm.h"

#include "common/base/bf16.h"
#include "common/base/mem.h"
#include "tests/emu/emu.h"

static long products;

long emu_products(void) { return products; }

struct kf_cuda_gemm { int unused; };

kf_status kf_cuda_gemm_new(const kf_cuda_device *d, kf_cuda_gemm **out, kf_err *err)
{
	(void)d;
	*out = kf_zalloc(1, sizeof **out);
	return *out ? KF_OK : kf_fail(err, KF_ENOMEM, "no memory for matrix products");
}

void kf_cuda_gemm_free(kf_cuda_gemm *g) { kf_free(g); }

static float get(kf_num_type type, const void *p, int64_t i)
{
	return type == KF_NUM_BF16 ? kf_bf16_to_f32(((const uint16_t *)p)[i]) : ((const float *)p)[i];
}

/* op(A) (M, K) dense, as floats; one row of it is a run for the loop below. */
static float *dense(kf_num_type type, const void *p, bool transposed, int64_t rows, int64_t cols, int64_t ld)
{
	float *out = kf_alloc((size_t)(rows * cols), sizeof *out);

	for (int64_t r = 0; out && r < rows; r++)
		for (int64_t c = 0; c < cols; c++) out[r * cols + c] = get(type, p, transposed ? c * ld + r : r * ld + c);
	return out;
}

kf_status kf_cuda_gemm_run(kf_cuda_gemm *g, const kf_cuda_product *p, void *C, const void *A, const void *B, kf_err *err)
{
	const bool failed = emu_asked("a product") != 0;
	float *a = dense(p->in, A, p->ta, p->M, p->K, p->lda), *b = dense(p->in, B, !p->tb, p->N, p->K, p->ldb);   /* B^T */
	kf_status rc = a && b ? KF_OK : kf_fail(err, KF_ENOMEM, "no memory for a product");

	(void)g;
	products++;
	if (failed) rc = kf_fail(err, KF_EIO, "a product of (%lld, %lld) and (%lld, %lld): the emulated device failed: %s", (long long)p->M, (long long)p->K,
		(long long)p->K, (long long)p->N, emu_error());
	for (int64_t m = 0; rc == KF_OK && m < p->M; m++)
		for (int64_t n = 0; n < p->N; n++) {
			float s = p->add ? get(p->out, C, m * p->ldc + n) : 0;

			for (int64_t k = 0; k < p->K; k++) s += a[m * p->K + k] * b[n * p->K + k];
			if (p->out == KF_NUM_BF16) ((uint16_t *)C)[m * p->ldc + n] = kf_f32_to_bf16(s);
			else ((float *)C)[m * p->ldc + n] = s;
		}
	kf_free(a);
	kf_free(b);
	return rc;
}
