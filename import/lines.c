#include "import/lines.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/base/packing.h"
#include "common/base/stop.h"
#include "common/store/json.h"
#include "import/answer.h"

#define LINE_MAX_BYTES ((size_t)1 << 30)

/* ---- files ---- */

static kf_status add_file(import_lines *l, const char *path, kf_err *err)
{
	import_file *grown = realloc(l->file, ((size_t)l->n_files + 1) * sizeof *grown);
	kf_status rc;

	if (!grown) return kf_fail(err, KF_ENOMEM, "no memory for the names of %d files", l->n_files);
	l->file = grown;
	grown += l->n_files;
	*grown = (import_file){ .path = kf_strdup(path) };
	if (!grown->path) return kf_fail(err, KF_ENOMEM, "no memory for a file's name");
	l->n_files++;
	if (strcmp(path, "-") == 0)
		return kf_fail(err, KF_EINVAL, "records are not read from standard input, as they are read twice; write them to a file, and name that");
	if ((rc = kf_map_open(&grown->map, path, err)) != KF_OK) return rc;
	if (kf_packing_of(grown->map.data, grown->map.size) != KF_PACKING_NONE)
		return kf_fail(err, KF_EUNSUPPORTED, "%s is packed by gzip or zstd; unpack it first", path);
	return KF_OK;
}

static int is_jsonl(const struct dirent *e)
{
	size_t n = strlen(e->d_name);

	return e->d_name[0] != '.' && n > 6 && strcmp(e->d_name + n - 6, ".jsonl") == 0;
}

static kf_status add_folder(import_lines *l, const char *path, kf_err *err)
{
	struct dirent **e;
	char name[KF_PATH_MAX];
	int n = scandir(path, &e, is_jsonl, alphasort);
	kf_status rc = n == 0 ? kf_fail(err, KF_ENOTFOUND, "%s has no file *.jsonl", path) : KF_OK;

	if (n < 0) return kf_fail_errno(err, "cannot read folder %s", path);
	for (int i = 0; i < n; i++) {
		if (rc == KF_OK && (rc = kf_path_join(name, path, e[i]->d_name, err)) == KF_OK) rc = add_file(l, name, err);
		free(e[i]);
	}
	free(e);
	return rc;
}

kf_status import_lines_open(import_lines *l, const char *const *paths, int n, kf_err *err)
{
	kf_status rc = KF_OK;

	for (int i = 0; i < n && rc == KF_OK; i++) rc = kf_is_dir(paths[i]) ? add_folder(l, paths[i], err) : add_file(l, paths[i], err);
	return rc;
}

kf_fp import_lines_fp(const import_lines *l)
{
	kf_fp all[2] = { { 0, 0 }, { 0, 0 } };

	for (int i = 0; i < l->n_files; i++) {
		all[1] = kf_fp_of(l->file[i].map.data, l->file[i].map.size);
		all[0] = kf_fp_of(all, sizeof all);
	}
	return all[0];
}

void import_lines_close(import_lines *l)
{
	for (int i = 0; i < l->n_files; i++) {
		kf_map_close(&l->file[i].map);
		kf_free(l->file[i].path);
	}
	free(l->file);
	free(l->doc);
	free(l->by_id);
	free(l->by_text);
	*l = (import_lines){ .file = NULL };
}

void import_lines_where(const import_lines *l, int file, uint64_t line, char out[KF_PATH_MAX + 32])
{
	snprintf(out, KF_PATH_MAX + 32, "%s, line %llu", l->file[file].path, (unsigned long long)line);
}

/* ---- the corpus ---- */

static int by_doc(const void *x, const void *y)
{
	const import_doc *a = x, *b = y;

	return a->doc < b->doc ? -1 : a->doc > b->doc;
}

static int id_order(const void *x, const void *y, void *arg)
{
	const import_doc *d = arg;
	uint32_t i = *(const uint32_t *)x, j = *(const uint32_t *)y;

	if (d[i].id != d[j].id) return d[i].id < d[j].id ? -1 : 1;
	if (d[i].piece != d[j].piece) return d[i].piece < d[j].piece ? -1 : 1;
	return i < j ? -1 : i > j;
}

static int text_order(const void *x, const void *y, void *arg)
{
	const import_doc *d = arg;
	uint32_t i = *(const uint32_t *)x, j = *(const uint32_t *)y;

	if (d[i].text != d[j].text) return d[i].text < d[j].text ? -1 : 1;
	return i < j ? -1 : i > j;
}

/* An id as JSON has it, where bytes that are not UTF-8 are U+FFFD each (kf_json_string): file names may have some. */
static kf_status hash_id(const char *id, kf_buf *b, uint64_t *out, kf_err *err)
{
	kf_status rc;

	kf_buf_clear(b);
	kf_json_text(b, id, strlen(id));
	if ((rc = kf_buf_check(b, err)) == KF_OK) *out = kf_hash64(b->data, b->len);
	return rc;
}

static kf_status read_corpus(import_lines *l, kf_set *corpus, kf_err *err)
{
	uint64_t docs = kf_set_docs(corpus);
	kf_shard *s = NULL;
	kf_buf id = { 0 };
	kf_arena arena;
	kf_corpus_rec rec;
	kf_status rc = KF_OK;

	if (docs > UINT32_MAX) return kf_fail(err, KF_EUNSUPPORTED, "%s has more documents than can be imported at once", kf_set_dir(corpus));
	l->doc = calloc((size_t)docs + 1, sizeof *l->doc);
	l->by_id = malloc(((size_t)docs + 1) * sizeof *l->by_id);
	l->by_text = malloc(((size_t)docs + 1) * sizeof *l->by_text);
	if (!l->doc || !l->by_id || !l->by_text) return kf_fail(err, KF_ENOMEM, "no memory for an index of %llu documents", (unsigned long long)docs);
	kf_arena_init(&arena);
	for (int i = 0; i < kf_set_shards(corpus) && rc == KF_OK; i++) {
		if ((rc = kf_shard_open(corpus, i, &s, err)) != KF_OK) break;
		while (l->n < docs && (rc = kf_shard_next_corpus(s, &arena, &rec, err)) == KF_OK) {
			import_doc *d = &l->doc[l->n];

			*d = (import_doc){ .doc = rec.head.doc, .piece = rec.head.piece, .text = kf_hash64(rec.text, rec.head.bytes) };
			if ((rc = hash_id(rec.head.id, &id, &d->id, err)) != KF_OK) break;
			l->n++;
			kf_arena_reset(&arena);
		}
		if (rc == KF_END) rc = KF_OK;
		kf_shard_close(s);
	}
	kf_arena_release(&arena);
	kf_buf_release(&id);
	if (rc != KF_OK) return rc;
	qsort(l->doc, l->n, sizeof *l->doc, by_doc);
	for (size_t i = 0; i < l->n; i++) l->by_id[i] = l->by_text[i] = (uint32_t)i;
	qsort_r(l->by_id, l->n, sizeof *l->by_id, id_order, l->doc);
	qsort_r(l->by_text, l->n, sizeof *l->by_text, text_order, l->doc);
	return KF_OK;
}

static import_doc *find_doc(const import_lines *l, uint64_t doc)
{
	import_doc key = { .doc = doc };

	return l->n ? bsearch(&key, l->doc, l->n, sizeof key, by_doc) : NULL;
}

const import_doc *import_lines_of(const import_lines *l, uint64_t doc) { return find_doc(l, doc); }

/* The first place in by_text of a text's hash, and in by_id of an id's, where the pieces from the given one on stand; l->n: none. */
static size_t first_text(const import_lines *l, uint64_t hash)
{
	size_t lo = 0, hi = l->n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (l->doc[l->by_text[mid]].text < hash) lo = mid + 1;
		else hi = mid;
	}
	return lo < l->n && l->doc[l->by_text[lo]].text == hash ? lo : l->n;
}

static size_t first_id(const import_lines *l, uint64_t hash, json_int_t piece)
{
	size_t lo = 0, hi = l->n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		const import_doc *d = &l->doc[l->by_id[mid]];

		if (d->id < hash || (d->id == hash && (json_int_t)d->piece < piece)) lo = mid + 1;
		else hi = mid;
	}
	return lo < l->n && l->doc[l->by_id[lo]].id == hash ? lo : l->n;
}

/* ---- lines ---- */

typedef struct {
	import_lines *l;
	int file;
	uint64_t at, size, line;
	const char *where;
	const json_t *text;        /* the record's own, where it is told by something else */
} place;

static kf_status assign(const place *p, import_doc *d, bool by_text, kf_err *err)
{
	char other[KF_PATH_MAX + 32];

	if (json_is_string(p->text) && d->text != kf_hash64(json_string_value(p->text), json_string_length(p->text)))
		return kf_fail(err, KF_EDATA, "%s: its \"text\" is not that of document %llu: is it of another corpus, or of the text before it was "
			"cut into pieces?", p->where, (unsigned long long)d->doc);
	if (d->line) {
		if (by_text && d->by_text) return KF_OK;   /* the same text again */
		import_lines_where(p->l, d->file, d->line, other);
		return kf_fail(err, KF_EDATA, "%s: document %llu has a record already, in %s", p->where, (unsigned long long)d->doc, other);
	}
	d->file = p->file;
	d->at = p->at;
	d->size = p->size;
	d->line = p->line;
	d->by_text = by_text;
	return KF_OK;
}

/* The document of an id; *found false when the corpus has none. */
static kf_status assign_id(const place *p, const char *id, size_t n, const json_t *piece, bool *found, kf_err *err)
{
	import_lines *l = p->l;
	uint64_t hash = kf_hash64(id, n);
	size_t first = first_id(l, hash, 0);

	*found = first < l->n;
	if (!*found) return KF_OK;
	if (!piece && first + 1 < l->n && l->doc[l->by_id[first + 1]].id == hash)
		return kf_fail(err, KF_EDATA, "%s: the corpus has several documents with id \"%.100s\": say which with \"piece\" or \"doc\"", p->where, id);
	if (piece) first = first_id(l, hash, json_integer_value(piece));
	if (first < l->n) {
		import_doc *d = &l->doc[l->by_id[first]];
		const import_doc *next = first + 1 < l->n ? &l->doc[l->by_id[first + 1]] : NULL;
		const bool found_it = !piece || (json_int_t)d->piece == json_integer_value(piece);

		if (found_it && piece && next && next->id == hash && next->piece == d->piece)
			return kf_fail(err, KF_EDATA, "%s: the corpus has several documents with id \"%.100s\" and piece %u: say which with \"doc\"", p->where, id, d->piece);
		if (found_it) return assign(p, d, false, err);
	}
	return kf_fail(err, KF_EDATA, "%s: the corpus has no piece %lld of document \"%.100s\"", p->where, (long long)json_integer_value(piece), id);
}

static kf_status assign_text(const place *p, const char *text, size_t n, kf_err *err)
{
	import_lines *l = p->l;
	uint64_t hash = kf_hash64(text, n);
	size_t i = first_text(l, hash);
	kf_status rc = KF_OK;

	if (i == l->n) return kf_fail(err, KF_EDATA, "%s: the corpus has no document with this text", p->where);
	if (l->doc[l->by_text[i]].line && l->doc[l->by_text[i]].by_text) return KF_OK;   /* all of them have one already */
	for (; i < l->n && rc == KF_OK && l->doc[l->by_text[i]].text == hash; i++) rc = assign(p, &l->doc[l->by_text[i]], true, err);
	return rc;
}

/* By what a completion echoes: the document's text, or, where a token was generated, too (max_tokens 1), the text and that token's. */
static kf_status assign_echo(const place *p, const json_t *choice, const json_t *echo, kf_err *err)
{
	const char *text = json_string_value(echo);
	const json_t *tokens = json_object_get(json_object_get(choice, "logprobs"), "tokens");
	const json_t *last = json_array_get(tokens, json_array_size(tokens) - 1);
	size_t n = json_string_length(echo), m = json_string_length(last);

	if (first_text(p->l, kf_hash64(text, n)) == p->l->n && m && m < n && memcmp(text + n - m, json_string_value(last), m) == 0 &&
	    first_text(p->l, kf_hash64(text, n - m)) < p->l->n)
		n -= m;
	return assign_text(p, text, n, err);
}

static kf_status reference(const place *p, const json_t *o, kf_err *err)
{
	const json_t *doc = json_object_get(o, "doc"), *custom = json_object_get(o, "custom_id"), *id = json_object_get(o, "id");
	const json_t *text = json_object_get(o, "text"), *piece = json_object_get(o, "piece"), *body, *choice;
	import_doc *d;
	unsigned long long n;
	char more, number[32];
	const char *name = json_string_value(id);
	size_t n_name = json_string_length(id);
	bool found;
	kf_status rc;

	if (json_is_integer(id)) { /* as kf-prepare writes them */
		n_name = (size_t)snprintf(number, sizeof number, "%lld", (long long)json_integer_value(id));
		name = number;
	}
	if (json_is_null(piece)) piece = NULL;
	if (piece && !json_is_integer(piece)) return kf_fail(err, KF_EDATA, "%s: \"piece\" is not a whole number", p->where);
	if (doc && !json_is_null(doc)) {
		if (!json_is_integer(doc) || json_integer_value(doc) < 0) return kf_fail(err, KF_EDATA, "%s: \"doc\" is not a document's number", p->where);
		if (!(d = find_doc(p->l, (uint64_t)json_integer_value(doc))))
			return kf_fail(err, KF_EDATA, "%s: the corpus has no document %lld", p->where, (long long)json_integer_value(doc));
		/* what kf-export wrote says both: another corpus is found out here */
		if (name && !json_object_get(o, "choices") && !custom && d->id != kf_hash64(name, n_name))
			return kf_fail(err, KF_EDATA, "%s: document %llu of the corpus has another id than \"%.100s\": is it of another corpus?", p->where,
				(unsigned long long)d->doc, name);
		return assign(p, d, false, err);
	}
	if (json_is_string(custom)) {
		if ((rc = assign_id(p, json_string_value(custom), json_string_length(custom), piece, &found, err)) != KF_OK || found) return rc;
		if (sscanf(json_string_value(custom), "doc-%llu%c", &n, &more) == 1 && (d = find_doc(p->l, n))) return assign(p, d, false, err);
		return kf_fail(err, KF_EDATA, "%s: the corpus has no document \"%.100s\"", p->where, json_string_value(custom));
	}
	/* a response has an id of its own */
	if (n_name && !json_object_get(o, "choices")) {
		if ((rc = assign_id(p, name, n_name, piece, &found, err)) != KF_OK || found) return rc;
		return kf_fail(err, KF_EDATA, "%s: the corpus has no document \"%.100s\"", p->where, name);
	}
	if (json_is_string(text)) return assign_text(p, json_string_value(text), json_string_length(text), err);
	if ((rc = import_body(o, p->where, &body, &choice, err)) != KF_OK) return rc;
	text = json_object_get(choice, "text");
	if (json_is_string(text) && json_string_length(text)) return assign_echo(p, choice, text, err);
	return kf_fail(err, KF_EDATA, "%s: the record does not say which document it is of: \"doc\", \"custom_id\", \"id\" or \"text\"", p->where);
}

static kf_status one_line(const place *p, kf_err *err)
{
	json_t *o;
	kf_status rc;

	if (p->size > LINE_MAX_BYTES) return kf_fail(err, KF_EDATA, "%s: the line is longer than %zu bytes", p->where, LINE_MAX_BYTES);
	if ((rc = import_parse(p->l->file[p->file].map.data + p->at, p->size, p->where, &o, err)) != KF_OK) return rc;
	rc = json_is_object(o) ? reference(&(place){ p->l, p->file, p->at, p->size, p->line, p->where, json_object_get(o, "text") }, o, err) : kf_fail(err, KF_EDATA, "%s: the record is not a JSON object", p->where);
	json_decref(o);
	return rc;
}

static kf_status index_file(import_lines *l, int file, kf_err *err)
{
	const kf_map *map = &l->file[file].map;
	char where[KF_PATH_MAX + 32];
	place p = { .l = l, .file = file, .line = 1, .where = where };
	kf_status rc = KF_OK;

	if (map->size >= 3 && memcmp(map->data, "\xef\xbb\xbf", 3) == 0) p.at = 3; /* a byte order mark */
	for (; p.at < map->size && rc == KF_OK; p.at += p.size + 1, p.line++) {
		const uint8_t *s = map->data + p.at, *eol = memchr(s, '\n', map->size - p.at);
		size_t blank = 0;

		p.size = (eol ? (size_t)(eol - map->data) : map->size) - p.at;
		while (blank < p.size && (s[blank] == ' ' || s[blank] == '\t' || s[blank] == '\r')) blank++;
		if (blank == p.size) continue;
		import_lines_where(l, file, p.line, where);
		if ((rc = kf_stop_check(err)) == KF_OK) rc = one_line(&p, err);
	}
	return rc;
}

kf_status import_lines_index(import_lines *l, kf_set *corpus, kf_err *err)
{
	const import_doc *first = NULL;
	uint64_t missing = 0;
	kf_status rc;

	if ((rc = read_corpus(l, corpus, err)) != KF_OK) return rc;
	for (int i = 0; i < l->n_files; i++)
		if ((rc = index_file(l, i, err)) != KF_OK) return rc;
	for (size_t i = 0; i < l->n; i++) {
		if (l->doc[i].line) continue;
		if (!missing++) first = &l->doc[i];
	}
	if (missing)
		return kf_fail(err, KF_EDATA, "%llu of the %zu documents of %s have no record, the first of them document %llu", (unsigned long long)missing,
			l->n, kf_set_dir(corpus), (unsigned long long)first->doc);
	return KF_OK;
}
