/* The seam of matrix products without cuBLASLt: by definition, sums in double. */
#include "common/ops/cuda/gemm.h"

#include "common/base/bf16.h"
#include "common/base/mem.h"

struct kf_cuda_gemm { int runs; };

kf_status kf_cuda_gemm_new(const kf_cuda_device *d, kf_cuda_gemm **out, kf_err *err)
{
	(void)d;
	*out = kf_zalloc(1, sizeof **out);
	return *out ? KF_OK : kf_fail(err, KF_ENOMEM, "no memory for matrix products");
}

void kf_cuda_gemm_free(kf_cuda_gemm *g)
{
	kf_free(g);
}

/* Numbers (rows, cols) with ld from row to row, or with t their transpose (cols, rows) as stored, as dense floats. */
static float *dense(const void *p, kf_num_type type, bool t, int64_t rows, int64_t cols, int64_t ld)
{
	float *out = kf_alloc((size_t)(rows * cols), sizeof *out);

	for (int64_t r = 0; out && r < rows; r++)
		for (int64_t c = 0; c < cols; c++) {
			const int64_t at = t ? c * ld + r : r * ld + c;

			out[r * cols + c] = type == KF_NUM_BF16 ? kf_bf16_to_f32(((const uint16_t *)p)[at]) : ((const float *)p)[at];
		}
	return out;
}

kf_status kf_cuda_gemm_run(kf_cuda_gemm *g, const kf_cuda_product *p, void *C, const void *A, const void *B, kf_err *err)
{
	float *a = dense(A, p->in, p->ta, p->M, p->K, p->lda), *b = dense(B, p->in, !p->tb, p->N, p->K, p->ldb);

	g->runs++;
	if (!a || !b) {
		kf_free(a);
		kf_free(b);
		return kf_fail(err, KF_ENOMEM, "no memory for a product");
	}
	for (int64_t m = 0; m < p->M; m++)
		for (int64_t n = 0; n < p->N; n++) {
			const float *x = a + m * p->K, *y = b + n * p->K;
			const int64_t at = m * p->ldc + n;
			uint16_t *half = (uint16_t *)C + at;
			float *full = (float *)C + at;
			double s = !p->add ? 0 : p->out == KF_NUM_BF16 ? (double)kf_bf16_to_f32(*half) : (double)*full;

			for (int64_t k = 0; k < p->K; k++) s += (double)x[k] * y[k];
			if (p->out == KF_NUM_BF16) *half = kf_f32_to_bf16((float)s);
			else *full = (float)s;
		}
	kf_free(a);
	kf_free(b);
	return KF_OK;
}
