#include "eval/overlap.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "common/base/hash.h"
#include "common/base/table.h"
#include "common/store/record.h"
#include "eval/print.h"

#define TAIL_MOST ((size_t)1 << 16)   /* bytes of a piece that the next one is looked at with */

/* N-grams of what is evaluated, by their hashes: open addressing; 0 is no hash. */
typedef struct {
	uint64_t *key;             /* (size) */
	uint8_t *seen;             /* (size) in the training text */
	size_t size, used;         /* size: a power of two */
} table;

typedef struct {
	int n;
	table t;
	uint64_t *word;            /* (n_words) hashes of a text's words, */
	size_t *begin;             /* and where each begins */
	size_t n_words, cap, end;  /* end: of the last word */
	kf_buf lower;              /* the word at work */
	/* the record before, which the next one may go on with */
	kf_buf text, tail;         /* tail: its last n - 1 words, and the one that its end may have cut */
	size_t carried;            /* words of the tail */
	bool any;
	kf_fp id, domain;
	uint32_t piece;
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

/* The letter, digit or mark at p (n > 0 bytes), in lower case; *len: its bytes, or those that are to be passed over. A byte that is no UTF-8 is a letter. */
static bool letter(const uint8_t *p, size_t n, size_t *len, uint8_t low[4], size_t *n_low)
{
	utf8proc_int32_t c;
	utf8proc_ssize_t l;

	*len = *n_low = 1;
	low[0] = *p >= 'A' && *p <= 'Z' ? *p + 'a' - 'A' : *p;
	if (*p < 0x80) return (low[0] >= 'a' && low[0] <= 'z') || (*p >= '0' && *p <= '9');
	if ((l = utf8proc_iterate(p, (utf8proc_ssize_t)(n < 4 ? n : 4), &c)) < 1) return true;
	*len = (size_t)l;
	switch (utf8proc_category(c)) {
	case UTF8PROC_CATEGORY_LU: case UTF8PROC_CATEGORY_LL: case UTF8PROC_CATEGORY_LT: case UTF8PROC_CATEGORY_LM: case UTF8PROC_CATEGORY_LO:
	case UTF8PROC_CATEGORY_MN: case UTF8PROC_CATEGORY_MC: case UTF8PROC_CATEGORY_ME:
	case UTF8PROC_CATEGORY_ND: case UTF8PROC_CATEGORY_NL: case UTF8PROC_CATEGORY_NO:
		*n_low = (size_t)utf8proc_encode_char(utf8proc_tolower(c), low);
		return true;
	default:
		return false;
	}
}

static kf_status room(finder *f, kf_err *err)
{
	size_t cap = f->cap ? 2 * f->cap : 1024;
	uint64_t *word = realloc(f->word, cap * sizeof *word);
	size_t *begin;

	if (!word) return no_memory(err);
	f->word = word;
	if (!(begin = realloc(f->begin, cap * sizeof *begin))) return no_memory(err);
	f->begin = begin;
	f->cap = cap;
	return KF_OK;
}

/* Add the words of a text (n bytes) to f->word. */
static kf_status add_words(finder *f, const uint8_t *text, size_t n, kf_err *err)
{
	uint8_t low[4];
	size_t len = 1, n_low;
	kf_status rc;

	for (size_t i = 0; i < n;) {
		const size_t begin = i;

		kf_buf_clear(&f->lower);
		for (; i < n && letter(text + i, n - i, &len, low, &n_low); i += len) kf_buf_put(&f->lower, low, n_low);
		if (i == begin) {
			i += len;
			continue;
		}
		if (f->n_words == f->cap && (rc = room(f, err)) != KF_OK) return rc;
		if (f->lower.failed) return no_memory(err);
		f->begin[f->n_words] = begin;
		f->word[f->n_words++] = kf_hash64(f->lower.data, f->lower.len);
		f->end = i;
	}
	return KF_OK;
}

/* The words of a record, and before them the last of the piece that it goes on with, so that no n-gram is lost where a document was cut; f->carried
 * says how many. */
static kf_status take(finder *f, const kf_corpus_rec *rec, kf_err *err)
{
	const kf_fp id = kf_fp_of(rec->head.id, strlen(rec->head.id)), domain = kf_fp_of(rec->head.domain, strlen(rec->head.domain));
	const bool goes_on = f->any && kf_fp_equal(id, f->id) && kf_fp_equal(domain, f->domain) && rec->head.piece == f->piece + 1;
	const uint8_t *text = rec->text;

	kf_buf_clear(&f->text);
	if (goes_on) kf_buf_put(&f->text, f->tail.data, f->tail.len);
	else f->carried = 0;
	if (!rec->n_turns) kf_buf_put(&f->text, text, rec->head.bytes);
	for (uint32_t i = 0; i < rec->n_turns; text += rec->turns[i++].bytes) {
		kf_buf_put(&f->text, text, rec->turns[i].bytes);
		kf_buf_u8(&f->text, '\n');       /* messages end words */
	}
	f->any = true;
	f->id = id;
	f->domain = domain;
	f->piece = rec->head.piece;
	return kf_buf_check(&f->text, err) == KF_OK ? add_words(f, f->text.data, f->text.len, err) : no_memory(err);
}

/* What of the text in hand the next piece has to know. */
static kf_status leave(finder *f, kf_err *err)
{
	const size_t keep = (size_t)f->n - 1 + (f->n_words && f->end == f->text.len);
	size_t from = f->n_words > keep ? f->begin[f->n_words - keep] : 0;

	f->carried = f->n_words < keep ? f->n_words : keep;
	if (!f->carried) from = f->text.len;
	if (f->text.len - from > TAIL_MOST) {     /* no words */
		f->carried = 0;
		from = f->text.len;
	}
	kf_buf_clear(&f->tail);
	kf_buf_put(&f->tail, f->text.data + from, f->text.len - from);
	f->n_words = 0;
	return kf_buf_check(&f->tail, err) == KF_OK ? KF_OK : no_memory(err);
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
			f->n_words = 0;
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

	if (rc != KF_OK || (rc = take(f, rec, err)) != KF_OK || (rc = item(f, row, (long)rec->head.doc, err)) != KF_OK) return rc;
	return leave(f, err);
}

static kf_status trained_on(finder *f, const kf_corpus_rec *rec, kf_err *err)
{
	kf_status rc = take(f, rec, err);

	if (rc != KF_OK) return rc;
	f->out->words += f->n_words - f->carried;
	for (size_t i = 0; f->t.size && i + (size_t)f->n <= f->n_words; i++) {
		size_t at = place(&f->t, gram(f, i));

		if (f->t.key[at]) f->t.seen[at] = 1;
	}
	return leave(f, err);
}

static kf_status each_document(const char *dir, finder *f, kf_status (*fn)(finder *f, const kf_corpus_rec *rec, kf_err *err), kf_err *err)
{
	kf_set *set = NULL;
	kf_shard *shard = NULL;
	kf_arena arena;
	kf_status rc;

	kf_arena_init(&arena);
	f->any = false;
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
	free(f.begin);
	kf_buf_release(&f.lower);
	kf_buf_release(&f.text);
	kf_buf_release(&f.tail);
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
