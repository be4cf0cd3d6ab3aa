/* SentencePiece encoding. BPE models without a character map are encoded here, as the library does: from
 * characters, always merging the neighbours whose union is the piece of highest score, the
 * leftmost among equals; user-defined pieces are cut out first and stay whole. The rest goes to
 * the library. What a tokenizer.json has are merges: its ranks stand in the place of scores, and only what it lists merges.
 *
 * The library merges a whole text in one queue. Two neighbouring characters that stand together in no
 * piece can never be merged, so text falls into independent chunks there, mostly words, which are cached.
 *
 * Inside, ▁ (U+2581) is written as the space it stands for.
 */
#include <stdlib.h>

#include "common/text/heap.h"
#include "common/text/internal.h"

/* ---- tables -------------------------------------------------------------------------- */

static int32_t find(const kf_tokenizer *t, const uint8_t *p, size_t n)
{
	const kf_sp *s = &t->sp;
	if (n > s->max_piece)
		return -1;
	for (uint64_t h = kf_hash64(p, n);; h++) {
		uint32_t v = s->slot[h & s->mask];
		if (!v)
			return -1;
		if (t->byte_len[v - 1] == n && memcmp(t->byte_pool + t->byte_off[v - 1], p, n) == 0)
			return (int32_t)v - 1;
	}
}

static uint64_t pair_hash(uint32_t a, uint32_t b)
{
	uint64_t x = ((uint64_t)a << 32 | b) * 0x9e3779b97f4a7c15u;
	return x ^ x >> 32;
}

/* The character at p; a byte that is none counts as one of its own, beyond Unicode. */
static inline unsigned next_char(const uint8_t *p, size_t n, uint32_t *c)
{
	unsigned l = kf_utf8_len(p, n);
	if (!l) {
		*c = 0x110000u + p[0];
		return 1;
	}
	*c = kf_utf8_code(p, l);
	return l;
}

static inline bool may_join(const kf_sp *s, uint32_t a, uint32_t b)
{
	if (a < 0x80 && b < 0x80) {
		uint32_t i = a << 7 | b;
		return s->ascii_pair[i >> 3] >> (i & 7) & 1;
	}
	uint64_t h = pair_hash(a, b) & s->pair_mask;
	return s->pair[h >> 6] >> (h & 63) & 1;
}

static bool matchable(const kf_tokenizer *t, int32_t id)
{
	return t->byte_len[id] && (t->type[id] == KF_TT_NORMAL || (t->type[id] == KF_TT_USER && !(t->flags[id] & KF_AT_RAW))
		|| (t->type[id] == KF_TT_UNUSED && !t->sp.ranked));
}

/* A space before each of n literals. */
static kf_status put_marks(kf_sp *s, kf_literal *l, uint32_t n, kf_err *err)
{
	size_t size = 0;

	for (uint32_t i = 0; i < n; i++)
		size += (size_t)l[i].n + 1;
	if (!n)
		return KF_OK;
	uint8_t *q = s->marked = kf_alloc(size, 1);
	if (!q)
		return kf_fail(err, KF_ENOMEM, "no memory for the %u added tokens of a tokenizer", (unsigned)n);
	for (uint32_t i = 0; i < n; i++) {
		*q = ' ';
		memcpy(q + 1, l[i].p, l[i].n);
		l[i].p = q;
		q += ++l[i].n;
	}
	return KF_OK;
}

kf_status kf_sp_init(kf_tokenizer *t, kf_err *err)
{
	kf_sp *s = &t->sp;
	kf_status rc = KF_OK;

	s->mask = 15;
	while (s->mask < (uint64_t)t->n * 2)
		s->mask = s->mask * 2 + 1;
	s->pair_mask = 1023;
	while (s->pair_mask < (uint64_t)t->n * 16)
		s->pair_mask = s->pair_mask * 2 + 1;
	s->slot = kf_zalloc(s->mask + 1, sizeof *s->slot);
	s->pair = kf_zalloc((s->pair_mask + 1) / 64, sizeof *s->pair);
	kf_literal *user = kf_alloc((size_t)t->n, sizeof *user), *added = kf_alloc((size_t)t->n, sizeof *added);
	uint32_t n_user = 0, n_added[2] = { 0, 0 };
	/* a normalizer that prepends is one of tokenizer.json's, and does it to its added tokens, too */
	const bool prepends = s->ranked && s->dummy_prefix && !s->prefix_unless_space;
	if (!s->slot || !s->pair || !user || !added) {
		rc = kf_fail(err, KF_ENOMEM, "no memory for a vocabulary of %d tokens", (int)t->n);
		goto out;
	}
	for (int pass = 0; pass < 2; pass++) {
		for (int32_t i = 0; i < t->n; i++)
			if ((t->type[i] == KF_TT_USER && t->flags[i] & KF_AT_RAW)
				|| (pass && (t->type[i] == KF_TT_CONTROL || t->type[i] == KF_TT_UNKNOWN)))
				added[n_added[pass]++] = (kf_literal){ (const uint8_t *)kf_tokenizer_piece(t, i),
					t->piece_off[i + 1] - t->piece_off[i] - 1, i, t->flags[i] };
		if ((rc = kf_literals_make(pass ? &s->all : &s->added, added, n_added[pass], err)) != KF_OK)
			goto out;
	}
	memset(s->byte_id, 0xff, sizeof s->byte_id);
	for (int32_t i = 0; i < t->n; i++) {
		const uint8_t *p = t->byte_pool + t->byte_off[i];
		uint32_t n = t->byte_len[i], a, b;
		if (t->type[i] == KF_TT_BYTE && n == 1)
			s->byte_id[p[0]] = i;
		if (!matchable(t, i))
			continue;
		if (t->type[i] == KF_TT_USER)
			user[n_user++] = (kf_literal){ p, n, i, s->ranked ? t->flags[i] : 0 };
		if (t->type[i] == KF_TT_UNUSED)
			s->any_unused = true;
		if (n > s->max_piece)
			s->max_piece = n;
		uint64_t h = kf_hash64(p, n);
		while (s->slot[h & s->mask])
			h++;
		s->slot[h & s->mask] = (uint32_t)i + 1;
		for (uint32_t k = next_char(p, n, &a); k < n; a = b) {
			k += next_char(p + k, n - k, &b);
			if (a < 0x80 && b < 0x80)
				s->ascii_pair[(a << 7 | b) >> 3] |= (uint8_t)(1 << ((a << 7 | b) & 7));
			h = pair_hash(a, b) & s->pair_mask;
			s->pair[h >> 6] |= (uint64_t)1 << (h & 63);
		}
	}
	if (prepends && (rc = put_marks(s, user, n_user, err)) != KF_OK)
		goto out;
	if ((rc = kf_literals_make(&s->user, user, n_user, err)) != KF_OK)
		goto out;
	s->own = s->bpe && (s->ranked || (!s->any_unused && !s->n_charsmap && !s->remove_extra_spaces));
	if (!s->own)
		rc = kf_splib_load(t, err);
out:
	kf_free(user);
	kf_free(added);
	return rc;
}

void kf_sp_release(kf_sp *s)
{
	kf_free(s->score);
	kf_free(s->charsmap);
	kf_free(s->slot);
	kf_free(s->pair);
	kf_literals_release(&s->user);
	kf_free(s->marked);
	kf_literals_release(&s->added);
	kf_literals_release(&s->all);
	if (s->lib)
		kf_spm_free(s->lib);
	if (s->lib_plain)
		kf_spm_free(s->lib_plain);
}

/* ---- merging a chunk ---------------------------------------------------------------------- */

enum { SMALL = 64 };

/* Scores as integers that sort the other way round: the least is merged first. */
static uint32_t order_of(float score)
{
	uint32_t u;
	memcpy(&u, &score, 4);
	u = u & 0x80000000u ? ~u : u | 0x80000000u; /* ascending */
	return ~u;
}

/* Of two neighbouring symbols, l and r bytes from p: the least merges first; UINT64_MAX: never. */
static uint64_t pair_order(const kf_tokenizer *t, const uint8_t *p, uint32_t l, uint32_t r)
{
	if (!t->sp.ranked) {
		int32_t id = find(t, p, (size_t)l + r);
		return id < 0 ? UINT64_MAX : order_of(t->sp.score[id]);
	}
	int32_t a = find(t, p, l), b = a < 0 ? -1 : find(t, p + l, r), rank = b < 0 ? -1 : kf_merges_rank(&t->merges, a, b);
	return rank < 0 ? UINT64_MAX : (uint32_t)rank;
}

/* p in up to SMALL symbols whose lengths are len (n); returns how many are left. */
static size_t merge_small(const kf_tokenizer *t, const uint8_t *p, uint32_t *len, size_t n)
{
	uint64_t order[SMALL];
	uint32_t at[SMALL], pos = 0;
	for (size_t i = 0; i < n; pos += len[i++])
		at[i] = pos;
	for (size_t i = 0; i + 1 < n; i++)
		order[i] = pair_order(t, p + at[i], len[i], len[i + 1]);
	while (n > 1) {
		size_t best = 0;
		for (size_t i = 1; i + 1 < n; i++)
			if (order[i] < order[best])
				best = i;
		if (order[best] == UINT64_MAX)
			break;
		len[best] += len[best + 1];
		n--;
		for (size_t i = best + 1; i < n; i++) {
			len[i] = len[i + 1];
			at[i] = at[i + 1];
			if (i + 1 < n)
				order[i] = order[i + 1];
		}
		if (best > 0)
			order[best - 1] = pair_order(t, p + at[best - 1], len[best - 1], len[best]);
		if (best + 1 < n)
			order[best] = pair_order(t, p + at[best], len[best], len[best + 1]);
	}
	return n;
}

static size_t merge_large(const kf_tokenizer *t, const uint8_t *p, uint32_t *len, size_t n)
{
	kf_candidate *v = kf_alloc(n, 3 * sizeof *v);
	int32_t *prev = kf_alloc(n, sizeof *prev), *next = kf_alloc(n, sizeof *next);
	uint32_t *at = kf_alloc(n, sizeof *at), pos = 0;
	kf_heap h = { v, 0 };
	size_t k = SIZE_MAX;

	if (!v || !prev || !next || !at)
		goto out;
	for (size_t i = 0; i < n; pos += len[i++]) {
		at[i] = pos;
		prev[i] = (int32_t)i - 1;
		next[i] = i + 1 < n ? (int32_t)i + 1 : -1;
	}
	for (size_t i = 0; i + 1 < n; i++) {
		uint64_t o = pair_order(t, p + at[i], len[i], len[i + 1]);
		if (o != UINT64_MAX)
			kf_heap_push(&h, (kf_candidate){ o << 32 | i, len[i] + len[i + 1] });
	}
	while (h.n) {
		kf_candidate e = kf_heap_pop(&h);
		int32_t i = (int32_t)(uint32_t)e.key, j = len[i] ? next[i] : -1;
		if (j < 0 || len[i] + len[j] != e.size)
			continue; /* one of the two has merged meanwhile */
		len[i] = e.size;
		len[j] = 0;
		next[i] = next[j];
		uint64_t o;
		if (prev[i] >= 0) {
			uint32_t a = (uint32_t)prev[i];
			if ((o = pair_order(t, p + at[a], len[a], len[i])) != UINT64_MAX)
				kf_heap_push(&h, (kf_candidate){ o << 32 | a, len[a] + len[i] });
		}
		if (next[i] >= 0) {
			uint32_t b = (uint32_t)next[i];
			prev[b] = i;
			if ((o = pair_order(t, p + at[i], len[i], len[b])) != UINT64_MAX)
				kf_heap_push(&h, (kf_candidate){ o << 32 | (uint32_t)i, len[i] + len[b] });
		}
	}
	k = 0;
	for (int32_t i = 0; i >= 0; i = next[i])
		len[k++] = len[i];
out:
	kf_free(v);
	kf_free(prev);
	kf_free(next);
	kf_free(at);
	return k;
}

/* Tokens of a chunk without user-defined pieces. ids and len have room for n. Unknown characters become
 * byte pieces where there are any, else one unknown token each. Returns how many; SIZE_MAX: no memory. */
static size_t merge_chunk(const kf_tokenizer *t, const uint8_t *p, size_t n, int32_t *ids, uint32_t *len)
{
	const kf_sp *s = &t->sp;
	size_t k = 0;
	uint32_t c;

	for (size_t i = 0; i < n; i += len[k++])
		len[k] = next_char(p + i, n - i, &c);
	if (k > 1)
		k = k <= SMALL ? merge_small(t, p, len, k) : merge_large(t, p, len, k);
	if (k == SIZE_MAX)
		return k;
	/* From the end, since byte pieces take more room than their character. */
	size_t at = n, out = n;
	while (k) {
		uint32_t l = len[--k];
		at -= l;
		int32_t id = find(t, p + at, l);
		if (id >= 0 || !s->byte_fallback) {
			ids[--out] = id >= 0 ? id : t->unk;
			len[out] = l;
		} else {
			bool mark = l == 1 && p[at] == ' '; /* a space without a piece: the three bytes of ▁ */
			for (uint32_t b = l; b--;) {
				ids[--out] = mark ? -1 : s->byte_id[p[at + b]];
				len[out] = 1;
			}
		}
	}
	memmove(ids, ids + out, (n - out) * sizeof *ids);
	memmove(len, len + out, (n - out) * sizeof *len);
	return n - out;
}

/* ---- encoding text ---------------------------------------------------------------------------- */

typedef struct {
	const kf_tokenizer *t;
	kf_sink *sink;
	const uint32_t *map;    /* from the inner text to the text given, or NULL: shifted */
	size_t shift;
	size_t unk_end;         /* where the last unknown token ends in the inner text, 0: none */
	bool failed;
} job;

static inline void put(job *j, int32_t id, size_t at, uint32_t len)
{
	uint32_t place = (uint32_t)(j->shift + (j->map ? j->map[at] : at));
	if (id < 0) { /* ▁ in bytes */
		kf_sink_put(j->sink, j->t->sp.byte_id[0xe2], place);
		kf_sink_put(j->sink, j->t->sp.byte_id[0x96], place);
		kf_sink_put(j->sink, j->t->sp.byte_id[0x81], place);
		return;
	}
	if (id == j->t->unk) { /* neighbouring unknown characters are one token */
		bool joined = j->unk_end && j->unk_end == at;
		j->unk_end = at + len;
		if (joined)
			return;
	}
	kf_sink_put(j->sink, id, place);
}

static bool emit_chunk(job *j, const uint8_t *p, size_t at, size_t n)
{
	const kf_tokenizer *t = j->t;
	p += at;
	if (n <= KF_WORD_MAX) {
		int32_t ids[KF_WORD_MAX];
		uint32_t lens[KF_WORD_MAX];
		uint64_t hash = kf_hash64(p, n);
		const kf_word *w = kf_wcache_get(t->words, hash, p, n);
		if (w) {
			const int32_t *wi = kf_word_ids(w);
			const uint8_t *wl = kf_word_lens(w);
			for (unsigned i = 0; i < w->n; at += wl[i++])
				put(j, wi[i], at, wl[i]);
			return !j->sink->failed;
		}
		size_t k = merge_chunk(t, p, n, ids, lens);
		for (size_t i = 0; i < k; at += lens[i++])
			put(j, ids[i], at, lens[i]);
		kf_wcache_put(t->words, hash, p, n, ids, lens, k);
		return !j->sink->failed;
	}
	int32_t *ids = kf_alloc(n, sizeof *ids);
	uint32_t *lens = kf_alloc(n, sizeof *lens);
	size_t k = ids && lens ? merge_chunk(t, p, n, ids, lens) : SIZE_MAX;
	if (k == SIZE_MAX) {
		j->failed = true;
	} else {
		for (size_t i = 0; i < k; at += lens[i++])
			put(j, ids[i], at, lens[i]);
	}
	kf_free(ids);
	kf_free(lens);
	return !j->failed && !j->sink->failed;
}

/* The inner text p[from, to), in which no user-defined piece stands. */
static bool chunks(job *j, const uint8_t *p, size_t from, size_t to)
{
	uint32_t prev = 0, c;

	for (size_t i = from; i < to;) {
		unsigned l = next_char(p + i, to - i, &c);
		if (from < i && !may_join(&j->t->sp, prev, c)) {
			if (!emit_chunk(j, p, from, i - from))
				return false;
			from = i;
		}
		prev = c;
		i += l;
	}
	return from == to || emit_chunk(j, p, from, to - from);
}

/* The inner text p (n bytes): user-defined pieces, and chunks between. */
static bool inner(job *j, const uint8_t *p, size_t n)
{
	kf_added a = { .set = &j->t->sp.user, .text = p, .n = n, .marks = true };
	const kf_literal *u;
	size_t from, to;

	while ((u = kf_added_next(&a, &from, &to))) {
		if (!chunks(j, p, from, to))
			return false;
		put(j, u->id, to, u->n);
	}
	return chunks(j, p, a.from, n);
}

/* The inner form of text: a space in front where asked for, ▁ as a space; NULL on no memory. *map is NULL where nothing changed. */
static const uint8_t *inner_text(kf_arena *arena, const uint8_t *text, size_t n, bool space, size_t *n_out, uint32_t **map)
{
	bool mark = false;
	*map = NULL;
	*n_out = n;
	for (const uint8_t *q = text; !mark && n >= 3 && (q = memchr(q, 0xe2, (size_t)(text + n - 2 - q))); q++)
		mark = q[1] == 0x96 && q[2] == 0x81;
	if (!mark && !space)
		return text;
	uint8_t *out = kf_arena_alloc(arena, n + 1, 1);
	uint32_t *m = kf_arena_alloc(arena, n + 2, sizeof *m);
	size_t k = 0;
	if (!out || !m)
		return NULL;
	if (space) {
		m[k] = 0;
		out[k++] = ' ';
	}
	for (size_t i = 0; i < n;) {
		m[k] = (uint32_t)i;
		if (n - i >= 3 && text[i] == 0xe2 && text[i + 1] == 0x96 && text[i + 2] == 0x81) {
			out[k++] = ' ';
			i += 3;
		} else {
			out[k++] = text[i++];
		}
	}
	m[k] = (uint32_t)n;
	*map = m;
	*n_out = k;
	return out;
}

/* A stretch of text without added tokens. */
static kf_status stretch(job *j, const uint8_t *text, size_t from, size_t to, kf_err *err)
{
	const kf_sp *s = &j->t->sp;
	size_t n = to - from;

	if (!n)
		return KF_OK;
	if (!s->own)
		return kf_splib_encode(j->t, text + from, n, from, j->sink, err);
	uint32_t *map;
	bool space = s->dummy_prefix && !(s->prefix_first && (from || j->sink->later)) &&
		!(s->prefix_unless_space && (text[from] == ' ' || (n >= 3 && !memcmp(text + from, "\xe2\x96\x81", 3))));
	const uint8_t *p = inner_text(j->sink->arena, text + from, n, space, &n, &map);
	j->map = map;
	j->shift = from;
	j->unk_end = 0;
	if (!p || !inner(j, p, n) || j->failed || j->sink->failed)
		return kf_fail(err, KF_ENOMEM, "no memory to encode %zu bytes of text", n);
	return KF_OK;
}

kf_status kf_sp_encode(const kf_tokenizer *t, const uint8_t *text, size_t n, bool specials, kf_sink *sink, kf_err *err)
{
	kf_added a = { .set = specials ? &t->sp.all : &t->sp.added, .text = text, .n = n };
	const kf_literal *token;
	job j = { .t = t, .sink = sink };
	size_t from, to;
	kf_status rc;

	while ((token = kf_added_next(&a, &from, &to))) {
		if ((rc = stretch(&j, text, from, to, err)) != KF_OK)
			return rc;
		kf_sink_put(sink, token->id, (uint32_t)to);
	}
	return stretch(&j, text, a.from, n, err);
}

/* ---- the prefix map ------------------------------------------------------------------------------ */

static int32_t first(const kf_tokenizer *t, const uint8_t *p, size_t n)
{
	const kf_sp *s = &t->sp;
	int32_t small[KF_WORD_MAX], *ids = small, id = -1;
	uint32_t small_lens[KF_WORD_MAX], *lens = small_lens, prev = 0, c;
	const kf_literal *u = kf_added_first(&s->user, p, &n);
	size_t end = 0;

	if (u)
		return u->id;
	/* The first chunk is enough. */
	while (end < n) {
		unsigned l = next_char(p + end, n - end, &c);
		if (end && !may_join(s, prev, c))
			break;
		prev = c;
		end += l;
	}
	if (end > KF_WORD_MAX) {
		ids = kf_alloc(end, sizeof *ids);
		lens = kf_alloc(end, sizeof *lens);
	}
	size_t k = ids && lens ? merge_chunk(t, p, end, ids, lens) : SIZE_MAX;
	if (k && k != SIZE_MAX && ids[0] >= 0 && ids[0] != t->unk)
		id = ids[0];
	if (ids != small) {
		kf_free(ids);
		kf_free(lens);
	}
	return id;
}

int32_t kf_sp_first(const kf_tokenizer *t, const uint8_t *p, size_t n)
{
	const kf_literal *u = kf_added_first(&t->sp.added, p, &n);
	kf_arena a;
	uint32_t *map;

	if (u)
		return u->id;
	if (!t->sp.bpe || t->sp.any_unused)
		return kf_splib_first(t, p, n);
	if (!memchr(p, 0xe2, n))
		return first(t, p, n);
	kf_arena_init(&a);
	const uint8_t *q = inner_text(&a, p, n, false, &n, &map);
	int32_t id = q ? first(t, q, n) : -1;
	kf_arena_release(&a);
	return id;
}
