/* Micro-batches by hand; the plan of an epoch by its properties. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>

#include "train/data.h"

#define OK(call) do { kf_err e_; if ((call) != KF_OK) fail_msg("%s", e_.text); } while (0)

/* Three tokens; candidates at positions 0, 2 and 3 (what follows the text). */
static const int32_t TOKENS[] = { 5, 6, 7 };
static const uint32_t OFF[] = { 0, 1, 1, 3, 4 };
static const int32_t IDS[] = { 5, 7, 8, 9 };

static kf_dist_rec record(bool bos, const float *lp)
{
	return (kf_dist_rec){ .bos = bos, .n = 3, .tokens = TOKENS, .off = OFF, .ids = IDS, .lp = lp };
}

static void test_rows_with_bos(void **state)
{
	const float lp[] = { logf(0.5f), logf(0.25f), logf(0.5f), logf(0.125f) };
	const kf_pack pack = { .V = 10, .context = 100, .bos = 1, .fusion = true };
	kf_dist_rec rec = record(true, lp);
	kf_micro m = { 0 };

	(void)state;
	OK(kf_micro_add(&m, &pack, &rec, &e_));
	OK(kf_micro_add(&m, &pack, &rec, &e_));
	kf_micro_finish(&m);
	assert_int_equal(m.batch.T, 8);
	assert_int_equal(m.batch.S, 2);
	for (int d = 0; d < 2; d++) {
		const int32_t in[] = { 1, 5, 6, 7 }, label[] = { 5, 6, 7, -1 };
		const uint32_t n[] = { 1, 0, 2, 1 };

		assert_int_equal(m.batch.offset[d + 1], 4 * (d + 1));
		for (int r = 0; r < 4; r++) {
			assert_int_equal(m.batch.tokens[4 * d + r], in[r]);
			assert_int_equal(m.query.labels[4 * d + r], label[r]);
			assert_int_equal(m.query.off[4 * d + r + 1] - m.query.off[4 * d + r], n[r]);
			assert_true(m.query.weight[4 * d + r] == 1);
		}
	}
	assert_int_equal(m.query.ids[3], 9);
	assert_float_equal(m.query.q[1], 0.25f, 1e-6f);
	kf_micro_release(&m);
}

/* Without BOS nothing predicts position 0. */
static void test_rows_without_bos(void **state)
{
	const float lp[] = { logf(0.5f), logf(0.25f), logf(0.5f), logf(0.125f) }, weight[] = { 0.1f, 0.2f, 0.3f, 0.4f };
	const kf_pack pack = { .V = 10, .context = 2, .bos = -1, .fusion = true };
	kf_dist_rec rec = record(false, lp);
	kf_micro m = { 0 };

	(void)state;
	rec.weight = weight;
	OK(kf_micro_add(&m, &pack, &rec, &e_));
	kf_micro_finish(&m);
	assert_int_equal(m.batch.T, 3);
	assert_int_equal(m.batch.S, 2);                    /* cut at the context of 2 */
	assert_int_equal(m.batch.offset[1], 2);
	assert_int_equal(m.batch.offset[2], 3);
	assert_int_equal(m.query.labels[0], 6);
	assert_int_equal(m.query.labels[1], 7);
	assert_int_equal(m.query.labels[2], -1);
	assert_int_equal(m.query.off[1], 0);
	assert_int_equal(m.query.off[2], 2);
	assert_int_equal(m.query.off[3], 3);
	assert_true(m.query.weight[0] == 0.2f && m.query.weight[2] == 0.4f);
	kf_micro_release(&m);
}

/* What quantisation lifted above 1 comes back to 1; without fusion there are no candidates. */
static void test_candidates(void **state)
{
	const float lp[] = { 0, logf(0.7f), logf(0.4f), -INFINITY };
	kf_pack pack = { .V = 10, .context = 100, .bos = 1, .fusion = true };
	kf_dist_rec rec = record(true, lp);
	kf_micro m = { 0 };

	(void)state;
	OK(kf_micro_add(&m, &pack, &rec, &e_));
	assert_float_equal(m.q[1] + m.q[2], 1, 1e-6f);
	assert_float_equal(m.q[1] / m.q[2], 7.0f / 4, 1e-5f);
	assert_int_equal(m.n_cand, 3);
	kf_micro_clear(&m);
	pack.fusion = false;
	OK(kf_micro_add(&m, &pack, &rec, &e_));
	assert_int_equal(m.n_cand, 0);
	assert_int_equal(m.T, 4);
	kf_micro_release(&m);
}

/* Context is read and predicts what comes after it, but is itself no label. */
static void test_context(void **state)
{
	const float lp[] = { 0, logf(0.25f), logf(0.5f), logf(0.125f) };
	static const uint8_t context[] = { 1, 1, 0, 1 };
	static const uint32_t off[] = { 0, 0, 0, 2, 2 };
	const kf_pack pack = { .V = 10, .context = 100, .bos = 1, .fusion = true };
	kf_dist_rec rec = record(true, lp);
	kf_micro m = { 0 };

	(void)state;
	rec.context = context;
	rec.off = off;
	OK(kf_micro_add(&m, &pack, &rec, &e_));
	rec.bos = false;
	OK(kf_micro_add(&m, &pack, &rec, &e_));
	kf_micro_finish(&m);
	assert_int_equal(m.batch.T, 7);
	static const int32_t in[] = { 1, 5, 6, 7, 5, 6, 7 }, label[] = { -1, -1, 7, -1, -1, 7, -1 };
	static const uint32_t n[] = { 0, 0, 2, 0, 0, 2, 0 };
	for (int r = 0; r < 7; r++) {
		assert_int_equal(m.batch.tokens[r], in[r]);
		assert_int_equal(m.query.labels[r], label[r]);
		assert_int_equal(m.query.off[r + 1] - m.query.off[r], n[r]);
	}
	kf_micro_release(&m);
}

static void test_refuses(void **state)
{
	const float lp[] = { -1, -1, -1, -1 };
	kf_pack pack = { .V = 9, .context = 100, .bos = 1, .fusion = true };
	kf_dist_rec rec = record(true, lp);
	kf_micro m = { 0 };
	kf_err err;

	(void)state;
	assert_int_equal(kf_micro_add(&m, &pack, &rec, &err), KF_EDATA);    /* candidate 9 */
	assert_non_null(strstr(err.text, "id 9"));
	kf_micro_clear(&m);
	pack.V = 7;
	pack.fusion = false;
	assert_int_equal(kf_micro_add(&m, &pack, &rec, &err), KF_EDATA);    /* token 7 */
	kf_micro_clear(&m);
	pack.V = 10;
	pack.bos = -1;
	assert_int_equal(kf_micro_add(&m, &pack, &rec, &err), KF_EMISMATCH);
	kf_micro_release(&m);
}

static void check_plan(uint32_t n, uint32_t most, int64_t batch)
{
	uint32_t *rows = kf_alloc(n, sizeof *rows);
	uint8_t *seen = kf_zalloc(n, 1);
	kf_docs d = { .n = n, .rows = rows };
	kf_plan a = { 0 }, b = { 0 };
	uint64_t largest = 0, smallest = UINT64_MAX;

	for (uint32_t i = 0; i < n; i++) {
		rows[i] = i % 7 == 3 ? 0 : 1 + i * 37 % most;
		d.total += rows[i];
	}
	OK(kf_plan_epoch(&a, &d, batch, 7, 1, &e_));
	OK(kf_plan_epoch(&b, &d, batch, 7, 1, &e_));
	assert_int_equal(a.steps, kf_plan_steps(&d, batch));
	assert_memory_equal(a.order, b.order, n * sizeof *a.order);
	assert_int_equal(a.first[0], 0);
	assert_int_equal(a.first[a.steps], n);
	for (int64_t s = 0; s < a.steps; s++) {
		uint64_t sum = 0;

		for (uint64_t i = a.first[s]; i < a.first[s + 1]; i++) {
			assert_int_equal(seen[a.order[i]]++, 0);
			sum += rows[a.order[i]];
		}
		assert_true(sum > 0);
		largest = sum > largest ? sum : largest;
		smallest = sum < smallest ? sum : smallest;
	}
	for (uint32_t i = 0; i < n; i++)
		assert_int_equal(seen[i], 1);
	assert_true(largest <= (uint64_t)batch + most);
	if ((uint64_t)batch > 4 * most && a.steps > 1)
		assert_true(largest - smallest <= 2 * most);
	for (int k = 0; k < 2; k++) {   /* another epoch; another seed */
		bool differs = false;

		OK(kf_plan_epoch(&b, &d, batch, k ? 8 : 7, k ? 1 : 2, &e_));
		for (uint32_t i = 0; i < n; i++)
			differs |= a.order[i] != b.order[i];
		assert_true(differs);
	}
	kf_plan_release(&a);
	kf_plan_release(&b);
	kf_free(rows);
	kf_free(seen);
}

/* Every document of a step has one owner, and no process has more than another by a document. */
static void check_owners(uint32_t docs, uint32_t most, int64_t batch, int n)
{
	uint32_t *rows = kf_alloc(docs, sizeof *rows);
	int32_t *owner = kf_alloc(docs, sizeof *owner), *again = kf_alloc(docs, sizeof *again);
	kf_docs d = { .n = docs, .rows = rows };
	kf_plan p = { 0 };

	for (uint32_t i = 0; i < docs; i++) {
		rows[i] = i % 7 == 3 ? 0 : 1 + i * 37 % most;
		d.total += rows[i];
	}
	OK(kf_plan_epoch(&p, &d, batch, 7, 1, &e_));
	for (int64_t s = 0; s < p.steps; s++) {
		const size_t count = (size_t)(p.first[s + 1] - p.first[s]);
		uint64_t has[8] = { 0 }, least = UINT64_MAX, largest = 0;

		OK(kf_plan_owners(&p, &d, s, n, owner, &e_));
		OK(kf_plan_owners(&p, &d, s, n, again, &e_));
		assert_memory_equal(owner, again, count * sizeof *owner);
		for (size_t i = 0; i < count; i++) {
			assert_in_range(owner[i], 0, n - 1);
			has[owner[i]] += rows[p.order[p.first[s] + i]];
		}
		for (int k = 0; k < n; k++) {
			least = has[k] < least ? has[k] : least;
			largest = has[k] > largest ? has[k] : largest;
		}
		assert_true(largest - least <= most);
	}
	kf_plan_release(&p);
	kf_free(rows);
	kf_free(owner);
	kf_free(again);
}

static void test_owners(void **state)
{
	(void)state;
	check_owners(1000, 100, 2048, 2);
	check_owners(1000, 100, 2048, 7);
	check_owners(50, 100, 10, 4);        /* fewer documents than processes */
	check_owners(17, 3, 1, 8);
}

static void test_plan(void **state)
{
	(void)state;
	check_plan(1000, 100, 2048);
	check_plan(1000, 100, 10000000);
	check_plan(50, 100, 10);         /* documents larger than the batch: one a step */
	check_plan(17, 3, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rows_with_bos),
		cmocka_unit_test(test_rows_without_bos),
		cmocka_unit_test(test_candidates),
		cmocka_unit_test(test_context),
		cmocka_unit_test(test_refuses),
		cmocka_unit_test(test_plan),
		cmocka_unit_test(test_owners),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
