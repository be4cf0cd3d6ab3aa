/* NFC with a way back: which byte of the text each byte of its normal form came from.
 *
 * Text is cut before every character that starts afresh (combining class 0, and no part of
 * a composition with what stands before it); the normal form of the whole is that of the
 * pieces. Most text is ASCII or below U+0300, where nothing changes.
 */
#include <stdlib.h>
#include <utf8proc.h>

#include "common/text/internal.h"
#include "common/text/marks.h"

/* Combining class 0, yet they compose with, or decompose to something that reorders with, what
 * stands before them (DerivedNormalizationProps: NFC_QC=Maybe; and three Tibetan vowel signs). */
static const struct { uint32_t lo, hi; } joins[] = {
	{ 0x09be, 0x09be }, { 0x09d7, 0x09d7 }, { 0x0b3e, 0x0b3e }, { 0x0b56, 0x0b57 }, { 0x0bbe, 0x0bbe },
	{ 0x0bd7, 0x0bd7 }, { 0x0cc2, 0x0cc2 }, { 0x0cd5, 0x0cd6 }, { 0x0d3e, 0x0d3e }, { 0x0d57, 0x0d57 },
	{ 0x0dcf, 0x0dcf }, { 0x0ddf, 0x0ddf }, { 0x0f73, 0x0f73 }, { 0x0f75, 0x0f75 }, { 0x0f81, 0x0f81 },
	{ 0x102e, 0x102e }, { 0x1161, 0x1175 }, { 0x11a8, 0x11c2 }, { 0x1b35, 0x1b35 }, { 0x11127, 0x11127 }, { 0x1133e, 0x1133e },
	{ 0x11357, 0x11357 }, { 0x114b0, 0x114b0 }, { 0x114ba, 0x114ba }, { 0x114bd, 0x114bd }, { 0x115af, 0x115af },
	{ 0x11930, 0x11930 },
};

static bool starts_afresh(uint32_t c)
{
	if (c < 0x300)
		return true;
	if (utf8proc_get_property((utf8proc_int32_t)c)->combining_class)
		return false;
	for (size_t i = 0; i < sizeof joins / sizeof joins[0] && joins[i].lo <= c; i++)
		if (c <= joins[i].hi)
			return false;
	return true;
}

typedef struct { kf_buf text, map; } result;

static bool put(result *r, const uint8_t *p, size_t n, size_t from, size_t limit)
{
	kf_buf_put(&r->text, p, n);
	for (size_t i = 0; i < n; i++)
		kf_buf_u32(&r->map, (uint32_t)(from + (i < limit ? i : limit)));
	return !r->text.failed && !r->map.failed;
}

/* The normal form of one piece, p[from, to), appended; *changed when it differs. */
static bool normalise(result *r, const uint8_t *p, size_t from, size_t to, bool *changed)
{
	uint8_t *out;
	size_t n = to - from;
	const ptrdiff_t m = kf_nfc_map(p + from, n, &out);

	if (m == UTF8PROC_ERROR_NOMEM)
		return false;
	if (m < 0 || ((size_t)m == n && memcmp(out, p + from, n) == 0)) {
		free(out);
		return put(r, p + from, n, from, n);
	}
	*changed = true;
	bool ok = put(r, out, (size_t)m, from, n);
	free(out);
	return ok;
}

kf_status kf_nfc(const uint8_t *p, size_t n, kf_arena *arena, const uint8_t **out, size_t *n_out,
	uint32_t **map, kf_err *err)
{
	result r = { { 0 }, { 0 } };
	kf_status rc = KF_OK;
	bool changed = false, ok = true;
	size_t from = 0, i = 0;

	*out = p;
	*n_out = n;
	*map = NULL;
	/* Nothing below U+0300 changes, whatever stands around it, until something above comes. */
	while (i < n && p[i] < 0xcc)
		i++;
	if (i == n)
		return KF_OK;
	for (i = 0; i < n && ok;) {
		unsigned l = kf_utf8_len(p + i, n - i);
		if (l == 0 || starts_afresh(kf_utf8_code(p + i, l))) {
			ok = from == i || normalise(&r, p, from, i, &changed);
			from = i;
			if (l == 0 && ok) { /* no character: kept, and a piece of its own */
				ok = put(&r, p + i, 1, i, 1);
				from = i + 1;
			}
		}
		i += l ? l : 1;
	}
	if (ok && from < n)
		ok = normalise(&r, p, from, n, &changed);
	if (ok && changed) {
		uint8_t *q = kf_arena_alloc(arena, r.text.len ? r.text.len : 1, 1);
		uint32_t *m = kf_arena_alloc(arena, r.text.len + 1, sizeof *m);
		if ((ok = q && m)) {
			memcpy(q, r.text.data, r.text.len);
			memcpy(m, r.map.data, r.text.len * sizeof *m);
			m[r.text.len] = (uint32_t)n;
			*out = q;
			*n_out = r.text.len;
			*map = m;
		}
	}
	if (!ok)
		rc = kf_fail(err, KF_ENOMEM, "no memory to normalise %zu bytes of text", n);
	kf_buf_release(&r.text);
	kf_buf_release(&r.map);
	return rc;
}
