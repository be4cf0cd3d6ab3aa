/* File: a magic word of 8 bytes, u32 length of the JSON, the JSON, then arrays, then the fingerprint (hi, lo) of all before it.
 * Little-endian. The arrays: for each parameter its value, first and second moment as float32 (moments in 8 bits: the bytes of
 * the first, of the second, and float32 scales of both); of each the part of one process (kf_part_begin).
 *
 *     step-000000120.ckpt           of one process, "KFCKPT01": the JSON is the state, the arrays are whole
 *     step-000000120.ckpt           of N processes, "KFCKPT02": the JSON is {"state": the state, "parts": [N fingerprints]}; no arrays
 *     step-000000120.ckpt.2-of-4    "KFCKPT02": the JSON is {"step": 120, "part": 2, "parts": 4}, the arrays are that part's
 *
 * Parts are synced and in place before the file that names them is. Any number of processes reads either: each what overlaps
 * with its own part. */
#include "train/checkpoint.h"

#include <dirent.h>
#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/base/file.h"
#include "common/base/hash.h"
#include "train/exchange.h"

#define WHOLE "KFCKPT01"
#define PARTS "KFCKPT02"
#define CHUNK ((size_t)1 << 20)        /* floats */
#define MAX_STATE ((size_t)16 << 20)   /* bytes of JSON */
#define MAX_PARTS 65536

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

/* An array of a parameter as a file has it: units [begin, end) of it, elements or, of scales, blocks; and what this process has. */
typedef struct {
	void *p;                 /* units from own on, in the backend's memory */
	void *rounded;           /* also gets them, which are floats, as bfloat16; or NULL */
	size_t unit;             /* bytes */
	size_t own, own_end, begin, end;
} array;

/* The arrays in the order of the file; part `part` of `parts` is the file's. Returns how many. */
static int arrays_of(const kf_optim *opt, int i, int part, int parts, array out[5])
{
	const kf_param *p = &opt->params[i];
	const kf_adamw *s = &opt->state[i];
	const size_t n = (size_t)(p->rows * p->cols), Q = KF_MOMENT_BLOCK;
	const array of = { NULL, NULL, 1, s->first, s->first + s->n, kf_part_begin(n, part, parts), kf_part_begin(n, part + 1, parts) };
	const array scales = { NULL, NULL, sizeof(float), (of.own + Q - 1) / Q, (of.own_end + Q - 1) / Q, (of.begin + Q - 1) / Q,
		(of.end + Q - 1) / Q };

	for (int k = 0; k < 3; k++)
		out[k] = of;
	out[0].p = s->master ? (void *)s->master : s->w;
	out[0].rounded = s->master ? s->w : NULL;
	out[0].unit = sizeof(float);
	if (!opt->eight) {
		out[1].p = s->m;
		out[2].p = s->v;
		out[1].unit = out[2].unit = sizeof(float);
		return 3;
	}
	out[1].p = s->m8;
	out[2].p = s->v8;
	out[3] = out[4] = scales;
	out[3].p = s->m_scale;
	out[4].p = s->v_scale;
	return 5;
}

static bool overlaps(const array *a)
{
	return a->begin < a->own_end && a->own < a->end;
}

/* All that this process has. */
static kf_status put_array(stream *s, kf_exec *x, const array *a, kf_err *err)
{
	const size_t bytes = (a->own_end - a->own) * a->unit;
	kf_status rc = KF_OK;

	for (size_t at = 0; at < bytes && rc == KF_OK; at += CHUNK * sizeof(float)) {
		size_t c = bytes - at < CHUNK * sizeof(float) ? bytes - at : CHUNK * sizeof(float);

		if ((rc = x->ops->get(x, s->buf, (const char *)a->p + at, c, err)) == KF_OK)
			rc = put(s, s->buf, c, err);
	}
	return rc;
}

/* What the file has, of which this process keeps its own. */
static kf_status get_array(stream *s, kf_exec *x, const array *a, kf_err *err)
{
	const size_t most = CHUNK * sizeof(float) / a->unit;
	kf_status rc = KF_OK;

	for (size_t at = a->begin; at < a->end && rc == KF_OK; at += most) {
		const size_t end = a->end - at < most ? a->end : at + most, from = at > a->own ? at : a->own,
			to = end < a->own_end ? end : a->own_end;
		const char *kept = (const char *)s->buf + (from - at) * a->unit;

		if ((rc = get(s, s->buf, (end - at) * a->unit, err)) != KF_OK || from >= to)
			continue;
		rc = x->ops->put(x, (char *)a->p + (from - a->own) * a->unit, kept, (to - from) * a->unit, err);
		if (rc == KF_OK && a->rounded)
			rc = x->ops->put_num(x, (char *)a->rounded + (from - a->own) * kf_num_size(KF_NUM_BF16), KF_NUM_BF16,
				(const float *)(const void *)kept, to - from, err);
	}
	return rc;
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

/* To read. One that was listed, or is a part of another, and is not there is damage: another machine does not see it yet, or it leads nowhere. */
static kf_status open_listed(stream *s, const char *path, kf_err *err)
{
	kf_status rc = open_stream(s, path, "rb", err);

	return rc == KF_ENOTFOUND ? KF_EDATA : rc;
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

static kf_status put_head(stream *s, const char *magic, const json_t *head, kf_err *err)
{
	char *text = json_dumps(head, JSON_SORT_KEYS | JSON_REAL_PRECISION(17));
	uint8_t len[4];
	kf_status rc;

	if (!text)
		return kf_fail(err, KF_ENOMEM, "no memory for a checkpoint's state");
	for (int i = 0; i < 4; i++)
		len[i] = (uint8_t)(strlen(text) >> (8 * i));
	if ((rc = put(s, magic, 8, err)) == KF_OK && (rc = put(s, len, 4, err)) == KF_OK)
		rc = put(s, text, strlen(text), err);
	free(text);
	return rc;
}

/* opt NULL: no arrays. *fp: of what was written. */
static kf_status write_body(stream *s, const char *magic, const json_t *head, const kf_optim *opt, kf_fp *fp, kf_err *err)
{
	kf_status rc = put_head(s, magic, head, err);

	for (int i = 0; opt && i < opt->n && rc == KF_OK; i++) {
		array a[5];
		int n = arrays_of(opt, i, 0, 1, a);

		for (int k = 0; k < n && rc == KF_OK; k++)
			rc = put_array(s, opt->x, &a[k], err);
	}
	if (rc != KF_OK)
		return rc;
	*fp = kf_hasher_fp(s->hash);
	if ((rc = put(s, fp, sizeof *fp, err)) != KF_OK)
		return rc;
	return fflush(s->f) != 0 || fsync(fileno(s->f)) != 0 ? kf_fail_errno(err, "cannot write %s", s->path) : KF_OK;
}

/* DIR/tmp, synced, then path. */
static kf_status write_file(const char *dir, const char *tmp_name, const char *path, const char *magic, const json_t *head,
	const kf_optim *opt, kf_fp *fp, kf_err *err)
{
	char tmp[KF_PATH_MAX];
	stream s = { 0 };
	kf_status rc = kf_path_join(tmp, dir, tmp_name, err);

	if (rc != KF_OK)
		return rc;
	if ((rc = open_stream(&s, tmp, "wb", err)) == KF_OK)
		rc = write_body(&s, magic, head, opt, fp, err);
	close_stream(&s);
	if (rc != KF_OK) {
		unlink(tmp);
		return rc;
	}
	if (rename(tmp, path) != 0)
		return kf_fail_errno(err, "cannot rename %s to %s", tmp, path);
	return kf_sync_dir(dir, err);
}

static void name_of_part(char *out, const char *dir, int64_t step, int part, int parts)
{
	snprintf(out, KF_PATH_MAX, "%s/step-%09lld.ckpt.%d-of-%d", dir, (long long)step, part, parts);
}

/* All but the last two, and what runs that were killed left behind. */
static kf_status prune(const char *dir, kf_err *err)
{
	char path[KF_PATH_MAX];
	int64_t last[2];
	struct dirent *e;
	kf_status rc;
	DIR *d;
	int n;

	if ((rc = list(dir, last, 2, &n, err)) != KF_OK || n == 0)
		return rc;
	if (!(d = opendir(dir)))
		return kf_fail_errno(err, "cannot read the folder %s", dir);
	while ((e = readdir(d))) {
		long long step;
		bool ours = sscanf(e->d_name, "step-%lld.ckpt", &step) == 1;

		if ((ours && step < last[0]) || strncmp(e->d_name, "step.tmp", 8) == 0)
			if (kf_path_join(path, dir, e->d_name, err) == KF_OK)
				unlink(path);
	}
	closedir(d);
	return KF_OK;
}

/* This process's part, and the fingerprints of all. */
static kf_status write_part(const char *dir, int64_t step, const kf_optim *opt, kf_fp *all, kf_err *err)
{
	const int part = opt->ranks->rank, parts = opt->ranks->size;
	json_t *head = json_pack("{s:I, s:i, s:i}", "step", (json_int_t)step, "part", part, "parts", parts);
	char path[KF_PATH_MAX], tmp[32];
	kf_fp fp = { 0 };
	kf_status rc;

	name_of_part(path, dir, step, part, parts);
	snprintf(tmp, sizeof tmp, "step.tmp.%d", part);
	rc = !head ? kf_fail(err, KF_ENOMEM, "no memory for a checkpoint's state")
		: write_file(dir, tmp, path, PARTS, head, opt, &fp, err);
	json_decref(head);
	if ((rc = kf_ranks_agree(opt->ranks, rc, err)) != KF_OK)
		return rc;
	return kf_ranks_share(opt->ranks, &fp, sizeof fp, all, err);
}

/* The file that makes the parts a checkpoint. */
static kf_status write_index(const char *dir, const char *path, int parts, const kf_fp *fp, json_t *state, kf_err *err)
{
	json_t *list = json_array(), *head = json_pack("{s:O, s:O}", "state", state, "parts", list);
	kf_fp own;
	kf_status rc = KF_OK;

	for (int i = 0; head && i < parts; i++) {
		char hex[KF_FP_HEX];

		kf_fp_hex(fp[i], hex);
		if (json_array_append_new(list, json_string(hex)) != 0)
			rc = KF_ENOMEM;
	}
	rc = !head || rc != KF_OK ? kf_fail(err, KF_ENOMEM, "no memory for a checkpoint's state")
		: write_file(dir, "step.tmp", path, PARTS, head, NULL, &own, err);
	json_decref(head);
	json_decref(list);
	return rc;
}

kf_status kf_checkpoint_write(const char *dir, int64_t step, json_t *state, const kf_optim *opt, kf_err *err)
{
	char path[KF_PATH_MAX + 32];
	kf_ranks *ranks = opt->ranks;
	kf_fp own, *all;
	kf_status rc;

	name_of(path, dir, step);
	if (!ranks) {
		rc = write_file(dir, "step.tmp", path, WHOLE, state, opt, &own, err);
		return rc == KF_OK ? prune(dir, err) : rc;
	}
	all = kf_alloc((size_t)ranks->size, sizeof *all);
	rc = kf_ranks_agree(ranks, all ? KF_OK : kf_fail(err, KF_ENOMEM, "no memory for a checkpoint's state"), err);
	if (rc == KF_OK)
		rc = write_part(dir, step, opt, all, err);
	if (rc == KF_OK) {
		if (ranks->rank == 0 && (rc = write_index(dir, path, ranks->size, all, state, err)) == KF_OK)
			rc = prune(dir, err);
		rc = kf_ranks_agree(ranks, rc, err);
	}
	kf_free(all);
	return rc;
}

/* ---- reading ---- */

/* Magic word and JSON; *head is a new reference. */
static kf_status get_head(stream *s, char magic[8], json_t **head, kf_err *err)
{
	uint8_t len[4];
	json_error_t bad;
	char *text;
	size_t n;
	kf_status rc;

	*head = NULL;
	if ((rc = get(s, magic, 8, err)) != KF_OK || (rc = get(s, len, 4, err)) != KF_OK)
		return rc;
	n = len[0] | (size_t)len[1] << 8 | (size_t)len[2] << 16 | (size_t)len[3] << 24;
	if ((memcmp(magic, WHOLE, 8) != 0 && memcmp(magic, PARTS, 8) != 0) || n > MAX_STATE)
		return kf_fail(err, KF_EDATA, "%s is no checkpoint of kf-train", s->path);
	if (!(text = kf_alloc(n + 1, 1)))
		return kf_fail(err, KF_ENOMEM, "no memory for a checkpoint's state");
	if ((rc = get(s, text, n, err)) == KF_OK && !(*head = json_loadb(text, n, 0, &bad)))
		rc = kf_fail(err, KF_EDATA, "%s: its state is no JSON: %s", s->path, bad.text);
	kf_free(text);
	return rc;
}

static kf_status get_arrays(stream *s, const kf_optim *opt, int part, int parts, kf_err *err)
{
	kf_status rc = KF_OK;

	for (int i = 0; i < opt->n && rc == KF_OK; i++) {
		array a[5];
		int n = arrays_of(opt, i, part, parts, a);

		for (int k = 0; k < n && rc == KF_OK; k++)
			rc = get_array(s, opt->x, &a[k], err);
	}
	return rc;
}

/* The end of a file: what was read is what was written, and of that the fingerprint. */
static kf_status get_end(stream *s, kf_fp *out, kf_err *err)
{
	kf_fp fp = kf_hasher_fp(s->hash), stored;
	kf_status rc = get(s, &stored, sizeof stored, err);

	if (rc == KF_OK && !kf_fp_equal(fp, stored))
		rc = kf_fail(err, KF_EDATA, "%s is damaged: its content is not what was written", s->path);
	*out = fp;
	return rc;
}

static bool needs(const kf_optim *opt, int part, int parts)
{
	for (int i = 0; i < opt->n; i++) {
		array a[5];

		arrays_of(opt, i, part, parts, a);
		if (overlaps(&a[0]))
			return true;
	}
	return false;
}

static kf_status read_part(const char *dir, int64_t step, const kf_optim *opt, int part, int parts, const char *want, kf_err *err)
{
	char path[KF_PATH_MAX], magic[8], hex[KF_FP_HEX];
	json_t *head = NULL;
	json_int_t its_step;
	stream s = { 0 };
	int its_part, its_parts;
	kf_status rc;
	kf_fp fp;

	name_of_part(path, dir, step, part, parts);
	if ((rc = open_listed(&s, path, err)) == KF_OK && (rc = get_head(&s, magic, &head, err)) == KF_OK) {
		if (json_unpack(head, "{s:I, s:i, s:i}", "step", &its_step, "part", &its_part, "parts", &its_parts) != 0 ||
		    its_step != step || its_part != part || its_parts != parts)
			rc = kf_fail(err, KF_EDATA, "%s is another part than its name says", path);
		else if ((rc = get_arrays(&s, opt, part, parts, err)) == KF_OK && (rc = get_end(&s, &fp, err)) == KF_OK) {
			kf_fp_hex(fp, hex);
			if (strcmp(hex, want) != 0)
				rc = kf_fail(err, KF_EDATA, "%s belongs to another checkpoint", path);
		}
	}
	json_decref(head);
	close_stream(&s);
	return rc;
}

/* Of a checkpoint in parts, those with something of this process's. */
static kf_status read_parts(const char *dir, int64_t step, const kf_optim *opt, const json_t *list, const char *path, kf_err *err)
{
	const size_t parts = json_array_size(list);
	kf_status rc = KF_OK;

	if (parts < 1 || parts > MAX_PARTS)
		return kf_fail(err, KF_EDATA, "%s names no parts", path);
	for (size_t i = 0; i < parts && rc == KF_OK; i++) {
		const char *fp = json_string_value(json_array_get(list, i));

		if (!fp)
			rc = kf_fail(err, KF_EDATA, "%s names part %zu by no fingerprint", path, i);
		else if (needs(opt, (int)i, (int)parts))
			rc = read_part(dir, step, opt, (int)i, (int)parts, fp, err);
	}
	return rc;
}

static kf_status read_one(const char *dir, int64_t step, const kf_optim *opt, json_t **state, kf_err *err)
{
	char path[KF_PATH_MAX + 32], magic[8];
	json_t *head = NULL, *list = NULL;
	stream s = { 0 };
	kf_status rc;
	kf_fp fp;

	*state = NULL;
	name_of(path, dir, step);
	if ((rc = open_listed(&s, path, err)) != KF_OK || (rc = get_head(&s, magic, &head, err)) != KF_OK)
		goto out;
	if (memcmp(magic, PARTS, 8) == 0) {
		list = json_object_get(head, "parts");
		*state = json_incref(json_object_get(head, "state"));
		if (!*state)
			rc = kf_fail(err, KF_EDATA, "%s has no state", path);
	} else {
		*state = json_incref(head);
		rc = get_arrays(&s, opt, 0, 1, err);
	}
	if (rc == KF_OK && (rc = get_end(&s, &fp, err)) == KF_OK && list)
		rc = read_parts(dir, step, opt, list, path, err);
	if (rc == KF_OK && memcmp(magic, PARTS, 8) == 0 && !list)
		rc = kf_fail(err, KF_EDATA, "%s names no parts", path);
out:
	if (rc != KF_OK) {
		json_decref(*state);
		*state = NULL;
	}
	json_decref(head);
	close_stream(&s);
	return rc;
}

/* The same list for all: file systems of several machines may differ for a moment. */
static kf_status list_for_all(const char *dir, kf_ranks *r, int64_t *steps, int max, int *n, kf_err *err)
{
	int64_t count;
	kf_status rc = kf_ranks_first(r) ? list(dir, steps, max, n, err) : KF_OK;

	if (!r || (rc = kf_ranks_agree(r, rc, err)) != KF_OK)
		return rc;
	count = *n;
	if ((rc = kf_ranks_broadcast(r, 0, &count, sizeof count, err)) != KF_OK)
		return rc;
	*n = (int)count;
	return kf_ranks_broadcast(r, 0, steps, (size_t)max * sizeof *steps, err);
}

kf_status kf_checkpoint_read(const char *dir, kf_optim *opt, json_t **state, kf_err *err)
{
	int64_t steps[16] = { 0 };
	kf_status rc;
	int n = 0;

	*state = NULL;
	if ((rc = list_for_all(dir, opt->ranks, steps, 16, &n, err)) != KF_OK)
		return rc;
	if (n == 0)
		return kf_fail(err, KF_ENOTFOUND, "%s has no checkpoint", dir);
	for (int i = n - 1; i >= 0; i--) {
		rc = kf_ranks_agree(opt->ranks, read_one(dir, steps[i], opt, state, err), err);
		if (rc == KF_OK)
			return kf_exchange_weights(opt, err);
		json_decref(*state);
		*state = NULL;
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
	char config[KF_PATH_MAX];

	/* first: a folder without it is no model to anybody */
	if (kf_path_join(config, dir, "config.json", NULL) == KF_OK)
		unlink(config);
	if (nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS) != 0 && errno != ENOENT)
		return kf_fail_errno(err, "cannot remove %s", dir);
	return KF_OK;
}
