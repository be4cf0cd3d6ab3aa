/* Causal attention of packed sequences, in blocks of query rows by blocks of keys, so
 * that scores stay in the second-level cache whatever the text's length. Forward: softmax
 * kept up to date over the blocks of keys (Milakov and Gimelshein 2018; Dao et al.
 * 2022), parallel over (sequence, head, query block). Backward: probabilities again from
 * q, k and lse, parallel over (sequence, head); heads that share keys write apart and are
 * added in their order, so nothing depends on the threads. */
#include "common/ops/cpu/cpu.h"
#include "common/ops/cpu/vmath.h"

#include <stdatomic.h>

enum { QB = 64, KB = 512 };   /* query rows and keys of a block */

/* Rows [t0, t1) of sequence s, which begins at begin, for one head. */
typedef struct { int32_t begin, t0, t1, head, s; } piece;

typedef struct {
	kf_exec *x;
	const float *q, *k, *v, *dout, *out, *saved;
	float *o, *lse, *dq, *dk, *dv;
	int H, G, D, window;
	size_t kh;           /* heads in a row of dk, dv: G, or H when they are added up afterwards */
	float scale, cap;
	const float *slopes;
	const kf_past *past; /* NULL: nothing stands before the sequences */
	const piece *pieces;
	atomic_int status;   /* oneDNN's, or NO_MEMORY */
} attn_job;

enum { NO_MEMORY = -1 };

static int32_t first_key(const attn_job *j, int32_t t, int32_t begin)
{
	return j->window > 0 && t - j->window + 1 > begin ? t - j->window + 1 : begin;
}

/* The keys of block [j0, j0 + n) that row t sees: [*a, *b) within the block. */
static void visible(const attn_job *j, int32_t t, int32_t begin, int32_t j0, int32_t n, int32_t *a,
	int32_t *b)
{
	*a = first_key(j, t, begin) - j0;
	*b = t + 1 - j0;
	if (*a < 0) *a = 0;
	if (*b > n) *b = n;
	if (*a > *b) *a = *b = 0;
}

static void clear_hidden(float *row, int32_t a, int32_t b, int32_t n)
{
	memset(row, 0, (size_t)a * sizeof *row);
	memset(row + b, 0, (size_t)(n - b) * sizeof *row);
}

/* Scores s of keys [0, n), the first of which lies `ahead` after the row: capped, or biased by distance. */
static void adjust(const attn_job *j, float *restrict s, int32_t n, int32_t ahead, int32_t head)
{
	if (j->cap > 0) {
		const float cap = j->cap, per = 1 / cap;

		for (int32_t c = 0; c < n; c++) s[c] = cap * kf_vtanh(s[c] * per);
	} else if (j->slopes) {
		const float slope = j->slopes[head];

		for (int32_t c = 0; c < n; c++) s[c] += slope * (float)(ahead + c);
	}
}

/* Keys and rows are counted from the beginning of what stands before the sequence; a block of keys is of that, or of
 * the sequence. */
static void forward_task(void *arg, size_t index, int worker)
{
	attn_job *j = arg;
	const piece p = j->pieces[index];
	const int64_t D = j->D, qs = (int64_t)j->H * D, ks = (int64_t)j->G * D, head = p.head / (j->H / j->G) * D;
	const int rows = p.t1 - p.t0;
	const int32_t before = j->past ? j->past->n[p.s] : 0, t0 = before + p.t0 - p.begin, t1 = t0 + rows;
	const float *q = j->q + p.t0 * qs + p.head * D, *k = j->k + p.begin * ks + head, *v = j->v + p.begin * ks + head;
	const float *past_k = before ? j->past->k + j->past->row[p.s] * ks + head : NULL;
	const float *past_v = before ? j->past->v + j->past->row[p.s] * ks + head : NULL;
	float *o = j->o + p.t0 * qs + p.head * D;
	float *s = kf_cpu_worker_scratch(j->x, worker, (size_t)QB * KB * sizeof *s);
	float max[QB], sum[QB];
	const int32_t lo = first_key(j, t0, 0);
	int32_t n;
	int st = s ? 0 : NO_MEMORY;

	for (int i = 0; i < rows; i++) {
		max[i] = -INFINITY;
		sum[i] = 0;
	}
	for (int32_t j0 = lo; !st && j0 < t1; j0 += n) {
		const int32_t end = j0 < before ? before : t1;
		const float *bk = j0 < before ? past_k + j0 * ks : k + (j0 - before) * ks;
		const float *bv = j0 < before ? past_v + j0 * ks : v + (j0 - before) * ks;

		n = end - j0 < KB ? end - j0 : KB;
		if ((st = kf_cpu_sgemm(false, true, rows, n, D, j->scale, q, qs, bk, ks, 0, s, KB))) break;
		for (int i = 0; i < rows; i++) {
			float *row = s + (size_t)i * KB, *oi = o + i * qs, m, fix;
			int32_t a, b;

			visible(j, t0 + i, 0, j0, n, &a, &b);
			clear_hidden(row, a, b, n);
			if (a == b) continue;
			adjust(j, row + a, b - a, j0 + a - (t0 + i), p.head);
			m = kf_vmax(row + a, (size_t)(b - a));
			if (!(m < max[i])) {   /* also where a score is NaN, which must be seen in the result */
				fix = kf_vexp(max[i] - m);
				sum[i] *= fix;
				if (j0 > lo) for (int64_t d = 0; d < D; d++) oi[d] *= fix;
				max[i] = m;
			}
			sum[i] += kf_vexp_sum(row + a, (size_t)(b - a), max[i]);
		}
		st = kf_cpu_sgemm(false, false, rows, D, n, 1, s, KB, bv, ks, j0 > lo ? 1 : 0, o, qs);
	}
	for (int i = 0; !st && i < rows; i++) {
		float *oi = o + i * qs, inv = 1 / sum[i];

		for (int64_t d = 0; d < D; d++) oi[d] *= inv;
		if (j->lse) j->lse[(size_t)(p.t0 + i) * (size_t)j->H + (size_t)p.head] = max[i] + logf(sum[i]);
	}
	if (st) atomic_store(&j->status, st);
}

static kf_status status_of(attn_job *j, const char *what, kf_err *err)
{
	const int st = atomic_load(&j->status);

	if (st == NO_MEMORY) return kf_fail(err, KF_ENOMEM, "%s: out of memory for a block of scores", what);
	return kf_cpu_dnnl_status(st, what, err);
}

/* The work, cut into pieces of at most `rows` rows a head; those of a sequence's heads
 * side by side, so that threads share keys. NULL: no memory. */
static piece *cut(const int32_t *offset, int S, int H, int64_t rows, size_t *n)
{
	size_t count = 0;
	piece *p;

	for (int s = 0; s < S; s++) count += (size_t)((offset[s + 1] - offset[s] + rows - 1) / rows) * (size_t)H;
	*n = 0;
	if (!(p = kf_alloc(count, sizeof *p))) return NULL;
	for (int s = 0; s < S; s++)
		for (int h = 0; h < H; h++)
			for (int64_t t = offset[s]; t < offset[s + 1]; t += rows)
				p[(*n)++] = (piece){ offset[s], (int32_t)t,
					(int32_t)(offset[s + 1] - t < rows ? offset[s + 1] : t + rows), h, s };
	return p;
}

static kf_status forward(attn_job *j, const int32_t *offset, int S, kf_err *err)
{
	size_t n;
	piece *pieces = cut(offset, S, j->H, QB, &n);

	if (!pieces) return kf_fail(err, KF_ENOMEM, "attention: out of memory for the list of blocks");
	j->pieces = pieces;
	kf_pool_run(j->x->pool, n, forward_task, j);
	kf_free(pieces);
	return status_of(j, "attention", err);
}

kf_status kf_cpu_attention(kf_exec *x, float *out, float *lse, const float *q, const float *k, const float *v,
	const int32_t *offset, int S, const kf_attn *a, kf_err *err)
{
	attn_job j = { .x = x, .q = q, .k = k, .v = v, .o = out, .lse = lse, .H = a->H, .G = a->G, .D = a->D,
		.window = a->window, .scale = a->scale, .cap = a->cap, .slopes = a->slopes };

	return forward(&j, offset, S, err);
}

kf_status kf_cpu_attention_after(kf_exec *x, float *out, const float *q, const float *k, const float *v, const int32_t *offset,
	int S, const kf_past *past, const kf_attn *a, kf_err *err)
{
	attn_job j = { .x = x, .q = q, .k = k, .v = v, .o = out, .H = a->H, .G = a->G, .D = a->D, .window = a->window,
		.scale = a->scale, .cap = a->cap, .slopes = a->slopes, .past = past };

	return forward(&j, offset, S, err);
}

/* One head of one sequence. s: scores, then probabilities; ds: their gradient times scale. */
static void backward_task(void *arg, size_t index, int worker)
{
	attn_job *j = arg;
	const piece p = j->pieces[index];
	const int64_t D = j->D, qs = (int64_t)j->H * D, ks = (int64_t)j->G * D, gs = (int64_t)j->kh * D;
	const int64_t g = p.head / (j->H / j->G), own = j->kh == (size_t)j->H ? p.head : g;
	const float *k = j->k + g * D, *v = j->v + g * D;
	float *dk = j->dk + own * D, *dv = j->dv + own * D;
	float *s = kf_cpu_worker_scratch(j->x, worker, (size_t)2 * QB * KB * sizeof *s),
		*ds = s + (size_t)QB * KB;
	int st = s ? 0 : NO_MEMORY;

	for (int32_t t = p.t0; t < p.t1; t++) {
		memset(dk + t * gs, 0, (size_t)D * sizeof *dk);
		memset(dv + t * gs, 0, (size_t)D * sizeof *dv);
	}
	for (int32_t t0 = p.t0; !st && t0 < p.t1; t0 += QB) {
		const int32_t t1 = p.t1 - t0 < QB ? p.t1 : t0 + QB, rows = t1 - t0, lo = first_key(j, t0, p.begin);
		const float *q = j->q + t0 * qs + p.head * D, *out = j->out + (q - j->q),
			*dout = j->dout + (q - j->q);
		float *dq = j->dq + (q - j->q), delta[QB];

		for (int i = 0; i < rows; i++) delta[i] = kf_vdot(dout + i * qs, out + i * qs, (size_t)D);
		for (int32_t j0 = lo; !st && j0 < t1; j0 += KB) {
			const int32_t n = t1 - j0 < KB ? t1 - j0 : KB;

			st = kf_cpu_sgemm(false, true, rows, n, D, j->scale, q, qs, k + j0 * ks, ks, 0, s, KB);
			if (st) break;
			st = kf_cpu_sgemm(false, true, rows, n, D, j->scale, dout, qs, v + j0 * ks, ks, 0, ds, KB);
			if (st) break;
			for (int i = 0; i < rows; i++) {
				float *restrict pr = s + (size_t)i * KB, *restrict dr = ds + (size_t)i * KB;
				const float lse = j->saved[(size_t)(t0 + i) * (size_t)j->H + (size_t)p.head],
					off = delta[i] * j->scale;
				int32_t a, b;

				visible(j, t0 + i, p.begin, j0, n, &a, &b);
				clear_hidden(pr, a, b, n);
				clear_hidden(dr, a, b, n);
				adjust(j, pr + a, b - a, j0 + a - (t0 + i), p.head);
				if (j->cap > 0) {
					const float per = 1 / j->cap;

					for (int32_t c = a; c < b; c++) {
						const float u = pr[c] * per;

						pr[c] = kf_vexp(pr[c] - lse);
						dr[c] = pr[c] * (dr[c] - off) * (1 - u * u);
					}
					continue;
				}
				for (int32_t c = a; c < b; c++) {
					pr[c] = kf_vexp(pr[c] - lse);
					dr[c] = pr[c] * (dr[c] - off);
				}
			}
			if ((st = kf_cpu_sgemm(true, false, n, D, rows, 1, s, KB, dout, qs, 1, dv + j0 * gs, gs))) break;
			if ((st = kf_cpu_sgemm(true, false, n, D, rows, 1, ds, KB, q, qs, 1, dk + j0 * gs, gs))) break;
			st = kf_cpu_sgemm(false, false, rows, D, n, 1, ds, KB, k + j0 * ks, ks, j0 > lo ? 1 : 0, dq, qs);
		}
	}
	if (st) atomic_store(&j->status, st);
}

typedef struct {
	float *dk, *dv;          /* (T, G, D) */
	const float *hk, *hv;    /* (T, H, D) */
	size_t group, D;         /* heads that share keys */
} group_job;

static void group_task(void *arg, size_t begin, size_t end, int worker)
{
	const group_job *j = arg;
	const size_t D = j->D;

	(void)worker;
	for (size_t i = begin; i < end; i++)   /* i: (row, key-value head) */
		for (int part = 0; part < 2; part++) {
			float *restrict to = (part ? j->dv : j->dk) + i * D;
			const float *restrict from = (part ? j->hv : j->hk) + i * j->group * D;

			memcpy(to, from, D * sizeof *to);
			for (size_t h = 1; h < j->group; h++)
				for (size_t d = 0; d < D; d++) to[d] += from[h * D + d];
		}
}

kf_status kf_cpu_attention_dx(kf_exec *x, float *dq, float *dk, float *dv, const float *dout,
	const float *out, const float *lse, const float *q, const float *k, const float *v, const int32_t *offset,
	int S, const kf_attn *a, kf_err *err)
{
	const int H = a->H, G = a->G, D = a->D;
	attn_job j = { .x = x, .q = q, .k = k, .v = v, .dout = dout, .out = out, .saved = lse,
		.dq = dq, .dk = dk, .dv = dv, .H = H, .G = G, .D = D, .kh = (size_t)G, .window = a->window,
		.scale = a->scale, .cap = a->cap, .slopes = a->slopes };
	const size_t T = (size_t)(S > 0 ? offset[S] : 0), apart = T * (size_t)H * (size_t)D;
	piece *pieces;
	size_t n;

	if (!T) return KF_OK;
	if (G != H) {
		if (!(j.dk = kf_cpu_scratch(x, KF_CPU_ACT, 2 * apart * sizeof(float))))
			return kf_fail(err, KF_ENOMEM, "attention_dx: out of memory for gradients of %zu rows by head",
				T);
		j.dv = j.dk + apart;
		j.kh = (size_t)H;
	}
	if (!(pieces = cut(offset, S, H, INT32_MAX, &n)))
		return kf_fail(err, KF_ENOMEM, "attention_dx: out of memory for the list of heads");
	j.pieces = pieces;
	kf_pool_run(x->pool, n, backward_task, &j);
	kf_free(pieces);
	if (G != H) {
		group_job gj = { dk, dv, j.dk, j.dv, (size_t)(H / G), (size_t)D };

		kf_pool_split(x->pool, T * (size_t)G, 16, group_task, &gj);
	}
	return status_of(&j, "attention_dx", err);
}
