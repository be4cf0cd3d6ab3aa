/* File: "KFCKPT01", u32 length of the JSON, the JSON, then for each parameter its value, first and second
 * moment as float32 (moments in 8 bits: the bytes of the first, of the second, and float32 scales of both), then the
 * fingerprint (hi, lo) of all before it. Little-endian. */
#include "train/checkpoint.h"

#include <dirent.h>
#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/base/file.h"
#include "common/base/hash.h"

#define MAGIC "KFCKPT01"
#define CHUNK ((size_t)1 << 20)        /* floats */
#define MAX_STATE ((size_t)16 << 20)   /* bytes of JSON */

typedef struct {
	FILE *f;
	kf_hasher *hash;
	float *buf;
	const char *path;
} stream;

static kf_status put(stream *s, const void *p, size_t n, kf_err *err)
{
	kf_hasher_add(s->hash, p, n);
	if (fwrite(p, 1, n, s->f) != n)
		return kf_fail_errno(err, "cannot write %s", s->path);
	return KF_OK;
}

static kf_status get(stream *s, void *p, size_t n, kf_err *err)
{
	if (fread(p, 1, n, s->f) != n)
		return kf_fail(err, KF_EDATA, "%s ends too early", s->path);
	kf_hasher_add(s->hash, p, n);
	return KF_OK;
}

/* Bytes of the backend's memory. */
static kf_status put_array(stream *s, kf_exec *x, const void *v, size_t bytes, kf_err *err)
{
	kf_status rc = KF_OK;

	for (size_t at = 0; at < bytes && rc == KF_OK; at += CHUNK * sizeof(float)) {
		size_t c = bytes - at < CHUNK * sizeof(float) ? bytes - at : CHUNK * sizeof(float);

		if ((rc = x->ops->get(x, s->buf, (const char *)v + at, c, err)) == KF_OK)
			rc = put(s, s->buf, c, err);
	}
	return rc;
}

/* rounded: also gets them, which are floats, as bfloat16; or NULL. */
static kf_status get_array(stream *s, kf_exec *x, void *v, void *rounded, size_t bytes, kf_err *err)
{
	kf_status rc = KF_OK;

	for (size_t at = 0; at < bytes && rc == KF_OK; at += CHUNK * sizeof(float)) {
		size_t c = bytes - at < CHUNK * sizeof(float) ? bytes - at : CHUNK * sizeof(float);

		if ((rc = get(s, s->buf, c, err)) == KF_OK)
			rc = x->ops->put(x, (char *)v + at, s->buf, c, err);
		if (rc == KF_OK && rounded)
			rc = x->ops->put_num(x, (char *)rounded + at / 2, KF_NUM_BF16, s->buf, c / sizeof(float), err);
	}
	return rc;
}

/* The arrays of a parameter in the order of the file. */
typedef struct { void *p; size_t bytes; void *rounded; } array;

static int arrays_of(const kf_param *p, const kf_adamw *s, array out[5])
{
	const size_t scales = (s->n + KF_MOMENT_BLOCK - 1) / KF_MOMENT_BLOCK * sizeof(float), floats = s->n * sizeof(float);

	out[0] = (array){ p->master ? p->master : p->value, floats, p->master ? p->value : NULL };
	if (!s->m8) {
		out[1] = (array){ s->m, floats, NULL };
		out[2] = (array){ s->v, floats, NULL };
		return 3;
	}
	out[1] = (array){ s->m8, s->n, NULL };
	out[2] = (array){ s->v8, s->n, NULL };
	out[3] = (array){ s->m_scale, scales, NULL };
	out[4] = (array){ s->v_scale, scales, NULL };
	return 5;
}

static kf_status open_stream(stream *s, const char *path, const char *mode, kf_err *err)
{
	s->path = path;
	s->hash = kf_hasher_new();
	s->buf = kf_alloc(CHUNK, sizeof *s->buf);
	if (!s->hash || !s->buf)
		return kf_fail(err, KF_ENOMEM, "no memory for a checkpoint's buffer");
	s->f = fopen(path, mode);
	return s->f ? KF_OK : kf_fail_errno(err, "cannot open %s", path);
}

static void close_stream(stream *s)
{
	if (s->f)
		fclose(s->f);
	kf_hasher_free(s->hash);
	kf_free(s->buf);
}

/* Steps of the checkpoints in dir, ascending; *n of them, at most max, the last ones. */
static kf_status list(const char *dir, int64_t *steps, int max, int *n, kf_err *err)
{
	DIR *d = opendir(dir);
	struct dirent *e;

	*n = 0;
	if (!d)
		return errno == ENOENT ? KF_OK : kf_fail_errno(err, "cannot read the folder %s", dir);
	while ((e = readdir(d))) {
		long long step;
		int end = 0, at;

		if (sscanf(e->d_name, "step-%lld.ckpt%n", &step, &end) != 1 || !end || e->d_name[end])
			continue;
		if (*n == max) {
			if (step < steps[0])
				continue;
			memmove(steps, steps + 1, (size_t)--*n * sizeof *steps);
		}
		for (at = *n; at > 0 && steps[at - 1] > step; at--)
			steps[at] = steps[at - 1];
		steps[at] = step;
		++*n;
	}
	closedir(d);
	return KF_OK;
}

static void name_of(char *out, const char *dir, int64_t step)
{
	snprintf(out, KF_PATH_MAX, "%s/step-%09lld.ckpt", dir, (long long)step);
}

static kf_status write_body(stream *s, json_t *state, const kf_optim *opt, kf_err *err)
{
	char *text = json_dumps(state, JSON_SORT_KEYS | JSON_REAL_PRECISION(17));
	uint8_t len[4];
	kf_status rc;
	kf_fp fp;

	if (!text)
		return kf_fail(err, KF_ENOMEM, "no memory for a checkpoint's state");
	for (int i = 0; i < 4; i++)
		len[i] = (uint8_t)(strlen(text) >> (8 * i));
	if ((rc = put(s, MAGIC, 8, err)) != KF_OK || (rc = put(s, len, 4, err)) != KF_OK ||
	    (rc = put(s, text, strlen(text), err)) != KF_OK)
		goto out;
	for (int i = 0; i < opt->n; i++) {
		array a[5];
		int n = arrays_of(&opt->params[i], &opt->state[i], a);

		for (int k = 0; k < n; k++)
			if ((rc = put_array(s, opt->x, a[k].p, a[k].bytes, err)) != KF_OK)
				goto out;
	}
	fp = kf_hasher_fp(s->hash);
	if ((rc = put(s, &fp, sizeof fp, err)) != KF_OK)
		goto out;
	if (fflush(s->f) != 0 || fsync(fileno(s->f)) != 0)
		rc = kf_fail_errno(err, "cannot write %s", s->path);
out:
	free(text);
	return rc;
}

kf_status kf_checkpoint_write(const char *dir, int64_t step, json_t *state, const kf_optim *opt, kf_err *err)
{
	char path[KF_PATH_MAX + 32], tmp[KF_PATH_MAX];
	int64_t steps[16];
	stream s = { 0 };
	kf_status rc;
	int n;

	name_of(path, dir, step);
	if ((rc = kf_path_join(tmp, dir, "step.tmp", err)) != KF_OK)
		return rc;
	if ((rc = open_stream(&s, tmp, "wb", err)) == KF_OK)
		rc = write_body(&s, state, opt, err);
	close_stream(&s);
	if (rc != KF_OK) {
		unlink(tmp);
		return rc;
	}
	if (rename(tmp, path) != 0)
		return kf_fail_errno(err, "cannot rename %s to %s", tmp, path);
	if ((rc = kf_sync_dir(dir, err)) != KF_OK || (rc = list(dir, steps, 16, &n, err)) != KF_OK)
		return rc;
	for (int i = 0; i + 2 < n; i++) {
		name_of(path, dir, steps[i]);
		unlink(path);
	}
	return KF_OK;
}

static kf_status read_one(const char *path, kf_optim *opt, json_t **state, kf_err *err)
{
	char magic[8], *text = NULL;
	uint8_t len[4];
	json_error_t bad;
	stream s = { 0 };
	size_t n;
	kf_status rc;
	kf_fp fp, stored;

	*state = NULL;
	if ((rc = open_stream(&s, path, "rb", err)) != KF_OK || (rc = get(&s, magic, 8, err)) != KF_OK ||
	    (rc = get(&s, len, 4, err)) != KF_OK)
		goto out;
	n = len[0] | (size_t)len[1] << 8 | (size_t)len[2] << 16 | (size_t)len[3] << 24;
	if (memcmp(magic, MAGIC, 8) != 0 || n > MAX_STATE) {
		rc = kf_fail(err, KF_EDATA, "%s is no checkpoint of kf-train", path);
		goto out;
	}
	if (!(text = kf_alloc(n + 1, 1))) {
		rc = kf_fail(err, KF_ENOMEM, "no memory for a checkpoint's state");
		goto out;
	}
	if ((rc = get(&s, text, n, err)) != KF_OK)
		goto out;
	if (!(*state = json_loadb(text, n, 0, &bad))) {
		rc = kf_fail(err, KF_EDATA, "%s: its state is no JSON: %s", path, bad.text);
		goto out;
	}
	for (int i = 0; i < opt->n; i++) {
		array a[5];
		int count = arrays_of(&opt->params[i], &opt->state[i], a);

		for (int k = 0; k < count; k++)
			if ((rc = get_array(&s, opt->x, a[k].p, a[k].rounded, a[k].bytes, err)) != KF_OK)
				goto out;
	}
	fp = kf_hasher_fp(s.hash);
	if ((rc = get(&s, &stored, sizeof stored, err)) != KF_OK)
		goto out;
	if (!kf_fp_equal(fp, stored))
		rc = kf_fail(err, KF_EDATA, "%s is damaged: its content is not what was written", path);
out:
	if (rc != KF_OK) {
		json_decref(*state);
		*state = NULL;
	}
	kf_free(text);
	close_stream(&s);
	return rc;
}

kf_status kf_checkpoint_read(const char *dir, kf_optim *opt, json_t **state, kf_err *err)
{
	char path[KF_PATH_MAX + 32];
	int64_t steps[16];
	kf_status rc;
	int n;

	*state = NULL;
	if ((rc = list(dir, steps, 16, &n, err)) != KF_OK)
		return rc;
	if (n == 0)
		return kf_fail(err, KF_ENOTFOUND, "%s has no checkpoint", dir);
	for (int i = n - 1; i >= 0; i--) {
		name_of(path, dir, steps[i]);
		rc = read_one(path, opt, state, err);
		if (rc != KF_EDATA)
			return rc;
	}
	return kf_context(err, rc, "no checkpoint in %s is whole; --restart begins anew", dir);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
	(void)st;
	(void)type;
	(void)at;
	return remove(path);
}

kf_status kf_remove_tree(const char *dir, kf_err *err)
{
	if (nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS) != 0 && errno != ENOENT)
		return kf_fail_errno(err, "cannot remove %s", dir);
	return KF_OK;
}
