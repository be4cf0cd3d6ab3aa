/* The loader: micro-batches come in order, and the next is read while the caller is at work on the one before. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <pthread.h>
#include <time.h>

#include "train/loader.h"

#define OK(call) do { kf_err e_; if ((call) != KF_OK) fail_msg("%s", e_.text); } while (0)

enum { DOCS = 12, ROWS = 4, MICRO = 3 * ROWS, WAIT = 20 };

static struct {
	kf_docs base;
	pthread_mutex_t lock;
	pthread_cond_t read;
	uint64_t n;                /* documents read so far */
	pthread_t by;              /* the thread that read last */
} docs = { .lock = PTHREAD_MUTEX_INITIALIZER, .read = PTHREAD_COND_INITIALIZER };

static kf_status get(kf_docs *d, uint64_t i, kf_arena *arena, kf_dist_rec *rec, kf_err *err)
{
	static const int32_t tokens[] = { 5, 6, 7 };
	static const uint32_t off[] = { 0, 0, 0, 0, 0 };

	(void)d, (void)arena, (void)err;
	*rec = (kf_dist_rec){ .head = { .doc = 100 + i }, .bos = true, .n = 3, .tokens = tokens, .off = off };
	pthread_mutex_lock(&docs.lock);
	docs.n++;
	docs.by = pthread_self();
	pthread_cond_broadcast(&docs.read);
	pthread_mutex_unlock(&docs.lock);
	return KF_OK;
}

/* Whether n documents are read soon, by somebody else. */
static bool read_soon(uint64_t n)
{
	struct timespec until;
	bool in_time;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += WAIT;
	pthread_mutex_lock(&docs.lock);
	while (docs.n < n && pthread_cond_timedwait(&docs.read, &docs.lock, &until) == 0) {}
	in_time = docs.n >= n && !pthread_equal(docs.by, pthread_self());
	pthread_mutex_unlock(&docs.lock);
	return in_time;
}

static void ahead(void **state)
{
	const kf_pack pack = { .V = 10, .context = 100, .bos = 1 };
	uint32_t rows[DOCS];
	kf_plan plan = { 0 };
	kf_loader l;
	kf_load *load;
	uint64_t had = 0;
	int loads = 0;

	(void)state;
	for (int i = 0; i < DOCS; i++) rows[i] = ROWS;
	docs.base = (kf_docs){ .n = DOCS, .rows = rows, .total = DOCS * ROWS, .get = get };
	OK(kf_plan_epoch(&plan, &docs.base, 2 * MICRO, 1, 1, &e_));
	assert_int_equal(plan.steps, 2);
	OK(kf_loader_init(&l, &docs.base, &pack, MICRO, 0, 1, &e_));
	OK(kf_loader_begin(&l, &plan, 0, &e_));
	for (int64_t step = 0; step < plan.steps; step += load->last) {
		OK(kf_loader_next(&l, &load, &e_));
		loads++;
		assert_int_equal(load->n_docs, 3);
		for (size_t i = 0; i < 3; i++) assert_int_equal(load->docs[i], 100 + plan.order[had++]);
		/* this is where the caller computes: meanwhile the next three are read, also of the next step */
		if (had < DOCS && !read_soon(had + 3)) fail_msg("after load %d nobody reads ahead", loads);
		assert_int_equal(load->micro.T, MICRO);
	}
	assert_int_equal(loads, 4);
	kf_loader_release(&l);
	kf_plan_release(&plan);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(ahead) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
