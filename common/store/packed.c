#include "common/store/packed.h"

bool kf_token_memory_reset(kf_token_memory *m)
{
	if (!m->length && (!kf_rows_init(&m->rows) || !(m->length = kf_alloc(KF_LENGTH_TABLE, sizeof *m->length)))) {
		kf_token_memory_release(m);
		return false;
	}
	kf_rows_reset(&m->rows);
	memset(m->length, 0, KF_LENGTH_TABLE * sizeof *m->length);
	return true;
}

void kf_token_memory_release(kf_token_memory *m)
{
	kf_rows_release(&m->rows);
	kf_free(m->length);
	*m = (kf_token_memory){ .length = NULL };
}

kf_status kf_plane_reader_init(kf_plane_reader *r, const kf_buf *planes, int n, int gaps, int classes, int over,
	int miss_bits, kf_token_memory *memory, kf_arena *a, kf_err *err)
{
	for (int i = 0; i < n; i++) {
		r->at[i] = planes[i].data;
		r->end[i] = planes[i].data + planes[i].len;
	}
	r->over = kf_cur_of(planes[over].data, planes[over].len);
	r->miss_bits = kf_bits_from(&planes[miss_bits]);
	r->memory = memory;
	r->bad = false;
	return kf_idtable_decode(&planes[gaps], &planes[classes], a, &r->table, &r->n_table, err);
}
