/* Taking shards from elsewhere into a set being written. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "common/base/stop.h"
#include "common/store/store.h"
#include "common/store/writer.h"

#define CHUNK ((size_t)8 << 20)

static kf_status copy(const char *from, const char *to, kf_err *err)
{
	kf_map map = { 0 };
	kf_outfile out = { .f = NULL };
	kf_status rc;

	if ((rc = kf_map_open(&map, from, err)) != KF_OK) return rc;
	if ((rc = kf_outfile_open(&out, to, err)) != KF_OK) goto out;
	for (size_t at = 0; at < map.size && rc == KF_OK; at += CHUNK) {
		size_t n = map.size - at < CHUNK ? map.size - at : CHUNK;

		if (fwrite(map.data + at, 1, n, out.f) != n) rc = kf_fail_errno(err, "cannot write %s", out.part);
		else rc = kf_stop_check(err);
	}
	if (rc == KF_OK) rc = kf_outfile_commit(&out, err);
	else kf_outfile_abandon(&out);
out:
	kf_map_close(&map);
	return rc;
}

static bool no_links(int e)
{
	return e == EXDEV || e == EPERM || e == EMLINK || e == EOPNOTSUPP || e == ENOSYS || e == EACCES;
}

/* Parts come by programs that leave that to others, and the manifest says that they are there. */
static kf_status sync_file(const char *path, kf_err *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	kf_status rc = fd < 0 ? kf_fail_errno(err, "cannot open %s", path) : KF_OK;

	if (fd >= 0 && fsync(fd) < 0) rc = kf_fail_errno(err, "cannot sync %s", path);
	if (fd >= 0) close(fd);
	return rc;
}

kf_status kf_set_take_shard(kf_set_writer *w, int shard, const char *from, bool link_it, bool *linked, kf_err *err)
{
	char to[KF_PATH_MAX];
	kf_status rc = kf_shard_path(to, kf_writer_dir(w), shard, err);

	*linked = false;
	if (rc != KF_OK || !link_it) return rc != KF_OK ? rc : copy(from, to, err);
	/* Straight to its own name: a link under the name that writers empty and write into would be the part's own file. What has
	 * the name is no good, or the caller would not ask. */
	if (unlink(to) < 0 && errno != ENOENT) return kf_fail_errno(err, "cannot replace %s", to);
	if ((rc = sync_file(from, err)) != KF_OK) return rc;
	/* the file, where its name is a link to it */
	if (linkat(AT_FDCWD, from, AT_FDCWD, to, AT_SYMLINK_FOLLOW) < 0)
		return no_links(errno) ? copy(from, to, err) : kf_fail_errno(err, "cannot link %s to %s", from, to);
	*linked = true;
	return kf_sync_dir(kf_writer_dir(w), err);
}
