/* head_score on the CPU: one pass over tiles of the vocabulary.
 *
 * A tile of weight rows is gathered (and unpacked) once, in the order asked for, then every
 * thread multiplies its own rows of the batch by it, a block of rows at a time so that
 * the logits stay in its cache, and folds them into each row's state:
 *
 * - the nested ranges of a row cut the tile into segments; a segment lies in the first d ranges
 *   and in no other, so its sum of exp goes to one place, sum[d], and every logit is
 *   exponentiated once. The mass of range r is the sum of sum[d] over d > r, the normaliser that of all.
 *   Each depth has its own maximum: a mass of e^-200 is as accurate as any.
 * - a logit above the worst of the k best so far enters them; at a depth d > 0 the extra_min best are
 *   kept as well: whatever extra candidate is chosen in the end is among those.
 *
 * In int8 the logits so found are off by some hundredths; that is averaged out of sums over the vocabulary, but not of a
 * token's own. So a few more than k are kept, and in the end the logits of all that are kept, and of the label, are
 * computed again in float32, and take the place of the others in the lists and in the sums.
 */
#include <dnnl_types.h>
#include <math.h>
#include <stdatomic.h>

#include "common/base/bf16.h"
#include "common/ops/cpu/cpu.h"
#include "common/ops/cpu/head_vec.h"
#include "common/ops/cpu/state.h"
#include "common/ops/head_check.h"

enum { TILE = 512, ROWS = 256, CHUNK = 64, SPARE = 8 };

typedef struct { float v; int32_t id; } cand;

typedef struct {
	const kf_score_query *q;
	kf_score *out;
	const kf_mat *w;
	const float *hidden;
	int T, V, C, k, m;      /* m: best kept per depth, 0 where no extras are asked for */
	int keep;               /* k, or in int8 some more */
	bool ranges;
	cand *top;              /* (T, keep) sorted, best first */
	head_lse *acc;          /* row t's depths 0..R are acc[range_off[t] + t] .. */
	cand *deep;             /* (ranges, m): the best at depth r + 1 exactly */
	int *n_deep;            /* (ranges) */
	int *cursor;            /* (T) next boundary of the row's ranges */
	int *n_range;           /* (T) ranges that are not empty */
	float *label;           /* (T) its logit */
	int32_t *rank;          /* (V) where order has an id */
	float *tile;            /* (TILE, C) */
	kf_cpu_bf16 *bf16;      /* not NULL: the product is of these: */
	const uint16_t *hidden16; /* (T, C) */
	const uint16_t *half;   /* (V, C) the weights rounded already; NULL: the tile is */
	uint16_t *tile16;       /* (TILE, C) */
	const uint16_t *rows16; /* (n, C) the tile's rows: tile16, or where they are in half */
	bool int8;              /* the product is of these: */
	kf_int8_rows hidden8;   /* (T, C) */
	char *tile8;            /* TILE rows, packed */
	float *logits;          /* (threads, ROWS, TILE) */
	int p0, n;              /* the tile: order[p0 .. p0 + n) */
	int32_t identity[TILE];
	kf_exec *x;
	atomic_int failed;      /* oneDNN's status when a product failed */
} score;

static inline bool better(float v, int32_t id, cand c) { return v > c.v || (v == c.v && id < c.id); }

/* Put (v, id) into the sorted list of at most max; true when it went in. */
static inline void insert(cand *list, int *n, int max, float v, int32_t id)
{
	int i = *n;
	if (i == max) {
		if (!better(v, id, list[max - 1])) return;
		i = max - 1;
	} else {
		++*n;
	}
	for (; i > 0 && better(v, id, list[i - 1]); i--) list[i] = list[i - 1];
	list[i] = (cand){ v, id };
}

/* Logits z (n) of order[p ..], at depth d of row t. */
static void segment(score *s, int t, int r0, int d, const float *z, const int32_t *ids, int n)
{
	cand *top = s->top + (size_t)t * s->keep, *deep = NULL;
	int n_top = s->keep, *n_deep = NULL;
	float limit = top[s->keep - 1].v, max = -INFINITY;
	if (d > 0 && s->m > 0) {
		deep = s->deep + (size_t)(r0 + d - 1) * s->m;
		n_deep = s->n_deep + r0 + d - 1;
		float worst = *n_deep < s->m ? -INFINITY : deep[s->m - 1].v;
		if (worst < limit) limit = worst;
	}
	for (int i = 0; i < n; i += CHUNK) {
		int c = n - i < CHUNK ? n - i : CHUNK;
		float best = head_max(z + i, c);
		if (best > max) max = best;
		if (!(best >= limit)) continue;
		for (int j = i; j < i + c; j++) {
			if (!(z[j] >= limit)) continue;
			insert(top, &n_top, s->keep, z[j], ids[j]);
			limit = top[s->keep - 1].v;
			if (!deep) continue;
			insert(deep, n_deep, s->m, z[j], ids[j]);
			float worst = *n_deep < s->m ? -INFINITY : deep[s->m - 1].v;
			if (worst < limit) limit = worst;
		}
	}
	head_lse *a = &s->acc[r0 + t + d];
	float m = max > a->max ? max : a->max;
	head_lse_add(a, m, head_exp_sum(z, n, m, 1));
}

/* The i-th of the 2 R boundaries of R nested ranges, in order of position. */
static inline int boundary(const kf_score_query *q, int r0, int R, int i)
{
	return i < R ? q->range_lo[r0 + i] : q->range_hi[r0 + 2 * R - 1 - i];
}

static void fold_row(score *s, int t, const float *z, const int32_t *ids)
{
	const kf_score_query *q = s->q;
	int R = s->ranges ? s->n_range[t] : 0, r0 = s->ranges ? q->range_off[t] : 0;
	int p = s->p0, end = s->p0 + s->n;
	if (q->labels && q->labels[t] >= 0) {
		int at = s->rank[q->labels[t]];
		if (at >= p && at < end) s->label[t] = z[at - p];
	}
	while (p < end) {
		int i = s->ranges ? s->cursor[t] : 0, stop = end;
		while (i < 2 * R && boundary(q, r0, R, i) <= p) i++;
		if (i < 2 * R && boundary(q, r0, R, i) < end) stop = boundary(q, r0, R, i);
		if (s->ranges) s->cursor[t] = i;
		segment(s, t, r0, i <= R ? i : 2 * R - i, z + (p - s->p0), ids + (p - s->p0), stop - p);
		p = stop;
	}
}

static void gather(void *arg, size_t begin, size_t end, int worker)
{
	score *s = arg;
	size_t C = (size_t)s->C, n = end - begin;
	const int32_t *order = s->q->order ? s->q->order + s->p0 + begin : NULL;
	float *out = s->tile + begin * C;
	if (s->int8) {
		atomic_int failed = 0;
		kf_cpu_int8_pack(s->x, worker, s->w, order, (uint64_t)s->p0 + begin, n, s->tile8 + begin / KF_INT8_COLS * kf_int8_group_bytes(s->C), &failed);
		if (failed) s->failed = dnnl_out_of_memory;
		return;
	}
	if (s->half) {
		for (size_t i = 0; i < n; i++) memcpy(s->tile16 + (begin + i) * C, s->half + (size_t)order[i] * C, sizeof *s->half * C);
		return;
	}
	if (!s->w->num)
		s->w->unpack(s->w->src, order, order ? 0 : (uint64_t)s->p0 + begin, n, out);
	else
		for (size_t i = 0; i < n; i++) {
			size_t row = order ? (size_t)order[i] : (size_t)s->p0 + begin + i;
			memcpy(out + i * C, s->w->num + row * C, sizeof(float) * C);
		}
	if (s->bf16) kf_round_bf16(out, s->tile16 + begin * C, n * C);
}

static int multiply(const score *s, int worker, size_t t, int rows, float *z)
{
	size_t at = t * (size_t)s->C;
	if (s->int8) {
		kf_int8_gemm(&s->hidden8, (int64_t)t, rows, s->tile8, s->n, false, z, s->n);
		return 0;
	}
	if (s->bf16)
		return kf_cpu_bf16_gemm(s->bf16, worker, false, true, rows, s->n, s->C, s->hidden16 + at, s->C, s->rows16, s->C, false, z, s->n);
	return kf_cpu_sgemm(false, true, rows, s->n, s->C, 1, s->hidden + at, s->C, s->tile, s->C, 0, z, s->n);
}

static void fold(void *arg, size_t begin, size_t end, int worker)
{
	score *s = arg;
	float *z = s->logits + (size_t)worker * ROWS * TILE;
	const int32_t *ids = s->q->order ? s->q->order + s->p0 : s->identity;
	for (size_t t = begin; t < end; t += ROWS) {
		int rows = end - t < ROWS ? (int)(end - t) : ROWS;
		int st = multiply(s, worker, t, rows, z);
		if (st) {
			s->failed = st;
			return;
		}
		if (s->q->cap > 0) head_cap(z, (size_t)rows * (size_t)s->n, s->q->cap);
		for (int i = 0; i < rows; i++) fold_row(s, (int)t + i, z + (size_t)i * (size_t)s->n, ids);
	}
}

static int depth_of(const kf_score_query *q, int r0, int R, int at)
{
	int d = 0;
	while (d < R && at >= q->range_lo[r0 + d] && at < q->range_hi[r0 + d]) d++;
	return d;
}

/* ---- int8: what is kept again in float32 ---- */

/* A token of a row: its logit as it was, and as it is. */
typedef struct { int32_t id; float was, is; } again;

static void add_again(again *list, int *n, int32_t id, float was)
{
	for (int i = 0; i < *n; i++)
		if (list[i].id == id) return;
	list[(*n)++] = (again){ id, was, 0 };
}

/* The list's logits anew, and its order. */
static void resort(cand *list, int n, const again *a, int n_again)
{
	for (int i = 0; i < n; i++) {
		int j = 0, at = i;
		while (j < n_again && a[j].id != list[i].id) j++;
		cand c = { a[j].is, list[i].id };
		for (; at > 0 && better(c.v, c.id, list[at - 1]); at--) list[at] = list[at - 1];
		list[at] = c;
	}
}

static void rescore_row(score *s, int t, again *a, int32_t *ids, float *rows)
{
	const kf_score_query *q = s->q;
	size_t C = (size_t)s->C;
	int R = s->ranges ? s->n_range[t] : 0, r0 = s->ranges ? q->range_off[t] : 0, n = 0;
	cand *top = s->top + (size_t)t * s->keep;
	int32_t label = q->labels ? q->labels[t] : -1;
	if (top[s->keep - 1].id == INT32_MAX) return; /* logits that are no numbers: finish says so */
	for (int i = 0; i < s->keep; i++) add_again(a, &n, top[i].id, top[i].v);
	if (label >= 0) add_again(a, &n, label, s->label[t]);
	for (int r = r0; s->m && r < r0 + R; r++)
		for (int i = 0; i < s->n_deep[r]; i++) add_again(a, &n, s->deep[(size_t)r * s->m + i].id, s->deep[(size_t)r * s->m + i].v);
	for (int i = 0; i < n; i++) ids[i] = a[i].id;
	if (!s->w->num) s->w->unpack(s->w->src, ids, 0, (uint64_t)n, rows);
	for (int i = 0; i < n; i++) {
		const float *row = s->w->num ? s->w->num + (size_t)ids[i] * C : rows + i * C;
		head_lse *acc = &s->acc[r0 + t + depth_of(q, r0, R, s->rank[ids[i]])];
		a[i].is = kf_vdot(s->hidden + (size_t)t * C, row, C);
		if (q->cap > 0) head_cap(&a[i].is, 1, q->cap);
		acc->sum += exp((double)a[i].is - acc->max) - exp((double)a[i].was - acc->max);
		if (acc->sum < 0) acc->sum = 0; /* nothing but rounding was left */
		if (ids[i] == label) s->label[t] = a[i].is;
	}
	resort(top, s->keep, a, n);
	for (int r = r0; s->m && r < r0 + R; r++) resort(s->deep + (size_t)r * s->m, s->n_deep[r], a, n);
}

static void rescore(void *arg, size_t begin, size_t end, int worker)
{
	score *s = arg;
	size_t most = 0;
	for (size_t t = begin; s->ranges && s->m && t < end; t++)
		if ((size_t)s->n_range[t] > most) most = (size_t)s->n_range[t];
	most = (size_t)s->keep + 1 + most * (size_t)s->m;
	char *p = kf_cpu_worker_scratch(s->x, worker, most * (sizeof(float) * (size_t)s->C + sizeof(again) + sizeof(int32_t)));
	if (!p) {
		s->failed = dnnl_out_of_memory;
		return;
	}
	again *a = (again *)(p + most * sizeof(float) * (size_t)s->C);
	for (size_t t = begin; t < end; t++) rescore_row(s, (int)t, a, (int32_t *)(a + most), (float *)p);
}

/* ---- from states to answers ---- */

/* ops.h: from the longest prefix to the shortest, every range with fewer than m stored candidates gets the
 * best of it that are not stored, while fewer than E are chosen. */
static int choose_extras(const score *s, int t, int r0, int R, double lse, int *have, int *head)
{
	const kf_score_query *q = s->q;
	const cand *top = s->top + (size_t)t * s->keep;
	int E = q->extra_max, n = 0, stored = 0;
	int32_t *ids = s->out->extra_ids + (size_t)t * E;
	float *lp = s->out->extra_lp + (size_t)t * E;
	for (int d = 0; d <= R; d++) have[d] = head[d] = 0;
	for (int i = 0; i < s->k; i++) have[depth_of(q, r0, R, s->rank[top[i].id])]++;
	for (int r = R - 1; r >= 0; r--) {
		for (stored += have[r + 1]; stored < q->extra_min && n < E; stored++) {
			const cand *pick = NULL;
			int from = 0;
			for (int d = r + 1; d <= R; d++) {
				const cand *list = s->deep + (size_t)(r0 + d - 1) * s->m;
				int len = s->n_deep[r0 + d - 1];
				while (head[d] < len && !better(top[s->k - 1].v, top[s->k - 1].id, list[head[d]])) head[d]++; /* in the top k */
				if (head[d] < len && (!pick || better(list[head[d]].v, list[head[d]].id, *pick))) {
					pick = &list[head[d]];
					from = d;
				}
			}
			if (!pick) break;
			head[from]++;
			int at = n++;
			for (; at > 0 && better(pick->v, pick->id, (cand){ lp[at - 1], ids[at - 1] }); at--) {
				lp[at] = lp[at - 1];
				ids[at] = ids[at - 1];
			}
			lp[at] = pick->v;
			ids[at] = pick->id;
		}
	}
	for (int i = 0; i < n; i++) lp[i] = (float)(lp[i] - lse);
	return n;
}

static kf_status finish(score *s, kf_err *err)
{
	const kf_score_query *q = s->q;
	kf_score *out = s->out;
	int most = 0;
	for (int t = 0; s->ranges && t < s->T; t++) {
		int R = q->range_off[t + 1] - q->range_off[t];
		if (R > most) most = R;
	}
	int *scratch = kf_alloc(2 * ((size_t)most + 1), sizeof(int));
	if (!scratch) return kf_fail(err, KF_ENOMEM, "no memory for the answers of %d rows", s->T);
	for (int t = 0; t < s->T; t++) {
		int r0 = s->ranges ? q->range_off[t] : 0, R = s->ranges ? s->n_range[t] : 0;
		int all = s->ranges ? q->range_off[t + 1] - r0 : 0;
		const head_lse *acc = s->acc + r0 + t;
		head_lse sum = { -INFINITY, 0 };
		for (int r = all - 1; r >= R; r--) out->range_nlm[r0 + r] = INFINITY;
		for (int d = R; d >= 0; d--) head_lse_add(&sum, acc[d].max, acc[d].sum);
		double lse = head_lse_log(&sum);
		if (!isfinite(lse)) {
			kf_free(scratch);
			return kf_fail(err, KF_EDATA, "the logits of row %d of the batch are not finite numbers: "
				"the model's weights are damaged, or it overflows float32", t);
		}
		head_lse part = { -INFINITY, 0 };
		for (int d = R; d >= 1; d--) {
			head_lse_add(&part, acc[d].max, acc[d].sum);
			out->range_nlm[r0 + d - 1] = (float)(lse - head_lse_log(&part));
		}
		if (out->ce) out->ce[t] = q->labels && q->labels[t] >= 0 ? (float)(lse - s->label[t]) : NAN;
		for (int i = 0; i < s->k; i++) {
			out->top_ids[(size_t)t * s->k + i] = s->top[(size_t)t * s->keep + i].id;
			out->top_lp[(size_t)t * s->k + i] = (float)(s->top[(size_t)t * s->keep + i].v - lse);
		}
		if (s->ranges && out->extra_n)
			out->extra_n[t] = s->m ? choose_extras(s, t, r0, R, lse, scratch, scratch + most + 1) : 0;
	}
	kf_free(scratch);
	return KF_OK;
}

kf_status kf_cpu_head_score(kf_exec *x, const float *hidden, const kf_mat *w, int T, const kf_score_query *q,
	kf_score *out, kf_err *err)
{
	score s = { .x = x, .q = q, .out = out, .w = w, .hidden = hidden, .T = T, .V = w->rows, .C = w->cols, .k = q->k };
	kf_status rc = kf_check_score_query(q, w, T, err);
	if (rc != KF_OK || !T) return rc;
	size_t rows = (size_t)T, threads = (size_t)kf_pool_size(x->pool);
	size_t n_ranges = q->range_off ? (size_t)q->range_off[T] : 0;
	s.ranges = q->range_off != NULL;
	s.m = s.ranges && out->extra_n && q->extra_max > 0 ? q->extra_min : 0;
	s.keep = !kf_cpu_int8_of(x, w) ? s.k : s.k + SPARE < s.V ? s.k + SPARE : s.V;
	s.top = kf_alloc(rows * (size_t)s.keep, sizeof *s.top);
	s.acc = kf_alloc(rows + n_ranges, sizeof *s.acc);
	s.deep = kf_alloc(n_ranges * (size_t)s.m, sizeof *s.deep);
	s.n_deep = kf_zalloc(n_ranges, sizeof *s.n_deep);
	s.cursor = kf_zalloc(rows, sizeof *s.cursor);
	s.n_range = kf_zalloc(rows, sizeof *s.n_range);
	s.label = kf_alloc(rows, sizeof *s.label);
	s.rank = kf_alloc((size_t)s.V, sizeof *s.rank);
	s.tile = kf_cpu_scratch(x, KF_CPU_HEAD_A, (size_t)TILE * (size_t)s.C * sizeof *s.tile);
	s.logits = kf_cpu_scratch(x, KF_CPU_HEAD_B, threads * ROWS * TILE * sizeof *s.logits);
	bool ready = true;
	if ((s.int8 = kf_cpu_int8_of(x, w))) {
		s.tile8 = kf_cpu_scratch(x, KF_CPU_HEAD_D, TILE / KF_INT8_COLS * kf_int8_group_bytes(s.C));
		ready = kf_cpu_int8_quantise(x, KF_CPU_HEAD_C, hidden, T, s.C, &s.hidden8) && s.tile8;
	} else if ((s.bf16 = kf_cpu_bf16_of(x))) {
		s.hidden16 = kf_cpu_to_bf16(x, KF_CPU_HEAD_C, hidden, T, s.C, s.C);
		s.tile16 = kf_cpu_scratch(x, KF_CPU_HEAD_D, (size_t)TILE * (size_t)s.C * sizeof *s.tile16);
		s.rows16 = s.tile16;
		s.half = w->half;
		ready = s.hidden16 && s.tile16;
	}
	if (!ready || !s.top || !s.acc || !s.deep || !s.n_deep || !s.cursor || !s.n_range || !s.label || !s.rank || !s.tile || !s.logits) {
		rc = kf_fail(err, KF_ENOMEM, "no memory to score %d rows with %d candidates", T, s.k);
		goto out;
	}
	for (int i = 0; i < s.V; i++) s.rank[q->order ? q->order[i] : i] = i;
	for (size_t i = 0; i < rows * (size_t)s.keep; i++) s.top[i] = (cand){ -INFINITY, INT32_MAX };
	for (size_t i = 0; i < rows + n_ranges; i++) s.acc[i] = (head_lse){ -INFINITY, 0 };
	for (int t = 0; s.ranges && t < T; t++) {
		int r = q->range_off[t];
		while (r < q->range_off[t + 1] && q->range_lo[r] < q->range_hi[r]) r++;
		s.n_range[t] = r - q->range_off[t];
	}
	for (s.p0 = 0; s.p0 < s.V && !s.failed; s.p0 += TILE) {
		s.n = s.V - s.p0 < TILE ? s.V - s.p0 : TILE;
		if (!q->order) for (int i = 0; i < s.n; i++) s.identity[i] = s.p0 + i;
		if (s.half && !q->order) s.rows16 = s.half + (size_t)s.p0 * (size_t)s.C;
		else kf_pool_split(x->pool, (size_t)s.n, 32, gather, &s);
		kf_pool_split(x->pool, rows, 16, fold, &s);
	}
	if (s.int8 && !s.failed) kf_pool_split(x->pool, rows, 16, rescore, &s);
	rc = s.failed ? kf_cpu_dnnl_status(s.failed, "head_score", err) : finish(&s, err);
out:
	kf_free(s.top);
	kf_free(s.acc);
	kf_free(s.deep);
	kf_free(s.n_deep);
	kf_free(s.cursor);
	kf_free(s.n_range);
	kf_free(s.label);
	kf_free(s.rank);
	return rc;
}
