/* A run that is asked to end: SIGTERM, SIGINT or SIGHUP, as a scheduler or Ctrl-C sends it. The programs that keep what
 * they finished look here between two pieces of work, put what is unfinished away and end. */
#ifndef KF_BASE_STOP_H
#define KF_BASE_STOP_H

#include "common/base/status.h"

/* Take the signals from now on: before any other thread is started, as they are blocked in all but one of its own. A second one
 * of a kind ends the program at once. Signals that are ignored stay so. */
void kf_stop_arm(void);

/* KF_OK, or KF_ESTOPPED once one has come. Any thread. */
kf_status kf_stop_check(kf_err *err) KF_MUST_CHECK;

/* End as the signal would have ended the program, so that shells and make see it; returns when none came. */
void kf_stop_raise(void);

#endif
