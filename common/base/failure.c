#include "common/base/failure.h"

void kf_failure_note(kf_failure *f, int item, kf_status rc, const kf_err *err)
{
	pthread_mutex_lock(&f->lock);
	if (f->rc == KF_OK || item < f->item) {
		f->rc = rc;
		f->item = item;
		f->err = *err;
	}
	pthread_mutex_unlock(&f->lock);
}

bool kf_failure_seen(kf_failure *f)
{
	bool seen;

	pthread_mutex_lock(&f->lock);
	seen = f->rc != KF_OK;
	pthread_mutex_unlock(&f->lock);
	return seen;
}
