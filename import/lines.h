/* Inside import/: which line of which file is about which document. */
#ifndef KF_IMPORT_LINES_H
#define KF_IMPORT_LINES_H

#include "common/base/file.h"
#include "common/store/record.h"

typedef struct {
	char *path;
	kf_map map;
} import_file;

/* A document of the corpus, and its line. */
typedef struct {
	uint64_t doc, id, text;    /* number; hashes of id and text */
	uint64_t at, size, line;   /* in its file; line 0: none found yet */
	uint32_t piece;
	int32_t file;
	bool by_text;              /* it was found by its text only */
} import_doc;

typedef struct {
	import_file *file;
	int n_files;
	import_doc *doc;           /* (n) in order of their numbers */
	size_t n;
	uint32_t *by_id, *by_text; /* (n) places in doc, in order of the hashes */
} import_lines;

/* Open files; a folder stands for its *.jsonl, in order of their names. */
kf_status import_lines_open(import_lines *l, const char *const *paths, int n, kf_err *err) KF_MUST_CHECK;
kf_fp import_lines_fp(const import_lines *l);   /* of the content of all files, in order */
/* Find every document's line. A line says which document by "doc", its number; or "custom_id" or "id" (and "piece" where it
 * was cut); or "text", also that which a completion echoes. KF_EDATA for lines that do not or say one twice, and
 * when documents are without. */
kf_status import_lines_index(import_lines *l, kf_set *corpus, kf_err *err) KF_MUST_CHECK;
void import_lines_close(import_lines *l);

const import_doc *import_lines_of(const import_lines *l, uint64_t doc);  /* NULL: no such document */
/* "FILE, line 7" */
void import_lines_where(const import_lines *l, int file, uint64_t line, char out[KF_PATH_MAX + 32]);

#endif
