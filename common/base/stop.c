#include "common/base/stop.h"

#include <signal.h>
#include <string.h>

/* The one piece of global state: a signal has no other way to reach a run. */
static volatile sig_atomic_t caught;

static void on_signal(int sig)
{
	caught = sig;
}

void kf_stop_arm(void)
{
	static const int signals[] = { SIGTERM, SIGINT, SIGHUP };

	for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) {
		struct sigaction was, act = { .sa_handler = on_signal, .sa_flags = SA_RESTART | (int)SA_RESETHAND };

		sigemptyset(&act.sa_mask);
		if (sigaction(signals[i], NULL, &was) == 0 && was.sa_handler != SIG_IGN) sigaction(signals[i], &act, NULL);
	}
}

kf_status kf_stop_check(kf_err *err)
{
	if (!caught) return KF_OK;
	return kf_fail(err, KF_ESTOPPED, "stopped by SIG%s; the same command goes on from what is finished",
		sigabbrev_np(caught));
}

void kf_stop_raise(void)
{
	if (!caught) return;
	signal(caught, SIG_DFL);
	raise(caught);
}
