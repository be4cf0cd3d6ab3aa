#include "data/cut.h"

#include <stdlib.h>
#include <utf8proc.h>

#include "common/text/marks.h"
#include "common/text/utf8.h"

#define STRETCH 16384   /* bytes normalised at a time */
#define AHEAD 64        /* bytes kept past the limit, so that a cut sees what follows it */

static bool ascii(const uint8_t *text, size_t n)
{
	uint8_t any = 0;

	for (size_t i = 0; i < n; i++) any |= text[i];
	return any < 0x80;
}

bool kf_text_is_utf8(const uint8_t *text, size_t n) { return kf_utf8_valid(text, n) == n; }

static bool blank_char(utf8proc_int32_t c)
{
	switch (utf8proc_category(c)) {
	case UTF8PROC_CATEGORY_ZS:
	case UTF8PROC_CATEGORY_ZL:
	case UTF8PROC_CATEGORY_ZP:
	case UTF8PROC_CATEGORY_CF:
		return true;
	default:
		return (c >= 9 && c <= 13) || c == 0x85;
	}
}

bool kf_text_blank(const uint8_t *text, size_t n)
{
	for (size_t i = 0; i < n;) {
		utf8proc_int32_t c;
		utf8proc_ssize_t len = utf8proc_iterate(text + i, n - i > 4 ? 4 : (utf8proc_ssize_t)(n - i), &c);

		if (len <= 0 || !blank_char(c)) return false;
		i += (size_t)len;
	}
	return true;
}

static bool continuation(uint8_t byte)
{
	return (byte & 0xc0) == 0x80;
}

/* The last boundary between UTF-8 characters at or before limit; limit itself where the bytes are not UTF-8. */
static size_t char_boundary(const uint8_t *text, size_t limit)
{
	size_t at = limit;

	while (at > 0 && limit - at < 4 && continuation(text[at])) at--;
	return at > 0 && !continuation(text[at]) ? at : limit;
}

/* The last boundary between grapheme clusters in (0, limit]; 0 where there is none. Clusters depend on what came
 * before, so they are followed from the last ASCII character that surely begins one. */
static size_t grapheme_boundary(const uint8_t *text, size_t n, size_t limit)
{
	utf8proc_int32_t before = -1, state = 0;
	size_t at = limit, last = 0;

	while (at > 0 && !(text[at - 1] >= 0x20 && text[at - 1] < 0x7f)) at--;
	if (at > 0) at--;
	while (at <= limit && at < n) {
		utf8proc_int32_t c;
		utf8proc_ssize_t len = utf8proc_iterate(text + at, n - at > 4 ? 4 : (utf8proc_ssize_t)(n - at), &c);

		if (len <= 0) return last;
		if (before < 0 || utf8proc_grapheme_break_stateful(before, c, &state)) last = at;
		before = c;
		at += (size_t)len;
	}
	return last;
}

size_t kf_cut_length(const uint8_t *text, size_t n, size_t limit)
{
	const uint8_t *line;
	size_t at;

	if (n <= limit) return n;
	if ((line = memrchr(text, '\n', limit))) return (size_t)(line - text) + 1;
	if ((at = grapheme_boundary(text, n, limit)) > 0) return at;
	return char_boundary(text, limit);
}

kf_status kf_text_nfc(const uint8_t *text, size_t n, kf_buf *out, kf_err *err)
{
	uint8_t *mapped;
	ptrdiff_t len;

	if (ascii(text, n)) {
		kf_buf_put(out, text, n);
		return kf_buf_check(out, err);
	}
	len = kf_nfc_map(text, n, &mapped);
	if (len == UTF8PROC_ERROR_NOMEM)
		return kf_fail(err, KF_ENOMEM, "out of memory while normalising %zu bytes", n);
	if (len < 0) return kf_fail(err, KF_EDATA, "cannot normalise text to NFC: %s", utf8proc_errmsg(len));
	kf_buf_put(out, mapped, (size_t)len);
	free(mapped);
	return kf_buf_check(out, err);
}

/* How much of text to normalise on its own: an ASCII character never combines with what is before it. */
static size_t stretch_length(const uint8_t *text, size_t n)
{
	size_t len = STRETCH;

	if (n <= STRETCH) return n;
	while (len < n && text[len] >= 0x80) len++;
	return len;
}

kf_status kf_cut_document(const uint8_t *text, size_t n, bool nfc, size_t limit, kf_buf *scratch,
	kf_piece_fn fn, void *arg, kf_err *err)
{
	size_t pos = 0, begin = 0;
	kf_status rc;

	kf_buf_clear(scratch);
	for (uint32_t piece = 0;; piece++) {
		size_t len;

		if (!nfc) {
			if (pos == n) return KF_OK;
			len = kf_cut_length(text + pos, n - pos, limit);
			if ((rc = fn(arg, piece, text + pos, len, err)) != KF_OK) return rc;
			pos += len;
			continue;
		}
		while (pos < n && scratch->len - begin < limit + AHEAD) {
			if (begin > 0) {
				memmove(scratch->data, scratch->data + begin, scratch->len - begin);
				scratch->len -= begin;
				begin = 0;
			}
			len = stretch_length(text + pos, n - pos);
			if ((rc = kf_text_nfc(text + pos, len, scratch, err)) != KF_OK) return rc;
			pos += len;
		}
		if (begin == scratch->len) return KF_OK;
		len = kf_cut_length(scratch->data + begin, scratch->len - begin, limit);
		if ((rc = fn(arg, piece, scratch->data + begin, len, err)) != KF_OK) return rc;
		begin += len;
	}
}
