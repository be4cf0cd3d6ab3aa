/* Documents of a shard set by number: an index of lengths, a few shards open at a time. */
#include <math.h>

#include "train/data.h"

#define OPEN_SHARDS 16

typedef struct {
	kf_docs base;
	const kf_set *set;
	int fold, folds;                     /* left out: documents of this fold; folds 1: none */
	uint64_t *first;                     /* (shards + 1) document each shard begins with */
	struct { kf_shard *shard; int number; uint64_t used; } open[OPEN_SHARDS];
	uint64_t clock;
} set_docs;

/* A logits record as a distribution a position: what a teacher with the same tokenizer says. */
static kf_status from_logits(const kf_logits_rec *l, kf_arena *arena, kf_dist_rec *out, kf_err *err)
{
	size_t rows = (size_t)l->n + 1, most = rows * l->k;
	uint32_t *off = KF_ARENA_NEW(arena, uint32_t, rows + 1);
	int32_t *ids = KF_ARENA_NEW(arena, int32_t, most);
	float *lp = KF_ARENA_NEW(arena, float, most);
	uint32_t n = 0;

	if (!off || !ids || !lp)
		return kf_fail(err, KF_ENOMEM, "no memory for document %llu", (unsigned long long)l->head.doc);
	for (size_t p = 0; p < rows; p++) {
		off[p] = n;
		for (size_t j = p * l->k; j < (p + 1) * l->k; j++)
			if (l->top_ids[j] >= 0 && l->top_lp[j] > -INFINITY) {
				ids[n] = l->top_ids[j];
				lp[n++] = l->top_lp[j];
			}
	}
	off[rows] = n;
	*out = (kf_dist_rec){ .head = l->head, .bos = l->bos, .n = l->n, .tokens = l->tokens, .start = l->start,
		.ce = l->ce, .off = off, .ids = ids, .lp = lp, .context = l->context };
	return KF_OK;
}

static kf_status read_next(const set_docs *d, kf_shard *s, kf_arena *arena, kf_dist_rec *rec, kf_err *err)
{
	kf_logits_rec l;
	kf_status rc;

	if (kf_set_get_kind(d->set) != KF_SET_LOGITS)
		return kf_shard_next_dist(s, arena, rec, err);
	if ((rc = kf_shard_next_logits(s, arena, &l, err)) != KF_OK)
		return rc;
	return from_logits(&l, arena, rec, err);
}

static kf_status open_shard(set_docs *d, int number, kf_shard **out, kf_err *err)
{
	int oldest = 0;
	kf_status rc;

	for (int i = 0; i < OPEN_SHARDS; i++) {
		if (d->open[i].shard && d->open[i].number == number) {
			d->open[i].used = ++d->clock;
			*out = d->open[i].shard;
			return KF_OK;
		}
		if (d->open[i].used < d->open[oldest].used)
			oldest = i;
	}
	kf_shard_close(d->open[oldest].shard);
	d->open[oldest].shard = NULL;
	if ((rc = kf_shard_open(d->set, number, &d->open[oldest].shard, err)) != KF_OK)
		return rc;
	d->open[oldest].number = number;
	d->open[oldest].used = ++d->clock;
	*out = d->open[oldest].shard;
	return KF_OK;
}

static kf_status set_get(kf_docs *base, uint64_t i, kf_arena *arena, kf_dist_rec *rec, kf_err *err)
{
	set_docs *d = (set_docs *)base;
	int lo = 0, hi = kf_set_shards(d->set);
	kf_shard *s;
	kf_status rc;

	while (hi - lo > 1) {
		int mid = lo + (hi - lo) / 2;
		if (d->first[mid] <= i)
			lo = mid;
		else
			hi = mid;
	}
	if ((rc = open_shard(d, lo, &s, err)) != KF_OK || (rc = kf_shard_seek(s, i - d->first[lo], err)) != KF_OK)
		return rc;
	rc = read_next(d, s, arena, rec, err);
	return rc == KF_END ? kf_fail(err, KF_EDATA, "%s: shard %d has fewer documents than its set says",
		kf_set_dir(d->set), lo) : rc;
}

static void set_close(kf_docs *base)
{
	set_docs *d = (set_docs *)base;

	for (int i = 0; i < OPEN_SHARDS; i++)
		kf_shard_close(d->open[i].shard);
	kf_free(d->first);
	kf_free(base->rows);
	kf_free(d);
}

static bool left_out(const set_docs *d, const kf_dochead *doc)
{
	return d->folds > 1 && kf_fold_of(doc, d->folds) == d->fold;
}

/* One pass for the lengths, from which steps and learning rates follow. */
static kf_status measure(set_docs *d, kf_err *err)
{
	kf_arena arena;
	kf_status rc = KF_OK;

	kf_arena_init(&arena);
	for (int s = 0; s < kf_set_shards(d->set) && rc == KF_OK; s++) {
		kf_shard *shard;

		if ((rc = kf_shard_open(d->set, s, &shard, err)) != KF_OK)
			break;
		for (uint64_t i = d->first[s]; i < d->first[s + 1] && rc == KF_OK; i++) {
			kf_dist_rec rec;

			kf_arena_reset(&arena);
			if ((rc = read_next(d, shard, &arena, &rec, err)) != KF_OK)
				break;
			d->base.rows[i] = rec.n && !left_out(d, &rec.head) ? rec.n + rec.bos : 0;
			d->base.total += d->base.rows[i];
		}
		kf_shard_close(shard);
		if (rc == KF_END)
			rc = kf_fail(err, KF_EDATA, "%s: shard %d has fewer documents than its set says", kf_set_dir(d->set), s);
	}
	kf_arena_release(&arena);
	return rc;
}

kf_status kf_docs_open(const kf_set *set, int fold, int folds, kf_docs **out, kf_err *err)
{
	set_docs *d = kf_zalloc(1, sizeof *d);
	int shards = kf_set_shards(set);
	kf_status rc;

	*out = NULL;
	if (!d)
		return kf_fail(err, KF_ENOMEM, "no memory to read %s", kf_set_dir(set));
	d->set = set;
	d->fold = fold;
	d->folds = folds;
	d->base.get = set_get;
	d->base.close = set_close;
	d->base.n = kf_set_docs(set);
	d->first = kf_alloc((size_t)shards + 1, sizeof *d->first);
	d->base.rows = kf_alloc(d->base.n, sizeof *d->base.rows);
	if (!d->first || !d->base.rows) {
		rc = kf_fail(err, KF_ENOMEM, "no memory for the index of %s", kf_set_dir(set));
		goto fail;
	}
	d->first[0] = 0;
	for (int s = 0; s < shards; s++)
		d->first[s + 1] = d->first[s] + kf_set_shard_docs(set, s);
	if (d->first[shards] != d->base.n) {
		rc = kf_fail(err, KF_EDATA, "%s: its shards do not hold the documents that it says", kf_set_dir(set));
		goto fail;
	}
	if ((rc = measure(d, err)) != KF_OK)
		goto fail;
	*out = &d->base;
	return KF_OK;
fail:
	set_close(&d->base);
	return rc;
}

void kf_docs_close(kf_docs *d)
{
	if (d)
		d->close(d);
}
