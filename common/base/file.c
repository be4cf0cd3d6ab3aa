#include "common/base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/lock.h"

static kf_status open_file(const char *path, int *fd, struct stat *st, kf_err *err)
{
	kf_status rc;

	if ((*fd = open(path, O_RDONLY | O_CLOEXEC)) < 0) return kf_fail_errno(err, "cannot open %s", path);
	if (fstat(*fd, st) < 0) {
		rc = kf_fail_errno(err, "cannot examine %s", path);
	} else if (S_ISDIR(st->st_mode)) {
		rc = kf_fail(err, KF_EINVAL, "%s is a folder, not a file", path);
	} else {
		return KF_OK;
	}
	close(*fd);
	*fd = -1;
	return rc;
}

kf_status kf_map_open(kf_map *map, const char *path, kf_err *err)
{
	struct stat st;
	kf_status rc;
	int fd;
	void *p;

	map->data = (const uint8_t *)""; /* of an empty file, too, there is a place to point at */
	map->size = 0;
	if ((rc = open_file(path, &fd, &st, err)) != KF_OK) return rc;
	if (!S_ISREG(st.st_mode)) {
		rc = kf_fail(err, KF_EINVAL, "%s is a pipe or a device, which cannot be read in any order; write what it gives to a file, and name that", path);
	} else if (st.st_size > 0) {
		p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
		if (p == MAP_FAILED) {
			rc = kf_fail_errno(err, "cannot map %s (%lld bytes) into memory", path, (long long)st.st_size);
		} else {
			map->data = p;
			map->size = (size_t)st.st_size;
		}
	}
	close(fd);
	return rc;
}

void kf_map_close(kf_map *map)
{
	if (map->size) munmap((void *)(uintptr_t)map->data, map->size);
	map->data = NULL;
	map->size = 0;
}

kf_status kf_file_read(const char *path, size_t max, kf_buf *buf, kf_err *err)
{
	struct stat st;
	kf_status rc;
	int fd;

	kf_buf_clear(buf);
	if ((rc = open_file(path, &fd, &st, err)) != KF_OK) return rc;
	for (;;) {
		size_t room = st.st_size > 0 && (size_t)st.st_size > buf->len ? (size_t)st.st_size - buf->len + 1 : 65536;
		if (room > max - buf->len) room = max - buf->len + 1; /* one more, to see that it is too large */
		ssize_t got;

		if (!kf_buf_reserve(buf, room + 1)) {
			rc = kf_buf_check(buf, err);
			break;
		}
		got = read(fd, buf->data + buf->len, room);
		if (got < 0 && errno == EINTR) continue;
		if (got < 0) {
			rc = kf_fail_errno(err, "cannot read %s", path);
			break;
		}
		if (got == 0) {
			buf->data[buf->len] = 0;
			break;
		}
		buf->len += (size_t)got;
		if (buf->len > max) {
			rc = kf_fail(err, KF_EDATA, "%s is larger than %zu bytes, the most such a file may have", path, max);
			break;
		}
	}
	close(fd);
	return rc;
}

kf_status kf_sync_dir(const char *path, kf_err *err)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	kf_status rc = KF_OK;

	if (fd < 0) return kf_fail_errno(err, "cannot open folder %s", path);
	if (fsync(fd) < 0 && errno != EINVAL && errno != EROFS) rc = kf_fail_errno(err, "cannot sync folder %s", path);
	close(fd);
	return rc;
}

/* The folder a path is in: "a/b" -> "a", "b" -> ".", "/b" -> "/". */
static void parent_of(const char *path, char out[KF_PATH_MAX])
{
	const char *slash = strrchr(path, '/');
	size_t n = slash ? (size_t)(slash - path) : 0;

	if (!slash) {
		strcpy(out, ".");
	} else {
		if (n == 0) n = 1;
		memcpy(out, path, n);
		out[n] = 0;
	}
}

static kf_status write_all(int fd, const char *path, const char *p, size_t n, kf_err *err)
{
	while (n > 0) {
		ssize_t put = write(fd, p, n);

		if (put < 0 && errno == EINTR) continue;
		if (put < 0) return kf_fail_errno(err, "cannot write %s", path);
		p += put;
		n -= (size_t)put;
	}
	return KF_OK;
}

/* Whether path is what descriptor fd writes to. */
static bool is_open_as(int fd, const char *path)
{
	struct stat a, b;

	return stat(path, &a) == 0 && fstat(fd, &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino && a.st_rdev == b.st_rdev;
}

/* Whether what is written to path replaces no file: standard output, "-", or what is there is a device, pipe or link. */
static bool in_place(const char *path)
{
	struct stat st;

	return strcmp(path, "-") == 0 || (lstat(path, &st) == 0 && !S_ISREG(st.st_mode));
}

bool kf_file_is_stdout(const char *path)
{
	return strcmp(path, "-") == 0 || (in_place(path) && is_open_as(1, path));
}

/* To write in place. What is standard output or error already goes to these: after what they hold, where they append. */
static int open_in_place(const char *path)
{
	if (strcmp(path, "-") == 0) return fcntl(1, F_DUPFD_CLOEXEC, 3);
	for (int fd = 1; fd <= 2; fd++)
		if (is_open_as(fd, path)) return fcntl(fd, F_DUPFD_CLOEXEC, 3);
	return open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);
}

/* A device, pipe or link (/dev/stdout is one): renaming would take its place away. */
static kf_status write_in_place(const char *path, const void *data, size_t n, kf_err *err)
{
	int fd = open_in_place(path);
	kf_status rc;

	if (fd < 0) return kf_fail_errno(err, "cannot open %s", path);
	rc = write_all(fd, path, data, n, err);
	if (close(fd) < 0 && rc == KF_OK) rc = kf_fail_errno(err, "cannot close %s", path);
	return rc;
}

/* Where there are no locks: fd, of part, becomes one of a name that no other process has, which part becomes; the common one goes where nobody
 * has written to it. */
static kf_status part_of_own(char part[KF_PATH_MAX], const char *path, int *fd, kf_err *err)
{
	char host[64] = "?";
	struct stat st;
	const bool empty = fstat(*fd, &st) == 0 && st.st_size == 0;
	int n;

	close(*fd);
	*fd = -1;
	if (empty) unlink(part);
	gethostname(host, sizeof host - 1);
	n = snprintf(part, KF_PATH_MAX, "%s.%s-%ld.part", path, host, (long)getpid());
	if (n >= KF_PATH_MAX) return kf_fail(err, KF_EINVAL, "path too long: %s", path);
	if ((*fd = open(part, O_WRONLY | O_CREAT | O_CLOEXEC, 0666)) < 0) return kf_fail_errno(err, "cannot create %s", part);
	return KF_OK;
}

kf_status kf_part_take(char part[KF_PATH_MAX], const char *path, const char *refuse, int *fd, kf_err *err)
{
	kf_status rc;

	*fd = -1;
	if (snprintf(part, KF_PATH_MAX, "%s.part", path) >= KF_PATH_MAX) return kf_fail(err, KF_EINVAL, "path too long: %s", path);
	for (;;) {
		if ((*fd = open(part, O_WRONLY | O_CREAT | O_CLOEXEC, 0666)) < 0) return kf_fail_errno(err, "cannot create %s", part);
		if (flock(*fd, LOCK_EX | (refuse ? LOCK_NB : 0)) == 0) {
			/* between open and lock its writer may have given it the final name, with which it is not ours */
			if (kf_lock_same(*fd, part)) break;
		} else if (errno == EWOULDBLOCK) {
			rc = kf_fail(err, KF_EBUSY, "%s is being written by another %s", part, refuse);
			goto fail;
		} else if (kf_lock_none(errno)) {
			if ((rc = part_of_own(part, path, fd, err)) != KF_OK) return rc;
			break;
		} else if (errno != EINTR) {
			rc = kf_fail_errno(err, "cannot lock %s", part);
			goto fail;
		}
		close(*fd);
	}
	if (ftruncate(*fd, 0) == 0) return KF_OK;
	rc = kf_fail_errno(err, "cannot empty %s", part);
	unlink(part);
fail:
	close(*fd);
	*fd = -1;
	return rc;
}

/* What is written and synced gets its name, while the lock is held: nobody takes it for what a killed program left. */
static kf_status give_name(const char *part, const char *path, kf_err *err)
{
	char dir[KF_PATH_MAX];
	kf_status rc;

	if (rename(part, path) < 0) {
		rc = kf_fail_errno(err, "cannot rename %s to %s", part, path);
		unlink(part);
		return rc;
	}
	parent_of(path, dir);
	return kf_sync_dir(dir, err);
}

kf_status kf_file_write_atomic(const char *path, const void *data, size_t n, kf_err *err)
{
	char part[KF_PATH_MAX];
	kf_status rc;
	int fd;

	if (in_place(path)) return write_in_place(path, data, n, err);
	if ((rc = kf_part_take(part, path, NULL, &fd, err)) != KF_OK) return rc;
	rc = write_all(fd, part, data, n, err);
	if (rc == KF_OK && fsync(fd) < 0) rc = kf_fail_errno(err, "cannot sync %s", part);
	if (rc == KF_OK) rc = give_name(part, path, err);
	else unlink(part);
	if (close(fd) < 0 && rc == KF_OK) rc = kf_fail_errno(err, "cannot close %s", path);
	return rc;
}

kf_status kf_file_may_write(const char *path, kf_err *err)
{
	char dir[KF_PATH_MAX];
	struct stat st;
	const bool there = lstat(path, &st) == 0;

	if (strcmp(path, "-") == 0) return KF_OK;
	if (there && S_ISDIR(st.st_mode)) return kf_fail(err, KF_EINVAL, "%s is a folder, not a file", path);
	if (strlen(path) + sizeof ".part" > KF_PATH_MAX) return kf_fail(err, KF_EINVAL, "path too long: %s", path);
	if (there && !S_ISREG(st.st_mode)) {
		if (access(path, W_OK) < 0) return kf_fail_errno(err, "cannot write %s", path);
		return KF_OK;
	}
	parent_of(path, dir);
	if (access(dir, W_OK | X_OK) < 0) return kf_fail_errno(err, "cannot create %s", path);
	return KF_OK;
}

kf_status kf_flush_piped(FILE *out, const char *what, kf_err *err)
{
	if (fflush(out) == 0 && !ferror(out)) return KF_OK;
	if (errno != EPIPE) return kf_fail_errno(err, "cannot write %s", what);
	clearerr(out);
	return KF_OK;
}

static bool one_file(const char *a, const char *b)
{
	struct stat x, y;
	bool there = stat(a, &x) == 0;

	if (there != (stat(b, &y) == 0) || strcmp(a, "-") == 0) return false;
	return there ? S_ISREG(x.st_mode) && x.st_dev == y.st_dev && x.st_ino == y.st_ino : strcmp(a, b) == 0;
}

kf_status kf_files_apart(const char *const *write, int n_write, const char *const *read, int n_read, kf_err *err)
{
	for (int i = 0; i < n_write; i++) {
		for (int j = 0; write[i] && j < n_read; j++)
			if (read[j] && one_file(write[i], read[j]))
				return kf_fail(err, KF_EUSAGE, "%s is read, and would be written over: give what is written another name", write[i]);
		for (int j = 0; write[i] && j < i; j++)
			if (write[j] && one_file(write[i], write[j])) return kf_fail(err, KF_EUSAGE, "two things would be written to %s: give one another name", write[i]);
	}
	return KF_OK;
}

/* A stream's bytes. Of the first that could not be written the stream keeps that it failed, and this why. */
static ssize_t put_stream(void *arg, const char *p, size_t n)
{
	kf_outfile *o = arg;

	if (o->error == 0 && write_all(o->fd, o->part, p, n, NULL) == KF_OK) return (ssize_t)n;
	if (o->error == 0) o->error = errno;
	errno = o->error;
	return 0;
}

kf_status kf_outfile_open(kf_outfile *o, const char *path, kf_err *err)
{
	kf_status rc;

	o->f = NULL;
	o->error = 0;
	if (snprintf(o->path, sizeof o->path, "%s", path) >= KF_PATH_MAX) return kf_fail(err, KF_EINVAL, "path too long: %s", path);
	o->in_place = in_place(path);
	if (o->in_place && strcmp(path, "-") && kf_is_dir(path)) return kf_fail(err, KF_EINVAL, "%s is a folder, not a file", path);
	if (!o->in_place) {
		if ((rc = kf_part_take(o->part, path, "program; wait until it has ended, or end it", &o->fd, err)) != KF_OK) return rc;
	} else if ((o->fd = open_in_place(path)) < 0) {
		return kf_fail_errno(err, "cannot open %s", path);
	}
	if ((o->f = fopencookie(o, "w", (cookie_io_functions_t){ .write = put_stream }))) return KF_OK;
	rc = kf_fail_errno(err, "cannot write %s", path);
	if (!o->in_place) unlink(o->part);
	close(o->fd);
	return rc;
}

kf_status kf_outfile_commit(kf_outfile *o, kf_err *err)
{
	const char *name = o->in_place ? o->path : o->part;
	kf_status rc = KF_OK;

	if ((fflush(o->f) || ferror(o->f)) && (errno = o->error ? o->error : errno)) rc = kf_fail_errno(err, "cannot write %s", name);
	else if (!o->in_place && fsync(o->fd) < 0) rc = kf_fail_errno(err, "cannot sync %s", name);
	if (rc != KF_OK) {
		kf_outfile_abandon(o);
		return rc;
	}
	if (!o->in_place) rc = give_name(o->part, o->path, err);
	fclose(o->f);
	o->f = NULL;
	if (close(o->fd) < 0 && rc == KF_OK) rc = kf_fail_errno(err, "cannot close %s", o->path);
	return rc;
}

void kf_outfile_abandon(kf_outfile *o)
{
	if (!o->f) return;
	if (!o->in_place) unlink(o->part);
	o->error = ECANCELED;      /* nothing of what the stream still holds is wanted */
	fclose(o->f);
	o->f = NULL;
	close(o->fd);
}

kf_status kf_mkdirs(const char *path, kf_err *err)
{
	char part[KF_PATH_MAX];
	size_t n = strlen(path);

	if (n == 0 || n >= sizeof part) return kf_fail(err, KF_EINVAL, "%s", n ? "path too long" : "empty path");
	memcpy(part, path, n + 1);
	for (size_t i = 1; i <= n; i++) {
		if (part[i] != '/' && part[i] != 0) continue;
		part[i] = 0;
		if (mkdir(part, 0777) < 0 && errno != EEXIST) return kf_fail_errno(err, "cannot create folder %s", part);
		if (i < n) part[i] = '/';
	}
	return kf_is_dir(path) ? KF_OK : kf_fail(err, KF_EIO, "cannot create folder %s: a file is in the way", path);
}

kf_status kf_dir_empty(const char *path, bool *empty, kf_err *err)
{
	DIR *d = opendir(path);
	const struct dirent *e;

	*empty = true;
	if (!d) return errno == ENOENT ? KF_OK : kf_fail_errno(err, "cannot read the folder %s", path);
	while (*empty && (e = readdir(d))) *empty = strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0;
	closedir(d);
	return KF_OK;
}

bool kf_is_dir(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

bool kf_exists(const char *path)
{
	return access(path, F_OK) == 0;
}

bool kf_path_in(const char *path, const char *folder)
{
	char a[PATH_MAX], b[PATH_MAX];
	size_t n;

	if (!realpath(path, a) || !realpath(folder, b)) return false;
	n = strlen(b);
	return strncmp(a, b, n) == 0 && (!a[n] || a[n] == '/');
}

kf_status kf_path_join(char *out, const char *dir, const char *name, kf_err *err)
{
	size_t d = strlen(dir);
	int n = snprintf(out, KF_PATH_MAX, "%s%s%s", dir, d && dir[d - 1] == '/' ? "" : "/", name);

	return n >= 0 && n < KF_PATH_MAX ? KF_OK : kf_fail(err, KF_EINVAL, "path too long: %s/%s", dir, name);
}

/* Where the last part of path (n bytes) begins; *n without slashes at the end. */
static size_t last_part(const char *path, size_t *n)
{
	size_t from;

	while (*n > 1 && path[*n - 1] == '/') --*n;
	for (from = *n; from > 0 && path[from - 1] != '/';) from--;
	return from;
}

void kf_path_name(const char *path, char out[KF_NAME_MAX])
{
	size_t n = strlen(path), from = last_part(path, &n), above = from, over = 0;

	if (n - from > 6 && memcmp(path + from, "epoch-", 6) == 0 && from > 1) over = last_part(path, &above);
	if (n - from > 5 && memcmp(path + n - 5, ".gguf", 5) == 0) n -= 5;
	if (above < from && above > over) snprintf(out, KF_NAME_MAX, "%.*s-%.*s", (int)(above - over), path + over, (int)(n - from), path + from);
	else snprintf(out, KF_NAME_MAX, "%.*s", (int)(n - from), path + from);
}
