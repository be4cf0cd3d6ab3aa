/* head_loss on the CPU: the loss over sparse targets and its gradient, in tiles of the vocabulary.
 *
 * The vocabulary is divided among the threads, the batch into blocks of rows. For a block:
 *   1. each thread multiplies the block by its tiles and folds them into its share of the normalisers,
 *      picking out the logits of labels and candidates on the way;
 *   2. row by row: losses, and three numbers from which every dlogit follows;
 *   3. each thread turns its tiles of logits into dlogits in place, adds their product with
 *      the block to its own rows of dw, and their product with w to its share of dhidden;
 *   4. the shares of dhidden are added up.
 *
 * Step 3 needs the logits of step 1 again. For a block of rows small enough that they fit
 * KEEP bytes they are kept (SmolLM2: 341 rows); each block costs a sweep over dw, so where KEEP allows fewer than
 * MIN_KEPT rows (Gemma's 262,144 tokens) they are computed again instead. Either way memory does not grow with T.
 *
 * With the rest as one more outcome, 1 - P_S is summed over the tokens outside the candidates, never
 * subtracted: near P_S = 1 it stays exact.
 */
#include <math.h>
#include <stdatomic.h>

#include "common/base/bf16.h"
#include "common/ops/cpu/cpu.h"
#include "common/ops/cpu/head_vec.h"
#include "common/ops/cpu/state.h"
#include "common/ops/head_check.h"

enum { TILE = 512, ROWS = 1024, MIN_KEPT = 96, KEEP = 64 << 20 };

typedef struct {
	const kf_loss_query *q;
	const kf_mat *w;
	const float *hidden;
	float *dhidden, *dw;
	int V, C, parts, tiles, rows; /* rows a block has at most */
	bool keep, second;            /* second: a normaliser at the temperature is needed too */
	int r0, n;                    /* the block: rows [r0, r0 + n) */
	float *logits;                /* (tiles or parts, rows, TILE): every tile's, or one a thread */
	float *unpacked;              /* (parts, TILE, C), NULL when w is resident */
	kf_cpu_bf16 *bf16;            /* not NULL: products are of these, converted tile by tile: */
	const uint16_t *hidden16;     /* (T, C) */
	uint16_t *w16, *dl16;         /* (parts, TILE, C); (parts, rows, TILE) */
	float *dh;                    /* (parts, rows, C) shares of dhidden */
	head_lse *sum, *sum2;         /* (parts, rows) of z, of z / temperature */
	float *label;                 /* (rows) logits of labels, 0 where none */
	float *cand;                  /* logits of the block's candidates, then their dlogits */
	float *capped;                /* their logits still, where logits are capped */
	float *c1, *m1, *c2, *m2;     /* (rows) dlogit = c1 exp(z - m1) + c2 exp(z / temperature - m2) off the candidates */
	float *dlabel;                /* (rows) what the label's dlogit has besides */
	atomic_int failed;            /* oneDNN's status when a product failed */
} loss;

static uint32_t first(const loss *s, int t) { return s->q->off ? s->q->off[t] : 0; }
static uint32_t last(const loss *s, int t) { return s->q->off ? s->q->off[t + 1] : 0; }
static int label_of(const loss *s, int t) { return s->q->labels ? s->q->labels[t] : -1; }

static void tiles_of(const loss *s, size_t part, int *begin, int *end)
{
	*begin = (int)((size_t)s->tiles * part / (size_t)s->parts);
	*end = (int)((size_t)s->tiles * (part + 1) / (size_t)s->parts);
}

/* A tile of weight rows as the products want them: w for float32, w16 for bfloat16. */
typedef struct { const float *w; const uint16_t *w16; int n; } rows_of_w;

static rows_of_w weights_of(const loss *s, size_t part, int v0, int n)
{
	size_t C = (size_t)s->C;
	rows_of_w r = { s->w->num ? s->w->num + (size_t)v0 * C : NULL, NULL, n };
	if (!r.w) {
		float *out = s->unpacked + part * TILE * C;
		s->w->unpack(s->w->src, NULL, (uint64_t)v0, (uint64_t)n, out);
		r.w = out;
	}
	if (s->bf16) {
		uint16_t *out = s->w16 + part * TILE * C;
		kf_round_bf16(r.w, out, (size_t)n * C);
		r.w16 = out;
	}
	return r;
}

static float *tile_of(const loss *s, size_t part, int tile)
{
	return s->logits + (s->keep ? (size_t)tile : part) * (size_t)s->rows * TILE;
}

/* z (n rows of the block, tile) = hidden w^T */
static void multiply(loss *s, int worker, rows_of_w w, float *z)
{
	size_t at = (size_t)s->r0 * (size_t)s->C;
	int st = s->bf16 ? kf_cpu_bf16_gemm(s->bf16, worker, false, true, s->n, w.n, s->C, s->hidden16 + at, s->C, w.w16, s->C, false, z, w.n)
		: kf_cpu_sgemm(false, true, s->n, w.n, s->C, 1, s->hidden + at, s->C, w.w, s->C, 0, z, w.n);
	if (st) s->failed = st;
	else if (s->q->cap > 0) head_cap(z, (size_t)s->n * (size_t)w.n, s->q->cap);
}

static void fold(void *arg, size_t part, int worker)
{
	loss *s = arg;
	head_lse *sum = s->sum + part * (size_t)s->rows, *sum2 = s->sum2 + part * (size_t)s->rows;
	float per_t = (float)(1 / s->q->temperature);
	uint32_t base = first(s, s->r0);
	int from, to;
	tiles_of(s, part, &from, &to);
	for (int i = 0; i < s->n; i++) sum[i] = sum2[i] = (head_lse){ -INFINITY, 0 };
	for (int tile = from; tile < to; tile++) {
		int v0 = tile * TILE, n = s->V - v0 < TILE ? s->V - v0 : TILE;
		float *tz = tile_of(s, part, tile);
		multiply(s, worker, weights_of(s, part, v0, n), tz);
		for (int i = 0; i < s->n; i++) {
			int t = s->r0 + i;
			float *z = tz + (size_t)i * (size_t)n;
			unsigned at = (unsigned)(label_of(s, t) - v0);
			if (at < (unsigned)n) s->label[i] = z[at];
			for (uint32_t j = first(s, t); j < last(s, t); j++) {
				at = (unsigned)(s->q->ids[j] - v0);
				if (at >= (unsigned)n) continue;
				s->cand[j - base] = z[at];
				if (s->q->tail == KF_TAIL_REST) z[at] = -INFINITY; /* out of the sum; step 3 writes its dlogit */
			}
			float m = head_max(z, n);
			if (m < sum[i].max) m = sum[i].max;
			if (m == -INFINITY) continue;
			head_lse_add(&sum[i], m, head_exp_sum(z, n, m, 1));
			if (s->second) head_lse_add(&sum2[i], m * per_t, head_exp_sum(z, n, m, per_t));
		}
	}
}

/* ---- step 2 ---- */

typedef struct {
	double lse, lse_off, lse2; /* of all logits; of those off the candidates; of all at the temperature */
	double lambda;
	const float *q;
	float *z;                  /* (n) the candidates' logits; becomes their dlogits, unscaled */
	int n;
	double c1, m1, c2, m2;
} row_loss;

/* q to 1/tau, relative to the largest's, which does not vanish however small tau is; as it is at 1. */
static double raise(double q, double largest, double tau) { return tau == 1 ? q : pow(q / largest, 1 / tau); }
static double log_of_sum(double sum, double largest, double tau) { return tau == 1 ? log(sum) : log(sum) + log(largest) / tau; }

/* -sum q~ ln p~ (less the entropy of q~ for KL), times temperature^2, and its gradient. */
static double fuse_rest(const loss *s, row_loss *r)
{
	double tau = s->q->temperature, sum = 0, np = 0, nq = 0, max_p = -INFINITY, max_q = 0, loss_sum = 0;
	bool off = r->lse_off > -INFINITY;   /* a vocabulary of candidates has no rest */
	for (int i = 0; i < r->n; i++) sum += r->q[i];
	double rest = off && sum < 1 ? 1 - sum : 0, a_rest = off ? r->lse_off - r->lse : -INFINITY;

	/* Outcomes on both sides are raised to 1/tau and normalised again; at tau = 1 both normalisers are 1, up to
	 * rounding of q's sum above 1. Powers are relative to the largest. */
	for (int i = 0; i < r->n; i++) max_p = fmax(max_p, r->z[i] - r->lse);
	for (int i = 0; i < r->n; i++) max_q = fmax(max_q, r->q[i]);
	max_p = fmax(max_p, a_rest);
	max_q = fmax(max_q, rest);
	for (int i = 0; i < r->n; i++) {
		np += exp((r->z[i] - r->lse - max_p) / tau);
		if (r->q[i] > 0) nq += raise(r->q[i], max_q, tau);
	}
	if (off) np += exp((a_rest - max_p) / tau);
	if (rest > 0) nq += raise(rest, max_q, tau);
	double log_np = max_p / tau + log(np), log_nq = log_of_sum(nq, max_q, tau);
	for (int i = 0; i <= r->n; i++) {
		double q = i < r->n ? r->q[i] : rest, a = i < r->n ? r->z[i] - r->lse : a_rest;
		double lp = a / tau - log_np, qt = 0;
		if (q > 0 && nq > 0) {
			qt = raise(q, max_q, tau) / nq;
			loss_sum += qt * ((s->q->kind == KF_LOSS_KL ? log(q) / tau - log_nq : 0) - lp);
		}
		double g = nq > 0 ? (1 - r->lambda) * tau * (exp(lp) - qt) : 0;
		if (i < r->n) r->z[i] = (float)(r->c1 * exp(r->z[i] - r->lse) + g);
		else r->c2 = g;
	}
	/* Off the candidates both terms are multiples of exp(z): one exponential does. */
	r->c1 = off ? r->c1 * exp(r->lse_off - r->lse) + r->c2 : 0;
	r->m1 = off ? r->lse_off : 0;
	r->c2 = 0;
	return tau * tau * loss_sum;
}

static double fuse_renormalize(const loss *s, row_loss *r)
{
	double tau = s->q->temperature, nq = 0, max_q = 0, loss_sum = 0, share = (1 - r->lambda) * tau;
	for (int i = 0; i < r->n; i++) max_q = fmax(max_q, r->q[i]);
	for (int i = 0; i < r->n; i++) if (r->q[i] > 0) nq += raise(r->q[i], max_q, tau);
	for (int i = 0; i < r->n; i++) {
		double lp = r->z[i] / tau - r->lse2, qt = 0;
		if (r->q[i] > 0) {
			qt = raise(r->q[i], max_q, tau) / nq;
			loss_sum += qt * ((s->q->kind == KF_LOSS_KL ? log(r->q[i]) / tau - log_of_sum(nq, max_q, tau) : 0) - lp);
		}
		r->z[i] = (float)(r->c1 * exp(r->z[i] - r->lse) + share * (exp(lp) - qt));
	}
	if (tau == 1) {
		r->c1 += share;
	} else {
		r->c2 = share;
		r->m2 = r->lse2;
	}
	return tau * tau * loss_sum;
}

static double combine(const head_lse *sum, int parts, int rows)
{
	head_lse all = { -INFINITY, 0 };
	for (int p = 0; p < parts; p++) head_lse_add(&all, sum[(size_t)p * (size_t)rows].max, sum[(size_t)p * (size_t)rows].sum);
	return head_lse_log(&all);
}

static bool settle_row(loss *s, int i, kf_loss *out)
{
	const kf_loss_query *q = s->q;
	int t = s->r0 + i, label = label_of(s, t);
	uint32_t base = first(s, s->r0), n = last(s, t) - first(s, t);
	row_loss r = { .q = q->q + first(s, t), .z = s->cand + (first(s, t) - base), .n = (int)n };
	double sum = 0;
	for (int j = 0; j < r.n; j++) sum += r.q[j];
	if (q->cap > 0 && r.n) memcpy(s->capped + (first(s, t) - base), r.z, (size_t)r.n * sizeof *r.z);
	bool fused = n > 0 && (q->tail == KF_TAIL_REST || sum > 0);

	r.lse_off = combine(s->sum + i, s->parts, s->rows);
	r.lse = r.lse_off;
	if (q->tail == KF_TAIL_REST) {
		head_lse all = { -INFINITY, 0 };
		if (r.lse > -INFINITY) head_lse_add(&all, (float)r.lse, exp(r.lse - (float)r.lse));
		for (int j = 0; j < r.n; j++) head_lse_add(&all, r.z[j], 1);
		r.lse = head_lse_log(&all);
	}
	r.lse2 = q->temperature == 1 ? r.lse : s->second ? combine(s->sum2 + i, s->parts, s->rows) : 0;
	r.lambda = fused ? 1 - (q->weight ? q->weight[t] : 1) * (1 - q->lambda) : 1;
	r.c1 = label >= 0 ? r.lambda : 0;
	r.m1 = r.lse;
	s->dlabel[i] = (float)(-r.c1 * q->scale);
	if (label >= 0) {
		double clm = r.lse - s->label[i];
		out->clm += clm;
		out->clm_rows++;
		out->loss += r.lambda * clm;
	}
	if (fused) {
		double fusion = q->tail == KF_TAIL_REST ? fuse_rest(s, &r) : fuse_renormalize(s, &r);
		out->fusion += fusion;
		out->fusion_rows++;
		out->loss += (1 - r.lambda) * fusion;
	} else {
		for (int j = 0; j < r.n; j++) r.z[j] = (float)(r.c1 * exp(r.z[j] - r.lse));
	}
	out->rows += fused || label >= 0;
	for (int j = 0; j < r.n; j++) r.z[j] *= q->scale;
	s->c1[i] = (float)(r.c1 * q->scale);
	s->m1[i] = (float)r.m1;
	s->c2[i] = (float)(r.c2 * q->scale);
	s->m2[i] = (float)r.m2;
	return isfinite(r.lse);
}

/* ---- step 3 ---- */

/* dhidden's share (written at the first tile) and dw's rows from dlogits dl (n rows of the block, tile). */
static void products(loss *s, size_t part, int worker, rows_of_w w, const float *dl, int v0, bool first_tile)
{
	size_t C = (size_t)s->C, at = (size_t)s->r0 * C;
	float *dh = s->dh + part * (size_t)s->rows * C, *dw = s->dw + (size_t)v0 * C;
	int st = 0;
	if (s->bf16) {
		uint16_t *dl16 = s->dl16 + part * (size_t)s->rows * TILE;
		kf_round_bf16(dl, dl16, (size_t)s->n * (size_t)w.n);
		if (s->dhidden) st = kf_cpu_bf16_gemm(s->bf16, worker, false, false, s->n, s->C, w.n, dl16, w.n, w.w16, s->C, !first_tile, dh, s->C);
		if (s->dw && !st) st = kf_cpu_bf16_gemm(s->bf16, worker, true, false, w.n, s->C, s->n, dl16, w.n, s->hidden16 + at, s->C, true, dw, s->C);
	} else {
		if (s->dhidden) st = kf_cpu_sgemm(false, false, s->n, s->C, w.n, 1, dl, w.n, w.w, s->C, !first_tile, dh, s->C);
		if (s->dw && !st) st = kf_cpu_sgemm(true, false, w.n, s->C, s->n, 1, dl, w.n, s->hidden + at, s->C, 1, dw, s->C);
	}
	if (st) s->failed = st;
}

/* The logits of row t in a tile, before its dlogits take their place. */
static void remember(const loss *s, int t, int v0, int n, const float *z, float *own)
{
	uint32_t base = first(s, s->r0);
	memcpy(own, z, (size_t)n * sizeof *own);
	for (uint32_t j = first(s, t); j < last(s, t); j++) {
		unsigned at = (unsigned)(s->q->ids[j] - v0);
		if (at < (unsigned)n) own[at] = s->capped[j - base]; /* z is -infinity there by now */
	}
}

static void back(void *arg, size_t part, int worker)
{
	loss *s = arg;
	float own[TILE], per_cap = s->q->cap > 0 ? 1 / s->q->cap : 0;
	float per_t = (float)(1 / s->q->temperature);
	uint32_t base = first(s, s->r0);
	int from, to;
	tiles_of(s, part, &from, &to);
	for (int tile = from; tile < to; tile++) {
		int v0 = tile * TILE, n = s->V - v0 < TILE ? s->V - v0 : TILE;
		rows_of_w w = { NULL, NULL, n };
		float *tz = tile_of(s, part, tile);
		if (!s->keep || s->dhidden) w = weights_of(s, part, v0, n);
		if (!s->keep) multiply(s, worker, w, tz);
		for (int i = 0; i < s->n; i++) {
			int t = s->r0 + i;
			float *z = tz + (size_t)i * (size_t)n;
			if (per_cap > 0) remember(s, t, v0, n, z, own);
			if (s->c1[i] != 0 || s->c2[i] != 0) head_exp_mul(z, n, s->c1[i], s->m1[i], s->c2[i], per_t, s->m2[i]);
			else memset(z, 0, sizeof(float) * (size_t)n);
			for (uint32_t j = first(s, t); j < last(s, t); j++) {
				unsigned at = (unsigned)(s->q->ids[j] - v0);
				if (at < (unsigned)n) z[at] = s->cand[j - base];
			}
			unsigned at = (unsigned)(label_of(s, t) - v0);
			if (at < (unsigned)n) z[at] += s->dlabel[i];
			for (int c = 0; c < n && per_cap > 0; c++) {
				float u = own[c] * per_cap;
				z[c] *= 1 - u * u;
			}
		}
		products(s, part, worker, w, tz, v0, tile == from);
	}
}

static void add_shares(void *arg, size_t begin, size_t end, int worker)
{
	loss *s = arg;
	size_t n = (end - begin) * (size_t)s->C, at = begin * (size_t)s->C;
	float *out = s->dhidden + (size_t)s->r0 * (size_t)s->C + at;
	(void)worker;
	memcpy(out, s->dh + at, n * sizeof(float));
	for (int p = 1; p < s->parts; p++) {
		const float *share = s->dh + (size_t)p * (size_t)s->rows * (size_t)s->C + at;
		for (size_t i = 0; i < n; i++) out[i] += share[i];
	}
}

kf_status kf_cpu_head_loss(kf_exec *x, const float *hidden, const kf_mat *w, int T, const kf_loss_query *q,
	float *dhidden, float *dw, kf_loss *out, kf_err *err)
{
	loss s = { .q = q, .w = w, .hidden = hidden, .dhidden = dhidden, .dw = dw, .V = w->rows, .C = w->cols };
	kf_status rc = kf_check_loss_query(q, w, T, err);
	*out = (kf_loss){ 0 };
	if (rc != KF_OK || !T) return rc;

	bool grad = dhidden || dw;
	int threads = kf_pool_size(x->pool);
	s.tiles = (s.V + TILE - 1) / TILE;
	s.parts = threads < s.tiles ? threads : s.tiles;
	s.second = q->tail == KF_TAIL_RENORMALIZE && q->temperature != 1;
	size_t fit = KEEP / ((size_t)s.tiles * TILE * sizeof(float)) / 16 * 16;
	s.keep = grad && fit >= MIN_KEPT;
	s.rows = s.keep && fit < ROWS ? (int)fit : ROWS;
	int blocks = (T + s.rows - 1) / s.rows;
	s.rows = (T + blocks - 1) / blocks; /* of even size */
	uint32_t most = 0;
	for (int r0 = 0; q->off && r0 < T; r0 += s.rows) {
		uint32_t n = q->off[r0 + s.rows < T ? r0 + s.rows : T] - q->off[r0];
		if (n > most) most = n;
	}

	size_t rows = (size_t)s.rows, parts = (size_t)s.parts;
	s.logits = kf_cpu_scratch(x, KF_CPU_HEAD_B, (s.keep ? (size_t)s.tiles : parts) * rows * TILE * sizeof(float));
	s.unpacked = w->num ? NULL : kf_cpu_scratch(x, KF_CPU_HEAD_A, parts * TILE * (size_t)s.C * sizeof(float));
	s.dh = dhidden ? kf_cpu_scratch(x, KF_CPU_HEAD_C, parts * rows * (size_t)s.C * sizeof(float)) : NULL;
	if ((s.bf16 = kf_cpu_bf16_of(x))) {
		size_t tile = parts * TILE * (size_t)s.C;
		s.hidden16 = kf_cpu_to_bf16(x, KF_CPU_HEAD_D, hidden, T, s.C, s.C);
		s.w16 = kf_cpu_scratch(x, KF_CPU_ACT, (tile + (grad ? parts * rows * TILE : 0)) * sizeof(uint16_t));
		s.dl16 = s.w16 ? s.w16 + tile : NULL;
	}
	s.sum = kf_alloc(2 * parts * rows, sizeof(head_lse));
	s.sum2 = s.sum ? s.sum + parts * rows : NULL;
	s.label = kf_zalloc(6 * rows, sizeof(float));
	s.cand = kf_alloc(2 * (size_t)most, sizeof(float));
	s.capped = s.cand ? s.cand + most : NULL;
	if ((s.bf16 && (!s.hidden16 || !s.w16)) || !s.logits || (!w->num && !s.unpacked) || (dhidden && !s.dh) || !s.sum || !s.label || !s.cand) {
		rc = kf_fail(err, KF_ENOMEM, "no memory for the loss of blocks of %d rows of %d logits", s.rows, s.V);
		goto out;
	}
	s.c1 = s.label + rows;
	s.m1 = s.label + 2 * rows;
	s.c2 = s.label + 3 * rows;
	s.m2 = s.label + 4 * rows;
	s.dlabel = s.label + 5 * rows;
	for (s.r0 = 0; s.r0 < T; s.r0 += s.rows) {
		s.n = T - s.r0 < s.rows ? T - s.r0 : s.rows;
		kf_pool_run(x->pool, parts, fold, &s);
		if (s.failed) break;
		for (int i = 0; i < s.n; i++) {
			if (settle_row(&s, i, out)) continue;
			rc = kf_fail(err, KF_EDATA, "the logits of row %d of the batch are not finite numbers: "
				"the model's weights are damaged, or training diverged", s.r0 + i);
			goto out;
		}
		if (!grad) continue;
		kf_pool_run(x->pool, parts, back, &s);
		if (s.failed) break;
		if (dhidden) kf_pool_split(x->pool, (size_t)s.n, 16, add_shares, &s);
	}
	if (s.failed) rc = kf_cpu_dnnl_status(s.failed, "head_loss", err);
out:
	kf_free(s.sum);
	kf_free(s.label);
	kf_free(s.cand);
	return rc;
}
