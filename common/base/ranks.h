/* Processes that work on one thing together, as mpirun or srun starts them: which of them this one is, and what passes between
 * them. A process that is alone has no kf_ranks: NULL, with which every function here does nothing, or what is right for one.
 *
 *     ranks.c         what is the same however the processes reach each other
 *     ranks_mpi.c     MPI (make MPI=1)
 *     ranks_alone.c   a build without MPI: refuses to be started as one of several
 *
 * All functions that take a kf_err are collective: every process calls the same ones in the same order, one thread at a time.
 * Memory is the host's. Where one of them fails, the processes no longer understand each other (`lost`): every later call fails,
 * and what is left is to end. Everything else that fails in one process alone must meet the others at kf_ranks_agree first.
 * Sums are taken in the order of the ranks: a run can be repeated, and every process gets the same bits.
 */
#ifndef KF_BASE_RANKS_H
#define KF_BASE_RANKS_H

#include <stdbool.h>
#include <stddef.h>

#include "common/base/status.h"

typedef struct kf_ranks {
	int rank, size;          /* this process, of so many; size > 1 */
	int local;               /* of those on this machine, which this is (from 0) */
	int threads;             /* sensible for this process: the cores it may use, by the processes that may use the same ones */
	bool lost;               /* the others are not to be reached any more */
	bool speaks;             /* of the processes that are left on its machine this one says what there is to say: rank 0 while all live; and whoever gives up by itself */
	struct kf_ranks_peer *peer;  /* (size) */
	void *state;
} kf_ranks;

/* *out NULL: alone. KF_EUNSUPPORTED where a launcher has started several that cannot reach each other. */
kf_status kf_ranks_open(kf_ranks **out, kf_err *err) KF_MUST_CHECK;
/* Waits for the others, unless they are lost. Accepts NULL. */
void kf_ranks_close(kf_ranks *r);

static inline int kf_ranks_rank(const kf_ranks *r) { return r ? r->rank : 0; }
static inline int kf_ranks_size(const kf_ranks *r) { return r ? r->size : 1; }
static inline bool kf_ranks_first(const kf_ranks *r) { return !r || r->rank == 0; }
static inline bool kf_ranks_speaks(const kf_ranks *r) { return !r || r->speaks; }

/* One outcome for all: KF_OK where rc is in every process; else that of one in which it is not (one that merely was stopped comes
 * last), with its message. */
kf_status kf_ranks_agree(kf_ranks *r, kf_status rc, kf_err *err) KF_MUST_CHECK;

/* v (n), n <= 16, becomes the sum over the processes. */
kf_status kf_ranks_sum(kf_ranks *r, double *v, int n, kf_err *err) KF_MUST_CHECK;

/* ---- the collectives of an implementation; r is not NULL ---- */

/* all (size, bytes): what each process has in mine (bytes). For what is small. */
kf_status kf_ranks_share(kf_ranks *r, const void *mine, size_t bytes, void *all, kf_err *err) KF_MUST_CHECK;
/* p (bytes) becomes what the process root has there. */
kf_status kf_ranks_broadcast(kf_ranks *r, int root, void *p, size_t bytes, kf_err *err) KF_MUST_CHECK;
/* Reduce-scatter: v[begin[rank] .. begin[rank + 1]) becomes the sum over the processes; the rest of v is as it was. begin (size + 1)
 * is the same everywhere. */
kf_status kf_ranks_sum_parts(kf_ranks *r, float *v, const size_t *begin, kf_err *err) KF_MUST_CHECK;
/* Gather in place: process i has v[begin[i] .. begin[i + 1]), in bytes, and root, or with -1 every process, gets all of them. v of
 * the others may then be only as long as it must be: they do not touch what is not theirs. */
kf_status kf_ranks_gather_parts(kf_ranks *r, char *v, const size_t *begin, int root, kf_err *err) KF_MUST_CHECK;

/* ---- for implementations ---- */

/* Processes that a launcher (Open MPI's, MPICH's, Slurm's) says it started, of which this is one; 1 where none says so. */
int kf_ranks_launched(void);
/* Who the others are: sets local, threads, peer. r->rank and size are set. */
kf_status kf_ranks_meet(kf_ranks *r, kf_err *err) KF_MUST_CHECK;
/* To be called now and then while waiting: KF_EIO, and lost, when a process of this machine has died, when this one was asked to
 * end and others, some of them on other machines, do not come for 100 seconds, or after an hour. waited: seconds; *asked: after how many of them this one was asked to end, negative
 * before. */
kf_status kf_ranks_watch(kf_ranks *r, double waited, double *asked, kf_err *err) KF_MUST_CHECK;

#endif
