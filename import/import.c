#include "import/import.h"

#include <string.h>

#include "common/base/failure.h"
#include "common/model/gguf.h"
#include "common/store/pass.h"
#include "import/lines.h"
#include "import/record.h"

typedef struct {
	const kf_import_opts *o;
	import_lines lines;
	import_names names;
	bool path;                 /* records have masses inside tokens */
	kf_failure *nameless;      /* the first record with a candidate whose name is no token's, which is no failure */
} job;

/* ---- documents ---- */

static kf_status read_line(const job *j, const import_doc *at, const char *where, json_t **out, kf_err *err)
{
	return import_parse(j->lines.file[at->file].map.data + at->at, at->size, where, out, err);
}

static void note_nameless(const job *j, const kf_dochead *head, const import_answer *a)
{
	char shown[49];
	kf_err first;

	(void)kf_fail(&first, KF_EDATA, "%s, token %u: \"%s\"", a->where, a->nameless_row,
		import_shown((const uint8_t *)a->nameless.s, a->nameless.n, shown));
	kf_failure_note(j->nameless, (int)head->doc, KF_EDATA, &first);
}

static kf_status one_document(void *arg, kf_shard *const *in, kf_shard_writer *out, kf_tally *tally, kf_arena *arena,
	uint64_t *tokens, kf_err *err)
{
	const job *j = arg;
	char where[KF_PATH_MAX + 32];
	kf_corpus_rec doc;
	kf_logits_rec rec;
	import_answer answer;
	const import_doc *at;
	json_t *line = NULL;
	import_count *count;
	kf_status rc;

	if ((rc = kf_shard_next_corpus(in[0], arena, &doc, err)) != KF_OK) return rc;
	if (!(at = import_lines_of(&j->lines, doc.head.doc)) || !at->line)
		return kf_fail(err, KF_EDATA, "document %llu has no record", (unsigned long long)doc.head.doc);
	import_lines_where(&j->lines, at->file, at->line, where);
	if ((rc = read_line(j, at, where, &line, err)) != KF_OK) return rc;
	if (!(count = kf_tally_row(tally, ""))) rc = kf_fail(err, KF_ENOMEM, "no memory for statistics");
	if (rc == KF_OK) rc = import_answer_read(line, where, j->o->format, &j->names, arena, &answer, err);
	if (rc == KF_OK) rc = import_record(&answer, &j->names, &doc, (uint32_t)j->o->top_k, arena, &rec, count, err);
	if (rc == KF_OK && rec.has_path != j->path)
		rc = kf_fail(err, KF_EDATA, "%s: the record has %s \"path_nlm\", but that of the first document has: all must, or none", where,
			j->path ? "no" : "a");
	if (rc == KF_OK && answer.nameless.s) note_nameless(j, &doc.head, &answer);
	if (rc == KF_OK && out) rc = kf_context(err, kf_shard_put_logits(out, &rec, err), "%s", where);
	if (rc == KF_OK) *tokens = rec.n;
	json_decref(line);
	return rc;
}

/* ---- what goes in ---- */

static kf_status open_tokenizer(const char *path, kf_tokenizer **out, kf_err *err)
{
	char dir[KF_PATH_MAX];
	const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
	size_t n = strlen(path);
	kf_vocab_spec spec;
	kf_arena arena;
	kf_gguf *g;
	kf_status rc;

	if (kf_is_dir(path)) return kf_tokenizer_open_dir(path, out, err);
	if (n > 5 && strcmp(path + n - 5, ".gguf") == 0) {
		kf_arena_init(&arena);
		if ((rc = kf_gguf_open(path, &g, err)) == KF_OK) {
			if ((rc = kf_gguf_vocab(g, &arena, &spec, err)) == KF_OK)
				rc = kf_context(err, kf_tokenizer_from_spec(&spec, out, err), "%s", path);
			kf_gguf_close(g);
		}
		kf_arena_release(&arena);
		return rc;
	}
	if (!kf_exists(path)) return kf_fail(err, KF_ENOTFOUND, "no such tokenizer: %s", path);
	if (strcmp(base, "tokenizer.json") && strcmp(base, "tokenizer.model"))
		return kf_fail(err, KF_EINVAL, "%s is neither a Hugging Face folder, a tokenizer.json nor a GGUF file", path);
	if ((size_t)(base - path) >= sizeof dir) return kf_fail(err, KF_EINVAL, "path too long: %s", path);
	snprintf(dir, sizeof dir, "%.*s", base == path ? 1 : (int)(base - path), base == path ? "." : path);
	return kf_tokenizer_open_dir(dir, out, err);
}

/* "teacher" of "models/teacher.gguf", "models/teacher/" or "models/teacher/tokenizer.json". */
static void name_of(const kf_import_opts *o, char out[KF_NAME_MAX])
{
	char folder[KF_PATH_MAX];
	size_t n = strlen(o->tokenizer);

	if (o->name) snprintf(out, KF_NAME_MAX, "%s", o->name);
	else if (n > 15 && n < sizeof folder && strcmp(o->tokenizer + n - 15, "/tokenizer.json") == 0 && !kf_is_dir(o->tokenizer)) {
		snprintf(folder, sizeof folder, "%.*s", (int)(n - 15), o->tokenizer);
		kf_path_name(folder, out);
	} else kf_path_name(o->tokenizer, out);
}

/* What the first document's record has, the others must have. */
static kf_status look_at_first(job *j, kf_err *err)
{
	char where[KF_PATH_MAX + 32];
	json_t *line;
	kf_status rc;

	if (!j->lines.n) return KF_OK;
	import_lines_where(&j->lines, j->lines.doc[0].file, j->lines.doc[0].line, where);
	if ((rc = read_line(j, &j->lines.doc[0], where, &line, err)) != KF_OK) return rc;
	j->path = json_is_array(json_object_get(line, "path_nlm"));
	json_decref(line);
	return KF_OK;
}

/* Whether the output is there, made from the same, so that kf_set_begin will say so: nothing needs checking then. */
static bool already(const kf_import_opts *o, const kf_set_input *in, int n_in, int shards, const kf_buf *tokenizer)
{
	const json_t *there;
	char hex[KF_FP_HEX];
	kf_set *set;
	kf_fp fp;
	bool same;

	if (!kf_exists(o->out) || kf_set_open(o->out, KF_SET_LOGITS, &set, NULL) != KF_OK) return false;
	same = kf_set_files(set) && kf_set_shards(set) == shards && json_equal(json_object_get(kf_set_manifest(set), "options"), o->record);
	there = json_object_get(json_object_get(kf_set_manifest(set), "tokenizer"), "fingerprint");
	kf_fp_hex(kf_fp_of(tokenizer->data, tokenizer->len), hex);
	same = same && json_is_string(there) && strcmp(json_string_value(there), hex) == 0;
	for (int i = 0; i < n_in && same; i++)
		same = kf_set_input_fp(set, in[i].role, &fp, NULL) == KF_OK && kf_fp_equal(fp, in[i].fp);
	kf_set_close(set);
	return same;
}

static kf_status check(job *j, kf_set *corpus, kf_pool *pool, kf_import_stats *stats, kf_err *err)
{
	kf_pass pass = { .in = &corpus, .n_in = 1, .parts = 1, .label = "check", .progress = j->o->progress, .doc = one_document, .arg = j };
	kf_tally tally = KF_TALLY(import_count);
	import_count all = { .documents = 0 };
	bool whole;
	kf_status rc;

	if ((rc = kf_pass_run(&pass, pool, &tally, &whole, err)) == KF_OK) {
		kf_tally_total(&tally, &all);
		stats->documents = (uint64_t)all.documents;
		stats->tokens = (uint64_t)all.tokens;
		stats->positions = (uint64_t)all.positions;
		stats->full = (uint64_t)all.full;
		stats->candidates = (uint64_t)all.candidates;
		stats->nameless = (uint64_t)all.nameless;
		stats->beyond = (uint64_t)all.beyond;
		snprintf(stats->first_nameless, sizeof stats->first_nameless, "%s", j->nameless->rc == KF_OK ? "" : j->nameless->err.text);
	}
	kf_tally_release(&tally);
	return rc;
}

kf_status kf_import(const kf_import_opts *o, kf_pool *pool, kf_import_stats *stats, kf_err *err)
{
	kf_failure nameless = KF_FAILURE;
	job j = { .o = o, .nameless = &nameless };
	kf_set *corpus = NULL;
	kf_tokenizer *tokenizer = NULL;
	kf_set_writer *w = NULL;
	kf_buf saved = { 0 };
	kf_tally tally = KF_TALLY(import_count);
	kf_pass pass = { .n_in = 1, .part = o->part, .parts = o->parts, .label = "import", .progress = o->progress, .doc = one_document, .arg = &j };
	kf_set_input in[3];
	json_t *info = NULL;
	char name[KF_NAME_MAX];
	bool whole;
	kf_status rc;

	*stats = (kf_import_stats){ .state = KF_SET_NEW };
	if ((rc = kf_set_open(o->corpus, KF_SET_CORPUS, &corpus, err)) != KF_OK) goto out;
	if ((rc = open_tokenizer(o->tokenizer, &tokenizer, err)) != KF_OK) goto out;
	if ((rc = import_lines_open(&j.lines, o->inputs, o->n_inputs, err)) != KF_OK) goto out;
	in[0] = (kf_set_input){ "corpus", o->corpus, kf_set_fp(corpus) };
	in[1] = (kf_set_input){ "records", o->inputs[0], import_lines_fp(&j.lines) };
	in[2] = (kf_set_input){ "tokenizer", o->tokenizer, kf_tokenizer_fp(tokenizer) };
	if ((rc = import_names_init(&j.names, tokenizer, err)) != KF_OK) goto out;
	if ((rc = kf_tokenizer_save(tokenizer, &saved, err)) != KF_OK) goto out;
	if (!already(o, in, 3, kf_set_shards(corpus), &saved)) {
		if ((rc = import_lines_index(&j.lines, corpus, err)) != KF_OK) goto out;
		if ((rc = look_at_first(&j, err)) != KF_OK || (rc = check(&j, corpus, pool, stats, err)) != KF_OK) goto out;
	}
	stats->path = j.path;

	name_of(o, name);
	if (!(info = json_pack("{s:i, s:s, s:i, s:b, s:b, s:b}", "k", (int)o->top_k, "model", name, "vocabulary", (int)kf_tokenizer_size(tokenizer),
	    "bos", kf_tokenizer_bos(tokenizer) >= 0, "byte_path", j.path, "imported", true))) {
		rc = kf_fail(err, KF_ENOMEM, "no memory for the facts about %s, or the model's name is no UTF-8: give it another with --name", o->out);
		goto out;
	}
	kf_set_spec spec = {
		.dir = o->out, .kind = KF_SET_LOGITS, .program = "kf-import", .options = o->record, .info = info, .inputs = in, .n_inputs = 3,
		.n_shards = kf_set_shards(corpus), .tokenizer = saved.data, .tokenizer_size = saved.len, .f32 = o->f32, .chat = kf_set_chat(corpus),
		.replace = o->replace, .part = o->part, .parts = o->parts
	};
	if ((rc = kf_set_begin(&spec, &w, &stats->state, err)) != KF_OK) goto out;
	stats->complete = stats->state == KF_SET_CURRENT;
	if (stats->state == KF_SET_CURRENT) goto out;
	pass.in = &corpus;
	pass.out = w;
	if ((rc = kf_pass_run(&pass, pool, &tally, &whole, err)) != KF_OK) goto out;
	rc = kf_set_commit(w, NULL, &stats->complete, err);
	w = NULL;
out:
	kf_set_abandon(w);
	kf_tally_release(&tally);
	kf_buf_release(&saved);
	import_names_release(&j.names);
	import_lines_close(&j.lines);
	kf_tokenizer_free(tokenizer);
	kf_set_close(corpus);
	json_decref(info);
	return rc;
}
