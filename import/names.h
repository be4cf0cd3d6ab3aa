/* Inside import/: tokens by what others call them. */
#ifndef KF_IMPORT_NAMES_H
#define KF_IMPORT_NAMES_H

#include "common/text/tokenizer.h"

typedef struct { const char *s; size_t n; } import_name;  /* s NULL: none */

typedef struct {
	const kf_tokenizer *t;
	uint32_t mask;
	int32_t *by_bytes, *by_piece;  /* (mask + 1) hashed; -1: empty */
} import_names;

kf_status import_names_init(import_names *m, const kf_tokenizer *t, kf_err *err) KF_MUST_CHECK;
void import_names_release(import_names *m);

/* "token_id:17" (vLLM, return_tokens_as_token_ids), "bytes:\xe2\x80" (OpenAI), the token's text, or its spelling in the
 * vocabulary, in this order. Of several tokens with one text: the first that is no control token and no single byte
 * by another token's text. -1: none. */
int32_t import_names_find(const import_names *m, import_name name);
/* Whether there is a U+FFFD in it, which servers write for any half of a character. */
bool import_name_is_half(import_name name);
/* Whether a token may be called so. Text with U+FFFD may be any token that is no whole character. */
bool import_name_fits(const import_names *m, import_name name, int32_t id);

#endif
