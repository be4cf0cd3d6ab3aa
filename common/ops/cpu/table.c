/* The table of the CPU backend, its state, and what its ops share. */
#include "common/ops/cpu/cpu.h"
#include "common/ops/cpu/state.h"
#include "common/ops/ref/ref.h"

#include <dnnl.h>
#include <omp.h>

typedef struct { void *p; size_t size; } block;

typedef struct {
	block slot[KF_CPU_SLOTS];
	int workers;
	block *worker;   /* (workers) */
	kf_cpu_rope_table rope[KF_CPU_ROPES];
	kf_cpu_bf16 *bf16;   /* NULL: float32 */
} cpu_state;

kf_status kf_cpu_open(kf_exec *x, kf_err *err)
{
	cpu_state *s = kf_zalloc(1, sizeof *s);
	kf_status rc;

	if (!s) return kf_fail(err, KF_ENOMEM, "out of memory for the CPU backend");
	s->workers = kf_pool_size(x->pool);
	if (!(s->worker = kf_zalloc((size_t)s->workers, sizeof *s->worker))) {
		kf_free(s);
		return kf_fail(err, KF_ENOMEM, "out of memory for the CPU backend");
	}
	if (x->compute != KF_COMPUTE_F32 && (rc = kf_cpu_bf16_new(s->workers, true, &s->bf16, err)) != KF_OK) {
		kf_free(s->worker);
		kf_free(s);
		return rc;
	}
	x->state = s;
	return KF_OK;
}

void kf_cpu_close(kf_exec *x)
{
	cpu_state *s = x->state;

	if (!s) return;
	for (int i = 0; i < s->workers; i++) kf_free(s->worker[i].p);
	for (int i = 0; i < KF_CPU_SLOTS; i++) kf_free(s->slot[i].p);
	for (int i = 0; i < KF_CPU_ROPES; i++) {
		kf_free(s->rope[i].table);
		kf_free(s->rope[i].inv_freq);
	}
	kf_cpu_bf16_free(s->bf16);
	kf_free(s->worker);
	kf_free(s);
	x->state = NULL;
}

kf_cpu_rope_table *kf_cpu_rope_tables(kf_exec *x)
{
	cpu_state *s = x->state;

	return s->rope;
}

kf_cpu_bf16 *kf_cpu_bf16_of(kf_exec *x)
{
	cpu_state *s = x->state;

	return s->bf16;
}

static void *grow(block *b, size_t bytes)
{
	if (bytes > b->size || !b->p) {
		kf_free(b->p);
		b->p = kf_alloc(bytes ? bytes : 1, 1);
		b->size = b->p ? bytes : 0;
	}
	return b->p;
}

void *kf_cpu_scratch(kf_exec *x, int slot, size_t bytes)
{
	cpu_state *s = x->state;

	return grow(&s->slot[slot], bytes);
}

void *kf_cpu_worker_scratch(kf_exec *x, int worker, size_t bytes)
{
	cpu_state *s = x->state;

	return grow(&s->worker[worker], bytes);
}

/* oneDNN is built on OpenMP; a pool thread that calls it must stay one thread. The
 * setting belongs to the calling thread, and is put back for the sake of main. */
int kf_cpu_sgemm(bool ta, bool tb, int64_t M, int64_t N, int64_t K, float alpha, const float *A, int64_t lda,
	const float *B, int64_t ldb, float beta, float *C, int64_t ldc)
{
	const int before = omp_get_max_threads();
	dnnl_status_t st;

	if (before != 1) omp_set_num_threads(1);
	st = dnnl_sgemm(ta ? 'T' : 'N', tb ? 'T' : 'N', M, N, K, alpha, A, lda, B, ldb, beta, C, ldc);
	if (before != 1) omp_set_num_threads(before);
	return (int)st;
}

kf_status kf_cpu_dnnl_status(int status, const char *what, kf_err *err)
{
	switch (status) {
	case dnnl_success: return KF_OK;
	case dnnl_out_of_memory: return kf_fail(err, KF_ENOMEM, "%s: oneDNN is out of memory", what);
	case dnnl_invalid_arguments: return kf_fail(err, KF_EINVAL, "%s: oneDNN refuses the shape as invalid",
		what);
	case dnnl_unimplemented: return kf_fail(err, KF_EUNSUPPORTED,
		"%s: oneDNN has no such product on this processor", what);
	default: return kf_fail(err, KF_EIO, "%s: oneDNN failed with status %d", what, status);
	}
}

const kf_ops kf_ops_cpu = {
	.name = "cpu",
	.open = kf_cpu_open,
	.close = kf_cpu_close,
	.alloc = kf_ref_alloc,
	.free = kf_ref_free,
	.put = kf_ref_put,
	.get = kf_ref_get,
	.put_num = kf_ref_put_num,
	.get_num = kf_ref_get_num,
	.zero = kf_cpu_zero,
	.linear = kf_cpu_linear,
	.logits = kf_cpu_logits,
	.linear_dx = kf_cpu_linear_dx,
	.linear_dw = kf_cpu_linear_dw,
	.embed = kf_cpu_embed,
	.embed_dw = kf_cpu_embed_dw,
	.rmsnorm = kf_cpu_rmsnorm,
	.rmsnorm_dx = kf_cpu_rmsnorm_dx,
	.layernorm = kf_cpu_layernorm,
	.layernorm_dx = kf_cpu_layernorm_dx,
	.rope = kf_cpu_rope,
	.split_qkv = kf_cpu_split_qkv,
	.attention = kf_cpu_attention,
	.attention_dx = kf_cpu_attention_dx,
	.rope_after = kf_cpu_rope_after,
	.attention_after = kf_cpu_attention_after,
	.store = kf_cpu_store,
	.glu = kf_cpu_glu,
	.glu_dx = kf_cpu_glu_dx,
	.route = kf_ref_route,
	.route_dx = kf_ref_route_dx,
	.permute = kf_ref_permute,
	.gather = kf_cpu_gather,
	.scatter = kf_cpu_scatter,
	.dots = kf_cpu_dots,
	.add = kf_cpu_add,
	.keep_rows = kf_ref_keep_rows,
	.head_score = kf_cpu_head_score,
	.head_loss = kf_cpu_head_loss,
	.sumsq = kf_cpu_sumsq,
	.adamw = kf_cpu_adamw,
};
