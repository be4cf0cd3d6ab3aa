#include "common/text/marks.h"

#include <stdbool.h>
#include <utf8proc.h>

#include "common/text/internal.h"

enum { LONG_RUN = 1024 };      /* bytes */

/* The class of the character at p, of *len bytes; 0 for what is none, a byte. */
static unsigned class_at(const uint8_t *p, size_t n, unsigned *len)
{
	*len = kf_utf8_len(p, n);
	if (!*len) {
		*len = 1;
		return 0;
	}
	return *p < 0xcc ? 0 : (unsigned)utf8proc_get_property((utf8proc_int32_t)kf_utf8_code(p, *len))->combining_class;
}

/* Bytes of the run of marks that p begins with. */
static size_t run_at(const uint8_t *p, size_t n)
{
	size_t at = 0;
	unsigned len;

	while (at < n && class_at(p + at, n - at, &len)) at += len;
	return at;
}

/* A stable sort by class: a place for each of the 256. */
static void put_run(const uint8_t *p, size_t n, kf_buf *out)
{
	size_t place[257] = { 0 };
	uint8_t *sorted = kf_alloc(n, 1);
	unsigned len;

	if (!sorted) {
		out->failed = true;
		return;
	}
	for (size_t at = 0; at < n; at += len) {
		unsigned class = class_at(p + at, n - at, &len);

		place[class + 1] += len;
	}
	for (int class = 1; class < 257; class++) place[class] += place[class - 1];
	for (size_t at = 0; at < n; at += len) {
		unsigned class = class_at(p + at, n - at, &len);

		memcpy(sorted + place[class], p + at, len);
		place[class] += len;
	}
	kf_buf_put(out, sorted, n);
	kf_free(sorted);
}

/* False where no run of p is so long that it would matter: out is as it was. Else all of it, appended to out. */
static bool in_order(const uint8_t *p, size_t n, kf_buf *out)
{
	size_t from = 0, at = 0, run;
	bool any = false;
	unsigned len;

	while (at < n) {
		if (p[at] < 0xcc || (run = run_at(p + at, n - at)) == 0) {
			class_at(p + at, n - at, &len);
			at += len;
			continue;
		}
		if (run > LONG_RUN) {
			any = true;
			kf_buf_put(out, p + from, at - from);
			put_run(p + at, run, out);
			from = at + run;
		}
		at += run;
	}
	if (any) kf_buf_put(out, p + from, n - from);
	return any;
}

ptrdiff_t kf_nfc_map(const uint8_t *p, size_t n, uint8_t **out)
{
	kf_buf ordered = { 0 };
	const bool sorted = in_order(p, n, &ordered);
	ptrdiff_t m = UTF8PROC_ERROR_NOMEM;

	*out = NULL;
	if (!ordered.failed)
		m = utf8proc_map(sorted ? ordered.data : p, (utf8proc_ssize_t)(sorted ? ordered.len : n), out, UTF8PROC_STABLE | UTF8PROC_COMPOSE);
	kf_buf_release(&ordered);
	return m;
}
