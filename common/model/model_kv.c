/* Sequences that go on: keys and values of what was run before. */
#include "common/model/model_impl.h"

#include <stdio.h>

static size_t row_size(const kf_model *m)
{
	return (size_t)m->arch->G * (size_t)m->arch->D;
}

size_t kf_kv_bytes(const kf_model *m)
{
	return 2 * (size_t)m->arch->L * row_size(m) * kf_num_size(m->x->num);
}

kf_status kf_kv_new(kf_model *m, int rows, kf_kv **out, kf_err *err)
{
	kf_kv *kv = kf_zalloc(1, sizeof *kv);
	char what[64];

	*out = NULL;
	if (kv) kv->data = m->x->ops->alloc(m->x, (size_t)rows, kf_kv_bytes(m));
	if (!kv || !kv->data) {
		kf_free(kv);
		snprintf(what, sizeof what, "the keys and values of %d tokens", rows);
		return kf_model_no_memory(m->x, what, (double)rows * (double)kf_kv_bytes(m), "Fewer texts at once take less (kf-eval: --cache-mb), and "
			"shorter ones (--max-tokens).", err);
	}
	kv->m = m;
	kv->rows = rows;
	*out = kv;
	return KF_OK;
}

void kf_kv_free(kf_kv *kv)
{
	if (!kv)
		return;
	kv->m->x->ops->free(kv->m->x, kv->data);
	kf_free(kv->index);
	kf_free(kv);
}

static bool same_frequencies(const kf_rope *r, int from, int to)
{
	bool was = (float)from > r->original_context, is = (float)to > r->original_context;

	if (!kf_rope_varies(r))
		return true;
	return r->kind == KF_ROPE_LONGROPE ? was == is : !is || from == to;
}

static bool can_go_on(const kf_model *m)
{
	return m->x->ops->attention_after && m->x->ops->rope_after && m->x->ops->store;
}

bool kf_model_keeps(const kf_model *m, int from, int to)
{
	const kf_arch *a = m->arch;

	if (!can_go_on(m))
		return from == 0;
	return !a->R || (same_frequencies(&a->rope, from, to) && same_frequencies(&a->rope_local, from, to));
}

static kf_num *part(const kf_kv *kv, int layer, int values)
{
	return kf_at(kv->m->x, kv->data, ((size_t)layer * 2 + (size_t)values) * (size_t)kv->rows * row_size(kv->m));
}

kf_past kf_model_past(const kf_model *m, int layer, const kf_batch *b, const kf_acts *a)
{
	const kf_kv *kv = b->before->kv;

	(void)m;
	return (kf_past){ .k = kv ? part(kv, layer, 0) : a->k, .v = kv ? part(kv, layer, 1) : a->v, .row = b->before->row,
		.n = b->before->n };
}

void kf_model_store(const kf_model *m, int layer, const kf_batch *b, const kf_acts *a)
{
	const kf_kv *kv = b->before->kv;

	if (!kv)
		return;
	m->x->ops->store(m->x, part(kv, layer, 0), a->k, kv->index, b->T, (int)row_size(m));
	m->x->ops->store(m->x, part(kv, layer, 1), a->v, kv->index, b->T, (int)row_size(m));
}

kf_status kf_model_check_before(const kf_model *m, const kf_batch *b, kf_err *err)
{
	const kf_before *w = b->before;
	kf_kv *kv = w->kv;
	int limit = kv ? kv->rows : b->T;

	if (!can_go_on(m))
		return kf_fail(err, KF_EUNSUPPORTED, "the backend %s only runs whole sequences", m->x->ops->name);
	if (kv && kv->n_index < (size_t)b->T) {
		kf_free(kv->index);
		kv->n_index = 0;
		if (!(kv->index = kf_alloc((size_t)b->T, sizeof *kv->index)))
			return kf_fail(err, KF_ENOMEM, "no memory for the places of %d tokens", b->T);
		kv->n_index = (size_t)b->T;
	}
	for (int s = 0; s < b->S; s++) {
		int own = b->offset[s + 1] - b->offset[s];

		if (w->row[s] < 0 || w->n[s] < 0 || w->row[s] > limit - w->n[s] || (kv && w->row[s] + w->n[s] > limit - own))
			return kf_fail(err, KF_EINVAL, "sequence %d of a batch goes on after %d rows from %d on, of %d, with %d of its own", s,
				w->n[s], w->row[s], limit, own);
		for (int i = 0; kv && i < own; i++) kv->index[b->offset[s] + i] = w->row[s] + w->n[s] + i;
	}
	return KF_OK;
}
