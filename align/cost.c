#include "align/cost.h"

#include <string.h>

#include "common/base/hash.h"

#define TABLE_BYTES (8u << 20)
#define UNKNOWN UINT16_MAX   /* above every cost: ALIGN_WORD_MAX edits in tenths */

/* The different tokens of one side: number w is the string text[off[w]] .. text[off[w + 1] - 1] of symbols. */
typedef struct {
	uint32_t n;
	uint32_t *at;        /* (tokens of the document) their numbers */
	int32_t *id;         /* (n) */
	uint32_t *off, *text;
} side;

struct align_costs {
	const align_lexicon *x;
	uint32_t tokens;
	side a, b;
	uint64_t *places_of; /* (symbols) bit i: the string in hand has the symbol at i. All 0 between calls */
	uint32_t rows;
	uint32_t *owner;     /* (rows) whose row it is, UINT32_MAX: nobody's yet */
	uint16_t *known;     /* (rows, b.n) */
	uint8_t *least;      /* (a.n) */
};

/* Open addressing from a 32-bit key to its number, in order of first appearance. */
typedef struct {
	uint32_t mask, n;
	uint32_t *key, *value;  /* value UINT32_MAX: free */
} numbering;

static bool numbering_init(numbering *t, uint32_t keys, kf_arena *arena)
{
	uint32_t size = 16;

	while (size < 2ull * keys) size *= 2;
	t->n = 0;
	t->mask = size - 1;
	t->key = KF_ARENA_NEW(arena, uint32_t, size);
	t->value = KF_ARENA_NEW(arena, uint32_t, size);
	if (!t->key || !t->value) return false;
	memset(t->value, 0xff, size * sizeof *t->value);
	return true;
}

static uint32_t number_of(numbering *t, uint32_t key)
{
	uint32_t h = (key * 2654435761u >> 5) & t->mask;

	while (t->value[h] != UINT32_MAX && t->key[h] != key) h = (h + 1) & t->mask;
	if (t->value[h] == UINT32_MAX) {
		t->key[h] = key;
		t->value[h] = t->n++;
	}
	return t->value[h];
}

static bool side_init(side *s, const align_words *w, const int32_t *ids, uint32_t n, uint32_t *letters,
	kf_arena *arena)
{
	numbering t;
	uint64_t all = 0;

	s->at = KF_ARENA_NEW(arena, uint32_t, n);
	s->id = KF_ARENA_NEW(arena, int32_t, n);
	if (!s->at || !s->id || !numbering_init(&t, n, arena)) return false;
	for (uint32_t i = 0; i < n; i++) {
		s->at[i] = number_of(&t, (uint32_t)ids[i]);
		s->id[s->at[i]] = ids[i];
	}
	s->n = t.n;
	if (!(s->off = KF_ARENA_NEW(arena, uint32_t, (size_t)s->n + 1))) return false;
	for (uint32_t k = 0; k < s->n; k++) {
		uint32_t len;

		(void)align_word(w, s->id[k], &len);
		s->off[k] = (uint32_t)all;
		all += len;
	}
	s->off[s->n] = (uint32_t)all;
	/* each id once, so that it is no more than the whole vocabulary's, which fits */
	*letters += (uint32_t)all;
	return (s->text = KF_ARENA_NEW(arena, uint32_t, all + 1)) != NULL;
}

static void symbols(side *s, const align_words *w, numbering *t)
{
	for (uint32_t k = 0; k < s->n; k++) {
		uint32_t len;
		const uint32_t *from = align_word(w, s->id[k], &len);

		for (uint32_t i = 0; i < len; i++) s->text[s->off[k] + i] = number_of(t, from[i]);
	}
}

static inline const uint32_t *word(const side *s, uint32_t k, uint32_t *n)
{
	*n = s->off[k + 1] - s->off[k];
	return s->text + s->off[k];
}

/* Two strings of one hash only make the bound smaller. */
static bool find_least(align_costs *c, kf_arena *arena)
{
	numbering t;
	uint32_t seen, len;

	if (!numbering_init(&t, c->b.n + c->a.n, arena)) return false;
	for (uint32_t k = 0; k < c->b.n; k++) {
		const uint32_t *s = word(&c->b, k, &len);

		(void)number_of(&t, (uint32_t)kf_hash64(s, len * sizeof *s));
	}
	seen = t.n;
	for (uint32_t k = 0; k < c->a.n; k++) {
		const uint32_t *s = word(&c->a, k, &len);

		c->least[k] = number_of(&t, (uint32_t)kf_hash64(s, len * sizeof *s)) >= seen;
	}
	return true;
}

align_costs *align_costs_init(const align_lexicon *x, const int32_t *a, uint32_t n, const int32_t *b,
	uint32_t m, kf_arena *arena)
{
	align_costs *c = KF_ARENA_NEW(arena, align_costs, 1);
	numbering t;
	uint32_t letters = 0;

	if (!c) return NULL;
	*c = (align_costs){ .x = x, .tokens = n };
	if (!side_init(&c->a, &x->a, a, n, &letters, arena) || !side_init(&c->b, &x->b, b, m, &letters, arena))
		return NULL;
	if (!numbering_init(&t, letters, arena)) return NULL;
	symbols(&c->a, &x->a, &t);
	symbols(&c->b, &x->b, &t);
	c->rows = TABLE_BYTES / 2 / c->b.n;
	if (c->rows > c->a.n) c->rows = c->a.n;
	if (c->rows < 1) c->rows = 1;
	c->places_of = KF_ARENA_NEW(arena, uint64_t, (size_t)t.n + 1);
	c->owner = KF_ARENA_NEW(arena, uint32_t, c->rows);
	c->known = KF_ARENA_NEW(arena, uint16_t, (size_t)c->rows * c->b.n);
	c->least = kf_arena_alloc(arena, c->a.n, 1);
	if (!c->places_of || !c->owner || !c->known || !c->least || !find_least(c, arena)) return NULL;
	memset(c->places_of, 0, ((size_t)t.n + 1) * sizeof *c->places_of);
	memset(c->owner, 0xff, c->rows * sizeof *c->owner);
	return c;
}

void align_costs_least(const align_costs *c, uint8_t *out)
{
	for (uint32_t i = 0; i < c->tokens; i++) out[i] = c->least[c->a.at[i]];
}

static uint32_t longest(const side *s)
{
	uint32_t most = 0;

	for (uint32_t k = 0; k < s->n; k++)
		if (s->off[k + 1] - s->off[k] > most) most = s->off[k + 1] - s->off[k];
	return most;
}

uint32_t align_costs_most(const align_costs *c)
{
	uint32_t a = longest(&c->a), b = longest(&c->b);

	return (a > b ? a : b) * (c->x->discount ? 10 : 1);
}

/* na in 1..64; places_of is a's. */
static inline uint32_t edit_myers(const uint64_t *places_of, uint32_t na, const uint32_t *b, uint32_t nb)
{
	uint64_t pv = ~0ull, mv = 0, top = 1ull << (na - 1);
	uint32_t score = na;

	for (uint32_t j = 0; j < nb; j++) {
		uint64_t eq = places_of[b[j]], xv = eq | mv, xh = (((eq & pv) + pv) ^ pv) | eq;
		uint64_t ph = mv | ~(xh | pv), mh = pv & xh;

		score += (ph & top) != 0;
		score -= (mh & top) != 0;
		ph = (ph << 1) | 1;
		mh <<= 1;
		pv = mh | ~(xv | ph);
		mv = ph & xv;
	}
	return score;
}

void align_costs_row(align_costs *c, uint32_t i, uint32_t lo, uint32_t hi, uint32_t *cost)
{
	uint32_t k = c->a.at[i], missing = 0, na;
	const uint32_t *a = word(&c->a, k, &na), *bx = c->b.at;
	uint16_t *known = c->known + (size_t)(k % c->rows) * c->b.n;
	bool bits = na > 0 && na <= 64;

	if (c->owner[k % c->rows] != k) {
		c->owner[k % c->rows] = k;
		memset(known, 0xff, c->b.n * sizeof *known);
	}
	for (uint32_t j = lo; j <= hi; j++) {
		cost[j] = known[bx[j]];
		missing |= cost[j] == UNKNOWN;
	}
	if (!missing) return;
	for (uint32_t p = 0; bits && p < na; p++) c->places_of[a[p]] |= 1ull << p;
	for (uint32_t j = lo; j <= hi; j++) {
		if (cost[j] != UNKNOWN) continue;
		if (known[bx[j]] == UNKNOWN) {
			uint32_t nb, d;
			const uint32_t *b = word(&c->b, bx[j], &nb);

			d = bits ? edit_myers(c->places_of, na, b, nb) : align_edit(a, na, b, nb);
			known[bx[j]] = (uint16_t)(c->x->discount ? align_discounted(d, a, na, b, nb) : d);
		}
		cost[j] = known[bx[j]];
	}
	for (uint32_t p = 0; bits && p < na; p++) c->places_of[a[p]] = 0;
}
