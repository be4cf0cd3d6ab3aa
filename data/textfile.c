#include "data/textfile.h"

#include <inttypes.h>
#include <limits.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "common/base/file.h"
#include "common/base/packing.h"

#define CHUNK ((size_t)1 << 18)   /* bytes, unpacked at a time */

/* Bytes [at, end) of `text` are there and not yet given out: of a plain file all that is left, else what has been unpacked. */
struct kf_textfile {
	const char *name;
	kf_packing kind;
	kf_map map;
	size_t in, told;           /* of the file: read so far; at the last kf_textfile_read */
	kf_buf out;                /* unpacked */
	const uint8_t *text;
	size_t at, end;
	uint64_t line;
	bool last;                 /* nothing comes after `end` */
	bool between;              /* no member or frame has begun that has not ended */
	z_stream z;
	ZSTD_DStream *zs;
};

static kf_status damaged(const kf_textfile *f, const char *why, kf_err *err)
{
	return kf_fail(err, KF_EDATA, "%s: the compressed data cannot be unpacked, %zu bytes into the file: %s; get the file again", f->name, f->in, why);
}

/* Up to n bytes to p; *got 0 only at the end. */
static kf_status inflate_some(kf_textfile *f, uint8_t *p, size_t n, size_t *got, kf_err *err)
{
	f->z.next_out = p;
	f->z.avail_out = (uInt)n;
	while (f->z.avail_out == n) {
		size_t left = f->map.size - f->in, take = left < INT_MAX ? left : INT_MAX;
		int rc;

		if (f->between) {
			/* zeros that fill up a block are no member */
			while (f->in < f->map.size && !f->map.data[f->in]) f->in++;
			if (f->in == f->map.size) break;
			if (inflateReset(&f->z) != Z_OK) return damaged(f, "zlib does not begin again", err);
			f->between = false;
			continue;
		}
		f->z.next_in = (Bytef *)(uintptr_t)(f->map.data + f->in);
		f->z.avail_in = (uInt)take;
		rc = inflate(&f->z, Z_NO_FLUSH);
		f->in += take - f->z.avail_in;
		if (rc == Z_STREAM_END) f->between = true;
		else if (rc == Z_MEM_ERROR) return kf_fail(err, KF_ENOMEM, "%s: out of memory to unpack it", f->name);
		else if (rc == Z_BUF_ERROR && f->in == f->map.size) return damaged(f, "it ends in the middle", err);
		else if (rc != Z_OK && rc != Z_BUF_ERROR) return damaged(f, f->z.msg ? f->z.msg : "it is damaged", err);
	}
	*got = n - f->z.avail_out;
	return KF_OK;
}

static kf_status unzstd_some(kf_textfile *f, uint8_t *p, size_t n, size_t *got, kf_err *err)
{
	ZSTD_outBuffer out = { p, n, 0 };

	while (out.pos == 0) {
		ZSTD_inBuffer in = { f->map.data, f->map.size, f->in };
		size_t rc;

		if (f->between && f->in == f->map.size) break;
		rc = ZSTD_decompressStream(f->zs, &out, &in);
		if (ZSTD_isError(rc)) {
			if (ZSTD_getErrorCode(rc) == ZSTD_error_memory_allocation) return kf_fail(err, KF_ENOMEM, "%s: out of memory to unpack it", f->name);
			if (ZSTD_getErrorCode(rc) == ZSTD_error_frameParameter_windowTooLarge)
				return kf_fail(err, KF_EDATA, "%s: it wants a window of more than 128 MB to be unpacked (zstd --long): zstd -dc --long=31 %s | kf-prepare … -", f->name, f->name);
			return damaged(f, ZSTD_getErrorName(rc), err);
		}
		if (in.pos == f->in && out.pos == 0 && f->in == f->map.size) return damaged(f, "it ends in the middle", err);
		f->in = in.pos;
		f->between = rc == 0;
	}
	*got = out.pos;
	return KF_OK;
}

/* Unpack more behind `end`. What has been given out is forgotten. */
static kf_status more(kf_textfile *f, kf_err *err)
{
	size_t got = 0;
	kf_status rc;

	if (f->at) {
		memmove(f->out.data, f->out.data + f->at, f->end - f->at);
		f->out.len = f->end -= f->at;
		f->at = 0;
	}
	if (!kf_buf_reserve(&f->out, CHUNK)) return kf_fail(err, KF_ENOMEM, "%s: out of memory for a line of more than %zu bytes", f->name, f->out.len);
	rc = f->kind == KF_PACKING_GZIP ? inflate_some(f, f->out.data + f->end, CHUNK, &got, err) : unzstd_some(f, f->out.data + f->end, CHUNK, &got, err);
	f->text = f->out.data;
	f->out.len = f->end += got;
	f->last = got == 0;
	return rc;
}

kf_status kf_textfile_open(const char *path, const char *name, kf_textfile **out, kf_err *err)
{
	kf_textfile *f = kf_zalloc(1, sizeof *f);
	const uint8_t *head;
	size_t n;
	kf_packing kind;
	kf_status rc;

	*out = NULL;
	if (!f) return kf_fail(err, KF_ENOMEM, "out of memory to read %s", name);
	f->name = name;
	if ((rc = kf_map_open(&f->map, path, err)) != KF_OK) goto out;
	kind = kf_packing_of(f->map.data, f->map.size);
	if (kind == KF_PACKING_GZIP) {
		if (inflateInit2(&f->z, 15 + 16) != Z_OK) rc = kf_fail(err, KF_ENOMEM, "%s: out of memory to unpack it", name);
		else f->kind = kind;
	} else if (kind == KF_PACKING_ZSTD) {
		if (!(f->zs = ZSTD_createDStream())) rc = kf_fail(err, KF_ENOMEM, "%s: out of memory to unpack it", name);
		else f->kind = kind;
	} else {
		f->text = f->map.data;
		f->end = f->map.size;
		f->last = true;
	}
	if (rc == KF_OK && (rc = kf_textfile_peek(f, 3, &head, &n, err)) == KF_OK && n == 3 && memcmp(head, "\xef\xbb\xbf", 3) == 0) f->at = 3;
out:
	if (rc != KF_OK) {
		kf_textfile_close(f);
		return rc;
	}
	*out = f;
	return KF_OK;
}

void kf_textfile_close(kf_textfile *f)
{
	if (!f) return;
	if (f->kind == KF_PACKING_GZIP) inflateEnd(&f->z);
	ZSTD_freeDStream(f->zs);
	kf_buf_release(&f->out);
	kf_map_close(&f->map);
	kf_free(f);
}

kf_status kf_textfile_peek(kf_textfile *f, size_t max, const uint8_t **head, size_t *n, kf_err *err)
{
	kf_status rc = KF_OK;

	while (rc == KF_OK && !f->last && f->end - f->at < max) rc = more(f, err);
	*head = f->text + f->at;
	*n = f->end - f->at < max ? f->end - f->at : max;
	return rc;
}

kf_status kf_textfile_all(kf_textfile *f, size_t max, const uint8_t **text, size_t *n, kf_err *err)
{
	kf_status rc = kf_textfile_peek(f, f->kind == KF_PACKING_NONE ? SIZE_MAX : max + 1, text, n, err);

	if (rc == KF_OK && f->kind != KF_PACKING_NONE && *n > max) rc = kf_fail(err, KF_EDATA, "%s: the text has more than %zu bytes", f->name, max);
	f->at += *n;
	return rc;
}

kf_status kf_textfile_line(kf_textfile *f, size_t max, const uint8_t **line, size_t *n, kf_err *err)
{
	size_t seen = 0;
	kf_status rc;

	*line = NULL;
	f->line++;
	for (;;) {
		const uint8_t *p = f->text + f->at, *eol;
		size_t have = f->end - f->at;

		eol = have > seen ? memchr(p + seen, '\n', have - seen) : NULL;
		*n = eol ? (size_t)(eol - p) : have;
		if (*n > max) return kf_fail(err, KF_EDATA, "%s, line %" PRIu64 ": the line is longer than %zu bytes", f->name, f->line, max);
		if (eol || f->last) {
			if (have) *line = p;
			f->at += *n + (eol != NULL);
			return KF_OK;
		}
		seen = have;
		if ((rc = more(f, err)) != KF_OK) return rc;
	}
}

size_t kf_textfile_read(kf_textfile *f)
{
	size_t now = f->kind == KF_PACKING_NONE ? f->at : f->in, n = now - f->told;

	f->told = now;
	return n;
}
