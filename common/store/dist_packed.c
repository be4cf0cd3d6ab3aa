/* Distributions packed: what docs/format.md calls codec D. The candidates of a position are told as those of logits are
 * (rows.h); encoder and decoder go through the same phases in the same order: log-probabilities; candidates, labels and
 * lengths, position by position; ce; weights. Written at the speed of align and fuse, so everything is one pass. */
#include "common/store/dist.h"
#include "common/store/packed.h"

enum {
	HEADS, GAPS, CLASSES, COUNTS,
	LP0, LP1, LPR = LP1 + 4,           /* by rank: first; second by the first; 2, 3, 4-5, 6-8, 9- */
	ROWS = LPR + 5,                    /* by whether the same two tokens came before, and rank: 0, 1, 2-3, 4-6, 7- */
	MISS = ROWS + 10, MISS_BITS,
	LABEL, LABEL_AT = LABEL + 2, LENGTH,
	CE, CE_FAR, CE_BITS, OVER, WEIGHTS, PLANES
};
_Static_assert(PLANES == KF_DIST_PACKED_PLANES && PLANES < KF_MAX_PLANES, "planes");

const char *const kf_dist_packed_planes[] = {
	"heads", "ids: table", "ids: classes", "counts",
	"lp 0", "lp 1", "lp 1", "lp 1", "lp 1", "lp 2", "lp 3", "lp 4-5", "lp 6-8", "lp 9-",
	"ids 0", "ids 1", "ids 2-3", "ids 4-6", "ids 7-", "ids 0", "ids 1", "ids 2-3", "ids 4-6", "ids 7-",
	"ids: missed", "ids: missed, bits",
	"labels", "labels", "labels: others", "lengths",
	"ce", "ce: others", "ce: others, bits", "escapes", "weights", "context", NULL
};

#define CE_INF 253
#define CE_NAN 254
#define CE_NEAR 64      /* ce less its label's -ln q, in steps, plus half of this: what is told so */

static inline int lp1_context(uint32_t q0)
{
	return q0 < 4 ? 0 : q0 < 12 ? 1 : q0 < 36 ? 2 : 3;
}

static inline int lp_plane(uint32_t rank)
{
	return LPR + (rank < 4 ? (int)rank - 2 : rank < 6 ? 2 : rank < 9 ? 3 : 4);
}

static inline int row_plane(bool known, uint32_t rank)
{
	return ROWS + (known ? 5 : 0) + (rank < 2 ? (int)rank : rank < 4 ? 2 : rank < 7 ? 3 : 4);
}

static inline int label_context(uint32_t q0)
{
	return LABEL + (q0 >= 16);
}

struct kf_dist_tables {
	kf_token_memory memory;
	kf_buf misses, where;
};

void kf_dist_tables_free(kf_dist_tables *t)
{
	if (!t) return;
	kf_token_memory_release(&t->memory);
	kf_buf_release(&t->misses);
	kf_buf_release(&t->where);
	kf_free(t);
}

/* Made for the first block, emptied for every other; where has room for the tokens. */
static kf_status tables_reset(kf_dist_tables **tables, size_t tokens, kf_err *err)
{
	kf_dist_tables *t = *tables;

	if (!t && !(t = *tables = kf_zalloc(1, sizeof *t))) return kf_fail(err, KF_ENOMEM, "no memory for a codec's tables");
	if (!kf_token_memory_reset(&t->memory)) return kf_fail(err, KF_ENOMEM, "no memory for a codec's tables");
	kf_buf_clear(&t->misses);
	kf_buf_clear(&t->where);
	kf_buf_reserve(&t->where, (tokens + 1) * 4);
	return kf_buf_check(&t->where, err);
}

/* ---- encoding ---- */

struct encoder {
	kf_buf *planes;
	const kf_dist_block *b;
	kf_dist_tables *t;
	uint32_t *where;       /* (tokens) the label's -ln q, KF_Q_NAN where it has none */
	uint32_t *miss, n_miss;
	uint8_t *at[PLANES];   /* where each plane's next byte goes: reserved before, so that a byte costs a store */
	kf_bit_writer ce_bits, miss_bits;
};

static inline void put(struct encoder *e, int plane, uint8_t v)
{
	*e->at[plane]++ = v;
}

static bool reserve(struct encoder *e)
{
	const kf_dist_block *b = e->b;

	for (int i = COUNTS; i < PLANES; i++) {
		size_t n = i == COUNTS || i == WEIGHTS || i == LP0 ? b->positions :
			(i >= LP1 && i < MISS) ? b->cands : i == MISS ? b->cands + b->tokens : b->tokens;

		if (i == MISS_BITS || i == CE_BITS || i == OVER) continue;
		if (!kf_buf_reserve(&e->planes[i], n + 1)) return false;
		e->at[i] = e->planes[i].data;
	}
	if (!kf_buf_reserve(&e->t->misses, (b->cands + b->tokens + 1) * 4)) return false;
	e->miss = (uint32_t *)e->t->misses.data;
	e->where = (uint32_t *)e->t->where.data;
	return true;
}

static inline void put_lp(struct encoder *e, int plane, uint32_t before, uint32_t q)
{
	if (__builtin_expect(q - before < KF_LP_OVER, 1)) {
		put(e, plane, (uint8_t)(q - before));
	} else if (q == KF_Q_INF) {
		put(e, plane, KF_LP_INF);
	} else {
		put(e, plane, KF_LP_OVER);
		kf_buf_varint(&e->planes[OVER], q);
	}
}

static void encode_lp(struct encoder *e)
{
	const kf_dist_block *b = e->b;
	const uint32_t *q = b->lp;

	for (size_t p = 0; p < b->positions; p++) {
		uint32_t m = b->count[p], last = 0;

		put(e, COUNTS, m < KF_OTHER ? (uint8_t)m : KF_OTHER);
		if (m >= KF_OTHER) kf_buf_varint(&e->planes[OVER], m);
		for (uint32_t r = 0; r < m && last != KF_Q_INF; r++) {
			put_lp(e, r == 0 ? LP0 : r == 1 ? LP1 + lp1_context(q[0]) : lp_plane(r), last, q[r]);
			last = q[r];
		}
		q += m;
	}
}

static inline void miss(struct encoder *e, uint32_t id)
{
	e->miss[e->n_miss++] = id;
}

static void put_length(struct encoder *e, uint32_t id, uint32_t length)
{
	uint8_t s = kf_length_symbol(&e->t->memory, id, length);

	put(e, LENGTH, s);
	if (s == KF_OTHER) kf_buf_varint(&e->planes[OVER], length);
}

static void encode_rows(struct encoder *e)
{
	const kf_dist_block *b = e->b;
	kf_rows *rows = &e->t->memory.rows;
	const uint32_t *ids = (const uint32_t *)b->ids, *q = b->lp;
	size_t p = 0, t = 0;

	for (uint32_t d = 0; d < b->docs; d++) {
		uint32_t one = KF_NO_TOKEN, two = KF_NO_TOKEN;

		kf_buf_varint(&e->planes[OVER], b->start[p]);
		for (uint32_t i = 0; i <= b->n[d]; i++, p++) {
			uint32_t label = i < b->n[d] ? (uint32_t)b->tok[t] : KF_NO_TOKEN, m = b->count[p], at = m;

			rows->open = 0;
			kf_row_prefetch(rows, label, one);
			if (m) {
				kf_row_begin(rows, one, two);
				for (uint32_t r = 0; r < m; r++) {
					unsigned place = kf_row_put(rows, ids[r]);

					put(e, row_plane(rows->known, r), (uint8_t)place);
					if (place == KF_ROW_MISS) miss(e, ids[r]);
					if (r == 0) kf_row_best(rows, ids[0]);
					if (ids[r] == label && r < KF_OTHER && at == m) at = r;
				}
				kf_row_end(rows, ids, m);
				if (i < b->n[d]) put(e, label_context(q[0]), at < m ? (uint8_t)at : KF_OTHER);
			}
			if (i < b->n[d]) {
				e->where[t++] = at < m ? q[at] : KF_Q_NAN;
				if (at == m) {
					unsigned place = kf_row_take(rows, label);

					put(e, LABEL_AT, (uint8_t)place);
					if (place == KF_ROW_MISS) miss(e, label);
				}
				put_length(e, label, b->start[p + 1] - b->start[p]);
			}
			ids += m;
			q += m;
			two = one;
			one = label;
		}
	}
}

static void encode_ce(struct encoder *e)
{
	const kf_dist_block *b = e->b;

	for (size_t t = 0; t < b->tokens; t++) {
		uint32_t base = e->where[t], ce = b->ce[t];

		if (base <= KF_Q_MAX) {
			uint32_t near = ce <= KF_Q_MAX ? ce - base * (KF_NLL_STEPS / KF_DIST_STEPS) + CE_NEAR / 2 : CE_NEAR;

			put(e, CE, near < CE_NEAR ? (uint8_t)near : KF_OTHER);
			if (near < CE_NEAR) continue;
		}
		put(e, CE_FAR, ce == KF_Q_INF ? CE_INF : ce == KF_Q_NAN ? CE_NAN : kf_sym_put(&e->ce_bits, ce));
	}
}

kf_status kf_dist_packed_encode(kf_packer *p, kf_dist_tables **t, kf_buf *planes, const kf_dist_block *b, kf_buf *out, kf_err *err)
{
	struct encoder e = { .planes = planes, .b = b };
	kf_status rc;

	if ((rc = tables_reset(t, b->tokens, err)) != KF_OK) return rc;
	e.t = *t;
	if (!reserve(&e)) return kf_fail(err, KF_ENOMEM, "no memory for a block of %zu tokens", b->tokens);
	e.ce_bits.out = &planes[CE_BITS];
	e.miss_bits.out = &planes[MISS_BITS];
	encode_lp(&e);
	encode_rows(&e);
	encode_ce(&e);
	for (size_t i = 0; b->weighted && i < b->positions; i++) put(&e, WEIGHTS, (uint8_t)b->weight[i]);
	if ((rc = kf_idtable_encode(e.miss, e.n_miss, &planes[GAPS], &planes[CLASSES], err)) != KF_OK) return rc;
	for (size_t i = 0; i < e.n_miss; i++) put(&e, MISS, kf_sym_put(&e.miss_bits, e.miss[i]));
	kf_bits_end(&e.ce_bits);
	kf_bits_end(&e.miss_bits);
	for (int i = COUNTS; i < PLANES; i++)
		if (e.at[i]) planes[i].len = (size_t)(e.at[i] - planes[i].data);
	return kf_planes_pack(p, planes, PLANES + (b->context != NULL), out, err);
}

/* ---- decoding ---- */

struct decoder {
	kf_dist_block *b;
	kf_plane_reader in;
	kf_bit_reader ce_bits;
	uint32_t *where;
};

static inline uint8_t next(struct decoder *d, int plane) { return kf_plane_next(&d->in, plane); }

static kf_status decode_lp(struct decoder *d, kf_arena *a, kf_err *err)
{
	kf_dist_block *b = d->b;
	uint64_t places = 0;
	uint32_t *q;

	if (d->in.end[COUNTS] - d->in.at[COUNTS] != (ptrdiff_t)b->positions) goto bad;
	/* every candidate has a place, a byte: known before anything is allocated for them. Long counts are read again below */
	for (int i = ROWS; i < MISS; i++) places += (uint64_t)(d->in.end[i] - d->in.at[i]);
	if (places > KF_BLOCK_VALUES) goto bad;
	b->cands = (size_t)places;
	b->ids = KF_ARENA_NEW(a, int32_t, b->cands);
	b->lp = q = KF_ARENA_NEW(a, uint32_t, b->cands);
	if (!b->ids || !b->lp) return kf_fail(err, KF_ENOMEM, "no memory for %zu candidates", b->cands);
	for (size_t p = 0; p < b->positions; p++) {
		uint32_t m = next(d, COUNTS), last, r = 1;

		if (m == KF_OTHER) m = kf_plane_over(&d->in, (uint32_t)KF_BLOCK_VALUES);
		if (m > places) goto bad;
		places -= m;
		b->count[p] = m;
		if (!m) continue;
		last = q[0] = kf_plane_lp(&d->in, LP0, 0, false);
		if (m > 1 && last != KF_Q_INF) q[r++] = last = kf_plane_lp(&d->in, LP1 + lp1_context(last), last, false);
		for (; r < m && last != KF_Q_INF; r++) {
			q[r] = last = kf_plane_lp(&d->in, lp_plane(r), last, false);
			if (last > KF_Q_MAX && last != KF_Q_INF) goto bad; /* keeps sums from wrapping */
		}
		for (; r < m; r++) q[r] = KF_Q_INF;
		q += m;
	}
	if (places == 0) return KF_OK;
bad:
	return kf_fail(err, KF_EDATA, "a plane is longer or shorter than its documents");
}

static inline uint32_t get_miss(void *arg)
{
	struct decoder *d = arg;

	return kf_plane_miss(&d->in, MISS);
}

/* A position's m candidates. */
static inline __attribute__((always_inline)) bool row(struct decoder *dec, const bool known, uint32_t *ids, uint32_t m)
{
	for (uint32_t r = 0; r < m; r++) ids[r] = next(dec, row_plane(known, r));
	return kf_row_read(&dec->in.memory->rows, known, ids, m, get_miss, dec);
}

static void decode_rows(struct decoder *dec)
{
	kf_dist_block *b = dec->b;
	kf_rows *rows = &dec->in.memory->rows;
	uint32_t *ids = (uint32_t *)b->ids;
	const uint32_t *q = b->lp;
	size_t p = 0, t = 0;

	for (uint32_t d = 0; d < b->docs; d++) {
		uint32_t one = KF_NO_TOKEN, two = KF_NO_TOKEN, start = kf_plane_over(&dec->in, UINT32_MAX);

		for (uint32_t i = 0; i <= b->n[d]; i++, p++) {
			uint32_t m = b->count[p], at = KF_OTHER, label = KF_NO_TOKEN, length;

			if (dec->in.bad) return;
			b->start[p] = start;
			rows->open = 0;
			if (m) {
				kf_row_begin(rows, one, two);
				if (i < b->n[d]) at = next(dec, label_context(q[0]));
				if (rows->known ? !row(dec, true, ids, m) : !row(dec, false, ids, m)) dec->in.bad = true;
				if (at < m) kf_row_prefetch(rows, ids[at], one);
				kf_row_end(rows, ids, m);
			}
			if (i < b->n[d]) {
				if (at != KF_OTHER && at >= m) {
					dec->in.bad = true;
					return;
				}
				label = at == KF_OTHER ? kf_plane_place(&dec->in, next(dec, LABEL_AT), MISS) : ids[at];
				dec->where[t] = at == KF_OTHER ? KF_Q_NAN : q[at];
				b->tok[t++] = (int32_t)label;
				length = kf_plane_length(&dec->in, LENGTH, label);
				if (length > UINT32_MAX - start) dec->in.bad = true;
				start += length;
			}
			ids += m;
			q += m;
			two = one;
			one = label;
		}
	}
}

static void decode_ce(struct decoder *d)
{
	kf_dist_block *b = d->b;

	for (size_t t = 0; t < b->tokens; t++) {
		uint32_t base = d->where[t], s, ce;

		if (base <= KF_Q_MAX && (s = next(d, CE)) != KF_OTHER) {
			ce = base * (KF_NLL_STEPS / KF_DIST_STEPS) + s - CE_NEAR / 2;
		} else {
			s = next(d, CE_FAR);
			ce = s == CE_INF ? KF_Q_INF : s == CE_NAN ? KF_Q_NAN : kf_sym_get(&d->ce_bits, (uint8_t)s);
		}
		if (ce > KF_Q_MAX && ce < KF_Q_NAN) d->in.bad = true;
		b->ce[t] = ce;
	}
}

kf_status kf_dist_packed_decode(kf_dist_tables **t, kf_buf *planes, kf_arena *a, kf_dist_block *b, kf_err *err)
{
	struct decoder d = { .b = b };
	kf_status rc;

	if ((rc = tables_reset(t, b->tokens, err)) != KF_OK || (rc = kf_dist_block_alloc(b, a, err)) != KF_OK) return rc;
	d.where = (uint32_t *)(*t)->where.data;
	if ((rc = kf_plane_reader_init(&d.in, planes, PLANES, GAPS, CLASSES, OVER, MISS_BITS, &(*t)->memory, a, err)) != KF_OK)
		return rc;
	d.ce_bits = kf_bits_from(&planes[CE_BITS]);
	if ((rc = decode_lp(&d, a, err)) != KF_OK) return rc;
	if (!d.in.bad) decode_rows(&d);
	if (!d.in.bad) decode_ce(&d);
	for (size_t i = 0; b->weighted && i < b->positions; i++) b->weight[i] = next(&d, WEIGHTS);
	for (int i = COUNTS; i < PLANES; i++)
		if (i != OVER && i != MISS_BITS && i != CE_BITS && d.in.at[i] != d.in.end[i]) d.in.bad = true;
	if (d.in.bad || d.in.over.bad || kf_cur_left(&d.in.over) || kf_bits_over(&d.in.miss_bits) || kf_bits_over(&d.ce_bits))
		return kf_fail(err, KF_EDATA, "its planes contradict each other");
	return KF_OK;
}
