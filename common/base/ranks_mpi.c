/* Processes over MPI. Whatever is waited for is asked for in turns (MPI_Testall), never waited for inside MPI: so a process that
 * waits leaves its core to those it waits for, and sees when they died. */
#include "common/base/ranks.h"

#include <mpi.h>
#include <sched.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include "common/base/mem.h"
#include "common/base/progress.h"

#define CHUNK ((size_t)1 << 18)        /* floats of a part that are exchanged at a time; a buffer a process */
#define PIECE ((size_t)1 << 28)        /* bytes of a message: MPI counts in int */
#define COMING 2e-3                    /* seconds: see finish */
#define MOVING 1.0
#define LOOK 0.1                       /* seconds between two looks at the others */

typedef struct {
	MPI_Comm comm;
	MPI_Request *request;          /* (2 size) */
	float *in;                     /* (size, CHUNK) */
} world;

static kf_status lose(kf_ranks *r, int code, const char *what, kf_err *err)
{
	char text[MPI_MAX_ERROR_STRING] = "";
	int n;

	r->lost = r->speaks = true;
	MPI_Error_string(code, text, &n);
	return kf_fail(err, KF_EIO, "%s: MPI: %.500s", what, text);
}

/* Until all n requests are done. rest: seconds after which the turns have pauses. What is under way moves only when it is asked for,
 * and all are there for it; where they still have to come, the core is better left to them. */
static kf_status finish(kf_ranks *r, MPI_Request *q, int n, double rest, const char *what, kf_err *err)
{
	const double start = kf_now();
	double looked = start, asked = -1;

	for (unsigned turn = 0;; turn++) {
		int done = 0, code = MPI_Testall(n, q, &done, MPI_STATUSES_IGNORE);
		double now;
		kf_status rc;

		if (code != MPI_SUCCESS) return lose(r, code, what, err);
		if (done) return KF_OK;
		sched_yield();
		if (turn < 200) continue;
		now = kf_now();
		if (now - start > rest) nanosleep(&(struct timespec){ .tv_nsec = 50000 }, NULL);
		if (now - looked < LOOK) continue;
		looked = now;
		if ((rc = kf_ranks_watch(r, now - start, &asked, err)) != KF_OK) return rc;
	}
}

kf_status kf_ranks_share(kf_ranks *r, const void *mine, size_t bytes, void *all, kf_err *err)
{
	world *w = r->state;
	int code;

	if (r->lost) return kf_fail(err, KF_EIO, "the other processes are lost");
	code = MPI_Iallgather(mine, (int)bytes, MPI_BYTE, all, (int)bytes, MPI_BYTE, w->comm, w->request);
	return code == MPI_SUCCESS ? finish(r, w->request, 1, COMING, "waiting for the other processes", err) : lose(r, code, "sharing", err);
}

kf_status kf_ranks_broadcast(kf_ranks *r, int root, void *p, size_t bytes, kf_err *err)
{
	world *w = r->state;
	kf_status rc = KF_OK;

	if (r->lost) return kf_fail(err, KF_EIO, "the other processes are lost");
	for (size_t at = 0; at < bytes && rc == KF_OK; at += PIECE) {
		const size_t n = bytes - at < PIECE ? bytes - at : PIECE;
		const int code = MPI_Ibcast((char *)p + at, (int)n, MPI_BYTE, root, w->comm, w->request);

		rc = code == MPI_SUCCESS ? finish(r, w->request, 1, COMING, "waiting for the other processes", err) : lose(r, code, "telling all", err);
	}
	return rc;
}

/* The longest part. */
static size_t longest(const kf_ranks *r, const size_t *begin)
{
	size_t most = 0;

	for (int i = 0; i < r->size; i++)
		if (begin[i + 1] - begin[i] > most) most = begin[i + 1] - begin[i];
	return most;
}

static void add(float *restrict to, const float *restrict from, size_t n)
{
	for (size_t i = 0; i < n; i++) to[i] += from[i];
}

/* v (n) of this process and those that came from the others: their sum in the order of the ranks, in v. */
static void sum_in_order(const kf_ranks *r, float *v, float *in, size_t n)
{
	float *sum = r->rank == 0 ? v : in;

	for (int i = 1; i < r->size; i++) add(sum, i == r->rank ? v : in + (size_t)i * CHUNK, n);
	if (sum != v) memcpy(v, sum, n * sizeof *v);
}

kf_status kf_ranks_sum_parts(kf_ranks *r, float *v, const size_t *begin, kf_err *err)
{
	world *w = r->state;
	const size_t own = begin[r->rank + 1] - begin[r->rank], most = longest(r, begin);
	kf_status rc;

	if (r->lost) return kf_fail(err, KF_EIO, "the other processes are lost");
	for (size_t at = 0; at < most; at += CHUNK) {
		const size_t mine = at >= own ? 0 : own - at < CHUNK ? own - at : CHUNK;
		int n = 0, code = MPI_SUCCESS;

		for (int k = 1; k < r->size && code == MPI_SUCCESS && mine; k++) {
			const int from = (r->rank + r->size - k) % r->size;

			code = MPI_Irecv(w->in + (size_t)from * CHUNK, (int)mine, MPI_FLOAT, from, 1, w->comm, &w->request[n++]);
		}
		for (int k = 1; k < r->size && code == MPI_SUCCESS; k++) {
			const int to = (r->rank + k) % r->size;
			const size_t theirs = begin[to + 1] - begin[to];

			if (at < theirs)
				code = MPI_Isend(v + begin[to] + at, (int)(theirs - at < CHUNK ? theirs - at : CHUNK), MPI_FLOAT, to, 1, w->comm,
					&w->request[n++]);
		}
		if (code != MPI_SUCCESS) return lose(r, code, "adding gradients", err);
		if ((rc = finish(r, w->request, n, MOVING, "adding gradients", err)) != KF_OK) return rc;
		if (mine) sum_in_order(r, v + begin[r->rank] + at, w->in, mine);
	}
	return KF_OK;
}

kf_status kf_ranks_gather_parts(kf_ranks *r, char *v, const size_t *begin, int root, kf_err *err)
{
	world *w = r->state;
	const size_t own = begin[r->rank + 1] - begin[r->rank], most = longest(r, begin);
	kf_status rc;

	if (r->lost) return kf_fail(err, KF_EIO, "the other processes are lost");
	for (size_t at = 0; at < most; at += PIECE) {
		int n = 0, code = MPI_SUCCESS;

		for (int k = 1; k < r->size && code == MPI_SUCCESS && (root < 0 || root == r->rank); k++) {
			const int from = (r->rank + r->size - k) % r->size;
			const size_t theirs = begin[from + 1] - begin[from];

			if (at < theirs)
				code = MPI_Irecv(v + begin[from] + at, (int)(theirs - at < PIECE ? theirs - at : PIECE), MPI_BYTE, from, 2,
					w->comm, &w->request[n++]);
		}
		for (int k = 1; k < r->size && code == MPI_SUCCESS; k++) {
			const int to = (r->rank + k) % r->size;

			if (at < own && (root < 0 || root == to))
				code = MPI_Isend(v + begin[r->rank] + at, (int)(own - at < PIECE ? own - at : PIECE), MPI_BYTE, to, 2, w->comm,
					&w->request[n++]);
		}
		if (code != MPI_SUCCESS) return lose(r, code, "gathering weights", err);
		if ((rc = finish(r, w->request, n, MOVING, "gathering weights", err)) != KF_OK) return rc;
	}
	return KF_OK;
}

static void release(kf_ranks *r)
{
	world *w = r->state;

	if (w) {
		kf_free(w->request);
		kf_free(w->in);
	}
	kf_free(w);
	kf_free(r->peer);
	kf_free(r);
}

kf_status kf_ranks_open(kf_ranks **out, kf_err *err)
{
	const int launched = kf_ranks_launched();
	int level, size, rank, ready, n = 1;
	kf_ranks *r;
	world *w;
	kf_status rc;

	*out = NULL;
	if (MPI_Init_thread(NULL, NULL, MPI_THREAD_SERIALIZED, &level) != MPI_SUCCESS)
		return kf_fail(err, KF_EIO, "MPI does not start");
	MPI_Comm_size(MPI_COMM_WORLD, &size);
	MPI_Comm_rank(MPI_COMM_WORLD, &rank);
	if (size == 1) {
		MPI_Finalize();
		if (launched == 1) return KF_OK;
		return kf_fail(err, KF_EUNSUPPORTED, "started as one of %d processes, which MPI does not know of: it was built for another "
			"launcher. Use mpirun of the same MPI, or srun --mpi=pmix (srun --mpi=list says what there is).", launched);
	}
	r = kf_zalloc(1, sizeof *r);
	w = r ? kf_zalloc(1, sizeof *w) : NULL;
	if (w) {
		r->rank = rank;
		r->size = size;
		r->state = w;
		w->comm = MPI_COMM_WORLD;
		w->request = kf_alloc(2 * (size_t)size, sizeof *w->request);
		w->in = kf_alloc((size_t)size * CHUNK, sizeof *w->in);
	}
	ready = w && w->request && w->in && level >= MPI_THREAD_SERIALIZED;
	MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
	if (MPI_Allreduce(&ready, &n, 1, MPI_INT, MPI_MIN, MPI_COMM_WORLD) != MPI_SUCCESS || !n)
		rc = kf_fail(err, KF_ENOMEM, "no memory for the exchange between %d processes, or an MPI without threads", size);
	else
		rc = kf_ranks_meet(r, err);
	if (rc != KF_OK) {
		if (r) release(r);
		return rc;
	}
	*out = r;
	return KF_OK;
}

void kf_ranks_close(kf_ranks *r)
{
	if (!r) return;
	/* Those with nothing to say let the one who has come first. MPI is not ended: it would wait for the dead. */
	if (r->lost && !r->speaks) nanosleep(&(struct timespec){ .tv_nsec = 300000000 }, NULL);
	if (r->lost) return;   /* what is under way still has the buffers */
	MPI_Finalize();
	release(r);
}
