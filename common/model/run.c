#include "common/model/run.h"

#include <math.h>
#include <string.h>

/* A document's record while it is filled: the same arrays, not const. */
typedef struct {
	const kf_corpus_rec *rec;
	const kf_encoding *enc;
	float *ce, *top_lp, *path_nlm, *extra_lp;
	int32_t *top_ids, *extra_ids;
	uint32_t *path_off, *extra_off;
	uint32_t next, extras;     /* position after the last one filled; extra candidates so far */
	int32_t bos;               /* fed in front of every window; -1: none */
} doc;

/* Tokens [from, from + n) of a document, of which positions [p0, p1) are taken. */
typedef struct { doc *d; uint32_t from, n, p0, p1; } window;

static bool predicted(const doc *d, uint32_t p)
{
	return (p > 0 || d->bos >= 0) && !(d->enc->context && d->enc->context[p]);
}

static kf_status no_memory(kf_err *err) { return kf_fail(err, KF_ENOMEM, "no memory for the predictions of a group of documents"); }

/* ---- the plan ---- */

static uint32_t interior(const kf_encoding *enc, uint32_t p)
{
	uint32_t span = enc->start[p + 1] - enc->start[p];
	return span ? span - 1 : 0;
}

static bool make_doc(const kf_runner *e, kf_arena *arena, const kf_corpus_rec *rec, const kf_encoding *enc, doc *d)
{
	size_t rows = (size_t)enc->n + 1, k = (size_t)e->k, E = (size_t)e->path_extra;
	*d = (doc){ .rec = rec, .enc = enc, .bos = enc->no_bos ? -1 : kf_tokenizer_bos(e->tokenizer) };
	d->ce = KF_ARENA_NEW(arena, float, rows);
	d->top_ids = KF_ARENA_NEW(arena, int32_t, rows * k);
	d->top_lp = KF_ARENA_NEW(arena, float, rows * k);
	if (!d->ce || !d->top_ids || !d->top_lp) return false;
	for (uint32_t p = 0; p < (enc->context ? rows : 1); p++) {
		if (predicted(d, p)) continue;
		d->ce[p] = NAN;
		for (size_t i = p * k; i < (p + 1) * k; i++) {
			d->top_ids[i] = -1;
			d->top_lp[i] = -INFINITY;
		}
	}
	if (!e->byte_path) return true;
	d->path_off = KF_ARENA_NEW(arena, uint32_t, rows);
	d->extra_off = KF_ARENA_NEW(arena, uint32_t, rows + 1);
	d->extra_ids = KF_ARENA_NEW(arena, int32_t, rows * E);
	d->extra_lp = KF_ARENA_NEW(arena, float, rows * E);
	if (!d->path_off || !d->extra_off || !d->extra_ids || !d->extra_lp) return false;
	d->path_off[0] = 0;
	for (uint32_t p = 0; p < enc->n; p++) d->path_off[p + 1] = d->path_off[p] + interior(enc, p);
	d->path_nlm = KF_ARENA_NEW(arena, float, d->path_off[enc->n]);
	if (!d->path_nlm) return false;
	/* Of a token that is not predicted nothing is known of its bytes. */
	for (uint32_t p = 0; p < enc->n && (p == 0 || enc->context); p++)
		for (uint32_t i = d->path_off[p]; !predicted(d, p) && i < d->path_off[p + 1]; i++) d->path_nlm[i] = NAN;
	return true;
}

/* Windows of a document, appended to w (NULL: only counted); returns their number. Those that would predict nothing are left out. */
static size_t plan(const kf_runner *e, doc *d, window *w)
{
	uint32_t bos = d->bos >= 0, n = d->enc->n;
	uint32_t most = (uint32_t)e->context - bos, stride = most / 2 ? most / 2 : 1, p = bos ? 0 : 1;
	size_t count = 0;
	for (uint32_t from = 0; p <= n; from += stride) {
		uint32_t len = n - from < most ? n - from : most, end = from + len + 1;
		bool any = !d->enc->context;
		for (uint32_t i = p; i < end && !any; i++) any = predicted(d, i);
		if (any && w) w[count] = (window){ d, from, len, p, end };
		count += any;
		p = end;
	}
	return count;
}

/* ---- ranges ---- */

/* How the interior bytes of token p relate to its own: the prefix of length i + 1 + *skip of bytes ends at interior byte i.
 * False where the token's bytes are not the text's. */
static bool spells(const kf_runner *e, const doc *d, uint32_t p, const uint8_t **bytes, uint32_t *skip)
{
	uint32_t n, span = d->enc->start[p + 1] - d->enc->start[p];
	const uint8_t *text = d->rec->text + d->enc->start[p];
	*bytes = kf_tokenizer_bytes(e->tokenizer, d->enc->ids[p], &n);
	*skip = d->enc->skip ? d->enc->skip[p] : 0;
	/* bytes of the template may stand before and after a message's */
	if (d->enc->skip) return n >= *skip && n - *skip >= span && memcmp(*bytes + *skip, text, span) == 0;
	if (p == 0 && n == span + 1 && **bytes == ' ' && kf_tokenizer_dummy_prefix(e->tokenizer)) *skip = 1;
	return n == span + *skip && memcmp(*bytes + *skip, text, span) == 0;
}

static void add_ranges(const kf_runner *e, const doc *d, uint32_t p, kf_question *b, int row)
{
	int at = b->range_off[row];
	const uint8_t *bytes;
	uint32_t skip;
	if (p < d->enc->n && interior(d->enc, p) && spells(e, d, p, &bytes, &skip))
		for (uint32_t i = 0; i < interior(d->enc, p); i++, at++)
			kf_tokenizer_range(e->tokenizer, bytes, i + 1 + skip, &b->range_lo[at], &b->range_hi[at]);
	b->range_off[row + 1] = at;
}

/* ---- answers ---- */

static void take(const kf_runner *e, doc *d, uint32_t p, const kf_question *b, int row)
{
	size_t k = (size_t)e->k, E = (size_t)e->path_extra, r = (size_t)row;
	memcpy(d->top_ids + p * k, b->out.top_ids + r * k, k * sizeof(int32_t));
	memcpy(d->top_lp + p * k, b->out.top_lp + r * k, k * sizeof(float));
	if (p < d->enc->n) d->ce[p] = b->out.ce[row];
	if (!e->byte_path) return;
	if (p < d->enc->n) {
		uint32_t n = interior(d->enc, p);
		float *nlm = d->path_nlm + d->path_off[p], least = 0;
		bool known = b->range_off[row + 1] > b->range_off[row];
		for (uint32_t i = 0; i < n; i++) {
			/* Rounding must not let the mass of a longer prefix exceed that of a shorter, or be less than the token's. */
			float v = known ? b->out.range_nlm[b->range_off[row] + (int32_t)i] : d->ce[p];
			if (v < least) v = least;
			if (v > d->ce[p]) v = d->ce[p];
			least = nlm[i] = v;
		}
	}
	uint32_t at = d->extras, more = (uint32_t)b->out.extra_n[row];
	memcpy(d->extra_ids + at, b->out.extra_ids + r * E, more * sizeof(int32_t));
	memcpy(d->extra_lp + at, b->out.extra_lp + r * E, more * sizeof(float));
	/* positions are taken in order; those between that are not predicted have none */
	for (; d->next <= p; d->next++) d->extra_off[d->next] = at;
	d->extras = at + more;
}

/* ---- a group, step by step ---- */

static uint32_t length(const window *w) { return w->n + (w->d->bos >= 0); }

/* Windows [first, first + n), run at once. */
typedef struct { size_t first, n; } batch;

struct kf_run {
	const kf_runner *e;
	doc *d;                    /* (docs) */
	window *w;                 /* (windows) */
	batch *b;                  /* (batches) */
	size_t docs, windows, batches;
};

kf_status kf_run_plan(const kf_runner *e, const kf_corpus_rec *docs, const kf_encoding *enc, size_t n,
	kf_arena *arena, kf_run **out, kf_err *err)
{
	kf_run *r = KF_ARENA_NEW(arena, kf_run, 1);
	if (!r) return no_memory(err);
	*r = (kf_run){ .e = e, .docs = n, .d = KF_ARENA_NEW(arena, doc, n) };
	if (!r->d) return no_memory(err);
	for (size_t i = 0; i < n; i++) {
		if (!make_doc(e, arena, &docs[i], &enc[i], &r->d[i])) return no_memory(err);
		r->windows += plan(e, &r->d[i], NULL);
	}
	r->w = KF_ARENA_NEW(arena, window, r->windows);
	r->b = KF_ARENA_NEW(arena, batch, r->windows);
	if (!r->w || !r->b) return no_memory(err);
	for (size_t i = 0, at = 0; i < n; i++) at += plan(e, &r->d[i], r->w + at);
	for (size_t i = 0, j; i < r->windows; i = j) {
		size_t T = 0;
		for (j = i; j < r->windows && (j == i || T + length(&r->w[j]) <= (size_t)e->batch_tokens); j++) T += length(&r->w[j]);
		r->b[r->batches++] = (batch){ i, j - i };
	}
	*out = r;
	return KF_OK;
}

size_t kf_run_batches(const kf_run *r) { return r->batches; }

size_t kf_run_tokens(const kf_run *r, size_t i, size_t *fed)
{
	const window *w = r->w + r->b[i].first;
	size_t tokens = 0;
	*fed = 0;
	for (size_t s = 0; s < r->b[i].n; s++) {
		uint32_t n = w[s].d->enc->n;
		*fed += length(&w[s]);
		tokens += (w[s].p1 < n ? w[s].p1 : n) - (w[s].p0 < n ? w[s].p0 : n);
	}
	return tokens;
}

/* Pairs of a sequence of n, each position seeing at most `most` positions, its own included. */
static double pairs(double n, double most)
{
	return n <= most ? n * (n + 1) / 2 : most * (most + 1) / 2 + (n - most) * most;
}

void kf_run_count(const kf_run *r, int limit, kf_run_work *work)
{
	for (size_t i = 0; i < r->docs; i++) work->tokens += r->d[i].enc->n;
	for (size_t i = 0; i < r->windows; i++) {
		double n = length(&r->w[i]);
		work->fed += length(&r->w[i]);
		for (uint32_t p = r->w[i].p0; p < r->w[i].p1; p++) work->asked += predicted(r->w[i].d, p);
		work->pairs += pairs(n, n);
		work->pairs_windowed += pairs(n, limit > 0 ? limit : n);
	}
}

kf_status kf_run_feed(const kf_run *r, size_t i, kf_arena *arena, kf_batch *out, kf_err *err)
{
	const window *w = r->w + r->b[i].first;
	size_t T, n = r->b[i].n;
	kf_run_tokens(r, i, &T);
	if (T > INT32_MAX / 2)
		return kf_fail(err, KF_EINVAL, "a sequence of %zu tokens is too long to run at once; give a smaller --context", T);
	int32_t *tokens = KF_ARENA_NEW(arena, int32_t, T), *offset = KF_ARENA_NEW(arena, int32_t, n + 1);
	if (!tokens || !offset) return no_memory(err);
	int32_t row = 0;
	offset[0] = 0;
	for (size_t s = 0; s < n; s++) {
		const int32_t *ids = w[s].d->enc->ids + w[s].from;
		if (w[s].d->bos >= 0) tokens[row++] = w[s].d->bos;
		if (w[s].n) memcpy(tokens + row, ids, w[s].n * sizeof *ids);
		offset[s + 1] = row += (int32_t)w[s].n;
	}
	*out = (kf_batch){ .T = (int)T, .S = (int)n, .tokens = tokens, .offset = offset };
	return KF_OK;
}

kf_status kf_run_ask(const kf_run *r, size_t i, kf_arena *arena, kf_question *out, kf_err *err)
{
	const kf_runner *e = r->e;
	const window *w = r->w + r->b[i].first;
	size_t T, ranges = 0, n = r->b[i].n, k = (size_t)e->k, E = (size_t)e->path_extra;
	kf_run_tokens(r, i, &T);
	for (size_t s = 0; s < n; s++)
		for (uint32_t p = w[s].p0; e->byte_path && p < w[s].p1 && p < w[s].d->enc->n; p++) ranges += interior(w[s].d->enc, p);
	if (ranges > INT32_MAX / 2)
		return kf_fail(err, KF_EINVAL, "a batch of %zu tokens spans too many bytes; give smaller --batch-tokens", T);
	*out = (kf_question){
		.labels = KF_ARENA_NEW(arena, int32_t, T), .range_off = KF_ARENA_NEW(arena, int32_t, T + 1),
		.range_lo = KF_ARENA_NEW(arena, int32_t, ranges), .range_hi = KF_ARENA_NEW(arena, int32_t, ranges),
		.rows = KF_ARENA_NEW(arena, int32_t, T),
		.out = { KF_ARENA_NEW(arena, float, T), KF_ARENA_NEW(arena, int32_t, T * k), KF_ARENA_NEW(arena, float, T * k),
		KF_ARENA_NEW(arena, float, ranges), KF_ARENA_NEW(arena, int32_t, T), KF_ARENA_NEW(arena, int32_t, T * E),
		KF_ARENA_NEW(arena, float, T * E) }
	};
	if (!out->labels || !out->range_off || !out->range_lo || !out->range_hi || !out->rows || !out->out.ce || !out->out.top_ids ||
	    !out->out.top_lp || !out->out.range_nlm || !out->out.extra_n || !out->out.extra_ids || !out->out.extra_lp)
		return no_memory(err);

	int32_t row = 0, asked = 0;
	out->range_off[0] = 0;
	for (size_t s = 0; s < n; s++) {
		const doc *d = w[s].d;
		for (uint32_t t = 0; t < length(&w[s]); t++, row++) {
			uint32_t p = w[s].from + t + (d->bos < 0);
			if (p < w[s].p0 || p >= w[s].p1 || !predicted(d, p)) continue;
			out->labels[asked] = p < d->enc->n ? d->enc->ids[p] : -1;
			out->range_off[asked + 1] = out->range_off[asked];
			if (e->byte_path) add_ranges(e, d, p, out, asked);
			out->rows[asked++] = row;
		}
	}
	out->q = (kf_score_query){ .k = e->k, .labels = out->labels, .order = e->order };
	if (asked < row) {
		out->q.rows = out->rows;
		out->q.n_rows = asked;
	}
	if (e->byte_path) {
		out->q.range_off = out->range_off;
		out->q.range_lo = out->range_lo;
		out->q.range_hi = out->range_hi;
		out->q.extra_min = e->path_min;
		out->q.extra_max = e->path_extra;
	}
	return KF_OK;
}

void kf_run_take(kf_run *r, size_t i, const kf_question *q)
{
	const window *w = r->w + r->b[i].first;
	for (size_t s = 0, at = 0; s < r->b[i].n; s++)
		for (uint32_t p = w[s].p0; p < w[s].p1; p++)
			if (predicted(w[s].d, p)) take(r->e, w[s].d, p, q, (int)at++);
}

void kf_run_records(kf_run *r, kf_logits_rec *out)
{
	const kf_runner *e = r->e;
	for (size_t i = 0; i < r->docs; i++) {
		doc *d = &r->d[i];
		const kf_encoding *enc = d->enc;
		for (; e->byte_path && d->next <= enc->n + 1; d->next++) d->extra_off[d->next] = d->extras;
		out[i] = (kf_logits_rec){
			.head = d->rec->head, .bos = d->bos >= 0, .n = enc->n, .k = (uint32_t)e->k, .context = enc->context,
			.tokens = enc->ids, .start = enc->start, .ce = d->ce, .top_ids = d->top_ids, .top_lp = d->top_lp,
			.has_path = e->byte_path, .path_off = d->path_off, .path_nlm = d->path_nlm,
			.extra_off = d->extra_off, .extra_ids = d->extra_ids, .extra_lp = d->extra_lp
		};
	}
}

kf_status kf_run_blame(const kf_run *r, size_t i, kf_status rc, kf_err *err)
{
	const batch *b = &r->b[i];
	return kf_context(err, rc, "documents %llu to %llu", (unsigned long long)r->w[b->first].d->rec->head.doc,
		(unsigned long long)r->w[b->first + b->n - 1].d->rec->head.doc);
}

/* rec and its strings live in arena. KF_END: there is none. */
static kf_status first_conversation(const kf_set *corpus, kf_arena *arena, kf_corpus_rec *rec, kf_err *err)
{
	kf_status rc = KF_END;

	for (int s = 0; s < kf_set_shards(corpus) && rc == KF_END; s++) {
		kf_shard *shard;

		if ((rc = kf_shard_open(corpus, s, &shard, err)) != KF_OK) return rc;
		while (kf_arena_reset(arena), (rc = kf_shard_next_corpus(shard, arena, rec, err)) == KF_OK && rec->n_turns == 0) {}
		kf_shard_close(shard);
	}
	return rc;
}

kf_status kf_run_chat(const kf_set *corpus, const char *name, const kf_tokenizer *t, const char *model, kf_chat **out, kf_err *err)
{
	kf_arena arena;
	kf_corpus_rec rec;
	kf_err none;
	kf_status rc;

	*out = NULL;
	if (!kf_set_chat(corpus)) return name ? kf_chat_check(name, err) : KF_OK;
	if ((rc = kf_chat_choose(name, t, model, out, err)) == KF_OK) return KF_OK;
	kf_arena_init(&arena);
	if (first_conversation(corpus, &arena, &rec, &none) == KF_OK)
		rc = kf_context(err, rc, "%s: document %llu (\"%.200s\", piece %u) is a conversation", kf_set_dir(corpus),
			(unsigned long long)rec.head.doc, rec.head.id, rec.head.piece);
	kf_arena_release(&arena);
	return rc;
}

kf_status kf_run_encode(const kf_tokenizer *t, const kf_chat *chat, const kf_corpus_rec *rec, kf_arena *arena, kf_encoding *out,
	kf_err *err)
{
	kf_status rc;
	if (rec->n_turns && !chat)
		return kf_fail(err, KF_EINVAL, "document %llu is a conversation, but no chat template was chosen", (unsigned long long)rec->head.doc);
	if (rec->n_turns) rc = kf_chat_encode(chat, rec->turns, rec->n_turns, rec->text, arena, out, err);
	else rc = kf_tokenizer_encode(t, rec->text, rec->head.bytes, false, arena, out, err);
	return kf_context(err, rc, "document %llu (\"%.200s\", piece %u)", (unsigned long long)rec->head.doc, rec->head.id, rec->head.piece);
}

kf_status kf_run_group(const kf_runner *e, const kf_corpus_rec *docs, const kf_encoding *enc, size_t n,
	kf_arena *arena, kf_logits_rec *out, kf_err *err)
{
	kf_arena scratch; /* of a batch */
	kf_run *r;
	kf_status rc;
	kf_arena_init(&scratch);
	if ((rc = kf_run_plan(e, docs, enc, n, arena, &r, err)) != KF_OK) goto out;
	for (size_t i = 0; i < r->batches; i++) {
		kf_batch b;
		kf_question q;
		kf_arena_reset(&scratch);
		if ((rc = kf_run_feed(r, i, &scratch, &b, err)) != KF_OK || (rc = kf_run_ask(r, i, &scratch, &q, err)) != KF_OK) goto out;
		if ((rc = kf_run_blame(r, i, e->score(e->arg, &b, &q.q, &q.out, err), err)) != KF_OK) goto out;
		kf_run_take(r, i, &q);
		size_t fed, tokens = kf_run_tokens(r, i, &fed);
		if (e->done) e->done(e->arg, tokens);
	}
	kf_run_records(r, out);
out:
	kf_arena_release(&scratch);
	return rc;
}

kf_status kf_run_order(const kf_tokenizer *t, int V, int32_t **out, kf_err *err)
{
	int32_t n_bytes, n = kf_tokenizer_size(t);
	const int32_t *sorted = kf_tokenizer_sorted(t, &n_bytes);
	int32_t *order = kf_alloc((size_t)V, sizeof *order);
	if (!order || !sorted) {
		kf_free(order);
		return kf_fail(err, KF_ENOMEM, "no memory for the order of %d tokens", V);
	}
	memcpy(order, sorted, (size_t)n * sizeof *sorted);
	for (int i = n; i < V; i++) order[i] = i;
	*out = order;
	return KF_OK;
}

void kf_group_release(kf_group *g)
{
	kf_free(g->docs);
	kf_free(g->enc);
	kf_free(g->out);
}

kf_status kf_group_reserve(kf_group *g, kf_err *err)
{
	size_t cap = g->cap ? 2 * g->cap : 64;

	if (g->n < g->cap) return KF_OK;
	kf_group more = { kf_alloc(cap, sizeof *more.docs), kf_alloc(cap, sizeof *more.enc), kf_alloc(cap, sizeof *more.out), g->n, cap };
	if (!more.docs || !more.enc || !more.out) {
		kf_group_release(&more);
		return kf_fail(err, KF_ENOMEM, "no memory for a group of %zu documents", g->n);
	}
	if (g->n) {
		memcpy(more.docs, g->docs, g->n * sizeof *g->docs);
		memcpy(more.enc, g->enc, g->n * sizeof *g->enc);
	}
	kf_group_release(g);
	*g = more;
	return KF_OK;
}
