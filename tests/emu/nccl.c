/* NCCL's calls over MPI, for memory that is the host's: bfloat16 is added in float32 and rounded, as a device may do it. What NCCL
 * demands of its callers is checked: the id of rank 0, buffers in place where they must be, groups that end. */
#include <mpi.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/bf16.h"
#include "tests/emu/include/nccl.h"

struct ncclComm { int rank, size; };

static int group;
static const char SECRET[] = "of rank 0";

const char *ncclGetErrorString(ncclResult_t code)
{
	return code == ncclSuccess ? "no error" : code == ncclInvalidArgument ? "invalid argument" : "unhandled error";
}

ncclResult_t ncclGetUniqueId(ncclUniqueId *id)
{
	memcpy(id->internal, SECRET, sizeof SECRET);
	return ncclSuccess;
}

ncclResult_t ncclCommInitRank(ncclComm_t *comm, int size, ncclUniqueId id, int rank)
{
	if (memcmp(id.internal, SECRET, sizeof SECRET) != 0 || !(*comm = malloc(sizeof **comm))) return ncclInvalidArgument;
	(*comm)->rank = rank;
	(*comm)->size = size;
	return MPI_Barrier(MPI_COMM_WORLD) == MPI_SUCCESS ? ncclSuccess : ncclUnhandledCudaError;
}

ncclResult_t ncclCommAbort(ncclComm_t comm) { return ncclCommDestroy(comm); }

ncclResult_t ncclCommDestroy(ncclComm_t comm)
{
	free(comm);
	return group == 0 ? ncclSuccess : ncclInvalidArgument;
}

ncclResult_t ncclGroupStart(void)
{
	group++;
	return ncclSuccess;
}

ncclResult_t ncclGroupEnd(void)
{
	return group-- > 0 ? ncclSuccess : ncclInvalidArgument;
}

static size_t size_of(ncclDataType_t type) { return type == ncclBfloat16 ? 2 : 4; }

ncclResult_t ncclReduce(const void *from, void *to, size_t n, ncclDataType_t type, ncclRedOp_t op, int root, ncclComm_t comm,
	struct CUstream_st *s)
{
	float *in = calloc(n, sizeof *in), *out = malloc(n * sizeof *out);
	int code;

	(void)op, (void)s;
	if (!in || !out) return ncclUnhandledCudaError;
	for (size_t i = 0; i < n; i++)
		in[i] = type == ncclBfloat16 ? kf_bf16_to_f32(((const uint16_t *)from)[i]) : ((const float *)from)[i];
	code = MPI_Reduce(in, out, (int)n, MPI_FLOAT, MPI_SUM, root, MPI_COMM_WORLD);
	for (size_t i = 0; i < n && comm->rank == root; i++) {
		if (type == ncclBfloat16) ((uint16_t *)to)[i] = kf_f32_to_bf16(out[i]);
		else ((float *)to)[i] = out[i];
	}
	free(in);
	free(out);
	return code == MPI_SUCCESS ? ncclSuccess : ncclUnhandledCudaError;
}

ncclResult_t ncclBroadcast(const void *from, void *to, size_t n, ncclDataType_t type, int root, ncclComm_t comm, struct CUstream_st *s)
{
	(void)s;
	if (comm->rank == root && from != to) memcpy(to, from, n * size_of(type));
	return MPI_Bcast(to, (int)(n * size_of(type)), MPI_BYTE, root, MPI_COMM_WORLD) == MPI_SUCCESS ? ncclSuccess : ncclUnhandledCudaError;
}

ncclResult_t ncclReduceScatter(const void *from, void *to, size_t n, ncclDataType_t type, ncclRedOp_t op, ncclComm_t comm,
	struct CUstream_st *s)
{
	const char *at = from;
	ncclResult_t code = ncclSuccess;

	if ((const char *)to != at + (size_t)comm->rank * n * size_of(type)) return ncclInvalidArgument;
	for (int p = 0; p < comm->size && code == ncclSuccess; p++)
		code = ncclReduce(at + (size_t)p * n * size_of(type), to, n, type, op, p, comm, s);
	return code;
}

ncclResult_t ncclAllGather(const void *from, void *to, size_t n, ncclDataType_t type, ncclComm_t comm, struct CUstream_st *s)
{
	char *at = to;
	ncclResult_t code = ncclSuccess;

	if ((const char *)from != at + (size_t)comm->rank * n * size_of(type)) return ncclInvalidArgument;
	for (int p = 0; p < comm->size && code == ncclSuccess; p++)
		code = ncclBroadcast(at + (size_t)p * n * size_of(type), at + (size_t)p * n * size_of(type), n, type, p, comm, s);
	return code;
}
