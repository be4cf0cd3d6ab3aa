/* The table of the CUDA backend. */
#include "common/ops/cuda/ops.h"

#ifdef KF_NCCL
#include "common/ops/cuda/nccl.h"

/* What is between processes must be given back before the device is. */
static void leave_and_close(kf_exec *x)
{
	if (x->state) kf_cuda_leave(kf_cuda_of(x));
	kf_cuda_close(x);
}

/* Where the others are lost, the device may wait for them for ever, and freeing memory waits for the device. */
static void leave_and_free(kf_exec *x, void *p)
{
	kf_cuda *c = kf_cuda_of(x);

	if (c->nccl && c->ranks->lost) kf_cuda_leave(c);
	kf_cuda_op_free(x, p);
}
#define CLOSE leave_and_close
#define FREE leave_and_free
#else
#define CLOSE kf_cuda_close
#define FREE kf_cuda_op_free
#endif

const kf_ops kf_cuda_ops = {
	.name = "cuda",
	.resident = true,
	.open = kf_cuda_open,
	.close = CLOSE,
	.alloc = kf_cuda_op_alloc,
	.free = FREE,
	.memory = kf_cuda_op_memory,
	.put = kf_cuda_op_put,
	.get = kf_cuda_op_get,
	.put_num = kf_cuda_op_put_num,
	.get_num = kf_cuda_op_get_num,
	.zero = kf_cuda_op_zero,
	.linear = kf_cuda_op_linear,
	.logits = kf_cuda_op_logits,
	.linear_dx = kf_cuda_op_linear_dx,
	.linear_dw = kf_cuda_op_linear_dw,
	.embed = kf_cuda_op_embed,
	.embed_dw = kf_cuda_op_embed_dw,
	.rmsnorm = kf_cuda_op_rmsnorm,
	.rmsnorm_dx = kf_cuda_op_rmsnorm_dx,
	.layernorm = kf_cuda_op_layernorm,
	.layernorm_dx = kf_cuda_op_layernorm_dx,
	.rope = kf_cuda_op_rope,
	.split_qkv = kf_cuda_op_split_qkv,
	.attention = kf_cuda_op_attention,
	.attention_dx = kf_cuda_op_attention_dx,
	.rope_after = kf_cuda_op_rope_after,
	.attention_after = kf_cuda_op_attention_after,
	.store = kf_cuda_op_store,
	.glu = kf_cuda_op_glu,
	.glu_dx = kf_cuda_op_glu_dx,
	.route = kf_cuda_op_route,
	.route_dx = kf_cuda_op_route_dx,
	.permute = kf_cuda_op_permute,
	.gather = kf_cuda_op_gather,
	.scatter = kf_cuda_op_scatter,
	.dots = kf_cuda_op_dots,
	.add = kf_cuda_op_add,
	.keep_rows = kf_cuda_op_keep_rows,
	.head_score = kf_cuda_op_head_score,
	.head_loss = kf_cuda_op_head_loss,
	.sumsq = kf_cuda_op_sumsq,
	.adamw = kf_cuda_op_adamw,
#ifdef KF_NCCL
	.join = kf_cuda_op_join,
	.sum_parts = kf_cuda_op_sum_parts,
	.send_parts = kf_cuda_op_send_parts,
#endif
};
