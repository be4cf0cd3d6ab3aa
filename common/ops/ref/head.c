/* The head of the op table by definition: every row's logits in full, in double.
 * Slow on purpose; the tests hold the fast heads against it. */
#include <math.h>

#include "common/ops/head_check.h"
#include "common/ops/ref/ref.h"

/* The whole matrix as float32; *own is what to free. */
static const float *matrix(const kf_mat *w, float **own)
{
	*own = NULL;
	if (w->num) return w->num;
	*own = kf_alloc((size_t)w->rows * (size_t)w->cols, sizeof(float));
	if (*own) w->unpack(w->src, NULL, 0, (uint64_t)w->rows, *own);
	return *own;
}

static void logits(double *z, const float *h, const float *w, int V, int C, float cap)
{
	for (int v = 0; v < V; v++) {
		double s = 0;
		for (int c = 0; c < C; c++) s += (double)h[c] * w[(size_t)v * C + c];
		z[v] = cap > 0 ? cap * tanh(s / cap) : s;
	}
}

static double log_sum_exp(const double *z, int n)
{
	double m = -INFINITY, s = 0;
	for (int i = 0; i < n; i++) if (z[i] > m) m = z[i];
	if (m == -INFINITY) return m;
	for (int i = 0; i < n; i++) s += exp(z[i] - m);
	return m + log(s);
}

/* ---- scores ---- */

/* The best id that passes neither taken nor outside [lo, hi) of order; -1: none. */
static int best(const double *z, const bool *taken, const int32_t *order, int lo, int hi)
{
	int at = -1;
	for (int i = lo; i < hi; i++) {
		int v = order ? order[i] : i;
		if (taken[v]) continue;
		if (at < 0 || z[v] > z[at] || (z[v] == z[at] && v < at)) at = v;
	}
	return at;
}

static void score_row(const double *z, int V, int t, const kf_score_query *q, kf_score *out, bool *taken, double *part)
{
	double lse = log_sum_exp(z, V);
	int label = q->labels ? q->labels[t] : -1;
	if (out->ce) out->ce[t] = label < 0 ? NAN : (float)(lse - z[label]);

	for (int v = 0; v < V; v++) taken[v] = false;
	for (int i = 0; i < q->k; i++) {
		int v = best(z, taken, NULL, 0, V);
		taken[v] = true;
		out->top_ids[(size_t)t * q->k + i] = v;
		out->top_lp[(size_t)t * q->k + i] = (float)(z[v] - lse);
	}
	if (!q->range_off) return;

	int r0 = q->range_off[t], r1 = q->range_off[t + 1];
	for (int r = r0; r < r1; r++) {
		int n = 0;
		for (int i = q->range_lo[r]; i < q->range_hi[r]; i++) part[n++] = z[q->order[i]];
		out->range_nlm[r] = n ? (float)(lse - log_sum_exp(part, n)) : INFINITY;
	}
	if (!out->extra_n) return;
	int E = q->extra_max, n = 0;
	int32_t *ids = out->extra_ids + (size_t)t * E;
	for (int r = r1 - 1; r >= r0; r--) {
		int have = 0;
		for (int i = q->range_lo[r]; i < q->range_hi[r]; i++) have += taken[q->order[i]];
		for (; have < q->extra_min && n < E; have++) {
			int v = best(z, taken, q->order, q->range_lo[r], q->range_hi[r]);
			if (v < 0) break;
			taken[v] = true;
			int at = n++;
			for (; at > 0 && (z[v] > z[ids[at - 1]] || (z[v] == z[ids[at - 1]] && v < ids[at - 1])); at--)
				ids[at] = ids[at - 1];
			ids[at] = v;
		}
	}
	out->extra_n[t] = n;
	for (int i = 0; i < n; i++) out->extra_lp[(size_t)t * E + i] = (float)(z[ids[i]] - lse);
}

kf_status kf_ref_head_score(kf_exec *x, const float *hidden, const kf_mat *w, int T, const kf_score_query *q,
	kf_score *out, kf_err *err)
{
	(void)x;
	int V = w->rows, C = w->cols;
	float *own;
	kf_status rc = kf_check_score_query(q, w, T, err);
	if (rc != KF_OK) return rc;
	const float *wf = matrix(w, &own);
	double *z = kf_alloc((size_t)V, sizeof(double)), *part = kf_alloc((size_t)V, sizeof(double));
	bool *taken = kf_alloc((size_t)V, sizeof(bool));
	rc = wf && z && part && taken ? KF_OK : kf_fail(err, KF_ENOMEM, "no memory to score %d rows", T);
	for (int t = 0; t < T && rc == KF_OK; t++) {
		logits(z, hidden + (size_t)t * C, wf, V, C, q->cap);
		score_row(z, V, t, q, out, taken, part);
	}
	kf_free(own);
	kf_free(z);
	kf_free(part);
	kf_free(taken);
	return rc;
}

/* ---- loss (ops.h has the definition) ---- */

typedef struct {
	const double *z;
	int V;
	const int32_t *ids;
	const float *q;
	int n;
	double tau;
	bool kl;
	double *work; /* (4 V + 3) scratch */
	bool *in;     /* (V) scratch */
} fusion_row;

/* Cross-entropy of the tempered outcomes; adds coef * its gradient to g (V). */
static double fusion_rest(const fusion_row *f, double coef, double *g)
{
	/* Outcomes: the candidates, then all other tokens as one. */
	int V = f->V, n = f->n;
	double *off = f->work, *a = off + V, *lp = a + n + 1, *lq = lp + n + 1;
	bool *in = f->in;
	double sum = 0, loss = 0;
	int m = 0, o = n;
	for (int v = 0; v < V; v++) in[v] = false;
	for (int i = 0; i < n; i++) { in[f->ids[i]] = true; sum += f->q[i]; }
	for (int v = 0; v < V; v++) if (!in[v]) off[m++] = f->z[v];
	double lse = log_sum_exp(f->z, V), lse_off = log_sum_exp(off, m);
	double rest = sum < 1 ? 1 - sum : 0;
	for (int i = 0; i < n; i++) {
		a[i] = f->z[f->ids[i]] - lse;
		lq[i] = log(f->q[i]);
	}
	if (m) { a[n] = lse_off - lse; lq[n] = log(rest); o = n + 1; }
	for (int i = 0; i < o; i++) { lp[i] = a[i] / f->tau; lq[i] /= f->tau; }
	double np = log_sum_exp(lp, o), nq = log_sum_exp(lq, o);
	double t2 = f->tau * f->tau;
	for (int i = 0; i < o && nq > -INFINITY; i++) {
		double qt = exp(lq[i] - nq), ga = f->tau * (exp(lp[i] - np) - qt);
		if (qt > 0) loss += t2 * qt * ((f->kl ? lq[i] - nq : 0) - (lp[i] - np));
		if (i < n) { g[f->ids[i]] += coef * ga; continue; }
		for (int v = 0; v < V; v++) if (!in[v]) g[v] += coef * ga * exp(f->z[v] - lse_off);
	}
	/* The gradients over outcomes sum to zero, so the log-softmax's own normaliser drops out. */
	return loss;
}

static double fusion_renormalize(const fusion_row *f, double coef, double *g)
{
	int V = f->V, n = f->n;
	double *zt = f->work, *lq = zt + V;
	double t2 = f->tau * f->tau, loss = 0;
	for (int v = 0; v < V; v++) zt[v] = f->z[v] / f->tau;
	for (int i = 0; i < n; i++) lq[i] = log(f->q[i]) / f->tau;
	double np = log_sum_exp(zt, V), nq = log_sum_exp(lq, n);
	for (int v = 0; v < V; v++) g[v] += coef * f->tau * exp(zt[v] - np);
	for (int i = 0; i < n; i++) {
		double qt = exp(lq[i] - nq);
		g[f->ids[i]] -= coef * f->tau * qt;
		if (qt > 0) loss += t2 * qt * ((f->kl ? lq[i] - nq : 0) - (zt[f->ids[i]] - np));
	}
	return loss;
}

static void loss_row(const double *z, int V, int t, const kf_loss_query *q, kf_loss *out, double *g, double *work, bool *in)
{
	int label = q->labels ? q->labels[t] : -1;
	fusion_row f = { z, V, NULL, NULL, 0, q->temperature, q->kind == KF_LOSS_KL, work, in };
	double sum = 0, clm = 0;
	if (q->off) {
		f.ids = q->ids + q->off[t];
		f.q = q->q + q->off[t];
		f.n = (int)(q->off[t + 1] - q->off[t]);
	}
	for (int i = 0; i < f.n; i++) sum += f.q[i];
	if (q->tail == KF_TAIL_RENORMALIZE && sum <= 0) f.n = 0;
	for (int v = 0; v < V; v++) g[v] = 0;
	if (label < 0 && !f.n) return;

	double w = q->weight ? q->weight[t] : 1, lambda = 1 - w * (1 - q->lambda);
	if (!f.n) lambda = 1;
	out->rows++;
	if (label >= 0) {
		double lse = log_sum_exp(z, V);
		clm = lse - z[label];
		out->clm += clm;
		out->clm_rows++;
		for (int v = 0; v < V; v++) g[v] += lambda * (exp(z[v] - lse) - (v == label));
		out->loss += lambda * clm;
	}
	if (f.n) {
		double fusion = q->tail == KF_TAIL_REST ? fusion_rest(&f, 1 - lambda, g) : fusion_renormalize(&f, 1 - lambda, g);
		out->fusion += fusion;
		out->fusion_rows++;
		out->loss += (1 - lambda) * fusion;
	}
}

kf_status kf_ref_head_loss(kf_exec *x, const float *hidden, const kf_mat *w, int T, const kf_loss_query *q,
	float *dhidden, float *dw, kf_loss *out, kf_err *err)
{
	(void)x;
	int V = w->rows, C = w->cols;
	float *own;
	kf_status rc = kf_check_loss_query(q, w, T, err);
	if (rc != KF_OK) return rc;
	const float *wf = matrix(w, &own);
	double *z = kf_alloc((size_t)V, sizeof(double)), *g = kf_alloc((size_t)V, sizeof(double));
	double *dh = kf_alloc((size_t)C, sizeof(double)), *work = kf_alloc(4 * (size_t)V + 3, sizeof(double));
	bool *in = kf_alloc((size_t)V, sizeof(bool));
	rc = wf && z && g && dh && work && in ? KF_OK : kf_fail(err, KF_ENOMEM, "no memory for the loss of %d rows", T);
	*out = (kf_loss){ 0 };
	for (int t = 0; t < T && rc == KF_OK; t++) {
		const float *h = hidden + (size_t)t * C;
		logits(z, h, wf, V, C, q->cap);
		loss_row(z, V, t, q, out, g, work, in);
		for (int c = 0; c < C; c++) dh[c] = 0;
		for (int v = 0; v < V; v++) {
			double gv = g[v] * q->scale, u = q->cap > 0 ? z[v] / q->cap : 0;
			gv *= 1 - u * u;
			for (int c = 0; c < C; c++) dh[c] += gv * wf[(size_t)v * C + c];
			if (dw) for (int c = 0; c < C; c++) dw[(size_t)v * C + c] += (float)(gv * h[c]);
		}
		if (dhidden) for (int c = 0; c < C; c++) dhidden[(size_t)t * C + c] = (float)dh[c];
	}
	kf_free(own);
	kf_free(z);
	kf_free(g);
	kf_free(dh);
	kf_free(work);
	kf_free(in);
	return rc;
}
