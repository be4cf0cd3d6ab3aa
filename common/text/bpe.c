/* Byte-level BPE: added tokens are cut out, the rest is normalised, cut into words and merged.
 *
 * Merging follows Hugging Face's tokenizers exactly: the lowest rank first, the leftmost among
 * equals; a byte that is no token is dropped (or becomes the model's unknown token where it has one),
 * and its neighbours may merge over the gap.
 */
#include <stdlib.h>

#include "common/text/heap.h"
#include "common/text/internal.h"

/* ---- tables -------------------------------------------------------------------------- */

kf_status kf_bpe_init(kf_tokenizer *t, kf_err *err)
{
	kf_bpe *b = &t->bpe;
	kf_status rc = KF_OK;

	for (int c = 0; c < 256; c++) {
		int32_t lo, hi, added = -1;
		uint8_t byte = (uint8_t)c;
		b->byte_id[c] = -1;
		kf_tokenizer_range(t, &byte, 1, &lo, &hi);
		for (; lo < hi && t->byte_len[t->sorted[lo]] == 1; lo++) {
			int32_t id = t->sorted[lo];
			if (b->byte_id[c] < 0 && t->type[id] == KF_TT_NORMAL)
				b->byte_id[c] = id;
			if (added < 0 && t->type[id] == KF_TT_USER)
				added = id;
		}
		if (b->byte_id[c] < 0)
			b->byte_id[c] = added; /* of the model's vocabulary, and added as a word by itself */
	}
	/* Added tokens. */
	kf_literal *lit = kf_alloc((size_t)t->n, sizeof *lit);
	uint32_t n_user = 0, n_all = 0;
	if (!lit)
		return kf_fail(err, KF_ENOMEM, "no memory for added tokens");
	for (int pass = 0; pass < 2 && rc == KF_OK; pass++) {
		uint32_t *n = pass ? &n_all : &n_user;
		for (int32_t i = 0; i < t->n; i++)
			if (t->type[i] == KF_TT_USER || (pass && t->type[i] == KF_TT_CONTROL))
				lit[(*n)++] = (kf_literal){ (const uint8_t *)kf_tokenizer_piece(t, i),
					t->piece_off[i + 1] - t->piece_off[i] - 1, i, t->flags[i] };
		rc = kf_literals_make(pass ? &b->all : &b->user, lit, *n, err);
	}
	kf_free(lit);
	return rc;
}

void kf_bpe_release(kf_bpe *b)
{
	kf_pretok_release(&b->pretok);
	kf_literals_release(&b->user);
	kf_literals_release(&b->all);
}

/* ---- merging a word --------------------------------------------------------------------- */

enum { SMALL = 64 };

/* Up to SMALL symbols: look for the least rank each time. ids and lens (n), in place; returns how many are left. */
static size_t merge_small(const kf_merges *m, int32_t *ids, uint32_t *lens, size_t n)
{
	uint32_t rank[SMALL];
	for (size_t i = 0; i + 1 < n; i++)
		rank[i] = (uint32_t)kf_merges_rank(m, ids[i], ids[i + 1]); /* -1 becomes the largest */
	while (n > 1) {
		size_t best = 0;
		uint32_t least = UINT32_MAX;
		for (size_t i = 0; i + 1 < n; i++)
			if (rank[i] < least) {
				least = rank[i];
				best = i;
			}
		if (least == UINT32_MAX)
			break;
		ids[best] = m->made[least];
		lens[best] += lens[best + 1];
		n--;
		memmove(ids + best + 1, ids + best + 2, (n - best - 1) * sizeof *ids);
		memmove(lens + best + 1, lens + best + 2, (n - best - 1) * sizeof *lens);
		if (best + 1 < n)
			memmove(rank + best + 1, rank + best + 2, (n - best - 2) * sizeof *rank);
		if (best > 0)
			rank[best - 1] = (uint32_t)kf_merges_rank(m, ids[best - 1], ids[best]);
		if (best + 1 < n)
			rank[best] = (uint32_t)kf_merges_rank(m, ids[best], ids[best + 1]);
	}
	return n;
}

/* Any number of symbols: a queue of candidates over a linked list. Returns how many are left, SIZE_MAX: no memory. */
static size_t merge_large(const kf_merges *m, int32_t *ids, uint32_t *lens, size_t n)
{
	/* Each merge retires a symbol and adds at most two candidates. */
	kf_candidate *v = kf_alloc(n, 3 * sizeof *v);
	int32_t *prev = kf_alloc(n, sizeof *prev), *next = kf_alloc(n, sizeof *next);
	kf_heap h = { v, 0 };
	size_t k = SIZE_MAX;

	if (!v || !prev || !next)
		goto out;
	for (size_t i = 0; i < n; i++) {
		prev[i] = (int32_t)i - 1;
		next[i] = i + 1 < n ? (int32_t)i + 1 : -1;
		int32_t r = i + 1 < n ? kf_merges_rank(m, ids[i], ids[i + 1]) : -1;
		if (r >= 0)
			kf_heap_push(&h, (kf_candidate){ (uint64_t)(uint32_t)r << 32 | i, 0 });
	}
	while (h.n) {
		uint64_t top = kf_heap_pop(&h).key;
		int32_t i = (int32_t)(uint32_t)top, r = (int32_t)(top >> 32);
		int32_t j = ids[i] < 0 ? -1 : next[i];
		if (j < 0 || m->left[r] != ids[i] || m->right[r] != ids[j])
			continue; /* one of the two has merged meanwhile */
		ids[i] = m->made[r];
		lens[i] += lens[j];
		ids[j] = -1;
		next[i] = next[j];
		if (next[i] >= 0) {
			prev[next[i]] = i;
			int32_t q = kf_merges_rank(m, ids[i], ids[next[i]]);
			if (q >= 0)
				kf_heap_push(&h, (kf_candidate){ (uint64_t)(uint32_t)q << 32 | (uint32_t)i, 0 });
		}
		if (prev[i] >= 0) {
			int32_t q = kf_merges_rank(m, ids[prev[i]], ids[i]);
			if (q >= 0)
				kf_heap_push(&h, (kf_candidate){ (uint64_t)(uint32_t)q << 32 | (uint32_t)prev[i], 0 });
		}
	}
	k = 0;
	for (int32_t i = 0; i >= 0; i = next[i]) {
		ids[k] = ids[i];
		lens[k++] = lens[i];
	}
out:
	kf_free(v);
	kf_free(prev);
	kf_free(next);
	return k;
}

/* Encode one word of bytes. ids and lens have room for n. Bytes that are dropped count as of the token before them,
 * or after them at the start of the word. Returns how many tokens, SIZE_MAX: no memory. */
static size_t bpe_word(const kf_tokenizer *t, const uint8_t *p, size_t n, int32_t *ids, uint32_t *lens)
{
	const kf_bpe *b = &t->bpe;
	size_t k = 0;
	uint32_t lost = 0;
	bool was_unk = false;

	if (b->ignore_merges) {
		int32_t id = kf_vocab_find(t, p, n);
		if (id >= 0 && t->type[id] == KF_TT_NORMAL) {
			ids[0] = id;
			lens[0] = (uint32_t)n;
			return 1;
		}
	}
	for (size_t i = 0; i < n; i++) {
		int32_t id = b->byte_id[p[i]];
		bool is_unk = id < 0 && b->unk >= 0;
		if (is_unk && !(was_unk && b->fuse_unk))
			id = b->unk;
		was_unk = is_unk;
		if (id >= 0) {
			ids[k] = id;
			lens[k++] = 1 + lost;
			lost = 0;
		} else if (k) {
			lens[k - 1]++;
		} else {
			lost++;
		}
	}
	return k < 2 ? k : k <= SMALL ? merge_small(&t->merges, ids, lens, k) : merge_large(&t->merges, ids, lens, k);
}

/* ---- encoding text ------------------------------------------------------------------------- */

typedef struct {
	const kf_tokenizer *t;
	kf_sink *sink;
	const uint8_t *base;    /* of the normalised stretch */
	const uint32_t *map;    /* from there to the text, or NULL */
	size_t shift;           /* where the stretch begins in the text */
	bool failed;
} job;

static inline uint32_t place(const job *j, size_t at)
{
	return (uint32_t)(j->shift + (j->map ? j->map[at] : at));
}

static bool emit_word(void *arg, const uint8_t *p, size_t n)
{
	job *j = arg;
	const kf_tokenizer *t = j->t;
	size_t at = (size_t)(p - j->base);

	if (n <= KF_WORD_MAX) {
		int32_t ids[KF_WORD_MAX];
		uint32_t lens[KF_WORD_MAX];
		uint64_t hash = kf_hash64(p, n);
		const kf_word *w = kf_wcache_get(t->words, hash, p, n);
		if (w) {
			const int32_t *wi = kf_word_ids(w);
			const uint8_t *wl = kf_word_lens(w);
			for (unsigned i = 0; i < w->n; at += wl[i++])
				kf_sink_put(j->sink, wi[i], place(j, at));
			return !j->sink->failed;
		}
		size_t k = bpe_word(t, p, n, ids, lens);
		for (size_t i = 0; i < k; at += lens[i++])
			kf_sink_put(j->sink, ids[i], place(j, at));
		kf_wcache_put(t->words, hash, p, n, ids, lens, k);
		return !j->sink->failed;
	}
	int32_t *ids = kf_alloc(n, sizeof *ids);
	uint32_t *lens = kf_alloc(n, sizeof *lens);
	size_t k = ids && lens ? bpe_word(t, p, n, ids, lens) : SIZE_MAX;
	if (k == SIZE_MAX) {
		j->failed = true;
	} else {
		for (size_t i = 0; i < k; at += lens[i++])
			kf_sink_put(j->sink, ids[i], place(j, at));
	}
	kf_free(ids);
	kf_free(lens);
	return !j->failed && !j->sink->failed;
}

/* A stretch of text without added tokens. */
static kf_status stretch(job *j, kf_pretok_run *run, const uint8_t *text, size_t from, size_t to, kf_err *err)
{
	const kf_bpe *b = &j->t->bpe;
	const uint8_t *p = text + from;
	size_t n = to - from;
	uint32_t *map = NULL;
	kf_status rc;

	if (!n)
		return KF_OK;
	if (b->nfc && (rc = kf_nfc(text + from, to - from, j->sink->arena, &p, &n, &map, err)) != KF_OK)
		return rc;
	j->shift = from;
	if (b->pretok.prefix_space && p[0] != ' ') {
		/* ' ' + text; the space lies before the stretch's first byte. */
		uint8_t *q = kf_arena_alloc(j->sink->arena, n + 1, 1);
		uint32_t *m = kf_arena_alloc(j->sink->arena, n + 2, sizeof *m);
		if (!q || !m)
			return kf_fail(err, KF_ENOMEM, "no memory to encode %zu bytes of text", n);
		q[0] = ' ';
		memcpy(q + 1, p, n);
		m[0] = 0;
		for (size_t i = 0; i <= n; i++)
			m[i + 1] = map ? map[i] : (uint32_t)i;
		p = q;
		map = m;
		n++;
	}
	j->base = p;
	j->map = map;
	/* Bytes that are no UTF-8 are words of their own. */
	for (size_t i = 0; i < n;) {
		size_t ok = kf_utf8_valid(p + i, n - i);
		if ((rc = kf_pretok_words(&b->pretok, run, p + i, ok, emit_word, j, err)) != KF_OK)
			return rc;
		i += ok;
		size_t bad = 0;
		while (i + bad < n && kf_utf8_len(p + i + bad, n - i - bad) == 0)
			bad++;
		if (bad && !emit_word(j, p + i, bad))
			break;
		i += bad;
		if (j->failed || j->sink->failed)
			break;
	}
	if (j->failed || j->sink->failed)
		return kf_fail(err, KF_ENOMEM, "no memory to encode %zu bytes of text", n);
	return KF_OK;
}

kf_status kf_bpe_encode(const kf_tokenizer *t, const uint8_t *text, size_t n, bool specials, kf_sink *sink, kf_err *err)
{
	const kf_bpe *b = &t->bpe;
	kf_added a = { .set = specials ? &b->all : &b->user, .text = text, .n = n };
	const kf_literal *token;
	kf_pretok_run run;
	job j = { .t = t, .sink = sink };
	size_t from, to;
	kf_status rc = kf_pretok_begin(&b->pretok, &run, err);

	if (rc != KF_OK)
		return rc;
	while ((token = kf_added_next(&a, &from, &to))) {
		if ((rc = stretch(&j, &run, text, from, to, err)) != KF_OK)
			goto out;
		kf_sink_put(sink, token->id, (uint32_t)to);
	}
	rc = stretch(&j, &run, text, a.from, n, err);
out:
	kf_pretok_end(&run);
	return rc;
}

/* ---- the prefix map ----------------------------------------------------------------------- */

typedef struct { const kf_tokenizer *t; int32_t id; } first_job;

static bool first_word(void *arg, const uint8_t *p, size_t n)
{
	first_job *f = arg;
	int32_t small[KF_WORD_MAX], *ids = small;
	uint32_t small_lens[KF_WORD_MAX], *lens = small_lens;
	if (n > KF_WORD_MAX) {
		ids = kf_alloc(n, sizeof *ids);
		lens = kf_alloc(n, sizeof *lens);
	}
	size_t k = ids && lens ? bpe_word(f->t, p, n, ids, lens) : 0;
	if (k && k != SIZE_MAX)
		f->id = ids[0];
	if (n > KF_WORD_MAX) {
		kf_free(ids);
		kf_free(lens);
	}
	return false; /* the first word is enough */
}

int32_t kf_bpe_first(const kf_tokenizer *t, const uint8_t *p, size_t n)
{
	const kf_bpe *b = &t->bpe;
	first_job f = { t, -1 };
	kf_pretok_run run;

	const kf_literal *u = kf_added_first(&b->user, p, &n);
	if (u)
		return u->id;
	/* Its first byte must be spelled, else the answer would not begin with these bytes. */
	if (b->byte_id[p[0]] < 0)
		return -1;
	if (kf_utf8_valid(p, n) < n) {
		first_word(&f, p, n);
		return f.id;
	}
	kf_err err;
	if (kf_pretok_begin(&b->pretok, &run, &err) != KF_OK)
		return -1;
	if (kf_pretok_words(&b->pretok, &run, p, n, first_word, &f, &err) != KF_OK)
		f.id = -1;
	kf_pretok_end(&run);
	return f.id;
}

/* ---- from a GGUF vocabulary ----------------------------------------------------------------- */

/* flags: of added tokens (KF_AT_*), or NULL. pre NULL: the pre-tokenizer is in place. */
static int by_piece(const void *pa, const void *pb, void *arg)
{
	return strcmp(kf_tokenizer_piece(arg, *(const int32_t *)pa), kf_tokenizer_piece(arg, *(const int32_t *)pb));
}

/* A control token which the model makes of text itself is an ordinary one: padding may be called "!", a word, or anything else of the vocabulary. */
static kf_status ordinary_controls(kf_tokenizer *t, const char *const *merges, int32_t n, kf_err *err)
{
	int32_t *control = kf_alloc((size_t)t->n, sizeof *control);
	bool begins[256] = { false };
	size_t k = 0;

	if (!control)
		return kf_fail(err, KF_ENOMEM, "no memory for a vocabulary of %d tokens", (int)t->n);
	for (int32_t i = 0; i < t->n; i++) {
		const uint8_t *p = (const uint8_t *)kf_tokenizer_piece(t, i);
		const unsigned l = kf_utf8_len(p, strlen((const char *)p));

		if (t->type[i] != KF_TT_CONTROL)
			continue;
		if (l && !p[l] && kf_char_byte(kf_utf8_code(p, l)) >= 0) {
			t->type[i] = KF_TT_NORMAL;
		} else {
			control[k++] = i;
			begins[p[0]] = true;
		}
	}
	qsort_r(control, k, sizeof *control, by_piece, t);
	for (int32_t i = 0; i < n && merges && k; i++) {
		const char *s = merges[i], *gap = begins[(uint8_t)s[0]] ? strchr(s, ' ') : NULL;
		const size_t nl = gap ? (size_t)(gap - s) : 0;

		if (!gap)
			continue;
		for (size_t lo = 0, hi = k; lo < hi;) {
			const size_t mid = lo + (hi - lo) / 2;
			const char *p = kf_tokenizer_piece(t, control[mid]);
			int c = strncmp(s, p, nl);

			if (!c)
				c = strcmp(gap + 1, p + nl);
			if (!c)
				t->type[control[mid]] = KF_TT_NORMAL;
			if (c <= 0)
				hi = mid;
			else
				lo = mid + 1;
		}
	}
	kf_free(control);
	return KF_OK;
}

kf_status kf_bpe_from_spec(kf_tokenizer *t, const kf_vocab_spec *spec, const uint8_t *flags, kf_err *err)
{
	kf_status rc;

	if ((rc = kf_vocab_pieces(t, spec->n, spec->pieces, spec->types, err)) != KF_OK)
		return rc;
	if (flags)
		memcpy(t->flags, flags, (size_t)t->n);
	if (spec->pre) {
		if ((rc = kf_pretok_named(&t->bpe.pretok, spec->pre, err)) != KF_OK)
			return rc;
		t->bpe.nfc = t->bpe.pretok.nfc;
		t->bpe.ignore_merges = t->bpe.pretok.ignore_merges;
	}
	if ((rc = ordinary_controls(t, spec->merges, spec->n_merges, err)) != KF_OK || (rc = kf_vocab_index(t, err)) != KF_OK)
		return rc;
	if ((rc = kf_merges_read(t, spec->merges, spec->n_merges, err)) != KF_OK)
		return rc;
	return kf_bpe_init(t, err);
}
