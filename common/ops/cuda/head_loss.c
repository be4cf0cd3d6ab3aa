/* The loss over sparse targets and its gradients. The logits of a tile are made twice: once for the normalisers, once for
 * the gradient; a (T, V) matrix never exists. */
#include "common/ops/cuda/head.h"

#include <limits.h>

#include "common/ops/head_check.h"

typedef struct {
	kf_exec *x;
	kf_cuda *c;
	const void *hidden;
	const kf_mat *w;
	const kf_loss_query *q;
	void *dhidden, *dw;
	float *logits;
	void *dlogits;             /* of the exec's numbers; the logits' own memory where those are float32 */
	float *dh;                 /* (rows, C) the gradient of hidden, summed over tiles in float32; dhidden itself where it is */
	kf_cuda_loss_sums *sums;   /* of all blocks, on the device */
	int32_t *bad;              /* (blocks) */
} job;

static size_t candidates_of(const kf_loss_query *q, int r0, int R)
{
	return q->off ? (size_t)(q->off[r0 + R] - q->off[r0]) : 0;
}

static void carve_state(kf_cuda_carver *m, kf_cuda_loss *s, size_t candidates)
{
	const size_t R = (size_t)s->T;

	s->sum = kf_cuda_carve(m, R, sizeof *s->sum);
	s->sum2 = !s->rest && s->temperature != 1 ? kf_cuda_carve(m, R, sizeof *s->sum2) : NULL;
	s->label = kf_cuda_carve(m, R, sizeof *s->label);
	s->cand = kf_cuda_carve(m, candidates, sizeof *s->cand);
	s->dcand = kf_cuda_carve(m, candidates, sizeof *s->dcand);
	s->coef = kf_cuda_carve(m, 5 * R, sizeof *s->coef);
	s->row = kf_cuda_carve(m, 3 * R, sizeof *s->row);
}

static kf_status make_room(job *j, kf_cuda_loss *s, size_t candidates, kf_err *err)
{
	kf_cuda_carver state = { NULL, 0 };

	carve_state(&state, s, candidates);
	if (!(state.base = kf_cuda_scratch(j->c, KF_CUDA_STATE, state.used, "the loss of a block of rows", err))) return j->c->rc;
	state.used = 0;
	carve_state(&state, s, candidates);
	return KF_OK;
}

static kf_status send_query(job *j, kf_cuda_loss *s, int r0, size_t candidates, kf_err *err)
{
	const kf_loss_query *q = j->q;
	const size_t R = (size_t)s->T, four = sizeof(int32_t);
	kf_cuda *c = j->c;
	kf_status rc = kf_cuda_room(c, 3 * kf_cuda_padded(R + 1, four) + 2 * kf_cuda_padded(candidates, four), err);

	if (rc != KF_OK) return rc;
	if ((q->labels && !(s->labels = kf_cuda_upload(c, q->labels + r0, R * four, err))) ||
	    (q->weight && !(s->weight = kf_cuda_upload(c, q->weight + r0, R * four, err))))
		return c->rc;
	if (q->off && (!(s->off = kf_cuda_upload(c, q->off + r0, (R + 1) * four, err)) ||
	    !(s->ids = kf_cuda_upload(c, q->ids + q->off[r0], candidates * four, err)) ||
	    !(s->q = kf_cuda_upload(c, q->q + q->off[r0], candidates * four, err))))
		return c->rc;
	return KF_OK;
}

/* Gradients by the tile's logits: dhidden += dlogits w, dw += dlogits^T hidden. */
static kf_status backward_tile(job *j, const kf_cuda_loss *s, const void *hidden, const void *w, float *dh, int v0, int n, kf_err *err)
{
	const int C = j->w->cols;
	const kf_num_type num = j->x->num;
	const kf_cuda_product to_hidden = { .add = v0 > 0, .M = s->T, .N = C, .K = n, .lda = n, .ldb = C, .ldc = C, .in = num,
		.out = KF_NUM_F32 };
	const kf_cuda_product to_w = { .ta = true, .add = true, .M = n, .N = C, .K = s->T, .lda = n, .ldb = C, .ldc = C, .in = num,
		.out = num };
	kf_status rc = kf_cuda_check(j->c, kf_cuda_loss_back(s, j->x->num, j->dlogits, j->logits, n, v0, n, j->c->dev.stream),
		"head_loss", err);

	if (rc == KF_OK && dh) rc = kf_cuda_gemm_run(j->c->gemm, &to_hidden, dh, j->dlogits, w, err);
	if (rc == KF_OK && j->dw)
		rc = kf_cuda_gemm_run(j->c->gemm, &to_w, kf_at(j->x, j->dw, (size_t)v0 * (size_t)C), j->dlogits, hidden, err);
	return rc;
}

static kf_status run_block(job *j, kf_cuda_loss *s, int r0, kf_err *err)
{
	const int C = j->w->cols, V = j->w->rows;
	const size_t at = (size_t)r0 * (size_t)C;
	const void *hidden = kf_at(j->x, j->hidden, at);
	float *dh = j->dhidden && j->x->num == KF_NUM_F32 ? (float *)j->dhidden + at : j->dh;
	kf_cuda_stream st = j->c->dev.stream;
	kf_status rc = kf_cuda_check(j->c, kf_cuda_loss_begin(s, st), "head_loss", err);

	for (int back = 0; back <= (j->dhidden || j->dw) && rc == KF_OK; back++) {
		for (int v0 = 0; v0 < V && rc == KF_OK; v0 += KF_CUDA_TILE) {
			int n = V - v0 < KF_CUDA_TILE ? V - v0 : KF_CUDA_TILE;
			const void *w = kf_at(j->x, j->w->num, (size_t)v0 * (size_t)C);

			if ((rc = kf_cuda_head_logits(j->x, j->logits, hidden, w, s->T, n, C, err)) != KF_OK) break;
			if (back) rc = backward_tile(j, s, hidden, w, dh, v0, n, err);
			else rc = kf_cuda_check(j->c, kf_cuda_loss_fold(s, j->logits, n, v0, n, st), "head_loss", err);
		}
		if (!back && rc == KF_OK) rc = kf_cuda_check(j->c, kf_cuda_loss_settle(s, st), "head_loss", err);
	}
	if (rc == KF_OK && j->dhidden && dh == j->dh)
		rc = kf_cuda_check(j->c, kf_cuda_convert(j->x->num, kf_at(j->x, j->dhidden, at), KF_NUM_F32, dh,
			(size_t)s->T * (size_t)C, st), "head_loss", err);
	return rc;
}

/* The sums, and where a block's first row without a normaliser is noted, in memory of their own: they last over blocks. */
static kf_status begin_sums(job *j, int blocks, kf_err *err)
{
	const size_t bytes = sizeof *j->sums + (size_t)blocks * sizeof *j->bad;
	char *at = kf_cuda_scratch(j->c, KF_CUDA_SUMS, bytes, "the sums of the loss", err);
	kf_status rc;

	if (!at) return j->c->rc;
	j->sums = (kf_cuda_loss_sums *)(void *)at;
	j->bad = (int32_t *)(void *)(at + sizeof *j->sums);
	if ((rc = kf_cuda_check(j->c, kf_cuda_zero(j->sums, sizeof *j->sums, j->c->dev.stream), "head_loss", err)) != KF_OK) return rc;
	for (int b = 0; b < blocks; b++) {
		const int32_t none = INT32_MAX;
		void *sent = kf_cuda_upload(j->c, &none, sizeof none, err);

		if (!sent) return j->c->rc;
		if ((rc = kf_cuda_check(j->c, kf_cuda_copy(j->bad + b, sent, sizeof none, j->c->dev.stream), "head_loss", err)) != KF_OK)
			return rc;
	}
	return KF_OK;
}

static kf_status take_sums(job *j, int blocks, int rows, kf_loss *out, kf_err *err)
{
	kf_cuda_loss_sums s;
	kf_status rc;

	for (int b = 0; b < blocks; b++) {
		int32_t bad;

		if ((rc = kf_cuda_op_get(j->x, &bad, j->bad + b, sizeof bad, err)) != KF_OK) return rc;
		if (bad != INT32_MAX) return kf_cuda_head_bad(b * rows + bad, err);
	}
	if ((rc = kf_cuda_op_get(j->x, &s, j->sums, sizeof s, err)) != KF_OK) return rc;
	*out = (kf_loss){ .loss = s.loss, .clm = s.clm, .fusion = s.fusion, .rows = s.rows, .clm_rows = s.clm_rows,
		.fusion_rows = s.fusion_rows };
	return KF_OK;
}

kf_status kf_cuda_op_head_loss(kf_exec *x, const void *hidden, const kf_mat *w, int T, const kf_loss_query *q, void *dhidden,
	void *dw, kf_loss *out, kf_err *err)
{
	job j = { .x = x, .c = kf_cuda_of(x), .hidden = hidden, .w = w, .q = q, .dhidden = dhidden, .dw = dw };
	const int rows = T < KF_CUDA_HEAD_ROWS ? T : KF_CUDA_HEAD_ROWS, blocks = T ? (T + rows - 1) / rows : 0;
	const size_t tile = w->rows < KF_CUDA_TILE ? (size_t)w->rows : KF_CUDA_TILE, n = (size_t)rows * tile;
	const bool grad = dhidden || dw, f32 = x->num == KF_NUM_F32;
	kf_status rc = kf_check_loss_query(q, w, T, err);

	*out = (kf_loss){ 0 };
	if (rc != KF_OK || !T) return rc;
	if (!(j.logits = kf_cuda_scratch(j.c, KF_CUDA_LOGITS, n * sizeof(float), "a tile of logits", err)) ||
	    (grad && !f32 && !(j.dlogits = kf_cuda_scratch(j.c, KF_CUDA_DLOGITS, n * kf_num_size(x->num), "a tile's gradient", err))) ||
	    (dhidden && !f32 && !(j.dh = kf_cuda_scratch(j.c, KF_CUDA_ROWS, (size_t)rows * (size_t)w->cols * sizeof(float),
	     "the gradient of hidden states", err))))
		return j.c->rc;
	if (f32) j.dlogits = j.logits;
	if ((rc = begin_sums(&j, blocks, err)) != KF_OK) return rc;
	for (int b = 0; b < blocks && rc == KF_OK; b++) {
		const int r0 = b * rows;
		kf_cuda_loss s = { .T = T - r0 < rows ? T - r0 : rows, .V = w->rows, .lambda = q->lambda, .temperature = q->temperature,
			.kl = q->kind == KF_LOSS_KL, .rest = q->tail == KF_TAIL_REST, .scale = q->scale, .cap = q->cap, .sums = j.sums,
			.bad = j.bad + b };
		const size_t candidates = candidates_of(q, r0, s.T);

		if ((rc = make_room(&j, &s, candidates, err)) == KF_OK && (rc = send_query(&j, &s, r0, candidates, err)) == KF_OK)
			rc = run_block(&j, &s, r0, err);
	}
	return rc == KF_OK ? take_sums(&j, blocks, rows, out, err) : rc;
}
