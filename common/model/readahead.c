#include "common/model/readahead.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/base/mem.h"
#include "common/base/progress.h"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22   /* Linux 5.14 */
#endif

enum {
	STEP = 4 << 20,             /* bytes made present at a time */
	AHEAD = 8,                  /* steps the disk is told of beforehand, so that it always has work */
	NEAR = 64 << 10             /* rows nearer than this are read with what is between them */
};

struct kf_reader {
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t work, idle;
	const kf_tensor **queue;    /* (cap) a ring: n from head on */
	size_t head, n, cap;
	bool busy, stop;
	kf_status rc;               /* of the first tensor that could not be read */
	kf_err err;
	kf_reader_stats stats;
};

static uintptr_t page_size(void) { return (uintptr_t)sysconf(_SC_PAGESIZE); }

/* The pages that hold bytes [from, from + n). */
static void pages(const uint8_t *from, size_t n, uintptr_t *begin, uintptr_t *end)
{
	uintptr_t page = page_size();

	*begin = (uintptr_t)from / page * page;
	*end = ((uintptr_t)from + n + page - 1) / page * page;
}

static size_t bytes_of(const kf_tensor *t)
{
	return kf_dtype_row_bytes(t->dtype, t->cols) * t->rows;
}

static bool stopped(kf_reader *r)
{
	bool stop;

	pthread_mutex_lock(&r->lock);
	stop = r->stop;
	pthread_mutex_unlock(&r->lock);
	return stop;
}

/* False where the file has no such pages any more. */
static bool make_present(uintptr_t from, uintptr_t to)
{
	if (madvise((void *)from, to - from, MADV_POPULATE_READ) == 0) return true;
	if (errno == EFAULT || errno == EIO) return false;
	/* An older kernel: touching the pages does it (where they cannot be read that is as fatal as any use of them). */
	for (uintptr_t p = from; p < to; p += page_size()) (void)*(const volatile uint8_t *)p;
	return true;
}

static kf_status fetch(kf_reader *r, const kf_tensor *t, kf_err *err)
{
	uintptr_t begin, end, told;

	pages(t->data, bytes_of(t), &begin, &end);
	told = begin;
	for (uintptr_t p = begin; p < end; p += STEP) {
		const uintptr_t to = end - p > STEP ? p + STEP : end;

		while (told < end && told < p + (uintptr_t)AHEAD * STEP) {
			const uintptr_t upto = end - told > STEP ? told + STEP : end;

			madvise((void *)told, upto - told, MADV_WILLNEED);   /* a hint: a refusal costs time only */
			told = upto;
		}
		if (stopped(r)) return KF_OK;
		if (!make_present(p, to))
			return kf_fail(err, KF_EIO, "cannot read %s from the model's file: it has become shorter, or its disk failed",
				t->name);
	}
	return KF_OK;
}

static void *thread_main(void *arg)
{
	kf_reader *r = arg;

	pthread_mutex_lock(&r->lock);
	for (;;) {
		const kf_tensor *t;
		double from = kf_now();
		kf_status rc;
		kf_err err;

		while (!r->n && !r->stop) {
			pthread_cond_wait(&r->work, &r->lock);
			from = kf_now();
		}
		if (r->stop) break;
		t = r->queue[r->head];
		r->head = (r->head + 1) % r->cap;
		r->n--;
		r->busy = true;
		pthread_mutex_unlock(&r->lock);
		rc = fetch(r, t, &err);
		pthread_mutex_lock(&r->lock);
		r->busy = false;
		r->stats.bytes += bytes_of(t);
		r->stats.reading += kf_now() - from;
		if (rc != KF_OK && r->rc == KF_OK) {
			r->rc = rc;
			r->err = err;
		}
		if (!r->n) pthread_cond_broadcast(&r->idle);
	}
	pthread_mutex_unlock(&r->lock);
	return NULL;
}

kf_status kf_reader_new(kf_reader **out, kf_err *err)
{
	kf_reader *r = kf_zalloc(1, sizeof *r);

	*out = NULL;
	if (!r) return kf_fail(err, KF_ENOMEM, "no memory for a thread that reads ahead");
	pthread_mutex_init(&r->lock, NULL);
	pthread_cond_init(&r->work, NULL);
	pthread_cond_init(&r->idle, NULL);
	if (pthread_create(&r->thread, NULL, thread_main, r)) {
		pthread_cond_destroy(&r->idle);
		pthread_cond_destroy(&r->work);
		pthread_mutex_destroy(&r->lock);
		kf_free(r);
		return kf_fail(err, KF_ENOMEM, "cannot start a thread that reads ahead");
	}
	*out = r;
	return KF_OK;
}

void kf_reader_free(kf_reader *r)
{
	if (!r) return;
	pthread_mutex_lock(&r->lock);
	r->stop = true;
	pthread_cond_signal(&r->work);
	pthread_mutex_unlock(&r->lock);
	pthread_join(r->thread, NULL);
	pthread_cond_destroy(&r->idle);
	pthread_cond_destroy(&r->work);
	pthread_mutex_destroy(&r->lock);
	kf_free(r->queue);
	kf_free(r);
}

/* Room for one more; with the lock. */
static bool reserve(kf_reader *r)
{
	size_t cap = r->cap ? 2 * r->cap : 64;
	const kf_tensor **q;

	if (r->n < r->cap) return true;
	if (!(q = kf_alloc(cap, sizeof *q))) return false;
	for (size_t i = 0; i < r->n; i++) q[i] = r->queue[(r->head + i) % r->cap];
	kf_free(r->queue);
	r->queue = q;
	r->head = 0;
	r->cap = cap;
	return true;
}

kf_status kf_reader_want(kf_reader *r, const kf_tensor *t, bool first, kf_err *err)
{
	bool room;

	pthread_mutex_lock(&r->lock);
	room = reserve(r);
	if (room && first) {
		r->head = (r->head + r->cap - 1) % r->cap;
		r->queue[r->head] = t;
	} else if (room) {
		r->queue[(r->head + r->n) % r->cap] = t;
	}
	if (room) {
		r->n++;
		pthread_cond_signal(&r->work);
	}
	pthread_mutex_unlock(&r->lock);
	return room ? KF_OK : kf_fail(err, KF_ENOMEM, "no memory to read %s ahead", t->name);
}

kf_status kf_reader_wait(kf_reader *r, kf_err *err)
{
	double from = kf_now();
	kf_status rc;

	pthread_mutex_lock(&r->lock);
	while (r->n || r->busy) pthread_cond_wait(&r->idle, &r->lock);
	r->stats.waited += kf_now() - from;
	rc = r->rc;
	if (rc != KF_OK) *err = r->err;
	pthread_mutex_unlock(&r->lock);
	return rc;
}

kf_reader_stats kf_reader_get_stats(kf_reader *r)
{
	kf_reader_stats s;

	pthread_mutex_lock(&r->lock);
	s = r->stats;
	pthread_mutex_unlock(&r->lock);
	return s;
}

void kf_reader_hint_rows(const kf_tensor *t, const int32_t *index, size_t n)
{
	const size_t row = kf_dtype_row_bytes(t->dtype, t->cols);
	uintptr_t begin, end, next, to;

	if (!n) return;
	pages(t->data + (size_t)index[0] * row, row, &begin, &end);
	for (size_t i = 1; i < n; i++) {
		pages(t->data + (size_t)index[i] * row, row, &next, &to);
		if (next > end + NEAR) {
			madvise((void *)begin, end - begin, MADV_WILLNEED);
			begin = next;
		}
		end = to;
	}
	madvise((void *)begin, end - begin, MADV_WILLNEED);
}

uint64_t kf_reader_cached(const kf_tensor *t)
{
	const uintptr_t page = page_size();
	unsigned char present[1024];
	uintptr_t begin, end;
	uint64_t count = 0;

	pages(t->data, bytes_of(t), &begin, &end);
	for (uintptr_t p = begin; p < end; ) {
		const uintptr_t to = end - p > sizeof present * page ? p + sizeof present * page : end;

		if (mincore((void *)p, to - p, present)) return 0;
		for (size_t i = 0; i < (to - p) / page; i++) count += present[i] & 1;
		p = to;
	}
	return count * page;
}
