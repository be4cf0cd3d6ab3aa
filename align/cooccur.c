/* The choice among equally near tokens by what they occur with (mined.h has the definition). */
#include <math.h>
#include <pthread.h>
#include <string.h>

#include "align/method.h"
#include "align/mined.h"
#include "align/pairs.h"
#include "common/store/pass.h"
#include "common/store/record.h"

enum { TARGET, SOURCE };
#define WINDOW 5

typedef struct {
	int32_t n[2];            /* sizes of the vocabularies */
	uint8_t *seen[2];        /* (n) 1: in the text; 2: its neighbours are counted */
	int32_t *component[2];   /* (n) which component a neighbour counts for, -1: none */
	align_pairs pairs[2];    /* token and component */
	bool count;              /* the second pass */
	pthread_mutex_t lock;
} text;

static kf_status tokens_ok(const kf_logits_rec *r, int32_t size, kf_err *err)
{
	for (uint32_t i = 0; i < r->n; i++)
		if (r->tokens[i] < 0 || r->tokens[i] >= size)
			return kf_fail(err, KF_EDATA, "document %llu: token %d is not in the vocabulary", (unsigned long long)r->head.doc,
				(int)r->tokens[i]);
	return KF_OK;
}

static bool neighbour(text *t, int side, int32_t x, int32_t y, uint64_t count)
{
	int32_t c = t->component[side][y];

	return t->seen[side][x] != 2 || c < 0 || align_pairs_add(&t->pairs[side], x, c, count);
}

static bool one_text(text *t, int side, const int32_t *tokens, uint32_t n)
{
	bool good = true;

	for (uint32_t i = 0; i < n; i++) {
		if (!t->count) t->seen[side][tokens[i]] = 1;
		for (uint32_t j = i + 1; t->count && j < n && j <= i + WINDOW; j++) {
			uint64_t times = j < i + WINDOW ? 2 : 1;

			good = good && neighbour(t, side, tokens[i], tokens[j], times) && neighbour(t, side, tokens[j], tokens[i], times);
		}
	}
	return good;
}

static kf_status one_document(void *arg, kf_shard *const *in, kf_shard_writer *out, kf_tally *tally, kf_arena *arena,
	uint64_t *tokens, kf_err *err)
{
	text *t = arg;
	bool good = true;
	kf_status rc;

	(void)out;
	(void)tally;
	for (int side = TARGET; side <= SOURCE; side++) {
		kf_logits_rec r;
		align_reply part;

		if ((rc = kf_shard_next_tokens(in[side], arena, &r, err)) != KF_OK) return rc;
		if ((rc = tokens_ok(&r, t->n[side], err)) != KF_OK) return rc;
		pthread_mutex_lock(&t->lock);
		for (uint32_t p = 0; align_next_text(&r, &p, &part);) good = good && one_text(t, side, r.tokens + part.first, part.end - part.first);
		pthread_mutex_unlock(&t->lock);
		if (side == TARGET) *tokens = r.n;
	}
	return good ? KF_OK : kf_fail(err, KF_ENOMEM, "no memory for counts of neighbouring tokens");
}

static kf_status pass(text *t, kf_set *source, kf_set *target, kf_pool *pool, int progress, kf_err *err)
{
	kf_set *const in[2] = { [TARGET] = target, [SOURCE] = source };
	kf_pass p = { .in = in, .n_in = 2, .parts = 1, .label = t->count ? "count" : "look", .progress = progress, .doc = one_document,
		.arg = t };
	kf_tally none = { .width = 1 };
	bool whole;
	kf_status rc = kf_pass_run(&p, pool, &none, &whole, err);

	kf_tally_release(&none);
	return rc;
}

/* ---- cosines ---- */

/* Where the row of token x begins among the sorted pairs. */
static size_t row(const align_pairs *p, int32_t x)
{
	size_t lo = 0, hi = p->n;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (align_pairs_a(p, mid) < x) lo = mid + 1;
		else hi = mid;
	}
	return lo;
}

static double cosine(const align_pairs *s, int32_t x, const align_pairs *t, int32_t y)
{
	size_t i = row(s, x), j = row(t, y), from = j;
	double dot = 0, xx = 0, yy = 0;

	for (; i < s->n && align_pairs_a(s, i) == x; i++) {
		while (j < t->n && align_pairs_a(t, j) == y && align_pairs_b(t, j) < align_pairs_b(s, i)) j++;
		if (j < t->n && t->key[j] == ((uint64_t)(uint32_t)y << 32 | (uint32_t)align_pairs_b(s, i)))
			dot += (double)s->count[i] * (double)t->count[j];
		xx += (double)s->count[i] * (double)s->count[i];
	}
	for (j = from; j < t->n && align_pairs_a(t, j) == y; j++) yy += (double)t->count[j] * (double)t->count[j];
	return dot / (sqrt(xx) * sqrt(yy) + 1e-6);
}

static void choose(align_mined *m, const text *t, const int32_t *which, uint32_t n, const uint32_t *off, const int32_t *all)
{
	for (uint32_t i = 0; i < n; i++) {
		double best = -1;

		for (uint32_t k = off[i]; k < off[i + 1]; k++) {
			double c = cosine(&t->pairs[SOURCE], which[i], &t->pairs[TARGET], all[k]);

			if (c <= best) continue;
			best = c;
			m->near[which[i]].at = all[k];
		}
	}
}

/* ---- what is to be counted ---- */

static bool text_init(text *t, const align_mined *m)
{
	*t = (text){ .n = { [TARGET] = m->b.n, [SOURCE] = m->a.n } };
	pthread_mutex_init(&t->lock, NULL);
	for (int side = TARGET; side <= SOURCE; side++) {
		t->seen[side] = kf_zalloc((size_t)t->n[side], 1);
		t->component[side] = kf_alloc((size_t)t->n[side], sizeof **t->component);
		if (!t->seen[side] || !t->component[side]) return false;
		for (int32_t i = 0; i < t->n[side]; i++) t->component[side][i] = -1;
	}
	for (int32_t x = 0; x < m->a.n; x++)
		if (m->near[x].at >= 0) t->component[TARGET][m->near[x].at] = m->near[x].at;
	/* the last source token of an image */
	for (int32_t x = m->a.n - 1; x >= 0; x--) {
		int32_t c = m->near[x].at;

		if (c < 0 || t->seen[TARGET][c]) continue;
		t->seen[TARGET][c] = 1;
		t->component[SOURCE][x] = c;
	}
	memset(t->seen[TARGET], 0, (size_t)t->n[TARGET]);
	return true;
}

static void text_release(text *t)
{
	for (int side = TARGET; side <= SOURCE; side++) {
		kf_free(t->seen[side]);
		kf_free(t->component[side]);
		align_pairs_release(&t->pairs[side]);
	}
	pthread_mutex_destroy(&t->lock);
}

kf_status align_cooccur(align_mined *m, kf_set *source, kf_set *target, kf_pool *pool, int progress, kf_err *err)
{
	text t;
	int32_t *which = kf_alloc((size_t)m->a.n, sizeof *which), *all = NULL;
	uint32_t *off = kf_alloc((size_t)m->a.n + 1, sizeof *off), n = 0;
	kf_status rc = KF_OK;

	if (!text_init(&t, m) || !which || !off) goto nomem;
	if ((rc = pass(&t, source, target, pool, progress, err)) != KF_OK) goto out;
	for (int32_t x = 0; x < m->a.n; x++)
		if (t.seen[SOURCE][x] && m->near[x].distance > 0 && m->near[x].at >= 0) which[n++] = x;
	if ((rc = align_nearest_all(&m->a, &m->b, m->symbols, pool, m->near, which, n, off, &all, err)) != KF_OK) goto out;
	for (uint32_t i = 0; i < n; i++) {
		if (off[i + 1] - off[i] < 2) continue;
		t.seen[SOURCE][which[i]] = 2;
		for (uint32_t k = off[i]; k < off[i + 1]; k++)
			if (t.seen[TARGET][all[k]]) t.seen[TARGET][all[k]] = 2;
	}
	t.count = true;
	if ((rc = pass(&t, source, target, pool, progress, err)) != KF_OK) goto out;
	if (!align_pairs_sort(&t.pairs[SOURCE]) || !align_pairs_sort(&t.pairs[TARGET])) goto nomem;
	choose(m, &t, which, n, off, all);
	goto out;
nomem:
	rc = kf_fail(err, KF_ENOMEM, "no memory to choose among equally near tokens");
out:
	text_release(&t);
	kf_free(all);
	kf_free(off);
	kf_free(which);
	return rc;
}
