#include "common/model/weights.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/behind.h"
#include "common/base/file.h"
#include "common/base/lock.h"
#include "common/base/mem.h"
#include "common/text/chat.h"

/* A Hugging Face folder, written under the name "<dir>.partial" and renamed when
 * everything in it is on disk; "<dir>.partial.lock" is locked meanwhile. A tensor is converted and written behind the caller's back, in pieces, while the
 * next is fetched, where both have room in the memory that the largest needs, and an eighth: memory is one tensor in float32. */

#define DEFAULT_SHARD 5000000000u   /* bytes, as transformers cuts by default */
#define PIECE 65536                 /* elements converted at a time */
#define PARTIAL ".partial"
#define LOCK ".lock"                /* behind PARTIAL */
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

/* ---- small files ---- */

static kf_status write_json(const struct writer *w, const char *name, json_t *v, kf_err *err)
{
	char path[KF_PATH_MAX];
	char *text = v ? json_dumps(v, JSON_INDENT(2) | JSON_REAL_PRECISION(9)) : NULL;
	kf_buf b = { 0 };
	kf_status rc;

	json_decref(v);
	if (!text) return kf_fail(err, KF_ENOMEM, "%s: no memory for %s", w->dir, name);
	kf_buf_put(&b, text, strlen(text));
	kf_buf_put(&b, "\n", 1);
	free(text);
	rc = kf_buf_check(&b, err);
	if (rc == KF_OK) rc = kf_path_join(path, w->tmp, name, err);
	if (rc == KF_OK) rc = kf_file_write_atomic(path, b.data, b.len, err);
	kf_buf_release(&b);
	return rc;
}

static const char *torch_dtype(kf_dtype t)
{
	return t == KF_F32 ? "float32" : t == KF_F16 ? "float16" : "bfloat16";
}

/* Keys that the model's own configuration may have, and the one written may not: what kf_arch_to_config says in another
 * way, what is of another file format, and code that is not in this folder. */
static bool superseded(const char *key)
{
	static const char *const keys[] = { "dtype", "rope_parameters", "rope_scaling", "rope_theta", "rope_local_base_freq",
		"original_max_position_embeddings", "partial_rotary_factor", "sliding_window", "sliding_window_pattern",
		"_sliding_window_pattern", "use_sliding_window", "max_window_layers", "layer_types", "head_dim", "num_key_value_heads",
		"num_experts_per_tok", "num_local_experts", "quantization_config", "compression_config", "auto_map" };

	for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
		if (!strcmp(key, keys[i])) return true;
	return false;
}

/* What changes no number: here the model's own word stands. */
static bool own_word(const char *key)
{
	static const char *const keys[] = { "bos_token_id", "eos_token_id", "use_cache", "attention_dropout", "pretraining_tp",
		"output_router_logits" };

	for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
		if (!strcmp(key, keys[i])) return true;
	return false;
}

/* config.json: the architecture, and beside it what the folder that the model comes from says and we do not know. */
static json_t *config_of(const struct writer *w)
{
	json_t *c = kf_arch_to_config(w->arch, torch_dtype(w->dtype)), *v;
	const json_t *own = w->spec->like ? kf_weights_config(w->spec->like) : NULL, *text = json_object_get(own, "text_config");
	const char *key;

	if (json_is_object(text)) own = text;
	json_object_foreach((json_t *)(uintptr_t)own, key, v) {
		json_t *ours = json_object_get(c, key);

		if (superseded(key)) continue;
		if (json_is_object(ours) && json_is_object(v)) json_object_update_missing(ours, v); /* MPT's attn_config */
		if (ours && !own_word(key)) continue;
		if (c && json_object_set(c, key, v) < 0) {
			json_decref(c);
			return NULL;
		}
	}
	return c;
}

/* A list of the token ids in v, which is one, a list or nothing, and of end. *had: v has it already. */
static json_t *with_end(const json_t *v, int32_t end, bool *had)
{
	const size_t n = json_is_array(v) ? json_array_size(v) : json_is_integer(v);
	json_t *list = json_array();
	bool ok = list != NULL;

	*had = false;
	for (size_t i = 0; i < n && ok; i++) {
		const json_t *id = json_is_array(v) ? json_array_get(v, i) : v;

		*had = *had || (json_is_integer(id) && json_integer_value(id) == end);
		ok = json_array_append(list, (json_t *)(uintptr_t)id) == 0;
	}
	if (ok && json_array_append_new(list, json_integer(end)) == 0) return list;
	json_decref(list);
	return NULL;
}

/* Give g, of a model without a generation_config.json, its eos_token_id: what its config.json has; of a GGUF file, which names one
 * token, with those that end a text by their names. */
static bool put_ends(const struct writer *w, json_t *g)
{
	const kf_weights *like = w->spec->like;
	const json_t *ids = like ? kf_weights_ends(like) : NULL;
	const kf_tokenizer *t = like && !kf_weights_config(like) ? w->spec->tokenizer : NULL;
	const int32_t eos = t && w->arch->eos < 0 ? kf_tokenizer_eos(t) : w->arch->eos;
	int32_t named[KF_NAMED_ENDS];
	const int n = t ? kf_tokenizer_named_ends(t, named) : 0;
	json_t *list;
	bool ok;

	if (ids) return json_object_set(g, "eos_token_id", (json_t *)(uintptr_t)ids) == 0;
	ok = (list = json_array()) != NULL;
	if (ok && eos >= 0) ok = json_array_append_new(list, json_integer(eos)) == 0;
	for (int i = 0; i < n && ok; i++)
		if (named[i] != eos) ok = json_array_append_new(list, json_integer(named[i])) == 0;
	if (ok && json_array_size(list)) ok = json_object_set(g, "eos_token_id", json_array_size(list) > 1 ? list : json_array_get(list, 0)) == 0;
	if (ok && json_array_size(list) > 1) json_object_del(g, "_from_model_config"); /* of which it says more */
	json_decref(list);
	return ok;
}

/* The model's own, or of its config.json; end, unless it is -1, ends generation, too: a list of ids then, as transformers takes it. */
static json_t *generation_of(const struct writer *w, const json_t *config, int32_t end)
{
	const json_t *own = w->spec->like ? kf_weights_generation(w->spec->like) : NULL, *ids;
	json_t *g = json_is_object(own) ? json_copy((json_t *)(uintptr_t)own) : json_pack("{s:b}", "_from_model_config", 1), *list;
	bool had;

	if (!g) return NULL;
	if (!json_is_object(own) && w->arch->bos >= 0) json_object_set_new(g, "bos_token_id", json_integer(w->arch->bos));
	if (!json_is_object(own) && !put_ends(w, g)) {
		json_decref(g);
		return NULL;
	}
	if (end < 0) return g;
	if (!(ids = json_object_get(g, "eos_token_id"))) ids = json_object_get(config, "eos_token_id");
	list = with_end(ids, end, &had);
	if (list && had) {
		json_decref(list);
		return g;
	}
	json_object_del(g, "_from_model_config"); /* of which it says more */
	if (json_object_set_new(g, "eos_token_id", list) == 0) return g;
	json_decref(g);
	return NULL;
}

static kf_status write_configs(const struct writer *w, kf_err *err)
{
	json_t *config = config_of(w);
	int32_t end = -1;
	kf_status rc = w->spec->tokenizer ? kf_chat_other_end(w->spec->tokenizer, &end, err) : KF_OK;

	if (rc == KF_OK) rc = write_json(w, "generation_config.json", generation_of(w, config, end), err);
	if (rc == KF_OK) return write_json(w, "config.json", config, err);
	json_decref(config);
	return rc;
}

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
	return write_json(w, "model.safetensors.index.json", index, err);
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

/* Empty a folder that is half-written, or is to be replaced. First goes what makes it a model, last what says whose it is. One with anything else in
 * it is left alone and reported. */
static kf_status clear(const char *dir, kf_err *err)
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

/* Lock the temporary folder, so that two programs do not write into each other's files, and make it. */
static kf_status take_partial(struct writer *w, kf_err *err)
{
	char path[KF_PATH_MAX + sizeof LOCK];
	kf_status rc = kf_mkdirs(w->parent, err);

	snprintf(path, sizeof path, "%s" LOCK, w->tmp);
	if (rc != KF_OK || (rc = kf_lock_take(&w->lock, path, false, false, w->dir, err)) != KF_OK) return rc;
	return kf_mkdirs(w->tmp, err);
}

/* dir without slashes at its end, with room for PARTIAL LOCK, and the folder that it is in. */
static kf_status split(const char *dir, char name[KF_PATH_MAX], char parent[KF_PATH_MAX], kf_err *err)
{
	size_t len = strlen(dir);
	const char *last;

	while (len > 1 && dir[len - 1] == '/') len--;
	if (len + sizeof PARTIAL LOCK > KF_PATH_MAX) return kf_fail(err, KF_EINVAL, "path too long: %s", dir);
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
	kf_status rc = split(dir, name, parent, err);

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

static kf_status publish(const struct writer *w, kf_err *err)
{
	kf_status rc;

	if ((rc = kf_sync_dir(w->tmp, err)) != KF_OK || (w->spec->replace && kf_is_dir(w->dir) && (rc = clear(w->dir, err)) != KF_OK)) return rc;
	if (rename(w->tmp, w->dir) < 0) return kf_fail_errno(err, "cannot rename %s to %s", w->tmp, w->dir);
	return kf_sync_dir(w->parent, err);
}

static kf_status write_folder(struct writer *w, kf_err *err)
{
	kf_status rc;

	if ((rc = write_tensors(w, err)) != KF_OK) return rc;
	if (w->spec->tokenizer && (rc = kf_tokenizer_write_hf(w->spec->tokenizer, w->tmp, err)) != KF_OK) return rc;
	if (w->spec->more && (rc = w->spec->more(w->spec->arg, w->tmp, err)) != KF_OK) return rc;
	if ((rc = write_configs(w, err)) != KF_OK) return rc;
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
	if ((rc = split(dir, w.tmp, w.parent, err)) != KF_OK) return rc;
	strcat(w.tmp, PARTIAL);
	if ((rc = check_tensors(&w, err)) != KF_OK) goto out;
	if ((rc = plan_shards(&w, spec->shard_bytes ? spec->shard_bytes : DEFAULT_SHARD, err)) != KF_OK) goto out;
	if ((rc = kf_hf_may_write(dir, spec->replace, err)) != KF_OK) goto out;
	if ((rc = take_partial(&w, err)) != KF_OK) goto out;
	if ((rc = clear(w.tmp, err)) != KF_OK) goto out;
	/* again, now that nobody else writes it */
	if ((rc = kf_hf_may_write(dir, spec->replace, err)) == KF_OK) rc = write_folder(&w, err);
	/* the first error is the one to tell */
	if (rc != KF_OK && clear(w.tmp, &ignored) == KF_OK) rmdir(w.tmp);
out:
	kf_lock_drop(&w.lock);
	kf_free(w.shard);
	return rc;
}
