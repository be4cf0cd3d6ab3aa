#include "eval/overlap.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/hash.h"
#include "common/base/table.h"
#include "common/store/record.h"
#include "eval/print.h"

/* N-grams of what is evaluated, by their hashes: open addressing; 0 is no hash. */
typedef struct {
	uint64_t *key;             /* (size) */
	uint8_t *seen;             /* (size) in the training text */
	size_t size, used;         /* size: a power of two */
} table;

typedef struct {
	int n;
	table t;
	uint64_t *word;            /* (n) hashes of a text's words */
	size_t n_words, cap;
	kf_buf lower;              /* the word at work */
	kf_overlap *out;
	bool second;               /* the pass that counts what was seen */
} finder;

static kf_status no_memory(kf_err *err) { return kf_fail(err, KF_ENOMEM, "out of memory for n-grams"); }

/* ---- the table ---- */

static size_t place(const table *t, uint64_t key)
{
	size_t at = (size_t)key & (t->size - 1);

	while (t->key[at] && t->key[at] != key) at = (at + 1) & (t->size - 1);
	return at;
}

static kf_status insert(table *t, uint64_t key, kf_err *err)
{
	size_t at;

	if (2 * t->used >= t->size) {
		table more = { .size = t->size ? 2 * t->size : 1 << 16, .used = t->used };

		more.key = kf_zalloc(more.size, sizeof *more.key);
		more.seen = kf_zalloc(more.size, 1);
		if (!more.key || !more.seen) {
			kf_free(more.key);
			kf_free(more.seen);
			return no_memory(err);
		}
		for (size_t i = 0; i < t->size; i++)
			if (t->key[i]) more.key[place(&more, t->key[i])] = t->key[i];
		kf_free(t->key);
		kf_free(t->seen);
		*t = more;
	}
	at = place(t, key);
	t->used += !t->key[at];
	t->key[at] = key;
	return KF_OK;
}

/* ---- words ---- */

static bool in_word(uint8_t c)
{
	return c >= 0x80 || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* Add the words of a text (n bytes) to f->word. */
static kf_status add_words(finder *f, const uint8_t *text, size_t n, kf_err *err)
{
	for (size_t i = 0; i < n;) {
		if (!in_word(text[i])) {
			i++;
			continue;
		}
		kf_buf_clear(&f->lower);
		for (; i < n && in_word(text[i]); i++) kf_buf_u8(&f->lower, text[i] >= 'A' && text[i] <= 'Z' ? text[i] + 'a' - 'A' : text[i]);
		if (f->n_words == f->cap) {
			size_t cap = f->cap ? 2 * f->cap : 1024;
			uint64_t *more = realloc(f->word, cap * sizeof *more);

			if (!more) return no_memory(err);
			f->word = more;
			f->cap = cap;
		}
		if (f->lower.failed) return no_memory(err);
		f->word[f->n_words++] = kf_hash64(f->lower.data, f->lower.len);
	}
	return KF_OK;
}

static uint64_t gram(const finder *f, size_t i)
{
	uint64_t h = kf_hash64(f->word + i, (size_t)f->n * sizeof *f->word);

	return h ? h : 1;
}

/* ---- what is evaluated ---- */

/* The text in f->word is an item of a row: its n-grams are put into the table, or, the second time, looked up. */
static kf_status item(finder *f, kf_overlap_row *row, long name, kf_err *err)
{
	size_t grams = f->n_words >= (size_t)f->n ? f->n_words - (size_t)f->n + 1 : 0;
	bool shared = false;
	kf_status rc = KF_OK;

	for (size_t i = 0; i < grams && rc == KF_OK; i++) {
		if (f->second) shared = shared || f->t.seen[place(&f->t, gram(f, i))];
		else rc = insert(&f->t, gram(f, i), err);
	}
	if (f->second) {
		row->items++;
		row->brief += !grams;
		if (shared && row->shared < KF_OVERLAP_NAMED) row->named[row->shared] = name;
		row->shared += shared;
	}
	f->n_words = 0;
	return rc;
}

static kf_status of_tasks(finder *f, const kf_tasks *tasks, kf_err *err)
{
	kf_status rc = KF_OK;

	for (int i = 0; i < tasks->n; i++)
		for (int k = 0; k < tasks->task[i].n && rc == KF_OK; k++) {
			const kf_task_item *x = &tasks->task[i].item[k];
			const char *answer = x->solution ? x->solution : x->n_options ? x->option[x->best] : "";

			if ((rc = add_words(f, (const uint8_t *)x->prompt, strlen(x->prompt), err)) != KF_OK ||
			    (rc = add_words(f, (const uint8_t *)answer, strlen(answer), err)) != KF_OK)
				return rc;
			rc = item(f, &f->out->row[i], x->line, err);
		}
	return rc;
}

static kf_status row_of(finder *f, const char *domain, kf_overlap_row **out, kf_err *err)
{
	kf_overlap *o = f->out;
	kf_overlap_row *more;

	for (int i = o->n_tasks; i < o->n_tasks + o->n_domains; i++)
		if (strcmp(o->row[i].name, domain) == 0) {
			*out = &o->row[i];
			return KF_OK;
		}
	if (!(more = realloc(o->row, ((size_t)o->n_tasks + (size_t)o->n_domains + 1) * sizeof *more))) return no_memory(err);
	o->row = more;
	*out = &more[o->n_tasks + o->n_domains];
	memset(*out, 0, sizeof **out);
	if (!((*out)->name = kf_strdup(domain))) return no_memory(err);
	o->n_domains++;
	return KF_OK;
}

static kf_status held_out(finder *f, const kf_corpus_rec *rec, kf_err *err)
{
	kf_overlap_row *row = NULL;
	kf_status rc = row_of(f, rec->head.domain, &row, err);

	if (rc == KF_OK) rc = add_words(f, rec->text, rec->head.bytes, err);
	return rc == KF_OK ? item(f, row, (long)rec->head.doc, err) : rc;
}

static kf_status trained_on(finder *f, const kf_corpus_rec *rec, kf_err *err)
{
	kf_status rc = add_words(f, rec->text, rec->head.bytes, err);

	f->out->words += f->n_words;
	for (size_t i = 0; rc == KF_OK && f->t.size && i + (size_t)f->n <= f->n_words; i++) {
		size_t at = place(&f->t, gram(f, i));

		if (f->t.key[at]) f->t.seen[at] = 1;
	}
	f->n_words = 0;
	return rc;
}

static kf_status each_document(const char *dir, finder *f, kf_status (*fn)(finder *f, const kf_corpus_rec *rec, kf_err *err), kf_err *err)
{
	kf_set *set = NULL;
	kf_shard *shard = NULL;
	kf_arena arena;
	kf_status rc;

	kf_arena_init(&arena);
	if ((rc = kf_set_open(dir, KF_SET_CORPUS, &set, err)) != KF_OK) goto out;
	for (int s = 0; s < kf_set_shards(set); s++) {
		kf_corpus_rec rec;

		if ((rc = kf_shard_open(set, s, &shard, err)) != KF_OK) goto out;
		while ((rc = kf_shard_next_corpus(shard, &arena, &rec, err)) == KF_OK) {
			if ((rc = fn(f, &rec, err)) != KF_OK) goto out;
			kf_arena_reset(&arena);
		}
		if (rc != KF_END) goto out;
		kf_shard_close(shard);
		shard = NULL;
		rc = KF_OK;
	}
out:
	kf_shard_close(shard);
	kf_set_close(set);
	kf_arena_release(&arena);
	return rc;
}

kf_status kf_overlap_find(const char *const *training, int n_training, const kf_tasks *tasks, const char *corpus, int n,
	kf_overlap *out, kf_err *err)
{
	finder f = { .n = n, .out = out };
	kf_status rc = KF_OK;

	*out = (kf_overlap){ .n = n };
	if (tasks && !(out->row = calloc((size_t)tasks->n + 1, sizeof *out->row))) return no_memory(err);
	for (int i = 0; tasks && i < tasks->n; i++) {
		if (!(out->row[i].name = kf_strdup(tasks->task[i].name))) return no_memory(err);
		out->n_tasks++;
	}
	for (int pass = 0; pass < 2 && rc == KF_OK; pass++) {
		f.second = pass == 1;
		if (tasks) rc = of_tasks(&f, tasks, err);
		if (rc == KF_OK && corpus) rc = each_document(corpus, &f, held_out, err);
		for (int i = 0; i < n_training && rc == KF_OK && pass == 0; i++) rc = each_document(training[i], &f, trained_on, err);
	}
	kf_free(f.t.key);
	kf_free(f.t.seen);
	free(f.word);
	kf_buf_release(&f.lower);
	return rc;
}

void kf_overlap_release(kf_overlap *o)
{
	for (int i = 0; i < o->n_tasks + o->n_domains; i++) kf_free(o->row[i].name);
	free(o->row);
	memset(o, 0, sizeof *o);
}

/* ---- reports ---- */

static json_t *rows(const kf_overlap *o, int from, int to, const char *named)
{
	json_t *all = json_object();

	for (int i = from; i < to; i++) {
		const kf_overlap_row *r = &o->row[i];
		json_t *one = json_object(), *list = json_array();

		for (int k = 0; k < r->shared && k < KF_OVERLAP_NAMED; k++) json_array_append_new(list, json_integer(r->named[k]));
		json_object_set_new(one, "items", json_integer(r->items));
		json_object_set_new(one, "shared", json_integer(r->shared));
		json_object_set_new(one, "short", json_integer(r->brief));
		json_object_set_new(one, named, list);
		json_object_set_new(all, r->name, one);
	}
	return all;
}

json_t *kf_overlap_json(const kf_overlap *o)
{
	json_t *j = json_object();

	json_object_set_new(j, "ngram", json_integer(o->n));
	json_object_set_new(j, "training_words", json_integer((json_int_t)o->words));
	json_object_set_new(j, "tasks", rows(o, 0, o->n_tasks, "lines"));
	json_object_set_new(j, "text", rows(o, o->n_tasks, o->n_tasks + o->n_domains, "documents"));
	return j;
}

void kf_overlap_table(const kf_overlap *o, kf_buf *out)
{
	int width = 24;

	for (int i = 0; i < o->n_tasks + o->n_domains; i++) kf_text_widen(&width, kf_domain_label(o->row[i].name));
	kf_buf_printf(out, "items that share %d words in a row with the training text (%llu words):\n", o->n, (unsigned long long)o->words);
	for (int i = 0; i < o->n_tasks + o->n_domains; i++) {
		const kf_overlap_row *r = &o->row[i];
		const char *label = kf_domain_label(r->name);

		kf_buf_printf(out, "  %-*s %d of %d", kf_text_field(label, width), label, r->shared, r->items);
		if (r->brief) kf_buf_printf(out, " (%d too short to tell)", r->brief);
		kf_buf_printf(out, "\n");
	}
}

void kf_overlap_markdown(const kf_overlap *o, kf_buf *out)
{
	kf_buf_printf(out, "Items that share %d words in a row with the training text (%llu words).\n\n| | items | shared | too short to tell |\n"
		"|---|---:|---:|---:|\n", o->n, (unsigned long long)o->words);
	for (int i = 0; i < o->n_tasks + o->n_domains; i++) {
		const kf_overlap_row *r = &o->row[i];

		kf_buf_printf(out, "| ");
		kf_print_cell(out, kf_domain_label(r->name));
		kf_buf_printf(out, " | %d | %d | %d |\n", r->items, r->shared, r->brief);
	}
}
