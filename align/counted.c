#include "align/counted.h"

#include <math.h>
#include <pthread.h>
#include <string.h>

#include "align/method.h"
#include "align/warp.h"
#include "common/store/pass.h"

/* ---- counting ---- */

kf_status align_counted_lexicon(const kf_tokenizer *source, const kf_tokenizer *target, align_lexicon **out, kf_err *err)
{
	return align_lexicon_new(source, target, ALIGN_SPELL_DECODED, false, out, err);
}

static kf_status tokens_ok(const kf_logits_rec *r, const align_words *words, const char *what, kf_err *err)
{
	for (uint32_t i = 0; i < r->n; i++)
		if (r->tokens[i] < 0 || r->tokens[i] >= words->n)
			return kf_fail(err, KF_EDATA, "document %llu of the %s's logits: token %d is not in the vocabulary",
				(unsigned long long)r->head.doc, what, (int)r->tokens[i]);
	return KF_OK;
}

/* The pairs of a text, ids instead of places; those of one target position stand together, each once. */
static kf_status text_pairs(const align_lexicon *x, const align_seq *s, const align_seq *t, kf_arena *arena, align_pair **out,
	uint32_t *n, kf_err *err)
{
	uint32_t all, kept = 0, from = 0, place = UINT32_MAX;
	align_pair *p;
	kf_status rc;

	*n = 0;
	if (s->n == 0 || t->n == 0) return KF_OK;
	if ((rc = align_warp(x, s, t, ALIGN_LEFT_FIRST, arena, &p, &all, NULL, err)) != KF_OK) return rc;
	for (uint32_t i = 0; i < all; i++) {
		uint32_t at = p[i].b, id = (uint32_t)s->ids[p[i].a], k;

		if (at != place) from = kept;
		place = at;
		for (k = from; k < kept && p[k].a != id; k++) {}
		if (k == kept) p[kept++] = (align_pair){ id, (uint32_t)t->ids[at] };
	}
	*out = p;
	*n = kept;
	return KF_OK;
}

static kf_status add_all(align_pairs *to, const align_pair *p, uint32_t n, kf_err *err)
{
	for (uint32_t i = 0; i < n; i++)
		if (!align_pairs_add(to, (int32_t)p[i].a, (int32_t)p[i].b, 1))
			return kf_fail(err, KF_ENOMEM, "no memory for counts of aligned tokens");
	return KF_OK;
}

static align_seq part(const kf_logits_rec *r, const align_reply *x)
{
	return (align_seq){ .ids = r->tokens + x->first, .at = r->start + x->first, .n = x->end - x->first };
}

/* lock (may be NULL) is held while pairs grow. */
static kf_status count(const align_lexicon *x, const kf_logits_rec *s, const kf_logits_rec *t, kf_arena *arena, align_pairs *pairs,
	pthread_mutex_t *lock, kf_err *err)
{
	uint32_t ps = 0, pt = 0, n;
	align_reply rs = { .to = 0 }, rt;
	bool some = align_next_text(s, &ps, &rs);
	kf_status rc;

	if ((rc = tokens_ok(s, &x->a, "source", err)) != KF_OK || (rc = tokens_ok(t, &x->b, "target", err)) != KF_OK) return rc;
	while (some && align_next_text(t, &pt, &rt)) {
		/* replies of one place; what only one of them has is no pair */
		while (some && s->context && rs.to < rt.to) some = align_next_text(s, &ps, &rs);
		if (!some || (s->context && (rs.from != rt.from || rs.to != rt.to))) continue;
		align_seq a = part(s, &rs), b = part(t, &rt);
		align_pair *p = NULL;

		if ((rc = text_pairs(x, &a, &b, arena, &p, &n, err)) != KF_OK)
			return kf_context(err, rc, "document %llu", (unsigned long long)t->head.doc);
		if (lock) pthread_mutex_lock(lock);
		rc = add_all(pairs, p, n, err);
		if (lock) pthread_mutex_unlock(lock);
		if (rc != KF_OK) return rc;
	}
	return KF_OK;
}

kf_status align_count_doc(const align_lexicon *x, const kf_logits_rec *source, const kf_logits_rec *target, kf_arena *arena,
	align_pairs *pairs, kf_err *err)
{
	return count(x, source, target, arena, pairs, NULL, err);
}

typedef struct {
	align_lexicon *lexicon;
	align_pairs pairs;
	pthread_mutex_t lock;   /* of pairs */
} text;

static kf_status one_document(void *arg, kf_shard *const *in, kf_shard_writer *out, kf_tally *tally, kf_arena *arena,
	uint64_t *tokens, kf_err *err)
{
	text *x = arg;
	kf_logits_rec s, t;
	kf_status rc;

	(void)out;
	(void)tally;
	if ((rc = kf_shard_next_tokens(in[0], arena, &t, err)) != KF_OK) return rc;
	if ((rc = kf_shard_next_tokens(in[1], arena, &s, err)) != KF_OK) return rc;
	*tokens = t.n;
	return count(x->lexicon, &s, &t, arena, &x->pairs, &x->lock, err);
}

/* ---- choosing ---- */

typedef struct {
	align_words plain[2];    /* of the source, of the target: without space markers */
	align_words marked[2];   /* with the target's */
} spellings;

static kf_status spell(spellings *s, const kf_tokenizer *source, const kf_tokenizer *target, kf_err *err)
{
	const kf_tokenizer *t[2] = { source, target };
	kf_status rc = KF_OK;

	for (int side = 0; rc == KF_OK && side < 2; side++) {
		rc = align_words_marked(t[side], "", &s->plain[side], err);
		if (rc == KF_OK) rc = align_words_marked(t[side], align_marker(target), &s->marked[side], err);
	}
	return rc;
}

static void spellings_release(spellings *s)
{
	for (int side = 0; side < 2; side++) {
		align_words_release(&s->plain[side]);
		align_words_release(&s->marked[side]);
	}
}

/* *within: whether one string stands in the other. */
static uint32_t distance(const spellings *s, int32_t x, int32_t y, bool *within)
{
	uint32_t na, nb;
	const uint32_t *a = align_word(&s->plain[0], x, &na), *b = align_word(&s->plain[1], y, &nb);

	if (na == 0 || nb == 0) {
		a = align_word(&s->marked[0], x, &na);
		b = align_word(&s->marked[1], y, &nb);
	}
	*within = na < nb ? align_contains(b, nb, a, na) : align_contains(a, na, b, nb);
	return align_edit(a, na, b, nb);
}

static void put(kf_vocabmap *map, const spellings *s, int32_t x, int32_t y, uint64_t count)
{
	uint32_t na, nb;
	const uint32_t *a = align_word(&s->marked[0], x, &na), *b = align_word(&s->marked[1], y, &nb);
	bool within;

	map->to[x] = y;
	map->count[x] = count;
	map->distance[x] = distance(s, x, y, &within);
	map->equal[x] = na == nb && align_ends(b, nb, a, na);
}

kf_status align_counted_choose(const align_pairs *pairs, const kf_tokenizer *source, const kf_tokenizer *target, kf_vocabmap *map,
	kf_err *err)
{
	spellings s = { 0 };
	int32_t ends[2][2] = { { kf_tokenizer_bos(source), kf_tokenizer_bos(target) }, { kf_tokenizer_eos(source), kf_tokenizer_eos(target) } };
	double best = 0;
	kf_status rc;

	if ((rc = spell(&s, source, target, err)) != KF_OK) goto out;
	for (size_t i = 0; i < pairs->n; i++) {
		int32_t x = align_pairs_a(pairs, i), y = align_pairs_b(pairs, i);
		bool within, first = i == 0 || align_pairs_a(pairs, i - 1) != x;
		uint32_t d = distance(&s, x, y, &within);
		double weighed = d * (within ? 0.1 : 1) * (1 / (1 + exp(-(double)pairs->count[i])));

		if (!first && weighed >= best) continue;
		best = weighed;
		put(map, &s, x, y, pairs->count[i]);
	}
	for (int e = 0; e < 2; e++)
		if (ends[e][0] >= 0 && ends[e][1] >= 0)
			put(map, &s, ends[e][0], ends[e][1], align_pairs_count(pairs, ends[e][0], ends[e][1]));
out:
	spellings_release(&s);
	return rc;
}

kf_status align_count(kf_set *source, kf_set *target, const kf_tokenizer *st, const kf_tokenizer *tt, kf_pool *pool, int progress,
	align_pairs *pairs, kf_err *err)
{
	kf_set *const in[2] = { target, source };
	text x = { .lock = PTHREAD_MUTEX_INITIALIZER };
	kf_pass p = { .in = in, .n_in = 2, .parts = 1, .label = "count", .progress = progress, .doc = one_document, .arg = &x };
	kf_tally none = { .width = 1 };
	bool whole;
	kf_status rc;

	if ((rc = align_counted_lexicon(st, tt, &x.lexicon, err)) != KF_OK) goto out;
	if ((rc = kf_pass_run(&p, pool, &none, &whole, err)) != KF_OK) goto out;
	if (!align_pairs_sort(&x.pairs)) rc = kf_fail(err, KF_ENOMEM, "no memory for counts of aligned tokens");
out:
	kf_tally_release(&none);
	align_lexicon_free(x.lexicon);
	if (rc != KF_OK) align_pairs_release(&x.pairs);
	*pairs = x.pairs;
	return rc;
}
