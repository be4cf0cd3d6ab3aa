/* Writing sets: beginning or continuing one, and the manifest that completes it. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#include "common/base/lock.h"
#include "common/base/progress.h"
#include "common/store/manifest.h"
#include "common/store/writer.h"

struct kf_set_writer {
	char dir[KF_PATH_MAX];
	kf_set_kind kind;
	bool f32, chat;
	int n_shards, part, parts;
	kf_part_lock mine;         /* while it is being written */
	kf_fp identity;
	json_t *manifest;
	bool *done;                /* (n_shards) under lock */
	pthread_mutex_t lock;
	double start;              /* when it began: kf_now */
	uint64_t wrote_docs, wrote_tokens, wrote_bytes; /* by this process, under lock */
	int wrote;                 /* shards */
};

const char *kf_writer_dir(const kf_set_writer *w) { return w->dir; }
int kf_writer_shards(const kf_set_writer *w) { return w->n_shards; }
kf_set_kind kf_writer_kind(const kf_set_writer *w) { return w->kind; }
bool kf_writer_f32(const kf_set_writer *w) { return w->f32; }
bool kf_writer_chat(const kf_set_writer *w) { return w->chat; }
kf_fp kf_writer_identity(const kf_set_writer *w) { return w->identity; }

void kf_writer_shard_done(kf_set_writer *w, int shard, const kf_shard_facts *facts)
{
	pthread_mutex_lock(&w->lock);
	w->done[shard] = true;
	w->wrote++;
	w->wrote_docs += facts->docs;
	w->wrote_tokens += facts->tokens;
	w->wrote_bytes += facts->bytes;
	pthread_mutex_unlock(&w->lock);
}

bool kf_set_shard_done(const kf_set_writer *cw, int shard)
{
	kf_set_writer *w = (kf_set_writer *)(uintptr_t)cw;
	bool done;

	if (shard < 0 || shard >= w->n_shards) return false;
	pthread_mutex_lock(&w->lock);
	done = w->done[shard];
	pthread_mutex_unlock(&w->lock);
	return done;
}

void kf_set_abandon(kf_set_writer *w)
{
	if (!w) return;
	kf_part_lock_drop(&w->mine);
	json_decref(w->manifest);
	kf_free(w->done);
	pthread_mutex_destroy(&w->lock);
	kf_free(w);
}

/* ---- the folder ---- */

/* Beginning and completing a set are done by one process at a time; the others wait. A file system without
 * locks leaves atomic renames, which suffice but for a race of two first runs. */
static kf_status lock_manifest(kf_lock *l, const char *dir, kf_err *err)
{
	char path[KF_PATH_MAX];
	kf_status rc = kf_path_join(path, dir, MANIFEST_LOCK, err);

	l->fd = -1;
	if (rc != KF_OK || access(dir, W_OK) < 0) return rc;   /* where nothing can be written nobody is in the way */
	return kf_lock_take(l, path, false, true, dir, err);
}

static bool is_lock(const char *name)
{
	int i, n, end = 0;

	return strcmp(name, KF_LOCK_FILE) == 0 || (sscanf(name, KF_LOCK_FILE "-%d-of-%d%n", &i, &n, &end) == 2 && !name[end]);
}

static bool is_part(const char *name)
{
	size_t n = strlen(name);

	return strncmp(name, "shard-", 6) && n > 5 && strcmp(name + n - 5, ".part") == 0;
}

static bool ours(const char *name)
{
	return is_lock(name) || strncmp(name, "shard-", 6) == 0 || strncmp(name, "manifest.", 9) == 0 || strncmp(name, TIMES, strlen(TIMES)) == 0 ||
		strncmp(name, TOKENIZER, strlen(TOKENIZER)) == 0;
}

/* Nobody has the file locked: whoever wrote it, or held it as a lock, is gone. */
static void remove_if_dead(const char *path)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);

	if (fd < 0) return;
	if (flock(fd, LOCK_EX | LOCK_NB) == 0 && kf_lock_same(fd, path)) unlink(path);
	close(fd);
}

/* Look through the folder: *foreign gets a name that is not a set's, "" when there is none. Remove what dead runs left: the
 * temporary files of kf_file_write_atomic, and, where the set is whole so that they guard nothing, locks. */
static kf_status look_around(const char *dir, bool whole, char foreign[256], kf_err *err)
{
	DIR *d = opendir(dir);
	struct dirent *e;
	char path[KF_PATH_MAX];

	foreign[0] = 0;
	if (!d) return kf_fail_errno(err, "cannot list folder %s", dir);
	while ((e = readdir(d))) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
		if (strncmp(e->d_name, ".nfs", 4) == 0) continue;   /* a lock that was removed while another waited for it, on NFS */
		if (!ours(e->d_name)) snprintf(foreign, 256, "%s", e->d_name);
		else if ((is_part(e->d_name) || (whole && is_lock(e->d_name))) && kf_path_join(path, dir, e->d_name, NULL) == KF_OK)
			remove_if_dead(path);
	}
	closedir(d);
	return KF_OK;
}

static kf_status write_tokenizer(const kf_set_spec *spec, kf_err *err)
{
	char path[KF_PATH_MAX];
	size_t bound = ZSTD_compressBound(spec->tokenizer_size), got;
	uint8_t *buf;
	kf_status rc = kf_path_join(path, spec->dir, TOKENIZER, err);

	if (rc != KF_OK) return rc;
	if (!(buf = kf_alloc(bound, 1))) return kf_fail(err, KF_ENOMEM, "no memory to write %s", path);
	got = ZSTD_compress(buf, bound, spec->tokenizer, spec->tokenizer_size, 12);
	if (ZSTD_isError(got)) rc = kf_fail(err, KF_ENOMEM, "cannot compress %s: %s", path, ZSTD_getErrorName(got));
	else rc = kf_file_write_atomic(path, buf, got, err);
	kf_free(buf);
	return rc;
}

/* ---- beginning ---- */

/* What is there but is not that is not removed: the shard that will be made takes its place. */
kf_status kf_writer_shard_there(const kf_set_writer *w, int i, bool sound, bool *there, kf_shard_facts *f, kf_err *err)
{
	char path[KF_PATH_MAX];
	kf_status rc = kf_shard_path(path, w->dir, i, err);

	*there = false;
	if (rc != KF_OK || !kf_exists(path)) return rc;
	rc = kf_shard_facts_of(path, sound, f, err);
	if (rc == KF_OK) *there = kf_facts_are(f, w->identity, i, w->n_shards);
	/* a shortage of memory or the like is no damage, for which to make a shard again or to leave a set unfinished */
	return rc == KF_ENOMEM || rc == KF_EIO ? rc : KF_OK;
}

/* The manifest that is there, of a whole set or (*is_part) of half a one; *there NULL: none. */
static kf_status load_there(const char *dir, json_t **there, bool *is_part, kf_err *err)
{
	static const char *const names[] = { MANIFEST, MANIFEST_PART };
	char path[KF_PATH_MAX];
	kf_status rc;

	*there = NULL;
	*is_part = false;
	for (int i = 0; !*there && i < 2; i++) {
		if ((rc = kf_path_join(path, dir, names[i], err)) != KF_OK) return rc;
		if (!kf_exists(path)) continue;
		if ((rc = kf_manifest_load(path, there, err)) != KF_OK) return rc;
		*is_part = i == 1;
	}
	return KF_OK;
}

/* ---- in place of another set ---- */

/* Whether the same program made what is there, of something else. */
static kf_status is_another(const kf_set_writer *w, bool *another, kf_err *err)
{
	char diff[KF_MANIFEST_DIFF];
	json_t *there;
	bool is_part;
	kf_status rc = load_there(w->dir, &there, &is_part, err);

	*another = false;
	if (rc != KF_OK || !there) return rc;
	kf_manifest_diff(there, w->manifest, diff);
	*another = diff[0] && kf_manifest_same_maker(there, w->manifest);
	json_decref(there);
	return KF_OK;
}

/* Remove all that is a set's, but locks and the manifest that says that it is half of one. */
static kf_status remove_content(const char *dir, kf_err *err)
{
	DIR *d = opendir(dir);
	struct dirent *e;
	char path[KF_PATH_MAX];
	kf_status rc = KF_OK;

	if (!d) return kf_fail_errno(err, "cannot list folder %s", dir);
	while (rc == KF_OK && (e = readdir(d))) {
		if (!ours(e->d_name) || is_lock(e->d_name) || strcmp(e->d_name, MANIFEST_LOCK) == 0 || strcmp(e->d_name, MANIFEST_PART) == 0) continue;
		if ((rc = kf_path_join(path, dir, e->d_name, err)) == KF_OK && unlink(path) < 0 && errno != ENOENT)
			rc = kf_fail_errno(err, "cannot remove %s", path);
	}
	closedir(d);
	return rc;
}

/* Where another set of this program is, let this one be what is begun. It is locked as a whole, so that nobody writes any part of it, and looked at
 * again then: a part of the new set may have come first. */
static kf_status take_away(const kf_set_writer *w, const char *manifest, const char *part, kf_err *err)
{
	kf_part_lock lock = KF_PART_LOCK_NONE;
	bool another;
	kf_status rc = is_another(w, &another, err);

	if (rc != KF_OK || !another || (rc = kf_part_lock_take(&lock, w->dir, 0, 1, err)) != KF_OK) return rc;
	if ((rc = is_another(w, &another, err)) != KF_OK || !another) goto out;
	if (rename(manifest, part) < 0 && errno != ENOENT) {
		rc = kf_fail_errno(err, "cannot rename %s to %s", manifest, part);
		goto out;
	}
	if ((rc = kf_sync_dir(w->dir, err)) == KF_OK && (rc = remove_content(w->dir, err)) == KF_OK)
		rc = kf_manifest_write(part, w->manifest, err);
out:
	kf_part_lock_drop(&lock);
	return rc;
}

static kf_status begin_locked(const kf_set_spec *spec, kf_set_writer *w, kf_set_state *state, kf_err *err)
{
	char manifest[KF_PATH_MAX], part[KF_PATH_MAX], foreign[256];
	json_t *there = NULL;
	bool is_part;
	kf_status rc;

	if ((rc = kf_path_join(manifest, w->dir, MANIFEST, err)) != KF_OK) return rc;
	if ((rc = kf_path_join(part, w->dir, MANIFEST_PART, err)) != KF_OK) return rc;
	if (spec->replace && (rc = take_away(w, manifest, part, err)) != KF_OK) return rc;
	if ((rc = look_around(w->dir, false, foreign, err)) != KF_OK) return rc;
	if ((rc = load_there(w->dir, &there, &is_part, err)) != KF_OK) return rc;
	if (!there && foreign[0])
		return kf_fail(err, KF_EINVAL, "%s is not a shard set and has other things in it (%s); choose a new folder", w->dir,
			foreign);
	if (there && (rc = kf_manifest_same(there, w->manifest, w->dir, err)) != KF_OK) goto out;
	if (there && !is_part && kf_manifest_files(there, w->dir) && (spec->joined || !json_object_get(there, "joined"))) {
		*state = KF_SET_CURRENT;
		unlink(part); /* a run killed between writing the manifest and this */
		/* make compares times: what is up to date must not be older than what it is made from */
		if (utimensat(AT_FDCWD, manifest, NULL, 0) < 0 && errno != EROFS && errno != EACCES && errno != EPERM)
			rc = kf_fail_errno(err, "cannot refresh the time of %s", manifest);
		for (int i = 0; i < w->n_shards; i++) w->done[i] = true;
		if (rc == KF_OK) rc = look_around(w->dir, true, foreign, err);
		goto out;
	}
	*state = there ? KF_SET_RESUMED : KF_SET_NEW;
	if ((rc = kf_part_lock_take(&w->mine, w->dir, w->part, w->parts, err)) != KF_OK) goto out;
	if (spec->tokenizer && (rc = write_tokenizer(spec, err)) != KF_OK) goto out;
	if ((rc = kf_manifest_write(part, w->manifest, err)) != KF_OK) goto out;
	if (there && !is_part && unlink(manifest) < 0) {
		rc = kf_fail_errno(err, "cannot remove %s, whose shards are incomplete", manifest);
		goto out;
	}
out:
	json_decref(there);
	return rc;
}

/* What earlier runs finished of this part. Outside the lock: other parts need not wait while all of it is read. */
static kf_status look_for_shards(kf_set_writer *w, kf_err *err)
{
	kf_shard_facts f;
	kf_status rc = KF_OK;

	for (int i = w->part; i < w->n_shards && rc == KF_OK; i += w->parts) rc = kf_writer_shard_there(w, i, true, &w->done[i], &f, err);
	return rc;
}

kf_status kf_set_recorded(const char *dir, json_t **options, json_t **info, kf_err *err)
{
	json_t *manifest;
	bool is_part;
	kf_status rc = load_there(dir, &manifest, &is_part, err);

	*options = *info = NULL;
	if (rc != KF_OK) return rc;
	if (manifest) *options = json_incref(json_object_get(manifest, "options"));
	if (manifest) *info = json_incref(json_object_get(manifest, "info"));
	json_decref(manifest);
	return KF_OK;
}

kf_status kf_set_begin(const kf_set_spec *spec, kf_set_writer **out, kf_set_state *state, kf_err *err)
{
	kf_set_writer *w;
	kf_fp tokenizer = { 0, 0 };
	kf_lock lock;
	kf_status rc;

	*out = NULL;
	*state = KF_SET_NEW;
	if (!spec->dir || !spec->dir[0]) return kf_fail(err, KF_EINVAL, "no folder was given for the output");
	if (spec->n_shards < 1 || spec->n_shards > KF_MAX_SHARDS)
		return kf_fail(err, KF_EINVAL, "a set has 1 to %d shards, not %d", KF_MAX_SHARDS, spec->n_shards);
	if (spec->n_inputs < 0 || spec->n_inputs > KF_MAX_INPUTS)
		return kf_fail(err, KF_EINVAL, "a set has at most %d inputs, not %d", KF_MAX_INPUTS, spec->n_inputs);
	if (strlen(spec->dir) >= KF_PATH_MAX - 64) return kf_fail(err, KF_EINVAL, "path too long: %s", spec->dir);
	if ((rc = kf_mkdirs(spec->dir, err)) != KF_OK) return rc;
	if (!(w = kf_zalloc(1, sizeof *w))) return kf_fail(err, KF_ENOMEM, "no memory to write %s", spec->dir);
	pthread_mutex_init(&w->lock, NULL);
	if (spec->tokenizer) tokenizer = kf_fp_of(spec->tokenizer, spec->tokenizer_size);
	strcpy(w->dir, spec->dir);
	w->kind = spec->kind;
	w->f32 = spec->f32;
	w->chat = spec->chat;
	w->n_shards = spec->n_shards;
	w->part = spec->part;
	w->parts = spec->parts > 0 ? spec->parts : 1;
	w->mine = (kf_part_lock)KF_PART_LOCK_NONE;
	w->start = kf_now();
	w->identity = kf_manifest_identity(spec, tokenizer);
	w->manifest = kf_manifest_new(spec, tokenizer);
	w->done = kf_zalloc((size_t)spec->n_shards, sizeof *w->done);
	if (!w->manifest || !w->done) {
		kf_set_abandon(w);
		return kf_fail(err, KF_ENOMEM, "no memory to write %s", spec->dir);
	}
	if ((rc = lock_manifest(&lock, w->dir, err)) == KF_OK) rc = begin_locked(spec, w, state, err);
	kf_lock_drop(&lock);
	if (rc == KF_OK && *state != KF_SET_CURRENT) rc = look_for_shards(w, err);
	if (rc != KF_OK) kf_set_abandon(w);
	else *out = w;
	return rc;
}

/* ---- completing ---- */

kf_status kf_set_shard_sums(const kf_set_writer *w, int shard, json_t **out, kf_err *err)
{
	char path[KF_PATH_MAX];
	kf_shard *s;
	kf_status rc;

	*out = NULL;
	if ((rc = kf_shard_path(path, w->dir, shard, err)) != KF_OK) return rc;
	if (!kf_exists(path)) return kf_fail(err, KF_ENOTFOUND, "%s is not there yet", path);
	if ((rc = kf_shard_open_file(path, &s, err)) != KF_OK) return rc;
	if (kf_facts_are(&s->facts, w->identity, shard, w->n_shards)) *out = json_incref(s->sums);
	else rc = kf_fail(err, KF_ENOTFOUND, "%s is of another set", path);
	kf_shard_close(s);
	return rc;
}

/* All facts, with checksums; *complete false when a shard is missing. */
static kf_status gather(kf_set_writer *w, kf_shard_facts *facts, bool *complete, kf_err *err)
{
	char path[KF_PATH_MAX];
	kf_status rc;

	for (int i = 0; i < w->n_shards; i++)
		if ((rc = kf_writer_shard_there(w, i, false, complete, &facts[i], err)) != KF_OK || !*complete) return rc;
	for (int i = 0; i < w->n_shards; i++) {
		if ((rc = kf_shard_path(path, w->dir, i, err)) != KF_OK) return rc;
		if ((rc = kf_fp_file(path, &facts[i].checksum, err)) != KF_OK) return rc;
	}
	return KF_OK;
}

static kf_status commit_locked(kf_set_writer *w, json_t *stats, bool *complete, kf_err *err)
{
	char manifest[KF_PATH_MAX], part[KF_PATH_MAX], foreign[256];
	kf_shard_facts *facts;
	kf_status rc;

	if ((rc = kf_path_join(manifest, w->dir, MANIFEST, err)) != KF_OK) return rc;
	if ((rc = kf_path_join(part, w->dir, MANIFEST_PART, err)) != KF_OK) return rc;
	if (kf_exists(manifest)) { /* another part of the job came first, or it was up to date */
		*complete = true;
		return KF_OK;
	}
	if (!(facts = kf_zalloc((size_t)w->n_shards, sizeof *facts)))
		return kf_fail(err, KF_ENOMEM, "no memory for %d shards", w->n_shards);
	if ((rc = gather(w, facts, complete, err)) != KF_OK || !*complete) goto out;
	if ((rc = kf_manifest_add_facts(w->manifest, facts, w->n_shards, err)) != KF_OK) goto out;
	if (stats) json_object_set(w->manifest, "stats", stats);
	if ((rc = kf_manifest_write(manifest, w->manifest, err)) != KF_OK) goto out;
	unlink(part);
	rc = look_around(w->dir, true, foreign, err);
out:
	if (rc != KF_OK) *complete = false;
	kf_free(facts);
	return rc;
}

/* A line on how long this run took for the shards it wrote: no part of the content, which is the same at any speed, and no
 * reason to fail. One write to the end of the file, so that lines of an array job do not mix. */
static void note_time(const kf_set_writer *w)
{
	char path[KF_PATH_MAX], line[256];
	int n = snprintf(line, sizeof line, "{\"shards\":%d,\"docs\":%llu,\"tokens\":%llu,\"bytes\":%llu,\"seconds\":%.3f}\n", w->wrote,
		(unsigned long long)w->wrote_docs, (unsigned long long)w->wrote_tokens, (unsigned long long)w->wrote_bytes,
		kf_now() - w->start);
	int fd = kf_path_join(path, w->dir, TIMES, NULL) == KF_OK ? open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666) : -1;

	if (fd < 0) return;
	if (write(fd, line, (size_t)n) != n && ftruncate(fd, 0) < 0) unlink(path); /* a torn line would spoil the rest */
	close(fd);
}

/* ---- taking away what is damaged ---- */

kf_status kf_set_drop(const char *dir, const bool *bad, int n, kf_err *err)
{
	char manifest[KF_PATH_MAX], part[KF_PATH_MAX], path[KF_PATH_MAX];
	json_t *m = NULL, *begun = NULL;
	kf_lock lock;
	kf_status rc;

	if ((rc = kf_path_join(manifest, dir, MANIFEST, err)) != KF_OK || (rc = kf_path_join(part, dir, MANIFEST_PART, err)) != KF_OK)
		return rc;
	if ((rc = lock_manifest(&lock, dir, err)) != KF_OK) return rc;
	/* One that cannot be read says nothing: the shards tell by themselves what they belong to. */
	if ((rc = kf_manifest_load(manifest, &m, err)) != KF_OK && rc != KF_EDATA && rc != KF_ENOTFOUND) goto out;
	rc = KF_OK;
	/* Shards first: a shard must never be there without the checksum that tells that it is damaged. */
	for (int i = 0; i < n && rc == KF_OK; i++)
		if (bad[i] && (rc = kf_shard_path(path, dir, i, err)) == KF_OK && unlink(path) < 0 && errno != ENOENT)
			rc = kf_fail_errno(err, "cannot remove %s", path);
	if (rc != KF_OK) goto out;
	static const char *const of_whole[] = { "shards", "docs", "tokens", "bytes", "content" };
	for (size_t i = 0; m && i < sizeof of_whole / sizeof *of_whole; i++) json_object_del(m, of_whole[i]);
	if (m) rc = kf_manifest_write(part, m, err);
	else if (kf_manifest_load(part, &begun, NULL) == KF_EDATA && unlink(part) < 0) rc = kf_fail_errno(err, "cannot remove %s", part);
	if (rc == KF_OK && unlink(manifest) < 0 && errno != ENOENT) rc = kf_fail_errno(err, "cannot remove %s", manifest);
	if (rc == KF_OK) rc = kf_sync_dir(dir, err);
out:
	json_decref(m);
	json_decref(begun);
	kf_lock_drop(&lock);
	return rc;
}

void kf_set_leave(kf_set_writer *w)
{
	kf_err ignored;
	kf_lock lock;

	if (w->wrote && lock_manifest(&lock, w->dir, &ignored) == KF_OK) {
		note_time(w);
		kf_lock_drop(&lock);
	}
	kf_set_abandon(w);
}

kf_status kf_set_commit(kf_set_writer *w, json_t *stats, bool *complete, kf_err *err)
{
	kf_lock lock;
	bool whole = false;
	kf_status rc = lock_manifest(&lock, w->dir, err);

	if (rc == KF_OK) rc = commit_locked(w, stats, &whole, err);
	if (rc == KF_OK && w->wrote) note_time(w);
	kf_lock_drop(&lock);
	if (complete) *complete = whole;
	kf_set_abandon(w);
	return rc;
}
