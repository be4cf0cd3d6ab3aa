/* The CUDA backend's host side: what its ops share. An op family a file, over
 *
 *     kernels.h           our kernels' launchers (.cu)
 *     device.h            memory, copies, the stream
 *     gemm.h              matrix products
 *     fused_attention.h   attention, where the vendor's library has the case
 *
 * Each of the four has another implementation in tests/emu, so that everything else here runs in the tests on machines
 * without a device. Ops only put work on the stream; the host waits where an answer leaves the device: get, get_num, sumsq,
 * the heads' answers, and the routing of experts. Contracts of the ops: common/ops/ops.h.
 */
#ifndef KF_OPS_CUDA_CUDA_H
#define KF_OPS_CUDA_CUDA_H

#include "common/ops/cuda/device.h"
#include "common/ops/cuda/fused_attention.h"
#include "common/ops/cuda/gemm.h"
#include "common/ops/cuda/kernels.h"
#include "common/ops/ops.h"

/* Device memory that is kept from call to call, one block a slot. */
enum { KF_CUDA_BOUNCE = 8 << 20 };
enum {
	KF_CUDA_WORK,          /* a launcher's own scratch */
	KF_CUDA_ROWS,          /* keep_rows' copy */
	KF_CUDA_LOGITS, KF_CUDA_DLOGITS, KF_CUDA_TILE_W, KF_CUDA_STATE, KF_CUDA_ANSWERS, KF_CUDA_QUERY, /* the heads' */
	KF_CUDA_ORDER, KF_CUDA_SPANS, KF_CUDA_SUMS,
	KF_CUDA_PLACES, KF_CUDA_AFTER, KF_CUDA_INDEX, /* of sequences that go on */
	KF_CUDA_SLOTS
};

typedef struct { void *p; size_t size; } kf_cuda_block;

/* Arrays of the host, and the copy of those from which something on the device was made last, one after the other: it is not made
 * again while they are the same. n is 0 where nothing was. */
typedef struct { const int32_t *v; size_t n; } kf_cuda_ints;
typedef struct { int32_t *v; size_t n, cap; } kf_cuda_seen;

typedef struct {
	kf_cuda_device dev;
	kf_cuda_gemm *gemm;
	kf_cuda_fused *fused;            /* NULL: none */
	struct ncclComm *nccl;           /* NULL: alone, or a build without */
	kf_ranks *ranks;                 /* borrowed: whom nccl reaches */
	int self, size;                  /* this process, and how many are in it */
	kf_cuda_block slot[KF_CUDA_SLOTS];
	/* Uploads: a ring of pinned memory and one on the device, filled in step; where it ends the host waits for the stream. */
	char *pinned, *ring;
	size_t ring_at, ring_size;
	char *bounce;                    /* (2, KF_CUDA_BOUNCE) pinned, for what get and put move */
	/* Where each row's sequence begins and ends: (T) on the device, of offset (S + 1). */
	kf_cuda_seen spans_of;
	int32_t *begin, *end;
	int longest;                     /* rows of a sequence */
	/* Of sequences that go on: from where each row's position counts, of offset and first (T); the pieces of attention, of offset, n, and
	 * row (k and v unset); places of rows in a cache. All on the device. */
	kf_cuda_seen places_of, after_of, index_of;
	int32_t *places, *index;
	kf_cuda_past after;
	/* The order of the vocabulary last seen. */
	int32_t *order_host, *order, *rank; /* (V); the last two on the device */
	int V;
	kf_err first;                    /* of the first op that failed and cannot say so: the next that can does */
	kf_status rc;                    /* why scratch or upload gave NULL last */
} kf_cuda;

static inline kf_cuda *kf_cuda_of(kf_exec *x) { return x->state; }

/* state.c */
kf_status kf_cuda_open(kf_exec *x, kf_err *err) KF_MUST_CHECK;
void kf_cuda_close(kf_exec *x);
/* At least `bytes` of the device's memory, not cleared; valid until the same slot is asked for more. NULL: no memory; c->rc is
 * what to return. */
void *kf_cuda_scratch(kf_cuda *c, int slot, size_t bytes, const char *what, kf_err *err);
/* A copy on the device of host memory, which may change at once; valid for the work of this op. NULL: it failed, and c->rc
 * is what to return. An op with several uploads first makes room for all of them together (the last of them must not lie
 * where the first still are): bytes, each upload's rounded up to 256. */
void *kf_cuda_upload(kf_cuda *c, const void *host, size_t bytes, kf_err *err);
kf_status kf_cuda_room(kf_cuda *c, size_t bytes, kf_err *err) KF_MUST_CHECK;
/* The same in a slot: valid until the slot is asked for again. */
void *kf_cuda_hold(kf_cuda *c, int slot, const void *host, size_t bytes, const char *what, kf_err *err);
/* Whether the arrays are those of last time; and to say that they are now. */
bool kf_cuda_same(const kf_cuda_seen *s, const kf_cuda_ints *in, int n);
kf_status kf_cuda_keep(kf_cuda_seen *s, const kf_cuda_ints *in, int n, kf_err *err) KF_MUST_CHECK;
/* For ops that return nothing. Where a message goes so that the first of all is kept; NULL when there was one. */
kf_err *kf_cuda_later(kf_cuda *c);
/* Remember a launch that failed. */
void kf_cuda_note(kf_cuda *c, int code, const char *op);
/* What was remembered; otherwise code. */
kf_status kf_cuda_check(kf_cuda *c, int code, const char *op, kf_err *err) KF_MUST_CHECK;
/* begin and end of offset's rows in c. */
kf_status kf_cuda_see_spans(kf_cuda *c, const int32_t *offset, int S, kf_err *err) KF_MUST_CHECK;

#endif
