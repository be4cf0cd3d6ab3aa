#include "common/base/behind.h"

#include <pthread.h>
#include <stdbool.h>
#include <string.h>

#include "common/base/mem.h"

struct kf_behind {
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	kf_behind_fn fn;       /* to do or being done; NULL: idle */
	void *arg;
	bool over;
	kf_status rc;          /* of the first that failed */
	kf_err err;
};

static void *thread_main(void *arg)
{
	struct kf_behind *b = arg;

	pthread_mutex_lock(&b->lock);
	for (;;) {
		while (!b->fn && !b->over) pthread_cond_wait(&b->changed, &b->lock);
		if (!b->fn) break;
		pthread_mutex_unlock(&b->lock);
		/* nobody else writes rc and err while fn is set */
		b->rc = b->fn(b->arg, &b->err);
		pthread_mutex_lock(&b->lock);
		b->fn = NULL;
		pthread_cond_broadcast(&b->changed);
	}
	pthread_mutex_unlock(&b->lock);
	return NULL;
}

kf_status kf_behind_new(kf_behind **out, kf_err *err)
{
	kf_behind *b = kf_zalloc(1, sizeof *b);
	int e;

	*out = NULL;
	if (!b) return kf_fail(err, KF_ENOMEM, "no memory for a thread");
	pthread_mutex_init(&b->lock, NULL);
	pthread_cond_init(&b->changed, NULL);
	if ((e = pthread_create(&b->thread, NULL, thread_main, b)) != 0) {
		pthread_cond_destroy(&b->changed);
		pthread_mutex_destroy(&b->lock);
		kf_free(b);
		return kf_fail(err, KF_EIO, "cannot start a thread: %s", strerror(e));
	}
	*out = b;
	return KF_OK;
}

kf_status kf_behind_wait(kf_behind *b, kf_err *err)
{
	kf_status rc;

	pthread_mutex_lock(&b->lock);
	while (b->fn) pthread_cond_wait(&b->changed, &b->lock);
	rc = b->rc;
	if (rc != KF_OK) *err = b->err;
	pthread_mutex_unlock(&b->lock);
	return rc;
}

kf_status kf_behind_do(kf_behind *b, kf_behind_fn fn, void *arg, kf_err *err)
{
	kf_status rc = kf_behind_wait(b, err);

	if (rc != KF_OK) return rc;
	pthread_mutex_lock(&b->lock);
	b->fn = fn;
	b->arg = arg;
	pthread_cond_broadcast(&b->changed);
	pthread_mutex_unlock(&b->lock);
	return KF_OK;
}

void kf_behind_free(kf_behind *b)
{
	if (!b) return;
	pthread_mutex_lock(&b->lock);
	b->over = true;
	pthread_cond_broadcast(&b->changed);
	pthread_mutex_unlock(&b->lock);
	pthread_join(b->thread, NULL);
	pthread_cond_destroy(&b->changed);
	pthread_mutex_destroy(&b->lock);
	kf_free(b);
}
