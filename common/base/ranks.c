#include "common/base/ranks.h"

#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/mem.h"
#include "common/base/pool.h"
#include "common/base/stop.h"

#define STOPPED_MOST 100.0   /* seconds that one who was asked to end waits for others of which it cannot see whether they live */
#define WAIT_MOST 3600.0     /* seconds that anyone does: longer than a model takes to be written */

struct kf_ranks_peer {
	char host[64];
	pid_t pid;
	ino_t space;             /* of process numbers: containers on one machine have their own */
	cpu_set_t cores;
};

kf_status kf_ranks_agree(kf_ranks *r, kf_status rc, kf_err *err)
{
	int mine = (int)rc, *all, worst = -1;
	kf_err theirs = { 0 };
	kf_status failed;

	if (!r || r->lost) return rc;
	if (!(all = kf_alloc((size_t)r->size, sizeof *all))) {   /* it cannot even be said */
		r->lost = r->speaks = true;
		return kf_fail(err, KF_ENOMEM, "no memory for what %d processes say", r->size);
	}
	if ((failed = kf_ranks_share(r, &mine, sizeof mine, all, err)) != KF_OK) goto out;
	for (int i = 0; i < r->size; i++)
		if (all[i] != KF_OK && (worst < 0 || (all[worst] == KF_ESTOPPED && all[i] != KF_ESTOPPED))) worst = i;
	if (worst < 0) goto out;
	if (worst == r->rank && err) theirs = *err;
	if ((failed = kf_ranks_broadcast(r, worst, &theirs, sizeof theirs, err)) != KF_OK) goto out;
	failed = (kf_status)all[worst];
	theirs.text[sizeof theirs.text - 1] = 0;
	if (worst == 0) kf_fail(err, failed, "%s", theirs.text);
	else kf_fail(err, failed, "process %d of %d: %.900s", worst, r->size, theirs.text);
out:
	kf_free(all);
	return failed;
}

kf_status kf_ranks_sum(kf_ranks *r, double *v, int n, kf_err *err)
{
	double *all;
	kf_status rc;

	if (!r) return KF_OK;
	if (!(all = kf_alloc((size_t)r->size * (size_t)n, sizeof *all))) {
		r->lost = r->speaks = true;
		return kf_fail(err, KF_ENOMEM, "no memory for the sums of %d processes", r->size);
	}
	rc = kf_ranks_share(r, v, (size_t)n * sizeof *v, all, err);
	for (int k = 0; k < n && rc == KF_OK; k++) {
		v[k] = 0;
		for (int i = 0; i < r->size; i++) v[k] += all[i * n + k];
	}
	kf_free(all);
	return rc;
}

int kf_ranks_launched(void)
{
	/* the last is of a step of srun; a batch script that runs one program has no such step */
	static const char *const NAMES[] = { "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS" };

	for (size_t i = 0; i < sizeof NAMES / sizeof *NAMES; i++) {
		const char *v = getenv(NAMES[i]);
		int n;

		if (v && sscanf(v, "%d", &n) == 1 && n > 1) return n;
	}
	return 1;
}

static void introduce(struct kf_ranks_peer *p)
{
	struct stat st;

	memset(p, 0, sizeof *p);
	gethostname(p->host, sizeof p->host - 1);
	p->pid = getpid();
	if (stat("/proc/self/ns/pid", &st) == 0) p->space = st.st_ino;
	if (sched_getaffinity(0, sizeof p->cores, &p->cores) != 0) CPU_ZERO(&p->cores);
}

kf_status kf_ranks_meet(kf_ranks *r, kf_err *err)
{
	struct kf_ranks_peer self;
	int sharing = 0;
	kf_status rc;

	introduce(&self);
	r->speaks = r->rank == 0;
	if (!(r->peer = kf_alloc((size_t)r->size, sizeof *r->peer)))
		return kf_fail(err, KF_ENOMEM, "no memory for %d processes", r->size);
	if ((rc = kf_ranks_share(r, &self, sizeof self, r->peer, err)) != KF_OK) return rc;
	for (int i = 0; i < r->size; i++) {
		const struct kf_ranks_peer *p = &r->peer[i];

		if (strcmp(p->host, self.host) != 0) continue;
		r->local += i < r->rank;
		sharing += CPU_EQUAL(&p->cores, &self.cores) != 0;   /* itself at least; a launcher that binds gives each its own */
	}
	r->threads = kf_pool_cores() / sharing;
	if (r->threads < 1) r->threads = 1;
	return KF_OK;
}

/* Whether a process of this machine is no more, or only its entry in the table is. */
static bool dead(const struct kf_ranks_peer *p)
{
	char path[64], state = 0;
	FILE *f;

	if (kill(p->pid, 0) != 0) return true;
	snprintf(path, sizeof path, "/proc/%ld/stat", (long)p->pid);
	if (!(f = fopen(path, "re"))) return false;
	if (fscanf(f, "%*d (%*[^)]) %c", &state) != 1) state = 0;
	fclose(f);
	return state == 'Z' || state == 'X';
}

kf_status kf_ranks_watch(kf_ranks *r, double waited, double *asked, kf_err *err)
{
	const struct kf_ranks_peer *self = r->peer ? &r->peer[r->rank] : NULL;
	char names[256] = "";
	int first = -1, alive = -1, n = 0, at = 0;
	bool all_seen = self;
	kf_err stop;

	for (int i = 0; self && i < r->size; i++) {
		const struct kf_ranks_peer *p = &r->peer[i];
		const bool seen = p->space == self->space && strcmp(p->host, self->host) == 0;

		const bool gone = seen && i != r->rank && dead(p);

		all_seen = all_seen && seen;
		if (seen && !gone && alive < 0) alive = i;
		if (!gone) continue;
		if (first < 0) first = i;
		if (n++ < 8) at += snprintf(names + at, sizeof names - (size_t)at, "%s%d (pid %ld)", n > 1 ? ", " : "", i, (long)p->pid);
	}
	if (n) {
		r->lost = true;
		r->speaks = r->rank == alive;
		if (n == 1)
			return kf_fail(err, KF_EIO, "process %d of %d (pid %ld on %s) died", first, r->size, (long)r->peer[first].pid, self->host);
		return kf_fail(err, KF_EIO, "processes %s%s of %d died on %s", names, n > 8 ? " and others" : "", r->size, self->host);
	}
	if (*asked < 0 && kf_stop_check(&stop) != KF_OK) *asked = waited;
	if (*asked >= 0 && !all_seen && waited - *asked > STOPPED_MOST) {
		r->lost = r->speaks = true;
		return kf_fail(err, KF_EIO, "asked to end, but other processes did not come to do so together for %.0f seconds", waited - *asked);
	}
	if (waited > WAIT_MOST) {
		r->lost = r->speaks = true;
		return kf_fail(err, KF_EIO, "other processes have not been heard of for %.0f minutes", waited / 60);
	}
	return KF_OK;
}
