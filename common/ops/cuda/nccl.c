/* Where all parts are of one length, reduce-scatter and all-gather; else a reduction to, or a broadcast from, the owner of each part,
 * in one group. In the order of the backend's stream, which the host does not wait for. Sums of bfloat16 are bfloat16. */
#include "common/ops/cuda/nccl.h"

#include <nccl.h>

static kf_status failed(ncclResult_t code, const char *what, kf_err *err)
{
	return kf_fail(err, KF_EIO, "%s: NCCL: %s", what, ncclGetErrorString(code));
}

static ncclDataType_t type_of(kf_num_type t)
{
	return t == KF_NUM_BF16 ? ncclBfloat16 : ncclFloat32;
}

kf_status kf_cuda_op_join(kf_exec *x, kf_ranks *r, kf_err *err)
{
	kf_cuda *c = kf_cuda_of(x);
	ncclUniqueId id = { { 0 } };
	ncclResult_t code = r->rank == 0 ? ncclGetUniqueId(&id) : ncclSuccess;
	ncclComm_t comm = NULL;
	kf_status rc = code == ncclSuccess ? KF_OK : failed(code, "meeting the other processes", err);

	if ((rc = kf_ranks_agree(r, rc, err)) != KF_OK || (rc = kf_ranks_broadcast(r, 0, &id, sizeof id, err)) != KF_OK) return rc;
	if ((code = ncclCommInitRank(&comm, r->size, id, r->rank)) != ncclSuccess)
		return failed(code, "meeting the other processes (each needs a device of its own)", err);
	c->nccl = comm;
	c->ranks = r;
	c->self = r->rank;
	c->size = r->size;
	return KF_OK;
}

void kf_cuda_leave(kf_cuda *c)
{
	/* where the others are lost, what they were to join never ends */
	if (c->nccl && c->ranks->lost) ncclCommAbort(c->nccl);
	else if (c->nccl) ncclCommDestroy(c->nccl);
	c->nccl = NULL;
}

/* The length of every part, or 0: they differ. */
static size_t equal_parts(const kf_cuda *c, const size_t *begin)
{
	for (int p = 1; p < c->size; p++)
		if (begin[p + 1] - begin[p] != begin[1] - begin[0]) return 0;
	return begin[1] - begin[0];
}

kf_status kf_cuda_op_sum_parts(kf_exec *x, void *v, kf_num_type type, const size_t *begin, kf_err *err)
{
	kf_cuda *c = kf_cuda_of(x);
	const size_t size = kf_num_size(type), each = equal_parts(c, begin);
	char *at = v;
	ncclResult_t code, end;

	if (each) {
		code = ncclReduceScatter(v, at + begin[c->self] * size, each, type_of(type), ncclSum, c->nccl, c->dev.stream);
	} else {
		code = ncclGroupStart();
		for (int p = 0; p < c->size && code == ncclSuccess; p++)
			if (begin[p + 1] > begin[p])
				code = ncclReduce(at + begin[p] * size, at + begin[p] * size, begin[p + 1] - begin[p], type_of(type), ncclSum, p,
					c->nccl, c->dev.stream);
		end = ncclGroupEnd();
		if (code == ncclSuccess) code = end;
	}
	return code == ncclSuccess ? KF_OK : failed(code, "adding gradients", err);
}

kf_status kf_cuda_op_send_parts(kf_exec *x, void *v, kf_num_type type, const size_t *begin, kf_err *err)
{
	kf_cuda *c = kf_cuda_of(x);
	const size_t size = kf_num_size(type), each = equal_parts(c, begin);
	char *at = v;
	ncclResult_t code, end;

	if (each) {
		code = ncclAllGather(at + begin[c->self] * size, v, each, type_of(type), c->nccl, c->dev.stream);
	} else {
		code = ncclGroupStart();
		for (int p = 0; p < c->size && code == ncclSuccess; p++)
			if (begin[p + 1] > begin[p])
				code = ncclBroadcast(at + begin[p] * size, at + begin[p] * size, begin[p + 1] - begin[p], type_of(type), p, c->nccl,
					c->dev.stream);
		end = ncclGroupEnd();
		if (code == ncclSuccess) code = end;
	}
	return code == ncclSuccess ? KF_OK : failed(code, "gathering weights", err);
}
