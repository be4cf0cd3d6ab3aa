/* Codec L, read: common/store/logits_packed.h. Everything read is checked; damage is found, never followed. */
#include "common/store/logits_packed.h"

struct decoder {
	kf_logits_block *b;
	kf_logits_tables *t;
	kf_plane_reader in;
	kf_bit_reader ce_bits, path_bits;
	const uint8_t *lp0;    /* of the position in hand: the context of its label */
	uint32_t *where;
	uint32_t *row;         /* (k) tokens_only: the candidates of the position in hand */
	kf_buf extra;          /* u32 ids */
};

static inline uint8_t next(struct decoder *d, int plane) { return kf_plane_next(&d->in, plane); }
static inline uint32_t over(struct decoder *d, uint32_t most) { return kf_plane_over(&d->in, most); }

static void decode_lp(struct decoder *dec)
{
	kf_logits_block *b = dec->b;
	uint32_t *q = b->lp;
	size_t p = 0;

	for (uint32_t d = 0; d < b->docs; d++)
		for (uint32_t i = 0; i <= b->n[d]; i++, p++, q += b->k) {
			uint32_t last, r = 1;

			if (kf_logits_absent(b, p, i)) {
				for (r = 0; r < b->k; r++) q[r] = KF_Q_INF;
				continue;
			}
			last = q[0] = kf_plane_lp(&dec->in, LP0, 0, false);
			if (b->k > 1 && last != KF_Q_INF) q[r++] = last = kf_plane_lp(&dec->in, LP1 + lp1_context(last), last, false);
			for (; r < b->k && last != KF_Q_INF; r++) {
				q[r] = last = kf_plane_lp(&dec->in, lp_plane(r), last, false);
				if (last > KF_Q_MAX && last != KF_Q_INF) { /* keeps sums from wrapping */
					dec->in.bad = true;
					return;
				}
			}
			for (; r < b->k; r++) q[r] = KF_Q_INF;
		}
}

static inline uint32_t get_miss(void *arg)
{
	struct decoder *d = arg;

	return kf_plane_miss(&d->in, MISS);
}

static uint32_t decode_extras(struct decoder *dec, uint32_t label, uint32_t *where, uint32_t interior)
{
	kf_rows *rows = &dec->in.memory->rows;
	x_list *x = &dec->t->x[kf_row_hash(label, X_TABLE)];
	uint32_t open = (1u << x->n) - 1, n = next(dec, EXTRAS + extras_context(interior, *where != NOWHERE)), *ids;

	if (n == KF_OTHER) n = over(dec, 1u << 24);
	if (!n) return 0;
	/* each but the label takes a byte: what is not there is not allocated */
	if (n - 1 > (size_t)(dec->in.end[EXTRA_AT] - dec->in.at[EXTRA_AT]) || !(ids = kf_buf_words(&dec->extra, n))) {
		dec->in.bad = true;
		return 0;
	}
	if (*where == NOWHERE && label != KF_NO_TOKEN) {
		uint32_t at = next(dec, EXTRA_LABEL);

		if (at > n) dec->in.bad = true;
		else if (at) *where = dec->b->k + at - 1;
	}
	for (uint32_t j = 0; j < n && !dec->in.bad; j++) {
		unsigned place;

		if (*where == dec->b->k + j) {
			ids[j] = label;
			continue;
		}
		place = next(dec, EXTRA_AT);
		if (place < X_LIST) {
			if (place >= (unsigned)__builtin_popcount(open)) {
				dec->in.bad = true;
				return 0;
			}
			place = kf_nth_bit(open, place);
			ids[j] = x->id[place];
			open &= ~(1u << place);
		} else {
			ids[j] = kf_plane_place(&dec->in, place == KF_ROW_MISS ? place : place - X_LIST, MISS);
		}
		kf_row_named(rows, ids[j]);
	}
	if (!dec->in.bad) kf_logits_extras_seen(x, ids, n);
	return n;
}

/* Of extra candidates only what others need: the missed ids, which all take from one plane. */
static void skip_extras(struct decoder *dec, uint32_t label, bool label_in, uint32_t interior)
{
	uint32_t n = next(dec, EXTRAS + extras_context(interior, label_in));

	if (n == KF_OTHER) n = over(dec, 1u << 24);
	if (n && !label_in && label != KF_NO_TOKEN && next(dec, EXTRA_LABEL)) n--;
	if (n > (size_t)(dec->in.end[EXTRA_AT] - dec->in.at[EXTRA_AT])) {
		dec->in.bad = true;
		return;
	}
	for (; n; n--)
		if (next(dec, EXTRA_AT) == KF_ROW_MISS) get_miss(dec);
}

/* A position's candidates. */
static inline __attribute__((always_inline)) bool row(struct decoder *dec, const bool known, uint32_t *ids)
{
	uint32_t k = dec->b->k;
	int plane = row_planes(&dec->in.memory->rows), after = 0;

	if (__builtin_expect(k <= ROW_SHORT, 1)) {
		/* all three that may come next are read, and one is taken without a branch: which it is cannot be foreseen */
		const uint8_t **at = &dec->in.at[plane], *const *end = &dec->in.end[plane];
		const uint8_t *missed = at[1], *near = at[2], *far = at[3];
		uint32_t place = ids[0] = next(dec, plane);

		for (uint32_t r = 1; r < k; r++) {
			uint32_t m = place == KF_ROW_MISS, n = place < 2, f = 1 ^ m ^ n;

			place = (*missed & -m) | (*near & -n) | (*far & -f);
			ids[r] = place;
			missed += m;
			near += n;
			far += f;
		}
		dec->in.bad |= missed > end[1] || near > end[2] || far > end[3];
		at[1] = missed;
		at[2] = near;
		at[3] = far;
	} else {
		for (uint32_t r = 0; r < k; r++) {
			ids[r] = next(dec, plane + after);
			after = row_after(ids[r]);
		}
	}
	return kf_row_read(&dec->in.memory->rows, known, ids, k, get_miss, dec);
}

static inline __attribute__((always_inline)) void rows_of(struct decoder *dec, const bool tokens_only)
{
	kf_logits_block *b = dec->b;
	kf_rows *rows = &dec->in.memory->rows;
	size_t p = 0, t = 0;

	for (uint32_t d = 0; d < b->docs; d++) {
		uint32_t one = KF_NO_TOKEN, two = KF_NO_TOKEN, start = over(dec, UINT32_MAX);

		for (uint32_t i = 0; i <= b->n[d]; i++, p++) {
			uint32_t *ids = tokens_only ? dec->row : (uint32_t *)b->ids + p * b->k;
			uint32_t label = KF_NO_TOKEN, where = NOWHERE, length = 0;
			bool absent = kf_logits_absent(b, p, i);

			if (dec->in.bad) return;
			b->start[p] = start;
			rows->open = 0;
			if (!absent) {
				kf_row_begin(rows, one, two);
				/* escapes and infinity are above every context's limit */
				if (i < b->n[d] && (where = next(dec, LABEL + label_context(*dec->lp0))) == KF_OTHER) where = NOWHERE;
				dec->lp0++;
				if (rows->known ? !row(dec, true, ids) : !row(dec, false, ids)) dec->in.bad = true;
				if (where != NOWHERE && where >= b->k) {
					dec->in.bad = true;
					return;
				}
				if (where != NOWHERE) kf_row_prefetch(rows, ids[where], one);
				kf_row_end(rows, ids, b->k);
			} else if (!tokens_only) {
				for (uint32_t r = 0; r < b->k; r++) ids[r] = (uint32_t)-1;
			}
			if (i < b->n[d]) {
				label = where == NOWHERE ? kf_plane_place(&dec->in, next(dec, LABEL_AT), MISS) : ids[where];
				if (where == NOWHERE) kf_row_named(rows, label);
				b->tok[t] = (int32_t)label;
				length = kf_plane_length(&dec->in, LENGTH, label);
				if (length > UINT32_MAX - start) dec->in.bad = true;
			}
			if (tokens_only) {
				if (b->path && !absent) skip_extras(dec, label, where != NOWHERE, length ? length - 1 : 0);
			} else if (b->path) {
				b->n_ex[p] = !absent ? decode_extras(dec, label, &where, length ? length - 1 : 0) : 0;
			}
			if (i < b->n[d] && !tokens_only) dec->where[t] = where;
			t += i < b->n[d];
			start += length;
			two = one;
			one = label;
		}
	}
}

static void decode_rows(struct decoder *dec) { rows_of(dec, false); }
static void decode_tokens(struct decoder *dec) { rows_of(dec, true); }

static inline uint32_t get_ce(struct decoder *d, uint32_t base, bool found, uint32_t last)
{
	uint32_t s;

	if (found && base <= KF_Q_MAX && (s = next(d, CE + (base != 0))) != CE_OTHER)
		return base * (KF_NLL_STEPS / KF_LP_STEPS) + s - 8;
	s = next(d, CE_FAR);
	if (s > KF_SYM_MAX) return s == CE_INF ? KF_Q_INF : s == CE_NAN ? KF_Q_NAN : over(d, KF_Q_MAX);
	last = last <= KF_Q_MAX ? last * (KF_NLL_STEPS / KF_LP_STEPS) : 0;
	return kf_sym_get(&d->ce_bits, (uint8_t)s) + last - 8;
}

static void decode_extra_lp(struct decoder *dec)
{
	kf_logits_block *b = dec->b;
	uint32_t *q = b->ex_lp;

	for (size_t p = 0; p < b->positions; p++) {
		uint32_t last = b->lp[p * b->k + b->k - 1];

		for (uint32_t j = 0; j < b->n_ex[p]; j++, q++) {
			const bool above = j > 0 && last == KF_Q_INF;    /* then nothing finite may follow */

			*q = last = kf_plane_lp(&dec->in, EXTRA_LP + (j > 0), last == KF_Q_INF ? 0 : last, j == 0);
			if ((last > KF_Q_MAX || above) && last != KF_Q_INF) {
				dec->in.bad = true;
				return;
			}
		}
	}
}

static void decode_ce(struct decoder *dec)
{
	kf_logits_block *b = dec->b;
	const uint32_t *ex = b->ex_lp;
	size_t p = 0, t = 0;

	for (uint32_t d = 0; d < b->docs; d++)
		for (uint32_t i = 0; i <= b->n[d]; i++, p++) {
			if (i < b->n[d]) {
				uint32_t w = dec->where[t], ce = KF_Q_NAN;

				if (!kf_logits_absent(b, p, i)) {
					ce = get_ce(dec, w == NOWHERE ? 0 : w < b->k ? b->lp[p * b->k + w] : ex[w - b->k], w != NOWHERE,
						b->lp[p * b->k + b->k - 1]);
					if (ce > KF_Q_MAX && ce != KF_Q_INF) dec->in.bad = true;
				}
				b->ce[t++] = ce;
			}
			if (b->path) ex += b->n_ex[p];
		}
}

static void decode_path(struct decoder *dec)
{
	kf_logits_block *b = dec->b;
	uint32_t *nlm = b->nlm;
	size_t p = 0, t = 0;

	for (uint32_t d = 0; d < b->docs; d++, p++)
		for (uint32_t i = 0; i < b->n[d]; i++, p++, t++) {
			uint32_t m = kf_interior(b->start[p], b->start[p + 1]), above = b->ce[t];
			int context = 0;

			if (kf_logits_absent(b, p, i)) {
				for (uint32_t j = 0; j < m; j++) nlm[j] = KF_Q_NAN;
				nlm += m;
				continue;
			}
			for (uint32_t j = m; j-- > 0;) {
				uint32_t x = above;

				if (above) {
					uint8_t s = next(dec, PATH + context);

					if (s == KF_OTHER) x = over(dec, KF_Q_MAX);
					else if (s) x = above - kf_sym_get(&dec->path_bits, s);
					if (x > KF_Q_MAX && x != KF_Q_INF) dec->in.bad = true;
					context = s ? 2 : 1;
				}
				nlm[j] = above = x;
			}
			nlm += m;
		}
}

/* All rows' places together: a byte for each candidate, before anything is allocated for them; and what is best at each. */
static bool rows_fit(const kf_buf *planes, const kf_logits_block *b)
{
	uint64_t sum = 0, rows = b->positions - (b->bos ? 0 : b->docs);

	for (int i = ROWS; i < MISS; i++) sum += planes[i].len;
	if (b->context) {
		const uint8_t *c = b->context;

		/* not by kf_logits_absent: gcc 14.2 with AVX-512 miscounts a loop that asks for its first turn */
		rows = 0;
		for (uint32_t d = 0; d < b->docs; c += b->n[d++] + 1) {
			for (uint32_t i = 0; i <= b->n[d]; i++) rows += !c[i];
			if (!b->bos) rows -= !c[0];
		}
	}
	return sum == rows * b->k && planes[LP0].len == rows;
}

/* Past the escapes of the log-probabilities, which are not read. */
static void skip_lp(struct decoder *d)
{
	uint64_t n = 0;

	for (int i = LP0; i < ROWS; i++)
		for (const uint8_t *p = d->in.at[i]; p < d->in.end[i]; p++) n += *p == KF_LP_OVER;
	for (; n && !d->in.over.bad; n--) kf_cur_varint(&d->in.over);
}

kf_status kf_logits_packed_decode(kf_logits_tables **t, kf_buf *planes, kf_arena *a, kf_logits_block *b, kf_err *err)
{
	struct decoder d = { .b = b };
	kf_status rc;

	if (!rows_fit(planes, b)) return kf_fail(err, KF_EDATA, "a plane is longer or shorter than its documents");
	if ((rc = kf_logits_block_alloc(b, a, err)) != KF_OK) return rc;
	if (b->tokens_only ? !(d.row = KF_ARENA_NEW(a, uint32_t, b->k)) : !(d.where = KF_ARENA_NEW(a, uint32_t, b->tokens)))
		return kf_fail(err, KF_ENOMEM, "no memory for a block of %zu tokens", b->tokens);
	if ((rc = kf_logits_tables_reset(t, err)) != KF_OK) return rc;
	d.t = *t;
	if ((rc = kf_plane_reader_init(&d.in, planes, PLANES, GAPS, CLASSES, OVER, MISS_BITS, &d.t->memory, a, err)) != KF_OK)
		return rc;
	d.ce_bits = kf_bits_from(&planes[CE_BITS]);
	d.path_bits = kf_bits_from(&planes[PATH_BITS]);
	d.lp0 = planes[LP0].data;
	if (b->tokens_only) {
		skip_lp(&d);
		if (!d.in.bad) decode_tokens(&d);
		for (int i = ROWS; i <= LENGTH; i++)
			if (i != MISS_BITS && d.in.at[i] != d.in.end[i]) d.in.bad = true;
		if (d.in.bad || d.in.over.bad || kf_bits_over(&d.in.miss_bits)) goto bad;
		goto out;
	}
	decode_lp(&d);
	if (!d.in.bad) decode_rows(&d);
	if (d.in.bad || d.in.over.bad) goto bad;
	if (b->path) {
		if ((rc = kf_logits_count_path(b, &b->n_path, err)) != KF_OK) goto out;
		b->n_extra = d.extra.len / 4;
		b->nlm = KF_ARENA_NEW(a, uint32_t, b->n_path);
		b->ex_ids = KF_ARENA_NEW(a, int32_t, b->n_extra);
		b->ex_lp = KF_ARENA_NEW(a, uint32_t, b->n_extra);
		if (!b->nlm || !b->ex_ids || !b->ex_lp) {
			rc = kf_fail(err, KF_ENOMEM, "no memory for a block of %zu tokens", b->tokens);
			goto out;
		}
		if (b->n_extra) memcpy(b->ex_ids, d.extra.data, d.extra.len);
		decode_extra_lp(&d);
	}
	if (!d.in.bad) decode_ce(&d);
	if (!d.in.bad && b->path) decode_path(&d);
	for (int i = LP0; i < PLANES; i++)
		if (i != OVER && i != MISS_BITS && i != CE_BITS && i != PATH_BITS && d.in.at[i] != d.in.end[i]) d.in.bad = true;
	if (kf_cur_left(&d.in.over) || kf_bits_over(&d.in.miss_bits) || kf_bits_over(&d.ce_bits) ||
	    kf_bits_over(&d.path_bits))
		d.in.bad = true;
	if (!d.in.bad && !d.in.over.bad) goto out;
bad:
	if ((rc = kf_buf_check(&d.extra, err)) == KF_OK) rc = kf_fail(err, KF_EDATA, "its planes contradict each other");
out:
	kf_buf_release(&d.extra);
	return rc;
}
