/* Signals that ask a run to end, each in a child of its own. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "common/base/stop.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const int signals[] = { SIGTERM, SIGINT, SIGHUP };
enum { N_SIGNALS = sizeof signals / sizeof *signals };

static void nap(long microseconds)
{
	nanosleep(&(struct timespec){ .tv_nsec = microseconds * 1000 }, NULL);
}

/* A child that has what a shell gives it, armed, does body with the write end of a pipe. */
static pid_t child(void (*body)(int ready), int *ready)
{
	int ends[2];
	pid_t pid;

	assert_int_equal(pipe(ends), 0);
	fflush(NULL);
	if ((pid = fork()) == 0) {
		for (int i = 0; i < N_SIGNALS; i++) signal(signals[i], SIG_DFL);
		alarm(60);
		body(ends[1]);
		_exit(99);
	}
	assert_true(pid > 0);
	close(ends[1]);
	*ready = ends[0];
	return pid;
}

/* Until the child has written a byte, or ended. */
static void wait_ready(int ready)
{
	char c;

	assert_true(read(ready, &c, 1) >= 0);
}

static int ended(pid_t pid, int ready)
{
	int status;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	close(ready);
	return status;
}

/* Ended by sig. */
static void ended_by(pid_t pid, int ready, int sig)
{
	const int status = ended(pid, ready);

	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), sig);
}

/* Not ended by what it was sent. */
static void goes_on(pid_t pid)
{
	int status;

	nap(50000);
	assert_int_equal(waitpid(pid, &status, WNOHANG), 0);
}

static void say(int ready)
{
	if (write(ready, "", 1) != 1) _exit(98);
}

static void until_stopped(int ready)
{
	kf_err err;

	kf_stop_arm();
	if (kf_stop_check(&err) != KF_OK) _exit(1);
	say(ready);
	while (kf_stop_check(&err) == KF_OK) nap(100);
	if (!strstr(err.text, "stopped by SIG")) _exit(2);
	kf_stop_raise();
	_exit(3);
}

static void test_ends_as_the_signal_would(void **state)
{
	(void)state;
	for (int i = 0; i < N_SIGNALS; i++) {
		int ready;
		const pid_t pid = child(until_stopped, &ready);

		wait_ready(ready);
		kill(pid, signals[i]);
		ended_by(pid, ready, signals[i]);
	}
}

static void until_ended(int ready)
{
	kf_err err;

	kf_stop_arm();
	say(ready);
	while (kf_stop_check(&err) == KF_OK) nap(100);
	say(ready);
	for (;;) nap(100000);
}

static void test_a_second_one_ends_at_once(void **state)
{
	int ready;
	const pid_t pid = child(until_ended, &ready);

	(void)state;
	wait_ready(ready);
	kill(pid, SIGINT);
	wait_ready(ready);
	kill(pid, SIGTERM);   /* the first of its kind */
	goes_on(pid);
	kill(pid, SIGINT);
	ended_by(pid, ready, SIGINT);
}

static void with_hangups_ignored(int ready)
{
	signal(SIGHUP, SIG_IGN);
	until_stopped(ready);
}

static void test_what_is_ignored_stays_so(void **state)
{
	int ready;
	const pid_t pid = child(with_hangups_ignored, &ready);

	(void)state;
	wait_ready(ready);
	kill(pid, SIGHUP);
	goes_on(pid);
	kill(pid, SIGTERM);
	ended_by(pid, ready, SIGTERM);
}

/* How many of the signals would find this thread. */
static void *open_here(void *unused)
{
	sigset_t blocked;
	intptr_t n = 0;

	(void)unused;
	pthread_sigmask(SIG_BLOCK, NULL, &blocked);
	for (int i = 0; i < N_SIGNALS; i++) n += !sigismember(&blocked, signals[i]);
	return (void *)n;
}

static void look_who_is_interrupted(int ready)
{
	pthread_t other;
	void *n;

	(void)ready;
	if (open_here(NULL) != (void *)(intptr_t)N_SIGNALS) _exit(1);
	kf_stop_arm();
	if (open_here(NULL)) _exit(2);
	if (pthread_create(&other, NULL, open_here, NULL) != 0 || pthread_join(other, &n) != 0) _exit(3);
	_exit(n ? 4 : 0);
}

/* Generated code may have memory for a stack that has no room for a signal's frame (stop.c). */
static void test_no_thread_of_the_run_is_interrupted(void **state)
{
	int ready;
	const pid_t pid = child(look_who_is_interrupted, &ready);

	(void)state;
	assert_int_equal(ended(pid, ready), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ends_as_the_signal_would),
		cmocka_unit_test(test_a_second_one_ends_at_once),
		cmocka_unit_test(test_what_is_ignored_stays_so),
		cmocka_unit_test(test_no_thread_of_the_run_is_interrupted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
