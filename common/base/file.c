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

static kf_status open_regular(const char *path, int *fd, struct stat *st, kf_err *err)
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
	if ((rc = open_regular(path, &fd, &st, err)) != KF_OK) return rc;
	if (st.st_size > 0) {
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
	if ((rc = open_regular(path, &fd, &st, err)) != KF_OK) return rc;
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

/* A device, pipe or link (/dev/stdout is one): renaming would take its place away. */
static kf_status write_in_place(const char *path, const void *data, size_t n, kf_err *err)
{
	int fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);
	kf_status rc;

	if (fd < 0) return kf_fail_errno(err, "cannot open %s", path);
	rc = write_all(fd, path, data, n, err);
	if (close(fd) < 0 && rc == KF_OK) rc = kf_fail_errno(err, "cannot close %s", path);
	return rc;
}

kf_status kf_file_write_atomic(const char *path, const void *data, size_t n, kf_err *err)
{
	char tmp[KF_PATH_MAX], dir[KF_PATH_MAX];
	struct stat st;
	kf_status rc;
	int fd, len;

	if (lstat(path, &st) == 0 && !S_ISREG(st.st_mode)) return write_in_place(path, data, n, err);
	len = snprintf(tmp, sizeof tmp, "%s.tmp%ld", path, (long)getpid());
	if (len < 0 || len >= (int)sizeof tmp) return kf_fail(err, KF_EINVAL, "path too long: %s", path);
	parent_of(path, dir);
	if ((fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666)) < 0)
		return kf_fail_errno(err, "cannot create %s", tmp);
	rc = write_all(fd, tmp, data, n, err);
	if (rc == KF_OK && fsync(fd) < 0) rc = kf_fail_errno(err, "cannot sync %s", tmp);
	if (close(fd) < 0 && rc == KF_OK) rc = kf_fail_errno(err, "cannot close %s", tmp);
	if (rc == KF_OK && rename(tmp, path) < 0) rc = kf_fail_errno(err, "cannot rename %s to %s", tmp, path);
	if (rc == KF_OK) return kf_sync_dir(dir, err);
	unlink(tmp);
	return rc;
}

kf_status kf_outfile_open(kf_outfile *o, const char *path, kf_err *err)
{
	struct stat st;
	kf_status rc;
	int fd, n = snprintf(o->path, sizeof o->path, "%s", path), m = snprintf(o->part, sizeof o->part, "%s.part", path);

	o->f = NULL;
	if (n < 0 || m < 0 || m >= KF_PATH_MAX) return kf_fail(err, KF_EINVAL, "path too long: %s", path);
	o->in_place = lstat(path, &st) == 0 && !S_ISREG(st.st_mode);
	if (o->in_place && S_ISDIR(st.st_mode)) return kf_fail(err, KF_EINVAL, "%s is a folder, not a file", path);
	fd = o->in_place ? open(path, O_WRONLY | O_TRUNC | O_CLOEXEC) : open(o->part, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
	if (fd < 0) return kf_fail_errno(err, "cannot %s %s", o->in_place ? "open" : "create", o->in_place ? path : o->part);
	if (!o->in_place && flock(fd, LOCK_EX | LOCK_NB) < 0) {
		rc = errno == EWOULDBLOCK ? kf_fail(err, KF_EIO, "%s is being written by another program", o->part) :
			kf_fail_errno(err, "cannot lock %s", o->part);
		close(fd);
		return rc;
	}
	if ((!o->in_place && ftruncate(fd, 0) < 0) || !(o->f = fdopen(fd, "w"))) {
		rc = kf_fail_errno(err, "cannot write %s", o->part);
		close(fd);
		return rc;
	}
	return KF_OK;
}

kf_status kf_outfile_commit(kf_outfile *o, kf_err *err)
{
	char dir[KF_PATH_MAX];
	const char *name = o->in_place ? o->path : o->part;
	kf_status rc = KF_OK;

	if (fflush(o->f) || ferror(o->f)) rc = kf_fail_errno(err, "cannot write %s", name);
	else if (!o->in_place && fsync(fileno(o->f)) < 0) rc = kf_fail_errno(err, "cannot sync %s", name);
	/* renamed while the lock is held: nobody takes it for what a killed program left */
	else if (!o->in_place && rename(o->part, o->path) < 0) rc = kf_fail_errno(err, "cannot rename %s to %s", o->part, o->path);
	if (rc != KF_OK) {
		kf_outfile_abandon(o);
		return rc;
	}
	if (fclose(o->f)) rc = kf_fail_errno(err, "cannot close %s", o->path);
	o->f = NULL;
	if (rc != KF_OK || o->in_place) return rc;
	parent_of(o->path, dir);
	return kf_sync_dir(dir, err);
}

void kf_outfile_abandon(kf_outfile *o)
{
	if (!o->f) return;
	if (!o->in_place) unlink(o->part);
	fclose(o->f);
	o->f = NULL;
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

kf_status kf_path_join(char *out, const char *dir, const char *name, kf_err *err)
{
	size_t d = strlen(dir);
	int n = snprintf(out, KF_PATH_MAX, "%s%s%s", dir, d && dir[d - 1] == '/' ? "" : "/", name);

	return n >= 0 && n < KF_PATH_MAX ? KF_OK : kf_fail(err, KF_EINVAL, "path too long: %s/%s", dir, name);
}
