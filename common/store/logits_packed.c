/* Logits packed: what docs/format.md calls codec L. Encoder and decoder go through the same phases in the same
 * order: log-probabilities; candidates, labels, lengths and extra candidates, position by position; the extra candidates'
 * log-probabilities; ce; path masses. */
#include "common/store/idtable.h"
#include "common/store/logits.h"
#include "common/store/quant.h"
#include "common/store/rows.h"
#include "common/store/symbols.h"

enum {
	HEADS, GAPS, CLASSES,
	LP0, LP1, LPR = LP1 + 8,           /* ranks: first; second by the first; 2, 3, 4, 5, 6-7, 8-9, 10- */
	ROWS = LPR + 7,                    /* places, by how many slots are open at first, and by the place before */
	MISS = ROWS + 20, MISS_BITS,
	LABEL,                             /* rank of the label among the candidates, by the best one's probability */
	LABEL_AT = LABEL + 4, LENGTH,
	CE = LENGTH + 1,                   /* difference to the label's candidate, by whether that is certain */
	CE_FAR = CE + 2, CE_BITS,
	OVER,                              /* varints of what does not fit elsewhere */
	PATH,                              /* differences of path masses: the last of a token; others after 0, after more */
	PATH_BITS = PATH + 3,
	EXTRAS, EXTRA_LABEL = EXTRAS + 3, EXTRA_AT, EXTRA_LP = EXTRA_AT + 1, PLANES = EXTRA_LP + 2
};
_Static_assert(PLANES == KF_LOGITS_PACKED_PLANES && PLANES < KF_MAX_PLANES, "planes");

const char *const kf_logits_packed_planes[] = {
	"heads", "ids: table", "ids: classes",
	"lp 0", "lp 1", "lp 1", "lp 1", "lp 1", "lp 1", "lp 1", "lp 1", "lp 1",
	"lp 2", "lp 3", "lp 4", "lp 5", "lp 6-7", "lp 8-9", "lp 10-",
	"ids: first", "ids: after a miss", "ids: after 0, 1", "ids: after more", "ids: first", "ids: after a miss", "ids: after 0, 1",
	"ids: after more", "ids: first", "ids: after a miss", "ids: after 0, 1", "ids: after more", "ids: first", "ids: after a miss",
	"ids: after 0, 1", "ids: after more", "ids: first", "ids: after a miss", "ids: after 0, 1", "ids: after more",
	"ids: missed", "ids: missed, bits",
	"labels", "labels", "labels", "labels", "labels: others", "lengths",
	"ce", "ce", "ce: others", "ce: others, bits", "escapes",
	"path", "path", "path", "path, bits",
	"extra counts", "extra counts", "extra counts", "extra ids: label", "extra ids", "extra lp", "extra lp", "context", NULL
};

/* log-probability differences */
#define LP_OVER 254 /* a varint more in OVER */
#define LP_INF 255
/* labels, lengths, counts */
#define OTHER 255
#define LABEL_MOST 250
#define ROW_SHORT 32 /* candidates that may be read past a plane's end, where 64 bytes are readable, before that is looked at */
/* ce */
#define CE_OTHER 255
#define CE_INF 253
#define CE_NAN 254
#define CE_BELOW 252

#define X_LIST 16     /* extra candidates last seen beside a label */
#define X_TABLE 4096
#define LEN_TABLE 16384
#define NOWHERE 0xffffffffu

static inline int lp1_context(uint32_t q0)
{
	return q0 < 3 ? (int)q0 : q0 < 5 ? 3 : q0 < 9 ? 4 : q0 < 18 ? 5 : q0 < 36 ? 6 : 7;
}

static inline int lp_plane(uint32_t rank)
{
	return LPR + (rank < 6 ? (int)rank - 2 : rank < 8 ? 4 : rank < 10 ? 5 : 6);
}

/* The plane of a position's first place, and after place the distance from there to that of the next. */
static inline int row_planes(const kf_rows *rows)
{
	unsigned n = (unsigned)__builtin_popcountll(rows->open);

	return ROWS + 4 * (rows->known ? n >= 20 : n < 4 ? 2 : n < 20 ? 3 : 4);
}

static inline int row_after(unsigned place)
{
	return place == KF_ROW_MISS ? 1 : place < 2 ? 2 : 3;
}

static inline int label_context(uint32_t q0)
{
	return q0 < 3 ? 0 : q0 < 12 ? 1 : q0 < 30 ? 2 : 3;
}

static inline int extras_context(uint32_t interior, bool label_in)
{
	return interior == 0 ? 0 : label_in ? 1 : 2;
}

struct x_list { uint32_t n, id[X_LIST]; };
struct length { uint32_t id, length; };

struct kf_logits_tables {
	kf_rows rows;
	struct x_list *x;
	struct length *len;
};

void kf_logits_tables_free(kf_logits_tables *t)
{
	if (!t) return;
	kf_rows_release(&t->rows);
	kf_free(t->x);
	kf_free(t->len);
	kf_free(t);
}

/* Made for the first block, emptied for every other. */
static kf_status tables_reset(kf_logits_tables **tables, kf_err *err)
{
	kf_logits_tables *t = *tables;

	if (!t) {
		bool ok;

		if (!(t = kf_zalloc(1, sizeof *t))) return kf_fail(err, KF_ENOMEM, "no memory for a codec's tables");
		ok = kf_rows_init(&t->rows);
		t->x = kf_alloc(X_TABLE, sizeof *t->x);
		t->len = kf_alloc(LEN_TABLE, sizeof *t->len);
		if (!ok || !t->x || !t->len) {
			kf_logits_tables_free(t);
			return kf_fail(err, KF_ENOMEM, "no memory for a codec's tables");
		}
		*tables = t;
	}
	kf_rows_reset(&t->rows);
	memset(t->len, 0, LEN_TABLE * sizeof *t->len);
	for (int i = 0; i < X_TABLE; i++) t->x[i].n = 0;
	return KF_OK;
}

static void x_renew(struct x_list *x, const uint32_t *ids, uint32_t n)
{
	uint32_t old[X_LIST], m = x->n, at;

	memcpy(old, x->id, sizeof old);
	at = n < X_LIST ? n : X_LIST;
	memcpy(x->id, ids, at * sizeof *ids);
	for (uint32_t i = 0; i < m && at < X_LIST; i++) {
		bool in = false;

		for (uint32_t j = 0; j < n; j++) in |= ids[j] == old[i];
		if (!in) x->id[at++] = old[i];
	}
	x->n = at;
}

/* ---- encoding ---- */

struct encoder {
	kf_buf *planes;
	const kf_logits_block *b;
	kf_logits_tables *t;
	kf_buf misses;          /* u32 ids in order, until the table is made */
	uint32_t *where;        /* (tokens) the label's candidate: rank, k + extra, or NOWHERE */
	kf_bit_writer ce_bits, path_bits, miss_bits;
};

/* A value that should be at least before, by a little. */
static void put_lp(struct encoder *e, int plane, uint32_t before, uint32_t q)
{
	kf_buf *b = &e->planes[plane];

	if (q == KF_Q_INF) {
		kf_buf_u8(b, LP_INF);
	} else if (q - before < LP_OVER) { /* both below 2^29: a smaller q wraps to a large difference */
		kf_buf_u8(b, (uint8_t)(q - before));
	} else {
		kf_buf_u8(b, LP_OVER);
		kf_buf_varint(&e->planes[OVER], q);
	}
}

static void encode_lp(struct encoder *e)
{
	const kf_logits_block *b = e->b;
	size_t p = 0;

	for (uint32_t d = 0; d < b->docs; d++)
		for (uint32_t i = 0; i <= b->n[d]; i++, p++) {
			const uint32_t *q = b->lp + p * b->k;
			uint32_t last = 0;

			if (kf_logits_absent(b, p, i)) continue;
			for (uint32_t r = 0; r < b->k; r++) {
				if (last == KF_Q_INF) break;
				put_lp(e, r == 0 ? LP0 : r == 1 ? LP1 + lp1_context(q[0]) : lp_plane(r), last, q[r]);
				last = q[r];
			}
		}
}

static void miss(struct encoder *e, uint32_t id)
{
	kf_buf_put(&e->misses, &id, 4);
}

static void put_length(struct encoder *e, uint32_t id, uint32_t length)
{
	struct length *l = &e->t->len[kf_row_hash(id, LEN_TABLE)];

	if (l->id == id + 1 && l->length == length) {
		kf_buf_u8(&e->planes[LENGTH], 0);
		return;
	}
	kf_buf_u8(&e->planes[LENGTH], length < OTHER - 1 ? (uint8_t)(length + 1) : OTHER);
	if (length >= OTHER - 1) kf_buf_varint(&e->planes[OVER], length);
	l->id = id + 1;
	l->length = length;
}

static void encode_extras(struct encoder *e, const uint32_t *ids, uint32_t n, uint32_t label, uint32_t *where, uint32_t interior)
{
	kf_rows *rows = &e->t->rows;
	struct x_list *x = &e->t->x[kf_row_hash(label, X_TABLE)];
	kf_buf *planes = e->planes;
	uint32_t open = (1u << x->n) - 1, at;

	kf_buf_u8(&planes[EXTRAS + extras_context(interior, *where != NOWHERE)], n < OTHER ? (uint8_t)n : OTHER);
	if (n >= OTHER) kf_buf_varint(&planes[OVER], n);
	if (!n) return;
	if (*where == NOWHERE && label != KF_NO_TOKEN) {
		for (at = 0; at < n && at < LABEL_MOST && ids[at] != label; at++)
			;
		if (at < n && at < LABEL_MOST) *where = e->b->k + at;
		kf_buf_u8(&planes[EXTRA_LABEL], (uint8_t)(*where == NOWHERE ? 0 : at + 1));
	}
	for (uint32_t j = 0; j < n; j++) {
		unsigned place = KF_ROW_MISS;

		if (*where == e->b->k + j) continue;
		for (at = 0; at < x->n && x->id[at] != ids[j]; at++)
			;
		if (at < x->n && open >> at & 1) {
			place = (unsigned)__builtin_popcount(open & ((1u << at) - 1));
			open &= ~(1u << at);
			kf_row_named(rows, ids[j]);
		} else if ((place = kf_row_take(rows, ids[j])) != KF_ROW_MISS) {
			place += X_LIST;
		}
		kf_buf_u8(&planes[EXTRA_AT], (uint8_t)place);
		if (place == KF_ROW_MISS) miss(e, ids[j]);
	}
	x_renew(x, ids, n);
}

static void encode_rows(struct encoder *e)
{
	const kf_logits_block *b = e->b;
	kf_rows *rows = &e->t->rows;
	const uint32_t *extra = (const uint32_t *)b->ex_ids;
	size_t p = 0, t = 0;

	for (uint32_t d = 0; d < b->docs; d++) {
		uint32_t one = KF_NO_TOKEN, two = KF_NO_TOKEN;

		kf_buf_varint(&e->planes[OVER], b->start[p]);
		for (uint32_t i = 0; i <= b->n[d]; i++, p++) {
			const uint32_t *ids = (const uint32_t *)b->ids + p * b->k;
			uint32_t label = i < b->n[d] ? (uint32_t)b->tok[t] : KF_NO_TOKEN, where = NOWHERE, end = b->start[p];
			bool absent = kf_logits_absent(b, p, i);
			int plane;

			if (i < b->n[d]) end = b->start[p + 1];
			rows->open = 0;
			if (!absent) {
				kf_row_begin(rows, one, two);
				kf_row_prefetch(rows, label, one);
				plane = row_planes(rows);
				for (uint32_t r = 0, after = 0; r < b->k; r++) {
					unsigned place = kf_row_put(rows, ids[r]);

					kf_buf_u8(&e->planes[plane + (int)after], (uint8_t)place);
					after = (uint32_t)row_after(place);
					if (place == KF_ROW_MISS) miss(e, ids[r]);
					if (r == 0) kf_row_best(rows, ids[0]);
					if (ids[r] == label && r < LABEL_MOST && where == NOWHERE) where = r;
				}
				kf_row_end(rows, ids, b->k);
				if (label != KF_NO_TOKEN)
					kf_buf_u8(&e->planes[LABEL + label_context(b->lp[p * b->k])],
						where == NOWHERE ? OTHER : (uint8_t)where);
			}
			if (label != KF_NO_TOKEN && where == NOWHERE) {
				unsigned place = kf_row_take(rows, label);

				kf_buf_u8(&e->planes[LABEL_AT], (uint8_t)place);
				if (place == KF_ROW_MISS) miss(e, label);
			}
			if (label != KF_NO_TOKEN) put_length(e, label, end - b->start[p]);
			if (b->path && !absent) {
				encode_extras(e, extra, b->n_ex[p], label, &where, kf_interior(b->start[p], end));
				extra += b->n_ex[p];
			}
			if (i < b->n[d]) e->where[t++] = where;
			two = one;
			one = label;
		}
	}
}

static void put_ce(struct encoder *e, uint32_t ce, uint32_t base, bool found, uint32_t last)
{
	kf_buf *far = &e->planes[CE_FAR];

	if (found && base <= KF_Q_MAX) {
		uint32_t diff = ce <= KF_Q_MAX ? ce - base * (KF_NLL_STEPS / KF_LP_STEPS) + 8 : CE_OTHER;

		kf_buf_u8(&e->planes[CE + (base != 0)], diff < CE_OTHER ? (uint8_t)diff : CE_OTHER);
		if (diff < CE_OTHER) return;
	}
	last = last <= KF_Q_MAX ? last * (KF_NLL_STEPS / KF_LP_STEPS) : 0;
	if (ce == KF_Q_INF || ce == KF_Q_NAN) {
		kf_buf_u8(far, ce == KF_Q_INF ? CE_INF : CE_NAN);
	} else if (ce + 8 - last <= KF_Q_MAX) {
		kf_buf_u8(far, kf_sym_put(&e->ce_bits, ce + 8 - last));
	} else {
		kf_buf_u8(far, CE_BELOW);
		kf_buf_varint(&e->planes[OVER], ce);
	}
}

static void encode_ce(struct encoder *e)
{
	const kf_logits_block *b = e->b;
	const uint32_t *ex = b->ex_lp;
	size_t p = 0, t = 0;

	for (uint32_t d = 0; d < b->docs; d++)
		for (uint32_t i = 0; i <= b->n[d]; i++, p++) {
			if (i < b->n[d]) {
				uint32_t w = e->where[t];

				if (!kf_logits_absent(b, p, i))
					put_ce(e, b->ce[t], w == NOWHERE ? 0 : w < b->k ? b->lp[p * b->k + w] : ex[w - b->k], w != NOWHERE,
						b->lp[p * b->k + b->k - 1]);
				t++;
			}
			if (b->path) ex += b->n_ex[p];
		}
}

/* From a token's end to its start: masses only grow, so the distances are small, and after one of 1 there is nothing to say.
 * Where ce is infinite or not known, a mass that is finite is told in full. */
static void encode_path(struct encoder *e)
{
	const kf_logits_block *b = e->b;
	const uint32_t *nlm = b->nlm;
	size_t p = 0, t = 0;

	for (uint32_t d = 0; d < b->docs; d++, p++)
		for (uint32_t i = 0; i < b->n[d]; i++, p++, t++) {
			uint32_t m = kf_interior(b->start[p], b->start[p + 1]), above = b->ce[t];
			int context = 0;

			if (kf_logits_absent(b, p, i)) above = 0;
			for (uint32_t j = m; j-- > 0 && above;) {
				if (above <= KF_Q_MAX) {
					kf_buf_u8(&e->planes[PATH + context], kf_sym_put(&e->path_bits, above - nlm[j]));
				} else if (nlm[j] == above) {
					kf_buf_u8(&e->planes[PATH + context], 0);
				} else {
					kf_buf_u8(&e->planes[PATH + context], OTHER);
					kf_buf_varint(&e->planes[OVER], nlm[j]);
				}
				context = above == nlm[j] ? 1 : 2;
				above = nlm[j];
			}
			nlm += m;
		}
}

static void encode_extra_lp(struct encoder *e)
{
	const kf_logits_block *b = e->b;
	const uint32_t *q = b->ex_lp;

	for (size_t p = 0; p < b->positions; p++) {
		uint32_t last = b->lp[p * b->k + b->k - 1];

		for (uint32_t j = 0; j < b->n_ex[p]; j++, q++) {
			put_lp(e, EXTRA_LP + (j > 0), last == KF_Q_INF ? 0 : last, *q);
			last = *q;
		}
	}
}

kf_status kf_logits_packed_encode(kf_packer *p, kf_logits_tables **t, kf_buf *planes, const kf_logits_block *b, kf_buf *out,
	kf_err *err)
{
	struct encoder e = { .planes = planes, .b = b };
	uint32_t *m;
	kf_status rc;

	e.ce_bits.out = &planes[CE_BITS];
	e.path_bits.out = &planes[PATH_BITS];
	e.miss_bits.out = &planes[MISS_BITS];
	if ((rc = tables_reset(t, err)) != KF_OK) return rc;
	e.t = *t;
	if (!(e.where = kf_alloc(b->tokens, sizeof *e.where))) {
		rc = kf_fail(err, KF_ENOMEM, "no memory for a block of %zu tokens", b->tokens);
		goto out;
	}
	encode_lp(&e);
	encode_rows(&e);
	if (b->path) encode_extra_lp(&e);
	encode_ce(&e);
	if (b->path) encode_path(&e);
	if ((rc = kf_buf_check(&e.misses, err)) != KF_OK) goto out;
	m = (uint32_t *)e.misses.data;
	if ((rc = kf_idtable_encode(m, e.misses.len / 4, &planes[GAPS], &planes[CLASSES], err)) != KF_OK) goto out;
	for (size_t i = 0; i < e.misses.len / 4; i++) kf_buf_u8(&planes[MISS], kf_sym_put(&e.miss_bits, m[i]));
	kf_bits_end(&e.ce_bits);
	kf_bits_end(&e.path_bits);
	kf_bits_end(&e.miss_bits);
	rc = kf_planes_pack(p, planes, PLANES + (b->context != NULL), out, err);
out:
	kf_buf_release(&e.misses);
	kf_free(e.where);
	return rc;
}

/* ---- decoding ---- */

struct decoder {
	kf_logits_block *b;
	kf_logits_tables *t;
	/* every plane is read from the front; past its end, bad is set and zeros come */
	const uint8_t *at[PLANES], *end[PLANES];
	kf_cur over;
	kf_bit_reader miss_bits, ce_bits, path_bits;
	const uint8_t *lp0;    /* of the position in hand: the context of its label */
	uint32_t *table, n_table, *where;
	uint32_t *row;         /* (k) tokens_only: the candidates of the position in hand */
	kf_buf extra;          /* u32 ids */
	bool bad;
};

static inline uint8_t next(struct decoder *d, int plane)
{
	if (d->at[plane] < d->end[plane]) return *d->at[plane]++;
	d->bad = true;
	return 0;
}

static inline uint32_t over(struct decoder *d, uint32_t most)
{
	uint64_t v = kf_cur_varint(&d->over);

	if (v > most) d->bad = true;
	return v > most ? 0 : (uint32_t)v;
}

static inline uint32_t get_lp(struct decoder *d, int plane, uint32_t before)
{
	uint8_t s = next(d, plane);

	if (__builtin_expect(s >= LP_OVER, 0)) return s == LP_INF ? KF_Q_INF : over(d, KF_Q_MAX);
	return before + s;
}

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
			last = q[0] = get_lp(dec, LP0, 0);
			if (b->k > 1 && last != KF_Q_INF) q[r++] = last = get_lp(dec, LP1 + lp1_context(last), last);
			for (; r < b->k && last != KF_Q_INF; r++) {
				q[r] = last = get_lp(dec, lp_plane(r), last);
				if (last > KF_Q_MAX && last != KF_Q_INF) { /* keeps sums from wrapping */
					dec->bad = true;
					return;
				}
			}
			for (; r < b->k; r++) q[r] = KF_Q_INF;
		}
}

static inline uint32_t get_miss(void *arg)
{
	struct decoder *d = arg;
	uint32_t v = kf_sym_get(&d->miss_bits, next(d, MISS));

	if (v < d->n_table) return d->table[v];
	d->bad = true;
	return 0;
}

static inline uint32_t get_place(struct decoder *d, unsigned place)
{
	uint32_t id;

	if (place == KF_ROW_MISS) return get_miss(d);
	if (kf_row_at(&d->t->rows, place, &id)) return id;
	d->bad = true;
	return 0;
}

static inline uint32_t get_length(struct decoder *d, uint32_t id)
{
	struct length *l = &d->t->len[kf_row_hash(id, LEN_TABLE)];
	uint8_t s = next(d, LENGTH);

	if (s == 0) {
		if (l->id != id + 1) d->bad = true;
		return l->length;
	}
	l->id = id + 1;
	return l->length = s == OTHER ? over(d, UINT32_MAX) : s - 1u;
}

static uint32_t decode_extras(struct decoder *dec, uint32_t label, uint32_t *where, uint32_t interior)
{
	kf_rows *rows = &dec->t->rows;
	struct x_list *x = &dec->t->x[kf_row_hash(label, X_TABLE)];
	uint32_t open = (1u << x->n) - 1, n = next(dec, EXTRAS + extras_context(interior, *where != NOWHERE)), *ids;

	if (n == OTHER) n = over(dec, 1u << 24);
	if (!n) return 0;
	/* each but the label takes a byte: what is not there is not allocated */
	if (n - 1 > (size_t)(dec->end[EXTRA_AT] - dec->at[EXTRA_AT]) || !kf_buf_reserve(&dec->extra, (size_t)n * 4)) {
		dec->bad = true;
		return 0;
	}
	ids = (uint32_t *)(dec->extra.data + dec->extra.len);
	dec->extra.len += (size_t)n * 4;
	if (*where == NOWHERE && label != KF_NO_TOKEN) {
		uint32_t at = next(dec, EXTRA_LABEL);

		if (at > n) dec->bad = true;
		else if (at) *where = dec->b->k + at - 1;
	}
	for (uint32_t j = 0; j < n && !dec->bad; j++) {
		unsigned place;

		if (*where == dec->b->k + j) {
			ids[j] = label;
			continue;
		}
		place = next(dec, EXTRA_AT);
		if (place < X_LIST) {
			if (place >= (unsigned)__builtin_popcount(open)) {
				dec->bad = true;
				return 0;
			}
			place = kf_nth_bit(open, place);
			ids[j] = x->id[place];
			open &= ~(1u << place);
		} else {
			ids[j] = get_place(dec, place == KF_ROW_MISS ? place : place - X_LIST);
		}
		kf_row_named(rows, ids[j]);
	}
	if (!dec->bad) x_renew(x, ids, n);
	return n;
}

/* Of extra candidates only what others need: the missed ids, which all take from one plane. */
static void skip_extras(struct decoder *dec, uint32_t label, bool label_in, uint32_t interior)
{
	uint32_t n = next(dec, EXTRAS + extras_context(interior, label_in));

	if (n == OTHER) n = over(dec, 1u << 24);
	if (n && !label_in && label != KF_NO_TOKEN && next(dec, EXTRA_LABEL)) n--;
	if (n > (size_t)(dec->end[EXTRA_AT] - dec->at[EXTRA_AT])) {
		dec->bad = true;
		return;
	}
	for (; n; n--)
		if (next(dec, EXTRA_AT) == KF_ROW_MISS) get_miss(dec);
}

/* A position's candidates. */
static inline __attribute__((always_inline)) bool row(struct decoder *dec, const bool known, uint32_t *ids)
{
	uint32_t k = dec->b->k;
	int plane = row_planes(&dec->t->rows), after = 0;

	if (__builtin_expect(k <= ROW_SHORT, 1)) {
		/* all three that may come next are read, and one is taken without a branch: which it is cannot be foreseen */
		const uint8_t **at = &dec->at[plane], *const *end = &dec->end[plane], *missed = at[1], *near = at[2], *far = at[3];
		uint32_t place = ids[0] = next(dec, plane);

		for (uint32_t r = 1; r < k; r++) {
			uint32_t m = place == KF_ROW_MISS, n = place < 2, f = 1 ^ m ^ n;

			place = (*missed & -m) | (*near & -n) | (*far & -f);
			ids[r] = place;
			missed += m;
			near += n;
			far += f;
		}
		dec->bad |= missed > end[1] || near > end[2] || far > end[3];
		at[1] = missed;
		at[2] = near;
		at[3] = far;
	} else {
		for (uint32_t r = 0; r < k; r++) {
			ids[r] = next(dec, plane + after);
			after = row_after(ids[r]);
		}
	}
	return kf_row_read(&dec->t->rows, known, ids, k, get_miss, dec);
}

static inline __attribute__((always_inline)) void rows_of(struct decoder *dec, const bool tokens_only)
{
	kf_logits_block *b = dec->b;
	kf_rows *rows = &dec->t->rows;
	size_t p = 0, t = 0;

	for (uint32_t d = 0; d < b->docs; d++) {
		uint32_t one = KF_NO_TOKEN, two = KF_NO_TOKEN, start = over(dec, UINT32_MAX);

		for (uint32_t i = 0; i <= b->n[d]; i++, p++) {
			uint32_t *ids = tokens_only ? dec->row : (uint32_t *)b->ids + p * b->k;
			uint32_t label = KF_NO_TOKEN, where = NOWHERE, length = 0;
			bool absent = kf_logits_absent(b, p, i);

			if (dec->bad) return;
			b->start[p] = start;
			rows->open = 0;
			if (!absent) {
				kf_row_begin(rows, one, two);
				/* escapes and infinity are above every context's limit */
				if (i < b->n[d] && (where = next(dec, LABEL + label_context(*dec->lp0))) == OTHER) where = NOWHERE;
				dec->lp0++;
				if (rows->known ? !row(dec, true, ids) : !row(dec, false, ids)) dec->bad = true;
				if (where != NOWHERE && where >= b->k) {
					dec->bad = true;
					return;
				}
				if (where != NOWHERE) kf_row_prefetch(rows, ids[where], one);
				kf_row_end(rows, ids, b->k);
			} else if (!tokens_only) {
				for (uint32_t r = 0; r < b->k; r++) ids[r] = (uint32_t)-1;
			}
			if (i < b->n[d]) {
				label = where == NOWHERE ? get_place(dec, next(dec, LABEL_AT)) : ids[where];
				if (where == NOWHERE) kf_row_named(rows, label);
				b->tok[t] = (int32_t)label;
				length = get_length(dec, label);
				if (length > UINT32_MAX - start) dec->bad = true;
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
			*q = last = get_lp(dec, EXTRA_LP + (j > 0), last == KF_Q_INF ? 0 : last);
			if (last > KF_Q_MAX && last != KF_Q_INF) {
				dec->bad = true;
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

				if (!kf_logits_absent(b, p, i))
					ce = get_ce(dec, w == NOWHERE ? 0 : w < b->k ? b->lp[p * b->k + w] : ex[w - b->k], w != NOWHERE,
						b->lp[p * b->k + b->k - 1]);
				if (ce > KF_Q_MAX && ce < KF_Q_NAN) dec->bad = true;
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

					if (s == OTHER) x = over(dec, KF_Q_MAX);
					else if (s) x = above - kf_sym_get(&dec->path_bits, s);
					if (x > KF_Q_MAX && x < KF_Q_NAN) dec->bad = true;
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
		size_t p = 0;

		rows = 0;
		for (uint32_t d = 0; d < b->docs; d++)
			for (uint32_t i = 0; i <= b->n[d]; i++, p++) rows += !kf_logits_absent(b, p, i);
	}
	return sum == rows * b->k && planes[LP0].len == rows;
}

/* Past the escapes of the log-probabilities, which are not read. */
static void skip_lp(struct decoder *d)
{
	uint64_t n = 0;

	for (int i = LP0; i < ROWS; i++)
		for (const uint8_t *p = d->at[i]; p < d->end[i]; p++) n += *p == LP_OVER;
	for (; n && !d->over.bad; n--) kf_cur_varint(&d->over);
}

uint64_t kf_logits_packed_token_planes(void)
{
	uint64_t not = 1ull << CE | 1ull << (CE + 1) | 1ull << CE_FAR | 1ull << CE_BITS | 15ull << PATH | 3ull << EXTRA_LP;

	return ((1ull << PLANES) - 1) & ~not;
}

kf_status kf_logits_packed_decode(kf_logits_tables **t, kf_buf *planes, kf_arena *a, kf_logits_block *b, kf_err *err)
{
	struct decoder d = { .b = b };
	kf_status rc;

	if (!rows_fit(planes, b)) return kf_fail(err, KF_EDATA, "a plane is longer or shorter than its documents");
	if ((rc = kf_logits_block_alloc(b, a, err)) != KF_OK) return rc;
	if ((rc = kf_idtable_decode(&planes[GAPS], &planes[CLASSES], a, &d.table, &d.n_table, err)) != KF_OK) return rc;
	if (b->tokens_only ? !(d.row = KF_ARENA_NEW(a, uint32_t, b->k)) : !(d.where = KF_ARENA_NEW(a, uint32_t, b->tokens)))
		return kf_fail(err, KF_ENOMEM, "no memory for a block of %zu tokens", b->tokens);
	if ((rc = tables_reset(t, err)) != KF_OK) return rc;
	d.t = *t;
	for (int i = 0; i < PLANES; i++) {
		d.at[i] = planes[i].data;
		d.end[i] = planes[i].data + planes[i].len;
	}
	d.over = kf_cur_of(planes[OVER].data, planes[OVER].len);
	d.miss_bits = kf_bits_from(&planes[MISS_BITS]);
	d.ce_bits = kf_bits_from(&planes[CE_BITS]);
	d.path_bits = kf_bits_from(&planes[PATH_BITS]);
	d.lp0 = planes[LP0].data;
	if (b->tokens_only) {
		skip_lp(&d);
		if (!d.bad) decode_tokens(&d);
		for (int i = ROWS; i <= LENGTH; i++)
			if (i != MISS_BITS && d.at[i] != d.end[i]) d.bad = true;
		if (d.bad || d.over.bad || kf_bits_over(&d.miss_bits)) goto bad;
		goto out;
	}
	decode_lp(&d);
	if (!d.bad) decode_rows(&d);
	if (d.bad || d.over.bad) goto bad;
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
	if (!d.bad) decode_ce(&d);
	if (!d.bad && b->path) decode_path(&d);
	for (int i = LP0; i < PLANES; i++)
		if (i != OVER && i != MISS_BITS && i != CE_BITS && i != PATH_BITS && d.at[i] != d.end[i]) d.bad = true;
	if (kf_cur_left(&d.over) || kf_bits_over(&d.miss_bits) || kf_bits_over(&d.ce_bits) || kf_bits_over(&d.path_bits)) d.bad = true;
	if (!d.bad && !d.over.bad) goto out;
bad:
	rc = kf_fail(err, KF_EDATA, "its planes contradict each other");
out:
	kf_buf_release(&d.extra);
	return rc;
}
