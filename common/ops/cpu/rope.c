/* Rotary positions, split over the rows. */
#include "common/ops/cpu/cpu.h"
#include "common/ops/cpu/state.h"
#include "common/ops/ref/ref.h"

#include <math.h>
#include <string.h>

enum { FLOATS = 1 << 15 };  /* fewer than this in all: one thread */

typedef struct {
	float *v, *table;       /* table: (positions, R): R/2 cosines, R/2 sines */
	const kf_rotary *r;
	const int32_t *offset, *first;
	int S, heads, D;
	float sign;
} rope_job;

static void table_task(void *arg, size_t begin, size_t end, int worker)
{
	const rope_job *j = arg;
	const int half = j->r->R / 2;

	(void)worker;
	for (size_t p = begin; p < end; p++)
		for (int i = 0; i < half; i++) {
			const float angle = (float)p * j->r->inv_freq[i]; /* a float product: see ref/rope.c */
			float *row = j->table + p * (size_t)j->r->R;

			row[i] = (float)cos(angle) * j->r->scale;
			row[i + half] = (float)sin(angle) * j->r->scale;
		}
}

/* Cosines and sines of n positions, kept from call to call: a model has one or two sets of
 * frequencies and asks for them twice a layer. NULL: no memory. */
static const float *rope_table(kf_exec *x, const kf_rotary *r, size_t n)
{
	kf_cpu_rope_table *t = NULL, *set = kf_cpu_rope_tables(x);
	const size_t half = (size_t)r->R / 2;
	rope_job j = { .r = r };

	for (int i = 0; i < KF_CPU_ROPES && !t; i++)
		if (set[i].R == r->R && set[i].scale == r->scale &&
			memcmp(set[i].inv_freq, r->inv_freq, half * sizeof *r->inv_freq) == 0)
			t = &set[i];
	if (t && t->n >= n) return t->table;
	if (!t) {
		t = &set[0];
		for (int i = 1; i < KF_CPU_ROPES && t->R; i++)
			if (set[i].n < t->n) t = &set[i];   /* a free one, or the shortest makes room */
	}
	n = (n + 255) / 256 * 256;
	kf_free(t->table);
	kf_free(t->inv_freq);
	*t = (kf_cpu_rope_table){ 0 };
	t->inv_freq = kf_alloc(half, sizeof *r->inv_freq);
	j.table = kf_alloc(n * (size_t)r->R, sizeof *j.table);
	if (!t->inv_freq || !j.table) {
		kf_free(j.table);
		kf_free(t->inv_freq);
		t->inv_freq = NULL;
		return NULL;
	}
	memcpy(t->inv_freq, r->inv_freq, half * sizeof *r->inv_freq);
	t->table = j.table;
	t->R = r->R;
	t->scale = r->scale;
	t->n = n;
	kf_pool_split(x->pool, n, 16, table_task, &j);
	return t->table;
}

static void rope_task(void *arg, size_t begin, size_t end, int worker)
{
	const rope_job *j = arg;
	const int half = j->r->R / 2;
	int s = 0;

	(void)worker;
	for (size_t t = begin; t < end; t++) {
		const float *restrict cs, *restrict sn;

		while ((size_t)j->offset[s + 1] <= t) s++;
		cs = j->table + (t - (size_t)j->offset[s] + (j->first ? (size_t)j->first[s] : 0)) * (size_t)j->r->R;
		sn = cs + half;
		for (int h = 0; h < j->heads; h++) {
			float *restrict a = j->v + (t * (size_t)j->heads + (size_t)h) * (size_t)j->D,
				*restrict b = a + half;

			for (int i = 0; i < half; i++) {
				const float u = a[i], w = b[i], n = j->sign * sn[i];

				a[i] = u * cs[i] - w * n;
				b[i] = w * cs[i] + u * n;
			}
		}
	}
}

static void turn(kf_exec *x, rope_job *j, bool inverse)
{
	const int32_t *offset = j->offset;
	int32_t longest = 0;

	for (int s = 0; s < j->S; s++) {
		const int32_t n = offset[s + 1] - offset[s] + (j->first ? j->first[s] : 0);

		if (n > longest) longest = n;
	}
	if (!longest) return;
	if (!(j->table = (float *)rope_table(x, j->r, (size_t)longest))) {
		if (j->first) kf_ref_rope_after(x, j->v, j->r, offset, j->first, j->S, j->heads, j->D);
		else kf_ref_rope(x, j->v, j->r, offset, j->S, j->heads, j->D, inverse);
		return;
	}
	kf_pool_split((size_t)offset[j->S] * (size_t)j->heads * (size_t)j->D < FLOATS ? NULL : x->pool, (size_t)offset[j->S], 1,
		rope_task, j);
}

void kf_cpu_rope(kf_exec *x, float *v, const kf_rotary *r, const int32_t *offset, int S, int heads, int D,
	bool inverse)
{
	rope_job j = { .v = v, .r = r, .offset = offset, .S = S, .heads = heads, .D = D, .sign = inverse ? -1.f : 1.f };

	turn(x, &j, inverse);
}

void kf_cpu_rope_after(kf_exec *x, float *v, const kf_rotary *r, const int32_t *offset, const int32_t *first, int S,
	int heads, int D)
{
	rope_job j = { .v = v, .r = r, .offset = offset, .first = first, .S = S, .heads = heads, .D = D, .sign = 1 };

	turn(x, &j, false);
}
