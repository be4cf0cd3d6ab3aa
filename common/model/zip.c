#include "common/model/zip.h"

#include <stdlib.h>
#include <string.h>

/* APPNOTE.TXT of PKWARE, sections 4.3.7 (a member's header), 4.3.12 (the directory), 4.3.14 to 4.3.16 (its end). */

enum { END = 22, END64 = 56, LOCATOR = 20, ENTRY = 46, HEADER = 30, COMMENT = 65535, MAX_MEMBERS = 4000000 };

static uint16_t u16(const uint8_t *p) { return (uint16_t)(p[0] | p[1] << 8); }
static uint32_t u32(const uint8_t *p) { return u16(p) | (uint32_t)u16(p + 2) << 16; }
static uint64_t u64(const uint8_t *p) { return u32(p) | (uint64_t)u32(p + 4) << 32; }

static bool is(const uint8_t *p, char a, char b) { return p[0] == 'P' && p[1] == 'K' && p[2] == a && p[3] == b; }

typedef struct { uint64_t n, offset, size; } directory;

static kf_status damaged(const char *path, const char *what, kf_err *err)
{
	return kf_fail(err, KF_EDATA, "%s: %s; the file is damaged or incomplete", path, what);
}

static kf_status find_directory(const uint8_t *data, size_t size, const char *path, directory *d, kf_err *err)
{
	size_t least = size > END + COMMENT ? size - END - COMMENT : 0, at;
	const uint8_t *end = NULL;

	for (at = size >= END ? size - END + 1 : 0; at-- > least && !end;)
		if (is(data + at, 5, 6)) end = data + at;
	if (!end) return damaged(path, "its zip archive has no end", err);
	at = (size_t)(end - data);
	*d = (directory){ u16(end + 10), u32(end + 16), u32(end + 12) };
	if (at >= LOCATOR && is(end - LOCATOR, 6, 7)) {
		uint64_t where = u64(end - LOCATOR + 8);

		if (size < END64 || where > size - END64 || !is(data + where, 6, 6))
			return damaged(path, "its zip archive's end lies outside of it", err);
		*d = (directory){ u64(data + where + 32), u64(data + where + 48), u64(data + where + 40) };
	}
	if (d->offset > size || d->size > size - d->offset || d->n > d->size / ENTRY || d->n > MAX_MEMBERS)
		return damaged(path, "its zip archive's directory lies outside of it", err);
	return KF_OK;
}

/* Sizes and offset beyond 32 bits stand in a field of their own, each only if the short one is all ones. */
static bool widen(const uint8_t *extra, size_t n, uint64_t *plain, uint64_t *packed, uint64_t *offset)
{
	uint64_t *const want[] = { plain, packed, offset };

	while (n >= 4) {
		size_t len = u16(extra + 2);

		if (len > n - 4) return false;
		for (size_t i = 0, at = 4; u16(extra) == 1 && i < 3; i++) {
			if (*want[i] != UINT32_MAX) continue;
			if (at + 8 > len + 4) return false;
			*want[i] = u64(extra + at);
			at += 8;
		}
		extra += len + 4;
		n -= len + 4;
	}
	return true;
}

static int by_data(const void *a, const void *b)
{
	const kf_zip_member *x = a, *y = b;

	return (x->data > y->data) - (x->data < y->data);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const kf_zip_member *)a)->name, ((const kf_zip_member *)b)->name);
}

static kf_status read_entry(const uint8_t *data, size_t size, const uint8_t *e, const char *path, kf_arena *arena,
	kf_zip_member *m, kf_err *err)
{
	size_t name = u16(e + 28), more = u16(e + 30), at;
	uint64_t packed = u32(e + 20), plain = u32(e + 24), offset = u32(e + 42);

	if (memchr(e + ENTRY, 0, name)) return damaged(path, "a member of its zip archive has no name", err);
	if (!widen(e + ENTRY + name, more, &plain, &packed, &offset))
		return damaged(path, "a member of its zip archive has no good size", err);
	if (!(m->name = kf_arena_strdup(arena, (const char *)e + ENTRY, name)))
		return kf_fail(err, KF_ENOMEM, "%s: no memory for its table of tensors", path);
	if (u16(e + 10) != 0 || u16(e + 8) & 1 || packed != plain)
		return kf_fail(err, KF_EUNSUPPORTED, "%s: member %s of its zip archive is compressed or encrypted", path, m->name);
	if (offset > size || size - offset < HEADER || !is(data + offset, 3, 4))
		return damaged(path, "a member of its zip archive lies outside of it", err);
	at = (size_t)offset + HEADER;
	at += (size_t)u16(data + offset + 26) + u16(data + offset + 28);
	if (at > size || plain > size - at) return damaged(path, "a member of its zip archive runs past the end", err);
	m->data = data + at;
	m->size = plain;
	return KF_OK;
}

kf_status kf_zip_members(const uint8_t *data, size_t size, const char *path, kf_arena *arena,
	const kf_zip_member **out, size_t *n, kf_err *err)
{
	kf_zip_member *list;
	const uint8_t *e, *end;
	directory d = { 0 };
	kf_status rc;

	if ((rc = find_directory(data, size, path, &d, err)) != KF_OK) return rc;
	if (!(list = KF_ARENA_NEW(arena, kf_zip_member, (size_t)d.n)))
		return kf_fail(err, KF_ENOMEM, "%s: no memory for its table of tensors", path);
	e = data + d.offset;
	end = e + d.size;
	for (uint64_t i = 0; i < d.n; i++) {
		size_t len;

		if ((size_t)(end - e) < ENTRY || !is(e, 1, 2)) return damaged(path, "its zip archive's directory ends too early", err);
		len = (size_t)ENTRY + u16(e + 28) + u16(e + 30) + u16(e + 32);
		if (len > (size_t)(end - e)) return damaged(path, "its zip archive's directory ends too early", err);
		if ((rc = read_entry(data, size, e, path, arena, &list[i], err)) != KF_OK) return rc;
		e += len;
	}
	if (d.n) qsort(list, (size_t)d.n, sizeof *list, by_data);
	for (uint64_t i = 1; i < d.n; i++)
		if (list[i - 1].size > (uint64_t)(list[i].data - list[i - 1].data))
			return damaged(path, "members of its zip archive overlap", err);
	if (d.n) qsort(list, (size_t)d.n, sizeof *list, by_name);
	*out = list;
	*n = (size_t)d.n;
	return KF_OK;
}

const kf_zip_member *kf_zip_find(const kf_zip_member *members, size_t n, const char *name)
{
	kf_zip_member key = { .name = name };

	return n ? bsearch(&key, members, n, sizeof key, by_name) : NULL;
}
