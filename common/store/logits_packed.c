#include "common/store/logits_packed.h"

const char *const kf_logits_packed_planes[] = {
	"heads", "ids: table", "ids: classes",
	"lp 0", "lp 1", "lp 1", "lp 1", "lp 1", "lp 1", "lp 1", "lp 1", "lp 1",
	"lp 2", "lp 3", "lp 4", "lp 5", "lp 6-7", "lp 8-9", "lp 10-",
	"ids: first", "ids: after a miss", "ids: after 0, 1", "ids: after more", "ids: first", "ids: after a miss", "ids: after 0, 1",
	"ids: after more", "ids: first", "ids: after a miss", "ids: after 0, 1", "ids: after more", "ids: first", "ids: after a miss",
	"ids: after 0, 1", "ids: after more", "ids: first", "ids: after a miss", "ids: after 0, 1", "ids: after more",
	"ids: missed", "ids: missed, bits",
	"labels", "labels", "labels", "labels", "labels: others", "lengths",
	"ce", "ce", "ce: others", "ce: others, bits", "escapes",
	"path", "path", "path", "path, bits",
	"extra counts", "extra counts", "extra counts", "extra ids: label", "extra ids", "extra lp", "extra lp", "context", NULL
};

void kf_logits_tables_free(kf_logits_tables *t)
{
	if (!t) return;
	kf_token_memory_release(&t->memory);
	kf_free(t->x);
	kf_free(t);
}

kf_status kf_logits_tables_reset(kf_logits_tables **tables, kf_err *err)
{
	kf_logits_tables *t = *tables;

	if ((!t && !(t = *tables = kf_zalloc(1, sizeof *t))) || (!t->x && !(t->x = kf_alloc(X_TABLE, sizeof *t->x))) ||
	    !kf_token_memory_reset(&t->memory))
		return kf_fail(err, KF_ENOMEM, "no memory for a codec's tables");
	for (int i = 0; i < X_TABLE; i++) t->x[i].n = 0;
	return KF_OK;
}

void kf_logits_extras_seen(x_list *x, const uint32_t *ids, uint32_t n)
{
	uint32_t old[X_LIST], m = x->n, at;

	memcpy(old, x->id, sizeof old);
	at = n < X_LIST ? n : X_LIST;
	memcpy(x->id, ids, at * sizeof *ids);
	for (uint32_t i = 0; i < m && at < X_LIST; i++) {
		bool in = false;

		for (uint32_t j = 0; j < n; j++) in |= ids[j] == old[i];
		if (!in) x->id[at++] = old[i];
	}
	x->n = at;
}

uint64_t kf_logits_packed_token_planes(void)
{
	uint64_t not = 1ull << CE | 1ull << (CE + 1) | 1ull << CE_FAR | 1ull << CE_BITS | 15ull << PATH | 3ull << EXTRA_LP;

	return ((1ull << PLANES) - 1) & ~not;
}
