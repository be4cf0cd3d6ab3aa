/* Distribution records (aligned sets and targets): checked and gathered into a block's arrays, and handed out again.
 * What a position's probabilities sum to is settled when reading: see mass(). */
#include "common/store/dist.h"
#include "common/store/quant.h"

#define LEVEL_F32 1 /* and packed KF_PACK_FAST: align and fuse write as fast as they compute */

struct enc {
	kf_heads_enc heads;
	kf_packer *packer;
	kf_dist_tables *tables;
	bool bos, weighted, chat;
	kf_buf n, tok, start, ce, count, ids, lp, weight, context;
	kf_buf planes[KF_MAX_PLANES];
};

static void enc_free(void *state)
{
	struct enc *e = state;
	kf_buf *arrays[] = { &e->n, &e->tok, &e->start, &e->ce, &e->count, &e->ids, &e->lp, &e->weight };

	for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) kf_buf_release(arrays[i]);
	kf_buf_release(&e->context);
	for (int i = 0; i < KF_MAX_PLANES; i++) kf_buf_release(&e->planes[i]);
	kf_heads_release(&e->heads);
	kf_dist_tables_free(e->tables);
	kf_packer_free(e->packer);
	kf_free(e);
}

static kf_status enc_flush(void *state, bool f32, kf_buf *out, uint32_t *docs, kf_err *err)
{
	struct enc *e = state;
	kf_buf *arrays[] = { &e->n, &e->tok, &e->start, &e->ce, &e->count, &e->ids, &e->lp, &e->weight };
	kf_dist_block b = {
		.bos = e->bos, .weighted = e->weighted, .docs = e->heads.docs, .n = (uint32_t *)e->n.data,
		.tokens = e->tok.len / 4, .positions = e->start.len / 4, .cands = e->ids.len / 4,
		.tok = (int32_t *)e->tok.data, .start = (uint32_t *)e->start.data, .ce = (uint32_t *)e->ce.data,
		.count = (uint32_t *)e->count.data, .ids = (int32_t *)e->ids.data, .lp = (uint32_t *)e->lp.data,
		.weight = (uint32_t *)e->weight.data, .context = e->chat ? e->context.data : NULL
	};
	kf_status rc = kf_buf_check(&e->context, err);

	for (size_t i = 0; rc == KF_OK && i < sizeof arrays / sizeof *arrays; i++) rc = kf_buf_check(arrays[i], err);
	if (rc != KF_OK) return rc;
	*docs = b.docs;
	for (int i = 0; i < KF_MAX_PLANES; i++) kf_buf_clear(&e->planes[i]);
	kf_heads_finish(&e->heads, &e->planes[0]);
	kf_buf_u8(out, (uint8_t)(b.bos | b.weighted << 1 | (b.context ? KF_BLOCK_CONTEXT : 0)));
	if (b.context)
		kf_context_put(&e->planes[f32 ? KF_DIST_F32_PLANES : KF_DIST_PACKED_PLANES], b.context, b.n, b.docs);
	rc = f32 ? kf_dist_f32_encode(e->packer, e->planes, &b, out, err) :
		kf_dist_packed_encode(e->packer, &e->tables, e->planes, &b, out, err);
	for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) kf_buf_clear(arrays[i]);
	kf_buf_clear(&e->context);
	return rc;
}

static const kf_codec_writer packed_writer = { 'D', enc_flush, enc_free }, f32_writer = { 'd', enc_flush, enc_free };

static kf_status bad(kf_err *err, const kf_dochead *h, const char *what)
{
	return kf_fail(err, KF_EINVAL, "document %llu: %s", (unsigned long long)h->doc, what);
}

static kf_status check(const kf_dist_rec *r, kf_err *err)
{
	const kf_dochead *h = &r->head;
	size_t n = r->n;

	if (!r->start || !r->off || r->off[0] || (n && (!r->tokens || !r->ce))) return bad(err, h, "an array is missing");
	if (n >= KF_BLOCK_TOKENS || r->off[n + 1] > KF_BLOCK_VALUES)
		return kf_fail(err, KF_EUNSUPPORTED, "document %llu: %zu tokens are too many for one record; cut documents smaller",
			(unsigned long long)h->doc, n);
	for (size_t i = 0; i < n; i++) {
		if (r->tokens[i] < 0) return bad(err, h, "a token's id is negative");
		if (r->start[i + 1] < r->start[i]) return bad(err, h, "starts descend");
		if (r->ce[i] < -0.01f) return bad(err, h, "a ce is negative");
	}
	for (size_t p = 0; p <= n; p++) {
		float last = 0.01f;

		if (r->off[p + 1] < r->off[p]) return bad(err, h, "the candidates' offsets descend");
		if (r->context && (r->context[p] > 1 || (r->context[p] && r->off[p] < r->off[p + 1])))
			return bad(err, h, "a position of context has candidates");
		for (uint32_t j = r->off[p]; j < r->off[p + 1]; j++) {
			if (r->ids[j] < 0) return bad(err, h, "a candidate's id is negative");
			if (!(r->lp[j] <= last)) return bad(err, h, "log-probabilities are not descending numbers below 0");
			last = r->lp[j];
		}
		if (r->weight && !(r->weight[p] >= 0 && r->weight[p] <= 1)) return bad(err, h, "a weight is not within 0 and 1");
	}
	return KF_OK;
}

kf_status kf_shard_put_dist(kf_shard_writer *sw, const kf_dist_rec *r, kf_err *err)
{
	struct enc *e;
	size_t n = r->n, cands;
	uint32_t *count, *ce, *lp, *w = NULL;
	uint64_t h[9];
	kf_status rc;

	if ((rc = kf_shard_kind(sw->kind, 1u << KF_SET_ALIGNED | 1u << KF_SET_TARGETS, "distribution", err)) != KF_OK) return rc;
	if ((rc = kf_shard_put_begin(sw, &r->head, err)) != KF_OK || (rc = check(r, err)) != KF_OK) return rc;
	if (r->context && !sw->chat) return bad(err, &r->head, "it is a conversation, for which the set was not begun");
	cands = r->off[n + 1];
	if (!sw->state) {
		if (!(e = kf_zalloc(1, sizeof *e)) || !(e->packer = kf_packer_new(sw->f32 ? LEVEL_F32 : KF_PACK_FAST))) {
			kf_free(e);
			return kf_fail(err, KF_ENOMEM, "no memory to write distributions");
		}
		sw->state = e;
		sw->codec = sw->f32 ? &f32_writer : &packed_writer;
	}
	e = sw->state;
	if (e->heads.docs && (e->bos != r->bos || e->weighted != (r->weight != NULL) || e->chat != (r->context != NULL) ||
	    e->tok.len / 4 + n >= KF_BLOCK_TOKENS || e->ids.len / 4 + cands > KF_BLOCK_VALUES))
		if ((rc = kf_shard_flush(sw, err)) != KF_OK) return rc;
	e->bos = r->bos;
	e->weighted = r->weight != NULL;
	e->chat = r->context != NULL;
	if (r->context) kf_buf_put(&e->context, r->context, n + 1);
	kf_heads_put(&e->heads, &r->head, r->n, r->source_tokens, NULL);
	kf_buf_put(&e->n, &r->n, 4);
	kf_buf_put(&e->tok, r->tokens, n * 4);
	kf_buf_put(&e->start, r->start, (n + 1) * 4);
	kf_buf_put(&e->ids, r->ids, cands * 4);
	ce = kf_buf_words(&e->ce, n);
	count = kf_buf_words(&e->count, n + 1);
	lp = kf_buf_words(&e->lp, cands);
	if (r->weight) w = kf_buf_words(&e->weight, n + 1);
	if (!ce || !count || !lp || (r->weight && !w) || e->tok.failed || e->start.failed || e->ids.failed)
		return kf_fail(err, KF_ENOMEM, "no memory for a document of %zu tokens", n);
	for (size_t p = 0; p <= n; p++) count[p] = r->off[p + 1] - r->off[p];
	if (sw->f32) {
		for (size_t i = 0; i < n; i++) ce[i] = kf_bits_of(r->ce[i]);
		for (size_t i = 0; i < cands; i++) lp[i] = kf_bits_of(-r->lp[i]);
		for (size_t p = 0; w && p <= n; p++) w[p] = kf_bits_of(r->weight[p]);
	} else {
		for (size_t i = 0; i < n; i++) ce[i] = kf_quant(r->ce[i], KF_NLL_STEPS);
		for (size_t i = 0; i < cands; i++) lp[i] = kf_quant(-r->lp[i], KF_DIST_STEPS);
		for (size_t p = 0; w && p <= n; p++) w[p] = (uint32_t)lrintf(r->weight[p] * 255);
	}
	h[0] = kf_hash64(r->tokens, n * 4);
	h[1] = kf_hash64(r->start, (n + 1) * 4);
	h[2] = kf_hash64(ce, n * 4);
	h[3] = kf_hash64(count, (n + 1) * 4);
	h[4] = kf_hash64(r->ids, cands * 4);
	h[5] = kf_hash64(lp, cands * 4);
	h[6] = w ? kf_hash64(w, (n + 1) * 4) : 0;
	h[7] = r->source_tokens;
	if (r->context) h[8] = kf_hash64(r->context, n + 1);
	return kf_shard_put_end(sw, &r->head, n, kf_head_hash(&r->head, kf_hash64(h, (r->context ? 9 : 8) * sizeof *h)),
		e->ids.len / 4 * 3 + e->tok.len * 2, err);
}

/* ---- reading ---- */

#define EXP_TABLE 4096 /* exp(-q / KF_DIST_STEPS), 0 from there on: 128 nats */

struct dec {
	kf_block_state base;
	kf_unpacker *unpacker;
	kf_dist_tables *tables;
	kf_buf planes[KF_MAX_PLANES];
	kf_dist_block b;
	size_t *tok_at, *cand_at; /* (docs + 1) */
	float exp[EXP_TABLE];
};

static void dec_free(kf_block_state *state)
{
	struct dec *d = (struct dec *)state;

	for (int i = 0; i < KF_MAX_PLANES; i++) kf_buf_release(&d->planes[i]);
	kf_dist_tables_free(d->tables);
	kf_unpacker_free(d->unpacker);
	kf_arena_release(&d->base.arena);
	kf_free(d);
}

static kf_block_state *dec_new(void)
{
	struct dec *d = kf_zalloc(1, sizeof *d);

	if (!d) return NULL;
	for (int i = 0; i < EXP_TABLE; i++) d->exp[i] = (float)exp(-i / (double)KF_DIST_STEPS);
	if (!(d->unpacker = kf_unpacker_new())) {
		kf_free(d);
		return NULL;
	}
	return &d->base;
}

kf_status kf_dist_block_alloc(kf_dist_block *b, kf_arena *a, kf_err *err)
{
	b->tok = KF_ARENA_NEW(a, int32_t, b->tokens);
	b->start = KF_ARENA_NEW(a, uint32_t, b->positions);
	b->ce = KF_ARENA_NEW(a, uint32_t, b->tokens);
	b->count = KF_ARENA_NEW(a, uint32_t, b->positions);
	b->weight = b->weighted ? KF_ARENA_NEW(a, uint32_t, b->positions) : NULL;
	if (!b->tok || !b->start || !b->ce || !b->count || (b->weighted && !b->weight))
		return kf_fail(err, KF_ENOMEM, "no memory for a block of %zu tokens", b->tokens);
	return KF_OK;
}

static kf_status decode(kf_block_state *state, const uint8_t *data, size_t n, uint32_t docs, bool f32, kf_err *err)
{
	struct dec *d = (struct dec *)state;
	kf_arena *a = &d->base.arena;
	kf_cur c = kf_cur_of(data, n);
	kf_dist_block *b = &d->b;
	uint8_t flags = kf_cur_u8(&c);
	int planes = f32 ? KF_DIST_F32_PLANES : KF_DIST_PACKED_PLANES;
	uint32_t *counts;
	const uint32_t *x;
	kf_status rc;

	kf_arena_reset(a);
	memset(b, 0, sizeof *b);
	b->bos = flags & 1;
	b->weighted = flags >> 1 & 1;
	b->docs = docs;
	if (c.bad || flags > 7) return kf_fail(err, KF_EDATA, "its parameters are damaged");
	if ((rc = kf_planes_unpack(d->unpacker, &c, d->planes, planes + (flags & KF_BLOCK_CONTEXT ? 1 : 0), err)) != KF_OK) return rc;
	if ((rc = kf_heads_get(&d->planes[0], docs, false, a, &d->base.heads, err)) != KF_OK) return rc;
	d->base.docs = docs;
	counts = KF_ARENA_NEW(a, uint32_t, docs);
	d->tok_at = KF_ARENA_NEW(a, size_t, (size_t)docs + 1);
	d->cand_at = KF_ARENA_NEW(a, size_t, (size_t)docs + 1);
	if (!counts || !d->tok_at || !d->cand_at) return kf_fail(err, KF_ENOMEM, "no memory for %u documents", docs);
	for (uint32_t i = 0; i < docs; i++) {
		counts[i] = d->base.heads[i].n;
		d->tok_at[i] = b->tokens;
		b->tokens += counts[i];
	}
	b->n = counts;
	b->positions = b->tokens + docs;
	if (flags & KF_BLOCK_CONTEXT &&
	    (rc = kf_context_get(&d->planes[planes], counts, docs, b->positions, a, &b->context, err)) != KF_OK)
		return rc;
	rc = f32 ? kf_dist_f32_decode(d->planes, a, b, err) : kf_dist_packed_decode(&d->tables, d->planes, a, b, err);
	if (rc != KF_OK) return rc;
	for (size_t p = 0; b->context && p < b->positions; p++)
		if (b->context[p] && b->count[p]) return kf_fail(err, KF_EDATA, "a position of context has candidates");
	x = b->count;
	d->cand_at[0] = 0;
	for (uint32_t i = 0; i < docs; i++) {
		size_t at = d->cand_at[i];

		for (uint32_t j = 0; j <= counts[i]; j++) at += *x++;
		d->cand_at[i + 1] = at;
	}
	return KF_OK;
}

const kf_codec_reader kf_codec_dist = { 'D', dec_new, dec_free, decode, kf_dist_packed_planes, 1, true };
const kf_codec_reader kf_codec_dist_f32 = { 'd', dec_new, dec_free, decode, kf_dist_f32_planes, 1, true };

/* The candidates of a position, and what they leave. Rounding to the nearest step may carry a sum of nearly 1 above it, by
 * at most half a step: then all are scaled down to sum to 1, less what float arithmetic may add. */
static float mass(const struct dec *d, const uint32_t *q, float *lp, uint32_t n)
{
	float sum = 0, shift = 0;

	for (uint32_t i = 0; i < n; i++) sum += q[i] < EXP_TABLE ? d->exp[q[i]] : 0;
	if (sum > 1 - 2e-6f) {
		/* up to whole steps of 2^-18, which also settles what the last digit of a logarithm is */
		shift = ceilf(logf(sum) * 262144 + 1) / 262144;
		if (shift < 0) shift = 0;
		sum = 1 < sum ? 1 : sum;
	}
	for (uint32_t i = 0; i < n; i++)
		lp[i] = q[i] >= KF_Q_NAN ? -INFINITY : (float)(int32_t)q[i] * (-1.0f / KF_DIST_STEPS) - shift;
	return 1 - sum;
}

static float mass_f32(const uint32_t *bits, float *lp, uint32_t n)
{
	double sum = 0;

	for (uint32_t i = 0; i < n; i++) {
		lp[i] = -kf_of_bits(bits[i]);
		sum += exp(lp[i]);
	}
	return sum < 1 ? (float)(1 - sum) : 0;
}

static void *copy(kf_arena *a, const void *p, size_t n)
{
	void *q = kf_arena_alloc(a, n, 4);

	if (q && n) memcpy(q, p, n * 4);
	return q;
}

kf_status kf_shard_next_dist(kf_shard *s, kf_arena *arena, kf_dist_rec *r, kf_err *err)
{
	struct dec *d;
	const kf_dist_block *b;
	size_t n, tok, pos, cand, cands;
	uint32_t i, *off;
	float *ce, *lp, *tail, *weight = NULL;
	kf_status rc;

	memset(r, 0, sizeof *r);
	if ((rc = kf_shard_kind(s->kind, 1u << KF_SET_ALIGNED | 1u << KF_SET_TARGETS, "distribution", err)) != KF_OK) return rc;
	if ((rc = kf_shard_load(s, &i, err)) != KF_OK) return rc;
	d = (struct dec *)s->state;
	b = &d->b;
	if ((rc = kf_head_copy(&r->head, &d->base.heads[i].head, arena, err)) != KF_OK) return rc;
	n = b->n[i];
	tok = d->tok_at[i];
	pos = tok + i;
	cand = d->cand_at[i];
	cands = d->cand_at[i + 1] - cand;
	r->bos = b->bos;
	r->n = b->n[i];
	r->source_tokens = d->base.heads[i].more;
	r->tokens = copy(arena, b->tok + tok, n);
	r->start = copy(arena, b->start + pos, n + 1);
	r->ids = copy(arena, b->ids + cand, cands);
	r->ce = ce = KF_ARENA_NEW(arena, float, n);
	r->off = off = KF_ARENA_NEW(arena, uint32_t, n + 2);
	r->lp = lp = KF_ARENA_NEW(arena, float, cands);
	r->tail = tail = KF_ARENA_NEW(arena, float, n + 1);
	if (b->weighted) r->weight = weight = KF_ARENA_NEW(arena, float, n + 1);
	if (!r->tokens || !r->start || !r->ids || !ce || !off || !lp || !tail || (b->weighted && !weight))
		return kf_fail(err, KF_ENOMEM, "no memory for a document of %zu tokens", n);
	if (b->context && !(r->context = (const uint8_t *)kf_arena_strdup(arena, (const char *)b->context + pos, n + 1)))
		return kf_fail(err, KF_ENOMEM, "no memory for a document of %zu tokens", n);
	off[0] = 0;
	for (size_t p = 0; p <= n; p++) {
		uint32_t m = b->count[pos + p];

		off[p + 1] = off[p] + m;
		tail[p] = !m ? NAN : s->f32 ? mass_f32(b->lp + cand + off[p], lp + off[p], m) :
			mass(d, b->lp + cand + off[p], lp + off[p], m);
	}
	if (s->f32) for (size_t j = 0; j < n; j++) ce[j] = kf_of_bits(b->ce[tok + j]);
	else for (size_t j = 0; j < n; j++) ce[j] = kf_dequant(b->ce[tok + j], KF_NLL_STEPS);
	for (size_t p = 0; weight && p <= n; p++)
		weight[p] = s->f32 ? kf_of_bits(b->weight[pos + p]) : (float)b->weight[pos + p] / 255;
	/* packed numbers are what they may be by their encoding */
	if (s->f32 && (rc = check(r, err)) != KF_OK) return kf_context(err, KF_EDATA, "%s", s->path);
	s->next++;
	return KF_OK;
}
