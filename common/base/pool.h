/* A pool of threads. One pool a program, made in main and passed down. */
#ifndef KF_BASE_POOL_H
#define KF_BASE_POOL_H

#include <stddef.h>

#include "common/base/status.h"

typedef struct kf_pool kf_pool;

/* n threads in all, the caller's included; 0 means one a usable core. */
kf_status kf_pool_new(int n, kf_pool **out, kf_err *err) KF_MUST_CHECK;
void kf_pool_free(kf_pool *pool);     /* accepts NULL */
int kf_pool_size(const kf_pool *pool);
int kf_pool_cores(void);              /* cores that this process may use */

/* Call fn(arg, i, worker) for every i in [0, n), each once, over all threads;
 * worker is in [0, size). Items are handed out in order as threads come free.
 * Returns when all are done. Calls do not nest: from inside a task, or with a
 * NULL pool, the items run in the calling thread with worker 0 (the task's own
 * worker, when nested). */
typedef void (*kf_task)(void *arg, size_t i, int worker);
void kf_pool_run(kf_pool *pool, size_t n, kf_task fn, void *arg);

/* Split [0, n) into one contiguous part a thread, each a multiple of grain (the
 * last may be less), and run fn(arg, begin, end, worker) on each. */
typedef void (*kf_range_task)(void *arg, size_t begin, size_t end, int worker);
void kf_pool_split(kf_pool *pool, size_t n, size_t grain, kf_range_task fn, void *arg);

#endif
