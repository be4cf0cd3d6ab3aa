/* Matrix products: cuBLASLt. It counts columns first, so it is asked for the transpose, C^T = op(B)^T op(A)^T: a row-major
 * matrix is the column-major one of its transpose, and nothing is moved. */
#include "common/ops/cuda/gemm.h"

#include <cublasLt.h>

#include "common/base/mem.h"

/* What NVIDIA advises for its newest: smaller ones rule out some of the fast ways to split a product. */
enum { WORKSPACE = 32 << 20, PLANS = 1024 };

/* All that a plan depends on. */
typedef struct {
	kf_cuda_product p;
	unsigned align_a, align_b, align_c;   /* of the addresses, bytes */
} key;

typedef struct {
	key key;
	bool used;
	cublasLtMatmulDesc_t desc;
	cublasLtMatrixLayout_t a, b, c;
	cublasLtMatmulAlgo_t algo;
} plan;

struct kf_cuda_gemm {
	cublasLtHandle_t lt;
	kf_cuda_stream stream;
	void *workspace;
	plan plans[PLANS];       /* by a hash of the key; a newcomer takes the place of whoever is there */
};

static kf_status status(cublasStatus_t st, const key *k, kf_err *err)
{
	const kf_cuda_product *p = &k->p;

	if (st == CUBLAS_STATUS_SUCCESS) return KF_OK;
	return kf_fail(err, st == CUBLAS_STATUS_ALLOC_FAILED ? KF_ENOMEM : KF_EIO,
		"a product of (%lld, %lld) and (%lld, %lld): cuBLASLt: %s", (long long)p->M, (long long)p->K, (long long)p->K,
		(long long)p->N, cublasLtGetStatusString(st));
}

kf_status kf_cuda_gemm_new(const kf_cuda_device *d, kf_cuda_gemm **out, kf_err *err)
{
	kf_cuda_gemm *g = kf_zalloc(1, sizeof *g);
	cublasStatus_t st;

	*out = NULL;
	if (!g) return kf_fail(err, KF_ENOMEM, "no memory for the plans of matrix products");
	g->stream = d->stream;
	if (!(g->workspace = kf_cuda_device_alloc(WORKSPACE))) {
		kf_cuda_gemm_free(g);
		return kf_fail(err, KF_ENOMEM, "no memory on the device for the workspace of matrix products: %d MB are needed. See who else holds some (nvidia-smi).", WORKSPACE >> 20);
	}
	if ((st = cublasLtCreate(&g->lt)) != CUBLAS_STATUS_SUCCESS) {
		kf_cuda_gemm_free(g);
		return kf_fail(err, KF_EIO, "cuBLASLt does not start: %s", cublasLtGetStatusString(st));
	}
	*out = g;
	return KF_OK;
}

static void drop(plan *p)
{
	if (p->a) cublasLtMatrixLayoutDestroy(p->a);
	if (p->b) cublasLtMatrixLayoutDestroy(p->b);
	if (p->c) cublasLtMatrixLayoutDestroy(p->c);
	if (p->desc) cublasLtMatmulDescDestroy(p->desc);
	*p = (plan){ 0 };
}

void kf_cuda_gemm_free(kf_cuda_gemm *g)
{
	if (!g) return;
	for (int i = 0; i < PLANS; i++) drop(&g->plans[i]);
	if (g->lt) cublasLtDestroy(g->lt);
	kf_cuda_device_free(g->workspace);
	kf_free(g);
}

static cudaDataType type_of(kf_num_type t)
{
	return t == KF_NUM_BF16 ? CUDA_R_16BF : CUDA_R_32F;
}

static unsigned alignment(const void *p)
{
	uintptr_t u = (uintptr_t)p | 256;

	return (unsigned)(u & -u);
}

static bool same(const key *a, const key *b)
{
	const kf_cuda_product *p = &a->p, *q = &b->p;

	return p->M == q->M && p->N == q->N && p->K == q->K && p->lda == q->lda && p->ldb == q->ldb && p->ldc == q->ldc &&
		p->ta == q->ta && p->tb == q->tb && p->add == q->add && p->in == q->in && p->out == q->out &&
		a->align_a == b->align_a && a->align_b == b->align_b && a->align_c == b->align_c;
}

static size_t hash(const key *k)
{
	const kf_cuda_product *p = &k->p;
	const uint64_t v[] = { (uint64_t)p->M, (uint64_t)p->N, (uint64_t)p->K, (uint64_t)(p->lda * 7 + p->ldb * 3 + p->ldc),
		(uint64_t)(p->ta | p->tb << 1 | p->add << 2 | p->in << 3 | p->out << 4), k->align_a, k->align_b, k->align_c };
	uint64_t h = 0;

	for (size_t i = 0; i < sizeof v / sizeof v[0]; i++) h = (h ^ v[i]) * 0x9e3779b97f4a7c15u;
	return (size_t)(h >> 32) % PLANS;
}

/* As stored: (rows, cols), or for cuBLASLt (cols, rows). */
static cublasStatus_t layout(cublasLtMatrixLayout_t *out, kf_num_type type, int64_t rows, int64_t cols, int64_t ld)
{
	return cublasLtMatrixLayoutCreate(out, type_of(type), (uint64_t)cols, (uint64_t)rows, ld);
}

static cublasStatus_t choose(kf_cuda_gemm *g, plan *n)
{
	const kf_cuda_product *p = &n->key.p;
	const cublasOperation_t ta = p->ta ? CUBLAS_OP_T : CUBLAS_OP_N, tb = p->tb ? CUBLAS_OP_T : CUBLAS_OP_N;
	const size_t workspace = WORKSPACE;
	/* sums of parts of K are float32 until they are rounded, once: not in bfloat16, as the default allows */
	const uint32_t reduction = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
	/* their A is our B */
	const uint32_t align_a = n->key.align_b, align_b = n->key.align_a, align_c = n->key.align_c;
	cublasLtMatmulPreference_t pref = NULL;
	cublasLtMatmulHeuristicResult_t best;
	cublasStatus_t st;
	int found = 0;

	if ((st = cublasLtMatmulDescCreate(&n->desc, CUBLAS_COMPUTE_32F, CUDA_R_32F)) ||
	    (st = cublasLtMatmulDescSetAttribute(n->desc, CUBLASLT_MATMUL_DESC_TRANSA, &tb, sizeof tb)) ||
	    (st = cublasLtMatmulDescSetAttribute(n->desc, CUBLASLT_MATMUL_DESC_TRANSB, &ta, sizeof ta)) ||
	    (st = layout(&n->a, p->in, p->ta ? p->K : p->M, p->ta ? p->M : p->K, p->lda)) ||
	    (st = layout(&n->b, p->in, p->tb ? p->N : p->K, p->tb ? p->K : p->N, p->ldb)) ||
	    (st = layout(&n->c, p->out, p->M, p->N, p->ldc)) ||
	    (st = cublasLtMatmulPreferenceCreate(&pref)) ||
	    (st = cublasLtMatmulPreferenceSetAttribute(pref, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace, sizeof workspace)) ||
	    (st = cublasLtMatmulPreferenceSetAttribute(pref, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &reduction, sizeof reduction)) ||
	    (st = cublasLtMatmulPreferenceSetAttribute(pref, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &align_a, sizeof align_a)) ||
	    (st = cublasLtMatmulPreferenceSetAttribute(pref, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &align_b, sizeof align_b)) ||
	    (st = cublasLtMatmulPreferenceSetAttribute(pref, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &align_c, sizeof align_c)) ||
	    (st = cublasLtMatmulPreferenceSetAttribute(pref, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &align_c, sizeof align_c)))
		goto out;
	st = cublasLtMatmulAlgoGetHeuristic(g->lt, n->desc, n->b, n->a, n->c, n->c, pref, 1, &best, &found);
	if (st == CUBLAS_STATUS_SUCCESS && (!found || best.state != CUBLAS_STATUS_SUCCESS)) st = CUBLAS_STATUS_NOT_SUPPORTED;
	if (st == CUBLAS_STATUS_SUCCESS) n->algo = best.algo;
out:
	if (pref) cublasLtMatmulPreferenceDestroy(pref);
	return st;
}

kf_status kf_cuda_gemm_run(kf_cuda_gemm *g, const kf_cuda_product *p, void *C, const void *A, const void *B, kf_err *err)
{
	const float one = 1, beta = p->add ? 1 : 0;
	const key k = { *p, alignment(A), alignment(B), alignment(C) };
	plan *n = &g->plans[hash(&k)];
	cublasStatus_t st;

	if (!p->M || !p->N) return KF_OK;
	if (!n->used || !same(&n->key, &k)) {
		drop(n);
		n->key = k;
		if ((st = choose(g, n)) != CUBLAS_STATUS_SUCCESS) {
			drop(n);
			return status(st, &k, err);
		}
		n->used = true;
	}
	st = cublasLtMatmul(g->lt, n->desc, &one, B, n->b, A, n->a, &beta, C, n->c, C, n->c, &n->algo, g->workspace, WORKSPACE,
		g->stream);
	return status(st, &k, err);
}
