#include "common/model/gguf.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/file.h"
#include "common/base/listing.h"

#define MAX_NAME 4096        /* longest key or tensor name, bytes */
#define MAX_DIMS 4
#define MAX_PARTS 1000       /* files of one model */
#define MAX_TENSORS 1000000  /* of one file */

struct kf_gguf {
	char *path;
	kf_map map;
	bool borrowed;           /* the bytes are the caller's */
	kf_arena arena;          /* names and the tables below */
	kf_gguf_entry *entry;
	kf_gguf_tensor *tensor;
	int n_entries, n_tensors;
	int *entry_order, *tensor_order; /* by name */
	kf_gguf **part;          /* (n_parts) the other files of a model in several, whose tensors stand in the table too */
	int n_parts;
};

static const struct { const char *name; uint8_t bytes; } value_types[KF_GGUF_TYPES] = {
	{ "u8", 1 }, { "i8", 1 }, { "u16", 2 }, { "i16", 2 }, { "u32", 4 }, { "i32", 4 }, { "f32", 4 }, { "bool", 1 },
	{ "string", 0 }, { "array", 0 }, { "u64", 8 }, { "i64", 8 }, { "f64", 8 }
};

const char *kf_gguf_type_name(kf_gguf_type t) { return value_types[t].name; }
const char *kf_gguf_path(const kf_gguf *g) { return g->path; }
int kf_gguf_entries(const kf_gguf *g) { return g->n_entries; }
int kf_gguf_tensors(const kf_gguf *g) { return g->n_tensors; }
const kf_gguf_entry *kf_gguf_entry_at(const kf_gguf *g, int i) { return &g->entry[i]; }
const kf_gguf_tensor *kf_gguf_tensor_at(const kf_gguf *g, int i) { return &g->tensor[i]; }

static kf_status no_memory(const kf_gguf *g, kf_err *err)
{
	return kf_fail(err, KF_ENOMEM, "%s: no memory for the tables of this file", g->path);
}

/* ---- reading ---- */

/* A length and bytes, copied with a NUL. what and i name the place in errors. */
static kf_status read_name(kf_gguf *g, kf_cur *c, const char *what, uint64_t i, const char **out, kf_err *err)
{
	uint64_t n = kf_cur_u64(c);
	const uint8_t *p;
	char *copy;

	if (c->bad || n > kf_cur_left(c))
		return kf_fail(err, KF_EDATA,
			"%s: the file ends inside the name of %s %" PRIu64 "; it is damaged or incomplete", g->path, what,
			i);
	if (n == 0 || n > MAX_NAME)
		return kf_fail(err, KF_EDATA,
			"%s: the name of %s %" PRIu64 " has %" PRIu64 " bytes, not 1 to %d; the file is damaged", g->path,
			what, i, n, MAX_NAME);
	p = kf_cur_bytes(c, (size_t)n);
	for (uint64_t k = 0; k < n; k++)
		if (p[k] < 32 || p[k] == 127)
			return kf_fail(err, KF_EDATA,
				"%s: the name of %s %" PRIu64 " has a control character in it; the file is damaged", g->path,
				what, i);
	if (!(copy = kf_arena_strdup(&g->arena, (const char *)p, (size_t)n))) return no_memory(g, err);
	*out = copy;
	return KF_OK;
}

/* Move the cursor over one value of the type, and fill the entry from it. */
static kf_status read_value(kf_gguf *g, kf_cur *c, kf_gguf_entry *e, kf_err *err)
{
	e->n = 1;
	e->item = e->type;
	if (e->type == KF_GGUF_ARRAY) {
		uint32_t item = kf_cur_u32(c);
		e->n = kf_cur_u64(c);
		if (c->bad) goto truncated;
		if (item == KF_GGUF_ARRAY)
			return kf_fail(err, KF_EUNSUPPORTED, "%s: %s is an array of arrays, which is not supported",
				g->path, e->key);
		if (item >= KF_GGUF_TYPES)
			return kf_fail(err, KF_EDATA, "%s: %s is an array of type %u, which GGUF does not have", g->path,
				e->key, item);
		e->item = (kf_gguf_type)item;
	} else if (e->type == KF_GGUF_STRING) {
		e->n = kf_cur_u64(c);
	}
	e->data = c->p;
	if (e->type == KF_GGUF_ARRAY && e->item == KF_GGUF_STRING) {
		if (e->n > kf_cur_left(c) / 8) goto truncated;
		for (uint64_t i = 0; i < e->n; i++) {
			uint64_t n = kf_cur_u64(c);
			if (c->bad || n > kf_cur_left(c)) goto truncated;
			kf_cur_bytes(c, (size_t)n);
		}
	} else {
		uint64_t width = e->item == KF_GGUF_STRING ? 1 : value_types[e->item].bytes;
		if (c->bad || e->n > kf_cur_left(c) / width) goto truncated;
		kf_cur_bytes(c, (size_t)(e->n * width));
	}
	e->size = (size_t)(c->p - e->data);
	return KF_OK;

truncated:
	return kf_fail(err, KF_EDATA,
		"%s: the value of %s runs past the end of the file; the file is damaged or incomplete", g->path,
		e->key);
}

static kf_status read_entries(kf_gguf *g, kf_cur *c, uint64_t n, kf_err *err)
{
	kf_status rc;

	/* The shortest entry: a name of one byte (8 + 1), a type (4), a byte. */
	if (n > kf_cur_left(c) / 14 || n > INT32_MAX)
		return kf_fail(err, KF_EDATA,
			"%s: says it has %" PRIu64 " metadata entries, more than its %zu bytes can hold", g->path, n,
			g->map.size);
	if (!(g->entry = KF_ARENA_NEW(&g->arena, kf_gguf_entry, (size_t)n))) return no_memory(g, err);
	for (uint64_t i = 0; i < n; i++) {
		kf_gguf_entry *e = &g->entry[i];
		uint32_t type;

		if ((rc = read_name(g, c, "metadata entry", i, &e->key, err)) != KF_OK) return rc;
		type = kf_cur_u32(c);
		if (c->bad)
			return kf_fail(
				err, KF_EDATA, "%s: the file ends at the type of %s; it is incomplete", g->path, e->key);
		if (type >= KF_GGUF_TYPES)
			return kf_fail(
				err, KF_EDATA, "%s: %s has type %u, which GGUF does not have", g->path, e->key, type);
		e->type = (kf_gguf_type)type;
		if ((rc = read_value(g, c, e, err)) != KF_OK) return rc;
		g->n_entries++;
	}
	return KF_OK;
}

/* One tensor's description; its data is still an offset, kept in *offset. */
static kf_status read_tensor(kf_gguf *g, kf_cur *c, uint64_t i, uint64_t *offset, kf_err *err)
{
	kf_gguf_tensor *t = &g->tensor[i];
	uint64_t dim[MAX_DIMS] = { 1, 1, 1, 1 };
	uint32_t n_dims, type;
	size_t row;
	kf_status rc;

	if ((rc = read_name(g, c, "tensor", i, &t->name, err)) != KF_OK) return rc;
	n_dims = kf_cur_u32(c);
	if (!c->bad && (n_dims < 1 || n_dims > MAX_DIMS))
		return kf_fail(err, KF_EDATA, "%s: tensor %s has %u dimensions, not 1 to %d", g->path, t->name,
			n_dims, MAX_DIMS);
	for (uint32_t d = 0; d < n_dims && !c->bad; d++) dim[d] = kf_cur_u64(c);
	type = kf_cur_u32(c);
	*offset = kf_cur_u64(c);
	if (c->bad)
		return kf_fail(err, KF_EDATA,
			"%s: the file ends inside the description of tensor %s; it is damaged or incomplete", g->path,
			t->name);
	if (type > INT32_MAX || !kf_dtype_known((int)type))
		return kf_fail(err, KF_EUNSUPPORTED,
			"%s: tensor %s has type %u (%s), which kfuse does not read; it reads F32, F16, "
			"BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0 and Q2_K to Q6_K",
			g->path, t->name, type, kf_dtype_name((kf_dtype)type));
	t->dtype = (kf_dtype)type;
	if (dim[3] != 1)
		return kf_fail(err, KF_EUNSUPPORTED,
			"%s: tensor %s has more than three dimensions, which no architecture that kfuse "
			"supports needs",
			g->path, t->name);
	t->cols = dim[0];
	t->rows = dim[1];
	t->stack = dim[2];
	t->n_dims = t->stack != 1 ? 3 : t->rows == 1 ? 1 : 2;
	if (t->cols == 0 || t->rows == 0 || t->stack == 0)
		return kf_fail(err, KF_EDATA, "%s: tensor %s has a dimension of 0", g->path, t->name);
	row = kf_dtype_row_bytes(t->dtype, t->cols);
	if (row == 0)
		return kf_fail(err, KF_EDATA,
			"%s: tensor %s has rows of %" PRIu64 " elements, no whole number of %s blocks of %d", g->path,
			t->name, t->cols, kf_dtype_name(t->dtype), kf_dtype_block(t->dtype));
	if (__builtin_mul_overflow(row, t->rows, &t->size) || __builtin_mul_overflow(t->size, t->stack, &t->size))
		return kf_fail(err, KF_EDATA, "%s: tensor %s says it has %" PRIu64 " x %" PRIu64 " x %" PRIu64
			" elements, more than any file holds", g->path, t->name, t->stack, t->rows, t->cols);
	return KF_OK;
}

struct span { const uint8_t *begin; size_t size; const char *name; };

static int by_begin(const void *a, const void *b)
{
	const struct span *x = a, *y = b;
	return x->begin < y->begin ? -1 : x->begin > y->begin;
}

static kf_status check_overlap(kf_gguf *g, kf_err *err)
{
	struct span *s = kf_alloc((size_t)g->n_tensors, sizeof *s);
	kf_status rc = KF_OK;

	if (!s) return no_memory(g, err);
	for (int i = 0; i < g->n_tensors; i++)
		s[i] = (struct span){ g->tensor[i].data, g->tensor[i].size, g->tensor[i].name };
	qsort(s, (size_t)g->n_tensors, sizeof *s, by_begin);
	for (int i = 1; i < g->n_tensors && rc == KF_OK; i++)
		if (s[i].begin < s[i - 1].begin + s[i - 1].size)
			rc = kf_fail(err, KF_EDATA, "%s: the data of tensors %s and %s overlap; the file is damaged",
				g->path, s[i - 1].name, s[i].name);
	kf_free(s);
	return rc;
}

static kf_status read_tensors(kf_gguf *g, kf_cur *c, uint64_t n, kf_err *err)
{
	uint64_t *offset, start;
	int64_t align = 32;
	size_t room;
	kf_status rc = KF_OK;

	if (kf_gguf_find(g, "general.alignment")) {
		if ((rc = kf_gguf_int(g, "general.alignment", 1, 1 << 20, &align, err)) != KF_OK) return rc;
		if (align & (align - 1))
			return kf_fail(err, KF_EDATA, "%s: general.alignment is %" PRId64 ", which is no power of two",
				g->path, align);
	}
	/* The shortest description: name (8 + 1), one dimension (4 + 8), type (4), offset (8). */
	if (n > kf_cur_left(c) / 33 || n > MAX_TENSORS)
		return kf_fail(err, KF_EDATA,
			"%s: says it has %" PRIu64 " tensors, more than its %zu bytes can describe", g->path, n,
			g->map.size);
	g->tensor = KF_ARENA_NEW(&g->arena, kf_gguf_tensor, (size_t)n);
	offset = KF_ARENA_NEW(&g->arena, uint64_t, (size_t)n);
	if (!g->tensor || !offset) return no_memory(g, err);
	for (uint64_t i = 0; i < n; i++)
		if ((rc = read_tensor(g, c, i, &offset[i], err)) != KF_OK) return rc;
	start = ((uint64_t)(c->p - g->map.data) + (uint64_t)align - 1) / (uint64_t)align * (uint64_t)align;
	room = start <= g->map.size ? g->map.size - (size_t)start : 0;
	for (uint64_t i = 0; i < n; i++) {
		kf_gguf_tensor *t = &g->tensor[i];
		if (offset[i] % (uint64_t)align)
			return kf_fail(err, KF_EDATA,
				"%s: tensor %s begins at offset %" PRIu64 ", no multiple of the alignment %" PRId64, g->path,
				t->name, offset[i], align);
		if (offset[i] > room || t->size > room - offset[i])
			return kf_fail(err, KF_EDATA,
				"%s: the data of tensor %s (%zu bytes at offset %" PRIu64 ") runs past the end of the "
				"file; it is damaged or was not downloaded whole",
				g->path, t->name, t->size, offset[i]);
		t->data = g->map.data + start + offset[i];
	}
	g->n_tensors = (int)n;
	return check_overlap(g, err);
}

/* ---- lookup by name ---- */

static const char *entry_name(const kf_gguf *g, int i) { return g->entry[i].key; }
static const char *tensor_name(const kf_gguf *g, int i) { return g->tensor[i].name; }

struct named { const char *name; int index; };

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct named *)a)->name, ((const struct named *)b)->name);
}

/* Indices in the order of their names; two of one name are refused. */
static kf_status sort_names(
	kf_gguf *g, int n, const char *(*name)(const kf_gguf *, int), const char *what, int **out, kf_err *err)
{
	struct named *s = kf_alloc((size_t)n, sizeof *s);
	int *order = KF_ARENA_NEW(&g->arena, int, (size_t)n);
	kf_status rc = KF_OK;

	if (!s || !order) {
		kf_free(s);
		return no_memory(g, err);
	}
	for (int i = 0; i < n; i++) s[i] = (struct named){ name(g, i), i };
	qsort(s, (size_t)n, sizeof *s, by_name);
	for (int i = 0; i < n; i++) {
		order[i] = s[i].index;
		if (i && !strcmp(s[i].name, s[i - 1].name)) {
			rc = kf_fail(err, KF_EDATA, "%s: has %s %s twice; the file is damaged", g->path, what, s[i].name);
			break;
		}
	}
	kf_free(s);
	*out = order;
	return rc;
}

static int find_name(
	const kf_gguf *g, const int *order, int n, const char *(*name)(const kf_gguf *, int), const char *key)
{
	int lo = 0, hi = n;

	while (order && lo < hi) {
		int mid = lo + (hi - lo) / 2, cmp = strcmp(name(g, order[mid]), key);
		if (cmp == 0) return order[mid];
		if (cmp < 0) lo = mid + 1;
		else hi = mid;
	}
	return -1;
}

const kf_gguf_entry *kf_gguf_find(const kf_gguf *g, const char *key)
{
	int i = find_name(g, g->entry_order, g->n_entries, entry_name, key);
	return i < 0 ? NULL : &g->entry[i];
}

const kf_gguf_tensor *kf_gguf_tensor_find(const kf_gguf *g, const char *name)
{
	int i = find_name(g, g->tensor_order, g->n_tensors, tensor_name, name);
	return i < 0 ? NULL : &g->tensor[i];
}

/* ---- models in several files ---- */

static kf_status open_any(const char *path, const void *data, size_t n, bool part, kf_gguf **out, kf_err *err);

/* Names of the parts: STEM-00001-of-00003.gguf and so on. */
static kf_status part_paths(const kf_gguf *g, int parts, char (*path)[KF_PATH_MAX], kf_err *err)
{
	char tail[64];
	size_t n = strlen(g->path), k;
	kf_listing missing = { 0 };
	kf_buf b = { 0 };
	kf_status rc = KF_OK;

	snprintf(tail, sizeof tail, "-%05d-of-%05d.gguf", 1, parts);
	k = strlen(tail);
	if (n < k || strcmp(g->path + n - k, tail) != 0)
		return kf_fail(err, KF_EINVAL, "%s: is the first of %d files of a model, but its name does not end in %s, by which the others "
			"would be found", g->path, parts, tail);
	for (int i = 1; i < parts; i++) {
		snprintf(path[i], KF_PATH_MAX, "%.*s-%05d-of-%05d.gguf", (int)(n - k), g->path, i + 1, parts);
		if (!kf_exists(path[i])) kf_listing_add(&missing, "%s", path[i]);
	}
	kf_listing_put(&missing, &b, "its model lacks", "file");
	if (b.len || b.failed) {
		kf_buf_put(&b, "", 1);
		if ((rc = kf_buf_check(&b, err)) == KF_OK) rc = kf_fail(err, KF_ENOTFOUND, "%s: %s", g->path, (const char *)b.data);
	}
	kf_listing_release(&missing);
	kf_buf_release(&b);
	return rc;
}

static kf_status check_part(const kf_gguf *p, int number, int parts, kf_err *err)
{
	int64_t no, count;
	kf_status rc;

	if ((rc = kf_gguf_int(p, "split.no", 0, INT32_MAX, &no, err)) != KF_OK ||
		(rc = kf_gguf_int(p, "split.count", 0, INT32_MAX, &count, err)) != KF_OK)
		return rc;
	if (no == number && count == parts) return KF_OK;
	return kf_fail(err, KF_EDATA, "%s: says it is file %" PRId64 " of %" PRId64 " of a model, but its name says %d of %d", p->path, no + 1,
		count, number + 1, parts);
}

/* Open the other files and put their tensors behind the first's. */
static kf_status open_parts(kf_gguf *g, int parts, kf_err *err)
{
	char (*path)[KF_PATH_MAX] = NULL;
	kf_gguf_tensor *all;
	int64_t no = 0, total;
	int n = g->n_tensors;
	kf_status rc;

	if ((rc = kf_gguf_int(g, "split.no", 0, INT32_MAX, &no, err)) != KF_OK) return rc;
	if (no > 0)
		return kf_fail(err, KF_EINVAL, "%s: is file %" PRId64 " of %d of a model; name the first", g->path, no + 1, parts);
	if (!(path = kf_alloc((size_t)parts, sizeof *path)) || !(g->part = kf_zalloc((size_t)parts, sizeof *g->part))) {
		rc = no_memory(g, err);
		goto out;
	}
	if ((rc = part_paths(g, parts, path, err)) != KF_OK) goto out;
	for (int i = 1; i < parts; i++) {
		if ((rc = open_any(path[i], NULL, 0, true, &g->part[g->n_parts], err)) != KF_OK) goto out;
		g->n_parts++;
		if ((rc = check_part(g->part[i - 1], i, parts, err)) != KF_OK) goto out;
		n += g->part[i - 1]->n_tensors; /* at most MAX_PARTS * MAX_TENSORS */
	}
	if (kf_gguf_find(g, "split.tensors.count")) {
		if ((rc = kf_gguf_int(g, "split.tensors.count", 0, INT32_MAX, &total, err)) != KF_OK) goto out;
		if (total != n) {
			rc = kf_fail(err, KF_EDATA, "%s: its model has %" PRId64 " tensors, but its %d files have %d", g->path, total, parts, n);
			goto out;
		}
	}
	if (!(all = KF_ARENA_NEW(&g->arena, kf_gguf_tensor, (size_t)n))) {
		rc = no_memory(g, err);
		goto out;
	}
	memcpy(all, g->tensor, (size_t)g->n_tensors * sizeof *all);
	for (int i = 0; i < g->n_parts; i++) {
		memcpy(all + g->n_tensors, g->part[i]->tensor, (size_t)g->part[i]->n_tensors * sizeof *all);
		g->n_tensors += g->part[i]->n_tensors;
	}
	g->tensor = all;
out:
	kf_free(path);
	return rc;
}

/* ---- open ---- */

/* part: not the first of several files. */
static kf_status parse(kf_gguf *g, bool part, kf_err *err)
{
	kf_cur c = kf_cur_of(g->map.data, g->map.size);
	const uint8_t *magic = kf_cur_bytes(&c, 4);
	uint32_t version = kf_cur_u32(&c);
	uint64_t n_tensors, n_entries;
	int64_t parts = 1;
	kf_status rc;

	if (c.bad || memcmp(magic, "GGUF", 4) != 0)
		return kf_fail(err, KF_EDATA, "%s is no GGUF file: it does not begin with \"GGUF\"", g->path);
	if (version == 0x02000000u || version == 0x03000000u)
		return kf_fail(
			err, KF_EUNSUPPORTED, "%s is a big-endian GGUF file, which kfuse does not read", g->path);
	if (version != 2 && version != 3)
		return kf_fail(
			err, KF_EUNSUPPORTED, "%s has GGUF version %u; kfuse reads versions 2 and 3", g->path, version);
	n_tensors = kf_cur_u64(&c);
	n_entries = kf_cur_u64(&c);
	if (c.bad) return kf_fail(err, KF_EDATA, "%s ends inside its header; it is incomplete", g->path);
	if ((rc = read_entries(g, &c, n_entries, err)) != KF_OK) return rc;
	if ((rc = sort_names(g, g->n_entries, entry_name, "metadata entry", &g->entry_order, err)) != KF_OK)
		return rc;
	if (kf_gguf_find(g, "split.count") && (rc = kf_gguf_int(g, "split.count", 0, MAX_PARTS, &parts, err)) != KF_OK) return rc;
	if ((rc = read_tensors(g, &c, n_tensors, err)) != KF_OK) return rc;
	if (parts > 1 && !part && (rc = open_parts(g, (int)parts, err)) != KF_OK) return rc;
	return sort_names(g, g->n_tensors, tensor_name, "tensor", &g->tensor_order, err);
}

static kf_status open_any(const char *path, const void *data, size_t n, bool part, kf_gguf **out, kf_err *err)
{
	kf_gguf *g = kf_zalloc(1, sizeof *g);
	kf_status rc;

	*out = NULL;
	if (!g || !(g->path = kf_strdup(path))) {
		kf_free(g);
		return kf_fail(err, KF_ENOMEM, "%s: no memory to open it", path);
	}
	kf_arena_init(&g->arena);
	g->borrowed = data != NULL;
	if (data) g->map = (kf_map){ data, n };
	else if ((rc = kf_map_open(&g->map, path, err)) != KF_OK) goto fail;
	if ((rc = parse(g, part, err)) != KF_OK) goto fail;
	*out = g;
	return KF_OK;

fail:
	kf_gguf_close(g);
	return rc;
}

kf_status kf_gguf_open(const char *path, kf_gguf **out, kf_err *err)
{
	return open_any(path, NULL, 0, false, out, err);
}

kf_status kf_gguf_open_memory(const void *data, size_t n, const char *name, kf_gguf **out, kf_err *err)
{
	return open_any(name, data, n, false, out, err);
}

void kf_gguf_close(kf_gguf *g)
{
	if (!g) return;
	for (int i = 0; i < g->n_parts; i++) kf_gguf_close(g->part[i]);
	kf_free(g->part);
	if (!g->borrowed) kf_map_close(&g->map);
	kf_arena_release(&g->arena);
	kf_free(g->path);
	kf_free(g);
}
