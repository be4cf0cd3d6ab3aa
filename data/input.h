/* Where text comes from: files of text, JSONL files, folders, standard input; gzip and zstd are unpacked (data/textfile.h). */
#ifndef KF_DATA_INPUT_H
#define KF_DATA_INPUT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/status.h"

typedef enum { KF_FORMAT_AUTO, KF_FORMAT_TEXT, KF_FORMAT_JSONL } kf_text_format;

#define KF_ID_MAX 4096     /* bytes of a document's id */
#define KF_DOMAIN_MAX 256  /* bytes of a domain's name */
#define KF_LINE_MAX ((size_t)1 << 30) /* bytes of a JSONL line */

/* A document as it was found. Everything is borrowed for the call. */
typedef struct {
	const char *id;        /* the record's "id"; else FILE, or FILE:LINE of a JSONL file */
	const char *domain;    /* the record's "domain", or NULL */
	const char *split;     /* the record's "split", or NULL */
	const char *where;     /* for messages: "FILE" or "FILE, line N" */
	int operand;           /* the path it was found at or below */
	const uint8_t *text;   /* NULL: a conversation; of a record whose "text" is null, or whose messages are and who has none, empty */
	size_t n;
	const json_t *messages;/* the record's "messages" or "conversations", or NULL */
	bool record;           /* of JSON Lines; else a file that is a text */
} kf_found;

typedef kf_status (*kf_found_fn)(void *arg, const kf_found *doc, kf_err *err);

/* A record that is none, of which err says what is wrong. KF_OK: it is passed over. */
typedef kf_status (*kf_bad_fn)(void *arg, kf_err *err);

typedef struct kf_inputs kf_inputs;

/* paths (n), at most 64: files, folders (searched through, in order of the names; files that are
 * empty or not text, and names that begin with a dot, are left out there), "-" for standard
 * input (copied to a temporary file, since it is read twice). AUTO: a name ending in .jsonl or .ndjson,
 * with .gz or .zst behind it, is JSONL; .json is JSONL or a list of records where its first record is a document or a conversation; anything else is text. Standard
 * input is JSONL when it begins with '{', and a list by its first item. */
kf_status kf_inputs_open(const char *const *paths, int n, kf_text_format format, kf_inputs **out,
	kf_err *err) KF_MUST_CHECK;
void kf_inputs_close(kf_inputs *in);               /* accepts NULL */
int kf_inputs_files(const kf_inputs *in);
int kf_inputs_left_out(const kf_inputs *in);       /* files that were empty or blank, and what in folders is no file: links, shard sets */
/* How many files in folders are not text, and how many called .json are taken for a text, as they hold no records; *name (borrowed) is that of the first. */
int kf_inputs_no_text(const kf_inputs *in, const char **name);
int kf_inputs_plain(const kf_inputs *in, const char **name);
/* How many files are there more than once, by whatever names; *name (borrowed) is that of one of them. */
int kf_inputs_again(const kf_inputs *in, const char **name);
uint64_t kf_inputs_bytes(const kf_inputs *in);

/* Call fn for each document, in order; progress (may be NULL) is told of bytes as they are read. Blank
 * lines of a JSONL file are passed over. A record that is not what it should be is KF_EDATA with file and line, for
 * bad, and with bad NULL for the caller. */
kf_status kf_inputs_each(const kf_inputs *in, kf_found_fn fn, kf_bad_fn bad, void (*progress)(void *arg, size_t bytes),
	void *arg, kf_err *err) KF_MUST_CHECK;

#endif
