/* What the head is asked about each row: tiles of the vocabulary, in the order of the tokens' bytes where ranges are
 * asked for, so that every range is a run of logits. */
#include "common/ops/cuda/head.h"

#include <limits.h>
#include <string.h>

#include "common/ops/head_check.h"

void *kf_cuda_carve(kf_cuda_carver *c, size_t n, size_t size)
{
	void *p = c->base ? c->base + c->used : NULL;

	c->used += (n * size + 255) & ~(size_t)255;
	return p;
}

kf_status kf_cuda_head_logits(kf_exec *x, float *logits, const void *hidden, const void *w, int R, int n, int C, kf_err *err)
{
	const kf_cuda_product p = { .tb = true, .M = R, .N = n, .K = C, .lda = C, .ldb = C, .ldc = n, .in = x->num, .out = KF_NUM_F32 };

	return kf_cuda_gemm_run(kf_cuda_of(x)->gemm, &p, logits, hidden, w, err);
}

kf_status kf_cuda_op_logits(kf_exec *x, float *y, const void *in, const kf_mat *w, int T, kf_err *err)
{
	return kf_cuda_head_logits(x, y, in, w->num, T, w->rows, w->cols, err);
}

kf_status kf_cuda_head_bad(int row, kf_err *err)
{
	return kf_fail(err, KF_EDATA, "the logits of row %d of the batch are not finite numbers: "
		"the model's weights are damaged, or training diverged", row);
}

/* The order of the vocabulary, and its inverse, on the device: the same for all batches of a run. */
static kf_status see_order(kf_cuda *c, const int32_t *order, int V, kf_err *err)
{
	const size_t n = (size_t)V, bytes = n * sizeof *order;
	int32_t *rank;

	if (c->order_host && c->V == V && memcmp(c->order_host, order, bytes) == 0) return KF_OK;
	c->V = -1;
	kf_free(c->order_host);
	if (!(c->order_host = kf_alloc(2 * n, sizeof *order)))
		return kf_fail(err, KF_ENOMEM, "no memory for the order of %d tokens", V);
	memcpy(c->order_host, order, bytes);
	rank = c->order_host + n;
	for (int i = 0; i < V; i++) rank[order[i]] = i;
	if (!(c->order = kf_cuda_hold(c, KF_CUDA_ORDER, c->order_host, 2 * bytes, "the order of the vocabulary", err))) return c->rc;
	c->rank = c->order + n;
	c->V = V;
	return KF_OK;
}

typedef struct {
	kf_exec *x;
	kf_cuda *c;
	const void *hidden;
	const kf_mat *w;
	const kf_score_query *q;
	kf_score *out;
	float *logits;
	void *tile;            /* (KF_CUDA_TILE, C) rows of w in the order; unused without one */
} score;

/* Ranges of rows [r0, r0 + R). */
static size_t ranges_of(const kf_score_query *q, int r0, int R)
{
	return q->range_off ? (size_t)(q->range_off[r0 + R] - q->range_off[r0]) : 0;
}

static void carve_state(kf_cuda_carver *m, kf_cuda_score *s, size_t ranges)
{
	const size_t R = (size_t)s->T;

	s->top = kf_cuda_carve(m, R * (size_t)s->k, sizeof *s->top);
	s->deep = kf_cuda_carve(m, ranges * (size_t)s->m, sizeof *s->deep);
	s->acc = kf_cuda_carve(m, R + ranges, sizeof *s->acc);
	s->label = kf_cuda_carve(m, R, sizeof *s->label);
	s->n_range = kf_cuda_carve(m, R, sizeof *s->n_range);
}

static void carve_answers(kf_cuda_carver *m, kf_cuda_score *s, size_t ranges, bool extras)
{
	const size_t R = (size_t)s->T, E = (size_t)s->E;

	s->ce = kf_cuda_carve(m, R, sizeof *s->ce);
	s->top_ids = kf_cuda_carve(m, R * (size_t)s->k, sizeof *s->top_ids);
	s->top_lp = kf_cuda_carve(m, R * (size_t)s->k, sizeof *s->top_lp);
	s->range_nlm = kf_cuda_carve(m, ranges, sizeof *s->range_nlm);
	s->extra_n = extras ? kf_cuda_carve(m, R, sizeof *s->extra_n) : NULL;
	s->extra_ids = extras ? kf_cuda_carve(m, R * E, sizeof *s->extra_ids) : NULL;
	s->extra_lp = extras ? kf_cuda_carve(m, R * E, sizeof *s->extra_lp) : NULL;
}

static kf_status make_room(score *j, kf_cuda_score *s, size_t ranges, bool extras, kf_err *err)
{
	kf_cuda_carver state = { NULL, 0 }, answers = { NULL, 0 };

	carve_state(&state, s, ranges);
	carve_answers(&answers, s, ranges, extras);
	if (!(state.base = kf_cuda_scratch(j->c, KF_CUDA_STATE, state.used, "the head's candidates", err)) ||
	    !(answers.base = kf_cuda_scratch(j->c, KF_CUDA_ANSWERS, answers.used, "the head's answers", err)))
		return j->c->rc;
	state.used = answers.used = 0;
	carve_state(&state, s, ranges);
	carve_answers(&answers, s, ranges, extras);
	return KF_OK;
}

static kf_status send_query(score *j, kf_cuda_score *s, int r0, size_t ranges, kf_err *err)
{
	const kf_score_query *q = j->q;
	const size_t R = (size_t)s->T, four = sizeof(int32_t);
	const int32_t none = INT32_MAX;
	kf_cuda *c = j->c;
	kf_status rc = kf_cuda_room(c, 2 * kf_cuda_padded(R + 1, four) + 2 * kf_cuda_padded(ranges, four) + kf_cuda_padded(1, four), err);

	if (rc != KF_OK) return rc;
	if (!(s->bad = kf_cuda_upload(c, &none, sizeof none, err)) ||
	    (q->labels && !(s->labels = kf_cuda_upload(c, q->labels + r0, R * four, err))))
		return c->rc;
	if (q->range_off && (!(s->range_off = kf_cuda_upload(c, q->range_off + r0, (R + 1) * four, err)) ||
	    !(s->range_lo = kf_cuda_upload(c, q->range_lo + q->range_off[r0], ranges * four, err)) ||
	    !(s->range_hi = kf_cuda_upload(c, q->range_hi + q->range_off[r0], ranges * four, err))))
		return c->rc;
	return KF_OK;
}

static kf_status run_tiles(score *j, kf_cuda_score *s, int r0, kf_err *err)
{
	const int C = j->w->cols, V = j->w->rows;
	const void *hidden = kf_at(j->x, j->hidden, (size_t)r0 * (size_t)C);
	kf_cuda_stream st = j->c->dev.stream;
	kf_status rc = KF_OK;

	for (int p0 = 0; p0 < V && rc == KF_OK; p0 += KF_CUDA_TILE) {
		int n = V - p0 < KF_CUDA_TILE ? V - p0 : KF_CUDA_TILE, code = 0;
		const void *w = kf_at(j->x, j->w->num, (size_t)p0 * (size_t)C);

		if (s->order) {
			code = kf_cuda_gather(j->x->num, j->tile, j->w->num, s->order + p0, NULL, 1, n, C, st);
			w = j->tile;
		}
		if ((rc = kf_cuda_check(j->c, code, "head_score", err)) == KF_OK &&
		    (rc = kf_cuda_head_logits(j->x, j->logits, hidden, w, s->T, n, C, err)) == KF_OK)
			rc = kf_cuda_check(j->c, kf_cuda_score_tile(s, j->logits, n, p0, n, st), "head_score", err);
	}
	return rc;
}

static kf_status run_passes(score *j, kf_cuda_score *s, int r0, kf_err *err)
{
	kf_status rc = kf_cuda_check(j->c, kf_cuda_score_begin(s, j->c->dev.stream), "head_score", err);

	for (s->done = 0; s->done < s->k && rc == KF_OK; s->done += KF_CUDA_MAX_K) rc = run_tiles(j, s, r0, err);
	return rc == KF_OK ? kf_cuda_check(j->c, kf_cuda_score_end(s, j->c->dev.stream), "head_score", err) : rc;
}

static kf_status take_answers(score *j, const kf_cuda_score *s, int r0, size_t ranges, kf_err *err)
{
	const kf_score_query *q = j->q;
	const kf_score *o = j->out;
	const size_t R = (size_t)s->T, k = (size_t)s->k, E = (size_t)s->E, at = (size_t)r0;
	const bool ranged = q->range_off, extras = s->extra_n;
	int32_t bad;
	const kf_cuda_answer all[] = {
		{ &bad, s->bad, sizeof bad },
		{ o->top_ids + at * k, s->top_ids, R * k * sizeof *s->top_ids },
		{ o->top_lp + at * k, s->top_lp, R * k * sizeof *s->top_lp },
		{ o->ce ? o->ce + at : NULL, s->ce, o->ce ? R * sizeof *s->ce : 0 },
		{ ranged ? o->range_nlm + q->range_off[r0] : NULL, s->range_nlm, ranged ? ranges * sizeof *s->range_nlm : 0 },
		{ extras ? o->extra_n + at : NULL, s->extra_n, extras ? R * sizeof *s->extra_n : 0 },
		{ extras ? o->extra_ids + at * E : NULL, s->extra_ids, extras ? R * E * sizeof *s->extra_ids : 0 },
		{ extras ? o->extra_lp + at * E : NULL, s->extra_lp, extras ? R * E * sizeof *s->extra_lp : 0 },
	};
	kf_status rc = kf_cuda_take(j->x, all, sizeof all / sizeof *all, err);

	if (rc != KF_OK) return rc;
	return bad == INT32_MAX ? KF_OK : kf_cuda_head_bad(r0 + bad, err);
}

kf_status kf_cuda_op_head_score(kf_exec *x, const void *hidden, const kf_mat *w, int T, const kf_score_query *q, kf_score *out,
	kf_err *err)
{
	score j = { .x = x, .c = kf_cuda_of(x), .hidden = hidden, .w = w, .q = q, .out = out };
	const int room = KF_CUDA_HEAD_KEPT / (q->k > 0 ? q->k : 1), most = room < 1 ? 1 : room < KF_CUDA_HEAD_ROWS ? room : KF_CUDA_HEAD_ROWS;
	const int rows = T < most ? T : most, V = w->rows;
	const bool extras = q->range_off && out->extra_n;
	const size_t tile = V < KF_CUDA_TILE ? (size_t)V : KF_CUDA_TILE;
	kf_status rc = kf_check_score_query(q, w, T, err);

	if (rc != KF_OK || !T) return rc;
	if (extras && q->extra_min > KF_CUDA_MAX_K)
		return kf_fail(err, KF_EUNSUPPORTED, "%d candidates a prefix of the next token: on CUDA there are at most %d. Use --backend cpu.",
			q->extra_min, KF_CUDA_MAX_K);
	if (q->range_off && (rc = see_order(j.c, q->order, V, err)) != KF_OK) return rc;
	if (!(j.logits = kf_cuda_scratch(j.c, KF_CUDA_LOGITS, (size_t)rows * tile * sizeof(float), "a tile of logits", err)) ||
	    (q->range_off && !(j.tile = kf_cuda_scratch(j.c, KF_CUDA_TILE_W, tile * (size_t)w->cols * kf_num_size(x->num),
	     "a tile of the output matrix", err))))
		return j.c->rc;
	for (int r0 = 0; r0 < T && rc == KF_OK; r0 += rows) {
		kf_cuda_score s = { .T = T - r0 < rows ? T - r0 : rows, .V = V, .k = q->k, .cap = q->cap };
		const size_t ranges = ranges_of(q, r0, s.T);

		if (extras && q->extra_max > 0) {
			s.m = q->extra_min;
			s.E = q->extra_max;
		}
		if (q->range_off) {
			s.order = j.c->order;
			s.rank = j.c->rank;
		}
		if ((rc = make_room(&j, &s, ranges, extras, err)) == KF_OK && (rc = send_query(&j, &s, r0, ranges, err)) == KF_OK &&
		    (rc = run_passes(&j, &s, r0, err)) == KF_OK)
			rc = take_answers(&j, &s, r0, ranges, err);
	}
	return rc;
}
