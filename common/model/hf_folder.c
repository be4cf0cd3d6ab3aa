/* Where a model may be written, and what of a folder is ours to remove. */
#include "common/model/hf_impl.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Whether a file is one that an interrupted write of ours may have left. */
static bool is_ours(const char *name)
{
	return !strncmp(name, "model", 5) || !strncmp(name, "config.json", 11) ||
		!strncmp(name, "generation_config.json", 22) || !strncmp(name, "tokenizer", 9) ||
		!strncmp(name, "special_tokens_map.json", 23) || !strncmp(name, "added_tokens.json", 17) ||
		!strncmp(name, "vocab", 5) || !strncmp(name, "merges", 6) || !strncmp(name, "merge.json", 10) ||
		!strncmp(name, "kfuse.json", 10);
}

kf_status kf_hf_check_ours(const char *dir, kf_err *err)
{
	char path[KF_PATH_MAX];
	DIR *d = opendir(dir);
	const struct dirent *e;
	kf_status rc = KF_OK;

	if (!d) return kf_fail_errno(err, "cannot read folder %s", dir);
	while (rc == KF_OK && (e = readdir(d))) {
		const char *name =
			e->d_name[0] == '.' ? e->d_name + 1 : e->d_name; /* temporary names may begin with a dot */
		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..") || (rc = kf_path_join(path, dir, e->d_name, err)) != KF_OK) continue;
		if (!is_ours(name) || kf_is_dir(path))
			rc = kf_fail(err, KF_EINVAL,
				"%s: is in the way and has %s in it, which kfuse did not write; remove it", dir, e->d_name);
	}
	closedir(d);
	return rc;
}

kf_status kf_hf_check(const char *dir, bool tokenizer, kf_err *err)
{
	char config[KF_PATH_MAX];
	kf_tokenizer *t = NULL;
	kf_weights *w = NULL;
	kf_status rc = kf_weights_open(dir, &w, err);

	if (rc == KF_OK && tokenizer && (rc = kf_path_join(config, dir, "tokenizer_config.json", err)) == KF_OK && !kf_exists(config))
		rc = kf_fail(err, KF_ENOTFOUND, "there is no %s", config);
	if (rc == KF_OK && tokenizer) rc = kf_weights_tokenizer(w, &t, err);
	kf_tokenizer_free(t);
	kf_weights_close(w);
	return rc;
}

kf_status kf_hf_clear(const char *dir, kf_err *err)
{
	static const char first[] = "config.json", last[] = "kfuse.json";
	char path[KF_PATH_MAX];
	const struct dirent *e;
	kf_status rc = kf_hf_check_ours(dir, err);
	DIR *d;

	if (rc != KF_OK || (rc = kf_path_join(path, dir, first, err)) != KF_OK) return rc;
	unlink(path);
	if (!(d = opendir(dir))) return kf_fail_errno(err, "cannot read folder %s", dir);
	while (rc == KF_OK && (e = readdir(d))) {
		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..") || !strcmp(e->d_name, last)) continue;
		if ((rc = kf_path_join(path, dir, e->d_name, err)) == KF_OK && unlink(path) < 0 && errno != ENOENT)
			rc = kf_fail_errno(err, "cannot remove %s", path);
	}
	closedir(d);
	if (rc == KF_OK && (rc = kf_path_join(path, dir, last, err)) == KF_OK && unlink(path) < 0 && errno != ENOENT)
		rc = kf_fail_errno(err, "cannot remove %s", path);
	return rc;
}

kf_status kf_hf_split(const char *dir, char name[KF_PATH_MAX], char parent[KF_PATH_MAX], kf_err *err)
{
	size_t len = strlen(dir);
	const char *last;

	while (len > 1 && dir[len - 1] == '/') len--;
	if (len + sizeof KF_HF_PARTIAL KF_HF_LOCK > KF_PATH_MAX) return kf_fail(err, KF_EINVAL, "path too long: %s", dir);
	snprintf(name, KF_PATH_MAX, "%.*s", (int)len, dir);
	last = strrchr(name, '/') ? strrchr(name, '/') + 1 : name;
	if (!*last || !strcmp(last, ".") || !strcmp(last, ".."))
		return kf_fail(err, KF_EINVAL, "\"%s\" is no name for a folder; give the name that it has in the folder above", dir);
	if (last == name) strcpy(parent, ".");
	else snprintf(parent, KF_PATH_MAX, "%.*s", (int)(last - name == 1 ? 1 : last - name - 1), name);
	return KF_OK;
}

static bool is_mount(const char *name, const struct stat *st, const char *parent)
{
	struct stat above;
	struct statx x;

	if (stat(parent, &above) == 0 && above.st_dev != st->st_dev) return true;
	/* a folder of the same file system, mounted there */
	return statx(AT_FDCWD, name, AT_SYMLINK_NOFOLLOW, 0, &x) == 0 && (x.stx_attributes & STATX_ATTR_MOUNT_ROOT);
}

kf_status kf_hf_may_write(const char *dir, bool replace, kf_err *err)
{
	char name[KF_PATH_MAX], parent[KF_PATH_MAX];
	struct stat st;
	bool empty = false;
	kf_status rc = kf_hf_split(dir, name, parent, err);

	if (rc != KF_OK || lstat(name, &st) < 0) return rc;
	if (S_ISLNK(st.st_mode))
		return kf_fail(err, KF_EINVAL, "%s: is a link; a model takes the place of a folder only. Give the folder that it is to lead to.", dir);
	if (is_mount(name, &st, parent))
		return kf_fail(err, KF_EINVAL, "%s: is a mount point, which a model cannot take the place of. Give a new folder in it, as %s/model.", dir, name);
	if (S_ISDIR(st.st_mode) && (rc = kf_dir_empty(dir, &empty, err)) != KF_OK) return rc;
	if (empty) return KF_OK;
	if (!replace) return kf_fail(err, KF_EINVAL, "%s: is there already; a model is written to a new folder only", dir);
	return kf_hf_check_ours(dir, err);
}
