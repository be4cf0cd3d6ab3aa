#include "merge/chunk.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

/* Elements: what a thread works on stays in its cache. dare's randomness depends on it. */
#define CHUNK 8192

static uint64_t rows_of(uint64_t cols)
{
	return cols >= CHUNK ? 1 : CHUNK / cols;
}

kf_status kf_merger_new(kf_pool *pool, int n, uint64_t rows, uint64_t cols, kf_merger **out, kf_err *err)
{
	kf_merger *m = kf_zalloc(1, sizeof *m);
	int workers = kf_pool_size(pool);
	bool ok = m && (m->lane = kf_zalloc((size_t)workers, sizeof *m->lane));

	*out = NULL;
	if (ok) {
		m->pool = pool;
		m->n = n;
		m->cap = cols > CHUNK ? (size_t)cols : CHUNK;
		/* no tensor has more: those with fewer columns have more rows a chunk */
		m->max_chunks = (size_t)(rows / rows_of(cols) + 1);
		m->part = kf_alloc(m->max_chunks, KF_MERGE_PARTS((size_t)n) * sizeof *m->part);
		m->ties = kf_alloc(m->max_chunks, (size_t)n * sizeof *m->ties);
		ok = m->part && m->ties;
	}
	for (int w = 0; ok && w < workers; w++) {
		struct lane *l = &m->lane[w];
		l->values = kf_alloc((size_t)n + 1, m->cap * sizeof *l->values);
		l->acc = kf_alloc(KF_ACCS, m->cap * sizeof *l->acc);
		l->keys = kf_alloc(m->cap, sizeof *l->keys);
		l->count = kf_zalloc((size_t)n, sizeof *l->count);
		l->bins = kf_alloc((size_t)n, KF_BINS * sizeof *l->bins);
		ok = l->values && l->acc && l->keys && l->count && l->bins;
		for (int j = 0; ok && j < n; j++) l->row[j] = l->values + (size_t)(j + 1) * m->cap;
	}
	if (!ok) {
		kf_merger_free(m);
		return kf_fail(err, KF_ENOMEM, "no memory to merge %d models", n);
	}
	*out = m;
	return KF_OK;
}

void kf_merger_free(kf_merger *m)
{
	if (!m) return;
	for (int w = 0; m->lane && w < kf_pool_size(m->pool); w++) {
		kf_free(m->lane[w].values);
		kf_free(m->lane[w].acc);
		kf_free(m->lane[w].keys);
		kf_free(m->lane[w].count);
		kf_free(m->lane[w].bins);
	}
	kf_free(m->lane);
	kf_free(m->part);
	kf_free(m->ties);
	kf_free(m);
}

void kf_merge_begin(kf_merger *m, const kf_merge_input *in)
{
	m->in = *in;
	m->rows = in->model[0].rows;
	m->cols = in->model[0].cols;
	m->chunk_rows = rows_of(m->cols);
	m->chunks = (size_t)((m->rows + m->chunk_rows - 1) / m->chunk_rows);
	m->checked = false;
	for (int w = 0; w < kf_pool_size(m->pool); w++)
		memset(m->lane[w].count, 0, (size_t)m->n * sizeof *m->lane[w].count);
}

static bool all_finite(const float *x, size_t n)
{
	uint32_t bad = 0;

	for (size_t i = 0; i < n; i++) {
		union { float f; uint32_t u; } v = { x[i] };
		bad |= (v.u & 0x7f800000u) == 0x7f800000u;
	}
	return !bad;
}

struct job { kf_merger *m; kf_chunk_fn fn; void *arg; };

static void task(void *arg, size_t i, int worker)
{
	const struct job *job = arg;
	kf_merger *m = job->m;
	struct lane *l = &m->lane[worker];
	uint64_t row = (uint64_t)i * m->chunk_rows, left = m->rows - row;
	uint64_t rows = left < m->chunk_rows ? left : m->chunk_rows;
	kf_chunk c = { .index = i, .at = row * m->cols, .n = (size_t)(rows * m->cols), .d = l->row,
		.keys = l->keys, .part = m->part + i * KF_MERGE_PARTS((size_t)m->n), .count = l->count,
		.worker = worker };

	for (int k = 0; k < KF_ACCS; k++) c.acc[k] = l->acc + (size_t)k * m->cap;
	memset(c.part, 0, KF_MERGE_PARTS((size_t)m->n) * sizeof *c.part);
	if (m->in.pivot) {
		kf_tensor_rows(m->in.pivot, row, rows, l->values);
		c.p = l->values;
		if (!m->checked && !all_finite(c.p, c.n)) l->bad = true;
	}
	for (int j = 0; j < m->in.n; j++) {
		float *restrict d = l->row[j];
		const float *restrict p = c.p;
		kf_tensor_rows(&m->in.model[j], row, rows, d);
		if (!m->checked && !all_finite(d, c.n)) l->bad = true;
		if (p) for (size_t k = 0; k < c.n; k++) d[k] -= p[k];
	}
	if (!l->bad) job->fn(job->arg, &c);
}

/* The first value that is not finite: of the pivot, then of each model in turn. */
static kf_status tell_bad(kf_merger *m, kf_merge_facts *facts, kf_err *err)
{
	float *x = m->lane[0].values;

	for (int j = -1; j < m->in.n; j++) {
		const kf_tensor *t = j < 0 ? m->in.pivot : &m->in.model[j];
		for (uint64_t r = 0; t && r < m->rows; r++) {
			kf_tensor_rows(t, r, 1, x);
			for (uint64_t c = 0; c < m->cols; c++) {
				if (isfinite(x[c])) continue;
				facts->bad = j;
				facts->bad_at = r * m->cols + c;
				return kf_fail(err, KF_EDATA, "tensor %s has %s at row %" PRIu64 ", column %" PRIu64,
					m->in.name, isnan(x[c]) ? "a NaN" : "an infinite value", r, c);
			}
		}
	}
	return kf_fail(err, KF_EDATA, "tensor %s changed while it was read", m->in.name);
}

kf_status kf_merge_pass(kf_merger *m, kf_chunk_fn fn, void *arg, kf_merge_facts *facts, kf_err *err)
{
	struct job job = { m, fn, arg };
	bool bad = false;

	for (int w = 0; w < kf_pool_size(m->pool); w++) m->lane[w].bad = false;
	kf_pool_run(m->pool, m->chunks, task, &job);
	for (int w = 0; w < kf_pool_size(m->pool); w++) bad |= m->lane[w].bad;
	if (bad) return tell_bad(m, facts, err);
	m->checked = true;
	return KF_OK;
}

double kf_merge_sum(const kf_merger *m, int which)
{
	double sum = 0;

	for (size_t i = 0; i < m->chunks; i++) sum += m->part[i * KF_MERGE_PARTS((size_t)m->n) + (size_t)which];
	return sum;
}

uint64_t kf_merge_count(const kf_merger *m, int model)
{
	uint64_t n = 0;

	for (int w = 0; w < kf_pool_size(m->pool); w++) n += m->lane[w].count[model];
	return n;
}
