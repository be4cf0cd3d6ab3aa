#include "common/model/hf_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/behind.h"
#include "common/base/lock.h"
#include "common/base/mem.h"

/* A Hugging Face folder, written under the name "<dir>.partial" and renamed when
 * everything in it is on disk; "<dir>.partial.lock" is locked meanwhile. A tensor is converted and written behind the caller's back, in pieces, while the
 * next is fetched, where both have room in the memory that the largest needs, and an eighth: memory is one tensor in float32. */

#define DEFAULT_SHARD 5000000000u   /* bytes, as transformers cuts by default */
#define PIECE 65536                 /* elements converted at a time */
#define MAX_SHARDS 99999            /* five digits in the name */

struct writer {
	const char *dir;
	char tmp[KF_PATH_MAX], parent[KF_PATH_MAX];
	kf_lock lock;               /* beside tmp, while it is written */
	const kf_hf_spec *spec;
	const kf_arch *arch;        /* the spec's */
	const kf_out_tensor *t;     /* (n) the spec's */
	int n;
	kf_dtype dtype;
	size_t width;               /* bytes an element */
	int *shard;                 /* (n) which file a tensor goes to */
	int n_shards;
	uint64_t total;             /* bytes of all tensors */
};

/* ---- tensors ---- */

static void shard_name(const struct writer *w, int shard, char out[64])
{
	if (w->n_shards == 1) snprintf(out, 64, "model.safetensors");
	else snprintf(out, 64, "model-%05d-of-%05d.safetensors", shard + 1, w->n_shards);
}

static uint64_t tensor_bytes(const struct writer *w, int i) { return w->t[i].rows * w->t[i].cols * w->width; }

/* The header of one file, padded with spaces to a multiple of 8 bytes as the format asks. */
static kf_status header_text(const struct writer *w, int shard, char **out, size_t *n, kf_err *err)
{
	json_t *h = json_pack("{s:{s:s}}", "__metadata__", "format", "pt");
	uint64_t at = 0;
	char *text = NULL, *padded;
	bool ok = h != NULL;

	for (int i = 0; i < w->n && ok; i++) {
		const kf_out_tensor *t = &w->t[i];
		json_t *e;
		if (w->shard[i] != shard) continue;
		e = json_pack("{s:s, s:[I], s:[I, I]}", "dtype", kf_dtype_name(w->dtype), "shape",
			(json_int_t)(t->n_dims == 1 ? t->cols : t->rows),
			"data_offsets", (json_int_t)at, (json_int_t)(at + tensor_bytes(w, i)));
		ok = e &&
			(t->n_dims == 1 ||
				json_array_append_new(json_object_get(e, "shape"), json_integer((json_int_t)t->cols)) == 0);
		ok = json_object_set_new(h, t->name, e) == 0 && ok;
		at += tensor_bytes(w, i);
	}
	if (ok) text = json_dumps(h, JSON_COMPACT);
	json_decref(h);
	*n = text ? (strlen(text) + 7) / 8 * 8 : 0;
	padded = text ? kf_alloc(*n + 1, 1) : NULL;
	if (padded) {
		memset(padded, ' ', *n);
		memcpy(padded, text, strlen(text));
	}
	free(text);
	*out = padded;
	return padded ? KF_OK : kf_fail(err, KF_ENOMEM, "%s: no memory for a header", w->dir);
}

static kf_status put(int fd, const char *path, const void *data, size_t n, kf_err *err)
{
	const char *p = data;

	while (n) {
		ssize_t k = write(fd, p, n < (1u << 30) ? n : 1u << 30);
		if (k < 0 && errno == EINTR) continue;
		if (k < 0) return kf_fail_errno(err, "cannot write %s", path);
		p += k;
		n -= (size_t)k;
	}
	return KF_OK;
}

/* Gemma's norms lose their 1; others pass. */
static bool loses_one(const struct writer *w, const char *name)
{
	size_t n = strlen(name);

	return !w->spec->stored && w->arch->norm_plus_one && n >= 11 && !strcmp(name + n - 11, "norm.weight");
}

/* Where tensors are fetched to, and what writes them. */
struct desk {
	float *values;              /* (room) */
	size_t room;
	uint16_t *piece;            /* (PIECE) */
	kf_behind *behind;
};

/* A tensor on its way into a file. */
struct parcel {
	const struct writer *w;
	const kf_out_tensor *t;
	float *values;              /* of it, in the desk's */
	uint16_t *piece;
	const char *path;
	int fd;
};

static kf_status put_tensor(void *arg, kf_err *err)
{
	const struct parcel *p = arg;
	size_t n = (size_t)(p->t->rows * p->t->cols);
	kf_status rc;

	if (loses_one(p->w, p->t->name))
		for (size_t i = 0; i < n; i++) p->values[i] -= 1;
	for (size_t at = 0; at < n; at += PIECE) {
		size_t k = n - at < PIECE ? n - at : PIECE;
		const void *bytes = p->piece;

		if (p->w->dtype == KF_F32) bytes = p->values + at;
		else if (p->w->dtype == KF_F16) for (size_t i = 0; i < k; i++) p->piece[i] = kf_f32_to_f16(p->values[at + i]);
		else kf_round_bf16(p->values + at, p->piece, k);
		if ((rc = put(p->fd, p->path, bytes, k * p->w->width, err)) != KF_OK) return rc;
	}
	return KF_OK;
}

/* Fetch the file's tensors and give them to be written, one behind the other. */
static kf_status send_tensors(const struct writer *w, int shard, const struct desk *d, int fd, const char *path, kf_err *err)
{
	struct parcel parcel[2];
	size_t from = 0, to = 0;    /* elements of the desk that are being written */
	kf_status rc = KF_OK, last;
	int turn = 0;
	kf_err later;

	for (int i = 0; i < w->n && rc == KF_OK; i++) {
		const kf_out_tensor *t = &w->t[i];
		size_t n = (size_t)(t->rows * t->cols), at = n <= d->room - to ? to : 0;

		if (w->shard[i] != shard) continue;
		if (at == 0 && n > from && (rc = kf_behind_wait(d->behind, err)) != KF_OK) break;
		if ((rc = t->get(t->arg, i, d->values + at, err)) != KF_OK) break;
		parcel[turn] = (struct parcel){ w, t, d->values + at, d->piece, path, fd };
		rc = kf_behind_do(d->behind, put_tensor, &parcel[turn], err);
		turn = !turn;
		from = at;
		to = at + n;
	}
	/* the first error is the one to tell */
	last = kf_behind_wait(d->behind, rc == KF_OK ? err : &later);
	return rc == KF_OK ? last : rc;
}

static kf_status write_shard(const struct writer *w, int shard, const struct desk *d, kf_err *err)
{
	char name[64], path[KF_PATH_MAX], *header = NULL;
	uint8_t length[8];
	size_t n;
	int fd = -1;
	kf_status rc;

	shard_name(w, shard, name);
	if ((rc = kf_path_join(path, w->tmp, name, err)) != KF_OK) return rc;
	if ((rc = header_text(w, shard, &header, &n, err)) != KF_OK) return rc;
	for (int i = 0; i < 8; i++) length[i] = (uint8_t)((uint64_t)n >> (8 * i));
	if ((fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666)) < 0) {
		rc = kf_fail_errno(err, "cannot create %s", path);
		goto out;
	}
	if ((rc = put(fd, path, length, 8, err)) != KF_OK || (rc = put(fd, path, header, n, err)) != KF_OK)
		goto out;
	if ((rc = send_tensors(w, shard, d, fd, path, err)) != KF_OK) goto out;
	if (fsync(fd) < 0) rc = kf_fail_errno(err, "cannot sync %s", path);
out:
	if (fd >= 0 && close(fd) < 0 && rc == KF_OK) rc = kf_fail_errno(err, "cannot write %s", path);
	kf_free(header);
	return rc;
}

static kf_status write_index(const struct writer *w, kf_err *err)
{
	json_t *map = json_object(), *index;
	char name[64];
	bool ok = map != NULL;

	for (int i = 0; i < w->n && ok; i++) {
		shard_name(w, w->shard[i], name);
		ok = json_object_set_new(map, w->t[i].name, json_string(name)) == 0;
	}
	index = ok
		? json_pack("{s:{s:I}, s:O}", "metadata", "total_size", (json_int_t)w->total, "weight_map", map)
		: NULL;
	json_decref(map);
	return kf_hf_write_json(w->tmp, "model.safetensors.index.json", index, err);
}

static kf_status write_tensors(struct writer *w, kf_err *err)
{
	struct desk d = { .room = 1 };
	kf_status rc;

	for (int i = 0; i < w->n; i++)
		if (w->t[i].rows * w->t[i].cols > d.room) d.room = (size_t)(w->t[i].rows * w->t[i].cols);
	/* an eighth more, so that what comes after the largest need not wait for it */
	d.room += d.room / 8;
	d.values = kf_alloc(d.room, sizeof *d.values);
	d.piece = kf_alloc(PIECE, sizeof *d.piece);
	if (d.values && d.piece) rc = kf_behind_new(&d.behind, err);
	else rc = kf_fail(err, KF_ENOMEM, "%s: no memory for a tensor of %zu elements", w->dir, d.room);
	for (int s = 0; s < w->n_shards && rc == KF_OK; s++) rc = write_shard(w, s, &d, err);
	if (rc == KF_OK && w->n_shards > 1) rc = write_index(w, err);
	kf_behind_free(d.behind);
	kf_free(d.values);
	kf_free(d.piece);
	return rc;
}

/* ---- the plan ---- */

/* The tensors given are the architecture's, in any order, each once and of its shape. */
static kf_status check_tensors(const struct writer *w, kf_err *err)
{
	char name[128];
	uint64_t rows, cols;
	int n = kf_arch_tensor(w->arch, -1, name, &rows, &cols);

	if (n != w->n) return kf_fail(err, KF_EINVAL, "%s: given %d tensors for a model of %d", w->dir, w->n, n);
	for (int i = 0; i < n; i++) {
		int at = 0;
		kf_arch_tensor(w->arch, i, name, &rows, &cols);
		if (!strcmp(w->t[i].name, name)) at = i; /* the usual order */
		else while (at < n && strcmp(w->t[at].name, name) != 0) at++;
		if (at == n) return kf_fail(err, KF_EINVAL, "%s: not given tensor %s", w->dir, name);
		if (w->t[at].rows != rows || w->t[at].cols != cols || w->t[at].n_dims != (rows == 1 ? 1 : 2))
			return kf_fail(err, KF_EINVAL,
				"%s: tensor %s is given as %" PRIu64 " x %" PRIu64 ", not %" PRIu64 " x %" PRIu64, w->dir,
				name, w->t[at].rows, w->t[at].cols, rows, cols);
	}
	return KF_OK;
}

/* Fill files in order; a tensor larger than a shard has one to itself. */
static kf_status plan_shards(struct writer *w, uint64_t limit, kf_err *err)
{
	uint64_t used = 0;

	if (!(w->shard = kf_alloc((size_t)w->n, sizeof *w->shard)))
		return kf_fail(err, KF_ENOMEM, "%s: no memory", w->dir);
	w->n_shards = 1;
	for (int i = 0; i < w->n; i++) {
		uint64_t bytes = tensor_bytes(w, i);
		if (used && bytes > limit - used) {
			w->n_shards++;
			used = 0;
		}
		used = used + bytes < limit ? used + bytes : limit;
		w->shard[i] = w->n_shards - 1;
		w->total += bytes;
	}
	if (w->n_shards > MAX_SHARDS)
		return kf_fail(err, KF_EINVAL, "%s: shards of %" PRIu64 " bytes would make %d files", w->dir, limit,
			w->n_shards);
	return KF_OK;
}

/* ---- the folder ---- */

/* Lock the temporary folder, so that two programs do not write into each other's files, and make it. */
static kf_status take_partial(struct writer *w, kf_err *err)
{
	char path[KF_PATH_MAX + sizeof KF_HF_LOCK];
	kf_status rc = kf_mkdirs(w->parent, err);

	snprintf(path, sizeof path, "%s" KF_HF_LOCK, w->tmp);
	if (rc != KF_OK || (rc = kf_lock_take(&w->lock, path, false, false, w->dir, err)) != KF_OK) return rc;
	return kf_mkdirs(w->tmp, err);
}

static kf_status publish(const struct writer *w, kf_err *err)
{
	kf_status rc;

	if ((rc = kf_sync_dir(w->tmp, err)) != KF_OK || (w->spec->replace && kf_is_dir(w->dir) && (rc = kf_hf_clear(w->dir, err)) != KF_OK)) return rc;
	if (rename(w->tmp, w->dir) < 0) return kf_fail_errno(err, "cannot rename %s to %s", w->tmp, w->dir);
	return kf_sync_dir(w->parent, err);
}

static kf_status write_folder(struct writer *w, kf_err *err)
{
	kf_status rc;

	if ((rc = write_tensors(w, err)) != KF_OK) return rc;
	if (w->spec->tokenizer && (rc = kf_tokenizer_write_hf(w->spec->tokenizer, w->tmp, err)) != KF_OK) return rc;
	if (w->spec->more && (rc = w->spec->more(w->spec->arg, w->tmp, err)) != KF_OK) return rc;
	if ((rc = kf_hf_write_configs(w->spec, w->tmp, err)) != KF_OK) return rc;
	return publish(w, err);
}

kf_status kf_hf_write(const char *dir, const kf_hf_spec *spec, kf_err *err)
{
	struct writer w = { .dir = dir, .lock = KF_LOCK_NONE, .spec = spec, .arch = spec->arch, .t = spec->tensors, .n = spec->n,
		.dtype = spec->dtype };
	kf_err ignored;
	kf_status rc;

	if (w.dtype != KF_F32 && w.dtype != KF_F16 && w.dtype != KF_BF16)
		return kf_fail(
			err, KF_EINVAL, "%s: models are written as F32, F16 or BF16, not %s", dir, kf_dtype_name(w.dtype));
	w.width = kf_dtype_row_bytes(w.dtype, 1);
	if ((rc = kf_hf_split(dir, w.tmp, w.parent, err)) != KF_OK) return rc;
	strcat(w.tmp, KF_HF_PARTIAL);
	if ((rc = check_tensors(&w, err)) != KF_OK) goto out;
	if ((rc = plan_shards(&w, spec->shard_bytes ? spec->shard_bytes : DEFAULT_SHARD, err)) != KF_OK) goto out;
	if ((rc = kf_hf_may_write(dir, spec->replace, err)) != KF_OK) goto out;
	if ((rc = take_partial(&w, err)) != KF_OK) goto out;
	if ((rc = kf_hf_clear(w.tmp, err)) != KF_OK) goto out;
	/* again, now that nobody else writes it */
	if ((rc = kf_hf_may_write(dir, spec->replace, err)) == KF_OK) rc = write_folder(&w, err);
	/* the first error is the one to tell */
	if (rc != KF_OK && kf_hf_clear(w.tmp, &ignored) == KF_OK) rmdir(w.tmp);
out:
	kf_lock_drop(&w.lock);
	kf_free(w.shard);
	return rc;
}
