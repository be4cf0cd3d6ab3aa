#include "train/output.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/record.h"
#include "common/model/weights.h"
#include "train/checkpoint.h"

#define EPOCHS "epoch-[0-9]*"        /* of --keep-epochs */

/* Remove what of a folder has one of these names, but for the lock, which is held. */
static kf_status clear(const char *dir, const char *const *names, int n, kf_err *err)
{
	DIR *d = opendir(dir);
	struct dirent *e;
	kf_status rc = KF_OK;

	if (!d)
		return errno == ENOENT ? KF_OK : kf_fail_errno(err, "cannot read the folder %s", dir);
	while (rc == KF_OK && (e = readdir(d)))
		for (int i = 0; i < n; i++)
			if (fnmatch(names[i], e->d_name, FNM_PERIOD) == 0 && strcmp(e->d_name, KF_LOCK_FILE) != 0) {
				char path[KF_PATH_MAX];

				if ((rc = kf_path_join(path, dir, e->d_name, err)) == KF_OK)
					rc = kf_remove_tree(path, err);
				break;
			}
	closedir(d);
	return rc;
}

/* *all: whether a folder has nothing but what has one of these names; one that is not there has nothing. */
static kf_status only(const char *dir, const char *const *names, int n, bool *all, kf_err *err)
{
	DIR *d = opendir(dir);
	struct dirent *e;

	if (!d && errno != ENOENT && errno != ENOTDIR)
		return kf_fail_errno(err, "cannot read the folder %s", dir);
	*all = d || errno == ENOENT;
	while (d && *all && (e = readdir(d))) {
		bool known = strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0;

		for (int i = 0; i < n && !known; i++)
			known = fnmatch(names[i], e->d_name, FNM_PERIOD) == 0;
		*all = known;
	}
	if (d)
		closedir(d);
	return KF_OK;
}

/* KF_EINVAL where the model of an epoch has company: somebody's results, say. */
static kf_status check_epochs(const char *out, kf_err *err)
{
	DIR *d = opendir(out);
	const struct dirent *e;
	char path[KF_PATH_MAX];
	kf_status rc = KF_OK;

	while (d && rc == KF_OK && (e = readdir(d)))
		if (fnmatch(EPOCHS, e->d_name, FNM_PERIOD) == 0 && (rc = kf_path_join(path, out, e->d_name, err)) == KF_OK && kf_is_dir(path))
			rc = kf_hf_check_ours(path, err);
	if (d)
		closedir(d);
	return rc;
}

int kf_output_epochs(const char *out, int *missing)
{
	DIR *d = opendir(out);
	const struct dirent *e;
	int n = 0, last = 0;

	while (d && (e = readdir(d)))
		if (fnmatch(EPOCHS, e->d_name, FNM_PERIOD) == 0) {
			const long epoch = strtol(e->d_name + sizeof "epoch-" - 1, NULL, 10);

			n++;
			if (epoch > last && epoch <= INT_MAX)
				last = (int)epoch;
		}
	if (d)
		closedir(d);
	*missing = last > n ? last - n : 0;
	return n;
}

/* Remove what a run of ours leaves behind; that it is one, identity.json, goes on saying until the new one does. */
static kf_status begin_anew(const char *out, const char *state, kf_err *err)
{
	static const char *const ours[] = { EPOCHS, "config.json", "generation_config.json",
		"model*.safetensors", "model.safetensors.index.json", "tokenizer.json", "tokenizer.model", "tokenizer_config.json",
		"special_tokens_map.json", "log.jsonl" }, *const all[] = { "[!i]*", "i[!d]*" },
		*const record[] = { "kfuse.json" };
	char config[KF_PATH_MAX];
	kf_status rc = kf_path_join(config, out, "config.json", err);

	if (rc != KF_OK || (rc = check_epochs(out, err)) != KF_OK)
		return rc;
	unlink(config);                   /* first: what is left is no model to anybody */
	if ((rc = clear(out, ours, sizeof ours / sizeof ours[0], err)) != KF_OK || (rc = clear(state, all, 2, err)) != KF_OK)
		return rc;
	return clear(out, record, 1, err);   /* last: of a run that had ended it alone says whose all this is */
}

typedef struct {
	char done[KF_PATH_MAX], config[KF_PATH_MAX], dir[KF_PATH_MAX], started[KF_PATH_MAX], trained[KF_PATH_MAX];
} paths;

static kf_status make_paths(paths *p, const char *out, kf_err *err)
{
	kf_status rc;

	if ((rc = kf_path_join(p->done, out, "kfuse.json", err)) != KF_OK ||
	    (rc = kf_path_join(p->config, out, "config.json", err)) != KF_OK ||
	    (rc = kf_path_join(p->dir, out, "state", err)) != KF_OK ||
	    (rc = kf_path_join(p->started, p->dir, "identity.json", err)) != KF_OK)
		return rc;
	return kf_path_join(p->trained, p->dir, "kfuse.json", err);
}

/* *nothing: whether the run that was here has come to nothing that anyone could miss: it has neither a checkpoint nor a model. */
static kf_status came_to_nothing(const paths *p, const char *out, bool *nothing, kf_err *err)
{
	static const char *const mine[] = { "state", "log.jsonl" }, *const begun[] = { KF_LOCK_FILE, "identity.json", "*.part" };
	kf_status rc = only(out, mine, 2, nothing, err);

	return rc == KF_OK && *nothing ? only(p->dir, begun, 3, nothing, err) : rc;
}

/* What is in OUT. What is to be replaced is a run, to be told by its record. */
static kf_status look(const paths *p, const kf_train_opts *o, const json_t *identity, kf_out_state *state, kf_err *err)
{
	const char *found = kf_exists(p->trained) ? p->trained : kf_exists(p->done) && kf_exists(p->config) ? p->done :
		kf_exists(p->started) ? p->started : kf_exists(p->done) ? p->done : NULL;
	const char *out = o->out, *program;
	json_t *was = NULL;
	kf_status rc;
	bool nothing = false, empty;

	*state = KF_OUT_NEW;
	if (kf_is_dir(p->dir) && (rc = came_to_nothing(p, out, &nothing, err)) != KF_OK)
		return rc;
	if (found) {
		rc = kf_record_read(found, &was, err);
		program = json_string_value(json_object_get(was, "program"));
		if (program && strcmp(program, "kf-train") != 0)
			rc = kf_fail(err, KF_EMISMATCH, "%s holds what %.40s made, and no training run. Choose another --out.", out, program);
		else if (o->restart || nothing) {
			*state = o->restart ? KF_OUT_REPLACE : KF_OUT_NEW;
			json_decref(was);
			return KF_OK;
		} else if (rc == KF_OK) {
			rc = kf_record_same(out, was, identity, "another training run",
				"Choose another --out, or give --replace (make: REPLACE=1) to have this one in its place.", err);
			if (rc == KF_EMISMATCH && o->replace)
				*state = KF_OUT_REPLACE;
		}
		json_decref(was);
		if (*state == KF_OUT_REPLACE)
			return KF_OK;
		if (rc == KF_OK)
			*state = found == p->trained ? KF_OUT_TRAINED : found == p->started ? KF_OUT_STARTED :
				kf_exists(p->config) ? KF_OUT_CURRENT : KF_OUT_NEW;
		if (*state == KF_OUT_CURRENT && (rc = kf_hf_check(out, true, err)) != KF_OK && (rc == KF_ENOTFOUND || rc == KF_EDATA))
			rc = kf_context(err, rc, "%s has lost weights or files of the tokenizer; --restart trains it again", out);
		return rc;
	}
	if (nothing)   /* killed before it could say what it was */
		return KF_OK;
	if ((rc = kf_dir_empty(out, &empty, err)) == KF_OK && !empty)
		rc = kf_fail(err, KF_EINVAL, "%s is not empty and holds no training run. Choose another --out.", out);
	return rc;
}

static void refresh(const paths *p)
{
	utimensat(AT_FDCWD, p->done, NULL, 0);
	utimensat(AT_FDCWD, p->config, NULL, 0);
}

/* Make OUT/state and lock it. Its last user may remove it in between. */
static kf_status take(const paths *p, const char *out, kf_lock *lock, kf_err *err)
{
	char path[KF_PATH_MAX];
	kf_status rc = kf_path_join(path, p->dir, KF_LOCK_FILE, err);

	for (int tries = 0; rc == KF_OK; tries++) {
		if ((rc = kf_mkdirs(p->dir, err)) != KF_OK)
			return rc;
		rc = kf_lock_take(lock, path, false, false, out, err);
		if (rc != KF_ENOTFOUND || tries == 100)
			return rc;
		rc = KF_OK;
	}
	return rc;
}

kf_status kf_output_begin(const kf_train_opts *o, const json_t *identity, kf_out_state *state, kf_lock *lock, kf_err *err)
{
	const char *out = o->out;
	paths p;
	kf_status rc;

	lock->fd = -1;
	if (kf_path_in(o->model, out))
		return kf_fail(err, KF_EINVAL, "--model %s is in the folder --out %s, where what is trained would replace it. Choose another --out.",
			o->model, out);
	if ((rc = make_paths(&p, out, err)) != KF_OK || (kf_is_dir(p.dir) && (rc = take(&p, out, lock, err)) != KF_OK))
		return rc;
	if ((rc = look(&p, o, identity, state, err)) != KF_OK)
		goto fail;
	if ((*state == KF_OUT_NEW || *state == KF_OUT_REPLACE) && o->resume) {
		rc = kf_fail(err, KF_ENOTFOUND, "%s holds nothing to resume. Without --resume the run begins.", out);
		goto fail;
	}
	/* What is finished, or another's, is not touched. If it is neither: again, now that nobody else writes it. */
	if (*state != KF_OUT_CURRENT && lock->fd < 0) {
		if ((rc = take(&p, out, lock, err)) != KF_OK)
			return rc;
		if ((rc = look(&p, o, identity, state, err)) != KF_OK)
			goto fail;
	}
	if (*state == KF_OUT_CURRENT) {
		refresh(&p);
		return KF_OK;
	}
	if (*state == KF_OUT_NEW && (rc = kf_record_write(p.started, identity, err)) != KF_OK)
		goto fail;
	return KF_OK;
fail:
	kf_lock_drop(lock);
	return rc;
}

kf_status kf_output_clear(const char *out, const json_t *identity, kf_err *err)
{
	kf_status rc;
	paths p;

	if ((rc = make_paths(&p, out, err)) != KF_OK || (rc = begin_anew(out, p.dir, err)) != KF_OK)
		return rc;
	return kf_record_write(p.started, identity, err);
}

static kf_status move(const char *from_dir, const char *name, const char *to_dir, kf_err *err)
{
	char from[KF_PATH_MAX], to[KF_PATH_MAX];
	kf_status rc;

	if ((rc = kf_path_join(from, from_dir, name, err)) != KF_OK || (rc = kf_path_join(to, to_dir, name, err)) != KF_OK)
		return rc;
	if (rename(from, to) != 0)
		return kf_fail_errno(err, "cannot move %s to %s", from, to);
	return KF_OK;
}

kf_status kf_output_best(char *path, const char *state, int epoch, kf_err *err)
{
	char name[32];

	snprintf(name, sizeof name, "best-%d", epoch);
	return kf_path_join(path, state, name, err);
}

bool kf_output_has_best(const char *state, int epoch)
{
	char dir[KF_PATH_MAX], config[KF_PATH_MAX];

	return kf_output_best(dir, state, epoch, NULL) == KF_OK && kf_path_join(config, dir, "config.json", NULL) == KF_OK && kf_exists(config);
}

kf_status kf_output_keep_best(const char *state, const int *epochs, int n, kf_err *err)
{
	DIR *d = opendir(state);
	struct dirent *e;
	kf_status rc = KF_OK;

	if (!d)
		return kf_fail_errno(err, "cannot read the folder %s", state);
	while (rc == KF_OK && (e = readdir(d))) {
		char path[KF_PATH_MAX], name[32];
		bool kept = strncmp(e->d_name, "best-", 5) != 0;

		for (int i = 0; i < n && !kept; i++) {
			snprintf(name, sizeof name, "best-%d", epochs[i]);
			kept = strcmp(e->d_name, name) == 0;
		}
		if (!kept && (rc = kf_path_join(path, state, e->d_name, err)) == KF_OK)
			rc = kf_remove_tree(path, err);
	}
	closedir(d);
	return rc;
}

/* What training ended with, a new reference, and the epoch whose model that is. */
static kf_status read_trained(const paths *p, json_t **record, int *epoch, kf_err *err)
{
	kf_status rc = kf_record_read(p->trained, record, err);

	if (rc == KF_OK && json_unpack(*record, "{s:{s:i}}", "result", "epoch", epoch) != 0)
		rc = kf_fail(err, KF_EDATA, "%s does not name the epoch whose model is to be published. --restart begins anew.", p->trained);
	return rc;
}

/* All of a model but config.json: a folder without it is no model to anybody. */
static kf_status move_model(const char *best, const char *out, kf_err *err)
{
	DIR *d = opendir(best);
	struct dirent *e;
	kf_status rc = KF_OK;

	if (!d)
		return errno == ENOENT ? KF_OK : kf_fail_errno(err, "cannot read the folder %s", best);
	while (rc == KF_OK && (errno = 0, e = readdir(d)))
		if (e->d_name[0] != '.' && strcmp(e->d_name, "config.json") != 0)
			rc = move(best, e->d_name, out, err);
	if (rc == KF_OK && errno)
		rc = kf_fail_errno(err, "cannot read the folder %s", best);
	closedir(d);
	return rc;
}

/* What ends it is config.json, which make goes by: by then all else is there. Killed on the way, the next run goes on. */
static kf_status publish(const char *out, const paths *p, int epoch, const json_t *record, kf_err *err)
{
	char best[KF_PATH_MAX];
	kf_status rc = kf_output_best(best, p->dir, epoch, err);
	bool there = kf_output_has_best(p->dir, epoch);

	/* one that was moved already is in OUT */
	if (rc == KF_OK && !there && !kf_exists(p->config))
		rc = kf_fail(err, KF_EDATA, "%s is not there, the model that training ended with. --restart begins anew.", best);
	if (rc != KF_OK || (rc = move_model(best, out, err)) != KF_OK || (rc = kf_record_write(p->done, record, err)) != KF_OK ||
	    (there && (rc = move(best, "config.json", out, err)) != KF_OK))
		return rc;
	if (unlink(p->trained) < 0)
		return kf_fail_errno(err, "cannot remove %s", p->trained);
	return kf_sync_dir(out, err);
}

kf_status kf_output_publish(const char *out, kf_err *err)
{
	json_t *record = NULL;
	kf_status rc;
	int epoch;
	paths p;

	if ((rc = make_paths(&p, out, err)) == KF_OK && (rc = read_trained(&p, &record, &epoch, err)) == KF_OK)
		rc = publish(out, &p, epoch, record, err);
	json_decref(record);
	return rc;
}

kf_status kf_output_end(const char *out, bool keep, kf_lock *lock, kf_err *err)
{
	static const char *const all[] = { "*" };
	char state[KF_PATH_MAX];
	kf_status rc = kf_path_join(state, out, "state", err);

	if (rc != KF_OK || lock->fd < 0)
		return rc;
	if (keep)
		return kf_output_keep_best(state, NULL, 0, err);
	if ((rc = clear(state, all, 1, err)) != KF_OK)
		return rc;
	/* NFS does not remove a folder with a file that is open, and keeps one that is removed meanwhile under another name */
	kf_lock_drop(lock);
	/* the same of another run that has its lock there, or looks for one, to find that all is done */
	if (rmdir(state) < 0 && errno != ENOTEMPTY && errno != EEXIST && errno != EBUSY && errno != ENOENT)
		rc = kf_fail_errno(err, "cannot remove %s", state);
	return rc;
}
