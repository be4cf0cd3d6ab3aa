/* Inside import/: what was given of a document, checked against it, as a record. */
#ifndef KF_IMPORT_RECORD_H
#define KF_IMPORT_RECORD_H

#include "common/base/tally.h"
#include "import/answer.h"

/* Which of the given tokens are the document's, which those are, and where they stand. */
typedef struct {
	uint32_t base;             /* 1: a BOS comes first */
	uint32_t n;
	const int32_t *ids;        /* (n) */
	const uint32_t *start;     /* (n + 1) */
} import_match;

/* KF_EDATA with line, token and byte where they are not those of the text. */
kf_status import_match_tokens(const import_answer *a, const import_names *names, const kf_corpus_rec *doc, kf_arena *arena,
	import_match *out, kf_err *err) KF_MUST_CHECK;

/* Counts, over all documents (import.h). */
typedef struct { double documents, tokens, positions, full, candidates, nameless, beyond; } import_count;

/* a and doc as a record with k candidates a position, in arena. count may be NULL. */
kf_status import_record(const import_answer *a, const import_names *names, const kf_corpus_rec *doc, uint32_t k, kf_arena *arena,
	kf_logits_rec *out, import_count *count, kf_err *err) KF_MUST_CHECK;

#endif
