#include "data/input.h"

#include <dirent.h>
#include <errno.h>
#include <jansson.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/file.h"
#include "common/base/stop.h"
#include "data/cut.h"
#include "data/textfile.h"

#define DEPTH_MAX 64    /* folders in folders */
#define SNIFF 8192      /* bytes looked at to tell text from other files */

typedef enum { A_TEXT, PLAIN, LINES, LIST } kind;   /* a document; one called .json; records, a line each; a list of records */

typedef struct {
	char *path;        /* to open */
	char *name;        /* to show */
	kind is;
	int operand;
	dev_t dev;         /* which file it is, whatever its name */
	ino_t ino;
} input_file;

struct kf_inputs {
	input_file *file;
	int n, cap, left_out;
	int again;         /* files that are there more than once, */
	int first_again;   /* and one of them */
	int plain;         /* files of JSON that hold no records, */
	int first_plain;   /* and one of them */
	int no_text;       /* files in folders that are left out for what is in them, */
	char first_no_text[KF_PATH_MAX]; /* and one of them */
	uint64_t bytes;
	int spool;         /* descriptor of the copy of standard input, or -1 */
};

int kf_inputs_files(const kf_inputs *in) { return in->n; }
int kf_inputs_left_out(const kf_inputs *in) { return in->left_out; }

int kf_inputs_no_text(const kf_inputs *in, const char **name)
{
	*name = in->no_text ? in->first_no_text : NULL;
	return in->no_text;
}

int kf_inputs_plain(const kf_inputs *in, const char **name)
{
	*name = in->plain ? in->file[in->first_plain].name : NULL;
	return in->plain;
}

uint64_t kf_inputs_bytes(const kf_inputs *in) { return in->bytes; }

int kf_inputs_again(const kf_inputs *in, const char **name)
{
	*name = in->again ? in->file[in->first_again].name : NULL;
	return in->again;
}

void kf_inputs_close(kf_inputs *in)
{
	if (!in) return;
	for (int i = 0; i < in->n; i++) {
		kf_free(in->file[i].path);
		kf_free(in->file[i].name);
	}
	free(in->file);
	if (in->spool >= 0) close(in->spool);
	kf_free(in);
}

static bool ends_with(const char *s, const char *end)
{
	size_t n = strlen(s), m = strlen(end);

	return n >= m && strcmp(s + n - m, end) == 0;
}

static kf_status add_file(kf_inputs *in, const char *path, const char *name, kind is, int operand, kf_err *err)
{
	input_file *f;
	struct stat st;

	if (stat(path, &st) < 0) return kf_fail_errno(err, "cannot examine %s", path);
	if (in->n == in->cap) {
		int cap = in->cap ? in->cap * 2 : 16;
		input_file *grown = cap < in->cap ? NULL : realloc(in->file, (size_t)cap * sizeof *grown);

		if (!grown) return kf_fail(err, KF_ENOMEM, "out of memory for the names of %d files", in->n);
		in->file = grown;
		in->cap = cap;
	}
	f = &in->file[in->n];
	f->path = kf_strdup(path);
	f->name = kf_strdup(name);
	f->is = is;
	f->dev = st.st_dev;
	f->ino = st.st_ino;
	f->operand = operand;
	if (!f->path || !f->name) {
		kf_free(f->path);
		kf_free(f->name);
		return kf_fail(err, KF_ENOMEM, "out of memory for the name of %s", name);
	}
	in->bytes += (uint64_t)st.st_size;
	if (is == PLAIN && !in->plain++) in->first_plain = in->n;
	in->n++;
	return KF_OK;
}

/* Whether a name has this ending, also before that of a compression. */
static bool is_called(const char *name, const char *ending)
{
	static const char *const packed[] = { "", ".gz", ".zst" };
	char end[16];

	for (size_t i = 0; i < sizeof packed / sizeof *packed; i++) {
		snprintf(end, sizeof end, "%s%s", ending, packed[i]);
		if (ends_with(name, end)) return true;
	}
	return false;
}

/* What a file is by its beginning: *first 0 when it is empty or blank, NO_TEXT when there is a NUL byte, else the first byte that
 * is not white space. */
#define NO_TEXT (-1)
static kf_status look(const char *path, const char *name, int *first, kf_err *err)
{
	kf_textfile *f;
	const uint8_t *p;
	size_t n;
	kf_status rc = kf_textfile_open(path, name, &f, err);

	*first = 0;
	if (rc != KF_OK) return rc;
	if ((rc = kf_textfile_peek(f, SNIFF, &p, &n, err)) == KF_OK && memchr(p, 0, n)) *first = NO_TEXT;
	while (!*first && rc == KF_OK && (rc = kf_textfile_line(f, KF_LINE_MAX, &p, &n, err)) == KF_OK && p)
		if (!kf_text_blank(p, n)) {       /* a blank beginning says nothing yet */
			size_t i = 0;

			while (i < n - 1 && memchr(" \t\r", p[i], 3)) i++;
			*first = memchr(p, 0, n < SNIFF ? n : SNIFF) ? NO_TEXT : p[i];
		}
	kf_textfile_close(f);
	return rc;
}

/* ---- JSON ---- */

/* The number at p, one that jansson cannot hold made one that it can, of the same form and length: what is no JSON stays none. No whole number
 * that fits changes. Returns where it ends. */
static char *fit_number(char *p)
{
	size_t sign = *p == '-', digits = strspn(p + sign, "0123456789"), mantissa = strspn(p, "0123456789+-."), n = mantissa;

	for (n += strspn(p + n, "0123456789+-.eE"); mantissa < n; mantissa++)   /* an exponent: 0 */
		if (p[mantissa] >= '1' && p[mantissa] <= '9') p[mantissa] = '0';
	if (sign + digits == n && digits > 18 && p[sign] != '0') {
		errno = 0;
		strtoll(p, NULL, 10);
		if (errno == ERANGE) p[sign + 1] = '.';
	}
	return p + n;
}

/* A line as JSON. Members that nobody asks for may have numbers of any size: unsigned hashes, say. Of those that are too large only the form is
 * kept; a whole one becomes one that is not, which is nothing that is asked for. */
static kf_status parse_line(const uint8_t *line, size_t n, const char *where, json_t **out, kf_err *err)
{
	const size_t flags = JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES;
	json_error_t je;

	/* jansson builds a tree by recursion, to a depth of its own that it checks. */
	*out = json_loadb((const char *)line, n, flags, &je);
	if (!*out && json_error_code(&je) == json_error_numeric_overflow) {
		char *copy = kf_alloc(n + 1, 1), *end = copy + n;

		if (!copy) return kf_fail(err, KF_ENOMEM, "%s: out of memory for its numbers", where);
		memcpy(copy, line, n);
		*end = 0;
		for (char *p = copy; p < end;) {
			if (*p == '"') {
				for (p++; p < end && *p != '"'; p++) p += *p == '\\' && p + 1 < end;
				p += p < end;
			} else {
				p = *p == '-' || (*p >= '0' && *p <= '9') ? fit_number(p) : p + 1;
			}
		}
		*out = json_loadb(copy, n, flags, &je);
		kf_free(copy);
	}
	return *out ? KF_OK : kf_fail(err, KF_EDATA, "%s: not valid JSON: %s (byte %d)", where, je.text, je.position);
}

/* Whether a record has one of the members that hold a document, if only as null: an empty one then. */
static bool may_be_empty(const json_t *record)
{
	return json_object_get(record, "text") || json_object_get(record, "messages") || json_object_get(record, "conversations");
}

/* The next item of a list, p (n), of which *at bytes are behind us: what stands before the next comma, or the end, of this depth, whatever it is. item NULL
 * after the last; KF_EDATA where the list does not end, or something follows it. */
static kf_status next_item(const uint8_t *p, size_t n, size_t *at, const char *name, const uint8_t **item, size_t *len, kf_err *err)
{
	size_t i = *at, depth = 0;
	bool first = !i;

	while (i < n && memchr(" \t\r\n", p[i], 4)) i++;
	if (first && i < n && p[i] == '[') {
		for (i++; i < n && memchr(" \t\r\n", p[i], 4);) i++;
	} else if (i < n && p[i] == ',') {
		i++;
		first = false;
	}
	*item = NULL;
	if (i < n && p[i] == ']' && (first || p[*at] == ']')) {
		for (i++; i < n && memchr(" \t\r\n", p[i], 4);) i++;
		return i == n ? KF_OK : kf_fail(err, KF_EDATA, "%s: something follows the list of its records, %zu bytes into it", name, i);
	}
	*item = p + i;
	for (; i < n; i++) {
		if (p[i] == '"') {
			for (i++; i < n && p[i] != '"'; i++) i += p[i] == '\\';
		} else if (p[i] == '{' || p[i] == '[') {
			depth++;
		} else if (depth && (p[i] == '}' || p[i] == ']')) {
			depth--;
		} else if (!depth && (p[i] == ',' || p[i] == ']')) {
			break;
		}
	}
	if (i >= n) return kf_fail(err, KF_EDATA, "%s: the list of its records does not end: is the file whole?", name);
	*len = (size_t)(p + i - *item);
	*at = i;
	return KF_OK;
}

/* Whether a file of JSON holds records by its first: an item of a list, or a line. */
static kf_status holds_records(const char *path, const char *name, bool list, bool *yes, kf_err *err)
{
	kf_textfile *f;
	const uint8_t *p = NULL, *head;
	size_t n, at;
	json_t *record = NULL;
	kf_err ignored;
	kf_status rc = kf_textfile_open(path, name, &f, err);

	*yes = false;
	if (rc != KF_OK) return rc;
	if (list) {
		/* as much of it as its first item takes */
		for (size_t most = SNIFF; (rc = kf_textfile_peek(f, most, &head, &n, err)) == KF_OK; most *= 2) {
			const bool all = n < most;

			at = 0;
			if (next_item(head, n, &at, name, &p, &n, &ignored) == KF_OK) break;
			p = NULL;
			if (all) break;
		}
	} else {
		do rc = kf_textfile_line(f, KF_LINE_MAX, &p, &n, err);
		while (rc == KF_OK && p && kf_text_blank(p, n));
	}
	if (rc == KF_OK && p && parse_line(p, n, name, &record, &ignored) == KF_OK) *yes = json_is_object(record) && may_be_empty(record);
	json_decref(record);
	kf_textfile_close(f);
	return rc;
}

/* What a file holds: as it is told, or by the ending of its name; JSON, and standard input, by what it begins with. */
static kf_status kind_of(const char *path, const char *name, bool piped, kf_text_format format, int first, kind *out, kf_err *err)
{
	const bool lines = format == KF_FORMAT_JSONL || (format == KF_FORMAT_AUTO && (is_called(name, ".jsonl") || is_called(name, ".ndjson") || (piped && first == '{')));
	bool records = false;
	kf_status rc = KF_OK;

	*out = A_TEXT;
	if (lines || (format == KF_FORMAT_AUTO && (piped || is_called(name, ".json")) && (first == '[' || first == '{'))) {
		if (!lines && (rc = holds_records(path, name, first == '[', &records, err)) != KF_OK) return rc;
		if (lines || records) *out = first == '[' ? LIST : LINES;
		else if (!piped) *out = PLAIN;
	}
	return rc;
}

/* ---- folders ---- */

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void free_names(char **name, size_t n)
{
	for (size_t i = 0; i < n; i++) kf_free(name[i]);
	free(name);
}

static kf_status list_folder(const char *path, char ***names, size_t *count, kf_err *err)
{
	DIR *dir = opendir(path);
	struct dirent *e;
	char **name = NULL;
	size_t n = 0, cap = 0;
	kf_status rc = KF_OK;

	if (!dir) return kf_fail_errno(err, "cannot open folder %s", path);
	while (errno = 0, (e = readdir(dir))) {
		if (e->d_name[0] == '.') continue;
		if (n == cap) {
			char **grown = realloc(name, (cap = cap ? cap * 2 : 64) * sizeof *grown);

			if (!grown) {
				rc = kf_fail(err, KF_ENOMEM, "out of memory for the names in folder %s", path);
				goto out;
			}
			name = grown;
		}
		if (!(name[n] = kf_strdup(e->d_name))) {
			rc = kf_fail(err, KF_ENOMEM, "out of memory for the names in folder %s", path);
			goto out;
		}
		n++;
	}
	if (errno) rc = kf_fail_errno(err, "cannot read folder %s", path);
out:
	closedir(dir);
	if (rc != KF_OK) {
		free_names(name, n);
		return rc;
	}
	if (n) qsort(name, n, sizeof *name, by_name);
	*names = name;
	*count = n;
	return KF_OK;
}

/* Whether a folder is a shard set, or one that is being made. */
static bool holds_set(const char *dir)
{
	static const char *const names[] = { "manifest.json", "manifest.part.json" };
	char path[KF_PATH_MAX], head[64];

	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		FILE *f = kf_path_join(path, dir, names[i], NULL) == KF_OK ? fopen(path, "rbe") : NULL;
		size_t n = f ? fread(head, 1, sizeof head - 1, f) : 0;

		if (f) fclose(f);
		head[n] = 0;
		if (strstr(head, "\"kfuse\"")) return true;
	}
	return false;
}

static kf_status add_folder(kf_inputs *in, const char *path, kf_text_format format, int operand, int depth,
	kf_err *err)
{
	char **name = NULL, sub[KF_PATH_MAX];
	size_t n = 0;
	kf_status rc;

	if (depth > DEPTH_MAX)
		return kf_fail(err, KF_EINVAL, "%s: folders are more than %d deep", path, DEPTH_MAX);
	if ((rc = list_folder(path, &name, &n, err)) != KF_OK) return rc;
	for (size_t i = 0; i < n && rc == KF_OK; i++) {
		struct stat st, link;
		int first;

		if ((rc = kf_path_join(sub, path, name[i], err)) != KF_OK) break;
		if (lstat(sub, &link) < 0 || (stat(sub, &st) < 0 && !S_ISLNK(link.st_mode))) {
			rc = kf_fail_errno(err, "cannot examine %s", sub);
		} else if (S_ISDIR(link.st_mode)) {
			if (holds_set(sub)) in->left_out++; /* an --out among the texts, say: no text */
			else rc = add_folder(in, sub, format, operand, depth + 1, err);
		} else if (stat(sub, &st) < 0 || !S_ISREG(st.st_mode)) {
			in->left_out++; /* links to nowhere and to folders (which may go in circles), devices, pipes */
		} else if ((rc = look(sub, sub, &first, err)) == KF_OK) {
			kind is;

			if (first == NO_TEXT && !in->no_text++) snprintf(in->first_no_text, sizeof in->first_no_text, "%s", sub);
			else if (first == 0) in->left_out++;
			if (first <= 0) continue;
			if ((rc = kind_of(sub, sub, false, format, first, &is, err)) == KF_OK) rc = add_file(in, sub, sub, is, operand, err);
		}
	}
	free_names(name, n);
	return rc;
}

static kf_status no_text(const char *name, kf_err *err)
{
	return kf_fail(err, KF_EDATA, "%s is no text: there is a NUL byte in it (compressed: gzip and zstd are unpacked, others and archives are not)", name);
}

/* ---- standard input ---- */

static kf_status spool_stdin(kf_inputs *in, kf_text_format format, int operand, kf_err *err)
{
	const char *dir = getenv("TMPDIR");
	char path[KF_PATH_MAX], block[65536];
	ssize_t got;
	int first;
	kind is;
	kf_status rc;

	if (in->spool >= 0) return kf_fail(err, KF_EINVAL, "standard input (-) is given twice");
	if ((rc = kf_path_join(path, dir && *dir ? dir : "/tmp", "kf-prepare.XXXXXX", err)) != KF_OK) return rc;
	if ((in->spool = mkstemp(path)) < 0)
		return kf_fail_errno(err, "cannot create a temporary file %s for standard input", path);
	unlink(path);
	for (;;) {
		struct pollfd ready = { 0, POLLIN, 0 };

		/* a read would go on after a signal */
		if ((rc = kf_stop_check(err)) != KF_OK) return rc;
		if (poll(&ready, 1, 500) <= 0) continue;
		if ((got = read(0, block, sizeof block)) == 0) break;
		if (got < 0 && errno == EINTR) continue;
		if (got < 0) return kf_fail_errno(err, "cannot read standard input");
		for (ssize_t put = 0, w; put < got; put += w) {
			if ((w = write(in->spool, block + put, (size_t)(got - put))) < 0) {
				if (errno != EINTR)
					return kf_fail_errno(err, "cannot write the temporary copy of standard input (%s)", path);
				w = 0;
			}
		}
	}
	snprintf(path, sizeof path, "/proc/self/fd/%d", in->spool);
	if ((rc = look(path, "standard input", &first, err)) != KF_OK) return rc;
	if (first == NO_TEXT) return no_text("standard input", err);
	if ((rc = kind_of(path, "standard input", true, format, first, &is, err)) != KF_OK) return rc;
	return add_file(in, path, "standard input", is, operand, err);
}

/* ---- opening ---- */

static int by_file(const void *x, const void *y, void *arg)
{
	const input_file *file = arg;
	const int i = *(const int *)x, j = *(const int *)y;
	const input_file *a = &file[i], *b = &file[j];

	if (a->dev != b->dev) return a->dev < b->dev ? -1 : 1;
	if (a->ino != b->ino) return a->ino < b->ino ? -1 : 1;
	return i < j ? -1 : i > j;
}

static kf_status find_again(kf_inputs *in, kf_err *err)
{
	int *order = kf_alloc((size_t)in->n + 1, sizeof *order);
	bool counted = false;

	if (!order) return kf_fail(err, KF_ENOMEM, "out of memory for the order of %d files", in->n);
	for (int i = 0; i < in->n; i++) order[i] = i;
	qsort_r(order, (size_t)in->n, sizeof *order, by_file, in->file);
	for (int i = 1; i < in->n; i++) {
		const input_file *a = &in->file[order[i - 1]], *b = &in->file[order[i]];
		const bool same = a->dev == b->dev && a->ino == b->ino;

		if (same && !counted && (!in->again++ || order[i - 1] < in->first_again)) in->first_again = order[i - 1];
		counted = same;
	}
	kf_free(order);
	return KF_OK;
}

kf_status kf_inputs_open(const char *const *paths, int n, kf_text_format format, kf_inputs **out, kf_err *err)
{
	kf_inputs *in = kf_zalloc(1, sizeof *in);
	kf_status rc = KF_OK;

	*out = NULL;
	if (!in) return kf_fail(err, KF_ENOMEM, "out of memory");
	in->spool = -1;
	for (int i = 0; i < n && rc == KF_OK; i++) {
		struct stat st;
		int first;

		if (strcmp(paths[i], "-") == 0) rc = spool_stdin(in, format, i, err);
		else if (stat(paths[i], &st) < 0) rc = kf_fail_errno(err, "cannot examine %s", paths[i]);
		else if (S_ISDIR(st.st_mode) && holds_set(paths[i]))
			rc = kf_fail(err, KF_EINVAL, "%s is a shard set, not text; leave it out (kf-prepare reads what sets are made from, not sets)", paths[i]);
		else if (S_ISDIR(st.st_mode)) rc = add_folder(in, paths[i], format, i, 0, err);
		else if (S_ISREG(st.st_mode)) {
			kind is;

			if ((rc = look(paths[i], paths[i], &first, err)) != KF_OK || (rc = kind_of(paths[i], paths[i], false, format, first, &is, err)) != KF_OK) break;
			if (first == NO_TEXT) rc = no_text(paths[i], err);
			else if (first == 0 && is == LINES) in->left_out++;   /* of many, one may have no record; a document without text is an error */
			else rc = add_file(in, paths[i], paths[i], is, i, err);
		} else
			rc = kf_fail(err, KF_EINVAL, "%s is neither a file nor a folder (for a pipe, use - and standard "
				"input)", paths[i]);
	}
	if (rc == KF_OK) rc = find_again(in, err);
	if (rc != KF_OK) {
		kf_inputs_close(in);
		return rc;
	}
	*out = in;
	return KF_OK;
}

/* ---- documents ---- */

/* A string member of a JSONL record: NULL when absent or null. */
static kf_status member(json_t *record, const char *key, size_t max, const char *where, const char **out,
	kf_err *err)
{
	json_t *v = json_object_get(record, key);

	*out = NULL;
	if (!v || json_is_null(v)) return KF_OK;
	if (!json_is_string(v)) return kf_fail(err, KF_EDATA, "%s: \"%s\" is not a string", where, key);
	if (json_string_length(v) > max || strlen(json_string_value(v)) != json_string_length(v))
		return kf_fail(err, KF_EDATA, "%s: \"%s\" is longer than %zu bytes or has a NUL character", where,
			key, max);
	*out = json_string_value(v);
	return KF_OK;
}

/* A member; one that is null is not there, as in tables that were exported. */
static json_t *given(json_t *record, const char *key)
{
	json_t *v = json_object_get(record, key);

	return json_is_null(v) ? NULL : v;
}

/* A line's record, to be released with json_decref also after an error. doc borrows of it, of where and of id. */
static kf_status read_record(const input_file *f, uint64_t line, const uint8_t *p, size_t n, const char *where,
	char id[KF_PATH_MAX + 32], json_t **out, kf_found *doc, kf_err *err)
{
	json_t *record, *v;
	kf_status rc;

	if ((rc = parse_line(p, n, where, out, err)) != KF_OK) return rc;
	record = *out;
	if (!json_is_object(record))
		return kf_fail(err, KF_EDATA, "%s: the record is not a JSON object: {\"text\": …}", where);
	if (!(doc->messages = given(record, "messages"))) doc->messages = given(record, "conversations");
	v = given(record, "text");
	if (!v && !doc->messages && !may_be_empty(record)) return kf_fail(err, KF_EDATA, "%s: the record has no \"text\", \"messages\" or \"conversations\"", where);
	if (v && doc->messages)
		return kf_fail(err, KF_EDATA, "%s: the record has both \"text\" and messages; leave one of them out", where);
	if (v && !json_is_string(v)) return kf_fail(err, KF_EDATA, "%s: \"text\" is not a string", where);
	if (!doc->messages) doc->text = v ? (const uint8_t *)json_string_value(v) : (const uint8_t *)"";
	if (v) doc->n = json_string_length(v);
	if ((rc = member(record, "domain", KF_DOMAIN_MAX, where, &doc->domain, err)) != KF_OK) return rc;
	if ((rc = member(record, "split", KF_DOMAIN_MAX, where, &doc->split, err)) != KF_OK) return rc;
	v = json_object_get(record, "id");
	if (json_is_integer(v)) {
		snprintf(id, KF_PATH_MAX + 32, "%lld", (long long)json_integer_value(v));
		doc->id = id;
	} else if (json_is_real(v)) {
		return kf_fail(err, KF_EDATA, "%s: \"id\" is a number that is not whole, or too large; make it a string", where);
	} else if ((rc = member(record, "id", KF_ID_MAX, where, &doc->id, err)) != KF_OK) {
		return rc;
	}
	if (!doc->id || !*doc->id) {
		snprintf(id, KF_PATH_MAX + 32, "%s:%llu", f->name, (unsigned long long)line);
		doc->id = id;
	}
	return KF_OK;
}

static kf_status one_record(const input_file *f, uint64_t line, const uint8_t *p, size_t n, kf_found_fn fn, kf_bad_fn bad,
	void *arg, kf_err *err)
{
	char where[KF_PATH_MAX + 64], id[KF_PATH_MAX + 32];
	json_t *record = NULL;
	kf_found doc = { .where = where, .operand = f->operand, .record = true };
	kf_status rc;

	snprintf(where, sizeof where, "%s, %s %llu", f->name, f->is == LIST ? "item" : "line", (unsigned long long)line);
	rc = read_record(f, line, p, n, where, id, &record, &doc, err);
	if (rc == KF_OK) rc = fn(arg, &doc, err);
	else if (bad) rc = bad(arg, err);
	json_decref(record);
	return rc;
}

static bool blank_line(const uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (p[i] != ' ' && p[i] != '\t' && p[i] != '\r') return false;
	return true;
}

static kf_status each_of_file(const input_file *f, kf_found_fn fn, kf_bad_fn bad, void (*progress)(void *arg, size_t bytes),
	void *arg, kf_err *err)
{
	kf_textfile *t;
	const uint8_t *p;
	size_t n;
	kf_status rc = kf_textfile_open(f->path, f->name, &t, err);

	if (rc != KF_OK) return rc;
	if (f->is == LIST && (rc = kf_textfile_all(t, KF_LINE_MAX, &p, &n, err)) == KF_OK) {
		const uint8_t *item;
		size_t at = 0, len;

		for (uint64_t i = 1; rc == KF_OK && (rc = next_item(p, n, &at, f->name, &item, &len, err)) == KF_OK && item; i++)
			rc = one_record(f, i, item, len, fn, bad, arg, err);
	}
	if (f->is <= PLAIN && (rc = kf_textfile_all(t, KF_LINE_MAX, &p, &n, err)) == KF_OK) {
		kf_found doc = { .id = f->name, .where = f->name, .operand = f->operand, .text = p, .n = n };

		rc = fn(arg, &doc, err);
	}
	for (uint64_t line = 1; f->is == LINES && rc == KF_OK; line++) {
		if ((rc = kf_textfile_line(t, KF_LINE_MAX, &p, &n, err)) != KF_OK || !p) break;
		if (!blank_line(p, n)) rc = one_record(f, line, p, n, fn, bad, arg, err);
		if (progress) progress(arg, kf_textfile_read(t));
	}
	if (progress) progress(arg, kf_textfile_read(t));
	kf_textfile_close(t);
	return rc;
}

kf_status kf_inputs_each(const kf_inputs *in, kf_found_fn fn, kf_bad_fn bad, void (*progress)(void *arg, size_t bytes),
	void *arg, kf_err *err)
{
	kf_status rc = KF_OK;

	for (int i = 0; i < in->n && rc == KF_OK; i++) rc = each_of_file(&in->file[i], fn, bad, progress, arg, err);
	return rc;
}
