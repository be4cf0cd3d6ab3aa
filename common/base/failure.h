/* The failure of many items that run on several threads: the one of the lowest item, whichever came first. */
#ifndef KF_BASE_FAILURE_H
#define KF_BASE_FAILURE_H

#include <pthread.h>
#include <stdbool.h>

#include "common/base/status.h"

typedef struct {
	pthread_mutex_t lock;
	kf_status rc;              /* KF_OK: none so far; read it without the lock once the threads are done */
	int item;
	kf_err err;
} kf_failure;

#define KF_FAILURE { .lock = PTHREAD_MUTEX_INITIALIZER }

void kf_failure_note(kf_failure *f, int item, kf_status rc, const kf_err *err);
/* Whether an item failed, so that the others may stop. */
bool kf_failure_seen(kf_failure *f);

#endif
