#include "align/nearest.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* ---- the distances of one word from a vector of words ----
 *
 * A lane holds bit vectors over the symbols of one word; all words of a vector have m symbols, the last
 * at the top bit, where it is the sign. The word compared with them is the text. Below bit BITS - m there is
 * nothing: what stands there never carries into the others, and `first` overwrites what is shifted out of it. */

#if defined __AVX512BW__
#define VECTOR 64       /* bytes */
#elif defined __AVX2__
#define VECTOR 32
#else
#define VECTOR 16
#endif
#define PATTERN_MAX 64  /* symbols: what fits the widest lane */
#define TEXT_MAX 255    /* so that a distance fits the narrowest */
#define ROWS (8 * VECTOR + 1)

#define DEFINE_LANES(BITS) \
typedef uint##BITS##_t v##BITS __attribute__((vector_size(VECTOR))); \
typedef int##BITS##_t s##BITS __attribute__((vector_size(VECTOR)));
DEFINE_LANES(8)
DEFINE_LANES(16)
DEFINE_LANES(32)
DEFINE_LANES(64)

/* eq + VECTOR * row[i]: where the text's i-th symbol stands in each lane's word. Puts each lane's distance
 * into out; whether one of them is at most limit. */
#define DEFINE_MYERS(BITS) \
static bool myers##BITS(const uint8_t *eq, const uint16_t *row, uint32_t n, uint32_t m, uint32_t limit, void *out) \
{ \
	v##BITS zero = { 0 }, pv = ~zero, mv = zero, score = zero + (uint##BITS##_t)m; \
	v##BITS first = zero + (uint##BITS##_t)((uint##BITS##_t)1 << (BITS - m)); \
	uint64_t any = 0; \
	v64 hit; \
	\
	for (uint32_t i = 0; i < n; i++) { \
		v##BITS e = *(const v##BITS *)(const void *)(eq + (size_t)row[i] * VECTOR); \
		v##BITS xv = e | mv, xh = (((e & pv) + pv) ^ pv) | e, ph = mv | ~(xh | pv), mh = pv & xh; \
		\
		score -= (v##BITS)((s##BITS)ph < 0); \
		score += (v##BITS)((s##BITS)mh < 0); \
		ph = (ph + ph) | first; \
		mh = mh + mh; \
		pv = mh | ~(xv | ph); \
		mv = ph & xv; \
	} \
	*(v##BITS *)out = score; \
	hit = (v64)(score <= zero + (uint##BITS##_t)limit); \
	for (uint32_t i = 0; i < VECTOR / 8; i++) any |= hit[i]; \
	return any != 0; \
}
DEFINE_MYERS(8)
DEFINE_MYERS(16)
DEFINE_MYERS(32)
DEFINE_MYERS(64)

static uint32_t lane_bytes(uint32_t m) { return m <= 8 ? 1 : m <= 16 ? 2 : m <= 32 ? 4 : 8; }

/* ---- the search ---- */

#define CHUNK 8192   /* words of a that one thread takes: enough to share the tables made of b's */

typedef struct { uint32_t word; int32_t at; } found;   /* word: its place in which */

typedef struct {
	uint8_t eq[ROWS * VECTOR] __attribute__((aligned(VECTOR)));
	uint8_t score[VECTOR] __attribute__((aligned(VECTOR)));
	uint16_t row[TEXT_MAX];
	uint16_t *row_of;        /* (symbols) of eq; 0: in none of the words */
	uint32_t used[ROWS], n_used;
	found *found;
	size_t n_found, cap;
	bool failed;             /* no memory for found */
} work;

typedef struct {
	const align_words *a, *b;
	align_near *near;
	const align_near *want;  /* not NULL: collect what is at these distances */
	const int32_t *which;
	uint32_t *todo;          /* words of a, by length; to collect: places in which */
	size_t n_todo;
	uint32_t *order;         /* words of b by length, ascending within */
	uint32_t *from;          /* (longest + 2) where each length begins in order */
	uint32_t longest;
	work *works;             /* one a thread */
	pthread_mutex_t lock;    /* of done */
	void (*done)(void *arg, size_t words);
	void *arg;
} job;

static inline uint32_t length(const align_words *w, uint32_t i) { return w->off[i + 1] - w->off[i]; }
static inline uint32_t word_of(const job *j, uint32_t todo) { return j->want ? (uint32_t)j->which[todo] : todo; }
static inline align_near best(const job *j, uint32_t todo) { return j->want ? j->want[j->which[todo]] : j->near[todo]; }

/* Whether a distance of at least bound, from words of which the first is `first`, can matter still. */
static inline bool matters(const job *j, align_near now, uint32_t bound, int32_t first)
{
	return bound < now.distance || (bound == now.distance && (j->want || first < now.at));
}

static void offer(job *j, work *w, uint32_t todo, uint32_t d, int32_t at)
{
	align_near now = best(j, todo);

	if (!j->want) {
		if (matters(j, now, d, at)) j->near[todo] = (align_near){ d, at };
	} else if (d == now.distance) {
		if (w->n_found == w->cap) {
			size_t cap = w->cap ? 2 * w->cap : 1024;
			found *more = kf_alloc(cap, sizeof *more);

			if (!more) {
				w->failed = true;
				return;
			}
			if (w->n_found) memcpy(more, w->found, w->n_found * sizeof *more);
			kf_free(w->found);
			w->found = more;
			w->cap = cap;
		}
		w->found[w->n_found++] = (found){ todo, at };
	}
}

/* The table of a vector of b's words, all of m symbols. */
static void table(work *w, const align_words *b, const uint32_t *word, uint32_t lanes, uint32_t m)
{
	uint32_t bytes = lane_bytes(m), low = 8 * bytes - m;

	for (uint32_t i = 0; i < w->n_used; i++) w->row_of[w->used[i]] = 0;
	w->n_used = 0;
	memset(w->eq, 0, VECTOR);
	for (uint32_t l = 0; l < lanes; l++) {
		const uint32_t *t = b->text + b->off[word[l]];

		for (uint32_t i = 0; i < m; i++) {
			uint16_t *r = &w->row_of[t[i]];
			uint32_t bit = low + i;

			if (!*r) {
				w->used[w->n_used++] = t[i];
				*r = (uint16_t)w->n_used;
				memset(w->eq + (size_t)*r * VECTOR, 0, VECTOR);
			}
			/* little-endian lanes; see the check below */
			w->eq[(size_t)*r * VECTOR + l * bytes + bit / 8] |= (uint8_t)(1u << bit % 8);
		}
	}
}
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "lanes are filled byte by byte");

static inline uint32_t lane(const work *w, uint32_t i, uint32_t bytes)
{
	uint64_t v = 0;

	memcpy(&v, w->score + i * bytes, bytes);
	return (uint32_t)v;
}

/* Compare the words of a `open`, all of n symbols, with a vector of b's words of m symbols. */
static void compare(job *j, work *w, const uint32_t *open, size_t n_open, uint32_t n, const uint32_t *word, uint32_t lanes,
	uint32_t m)
{
	uint32_t bytes = lane_bytes(m), most = bytes == 1 ? UINT8_MAX : bytes == 2 ? UINT16_MAX : UINT32_MAX;

	table(w, j->b, word, lanes, m);
	for (size_t o = 0; o < n_open; o++) {
		const uint32_t *text = j->a->text + j->a->off[word_of(j, open[o])];
		align_near now = best(j, open[o]);
		uint32_t bound = m > n ? m - n : 0, limit = now.distance < most ? now.distance : most;
		bool hit;

		for (uint32_t i = 0; i < n; i++) {
			w->row[i] = w->row_of[text[i]];
			bound += w->row[i] == 0;
		}
		if (!matters(j, now, bound, (int32_t)word[0])) continue;
		switch (bytes) {
		case 1: hit = myers8(w->eq, w->row, n, m, limit, w->score); break;
		case 2: hit = myers16(w->eq, w->row, n, m, limit, w->score); break;
		case 4: hit = myers32(w->eq, w->row, n, m, limit, w->score); break;
		default: hit = myers64(w->eq, w->row, n, m, limit, w->score); break;
		}
		if (hit)
			for (uint32_t l = 0; l < lanes; l++) offer(j, w, open[o], lane(w, l, bytes), (int32_t)word[l]);
	}
}

/* The same where one of the two is too long for vectors. */
static void compare_long(job *j, work *w, const uint32_t *open, size_t n_open, uint32_t n, const uint32_t *word, uint32_t words,
	uint32_t m)
{
	uint32_t bound = m > n ? m - n : n - m;

	for (size_t o = 0; o < n_open; o++) {
		const uint32_t *text = j->a->text + j->a->off[word_of(j, open[o])];

		for (uint32_t i = 0; i < words; i++)
			if (matters(j, best(j, open[o]), bound, (int32_t)word[i]))
				offer(j, w, open[o], align_edit(text, n, j->b->text + j->b->off[word[i]], m), (int32_t)word[i]);
	}
}

/* Words of a that have n symbols with all of b that have m. */
static void lengths(job *j, work *w, const uint32_t *open, size_t n_open, uint32_t n, uint32_t m)
{
	const uint32_t *word = j->order + j->from[m];
	uint32_t words = j->from[m + 1] - j->from[m], step;

	if (n > TEXT_MAX || m > PATTERN_MAX) {
		compare_long(j, w, open, n_open, n, word, words, m);
		return;
	}
	step = VECTOR / lane_bytes(m);
	for (uint32_t i = 0; i < words; i += step)
		compare(j, w, open, n_open, n, word + i, words - i < step ? words - i : step, m);
}

static void one_chunk(void *arg, size_t c, int worker)
{
	job *j = arg;
	work *w = &j->works[worker];
	uint32_t *todo = j->todo + c * CHUNK;
	size_t all = j->n_todo - c * CHUNK < CHUNK ? j->n_todo - c * CHUNK : CHUNK, n = all;

	/* by how much lengths differ: nothing nearer can be found once that exceeds the best distance */
	for (uint32_t d = 0; n > 0 && !w->failed; d++) {
		size_t kept = 0;
		bool any = false;

		for (size_t i = 0; i < n; i++)
			if (best(j, todo[i]).distance >= d) todo[kept++] = todo[i];
		n = kept;
		for (size_t i = 0, end; i < n; i = end) {
			uint32_t len = length(j->a, word_of(j, todo[i]));

			for (end = i; end < n && length(j->a, word_of(j, todo[end])) == len; end++) {}
			if (len + (uint64_t)d <= j->longest) lengths(j, w, todo + i, end - i, len, len + d);
			if (d > 0 && len > d && len - d <= j->longest) lengths(j, w, todo + i, end - i, len, len - d);
			any |= len + (uint64_t)d <= j->longest || len > d;
		}
		if (!any) break;
	}
	if (j->done) {
		pthread_mutex_lock(&j->lock);
		j->done(j->arg, all);
		pthread_mutex_unlock(&j->lock);
	}
}

/* ---- before and after ---- */

/* items (n) by the length of a word, the order within kept; from (longest + 2) or NULL. key(item) as word_of. */
static bool sort_by_length(const job *j, const align_words *words, bool places, uint32_t *items, size_t n, uint32_t longest,
	uint32_t *from)
{
	uint32_t *at = kf_zalloc((size_t)longest + 2, sizeof *at), *sorted = kf_alloc(n, sizeof *sorted);

	if (at && sorted) {
		for (size_t i = 0; i < n; i++) at[length(words, places ? word_of(j, items[i]) : items[i]) + 1]++;
		for (uint32_t l = 1; l <= longest + 1; l++) at[l] += at[l - 1];
		if (from) memcpy(from, at, ((size_t)longest + 2) * sizeof *from);
		for (size_t i = 0; i < n; i++) sorted[at[length(words, places ? word_of(j, items[i]) : items[i])]++] = items[i];
		if (n) memcpy(items, sorted, n * sizeof *items);
	}
	kf_free(sorted);
	kf_free(at);
	return at && sorted;
}

static void job_release(job *j, int workers)
{
	for (int i = 0; j->works && i < workers; i++) {
		kf_free(j->works[i].row_of);
		kf_free(j->works[i].found);
	}
	kf_free(j->works);
	kf_free(j->from);
	kf_free(j->order);
	kf_free(j->todo);
	pthread_mutex_destroy(&j->lock);
}

/* j->todo (n_todo) is filled; all else but works' found comes from here. */
static kf_status search(job *j, uint32_t symbols, kf_pool *pool, int workers, kf_err *err)
{
	uint32_t n = 0, longest_a = 0;

	for (size_t i = 0; i < j->n_todo; i++)
		if (length(j->a, word_of(j, j->todo[i])) > longest_a) longest_a = length(j->a, word_of(j, j->todo[i]));
	for (int32_t i = 0; i < j->b->n; i++)
		if (length(j->b, (uint32_t)i) > j->longest) j->longest = length(j->b, (uint32_t)i);
	j->order = kf_alloc((size_t)j->b->n, sizeof *j->order);
	j->from = kf_alloc((size_t)j->longest + 2, sizeof *j->from);
	j->works = kf_zalloc((size_t)workers, sizeof *j->works);
	if (!j->order || !j->from || !j->works) goto nomem;
	for (int i = 0; i < workers; i++)
		if (!(j->works[i].row_of = kf_zalloc((size_t)symbols + 1, sizeof *j->works[i].row_of))) goto nomem;
	for (int32_t i = 0; i < j->b->n; i++) j->order[n++] = (uint32_t)i;
	if (!sort_by_length(j, j->b, false, j->order, n, j->longest, j->from) ||
	    !sort_by_length(j, j->a, true, j->todo, j->n_todo, longest_a, NULL)) goto nomem;
	kf_pool_run(pool, (j->n_todo + CHUNK - 1) / CHUNK, one_chunk, j);
	for (int i = 0; i < workers; i++)
		if (j->works[i].failed) goto nomem;
	return KF_OK;
nomem:
	return kf_fail(err, KF_ENOMEM, "no memory to compare %d with %d words", (int)j->a->n, (int)j->b->n);
}

kf_status align_nearest(const align_words *a, const align_words *b, uint32_t symbols, kf_pool *pool, align_near *near,
	void (*done)(void *arg, size_t words), void *arg, kf_err *err)
{
	job j = { .a = a, .b = b, .near = near, .done = done, .arg = arg };
	int workers = pool ? kf_pool_size(pool) : 1;
	kf_status rc;

	pthread_mutex_init(&j.lock, NULL);
	if (!(j.todo = kf_alloc((size_t)a->n, sizeof *j.todo))) {
		rc = kf_fail(err, KF_ENOMEM, "no memory to compare %d words", (int)a->n);
	} else {
		for (int32_t i = 0; i < a->n; i++)
			if (near[i].distance && length(a, (uint32_t)i)) j.todo[j.n_todo++] = (uint32_t)i;
		rc = search(&j, symbols, pool, workers, err);
	}
	job_release(&j, workers);
	return rc;
}

static int ascending(const void *x, const void *y)
{
	int32_t a = *(const int32_t *)x, b = *(const int32_t *)y;

	return (a > b) - (a < b);
}

kf_status align_nearest_all(const align_words *a, const align_words *b, uint32_t symbols, kf_pool *pool,
	const align_near *near, const int32_t *which, uint32_t n, uint32_t *off, int32_t **all, kf_err *err)
{
	job j = { .a = a, .b = b, .want = near, .which = which };
	int workers = pool ? kf_pool_size(pool) : 1;
	uint32_t *fill = NULL;
	size_t total = 0;
	kf_status rc;

	*all = NULL;
	pthread_mutex_init(&j.lock, NULL);
	if (!(j.todo = kf_alloc(n, sizeof *j.todo))) {
		rc = kf_fail(err, KF_ENOMEM, "no memory to compare %u words", n);
		goto out;
	}
	for (uint32_t i = 0; i < n; i++)
		if (near[which[i]].at >= 0) j.todo[j.n_todo++] = i;
	if ((rc = search(&j, symbols, pool, workers, err)) != KF_OK) goto out;

	memset(off, 0, ((size_t)n + 1) * sizeof *off);
	for (int t = 0; t < workers; t++) {
		total += j.works[t].n_found;
		for (size_t i = 0; i < j.works[t].n_found; i++) off[j.works[t].found[i].word + 1]++;
	}
	if (total >= UINT32_MAX || !(*all = kf_alloc(total, sizeof **all))) {
		rc = kf_fail(err, KF_ENOMEM, "no memory for %zu words as near as the nearest", total);
		goto out;
	}
	for (uint32_t i = 0; i < n; i++) off[i + 1] += off[i];
	if (!(fill = kf_zalloc(n, sizeof *fill))) {
		rc = kf_fail(err, KF_ENOMEM, "no memory to compare %u words", n);
		goto out;
	}
	for (int t = 0; t < workers; t++)
		for (size_t i = 0; i < j.works[t].n_found; i++) {
			found f = j.works[t].found[i];

			(*all)[off[f.word] + fill[f.word]++] = f.at;
		}
	for (uint32_t i = 0; i < n; i++) qsort(*all + off[i], off[i + 1] - off[i], sizeof **all, ascending);
out:
	kf_free(fill);
	if (rc != KF_OK) {
		kf_free(*all);
		*all = NULL;
	}
	job_release(&j, workers);
	return rc;
}
