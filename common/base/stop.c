#include "common/base/stop.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>

/* The one piece of global state: a signal has no other way to reach a run. */
static atomic_int caught;
static sigset_t taken;

/* In this thread. */
static void unblock(int sig)
{
	sigset_t one;

	sigemptyset(&one);
	sigaddset(&one, sig);
	pthread_sigmask(SIG_UNBLOCK, &one, NULL);
}

/* Takes what is blocked in every other thread, the first of each kind; from then on this thread lets that kind end the program. */
static void *watch(void *unused)
{
	sigset_t left = taken;
	int sig;

	(void)unused;
	while (sigwait(&left, &sig) == 0) {
		atomic_store(&caught, sig);
		sigdelset(&left, sig);
		unblock(sig);
	}
	return NULL;
}

/* A thread that waits, and no handler, since a handler's frame goes onto the stack of whoever is interrupted, and the code that
 * oneDNN generates may be running with a stack of its own: in sgemm of 2.6 that is memory from malloc(), whose beginning may be
 * nearer than the three kilobytes of a frame with AVX-512's registers, which then overwrites what lies before it. */
void kf_stop_arm(void)
{
	static const int signals[] = { SIGTERM, SIGINT, SIGHUP };
	pthread_t thread;
	sigset_t before;

	sigemptyset(&taken);
	for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) {
		struct sigaction was;

		if (sigaction(signals[i], NULL, &was) == 0 && was.sa_handler != SIG_IGN) sigaddset(&taken, signals[i]);
	}
	pthread_sigmask(SIG_BLOCK, &taken, &before);
	if (pthread_create(&thread, NULL, watch, NULL) == 0) pthread_detach(thread);
	else pthread_sigmask(SIG_SETMASK, &before, NULL); /* then they end the program at once, which loses no more than a kill does */
}

kf_status kf_stop_check(kf_err *err)
{
	const int sig = atomic_load(&caught);

	if (!sig) return KF_OK;
	return kf_fail(err, KF_ESTOPPED, "stopped by SIG%s; the same command goes on from what is finished", sigabbrev_np(sig));
}

void kf_stop_raise(void)
{
	const int sig = atomic_load(&caught);

	if (!sig) return;
	unblock(sig);
	raise(sig);
}
