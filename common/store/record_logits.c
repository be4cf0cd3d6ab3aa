/* Logits records: checked and gathered into a block's arrays, and handed out again. */
#include "common/store/logits.h"
#include "common/store/quant.h"

#define LEVEL 19 /* extract makes 1,000 tokens a second, this packs a hundred times as many; it reads as fast at any level */

struct enc {
	kf_heads_enc heads;
	kf_packer *packer;
	kf_logits_tables *tables;
	uint32_t k;
	bool bos, path, chat;
	kf_buf n, tok, start, ce, ids, lp, nlm, n_ex, ex_ids, ex_lp, context;
	kf_buf planes[KF_MAX_PLANES];
};

static void enc_free(void *state)
{
	struct enc *e = state;
	kf_buf *arrays[] = { &e->n, &e->tok, &e->start, &e->ce, &e->ids, &e->lp, &e->nlm, &e->n_ex, &e->ex_ids, &e->ex_lp };

	for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) kf_buf_release(arrays[i]);
	kf_buf_release(&e->context);
	for (int i = 0; i < KF_MAX_PLANES; i++) kf_buf_release(&e->planes[i]);
	kf_heads_release(&e->heads);
	kf_logits_tables_free(e->tables);
	kf_packer_free(e->packer);
	kf_free(e);
}

static kf_status enc_flush(void *state, bool f32, kf_buf *out, uint32_t *docs, kf_err *err)
{
	struct enc *e = state;
	kf_buf *arrays[] = { &e->n, &e->tok, &e->start, &e->ce, &e->ids, &e->lp, &e->nlm, &e->n_ex, &e->ex_ids, &e->ex_lp };
	kf_logits_block b = {
		.k = e->k, .bos = e->bos, .path = e->path, .docs = e->heads.docs,
		.n = (uint32_t *)e->n.data, .tokens = e->tok.len / 4, .positions = e->start.len / 4,
		.tok = (int32_t *)e->tok.data, .start = (uint32_t *)e->start.data, .ce = (uint32_t *)e->ce.data,
		.ids = (int32_t *)e->ids.data, .lp = (uint32_t *)e->lp.data,
		.n_path = e->nlm.len / 4, .n_extra = e->ex_ids.len / 4, .nlm = (uint32_t *)e->nlm.data,
		.n_ex = (uint32_t *)e->n_ex.data, .ex_ids = (int32_t *)e->ex_ids.data, .ex_lp = (uint32_t *)e->ex_lp.data,
		.context = e->chat ? e->context.data : NULL
	};
	kf_status rc = kf_buf_check(&e->context, err);

	for (size_t i = 0; rc == KF_OK && i < sizeof arrays / sizeof *arrays; i++) rc = kf_buf_check(arrays[i], err);
	if (rc != KF_OK) return rc;
	*docs = b.docs;
	for (int i = 0; i < KF_MAX_PLANES; i++) kf_buf_clear(&e->planes[i]);
	kf_heads_finish(&e->heads, &e->planes[0]);
	kf_buf_u8(out, (uint8_t)(b.bos | b.path << 1 | (b.context ? KF_BLOCK_CONTEXT : 0)));
	kf_buf_u32(out, b.k);
	if (b.context)
		kf_context_put(&e->planes[f32 ? KF_LOGITS_F32_PLANES : KF_LOGITS_PACKED_PLANES], b.context, b.n, b.docs);
	rc = f32 ? kf_logits_f32_encode(e->packer, e->planes, &b, out, err) :
		kf_logits_packed_encode(e->packer, &e->tables, e->planes, &b, out, err);
	for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) kf_buf_clear(arrays[i]);
	kf_buf_clear(&e->context);
	return rc;
}

static const kf_codec_writer packed_writer = { 'L', enc_flush, enc_free }, f32_writer = { 'l', enc_flush, enc_free };

static kf_status put_ids(kf_buf *b, const int32_t *ids, size_t n)
{
	kf_buf_put(b, ids, n * 4);
	return KF_OK;
}

/* ce and masses; lp is negated first */
static bool put_numbers(kf_buf *b, const float *x, size_t n, int steps, float sign, bool f32)
{
	uint32_t *out = kf_buf_words(b, n);

	if (!out) return false;
	if (f32) for (size_t i = 0; i < n; i++) out[i] = kf_bits_of(sign * x[i]);
	else for (size_t i = 0; i < n; i++) out[i] = kf_quant(sign * x[i], steps);
	return true;
}

static kf_status bad(kf_err *err, const kf_dochead *h, const char *what)
{
	return kf_fail(err, KF_EINVAL, "document %llu: %s", (unsigned long long)h->doc, what);
}

kf_status kf_logits_fits(const kf_dochead *h, size_t n, uint32_t k, const uint32_t *start, kf_err *err)
{
	uint64_t masses = 0;

	for (size_t i = 0; start && h->bytes > KF_BLOCK_VALUES && i < n; i++) masses += kf_interior(start[i], start[i + 1]);
	if (masses > KF_BLOCK_VALUES)
		return kf_fail(err, KF_EUNSUPPORTED, "document %llu: %u bytes in %zu tokens have more path masses than one record can hold; cut documents smaller, "
			"or leave the byte path out (--byte-path no)", (unsigned long long)h->doc, h->bytes, n);
	if (n < KF_BLOCK_TOKENS && (uint64_t)(n + 1) * k <= KF_BLOCK_VALUES) return KF_OK;
	return kf_fail(err, KF_EUNSUPPORTED, "document %llu: %zu tokens with %u candidates each are too many for one record; cut documents smaller",
		(unsigned long long)h->doc, n, k);
}

static kf_status check(const kf_logits_rec *r, kf_err *err)
{
	const kf_dochead *h = &r->head;
	size_t n = r->n;
	kf_status rc;

	if (r->k < 1 || r->k > 65535) return bad(err, h, "k is not within 1 and 65535");
	if (!r->start || !r->top_ids || !r->top_lp || (n && (!r->tokens || !r->ce))) return bad(err, h, "an array is missing");
	if ((rc = kf_logits_fits(h, n, r->k, r->has_path ? r->start : NULL, err)) != KF_OK) return rc;
	for (size_t i = 0; i < n; i++) {
		if (r->tokens[i] < 0) return bad(err, h, "a token's id is negative");
		if (r->start[i + 1] < r->start[i]) return bad(err, h, "starts descend");
		if (!(r->ce[i] > -0.01f) && kf_predicted(r, (uint32_t)i)) return bad(err, h, "a ce is negative or not a number");
	}
	if (r->context && !r->bos && !r->context[0]) return bad(err, h, "position 0 is no context, though the model adds no BOS");
	for (size_t p = 0; p <= n; p++) {
		const int32_t *id = r->top_ids + p * r->k;
		const float *lp = r->top_lp + p * r->k;

		if (r->context && r->context[p] > 1) return bad(err, h, "context is neither 0 nor 1");
		if (!kf_predicted(r, (uint32_t)p)) continue;
		for (uint32_t j = 0; j < r->k; j++) {
			if (id[j] < 0) return bad(err, h, "a candidate's id is negative");
			if (!(lp[j] < 0.01f) || (j && lp[j] > lp[j - 1])) return bad(err, h, "log-probabilities are not descending numbers below 0");
		}
	}
	if (!r->has_path) return KF_OK;
	if (!r->path_off || !r->extra_off || r->path_off[0] || r->extra_off[0]) return bad(err, h, "the byte path's offsets are missing");
	for (size_t i = 0; i < n; i++) {
		if (r->path_off[i + 1] - r->path_off[i] != kf_interior(r->start[i], r->start[i + 1]))
			return bad(err, h, "a token has another number of path masses than interior bytes");
		for (uint32_t x = r->path_off[i]; x < r->path_off[i + 1]; x++)
			if (!(r->path_nlm[x] > -0.01f) && kf_predicted(r, (uint32_t)i)) return bad(err, h, "a path mass is above 1 or not a number");
	}
	for (size_t p = 0; p <= n; p++) {
		if (r->extra_off[p + 1] < r->extra_off[p]) return bad(err, h, "the extra candidates' offsets descend");
		if (!kf_predicted(r, (uint32_t)p) && r->extra_off[p] < r->extra_off[p + 1])
			return bad(err, h, "extra candidates at a position without a distribution");
		for (uint32_t x = r->extra_off[p]; x < r->extra_off[p + 1]; x++) {
			if (r->extra_ids[x] < 0) return bad(err, h, "an extra candidate's id is negative");
			if (!(r->extra_lp[x] < 0.01f) || (x > r->extra_off[p] && r->extra_lp[x] > r->extra_lp[x - 1]))
				return bad(err, h, "extra log-probabilities are not descending numbers below 0");
		}
	}
	return KF_OK;
}

/* Masses never grow along a token, and its own is the last: rounding errors of the writer's arithmetic end here. */
static void monotone(uint32_t *nlm, const uint32_t *ce, const uint32_t *off, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		uint32_t above = ce[i];

		for (uint32_t j = off[i + 1]; j-- > off[i];) {
			if (nlm[j] > above) nlm[j] = above;
			above = nlm[j];
		}
	}
}

/* What a position without a distribution holds, whatever the caller left there. */
static void clear_row(uint32_t *ids, uint32_t *lp, uint32_t *ce, uint32_t *nlm, size_t interior, uint32_t k, bool f32)
{
	uint32_t nan = f32 ? kf_bits_of(NAN) : KF_Q_NAN, inf = f32 ? kf_bits_of(INFINITY) : KF_Q_INF;

	for (uint32_t j = 0; j < k; j++) {
		ids[j] = (uint32_t)-1;
		lp[j] = inf;
	}
	if (ce) *ce = nan;
	for (size_t x = 0; x < interior; x++) nlm[x] = nan;
}

/* Whether it is as clear_row left it. */
static kf_status check_cleared(const kf_logits_rec *r, kf_err *err)
{
	bool clear = true;

	for (uint32_t p = 0; p <= r->n; p++) {
		if (kf_predicted(r, p)) continue;
		for (size_t j = (size_t)p * r->k; j < ((size_t)p + 1) * r->k; j++) clear &= r->top_ids[j] == -1 && r->top_lp[j] == -INFINITY;
		if (p == r->n) break;
		clear &= isnan(r->ce[p]);
		for (uint32_t x = r->has_path ? r->path_off[p] : 0; r->has_path && x < r->path_off[p + 1]; x++) clear &= isnan(r->path_nlm[x]);
	}
	return clear ? KF_OK : bad(err, &r->head, "a position without a distribution has numbers");
}

kf_status kf_shard_put_logits(kf_shard_writer *sw, const kf_logits_rec *r, kf_err *err)
{
	struct enc *e;
	size_t n = r->n, at[9];
	uint32_t counts[1];
	uint64_t h[10];
	kf_status rc;

	if ((rc = kf_shard_kind(sw->kind, 1u << KF_SET_LOGITS, "logits", err)) != KF_OK) return rc;
	if ((rc = kf_shard_put_begin(sw, &r->head, err)) != KF_OK || (rc = check(r, err)) != KF_OK) return rc;
	if (r->context && !sw->chat) return bad(err, &r->head, "it is a conversation, for which the set was not begun");
	if (!sw->state) {
		if (!(e = kf_zalloc(1, sizeof *e)) || !(e->packer = kf_packer_new(LEVEL))) {
			kf_free(e);
			return kf_fail(err, KF_ENOMEM, "no memory to write logits");
		}
		sw->state = e;
		sw->codec = sw->f32 ? &f32_writer : &packed_writer;
	}
	e = sw->state;
	/* a block has one k, one kind of position 0, and a bounded number of values */
	if (e->heads.docs && (e->k != r->k || e->bos != r->bos || e->path != r->has_path ||
	    e->chat != (r->context != NULL) || e->tok.len / 4 + n >= KF_BLOCK_TOKENS || e->ids.len / 4 + (n + 1) * r->k > KF_BLOCK_VALUES ||
	    (r->has_path && e->nlm.len / 4 + r->path_off[n] > KF_BLOCK_VALUES)))
		if ((rc = kf_shard_flush(sw, err)) != KF_OK) return rc;
	e->k = r->k;
	e->bos = r->bos;
	e->path = r->has_path;
	e->chat = r->context != NULL;
	at[0] = e->tok.len, at[1] = e->start.len, at[2] = e->ce.len, at[3] = e->ids.len, at[4] = e->lp.len;
	at[5] = e->nlm.len, at[6] = e->ex_ids.len, at[7] = e->n_ex.len, at[8] = e->ex_lp.len;
	kf_heads_put(&e->heads, &r->head, r->n, 0, NULL);
	if (r->context) kf_buf_put(&e->context, r->context, n + 1);
	counts[0] = r->n;
	kf_buf_put(&e->n, counts, 4);
	put_ids(&e->tok, r->tokens, n);
	kf_buf_put(&e->start, r->start, (n + 1) * 4);
	put_ids(&e->ids, r->top_ids, (n + 1) * r->k);
	if (!put_numbers(&e->ce, r->ce, n, KF_NLL_STEPS, 1, sw->f32) ||
	    !put_numbers(&e->lp, r->top_lp, (n + 1) * r->k, KF_LP_STEPS, -1, sw->f32))
		return kf_fail(err, KF_ENOMEM, "no memory for a document of %zu tokens", n);
	if (r->has_path) {
		uint32_t *c = kf_buf_words(&e->n_ex, n + 1), x = r->extra_off[n + 1];

		put_ids(&e->ex_ids, r->extra_ids, x);
		if (!c || !put_numbers(&e->nlm, r->path_nlm, r->path_off[n], KF_NLL_STEPS, 1, sw->f32) ||
		    !put_numbers(&e->ex_lp, r->extra_lp, x, KF_LP_STEPS, -1, sw->f32))
			return kf_fail(err, KF_ENOMEM, "no memory for a document of %zu tokens", n);
		for (size_t p = 0; p <= n; p++) c[p] = r->extra_off[p + 1] - r->extra_off[p];
		if (!sw->f32) monotone((uint32_t *)(e->nlm.data + at[5]), (const uint32_t *)(e->ce.data + at[2]), r->path_off, n);
	}
	if (e->ids.failed || e->tok.failed || e->start.failed || e->ex_ids.failed)
		return kf_fail(err, KF_ENOMEM, "no memory for a document of %zu tokens", n);
	for (uint32_t p = 0; p <= (r->context ? n : 0); p++) {
		if (kf_predicted(r, p)) continue;
		clear_row((uint32_t *)(e->ids.data + at[3]) + p * r->k, (uint32_t *)(e->lp.data + at[4]) + p * r->k,
			p < n ? (uint32_t *)(e->ce.data + at[2]) + p : NULL,
			r->has_path ? (uint32_t *)(e->nlm.data + at[5]) + r->path_off[p] : NULL,
			p < n && r->has_path ? kf_interior(r->start[p], r->start[p + 1]) : 0, r->k, sw->f32);
	}
	h[0] = kf_hash64(e->tok.data + at[0], e->tok.len - at[0]);
	h[1] = kf_hash64(e->start.data + at[1], e->start.len - at[1]);
	h[2] = kf_hash64(e->ce.data + at[2], e->ce.len - at[2]);
	h[3] = kf_hash64(e->ids.data + at[3], e->ids.len - at[3]);
	h[4] = kf_hash64(e->lp.data + at[4], e->lp.len - at[4]);
	h[5] = r->has_path ? kf_hash64(e->nlm.data + at[5], e->nlm.len - at[5]) : 0;
	h[6] = r->has_path ? kf_hash64(e->ex_ids.data + at[6], e->ex_ids.len - at[6]) : 0;
	h[7] = r->has_path ? kf_hash64(e->n_ex.data + at[7], e->n_ex.len - at[7]) : 0;
	h[8] = r->has_path ? kf_hash64(e->ex_lp.data + at[8], e->ex_lp.len - at[8]) : 0;
	if (r->context) h[9] = kf_hash64(r->context, n + 1);
	/* raw: what the numbers take before the planes; ids and log-probabilities count three bytes together */
	return kf_shard_put_end(sw, &r->head, n, kf_head_hash(&r->head, kf_hash64(h, (r->context ? 10 : 9) * sizeof *h)),
		e->ids.len / 4 * 3 + e->tok.len * 2 + e->nlm.len / 2 + e->ex_ids.len, err);
}

/* ---- reading ---- */

struct dec {
	kf_block_state base;
	kf_unpacker *unpacker;
	kf_logits_tables *tables;
	kf_buf planes[KF_MAX_PLANES];
	kf_logits_block b;
	/* (docs + 1) where each document's tokens, masses and extra candidates begin */
	size_t *tok_at, *path_at, *ex_at;
};

static void dec_free(kf_block_state *state)
{
	struct dec *d = (struct dec *)state;

	for (int i = 0; i < KF_MAX_PLANES; i++) kf_buf_release(&d->planes[i]);
	kf_logits_tables_free(d->tables);
	kf_unpacker_free(d->unpacker);
	kf_arena_release(&d->base.arena);
	kf_free(d);
}

static kf_block_state *dec_new(void)
{
	struct dec *d = kf_zalloc(1, sizeof *d);

	if (d && !(d->unpacker = kf_unpacker_new())) {
		kf_free(d);
		return NULL;
	}
	return d ? &d->base : NULL;
}

kf_status kf_logits_block_alloc(kf_logits_block *b, kf_arena *a, kf_err *err)
{
	b->tok = KF_ARENA_NEW(a, int32_t, b->tokens);
	b->start = KF_ARENA_NEW(a, uint32_t, b->positions);
	if (b->tokens_only)
		return b->tok && b->start ? KF_OK : kf_fail(err, KF_ENOMEM, "no memory for a block of %zu tokens", b->tokens);
	b->ce = KF_ARENA_NEW(a, uint32_t, b->tokens);
	b->ids = KF_ARENA_NEW(a, int32_t, b->positions * b->k);
	b->lp = KF_ARENA_NEW(a, uint32_t, b->positions * b->k);
	b->n_ex = b->path ? KF_ARENA_NEW(a, uint32_t, b->positions) : NULL;
	if (!b->tok || !b->start || !b->ce || !b->ids || !b->lp || (b->path && !b->n_ex))
		return kf_fail(err, KF_ENOMEM, "no memory for a block of %zu tokens", b->tokens);
	return KF_OK;
}

kf_status kf_logits_count_path(const kf_logits_block *b, size_t *n, kf_err *err)
{
	const uint32_t *s = b->start;
	uint64_t sum = 0;

	for (uint32_t d = 0; d < b->docs; d++, s++)
		for (uint32_t i = 0; i < b->n[d]; i++, s++) {
			if (s[1] < s[0]) return kf_fail(err, KF_EDATA, "token starts descend");
			sum += kf_interior(s[0], s[1]);
		}
	/* a mass takes a bit at least, but in a run of equal ones */
	if (sum > KF_BLOCK_VALUES) return kf_fail(err, KF_EDATA, "tokens are longer than can be");
	*n = (size_t)sum;
	return KF_OK;
}

static kf_status decode(kf_block_state *state, const uint8_t *data, size_t n, uint32_t docs, bool f32, kf_err *err)
{
	struct dec *d = (struct dec *)state;
	kf_arena *a = &d->base.arena;
	kf_cur c = kf_cur_of(data, n);
	kf_logits_block *b = &d->b;
	uint32_t *counts;
	const uint32_t *s, *x;
	uint8_t flags = kf_cur_u8(&c);
	int planes = f32 ? KF_LOGITS_F32_PLANES : KF_LOGITS_PACKED_PLANES;
	uint64_t mask = UINT64_MAX;
	kf_status rc;

	kf_arena_reset(a);
	memset(b, 0, sizeof *b);
	b->tokens_only = state->tokens_only;
	if (b->tokens_only) mask = (f32 ? KF_LOGITS_F32_TOKEN_PLANES : kf_logits_packed_token_planes()) | 1ull << planes;
	b->k = kf_cur_u32(&c);
	b->bos = flags & 1;
	b->path = flags >> 1 & 1;
	b->docs = docs;
	if (c.bad || flags > 7 || b->k < 1 || b->k > 65535) return kf_fail(err, KF_EDATA, "its parameters are damaged");
	if ((rc = kf_planes_unpack_some(d->unpacker, &c, d->planes, planes + (flags & KF_BLOCK_CONTEXT ? 1 : 0), mask, err)) != KF_OK)
		return rc;
	if ((rc = kf_heads_get(&d->planes[0], docs, false, a, &d->base.heads, err)) != KF_OK) return rc;
	d->base.docs = docs;
	counts = KF_ARENA_NEW(a, uint32_t, docs);
	d->tok_at = KF_ARENA_NEW(a, size_t, (size_t)docs + 1);
	d->path_at = KF_ARENA_NEW(a, size_t, (size_t)docs + 1);
	d->ex_at = KF_ARENA_NEW(a, size_t, (size_t)docs + 1);
	if (!counts || !d->tok_at || !d->path_at || !d->ex_at) return kf_fail(err, KF_ENOMEM, "no memory for %u documents", docs);
	for (uint32_t i = 0; i < docs; i++) {
		counts[i] = d->base.heads[i].n;
		d->tok_at[i] = b->tokens;
		b->tokens += counts[i];
	}
	b->n = counts;
	b->positions = b->tokens + docs;
	if ((uint64_t)b->positions * b->k > KF_BLOCK_VALUES) return kf_fail(err, KF_EDATA, "it has more values than a block may");
	if (flags & KF_BLOCK_CONTEXT &&
	    (rc = kf_context_get(&d->planes[planes], counts, docs, b->positions, a, &b->context, err)) != KF_OK)
		return rc;
	rc = f32 ? kf_logits_f32_decode(d->planes, a, b, err) : kf_logits_packed_decode(&d->tables, d->planes, a, b, err);
	if (rc != KF_OK) return rc;
	if (!b->path || b->tokens_only) return KF_OK;
	s = b->start, x = b->n_ex;
	d->path_at[0] = d->ex_at[0] = 0;
	for (uint32_t i = 0; i < docs; i++) {
		size_t path = d->path_at[i], ex = d->ex_at[i];

		for (uint32_t j = 0; j < counts[i]; j++) path += kf_interior(s[j], s[j + 1]);
		for (uint32_t j = 0; j <= counts[i]; j++) ex += x[j];
		s += counts[i] + 1;
		x += counts[i] + 1;
		d->path_at[i + 1] = path;
		d->ex_at[i + 1] = ex;
	}
	return KF_OK;
}

const kf_codec_reader kf_codec_logits = { 'L', dec_new, dec_free, decode, kf_logits_packed_planes, 5, true };
const kf_codec_reader kf_codec_logits_f32 = { 'l', dec_new, dec_free, decode, kf_logits_f32_planes, 5, true };

static float *numbers(kf_arena *a, const uint32_t *v, size_t n, int steps, float sign, bool f32)
{
	float *x = KF_ARENA_NEW(a, float, n), scale = sign / (float)steps;

	if (!x) return NULL;
	if (f32) for (size_t i = 0; i < n; i++) x[i] = kf_of_bits(v[i]) * sign;
	/* the two that are no numbers, without a branch: gcc vectorises this */
	else for (size_t i = 0; i < n; i++) {
		float y = (float)(int32_t)v[i] * scale;

		y = v[i] == KF_Q_INF ? sign * INFINITY : y;
		x[i] = v[i] == KF_Q_NAN ? NAN : y;
	}
	return x;
}

static void *copy(kf_arena *a, const void *p, size_t n)
{
	void *q = kf_arena_alloc(a, n, 4);

	if (q && n) memcpy(q, p, n * 4);
	return q;
}

static uint8_t *copy_bytes(kf_arena *a, const uint8_t *p, size_t n)
{
	return (uint8_t *)kf_arena_strdup(a, (const char *)p, n);
}

/* What every record has; *i gets the document's place in its block. */
static kf_status next_tokens(kf_shard *s, bool tokens_only, kf_arena *arena, kf_logits_rec *r, uint32_t *i, kf_err *err)
{
	const struct dec *d;
	kf_status rc;

	memset(r, 0, sizeof *r);
	if ((rc = kf_shard_kind(s->kind, 1u << KF_SET_LOGITS, "logits", err)) != KF_OK) return rc;
	s->tokens_only = tokens_only;
	if ((rc = kf_shard_load(s, i, err)) != KF_OK) return rc;
	d = (const struct dec *)s->state;
	if ((rc = kf_head_copy(&r->head, &d->base.heads[*i].head, arena, err)) != KF_OK) return rc;
	r->bos = d->b.bos;
	r->n = d->b.n[*i];
	r->tokens = copy(arena, d->b.tok + d->tok_at[*i], r->n);
	r->start = copy(arena, d->b.start + d->tok_at[*i] + *i, (size_t)r->n + 1);
	if (d->b.context) r->context = copy_bytes(arena, d->b.context + d->tok_at[*i] + *i, (size_t)r->n + 1);
	if (!r->tokens || !r->start || (d->b.context && !r->context))
		return kf_fail(err, KF_ENOMEM, "no memory for a document of %u tokens", r->n);
	return KF_OK;
}

kf_status kf_shard_next_tokens(kf_shard *s, kf_arena *arena, kf_logits_rec *r, kf_err *err)
{
	uint32_t i;
	kf_status rc = next_tokens(s, true, arena, r, &i, err);

	if (rc == KF_OK) s->next++;
	return rc;
}

kf_status kf_shard_next_logits(kf_shard *s, kf_arena *arena, kf_logits_rec *r, kf_err *err)
{
	struct dec *d;
	const kf_logits_block *b;
	size_t n, tok, pos, path, ex, n_path, n_ex;
	uint32_t i, *off;
	kf_status rc;

	if ((rc = next_tokens(s, false, arena, r, &i, err)) != KF_OK) return rc;
	d = (struct dec *)s->state;
	b = &d->b;
	n = b->n[i];
	tok = d->tok_at[i];
	pos = tok + i;
	r->k = b->k;
	r->ce = numbers(arena, b->ce + tok, n, KF_NLL_STEPS, 1, s->f32);
	r->top_ids = copy(arena, b->ids + pos * b->k, (n + 1) * b->k);
	r->top_lp = numbers(arena, b->lp + pos * b->k, (n + 1) * b->k, KF_LP_STEPS, -1, s->f32);
	if (!r->ce || !r->top_ids || !r->top_lp) goto nomem;
	if (b->path) {
		path = d->path_at[i], ex = d->ex_at[i];
		n_path = d->path_at[i + 1] - path, n_ex = d->ex_at[i + 1] - ex;
		r->has_path = true;
		if (!(r->path_off = off = KF_ARENA_NEW(arena, uint32_t, n + 1))) goto nomem;
		off[0] = 0;
		for (size_t j = 0; j < n; j++) off[j + 1] = off[j] + kf_interior(r->start[j], r->start[j + 1]);
		if (!(r->extra_off = off = KF_ARENA_NEW(arena, uint32_t, n + 2))) goto nomem;
		off[0] = 0;
		for (size_t j = 0; j <= n; j++) off[j + 1] = off[j] + b->n_ex[pos + j];
		r->path_nlm = numbers(arena, b->nlm + path, n_path, KF_NLL_STEPS, 1, s->f32);
		r->extra_ids = copy(arena, b->ex_ids + ex, n_ex);
		r->extra_lp = numbers(arena, b->ex_lp + ex, n_ex, KF_LP_STEPS, -1, s->f32);
		if (!r->path_nlm || !r->extra_ids || !r->extra_lp) goto nomem;
	}
	/* packed numbers are what they may be by their encoding */
	if (s->f32 && ((rc = check(r, err)) != KF_OK || (rc = check_cleared(r, err)) != KF_OK)) return kf_context(err, KF_EDATA, "%s", s->path);
	s->next++;
	return KF_OK;
nomem:
	return kf_fail(err, KF_ENOMEM, "no memory for a document of %zu tokens", n);
}
