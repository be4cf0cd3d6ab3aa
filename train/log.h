/* The run's log: a JSON object a line (docs/training.md). A checkpoint says how far it went, so that a run that goes on takes away what was
 * written after it, and of which file that is: --log may be another in between. */
#ifndef KF_TRAIN_LOG_H
#define KF_TRAIN_LOG_H

#include <jansson.h>
#include <stdio.h>

#include "common/base/file.h"
#include "common/base/hash.h"

typedef struct {
	FILE *f;                   /* NULL: not open */
	char path[KF_PATH_MAX];
	char name[KF_FP_HEX];      /* which file it is: the fingerprint of its real path, in OUT from there, since OUT may move */
	/* What the checkpoint says that the run goes on from, and the next one will. */
	char was[KF_FP_HEX];       /* name; "": not said */
	int64_t bytes;
} kf_train_log;

/* Whether it can be written: to be asked before anything is taken away for a new run. */
kf_status kf_train_log_check(const kf_train_log *l, kf_err *err) KF_MUST_CHECK;
/* Open it, anew or, going on, where the checkpoint found it; another file than that at its end, on a line of its own. */
kf_status kf_train_log_open(kf_train_log *l, const char *out, bool going_on, kf_err *err) KF_MUST_CHECK;
/* Write a record. */
kf_status kf_train_log_put(kf_train_log *l, const json_t *record, kf_err *err) KF_MUST_CHECK;
/* Put it on the disk, and see how far it goes. */
kf_status kf_train_log_sync(kf_train_log *l, kf_err *err) KF_MUST_CHECK;
void kf_train_log_close(kf_train_log *l);

#endif
