/* Inside import/: a record as it was given, whatever its form. */
#ifndef KF_IMPORT_ANSWER_H
#define KF_IMPORT_ANSWER_H

#include <jansson.h>

#include "common/store/record.h"
#include "import/import.h"
#include "import/names.h"

/* Lists are of what was given: a BOS may come first, and what a server generated last. */
typedef struct {
	const char *where;         /* "FILE, line 7" */
	bool server;               /* not jsonl: tokens after the text are its answer */
	int bos;                   /* jsonl: whether the model adds a BOS, which is not among the tokens; -1: not said */
	uint32_t n;
	int32_t *id;               /* (n) -1: not told */
	import_name *name;         /* (n) */
	float *lp;                 /* (n) ln p; NAN: none */
	uint32_t rows;             /* n, or n + 1 */
	uint32_t *off;             /* (rows + 1) into candidates */
	int32_t *cand;             /* -1: named no token */
	bool named;                /* they came by name */
	import_name nameless;      /* the first that is no token's; s NULL: none */
	uint32_t nameless_row;
	float *cand_lp;
	const uint32_t *offset;    /* (n) characters of the echoed text before each token, by the server; NULL: not told */
	/* jsonl only; NULL: not told */
	const uint32_t *start;     /* (n_start) n or n + 1 */
	uint32_t n_start;
	const uint8_t *context;    /* (n + 1) */
	bool path;
	const uint32_t *path_off, *extra_off; /* (n + 1), (n + 2) */
	const float *path_nlm, *extra_lp;
	const int32_t *extra_ids;
} import_answer;

/* A line as JSON. NUL in names of fields, which tokens may be, becomes U+FFFE: jansson has no such names. */
kf_status import_parse(const uint8_t *line, size_t n, const char *where, json_t **out, kf_err *err) KF_MUST_CHECK;
/* A document's number, id, text, ... are not looked at here. KF_EDATA names the line. Strings stay the JSON's. */
kf_status import_answer_read(const json_t *line, const char *where, kf_import_format format, const import_names *names,
	kf_arena *arena, import_answer *out, kf_err *err) KF_MUST_CHECK;
/* The two kinds; body: a server's response, choice its first. */
kf_status import_answer_jsonl(const json_t *line, const import_names *names, kf_arena *arena, import_answer *a, kf_err *err)
	KF_MUST_CHECK;
kf_status import_answer_vllm(const json_t *body, const json_t *choice, const import_names *names, kf_arena *arena,
	import_answer *a, kf_err *err) KF_MUST_CHECK;
kf_status import_answer_openai(const json_t *choice, const import_names *names, kf_arena *arena, import_answer *a, kf_err *err)
	KF_MUST_CHECK;
/* The response in a line: itself, "response", or the "body" of an entry of a batch's output. *choice may come back NULL. */
kf_status import_body(const json_t *line, const char *where, const json_t **body, const json_t **choice, kf_err *err) KF_MUST_CHECK;

/* ---- JSON values; where and what (a field's name) are for messages ---- */

kf_status import_list(const import_answer *a, const json_t *o, const char *what, const json_t **out, kf_err *err) KF_MUST_CHECK;
/* A log-probability or NAN for null; below -9999 is -infinity. */
kf_status import_number(const import_answer *a, const json_t *v, const char *what, size_t at, float *out, kf_err *err) KF_MUST_CHECK;
kf_status import_id(const import_answer *a, const json_t *v, const char *what, size_t at, int32_t *out, kf_err *err) KF_MUST_CHECK;
kf_status import_nomem(const import_answer *a, kf_err *err);
/* Candidate `at`, of row `row`, is the token that is called key; -1 where none is, or half a character. key stays the JSON's. */
void import_candidate(import_answer *a, uint32_t row, uint32_t at, const char *key, const import_names *names);
/* A few bytes for a message, in quotes that are the caller's. */
const char *import_shown(const uint8_t *p, size_t n, char out[49]);
/* Make room for the tokens, and for so many candidates in rows. */
kf_status import_answer_alloc(import_answer *a, size_t n, size_t rows, size_t cands, kf_arena *arena, kf_err *err) KF_MUST_CHECK;

#endif
