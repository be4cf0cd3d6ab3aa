/* Text into pieces: checked, normalised to NFC, cut by bytes. */
#ifndef KF_DATA_CUT_H
#define KF_DATA_CUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/mem.h"
#include "common/base/status.h"

#define KF_CUT_MIN 16                   /* bytes, least limit: the longest UTF-8 character fits four times */
#define KF_CUT_MAX (1u << 29)           /* bytes, most: a block, with all that is kept of a document, has twice that */

bool kf_text_is_utf8(const uint8_t *text, size_t n);

/* No text: nothing but white space, byte order marks and invisible formatting characters. */
bool kf_text_blank(const uint8_t *text, size_t n);

/* How many bytes of text make the next piece of at most limit bytes (KF_CUT_MIN or more):
 * all n when they fit, else up to the last line end, else up to the last boundary between
 * characters as a reader sees them (grapheme clusters), else between UTF-8
 * characters. Bytes that are not UTF-8 are cut at the limit. */
size_t kf_cut_length(const uint8_t *text, size_t n, size_t limit);

/* Append the NFC of n bytes of valid UTF-8 to out. */
kf_status kf_text_nfc(const uint8_t *text, size_t n, kf_buf *out, kf_err *err) KF_MUST_CHECK;

/* A piece: text is borrowed for the call. */
typedef kf_status (*kf_piece_fn)(void *arg, uint32_t piece, const uint8_t *text, size_t n, kf_err *err);

/* Call fn for each piece of a document, in order. With nfc, text (valid UTF-8) is normalised
 * first, a stretch at a time: a document of any length needs scratch of the order of limit bytes. */
kf_status kf_cut_document(const uint8_t *text, size_t n, bool nfc, size_t limit, kf_buf *scratch,
	kf_piece_fn fn, void *arg, kf_err *err) KF_MUST_CHECK;

#endif
