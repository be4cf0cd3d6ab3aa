#include "common/base/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/base/stop.h"

bool kf_lock_same(int fd, const char *path)
{
	struct stat mine, there;

	return fstat(fd, &mine) == 0 && stat(path, &there) == 0 && mine.st_ino == there.st_ino && mine.st_dev == there.st_dev;
}

bool kf_lock_none(int error)
{
	return error == ENOSYS || error == ENOLCK || error == EOPNOTSUPP || error == EINVAL;
}

/* Who has it: for people, and of no effect; a full disk leaves it empty. */
static void sign(const kf_lock *l)
{
	char host[128] = "?", line[192];
	int n;

	gethostname(host, sizeof host - 1);
	n = snprintf(line, sizeof line, "process %ld on %s", (long)getpid(), host);
	if (ftruncate(l->fd, 0) == 0 && pwrite(l->fd, line, (size_t)n, 0) < 0) return;
}

static kf_status refuse(const kf_lock *l, const char *what, kf_err *err)
{
	char line[192];
	ssize_t n = pread(l->fd, line, sizeof line - 1, 0);

	line[n > 0 ? n : 0] = 0;
	for (char *c = line; *c; c++)
		if (*c < ' ' || *c > '~') *c = '?';
	return kf_fail(err, KF_EBUSY, "%s is being written by %s; wait until it has ended, or end it", what,
		n > 0 ? line : "other processes, each a part of it");
}

kf_status kf_lock_take(kf_lock *l, const char *path, bool shared, bool wait, const char *what, kf_err *err)
{
	const struct timespec moment = { .tv_nsec = 50000000 };
	int patience = 4;          /* moments: whoever has it may be about to let go */
	kf_status rc;

	l->shared = shared;
	if (snprintf(l->path, sizeof l->path, "%s", path) >= (int)sizeof l->path) return kf_fail(err, KF_EINVAL, "path too long: %s", path);
	for (;;) {
		if ((l->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666)) < 0) return kf_fail_errno(err, "cannot create %s", path);
		if (flock(l->fd, (shared ? LOCK_SH : LOCK_EX) | LOCK_NB) == 0) {
			/* whoever had it may have removed it before letting go */
			if (kf_lock_same(l->fd, path)) break;
			rc = KF_OK;
		} else if (kf_lock_none(errno)) {
			break;
		} else if (errno != EWOULDBLOCK && errno != EINTR) {
			rc = kf_fail_errno(err, "cannot lock %s", path);
		} else if (!wait && patience-- == 0) {
			rc = refuse(l, what, err);
		} else if ((rc = kf_stop_check(err)) == KF_OK) {
			nanosleep(&moment, NULL);
		}
		close(l->fd);
		l->fd = -1;
		if (rc != KF_OK) return rc;
	}
	if (!shared) sign(l);
	else if (ftruncate(l->fd, 0) < 0) return KF_OK;   /* what a dead one wrote */
	return KF_OK;
}

void kf_lock_drop(kf_lock *l)
{
	if (l->fd < 0) return;
	/* a shared one by the last who has it */
	if ((!l->shared || flock(l->fd, LOCK_EX | LOCK_NB) == 0) && kf_lock_same(l->fd, l->path)) unlink(l->path);
	close(l->fd);
	l->fd = -1;
}

kf_status kf_part_lock_take(kf_part_lock *l, const char *dir, int part, int parts, kf_err *err)
{
	char path[KF_PATH_MAX], name[64], what[KF_PATH_MAX];
	kf_status rc;

	if ((rc = kf_path_join(path, dir, KF_LOCK_FILE, err)) != KF_OK) return rc;
	if ((rc = kf_lock_take(&l->whole, path, parts > 1, false, dir, err)) != KF_OK || parts <= 1) return rc;
	snprintf(name, sizeof name, KF_LOCK_FILE "-%d-of-%d", part, parts);
	snprintf(what, sizeof what, "part %d/%d of %.3000s", part, parts, dir);
	if ((rc = kf_path_join(path, dir, name, err)) == KF_OK) rc = kf_lock_take(&l->part, path, false, false, what, err);
	if (rc != KF_OK) kf_lock_drop(&l->whole);
	return rc;
}

void kf_part_lock_drop(kf_part_lock *l)
{
	kf_lock_drop(&l->part);
	kf_lock_drop(&l->whole);
}
