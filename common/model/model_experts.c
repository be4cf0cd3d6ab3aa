/* Routed experts: tokens are put in the order of the experts they go to, so that each expert is a few matrix
 * products over its own rows, and put back with their weights. */
#include "common/model/model_impl.h"

#include <string.h>

/* From index (T, k): the rows in the order of experts, within one in the order of the tokens. */
static void sort_rows(kf_model *m, const int32_t *index, int T)
{
	const kf_arch *a = m->arch;
	int rows = T * a->experts_used;

	memset(m->start, 0, ((size_t)a->experts + 1) * sizeof *m->start);
	for (int i = 0; i < rows; i++) m->start[index[i] + 1]++;
	for (int e = 0; e < a->experts; e++) m->start[e + 1] += m->start[e];
	for (int i = 0; i < rows; i++) {
		int32_t at = m->start[index[i]]++;

		m->row_token[at] = i / a->experts_used;
		m->row_slot[at] = i;
	}
	/* every start has moved to the next one's place */
	memmove(m->start + 1, m->start, (size_t)a->experts * sizeof *m->start);
	m->start[0] = 0;
}

/* y (rows, N) = in (rows, K) w^T, each expert's rows by its own w; or the other way: dx = dy w. */
static kf_status each(kf_model *m, const kf_layer *y, int part, kf_num *out, const kf_num *in, bool dx, bool add,
	kf_err *err)
{
	const kf_ops *ops = m->x->ops;
	kf_status rc = KF_OK;

	for (int e = 0; e < m->arch->experts && rc == KF_OK; e++) {
		const kf_mat *w = &y->expert[e * KF_EXPERT_PARTS + part]->mat;
		size_t at = (size_t)m->start[e], N = (size_t)w->rows, K = (size_t)w->cols;
		int n = m->start[e + 1] - m->start[e];

		if (!n) continue;
		if (dx)
			rc = ops->linear_dx(m->x, kf_at(m->x, out, at * K), kf_at(m->x, in, at * N), w, n, add, err);
		else
			rc = ops->linear(m->x, kf_at(m->x, out, at * N), kf_at(m->x, in, at * K), w, NULL, n, add, err);
	}
	return rc;
}

static kf_status each_dw(kf_model *m, const kf_layer *y, int part, const kf_num *dy, const kf_num *in, kf_err *err)
{
	kf_status rc = KF_OK;

	for (int e = 0; e < m->arch->experts && rc == KF_OK; e++) {
		const kf_slot *s = y->expert[e * KF_EXPERT_PARTS + part];
		size_t at = (size_t)m->start[e];
		int n = m->start[e + 1] - m->start[e];

		if (n)
			rc = m->x->ops->linear_dw(m->x, s->grad, NULL, kf_at(m->x, dy, at * (size_t)s->mat.rows),
				kf_at(m->x, in, at * (size_t)s->mat.cols), n, s->mat.rows, s->mat.cols, err);
	}
	return rc;
}

kf_status kf_experts_forward(kf_model *m, const kf_layer *y, const kf_num *h, kf_acts *a, kf_num *out, int T,
	kf_err *err)
{
	const kf_arch *arch = m->arch;
	const kf_ops *ops = m->x->ops;
	kf_exec *x = m->x;
	int rows = T * arch->experts_used;
	kf_status rc;

	if ((rc = ops->linear(x, m->router, h, &y->p[KF_P_ROUTER]->mat, NULL, T, false, err)) != KF_OK ||
	    (rc = ops->route(x, a->route, a->index, m->router, T, arch->experts, arch->experts_used, err)) != KF_OK)
		return rc;
	sort_rows(m, a->index, T);
	if (m->reader && (rc = kf_stream_experts(m, y, err)) != KF_OK)
		return rc;
	ops->gather(x, m->ex, h, m->row_token, NULL, rows, arch->C);
	if ((rc = each(m, y, KF_EXPERT_GATE, a->gate, m->ex, false, false, err)) != KF_OK ||
	    (rc = each(m, y, KF_EXPERT_UP, a->up, m->ex, false, false, err)) != KF_OK)
		return rc;
	ops->glu(x, m->act, a->gate, a->up, arch->act, (size_t)rows * (size_t)arch->F);
	if ((rc = each(m, y, KF_EXPERT_DOWN, a->expert_out, m->act, false, false, err)) != KF_OK)
		return rc;
	if (!out)
		return KF_OK;
	ops->permute(x, m->sorted, a->route, m->row_slot, rows, false);
	ops->scatter(x, out, a->expert_out, m->row_token, m->sorted, rows, arch->C);
	return KF_OK;
}

kf_status kf_experts_backward(kf_model *m, const kf_layer *y, const kf_acts *a, const kf_num *d, int T, kf_err *err)
{
	const kf_arch *arch = m->arch;
	const kf_ops *ops = m->x->ops;
	const kf_slot *router = y->p[KF_P_ROUTER];
	kf_exec *x = m->x;
	int rows = T * arch->experts_used;
	size_t n = (size_t)rows * (size_t)arch->F;
	kf_status rc;

	sort_rows(m, a->index, T);
	ops->permute(x, m->sorted, a->route, m->row_slot, rows, false);
	ops->dots(x, m->dsorted, a->expert_out, d, m->row_token, rows, arch->C);
	ops->permute(x, m->droute, m->dsorted, m->row_slot, rows, true);

	ops->gather(x, m->dex, d, m->row_token, m->sorted, rows, arch->C);
	ops->glu(x, m->act, a->gate, a->up, arch->act, n);
	if ((rc = each_dw(m, y, KF_EXPERT_DOWN, m->dex, m->act, err)) != KF_OK ||
	    (rc = each(m, y, KF_EXPERT_DOWN, m->dact, m->dex, true, false, err)) != KF_OK)
		return rc;
	ops->glu_dx(x, a->gate, a->up, m->dact, a->gate, a->up, arch->act, n);
	ops->gather(x, m->ex, m->h, m->row_token, NULL, rows, arch->C);
	if ((rc = each_dw(m, y, KF_EXPERT_GATE, a->gate, m->ex, err)) != KF_OK ||
	    (rc = each_dw(m, y, KF_EXPERT_UP, a->up, m->ex, err)) != KF_OK ||
	    (rc = each(m, y, KF_EXPERT_GATE, m->dex, a->gate, true, false, err)) != KF_OK ||
	    (rc = each(m, y, KF_EXPERT_UP, m->dex, a->up, true, true, err)) != KF_OK)
		return rc;
	ops->zero(x, m->dh, kf_num_bytes(m, (size_t)T * (size_t)arch->C));
	ops->scatter(x, m->dh, m->dex, m->row_token, NULL, rows, arch->C);

	ops->route_dx(x, m->router, m->droute, a->route, a->index, T, arch->experts, arch->experts_used);
	if ((rc = ops->linear_dw(x, router->grad, NULL, m->router, m->h, T, arch->experts, arch->C, err)) != KF_OK)
		return rc;
	return ops->linear_dx(x, m->dh, m->router, &router->mat, T, true, err);
}
