#include "data/prepare.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/progress.h"
#include "common/base/stop.h"
#include "common/store/record.h"
#include "common/text/utf8.h"
#include "data/cut.h"
#include "data/talk.h"

#define DOMAINS_MAX 4096

/* What is known of a domain, and, when only some of its pieces are wanted, which. */
typedef struct {
	char *name;
	uint64_t seen;             /* pieces so far in this pass */
	uint64_t docs, bytes;      /* written */
	uint64_t *heap;            /* (n) the smallest ranks so far, largest first: a max-heap */
	size_t n, cap;
	bool talks;                /* some are of conversations, */
	uint64_t talk;             /* the smallest rank of these */
	uint64_t limit;            /* second pass: largest rank taken */
} domain;

/* One pass over the inputs. */
typedef struct {
	const kf_prepare_opts *o;
	kf_prepare_stats *stats;
	kf_progress progress;
	domain *dom;
	int n_dom, last_dom;
	kf_buf scratch;
	kf_talk talk;              /* the conversation in hand */
	kf_hasher *seen[KF_MAX_INPUTS]; /* (n_paths) documents of each path in this pass; */
	kf_fp fp[KF_MAX_INPUTS];   /* in the first */
	bool writing, chat;        /* chat: there are conversations among the pieces taken */

	/* of the document in hand */
	const kf_found *doc;
	domain *doc_dom;

	/* writing: pieces [first of shard, first of next) go to a shard */
	uint64_t total, next;      /* pieces in all; number of the next one */
	kf_set_writer *w;
	kf_shard_writer *sw;
	int shard, shards;         /* shard in hand */
} pass;

kf_split kf_split_of(const char *id)
{
	uint64_t h = kf_hash64(id, strlen(id)) % 10;

	return h == 0 ? KF_SPLIT_VALID : h == 1 ? KF_SPLIT_TEST : KF_SPLIT_TRAIN;
}

uint64_t kf_choice_rank(uint64_t seed, uint64_t i)
{
	uint64_t x = i + seed * 0x9e3779b97f4a7c15u;

	if (!seed) return i;
	/* The finalizer of splitmix64. */
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
	return x ^ (x >> 31);
}

/* ---- domains ---- */

static kf_status find_domain(pass *p, const char *name, domain **out, kf_err *err)
{
	domain *d;

	if (p->last_dom < p->n_dom && strcmp(p->dom[p->last_dom].name, name) == 0) {
		*out = &p->dom[p->last_dom];
		return KF_OK;
	}
	for (int i = 0; i < p->n_dom; i++)
		if (strcmp(p->dom[i].name, name) == 0) {
			*out = &p->dom[p->last_dom = i];
			return KF_OK;
		}
	if (strcmp(name, "mean") == 0 || strcmp(name, "all") == 0)
		return kf_fail(err, KF_EDATA, "%s: a domain is called \"%s\", which tables of results call the %s domains; give it another name",
			p->doc->where, name, name[0] == 'm' ? "mean over" : "sum of all");
	if (kf_has_control(name))
		return kf_fail(err, KF_EDATA, "%s: the name of a domain has a control character in it; tables of results want one that is a word or some",
			p->doc->where);
	if (p->n_dom == DOMAINS_MAX)
		return kf_fail(err, KF_EINVAL, "%s: more than %d domains: is \"domain\" what it should be?",
			p->doc->where, DOMAINS_MAX);
	d = &p->dom[p->n_dom];
	memset(d, 0, sizeof *d);
	d->limit = UINT64_MAX;
	if (!(d->name = kf_strdup(name)))
		return kf_fail(err, KF_ENOMEM, "out of memory for the name of a domain");
	p->last_dom = p->n_dom++;
	*out = d;
	return KF_OK;
}

static void sift_down(uint64_t *heap, size_t n, size_t i)
{
	for (;;) {
		size_t child = 2 * i + 1;
		uint64_t v = heap[i];

		if (child >= n) return;
		if (child + 1 < n && heap[child + 1] > heap[child]) child++;
		if (heap[child] <= v) return;
		heap[i] = heap[child];
		heap[child] = v;
		i = child;
	}
}

static void sift_up(uint64_t *heap, size_t i)
{
	while (i > 0 && heap[(i - 1) / 2] < heap[i]) {
		uint64_t v = heap[i];

		heap[i] = heap[(i - 1) / 2];
		heap[i = (i - 1) / 2] = v;
	}
}

/* Keep the `most` smallest ranks of a domain. */
static kf_status keep_rank(domain *d, uint64_t rank, size_t most, kf_err *err)
{
	if (d->n == most) {
		if (rank < d->heap[0]) {
			d->heap[0] = rank;
			sift_down(d->heap, d->n, 0);
		}
		return KF_OK;
	}
	if (d->n == d->cap) {
		size_t cap = d->cap ? d->cap * 2 : 64;
		uint64_t *grown = realloc(d->heap, cap * sizeof *grown);

		if (!grown) return kf_fail(err, KF_ENOMEM, "out of memory for the choice of %zu documents", cap);
		d->heap = grown;
		d->cap = cap;
	}
	d->heap[d->n] = rank;
	sift_up(d->heap, d->n++);
	return KF_OK;
}

/* ---- writing ---- */

/* Shard s holds pieces [first(s), first(s + 1)). */
static uint64_t first_of_shard(const pass *p, int s)
{
	return (uint64_t)((unsigned __int128)p->total * (unsigned)s / (unsigned)p->shards);
}

static kf_status close_shard(pass *p, kf_err *err)
{
	kf_shard_writer *sw = p->sw;

	p->sw = NULL;
	return sw ? kf_shard_commit(sw, err) : KF_OK;
}

static kf_status put_piece(pass *p, uint32_t piece, const uint8_t *text, size_t n, const kf_turn *turns,
	uint32_t n_turns, kf_err *err)
{
	kf_corpus_rec rec = { .head = { p->next, p->doc->id, p->doc_dom->name, piece, (uint32_t)n },
		.text = text, .n_turns = n_turns, .turns = turns };
	kf_status rc;

	if (p->next >= p->total)
		return kf_fail(err, KF_EDATA, "%s: the input changed while it was read; run the command again",
			p->doc->where);
	if (p->shard < 0 || p->next == first_of_shard(p, p->shard + 1)) {
		if ((rc = close_shard(p, err)) != KF_OK) return rc;
		p->shard++;
		if ((p->o->parts < 2 || p->shard % p->o->parts == p->o->part) && !kf_set_shard_done(p->w, p->shard) &&
		    (rc = kf_shard_begin(p->w, p->shard, &p->sw, err)) != KF_OK)
			return rc;
	}
	p->next++;
	return p->sw ? kf_shard_put_corpus(p->sw, &rec, err) : KF_OK;
}

/* ---- reading ---- */

static kf_status take_piece(pass *p, uint32_t piece, const uint8_t *text, size_t n, const kf_turn *turns,
	uint32_t n_turns, kf_err *err)
{
	domain *d = p->doc_dom;
	uint64_t rank = kf_choice_rank(p->o->seed, d->seen++);

	if (!p->writing) {
		if (n_turns && (!d->talks || rank < d->talk)) d->talk = rank, d->talks = true;
		return p->o->docs_per_domain ? keep_rank(d, rank, (size_t)p->o->docs_per_domain, err) : KF_OK;
	}
	if (rank > d->limit) return KF_OK;
	d->docs++;
	d->bytes += n;
	p->stats->bytes += n;
	return put_piece(p, piece, text, n, turns, n_turns, err);
}

static kf_status on_piece(void *arg, uint32_t piece, const uint8_t *text, size_t n, kf_err *err)
{
	return take_piece(arg, piece, text, n, NULL, 0, err);
}

/* The pieces of a conversation. */
static kf_status converse(pass *p, kf_err *err)
{
	kf_talk *t = &p->talk;
	const uint8_t *text = t->text.data;
	uint32_t first = 0;
	kf_status rc = KF_OK;

	for (uint32_t piece = 0; rc == KF_OK && first < t->n; piece++) {
		uint32_t n = kf_talk_cut(t->turn, t->n, first, (size_t)p->o->doc_bytes);
		size_t bytes = 0;

		for (uint32_t i = first; i < first + n; i++) bytes += t->turn[i].bytes;
		rc = take_piece(p, piece, text, bytes, t->turn + first, n, err);
		text += bytes;
		first += n;
	}
	return rc;
}

static const char *const split_names[] = { "all", "train", "valid", "test" };

static kf_status in_split(const pass *p, const kf_found *doc, bool *yes, kf_err *err)
{
	kf_split split;

	*yes = true;
	if (p->o->split == KF_SPLIT_ALL) return KF_OK;
	if (!doc->split) {
		split = kf_split_of(doc->id);
	} else {
		for (split = KF_SPLIT_TRAIN; split <= KF_SPLIT_TEST; split++)
			if (strcmp(split_names[split], doc->split) == 0) break;
		if (split > KF_SPLIT_TEST)
			return kf_fail(err, KF_EDATA, "%s: \"split\" is \"%s\", not train, valid or test", doc->where,
				doc->split);
	}
	*yes = split == (kf_split)p->o->split;
	return KF_OK;
}

/* Whether a document is wanted (of a split, and not an empty record), and that it is what it should be: KF_EDATA if not. Then p has its domain
 * and, of a conversation, its talk. */
static kf_status look_at(pass *p, const kf_found *doc, bool *yes, bool *valid, kf_err *err)
{
	kf_status rc;

	if ((rc = in_split(p, doc, yes, err)) != KF_OK) return rc;
	if (!doc->messages && kf_text_blank(doc->text, doc->n)) {
		if (!doc->record)
			return kf_fail(err, KF_EDATA, "%s: the document has no text%s", doc->where, doc->n ? ": only white space" : "");
		p->stats->empty += *yes && !p->writing;
		*yes = false;
	}
	if (!*yes) return KF_OK;
	if (doc->messages) {
		if ((rc = kf_talk_read(&p->talk, doc->messages, doc->where, p->o->normalize == KF_NORMALIZE_NFC, err)) != KF_OK) return rc;
	} else if (!(*valid = kf_text_is_utf8(doc->text, doc->n)) && p->o->invalid == KF_INVALID_REFUSE) {
		return kf_fail(err, KF_EDATA,
			"%s: the text is not valid UTF-8 (--invalid keep takes it byte for byte)", doc->where);
	}
	p->doc = doc;
	return find_domain(p, doc->domain ? doc->domain : p->o->domain ? p->o->domain : "", &p->doc_dom, err);
}

/* A bad record: left out, the second pass knows it already, or the end. */
static kf_status leave_out(pass *p, kf_err *err)
{
	kf_prepare_stats *s = p->stats;

	if (p->o->skip_bad <= 0) return err->code;
	if (!p->writing && s->bad++ < KF_BAD_SHOWN) memcpy(s->bad_text[s->bad - 1], err->text, sizeof err->text);
	return KF_OK;
}

static kf_status on_bad(void *arg, kf_err *err)
{
	pass *p = arg;
	kf_status rc = leave_out(p, err);

	p->stats->records += !p->writing;
	return rc == KF_OK ? kf_stop_check(err) : rc;
}

/* What a corpus is made of is the documents of its split, from whatever files they came: others may change. */
static void note_document(pass *p, const kf_found *doc)
{
	kf_hasher *h = p->seen[doc->operand];
	const uint64_t n[2] = { doc->messages ? p->talk.n : UINT64_MAX, doc->messages ? p->talk.text.len : doc->n };

	kf_hasher_add(h, doc->id, strlen(doc->id) + 1);
	kf_hasher_add(h, p->doc_dom->name, strlen(p->doc_dom->name) + 1);
	kf_hasher_add(h, n, sizeof n);
	for (uint32_t i = 0; doc->messages && i < p->talk.n; i++) {
		const uint64_t turn[2] = { p->talk.turn[i].role, p->talk.turn[i].bytes };

		kf_hasher_add(h, turn, sizeof turn);
	}
	kf_hasher_add(h, doc->messages ? p->talk.text.data : doc->text, (size_t)n[1]);
}

static kf_status on_document(void *arg, const kf_found *doc, kf_err *err)
{
	pass *p = arg;
	bool yes = false, valid = true;
	kf_status rc;

	if ((rc = kf_stop_check(err)) != KF_OK) return rc;
	p->stats->records += !p->writing;
	if ((rc = look_at(p, doc, &yes, &valid, err)) != KF_OK) return rc == KF_EDATA ? leave_out(p, err) : rc;
	if (!yes) return KF_OK;
	p->stats->documents += !p->writing;
	note_document(p, doc);
	if (doc->messages) return converse(p, err);
	if (!p->writing && !valid && p->stats->not_utf8++ == 0)
		snprintf(p->stats->first_not_utf8, sizeof p->stats->first_not_utf8, "%s", doc->where);
	return kf_cut_document(doc->text, doc->n, valid && p->o->normalize == KF_NORMALIZE_NFC,
		(size_t)p->o->doc_bytes, &p->scratch, on_piece, p, err);
}

static void on_read(void *arg, size_t bytes)
{
	pass *p = arg;

	kf_progress_add(&p->progress, (double)bytes);
}

/* ---- the whole ---- */

static kf_status begin_set(pass *p, kf_err *err)
{
	const kf_prepare_opts *o = p->o;
	kf_set_input input[KF_MAX_INPUTS];
	kf_set_spec spec = { .dir = o->out, .kind = KF_SET_CORPUS, .program = "kf-prepare", .options = o->record,
		.inputs = input, .n_inputs = o->n_paths, .n_shards = p->shards, .chat = p->chat,
		.replace = o->replace, .part = o->part, .parts = o->parts };

	for (int i = 0; i < o->n_paths; i++) {
		input[i].role = "text";
		input[i].name = strcmp(o->paths[i], "-") == 0 ? "standard input" : o->paths[i];
		input[i].fp = p->fp[i];
	}
	return kf_set_begin(&spec, &p->w, &p->stats->state, err);
}

static kf_status finish_set(pass *p, kf_err *err)
{
	json_t *stats = json_object(), *domains = json_object();
	kf_set_writer *w = p->w;
	bool ok = stats && domains;
	kf_status rc;

	for (int i = 0; ok && i < p->n_dom; i++)
		if (p->dom[i].docs)
			ok = json_object_set_new(domains, p->dom[i].name, json_pack("{s:I, s:I}",
				"docs", (json_int_t)p->dom[i].docs, "bytes", (json_int_t)p->dom[i].bytes)) == 0;
	if (ok && p->stats->bad) ok = json_object_set_new(stats, "skipped", json_integer((json_int_t)p->stats->bad)) == 0;
	if (!ok || json_object_set(stats, "domains", domains) < 0) {
		rc = kf_fail(err, KF_ENOMEM, "out of memory for the manifest of %s", p->o->out);
	} else {
		p->w = NULL;
		rc = kf_set_commit(w, stats, &p->stats->complete, err);
	}
	json_decref(domains);
	json_decref(stats);
	return rc;
}

/* After the first pass: what is taken, and what there is among it. */
static void choose(pass *p)
{
	for (int i = 0; i < p->n_dom; i++) {
		domain *d = &p->dom[i];

		if (p->o->docs_per_domain && d->n == (size_t)p->o->docs_per_domain) d->limit = d->heap[0];
		p->total += p->o->docs_per_domain ? d->n : d->seen;
		p->chat |= d->talks && d->talk <= d->limit;
		d->seen = 0;
	}
}

static kf_status read_inputs(pass *p, const kf_inputs *in, const char *what, kf_err *err)
{
	kf_status rc;

	for (int i = 0; i < p->o->n_paths; i++) {
		kf_hasher_free(p->seen[i]);
		if (!(p->seen[i] = kf_hasher_new())) return kf_fail(err, KF_ENOMEM, "out of memory for fingerprints");
	}
	kf_progress_start(&p->progress, what, "bytes", (double)kf_inputs_bytes(in), p->o->progress);
	if ((rc = kf_inputs_each(in, on_document, on_bad, on_read, p, err)) == KF_OK) kf_progress_end(&p->progress);
	return rc;
}

static kf_status write_pass(pass *p, const kf_inputs *in, kf_err *err)
{
	kf_status rc;

	p->writing = true;
	p->shard = -1;
	if ((rc = read_inputs(p, in, "writing", err)) != KF_OK) return rc;
	if (p->next != p->total)
		return kf_fail(err, KF_EDATA,
			"the input changed while it was read (%" PRIu64 " documents, then %" PRIu64 "); run the command "
			"again", p->total, p->next);
	for (int i = 0; i < p->o->n_paths; i++)
		if (!kf_fp_equal(p->fp[i], kf_hasher_fp(p->seen[i])))
			return kf_fail(err, KF_EDATA, "%s changed while it was read; run the command again", p->o->paths[i]);
	if ((rc = close_shard(p, err)) != KF_OK) return rc;
	return finish_set(p, err);
}

kf_status kf_prepare(const kf_prepare_opts *o, kf_prepare_stats *stats, kf_err *err)
{
	pass p = { .o = o, .stats = stats };
	kf_inputs *in = NULL;
	const char *name;
	kf_status rc;

	memset(stats, 0, sizeof *stats);
	if (o->n_paths < 1)
		return kf_fail(err, KF_EUSAGE, "no input: name files or folders of text, or - for standard input");
	if (o->n_paths > KF_MAX_INPUTS)
		return kf_fail(err, KF_EINVAL, "more than %d inputs: put the files in a folder", KF_MAX_INPUTS);
	if (o->doc_bytes < KF_CUT_MIN || o->doc_bytes > (long)KF_CUT_MAX)
		return kf_fail(err, KF_EINVAL, "documents of %ld bytes: must be from %d to %u", o->doc_bytes,
			KF_CUT_MIN, KF_CUT_MAX);
	if (!(p.dom = kf_alloc(DOMAINS_MAX, sizeof *p.dom))) return kf_fail(err, KF_ENOMEM, "out of memory");
	if ((rc = kf_inputs_open(o->paths, o->n_paths, (kf_text_format)o->format, &in, err)) != KF_OK) goto out;
	stats->files = kf_inputs_files(in);
	stats->left_out = kf_inputs_left_out(in);
	if ((stats->again = kf_inputs_again(in, &name)) > 0) snprintf(stats->first_again, sizeof stats->first_again, "%s", name);
	if ((stats->no_text = kf_inputs_no_text(in, &name)) > 0) snprintf(stats->first_no_text, sizeof stats->first_no_text, "%s", name);
	if ((stats->plain = kf_inputs_plain(in, &name)) > 0) snprintf(stats->first_plain, sizeof stats->first_plain, "%s", name);

	if ((rc = read_inputs(&p, in, "reading", err)) != KF_OK) goto out;
	for (int i = 0; i < o->n_paths; i++) p.fp[i] = kf_hasher_fp(p.seen[i]);
	if ((double)stats->bad * 100 > o->skip_bad * (double)stats->records) {
		rc = kf_fail(err, KF_EDATA, "%" PRIu64 " of %" PRIu64 " records are bad, more than the %g %% of --skip-bad: is the input what it should be? "
			"The first: %s", stats->bad, stats->records, o->skip_bad, stats->bad_text[0]);
		goto out;
	}
	choose(&p);
	if (p.total == 0) {
		rc = o->split == KF_SPLIT_ALL || stats->empty || stats->records == stats->bad
			? kf_fail(err, KF_EDATA, "empty corpus: the input holds no document%s", stats->empty ? ", only records without text" : "")
			: kf_fail(err, KF_EDATA, "empty corpus: none of %" PRIu64 " documents is in the split %s. One in ten is in valid and one in test, by their ids: "
				"give more, or say \"split\" in the records", stats->records - stats->bad, split_names[o->split]);
		goto out;
	}
	p.shards = (uint64_t)o->shards < p.total ? (int)o->shards : (int)p.total;
	stats->shards = p.shards;
	stats->pieces = p.total;

	if ((rc = begin_set(&p, err)) != KF_OK) goto out;
	stats->complete = stats->state == KF_SET_CURRENT;
	if (!stats->complete) rc = write_pass(&p, in, err);
out:
	kf_shard_abandon(p.sw);
	kf_set_abandon(p.w);
	kf_inputs_close(in);
	for (int i = 0; i < o->n_paths && i < KF_MAX_INPUTS; i++) kf_hasher_free(p.seen[i]);
	for (int i = 0; i < p.n_dom; i++) {
		kf_free(p.dom[i].name);
		free(p.dom[i].heap);
	}
	kf_free(p.dom);
	kf_buf_release(&p.scratch);
	kf_talk_release(&p.talk);
	return rc;
}
