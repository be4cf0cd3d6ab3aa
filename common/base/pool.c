#include "common/base/pool.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

#include "common/base/mem.h"

typedef struct { kf_pool *pool; int index; } worker;

struct kf_pool {
	int size;               /* the caller is worker 0 */
	pthread_t *thread;      /* (size - 1) */
	worker *workers;        /* (size - 1) */
	int started;
	pthread_mutex_t lock;
	pthread_cond_t work, done;
	unsigned long round;    /* counts runs: a thread works when it changes */
	int busy;               /* threads that have not finished this round */
	bool stop;
	kf_task fn;
	void *arg;
	size_t n;
	atomic_size_t next;
};

/* Which worker this thread is while it runs a task, and of which pool. */
static _Thread_local kf_pool *inside;
static _Thread_local int inside_worker;

static void drain(kf_pool *p, int w)
{
	size_t i;

	inside = p;
	inside_worker = w;
	while ((i = atomic_fetch_add_explicit(&p->next, 1, memory_order_relaxed)) < p->n) p->fn(p->arg, i, w);
	inside = NULL;
}

static void *thread_main(void *arg)
{
	worker *w = arg;
	kf_pool *p = w->pool;
	unsigned long seen = 0;

	pthread_mutex_lock(&p->lock);
	for (;;) {
		while (p->round == seen && !p->stop) pthread_cond_wait(&p->work, &p->lock);
		if (p->stop) break;
		seen = p->round;
		pthread_mutex_unlock(&p->lock);
		drain(p, w->index);
		pthread_mutex_lock(&p->lock);
		if (--p->busy == 0) pthread_cond_signal(&p->done);
	}
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

int kf_pool_cores(void)
{
	cpu_set_t set;

	if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
	return 1;
}

kf_status kf_pool_new(int n, kf_pool **out, kf_err *err)
{
	kf_pool *p;

	*out = NULL;
	if (n <= 0) n = kf_pool_cores();
	if (!(p = kf_zalloc(1, sizeof *p))) return kf_fail(err, KF_ENOMEM, "out of memory for a thread pool");
	p->size = n;
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->work, NULL);
	pthread_cond_init(&p->done, NULL);
	p->thread = kf_zalloc((size_t)n, sizeof *p->thread);
	p->workers = kf_zalloc((size_t)n, sizeof *p->workers);
	if (!p->thread || !p->workers) {
		kf_pool_free(p);
		return kf_fail(err, KF_ENOMEM, "out of memory for a pool of %d threads", n);
	}
	for (; p->started < n - 1; p->started++) {
		worker *w = &p->workers[p->started];
		int e;

		w->pool = p;
		w->index = p->started + 1;
		if ((e = pthread_create(&p->thread[p->started], NULL, thread_main, w)) != 0) {
			kf_pool_free(p);
			return kf_fail(err, KF_EIO, "cannot start thread %d of %d: %s", w->index + 1, n, strerror(e));
		}
	}
	*out = p;
	return KF_OK;
}

void kf_pool_free(kf_pool *p)
{
	if (!p) return;
	pthread_mutex_lock(&p->lock);
	p->stop = true;
	pthread_cond_broadcast(&p->work);
	pthread_mutex_unlock(&p->lock);
	for (int i = 0; i < p->started; i++) pthread_join(p->thread[i], NULL);
	pthread_cond_destroy(&p->done);
	pthread_cond_destroy(&p->work);
	pthread_mutex_destroy(&p->lock);
	kf_free(p->workers);
	kf_free(p->thread);
	kf_free(p);
}

int kf_pool_size(const kf_pool *p)
{
	return p ? p->size : 1;
}

void kf_pool_run(kf_pool *p, size_t n, kf_task fn, void *arg)
{
	if (!n) return;
	if (!p || p->size == 1 || n == 1 || inside) {
		int w = inside ? inside_worker : 0;

		for (size_t i = 0; i < n; i++) fn(arg, i, w);
		return;
	}
	pthread_mutex_lock(&p->lock);
	p->fn = fn;
	p->arg = arg;
	p->n = n;
	atomic_store(&p->next, 0);
	p->busy = p->size - 1;
	p->round++;
	pthread_cond_broadcast(&p->work);
	pthread_mutex_unlock(&p->lock);
	drain(p, 0);
	pthread_mutex_lock(&p->lock);
	while (p->busy) pthread_cond_wait(&p->done, &p->lock);
	pthread_mutex_unlock(&p->lock);
}

typedef struct {
	kf_range_task fn;
	void *arg;
	size_t n, part;
} split_job;

static void split_task(void *arg, size_t i, int w)
{
	split_job *j = arg;
	size_t begin = i * j->part, end = begin + j->part < j->n ? begin + j->part : j->n;

	if (begin < end) j->fn(j->arg, begin, end, w);
}

void kf_pool_split(kf_pool *p, size_t n, size_t grain, kf_range_task fn, void *arg)
{
	size_t parts = (size_t)kf_pool_size(p), units;
	split_job j = { fn, arg, n, 0 };

	if (!n) return;
	if (!grain) grain = 1;
	units = (n + grain - 1) / grain;
	j.part = (units + parts - 1) / parts * grain;
	kf_pool_run(p, (n + j.part - 1) / j.part, split_task, &j);
}
