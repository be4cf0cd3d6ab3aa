/* Records as JSON Lines. */
#ifndef KF_STORE_JSON_H
#define KF_STORE_JSON_H

#include <stdio.h>

#include "common/store/record.h"

enum {
	KF_JSON_PATH = 1,    /* logits: the byte path's masses and extra candidates as well */
	KF_JSON_FINITE = 2   /* for any reader of JSON: candidates without probability are left out, and other infinite numbers
	                      * are KF_JSON_INFINITE instead of 1e999 */
};
#define KF_JSON_INFINITE 9999 /* nats: what vLLM writes for the logarithm of 0, negated */

void kf_json_corpus(FILE *out, const kf_corpus_rec *r);
void kf_json_logits(FILE *out, const kf_logits_rec *r, unsigned flags);
void kf_json_dist(FILE *out, const kf_dist_rec *r, unsigned flags);
/* Bytes of the UTF-8 character at s (n > 0 bytes), 0 when there is none: shortest form, no surrogates, to U+10FFFF. */
size_t kf_json_char(const uint8_t *s, size_t n);
/* Text of n bytes; those that are not UTF-8 become U+FFFD, one for every byte. */
void kf_json_text(kf_buf *out, const char *text, size_t n);
/* The same as a string with quotes. */
void kf_json_string(FILE *out, const uint8_t *s, size_t n);

#endif
