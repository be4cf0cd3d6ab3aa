/* Work behind the caller's back: one thing at a time, in a thread of its own, while the caller goes on. */
#ifndef KF_BASE_BEHIND_H
#define KF_BASE_BEHIND_H

#include "common/base/status.h"

typedef struct kf_behind kf_behind;

typedef kf_status (*kf_behind_fn)(void *arg, kf_err *err);

kf_status kf_behind_new(kf_behind **out, kf_err *err) KF_MUST_CHECK;
/* Wait for what was given before; if that went well, begin with fn(arg, err), whose arg must live until the next call.
 * Returns what came of the former; after a failure nothing more is begun. */
kf_status kf_behind_do(kf_behind *b, kf_behind_fn fn, void *arg, kf_err *err) KF_MUST_CHECK;
/* Wait for what was given last, and return what came of all. */
kf_status kf_behind_wait(kf_behind *b, kf_err *err) KF_MUST_CHECK;
void kf_behind_free(kf_behind *b);   /* waits; accepts NULL */

#endif
