/* Codec L, written: common/store/logits_packed.h. */
#include "common/store/logits_packed.h"

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
		kf_buf_u8(b, KF_LP_INF);
	} else if (q - before < KF_LP_OVER) { /* both below 2^29: a smaller q wraps to a large difference */
		kf_buf_u8(b, (uint8_t)(q - before));
	} else {
		kf_buf_u8(b, KF_LP_OVER);
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
	uint8_t s = kf_length_symbol(&e->t->memory, id, length);

	kf_buf_u8(&e->planes[LENGTH], s);
	if (s == KF_OTHER) kf_buf_varint(&e->planes[OVER], length);
}

static void encode_extras(struct encoder *e, const uint32_t *ids, uint32_t n, uint32_t label, uint32_t *where, uint32_t interior)
{
	kf_rows *rows = &e->t->memory.rows;
	x_list *x = &e->t->x[kf_row_hash(label, X_TABLE)];
	kf_buf *planes = e->planes;
	uint32_t open = (1u << x->n) - 1, at;

	kf_buf_u8(&planes[EXTRAS + extras_context(interior, *where != NOWHERE)], n < KF_OTHER ? (uint8_t)n : KF_OTHER);
	if (n >= KF_OTHER) kf_buf_varint(&planes[OVER], n);
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
	kf_logits_extras_seen(x, ids, n);
}

static void encode_rows(struct encoder *e)
{
	const kf_logits_block *b = e->b;
	kf_rows *rows = &e->t->memory.rows;
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
						where == NOWHERE ? KF_OTHER : (uint8_t)where);
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
					kf_buf_u8(&e->planes[PATH + context], KF_OTHER);
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
	if ((rc = kf_logits_tables_reset(t, err)) != KF_OK) return rc;
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
