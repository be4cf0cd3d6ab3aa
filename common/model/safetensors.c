#include "common/model/safetensors.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/file.h"
#include "common/base/listing.h"
#include "common/base/mem.h"
#include "common/model/pickle.h"
#include "common/model/zip.h"

#define MAX_PICKLE (8u << 20)    /* bytes: thousands of tensors take some 150 each */
#define MAX_HEADER (100u << 20)  /* bytes; the reference implementation's limit */
#define MAX_INDEX (64u << 20)
#define MAX_FILES 4096
#define MAX_TENSORS 1000000

struct file { char *path; kf_map map; bool borrowed; };

struct kf_safetensors {
	struct file *file;
	int n_files;
	kf_st_tensor *tensor;
	int n, cap;
	kf_arena arena;            /* names */
};

int kf_safetensors_count(const kf_safetensors *s) { return s->n; }
const kf_st_tensor *kf_safetensors_at(const kf_safetensors *s, int i) { return &s->tensor[i]; }
const char *kf_safetensors_path(const kf_safetensors *s, int file) { return s->file[file].path; }

static kf_status no_memory(const char *path, kf_err *err)
{
	return kf_fail(err, KF_ENOMEM, "%s: no memory for its table of tensors", path);
}

/* ---- one tensor of the header ---- */

static const struct { const char *name; int bytes, dtype; } dtypes[] = {
	{ "F32", 4, KF_F32 }, { "F16", 2, KF_F16 }, { "BF16", 2, KF_BF16 },
	/* sizes known, so that ranges can be checked; not read */
	{ "F64", 8, -1 }, { "I64", 8, -1 }, { "U64", 8, -1 }, { "I32", 4, -1 }, { "U32", 4, -1 }, { "I16", 2, -1 },
	{ "U16", 2, -1 }, { "I8", 1, -1 }, { "U8", 1, -1 }, { "BOOL", 1, -1 }, { "F8_E4M3", 1, -1 }, { "F8_E5M2", 1, -1 },
};

static bool whole_number(const json_t *v, uint64_t *out)
{
	if (!json_is_integer(v) || json_integer_value(v) < 0) return false;
	*out = (uint64_t)json_integer_value(v);
	return true;
}

static kf_status add_tensor(kf_safetensors *s, int file, const char *name, const json_t *v,
	const uint8_t *data, size_t size, kf_err *err)
{
	const char *path = s->file[file].path, *dtype = json_string_value(json_object_get(v, "dtype"));
	const json_t *shape = json_object_get(v, "shape"), *range = json_object_get(v, "data_offsets");
	kf_st_tensor *t = &s->tensor[s->n];
	uint64_t elements = 1, begin, end, dim[2] = { 1, 1 }, bytes;
	int width = 0;

	if (!dtype || !json_is_array(shape) || json_array_size(range) != 2 ||
		!whole_number(json_array_get(range, 0), &begin) || !whole_number(json_array_get(range, 1), &end))
		return kf_fail(err, KF_EDATA,
			"%s: the header's entry for tensor %s lacks a dtype, shape or data_offsets", path, name);
	if (begin > end || end > size)
		return kf_fail(err, KF_EDATA,
			"%s: tensor %s lies at bytes %" PRIu64 " to %" PRIu64 " of the data, which has %zu; the "
			"file is damaged or incomplete",
			path, name, begin, end, size);
	*t = (kf_st_tensor){ .file = file, .n_dims = (int)json_array_size(shape) };
	for (size_t i = 0; i < json_array_size(shape); i++) {
		uint64_t d;
		if (!whole_number(json_array_get(shape, i), &d) || __builtin_mul_overflow(elements, d, &elements))
			return kf_fail(err, KF_EDATA, "%s: tensor %s has a shape that makes no sense", path, name);
		if (i < 2) dim[i] = d;
	}
	for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++) {
		if (strcmp(dtype, dtypes[i].name) != 0) continue;
		width = dtypes[i].bytes;
		t->readable = dtypes[i].dtype >= 0;
		if (t->readable) t->t.dtype = (kf_dtype)dtypes[i].dtype;
		if (__builtin_mul_overflow(elements, (uint64_t)width, &bytes) || bytes != end - begin)
			return kf_fail(err, KF_EDATA,
				"%s: tensor %s has %" PRIu64 " bytes of data, not what its shape and dtype %s need", path,
				name, end - begin, dtype);
	}
	t->readable = t->readable && (t->n_dims == 1 || t->n_dims == 2) && elements > 0;
	t->t.n_dims = t->n_dims == 1 ? 1 : 2;
	t->t.rows = t->n_dims == 1 ? 1 : dim[0];
	t->t.cols = t->n_dims == 1 ? dim[0] : dim[1];
	t->t.data = data + begin;
	t->t.name = kf_arena_strdup(&s->arena, name, strlen(name));
	t->dtype = kf_arena_strdup(&s->arena, dtype, strlen(dtype));
	if (!t->t.name || !t->dtype) return no_memory(path, err);
	s->n++;
	return KF_OK;
}

/* ---- one file ---- */

struct span { uint64_t begin, end; const char *name; };

static int by_begin(const void *a, const void *b)
{
	const struct span *x = a, *y = b;
	return x->begin != y->begin ? (x->begin < y->begin ? -1 : 1) : (x->end > y->end) - (x->end < y->end);
}

/* No two tensors of the file (from number `first`) share bytes. */
static kf_status check_overlap(const kf_safetensors *s, int first, const json_t *header, kf_err *err)
{
	const char *path = s->file[s->n_files - 1].path;
	size_t n = (size_t)(s->n - first), k = 0;
	struct span *span = kf_alloc(n, sizeof *span);
	kf_status rc = KF_OK;

	if (!span) return no_memory(path, err);
	for (int i = first; i < s->n; i++) {
		const json_t *r = json_object_get(json_object_get(header, s->tensor[i].t.name), "data_offsets");
		span[k++] = (struct span){ (uint64_t)json_integer_value(json_array_get(r, 0)),
			(uint64_t)json_integer_value(json_array_get(r, 1)), s->tensor[i].t.name };
	}
	qsort(span, n, sizeof *span, by_begin);
	for (size_t i = 1; i < n && rc == KF_OK; i++)
		if (span[i].begin < span[i - 1].end)
			rc = kf_fail(err, KF_EDATA, "%s: the data of tensors %s and %s overlap; the file is damaged",
				path, span[i - 1].name, span[i].name);
	kf_free(span);
	return rc;
}

static kf_status make_room(kf_safetensors *s, size_t more, const char *path, kf_err *err)
{
	size_t cap = (size_t)s->n + more;
	kf_st_tensor *grown;

	if (cap > MAX_TENSORS) return kf_fail(err, KF_EDATA, "%s: names more than %d tensors", path, MAX_TENSORS);
	if (cap <= (size_t)s->cap) return KF_OK;
	if (!(grown = kf_alloc(cap, sizeof *grown))) return no_memory(path, err);
	if (s->n) memcpy(grown, s->tensor, (size_t)s->n * sizeof *grown);
	kf_free(s->tensor);
	s->tensor = grown;
	s->cap = (int)cap;
	return KF_OK;
}

static kf_status map_file(kf_safetensors *s, const char *path, const void *data, size_t size, kf_err *err)
{
	struct file *f = &s->file[s->n_files];

	if (!(f->path = kf_strdup(path))) return no_memory(path, err);
	s->n_files++;
	f->borrowed = data != NULL;
	if (!data) return kf_map_open(&f->map, path, err);
	f->map = (kf_map){ data, size };
	return KF_OK;
}

/* ---- one file of PyTorch's ---- */

static kf_status add_pickled(kf_safetensors *s, const char *path, const kf_pickle_tensor *p, const char *top,
	const kf_zip_member *members, size_t n, kf_err *err)
{
	kf_st_tensor *t = &s->tensor[s->n];
	char name[512];
	const kf_zip_member *m;
	uint64_t bytes = 0, begin = 0;

	*t = (kf_st_tensor){ .file = s->n_files - 1, .n_dims = p->n_dims, .dtype = p->dtype };
	snprintf(name, sizeof name, "%sdata/%.*s", top, (int)(p->storage.len < 200 ? p->storage.len : 200), p->storage.s);
	m = kf_zip_find(members, n, name);
	for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++) {
		if (strcmp(p->dtype, dtypes[i].name) != 0) continue;
		t->readable = dtypes[i].dtype >= 0 && (p->n_dims == 1 || p->n_dims == 2) && p->elements > 0;
		if (dtypes[i].dtype >= 0) t->t.dtype = (kf_dtype)dtypes[i].dtype;
		if (!m || __builtin_mul_overflow(p->elements, (uint64_t)dtypes[i].bytes, &bytes) ||
			__builtin_mul_overflow(p->offset, (uint64_t)dtypes[i].bytes, &begin) || begin > m->size || bytes > m->size - begin)
			return kf_fail(err, KF_EDATA, "%s: tensor %.*s is not all there: its storage %s is missing or too short", path,
				(int)(p->name.len < 200 ? p->name.len : 200), p->name.s, name);
	}
	t->t.n_dims = p->n_dims == 1 ? 1 : 2;
	t->t.rows = p->n_dims == 1 ? 1 : p->dim[0];
	t->t.cols = p->n_dims == 1 ? p->dim[0] : p->n_dims > 1 ? p->dim[1] : 1;
	t->t.data = m ? m->data + begin : NULL;
	t->t.name = kf_arena_strdup(&s->arena, p->name.s, p->name.len);
	if (!t->t.name) return no_memory(path, err);
	s->n++;
	return KF_OK;
}

/* A zip archive of TOP/data.pkl, which says what the tensors are, and TOP/data/0 ..., their numbers. Tensors that
 * share their numbers, as tied weights do, are welcome. */
static kf_status add_torch(kf_safetensors *s, const char *path, const void *data, size_t size, kf_err *err)
{
	static const uint8_t old[] = { 0x80, 2, 0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20 };
	const kf_zip_member *members, *m = NULL, *order;
	const kf_pickle_tensor *list;
	const kf_map *map = &s->file[s->n_files].map;
	char top[256] = "", name[300];
	size_t n, count;
	kf_status rc;

	if ((rc = map_file(s, path, data, size, err)) != KF_OK) return rc;
	if (map->size >= sizeof old && !memcmp(map->data, old, sizeof old))
		return kf_fail(err, KF_EUNSUPPORTED,
			"%s: is in PyTorch's format of before version 1.6; load it with torch and save it again", path);
	if ((rc = kf_zip_members(map->data, map->size, path, &s->arena, &members, &n, err)) != KF_OK) return rc;
	for (size_t i = 0; i < n && !m; i++) {
		size_t len = strlen(members[i].name);
		if (len < 9 || len > sizeof top || strcmp(members[i].name + len - 9, "/data.pkl") != 0) continue;
		m = &members[i];
		snprintf(top, sizeof top, "%.*s", (int)(len - 8), m->name);
	}
	if (!m || m->size > MAX_PICKLE)
		return kf_fail(err, KF_EDATA, "%s: is no file of PyTorch's: its zip archive has no data.pkl of at most %u bytes", path,
			MAX_PICKLE);
	snprintf(name, sizeof name, "%sbyteorder", top);
	order = kf_zip_find(members, n, name);
	if (order && (order->size != 6 || memcmp(order->data, "little", 6) != 0))
		return kf_fail(err, KF_EUNSUPPORTED, "%s: its numbers are not in little-endian order", path);
	if ((rc = kf_pickle_tensors(m->data, (size_t)m->size, path, &s->arena, &list, &count, err)) != KF_OK) return rc;
	if ((rc = make_room(s, count, path, err)) != KF_OK) return rc;
	for (size_t i = 0; i < count && rc == KF_OK; i++) rc = add_pickled(s, path, &list[i], top, members, n, err);
	return rc;
}

static bool is_torch(const char *path)
{
	size_t n = strlen(path);

	return n > 4 && !strcmp(path + n - 4, ".bin");
}

/* data: the file's bytes when they are in memory already, else NULL. */
static kf_status add_file(kf_safetensors *s, const char *path, const void *data, size_t size, kf_err *err)
{
	struct file *f = &s->file[s->n_files];
	int first = s->n;
	json_t *header = NULL;
	json_error_t je;
	const char *name;
	json_t *v;
	uint64_t n;
	kf_status rc;

	if (is_torch(path)) return add_torch(s, path, data, size, err);
	if ((rc = map_file(s, path, data, size, err)) != KF_OK) return rc;
	kf_cur c = kf_cur_of(f->map.data, f->map.size);
	n = kf_cur_u64(&c);
	if (c.bad || n > MAX_HEADER || n > kf_cur_left(&c))
		return kf_fail(err, KF_EDATA,
			"%s is no safetensors file, or not all of it: %zu bytes cannot begin with a header of "
			"%" PRIu64,
			path, f->map.size, n);
	header = json_loadb((const char *)c.p, (size_t)n, JSON_REJECT_DUPLICATES, &je);
	if (!header)
		return kf_fail(
			err, KF_EDATA, "%s: its header is no good JSON: %s (at byte %d)", path, je.text, je.position);
	if (!json_is_object(header)) {
		rc = kf_fail(err, KF_EDATA, "%s: its header is no JSON object", path);
		goto out;
	}
	if ((rc = make_room(s, json_object_size(header), path, err)) != KF_OK) goto out;
	json_object_foreach(header, name, v) {
		if (!strcmp(name, "__metadata__")) continue;
		rc = add_tensor(s, s->n_files - 1, name, v, c.p + n, kf_cur_left(&c) - (size_t)n, err);
		if (rc != KF_OK) goto out;
	}
	rc = check_overlap(s, first, header, err);
out:
	json_decref(header);
	return rc;
}

/* ---- all files ---- */

static int by_name(const void *a, const void *b)
{
	return strcmp(((const kf_st_tensor *)a)->t.name, ((const kf_st_tensor *)b)->t.name);
}

static kf_status finish(kf_safetensors *s, kf_err *err)
{
	if (s->n) qsort(s->tensor, (size_t)s->n, sizeof *s->tensor, by_name);
	for (int i = 1; i < s->n; i++)
		if (!strcmp(s->tensor[i].t.name, s->tensor[i - 1].t.name))
			return kf_fail(err, KF_EDATA, "tensor %s is both in %s and in %s", s->tensor[i].t.name,
				s->file[s->tensor[i - 1].file].path, s->file[s->tensor[i].file].path);
	return KF_OK;
}

const kf_st_tensor *kf_safetensors_find(const kf_safetensors *s, const char *name)
{
	kf_st_tensor key = { .t = { .name = name } };

	return s->n ? bsearch(&key, s->tensor, (size_t)s->n, sizeof *s->tensor, by_name) : NULL;
}

static kf_status begin(int files, kf_safetensors **out, const char *path, kf_err *err)
{
	kf_safetensors *s = kf_zalloc(1, sizeof *s);

	if (!s || !(s->file = kf_zalloc((size_t)files, sizeof *s->file))) {
		kf_free(s);
		return no_memory(path, err);
	}
	kf_arena_init(&s->arena);
	*out = s;
	return KF_OK;
}

static kf_status end(kf_safetensors *s, kf_status rc, kf_safetensors **out, kf_err *err)
{
	if (rc == KF_OK) rc = finish(s, err);
	if (rc == KF_OK) *out = s;
	else kf_safetensors_close(s);
	return rc;
}

kf_status kf_safetensors_open(const char *path, kf_safetensors **out, kf_err *err)
{
	kf_safetensors *s = NULL;
	kf_status rc;

	*out = NULL;
	if ((rc = begin(1, &s, path, err)) != KF_OK) return rc;
	return end(s, add_file(s, path, NULL, 0, err), out, err);
}

kf_status kf_safetensors_open_memory(
	const void *data, size_t n, const char *name, kf_safetensors **out, kf_err *err)
{
	kf_safetensors *s = NULL;
	kf_status rc;

	*out = NULL;
	if ((rc = begin(1, &s, name, err)) != KF_OK) return rc;
	return end(s, add_file(s, name, data, n, err), out, err);
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The distinct files that an index names: plain names only, so that an index cannot point out of its folder. */
static kf_status index_files(const char *path, const json_t *map, const char **names, int *n, kf_err *err)
{
	const char *tensor;
	size_t all = 0;
	int distinct = 0;
	json_t *v;
	const char **list = kf_alloc(json_object_size(map), sizeof *list);
	kf_status rc = KF_OK;

	if (!list) return no_memory(path, err);
	json_object_foreach((json_t *)(uintptr_t)map, tensor, v) {
		const char *file = json_string_value(v);
		if (!file || !*file || strchr(file, '/') || !strcmp(file, "..") || strlen(file) > 255) {
			rc = kf_fail(err, KF_EDATA, "%s: tensor %s is not in a file of this folder", path, tensor);
			goto out;
		}
		list[all++] = file;
	}
	qsort(list, all, sizeof *list, by_text);
	for (size_t i = 0; i < all; i++) {
		if (i && !strcmp(list[i], list[i - 1])) continue;
		if (distinct == MAX_FILES) {
			rc = kf_fail(err, KF_EDATA, "%s: names more than %d files", path, MAX_FILES);
			goto out;
		}
		names[distinct++] = list[i];
	}
	*n = distinct;
out:
	kf_free(list);
	return rc;
}

static kf_status told(kf_listing *l, const char *path, const char *what, const char *thing, kf_err *err)
{
	kf_buf b = { 0 };
	kf_status rc = KF_OK;

	kf_listing_put(l, &b, what, thing);
	if (b.len || b.failed) {
		kf_buf_put(&b, "", 1);
		if ((rc = kf_buf_check(&b, err)) == KF_OK) rc = kf_fail(err, KF_EDATA, "%s: %s", path, (const char *)b.data);
	}
	kf_buf_release(&b);
	kf_listing_release(l);
	return rc;
}

/* Every tensor the index names is in the file it names. */
static kf_status check_index(const kf_safetensors *s, const char *path, const json_t *map, kf_err *err)
{
	kf_listing wrong = { 0 };
	const char *name;
	json_t *v;

	json_object_foreach((json_t *)(uintptr_t)map, name, v) {
		const kf_st_tensor *t = kf_safetensors_find(s, name);
		const char *base = t ? strrchr(s->file[t->file].path, '/') : NULL;
		if (!t || !base || strcmp(base + 1, json_string_value(v)) != 0)
			kf_listing_add(&wrong, "%s in %s", name, json_string_value(v));
	}
	return told(&wrong, path, "it names what is not there:", "tensor", err);
}

/* The files the index names are there. */
static kf_status check_files(const char *dir, const char *path, const char *const *names, int n, kf_err *err)
{
	kf_listing missing = { 0 };
	char file[KF_PATH_MAX];

	for (int i = 0; i < n; i++)
		if (kf_path_join(file, dir, names[i], err) != KF_OK || !kf_exists(file)) kf_listing_add(&missing, "%s", names[i]);
	return told(&missing, path, "it names what is not there:", "file", err);
}

static kf_status open_index(const char *dir, const char *path, kf_safetensors **out, kf_err *err)
{
	kf_buf text = { 0 };
	kf_safetensors *s = NULL;
	json_t *index = NULL, *map;
	json_error_t je;
	const char **names = NULL;
	int n = 0;
	char file[KF_PATH_MAX];
	kf_status rc;

	if ((rc = kf_file_read(path, MAX_INDEX, &text, err)) != KF_OK) goto out;
	if (!(index = json_loadb((const char *)text.data, text.len, JSON_REJECT_DUPLICATES, &je))) {
		rc = kf_fail(err, KF_EDATA, "%s is no good JSON: %s (line %d)", path, je.text, je.line);
		goto out;
	}
	map = json_object_get(index, "weight_map");
	if (!json_is_object(map) || !json_object_size(map)) {
		rc = kf_fail(err, KF_EDATA, "%s: lacks the object \"weight_map\"", path);
		goto out;
	}
	if (!(names = kf_alloc(MAX_FILES, sizeof *names))) {
		rc = no_memory(path, err);
		goto out;
	}
	if ((rc = index_files(path, map, names, &n, err)) != KF_OK || (rc = check_files(dir, path, names, n, err)) != KF_OK) goto out;
	if ((rc = begin(n, &s, path, err)) != KF_OK) goto out;
	for (int i = 0; i < n && rc == KF_OK; i++)
		if ((rc = kf_path_join(file, dir, names[i], err)) == KF_OK)
			rc = kf_context(err, add_file(s, file, NULL, 0, err), "%s names it", path);
	if (rc == KF_OK) rc = finish(s, err);
	if (rc == KF_OK) rc = check_index(s, path, map, err);
	if (rc == KF_OK) *out = s;
	else kf_safetensors_close(s);
out:
	json_decref(index);
	kf_free(names);
	kf_buf_release(&text);
	return rc;
}

kf_status kf_safetensors_open_dir(const char *dir, kf_safetensors **out, kf_err *err)
{
	/* transformers' order: an index may be left of what the folder held before */
	static const char *const files[] = { "model.safetensors", "model.safetensors.index.json",
		"pytorch_model.bin", "pytorch_model.bin.index.json" };
	char path[KF_PATH_MAX];
	kf_status rc;

	*out = NULL;
	for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
		if ((rc = kf_path_join(path, dir, files[i], err)) != KF_OK) return rc;
		if (kf_exists(path)) return i % 2 ? open_index(dir, path, out, err) : kf_safetensors_open(path, out, err);
	}
	return kf_fail(err, KF_ENOTFOUND,
		"%s: has neither model.safetensors nor pytorch_model.bin, nor an index (....index.json) of several such files", dir);
}

void kf_safetensors_close(kf_safetensors *s)
{
	if (!s) return;
	for (int i = 0; i < s->n_files; i++) {
		if (!s->file[i].borrowed) kf_map_close(&s->file[i].map);
		kf_free(s->file[i].path);
	}
	kf_free(s->file);
	kf_free(s->tensor);
	kf_arena_release(&s->arena);
	kf_free(s);
}

kf_status kf_safetensors_check(const kf_safetensors *s, const kf_st_tensor *t, kf_err *err)
{
	const char *path = s->file[t->file].path;

	if (t->readable) return KF_OK;
	if (t->n_dims < 1 || t->n_dims > 2)
		return kf_fail(
			err, KF_EUNSUPPORTED, "%s: tensor %s has %d dimensions, not 1 or 2", path, t->t.name, t->n_dims);
	return kf_fail(err, KF_EUNSUPPORTED,
		"%s: tensor %s has dtype %s or no elements; kfuse reads F32, F16 and BF16", path, t->t.name,
		t->dtype);
}
