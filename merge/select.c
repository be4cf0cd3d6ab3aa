#include "merge/select.h"

#include <assert.h>
#include <inttypes.h>
#include <string.h>

/* Keys have 31 bits. One pass counts them by their upper 15, a second those of the bin where the wanted one
 * is by their lower 16; a third, only where equal keys are to be told apart, finds how many come before each
 * chunk. Counts are integers, so the order in which threads count does not matter. */

#define UPPER (1u << 15)
#define LOWER (1u << 16)
_Static_assert(KF_BINS >= UPPER && KF_BINS >= LOWER, "bins");

struct search {
	kf_merger *m;
	kf_key_fn key;
	void *arg;
	int n;
	uint32_t bin[KF_MERGE_MODELS];     /* upper bits of the wanted key */
	uint32_t want[KF_MERGE_MODELS];    /* the wanted key */
	uint64_t rank[KF_MERGE_MODELS];    /* how many of the keys in hand are to be kept, counted from above */
	bool open[KF_MERGE_MODELS];        /* still sought */
};

static void count_upper(void *arg, const kf_chunk *c)
{
	struct search *s = arg;

	for (int k = 0; k < s->n; k++) {
		uint32_t *bins = s->m->lane[c->worker].bins + (size_t)k * KF_BINS;
		uint64_t zeros = 0;
		s->key(s->arg, c, k, c->keys);
		for (size_t i = 0; i < c->n; i++) bins[c->keys[i] >> 16]++;
		for (size_t i = 0; i < c->n; i++) zeros += c->keys[i] == 0;
		c->part[k] = (double)zeros; /* exact: a chunk is small */
	}
}

static void count_lower(void *arg, const kf_chunk *c)
{
	struct search *s = arg;

	for (int k = 0; k < s->n; k++) {
		uint32_t *bins = s->m->lane[c->worker].bins + (size_t)k * KF_BINS, bin = s->bin[k];
		if (!s->open[k]) continue;
		s->key(s->arg, c, k, c->keys);
		for (size_t i = 0; i < c->n; i++)
			if (c->keys[i] >> 16 == bin) bins[c->keys[i] & 0xffff]++;
	}
}

static void count_ties(void *arg, const kf_chunk *c)
{
	struct search *s = arg;

	for (int k = 0; k < s->n; k++) {
		uint64_t equal = 0;
		if (!s->open[k]) continue;
		s->key(s->arg, c, k, c->keys);
		for (size_t i = 0; i < c->n; i++) equal += c->keys[i] == s->want[k];
		s->m->ties[(size_t)k * s->m->max_chunks + c->index] = equal;
	}
}

static void clear_bins(struct search *s, size_t n)
{
	for (int w = 0; w < kf_pool_size(s->m->pool); w++)
		for (int k = 0; k < s->n; k++)
			memset(s->m->lane[w].bins + (size_t)k * KF_BINS, 0, n * sizeof(uint32_t));
}

static uint64_t bin_count(const struct search *s, int k, uint32_t bin)
{
	uint64_t n = 0;

	for (int w = 0; w < kf_pool_size(s->m->pool); w++) n += s->m->lane[w].bins[(size_t)k * KF_BINS + bin];
	return n;
}

/* The bin, from above, in which the rank-th key is; rank becomes that within the bin. */
static uint32_t walk(struct search *s, int k, uint32_t bins, uint64_t *in_bin)
{
	for (uint32_t b = bins; b-- > 0;) {
		uint64_t n = bin_count(s, k, b);
		*in_bin = n;
		if (n >= s->rank[k]) return b;
		s->rank[k] -= n;
	}
	assert(!"fewer keys than counted");
	return 0;
}

kf_status kf_merge_select(kf_merger *m, kf_key_fn key, void *arg, int n_keys, double share, bool nonzero,
	kf_cut *cuts, kf_merge_facts *facts, kf_err *err)
{
	struct search s = { .m = m, .key = key, .arg = arg, .n = n_keys };
	uint64_t all = m->rows * m->cols, equal = 0;
	bool ties = false;
	kf_status rc;

	assert(n_keys <= m->n);
	if (all > UINT32_MAX)
		return kf_fail(err, KF_EUNSUPPORTED, "tensor %s has %" PRIu64 " elements, more than can be ranked",
			m->in.name, all);
	clear_bins(&s, UPPER);
	if ((rc = kf_merge_pass(m, count_upper, &s, facts, err)) != KF_OK) return rc;
	for (int k = 0; k < n_keys; k++) {
		uint64_t of = nonzero ? all - (uint64_t)kf_merge_sum(m, k) : all;
		cuts[k] = (kf_cut){ .from = UINT32_MAX, .kept = (uint64_t)(share * (double)of) };
		if (cuts[k].kept > of) cuts[k].kept = of;
		if (!nonzero && cuts[k].kept == 0) cuts[k].kept = 1;
		s.rank[k] = cuts[k].kept;
		s.open[k] = cuts[k].kept > 0;
		if (s.open[k]) s.bin[k] = walk(&s, k, UPPER, &equal);
	}
	clear_bins(&s, LOWER);
	if ((rc = kf_merge_pass(m, count_lower, &s, facts, err)) != KF_OK) return rc;
	for (int k = 0; k < n_keys; k++) {
		if (!s.open[k]) continue;
		s.want[k] = s.bin[k] << 16 | walk(&s, k, LOWER, &equal);
		s.open[k] = equal > s.rank[k];
		cuts[k].from = s.want[k] + s.open[k];
		if (!s.open[k]) continue;
		cuts[k].tie = s.want[k];
		cuts[k].ties = s.rank[k];
		cuts[k].before = m->ties + (size_t)k * m->max_chunks;
		ties = true;
	}
	if (!ties) return KF_OK;
	if ((rc = kf_merge_pass(m, count_ties, &s, facts, err)) != KF_OK) return rc;
	for (int k = 0; k < n_keys; k++) {
		uint64_t *before = m->ties + (size_t)k * m->max_chunks, sum = 0;
		for (size_t i = 0; s.open[k] && i < m->chunks; i++) {
			uint64_t here = before[i];
			before[i] = sum;
			sum += here;
		}
	}
	return KF_OK;
}

void kf_cut_mask(const kf_cut *cut, const kf_chunk *c, const uint32_t *keys, uint32_t *keep)
{
	uint64_t rank = cut->ties ? cut->before[c->index] : 0;

	if (rank >= cut->ties) { /* no ties, or all kept ones are in earlier chunks */
		for (size_t i = 0; i < c->n; i++) keep[i] = keys[i] >= cut->from;
		return;
	}
	for (size_t i = 0; i < c->n; i++)
		keep[i] = keys[i] == cut->tie ? rank++ < cut->ties : keys[i] >= cut->from;
}
