#include "train/loader.h"

kf_status kf_loader_init(kf_loader *l, kf_docs *docs, const kf_pack *pack, int64_t most, int rank, int size, kf_err *err)
{
	*l = (kf_loader){ .docs = docs, .pack = pack, .most = most, .rank = rank, .size = size };
	kf_arena_init(&l->arena);
	return kf_behind_new(&l->behind, err);
}

void kf_loader_release(kf_loader *l)
{
	kf_behind_free(l->behind);
	for (int i = 0; i < 2; i++) {
		kf_micro_release(&l->load[i].micro);
		kf_free(l->load[i].docs);
	}
	kf_free(l->owner);
	if (l->docs) kf_arena_release(&l->arena);
	*l = (kf_loader){ 0 };
}

static kf_status add_doc(kf_load *to, uint64_t doc, kf_err *err)
{
	if (to->n_docs == to->cap) {
		const size_t cap = 2 * to->cap + 16;
		uint64_t *more = kf_alloc(cap, sizeof *more);

		if (!more)
			return kf_fail(err, KF_ENOMEM, "no memory for the documents of a batch");
		if (to->n_docs)
			memcpy(more, to->docs, to->n_docs * sizeof *more);
		kf_free(to->docs);
		to->docs = more;
		to->cap = cap;
	}
	to->docs[to->n_docs++] = doc;
	return KF_OK;
}

/* Who has which document of the step. */
static kf_status divide(kf_loader *l, kf_err *err)
{
	const size_t n = (size_t)(l->plan->first[l->step + 1] - l->plan->first[l->step]);

	if (n > l->owner_cap || !l->owner) {
		kf_free(l->owner);
		l->owner_cap = 0;
		if (!(l->owner = kf_alloc(2 * n, sizeof *l->owner)))
			return kf_fail(err, KF_ENOMEM, "no memory to divide the %zu documents of a step", n);
		l->owner_cap = 2 * n;
	}
	return kf_plan_owners(l->plan, l->docs, l->step, l->size, l->owner, err);
}

/* Pass over documents that have no rows (no text, or left out), and what other processes have. */
static void skip(kf_loader *l, uint64_t first, uint64_t end)
{
	while (l->at < end && (!l->docs->rows[l->plan->order[l->at]] || (l->size > 1 && l->owner[l->at - first] != l->rank)))
		l->at++;
}

/* The documents of the step that are left, as many as fit. In the thread. */
static kf_status fill(void *arg, kf_err *err)
{
	kf_loader *l = arg;
	kf_load *to = &l->load[l->next];
	const uint64_t first = l->plan->first[l->step], end = l->plan->first[l->step + 1];
	kf_status rc;

	kf_micro_clear(&to->micro);
	to->n_docs = 0;
	if (l->size > 1 && l->at == first && (rc = divide(l, err)) != KF_OK)
		return rc;
	for (skip(l, first, end); l->at < end; l->at++, skip(l, first, end)) {
		uint64_t doc = l->plan->order[l->at];
		kf_dist_rec rec;

		if (to->micro.T > 0 && to->micro.T + (int64_t)l->docs->rows[doc] > l->most)
			break;
		kf_arena_reset(&l->arena);
		if ((rc = l->docs->get(l->docs, doc, &l->arena, &rec, err)) != KF_OK ||
		    (rc = kf_micro_add(&to->micro, l->pack, &rec, err)) != KF_OK || (rc = add_doc(to, rec.head.doc, err)) != KF_OK)
			return rc;
	}
	to->last = l->at == end;
	l->step += to->last;
	kf_micro_finish(&to->micro);
	return KF_OK;
}

kf_status kf_loader_begin(kf_loader *l, const kf_plan *plan, int64_t step, kf_err *err)
{
	l->plan = plan;
	l->step = step;
	l->at = plan->first[step];
	return kf_behind_do(l->behind, fill, l, err);
}

kf_status kf_loader_next(kf_loader *l, kf_load **out, kf_err *err)
{
	kf_status rc = kf_behind_wait(l->behind, err);

	if (rc != KF_OK)
		return rc;
	*out = &l->load[l->next];
	l->next = !l->next;
	return l->step < l->plan->steps ? kf_behind_do(l->behind, fill, l, err) : KF_OK;
}
