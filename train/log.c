#include "train/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static kf_status find_name(kf_train_log *l, const char *folder, kf_err *err)
{
	char *log = realpath(l->path, NULL), *out = log ? realpath(folder, NULL) : NULL;
	const size_t n = out ? strlen(out) : 0;
	kf_status rc = KF_OK;

	if (out) {
		const char *name = strncmp(log, out, n) == 0 && log[n] == '/' ? log + n + 1 : log;

		kf_fp_hex(kf_fp_of(name, strlen(name)), l->name);
	} else {
		rc = kf_fail_errno(err, "cannot tell which file the log %s is", l->path);
	}
	free(log);
	free(out);
	return rc;
}

kf_status kf_train_log_check(const kf_train_log *l, kf_err *err)
{
	FILE *f = fopen(l->path, "ab");
	kf_status rc = KF_OK;

	if (!f)
		return kf_fail_errno(err, "cannot open the log %s", l->path);
	if (fseek(f, 0, SEEK_END) != 0)
		rc = kf_fail_errno(err, "cannot read the log %s", l->path);
	fclose(f);
	return rc;
}

kf_status kf_train_log_open(kf_train_log *l, const char *out, bool going_on, kf_err *err)
{
	kf_status rc;
	bool same;
	char last;
	long end;

	if (!(l->f = fopen(l->path, going_on ? "r+b" : "wb")) && errno == ENOENT)
		l->f = fopen(l->path, "wb");
	if (!l->f)
		return kf_fail_errno(err, "cannot open the log %s", l->path);
	if ((rc = find_name(l, out, err)) != KF_OK)
		return rc;
	same = !*l->was || strcmp(l->was, l->name) == 0;
	if (fseek(l->f, 0, SEEK_END) != 0)
		return kf_fail_errno(err, "cannot read the log %s", l->path);
	if (same && ftell(l->f) > l->bytes && ftruncate(fileno(l->f), l->bytes) != 0)
		return kf_fail_errno(err, "cannot shorten the log %s", l->path);
	if (fseek(l->f, 0, SEEK_END) != 0 || (end = ftell(l->f)) < 0 || (end > 0 && pread(fileno(l->f), &last, 1, end - 1) != 1))
		return kf_fail_errno(err, "cannot read the log %s", l->path);
	if (end > 0 && last != '\n' && fputc('\n', l->f) == EOF)
		return kf_fail_errno(err, "cannot write the log %s", l->path);
	return KF_OK;
}

kf_status kf_train_log_put(kf_train_log *l, const json_t *record, kf_err *err)
{
	if (record && json_dumpf(record, l->f, JSON_COMPACT | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(12)) == 0 && fputc('\n', l->f) != EOF &&
	    fflush(l->f) == 0)
		return KF_OK;
	return kf_fail_errno(err, "cannot write the log %s", l->path);
}

kf_status kf_train_log_sync(kf_train_log *l, kf_err *err)
{
	/* a device has nothing to be synced */
	const bool failed = fsync(fileno(l->f)) != 0 && errno != EINVAL && errno != EROFS && errno != ENOTSUP;
	const kf_status rc = failed ? kf_fail_errno(err, "cannot write the log %s", l->path) : KF_OK;

	l->bytes = ftell(l->f);
	return rc;
}

void kf_train_log_close(kf_train_log *l)
{
	if (l->f)
		fclose(l->f);
	l->f = NULL;
}
